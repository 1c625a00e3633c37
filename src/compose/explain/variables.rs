//! The variables that a value is made of, and where they are set.
//!
//! They are looked for in the text at the places where the value's parts were written, so that those with a default are found too.
//!
//! Invariant: pure.

use std::collections::BTreeMap;

use super::path::{Step, Stop};
use super::{By, Contribution, Fate, Source, Used, spans};
use crate::compose::interpolate::Variables;
use crate::compose::trail::Trail;
use crate::compose::yaml::Kind;
use crate::compose::{Env, variables};
use crate::diag::{Sources, Span};

/// Returns the variables of the value at the end of `route`.
pub(super) fn of(
    trail: &Trail,
    sources: &Sources,
    process: &Env,
    route: &[Stop<'_>],
    places: &[Contribution],
) -> Vec<Used> {
    let Some(last) = route.last() else { return Vec::new() };
    if places.iter().any(|place| place.by == By::Specification) {
        return Vec::new();
    }
    let mut found = BTreeMap::new();
    spans(last.node, &mut found);
    if !matches!(last.node.kind, Kind::Map(_) | Kind::Seq(_)) {
        // A value that was merged has no other place than that of the one that counts.
        let counts = places.iter().filter(|place| place.fate == Fate::Counts);
        found.extend(counts.map(|place| ((place.at.file, place.at.lo), place.at)));
    }
    let mut used: BTreeMap<String, Used> = BTreeMap::new();
    for span in found.into_values() {
        let text = sources.text(span.file).get(span.lo as usize..span.hi as usize).unwrap_or_default();
        let Some(known) = of_file(trail, span) else { continue };
        if text.contains('$') {
            for (name, variable) in variables::of_text(text) {
                used.entry(name.clone()).or_insert_with(|| look_up(name, variable.default, known, process));
            }
        }
    }
    if let Some(name) = looked_up(route, places, sources)
        && let Some(known) = trail.layers.last().map(|layer| &*layer.variables)
    {
        used.entry(name.clone()).or_insert_with(|| look_up(name, String::new(), known, process));
    }
    used.into_values().collect()
}

/// Returns the name of a variable that stands without a value, if that is what counts.
fn looked_up(route: &[Stop<'_>], places: &[Contribution], sources: &Sources) -> Option<String> {
    let [.., list, Stop { step: Step::Key(name), .. }] = route else { return None };
    let place = places.iter().find(|place| place.fate == Fate::Counts && !matches!(place.by, By::ServiceFile(..)))?;
    let is_pairs = matches!(list.ty.map(|ty| ty.shape), Some(crate::compose::schema::Shape::Pairs(_)));
    let text = super::unquoted(&super::slice(sources, place.at));
    (is_pairs && (text == *name || text.is_empty())).then(|| name.clone())
}

/// Returns the variables that the file of `span` was read with.
fn of_file(trail: &Trail, span: Span) -> Option<&Variables> {
    let layer = trail.layers.iter().rev().find(|layer| layer.tree.span.file == span.file);
    layer.or(trail.layers.first()).map(|layer| &*layer.variables)
}

fn look_up(name: String, default: String, known: &Variables, process: &Env) -> Used {
    let value = known.values.get(&name).cloned();
    let from = match (&value, known.origins.get(&name)) {
        (None, _) => Source::Nowhere,
        (Some(_), Some(at)) => Source::File(*at),
        (Some(value), None) if process.get(&name) == Some(value) => Source::Process,
        (Some(_), None) => Source::Project,
    };
    Used { name, value, default, from }
}
