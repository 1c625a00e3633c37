//! What a layer kept by diff id lacks in one particular chain, and the merged view of the layers below it.
//!
//! A tar may put `tmp/a` without listing `tmp`, and then the attributes of `tmp` are those of the layers below; overlayfs
//! would show the upper directory's. It may also hard-link to a file of a layer below. Both become a small layer of
//! empty directories and copied files on top, kept by chain id. Most chains need none.
//!
//! The view resolves paths through a stack of layer directories as overlayfs would, without a mount.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::image::digest::{Digest, chain_ids};
use crate::image::store::{Image, Scratch, Store, random_name};
use crate::image::tarball::show;
use crate::image::unpack::unescape;
use crate::image::{Error, store_error};
use crate::sys;

/// A layer that may not be in its place in the store yet.
pub(crate) struct Placed<'a> {
    /// As in `LayerMeta`.
    pub(crate) implied: &'a [String],
    /// As in `LayerMeta`.
    pub(crate) lower_links: &'a BTreeMap<String, String>,
    /// As in `LayerMeta`.
    pub(crate) opaque_root: bool,
    /// Its `fs`.
    pub(crate) fs: PathBuf,
}

/// Makes the fix-up of each layer of a chain that needs one and has none, in `scratch`. Returns where each of them
/// is and what chain it is for; [`Store::settle`] puts it in place.
pub(crate) fn prepare(
    store: &Store,
    scratch: &Scratch,
    diff_ids: &[Digest],
    layers: &[Placed<'_>],
) -> Result<Vec<(PathBuf, Digest)>, Error> {
    let mut below: Vec<PathBuf> = Vec::new();
    let mut made = Vec::new();
    for (layer, chain) in layers.iter().zip(chain_ids(diff_ids)) {
        if layer.opaque_root {
            below.clear();
        }
        let mut fixup = store.fixup_fs(&chain);
        let needed = !layer.implied.is_empty() || !layer.lower_links.is_empty();
        if needed && (!below.is_empty() || !layer.lower_links.is_empty()) && !fixup.is_dir() {
            let dir = scratch.layer(&format!("fixup-{}", random_name()))?;
            let implied: BTreeSet<Vec<u8>> = layer.implied.iter().map(|p| unescape(p)).collect();
            let links = layer.lower_links.iter().map(|(k, v)| (unescape(k), unescape(v))).collect();
            if write(&dir.join("fs"), &below, &layer.fs, &implied, &links)? {
                fixup = dir.join("fs");
                made.push((dir, chain));
            }
        }
        below.push(layer.fs.clone());
        if fixup.is_dir() {
            below.push(fixup);
        }
    }
    Ok(made)
}

/// Writes a fix-up below `fs`; false if none is needed.
fn write(
    fs: &Path,
    below: &[PathBuf],
    own: &Path,
    implied: &BTreeSet<Vec<u8>>,
    links: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<bool, Error> {
    let lower = View::of(below)?;
    let mut stack = below.to_vec();
    stack.push(own.to_owned());
    let merged = View::of(&stack)?;
    // Directories that must be there, with the attributes that they get.
    let mut wanted: BTreeSet<Vec<u8>> = BTreeSet::new();
    for path in implied {
        let Some(found) = lower.lookup(path)? else { continue };
        match sys::tree::file_type(found.stat.st_mode) {
            FileType::Directory => {}
            FileType::Symlink => {
                let reason = "it is a symbolic link in a layer below, and this layer writes through it without \
                              listing it, which is not supported";
                return Err(Error::Entry { name: show(path), reason: reason.into() });
            }
            _ => continue,
        }
        let ours = merged.lookup(path)?.map(|n| (n.stat.st_mode, n.stat.st_uid, n.stat.st_gid));
        let theirs = (found.stat.st_mode, found.stat.st_uid, found.stat.st_gid);
        let labelled = !found.xattrs().map_err(|source| Error::Write { name: show(path), source })?.is_empty();
        if ours != Some(theirs) || labelled {
            wanted.insert(path.clone());
        }
    }
    if wanted.is_empty() && links.is_empty() {
        return Ok(false);
    }
    for path in wanted.clone().iter().chain(links.keys()) {
        let mut at = path.as_slice();
        while let Some(i) = at.iter().rposition(|b| *b == b'/') {
            at = &at[..i];
            wanted.insert(at.to_vec());
        }
    }
    wanted.insert(Vec::new());
    let io = |path: &[u8]| {
        let name = show(path);
        move |source: io::Error| Error::Write { name, source }
    };
    let root = rustix::fs::open(fs, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| store_error("open", fs)(e.into()))?;
    for path in wanted.iter().filter(|p| !p.is_empty()) {
        rustix::fs::mkdirat(&root, &path[..], Mode::from_raw_mode(0o700)).map_err(|e| io(path)(e.into()))?;
    }
    let mut copied: BTreeMap<&Vec<u8>, &Vec<u8>> = BTreeMap::new();
    for (name, target) in links {
        if let Some(first) = copied.get(target) {
            rustix::fs::linkat(&root, &first[..], &root, &name[..], AtFlags::empty())
                .map_err(|e| io(name)(e.into()))?;
            continue;
        }
        let found = lower.lookup(target)?.filter(|n| sys::tree::file_type(n.stat.st_mode) == FileType::RegularFile);
        let Some(found) = found else {
            let reason = format!("it is a hard link to `{}`, which no layer has as a file", show(target));
            return Err(Error::Entry { name: show(name), reason });
        };
        found.copy_file(&root, name).map_err(io(name))?;
        copied.insert(target, name);
    }
    // Deepest first, so that nothing changes a directory's time after it was set.
    for path in wanted.iter().rev() {
        let source = if implied.contains(path) { lower.lookup(path)? } else { None };
        let source = match source {
            Some(source) if sys::tree::file_type(source.stat.st_mode) == FileType::Directory => Some(source),
            _ => merged.lookup(path)?,
        };
        let Some(source) = source else { continue };
        let dir = if path.is_empty() {
            rustix::io::dup(&root).map_err(|e| io(path)(e.into()))?
        } else {
            sys::tree::open_dir_at(&root, path).map_err(|e| io(path)(e.into()))?
        };
        source.copy_attributes(&dir).map_err(io(path))?;
    }
    Ok(true)
}

/// Layer directories seen as overlayfs would merge them.
pub struct View {
    /// Top first.
    roots: Vec<OwnedFd>,
}

/// Something in a [`View`].
#[derive(Debug)]
pub struct Node {
    /// Its metadata; for a directory those of the topmost layer.
    pub stat: Stat,
    parent: OwnedFd,
    name: Vec<u8>,
}

impl Image {
    /// Returns a view of the image's files that needs no mount.
    ///
    /// # Errors
    /// When a layer's directory cannot be opened.
    pub fn view(&self) -> Result<View, Error> {
        View::of(&self.layers)
    }
}

impl View {
    /// Opens a view of layer directories, base first.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn of(layers: &[PathBuf]) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open =
            |dir: &PathBuf| rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| store_error("open", dir)(e.into()));
        Ok(Self { roots: layers.iter().rev().map(open).collect::<Result<_, _>>()? })
    }

    /// Returns what is at `path`, following no link, not even on the way: a link on the way is returned instead.
    ///
    /// # Errors
    /// When the layers cannot be read.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Node>, Error> {
        let failed = |e: Errno| Error::Write { name: show(path), source: e.into() };
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        let mut dirs: Vec<OwnedFd> = Vec::new();
        for root in &self.roots {
            dirs.push(rustix::io::dup(root).map_err(failed)?);
        }
        let Some((last, parents)) = parts.split_last() else {
            let Some(top) = dirs.into_iter().next() else { return Ok(None) };
            let stat = rustix::fs::fstat(&top).map_err(failed)?;
            return Ok(Some(Node { stat, parent: top, name: b".".to_vec() }));
        };
        for part in parents {
            let mut next = Vec::new();
            for dir in &dirs {
                let stat = match rustix::fs::statat(dir, *part, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(failed(e)),
                };
                match sys::tree::file_type(stat.st_mode) {
                    FileType::Directory => {}
                    FileType::Symlink if next.is_empty() => {
                        let parent = rustix::io::dup(dir).map_err(failed)?;
                        return Ok(Some(Node { stat, parent, name: part.to_vec() }));
                    }
                    _ => break,
                }
                let fd = sys::tree::open_dir_at(dir, part).map_err(failed)?;
                let mut value = [0_u8; 1];
                let opaque = rustix::fs::fgetxattr(&fd, "trusted.overlay.opaque", &mut value[..]).is_ok();
                next.push(fd);
                if opaque {
                    break;
                }
            }
            dirs = next;
        }
        for dir in dirs {
            match rustix::fs::statat(&dir, *last, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if sys::tree::file_type(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0 => {
                    return Ok(None);
                }
                Ok(stat) => return Ok(Some(Node { stat, parent: dir, name: last.to_vec() })),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(None)
    }

    /// Returns `path` with every link on it resolved inside the image, the last one included if `follow_last` is set.
    /// What does not exist is taken as written. No leading slash.
    ///
    /// # Errors
    /// When the layers cannot be read, or links go in circles.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Vec<u8>, Error> {
        let mut ahead: VecDeque<Vec<u8>> = path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(part),
            }
            if ahead.iter().all(Vec::is_empty) && !follow_last {
                continue;
            }
            let here = at.join(&b'/');
            let Some(node) = self.lookup(&here)? else { continue };
            if sys::tree::file_type(node.stat.st_mode) != FileType::Symlink {
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(Error::Entry { name: show(path), reason: "its symbolic links go in circles".into() });
            }
            let target = node.read_link().map_err(|source| Error::Write { name: show(path), source })?;
            at.pop();
            if target.starts_with(b"/") {
                at.clear();
            }
            for piece in target.split(|b| *b == b'/').rev() {
                ahead.push_front(piece.to_vec());
            }
        }
        Ok(at.join(&b'/'))
    }

    /// Returns the content of a file, links followed; `None` if there is none, or it is larger than `most` bytes.
    ///
    /// # Errors
    /// When the layers cannot be read.
    pub fn read(&self, path: &[u8], most: u64) -> Result<Option<Vec<u8>>, Error> {
        use io::Read as _;
        let failed = |source| Error::Write { name: show(path), source };
        let Some(node) = self.lookup(&self.resolve(path, true)?)? else { return Ok(None) };
        if sys::tree::file_type(node.stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let file = node.open().map_err(failed)?;
        file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok((bytes.len() as u64 <= most).then_some(bytes))
    }
}

