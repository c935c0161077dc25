//! The records of sessions: opened, lost, resumed, restored, closed. Each is made beside the change in the table of
//! sessions, which a simulation holds against all of them.

use crate::node::Step;
use device_model::SessionId;
use device_model::transitions::{SessionChange, Transition, Trigger, What, Why};
use protocol::event::CloseReason;
use protocol::session::Fate;

/// What closes a connection, as records name it.
pub(in crate::node) fn trigger(reason: CloseReason) -> Trigger {
    match reason {
        CloseReason::SlowConsumer => Trigger::SlowConsumer,
        CloseReason::HeartbeatTimeout => Trigger::HeartbeatTimeout,
        CloseReason::UserDeleted => Trigger::UserDeleted,
        CloseReason::NotCtiEnabled => Trigger::NotCtiEnabled,
        CloseReason::CertificateExpired => Trigger::CertificateExpired,
        CloseReason::CertificateRevoked => Trigger::CertificateRevoked,
        CloseReason::CredentialChanged => Trigger::CredentialChanged,
        CloseReason::LineTooLong => Trigger::LineTooLong,
        CloseReason::Stopping => Trigger::Stop,
        // Connections with a session are closed for neither.
        CloseReason::OpenTimeout | CloseReason::Draining => Trigger::ConnectionLost,
    }
}

/// Why a session ended, as `CtiProviderClosed` says it.
pub(super) fn reason(trigger: Trigger) -> &'static str {
    if trigger == Trigger::ProviderClose { "closed" } else { trigger.word() }
}

impl Step<'_> {
    /// A session has changed.
    pub(in crate::node) fn record_session(
        &mut self,
        session: SessionId,
        change: SessionChange,
        trigger: Trigger,
    ) {
        self.record(Transition { what: What::Session(session, change), why: Why::of(trigger) });
    }

    /// A session has lost its connection. One that has no grace ends, which is a record of its own.
    pub(in crate::node) fn record_loss(&mut self, session: SessionId, fate: Fate, trigger: Trigger) {
        match fate {
            Fate::HeldUntil(_) => self.record_session(session, SessionChange::Lost, trigger),
            Fate::Failed => {}
        }
    }
}
