//! A call: its legs, and how their ends belong together.

use crate::clearing::Role;
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
use std::time::{Duration, Instant};

/// Entries of a call's user data, and bytes of all their keys and values.
pub(crate) const MAX_USER_DATA: (usize, usize) = (64, 4096);

/// The parties of a call as one leg sees them, beside who is at the leg itself ([`Leg::party`]) and whom it talks to, which
/// the conversation tells. While a destination is looked for all legs of the call see the same; a transfer shows each of
/// those who stay something else.
///
/// [`Leg::party`]: crate::leg::Leg::party
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// Who calls.
    pub calling: Party,
    /// Who is called.
    pub called: Party,
    /// Who was called first, where the call was sent on.
    pub original_called: Option<Party>,
    /// Who sent it on last.
    pub last_redirecting: Option<Party>,
}

/// Appearances of a shared line, each with the one that has the call and that it watches.
pub(crate) type Watches = SmallVec<[(LegId, LegId); 2]>;

/// What each of some legs saw of the parties.
pub(crate) type Seen = SmallVec<[(LegId, Arc<Parties>); 4]>;

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
    /// One leg waits for its other end.
    Setup(Setup),
    /// Two ends talk; the first is the anchor's.
    Pair(EndId, EndId),
    /// Two ends talk by a relay of the node, and others listen.
    Relayed(Relay),
    /// Any number of ends hear each other by a bridge.
    Mixed(Mix),
    /// One end is alone and hears a source.
    Waiting(Wait),
}

/// A leg for which a destination is looked for.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The leg that stays while destinations change: the caller, or who remains after a redirect.
    pub(crate) anchor: LegId,
    pub(crate) step: Step,
}

/// How far the way to a destination is.
#[derive(Debug)]
pub(crate) enum Step {
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

/// Two ends whose media passes the node, so that a recorder or a supervisor may hear it.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) bridge: BridgeId,
    /// Each end, and the port of the relay that it talks to; the first is the anchor's.
    pub(crate) pair: [(EndId, EndId); 2],
    /// Each end that listens, and the source that it hears.
    pub(crate) listeners: SmallVec<[(EndId, EndId); 1]>,
}

/// The ends of a bridge.
#[derive(Debug)]
pub(crate) struct Mix {
    pub(crate) bridge: BridgeId,
    /// Each end, and the port of the bridge that it talks to.
    pub(crate) ports: SmallVec<[(EndId, EndId); 4]>,
}

/// An end that waits: on a park number, in a queue.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) end: EndId,
    /// Music, a prompt.
    pub(crate) source: EndId,
    /// Whom its leg is shown to be connected with: the park number.
    pub(crate) shown: Option<Party>,
}

/// Names a bridge or relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BridgeId(pub(crate) u64);

impl Conversation {
    /// A leg whose call is sent somewhere, where is not known yet.
    pub(crate) fn routing(anchor: LegId) -> Self {
        Self::Setup(Setup { anchor, step: Step::Routing })
    }

    /// A leg whose destination is tried.
    pub(crate) fn trying(anchor: LegId, attempt: AttemptId) -> Self {
        Self::Setup(Setup { anchor, step: Step::Trying(attempt) })
    }

    /// The leg that stays while destinations change; of two that talk the one that was there first.
    pub(crate) fn anchor(&self, ends: &Ends) -> Option<LegId> {
        match self {
            Conversation::Setup(setup) => Some(setup.anchor),
            Conversation::Pair(anchor, _) => ends.known(*anchor).and_then(End::leg),
            Conversation::Relayed(relay) => ends.known(relay.pair[0].0).and_then(End::leg),
            Conversation::Mixed(_) | Conversation::Waiting(_) => None,
        }
    }

    /// The legs of its ends, the anchor first.
    pub(crate) fn legs(&self, attempts: &Attempts, ends: &Ends) -> SmallVec<[LegId; 4]> {
        let leg = |end: EndId| ends.known(end).and_then(End::leg);
        match self {
            Conversation::Setup(Setup { anchor, step }) => {
                let mut legs = SmallVec::from_slice(&[*anchor]);
                if let Some(attempt) = step.attempt().and_then(|attempt| attempts.known(attempt)) {
                    legs.extend_from_slice(&attempt.branches);
                }
                legs
            }
            Conversation::Pair(anchor, other) => [*anchor, *other].into_iter().filter_map(leg).collect(),
            Conversation::Relayed(relay) => relay.links().filter_map(|(end, _)| leg(end)).collect(),
            Conversation::Mixed(mix) => mix.ports.iter().filter_map(|(end, _)| leg(*end)).collect(),
            Conversation::Waiting(wait) => leg(wait.end).into_iter().collect(),
        }
    }

