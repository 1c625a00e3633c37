//! `cp` and `export`: files between a container and the host, or an archive.
//!
//! The phases: choose the containers; open each one's files (`root`, under the project's lock when one does not run);
//! find the source and the destination by descriptor and let `rules` say where the copy lands; then the source's entries
//! (`pack`) go to what takes them: a directory (`unpack`), an existing file, or a tar. Nothing is kept in
//! memory but one block, and the paths of directories and hard links.
//!
//! Invariant: a path of the container is resolved inside its root by the kernel, once; from then on it is a descriptor.

mod error;
mod pack;
mod root;
mod rules;
pub(in crate::engine) mod sync;
mod unpack;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use self::error::Error;
use self::pack::{Found, Sink as _, pack};
use self::root::Root;
use self::rules::{Landing, Refusal, Source, There, base, land, parent, says_directory};
use self::unpack::{Directory, Keep, Over};
use super::Engine;
use super::actual::ActualContainer;
use super::backend::Backend;
use super::commands::Target;
use crate::diag::{Diagnostic, Report};
use crate::event::{Event, Progress, Sink, Subject};
use crate::image::tarball::{Reader, show};
use crate::image::writer::Writer;
use crate::runtime::ContainerSpec;
use crate::state::record::State;

pub use rules::split;

/// Which containers of the one service that a target names.
#[derive(Debug, Clone, Copy)]
pub struct Which {
    /// Number of the replica; `None` is all, or the first.
    pub index: Option<u32>,
    /// Those of `run` too.
    pub all: bool,
}

/// How files are copied.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Keep owners, and on the host what makes programs privileged.
    pub archive: bool,
    /// Copy what the source links to, when it is a link.
    pub follow: bool,
}

/// What is copied where; the other end is a path of the host, or a stream with a tar.
#[derive(Debug)]
pub enum Way<'a> {
    /// Out of the first container.
    From(&'a str, End<'a>),
    /// Into every container.
    To(End<'a>, &'a str),
}

/// An end of a copy on our side.
#[derive(Debug)]
pub enum End<'a> {
    /// A path.
    Path(&'a Path),
    /// A tar.
    Stream(OwnedFd),
}

/// Containers that were chosen, and the lock under which those that do not run stay so.
#[derive(Debug)]
pub struct Chosen<L> {
    containers: Vec<ActualContainer>,
    _lock: Option<L>,
}

impl<L> Chosen<L> {
    /// Returns their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().map(|c| c.record.name.as_str())
    }
}

impl<B: Backend> Engine<B> {
    /// Chooses the containers of a copy: of the first `only`, or all.
    ///
    /// # Errors
    /// When what exists cannot be read, or there is no such container.
    pub async fn choose(&self, target: &Target<'_>, which: Which, first: bool) -> Result<Chosen<B::Lock>, Report> {
        self.adopt(target.project).await?;
        let (mut lock, mut locked) = (None, false);
        loop {
            let actual = self.backend.observe(target.project)?;
            target.check(&actual)?;
            let there = |c: &&ActualContainer| {
                target.has(&c.record.service)
                    && (which.all || !c.is_one_off())
                    && which.index.is_none_or(|index| c.record.number == index)
            };
            let mut containers: Vec<ActualContainer> = actual.containers.iter().filter(there).cloned().collect();
            containers.sort_by_key(|c| (c.is_one_off(), c.record.number));
            containers.truncate(if first { 1 } else { usize::MAX });
            if containers.is_empty() {
                let service = target.services.join(" ");
                let message = match which.index {
                    Some(index) => format!("service \"{service}\" is not running container #{index}"),
                    None => format!("no container found for service \"{service}\""),
                };
                let help = format!("make it with: hoist up -d {service}");
                return Err(Diagnostic::error(None, message).help(help).into());
            }
            if locked || containers.iter().all(|c| c.status.state == State::Running) {
                return Ok(Chosen { containers, _lock: lock });
            }
            (lock, locked) = (self.lock(target.project, false).await?, true);
        }
    }

