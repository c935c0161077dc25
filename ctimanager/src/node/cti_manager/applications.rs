//! Applications at the node: their connections, their sessions, and the way of a frame through both.

use super::CtiManager;
use super::asking::Asking;
use super::credentials::Credential;
use super::owners::Owners;
use super::pending_connections::Unopened;
use super::reload::consequences::{Consequences, Parameters};
use super::session_records::{reason, trigger};
use crate::node::Step;
use crate::node::alarms;
use crate::node::port::{CtiConnection, CtiTransport, Output};
use crate::node::seldom::Seldom;
use device_model::transitions::{SessionChange, Trigger};
use device_model::{DeviceName, Identity, RequestToken, SessionId};
use protocol::event::CloseReason;
use protocol::methods::{Method, ProviderOpen};
use protocol::planned::PLANNED;
use protocol::rpc;
use protocol::session::{Begin, Connection, Fate, Session, SessionTimeout, Sessions};
use protocol::{CtiError, Encoded, Event, Symbol};
use security::limits::TooMany;
use security::shares::Who;
use security::shares::{Rate, Shares};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Sessions, or connections without one, whose time is over in one step.
pub(in crate::node) const TIMERS_AT_ONCE: usize = 64;
/// What is to be done of their ends before others have their turn.
pub(in crate::node) const OUTPUTS_AT_ONCE: usize = 256;

/// One connection of an application.
pub(in crate::node) struct Link {
    pub(in crate::node) connection: Connection,
    pub(in crate::node) peer: SocketAddr,
    pub(in crate::node) transport: CtiTransport,
    /// What it wants to open while its password is being checked.
    pub(in crate::node) opening: Option<Box<ProviderOpen>>,
    /// The hash that this password is compared with.
    pub(in crate::node) compared: Option<Arc<str>>,
    /// Since when it has not read what was written to it.
    pub(in crate::node) behind: Option<Instant>,
}

impl Link {
    /// How the permission decision sees the connection.
    pub(in crate::node) fn security(&self) -> security::Transport {
        match self.transport {
            CtiTransport::Tls { .. } => security::Transport::Tls,
            CtiTransport::Plain => security::Transport::Plain,
        }
    }
}

/// Who has a password verified.
pub(in crate::node) struct Verifying {
    pub(in crate::node) address: Who,
    /// None where he was let in before: that is no stranger's to use up.
    pub(in crate::node) user: Option<Who>,
}

/// What the node knows of an open provider beside its protocol machine.
pub(in crate::node) struct Provider {
    pub(in crate::node) user: Arc<str>,
    pub(in crate::node) peer: SocketAddr,
    pub(in crate::node) transport: security::Transport,
    pub(in crate::node) credential: Credential,
}

impl Provider {
    /// Whose shares its requests take.
    fn rates(&self, id: SessionId) -> [(Rate, Who); 3] {
        [
            (Rate::RequestsOfSession, Who::Session(id)),
            (Rate::RequestsOfUser, Who::User(Arc::clone(&self.user))),
            (Rate::RequestsOfAddress, Who::address(self.peer.ip())),
        ]
    }
}

/// All applications.
pub(in crate::node) struct Applications {
    pub(in crate::node) links: HashMap<CtiConnection, Link>,
    pub(in crate::node) sessions: Sessions,
    pub(in crate::node) providers: HashMap<SessionId, Provider>,
    /// Whose shares the passwords hold that are being verified.
    pub(in crate::node) verifying: HashMap<CtiConnection, Verifying>,
    /// Refusals for want of rate: so many that not each is told.
    pub(in crate::node) limited: Seldom,
    /// Connections without a provider.
    pub(in crate::node) unopened: Unopened,
    /// Sessions with frames to write at the end of this step.
    touched: Vec<SessionId>,
    /// What sessions are to be told before anything else, in their turns.
    pub(in crate::node) first: BTreeMap<SessionId, Vec<Encoded>>,
    pub(in crate::node) asking: Asking,
    /// What follows from reloads and is still to come.
    pub(in crate::node) consequences: Consequences,
    /// Events told so far, each to one session.
    pub(in crate::node) told: u64,
    pub(in crate::node) owners: Owners,
}

