//! What comes from the signalling: new calls, and what happens on legs.

use crate::call::{Call, Far, Parties};
use crate::cause::Cause;
use crate::control::CallControl;
use crate::ending::{Clearing, Role};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, Dn, LegId};
use crate::leg::{At, Exchange, Hold, Leg, LegMedia, Wire};
use crate::media::Description;
use crate::media_exchange::{holds, suits};
use crate::plan::DeviceKind;
use crate::port::{Diverted, Event, LegCommand, Origin, Signal};
use crate::view::{LegState, Party, Reason};
use smallvec::SmallVec;

/// A call that comes in; see [`crate::port::Input::IncomingCall`].
pub(crate) struct NewCall {
    pub(crate) leg: LegId,
    pub(crate) origin: Origin,
    pub(crate) dialled: Dn,
    pub(crate) calling: Party,
    pub(crate) diverted: Option<Diverted>,
    pub(crate) offer: Option<Description>,
    pub(crate) hops: u32,
}

impl CallControl {
    /// Somebody dials. A call that can't begin is refused without having existed.
    pub(crate) fn incoming_call(&mut self, new: NewCall) {
        let NewCall { leg, origin, dialled, calling, diverted, offer, hops } = new;
        if self.legs.contains(leg) {
            return;
        }
        // The caller's leg and at least one other.
        if self.legs.len() + 2 > self.plan.parameters.max_legs as usize {
            return self.command(leg, reject(Failure::NO_ROOM));
        }
        let at = match self.origin(origin, &calling) {
            Ok(at) => at,
            Err(why) => {
                return self.command(leg, reject(why));
            }
        };
        let calling = match &at {
            At::Phone { dn, .. } => Party { restricted: calling.restricted, ..self.party(dn) },
            At::Application { .. } | At::Trunk { .. } => calling,
        };
        let sender = at.sender();
        let admitted = match &at {
            At::Phone { device, dn } | At::Application { device, dn } => self.begin_at_line(device, dn),
            At::Trunk { trunk, .. } => self.begin_at_trunk(trunk),
        };
        if let Err(over) = admitted {
            let why = over.failure();
            self.say_refused(over.rule, sender, dialled);
            return self.command(leg, reject(why));
        }
        let mut media = LegMedia::new(None);
        if let Some(offer) = offer {
            // Who offers no media holds from the beginning: an application is asked for its address when there is to be some.
            media.exchange = Exchange::Owed { before: None, hold: Hold::when(holds(&offer)) };
            media.version = 1;
            media.far = Some(offer);
        }
        let call = self.begin_call(leg, at, calling, &dialled, Wire::Incoming, media);
        if let Some(call) = self.calls.known_mut(call) {
            call.hops = hops;
            if let Some(Diverted { by, original }) = diverted {
                call.parties.original_called = Some(original);
                call.parties.last_redirecting = Some(by);
            }
        }
        self.tell_of(leg, Event::Leg);
        self.route(call, dialled, Reason::Normal, sender);
    }

    fn origin(&self, origin: Origin, calling: &Party) -> Result<At, Failure> {
        let rejected = || Err(Failure::new(FailureOrigin::Routing, Cause::CALL_REJECTED).with_status(403));
        match origin {
            Origin::Trunk(trunk) => Ok(At::Trunk { trunk, number: Dn::from(&*calling.number) }),
            Origin::Phone { device, dn } => {
                let Some(known) =
                    self.devices.get(&device).filter(|device| device.plan.kind == DeviceKind::Phone)
                else {
                    return rejected();
                };
                let line = match &dn {
                    Some(dn) => known.line(dn),
                    None => known.lines.first(),
                };
                match line {
                    None => rejected(),
                    Some(line) => Ok(At::Phone { dn: line.dn.clone(), device }),
                }
            }
        }
    }

    /// A call with its first leg, in the tables, not told yet.
    pub(crate) fn begin_call(
        &mut self,
        leg: LegId,
        at: At,
        calling: Party,
        dialled: &Dn,
        wire: Wire,
        media: LegMedia,
    ) -> CallId {
        let id = CallId(self.new_id());
        let parties = Parties { calling: calling.clone(), called: self.party(dialled), ..Parties::default() };
        let call = Call {
            id,
            anchor: leg,
            far: Far::Nobody,
            left: None,
            passive: SmallVec::new(),
            watched: None,
            parties,
            user_data: self.no_data.clone(),
            visited: SmallVec::new(),
            hops: 0,
            alternatives: Vec::new(),
            talking_since: None,
            alerted: false,
        };
        self.calls.insert(id, call);
        let (state, reason) = (LegState::Dialing, Reason::Normal);
        self.add_leg(Leg {
            id: leg,
            call: id,
            at,
            party: calling,
            state,
            cause: None,
            reason,
            wire,
            media,
            remote_in_use: false,
            muted: None,
        });
        id
    }

