//! Socket options that no crate of ours wraps.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Attaches a filter that drops every packet before it reaches the socket (socket(7), `SO_ATTACH_FILTER`).
///
/// A listening socket with it reserves its port and answers nothing.
///
/// # Errors
/// What setsockopt(2) said.
pub fn attach_drop_all(socket: impl AsFd) -> io::Result<()> {
    // BPF_RET | BPF_K with 0: keep no byte of the packet (linux/bpf_common.h).
    let mut program = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set(socket, libc::SO_ATTACH_FILTER, &filter)
}

/// Removes the filter of [`attach_drop_all`].
///
/// # Errors
/// `ENOENT` when there is none.
pub fn detach_filter(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SO_DETACH_FILTER, &0_i32)
}

fn set<T>(socket: impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("an option is a few bytes");
    // SAFETY: the descriptor is open for the length of the borrow; `value` is a live, initialised object of exactly
    // `length` bytes, which the kernel only reads. A `sock_fprog` points to a program that its caller keeps on the
    // stack until we return, and the kernel copies the program before that.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
