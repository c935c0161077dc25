//! SIP connections: whose each is, whose share its place is of, and when it is shown out.
//!
//! A stranger has some seconds to prove something. Who has proved himself keeps his place for as long as the core says that
//! it is his; the core is asked then, and without an answer it closes some seconds later. Who has more than his share gives
//! up what he has used longest ago. A phone counts for itself and for its address, a trunk for itself alone, a listed proxy
//! for nobody, since both speak for many.

use security::shares::{Place, Shares, Who};
use sip::port::ConnectionId;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It stays until then, or until somebody rings.
    Stays(Option<Instant>),
    /// The core is to be asked whose it is; whose it was.
    Asks(Option<Who>),
    /// It closes.
    Leaves,
}

#[derive(Debug)]
struct Guest {
    /// Its address, as somebody with a share.
    address: Who,
    standing: Standing,
    changed: Arc<Notify>,
}

#[derive(Debug)]
enum Standing {
    /// Nobody has proved anything; it closes then.
    Stranger { until: Instant },
    /// It is his.
    Held(Held),
    /// Its place is another's.
    Leaving,
}

#[derive(Debug)]
struct Held {
    /// A device, a trunk or a proxy; the address itself of a connection that we have made and nobody has proved to be his.
    who: Who,
    /// For good without.
    until: Option<Instant>,
    /// The core was asked after that.
    asked: bool,
    /// Its number in the order of proofs.
    proved: u64,
}

/// All SIP connections.
#[derive(Debug, Default)]
pub(super) struct Guests {
    guests: HashMap<ConnectionId, Guest>,
    /// Those of each, by when it was proved last.
    held: BTreeMap<Who, BTreeMap<u64, ConnectionId>>,
    /// How many each has at an address.
    there: BTreeMap<(Who, Who), u64>,
    proofs: u64,
}

/// The share that somebody's connections are counted in.
fn place_of(who: &Who) -> Option<Place> {
    match who {
        Who::Device(_) => Some(Place::SipConnectionsOfDevice),
        Who::Trunk(_) => Some(Place::SipConnectionsOfTrunk),
        Who::Strangers | Who::Address(_) | Who::Account(_) | Who::Proxy(_) => None,
        Who::User(_) | Who::Session(_) | Who::Others => None,
    }
}

/// Whether they count for their address as well.
fn is_one(who: &Who) -> bool {
    matches!(who, Who::Device(_) | Who::Address(_))
}

impl Guests {
    /// A stranger's connection: `false` if there is no place for it.
    pub(super) fn admit(
        &mut self,
        shares: &mut Shares,
        now: Instant,
        id: ConnectionId,
        from: IpAddr,
        until: Instant,
    ) -> bool {
        let address = Who::address(from);
        if shares.hold(now, Place::SipConnectionsOfAddress, &address, 1).is_err() {
            return false;
        }
        if shares.hold(now, Place::SipConnectionsOfStrangers, &Who::Strangers, 1).is_err() {
            shares.release(Place::SipConnectionsOfAddress, &address, 1);
            return false;
        }
        self.insert(id, address, Standing::Stranger { until });
        true
    }

    /// One that we have made. Whose it is, the core is asked at once. Whether a share is used up with it.
    pub(super) fn made(&mut self, shares: &mut Shares, now: Instant, id: ConnectionId, to: IpAddr) -> bool {
        let address = Who::address(to);
        self.insert(id, address.clone(), Standing::Leaving);
        self.hold(shares, now, id, address, None)
    }

    fn insert(&mut self, id: ConnectionId, address: Who, standing: Standing) {
        self.guests.insert(id, Guest { address, standing, changed: Arc::default() });
    }

    /// Whose it is now.
    pub(super) fn whose(&self, now: Instant, id: ConnectionId) -> Option<&Who> {
        match &self.guests.get(&id)?.standing {
            Standing::Held(Held { who: Who::Address(_), .. }) => None,
            Standing::Held(held) => held.until.is_none_or(|until| until > now).then_some(&held.who),
            Standing::Stranger { .. } | Standing::Leaving => None,
        }
    }

    /// The core's word on whose it is, and until when. Whether a share is used up with it.
    pub(super) fn learn(
        &mut self,
        shares: &mut Shares,
        now: Instant,
        id: ConnectionId,
        who: Who,
        until: Option<Instant>,
    ) -> bool {
        let Some(guest) = self.guests.get_mut(&id) else { return false };
        guest.changed.notify_one();
        match &mut guest.standing {
            Standing::Leaving => return false,
            Standing::Held(held) if held.who == who => {
                let proved = until.is_none_or(|until| until > now);
                // What it was before the question is no other answer.
                held.asked &= !proved;
                held.until = until;
                if proved {
                    self.prove_again(id);
                }
                return false;
            }
            Standing::Held(_) | Standing::Stranger { .. } => {}
        }
        self.hold(shares, now, id, who, until)
    }

