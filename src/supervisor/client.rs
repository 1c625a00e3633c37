//! The engine's side of the control socket: start a supervisor, connect to it, talk to it.
//!
//! Nothing here waits for an answer: [`Connection`] is polled by whoever owns it, so that one thread can talk to many
//! supervisors at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::channel::{Framed, Received};
use super::holder::{CONTROL_FD, PROGRAM_FD};
use super::protocol::{FromWorker, Reply, Request, ToWorker, VERSION};
use crate::fault;
use crate::name::{ProjectName, hex};
use crate::runtime::cgroup::Hierarchy;
use crate::state::{self, State};
use crate::sys::mount::{Attributes, set_attributes_of};
use crate::sys::process::{self, CStrings};

/// How long [`settle`] waits.
const SETTLE: Duration = Duration::from_secs(3);

/// Why a supervisor could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its processes could not be started.
    #[error("cannot start the supervisor of project `{project}`")]
    Start {
        /// The project.
        project: ProjectName,
        /// Why.
        source: io::Error,
    },
    /// Its socket could not be made or reached.
    #[error("cannot use the control socket `{}`", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its directory could not be made.
    #[error(transparent)]
    State(#[from] state::Error),
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Connection {
    frames: Framed,
    next: u64,
}

impl Connection {
    /// Sends a request with the descriptors that belong to it; returns the id that its replies bear.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<u64> {
        let id = self.next;
        self.next += 1;
        let frame = ToWorker { version: VERSION, id, request: request.clone() };
        self.frames.send_with(&frame, fds)?;
        Ok(id)
    }

    /// Returns the next reply that has arrived.
    ///
    /// # Errors
    /// When the supervisor said something impossible.
    pub fn receive(&mut self) -> io::Result<Received<FromWorker>> {
        self.frames.receive()
    }

    /// Waits until something has arrived, at most `timeout`.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn wait(&self, timeout: Option<std::time::Duration>) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(&self.frames, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.frames.as_fd()
    }
}

/// Connects to a project's supervisor, if one is there.
///
/// # Errors
/// When the socket is there and cannot be used.
pub fn connect(state: &State, project: &ProjectName) -> Result<Option<Connection>, Error> {
    let path = state.paths().control_socket(project);
    match connect_to(&path) {
        Ok(socket) => Ok(Some(Connection { frames: Framed::new(socket), next: 1 })),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(source) => Err(Error::Socket { path, source }),
    }
}

/// Waits until a project's supervisor, if one is there, has done all that commands before us have asked it for: one that
/// was killed may have left requests behind, and what is observed before they are obeyed is not what is there after.
/// A supervisor that says nothing for some seconds is not waited for any longer.
///
/// # Errors
/// When the socket is there and cannot be used.
pub fn settle(state: &State, project: &ProjectName) -> Result<(), Error> {
    let deadline = Instant::now() + SETTLE;
    let unusable = |source| Error::Socket { path: state.paths().control_socket(project), source };
    while let Some(mut connection) = connect(state, project)? {
        let Ok(id) = connection.send(&Request::Subscribe, &[]) else { continue }; // the worker has just died
        loop {
            match connection.receive() {
                Ok(Received::Message(message, _)) if message.id == id && matches!(message.reply, Reply::Synced) => {
                    return Ok(());
                }
                Ok(Received::Message(..)) => {}
                Ok(Received::Empty) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        tracing::warn!("the supervisor of project `{project}` does not answer");
                        return Ok(());
                    }
                    connection.wait(Some(left)).map_err(unusable)?;
                }
                Ok(Received::Closed) | Err(_) => break, // the next worker obeys what is asked anew, and nothing else
            }
        }
        if Instant::now() > deadline {
            break;
        }
    }
    Ok(())
}

/// Connects to a project's supervisor; starts one first if there is none. Two at once are kept apart by a lock.
///
/// # Errors
/// When it cannot be started or reached.
pub fn connect_or_start(state: &State, project: &ProjectName) -> Result<Connection, Error> {
    if let Some(connection) = connect(state, project)? {
        return Ok(connection);
    }
    let directory = state.paths().run_project(project);
    state::make_dir(&state.paths().run_containers(project))?;
    let _lock = state::Lock::wait(&directory.join("supervisor.lock"))?;
    if let Some(connection) = connect(state, project)? {
        return Ok(connection);
    }
    start(state, project).map_err(|source| Error::Start { project: project.clone(), source })
}

/// Returns whether a process is one of a supervisor of that project, the one that serves it or another that leaves.
#[must_use]
pub fn is_supervisor(state: &State, project: &ProjectName, pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(); // it may have ended
    let mut words = line.split(|b| *b == 0).skip(1);
    let (root, run) = (state.paths().root().as_os_str(), state.paths().run().as_os_str());
    words.next() == Some(super::COMMAND.as_bytes())
        && words.next().is_some_and(|role| matches!(role, b"holder" | b"worker"))
        && words.next() == Some(root.as_encoded_bytes())
        && words.next() == Some(run.as_encoded_bytes())
        && words.next() == Some(project.as_str().as_bytes())
}

/// Returns a relative name for a socket below a directory that is open, as socket addresses hold 107 bytes at most.
fn short_path(directory: &OwnedFd, name: &Path) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

