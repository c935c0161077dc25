//! A call that comes in, until we accept or refuse it (RFC 3261 §13.3, reliable provisionals of RFC 3262).

use super::context::{Cx, Server, Timer};
use super::leg::{Ack, Flow, Leg};
use super::parties::Side;
use super::values::{self, SDP};
use crate::dialog::Dialog;
use crate::message::{Method, Request, Response};
use crate::port::{Event, Hop, Identity, Refusal, Sdp, SecureMediaRefusal};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Provisionals that wait for the PRACK of the one before; the oldest without a description gives way.
const MAX_WAITING: usize = 4;

/// A call that is not accepted yet.
pub(crate) struct Incoming {
    pub leg: Box<Leg>,
    server: Server,
    /// The offer of the INVITE, until it is answered.
    offer: Option<Arc<[u8]>>,
    /// The caller supports or requires reliable provisionals.
    knows_100rel: bool,
    next_rseq: u32,
    /// A provisional of ours has told the caller of a dialog.
    rings: bool,
    unacknowledged: Option<Provisional>,
    waiting: VecDeque<Option<Sdp>>,
    /// The node has accepted, but a description of ours still waits for its PRACK (RFC 3262 §5).
    accepted: Option<Sdp>,
    /// Our reliable provisional carried the offer; its PRACK carries the answer.
    offered: bool,
}

struct Provisional {
    rseq: u32,
    response: Response,
    interval: Duration,
}

/// What became of the call.
pub(crate) enum Outcome {
    Pending(Box<Incoming>),
    Accepted(Box<Leg>),
    Over,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Incoming({:?}, {} waiting)", self.leg, self.waiting.len())
    }
}

impl Incoming {
    pub fn new(leg: Leg, server: Server, offer: Option<Arc<[u8]>>, first_rseq: u32) -> Incoming {
        let headers = &server.request.headers;
        let knows_100rel = headers.has_token("Require", "100rel") || headers.has_token("Supported", "100rel");
        Incoming {
            leg: Box::new(leg),
            server,
            offer,
            knows_100rel,
            next_rseq: first_rseq,
            rings: false,
            unacknowledged: None,
            waiting: VecDeque::new(),
            accepted: None,
            offered: false,
        }
    }

    /// [`crate::port::Command::Ring`].
    pub fn ring(&mut self, cx: &mut Cx<'_>, sdp: Option<Sdp>) {
        if self.unacknowledged.is_none() {
            return self.send_provisional(cx, sdp);
        }
        if self.waiting.len() >= MAX_WAITING {
            let oldest = self.waiting.iter().position(Option::is_none).unwrap_or(0);
            self.waiting.remove(oldest);
            tracing::debug!(call = ?cx.call, "a provisional gives way to newer ones");
        }
        self.waiting.push_back(sdp);
    }

    fn send_provisional(&mut self, cx: &mut Cx<'_>, sdp: Option<Sdp>) {
        self.rings = true;
        // Without reliability an offer may only stand in the 200; and what is agreed is not said again.
        let may_describe = !self.leg.agreed && !self.offered && (self.offer.is_some() || self.knows_100rel);
        let body = sdp.filter(|_| may_describe).and_then(|sdp| match &self.offer {
            Some(offer) => self.leg.describer.answer(&sdp, offer).ok(),
            None => self.leg.describer.offer(&sdp).ok(),
        });
        let mut response = self.server.reply(if body.is_some() { 183 } else { 180 });
        self.leg.target_refresh_headers(&mut response.headers);
        self.leg.identity_header(cx, Side::Called, &mut response.headers);
        if let Some(body) = &body {
            response = response.with_body(SDP, body.to_vec());
        }
        if !self.knows_100rel {
            return cx.respond(&self.server, response);
        }
        if body.is_some() {
            self.offered = self.offer.is_none();
            if let Some(offer) = self.offer.take() {
                self.leg.remote_sdp = Some(offer);
                self.leg.agreed = true;
            }
        }
        let (rseq, interval) = (self.next_rseq, cx.t1());
        self.next_rseq += 1;
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", rseq.to_string());
        cx.respond(&self.server, response.clone());
        cx.set(Timer::ReliableRetransmit, interval);
        cx.set(Timer::ReliableTimeout, interval * 64);
        self.unacknowledged = Some(Provisional { rseq, response, interval });
    }

