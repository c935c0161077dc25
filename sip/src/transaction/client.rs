//! One client transaction (RFC 3261 §17.1 as RFC 6026 corrects it).

use super::key::ClientKey;
use super::{Settings, T2, T4};
use crate::message::{Method, Request, Response};
use crate::port::{Hop, Transport};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far a wish to cancel has come (RFC 3261 §9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// Nobody wants it.
    No,
    /// As soon as a provisional response is here.
    Wanted { reason: Option<String> },
    /// The CANCEL is out; without a final answer by then the INVITE is given up.
    Sent { give_up: Instant },
}

/// Where a client transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No response yet (Calling, Trying). Timer A or E sends again, Timer B or F gives up.
    Waiting { again: Option<Instant>, interval: Duration, give_up: Instant },
    /// An INVITE with a provisional response: the TU decides how long it waits.
    InviteProceeding,
    /// Another request with a provisional response: still sent again, every T2, until Timer F.
    Proceeding { again: Option<Instant>, give_up: Instant },
    /// An INVITE that was accepted: lets all its 2xx through until Timer M.
    InviteAccepted { until: Instant },
    /// An INVITE that was refused: each repetition gets the ACK again until Timer D.
    InviteCompleted { ack: Arc<[u8]>, until: Instant },
    /// Another request that was answered: absorbs repetitions until Timer K.
    Completed { until: Instant },
}

#[derive(Debug)]
pub(super) struct Client {
    pub key: ClientKey,
    pub hop: Hop,
    /// Without its body; ACK and CANCEL are made of it.
    pub request: Box<Request>,
    pub bytes: Arc<[u8]>,
    pub cancel: Cancel,
    /// A CANCEL of our own: nobody waits for its answer.
    pub internal: bool,
    /// See [`super::Challenged`].
    pub renewed: bool,
    /// It was sent once more after the connection that it went by had ended.
    pub sent_anew: bool,
    pub state: State,
    /// What the timer table holds.
    pub due: Option<Instant>,
}

/// What a step of the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Send these bytes.
    Send(Arc<[u8]>),
    /// Hand the response on.
    Pass,
    /// Hand the response on and send the CANCEL that was waiting.
    PassAndCancel { reason: Option<String> },
    /// Refused: acknowledge, hand on and keep the transaction (UDP) or end it.
    AcknowledgeAndPass { end: bool },
    /// Hand on, and it is over.
    PassAndEnd,
    /// Over without an answer.
    GiveUp,
    /// Over.
    End,
}

impl Client {
    /// The ACK of a refusal (RFC 3261 §17.1.1.3).
    pub fn ack(&self, response: &Response) -> Request {
        let mut ack = self.companion(Method::Ack);
        ack.headers.copy("To", &response.headers);
        ack
    }

    /// A request with the INVITE's branch and names, still without To: its ACK or CANCEL.
    pub fn companion(&self, method: Method) -> Request {
        let mut request = Request::new(method, self.request.uri.clone());
        if let Ok(via) = self.request.headers.top_via() {
            request.headers.push("Via", via.to_string());
        }
        for name in ["Route", "From", "Call-ID"] {
            request.headers.copy(name, &self.request.headers);
        }
        let number = self.request.headers.cseq().map_or(1, |cseq| cseq.number);
        request.headers.push("CSeq", format!("{number} {}", request.method));
        request.headers.push("Max-Forwards", "70");
        request
    }

    /// Whether the TU still waits for its end.
    pub fn is_awaited(&self) -> bool {
        match self.state {
            State::Waiting { .. } | State::InviteProceeding | State::Proceeding { .. } => !self.internal,
            State::InviteAccepted { .. } | State::InviteCompleted { .. } | State::Completed { .. } => false,
        }
    }

    /// Whether the end of the connection that it may have gone by is no answer yet: it goes to an address, by whichever
    /// connection there is, and nothing has come back.
    pub fn may_be_sent_anew(&self) -> bool {
        let unanswered = match self.state {
            State::Waiting { .. } => true,
            State::InviteProceeding
            | State::Proceeding { .. }
            | State::InviteAccepted { .. }
            | State::InviteCompleted { .. }
            | State::Completed { .. } => false,
        };
        unanswered && self.hop.connection.is_none() && !self.sent_anew
    }