    /// Copies; every container that can be served is.
    ///
    /// # Errors
    /// What could not be copied.
    pub fn copy(
        &self,
        chosen: &Chosen<B::Lock>,
        way: Way<'_>,
        manner: Manner,
        events: &dyn Sink,
    ) -> Result<(), Report> {
        let mut archive = match way {
            // A stream can be read once.
            Way::To(End::Stream(ref from), _) if chosen.containers.len() > 1 => {
                Some(spool(from, self.backend.paths().root())?)
            }
            Way::To(..) | Way::From(..) => None,
        };
        self.each(chosen, ["copy", "Copying", "Copied"], events, |container| {
            let root = self.root(container)?;
            match &way {
                Way::From(path, end) => copy_from(root.as_fd(), path, end, manner),
                Way::To(End::Path(from), path) => copy_to(root.as_fd(), from, path, manner),
                Way::To(End::Stream(from), path) => {
                    let source = match &mut archive {
                        Some(file) => {
                            file.rewind().map_err(Error::act("read", b"stdin"))?;
                            file.try_clone().map_err(Error::act("read", b"stdin"))?
                        }
                        None => File::from(from.try_clone().map_err(Error::act("read", b"stdin"))?),
                    };
                    unpack_to(root.as_fd(), source, path, manner)
                }
            }
        })
    }

    /// Writes all files that are a container's own, without what it mounts, as a tar.
    ///
    /// # Errors
    /// When they cannot be read, or the archive not be written.
    pub fn export(&self, chosen: &Chosen<B::Lock>, to: &File, events: &dyn Sink) -> Result<(), Report> {
        self.each(chosen, ["export", "Exporting", "Exported"], events, |container| {
            let root = Root::alone(&spec(container)?).map_err(|e| cannot_open(container, &e))?;
            let found = open(&Tree::In(root.as_fd()), b"/", true).map_err(Error::act("open", b"/"))?;
            let mut stream = Writer::new(BufWriter::with_capacity(256 << 10, to));
            pack(&found, b"", &mut stream)?;
            Ok(stream.finish().map_err(Error::act("write", b"the archive"))?)
        })
    }

    fn each(
        &self,
        chosen: &Chosen<B::Lock>,
        [verb, working, done]: [&'static str; 3],
        events: &dyn Sink,
        mut act: impl FnMut(&ActualContainer) -> Result<(), Report>,
    ) -> Result<(), Report> {
        events.send(Event::Begin { verb, total: chosen.containers.len() });
        let mut failed = Report::default();
        for container in &chosen.containers {
            let (subject, begun) = (Subject::Container(container.record.name.to_string()), Instant::now());
            let tell = |progress| {
                let subject = subject.clone();
                events.send(Event::Progress { subject, progress, elapsed: begun.elapsed(), detail: None });
            };
            tell(Progress::Working(working));
            match act(container) {
                Ok(()) => tell(Progress::Done(done)),
                Err(report) => {
                    tell(Progress::Failed);
                    failed.diagnostics.extend(report.diagnostics);
                }
            }
        }
        events.send(Event::End);
        if failed.diagnostics.is_empty() { Ok(()) } else { Err(failed) }
    }

    pub(super) fn root(&self, container: &ActualContainer) -> Result<Root, Report> {
        let status = &container.status;
        let opened = match (status.state, &status.process) {
            (State::Running, Some(process)) => Root::running(process),
            (State::Created | State::Exited, None) => Root::stopped(&spec(container)?, self.backend.paths().root()),
            (State::Starting | State::Restarting, _) | (State::Running, None) | (_, Some(_)) => {
                let message = format!("container `{}` is just being started or stopped", container.record.name);
                let help = format!("wait until it runs, or stop it with: hoist stop {}", container.record.service);
                return Err(Diagnostic::error(None, message).help(help).into());
            }
        };
        opened.map_err(|e| cannot_open(container, &e))
    }
}

fn cannot_open(container: &ActualContainer, error: &io::Error) -> Report {
    let message = format!("cannot open the files of container `{}`: {error}", container.record.name);
    let diagnostic = Diagnostic::error(None, message);
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => diagnostic.help("it has just ended or was removed: look with hoist ps -a"),
        _ => diagnostic,
    }
    .into()
}

