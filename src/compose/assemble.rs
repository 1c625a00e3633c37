//! The files of a project → one tree.
//!
//! Each document in its order: its variables are replaced (`interpolate`), its services extended (`extends`), what it resets
//! is removed from what was there before (`directive`), what it includes is added to it (`include`), and it is merged onto
//! the rest (`merge`). An included project goes the same way with a directory and variables of its own.
//!
//! Invariant: nothing is read but through `locate`; the number of files and the size of what they add up to have limits.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::canonical::Canon;
use super::interpolate::{self, Outcome, Variables};
use super::provenance::Origins;
use super::trail::Trail;
use super::yaml::{self, Kind, Node};
use super::{Request, complete, directive, locate, merge, paths, schema, unique};
use crate::diag::{Diagnostic, Severity, Sources, Span};

/// How many files a project may include or extend, each time counted.
const MAX_FILES: usize = 1000;
/// How much may be copied out of extended services and included files, in nodes and kilobytes of text.
const MAX_COPIED: usize = 2_000_000;

/// A document and the file that it is from.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The file; `-` is standard input.
    pub(crate) path: PathBuf,
    /// What is written in it.
    pub(crate) tree: Node,
}

/// What the files of one project, the main one or an included one, have in common.
pub(crate) struct Scope {
    /// What relative paths are relative to.
    pub(crate) dir: PathBuf,
    /// What expressions are replaced by.
    pub(crate) variables: Variables,
    /// The files that are being read, each included by the one before it.
    pub(crate) chain: Vec<PathBuf>,
    /// Tells the scopes of a run apart.
    pub(crate) id: usize,
}

/// The services of a file that others extend, and what it resets in what it extends itself.
pub(crate) struct Extended {
    /// All of the file.
    pub(crate) tree: Node,
    /// What the file resets.
    pub(crate) resets: Vec<directive::Place>,
}

