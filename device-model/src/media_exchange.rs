//! The media exchange of a call's two talking ends.
//!
//! An end is either signalling (a phone or trunk, whose descriptions are relayed or answered) or an application (whose
//! description is made here). There is one rule: whoever made an offer gets its answer as soon as its peer knows the
//! offer and has an answer, and whoever was told something that is true no longer is offered what is true now.
//! [`CallControl::settle`] applies it until nothing changes; every event only notes what it brought and calls it.

use crate::attempt::{Failure, Follow};
use crate::cause::Cause;
use crate::control::CallControl;
use crate::ids::{CallId, LegId, SessionId};
use crate::leg::{Channel, Exchange, Leg, Told, Wire};
use crate::media::{Codec, Description, Direction, Format, MediaTermination, Stream, StreamDirection};
use crate::port::{Body, Event, LegCommand, OfferRefusal};
use crate::timers::Timer;
use crate::view::LegState;
use smallvec::{SmallVec, smallvec};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Offers that the model makes on its own account to one end before somebody wants something new. Two ends whose
/// every answer differs from the one before would otherwise go on for ever; at the limit the last answers stand.
const MAX_ROUNDS: u8 = 3;
/// RFC 4733 telephone-event in our own offers.
const DTMF_PAYLOAD_TYPE: u8 = 101;
/// Packet length of our own offers, milliseconds.
const PACKET_MS: u16 = 20;
/// Written where media stands still and no address was ever given: an address that discards (RFC 863), for port 0
/// would refuse the stream.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);

/// The codecs of an application that ends media.
pub(crate) fn codecs_of(termination: &MediaTermination) -> Option<&[Codec]> {
    match termination {
        MediaTermination::None => None,
        MediaTermination::Static { codecs, .. } | MediaTermination::Dynamic { codecs, .. } => Some(codecs),
    }
}

/// The first format of the far end that the application has: the far end's order decides.
pub(crate) fn negotiate<'a>(far: &'a Description, codecs: &[Codec]) -> Option<&'a Format> {
    far.formats.iter().find(|format| codecs.contains(&format.codec))
}

fn own_codecs(leg: &Leg) -> &[Codec] {
    leg.media.termination.as_deref().and_then(codecs_of).unwrap_or(&[])
}

