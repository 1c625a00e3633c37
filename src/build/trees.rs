//! Where the files of a build and its Dockerfile are: in a directory of this host, in an archive that comes in, or elsewhere.
//!
//! What is not here is fetched when it is needed first, which is before the Dockerfile is read where that lies in it. Such a
//! tree is a stranger's: nothing is read through a link that leads out of it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::build::context::Context;
use crate::build::dockerfile::{self, Dockerfile};
use crate::build::execute::{BuildSpec, Recipe};
use crate::build::remote::{Access, Failed, Fetched, Fetcher, Remote};
use crate::diag::{Diagnostic, Report, Sources};
use crate::event::{Event, Progress, Sink, Subject};
use crate::image::load;
use crate::image::store::Store;

/// Largest Dockerfile of a tree that was fetched, in bytes.
const RECIPE_MAX: u64 = 16 << 20;

/// The build argument that keeps `.git` in contexts (Docker's "Git contexts").
const KEEP_GIT: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Files that `COPY` copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// A directory of this host.
    Directory(PathBuf),
    /// No file at all.
    Empty,
    /// What is in an archive, compressed or not.
    Archive(Input),
    /// They are elsewhere.
    Remote(Remote),
}

impl From<PathBuf> for Tree {
    fn from(path: PathBuf) -> Self {
        Self::Directory(path)
    }
}

impl Tree {
    /// Returns the tree that a URL names; `None` when the text is the path of a directory.
    ///
    /// # Errors
    /// When it is a URL of a kind that cannot be fetched.
    pub fn elsewhere(text: &str) -> Result<Option<Self>, Report> {
        Remote::of_context(text).map(|found| found.map(Self::Remote)).map_err(report)
    }

    /// Returns the directory, if it is one of this host.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Empty | Self::Archive(_) | Self::Remote(_) => None,
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Empty => f.write_str("an empty context"),
            Self::Archive(_) => f.write_str("the archive on standard input"),
            Self::Remote(remote) => write!(f, "{remote}"),
        }
    }
}

/// Bytes that come in once.
#[derive(Clone)]
pub struct Input(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl Input {
    /// Returns an input of these bytes.
    pub fn new(bytes: impl Read + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(bytes)))))
    }

    /// Takes the bytes; the second time there are none.
    pub(super) fn take(&self) -> Option<Box<dyn Read + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input")
    }
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Input {}

/// What has come in: as docker has it, an archive is a build context, and anything else a Dockerfile.
#[derive(Debug)]
pub enum Incoming {
    /// An archive, compressed or not.
    Archive(Input),
    /// A text.
    Text(String),
}

impl Incoming {
    /// Reads as much as it takes to tell; waits for it.
    ///
    /// # Errors
    /// When it cannot be read, or is neither.
    pub fn read(mut input: impl Read + Send + 'static) -> Result<Self, Report> {
        let unreadable = |e: std::io::Error| Report::message(format!("cannot read standard input: {e}"));
        let mut head = Vec::new();
        (&mut input).take(512).read_to_end(&mut head).map_err(unreadable)?;
        if load::is_archive(&head) {
            return Ok(Self::Archive(Input::new(std::io::Cursor::new(head).chain(input))));
        }
        Self::text(std::io::Cursor::new(head).chain(input)).map(Self::Text)
    }

    /// Reads a Dockerfile; waits for its end.
    ///
    /// # Errors
    /// When it cannot be read, is no text, or is empty.
    pub fn text(input: impl Read) -> Result<String, Report> {
        let unreadable = |e: std::io::Error| Report::message(format!("cannot read standard input: {e}"));
        let mut bytes = Vec::new();
        input.take(RECIPE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > RECIPE_MAX {
            return Err(Report::message(
                "what comes in on standard input is no archive, and too long for a Dockerfile",
            ));
        }
        if bytes.is_empty() {
            let help = "write `hoist image build - < Dockerfile`, or `… < CONTEXT.tar`";
            return Err(Diagnostic::error(None, "nothing comes in on standard input").help(help).into());
        }
        text_of(bytes, Path::new("-"))
    }
}

/// What it takes to fetch a tree.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) store: &'a Store,
    pub(super) fetcher: &'a Fetcher,
    pub(super) events: &'a dyn Sink,
}

pub(super) fn report(Failed { message, help }: Failed) -> Report {
    Diagnostic { help, ..Diagnostic::error(None, message) }.into()
}

