//! Between clone and exec: a straight line of system calls on what [`Launch`] prepared.
//!
//! Invariant: nothing here allocates, formats, logs, locks, panics or resolves a path that an image could have bent.
//! Everything in the container's root is reached by a descriptor from `openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS)`
//! and mounted on by that descriptor. Why each thing comes when it does:
//! - a first byte before all: we are in our cgroups by then, which the cgroup namespace takes for its roots;
//! - the byte of the release after all that vanishes with us or that the next start makes again: the supervisor has
//!   written down who we are meanwhile, so that a crash leaves no stranger;
//! - the network namespace before sysfs, which shows the namespace of whoever mounts it;
//! - kernel parameters once the network namespace is the container's, and long before `/proc/sys` is read-only;
//! - propagation off before any mount, or mounts would reach the host;
//! - our own mounts before the asked ones, so that a target that leads into `/proc` is seen by its file system's type;
//! - `pivot_root` before masks, so that the masks' sources are the container's own, verified `/dev/null`;
//! - masks last among the mounts; then every descriptor of ours goes, so that neither the working directory nor the
//!   program's path can name one; the working directory after that, and it must be below the root (CVE-2024-21626);
//! - seccomp while we still have the privilege that it takes without `no_new_privs`, hence before capabilities go; with
//!   `no_new_privs` it takes none, and comes last;
//! - the bounding set before the user changes, which takes `CAP_SETPCAP`; groups before the user; the sets at the end.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, makedev, mkdirat, mknodat, openat2, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::process::setrlimit;

use super::launch::{Identity, Init, Launch, PreparedNode, Stdio, Sysctl, Target, What};
use crate::sys::mount::{Attributes, set_attributes, set_attributes_of};
use crate::sys::{netns, process, seccomp};

/// Where the child had got to when something failed; travels over the pipe beside the errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The supervisor went away before it let us go on.
    Release = 1,
    /// Joining or leaving namespaces.
    Namespaces,
    /// Turning propagation off and attaching the root.
    Root,
    /// A mount; its number is in the detail.
    Mount,
    /// The asked mount would have landed on the kernel's own files; its number is in the detail.
    MountOnProc,
    /// Device nodes and links in `/dev`.
    Devices,
    /// The terminal's place in `/dev`.
    Console,
    /// `pivot_root`.
    PivotRoot,
    /// Host name.
    Hostname,
    /// Masked and read-only paths.
    Masks,
    /// Standard input, output and error.
    Stdio,
    /// Resource limits.
    Limits,
    /// Working directory.
    WorkingDirectory,
    /// The seccomp program.
    Seccomp,
    /// Capabilities, user and groups.
    Identity,
    /// The program itself.
    Exec,
    /// A kernel parameter; its number is in the detail.
    Sysctl,
    /// A device node that was asked for; its number is in the detail.
    Node,
}

impl Stage {
    /// All stages, by number from 1.
    pub const ALL: [Self; 18] = [
        Self::Release,
        Self::Namespaces,
        Self::Root,
        Self::Mount,
        Self::MountOnProc,
        Self::Devices,
        Self::Console,
        Self::PivotRoot,
        Self::Hostname,
        Self::Masks,
        Self::Stdio,
        Self::Limits,
        Self::WorkingDirectory,
        Self::Seccomp,
        Self::Identity,
        Self::Exec,
        Self::Sysctl,
        Self::Node,
    ];
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) detail: u16,
    pub(super) errno: Errno,
}

type Step<T = ()> = Result<T, Failure>;

