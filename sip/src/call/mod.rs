//! A call: one side of the B2BUA, from its INVITE to its end.
//!
//! The machine is told a message, a command or a timer, and answers through its [`Cx`]. `None` afterwards means that the
//! call is over; what its transactions still need lives on in the [`context::Core`].

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
pub(crate) use leg::Leg;
pub(crate) use outgoing::{Outgoing, Plan, Target};
pub(crate) use session_timer::SessionTimer;

use crate::dialog::{Dialog, DialogId};
use crate::message::{Request, Response};
use crate::port::{Event, Hop, Identity, Refusal, Sdp};
use crate::transaction::ClientId;
use leg::Flow;

/// The states of a call.
#[derive(Debug)]
pub(crate) enum Call {
    /// We called; nobody has answered yet.
    Calling(Box<Outgoing>),
    /// Somebody calls; we have not answered yet.
    Called(Box<Incoming>),
    /// Answered.
    Up(Box<Leg>),
    /// The node has ended it, but our 2xx still waits for its ACK, and the BYE with it (RFC 3261 §15).
    HangingUp(Box<Leg>, Refusal),
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
}

impl Call {
    /// Whether the node still hears of it.
    pub fn is_muted(&self) -> bool {
        match self {
            Call::Calling(_) | Call::Called(_) | Call::Up(_) => false,
            Call::HangingUp(..) => true,
        }
    }

    /// A command of the node.
    pub fn on_wish(self, cx: &mut Cx<'_>, wish: Wish) -> Option<Call> {
        match self {
            Call::Calling(outgoing) => calling_wish(outgoing, cx, wish),
            Call::Called(incoming) => called_wish(incoming, cx, wish),
            Call::Up(leg) => up_wish(leg, cx, wish),
            ending @ Call::HangingUp(..) => Some(ending),
        }
    }

    /// A request in its dialog; ACK is [`Call::on_ack`]'s.
    pub fn on_request(self, cx: &mut Cx<'_>, server: Server) -> Option<Call> {
        match self {
            Call::Calling(mut outgoing) => {
                let tag = server.request.headers.from_tag().unwrap_or("").to_owned();
                let id = crate::dialog::DialogId {
                    call_id: server.request.headers.call_id().into(),
                    local_tag: server.tag.clone(),
                };
                let Some(leg) = outgoing.leg_of(&id, &tag) else {
                    cx.refuse(&server, 481);
                    return Some(Call::Calling(outgoing));
                };
                let flow = leg.on_request(cx, server);
                from_outgoing(outgoing.after_request(cx, flow))
            }
            Call::Called(incoming) => from_incoming(incoming.on_request(cx, server)),
            Call::Up(mut leg) => {
                let flow = leg.on_request(cx, server);
                after(cx, leg, flow)
            }
            Call::HangingUp(mut leg, refusal) => match leg.on_request(cx, server) {
                Flow::On => Some(Call::HangingUp(leg, refusal)),
                Flow::Ended(_) | Flow::Lost(_) => None,
            },
        }
    }

    /// Whether a request with this From tag is of its dialog.
    pub fn knows_peer(&self, tag: &str) -> bool {
        match self {
            Call::Calling(_) => true,
            Call::Called(incoming) => incoming.leg.dialog.remote.tag.as_deref().unwrap_or("") == tag,
            Call::Up(leg) | Call::HangingUp(leg, _) => leg.dialog.remote.tag.as_deref().unwrap_or("") == tag,
        }
    }

    /// Asks the peers of its dialogs, early ones too, whether they still know it: along the way that `way` gives for a
    /// dialog, if it gives one; see [`Leg::ask_after`].
    pub fn ask_after(mut self, cx: &mut Cx<'_>, way: impl Fn(&Dialog) -> Option<Option<Hop>>) -> Call {
        match &mut self {
            Call::Up(leg) => ask(leg, cx, &way),
            Call::Called(incoming) => incoming.ask_after(cx, &way),
            Call::Calling(outgoing) => outgoing.legs().for_each(|leg| ask(leg, cx, &way)),
            Call::HangingUp(..) => {}
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
            Call::Calling(outgoing) => outgoing.early_dialogs().find(is_meant),
            Call::Called(incoming) => Some(&incoming.leg.dialog),
            Call::Up(leg) | Call::HangingUp(leg, _) => Some(&leg.dialog),
        }
        .filter(is_meant)
    }

