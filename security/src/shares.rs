//! Shares: how much of a resource each one may have who uses it.
//!
//! One mechanism for every bound that somebody outside can reach. A *row* of the table ([`Rate`], [`Place`], [`Door`])
//! names a resource and the kind of [`Who`] that has a share of it; its default is what [`Row::default`] says, and the
//! service parameter [`Row::key`] sets another one. The question is asked **before** anything is kept or computed:
//!
//! ```
//! # use security::shares::{Rate, Place, Shares, Who};
//! # use std::time::Instant;
//! # fn ask(shares: &mut Shares, now: Instant, peer: std::net::IpAddr, bytes: u64) -> Result<(), security::limits::TooMany> {
//! // What is used up: so much a second, with a burst of one second. The price is what it costs, not "one".
//! shares.take(now, Rate::SipOfAddress, &Who::address(peer), 1 + bytes / 1024)?;
//! // What is held: so much at once, until it is given back.
//! shares.hold(now, Place::SipConnectionsOfAddress, &Who::address(peer), 1)?;
//! shares.release(Place::SipConnectionsOfAddress, &Who::address(peer), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Whatever is refused is counted ([`Shares::refused`], for `/metrics`) and becomes [`News`]: one for each row and
//! [`Who`] a second, the first of which raises an alarm that stands until nothing was refused for [`QUIET`].
//! [`Shares::next_timeout`] says when there are some. Nobody who asks has to log, count or alarm anything himself.
//!
//! Memory is bounded whatever names and addresses are invented: of each row [`MAX_KNOWN`] are told apart. Who comes
//! when as many are active shares one share with all others who come late; who was silent long enough to have his whole
//! burst again is forgotten without loss. A question about somebody known allocates nothing.
//!
//! A new row is a line in `table.rs`, its key in the configuration's service parameters and in
//! [`Shares::set`]'s caller, and a line in `docs/security.md`, which a test compares.

mod acquaintances;
mod buckets;
mod doors;
mod holdings;
mod news;
mod table;
#[cfg(test)]
mod tests;

pub use news::{MAX_TOLD, News, QUIET, State};
pub use table::{Bound, Door, Kind, Listener, Place, Rate, Row, Share};

use crate::limits::{TooMany, network};
use acquaintances::Acquaintances;
use buckets::Buckets;
use device_model::SessionId;
use doors::Guard;
use holdings::Holdings;
use news::Telling;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many of each row are told apart.
pub const MAX_KNOWN: usize = 16_384;
/// After what time who was refused a place may ask again.
const PLACE_RETRY: Duration = Duration::from_secs(1);

/// Who has a share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// All who have not proved who they are, together.
    Strangers,
    /// An IPv4 address, or the /64 of an IPv6 one: make it with [`Who::address`].
    Address(IpAddr),
    /// A phone's digest account, by its user name.
    Account(Arc<str>),
    /// A device, by its name.
    Device(Arc<str>),
    /// A trunk, by its name.
    Trunk(Arc<str>),
    /// A SIP proxy that an administrator has listed. It speaks for many and has no share.
    Proxy(IpAddr),
    /// A user of the CTI side.
    User(Arc<str>),
    /// A session of the CTI side.
    Session(SessionId),
    /// Those beyond the number that is told apart, in [`News`] alone.
    Others,
}

impl Who {
    /// Whom an address counts as ([`network`]).
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(network(address))
    }

    /// What kind he is; none of those beyond number, and of a proxy.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Who::Strangers => Kind::Strangers,
            Who::Address(_) => Kind::Address,
            Who::Account(_) => Kind::Account,
            Who::Device(_) => Kind::Device,
            Who::Trunk(_) => Kind::Trunk,
            Who::User(_) => Kind::User,
            Who::Session(_) => Kind::Session,
            Who::Proxy(_) | Who::Others => return None,
        })
    }
}

impl fmt::Display for Who {
    /// The address or name alone. An account's may be a person's number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Strangers => f.write_str("all strangers"),
            Who::Address(address) | Who::Proxy(address) => address.fmt(f),
            Who::Account(name) | Who::Device(name) | Who::Trunk(name) | Who::User(name) => f.write_str(name),
            Who::Session(id) => id.fmt(f),
            Who::Others => f.write_str("others"),
        }
    }
}