fn is_dynamic(leg: &Leg) -> bool {
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

fn is_silent(x: &Leg, y: &Leg) -> bool {
    x.media.held_by_application || y.media.held_by_application
}

pub(crate) fn stands_still(description: &Description) -> bool {
    description.direction == Direction::Inactive || description.address.port() == 0
}

/// What an application will receive from this peer: codec, payload type, packet length.
fn agreed(leg: &Leg, peer: &Leg) -> Option<(Format, u16, Option<u8>)> {
    let own = |codec: &Codec| {
        codec.defaults().map(|(_, _, payload_type)| Format { payload_type, codec: codec.clone() })
    };
    let codecs = own_codecs(leg);
    match (&peer.media.far, peer.is_application()) {
        (Some(far), false) => Some((negotiate(far, codecs)?.clone(), far.packet_ms, far.dtmf_payload_type)),
        (None, false) => Some((own(codecs.first()?)?, PACKET_MS, Some(DTMF_PAYLOAD_TYPE))),
        (_, true) => {
            let common = own_codecs(peer).iter().find(|codec| codecs.contains(codec))?;
            Some((own(common)?, PACKET_MS, Some(DTMF_PAYLOAD_TYPE)))
        }
    }
}

impl CallControl {
    fn two(&self, call: CallId) -> Option<(&Leg, &Leg)> {
        let (x, y) = self.calls.get(&call)?.pair()?;
        Some((self.legs.get(&x)?, self.legs.get(&y)?))
    }

    /// The end that a leg talks to.
    pub(crate) fn peer_of(&self, leg: LegId) -> Option<LegId> {
        let (x, y) = self.calls.get(&self.legs.get(&leg)?.call)?.pair()?;
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
        let Some((x, y)) = self.calls.get(&call).and_then(|call| call.pair()) else { return };
        self.ensure_channel(x, y);
        self.ensure_channel(y, x);
        self.settle_wire(call);
        self.update_streams(call);
    }

    /// The signalling's part of [`CallControl::settle`].
    pub(crate) fn settle_wire(&mut self, call: CallId) {
        let Some((x, y)) = self.calls.get(&call).and_then(|call| call.pair()) else { return };
        // Each end moves at most from owed to idle and from idle to offered.
        for _ in 0..4 {
            if !(self.settle_end(x, y) | self.settle_end(y, x)) {
                break;
            }
        }
    }

    /// One move of one end's signalling; false when there is none.
    fn settle_end(&mut self, e: LegId, p: LegId) -> bool {
        let (Some(end), Some(peer)) = (self.legs.get(&e), self.legs.get(&p)) else { return false };
        match end.wire {
            Wire::Incoming | Wire::Up => {}
            Wire::Absent | Wire::Placed | Wire::Over => return false,
        }
        let truth = Told { peer: p, version: peer.media.version, silent: is_silent(end, peer) };
        let knows = |leg: &Leg, of: &Leg| {
            leg.media.told.is_some_and(|told| told.peer == of.id && told.version == of.media.version)
        };
        match &end.media.exchange {
            Exchange::Offered => false,
            Exchange::Owed { holds, .. } => {
                let holds = *holds;
                let ready =
                    peer.is_application() || (peer.media.exchange == Exchange::Idle && knows(peer, end));
                let Some(body) = self.body(end, peer, true).filter(|_| ready) else { return false };
                self.answer_owed(e, p, body, truth, holds);
                true
            }
            Exchange::Idle => {
                let wait = end.media.told == Some(truth)
                    || peer.media.exchange == Exchange::Offered
                    || end.media.rounds >= MAX_ROUNDS;
                let Some(body) = (!wait).then(|| self.body(end, peer, false)).flatten() else { return false };
                self.offer(e, body, truth);
                true
            }
        }
    }

    fn answer_owed(&mut self, e: LegId, p: LegId, body: Body, truth: Told, holds: bool) {
        if let Some(peer) = self.legs.get_mut(&p) {
            peer.media.agreed_with = Some(e);
        }
        let Some(end) = self.legs.get_mut(&e) else { return };
        let first = std::mem::replace(&mut end.wire, Wire::Up) == Wire::Incoming;
        end.media.exchange = Exchange::Idle;
        end.media.told = Some(truth);
        end.media.agreed_with = Some(p);
        self.command(
            e,
            if first { LegCommand::Answer { media: body } } else { LegCommand::AnswerOffer(body) },
        );
        self.phone_holds(e, holds);
    }

    fn offer(&mut self, e: LegId, body: Body, truth: Told) {
        let Some(end) = self.legs.get_mut(&e) else { return };
        let first = std::mem::replace(&mut end.wire, Wire::Up) == Wire::Incoming;
        end.media.exchange = Exchange::Offered;
        end.media.told = Some(truth);
        end.media.rounds += 1;
        self.command(
            e,
            if first { LegCommand::Answer { media: body } } else { LegCommand::Offer(Some(body)) },
        );
    }

    /// The phone's own hold has come into force or is over.
    fn phone_holds(&mut self, leg: LegId, holds: bool) {
        let Some(end) = self.legs.get_mut(&leg) else { return };
        if std::mem::replace(&mut end.media.held_by_phone, holds) == holds || end.media.held_by_application {
            return;
        }
        match (end.state, holds) {
            (LegState::Connected, true) => self.enter(leg, LegState::Held),
            (LegState::Held, false) => self.enter(leg, LegState::Connected),
            _ => {}
        }
    }

    /// What `end` is to be told of `peer`, if that can be said now.
    fn body(&self, end: &Leg, peer: &Leg, answering: bool) -> Option<Body> {
        let silent = is_silent(end, peer);
        if peer.is_application() {
            return match answering {
                true => self.local_answer(peer, end.media.far.as_ref()?, silent),
                false => self.local_offer(peer, end.media.far.as_ref(), silent),
            };
        }
        let live = match peer.media.exchange {
            Exchange::Owed { .. } => true,
            Exchange::Idle | Exchange::Offered => false,
        };
        let written = match (silent, answering || live || peer.media.held_by_phone) {
            (true, _) => Some(Direction::Inactive),
            (false, true) => None,
            (false, false) => Some(Direction::SendReceive),
        };
        Some(Body::Relay(peer.media.far.clone()?, written))
    }

    /// An application's answer: the agreed codec alone, and telephone-event where it was offered.
    fn local_answer(&self, leg: &Leg, offer: &Description, silent: bool) -> Option<Body> {
        let format = negotiate(offer, own_codecs(leg))?.clone();
        let still = silent || stands_still(offer);
        let address =
            local_address(leg).or_else(|| still.then(|| leg.media.last_address.unwrap_or(NOWHERE)))?;
        Some(Body::Local(Description {
            address,
            formats: smallvec![format],
            dtmf_payload_type: offer.dtmf_payload_type,
            direction: if silent { Direction::Inactive } else { offer.direction.reversed() },
            packet_ms: offer.packet_ms,
            encrypted: false,
            text: Arc::from([]),
        }))
    }

    /// An application's offer: its whole set, or what is agreed already with an end whose description is known.
    pub(crate) fn local_offer(&self, leg: &Leg, far: Option<&Description>, silent: bool) -> Option<Body> {
        let codecs = own_codecs(leg);
        let agreed = far.and_then(|far| negotiate(far, codecs));
        let formats: SmallVec<[Format; 4]> = match agreed {
            Some(format) => smallvec![format.clone()],
            None => {
                let own = |codec: &Codec| {
                    codec.defaults().map(|(_, _, payload_type)| Format { payload_type, codec: codec.clone() })
                };
                codecs.iter().filter_map(own).collect()
            }
        };
        let address =
            local_address(leg).or_else(|| silent.then(|| leg.media.last_address.unwrap_or(NOWHERE)))?;
        Some(Body::Local(Description {
            address,
            formats,
            dtmf_payload_type: far.and_then(|far| far.dtmf_payload_type).or(Some(DTMF_PAYLOAD_TYPE)),
            direction: if silent { Direction::Inactive } else { Direction::SendReceive },
            packet_ms: far.map_or(PACKET_MS, |far| far.packet_ms),
            encrypted: false,
            text: Arc::from([]),
        }))
    }

    /// Opens a dynamic leg's channel when media is about to be, closes it when a media session is over.
    fn ensure_channel(&mut self, leg: LegId, peer: LegId) {
        let (Some(end), Some(far)) = (self.legs.get(&leg), self.legs.get(&peer)) else { return };
        if !is_dynamic(end) {
            return;
        }
        let wanted = !is_silent(end, far) && !is_still_by_itself(far);
        match (end.media.channel, wanted) {
            (Channel::Closed, true) => self.ask_for_address(leg, peer),
            (Channel::Open(_) | Channel::Asked, false) => self.close_channel(leg),
            (Channel::Closed, false) | (Channel::Open(_) | Channel::Asked, true) => {}
        }
    }

    /// The application of a dynamic leg answers. The call is established when it has given its address; at once while the
    /// other end wants no media: the application is asked when it does.
    pub(crate) fn answer_with_address(&mut self, call: CallId, leg: LegId) {
        let Some(anchor) = self.calls.get(&call).map(|call| call.anchor) else { return };
        let (Some(end), Some(other)) = (self.legs.get(&leg), self.legs.get(&anchor)) else { return };
        if agreed(end, other).is_none() {
            // The caller has changed its codecs since it was offered.
            let why = Failure { cause: Cause::INCOMPATIBLE_DESTINATION, status: Some(488) };
            return self.branch_failed(leg, why, &[], Follow::None, true);
        }
        self.ensure_channel(leg, anchor);
        if self.legs.get(&leg).is_some_and(|leg| leg.media.channel == Channel::Closed) {
            self.establish(call, leg);
        }
    }

    fn ask_for_address(&mut self, leg: LegId, peer: LegId) {
        let (Some(end), Some(other)) = (self.legs.get(&leg), self.legs.get(&peer)) else { return };
        let Some((format, packet_ms, _)) = agreed(end, other) else { return };
        let far = match &other.media.far {
            Some(far) => Some(far.address),
            None => local_address(other),
        };
        let deadline = self.plan.parameters.media_exchange;
        if let Some(end) = self.legs.get_mut(&leg) {
            end.media.channel = Channel::Asked;
        }
        self.set_timer(Timer::MediaExchange(leg), deadline);
        let Format { payload_type, codec } = format;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.tell_of(leg, |leg| Event::OpenChannel { leg, codec, payload_type, packet_ms, far, deadline_ms });
    }

    pub(crate) fn close_channel(&mut self, leg: LegId) {
        self.timers.cancel(Timer::MediaExchange(leg));
        let Some(end) = self.legs.get_mut(&leg) else { return };
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
        self.new_media_session(anchor);
        let Some(end) = self.legs.get(&anchor) else { return };
        let waits = self.calls.get(&end.call).is_some_and(|call| call.pair().is_none());
        match (&end.media.exchange, end.media.far.as_ref().and_then(silence)) {
            (Exchange::Owed { holds, .. }, Some(body)) if waits && end.wire == Wire::Up => {
                let holds = *holds;
                if let Some(end) = self.legs.get_mut(&anchor) {
                    end.media.exchange = Exchange::Idle;
                    end.media.told = None;
                    end.media.agreed_with = None;
                }
                self.command(anchor, LegCommand::AnswerOffer(body));
                self.phone_holds(anchor, holds);
            }
            (Exchange::Owed { .. } | Exchange::Idle | Exchange::Offered, _) => {}
        }
    }

    /// What was agreed with the last peer holds no more.
    pub(crate) fn new_media_session(&mut self, leg: LegId) {
        if self.legs.get(&leg).is_some_and(is_dynamic) {
            self.close_channel(leg);
        }
        if let Some(leg) = self.legs.get_mut(&leg) {
            leg.media.rounds = 0;
            if leg.is_application() {
                leg.media.version += 1;
            }
        }
    }

    /// The application whose address it is has gone, and another has the device open: the streams cease, and the others
    /// are asked. Nobody answers in time → as at any other opening of the channel.
    pub(crate) fn ask_others(&mut self, leg: LegId) {
        let Some(call) = self.legs.get(&leg).map(|leg| leg.call) else { return };
        for end in [Some(leg), self.peer_of(leg)].into_iter().flatten() {
            self.stop_streams(end);
        }
        self.new_media_session(leg);
        self.settle(call);
    }

    /// An application has given its address.
    pub(crate) fn address_given(&mut self, leg: LegId, by: SessionId, address: SocketAddr) {
        self.timers.cancel(Timer::MediaExchange(leg));
        let Some(end) = self.legs.get_mut(&leg) else { return };
        end.media.channel = Channel::Open(address);
        end.media.given_by = Some(by);
        end.media.version += 1;
        let call = end.call;
        if let Some(peer) = self.peer_of(leg).and_then(|peer| self.legs.get_mut(&peer)) {
            peer.media.rounds = 0;
        }
        let answering = self
            .calls
            .get(&call)
            .and_then(|call| call.attempt())
            .is_some_and(|attempt| attempt.answering == Some(leg));
        if answering {
            self.establish(call, leg);
        } else {
            self.settle(call);
        }
    }

    /// A phone or trunk wants other media.
    pub(crate) fn far_offers(&mut self, e: LegId, offer: Option<Description>) {
        let Some(end) = self.legs.get(&e) else { return };
        if matches!(end.wire, Wire::Incoming | Wire::Placed) {
            return self.far_offers_early(e, offer);
        }
        let peer = self.peer_of(e).and_then(|peer| self.legs.get(&peer));
        let Some(peer) = peer.filter(|peer| end.wire == Wire::Up && !is_busy(end) && !is_busy(peer)) else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::Glare));
        };
        let (p, call) = (peer.id, end.call);
        let Some(offer) = offer else { return self.far_asks(e, p) };
        if peer.is_application() && negotiate(&offer, own_codecs(peer)).is_none() {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        }
        let holds = lacks(&offer, end, peer);
        for leg in [e, p] {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.media.rounds = 0;
            }
        }
        if let Some(end) = self.legs.get_mut(&e) {
            let before = end.media.far.replace(offer).map(Box::new);
            end.media.exchange = Exchange::Owed { before, holds };
            end.media.version += 1;
        }
        self.settle(call);
    }

    /// An offer before the call is answered, but after an offer and its answer went over early media (UPDATE, or the PRACK
    /// of that answer: RFC 3311 §5.1, RFC 6337 §2.2). It is answered with what the other end said last; the other end hears
    /// of it when the call is answered.
    fn far_offers_early(&mut self, e: LegId, offer: Option<Description>) {
        let peer = self.early_peer(e).and_then(|peer| self.legs.get(&peer));
        let (Some(end), Some(peer), Some(offer)) = (self.legs.get(&e), peer, offer) else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::Glare));
        };
        let common =
            |far: &Description| far.formats.iter().any(|f| offer.formats.iter().any(|o| o.codec == f.codec));
        let body = match peer.is_application() {
            true => self.local_answer(peer, &offer, false),
            false => peer.media.far.clone().filter(common).map(|far| Body::Relay(far, None)),
        };
        let told = Told { peer: peer.id, version: peer.media.version, silent: is_silent(end, peer) };
        let Some(body) = body else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        if let Some(end) = self.legs.get_mut(&e) {
            end.media.far = Some(offer);
            end.media.version += 1;
            end.media.told = Some(told);
        }
        self.command(e, LegCommand::AnswerOffer(body));
    }

    /// With whom an unanswered end has early media: the caller with the only destination that has sent some, and that
    /// one with the caller.
    fn early_peer(&self, e: LegId) -> Option<LegId> {
        let call = self.calls.get(&self.legs.get(&e)?.call)?;
        let [branch] = call.attempt()?.branches[..] else { return None };
        self.legs.get(&branch)?.media.far.as_ref()?;
        match e {
            _ if e == call.anchor => Some(branch),
            _ if e == branch => Some(call.anchor),
            _ => None,
        }
    }

    /// A re-INVITE without an offer is offered what its peer last said.
    fn far_asks(&mut self, e: LegId, p: LegId) {
        let (Some(end), Some(peer)) = (self.legs.get(&e), self.legs.get(&p)) else { return };
        let truth = Told { peer: p, version: peer.media.version, silent: is_silent(end, peer) };
        let still = end.media.far.as_ref().is_some_and(stands_still);
        let body =
            self.body(end, peer, false).or_else(|| self.local_offer(peer, end.media.far.as_ref(), still));
        let Some(body) = body else {
            return self.command(e, LegCommand::RejectOffer(OfferRefusal::NotAcceptable));
        };
        if let Some(end) = self.legs.get_mut(&e) {
            end.media.exchange = Exchange::Offered;
            end.media.told = Some(truth);
            end.media.rounds = 0;
        }
        self.command(e, LegCommand::AnswerOffer(body));
    }

    /// The answer to an offer of ours.
    pub(crate) fn far_answers(&mut self, e: LegId, answer: Description) {
        let peer = self.peer_of(e);
        let Some(end) = self.legs.get_mut(&e).filter(|end| end.media.exchange == Exchange::Offered) else {
            return;
        };
        let call = end.call;
        end.media.exchange = Exchange::Idle;
        if end.media.far.as_ref().is_none_or(|far| moved(far, &answer)) {
            end.media.version += 1;
        }
        end.media.far = Some(answer);
        end.media.agreed_with = peer;
        let (Some(end), Some(peer)) = (self.legs.get(&e), peer.and_then(|peer| self.legs.get(&peer))) else {
            return;
        };
        let common = end.media.far.as_ref().and_then(|far| negotiate(far, own_codecs(peer)));
        if peer.is_application() && common.is_none() {
            return self.end_call(
                call,
                Failure { cause: Cause::INCOMPATIBLE_DESTINATION, status: None },
                None,
            );
        }
        self.settle(call);
    }

    /// An offer of ours was refused. What somebody else wanted is refused to him; a call whose two ends never agreed
    /// can't live; else all is as before.
    pub(crate) fn offer_rejected(&mut self, e: LegId) {
        let p = self.peer_of(e);
        let Some(end) = self.legs.get_mut(&e).filter(|end| end.media.exchange == Exchange::Offered) else {
            return;
        };
        end.media.exchange = Exchange::Idle;
        // Its call waits for another destination, which will be offered to it anew.
        let Some(p) = p else { return };
        let (call, strangers) = (end.call, end.media.agreed_with != Some(p));
        let Some(peer) = self.legs.get_mut(&p) else { return };
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
            return self.end_call(
                call,
                Failure { cause: Cause::INCOMPATIBLE_DESTINATION, status: None },
                None,
            );
        }
        self.settle(call);
    }

    /// Tells which streams ceased and which began, once both ends have agreed; silence is told at once.
    pub(crate) fn update_streams(&mut self, call: CallId) {
        let Some((x, y)) = self.two(call) else { return };
        let (x_id, y_id) = (x.id, y.id);
        if is_silent(x, y) {
            self.stop_streams(x_id);
            self.stop_streams(y_id);
            return;
        }
        if x.media.exchange != Exchange::Idle
            || y.media.exchange != Exchange::Idle
            || x.media.channel == Channel::Asked
            || y.media.channel == Channel::Asked
        {
            return;
        }
        let wanted = [(x_id, streams(x, y)), (y_id, streams(y, x))];
        for (leg, streams) in wanted {
            self.change_streams(leg, streams);
        }
    }

    pub(crate) fn stop_streams(&mut self, leg: LegId) {
        self.change_streams(leg, [None, None]);
    }

    fn change_streams(&mut self, id: LegId, wanted: [Option<Stream>; 2]) {
        // Of a hidden leg the streams stay those that were told.
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.muted.is_none()) else { return };
        let changes = std::array::from_fn::<bool, 2, _>(|i| !same_stream(&leg.media.running[i], &wanted[i]));
        let before = std::mem::replace(&mut leg.media.running, wanted.clone());
        for (i, direction) in [StreamDirection::Input, StreamDirection::Output].into_iter().enumerate() {
            if changes[i] && before[i].is_some() {
                self.tell_of(id, |leg| Event::MediaStopped(leg, direction));
            }
        }
        for (i, stream) in wanted.into_iter().enumerate() {
            if let Some(stream) = stream.filter(|_| changes[i]) {
                self.tell_of(id, |leg| Event::MediaStarted(leg, stream));
            }
        }
    }
}

