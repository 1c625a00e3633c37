//! Directory trees by descriptor: resolve inside a root, list, remove. Follows no symbolic link out of the tree.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags};
use rustix::io::Errno;

/// Opens `path` as if `root` were `/`: `..` and absolute links stay inside, magic links are refused (openat2(2)).
///
/// # Errors
/// The kernel's.
pub fn open_in_root(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    // EAGAIN means that something was renamed meanwhile and the kernel could not tell (openat2(2)).
    for _ in 0..64 {
        let path = if path.is_empty() { b"/" } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens an absolute path of ours in which nothing is a symbolic link; the last name may be one with `O_PATH` and
/// `O_NOFOLLOW` (openat2(2)).
///
/// # Errors
/// The kernel's; `ELOOP` for a link.
pub fn open_plain(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens the directory `name` in `dir`; a symbolic link there is an error.
///
/// # Errors
/// The kernel's; `ENOTDIR` or `ELOOP` when it is something else.
pub fn open_dir_at(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Returns whether something is mounted on `name` in `dir`, in whichever mount namespace that directory was opened.
///
/// Who is in another namespace has to ask: for him the kernel removes such a name, and the mount with it (unlink(2) says
/// `EBUSY` for the caller's own mounts alone).
///
/// # Errors
/// The kernel's; `ENOENT` when there is no such name.
pub fn is_mounted_on(dir: impl AsFd, name: &[u8]) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..64 {
        match rustix::fs::openat2(&dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
            Ok(_) => return Ok(false),
            Err(Errno::XDEV) => return Ok(true),
            Err(Errno::AGAIN) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Returns the names in a directory, sorted, without `.` and `..`.
///
/// # Errors
/// The kernel's.
pub fn names(dir: impl AsFd) -> io::Result<Vec<CString>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            all.push(entry.file_name().to_owned());
        }
    }
    all.sort();
    Ok(all)
}

/// Removes `name` in `dir` with all below it. Links are removed, not followed; what is missing is no error.
///
/// # Errors
/// The kernel's; what was removed by then stays removed.
pub fn remove(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // A directory: EISDIR on Linux, EPERM in POSIX (unlink(2)).
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let inner = open_dir_at(&dir, name)?;
    for child in names(&inner)? {
        remove(&inner, child.to_bytes())?;
    }
    match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Returns the type that a mode holds.
#[must_use]
pub fn file_type(mode: RawMode) -> FileType {
    FileType::from_raw_mode(mode)
}

/// Returns all extended attributes of an open file or directory; none where the file system has none.
///
/// # Errors
/// The kernel's.
pub fn xattrs(file: impl AsFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut list = vec![0_u8; 64 << 10]; // XATTR_LIST_MAX (limits.h)
    let length = match rustix::fs::flistxattr(&file, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut all = Vec::new();
    for name in list[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0_u8; 64 << 10]; // XATTR_SIZE_MAX (limits.h)
        match rustix::fs::fgetxattr(&file, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(e) => return Err(e.into()),
        }
        let name = CString::new(name).map_err(io::Error::other)?;
        all.push((name, value));
    }
    all.sort();
    Ok(all)
}
