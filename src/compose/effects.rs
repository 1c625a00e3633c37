//! What of a valid file does nothing here: keys that this engine does not act upon, and numbers that mean nothing.
//!
//! `config` has no use for this; `up` and its like say it before they begin.
//!
//! Works on canonical form before anything is added to it, so that only what was written is talked about.
//!
//! Invariant: pure.

use super::canonical::bounds;
use super::place::Place;
use super::schema::{Effect, FILE, Shape, Type};
use super::yaml::{Entry, Kind, Node};
use crate::diag::{Diagnostic, Span};

/// Reports what of a whole file does nothing here.
pub(crate) fn file(root: &Node, out: &mut Vec<Diagnostic>) {
    walk(&FILE, root, root.span, &Place::FILE, out);
}

fn walk(ty: &Type, node: &Node, at: Span, place: &Place<'_>, out: &mut Vec<Diagnostic>) {
    match (ty.shape, &node.kind) {
        (Shape::Struct(fields) | Shape::Short(_, fields), Kind::Map(map)) => {
            for (key, entry) in map {
                let Some(field) = fields.field(key) else { continue };
                let place = place.key(key);
                match field.ty.effect {
                    // What stands where its whole does comes of a short form.
                    Effect::Inert if entry.key == node.span => out.push(Diagnostic::warning(
                        Some(entry.key),
                        format!("{} has no effect in this version and is ignored", shown(key, entry)),
                    )),
                    Effect::Inert => out.push(Diagnostic::warning(
                        Some(entry.key),
                        format!("{place} has no effect in this version and is ignored"),
                    )),
                    Effect::Refused => {
                        out.push(Diagnostic::error(Some(entry.key), format!("{place} is not supported yet")));
                    }
                    Effect::Acts => walk(&field.ty, &entry.value, entry.place(), &place, out),
                }
            }
        }
        (Shape::Map(map), Kind::Map(entries)) => {
            for (name, entry) in entries {
                walk(&map.value, &entry.value, entry.place(), &place.named(map.each, name), out);
            }
        }
        (Shape::List(list), Kind::Seq(items)) => {
            let each = place.item(list.each);
            items.iter().for_each(|item| walk(&list.item, item, item.span, &each, out));
        }
        (Shape::Short(_, fields), Kind::Int(_)) => {
            if let [first, ..] = fields.fields {
                walk(&first.ty, node, at, place, out);
            }
        }
        (Shape::Int(int), Kind::Int(number)) if number.get() < i128::from(int.sensible) => {
            out.push(Diagnostic::error(Some(at), format!("{place} must be {}, not `{number}`", bounds(int))));
        }
        (Shape::Float(want), Kind::Float(number)) if *number < 0.0 => {
            out.push(Diagnostic::error(Some(at), format!("{place} must be {want}, not `{number}`")));
        }
        (Shape::Bytes { sensible, .. }, Kind::Str(text))
            if text.parse::<i64>().is_ok_and(|number| number < sensible) =>
        {
            let message = format!(
                "{place} is wrong: `{text}` is not a size; write a number of bytes or something like `512m` or `1.5gb`"
            );
            out.push(Diagnostic::error(Some(at), message));
        }
        _ => {}
    }
}

/// Returns an option of a short form.
fn shown(key: &str, entry: &Entry) -> String {
    match &entry.value.kind {
        Kind::Str(text) => format!("the option `{text}` of a mount"),
        _ => format!("`{key}`"),
    }
}
