//! Who sends: asked before a byte of a message is read, so that strangers cost little and take nothing from the known.

use super::sieve::{Floods, Sieve, Source};
use crate::io::now;
use security::limits::{TooMany, network};
use security::shares::{Bound, News, Place, Rate, Share, Shares, Who};
use sip::Hop;
use sip::port::ConnectionId;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Ways that one phone or trunk is known by at once; the oldest makes room.
const MAX_WAYS: usize = 32;

/// A way that messages come: known datagrams have their sender's port, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Datagrams(SocketAddr),
    Connection(ConnectionId),
}

impl Way {
    fn of(hop: &Hop) -> Self {
        hop.connection.map_or(Way::Datagrams(canonical(hop.remote)), Way::Connection)
    }
}

/// A socket for both families sees IPv4 mapped into IPv6.
fn canonical(remote: SocketAddr) -> SocketAddr {
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

#[derive(Debug)]
struct Known {
    who: Who,
    /// For good without.
    until: Option<Instant>,
}

/// Who a message comes from, as far as its way tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Sender {
    /// A phone or a trunk that has proved itself on this way.
    Known,
    /// Anybody.
    Stranger,
}

/// The door of SIP's sockets.
#[derive(Debug, Default)]
pub(in crate::io) struct Door {
    inner: Mutex<Inner>,
    /// Something was refused that nobody has been told of.
    rings: Notify,
    /// Counts the sieves that were due.
    sieves: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    shares: Shares,
    known: HashMap<Way, Known>,
    /// The ways of each, the oldest first.
    ways: HashMap<Who, VecDeque<Way>>,
    /// Connections on which nobody has proved anything yet.
    strangers: HashMap<ConnectionId, Who>,
    floods: Floods,
}

impl Door {
    /// Takes a message of so many bytes of the share of its sender.
    ///
    /// # Errors
    /// When that is used up: how long to wait.
    pub(in crate::io) fn ask(&self, hop: &Hop, bytes: usize) -> Result<Sender, Duration> {
        let now = now();
        let mut inner = self.inner();
        let (asked, sieve) = inner.ask(now, hop, Rate::sip_price(bytes));
        if sieve {
            self.sieves.fetch_add(1, Ordering::Relaxed);
        }
        self.told_of(now, &inner, asked.is_err());
        asked
    }

    /// The sieve for the sockets, where it is another than that of the number, which becomes its own.
    pub(super) fn sieve(&self, number: &mut u64) -> Option<Sieve> {
        let newest = self.sieves.load(Ordering::Relaxed);
        if *number == newest {
            return None;
        }
        *number = newest;
        let (now, inner) = (now(), self.inner());
        let lives = |known: &Known| known.until.is_none_or(|until| until > now);
        let known = inner.known.iter().filter_map(|(way, known)| match way {
            Way::Datagrams(remote) if lives(known) => Some(*remote),
            Way::Datagrams(_) | Way::Connection(_) => None,
        });
        Some(inner.floods.sieve(known))
    }