    /// What a leg is to it; `None`: it has no part in it.
    pub(crate) fn role(&self, leg: LegId, attempts: &Attempts, ends: &Ends) -> Option<Role> {
        let is_of = |end: EndId| ends.known(end).and_then(End::leg) == Some(leg);
        match self {
            Conversation::Setup(Setup { anchor, .. }) if *anchor == leg => Some(Role::Anchor),
            Conversation::Setup(Setup { step, .. }) => {
                let attempt = step.attempt().and_then(|attempt| attempts.known(attempt))?;
                attempt.branches.contains(&leg).then_some(Role::Branch)
            }
            Conversation::Pair(anchor, _) if is_of(*anchor) => Some(Role::Anchor),
            Conversation::Pair(_, other) => is_of(*other).then_some(Role::Talking),
            Conversation::Relayed(relay) => {
                let place = relay.links().position(|(end, _)| is_of(end))?;
                Some([Role::Anchor, Role::Talking].get(place).copied().unwrap_or(Role::Listener))
            }
            Conversation::Mixed(mix) => {
                mix.ports.iter().any(|(end, _)| is_of(*end)).then_some(Role::Participant)
            }
            Conversation::Waiting(wait) => is_of(wait.end).then_some(Role::Waiting),
        }
    }

    /// Ends whose media meets.
    pub(crate) fn links(&self) -> SmallVec<[(EndId, EndId); 2]> {
        match self {
            Conversation::Setup(_) => SmallVec::new(),
            Conversation::Pair(anchor, other) => SmallVec::from_slice(&[(*anchor, *other)]),
            Conversation::Relayed(relay) => relay.links().collect(),
            Conversation::Mixed(mix) => mix.ports.iter().copied().collect(),
            Conversation::Waiting(wait) => SmallVec::from_slice(&[(wait.end, wait.source)]),
        }
    }

    /// The node's own ends in it, which have no leg.
    pub(crate) fn resources(&self) -> SmallVec<[EndId; 4]> {
        match self {
            Conversation::Setup(_) | Conversation::Pair(..) => SmallVec::new(),
            Conversation::Relayed(_) | Conversation::Mixed(_) | Conversation::Waiting(_) => {
                self.links().into_iter().map(|(_, resource)| resource).collect()
            }
        }
    }

    /// The destination that is being tried.
    pub(crate) fn attempt(&self) -> Option<AttemptId> {
        match self {
            Conversation::Setup(setup) => setup.step.attempt(),
            Conversation::Pair(..)
            | Conversation::Relayed(_)
            | Conversation::Mixed(_)
            | Conversation::Waiting(_) => None,
        }
    }

    pub(crate) fn is_setup(&self) -> bool {
        match self {
            Conversation::Setup(_) => true,
            Conversation::Pair(..)
            | Conversation::Relayed(_)
            | Conversation::Mixed(_)
            | Conversation::Waiting(_) => false,
        }
    }

    /// Whether its number waits for the address of this leg's application.
    pub(crate) fn awaits_address_of(&self, leg: LegId) -> bool {
        match self {
            Conversation::Setup(Setup { anchor, step: Step::AwaitingAddress { .. } }) => *anchor == leg,
            Conversation::Setup(Setup { step: Step::Routing | Step::Trying(_), .. })
            | Conversation::Pair(..)
            | Conversation::Relayed(_)
            | Conversation::Mixed(_)
            | Conversation::Waiting(_) => false,
        }
    }

    /// Of two that talk the other is the anchor from now on.
    pub(crate) fn turn(&mut self) {
        match self {
            Conversation::Pair(x, y) => std::mem::swap(x, y),
            Conversation::Relayed(relay) => relay.pair.swap(0, 1),
            Conversation::Setup(_) | Conversation::Mixed(_) | Conversation::Waiting(_) => {}
        }
    }

    /// A leg has another end.
    pub(crate) fn replace_end(&mut self, before: EndId, now: EndId) {
        let replace = |end: &mut EndId| {
            if *end == before {
                *end = now;
            }
        };
        match self {
            Conversation::Setup(_) => {}
            Conversation::Pair(x, y) => [x, y].into_iter().for_each(replace),
            Conversation::Relayed(relay) => {
                let links = relay.pair.iter_mut().chain(&mut relay.listeners);
                links.map(|(end, _)| end).for_each(replace);
            }
            Conversation::Mixed(mix) => mix.ports.iter_mut().map(|(end, _)| end).for_each(replace),
            Conversation::Waiting(wait) => replace(&mut wait.end),
        }
    }
}

