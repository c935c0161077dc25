//! What a connection is told of itself.

use super::codec::{json, write_start};
use crate::frame::Frame;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// What a connection is told of itself; it has no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Another connection has taken the session over.
    Superseded,
    /// The server lives and had nothing else to say.
    Heartbeat,
    /// The server closes the connection.
    Closed(CloseReason),
}

/// Why the server closes a connection.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // contract §6
pub enum CloseReason {
    SlowConsumer,
    HeartbeatTimeout,
    OpenTimeout,
    UserDeleted,
    NotCtiEnabled,
    CertificateExpired,
    CertificateRevoked,
    CredentialChanged,
    LineTooLong,
    Draining,
    Stopping,
}

impl CloseReason {
    /// `reason` on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::SlowConsumer => "slow_consumer",
            CloseReason::HeartbeatTimeout => "heartbeat_timeout",
            CloseReason::OpenTimeout => "open_timeout",
            CloseReason::UserDeleted => "user_deleted",
            CloseReason::NotCtiEnabled => "not_cti_enabled",
            CloseReason::CertificateExpired => "certificate_expired",
            CloseReason::CertificateRevoked => "certificate_revoked",
            CloseReason::CredentialChanged => "credential_changed",
            CloseReason::LineTooLong => "line_too_long",
            CloseReason::Draining => "draining",
            CloseReason::Stopping => "stopping",
        }
    }
}

impl ConnectionEvent {
    /// `type` on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConnectionEvent::Superseded => "session.superseded",
            ConnectionEvent::Heartbeat => "session.heartbeat",
            ConnectionEvent::Closed(_) => "session.closed",
        }
    }

    /// The notification.
    #[must_use]
    pub fn frame(self, time: SystemTime) -> Frame {
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{");
        write_start(&mut out, self.name(), time);
        if let ConnectionEvent::Closed(reason) = self {
            out.extend_from_slice(b",\"reason\":");
            json(&mut out, &reason);
        }
        out.extend_from_slice(b"}}");
        Frame::whole(out)
    }
}
