//! Redirects: an application sends a leg on, and is answered once somebody there is reached, later. A blind transfer is a
//! redirect of which the leg that comes of it says another reason.

use crate::call::{Alerting, Conversation, Left, Parties, Setup, Step};
use crate::cause::Cause;
use crate::clearing::{Clearing, Role};
use crate::control::{CallControl, refusal};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, Dn, LegId};
use crate::leg::{Leg, is_offered, wrong_state};
use crate::operations::{Asking, OnFailure, OperationKind, Undo};
use crate::port::{Event, Param, Refusal, RefusalKind, Reply};
use crate::view::{LegState, Party, Reason};
use std::sync::Arc;
use std::time::Duration;

/// How long two ends must have talked for a redirect to begin a new count of hops: who answers and sends the call on at
/// once is part of a loop, a person who transfers it is not.
const SERVED: Duration = Duration::from_secs(10);

/// The params of `call.redirect`, or of a blind `call.transfer`.
pub(crate) struct Redirect {
    pub(crate) leg: LegId,
    pub(crate) destination: Dn,
    pub(crate) calling_number: Option<Dn>,
    pub(crate) original_called: Option<Dn>,
    pub(crate) on_failure: OnFailure,
    pub(crate) reason: Reason,
}

impl Redirect {
    /// The other party of a leg goes to a number, and the leg goes.
    pub(crate) fn blind_transfer(leg: LegId, destination: Dn) -> Self {
        let (calling_number, original_called) = (None, None);
        let (on_failure, reason) = (OnFailure::Keep, Reason::BlindTransfer);
        Self { leg, destination, calling_number, original_called, on_failure, reason }
    }
}

impl CallControl {
    /// What is seen of a call that `by` sends on, of which it sees `now`. `remaining` is the caller from then on, where that
    /// was somebody else.
    pub(crate) fn redirected(
        &self,
        ask: &Redirect,
        now: &Parties,
        by: Party,
        remaining: Option<LegId>,
    ) -> Parties {
        let remaining = remaining.and_then(|far| self.calls.leg(far)).map(|leg| leg.party.clone());
        let mut calling = remaining.unwrap_or_else(|| now.calling.clone());
        if let Some(number) = &ask.calling_number {
            calling.number = number.shared();
        }
        let original = ask.original_called.as_ref().map(|dn| self.party(dn));
        let before = || now.original_called.clone().unwrap_or_else(|| now.called.clone());
        Parties {
            calling,
            called: self.party(&ask.destination),
            original_called: Some(original.unwrap_or_else(before)),
            last_redirecting: Some(by),
        }
    }

    /// Sends the other end of the leg's call somewhere else. The reply waits until the destination rings, answers or
    /// refuses; till then the leg stays as it is. To send a call on is to have taken it: a redirect that brought it to the
    /// leg has found its destination.
    pub(crate) fn redirect(&mut self, asking: Asking, ask: Redirect) -> Result<(), Refusal> {
        let leg = self.leg_to_send(asking, ask.leg)?;
        let (call_id, party, sender) = (leg.call, leg.party.clone(), leg.at.sender());
        let parties = Arc::clone(&leg.parties);
        if ask.destination.as_str().is_empty() {
            return refusal(RefusalKind::InvalidParams { field: Param::Destination }, "to whom?");
        }
        let Some(call) = self.calls.call(call_id) else { return wrong_state(leg) };
        let answering = self.attempt(call_id).is_some_and(|attempt| attempt.answering.is_some());
        let role = self.role(ask.leg);
        // Its application sends on what another application's redirect brought it.
        let passed_on = call.left.is_some() && role == Some(Role::Branch);
        if answering || (call.left.is_some() && !passed_on) {
            return wrong_state(leg);
        }
        let remaining = match (role, &call.conversation) {
            (Some(Role::Anchor), Conversation::Pair(..) | Conversation::Relayed(_)) => self.peer_of(ask.leg),
            (Some(Role::Branch | Role::Talking), _) => None,
            (
                Some(
                    Role::Anchor
                    | Role::Redirected
                    | Role::Passive
                    | Role::Listener
                    | Role::Participant
                    | Role::Waiting,
                )
                | None,
                _,
            ) => return wrong_state(leg),
        };
        let parties = self.redirected(&ask, &parties, party, remaining);
        if passed_on {
            self.commit_redirect(call_id);
        }
        self.stop_ringing(call_id);
        let (seen, now) = (self.seen(call_id), self.now);
        self.show_parties(call_id, parties);
        let Some(call) = self.calls.call_mut(call_id) else { return Ok(()) };
        if remaining.is_some() {
            call.conversation.turn();
        }
        let Some(anchor) = self.anchor(call_id) else { return Ok(()) };
        let Some(call) = self.calls.call_mut(call_id) else { return Ok(()) };
        let search = call.search_anew(now, SERVED);
        let before = std::mem::replace(&mut call.conversation, Conversation::routing(anchor));
        let allowed = self.hop(call_id);
        // A call that goes round ends, whatever its applications would like to keep.
        let on_failure = if allowed { ask.on_failure } else { OnFailure::Drop };
        let kind = OperationKind::Redirect { call: call_id, leg: ask.leg, on_failure };
        let undo = Undo::Redirect { seen, search };
        if let Some(operation) = self.begin_operation(asking, kind, undo)
            && let Some(call) = self.calls.call_mut(call_id)
        {
            call.left = Some(Left { operation, conversation: before });
        }
        match allowed {
            true => self.route(call_id, ask.destination, ask.reason, sender),
            false => self.final_failure(call_id, Failure::LOOP),
        }
        Ok(())
    }

