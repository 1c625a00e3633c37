//! Network namespaces: make one, pin it to a path, and run a closure inside.
//!
//! A thread has a network namespace of its own (setns(2), "network namespace"), so that entering one is safe only on
//! a thread that does nothing else ([`with`]) or in a process with one thread ([`enter_and_return`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::fault;

/// The calling thread's network namespace; `/proc/self` would be that of the process' first thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Magic number of the file system that shows namespaces (`NSFS_MAGIC`, linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Makes a network namespace, runs `set_up` inside and pins it to `path` by a bind mount, so that it lives without a
/// process. When `set_up` fails, nothing is pinned and what it returned is returned.
///
/// # Errors
/// `AlreadyExists` when there is something at `path`; otherwise what the kernel said, and nothing is left.
pub fn create_pinned<T: Send, E: Send>(
    path: &Path,
    set_up: impl FnOnce() -> Result<T, E> + Send,
) -> io::Result<Result<T, E>> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    fault::point("netns.file");
    let made = on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let result = set_up();
        if result.is_ok() {
            mount_bind(OWN, path)?;
        }
        Ok(result)
    });
    if !matches!(made, Ok(Ok(_))) {
        // The error that matters is the first; a file that stays is empty and is replaced by the next attempt.
        let _ = std::fs::remove_file(path);
    }
    made
}

/// Takes the pin away; the namespace goes when nothing else holds it. A missing pin is fine.
///
/// # Errors
/// What the kernel said.
pub fn unpin(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    fault::point("netns.unmounted");
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Tells whether a namespace is pinned at `path`.
///
/// # Errors
/// What statfs(2) said, a missing path aside.
pub fn is_pinned(path: &Path) -> io::Result<bool> {
    match rustix::fs::statfs(path) {
        Ok(found) => Ok(u64::try_from(found.f_type).is_ok_and(|magic| magic == NSFS_MAGIC)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Opens the calling thread's network namespace.
///
/// # Errors
/// When `/proc` is not there.
pub fn own() -> io::Result<File> {
    File::open(OWN)
}

/// Runs `work` inside `namespace`, on a thread made for it.
///
/// # Errors
/// When there is no thread to have, or setns(2) is refused.
///
/// # Panics
/// When `work` does.
pub fn with<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

/// Runs `work` inside `namespace` on the calling thread and comes back; for a process with one thread.
///
/// # Errors
/// When setns(2) into the namespace is refused.
///
/// # Panics
/// When the way back is refused: going on would do all later work in the wrong namespace.
pub fn enter_and_return<T>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
    let home = own()?;
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let result = work();
    setns(home.as_fd(), CloneFlags::CLONE_NEWNET).expect("a namespace that we came from can be entered");
    Ok(result)
}

/// Switches the loopback device of the calling thread's network namespace on (netdevice(7)). Allocates nothing, so that a
/// child between clone and exec may call it.
///
/// # Errors
/// What the kernel said.
pub fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an ifreq is a name and a union of numbers and pointers; all zeroes is a value of each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call; name and flags are set.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `work` on a thread that ends with it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
