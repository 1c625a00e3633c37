//! Tree → [`Declared`]: types, long forms, absolute paths. All mistakes of a file are collected, none stops the rest.
//!
//! A key that the specification knows and this version does not act upon gives one warning at its place; a key that
//! nobody knows is an error with the nearest known one.
//!
//! Invariant: pure. References between sections are left to `check`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::Env;
use super::keys::{self, Section, Standing};
use super::model::{Network, Service, Volume};
use super::value::{Extensions, Value};
use super::yaml::{Entry, Kind, Map, Node};
use crate::diag::{Diagnostic, Severity, Span, nearest};
use crate::name::{ProjectName, ServiceName};

mod deploy;
mod isolation;
pub(crate) mod lookup;
mod mount;
mod port;
mod resources;
mod service;
mod take;

/// All that the files declare, used or not, enabled or not.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    pub(crate) services: IndexMap<ServiceName, Service>,
    pub(crate) networks: IndexMap<String, Network>,
    pub(crate) volumes: IndexMap<String, Volume>,
    pub(crate) extensions: Extensions,
    /// Services of which a part is missing for a reason that was reported; what follows from it is not.
    pub(crate) incomplete: HashSet<ServiceName>,
    /// A part of the whole is missing for a reason that was reported.
    pub(crate) partial: bool,
}

/// What values are resolved against, and where mistakes go.
pub(crate) struct Binder<'a> {
    /// The project's name.
    pub(crate) name: &'a ProjectName,
    /// Absolute directory of the project.
    pub(crate) dir: &'a Path,
    /// The project's environment.
    pub(crate) env: &'a Env,
    /// Errors and warnings.
    pub(crate) out: &'a mut Vec<Diagnostic>,
}

