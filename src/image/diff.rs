//! One writable directory of an overlay → the tar of the layer that it is; `unpack` is the way back.
//!
//! Character devices 0:0 become whiteouts, the xattr `trusted.overlay.opaque` becomes the entry `.wh..wh..opq` (OCI image
//! specification, `layer.md`; kernel, `Documentation/filesystems/overlayfs.rst`). Entries are sorted by name, a directory
//! comes before what is in it, and times are whole seconds as Docker's are.
//!
//! A start makes empty directories and files to mount on where an image has none. They are no change of the container's:
//! the caller says at which paths something is mounted, and they are left out as long as nothing else is in them. A
//! directory that the kernel has copied up for them alone is left out as well.
//!
//! Somebody may write to the directory meanwhile, who is not to be trusted: nothing is opened by a path of his, no link is
//! followed, and only what was seen to be a file or a directory is opened, by its descriptor.
//!
//! Where the kernel moves directories of lower layers (`redirect_dir`) or changes attributes alone (`metacopy`), what the
//! writable directory lacks is read from a mount of the whole.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::image::digest::Digest;
use crate::image::fixup::View;
use crate::image::tarball::{Entry, Kind, show};
use crate::image::unpack::DEPTH_MAX;
use crate::image::writer::{Exactly, Writer};
use crate::image::{Error, store_error};
use crate::sys::{self, tree};

/// How the names of whiteouts begin.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// The entry that hides all of a directory that is in the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A writable directory.
#[derive(Debug, Clone)]
pub struct Upper {
    /// The directory.
    pub path: PathBuf,
    /// Directories of the layers below it, base first.
    pub layers: Vec<PathBuf>,
    /// Where something is mounted: absolute paths in the container, links in them not resolved.
    pub places: Vec<String>,
    /// No time of an entry is later, in seconds since the epoch.
    pub epoch: Option<i64>,
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Number of entries; none is a layer that changes nothing.
    pub(crate) entries: u64,
    /// Digest of all but times.
    pub(crate) content: Option<Digest>,
    /// Sentences for the user, each once.
    pub(crate) warnings: BTreeSet<String>,
}

/// Writes the tar. It ends early, with an error, when `stop` is set.
///
/// # Errors
/// When the directory cannot be read, or the tar not be written.
pub(crate) fn write(upper: &Upper, out: impl Write, stop: &AtomicBool) -> Result<Written, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(&upper.path, flags, Mode::empty()).map_err(|e| store_error("open", &upper.path)(e.into()))?;
    let whole: Vec<PathBuf> = upper.layers.iter().chain([&upper.path]).cloned().collect();
    let (mut places, mut above) = (BTreeSet::new(), BTreeSet::new());
    let view = View::of(&whole)?;
    for place in &upper.places {
        let place = view.resolve(place.as_bytes(), true)?;
        let slashes = place.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        above.extend(slashes.map(|i| place[..i].to_vec()));
        above.insert(place.clone());
        places.insert(place);
    }
    let mut walk = Walk {
        below: View::of(&upper.layers)?,
        places,
        above,
        whole,
        mounted: None,
        links: HashMap::new(),
        waiting: Vec::new(),
        epoch: upper.epoch,
        out: Writer::hashing(Stopping { out, stop }),
        written: Written::default(),
    };
    walk.children(&root, b"", From::Upper)?;
    let Walk { out, written, .. } = walk;
    let content = out.finish_hashed().map_err(|e| read_error(b"", e))?;
    Ok(Written { content: Some(content), ..written })
}

/// Where a directory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// In the writable directory, as overlayfs has it.
    Upper,
    /// In a mount, where all is what it seems.
    Mount,
}

struct Walk<W> {
    below: View,
    /// Where something is mounted, links resolved, without the leading slash.
    places: BTreeSet<Vec<u8>>,
    /// Those, and all directories above them.
    above: BTreeSet<Vec<u8>>,
    /// All layers, the writable directory last.
    whole: Vec<PathBuf>,
    /// They, mounted, once that was needed.
    mounted: Option<OwnedFd>,
    /// First name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Directories that are written with the first thing in them.
    waiting: Vec<Entry>,
    /// No time is later.
    epoch: Option<i64>,
    out: Writer<W>,
    written: Written,
}