impl Step {
    /// The destination that is being tried.
    pub(crate) fn attempt(&self) -> Option<AttemptId> {
        match self {
            Step::Trying(attempt) => Some(*attempt),
            Step::Routing | Step::AwaitingAddress { .. } => None,
        }
    }
}

impl Relay {
    /// All its ends with what each talks to or hears, those that talk first.
    pub(crate) fn links(&self) -> impl Iterator<Item = (EndId, EndId)> {
        self.pair.iter().chain(&self.listeners).copied()
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
    pub(crate) conversation: Conversation,
    pub(crate) left: Option<Left>,
    watches: Watches,
    /// What a destination that is tried sees of the parties, where that is not what the leg that stays sees: it was called
    /// by another.
    pub(crate) shown: Option<Arc<Parties>>,
    user_data: Arc<BTreeMap<String, String>>,
    /// Numbers that forwards have visited since a person or an application last chose one.
    visited: SmallVec<[Dn; 4]>,
    /// How often it was forwarded or redirected, by whomever.
    hops: u32,
    /// What is still to be tried, the next one last.
    alternatives: Vec<Alternative>,
    /// When the present two ends came to talk.
    talking_since: Option<Instant>,
    /// The last that the caller was told is plain ringing.
    alerted: bool,
}

/// How a caller hears that a destination rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ringing {
    Plain,
    /// The destination plays something.
    EarlyMedia,
}

/// What is still to be tried for a call, and how far it has come: as it was before a redirect.
#[derive(Debug)]
pub(crate) struct Search {
    alternatives: Vec<Alternative>,
    hops: u32,
    talking_since: Option<Instant>,
}

impl Search {
    pub(crate) fn hops(&self) -> u32 {
        self.hops
    }
}

impl Call {
    /// A call whose first leg is about to be routed.
    pub(crate) fn begin(id: CallId, first: LegId, user_data: Arc<BTreeMap<String, String>>) -> Self {
        Self {
            id,
            conversation: Conversation::routing(first),
            left: None,
            watches: SmallVec::new(),
            shown: None,
            user_data,
            visited: SmallVec::new(),
            hops: 0,
            alternatives: Vec::new(),
            talking_since: None,
            alerted: false,
        }
    }

    pub(crate) fn user_data(&self) -> &Arc<BTreeMap<String, String>> {
        &self.user_data
    }

    /// False when they are the same as before.
    pub(crate) fn set_user_data(&mut self, data: Arc<BTreeMap<String, String>>) -> bool {
        let before = std::mem::replace(&mut self.user_data, data);
        before != self.user_data
    }

    /// How often it was forwarded or redirected.
    pub(crate) fn hops(&self) -> u32 {
        self.hops
    }

    /// It comes from outside, where it was sent on so often, or is where it was before.
    pub(crate) fn count_hops_from(&mut self, hops: u32) {
        self.hops = hops;
    }

    /// Counts one more forward or redirect; false beyond `most`.
    pub(crate) fn hop(&mut self, most: u32) -> bool {
        self.hops = self.hops.saturating_add(1);
        self.hops <= most
    }

    /// A forward leads from one number to another; false when that one was visited before.
    pub(crate) fn visit(&mut self, from: &Dn, to: &Dn) -> bool {
        if !self.visited.contains(from) {
            self.visited.push(from.clone());
        }
        !self.visited.contains(to)
    }

    /// Further numbers to try, the first of them next.
    pub(crate) fn note_alternatives(&mut self, first_to_last: impl DoubleEndedIterator<Item = Alternative>) {
        self.alternatives.extend(first_to_last.rev());
    }

    /// The next number to try.
    pub(crate) fn next_alternative(&mut self) -> Option<Alternative> {
        self.alternatives.pop()
    }

    /// Nothing else is to be tried.
    pub(crate) fn forget_alternatives(&mut self) {
        self.alternatives.clear();
    }

    /// Two ends have come to talk: the search is over.
    pub(crate) fn found(&mut self, now: Option<Instant>) {
        self.alternatives.clear();
        self.shown = None;
        self.talking_since = now;
    }