impl Binder<'_> {
    /// Binds a whole, merged file.
    pub(crate) fn project(&mut self, root: &Node) -> Declared {
        let mut declared = Declared::default();
        let Kind::Map(top) = &root.kind else {
            self.error(root.span, format!("a compose file is a mapping, not {}", root.describe())).help =
                Some("it begins with `services:`".into());
            return declared;
        };
        self.keys(top, &keys::TOP, "a compose file");
        declared.extensions = extensions(top);
        for (key, entry) in top {
            match key.as_str() {
                "name" => {
                    self.text(entry, "name", "the project");
                }
                "services" => {
                    for (key, entry) in self.section(entry, "services") {
                        match ServiceName::new(key.as_str()) {
                            Ok(name) => {
                                let before = self.out.len();
                                if let Some(service) = self.service(&name, entry) {
                                    let failed = self.out[before..].iter().any(|d| d.severity == Severity::Error);
                                    if failed && service.image.is_none() && service.build.is_none() {
                                        declared.incomplete.insert(name.clone());
                                    }
                                    declared.services.insert(name, service);
                                }
                            }
                            Err(error) => {
                                self.error(entry.key, error.to_string());
                            }
                        }
                    }
                }
                "networks" => {
                    for (key, entry) in self.section(entry, "networks") {
                        let network = self.network(key, entry);
                        declared.networks.insert(key.clone(), network);
                    }
                }
                "volumes" => {
                    for (key, entry) in self.section(entry, "volumes") {
                        let volume = self.volume(key, entry);
                        declared.volumes.insert(key.clone(), volume);
                    }
                }
                _ => {}
            }
        }
        declared
    }

    /// Returns the mapping of a top-level section; nothing written is an empty one.
    fn section<'n>(&mut self, entry: &'n Entry, key: &str) -> impl Iterator<Item = (&'n String, &'n Entry)> + use<'n> {
        let map = match &entry.value.kind {
            Kind::Map(map) => Some(map),
            Kind::Null => None,
            _ => {
                self.wrong(entry, key, "a compose file", "a mapping");
                None
            }
        };
        map.into_iter().flatten()
    }

    fn network(&mut self, key: &str, entry: &Entry) -> Network {
        let owner = format!("network `{key}`");
        let mut network = Network { name: format!("{}_{key}", self.name), span: Some(entry.key), ..Network::default() };
        let Some(map) = self.optional_map(entry, &owner) else { return network };
        self.keys(map, &keys::NETWORK, &owner);
        network.extensions = extensions(map);
        let (external, old_name) = self.external(map, &owner);
        network.external = external;
        if external {
            key.clone_into(&mut network.name);
        }
        for (field, entry) in map {
            match field.as_str() {
                "name" => network.name = self.text(entry, field, &owner).unwrap_or(network.name),
                "driver" => network.driver = self.text(entry, field, &owner).filter(|d| !d.is_empty()),
                "internal" => network.internal = self.boolean(entry, field, &owner).unwrap_or(false),
                "labels" => network.labels = self.labels(entry, field, &owner),
                _ => {}
            }
        }
        network.name = old_name.unwrap_or(network.name);
        network
    }

    fn volume(&mut self, key: &str, entry: &Entry) -> Volume {
        let owner = format!("volume `{key}`");
        let mut volume = Volume { name: format!("{}_{key}", self.name), span: Some(entry.key), ..Volume::default() };
        let Some(map) = self.optional_map(entry, &owner) else { return volume };
        self.keys(map, &keys::VOLUME, &owner);
        volume.extensions = extensions(map);
        let (external, old_name) = self.external(map, &owner);
        volume.external = external;
        if external {
            key.clone_into(&mut volume.name);
        }
        for (field, entry) in map {
            match field.as_str() {
                "name" => volume.name = self.text(entry, field, &owner).unwrap_or(volume.name),
                "driver" => volume.driver = self.text(entry, field, &owner).filter(|d| !d.is_empty()),
                "labels" => volume.labels = self.labels(entry, field, &owner),
                _ => {}
            }
        }
        volume.name = old_name.unwrap_or(volume.name);
        volume
    }

    /// Returns `external` and the name in its old form, `external: {name: x}`.
    fn external(&mut self, map: &Map, owner: &str) -> (bool, Option<String>) {
        let Some(entry) = map.get("external") else { return (false, None) };
        let Kind::Map(old) = &entry.value.kind else {
            return (self.boolean(entry, "external", owner).unwrap_or(false), None);
        };
        self.keys(old, &keys::EXTERNAL, &format!("`external` of {owner}"));
        self.out.push(
            Diagnostic::warning(Some(entry.key), format!("the name of {owner} stands in an old form"))
                .help("write `name` beside `external: true`"),
        );
        let name = old.get("name").and_then(|name| self.text(name, "external.name", owner));
        if let (Some(name), Some(other)) = (&name, map.get("name"))
            && other.value.kind != Kind::Str(name.clone())
        {
            self.error(other.place(), format!("`name` and `external.name` of {owner} differ"));
        }
        (true, name)
    }

    /// Reports the keys of `map` that are unknown, refused or without effect.
    fn keys(&mut self, map: &Map, section: &Section, owner: &str) {
        for (key, entry) in map {
            match section.standing(key) {
                Standing::Used => {}
                Standing::Ignored => self.out.push(Diagnostic::warning(
                    Some(entry.key),
                    format!("`{key}` of {owner} has no effect in this version and is ignored"),
                )),
                Standing::Refused => {
                    self.error(entry.key, format!("`{key}` of {owner} is not supported yet"));
                }
                Standing::Unknown => {
                    let help = nearest(key, section.all()).map(|near| format!("did you mean `{near}`?"));
                    self.error(entry.key, format!("`{key}` is not a key of {owner}")).help = help;
                }
            }
        }
    }

    /// Pushes an error and returns it, to be added to.
    fn error(&mut self, at: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.out.push(Diagnostic::error(Some(at), message));
        let last = self.out.len() - 1;
        &mut self.out[last]
    }

    /// Returns `path` made absolute: `~` is the home directory, anything relative is below the project's directory.
    fn absolute(&self, path: &str) -> PathBuf {
        absolute(path, self.dir, self.env)
    }
}

/// Returns `path` made absolute and without `.` and `..`: `~` is `$HOME`, anything relative is below `dir`.
pub(crate) fn absolute(path: &str, dir: &Path, env: &Env) -> PathBuf {
    if let Some(rest) = path.strip_prefix('~')
        && (rest.is_empty() || rest.starts_with('/'))
        && let Some(home) = env.get("HOME").filter(|home| home.starts_with('/'))
    {
        return clean(&Path::new(home).join(rest.trim_start_matches('/')));
    }
    clean(&dir.join(path))
}

/// Returns `path` without `.`, `..` and doubled slashes, by its text alone, as Go's `filepath.Clean`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => out.push(component),
        }
    }
    out
}

/// Returns the `x-*` keys of `map`.
fn extensions(map: &Map) -> Extensions {
    map.iter().filter(|(key, _)| key.starts_with("x-")).map(|(key, e)| (key.clone(), Value::of(&e.value))).collect()
}