    pub fn waiting(now: Instant, hop: &Hop, settings: &Settings) -> State {
        let again = (hop.transport == Transport::Udp).then_some(now + settings.t1);
        State::Waiting { again, interval: settings.t1, give_up: now + settings.t1 * 64 }
    }

    /// When it wants to be woken.
    pub fn wants(&self) -> Option<Instant> {
        let earliest =
            |again: &Option<Instant>, give_up: &Instant| again.map_or(*give_up, |again| again.min(*give_up));
        let own = match &self.state {
            State::Waiting { again, give_up, .. } | State::Proceeding { again, give_up } => {
                Some(earliest(again, give_up))
            }
            State::InviteProceeding => None,
            State::InviteAccepted { until }
            | State::InviteCompleted { until, .. }
            | State::Completed { until } => Some(*until),
        };
        match (&self.state, &self.cancel) {
            (State::InviteProceeding, Cancel::Sent { give_up }) => Some(*give_up),
            (_, Cancel::No | Cancel::Wanted { .. } | Cancel::Sent { .. }) => own,
        }
    }

    /// A response to an INVITE.
    pub fn invite_response(&mut self, now: Instant, status: u16, settings: &Settings) -> Step {
        match (&self.state, status) {
            (State::Waiting { .. } | State::InviteProceeding, 100..=199) => {
                self.state = State::InviteProceeding;
                match &mut self.cancel {
                    Cancel::Wanted { reason } => Step::PassAndCancel { reason: reason.take() },
                    Cancel::No | Cancel::Sent { .. } => Step::Pass,
                }
            }
            (State::Waiting { .. } | State::InviteProceeding, 200..=299) => {
                self.state = State::InviteAccepted { until: now + settings.t1 * 64 };
                Step::Pass
            }
            (State::InviteAccepted { .. }, 200..=299) => Step::Pass,
            (State::Waiting { .. } | State::InviteProceeding, _) => {
                Step::AcknowledgeAndPass { end: self.hop.transport != Transport::Udp }
            }
            (State::InviteCompleted { ack, .. }, 300..) => Step::Send(Arc::clone(ack)),
            (
                State::InviteAccepted { .. }
                | State::InviteCompleted { .. }
                | State::Proceeding { .. }
                | State::Completed { .. },
                _,
            ) => Step::Stay,
        }
    }

    /// A response to another request.
    pub fn response(&mut self, now: Instant, status: u16) -> Step {
        let reliable = self.hop.transport != Transport::Udp;
        match (&self.state, status) {
            (State::Waiting { give_up, .. } | State::Proceeding { give_up, .. }, 100..=199) => {
                let again = (!reliable).then_some(now + T2);
                self.state = State::Proceeding { again, give_up: *give_up };
                Step::Pass
            }
            (State::Waiting { .. } | State::Proceeding { .. }, _) if reliable => Step::PassAndEnd,
            (State::Waiting { .. } | State::Proceeding { .. }, _) => {
                self.state = State::Completed { until: now + T4 };
                Step::Pass
            }
            (
                State::Completed { .. }
                | State::InviteProceeding
                | State::InviteAccepted { .. }
                | State::InviteCompleted { .. },
                _,
            ) => Step::Stay,
        }
    }

    /// Its time has come.
    pub fn timeout(&mut self, now: Instant) -> Step {
        let invite = self.key.method == Method::Invite;
        match &mut self.state {
            State::Waiting { give_up, .. } | State::Proceeding { give_up, .. } if *give_up <= now => {
                Step::GiveUp
            }
            State::Waiting { again, interval, .. } => {
                *interval = if invite { *interval * 2 } else { (*interval * 2).min(T2) };
                *again = again.map(|_| now + *interval);
                Step::Send(Arc::clone(&self.bytes))
            }
            State::Proceeding { again, .. } => {
                *again = again.map(|_| now + T2);
                Step::Send(Arc::clone(&self.bytes))
            }
            // Only a CANCEL without effect wakes it here.
            State::InviteProceeding => Step::GiveUp,
            State::InviteAccepted { .. } | State::InviteCompleted { .. } | State::Completed { .. } => {
                Step::End
            }
        }
    }
}
