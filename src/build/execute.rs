//! Carries a Dockerfile out: reads the context, writes layers, derives the configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::io::Errno;
use serde_json::Map;

use crate::build::configure::{self, Failure, fail};
use crate::build::context::{Context, Found};
use crate::build::dockerfile::{self, Copy, Dockerfile, Instruction, Op, Source, Stage, Text, expand};
use crate::build::later;
use crate::diag::{Diagnostic, Report, Sources, Span, nearest};
use crate::fault;
use crate::image::config::{ContainerConfig, History, ImageConfig, RootFs, host_architecture};
use crate::image::digest::Digest;
use crate::image::fixup::View;
use crate::image::load;
use crate::image::reference::Reference;
use crate::image::store::{Image, Scratch, Store};
use crate::image::unpack::Unpacked;

/// Largest `/etc/passwd` that is read.
const PASSWD_MAX: u64 = 10 << 20;

/// An image that is to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Directory that `COPY` copies from.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// Name to give to the image.
    pub tag: Reference,
    /// Labels to add to those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
}

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// What is odd but allowed, with the text it is about.
    pub warnings: Report,
}

/// Builds an image and names it.
///
/// # Errors
/// All mistakes of the Dockerfile with their places, or the first thing that fails while it is carried out.
pub fn build(spec: &BuildSpec, store: &Store) -> Result<Built, Report> {
    let mut sources = Sources::default();
    let text = std::fs::read_to_string(&spec.dockerfile)
        .map_err(|e| Report::message(format!("cannot read the Dockerfile `{}`: {e}", spec.dockerfile.display())))?;
    let file = sources.add(&spec.dockerfile, text.as_str());
    let parsed = match dockerfile::parse(&text, file) {
        Ok(parsed) => parsed,
        Err(diagnostics) => return Err(Report { diagnostics, sources, ..Report::default() }),
    };
    if parsed.options.error {
        let diagnostics = dockerfile::check(&parsed);
        if !diagnostics.is_empty() {
            return Err(Report { diagnostics, sources, ..Report::default() });
        }
    }
    let refused = later::refuse(&parsed);
    if !refused.is_empty() {
        return Err(Report { diagnostics: refused, sources, ..Report::default() });
    }
    match execute(spec, &parsed, store) {
        Ok(image) => {
            Ok(Built { image, warnings: Report { diagnostics: parsed.warnings, sources, ..Report::default() } })
        }
        Err(diagnostic) => Err(Report { diagnostics: vec![*diagnostic], sources, ..Report::default() }),
    }
}

/// Returns the image that a Dockerfile builds upon and where it says so; `None` when it is none, or cannot be told, which
/// the build will say.
#[must_use]
pub fn base_image(dockerfile: &std::path::Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(dockerfile).ok()?;
    let mut sources = Sources::default();
    let parsed = dockerfile::parse(&text, sources.add(dockerfile, text.as_str())).ok()?;
    if !later::refuse(&parsed).is_empty() {
        return None;
    }
    let from = &parsed.stages.last()?.from;
    let name = expand(&from.raw, parsed.escape, &|_| None).ok().filter(|name| name != "scratch")?;
    Some((name, sources.place(from.span)))
}

fn image_failure(span: Option<Span>, error: &crate::image::Error) -> Failure {
    let inner = Diagnostic::from_error(error);
    Box::new(Diagnostic { span, ..inner })
}

/// A build under way.
struct Build<'a> {
    file: &'a Dockerfile,
    context: Context,
    store: &'a Store,
    scratch: &'a Scratch,
    config: ImageConfig,
    /// Layer directories so far, base first.
    layers: Vec<PathBuf>,
    fresh: BTreeMap<Digest, (PathBuf, Unpacked)>,
    /// Seconds since the epoch of the newest file that was copied.
    newest: Option<i64>,
    cmd_is_ours: bool,
}

