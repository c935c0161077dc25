//! A table whose entries name each other. Two ways to look up: `get`, where an id comes from outside and may be anybody's,
//! and `known`, where another table holds the id and the entry can't be absent. Should it be absent all the same, tests
//! stop there, and in production it is counted and said ([`Contradiction`]).

use std::cell::Cell;
use std::collections::{HashMap, hash_map};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::Location;

/// Two tables contradict each other, or a leg was to enter a state that it can't: a mistake of the program. The call that
/// it concerns may hang; nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// What is wrong.
    pub what: &'static str,
    /// The file where it was found first.
    pub file: &'static str,
    /// The line there.
    pub line: u32,
    /// How often it happened in this step, all kinds together.
    pub times: u32,
}

/// Contradictions of one step.
#[derive(Debug, Default)]
pub(crate) struct Contradictions(Cell<Option<Contradiction>>);

impl Contradictions {
    /// Notes one. Where debug assertions are on, this is the end.
    #[track_caller]
    pub(crate) fn note(&self, what: &'static str) {
        let place = Location::caller();
        debug_assert!(false, "{what}, at {}:{}", place.file(), place.line());
        let first = self.0.get();
        let first = first.unwrap_or(Contradiction { what, file: place.file(), line: place.line(), times: 0 });
        self.0.set(Some(Contradiction { times: first.times.saturating_add(1), ..first }));
    }

    /// What can't be absent: should it be all the same, that is noted.
    #[inline]
    #[track_caller]
    pub(crate) fn known<T>(&self, found: Option<T>, absent: &'static str) -> Option<T> {
        if found.is_none() {
            self.note(absent);
        }
        found
    }

    /// One less of what is counted; there is at least one.
    #[inline]
    #[track_caller]
    pub(crate) fn one_less(&self, count: u32, none: &'static str) -> u32 {
        self.known(count.checked_sub(1), none).unwrap_or_default()
    }

    pub(crate) fn take(&self) -> Option<Contradiction> {
        self.0.take()
    }
}

/// Spreads ids over a table. They are all of our own making, one after the other: nobody can choose those that collide, and
/// a multiplication (Fibonacci hashing) is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(crate) struct Table<K, V> {
    entries: HashMap<K, V, BuildHasherDefault<IdHasher>>,
    absent: &'static str,
    contradictions: Contradictions,
}

impl<K: Copy + Eq + Hash + fmt::Debug, V> Table<K, V> {
    /// `absent` says what is wrong when an entry isn't there.
    pub(crate) fn new(absent: &'static str) -> Self {
        Self { entries: HashMap::default(), absent, contradictions: Contradictions::default() }
    }

    pub(crate) fn get(&self, id: K) -> Option<&V> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: K) -> Option<&mut V> {
        self.entries.get_mut(&id)
    }

    /// An entry that another table names.
    #[inline]
    #[track_caller]
    pub(crate) fn known(&self, id: K) -> Option<&V> {
        self.contradictions.known(self.entries.get(&id), self.absent)
    }

    /// The same, to be changed.
    #[inline]
    #[track_caller]
    pub(crate) fn known_mut(&mut self, id: K) -> Option<&mut V> {
        self.contradictions.known(self.entries.get_mut(&id), self.absent)
    }

    pub(crate) fn insert(&mut self, id: K, entry: V) {
        self.entries.insert(id, entry);
    }

    pub(crate) fn remove(&mut self, id: K) -> Option<V> {
        self.entries.remove(&id)
    }

    /// Takes out an entry that another table names.
    #[track_caller]
    pub(crate) fn remove_known(&mut self, id: K) -> Option<V> {
        self.contradictions.known(self.entries.remove(&id), self.absent)
    }

    pub(crate) fn contains(&self, id: K) -> bool {
        self.entries.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = K> + '_ {
        // Any order: who tells of all sorts them.
        self.entries.keys().copied()
    }

    pub(crate) fn values(&self) -> hash_map::Values<'_, K, V> {
        self.entries.values() // any order, likewise
    }

    pub(crate) fn take_contradiction(&self) -> Option<Contradiction> {
        self.contradictions.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_what_may_be_absent_is_not_heard() {
        let mut table = Table::new("an entry is not there");
        table.insert(1, "one");
        assert_eq!((table.get(1), table.get(2), table.known(1)), (Some(&"one"), None, Some(&"one")));
        assert_eq!(table.take_contradiction(), None);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "an entry is not there, at ")]
    fn what_can_not_be_absent_and_is_ends_a_test() {
        Table::<u8, u8>::new("an entry is not there").known(2);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn what_can_not_be_absent_and_is_is_counted() {
        let table = Table::<u8, u8>::new("an entry is not there");
        (table.known(2), table.known(3));
        let said = table.take_contradiction().map(|said| (said.what, said.times));
        assert_eq!(said, Some(("an entry is not there", 2)));
        assert_eq!(table.take_contradiction(), None);
    }
}
