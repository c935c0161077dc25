//! Says what is to be kept of the sessions, so that a restarted node can go on with them (`persist_sessions`).
//!
//! What a step changed is noted while it is taken, and looked at once at its end: sessions tell what is new in them
//! ([`protocol::Session::changes`]), devices and legs are kept as they were told. Sessions without a grace aren't kept:
//! nobody could come back to them.

use super::CtiManager;
use super::applications::Provider;
use super::kept::{self, Answer, Ended, Head, Kept, KeptDevice, KeptLeg, Record, millis};
use super::portions::{Portion, Task};
use crate::node::port::Output;
use crate::node::{Step, alarms};
use device_model::port::Event;
use device_model::{DeviceName, LegId, SessionId};
use protocol::event::EventType;
use protocol::session::{Changes, REMEMBER_ENDED, Session};
use protocol::wire::{Device, Leg, Media};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Devices looked at in one piece, and what of a portion one of them counts.
const DEVICES_AT_ONCE: usize = 16;
const WORK_OF_DEVICE: usize = 8;
/// Events and answers of a session that count as much as the rest of it.
const EVENTS_A_WORK: usize = 16;

/// What is to be kept, a piece at a time.
pub(in crate::node) enum Walk {
    /// A session with its log.
    Session(SessionId),
    /// What it has open, after this device.
    Open(SessionId, Option<DeviceName>),
    /// Devices that it had open, from this place on.
    Lost(SessionId, Arc<[DeviceName]>, usize),
}

/// What is to be looked at when the step ends, and what has been said.
#[derive(Default)]
pub(in crate::node) struct Keeping {
    state: State,
    records: Vec<Record>,
    sessions: BTreeSet<SessionId>,
    devices: BTreeSet<(SessionId, DeviceName)>,
    legs: BTreeSet<(DeviceName, LegId)>,
    /// The legs that are kept.
    kept_legs: BTreeSet<(DeviceName, LegId)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody keeps anything.
    #[default]
    Off,
    /// Every change is said.
    On,
    /// Whoever keeps the records can't, for now.
    Suspended,
}

impl Keeping {
    pub(in crate::node) fn is_on(&self) -> bool {
        self.state == State::On
    }

    /// How administrators see it.
    pub(in crate::node) fn name(&self) -> &'static str {
        match self.state {
            State::Off => "off",
            State::On => "keeping",
            State::Suspended => "suspended",
        }
    }

    pub(in crate::node) fn session(&mut self, id: SessionId) {
        if self.is_on() {
            self.sessions.insert(id);
        }
    }

    pub(in crate::node) fn device(&mut self, session: SessionId, device: &DeviceName) {
        if self.is_on() {
            self.devices.insert((session, device.clone()));
        }
    }

    fn leg(&mut self, device: &DeviceName, leg: LegId) {
        if self.is_on() {
            self.legs.insert((device.clone(), leg));
        }
    }

    /// What an event of the model changes.
    pub(in crate::node) fn event(&mut self, sessions: &[SessionId], event: &Event) {
        if !self.is_on() {
            return;
        }
        match event {
            Event::Leg(leg)
            | Event::LegChanged(leg)
            | Event::Digit(leg, _)
            | Event::OpenChannel { leg, .. }
            | Event::MediaStarted(leg, _)
            | Event::KeyChanged(leg, _)
            | Event::MediaStopped(leg, _) => self.leg(&leg.device, leg.leg),
            Event::DeviceInService(view)
            | Event::DeviceOutOfService(view, _)
            | Event::DeviceClosed(view, _) => sessions.iter().for_each(|id| self.device(*id, &view.name)),
            Event::ForwardChanged(name, _) | Event::AutoAcceptChanged(name, _) => {
                sessions.iter().for_each(|id| self.device(*id, name));
            }
            // Its legs say in which call they are.
            Event::Transferred { .. } => {}
        }
    }

    /// What the opening of a device tells the session that opens it.
    pub(in crate::node) fn opened(&mut self, session: SessionId, reply: &device_model::Reply) {
        if let device_model::Reply::Opened { device, legs } = reply {
            self.device(session, &device.name);
            legs.iter().for_each(|leg| self.leg(&device.name, leg.leg));
        }
    }
}