impl Applications {
    pub(in crate::node) fn new(identity: &Identity) -> Self {
        Self {
            links: HashMap::new(),
            sessions: Sessions::numbered_from(identity.first_token()),
            providers: HashMap::new(),
            verifying: HashMap::new(),
            limited: Seldom::default(),
            unopened: Unopened::default(),
            touched: Vec::new(),
            first: BTreeMap::new(),
            asking: Asking::new(identity),
            consequences: Consequences::default(),
            told: 0,
            owners: Owners::default(),
        }
    }

    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        [self.unopened.next_timeout(), self.sessions.next_timeout(), self.asking.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(in crate::node) fn touch(&mut self, session: SessionId) {
        if self.touched.last() != Some(&session) {
            self.touched.push(session);
        }
    }

    /// All open providers, in order.
    pub(in crate::node) fn everybody(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.providers.keys().copied().collect();
        sessions.sort_unstable();
        sessions
    }

    /// Takes one request of a provider: of his session, of his user, of his address.
    fn take_request(&self, shares: &mut Shares, now: Instant, id: SessionId) -> Result<(), TooMany> {
        let Some(provider) = self.providers.get(&id) else { return Ok(()) };
        provider.rates(id).into_iter().try_for_each(|(rate, who)| shares.take(now, rate, &who, 1))
    }

    /// What a request cost beyond the one that was taken for it: whoever asks for much waits longer until he may ask again.
    pub(in crate::node) fn charge(&self, shares: &mut Shares, now: Instant, id: SessionId, price: u32) {
        let Some(provider) = self.providers.get(&id).filter(|_| price > 0) else { return };
        provider.rates(id).iter().for_each(|(rate, who)| shares.charge(now, *rate, who, price.into()));
    }
}

impl CtiManager {
    pub(in crate::node) fn application_connected(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        peer: SocketAddr,
        transport: CtiTransport,
    ) {
        let until = step.now + Connection::OPEN_TIMEOUT;
        if !self.take_unopened(step, connection, peer.ip(), until) {
            return step.out.push(Output::CtiClose(connection));
        }
        let machine = Connection::new(step.now);
        self.applications.links.insert(
            connection,
            Link { connection: machine, peer, transport, opening: None, compared: None, behind: None },
        );
        if step.stops {
            self.close_connection(step, connection, CloseReason::Stopping);
        }
    }

    pub(in crate::node) fn application_frame(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        bytes: &[u8],
    ) {
        if step.stops {
            // Its connection closes in a moment, and nothing begins any more.
            return;
        }
        if let Some(id) = self.applications.links.get(&connection).and_then(|l| l.connection.session()) {
            if self.close_dismissed(step, id) {
                return;
            }
            self.close_if_old(step, id);
            self.tell_what_is_first(id);
        }
        let Some(link) = self.applications.links.get_mut(&connection) else { return };
        let (rate, address) = (Rate::RequestsOfAddress, Who::address(link.peer.ip()));
        if link.connection.session().is_none()
            && let Err(wait) = step.shares.take(step.now, rate, &address, 1)
        {
            return step.out.push(Output::Cti(connection, too_many(bytes, wait)));
        }
        match link.connection.frame(bytes) {
            protocol::session::Step::Ignored => {}
            protocol::session::Step::Answer(frame) => step.out.push(Output::Cti(connection, frame)),
            protocol::session::Step::Open(open) => self.open_provider(step, connection, open),
            protocol::session::Step::SessionAnswer(session, mut frame) => {
                if let Err(wait) = self.applications.take_request(step.shares, step.now, session) {
                    frame = too_many(bytes, wait);
                }
                if let Some(mut session) = self.applications.sessions.get_mut(session) {
                    session.push(step.now, frame);
                }
                self.applications.touch(session);
            }
            protocol::session::Step::Request(session, request) => {
                self.session_request(step, session, request);
            }
        }
    }

