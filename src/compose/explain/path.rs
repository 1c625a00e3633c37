//! The path of a value as a user writes it: `services.web.ports[0]`.
//!
//! A key may hold dots, as those of labels do: where a mapping has several keys that the path could go on with, the longest is
//! meant.
//!
//! Invariant: pure.

use crate::compose::place::Place;
use crate::compose::schema::{FILE, Type};
use crate::compose::yaml::{Kind, Node};
use crate::diag::{Diagnostic, nearest};

/// How many keys a message lists.
const MAX_KEYS: usize = 20;

/// A step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// To what stands at a key.
    Key(String),
    /// To an entry of a list.
    Item(usize),
}

/// A step and where it led to.
#[derive(Debug, Clone)]
pub(super) struct Stop<'a> {
    /// The step.
    pub(super) step: Step,
    /// What the table says about it, if anything.
    pub(super) ty: Option<&'static Type>,
    /// What stands there.
    pub(super) node: &'a Node,
}

/// Returns the way from the top of a project down to what `text` names.
///
/// # Errors
/// When nothing stands there.
pub(super) fn resolve<'a>(root: &'a Node, text: &str) -> Result<Vec<Stop<'a>>, Diagnostic> {
    let mut stops: Vec<Stop<'a>> = Vec::new();
    let (mut node, mut ty, mut rest) = (root, Some(&FILE), text);
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let (step, below, after) = match &node.kind {
            Kind::Seq(items) => item(items, rest, &text[..at])?,
            Kind::Map(map) => {
                let wanted = rest.strip_prefix('.').filter(|_| at > 0).unwrap_or(rest);
                let ends =
                    |key: &str| wanted.strip_prefix(key).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
                let found = map.iter().filter(|(key, _)| ends(key).is_some()).max_by_key(|(key, _)| key.len());
                let Some((key, entry)) = found else { return Err(no_key(node, ty, wanted, &text[..at])) };
                (Step::Key(key.clone()), &entry.value, ends(key).unwrap_or_default())
            }
            _ => {
                let what = if node.kind == Kind::Null { "nothing".to_owned() } else { node.describe() };
                return Err(Diagnostic::error(None, format!("`{}` is {what} and has nothing below it", &text[..at])));
            }
        };
        ty = ty.and_then(|ty| match &step {
            Step::Key(key) => ty.shape.below(Some(key)),
            Step::Item(_) => ty.shape.below(None),
        });
        (node, rest) = (below, after);
        stops.push(Stop { step, ty, node });
    }
    Ok(stops)
}

fn item<'a, 't>(items: &'a [Node], rest: &'t str, before: &str) -> Result<(Step, &'a Node, &'t str), Diagnostic> {
    let count = match items.len() {
        0 => "no entry".to_owned(),
        1 => "one entry, `[0]`".to_owned(),
        n => format!("{n} entries, `[0]` to `[{}]`", n - 1),
    };
    let wrong =
        || Diagnostic::error(None, format!("`{before}{rest}` does not exist")).help(format!("`{before}` has {count}"));
    let inner = rest.strip_prefix('[').ok_or_else(wrong)?;
    let (number, after) = inner.split_once(']').ok_or_else(wrong)?;
    let number: usize = number.parse().map_err(|_| wrong())?;
    if !after.is_empty() && !after.starts_with(['.', '[']) {
        return Err(wrong());
    }
    Ok((Step::Item(number), items.get(number).ok_or_else(wrong)?, after))
}

/// Returns the error that a mapping has no such key, with what it has.
fn no_key(node: &Node, ty: Option<&'static Type>, wanted: &str, before: &str) -> Diagnostic {
    let wanted = wanted.split(['.', '[']).next().unwrap_or(wanted);
    let here: Vec<&str> = node.as_map().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let known = ty.and_then(|ty| ty.shape.fields()).map_or(&[][..], |fields| fields.fields);
    let owner = if before.is_empty() { Place::FILE.to_string() } else { format!("`{before}`") };
    let mut help = String::new();
    let message = if known.iter().any(|field| field.name == wanted) {
        format!("nothing sets `{wanted}` of {owner}")
    } else {
        let near = nearest(wanted, here.iter().copied())
            .or_else(|| nearest(wanted, known.iter().map(|field| field.name)).filter(|near| !here.contains(near)));
        help = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        format!("there is no `{wanted}` in {owner}")
    };
    let mut shown: Vec<String> = here.iter().take(MAX_KEYS).map(|key| format!("`{key}`")).collect();
    if here.len() > MAX_KEYS {
        shown.push(format!("{} more", here.len() - MAX_KEYS));
    }
    match shown.is_empty() {
        true => help.push_str("nothing is there"),
        false => help.push_str(&format!("there are {}", shown.join(", "))),
    }
    Diagnostic::error(None, message).help(help)
}
