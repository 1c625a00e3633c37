//! A mapping in file order, made for what compose files are made of: tens of thousands of mappings of a few keys each.
//!
//! Entries stand in one block of memory. A few are searched from the first to the last, and only when a key with the same
//! [`bit`] is there: most keys that are asked for are not. What grows past [`FEW`] has a table of hashes besides, seeded at
//! random, so that no file can make it slow. A tree takes half the memory of one of hash maps this way, and memory is what
//! loading takes its time for.
//!
//! Invariant: no key is there twice; its bit is among the map's; the table, where there is one, names each entry once.

use std::hash::BuildHasher as _;
#[cfg(test)]
use std::ops::Index;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::yaml::Entry;

/// How many entries are searched one by one.
const FEW: usize = 16;

/// Returns whether two keys are the same one. Most differ in length, which is seen without a call.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a release that is built for size makes a call of it otherwise, millions of times"
)]
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a == b
}

/// How many marks there are.
pub(crate) const MARKS: usize = 128;

/// Returns a number below [`MARKS`] that tells a key from most others: of the keys that a service may have, few share one.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub(crate) const fn mark(key: &str) -> usize {
    match key.as_bytes() {
        bytes @ [first, .., last] => (bytes.len() * 4 + *first as usize * 13 + *last as usize * 11) % MARKS,
        _ => 0,
    }
}

/// Returns the bit of a key among those of its map.
fn bit(key: &str) -> u64 {
    1 << (mark(key) % 64)
}

/// A mapping in file order.
#[derive(Clone, Default)]
pub(crate) struct Map {
    items: Vec<(String, Entry)>,
    /// The bits of the keys that are there or were.
    bits: u64,
    /// For more than [`FEW`] entries.
    table: Option<Box<Table>>,
}

/// Positions of entries by the hashes of their keys.
#[derive(Clone, Default)]
struct Table {
    places: HashTable<usize>,
    hasher: RandomState,
}

impl Table {
    fn of(items: &[(String, Entry)]) -> Self {
        let mut table = Self { places: HashTable::with_capacity(items.len()), ..Self::default() };
        (0..items.len()).for_each(|at| table.add(items, at));
        table
    }

    fn add(&mut self, items: &[(String, Entry)], at: usize) {
        let Self { places, hasher } = self;
        let hash = |at: &usize| hasher.hash_one(items[*at].0.as_str());
        places.insert_unique(hash(&at), at, hash);
    }

    fn find(&self, items: &[(String, Entry)], key: &str) -> Option<usize> {
        self.places.find(self.hasher.hash_one(key), |at| is_same(&items[*at].0, key)).copied()
    }
}

impl Map {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn find(&self, key: &str) -> Option<usize> {
        match &self.table {
            _ if self.bits & bit(key) == 0 => None,
            Some(table) => table.find(&self.items, key),
            None => self.items.iter().position(|(known, _)| is_same(known, key)),
        }
    }

    pub(crate) fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.find(key).map(|at| &self.items[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.find(key).map(|at| &mut self.items[at].1)
    }

    /// Puts an entry in the place of that of the same name, or behind all others.
    pub(crate) fn insert(&mut self, key: String, entry: Entry) {
        match self.find(&key) {
            Some(at) => self.items[at].1 = entry,
            None => self.push(key, entry),
        }
    }

    /// Puts an entry behind all others unless there is one of this name.
    pub(crate) fn insert_new(&mut self, key: String, entry: Entry) {
        if !self.contains_key(&key) {
            self.push(key, entry);
        }
    }

    fn push(&mut self, key: String, entry: Entry) {
        self.bits |= bit(&key);
        self.items.push((key, entry));
        match &mut self.table {
            Some(table) => table.add(&self.items, self.items.len() - 1),
            None if self.items.len() > FEW => self.table = Some(Box::new(Table::of(&self.items))),
            None => {}
        }
    }

    /// Removes an entry; those behind it move up.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let at = self.find(key)?;
        if let Some(Table { places, hasher }) = self.table.as_deref_mut() {
            if let Ok(place) = places.find_entry(hasher.hash_one(key), |place| *place == at) {
                place.remove();
            }
            places.iter_mut().filter(|place| **place > at).for_each(|place| *place -= 1);
        }
        Some(self.items.remove(at).1)
    }

