//! What a service says, taken apart: each thing that makes its containers be made anew, with its place.
//!
//! The values are those that the [hash](super::service_hash) is made of, so that two services with one hash have the same
//! facets. What is told in plain text is only what a container's record holds in plain text anyhow: names, paths, ports,
//! limits, switches. Everything else (variables, labels, words of commands, options) is sealed, since a secret may stand there.
//!
//! Invariant: pure.

use std::fmt;
use std::sync::Arc;

use super::model::{Sealed, Service};
use super::schema::{Effect, Map, Pattern, SERVICE, Shape, Type};
use super::tree::Entries as _;
use super::value::Value;
use super::yaml::{self, Node};
use super::{config, json};
use crate::diag::Span;

/// What was written for a service, in canonical form.
#[derive(Clone, Default, PartialEq)]
pub struct Written(Arc<yaml::Map>);

impl Written {
    /// Keeps the tree.
    pub(crate) fn new(map: yaml::Map) -> Self {
        Self(Arc::new(map))
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} keys>", self.0.len())
    }
}

/// One thing that a service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    /// Where it stands below the service: `environment.PORT`, `ports[0].target`.
    pub path: String,
    /// Its value as JSON.
    pub value: FacetValue,
    /// Its place in the files; of what was not written, that of what it stands in.
    pub span: Span,
}

/// The value of a facet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FacetValue {
    /// One that may be told.
    Open(String),
    /// One that may not.
    Closed(Sealed),
}

/// Returns all that makes the containers of a service be made anew when it changes, in the order of printing. A list is told by
/// the number of its entries, and then entry by entry.
#[must_use]
pub fn facets(service: &Service) -> Vec<Facet> {
    let map = &service.written.0;
    let Value::Map(fields) = config::hashed(map) else { return Vec::new() };
    let known = SERVICE.shape.fields();
    let mut found = Vec::new();
    for (key, value) in &fields {
        // An unset command is printed as nothing.
        if *value == Value::Null {
            continue;
        }
        let field = known.and_then(|known| known.fields.iter().find(|field| field.json == key.as_ref()));
        let entry = field.and_then(|field| map.written(field.name));
        let mut walk = Walk { open: OPEN.contains(&key.as_ref()), found: &mut found };
        let at = entry.map_or(service.span, |entry| entry.key);
        walk.value(key, field.map(|field| &field.ty), value, entry.map(|entry| &entry.value), at);
    }
    found
}

/// Returns whether a key of a service does nothing here, whatever stands there.
#[must_use]
pub fn is_inert(key: &str) -> bool {
    let field = SERVICE.shape.fields().and_then(|known| known.fields.iter().find(|field| field.json == key));
    field.is_some_and(|field| field.ty.effect == Effect::Inert)
}

/// Keys of a service of which all texts are told: the container's record has them in plain text too.
const OPEN: &[&str] = &[
    "cap_add",
    "cap_drop",
    "cgroup_parent",
    "configs",
    "container_name",
    "cpuset",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "expose",
    "extra_hosts",
    "group_add",
    "hostname",
    "image",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "networks",
    "pid",
    "platform",
    "ports",
    "restart",
    "runtime",
    "secrets",
    "stop_signal",
    "tmpfs",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
];

/// Keys at any depth that hold options of drivers and labels, which may be anything.
const CLOSED: &[&str] = &["driver_opts", "labels", "options"];

struct Walk<'a> {
    /// Texts are told.
    open: bool,
    found: &'a mut Vec<Facet>,
}

impl Walk<'_> {
    fn value(&mut self, path: &str, ty: Option<&Type>, value: &Value<'_>, node: Option<&Node>, at: Span) {
        let at = node.map_or(at, |node| node.span);
        match value {
            Value::Map(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    let (name, ty) = child(ty, key);
                    let entry = node.and_then(Node::as_map).and_then(|map| map.get(name));
                    let at = entry.map_or(at, |entry| entry.key);
                    let open = self.open;
                    self.open &= !CLOSED.contains(&key.as_ref());
                    // A name is the user's; a record keeps a facet a line.
                    let named = format!("{path}.{}", key.replace(char::is_control, "?"));
                    self.value(&named, ty, value, entry.map(|entry| &entry.value), at);
                    self.open = open;
                }
            }
            Value::List(items) => {
                let number = items.len();
                let words = format!("{number} {}", if number == 1 { "entry" } else { "entries" });
                self.found.push(Facet { path: path.to_owned(), value: FacetValue::Open(words), span: at });
                let ty = match ty.map(|ty| ty.shape) {
                    Some(Shape::List(list)) => Some(&list.item),
                    _ => None,
                };
                let nodes = node.map_or(&[][..], Node::items);
                for (number, item) in items.iter().enumerate() {
                    self.value(&format!("{path}[{number}]"), ty, item, nodes.get(number), at);
                }
            }
            Value::Map(_) | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
                let text = json::compact(value);
                let value = if self.open || ty.is_some_and(|ty| tells(ty.shape)) || matches!(value, Value::Map(_)) {
                    FacetValue::Open(text)
                } else {
                    FacetValue::Closed(Sealed(text.into_bytes()))
                };
                self.found.push(Facet { path: path.to_owned(), value, span: at });
            }
        }
    }
}

