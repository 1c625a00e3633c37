//! `extends`: a service that begins as another one of the same document or of another file.
//!
//! The base is merged under the service by the rules of override files; its own `extends` is followed first. What is of another
//! file is brought into canonical form, so that its paths, which are relative to that file's directory, can be made absolute;
//! `file` itself is relative to the project's. A base may use what its file
//! declares, but networks, volumes and the like do not come along.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::assemble::{Assembly, Extended, Scope};
use super::paths::absolute;
use super::yaml::{Entry, Kind, Map, Node};
use super::{directive, interpolate, merge};
use crate::diag::{Diagnostic, Span, nearest};

/// How many services may extend each other in a row.
const MAX_CHAIN: usize = 100;
const KEYS: [&str; 2] = ["service", "file"];

/// A service on the way to its base.
struct Step {
    file: PathBuf,
    service: String,
    /// Where it names its base.
    at: Span,
}

/// A service's base as it is named.
struct Reference<'n> {
    service: &'n str,
    /// Where the base is named.
    at: Span,
    file: Option<(&'n str, Span)>,
}

impl Assembly<'_> {
    /// Replaces the services of `document`, which is of `file`, by what they are with their bases.
    pub(super) fn extend(&mut self, document: &mut Node, file: &Path, scope: &Scope, resets: &[directive::Place]) {
        let Kind::Map(top) = &mut document.kind else { return };
        let Some(Entry { value: Node { kind: Kind::Map(services), .. }, .. }) = top.get_mut("services") else { return };
        let extending: Vec<String> = services
            .iter()
            .filter(|(_, entry)| matches!(&entry.value.kind, Kind::Map(service) if service.contains_key("extends")))
            .map(|(name, _)| name.clone())
            .collect();
        for name in extending {
            let resolved = self.resolve(services, &name, file, scope, resets, &mut Vec::new());
            if let Some(entry) = services.get_mut(&name) {
                match resolved {
                    Some(node) => entry.value = node,
                    // What is wrong was said; the rest of the service can still be looked at.
                    None => {
                        if let Kind::Map(service) = &mut entry.value.kind {
                            service.remove("extends");
                        }
                        self.incomplete.push(name);
                    }
                }
            }
        }
    }

    /// Returns the service `name` merged onto its base; `None` after an error.
    fn resolve(
        &mut self,
        services: &Map,
        name: &str,
        file: &Path,
        scope: &Scope,
        resets: &[directive::Place],
        chain: &mut Vec<Step>,
    ) -> Option<Node> {
        let mut node = services.get(name)?.value.clone();
        let extends = match &mut node.kind {
            Kind::Map(service) => service.remove("extends"),
            _ => None,
        };
        let is_foreign = chain.first().is_some_and(|first| first.file != file);
        let dir = if is_foreign { file.parent().unwrap_or(&scope.dir) } else { &scope.dir };
        if is_foreign {
            let mut document = wrapped(name, node);
            self.settle(&mut document, dir, &scope.dir, scope, false);
            node = unwrapped(document)?;
        }
        let Some(entry) = extends else { return Some(node) };
        let reference = self.reference(&entry, name)?;
        if !self.push(chain, Step { file: file.to_path_buf(), service: name.to_owned(), at: reference.at }) {
            return None;
        }
        let base = match reference.file {
            None => {
                if !services.contains_key(reference.service) {
                    self.unknown_base(name, &reference, services, None);
                    return None;
                }
                let base = self.resolve(services, reference.service, file, scope, resets, chain)?;
                self.keep_base(services, &reference, scope, chain);
                base
            }
            Some((path, at)) => {
                let path = absolute(path, dir, &scope.variables.values);
                let extended = self.extended_file(&path, at, scope)?;
                let services = match &extended.tree.kind {
                    Kind::Map(top) => top.get("services").map(|entry| &entry.value.kind),
                    _ => None,
                };
                let Some(Kind::Map(services)) = services else {
                    let shown = self.shown(&path);
                    self.out.push(Diagnostic::error(Some(at), format!("`{shown}` has no services to extend")));
                    return None;
                };
                if !services.contains_key(reference.service) {
                    let shown = self.shown(&path);
                    self.unknown_base(name, &reference, services, Some(&shown));
                    return None;
                }
                let base = self.resolve(services, reference.service, &path, scope, &extended.resets, chain)?;
                self.keep_base(services, &reference, scope, chain);
                base
            }
        };
        if !self.may_copy(&base, reference.at) {
            return None;
        }
        let mut under = wrapped(name, base);
        directive::apply(&mut under, resets);
        merge::onto(&mut under, wrapped(name, node), &mut self.out);
        unwrapped(under)
    }

    /// Keeps what a base says for who asks; the chain begins with the service that gets it.
    fn keep_base(&mut self, services: &Map, reference: &Reference<'_>, scope: &Scope, chain: &[Step]) {
        if let (Some(trail), Some(first), Some(base)) =
            (&mut self.trail, chain.first(), services.get(reference.service))
        {
            trail.base(&first.service, base, reference.at, &scope.variables);
        }
    }

    /// Adds a step; false when the chain comes back to a service or is too long.
    fn push(&mut self, chain: &mut Vec<Step>, step: Step) -> bool {
        let at = step.at;
        if let Some(first) = chain.iter().position(|s| s.file == step.file && s.service == step.service) {
            let names: Vec<String> = chain[first..].iter().chain([&step]).map(|s| format!("`{}`", s.service)).collect();
            let circle = Diagnostic::error(
                chain.last().map(|s| s.at),
                format!("services extend each other in a circle: {}", names.join(" → ")),
            );
            // Every service of the circle finds it; one message is enough.
            let is_known = self.out.iter().any(|d| {
                d.message.starts_with("services extend each other") && {
                    chain[first..].iter().any(|s| d.span == Some(s.at))
                }
            });
            if !is_known {
                self.out.push(circle.help("take `extends` out of one of them"));
            }
            return false;
        }
        if chain.len() >= MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} services extend each other in a row");
            if !self.out.iter().any(|d| d.message == message) {
                self.out.push(Diagnostic::error(Some(at), message));
            }
            return false;
        }
        chain.push(step);
        true
    }

    /// Reads `extends` of the service `name`.
    fn reference<'n>(&mut self, entry: &'n Entry, name: &str) -> Option<Reference<'n>> {
        let map = match &entry.value.kind {
            Kind::Str(service) => return Some(Reference { service, at: entry.value.span, file: None }),
            Kind::Map(map) => map,
            _ => {
                let what = entry.value.describe();
                self.out.push(
                    Diagnostic::error(
                        Some(entry.place()),
                        format!("`extends` of service `{name}` must be a service's name or a mapping, not {what}"),
                    )
                    .help("write `extends: SERVICE`, or `service: SERVICE` and `file: FILE` below it"),
                );
                return None;
            }
        };
        for (key, entry) in map.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()) && !key.starts_with("x-")) {
            let message = format!("`{key}` is not a key of `extends` of service `{name}`");
            let mut error = Diagnostic::error(Some(entry.key), message);
            error.help = nearest(key, KEYS).map(|near| format!("did you mean `{near}`?"));
            self.out.push(error);
        }
        let mut text = |key: &str| match map.get(key) {
            None | Some(Entry { value: Node { kind: Kind::Null, .. }, .. }) => Ok(None),
            Some(Entry { value: Node { kind: Kind::Str(text), span, .. }, .. }) => Ok(Some((text.as_str(), *span))),
            Some(entry) => {
                let what = entry.value.describe();
                let message = format!("`extends.{key}` of service `{name}` must be text, not {what}");
                self.out.push(Diagnostic::error(Some(entry.place()), message));
                Err(())
            }
        };
        let (service, file) = (text("service").ok()?, text("file").ok()?);
        let Some((service, at)) = service else {
            let message = format!("`extends` of service `{name}` does not say which service");
            self.out.push(Diagnostic::error(Some(entry.key), message).help("add `service: SERVICE` below it"));
            return None;
        };
        Some(Reference { service, at, file })
    }

    fn unknown_base(&mut self, name: &str, reference: &Reference<'_>, services: &Map, file: Option<&str>) {
        let wanted = reference.service;
        let place = file.map_or(String::new(), |file| format!(" in `{file}`"));
        let mut error = Diagnostic::error(
            Some(reference.at),
            format!("service `{name}` extends `{wanted}`, which is not defined{place}"),
        );
        let known = services.keys().map(String::as_str).filter(|known| *known != name || file.is_some());
        error.help = match nearest(wanted, known) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if file.is_none() => Some("a service of another file needs `file: FILE` beside `service`".into()),
            None => None,
        };
        self.out.push(error);
    }

    /// Returns a file whose services are extended; it is read once.
    fn extended_file(&mut self, path: &Path, at: Span, scope: &Scope) -> Option<Rc<Extended>> {
        let id = (path.to_path_buf(), scope.id);
        if let Some(known) = self.extended.get(&id) {
            return known.clone();
        }
        let extended = self.read_extended(path, at, scope).map(Rc::new);
        self.extended.insert(id, extended.clone());
        extended
    }

    fn read_extended(&mut self, path: &Path, at: Span, scope: &Scope) -> Option<Extended> {
        let documents = self.documents(path, at, "extended here")?;
        let mut tree = Node::new(at, Kind::Null);
        let mut resets = Vec::new();
        for document in documents.iter() {
            if !self.may_copy(document, at) {
                return None;
            }
            let mut document = document.clone();
            if !self.request.leave.variables {
                interpolate::tree(&mut document, &scope.variables, self.sources, &mut self.outcome);
            }
            let places = directive::take(&mut document, &mut self.out);
            directive::apply(&mut tree, &places);
            resets.extend(places);
            merge::onto(&mut tree, document, &mut self.out);
        }
        Some(Extended { tree, resets })
    }

    /// Returns `path` as the user would write it.
    pub(super) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.request.cwd).unwrap_or(path).display().to_string()
    }
}

/// Returns a document with this service alone.
fn wrapped(name: &str, service: Node) -> Node {
    let span = service.span;
    let map = |key: &str, value: Node| Kind::Map(Map::from_iter([(key.to_owned(), Entry { key: span, value })]));
    Node::new(span, map("services", Node::new(span, map(name, service))))
}

fn unwrapped(document: Node) -> Option<Node> {
    let Kind::Map(mut top) = document.kind else { return None };
    let Kind::Map(services) = top.remove("services")?.value.kind else { return None };
    services.into_iter().next().map(|(_, entry)| entry.value)
}