fn execute(spec: &BuildSpec, file: &Dockerfile, store: &Store) -> Result<Image, Failure> {
    let context = Context::open(&spec.context, &spec.dockerfile).map_err(|e| {
        Box::new(Diagnostic::error(None, format!("cannot read the build context `{}`: {e}", spec.context.display())))
    })?;
    store.sweep().map_err(|e| image_failure(None, &e))?;
    let scratch = store.scratch().map_err(|e| image_failure(None, &e))?;
    let stage = file.stages.last().expect("there is at least one");
    let (config, layers) = base(stage, file.escape, store)?;
    let mut build = Build {
        file,
        context,
        store,
        scratch: &scratch,
        config,
        layers,
        fresh: BTreeMap::new(),
        newest: None,
        cmd_is_ours: false,
    };
    for instruction in &stage.instructions {
        build.instruction(instruction)?;
        fault::point("build.instruction");
    }
    let Build { mut config, fresh, newest, .. } = build;
    if config.rootfs.diff_ids.is_empty() {
        return Err(Box::new(fail(stage.from.span, "the image would have no files").help("add a COPY")));
    }
    for (key, value) in &spec.labels {
        config.config.labels.insert(key.clone(), value.clone());
    }
    // Times come from the files, so that the same input gives the same image.
    if let Some(created) = newest.and_then(|s| jiff::Timestamp::from_second(s).ok()) {
        config.created = Some(created.to_string());
    }
    let known = config.history.len() - stage.instructions.len();
    for step in &mut config.history[known..] {
        step.created.clone_from(&config.created);
    }
    let bytes = serde_json::to_vec(&config).map_err(|e| fail(stage.from.span, e.to_string()))?;
    let finish = || {
        let ids = store.add_images(&scratch, std::slice::from_ref(&bytes), &fresh)?;
        fault::point("build.added");
        store.sync(&ids)?;
        fault::point("build.synced");
        store.tag(&spec.tag, &ids[0])?;
        fault::point("build.named");
        store.image(&ids[0])
    };
    match finish() {
        Ok(Some(image)) => Ok(image),
        Ok(None) => Err(fail(stage.from.span, "the image was removed while it was built")),
        Err(e) => Err(image_failure(None, &e)),
    }
}

/// Returns what the build starts from.
fn base(stage: &Stage, escape: char, store: &Store) -> Result<(ImageConfig, Vec<PathBuf>), Failure> {
    let none = |_: &str| None;
    let name = expand(&stage.from.raw, escape, &none).map_err(|e| fail(stage.from.span, e))?;
    if name == "scratch" {
        let config = ImageConfig {
            architecture: host_architecture().into(),
            variant: None,
            os: "linux".into(),
            created: None,
            config: ContainerConfig::default(),
            rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
            history: Vec::new(),
            other: Map::new(),
        };
        return Ok((config, Vec::new()));
    }
    match store.resolve(&name) {
        Ok(Some(image)) => Ok((image.config, image.layers)),
        Ok(None) => {
            let listed = store.list().map_err(|e| image_failure(None, &e))?;
            let names: Vec<String> =
                listed.iter().filter_map(|l| l.reference.as_ref()).map(Reference::familiar).collect();
            let near = nearest(&name, names.iter().map(String::as_str));
            let help =
                near.map_or("fetch it first, with `hoist image pull`".into(), |n| format!("did you mean `{n}`?"));
            Err(Box::new(fail(stage.from.span, format!("the image `{name}` is not here")).help(help)))
        }
        Err(e) => Err(image_failure(Some(stage.from.span), &e)),
    }
}

