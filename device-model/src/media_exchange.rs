//! The media exchange of a call's two talking ends.
//!
//! An end is either signalling (a phone or trunk, whose descriptions are relayed or answered) or an application (whose
//! description is made here). There is one rule: whoever made an offer gets its answer as soon as its peer knows the
//! offer and has an answer, and whoever was told something that is true no longer is offered what is true now.
//! [`CallControl::settle`] applies it until nothing changes; every event only notes what it brought and calls it.

use crate::cause::Cause;
use crate::control::CallControl;
use crate::ending::Clearing;
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, LegId, SessionId};
use crate::leg::{Channel, Exchange, Hold, Leg, Told, Wire};
use crate::media::{Abilities, AudioLine, Codec, Description, Direction, Format, MediaTermination, Profile};
use crate::port::{Body, Event, LegCommand, OfferRefusal};
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
pub(crate) fn abilities(leg: &Leg) -> Option<Abilities<'_>> {
    let abilities = leg.media.termination.as_deref()?.abilities()?;
    Some(Abilities {
        address: abilities.address.or(local_address(leg).map(|address| address.ip())),
        ..abilities
    })
}

fn own_codecs(leg: &Leg) -> &[Codec] {
    abilities(leg).map_or(&[], |abilities| abilities.codecs)
}

/// A payload format as an application's own offer has it.
fn own_format(codec: &Codec) -> Option<Format> {
    codec.defaults().map(|(_, _, payload_type)| Format { payload_type, codec: codec.clone() })
}

pub(crate) fn is_dynamic(leg: &Leg) -> bool {
    matches!(leg.media.termination.as_deref(), Some(MediaTermination::Dynamic { .. }))
}

/// Where an application receives, if that is known for this media session.
pub(crate) fn local_address(leg: &Leg) -> Option<SocketAddr> {
    match (leg.media.termination.as_deref()?, leg.media.channel) {
        (MediaTermination::None, _) => None,
        (MediaTermination::Static { address, .. }, _) => Some(*address),
        (MediaTermination::Dynamic { .. }, Channel::Open(address)) => Some(address),
        (MediaTermination::Dynamic { .. }, Channel::Closed | Channel::Asked) => None,
    }
}

