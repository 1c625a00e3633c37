//! `COPY` and `ADD`: from files of a context, of an image or of the Dockerfile to the entries of a layer.
//!
//! An entry is chosen by its path in the image; a later source wins. Directories above an entry are entries as well, with the
//! attributes that they have in the layers below, so that the layer needs nothing but itself.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::build::chmod::Chmod;
use crate::build::configure::{Failure, fail};
use crate::build::context::{Context, Found, Ignore};
use crate::build::explain::{FILES, Inputs};
use crate::diag::{Diagnostic, Span, nearest};
use crate::image::Error;
use crate::image::diff::WHITEOUT;
use crate::image::digest::Digest;
use crate::image::fixup::{Node, View};
use crate::image::tarball::{Entry, Kind};
use crate::image::writer::Writer;
use crate::name::hex;

/// Largest `/etc/passwd` that is read.
const PASSWD_MAX: u64 = 10 << 20;

/// What is copied, variables expanded.
#[derive(Debug)]
pub(super) enum Source {
    /// What a path with wildcards names in a context.
    Path {
        /// The path, as it was written.
        text: String,
        /// Where it is looked for.
        root: Arc<Context>,
        /// Where it is written.
        span: Span,
    },
    /// One path of a context.
    Exact {
        /// The path, clean.
        path: Vec<u8>,
        /// Its last part is the file's name; else there is none.
        is_named: bool,
        /// What named it.
        text: String,
        /// Where it is.
        root: Arc<Context>,
        /// Where it is written.
        span: Span,
    },
    /// A text, and the name of the file that it becomes.
    Text {
        /// The name.
        name: String,
        /// The text.
        content: Vec<u8>,
    },
    /// All of a tree that was unpacked from an archive.
    Unpacked {
        /// The tree.
        root: Arc<Context>,
        /// Where the archive is written.
        span: Span,
    },
}

/// One `COPY` or `ADD`.
#[derive(Debug)]
pub(super) struct Copying<'a> {
    /// `COPY` or `ADD`.
    pub(super) keyword: &'static str,
    pub(super) sources: Vec<Source>,
    /// As it was written.
    pub(super) dest: &'a str,
    /// The same from the root, clean.
    pub(super) path: &'a str,
    pub(super) dest_span: Span,
    /// Owner of all that is copied; `None` is root, or the one that files of an image have.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) chmod: Option<Chmod>,
    /// Keep the directories above what is copied.
    pub(super) parents: bool,
    pub(super) exclude: Ignore,
}

/// Data of an entry.
#[derive(Debug)]
enum Data {
    None,
    File(Arc<Context>, Vec<u8>),
    Text(Vec<u8>),
}

/// One entry of a layer.
#[derive(Debug)]
struct Piece {
    entry: Entry,
    data: Data,
    /// Its path in the context of the host that it is of.
    source: Option<Vec<u8>>,
    /// Its time is that of a file of the host.
    is_new: bool,
}

/// The digest of a file's data; nothing has none but a file.
pub(super) type FileDigest = Option<[u8; 32]>;

/// All entries of a layer, sorted.
#[derive(Debug)]
pub(super) struct Pieces {
    all: Vec<Piece>,
    /// Time of what is newest, in seconds since the epoch.
    newest: Option<i64>,
    /// Whose files they are, if they are the host's.
    pub(super) host: Option<Arc<Context>>,
}

impl Pieces {
    /// Returns the time of what is newest, in seconds since the epoch.
    pub(super) fn newest(&self, latest: Option<i64>) -> Option<i64> {
        self.newest.map(|time| latest.map_or(time, |latest| time.min(latest)))
    }

