//! An INVITE session: one side of the B2BUA, from its INVITE to its end. A call of the model has one for each of its SIP legs.
//!
//! Its methods take a message, a command or a timer, and send and emit through the [`Cx`]. `None` afterwards means that the
//! INVITE session is over; what its transactions still need is kept in the [`context::Core`].

pub(crate) mod context;
mod incoming;
mod leg;
mod outgoing;
pub(crate) mod parties;
pub(crate) mod refusals;
mod session_timer;
pub(crate) mod values;

pub(crate) use context::{Core, Cx, Server, Timer};
pub(crate) use incoming::Incoming;
pub(crate) use leg::{Leg, NoResponse};
pub(crate) use outgoing::{Outgoing, Plan, Target};
pub(crate) use session_timer::{PeerTimer, SessionTimer};

use crate::dialog::{Dialog, DialogId};
use crate::message::{Request, Response};
use crate::port::{ConnectionId, Event, Hop, Identity, Refusal, Sdp};
use crate::transaction::ClientId;
use leg::Flow;

/// The states of an INVITE session.
#[derive(Debug)]
pub(crate) enum InviteSession {
    /// We called; nobody has answered yet.
    Calling(Box<Outgoing>),
    /// Somebody calls; we have not answered yet.
    Called(Box<Incoming>),
    /// Answered.
    Confirmed(Box<Leg>),
    /// The node has ended it, but our 2xx still waits for its ACK, and the BYE with it (RFC 3261 §15).
    Terminating(Box<Leg>, Refusal),
}

/// What the node wants of a call.
pub(crate) enum Wish {
    Ring(Option<Sdp>),
    Accept(Sdp),
    End(Refusal),
    Offer(Option<Sdp>),
    Answer(Sdp),
    RefuseOffer(u16),
    Connected(Identity),
    Digit(char, u32),
    Referred(u16),
}

impl InviteSession {
    /// Whether the node still hears of it.
    pub fn is_muted(&self) -> bool {
        match self {
            InviteSession::Calling(_) | InviteSession::Called(_) | InviteSession::Confirmed(_) => false,
            InviteSession::Terminating(..) => true,
        }
    }

    /// A command of the node.
    pub fn on_wish(self, cx: &mut Cx<'_>, wish: Wish) -> Option<InviteSession> {
        match self {
            InviteSession::Calling(outgoing) => calling_wish(outgoing, cx, wish),
            InviteSession::Called(incoming) => called_wish(incoming, cx, wish),
            InviteSession::Confirmed(leg) => up_wish(leg, cx, wish),
            ending @ InviteSession::Terminating(..) => Some(ending),
        }
    }

    /// A request in its dialog; ACK is [`InviteSession::on_ack`]'s.
    pub fn on_request(self, cx: &mut Cx<'_>, server: Server) -> Option<InviteSession> {
        match self {
            InviteSession::Calling(mut outgoing) => {
                let tag = server.request.headers.from_tag().unwrap_or("").to_owned();
                let id = crate::dialog::DialogId {
                    call_id: server.request.headers.call_id().into(),
                    local_tag: server.tag.clone(),
                };
                let Some(leg) = outgoing.leg_of(&id, &tag) else {
                    cx.refuse(&server, 481);
                    return Some(InviteSession::Calling(outgoing));
                };
                let flow = leg.on_request(cx, server);
                from_outgoing(outgoing.after_request(cx, flow))
            }
            InviteSession::Called(incoming) => from_incoming(incoming.on_request(cx, server)),
            InviteSession::Confirmed(mut leg) => {
                let flow = leg.on_request(cx, server);
                after(cx, leg, flow)
            }
            InviteSession::Terminating(mut leg, refusal) => match leg.on_request(cx, server) {
                Flow::On => Some(InviteSession::Terminating(leg, refusal)),
                Flow::Ended(_) | Flow::Lost(_) => None,
            },
        }
    }

    /// Whether a request with this From tag is of its dialog.
    pub fn knows_peer(&self, tag: &str) -> bool {
        match self {
            InviteSession::Calling(_) => true,
            InviteSession::Called(incoming) => incoming.leg.dialog.remote.tag.as_deref().unwrap_or("") == tag,
            InviteSession::Confirmed(leg) | InviteSession::Terminating(leg, _) => {
                leg.dialog.remote.tag.as_deref().unwrap_or("") == tag
            }
        }
    }

