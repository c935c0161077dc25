//! What comes from the signalling: new calls, and what happens on legs.

use crate::call::{Call, Parties};
use crate::cause::Cause;
use crate::clearing::{Clearing, Role};
use crate::control::CallControl;
use crate::end::{Dialog, DialogState, End, Remote};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, Dn, EndId, LegId};
use crate::leg::{At, Hold, Leg};
use crate::media::Description;
use crate::media_exchange::{holds, suits};
use crate::plan::DeviceKind;
use crate::port::{Diverted, EndCommand, Event, Origin, Output, Signal};
use crate::timers::Timer;
use crate::transitions::Recorder;
use crate::view::{LegState, Party, Reason};
use smallvec::SmallVec;
use std::sync::Arc;

/// A call that comes in; see [`crate::port::Input::IncomingCall`].
pub(crate) struct NewCall {
    pub(crate) end: EndId,
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
        let NewCall { end, origin, dialled, calling, diverted, offer, hops } = new;
        if self.calls.find_end(end).is_some() {
            return self.contradictions.note("an end begins twice");
        }
        // The caller's leg and at least one other.
        if self.calls.leg_count() + 2 > self.plan.parameters.max_legs as usize {
            return self.refuse_call(end, Failure::NO_ROOM);
        }
        let at = match self.origin(origin, &calling) {
            Ok(at) => at,
            Err(why) => return self.refuse_call(end, why),
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
            return self.refuse_call(end, why);
        }
        let leg = LegId(end.0);
        // Who offers no media holds from the beginning: an application is asked for its address when there is to be some.
        let offer = offer.map(|offer| {
            let hold = Hold::when(holds(&offer));
            (offer, hold)
        });
        let dialog = Dialog::incoming(end, leg, offer);
        let mut parties =
            Parties { calling: calling.clone(), called: self.party(&dialled), ..Parties::default() };
        if let Some(Diverted { by, original }) = diverted {
            (parties.original_called, parties.last_redirecting) = (Some(original), Some(by));
        }
        let call = self.begin_call(leg, at, calling, parties, End::Dialog(dialog));
        if let Some(call) = self.calls.call_mut(call) {
            call.count_hops_from(hops);
        }
        self.tell_of(leg, Event::Leg);
        self.route(call, dialled, Reason::Normal, sender);
    }

    /// Refuses a call that has no leg yet.
    fn refuse_call(&mut self, end: EndId, why: Failure) {
        let reject = EndCommand::Reject { cause: why.cause, status: why.status };
        self.out.push(Output::End(end, reject));
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
        parties: Parties,
        end: End,
    ) -> CallId {
        let id = CallId(self.new_id());
        let call = Call::begin(id, leg, Arc::clone(&self.no_data));
        self.calls.add_call(call, &mut Recorder { why: self.why, out: &mut self.out });
        let (parties, begins) = (Arc::new(parties), (LegState::Dialing, Reason::Normal));
        let first = Leg::begin((leg, id), at, calling, parties, begins, end.id());
        self.add_leg(first, end);
        id
    }

    /// Signals of ends that are gone are late and harmless.
    pub(crate) fn signal(&mut self, end: EndId, signal: Signal) {
        use DialogState as D;
        let Some(dialog) = self.calls.find_end(end).and_then(End::dialog) else { return };
        let leg = dialog.leg();
        match (signal, dialog.state()) {
            (_, D::Terminated) => {}
            (Signal::Ringing { early }, D::Placed) => self.branch_rings(leg, early),
            (Signal::Answered { media }, D::Placed) => self.far_end_answered(leg, media),
            (Signal::Rejected { cause, status, redirect_to }, D::Placed) => match self.role(leg) {
                Some(Role::Branch) => {
                    let why = Failure { origin: FailureOrigin::FarEnd, cause, status };
                    self.branch_failed(leg, why, &redirect_to, Clearing::ByFarEnd)
                }
                Some(
                    Role::Anchor
                    | Role::Talking
                    | Role::Redirected
                    | Role::Passive
                    | Role::Listener
                    | Role::Participant
                    | Role::Waiting,
                )
                | None => self.released(leg, cause),
            },
            (
                Signal::Ringing { .. } | Signal::Answered { .. } | Signal::Rejected { .. },
                D::Incoming | D::Confirmed,
            ) => {}
            (Signal::Released { cause }, _) => self.released(leg, cause),
            (Signal::Offer(offer), _) => self.far_offers(end, offer),
            (Signal::Answer(answer), _) => self.far_answers(end, answer),
            (Signal::OfferRejected { .. }, _) => self.offer_rejected(end),
            (Signal::Identified(party), _) => self.identified(leg, party),
            (Signal::Digit { digit, duration_ms }, _) => self.digit(leg, digit, duration_ms),
            (Signal::Transfer(to), _) => self.person_transfers(end, leg, to),
        }
    }

    fn dialog_state(&self, leg: LegId) -> Option<DialogState> {
        self.calls.end(self.end_of(leg)?).and_then(End::dialog).map(Dialog::state)
    }

    /// Somebody else is at the end of a trunk: whom the others talk to or, before they do, who calls.
    fn identified(&mut self, id: LegId, party: Party) {
        let talks = self.peer_of(id).is_some();
        let Some(leg) = self.calls.leg_mut(id) else { return };
        if !matches!(leg.at, At::Trunk { .. }) || leg.party == party {
            return;
        }
        leg.party = party.clone();
        let (call, seen) = (leg.call, Arc::clone(&leg.parties));
        if !talks {
            if self.role(id) != Some(Role::Anchor) {
                // One of those that ring: it is told should it answer.
                return;
            }
            self.show_another_caller(call, &seen.calling, &party);
        }
        let Some(call) = self.calls.call(call) else { return };
        let others: SmallVec<[LegId; 4]> =
            self.calls.legs_of(call).into_iter().filter(|leg| *leg != id).collect();
        for other in others {
            if talks && self.dialog_state(other) == Some(DialogState::Confirmed) {
                self.command(other, EndCommand::Connected(party.clone()));
            }
            self.tell_of(other, Event::LegChanged);
        }
    }

    /// All legs of a call that saw this caller see another one.
    fn show_another_caller(&mut self, call: CallId, before: &Party, now: &Party) {
        let legs = self.calls.call(call).map(|call| self.calls.legs_of(call));
        for leg in legs.into_iter().flatten() {
            let Some(leg) = self.calls.leg_mut(leg).filter(|leg| leg.parties.calling == *before) else {
                continue;
            };
            leg.parties = Arc::new(Parties { calling: now.clone(), ..Parties::clone(&leg.parties) });
        }
        let shown = self.calls.call_mut(call).and_then(|call| call.shown.as_mut());
        if let Some(shown) = shown.filter(|shown| shown.calling == *before) {
            *shown = Arc::new(Parties { calling: now.clone(), ..Parties::clone(shown) });
        }
    }

    /// A digit goes on to the other end: by its signalling, or as an event to its application.
    fn digit(&mut self, leg: LegId, digit: char, duration_ms: u32) {
        if !matches!(digit, '0'..='9' | 'A'..='D' | '*' | '#') {
            return;
        }
        self.tell_of(leg, |leg| Event::Digit(leg, digit));
        let Some(peer) = self.peer_of(leg) else { return };
        match self.end_at(peer) {
            Some(End::Dialog(dialog) | End::Remote(Remote { dialog, .. })) => match dialog.state() {
                DialogState::Confirmed => self.command(peer, EndCommand::Digit { digit, duration_ms }),
                DialogState::Incoming | DialogState::Placed | DialogState::Terminated => {}
            },
            Some(End::Application(_)) => self.tell_of(peer, |leg| Event::Digit(leg, digit)),
            Some(End::BridgePort(_) | End::Source(_)) | None => {}
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
        let Some(call) = self.calls.leg(id).map(|leg| leg.call) else { return };
        let Some(dialog) = self.known_end(id).and_then(|end| self.known_dialog(end)) else { return };
        dialog.answer_call(media);
        let caller = self.anchor(call).and_then(|anchor| self.end_at(anchor));
        let why = match (self.end_at(id), caller) {
            (Some(end), _) if end.far().is_none() => Some(Cause::PROTOCOL_ERROR),
            // It answered somebody else's offer.
            (Some(end), Some(caller)) if !answers(end, caller) || suits(end, caller) => None,
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
        let Some(anchor) = self.anchor(id) else { return };
        let Some(pair) = self.pair(anchor, winner) else { return };
        let Some(call) = self.calls.call_mut(id) else { return };
        let tried = std::mem::replace(&mut call.conversation, pair);
        call.found(self.now);
        let mut losers = self.close_conversation(anchor, &tried);
        losers.retain(|branch| *branch != winner);
        self.commit_redirect(id);
        let ends = [anchor, winner].map(|leg| self.known_end(leg));
        self.new_rounds(ends.into_iter().flatten());
        let Some(news) = self.tell_caller(anchor, winner) else { return };
        self.tell_called(anchor, winner);
        self.settle_signalling(id);
        self.enter(winner, LegState::Connected);
        match self.calls.leg(anchor).map(|leg| leg.state()) {
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
    fn tell_caller(&mut self, anchor: LegId, winner: LegId) -> Option<bool> {
        let (caller, winner) = (self.calls.leg(anchor)?, self.calls.leg(winner)?);
        let parties = &caller.parties;
        let other = matches!(winner.at, At::Trunk { .. }) && winner.party != parties.called;
        let is_trunk = matches!(caller.at, At::Trunk { .. });
        // Who talked before talks to somebody else now.
        let talked = self.dialog_state(anchor) == Some(DialogState::Confirmed);
        let moved = is_trunk || other || talked || parties.last_redirecting.is_some();
        if moved && !caller.is_application() {
            let party = winner.party.clone();
            self.command(anchor, EndCommand::Connected(party));
        }
        Some(other)
    }

    /// Says to who has answered whom he talks to, where that is not who called him.
    fn tell_called(&mut self, anchor: LegId, winner: LegId) {
        let (Some(caller), Some(leg)) = (self.calls.leg(anchor), self.calls.leg(winner)) else { return };
        if leg.reason == Reason::Transfer && !leg.is_application() {
            let party = caller.party.clone();
            self.command(winner, EndCommand::Connected(party));
        }
    }

    /// Another appearance has the call: this one's signalling ends, and its watchers see it as in use remotely.
    fn watch(&mut self, call: CallId, winner: LegId, loser: LegId) {
        let Some(leg) = self.calls.leg_mut(loser) else { return };
        let end = leg.end.take();
        let line = leg.at.line().map(|(device, dn)| (device.clone(), dn.clone()));
        if let Some((device, dn)) = line
            && let Some(line) = self.device_at_mut(&device, loser).and_then(|device| device.line_mut(&dn))
        {
            match line.calls.checked_sub(1) {
                Some(calls) => line.calls = calls,
                None => self.contradictions.note("a line without a call loses one"),
            }
        }
        if let Some(call) = self.calls.call_mut(call) {
            call.watch(winner, loser);
        }
        if let Some(end) = end {
            self.timers.cancel(Timer::MediaExchange(end));
            self.release_end(end, Cause::NON_SELECTED_USER_CLEARING);
        }
        self.enter(loser, LegState::Connected);
    }

    /// Ends a dialog that no leg has any more.
    pub(crate) fn release_end(&mut self, id: EndId, cause: Cause) {
        let end = self.calls.remove_end(id);
        let Some(dialog) = end.as_ref().and_then(End::dialog) else { return };
        match dialog.state() {
            DialogState::Placed | DialogState::Confirmed => {
                self.out.push(Output::End(id, EndCommand::Release { cause }));
            }
            DialogState::Incoming | DialogState::Terminated => {}
        }
    }
}

/// Whether what an end said last answers an offer of this peer, or is an offer.
fn answers(end: &End, peer: &End) -> bool {
    let told = end.dialog().and_then(Dialog::told);
    told.is_none_or(|told| told.peer == peer.id())
}
