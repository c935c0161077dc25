//! Requests that are answered later. Each operation is in one table until its one answer (P2), with who asked, what for, the
//! deadline, and what is needed to undo it. At its deadline it is undone and answered with `TIMEOUT`.
//! `docs/leg-states.md` lists the kinds.

use crate::call::{Search, Seen};
use crate::cause::Cause;
use crate::control::CallControl;
use crate::end::{DialogState, End};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, EndId, LegId, RequestToken, SessionId};
use crate::port::{EndCommand, Output, Refusal, RefusalKind, Reply};
use crate::table::{Contradiction, Table};
use crate::timers::Timer;
use std::time::{Duration, Instant};

/// Who asks, for the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) session: SessionId,
    pub(crate) token: RequestToken,
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asking {
    /// An application's.
    Application(Asker),
    /// That of a person, at the far side of this end.
    Person(EndId),
}

impl From<Asker> for Asking {
    fn from(asker: Asker) -> Self {
        Asking::Application(asker)
    }
}

/// Names an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OperationId(pub(crate) u64);

/// Something that was asked and is not answered yet.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) asking: Asking,
    /// When it is answered at the latest; a timer runs until then.
    pub(crate) deadline: Instant,
    pub(crate) kind: OperationKind,
    pub(crate) undo: Undo,
}

/// All operations. Nothing else keeps the token of a request.
#[derive(Debug)]
pub(crate) struct Operations {
    table: Table<OperationId, Operation>,
    last: u64,
}

impl Operations {
    pub(crate) fn new() -> Self {
        Self { table: Table::new("an operation is not there"), last: 0 }
    }

    fn begin(&mut self, operation: Operation) -> OperationId {
        self.last += 1;
        let id = OperationId(self.last);
        self.table.insert(id, operation);
        id
    }

    /// One that may have been answered meanwhile.
    pub(crate) fn get(&self, id: OperationId) -> Option<&Operation> {
        self.table.get(id)
    }

    /// One that a call waits for.
    #[track_caller]
    pub(crate) fn known(&self, id: OperationId) -> Option<&Operation> {
        self.table.known(id)
    }

    /// The call that an operation is about, which waits for it.
    #[track_caller]
    pub(crate) fn call_of(&self, id: OperationId) -> Option<CallId> {
        self.table.known(id).map(|operation| operation.kind.call())
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn contains(&self, id: OperationId) -> bool {
        self.table.contains(id)
    }

    pub(crate) fn take_contradiction(&self) -> Option<Contradiction> {
        self.table.take_contradiction()
    }
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

impl OperationKind {
    /// How long it may take, whatever it waits for.
    const fn longest(self) -> Duration {
        match self {
            // What it waits for has timers of its own, which end it much sooner unless forward follows forward.
            OperationKind::Redirect { .. } => Duration::from_secs(600),
        }
    }

    /// The call that waits for it.
    pub(crate) fn call(self) -> CallId {
        match self {
            OperationKind::Redirect { call, .. } => call,
        }
    }
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
        /// What each leg saw.
        seen: Seen,
        /// What was still to be tried, how often it had been sent on, and since when the two ends talked.
        search: Search,
    },
}

impl CallControl {
    /// Puts an operation into the table, from where only [`CallControl::answer_operation`] takes it.
    pub(crate) fn begin_operation(
        &mut self,
        asking: Asking,
        kind: OperationKind,
        undo: Undo,
    ) -> Option<OperationId> {
        let deadline = self.known_now()? + kind.longest();
        let id = self.operations.begin(Operation { asking, deadline, kind, undo });
        self.timers.set(Timer::Operation(id), deadline);
        Some(id)
    }

    /// Gives an operation its one answer. What it knows of the time before is for who ends it.
    #[track_caller]
    pub(crate) fn answer_operation(
        &mut self,
        id: OperationId,
        answer: Result<Reply, Refusal>,
    ) -> Option<(OperationKind, Undo)> {
        self.timers.cancel(Timer::Operation(id));
        let Operation { asking, kind, undo, deadline: _ } = self.operations.table.remove_known(id)?;
        self.answer_to(asking, answer);
        Some((kind, undo))
    }

    /// Answers an application, or a person who is there still.
    pub(crate) fn answer_to(&mut self, asking: Asking, answer: Result<Reply, Refusal>) {
        match asking {
            Asking::Application(Asker { session, token }) => self.reply(session, token, answer),
            Asking::Person(end) => {
                let there =
                    |end: &End| end.dialog().is_some_and(|dialog| dialog.state() != DialogState::Terminated);
                if self.calls.find_end(end).is_some_and(there) {
                    let answer = answer.map(drop).map_err(|refused| cause_of(refused.kind));
                    self.out.push(Output::End(end, EndCommand::Transferred(answer)));
                }
            }
        }
    }

    /// It has taken too long.
    pub(crate) fn operation_overdue(&mut self, id: OperationId) {
        // It may have ended a moment ago, with a leg that could not stay.
        let Some(kind) = self.operations.get(id).map(|found| found.kind) else { return };
        match kind {
            OperationKind::Redirect { call, .. } => self.redirect_overdue(call),
        }
    }

    /// Nobody has decided in time whether a call goes elsewhere: it stays where it was.
    fn redirect_overdue(&mut self, call: CallId) {
        let Some(anchor) = self.anchor(call) else { return };
        let Some(found) = self.calls.call_mut(call) else { return };
        found.forget_alternatives();
        if self.is_awaited(anchor) {
            self.cancel_routing(call);
            self.known_end(anchor).into_iter().for_each(|end| self.close_channel(end));
        }
        self.final_failure(call, Failure::new(FailureOrigin::Overdue, Cause::RECOVERY_ON_TIMER_EXPIRY));
    }
}

/// What a person hears of a refusal.
fn cause_of(refusal: RefusalKind) -> Cause {
    match refusal {
        RefusalKind::DestinationUnknown => Cause::UNALLOCATED_NUMBER,
        RefusalKind::DestinationBusy => Cause::USER_BUSY,
        RefusalKind::DestinationOutOfService => Cause::SUBSCRIBER_ABSENT,
        RefusalKind::Timeout => Cause::RECOVERY_ON_TIMER_EXPIRY,
        RefusalKind::MediaCapabilityMismatch => Cause::BEARER_NOT_IMPLEMENTED,
        RefusalKind::InvalidParams { .. }
        | RefusalKind::NoSuchDevice
        | RefusalKind::DeviceRestricted
        | RefusalKind::LineRestricted
        | RefusalKind::DeviceNotOpen
        | RefusalKind::DeviceAlreadyOpen
        | RefusalKind::DeviceOutOfService
        | RefusalKind::CannotTerminateMediaOnPhone
        | RefusalKind::MediaRequired
        | RefusalKind::MediaAlreadyTerminatedStatic
        | RefusalKind::MediaAlreadyTerminatedDynamic
        | RefusalKind::MediaAlreadyTerminatedNone
        | RefusalKind::MediaAlreadySet
        | RefusalKind::NoSuchLine
        | RefusalKind::NoSuchLeg
        | RefusalKind::IllegalCallState { .. }
        | RefusalKind::OperationNotSupported
        | RefusalKind::MaxCalls
        | RefusalKind::NotOwner
        | RefusalKind::RateLimited { .. } => Cause::TEMPORARY_FAILURE,
    }
}
