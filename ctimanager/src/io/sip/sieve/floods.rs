//! Who floods, as the door's refusals tell, and what part of it is let through to the door.

use super::{Holes, Part, Sieve};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What came is weighed anew so often.
pub(super) const WINDOW: Duration = Duration::from_millis(250);
/// So many are thinned at once; beyond them the door alone judges.
pub(super) const MAX_THINNED: usize = 64;
/// So many are weighed in a window.
const MAX_WEIGHED: usize = 1_024;
/// Known ones behind one address who are told from its flood.
const MAX_PORTS: usize = 128;
/// What passes, in shares: more than one, since chance is not even.
const SHARES: f64 = 2.0;
/// And this more, a second, for shares of a few messages.
const AND: f64 = 50.0;
/// Never less passes: some must, so that it is seen when the flood is over.
const LEAST: f64 = 1.0 / 65_536.0;
/// A flood is weighed over no less than this.
const INSTANT: Duration = Duration::from_millis(2);

/// Whose share is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::io::sip) enum Source {
    /// All strangers together.
    Crowd,
    /// Those of an address, or of a /64.
    Address(IpAddr),
    /// Somebody known.
    Way(SocketAddr),
}

/// What is being done about floods.
#[derive(Debug, Default)]
pub(in crate::io::sip) struct Floods {
    began: Option<Instant>,
    /// The price of what was refused in this window.
    refused: HashMap<Source, Refused>,
    thinned: BTreeMap<Source, Thinned>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    price: u64,
    /// The share: price a second.
    share: u64,
}

#[derive(Clone, Copy, Debug)]
struct Thinned {
    keep: f64,
    since: Instant,
}

impl Floods {
    /// A datagram of this price was refused, of whom so much is taken a second. Whether another sieve is due.
    pub(in crate::io::sip) fn refused(
        &mut self,
        now: Instant,
        source: Source,
        price: u64,
        share: u64,
    ) -> bool {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= WINDOW {
            let changed = self.turn(now);
            return self.weigh(now, now, source, price, share) || changed;
        }
        self.weigh(now, began, source, price, share)
    }

    fn weigh(&mut self, now: Instant, began: Instant, source: Source, price: u64, share: u64) -> bool {
        self.began = Some(began);
        if self.refused.len() >= MAX_WEIGHED && !self.refused.contains_key(&source) {
            return false;
        }
        let refused = self.refused.entry(source).or_insert(Refused { price: 0, share });
        (refused.price, refused.share) = (refused.price + price, share);
        let enough = refused.price as f64 > (SHARES - 1.0) * allowed(share) * WINDOW.as_secs_f64();
        if !enough || self.thinned.len() >= MAX_THINNED || self.thinned.contains_key(&source) {
            return false;
        }
        let offered = refused.rate(now.saturating_duration_since(began)) + share as f64;
        self.refused.remove(&source);
        let keep = (SHARES * allowed(share) / offered).clamp(LEAST, 1.0);
        self.thinned.insert(source, Thinned { keep, since: now });
        true
    }

    /// Weighs what passed, if it is time. Whether another sieve is due.
    pub(in crate::io::sip) fn turn(&mut self, now: Instant) -> bool {
        let Some(began) = self.began.filter(|began| now.saturating_duration_since(*began) >= WINDOW) else {
            return false;
        };
        let refused = std::mem::take(&mut self.refused);
        let changed = !self.thinned.is_empty();
        self.thinned.retain(|source, thinned| {
            let time = now.saturating_duration_since(thinned.since.max(began));
            if time >= WINDOW / 2 {
                thinned.keep = match refused.get(source) {
                    Some(refused) => {
                        let offered = (refused.rate(time) + refused.share as f64) / thinned.keep;
                        (SHARES * allowed(refused.share) / offered).clamp(LEAST, 2.0 * thinned.keep)
                    }
                    None => 2.0 * thinned.keep,
                };
            }
            thinned.keep < 1.0
        });
        self.began = (!self.thinned.is_empty()).then_some(now);
        changed
    }

    /// When it is to be weighed next, while anybody is thinned.
    pub(in crate::io::sip) fn next_turn(&self) -> Option<Instant> {
        self.began.filter(|_| !self.thinned.is_empty()).map(|began| began + WINDOW)
    }

    /// What is to be fitted now; the known are those whose datagrams pass.
    pub(in crate::io::sip) fn sieve(&self, known: impl Iterator<Item = SocketAddr>) -> Sieve {
        let mut sieve = Sieve::default();
        if self.thinned.is_empty() {
            return sieve;
        }
        for (source, thinned) in &self.thinned {
            let part = Some(Part::of(thinned.keep));
            match source {
                Source::Crowd => sieve.crowd = part,
                Source::Address(address) => sieve.addresses.entry(*address).or_default().rest = part,
                Source::Way(way) => {
                    let holes = sieve.addresses.entry(security::limits::network(way.ip())).or_default();
                    holes.ports.insert(way.port(), part);
                }
            }
        }
        for way in known {
            let holes: Option<&mut Holes> = sieve.addresses.get_mut(&security::limits::network(way.ip()));
            if let Some(holes) = holes {
                holes.ports.entry(way.port()).or_insert(None);
            }
            if sieve.crowd.is_some() {
                sieve.known.push(way);
            }
        }
        sieve.addresses.retain(|_, holes| holes.ports.len() <= MAX_PORTS);
        sieve
    }
}

impl Refused {
    fn rate(self, time: Duration) -> f64 {
        self.price as f64 / time.max(INSTANT).as_secs_f64()
    }
}

fn allowed(share: u64) -> f64 {
    share as f64 + AND
}
