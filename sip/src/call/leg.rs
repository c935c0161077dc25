//! One dialog with its offers and answers (RFC 3264, RFC 6337): what runs the same way on both sides of a call, early
//! or confirmed.

use super::context::{Cx, Server, Timer};
use super::session_timer::SessionTimer;
use super::values::{self, ALLOW, SUPPORTED};
use super::{refusals, values::SDP};
use crate::dialog::{Dialog, contact_of};
use crate::message::{Headers, Method, Request, Response};
use crate::port::{Event, Hop, Identity, Sdp};
use crate::sdp::{self, Describer};
use crate::transaction::ClientId;
use std::sync::Arc;
use std::time::Duration;

/// A dialog of a call.
#[derive(Debug)]
pub(crate) struct Leg {
    pub dialog: Dialog,
    pub describer: Describer,
    /// URI of our Contact.
    pub contact: Arc<str>,
    /// What the peer said that it can do.
    pub abilities: Abilities,
    /// The first offer has its answer.
    pub agreed: bool,
    /// A 2xx went over the INVITE that made it; re-INVITE may be used.
    pub confirmed: bool,
    /// The peer's last description.
    pub remote_sdp: Option<Arc<[u8]>>,
    ours: Ours,
    theirs: Theirs,
    /// An offer of the node that has to wait; the newest one counts.
    queued: Option<Option<Sdp>>,
    /// A change of description that the node takes for done.
    change: Option<Sdp>,
    /// Whom the peer talks to, to be said with the next message.
    identity: Option<Identity>,
    session: SessionTimer,
}

/// What a peer's `Allow` and `Supported` said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// `Allow: UPDATE`
    pub update: bool,
    /// `Supported: timer`
    pub timer: bool,
}

impl Abilities {
    fn learn(&mut self, headers: &Headers) {
        if headers.get("Allow").is_some() {
            self.update = headers.has_token("Allow", "UPDATE");
        }
        self.timer |= headers.has_token("Supported", "timer");
    }
}

/// What goes out over an offer of ours, or a question for the peer's.
#[derive(Debug)]
enum Ours {
    Idle,
    /// A re-INVITE or UPDATE is on its way.
    Sent {
        client: ClientId,
        carrier: Carrier,
        purpose: Purpose,
        cseq: u32,
    },
    /// The 2xx to an INVITE of ours carried the peer's offer; the ACK waits for the node's answer.
    AnswerDue {
        cseq: u32,
        offer: Arc<[u8]>,
    },
    /// The peer had an offer of its own under way (491); ours goes again when the timer ends.
    Waiting {
        sdp: Option<Sdp>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Invite,
    Update,
}

#[derive(Debug)]
enum Purpose {
    /// The node's; kept for another try.
    Offer(Option<Sdp>),
    /// Keeps the session alive and changes nothing.
    Refresh,
}

/// What is open of the peer's offers.
#[derive(Debug)]
enum Theirs {
    Idle,
    /// The node owes the answer, or an offer where the peer asks for one.
    Asked {
        server: Server,
        offer: Option<Arc<[u8]>>,
    },
    /// Our 2xx to an INVITE repeats until its ACK.
    AckDue {
        server: Server,
        reply: Response,
        interval: Duration,
        answer_in_ack: bool,
    },
}

/// What became of the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Flow {
    /// It goes on.
    On,
    /// The peer ended it.
    Ended(u16),
    /// It is lost; a BYE tells the peer, should it be there.
    Lost(u16),
}

impl Leg {
    pub fn new(dialog: Dialog, describer: Describer, contact: Arc<str>, session: SessionTimer) -> Leg {
        Leg {
            dialog,
            describer,
            contact,
            abilities: Abilities::default(),
            agreed: false,
            confirmed: false,
            remote_sdp: None,
            ours: Ours::Idle,
            theirs: Theirs::Idle,
            queued: None,
            change: None,
            identity: None,
            session,
        }
    }

    /// Notes what a message of the peer says of itself.
    pub fn learn(&mut self, headers: &Headers) {
        self.abilities.learn(headers);
    }