/// Adds the stage to a system call's error.
trait At<T> {
    fn at(self, stage: Stage) -> Step<T>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, stage: Stage) -> Step<T> {
        self.map_err(|errno| Failure { stage, detail: 0, errno })
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, stage: Stage) -> Step<T> {
        self.map_err(|e| Failure {
            stage,
            detail: 0,
            errno: Errno::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}

/// Runs the container's first process; never returns.
pub(super) fn child(
    launch: &Launch,
    go: BorrowedFd<'_>,
    other_end: BorrowedFd<'_>,
    report: BorrowedFd<'_>,
) -> Infallible {
    process::close_copy(other_end); // or we would never see that the supervisor went away
    let failure = match run(launch, go, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    report_and_exit(report, failure)
}

/// Writes what failed and ends: 127 when the program is missing, 126 when it cannot be run (POSIX shell, 2.8.2).
pub(super) fn report_and_exit(report: BorrowedFd<'_>, failure: Failure) -> ! {
    process::ignore_signal(libc::SIGPIPE); // the reader may be gone; the exit code says it too
    let errno = failure.errno.raw_os_error().to_le_bytes();
    let detail = failure.detail.to_le_bytes();
    let message = [failure.stage as u8, detail[0], detail[1], errno[0], errno[1], errno[2], errno[3]];
    let _ = rustix::io::write(report, &message); // as above
    let missing = matches!(failure.errno, Errno::NOENT | Errno::NOTDIR);
    process::exit_now(if failure.stage == Stage::Exec && missing { 127 } else { 126 })
}

fn run(launch: &Launch, go: BorrowedFd<'_>, report: BorrowedFd<'_>) -> Step<Infallible> {
    wait(go)?;
    let entered = enter(launch);
    wait(go)?;
    entered?;
    close_ours(launch.init.as_ref(), report)?; // before a path that the image chose is walked
    make_cwd(&launch.identity)?; // an exec's is not made: a typing error must not make a directory
    if launch.read_only {
        let change = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
        set_attributes(CWD, c"/", change).at(Stage::Masks)?;
    }
    process::join_session_keyring(&launch.keyring);
    become_and_exec(&launch.identity, launch.init.as_ref(), report)
}

/// Makes the container around us.
fn enter(launch: &Launch) -> Step {
    process::set_not_dumpable();
    // The supervisor's own would make directories for mount targets that only root can enter.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setsid().at(Stage::Namespaces)?;
    if let Some(netns) = &launch.netns {
        process::join_namespaces(netns.as_fd(), libc::CLONE_NEWNET).at(Stage::Namespaces)?;
    } else if !launch.host_network {
        netns::raise_loopback().at(Stage::Namespaces)?;
    }
    process::leave_namespaces(libc::CLONE_NEWCGROUP).at(Stage::Namespaces)?;
    set_sysctls(&launch.sysctls)?;
    keep_to_ourselves()?;
    for (i, mount) in launch.mounts.iter().enumerate() {
        if let What::Part { whole, inside, change } = &mount.what {
            let number = u16::try_from(i).unwrap_or(u16::MAX);
            take_part(launch, whole, inside, *change).map_err(|f| Failure { detail: number, ..f })?;
        }
    }
    attach_root(launch)?;
    let root = launch.rootfs.as_fd();
    for (i, mount) in launch.mounts.iter().enumerate() {
        let number = u16::try_from(i).unwrap_or(u16::MAX);
        let result = make_mount(root, &mount.what, &mount.target);
        result.map_err(|f| Failure { detail: number, ..f })?;
        if mount.target.own && mount.target.whole.as_bytes() == b"dev" {
            make_devices(root, launch.stdio.terminal)?;
        }
    }
    for (i, node) in launch.nodes.iter().enumerate() {
        let number = u16::try_from(i).unwrap_or(u16::MAX);
        make_node(root, node).map_err(|f| Failure { stage: Stage::Node, detail: number, ..f })?;
    }
    if launch.stdio.terminal {
        show_console(root, &launch.stdio)?;
    }
    pivot(root)?;
    rustix::system::sethostname(launch.hostname.as_bytes()).at(Stage::Hostname)?;
    put_stdio(&launch.stdio)?;
    mask(launch)
}

/// Waits for the byte that says that we may go on; end of file says that nobody will ever know us.
pub(super) fn wait(go: BorrowedFd<'_>) -> Step {
    let mut byte = [0_u8; 1];
    match rustix::io::retry_on_intr(|| rustix::io::read(go, &mut byte)).at(Stage::Release)? {
        1 => Ok(()),
        _ => Err(Failure { stage: Stage::Release, detail: 0, errno: Errno::PIPE }),
    }
}

/// Cuts this mount namespace off from the host's.
fn keep_to_ourselves() -> Step {
    let private = Attributes { propagation: libc::MS_PRIVATE, recursive: true, ..Attributes::default() };
    set_attributes(CWD, c"/", private).at(Stage::Root)
}

/// Puts a clone of what is inside a mount in the place of its descriptor. The mount itself is attached meanwhile, where the
/// root is going to be.
fn take_part(launch: &Launch, whole: &OwnedFd, inside: &OwnedFd, change: Attributes) -> Step {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(whole, c"", CWD, launch.attach_at.as_c_str(), flags).at(Stage::Mount)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let part = open_tree(inside, c"", flags).at(Stage::Mount)?;
    set_attributes_of(part.as_fd(), change).at(Stage::Mount)?;
    process::duplicate_onto(part.as_fd(), inside.as_raw_fd()).at(Stage::Mount)?;
    rustix::mount::unmount(launch.attach_at.as_c_str(), rustix::mount::UnmountFlags::DETACH).at(Stage::Mount)
}

/// Attaches the container's root.
fn attach_root(launch: &Launch) -> Step {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&launch.rootfs, c"", CWD, launch.attach_at.as_c_str(), flags).at(Stage::Root)
}

fn make_mount(root: BorrowedFd<'_>, what: &What, target: &Target) -> Step {
    let place = open_target(root, target)?;
    if !target.own && is_proc(place.as_fd())? {
        return Err(Failure { stage: Stage::MountOnProc, detail: 0, errno: Errno::PERM });
    }
    match what {
        What::Tree(tree) | What::Part { inside: tree, .. } => attach(tree.as_fd(), place.as_fd()),
        What::New { kind, options, attributes } => {
            let made = make_fs(kind, options, *attributes)?;
            attach(made.as_fd(), place.as_fd())
        }
    }
}

pub(super) fn make_fs(
    kind: &CStr,
    options: &[(std::ffi::CString, Option<std::ffi::CString>)],
    attributes: MountAttrFlags,
) -> Step<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).at(Stage::Mount)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_c_str(), value.as_c_str()),
            None => fsconfig_set_flag(&context, key.as_c_str()),
        }
        .at(Stage::Mount)?;
    }
    fsconfig_create(&context).at(Stage::Mount)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(Stage::Mount)
}

fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Step {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags).at(Stage::Mount)
}

/// Opens a mount's target inside the root, making what is missing, one name at a time on descriptors.
fn open_target(root: BorrowedFd<'_>, target: &Target) -> Step<OwnedFd> {
    let open = |path: &CStr| {
        let mut how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if target.own {
            how |= ResolveFlags::NO_SYMLINKS;
        }
        openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)
    };
    match open(&target.whole) {
        Err(Errno::NOENT) => {}
        result => return result.at(Stage::Mount),
    }
    let mut parent: Option<OwnedFd> = None;
    let last = target.prefixes.len().saturating_sub(1);
    for (i, (prefix, name)) in target.prefixes.iter().zip(&target.names).enumerate() {
        let here = match open(prefix) {
            Err(Errno::NOENT) => {
                let at = parent.as_ref().map_or(root, AsFd::as_fd);
                if i == last && target.file {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
                    rustix::fs::openat(at, name.as_c_str(), flags, Mode::from_raw_mode(0o644)).map(drop)
                } else {
                    mkdirat(at, name.as_c_str(), Mode::from_raw_mode(0o755))
                }
                .at(Stage::Mount)?;
                open(prefix)
            }
            result => result,
        };
        parent = Some(here.at(Stage::Mount)?);
    }
    parent.ok_or(Failure { stage: Stage::Mount, detail: 0, errno: Errno::INVAL })
}

fn is_proc(fd: BorrowedFd<'_>) -> Step<bool> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0; // statfs(2)
    Ok(rustix::fs::fstatfs(fd).at(Stage::Mount)?.f_type == PROC_SUPER_MAGIC)
}

/// Makes Docker's device nodes and links in the `/dev` that was just mounted, and a place for the terminal.
fn make_devices(root: BorrowedFd<'_>, console: bool) -> Step {
    const NODES: [(&CStr, u32, u32); 6] =
        [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];
    const LINKS: [(&CStr, &CStr); 6] = [
        (c"/proc/self/fd", c"fd"),
        (c"/proc/self/fd/0", c"stdin"),
        (c"/proc/self/fd/1", c"stdout"),
        (c"/proc/self/fd/2", c"stderr"),
        (c"/proc/kcore", c"core"),
        (c"pts/ptmx", c"ptmx"),
    ];
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let dev = openat2(root, c"dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), how)
        .at(Stage::Devices)?;
    let old = rustix::process::umask(Mode::empty());
    for (name, major, minor) in NODES {
        mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))
            .at(Stage::Devices)?;
    }
    if console {
        mknodat(&dev, c"console", FileType::RegularFile, Mode::from_raw_mode(0o600), 0).at(Stage::Console)?;
    }
    rustix::process::umask(old);
    for (to, name) in LINKS {
        symlinkat(to, &dev, name).at(Stage::Devices)?;
    }
    Ok(())
}