    fn session_request(&mut self, step: &mut Step<'_>, id: SessionId, request: rpc::Request) {
        let limited = self.applications.take_request(step.shares, step.now, id).err();
        let Some(mut session) = self.applications.sessions.get_mut(id) else { return };
        let begun = match (limited, &request.id) {
            (Some(wait), Some(request_id)) => {
                session.refuse(step.now, request_id, CtiError::rate_limited(wait.retry_after_ms()));
                Begin::Refused(Symbol::RateLimited)
            }
            (_, _) => session.begin(step.now, request),
        };
        drop(session);
        self.applications.touch(id);
        match begun {
            Begin::Execute { token, method } => self.execute(step, id, token, *method),
            Begin::Replayed | Begin::Joined | Begin::Refused(_) | Begin::Heartbeat | Begin::Ignored => {}
        }
    }

    /// The one answer to a request.
    pub(in crate::node) fn reply(
        &mut self,
        id: SessionId,
        token: RequestToken,
        answer: Result<Box<RawValue>, CtiError>,
    ) {
        if let Some(mut session) = self.applications.sessions.get_mut(id) {
            session.reply(token, answer);
        }
        self.applications.touch(id);
    }

    /// Tells sessions an event. They were chosen by what the decision lets them hear; see `visibility`.
    pub(in crate::node) fn tell_event(&mut self, step: &Step<'_>, sessions: &[SessionId], event: Event) {
        self.bear_witness(sessions, &event);
        self.note_change(sessions, &event);
        let event = event.encode(&self.settings.node, step.wall);
        self.tell(sessions, &event);
    }

    /// Serialised once, however many hear it.
    pub(in crate::node) fn tell(&mut self, sessions: &[SessionId], event: &Encoded) {
        self.applications.told += sessions.len() as u64;
        for id in sessions {
            self.tell_what_is_first(*id);
            if let Some(mut session) = self.applications.sessions.get_mut(*id) {
                session.event(event);
            }
            self.applications.touch(*id);
        }
    }

    /// What was to be told to a session before anything else.
    pub(in crate::node) fn tell_what_is_first(&mut self, id: SessionId) {
        let Some(events) = self.applications.first.remove(&id) else { return };
        self.applications.told += events.len() as u64;
        if let Some(mut session) = self.applications.sessions.get_mut(id) {
            for event in &events {
                session.event(event);
            }
        }
        self.applications.touch(id);
    }

    /// Writes what the sessions of this step have queued. A reader that is too slow is told and loses its connection,
    /// not its session (protocol §2).
    pub(in crate::node) fn flush(&mut self, step: &mut Step<'_>) {
        while let Some(id) = self.applications.touched.pop() {
            self.keeping.session(id);
            match self.is_replaying(id) {
                true => self.replay(step, id),
                false => self.flush_session(step, id),
            }
        }
    }

    /// Writes so many of a session's frames; whether there are more.
    pub(in crate::node) fn flush_some(&mut self, step: &mut Step<'_>, id: SessionId, frames: usize) -> bool {
        let Some(mut session) = self.applications.sessions.get_mut(id) else { return false };
        let Some(connection) = session.connection() else { return false };
        for _ in 0..frames {
            let Some(frame) = session.poll_frame(step.now) else { break };
            let provider = self.applications.providers.get(&id);
            let frame = Self::with_key(frame, provider, &self.settings.policy, id, step);
            step.out.push(Output::Cti(connection, frame));
        }
        let (more, slow) = (session.has_frames(), session.is_slow());
        drop(session);
        if slow {
            self.application_overflow(step, connection);
        }
        more && !slow
    }

    /// The same of all of them.
    pub(in crate::node) fn flush_session(&mut self, step: &mut Step<'_>, id: SessionId) {
        self.flush_some(step, id, usize::MAX);
    }

    pub(in crate::node) fn application_behind(
        &mut self,
        step: &Step<'_>,
        connection: CtiConnection,
        behind: bool,
    ) {
        let Some(link) = self.applications.links.get_mut(&connection) else { return };
        link.behind = behind.then_some(step.now);
        if let Some(id) = link.connection.session().filter(|_| !behind) {
            // A replay may have waited for him.
            self.applications.touch(id);
        }
    }

    pub(in crate::node) fn application_overflow(&mut self, step: &mut Step<'_>, connection: CtiConnection) {
        self.offend(step, connection, &alarms::SLOW_CONSUMER, CloseReason::SlowConsumer);
    }

