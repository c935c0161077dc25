//! What sessions have logged in with, and what becomes of them when that is taken back.
//!
//! A certificate on a revocation list ends its sessions: who has it may not be whom it names. A password that is no longer
//! the user's is told first; the connection is closed after `credential_change_grace`, and whoever has the new password
//! may resume the session within its grace.

use super::port::{CtiTransport, Output};
use super::{Node, Settings, Step, alarms};
use device_model::SessionId;
use protocol::event::{CloseReason, rfc3339};
use security::tls::Serial;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// How a session's application proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// By the password of this hash.
    Password(Arc<str>),
    /// By a client certificate; its number, where the transport knows it.
    Certificate(Option<Serial>),
    /// To an earlier life of the node: who resumes it proves it anew.
    EarlierLife,
}

impl Credential {
    /// Of a connection whose `provider.open` was found good: with a password, or without one.
    pub(super) fn of(settings: &Settings, user: &str, transport: &CtiTransport, password: bool) -> Self {
        match transport {
            CtiTransport::Tls { serial, .. } if !password => Credential::Certificate(serial.clone()),
            CtiTransport::Tls { .. } | CtiTransport::Plain => {
                Credential::Password(settings.policy.hash_to_verify(user))
            }
        }
    }

    /// Whether it is a certificate that is taken back.
    pub(super) fn is_revoked(&self, settings: &Settings) -> bool {
        match self {
            Credential::Certificate(Some(serial)) => settings.revoked.contains(serial),
            Credential::Certificate(None) | Credential::Password(_) | Credential::EarlierLife => false,
        }
    }

    /// Whether it is a password that is no longer the user's.
    fn is_old(&self, settings: &Settings, user: &str) -> bool {
        match self {
            Credential::Password(hash) => settings.policy.hash_to_verify(user) != *hash,
            Credential::Certificate(_) | Credential::EarlierLife => false,
        }
    }
}

/// Sessions with an old password, by the time at which they are closed.
#[derive(Debug, Default)]
pub(super) struct OldPasswords(BTreeMap<SessionId, Closing>);

/// When a session with an old password is closed. Another reload, or another password, gives it no more time.
#[derive(Clone, Copy, Debug)]
struct Closing {
    at: Instant,
    /// The same as it is told.
    told: SystemTime,
}

impl OldPasswords {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().map(|closing| closing.at).min()
    }
}

impl Node {
    /// After a reload: who logged in with a password that is another one now is told, and closed when its time is over.
    pub(super) fn weigh_passwords(&mut self, step: &mut Step<'_>) {
        let grace = self.settings.sessions.credential_change_grace;
        let before = std::mem::take(&mut self.old_passwords.0);
        for id in self.applications.everybody() {
            let (old, mut parameters) = (self.has_old_password(id), self.who(id));
            if old {
                let now = Closing { at: step.now + grace, told: step.wall + grace };
                let closing = before.get(&id).copied().filter(|closing| closing.at < now.at).unwrap_or(now);
                parameters.push(("closes", rfc3339(closing.told)));
                self.old_passwords.0.insert(id, closing);
            }
            self.alarm_condition(step, &alarms::CREDENTIAL_CHANGED, id.to_string(), old, parameters, &[id]);
        }
        self.close_old_passwords(step);
    }

    /// Closes those whose time is over.
    pub(super) fn close_old_passwords(&mut self, step: &mut Step<'_>) {
        let over = |(id, closing): (&SessionId, &Closing)| (closing.at <= step.now).then_some(*id);
        let over: Vec<SessionId> = self.old_passwords.0.iter().filter_map(over).collect();
        for id in over {
            self.old_passwords.0.remove(&id);
            if !self.has_old_password(id) {
                continue;
            }
            self.flush_session(step, id);
            if let Some(connection) = self.applications.sessions.get(id).and_then(|s| s.connection()) {
                self.lose_connection(step, connection, CloseReason::CredentialChanged);
            }
        }
    }

    /// A session that nobody is connected to is none: who resumes it proves himself anew.
    fn has_old_password(&self, id: SessionId) -> bool {
        let connected = self.applications.sessions.get(id).is_some_and(|s| s.connection().is_some());
        let provider = self.applications.providers.get(&id).filter(|_| connected);
        provider.is_some_and(|provider| provider.credential.is_old(&self.settings, &provider.user))
    }

    /// What was told of a session's password no longer holds: it has ended, or has come with another one.
    pub(super) fn forget_password(&mut self, step: &mut Step<'_>, id: SessionId) {
        let parameters = vec![("session", id.to_string())];
        self.alarm_condition(step, &alarms::CREDENTIAL_CHANGED, id.to_string(), false, parameters, &[]);
    }

    /// A session ends because its certificate is taken back.
    pub(super) fn report_revoked(&mut self, step: &mut Step<'_>, id: SessionId) {
        let report = self.alarms.occur(&alarms::PROVIDER_CERTIFICATE_REVOKED, self.who(id));
        step.out.push(Output::Report(report));
    }
}
