//! Terminals of containers: pairs in the container's own devpts, made from outside.
//!
//! A pair is never reached by a path that an image or a process in the container could have bent (CVE-2025-52565):
//! - for a container's first process the devpts is made here, before the clone, and opened by the descriptor of its
//!   mount, which is not attached anywhere yet; the child only moves it to its place. So the caller has its side of the
//!   terminal, and can hand it to who keeps it, before there is any process that could lose it;
//! - for a further process the container's `/dev/pts/ptmx` is found without following links, and what was found is
//!   verified by file system, inode and device before that very descriptor is opened.
//!
//! The other side is opened from the master (`TIOCGPTPEER`, ioctl_tty(2)), never by its number in `/dev/pts`.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, makedev, openat, openat2};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};

use super::child;
use super::launch::{Mount, Stdio, What};

/// Size of a terminal in characters; 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Both sides of a terminal.
#[derive(Debug)]
pub struct Pair {
    /// Ours.
    pub master: OwnedFd,
    /// The container's.
    pub peer: OwnedFd,
}

impl Pair {
    fn of(master: OwnedFd) -> io::Result<Self> {
        unlockpt(&master)?;
        let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        Ok(Self { master, peer })
    }

    /// Returns the container's side as the first three descriptors of a process.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        let copy = || self.peer.try_clone().map(Some);
        Ok(Stdio { stdin: copy()?, stdout: copy()?, stderr: copy()?, terminal: true })
    }
}

/// Makes the devpts that is among a container's mounts, and a terminal in it, whose master is non-blocking.
pub(super) fn in_new_devpts(mounts: &mut [Mount]) -> io::Result<Pair> {
    let devpts = mounts.iter_mut().find(|m| m.target.own && m.target.whole.as_bytes() == b"dev/pts");
    let Some(Mount { what, .. }) = devpts else { return Err(io::Error::other("the container has no /dev/pts")) };
    let made = match what {
        What::New { kind, options, attributes } => child::make_fs(kind, options, *attributes)
            .map_err(|failure| io::Error::from_raw_os_error(failure.errno.raw_os_error()))?,
        What::Tree(_) | What::Part { .. } => return Err(io::Error::other("the container's /dev/pts is not its own")),
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pair = Pair::of(openat(&made, c"ptmx", flags, Mode::empty())?)?;
    *what = What::Tree(made);
    Ok(pair)
}

/// Makes a terminal in the devpts of the running container whose root this is.
pub(super) fn in_root(root: BorrowedFd<'_>) -> io::Result<Pair> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let place = openat2(root, c"dev/pts/ptmx", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)?;
    if !is_ptmx(place.as_fd())? {
        return Err(io::Error::other("its /dev/pts/ptmx is not the kernel's"));
    }
    // The descriptor was verified; it is opened through our own /proc, not by the container's path.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    Pair::of(rustix::fs::open(format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty())?)
}

/// Returns whether this is the multiplexer of a devpts: its inode there is always 2 (`fs/devpts/inode.c`).
fn is_ptmx(fd: BorrowedFd<'_>) -> io::Result<bool> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1; // statfs(2)
    let stat = fstat(fd)?;
    Ok(rustix::fs::fstatfs(fd)?.f_type == DEVPTS_SUPER_MAGIC
        && FileType::from_raw_mode(stat.st_mode).is_char_device()
        && stat.st_ino == 2
        && stat.st_rdev == makedev(5, 2))
}

/// Tells a terminal its size; a program in the foreground of it hears of a change (`SIGWINCH`).
///
/// # Errors
/// When it is no terminal.
pub fn set_size(terminal: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_the_multiplexer_is_not_followed() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(root.path().join("dev/pts")).expect("directories");
        let ptmx = root.path().join("dev/pts/ptmx");
        std::os::unix::fs::symlink("/dev/pts/ptmx", &ptmx).expect("a link");
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(root.path(), flags, Mode::empty()).expect("opened");
            in_root(fd.as_fd()).expect_err("it is bent")
        };
        assert_eq!(open().raw_os_error(), Some(libc::ELOOP));
        std::fs::remove_file(&ptmx).expect("removed");
        std::fs::write(&ptmx, "").expect("a file");
        assert_eq!(open().to_string(), "its /dev/pts/ptmx is not the kernel's");
    }
}