    /// Asks the peers of its dialogs, early ones too, whether they still know it: along the way that `way` gives for a
    /// dialog, if it gives one; see [`Leg::ask_after`].
    pub fn ask_after(
        mut self,
        cx: &mut Cx<'_>,
        way: impl Fn(&Dialog) -> Option<Option<Hop>>,
    ) -> InviteSession {
        match &mut self {
            InviteSession::Confirmed(leg) => ask(leg, cx, &way),
            InviteSession::Called(incoming) => incoming.ask_after(cx, &way),
            InviteSession::Calling(outgoing) => outgoing.legs().for_each(|leg| ask(leg, cx, &way)),
            InviteSession::Terminating(..) => {}
        }
        self
    }

    /// Its dialog with this peer, under these ids of ours.
    pub fn dialog_with(&self, call_id: &str, local_tag: &str, peer_tag: &str) -> Option<&Dialog> {
        let is_meant = |dialog: &&Dialog| {
            (&*dialog.id.call_id, &*dialog.id.local_tag) == (call_id, local_tag)
                && dialog.remote.tag.as_deref().unwrap_or("") == peer_tag
        };
        match self {
            InviteSession::Calling(outgoing) => outgoing.early_dialogs().find(is_meant),
            InviteSession::Called(incoming) => Some(&incoming.leg.dialog),
            InviteSession::Confirmed(leg) | InviteSession::Terminating(leg, _) => Some(&leg.dialog),
        }
        .filter(is_meant)
    }

    /// Whether its peer's messages come or go by this connection.
    pub fn goes_over(&self, connection: ConnectionId) -> bool {
        let by = |dialog: &Dialog| {
            [dialog.peer_hop(), dialog.source()].iter().any(|hop| hop.connection == Some(connection))
        };
        match self {
            InviteSession::Calling(outgoing) => outgoing.early_dialogs().any(by),
            InviteSession::Called(incoming) => by(&incoming.leg.dialog),
            InviteSession::Confirmed(leg) | InviteSession::Terminating(leg, _) => by(&leg.dialog),
        }
    }

    /// Whether this ACK is the one that a 2xx waits for.
    pub fn awaits(&self, ack: &Request) -> bool {
        match self {
            InviteSession::Confirmed(leg) | InviteSession::Terminating(leg, _) => leg.awaits(ack),
            InviteSession::Calling(_) | InviteSession::Called(_) => false,
        }
    }

    /// The ACK of a 2xx.
    pub fn on_ack(self, cx: &mut Cx<'_>, ack: &Request) -> Option<InviteSession> {
        match self {
            InviteSession::Confirmed(mut leg) => {
                let flow = leg.on_ack(cx, ack);
                after(cx, leg, flow)
            }
            InviteSession::Terminating(mut leg, refusal) => {
                let _ = leg.on_ack(cx, ack);
                hang_up(leg, cx, refusal)
            }
            other @ (InviteSession::Calling(_) | InviteSession::Called(_)) => Some(other),
        }
    }

    /// CANCEL of its INVITE.
    pub fn on_cancel(self, cx: &mut Cx<'_>, cause: Option<u16>) -> Option<InviteSession> {
        match self {
            InviteSession::Called(incoming) => {
                incoming.cancelled(cx, cause);
                None
            }
            // The 2xx crossed it; or it is for a re-INVITE that the node is about to answer, and comes too late.
            other @ (InviteSession::Calling(_)
            | InviteSession::Confirmed(_)
            | InviteSession::Terminating(..)) => Some(other),
        }
    }

