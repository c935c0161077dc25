//! The offers and answers (RFC 3264) between the two ends of a call whose media meets.
//!
//! An end is either a dialog of the signalling (a phone or trunk, whose descriptions are relayed or answered) or an
//! application (whose descriptions are made here). There are two rules. An end that made an offer gets the answer as soon as
//! its peer has the offer and an answer is there. An end gets a new offer when what was last sent to it of its peer
//! ([`Told`]) is no longer true. [`CallControl::settle`] applies both until nothing changes; each event notes what it brought
//! and calls it.

use crate::cause::Cause;
use crate::clearing::Clearing;
use crate::codec_choice::{
    Abilities, DTMF_PAYLOAD_TYPE, PACKET_MS, abilities, agreed, own_codecs, own_format, pair_of_lines,
};
use crate::control::CallControl;
use crate::end::{Application, Channel, Dialog, DialogState, End, Exchange, Port, Remote, Told};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, EndId, LegId, SessionId};
use crate::leg::Hold;
use crate::media::{AudioLine, Crypto, Description, Direction, Format, MediaTermination, Profile};
use crate::port::{Body, EndCommand, Event, OfferRefusal, Output};
use crate::streams::Terms;
use crate::timers::Timer;
use crate::view::LegState;
use smallvec::{SmallVec, smallvec};
use std::net::{Ipv4Addr, SocketAddr};

/// Offers that the model makes on its own account to one end before somebody wants something new. Two ends whose
/// every answer differs from the one before would otherwise go on for ever; at the limit the last answers stand.
const MAX_ROUNDS: u8 = 3;
/// For what a description is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFor {
    Offer,
    Answer,
}

/// Written where media stands still and no address was ever given: an address that discards (RFC 863), for port 0
/// would refuse the stream.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);

/// The two ends can't talk to each other.
const NOTHING_IN_COMMON: Failure = Failure::new(FailureOrigin::Media, Cause::BEARER_NOT_IMPLEMENTED);

pub(crate) fn is_dynamic(end: &End) -> bool {
    matches!(end.termination(), Some(MediaTermination::Dynamic { .. }))
}

/// Where an application receives, if that is known for this media session.
pub(crate) fn local_address(end: &End) -> Option<SocketAddr> {
    let channel = end.application().map_or(Channel::Closed, |application| application.channel());
    match (end.termination()?, channel) {
        (MediaTermination::None, _) => None,
        (MediaTermination::Static { address, .. }, _) => Some(*address),
        (MediaTermination::Dynamic { .. }, Channel::Open { at, .. }) => Some(at),
        (MediaTermination::Dynamic { .. }, Channel::Closed | Channel::Asked) => None,
    }
}

/// Whether it says that no audio shall flow, now.
pub(crate) fn stands_still(description: &Description) -> bool {
    description.live_audio().is_none_or(|line| line.direction == Direction::Inactive)
}

/// Whether it offers audio and says that none shall flow. A line that is refused holds nobody.
pub(crate) fn holds(description: &Description) -> bool {
    description.live_audio().is_some_and(|line| line.direction == Direction::Inactive)
}

impl CallControl {
    /// The ends of a call whose media meets.
    pub(crate) fn links(&self, call: CallId) -> SmallVec<[(EndId, EndId); 2]> {
        self.calls.call(call).map(|call| call.links()).unwrap_or_default()
    }

    /// The end of a leg; none while another appearance of its line has the call.
    pub(crate) fn end_of(&self, leg: LegId) -> Option<EndId> {
        self.calls.leg(leg)?.end
    }

    /// The end of a leg that has one.
    #[track_caller]
    pub(crate) fn known_end(&self, leg: LegId) -> Option<EndId> {
        self.contradictions.known(self.calls.leg(leg)?.end, "a leg has no end")
    }

    /// The same end, looked up.
    #[track_caller]
    pub(crate) fn end_at(&self, leg: LegId) -> Option<&End> {
        self.calls.end(self.known_end(leg)?)
    }

    #[track_caller]
    pub(crate) fn end_at_mut(&mut self, leg: LegId) -> Option<&mut End> {
        self.calls.end_mut(self.known_end(leg)?)
    }

