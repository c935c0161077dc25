//! What comes from the peer in a dialog: its requests and its responses, and requests of ours that get no response.

use super::{Ack, Carrier, Flow, Leg, NoResponse, Ours, Purpose, Theirs};
use crate::dialog::{Reach, contact_of};
use crate::invite::context::{Cx, Server, Timer};
use crate::invite::parties::Side;
use crate::invite::refusals;
use crate::invite::session_timer::PeerTimer;
use crate::invite::values::{self, SDP, SUPPORTED};
use crate::message::{Method, Request, Response};
use crate::port::{Event, Hop};
use crate::registrar::way_back;
use crate::sdp::SdpError;
use crate::transaction::ClientId;
use std::sync::Arc;
use std::time::Duration;

impl Leg {
    /// A request in this dialog, all but ACK and what belongs to the INVITE itself.
    pub fn on_request(&mut self, cx: &mut Cx<'_>, server: Server) -> Flow {
        let request = server.request.clone();
        let in_order = request.headers.cseq().is_ok_and(|cseq| self.dialog.accept_cseq(cseq.number).is_ok());
        if !in_order {
            cx.respond(&server, server.reply(500).with("Retry-After", "1"));
            return Flow::On;
        }
        self.dialog.heard_on(match self.dialog.reach() {
            Reach::AsItCame => way_back(&server.hop, &request.headers, Some(self.dialog.target())),
            Reach::Contact => server.hop,
        });
        self.dialog.came_from(server.hop);
        if let Some(reply) = refusals::unacceptable(&server.request, |status| server.reply(status)) {
            cx.respond(&server, reply);
            return Flow::On;
        }
        match &request.method {
            Method::Bye => {
                cx.refuse(&server, 200);
                self.close(cx);
                return Flow::Ended(request.headers.q850().unwrap_or(values::NORMAL_CLEARING));
            }
            Method::Invite | Method::Update => self.on_peer_offer(cx, server),
            Method::Info => self.on_info(cx, &server),
            Method::Refer => self.on_refer(cx, &server),
            Method::Options => cx.respond(&server, refusals::options(|status| server.reply(status))),
            // No provisional waits for it here.
            Method::Prack => cx.refuse(&server, 481),
            other @ (Method::Ack
            | Method::Cancel
            | Method::Message
            | Method::Notify
            | Method::Publish
            | Method::Register
            | Method::Subscribe
            | Method::Other(_)) => {
                cx.respond(&server, refusals::method(other, |status| server.reply(status)));
            }
        }
        Flow::On
    }

    fn on_info(&mut self, cx: &mut Cx<'_>, server: &Server) {
        // Without a body it only asks whether the call is still there (RFC 2976 §2.2).
        if server.request.body.is_empty() {
            return cx.refuse(server, 200);
        }
        let content_type = server.request.headers.content_type().unwrap_or_default();
        match values::digit_of(&content_type, &server.request.body) {
            Some((digit, duration_ms)) => {
                cx.refuse(server, 200);
                cx.event(Event::Digit(cx.call, digit, duration_ms));
            }
            None => cx.respond(server, server.reply(415).with("Accept", values::ACCEPT_INFO)),
        }
    }

