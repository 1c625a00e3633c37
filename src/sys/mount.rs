//! The mount calls that rustix lacks, and the overlay made by file descriptor on kernels that differ.

use std::ffi::{CStr, CString, c_long};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};

/// What to change of a mount's attributes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, … or 0 to leave it.
    pub propagation: u64,
    /// The mounts below too.
    pub recursive: bool,
}

/// Changes the attributes of the mount at `path` relative to `fd` (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// What the kernel says; then nothing was changed.
pub fn set_attributes(fd: BorrowedFd<'_>, path: &CStr, change: Attributes) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` ends in NUL and `attr` is a whole mount_attr of the size that is passed; both outlive the call.
    let result: c_long = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Changes the attributes of the mount that `fd` is.
///
/// # Errors
/// What the kernel says; then nothing was changed.
pub fn set_attributes_of(fd: BorrowedFd<'_>, change: Attributes) -> io::Result<()> {
    set_attributes(fd, c"", change)
}

/// The writable half of an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// Takes what is written.
    pub upper: &'a Path,
    /// The kernel's own, empty, on the same file system.
    pub work: &'a Path,
}

/// Makes a detached overlay of `layers`, the base first; without `upper` it is read-only.
///
/// Layers go in one by one (`lowerdir+`, Linux 6.5): at most 500. An older kernel takes one string of 255 bytes, in which
/// they are named by descriptor: about a dozen.
///
/// # Errors
/// What the kernel says, with its own words from the context's log where it left some.
pub fn overlay(layers: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<OwnedFd> {
    if let ([only], None) = (layers, upper) {
        // Overlayfs wants two lower layers, or one and an upper; one alone is what it shows anyway.
        let mount = open_tree(CWD, only, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV;
        let read_only = Attributes { set, ..Attributes::default() };
        set_attributes_of(mount.as_fd(), read_only)?;
        return Ok(mount);
    }
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    configure(context.as_fd(), layers, upper).map_err(|e| with_log(context.as_fd(), e))?;
    let attributes = match upper {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV,
    };
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(mount)
}

fn configure(context: BorrowedFd<'_>, layers: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<()> {
    fsconfig_set_string(context, c"source", c"overlay")?;
    let mut one_by_one = true;
    for (i, layer) in layers.iter().rev().enumerate() {
        match fsconfig_set_string(context, c"lowerdir+", text(layer)?.as_c_str()) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) if i == 0 => {
                one_by_one = false;
                break;
            }
            Err(e) => return Err(e.into()),
        }
    }
    let mut directories = Vec::new(); // open until the overlay has taken them
    if !one_by_one {
        for layer in layers.iter().rev() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            directories.push(rustix::fs::open(layer, flags, Mode::empty())?);
        }
        fsconfig_set_string(context, c"lowerdir", joined(&directories)?.as_c_str())?;
    }
    if let Some(Upper { upper, work }) = upper {
        fsconfig_set_string(context, c"upperdir", text(upper)?.as_c_str())?;
        fsconfig_set_string(context, c"workdir", text(work)?.as_c_str())?;
    } else {
        fsconfig_set_flag(context, c"ro")?;
    }
    fsconfig_create(context)?;
    Ok(())
}

/// Joins layers as the option `lowerdir` wants them, named by descriptor: short, and nothing in it needs an escape.
fn joined(directories: &[OwnedFd]) -> io::Result<CString> {
    let names: Vec<String> = directories.iter().map(|d| format!("/proc/self/fd/{}", d.as_raw_fd())).collect();
    let list = names.join(":");
    if list.len() > 255 {
        let message = format!("{} layers need Linux 6.5 or newer", directories.len());
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(CString::new(list)?)
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Appends what the file system wrote into its context's log (fsconfig contexts are read(2) for messages).
fn with_log(context: BorrowedFd<'_>, error: io::Error) -> io::Error {
    let mut text = String::new();
    let mut buffer = [0_u8; 512];
    while let Ok(n) = rustix::io::read(context, &mut buffer) {
        if n == 0 {
            break;
        }
        text.push_str("; ");
        text.push_str(String::from_utf8_lossy(&buffer[..n]).trim());
    }
    if text.is_empty() { error } else { io::Error::new(error.kind(), format!("{error}{text}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_s_layers_are_named_by_descriptor() {
        let open = || OwnedFd::from(std::fs::File::open("/").expect("the root"));
        let two = [open(), open()];
        let names = two.iter().map(|d| format!("/proc/self/fd/{}", d.as_raw_fd())).collect::<Vec<_>>();
        assert_eq!(joined(&two).expect("short").to_str(), Ok(names.join(":").as_str()));
        let many: Vec<OwnedFd> = (0..40).map(|_| open()).collect();
        assert_eq!(joined(&many).expect_err("long").kind(), io::ErrorKind::Unsupported);
    }
}