    /// The destination that this call tries is another call's from now on: what was visited for it, and what is still to be
    /// tried.
    pub(crate) fn give_search(&mut self, to: &mut Call) {
        to.visited = std::mem::take(&mut self.visited);
        to.alternatives = std::mem::take(&mut self.alternatives);
        to.hops = to.hops.max(self.hops);
        to.talking_since = None;
    }

    /// The other call's data that this one hasn't, as far as there is room.
    pub(crate) fn add_user_data(&mut self, other: &BTreeMap<String, String>) {
        let (most, most_bytes) = MAX_USER_DATA;
        let mut data = BTreeMap::clone(&self.user_data);
        let size = |(key, value): (&String, &String)| key.len() + value.len();
        let mut bytes: usize = data.iter().map(size).sum();
        for (key, value) in other.iter().filter(|(key, _)| !self.user_data.contains_key(*key)) {
            let more = bytes + size((key, value));
            if data.len() < most && more <= most_bytes {
                bytes = more;
                data.insert(key.clone(), value.clone());
            }
        }
        if data.len() > self.user_data.len() {
            self.user_data = Arc::new(data);
        }
    }

    /// An application sends it on: the search begins anew. One that was served for so long before is in no loop, and its hops
    /// are counted from nothing. Returns how it was.
    pub(crate) fn search_anew(&mut self, now: Option<Instant>, served: Duration) -> Search {
        self.visited.clear();
        self.shown = None;
        let (hops, talking_since) = (self.hops, self.talking_since.take());
        if talking_since.zip(now).is_some_and(|(since, now)| now.duration_since(since) >= served) {
            self.hops = 0;
        }
        Search { alternatives: std::mem::take(&mut self.alternatives), hops, talking_since }
    }

    /// What an application wanted elsewhere stays: the search is as it was.
    pub(crate) fn search_as_before(&mut self, before: Search) {
        let Search { alternatives, hops, talking_since } = before;
        (self.alternatives, self.hops, self.talking_since) = (alternatives, hops, talking_since);
    }

    /// Tells of plain ringing, or of early media; true when plain ringing was the last that was told.
    pub(crate) fn exchange_alerted(&mut self, by: Ringing) -> bool {
        std::mem::replace(&mut self.alerted, by == Ringing::Plain)
    }

    /// The appearance of a shared line that this one watches.
    pub(crate) fn watched_by(&self, passive: LegId) -> Option<LegId> {
        self.watches.iter().find(|(leg, _)| *leg == passive).map(|(_, watched)| *watched)
    }

    /// Those that watch this one.
    pub(crate) fn watching(&self, watched: LegId) -> SmallVec<[LegId; 2]> {
        self.watches.iter().filter(|(_, leg)| *leg == watched).map(|(leg, _)| *leg).collect()
    }

    /// Whether another appearance has the call.
    pub(crate) fn is_passive(&self, leg: LegId) -> bool {
        self.watched_by(leg).is_some()
    }

    /// One appearance has the call, this other one watches it.
    pub(crate) fn watch(&mut self, watched: LegId, passive: LegId) {
        self.watches.push((passive, watched));
    }

    /// One that watches goes.
    pub(crate) fn unwatch(&mut self, passive: LegId) {
        self.watches.retain(|(leg, _)| *leg != passive);
    }

    /// The watched one goes; returns those that watched it.
    pub(crate) fn end_watch(&mut self, watched: LegId) -> SmallVec<[LegId; 2]> {
        let legs = self.watching(watched);
        self.watches.retain(|(_, leg)| *leg != watched);
        legs
    }

    /// Nobody watches any more; returns those that did.
    pub(crate) fn take_watches(&mut self) -> Watches {
        std::mem::take(&mut self.watches)
    }

    /// These watch, beside those that do.
    pub(crate) fn add_watches(&mut self, watches: impl IntoIterator<Item = (LegId, LegId)>) {
        self.watches.extend(watches);
    }

    /// Every leg of the call, each once; the anchor first.
    pub(crate) fn legs(&self, attempts: &Attempts, ends: &Ends) -> SmallVec<[LegId; 4]> {
        let mut legs = self.conversation.legs(attempts, ends);
        if let Some(left) = &self.left {
            let left = left.conversation.legs(attempts, ends);
            // The anchor of what was left is the call's still.
            let others = left.into_iter().filter(|leg| legs.first() != Some(leg));
            legs.extend(others.collect::<SmallVec<[LegId; 4]>>());
        }
        legs.extend(self.watches.iter().map(|(passive, _)| *passive));
        legs
    }