/// Makes a device node inside the root. One that is there already and is the same device is left as it is; anything else
/// there, such as a link that the image put in the way, is an error.
fn make_node(root: BorrowedFd<'_>, node: &PreparedNode) -> Step {
    let last = node.target.prefixes.len().saturating_sub(1);
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &CStr| {
        openat2(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), how).at(Stage::Node)
    };
    let mut parent: Option<OwnedFd> = None;
    for (prefix, name) in node.target.prefixes.iter().zip(&node.target.names).take(last) {
        let at = parent.as_ref().map_or(root, AsFd::as_fd);
        match mkdirat(at, name.as_c_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failure { stage: Stage::Node, detail: 0, errno }),
        }
        parent = Some(open(prefix)?);
    }
    let at = parent.as_ref().map_or(root, AsFd::as_fd);
    let Some(name) = node.target.names.last() else {
        return Err(Failure { stage: Stage::Node, detail: 0, errno: Errno::INVAL });
    };
    if is_proc(at)? {
        return Err(Failure { stage: Stage::Node, detail: 0, errno: Errno::PERM });
    }
    let (major, minor) = node.numbers;
    let device = makedev(major, minor);
    match mknodat(at, name.as_c_str(), node.kind, node.mode, device) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = rustix::fs::statat(at, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).at(Stage::Node)?;
            let same = FileType::from_raw_mode(there.st_mode) == node.kind && there.st_rdev == device;
            return if same { Ok(()) } else { Err(Failure { stage: Stage::Node, detail: 0, errno: Errno::EXIST }) };
        }
        Err(errno) => return Err(Failure { stage: Stage::Node, detail: 0, errno }),
    }
    // The owner before the mode, which the umask has thinned out.
    let (uid, gid) = node.owner;
    rustix::fs::chownat(at, name.as_c_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at(Stage::Node)?;
    rustix::fs::chmodat(at, name.as_c_str(), node.mode, AtFlags::empty()).at(Stage::Node)
}

/// Sets kernel parameters through a procfs of our own, which is mounted nowhere: nothing that an image or a volume puts in
/// the way can lead elsewhere (CVE-2025-52881). It is made in the container's pid namespace, and what is below
/// `sys/net` is the network namespace's of whoever opens it.
fn set_sysctls(sysctls: &[Sysctl]) -> Step {
    if sysctls.is_empty() {
        return Ok(());
    }
    let proc = make_fs(c"proc", &[], MountAttrFlags::empty()).map_err(|f| Failure { stage: Stage::Sysctl, ..f })?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    for (i, sysctl) in sysctls.iter().enumerate() {
        let detail = u16::try_from(i).unwrap_or(u16::MAX);
        let fail = |errno| Failure { stage: Stage::Sysctl, detail, errno };
        match openat2(&proc, sysctl.file.as_c_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), how) {
            // One write a value: a procfs takes each as a whole.
            Ok(file) => drop(rustix::io::write(&file, sysctl.value.as_bytes()).map_err(fail)?),
            Err(Errno::NOENT) if !sysctl.required => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}

/// Makes the root the root, with nothing of the host left below it (pivot_root(2), "pivot_root(".", ".")").
fn pivot(root: BorrowedFd<'_>) -> Step {
    rustix::process::fchdir(root).at(Stage::PivotRoot)?;
    rustix::process::pivot_root(c".", c".").at(Stage::PivotRoot)?;
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH).at(Stage::PivotRoot)?;
    rustix::process::chdir(c"/").at(Stage::PivotRoot)
}

/// Makes the container's own `/dev/console` its terminal, as systemd and others look for it there.
///
/// The node is ours unless something was mounted over `/dev`; then what is there may be made by the image or another
/// container, so no link is followed and what is found is covered by descriptor (CVE-2025-52565).
fn show_console(root: BorrowedFd<'_>, stdio: &Stdio) -> Step {
    let Some(peer) = &stdio.stdin else {
        return Err(Failure { stage: Stage::Console, detail: 0, errno: Errno::NOTTY });
    };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let place = match openat2(root, c"dev/console", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        // Something of the user's is mounted over `/dev`: it stays as it is, it may be the host's.
        Err(Errno::NOENT) => return Ok(()),
        found => found.at(Stage::Console)?,
    };
    let kind = FileType::from_raw_mode(fstat(&place).at(Stage::Console)?.st_mode);
    if !kind.is_file() && !kind.is_char_device() {
        return Err(Failure { stage: Stage::Console, detail: 0, errno: Errno::NOTTY });
    }
    let terminal = clone_of(peer.as_fd(), false).map_err(|f| Failure { stage: Stage::Console, ..f })?;
    attach(terminal.as_fd(), place.as_fd()).map_err(|f| Failure { stage: Stage::Console, ..f })
}

