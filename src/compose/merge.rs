//! Override files: how a later tree changes an earlier one (Compose specification, "Merge", and what compose-go does).
//!
//! Mappings merge, lists append, scalars replace, nothing changes nothing; the exceptions stand in [`rule`]. Short forms
//! that merge with long ones are turned into those first.
//!
//! Invariant: pure.

use super::yaml::{Directive, Entry, Kind, Map, Node};
use crate::diag::{Diagnostic, Span};

/// Merges `over`, a document of a later file, onto `base`.
pub(crate) fn onto(base: &mut Node, mut over: Node, out: &mut Vec<Diagnostic>) {
    let mut path = Vec::new();
    take_resets(base, &mut over, out);
    merge(&mut path, base, over, out);
}

/// Removes every value that `over` marks with `!reset`, from both trees.
fn take_resets(base: &mut Node, over: &mut Node, out: &mut Vec<Diagnostic>) {
    match &mut over.kind {
        Kind::Map(over) => over.retain(|key, entry| {
            let below = match &mut base.kind {
                Kind::Map(map) => Some(map),
                _ => None,
            };
            if entry.value.directive == Some(Directive::Reset) {
                if let Some(map) = below {
                    map.shift_remove(key);
                }
                return false;
            }
            let mut nothing = Node::new(entry.key, Kind::Null);
            let base = below.and_then(|map| map.get_mut(key)).map_or(&mut nothing, |e| &mut e.value);
            take_resets(base, &mut entry.value, out);
            true
        }),
        Kind::Seq(items) => items.retain_mut(|item| {
            if item.directive == Some(Directive::Reset) {
                out.push(
                    Diagnostic::warning(
                        Some(item.span),
                        "`!reset` on an entry of a list removes nothing from earlier files",
                    )
                    .help("put `!override` on the whole list and write the entries that remain"),
                );
                return false;
            }
            let mut nothing = Node::new(item.span, Kind::Null);
            take_resets(&mut nothing, item, out);
            true
        }),
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
    }
}

/// How values at a path merge, where that is not by their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// By kind: mappings merge, lists append, scalars replace.
    Kind,
    /// The later one, even when it is nothing.
    Replace,
    /// `KEY=value` lists and mappings, as one mapping in which nothing is a value too.
    Pairs,
    /// A list of names is a mapping of names to nothing.
    Names,
    /// A list of names is a mapping of names to the condition that they are started.
    Dependencies,
    /// A text is a mapping with this one key.
    Field(&'static str),
    /// A text is a list of one.
    List,
    /// A mapping of hosts to addresses is a list of `host=address`.
    Hosts,
    /// Replaced when `driver` differs, merged otherwise.
    Driver,
}

/// Returns the rule for `path`, whose elements are keys from the top.
fn rule(path: &[String]) -> Rule {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["services", _, "command" | "entrypoint"]
        | ["services", _, "healthcheck", "test"]
        | ["services", _, "ulimits", _] => Rule::Replace,
        ["services", _, "environment" | "labels" | "annotations" | "sysctls"]
        | ["services", _, "build", "args" | "labels" | "additional_contexts"]
        | ["services", _, "deploy", "labels"]
        | ["networks" | "volumes" | "configs" | "secrets", _, "labels"] => Rule::Pairs,
        ["services", _, "depends_on"] => Rule::Dependencies,
        ["services", _, "networks" | "models"] => Rule::Names,
        ["services", _, "build"] => Rule::Field("context"),
        ["services", _, "dns" | "dns_opt" | "dns_search" | "tmpfs" | "env_file" | "label_file"] => Rule::List,
        ["services", _, "extra_hosts"] | ["services", _, "build", "extra_hosts"] => Rule::Hosts,
        ["services", _, "logging"] => Rule::Driver,
        _ => Rule::Kind,
    }
}

fn started(at: Span) -> Kind {
    let entry = |kind| Entry { key: at, value: Node::new(at, kind) };
    Kind::Map(Map::from_iter([
        ("condition".to_owned(), entry(Kind::Str("service_started".into()))),
        ("required".to_owned(), entry(Kind::Bool(true))),
    ]))
}