    /// Signals of legs that are gone are late and harmless.
    pub(crate) fn signal(&mut self, leg: LegId, signal: Signal) {
        let Some(wire) = self.legs.get(leg).map(|leg| leg.wire) else { return };
        match (signal, wire) {
            (_, Wire::Absent | Wire::Over) => {}
            (Signal::Ringing { early }, Wire::Placed) => self.branch_rings(leg, early),
            (Signal::Answered { media }, Wire::Placed) => self.far_end_answered(leg, media),
            (Signal::Rejected { cause, status, redirect_to }, Wire::Placed) => match self.role(leg) {
                Some(Role::Branch) => {
                    let why = Failure { origin: FailureOrigin::FarEnd, cause, status };
                    self.branch_failed(leg, why, &redirect_to, Clearing::ByFarEnd)
                }
                Some(Role::Anchor | Role::Talking | Role::Redirected | Role::Passive) | None => {
                    self.released(leg, cause)
                }
            },
            (
                Signal::Ringing { .. } | Signal::Answered { .. } | Signal::Rejected { .. },
                Wire::Incoming | Wire::Up,
            ) => {}
            (Signal::Released { cause }, _) => self.released(leg, cause),
            (Signal::Offer(offer), _) => self.far_offers(leg, offer),
            (Signal::Answer(answer), _) => self.far_answers(leg, answer),
            (Signal::OfferRejected { .. }, _) => self.offer_rejected(leg),
            (Signal::Identified(party), _) => self.identified(leg, party),
            (Signal::Digit { digit, duration_ms }, _) => self.digit(leg, digit, duration_ms),
        }
    }

    /// Somebody else is at the end of a trunk: whom the others talk to or, before they do, who calls.
    fn identified(&mut self, id: LegId, party: Party) {
        let Some(leg) = self.legs.known_mut(id) else { return };
        if !matches!(leg.at, At::Trunk { .. }) || leg.party == party {
            return;
        }
        leg.party = party.clone();
        let Some(call) = self.calls.known_mut(leg.call) else { return };
        let talks = call.pair().is_some_and(|(x, y)| x == id || y == id);
        if !talks && call.anchor != id {
            // One of those that ring: it is told should it answer.
            return;
        }
        if !talks {
            call.parties.calling = party.clone();
        }
        let others: SmallVec<[LegId; 4]> =
            call.legs(&self.attempts).into_iter().filter(|leg| *leg != id).collect();
        for other in others {
            if talks && self.legs.known(other).is_some_and(|leg| leg.wire == Wire::Up) {
                self.command(other, LegCommand::Connected(party.clone()));
            }
            self.tell_of(other, Event::LegChanged);
        }
    }

    /// A digit goes on to the other end: by its signalling, or as an event to its application.
    fn digit(&mut self, leg: LegId, digit: char, duration_ms: u32) {
        if !matches!(digit, '0'..='9' | 'A'..='D' | '*' | '#') {
            return;
        }
        self.tell_of(leg, |leg| Event::Digit(leg, digit));
        let Some(peer) = self.peer_of(leg) else { return };
        match self.legs.known(peer).map(|peer| peer.wire) {
            Some(Wire::Up) => self.command(peer, LegCommand::Digit { digit, duration_ms }),
            Some(Wire::Absent) => self.tell_of(peer, |leg| Event::Digit(leg, digit)),
            Some(Wire::Incoming | Wire::Placed | Wire::Over) | None => {}
        }
    }

