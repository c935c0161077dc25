//! A call: one leg that stays, and what is at its other end.

use crate::dialling::Sender;
use crate::failure::Failure;
use crate::ids::{CallId, Dn, LegId, RequestToken, SessionId};
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

/// A destination that is being tried: all its legs ring at once.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The number, with its forwards. On a trunk: what was dialled.
    pub(crate) dn: Dn,
    pub(crate) branches: SmallVec<[LegId; 2]>,
    /// The branch whose application has answered and is asked for its address.
    pub(crate) answering: Option<LegId>,
    /// The best of the refusals so far.
    pub(crate) refused: Option<Failure>,
    /// Some branch rings.
    pub(crate) ringing: bool,
    /// The branch that plays to the caller before it answers.
    pub(crate) early: Option<LegId>,
}

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
    Trying(Attempt),
    /// The one that answered.
    Talking(LegId),
}

/// A redirect that is not decided yet: what it left stands until then.
#[derive(Clone, Debug)]
pub(crate) struct Redirecting {
    /// The leg that was redirected; may be gone meanwhile.
    pub(crate) leg: LegId,
    pub(crate) session: SessionId,
    pub(crate) token: RequestToken,
    pub(crate) keep_on_failure: bool,
    /// The other end as it was.
    pub(crate) old: Far,
    /// The parties as they were.
    pub(crate) parties: Parties,
    /// What was still to be tried.
    pub(crate) alternatives: Vec<Alternative>,
    /// The hops as they were: a redirect that fails is none.
    pub(crate) hops: u32,
    /// Since when the two ends talked.
    pub(crate) talking_since: Option<Instant>,
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
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    /// The leg that stays while destinations change: the caller, or who remains after a redirect.
    pub(crate) anchor: LegId,
    pub(crate) far: Far,
    pub(crate) redirecting: Option<Redirecting>,
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
    pub(crate) fn legs(&self) -> SmallVec<[LegId; 4]> {
        let mut legs: SmallVec<[LegId; 4]> = SmallVec::new();
        legs.push(self.anchor);
        let mut add = |far: &Far| match far {
            Far::Nobody | Far::Routed { .. } => {}
            Far::Trying(attempt) => legs.extend(attempt.branches.iter().copied()),
            Far::Talking(leg) => legs.push(*leg),
        };
        add(&self.far);
        if let Some(redirecting) = &self.redirecting {
            add(&redirecting.old);
        }
        legs.extend(self.passive.iter().copied());
        legs
    }

    /// The two ends that talk.
    pub(crate) fn pair(&self) -> Option<(LegId, LegId)> {
        match (&self.far, &self.redirecting) {
            (Far::Talking(far), _) => Some((self.anchor, *far)),
            (
                Far::Nobody | Far::Routed { .. } | Far::Trying(_),
                Some(Redirecting { old: Far::Talking(far), .. }),
            ) => Some((self.anchor, *far)),
            (Far::Nobody | Far::Routed { .. } | Far::Trying(_), Some(_) | None) => None,
        }
    }

    pub(crate) fn attempt(&self) -> Option<&Attempt> {
        match &self.far {
            Far::Trying(attempt) => Some(attempt),
            Far::Nobody | Far::Routed { .. } | Far::Talking(_) => None,
        }
    }

    /// Whether somebody plays early media to the anchor.
    pub(crate) fn plays_early(&self) -> bool {
        let plays = |far: &Far| match far {
            Far::Trying(attempt) => attempt.early.is_some(),
            Far::Nobody | Far::Routed { .. } | Far::Talking(_) => false,
        };
        plays(&self.far) || self.redirecting.as_ref().is_some_and(|redirecting| plays(&redirecting.old))
    }

    pub(crate) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.far {
            Far::Trying(attempt) => Some(attempt),
            Far::Nobody | Far::Routed { .. } | Far::Talking(_) => None,
        }
    }
}
