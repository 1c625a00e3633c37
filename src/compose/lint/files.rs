//! Rules about what is written, file by file.

use std::collections::BTreeSet;

use super::Subject;
use crate::compose::interpolate;
use crate::compose::schema::{FILE, Shape, Type};
use crate::compose::trail::Role;
use crate::compose::variables;
use crate::compose::yaml::{self, Kind, Node};
use crate::diag::Diagnostic;

/// `version` says nothing any more.
pub(super) fn version_key(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for layer in subject.layers().filter(|layer| layer.role == Role::Document) {
        if let Some(entry) = layer.tree.as_map().and_then(|map| map.get("version")) {
            out.push(Diagnostic::warning(Some(entry.key), "`version` is obsolete and ignored").help("remove it"));
        }
    }
}

/// A word or a number that readers of YAML 1.1 take for something else.
pub(super) fn yaml_1_1(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for layer in subject.layers() {
        for (key, entry) in layer.tree.as_map().into_iter().flatten().filter(|(key, _)| !key.starts_with("x-")) {
            ambiguous(subject, FILE.shape.below(Some(key)), &entry.value, out);
        }
    }
}

fn ambiguous(subject: &Subject<'_>, ty: Option<&Type>, node: &Node, out: &mut Vec<Diagnostic>) {
    match &node.kind {
        Kind::Map(map) => {
            for (key, entry) in map.iter().filter(|(key, _)| !key.starts_with("x-")) {
                ambiguous(subject, ty.and_then(|ty| ty.shape.below(Some(key))), &entry.value, out);
            }
        }
        Kind::Seq(items) => {
            let ty = ty.and_then(|ty| ty.shape.below(None));
            items.iter().for_each(|item| ambiguous(subject, ty, item, out));
        }
        // What becomes a boolean means the same to all readers.
        Kind::Str(text) if !matches!(ty.map(|ty| ty.shape), Some(Shape::Bool { .. })) => {
            // In quotes, or by a variable, it is text to every reader.
            if subject.written(node.span) != text {
                return;
            }
            let what = match text.to_ascii_lowercase().as_str() {
                "yes" | "no" | "on" | "off" => "a boolean",
                _ if is_base_60(text) => "a number to the base 60",
                _ => return,
            };
            let message = format!("`{text}` is text here and {what} to readers of YAML 1.1");
            out.push(Diagnostic::warning(Some(node.span), message).help(format!("put it in quotes: `\"{text}\"`")));
        }
        Kind::Str(_) | Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) => {}
    }
}

/// Whether a text is a number in YAML 1.1, such as `22:22`.
fn is_base_60(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = text.split(':');
    let is_first = parts.next().is_some_and(|first| digits(first) && !first.starts_with('0'));
    let mut rest = parts.peekable();
    is_first && rest.peek().is_some() && rest.all(|part| digits(part) && part.parse().is_ok_and(|n: u32| n < 60))
}

/// An anchor that no alias names.
pub(super) fn unused_anchor(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    let files: BTreeSet<u16> = subject.layers().map(|layer| layer.tree.span.file).collect();
    for file in files {
        for (name, at) in yaml::idle_anchors(file, subject.sources.text(file)) {
            let message = format!("the anchor `{name}` is never used");
            out.push(Diagnostic::warning(Some(at), message).help(format!("use it as `*{name}`, or remove it")));
        }
    }
}

/// A variable that is not set and has no default.
pub(super) fn unset_variable(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for layer in subject.layers() {
        let mut texts = Vec::new();
        texts_below(&layer.tree, &mut texts);
        for node in texts {
            let written = subject.written(node.span);
            let unset = variables::of_text(written).into_iter().filter(|(name, variable)| {
                *variable == variables::Variable::default() && !layer.variables.values.contains_key(name)
            });
            for (name, _) in unset {
                let at = interpolate::locate(node.span, &name, subject.sources);
                // With `:-` and nothing behind it, nothing is what is wanted.
                let is_bare = !written.contains(&format!("{{{name}:")) && !written.contains(&format!("{{{name}-"));
                if is_bare {
                    out.push(interpolate::unset_warning(at, &name));
                }
            }
        }
    }
}

fn texts_below<'n>(node: &'n Node, found: &mut Vec<&'n Node>) {
    match &node.kind {
        Kind::Seq(items) => items.iter().for_each(|item| texts_below(item, found)),
        Kind::Map(map) => map.values().for_each(|entry| texts_below(&entry.value, found)),
        // What was replaced may be a number by now.
        _ => found.push(node),
    }
}
