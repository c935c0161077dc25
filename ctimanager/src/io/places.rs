//! Counted places: at most so many connections, handshakes or questions at once.

use security::limits::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Places of which one address (IPv6: one /64) gets some at most.
#[derive(Debug, Default)]
pub(super) struct SharedPlaces {
    places: Arc<Places>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl SharedPlaces {
    /// A place, if fewer than `limit` are taken, and fewer than `of_address` by this address.
    pub(super) fn take(
        self: &Arc<Self>,
        limit: usize,
        address: IpAddr,
        of_address: usize,
    ) -> Option<SharedPlace> {
        let place = self.places.take(limit)?;
        let address = network(address);
        let mut counts = self.counts();
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= of_address {
            return None;
        }
        counts.insert(address, count + 1);
        drop(counts);
        Some(SharedPlace { shared: Arc::clone(self), address, _place: place })
    }

    /// Held for a moment and never across an await.
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One taken place of an address.
#[derive(Debug)]
pub(super) struct SharedPlace {
    shared: Arc<SharedPlaces>,
    address: IpAddr,
    _place: Place,
}

impl Drop for SharedPlace {
    fn drop(&mut self) {
        let mut counts = self.shared.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_share_and_no_more() {
        let places = Arc::new(SharedPlaces::default());
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let first = places.take(3, one, 2).expect("free");
        let _second = places.take(3, one, 2).expect("free");
        assert!(places.take(3, one, 2).is_none(), "its share is used up");
        let third = places.take(3, other, 2).expect("another's is not");
        assert!(places.take(3, other, 2).is_none(), "all are taken");
        drop((first, third));
        assert!(places.take(3, one, 2).is_some());
        assert_eq!(places.places.taken(), 1);
        assert_eq!(places.counts().len(), 1, "who has none is forgotten");
    }

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