    /// A leg whose other end is to go elsewhere. A person may have put it on hold before.
    fn leg_to_send(&self, asking: Asking, id: LegId) -> Result<&Leg, Refusal> {
        let fits = |state| is_offered(state) || state == LegState::Connected;
        match asking {
            Asking::Application(asker) => self.leg_in(asker.session, id, fits),
            Asking::Person(_) => {
                let leg = self.own_leg(id)?;
                if fits(leg.state()) || leg.state() == LegState::Held { Ok(leg) } else { wrong_state(leg) }
            }
        }
    }

    /// It rings while it is being redirected: it will have rung, should the redirect fail.
    pub(crate) fn redirected_rings(&mut self, call: CallId, leg: LegId) {
        let left = self.calls.call(call).and_then(|call| call.left.as_ref()?.conversation.attempt());
        if let Some(attempt) = left.and_then(|left| self.calls.attempt_mut(left)) {
            attempt.alerting = Alerting::Ringing;
        }
        if self.calls.leg(leg).is_some_and(|leg| leg.state() == LegState::Offering) {
            self.enter(leg, LegState::Ringing);
        }
    }

    /// Goes back to what an undecided redirect left, which has been answered meanwhile.
    pub(crate) fn abort_redirect(&mut self, leg: LegId) {
        let Some(call_id) = self.calls.leg(leg).map(|leg| leg.call) else { return };
        let Some(anchor) = self.anchor(call_id) else { return };
        let Some(call) = self.calls.call_mut(call_id) else { return };
        let Some(Left { operation, conversation }) = call.left.take() else { return };
        let tried = std::mem::replace(&mut call.conversation, conversation);
        let tried = self.close_conversation(anchor, &tried);
        let refused = refusal(
            RefusalKind::IllegalCallState { state: LegState::Connected },
            "the leg was answered before it was redirected",
        );
        let before = self.answer_operation(operation, refused);
        if let Some((_, Undo::Redirect { seen, search })) = before {
            self.see_again(seen);
            if let Some(call) = self.calls.call_mut(call_id) {
                call.count_hops_from(search.hops());
            }
        }
        for branch in tried {
            self.finish_leg(branch, Cause::NORMAL_CLEARING, None, Clearing::ByUs);
        }
    }

    /// The redirect has found its destination: what it left is over.
    pub(crate) fn commit_redirect(&mut self, call: CallId) {
        let Some(left) = self.calls.call_mut(call).and_then(|call| call.left.take()) else { return };
        let Some(anchor) = self.anchor(call) else { return };
        self.answer_operation(left.operation, Ok(Reply::Done));
        let legs = self.close_conversation(anchor, &left.conversation);
        match left.conversation {
            Conversation::Pair(..) | Conversation::Relayed(_) => self.part(anchor),
            Conversation::Setup(Setup { step: Step::Trying(_), .. }) => self.stop_streams(anchor),
            Conversation::Setup(Setup { step: Step::Routing | Step::AwaitingAddress { .. }, .. })
            | Conversation::Mixed(_)
            | Conversation::Waiting(_) => {}
        }
        for leg in legs {
            self.end_passive(call, leg);
            self.finish_leg(leg, Cause::NORMAL_CLEARING, None, Clearing::ByUs);
        }
        self.tell_of(anchor, Event::LegChanged);
    }

    pub(crate) fn redirect_failed(&mut self, call_id: CallId, left: Left, why: Failure) {
        let Some((kind, before)) = self.answer_operation(left.operation, redirect_refused(why)) else {
            return;
        };
        let Undo::Redirect { seen, search } = before;
        let OperationKind::Redirect { leg, on_failure, .. } = kind;
        self.see_again(seen);
        let Some(call) = self.calls.call_mut(call_id) else { return };
        call.search_as_before(search);
        call.conversation = left.conversation;
        match &call.conversation {
            Conversation::Setup(Setup { step: Step::Routing | Step::AwaitingAddress { .. }, .. }) => {
                return self.end_call(call_id, why, None);
            }
            Conversation::Setup(Setup { step: Step::Trying(attempt), .. }) => {
                let attempt = *attempt;
                self.resume_ringing(attempt);
            }
            Conversation::Pair(..)
            | Conversation::Relayed(_)
            | Conversation::Mixed(_)
            | Conversation::Waiting(_) => {}
        }
        match on_failure {
            OnFailure::Keep => {}
            OnFailure::Drop => self.drop_leg(leg, why),
        }
    }
}

fn redirect_refused<T>(why: Failure) -> Result<T, crate::port::Refusal> {
    if why.origin == FailureOrigin::Overdue {
        return refusal(RefusalKind::Timeout, "the destination did not decide in time");
    }
    let cause = why.cause;
    let (kind, text) = match cause {
        Cause::UNALLOCATED_NUMBER
        | Cause::NO_ROUTE_TO_DESTINATION
        | Cause::INVALID_NUMBER_FORMAT
        | Cause::NUMBER_CHANGED => (RefusalKind::DestinationUnknown, "nobody has this number"),
        Cause::USER_BUSY | Cause::CALL_REJECTED => {
            (RefusalKind::DestinationBusy, "the destination is busy or refused the call")
        }
        _ => (RefusalKind::DestinationOutOfService, "the destination can't be reached now"),
    };
    refusal(kind, format!("{text} (cause {cause})"))
}