pub(super) fn spec(container: &ActualContainer) -> Result<ContainerSpec, Report> {
    let name = &container.record.name;
    serde_json::from_value(container.record.spec.clone())
        .map_err(|e| Report::message(format!("the record of container `{name}` is damaged: {e}")))
}

/// Brings a stream into a file without a name.
fn spool(from: &OwnedFd, directory: &Path) -> Result<File, Report> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let keep = || -> io::Result<File> {
        let mut file = File::from(rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600))?);
        io::copy(&mut File::from(from.try_clone()?), &mut file)?;
        Ok(file)
    };
    Ok(keep().map_err(Error::act("keep", b"stdin"))?)
}

/// Where paths are resolved.
enum Tree<'a> {
    /// On the host.
    Host,
    /// In a container.
    In(BorrowedFd<'a>),
}

impl Tree<'_> {
    fn handle(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        match self {
            Self::Host => Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?),
            Self::In(root) => crate::sys::tree::open_in_root(*root, path, flags),
        }
    }
}

/// Finds a path; its last name is followed when that is a link and `follow` is set.
fn open(tree: &Tree<'_>, path: &[u8], follow: bool) -> io::Result<Found> {
    Found::of(tree.handle(path, if follow { OFlags::empty() } else { OFlags::NOFOLLOW })?)
}

/// Finds what is copied.
fn source(tree: &Tree<'_>, path: &[u8], follow: bool) -> Result<Found, Report> {
    let found = match open(tree, path, follow || says_directory(path)) {
        // A file with a slash at its end: found without, the rules refuse it in words.
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => open(tree, plain(path), true),
        found => found,
    };
    let found = found.map_err(Error::act("find", path))?;
    match found.kind() {
        FileType::CharacterDevice | FileType::BlockDevice => Err(Error::Device(show(path)).into()),
        FileType::Socket => {
            let message = format!("`{}` is a socket, which is not copied", show(path));
            Err(Diagnostic::error(None, message).help("copy the files beside it by their names").into())
        }
        FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Fifo | FileType::Unknown => {
            Ok(found)
        }
    }
}

/// Returns a path without the `/` and `/.` at its end.
fn plain(path: &[u8]) -> &[u8] {
    let mut path = path;
    while path.len() > 1 {
        match path.strip_suffix(b"/").or_else(|| path.strip_suffix(b"/.")) {
            Some(shorter) if !shorter.is_empty() => path = shorter,
            _ => break,
        }
    }
    path
}

/// What takes a copy, and the name that it has there.
enum Taker {
    Directory(Directory, Vec<u8>),
    Over(Over),
}

/// Finds where `what` lands at the path `to`.
fn taker(what: &Found, path: &[u8], tree: &Tree<'_>, to: &[u8], keep: Keep) -> Result<Taker, Report> {
    let directory = what.kind() == FileType::Directory;
    let to_find = |e| Report::from(Error::act("find", to)(e));
    let there = match open(tree, to, true) {
        Ok(found) => Some(found),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Some(open(tree, plain(to), true).map_err(to_find)?),
        Err(e) => return Err(to_find(e)),
    };
    let kind = match &there {
        None => There::Nothing,
        Some(found) if found.kind() == FileType::Directory => There::Directory,
        Some(_) => There::File,
    };
    let landing = land(Source { directory, path }, to, kind).map_err(|refusal| refused(refusal, path, to))?;
    let name = match (landing, &there) {
        (Landing::Inside(name), _) => name,
        (Landing::Content, _) => Vec::new(),
        (Landing::Itself, there) => {
            let to = plain(to);
            let link = open(tree, to, false).is_ok_and(|found| found.kind() == FileType::Symlink);
            if let (true, Some(found), FileType::RegularFile) = (link, there, what.kind()) {
                let handle = found.handle.try_clone().map_err(to_find)?;
                return Ok(Taker::Over(Over(Found { handle, stat: found.stat })));
            }
            let before = parent(to);
            let here = match tree {
                Tree::Host => &b"."[..],
                Tree::In(_) => b"/",
            };
            let before = if before.is_empty() { here } else { before };
            let found = open(tree, before, true).map_err(Error::act("find directory", before))?;
            let opened =
                found.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::act("open directory", before))?;
            return Ok(Taker::Directory(Directory::new(opened, keep), base(to).to_vec()));
        }
    };
    let found = there.ok_or_else(|| refused(Refusal::NoDirectory, path, to))?;
    let opened = found.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::act("open directory", to))?;
    Ok(Taker::Directory(Directory::new(opened, keep), name))
}