    /// The dialog of an end, if it is one.
    pub(crate) fn dialog_mut(&mut self, end: EndId) -> Option<&mut Dialog> {
        self.calls.end_mut(end)?.dialog_mut()
    }

    /// The dialog of an end that is one.
    #[track_caller]
    pub(crate) fn known_dialog(&mut self, end: EndId) -> Option<&mut Dialog> {
        let dialog = self.calls.end_mut(end)?.dialog_mut();
        self.contradictions.known(dialog, "an end is no dialog")
    }

    /// The same of an application.
    #[track_caller]
    fn known_application(&mut self, end: EndId) -> Option<&mut Application> {
        let application = self.calls.end_mut(end)?.application_mut();
        self.contradictions.known(application, "an end is no application")
    }

    /// Two ends, both there.
    fn two(&self, e: EndId, p: EndId) -> Option<(&End, &End)> {
        Some((self.calls.end(e)?, self.calls.end(p)?))
    }

    /// The call of an end.
    fn call_of(&self, end: EndId) -> Option<CallId> {
        Some(self.calls.leg(self.calls.end(end)?.leg()?)?.call)
    }

    /// The leg that a leg talks to, also by a relay; who is in a mix or waits has none.
    pub(crate) fn peer_of(&self, leg: LegId) -> Option<LegId> {
        self.far_leg(self.peer_end(self.end_of(leg)?)?)
    }

    /// Whose leg is behind an end's peer: its own or, of a relay's port, that of the other side.
    pub(crate) fn far_leg(&self, peer: EndId) -> Option<LegId> {
        match self.calls.end(peer)? {
            End::BridgePort(Port { across, .. }) => self.calls.end((*across)?)?.leg(),
            end @ (End::Dialog(_) | End::Application(_) | End::Remote(_) | End::Source(_)) => end.leg(),
        }
    }

    /// The end whose media meets that of this end.
    pub(crate) fn peer_end(&self, end: EndId) -> Option<EndId> {
        self.calls.call(self.call_of(end)?)?.peer_of_end(end)
    }

    /// Whether an application holds one of two ends that talk.
    pub(crate) fn hold_between(&self, x: &End, y: &End) -> Hold {
        let held = |end: &End| {
            let leg = end.leg().or_else(|| self.far_leg(end.id()));
            leg.and_then(|leg| self.calls.leg(leg)).is_some_and(|leg| leg.hold == Hold::On)
        };
        Hold::when(held(x) || held(y))
    }

    /// Somebody wants something new of these ends.
    pub(crate) fn new_rounds(&mut self, ends: impl IntoIterator<Item = EndId>) {
        for end in ends {
            if let Some(dialog) = self.dialog_mut(end) {
                dialog.new_rounds();
            }
        }
    }

    fn command_end(&mut self, end: EndId, command: EndCommand) {
        self.out.push(Output::End(end, command));
    }

    /// Brings both ends to what is true, as far as it can be done now, and tells of the streams.
    pub(crate) fn settle(&mut self, call: CallId) {
        for (x, y) in self.links(call) {
            self.ensure_channel(x, y);
            self.ensure_channel(y, x);
        }
        self.settle_signalling(call);
        self.update_streams(call);
    }

    /// The signalling's part of [`CallControl::settle`].
    pub(crate) fn settle_signalling(&mut self, call: CallId) {
        for (x, y) in self.links(call) {
            // Each end moves at most from owed to idle and from idle to offered.
            for _ in 0..4 {
                if !(self.settle_end(x, y) | self.settle_end(y, x)) {
                    break;
                }
            }
        }
    }

