//! `include`: another project as a part of this one, with its own directory and its own variables.
//!
//! Services, networks, volumes, secrets, configs and models come along. What is included and what includes must not define
//! the same thing differently.

use std::path::PathBuf;

use super::assemble::{Assembly, Document, Scope};
use super::dotenv::{self, Found};
use super::paths::absolute;
use super::schema::FILE;
use super::yaml::{Entry, Kind, Map, Node};
use super::{Env, locate};
use crate::diag::{Diagnostic, Span, nearest};

/// What is taken over.
const SECTIONS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];
const KEYS: [&str; 3] = ["path", "project_directory", "env_file"];
/// How deep files may include each other.
const MAX_CHAIN: usize = 100;

/// One entry of `include`: paths with their places.
struct Inclusion {
    paths: Vec<(String, Span)>,
    directory: Option<String>,
    env_files: Vec<(String, Span)>,
}

impl Assembly<'_> {
    /// Adds what `document` includes to it.
    pub(super) fn include(&mut self, document: &mut Node, file: &std::path::Path, scope: &Scope) {
        let Kind::Map(top) = &mut document.kind else { return };
        let Some(entry) = top.remove("include") else { return };
        let items = match &entry.value.kind {
            Kind::Seq(items) => items,
            Kind::Null => return,
            _ => {
                let what = entry.value.describe();
                self.out.push(
                    Diagnostic::error(Some(entry.place()), format!("`include` must be a list, not {what}"))
                        .help("write one file a line, each after `- `"),
                );
                return;
            }
        };
        for item in items {
            let before = self.out.len();
            match self.inclusion(item, &entry).and_then(|inclusion| self.included(&inclusion, file, scope)) {
                Some(included) => self.import(included, top, scope),
                // An empty file is no mistake.
                None => self.partial |= self.out.len() > before,
            }
        }
    }

    /// Reads one entry of `include`.
    fn inclusion(&mut self, item: &Node, list: &Entry) -> Option<Inclusion> {
        let place = |node: &Node, key: Span| if node.span.lo == node.span.hi { key } else { node.span };
        let map = match &item.kind {
            Kind::Str(path) => {
                let paths = vec![(path.clone(), item.span)];
                return Some(Inclusion { paths, directory: None, env_files: Vec::new() });
            }
            Kind::Map(map) => map,
            _ => {
                let what = item.describe();
                self.out.push(
                    Diagnostic::error(
                        Some(place(item, list.key)),
                        format!("an entry of `include` must be a path or a mapping, not {what}"),
                    )
                    .help("write a path, or `path`, `project_directory` and `env_file` below it"),
                );
                return None;
            }
        };
        for (key, entry) in map.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()) && !key.starts_with("x-")) {
            let mut error = Diagnostic::error(Some(entry.key), format!("`{key}` is not a key of `include`"));
            error.help = nearest(key, KEYS).map(|near| format!("did you mean `{near}`?"));
            self.out.push(error);
        }
        let paths = self.paths(map.get("path"), "path")?;
        let env_files = self.paths(map.get("env_file"), "env_file")?;
        let directory = self.paths(map.get("project_directory"), "project_directory")?.pop().map(|(text, _)| text);
        if paths.is_empty() {
            let message = "this entry of `include` does not say which file";
            self.out.push(Diagnostic::error(Some(item.span), message).help("add `path: FILE`"));
            return None;
        }
        Some(Inclusion { paths, directory, env_files })
    }

    /// Reads a path or a list of them; nothing written is none.
    fn paths(&mut self, entry: Option<&Entry>, key: &str) -> Option<Vec<(String, Span)>> {
        let Some(entry) = entry else { return Some(Vec::new()) };
        let items = match &entry.value.kind {
            Kind::Null => return Some(Vec::new()),
            Kind::Seq(items) if key != "project_directory" => items.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        let mut paths = Vec::new();
        for item in items {
            match &item.kind {
                Kind::Str(text) if !text.is_empty() => paths.push((text.clone(), item.span)),
                Kind::Str(_) if key == "project_directory" => {}
                _ => {
                    let want = if key == "project_directory" { "a path" } else { "a path or a list of paths" };
                    let at = if item.span.lo == item.span.hi { entry.key } else { item.span };
                    let what = if matches!(item.kind, Kind::Str(_)) { "empty".to_owned() } else { item.describe() };
                    self.out
                        .push(Diagnostic::error(Some(at), format!("`{key}` of `include` must be {want}, not {what}")));
                    return None;
                }
            }
        }
        Some(paths)
    }

    /// Loads an included project as one tree with absolute paths.
    fn included(&mut self, inclusion: &Inclusion, file: &std::path::Path, scope: &Scope) -> Option<Node> {
        let values = &scope.variables.values;
        let files: Vec<(PathBuf, Span)> =
            inclusion.paths.iter().map(|(path, at)| (absolute(path, &scope.dir, values), *at)).collect();
        let (first, at) = files.first()?;
        let mut chain = scope.chain.clone();
        chain.push(file.to_path_buf());
        for (path, at) in &files {
            if chain.contains(path) {
                let circle: Vec<String> = chain
                    .iter()
                    .skip_while(|p| *p != path)
                    .chain([path])
                    .map(|path| format!("`{}`", self.shown(path)))
                    .collect();
                self.out.push(
                    Diagnostic::error(
                        Some(*at),
                        format!("files include each other in a circle: {}", circle.join(" → ")),
                    )
                    .help("take one of them out of `include`"),
                );
                return None;
            }
        }
        if chain.len() > MAX_CHAIN {
            let message = format!("files include each other more than {MAX_CHAIN} levels deep");
            self.out.push(Diagnostic::error(Some(*at), message));
            return None;
        }
        let dir = match &inclusion.directory {
            Some(directory) => absolute(directory, &scope.dir, values),
            None => first.parent().map_or_else(|| scope.dir.clone(), std::path::Path::to_path_buf),
        };
        let variables = self.variables(inclusion, &dir, scope)?;
        let mut documents = Vec::new();
        for (path, at) in &files {
            for tree in self.documents(path, *at, "included here")?.iter() {
                if !self.may_copy(tree, *at) {
                    return None;
                }
                documents.push(Document { path: path.clone(), tree: tree.clone() });
            }
        }
        self.scopes += 1;
        let sub = Scope { dir, variables, chain, id: self.scopes };
        let mut tree = self.merged(documents, &sub)?;
        inherit(&mut tree, &sub.variables.values);
        self.settle(&mut tree, &sub.dir, &scope.dir, &sub, true);
        Some(tree)
    }

    /// Returns the variables of an included project: those of the one that includes it, and below them its own.
    fn variables(
        &mut self,
        inclusion: &Inclusion,
        dir: &std::path::Path,
        scope: &Scope,
    ) -> Option<super::interpolate::Variables> {
        let mut variables = scope.variables.clone();
        let mut files: Vec<(PathBuf, Option<Span>)> = inclusion
            .env_files
            .iter()
            .map(|(path, at)| (absolute(path, &scope.dir, &variables.values), Some(*at)))
            .collect();
        if files.is_empty() {
            files.extend(locate::dotenv(dir).map(|path| (path, None)));
        }
        let mut found = Found::new();
        let mut sound = true;
        for (path, at) in files {
            let read = locate::read_text(&path, self.request, self.sources).and_then(|file| {
                let text = self.sources.text(file);
                dotenv::parse(file, text, &variables.values, &mut found, &mut self.out)
            });
            if let Err(mut error) = read {
                error.span = error.span.or(at);
                self.out.push(error);
                sound = false;
            }
        }
        variables.adopt(found);
        sound.then_some(variables)
    }

    /// Adds the sections of an included project to those of the document that includes it.
    fn import(&mut self, included: Node, top: &mut Map, scope: &Scope) {
        let Kind::Map(sections) = included.kind else {
            let what = included.describe();
            self.out.push(Diagnostic::error(Some(included.span), format!("a compose file is a mapping, not {what}")));
            return;
        };
        for (section, entry) in sections {
            if !SECTIONS.contains(&section.as_str()) {
                self.other(&section, &entry);
                continue;
            }
            let resources = match entry.value.kind {
                Kind::Map(resources) => resources,
                Kind::Null => continue,
                _ => {
                    let what = entry.value.describe();
                    let message = format!("`{section}` of a compose file must be a mapping, not {what}");
                    self.out.push(Diagnostic::error(Some(entry.place()), message));
                    continue;
                }
            };
            let none = Entry { key: entry.key, value: Node::new(entry.value.span, Kind::Map(Map::default())) };
            top.insert_new(section.clone(), none);
            let Some(own) = top.get_mut(&section) else { continue };
            if own.value.kind == Kind::Null {
                own.value.kind = Kind::Map(Map::default());
            }
            // Anything else is reported where it stands.
            let Kind::Map(own) = &mut own.value.kind else { continue };
            for (name, entry) in resources {
                match own.get(&name) {
                    None => {
                        own.insert(name, entry);
                    }
                    Some(first) if self.is_same(&section, first, &entry, scope) => {}
                    Some(first) => self.out.push(
                        Diagnostic::error(
                            Some(first.key),
                            format!("`{name}` of `{section}` is defined differently in an included file"),
                        )
                        .note(entry.key, "the other one")
                        .help("to change what is included, put a further file into `path`, or into `-f`"),
                    ),
                }
            }
        }
    }

    /// Returns whether what is defined here, in `section`, is the same as what is included, however it is written.
    fn is_same(&mut self, section: &str, own: &Entry, included: &Entry, scope: &Scope) -> bool {
        if is_same(&own.value, &included.value) {
            return true;
        }
        let span = own.value.span;
        let map = |key: &str, value: Node| Kind::Map(Map::from_iter([(key.to_owned(), Entry { key: span, value })]));
        let mut document = Node::new(span, map(section, Node::new(span, map("it", own.value.clone()))));
        // What is wrong with it will be reported where it stands.
        let (out, incomplete) = (self.out.len(), self.incomplete.len());
        self.settle(&mut document, &scope.dir, &scope.dir, scope, true);
        self.out.truncate(out);
        self.incomplete.truncate(incomplete);
        document.get(section).and_then(|all| all.get("it")).is_some_and(|own| is_same(own, &included.value))
    }

    /// Looks at a key of an included file that is not taken over.
    fn other(&mut self, key: &str, entry: &Entry) {
        let known = FILE.shape.fields().map_or(&[][..], |fields| fields.fields);
        if !key.starts_with("x-") && !known.iter().any(|field| field.name == key) {
            let mut error = Diagnostic::error(Some(entry.key), format!("`{key}` is not a key of a compose file"));
            error.help =
                nearest(key, known.iter().map(|field| field.name)).map(|near| format!("did you mean `{near}`?"));
            self.out.push(error);
        }
    }
}

/// Returns whether two values are the same, wherever they stand and in whatever order their keys.
fn is_same(a: &Node, b: &Node) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Map(a), Kind::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, entry)| b.get(key).is_some_and(|other| is_same(&entry.value, &other.value)))
        }
        (Kind::Seq(a), Kind::Seq(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (a, b) => a == b,
    }
}

/// Gives the entries of a list in `environment` that are only a name the value that an included project has for it.
fn inherit(tree: &mut Node, values: &Env) {
    let Kind::Map(top) = &mut tree.kind else { return };
    let Some(Entry { value: Node { kind: Kind::Map(services), .. }, .. }) = top.get_mut("services") else { return };
    for entry in services.values_mut() {
        let Kind::Map(service) = &mut entry.value.kind else { continue };
        let Some(environment) = service.get_mut("environment") else { continue };
        // As in docker compose, the mapping form is left to the including project.
        let Kind::Seq(items) = &mut environment.value.kind else { continue };
        for item in items {
            if let Kind::Str(text) = &mut item.kind
                && let Some(value) = values.get(text.as_str())
            {
                *text = format!("{text}={value}");
            }
        }
    }
}
