//! Conversations of other ends than those that called each other. Ends are paired anew (transfer), each gets a port of a
//! bridge (conference), or one is left alone with a source (park, music). Legs move between calls; their ends stay what they
//! are, and the media exchange brings each to its new peer.

use crate::call::{BridgeId, Call, Conversation, Mix, Setup};
use crate::cause::Cause;
use crate::control::CallControl;
use crate::end::{End, Resource};
use crate::ending::Clearing;
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, EndId, LegId};
use crate::media::MediaTermination;
use crate::port::Event;
use smallvec::SmallVec;

#[cfg(test)]
mod tests;

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "transfer, conference and park come to it; tests do already")
)]
impl CallControl {
    /// Two legs talk to each other from now on, in the call of the first. All others of their calls end.
    pub(crate) fn pair_anew(&mut self, x: LegId, y: LegId) {
        let Some(pair) = self.pair(x, y) else { return };
        self.regroup(&[x, y], pair);
    }

    /// Legs hear each other by a bridge from now on, in the call of the first. All others of their calls end.
    pub(crate) fn mix(&mut self, legs: &[LegId], media: &MediaTermination) {
        let mut mix = Mix { bridge: BridgeId(self.new_id()), ports: SmallVec::new() };
        for leg in legs {
            let Some(end) = self.end_of(*leg) else { return };
            let id = EndId(self.new_id());
            self.ends.insert(id, End::BridgePort(Resource { id, media: media.clone() }));
            mix.ports.push((end, id));
        }
        self.regroup(legs, Conversation::Mixed(mix));
    }

    /// A leg is alone in its call from now on, and hears a source. All others of the call end.
    pub(crate) fn wait(&mut self, leg: LegId, media: MediaTermination) {
        let Some(end) = self.end_of(leg) else { return };
        let source = EndId(self.new_id());
        self.ends.insert(source, End::Source(Resource { id: source, media }));
        self.regroup(&[leg], Conversation::Waiting { end, source });
    }

    /// Makes one call of legs of several, that of the first.
    fn regroup(&mut self, legs: &[LegId], conversation: Conversation) {
        let calls: SmallVec<[CallId; 4]> =
            legs.iter().filter_map(|leg| self.legs.known(*leg)).map(|leg| leg.call).collect();
        let [into, ..] = calls[..] else { return };
        legs.iter().for_each(|leg| self.stop_streams(*leg));
        for (index, call) in calls.iter().enumerate() {
            if !calls[..index].contains(call) {
                self.empty_call(*call, legs);
            }
            if *call != into && !calls[index + 1..].contains(call) {
                self.calls.remove_known(*call);
            }
        }
        for leg in legs {
            if let Some(leg) = self.legs.known_mut(*leg) {
                leg.call = into;
            }
        }
        if let Some(call) = self.calls.known_mut(into) {
            (call.anchor, call.conversation) = (legs[0], conversation);
        }
        for leg in legs {
            self.new_media_session(*leg);
            self.tell_of(*leg, Event::LegChanged);
        }
        self.settle(into);
    }

    /// All legs of a call end but these, which have no conversation any more.
    fn empty_call(&mut self, id: CallId, stay: &[LegId]) {
        let Some(call) = self.calls.known_mut(id) else { return };
        let mut gone = call.legs(&self.attempts, &self.ends);
        gone.retain(|leg| !stay.contains(leg));
        let before = std::mem::replace(&mut call.conversation, Conversation::Setup(Setup::Routing));
        call.passive.clear();
        call.watched = None;
        self.free_conversation(&before);
        for leg in gone {
            self.finish_leg(leg, Cause::NORMAL_CLEARING, None, Clearing::ByUs);
        }
    }
}

impl CallControl {
    /// One of many goes. The last two talk to each other without a bridge.
    pub(crate) fn leave_mix(&mut self, id: CallId, leg: LegId, cause: Cause, clearing: Clearing) {
        let end = self.end_of(leg);
        let Some(call) = self.calls.known_mut(id) else { return };
        let Conversation::Mixed(mix) = &mut call.conversation else { return };
        let place = mix.ports.iter().position(|(own, _)| Some(*own) == end);
        let port = place.map(|place| mix.ports.remove(place).1);
        let left: SmallVec<[EndId; 2]> = mix.ports.iter().map(|(end, _)| *end).collect();
        self.stop_streams(leg);
        if let Some(port) = port {
            self.ends.remove_known(port);
        }
        self.finish_leg(leg, cause, None, clearing);
        match left[..] {
            [] | [_] => self.end_call(id, Failure::new(FailureOrigin::FarEnd, cause), None),
            [x, y] => self.unmix(id, x, y),
            [..] => self.stays_mixed(id, leg),
        }
    }

    /// The bridge is free again.
    fn unmix(&mut self, id: CallId, x: EndId, y: EndId) {
        let legs = [x, y].map(|end| self.ends.known(end).and_then(End::leg));
        let [Some(anchor), Some(other)] = legs else { return };
        let Some(call) = self.calls.known_mut(id) else { return };
        call.anchor = anchor;
        let mixed = std::mem::replace(&mut call.conversation, Conversation::Pair(x, y));
        self.free_conversation(&mixed);
        for leg in [anchor, other] {
            self.stop_streams(leg);
            self.new_media_session(leg);
            self.tell_of(leg, Event::LegChanged);
        }
        self.settle(id);
    }

    /// The call has another anchor, should that have gone.
    fn stays_mixed(&mut self, id: CallId, gone: LegId) {
        let Some(call) = self.calls.known(id).filter(|call| call.anchor == gone) else { return };
        let next = call.conversation.legs(&self.attempts, &self.ends).first().copied();
        if let (Some(next), Some(Call { anchor, .. })) = (next, self.calls.known_mut(id)) {
            *anchor = next;
        }
    }
}