/// The answer to an offer for whose media there is nobody yet.
fn silence(offer: &Description) -> Option<Body> {
    Some(Body::Local(Description {
        address: NOWHERE,
        formats: smallvec![offer.formats.first()?.clone()],
        dtmf_payload_type: offer.dtmf_payload_type,
        direction: Direction::Inactive,
        packet_ms: offer.packet_ms,
        encrypted: false,
        text: Arc::from([]),
    }))
}

/// Whether a phone wants no media of its own accord. An inactive answer to our own silence is none.
fn is_still_by_itself(leg: &Leg) -> bool {
    let own = match leg.media.exchange {
        Exchange::Owed { .. } => true,
        Exchange::Idle | Exchange::Offered => leg.media.held_by_phone,
    };
    own && leg.media.far.as_ref().is_some_and(stands_still)
}

/// Something is under way there that a new offer would cross.
fn is_busy(leg: &Leg) -> bool {
    leg.media.exchange != Exchange::Idle
        || leg.media.channel == Channel::Asked
        || matches!(leg.wire, Wire::Incoming | Wire::Placed)
}

/// Whether this offer takes from its peer something that the end would have with what it was told: the phone holds.
fn lacks(offer: &Description, end: &Leg, peer: &Leg) -> bool {
    let natural = match (is_silent(end, peer), peer.media.held_by_phone, &peer.media.far) {
        (true, _, _) => Direction::Inactive,
        (false, true, Some(far)) => far.direction.reversed(),
        (false, true, None) | (false, false, _) => Direction::SendReceive,
    };
    let offered = if offer.address.port() == 0 { Direction::Inactive } else { offer.direction };
    (natural.sends() && !offered.sends()) || (natural.receives() && !offered.receives())
}

