//! OCI specification → [`Launch`]: everything that the child needs, allocated and opened before the clone.
//!
//! The plan, after crun's and runc's sequences (the order's reasons are in `child.rs`):
//! 1. the overlay is made detached; `/etc/passwd` and `/etc/group` are read inside it by descriptor;
//! 2. bind sources become detached clones with their attributes already set, so that there is no moment in which a
//!    read-only bind is writable and no path of the host is needed after the clone;
//! 3. every path, argument and option becomes a C string; file systems that belong to the child's own namespaces
//!    (proc, sysfs, mqueue, devpts, tmpfs, cgroup2) are left as recipes;
//! 4. the seccomp program is compiled.
//!
//! This module reads the host; it changes nothing but detached mounts, which vanish with their descriptors.

use std::cell::RefCell;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::{Gid, Resource, Rlimit, Uid};

use super::caps::CapSet;
use super::devices::{self, Kind, Rule};
use super::nodes::{self, Node};
use super::resources::cpu_list;
use super::seccomp::{self, Program};
use super::terminal::Pair;
use super::user::{self, User};
use super::{
    ContainerSpec, MountSource, MountSpec, ProcessSpec, Seccomp, Stage, StartError, UpperSpec, init, rlimits, spec,
    sysctls, terminal,
};
use crate::name::ContainerId;
use crate::sys::mount::{self, Attributes, Upper};
use crate::sys::process::CStrings;
use crate::sys::seccomp::Instruction;

/// More than any image's passwd file, less than what hurts (CVE-2026-47262).
const USER_FILE_LIMIT: u64 = 4 << 20;
/// Docker's `nofile`; clamped to what this process may set.
const NOFILE: u64 = 1_048_576;