    /// One move of one end's signalling; false when there is none.
    fn settle_end(&mut self, e: EndId, p: EndId) -> bool {
        let Some((end, peer)) = self.two(e, p) else { return false };
        let Some(dialog) = end.dialog() else { return false };
        match dialog.state() {
            DialogState::Incoming | DialogState::Confirmed => {}
            DialogState::Placed | DialogState::Terminated => return false,
        }
        let hold = self.hold_between(end, peer);
        let truth = Told { peer: p, version: peer.version(), hold };
        match dialog.exchange() {
            Exchange::Offered => false,
            Exchange::Owed { hold: wanted, .. } => {
                let wanted = *wanted;
                // Where both have made an offer (a caller's, and that of a destination that was called without one) each is
                // the other's answer.
                // Where the caller was answered over early media, what it offered since then is no reason to wait.
                let early = dialog.state() == DialogState::Incoming
                    && dialog.told().is_some_and(|told| told.peer == p);
                let ready =
                    peer.is_local() || (peer.is_idle() && (early || knows(peer, end))) || crossed(end, peer);
                let Some(body) = body(end, peer, hold, BodyFor::Answer).filter(|_| ready) else {
                    return false;
                };
                self.answer_owed(e, p, body, truth, wanted);
                true
            }
            Exchange::Idle => {
                let offered = peer.dialog().is_some_and(|peer| *peer.exchange() == Exchange::Offered);
                let wait = dialog.told() == Some(truth) || offered || dialog.rounds() >= MAX_ROUNDS;
                let Some(body) = (!wait).then(|| body(end, peer, hold, BodyFor::Offer)).flatten() else {
                    return false;
                };
                self.offer(e, body, truth);
                true
            }
        }
    }

    fn answer_owed(&mut self, e: EndId, p: EndId, body: Body, truth: Told, hold: Hold) {
        if let Some(peer) = self.dialog_mut(p) {
            peer.agree_with(e);
        }
        let Some(dialog) = self.known_dialog(e) else { return };
        let before = dialog.answer(truth, said(&body));
        self.command_end(
            e,
            match before {
                DialogState::Incoming => EndCommand::Answer { media: body },
                DialogState::Placed | DialogState::Confirmed | DialogState::Terminated => {
                    EndCommand::AnswerOffer(body)
                }
            },
        );
        self.phone_holds(e, hold);
    }

    fn offer(&mut self, e: EndId, body: Body, truth: Told) {
        let Some(dialog) = self.known_dialog(e) else { return };
        let before = dialog.offer(truth, said(&body));
        self.command_end(
            e,
            match before {
                DialogState::Incoming => EndCommand::Answer { media: body },
                DialogState::Placed | DialogState::Confirmed | DialogState::Terminated => {
                    EndCommand::Offer(Some(body))
                }
            },
        );
    }

    /// The phone's own hold has come into force or is over.
    fn phone_holds(&mut self, end: EndId, hold: Hold) {
        let Some(dialog) = self.known_dialog(end) else { return };
        let (id, before) = (dialog.leg(), dialog.exchange_hold(hold));
        let Some(leg) = self.calls.leg(id) else { return };
        if before == hold || leg.hold == Hold::On {
            return;
        }
        let (from, to) = match hold {
            Hold::On => (LegState::Connected, LegState::Held),
            Hold::Off => (LegState::Held, LegState::Connected),
        };
        if leg.state() == from {
            self.enter(id, to);
        }
    }

    /// Opens a dynamic end's channel when media is about to be, closes it when a media session is over.
    fn ensure_channel(&mut self, e: EndId, p: EndId) {
        let Some((end, peer)) = self.two(e, p) else { return };
        let Some(application) = end.application().filter(|_| is_dynamic(end)) else { return };
        let wanted = self.hold_between(end, peer) == Hold::Off && !is_still_by_itself(peer);
        match (application.channel(), wanted) {
            (Channel::Closed, true) => self.ask_for_address(e, Some(p)),
            // It was asked for the sake of a destination that is to be called.
            (Channel::Asked, false) if self.is_awaited(application.leg()) => {}
            (Channel::Open { .. } | Channel::Asked, false) => self.close_channel(e),
            (Channel::Closed, false) | (Channel::Open { .. } | Channel::Asked, true) => {}
        }
    }

