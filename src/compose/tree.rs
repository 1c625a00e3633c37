//! Walking a tree by keys: what the passes over canonical form have in common.

use super::yaml::{Entry, Kind, Map, Node};
use crate::diag::Span;

impl Node {
    /// Returns its entries, if it is a mapping.
    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns its entries, if it is a mapping.
    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns its entries, or none when it is no list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Seq(items) => items,
            _ => &[],
        }
    }

    /// Returns its entries, or none when it is no list.
    pub(crate) fn items_mut(&mut self) -> &mut [Self] {
        match &mut self.kind {
            Kind::Seq(items) => items,
            _ => &mut [],
        }
    }

    /// Returns its text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns whether nothing is written.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// Returns whether it is `true`.
    pub(crate) fn is_true(&self) -> bool {
        matches!(self.kind, Kind::Bool(true))
    }

    /// Returns what stands at `key`; nothing written counts as nothing there.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.value(key)
    }

    /// Returns what stands at `key`.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.as_map_mut()?.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Returns the text at `key`; empty counts as nothing there.
    pub(crate) fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text().filter(|text| !text.is_empty())
    }

    /// Returns the entries of the section `key`; none when it is not there.
    pub(crate) fn section(&self, key: &str) -> impl Iterator<Item = (&String, &Entry)> {
        self.get(key).and_then(Self::as_map).into_iter().flatten()
    }

    /// Returns the entries of the section `key`; none when it is not there.
    pub(crate) fn section_mut(&mut self, key: &str) -> impl Iterator<Item = (&String, &mut Entry)> {
        self.get_mut(key).and_then(Self::as_map_mut).into_iter().flatten()
    }

    /// Puts `kind` at `key`, as if it had been written at `at`, unless something stands there.
    pub(crate) fn default_at(&mut self, key: &str, at: Span, kind: Kind) {
        if self.get(key).is_none() {
            self.put(key, at, kind);
        }
    }

    /// Puts `kind` at `key`, as if it had been written at `at`.
    pub(crate) fn put(&mut self, key: &str, at: Span, kind: Kind) {
        if let Kind::Map(map) = &mut self.kind {
            map.insert(key.to_owned(), Entry { key: at, value: Self::new(at, kind) });
        }
    }
}

/// What a mapping is asked for.
pub(crate) trait Entries {
    /// Returns what stands at `key`; nothing written counts as nothing there.
    fn value(&self, key: &str) -> Option<&Node>;
    /// Returns what stands at `key` and the place of the key; nothing written counts as nothing there.
    fn written(&self, key: &str) -> Option<&Entry>;
}

impl Entries for Map {
    fn value(&self, key: &str) -> Option<&Node> {
        self.written(key).map(|entry| &entry.value)
    }

    fn written(&self, key: &str) -> Option<&Entry> {
        self.get(key).filter(|entry| !entry.value.is_null())
    }
}