    pub(in crate::node) fn application_line_too_long(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
    ) {
        self.offend(step, connection, &alarms::MESSAGE_TOO_LONG, CloseReason::LineTooLong);
    }

    /// A connection is lost by what the application itself did.
    fn offend(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        alarm: &'static alarms::Definition,
        reason: CloseReason,
    ) {
        let Some(link) = self.applications.links.get(&connection) else { return };
        if self.dismissals.has(link.connection.session()) {
            return self.lose_connection(step, connection, reason);
        }
        let parameters = match link.connection.session() {
            Some(session) => self.who(session),
            None => vec![("address", link.peer.to_string())],
        };
        let report = step.alarms.occur(alarm, parameters);
        step.out.push(Output::Report(report));
        self.lose_connection(step, connection, reason);
    }

    /// Tells a connection why it is closed, closes it, and lets its session wait or fail.
    pub(in crate::node) fn lose_connection(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        reason: CloseReason,
    ) {
        let session = self.applications.links.get(&connection).and_then(|l| l.connection.session());
        if session.is_some_and(|id| self.close_dismissed(step, id)) {
            return;
        }
        self.close_connection(step, connection, reason);
        if let Some(session) = session {
            self.detach(step, session, connection, trigger(reason));
        }
    }

    pub(in crate::node) fn close_connection(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        reason: CloseReason,
    ) {
        let Some(mut link) = self.forget_link(step, connection) else { return };
        if let Some(frame) = link.connection.close(reason, step.wall) {
            step.out.push(Output::Cti(connection, frame));
        }
        step.out.push(Output::CtiClose(connection));
    }

    /// Whatever ends a connection ends it here.
    pub(in crate::node) fn forget_link(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
    ) -> Option<Link> {
        self.leave_unopened(step, connection);
        self.applications.links.remove(&connection)
    }

    /// The connection is gone without a word.
    pub(in crate::node) fn application_gone(&mut self, step: &mut Step<'_>, connection: CtiConnection) {
        let Some(link) = self.forget_link(step, connection) else { return };
        if let Some(session) = link.connection.session().filter(|id| !self.close_dismissed(step, *id)) {
            let report = step.alarms.occur(&alarms::CONNECTION_DROPPED, self.who(session));
            step.out.push(Output::Report(report));
            self.detach(step, session, connection, Trigger::ConnectionLost);
        }
    }

    fn detach(&mut self, step: &mut Step<'_>, id: SessionId, connection: CtiConnection, why: Trigger) {
        let fate = self.applications.sessions.get_mut(id).and_then(|mut s| s.detach(step.now, connection));
        if let Some(fate) = fate {
            step.record_loss(id, fate, why);
            self.portions.forget_replay(id);
        }
        match fate {
            Some(Fate::Failed) => self.end_session(step, id, why),
            // The timer of the grace is the session's own.
            Some(Fate::HeldUntil(_)) => self.keeping.session(id),
            None => {}
        }
    }

    /// A session is over, closed or failed: what it held is let go (protocol §2, "Failure").
    pub(in crate::node) fn end_session(&mut self, step: &mut Step<'_>, id: SessionId, why: Trigger) {
        let Some(parameters) = self.forget_session(step, id, why) else { return };
        self.weigh_connections(step);
        self.let_go_of_all(step, id, parameters);
    }

    /// The session's part of that; what it held is for the caller to let go. Returns the parameters of what is to be
    /// reported, `None` when it had ended before.
    pub(in crate::node) fn forget_session(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        why: Trigger,
    ) -> Option<Parameters> {
        let (session, mut parameters) = self.take_session(step, id, why)?;
        parameters.push(("reason", reason(why).to_owned()));
        self.weigh_user(step, &session.config().user);
        self.forget_certificate(step, id);
        self.forget_password(step, id);
        Some(parameters)
    }

    /// A session is one no longer: nothing is granted to it, and it hears nothing more. What it was, and whose.
    pub(in crate::node) fn take_session(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        why: Trigger,
    ) -> Option<(Session, Parameters)> {
        let session = self.applications.sessions.end(step.now, id)?;
        step.record_session(id, SessionChange::Closed, why);
        let who = self.who(id);
        self.keep_end(step, &session);
        self.applications.providers.remove(&id);
        self.applications.first.remove(&id);
        self.forget_pages(id);
        self.portions.forget_replay(id);
        self.forget_requests(id);
        self.applications.asking.forget(id);
        Some((session, who))
    }

