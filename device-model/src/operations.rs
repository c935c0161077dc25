//! What is asked now and answered later. Each operation stands in one table until its one answer (P2): it knows who asked,
//! what for, and how to go back to what was before. Its deadline is in the table of timers; at the deadline it is undone
//! and answered with `TIMEOUT`.

use crate::call::{Alternative, Parties};
use crate::cause::Cause;
use crate::control::CallControl;
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, LegId, RequestToken, SessionId};
use crate::port::{Refusal, Reply};
use crate::timers::Timer;
use std::time::{Duration, Instant};

/// How long an operation may take, whatever it waits for. What a redirect waits for has timers of its own, which end it
/// much sooner unless forward follows forward.
const DEADLINE: Duration = Duration::from_secs(600);

/// Who asks, for the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) session: SessionId,
    pub(crate) token: RequestToken,
}

/// Names an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OperationId(pub(crate) u64);

/// Something that was asked and is not answered yet.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) asker: Asker,
    pub(crate) kind: OperationKind,
    pub(crate) undo: Undo,
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OperationKind {
    /// A leg's far end is to go elsewhere; decided when the destination rings, answers or refuses.
    Redirect {
        call: CallId,
        /// The leg that was redirected; may be gone meanwhile.
        leg: LegId,
        /// What becomes of that leg when the redirect fails.
        on_failure: OnFailure,
    },
}

/// What becomes of a leg whose redirect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// It goes on as it was.
    Keep,
    Drop,
}

/// What was before.
#[derive(Debug)]
pub(crate) enum Undo {
    /// A redirect that fails is none: what the call counts and shows is as if it had not been.
    Redirect {
        parties: Parties,
        /// What was still to be tried.
        alternatives: Vec<Alternative>,
        hops: u32,
        /// Since when the two ends talked.
        talking_since: Option<Instant>,
    },
}

impl CallControl {
    /// Puts an operation into the table, from where only [`CallControl::answer_operation`] takes it.
    pub(crate) fn begin_operation(&mut self, operation: Operation) -> OperationId {
        self.last_operation += 1;
        let id = OperationId(self.last_operation);
        self.operations.insert(id, operation);
        self.set_timer(Timer::Operation(id), DEADLINE);
        id
    }

    /// Gives an operation its one answer. What it knows of the time before is for who ends it.
    pub(crate) fn answer_operation(
        &mut self,
        id: OperationId,
        answer: Result<Reply, Refusal>,
    ) -> Option<(OperationKind, Undo)> {
        self.timers.cancel(Timer::Operation(id));
        let Operation { asker, kind, undo } = self.operations.remove_known(id)?;
        self.reply(asker.session, asker.token, answer);
        Some((kind, undo))
    }

    /// It has taken too long.
    pub(crate) fn operation_overdue(&mut self, id: OperationId) {
        // It may have ended a moment ago, with a leg that could not stay.
        let Some(OperationKind::Redirect { call, .. }) = self.operations.get(id).map(|found| found.kind)
        else {
            return;
        };
        let Some(found) = self.calls.known_mut(call) else { return };
        found.alternatives.clear();
        let anchor = found.anchor;
        if self.is_awaited(anchor) {
            self.cancel_routing(call);
            self.end_of(anchor).into_iter().for_each(|end| self.close_channel(end));
        }
        self.final_failure(call, Failure::new(FailureOrigin::Overdue, Cause::RECOVERY_ON_TIMER_EXPIRY));
    }
}
