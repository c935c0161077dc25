//! How long a destination may take: the New Call Accept Timer of route points, the no-answer timer of all else.

use crate::call::{Alerting, AttemptId};
use crate::cause::Cause;
use crate::clearing::Clearing;
use crate::control::CallControl;
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, DeviceName, Dn};
use crate::plan::DeviceKind;
use crate::timers::Timer;
use std::time::Duration;

impl CallControl {
    pub(crate) fn ring_duration(&self, dn: &Dn) -> Duration {
        self.numbers
            .get(dn)
            .and_then(|number| number.plan.ring_duration)
            .unwrap_or(self.plan.parameters.forward_no_answer)
    }

    /// The other branches ring on. Where somebody was about to answer their time had stopped.
    pub(crate) fn ring_on(&mut self, call: CallId) {
        let attempt = self.calls.call(call).and_then(|call| call.conversation.attempt());
        let Some(id) = self.contradictions.known(attempt, "what rings on is not tried") else { return };
        let runs = self.timers.has(Timer::NoAnswer(id)) || self.timers.has(Timer::NewCallAccept(id));
        if !runs && self.calls.attempt(id).is_some_and(|attempt| attempt.answering.is_none()) {
            self.resume_ringing(id);
        }
    }

    /// The timers of a destination that is tried again start anew: a redirect failed, or who was about to answer has gone.
    pub(crate) fn resume_ringing(&mut self, id: AttemptId) {
        let Some(attempt) = self.calls.attempt(id) else { return };
        let route_point = |name: &DeviceName| {
            self.devices.known(name).is_some_and(|device| device.plan.kind == DeviceKind::RoutePoint)
        };
        // A new plan may have taken the number away.
        let number = self.numbers.get(&attempt.dn);
        let of_route_points = number.is_some_and(|number| number.appearances.iter().all(route_point));
        let rings = self.ring_duration(&attempt.dn);
        match attempt.alerting {
            Alerting::Offered if of_route_points => {
                self.set_timer(Timer::NewCallAccept(id), self.plan.parameters.new_call_accept);
            }
            Alerting::Offered | Alerting::Ringing => self.set_timer(Timer::NoAnswer(id), rings),
        }
    }

    /// The destination that is tried has all the time in the world.
    pub(crate) fn stop_ringing(&mut self, call: CallId) {
        let Some(attempt) = self.calls.call(call).and_then(|call| call.conversation.attempt()) else {
            return;
        };
        self.timers.cancel(Timer::NoAnswer(attempt));
        self.timers.cancel(Timer::NewCallAccept(attempt));
    }

    /// It has rung long enough, or nobody took it: CFNA, else the end with cause 19 (SIP 480).
    pub(crate) fn no_answer(&mut self, id: AttemptId) {
        // It may have ended a moment ago, with a leg that could not stay.
        let Some(attempt) = self.calls.find_attempt_mut(id) else { return };
        let (call, dn, branches) = (attempt.call, attempt.dn.clone(), std::mem::take(&mut attempt.branches));
        (attempt.answering, attempt.early) = (None, None);
        self.stop_ringing(call);
        for branch in branches {
            self.finish_leg(branch, Cause::NO_ANSWER, None, Clearing::ByUs);
        }
        let why = Failure::new(FailureOrigin::NoAnswer, Cause::NO_ANSWER).with_status(480);
        let to = self.forward_for(&dn, why.cause, why.origin);
        self.forward_or_fail(call, &dn, to, why);
    }
}
