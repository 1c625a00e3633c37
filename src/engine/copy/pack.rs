//! Goes through a tree by descriptor and hands its entries on, as an archive has them.
//!
//! Directories are opened one name at a time and no link is followed, so whoever renames things meanwhile gets what is in
//! his own tree copied and nothing else. A file is looked at through a descriptor that opens nothing (`O_PATH`) and only
//! then opened, by that descriptor: a pipe or a device in its place is never opened.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::Error;
use crate::image::tarball::{Entry, Kind, show};
use crate::image::writer::{Exactly, Writer};
use crate::sys::tree;

/// Takes the entries of a tree, a directory before what is in it.
pub(super) trait Sink {
    /// Takes one entry; a file's data has exactly the size that the entry says.
    fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error>;

    /// Returns the device and inode of the directory that takes them, if one does: it must not be in the tree.
    fn place(&self) -> Option<(u64, u64)> {
        None
    }
}

impl<W: Write> Sink for Writer<W> {
    fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        self.entry(entry, data).map(drop).map_err(Error::act("archive", &entry.name))
    }
}

/// Something that was found: a descriptor that opened nothing, and what it is.
pub(super) struct Found {
    pub(super) handle: OwnedFd,
    pub(super) stat: Stat,
}

impl Found {
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn of(handle: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Self { handle, stat })
    }

    pub(super) fn kind(&self) -> FileType {
        tree::file_type(self.stat.st_mode)
    }

    /// Opens for good what was found: a file or directory. That goes through our own `/proc/self/fd`, no name is looked up.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// Hands on what was found, and all below, under `name`; an empty name is the root of an archive.
///
/// # Errors
/// When it cannot be read, or the sink refuses.
pub(super) fn pack(found: &Found, name: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
    Packer { links: HashMap::new(), sink }.entry(found, name)
}

struct Packer<'a> {
    /// First name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    sink: &'a mut dyn Sink,
}

impl Packer<'_> {
    fn entry(&mut self, found: &Found, name: &[u8]) -> Result<(), Error> {
        let stat = &found.stat;
        let mut entry = entry(stat, name);
        let kind = found.kind();
        if kind != FileType::Directory
            && stat.st_nlink > 1
            && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino))
        {
            (entry.kind, entry.link) = (Kind::Hardlink, first.clone());
            return self.sink.put(&entry, &mut io::empty());
        }
        match kind {
            FileType::Directory => {
                if self.sink.place() == Some((stat.st_dev, stat.st_ino)) {
                    return Err(Error::IntoItself(show(name)));
                }
                let directory = found.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::act("open", name))?;
                entry.kind = Kind::Directory;
                self.sink.put(&entry, &mut io::empty())?;
                for child in tree::names(&directory).map_err(Error::act("read", name))? {
                    let path = if name.is_empty() {
                        child.to_bytes().to_vec()
                    } else {
                        [name, b"/", child.to_bytes()].concat()
                    };
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let handle = match rustix::fs::openat(&directory, &child, flags, Mode::empty()) {
                        Err(Errno::NOENT) => continue, // it has just gone
                        opened => opened.map_err(Error::act("open", &path))?,
                    };
                    self.entry(&Found::of(handle).map_err(Error::act("look at", &path))?, &path)?;
                }
                return Ok(());
            }
            FileType::RegularFile => {
                let file = File::from(found.open(OFlags::RDONLY).map_err(Error::act("open", name))?);
                entry.size = u64::try_from(stat.st_size).unwrap_or_default();
                // As in docker, of extended attributes only the capabilities are kept.
                let mut value = [0_u8; 64];
                if let Ok(length) = rustix::fs::fgetxattr(&file, c"security.capability", &mut value[..]) {
                    entry.xattrs = vec![(b"security.capability".to_vec(), value[..length].to_vec())];
                }
                let mut data = Exactly { file, left: entry.size };
                self.sink.put(&entry, &mut data)?;
            }
            FileType::Symlink => {
                entry.kind = Kind::Symlink;
                let target = rustix::fs::readlinkat(&found.handle, c"", Vec::new());
                entry.link = target.map_err(Error::act("read", name))?.into_bytes();
                self.sink.put(&entry, &mut io::empty())?;
            }
            FileType::Fifo => {
                entry.kind = Kind::Fifo;
                self.sink.put(&entry, &mut io::empty())?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                entry.kind = if kind == FileType::BlockDevice { Kind::Block } else { Kind::Char };
                entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                self.sink.put(&entry, &mut io::empty())?;
            }
            // A socket means nothing without who listens on it; docker leaves it out as well.
            FileType::Socket | FileType::Unknown => {
                tracing::debug!("a socket is left out");
                return Ok(());
            }
        }
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), name.to_vec());
        }
        Ok(())
    }
}

/// Returns what an archive says of a file.
pub(super) fn entry(stat: &Stat, name: &[u8]) -> Entry {
    Entry {
        name: name.to_vec(),
        kind: Kind::File,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
        size: 0,
        device: (0, 0),
        xattrs: Vec::new(),
    }
}
