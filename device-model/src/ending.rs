//! How legs and calls end, whoever ends them.

use crate::call::{Conversation, Left, Setup};
use crate::cause::Cause;
use crate::control::{CallControl, refusal};
use crate::end::{DialogState, End};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, DeviceName, EndId, LegId};
use crate::leg::Leg;
use crate::operations::Undo;
use crate::port::{EndCommand, Event, RefusalKind};
use crate::timers::Timer;
use crate::view::LegState;
use smallvec::SmallVec;

/// What a leg is to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The leg that stays.
    Anchor,
    /// One of the destinations that ring.
    Branch,
    /// The other end.
    Talking,
    /// What an undecided redirect left.
    Redirected,
    /// Another appearance has the call.
    Passive,
    /// One of many.
    Participant,
    /// The only one.
    Waiting,
}

/// Who ends a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clearing {
    /// We do: its far end is told.
    ByUs,
    /// Its far end did, and has told us.
    ByFarEnd,
}

impl CallControl {
    pub(crate) fn role(&self, leg: LegId) -> Option<Role> {
        let call = self.calls.known(self.legs.get(leg)?.call)?;
        let role = match &call.conversation {
            Conversation::Setup(Setup::Trying(_)) => Role::Branch,
            Conversation::Setup(Setup::Routing | Setup::AwaitingAddress { .. }) | Conversation::Pair(..) => {
                Role::Talking
            }
            Conversation::Mixed(_) => Role::Participant,
            Conversation::Waiting { .. } => Role::Waiting,
        };
        if call.anchor == leg && matches!(role, Role::Branch | Role::Talking) {
            return Some(Role::Anchor);
        }
        if call.passive.contains(&leg) {
            return Some(Role::Passive);
        }
        if call.conversation.legs(&self.attempts, &self.ends).contains(&leg) {
            return Some(role);
        }
        let left = call.left.as_ref()?.conversation.legs(&self.attempts, &self.ends);
        left.contains(&leg).then_some(Role::Redirected)
    }

    /// Takes a leg to its last state and out of the tables. The call's own lists are the caller's business.
    pub(crate) fn finish_leg(&mut self, id: LegId, cause: Cause, status: Option<u16>, clearing: Clearing) {
        self.say_end(id, cause, status, clearing);
        self.remove_leg(id);
    }

    fn say_end(&mut self, id: LegId, cause: Cause, status: Option<u16>, clearing: Clearing) {
        match self.waits_to_be_cleared(id) {
            Some(device) => self.as_leaving(&device, |this| this.say_end_to_all(id, cause, status, clearing)),
            None => self.say_end_to_all(id, cause, status, clearing),
        }
    }

    fn say_end_to_all(&mut self, id: LegId, cause: Cause, status: Option<u16>, clearing: Clearing) {
        self.unmute_last_words(id);
        self.stop_streams(id);
        self.set_state(id, LegState::Disconnected);
        let Some(leg) = self.legs.known_mut(id) else { return };
        leg.cause = Some(cause);
        let end = leg.end.and_then(|end| self.ends.known(end));
        if let Some(end) = end {
            self.timers.cancel(Timer::MediaExchange(end.id()));
        }
        match (clearing, end.and_then(End::dialog).map(|dialog| dialog.state)) {
            (Clearing::ByUs, Some(DialogState::Incoming)) => {
                self.command(id, EndCommand::Reject { cause, status })
            }
            (Clearing::ByUs, Some(DialogState::Placed | DialogState::Confirmed)) => {
                self.command(id, EndCommand::Release { cause })
            }
            (Clearing::ByUs, Some(DialogState::Terminated) | None) | (Clearing::ByFarEnd, _) => {}
        }
        self.tell_of(id, Event::Leg);
        self.end_unheard(id);
    }

    fn remove_leg(&mut self, id: LegId) {
        let Some(leg) = self.legs.remove(id) else { return };
        if let Some(end) = leg.end {
            self.ends.remove_known(end);
        }
        self.discount_leg(&leg.at);
        if let Some((device, dn)) = leg.at.line()
            && let Some(device) = self.device_at_mut(device, id)
        {
            device.legs.remove(&id);
            if let Some(line) = device.line_mut(dn).filter(|_| !leg.is_remote_in_use()) {
                line.calls = line.calls.saturating_sub(1);
            }
        }
    }