impl Build<'_> {
    fn text(&self, text: &Text) -> Result<String, Failure> {
        configure::text(&self.config.config, self.file.escape, text)
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Failure> {
        let layer = if let Op::Copy(copy) = &instruction.op {
            self.copy(copy, instruction.span)?;
            true
        } else {
            if let Op::Maintainer(author) = &instruction.op {
                self.config.other.insert("author".into(), author.raw.clone().into());
            }
            let config = &mut self.config.config;
            configure::apply(config, self.file.escape, &mut self.cmd_is_ours, &instruction.op)?;
            false
        };
        self.config.history.push(History {
            created_by: Some(instruction.line.clone()),
            comment: Some("hoist build".into()),
            empty_layer: !layer,
            ..History::default()
        });
        Ok(())
    }

    fn copy(&mut self, copy: &Copy, span: Span) -> Result<(), Failure> {
        let Copy { dest, chown, chmod, .. } = copy;
        let chmod = chmod.as_ref().and_then(|mode| later::octal(&mode.raw));
        let paths = copy.sources.iter().filter_map(|source| match source {
            Source::Path(path) => Some(path.clone()),
            Source::Heredoc(_) => None,
        });
        let sources: Vec<Text> = paths.collect();
        let dest_text = self.text(dest)?;
        if dest_text.is_empty() {
            return Err(fail(dest.span, "the destination of COPY is empty"));
        }
        let view = View::of(&self.layers).map_err(|e| image_failure(Some(span), &e))?;
        let target = view
            .resolve(configure::in_workdir(&self.config.config, &dest_text).as_bytes(), true)
            .map_err(|e| image_failure(Some(dest.span), &e))?;
        let owner = match chown {
            Some(text) => owner(&self.text(text)?, &view).map_err(|e| match e {
                OwnerError::Store(e) => image_failure(Some(text.span), &e),
                OwnerError::Unknown(message) => fail(text.span, message),
            })?,
            None => (0, 0),
        };
        let exists_as = |path: &[u8]| view.lookup(path).map(|n| n.map(|n| n.file_type()));
        let target_kind = exists_as(&target).map_err(|e| image_failure(Some(dest.span), &e))?;
        let mut found: Vec<(Found, Span)> = Vec::new();
        for (source, at) in configure::texts(&self.config.config, self.file.escape, &sources)? {
            let paths = self.context.glob(source.as_bytes()).map_err(|e| fail(at, e.to_string()))?;
            if paths.is_empty() {
                return Err(fail(at, format!("nothing in the build context fits `{source}`")));
            }
            for path in paths {
                found.push((self.source(&path, &source, at)?, at));
            }
        }
        let slash = dest_text.ends_with('/') || matches!(dest_text.as_str(), "." | "..") || dest_text.ends_with("/.");
        if found.len() > 1 && !slash && target_kind != Some(FileType::Directory) {
            return Err(Box::new(
                fail(dest.span, format!("several files are copied, so `{dest_text}` must be a directory"))
                    .help(format!("write `{dest_text}/`")),
            ));
        }
        let into_dir = slash || target_kind == Some(FileType::Directory);
        let mut entries = Entries { all: BTreeMap::new(), owner, chmod };
        for (source, at) in found {
            if source.kind() == FileType::Directory {
                self.newest = self.newest.max(Some(source.stat.st_mtime));
                entries.directory(&target);
                self.children(&source.path, &target, &mut entries, at)?;
            } else {
                let name = source.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
                let path = if into_dir { join(&target, name) } else { target.clone() };
                if !into_dir && path.is_empty() {
                    return Err(fail(dest.span, "a file cannot replace the root directory"));
                }
                self.newest = self.newest.max(Some(source.stat.st_mtime));
                entries.add(path, source);
            }
        }
        let pieces = entries.finish(&view, self.newest.unwrap_or_default()).map_err(|e| match e {
            FinishError::Store(e) => image_failure(Some(span), &e),
            FinishError::Conflict(message) => fail(dest.span, message),
        })?;
        self.layer(&pieces, span)
    }

    /// Looks up one source; what `.dockerignore` hides is not there.
    fn source(&self, path: &[u8], written: &str, at: Span) -> Result<Found, Failure> {
        let whole_directory_stays =
            |found: &Found| found.kind() == FileType::Directory && self.context.ignore.has_exceptions();
        let found = self.context.find(path).map_err(|e| match e {
            Errno::NOENT | Errno::NOTDIR => {
                let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
                    Some(i) => (&path[..i], &path[i + 1..]),
                    None => (&b""[..], path),
                };
                let beside = self.context.children(dir).unwrap_or_default(); // only to help
                let names: Vec<String> = beside
                    .iter()
                    .map(|f| {
                        String::from_utf8_lossy(f.path.rsplit(|b| *b == b'/').next().unwrap_or_default()).into_owned()
                    })
                    .collect();
                let name = String::from_utf8_lossy(name);
                let help = nearest(&name, names.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
                let mut failure = fail(at, format!("`{written}` is not in the build context"));
                failure.help = help;
                failure
            }
            Errno::XDEV => fail(at, format!("`{written}` leads out of the build context through a symbolic link")),
            e => fail(at, format!("cannot read `{written}` in the build context: {}", io::Error::from(e))),
        })?;
        // The context itself is never hidden, only what is in it.
        if !path.is_empty()
            && let Some(line) = self.context.ignore.hides(path)
            && !whole_directory_stays(&found)
        {
            return Err(fail(at, format!("`{written}` is hidden by line {line} of `.dockerignore`")));
        }
        check_kind(found, at)
    }

    fn children(&mut self, dir: &[u8], target: &[u8], entries: &mut Entries, at: Span) -> Result<(), Failure> {
        let shown = || String::from_utf8_lossy(dir).into_owned();
        let all = self
            .context
            .children(dir)
            .map_err(|e| fail(at, format!("cannot read `{}` in the build context: {e}", shown())))?;
        for child in all {
            let name = child.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            let path = join(target, name);
            let hidden = self.context.ignore.hides(&child.path).is_some();
            if child.kind() == FileType::Directory {
                if hidden && !self.context.ignore.has_exceptions() {
                    continue;
                }
                let inner = child.path.clone();
                if !hidden {
                    entries.add(path.clone(), child);
                }
                self.children(&inner, &path, entries, at)?;
            } else if !hidden {
                let child = check_kind(child, at)?;
                self.newest = self.newest.max(Some(child.stat.st_mtime));
                entries.add(path, child);
            }
        }
        Ok(())
    }

    /// Makes a layer of tar entries, unless the store has it.
    fn layer(&mut self, pieces: &[Piece], span: Span) -> Result<(), Failure> {
        let read_failed = |e: &dyn std::fmt::Display| fail(span, format!("cannot read the build context: {e}"));
        let mut first = crate::image::digest::HashingReader::new(TarStream::new(&self.context, pieces));
        io::copy(&mut first, &mut io::sink()).map_err(|e| read_failed(&e))?;
        let diff_id = first.finish();
        let known = self.store.layer(&diff_id).map_err(|e| image_failure(Some(span), &e))?;
        let fs = if known.is_some() {
            self.store.layer_fs(&diff_id)
        } else if let Some((dir, _)) = self.fresh.get(&diff_id) {
            dir.join("fs")
        } else {
            let dir =
                self.scratch.layer(&format!("copy-{}", self.fresh.len())).map_err(|e| image_failure(Some(span), &e))?;
            fault::point("build.layer-begun");
            let stream = TarStream::new(&self.context, pieces);
            let (unpacked, again) = load::unpack_stream(stream, "COPY", u64::MAX, &dir.join("fs"))
                .map_err(|e| image_failure(Some(span), &e))?;
            if again != diff_id {
                return Err(fail(span, "the build context changed while it was read"));
            }
            fault::point("build.layer-unpacked");
            let fs = dir.join("fs");
            self.fresh.insert(diff_id.clone(), (dir, unpacked));
            fs
        };
        self.layers.push(fs);
        self.config.rootfs.diff_ids.push(diff_id);
        Ok(())
    }
}