    /// Whether this ACK is the one that a 2xx waits for.
    pub fn awaits(&self, ack: &Request) -> bool {
        match self {
            Call::Up(leg) | Call::HangingUp(leg, _) => leg.awaits(ack),
            Call::Calling(_) | Call::Called(_) => false,
        }
    }

    /// The ACK of a 2xx.
    pub fn on_ack(self, cx: &mut Cx<'_>, ack: &Request) -> Option<Call> {
        match self {
            Call::Up(mut leg) => {
                leg.on_ack(cx, ack);
                Some(Call::Up(leg))
            }
            Call::HangingUp(mut leg, refusal) => {
                leg.on_ack(cx, ack);
                hang_up(leg, cx, refusal)
            }
            other @ (Call::Calling(_) | Call::Called(_)) => Some(other),
        }
    }

    /// CANCEL of its INVITE.
    pub fn on_cancel(self, cx: &mut Cx<'_>, cause: Option<u16>) -> Option<Call> {
        match self {
            Call::Called(incoming) => {
                incoming.cancelled(cx, cause);
                None
            }
            // The 2xx crossed it; or it is for a re-INVITE that the node is about to answer, and comes too late.
            other @ (Call::Calling(_) | Call::Up(_) | Call::HangingUp(..)) => Some(other),
        }
    }

    /// A response to a request of this call.
    pub fn on_response(
        self,
        cx: &mut Cx<'_>,
        client: ClientId,
        response: &Response,
        hop: Hop,
    ) -> Option<Call> {
        match self {
            Call::Calling(outgoing) => from_outgoing(outgoing.on_response(cx, client, response, hop)),
            Call::Called(incoming) if incoming.leg.has_asked(client) => {
                from_incoming(incoming.on_asked(cx, response, hop))
            }
            Call::Called(mut incoming) => {
                if incoming.leg.waits_for(client) {
                    // What a refused UPDATE means for the call, its INVITE says.
                    let _ = incoming.leg.on_response(cx, response, hop);
                }
                Some(Call::Called(incoming))
            }
            Call::Up(mut leg) if leg.waits_for(client) => {
                let flow = leg.on_response(cx, response, hop);
                after(cx, leg, flow)
            }
            Call::Up(mut leg) if leg.has_asked(client) => {
                let flow = leg.on_asked(cx, response, hop);
                after(cx, leg, flow)
            }
            // An INFO. Before the ACK the peer may not have our 2xx yet, and know no dialog.
            Call::Up(leg) if response.status == 481 && !leg.ack_due() => {
                after(cx, leg, Flow::Lost(values::TEMPORARY_FAILURE))
            }
            other @ (Call::Up(_) | Call::HangingUp(..)) => Some(other),
        }
    }

    /// A request of this call got no response, or could not be sent.
    pub fn on_no_response(self, cx: &mut Cx<'_>, client: ClientId, timed_out: bool) -> Option<Call> {
        match self {
            Call::Calling(outgoing) => from_outgoing(outgoing.on_no_response(cx, client, timed_out)),
            Call::Called(incoming) if incoming.leg.has_asked(client) => {
                incoming.cancelled(cx, Some(values::TEMPORARY_FAILURE));
                None
            }
            Call::Called(mut incoming) => {
                if incoming.leg.waits_for(client) {
                    let _ = incoming.leg.on_failure(cx, false);
                }
                Some(Call::Called(incoming))
            }
            Call::Up(mut leg) if leg.waits_for(client) => {
                let flow = leg.on_failure(cx, timed_out);
                after(cx, leg, flow)
            }
            Call::Up(leg) if leg.has_asked(client) => after(cx, leg, Flow::Lost(values::TEMPORARY_FAILURE)),
            other @ (Call::Up(_) | Call::HangingUp(..)) => Some(other),
        }
    }

