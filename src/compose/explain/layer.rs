//! What one layer of the files says about a value of the whole project.
//!
//! A path leads through canonical form, a layer has the forms that were written: on the way down each short form is turned into
//! the long one, by itself. An entry of a list is found by what makes it the same one as that of the whole project.
//!
//! Invariant: pure.

use std::borrow::Cow;

use super::path::{Step, Stop};
use crate::compose::canonical;
use crate::compose::schema::{FILE, Merge, Type};
use crate::compose::unique;
use crate::compose::yaml::{Directive, Entry, Kind, Node};
use crate::diag::Span;

/// What a layer says about a value.
#[derive(Debug)]
pub(super) struct Said {
    /// The place of the value.
    pub(super) at: Span,
    /// The place of the value with its key.
    pub(super) whole: Span,
    /// The value as it was written, variables replaced; `None` when it is removed here.
    pub(super) written: Option<Node>,
    /// The value in canonical form.
    pub(super) canonical: Node,
    /// It is a part of a short form that was written for something larger.
    pub(super) within: bool,
}

/// What a layer does to what was there before.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// What it says about the value itself.
    pub(super) said: Option<Said>,
    /// It replaces the value, or something that holds it, as a whole.
    pub(super) cuts: bool,
    /// The driver, where a different one makes something as a whole another.
    pub(super) driver: Option<String>,
}

/// Returns what a layer says about the value at the end of `route`.
pub(super) fn look(tree: &Node, route: &[Stop<'_>]) -> Look {
    let mut look = Look::default();
    let top = Here { ty: Some(&FILE), at: tree.span, whole: tree.span, within: false };
    look.said = below(tree, None, top, route, &mut look.cuts, &mut look.driver);
    look
}

#[derive(Clone, Copy)]
struct Here {
    ty: Option<&'static Type>,
    at: Span,
    whole: Span,
    within: bool,
}

/// `long` is the node in canonical form, where only what holds it could tell.
fn below(
    node: &Node,
    long: Option<Node>,
    here: Here,
    route: &[Stop<'_>],
    cuts: &mut bool,
    driver: &mut Option<String>,
) -> Option<Said> {
    let Some((stop, rest)) = route.split_first() else {
        let alone = || here.ty.map_or_else(|| node.clone(), |ty| canonical::alone(ty, node.clone()));
        let canonical = long.unwrap_or_else(alone);
        let Here { at, whole, within, .. } = here;
        return Some(Said { at, whole, written: Some(node.clone()), canonical, within });
    };
    let (child, long, at, whole, within) = match &stop.step {
        Step::Key(key) => {
            let map = match (&node.kind, here.ty) {
                (Kind::Map(_), _) | (_, None) => Cow::Borrowed(node),
                (Kind::Null, _) => return None,
                (_, Some(ty)) => Cow::Owned(canonical::alone(ty, node.clone())),
            };
            let is_short = matches!(map, Cow::Owned(_)) && matches!(node.kind, Kind::Str(_) | Kind::Int(_));
            let entry = map.as_map()?.get(key)?;
            let place = entry.place();
            (entry.value.clone(), None, place, whole_of(entry), here.within || is_short)
        }
        Step::Item(index) => {
            let items = match (&node.kind, here.ty) {
                (_, Some(ty)) => Cow::Owned(canonical::alone(ty, node.clone())),
                (_, None) => Cow::Borrowed(node),
            };
            let found = entry_of(items.items(), *index, here.ty, stop.node)?;
            // What was written, unless several came of one.
            let written = node.items().iter().find(|item| item.span == found.span);
            let child = if rest.is_empty() { written.unwrap_or(found) } else { found };
            let is_short = written.is_some_and(|item| !matches!(item.kind, Kind::Map(_)));
            let long = Some(found.clone());
            (child.clone(), long, found.span, found.span, here.within || is_short && !rest.is_empty())
        }
    };
    match child.directive {
        Some(Directive::Reset) => {
            *cuts = true;
            return Some(Said { at, whole, written: None, canonical: child, within });
        }
        Some(Directive::Override) => *cuts = true,
        None => {}
    }
    match stop.ty.map(|ty| ty.merge) {
        Some(Merge::Replace) => *cuts = true,
        Some(Merge::Driver) => *driver = child.text_at("driver").map(str::to_owned),
        _ => {}
    }
    below(&child, long, Here { ty: stop.ty, at, whole, within }, rest, cuts, driver)
}

/// Returns the entry of a layer's list that is the same one as `wanted` of the whole project.
fn entry_of<'n>(items: &'n [Node], index: usize, list: Option<&Type>, wanted: &Node) -> Option<&'n Node> {
    if list.is_some_and(|list| list.merge == Merge::Replace) {
        return items.get(index);
    }
    if let Some(unique) = list.and_then(|list| list.unique) {
        let wanted = unique::identity(unique, wanted);
        return items.iter().rev().find(|item| unique::identity(unique, item) == wanted);
    }
    items.iter().find(|item| item.span == wanted.span)
}

/// Returns the place of a key with its value; of the value alone when they do not stand together.
fn whole_of(entry: &Entry) -> Span {
    let (key, value) = (entry.key, entry.value.span);
    if key.file == value.file && key.lo <= value.lo { Span { hi: value.hi.max(key.hi), ..key } } else { entry.place() }
}