    /// Whether the ACK of our 2xx is still missing: a BYE has to wait for it (RFC 3261 §15).
    pub fn ack_due(&self) -> bool {
        matches!(self.theirs, Theirs::AckDue { .. })
    }

    // ---- what the node wants ----

    /// [`crate::port::Command::Offer`].
    pub fn offer(&mut self, cx: &mut Cx<'_>, sdp: Option<Sdp>) {
        if matches!(self.theirs, Theirs::Asked { .. }) {
            return cx.event(Event::OfferRefused(cx.call, 491));
        }
        match &mut self.ours {
            Ours::Waiting { sdp: waiting } => *waiting = sdp,
            Ours::Idle | Ours::Sent { .. } | Ours::AnswerDue { .. } => {
                self.queued = Some(sdp);
                self.flush(cx);
            }
        }
    }

    /// Sends what waited, if nothing stands in its way any more.
    pub fn flush(&mut self, cx: &mut Cx<'_>) {
        let idle = matches!((&self.ours, &self.theirs), (Ours::Idle, Theirs::Idle));
        let early_update = self.agreed && self.abilities.update && matches!(self.queued, Some(Some(_)));
        if !idle || !(self.confirmed || early_update) {
            return;
        }
        if let Some(sdp) = self.queued.take() {
            self.send_offer(cx, sdp);
        } else if let Some(body) = self.change.take().and_then(|sdp| self.describer.offer(&sdp).ok()) {
            self.send(cx, Carrier::Invite, Purpose::Refresh, Some(body));
        } else if self.identity.is_some() && self.confirmed && self.abilities.update {
            // An UPDATE without a description tells whom the peer talks to now, and renews the session with it.
            self.send(cx, Carrier::Update, Purpose::Refresh, None);
        }
    }

