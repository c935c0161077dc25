//! A call: one leg that stays, and what is at its other end.

use crate::control::CallControl;
use crate::dialling::Sender;
use crate::failure::Failure;
use crate::ids::{CallId, Dn, LegId};
use crate::operations::OperationId;
use crate::table::Table;
use crate::timers::Timer;
use crate::view::{Party, Reason};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The parties as CUCM shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parties {
    pub(crate) calling: Party,
    pub(crate) called: Party,
    pub(crate) original_called: Option<Party>,
    pub(crate) last_redirecting: Option<Party>,
}

/// Names an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId(pub(crate) u64);

/// A destination that is being tried: all its legs ring at once.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) call: CallId,
    /// The number, with its forwards. On a trunk: what was dialled.
    pub(crate) dn: Dn,
    pub(crate) branches: SmallVec<[LegId; 2]>,
    /// The branch whose application has answered and is asked for its address.
    pub(crate) answering: Option<LegId>,
    /// The best of the refusals so far.
    pub(crate) refused: Option<Failure>,
    pub(crate) alerting: Alerting,
    /// The branch that plays to the caller before it answers.
    pub(crate) early: Option<LegId>,
}

/// How far a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alerting {
    /// Nobody has said anything yet.
    Offered,
    /// Some branch rings.
    Ringing,
}

pub(crate) type Attempts = Table<AttemptId, Attempt>;

/// What is at the other end of the anchor.
#[derive(Clone, Debug)]
pub(crate) enum Far {
    /// Nothing yet: the number is being looked up.
    Nobody,
    /// The number leads somewhere; the caller's application is asked for its address first, which stands in the offer.
    Routed {
        /// The number, with its forwards.
        dn: Dn,
        /// Why the call goes there.
        reason: Reason,
        /// Who sends it there.
        sender: Sender,
    },
    /// A destination is being tried.
    Trying(AttemptId),
    /// The one that answered.
    Talking(LegId),
}

impl Far {
    /// The legs at an other end.
    pub(crate) fn legs(&self, attempts: &Attempts) -> SmallVec<[LegId; 2]> {
        match self {
            Far::Nobody | Far::Routed { .. } => SmallVec::new(),
            Far::Trying(attempt) => {
                attempts.known(*attempt).map(|attempt| attempt.branches.clone()).unwrap_or_default()
            }
            Far::Talking(leg) => SmallVec::from_slice(&[*leg]),
        }
    }

    pub(crate) fn attempt(&self) -> Option<AttemptId> {
        match self {
            Far::Trying(attempt) => Some(*attempt),
            Far::Nobody | Far::Routed { .. } | Far::Talking(_) => None,
        }
    }
}

/// What a redirect left that is not decided yet: it stands until then.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) operation: OperationId,
    /// The other end as it was.
    pub(crate) far: Far,
}

/// A number that a redirection (SIP 3xx) named beside a better one: it is tried when that one fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// The number that was redirected.
    pub(crate) from: Dn,
    pub(crate) to: Dn,
    /// Who named it.
    pub(crate) sender: Sender,
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    /// The leg that stays while destinations change: the caller, or who remains after a redirect.
    pub(crate) anchor: LegId,
    pub(crate) far: Far,
    pub(crate) left: Option<Left>,
    /// Appearances of a shared line that another appearance has answered.
    pub(crate) passive: SmallVec<[LegId; 2]>,
    /// The appearance that they watch.
    pub(crate) watched: Option<LegId>,
    pub(crate) parties: Parties,
    pub(crate) user_data: Arc<BTreeMap<String, String>>,
    /// Numbers that forwards have visited since a person or an application last chose one.
    pub(crate) visited: SmallVec<[Dn; 4]>,
    /// How often it was forwarded or redirected, by whomever.
    pub(crate) hops: u32,
    /// What is still to be tried, the next one last.
    pub(crate) alternatives: Vec<Alternative>,
    /// When the present two ends came to talk.
    pub(crate) talking_since: Option<Instant>,
    /// The last that the caller was told is plain ringing.
    pub(crate) alerted: bool,
}

impl Call {
    /// Every leg of the call, each once.
    pub(crate) fn legs(&self, attempts: &Attempts) -> SmallVec<[LegId; 4]> {
        let mut legs: SmallVec<[LegId; 4]> = SmallVec::new();
        legs.push(self.anchor);
        legs.extend(self.far.legs(attempts));
        if let Some(left) = &self.left {
            legs.extend(left.far.legs(attempts));
        }
        legs.extend(self.passive.iter().copied());
        legs
    }

    /// The two ends that talk.
    pub(crate) fn pair(&self) -> Option<(LegId, LegId)> {
        match (&self.far, &self.left) {
            (Far::Talking(far), _) => Some((self.anchor, *far)),
            (
                Far::Nobody | Far::Routed { .. } | Far::Trying(_),
                Some(Left { far: Far::Talking(far), .. }),
            ) => Some((self.anchor, *far)),
            (Far::Nobody | Far::Routed { .. } | Far::Trying(_), Some(_) | None) => None,
        }
    }

    /// Whether somebody plays early media to the anchor.
    pub(crate) fn plays_early(&self, attempts: &Attempts) -> bool {
        let plays = |far: &Far| {
            let attempt = far.attempt().and_then(|attempt| attempts.known(attempt));
            attempt.is_some_and(|attempt| attempt.early.is_some())
        };
        plays(&self.far) || self.left.as_ref().is_some_and(|left| plays(&left.far))
    }
}

impl CallControl {
    /// The destination that a call tries now.
    pub(crate) fn attempt(&self, call: CallId) -> Option<&Attempt> {
        self.calls.known(call)?.far.attempt().and_then(|attempt| self.attempts.known(attempt))
    }

    pub(crate) fn attempt_mut(&mut self, call: CallId) -> Option<&mut Attempt> {
        self.calls.known(call)?.far.attempt().and_then(|attempt| self.attempts.known_mut(attempt))
    }

    /// Ends what was at an other end that no call names any more; its legs are for the caller.
    pub(crate) fn close_far(&mut self, far: &Far) -> SmallVec<[LegId; 2]> {
        match far {
            Far::Nobody | Far::Routed { .. } => SmallVec::new(),
            Far::Talking(leg) => SmallVec::from_slice(&[*leg]),
            Far::Trying(attempt) => {
                self.timers.cancel(Timer::NoAnswer(*attempt));
                self.timers.cancel(Timer::NewCallAccept(*attempt));
                self.attempts.remove_known(*attempt).map(|attempt| attempt.branches).unwrap_or_default()
            }
        }
    }
}