/// The work on all files of a run.
pub(crate) struct Assembly<'a> {
    pub(crate) request: &'a Request,
    pub(crate) sources: &'a mut Sources,
    /// Errors and warnings.
    pub(crate) out: Vec<Diagnostic>,
    /// What came of the variables.
    pub(crate) outcome: Outcome,
    /// Services whose base is missing, which was reported.
    pub(crate) incomplete: Vec<String>,
    /// A file that is included is missing, which was reported.
    pub(crate) partial: bool,
    /// Where each file that is not named on the command line is asked for.
    pub(crate) origins: Origins,
    /// What each document says, if that was asked for.
    pub(crate) trail: Option<Trail>,
    documents: HashMap<PathBuf, Rc<Vec<Node>>>,
    pub(super) extended: HashMap<(PathBuf, usize), Option<Rc<Extended>>>,
    pub(super) scopes: usize,
    files: usize,
    copied: usize,
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(request: &'a Request, sources: &'a mut Sources) -> Self {
        Self {
            request,
            sources,
            out: Vec::new(),
            outcome: Outcome::default(),
            incomplete: Vec::new(),
            partial: false,
            origins: Origins::new(),
            trail: request.trail.then(Trail::default),
            documents: HashMap::new(),
            extended: HashMap::new(),
            scopes: 0,
            files: 0,
            copied: 0,
        }
    }

    /// Returns the documents of one scope as one tree.
    pub(crate) fn merged(&mut self, documents: Vec<Document>, scope: &Scope) -> Option<Node> {
        let mut merged: Option<Node> = None;
        let variables = self.trail.is_some().then(|| Rc::new(scope.variables.clone()));
        for Document { path, mut tree } in documents {
            version(&tree, &mut self.out);
            if !self.request.leave.variables {
                interpolate::tree(&mut tree, &scope.variables, self.sources, &mut self.outcome);
            }
            let own = variables.is_some().then(|| tree.clone());
            let resets = directive::take(&mut tree, &mut self.out);
            self.extend(&mut tree, &path, scope, &resets);
            if let (Some(trail), Some(own), Some(variables)) = (&mut self.trail, own, &variables) {
                trail.document(own, variables);
            }
            if let Some(before) = &mut merged {
                directive::apply(before, &resets);
            }
            self.include(&mut tree, &path, scope);
            let before = merged.get_or_insert_with(|| Node::new(tree.span, Kind::Null));
            merge::onto(before, tree, &mut self.out);
        }
        merged
    }

    /// Returns the documents of a file that another one names at `at`; those of an empty one are none.
    pub(super) fn documents(&mut self, path: &Path, at: Span, how: &'static str) -> Option<Rc<Vec<Node>>> {
        self.files += 1;
        if self.files > MAX_FILES {
            if self.files == MAX_FILES + 1 {
                let message = format!("more than {MAX_FILES} files are included or extended");
                self.out.push(Diagnostic::error(Some(at), message));
            }
            return None;
        }
        if let Some(documents) = self.documents.get(path) {
            return Some(Rc::clone(documents));
        }
        let parsed = locate::read(path, self.request, self.sources).and_then(|file| {
            self.origins.insert(file, (at, how));
            yaml::parse(file, self.sources.text(file))
        });
        let documents = match parsed {
            Ok((mut documents, mut warnings)) => {
                self.out.append(&mut warnings);
                documents.retain(|document| document.kind != Kind::Null);
                Rc::new(documents)
            }
            Err(mut error) => {
                error.span = error.span.or(Some(at));
                self.out.push(error);
                return None;
            }
        };
        self.documents.insert(path.to_path_buf(), Rc::clone(&documents));
        Some(documents)
    }

    /// Brings what was extended or included into canonical form, so that the paths in it, which are relative to `dir`, can be
    /// made absolute; with `whole`, what has a default gets it.
    pub(super) fn settle(&mut self, tree: &mut Node, dir: &Path, outer: &Path, scope: &Scope, whole: bool) {
        // What is only a part may lack what the rest has; the rules for that are asked of the whole.
        let mut canon = Canon::new(!whole || self.request.leave.variables, &mut self.out);
        canon.file(tree);
        let damaged = canon.damaged;
        self.incomplete.extend(damaged);
        unique::entries(&schema::FILE, tree);
        if whole {
            complete::defaults(tree, self.request.leave.variables);
        }
        // Where paths are left relative, they are so to the directory of whoever asked for this.
        let relative = paths::relative(outer, dir);
        let dir = if self.request.leave.paths { &relative } else { dir };
        let base = paths::Base { dir, env: &scope.variables.values, real: &locate::real };
        base.resolve(&schema::FILE, tree);
    }

    /// Counts what is about to be copied; false when that makes too much, which is reported once.
    pub(super) fn may_copy(&mut self, node: &Node, at: Span) -> bool {
        let before = self.copied;
        self.copied += weight(node);
        if self.copied > MAX_COPIED && before <= MAX_COPIED {
            let message = format!("extended and included files add up to more than {MAX_COPIED} values");
            self.out.push(Diagnostic::error(Some(at), message));
        }
        self.copied <= MAX_COPIED
    }
}

/// Returns the number of nodes, a long text counted as several.
fn weight(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Str(text) | Kind::Time(text) => text.len() >> 10,
        Kind::Seq(items) => items.iter().map(weight).sum(),
        Kind::Map(map) => map.iter().map(|(key, entry)| (key.len() >> 10) + weight(&entry.value)).sum(),
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => 0,
    }
}

fn version(tree: &Node, out: &mut Vec<Diagnostic>) {
    if let Kind::Map(map) = &tree.kind
        && let Some(entry) = map.get("version")
    {
        out.push(Diagnostic::warning(Some(entry.key), "`version` is obsolete and ignored").help("remove it"));
    }
}

/// Returns the places of the errors.
pub(crate) fn places_of_errors(diagnostics: &[Diagnostic]) -> Vec<Span> {
    diagnostics.iter().filter(|d| d.severity == Severity::Error).filter_map(|d| d.span).collect()
}
