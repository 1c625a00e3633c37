//! Makes a detached mount read-only (mount_setattr(2)).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Makes the mount that `mount` is the root of read-only, without device files.
///
/// # Errors
/// The kernel's.
pub fn set_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the descriptor is open while it is borrowed; the path is an empty C string with static lifetime, which
    // AT_EMPTY_PATH makes legal; `attributes` is a whole `mount_attr` that lives past the call, its size is passed
    // beside it, and the kernel only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