    /// [`crate::port::Command::Accept`].
    pub fn accept(mut self: Box<Self>, cx: &mut Cx<'_>, sdp: Sdp) -> Outcome {
        if self.unacknowledged.is_some() {
            self.accepted = Some(sdp);
            return Outcome::Pending(self);
        }
        self.accept_now(cx, &sdp)
    }

    fn accept_now(mut self: Box<Self>, cx: &mut Cx<'_>, sdp: &Sdp) -> Outcome {
        let before = self.leg.describer.last();
        let written = match (&self.offer, self.leg.agreed) {
            (Some(offer), _) => self.leg.describer.answer(sdp, offer).map(Some),
            (None, false) => self.leg.describer.offer(sdp).map(Some),
            // A reliable provisional has said it all.
            (None, true) => Ok(None),
        };
        let body = match written {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(call = ?cx.call, %error, "an answer can't be written");
                cx.description_refused(self.leg.describer.policy(), error);
                cx.refuse_media(&self.server, error);
                cx.event(Event::Ended { call: cx.call, cause: values::BEARER_NOT_IMPLEMENTED });
                return Outcome::Over;
            }
        };
        let answered = self.offer.is_some();
        let ack = if body.is_some() && !answered { Ack::WithAnswer } else { Ack::Plain };
        if let Some(offer) = self.offer.take() {
            self.leg.remote_sdp = Some(offer);
        }
        if body.is_none() && self.leg.would_differ(sdp, before.as_deref()) {
            // The caller has an answer of before; what counts now follows as an offer.
            self.leg.queue_change(sdp.clone());
        }
        self.leg.agreed |= answered;
        cx.clear(Timer::Invitation);
        self.leg.accept_invite(cx, self.server, body, ack);
        Outcome::Accepted(self.leg)
    }

    /// A final refusal.
    pub fn refuse(mut self: Box<Self>, cx: &mut Cx<'_>, refusal: &Refusal) {
        self.leg.close(cx);
        let mut response = self.server.reply(refusal.status);
        response.headers.push("Reason", values::reason(refusal));
        if refusal.status == 488 && self.leg.describer.policy().keys.are_required() {
            cx.secure_media_refused(self.leg.describer.policy(), SecureMediaRefusal::PeerNotSecure);
            let host = cx.core.own_host(&self.server.hop);
            let why = SecureMediaRefusal::PeerNotSecure;
            response.headers.push("Warning", format!("399 {host} \"{why}\""));
        }
        if let Some(seconds) = refusal.retry_after {
            response.headers.push("Retry-After", seconds.to_string());
        }
        cx.respond(&self.server, response);
    }

    /// CANCEL.
    pub fn cancelled(mut self: Box<Self>, cx: &mut Cx<'_>, cause: Option<u16>) {
        self.leg.close(cx);
        cx.refuse(&self.server, 487);
        cx.event(Event::Ended { call: cx.call, cause: cause.unwrap_or(values::NORMAL_CLEARING) });
    }

    /// See [`super::InviteSession::ask_after`]. Before it rings the caller knows of no dialog yet.
    pub fn ask_after(&mut self, cx: &mut Cx<'_>, way: impl Fn(&Dialog) -> Option<Option<Hop>>) {
        if self.rings {
            super::ask(&mut self.leg, cx, way);
        }
    }

    /// What the caller says of the question; who knows of no call any more has given it up.
    pub fn on_asked(mut self: Box<Self>, cx: &mut Cx<'_>, response: &Response, hop: Hop) -> Outcome {
        match self.leg.on_asked(cx, response, hop) {
            Flow::On => Outcome::Pending(self),
            Flow::Ended(cause) | Flow::Lost(cause) => {
                self.cancelled(cx, Some(cause));
                Outcome::Over
            }
        }
    }

    /// A request in the early dialog.
    pub fn on_request(mut self: Box<Self>, cx: &mut Cx<'_>, server: Server) -> Outcome {
        if server.request.method == Method::Prack {
            return self.on_prack(cx, server);
        }
        match self.leg.on_request(cx, server) {
            Flow::On => Outcome::Pending(self),
            Flow::Ended(cause) | Flow::Lost(cause) => {
                self.cancelled(cx, Some(cause));
                Outcome::Over
            }
        }
    }

    fn on_prack(mut self: Box<Self>, cx: &mut Cx<'_>, server: Server) -> Outcome {
        if !self.is_acknowledged_by(&server.request) {
            cx.refuse(&server, 481);
            return Outcome::Pending(self);
        }
        if let Ok(cseq) = server.request.headers.cseq() {
            // The RAck has proved that it is new.
            let _ = self.leg.dialog.accept_cseq(cseq.number);
        }
        self.unacknowledged = None;
        cx.clear(Timer::ReliableRetransmit);
        cx.clear(Timer::ReliableTimeout);
        let body = &server.request.body;
        if std::mem::take(&mut self.offered) {
            cx.refuse(&server, 200);
            if let Flow::Lost(cause) = self.leg.take_answer(cx, body) {
                self.cancelled(cx, Some(cause));
                return Outcome::Over;
            }
        } else if body.is_empty() {
            cx.refuse(&server, 200);
        } else {
            self.leg.on_peer_offer(cx, server);
        }
        self.leg.flush(cx);
        if let Some(sdp) = self.accepted.take() {
            return self.accept_now(cx, &sdp);
        }
        if let Some(next) = self.waiting.pop_front() {
            self.send_provisional(cx, next);
        }
        Outcome::Pending(self)
    }

    fn is_acknowledged_by(&self, prack: &Request) -> bool {
        let (Some(rack), Some(open)) = (prack.headers.rack(), &self.unacknowledged) else { return false };
        let invite = self.server.request.headers.cseq().map(|c| c.number);
        rack.rseq == open.rseq && Ok(rack.cseq.number) == invite && rack.cseq.method == Method::Invite
    }

    /// A timer of this call.
    pub fn on_timer(mut self: Box<Self>, cx: &mut Cx<'_>, timer: Timer) -> Outcome {
        match timer {
            Timer::ReliableRetransmit => {
                if let Some(open) = &mut self.unacknowledged {
                    cx.respond(&self.server, open.response.clone());
                    open.interval *= 2;
                    cx.set(Timer::ReliableRetransmit, open.interval);
                }
                Outcome::Pending(self)
            }
            Timer::ReliableTimeout => {
                self.leg.close(cx);
                cx.refuse(&self.server, 504);
                cx.event(Event::Ended { call: cx.call, cause: values::TIMER_EXPIRY });
                Outcome::Over
            }
            Timer::Invitation => {
                self.leg.close(cx);
                let reply = self.server.reply(487);
                cx.respond(
                    &self.server,
                    reply.with("Reason", format!("Q.850;cause={}", values::TIMER_EXPIRY)),
                );
                cx.event(Event::Ended { call: cx.call, cause: values::TIMER_EXPIRY });
                Outcome::Over
            }
            Timer::Asked => {
                self.cancelled(cx, Some(values::TEMPORARY_FAILURE));
                Outcome::Over
            }
            Timer::AckRetransmit
            | Timer::AckTimeout
            | Timer::Retry
            | Timer::Refresh
            | Timer::Expiry
            | Timer::NoAnswer => {
                let _ = self.leg.on_timer(cx, timer);
                Outcome::Pending(self)
            }
        }
    }

    /// [`crate::port::Command::Connected`]: with the next response.
    pub fn connected(&mut self, identity: Identity) {
        self.leg.note_identity(identity);
    }
}
