//! The files of a container as one descriptor of its root.
//!
//! - One that runs: `/proc/<pid>/root` of its first process, opened through a descriptor of `/proc/<pid>`, which stays with
//!   the process that it was opened for. It counts once the process runs a program of its own: before that its root is
//!   still the host's.
//! - One that does not: its overlay, and in it what it mounts of the host, in a mount namespace of our own that nobody is
//!   in. The caller holds the project's lock, so that nobody starts it meanwhile. What is in memory while it runs, a tmpfs,
//!   is not there.
//! - For `export`: the layers and the writable directory, read-only and without any mount, whether it runs or not.
//!
//! Invariant: nothing of the container is run or loaded, and we never enter its namespaces.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::runtime::{ContainerSpec, MountSource};
use crate::sys::mount::{Attributes, Upper, overlay, set_attributes_of};
use crate::sys::{process, tree};

/// A container's root; keeps what it hangs on.
#[derive(Debug)]
pub(in crate::engine) struct Root {
    fd: OwnedFd,
    /// The mount namespace that nobody is in: without it the mounts below would be gone.
    _namespace: Option<OwnedFd>,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    /// Takes the root of a container that runs.
    ///
    /// # Errors
    /// When its process has ended.
    pub(super) fn running(process: &crate::state::record::ProcessIdentity) -> io::Result<Self> {
        Ok(Self { fd: crate::supervisor::root_of(process)?, _namespace: None })
    }

    /// Mounts the root of a container that does not run; `attach_at` is any directory of ours.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn stopped(spec: &ContainerSpec, attach_at: &Path) -> io::Result<Self> {
        // A thread of its own has a mount namespace of its own.
        let (spec, attach_at) = (spec.clone(), attach_at.to_owned());
        let mounted = std::thread::Builder::new().spawn(move || assemble(&spec, &attach_at))?.join();
        mounted.map_err(|_| io::Error::other("the thread that mounts it has panicked"))?
    }

    /// Mounts what is a container's own, without its mounts, read-only.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn alone(spec: &ContainerSpec) -> io::Result<Self> {
        let layers: Vec<PathBuf> = spec.rootfs.layers.iter().chain([&spec.rootfs.upper]).cloned().collect();
        Ok(Self { fd: overlay(&layers, None)?, _namespace: None })
    }
}

fn assemble(spec: &ContainerSpec, attach_at: &Path) -> io::Result<Root> {
    process::leave_namespaces(libc::CLONE_NEWNS)?;
    let private = Attributes { propagation: libc::MS_PRIVATE, recursive: true, ..Attributes::default() };
    crate::sys::mount::set_attributes(CWD, c"/", private)?;
    let namespace = rustix::fs::open(c"/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut binds = Vec::new();
    let mut mounts: Vec<_> = spec.mounts.iter().collect();
    mounts.sort_by_key(|mount| mount.target.split('/').filter(|name| !name.is_empty()).count());
    for mount in mounts {
        let MountSource::Bind(source) = &mount.source else { continue };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = match open_tree(CWD, source, flags) {
            Ok(tree) => tree,
            Err(Errno::NOENT) => {
                tracing::warn!("{} is gone: what is below {} is shown instead", source.display(), mount.target);
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let set = if mount.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let change = Attributes { set, clear: 0, propagation: libc::MS_PRIVATE, recursive: true };
        set_attributes_of(tree.as_fd(), change)?;
        binds.push((tree, &mount.target));
    }
    let upper = Upper { upper: &spec.rootfs.upper, work: &spec.rootfs.work };
    let root = overlay(&spec.rootfs.layers, Some(upper))?;
    move_mount(&root, c"", CWD, attach_at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for (bind, target) in binds {
        let directory = tree::file_type(rustix::fs::fstat(&bind)?.st_mode).is_dir();
        let place = place(root.as_fd(), target, directory)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        const NOWHERE: &CStr = c"";
        move_mount(&bind, NOWHERE, &place, NOWHERE, flags)?;
    }
    if spec.rootfs.read_only {
        set_attributes_of(root.as_fd(), Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() })?;
    }
    Ok(Root { fd: root, _namespace: Some(namespace) })
}

/// Opens a mount's target, making what is missing, as a start does.
fn place(root: BorrowedFd<'_>, target: &str, directory: bool) -> io::Result<OwnedFd> {
    let names: Vec<&str> = target.split('/').filter(|name| !name.is_empty()).collect();
    let mut prefix = String::new();
    let mut here = tree::open_in_root(root, b"/", OFlags::PATH)?;
    for (i, name) in names.iter().enumerate() {
        prefix.push('/');
        prefix.push_str(name);
        here = match tree::open_in_root(root, prefix.as_bytes(), OFlags::PATH) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let made = if directory || i + 1 < names.len() {
                    rustix::fs::mkdirat(&here, *name, Mode::from_raw_mode(0o755))
                } else {
                    rustix::fs::mknodat(&here, *name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
                };
                made?;
                tree::open_in_root(root, prefix.as_bytes(), OFlags::PATH)?
            }
            found => found?,
        };
    }
    Ok(here)
}
