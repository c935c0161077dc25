//! `provider.open`: who is it, may he, and is it a new session or one that goes on (protocol §2).
//!
//! The order of the checks is the contract's: rate, credentials, transport, CTI Enabled, connection limit. A password is
//! checked by the shell, off this thread; everything after it happens when its answer comes.

use super::CtiManager;
use super::applications::{Link, Provider, Verifying};
use super::credentials::Credential;
use crate::node::port::{CtiConnection, CtiTransport, Output};
use crate::node::{Step, alarms};
use device_model::SessionId;
use device_model::transitions::{SessionChange, Trigger};
use protocol::event::CloseReason;
use protocol::methods::{NotResumed, ProviderOpen, ProviderOpened};
use protocol::session::{Resume, SessionConfig, grace, heartbeat_interval};
use protocol::{CtiError, Subscription, Symbol, rpc, wire};
use rand::RngExt;
use security::audit::{AuditRecord, Outcome};
use security::limits::{TooMany, network};
use security::shares::{Bound, Door, Place, Share, Who};
use security::{Action, Actor, Decision, RefusalKind, Rule};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// When to try again while too many passwords are being verified.
const PASSWORD_RETRY_MS: u64 = 1_000;

impl CtiManager {
    pub(in crate::node) fn open_provider(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        open: Box<ProviderOpen>,
    ) {
        let most = self.settings.sessions.subscriptions;
        if open.subscribe.as_ref().is_some_and(|globs| globs.len() > most) {
            let message = format!("`subscribe` must hold at most {most} globs (`session_subscriptions`)");
            let error = CtiError::invalid_params("subscribe", message);
            let link = self.applications.links.get_mut(&connection);
            let frame = link.and_then(|link| link.connection.refused(&error));
            return step.out.extend(frame.map(|frame| Output::Cti(connection, frame)));
        }
        if open.password.is_some() {
            return self.verify_password(step, connection, open);
        }
        let Some(link) = self.applications.links.get_mut(&connection) else { return };
        let user = open.user.as_str();
        let proved = match &link.transport {
            // One that was taken back since the handshake proves nothing.
            CtiTransport::Tls { client_cn: Some(cn), serial, .. } => {
                **cn == *user && !serial.as_ref().is_some_and(|serial| self.settings.revoked.contains(serial))
            }
            CtiTransport::Tls { client_cn: None, .. } | CtiTransport::Plain => false,
        };
        self.credentials_checked(step, connection, open, proved);
    }

    /// Has a password verified, if the shares of its user and its address allow it.
    fn verify_password(&mut self, step: &mut Step<'_>, connection: CtiConnection, open: Box<ProviderOpen>) {
        let Some(link) = self.applications.links.get(&connection) else { return };
        let (user, from) = (open.user.as_str(), link.peer.ip());
        if let Err(wait) = self.may_prove(step, &open, from) {
            return self.refuse_open(step, connection, &open, CtiError::rate_limited(wait.retry_after_ms()));
        }
        let shares = &mut *step.shares;
        let at_home = shares.is_at_home(Door::Cti, user, from);
        let who = Verifying { address: Who::address(from), user: (!at_home).then(|| Door::Cti.who(user)) };
        let held = shares.hold(step.now, Place::PasswordsOfAddress, &who.address, 1).and_then(|()| {
            let of_user = who.user.as_ref();
            let held = of_user.map_or(Ok(()), |user| shares.hold(step.now, Place::PasswordsOfUser, user, 1));
            held.inspect_err(|_| shares.release(Place::PasswordsOfAddress, &who.address, 1))
        });
        if let Err(wait) = held {
            return self.refuse_open(step, connection, &open, CtiError::rate_limited(wait.retry_after_ms()));
        }
        self.applications.verifying.insert(connection, who);
        let password = open.password.as_ref().map_or("", |password| password.expose());
        let hash = self.settings.policy.hash_to_verify(user);
        step.out.push(Output::CheckPassword {
            connection,
            hash: Arc::clone(&hash),
            password: security::Secret::new(password.to_owned()),
            at_home,
        });
        if let Some(link) = self.applications.links.get_mut(&connection) {
            (link.compared, link.opening) = (Some(hash), Some(open));
        }
    }