    /// The application of a dynamic leg answers. The call is established when it has given its address; at once while the
    /// other end wants no media: the application is asked when it does.
    pub(crate) fn answer_with_address(&mut self, call: CallId, leg: LegId) {
        let Some(anchor) = self.anchor(call) else { return };
        let (Some(e), Some(p)) = (self.known_end(leg), self.known_end(anchor)) else { return };
        let Some((end, other)) = self.two(e, p) else { return };
        if agreed(end, other).is_none() {
            // The caller has changed its codecs since it was offered.
            let why = NOTHING_IN_COMMON.with_status(488);
            return self.branch_failed(leg, why, &[], Clearing::ByUs);
        }
        self.ensure_channel(e, p);
        if self.known_application(e).is_some_and(|end| end.channel() == Channel::Closed) {
            self.establish(call, leg);
        }
    }

    /// Asks the applications of a dynamic end where they will receive; from whom may not be known yet.
    pub(crate) fn ask_for_address(&mut self, e: EndId, peer: Option<EndId>) {
        let Some(end) = self.calls.end(e) else { return };
        let other = peer.and_then(|peer| self.calls.end(peer));
        let own = || own_codecs(end).first().and_then(own_format).map(|format| (format, PACKET_MS));
        // What a far end said to somebody else may be less than it can: it is offered all, and says.
        let asked = other.and_then(|other| agreed(end, other)).or_else(own);
        let Some((format, packet_ms)) = asked else { return };
        let far = other.and_then(|other| match other.far() {
            Some(_) => line_for(other, end).map(|line| line.address),
            None => local_address(other),
        });
        let Some(leg) = end.leg() else { return };
        let deadline = self.plan.parameters.media_exchange;
        if let Some(application) = self.known_application(e) {
            application.ask();
        }
        self.set_timer(Timer::MediaExchange(e), deadline);
        let Format { payload_type, codec } = format;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.tell_of(leg, |leg| Event::OpenChannel { leg, codec, payload_type, packet_ms, far, deadline_ms });
    }

    pub(crate) fn close_channel(&mut self, end: EndId) {
        self.timers.cancel(Timer::MediaExchange(end));
        if let Some(application) = self.known_application(end) {
            application.close();
        }
    }

