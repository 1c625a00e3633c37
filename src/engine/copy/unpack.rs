//! Makes entries in a directory, whoever else changes it meanwhile.
//!
//! Names are resolved inside that directory as if it were the root, so that neither `..` nor a link leads out of it; what
//! is made is made in a directory by descriptor, as something new: a link in its place is removed and not followed.
//!
//! As in docker a directory stays a directory and another thing no directory. Otherwise than there, the owner and mode of a
//! directory that is there already are left alone unless owners are kept (`-a`): copying a file's neighbours into `/tmp`
//! must not close `/tmp`.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::Error;
use super::pack::{Found, Sink};
use crate::image::tarball::{Entry, Kind, show};
use crate::sys::tree;

/// How often something new is made in the place of what others make there.
const ATTEMPTS: u32 = 16;

/// What of a file is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// Owner and group; else they are ours.
    pub(super) owner: bool,
    /// What makes a program more than it is: setuid, setgid, capabilities.
    pub(super) privileges: bool,
}

impl Keep {
    fn mode(self, entry: &Entry) -> Mode {
        let mask = if self.privileges { 0o7777 } else { 0o1777 };
        Mode::from_raw_mode(entry.mode & mask)
    }

    /// Sets what is kept of a file or directory. The owner comes first: a change of it clears the rest (chown(2)).
    fn apply(self, file: &OwnedFd, entry: &Entry) -> rustix::io::Result<()> {
        if self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        }
        rustix::fs::fchmod(file, self.mode(entry))?;
        if self.privileges {
            for (name, value) in entry.xattrs.iter().filter(|(name, _)| name == b"security.capability") {
                match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                    Ok(()) | Err(Errno::NOTSUP) => {} // the file system has none
                    Err(e) => return Err(e),
                }
            }
        }
        rustix::fs::futimens(file, &times(entry))
    }
}

fn times(entry: &Entry) -> Timestamps {
    let at = Timespec { tv_sec: entry.mtime.0, tv_nsec: i64::from(entry.mtime.1) };
    Timestamps { last_access: at, last_modification: at }
}

/// A directory that takes entries.
pub(super) struct Directory {
    root: OwnedFd,
    identity: Option<(u64, u64)>,
    keep: Keep,
    /// Whose directories are that are made for entries whose archive does not have them; else ours.
    owner: Option<(u32, u32)>,
    /// The directory of the last entry.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Directories that were made, whose times are set last: what is made in them changes them.
    made: Vec<(Vec<u8>, Entry)>,
}

impl Directory {
    pub(super) fn new(root: OwnedFd, keep: Keep) -> Self {
        let identity = rustix::fs::fstat(&root).ok().map(|stat| (stat.st_dev, stat.st_ino));
        Self { root, identity, keep, owner: None, last: None, made: Vec::new() }
    }

    /// Makes missing directories somebody's.
    pub(super) fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { owner: Some((uid, gid)), ..self }
    }

    /// Sets the times of the directories that were made.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        while let Some((path, entry)) = self.made.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            match tree::open_in_root(self.root.as_fd(), &path, flags) {
                Ok(directory) => {
                    rustix::fs::futimens(&directory, &times(&entry)).map_err(Error::act("set the times of", &path))?;
                }
                // Somebody has moved it away; its time is his own.
                Err(error) => tracing::debug!(%error, "a directory that was made is gone"),
            }
        }
        Ok(())
    }

    /// Opens the directory that an entry is in, making what is missing as archives without directories want it.
    fn directory_of(&mut self, parents: &[&[u8]]) -> Result<&OwnedFd, Error> {
        let path = parents.join(&b'/');
        if self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let opened = match tree::open_in_root(self.root.as_fd(), &path, flags) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    let mut at = Vec::new();
                    let mut here =
                        tree::open_in_root(self.root.as_fd(), b"", flags).map_err(Error::act("open", b"."))?;
                    for name in parents {
                        if !at.is_empty() {
                            at.push(b'/');
                        }
                        at.extend_from_slice(name);
                        let made = match rustix::fs::mkdirat(&here, *name, Mode::from_raw_mode(0o755)) {
                            Ok(()) => true,
                            Err(Errno::EXIST) => false,
                            Err(e) => return Err(Error::act("make directory", &at)(e)),
                        };
                        here = tree::open_in_root(self.root.as_fd(), &at, flags).map_err(Error::act("open", &at))?;
                        if let (true, Some((uid, gid))) = (made, self.owner) {
                            rustix::fs::fchown(&here, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                                .map_err(Error::act("change", &at))?;
                        }
                    }
                    here
                }
                opened => opened.map_err(Error::act("open directory", &path))?,
            };
            self.last = Some((path, opened));
        }
        // It was just set.
        self.last.as_ref().map(|(_, fd)| fd).ok_or_else(|| Error::Changing(show(parents.last().unwrap_or(&&b"."[..]))))
    }
}