/// Whether an application holds one of two ends that talk.
pub(crate) fn hold_between(x: &Leg, y: &Leg) -> Hold {
    match (x.media.held_by_application, y.media.held_by_application) {
        (Hold::Off, Hold::Off) => Hold::Off,
        (Hold::On, _) | (_, Hold::On) => Hold::On,
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
fn agreed(leg: &Leg, peer: &Leg) -> Option<(Format, u16)> {
    match (&peer.media.far, peer.is_application()) {
        (Some(_), false) => {
            let terms = Terms::of(leg, peer)?;
            let types = if peer.media.exchange.is_owed() { terms.output } else { terms.input };
            Some((Format { payload_type: types.payload_type, codec: terms.codec }, types.packet_ms))
        }
        (None, false) => Some((own_format(own_codecs(leg).first()?)?, PACKET_MS)),
        (_, true) => agreed_by_applications(leg, peer).map(|(format, packet_ms, _)| (format, packet_ms)),
    }
}

/// What two applications say to each other without any signalling: payload format, packet length, telephone-event.
pub(crate) fn agreed_by_applications(leg: &Leg, peer: &Leg) -> Option<(Format, u16, u8)> {
    let codecs = own_codecs(leg);
    let common = own_codecs(peer).iter().find(|codec| codecs.contains(codec))?;
    Some((own_format(common)?, PACKET_MS, DTMF_PAYLOAD_TYPE))
}

impl CallControl {
    pub(crate) fn two(&self, call: CallId) -> Option<(&Leg, &Leg)> {
        let (x, y) = self.calls.known(call)?.pair()?;
        Some((self.legs.known(x)?, self.legs.known(y)?))
    }

    /// The end that a leg talks to.
    pub(crate) fn peer_of(&self, leg: LegId) -> Option<LegId> {
        let (x, y) = self.calls.known(self.legs.known(leg)?.call)?.pair()?;
        if x == leg {
            Some(y)
        } else if y == leg {
            Some(x)
        } else {
            None
        }
    }

    /// Brings both ends to what is true, as far as it can be done now, and tells of the streams.
    pub(crate) fn settle(&mut self, call: CallId) {
        let Some((x, y)) = self.calls.known(call).and_then(|call| call.pair()) else { return };
        self.ensure_channel(x, y);
        self.ensure_channel(y, x);
        self.settle_wire(call);
        self.update_streams(call);
    }

    /// The signalling's part of [`CallControl::settle`].
    pub(crate) fn settle_wire(&mut self, call: CallId) {
        let Some((x, y)) = self.calls.known(call).and_then(|call| call.pair()) else { return };
        // Each end moves at most from owed to idle and from idle to offered.
        for _ in 0..4 {
            if !(self.settle_end(x, y) | self.settle_end(y, x)) {
                break;
            }
        }
    }

    /// One move of one end's signalling; false when there is none.
    fn settle_end(&mut self, e: LegId, p: LegId) -> bool {
        let (Some(end), Some(peer)) = (self.legs.known(e), self.legs.known(p)) else { return false };
        match end.wire {
            Wire::Incoming | Wire::Up => {}
            Wire::Absent | Wire::Placed | Wire::Over => return false,
        }
        let truth = Told { peer: p, version: peer.media.version, hold: hold_between(end, peer) };
        let knows = |leg: &Leg, of: &Leg| {
            leg.media.told.is_some_and(|told| told.peer == of.id && told.version == of.media.version)
        };
        match &end.media.exchange {
            Exchange::Offered => false,
            Exchange::Owed { hold, .. } => {
                let hold = *hold;
                // Where both have made an offer (a caller's, and that of a destination that was called without one) each is
                // the other's answer.
                // Where the caller was answered over early media, what it offered since then is no reason to wait.
                let early = end.wire == Wire::Incoming && end.media.told.is_some_and(|told| told.peer == p);
                let ready = peer.is_application()
                    || (peer.media.exchange == Exchange::Idle && (early || knows(peer, end)))
                    || crossed(end, peer);
                let Some(body) = self.body(end, peer, BodyFor::Answer).filter(|_| ready) else {
                    return false;
                };
                self.answer_owed(e, p, body, truth, hold);
                true
            }
            Exchange::Idle => {
                let wait = end.media.told == Some(truth)
                    || peer.media.exchange == Exchange::Offered
                    || end.media.rounds >= MAX_ROUNDS;
                let Some(body) = (!wait).then(|| self.body(end, peer, BodyFor::Offer)).flatten() else {
                    return false;
                };
                self.offer(e, body, truth);
                true
            }
        }
    }

    fn answer_owed(&mut self, e: LegId, p: LegId, body: Body, truth: Told, hold: Hold) {
        if let Some(peer) = self.legs.known_mut(p) {
            peer.media.agreed_with = Some(e);
        }
        let Some(end) = self.legs.known_mut(e) else { return };
        let first = std::mem::replace(&mut end.wire, Wire::Up) == Wire::Incoming;
        end.media.exchange = Exchange::Idle;
        end.media.told = Some(truth);
        end.media.agreed_with = Some(p);
        end.media.said = said(&body);
        self.command(
            e,
            if first { LegCommand::Answer { media: body } } else { LegCommand::AnswerOffer(body) },
        );
        self.phone_holds(e, hold);
    }

    fn offer(&mut self, e: LegId, body: Body, truth: Told) {
        let Some(end) = self.legs.known_mut(e) else { return };
        let first = std::mem::replace(&mut end.wire, Wire::Up) == Wire::Incoming;
        end.media.exchange = Exchange::Offered;
        end.media.told = Some(truth);
        end.media.said = said(&body);
        end.media.rounds += 1;
        self.command(
            e,
            if first { LegCommand::Answer { media: body } } else { LegCommand::Offer(Some(body)) },
        );
    }

    /// The phone's own hold has come into force or is over.
    fn phone_holds(&mut self, leg: LegId, hold: Hold) {
        let Some(end) = self.legs.known_mut(leg) else { return };
        let before = std::mem::replace(&mut end.media.held_by_phone, hold);
        if before == hold || end.media.held_by_application == Hold::On {
            return;
        }
        match (end.state, hold) {
            (LegState::Connected, Hold::On) => self.enter(leg, LegState::Held),
            (LegState::Held, Hold::Off) => self.enter(leg, LegState::Connected),
            _ => {}
        }
    }

    /// What `end` is to be told of `peer`, if that can be said now.
    fn body(&self, end: &Leg, peer: &Leg, purpose: BodyFor) -> Option<Body> {
        let hold = hold_between(end, peer);
        if peer.is_application() {
            return match purpose {
                BodyFor::Answer => local_answer(peer, end.media.far.as_ref()?, hold),
                BodyFor::Offer => local_offer(peer, Some(end), hold),
            };
        }
        let live = peer.media.exchange.is_owed() || peer.media.held_by_phone == Hold::On;
        let written = match (hold, purpose) {
            (Hold::On, _) => Some(Direction::Inactive),
            (Hold::Off, BodyFor::Answer) => None,
            (Hold::Off, BodyFor::Offer) => (!live).then_some(Direction::SendReceive),
        };
        Some(Body::Relay(peer.media.far.clone()?, written))
    }

    /// Opens a dynamic leg's channel when media is about to be, closes it when a media session is over.
    fn ensure_channel(&mut self, leg: LegId, peer: LegId) {
        let (Some(end), Some(far)) = (self.legs.known(leg), self.legs.known(peer)) else { return };
        if !is_dynamic(end) {
            return;
        }
        let wanted = hold_between(end, far) == Hold::Off && !is_still_by_itself(far);
        match (end.media.channel, wanted) {
            (Channel::Closed, true) => self.ask_for_address(leg, Some(peer)),
            // It was asked for the sake of a destination that is to be called.
            (Channel::Asked, false) if self.is_awaited(leg) => {}
            (Channel::Open(_) | Channel::Asked, false) => self.close_channel(leg),
            (Channel::Closed, false) | (Channel::Open(_) | Channel::Asked, true) => {}
        }
    }

    /// The application of a dynamic leg answers. The call is established when it has given its address; at once while the
    /// other end wants no media: the application is asked when it does.
    pub(crate) fn answer_with_address(&mut self, call: CallId, leg: LegId) {
        let Some(anchor) = self.calls.known(call).map(|call| call.anchor) else { return };
        let (Some(end), Some(other)) = (self.legs.known(leg), self.legs.known(anchor)) else { return };
        if agreed(end, other).is_none() {
            // The caller has changed its codecs since it was offered.
            let why = NOTHING_IN_COMMON.with_status(488);
            return self.branch_failed(leg, why, &[], Clearing::ByUs);
        }
        self.ensure_channel(leg, anchor);
        if self.legs.known(leg).is_some_and(|leg| leg.media.channel == Channel::Closed) {
            self.establish(call, leg);
        }
    }

    /// Asks the applications of a dynamic leg where they will receive; from whom may not be known yet.
    pub(crate) fn ask_for_address(&mut self, leg: LegId, peer: Option<LegId>) {
        let Some(end) = self.legs.known(leg) else { return };
        let other = peer.and_then(|peer| self.legs.known(peer));
        let asked = match other {
            Some(other) => agreed(end, other),
            None => own_codecs(end).first().and_then(own_format).map(|format| (format, PACKET_MS)),
        };
        let Some((format, packet_ms)) = asked else { return };
        let far = other.and_then(|other| match other.media.far {
            Some(_) => line_for(other, end).map(|line| line.address),
            None => local_address(other),
        });
        let deadline = self.plan.parameters.media_exchange;
        if let Some(end) = self.legs.known_mut(leg) {
            end.media.channel = Channel::Asked;
        }
        self.set_timer(Timer::MediaExchange(leg), deadline);
        let Format { payload_type, codec } = format;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.tell_of(leg, |leg| Event::OpenChannel { leg, codec, payload_type, packet_ms, far, deadline_ms });
    }

    pub(crate) fn close_channel(&mut self, leg: LegId) {
        self.timers.cancel(Timer::MediaExchange(leg));
        let Some(end) = self.legs.known_mut(leg) else { return };
        if let Channel::Open(address) = end.media.channel {
            end.media.last_address = Some(address);
        }
        end.media.channel = Channel::Closed;
        end.media.given_by = None;
    }

    /// The end that stays loses the one that it talked to, before the next has answered. An offer of its own can't wait
    /// for that: a 200 is repeated for 32 s and no longer (RFC 3261 §13.3.1.4). It is answered with silence.
    pub(crate) fn part(&mut self, anchor: LegId) {
        self.stop_streams(anchor);
        // The next has been offered its address: it stays.
        if !self.is_offered(anchor) {
            self.new_media_session(anchor);
        }
        let Some(end) = self.legs.known(anchor) else { return };
        let waits = self.calls.known(end.call).is_some_and(|call| call.pair().is_none());
        let Exchange::Owed { before, hold } = &end.media.exchange else { return };
        if !waits || end.wire != Wire::Up {
            return;
        }
        let (before, hold, body) = (before.clone(), *hold, end.media.far.as_ref().and_then(silence));
        let Some(end) = self.legs.known_mut(anchor) else { return };
        end.media.exchange = Exchange::Idle;
        let Some(body) = body else {
            end.media.far = before.map(|before| *before);
            return self.command(anchor, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        (end.media.told, end.media.agreed_with, end.media.said) = (None, None, said(&body));
        self.command(anchor, LegCommand::AnswerOffer(body));
        self.phone_holds(anchor, hold);
    }

    /// What was agreed with the last peer holds no more.
    pub(crate) fn new_media_session(&mut self, leg: LegId) {
        if self.legs.known(leg).is_some_and(is_dynamic) && !self.is_awaited(leg) {
            self.close_channel(leg);
        }
        if let Some(leg) = self.legs.known_mut(leg) {
            leg.media.rounds = 0;
            if leg.is_application() {
                leg.media.version += 1;
            }
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

    /// Whether the end that a dynamic leg is about to talk to has a line that an address of this family can reach.
    pub(crate) fn is_reached_from(&self, leg: LegId, address: SocketAddr) -> bool {
        let Some(end) = self.legs.known(leg) else { return false };
        let anchor = self.calls.known(end.call).map(|call| call.anchor).filter(|anchor| *anchor != leg);
        let other = self.peer_of(leg).or(anchor).and_then(|other| self.legs.known(other));
        let far = other.and_then(|other| other.media.far.as_ref());
        match (far, abilities(end)) {
            (Some(far), Some(able)) => {
                Abilities { address: Some(address.ip()), ..able }.choose(far).is_some()
            }
            (Some(_) | None, Some(_) | None) => true,
        }
    }

    /// An application has given its address.
    pub(crate) fn address_given(&mut self, leg: LegId, by: SessionId, address: SocketAddr) {
        self.timers.cancel(Timer::MediaExchange(leg));
        let Some(end) = self.legs.known_mut(leg) else { return };
        end.media.channel = Channel::Open(address);
        end.media.given_by = Some(by);
        end.media.version += 1;
        let call = end.call;
        if let Some(peer) = self.peer_of(leg).and_then(|peer| self.legs.known_mut(peer)) {
            peer.media.rounds = 0;
        }
        let answering = self.attempt(call).is_some_and(|attempt| attempt.answering == Some(leg));
        if answering {
            self.establish(call, leg);
        } else {
            self.settle(call);
            self.dial_on(call);
        }
    }

    /// A phone or trunk wants other media.
    pub(crate) fn far_offers(&mut self, e: LegId, offer: Option<Description>) {
        let Some(end) = self.legs.known(e) else { return };
        if matches!(end.wire, Wire::Incoming | Wire::Placed) {
            return self.far_offers_early(e, offer);
        }
        let peer = self.peer_of(e).and_then(|peer| self.legs.known(peer));
        let Some(peer) = peer.filter(|peer| end.wire == Wire::Up && !is_busy(end) && !is_busy(peer)) else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::Glare));
        };
        let (p, call) = (peer.id, end.call);
        let Some(offer) = offer else { return self.far_asks(e, p) };
        if abilities(peer).is_some_and(|abilities| abilities.choose(&offer).is_none()) {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        }
        let hold = Hold::when(lacks(&offer, end, peer));
        for leg in [e, p] {
            if let Some(leg) = self.legs.known_mut(leg) {
                leg.media.rounds = 0;
            }
        }
        if let Some(end) = self.legs.known_mut(e) {
            let before = end.media.far.replace(offer).map(Box::new);
            end.media.exchange = Exchange::Owed { before, hold };
            end.media.version += 1;
        }
        self.settle(call);
    }

    /// An offer before the call is answered, but after an offer and its answer went over early media (UPDATE, or the PRACK
    /// of that answer: RFC 3311 §5.1, RFC 6337 §2.2). It is answered with what the other end said last; the other end hears
    /// of it when the call is answered.
    fn far_offers_early(&mut self, e: LegId, offer: Option<Description>) {
        let peer = self.early_peer(e).and_then(|peer| self.legs.known(peer));
        let (Some(end), Some(peer), Some(offer)) = (self.legs.known(e), peer, offer) else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::Glare));
        };
        let common = |far: &Description| pair_of_lines(far, &offer).is_some();
        let body = match peer.is_application() {
            true => local_answer(peer, &offer, Hold::Off),
            false => peer.media.far.clone().filter(common).map(|far| Body::Relay(far, None)),
        };
        let call = end.call;
        let told = Told { peer: peer.id, version: peer.media.version, hold: hold_between(end, peer) };
        let Some(body) = body else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        let lacks = Hold::when(lacks(&offer, end, peer));
        if let Some(end) = self.legs.known_mut(e) {
            if let Exchange::Owed { hold, .. } = &mut end.media.exchange {
                *hold = lacks;
            }
            end.media.far = Some(offer);
            end.media.version += 1;
            end.media.told = Some(told);
            end.media.said = said(&body);
        }
        self.command(e, LegCommand::AnswerOffer(body));
        self.update_early_streams(call);
    }

    /// With whom an unanswered end has early media: the caller with the only destination that has sent some, and that
    /// one with the caller.
    fn early_peer(&self, e: LegId) -> Option<LegId> {
        let call = self.calls.known(self.legs.known(e)?.call)?;
        let [branch] = self.attempt(call.id)?.branches[..] else { return None };
        self.legs.known(branch)?.media.far.as_ref()?;
        match e {
            _ if e == call.anchor => Some(branch),
            _ if e == branch => Some(call.anchor),
            _ => None,
        }
    }

    /// A re-INVITE without an offer is offered what its peer last said.
    fn far_asks(&mut self, e: LegId, p: LegId) {
        let (Some(end), Some(peer)) = (self.legs.known(e), self.legs.known(p)) else { return };
        let truth = Told { peer: p, version: peer.media.version, hold: hold_between(end, peer) };
        let still = Hold::when(end.media.far.as_ref().is_some_and(stands_still));
        let body = self.body(end, peer, BodyFor::Offer).or_else(|| local_offer(peer, Some(end), still));
        let Some(body) = body else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        if let Some(end) = self.legs.known_mut(e) {
            end.media.exchange = Exchange::Offered;
            end.media.said = said(&body);
            end.media.told = Some(truth);
            end.media.rounds = 0;
        }
        self.command(e, LegCommand::AnswerOffer(body));
    }

    /// The answer to an offer of ours.
    pub(crate) fn far_answers(&mut self, e: LegId, answer: Description) {
        let peer = self.peer_of(e);
        let Some(end) = self.legs.known_mut(e).filter(|end| end.media.exchange == Exchange::Offered) else {
            return;
        };
        let call = end.call;
        end.media.exchange = Exchange::Idle;
        if end.media.far.as_ref().is_none_or(|far| moved(far, &answer)) {
            end.media.version += 1;
        }
        end.media.far = Some(answer);
        let strangers = std::mem::replace(&mut end.media.agreed_with, peer) != peer;
        let (Some(end), Some(peer)) = (self.legs.known(e), peer.and_then(|peer| self.legs.known(peer)))
        else {
            return;
        };
        // What phones that talk already make of each other's later offers is theirs to know.
        if !suits(end, peer) && (strangers || peer.is_application()) {
            return self.end_call(call, NOTHING_IN_COMMON, None);
        }
        self.settle(call);
    }

    /// An offer of ours was refused. What somebody else wanted is refused to him; a call whose two ends never agreed
    /// can't live; else all is as before.
    pub(crate) fn offer_rejected(&mut self, e: LegId) {
        let p = self.peer_of(e);
        let Some(end) = self.legs.known_mut(e).filter(|end| end.media.exchange == Exchange::Offered) else {
            return;
        };
        end.media.exchange = Exchange::Idle;
        // Its call waits for another destination, which will be offered to it anew.
        let Some(p) = p else { return };
        let (call, strangers) = (end.call, end.media.agreed_with != Some(p));
        let Some(peer) = self.legs.known_mut(p) else { return };
        let owed = match std::mem::replace(&mut peer.media.exchange, Exchange::Idle) {
            Exchange::Owed { before, .. } => Some(before),
            other @ (Exchange::Idle | Exchange::Offered) => {
                peer.media.exchange = other;
                None
            }
        };
        if let Some(before) = owed {
            peer.media.far = before.map(|before| *before);
            self.command(p, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        }
        if strangers {
            return self.end_call(call, NOTHING_IN_COMMON, None);
        }
        self.settle(call);
    }
}

/// The line of a far end's description that counts with this peer.
fn line_for<'a>(end: &'a Leg, peer: &Leg) -> Option<&'a AudioLine> {
    let far = end.media.far.as_ref()?;
    match abilities(peer) {
        Some(abilities) => abilities.choose(far).map(|(line, _)| line),
        None => far.live_audio(),
    }
}