    /// The number for another try of a request of ours; `None` when no dialog of this call is meant.
    pub fn next_cseq(&mut self, client: ClientId, id: &DialogId, peer_tag: &str) -> Option<u32> {
        match self {
            Call::Calling(outgoing) => outgoing.next_cseq(client, id, peer_tag),
            Call::Called(incoming) => Some(incoming.leg.dialog.next_cseq()),
            Call::Up(leg) | Call::HangingUp(leg, _) => Some(leg.dialog.next_cseq()),
        }
    }

    /// A request of ours was sent again with another number, and goes by another name now.
    pub fn sent_again(&mut self, before: ClientId, now: ClientId, cseq: u32) {
        match self {
            Call::Calling(outgoing) => outgoing.sent_again(before, now, cseq),
            Call::Called(incoming) => incoming.leg.sent_again(before, now, cseq),
            Call::Up(leg) | Call::HangingUp(leg, _) => leg.sent_again(before, now, cseq),
        }
    }

    /// A timer of this call.
    pub fn on_timer(self, cx: &mut Cx<'_>, timer: Timer) -> Option<Call> {
        match self {
            Call::Calling(outgoing) => from_outgoing(outgoing.on_timer(cx, timer)),
            Call::Called(incoming) => from_incoming(incoming.on_timer(cx, timer)),
            Call::Up(mut leg) => {
                let flow = leg.on_timer(cx, timer);
                after(cx, leg, flow)
            }
            Call::HangingUp(mut leg, refusal) => match leg.on_timer(cx, timer) {
                Flow::On => Some(Call::HangingUp(leg, refusal)),
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

fn from_outgoing(outcome: outgoing::Outcome) -> Option<Call> {
    match outcome {
        outgoing::Outcome::Pending(outgoing) => Some(Call::Calling(outgoing)),
        outgoing::Outcome::Answered(leg) => Some(Call::Up(leg)),
        outgoing::Outcome::Over => None,
    }
}

fn from_incoming(outcome: incoming::Outcome) -> Option<Call> {
    match outcome {
        incoming::Outcome::Pending(incoming) => Some(Call::Called(incoming)),
        incoming::Outcome::Accepted(leg) => Some(Call::Up(leg)),
        incoming::Outcome::Over => None,
    }
}

fn after(cx: &mut Cx<'_>, mut leg: Box<Leg>, flow: Flow) -> Option<Call> {
    match flow {
        Flow::On => Some(Call::Up(leg)),
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

fn hang_up(mut leg: Box<Leg>, cx: &mut Cx<'_>, refusal: Refusal) -> Option<Call> {
    if leg.ack_due() {
        return Some(Call::HangingUp(leg, refusal));
    }
    leg.hang_up(cx, Some(values::reason(&refusal)));
    None
}

fn calling_wish(mut outgoing: Box<Outgoing>, cx: &mut Cx<'_>, wish: Wish) -> Option<Call> {
    match wish {
        Wish::End(refusal) => {
            outgoing.end(cx, &refusal);
            return None;
        }
        Wish::Offer(sdp) => outgoing.offer(cx, sdp),
        Wish::Answer(sdp) => outgoing.answer(cx, &sdp),
        Wish::RefuseOffer(status) => outgoing.refuse_offer(cx, status),
        Wish::Connected(identity) => outgoing.connected(identity),
        Wish::Digit(..) | Wish::Ring(_) | Wish::Accept(_) => {
            tracing::debug!(call = ?cx.call, "a command that an unanswered call of ours can't carry out");
        }
    }
    Some(Call::Calling(outgoing))
}

fn called_wish(mut incoming: Box<Incoming>, cx: &mut Cx<'_>, wish: Wish) -> Option<Call> {
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
    }
    Some(Call::Called(incoming))
}

fn up_wish(mut leg: Box<Leg>, cx: &mut Cx<'_>, wish: Wish) -> Option<Call> {
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
        Wish::Ring(_) | Wish::Accept(_) => {
            tracing::debug!(call = ?cx.call, "it is answered already");
        }
    }
    Some(Call::Up(leg))
}