    /// The ends whose media meets; those that an undecided redirect left still do.
    pub(crate) fn links(&self) -> SmallVec<[(EndId, EndId); 2]> {
        match &self.left {
            Some(left) if self.conversation.is_setup() => left.conversation.links(),
            Some(_) | None => self.conversation.links(),
        }
    }

    /// The present conversation, and the one that an undecided redirect left.
    pub(crate) fn conversations(&self) -> impl Iterator<Item = &Conversation> {
        [&self.conversation].into_iter().chain(self.left.as_ref().map(|left| &left.conversation))
    }

    /// The conversation of those ends, to be changed.
    pub(crate) fn talk_mut(&mut self) -> &mut Conversation {
        match &mut self.left {
            Some(left) if self.conversation.is_setup() => &mut left.conversation,
            Some(_) | None => &mut self.conversation,
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
        let attempt = self.calls.call(call)?.conversation.attempt();
        attempt.and_then(|attempt| self.calls.attempt(attempt))
    }

    /// The same of a call that tries one, to be changed.
    #[track_caller]
    pub(crate) fn attempt_mut(&mut self, call: CallId) -> Option<&mut Attempt> {
        let attempt = self.calls.call(call)?.conversation.attempt();
        let attempt = self.contradictions.known(attempt, "a call tries no destination")?;
        self.calls.attempt_mut(attempt)
    }

    /// Two legs that talk. The ends of both are there.
    pub(crate) fn pair(&self, x: LegId, y: LegId) -> Option<Conversation> {
        Some(Conversation::Pair(self.known_end(x)?, self.known_end(y)?))
    }

    /// The leg of a call that stays while destinations change; the call is being set up, or two ends talk.
    #[track_caller]
    pub(crate) fn anchor(&self, call: CallId) -> Option<LegId> {
        let anchor = self.calls.anchor(call);
        self.contradictions.known(anchor, "a call has no leg that stays")
    }

    /// What a leg sees of its call's parties.
    pub(crate) fn parties(&self, leg: LegId) -> Option<&Arc<Parties>> {
        self.calls.leg(leg).map(|leg| &leg.parties)
    }

    /// What a destination of a call that looks for one sees.
    pub(crate) fn sought(&self, call: CallId) -> Option<&Arc<Parties>> {
        let shown = self.calls.call(call).and_then(|call| call.shown.as_ref());
        shown.or_else(|| self.parties(self.anchor(call)?))
    }

    /// All legs of a call see these parties from now on. Nobody is told.
    pub(crate) fn show_parties(&mut self, call: CallId, parties: Parties) {
        if let Some(call) = self.calls.call_mut(call) {
            call.shown = None;
        }
        let Some(call) = self.calls.call(call) else { return };
        let parties = Arc::new(parties);
        for leg in self.calls.legs_of(call) {
            if let Some(leg) = self.calls.leg_mut(leg) {
                leg.parties = Arc::clone(&parties);
            }
        }
    }

    /// What all legs of a call see now.
    pub(crate) fn seen(&self, call: CallId) -> Seen {
        let legs = self.calls.call(call).map(|call| self.calls.legs_of(call));
        let seen = |leg| Some((leg, Arc::clone(self.parties(leg)?)));
        legs.into_iter().flatten().filter_map(seen).collect()
    }

    /// Legs see what they saw; those that have gone do not.
    pub(crate) fn see_again(&mut self, seen: Seen) {
        for (leg, parties) in seen {
            if let Some(leg) = self.calls.find_leg_mut(leg) {
                leg.parties = parties;
            }
        }
    }

    /// Frees what a conversation holds that no call has any more. Its legs are for the caller.
    pub(crate) fn free_conversation(&mut self, conversation: &Conversation) {
        if let Some(attempt) = conversation.attempt() {
            self.timers.cancel(Timer::NoAnswer(attempt));
            self.timers.cancel(Timer::NewCallAccept(attempt));
            self.calls.remove_attempt(attempt);
        }
        for resource in conversation.resources() {
            self.calls.remove_end(resource);
        }
    }

    /// The same, with the legs that were at the other end of the anchor.
    pub(crate) fn close_conversation(
        &mut self,
        anchor: LegId,
        conversation: &Conversation,
    ) -> SmallVec<[LegId; 4]> {
        let mut legs = self.calls.legs_in(conversation);
        legs.retain(|leg| *leg != anchor);
        self.free_conversation(conversation);
        legs
    }
}
