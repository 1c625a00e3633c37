//! One layer tar → one directory that overlayfs takes as a lower layer.
//!
//! Whiteouts become character devices 0:0 and opaque directories the xattr `trusted.overlay.opaque` (kernel,
//! `Documentation/filesystems/overlayfs.rst`); they concern the layers below only, wherever they stand in the tar.
//! Names come from outside. Every directory is opened component by component from the layer's root, following no
//! link; links inside the layer are read and resolved by hand, so that they cannot lead out of it. That needs no
//! openat2 and is race-free, since nobody else writes to the directory yet.
//!
//! Invariant: nothing here reads another layer. What depends on the layers below is written down in `LayerMeta`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::image::digest::Digest;
use crate::image::frame::Tap;
use crate::image::tarball::{self, Entry, Kind, TarError, show};
use crate::image::{Error, store_error};
use crate::sys;

/// What a layer may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of file content.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// From this size on, its tar may not be a thousand times larger than its compressed form.
    pub expansion_floor: u64,
    /// Names that begin with `.wh.` hide what is in layers below; else they are names like any other.
    pub has_whiteouts: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 50 << 30, entries: 5_000_000, expansion_floor: 1 << 30, has_whiteouts: true }
    }
}

/// Longest path in a layer: `PATH_MAX` (limits.h).
const PATH_MAX: usize = 4096;
/// Deepest nesting of directories.
pub(crate) const DEPTH_MAX: usize = 512;
/// Most symbolic links on the way to one entry, as the kernel's (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Most directories held open.
const CACHE_MAX: usize = 128;

/// What is written down about an unpacked layer, as `meta.json` beside its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    /// Number of this form.
    pub(crate) format: u32,
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
    /// Entries in the tar.
    pub(crate) entries: u64,
    /// Bytes of file content.
    pub(crate) bytes: u64,
    /// Directories that the tar uses but does not list: theirs are the attributes of the layers below.
    /// Escaped by [`escape`]; the empty path is the root.
    pub(crate) implied: Vec<String>,
    /// Hard links to files of layers below, escaped: name → target.
    pub(crate) lower_links: BTreeMap<String, String>,
    /// The root hides all layers below.
    pub(crate) opaque_root: bool,
    /// Boot in which it was written; a layer that was never synced is good only in that one.
    pub(crate) boot_id: String,
}

/// Result of unpacking, without what only the store knows.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) implied: Vec<String>,
    pub(crate) lower_links: BTreeMap<String, String>,
    pub(crate) opaque_root: bool,
    /// Sentences for the user, each once.
    pub(crate) warnings: BTreeSet<String>,
}

impl From<LayerMeta> for Unpacked {
    fn from(meta: LayerMeta) -> Self {
        let LayerMeta { entries, bytes, implied, lower_links, opaque_root, .. } = meta;
        Self { entries, bytes, implied, lower_links, opaque_root, warnings: BTreeSet::new() }
    }
}

/// Writes a path of any bytes as text: `%` and what is no printable ASCII as `%xx`.
pub(crate) fn escape(path: &[u8]) -> String {
    use std::fmt::Write as _;
    path.iter().fold(String::with_capacity(path.len()), |mut text, byte| {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02x}"); // writing to a String cannot fail
        }
        text
    })
}

/// Reads what [`escape`] wrote.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (byte, bytes.clone().next()) {
            (b'%', Some(_)) => {
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                out.push(high.unwrap_or(0) << 4 | low.unwrap_or(0));
            }
            _ => out.push(byte),
        }
    }
    out
}

/// Unpacks `tar` into the empty directory `fs` and reads the source to its end.
///
/// # Errors
/// When the tar is damaged or hostile, or cannot be written; the directory is then the caller's to remove.
#[cfg(test)]
pub(crate) fn unpack(tar: impl Read, layer: &str, fs: &Path, limits: Limits) -> Result<Unpacked, Error> {
    unpack_framed(tar, layer, fs, limits, None)
}