impl CtiManager {
    /// Everything is kept from now on; what is there already is said first. Whoever keeps it has nothing yet.
    pub(in crate::node) fn begin_keeping(&mut self, step: &Step<'_>) {
        self.keeping = Keeping { state: State::On, ..Keeping::default() };
        for (id, user, left) in self.applications.sessions.ended(step.now) {
            let at = millis(step.wall + left).saturating_sub(milliseconds(REMEMBER_ENDED));
            self.keeping.records.push(Record::Ended(id, Ended { user: user.clone(), at }));
        }
    }

    /// Everything is said, before the node has anything else to do.
    pub(in crate::node) fn keep_everything(&mut self) {
        for id in self.applications.everybody() {
            if self.turn_keeping(id) {
                self.look_at_devices(id);
            }
        }
    }

    /// The same in portions. What is not said yet is not kept.
    fn keep_everything_in_portions(&mut self) {
        let walk = |id| [Walk::Session(id), Walk::Open(id, None)];
        let walks: VecDeque<Walk> = self.applications.everybody().into_iter().flat_map(walk).collect();
        self.begin_walks(walks);
    }

    /// Looks at the first of them now.
    fn begin_walks(&mut self, walks: VecDeque<Walk>) {
        let (mut portion, mut rest) = (Portion::fresh(), Some(walks).filter(|walks| !walks.is_empty()));
        while let Some(walks) = rest.take_if(|_| !portion.is_used_up()) {
            rest = self.carry_on_keeping(walks, &mut portion);
        }
        if let Some(walks) = rest {
            self.add_task(Task::Keep(walks));
        }
    }

    /// Keeps the session from now on if it has a grace; what is there of it is said first.
    pub(in crate::node) fn keep_session(&mut self, id: SessionId) {
        if self.turn_keeping(id) && self.mirror.open_count(id) > 0 {
            self.begin_walks(VecDeque::from([Walk::Open(id, None)]));
        }
    }

    /// A plan changes what sessions have open, and takes some of it away. It is looked at in portions: until then what is
    /// kept is what was.
    pub(in crate::node) fn keep_what_changed(
        &mut self,
        lost: impl Iterator<Item = (SessionId, Arc<[DeviceName]>)>,
    ) {
        if !self.keeping.is_on() {
            return;
        }
        let open = self.mirror.opening_sessions().map(|id| Walk::Open(id, None));
        let walks: VecDeque<Walk> = lost.map(|(id, names)| Walk::Lost(id, names, 0)).chain(open).collect();
        self.begin_walks(walks);
    }

    /// One piece; what is left of it.
    pub(in crate::node) fn carry_on_keeping(
        &mut self,
        mut walks: VecDeque<Walk>,
        portion: &mut Portion,
    ) -> Option<VecDeque<Walk>> {
        let walk = walks.pop_front().filter(|_| self.keeping.is_on())?;
        let rest = match walk {
            Walk::Session(id) => {
                let said = self.applications.sessions.get(id).map_or(0, |session| session.logged().0);
                portion.work(WORK_OF_DEVICE + said / EVENTS_A_WORK);
                self.turn_keeping(id);
                None
            }
            Walk::Open(id, mut last) => {
                portion.work(DEVICES_AT_ONCE * WORK_OF_DEVICE);
                let mut over = false;
                for _ in 0..DEVICES_AT_ONCE {
                    let Some(name) = self.mirror.next_open(id, last.as_ref()).cloned() else {
                        over = true;
                        break;
                    };
                    self.look_at_device(id, &name);
                    last = Some(name);
                }
                (!over).then_some(Walk::Open(id, last))
            }
            Walk::Lost(id, names, from) => {
                portion.work(DEVICES_AT_ONCE * WORK_OF_DEVICE);
                let end = names.len().min(from + DEVICES_AT_ONCE);
                let piece = names.get(from..end).unwrap_or_default();
                piece.iter().for_each(|name| self.keeping.device(id, name));
                (end < names.len()).then_some(Walk::Lost(id, names, end))
            }
        };
        rest.into_iter().for_each(|walk| walks.push_front(walk));
        (!walks.is_empty()).then_some(walks)
    }

    /// Whether all that is to be kept is in the records said so far. For tests and simulations.
    pub(in crate::node) fn has_kept_all(&self) -> bool {
        !self.portions.has_to_keep() && self.applications.consequences.is_empty() && self.hearing.is_empty()
    }

