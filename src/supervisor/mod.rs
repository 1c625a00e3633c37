//! Two small processes a project: the holder keeps what must not be lost, the worker does the work.
//!
//! All that clones goes through them. Both are this program, started again with a hidden command, with one thread and an
//! epoll each. What each may lose and what not is said in `holder` and `worker`.

pub mod channel;
pub mod client;
mod health;
mod holder;
mod identity;
mod logs;
mod moves;
pub mod protocol;
mod restart;
mod stop;
mod worker;

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::fault;
use crate::name::ProjectName;
use crate::network::firewall::choice;
use crate::paths::Paths;
use crate::state::State;
use crate::sys::process::CStrings;

pub use identity::{is_alive, root_of};

/// The hidden command that both processes are started with.
pub const COMMAND: &str = "__supervise";

/// Returns the environment of both processes: nothing, but for what the user has chosen of the host, and faults.
fn environment() -> io::Result<CStrings> {
    let chosen = choice::preference().map(|p| format!("{}={}", choice::VARIABLE, p.word()));
    Ok(CStrings::new(chosen.into_iter().chain(fault::pass_on()).map(CString::new).collect::<Result<_, _>>()?))
}

/// Runs as holder or worker; `arguments` are those after the hidden command: role, root, run, project, and for the worker
/// the inode of the control socket.
///
/// # Errors
/// When the arguments or the descriptors are not those that hoist starts it with, or the work cannot go on.
pub fn main(arguments: &[String]) -> io::Result<()> {
    let [role, root, run, project, more @ ..] = arguments else {
        return Err(io::Error::other("this command is started by hoist itself"));
    };
    let name = ProjectName::new(project.clone()).map_err(io::Error::other)?;
    let paths = Paths::new(PathBuf::from(root), PathBuf::from(run));
    match role.as_str() {
        "holder" => {
            // Now the socket at that place is the one that we were given; a later worker may find that of a later pair.
            let socket = std::fs::symlink_metadata(paths.control_socket(&name)).map_or(0, |m| m.ino()).to_string();
            let words = ["hoist", COMMAND, "worker", root, run, project, &socket];
            holder::run(words.map(String::from).to_vec())
        }
        "worker" => {
            let socket = more.first().and_then(|inode| inode.parse().ok()).unwrap_or(0);
            worker::run(State::open(paths).map_err(io::Error::other)?, name, socket)
        }
        other => Err(io::Error::other(format!("`{other}` is not a role of the supervisor"))),
    }
}