/// Puts the prepared descriptors on 0, 1 and 2; one that is missing is the container's own `/dev/null`. A terminal becomes
/// the one that controls our session.
pub(super) fn put_stdio(stdio: &Stdio) -> Step {
    if stdio.terminal
        && let Some(peer) = &stdio.stdin
    {
        rustix::process::ioctl_tiocsctty(peer).at(Stage::Stdio)?;
    }
    let mut null = None;
    for (fd, to) in [(&stdio.stdin, 0), (&stdio.stdout, 1), (&stdio.stderr, 2)] {
        let from = match fd {
            Some(fd) => fd,
            None => match &null {
                Some(null) => null,
                None => null.insert(open_null()?),
            },
        };
        process::duplicate_onto(from.as_fd(), to).at(Stage::Stdio)?;
    }
    Ok(())
}

fn open_null() -> Step<OwnedFd> {
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(Stage::Stdio)?;
    if is_null(null.as_fd()).at(Stage::Stdio)? {
        return Ok(null);
    }
    Err(Failure { stage: Stage::Stdio, detail: 0, errno: Errno::NODEV })
}

/// Returns whether a descriptor is the null device, by its number and not by its name (CVE-2025-31133).
fn is_null(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == makedev(1, 3))
}

/// Hides and write-protects paths of the kernel's file systems.
fn mask(launch: &Launch) -> Step {
    let open = |path: &CStr| {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)
    };
    let absent = |e: Errno| matches!(e, Errno::NOENT | Errno::NOTDIR);
    for path in &launch.read_only_paths {
        let place = match open(path) {
            Err(e) if absent(e) => continue,
            result => result.at(Stage::Masks)?,
        };
        let tree = clone_of(place.as_fd(), true)?;
        let change = Attributes { set: libc::MOUNT_ATTR_RDONLY, recursive: true, ..Attributes::default() };
        set_attributes_of(tree.as_fd(), change).at(Stage::Masks)?;
        attach(tree.as_fd(), place.as_fd()).map_err(|f| Failure { stage: Stage::Masks, ..f })?;
    }
    let null = open(c"dev/null").at(Stage::Masks)?;
    if !is_null(null.as_fd()).at(Stage::Masks)? {
        return Err(Failure { stage: Stage::Masks, detail: 0, errno: Errno::NODEV });
    }
    // One empty file system serves every masked directory.
    let mut empty: Option<OwnedFd> = None;
    for path in &launch.masked {
        let place = match open(path) {
            Err(e) if absent(e) => continue,
            result => result.at(Stage::Masks)?,
        };
        let directory = FileType::from_raw_mode(fstat(&place).at(Stage::Masks)?.st_mode).is_dir();
        let cover = match (directory, &empty) {
            (false, _) => clone_of(null.as_fd(), false)?,
            (true, Some(first)) => clone_of(first.as_fd(), false)?,
            (true, None) => {
                let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                    | MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                let made = make_fs(c"tmpfs", &[], attributes).map_err(|f| Failure { stage: Stage::Masks, ..f })?;
                // The first goes to its place itself: before Linux 6.15 only what is attached can be cloned.
                attach(made.as_fd(), place.as_fd()).map_err(|f| Failure { stage: Stage::Masks, ..f })?;
                empty = Some(made);
                continue;
            }
        };
        attach(cover.as_fd(), place.as_fd()).map_err(|f| Failure { stage: Stage::Masks, ..f })?;
    }
    Ok(())
}

fn clone_of(fd: BorrowedFd<'_>, recursive: bool) -> Step<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, c"", flags).at(Stage::Masks)
}