/// Whether there is anything to talk by with what this end said last.
pub(crate) fn suits(end: &Leg, peer: &Leg) -> bool {
    let Some(far) = &end.media.far else { return false };
    match (abilities(peer), &peer.media.far) {
        (Some(abilities), _) => abilities.choose(far).is_some(),
        (None, Some(other)) if far.refuses_all() => other.refuses_all(),
        (None, Some(other)) if end.media.exchange.is_owed() && peer.media.exchange.is_owed() => {
            pair_of_lines(far, other).is_some() || (far.other_media && other.other_media)
        }
        (None, Some(_)) => true,
        (None, None) => !far.refuses_all(),
    }
}

/// Both have made their first offer, and nobody has answered.
fn crossed(end: &Leg, peer: &Leg) -> bool {
    [end, peer].iter().all(|leg| matches!(leg.media.exchange, Exchange::Owed { before: None, .. }))
}

/// What the model itself said of audio.
pub(crate) fn said(body: &Body) -> Option<AudioLine> {
    match body {
        Body::Local(line) => Some(line.clone()),
        Body::Relay(..) => None,
    }
}

/// An application's answer: the agreed codec alone, and telephone-event where it was offered.
fn local_answer(leg: &Leg, offer: &Description, hold: Hold) -> Option<Body> {
    let (line, format) = abilities(leg)?.choose(offer)?;
    let still = hold == Hold::On || line.direction == Direction::Inactive;
    let address = local_address(leg).or_else(|| still.then(|| leg.media.last_address.unwrap_or(NOWHERE)))?;
    Some(Body::Local(AudioLine {
        address,
        formats: smallvec![format.clone()],
        direction: match hold {
            Hold::On => Direction::Inactive,
            Hold::Off => line.direction.reversed(),
        },
        encrypted: false,
        ..line.clone()
    }))
}