    /// Keeps the entries for which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&String, &mut Entry) -> bool) {
        let before = self.items.len();
        self.items.retain_mut(|(key, entry)| keep(key, entry));
        if self.table.is_some() && self.items.len() < before {
            self.table = (self.items.len() > FEW).then(|| Box::new(Table::of(&self.items)));
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_> {
        self.items.iter().map(|(key, entry)| (key, entry))
    }

    pub(crate) fn iter_mut(&mut self) -> IterMut<'_> {
        self.items.iter_mut().map(|(key, entry)| (&*key, entry))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.items.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.items.iter().map(|(_, entry)| entry)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.items.iter_mut().map(|(_, entry)| entry)
    }
}

type Iter<'a> =
    std::iter::Map<std::slice::Iter<'a, (String, Entry)>, fn(&'a (String, Entry)) -> (&'a String, &'a Entry)>;
type IterMut<'a> = std::iter::Map<
    std::slice::IterMut<'a, (String, Entry)>,
    fn(&'a mut (String, Entry)) -> (&'a String, &'a mut Entry),
>;

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a String, &'a Entry);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Map {
    type Item = (&'a String, &'a mut Entry);
    type IntoIter = IterMut<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl IntoIterator for Map {
    type Item = (String, Entry);
    type IntoIter = std::vec::IntoIter<(String, Entry)>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl FromIterator<(String, Entry)> for Map {
    fn from_iter<T: IntoIterator<Item = (String, Entry)>>(entries: T) -> Self {
        let mut map = Self::default();
        map.extend(entries);
        map
    }
}

impl Extend<(String, Entry)> for Map {
    fn extend<T: IntoIterator<Item = (String, Entry)>>(&mut self, entries: T) {
        let entries = entries.into_iter();
        // Most have one or two, and will not grow.
        self.items.reserve_exact(entries.size_hint().0);
        entries.for_each(|(key, entry)| self.insert(key, entry));
    }
}

#[cfg(test)]
impl Index<&str> for Map {
    type Output = Entry;

    fn index(&self, key: &str) -> &Entry {
        self.get(key).unwrap_or_else(|| panic!("there is no `{key}`"))
    }
}

/// The order of the entries does not make a mapping another one.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, entry)| other.get(key) == Some(entry))
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use proptest::prelude::*;

    use super::*;
    use crate::compose::yaml::{Kind, Node};
    use crate::diag::Span;

    fn entry(number: i64) -> Entry {
        let at = Span::new(0, 0, 0);
        Entry { key: at, value: Node::new(at, Kind::Int(number.into())) }
    }

    proptest! {
        #[test]
        fn it_does_as_a_map_of_another_make(steps in prop::collection::vec((0..4_u8, 0..40_u8, any::<i8>()), 0..200)) {
            let (mut map, mut other) = (Map::default(), IndexMap::<String, Entry>::new());
            for (what, key, number) in steps {
                let (key, value) = (format!("k{key}"), entry(number.into()));
                match what {
                    0 | 1 => {
                        map.insert(key.clone(), value.clone());
                        other.insert(key.clone(), value);
                    }
                    2 => prop_assert_eq!(map.remove(&key), other.shift_remove(&key)),
                    _ if number % 16 == 0 => {
                        let keep = |entry: &mut Entry| matches!(entry.value.kind, Kind::Int(n) if n.get() % 3 != 0);
                        map.retain(|_, entry| keep(entry));
                        other.retain(|_, entry| keep(entry));
                    }
                    _ => {
                        map.insert_new(key.clone(), value.clone());
                        other.entry(key.clone()).or_insert(value);
                    }
                }
                prop_assert_eq!(map.get(&key), other.get(&key));
                prop_assert_eq!(map.len(), other.len());
                prop_assert!(map.iter().eq(other.iter()));
                prop_assert!(map.keys().all(|key| map.contains_key(key)));
            }
            let turned: Map = map.iter().rev().map(|(key, entry)| (key.clone(), entry.clone())).collect();
            prop_assert_eq!(turned, map);
        }
    }
}