/// Whether an answer is another for the peer. Its direction answers ours and says nothing new.
fn moved(before: &Description, now: &Description) -> bool {
    before.address != now.address
        || before.formats.first() != now.formats.first()
        || before.dtmf_payload_type != now.dtmf_payload_type
        || before.encrypted != now.encrypted
        || (now.encrypted && before.text != now.text)
}

/// The mode tells of the other stream too and is no reason to start this one again.
fn same_stream(a: &Option<Stream>, b: &Option<Stream>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Stream { mode: b.mode, ..a.clone() } == *b,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The streams of a leg, as its device sees them.
fn streams(leg: &Leg, peer: &Leg) -> [Option<Stream>; 2] {
    let none = [None, None];
    if leg.at.line().is_none() {
        return none;
    }
    match (leg.is_application(), peer.is_application()) {
        (true, false) => application_streams(leg, peer).unwrap_or(none),
        (true, true) => inner_streams(leg, peer).unwrap_or(none),
        (false, true) => {
            let Some([input, output]) = application_streams(peer, leg) else { return none };
            let (Some(here), Some(there)) =
                (leg.media.far.as_ref().map(|far| far.address), local_address(peer))
            else {
                return none;
            };
            // The other way round: what the application sends is what the phone receives.
            pair_of(output.map(|s| (here, s)), input.map(|s| (there, s)))
        }
        (false, false) => relayed_streams(leg, peer).unwrap_or(none),
    }
}

fn application_streams(leg: &Leg, peer: &Leg) -> Option<[Option<Stream>; 2]> {
    let far = peer.media.far.as_ref().filter(|far| far.address.port() != 0)?;
    let local = local_address(leg)?;
    let stream = Stream {
        direction: StreamDirection::Input,
        address: local,
        codec: negotiate(far, own_codecs(leg))?.codec.clone(),
        payload_type: negotiate(far, own_codecs(leg))?.payload_type,
        packet_ms: far.packet_ms,
        dtmf_payload_type: far.dtmf_payload_type,
        mode: Direction::SendReceive,
        encrypted: false,
    };
    let input = far.direction.sends().then(|| (local, stream.clone()));
    let output = far.direction.receives().then_some((far.address, stream));
    Some(pair_of(input, output))
}

fn inner_streams(leg: &Leg, peer: &Leg) -> Option<[Option<Stream>; 2]> {
    let (here, there) = (local_address(leg)?, local_address(peer)?);
    let (format, packet_ms, dtmf_payload_type) = agreed(leg, peer)?;
    let stream = Stream {
        direction: StreamDirection::Input,
        address: here,
        codec: format.codec,
        payload_type: format.payload_type,
        packet_ms,
        dtmf_payload_type,
        mode: Direction::SendReceive,
        encrypted: false,
    };
    Some(pair_of(Some((here, stream.clone())), Some((there, stream))))
}

fn relayed_streams(leg: &Leg, peer: &Leg) -> Option<[Option<Stream>; 2]> {
    let (here, there) = (leg.media.far.as_ref()?, peer.media.far.as_ref()?);
    if here.address.port() == 0 || there.address.port() == 0 {
        return None;
    }
    let own =
        here.formats.iter().find(|format| there.formats.iter().any(|other| other.codec == format.codec))?;
    let other = there.formats.iter().find(|format| format.codec == own.codec)?;
    let stream = |of: &Description, format: &Format| Stream {
        direction: StreamDirection::Input,
        address: of.address,
        codec: format.codec.clone(),
        payload_type: format.payload_type,
        packet_ms: of.packet_ms,
        dtmf_payload_type: of.dtmf_payload_type,
        mode: Direction::SendReceive,
        encrypted: here.encrypted && there.encrypted,
    };
    let input =
        (here.direction.receives() && there.direction.sends()).then(|| (here.address, stream(here, own)));
    let output =
        (here.direction.sends() && there.direction.receives()).then(|| (there.address, stream(there, other)));
    Some(pair_of(input, output))
}

fn pair_of(input: Option<(SocketAddr, Stream)>, output: Option<(SocketAddr, Stream)>) -> [Option<Stream>; 2] {
    let mode = Direction::of(output.is_some(), input.is_some());
    let make = |direction| {
        move |(address, stream): (SocketAddr, Stream)| Stream { direction, address, mode, ..stream }
    };
    [input.map(make(StreamDirection::Input)), output.map(make(StreamDirection::Output))]
}
