//! Entries of a list that are the same thing: the later one counts, at the place of the earlier.
//!
//! Works on canonical form, after everything has been merged.
//!
//! Invariant: pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use super::schema::{Shape, Type, Unique};
use super::yaml::{Kind, Map, Node};

/// Keeps one of the entries that are the same, in every list below `node`.
pub(crate) fn entries(ty: &Type, node: &mut Node) {
    match &mut node.kind {
        Kind::Map(map) => {
            for (key, entry) in
                map.iter_mut().filter(|(_, entry)| matches!(entry.value.kind, Kind::Map(_) | Kind::Seq(_)))
            {
                if let Some(ty) = ty.shape.below(Some(key)) {
                    entries(ty, &mut entry.value);
                }
            }
        }
        Kind::Seq(items) => {
            if let Some(unique) = ty.unique.filter(|_| items.len() > 1) {
                keep_last(items, |item| identity(unique, item));
            }
            if let Some(below) = ty.shape.below(None).filter(|below| may_have_lists(below)) {
                items.iter_mut().for_each(|item| entries(below, item));
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
    }
}

fn may_have_lists(ty: &Type) -> bool {
    matches!(ty.shape, Shape::List(_) | Shape::Map(_) | Shape::Struct(_) | Shape::Short(..))
}

fn keep_last(items: &mut Vec<Node>, identity: impl Fn(&Node) -> String) {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Node> = Vec::with_capacity(items.len());
    for item in std::mem::take(items) {
        match places.entry(identity(&item)) {
            Occupied(at) => kept[*at.get()] = item,
            Vacant(vacant) => {
                vacant.insert(kept.len());
                kept.push(item);
            }
        }
    }
    *items = kept;
}

/// Returns what entries that are the same one have in common.
pub(crate) fn identity(unique: Unique, item: &Node) -> String {
    match (unique, &item.kind) {
        (Unique::Key, Kind::Str(text)) => text.split_once('=').map_or(text.as_str(), |(key, _)| key).to_owned(),
        (Unique::Target, Kind::Map(map)) => field(map, "target"),
        (Unique::TargetIn(directory), Kind::Map(map)) => match map.get("target") {
            Some(_) => field(map, "target"),
            None => format!("{directory}/{}", field(map, "source")),
        },
        (Unique::Path, Kind::Map(map)) => field(map, "path"),
        (Unique::Port, Kind::Map(map)) => {
            let or = |key, default: &str| match map.get(key) {
                Some(_) => field(map, key),
                None => default.to_owned(),
            };
            let (ip, protocol) = (or("host_ip", "0.0.0.0"), or("protocol", "tcp"));
            format!("{ip}:{}:{}/{protocol}", or("published", "\n"), field(map, "target"))
        }
        (_, kind) => shown(kind),
    }
}

fn field(map: &Map, key: &str) -> String {
    map.get(key).map_or_else(String::new, |entry| shown(&entry.value.kind))
}

/// Returns what tells a value from others.
fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Str(text) => text.clone(),
        Kind::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}
