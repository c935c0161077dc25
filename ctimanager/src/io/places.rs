//! Counted places: at most so many connections, handshakes or questions at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places are taken. The limit comes with each request, since a reload may change it.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: AtomicUsize,
}

impl Places {
    /// A place, if fewer than `limit` are taken. It is free again when the [`Place`] is dropped.
    pub(super) fn take(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let place = Place(Arc::clone(self));
        // On refusal the drop of `place` takes the count back.
        (self.taken.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }

    /// Places taken now.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// One taken place.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_takes_no_place_and_a_drop_frees_one() {
        let places = Arc::new(Places::default());
        let first = places.take(2).expect("free");
        let _second = places.take(2).expect("free");
        assert!(places.take(2).is_none());
        assert!(places.take(2).is_none(), "refusals do not add up");
        drop(first);
        assert_eq!(places.taken(), 1);
        assert!(places.take(2).is_some());
    }
}
