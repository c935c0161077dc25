//! What the SDK knows of devices and legs, kept from replies and events, and who observes them.

use super::observer::{MAX_WAITING_EVENTS, MAX_WAITING_LEG_EVENTS, ProviderEvent, ProviderState};
use device_model::media::MediaTermination;
use device_model::{CallId, DeviceName, Dn, LegId};
use protocol::Event;
use protocol::event::{DeviceChange, OpenChannel};
use protocol::methods::{DeviceOpened, NewCall, ProviderOpened};
use protocol::wire::{
    Device, DeviceState, DeviceType, Leg, LegState, Line, MediaDirection, Party, Presentation, Reason,
    Security, ServiceReason, StartedStream,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{broadcast, mpsc, watch};

/// New calls that may wait in one [`super::Calls`]; further ones are logged and found among the terminal's legs only.
pub const MAX_WAITING_CALLS: usize = 1_024;

/// Legs that may be told of before the answer to the opening of their device; of further ones an old answer is believed.
const MAX_TOLD_EARLY: usize = 16_384;

/// A leg as it was last told, with its media. Level, not edge: whoever looks late misses nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct LegStatus {
    /// The leg. Of a call that the application has just made, only ids and device until the first event.
    pub leg: Arc<Leg>,
    /// The server waits for `call.set_media` (dynamic media).
    pub open_channel: Option<OpenChannel>,
    /// How often it has asked: once for each media session, so again when a caller comes back from hold.
    pub channels_asked: u64,
    /// What the device receives.
    pub input: Option<StartedStream>,
    /// What the device sends.
    pub output: Option<StartedStream>,
    /// The session that knew the leg is lost; nothing more will be told of it.
    pub lost: bool,
}

impl LegStatus {
    /// Whether the leg is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lost || self.leg.state == LegState::Disconnected
    }
}

/// One leg's place outside the registry: valid for ever, also when the leg is gone.
#[derive(Clone, Debug)]
pub(super) struct LegRef {
    pub(super) id: LegId,
    pub(super) status: watch::Receiver<LegStatus>,
}

#[derive(Debug)]
struct LegEntry {
    status: watch::Sender<LegStatus>,
    observers: Option<broadcast::Sender<Arc<Event>>>,
}

#[derive(Debug, Default)]
struct TerminalEntry {
    /// With which media it was opened, to open it again in a new session.
    opened: Option<Option<MediaTermination>>,
    /// As last told.
    device: Option<Device>,
    /// There is no connection to its CTIManager, or it is not yet open again: out of service, whatever was told.
    cut_off: bool,
    /// It was open in a lost session and is not yet open in this one.
    reopening: bool,
    /// It was told of before the answer to its opening: in a resumed session an answer may be older than events.
    told_early: bool,
    observers: Option<broadcast::Sender<Arc<Event>>>,
    calls: Vec<mpsc::Sender<LegRef>>,
}

#[derive(Debug, Default)]
struct Inner {
    legs: BTreeMap<LegId, LegEntry>,
    terminals: BTreeMap<DeviceName, TerminalEntry>,
    session: Option<Arc<ProviderOpened>>,
    /// Legs that were told of before the answer to the opening of their device, also those that ended.
    told_early: BTreeSet<LegId>,
    /// The CTIManager said that the provider is out of service.
    out_of_service: bool,
    /// After the end nobody observes anything.
    ended: bool,
}

