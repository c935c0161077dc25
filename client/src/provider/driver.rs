//! The owner task of a provider: it alone writes to the connection, matches answers to requests and numbers to events,
//! keeps the heartbeat, and brings a lost connection back.

use super::ProviderConfig;
use super::error::{ConnectError, Error, may_be_taken_later};
use super::link::{Dialer, Inbound, Link, NotWritten};
use super::observer::{GaveUp, LostReason, ProviderEvent, ProviderState};
use super::reconnect::{Backoff, Servers, may_come_back};
use super::registry::{LegRef, Registry};
use device_model::media::MediaTermination;
use device_model::{DeviceName, Dn, LegId, SessionId};
use protocol::event::{ConnectionEvent, DeviceChange, Received};
use protocol::methods::{
    self, Call, Cursor, DeviceOpen, DeviceOpened, Glob, NewCall, ProviderHeartbeat, ProviderMonitorPark,
    ProviderOpened, Resume,
};
use protocol::rpc::{self, Id};
use protocol::wire::{Leg, LegState};
use protocol::{CtiError, Event, Frame, Symbol};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Requests that may wait for their answers; more are refused as [`Error::Overloaded`].
pub(super) const MAX_PENDING: usize = 4_096;

/// Ended legs that are remembered while calls are being made; more than a session's log can tell by default.
const MAX_ENDED: usize = 16_384;

/// Devices that are opened again at once; the next ones follow as answers come.
const MAX_REOPENING: usize = 64;

/// How long the last words may take to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// The shortest heartbeat that a server may decide, so that a hostile one can't make us spin.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);

/// The longest one that is believed.
const MAX_HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// When a request is made again that a server was too busy for and that named no time.
const BUSY: Duration = Duration::from_secs(1);

/// When a request is written that found no room.
const NO_ROOM: Duration = Duration::from_millis(50);

/// A request of a handle, written already.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) id: u64,
    pub(super) frame: Frame,
    pub(super) adopt: Adopt,
    /// It may be made again in another session, for it can't be carried out twice.
    pub(super) repeatable: bool,
    /// How long somebody waits for the answer.
    pub(super) until: Instant,
    pub(super) reply: Option<oneshot::Sender<Result<Answer, Error>>>,
}

