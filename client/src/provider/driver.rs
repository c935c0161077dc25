//! The owner task of a provider: it alone writes to the connection, matches answers to requests and numbers to events,
//! keeps the heartbeat, and brings a lost connection back.

use super::error::{ConnectError, Error};
use super::link::{Dialer, Inbound, Link, NotWritten};
use super::observer::{LostReason, ProviderEvent, ProviderState};
use super::registry::{LegRef, Registry};
use super::{ProviderConfig, Reconnect};
use device_model::media::MediaTermination;
use device_model::{DeviceName, Dn, SessionId};
use protocol::event::{CloseReason, ConnectionEvent, Received};
use protocol::methods::{
    self, Call, DeviceOpen, DeviceOpened, NewCall, ProviderHeartbeat, ProviderOpen, ProviderOpened, Resume,
};
use protocol::rpc::{self, Id};
use protocol::{CtiError, Frame};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for their answers; more are refused as [`Error::Overloaded`].
pub(super) const MAX_PENDING: usize = 4_096;

/// Servers of the cluster's list that are remembered.
const MAX_SERVERS: usize = 64;

/// Devices that are opened again at once; the next ones follow as answers come.
const MAX_REOPENING: usize = 64;

/// How long the last words may take to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// The shortest heartbeat that a server may decide, so that a hostile one can't make us spin.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);

/// The longest one that is believed.
const MAX_HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// A request of a handle, written already.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) id: u64,
    pub(super) frame: Frame,
    pub(super) adopt: Adopt,
    pub(super) reply: Option<oneshot::Sender<Result<Answer, Error>>>,
}

/// What the driver itself does with a good answer, before it looks at the events behind it.
#[derive(Clone, Debug)]
pub(super) enum Adopt {
    Nothing,
    Opened { device: DeviceName, media: Option<MediaTermination> },
    Closed(DeviceName),
    NewCall { device: DeviceName, dn: Option<Dn> },
    ProviderClosed,
}

/// A good answer, and the legs that it told of.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) result: Box<RawValue>,
    pub(super) legs: Vec<LegRef>,
}

/// How serving a connection ended.
enum Served {
    Finished,
    Lost(LostReason),
}

pub(super) struct Driver {
    config: Arc<ProviderConfig>,
    dialer: Dialer,
    registry: Arc<Registry>,
    commands: mpsc::Receiver<Command>,
    ids: Arc<AtomicU64>,
    pending: BTreeMap<u64, Command>,
    session: SessionId,
    last_seq: u64,
    heartbeat: Duration,
    servers: Vec<String>,
    /// Devices of a lost session that are to be opened again, and how many of them are on their way.
    to_reopen: VecDeque<(DeviceName, Option<MediaTermination>)>,
    reopening: usize,
}