    /// Writes the layer, with no time later than `latest` but for what was there; returns the digest of all but times, and that
    /// of each file.
    ///
    /// # Errors
    /// When a file cannot be read or the layer not be written.
    pub(super) fn write(&self, out: impl io::Write, latest: Option<i64>) -> io::Result<(Digest, Vec<FileDigest>)> {
        let mut writer = Writer::hashing(out);
        let mut digests = Vec::with_capacity(self.all.len());
        for Piece { entry, data, is_new, .. } in &self.all {
            let mut early = None;
            let entry = match latest.filter(|latest| *is_new && entry.mtime.0 > *latest) {
                Some(latest) => early.insert(Entry { mtime: (latest, 0), ..entry.clone() }),
                None => entry,
            };
            let digest = match data {
                Data::None => writer.entry(entry, &mut io::empty())?,
                Data::Text(text) => writer.entry(entry, &mut &text[..])?,
                Data::File(root, path) => {
                    let mut file = root.read(path)?.take(entry.size);
                    let digest = writer.entry(entry, &mut file)?;
                    if file.limit() > 0 {
                        return Err(io::Error::other("a file became shorter while it was read"));
                    }
                    digest
                }
            };
            digests.push(digest);
        }
        Ok((writer.finish_hashed()?, digests))
    }

    /// Returns what the layer is made of, with the digests of its files.
    pub(super) fn inputs(&self, content: &Digest, digests: &[FileDigest]) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.set(self.all.len(), content);
        for (Piece { entry, source, .. }, digest) in self.all.iter().zip(digests).take(FILES) {
            let name = source.as_deref().map_or_else(|| format!("/{}", shown(&entry.name)), shown);
            let content = match (entry.kind, digest) {
                (Kind::Symlink | Kind::Hardlink, _) => shown(&entry.link),
                (_, Some(digest)) => hex(&digest[..8]),
                (_, None) => String::new(),
            };
            let Entry { kind, mode, uid, gid, device, xattrs, .. } = entry;
            let more = if xattrs.is_empty() { String::new() } else { format!(" {xattrs:?}") };
            let device = if *device == (0, 0) { String::new() } else { format!(" {device:?}") };
            inputs.file(&name, &format!("{kind:?} {mode:04o} {uid}:{gid} {content}{device}{more}"));
        }
        inputs
    }
}

/// What is going to be at a path.
#[derive(Debug)]
enum Planned {
    /// A directory that need not have a source.
    Directory,
    Found(Arc<Context>, Found),
    /// From an archive: it takes the place of whatever is there.
    Unpacked(Arc<Context>, Found),
    Text(Vec<u8>),
}

impl Planned {
    fn of(root: &Arc<Context>, found: Found, is_archive: bool) -> Self {
        if is_archive { Self::Unpacked(root.clone(), found) } else { Self::Found(root.clone(), found) }
    }
}

struct Copier<'a> {
    copying: &'a Copying<'a>,
    view: &'a View,
    all: BTreeMap<Vec<u8>, Planned>,
    newest: Option<i64>,
}

/// Returns the entries of the layer that a `COPY` or `ADD` makes on top of `view`.
///
/// # Errors
/// What is not there, cannot be read, or cannot be where it is to be.
pub(super) fn pieces(copying: &Copying<'_>, view: &View, span: Span, epoch: Option<i64>) -> Result<Pieces, Failure> {
    let mut copier = Copier { copying, view, all: BTreeMap::new(), newest: None };
    copier.sources(span)?;
    copier.finish(epoch, span)
}

/// Says what the store has to say at a place.
pub(super) fn of_store(span: Span) -> impl Fn(Error) -> Failure {
    move |error| Box::new(Diagnostic { span: Some(span), ..Diagnostic::from_error(&error) })
}

/// Resolves `user`, `user:group`, numbers or names of the image. A number alone is the group too (Docker, `COPY
/// --chown`).
///
/// # Errors
/// When the image has no such name.
pub(super) fn owner(text: &str, view: &View, span: Span) -> Result<(u32, u32), Failure> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let number = |t: &str| t.parse::<u32>().ok().filter(|n| *n <= i32::MAX.unsigned_abs());
    let table = |path: &str, name: &str| -> Result<Option<(u32, u32)>, Failure> {
        let bytes = view.read(path.as_bytes(), PASSWD_MAX).map_err(of_store(span))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let id = fields.nth(1).and_then(|f| f.parse().ok())?;
            found.then(|| (id, fields.next().and_then(|f| f.parse().ok()).unwrap_or(id)))
        }))
    };
    let unknown =
        |kind: &str, name: &str, file: &str| fail(span, format!("the image has no {kind} `{name}` in its `{file}`"));
    let (uid, own_gid) = match number(user) {
        Some(uid) => (uid, uid),
        None => table("etc/passwd", user)?.ok_or_else(|| unknown("user", user, "/etc/passwd"))?,
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match number(group) {
            Some(gid) => gid,
            None => table("etc/group", group)?.ok_or_else(|| unknown("group", group, "/etc/group"))?.0,
        },
    };
    Ok((uid, gid))
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir, name) {
        ([], _) => name.to_vec(),
        (_, []) => dir.to_vec(),
        _ => [dir, b"/", name].concat(),
    }
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Something found, and how much of its path is left out in the image.
struct Hit {
    root: Arc<Context>,
    found: Found,
    /// With `--parents`: bytes of the path before the pivot.
    pivot: usize,
    span: Span,
}