impl Command {
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

/// What the driver itself does with a good answer, before it looks at the events behind it.
#[derive(Clone, Debug)]
pub(super) enum Adopt {
    Nothing,
    Opened { device: DeviceName, media: Option<MediaTermination> },
    Closed(DeviceName),
    NewCall { device: DeviceName, dn: Option<Dn> },
    ParkMonitored(bool),
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
    /// Devices of whose calls not all pages are there.
    gathered: BTreeMap<DeviceName, DeviceOpened>,
    /// Legs that ended while calls are being made at their devices: after a resume the answer that names a leg may come
    /// behind the event that tells its end.
    ended: BTreeMap<LegId, Leg>,
    /// Of the requests, the ones that are to be written again, and when: the server had no time for them, or there was no room.
    again: BTreeSet<(Instant, u64)>,
    session: SessionId,
    last_seq: u64,
    heartbeat: Duration,
    servers: Servers,
    backoff: Backoff,
    connected_at: Instant,
    /// Whether parked calls are to be told, in a new session as well.
    monitors_park: bool,
    /// Devices of a lost session that are to be opened again, and how many of them are on their way.
    to_reopen: VecDeque<(DeviceName, Option<MediaTermination>)>,
    reopening: usize,
    /// Devices of a lost session that are restricted now; they are opened again when they are free.
    restricted: BTreeMap<DeviceName, Option<MediaTermination>>,
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
            servers: Servers::new(&config, &dialer, &opened),
            backoff: Backoff::new(config.reconnect.unwrap_or_default()),
            config,
            dialer,
            registry,
            commands,
            ids,
            pending: BTreeMap::new(),
            gathered: BTreeMap::new(),
            ended: BTreeMap::new(),
            again: BTreeSet::new(),
            session: opened.session,
            last_seq: 0,
            heartbeat: MIN_HEARTBEAT,
            connected_at: Instant::now(),
            monitors_park: false,
            to_reopen: VecDeque::new(),
            reopening: 0,
            restricted: BTreeMap::new(),
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
                    match self.lost(reason).await {
                        Some(new) => link = new,
                        None => break self.fail_pending(&Error::ConnectionLost),
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
            let again = self.again.first().map_or(next_heartbeat, |(at, _)| *at);
            // In this order: what is rare and short goes before what may never end.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(next_heartbeat.min(silent_at).min(again)) => {
                    let now = Instant::now();
                    self.write_again(link, now);
                    if now >= next_heartbeat {
                        self.send_heartbeat(link);
                        next_heartbeat = now + self.heartbeat_pace();
                    }
                    if now >= silent_at {
                        // We may have been asleep, not the server.
                        let Some(inbound) = link.waiting() else { return Served::Lost(LostReason::Silence) };
                        silent_at = now + 2 * self.heartbeat;
                        if let Some(end) = self.inbound(inbound) {
                            return end;
                        }
                    }
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
                inbound = link.receive() => {
                    silent_at = Instant::now() + 2 * self.heartbeat;
                    if let Some(end) = self.inbound(inbound) {
                        return end;
                    }
                    self.reopen(link);
                }
            }
        }
    }

    /// A little faster than agreed: two lost intervals end the session, and nobody's clock is exact.
    fn heartbeat_pace(&self) -> Duration {
        self.heartbeat * 3 / 4
    }

    fn send_heartbeat(&mut self, link: &Link) {
        self.pending.retain(|_, waiting| !waiting.is_abandoned());
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
                    self.note_end(&event);
                    self.registry.apply(&event);
                    self.note_freedom(&event);
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

    /// The devices at which calls are being made.
    fn making(&self) -> impl Iterator<Item = &DeviceName> {
        self.pending.values().filter_map(|command| match &command.adopt {
            Adopt::NewCall { device, .. } => Some(device),
            Adopt::Nothing
            | Adopt::ProviderClosed
            | Adopt::ParkMonitored(_)
            | Adopt::Opened { .. }
            | Adopt::Closed(_) => None,
        })
    }

    fn note_end(&mut self, event: &Event) {
        let Event::Call { leg } = event else { return };
        if leg.state != LegState::Disconnected {
            return;
        }
        if self.making().any(|device| *device == leg.device) {
            self.ended.insert(leg.leg, leg.clone());
            if self.ended.len() > MAX_ENDED {
                self.ended.pop_first();
            }
        }
    }

    /// A device that waited for the end of its restriction is opened again; one that left does not wait any more.
    fn note_freedom(&mut self, event: &Event) {
        let Event::Device { change, device, .. } = event else { return };
        match change {
            DeviceChange::Unrestricted if !device.restricted => {
                if let Some(media) = self.restricted.remove(&device.name) {
                    self.open_again(&device.name, media);
                }
            }
            DeviceChange::Removed | DeviceChange::Closed => drop(self.restricted.remove(&device.name)),
            DeviceChange::Unrestricted
            | DeviceChange::Restricted
            | DeviceChange::Added
            | DeviceChange::InService
            | DeviceChange::OutOfService => {}
        }
    }

    fn open_again(&mut self, device: &DeviceName, media: Option<MediaTermination>) {
        self.registry.opens_again(device);
        self.to_reopen.push_back((device.clone(), media));
    }

    /// Whether the server tells when a restriction is over.
    fn hears_of_freedom(&self) -> bool {
        let mut globs = self.config.subscribe.iter().flatten().map(|glob| Glob::from(glob.as_str()));
        self.config.subscribe.is_none() || globs.any(|glob| glob.matches("device.unrestricted"))
    }

    /// A device that waits to be opened again is closed by not waiting for it. Says whether it waited.
    fn waits_no_more(&mut self, device: &DeviceName) -> bool {
        let waited = self.to_reopen.len() + self.restricted.len();
        self.to_reopen.retain(|(name, _)| name != device);
        self.restricted.remove(device);
        waited > self.to_reopen.len() + self.restricted.len()
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
        let command = match &outcome {
            Err(error) => self.put_off(command, error)?,
            Ok(_) => command,
        };
        let (command, outcome) = self.gather(command, outcome)?;
        let finished = matches!((&command.adopt, &outcome), (Adopt::ProviderClosed, Ok(_)));
        let outcome = match outcome {
            Ok(result) => self.adopt(&command, result),
            Err(error) => self.refused(&command, error),
        };
        if !self.ended.is_empty() && self.making().next().is_none() {
            self.ended.clear();
        }
        if let (None, Adopt::Opened { device, media }) = (&command.reply, &command.adopt) {
            self.reopened(device, media, outcome.as_ref().err());
        }
        answer(command, outcome);
        finished.then_some(Served::Finished)
    }

    /// A request that the server had no time for is made again when it has, if somebody waits so long. Gives back what
    /// is to be answered now.
    fn put_off(&mut self, command: Command, error: &CtiError) -> Option<Command> {
        if error.symbol != Symbol::RateLimited {
            return Some(command);
        }
        let wait = error.data.retry_after_ms.map_or(BUSY, Duration::from_millis);
        let at = Instant::now().checked_add(wait + self.backoff.spread(wait.min(BUSY)))?;
        if at >= command.until {
            return Some(command);
        }
        self.again.insert((at, command.id));
        self.pending.insert(command.id, command);
        None
    }

    /// The answer to the opening of a device may come in pages: the next one is asked for until all calls are there. Gives
    /// back what is whole.
    fn gather(
        &mut self,
        command: Command,
        outcome: Result<Box<RawValue>, CtiError>,
    ) -> Option<(Command, Result<Box<RawValue>, CtiError>)> {
        let Adopt::Opened { device, .. } = &command.adopt else { return Some((command, outcome)) };
        let begun = self.gathered.remove(device);
        let opened = outcome.as_ref().ok().and_then(|result| serde_json::from_str(result.get()).ok());
        let (mut whole, page): (DeviceOpened, Option<DeviceOpened>) = match (begun, opened) {
            (None, None) => return Some((command, outcome)),
            (None, Some(first)) => (first, None),
            (Some(begun), page) => (begun, page),
        };
        if let Some(page) = page {
            whole.cursor = page.cursor.filter(|next| whole.cursor.as_ref() != Some(next));
            whole.legs.extend(page.legs);
        } else if outcome.is_err() {
            // The device is open all the same; of the calls that are missing the next event tells.
            tracing::warn!(%device, "not all of its calls could be asked for");
            whole.cursor = None;
        }
        let Some(cursor) = whole.cursor.as_deref().map(Cursor::from) else {
            return Some((command, Ok(rpc::raw(&whole))));
        };
        let open = DeviceOpen { device: device.clone(), media: None, cursor: Some(cursor), limit: None };
        let id = self.next_id();
        let params = methods::params(&open, Some(&idempotency_key(id)));
        let frame = rpc::request_frame(&Id::number(id), DeviceOpen::METHOD, &params);
        self.gathered.insert(device.clone(), whole);
        self.pending.insert(id, Command { id, frame, ..command });
        self.again.insert((Instant::now(), id));
        None
    }

    /// In a new session a device that was being opened is opened from the beginning.
    fn open_from_the_beginning(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        for command in self.pending.values_mut() {
            if let Adopt::Opened { device, media } = &command.adopt
                && gathered.contains_key(device)
            {
                let (device, media) = (device.clone(), media.clone());
                let open = DeviceOpen { device, media, cursor: None, limit: None };
                let params = methods::params(&open, Some(&idempotency_key(command.id)));
                command.frame = rpc::request_frame(&Id::number(command.id), DeviceOpen::METHOD, &params);
            }
        }
    }

    fn write_again(&mut self, link: &Link, now: Instant) {
        while let Some((at, id)) = self.again.pop_first() {
            if at > now {
                self.again.insert((at, id));
                return;
            }
            let Some(command) = self.pending.get(&id) else { continue };
            if !command.is_abandoned() && link.send(command.frame.clone()).is_err() {
                self.again.insert((now + NO_ROOM, id));
                return;
            }
        }
    }

    fn refused(&mut self, command: &Command, error: CtiError) -> Result<Answer, Error> {
        match &command.adopt {
            Adopt::Closed(device) if self.waits_no_more(device) => {
                self.registry.closed(device);
                Ok(Answer { result: rpc::raw(&methods::Empty {}), legs: Vec::new() })
            }
            Adopt::Closed(_)
            | Adopt::Nothing
            | Adopt::Opened { .. }
            | Adopt::NewCall { .. }
            | Adopt::ParkMonitored(_)
            | Adopt::ProviderClosed => Err(Error::Refused(error)),
        }
    }

    fn reopened(&mut self, device: &DeviceName, media: &Option<MediaTermination>, error: Option<&Error>) {
        self.reopening = self.reopening.saturating_sub(1);
        let Some(error) = error else { return };
        if error.symbol() == Some(Symbol::DeviceRestricted) && self.hears_of_freedom() {
            if self.registry.restricted(device) {
                self.restricted.insert(device.clone(), media.clone());
            } else {
                self.open_again(device, media.clone());
            }
            return;
        }
        self.registry.not_reopened(device);
        self.registry.tell(ProviderEvent::NotReopened { device: device.clone(), error: error.clone() });
    }

    fn reopen(&mut self, link: &Link) {
        while self.reopening < MAX_REOPENING && self.pending.len() < MAX_PENDING {
            let Some((device, media)) = self.to_reopen.pop_front() else { return };
            let open = DeviceOpen { device: device.clone(), media: media.clone(), cursor: None, limit: None };
            if self.ask(link, &open, Adopt::Opened { device: device.clone(), media: media.clone() }).is_none()
            {
                return self.to_reopen.push_front((device, media));
            }
            self.reopening += 1;
        }
    }

    /// A request of the SDK's own. `None` when there is no room for it now.
    fn ask<C: Call>(&mut self, link: &Link, call: &C, adopt: Adopt) -> Option<()> {
        let id = self.next_id();
        let params = methods::params(call, Some(&idempotency_key(id)));
        let frame = rpc::request_frame(&Id::number(id), C::METHOD, &params);
        link.send(frame.clone()).ok()?;
        let until = Instant::now() + MAX_HEARTBEAT;
        self.pending.insert(id, Command { id, frame, adopt, repeatable: false, until, reply: None });
        Some(())
    }

    fn adopt(&mut self, command: &Command, result: Box<RawValue>) -> Result<Answer, Error> {
        let bad = |e: serde_json::Error| Error::BadAnswer(e.to_string());
        let legs = match &command.adopt {
            Adopt::Nothing | Adopt::ProviderClosed => Vec::new(),
            Adopt::ParkMonitored(on) => {
                self.monitors_park = *on;
                Vec::new()
            }
            Adopt::Opened { media, device } => {
                self.waits_no_more(device);
                let opened: DeviceOpened = serde_json::from_str(result.get()).map_err(bad)?;
                let again = command.reply.is_none();
                self.registry.opened(opened, media.clone(), again)
            }
            Adopt::Closed(device) => {
                self.registry.closed(device);
                Vec::new()
            }
            Adopt::NewCall { device, dn } => {
                let new: NewCall = serde_json::from_str(result.get()).map_err(bad)?;
                let legs = match self.ended.remove(&new.leg) {
                    Some(leg) => Some(Registry::over(leg)),
                    None => self.registry.created(new, device, dn.as_ref()),
                };
                legs.into_iter().collect()
            }
        };
        Ok(Answer { result, legs })
    }

    /// The connection is lost: devices go out of service before the provider (reference §7.4). Gives the next one.
    async fn lost(&mut self, reason: LostReason) -> Option<Link> {
        tracing::info!(?reason, "connection to the CTIManager lost");
        self.registry.cut_off();
        self.registry.set_state(ProviderState::OutOfService);
        let reconnect = self.config.reconnect.filter(|_| may_come_back(&reason));
        self.registry.tell(ProviderEvent::ConnectionLost(reason));
        self.backoff.lost_after(self.connected_at.elapsed());
        let patience = reconnect?.give_up_after;
        // Who has asked to leave does not wait for longer than for an answer.
        let patience = if self.is_leaving() { patience.min(self.config.request_timeout) } else { patience };
        self.come_back(patience).await
    }

    /// Connects again, and again, until it is time to give up. Requests that come meanwhile are refused; those that wait
    /// for an answer go on waiting, for the session may go on.
    async fn come_back(&mut self, patience: Duration) -> Option<Link> {
        let lost = Instant::now();
        let mut last = None;
        loop {
            let wait = self.servers.rest() + self.backoff.next_pause();
            if lost.elapsed().saturating_add(wait) >= patience {
                self.registry.tell(ProviderEvent::GaveUp(GaveUp::TooLong { last }));
                return None;
            }
            refusing(&mut self.commands, tokio::time::sleep(wait)).await?;
            let resume = Resume { session: Some(self.session), last_seq: self.last_seq };
            let attempt = self.servers.open_any(&self.config, &self.dialer, resume);
            match refusing(&mut self.commands, attempt).await? {
                Ok((link, opened)) => {
                    self.came_back(&link, opened);
                    return Some(link);
                }
                Err(ConnectError::Refused(error)) if !may_be_taken_later(&error) => {
                    tracing::warn!(%error, "the connection is lost for good");
                    self.registry.tell(ProviderEvent::GaveUp(GaveUp::Refused(error)));
                    return None;
                }
                Err(error) => {
                    tracing::debug!(%error, "not yet connected again");
                    last = Some(error.to_string().into());
                }
            }
        }
    }

    fn came_back(&mut self, link: &Link, opened: ProviderOpened) {
        if opened.resumed {
            self.opened(opened);
            self.registry.tell(ProviderEvent::Resumed);
            self.registry.reachable_again();
            self.repeat(link);
        } else {
            self.begin_anew(link, opened);
        }
    }

    /// Requests that wait are made again. In the same session they are carried out once by their `idem`, whether the first
    /// copy arrived or not; in a new one only those are left that do no harm.
    fn repeat(&mut self, link: &Link) {
        let put_off: BTreeSet<u64> = self.again.iter().map(|(_, id)| *id).collect();
        let waiting = self.pending.values().filter(|command| !put_off.contains(&command.id));
        let no_room =
            waiting.filter(|command| link.send(command.frame.clone()).is_err()).map(|command| command.id);
        let at = Instant::now() + NO_ROOM;
        self.again.extend(no_room.map(|id| (at, id)).collect::<Vec<_>>());
    }

    /// A new session stands in for a lost one: what was open is opened again, and the difference told as events.
    fn begin_anew(&mut self, link: &Link, opened: ProviderOpened) {
        let reason = opened.reason;
        self.last_seq = opened.next_seq.saturating_sub(1);
        let leaving = self.is_leaving();
        let lost: Vec<_> = self.pending.extract_if(.., |_, command| !command.repeatable).collect();
        for (_, command) in lost {
            // A device that was to be closed is: nothing holds it any more.
            let outcome = match &command.adopt {
                Adopt::Closed(device) => {
                    self.registry.closed(device);
                    Ok(Answer { result: rpc::raw(&methods::Empty {}), legs: Vec::new() })
                }
                _ => Err(Error::ConnectionLost),
            };
            answer(command, outcome);
        }
        self.ended.clear();
        self.open_from_the_beginning();
        let devices = self.registry.session_lost();
        self.opened(opened);
        self.registry.tell(ProviderEvent::Restarted(reason));
        (self.to_reopen, self.reopening) = (VecDeque::new(), 0);
        self.restricted.clear();
        self.repeat(link);
        if leaving {
            return;
        }
        self.to_reopen.extend(devices);
        if self.monitors_park && self.ask(link, &ProviderMonitorPark { on: true }, Adopt::Nothing).is_none() {
            tracing::warn!("parked calls are not monitored any more: no room for the request");
        }
        self.reopen(link);
    }

    /// Whether the application has asked to close the provider and still waits.
    fn is_leaving(&self) -> bool {
        let leaves = |command: &Command| matches!(command.adopt, Adopt::ProviderClosed);
        self.pending.values().any(leaves)
    }

    fn opened(&mut self, opened: ProviderOpened) {
        self.connected_at = Instant::now();
        self.session = opened.session;
        self.heartbeat = Duration::from_millis(opened.heartbeat_ms).clamp(MIN_HEARTBEAT, MAX_HEARTBEAT);
        self.servers = Servers::new(&self.config, &self.dialer, &opened);
        self.registry.set_session(opened);
    }

    fn fail_pending(&mut self, error: &Error) {
        for (_, command) in std::mem::take(&mut self.pending) {
            answer(command, Err(error.clone()));
        }
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// A key that makes a repeat after a resume harmless: no two requests of a session have the same.
pub(super) fn idempotency_key(id: u64) -> String {
    format!("{id:x}")
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