/// Goes to the working directory, takes on the identity and runs the program; shared with exec.
pub(super) fn become_and_exec(identity: &Identity, init: Option<&Init>, report: BorrowedFd<'_>) -> Step<Infallible> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    close_ours(init, report)?;
    for (i, (resource, limit)) in identity.limits.iter().enumerate() {
        let detail = u16::try_from(i).unwrap_or(u16::MAX);
        setrlimit(*resource, *limit).map_err(|errno| Failure { stage: Stage::Limits, detail, errno })?;
    }
    enter_cwd(identity)?;
    process::close_on_exec_from(3).at(Stage::Stdio)?; // they are already; this is a second lock
    if identity.no_new_privileges {
        // It gives the right to load a filter, so that can come last, and the filter need not allow what comes before.
        set_identity(identity).at(Stage::Identity)?;
        rustix::thread::set_no_new_privs(true).at(Stage::Seccomp)?;
        load_filter(identity)?;
    } else {
        load_filter(identity)?;
        set_identity(identity).at(Stage::Identity)?;
    }
    process::default_signal(libc::SIGPIPE);
    process::set_blocked(0);
    exec(identity, init)
}

fn load_filter(identity: &Identity) -> Step {
    match &identity.seccomp {
        Some(program) => seccomp::load(program, seccomp::SPEC_ALLOW).at(Stage::Seccomp),
        None => Ok(()),
    }
}

/// Closes every descriptor of ours that is not needed any more: before any path is walked that an image has chosen.
fn close_ours(init: Option<&Init>, report: BorrowedFd<'_>) -> Step {
    let kept = [report, init.map_or(report, |init| init.program.as_fd())];
    process::close_copies_but(&kept).at(Stage::Stdio)
}

/// Makes the working directory if it is missing; [`close_ours`] comes first.
fn make_cwd(identity: &Identity) -> Step {
    let missing = |path: &CStr| rustix::fs::accessat(CWD, path, Access::EXISTS, AtFlags::empty()) == Err(Errno::NOENT);
    if !identity.cwd.last().is_some_and(|cwd| missing(cwd)) {
        return Ok(());
    }
    for prefix in identity.cwd.iter().skip(1) {
        match mkdirat(CWD, prefix.as_c_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failure { stage: Stage::WorkingDirectory, detail: 0, errno }),
        }
    }
    Ok(())
}

/// Makes the working directory if it is missing and enters it; it must then be below the root.
fn enter_cwd(identity: &Identity) -> Step {
    let Some(cwd) = identity.cwd.last() else {
        return Err(Failure { stage: Stage::WorkingDirectory, detail: 0, errno: Errno::INVAL });
    };
    rustix::process::chdir(cwd.as_c_str()).at(Stage::WorkingDirectory)?;
    if !process::cwd_is_reachable() {
        return Err(Failure { stage: Stage::WorkingDirectory, detail: 0, errno: Errno::XDEV });
    }
    Ok(())
}

/// Bounding set, groups, user, then the sets. The kernel keeps the permitted set over the change of user so that the
/// bounding set can be all that is left of it: a user that is not root gets none, as with Docker. The exec would clear
/// them, but only after it has looked whether the program may be run, and that is to be asked as the user.
fn set_identity(identity: &Identity) -> io::Result<()> {
    for capability in 0..=identity.last_capability {
        if identity.capabilities & (1 << capability) == 0 {
            process::drop_bounding(capability)?;
        }
    }
    rustix::thread::set_keep_capabilities(true)?;
    rustix::thread::set_thread_groups(&identity.groups)?;
    rustix::thread::set_thread_res_gid(identity.gid, identity.gid, identity.gid)?;
    rustix::thread::set_thread_res_uid(identity.uid, identity.uid, identity.uid)?;
    rustix::thread::set_keep_capabilities(false)?;
    process::set_capabilities(if identity.uid.is_root() { identity.capabilities } else { 0 })
}

/// Runs the first program that can be run; the errors of those that are missing do not matter if a later one is there.
fn exec(identity: &Identity, init: Option<&Init>) -> Step<Infallible> {
    let mut worst = Errno::NOENT;
    for program in &identity.programs {
        let errno = if let Some(init) = init {
            // The init reports nothing, so the program is looked at first: as a user would find it.
            match rustix::fs::accessat(CWD, program.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS) {
                Ok(()) => process::execve_fd(init.program.as_fd(), &init.argv, &identity.envp),
                Err(errno) => io::Error::from_raw_os_error(errno.raw_os_error()),
            }
        } else {
            process::execve(program, &identity.argv, &identity.envp)
        };
        let errno = Errno::from_raw_os_error(errno.raw_os_error().unwrap_or(libc::EIO));
        if !matches!(errno, Errno::NOENT | Errno::NOTDIR) {
            worst = errno;
            if errno != Errno::ACCESS {
                break;
            }
        }
    }
    Err(Failure { stage: Stage::Exec, detail: 0, errno: worst })
}
