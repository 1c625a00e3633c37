//! Where a value came from, for whom an error in it is shown: the variable that gave it, and the file that was asked for.
//!
//! Invariant: pure.

use std::collections::{BTreeMap, HashMap};

use super::interpolate::VariableUse;
use crate::diag::{Diagnostic, Severity, Span};

/// How many files an error may have come through before the rest is left out.
const MAX_FILES: usize = 8;

/// Where files are asked for by others: the place, and a word or two for it.
pub(crate) type Origins = HashMap<u16, (Span, &'static str)>;

/// Adds to each error in a value which variables gave that value, and where those are set.
pub(crate) fn add_variables(diagnostics: &mut [Diagnostic], uses: &[VariableUse]) {
    // Values do not lie within each other: the last one that begins before an error holds it, or none does.
    let mut by_place: BTreeMap<(u16, u32), Vec<&VariableUse>> = BTreeMap::new();
    for used in uses {
        let all = by_place.entry((used.at.file, used.at.lo)).or_default();
        if !all.iter().any(|other| other.name == used.name) {
            all.push(used);
        }
    }
    for diagnostic in diagnostics.iter_mut().filter(|d| d.severity == Severity::Error) {
        let Some(at) = diagnostic.span else { continue };
        let Some((_, uses)) = by_place.range(..=(at.file, at.lo)).next_back() else { continue };
        for used in uses.iter().filter(|used| used.at.holds(at)) {
            match used.origin {
                Some(origin) => diagnostic.notes.push((origin, format!("the value of `{}` came from here", used.name))),
                None if diagnostic.label.is_none() => {
                    diagnostic.label = Some(format!("with `{}` of the environment", used.name));
                }
                None => {}
            }
        }
    }
}

/// Adds to each diagnostic of an included or extended file where that file is asked for.
pub(crate) fn add_files(diagnostics: &mut [Diagnostic], origins: &Origins) {
    for diagnostic in diagnostics {
        let mut file = diagnostic.span.map(|span| span.file);
        for _ in 0..MAX_FILES {
            let Some((at, how)) = file.and_then(|file| origins.get(&file)) else { break };
            file = Some(at.file);
            if !diagnostic.notes.iter().any(|(span, _)| span == at) {
                diagnostic.notes.push((*at, (*how).to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_variables_of_its_value_and_the_files_on_the_way_to_it() {
        let at = |lo, hi| Span::new(0, lo, hi);
        let used = |name: &str, at, origin| VariableUse { name: name.into(), at, origin };
        let uses = [
            used("A", at(10, 20), Some(Span::new(1, 0, 1))),
            used("B", at(10, 20), None),
            used("A", at(10, 20), Some(Span::new(1, 0, 1))),
            used("C", at(30, 40), None),
        ];
        let mut all: Vec<Diagnostic> = [at(10, 20), at(12, 14), at(9, 20), at(25, 26), at(35, 45)]
            .map(|at| Diagnostic::error(Some(at), "x"))
            .into();
        add_variables(&mut all, &uses);
        let shown: Vec<_> = all.iter().map(|d| (d.notes.len(), d.label.is_some())).collect();
        assert_eq!(shown, [(1, true), (1, true), (0, false), (0, false), (0, false)]);

        let origins = Origins::from([(2, (Span::new(1, 5, 6), "included here")), (1, (at(7, 8), "extended here"))]);
        let mut all = [Diagnostic::error(Some(Span::new(2, 0, 1)), "x"), Diagnostic::error(None, "x")];
        add_files(&mut all, &origins);
        let words: Vec<&str> = all[0].notes.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!((words, all[1].notes.len()), (vec!["included here", "extended here"], 0));
    }
}