impl Copier<'_> {
    fn sources(&mut self, span: Span) -> Result<(), Failure> {
        let Copying { keyword, dest, dest_span, .. } = *self.copying;
        let target = self.view.resolve(self.copying.path.as_bytes(), true).map_err(of_store(dest_span))?;
        let there = self.view.lookup(&target).map_err(of_store(dest_span))?.map(|n| n.file_type());
        let slash = dest.ends_with('/') || matches!(dest, "." | "..") || dest.ends_with("/.");
        let mut hits = Vec::new();
        let mut others = 0;
        for source in &self.copying.sources {
            match source {
                Source::Path { text, root, span } => self.look(text, root, *span, &mut hits)?,
                Source::Exact { path, is_named, text, root, span } => {
                    let found = self.source(path, text, root, *span)?;
                    if !is_named && (slash || there == Some(FileType::Directory)) {
                        let message =
                            format!("neither `{text}` nor its server says how the file in `{dest}` is to be called");
                        return Err(Box::new(
                            fail(*span, message)
                                .help(format!("write the name, as `{}/NAME`", dest.trim_end_matches('/'))),
                        ));
                    }
                    hits.push(Hit { root: root.clone(), found, pivot: 0, span: *span });
                }
                Source::Text { .. } | Source::Unpacked { .. } => others += 1,
            }
        }
        if hits.len() + others > 1 && !slash && there != Some(FileType::Directory) {
            let message = format!("several files are copied, so `{dest}` must be a directory");
            return Err(Box::new(fail(dest_span, message).help(format!("write `{dest}/`"))));
        }
        let into_dir = slash || there == Some(FileType::Directory);
        for Hit { root, found, pivot, span } in hits {
            self.newest = self.newest.max(Some(found.stat.st_mtime));
            let is_dir = found.kind() == FileType::Directory;
            if self.copying.parents {
                let kept = found.path.get(pivot..).unwrap_or_default().to_vec();
                self.parents(&root, &found.path, pivot, &target, span)?;
                let path = join(&target, &kept);
                if is_dir {
                    let from = found.path.clone();
                    if !kept.is_empty() {
                        self.all.insert(path.clone(), Planned::Found(root.clone(), found));
                    }
                    self.children(&root, &from, b"", &path, (false, span))?;
                } else {
                    self.all.insert(path, Planned::Found(root, found));
                }
            } else if is_dir {
                self.all.entry(target.clone()).or_insert(Planned::Directory);
                self.children(&root, &found.path, b"", &target, (false, span))?;
            } else if self.copying.exclude.hides(last(&found.path)).is_none() {
                let path = if into_dir { join(&target, last(&found.path)) } else { target.clone() };
                self.file_at(&path, into_dir)?;
                self.all.insert(path, Planned::Found(root, found));
            }
        }
        for source in &self.copying.sources {
            match source {
                Source::Path { .. } | Source::Exact { .. } => {}
                Source::Text { name, content } => {
                    let path = if into_dir { join(&target, name.as_bytes()) } else { target.clone() };
                    self.file_at(&path, into_dir)?;
                    self.all.insert(path, Planned::Text(content.clone()));
                }
                Source::Unpacked { root, span } => {
                    self.all.entry(target.clone()).or_insert(Planned::Directory);
                    self.children(root, b"", b"", &target, (true, *span))?;
                }
            }
        }
        if self.all.is_empty() && !self.copying.parents {
            // All of it is excluded: the destination is made all the same.
            if into_dir {
                self.all.insert(target, Planned::Directory);
            } else {
                return Err(fail(span, format!("{keyword} copies nothing: all of it is excluded")));
            }
        }
        Ok(())
    }

    fn file_at(&self, path: &[u8], into_dir: bool) -> Result<(), Failure> {
        if path.is_empty() && !into_dir {
            return Err(fail(self.copying.dest_span, "a file cannot replace the root directory"));
        }
        Ok(())
    }

    /// Finds what a source names; what `.dockerignore` hides is not there.
    fn look(&self, text: &str, root: &Arc<Context>, span: Span, hits: &mut Vec<Hit>) -> Result<(), Failure> {
        // With `--parents`, all before `/./` is only where to look.
        let before = text.find("/./").filter(|_| self.copying.parents).map_or("", |at| &text[..at]);
        let pivot = match super::context::clean(before.as_bytes()).len() {
            0 => 0,
            n => n + 1,
        };
        let paths = root.glob(text.as_bytes()).map_err(|e| fail(span, e.to_string()))?;
        if paths.is_empty() {
            return Err(fail(span, format!("nothing in {} fits `{text}`", root.title)));
        }
        for path in paths {
            let found = self.source(&path, text, root, span)?;
            hits.push(Hit { root: root.clone(), found, pivot, span });
        }
        Ok(())
    }

    fn source(&self, path: &[u8], written: &str, root: &Arc<Context>, at: Span) -> Result<Found, Failure> {
        let title = &root.title;
        let whole_directory_stays = |found: &Found| {
            found.kind() == FileType::Directory && root.ignore.has_exceptions() && shows_something(root, &found.path)
        };
        let found = root.find(path).map_err(|e| match e {
            Errno::NOENT | Errno::NOTDIR => {
                let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
                    Some(i) => (&path[..i], &path[i + 1..]),
                    None => (&b""[..], path),
                };
                let beside = root.children(dir).unwrap_or_default(); // only to help
                let names: Vec<String> = beside.iter().map(|f| shown(last(&f.path))).collect();
                let help =
                    nearest(&shown(name), names.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
                let mut failure = fail(at, format!("`{written}` is not in {title}"));
                failure.help = help;
                failure
            }
            Errno::XDEV => fail(at, format!("`{written}` leads out of {title} through a symbolic link")),
            e => fail(at, format!("cannot read `{written}` in {title}: {}", io::Error::from(e))),
        })?;
        // The context itself is never hidden, only what is in it.
        if !path.is_empty()
            && let Some(line) = root.ignore.hides(path)
            && !whole_directory_stays(&found)
        {
            return Err(fail(at, format!("`{written}` is hidden by line {line} of `.dockerignore`")));
        }
        check_kind(found, root, at)
    }

    /// Adds the directories between the pivot and what is copied, as they are in the source.
    fn parents(
        &mut self,
        root: &Arc<Context>,
        path: &[u8],
        pivot: usize,
        target: &[u8],
        at: Span,
    ) -> Result<(), Failure> {
        for (i, _) in path.iter().enumerate().filter(|(i, b)| **b == b'/' && *i > pivot) {
            let found = root.find(&path[..i]).map_err(|e| fail(at, io::Error::from(e).to_string()))?;
            self.all.entry(join(target, &path[pivot..i])).or_insert_with(|| Planned::Found(root.clone(), found));
        }
        Ok(())
    }

    /// Adds what is in a directory of a source; `below` is its path in what is copied. Returns whether there was something.
    fn children(
        &mut self,
        root: &Arc<Context>,
        dir: &[u8],
        below: &[u8],
        target: &[u8],
        (is_archive, at): (bool, Span),
    ) -> Result<bool, Failure> {
        let mut any = false;
        let all =
            root.children(dir).map_err(|e| fail(at, format!("cannot read `{}` in {}: {e}", shown(dir), root.title)))?;
        for child in all {
            let name = last(&child.path).to_vec();
            let (path, inner) = (join(target, &name), join(below, &name));
            let hidden = root.ignore.hides(&child.path).is_some() || self.copying.exclude.hides(&inner).is_some();
            if child.kind() == FileType::Directory {
                if hidden && !root.ignore.has_exceptions() && !self.copying.exclude.has_exceptions() {
                    continue;
                }
                let shown = self.children(root, &child.path, &inner, &path, (is_archive, at))?;
                // One that is hidden is there for what is shown in it.
                if shown || !hidden {
                    any = true;
                    self.all.insert(path, Planned::of(root, child, is_archive));
                }
            } else if !hidden && child.kind() != FileType::Socket {
                let child = check_kind(child, root, at)?;
                self.newest = self.newest.max(Some(child.stat.st_mtime));
                any = true;
                self.all.insert(path, Planned::of(root, child, is_archive));
            }
        }
        Ok(any)
    }

    /// Completes the parents and makes the entries, sorted by path. A directory that the image has keeps its attributes; a
    /// new one is 0755 and has the time of what is newest.
    fn finish(mut self, epoch: Option<i64>, span: Span) -> Result<Pieces, Failure> {
        let dest_span = self.copying.dest_span;
        let parents: Vec<Vec<u8>> = self
            .all
            .keys()
            .flat_map(|path| path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| path[..i].to_vec()))
            .collect();
        for parent in parents {
            self.all.entry(parent).or_insert(Planned::Directory);
        }
        self.all.entry(Vec::new()).or_insert(Planned::Directory);
        let is_marked =
            |path: &&Vec<u8>| path.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(WHITEOUT));
        if let Some(path) = self.all.keys().find(is_marked) {
            let message = format!("`/{}` cannot be in an image: in a layer such a name removes a file", shown(path));
            return Err(Box::new(fail(span, message).help("rename it, or name it in `.dockerignore`")));
        }
        let clamp = |time: i64| epoch.map_or(time, |epoch| time.min(epoch));
        let newest = clamp(self.newest.or(epoch).unwrap_or_default());
        let mut all = Vec::new();
        // Names of one file stay names of one file: by tree, device and inode, the first path.
        let mut links: BTreeMap<(*const Context, u64, u64), Vec<u8>> = BTreeMap::new();
        for (path, planned) in std::mem::take(&mut self.all) {
            let below = self.view.lookup(&path).map_err(of_store(dest_span))?;
            let is_dir = match &planned {
                Planned::Directory => true,
                Planned::Found(_, found) | Planned::Unpacked(_, found) => found.kind() == FileType::Directory,
                Planned::Text(_) => false,
            };
            let replaces = matches!(planned, Planned::Unpacked(..));
            match below.as_ref().map(Node::file_type).filter(|_| !replaces) {
                Some(FileType::Directory) if !is_dir => {
                    let message = format!("a file cannot replace the directory `/{}`", shown(&path));
                    return Err(fail(dest_span, message));
                }
                Some(kind) if is_dir && kind != FileType::Directory => {
                    return Err(fail(dest_span, format!("`/{}` in the image is not a directory", shown(&path))));
                }
                _ => {}
            }
            let root_owner = self.copying.owner.unwrap_or((0, 0));
            let mut entry = Entry {
                name: path.clone(),
                kind: if is_dir { Kind::Directory } else { Kind::File },
                link: Vec::new(),
                mode: if is_dir { 0o755 } else { 0o644 },
                uid: root_owner.0,
                gid: root_owner.1,
                mtime: (newest, 0),
                size: 0,
                device: (0, 0),
                xattrs: Vec::new(),
            };
            let (mut data, mut source) = (Data::None, None);
            // A directory that is there already keeps its time, and what comes from an archive has its own.
            let is_new = !matches!((&planned, &below), (Planned::Directory, Some(_)) | (Planned::Unpacked(..), _));
            match (planned, below) {
                (Planned::Directory, Some(below)) => {
                    entry.mode = below.stat.st_mode & 0o7777;
                    (entry.uid, entry.gid) = (below.stat.st_uid, below.stat.st_gid);
                    entry.mtime = (below.stat.st_mtime, 0);
                }
                (Planned::Directory, _) if path.is_empty() => (entry.uid, entry.gid) = (0, 0),
                (Planned::Directory, _) => {
                    // As BuildKit does; a symbolic mode says nothing of what was not there.
                    if let Some(Chmod::Octal(mode)) = self.copying.chmod {
                        entry.mode = mode;
                    }
                }
                (Planned::Text(text), _) => {
                    entry.size = text.len() as u64;
                    if let Some(chmod) = &self.copying.chmod {
                        entry.mode = chmod.apply(entry.mode, false);
                    }
                    data = Data::Text(text);
                }
                (Planned::Found(root, found) | Planned::Unpacked(root, found), _) => {
                    let inode = (Arc::as_ptr(&root), found.stat.st_dev, found.stat.st_ino);
                    let has_names = found.kind() == FileType::RegularFile && found.stat.st_nlink > 1;
                    source = (!root.is_image).then(|| found.path.clone()).filter(|path| !path.is_empty());
                    data = self.describe(&mut entry, root, found, newest, &clamp, span)?;
                    if has_names {
                        match links.get(&inode) {
                            Some(first) => {
                                (entry.kind, entry.link, entry.size) = (Kind::Hardlink, first.clone(), 0);
                                (entry.xattrs, data) = (Vec::new(), Data::None);
                            }
                            None => drop(links.insert(inode, path)),
                        }
                    }
                }
            }
            all.push(Piece { entry, data, source, is_new });
        }
        let hosts = self.copying.sources.iter().filter_map(|source| match source {
            Source::Path { root, .. } | Source::Exact { root, .. } => Some(root),
            Source::Text { .. } | Source::Unpacked { .. } => None,
        });
        let host = hosts.into_iter().find(|root| !root.is_image).cloned();
        Ok(Pieces { all, newest: self.newest.map(clamp), host })
    }

    /// Gives an entry the attributes of what was found.
    fn describe(
        &self,
        entry: &mut Entry,
        root: Arc<Context>,
        found: Found,
        newest: i64,
        clamp: &dyn Fn(i64) -> i64,
        span: Span,
    ) -> Result<Data, Failure> {
        let is_dir = found.kind() == FileType::Directory;
        entry.mode = found.stat.st_mode & 0o7777;
        if root.is_image && self.copying.owner.is_none() {
            (entry.uid, entry.gid) = (found.stat.st_uid, found.stat.st_gid);
        }
        // A directory's time changes with every file made and removed in it.
        let own_time = !is_dir || root.is_image;
        entry.mtime = (if own_time { clamp(found.stat.st_mtime) } else { newest }, 0);
        if let Some(chmod) = &self.copying.chmod {
            entry.mode = chmod.apply(entry.mode, is_dir);
        }
        let device = || (rustix::fs::major(found.stat.st_rdev), rustix::fs::minor(found.stat.st_rdev));
        match found.kind() {
            FileType::Directory => {}
            FileType::Symlink => {
                entry.kind = Kind::Symlink;
                entry.mode = 0o777;
                entry.link = found.link;
            }
            FileType::CharacterDevice => (entry.kind, entry.device) = (Kind::Char, device()),
            FileType::BlockDevice => (entry.kind, entry.device) = (Kind::Block, device()),
            FileType::Fifo => entry.kind = Kind::Fifo,
            _ => {
                entry.size = u64::try_from(found.stat.st_size).unwrap_or_default();
                if root.is_image {
                    let failed = |e| fail(span, format!("cannot read `{}` in {}: {e}", shown(&found.path), root.title));
                    entry.xattrs = root.xattrs(&found.path).map_err(failed)?;
                }
                return Ok(Data::File(root, found.path));
            }
        }
        Ok(Data::None)
    }
}

/// Returns whether something in a directory that is hidden is shown all the same.
fn shows_something(root: &Context, dir: &[u8]) -> bool {
    let children = root.children(dir).unwrap_or_default(); // who copies it tells what is wrong
    children.iter().any(|child| {
        root.ignore.hides(&child.path).is_none()
            || child.kind() == FileType::Directory
                && root.ignore.may_show_below(&child.path)
                && shows_something(root, &child.path)
    })
}

/// Refuses what cannot be copied: from an image all can be but a socket, which goes with its process.
fn check_kind(found: Found, root: &Context, at: Span) -> Result<Found, Failure> {
    match found.kind() {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => Ok(found),
        _ if root.is_image => Ok(found),
        _ => {
            let message = format!("`{}` in {} is a socket, pipe or device", shown(&found.path), root.title);
            Err(Box::new(fail(at, message).help("name it in `.dockerignore`")))
        }
    }
}
