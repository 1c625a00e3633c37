//! What a `RUN` instruction asks of whoever can run a container: the seam to the engine.
//!
//! A [`Job`] says all of it: the layers below, the program, its whole environment, what is mounted. The container has the
//! default security of any other. What it wrote is a directory ([`Ran::upper`]) that stays until it is given back with
//! [`Runner::forget`]; the layer is read from there. A build that is killed leaves a container that the next build, whoever
//! runs it, finds and removes.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::diag::Report;
use crate::image::diff::Upper;

/// A program to run on top of layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// Variables besides, that are written down nowhere but in memory.
    pub secrets: SecretVariables,
    /// `USER` as the image says it; empty is root.
    pub user: String,
    /// Absolute; made when it is missing.
    pub working_dir: String,
    /// Directories of the layers below, base first.
    pub layers: Vec<PathBuf>,
    /// What is mounted, in this order.
    pub mounts: Vec<JobMount>,
    /// What is around it.
    pub around: Surroundings,
}

/// What is around a program, and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Its network.
    pub network: JobNetwork,
    /// Lines of its `/etc/hosts`: name and address, `None` for the host's own.
    pub extra_hosts: Vec<(String, Option<IpAddr>)>,
    /// Bytes of its `/dev/shm`, if not Docker's 64 MiB.
    pub shm_size: Option<u64>,
    /// `ulimits`: name, soft and hard limit; -1 is none.
    pub ulimits: Vec<(String, i64, i64)>,
    /// Bytes of memory it may use.
    pub memory: Option<u64>,
    /// It has every capability and all devices.
    pub privileged: bool,
}

/// Variables as `NAME=value`, of which no message, log or record says anything.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretVariables(pub Vec<String>);

impl fmt::Debug for SecretVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} variables>", self.0.len())
    }
}

/// Which network a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JobNetwork {
    /// One of the build's own, with names and a way out.
    #[default]
    Default,
    /// Its own loopback alone.
    None,
    /// The host's.
    Host,
}

/// Something mounted for one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMount {
    /// What.
    pub source: JobSource,
    /// Absolute path in the container.
    pub target: String,
    /// It cannot be written to.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq)]
pub enum JobSource {
    /// A file or directory of the host.
    Path(PathBuf),
    /// Directories on top of each other, base first, and a path in them that cannot lead out; what is written there is
    /// thrown away with the container.
    Layers {
        /// The directories.
        layers: Vec<PathBuf>,
        /// Path in them, without a slash at its ends; empty is all.
        path: Vec<u8>,
    },
    /// A fresh tmpfs.
    Tmpfs {
        /// Bytes, if bounded.
        size: Option<u64>,
    },
    /// A file in memory.
    Secret {
        /// What is in it.
        content: Vec<u8>,
        /// Permissions.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl fmt::Debug for JobSource {
    /// Says nothing of a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Layers { layers, path } => {
                f.debug_struct("Layers").field("layers", layers).field("path", path).finish()
            }
            Self::Tmpfs { size } => f.debug_struct("Tmpfs").field("size", size).finish(),
            Self::Secret { .. } => f.write_str("Secret"),
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ran<C> {
    /// Its exit code; a signal that killed it is 128 and more.
    pub code: i32,
    /// What it wrote, and where something was mounted.
    pub upper: Upper,
    /// Its container, to be given back.
    pub container: C,
}

/// Who runs programs for a build.
pub trait Runner {
    /// What stands for a container.
    type Container;

    /// Runs a program to its end. All that it says on standard output and error goes to `output`, and nothing more comes
    /// when this returns. Several may run at once. Who drops the future ends the program; what is left of it goes with
    /// [`Runner::finish`].
    ///
    /// A program that cannot be run has the exit code of a shell, 126 or 127, and `output` says why.
    ///
    /// # Errors
    /// When the program could not be started, or nobody knows how it ended; then nothing is left of it.
    fn run(&self, job: &Job, output: OwnedFd) -> impl Future<Output = Result<Ran<Self::Container>, Report>>;

    /// Returns the program that the user wants to look around with where a step has failed; `""` is `/bin/sh`, and
    /// `None` that nobody wants to.
    fn debug_shell(&self) -> Option<&str> {
        None
    }

    /// Runs a program in front of the user, with what he types, until it ends. Nothing that it writes is kept.
    ///
    /// # Errors
    /// When it could not be started.
    fn look_around(&self, job: &Job) -> impl Future<Output = Result<(), Report>> {
        let _ = job;
        std::future::ready(Ok(()))
    }

    /// Removes a container with what it wrote.
    ///
    /// # Errors
    /// When that is not possible; the next build tries again.
    fn forget(&self, container: Self::Container) -> impl Future<Output = Result<(), Report>>;

    /// Ends the work, however it went: what all programs of the build shared, such as their network, goes, and so does what
    /// killed builds have left.
    ///
    /// # Errors
    /// When that is not possible; the next build tries again.
    fn finish(&self) -> impl Future<Output = Result<(), Report>>;
}