/// The state of the whole table.
#[derive(Debug)]
pub struct Shares {
    rates: Vec<Buckets>,
    places: Vec<Holdings>,
    doors: Vec<Guard>,
    bounds: Vec<u64>,
    acquaintances: Acquaintances,
    telling: Telling,
}

impl Default for Shares {
    fn default() -> Self {
        Self::new()
    }
}

impl Shares {
    /// Nothing is used yet; each row has its default.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rates: Rate::ALL.iter().map(|rate| Buckets::new(rate.row().default, rate.burst())).collect(),
            places: Place::ALL.iter().map(|place| Holdings::new(place.row().default)).collect(),
            doors: Door::ALL.iter().map(|door| Guard::new(door.row().default)).collect(),
            bounds: Bound::ALL.iter().map(|bound| bound.row().default).collect(),
            acquaintances: Acquaintances::default(),
            telling: Telling::default(),
        }
    }

    /// Another bound of a row, from now on: a second, at once or failures a minute; at least one. What is held beyond
    /// it already stays.
    pub fn set(&mut self, share: Share, most: u64) {
        let most = most.max(1);
        match share {
            Share::Rate(rate) => self.rates[rate as usize].set(most),
            Share::Place(place) => self.places[place as usize].set(most),
            Share::Door(door) => self.doors[door as usize].set(most),
            Share::Bound(bound) => self.bounds[bound as usize] = most,
        }
    }

    /// The bound of a row as it is now.
    #[must_use]
    pub fn most(&self, share: Share) -> u64 {
        match share {
            Share::Rate(rate) => self.rates[rate as usize].most(),
            Share::Place(place) => self.places[place as usize].most(),
            Share::Door(door) => self.doors[door as usize].most(),
            Share::Bound(bound) => self.bounds[bound as usize],
        }
    }

    /// Uses up `price` of a rate. A price above the whole burst is taken when nothing was used for that long.
    ///
    /// # Errors
    /// When too much was used up within the last second; nothing is taken then.
    pub fn take(&mut self, now: Instant, rate: Rate, who: &Who, price: u64) -> Result<(), TooMany> {
        let taken = self.rates[rate as usize].take(now, who, price);
        if taken.is_err() {
            self.telling.refused(now, Share::Rate(rate), who, 1);
        }
        taken
    }

    /// Takes one new connection of an address' share at that kind of listener. It is larger where somebody behind the
    /// address has [proved himself](Self::met) within a day, and where an administrator has [named](Self::named) it.
    ///
    /// # Errors
    /// When too many have come: the connection is to be closed before anything is done for it.
    pub fn knock(&mut self, now: Instant, listener: Listener, from: IpAddr) -> Result<(), TooMany> {
        let address = network(from);
        let (strange, known) = listener.rates();
        let rate = if self.acquaintances.knows(now, address) { known } else { strange };
        self.take(now, rate, &Who::Address(address), 1)
    }

    /// Somebody at this address has proved who he is. Of so many addresses it is remembered, and of those that were met last.
    pub fn met(&mut self, now: Instant, from: IpAddr) {
        self.acquaintances.met(now, network(from));
    }

    /// These addresses are an administrator's word, and no others are: they are known for good.
    pub fn named(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.acquaintances.named(addresses.into_iter().map(network).collect());
    }

    /// What was taken cost so much more than its price, as was seen when it was done: whoever comes next waits for that, a
    /// second longer at most.
    pub fn charge(&mut self, now: Instant, rate: Rate, who: &Who, price: u64) {
        self.rates[rate as usize].charge(now, who, price);
    }

    /// Holds so much more of a resource until [`release`](Self::release).
    ///
    /// # Errors
    /// When it would be more than the share; nothing is held then.
    pub fn hold(&mut self, now: Instant, place: Place, who: &Who, amount: u64) -> Result<(), TooMany> {
        if self.places[place as usize].hold(who, amount) {
            return Ok(());
        }
        self.telling.refused(now, Share::Place(place), who, 1);
        Err(TooMany { retry_after: PLACE_RETRY })
    }

    /// Gives back what was held.
    pub fn release(&mut self, place: Place, who: &Who, amount: u64) {
        self.places[place as usize].release(who, amount);
    }

    /// How much of a resource somebody has.
    #[must_use]
    pub fn held(&self, place: Place, who: &Who) -> u64 {
        self.places[place as usize].held(who)
    }

    /// Whether a password of this name from this address may be looked at, or its outcome be told. Ask before it is
    /// verified, and once more when the verdict is there where many are verified side by side.
    ///
    /// The shares of the name and of the address bind only where this name was not let in before; an address where it
    /// was has a share of ten times as many for that name alone. Never ask for a certificate; for the
    /// resume of a living session see [`may_resume`](Self::may_resume).
    ///
    /// # Errors
    /// When one of the shares is used up by failures; tell it with [`put_off`](Self::put_off).
    pub fn may_prove(&self, now: Instant, door: Door, name: &str, from: IpAddr) -> Result<(), TooMany> {
        match self.doors[door as usize].wait(now, name, network(from)) {
            None => Ok(()),
            Some((retry_after, _)) => Err(TooMany { retry_after }),
        }
    }

    /// Whether a name was let in from this address before.
    #[must_use]
    pub fn is_at_home(&self, door: Door, name: &str, from: IpAddr) -> bool {
        self.doors[door as usize].is_at_home(name, network(from))
    }

    /// Counts and tells that a password was not looked at.
    pub fn put_off(&mut self, now: Instant, door: Door, name: &str, from: IpAddr) {
        let network = network(from);
        let by_address = self.doors[door as usize].wait(now, name, network).is_none_or(|(_, by)| by);
        let who = if by_address { Who::Address(network) } else { door.who(name) };
        self.telling.refused(now, Share::Door(door), &who, 1);
    }

    /// The password was right: its name is at home at this address from now on.
    pub fn proved(&mut self, door: Door, name: &str, from: IpAddr) {
        self.doors[door as usize].proved(name, network(from));
    }

    /// The password was wrong, or there is no such name.
    pub fn disproved(&mut self, now: Instant, door: Door, name: &str, from: IpAddr) {
        self.doors[door as usize].disproved(now, name, network(from));
    }

    /// [`Shares::may_prove`] for the resume of a living session: name and address together have the share that a name has
    /// at home, wherever they come from.
    ///
    /// # Errors
    /// When that is used up; it is told.
    pub fn may_resume(&mut self, now: Instant, door: Door, name: &str, from: IpAddr) -> Result<(), TooMany> {
        match self.doors[door as usize].wait_of_pair(now, name, network(from)) {
            None => Ok(()),
            Some(retry_after) => {
                self.telling.refused(now, Share::Door(door), &Who::address(from), 1);
                Err(TooMany { retry_after })
            }
        }
    }

    /// The password of such a resume was wrong.
    pub fn not_resumed(&mut self, now: Instant, door: Door, name: &str, from: IpAddr) {
        self.doors[door as usize].pair_failed(now, name, network(from));
    }

    /// Whether a log line about somebody may be written now, and how many were left out since the last one: one a
    /// second for each.
    pub fn line(&mut self, now: Instant, who: &Who) -> Option<u64> {
        self.telling.line(now, who)
    }

    /// How often a row has refused, since the start.
    #[must_use]
    pub fn refused(&self, share: Share) -> u64 {
        self.telling.count(share)
    }

    /// Tells of so many refusals at a bound that is kept elsewhere.
    pub fn note(&mut self, now: Instant, bound: Bound, who: &Who, refused: u64) {
        self.telling.refused(now, Share::Bound(bound), who, refused);
    }

    /// Counts what another table with the same rows has refused and told, for [`Shares::refused`].
    pub fn count_elsewhere(&mut self, share: Share, refused: u64) {
        self.telling.add(share, refused);
    }

    /// What is to be told now: log lines, and alarms that begin or end.
    pub fn news(&mut self, now: Instant) -> Vec<News> {
        self.telling.news(now)
    }

    /// When there will be [`Shares::news`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.telling.next()
    }
}
