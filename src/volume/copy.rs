//! Copies a directory's content with all that belongs to it: owners, modes, times, xattrs, links, special files.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::sys;

/// Copies all in `from` to the empty directory `to`, and the attributes of `from` itself.
pub(super) fn tree(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut links = Links { first: HashMap::new(), root: to.as_fd() };
    directory(from, to, b"", &mut links)
}

/// Where the first name of each file with several names was copied to.
struct Links<'a> {
    first: HashMap<(u64, u64), Vec<u8>>,
    root: BorrowedFd<'a>,
}

fn directory(from: &OwnedFd, to: &OwnedFd, path: &[u8], links: &mut Links<'_>) -> io::Result<()> {
    for name in sys::tree::names(from)? {
        let name = name.to_bytes();
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = sys::tree::file_type(stat.st_mode);
        let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        if kind == FileType::Directory {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            directory(&sys::tree::open_dir_at(from, name)?, &sys::tree::open_dir_at(to, name)?, &path, links)?;
            continue;
        }
        if stat.st_nlink > 1 {
            if let Some(first) = links.first.get(&(stat.st_dev, stat.st_ino)) {
                rustix::fs::linkat(links.root, &first[..], to, name, AtFlags::empty())?;
                continue;
            }
            links.first.insert((stat.st_dev, stat.st_ino), path);
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut source = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut target = File::from(rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?);
                io::copy(&mut source, &mut target)?;
                attributes(&source, &target, &stat)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, to, name)?;
                node_attributes(to, name, &stat, false)?;
            }
            _ => {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
                node_attributes(to, name, &stat, true)?;
            }
        }
    }
    attributes(from, to, &rustix::fs::fstat(from)?)
}

fn times(stat: &Stat) -> Timestamps {
    let at = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or_default() };
    Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Sets owner, mode, xattrs and times, in this order: a change of owner clears setuid and capabilities (chown(2)).
fn attributes(from: impl AsFd, to: impl AsFd, stat: &Stat) -> io::Result<()> {
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, value) in sys::tree::xattrs(from)? {
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue; // overlayfs' own, not the file's
        }
        match rustix::fs::fsetxattr(&to, &name, &value, XattrFlags::empty()) {
            // The volume's file system has no such attributes; cp(1) goes on too.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(rustix::fs::futimens(&to, &times(stat))?)
}

fn node_attributes(dir: &OwnedFd, name: &[u8], stat: &Stat, mode: bool) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if mode {
        // It follows links, but this is a device that was just made in a directory nobody else has.
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}