/// Unpacks `tar` into the empty directory `fs` and reads the source to its end; what else is needed to make the tar again
/// is written to `frame`, unless it cannot be told.
///
/// # Errors
/// When the tar is damaged or hostile, or cannot be written; the directory is then the caller's to remove.
pub(crate) fn unpack_framed(
    tar: impl Read,
    layer: &str,
    fs: &Path,
    limits: Limits,
    frame: Option<&Path>,
) -> Result<Unpacked, Error> {
    let root = rustix::fs::open(fs, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| store_error("open", fs)(e.into()))?;
    let free = rustix::fs::fstatvfs(&root).map_err(|e| store_error("measure", fs)(e.into()))?;
    let room = free.f_bavail.saturating_mul(free.f_frsize);
    let tar_error = |error: TarError| match error {
        TarError::Io(source) => Error::Read(source),
        TarError::Bad(reason) => Error::LayerTar { layer: layer.to_owned(), reason },
    };
    let mut tree = Tree {
        dirs: HashMap::from([(Vec::new(), Rc::new(root))]),
        times: BTreeMap::from([(Vec::new(), (0, 0))]),
        implied: BTreeSet::from([Vec::new()]),
        lower_links: BTreeMap::new(),
        filled: None,
        out: Unpacked::default(),
        buffer: vec![0; 256 << 10],
    };
    let mut reader = tarball::Reader::new(Tap::new(tar, frame)?);
    while let Some(entry) = reader.next().map_err(tar_error)? {
        tree.out.entries += 1;
        tree.out.bytes = tree.out.bytes.saturating_add(entry.size);
        if tree.out.entries > limits.entries {
            let (what, limit) = (format!("layer `{layer}`"), format!("{} entries", limits.entries));
            return Err(Error::Limit { what, limit });
        }
        if tree.out.bytes > limits.bytes {
            let limit = format!("{} bytes", limits.bytes);
            return Err(Error::Limit { what: format!("layer `{layer}`"), limit });
        }
        if tree.out.bytes > room {
            let (what, path) = (format!("layer `{layer}`"), fs.to_owned());
            return Err(Error::NoRoom { what, path, kib: room >> 10, inodes: free.f_favail });
        }
        if entry.kind == Kind::File {
            reader.inner_mut().begin_content();
        }
        tree.apply(&entry, &mut reader, limits.has_whiteouts)?;
        reader.inner_mut().end_content(tree.filled.take().as_deref());
    }
    // What follows the end of the archive counts for its digest.
    let mut rest = reader.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|e| tar_error(e.into()))?;
    let unpacked = tree.finish()?;
    if let Some(path) = frame
        && !rest.finish().map_err(store_error("write", path))?
    {
        std::fs::remove_file(path).map_err(store_error("remove", path))?;
    }
    Ok(unpacked)
}

/// Returns a name's components, or why it is refused.
fn components(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if name.len() > PATH_MAX {
        return Err("its path is longer than 4096 bytes");
    }
    let parts: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err("its path contains `..`");
    }
    if parts.len() > DEPTH_MAX {
        return Err("it lies more than 512 directories deep");
    }
    Ok(parts)
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path == dir || dir.is_empty() || (path.starts_with(dir) && path.get(dir.len()) == Some(&b'/'))
}

/// The layer's directory while it is written. Paths are canonical: no link on the way, no leading slash.
struct Tree {
    /// Open directories; the root is always there.
    dirs: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Times of directories, set last, since writing below changes them.
    times: BTreeMap<Vec<u8>, (i64, u32)>,
    implied: BTreeSet<Vec<u8>>,
    lower_links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the content of the last file went.
    filled: Option<Vec<u8>>,
    out: Unpacked,
    buffer: Vec<u8>,
}

/// A place in the tree: the directory and the name in it.
struct Place {
    dir: Rc<OwnedFd>,
    name: Vec<u8>,
    path: Vec<u8>,
}