impl Node {
    /// Returns what it is.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        sys::tree::file_type(self.stat.st_mode)
    }

    fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.parent, &self.name[..], flags, Mode::empty())?.into())
    }

    fn read_link(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.parent, &self.name[..], Vec::new())?.into_bytes())
    }

    /// Returns the extended attributes that belong to the file and not to overlayfs.
    pub(crate) fn xattrs(&self) -> io::Result<Vec<(std::ffi::CString, Vec<u8>)>> {
        let mut all = sys::tree::xattrs(self.open()?)?;
        all.retain(|(name, _)| !name.to_bytes().starts_with(b"trusted.overlay."));
        Ok(all)
    }

    fn copy_attributes(&self, to: impl std::os::fd::AsFd) -> io::Result<()> {
        rustix::fs::fchown(&to, Some(Uid::from_raw(self.stat.st_uid)), Some(Gid::from_raw(self.stat.st_gid)))?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(self.stat.st_mode & 0o7777))?;
        for (name, value) in self.xattrs()? {
            rustix::fs::fsetxattr(&to, &name, &value, XattrFlags::empty())?;
        }
        let at = Timespec {
            tv_sec: self.stat.st_mtime,
            tv_nsec: i64::try_from(self.stat.st_mtime_nsec).unwrap_or_default(),
        };
        rustix::fs::futimens(&to, &Timestamps { last_access: at, last_modification: at })?;
        Ok(())
    }

    fn copy_file(&self, root: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = File::from(rustix::fs::openat(root, name, flags, Mode::from_raw_mode(0o600))?);
        io::copy(&mut self.open()?, &mut to)?;
        self.copy_attributes(&to)
    }
}