    /// Ends a call with all its legs. `gone` has ended at its far end already. An anchor that was never answered sees
    /// the failure first: on ports `failed` is followed by `disconnected` at once, and a phone's dialog ends with the
    /// refusal, so that it is the same there.
    pub(crate) fn end_call(&mut self, id: CallId, why: Failure, gone: Option<LegId>) {
        self.stop_ringing(id);
        let Some(call) = self.calls.known_mut(id) else { return };
        let left = call.left.take();
        let (anchor, mut legs) = (call.anchor, call.legs(&self.attempts, &self.ends));
        if let Some(Left { operation, conversation }) = left {
            let refused = refusal(RefusalKind::NoSuchLeg, "the call ended while it was redirected");
            let before = self.answer_operation(operation, refused);
            legs.extend(self.close_conversation(anchor, &conversation));
            if let (Some((_, Undo::Redirect { parties, .. })), Some(call)) =
                (before, self.calls.known_mut(id))
            {
                call.parties = parties;
            }
        }
        let failed = self.legs.known(anchor).is_some_and(|leg| {
            matches!(leg.state, LegState::Dialing | LegState::Proceeding | LegState::Ringback)
                && gone != Some(anchor)
        });
        if failed && why.cause != Cause::NORMAL_CLEARING {
            if let Some(leg) = self.legs.known_mut(anchor) {
                leg.cause = Some(why.cause);
            }
            self.enter(anchor, LegState::Failed);
        }
        for leg in &legs {
            let clearing = if gone == Some(*leg) { Clearing::ByFarEnd } else { Clearing::ByUs };
            self.say_end(*leg, why.cause, why.status, clearing);
        }
        for leg in legs {
            self.remove_leg(leg);
        }
        if let Some(call) = self.calls.remove_known(id) {
            self.free_conversation(&call.conversation);
        }
    }

    /// Appearances that watched this leg have nothing to watch any more.
    pub(crate) fn end_passive(&mut self, call: CallId, watched: LegId) {
        let Some(call) = self.calls.known_mut(call).filter(|call| call.watched == Some(watched)) else {
            return;
        };
        call.watched = None;
        for leg in std::mem::take(&mut call.passive) {
            self.finish_leg(leg, Cause::NORMAL_CLEARING, None, Clearing::ByFarEnd);
        }
    }

    /// An application drops a leg, or its device does.
    pub(crate) fn drop_leg(&mut self, leg: LegId, why: Failure) {
        let (Some(role), Some(call)) = (self.role(leg), self.legs.get(leg).map(|leg| leg.call)) else {
            return;
        };
        match role {
            Role::Anchor | Role::Talking | Role::Waiting => self.end_call(call, why, None),
            Role::Participant => self.leave_mix(call, leg, why.cause, Clearing::ByUs),
            Role::Branch => self.branch_failed(leg, why, &[], Clearing::ByUs),
            Role::Redirected => self.leave_redirect(call, leg, why.cause, Clearing::ByUs),
            Role::Passive => self.leave_passive(call, leg, why.cause),
        }
    }

    /// The far end of a leg hung up.
    pub(crate) fn released(&mut self, leg: LegId, cause: Cause) {
        let (Some(role), Some(call)) = (self.role(leg), self.legs.get(leg).map(|leg| leg.call)) else {
            return;
        };
        let why = Failure::new(FailureOrigin::FarEnd, cause);
        match role {
            Role::Anchor | Role::Talking | Role::Waiting => self.end_call(call, why, Some(leg)),
            Role::Participant => self.leave_mix(call, leg, cause, Clearing::ByFarEnd),
            Role::Branch => self.branch_failed(leg, why, &[], Clearing::ByFarEnd),
            Role::Redirected => self.leave_redirect(call, leg, cause, Clearing::ByFarEnd),
            Role::Passive => {}
        }
    }

