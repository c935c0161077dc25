//! A call: its legs, and how their ends belong together.

use crate::control::CallControl;
use crate::dialling::Sender;
use crate::end::{End, Ends};
use crate::failure::Failure;
use crate::ids::{CallId, Dn, EndId, LegId};
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

/// How the ends of a call belong together.
#[derive(Debug)]
pub(crate) enum Conversation {
    /// The anchor waits for its other end.
    Setup(Setup),
    /// Two ends talk; the first is the anchor's.
    Pair(EndId, EndId),
    /// Any number of ends hear each other by a bridge.
    Mixed(Mix),
    /// One end is alone and hears a source: music, a prompt.
    Waiting { end: EndId, source: EndId },
}

/// How far the way to a destination is.
#[derive(Debug)]
pub(crate) enum Setup {
    /// The number is being looked up.
    Routing,
    /// The number leads somewhere; the caller's application is asked for its address first, which stands in the offer.
    AwaitingAddress {
        /// The number, with its forwards.
        dn: Dn,
        /// Why the call goes there.
        reason: Reason,
        /// Who sends it there.
        sender: Sender,
    },
    /// A destination is being tried.
    Trying(AttemptId),
}

/// The ends of a bridge.
#[derive(Debug)]
pub(crate) struct Mix {
    pub(crate) bridge: BridgeId,
    /// Each end, and the port of the bridge that it talks to.
    pub(crate) ports: SmallVec<[(EndId, EndId); 4]>,
}

/// Names a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BridgeId(pub(crate) u64);

impl Conversation {
    /// The legs of its ends, but the anchor's while it is being set up.
    pub(crate) fn legs(&self, attempts: &Attempts, ends: &Ends) -> SmallVec<[LegId; 2]> {
        let leg = |end: EndId| ends.known(end).and_then(End::leg);
        match self {
            Conversation::Setup(Setup::Routing | Setup::AwaitingAddress { .. }) => SmallVec::new(),
            Conversation::Setup(Setup::Trying(attempt)) => {
                attempts.known(*attempt).map(|attempt| attempt.branches.clone()).unwrap_or_default()
            }
            Conversation::Pair(anchor, other) => [*anchor, *other].into_iter().filter_map(leg).collect(),
            Conversation::Mixed(mix) => mix.ports.iter().filter_map(|(end, _)| leg(*end)).collect(),
            Conversation::Waiting { end, .. } => leg(*end).into_iter().collect(),
        }
    }

    /// Ends whose media meets.
    pub(crate) fn links(&self) -> SmallVec<[(EndId, EndId); 2]> {
        match self {
            Conversation::Setup(_) => SmallVec::new(),
            Conversation::Pair(anchor, other) => SmallVec::from_slice(&[(*anchor, *other)]),
            Conversation::Mixed(mix) => mix.ports.iter().copied().collect(),
            Conversation::Waiting { end, source } => SmallVec::from_slice(&[(*end, *source)]),
        }
    }

    /// The destination that is being tried.
    pub(crate) fn attempt(&self) -> Option<AttemptId> {
        match self {
            Conversation::Setup(Setup::Trying(attempt)) => Some(*attempt),
            Conversation::Setup(Setup::Routing | Setup::AwaitingAddress { .. })
            | Conversation::Pair(..)
            | Conversation::Mixed(_)
            | Conversation::Waiting { .. } => None,
        }
    }

    pub(crate) fn is_setup(&self) -> bool {
        match self {
            Conversation::Setup(_) => true,
            Conversation::Pair(..) | Conversation::Mixed(_) | Conversation::Waiting { .. } => false,
        }
    }

    /// Whether its number waits for the address of its caller's application.
    pub(crate) fn awaits_address(&self) -> bool {
        matches!(self, Conversation::Setup(Setup::AwaitingAddress { .. }))
    }
}

/// What a redirect left that is not decided yet: it stands until then.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) operation: OperationId,
    pub(crate) conversation: Conversation,
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
    pub(crate) conversation: Conversation,
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
    /// Every leg of the call, each once; the anchor first.
    pub(crate) fn legs(&self, attempts: &Attempts, ends: &Ends) -> SmallVec<[LegId; 4]> {
        let mut legs: SmallVec<[LegId; 4]> = SmallVec::new();
        if self.conversation.is_setup() {
            legs.push(self.anchor);
        }
        legs.extend(self.conversation.legs(attempts, ends));
        if let Some(left) = &self.left {
            let left = left.conversation.legs(attempts, ends);
            legs.extend(left.into_iter().filter(|leg| *leg != self.anchor));
        }
        legs.extend(self.passive.iter().copied());
        legs
    }

    /// The ends whose media meets; those that an undecided redirect left still do.
    pub(crate) fn links(&self) -> SmallVec<[(EndId, EndId); 2]> {
        match &self.left {
            Some(left) if self.conversation.is_setup() => left.conversation.links(),
            Some(_) | None => self.conversation.links(),
        }
    }

    /// The end whose media meets that of this one.
    pub(crate) fn peer_of_end(&self, end: EndId) -> Option<EndId> {
        self.links().into_iter().find_map(|(x, y)| match end {
            _ if x == end => Some(y),
            _ if y == end => Some(x),
            _ => None,
        })
    }

    /// Whether somebody plays early media to the anchor.
    pub(crate) fn plays_early(&self, attempts: &Attempts) -> bool {
        let plays = |conversation: &Conversation| {
            let attempt = conversation.attempt().and_then(|attempt| attempts.known(attempt));
            attempt.is_some_and(|attempt| attempt.early.is_some())
        };
        plays(&self.conversation) || self.left.as_ref().is_some_and(|left| plays(&left.conversation))
    }
}

impl CallControl {
    /// The destination that a call tries now.
    pub(crate) fn attempt(&self, call: CallId) -> Option<&Attempt> {
        let attempt = self.calls.known(call)?.conversation.attempt();
        attempt.and_then(|attempt| self.attempts.known(attempt))
    }

    pub(crate) fn attempt_mut(&mut self, call: CallId) -> Option<&mut Attempt> {
        let attempt = self.calls.known(call)?.conversation.attempt();
        attempt.and_then(|attempt| self.attempts.known_mut(attempt))
    }

    /// Two legs that talk. The ends of both are there.
    pub(crate) fn pair(&self, x: LegId, y: LegId) -> Option<Conversation> {
        Some(Conversation::Pair(self.end_of(x)?, self.end_of(y)?))
    }

    /// Frees what a conversation holds that no call has any more. Its legs are for the caller.
    pub(crate) fn free_conversation(&mut self, conversation: &Conversation) {
        match conversation {
            Conversation::Setup(Setup::Trying(attempt)) => {
                self.timers.cancel(Timer::NoAnswer(*attempt));
                self.timers.cancel(Timer::NewCallAccept(*attempt));
                self.attempts.remove_known(*attempt);
            }
            Conversation::Setup(Setup::Routing | Setup::AwaitingAddress { .. }) | Conversation::Pair(..) => {}
            Conversation::Mixed(mix) => {
                for (_, port) in &mix.ports {
                    self.ends.remove_known(*port);
                }
            }
            Conversation::Waiting { source, .. } => drop(self.ends.remove_known(*source)),
        }
    }

    /// The same, with the legs that were at the other end of the anchor.
    pub(crate) fn close_conversation(
        &mut self,
        anchor: LegId,
        conversation: &Conversation,
    ) -> SmallVec<[LegId; 2]> {
        let mut legs = conversation.legs(&self.attempts, &self.ends);
        legs.retain(|leg| *leg != anchor);
        self.free_conversation(conversation);
        legs
    }
}