fn check_kind(found: Found, at: Span) -> Result<Found, Failure> {
    match found.kind() {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => Ok(found),
        _ => {
            let path = String::from_utf8_lossy(&found.path).into_owned();
            Err(Box::new(
                fail(at, format!("`{path}` in the build context is a socket, pipe or device"))
                    .help("name it in `.dockerignore`"),
            ))
        }
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

enum OwnerError {
    Store(crate::image::Error),
    Unknown(String),
}

/// Resolves `user`, `user:group`, numbers or names of the image. A number alone is the group too (Docker, `COPY
/// --chown`).
fn owner(text: &str, view: &View) -> Result<(u32, u32), OwnerError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let number = |t: &str| t.parse::<u32>().ok().filter(|n| *n <= i32::MAX.unsigned_abs());
    let table = |path: &str, name: &str| -> Result<Option<(u32, u32)>, OwnerError> {
        let bytes = view.read(path.as_bytes(), PASSWD_MAX).map_err(OwnerError::Store)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let id = fields.nth(1).and_then(|f| f.parse().ok())?;
            found.then(|| (id, fields.next().and_then(|f| f.parse().ok()).unwrap_or(id)))
        }))
    };
    let unknown = |kind: &str, name: &str, file: &str| {
        OwnerError::Unknown(format!("the image has no {kind} `{name}` in its `{file}`"))
    };
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

