//! What sessions have logged in with, and what becomes of them when that is taken back.
//!
//! A certificate on a revocation list ends its sessions: who has it may not be whom it names. A password that is no longer
//! the user's is told first; the connection is closed after `credential_change_grace`, and whoever has the new password
//! may resume the session within its grace.

use super::CtiManager;
use super::applications::{OUTPUTS_AT_ONCE, TIMERS_AT_ONCE};
use crate::node::port::CtiTransport;
use crate::node::{Settings, Step, alarms};
use device_model::SessionId;
use protocol::event::{CloseReason, rfc3339};
use security::tls::Serial;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// How a session's application proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) enum Credential {
    /// By the password of this hash.
    Password(Arc<str>),
    /// By a client certificate; its number, where the transport knows it.
    Certificate(Option<Serial>),
    /// To an earlier life of the node: who resumes it proves it anew.
    EarlierLife,
}

impl Credential {
    /// Of a connection whose `provider.open` was found good: with a password, or without one.
    pub(in crate::node) fn of(
        settings: &Settings,
        user: &str,
        transport: &CtiTransport,
        password: bool,
    ) -> Self {
        match transport {
            CtiTransport::Tls { serial, .. } if !password => Credential::Certificate(serial.clone()),
            CtiTransport::Tls { .. } | CtiTransport::Plain => {
                Credential::Password(settings.policy.hash_to_verify(user))
            }
        }
    }

    /// Whether it is a certificate that is taken back.
    pub(in crate::node) fn is_revoked(&self, settings: &Settings) -> bool {
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

/// Sessions with an old password, and when each is closed.
#[derive(Debug, Default)]
pub(in crate::node) struct OldPasswords {
    due: BTreeSet<(Instant, SessionId)>,
    closing: BTreeMap<SessionId, Closing>,
    /// Since a reload these are to be told how it is with their password.
    untold: BTreeMap<SessionId, Instant>,
}

/// When a session with an old password is closed. Another reload, or another password, gives it no more time.
#[derive(Clone, Copy, Debug)]
struct Closing {
    at: Instant,
    /// The same as it is told.
    told: SystemTime,
}

impl OldPasswords {
    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        let untold = self.untold.first_key_value().map(|(_, since)| *since);
        self.due.first().map(|(at, _)| *at).into_iter().chain(untold).min()
    }

    fn insert(&mut self, id: SessionId, closing: Closing) {
        self.due.insert((closing.at, id));
        self.closing.insert(id, closing);
    }

    /// The first one whose time is over.
    fn overdue(&self, now: Instant) -> Option<SessionId> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// Whether this one's time is over; it is asked for once.
    fn take(&mut self, now: Instant, id: SessionId) -> bool {
        let Some(at) = self.closing.get(&id).map(|closing| closing.at).filter(|at| *at <= now) else {
            return false;
        };
        self.closing.remove(&id);
        self.due.remove(&(at, id))
    }
}

impl CtiManager {
    /// After a reload: who logged in with a password that is another one now is told, and closed when its time is over.
    pub(in crate::node) fn weigh_passwords(&mut self, step: &mut Step<'_>) {
        let grace = self.settings.sessions.credential_change_grace;
        let before = std::mem::take(&mut self.old_passwords).closing;
        let was_told = step.alarms.any(&alarms::CREDENTIAL_CHANGED);
        for id in self.applications.everybody() {
            let old = self.has_old_password(id);
            if old {
                let now = Closing { at: step.now + grace, told: step.wall + grace };
                let closing = before.get(&id).copied().filter(|closing| closing.at < now.at).unwrap_or(now);
                self.old_passwords.insert(id, closing);
            }
            if old || was_told {
                self.old_passwords.untold.insert(id, step.now);
            }
        }
        self.carry_on_old_passwords(step);
    }

    /// Closes those whose time is over, and tells the others, some in a step: a user may have thousands.
    pub(in crate::node) fn carry_on_old_passwords(&mut self, step: &mut Step<'_>) {
        let begin = step.said_so_far();
        for _ in 0..TIMERS_AT_ONCE {
            if step.said_so_far() - begin >= OUTPUTS_AT_ONCE {
                break;
            }
            let overdue = self.old_passwords.overdue(step.now);
            let untold = || self.old_passwords.untold.first_key_value().map(|(id, _)| *id);
            let Some(id) = overdue.or_else(untold) else { break };
            self.close_if_old(step, id);
        }
    }

    /// The alarm of a session's password is as the password is.
    fn tell_of_password(&mut self, step: &mut Step<'_>, id: SessionId) {
        let (old, mut parameters) = (self.has_old_password(id), self.who(id));
        if let Some(closing) = self.old_passwords.closing.get(&id).filter(|_| old) {
            parameters.push(("closes", rfc3339(closing.told)));
        }
        let state = alarms::AlarmState::when(old);
        self.alarm_condition(step, &alarms::CREDENTIAL_CHANGED, id.to_string(), state, parameters, &[id]);
    }

    /// Tells this one, and closes it if its time is over: nobody may ask for anything then.
    pub(in crate::node) fn close_if_old(&mut self, step: &mut Step<'_>, id: SessionId) {
        if self.old_passwords.untold.remove(&id).is_some() {
            self.tell_of_password(step, id);
        }
        if self.old_passwords.take(step.now, id) {
            self.close_old_password(step, id);
        }
    }

    fn close_old_password(&mut self, step: &mut Step<'_>, id: SessionId) {
        if !self.has_old_password(id) {
            return;
        }
        self.flush_session(step, id);
        if let Some(connection) = self.applications.sessions.get(id).and_then(|s| s.connection()) {
            self.lose_connection(step, connection, CloseReason::CredentialChanged);
        }
    }

    /// A session that nobody is connected to is none: who resumes it proves himself anew.
    fn has_old_password(&self, id: SessionId) -> bool {
        let connected = self.applications.sessions.get(id).is_some_and(|s| s.connection().is_some());
        let provider = self.applications.providers.get(&id).filter(|_| connected);
        provider.is_some_and(|provider| provider.credential.is_old(&self.settings, &provider.user))
    }

    /// What was told of a session's password no longer holds: it has ended, or has come with another one.
    pub(in crate::node) fn forget_password(&mut self, step: &mut Step<'_>, id: SessionId) {
        let parameters = vec![("session", id.to_string())];
        self.alarm_condition(
            step,
            &alarms::CREDENTIAL_CHANGED,
            id.to_string(),
            alarms::AlarmState::Cleared,
            parameters,
            &[],
        );
    }
}