fn merge(path: &mut Vec<String>, base: &mut Node, mut over: Node, out: &mut Vec<Diagnostic>) {
    let rule = rule(path);
    if over.directive.take() == Some(Directive::Override) || rule == Rule::Replace {
        *base = over;
        return;
    }
    if over.kind == Kind::Null {
        return;
    }
    if base.kind == Kind::Null {
        *base = over;
        return;
    }
    match rule {
        Rule::Pairs => {
            pairs(base);
            pairs(&mut over);
            if let (Kind::Map(base), Kind::Map(over)) = (&mut base.kind, &over.kind) {
                for (key, entry) in over {
                    base.insert(key.clone(), entry.clone());
                }
                return;
            }
        }
        Rule::Names => {
            names(base, |_| Kind::Null);
            names(&mut over, |_| Kind::Null);
        }
        Rule::Dependencies => {
            names(base, started);
            names(&mut over, started);
        }
        Rule::Field(key) => {
            field(base, key);
            field(&mut over, key);
        }
        Rule::List => {
            list(base);
            list(&mut over);
        }
        Rule::Hosts => {
            hosts(base);
            hosts(&mut over);
        }
        Rule::Driver => {
            if let (Some(before), Some(after)) = (driver(base), driver(&over))
                && before != after
            {
                *base = over;
                return;
            }
        }
        Rule::Kind | Rule::Replace => {}
    }
    match (&mut base.kind, over.kind) {
        (Kind::Map(base), Kind::Map(over)) => {
            for (key, entry) in over {
                match base.get_mut(&key) {
                    Some(below) => {
                        path.push(key);
                        merge(path, &mut below.value, entry.value, out);
                        path.pop();
                    }
                    None => {
                        base.insert(key, entry);
                    }
                }
            }
        }
        (Kind::Seq(base), Kind::Seq(over)) => base.extend(over),
        (Kind::Map(_) | Kind::Seq(_), kind) | (_, kind @ (Kind::Map(_) | Kind::Seq(_))) => {
            let over = Node::new(over.span, kind);
            out.push(
                Diagnostic::error(
                    Some(over.span),
                    format!("{} cannot be merged with {} at `{}`", over.describe(), base.describe(), path.join(".")),
                )
                .note(base.span, "set here before")
                .help("write both alike, or put `!override` before the later one"),
            );
        }
        (_, kind) => *base = Node::new(over.span, kind),
    }
}

/// Turns a list of `KEY=value` into a mapping, if every entry is text.
fn pairs(node: &mut Node) {
    if let Kind::Seq(items) = &node.kind {
        let mut map = Map::new();
        for item in items {
            let Kind::Str(text) = &item.kind else { return };
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Kind::Str(value.to_owned())),
                None => (text.as_str(), Kind::Null),
            };
            map.insert(key.to_owned(), Entry { key: item.span, value: Node::new(item.span, value) });
        }
        node.kind = Kind::Map(map);
    }
}

/// Turns a list of names into a mapping, if every entry is text.
fn names(node: &mut Node, value: fn(Span) -> Kind) {
    if let Kind::Seq(items) = &node.kind {
        let mut map = Map::new();
        for item in items {
            let Kind::Str(name) = &item.kind else { return };
            map.insert(name.clone(), Entry { key: item.span, value: Node::new(item.span, value(item.span)) });
        }
        node.kind = Kind::Map(map);
    }
}

fn field(node: &mut Node, key: &str) {
    if matches!(node.kind, Kind::Str(_)) {
        let value = node.clone();
        node.kind = Kind::Map(Map::from_iter([(key.to_owned(), Entry { key: node.span, value })]));
    }
}

fn list(node: &mut Node) {
    if matches!(node.kind, Kind::Str(_)) {
        node.kind = Kind::Seq(vec![node.clone()]);
    }
}

fn hosts(node: &mut Node) {
    let Kind::Map(map) = &node.kind else { return };
    let mut items = Vec::new();
    for (host, entry) in map {
        let addresses = match &entry.value.kind {
            Kind::Seq(addresses) => addresses.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        for address in addresses {
            let Kind::Str(text) = &address.kind else { return };
            items.push(Node::new(address.span, Kind::Str(format!("{host}={text}"))));
        }
    }
    node.kind = Kind::Seq(items);
}

fn driver(node: &Node) -> Option<&Kind> {
    match &node.kind {
        Kind::Map(map) => map.get("driver").map(|entry| &entry.value.kind),
        _ => None,
    }
}
