//! One dialog with its offers and answers (RFC 3264, RFC 6337), early or confirmed: what is the same whoever sent the INVITE.

mod ask;
mod glare;
mod peer;
mod refer;

use super::context::{Cx, Late, Server};
use super::parties::{self, Side};
use super::session_timer::SessionTimer;
use super::values::{self, ALLOW, SDP, SUPPORTED};
use crate::dialog::{Dialog, Reach};
use crate::message::{Headers, Method, Request, Response};
use crate::port::{Event, Hop, Identity, Sdp};
use crate::sdp::{self, Describer};
use crate::transaction::ClientId;
use refer::Referrals;
use std::sync::Arc;
use std::time::Duration;

/// A dialog of a call.
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
    /// Who is at the peer's end, by the word of a trunk.
    pub peer: Option<Identity>,
    session: SessionTimer,
    /// OPTIONS that asks whether the peer still knows the dialog, and where it went.
    asked: Option<(ClientId, Hop)>,
    /// What the peer's REFERs want to be told.
    referrals: Referrals,
}

impl std::fmt::Debug for Leg {
    /// Never parties and descriptions: numbers, names and keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Leg { confirmed, agreed, ours, theirs, .. } = self;
        let (ours, theirs) = (ours.name(), theirs.name());
        write!(f, "Leg(confirmed {confirmed}, agreed {agreed}, ours {ours}, theirs {theirs})")
    }
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

enum Purpose {
    /// The node's; kept for another try.
    Offer(Option<Sdp>),
    /// Keeps the session alive and changes nothing.
    Refresh,
}

/// What is open of the peer's offers.
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
        ack: Ack,
    },
}

/// What the ACK of a 2xx of ours brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    Plain,
    /// The 2xx had our offer.
    WithAnswer,
}

/// Why a request of ours has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoResponse {
    /// Nobody answered (Timers B, F).
    TimedOut,
    /// It could not be sent.
    NotSent,
}

impl Ours {
    fn name(&self) -> &'static str {
        match self {
            Ours::Idle => "idle",
            Ours::Sent { .. } => "sent",
            Ours::AnswerDue { .. } => "answer due",
            Ours::Waiting { .. } => "waiting",
        }
    }
}