impl Sink for Directory {
    fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        let parts = components(&entry.name)?;
        let keep = self.keep;
        let Some((name, parents)) = parts.split_last() else {
            if entry.kind != Kind::Directory {
                return Err(Error::Name(show(&entry.name)));
            }
            if keep.owner {
                keep.apply(&self.root, entry).map_err(Error::act("change", b"."))?;
            }
            return Ok(());
        };
        let path = parts.join(&b'/');
        if entry.kind == Kind::Hardlink {
            let target = components(&entry.link)?;
            let Some((base, before)) = target.split_last() else { return Err(Error::Name(show(&entry.link))) };
            let from = self.directory_of(before)?.try_clone().map_err(Error::act("open", &entry.link))?;
            let at = self.directory_of(parents)?;
            let link = || rustix::fs::linkat(&from, *base, at, *name, AtFlags::empty());
            return instead(at, name, &path, link)?.ok_or_else(|| busy(&path));
        }
        let at = self.directory_of(parents)?;
        match entry.kind {
            Kind::Directory => {
                if let Some(made) = directory(at, name, &path)? {
                    keep.apply(&made, entry).map_err(Error::act("change", &path))?;
                    self.made.push((path, entry.clone()));
                } else if keep.owner {
                    let there = tree::open_dir_at(at, name).map_err(Error::act("open", &path))?;
                    keep.apply(&there, entry).map_err(Error::act("change", &path))?;
                    self.made.push((path, entry.clone()));
                }
                Ok(())
            }
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made =
                    instead(at, name, &path, || rustix::fs::openat(at, *name, flags, Mode::from_raw_mode(0o600)))?;
                let Some(file) = made else {
                    // Something is mounted there, such as /etc/hosts: it stays, and gets the content.
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let handle = rustix::fs::openat(at, *name, flags, Mode::empty());
                    let found = Found::of(handle.map_err(Error::act("open", &path))?);
                    return Over(found.map_err(Error::act("look at", &path))?).put(entry, data);
                };
                let file = write(file, entry, data)?;
                keep.apply(&file, entry).map_err(Error::act("change", &path))
            }
            Kind::Symlink => {
                instead(at, name, &path, || rustix::fs::symlinkat(&entry.link[..], at, *name))?
                    .ok_or_else(|| busy(&path))?;
                node(keep, at, name, entry).map_err(Error::act("change", &path))
            }
            Kind::Fifo => {
                let mode = keep.mode(entry);
                instead(at, name, &path, || rustix::fs::mknodat(at, *name, FileType::Fifo, mode, 0))?
                    .ok_or_else(|| busy(&path))?;
                node(keep, at, name, entry).map_err(Error::act("change", &path))
            }
            Kind::Char | Kind::Block => Err(Error::Device(show(&entry.name))),
            Kind::Hardlink => Ok(()), // handled above
        }
    }

    fn place(&self) -> Option<(u64, u64)> {
        self.identity
    }
}

/// An existing file that takes the content of one.
pub(super) struct Over(pub(super) Found);

impl Sink for Over {
    fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        if self.0.kind() == FileType::Directory {
            return Err(Error::OntoDirectory(show(&entry.name)));
        }
        if self.0.kind() != FileType::RegularFile || entry.kind != Kind::File {
            return Err(Error::Changing(show(&entry.name)));
        }
        let file = self.0.open(OFlags::WRONLY | OFlags::TRUNC).map_err(Error::act("write", &entry.name))?;
        write(file, entry, data).map(drop)
    }
}

/// Returns a name's parts; leading slashes do not count.
fn components(name: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let parts: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::Name(show(name)));
    }
    Ok(parts)
}

/// Makes something new in the place of what is there, unless that is a directory; `None` when something is mounted there.
fn instead<T>(
    at: &OwnedFd,
    name: &[u8],
    path: &[u8],
    make: impl Fn() -> rustix::io::Result<T>,
) -> Result<Option<T>, Error> {
    for _ in 0..ATTEMPTS {
        match make() {
            Err(Errno::EXIST) => {}
            made => return made.map(Some).map_err(Error::act("make", path)),
        }
        match tree::is_mounted_on(at, name) {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::act("look at", path)(e)),
        }
        match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Err(Error::OntoDirectory(show(path))),
            Err(Errno::BUSY) => return Ok(None),
            Err(e) => return Err(Error::act("replace", path)(e)),
        }
    }
    Err(Error::Changing(show(path)))
}

/// Something is mounted where a link or a pipe is to be.
fn busy(path: &[u8]) -> Error {
    Error::act("replace", path)(Errno::BUSY)
}

