//! Conversations beyond two ends that called each other. Two ends of different calls are paired (transfer), two ends get a
//! relay between them to which others listen (recorder, supervisor), each of several gets a port of a bridge (conference), or
//! one alone hears a source (park, music on hold). The legs move into one call, their ends stay the same, and
//! `media_exchange` negotiates each end's media with its new peer. A leg may also get another end: another dialog of its phone
//! (SIP Replaces), or one at another node.

use crate::call::{AttemptId, BridgeId, Call, Conversation, Left, Mix, Parties, Relay, Wait, Watches};
use crate::cause::Cause;
use crate::clearing::{Clearing, Role};
use crate::control::{CallControl, refusal};
use crate::end::{Dialog, DialogState, End, Port, RemotePlace, Resource};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, EndId, LegId};
use crate::leg::Hold;
use crate::media::{Description, MediaTermination};
use crate::media_exchange::holds;
use crate::port::{EndCommand, Event, RefusalKind};
use crate::timers::Timer;
use crate::transitions::{CallChange, Recorder};
use crate::view::{Party, Reason};
use smallvec::SmallVec;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What a far end is that takes another's place.
#[cfg_attr(not(test), expect(dead_code, reason = "as below"))]
#[derive(Clone, Debug)]
pub(crate) enum NewEnd {
    /// A dialog of the signalling that begins with an offer, and waits for its answer.
    Dialog(Description),
    /// An end of another node, which says this of its media.
    Remote(RemotePlace, Description),
}

/// How calls become one.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    /// The one that stays.
    pub(crate) into: CallId,
    pub(crate) why: Reason,
    /// Who brings them together.
    pub(crate) by: Option<Party>,
}

impl CallControl {
    /// Two legs talk to each other from now on. All others of their calls end. The second sees the first as its caller, and who
    /// brought them together. Their media is for the caller to settle.
    pub(crate) fn pair_anew(&mut self, x: LegId, y: LegId, how: &Joining) {
        let Some(pair) = self.pair(x, y) else { return };
        let call = self.calls.leg(y).and_then(|leg| self.calls.call(leg.call));
        let watching = call.map(|call| call.watching(y)).unwrap_or_default();
        let shown: SmallVec<[LegId; 4]> = [y].into_iter().chain(watching).collect();
        self.show_joined(x, &shown, how);
        self.regroup(how.into, &[x, y], pair, |_, _| Some(how.why));
        let now = self.now;
        if let Some(call) = self.calls.call_mut(how.into) {
            call.found(now);
        }
        for (leg, other) in [(x, y), (y, x)] {
            self.connect(leg, other);
        }
    }

    /// One leg waits from now on for the destination that another call tries. All others of the two calls end.
    pub(crate) fn pair_ringing(&mut self, x: LegId, attempt: AttemptId, how: &Joining) {
        let Some(tried) = self.calls.attempt_mut(attempt) else { return };
        // It plays to who called it, and knows nobody else yet.
        (tried.early, tried.answering) = (None, None);
        let from = std::mem::replace(&mut tried.call, how.into);
        let branches = tried.branches.clone();
        self.show_joined(x, &branches, how);
        let shown = branches.first().and_then(|branch| self.parties(*branch)).map(Arc::clone);
        let Some(anchor) = self.anchor(from) else { return };
        let Some(call) = self.calls.call_mut(from) else { return };
        call.conversation = Conversation::routing(anchor);
        self.calls.give_search(from, how.into);
        let legs: SmallVec<[LegId; 4]> = [x].into_iter().chain(branches).collect();
        self.regroup(how.into, &legs, Conversation::trying(x, attempt), |_, _| Some(how.why));
        if let Some(call) = self.calls.call_mut(how.into) {
            call.shown = shown;
        }
        self.part(x);
    }

