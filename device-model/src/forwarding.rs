//! Forwards: where a number's calls go on (CFA, CFB, CFNA, CFUR, CFOF), how often, and what is tried beside.

use crate::call::{Alternative, Conversation, Parties};
use crate::cause::Cause;
use crate::control::CallControl;
use crate::dialling::Sender;
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, Dn};
use crate::port::Event;
use crate::view::Reason;

/// Numbers of one redirection that are tried.
const MAX_ALTERNATIVES: usize = 8;

impl CallControl {
    /// The forward that follows when the last destination of a number has failed. `cause` is the best of all their
    /// refusals, `last` is where the last one began.
    pub(crate) fn forward_for(
        &self,
        dn: &Dn,
        cause: Cause,
        last: FailureOrigin,
    ) -> Option<(Dn, Reason, Sender)> {
        let forwards = &self.numbers.get(dn)?.plan.forward;
        let forward = |to: &Option<Dn>, reason| Some((to.clone()?, reason, Sender::Number(dn.clone())));
        let busy = || forward(&forwards.busy, Reason::ForwardBusy);
        let no_answer = || forward(&forwards.no_answer, Reason::ForwardNoAnswer);
        match (last, cause) {
            (FailureOrigin::ApplicationGone, Cause::USER_BUSY) => busy(),
            (FailureOrigin::ApplicationGone, _) => forward(&forwards.on_failure, Reason::ForwardOnFailure),
            (FailureOrigin::FarEnd | FailureOrigin::NoAnswer | FailureOrigin::DeviceGone, cause) => {
                match cause {
                    Cause::USER_BUSY => busy(),
                    Cause::NO_ANSWER | Cause::NO_USER_RESPONDING | Cause::RECOVERY_ON_TIMER_EXPIRY => {
                        no_answer()
                    }
                    Cause::SUBSCRIBER_ABSENT | Cause::DESTINATION_OUT_OF_ORDER => {
                        forward(&forwards.unregistered, Reason::ForwardUnregistered).or_else(no_answer)
                    }
                    _ => None,
                }
            }
            (
                FailureOrigin::Decided
                | FailureOrigin::Routing
                | FailureOrigin::Limit
                | FailureOrigin::Overdue
                | FailureOrigin::Media
                | FailureOrigin::Stop,
                _,
            ) => None,
        }
    }

    /// Counts one more forward or redirect of the call, whoever sends it on. False beyond the limit.
    pub(crate) fn hop(&mut self, call: CallId) -> bool {
        let most = self.plan.parameters.max_forward_hops;
        let Some(call) = self.calls.call_mut(call) else { return false };
        call.hop(most)
    }

    /// Notes a forward in the call's parties. False when that would be a loop.
    pub(crate) fn follow(&mut self, id: CallId, from: &Dn, to: &Dn) -> bool {
        let (from_party, to_party) = (self.party(from), self.party(to));
        let Some(seen) = self.sought(id) else { return false };
        let mut parties = Parties::clone(seen);
        let Some(call) = self.calls.call_mut(id) else { return false };
        if !call.visit(from, to) {
            return false;
        }
        parties.original_called.get_or_insert_with(|| from_party.clone());
        parties.last_redirecting = Some(from_party);
        parties.called = to_party;
        self.show_parties(id, parties);
        true
    }

    /// What is tried when the best that a redirection named fails (RFC 3261 §8.1.3.4).
    pub(crate) fn note_alternatives(&mut self, call: CallId, from: &Dn, numbers: &[Dn], sender: &Sender) {
        let Some(call) = self.calls.call_mut(call) else { return };
        let numbers = &numbers[..numbers.len().min(MAX_ALTERNATIVES - 1)];
        let alternatives = numbers.iter().map(|to| Alternative {
            from: from.clone(),
            to: to.clone(),
            sender: sender.clone(),
        });
        call.note_alternatives(alternatives);
    }

    pub(crate) fn forward_or_fail(
        &mut self,
        call: CallId,
        from: &Dn,
        to: Option<(Dn, Reason, Sender)>,
        why: Failure,
    ) {
        match to {
            Some((to, reason, sender)) if self.hop(call) && self.follow(call, from, &to) => {
                self.try_next(call, to, reason, sender)
            }
            Some(_) => self.final_failure(call, Failure::LOOP),
            None => self.final_failure(call, why),
        }
    }

    /// The call goes on to another number, which its parties name already.
    pub(crate) fn try_next(&mut self, call: CallId, to: Dn, reason: Reason, sender: Sender) {
        let anchor = self.anchor(call);
        if let (Some(anchor), Some(call)) = (anchor, self.calls.call_mut(call)) {
            let tried = std::mem::replace(&mut call.conversation, Conversation::routing(anchor));
            self.free_conversation(&tried);
        }
        self.tell_parties(call);
        self.route(call, to, reason, sender);
    }

    /// The caller sees to whom its call goes now, unless a redirect may still be taken back.
    pub(crate) fn tell_parties(&mut self, call: CallId) {
        let decided = self.calls.call(call).is_some_and(|call| call.left.is_none());
        if let Some(anchor) = self.anchor(call).filter(|_| decided) {
            self.tell_of(anchor, Event::LegChanged);
        }
    }
}