impl Tree {
    fn apply(&mut self, entry: &Entry, data: &mut impl Read, has_whiteouts: bool) -> Result<(), Error> {
        let refuse = |reason: &str| Error::Entry { name: show(&entry.name), reason: reason.to_owned() };
        let write = |e: Errno| Error::Write { name: show(&entry.name), source: e.into() };
        if entry.name.starts_with(b"/") {
            return Err(refuse("its path is absolute"));
        }
        let parts = components(&entry.name).map_err(refuse)?;
        let Some((last, parents)) = parts.split_last() else {
            // The root itself: `./`. A link here would replace the layer (CVE-2021-29136).
            if entry.kind != Kind::Directory {
                return Err(refuse("the root of a layer must be a directory"));
            }
            let root = Rc::clone(&self.dirs[&[][..]]);
            self.implied.remove(&[][..]);
            return self.directory_attributes(&root, Vec::new(), entry).map_err(write);
        };
        // Left-overs of the AUFS storage driver.
        if has_whiteouts && parts.iter().any(|p| p.starts_with(b".wh..wh.") && *p != b".wh..wh..opq") {
            return Ok(());
        }
        if has_whiteouts && parents.iter().any(|p| p.starts_with(b".wh.")) {
            return Err(refuse("it lies below a whiteout"));
        }
        let (dir, at) = self
            .walk(Vec::new(), parents, true)
            .map_err(|e| e.explain(entry))?
            .ok_or_else(|| refuse("its directory cannot be made"))?;
        if let Some(hidden) = last.strip_prefix(b".wh.").filter(|_| has_whiteouts) {
            return self.whiteout(&dir, &at, hidden, entry);
        }
        let place = Place { path: join(&at, last), dir, name: last.to_vec() };
        self.lower_links.remove(&place.path);
        match entry.kind {
            Kind::Directory => self.directory(&place, entry).map_err(write),
            Kind::File => self.file(&place, entry, data),
            Kind::Hardlink => self.hardlink(&place, entry),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.len() >= PATH_MAX || entry.link.contains(&0) {
                    return Err(refuse("its link target is empty or too long"));
                }
                self.create(&place, |p| rustix::fs::symlinkat(&entry.link[..], &p.dir, &p.name[..])).map_err(write)?;
                self.node_attributes(&place, entry, false).map_err(write)
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Char => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                if entry.kind == Kind::Char && entry.device == (0, 0) {
                    return Err(refuse("a character device 0:0 would be taken for a whiteout"));
                }
                let device = rustix::fs::makedev(entry.device.0, entry.device.1);
                let mode = Mode::from_raw_mode(0o600);
                self.create(&place, |p| rustix::fs::mknodat(&p.dir, &p.name[..], kind, mode, device)).map_err(write)?;
                self.node_attributes(&place, entry, true).map_err(write)
            }
        }
    }

    /// Goes down `parts` from the directory `at` and returns where that leads. Links are resolved inside the layer.
    /// Missing directories are made, and written down as implied, if `make` is set; else they are `None`.
    fn walk(&mut self, mut at: Vec<u8>, parts: &[&[u8]], make: bool) -> Result<Option<Reached>, WalkError> {
        let mut ahead: VecDeque<Vec<u8>> = parts.iter().map(|p| p.to_vec()).collect();
        let mut links = 0;
        if self.dirs.len() > CACHE_MAX {
            self.dirs.retain(|path, _| path.is_empty());
        }
        while let Some(part) = ahead.pop_front() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at.truncate(at.iter().rposition(|b| *b == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let child = join(&at, &part);
            if self.dirs.contains_key(&child) {
                at = child;
                continue;
            }
            let dir = self.open(&at)?;
            match sys::tree::open_dir_at(&dir, &part) {
                Ok(fd) => {
                    self.dirs.insert(child.clone(), Rc::new(fd));
                    at = child;
                }
                Err(Errno::NOENT) if !make => return Ok(None),
                Err(Errno::NOENT) => {
                    self.make_implied(&dir, &part, &child)?;
                    self.implied.insert(child.clone());
                    at = child;
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let stat = rustix::fs::statat(&dir, &part[..], AtFlags::SYMLINK_NOFOLLOW)?;
                    match sys::tree::file_type(stat.st_mode) {
                        FileType::Symlink => {
                            links += 1;
                            if links > LINKS_MAX {
                                return Err(WalkError::Refused("too many symbolic links lead to it".into()));
                            }
                            let target = rustix::fs::readlinkat(&dir, &part[..], Vec::new())?.into_bytes();
                            if target.starts_with(b"/") {
                                at.clear();
                            }
                            for piece in target.split(|b| *b == b'/').rev() {
                                ahead.push_front(piece.to_vec());
                            }
                            if ahead.len() > PATH_MAX {
                                return Err(WalkError::Refused("the links on its path are too long".into()));
                            }
                        }
                        FileType::CharacterDevice if stat.st_rdev == 0 && !make => return Ok(None),
                        FileType::CharacterDevice if stat.st_rdev == 0 => {
                            // Removed in the layers below, then used: a new directory that hides the old one.
                            rustix::fs::unlinkat(&dir, &part[..], AtFlags::empty())?;
                            let fd = self.make_implied(&dir, &part, &child)?;
                            set_opaque(&fd)?;
                            at = child;
                        }
                        _ => {
                            let reason = format!("`{}` on its path is not a directory", show(&child));
                            return Err(WalkError::Refused(reason));
                        }
                    }
                }
                Err(e) => return Err(e.into()),
            }
            if at.len() > PATH_MAX {
                return Err(WalkError::Refused("its path is longer than 4096 bytes".into()));
            }
        }
        Ok(Some((self.open(&at)?, at)))
    }

    fn make_implied(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
        let fd = Rc::new(sys::tree::open_dir_at(dir, name)?);
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        self.dirs.insert(path.to_vec(), Rc::clone(&fd));
        self.times.insert(path.to_vec(), (0, 0));
        self.lower_links.remove(path);
        Ok(fd)
    }

    /// Opens a directory by its canonical path.
    fn open(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if let Some(fd) = self.dirs.get(path) {
            return Ok(Rc::clone(fd));
        }
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(i) => (&path[..i], &path[i + 1..]),
            None => (&[][..], path),
        };
        let parent = self.open(parent)?;
        let fd = Rc::new(sys::tree::open_dir_at(&parent, name)?);
        self.dirs.insert(path.to_vec(), Rc::clone(&fd));
        Ok(fd)
    }

    /// Removes what an earlier entry of the same tar left at a place.
    fn clear(&mut self, place: &Place) -> Result<(), Errno> {
        sys::tree::remove(&place.dir, &place.name).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        self.dirs.retain(|path, _| path.is_empty() || !is_below(path, &place.path));
        self.times.retain(|path, _| !is_below(path, &place.path));
        self.implied.retain(|path| !is_below(path, &place.path));
        self.lower_links.retain(|path, _| !is_below(path, &place.path));
        Ok(())
    }

    /// Makes something new at a place, after removing what was there.
    fn create<T>(&mut self, place: &Place, make: impl Fn(&Place) -> Result<T, Errno>) -> Result<T, Errno> {
        match make(place) {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                make(place)
            }
            other => other,
        }
    }

    fn directory(&mut self, place: &Place, entry: &Entry) -> Result<(), Errno> {
        let mut opaque = false;
        let make = |p: &Place| rustix::fs::mkdirat(&p.dir, &p.name[..], Mode::from_raw_mode(0o700));
        match make(place) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&place.dir, &place.name[..], AtFlags::SYMLINK_NOFOLLOW)?;
                if sys::tree::file_type(stat.st_mode) != FileType::Directory {
                    // A whiteout or a file of this tar stood here: the directories below stay hidden.
                    self.clear(place)?;
                    make(place)?;
                    opaque = true;
                }
            }
            Err(e) => return Err(e),
        }
        let fd = self.open(&place.path)?;
        if opaque {
            set_opaque(&fd)?;
        }
        self.implied.remove(&place.path);
        self.directory_attributes(&fd, place.path.clone(), entry)
    }

    fn directory_attributes(&mut self, fd: &OwnedFd, path: Vec<u8>, entry: &Entry) -> Result<(), Errno> {
        self.attributes(fd, entry)?;
        self.times.insert(path, entry.mtime);
        Ok(())
    }

    fn file(&mut self, place: &Place, entry: &Entry, data: &mut impl Read) -> Result<(), Error> {
        let write = |e: io::Error| Error::Write { name: show(&entry.name), source: e };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let fd = self
            .create(place, |p| rustix::fs::openat(&p.dir, &p.name[..], flags, mode))
            .map_err(|e| write(e.into()))?;
        let mut file = File::from(fd);
        loop {
            match data.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => file.write_all(&self.buffer[..n]).map_err(write)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    let reason = format!("it is cut short in `{}`", show(&entry.name));
                    return Err(Error::Archive(reason));
                }
                Err(e) => return Err(Error::Read(e)),
            }
        }
        self.filled = Some(place.path.clone());
        self.attributes(&file, entry).map_err(|e| write(e.into()))?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(|e| write(e.into()))
    }

    fn hardlink(&mut self, place: &Place, entry: &Entry) -> Result<(), Error> {
        let refuse = |reason: &str| Error::Entry { name: show(&entry.name), reason: reason.to_owned() };
        let write = |e: Errno| Error::Write { name: show(&entry.name), source: e.into() };
        // An absolute target is meant inside the layer: some builders write it that way.
        let parts = components(&entry.link).map_err(|_| refuse("its link target leaves the layer"))?;
        let Some((last, parents)) = parts.split_last() else {
            return Err(refuse("it is a hard link to a directory"));
        };
        let found = self.walk(Vec::new(), parents, false).map_err(|e| e.explain(entry))?;
        let target = found.map(|(dir, at)| Place { path: join(&at, last), dir, name: last.to_vec() });
        if let Some(target) = &target {
            if target.path == place.path {
                return Err(refuse("it is a hard link to itself"));
            }
            match rustix::fs::statat(&target.dir, &target.name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    match sys::tree::file_type(stat.st_mode) {
                        FileType::Directory => return Err(refuse("it is a hard link to a directory")),
                        FileType::CharacterDevice if stat.st_rdev == 0 => {
                            return Err(refuse("it is a hard link to a file that the layer removes"));
                        }
                        _ => {}
                    }
                    return self
                        .create(place, |p| {
                            rustix::fs::linkat(&target.dir, &target.name[..], &p.dir, &p.name[..], AtFlags::empty())
                        })
                        .map_err(write);
                }
                Err(Errno::NOENT) => {}
                Err(e) => return Err(write(e)),
            }
        }
        // The target is in a layer below, which only the whole image knows.
        let path = target.map_or_else(|| parts.join(&b'/'), |t| t.path);
        let below = self.lower_links.get(&path).cloned().unwrap_or(path);
        self.clear(place).map_err(write)?;
        self.lower_links.insert(place.path.clone(), below);
        Ok(())
    }

    fn whiteout(&mut self, dir: &OwnedFd, at: &[u8], hidden: &[u8], entry: &Entry) -> Result<(), Error> {
        let write = |e: Errno| Error::Write { name: show(&entry.name), source: e.into() };
        if hidden == b".wh..opq" {
            if at.is_empty() {
                self.out.opaque_root = true;
                return Ok(());
            }
            return set_opaque(dir).map_err(write);
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::Entry { name: show(&entry.name), reason: "it is a whiteout of no name".into() });
        }
        let path = join(at, hidden);
        match rustix::fs::statat(dir, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            // The layer has a directory of that name: it stays, and what lies below it is hidden.
            Ok(stat) if sys::tree::file_type(stat.st_mode) == FileType::Directory => {
                self.implied.remove(&path);
                let fd = self.open(&path).map_err(write)?;
                set_opaque(&fd).map_err(write)
            }
            // The layer has a file of that name, which hides the one below anyway.
            Ok(_) => Ok(()),
            Err(Errno::NOENT) if self.lower_links.contains_key(&path) => Ok(()),
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(dir, hidden, FileType::CharacterDevice, Mode::empty(), 0).map_err(write)
            }
            Err(e) => Err(write(e)),
        }
    }

    /// Sets owner, mode and xattrs, in this order: a change of owner clears setuid and capabilities (chown(2)).
    fn attributes(&mut self, fd: impl AsFd, entry: &Entry) -> Result<(), Errno> {
        rustix::fs::fchown(&fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode))?;
        for (name, value) in &entry.xattrs {
            // Others are the kernel's or overlayfs' own: an image must not set `trusted.overlay.*`.
            let keep = name.starts_with(b"user.")
                || (name == b"security.capability" && entry.kind == Kind::File)
                || name == b"system.posix_acl_access"
                || (name == b"system.posix_acl_default" && entry.kind == Kind::Directory);
            if !keep || name.contains(&0) {
                continue;
            }
            match rustix::fs::fsetxattr(&fd, &name[..], value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM) => {
                    let name = show(name);
                    self.out.warnings.insert(format!("the file system of the image store cannot keep `{name}`"));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sets the attributes of a link or a device that was just made.
    fn node_attributes(&mut self, place: &Place, entry: &Entry, mode: bool) -> Result<(), Errno> {
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        rustix::fs::chownat(&place.dir, &place.name[..], uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        if mode {
            // It follows links, but we have just made a device here and nobody else writes to this directory.
            rustix::fs::chmodat(&place.dir, &place.name[..], Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        rustix::fs::utimensat(&place.dir, &place.name[..], &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn finish(mut self) -> Result<Unpacked, Error> {
        for (path, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            if self.dirs.len() > CACHE_MAX {
                self.dirs.retain(|path, _| path.is_empty());
            }
            let set = self.open(&path).and_then(|fd| rustix::fs::futimens(&fd, &times(mtime)));
            set.map_err(|e| Error::Write { name: show(&path), source: e.into() })?;
        }
        self.out.implied = self.implied.iter().map(|p| escape(p)).collect();
        self.out.lower_links = self.lower_links.iter().map(|(k, v)| (escape(k), escape(v))).collect();
        Ok(self.out)
    }
}

/// A directory and its canonical path.
type Reached = (Rc<OwnedFd>, Vec<u8>);

/// Why a path could not be walked.
enum WalkError {
    Refused(String),
    System(Errno),
}

impl From<Errno> for WalkError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

impl WalkError {
    fn explain(self, entry: &Entry) -> Error {
        let name = show(&entry.name);
        match self {
            Self::Refused(reason) => Error::Entry { name, reason },
            Self::System(error) => Error::Write { name, source: error.into() },
        }
    }
}

fn set_opaque(dir: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(dir, "trusted.overlay.opaque", b"y", XattrFlags::empty())
}

pub(crate) fn times(mtime: (i64, u32)) -> Timestamps {
    let at = Timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) };
    Timestamps { last_access: at, last_modification: at }
}
