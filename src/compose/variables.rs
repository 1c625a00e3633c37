//! `config --variables`: which variables the files name, and what stands in for them.
//!
//! Invariant: pure.

use std::collections::BTreeMap;

use super::yaml::{Kind, Node};

/// A variable as the files use it; of several uses the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variable {
    /// What stands in when it is not set.
    pub default: String,
    /// What stands in when it is set.
    pub presence: String,
    /// It must be set.
    pub required: bool,
}

/// Returns the variables of all texts below `node`.
pub(crate) fn of(node: &Node) -> BTreeMap<String, Variable> {
    let mut found = BTreeMap::new();
    walk(node, &mut found);
    found
}

/// Returns the variables of a text.
pub(crate) fn of_text(text: &str) -> BTreeMap<String, Variable> {
    let mut found = BTreeMap::new();
    extract(text, &mut found);
    found
}

fn walk(node: &Node, found: &mut BTreeMap<String, Variable>) {
    match &node.kind {
        Kind::Str(text) => extract(text, found),
        Kind::Seq(items) => items.iter().for_each(|item| walk(item, found)),
        Kind::Map(map) => map.values().for_each(|entry| walk(&entry.value, found)),
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) => {}
    }
}

fn extract(text: &str, found: &mut BTreeMap<String, Variable>) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let Some(close) = closing_brace(inner) else { return };
            expression(&inner[..close], found);
            rest = &inner[close + 1..];
        } else {
            let end = name_end(rest);
            if end > 0 {
                found.insert(rest[..end].to_owned(), Variable::default());
            }
            rest = &rest[end..];
        }
    }
}

fn expression(body: &str, found: &mut BTreeMap<String, Variable>) {
    let (name, operation) = body.split_at(name_end(body));
    if name.is_empty() {
        return;
    }
    let mut variable = Variable::default();
    let word = operation.strip_prefix(':').unwrap_or(operation);
    if let Some(default) = word.strip_prefix('-') {
        variable.default = default.to_owned();
    } else if let Some(presence) = word.strip_prefix('+') {
        variable.presence = presence.to_owned();
    } else {
        variable.required = word.starts_with('?');
    }
    let nested = format!("{}{}", variable.default, variable.presence);
    found.insert(name.to_owned(), variable);
    extract(&nested, found);
}

/// Returns where a name ends that begins `text`; 0 when none does.
fn name_end(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_is_found() {
        let mut found = BTreeMap::new();
        extract("$A ${B:-b ${C?x}} $$D ${E+${F}} $1 ${G:?no}", &mut found);
        let shown: Vec<String> =
            found.iter().map(|(name, v)| format!("{name} [{}] [{}] {}", v.default, v.presence, v.required)).collect();
        assert_eq!(
            shown,
            [
                "A [] [] false",
                "B [b ${C?x}] [] false",
                "C [] [] true",
                "E [] [${F}] false",
                "F [] [] false",
                "G [] [] true"
            ]
        );
    }
}