    /// A phone or trunk that we called has answered.
    fn far_end_answered(&mut self, id: LegId, media: Option<Description>) {
        if self.role(id) == Some(Role::Redirected) {
            // It was picked up while it was being redirected: who answers has the call.
            self.abort_redirect(id);
        }
        if self.role(id) != Some(Role::Branch) {
            return;
        }
        let Some(leg) = self.legs.known_mut(id) else { return };
        let call = leg.call;
        leg.wire = Wire::Up;
        leg.media.version += 1;
        if media.is_some() {
            leg.media.far = media;
        }
        match leg.media.told {
            Some(told) => leg.media.agreed_with = Some(told.peer),
            None => leg.media.exchange = Exchange::Owed { before: None, hold: Hold::Off },
        }
        let caller = self.calls.known(call).and_then(|call| self.legs.known(call.anchor));
        let why = match (self.legs.known(id), caller) {
            (Some(leg), _) if leg.media.far.is_none() => Some(Cause::PROTOCOL_ERROR),
            (Some(leg), Some(caller)) if suits(leg, caller) => None,
            (Some(_) | None, Some(_) | None) => Some(Cause::BEARER_NOT_IMPLEMENTED),
        };
        match why {
            Some(cause) => {
                let why = Failure::new(FailureOrigin::Media, cause);
                self.branch_failed(id, why, &[], Clearing::ByUs);
            }
            None => self.establish(call, id),
        }
    }

    /// One of the destinations has the call.
    pub(crate) fn establish(&mut self, id: CallId, winner: LegId) {
        let Some(call) = self.calls.known_mut(id) else { return };
        let anchor = call.anchor;
        let tried = std::mem::replace(&mut call.far, Far::Talking(winner));
        call.alternatives.clear();
        call.talking_since = self.now;
        let mut losers = self.close_far(&tried);
        losers.retain(|branch| *branch != winner);
        self.commit_redirect(id);
        self.new_media_round(anchor, winner);
        let Some(news) = self.tell_caller(id, anchor, winner) else { return };
        self.settle_wire(id);
        self.enter(winner, LegState::Connected);
        match self.legs.known(anchor).map(|leg| leg.state) {
            Some(LegState::Connected | LegState::Held) => self.tell_of(anchor, Event::LegChanged),
            Some(_) => {
                self.enter(anchor, LegState::Connected);
                if news {
                    self.tell_of(anchor, Event::LegChanged);
                }
            }
            None => {}
        }
        for loser in losers {
            self.watch(id, winner, loser);
        }
        self.settle(id);
    }

    /// Says to the caller who has answered, where its signalling does not know: a trunk is always told, a phone when the
    /// call was sent on or when a trunk asserts another party than was called. Whether that is so: an application hears it.
    fn tell_caller(&mut self, call: CallId, anchor: LegId, winner: LegId) -> Option<bool> {
        let (caller, winner) = (self.legs.known(anchor)?, self.legs.known(winner)?);
        let parties = &self.calls.known(call)?.parties;
        let other = matches!(winner.at, At::Trunk { .. }) && winner.party != parties.called;
        let is_trunk = matches!(caller.at, At::Trunk { .. });
        let moved = is_trunk || other || parties.last_redirecting.is_some();
        if moved && !caller.is_application() {
            let party = winner.party.clone();
            self.command(anchor, LegCommand::Connected(party));
        }
        Some(other)
    }

    fn new_media_round(&mut self, anchor: LegId, winner: LegId) {
        for leg in [anchor, winner] {
            if let Some(leg) = self.legs.known_mut(leg) {
                leg.media.rounds = 0;
            }
        }
    }

    /// Another appearance has the call: this one's signalling ends, and its watchers see it as in use remotely.
    fn watch(&mut self, call: CallId, winner: LegId, loser: LegId) {
        let Some(leg) = self.legs.known_mut(loser) else { return };
        let wire = std::mem::replace(&mut leg.wire, Wire::Over);
        leg.remote_in_use = true;
        let line = leg.at.line().map(|(device, dn)| (device.clone(), dn.clone()));
        if let Some((device, dn)) = line
            && let Some(line) = self.device_at_mut(&device, loser).and_then(|device| device.line_mut(&dn))
        {
            line.calls = line.calls.saturating_sub(1);
        }
        if let Some(call) = self.calls.known_mut(call) {
            call.passive.push(loser);
            call.watched = Some(winner);
        }
        if matches!(wire, Wire::Placed | Wire::Up) {
            self.command(loser, LegCommand::Release { cause: Cause::NON_SELECTED_USER_CLEARING });
        }
        self.close_channel(loser);
        self.enter(loser, LegState::Connected);
    }
}

fn reject(why: Failure) -> LegCommand {
    LegCommand::Reject { cause: why.cause, status: why.status }
}