    /// It becomes his. What he has beyond his share, and his address beyond its own, gives way.
    fn hold(
        &mut self,
        shares: &mut Shares,
        now: Instant,
        id: ConnectionId,
        who: Who,
        until: Option<Instant>,
    ) -> bool {
        self.release(shares, id);
        let Some(guest) = self.guests.get(&id) else { return false };
        let (address, mut refused) = (guest.address.clone(), false);
        if let Some(place) = place_of(&who)
            && shares.hold(now, place, &who, 1).is_err()
        {
            refused = true;
            self.make_room(shares, &who, None);
            // A share that was made smaller keeps what is there.
            if shares.hold(now, place, &who, 1).is_err() {
                return self.leave(id);
            }
        }
        if is_one(&who) && shares.hold(now, Place::ProvedSipConnectionsOfAddress, &address, 1).is_err() {
            refused = true;
            let most = self.most_at(&address);
            self.make_room(shares, &most, Some(&address));
            if shares.hold(now, Place::ProvedSipConnectionsOfAddress, &address, 1).is_err() {
                if let Some(place) = place_of(&who) {
                    shares.release(place, &who, 1);
                }
                return self.leave(id);
            }
        }
        self.enter(id, address, who, until);
        refused
    }

    fn enter(&mut self, id: ConnectionId, address: Who, who: Who, until: Option<Instant>) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        self.proofs += 1;
        self.held.entry(who.clone()).or_default().insert(self.proofs, id);
        if is_one(&who) {
            *self.there.entry((address, who.clone())).or_default() += 1;
        }
        guest.standing = Standing::Held(Held { who, until, asked: false, proved: self.proofs });
    }

    fn leave(&mut self, id: ConnectionId) -> bool {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.standing = Standing::Leaving;
            guest.changed.notify_one();
        }
        true
    }

    /// It is the youngest again.
    fn prove_again(&mut self, id: ConnectionId) {
        let Some(Guest { standing: Standing::Held(held), .. }) = self.guests.get_mut(&id) else { return };
        self.proofs += 1;
        let before = std::mem::replace(&mut held.proved, self.proofs);
        if let Some(all) = self.held.get_mut(&held.who) {
            all.remove(&before);
            all.insert(self.proofs, id);
        }
    }

    /// His oldest connection, at this address if there is one, gives up its place and closes.
    fn make_room(&mut self, shares: &mut Shares, who: &Who, at: Option<&Who>) {
        let is_there = |id: &ConnectionId| {
            at.is_none_or(|at| self.guests.get(id).is_some_and(|guest| guest.address == *at))
        };
        let oldest = self.held.get(who).and_then(|all| all.values().find(|id| is_there(id)).copied());
        if let Some(oldest) = oldest {
            self.release(shares, oldest);
            self.leave(oldest);
        }
    }

    /// Who has most connections at an address.
    fn most_at(&self, address: &Who) -> Who {
        let there = self.there.range((address.clone(), Who::Strangers)..);
        let there = there.take_while(|((at, _), _)| at == address);
        let most = there.reduce(|most, next| if next.1 > most.1 { next } else { most });
        most.map_or(Who::Others, |((_, who), _)| who.clone())
    }

    /// Gives back what a connection holds of any share.
    fn release(&mut self, shares: &mut Shares, id: ConnectionId) {
        let Some(Guest { address, standing, .. }) = self.guests.get(&id) else { return };
        let Held { who, proved, .. } = match standing {
            Standing::Stranger { .. } => {
                shares.release(Place::SipConnectionsOfAddress, address, 1);
                shares.release(Place::SipConnectionsOfStrangers, &Who::Strangers, 1);
                return;
            }
            Standing::Leaving => return,
            Standing::Held(held) => held,
        };
        if let Some(place) = place_of(who) {
            shares.release(place, who, 1);
        }
        if let Some(all) = self.held.get_mut(who) {
            all.remove(proved);
            if all.is_empty() {
                self.held.remove(who);
            }
        }
        if is_one(who) {
            shares.release(Place::ProvedSipConnectionsOfAddress, address, 1);
            let key = (address.clone(), who.clone());
            if let Some(count) = self.there.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.there.remove(&key);
                }
            }
        }
    }

    /// It has ended.
    pub(super) fn forget(&mut self, shares: &mut Shares, id: ConnectionId) {
        self.release(shares, id);
        self.guests.remove(&id);
    }

    /// How it stands. Who has proved himself has so long once his time is over.
    pub(super) fn stands(
        &mut self,
        now: Instant,
        id: ConnectionId,
        patience: Duration,
    ) -> (Stands, Arc<Notify>) {
        let Some(guest) = self.guests.get_mut(&id) else { return (Stands::Leaves, Arc::default()) };
        let until_then = |at: Instant| if now < at { Stands::Stays(Some(at)) } else { Stands::Leaves };
        let stands = match &mut guest.standing {
            Standing::Stranger { until } => until_then(*until),
            Standing::Leaving => Stands::Leaves,
            Standing::Held(held) => match held.until {
                None if held.asked || !matches!(held.who, Who::Address(_)) => Stands::Stays(None),
                Some(until) if now < until => Stands::Stays(Some(until)),
                Some(until) if held.asked => until_then(until + patience),
                None | Some(_) => {
                    held.asked = true;
                    Stands::Asks(Some(held.who.clone()).filter(|who| !matches!(who, Who::Address(_))))
                }
            },
        };
        (stands, Arc::clone(&guest.changed))
    }
}

#[cfg(test)]
mod tests;