impl<W: Write> Walk<W> {
    fn put(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<(), Error> {
        for waiting in std::mem::take(&mut self.waiting) {
            self.put_now(&waiting, &mut io::empty())?;
        }
        self.put_now(entry, data)
    }

    fn put_now(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<(), Error> {
        self.written.entries += 1;
        let time = self.epoch.map_or(entry.mtime.0, |epoch| entry.mtime.0.min(epoch));
        let entry = Entry { mtime: (time, entry.mtime.1), ..entry.clone() };
        self.out.entry(&entry, data).map(drop).map_err(|e| read_error(&entry.name, e))
    }

    fn children(&mut self, directory: &OwnedFd, path: &[u8], from: From) -> Result<(), Error> {
        for child in tree::names(directory).map_err(|e| read_error(path, e))? {
            let name = child.to_bytes();
            let inner = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            if name.starts_with(WHITEOUT) {
                // Nobody could tell it from the removal of another.
                let sentence = format!("`/{}` is left out: in a layer, such a name removes a file", show(&inner));
                self.written.warnings.insert(sentence);
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = match rustix::fs::openat(directory, &child, flags, Mode::empty()) {
                Err(Errno::NOENT) => continue, // it has just gone
                opened => opened.map_err(|e| read_error(&inner, e))?,
            };
            let stat = rustix::fs::fstat(&handle).map_err(|e| read_error(&inner, e))?;
            self.entry(handle, &stat, &inner, from)?;
        }
        Ok(())
    }

    fn entry(&mut self, handle: OwnedFd, stat: &Stat, path: &[u8], from: From) -> Result<(), Error> {
        let kind = tree::file_type(stat.st_mode);
        let mut entry = described(stat, path);
        if from == From::Upper && is_whiteout(stat) {
            // All whiteouts of an overlay may be one inode, so this comes before what is said of links.
            let (parent, name) = split(path);
            let name = [parent, WHITEOUT, name].concat();
            let entry = Entry { name, mode: 0o600, uid: 0, gid: 0, mtime: (0, 0), ..entry };
            return self.put(&entry, &mut io::empty());
        }
        if kind == FileType::Directory {
            return self.directory(handle, entry, from);
        }
        if self.is_of_a_mount(stat, path)? {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                (entry.kind, entry.link) = (Kind::Hardlink, first.clone());
                return self.put(&entry, &mut io::empty());
            }
            if kind != FileType::Socket {
                self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
            }
        }
        match kind {
            FileType::RegularFile => {
                let mut file = File::from(open(&handle, OFlags::RDONLY, path)?);
                let attributes = tree::xattrs(&file).map_err(|e| read_error(path, e))?;
                if from == From::Upper && has(&attributes, "trusted.overlay.metacopy") {
                    file = File::from(
                        tree::open_in_root(self.mount()?.as_fd(), path, OFlags::RDONLY)
                            .map_err(|e| read_error(path, e))?,
                    );
                }
                entry.xattrs = self.kept(attributes, path, Kind::File);
                entry.size = u64::try_from(stat.st_size).unwrap_or_default();
                let mut data = Exactly { file, left: entry.size };
                self.put(&entry, &mut data)
            }
            FileType::Symlink => {
                entry.kind = Kind::Symlink;
                let target = rustix::fs::readlinkat(&handle, c"", Vec::new());
                entry.link = target.map_err(|e| read_error(path, e))?.into_bytes();
                self.put(&entry, &mut io::empty())
            }
            FileType::Fifo => {
                entry.kind = Kind::Fifo;
                self.put(&entry, &mut io::empty())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                entry.kind = if kind == FileType::BlockDevice { Kind::Block } else { Kind::Char };
                entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                self.put(&entry, &mut io::empty())
            }
            // It means nothing without who listens on it; docker leaves it out as well.
            FileType::Socket | FileType::Directory | FileType::Unknown => Ok(()),
        }
    }

    fn directory(&mut self, handle: OwnedFd, mut entry: Entry, from: From) -> Result<(), Error> {
        let path = entry.name.clone();
        if path.iter().filter(|b| **b == b'/').count() >= DEPTH_MAX {
            let reason = format!("it lies more than {DEPTH_MAX} directories deep");
            return Err(Error::Entry { name: show(&path), reason });
        }
        let opened = open(&handle, OFlags::RDONLY | OFlags::DIRECTORY, &path)?;
        drop(handle); // one descriptor a level is enough
        let attributes = tree::xattrs(&opened).map_err(|e| read_error(&path, e))?;
        let opaque = attributes.iter().any(|(name, value)| {
            name.to_bytes() == b"trusted.overlay.opaque" && value == b"y" // `x` says something of its entries
        });
        let redirected = from == From::Upper && has(&attributes, "trusted.overlay.redirect");
        entry.kind = Kind::Directory;
        entry.xattrs = self.kept(attributes, &path, Kind::Directory);
        if redirected {
            // What is in it is another directory's of the layers below.
            self.put(&entry, &mut io::empty())?;
            self.hide(&path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let whole = tree::open_in_root(self.mount()?.as_fd(), &path, flags).map_err(|e| read_error(&path, e))?;
            return self.children(&whole, &path, From::Mount);
        }
        if from == From::Upper && self.may_be_of_a_mount(&entry, opaque)? {
            self.waiting.push(entry);
            let waiting = self.waiting.len();
            self.children(&opened, &path, from)?;
            if self.waiting.len() == waiting {
                self.waiting.pop(); // nothing was in it
            }
            return Ok(());
        }
        self.put(&entry, &mut io::empty())?;
        if from == From::Upper && opaque {
            self.hide(&path)?;
        }
        self.children(&opened, &path, from)
    }

    /// Hides what the layers below have in a directory.
    fn hide(&mut self, path: &[u8]) -> Result<(), Error> {
        let entry = Entry {
            name: [path, b"/", OPAQUE].concat(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        };
        self.put(&entry, &mut io::empty())
    }

    /// Returns whether a directory is there for what is mounted in it or below alone, if nothing else is in it.
    fn may_be_of_a_mount(&self, entry: &Entry, opaque: bool) -> Result<bool, Error> {
        if !self.above.contains(&entry.name) {
            return Ok(false);
        }
        let found = self.below.lookup(&entry.name)?.filter(|found| found.file_type() == FileType::Directory);
        let Some(found) = found else {
            // As a start makes them.
            return Ok((entry.mode, entry.uid, entry.gid) == (0o755, 0, 0) && entry.xattrs.is_empty());
        };
        let theirs = (found.stat.st_mode & 0o7777, found.stat.st_uid, found.stat.st_gid);
        let attributes = found.xattrs().map_err(|e| read_error(&entry.name, e))?;
        let attributes = attributes.into_iter().filter(|(name, _)| is_kept(name.to_bytes(), Kind::Directory));
        let same = attributes.map(|(name, value)| (name.into_bytes(), value)).collect::<Vec<_>>() == entry.xattrs;
        Ok(!opaque && same && (entry.mode, entry.uid, entry.gid) == theirs)
    }

    /// Returns whether something that is no directory was made by a start: an empty file to mount on, or a device.
    fn is_of_a_mount(&self, stat: &Stat, path: &[u8]) -> Result<bool, Error> {
        if !self.places.contains(path) || self.below.lookup(path)?.is_some() {
            return Ok(false);
        }
        Ok(match tree::file_type(stat.st_mode) {
            FileType::RegularFile => stat.st_size == 0,
            FileType::CharacterDevice | FileType::BlockDevice => true,
            FileType::Directory | FileType::Symlink | FileType::Fifo | FileType::Socket | FileType::Unknown => false,
        })
    }

    /// Returns the extended attributes that a layer keeps.
    fn kept(&mut self, all: Vec<(std::ffi::CString, Vec<u8>)>, path: &[u8], kind: Kind) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut kept = Vec::new();
        for (name, value) in all.into_iter().filter(|(name, _)| is_kept(name.to_bytes(), kind)) {
            if name.to_bytes().contains(&b'=') {
                let name = show(name.to_bytes());
                let sentence = format!("the attribute `{name}` of `/{}` is left out: no tar can have it", show(path));
                self.written.warnings.insert(sentence);
                continue;
            }
            kept.push((name.into_bytes(), value));
        }
        kept
    }

    /// Returns the root of all layers as a container sees them.
    fn mount(&mut self) -> Result<&OwnedFd, Error> {
        if self.mounted.is_none() {
            let mounted = sys::mount::overlay(&self.whole, None);
            let path = self.whole.last().map_or(Path::new("/"), PathBuf::as_path);
            self.mounted = Some(mounted.map_err(store_error("mount", path))?);
        }
        Ok(self.mounted.as_ref().expect("just set"))
    }
}

/// Returns whether a layer keeps an attribute; `unpack` sets no other.
fn is_kept(name: &[u8], kind: Kind) -> bool {
    name.starts_with(b"user.")
        || (name == b"security.capability" && kind == Kind::File)
        || name == b"system.posix_acl_access"
        || (name == b"system.posix_acl_default" && kind == Kind::Directory)
}

fn has(attributes: &[(std::ffi::CString, Vec<u8>)], name: &str) -> bool {
    attributes.iter().any(|(n, _)| n.to_bytes() == name.as_bytes())
}

fn is_whiteout(stat: &Stat) -> bool {
    tree::file_type(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Returns the directory of a path, with a slash at its end unless it is the root, and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1))
}

/// Opens for good what a descriptor stands for, through our own `/proc/self/fd`.
fn open(handle: &OwnedFd, flags: OFlags, path: &[u8]) -> Result<OwnedFd, Error> {
    let file = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::open(file, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| read_error(path, e))
}

fn described(stat: &Stat, name: &[u8]) -> Entry {
    Entry {
        name: name.to_vec(),
        kind: Kind::File,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, 0),
        size: 0,
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

fn read_error<E: Into<io::Error>>(path: &[u8], source: E) -> Error {
    Error::Layer { path: show(path), source: source.into() }
}

/// Passes bytes on until it is told to stop.
struct Stopping<'a, W> {
    out: W,
    stop: &'a AtomicBool,
}

impl<W: Write> Write for Stopping<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was told to stop"));
        }
        self.out.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid, XattrFlags};

    use super::*;
    use crate::image::tarball::Reader;
    use crate::sys::mount::overlay;

    /// An overlay of one layer and a writable directory on a tmpfs; what is done in it shows in the directory.
    struct Overlay {
        dir: tempfile::TempDir,
        root: OwnedFd,
        places: Vec<String>,
    }

    impl Overlay {
        fn new(fill: impl FnOnce(&Path), places: &[&str]) -> Self {
            let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
            let path = |name: &str| dir.path().join(name);
            for name in ["lower", "upper", "work"] {
                fs::create_dir(path(name)).expect("a directory");
            }
            fill(&path("lower"));
            let (upper, work) = (path("upper"), path("work"));
            let root = overlay(&[path("lower")], Some(sys::mount::Upper { upper: &upper, work: &work }));
            let places = places.iter().map(|place| (*place).to_owned()).collect();
            Self { root: root.expect("an overlay"), dir, places }
        }

        /// Returns where the overlay can be reached by name.
        fn at(&self, name: &str) -> PathBuf {
            PathBuf::from(format!("/proc/self/fd/{}/{name}", self.root.as_raw_fd()))
        }

        fn upper(&self) -> Upper {
            Upper {
                path: self.dir.path().join("upper"),
                layers: vec![self.dir.path().join("lower")],
                places: self.places.clone(),
                epoch: None,
            }
        }

        fn tar(&self) -> (Vec<u8>, Written) {
            let mut tar = Vec::new();
            let written = write(&self.upper(), &mut tar, &AtomicBool::new(false)).expect("readable");
            (tar, written)
        }

        fn entries(&self) -> Vec<Entry> {
            entries(&self.tar().0)
        }

        /// A line an entry, without times.
        fn listed(&self) -> String {
            self.entries().iter().map(line).collect()
        }
    }

    fn entries(tar: &[u8]) -> Vec<Entry> {
        let mut reader = Reader::new(tar);
        let mut all = Vec::new();
        while let Some(entry) = reader.next().expect("a tar") {
            all.push(entry);
        }
        all
    }

    fn line(entry: &Entry) -> String {
        let Entry { name, kind, link, mode, uid, gid, size, device, xattrs, .. } = entry;
        let mut text = format!("{} {kind:?} {mode:o} {uid}:{gid}", show(name));
        if !link.is_empty() {
            text.push_str(&format!(" -> {}", show(link)));
        }
        if *size > 0 {
            text.push_str(&format!(" {size} bytes"));
        }
        if *device != (0, 0) {
            text.push_str(&format!(" {device:?}"));
        }
        for (name, value) in xattrs {
            text.push_str(&format!(" {}={}", show(name), show(value)));
        }
        text + "\n"
    }

    fn set(path: &Path, name: &str, value: &[u8]) {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).expect("an attribute");
    }

    /// Unpacks the tar beside the layer and shows both as one; returns a line a file.
    fn shown_again(overlay: &Overlay) -> Vec<String> {
        let again = overlay.dir.path().join("again");
        fs::create_dir(&again).expect("a directory");
        let limits = crate::image::unpack::Limits::default();
        crate::image::unpack::unpack(&overlay.tar().0[..], "again", &again, limits).expect("our own is readable");
        let root = sys::mount::overlay(&[overlay.dir.path().join("lower"), again], None).expect("an overlay");
        tree_of(&root)
    }

    fn tree_of(root: &OwnedFd) -> Vec<String> {
        fn walk(dir: &Path, prefix: &str, all: &mut Vec<String>) {
            let mut names: Vec<_> =
                fs::read_dir(dir).expect("there").map(|e| e.expect("an entry").file_name()).collect();
            names.sort();
            for name in names {
                let path = dir.join(&name);
                let meta = fs::symlink_metadata(&path).expect("there");
                let shown = format!("{prefix}/{}", name.to_string_lossy());
                let what = match meta.file_type() {
                    t if t.is_symlink() => fs::read_link(&path).expect("a link").display().to_string(),
                    t if t.is_file() => String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned(),
                    _ => String::new(),
                };
                let (mode, uid, gid, mtime) = (meta.mode(), meta.uid(), meta.gid(), meta.mtime());
                all.push(format!("{shown} {mode:o} {uid}:{gid} {mtime} {} {what}", meta.rdev()));
                if meta.is_dir() {
                    walk(&path, &shown, all);
                }
            }
        }
        let mut all = Vec::new();
        walk(&PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())), "", &mut all);
        all
    }

    fn base(lower: &Path) {
        for dir in ["etc", "gone/deep", "anew", "kept"] {
            fs::create_dir_all(lower.join(dir)).expect("a directory");
        }
        for file in ["etc/passwd", "etc/removed", "gone/deep/f", "anew/old", "kept/f", "kept/g"] {
            fs::write(lower.join(file), file).expect("a file");
        }
    }

    #[test]
    fn every_change_is_an_entry_and_unpacked_it_shows_the_same_files() {
        if !crate::testing::is_root() {
            return;
        }
        let it = Overlay::new(base, &[]);
        fs::remove_file(it.at("etc/removed")).expect("removed");
        fs::remove_dir_all(it.at("gone")).expect("removed");
        fs::remove_dir_all(it.at("anew")).expect("removed");
        fs::create_dir(it.at("anew")).expect("made");
        fs::write(it.at("anew/new"), "new").expect("written");
        fs::write(it.at("kept/f"), "changed").expect("written");
        fs::write(it.at("run"), "#!").expect("written");
        rustix::fs::chown(it.at("run"), Some(Uid::from_raw(7)), Some(Gid::from_raw(8))).expect("root");
        rustix::fs::chmod(it.at("run"), Mode::from_raw_mode(0o4750)).expect("root");
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        fs::write(it.at("capable"), "").expect("written");
        set(&it.at("capable"), "security.capability", capability);
        fs::hard_link(it.at("run"), it.at("again")).expect("linked");
        symlink("/etc/passwd", it.at("link")).expect("linked");
        rustix::fs::mknodat(CWD, it.at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).expect("a pipe");
        let numbers = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, it.at("null"), FileType::CharacterDevice, Mode::RUSR, numbers).expect("a device");
        drop(std::os::unix::net::UnixListener::bind(it.dir.path().join("upper/socket")).expect("a socket"));
        let at = Timespec { tv_sec: 1_000_000_000, tv_nsec: 500 };
        let times = Timestamps { last_access: at, last_modification: at };
        rustix::fs::utimensat(CWD, it.at("run"), &times, AtFlags::empty()).expect("ours");
        insta::assert_snapshot!(it.listed().replace(&show(capability), "[CAPABILITY]"), @r"
        again File 4750 7:8 2 bytes
        anew/ Directory 755 0:0
        anew/.wh..wh..opq File 600 0:0
        anew/new File 644 0:0 3 bytes
        capable File 644 0:0 security.capability=[CAPABILITY]
        etc/ Directory 755 0:0
        etc/.wh.removed File 600 0:0
        .wh.gone File 600 0:0
        kept/ Directory 755 0:0
        kept/f File 644 0:0 7 bytes
        link Symlink 777 0:0 -> /etc/passwd
        null Char 400 0:0 (1, 3)
        pipe Fifo 600 0:0
        run Hardlink 4750 7:8 -> again
        ");
        let run = it.entries().into_iter().find(|e| e.name == b"again").expect("there");
        assert_eq!(run.mtime, (1_000_000_000, 0));
        assert_eq!(it.tar().0, it.tar().0, "the same files give the same tar");
        fs::remove_file(it.dir.path().join("upper/socket")).expect("there");
        assert_eq!(shown_again(&it), tree_of(&it.root));
    }

    #[test]
    fn what_a_start_makes_to_mount_on_is_no_change() {
        if !crate::testing::is_root() {
            return;
        }
        let fill = |lower: &Path| {
            base(lower);
            fs::create_dir_all(lower.join("var")).expect("a directory");
            symlink("/run", lower.join("var/run")).expect("a link");
            fs::create_dir(lower.join("run")).expect("a directory");
        };
        let places = ["/proc", "/etc/hosts", "/var/run/secrets/token", "/data/deep", "/etc/passwd", "/dev/x/node"];
        let it = Overlay::new(fill, &places);
        for dir in ["proc", "run/secrets", "data/deep", "dev/x"] {
            fs::create_dir_all(it.at(dir)).expect("made");
        }
        for file in ["etc/hosts", "run/secrets/token"] {
            fs::write(it.at(file), "").expect("made");
        }
        let numbers = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, it.at("dev/x/node"), FileType::CharacterDevice, Mode::RUSR, numbers).expect("made");
        let (_, written) = it.tar();
        assert_eq!((written.entries, it.listed()), (0, String::new()));
        // What the container has made beside them is its own, and so are the directories above that.
        fs::write(it.at("run/secrets/mine"), "x").expect("written");
        fs::write(it.at("etc/hosts"), "not empty").expect("written");
        rustix::fs::chmod(it.at("data"), Mode::from_raw_mode(0o700)).expect("root");
        fs::create_dir(it.at("empty")).expect("made");
        insta::assert_snapshot!(it.listed(), @r"
        data/ Directory 700 0:0
        empty/ Directory 755 0:0
        etc/ Directory 755 0:0
        etc/hosts File 644 0:0 9 bytes
        run/ Directory 755 0:0
        run/secrets/ Directory 755 0:0
        run/secrets/mine File 644 0:0 1 bytes
        ");
    }

    #[test]
    fn names_that_a_layer_cannot_have_are_told() {
        if !crate::testing::is_root() {
            return;
        }
        let it = Overlay::new(base, &[]);
        fs::write(it.at(".wh.etc"), "").expect("written");
        fs::write(it.at("f"), "").expect("written");
        set(&it.at("f"), "user.a=b", b"1");
        set(&it.at("f"), "user.c", b"2");
        let (tar, written) = it.tar();
        assert_eq!(entries(&tar).iter().map(line).collect::<String>(), "f File 644 0:0 user.c=2\n");
        let told: Vec<String> = written.warnings.into_iter().collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().any(|t| t.contains("`/.wh.etc` is left out")), "{told:?}");
    }

    #[test]
    fn a_directory_that_the_kernel_has_only_moved_is_whole() {
        if !crate::testing::is_root() {
            return;
        }
        // As `redirect_dir=on` and `metacopy=on` leave it, which other hosts have by default.
        let it = Overlay::new(base, &[]);
        let upper = it.dir.path().join("upper");
        let Overlay { dir, places, root } = it;
        drop(root);
        fs::create_dir(upper.join("moved")).expect("made");
        set(&upper.join("moved"), "trusted.overlay.redirect", b"/gone");
        rustix::fs::mknodat(CWD, upper.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).expect("a whiteout");
        let root = overlay(&[dir.path().join("lower")], None).expect("an overlay");
        let it = Overlay { dir, root, places };
        insta::assert_snapshot!(it.listed(), @r"
        .wh.gone File 600 0:0
        moved/ Directory 755 0:0
        moved/.wh..wh..opq File 600 0:0
        moved/deep/ Directory 755 0:0
        moved/deep/f File 644 0:0 11 bytes
        ");
    }

    #[test]
    fn it_stops_when_it_is_told_to() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("f"), "").expect("written");
        let upper = Upper { path: dir.path().to_owned(), layers: Vec::new(), places: Vec::new(), epoch: None };
        let error = write(&upper, io::sink(), &AtomicBool::new(true)).expect_err("told to");
        assert_eq!(error.to_string(), "cannot read `/f` of the container");
    }
}
