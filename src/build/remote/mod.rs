//! What a build reads from elsewhere: files and archives by their URLs, commits of git
//! repositories.
//!
//! Everything is fetched once a command, when it is needed first, into a scratch directory of the store: who asks again gets
//! the same. A command that is killed leaves it to the next sweep. What comes is a stranger's: names in it lead nowhere else,
//! and a server that says nothing, or less than it promised, is an error.

mod archive;
mod git;
mod http;
mod repository;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_git;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

pub use self::repository::Repository;
use crate::build::execute::Secret;
use crate::build::trees::Tree;
use crate::diag::Diagnostic;
use crate::image::Error;
use crate::image::digest::Digest;
pub(crate) use crate::image::registry::download::{Failed, shown};
use crate::image::store::{Scratch, Store};

/// Something that is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    /// A file, by its URL of http or https.
    Http(String),
    /// The files of a commit.
    Git(Repository),
}

impl Remote {
    /// Reads a build context; `None` when it is a path.
    ///
    /// # Errors
    /// Why it is none that can be fetched, and what could be.
    pub(crate) fn of_context(text: &str) -> Result<Option<Self>, Failed> {
        if let Some(found) = Self::of(text, true)? {
            return Ok(Some(found));
        }
        let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '.'])) else {
            return Ok(None);
        };
        let message = format!("`{}` cannot be fetched: `{scheme}://` is not known", shown(text));
        Err(Failed { message, help: Some("write a path, or a URL of http, https, git or ssh".into()) })
    }

    /// Reads a source of `ADD`; `None` when it is no place elsewhere.
    ///
    /// # Errors
    /// Why it is none that can be fetched, and what could be.
    pub(crate) fn of_source(text: &str) -> Result<Option<Self>, Failed> {
        Self::of(text, false)
    }

    fn of(text: &str, is_context: bool) -> Result<Option<Self>, Failed> {
        if let Some(repository) = Repository::parse(text, is_context)? {
            return Ok(Some(Self::Git(repository)));
        }
        let is = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
        Ok((is("http://") || is("https://")).then(|| Self::Http(text.to_owned())))
    }
}

impl fmt::Display for Remote {
    /// Writes it without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(&shown(url)),
            Self::Git(repository) => write!(f, "{repository}"),
        }
    }
}

/// What came.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The directory that it lies in, with nothing else.
    pub(crate) dir: PathBuf,
    /// It is a file.
    pub(crate) file: Option<FetchedFile>,
}

/// A file that came.
#[derive(Debug)]
pub(crate) struct FetchedFile {
    /// What it is called in its directory.
    pub(crate) name: String,
    /// The name was not made up here.
    pub(crate) is_named: bool,
    pub(crate) digest: Digest,
}

/// With which rights something is fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// The build's secrets, by id.
    pub(crate) secrets: &'a BTreeMap<String, Secret>,
    /// The socket of its SSH agent `default`.
    pub(crate) ssh: Option<&'a PathBuf>,
}

impl Access<'_> {
    /// Returns the value of a secret as a text without the line's end; `None` when there is none of that id.
    fn secret(&self, id: &str) -> Result<Option<String>, Failed> {
        let failed = |why: String| Failed { message: format!("the secret `{id}` {why}"), help: None };
        let bytes = match self.secrets.get(id) {
            None => return Ok(None),
            Some(Secret::Value(value)) => value.clone(),
            Some(Secret::File(path)) => std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?,
        };
        let text = String::from_utf8(bytes).map_err(|_| failed("is not UTF-8 text".into()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        // It becomes the line of a header.
        let is_line = !text.contains(|c: char| c.is_control());
        if is_line { Ok(Some(text.to_owned())) } else { Err(failed("is more than one line".into())) }
    }
}

type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;
type Cell = Arc<OnceCell<Arc<Fetched>>>;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// A file as it is, or a tree.
    Source(Remote),
    /// The files of a build context: what is in it, if it is an archive.
    Tree(Tree),
}

/// Fetches, and keeps what it has fetched as long as it lives.
pub struct Fetcher {
    environment: Environment,
    /// Sees to it that a program does not outlive this process.
    tame: fn(&mut Command),
    known: Mutex<Vec<(Wanted, Cell)>>,
    /// Where all of it lies, and how many directories were made there.
    scratch: Mutex<Option<(Scratch, u32)>>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetcher")
    }
}

impl Fetcher {
    /// Returns one for a command with this environment: proxies, certificates and patience are those of pulls. `tame` sees to it
    /// that a program which is to be started does not outlive this process.
    pub fn new(environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static, tame: fn(&mut Command)) -> Self {
        Self { environment: Box::new(environment), tame, known: Mutex::default(), scratch: Mutex::default() }
    }

    /// Returns a source of `ADD`, once it is here.
    pub(crate) async fn source(
        &self,
        remote: &Remote,
        access: Access<'_>,
        store: &Store,
    ) -> Result<Arc<Fetched>, Failed> {
        let fetch = || async {
            match remote {
                Remote::Http(url) => self.file(url, access, store).await.map(Arc::new),
                Remote::Git(repository) => self.commit(repository, access, store).await.map(Arc::new),
            }
        };
        self.cell(Wanted::Source(remote.clone())).get_or_try_init(fetch).await.cloned()
    }

    /// Returns a build context, once it is here. One that is no archive and no tree is a single file: a Dockerfile.
    pub(crate) async fn tree(&self, tree: &Tree, access: Access<'_>, store: &Store) -> Result<Arc<Fetched>, Failed> {
        let fetch = || async {
            match tree {
                Tree::Directory(dir) => Ok(Arc::new(Fetched { dir: dir.clone(), file: None })),
                Tree::Empty => Ok(Arc::new(Fetched { dir: self.directory(store)?, file: None })),
                Tree::Archive(input) => self.unfolded(Arc::new(self.taken(input, store).await?), tree, store),
                Tree::Remote(remote) => {
                    let source = self.source(remote, access, store).await?;
                    self.unfolded(source, tree, store)
                }
            }
        };
        self.cell(Wanted::Tree(tree.clone())).get_or_try_init(fetch).await.cloned()
    }

    /// Returns whether a build context is here.
    pub(crate) fn has(&self, tree: &Tree) -> bool {
        self.cell(Wanted::Tree(tree.clone())).initialized()
    }

    fn cell(&self, wanted: Wanted) -> Cell {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.iter().find(|(other, _)| *other == wanted) {
            Some((_, cell)) => cell.clone(),
            None => {
                known.push((wanted, Cell::default()));
                known[known.len() - 1].1.clone()
            }
        }
    }

    /// Returns a new directory in the scratch.
    fn directory(&self, store: &Store) -> Result<PathBuf, Failed> {
        let mut held = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let (scratch, count) = match &mut *held {
            Some(held) => held,
            None => {
                store.sweep().map_err(|e| of_store(&e))?;
                held.insert((store.scratch().map_err(|e| of_store(&e))?, 0))
            }
        };
        *count += 1;
        Ok(scratch.layer(&format!("fetched-{count}")).map_err(|e| of_store(&e))?.join("fs"))
    }
}

fn of_store(error: &Error) -> Failed {
    let Diagnostic { message, help, .. } = Diagnostic::from_error(error);
    Failed { message, help }
}