    /// Whether the shares of user and address allow a password to be looked at. Who resumes a session that lives is
    /// bound as at home, wherever he comes from: strangers can't use up his share, and who has read the session's name in
    /// a log can't guess for ever.
    fn may_prove(&mut self, step: &mut Step<'_>, open: &ProviderOpen, from: IpAddr) -> Result<(), TooMany> {
        let user = open.user.as_str();
        if self.resumes(open) {
            return step.shares.may_resume(step.now, Door::Cti, user, from);
        }
        let may = step.shares.may_prove(step.now, Door::Cti, user, from);
        if may.is_err() {
            step.shares.put_off(step.now, Door::Cti, user, from);
        }
        may
    }

    /// Whether it names a session of the same user that lives.
    fn resumes(&self, open: &ProviderOpen) -> bool {
        let resumed = open.resume.as_ref().and_then(|wish| self.applications.sessions.get(wish.session?));
        resumed.is_some_and(|session| *session.config().user == *open.user.as_str())
    }

    fn verified(&mut self, step: &mut Step<'_>, connection: CtiConnection) {
        let Some(Verifying { address, user }) = self.applications.verifying.remove(&connection) else {
            return;
        };
        step.shares.release(Place::PasswordsOfAddress, &address, 1);
        if let Some(user) = user {
            step.shares.release(Place::PasswordsOfUser, &user, 1);
        }
    }

    /// The shell's word on a password. The connection may be gone by now.
    pub(in crate::node) fn password_checked(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        matches: bool,
    ) {
        self.verified(step, connection);
        let Some(link) = self.applications.links.get_mut(&connection) else { return };
        let compared = link.compared.take();
        if let Some(open) = link.opening.take() {
            // A reload may have brought another password meanwhile.
            let still = compared == Some(self.settings.policy.hash_to_verify(open.user.as_str()));
            self.credentials_checked(step, connection, open, matches && still);
        }
    }

    /// The shell can't verify the password now: too many wait already.
    pub(in crate::node) fn password_busy(&mut self, step: &mut Step<'_>, connection: CtiConnection) {
        self.verified(step, connection);
        let link = self.applications.links.get_mut(&connection);
        if let Some(open) = link.and_then(|link| link.opening.take()) {
            self.refuse_open(step, connection, &open, CtiError::rate_limited(PASSWORD_RETRY_MS));
        }
    }

    fn credentials_checked(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        open: Box<ProviderOpen>,
        proved: bool,
    ) {
        let Some(link) = self.applications.links.get(&connection) else { return };
        let (user, address) = (open.user.as_str(), link.peer.ip());
        let transport = link.security();
        let by_password = open.password.is_some();
        // Once more: of attempts that were checked at the same time only as many may learn their outcome as the limit
        // allows.
        if by_password && let Err(wait) = self.may_prove(step, &open, address) {
            let error = CtiError::rate_limited(wait.retry_after_ms());
            return self.refuse_open(step, connection, &open, error);
        }
        if !proved || self.settings.policy.user(user).is_none() {
            // A certificate can't be guessed.
            match (by_password, self.resumes(&open)) {
                (false, _) => {}
                (true, false) => step.shares.disproved(step.now, Door::Cti, user, address),
                (true, true) => step.shares.not_resumed(step.now, Door::Cti, user, address),
            }
            let message = "the user name or the password is wrong, or the certificate is not this user's";
            let error = CtiError::new(Symbol::LoginFailed, message);
            return self.refuse_open(step, connection, &open, error);
        }
        step.shares.proved(Door::Cti, user, address);
        let actor = Actor { user, transport };
        if let Decision::Refused(refusal) = self.settings.policy.decide(actor, Action::OpenProvider) {
            return self.refuse_open(step, connection, &open, permission_error(&refusal));
        }
        self.admit_provider(step, connection, &open);
    }

    fn admit_provider(&mut self, step: &mut Step<'_>, connection: CtiConnection, open: &ProviderOpen) {
        let resume = open.resume.as_ref().map(|wish| {
            let user = open.user.as_str();
            self.applications.sessions.resume(step.now, wish.session, user, wish.last_seq)
        });
        let not_resumed = match resume {
            None => None,
            Some(Resume::Yes(id)) => return self.resume(step, connection, open, id),
            Some(Resume::Refused(error)) => return self.refuse_open(step, connection, open, error),
            Some(Resume::No(why)) => Some(why),
        };
        if let (Some(NotResumed::LogOverrun), Some(id)) =
            (not_resumed, open.resume.as_ref().and_then(|r| r.session))
        {
            self.drop_overrun(step, id);
        }
        if step.calls.directory().draining() {
            return self.turn_away(step, connection, open);
        }
        match self.place_for(open.user.as_str()) {
            Ok(()) => self.start_session(step, connection, open, not_resumed),
            Err((whole, message)) => {
                if !whole {
                    step.shares.count_elsewhere(Share::Bound(Bound::SessionsOfUser), 1);
                }
                let error = CtiError::new(Symbol::MaxConnections, message);
                self.refuse_open(step, connection, open, error);
            }
        }
    }

