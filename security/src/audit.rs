//! Audit records: who, from where, did what to which device, and which rule allowed or refused it.

use crate::decision::Decision;
use crate::users::UserId;
use device_model::media::StreamDirection;
use device_model::{DeviceName, LegId, SessionId};
use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

/// One line of the audit log. It holds no number, no name of a person and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: SystemTime,
    /// Who; what an application claimed to be when its login failed.
    pub user: UserId,
    /// From where; `None` for the local administrator.
    pub peer: Option<SocketAddr>,
    /// The method (`device.open`) or command (`reload`).
    pub action: &'static str,
    /// On which device.
    pub device: Option<DeviceName>,
    /// Of which stream, for what is about one.
    pub stream: Option<AuditedStream>,
    /// What came of it.
    pub outcome: Outcome,
}

/// A stream whose key was delivered, and to which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditedStream {
    /// Whose.
    pub session: SessionId,
    /// Of which leg.
    pub leg: LegId,
    /// Which of its two.
    pub direction: StreamDirection,
}

/// What came of an audited action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed, by this rule.
    Allowed(String),
    /// Refused, with the wire's symbol and the rule that would have allowed it.
    Refused {
        /// `DEVICE_NOT_CONTROLLED` and its like.
        symbol: &'static str,
        /// The rule.
        rule: String,
    },
}

impl From<&Decision> for Outcome {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Allowed(rule) => Outcome::Allowed(rule.to_string()),
            Decision::Refused(refusal) => {
                Outcome::Refused { symbol: refusal.kind.symbol(), rule: refusal.rule.to_string() }
            }
        }
    }
}

impl fmt::Display for AuditRecord {
    /// `user="…" peer=… action=… device="…" allowed=… rule="…"`. Names are quoted and escaped: whatever an application
    /// sends as its user name stays on its line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user={:?}", self.user.as_str())?;
        if let Some(peer) = self.peer {
            write!(f, " peer={peer}")?;
        }
        write!(f, " action={}", self.action)?;
        if let Some(device) = &self.device {
            write!(f, " device={:?}", device.as_str())?;
        }
        if let Some(AuditedStream { session, leg, direction }) = self.stream {
            let direction = match direction {
                StreamDirection::Input => "input",
                StreamDirection::Output => "output",
            };
            write!(f, " session={session} leg={leg} direction={direction}")?;
        }
        match &self.outcome {
            Outcome::Allowed(rule) => write!(f, " allowed=true rule={rule:?}"),
            Outcome::Refused { symbol, rule } => write!(f, " allowed=false symbol={symbol} rule={rule:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditRecord, Outcome};
    use std::time::SystemTime;

    #[test]
    fn a_forged_name_stays_on_its_line() {
        let record = AuditRecord {
            at: SystemTime::UNIX_EPOCH,
            user: "eve\" allowed=true\nuser=\"root".into(),
            peer: Some("192.0.2.1:40000".parse().unwrap()),
            action: "device.open",
            device: Some("RP_MAIN".into()),
            stream: None,
            outcome: Outcome::Refused { symbol: "DEVICE_NOT_CONTROLLED", rule: "controlled_devices".into() },
        };
        assert_eq!(
            record.to_string(),
            r#"user="eve\" allowed=true\nuser=\"root" peer=192.0.2.1:40000 action=device.open device="RP_MAIN" allowed=false symbol=DEVICE_NOT_CONTROLLED rule="controlled_devices""#
        );
    }
}