fn refused(refusal: Refusal, from: &[u8], to: &[u8]) -> Report {
    let (from, to) = (show(from), show(to));
    let (message, help) = match refusal {
        Refusal::SourceIsNoDirectory => {
            (format!("`{from}` is not a directory"), "leave out what is at its end: / or /.")
        }
        Refusal::DestinationIsNoDirectory => {
            (format!("`{to}` is not a directory"), "leave out what is at its end, and the file is replaced")
        }
        Refusal::OntoFile => (
            format!("cannot copy directory `{from}` to `{to}`, which is a file"),
            "name a directory, or what is not there",
        ),
        Refusal::NoDirectory => (
            format!("there is no directory `{to}`"),
            "make it first, or leave the slash out to copy to a file of that name",
        ),
    };
    Diagnostic::error(None, message).help(help).into()
}

fn transfer(what: &Found, taker: Taker) -> Result<(), Report> {
    match taker {
        Taker::Over(mut over) => pack(what, b"file", &mut over)?,
        Taker::Directory(mut directory, name) => {
            pack(what, &name, &mut directory)?;
            directory.finish()?;
        }
    }
    Ok(())
}

fn copy_from(root: BorrowedFd<'_>, path: &str, end: &End<'_>, manner: Manner) -> Result<(), Report> {
    let path = if path.is_empty() { b"/" } else { path.as_bytes() };
    let found = source(&Tree::In(root), path, manner.follow)?;
    match end {
        End::Path(to) => {
            // A container's programs do not become privileged ones of the host by being copied.
            let keep = Keep { owner: manner.archive, privileges: manner.archive };
            let taker = taker(&found, path, &Tree::Host, to.as_os_str().as_bytes(), keep)?;
            transfer(&found, taker)
        }
        End::Stream(to) => {
            let to = File::from(to.try_clone().map_err(Error::act("write", b"stdout"))?);
            let source = Source { directory: found.kind() == FileType::Directory, path };
            let name = match land(source, b"-", There::Directory).map_err(|r| refused(r, path, b"-"))? {
                Landing::Inside(name) => name,
                Landing::Content | Landing::Itself => Vec::new(),
            };
            let mut stream = Writer::new(BufWriter::with_capacity(256 << 10, to));
            pack(&found, &name, &mut stream)?;
            Ok(stream.finish().map_err(Error::act("write", b"stdout"))?)
        }
    }
}

fn copy_to(root: BorrowedFd<'_>, from: &Path, path: &str, manner: Manner) -> Result<(), Report> {
    let from = from.as_os_str().as_bytes();
    let found = source(&Tree::Host, from, manner.follow)?;
    let keep = Keep { owner: manner.archive, privileges: true };
    let taker = taker(&found, from, &Tree::In(root), path.as_bytes(), keep)?;
    transfer(&found, taker)
}

fn unpack_to(root: BorrowedFd<'_>, from: File, path: &str, manner: Manner) -> Result<(), Report> {
    let found = open(&Tree::In(root), path.as_bytes(), true).map_err(Error::act("find", path.as_bytes()))?;
    if found.kind() != FileType::Directory {
        let message = format!("destination `{path}` must be a directory");
        return Err(Diagnostic::error(None, message).help("an archive is unpacked into a directory: name that").into());
    }
    let opened = found.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::act("open", path.as_bytes()))?;
    let mut directory = Directory::new(opened, Keep { owner: manner.archive, privileges: true });
    let mut reader = Reader::new(BufReader::with_capacity(256 << 10, from));
    while let Some(entry) = reader.next().map_err(Error::Archive)? {
        directory.put(&entry, &mut reader)?;
    }
    // Who writes it may not have come to the end of what follows the archive.
    io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(Error::act("read", b"stdin"))?;
    directory.finish()?;
    Ok(())
}