    /// Legs see another leg as their caller, and who brought it to them.
    fn show_joined(&mut self, caller: LegId, legs: &[LegId], how: &Joining) {
        let Some(calling) = self.calls.leg(caller).map(|leg| leg.party.clone()) else { return };
        for leg in legs {
            let Some(leg) = self.calls.leg_mut(*leg) else { continue };
            let mut seen = Parties::clone(&leg.parties);
            seen.calling = calling.clone();
            seen.last_redirecting = how.by.clone().or(seen.last_redirecting);
            leg.parties = Arc::new(seen);
        }
    }

    /// Shows a far end whom it talks to now.
    fn connect(&mut self, leg: LegId, to: LegId) {
        let Some(party) = self.calls.leg(to).map(|leg| leg.party.clone()) else { return };
        if self
            .end_at(leg)
            .and_then(End::dialog)
            .is_some_and(|dialog| dialog.state() == DialogState::Confirmed)
        {
            self.command(leg, EndCommand::Connected(party));
        }
    }

    /// Makes one call of legs of several. `why` says by which feature a leg came into it, from its call's id and that of the one
    /// that stays; `None`: as before. Who watches one of the legs at another appearance of its line does so still. Media is for
    /// the caller to settle.
    fn regroup(
        &mut self,
        into: CallId,
        legs: &[LegId],
        conversation: Conversation,
        why: impl Fn(CallId, CallId) -> Option<Reason>,
    ) {
        let of_legs = legs.iter().filter_map(|leg| self.calls.leg(*leg)).map(|leg| leg.call);
        let mut calls: SmallVec<[CallId; 4]> = of_legs.collect();
        calls.push(into);
        let watches = self.watches_of(&calls, legs);
        let stay: SmallVec<[LegId; 4]> =
            legs.iter().copied().chain(watches.iter().map(|(passive, _)| *passive)).collect();
        legs.iter().for_each(|leg| self.stop_streams(*leg));
        for (index, call) in calls.iter().enumerate() {
            if calls[..index].contains(call) {
                continue;
            }
            self.empty_call(*call, &stay);
            if *call != into {
                self.calls.join_user_data(*call, into);
                let recorder = &mut Recorder { why: self.why, out: &mut self.out };
                self.calls.remove_call(*call, CallChange::Joined(into), recorder);
            }
        }
        for leg in &stay {
            if let Some(leg) = self.calls.leg_mut(*leg) {
                leg.reason = why(leg.call, into).unwrap_or(leg.reason);
                leg.join(into, &mut Recorder { why: self.why, out: &mut self.out });
            }
        }
        if let Some(call) = self.calls.call_mut(into) {
            call.conversation = conversation;
            call.add_watches(watches);
        }
        for leg in &stay {
            if legs.contains(leg) {
                self.new_media_session(*leg);
            }
            self.tell_of(*leg, Event::LegChanged);
        }
    }

    /// Who watches one of these legs in one of these calls.
    fn watches_of(&mut self, calls: &[CallId], legs: &[LegId]) -> Watches {
        let mut found = Watches::new();
        for (index, call) in calls.iter().enumerate() {
            if calls[..index].contains(call) {
                continue;
            }
            let Some(call) = self.calls.call_mut(*call) else { continue };
            let (stay, go): (Watches, Watches) =
                call.take_watches().into_iter().partition(|(_, watched)| legs.contains(watched));
            call.add_watches(go);
            found.extend(stay);
        }
        found
    }

