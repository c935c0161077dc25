//! Who sends: asked before a byte of a message is read, so that strangers cost little and take nothing from the known.

use super::guests::{Guests, Stands};
use super::sieve::{Floods, Sieve, Source};
use crate::io::now;
use crate::io::queue::Sender;
use security::limits::{TooMany, network};
use security::shares::{Bound, Listener, News, Rate, Share, Shares, Who};
use sip::Hop;
use sip::port::ConnectionId;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Addresses and ports that datagrams of one phone or trunk are known by at once; the oldest makes room.
const MAX_WAYS: usize = 32;

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

/// The door of SIP's sockets.
#[derive(Debug)]
pub(in crate::io) struct Door {
    inner: Mutex<Inner>,
    /// Something was refused that nobody has been told of.
    rings: Notify,
    /// Counts the sieves that were due.
    sieves: AtomicU64,
    /// Changes when another way of datagrams is known, or one is not any more.
    ways: watch::Sender<()>,
}

impl Default for Door {
    fn default() -> Self {
        let (inner, rings, sieves) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { inner, rings, sieves, ways: watch::Sender::new(()) }
    }
}

#[derive(Debug, Default)]
struct Inner {
    shares: Shares,
    /// Whose datagrams are.
    known: HashMap<SocketAddr, Known>,
    /// Where those of each come from, the oldest first.
    ways: HashMap<Who, VecDeque<SocketAddr>>,
    guests: Guests,
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
        let inner = self.inner();
        Some(inner.floods.sieve(inner.known_datagrams(now())))
    }

    /// Tells of changes of [`Door::known_datagrams`].
    pub(super) fn ways(&self) -> watch::Receiver<()> {
        self.ways.subscribe()
    }

    /// From where datagrams of the known come.
    pub(super) fn known_datagrams(&self) -> Vec<SocketAddr> {
        self.inner().known_datagrams(now()).collect()
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

    /// A place for a connection on which nothing was proved yet: until then it must have.
    pub(in crate::io) fn admit(&self, id: ConnectionId, from: IpAddr, until: Instant) -> bool {
        let now = now();
        let mut inner = self.inner();
        let Inner { shares, guests, .. } = &mut *inner;
        let admitted = guests.admit(shares, now, id, from, until);
        self.told_of(now, &inner, !admitted);
        admitted
    }

    /// A new connection has come in: whether it is within its address' share. Asked before anything is done for it.
    pub(in crate::io) fn knock(&self, listener: Listener, from: IpAddr) -> bool {
        let now = now();
        let mut inner = self.inner();
        let refused = inner.shares.knock(now, listener, from).is_err();
        self.told_of(now, &inner, refused);
        !refused
    }

    /// Somebody has proved himself from there.
    pub(in crate::io) fn met(&self, from: IpAddr) {
        self.inner().shares.met(now(), from);
    }

    /// These addresses are known for good.
    pub(in crate::io) fn named(&self, addresses: Vec<IpAddr>) {
        self.inner().shares.named(addresses);
    }

    /// We have made a connection to there.
    pub(super) fn made(&self, id: ConnectionId, to: IpAddr) {
        let now = now();
        let mut inner = self.inner();
        let Inner { shares, guests, .. } = &mut *inner;
        let refused = guests.made(shares, now, id, to);
        self.told_of(now, &inner, refused);
    }

    /// How a connection stands, and what rings when that changes.
    pub(super) fn stands(&self, id: ConnectionId, patience: Duration) -> (Stands, Arc<Notify>) {
        self.inner().guests.stands(now(), id, patience)
    }

    /// The core's word: this way is this one's.
    pub(in crate::io) fn learn(&self, hop: &Hop, who: Who, until: Option<Instant>) {
        let now = now();
        let mut inner = self.inner();
        let Inner { shares, guests, .. } = &mut *inner;
        if until.is_none_or(|until| until > now) {
            shares.met(now, hop.remote.ip());
        }
        let (refused, is_new) = match hop.connection {
            Some(id) => (guests.learn(shares, now, id, who, until), false),
            None => (false, inner.learn(now, canonical(hop.remote), who, until)),
        };
        self.told_of(now, &inner, refused);
        if is_new {
            self.ways.send_replace(());
        }
    }

    /// A connection has ended.
    pub(in crate::io) fn forget(&self, id: ConnectionId) {
        let mut inner = self.inner();
        let Inner { shares, guests, .. } = &mut *inner;
        guests.forget(shares, id);
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
    fn known_datagrams(&self, now: Instant) -> impl Iterator<Item = SocketAddr> {
        let lives = move |known: &Known| known.until.is_none_or(|until| until > now);
        self.known.iter().filter(move |(_, known)| lives(known)).map(|(remote, _)| *remote)
    }

    /// And whether another sieve is due, since a datagram was refused.
    fn ask(&mut self, now: Instant, hop: &Hop, price: u64) -> (Result<Sender, Duration>, bool) {
        let known = match hop.connection {
            Some(id) => self.guests.whose(now, id),
            None => {
                let known = self.known.get(&canonical(hop.remote));
                let lives = known.filter(|known| known.until.is_none_or(|until| until > now));
                lives.map(|known| &known.who)
            }
        };
        let taken = match known {
            Some(who @ Who::Device(_)) => {
                let source = Source::Way(canonical(hop.remote));
                let taken = self.shares.take(now, Rate::SipOfDevice, who, price);
                taken.map(|()| Sender::Known).map_err(|refused| (refused, Rate::SipOfDevice, source))
            }
            // A trunk or proxy speaks for many; its calls have their own bounds.
            Some(_) => Ok(Sender::Known),
            None => self.ask_stranger(now, hop.remote.ip(), price).map(|()| Sender::Stranger),
        };
        let (refused, rate, source) = match taken {
            Ok(sender) => return (Ok(sender), false),
            Err(refused) => refused,
        };
        let share = self.shares.most(Share::Rate(rate));
        // A connection is not read meanwhile: that is all that need be done.
        let sieve = hop.connection.is_none() && self.floods.refused(now, source, price, share);
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

    /// Whether the way was not this one's before, or not any more.
    fn learn(&mut self, now: Instant, way: SocketAddr, who: Who, until: Option<Instant>) -> bool {
        if let Some(known) = self.known.get_mut(&way)
            && known.who == who
        {
            let lapsed = known.until.is_some_and(|until| until <= now);
            // What is known for good stays so.
            known.until = known.until.and(until);
            return lapsed;
        }
        self.unknow(way);
        let ways = self.ways.entry(who.clone()).or_default();
        ways.push_back(way);
        let oldest = if ways.len() > MAX_WAYS { ways.pop_front() } else { None };
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
        self.known.insert(way, Known { who, until });
        true
    }

    fn unknow(&mut self, way: SocketAddr) {
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
        door.learn(t0, known.remote, phone("SEP1"), Some(t0 + Duration::from_secs(60)));
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
        door.learn(t0, way.remote, Who::Trunk("pstn".into()), None);
        door.learn(t0, way.remote, Who::Trunk("pstn".into()), Some(t0));
        assert_eq!(taken(&mut door, t0 + Duration::from_secs(9), &way), 100);
        assert_eq!(taken(&mut door, t0, &hop("[::ffff:192.0.2.7]:5060", None)), 100);
    }

    #[test]
    fn the_ways_of_a_phone_are_bounded_and_the_oldest_is_a_strangers_again() {
        let (mut door, t0) = (door(), now());
        let way = |port: usize| hop(&format!("192.0.2.1:{}", 4_000 + port), None);
        for port in 0..=MAX_WAYS {
            door.learn(t0, way(port).remote, phone("SEP1"), None);
        }
        assert_eq!((door.known.len(), door.ways.len()), (MAX_WAYS, 1));
        assert_eq!(door.ask(t0, &way(0), 1).0, Ok(Sender::Stranger));
        assert_eq!(door.ask(t0, &way(MAX_WAYS), 1).0, Ok(Sender::Known));
        door.learn(t0, way(MAX_WAYS).remote, phone("SEP2"), None);
        (0..=MAX_WAYS).for_each(|port| door.unknow(way(port).remote));
        assert!(door.known.is_empty() && door.ways.is_empty());
    }
}