/// Shared by the driver, which writes, and the handles, which look. The lock is never held across an await.
#[derive(Debug)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
    /// `None` after the end.
    observers: Mutex<Option<broadcast::Sender<ProviderEvent>>>,
    state: watch::Sender<ProviderState>,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            observers: Mutex::new(Some(broadcast::Sender::new(MAX_WAITING_EVENTS))),
            state: watch::Sender::new(ProviderState::OutOfService),
        }
    }

    pub(super) fn observe(&self) -> broadcast::Receiver<ProviderEvent> {
        lock(&self.observers).as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    pub(super) fn tell(&self, event: ProviderEvent) {
        if let Some(observers) = &*lock(&self.observers) {
            // Nobody has to observe.
            let _ = observers.send(event);
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<ProviderState> {
        self.state.subscribe()
    }

    pub(super) fn set_state(&self, state: ProviderState) {
        let changed = self.state.send_if_modified(|now| std::mem::replace(now, state) != state);
        if changed {
            self.tell(ProviderEvent::State(state));
        }
    }

    pub(super) fn session(&self) -> Option<Arc<ProviderOpened>> {
        self.lock().session.clone()
    }

    /// A session is open, or goes on: the provider is in service, unless the CTIManager has said otherwise.
    pub(super) fn set_session(&self, opened: ProviderOpened) {
        let mut inner = self.lock();
        inner.out_of_service &= opened.resumed;
        let state = if inner.out_of_service { ProviderState::OutOfService } else { ProviderState::InService };
        inner.session = Some(Arc::new(opened));
        drop(inner);
        self.set_state(state);
    }

    /// The connection is lost: every open device goes out of service with it.
    pub(super) fn cut_off(&self) {
        let mut inner = self.lock();
        let mut left = Vec::new();
        for terminal in inner.terminals.values_mut().filter(|t| t.opened.is_some() && !t.cut_off) {
            terminal.cut_off = true;
            left.extend(terminal.device.clone().filter(|d| d.state == DeviceState::InService));
        }
        let reason = Some(ServiceReason::CtimanagerFailure);
        for device in left {
            let device = Device { state: DeviceState::OutOfService, ..device };
            self.conclude(&mut inner, Event::Device { change: DeviceChange::OutOfService, device, reason });
        }
    }

    /// The session goes on: its devices are as they were last told.
    pub(super) fn reachable_again(&self) {
        let mut inner = self.lock();
        let open = inner.terminals.iter().filter(|(_, terminal)| !terminal.reopening);
        let names: Vec<DeviceName> = open.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.in_service_again(&mut inner, name));
    }

    fn in_service_again(&self, inner: &mut Inner, name: &DeviceName) {
        let Some(terminal) = inner.terminals.get_mut(name) else { return };
        if std::mem::take(&mut terminal.cut_off)
            && let Some(device) = terminal.device.clone().filter(|d| d.state == DeviceState::InService)
        {
            self.conclude(inner, Event::Device { change: DeviceChange::InService, device, reason: None });
        }
    }

    /// Tells what no CTIManager has told.
    fn conclude(&self, inner: &mut Inner, event: Event) {
        let event = Arc::new(event);
        if let Some(leg) = event.leg() {
            inner.leg_event(leg, &event);
            inner.terminal_event(&leg.device, &event);
        }
        if let Event::Device { device, .. } = &*event {
            inner.terminal_event(&device.name, &event);
        }
        self.tell(ProviderEvent::Concluded(event));
    }

    /// Takes an event in and passes it on to whom it concerns.
    pub(super) fn apply(&self, event: &Arc<Event>) {
        let mut inner = self.lock();
        if let Event::Call { leg: Leg { leg, state: LegState::Disconnected, .. } } = &**event
            && let Some(before) = inner.legs.get(leg).map(|entry| entry.status.borrow().leg.clone())
        {
            // Their end may lie in the time between two sessions.
            self.streams_ended_meanwhile(&mut inner, &before);
        }
        if let Some(leg) = event.leg() {
            inner.leg_event(leg, event);
            inner.terminal_event(&leg.device, event);
        }
        match &**event {
            Event::Device { change, device, .. } => {
                inner.device_changed(*change, device);
                inner.terminal_event(&device.name, event);
            }
            Event::Line { device, line, .. } => {
                inner.line_changed(device, line);
                inner.terminal_event(device, event);
            }
            Event::CallConferenced { legs, .. } => legs.iter().for_each(|leg| inner.leg_told(leg)),
            Event::ProviderInService => {
                inner.out_of_service = false;
                self.set_state(ProviderState::InService);
            }
            Event::ProviderOutOfService { .. } => {
                inner.out_of_service = true;
                self.set_state(ProviderState::OutOfService);
            }
            Event::Call { .. }
            | Event::CallChanged { .. }
            | Event::CallTransferred { .. }
            | Event::CallDtmf { .. }
            | Event::CallParked { .. }
            | Event::Park { .. }
            | Event::MediaOpenChannel(_)
            | Event::MediaStarted { .. }
            | Event::MediaStopped { .. }
            | Event::MediaSrtpKey { .. }
            | Event::Alarm { .. }
            | Event::ProviderPrivilegesChanged { .. } => {}
        }
    }

    /// A device has been opened: its calls are there, the unanswered ones as new calls. When it was opened `again` after a
    /// restart, what has become of its calls since then is told as events.
    pub(super) fn opened(
        &self,
        opened: DeviceOpened,
        media: Option<MediaTermination>,
        again: bool,
    ) -> Vec<LegRef> {
        let mut inner = self.lock();
        let name = opened.device.name.clone();
        let terminal = inner.terminals.entry(name.clone()).or_default();
        (terminal.opened, terminal.reopening) = (Some(media), false);
        if !std::mem::take(&mut terminal.told_early) || terminal.device.is_none() {
            terminal.device = Some(opened.device);
        }
        self.in_service_again(&mut inner, &name);
        // What was told already is newer than the answer.
        let told = std::mem::take(&mut inner.told_early);
        let there: BTreeSet<LegId> = opened.legs.iter().map(|leg| leg.leg).collect();
        let gone = |leg: &Arc<Leg>| !there.contains(&leg.leg) && !told.contains(&leg.leg);
        for gone in inner.legs_of(&name).into_iter().filter(gone) {
            self.ended_meanwhile(&mut inner, &gone);
        }
        for leg in opened.legs.iter().filter(|leg| !told.contains(&leg.leg)) {
            match inner.legs.get(&leg.leg).map(|entry| entry.status.borrow().leg.clone()) {
                None if again => self.conclude(&mut inner, Event::Call { leg: leg.clone() }),
                None => inner.leg_told(leg),
                Some(before) => self.changed_meanwhile(&mut inner, &before, leg),
            }
        }
        inner.told_early.extend(told.into_iter().filter(|leg| !there.contains(leg)));
        opened.legs.iter().filter_map(|leg| inner.leg_ref(leg.leg)).collect()
    }

    /// A leg of the lost session is not there any more. Why, nobody can say.
    fn ended_meanwhile(&self, inner: &mut Inner, leg: &Arc<Leg>) {
        self.streams_ended_meanwhile(inner, leg);
        let leg = Leg { state: LegState::Disconnected, cause: None, ..(**leg).clone() };
        self.conclude(inner, Event::Call { leg });
    }

    fn changed_meanwhile(&self, inner: &mut Inner, before: &Arc<Leg>, now: &Leg) {
        if before.state != now.state {
            if now.state == LegState::Held {
                self.streams_ended_meanwhile(inner, before);
            }
            self.conclude(inner, Event::Call { leg: now.clone() });
        } else if **before != *now {
            self.conclude(inner, Event::CallChanged { leg: now.clone() });
        }
    }

    fn streams_ended_meanwhile(&self, inner: &mut Inner, leg: &Arc<Leg>) {
        let Some(entry) = inner.legs.get(&leg.leg) else { return };
        let (input, output) = {
            let status = entry.status.borrow();
            (status.input.is_some(), status.output.is_some())
        };
        for (runs, direction) in [(input, MediaDirection::Input), (output, MediaDirection::Output)] {
            if runs {
                self.conclude(inner, Event::MediaStopped { leg: (**leg).clone(), direction });
            }
        }
    }

    /// A device could not be opened again after a restart.
    pub(super) fn not_reopened(&self, device: &DeviceName) {
        let mut inner = self.lock();
        if let Some(known) = inner.terminals.get_mut(device).and_then(|t| t.device.as_mut()) {
            (known.state, known.opened) = (DeviceState::OutOfService, false);
            let (change, device) = (DeviceChange::Closed, known.clone());
            self.conclude(&mut inner, Event::Device { change, device, reason: None });
        }
        inner.device_closed(device);
    }

    /// A device could not be opened again, for it is restricted. A phone's calls go on unheard; those of others have ended.
    /// `false`: it was told meanwhile that it is free (after a resume an answer may be older than events).
    pub(super) fn restricted(&self, device: &DeviceName) -> bool {
        let mut inner = self.lock();
        let Some(terminal) = inner.terminals.get_mut(device) else { return true };
        let told = terminal.told_early;
        let Some(known) = terminal.device.as_mut() else { return true };
        if told && !known.restricted {
            return false;
        }
        (known.state, known.restricted, known.opened) = (DeviceState::OutOfService, true, false);
        let device = known.clone();
        let change = DeviceChange::Restricted;
        self.conclude(&mut inner, Event::Device { change, device: device.clone(), reason: None });
        if device.kind != DeviceType::Phone {
            for leg in inner.legs_of(&device.name) {
                self.ended_meanwhile(&mut inner, &leg);
            }
        }
        true
    }

    /// The device is about to be opened again: what was told of it until now is older than the answer.
    pub(super) fn opens_again(&self, device: &DeviceName) {
        if let Some(terminal) = self.lock().terminals.get_mut(device) {
            terminal.told_early = false;
        }
    }

    /// A call that the application makes exists, before its first event.
    pub(super) fn created(&self, new: NewCall, device: &DeviceName, dn: Option<&Dn>) -> Option<LegRef> {
        let mut inner = self.lock();
        let placeholder = || LegEntry::new(Arc::new(nothing_told(new.call, new.leg, device, dn)));
        inner.legs.entry(new.leg).or_insert_with(placeholder);
        inner.leg_ref(new.leg)
    }

    /// A call that the application made was over before it heard that it exists.
    pub(super) fn over(leg: Leg) -> LegRef {
        LegRef { id: leg.leg, status: LegEntry::new(Arc::new(leg)).status.subscribe() }
    }

    /// The application has closed the device.
    pub(super) fn closed(&self, device: &DeviceName) {
        self.lock().device_closed(device);
    }

    /// The session is lost. Says what was open.
    pub(super) fn session_lost(&self) -> Vec<(DeviceName, Option<MediaTermination>)> {
        let mut inner = self.lock();
        inner.told_early.clear();
        let open = inner.terminals.iter_mut().filter_map(|(name, terminal)| {
            terminal.reopening = terminal.opened.is_some();
            terminal.told_early = false;
            terminal.opened.clone().map(|media| (name.clone(), media))
        });
        open.collect()
    }

    /// The end: every stream of events ends.
    pub(super) fn shut_down(&self) {
        self.set_state(ProviderState::Shutdown);
        let mut inner = self.lock();
        std::mem::take(&mut inner.legs).into_values().for_each(LegEntry::lose);
        inner.terminals.clear();
        inner.ended = true;
        drop(inner);
        *lock(&self.observers) = None;
    }

    pub(super) fn leg(&self, leg: LegId) -> Option<LegRef> {
        self.lock().leg_ref(leg)
    }

    /// The legs that fit, in the order of their ids.
    pub(super) fn legs(&self, fits: impl Fn(&Leg) -> bool) -> Vec<LegRef> {
        let inner = self.lock();
        let mut found: Vec<_> = inner
            .legs
            .iter()
            .filter(|(_, entry)| fits(&entry.status.borrow().leg))
            .map(|(id, entry)| LegRef { id: *id, status: entry.status.subscribe() })
            .collect();
        found.sort_unstable_by_key(|leg| leg.id);
        found
    }

    /// The leg's events from now on; a stream that has ended when the leg is gone.
    pub(super) fn observe_leg(&self, leg: LegId) -> broadcast::Receiver<Arc<Event>> {
        let mut inner = self.lock();
        match inner.legs.get_mut(&leg) {
            Some(entry) => subscribe(&mut entry.observers, MAX_WAITING_LEG_EVENTS),
            None => broadcast::channel(1).1,
        }
    }

    pub(super) fn observe_terminal(&self, device: &DeviceName) -> broadcast::Receiver<Arc<Event>> {
        let mut inner = self.lock();
        if inner.ended {
            return broadcast::channel(1).1;
        }
        subscribe(&mut inner.terminals.entry(device.clone()).or_default().observers, MAX_WAITING_EVENTS)
    }

    pub(super) fn calls(&self, device: &DeviceName) -> mpsc::Receiver<LegRef> {
        let (tx, rx) = mpsc::channel(MAX_WAITING_CALLS);
        let mut inner = self.lock();
        if !inner.ended {
            inner.terminals.entry(device.clone()).or_default().calls.push(tx);
        }
        rx
    }

    pub(super) fn device(&self, device: &DeviceName) -> Option<Device> {
        let inner = self.lock();
        let terminal = inner.terminals.get(device)?;
        let device = terminal.device.clone()?;
        Some(if terminal.cut_off { Device { state: DeviceState::OutOfService, ..device } } else { device })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

/// Nothing in here panics half way through a change; the data of a poisoned lock are as good as ever.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn subscribe<T: Clone>(
    observers: &mut Option<broadcast::Sender<T>>,
    capacity: usize,
) -> broadcast::Receiver<T> {
    observers.get_or_insert_with(|| broadcast::Sender::new(capacity)).subscribe()
}

impl LegEntry {
    fn new(leg: Arc<Leg>) -> Self {
        let status =
            LegStatus { leg, open_channel: None, channels_asked: 0, input: None, output: None, lost: false };
        Self { status: watch::Sender::new(status), observers: None }
    }
}

impl LegEntry {
    /// Nothing will be told of the leg any more.
    fn lose(self) {
        self.status.send_modify(|status| {
            status.lost = true;
            (status.open_channel, status.input, status.output) = (None, None, None);
        });
    }
}

impl Inner {
    /// Legs on a device that the session does not hold are told no more.
    fn device_closed(&mut self, device: &DeviceName) {
        if let Some(terminal) = self.terminals.get_mut(device) {
            (terminal.opened, terminal.cut_off, terminal.reopening) = (None, false, false);
        }
        let of_device = |_: &LegId, entry: &mut LegEntry| entry.status.borrow().leg.device == *device;
        self.legs.extract_if(.., of_device).for_each(|(_, entry)| entry.lose());
    }

    fn legs_of(&self, device: &DeviceName) -> Vec<Arc<Leg>> {
        let legs = self.legs.values().map(|entry| entry.status.borrow().leg.clone());
        legs.filter(|leg| leg.device == *device).collect()
    }

    fn leg_ref(&self, leg: LegId) -> Option<LegRef> {
        self.legs.get(&leg).map(|entry| LegRef { id: leg, status: entry.status.subscribe() })
    }

    /// The leg is as told; a new one that waits for an answer is a new call.
    fn leg_told(&mut self, leg: &Leg) {
        let told = Arc::new(leg.clone());
        let Some(entry) = self.legs.get(&leg.leg) else {
            if leg.state == LegState::Disconnected {
                return;
            }
            let entry = LegEntry::new(told);
            let new = LegRef { id: leg.leg, status: entry.status.subscribe() };
            self.legs.insert(leg.leg, entry);
            if matches!(leg.state, LegState::Offering | LegState::Ringing) {
                self.new_call(&leg.device, &new);
            }
            return;
        };
        entry.status.send_modify(|status| status.leg = told);
    }

    fn new_call(&mut self, device: &DeviceName, new: &LegRef) {
        let Some(terminal) = self.terminals.get_mut(device) else { return };
        terminal.calls.retain(|calls| match calls.try_send(new.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(%device, leg = %new.id, "nobody takes new calls: {MAX_WAITING_CALLS} wait already");
                true
            }
        });
    }

    /// The opening of the device has no answer yet.
    fn is_being_opened(&self, device: &DeviceName) -> bool {
        self.terminals.get(device).is_none_or(|t| t.opened.is_none() || t.reopening)
    }

    fn leg_event(&mut self, leg: &Leg, event: &Arc<Event>) {
        if self.told_early.len() < MAX_TOLD_EARLY && self.is_being_opened(&leg.device) {
            self.told_early.insert(leg.leg);
        }
        self.leg_told(leg);
        let Some(entry) = self.legs.get(&leg.leg) else { return };
        entry.status.send_if_modified(|status| media_event(status, event));
        if let Some(observers) = &entry.observers {
            let _ = observers.send(event.clone());
        }
        if leg.state == LegState::Disconnected {
            self.legs.remove(&leg.leg);
        }
    }

    fn terminal_event(&mut self, device: &DeviceName, event: &Arc<Event>) {
        if let Some(observers) = self.terminals.get(device).and_then(|t| t.observers.as_ref()) {
            let _ = observers.send(event.clone());
        }
    }

    fn device_changed(&mut self, change: DeviceChange, device: &Device) {
        let Some(terminal) = self.terminals.get_mut(&device.name) else { return };
        terminal.device = Some(device.clone());
        terminal.told_early = terminal.opened.is_none() || terminal.reopening;
        match change {
            DeviceChange::Closed | DeviceChange::Removed => self.device_closed(&device.name),
            DeviceChange::Added
            | DeviceChange::Restricted
            | DeviceChange::Unrestricted
            | DeviceChange::InService
            | DeviceChange::OutOfService => {}
        }
    }

    fn line_changed(&mut self, device: &DeviceName, line: &Line) {
        let known = self.terminals.get_mut(device).and_then(|t| t.device.as_mut());
        if let Some(known) = known.and_then(|d| d.lines.iter_mut().find(|l| l.dn == line.dn)) {
            known.clone_from(line);
        }
    }
}

/// Brings the media of a leg up to date; says whether something changed.
fn media_event(status: &mut LegStatus, event: &Event) -> bool {
    match event {
        Event::MediaOpenChannel(channel) => {
            status.open_channel = Some(channel.clone());
            status.channels_asked += 1;
        }
        Event::MediaStarted { stream, .. } => {
            status.open_channel = None;
            match stream.direction {
                MediaDirection::Input => status.input = Some(stream.clone()),
                MediaDirection::Output => status.output = Some(stream.clone()),
            }
        }
        Event::MediaStopped { direction: MediaDirection::Input, .. } => status.input = None,
        Event::MediaStopped { direction: MediaDirection::Output, .. } => status.output = None,
        Event::Call { leg } if leg.state == LegState::Disconnected => {
            (status.open_channel, status.input, status.output) = (None, None, None);
        }
        Event::Call { .. }
        | Event::CallChanged { .. }
        | Event::CallTransferred { .. }
        | Event::CallConferenced { .. }
        | Event::CallDtmf { .. }
        | Event::CallParked { .. }
        | Event::Park { .. }
        | Event::MediaSrtpKey { .. }
        | Event::Alarm { .. }
        | Event::Device { .. }
        | Event::Line { .. }
        | Event::ProviderInService
        | Event::ProviderOutOfService { .. }
        | Event::ProviderPrivilegesChanged { .. } => return false,
    }
    true
}

fn nothing_told(call: CallId, leg: LegId, device: &DeviceName, dn: Option<&Dn>) -> Leg {
    let nobody = || Party { number: "".into(), name: None, presentation: Presentation::Allowed };
    Leg {
        leg,
        call,
        device: device.clone(),
        dn: dn.cloned().unwrap_or_else(|| "".into()),
        state: LegState::Dialtone,
        cause: None,
        reason: Reason::Normal,
        calling: nobody(),
        called: nobody(),
        original_called: None,
        last_redirecting: None,
        connected: None,
        consult_of: None,
        conference: false,
        remote_in_use: false,
        security: Security::None,
        user_data: Arc::default(),
    }
}