    /// A response to a request of this call.
    pub fn on_response(
        self,
        cx: &mut Cx<'_>,
        client: ClientId,
        response: &Response,
        hop: Hop,
    ) -> Option<InviteSession> {
        match self {
            InviteSession::Calling(outgoing) => {
                from_outgoing(outgoing.on_response(cx, client, response, hop))
            }
            InviteSession::Called(incoming) if incoming.leg.has_asked(client) => {
                from_incoming(incoming.on_asked(cx, response, hop))
            }
            InviteSession::Called(mut incoming) => {
                if incoming.leg.waits_for(client) {
                    // What a refused UPDATE means for the call, its INVITE says.
                    let _ = incoming.leg.on_response(cx, response, hop);
                }
                Some(InviteSession::Called(incoming))
            }
            InviteSession::Confirmed(mut leg) if leg.waits_for(client) => {
                let flow = leg.on_response(cx, response, hop);
                after(cx, leg, flow)
            }
            InviteSession::Confirmed(mut leg) if leg.has_asked(client) => {
                let flow = leg.on_asked(cx, response, hop);
                after(cx, leg, flow)
            }
            // An INFO. Before the ACK the peer may not have our 2xx yet, and know no dialog.
            InviteSession::Confirmed(leg) if response.status == 481 && !leg.ack_due() => {
                after(cx, leg, Flow::Lost(values::TEMPORARY_FAILURE))
            }
            other @ (InviteSession::Confirmed(_) | InviteSession::Terminating(..)) => Some(other),
        }
    }

    /// A request of this call got no response, or could not be sent.
    pub fn on_no_response(self, cx: &mut Cx<'_>, client: ClientId, why: NoResponse) -> Option<InviteSession> {
        match self {
            InviteSession::Calling(outgoing) => from_outgoing(outgoing.on_no_response(cx, client, why)),
            InviteSession::Called(incoming) if incoming.leg.has_asked(client) => {
                incoming.cancelled(cx, Some(values::TEMPORARY_FAILURE));
                None
            }
            InviteSession::Called(mut incoming) => {
                if incoming.leg.waits_for(client) {
                    let _ = incoming.leg.on_failure(cx, NoResponse::NotSent);
                }
                Some(InviteSession::Called(incoming))
            }
            InviteSession::Confirmed(mut leg) if leg.waits_for(client) => {
                let flow = leg.on_failure(cx, why);
                after(cx, leg, flow)
            }
            InviteSession::Confirmed(leg) if leg.has_asked(client) => {
                after(cx, leg, Flow::Lost(values::TEMPORARY_FAILURE))
            }
            other @ (InviteSession::Confirmed(_) | InviteSession::Terminating(..)) => Some(other),
        }
    }

    /// The number for another try of a request of ours; `None` when no dialog of this call is meant.
    pub fn next_cseq(&mut self, client: ClientId, id: &DialogId, peer_tag: &str) -> Option<u32> {
        match self {
            InviteSession::Calling(outgoing) => outgoing.next_cseq(client, id, peer_tag),
            InviteSession::Called(incoming) => Some(incoming.leg.dialog.next_cseq()),
            InviteSession::Confirmed(leg) | InviteSession::Terminating(leg, _) => {
                Some(leg.dialog.next_cseq())
            }
        }
    }

    /// A request of ours was sent again with another number, and goes by another name now.
    pub fn sent_again(&mut self, before: ClientId, now: ClientId, cseq: u32) {
        match self {
            InviteSession::Calling(outgoing) => outgoing.sent_again(before, now, cseq),
            InviteSession::Called(incoming) => incoming.leg.sent_again(before, now, cseq),
            InviteSession::Confirmed(leg) | InviteSession::Terminating(leg, _) => {
                leg.sent_again(before, now, cseq)
            }
        }
    }

    /// A timer of this call.
    pub fn on_timer(self, cx: &mut Cx<'_>, timer: Timer) -> Option<InviteSession> {
        match self {
            InviteSession::Calling(outgoing) => from_outgoing(outgoing.on_timer(cx, timer)),
            InviteSession::Called(incoming) => from_incoming(incoming.on_timer(cx, timer)),
            InviteSession::Confirmed(mut leg) => {
                let flow = leg.on_timer(cx, timer);
                after(cx, leg, flow)
            }
            InviteSession::Terminating(mut leg, refusal) => match leg.on_timer(cx, timer) {
                Flow::On => Some(InviteSession::Terminating(leg, refusal)),
                // No ACK will come any more.
                Flow::Ended(_) | Flow::Lost(_) => {
                    leg.hang_up(cx, Some(values::reason(&refusal)));
                    None
                }
            },
        }
    }
}

fn ask(leg: &mut Leg, cx: &mut Cx<'_>, way: impl Fn(&Dialog) -> Option<Option<Hop>>) {
    if let Some(way) = way(&leg.dialog) {
        leg.ask_after(cx, way);
    }
}