fn open_parent(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = PathBuf::from(path.file_name().unwrap_or_default());
    Ok((directory, name))
}

fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let (directory, name) = open_parent(path)?;
    let address = SocketAddrUnix::new(short_path(&directory, &name))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// Makes the control socket that the holder will keep: bound beside its place, then renamed onto it.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
    let (directory, name) = open_parent(path)?;
    let temporary = path.with_file_name(format!("{}.tmp", name.display()));
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let temporary_name = PathBuf::from(temporary.file_name().unwrap_or_default());
    bind(&socket, &SocketAddrUnix::new(short_path(&directory, &temporary_name))?)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    listen(&socket, 128)?;
    std::fs::rename(&temporary, path)?;
    Ok(socket)
}

/// Starts a holder, detached from our session, terminal, working directory, environment and cgroup. We are connected before
/// it is there: a worker that nobody speaks to leaves after a moment, which may be shorter than the time until we run again.
///
/// It runs from a read-only clone of our program's mount that is attached nowhere, so that nothing that sees it as
/// `/proc/<pid>/exe` can open it for writing (CVE-2019-5736).
fn start(state: &State, project: &ProjectName) -> io::Result<Connection> {
    let paths = state.paths();
    let control = listen(&paths.control_socket(project))?;
    let socket = connect_to(&paths.control_socket(project))?;
    fault::point("supervisor.listening");
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(rustix::fs::CWD, "/proc/self/exe", flags)?;
    let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, propagation: libc::MS_PRIVATE, ..Attributes::default() };
    set_attributes_of(program.as_fd(), read_only)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let messages = paths.run_project(project).join("supervisor.log");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let messages = rustix::fs::open(messages, flags, Mode::from_raw_mode(0o600))?;
    let hierarchy = Hierarchy::find().map_err(io::Error::other)?;
    remove_old_cgroups(&hierarchy, state, project);
    let cgroup = hierarchy.create(&new_cgroup(state, project)).map_err(io::Error::other)?;
    fault::point("supervisor.cgroup");
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let words = ["hoist", super::COMMAND, "holder", &text(paths.root()), &text(paths.run()), project.as_str()];
    let argv = CStrings::new(words.iter().map(|w| CString::new(*w)).collect::<Result<_, _>>()?);
    let envp = super::environment()?;
    // The numbers 0 to 4 may be in use by what goes onto them, so everything is first moved out of the way.
    let [null, messages, control, program] =
        [null, messages, control, program].map(|fd| rustix::io::fcntl_dupfd_cloexec(&fd, 10));
    let (null, messages, control, program) = (null?, messages?, control?, program?);
    process::clone_child(process::CLONE_CLEAR_SIGHAND, Some(cgroup.as_fd()), || {
        process::reset_signals();
        let _ = rustix::process::setsid(); // it is no group leader, having just been made
        let _ = rustix::process::chdir(c"/");
        rustix::process::umask(Mode::from_raw_mode(0o077));
        let wanted = [(&null, 0), (&null, 1), (&messages, 2), (&control, CONTROL_FD), (&program, PROGRAM_FD)];
        if wanted.iter().all(|(fd, to)| process::duplicate_onto(fd.as_fd(), *to).is_ok())
            && process::close_on_exec_from(PROGRAM_FD.unsigned_abs() + 1).is_ok()
        {
            let _ = process::execve_fd(program.as_fd(), &argv, &envp);
        }
        process::exit_now(126)
    })?;
    fault::point("supervisor.cloned");
    Ok(Connection { frames: Framed::new(socket), next: 1 })
}

/// Returns a cgroup for a new supervisor of a project. Its name is new each time: an old one that is ending removes its
/// own, and must not remove this one before somebody is in it.
fn new_cgroup(state: &State, project: &ProjectName) -> String {
    let mut bytes = [0; 4];
    state::random(&mut bytes);
    format!("{}/{project}/{CGROUP_PREFIX}{}", state.engine().cgroup(), hex(&bytes))
}

/// How the names of supervisors' cgroups begin.
const CGROUP_PREFIX: &str = "supervisor-";

/// Removes what supervisors that were killed have left in the kernel.
///
/// # Errors
/// When it cannot be looked for.
pub fn remove_leftovers(state: &State, project: &ProjectName) -> Result<(), Error> {
    let _lock = state::Lock::wait(&state.paths().run_project(project).join("supervisor.lock"))?;
    let start = |e| Error::Start { project: project.clone(), source: io::Error::other(e) };
    remove_old_cgroups(&Hierarchy::find().map_err(start)?, state, project);
    Ok(())
}

/// Removes the cgroups of supervisors that were killed, and their parents as far as they are empty. Under the lock of
/// [`connect_or_start`] nobody is about to enter one, and one with a live process in it stays.
fn remove_old_cgroups(hierarchy: &Hierarchy, state: &State, project: &ProjectName) {
    let parent = format!("{}/{project}", state.engine().cgroup());
    let Ok(entries) = std::fs::read_dir(hierarchy.path().join(&parent)) else { return }; // there never was one
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if name.starts_with(CGROUP_PREFIX)
            && let Err(e) = hierarchy.remove(&format!("{parent}/{name}"))
        {
            tracing::debug!("{e}");
        }
    }
}
