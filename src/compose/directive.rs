//! `!reset` and `!override`: what a document takes away from all that comes before it.
//!
//! Both remove what stands at their place in earlier files, in a base that is extended, and nowhere else; `!reset` leaves
//! nothing there, `!override` its own value. Aliases carry them along, so that they work below anchors.
//!
//! Invariant: pure.

use super::yaml::{Directive, Kind, Node};
use crate::diag::Diagnostic;

/// Keys from the top of a document to a place that a directive names.
pub(crate) type Place = Vec<String>;

/// Takes the directives off `document`, with the values that are reset, and returns their places.
pub(crate) fn take(document: &mut Node, out: &mut Vec<Diagnostic>) -> Vec<Place> {
    let mut places = Vec::new();
    document.directive = None;
    if !any(document) {
        return places;
    }
    take_below(document, &mut Vec::new(), Some(&mut places), out);
    places
}

/// Whether anything below `node` has a directive: hardly any file has one.
fn any(node: &Node) -> bool {
    let below = |node: &Node| node.directive.is_some() || any(node);
    match &node.kind {
        Kind::Map(map) => map.values().any(|entry| below(&entry.value)),
        Kind::Seq(items) => items.iter().any(below),
        _ => false,
    }
}

/// `places` is `None` inside of lists, whose entries have no name that an earlier file could be asked for.
fn take_below(node: &mut Node, path: &mut Place, mut places: Option<&mut Vec<Place>>, out: &mut Vec<Diagnostic>) {
    match &mut node.kind {
        Kind::Map(map) => map.retain(|key, entry| {
            path.push(key.clone());
            let directive = entry.value.directive.take();
            if let (Some(places), Some(_)) = (places.as_deref_mut(), directive) {
                places.push(path.clone());
            }
            let is_kept = directive != Some(Directive::Reset);
            if is_kept {
                // What replaces everything has nothing before it that a directive within could remove.
                let places = if directive.is_some() { None } else { places.as_deref_mut() };
                take_below(&mut entry.value, path, places, out);
            }
            path.pop();
            is_kept
        }),
        Kind::Seq(items) => items.retain_mut(|item| {
            let is_kept = item.directive.take() != Some(Directive::Reset);
            if is_kept {
                take_below(item, path, None, out);
            } else {
                out.push(
                    Diagnostic::warning(
                        Some(item.span),
                        "`!reset` on an entry of a list removes nothing from earlier files",
                    )
                    .help("put `!override` on the whole list and write the entries that remain"),
                );
            }
            is_kept
        }),
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
    }
}

/// Removes what stands at `places` from `tree`.
pub(crate) fn apply(tree: &mut Node, places: &[Place]) {
    for place in places {
        if let Some((last, parents)) = place.split_last() {
            let mut node = Some(&mut *tree);
            for key in parents {
                node = node.and_then(|node| match &mut node.kind {
                    Kind::Map(map) => map.get_mut(key).map(|entry| &mut entry.value),
                    _ => None,
                });
            }
            match node.map(|node| &mut node.kind) {
                Some(Kind::Map(map)) => drop(map.remove(last)),
                Some(Kind::Seq(items)) => named(parents, items, last),
                _ => {}
            }
        }
    }
}

/// Removes the entry `name` of a list that stands for a mapping.
fn named(parents: &[String], items: &mut Vec<Node>, name: &str) {
    let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
    items.retain(|item| {
        let Kind::Str(text) = &item.kind else { return true };
        match parents[..] {
            ["services", _, "depends_on" | "networks" | "models"] => text != name,
            ["services", _, "build", "additional_contexts" | "ssh"] => text.split('=').next() != Some(name),
            _ => true,
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::json;
    use crate::compose::value::Value;
    use crate::compose::yaml;

    fn read(text: &str) -> Node {
        yaml::parse(0, text).expect("valid").0.remove(0)
    }

    #[test]
    fn what_a_document_marks_goes_from_the_tree_before_it() {
        for (before, document, rest, removed) in [
            ("a: {b: 1, c: 2}", "a: {b: !reset null, d: 3}", r#"{"a":{"d":3}}"#, r#"{"a":{"c":2}}"#),
            ("a: [1]", "a: !override [2]", r#"{"a":[2]}"#, "{}"),
            ("a: 1", "x: &x {a: !reset 0}\n<<: *x", r#"{"x":{}}"#, "{}"),
            ("a: {b: 1}", "x: &x {b: !reset 0}\na: *x", r#"{"x":{},"a":{}}"#, r#"{"a":{}}"#),
            ("a: [1]", "a: [!reset 1, 2]", r#"{"a":[2]}"#, r#"{"a":[1]}"#),
            ("a: [1]", "a: {b: !reset 1}", r#"{"a":{}}"#, r#"{"a":[1]}"#),
            ("a: {b: {c: 1}}", "a: {b: !override {c: !reset 1, d: 2}}", r#"{"a":{"b":{"d":2}}}"#, r#"{"a":{}}"#),
            ("a: 1", "!reset {a: 2}", r#"{"a":2}"#, r#"{"a":1}"#),
            (
                "services: {a: {depends_on: [b, c], dns: [b]}}",
                "services: {a: {depends_on: {b: !reset 0}, dns: {b: !reset 0}}}",
                r#"{"services":{"a":{"depends_on":{},"dns":{}}}}"#,
                r#"{"services":{"a":{"depends_on":["c"],"dns":["b"]}}}"#,
            ),
        ] {
            let (mut before, mut document) = (read(before), read(document));
            let places = take(&mut document, &mut Vec::new());
            apply(&mut before, &places);
            let shown = |node: &Node| json::compact(&Value::of(node));
            assert_eq!((shown(&document).as_str(), shown(&before).as_str()), (rest, removed));
        }
    }
}