    /// Whether one more provider of this user has a place, or whether it is the node that has none, and which limit it
    /// would pass.
    fn place_for(&self, user: &str) -> Result<(), (bool, &'static str)> {
        let (bounds, sessions) = (&self.settings.sessions, &self.applications.sessions);
        if sessions.len() >= bounds.max_cti_connections {
            return Err((true, "this node has as many providers as `max_cti_connections` allows"));
        }
        if sessions.count_of_user(user) >= bounds.max_cti_connections_per_user {
            return Err((false, "this user has as many providers as `max_cti_connections_per_user` allows"));
        }
        Ok(())
    }

    /// A draining node goes on with the sessions that it has, and takes no other.
    fn turn_away(&mut self, step: &mut Step<'_>, connection: CtiConnection, open: &ProviderOpen) {
        let reason = CloseReason::Draining;
        let parameters = vec![("user", open.user.as_str().to_owned()), ("reason", reason.name().to_owned())];
        let report = step.alarms.occur(&alarms::PROVIDER_OPEN_FAILURE, parameters);
        step.out.push(Output::Report(report));
        let peer = self.applications.links.get(&connection).map(|link| link.peer);
        let outcome = Outcome::Refused { symbol: reason.name(), rule: "drain".into() };
        audit_open(step, open, peer, outcome);
        self.close_connection(step, connection, reason);
    }

    /// The alarm of a user's share stands while every place of it is taken.
    pub(in crate::node) fn weigh_user(&mut self, step: &mut Step<'_>, user: &str) {
        let (open, limit) = (
            self.applications.sessions.count_of_user(user),
            self.settings.sessions.max_cti_connections_per_user,
        );
        let mut parameters = vec![("user", user.to_owned())];
        parameters.extend([("open", open.to_string()), ("limit", limit.to_string())]);
        let (alarm, on) = (&alarms::MAX_CONNECTIONS_OF_USER, open >= limit);
        if on || step.alarms.any(alarm) {
            self.alarm_condition(step, alarm, user.to_owned(), alarms::AlarmState::when(on), parameters, &[]);
        }
    }

    /// The alarm of the hard limit stands while every place is taken.
    pub(in crate::node) fn weigh_connections(&mut self, step: &mut Step<'_>) {
        let (open, limit) = (self.applications.sessions.len(), self.settings.sessions.max_cti_connections);
        let on = open >= limit;
        if on != step.alarms.any(&alarms::MAX_CONNECTIONS) {
            let parameters = vec![("open", open.to_string()), ("limit", limit.to_string())];
            let state = alarms::AlarmState::when(on);
            self.alarm_condition(step, &alarms::MAX_CONNECTIONS, String::new(), state, parameters, &[]);
        }
    }

    /// The old session ends there and then as a failed one (protocol §2, "Resume"). A connection it may still have is
    /// taken over by the new session's application.
    fn drop_overrun(&mut self, step: &mut Step<'_>, id: SessionId) {
        let old = self.applications.sessions.get(id).and_then(|s| s.connection());
        if let Some(old) = old {
            self.supersede(step, old);
        }
        self.end_session(step, id, Trigger::LogOverrun);
    }

    fn start_session(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        open: &ProviderOpen,
        reason: Option<NotResumed>,
    ) {
        // What was told before is not for it.
        self.hear_all(step);
        // Unguessable, though a resume asks for the user's credentials as well.
        let id = self.identity.session(self.random.random());
        let config = self.session_config(open);
        let answer = self.opened(open, &config, id, reason, None);
        let Some(link) = self.applications.links.get_mut(&connection) else { return };
        let Some(request) = link.connection.opened(id) else { return };
        let reply = rpc::result_frame(&request, &rpc::raw(&answer));
        self.leave_unopened(step, connection);
        let provider = self.provider(connection, open);
        self.applications.sessions.open(step.now, id, config, connection, reply);
        step.record_session(id, SessionChange::Opened, Trigger::ProviderOpen);
        self.applications.providers.extend(provider.map(|p| (id, p)));
        self.keep_session(id);
        self.applications.touch(id);
        self.weigh_connections(step);
        self.weigh_user(step, open.user.as_str());
        self.watch_certificate(step, connection);
        self.report_opened(step, id, open);
    }