    /// The end that stays loses the one that it talked to, before the next has answered. An offer of its own can't wait
    /// for that: a 200 is repeated for 32 s and no longer (RFC 3261 §13.3.1.4). It is answered with silence.
    pub(crate) fn part(&mut self, anchor: LegId) {
        self.stop_streams(anchor);
        // The next has been offered its address: it stays.
        if !self.is_offered(anchor) {
            self.new_media_session(anchor);
        }
        let Some(leg) = self.calls.leg(anchor) else { return };
        let waits = self.calls.call(leg.call).is_some_and(|call| call.links().is_empty());
        let Some(e) = leg.end.filter(|_| waits) else { return };
        let Some(dialog) = self.dialog_mut(e).filter(|dialog| dialog.state() == DialogState::Confirmed)
        else {
            return;
        };
        let Exchange::Owed { hold, .. } = dialog.exchange() else { return };
        let (hold, body) = (*hold, dialog.far().and_then(silence));
        let Some(body) = body else {
            dialog.withdraw_offer();
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        dialog.answer_with_silence(said(&body));
        self.command_end(e, EndCommand::AnswerOffer(body));
        self.phone_holds(e, hold);
    }

    /// What was agreed with the last peer holds no more.
    pub(crate) fn new_media_session(&mut self, leg: LegId) {
        let Some(e) = self.known_end(leg) else { return };
        if self.calls.end(e).is_some_and(is_dynamic) && !self.is_awaited(leg) {
            self.close_channel(e);
        }
        match self.calls.end_mut(e) {
            Some(End::Dialog(dialog) | End::Remote(Remote { dialog, .. })) => dialog.new_rounds(),
            Some(End::Application(application)) => application.renew(),
            Some(End::BridgePort(_) | End::Source(_)) | None => {}
        }
    }

    /// The application whose address it is has gone, and another has the device open: the streams cease, and the others
    /// are asked. Nobody answers in time → as at any other opening of the channel.
    pub(crate) fn ask_others(&mut self, leg: LegId) {
        let Some(call) = self.calls.leg(leg).map(|leg| leg.call) else { return };
        for end in [Some(leg), self.peer_of(leg)].into_iter().flatten() {
            self.stop_streams(end);
        }
        self.new_media_session(leg);
        self.settle(call);
    }

    /// Whether a session's address is where this leg receives.
    pub(crate) fn is_given_by(&self, leg: LegId, session: SessionId) -> bool {
        // None while another appearance has the call.
        let end = self.end_of(leg).and_then(|end| self.calls.end(end)).and_then(End::application);
        end.is_some_and(|end| end.is_given_by(session))
    }

    /// Whether the end that a dynamic leg is about to talk to has a line that an address of this family can reach.
    pub(crate) fn is_reached_from(&self, leg: LegId, address: SocketAddr) -> bool {
        let (Some(end), Some(call)) = (self.end_at(leg), self.calls.leg(leg).map(|leg| leg.call)) else {
            return false;
        };
        let anchor = self.calls.anchor(call).filter(|anchor| *anchor != leg);
        let other = self.peer_of(leg).or(anchor).and_then(|other| self.end_at(other));
        match (other.and_then(End::far), abilities(end)) {
            (Some(far), Some(able)) => {
                Abilities { address: Some(address.ip()), ..able }.choose(far).is_some()
            }
            (Some(_) | None, Some(_) | None) => true,
        }
    }

    /// An application has given its address.
    pub(crate) fn address_given(&mut self, leg: LegId, by: SessionId, address: SocketAddr) {
        let Some(e) = self.known_end(leg) else { return };
        self.timers.cancel(Timer::MediaExchange(e));
        let Some(application) = self.known_application(e) else { return };
        application.open(address, by);
        let peer = self.peer_end(e);
        self.new_rounds(peer);
        let Some(call) = self.call_of(e) else { return };
        let answering = self.attempt(call).is_some_and(|attempt| attempt.answering == Some(leg));
        if answering {
            self.establish(call, leg);
        } else {
            self.settle(call);
            self.dial_on(call);
        }
    }

    /// A phone or trunk wants other media.
    pub(crate) fn far_offers(&mut self, e: EndId, offer: Option<Description>) {
        let Some(end) = self.calls.end(e) else { return };
        let state = end.dialog().map(Dialog::state);
        if matches!(state, Some(DialogState::Incoming | DialogState::Placed)) {
            return self.far_offers_early(e, offer);
        }
        let confirmed = state == Some(DialogState::Confirmed);
        let peer = self.peer_end(e).and_then(|peer| self.calls.end(peer));
        let Some(peer) = peer.filter(|peer| confirmed && !is_busy(end) && !is_busy(peer)) else {
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::Glare));
        };
        let p = peer.id();
        let Some(offer) = offer else { return self.far_asks(e, p) };
        if abilities(peer).is_some_and(|abilities| abilities.choose(&offer).is_none()) {
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::NotAcceptable));
        }
        let hold = held_by(&offer, end, peer, self.hold_between(end, peer));
        self.new_rounds([e, p]);
        if let Some(dialog) = self.known_dialog(e) {
            dialog.take_offer(offer, hold);
        }
        if let Some(call) = self.call_of(e) {
            self.settle(call);
        }
    }

    /// An offer before the call is answered, but after an offer and its answer went over early media (UPDATE, or the PRACK
    /// of that answer: RFC 3311 §5.1, RFC 6337 §2.2). It is answered with what the other end said last; the other end hears
    /// of it when the call is answered.
    fn far_offers_early(&mut self, e: EndId, offer: Option<Description>) {
        let peer = self.early_peer(e).and_then(|peer| self.calls.end(peer));
        let (Some(end), Some(peer), Some(offer)) = (self.calls.end(e), peer, offer) else {
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::Glare));
        };
        let common = |far: &&Description| pair_of_lines(far, &offer).is_some();
        let body = match peer.is_local() {
            true => local_answer(peer, &offer, Hold::Off),
            false => peer.far().filter(common).map(|far| Body::Relay(far.clone(), None)),
        };
        let hold = self.hold_between(end, peer);
        let told = Told { peer: peer.id(), version: peer.version(), hold };
        let Some(body) = body else {
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        let wanted = held_by(&offer, end, peer, hold);
        if let Some(dialog) = self.known_dialog(e) {
            dialog.exchange_early(offer, wanted, told, said(&body));
        }
        self.command_end(e, EndCommand::AnswerOffer(body));
        if let Some(call) = self.call_of(e) {
            self.update_early_streams(call);
        }
    }

    /// With whom an unanswered end has early media: the caller with the only destination that has sent some, and that
    /// one with the caller.
    fn early_peer(&self, e: EndId) -> Option<EndId> {
        let call = self.call_of(e)?;
        let [branch] = self.attempt(call)?.branches[..] else { return None };
        let (anchor, branch) = (self.known_end(self.anchor(call)?)?, self.known_end(branch)?);
        self.calls.end(branch)?.far()?;
        match e {
            _ if e == anchor => Some(branch),
            _ if e == branch => Some(anchor),
            _ => None,
        }
    }

    /// A re-INVITE without an offer is offered what its peer last said.
    fn far_asks(&mut self, e: EndId, p: EndId) {
        let Some((end, peer)) = self.two(e, p) else { return };
        let hold = self.hold_between(end, peer);
        let truth = Told { peer: p, version: peer.version(), hold };
        let still = Hold::when(end.far().is_some_and(stands_still));
        let body = body(end, peer, hold, BodyFor::Offer).or_else(|| local_offer(peer, Some(end), still));
        let Some(body) = body else {
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        if let Some(dialog) = self.known_dialog(e) {
            dialog.offer_as_asked(truth, said(&body));
        }
        self.command_end(e, EndCommand::AnswerOffer(body));
    }

    /// The answer to an offer of ours.
    pub(crate) fn far_answers(&mut self, e: EndId, answer: Description) {
        let p = self.peer_end(e);
        // An answer that comes twice, or to an offer that crossed another, is none.
        let Some(dialog) = self.known_dialog(e).filter(|dialog| *dialog.exchange() == Exchange::Offered)
        else {
            return;
        };
        let strangers = dialog.take_answer(answer, p);
        let Some((end, peer)) = p.and_then(|p| self.two(e, p)) else { return };
        // What phones that talk already make of each other's later offers is theirs to know.
        let ends = !suits(end, peer) && (strangers || peer.is_local());
        let hold = self.hold_by_answer(end, peer);
        let Some(call) = self.call_of(e) else { return };
        if ends {
            return self.end_call(call, NOTHING_IN_COMMON, None);
        }
        if let Some(hold) = hold {
            if let Some(dialog) = self.known_dialog(e) {
                dialog.changes_direction(hold);
            }
            self.phone_holds(e, hold);
        }
        self.settle(call);
    }

    /// Whether a phone holds by what it answers to an offer of media both ways: who put a call on hold while the other end
    /// held it, too, says so when that one retrieves it. Of an offer that asked for nothing nobody can tell.
    fn hold_by_answer(&self, end: &End, peer: &End) -> Option<Hold> {
        let begins_to_hold =
            |dialog: &Dialog| matches!(dialog.exchange(), Exchange::Owed { hold: Hold::On, .. });
        let one_way = peer.phone_holds()
            || peer.dialog().is_some_and(begins_to_hold)
            || peer.direction() != Direction::SendReceive;
        let dialog = end.dialog().filter(|dialog| !one_way && dialog.state() == DialogState::Confirmed)?;
        // What was offered counts: who holds or retrieves meanwhile has not been answered yet.
        let offered = Told { peer: peer.id(), version: peer.version(), hold: Hold::Off };
        dialog.told().filter(|told| *told == offered)?;
        Some(Hold::when(lacks(dialog.far()?, peer)))
    }

    /// An offer of ours was refused. What somebody else wanted is refused to him; a call whose two ends never agreed
    /// can't live; else all is as before.
    pub(crate) fn offer_rejected(&mut self, e: EndId) {
        let p = self.peer_end(e);
        let Some(dialog) = self.known_dialog(e).filter(|dialog| *dialog.exchange() == Exchange::Offered)
        else {
            return;
        };
        dialog.offer_refused();
        // Its call waits for another destination, which will be offered to it anew.
        let Some(p) = p else { return };
        let strangers = !dialog.has_agreed_with(p);
        if self.dialog_mut(p).is_some_and(Dialog::withdraw_offer) {
            self.command_end(p, EndCommand::RejectOffer(OfferRefusal::NotAcceptable));
        }
        let Some(call) = self.call_of(e) else { return };
        if strangers {
            return self.end_call(call, NOTHING_IN_COMMON, None);
        }
        self.settle(call);
    }
}