/// An application's offer: its whole set, or what is agreed already with an end whose description is known. A payload
/// type keeps its meaning (RFC 3264 §8.3.2).
pub(crate) fn local_offer(leg: &Leg, end: Option<&Leg>, hold: Hold) -> Option<Body> {
    let terms = end.and_then(|end| Terms::of(leg, end));
    let said = end.and_then(|end| end.media.said.as_ref());
    let formats: SmallVec<[Format; 4]> = match &terms {
        Some(terms) => {
            smallvec![Format { payload_type: terms.input.payload_type, codec: terms.codec.clone() }]
        }
        None => own_codecs(leg).iter().filter_map(own_format).collect(),
    };
    let still = hold == Hold::On;
    let address = local_address(leg).or_else(|| still.then(|| leg.media.last_address.unwrap_or(NOWHERE)))?;
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
        direction: if still { Direction::Inactive } else { Direction::SendReceive },
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
fn is_still_by_itself(leg: &Leg) -> bool {
    let own = leg.media.exchange.is_owed() || leg.media.held_by_phone == Hold::On;
    own && leg.media.far.as_ref().is_some_and(stands_still)
}

/// Something is under way there that a new offer would cross.
fn is_busy(leg: &Leg) -> bool {
    leg.media.exchange != Exchange::Idle
        || leg.media.channel == Channel::Asked
        || matches!(leg.wire, Wire::Incoming | Wire::Placed)
}

/// Whether this offer takes from its peer something that the end would have with what it was told: the phone holds. An
/// offer whose audio is refused (fax, T.38) is none that holds.
fn lacks(offer: &Description, end: &Leg, peer: &Leg) -> bool {
    let line = match abilities(peer) {
        Some(abilities) => abilities.choose(offer).map(|(line, _)| line),
        None => offer.live_audio(),
    };
    let Some(offered) = line.map(|line| line.direction) else { return false };
    let theirs = peer.media.far.as_ref().and_then(Description::live_audio);
    let natural = match (hold_between(end, peer), peer.media.held_by_phone, theirs) {
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