    fn resume(&mut self, step: &mut Step<'_>, connection: CtiConnection, open: &ProviderOpen, id: SessionId) {
        let last_seq = open.resume.as_ref().map_or(0, |r| r.last_seq);
        let config = self.resumed_config(open, id);
        let answer = self.opened(open, &config, id, None, Some(last_seq));
        let Some(link) = self.applications.links.get_mut(&connection) else { return };
        let Some(request) = link.connection.opened(id) else { return };
        let reply = rpc::result_frame(&request, &rpc::raw(&answer));
        let Some(mut session) = self.applications.sessions.get_mut(id) else { return };
        let subscription = open.subscribe.as_ref().map(|_| config.subscription);
        session.renegotiate(config.heartbeat, config.grace, subscription);
        let superseded = session.attach(step.now, connection, last_seq, reply);
        drop(session);
        step.record_session(id, SessionChange::Resumed, Trigger::ProviderOpen);
        self.leave_unopened(step, connection);
        if let Some(old) = superseded {
            self.supersede(step, old);
        }
        self.forget_certificate(step, id);
        self.forget_password(step, id);
        self.portions.forget_replay(id);
        let provider = self.provider(connection, open);
        self.applications.providers.extend(provider.map(|p| (id, p)));
        self.keep_session(id);
        self.applications.touch(id);
        self.watch_certificate(step, connection);
        self.report_opened(step, id, open);
    }

    fn supersede(&mut self, step: &mut Step<'_>, old: CtiConnection) {
        if let Some(mut link) = self.forget_link(step, old) {
            if let Some(frame) = link.connection.supersede(step.wall) {
                step.out.push(Output::Cti(old, frame));
            }
            step.out.push(Output::CtiClose(old));
        }
    }

    /// What the client wished before holds until it wishes something else, within the bounds of now.
    fn resumed_config(&self, open: &ProviderOpen, id: SessionId) -> SessionConfig {
        let mut wish = open.clone();
        if let Some(session) = self.applications.sessions.get(id) {
            let before = session.config();
            wish.heartbeat_ms.get_or_insert(milliseconds(before.heartbeat));
            wish.resume_grace_ms.get_or_insert(milliseconds(before.grace));
        }
        self.session_config(&wish)
    }

    fn session_config(&self, open: &ProviderOpen) -> SessionConfig {
        let bounds = &self.settings.sessions;
        let user = self.settings.policy.user(open.user.as_str());
        let without_wish = user.and_then(|u| u.session_resume_grace).unwrap_or(bounds.resume_grace);
        SessionConfig {
            user: open.user.as_str().into(),
            application: open.application.as_str().into(),
            instance: open.instance.as_ref().map(|i| i.as_str().into()),
            heartbeat: heartbeat_interval(
                open.heartbeat_ms,
                bounds.heartbeat_minimum,
                bounds.heartbeat_maximum,
            ),
            grace: grace(open.resume_grace_ms, without_wish, bounds.resume_grace_maximum),
            subscription: open.subscribe.as_deref().map_or_else(Subscription::all, Subscription::of),
            log_events: bounds.log_events,
            log_bytes: bounds.log_bytes,
            queue_events: bounds.queue_events,
            idem_keys: bounds.idem_keys,
            pending_requests: bounds.pending_requests,
        }
    }

    fn opened(
        &self,
        open: &ProviderOpen,
        config: &SessionConfig,
        session: SessionId,
        reason: Option<NotResumed>,
        resumed_after: Option<u64>,
    ) -> ProviderOpened {
        let policy = &self.settings.policy;
        let user = open.user.as_str();
        let count = policy.user(user).map_or(0, |user| policy.controlled_count(user));
        ProviderOpened {
            session,
            resumed: resumed_after.is_some(),
            reason,
            next_seq: resumed_after.map_or(1, |seq| seq + 1),
            heartbeat_ms: milliseconds(config.heartbeat),
            resume_grace_ms: milliseconds(config.grace),
            node: self.settings.node.clone(),
            cluster: self.settings.cluster.clone(),
            ctimanagers: self.settings.ctimanagers.clone(),
            device_count: count as u64,
            privileges: privileges(policy.privileges(user)),
        }
    }

    fn provider(&self, connection: CtiConnection, open: &ProviderOpen) -> Option<Provider> {
        let link: &Link = self.applications.links.get(&connection)?;
        Some(Provider {
            user: open.user.as_str().into(),
            peer: link.peer,
            transport: link.security(),
            credential: Credential::of(
                &self.settings,
                open.user.as_str(),
                &link.transport,
                open.password.is_some(),
            ),
        })
    }

