//! What of a service is another than when its container was made: which key, and where it stands.
//!
//! A container's record keeps its service's facets: those that may be told as they are, of the rest a hash under a key
//! that only this engine has, so that nobody who reads a record can try out what the value was. The container's id and the
//! path go into the hash too: equal values cannot be told from two records, nor from two keys of one.
//!
//! Invariant: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::compose::{Facet, FacetValue};
use crate::diag::Span;
use crate::image::digest::Key;
use crate::name::{ContainerId, hex};

/// Sixteen hexadecimal digits that tell one value of a path of a container from another.
fn mark(key: &Key, id: &ContainerId, path: &str, value: &[u8]) -> String {
    let length = u64::try_from(path.len()).unwrap_or(u64::MAX).to_le_bytes();
    let mac = key.mac(&[id.as_str().as_bytes(), &length, path.as_bytes(), value]);
    format!("{SEALED}{}", hex(&mac[..8]))
}

/// Before a value that is written as it is.
const OPEN: &str = "=";
/// Before a hash.
const SEALED: &str = "#";
/// Path of the entry that tells whether the key is still the one that the others were made with.
const CHECK: &str = "";

/// Returns what a container's record keeps of its service's facets: lines of a path, a tab and a value or a hash.
#[must_use]
pub fn fingerprint(facets: &[Facet], id: &ContainerId, key: &Key) -> String {
    let mut text = line(CHECK, &mark(key, id, CHECK, &[]));
    facets.iter().for_each(|facet| text.push_str(&line(&facet.path, &entry(facet, id, key))));
    text
}

/// Neither a path nor JSON on one line has a tab or the end of a line.
fn line(path: &str, entry: &str) -> String {
    format!("{path}\t{entry}\n")
}

fn entry(facet: &Facet, id: &ContainerId, key: &Key) -> String {
    match &facet.value {
        FacetValue::Open(text) => format!("{OPEN}{text}"),
        FacetValue::Closed(value) => mark(key, id, &facet.path, &value.0),
    }
}

/// Something that is another than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What: a path below the service, such as `environment.PORT`.
    pub key: String,
    /// What it was.
    pub from: Shown,
    /// What it is.
    pub to: Shown,
    /// Where it stands now; nothing for what is gone.
    pub at: Option<Span>,
}

/// A value as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// There is none.
    Nothing,
    /// There is one, and it may be a secret.
    Sealed,
    /// It is this.
    Open(String),
}

impl Shown {
    fn of(entry: &str) -> Self {
        entry.strip_prefix(OPEN).map_or(Self::Sealed, |text| Self::Open(text.to_owned()))
    }
}

impl Difference {
    /// Returns what happened to it, in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (&self.from, &self.to) {
            (Shown::Nothing, _) => "added",
            (_, Shown::Nothing) => "removed",
            _ => "changed",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match (&self.from, &self.to) {
            (Shown::Open(from), Shown::Open(to)) => write!(f, "{key} {from} → {to}"),
            (Shown::Open(value), Shown::Nothing) | (Shown::Nothing, Shown::Open(value)) => {
                write!(f, "{key} {value} {}", self.word())
            }
            _ => write!(f, "{key} {}", self.word()),
        }
    }
}

/// Several of them, cheap to copy: each step of a replacement has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differences(Arc<[Difference]>);

impl Differences {
    /// Returns them, if there are any.
    #[must_use]
    pub fn new(all: Vec<Difference>) -> Option<Self> {
        (!all.is_empty()).then(|| Self(all.into()))
    }

    /// Returns them as a list.
    #[must_use]
    pub fn list(&self) -> &[Difference] {
        &self.0
    }
}

