//! Our OCI runtime: from a [`ContainerSpec`] to a running process, by one `clone3`.
//!
//! Knows nothing of Compose, images or networks: layers, paths and the pinned network namespace are handed in.

//! The road: [`launch::Launch::prepare`] opens and allocates everything, [`start`] clones a child that waits, the caller
//! writes down who it is while the child sets itself up (`child.rs`), and calls [`Started::release`]: it runs the program.
//! [`Started::outcome`] says how that went. [`exec::Exec`] is the same for a further process.

pub mod caps;
pub mod cgroup;
mod child;
pub mod controllers;
pub mod devices;
pub mod exec;
pub mod init;
pub mod launch;
pub mod nodes;
pub mod processes;
mod relimit;
pub mod resources;
pub mod rlimits;
pub mod seccomp;
pub mod spec;
pub mod sysctls;
pub mod terminal;
pub mod usage;
pub mod user;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

pub use child::Stage;
use launch::Launch;
use nodes::DeviceSpec;
use resources::Resources;
use rlimits::Ulimit;

use crate::name::ContainerId;
use crate::sys::process::{self, Child};

/// Docker's `PATH` for a container whose image has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A child that was cloned and waits for its release.
#[derive(Debug)]
pub struct Started {
    /// Its number in the host's pid namespace.
    pub pid: i32,
    /// Its handle.
    pub pidfd: OwnedFd,
    report: OwnedFd,
    go: Option<OwnedFd>,
}

/// How a start went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The program runs.
    Running,
    /// It does not, and the child has ended or is about to.
    Failed(StartError),
}

/// Why a program was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", words(*.stage, *.errno))]
pub struct StartError {
    /// Where the child had got to.
    pub stage: Stage,
    /// Which mount, when the stage is about one.
    pub detail: u16,
    /// What the kernel said.
    pub errno: Errno,
}

impl StartError {
    /// Returns the exit code that Docker gives for it: 127 for a missing program, 126 for one that cannot be run, 128
    /// for anything before.
    #[must_use]
    pub fn code(&self) -> i32 {
        match (self.stage, self.errno) {
            (Stage::Exec, Errno::NOENT | Errno::NOTDIR) => 127,
            (Stage::Exec, _) => 126,
            _ => 128,
        }
    }
}

fn words(stage: Stage, errno: Errno) -> String {
    let what = match stage {
        Stage::Release => "the supervisor went away before the start",
        Stage::Namespaces => "cannot enter the namespaces",
        Stage::Root => "cannot attach the root file system",
        Stage::Mount => "cannot mount",
        Stage::MountOnProc => return "a mount target leads into /proc, which belongs to the kernel".to_owned(),
        Stage::Console if errno == Errno::LOOP => {
            return "the container's /dev/console is a symbolic link, which could lead anywhere".to_owned();
        }
        Stage::Console => "cannot make the container's /dev/console its terminal",
        Stage::Devices => "cannot make the devices in /dev (is the image's /dev a symbolic link?)",
        Stage::PivotRoot => "cannot change the root",
        Stage::Hostname => "cannot set the host name",
        Stage::Masks => "cannot mask the kernel's files",
        Stage::Stdio => "cannot set up standard input and output",
        Stage::Limits => "cannot set the resource limits",
        Stage::WorkingDirectory if errno == Errno::XDEV => {
            return "the working directory is outside of the container".to_owned();
        }
        Stage::WorkingDirectory => "cannot enter the working directory",
        Stage::Seccomp => "cannot load the seccomp policy",
        Stage::Identity => "cannot become the user",
        Stage::Exec if matches!(errno, Errno::NOENT | Errno::NOTDIR) => {
            return "the command is not in the image: executable file not found in $PATH".to_owned();
        }
        Stage::Exec if errno == Errno::ACCESS => return "the command cannot be run: permission denied".to_owned(),
        Stage::Exec => "the command cannot be run",
        Stage::Sysctl if errno == Errno::NOENT => return "this kernel has no such parameter".to_owned(),
        Stage::Sysctl => "cannot set a kernel parameter",
        Stage::Node => "cannot make a device node",
    };
    format!("{what}: {}", io::Error::from(errno))
}

impl Started {
    fn new(child: Child, report: OwnedFd, go: OwnedFd) -> Self {
        Self { pid: child.pid, pidfd: child.pidfd, report, go: Some(go) }
    }

    /// Lets the child make its container around itself: it is in all of its cgroups now, which its cgroup namespace is
    /// going to hide what is above of.
    ///
    /// # Errors
    /// When the child has ended already.
    pub fn settle(&self) -> io::Result<()> {
        self.go.as_ref().map_or(Ok(()), say)
    }

    /// Lets the child run its program.
    ///
    /// # Errors
    /// When the child has ended already.
    pub fn release(&mut self) -> io::Result<()> {
        match self.go.take() {
            Some(go) => say(&go),
            None => Ok(()),
        }
    }

    /// Returns the outcome; waits for it when [`Started::as_fd`] is not readable yet.
    ///
    /// # Errors
    /// When the report cannot be read.
    pub fn outcome(&self) -> io::Result<Outcome> {
        let mut message = [0_u8; 7];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.report, &mut message))?;
        if read == 0 {
            return Ok(Outcome::Running); // the exec closed the other end
        }
        let [stage, d0, d1, errno @ ..] = message;
        let stage = Stage::ALL.get(usize::from(stage).wrapping_sub(1)).copied();
        let (Some(stage), 7) = (stage, read) else {
            return Err(io::Error::other("the child's report is damaged"));
        };
        let errno = Errno::from_raw_os_error(i32::from_le_bytes(errno));
        Ok(Outcome::Failed(StartError { stage, detail: u16::from_le_bytes([d0, d1]), errno }))
    }
}