impl Theirs {
    fn name(&self) -> &'static str {
        match self {
            Theirs::Idle => "idle",
            Theirs::Asked { .. } => "asked",
            Theirs::AckDue { .. } => "ACK due",
        }
    }
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
            peer: None,
            session,
            asked: None,
            referrals: Referrals::default(),
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
                cx.description_refused(self.describer.policy(), error);
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
        self.identity_header(cx, Side::Calling, &mut request.headers);
        if let Some(body) = body {
            request = request.with_body(SDP, body.to_vec());
        }
        let hop = self.next_hop(cx);
        let client = cx.request(hop, request);
        self.ours = Ours::Sent { client, carrier, purpose, cseq };
    }

    /// [`crate::port::Command::Answer`]: the answer to the peer's offer, or the offer it asked for. What can't be written is
    /// refused; where that isn't possible, the dialog is lost.
    pub fn answer(&mut self, cx: &mut Cx<'_>, sdp: &Sdp) -> Flow {
        if let Some((cseq, offer)) = self.take_answer_due() {
            let Ok(body) = self.describer.answer(sdp, &offer) else {
                tracing::debug!(call = ?cx.call, "the answer to the offer of a 2xx can't be written");
                let refusal = self.describer.refusal(&offer).ok();
                self.acknowledge(cx, cseq, refusal);
                return Flow::Lost(values::BEARER_NOT_IMPLEMENTED);
            };
            self.acknowledge(cx, cseq, Some(body));
            self.agreed = true;
            self.flush(cx);
            return Flow::On;
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
                        let ack = if offer.is_none() { Ack::WithAnswer } else { Ack::Plain };
                        self.accept_offer(cx, server, Some(body), ack);
                    }
                    Err(error) => {
                        tracing::debug!(call = ?cx.call, %error, "an answer can't be written");
                        cx.description_refused(self.describer.policy(), error);
                        cx.refuse_media(&server, error);
                    }
                }
                self.flush(cx);
            }
            other @ (Theirs::Idle | Theirs::AckDue { .. }) => self.theirs = other,
        }
        Flow::On
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

    /// Our last description again, as the answer where a real one can't be given; a refusal of each line where there was
    /// none before.
    pub fn unchanged(&mut self, offer: &[u8]) -> Result<Arc<[u8]>, sdp::SdpError> {
        match self.describer.last() {
            Some(last) => self.describer.answer(&Sdp::Relay(last, None), offer),
            None => self.describer.refusal(offer),
        }
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
        if let Ours::Sent { client, carrier: Carrier::Invite, cseq, purpose } =
            std::mem::replace(&mut self.ours, Ours::Idle)
        {
            // After a provisional an INVITE would wait for its answer for ever.
            cx.core.transactions.cancel(cx.now, client, None, cx.out);
            self.expect_late(cx, cseq, &purpose);
        }
    }

    /// The dialog ends while this re-INVITE of ours has no answer.
    fn expect_late(&self, cx: &mut Cx<'_>, cseq: u32, purpose: &Purpose) {
        let (dialog, describer) = (self.dialog.clone(), self.describer.clone());
        let leg = Box::new(Leg::new(dialog, describer, self.contact.clone(), self.session));
        let asked = match purpose {
            Purpose::Offer(offer) => offer.is_none(),
            Purpose::Refresh => false,
        };
        cx.expect_late(cseq, Late { leg, asked });
    }

    /// Acknowledges the 2xx to a re-INVITE whose call is over. An offer in it is answered as things were.
    pub fn acknowledge_late(&mut self, cx: &mut Cx<'_>, cseq: u32, offer: &[u8]) {
        let body = if offer.is_empty() { None } else { self.unchanged(offer).ok() };
        self.acknowledge(cx, cseq, body);
    }

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
    pub fn accept_invite(&mut self, cx: &mut Cx<'_>, server: Server, body: Option<Arc<[u8]>>, ack: Ack) {
        self.confirmed = true;
        self.accept_offer(cx, server, body, ack);
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

    /// Whom the peer talks to, once.
    pub fn identity_header(&mut self, cx: &Cx<'_>, side: Side, headers: &mut Headers) {
        if let Some(identity) = self.identity.take() {
            cx.identity_headers(&identity, side, self.dialog.reach(), self.dialog.peer_hop(), headers);
        }
    }

    /// Notes whom a trunk asserts to be at its end; true when that is somebody else than before.
    pub fn identifies(&mut self, headers: &Headers, side: Side) -> bool {
        match self.dialog.reach() {
            // A phone's word for it counts for nothing.
            Reach::AsItCame => false,
            Reach::Contact => match parties::asserted(headers, side) {
                Some(peer) if self.peer.as_ref() != Some(&peer) => {
                    self.peer = Some(peer);
                    true
                }
                Some(_) | None => false,
            },
        }
    }

    /// Tells the node of somebody else at a trunk's end.
    pub fn learn_party(&mut self, cx: &mut Cx<'_>, headers: &Headers, side: Side) {
        if self.identifies(headers, side) {
            self.tell_party(cx);
        }
    }

    /// Tells the node who is at a trunk's end, if that was ever asserted.
    pub fn tell_party(&mut self, cx: &mut Cx<'_>) {
        if let Some(peer) = &self.peer {
            cx.event(Event::Identified(cx.call, peer.clone()));
        }
    }

    /// Whom the peer shall see when a message goes next.
    pub fn note_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Whether a description of the node says anything else than what the peer was told before, be it as an offer or as
    /// the answer to the peer's own.
    pub fn would_differ(&self, sdp: &Sdp, before: Option<&[u8]>) -> bool {
        let offered = self.describer.clone().offer(sdp).ok();
        let answered =
            self.remote_sdp.as_ref().and_then(|offer| self.describer.clone().answer(sdp, offer).ok());
        offered.as_deref() != before && answered.as_deref() != before
    }

    /// Where a request leaves to; a connection that is gone meanwhile is not counted on.
    pub fn next_hop(&mut self, cx: &Cx<'_>) -> Hop {
        if self.dialog.peer_hop().connection.is_some_and(|c| !cx.core.connections.contains(&c)) {
            self.dialog.connection_closed(&cx.core.listed);
        }
        self.dialog.next_hop(&cx.core.listed)
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