/// What a layer is going to hold, by its path in the image.
struct Entries {
    all: BTreeMap<Vec<u8>, Option<Found>>,
    owner: (u32, u32),
    chmod: Option<u32>,
}

enum FinishError {
    Store(crate::image::Error),
    Conflict(String),
}

/// One entry of a layer tar.
struct Piece {
    header: Vec<u8>,
    /// Path in the context and size.
    file: Option<(Vec<u8>, u64)>,
}

impl Entries {
    /// Adds what was found; a later source wins.
    fn add(&mut self, path: Vec<u8>, found: Found) {
        self.all.insert(path, Some(found));
    }

    /// Adds a directory that need not have a source.
    fn directory(&mut self, path: &[u8]) {
        self.all.entry(path.to_vec()).or_insert(None);
    }

    /// Completes the parents and writes the headers, sorted by path. A directory that the image has keeps its
    /// attributes; a new one is 0755 and has the time `newest`.
    fn finish(mut self, view: &View, newest: i64) -> Result<Vec<Piece>, FinishError> {
        let parents: Vec<Vec<u8>> = self
            .all
            .keys()
            .flat_map(|path| path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| path[..i].to_vec()))
            .collect();
        for parent in parents {
            self.directory(&parent);
        }
        self.directory(b"");
        let mut pieces = Vec::new();
        for (path, found) in &self.all {
            let below = view.lookup(path).map_err(FinishError::Store)?;
            let is_dir = found.as_ref().is_none_or(|f| f.kind() == FileType::Directory);
            let shown = || format!("/{}", String::from_utf8_lossy(path));
            match below.as_ref().map(crate::image::fixup::Node::file_type) {
                Some(FileType::Directory) if !is_dir => {
                    return Err(FinishError::Conflict(format!("a file cannot replace the directory `{}`", shown())));
                }
                Some(kind) if is_dir && kind != FileType::Directory => {
                    return Err(FinishError::Conflict(format!("`{}` in the image is not a directory", shown())));
                }
                _ => {}
            }
            let (mode, owner, mtime) = match (found, below) {
                (None, Some(below)) | (Some(_), Some(below)) if is_dir => {
                    (below.stat.st_mode & 0o7777, (below.stat.st_uid, below.stat.st_gid), below.stat.st_mtime)
                }
                (Some(found), _) => {
                    let mode = match found.kind() {
                        FileType::Symlink => 0o777,
                        _ => self.chmod.unwrap_or(found.stat.st_mode & 0o7777),
                    };
                    // A directory's time changes with every file made and removed in it.
                    let mtime = if is_dir { newest } else { found.stat.st_mtime };
                    (mode, self.owner, mtime)
                }
                (None, _) if path.is_empty() => (0o755, (0, 0), newest),
                (None, _) => (0o755, self.owner, newest),
            };
            let file = found
                .as_ref()
                .filter(|f| f.kind() == FileType::RegularFile)
                .map(|f| (f.path.clone(), u64::try_from(f.stat.st_size).unwrap_or_default()));
            let link = found.as_ref().map_or(&[][..], |f| &f.link);
            let kind = match found.as_ref().map(Found::kind) {
                Some(FileType::RegularFile) => tar::EntryType::Regular,
                Some(FileType::Symlink) => tar::EntryType::Symlink,
                _ => tar::EntryType::Directory,
            };
            let name = match (path.is_empty(), is_dir) {
                (true, _) => b"./".to_vec(),
                (false, true) => [path, &b"/"[..]].concat(),
                (false, false) => path.clone(),
            };
            let size = file.as_ref().map_or(0, |(_, size)| *size);
            pieces.push(Piece { header: header(&name, link, kind, mode, owner, mtime, size), file });
        }
        Ok(pieces)
    }
}