fn say(go: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::write(go, &[1]).map(drop)?)
}

impl AsFd for Started {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Clones a container's first process into `cgroup`; it waits for [`Started::settle`], makes its container, and waits for
/// [`Started::release`]. Its parent is ours
/// (`CLONE_PARENT`), so that it survives us.
///
/// # Errors
/// What clone3(2) says.
pub fn start(launch: &Launch, cgroup: BorrowedFd<'_>) -> io::Result<Started> {
    let (report_read, report_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if launch.netns.is_none() && !launch.host_network {
        namespaces |= libc::CLONE_NEWNET;
    }
    let flags = process::CLONE_CLEAR_SIGHAND | u64::from((namespaces | libc::CLONE_PARENT).cast_unsigned());
    let child = process::clone_child(flags, Some(cgroup), || {
        child::child(launch, go_read.as_fd(), go_write.as_fd(), report_write.as_fd())
    })?;
    Ok(Started::new(child, report_read, go_write))
}

/// A container that is wanted: the image's configuration is folded in, every choice is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its id.
    pub id: ContainerId,
    /// Host name inside.
    pub hostname: String,
    /// The root file system.
    pub rootfs: RootfsSpec,
    /// The first process.
    pub process: ProcessSpec,
    /// Run the process below a tiny init.
    pub init: bool,
    /// Volumes, binds, tmpfs and the generated files of `/etc`, in any order.
    pub mounts: Vec<MountSpec>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// The pinned network namespace to join; `None` is a new one with nothing but `lo`.
    pub netns: Option<PathBuf>,
    /// Stay in the network namespace of whoever starts it, without a pinned one; its kernel parameters are left alone.
    #[serde(default)]
    pub host_network: bool,
    /// The cgroup, relative to each hierarchy's root, such as `hoist-ab12/shop/0123456789ab`.
    pub cgroup: String,
    /// What its processes may use.
    #[serde(default)]
    pub resources: Resources,
    /// How readily the kernel kills its processes when memory runs out, -1000 to 1000; `None` is as ours.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// Kernel parameters of its own namespaces, such as `net.core.somaxconn`.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Devices of the host that it may use.
    #[serde(default)]
    pub devices: Vec<DeviceSpec>,
    /// Leave the kernel's files unmasked and writable.
    #[serde(default)]
    pub unmasked: bool,
    /// As [`Self::unmasked`], with all of the host's devices and a writable `/sys`. Capabilities and seccomp are the
    /// process's own.
    #[serde(default)]
    pub privileged: bool,
}

/// Layers and the writable directory of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsSpec {
    /// Directories of the layers, the image's base first.
    pub layers: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// The overlay's work directory, on the same file system as `upper`.
    pub work: PathBuf,
    /// Mount the root read-only.
    pub read_only: bool,
}

/// The writable half of an overlay: two directories on the same file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpperSpec {
    /// Takes what is written.
    pub upper: PathBuf,
    /// The kernel's own.
    pub work: PathBuf,
}

/// A process to run in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub argv: Vec<String>,
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// A file with more of it, a NUL behind each: what is not to be written down with the rest. It is read at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
    /// Working directory, made if it is missing.
    pub cwd: String,
    /// `USER` as written: empty, `uid`, `name`, `uid:gid`, `name:group`.
    pub user: String,
    /// Names of the capabilities in the bounding, permitted and effective sets, such as `CAP_CHOWN`.
    pub capabilities: Vec<String>,
    /// Groups besides those of the user: names of the image's, or numbers.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Limits of the process; those that are not named are ours.
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    /// Nothing that it runs may gain privileges.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Its standard streams are a terminal; `TERM` is `xterm` unless it is set.
    #[serde(default)]
    pub terminal: bool,
}

/// Which system calls a process may make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// Those of Docker's policy.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// Those that a program lets through: code, two jumps and operand of each instruction (`struct sock_filter`).
    Program(Vec<(u16, u8, u8, u32)>),
}

impl Seccomp {
    /// Compiles a profile in Docker's JSON format for a container with these capabilities in its bounding set.
    ///
    /// # Errors
    /// When it is no profile, or asks for what there is not.
    pub fn of_profile(text: &str, capabilities: &[String]) -> Result<Self, seccomp::profile::Error> {
        let caps = caps::CapSet::from_names(capabilities).unwrap_or_default();
        let program = seccomp::profile::program(text, caps, seccomp::kernel_version())?;
        Ok(Self::Program(program.into_iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()))
    }
}

/// One thing to mount in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only, recursively.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// A file or directory of the host.
    Bind(PathBuf),
    /// Directories on top of each other, or what is at a path in them.
    Layers {
        /// The directories, base first.
        layers: Vec<PathBuf>,
        /// The path, without a slash at its beginning, which cannot lead out of them; empty is all.
        path: Vec<u8>,
        /// Takes what is written; without it nothing can be.
        upper: Option<UpperSpec>,
    },
    /// A fresh tmpfs.
    Tmpfs {
        /// Bytes, if bounded.
        size: Option<u64>,
        /// Mode of its root.
        mode: Option<u32>,
        /// Further options, such as `exec` or `uid=1000`; they win over Docker's `nosuid`, `nodev` and `noexec`.
        #[serde(default)]
        options: Vec<String>,
    },
}