fn from_outgoing(outcome: outgoing::Outcome) -> Option<InviteSession> {
    match outcome {
        outgoing::Outcome::Pending(outgoing) => Some(InviteSession::Calling(outgoing)),
        outgoing::Outcome::Answered(leg) => Some(InviteSession::Confirmed(leg)),
        outgoing::Outcome::Over => None,
    }
}

fn from_incoming(outcome: incoming::Outcome) -> Option<InviteSession> {
    match outcome {
        incoming::Outcome::Pending(incoming) => Some(InviteSession::Called(incoming)),
        incoming::Outcome::Accepted(leg) => Some(InviteSession::Confirmed(leg)),
        incoming::Outcome::Over => None,
    }
}

fn after(cx: &mut Cx<'_>, mut leg: Box<Leg>, flow: Flow) -> Option<InviteSession> {
    match flow {
        Flow::On => Some(InviteSession::Confirmed(leg)),
        Flow::Ended(cause) => {
            cx.event(Event::Ended { call: cx.call, cause });
            None
        }
        Flow::Lost(cause) => {
            leg.hang_up(cx, Some(format!("Q.850;cause={cause}")));
            cx.event(Event::Ended { call: cx.call, cause });
            None
        }
    }
}

fn hang_up(mut leg: Box<Leg>, cx: &mut Cx<'_>, refusal: Refusal) -> Option<InviteSession> {
    if leg.ack_due() {
        return Some(InviteSession::Terminating(leg, refusal));
    }
    leg.hang_up(cx, Some(values::reason(&refusal)));
    None
}

fn calling_wish(mut outgoing: Box<Outgoing>, cx: &mut Cx<'_>, wish: Wish) -> Option<InviteSession> {
    match wish {
        Wish::End(refusal) => {
            outgoing.end(cx, &refusal);
            return None;
        }
        Wish::Offer(sdp) => outgoing.offer(cx, sdp),
        Wish::Answer(sdp) => outgoing.answer(cx, &sdp),
        Wish::RefuseOffer(status) => outgoing.refuse_offer(cx, status),
        Wish::Connected(identity) => outgoing.connected(identity),
        Wish::Digit(..) | Wish::Ring(_) | Wish::Accept(_) | Wish::Referred(_) => {
            tracing::debug!(call = ?cx.call, "a command that an unanswered call of ours can't carry out");
        }
    }
    Some(InviteSession::Calling(outgoing))
}

fn called_wish(mut incoming: Box<Incoming>, cx: &mut Cx<'_>, wish: Wish) -> Option<InviteSession> {
    match wish {
        Wish::Ring(sdp) => incoming.ring(cx, sdp),
        Wish::Accept(sdp) => return from_incoming(incoming.accept(cx, sdp)),
        Wish::End(refusal) => {
            incoming.refuse(cx, &refusal);
            return None;
        }
        Wish::Offer(sdp) => incoming.leg.offer(cx, sdp),
        // Nothing of ours was answered yet, so that what can't be written was refused.
        Wish::Answer(sdp) => {
            let _ = incoming.leg.answer(cx, &sdp);
        }
        Wish::RefuseOffer(status) => incoming.leg.refuse_offer(cx, status),
        Wish::Connected(identity) => incoming.connected(identity),
        Wish::Digit(digit, duration_ms) => incoming.leg.digit(cx, digit, duration_ms),
        Wish::Referred(status) => incoming.leg.referred(cx, status),
    }
    Some(InviteSession::Called(incoming))
}

fn up_wish(mut leg: Box<Leg>, cx: &mut Cx<'_>, wish: Wish) -> Option<InviteSession> {
    match wish {
        Wish::End(refusal) => return hang_up(leg, cx, refusal),
        Wish::Offer(sdp) => leg.offer(cx, sdp),
        Wish::Answer(sdp) => {
            let flow = leg.answer(cx, &sdp);
            return after(cx, leg, flow);
        }
        Wish::RefuseOffer(status) => leg.refuse_offer(cx, status),
        Wish::Connected(identity) => leg.connected(cx, identity),
        Wish::Digit(digit, duration_ms) => leg.digit(cx, digit, duration_ms),
        Wish::Referred(status) => leg.referred(cx, status),
        Wish::Ring(_) | Wish::Accept(_) => {
            tracing::debug!(call = ?cx.call, "it is answered already");
        }
    }
    Some(InviteSession::Confirmed(leg))
}