/// Returns the key in the file and the type of what a mapping has at a key of JSON.
fn child<'k>(ty: Option<&Type>, key: &'k str) -> (&'k str, Option<&'static Type>) {
    match ty.map(|ty| ty.shape) {
        Some(Shape::Struct(fields) | Shape::Short(_, fields)) => {
            let field = fields.fields.iter().find(|field| field.json == key);
            field.map_or((key, None), |field| (field.name, Some(&field.ty)))
        }
        Some(Shape::Map(Map { value, .. })) => (key, Some(value)),
        _ => (key, None),
    }
}

/// Whether a value of that shape cannot be a secret: numbers, switches, times and words of a fixed choice.
fn tells(shape: Shape) -> bool {
    match shape {
        Shape::Bool { .. }
        | Shape::Int(_)
        | Shape::Float(_)
        | Shape::Bytes { .. }
        | Shape::Duration
        | Shape::Mode
        | Shape::Count => true,
        Shape::Text(text) => matches!(text.pattern, Pattern::Words(_)),
        Shape::Any
        | Shape::Words
        | Shape::Test
        | Shape::List(_)
        | Shape::Pairs(_)
        | Shape::Hosts
        | Shape::Map(_)
        | Shape::Struct(_)
        | Shape::Short(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{load, testing};

    #[test]
    fn only_what_cannot_be_a_secret_is_told_and_all_has_its_place() {
        let (_dir, request) = testing::project(&[
            (
                "compose.yaml",
                "services:
  web:
    image: img
    command: [run, --password=hidden]
    environment: {PIN: 1234, UNSET: }
    env_file: one.env
    labels: {\"a\\nb\": hidden}
    healthcheck: {test: hidden, interval: 5s, retries: 3}
    logging: {driver: json-file, options: {tag: hidden}}
    ports: ['127.0.0.1:8080:80']
    networks: {default: {aliases: [front], driver_opts: {a: hidden}}}
    build: .
    scale: 2
    init: true
",
            ),
            ("one.env", "# from a file\nTOKEN=hidden\n"),
        ]);
        let loaded = load(&request).expect("it is valid");
        let all = facets(&loaded.project.services[0]);
        let told: Vec<String> = all
            .iter()
            .map(|facet| {
                let (line, column) = loaded.sources.line_col(facet.span);
                let file = loaded.sources.path(facet.span.file).file_name().unwrap_or_default().to_string_lossy();
                let value = match &facet.value {
                    FacetValue::Open(text) => text.as_str(),
                    FacetValue::Closed(_) => "…",
                };
                format!("{file}:{line}:{column} {} {value}", facet.path)
            })
            .collect();
        assert!(!format!("{all:?} {:?}", loaded.project.services[0].written).contains("hidden"));
        insta::assert_snapshot!(told.join("\n"), @r#"
        compose.yaml:4:14 command 2 entries
        compose.yaml:4:15 command[0] …
        compose.yaml:4:20 command[1] …
        compose.yaml:5:24 environment.PIN …
        one.env:2:1 environment.TOKEN …
        compose.yaml:5:35 environment.UNSET …
        compose.yaml:8:25 healthcheck.test 2 entries
        compose.yaml:8:25 healthcheck.test[0] …
        compose.yaml:8:25 healthcheck.test[1] …
        compose.yaml:8:43 healthcheck.interval "5s"
        compose.yaml:8:56 healthcheck.retries 3
        compose.yaml:3:12 image "img"
        compose.yaml:14:11 init true
        compose.yaml:7:22 labels.a?b …
        compose.yaml:9:23 logging.driver …
        compose.yaml:9:49 logging.options.tag …
        compose.yaml:11:35 networks.default.aliases 1 entry
        compose.yaml:11:36 networks.default.aliases[0] "front"
        compose.yaml:11:61 networks.default.driver_opts.a …
        compose.yaml:10:12 ports 1 entry
        compose.yaml:10:13 ports[0].mode "ingress"
        compose.yaml:10:13 ports[0].host_ip "127.0.0.1"
        compose.yaml:10:13 ports[0].target 80
        compose.yaml:10:13 ports[0].published "8080"
        compose.yaml:10:13 ports[0].protocol "tcp"
        "#);
    }
}
