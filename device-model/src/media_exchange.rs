//! The media exchange of a call's two talking ends.
//!
//! An end is either signalling (a phone or trunk, whose descriptions are relayed or answered) or an application (whose
//! description is made here). There is one rule: whoever made an offer gets its answer as soon as its peer knows the
//! offer and has an answer, and whoever was told something that is true no longer is offered what is true now.
//! [`CallControl::settle`] applies it until nothing changes; every event only notes what it brought and calls it.

use crate::cause::Cause;
use crate::control::CallControl;
use crate::end::{Application, Channel, Dialog, DialogState, End, Exchange, Told};
use crate::ending::Clearing;
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, EndId, LegId, SessionId};
use crate::leg::Hold;
use crate::media::{Abilities, AudioLine, Codec, Description, Direction, Format, MediaTermination, Profile};
use crate::port::{Body, EndCommand, Event, OfferRefusal, Output};
use crate::streams::{Terms, pair_of_lines};
use crate::timers::Timer;
use crate::view::LegState;
use smallvec::{SmallVec, smallvec};
use std::net::{Ipv4Addr, SocketAddr};

/// Offers that the model makes on its own account to one end before somebody wants something new. Two ends whose
/// every answer differs from the one before would otherwise go on for ever; at the limit the last answers stand.
const MAX_ROUNDS: u8 = 3;
/// RFC 4733 telephone-event in our own offers.
const DTMF_PAYLOAD_TYPE: u8 = 101;
/// For what a description is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFor {
    Offer,
    Answer,
}

/// Packet length of our own offers, milliseconds.
const PACKET_MS: u16 = 20;
/// Written where media stands still and no address was ever given: an address that discards (RFC 863), for port 0
/// would refuse the stream.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);

/// The two ends can't talk to each other.
const NOTHING_IN_COMMON: Failure = Failure::new(FailureOrigin::Media, Cause::BEARER_NOT_IMPLEMENTED);

/// What an application can speak, at the address that it has for this media session.
pub(crate) fn abilities(end: &End) -> Option<Abilities<'_>> {
    let abilities = end.termination()?.abilities()?;
    Some(Abilities {
        address: abilities.address.or(local_address(end).map(|address| address.ip())),
        ..abilities
    })
}

fn own_codecs(end: &End) -> &[Codec] {
    abilities(end).map_or(&[], |abilities| abilities.codecs)
}

/// A payload format as an application's own offer has it.
fn own_format(codec: &Codec) -> Option<Format> {
    codec.defaults().map(|(_, _, payload_type)| Format { payload_type, codec: codec.clone() })
}

pub(crate) fn is_dynamic(end: &End) -> bool {
    matches!(end.termination(), Some(MediaTermination::Dynamic { .. }))
}

