//! The canonical tree → [`Declared`]: the typed model of what the engine acts upon.
//!
//! The tree has the right kinds in the right places, so that reading it is plain. What no project can mean is reported by
//! `rules`, and left out here. What is a valid file and cannot be brought up, here or anywhere, goes to [`Binder::unmet`]:
//! `config` prints such a file, and `up` refuses it.
//!
//! Invariant: pure. References between sections are left to `check`.

use std::time::Duration;

use indexmap::IndexMap;

use super::Env;
use super::model::{Network, Service, Spanned, Volume};
use super::short::units;
use super::tree::Entries as _;
use super::yaml::{Kind, Map, Node};
use crate::diag::{Diagnostic, Span};
use crate::name::{ProjectName, ServiceName};

mod build;
mod grants;
mod hooks;
mod isolation;
mod logging;
mod lookup;
mod mount;
mod port;
pub(crate) mod resources;
mod restart;
pub(crate) mod service;
mod update;
mod watch;

/// All that the files declare, used or not, enabled or not.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    pub(crate) services: IndexMap<ServiceName, Service>,
    pub(crate) networks: IndexMap<String, Network>,
    pub(crate) volumes: IndexMap<String, Volume>,
}

/// Where mistakes go.
pub(crate) struct Binder<'a> {
    /// The project's name.
    pub(crate) name: &'a ProjectName,
    /// What cannot be brought up.
    pub(crate) unmet: &'a mut Vec<Diagnostic>,
    /// The project's variables, of which configs and secrets may be made.
    pub(crate) env: &'a Env,
}

impl Binder<'_> {
    /// Binds a whole, merged file.
    pub(crate) fn project(&mut self, root: &Node) -> Declared {
        let mut declared = Declared::default();
        declared.services.reserve(root.get("services").and_then(Node::as_map).map_or(0, Map::len));
        for (key, entry) in root.section("services") {
            let Ok(name) = ServiceName::new(key.as_str()) else { continue };
            let empty = Map::default();
            let map = entry.value.as_map().unwrap_or(&empty);
            let mut service = self.service(&name, map, entry.key);
            service.grants = self.grants(map, root, &name);
            if let Some(build) = &mut service.build {
                build.secrets = self.grants_of_build(map, root, &name);
            }
            declared.services.insert(name, service);
        }
        for (key, entry) in root.section("networks") {
            let node = &entry.value;
            let network = Network {
                name: self.resource_name(key, node),
                driver: node.text_at("driver").map(str::to_owned),
                internal: node.get("internal").is_some_and(Node::is_true),
                external: node.get("external").is_some_and(Node::is_true),
                labels: labels(node.get("labels")),
                span: Some(entry.key),
            };
            declared.networks.insert(key.clone(), network);
        }
        for (key, entry) in root.section("volumes") {
            let node = &entry.value;
            let volume = Volume {
                name: self.resource_name(key, node),
                driver: node.text_at("driver").map(str::to_owned),
                external: node.get("external").is_some_and(Node::is_true),
                labels: labels(node.get("labels")),
                span: Some(entry.key),
            };
            declared.volumes.insert(key.clone(), volume);
        }
        declared
    }

    fn resource_name(&self, key: &str, node: &Node) -> String {
        match node.get("name").and_then(Node::as_text) {
            Some(name) => name.to_owned(),
            None if node.get("external").is_some_and(Node::is_true) => key.to_owned(),
            None => format!("{}_{key}", self.name),
        }
    }

    /// Pushes what cannot be brought up, and returns it, to be added to.
    fn unmet(&mut self, at: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.unmet.push(Diagnostic::error(Some(at), message));
        let last = self.unmet.len() - 1;
        &mut self.unmet[last]
    }
}

/// Returns the text at `key`; empty text is none.
fn text(map: &Map, key: &str) -> Option<String> {
    map.value(key)?.as_text().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Returns the text at `key` with its place; empty text is none.
fn spanned(map: &Map, key: &str) -> Option<Spanned<String>> {
    let entry = map.written(key)?;
    let value = entry.value.as_text().filter(|text| !text.is_empty())?.to_owned();
    Some(Spanned { value, span: entry.place() })
}

fn boolean(map: &Map, key: &str) -> bool {
    map.value(key).is_some_and(Node::is_true)
}

fn spanned_boolean(map: &Map, key: &str) -> Option<Spanned<bool>> {
    let entry = map.written(key)?;
    Some(Spanned { value: entry.value.is_true(), span: entry.place() })
}

fn int(map: &Map, key: &str) -> Option<Spanned<i64>> {
    let entry = map.written(key)?;
    let Kind::Int(value) = entry.value.kind else { return None };
    Some(Spanned { value: i64::try_from(value).ok()?, span: entry.place() })
}

fn float(map: &Map, key: &str) -> Option<Spanned<f64>> {
    let entry = map.written(key)?;
    let Kind::Float(value) = entry.value.kind else { return None };
    Some(Spanned { value, span: entry.place() })
}

/// Returns a size, which is a number as text in canonical form.
fn size<T: std::str::FromStr>(map: &Map, key: &str) -> Option<Spanned<T>> {
    let entry = map.written(key)?;
    Some(Spanned { value: entry.value.as_text()?.parse().ok()?, span: entry.place() })
}

fn duration(map: &Map, key: &str) -> Option<Duration> {
    units::duration(map.value(key)?.as_text()?).ok()
}

/// Returns the texts of a list with their places.
fn texts(map: &Map, key: &str) -> Vec<Spanned<String>> {
    let items = map.value(key).map_or(&[][..], Node::items);
    let text = |item: &Node| Some(Spanned { value: item.as_text()?.to_owned(), span: item.span });
    items.iter().filter_map(text).collect()
}

fn plain_texts(map: &Map, key: &str) -> Vec<String> {
    texts(map, key).into_iter().map(|text| text.value).collect()
}

fn labels(node: Option<&Node>) -> IndexMap<String, String> {
    let entries = node.and_then(Node::as_map).into_iter().flatten();
    entries.map(|(key, entry)| (key.clone(), entry.value.as_text().unwrap_or_default().to_owned())).collect()
}