/// What `end` is to be told of `peer`, if that can be said now.
fn body(end: &End, peer: &End, hold: Hold, purpose: BodyFor) -> Option<Body> {
    let Some(other) = peer.dialog() else {
        return match purpose {
            BodyFor::Answer => local_answer(peer, end.far()?, hold),
            BodyFor::Offer => local_offer(peer, Some(end), hold),
        };
    };
    let live = other.exchange().is_owed() || peer.phone_holds();
    let written = match (hold, purpose) {
        (Hold::On, _) => Some(Direction::Inactive),
        (Hold::Off, BodyFor::Answer) => None,
        (Hold::Off, BodyFor::Offer) => (!live).then_some(Direction::SendReceive),
    };
    Some(Body::Relay(other.far()?.clone(), written))
}

/// Whether a dialog was told what this end says now.
fn knows(end: &End, of: &End) -> bool {
    let told = end.dialog().and_then(Dialog::told);
    told.is_some_and(|told| told.peer == of.id() && told.version == of.version())
}

/// The line of a far end's description that counts with this peer.
fn line_for<'a>(end: &'a End, peer: &End) -> Option<&'a AudioLine> {
    let far = end.far()?;
    match abilities(peer) {
        Some(abilities) => abilities.choose(far).map(|(line, _)| line),
        None => far.live_audio(),
    }
}