/// How many of them a line names.
const NAMED: usize = 3;

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, difference) in self.0.iter().take(NAMED).enumerate() {
            write!(f, "{}{difference}", if number == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Returns what of a service's facets is another than what the record of its container `id` has kept. Nothing when that cannot
/// be told: an older record has kept none, or the key is another one.
///
/// What came or went as a whole is told as one thing, and a list of another length by its length alone.
#[must_use]
pub fn differences(kept: &str, facets: &[Facet], id: &ContainerId, key: &Key) -> Vec<Difference> {
    let Some(kept) = kept.strip_prefix(&line(CHECK, &mark(key, id, CHECK, &[]))) else { return Vec::new() };
    let mut keys: BTreeMap<&str, Sides<'_>> = BTreeMap::new();
    for (path, entry) in kept.lines().filter_map(|line| line.split_once('\t')) {
        keys.entry(top(path)).or_default().old.insert(path, entry.to_owned());
    }
    for facet in facets {
        let sides = keys.entry(top(&facet.path)).or_default();
        sides.new.insert(&facet.path, (entry(facet, id, key), facet.span));
    }
    let mut found: Vec<Difference> = keys.iter().flat_map(|(name, sides)| sides.differences(name)).collect();
    // In the order of the file; what is gone has no place and comes last.
    found.sort_by_key(|difference| (difference.at.is_none(), difference.at));
    found
}

/// Returns the paths of a service's facets that are others than what the record of its container `id` has kept, all of them;
/// nothing when that cannot be told.
#[must_use]
pub fn changed_paths(kept: &str, facets: &[Facet], id: &ContainerId, key: &Key) -> Option<BTreeSet<String>> {
    let kept = kept.strip_prefix(&line(CHECK, &mark(key, id, CHECK, &[])))?;
    let mut paths: BTreeMap<&str, (Option<&str>, Option<String>)> = BTreeMap::new();
    for (path, entry) in kept.lines().filter_map(|line| line.split_once('\t')) {
        paths.entry(path).or_default().0 = Some(entry);
    }
    for facet in facets {
        paths.entry(&facet.path).or_default().1 = Some(entry(facet, id, key));
    }
    let other = paths.into_iter().filter(|(_, (old, new))| *old != new.as_deref());
    Some(other.map(|(path, _)| path.to_owned()).collect())
}

/// The key of the service that a path begins with.
pub(super) fn top(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// What one key of the service had below it, and has.
#[derive(Default)]
struct Sides<'a> {
    old: BTreeMap<&'a str, String>,
    new: BTreeMap<&'a str, (String, Span)>,
}

impl Sides<'_> {
    fn differences(&self, name: &str) -> Vec<Difference> {
        let whole = |from, to, at| vec![Difference { key: name.to_owned(), from, to, at }];
        if self.old.is_empty() && self.new.len() > 1 {
            let first = self.new.values().map(|(_, span)| *span).min();
            return whole(Shown::Nothing, Shown::Sealed, first);
        }
        if self.new.is_empty() && self.old.len() > 1 {
            return whole(Shown::Sealed, Shown::Nothing, None);
        }
        let mut found = Vec::new();
        let mut list: Option<&str> = None;
        for path in self.old.keys().chain(self.new.keys()).copied().collect::<BTreeSet<&str>>() {
            let (was, is) = (self.old.get(path), self.new.get(path));
            let is_entry = list.is_some_and(|list| path.strip_prefix(list).is_some_and(|rest| rest.starts_with('[')));
            if is_entry || was == is.map(|(entry, _)| entry) {
                continue;
            }
            list = Some(path);
            found.push(Difference {
                key: path.to_owned(),
                from: was.map_or(Shown::Nothing, |entry| Shown::of(entry)),
                to: is.map_or(Shown::Nothing, |(entry, _)| Shown::of(entry)),
                at: is.map(|(_, span)| *span),
            });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::model::Sealed;

    const KEY: Key = Key([7; 32]);

    fn id(number: u8) -> ContainerId {
        ContainerId::from_bytes([number; 32])
    }

    fn facets(all: &[(&str, &str)]) -> Vec<Facet> {
        let facet = |(line, (path, value)): (usize, &(&str, &str))| Facet {
            path: (*path).to_owned(),
            value: match value.strip_prefix('!') {
                Some(secret) => FacetValue::Closed(Sealed(secret.as_bytes().to_vec())),
                None => FacetValue::Open((*value).to_owned()),
            },
            span: Span::new(0, line, line),
        };
        all.iter().enumerate().map(facet).collect()
    }

    #[test]
    fn what_is_another_is_named_and_only_what_may_be_told_is_told() {
        let base: &[(&str, &str)] =
            &[("image", "\"a\""), ("environment.PIN", "!1234"), ("ports", "1 entry"), ("ports[0].target", "80")];
        for (old, new, expected) in [
            (base, base, ""),
            (base, &[("image", "\"b\""), base[1], base[2], base[3]], "image \"a\" → \"b\""),
            (base, &[base[0], ("environment.PIN", "!1235"), base[2], base[3]], "environment.PIN changed"),
            (base, &[base[0], base[1], base[2], ("ports[0].target", "81")], "ports[0].target 80 → 81"),
            // Of a list of another length the entries would be told against those of other places.
            (
                base,
                &[base[0], base[1], ("ports", "2 entries"), ("ports[0].target", "79"), ("ports[1].target", "80")],
                "ports 1 entry → 2 entries",
            ),
            (base, &[base[0], base[1]], "ports removed"),
            (&base[..2], base, "ports added"),
            (base, &[base[0], base[2], base[3]], "environment.PIN removed"),
            (base, &[base[0], base[1], ("environment.A", "!x"), base[2], base[3]], "environment.A added"),
            (base, &[base[0], base[1], base[2], base[3], ("init", "true")], "init true added"),
            (
                base,
                &[("image", "\"b\""), ("environment.A", "!1"), ("environment.B", "!1"), ("environment.C", "!1")],
                "image \"a\" → \"b\", environment.A added, environment.B added and 3 more",
            ),
        ] {
            let kept = fingerprint(&facets(old), &id(1), &KEY);
            let found = differences(&kept, &facets(new), &id(1), &KEY);
            let told_paths = changed_paths(&kept, &facets(new), &id(1), &KEY).expect("it can be told");
            assert_eq!(told_paths.is_empty(), found.is_empty());
            let tops = |paths: Vec<&str>| paths.into_iter().map(|path| top(path).to_owned()).collect::<BTreeSet<_>>();
            let named = tops(found.iter().map(|difference| difference.key.as_str()).collect());
            assert_eq!(tops(told_paths.iter().map(String::as_str).collect()), named, "{new:?}");
            let told = Differences::new(found).map_or_else(String::new, |all| all.to_string());
            assert_eq!(told, expected, "{new:?}");
        }
    }

    #[test]
    fn a_record_keeps_nothing_that_a_secret_could_be_tried_out_against() {
        let all = facets(&[("environment.A", "!1234"), ("environment.B", "!1234"), ("mem_limit", "\"64\"")]);
        let kept = fingerprint(&all, &id(1), &KEY);
        assert!(!kept.contains("1234") && kept.ends_with("\nmem_limit\t=\"64\"\n"), "{kept}");
        let entry = |kept: &str, path: &str| {
            let found = kept.lines().find_map(|line| line.strip_prefix(path)?.strip_prefix('\t').map(str::to_owned));
            found.expect("it is there")
        };
        assert_ne!(entry(&kept, "environment.A"), entry(&kept, "environment.B"), "equal values do not show");
        for other in [fingerprint(&all, &id(2), &KEY), fingerprint(&all, &id(1), &Key([8; 32]))] {
            assert_ne!(entry(&kept, "environment.A"), entry(&other, "environment.A"));
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not_told() {
        let all = facets(&[("environment.A", "!1")]);
        assert_eq!(differences("", &all, &id(1), &KEY), [], "an older record");
        assert_eq!(changed_paths("", &all, &id(1), &KEY), None);
        let kept = fingerprint(&facets(&[("environment.A", "!2")]), &id(1), &Key([8; 32]));
        assert_eq!(differences(&kept, &all, &id(1), &KEY), [], "another key");
    }
}