    /// Whose session it is and from where he came last, as alarms name it.
    pub(in crate::node) fn who(&self, id: SessionId) -> Parameters {
        let mut parameters = vec![("session", id.to_string())];
        if let Some(provider) = self.applications.providers.get(&id) {
            parameters.push(("user", provider.user.to_string()));
            parameters.push(("address", provider.peer.to_string()));
        }
        parameters
    }

    /// A device of a provider that is closed.
    pub(in crate::node) fn report_closed(
        &mut self,
        step: &mut Step<'_>,
        of: &Parameters,
        device: &DeviceName,
    ) {
        let device = [("device", device.to_string())];
        let report = step.alarms.occur(&alarms::DEVICE_CLOSED, of.iter().cloned().chain(device).collect());
        step.out.push(Output::Report(report));
    }

    pub(in crate::node) fn application_timeouts(&mut self, step: &mut Step<'_>) {
        // The next ones are due at once; others have their turn in between.
        for _ in 0..TIMERS_AT_ONCE {
            let Some(connection) = self.applications.unopened.overdue(step.now) else { break };
            let link = self.forget_link(step, connection);
            let frame = link.and_then(|mut link| link.connection.timeout(step.now, step.wall));
            step.out.extend(frame.map(|frame| Output::Cti(connection, frame)));
            step.out.push(Output::CtiClose(connection));
        }
        let begin = step.said_so_far();
        for _ in 0..TIMERS_AT_ONCE {
            if step.said_so_far() - begin >= OUTPUTS_AT_ONCE {
                break;
            }
            let Some((id, what)) = self.applications.sessions.timeout(step.now, step.wall) else { break };
            match what {
                SessionTimeout::Heartbeat => self.applications.touch(id),
                SessionTimeout::GraceOver => self.end_session(step, id, Trigger::GraceOver),
                SessionTimeout::Silent { connection, fate } => {
                    self.silent(step, id, connection, fate);
                }
            }
        }
    }

    fn silent(&mut self, step: &mut Step<'_>, id: SessionId, connection: CtiConnection, fate: Fate) {
        step.record_loss(id, fate, Trigger::HeartbeatTimeout);
        let report = step.alarms.occur(&alarms::PROVIDER_HEARTBEAT_TIMEOUT, self.who(id));
        step.out.push(Output::Report(report));
        self.close_connection(step, connection, CloseReason::HeartbeatTimeout);
        match fate {
            Fate::Failed => self.end_session(step, id, Trigger::HeartbeatTimeout),
            Fate::HeldUntil(_) => self.keeping.session(id),
        }
    }

    /// `provider.close`: the answer, then the end of everything that the session held, then of its connection.
    pub(in crate::node) fn close_provider(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
    ) {
        self.reply(id, token, Ok(rpc::raw(&protocol::methods::Empty {})));
        self.flush_session(step, id);
        let connection = self.applications.sessions.get(id).and_then(|s| s.connection());
        self.end_session(step, id, Trigger::ProviderClose);
        if let Some(connection) = connection {
            self.forget_link(step, connection);
            step.out.push(Output::CtiClose(connection));
        }
    }

    /// Reports and answers what the node itself refuses.
    pub(in crate::node) fn refuse(&mut self, id: SessionId, token: RequestToken, error: CtiError) {
        self.reply(id, token, Err(error));
    }
}

/// The answer to what came too fast; its id, where it has one that can be read.
fn too_many(bytes: &[u8], wait: TooMany) -> protocol::Frame {
    let id = rpc::parse_request(bytes).ok().and_then(|request| request.id);
    rpc::error_frame(id.as_ref(), &CtiError::rate_limited(wait.retry_after_ms()))
}

/// What can't be answered yet, said as it is.
pub(in crate::node) fn unsupported(method: &Method) -> CtiError {
    CtiError::new(
        Symbol::OperationNotSupported,
        format!("`{}` is not supported by this version of the node: it is {PLANNED}", method.name()),
    )
}