    /// All legs of a call end but these, which have no conversation any more.
    fn empty_call(&mut self, id: CallId, stay: &[LegId]) {
        let Some(mut gone) = self.calls.call(id).map(|call| self.calls.legs_of(call)) else { return };
        let Some(any) = gone.first().copied() else { return };
        gone.retain(|leg| !stay.contains(leg));
        let Some(call) = self.calls.call_mut(id) else { return };
        let before = std::mem::replace(&mut call.conversation, Conversation::routing(any));
        call.take_watches();
        let left = call.left.take();
        self.free_conversation(&before);
        if let Some(Left { operation, conversation }) = left {
            let refused = refusal(RefusalKind::NoSuchLeg, "the call ended while it was redirected");
            self.answer_operation(operation, refused);
            self.free_conversation(&conversation);
        }
        for leg in gone {
            self.finish_leg(leg, Cause::NORMAL_CLEARING, None, Clearing::ByUs);
        }
    }
}

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "conference, park and recording come to it; tests do already")
)]
impl CallControl {
    /// The media of two legs that talk passes the node from now on, and a leg of another call hears it. All others of their
    /// calls end.
    pub(crate) fn relay(&mut self, pair: [LegId; 2], listener: LegId, media: &MediaTermination) {
        let ends = [self.known_end(pair[0]), self.known_end(pair[1]), self.known_end(listener)];
        let [Some(x), Some(y), Some(hears)] = ends else { return };
        let bridge = BridgeId(self.new_id());
        let pair_of_ports = [(x, self.new_port(media, Some(y))), (y, self.new_port(media, Some(x)))];
        let source = (hears, self.new_source(media));
        let relay = Relay { bridge, pair: pair_of_ports, listeners: SmallVec::from_buf([source]) };
        let Some(into) = self.calls.leg(pair[0]).map(|leg| leg.call) else { return };
        self.regroup(into, &[pair[0], pair[1], listener], Conversation::Relayed(relay), |_, _| None);
        self.settle(into);
    }

    /// Legs hear each other by a bridge from now on, in the call of the first. All others of their calls end.
    pub(crate) fn mix(&mut self, legs: &[LegId], media: &MediaTermination) {
        let ends: SmallVec<[EndId; 4]> = legs.iter().filter_map(|leg| self.known_end(*leg)).collect();
        if ends.len() != legs.len() {
            return;
        }
        let bridge = BridgeId(self.new_id());
        let ports = ends.into_iter().map(|end| (end, self.new_port(media, None))).collect();
        let first = legs.first().and_then(|leg| self.calls.leg(*leg));
        let Some(into) = first.map(|leg| leg.call) else { return };
        self.regroup(into, legs, Conversation::Mixed(Mix { bridge, ports }), |from, into| {
            (from != into).then_some(Reason::Conference)
        });
        self.settle(into);
    }

    /// A leg is alone in its call from now on, and hears a source. All others of the call end.
    pub(crate) fn wait(&mut self, leg: LegId, media: &MediaTermination, why: Reason, shown: Option<Party>) {
        let Some(end) = self.known_end(leg) else { return };
        let source = self.new_source(media);
        let Some(into) = self.calls.leg(leg).map(|leg| leg.call) else { return };
        self.regroup(into, &[leg], Conversation::Waiting(Wait { end, source, shown }), |_, _| Some(why));
        self.settle(into);
    }

    fn new_port(&mut self, media: &MediaTermination, across: Option<EndId>) -> EndId {
        let id = EndId(self.new_id());
        let own = Resource { id, media: media.clone() };
        self.calls.add_resource(End::BridgePort(Port { own, across }));
        id
    }

    fn new_source(&mut self, media: &MediaTermination) -> EndId {
        let id = EndId(self.new_id());
        self.calls.add_resource(End::Source(Resource { id, media: media.clone() }));
        id
    }

    /// A leg that talks gets another end, its former one is released: its phone's dialog at another appearance (SIP
    /// Replaces), or an end at another node.
    pub(crate) fn give_end(&mut self, leg: LegId, now: EndId, end: NewEnd) {
        let talks = match self.role(leg) {
            Some(Role::Anchor | Role::Talking | Role::Listener | Role::Participant | Role::Waiting) => true,
            Some(Role::Branch | Role::Redirected | Role::Passive) | None => false,
        };
        let Some(id) = self.calls.leg(leg).map(|leg| leg.call) else { return };
        let quiet = |call: &Call| call.left.is_none() && !call.conversation.is_setup();
        if !talks || !self.calls.call(id).is_some_and(quiet) {
            return;
        }
        self.stop_streams(leg);
        let end = match end {
            NewEnd::Dialog(offer) => {
                let hold = Hold::when(holds(&offer));
                End::Dialog(Dialog::incoming(now, leg, Some((offer, hold))))
            }
            NewEnd::Remote(place, far) => End::Remote(place.with(Dialog::confirmed(now, leg, far))),
        };
        let recorder = &mut Recorder { why: self.why, out: &mut self.out };
        let Some(before) = self.calls.exchange_end(leg, end, recorder) else { return };
        if let Some(call) = self.calls.call_mut(id) {
            call.conversation.replace_end(before, now);
        }
        self.face_ports(id);
        self.timers.cancel(Timer::MediaExchange(before));
        self.release_end(before, Cause::NORMAL_CLEARING);
        let peer = self.peer_end(now);
        self.new_rounds(peer);
        self.settle(id);
    }