    /// re-INVITE or UPDATE.
    pub fn on_peer_offer(&mut self, cx: &mut Cx<'_>, server: Server) {
        let request = server.request.clone();
        let is_invite = request.method == Method::Invite;
        if let Some(status) = self.glare(&request) {
            let mut reply = server.reply(status);
            if status == 500 {
                reply = reply.with("Retry-After", cx.random(0..=10).to_string());
            }
            return cx.respond(&server, reply);
        }
        if let Some(min_se) = self.session.too_small(&request.headers) {
            return cx.respond(&server, server.reply(422).with("Min-SE", min_se.as_secs().to_string()));
        }
        self.learn(&request.headers);
        self.learn_party(cx, &request.headers, Side::Calling);
        self.dialog.refresh_target(contact_of(&request.headers));
        self.session.told_by_request(&request.headers, PeerTimer::when(self.abilities.timer));
        if request.body.is_empty() {
            if is_invite {
                self.ask(cx, server, None);
            } else {
                self.accept_offer(cx, server, None, Ack::Plain);
            }
            return;
        }
        // A session refresh says again what was said before; nothing changes, and the node need not know.
        match self.describer.read_offer(&request.body, &mut cx.core.crypto_faults) {
            Ok(read) => {
                let again = self.remote_sdp.as_deref() == Some(&read.text[..]) && self.agreed;
                if let Some(last) = self.describer.last().filter(|_| again) {
                    return self.accept_offer(cx, server, Some(last), Ack::Plain);
                }
                let text = read.text.clone();
                self.ask(cx, server, Some(text));
                cx.event(Event::Offer(cx.call, Some(read)));
            }
            Err(error) => {
                tracing::debug!(call = ?cx.call, %error, "an offer can't be read");
                cx.description_refused(self.describer.policy(), error);
                cx.refuse_media(&server, error);
            }
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, server: Server, offer: Option<Arc<[u8]>>) {
        if server.request.method == Method::Invite {
            cx.refuse(&server, 100);
        }
        if offer.is_none() {
            cx.event(Event::Offer(cx.call, None));
        }
        self.theirs = Theirs::Asked { server, offer };
    }

    /// 200 to an INVITE (then its ACK is due), UPDATE or PRACK.
    pub(super) fn accept_offer(
        &mut self,
        cx: &mut Cx<'_>,
        server: Server,
        body: Option<Arc<[u8]>>,
        ack: Ack,
    ) {
        let mut reply = server.reply(200);
        if let Some(body) = body {
            reply = reply.with_body(SDP, body.to_vec());
        }
        if server.request.method != Method::Prack {
            self.target_refresh_headers(&mut reply.headers);
            reply.headers.push("Supported", SUPPORTED);
            self.session.answer(&mut reply.headers);
            self.identity_header(cx, Side::Called, &mut reply.headers);
        }
        cx.respond(&server, reply.clone());
        if self.confirmed {
            self.session.start(cx);
        }
        if server.request.method == Method::Invite {
            let interval = cx.t1();
            cx.set(Timer::AckRetransmit, interval);
            cx.set(Timer::AckTimeout, interval * 64);
            self.theirs = Theirs::AckDue { server, reply, interval, ack };
        }
    }

    /// What this ACK has to bring, if it is for the 2xx that waits for one.
    fn acknowledged_by(&self, ack: &Request) -> Option<Ack> {
        let Theirs::AckDue { server, ack: due, .. } = &self.theirs else { return None };
        let is_meant =
            ack.headers.cseq().map(|c| c.number) == server.request.headers.cseq().map(|c| c.number);
        is_meant.then_some(*due)
    }

    /// Whether this ACK would change anything.
    pub fn awaits(&self, ack: &Request) -> bool {
        self.acknowledged_by(ack).is_some()
    }

    /// An ACK in this dialog.
    pub fn on_ack(&mut self, cx: &mut Cx<'_>, ack: &Request) -> Flow {
        let Some(due) = self.acknowledged_by(ack) else { return Flow::On };
        self.theirs = Theirs::Idle;
        cx.clear(Timer::AckRetransmit);
        cx.clear(Timer::AckTimeout);
        let flow = match due {
            Ack::WithAnswer => self.take_answer(cx, &ack.body),
            Ack::Plain => Flow::On,
        };
        self.agreed = true;
        if flow == Flow::On {
            self.flush(cx);
        }
        flow
    }

    /// The peer's answer to an offer of the node. One whose keys answer nothing ends the call: nobody knows what its peer
    /// encrypts with.
    pub fn take_answer(&mut self, cx: &mut Cx<'_>, body: &[u8]) -> Flow {
        match self.describer.read_answer(body, &mut cx.core.crypto_faults) {
            Ok(read) => {
                self.remote_sdp = Some(read.text.clone());
                self.agreed = true;
                cx.event(Event::Answer(cx.call, read));
            }
            Err(error @ SdpError::Encryption(_)) => {
                cx.description_refused(self.describer.policy(), error);
                return Flow::Lost(values::BEARER_NOT_IMPLEMENTED);
            }
            Err(error) => {
                tracing::debug!(call = ?cx.call, %error, "an answer can't be read");
                cx.event(Event::OfferRefused(cx.call, 488));
            }
        }
        Flow::On
    }

    /// Whether this response is for a request of this leg that the machine waits for.
    pub fn waits_for(&self, client: ClientId) -> bool {
        matches!(self.ours, Ours::Sent { client: sent, .. } if sent == client)
    }

    /// Our re-INVITE or UPDATE goes by another name and number now.
    pub fn sent_again(&mut self, before: ClientId, now: ClientId, number: u32) {
        if let Ours::Sent { client, cseq, .. } = &mut self.ours
            && *client == before
        {
            (*client, *cseq) = (now, number);
        }
    }

    /// A response to our re-INVITE or UPDATE.
    pub fn on_response(&mut self, cx: &mut Cx<'_>, response: &Response, hop: Hop) -> Flow {
        if response.status < 200 {
            return Flow::On;
        }
        let (carrier, purpose, cseq) = match std::mem::replace(&mut self.ours, Ours::Idle) {
            Ours::Sent { carrier, purpose, cseq, .. } => (carrier, purpose, cseq),
            other @ (Ours::Idle | Ours::AnswerDue { .. } | Ours::Waiting { .. }) => {
                self.ours = other;
                return Flow::On;
            }
        };
        if response.status < 300 {
            self.dialog.answered_on(hop, *self.dialog.peer_hop());
            let flow = self.on_accepted(cx, response, carrier, purpose, cseq);
            if flow == Flow::On {
                self.flush(cx);
            }
            return flow;
        }
        self.on_refused(cx, response, carrier, purpose)
    }

    fn on_accepted(
        &mut self,
        cx: &mut Cx<'_>,
        response: &Response,
        carrier: Carrier,
        purpose: Purpose,
        cseq: u32,
    ) -> Flow {
        self.learn(&response.headers);
        self.learn_party(cx, &response.headers, Side::Called);
        self.dialog.refresh_target(contact_of(&response.headers));
        if self.confirmed {
            self.session.told_by_answer(response.headers.session_expires());
            self.session.start(cx);
        }
        match (carrier, purpose) {
            (Carrier::Invite, Purpose::Offer(None)) => {
                match self.describer.read_offer(&response.body, &mut cx.core.crypto_faults) {
                    Ok(read) => {
                        self.await_answer(cseq, read.text.clone());
                        cx.event(Event::Offer(cx.call, Some(read)));
                    }
                    Err(error) => {
                        cx.description_refused(self.describer.policy(), error);
                        let body = self.unchanged(&response.body).ok();
                        self.acknowledge(cx, cseq, body);
                        cx.event(Event::OfferRefused(cx.call, 488));
                    }
                }
            }
            (carrier, Purpose::Offer(_)) => {
                if carrier == Carrier::Invite {
                    self.acknowledge(cx, cseq, None);
                }
                return self.take_answer(cx, &response.body);
            }
            (Carrier::Invite, Purpose::Refresh) => {
                self.acknowledge(cx, cseq, None);
                if !response.body.is_empty() {
                    self.remote_sdp = Some(response.body.as_slice().into());
                }
            }
            (Carrier::Update, Purpose::Refresh) => {}
        }
        Flow::On
    }

    fn on_refused(
        &mut self,
        cx: &mut Cx<'_>,
        response: &Response,
        carrier: Carrier,
        purpose: Purpose,
    ) -> Flow {
        match (response.status, purpose) {
            (408 | 481, _) => return Flow::Lost(values::TEMPORARY_FAILURE),
            (491, Purpose::Offer(sdp)) if self.confirmed => {
                // RFC 3261 §14.1: 2.1–4 s for who chose the Call-ID, 0–2 s for the other, in steps of 10 ms.
                let steps = if self.dialog.own_call_id { cx.random(210..=400) } else { cx.random(0..=200) };
                cx.set(Timer::Retry, Duration::from_millis(steps * 10));
                self.ours = Ours::Waiting { sdp };
            }
            (status, Purpose::Offer(_)) => cx.event(Event::OfferRefused(cx.call, status)),
            (405 | 501, Purpose::Refresh) if carrier == Carrier::Update => {
                self.abilities.update = false;
                self.refresh(cx);
            }
            (422, Purpose::Refresh) => {
                self.session.raise_to(&response.headers);
                self.refresh(cx);
            }
            // The interval is half over; there is time for another try before it ends.
            (_, Purpose::Refresh) => self.session.try_again(cx),
        }
        self.flush(cx);
        Flow::On
    }

    /// A request of ours got no answer, or could not be sent.
    pub fn on_failure(&mut self, cx: &mut Cx<'_>, why: NoResponse) -> Flow {
        let (carrier, purpose, cseq) = match std::mem::replace(&mut self.ours, Ours::Idle) {
            Ours::Sent { carrier, purpose, cseq, .. } => (carrier, purpose, cseq),
            other @ (Ours::Idle | Ours::AnswerDue { .. } | Ours::Waiting { .. }) => {
                self.ours = other;
                return Flow::On;
            }
        };
        if why == NoResponse::TimedOut {
            if carrier == Carrier::Invite {
                self.expect_late(cx, cseq, &purpose);
            }
            return Flow::Lost(values::TIMER_EXPIRY);
        }
        match purpose {
            Purpose::Offer(_) => cx.event(Event::OfferRefused(cx.call, 503)),
            Purpose::Refresh => self.session.try_again(cx),
        }
        self.flush(cx);
        Flow::On
    }

    /// A timer of this leg.
    pub fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) -> Flow {
        match timer {
            Timer::AckRetransmit => self.repeat_answer(cx),
            Timer::AckTimeout => return Flow::Lost(values::TIMER_EXPIRY),
            Timer::Retry => {
                if let Ours::Waiting { sdp } = &mut self.ours {
                    // The peer's own offer may be open now; then ours waits for it.
                    self.queued.get_or_insert(sdp.take());
                    self.ours = Ours::Idle;
                    self.flush(cx);
                }
            }
            Timer::Refresh => self.refresh(cx),
            Timer::Expiry | Timer::Asked => return Flow::Lost(values::TIMER_EXPIRY),
            Timer::ReliableRetransmit | Timer::ReliableTimeout | Timer::NoAnswer | Timer::Invitation => {}
        }
        Flow::On
    }

    fn repeat_answer(&mut self, cx: &mut Cx<'_>) {
        if let Theirs::AckDue { server, reply, interval, .. } = &mut self.theirs {
            cx.respond(server, reply.clone());
            *interval = (*interval * 2).min(cx.t2());
            cx.set(Timer::AckRetransmit, *interval);
        }
    }

    fn refresh(&mut self, cx: &mut Cx<'_>) {
        if !matches!((&self.ours, &self.theirs), (Ours::Idle, Theirs::Idle)) {
            // Whatever is under way renews the session itself, or fails and leaves time.
            return self.session.try_again(cx);
        }
        if self.abilities.update {
            self.send(cx, Carrier::Update, Purpose::Refresh, None);
        } else {
            let body = self.describer.last();
            self.send(cx, Carrier::Invite, Purpose::Refresh, body);
        }
    }
}