/// Where an application receives, if that is known for this media session.
pub(crate) fn local_address(end: &End) -> Option<SocketAddr> {
    let channel = end.application().map_or(Channel::Closed, |application| application.channel);
    match (end.termination()?, channel) {
        (MediaTermination::None, _) => None,
        (MediaTermination::Static { address, .. }, _) => Some(*address),
        (MediaTermination::Dynamic { .. }, Channel::Open(address)) => Some(address),
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

/// What an application will receive from this peer: codec, payload type, packet length.
fn agreed(end: &End, peer: &End) -> Option<(Format, u16)> {
    if peer.is_local() {
        return agreed_by_applications(end, peer).map(|(format, packet_ms, _)| (format, packet_ms));
    }
    match peer.far() {
        Some(_) => {
            let terms = Terms::of(end, peer)?;
            let types = if peer.is_owed() { terms.output } else { terms.input };
            Some((Format { payload_type: types.payload_type, codec: terms.codec }, types.packet_ms))
        }
        None => Some((own_format(own_codecs(end).first()?)?, PACKET_MS)),
    }
}

/// What two applications say to each other without any signalling: payload format, packet length, telephone-event.
pub(crate) fn agreed_by_applications(end: &End, peer: &End) -> Option<(Format, u16, u8)> {
    let codecs = own_codecs(end);
    let common = own_codecs(peer).iter().find(|codec| codecs.contains(codec))?;
    Some((own_format(common)?, PACKET_MS, DTMF_PAYLOAD_TYPE))
}

impl CallControl {
    /// The ends of a call whose media meets.
    pub(crate) fn links(&self, call: CallId) -> SmallVec<[(EndId, EndId); 2]> {
        self.calls.known(call).map(|call| call.links()).unwrap_or_default()
    }

    /// The end of a leg; none while another appearance of its line has the call.
    pub(crate) fn end_of(&self, leg: LegId) -> Option<EndId> {
        self.legs.known(leg)?.end
    }

    /// The same end, looked up.
    pub(crate) fn end_at(&self, leg: LegId) -> Option<&End> {
        self.ends.known(self.end_of(leg)?)
    }

    pub(crate) fn end_at_mut(&mut self, leg: LegId) -> Option<&mut End> {
        self.ends.known_mut(self.end_of(leg)?)
    }

    pub(crate) fn dialog_mut(&mut self, end: EndId) -> Option<&mut Dialog> {
        self.ends.known_mut(end)?.dialog_mut()
    }

    fn application_mut(&mut self, end: EndId) -> Option<&mut Application> {
        self.ends.known_mut(end)?.application_mut()
    }

    /// Two ends, both there.
    fn two(&self, e: EndId, p: EndId) -> Option<(&End, &End)> {
        Some((self.ends.known(e)?, self.ends.known(p)?))
    }

    /// The call of an end.
    fn call_of(&self, end: EndId) -> Option<CallId> {
        Some(self.legs.known(self.ends.known(end)?.leg()?)?.call)
    }

    /// The leg that a leg talks to.
    pub(crate) fn peer_of(&self, leg: LegId) -> Option<LegId> {
        self.ends.known(self.peer_end(self.end_of(leg)?)?)?.leg()
    }

    /// The end whose media meets that of this end.
    pub(crate) fn peer_end(&self, end: EndId) -> Option<EndId> {
        self.calls.known(self.call_of(end)?)?.peer_of_end(end)
    }

    /// Whether an application holds one of two ends that talk.
    pub(crate) fn hold_between(&self, x: &End, y: &End) -> Hold {
        let leg = |end: &End| end.leg().and_then(|leg| self.legs.known(leg));
        let held = |end: &End| leg(end).is_some_and(|leg| leg.hold == Hold::On);
        Hold::when(held(x) || held(y))
    }

    /// Somebody wants something new of these ends.
    pub(crate) fn new_rounds(&mut self, ends: impl IntoIterator<Item = EndId>) {
        for end in ends {
            if let Some(dialog) = self.dialog_mut(end) {
                dialog.rounds = 0;
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
        match dialog.state {
            DialogState::Incoming | DialogState::Confirmed => {}
            DialogState::Placed | DialogState::Terminated => return false,
        }
        let hold = self.hold_between(end, peer);
        let truth = Told { peer: p, version: peer.version(), hold };
        match &dialog.exchange {
            Exchange::Offered => false,
            Exchange::Owed { hold: wanted, .. } => {
                let wanted = *wanted;
                // Where both have made an offer (a caller's, and that of a destination that was called without one) each is
                // the other's answer.
                // Where the caller was answered over early media, what it offered since then is no reason to wait.
                let early =
                    dialog.state == DialogState::Incoming && dialog.told.is_some_and(|told| told.peer == p);
                let ready =
                    peer.is_local() || (peer.is_idle() && (early || knows(peer, end))) || crossed(end, peer);
                let Some(body) = body(end, peer, hold, BodyFor::Answer).filter(|_| ready) else {
                    return false;
                };
                self.answer_owed(e, p, body, truth, wanted);
                true
            }
            Exchange::Idle => {
                let offered = peer.dialog().is_some_and(|peer| peer.exchange == Exchange::Offered);
                let wait = dialog.told == Some(truth) || offered || dialog.rounds >= MAX_ROUNDS;
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
            peer.agreed_with = Some(e);
        }
        let Some(dialog) = self.dialog_mut(e) else { return };
        let before = std::mem::replace(&mut dialog.state, DialogState::Confirmed);
        dialog.exchange = Exchange::Idle;
        dialog.told = Some(truth);
        dialog.agreed_with = Some(p);
        dialog.said = said(&body);
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
        let Some(dialog) = self.dialog_mut(e) else { return };
        let before = std::mem::replace(&mut dialog.state, DialogState::Confirmed);
        dialog.exchange = Exchange::Offered;
        dialog.told = Some(truth);
        dialog.said = said(&body);
        dialog.rounds += 1;
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
        let Some(dialog) = self.dialog_mut(end) else { return };
        let (id, before) = (dialog.leg, std::mem::replace(&mut dialog.hold, hold));
        let Some(leg) = self.legs.known(id) else { return };
        if before == hold || leg.hold == Hold::On {
            return;
        }
        match (leg.state, hold) {
            (LegState::Connected, Hold::On) => self.enter(id, LegState::Held),
            (LegState::Held, Hold::Off) => self.enter(id, LegState::Connected),
            _ => {}
        }
    }

    /// Opens a dynamic end's channel when media is about to be, closes it when a media session is over.
    fn ensure_channel(&mut self, e: EndId, p: EndId) {
        let Some((end, peer)) = self.two(e, p) else { return };
        let Some(application) = end.application().filter(|_| is_dynamic(end)) else { return };
        let wanted = self.hold_between(end, peer) == Hold::Off && !is_still_by_itself(peer);
        match (application.channel, wanted) {
            (Channel::Closed, true) => self.ask_for_address(e, Some(p)),
            // It was asked for the sake of a destination that is to be called.
            (Channel::Asked, false) if self.is_awaited(application.leg) => {}
            (Channel::Open(_) | Channel::Asked, false) => self.close_channel(e),
            (Channel::Closed, false) | (Channel::Open(_) | Channel::Asked, true) => {}
        }
    }

    /// The application of a dynamic leg answers. The call is established when it has given its address; at once while the
    /// other end wants no media: the application is asked when it does.
    pub(crate) fn answer_with_address(&mut self, call: CallId, leg: LegId) {
        let Some(anchor) = self.calls.known(call).map(|call| call.anchor) else { return };
        let (Some(e), Some(p)) = (self.end_of(leg), self.end_of(anchor)) else { return };
        let Some((end, other)) = self.two(e, p) else { return };
        if agreed(end, other).is_none() {
            // The caller has changed its codecs since it was offered.
            let why = NOTHING_IN_COMMON.with_status(488);
            return self.branch_failed(leg, why, &[], Clearing::ByUs);
        }
        self.ensure_channel(e, p);
        if self.application_mut(e).is_some_and(|end| end.channel == Channel::Closed) {
            self.establish(call, leg);
        }
    }

    /// Asks the applications of a dynamic end where they will receive; from whom may not be known yet.
    pub(crate) fn ask_for_address(&mut self, e: EndId, peer: Option<EndId>) {
        let Some(end) = self.ends.known(e) else { return };
        let other = peer.and_then(|peer| self.ends.known(peer));
        let asked = match other {
            Some(other) => agreed(end, other),
            None => own_codecs(end).first().and_then(own_format).map(|format| (format, PACKET_MS)),
        };
        let Some((format, packet_ms)) = asked else { return };
        let far = other.and_then(|other| match other.far() {
            Some(_) => line_for(other, end).map(|line| line.address),
            None => local_address(other),
        });
        let Some(leg) = end.leg() else { return };
        let deadline = self.plan.parameters.media_exchange;
        if let Some(application) = self.application_mut(e) {
            application.channel = Channel::Asked;
        }
        self.set_timer(Timer::MediaExchange(e), deadline);
        let Format { payload_type, codec } = format;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.tell_of(leg, |leg| Event::OpenChannel { leg, codec, payload_type, packet_ms, far, deadline_ms });
    }

    pub(crate) fn close_channel(&mut self, end: EndId) {
        self.timers.cancel(Timer::MediaExchange(end));
        let Some(application) = self.application_mut(end) else { return };
        if let Channel::Open(address) = application.channel {
            application.last_address = Some(address);
        }
        application.channel = Channel::Closed;
        application.given_by = None;
    }

    /// The end that stays loses the one that it talked to, before the next has answered. An offer of its own can't wait
    /// for that: a 200 is repeated for 32 s and no longer (RFC 3261 §13.3.1.4). It is answered with silence.
    pub(crate) fn part(&mut self, anchor: LegId) {
        self.stop_streams(anchor);
        // The next has been offered its address: it stays.
        if !self.is_offered(anchor) {
            self.new_media_session(anchor);
        }
        let Some(leg) = self.legs.known(anchor) else { return };
        let waits = self.calls.known(leg.call).is_some_and(|call| call.links().is_empty());
        let Some(e) = leg.end.filter(|_| waits) else { return };
        let Some(dialog) = self.dialog_mut(e).filter(|dialog| dialog.state == DialogState::Confirmed) else {
            return;
        };
        let Exchange::Owed { before, hold } = &dialog.exchange else { return };
        let (before, hold, body) = (before.clone(), *hold, dialog.far.as_ref().and_then(silence));
        dialog.exchange = Exchange::Idle;
        let Some(body) = body else {
            dialog.far = before.map(|before| *before);
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        (dialog.told, dialog.agreed_with, dialog.said) = (None, None, said(&body));
        self.command_end(e, EndCommand::AnswerOffer(body));
        self.phone_holds(e, hold);
    }

    /// What was agreed with the last peer holds no more.
    pub(crate) fn new_media_session(&mut self, leg: LegId) {
        let Some(e) = self.end_of(leg) else { return };
        if self.ends.known(e).is_some_and(is_dynamic) && !self.is_awaited(leg) {
            self.close_channel(e);
        }
        match self.ends.known_mut(e) {
            Some(End::Dialog(dialog)) => dialog.rounds = 0,
            Some(End::Application(application)) => application.version += 1,
            Some(End::BridgePort(_) | End::Source(_)) | None => {}
        }
    }

    /// The application whose address it is has gone, and another has the device open: the streams cease, and the others
    /// are asked. Nobody answers in time → as at any other opening of the channel.
    pub(crate) fn ask_others(&mut self, leg: LegId) {
        let Some(call) = self.legs.known(leg).map(|leg| leg.call) else { return };
        for end in [Some(leg), self.peer_of(leg)].into_iter().flatten() {
            self.stop_streams(end);
        }
        self.new_media_session(leg);
        self.settle(call);
    }

    /// Whether a session's address is where this leg receives.
    pub(crate) fn is_given_by(&self, leg: LegId, session: SessionId) -> bool {
        let end = self.end_at(leg).and_then(End::application);
        end.is_some_and(|end| end.given_by == Some(session))
    }

    /// Whether the end that a dynamic leg is about to talk to has a line that an address of this family can reach.
    pub(crate) fn is_reached_from(&self, leg: LegId, address: SocketAddr) -> bool {
        let (Some(end), Some(call)) = (self.end_at(leg), self.legs.known(leg).map(|leg| leg.call)) else {
            return false;
        };
        let anchor = self.calls.known(call).map(|call| call.anchor).filter(|anchor| *anchor != leg);
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
        let Some(e) = self.end_of(leg) else { return };
        self.timers.cancel(Timer::MediaExchange(e));
        let Some(application) = self.application_mut(e) else { return };
        application.channel = Channel::Open(address);
        application.given_by = Some(by);
        application.version += 1;
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
        let Some(end) = self.ends.known(e) else { return };
        let state = end.dialog().map(|dialog| dialog.state);
        if matches!(state, Some(DialogState::Incoming | DialogState::Placed)) {
            return self.far_offers_early(e, offer);
        }
        let confirmed = state == Some(DialogState::Confirmed);
        let peer = self.peer_end(e).and_then(|peer| self.ends.known(peer));
        let Some(peer) = peer.filter(|peer| confirmed && !is_busy(end) && !is_busy(peer)) else {
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::Glare));
        };
        let p = peer.id();
        let Some(offer) = offer else { return self.far_asks(e, p) };
        if abilities(peer).is_some_and(|abilities| abilities.choose(&offer).is_none()) {
            return self.command_end(e, EndCommand::RejectOffer(OfferRefusal::NotAcceptable));
        }
        let hold = Hold::when(lacks(&offer, self.hold_between(end, peer), peer));
        self.new_rounds([e, p]);
        if let Some(dialog) = self.dialog_mut(e) {
            let before = dialog.far.replace(offer).map(Box::new);
            dialog.exchange = Exchange::Owed { before, hold };
            dialog.version += 1;
        }
        if let Some(call) = self.call_of(e) {
            self.settle(call);
        }
    }

    /// An offer before the call is answered, but after an offer and its answer went over early media (UPDATE, or the PRACK
    /// of that answer: RFC 3311 §5.1, RFC 6337 §2.2). It is answered with what the other end said last; the other end hears
    /// of it when the call is answered.
    fn far_offers_early(&mut self, e: EndId, offer: Option<Description>) {
        let peer = self.early_peer(e).and_then(|peer| self.ends.known(peer));
        let (Some(end), Some(peer), Some(offer)) = (self.ends.known(e), peer, offer) else {
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
        let wanted = Hold::when(lacks(&offer, hold, peer));
        if let Some(dialog) = self.dialog_mut(e) {
            if let Exchange::Owed { hold, .. } = &mut dialog.exchange {
                *hold = wanted;
            }
            dialog.far = Some(offer);
            dialog.version += 1;
            dialog.told = Some(told);
            dialog.said = said(&body);
        }
        self.command_end(e, EndCommand::AnswerOffer(body));
        if let Some(call) = self.call_of(e) {
            self.update_early_streams(call);
        }
    }

    /// With whom an unanswered end has early media: the caller with the only destination that has sent some, and that
    /// one with the caller.
    fn early_peer(&self, e: EndId) -> Option<EndId> {
        let call = self.calls.known(self.call_of(e)?)?;
        let [branch] = self.attempt(call.id)?.branches[..] else { return None };
        let (anchor, branch) = (self.end_of(call.anchor)?, self.end_of(branch)?);
        self.ends.known(branch)?.far()?;
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
        if let Some(dialog) = self.dialog_mut(e) {
            dialog.exchange = Exchange::Offered;
            dialog.said = said(&body);
            dialog.told = Some(truth);
            dialog.rounds = 0;
        }
        self.command_end(e, EndCommand::AnswerOffer(body));
    }

    /// The answer to an offer of ours.
    pub(crate) fn far_answers(&mut self, e: EndId, answer: Description) {
        let p = self.peer_end(e);
        let Some(dialog) = self.dialog_mut(e).filter(|dialog| dialog.exchange == Exchange::Offered) else {
            return;
        };
        dialog.exchange = Exchange::Idle;
        if dialog.far.as_ref().is_none_or(|far| moved(far, &answer)) {
            dialog.version += 1;
        }
        dialog.far = Some(answer);
        let strangers = std::mem::replace(&mut dialog.agreed_with, p) != p;
        let Some((end, peer)) = p.and_then(|p| self.two(e, p)) else { return };
        // What phones that talk already make of each other's later offers is theirs to know.
        let ends = !suits(end, peer) && (strangers || peer.is_local());
        let Some(call) = self.call_of(e) else { return };
        if ends {
            return self.end_call(call, NOTHING_IN_COMMON, None);
        }
        self.settle(call);
    }

    /// An offer of ours was refused. What somebody else wanted is refused to him; a call whose two ends never agreed
    /// can't live; else all is as before.
    pub(crate) fn offer_rejected(&mut self, e: EndId) {
        let p = self.peer_end(e);
        let Some(dialog) = self.dialog_mut(e).filter(|dialog| dialog.exchange == Exchange::Offered) else {
            return;
        };
        dialog.exchange = Exchange::Idle;
        // Its call waits for another destination, which will be offered to it anew.
        let Some(p) = p else { return };
        let strangers = dialog.agreed_with != Some(p);
        let refused =
            self.dialog_mut(p).and_then(|peer| match std::mem::replace(&mut peer.exchange, Exchange::Idle) {
                Exchange::Owed { before, .. } => {
                    peer.far = before.map(|before| *before);
                    Some(EndCommand::RejectOffer(OfferRefusal::NotAcceptable))
                }
                other @ (Exchange::Idle | Exchange::Offered) => {
                    peer.exchange = other;
                    None
                }
            });
        if let Some(refused) = refused {
            self.command_end(p, refused);
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
    let live = other.exchange.is_owed() || other.hold == Hold::On;
    let written = match (hold, purpose) {
        (Hold::On, _) => Some(Direction::Inactive),
        (Hold::Off, BodyFor::Answer) => None,
        (Hold::Off, BodyFor::Offer) => (!live).then_some(Direction::SendReceive),
    };
    Some(Body::Relay(other.far.clone()?, written))
}

/// Whether a dialog was told what this end says now.
fn knows(end: &End, of: &End) -> bool {
    let told = end.dialog().and_then(|dialog| dialog.told);
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
    let first = |dialog: &Dialog| matches!(dialog.exchange, Exchange::Owed { before: None, .. });
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
        encrypted: false,
        ..line.clone()
    }))
}

/// The address to be written where media stands still.
fn last_address(end: &End) -> SocketAddr {
    end.application().and_then(|end| end.last_address).unwrap_or(NOWHERE)
}

/// An application's offer: its whole set, or what is agreed already with an end whose description is known. A payload
/// type keeps its meaning (RFC 3264 §8.3.2).
pub(crate) fn local_offer(own: &End, end: Option<&End>, hold: Hold) -> Option<Body> {
    let terms = end.and_then(|end| Terms::of(own, end));
    let said = end.and_then(End::dialog).and_then(|dialog| dialog.said.as_ref());
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
        encrypted: false,
    }))
}

/// The answer to an offer for whose media there is nobody yet; none for an offer without audio.
fn silence(offer: &Description) -> Option<Body> {
    let line = offer.audio.iter().find(|line| line.is_live() && line.profile == Profile::Plain)?;
    Some(Body::Local(AudioLine {
        address: NOWHERE,
        formats: smallvec![line.formats.first()?.clone()],
        direction: Direction::Inactive,
        encrypted: false,
        ..line.clone()
    }))
}

/// Whether a phone wants no media of its own accord. An inactive answer to our own silence is none.
fn is_still_by_itself(end: &End) -> bool {
    (end.is_owed() || end.phone_holds()) && end.far().is_some_and(stands_still)
}

/// Something is under way there that a new offer would cross.
fn is_busy(end: &End) -> bool {
    let unanswered = |dialog: &Dialog| matches!(dialog.state, DialogState::Incoming | DialogState::Placed);
    !end.is_idle() || end.is_asked() || end.dialog().is_some_and(unanswered)
}

/// Whether this offer takes from its peer something that its end would have with what it was told: the phone holds. An
/// offer whose audio is refused (fax, T.38) is none that holds.
fn lacks(offer: &Description, between: Hold, peer: &End) -> bool {
    let line = match abilities(peer) {
        Some(abilities) => abilities.choose(offer).map(|(line, _)| line),
        None => offer.live_audio(),
    };
    let Some(offered) = line.map(|line| line.direction) else { return false };
    let theirs = peer.far().and_then(Description::live_audio);
    let natural = match (between, Hold::when(peer.phone_holds()), theirs) {
        (Hold::On, _, _) => Direction::Inactive,
        (Hold::Off, Hold::On, Some(theirs)) => theirs.direction.reversed(),
        (Hold::Off, Hold::On, None) | (Hold::Off, Hold::Off, _) => Direction::SendReceive,
    };
    (natural.sends() && !offered.sends()) || (natural.receives() && !offered.receives())
}

/// Whether an answer is another for the peer. Its direction answers ours and says nothing new.
fn moved(before: &Description, now: &Description) -> bool {
    let told = |description: &Description| {
        let line = description.live_audio();
        line.map(|line| {
            (line.place, line.address, line.formats.first().cloned(), line.dtmf_payload_type, line.encrypted)
        })
    };
    told(before) != told(now)
        || before.other_media != now.other_media
        || (now.is_encrypted() && before.text != now.text)
}
