//! Override files: how a later tree changes an earlier one (Compose specification, "Merge", and what compose-go does).
//!
//! Mappings merge, lists append, scalars replace, nothing changes nothing; where it is otherwise the attribute table says
//! so ([`Merge`]). Short forms that merge with long ones are turned into those first.
//!
//! Invariant: pure.

use std::collections::HashSet;

use super::canonical::{Canon, until_started};
use super::place::Place;
use super::scalar;
use super::schema::{FILE, Merge, Names, Shape, Special, Type};
use super::yaml::{Entry, Kind, Map, Node};
use crate::diag::{Diagnostic, Span};

/// Merges `over`, a document of a later file, onto `base`.
pub(crate) fn onto(base: &mut Node, over: Node, out: &mut Vec<Diagnostic>) {
    Merger { out }.merge(Some(&FILE), &Place::FILE, base, over);
}

struct Merger<'a> {
    out: &'a mut Vec<Diagnostic>,
}

impl Merger<'_> {
    fn merge(&mut self, ty: Option<&Type>, place: &Place<'_>, base: &mut Node, mut over: Node) {
        let rule = ty.map_or(Merge::Kind, |ty| ty.merge);
        if rule == Merge::Replace {
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
            Merge::Sequence | Merge::Hosts => {
                self.sequence(base, place);
                self.sequence(&mut over, place);
                if let (Merge::Hosts, Kind::Seq(there), Kind::Seq(new)) = (rule, &base.kind, &mut over.kind) {
                    let known: HashSet<&str> = there.iter().filter_map(Node::as_text).collect();
                    new.retain(|item| item.as_text().is_none_or(|text| !known.contains(text)));
                }
            }
            Merge::Names => {
                let list = match ty.map(|ty| ty.shape) {
                    Some(Shape::Map(map)) => map.list,
                    _ => None,
                };
                names(base, list);
                names(&mut over, list);
            }
            Merge::Field(key) => {
                field(base, key);
                field(&mut over, key);
            }
            Merge::Driver => {
                if let (Some(before), Some(after)) = (driver(base), driver(&over))
                    && before != after
                {
                    *base = over;
                    return;
                }
            }
            Merge::Subnets => {
                if let (Kind::Seq(there), Kind::Seq(new)) = (&base.kind, &over.kind) {
                    let joined = self.subnets(ty, place, there, new);
                    base.kind = Kind::Seq(joined);
                    return;
                }
            }
            Merge::Kind | Merge::Replace => match ty.map(|ty| ty.shape) {
                Some(Shape::List(_)) => {
                    listed(base, &over);
                    listed(&mut over, base);
                }
                // The name may stand in one of the two in its old form.
                Some(Shape::Struct(fields)) if fields.special == Special::Resource => {
                    for map in [&mut *base, &mut over].into_iter().filter_map(Node::as_map_mut) {
                        Canon::new(true, self.out).external(map, place);
                    }
                }
                _ => {}
            },
        }
        match (&mut base.kind, over.kind) {
            (Kind::Map(base), Kind::Map(over)) => {
                for (key, entry) in over {
                    match base.get_mut(&key) {
                        Some(below) => {
                            let each = match ty.map(|ty| ty.shape) {
                                Some(Shape::Map(map)) => map.each,
                                _ => "",
                            };
                            let ty = ty.and_then(|ty| ty.shape.below(Some(&key)));
                            self.merge(ty, &place.named(each, &key), &mut below.value, entry.value);
                        }
                        None => {
                            base.insert(key, entry);
                        }
                    }
                }
            }
            (Kind::Seq(base), Kind::Seq(over)) => base.extend(over),
            (Kind::Map(_) | Kind::Seq(_), kind) => {
                let over = Node::new(over.span, kind);
                let message =
                    format!("{place} cannot be merged: {} with {} from before", over.describe(), base.describe());
                self.out.push(
                    Diagnostic::error(Some(over.span), message)
                        .note(base.span, "set here before")
                        .help("write both alike, or put `!override` before the later one"),
                );
            }
            (_, kind) => *base = Node::new(over.span, kind),
        }
    }

    /// Turns a mapping or a text into a list of `KEY=value`.
    fn sequence(&mut self, node: &mut Node, place: &Place<'_>) {
        match &node.kind {
            Kind::Str(_) => node.kind = Kind::Seq(vec![node.clone()]),
            Kind::Map(map) => {
                let mut items = Vec::new();
                for (key, entry) in map {
                    let span = Span { hi: entry.key.hi.max(entry.value.span.hi), ..entry.key };
                    let span = if entry.key.file == entry.value.span.file { span } else { entry.value.span };
                    match &entry.value.kind {
                        Kind::Null => items.push(Node::new(entry.key, Kind::Str(key.clone()))),
                        Kind::Seq(values) => {
                            let texts = values.iter().filter_map(|value| Some((value.span, text(&value.kind)?)));
                            items.extend(texts.map(|(at, text)| Node::new(at, Kind::Str(format!("{key}={text}")))));
                        }
                        kind => match text(kind) {
                            Some(text) => items.push(Node::new(span, Kind::Str(format!("{key}={text}")))),
                            None => {
                                let (place, what) = (place.key(key), entry.value.describe());
                                let message = format!("{place} must be text, a number or a boolean, not {what}");
                                self.out.push(Diagnostic::error(Some(entry.place()), message));
                            }
                        },
                    }
                }
                items.sort_by_key(|item| text(&item.kind));
                node.kind = Kind::Seq(items);
            }
            Kind::Seq(_) | Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) => {}
        }
    }

    /// Returns the subnets of both, as docker compose joins them: those of `over` that are not in `there`, and those of
    /// `there` that `over` has too, with what it says of them. The rest of `there` is gone.
    fn subnets(&mut self, ty: Option<&Type>, place: &Place<'_>, there: &[Node], over: &[Node]) -> Vec<Node> {
        let ty = ty.and_then(|ty| ty.shape.below(None));
        let subnet = |node: &Node| node.get("subnet").map(|subnet| subnet.kind.clone());
        let mut joined: Vec<Node> = Vec::new();
        for before in there {
            let mut before = before.clone();
            for after in over {
                let known = joined.iter().any(|node| subnet(node) == subnet(after));
                if subnet(&before) != subnet(after) {
                    if !known {
                        joined.push(after.clone());
                    }
                    continue;
                }
                self.merge(ty, &place.item(""), &mut before, after.clone());
                match joined.iter_mut().find(|node| subnet(node) == subnet(&before)) {
                    Some(node) => *node = before.clone(),
                    None => joined.push(before.clone()),
                }
            }
        }
        joined
    }
}