/// Writes a header in the one form that we give to an entry: ustar, with pax records only for what does not fit.
fn header(
    name: &[u8],
    link: &[u8],
    kind: tar::EntryType,
    mode: u32,
    (uid, gid): (u32, u32),
    mtime: i64,
    size: u64,
) -> Vec<u8> {
    /// What seven octal digits hold.
    const ID_MAX: u32 = 0o7_777_777;
    /// What eleven octal digits hold.
    const SIZE_MAX: u64 = 0o77_777_777_777;
    let mut records = Vec::new();
    let mut record = |key: &str, value: &[u8]| {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        records.extend_from_slice(format!("{length} {key}=").as_bytes());
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    if name.len() > 100 {
        record("path", name);
    }
    if link.len() > 100 {
        record("linkpath", link);
    }
    if size > SIZE_MAX {
        record("size", size.to_string().as_bytes());
    }
    if uid > ID_MAX {
        record("uid", uid.to_string().as_bytes());
    }
    if gid > ID_MAX {
        record("gid", gid.to_string().as_bytes());
    }
    if mtime < 0 {
        record("mtime", mtime.to_string().as_bytes());
    }
    let fill = |header: &mut tar::Header, name: &[u8], link: &[u8]| {
        let ustar = header.as_ustar_mut().expect("made as ustar");
        let length = name.len().min(100);
        ustar.name[..length].copy_from_slice(&name[..length]);
        let length = link.len().min(100);
        ustar.linkname[..length].copy_from_slice(&link[..length]);
    };
    let mut out = Vec::new();
    if !records.is_empty() {
        let mut pax = tar::Header::new_ustar();
        fill(&mut pax, b"pax_header", b"");
        pax.set_entry_type(tar::EntryType::XHeader);
        pax.set_mode(0o644);
        pax.set_uid(0);
        pax.set_gid(0);
        pax.set_mtime(0);
        pax.set_size(records.len() as u64);
        pax.set_cksum();
        out.extend_from_slice(pax.as_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    let mut header = tar::Header::new_ustar();
    fill(&mut header, name, link);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(u64::from(uid.min(ID_MAX)));
    header.set_gid(u64::from(gid.min(ID_MAX)));
    header.set_mtime(u64::try_from(mtime).unwrap_or_default());
    header.set_size(size.min(SIZE_MAX));
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out
}

/// Reads a layer tar that is made on the way.
struct TarStream<'a> {
    context: &'a Context,
    pieces: std::slice::Iter<'a, Piece>,
    bytes: Cursor<Vec<u8>>,
    file: Option<(io::Take<File>, u64)>,
    ended: bool,
}

impl<'a> TarStream<'a> {
    fn new(context: &'a Context, pieces: &'a [Piece]) -> Self {
        Self { context, pieces: pieces.iter(), bytes: Cursor::default(), file: None, ended: false }
    }
}

impl Read for TarStream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let n = self.bytes.read(buf)?;
            if n > 0 {
                return Ok(n);
            }
            if let Some((file, size)) = &mut self.file {
                let n = file.read(buf)?;
                if n > 0 {
                    return Ok(n);
                }
                if file.limit() > 0 {
                    return Err(io::Error::other("a file became shorter while it was read"));
                }
                let padding = size.next_multiple_of(512) - *size;
                self.bytes = Cursor::new(vec![0; usize::try_from(padding).unwrap_or_default()]);
                self.file = None;
                continue;
            }
            match self.pieces.next() {
                Some(piece) => {
                    self.bytes = Cursor::new(piece.header.clone());
                    if let Some((path, size)) = &piece.file {
                        self.file = Some((self.context.read(path)?.take(*size), *size));
                    }
                }
                None if self.ended => return Ok(0),
                None => {
                    self.ended = true;
                    self.bytes = Cursor::new(vec![0; 1024]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::image::tarball::tests::TarBuilder;
    use crate::image::tests::{Fixture, fixture};

    struct Setup {
        fixture: Fixture,
        spec: BuildSpec,
    }

    fn setup(dockerfile: &str, files: &[(&str, &str)]) -> Setup {
        let fixture = fixture();
        fixture.image(&[TarBuilder::default()
            .dir("./")
            .dir("etc/")
            .file("etc/passwd", b"root:x:0:0::/:/bin/sh\napp:x:1001:1002::/:/bin/sh\n")
            .file("etc/group", b"root:x:0:\nweb:x:33:\n")
            .dir_mode("srv/", 0o1777)
            .symlink("www", "srv")
            .end()]);
        let context = fixture.dir.path().join("context");
        fs::create_dir(&context).expect("writable");
        for (path, text) in files {
            let path = context.join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("writable");
            fs::write(&path, text).expect("writable");
        }
        let spec = BuildSpec {
            dockerfile: context.join("Dockerfile"),
            context,
            tag: Reference::parse("shop-web").expect("valid"),
            labels: BTreeMap::from([("l".to_owned(), "1".to_owned())]),
        };
        fs::write(&spec.dockerfile, dockerfile).expect("writable");
        Setup { fixture, spec }
    }

    impl Setup {
        fn build(&self) -> Image {
            build(&self.spec, &self.fixture.store).unwrap_or_else(|r| panic!("{}", r.render(false))).image
        }

        fn error(&self) -> String {
            let report = build(&self.spec, &self.fixture.store).expect_err("must be refused");
            report.render(false).replace(&*self.spec.context.to_string_lossy(), "/context")
        }
    }

    fn content(image: &Image, path: &str) -> Option<String> {
        let bytes = image.view().expect("opens").read(path.as_bytes(), 1000).expect("readable")?;
        Some(String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn a_build_copies_and_configures() {
        if !crate::testing::is_root() {
            return;
        }
        let setup = setup(
            "FROM test:1\n\
             ENV APP=/srv/app MODE=\"a b\"\n\
             ENV MODE=c OLD=$MODE\n\
             WORKDIR $APP\n\
             WORKDIR sub\n\
             COPY --chown=app:web index.html style.css ./\n\
             COPY --chmod=0755 dir /www/\n\
             COPY run.sh /usr/bin/run\n\
             EXPOSE 80 53/udp 90-91\n\
             LABEL a=b\n\
             USER app\n\
             VOLUME [\"/data\"]\n\
             STOPSIGNAL SIGQUIT\n\
             HEALTHCHECK --interval=5s CMD true\n\
             ENTRYPOINT [\"run\"]\n\
             CMD x $APP\n",
            &[("index.html", "html"), ("style.css", "css"), ("dir/a", "A"), ("dir/sub/b", "B"), ("run.sh", "#!")],
        );
        fs::set_permissions(setup.spec.context.join("run.sh"), fs::Permissions::from_mode(0o750)).expect("writable");
        let image = setup.build();
        assert_eq!(content(&image, "srv/app/sub/index.html").as_deref(), Some("html"));
        assert_eq!(content(&image, "srv/a").as_deref(), Some("A"), "through the image's link");
        assert_eq!(content(&image, "www/sub/b").as_deref(), Some("B"));
        let view = image.view().expect("opens");
        let stat = |path: &str| view.lookup(path.as_bytes()).expect("readable").expect(path).stat;
        let html = stat("srv/app/sub/index.html");
        assert_eq!((html.st_uid, html.st_gid), (1001, 33));
        assert_eq!(html.st_mtime, fs::metadata(setup.spec.context.join("index.html")).expect("there").mtime());
        assert_eq!(stat("srv").st_mode & 0o7777, 0o1777, "a directory of the image keeps its mode");
        assert_eq!(stat("srv/a").st_mode & 0o7777, 0o755);
        let run = stat("usr/bin/run");
        assert_eq!((run.st_mode & 0o7777, run.st_uid), (0o750, 0));
        assert!(!image.layers.iter().any(|l| l.to_string_lossy().contains("fixups")), "parents are listed");
        let config = serde_json::to_value(&image.config.config).expect("serialises");
        assert_eq!(
            config,
            json!({
                "User": "app",
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}},
                "Env": ["APP=/srv/app", "MODE=c", "OLD=a b"],
                "Entrypoint": ["run"],
                "Cmd": ["/bin/sh", "-c", "x $APP"],
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64},
                "Volumes": {"/data": {}},
                "WorkingDir": "/srv/app/sub",
                "Labels": {"a": "b", "l": "1"},
                "StopSignal": "SIGQUIT",
            })
        );
        assert_eq!(image.config.rootfs.diff_ids.len(), 4);
        let layered = image.config.history.iter().filter(|h| !h.empty_layer).count();
        assert_eq!(layered, 3);
        assert_eq!(setup.fixture.store.resolve("shop-web:latest").expect("readable"), Some(image));
    }

    #[test]
    fn the_same_input_gives_the_same_image() {
        if !crate::testing::is_root() {
            return;
        }
        let long = format!("{}/f", "long-directory-name".repeat(8));
        let setup = setup("FROM test:1\nCOPY . /app/\nENTRYPOINT [\"a\"]\n", &[("a", "1"), (&long, "2")]);
        let first = setup.build();
        assert_eq!(first.config.config.cmd, None, "the base's command is for the base's entrypoint");
        assert_eq!(setup.build(), first);
        assert_eq!(content(&first, &format!("app/{long}")).as_deref(), Some("2"));
        let context = File::open(&setup.spec.context).expect("there");
        let changed = context.metadata().and_then(|m| m.modified()).expect("known");
        fs::write(setup.spec.context.join("new"), b"3").expect("writable");
        assert_ne!(setup.build().id, first.id);
        fs::remove_file(setup.spec.context.join("new")).expect("there");
        context.set_modified(changed).expect("ours"); // the folder's own time is part of the image
        assert_eq!(setup.build().id, first.id);
    }

    #[test]
    fn scratch_is_an_empty_base_and_wildcards_and_ignores_count() {
        if !crate::testing::is_root() {
            return;
        }
        let setup = setup(
            "FROM scratch\nCOPY *.txt /t/\nCOPY all /\n",
            &[
                ("a.txt", "a"),
                ("b.txt", "b"),
                ("c.md", "c"),
                ("all/x", "x"),
                ("all/no/y", "y"),
                ("all/no/keep", "k"),
                (".dockerignore", "b.txt\nall/no\n!all/no/keep\n"),
            ],
        );
        symlink("../../etc/passwd", setup.spec.context.join("all/link")).expect("writable");
        let image = setup.build();
        assert_eq!(content(&image, "t/a.txt").as_deref(), Some("a"));
        for gone in ["t/b.txt", "t/c.md", "no/y"] {
            assert_eq!(content(&image, gone), None, "{gone}");
        }
        assert_eq!(content(&image, "no/keep").as_deref(), Some("k"));
        assert_eq!(fs::read_link(image.layers[1].join("link")).expect("kept as a link"), Path::new("../../etc/passwd"));
    }

    #[test]
    fn what_cannot_be_built_is_shown_with_its_line() {
        if !crate::testing::is_root() {
            return;
        }
        let files = [("index.html", ""), ("secret", ""), (".dockerignore", "secret\n")];
        let s = setup("FROM test:1\nCOPY indx.html /\n", &files);
        insta::assert_snapshot!(s.error(), @r"
        error: `indx.html` is not in the build context
         --> /context/Dockerfile:2:6
          |
        2 | COPY indx.html /
          |      ^^^^^^^^^
          |
          = help: did you mean `index.html`?
        ");
        symlink("/etc", s.spec.context.join("out")).expect("writable");
        for (line, expected) in [
            ("COPY secret /", "hidden by line 1 of `.dockerignore`"),
            ("COPY out/passwd /", "leads out of the build context"),
            ("COPY out /", "leads out of the build context"),
            ("COPY *.nope /", "nothing in the build context fits"),
            ("COPY index.html Dockerfile /new", "must be a directory"),
            ("COPY --chown=ghost index.html /", "no user `ghost`"),
            ("COPY --chown=1:ghosts index.html /", "no group `ghosts`"),
            ("COPY index.html /etc/passwd/x", "is not a directory"),
            ("EXPOSE 80000", "not a port"),
            ("ENV A=${B?gone}", "the variable `B` is not set: gone"),
        ] {
            fs::write(&s.spec.dockerfile, format!("FROM test:1\n{line}\n")).expect("writable");
            let error = s.error();
            assert!(error.contains(expected) && error.contains("Dockerfile:2:"), "{line}: {error}");
        }
        fs::write(&s.spec.dockerfile, "# check=error=true\nFROM test:1\nCMD x\n").expect("writable");
        assert!(s.error().contains("[JSONArgsRecommended]"), "{}", s.error());
        fs::write(&s.spec.dockerfile, "FROM tset:1\nCMD x\n").expect("writable");
        assert!(s.error().contains("did you mean `test:1`?"));
        assert_eq!(s.fixture.store.resolve("shop-web").expect("readable"), None);
    }
}