/// Why a container cannot be launched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root file system could not be mounted.
    #[error("cannot mount the root file system")]
    Rootfs(#[source] io::Error),
    /// A bind source is missing or cannot be used.
    #[error("cannot mount `{}` on `{target}`", path.display())]
    Bind {
        /// Path on the host.
        path: PathBuf,
        /// Path in the container.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The file with more of the environment cannot be read.
    #[error("cannot read the variables in `{}`", path.display())]
    Variables {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is to be mounted of layers is not there, or cannot be had.
    #[error("cannot mount `/{}` of other layers on `{target}`", path.escape_ascii())]
    Layers {
        /// Path in them.
        path: Vec<u8>,
        /// Path in the container.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The pinned network namespace is not there.
    #[error("cannot open the network namespace `{}`", path.display())]
    Netns {
        /// Its pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user is not in the image.
    #[error(transparent)]
    User(#[from] user::Error),
    /// A user file of the image cannot be read safely.
    #[error("cannot read the image's `{path}`")]
    UserFile {
        /// Path in the container.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A device cannot be had.
    #[error(transparent)]
    Device(#[from] nodes::Error),
    /// A kernel parameter cannot be its own.
    #[error(transparent)]
    Sysctl(#[from] sysctls::Error),
    /// The specification is impossible.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// A text has a NUL byte, which no system call can take.
    #[error("`{0}` has a NUL byte")]
    Nul(String),
    /// No command.
    #[error("there is no command to run: neither the service nor its image has one")]
    NoCommand,
    /// The terminal could not be made.
    #[error("cannot make a terminal in the container")]
    Terminal(#[source] io::Error),
    /// A descriptor could not be made.
    #[error("cannot prepare the start")]
    Prepare(#[source] io::Error),
}

/// A mount that the child makes.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) what: What,
    pub(super) target: Target,
}

/// What is mounted.
#[derive(Debug)]
pub(super) enum What {
    /// A detached clone of a host path.
    Tree(OwnedFd),
    /// What is inside a detached mount: only one that is attached somewhere can be cloned in part (open_tree(2), before
    /// Linux 6.15), so the child does.
    Part { whole: OwnedFd, inside: OwnedFd, change: Attributes },
    /// A file system made in the child's namespaces.
    New { kind: CString, options: Vec<(CString, Option<CString>)>, attributes: MountAttrFlags },
}

/// Where in the root: the whole path, and its parts for the case that some are missing.
#[derive(Debug)]
pub(super) struct Target {
    /// The path, relative to the root, without a leading slash.
    pub(super) whole: CString,
    /// Every prefix of it, the shortest first; the last is the whole.
    pub(super) prefixes: Vec<CString>,
    /// The last name of each prefix.
    pub(super) names: Vec<CString>,
    /// The last name is made as a file, not as a directory.
    pub(super) file: bool,
    /// One of ours (`/proc`, `/dev` …): no symbolic link is followed on the way.
    pub(super) own: bool,
}

/// What a process is before it runs the program: shared by a container's first process and by an exec.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    pub(super) capabilities: u64,
    pub(super) last_capability: u32,
    /// `None` is no filter.
    pub(super) seccomp: Option<Rc<Program>>,
    pub(super) no_new_privileges: bool,
    pub(super) limits: Vec<(Resource, Rlimit)>,
    /// Working directory and its prefixes, absolute.
    pub(super) cwd: Vec<CString>,
    /// Where the program may be, in the order of `PATH`.
    pub(super) programs: Vec<CString>,
    pub(super) argv: CStrings,
    pub(super) envp: CStrings,
}

/// A kernel parameter to set.
#[derive(Debug)]
pub(super) struct Sysctl {
    /// Its file, relative to the root of a procfs.
    pub(super) file: CString,
    pub(super) value: String,
    /// It was asked for; Docker's own may be missing in a kernel.
    pub(super) required: bool,
}

/// A device node to make.
#[derive(Debug)]
pub(super) struct PreparedNode {
    pub(super) target: Target,
    pub(super) kind: FileType,
    pub(super) numbers: (u32, u32),
    pub(super) mode: Mode,
    pub(super) owner: (Uid, Gid),
}

/// What the child's first three descriptors are. `None` is the container's own `/dev/null`.
#[derive(Debug)]
pub struct Stdio {
    /// Where standard input comes from.
    pub stdin: Option<OwnedFd>,
    /// Where standard output goes.
    pub stdout: Option<OwnedFd>,
    /// Where standard error goes.
    pub stderr: Option<OwnedFd>,
    /// All three are one terminal, which is to control the process' session.
    pub(super) terminal: bool,
}

impl Stdio {
    /// Returns streams that are no terminal.
    #[must_use]
    pub fn streams(stdin: Option<OwnedFd>, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Self {
        Self { stdin, stdout, stderr, terminal: false }
    }

    /// Makes `user` the owner of those that are pipes and of our terminal; anything else, such as the host's
    /// `/dev/null`, is not ours.
    pub(super) fn give_to(&self, user: Uid) -> io::Result<()> {
        for fd in [&self.stdout, &self.stderr, &self.stdin].into_iter().flatten() {
            if self.terminal || rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_fifo() {
                rustix::fs::fchown(fd, Some(user), None)?;
            }
        }
        Ok(())
    }
}

/// The tiny init that runs as the first process and the program as its child.
#[derive(Debug)]
pub(super) struct Init {
    /// A sealed file with the payload.
    pub(super) program: OwnedFd,
    /// The init's own name, then the program and its arguments.
    pub(super) argv: CStrings,
}

impl Init {
    fn prepare(argv: &[String]) -> Result<Self, Error> {
        let name = [c("hoist-init")];
        let argv = name.into_iter().chain(argv.iter().map(|a| c(a))).collect::<Result<_, _>>()?;
        Ok(Self { program: init::program().map_err(Error::Prepare)?, argv: CStrings::new(argv) })
    }
}

/// A container that is ready to be cloned.
#[derive(Debug)]
pub struct Launch {
    pub(super) rootfs: OwnedFd,
    /// A directory of ours in the host's tree; the root is attached there inside the child's mount namespace.
    pub(super) attach_at: CString,
    pub(super) read_only: bool,
    pub(super) mounts: Vec<Mount>,
    pub(super) masked: Vec<CString>,
    pub(super) read_only_paths: Vec<CString>,
    pub(super) hostname: String,
    pub(super) sysctls: Vec<Sysctl>,
    pub(super) nodes: Vec<PreparedNode>,
    rules: Vec<Rule>,
    pub(super) keyring: CString,
    pub(super) netns: Option<OwnedFd>,
    /// It stays in our network namespace.
    pub(super) host_network: bool,
    pub(super) identity: Identity,
    /// The embedded init and its arguments, when it was asked for.
    pub(super) init: Option<Init>,
    pub(super) stdio: Stdio,
    terminal: Option<Pair>,
}

impl Launch {
    /// Prepares a container: mounts its root detached, resolves its user, makes its OCI specification and all that the
    /// child needs. `attach_at` is an existing directory of ours. With a terminal, `stdio` is not used.
    ///
    /// # Errors
    /// When the image lacks the user, a bind source is missing, or the kernel refuses a mount.
    pub fn prepare(container: &ContainerSpec, attach_at: &Path, stdio: Stdio, host: &Host) -> Result<Self, Error> {
        if container.process.argv.is_empty() {
            return Err(Error::NoCommand);
        }
        let upper = Upper { upper: &container.rootfs.upper, work: &container.rootfs.work };
        let rootfs = mount::overlay(&container.rootfs.layers, Some(upper)).map_err(Error::Rootfs)?;
        let user = resolve_user(rootfs.as_fd(), &container.process)?;
        let spec = spec::oci(container, &user, &host.masked)?;
        let nodes = nodes_of(container)?;
        let netns = match &container.netns {
            Some(path) => Some(open_netns(path)?),
            None => None,
        };
        let linux = spec.linux().as_ref();
        let paths =
            |list: Option<&Vec<String>>| list.into_iter().flatten().map(|p| relative(p)).collect::<Result<_, _>>();
        let mut mounts: Vec<Mount> = spec.mounts().iter().flatten().map(mount_of).collect::<Result<_, _>>()?;
        let asked = spec::asked(container);
        let own = mounts.len() - asked.len();
        for (mount, asked) in mounts[own..].iter_mut().zip(asked) {
            if let MountSource::Layers { layers, path, upper } = &asked.source {
                *mount = mount_of_layers(asked, layers, path, upper.as_ref())?;
            }
        }
        let (stdio, terminal) = if container.process.terminal {
            let pair = terminal::in_new_devpts(&mut mounts).map_err(Error::Terminal)?;
            (pair.stdio().map_err(Error::Terminal)?, Some(pair))
        } else {
            (stdio, None)
        };
        Ok(Self {
            mounts,
            masked: paths(linux.and_then(|l| l.masked_paths().as_ref()))?,
            read_only_paths: paths(linux.and_then(|l| l.readonly_paths().as_ref()))?,
            read_only: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
            hostname: spec.hostname().clone().unwrap_or_default(),
            sysctls: sysctls_of(container)?,
            rules: rules_of(container, &nodes),
            nodes: nodes.iter().map(prepared_node).collect::<Result<_, _>>()?,
            keyring: keyring(&container.id)?,
            identity: identity(&spec, &container.process, host)?,
            init: if container.init { Some(Init::prepare(&container.process.argv)?) } else { None },
            attach_at: c_path(attach_at)?,
            rootfs,
            netns,
            host_network: container.host_network,
            stdio,
            terminal,
        })
    }

    /// Takes the container's terminal, if it has one. Our side is non-blocking.
    #[must_use]
    pub fn take_terminal(&mut self) -> Option<Pair> {
        self.terminal.take()
    }

    /// Gives the log pipes to the container's user, so that it can open `/dev/stdout` again (pipes check their owner).
    ///
    /// # Errors
    /// What fchown(2) says.
    pub fn own_stdio(&self) -> io::Result<()> {
        self.stdio.give_to(self.identity.uid)
    }

    /// Returns which devices the container's processes may use.
    #[must_use]
    pub fn device_rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the path of mount number `index` in the container, for messages.
    #[must_use]
    pub fn mount_target(&self, index: usize) -> String {
        self.mounts.get(index).map_or_else(String::new, |m| format!("/{}", m.target.whole.to_string_lossy()))
    }
}

/// Facts of the machine that do not change while it runs; gathered once a process.
#[derive(Debug, Clone)]
pub struct Host {
    /// Paths to mask besides Docker's list: the thermal throttle counters of each possible CPU.
    pub masked: Vec<String>,
    /// Major and minor version of the kernel.
    pub kernel: (u16, u16),
    /// Number of the kernel's last capability.
    pub last_capability: u32,
    /// The capabilities that this process can hand on.
    pub available: CapSet,
    filters: Filters,
}

/// Default filters that were compiled, by their capabilities: that takes half a millisecond, and most processes have the
/// same few sets.
#[derive(Debug, Clone, Default)]
struct Filters(Rc<RefCell<Vec<Filter>>>);

/// A filter and the capabilities that it is for.
type Filter = (CapSet, Rc<Program>);

/// How many are kept.
const FILTERS: usize = 4;

impl Host {
    /// Reads the facts.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn observe() -> io::Result<Self> {
        let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        let masked = cpu_list(&possible)
            .map(|n| format!("/sys/devices/system/cpu/cpu{n}/thermal_throttle"))
            .filter(|p| Path::new(p).exists())
            .collect();
        let available = super::caps::available()?;
        Ok(Self {
            masked,
            kernel: seccomp::kernel_version(),
            last_capability: super::caps::last()?,
            available,
            filters: Filters::default(),
        })
    }

    /// Does ahead what the start of most containers needs: theirs is faster then.
    pub fn warm_up(&self) {
        self.default_filter(CapSet::DOCKER_DEFAULT & self.available);
    }

    fn default_filter(&self, capabilities: CapSet) -> Rc<Program> {
        let mut known = self.filters.0.borrow_mut();
        if let Some((_, filter)) = known.iter().find(|(of, _)| *of == capabilities) {
            return filter.clone();
        }
        let filter = Rc::new(seccomp::default_program(capabilities, self.kernel));
        known.truncate(FILTERS - 1);
        known.insert(0, (capabilities, filter.clone()));
        filter
    }
}

/// Returns which of several things of one kind a start failed at, for messages.
#[must_use]
pub fn subject(container: &ContainerSpec, error: &StartError) -> Option<String> {
    let index = usize::from(error.detail);
    match error.stage {
        Stage::Sysctl => {
            let all = sysctls_of(container).ok()?;
            let file = all.get(index)?.file.to_string_lossy().into_owned();
            Some(format!("`{}`", file.strip_prefix("sys/")?.replace('/', ".")))
        }
        Stage::Node => Some(format!("`{}`", nodes_of(container).ok()?.get(index)?.target)),
        Stage::Limits => Some(format!("ulimit `{}`", container.process.ulimits.get(index)?.name)),
        _ => None,
    }
}

/// Finds the devices that a container is to have besides Docker's.
fn nodes_of(container: &ContainerSpec) -> Result<Vec<Node>, Error> {
    let mut found = if container.privileged { nodes::all() } else { Vec::new() };
    for device in &container.devices {
        found.extend(nodes::find(device)?);
    }
    Ok(found)
}

fn rules_of(container: &ContainerSpec, nodes: &[Node]) -> Vec<Rule> {
    if container.privileged {
        return vec![Rule::EVERYTHING];
    }
    devices::DEFAULT.iter().copied().chain(nodes.iter().map(Node::rule)).collect()
}

fn prepared_node(node: &Node) -> Result<PreparedNode, Error> {
    let components: Vec<&str> = node.target.split('/').filter(|n| !n.is_empty()).collect();
    if !node.target.starts_with('/') || components.is_empty() || components.contains(&"..") {
        return Err(spec::Error::Target(node.target.clone()).into());
    }
    let kind = match node.kind {
        Kind::Block => FileType::BlockDevice,
        Kind::Char => FileType::CharacterDevice,
    };
    let (uid, gid) = node.owner;
    Ok(PreparedNode {
        target: target(&node.target, true, false)?,
        kind,
        numbers: node.numbers,
        mode: Mode::from_raw_mode(node.mode),
        owner: (Uid::from_raw(uid), Gid::from_raw(gid)),
    })
}

/// Returns Docker's kernel parameters and those that were asked for, which win.
fn sysctls_of(container: &ContainerSpec) -> Result<Vec<Sysctl>, Error> {
    let mut found: Vec<Sysctl> = Vec::new();
    let mut add = |key: &str, value: &str, required| -> Result<(), Error> {
        let file = c(&format!("sys/{}", sysctls::file(key, value)?))?;
        found.retain(|other| other.file != file);
        found.push(Sysctl { file, value: value.to_owned(), required });
        Ok(())
    };
    for (key, value) in sysctls::DEFAULT.into_iter().filter(|_| !container.host_network) {
        add(key, value, false)?;
    }
    for (key, value) in &container.sysctls {
        add(key, value, true)?;
    }
    Ok(found)
}

/// Turns an OCI process, Docker's seccomp policy and the machine's facts into an identity.
pub(super) fn identity(spec: &Spec, asked: &ProcessSpec, host: &Host) -> Result<Identity, Error> {
    let process = spec.process().as_ref().ok_or(Error::NoCommand)?;
    identity_of(process, asked, host)
}

/// As [`identity`], for the process of an exec.
pub(super) fn identity_of(
    process: &oci_spec::runtime::Process,
    asked: &ProcessSpec,
    host: &Host,
) -> Result<Identity, Error> {
    let args = process.args().clone().unwrap_or_default();
    let program = args.first().ok_or(Error::NoCommand)?;
    let mut env = process.env().clone().unwrap_or_default();
    if let Some(path) = &asked.env_file {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Variables { path: path.clone(), source })?;
        env.extend(text.split_terminator('\0').map(str::to_owned));
    }
    let names = process.capabilities().as_ref().and_then(|c| c.bounding().clone()).unwrap_or_default();
    let mut wanted = CapSet::EMPTY;
    for name in names {
        let name = name.to_string();
        wanted = wanted | CapSet::named(&name).ok_or(spec::Error::Capability(name))?;
    }
    let capabilities = wanted & host.available;
    let user = process.user();
    let mut limits = rlimits::prepared(&asked.ulimits);
    if !limits.iter().any(|(resource, _)| *resource == Resource::Nofile) {
        let nofile = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(NOFILE).min(NOFILE);
        limits.push((Resource::Nofile, Rlimit { current: Some(nofile), maximum: Some(nofile) }));
    }
    let seccomp = match &asked.seccomp {
        Seccomp::Default => Some(host.default_filter(capabilities)),
        Seccomp::Unconfined => None,
        Seccomp::Program(program) => {
            let instruction =
                |(code, jt, jf, k): &(u16, u8, u8, u32)| Instruction { code: *code, jt: *jt, jf: *jf, k: *k };
            Some(Rc::new(program.iter().map(instruction).collect()))
        }
    };
    let cwd = process.cwd().to_string_lossy().into_owned();
    let mut path = String::new();
    let mut directories = vec![c("/")?];
    for name in cwd.split('/').filter(|n| !n.is_empty()) {
        path.push('/');
        path.push_str(name);
        directories.push(c(&path)?);
    }
    Ok(Identity {
        uid: Uid::from_raw(user.uid()),
        gid: Gid::from_raw(user.gid()),
        groups: user.additional_gids().iter().flatten().map(|g| Gid::from_raw(*g)).collect(),
        capabilities: capabilities.0,
        last_capability: host.last_capability,
        seccomp,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        limits,
        cwd: directories,
        programs: programs(program, &env)?,
        argv: CStrings::new(args.iter().map(|a| c(a)).collect::<Result<_, _>>()?),
        envp: CStrings::new(env.iter().map(|e| c(e)).collect::<Result<_, _>>()?),
    })
}

/// Returns where a program may be: itself when it has a slash, else below each directory of `PATH` (execvp(3)).
fn programs(program: &str, env: &[String]) -> Result<Vec<CString>, Error> {
    if program.contains('/') {
        return Ok(vec![c(program)?]);
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(super::DEFAULT_PATH);
    path.split(':')
        .map(|d| if d.is_empty() { format!("./{program}") } else { format!("{d}/{program}") })
        .map(|p| c(&p))
        .collect()
}

/// Turns an OCI mount into what the child does.
fn mount_of(mount: &oci_spec::runtime::Mount) -> Result<Mount, Error> {
    let target_path = mount.destination().to_string_lossy().into_owned();
    let kind = mount.typ().clone().unwrap_or_default();
    let options = mount.options().clone().unwrap_or_default();
    let mut attributes = MountAttrFlags::empty();
    let mut propagation = 0;
    let mut recursive = false;
    let mut data: Vec<(CString, Option<CString>)> = Vec::new();
    for option in &options {
        match option.as_str() {
            "rw" | "bind" | "dev" | "exec" | "suid" => {}
            "rbind" => recursive = true,
            "ro" => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "strictatime" => attributes |= MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            "private" | "rprivate" => propagation = libc::MS_PRIVATE,
            "slave" | "rslave" => propagation = libc::MS_SLAVE,
            other => match other.split_once('=') {
                Some((key, value)) => data.push((c(key)?, Some(c(value)?))),
                None => data.push((c(other)?, None)),
            },
        }
    }
    if kind != "bind" {
        let what = What::New { kind: c(&kind)?, options: data, attributes };
        return Ok(Mount { what, target: target(&target_path, false, is_own(&target_path))? });
    }
    let source = mount.source().clone().unwrap_or_default();
    let error = |e: io::Error| Error::Bind { path: source.clone(), target: target_path.clone(), source: e };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, &source, flags).map_err(|e| error(e.into()))?;
    let change = Attributes { set: u64::from(attributes.bits()), clear: 0, propagation, recursive };
    mount::set_attributes_of(tree.as_fd(), change).map_err(error)?;
    let stat = rustix::fs::fstat(&tree).map_err(|e| error(e.into()))?;
    let file = !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    Ok(Mount { what: What::Tree(tree), target: target(&target_path, file, false)? })
}

/// Makes an overlay and finds what is mounted of it.
fn mount_of_layers(
    asked: &MountSpec,
    layers: &[PathBuf],
    path: &[u8],
    upper: Option<&UpperSpec>,
) -> Result<Mount, Error> {
    let error = |e: io::Error| Error::Layers { path: path.to_vec(), target: asked.target.clone(), source: e };
    let upper = upper.map(|u| Upper { upper: &u.upper, work: &u.work });
    let whole = mount::overlay(layers, upper).map_err(error)?;
    let set = if asked.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let change = Attributes { set, propagation: libc::MS_PRIVATE, ..Attributes::default() };
    if path.is_empty() {
        mount::set_attributes_of(whole.as_fd(), change).map_err(error)?;
        return Ok(Mount { what: What::Tree(whole), target: target(&asked.target, false, false)? });
    }
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let inside = openat2(&whole, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how);
    let inside = inside.map_err(|e| error(e.into()))?;
    let stat = rustix::fs::fstat(&inside).map_err(|e| error(e.into()))?;
    let file = !FileType::from_raw_mode(stat.st_mode).is_dir();
    Ok(Mount { what: What::Part { whole, inside, change }, target: target(&asked.target, file, false)? })
}

/// Returns whether a target is one of Docker's own mounts, where no symbolic link of an image may lead elsewhere.
fn is_own(target: &str) -> bool {
    ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"].contains(&target)
}

fn target(path: &str, file: bool, own: bool) -> Result<Target, Error> {
    let mut whole = String::new();
    let (mut prefixes, mut names) = (Vec::new(), Vec::new());
    for name in path.split('/').filter(|n| !n.is_empty()) {
        if !whole.is_empty() {
            whole.push('/');
        }
        whole.push_str(name);
        prefixes.push(c(&whole)?);
        names.push(c(name)?);
    }
    Ok(Target { whole: c(&whole)?, prefixes, names, file, own })
}

/// Finds out who `asked` is, from the user files inside `root`.
pub fn resolve_user(root: BorrowedFd<'_>, asked: &ProcessSpec) -> Result<User, Error> {
    let passwd = read_user_file(root, "/etc/passwd")?;
    let group = read_user_file(root, "/etc/group")?;
    let mut user = user::resolve(&asked.user, &passwd, &group)?;
    user::add_groups(&mut user, &asked.groups, &group)?;
    Ok(user)
}

/// Reads a user file of the image: a regular file inside its root, of bounded size; a missing one is empty.
fn read_user_file(root: BorrowedFd<'_>, path: &'static str) -> Result<String, Error> {
    let error = |source: io::Error| Error::UserFile { path, source };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(e) => return Err(error(e.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|e| error(e.into()))?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(error(io::Error::other("it is not a regular file")));
    }
    // The descriptor was verified; it is opened again through our own /proc, not by the image's path.
    let file = rustix::fs::open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty())
        .map_err(|e| error(e.into()))?;
    let mut bytes = Vec::new();
    let read = File::from(file).take(USER_FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(error)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > USER_FILE_LIMIT {
        return Err(error(io::Error::other("it is larger than 4 MiB")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn open_netns(path: &Path) -> Result<OwnedFd, Error> {
    let error = |e: rustix::io::Errno| Error::Netns { path: path.to_owned(), source: e.into() };
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
    const NSFS_MAGIC: i64 = 0x6e73_6673; // statfs(2); an unpinned path is a plain file
    if rustix::fs::fstatfs(&fd).map_err(error)?.f_type != NSFS_MAGIC {
        return Err(error(rustix::io::Errno::NOENT));
    }
    Ok(fd)
}

/// Returns a path of the container without its leading slash, as openat2(2) wants it below a root.
fn relative(path: &str) -> Result<CString, Error> {
    c(path.trim_start_matches('/'))
}

/// Returns the name of a container's session keyring, which its execs join (runc's name for it).
pub(super) fn keyring(id: &ContainerId) -> Result<CString, Error> {
    c(&format!("_ses.{id}"))
}

pub(super) fn c(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Nul(text.replace('\0', "\\0")))
}

fn c_path(path: &Path) -> Result<CString, Error> {
    let text: &OsStr = path.as_os_str();
    CString::new(text.as_bytes()).map_err(|_| Error::Nul(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_along_path() {
        let found = |program: &str, env: &[&str]| {
            let env: Vec<String> = env.iter().map(ToString::to_string).collect();
            let list = programs(program, &env).expect("no NUL");
            list.into_iter().map(|p| p.into_string().expect("text")).collect::<Vec<_>>()
        };
        assert_eq!(found("/bin/x", &["PATH=/a"]), ["/bin/x"]);
        assert_eq!(found("x", &["PATH=/a::/b"]), ["/a/x", "./x", "/b/x"]);
        assert_eq!(found("x", &["PATH=/a", "PATH=/b"]), ["/b/x"]);
        assert_eq!(found("x", &[]).len(), 6);
    }

    #[test]
    fn only_pipes_change_hands() {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        let file = OwnedFd::from(tempfile::tempfile().expect("a file"));
        let owner = rustix::fs::fstat(&file).expect("it is open").st_uid;
        let stdio = Stdio::streams(Some(read), Some(write), Some(file));
        let user = Uid::from_raw(12345);
        if stdio.give_to(user).is_err() {
            return crate::testing::skip_unprivileged("fchown");
        }
        let uid = |fd: &Option<OwnedFd>| rustix::fs::fstat(fd.as_ref().expect("given")).expect("it is open").st_uid;
        assert_eq!((uid(&stdio.stdout), uid(&stdio.stderr)), (12345, owner));
    }

    #[test]
    fn targets_have_all_their_prefixes() {
        let target = target("/a//b/c", true, false).expect("no NUL");
        assert_eq!(target.whole.as_c_str(), c"a/b/c");
        assert_eq!(
            target.prefixes.iter().map(|p| p.to_str().expect("text")).collect::<Vec<_>>(),
            ["a", "a/b", "a/b/c"]
        );
        assert_eq!(target.names[2].as_c_str(), c"c");
    }
}