    /// Keeps the session from now on if it has a grace, or keeps it no more; whether that is another thing than before.
    fn turn_keeping(&mut self, id: SessionId) -> bool {
        let on = self.keeping.is_on();
        let Some(mut session) = self.applications.sessions.get_mut(id) else { return false };
        let wanted = on && !session.config().grace.is_zero();
        let before = session.is_kept();
        if before != wanted {
            match wanted {
                true => session.begin_keeping(),
                false => session.end_keeping(),
            }
        }
        drop(session);
        self.keeping.session(id);
        if before && !wanted && on {
            self.keeping.records.push(Record::SessionGone(id));
        }
        before != wanted
    }

    /// What the session has open is to be kept, or no longer.
    fn look_at_devices(&mut self, id: SessionId) {
        let names: Vec<DeviceName> = self.mirror.open_devices(id).cloned().collect();
        names.iter().for_each(|name| self.look_at_device(id, name));
    }

    fn look_at_device(&mut self, id: SessionId, name: &DeviceName) {
        self.keeping.device(id, name);
        self.mirror.told_legs(name).for_each(|leg| self.keeping.leg(name, leg));
    }

    /// The session has ended: what is kept of it goes. The legs at its devices are looked at when these are let go.
    pub(in crate::node) fn keep_end(&mut self, step: &Step<'_>, session: &Session) {
        if !self.keeping.is_on() {
            return;
        }
        let id = session.id();
        if session.is_kept() {
            self.keeping.records.push(Record::SessionGone(id));
        }
        let ended = Ended { user: session.config().user.clone(), at: millis(step.wall) };
        self.keeping.records.push(Record::Ended(id, ended));
    }

    /// Whoever keeps the records can't any more.
    pub(in crate::node) fn store_lost(&mut self, step: &mut Step<'_>, reason: String) {
        self.keeping = Keeping { state: State::Suspended, ..Keeping::default() };
        for id in self.applications.everybody() {
            if let Some(mut session) = self.applications.sessions.get_mut(id) {
                session.end_keeping();
            }
        }
        let parameters = vec![("reason", reason)];
        self.alarm_condition(
            step,
            &alarms::SESSION_STORE_SUSPENDED,
            String::new(),
            alarms::AlarmState::Raised,
            parameters,
            &[],
        );
    }

    /// It can again, and has nothing yet.
    pub(in crate::node) fn store_ready(&mut self, step: &mut Step<'_>) {
        self.begin_keeping(step);
        self.keep_everything_in_portions();
        self.alarm_condition(
            step,
            &alarms::SESSION_STORE_SUSPENDED,
            String::new(),
            alarms::AlarmState::Cleared,
            Vec::new(),
            &[],
        );
    }

    /// Says what the step changed, before all else that the step says: frames tell of it.
    pub(in crate::node) fn say_records(&mut self, step: &mut Step<'_>, from: usize) {
        if !self.keeping.is_on() {
            return;
        }
        for id in std::mem::take(&mut self.keeping.sessions) {
            self.record_session(step, id);
        }
        for (id, name) in std::mem::take(&mut self.keeping.devices) {
            self.record_device(id, &name);
        }
        for leg in std::mem::take(&mut self.keeping.legs) {
            self.record_leg(leg);
        }
        if !self.keeping.records.is_empty() {
            let records = std::mem::take(&mut self.keeping.records);
            step.out.insert(from, Output::Persist(records));
        }
    }

    fn record_session(&mut self, step: &Step<'_>, id: SessionId) {
        let Some(mut session) = self.applications.sessions.get_mut(id) else { return };
        let changes = session.changes();
        if changes.is_empty() {
            return;
        }
        let head =
            changes.head.then(|| head((step.now, step.wall), &session, self.applications.providers.get(&id)));
        drop(session);
        self.keeping.records.extend(head.flatten().map(|head| Record::Session(id, head)));
        self.keeping.records.extend(records(id, changes));
    }

    fn record_device(&mut self, id: SessionId, name: &DeviceName) {
        let legs = self.keeping.kept_legs.range((name.clone(), LegId(0))..=(name.clone(), LegId(u64::MAX)));
        self.keeping.legs.extend(legs.cloned());
        if self.is_kept(id) {
            self.keeping.records.push(match self.kept_device(id, name) {
                Some(device) => Record::Device(id, name.clone(), device),
                None => Record::DeviceGone(id, name.clone()),
            });
        }
    }