/// Whether there is anything to talk by with what this end said last.
pub(crate) fn suits(end: &End, peer: &End) -> bool {
    let Some(far) = end.far() else { return false };
    match (abilities(peer), peer.far()) {
        (Some(abilities), _) => abilities.choose(far).is_some(),
        (None, Some(other)) if far.refuses_all() => other.refuses_all(),
        (None, Some(other)) if end.is_owed() && peer.is_owed() => {
            pair_of_lines(far, other).is_some() || (far.other_media && other.other_media)
        }
        (None, Some(_)) => true,
        (None, None) => !far.refuses_all(),
    }
}

/// Both have made their first offer, and nobody has answered.
fn crossed(end: &End, peer: &End) -> bool {
    let first = |dialog: &Dialog| matches!(dialog.exchange(), Exchange::Owed { before: None, .. });
    [end, peer].iter().all(|end| end.dialog().is_some_and(first))
}

/// What the model itself said of audio.
pub(crate) fn said(body: &Body) -> Option<AudioLine> {
    match body {
        Body::Local(line) => Some(line.clone()),
        Body::Relay(..) => None,
    }
}

/// An application's answer: the agreed codec alone, and telephone-event where it was offered.
fn local_answer(end: &End, offer: &Description, hold: Hold) -> Option<Body> {
    let (line, format) = abilities(end)?.choose(offer)?;
    let still = hold == Hold::On || line.direction == Direction::Inactive;
    let address = local_address(end).or_else(|| still.then(|| last_address(end)))?;
    Some(Body::Local(AudioLine {
        address,
        formats: smallvec![format.clone()],
        direction: match hold {
            Hold::On => Direction::Inactive,
            Hold::Off => line.direction.reversed().within(end.direction()),
        },
        crypto: Crypto::none(),
        ..line.clone()
    }))
}

/// The address to be written where media stands still.
fn last_address(end: &End) -> SocketAddr {
    end.application().and_then(Application::last_address).unwrap_or(NOWHERE)
}