/// Returns a scalar as text.
fn text(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Str(text) => Some(text.clone()),
        Kind::Bool(value) => Some(value.to_string()),
        Kind::Int(value) => Some(value.to_string()),
        Kind::Float(value) => Some(scalar::go_float(*value)),
        Kind::Null | Kind::Time(_) | Kind::Seq(_) | Kind::Map(_) => None,
    }
}

/// Turns a list of names into a mapping, if every entry is text.
fn names(node: &mut Node, list: Option<Names>) {
    if let Kind::Seq(items) = &node.kind {
        let mut map = Map::default();
        for item in items {
            let Kind::Str(name) = &item.kind else { return };
            let value = if list == Some(Names::Started) { until_started(item.span) } else { Kind::Null };
            map.insert(name.clone(), Entry { key: item.span, value: Node::new(item.span, value) });
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

/// Turns a text into a list of one when the other is a list.
fn listed(node: &mut Node, other: &Node) {
    if let (Kind::Str(_), Kind::Seq(_)) = (&node.kind, &other.kind) {
        node.kind = Kind::Seq(vec![node.clone()]);
    }
}

fn driver(node: &Node) -> Option<&Kind> {
    match &node.kind {
        Kind::Map(map) => map.get("driver").map(|entry| &entry.value.kind),
        _ => None,
    }
}
