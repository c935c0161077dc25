//! One server transaction (RFC 3261 §17.2 as RFC 6026 corrects it).

use super::key::{MergeKey, ServerKey};
use super::{Settings, T2, T4};
use crate::message::Via;
use crate::port::{Hop, Transport};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What every server transaction keeps beside what its peer wrote: its place in the tables.
const FIXED_BYTES: usize = 512;

/// Where a server transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// An INVITE that has no final answer; what was last said, to say it again.
    InviteProceeding { last: Option<Arc<[u8]>> },
    /// An INVITE that was refused: said again until the ACK comes or Timer H ends it.
    InviteCompleted { last: Arc<[u8]>, again: Option<Instant>, interval: Duration, give_up: Instant },
    /// The ACK is here; absorbs more of them until Timer I.
    InviteConfirmed { until: Instant },
    /// A 2xx was sent (RFC 6026): absorbs the INVITE until Timer L. The TU repeats its 2xx.
    InviteAccepted { until: Instant },
    /// Another request, not finally answered. After Timer F its client has given up, and so do we.
    Trying { last: Option<Arc<[u8]>>, give_up: Instant },
    /// Another request, answered: said again on request until Timer J.
    Completed { last: Arc<[u8]>, until: Instant },
}

impl State {
    /// When it wants to be woken.
    pub fn due(&self) -> Option<Instant> {
        match self {
            State::InviteProceeding { .. } => None,
            State::InviteCompleted { again, give_up, .. } => {
                Some(again.map_or(*give_up, |again| again.min(*give_up)))
            }
            State::InviteConfirmed { until }
            | State::InviteAccepted { until }
            | State::Completed { until, .. } => Some(*until),
            State::Trying { give_up, .. } => Some(*give_up),
        }
    }
}

#[derive(Debug)]
pub(super) struct Server {
    pub key: ServerKey,
    pub merge: Option<MergeKey>,
    pub via: Via,
    /// Where responses go.
    pub hop: Hop,
    /// The tag of the TU's responses, for the 200 to a CANCEL.
    pub tag: Option<Box<str>>,
    /// The TU has heard of a CANCEL.
    pub cancelled: bool,
    pub state: State,
    /// About how many bytes it keeps, as it was counted last.
    pub weight: usize,
    /// What the timer table holds.
    pub due: Option<Instant>,
}

/// What a step of the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Send these bytes again.
    Send(Arc<[u8]>),
    /// Hand the ACK to the TU.
    PassAck,
    /// It is over.
    End,
    /// It is over, and no ACK came.
    EndWithoutAck,
}

impl Server {
    /// Counts anew how many bytes it keeps.
    pub fn weigh(&mut self) {
        let last = match &self.state {
            State::InviteProceeding { last } | State::Trying { last, .. } => {
                last.as_ref().map_or(0, |l| l.len())
            }
            State::InviteCompleted { last, .. } | State::Completed { last, .. } => last.len(),
            State::InviteConfirmed { .. } | State::InviteAccepted { .. } => 0,
        };
        let merge = self.merge.as_ref().map_or(0, MergeKey::len);
        // The keys stand in the table of keys once more.
        self.weight = FIXED_BYTES + 2 * (self.key.len() + merge) + self.via.weight() + last;
    }

    /// The same request again.
    pub fn repeated(&self) -> Step {
        match &self.state {
            State::InviteProceeding { last: Some(last) }
            | State::InviteCompleted { last, .. }
            | State::Trying { last: Some(last), .. }
            | State::Completed { last, .. } => Step::Send(Arc::clone(last)),
            State::InviteProceeding { last: None }
            | State::Trying { last: None, .. }
            | State::InviteConfirmed { .. }
            | State::InviteAccepted { .. } => Step::Stay,
        }
    }

    /// An ACK with the branch of the INVITE.
    pub fn acknowledged(&mut self, now: Instant) -> Step {
        match &self.state {
            State::InviteCompleted { .. } => match self.hop.transport {
                Transport::Udp => {
                    self.state = State::InviteConfirmed { until: now + T4 };
                    Step::Stay
                }
                Transport::Tcp | Transport::Tls => Step::End,
            },
            State::InviteAccepted { .. } => Step::PassAck,
            State::InviteProceeding { .. }
            | State::InviteConfirmed { .. }
            | State::Trying { .. }
            | State::Completed { .. } => Step::Stay,
        }
    }

    /// The TU answers. `None`: too late, this transaction has its final answer.
    pub fn answered(
        &mut self,
        now: Instant,
        status: u16,
        bytes: &Arc<[u8]>,
        settings: &Settings,
    ) -> Option<Step> {
        let last = Arc::clone(bytes);
        let patience = settings.t1 * 64;
        let reliable = self.hop.transport != Transport::Udp;
        let next = match (&self.state, status) {
            (State::InviteProceeding { .. }, 100..=199) => State::InviteProceeding { last: Some(last) },
            (State::InviteProceeding { .. } | State::InviteAccepted { .. }, 200..=299) => {
                State::InviteAccepted { until: now + patience }
            }
            (State::InviteProceeding { .. }, _) => State::InviteCompleted {
                last,
                again: (!reliable).then_some(now + settings.t1),
                interval: settings.t1,
                give_up: now + patience,
            },
            (State::Trying { give_up, .. }, 100..=199) => {
                State::Trying { last: Some(last), give_up: *give_up }
            }
            (State::Trying { .. }, _) if reliable => return Some(Step::End),
            (State::Trying { .. }, _) => State::Completed { last, until: now + patience },
            (
                State::InviteCompleted { .. }
                | State::InviteConfirmed { .. }
                | State::InviteAccepted { .. }
                | State::Completed { .. },
                _,
            ) => return None,
        };
        // The first 2xx starts Timer L; repeating it doesn't prolong the wait.
        if !matches!((&self.state, &next), (State::InviteAccepted { .. }, State::InviteAccepted { .. })) {
            self.state = next;
        }
        Some(Step::Stay)
    }

    /// Its time has come.
    pub fn timeout(&mut self, now: Instant) -> Step {
        match &mut self.state {
            State::InviteProceeding { .. } => Step::Stay,
            State::InviteCompleted { give_up, .. } if *give_up <= now => Step::EndWithoutAck,
            State::InviteCompleted { last, again, interval, .. } => {
                *interval = (*interval * 2).min(T2);
                *again = again.map(|_| now + *interval);
                Step::Send(Arc::clone(last))
            }
            State::InviteConfirmed { .. }
            | State::InviteAccepted { .. }
            | State::Trying { .. }
            | State::Completed { .. } => Step::End,
        }
    }
}