impl BuildSpec {
    /// Returns with which rights this build fetches.
    pub(super) fn access(&self) -> Access<'_> {
        Access { secrets: &self.secrets, ssh: self.ssh.get("default") }
    }

    /// Fetches a tree that is no directory of this host, and tells of it.
    pub(super) async fn fetch(&self, tree: &Tree, here: Here<'_>) -> Result<Arc<Fetched>, Failed> {
        let begun = Instant::now();
        let is_on = |value: &Option<String>| value.as_deref().is_some_and(|value| matches!(value, "1" | "true"));
        let tree = &match tree {
            Tree::Remote(Remote::Git(repository)) if self.args.get(KEEP_GIT).is_some_and(is_on) => {
                let mut repository = repository.clone();
                repository.keep_git_dir();
                Tree::Remote(Remote::Git(repository))
            }
            other => other.clone(),
        };
        let tell = |progress| {
            let subject = Subject::Step(format!("{} [context] {tree}", self.title));
            here.events.send(Event::Progress { subject, progress, elapsed: begun.elapsed(), detail: None });
        };
        let is_told = *tree != Tree::Empty && !here.fetcher.has(tree);
        if is_told {
            tell(Progress::Working("Fetching"));
        }
        let fetched = here.fetcher.tree(tree, self.access(), here.store).await;
        if is_told {
            tell(if fetched.is_ok() { Progress::Done("Fetched") } else { Progress::Failed });
        }
        fetched
    }

    /// Opens the build context.
    pub(super) async fn open_context(&self, here: Here<'_>) -> Result<Context, Failed> {
        let unreadable = |e: std::io::Error| Failed {
            message: format!("cannot read the build context `{}`: {e}", self.context),
            help: None,
        };
        let recipe = match &self.dockerfile {
            Recipe::File(path) | Recipe::InContext(path) => Some(path.as_path()),
            Recipe::Text(_) | Recipe::Input(_) => None,
        };
        match self.context.directory() {
            Some(dir) => Context::open(dir, recipe).map_err(unreadable),
            None => {
                let fetched = self.fetch(&self.context, here).await?;
                Context::of_tree(&fetched.dir, recipe, "the build context".into()).map_err(unreadable)
            }
        }
    }

    /// Reads and parses the Dockerfile.
    pub(super) async fn parse(&self, sources: &mut Sources, here: Here<'_>) -> Result<Dockerfile, Report> {
        let Recipe::InContext(path) = &self.dockerfile else { return self.parse_here(sources) };
        let Some(dir) = self.context.directory() else {
            let fetched = self.fetch(&self.context, here).await.map_err(report)?;
            // A single file is the Dockerfile itself.
            let (name, shown) = match &fetched.file {
                Some(file) => (PathBuf::from(&file.name), PathBuf::from(self.context.to_string())),
                None => (path.clone(), path.clone()),
            };
            let text = read_within(&fetched.dir, &name).map_err(|why| unread(&shown, &why))?;
            return self.parsed(sources, &shown, &text);
        };
        let path = dir.join(path);
        let text = read_file(&path)?;
        self.parsed(sources, &path, &text)
    }

    /// As [`Self::parse`], of a Dockerfile that is on this host.
    pub(super) fn parse_here(&self, sources: &mut Sources) -> Result<Dockerfile, Report> {
        match &self.dockerfile {
            Recipe::File(path) => self.parsed(sources, path, &read_file(path)?),
            Recipe::Text(text) => self.parsed(sources, Path::new("dockerfile_inline"), text),
            Recipe::Input(text) => self.parsed(sources, Path::new("-"), text),
            Recipe::InContext(_) => {
                let message = format!("the Dockerfile is in {}, and is not fetched to be checked", self.context);
                Err(Diagnostic::error(None, message).help("check it where it is a file").into())
            }
        }
    }

    fn parsed(&self, sources: &mut Sources, path: &Path, text: &str) -> Result<Dockerfile, Report> {
        let file = sources.add(path, text);
        dockerfile::parse(text, file).map_err(|diagnostics| Report {
            diagnostics,
            sources: sources.clone(),
            ..Report::default()
        })
    }
}

fn unread(path: &Path, why: &str) -> Report {
    let message = format!("cannot read the Dockerfile `{}`: {why}", path.display());
    Diagnostic::error(None, message).help("name another one with `build.dockerfile`, or with -f").into()
}

fn read_file(path: &Path) -> Result<String, Report> {
    let bytes = std::fs::read(path).map_err(|e| unread(path, &e.to_string()))?;
    text_of(bytes, path)
}

fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, Report> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Report::message(format!("the Dockerfile `{}` is not UTF-8 text: see byte {at}", path.display()))
    })
}

/// Reads a file of a tree that was fetched; no link leads out of it.
fn read_within(dir: &Path, path: &Path) -> Result<String, String> {
    let context = Context::fetched(dir, String::new()).map_err(|e| e.to_string())?;
    let path = super::context::clean(path.as_os_str().as_encoded_bytes());
    let bytes = context.read_some(&path, RECIPE_MAX).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| format!("it is not UTF-8 text: see byte {}", e.utf8_error().valid_up_to()))
}