/// An application's offer: its whole set, or what is agreed already with an end whose description is known. A payload
/// type keeps its meaning (RFC 3264 §8.3.2).
pub(crate) fn local_offer(own: &End, end: Option<&End>, hold: Hold) -> Option<Body> {
    let terms = end.and_then(|end| Terms::of(own, end));
    let said = end.and_then(End::dialog).and_then(Dialog::said);
    let formats: SmallVec<[Format; 4]> = match &terms {
        Some(terms) => {
            smallvec![Format { payload_type: terms.input.payload_type, codec: terms.codec.clone() }]
        }
        None => own_codecs(own).iter().filter_map(own_format).collect(),
    };
    let still = hold == Hold::On;
    let address = local_address(own).or_else(|| still.then(|| last_address(own)))?;
    let known = said.and_then(|said| said.dtmf_payload_type);
    let theirs = terms.as_ref().and_then(|terms| terms.output.dtmf_payload_type);
    let free = |payload_type: &u8| !formats.iter().any(|format| format.payload_type == *payload_type);
    let mut choices = known.into_iter().chain(theirs).chain([DTMF_PAYLOAD_TYPE]).chain(96..=127);
    let dtmf_payload_type = choices.find(free);
    Some(Body::Local(AudioLine {
        place: terms.as_ref().map_or(0, |terms| terms.place),
        profile: Profile::Plain,
        address,
        formats,
        dtmf_payload_type,
        direction: if still { Direction::Inactive } else { own.direction() },
        packet_ms: terms.as_ref().map_or(PACKET_MS, |terms| terms.input.packet_ms),
        crypto: Crypto::none(),
    }))
}

/// The answer to an offer for whose media there is nobody yet; none for an offer without audio.
fn silence(offer: &Description) -> Option<Body> {
    let line = offer.audio.iter().find(|line| line.is_live() && line.profile == Profile::Plain)?;
    Some(Body::Local(AudioLine {
        address: NOWHERE,
        formats: smallvec![line.formats.first()?.clone()],
        direction: Direction::Inactive,
        crypto: Crypto::none(),
        ..line.clone()
    }))
}

/// Whether a phone wants no media of its own accord. An inactive answer to our own silence is none.
fn is_still_by_itself(end: &End) -> bool {
    (end.is_owed() || end.phone_holds()) && end.far().is_some_and(stands_still)
}

/// Something is under way there that a new offer would cross.
fn is_busy(end: &End) -> bool {
    let unanswered = |dialog: &Dialog| matches!(dialog.state(), DialogState::Incoming | DialogState::Placed);
    !end.is_idle() || end.is_asked() || end.dialog().is_some_and(unanswered)
}

/// Whether the phone holds from this offer on. While an application holds one of the two (`between`), every offer is without
/// media in one direction at least: then what it sends counts, and silence both ways says nothing new.
fn held_by(offer: &Description, end: &End, peer: &End, between: Hold) -> Hold {
    match (between, offered_direction(offer, peer)) {
        (Hold::Off, _) => Hold::when(lacks(offer, peer)),
        (Hold::On, Some(Direction::SendOnly)) => Hold::On,
        (Hold::On, Some(Direction::Inactive)) => Hold::when(end.phone_holds()),
        (Hold::On, Some(Direction::SendReceive | Direction::ReceiveOnly) | None) => Hold::Off,
    }
}

/// The direction of the line that counts with this peer.
fn offered_direction(offer: &Description, peer: &End) -> Option<Direction> {
    let line = match abilities(peer) {
        Some(abilities) => abilities.choose(offer).map(|(line, _)| line),
        None => offer.live_audio(),
    };
    line.map(|line| line.direction)
}

/// Whether this offer takes from its peer something that its end would have with what it was told: the phone holds. An
/// offer whose audio is refused (fax, T.38) is none that holds.
fn lacks(offer: &Description, peer: &End) -> bool {
    let Some(offered) = offered_direction(offer, peer) else { return false };
    let theirs = peer.far().and_then(Description::live_audio).filter(|_| peer.phone_holds());
    let natural = theirs.map_or(Direction::SendReceive, |theirs| theirs.direction.reversed());
    (natural.sends() && !offered.sends()) || (natural.receives() && !offered.receives())
}
