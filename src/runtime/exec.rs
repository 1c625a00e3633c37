//! A further process in a running container.
//!
//! The process is cloned straight into the container's pid namespace and cgroup: the caller, which has one thread, sets
//! the pid namespace for its children, clones, and sets its own again, so that no middle process is needed and the
//! supervisor's holder is the parent (`CLONE_PARENT`). The child joins the other namespaces by the container's pidfd in
//! one call, then takes on its identity as a container's first process does, with the same capabilities and seccomp.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::child::{self, Failure, Stage};
use super::launch::{self, Error, Host, Identity, Stdio};
use super::terminal::{self, Size};
use super::{ProcessSpec, Started, spec};
use crate::name::ContainerId;
use crate::sys::process;

/// The namespaces that an exec joins besides the pid namespace.
const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

/// Exit code of a process that was never released, because whoever cloned it went away: its program has not begun.
pub const NOT_BEGUN: i32 = 125;

/// What a process is run on.
#[derive(Debug)]
pub enum Streams {
    /// These streams.
    Given(Stdio),
    /// A new terminal of this size.
    Terminal(Size),
}

/// An exec that is ready to be cloned.
#[derive(Debug)]
pub struct Exec {
    identity: Identity,
    keyring: CString,
    stdio: Stdio,
    terminal: Option<OwnedFd>,
}

impl Exec {
    /// Prepares a process in container `id`, whose first process is `pid`; the caller has verified it by its pidfd.
    /// `privileged` gives it every capability that we have; the container's seccomp policy stays, as with Docker.
    ///
    /// # Errors
    /// When the user is not in the container, the process is gone, or no terminal can be made.
    pub fn prepare(
        id: &ContainerId,
        process: &ProcessSpec,
        pid: i32,
        streams: Streams,
        privileged: bool,
        host: &Host,
    ) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).map_err(|e| Error::Rootfs(e.into()))?;
        let user = launch::resolve_user(root.as_fd(), process)?;
        let oci = spec::process(process, &user)?;
        let mut identity = launch::identity_of(&oci, process, host)?;
        if privileged {
            identity.capabilities = host.available.0;
        }
        let (stdio, terminal) = match streams {
            Streams::Given(stdio) => (stdio, None),
            Streams::Terminal(size) => {
                let pair = terminal::in_root(root.as_fd()).map_err(Error::Terminal)?;
                terminal::set_size(pair.master.as_fd(), size).map_err(Error::Terminal)?;
                (pair.stdio().map_err(Error::Terminal)?, Some(pair.master))
            }
        };
        stdio.give_to(identity.uid).map_err(Error::Prepare)?;
        Ok(Self { identity, keyring: launch::keyring(id)?, stdio, terminal })
    }

    /// Takes our side of its terminal, if it has one.
    #[must_use]
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Clones the process; it waits for [`Started::release`].
    ///
    /// # Errors
    /// What clone3(2) or setns(2) says.
    pub fn start(self, container: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> io::Result<Started> {
        let own = File::open("/proc/self/ns/pid")?;
        let (report_read, report_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (go_read, go_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        process::join_namespaces(container, libc::CLONE_NEWPID)?;
        let flags = process::CLONE_CLEAR_SIGHAND | libc::CLONE_PARENT as u64;
        let child = process::clone_child(flags, Some(cgroup), || {
            let go = go_read.as_fd();
            process::close_copy(go_write.as_fd());
            let failure = match run(&self, container, go, report_write.as_fd()) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            if failure.stage == Stage::Release {
                process::exit_now(NOT_BEGUN); // whoever would read the report is gone
            }
            child::report_and_exit(report_write.as_fd(), failure)
        });
        process::join_namespaces(own.as_fd(), libc::CLONE_NEWPID)?;
        Ok(Started::new(child?, report_read, go_write))
    }
}

fn run(
    exec: &Exec,
    container: BorrowedFd<'_>,
    go: BorrowedFd<'_>,
    report: BorrowedFd<'_>,
) -> Result<Infallible, Failure> {
    let at = |stage: Stage, e: &io::Error| Failure {
        stage,
        detail: 0,
        errno: rustix::io::Errno::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO)),
    };
    child::wait(go)?;
    process::set_not_dumpable();
    // The container's processes see this one from now on, and some may look into its descriptors.
    let [stdin, stdout, stderr] = [&exec.stdio.stdin, &exec.stdio.stdout, &exec.stdio.stderr]
        .map(|fd| fd.as_ref().map_or(report, OwnedFd::as_fd));
    process::close_copies_but(&[container, report, stdin, stdout, stderr]).map_err(|e| at(Stage::Stdio, &e))?;
    rustix::process::setsid().map_err(|errno| Failure { stage: Stage::Namespaces, detail: 0, errno })?;
    process::join_namespaces(container, NAMESPACES).map_err(|e| at(Stage::Namespaces, &e))?;
    process::join_session_keyring(&exec.keyring);
    child::put_stdio(&exec.stdio)?;
    child::become_and_exec(&exec.identity, None, report)
}
