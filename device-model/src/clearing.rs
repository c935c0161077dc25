//! Clearing: how legs and calls end, whichever side ends them.

use crate::call::{Conversation, Left};
use crate::cause::Cause;
use crate::control::{CallControl, refusal};
use crate::end::{Dialog, DialogState, End};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, DeviceName, EndId, LegId};
use crate::leg::Leg;
use crate::operations::Undo;
use crate::port::{EndCommand, Event, RefusalKind};
use crate::timers::Timer;
use crate::transitions::{CallChange, Recorder};
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
    /// It hears two others.
    Listener,
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
    /// What a leg is to its call; `None`: it has ended meanwhile, with another leg of its call.
    #[track_caller]
    pub(crate) fn role(&self, leg: LegId) -> Option<Role> {
        let call = self.calls.call(self.calls.find_leg(leg)?.call)?;
        if call.is_passive(leg) {
            return Some(Role::Passive);
        }
        let role = self.calls.role_in(&call.conversation, leg).or_else(|| {
            let left = self.calls.role_in(&call.left.as_ref()?.conversation, leg)?;
            Some(if left == Role::Listener { left } else { Role::Redirected })
        });
        self.contradictions.known(role, "a leg has no part in its call")
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
        self.stop_streams(id);
        let Some(leg) = self.calls.leg_mut(id) else { return };
        leg.cause = Some(cause);
        let end = leg.end;
        self.set_state(id, LegState::Disconnected);
        let end = end.and_then(|end| self.calls.end(end));
        if let Some(end) = end {
            self.timers.cancel(Timer::MediaExchange(end.id()));
        }
        match (clearing, end.and_then(End::dialog).map(Dialog::state)) {
            (Clearing::ByUs, Some(DialogState::Incoming)) => {
                self.command(id, EndCommand::Reject { cause, status })
            }
            (Clearing::ByUs, Some(DialogState::Placed | DialogState::Confirmed)) => {
                self.command(id, EndCommand::Release { cause })
            }
            (Clearing::ByUs, Some(DialogState::Terminated) | None) | (Clearing::ByFarEnd, _) => {}
        }
        self.tell_of(id, Event::Leg);
    }

    fn remove_leg(&mut self, id: LegId) {
        let Some(leg) = self.calls.remove_leg(id) else { return };
        self.discount_leg(&leg.at);
        if let Some((device, dn)) = leg.at.line()
            && let Some(device) = self.device_at_mut(device, id)
        {
            device.legs.remove(&id);
            // A new plan may have taken the line away.
            if let Some(line) = device.line_mut(dn).filter(|_| !leg.is_remote_in_use()) {
                match line.calls.checked_sub(1) {
                    Some(calls) => line.calls = calls,
                    None => self.contradictions.note("a line without a call loses one"),
                }
            }
        }
    }

    /// Ends a call with all its legs. `gone` has ended at its far end already. An anchor that was never answered sees
    /// the failure first: on ports `failed` is followed by `disconnected` at once, and a phone's dialog ends with the
    /// refusal, so that it is the same there.
    pub(crate) fn end_call(&mut self, id: CallId, why: Failure, gone: Option<LegId>) {
        self.stop_ringing(id);
        let Some(call) = self.calls.call_mut(id) else { return };
        let (left, setup) = (call.left.take(), call.conversation.is_setup());
        let Some(mut legs) = self.calls.call(id).map(|call| self.calls.legs_of(call)) else { return };
        let anchor = legs.first().copied().filter(|_| setup);
        if let Some(Left { operation, conversation }) = left {
            let refused = refusal(RefusalKind::NoSuchLeg, "the call ended while it was redirected");
            let before = self.answer_operation(operation, refused);
            anchor.into_iter().for_each(|anchor| legs.extend(self.close_conversation(anchor, &conversation)));
            if let Some((_, Undo::Redirect { seen, .. })) = before {
                self.see_again(seen);
            }
        }
        if let Some(anchor) = anchor.filter(|anchor| gone != Some(*anchor)) {
            self.fail_setup(anchor, why.cause);
        }
        for leg in &legs {
            let clearing = if gone == Some(*leg) { Clearing::ByFarEnd } else { Clearing::ByUs };
            self.say_end(*leg, why.cause, why.status, clearing);
        }
        for leg in legs {
            self.remove_leg(leg);
        }
        let recorder = &mut Recorder { why: self.why, out: &mut self.out };
        if let Some(call) = self.calls.remove_call(id, CallChange::Ended, recorder) {
            self.free_conversation(&call.conversation);
        }
    }

    /// An anchor that was never answered sees why its call failed.
    fn fail_setup(&mut self, anchor: LegId, cause: Cause) {
        let Some(leg) = self.calls.leg_mut(anchor) else { return };
        let waits = matches!(leg.state(), LegState::Dialing | LegState::Proceeding | LegState::Ringback);
        if waits && cause != Cause::NORMAL_CLEARING {
            leg.cause = Some(cause);
            self.enter(anchor, LegState::Failed);
        }
    }

    /// Appearances that watched this leg have nothing to watch any more.
    pub(crate) fn end_passive(&mut self, call: CallId, watched: LegId) {
        let Some(call) = self.calls.call_mut(call) else { return };
        for leg in call.end_watch(watched) {
            self.finish_leg(leg, Cause::NORMAL_CLEARING, None, Clearing::ByFarEnd);
        }
    }

    /// An application drops a leg, or its device does. One that was redirected may have gone before.
    pub(crate) fn drop_leg(&mut self, leg: LegId, why: Failure) {
        let (Some(role), Some(call)) = (self.role(leg), self.calls.find_leg(leg).map(|leg| leg.call)) else {
            return;
        };
        match role {
            Role::Anchor | Role::Talking | Role::Waiting => self.end_call(call, why, None),
            Role::Participant => self.leave_mix(call, leg, why.cause, Clearing::ByUs),
            Role::Listener => self.leave_relay(call, leg, why.cause, Clearing::ByUs),
            Role::Branch => self.branch_failed(leg, why, &[], Clearing::ByUs),
            Role::Redirected => self.leave_redirect(call, leg, why.cause, Clearing::ByUs),
            Role::Passive => self.leave_passive(call, leg, why.cause),
        }
    }

    /// The far end of a leg hung up.
    pub(crate) fn released(&mut self, leg: LegId, cause: Cause) {
        let (Some(role), Some(call)) = (self.role(leg), self.calls.leg(leg).map(|leg| leg.call)) else {
            return;
        };
        let why = Failure::new(FailureOrigin::FarEnd, cause);
        match role {
            Role::Anchor | Role::Talking | Role::Waiting => self.end_call(call, why, Some(leg)),
            Role::Participant => self.leave_mix(call, leg, cause, Clearing::ByFarEnd),
            Role::Listener => self.leave_relay(call, leg, cause, Clearing::ByFarEnd),
            Role::Branch => self.branch_failed(leg, why, &[], Clearing::ByFarEnd),
            Role::Redirected => self.leave_redirect(call, leg, cause, Clearing::ByFarEnd),
            Role::Passive => {}
        }
    }

    /// A leg that was redirected goes before the redirect is decided: the redirect goes on without a way back.
    fn leave_redirect(&mut self, id: CallId, leg: LegId, cause: Cause, clearing: Clearing) {
        let Some(anchor) = self.anchor(id) else { return };
        let (mut talked, mut played) = (false, false);
        let mut listeners = SmallVec::new();
        let left = self.calls.call(id).and_then(|call| call.left.as_ref());
        if let Some(attempt) = left.map(|left| left.conversation.attempt()) {
            talked = attempt.is_none();
            let attempt = attempt.and_then(|attempt| self.calls.attempt_mut(attempt));
            let rings_on = attempt.is_some_and(|attempt| {
                attempt.branches.retain(|branch| *branch != leg);
                played = attempt.early.take_if(|early| *early == leg).is_some();
                !attempt.branches.is_empty()
            });
            let left = self.calls.call_mut(id).and_then(|call| call.left.as_mut());
            if let Some(left) = left.filter(|_| !rings_on) {
                let gone = std::mem::replace(&mut left.conversation, Conversation::routing(anchor));
                listeners = self.close_conversation(anchor, &gone);
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
        for listener in listeners.into_iter().filter(|listener| *listener != leg) {
            self.finish_leg(listener, cause, None, Clearing::ByUs);
        }
    }

    fn leave_passive(&mut self, call: CallId, leg: LegId, cause: Cause) {
        if let Some(call) = self.calls.call_mut(call) {
            call.unwatch(leg);
        }
        self.finish_leg(leg, cause, None, Clearing::ByFarEnd);
    }

    /// The application of a device is gone: what protocol §2 "Failure" says of every leg there.
    pub(crate) fn fail_device(&mut self, name: &DeviceName) {
        let legs: Vec<LegId> =
            self.devices.known(name).map(|device| device.legs.iter().copied().collect()).unwrap_or_default();
        for leg in legs {
            self.fail_leg(leg);
        }
    }

    /// Offered and ringing: CFOF, else cleared with cause 41. All else is cleared with cause 41. One of several at a device
    /// may have ended with the one before.
    pub(crate) fn fail_leg(&mut self, leg: LegId) {
        let of_application = self.calls.find_leg(leg).is_some_and(Leg::is_application);
        let origin = if of_application { FailureOrigin::ApplicationGone } else { FailureOrigin::DeviceGone };
        let why = Failure::new(origin, Cause::TEMPORARY_FAILURE);
        match self.role(leg) {
            Some(Role::Branch) => self.branch_failed(leg, why, &[], Clearing::ByUs),
            Some(
                Role::Anchor
                | Role::Talking
                | Role::Redirected
                | Role::Passive
                | Role::Listener
                | Role::Participant
                | Role::Waiting,
            ) => self.drop_leg(leg, why),
            None => {}
        }
    }

    /// Whether there is any call.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.calls.count() > 0
    }

    /// The node stops.
    pub(crate) fn shutdown(&mut self, most: usize) {
        for call in self.calls.first(most) {
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
        let Some(leg) = self.calls.leg_mut(id) else { return false };
        let entered = leg.enter(state, &mut Recorder { why: self.why, out: &mut self.out });
        if !entered {
            self.contradictions.note("a leg enters a state that it can't enter");
        }
        entered
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
        let Some(leg) = self.calls.find_end(end).and_then(End::leg) else { return };
        let Some(call) = self.calls.leg(leg).map(|leg| leg.call) else { return };
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