/// Makes a directory and opens it; `None` when one is there already.
fn directory(at: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<OwnedFd>, Error> {
    match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => tree::open_dir_at(at, name).map(Some).map_err(Error::act("open", path)),
        Err(Errno::EXIST) => match tree::open_dir_at(at, name) {
            Ok(_) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(Error::OntoFile(show(path))),
            Err(e) => Err(Error::act("open", path)(e)),
        },
        Err(e) => Err(Error::act("make directory", path)(e)),
    }
}

fn node(keep: Keep, at: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
    if keep.owner {
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        rustix::fs::chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    rustix::fs::utimensat(at, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
}

/// Writes a file's data; what is zero stays a hole.
fn write(file: OwnedFd, entry: &Entry, data: &mut dyn Read) -> Result<OwnedFd, Error> {
    let failed = |e: std::io::Error| Error::act("write", &entry.name)(e);
    let mut file = File::from(file);
    let mut buffer = vec![0_u8; 256 << 10];
    let mut size = 0;
    loop {
        let read = data.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        if buffer[..read].iter().all(|b| *b == 0) {
            file.seek(SeekFrom::Current(i64::try_from(read).unwrap_or(0))).map_err(failed)?;
        } else {
            file.write_all(&buffer[..read]).map_err(failed)?;
        }
    }
    file.set_len(size).map_err(failed)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::image::tarball::Reader;
    use crate::image::tarball::tests::TarBuilder;

    fn unpack(into: &std::path::Path, tar: &[u8]) -> Result<(), Error> {
        let mut directory =
            Directory::new(File::open(into).expect("there").into(), Keep { owner: false, privileges: false });
        let mut reader = Reader::new(tar);
        while let Some(entry) = reader.next().expect("a tar") {
            directory.put(&entry, &mut reader)?;
        }
        directory.finish()
    }

    #[test]
    fn no_entry_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir(&inside).expect("a directory");
        fs::create_dir(&outside).expect("a directory");
        fs::write(outside.join("canary"), "alive").expect("a file");
        let new = TarBuilder::default;
        let out = outside.to_str().expect("UTF-8");
        for tar in [
            new().file("../out/canary", b"dead").end(),
            new().file("a/../../out/canary", b"dead").end(),
            new().symlink("l", out).file("l/canary", b"dead").end(),
            new().symlink("m", "../out").file("m/canary", b"dead").end(),
            new().symlink("n", out).dir("n").end(),
            new().symlink("o", &format!("{out}/canary")).file("o", b"dead").end(),
            new().hardlink("p", "../out/canary").file("p", b"dead").end(),
            new().symlink("q", out).hardlink("r", "q/canary").file("r", b"dead").end(),
            new().file(&format!("{out}/canary"), b"inside").end(),
        ] {
            let _ = unpack(&inside, &tar); // some are refused, some land inside
            assert_eq!(fs::read_to_string(outside.join("canary")).expect("there"), "alive");
            assert_eq!(fs::read_dir(&outside).expect("there").count(), 1);
        }
        assert!(matches!(unpack(&inside, &new().file("../x", b"").end()), Err(Error::Name(_))));
    }

    #[test]
    fn a_directory_stays_one_and_another_thing_none() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("d")).expect("a directory");
        fs::write(dir.path().join("f"), "").expect("a file");
        let new = TarBuilder::default;
        assert!(matches!(unpack(dir.path(), &new().file("d", b"").end()), Err(Error::OntoDirectory(_))));
        assert!(matches!(unpack(dir.path(), &new().symlink("d", "x").end()), Err(Error::OntoDirectory(_))));
        assert!(matches!(unpack(dir.path(), &new().dir("f").end()), Err(Error::OntoFile(_))));
        symlink("d", dir.path().join("l")).expect("a link");
        assert!(matches!(unpack(dir.path(), &new().dir("l").end()), Err(Error::OntoFile(_))));
        let device = new().raw(b'3', b"null", b"", b"", |_| {}).end();
        assert!(matches!(unpack(dir.path(), &device), Err(Error::Device(_))));
    }

    #[test]
    fn zeros_become_a_hole_and_privileges_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut data = vec![0_u8; 2 << 20];
        data.extend_from_slice(b"end");
        let set_user_id = |h: &mut [u8; 512]| h[100..108].copy_from_slice(b"0004755\0");
        unpack(dir.path(), &TarBuilder::default().raw(b'0', b"f", b"", &data, set_user_id).end()).expect("unpacked");
        let meta = fs::metadata(dir.path().join("f")).expect("there");
        assert_eq!((meta.len(), meta.mode() & 0o7777, meta.mtime()), (data.len() as u64, 0o755, 1_700_000_000));
        assert!(meta.blocks() * 512 < 1 << 20, "{}", meta.blocks());
        assert!(fs::read(dir.path().join("f")).expect("readable") == data);
    }
}