    /// Waits until floods are to be weighed again; for ever before the first one, and while there are none.
    pub(super) async fn weighs(&self, number: u64) {
        let next = if number == 0 { None } else { self.inner().floods.next_turn() };
        let Some(next) = next else { return std::future::pending().await };
        tokio::time::sleep_until(next.into()).await;
        if self.inner().floods.turn(now()) {
            self.sieves.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A place for a connection on which nothing was proved yet.
    pub(in crate::io) fn admit(&self, id: ConnectionId, from: IpAddr) -> bool {
        let now = now();
        let mut inner = self.inner();
        let admitted = inner.admit(now, id, from);
        self.told_of(now, &inner, !admitted);
        admitted
    }

    /// Whether a connection has proved whose it is.
    pub(in crate::io) fn knows(&self, id: ConnectionId) -> bool {
        !self.inner().strangers.contains_key(&id)
    }

    /// The core's word: this way is this one's.
    pub(in crate::io) fn learn(&self, hop: &Hop, who: Who, until: Option<Instant>) {
        self.inner().learn(Way::of(hop), who, until);
    }

    /// A connection has ended.
    pub(in crate::io) fn forget(&self, id: ConnectionId) {
        let mut inner = self.inner();
        inner.leave(id);
        inner.unknow(Way::Connection(id));
    }

    /// Somebody was refused at a bound that is kept elsewhere in the shell.
    pub(in crate::io) fn refused(&self, bound: Bound, who: &Who) {
        let now = now();
        let mut inner = self.inner();
        inner.shares.note(now, bound, who, 1);
        self.told_of(now, &inner, true);
    }

    /// Other shares, from now on.
    pub(in crate::io) fn set(&self, rows: &[(Share, u64)]) {
        let mut inner = self.inner();
        rows.iter().for_each(|(share, most)| inner.shares.set(*share, *most));
    }

    /// What the core is to be told now.
    pub(in crate::io) fn news(&self) -> Vec<News> {
        self.inner().shares.news(now())
    }

    /// When there will be news.
    pub(in crate::io) fn next_timeout(&self) -> Option<Instant> {
        self.inner().shares.next_timeout()
    }

    /// Waits until something was refused.
    pub(in crate::io) async fn rings(&self) {
        self.rings.notified().await;
    }

    /// Wakes the owner when there is something to tell, and not for each refusal: a flood would be work for it.
    fn told_of(&self, now: Instant, inner: &Inner, refused: bool) {
        if refused && inner.shares.next_timeout().is_some_and(|at| at <= now) {
            self.rings.notify_one();
        }
    }

    /// Held for a moment and never across an await.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// And whether another sieve is due, since a datagram was refused.
    fn ask(&mut self, now: Instant, hop: &Hop, price: u64) -> (Result<Sender, Duration>, bool) {
        let way = Way::of(hop);
        let known = self.known.get(&way);
        let taken = match known.filter(|known| known.until.is_none_or(|until| until > now)) {
            Some(Known { who: who @ Who::Device(_), .. }) => {
                let source = Source::Way(canonical(hop.remote));
                let taken = self.shares.take(now, Rate::SipOfDevice, who, price);
                taken.map(|()| Sender::Known).map_err(|refused| (refused, Rate::SipOfDevice, source))
            }
            // A trunk speaks for many; its calls have their own bounds.
            Some(_) => Ok(Sender::Known),
            None => self.ask_stranger(now, hop.remote.ip(), price).map(|()| Sender::Stranger),
        };
        let (refused, rate, source) = match taken {
            Ok(sender) => return (Ok(sender), false),
            Err(refused) => refused,
        };
        let share = self.shares.most(Share::Rate(rate));
        // A connection is not read meanwhile: that is all that need be done.
        let sieve = matches!(way, Way::Datagrams(_)) && self.floods.refused(now, source, price, share);
        (Err(refused.retry_after), sieve)
    }

    fn ask_stranger(
        &mut self,
        now: Instant,
        from: IpAddr,
        price: u64,
    ) -> Result<(), (TooMany, Rate, Source)> {
        let address = network(from);
        let (mine, all) = (Rate::SipOfAddress, Rate::SipOfStrangers);
        let taken = self.shares.take(now, mine, &Who::Address(address), price);
        taken.map_err(|refused| (refused, mine, Source::Address(address)))?;
        let taken = self.shares.take(now, all, &Who::Strangers, price);
        taken.map_err(|refused| (refused, all, Source::Crowd))
    }

    fn admit(&mut self, now: Instant, id: ConnectionId, from: IpAddr) -> bool {
        let who = Who::address(from);
        if self.shares.hold(now, Place::SipConnectionsOfAddress, &who, 1).is_err() {
            return false;
        }
        if self.shares.hold(now, Place::SipConnectionsOfStrangers, &Who::Strangers, 1).is_err() {
            self.shares.release(Place::SipConnectionsOfAddress, &who, 1);
            return false;
        }
        self.strangers.insert(id, who);
        true
    }

    fn leave(&mut self, id: ConnectionId) {
        if let Some(who) = self.strangers.remove(&id) {
            self.shares.release(Place::SipConnectionsOfAddress, &who, 1);
            self.shares.release(Place::SipConnectionsOfStrangers, &Who::Strangers, 1);
        }
    }

    fn learn(&mut self, way: Way, who: Who, until: Option<Instant>) {
        if let Way::Connection(id) = way {
            self.leave(id);
        }
        if let Some(known) = self.known.get_mut(&way)
            && known.who == who
        {
            // What is known for good stays so.
            known.until = known.until.and(until);
            return;
        }
        self.unknow(way);
        let ways = self.ways.entry(who.clone()).or_default();
        ways.push_back(way);
        let oldest = if ways.len() > MAX_WAYS { ways.pop_front() } else { None };
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
        self.known.insert(way, Known { who, until });
    }

    fn unknow(&mut self, way: Way) {
        let Some(Known { who, .. }) = self.known.remove(&way) else { return };
        if let Some(ways) = self.ways.get_mut(&who) {
            ways.retain(|other| *other != way);
            if ways.is_empty() {
                self.ways.remove(&who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::port::Transport;

    fn hop(remote: &str, connection: Option<u64>) -> Hop {
        let (local, remote) = ("192.0.2.9:5060".parse().unwrap(), remote.parse().unwrap());
        let transport = if connection.is_some() { Transport::Tcp } else { Transport::Udp };
        Hop { transport, local, remote, connection: connection.map(ConnectionId) }
    }

    fn door() -> Inner {
        let mut inner = Inner::default();
        inner.shares.set(Share::Rate(Rate::SipOfAddress), 10);
        inner.shares.set(Share::Rate(Rate::SipOfDevice), 20);
        inner.shares.set(Share::Place(Place::SipConnectionsOfAddress), 2);
        inner.shares.set(Share::Place(Place::SipConnectionsOfStrangers), 3);
        inner
    }

    fn taken(door: &mut Inner, at: Instant, hop: &Hop) -> usize {
        (0..100).filter(|_| door.ask(at, hop, 1).0.is_ok()).count()
    }

    fn phone(name: &str) -> Who {
        Who::Device(name.into())
    }

    #[test]
    fn a_stranger_takes_nothing_from_a_phone_behind_the_same_address() {
        let (mut door, t0) = (door(), now());
        let (stranger, known) = (hop("192.0.2.1:4000", None), hop("192.0.2.1:5060", None));
        door.learn(Way::of(&known), phone("SEP1"), Some(t0 + Duration::from_secs(60)));
        assert_eq!(taken(&mut door, t0, &stranger), 10);
        assert_eq!(taken(&mut door, t0, &hop("192.0.2.1:4001", None)), 0, "one address, one share");
        assert_eq!(door.ask(t0, &known, 1).0, Ok(Sender::Known));
        assert_eq!(taken(&mut door, t0, &known), 19, "a phone has a share, too");
        let late = t0 + Duration::from_secs(61);
        assert_eq!(door.ask(late, &known, 1).0, Ok(Sender::Stranger), "its registration has ended");
    }

    #[test]
    fn a_trunk_is_known_for_good_and_without_a_share() {
        let (mut door, t0) = (door(), now());
        let way = hop("192.0.2.7:5060", None);
        door.learn(Way::of(&way), Who::Trunk("pstn".into()), None);
        door.learn(Way::of(&way), Who::Trunk("pstn".into()), Some(t0));
        assert_eq!(taken(&mut door, t0 + Duration::from_secs(9), &way), 100);
        assert_eq!(taken(&mut door, t0, &hop("[::ffff:192.0.2.7]:5060", None)), 100);
    }

    #[test]
    fn connections_of_strangers_have_places_until_they_prove_something_or_end() {
        let (mut door, t0) = (door(), now());
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut admit = |id, from| door.admit(t0, ConnectionId(id), address(from));
        assert!(admit(1, "192.0.2.1") && admit(2, "192.0.2.1") && !admit(3, "192.0.2.1"));
        assert!(admit(4, "192.0.2.2") && !admit(5, "192.0.2.3"), "all places are taken");
        door.learn(Way::Connection(ConnectionId(1)), phone("SEP1"), None);
        assert!(door.admit(t0, ConnectionId(6), address("192.0.2.1")));
        door.leave(ConnectionId(6));
        door.leave(ConnectionId(6));
        door.leave(ConnectionId(2));
        door.leave(ConnectionId(4));
        assert!(door.strangers.is_empty());
        assert_eq!(door.shares.held(Place::SipConnectionsOfStrangers, &Who::Strangers), 0);
    }

    #[test]
    fn the_ways_of_a_phone_are_bounded_and_the_oldest_is_a_strangers_again() {
        let (mut door, t0) = (door(), now());
        let most = u64::try_from(MAX_WAYS).unwrap();
        for id in 0..=most {
            door.learn(Way::Connection(ConnectionId(id)), phone("SEP1"), None);
        }
        assert_eq!((door.known.len(), door.ways.len()), (MAX_WAYS, 1));
        assert_eq!(door.ask(t0, &hop("192.0.2.1:1", Some(0)), 1).0, Ok(Sender::Stranger));
        assert_eq!(door.ask(t0, &hop("192.0.2.1:1", Some(most)), 1).0, Ok(Sender::Known));
        door.learn(Way::Connection(ConnectionId(most)), phone("SEP2"), None);
        for id in 0..=most {
            door.unknow(Way::Connection(ConnectionId(id)));
        }
        assert!(door.known.is_empty() && door.ways.is_empty());
    }
}
