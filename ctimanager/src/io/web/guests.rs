//! Who is connected to the web port: at most so many, and of one address (IPv6: one /64) a share. The port never shuts: a
//! newcomer takes the place of the oldest of his own address, if that has its share, or of the address that has most, if
//! all places are taken. So whoever leaves connections lying there loses his own, and a supervisor always gets his answer.

use security::limits::network;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// All connections of the web port that are no WebSockets (yet).
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    all: usize,
    /// Of each address, the one that asked longest ago first.
    by_address: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    /// The addresses by how many each has.
    by_count: BTreeSet<(usize, IpAddr)>,
}

/// A place at the web port, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
    number: Mutex<u64>,
    left: CancellationToken,
}

impl Guests {
    /// A place, and whose was taken for it.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        most: usize,
        most_of_address: usize,
    ) -> (Guest, Option<IpAddr>) {
        let address = network(address);
        let mut table = self.table();
        let own = table.by_address.get(&address).map_or(0, BTreeMap::len);
        let loser = match (own >= most_of_address, table.all >= most) {
            (true, _) => Some(address),
            (false, true) => table.by_count.last().map(|(_, address)| *address),
            (false, false) => None,
        };
        if let Some(loser) = loser {
            table.remove_oldest(loser);
        }
        let left = CancellationToken::new();
        let number = Mutex::new(table.add(address, left.clone()));
        drop(table);
        (Guest { guests: Arc::clone(self), address, number, left }, loser)
    }

    /// Held for a moment and never across an await.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, address: IpAddr, left: CancellationToken) -> u64 {
        self.last += 1;
        let number = self.last;
        self.change(address, |of_address| drop(of_address.insert(number, left)));
        number
    }

    fn remove_oldest(&mut self, address: IpAddr) {
        self.change(address, |of_address| {
            if let Some((_, left)) = of_address.pop_first() {
                left.cancel();
            }
        });
    }

    /// Keeps the counts right.
    fn change(&mut self, address: IpAddr, act: impl FnOnce(&mut BTreeMap<u64, CancellationToken>)) {
        let of_address = self.by_address.entry(address).or_default();
        let before = of_address.len();
        act(of_address);
        let now = of_address.len();
        self.by_count.remove(&(before, address));
        self.all = self.all + now - before;
        if now > 0 {
            self.by_count.insert((now, address));
        } else {
            self.by_address.remove(&address);
        }
    }
}

impl Guest {
    /// It has asked for something: it is the youngest of its address now.
    pub(super) fn asks(&self) {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.guests.table();
        let mut taken = None;
        table.change(self.address, |of_address| taken = of_address.remove(&number));
        // One that has lost its place does not get it back.
        if let Some(left) = taken {
            *number = table.add(self.address, left);
        }
    }

    /// Waits until somebody else has its place.
    pub(super) async fn loses_its_place(&self) {
        self.left.cancelled().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let number = *self.number.lock().unwrap_or_else(PoisonError::into_inner);
        self.guests.table().change(self.address, |of_address| drop(of_address.remove(&number)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_oldest_of_an_address_makes_room_for_its_newcomer_and_that_of_the_greediest_for_others() {
        let guests = Arc::new(Guests::default());
        let take = |from: &str| guests.take(ip(from), 4, 3);
        let (first, nobody) = take("192.0.2.1");
        let (second, _) = take("192.0.2.1");
        let (third, _) = take("::ffff:192.0.2.1");
        assert_eq!(nobody, None);
        first.asks();
        let (fourth, loser) = take("192.0.2.1");
        assert_eq!(loser, Some(ip("192.0.2.1")), "it has its share");
        assert!(second.left.is_cancelled() && !first.left.is_cancelled(), "who asked last stays longest");
        let (_fifth, loser) = take("192.0.2.2");
        assert_eq!(loser, None);
        let (_sixth, loser) = take("2001:db8::1");
        assert_eq!(loser, Some(ip("192.0.2.1")), "all places are taken, most of them by this one");
        assert!(third.left.is_cancelled() && !fourth.left.is_cancelled());
        third.asks();
        drop((first, second, third, fourth));
        let table = guests.table();
        assert_eq!((table.all, table.by_address.len()), (2, 2));
    }

    #[test]
    fn millions_of_addresses_are_no_more_than_the_places() {
        let guests = Arc::new(Guests::default());
        let mut there = Vec::new();
        for n in 0..10_000_u32 {
            there.push(guests.take(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 512, 64).0);
        }
        let table = guests.table();
        assert_eq!((table.all, table.by_address.len(), table.by_count.len()), (512, 512, 512));
        drop(table);
        drop(there);
        assert_eq!(guests.table().all, 0);
    }
}