/// Opens a session at the first configured server that answers.
pub(super) async fn open_first(
    config: &ProviderConfig,
    dialer: &Dialer,
) -> Result<(Link, ProviderOpened), ConnectError> {
    let mut failure = ConnectError::NoServer;
    for server in &config.servers {
        match open(config, dialer, server, None).await {
            Ok(opened) => return Ok(opened),
            // A refusal is the cluster's word; the others would say the same.
            Err(refused @ ConnectError::Refused(_)) => return Err(refused),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn open(
    config: &ProviderConfig,
    dialer: &Dialer,
    server: &str,
    resume: Option<Resume>,
) -> Result<(Link, ProviderOpened), ConnectError> {
    let mut link = Link::connect(server, dialer, config.connect_timeout).await?;
    let no_answer = |what: &str| ConnectError::NoAnswer { server: server.to_owned(), what: what.to_owned() };
    let request = ProviderOpen {
        user: config.user.as_str().into(),
        password: config.password.clone(),
        application: config.application.as_str().into(),
        instance: config.instance.as_deref().map(Into::into),
        heartbeat_ms: config.heartbeat.map(|h| h.as_millis() as u64),
        subscribe: config.subscribe.as_ref().map(|globs| globs.iter().map(|g| g.as_str().into()).collect()),
        resume_grace_ms: config.resume_grace.map(|g| g.as_millis() as u64),
        resume,
    };
    let frame = rpc::request_frame(&Id::number(0), ProviderOpen::METHOD, &methods::params(&request, None));
    link.send(frame).map_err(|_| no_answer("the connection ended at once"))?;
    let answer = tokio::time::timeout(config.request_timeout, link.receive()).await;
    match answer.map_err(|_| no_answer("no answer to provider.open"))? {
        Inbound::Reply { outcome: Ok(result), .. } => {
            let opened = serde_json::from_str(result.get()).map_err(|e| no_answer(&e.to_string()))?;
            Ok((link, opened))
        }
        Inbound::Reply { outcome: Err(error), .. } => Err(ConnectError::Refused(error)),
        Inbound::Event(_) | Inbound::Unreadable(_) => Err(no_answer("something else than an answer came")),
        Inbound::End(reason) => Err(no_answer(&format!("the connection ended: {reason:?}"))),
    }
}

impl Driver {
    pub(super) fn new(
        config: Arc<ProviderConfig>,
        dialer: Dialer,
        registry: Arc<Registry>,
        commands: mpsc::Receiver<Command>,
        ids: Arc<AtomicU64>,
        opened: ProviderOpened,
    ) -> Self {
        let mut driver = Self {
            servers: config.servers.clone(),
            config,
            dialer,
            registry,
            commands,
            ids,
            pending: BTreeMap::new(),
            session: opened.session,
            last_seq: 0,
            heartbeat: MIN_HEARTBEAT,
            to_reopen: VecDeque::new(),
            reopening: 0,
        };
        driver.opened(opened);
        driver
    }

    /// Runs until the application closes the provider, drops its last handle, or the connection is lost for good.
    pub(super) async fn run(mut self, mut link: Link) {
        loop {
            match self.serve(&mut link).await {
                Served::Finished => {
                    link.finish(FAREWELL).await;
                    break self.fail_pending(&Error::ShutDown);
                }
                Served::Lost(reason) => {
                    drop(link);
                    tracing::info!(?reason, "connection to the CTIManager lost");
                    self.registry.set_state(ProviderState::OutOfService);
                    let reconnect = self.config.reconnect.filter(|_| may_come_back(&reason));
                    self.registry.tell(ProviderEvent::ConnectionLost(reason));
                    match reconnect {
                        None => break self.fail_pending(&Error::ConnectionLost),
                        Some(reconnect) => match self.come_back(reconnect).await {
                            Some(new) => link = new,
                            None => break self.fail_pending(&Error::ConnectionLost),
                        },
                    }
                }
            }
        }
        self.registry.shut_down();
    }

    async fn serve(&mut self, link: &mut Link) -> Served {
        let mut next_heartbeat = Instant::now() + self.heartbeat_pace();
        let mut silent_at = Instant::now() + 2 * self.heartbeat;
        loop {
            tokio::select! {
                inbound = link.receive() => {
                    silent_at = Instant::now() + 2 * self.heartbeat;
                    if let Some(end) = self.inbound(inbound) {
                        return end;
                    }
                    self.reopen(link);
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.request(link, command),
                    None => {
                        // No handle is left: the application leaves in order.
                        let close = methods::params(&methods::ProviderClose {}, None);
                        let id = Id::number(self.next_id());
                        let _ = link.send(rpc::request_frame(&id, methods::ProviderClose::METHOD, &close));
                        return Served::Finished;
                    }
                },
                () = tokio::time::sleep_until(next_heartbeat.min(silent_at).into()) => {
                    let now = Instant::now();
                    if now >= silent_at {
                        return Served::Lost(LostReason::Silence);
                    }
                    self.send_heartbeat(link);
                    next_heartbeat = now + self.heartbeat_pace();
                }
            }
        }
    }

    /// A little faster than agreed: two lost intervals end the session, and nobody's clock is exact.
    fn heartbeat_pace(&self) -> Duration {
        self.heartbeat * 3 / 4
    }

    fn send_heartbeat(&mut self, link: &Link) {
        self.pending.retain(|_, waiting| waiting.reply.as_ref().is_none_or(|reply| !reply.is_closed()));
        let params = methods::params(&ProviderHeartbeat { last_seq: Some(self.last_seq) }, None);
        let id = Id::number(self.next_id());
        if link.send(rpc::request_frame(&id, ProviderHeartbeat::METHOD, &params)).is_err() {
            tracing::warn!("the CTIManager reads too slowly: no room for a heartbeat");
        }
    }

    fn request(&mut self, link: &Link, command: Command) {
        if self.pending.len() >= MAX_PENDING {
            return answer(command, Err(Error::Overloaded));
        }
        match link.send(command.frame.clone()) {
            Ok(()) => drop(self.pending.insert(command.id, command)),
            Err(NotWritten::Full) => answer(command, Err(Error::Overloaded)),
            Err(NotWritten::Broken) => answer(command, Err(Error::NotConnected)),
        }
    }

    fn inbound(&mut self, inbound: Inbound) -> Option<Served> {
        match inbound {
            Inbound::Reply { id, outcome } => return self.reply(id, outcome),
            Inbound::Event(Received::Event { seq, time, node, event }) => {
                if self.is_new(seq) {
                    let event = Arc::new(*event);
                    self.registry.apply(&event);
                    self.registry.tell(ProviderEvent::Told { seq, time, node, event });
                }
            }
            Inbound::Event(Received::Unknown { seq, event_type }) => {
                if self.is_new(seq) {
                    self.registry.tell(ProviderEvent::Unreadable { seq: Some(seq), what: event_type });
                }
            }
            Inbound::Event(Received::Connection(event)) => match event {
                ConnectionEvent::Heartbeat => {}
                ConnectionEvent::Superseded => return Some(Served::Lost(LostReason::Superseded)),
                ConnectionEvent::Closed(reason) => return Some(Served::Lost(LostReason::Closed(reason))),
            },
            Inbound::Event(Received::UnknownConnection(what)) | Inbound::Unreadable(what) => {
                tracing::warn!(what, "an event that can't be read");
                self.registry.tell(ProviderEvent::Unreadable { seq: None, what });
            }
            Inbound::End(reason) => return Some(Served::Lost(reason)),
        }
        None
    }

    /// Whether the event has not been told yet. A gap is announced.
    fn is_new(&mut self, seq: u64) -> bool {
        let expected = self.last_seq + 1;
        if seq < expected {
            return false;
        }
        if seq > expected {
            self.registry.tell(ProviderEvent::Gap { expected, got: seq });
        }
        self.last_seq = seq.min(u64::MAX - 1);
        true
    }

    fn reply(&mut self, id: Option<Id>, outcome: Result<Box<RawValue>, CtiError>) -> Option<Served> {
        let Some(command) = id.as_ref().and_then(Id::as_number).and_then(|id| self.pending.remove(&id))
        else {
            if let Err(error) = outcome {
                tracing::debug!(%error, "an error that answers no request that waits");
            }
            return None;
        };
        let finished = matches!((&command.adopt, &outcome), (Adopt::ProviderClosed, Ok(_)));
        let outcome = match outcome {
            Ok(result) => self.adopt(&command.adopt, result),
            Err(error) => Err(Error::Refused(error)),
        };
        if let (None, Adopt::Opened { device, .. }) = (&command.reply, &command.adopt) {
            self.reopened(device, outcome.as_ref().err());
        }
        answer(command, outcome);
        finished.then_some(Served::Finished)
    }

    fn reopened(&mut self, device: &DeviceName, error: Option<&Error>) {
        self.reopening = self.reopening.saturating_sub(1);
        if let Some(error) = error {
            self.registry.closed(device);
            let event = ProviderEvent::NotReopened { device: device.clone(), error: error.clone() };
            self.registry.tell(event);
        }
    }

    fn reopen(&mut self, link: &Link) {
        while self.reopening < MAX_REOPENING && self.pending.len() < MAX_PENDING {
            let Some((device, media)) = self.to_reopen.pop_front() else { return };
            let (id, key) = self.next_id_and_key();
            let open = DeviceOpen { device: device.clone(), media: media.clone() };
            let params = methods::params(&open, Some(&key));
            let frame = rpc::request_frame(&Id::number(id), DeviceOpen::METHOD, &params);
            if link.send(frame.clone()).is_err() {
                return self.to_reopen.push_front((device, media));
            }
            self.reopening += 1;
            self.pending
                .insert(id, Command { id, frame, adopt: Adopt::Opened { device, media }, reply: None });
        }
    }

    fn adopt(&self, adopt: &Adopt, result: Box<RawValue>) -> Result<Answer, Error> {
        let bad = |e: serde_json::Error| Error::BadAnswer(e.to_string());
        let legs = match adopt {
            Adopt::Nothing | Adopt::ProviderClosed => Vec::new(),
            Adopt::Opened { media, .. } => {
                let opened: DeviceOpened = serde_json::from_str(result.get()).map_err(bad)?;
                self.registry.opened(opened, media.clone())
            }
            Adopt::Closed(device) => {
                self.registry.closed(device);
                Vec::new()
            }
            Adopt::NewCall { device, dn } => {
                let new: NewCall = serde_json::from_str(result.get()).map_err(bad)?;
                self.registry.created(new, device, dn.as_ref()).into_iter().collect()
            }
        };
        Ok(Answer { result, legs })
    }

    /// Connects again, and again, until it is time to give up. Requests that come meanwhile are refused; those that wait
    /// for an answer go on waiting, for the session may go on.
    async fn come_back(&mut self, reconnect: Reconnect) -> Option<Link> {
        let lost = Instant::now();
        let mut pause = reconnect.first_pause;
        loop {
            let resume = Resume { session: Some(self.session), last_seq: self.last_seq };
            let attempt = open_any(&self.config, &self.dialer, &self.servers, resume);
            let error = match refusing(&mut self.commands, attempt).await? {
                Ok((link, opened)) => {
                    self.came_back(&link, opened);
                    return Some(link);
                }
                Err(error) => error,
            };
            let wait = spread(pause).max(error.retry_after().unwrap_or_default());
            if !error.is_retryable() || lost.elapsed().saturating_add(wait) >= reconnect.give_up_after {
                tracing::warn!(%error, "the connection is lost for good");
                return None;
            }
            tracing::debug!(%error, "not yet connected again");
            refusing(&mut self.commands, tokio::time::sleep(wait)).await?;
            pause = (pause * 2).min(reconnect.longest_pause);
        }
    }

    fn came_back(&mut self, link: &Link, opened: ProviderOpened) {
        if opened.resumed {
            self.opened(opened);
            self.registry.tell(ProviderEvent::Resumed);
            // With their `idem` they are carried out once, whether the first copy arrived or not.
            let waiting = self.pending.values().map(|command| link.send(command.frame.clone()));
            if waiting.filter(Result::is_err).count() > 0 {
                tracing::warn!("more requests wait than can be repeated; some will time out");
            }
            return;
        }
        let reason = opened.reason;
        self.last_seq = opened.next_seq.saturating_sub(1);
        self.fail_pending(&Error::ConnectionLost);
        let devices = self.registry.session_lost();
        self.opened(opened);
        self.registry.tell(ProviderEvent::Restarted(reason));
        (self.to_reopen, self.reopening) = (devices.into(), 0);
        self.reopen(link);
    }

    fn opened(&mut self, opened: ProviderOpened) {
        self.session = opened.session;
        self.heartbeat = Duration::from_millis(opened.heartbeat_ms).clamp(MIN_HEARTBEAT, MAX_HEARTBEAT);
        self.servers = where_to_reconnect(&self.config, &self.dialer, &opened);
        self.registry.set_session(opened);
        self.registry.set_state(ProviderState::InService);
    }

    fn fail_pending(&mut self, error: &Error) {
        for (_, command) in std::mem::take(&mut self.pending) {
            answer(command, Err(error.clone()));
        }
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn next_id_and_key(&self) -> (u64, String) {
        let id = self.next_id();
        (id, idempotency_key(id))
    }
}

/// A key that makes a repeat after a resume harmless: no two requests of a session have the same.
pub(super) fn idempotency_key(id: u64) -> String {
    format!("{id:x}")
}

/// Half of the pause to all of it, so that a thousand applications do not come back in the same moment.
fn spread(pause: Duration) -> Duration {
    let mut random = [0; 2];
    match SysRng.try_fill_bytes(&mut random) {
        Ok(()) => pause / 2 + (pause / 2) * u32::from(u16::from_be_bytes(random)) / u32::from(u16::MAX),
        Err(_) => pause,
    }
}

fn answer(command: Command, outcome: Result<Answer, Error>) {
    if let Some(reply) = command.reply {
        // Whoever asked may have gone.
        let _ = reply.send(outcome);
    }
}

/// Waits for something else than commands, which are refused meanwhile. `None` when the application leaves.
async fn refusing<T>(commands: &mut mpsc::Receiver<Command>, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            command = commands.recv() => {
                let command = command?;
                let leaves = matches!(command.adopt, Adopt::ProviderClosed);
                answer(command, Err(Error::NotConnected));
                if leaves {
                    return None;
                }
            }
        }
    }
}

async fn open_any(
    config: &ProviderConfig,
    dialer: &Dialer,
    servers: &[String],
    resume: Resume,
) -> Result<(Link, ProviderOpened), ConnectError> {
    let mut failure = ConnectError::NoServer;
    for server in servers {
        match open(config, dialer, server, Some(resume.clone())).await {
            Ok(opened) => return Ok(opened),
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The cluster's own list first, in its order, then what was configured. The list is of TLS addresses.
fn where_to_reconnect(config: &ProviderConfig, dialer: &Dialer, opened: &ProviderOpened) -> Vec<String> {
    let told = match dialer {
        Dialer::Plain => &[][..],
        Dialer::Tls { .. } if config.only_configured => &[][..],
        Dialer::Tls { .. } => &opened.ctimanagers[..opened.ctimanagers.len().min(MAX_SERVERS)],
    };
    let port = config.servers.first().and_then(|s| s.rsplit_once(':')).map_or("2749", |(_, port)| port);
    let mut servers: Vec<String> = Vec::new();
    for server in told.iter().map(|told| with_port(told, port)).chain(config.servers.iter().cloned()) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// The address as it is when it names a port, else with this one.
fn with_port(address: &str, port: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        Ok(IpAddr::V4(ip)) => format!("{ip}:{port}"),
        Err(_) if address.contains(':') => address.to_owned(),
        Err(_) => format!("{address}:{port}"),
    }
}

fn may_come_back(reason: &LostReason) -> bool {
    match reason {
        LostReason::Superseded => false,
        LostReason::Closed(CloseReason::UserDeleted | CloseReason::NotCtiEnabled) => false,
        LostReason::Closed(
            CloseReason::SlowConsumer
            | CloseReason::HeartbeatTimeout
            | CloseReason::OpenTimeout
            | CloseReason::CertificateExpired
            | CloseReason::LineTooLong
            | CloseReason::Draining
            | CloseReason::Stopping,
        )
        | LostReason::EndOfFile
        | LostReason::Network(_)
        | LostReason::Silence
        | LostReason::Protocol(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::{spread, with_port};
    use std::time::Duration;

    #[test]
    fn pauses_are_spread_over_their_second_half() {
        for pause in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(3_600)] {
            let spread = spread(pause);
            assert!(pause / 2 <= spread && spread <= pause, "{pause:?}: {spread:?}");
        }
    }

    #[test]
    fn addresses_without_a_port_get_one() {
        for (address, wanted) in [
            ("cm2", "cm2:2749"),
            ("cm2:4711", "cm2:4711"),
            ("192.0.2.1", "192.0.2.1:2749"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("2001:db8::1", "[2001:db8::1]:2749"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
        ] {
            assert_eq!(with_port(address, "2749"), wanted);
        }
    }
}