    /// Connections are expected from where the applications of the sessions are that the node has kept.
    pub(in crate::node) fn know_applications(&self, step: &mut Step<'_>) {
        let providers = self.applications.providers.values();
        let peers: BTreeSet<IpAddr> = providers.map(|provider| network(provider.peer.ip())).collect();
        step.out.extend(peers.into_iter().map(Output::Met));
    }

    fn report_opened(&mut self, step: &mut Step<'_>, id: SessionId, open: &ProviderOpen) {
        step.out.extend(self.applications.providers.get(&id).map(|provider| Output::Met(provider.peer.ip())));
        let mut parameters = self.who(id);
        parameters.push(("application", open.application.as_str().to_owned()));
        let report = step.alarms.occur(&alarms::PROVIDER_OPENED, parameters);
        step.out.push(Output::Report(report));
        let peer = self.applications.providers.get(&id).map(|provider| provider.peer);
        let enabled = security::Rule::Group(security::StandardGroup::CtiEnabled);
        audit_open(step, open, peer, Outcome::Allowed(enabled.to_string()));
    }

    fn refuse_open(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        open: &ProviderOpen,
        error: CtiError,
    ) {
        let Some(link) = self.applications.links.get_mut(&connection) else { return };
        let mut parameters = vec![
            ("user", open.user.as_str().to_owned()),
            ("address", link.peer.to_string()),
            ("reason", error.symbol.name().to_owned()),
        ];
        if let Some(frame) = link.connection.refused(&error) {
            step.out.push(Output::Cti(connection, frame));
        }
        let peer = link.peer;
        if error.symbol == Symbol::RateLimited {
            // Whoever guesses at full speed must not fill the log.
            let Some(untold) = self.applications.limited.tell(step.now) else { return };
            parameters.push(("untold", untold.to_string()));
        }
        let report = step.alarms.occur(&alarms::PROVIDER_OPEN_FAILURE, parameters);
        step.out.push(Output::Report(report));
        let outcome =
            Outcome::Refused { symbol: error.symbol.name(), rule: rule_of(error.symbol).to_owned() };
        audit_open(step, open, Some(peer), outcome);
    }
}

fn audit_open(step: &mut Step<'_>, open: &ProviderOpen, peer: Option<SocketAddr>, outcome: Outcome) {
    step.out.push(Output::Audit(AuditRecord {
        at: step.wall,
        user: open.user.as_str().into(),
        peer,
        action: "provider.open",
        device: None,
        stream: None,
        outcome,
    }));
}

/// What refused an opening, in the words of the configuration.
fn rule_of(symbol: Symbol) -> &'static str {
    if symbol == Symbol::LoginFailed {
        "credentials"
    } else if symbol == Symbol::RateLimited {
        "max_login_failures_per_minute"
    } else if symbol == Symbol::SecureConnectionRequired {
        "transport"
    } else if symbol == Symbol::UserNotCtiEnabled {
        "group Standard CTI Enabled"
    } else if symbol == Symbol::MaxConnections {
        "max_cti_connections, max_cti_connections_per_user"
    } else {
        "params"
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(in crate::node) fn privileges(of: security::Privileges) -> wire::Privileges {
    let security::Privileges {
        control_all_devices,
        park_monitoring,
        calling_number_modification,
        srtp_keys,
        secure_connection,
    } = of;
    wire::Privileges {
        control_all_devices,
        park_monitoring,
        calling_number_modification,
        srtp_keys,
        secure_connection,
    }
}

/// A refusal by permission as it stands on the wire, with the group or list that would lift it.
pub(in crate::node) fn permission_error(refusal: &security::Refusal) -> CtiError {
    let symbol = Symbol::from_name(refusal.kind.symbol()).unwrap_or(Symbol::PrivilegeViolation);
    let message: Arc<str> = refusal.message.as_str().into();
    // What no permission would mend names none; a user's own glob tells him nothing about what exists.
    let needs = match (&refusal.rule, refusal.kind == RefusalKind::NoSuchDevice) {
        (Rule::DeviceExists, true) => return CtiError::new(symbol, message.to_string()),
        (Rule::DeviceExists, false) => Rule::ControlledDevices(None).to_string(),
        (rule, _) => rule.to_string(),
    };
    CtiError::not_permitted(symbol, message.to_string(), needs)
}