    /// The ports of a relay know whose media comes from the other side.
    fn face_ports(&mut self, id: CallId) {
        let Some(Conversation::Relayed(relay)) = self.calls.call(id).map(|call| &call.conversation) else {
            return;
        };
        let [(x, at_x), (y, at_y)] = relay.pair;
        for (port, end) in [(at_x, y), (at_y, x)] {
            if let Some(End::BridgePort(port)) = self.calls.end_mut(port) {
                port.across = Some(end);
            }
        }
    }
}

impl CallControl {
    /// One of many goes. The last two talk to each other without a bridge.
    pub(crate) fn leave_mix(&mut self, id: CallId, leg: LegId, cause: Cause, clearing: Clearing) {
        let end = self.known_end(leg);
        let Some(call) = self.calls.call_mut(id) else { return };
        let Conversation::Mixed(mix) = &mut call.conversation else {
            return self.contradictions.note("a leg leaves a mix that is none");
        };
        let place = mix.ports.iter().position(|(own, _)| Some(*own) == end);
        let place = self.contradictions.known(place, "a leg has no port in its mix");
        let port = place.map(|place| mix.ports.remove(place).1);
        let left: SmallVec<[EndId; 2]> = mix.ports.iter().map(|(end, _)| *end).collect();
        self.leave_resource(leg, port, cause, clearing);
        match left[..] {
            [] | [_] => self.end_call(id, Failure::new(FailureOrigin::FarEnd, cause), None),
            [x, y] => self.pair_without_resource(id, x, y),
            [..] => {}
        }
    }

    /// Who listened goes. With the last of them the two that talk need no relay any more.
    pub(crate) fn leave_relay(&mut self, id: CallId, leg: LegId, cause: Cause, clearing: Clearing) {
        let end = self.known_end(leg);
        let Some(call) = self.calls.call_mut(id) else { return };
        let Conversation::Relayed(relay) = call.talk_mut() else {
            return self.contradictions.note("a leg leaves a relay that is none");
        };
        let place = relay.listeners.iter().position(|(own, _)| Some(*own) == end);
        let place = self.contradictions.known(place, "a listener has no source in its relay");
        let source = place.map(|place| relay.listeners.remove(place).1);
        let ([(x, _), (y, _)], last) = (relay.pair, relay.listeners.is_empty());
        self.leave_resource(leg, source, cause, clearing);
        if last {
            self.pair_without_resource(id, x, y);
        }
    }

    fn leave_resource(&mut self, leg: LegId, resource: Option<EndId>, cause: Cause, clearing: Clearing) {
        self.stop_streams(leg);
        if let Some(resource) = resource {
            self.calls.remove_end(resource);
        }
        self.finish_leg(leg, cause, None, clearing);
    }

    /// Bridge or relay are free again.
    fn pair_without_resource(&mut self, id: CallId, x: EndId, y: EndId) {
        let Some(call) = self.calls.call_mut(id) else { return };
        let before = std::mem::replace(call.talk_mut(), Conversation::Pair(x, y));
        self.free_conversation(&before);
        for end in [x, y] {
            let Some(leg) = self.calls.end(end).and_then(End::leg) else { continue };
            self.stop_streams(leg);
            self.new_media_session(leg);
            self.tell_of(leg, Event::LegChanged);
        }
        self.settle(id);
    }
}
