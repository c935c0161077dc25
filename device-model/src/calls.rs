//! The table of calls: calls, their legs, what is at the far sides of these, and the destinations that are tried. They
//! name each other, and nothing else adds or removes an entry: a leg comes and goes with its end, an attempt with its call.
//!
//! Each look-up has two forms. `find_…` is for an id that comes from outside and may be anybody's; the plain one for an id
//! that an entry has, which can't be absent ([`crate::table`]).

use crate::call::{Attempt, AttemptId, Attempts, Call, Conversation};
use crate::clearing::Role;
use crate::end::{End, Ends};
use crate::ids::{CallId, EndId, LegId};
use crate::leg::Leg;
use crate::table::{Contradiction, Table};
use crate::transitions::{CallChange, LegChange, Recorder, What};
use smallvec::SmallVec;
use std::sync::Arc;

/// All calls of the node.
#[derive(Debug)]
pub(crate) struct Calls {
    calls: Table<CallId, Call>,
    legs: Table<LegId, Leg>,
    ends: Ends,
    attempts: Attempts,
    last_attempt: u64,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self {
            calls: Table::new("a call is not there"),
            legs: Table::new("a leg is not there"),
            ends: Table::new("an end is not there"),
            attempts: Table::new("an attempt is not there"),
            last_attempt: 0,
        }
    }

    #[inline]
    #[track_caller]
    pub(crate) fn call(&self, id: CallId) -> Option<&Call> {
        self.calls.known(id)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn call_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.known_mut(id)
    }

    #[inline]
    pub(crate) fn find_call(&self, id: CallId) -> Option<&Call> {
        self.calls.get(id)
    }

    /// In no particular order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Call> {
        self.calls.values()
    }

    /// The first of them in order, for what is told of some at a time.
    pub(crate) fn first(&self, most: usize) -> Vec<CallId> {
        let mut ids: Vec<CallId> = self.calls.ids().collect();
        if most < ids.len() {
            ids.select_nth_unstable(most);
            ids.truncate(most);
        }
        ids.sort_unstable();
        ids
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.len()
    }

    #[inline]
    #[track_caller]
    pub(crate) fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.known(id)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.known_mut(id)
    }

    #[inline]
    pub(crate) fn find_leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.get(id)
    }

    pub(crate) fn find_leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.get_mut(id)
    }

    /// In no particular order.
    pub(crate) fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.legs.values()
    }

    pub(crate) fn leg_count(&self) -> usize {
        self.legs.len()
    }

    #[inline]
    #[track_caller]
    pub(crate) fn end(&self, id: EndId) -> Option<&End> {
        self.ends.known(id)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn end_mut(&mut self, id: EndId) -> Option<&mut End> {
        self.ends.known_mut(id)
    }

    #[inline]
    pub(crate) fn find_end(&self, id: EndId) -> Option<&End> {
        self.ends.get(id)
    }

    pub(crate) fn find_end_mut(&mut self, id: EndId) -> Option<&mut End> {
        self.ends.get_mut(id)
    }

    /// In no particular order.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &End> {
        self.ends.values()
    }

    pub(crate) fn end_count(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    #[track_caller]
    pub(crate) fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.known(id)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn attempt_mut(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        self.attempts.known_mut(id)
    }

    pub(crate) fn find_attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.get(id)
    }

    pub(crate) fn find_attempt_mut(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        self.attempts.get_mut(id)
    }

    pub(crate) fn attempt_count(&self) -> usize {
        self.attempts.len()
    }

    /// Whether a call, leg or end has this number.
    pub(crate) fn is_in_use(&self, id: u64) -> bool {
        self.calls.contains(CallId(id)) || self.legs.contains(LegId(id)) || self.ends.contains(EndId(id))
    }

    /// A call whose first leg follows at once.
    pub(crate) fn add_call(&mut self, call: Call, recorder: &mut Recorder<'_>) {
        recorder.record(What::Call(call.id, CallChange::Begun));
        self.calls.insert(call.id, call);
    }

    /// Takes out a call without legs, or whose legs become another's.
    #[track_caller]
    pub(crate) fn remove_call(
        &mut self,
        id: CallId,
        change: CallChange,
        recorder: &mut Recorder<'_>,
    ) -> Option<Call> {
        let removed = self.calls.remove_known(id);
        if removed.is_some() {
            recorder.record(What::Call(id, change));
        }
        removed
    }

    /// What a call looks for is another's from now on.
    pub(crate) fn give_search(&mut self, from: CallId, to: CallId) {
        if from == to {
            return;
        }
        // Out of the table and back: both are changed.
        let Some(mut giver) = self.calls.remove_known(from) else { return };
        if let Some(taker) = self.calls.known_mut(to) {
            giver.give_search(taker);
        }
        self.calls.insert(from, giver);
    }

    /// What one call has of user data and another has not, that one has, too.
    pub(crate) fn join_user_data(&mut self, from: CallId, to: CallId) {
        let Some(data) = self.calls.known(from).map(|call| Arc::clone(call.user_data())) else { return };
        if let Some(call) = self.calls.known_mut(to) {
            call.add_user_data(&data);
        }
    }

    /// A leg of a call that knows it, and what is at its far side.
    pub(crate) fn add_leg(&mut self, leg: Leg, end: End, recorder: &mut Recorder<'_>) {
        leg.record(LegChange::State { from: None, to: leg.state(), cause: leg.cause }, recorder);
        self.ends.insert(end.id(), end);
        self.legs.insert(leg.id, leg);
    }

    /// Takes out a leg that may have gone, with its end.
    pub(crate) fn remove_leg(&mut self, id: LegId) -> Option<Leg> {
        let leg = self.legs.remove(id)?;
        if let Some(end) = leg.end {
            self.ends.remove_known(end);
        }
        Some(leg)
    }

    /// A leg gets this end; returns the id of its former one, which is the caller's to end.
    pub(crate) fn exchange_end(
        &mut self,
        leg: LegId,
        end: End,
        recorder: &mut Recorder<'_>,
    ) -> Option<EndId> {
        let id = end.id();
        let leg = self.legs.known_mut(leg)?;
        let before = leg.end.replace(id);
        before.into_iter().for_each(|before| leg.record(LegChange::End(before), recorder));
        self.ends.insert(id, end);
        before
    }

    /// Media of the node itself: a conversation names it.
    pub(crate) fn add_resource(&mut self, end: End) {
        self.ends.insert(end.id(), end);
    }

    /// Takes out an end that no leg has, and no conversation names, any more.
    #[track_caller]
    pub(crate) fn remove_end(&mut self, id: EndId) -> Option<End> {
        self.ends.remove_known(id)
    }

    /// Begins to try a destination for a call that is being set up.
    pub(crate) fn begin_attempt(&mut self, attempt: Attempt) -> Option<AttemptId> {
        let anchor = self.anchor(attempt.call)?;
        self.last_attempt += 1;
        let id = AttemptId(self.last_attempt);
        self.calls.known_mut(attempt.call)?.conversation = Conversation::trying(anchor, id);
        self.attempts.insert(id, attempt);
        Some(id)
    }

    #[track_caller]
    pub(crate) fn remove_attempt(&mut self, id: AttemptId) {
        self.attempts.remove_known(id);
    }

    /// Every leg of a call, each once; the anchor first.
    pub(crate) fn legs_of(&self, call: &Call) -> SmallVec<[LegId; 4]> {
        call.legs(&self.attempts, &self.ends)
    }

    /// The legs of the ends of a conversation, the anchor first.
    pub(crate) fn legs_in(&self, conversation: &Conversation) -> SmallVec<[LegId; 4]> {
        conversation.legs(&self.attempts, &self.ends)
    }

    /// What a leg is to a conversation; `None`: it has no part in it.
    pub(crate) fn role_in(&self, conversation: &Conversation, leg: LegId) -> Option<Role> {
        conversation.role(leg, &self.attempts, &self.ends)
    }

    /// The leg of a call that stays while destinations change; a mix, or one who waits, has none.
    pub(crate) fn anchor(&self, call: CallId) -> Option<LegId> {
        self.calls.known(call)?.conversation.anchor(&self.ends)
    }

    /// Whether somebody plays early media to the anchor.
    pub(crate) fn plays_early(&self, call: &Call) -> bool {
        call.plays_early(&self.attempts)
    }

    pub(crate) fn take_contradictions(&self) -> [Option<Contradiction>; 4] {
        [
            self.legs.take_contradiction(),
            self.calls.take_contradiction(),
            self.ends.take_contradiction(),
            self.attempts.take_contradiction(),
        ]
    }
}
