//! The one table of times.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Instant;

/// Times of many owners, each with at most one.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    due: BTreeSet<(Instant, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Moves the owner's time. The owner remembers the old one.
    pub fn set(&mut self, owner: K, old: Option<Instant>, new: Option<Instant>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.due.remove(&(old, owner));
        }
        if let Some(new) = new {
            self.due.insert((new, owner));
        }
    }

    /// The earliest.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes one that has come.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (at, owner) = *self.due.first()?;
        (at <= now).then(|| {
            self.due.pop_first();
            owner
        })
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.due.len()
    }
}

impl Timers<u64> {
    /// The earliest that comes after this time.
    pub fn next_after(&self, now: Instant) -> Option<Instant> {
        let after = (Bound::Excluded((now, u64::MAX)), Bound::Unbounded);
        self.due.range(after).next().map(|(at, _)| *at)
    }
}