    fn record_leg(&mut self, leg: (DeviceName, LegId)) {
        let id = leg.1;
        if let Some(kept) = self.kept_leg(&leg) {
            self.keeping.kept_legs.insert(leg);
            self.keeping.records.push(Record::Leg(id, kept));
        } else if self.keeping.kept_legs.remove(&leg) {
            self.keeping.records.push(Record::LegGone(id));
        }
    }

    fn is_kept(&self, id: SessionId) -> bool {
        self.applications.sessions.get(id).is_some_and(Session::is_kept)
    }

    /// What is kept of a device is what was told of it.
    fn kept_device(&self, id: SessionId, name: &DeviceName) -> Option<KeptDevice> {
        let view = self.mirror.told_device(name).filter(|_| self.mirror.is_open(id, name))?;
        Some(KeptDevice { media: self.mirror.media(name).map(Media::from), device: Device::from(view) })
    }

    /// What is kept of a leg is what was told of it.
    fn kept_leg(&self, (device, id): &(DeviceName, LegId)) -> Option<KeptLeg> {
        let (view, [input, output]) = self.mirror.told(device, *id)?;
        let kept = self.mirror.openers(device).iter().any(|session| self.is_kept(*session));
        kept.then(|| KeptLeg { leg: Leg::from(view), input, output })
    }

    /// All that is to be kept now: what the records said so far add up to. For tests and simulations.
    pub(in crate::node) fn kept(&self, now: Instant, wall: SystemTime) -> Kept {
        let mut kept = Kept { alive: millis(wall), ..Kept::default() };
        for session in self.applications.sessions.iter().filter(|session| session.is_kept()) {
            let id = session.id();
            let head = head((now, wall), session, self.applications.providers.get(&id));
            let said = head.into_iter().map(|head| Record::Session(id, head));
            said.chain(records(id, session.whole())).for_each(|record| kept.apply(record));
            for name in self.mirror.open_devices(id) {
                let device = self.kept_device(id, name).map(|d| Record::Device(id, name.clone(), d));
                device.into_iter().for_each(|record| kept.apply(record));
            }
        }
        for leg in &self.keeping.kept_legs {
            kept.legs.extend(self.kept_leg(leg).map(|kept| (leg.1, kept)));
        }
        for (id, user, left) in self.applications.sessions.ended(now) {
            let at = millis(wall + left).saturating_sub(milliseconds(REMEMBER_ENDED));
            kept.ended.insert((at, id), user.clone());
        }
        // Of who has less than a millisecond left nothing is kept.
        kept.forget_ended(millis(wall));
        kept
    }
}

fn head((now, wall): (Instant, SystemTime), session: &Session, provider: Option<&Provider>) -> Option<Head> {
    let (config, provider) = (session.config(), provider?);
    let wanted = EventType::ALL.iter().filter(|kind| config.subscription.wants(**kind));
    let wanted: Vec<String> = wanted.map(|kind| kind.name().to_owned()).collect();
    Some(Head {
        user: config.user.clone(),
        application: config.application.clone(),
        instance: config.instance.clone(),
        peer: provider.peer,
        tls: provider.transport == security::Transport::Tls,
        heartbeat_ms: milliseconds(config.heartbeat),
        grace_ms: milliseconds(config.grace),
        subscription: (wanted.len() < EventType::ALL.len()).then_some(wanted),
        held_until: session.held_until().map(|at| millis(wall + at.saturating_duration_since(now))),
    })
}

fn records(id: SessionId, changes: Changes) -> impl Iterator<Item = Record> {
    let Changes { head: _, first_seq, events, first_answer, answers } = changes;
    let first = first_seq.map(|first| Record::FirstEvent(id, first));
    let events = events.into_iter();
    let events = events.map(move |(seq, event)| Record::Event(id, seq, event.without_secrets()));
    let first_answer = first_answer.map(|first| Record::FirstAnswer(id, first));
    let answers = answers.into_iter();
    let answers = answers.map(move |(number, kept)| Record::Answer(id, number, Answer::of(&kept)));
    first.into_iter().chain(events).chain(first_answer).chain(answers)
}

fn milliseconds(duration: std::time::Duration) -> kept::Millis {
    kept::Millis::try_from(duration.as_millis()).unwrap_or(kept::Millis::MAX)
}