    fn send_offer(&mut self, cx: &mut Cx<'_>, sdp: Option<Sdp>) {
        let body = match sdp.as_ref().map(|s| self.describer.offer(s)).transpose() {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(call = ?cx.call, %error, "an offer can't be written");
                return cx.event(Event::OfferRefused(cx.call, 488));
            }
        };
        let carrier = if self.confirmed { Carrier::Invite } else { Carrier::Update };
        self.send(cx, carrier, Purpose::Offer(sdp), body);
    }

    fn send(&mut self, cx: &mut Cx<'_>, carrier: Carrier, purpose: Purpose, body: Option<Arc<[u8]>>) {
        let cseq = self.dialog.next_cseq();
        let method = match carrier {
            Carrier::Invite => Method::Invite,
            Carrier::Update => Method::Update,
        };
        let mut request = self.request(method, cseq);
        self.target_refresh_headers(&mut request.headers);
        request.headers.push("Supported", SUPPORTED);
        request.headers.push("Session-Expires", self.session.ask().to_string());
        request.headers.push("Min-SE", self.session.min_se().as_secs().to_string());
        self.identity_header(cx, &mut request.headers);
        if let Some(body) = body {
            request = request.with_body(SDP, body.to_vec());
        }
        let hop = self.next_hop(cx);
        let client = cx.request(hop, request);
        self.ours = Ours::Sent { client, carrier, purpose, cseq };
    }

    /// [`crate::port::Command::Answer`]: the answer to the peer's offer, or the offer it asked for.
    pub fn answer(&mut self, cx: &mut Cx<'_>, sdp: &Sdp) {
        if let Some((cseq, offer)) = self.take_answer_due() {
            let body = self.describer.answer(sdp, &offer).or_else(|_| self.unchanged(&offer)).ok();
            self.acknowledge(cx, cseq, body);
            self.agreed = true;
            return self.flush(cx);
        }
        match std::mem::replace(&mut self.theirs, Theirs::Idle) {
            Theirs::Asked { server, offer } => {
                let body = match &offer {
                    Some(offer) => self.describer.answer(sdp, offer),
                    None => self.describer.offer(sdp),
                };
                match body {
                    Ok(body) => {
                        if let Some(offer) = &offer {
                            self.remote_sdp = Some(offer.clone());
                        }
                        self.accept_offer(cx, server, Some(body), offer.is_none());
                    }
                    Err(error) => {
                        tracing::debug!(call = ?cx.call, %error, "an answer can't be written");
                        cx.refuse(&server, 488);
                    }
                }
                self.flush(cx);
            }
            other @ (Theirs::Idle | Theirs::AckDue { .. }) => self.theirs = other,
        }
    }

    fn take_answer_due(&mut self) -> Option<(u32, Arc<[u8]>)> {
        match std::mem::replace(&mut self.ours, Ours::Idle) {
            Ours::AnswerDue { cseq, offer } => Some((cseq, offer)),
            other @ (Ours::Idle | Ours::Sent { .. } | Ours::Waiting { .. }) => {
                self.ours = other;
                None
            }
        }
    }

    /// Our last description again, as the answer where a real one can't be given.
    fn unchanged(&mut self, offer: &[u8]) -> Result<Arc<[u8]>, sdp::SdpError> {
        let last = self.describer.last().ok_or(sdp::SdpError::Malformed)?;
        self.describer.answer(&Sdp::Relay(last, None), offer)
    }

    /// [`crate::port::Command::RefuseOffer`].
    pub fn refuse_offer(&mut self, cx: &mut Cx<'_>, status: u16) {
        // An offer in a 2xx can't be refused, only answered as things were.
        if let Some((cseq, offer)) = self.take_answer_due() {
            let body = self.unchanged(&offer).ok();
            self.acknowledge(cx, cseq, body);
        }
        match std::mem::replace(&mut self.theirs, Theirs::Idle) {
            Theirs::Asked { server, .. } => cx.refuse(&server, status),
            other @ (Theirs::Idle | Theirs::AckDue { .. }) => self.theirs = other,
        }
        self.flush(cx);
    }

    /// [`crate::port::Command::Connected`].
    pub fn connected(&mut self, cx: &mut Cx<'_>, identity: Identity) {
        self.identity = Some(identity);
        self.flush(cx);
    }

    /// [`crate::port::Command::Digit`].
    pub fn digit(&mut self, cx: &mut Cx<'_>, digit: char, duration_ms: u32) {
        let cseq = self.dialog.next_cseq();
        let info = self.request(Method::Info, cseq);
        let info = info.with_body("application/dtmf-relay", values::digit_body(digit, duration_ms));
        let hop = self.next_hop(cx);
        cx.request(hop, info);
    }

    /// Sends a BYE and answers what is open. The dialog is over.
    pub fn hang_up(&mut self, cx: &mut Cx<'_>, reason: Option<String>) {
        if let Some((cseq, offer)) = self.take_answer_due() {
            let body = self.unchanged(&offer).ok();
            self.acknowledge(cx, cseq, body);
        }
        self.close(cx);
        let cseq = self.dialog.next_cseq();
        let mut bye = self.request(Method::Bye, cseq);
        if let Some(reason) = reason {
            bye.headers.push("Reason", reason);
        }
        let hop = self.next_hop(cx);
        cx.request_and_forget(hop, bye);
    }

    /// Answers what the peer still waits for, and waits no longer for its answers; the dialog ends.
    pub fn close(&mut self, cx: &mut Cx<'_>) {
        if let Theirs::Asked { server, .. } = std::mem::replace(&mut self.theirs, Theirs::Idle) {
            cx.refuse(&server, 487);
        }
        if let Ours::Sent { client, carrier: Carrier::Invite, .. } =
            std::mem::replace(&mut self.ours, Ours::Idle)
        {
            // After a provisional an INVITE would wait for its answer for ever.
            cx.core.transactions.cancel(cx.now, client, None, cx.out);
        }
    }

    // ---- what the INVITE that made it did ----

    /// The 2xx to our INVITE came: target, session interval, confirmed.
    pub fn confirm_as_caller(&mut self, cx: &mut Cx<'_>, response: &Response) {
        self.confirmed = true;
        self.learn(&response.headers);
        self.session.told_by_answer(response.headers.session_expires());
        self.session.start(cx);
    }

    /// The ACK of our INVITE waits for the node's answer to this offer.
    pub fn await_answer(&mut self, cseq: u32, offer: Arc<[u8]>) {
        self.remote_sdp = Some(offer.clone());
        self.ours = Ours::AnswerDue { cseq, offer };
    }

    /// We accept the INVITE: 2xx until its ACK.
    pub fn accept_invite(
        &mut self,
        cx: &mut Cx<'_>,
        server: Server,
        body: Option<Arc<[u8]>>,
        answer_in_ack: bool,
    ) {
        self.confirmed = true;
        self.accept_offer(cx, server, body, answer_in_ack);
    }

    /// Sends an ACK, which also answers later copies of the 2xx.
    pub fn acknowledge(&mut self, cx: &mut Cx<'_>, cseq: u32, body: Option<Arc<[u8]>>) {
        let mut ack = self.request(Method::Ack, cseq);
        if let Some(body) = body {
            ack = ack.with_body(SDP, body.to_vec());
        }
        let hop = self.next_hop(cx);
        cx.acknowledge(&self.dialog, hop, cseq, ack);
    }

    // ---- what comes from the peer ----

    /// A request in this dialog, all but ACK and what belongs to the INVITE itself.
    pub fn on_request(&mut self, cx: &mut Cx<'_>, server: Server) -> Flow {
        let request = server.request.clone();
        let in_order = request.headers.cseq().is_ok_and(|cseq| self.dialog.accept_cseq(cseq.number).is_ok());
        if !in_order {
            cx.respond(&server, server.reply(500).with("Retry-After", "1"));
            return Flow::On;
        }
        self.dialog.heard_on(server.hop);
        if let Some(reply) = refusals::unacceptable(&server) {
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
            Method::Options => cx.respond(&server, refusals::options(&server)),
            // No provisional waits for it here.
            Method::Prack => cx.refuse(&server, 481),
            other => cx.respond(&server, refusals::method(&server, other)),
        }
        Flow::On
    }

    fn on_info(&mut self, cx: &mut Cx<'_>, server: &Server) {
        let content_type = server.request.headers.content_type().unwrap_or_default();
        let is_digit = matches!(content_type.as_str(), "application/dtmf-relay" | "application/dtmf");
        if !is_digit && !server.request.body.is_empty() {
            return cx.respond(server, server.reply(415).with("Accept", values::ACCEPT_INFO));
        }
        cx.refuse(server, 200);
        if let Some((digit, duration_ms)) = values::digit_of(&content_type, &server.request.body) {
            cx.event(Event::Digit(cx.call, digit, duration_ms));
        }
    }

    /// re-INVITE or UPDATE.
    pub fn on_peer_offer(&mut self, cx: &mut Cx<'_>, server: Server) {
        let request = server.request.clone();
        let is_invite = request.method == Method::Invite;
        if let Some(status) = self.glare(is_invite, !request.body.is_empty()) {
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
        self.dialog.refresh_target(contact_of(&request.headers));
        self.session.told_by_request(&request.headers, self.abilities.timer);
        if request.body.is_empty() {
            if is_invite {
                self.ask(cx, server, None);
            } else {
                self.accept_offer(cx, server, None, false);
            }
            return;
        }
        // A session refresh says again what was said before; nothing changes, and the node need not know.
        let again = self.remote_sdp.as_deref() == Some(&request.body[..]) && self.agreed;
        if let Some(last) = self.describer.last().filter(|_| again) {
            return self.accept_offer(cx, server, Some(last), false);
        }
        match sdp::read(&request.body) {
            Ok(read) => {
                let text = read.text.clone();
                self.ask(cx, server, Some(text));
                cx.event(Event::Offer(cx.call, Some(read)));
            }
            Err(error) => {
                tracing::debug!(call = ?cx.call, %error, "an offer can't be read");
                cx.refuse(&server, 488);
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

    /// Who has to wait (RFC 3261 §14.2, RFC 3311 §5.2): `None` when the peer's offer may be looked at.
    fn glare(&self, is_invite: bool, has_body: bool) -> Option<u16> {
        if !is_invite && !has_body {
            return None;
        }
        if is_invite && !self.confirmed {
            return Some(if self.dialog.own_call_id { 491 } else { 500 });
        }
        match (&self.ours, &self.theirs) {
            (_, Theirs::Asked { .. }) => Some(500),
            (_, Theirs::AckDue { answer_in_ack, .. }) => {
                Some(if is_invite || *answer_in_ack { 491 } else { 500 })
            }
            (Ours::Sent { carrier, purpose, .. }, Theirs::Idle) => {
                let offers = match purpose {
                    Purpose::Offer(_) => true,
                    Purpose::Refresh => *carrier == Carrier::Invite,
                };
                (offers || is_invite).then_some(491)
            }
            (Ours::AnswerDue { .. }, Theirs::Idle) => Some(491),
            // Before the first answer only the INVITE itself speaks of media.
            (Ours::Idle | Ours::Waiting { .. }, Theirs::Idle) if !self.agreed => {
                Some(if self.dialog.own_call_id { 491 } else { 500 })
            }
            (Ours::Idle | Ours::Waiting { .. }, Theirs::Idle) => None,
        }
    }

    /// 200 to an INVITE (then its ACK is due), UPDATE or PRACK.
    fn accept_offer(
        &mut self,
        cx: &mut Cx<'_>,
        server: Server,
        body: Option<Arc<[u8]>>,
        answer_in_ack: bool,
    ) {
        let mut reply = server.reply(200);
        if let Some(body) = body {
            reply = reply.with_body(SDP, body.to_vec());
        }
        if server.request.method != Method::Prack {
            self.target_refresh_headers(&mut reply.headers);
            reply.headers.push("Supported", SUPPORTED);
            self.session.answer(&mut reply.headers);
            self.identity_header(cx, &mut reply.headers);
        }
        cx.respond(&server, reply.clone());
        if self.confirmed {
            self.session.start(cx);
        }
        if server.request.method == Method::Invite {
            let interval = cx.t1();
            cx.set(Timer::AckRetransmit, interval);
            cx.set(Timer::AckTimeout, interval * 64);
            self.theirs = Theirs::AckDue { server, reply, interval, answer_in_ack };
        }
    }

    /// An ACK in this dialog.
    pub fn on_ack(&mut self, cx: &mut Cx<'_>, ack: &Request) {
        let (server, answer_in_ack) = match &self.theirs {
            Theirs::AckDue { server, answer_in_ack, .. } => (server, *answer_in_ack),
            Theirs::Idle | Theirs::Asked { .. } => return,
        };
        if ack.headers.cseq().map(|c| c.number) != server.request.headers.cseq().map(|c| c.number) {
            return;
        }
        self.theirs = Theirs::Idle;
        cx.clear(Timer::AckRetransmit);
        cx.clear(Timer::AckTimeout);
        if answer_in_ack {
            self.take_answer(cx, &ack.body);
        }
        self.agreed = true;
        self.flush(cx);
    }

    /// The peer's answer to an offer of the node.
    pub fn take_answer(&mut self, cx: &mut Cx<'_>, body: &[u8]) {
        match sdp::read(body) {
            Ok(read) => {
                self.remote_sdp = Some(read.text.clone());
                self.agreed = true;
                cx.event(Event::Answer(cx.call, read));
            }
            Err(error) => {
                tracing::debug!(call = ?cx.call, %error, "an answer can't be read");
                cx.event(Event::OfferRefused(cx.call, 488));
            }
        }
    }

    /// Whether this response is for a request of this leg that the machine waits for.
    pub fn waits_for(&self, client: ClientId) -> bool {
        matches!(self.ours, Ours::Sent { client: sent, .. } if sent == client)
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
            self.dialog.heard_on(hop);
            self.on_accepted(cx, response, carrier, purpose, cseq);
            self.flush(cx);
            return Flow::On;
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
    ) {
        self.learn(&response.headers);
        self.dialog.refresh_target(contact_of(&response.headers));
        if self.confirmed {
            self.session.told_by_answer(response.headers.session_expires());
            self.session.start(cx);
        }
        match (carrier, purpose) {
            (Carrier::Invite, Purpose::Offer(None)) => match sdp::read(&response.body) {
                Ok(read) => {
                    self.await_answer(cseq, read.text.clone());
                    cx.event(Event::Offer(cx.call, Some(read)));
                }
                Err(_) => {
                    self.acknowledge(cx, cseq, None);
                    cx.event(Event::OfferRefused(cx.call, 488));
                }
            },
            (carrier, Purpose::Offer(_)) => {
                if carrier == Carrier::Invite {
                    self.acknowledge(cx, cseq, None);
                }
                self.take_answer(cx, &response.body);
            }
            (Carrier::Invite, Purpose::Refresh) => {
                self.acknowledge(cx, cseq, None);
                if !response.body.is_empty() {
                    self.remote_sdp = Some(response.body.as_slice().into());
                }
            }
            (Carrier::Update, Purpose::Refresh) => {}
        }
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
    pub fn on_failure(&mut self, cx: &mut Cx<'_>, timed_out: bool) -> Flow {
        let purpose = match std::mem::replace(&mut self.ours, Ours::Idle) {
            Ours::Sent { purpose, .. } => purpose,
            other @ (Ours::Idle | Ours::AnswerDue { .. } | Ours::Waiting { .. }) => {
                self.ours = other;
                return Flow::On;
            }
        };
        if timed_out {
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
            Timer::Expiry => return Flow::Lost(values::TIMER_EXPIRY),
            Timer::ReliableRetransmit | Timer::ReliableTimeout | Timer::NoAnswer => {}
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

    // ---- headers ----

    /// A request in this dialog with the headers that all of them have.
    pub fn request(&self, method: Method, cseq: u32) -> Request {
        let path = self.dialog.path();
        let number = format!("{cseq} {method}");
        let mut request = Request::new(method, path.uri);
        for route in path.routes {
            request.headers.push("Route", route);
        }
        request.headers.push("Max-Forwards", "70");
        request.headers.push("From", self.dialog.local.header());
        request.headers.push("To", self.dialog.remote.header());
        request.headers.push("Call-ID", &*self.dialog.id.call_id);
        request.headers.push("CSeq", number);
        request
    }

    pub fn target_refresh_headers(&self, headers: &mut Headers) {
        headers.push("Contact", format!("<{}>", self.contact));
        headers.push("Allow", ALLOW);
    }

    /// P-Asserted-Identity of whom the peer talks to, once.
    pub fn identity_header(&mut self, cx: &Cx<'_>, headers: &mut Headers) {
        if let Some(identity) = self.identity.take() {
            cx.identity_headers(&identity, self.dialog.reach(), self.dialog.peer_hop(), headers);
        }
    }

    /// Whom the peer shall see when a message goes next.
    pub fn note_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Whether a description of the node says anything else than what the peer was told before.
    pub fn would_differ(&self, sdp: &Sdp, before: Option<&[u8]>) -> bool {
        let now = self.describer.clone().offer(sdp).ok();
        now.as_deref() != before
    }

    /// Where a request leaves to; a connection that is gone meanwhile is not counted on.
    pub fn next_hop(&mut self, cx: &Cx<'_>) -> Hop {
        if self.dialog.peer_hop().connection.is_some_and(|c| !cx.core.connections.contains(&c)) {
            self.dialog.connection_closed();
        }
        self.dialog.next_hop()
    }

    /// An offer of ours that follows the ACK, of which the node knows nothing.
    pub fn queue_change(&mut self, sdp: Sdp) {
        self.change = Some(sdp);
    }

    /// An offer for when the dialog is ready for it.
    pub fn queue(&mut self, sdp: Option<Sdp>) {
        self.queued = Some(sdp);
    }
}
