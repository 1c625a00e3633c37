//! An image's files as one read-only mount that is attached nowhere.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::image::Error;
use crate::image::store::Image;

impl Image {
    /// Returns a detached, read-only mount of the image's files; it is gone when the descriptor and all that were
    /// opened through it are closed.
    ///
    /// A layer is found by a descriptor opened first, so that the mount outlives a concurrent removal of the image.
    ///
    /// # Errors
    /// When a layer is gone, or the kernel refuses (`CAP_SYS_ADMIN` is needed).
    pub fn mount(&self) -> Result<OwnedFd, Error> {
        mount(&self.layers).map_err(|source| Error::Mount { image: self.id.to_string(), source })
    }
}

fn mount(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    if let [only] = layers {
        // Overlayfs wants two lower layers, or one and an upper.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(CWD, only, flags)?;
        crate::sys::readonly::set_read_only(mount.as_fd())?;
        return Ok(mount);
    }
    if layers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the image has no layers"));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dirs = Vec::new();
    for layer in layers.iter().rev() {
        dirs.push(rustix::fs::open(layer, flags, Mode::empty())?);
    }
    let context = overlay(&dirs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Configures an overlay whose lower layers are `dirs`, top first.
fn overlay(dirs: &[OwnedFd]) -> io::Result<OwnedFd> {
    let open = || -> io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "source", "hoist-image")?;
        Ok(context)
    };
    // A path through /proc is short, needs no escapes, and names what the descriptor holds.
    let by_fd = |dir: &OwnedFd| format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let context = open()?;
    let appended = dirs.iter().try_for_each(|d| rustix::mount::fsconfig_set_string(&context, "lowerdir+", by_fd(d)));
    match appended {
        Ok(()) => {
            rustix::mount::fsconfig_create(&context)?;
            Ok(context)
        }
        // Before Linux 6.5 there is no `lowerdir+`. One string holds 255 bytes (fsconfig(2)), so layers are named
        // relative to no directory but by descriptor; that is room for about ten of them.
        Err(_) => {
            let list: Vec<String> = dirs.iter().map(by_fd).collect();
            let list = list.join(":");
            if list.len() > 255 {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("{} layers need Linux 6.5 or newer", dirs.len()),
                ));
            }
            let context = open()?;
            rustix::mount::fsconfig_set_string(&context, "lowerdir", std::ffi::OsStr::from_bytes(list.as_bytes()))?;
            rustix::mount::fsconfig_create(&context)?;
            Ok(context)
        }
    }
}