    /// A leg that was redirected goes before the redirect is decided: the redirect goes on without a way back.
    fn leave_redirect(&mut self, call: CallId, leg: LegId, cause: Cause, clearing: Clearing) {
        let Some(call) = self.calls.known_mut(call) else { return };
        let (id, anchor) = (call.id, call.anchor);
        let (mut talked, mut played) = (false, false);
        if let Some(left) = &mut call.left {
            let attempt = left.conversation.attempt();
            talked = attempt.is_none();
            let rings_on =
                attempt.and_then(|attempt| self.attempts.known_mut(attempt)).is_some_and(|attempt| {
                    attempt.branches.retain(|branch| *branch != leg);
                    played = attempt.early.take_if(|early| *early == leg).is_some();
                    !attempt.branches.is_empty()
                });
            if !rings_on {
                let gone = std::mem::replace(&mut left.conversation, Conversation::Setup(Setup::Routing));
                self.free_conversation(&gone);
            }
        }
        if played {
            self.stop_streams(anchor);
        }
        if talked {
            self.part(anchor);
            self.end_passive(id, leg);
        }
        self.finish_leg(leg, cause, None, clearing);
    }

    fn leave_passive(&mut self, call: CallId, leg: LegId, cause: Cause) {
        if let Some(call) = self.calls.known_mut(call) {
            call.passive.retain(|passive| *passive != leg);
        }
        self.finish_leg(leg, cause, None, Clearing::ByFarEnd);
    }

    /// The application of a device is gone: what protocol §2 "Failure" says of every leg there.
    pub(crate) fn fail_device(&mut self, name: &DeviceName) {
        let legs: Vec<LegId> =
            self.devices.get(name).map(|device| device.legs.iter().copied().collect()).unwrap_or_default();
        for leg in legs {
            self.fail_leg(leg);
        }
    }

    /// Offered and ringing: CFOF, else cleared with cause 41. All else is cleared with cause 41.
    pub(crate) fn fail_leg(&mut self, leg: LegId) {
        let of_application = self.legs.get(leg).is_some_and(Leg::is_application);
        let origin = if of_application { FailureOrigin::ApplicationGone } else { FailureOrigin::DeviceGone };
        let why = Failure::new(origin, Cause::TEMPORARY_FAILURE);
        match self.role(leg) {
            Some(Role::Branch) => self.branch_failed(leg, why, &[], Clearing::ByUs),
            Some(
                Role::Anchor
                | Role::Talking
                | Role::Redirected
                | Role::Passive
                | Role::Participant
                | Role::Waiting,
            ) => self.drop_leg(leg, why),
            None => {}
        }
    }

    /// The node stops.
    pub(crate) fn shutdown(&mut self) {
        let mut calls: SmallVec<[CallId; 8]> = self.calls.ids().collect();
        calls.sort(); // the same step says the same thing in the same order
        for call in calls {
            let why = Failure::new(FailureOrigin::Stop, Cause::TEMPORARY_FAILURE);
            self.end_call(call, why, None);
        }
    }

    /// A new state, told. Any that the table of transitions hasn't is refused.
    pub(crate) fn enter(&mut self, id: LegId, state: LegState) {
        if self.set_state(id, state) {
            self.tell_of(id, Event::Leg);
        }
    }

    fn set_state(&mut self, id: LegId, state: LegState) -> bool {
        let Some(leg) = self.legs.known_mut(id) else { return false };
        if !leg.state.may_become(state) {
            self.contradictions.note("a leg enters a state that it can't enter");
            return false;
        }
        leg.state = state;
        true
    }

    pub(crate) fn timeout(&mut self, timer: Timer) {
        match timer {
            Timer::NoAnswer(attempt) | Timer::NewCallAccept(attempt) => self.no_answer(attempt),
            Timer::MediaExchange(end) => self.no_address(end),
            Timer::Operation(operation) => self.operation_overdue(operation),
        }
    }

    /// Nobody gave an address in time: the call fails with cause 47 (reference §3.4).
    fn no_address(&mut self, end: EndId) {
        // It may have ended a moment ago, with a leg that could not stay.
        let Some(leg) = self.ends.get(end).and_then(End::leg) else { return };
        let Some(call) = self.legs.known(leg).map(|leg| leg.call) else { return };
        let why = Failure::new(FailureOrigin::Media, Cause::RESOURCE_UNAVAILABLE);
        if self.is_awaited(leg) {
            // A redirect goes back to what it left.
            self.cancel_routing(call);
            self.close_channel(end);
            return self.final_failure(call, why);
        }
        self.end_call(call, why, None);
    }
}
