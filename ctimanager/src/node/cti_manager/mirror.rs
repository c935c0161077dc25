//! The mirror: the devices that sessions of this CTIManager have open and the legs there, as CallManager's messages say that
//! they are (*now*), and as those who have them open were told last (*told*).
//!
//! A leg at a restricted phone or line is hidden: what happens to it changes what is now, and nobody is told. When a plan that
//! ends the restriction has reached the device, what was told is compared with what is, and the difference is told
//! ([`Mirror::reached`], decision 0006): the end of legs that were known and have ended, then each leg that is there, then which
//! of its streams stopped and began. Of a call that came and went meanwhile nothing is told.
//!
//! What was told of a leg is also what is kept of it (`persist_sessions`).

use super::CtiManager;
use crate::node::Step;
use device_model::media::{MediaTermination, Stream, StreamDirection};
use device_model::plan::DeviceKind;
use device_model::port::{Event, OutOfServiceReason};
use device_model::{
    CallControl, Cause, DeviceName, DeviceView, Dn, LegId, LegState, LegView, LineView, SessionId, WholeLeg,
};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// All devices that are open here.
#[derive(Debug, Default)]
pub(in crate::node) struct Mirror {
    devices: HashMap<DeviceName, Mirrored>,
    /// What each session has open: the openers of all devices, the other way round.
    open: BTreeMap<SessionId, BTreeSet<DeviceName>>,
    /// Where each leg is that `devices` have.
    places: HashMap<LegId, DeviceName>,
    /// What is to be taken out of these, a piece at a time.
    revoked: VecDeque<Revoked>,
}

/// Devices that a reload took from a session. They are not open to it any more, whatever the tables say until they are taken out.
#[derive(Debug)]
struct Revoked {
    session: SessionId,
    /// In order.
    devices: Arc<[DeviceName]>,
    /// The first that is not taken out yet.
    next: usize,
    /// Those after it that are, since somebody opened them again.
    early: BTreeSet<DeviceName>,
}

impl Revoked {
    fn has(&self, device: &DeviceName) -> bool {
        let rest = self.devices.get(self.next..).unwrap_or_default();
        rest.binary_search(device).is_ok() && !self.early.contains(device)
    }

    fn left(&self) -> usize {
        self.devices.len() - self.next - self.early.len()
    }
}

/// Those of the openers to whom the device is open still.
fn without_revoked(
    revoked: &VecDeque<Revoked>,
    openers: &Arc<[SessionId]>,
    device: &DeviceName,
) -> Arc<[SessionId]> {
    let is_open =
        |id: &SessionId| !revoked.iter().any(|revoked| revoked.session == *id && revoked.has(device));
    if openers.iter().all(is_open) {
        Arc::clone(openers)
    } else {
        openers.iter().copied().filter(is_open).collect()
    }
}

/// One of them. Somebody has it open.
#[derive(Debug, Default)]
struct Mirrored {
    openers: Arc<[SessionId]>,
    /// How its media ends; `None` at a phone.
    media: Option<Arc<MediaTermination>>,
    /// The device as it was told last: its service, its restrictions, the settings of its lines.
    device: Option<Box<DeviceView>>,
    legs: BTreeMap<LegId, Box<Leg>>,
    /// Legs that were known and have ended, in the order of their ends. Nobody was told.
    unheard: Vec<Unheard>,
}

/// What was known of a device that nobody has open any more.
#[derive(Debug)]
pub(in crate::node) struct Closed(#[allow(dead_code, reason = "held for its drop, elsewhere")] Mirrored);

/// A leg with its streams: input, output.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    view: LegView,
    streams: [Option<Stream>; 2],
}

#[derive(Debug)]
struct Leg {
    now: Seen,
    told: Told,
    /// Whether its state was ever told: the first that was heard of it may be something else, where something was missed.
    begun: bool,
}

/// Whether applications may hear of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    Shown,
    Hidden,
}

impl Visibility {
    fn when(hidden: bool) -> Self {
        if hidden { Visibility::Hidden } else { Visibility::Shown }
    }
}

/// What was told of a leg.
#[derive(Debug)]
enum Told {
    /// All of it.
    AsItIs,
    /// It is hidden, and began so: nothing.
    Nothing,
    /// It is hidden, and was known before.
    Before(Box<Seen>),
}

#[derive(Debug)]
struct Unheard {
    told: LegView,
    /// The streams that were told: input, output.
    streams: [bool; 2],
    end: LegView,
}

/// What those who have its device open are told of an event.
#[derive(Debug)]
pub(in crate::node) enum Heard {
    /// The event.
    AsItIs,
    /// Something else, in this order.
    Instead(Vec<Event>),
}

/// What is other than was told, and who is to hear it.
#[derive(Debug)]
pub(in crate::node) struct Difference {
    sessions: Arc<[SessionId]>,
    events: Vec<Event>,
}

const DIRECTIONS: [StreamDirection; 2] = [StreamDirection::Input, StreamDirection::Output];

impl Seen {
    /// It is so by an event.
    fn change(&mut self, event: &Event, view: &LegView) {
        let state = self.view.state;
        self.view.clone_from(view);
        if !matches!(event, Event::Leg(_)) {
            // That is told by its own event, and may have been missed.
            self.view.state = state;
        }
        let (direction, stream) = match event {
            Event::MediaStarted(_, stream) | Event::KeyChanged(_, stream) => {
                (stream.direction, Some(stream.clone()))
            }
            Event::MediaStopped(_, direction) => (*direction, None),
            Event::Leg(_)
            | Event::LegChanged(_)
            | Event::Digit(..)
            | Event::OpenChannel { .. }
            | Event::Transferred { .. }
            | Event::DeviceInService(_)
            | Event::DeviceOutOfService(..)
            | Event::DeviceClosed(..)
            | Event::ForwardChanged(..)
            | Event::AutoAcceptChanged(..) => return,
        };
        let [input, output] = &mut self.streams;
        *(if direction == StreamDirection::Input { input } else { output }) = stream;
    }

    fn runs(&self) -> [bool; 2] {
        self.streams.each_ref().map(Option::is_some)
    }

    fn known(&self) -> (&LegView, [bool; 2]) {
        (&self.view, self.runs())
    }

    /// It has ended, and nobody was told.
    fn ended(self, end: &LegView) -> Unheard {
        Unheard { streams: self.runs(), told: self.view, end: end.clone() }
    }
}

/// The end of these streams of a leg.
fn stops(leg: &LegView, streams: [bool; 2]) -> impl Iterator<Item = Event> + '_ {
    let running = streams.into_iter().zip(DIRECTIONS).filter(|(runs, _)| *runs);
    running.map(|(_, direction)| Event::MediaStopped(leg.clone(), direction))
}

impl Leg {
    fn begin(now: Seen, visibility: Visibility) -> Box<Self> {
        let told = match visibility {
            Visibility::Shown => Told::AsItIs,
            Visibility::Hidden => Told::Nothing,
        };
        Box::new(Self { now, told, begun: true })
    }

    /// Nothing more is told of it until it is told again as it is then.
    fn hide(&mut self) {
        if let Told::AsItIs = self.told {
            self.told = Told::Before(Box::new(self.now.clone()));
        }
    }

    /// Tells how it is now, with the streams that stopped and began.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let before = match std::mem::replace(&mut self.told, Told::AsItIs) {
            Told::AsItIs => return,
            Told::Nothing => [None, None],
            Told::Before(told) => told.streams,
        };
        let Seen { view, streams } = &self.now;
        events.push(Event::Leg(view.clone()));
        let changed = || {
            let both = before.iter().zip(streams).zip(DIRECTIONS);
            both.filter(|((was, is), _)| !Stream::is_same(was.as_ref(), is.as_ref()))
        };
        let stopped = changed().filter(|((was, _), _)| was.is_some());
        events.extend(stopped.map(|(_, direction)| Event::MediaStopped(view.clone(), direction)));
        for ((was, is), _) in before.iter().zip(streams).zip(DIRECTIONS) {
            let Some(stream) = is else { continue };
            if !Stream::is_same(was.as_ref(), is.as_ref()) {
                events.push(Event::MediaStarted(view.clone(), stream.clone()));
            } else if was.as_ref().is_some_and(|was| was.key != stream.key) {
                events.push(Event::KeyChanged(view.clone(), stream.clone()));
            }
        }
    }
}

impl Unheard {
    fn tell(self, events: &mut Vec<Event>) {
        events.extend(stops(&self.told, self.streams));
        events.push(Event::Leg(self.end));
    }
}

impl Mirrored {
    fn change(&mut self, event: &Event, view: &LegView, visibility: Visibility) -> Heard {
        let begin = || Leg::begin(Seen { view: view.clone(), streams: [None, None] }, visibility);
        let mut first = false;
        let leg = self.legs.entry(view.leg).or_insert_with(|| {
            first = true;
            begin()
        });
        let tells_state = matches!(event, Event::Leg(_));
        leg.begun = tells_state || leg.begun && !first;
        if visibility == Visibility::Hidden {
            leg.hide();
        }
        leg.now.change(event, view);
        match leg.told {
            Told::AsItIs => Heard::AsItIs,
            // It is told as it is when that is its turn.
            Told::Nothing | Told::Before(_) => Heard::Instead(Vec::new()),
        }
    }

    /// A leg ends. Who knew one that is hidden no more, because its device or line goes, hears that at once.
    fn end(&mut self, end: &LegView, visibility: Visibility) -> Heard {
        use Visibility::{Hidden, Shown};
        let leg = match (self.legs.remove(&end.leg), visibility) {
            (Some(leg), _) => leg,
            (None, Shown) => return Heard::AsItIs,
            (None, Hidden) => return Heard::Instead(Vec::new()),
        };
        let mut events = Vec::new();
        let Leg { now, told, begun: _ } = *leg;
        match (told, visibility) {
            (Told::AsItIs, Shown) if now.runs() == [false; 2] => return Heard::AsItIs,
            // That they stopped was missed.
            (Told::AsItIs, Shown) => {
                events.extend(stops(&now.view, now.runs()));
                events.push(Event::Leg(end.clone()));
            }
            (Told::Nothing, _) => {}
            (Told::Before(told), Shown) => {
                events.extend(stops(&now.view, told.runs()));
                events.push(Event::Leg(end.clone()));
            }
            (Told::Before(told), Hidden) => self.unheard.push(told.ended(end)),
            (Told::AsItIs, Hidden) => self.unheard.push(now.ended(end)),
        }
        Heard::Instead(events)
    }
}

/// The device itself is told of.
impl Mirrored {
    fn describe(&mut self, view: &DeviceView) {
        match &mut self.device {
            Some(told) => told.as_mut().clone_from(view),
            None => self.device = Some(Box::new(view.clone())),
        }
    }

    fn describe_line(&mut self, line: &LineView) {
        let lines = self.device.iter_mut().flat_map(|told| &mut told.lines);
        lines.filter(|told| told.dn == line.dn).for_each(|told| told.clone_from(line));
    }

    /// What is other of it than was told: that it is in service again; settings of lines, and that it is no longer.
    fn device_difference(&self, is: &DeviceView) -> (Option<Event>, Vec<Event>) {
        let Some(told) = &self.device else { return (None, Vec::new()) };
        let mut rest = Vec::new();
        for line in is.lines.iter().filter(|line| !is.restricted && !line.restricted) {
            let Some(told) = told.lines.iter().find(|told| told.dn == line.dn) else { continue };
            if told.forward_all != line.forward_all {
                rest.push(Event::ForwardChanged(is.name.clone(), line.clone()));
            }
            if told.auto_accept != line.auto_accept {
                rest.push(Event::AutoAcceptChanged(is.name.clone(), line.clone()));
            }
        }
        if told.in_service && !is.in_service {
            rest.push(Event::DeviceOutOfService(is.clone(), out_of_service(is)));
        }
        let back = (!told.in_service && is.in_service).then(|| Event::DeviceInService(is.clone()));
        (back, rest)
    }
}

/// All that is there, after something was missed.
impl Mirrored {
    /// The ends of what was known and is not there any more, then how each leg is now where that is not what was told.
    fn legs_difference(&mut self, is: &DeviceView, legs: Vec<WholeLeg>, events: &mut Vec<Event>) {
        let there: BTreeSet<LegId> = legs.iter().map(|whole| whole.leg.leg).collect();
        let gone: Vec<LegId> = self.legs.keys().copied().filter(|id| !there.contains(id)).collect();
        for id in gone {
            let Some(leg) = self.legs.get(&id) else { continue };
            let end = ended(&leg.now.view);
            let line = is.lines.iter().find(|line| line.dn == end.dn);
            let shut = is.restricted || line.is_some_and(|line| line.restricted);
            let hidden = is.kind == DeviceKind::Phone && shut && !matches!(leg.told, Told::AsItIs);
            match self.end(&end, Visibility::when(hidden)) {
                Heard::AsItIs => events.push(Event::Leg(end)),
                Heard::Instead(instead) => events.extend(instead),
            }
        }
        for WholeLeg { leg: view, streams, hidden } in legs {
            let (id, is, visibility) = (view.leg, Seen { view, streams }, Visibility::when(hidden));
            match self.legs.get_mut(&id) {
                None => {
                    let mut leg = Leg { now: is, told: Told::Nothing, begun: true };
                    if visibility == Visibility::Shown {
                        leg.tell(events);
                    }
                    self.legs.insert(id, Box::new(leg));
                }
                Some(leg) => leg.missed(is, visibility, events),
            }
        }
    }
}

impl Leg {
    /// It is so now, and some of what happened was not heard.
    fn missed(&mut self, is: Seen, visibility: Visibility, events: &mut Vec<Event>) {
        let hidden = visibility == Visibility::Hidden;
        let as_told = matches!(self.told, Told::AsItIs) && std::mem::replace(&mut self.begun, true);
        if as_told && !hidden && self.now == is {
            return;
        }
        let same_state = self.now.view.state == is.view.state;
        let same = self.now.view == is.view;
        self.hide();
        self.now = is;
        if hidden {
            return;
        }
        let from = events.len();
        self.tell(events);
        // Of one that was told all along the state is news only where it is another.
        if as_told && same {
            events.remove(from);
        } else if as_told && same_state {
            events.splice(from..=from, [Event::LegChanged(self.now.view.clone())]);
        }
    }
}

/// A leg that has ended, and nobody heard why.
fn ended(leg: &LegView) -> LegView {
    LegView { state: LegState::Disconnected, cause: Some(Cause::TEMPORARY_FAILURE), ..leg.clone() }
}

/// Why a device is out of service, where that was not heard.
fn out_of_service(device: &DeviceView) -> OutOfServiceReason {
    let shut = !device.lines.is_empty() && device.lines.iter().all(|line| line.restricted);
    match (device.restricted, shut) {
        (true, _) => OutOfServiceReason::DeviceRestricted,
        (false, true) => OutOfServiceReason::LineRestricted,
        (false, false) => OutOfServiceReason::DeviceUnregistered,
    }
}

/// A device that nobody has open any more, where why was not heard.
fn closed(device: &DeviceView) -> Event {
    let mut gone = device.clone();
    (gone.in_service, gone.node, gone.registered, gone.opened) = (false, None, false, false);
    Event::DeviceClosed(gone, OutOfServiceReason::DeviceUnregistered)
}

impl Mirror {
    /// A session has this device open from here on.
    pub(in crate::node) fn opened(
        &mut self,
        session: SessionId,
        device: &DeviceView,
        media: Option<Arc<MediaTermination>>,
        legs: Vec<WholeLeg>,
    ) {
        self.take_out_early(&device.name);
        let mirrored = self.devices.entry(device.name.clone()).or_default();
        if mirrored.device.is_none() {
            mirrored.describe(device);
        }
        mirrored.media = media;
        self.open.entry(session).or_default().insert(device.name.clone());
        if !mirrored.openers.contains(&session) {
            mirrored.openers = mirrored.openers.iter().copied().chain([session]).collect();
        }
        for WholeLeg { leg: view, streams, hidden } in legs {
            let id = view.leg;
            let begin = || Leg::begin(Seen { view, streams }, Visibility::when(hidden));
            mirrored.legs.entry(id).or_insert_with(begin);
            self.places.entry(id).or_insert_with(|| device.name.clone());
        }
    }

    /// The streams that run at a device, of legs that are not hidden.
    pub(in crate::node) fn running(&self, device: &DeviceName) -> Vec<(LegView, Stream)> {
        let legs = self.devices.get(device).into_iter().flat_map(|mirrored| mirrored.legs.values());
        let shown = legs.filter(|leg| matches!(leg.told, Told::AsItIs)).map(|leg| &leg.now);
        let streams = |seen: &'_ Seen| seen.streams.clone().into_iter().flatten();
        shown.flat_map(|seen| streams(seen).map(|stream| (seen.view.clone(), stream))).collect()
    }

    /// The same by the answer to who opened it, where it was not heard before.
    pub(in crate::node) fn opened_by_answer(
        &mut self,
        session: SessionId,
        device: &DeviceView,
        legs: &[LegView],
    ) {
        if !self.is_open(session, &device.name) {
            let whole = |leg: &LegView| WholeLeg { leg: leg.clone(), streams: [None, None], hidden: false };
            let media = self.devices.get(&device.name).and_then(|mirrored| mirrored.media.clone());
            self.opened(session, device, media, legs.iter().map(whole).collect());
        }
    }

    /// A plan has changed a device, which is so now, and its restrictions are told: that it is in service again.
    pub(in crate::node) fn announced(&mut self, device: &DeviceView) -> Option<Difference> {
        let mirrored = self.devices.get_mut(&device.name)?;
        let told = mirrored.device.as_mut()?;
        told.restricted = device.restricted;
        for told in &mut told.lines {
            let line = device.lines.iter().find(|line| line.dn == told.dn);
            told.restricted = line.map_or(told.restricted, |line| line.restricted);
        }
        if told.in_service || !device.in_service {
            return None;
        }
        told.in_service = true;
        let events = vec![Event::DeviceInService(device.clone())];
        Some(Difference { sessions: without_revoked(&self.revoked, &mirrored.openers, &device.name), events })
    }

    /// All that follows from a plan is carried out at a device: its settings, and that it is out of service.
    pub(in crate::node) fn settled(&mut self, device: &DeviceView) -> Option<Difference> {
        let mirrored = self.devices.get_mut(&device.name)?;
        let (back, mut events) = mirrored.device_difference(device);
        events.extend(back);
        mirrored.describe(device);
        Some(Difference { sessions: without_revoked(&self.revoked, &mirrored.openers, &device.name), events })
    }

    /// The device as it was told last.
    pub(in crate::node) fn told_device(&self, device: &DeviceName) -> Option<&DeviceView> {
        self.devices.get(device)?.device.as_deref()
    }

    /// These have the device open, as was missed; what those are told who have not.
    pub(in crate::node) fn has_now(
        &mut self,
        device: &DeviceView,
        openers: Arc<[SessionId]>,
        media: Option<Arc<MediaTermination>>,
    ) -> Option<Difference> {
        self.take_out_early(&device.name);
        let mirrored = self.devices.entry(device.name.clone()).or_default();
        let lost = mirrored.openers.iter().copied().filter(|session| !openers.contains(session));
        let sessions: Arc<[SessionId]> = lost.collect();
        sessions.iter().for_each(|session| forget_open(&mut self.open, *session, &device.name));
        for session in openers.iter() {
            self.open.entry(*session).or_default().insert(device.name.clone());
        }
        (mirrored.openers, mirrored.media) = (openers, media);
        (!sessions.is_empty()).then(|| Difference { sessions, events: vec![closed(device)] })
    }

    /// A device with all that is there, after something was missed.
    pub(in crate::node) fn whole(&mut self, device: DeviceView, legs: Vec<WholeLeg>) -> Option<Difference> {
        let mirrored = self.devices.get_mut(&device.name)?;
        let (back, rest) = mirrored.device_difference(&device);
        let mut events: Vec<Event> = back.into_iter().collect();
        mirrored.legs.keys().for_each(|leg| drop(self.places.remove(leg)));
        mirrored.legs_difference(&device, legs, &mut events);
        self.places.extend(mirrored.legs.keys().map(|leg| (*leg, device.name.clone())));
        let sessions = Arc::clone(&mirrored.openers);
        mirrored.describe(&device);
        let unheard = self.reached(&device).map(|difference| difference.events);
        let unheard = unheard.unwrap_or_default();
        let events = unheard.into_iter().chain(events).chain(rest).collect();
        Some(Difference { sessions, events })
    }

    /// The devices that are not among these, in order.
    pub(in crate::node) fn others(&self, named: &BTreeSet<DeviceName>) -> BTreeSet<DeviceName> {
        self.devices.keys().filter(|name| !named.contains(*name)).cloned().collect()
    }

    /// A device is open to nobody any more, as was missed.
    pub(in crate::node) fn gone(&mut self, device: &DeviceName) -> Option<Difference> {
        self.take_out_early(device);
        let mut mirrored = self.devices.remove(device)?;
        mirrored.openers.iter().for_each(|session| forget_open(&mut self.open, *session, device));
        mirrored.legs.keys().for_each(|leg| drop(self.places.remove(leg)));
        let mut events = Vec::new();
        std::mem::take(&mut mirrored.unheard).into_iter().for_each(|ended| ended.tell(&mut events));
        if let Some(device) = mirrored.device.take() {
            mirrored.legs_difference(&device, Vec::new(), &mut events);
            std::mem::take(&mut mirrored.unheard).into_iter().for_each(|ended| ended.tell(&mut events));
            events.push(closed(&device));
        }
        Some(Difference { sessions: mirrored.openers, events })
    }

    /// A leg of an earlier life of the node, as these sessions know it: it ended with the process. What they are told now.
    pub(in crate::node) fn ended_before(
        &mut self,
        sessions: Arc<[SessionId]>,
        told: LegView,
        streams: [bool; 2],
    ) -> Option<Difference> {
        let device = told.device.clone();
        let end = ended(&told);
        let mirrored = self.devices.entry(device.clone()).or_default();
        mirrored.openers = sessions;
        mirrored.unheard.push(Unheard { told, streams, end });
        let difference = self.leaves(&device);
        self.devices.remove(&device);
        difference
    }

    /// A reload takes these from a session: in this moment; the tables are brought up to date by [`Mirror::take_out`].
    pub(in crate::node) fn revoke(&mut self, session: SessionId, devices: Arc<[DeviceName]>) {
        self.revoked.push_back(Revoked { session, devices, next: 0, early: BTreeSet::new() });
    }

    /// Takes the next of the revoked devices out of the tables. What nobody has open is returned: to drop it takes time,
    /// elsewhere. `None` when all are.
    pub(in crate::node) fn take_out(&mut self, most: usize) -> Option<Vec<Closed>> {
        let revoked = self.revoked.front_mut()?;
        let (session, from) = (revoked.session, revoked.next);
        revoked.next = revoked.devices.len().min(from + most);
        let piece = revoked.devices.get(from..revoked.next).unwrap_or_default();
        let piece: Vec<DeviceName> =
            piece.iter().filter(|device| !revoked.early.remove(*device)).cloned().collect();
        if revoked.next == revoked.devices.len() {
            self.revoked.pop_front();
        }
        Some(piece.iter().filter_map(|device| self.close(session, device)).map(Closed).collect())
    }

    /// One of them before the others.
    fn take_out_early(&mut self, device: &DeviceName) {
        let mut sessions = Vec::new();
        for revoked in self.revoked.iter_mut().filter(|revoked| revoked.has(device)) {
            revoked.early.insert(device.clone());
            sessions.push(revoked.session);
        }
        sessions.into_iter().for_each(|session| self.closed(session, device));
    }

    /// A session has it open no more.
    pub(in crate::node) fn closed(&mut self, session: SessionId, device: &DeviceName) {
        drop(self.close(session, device));
    }

    fn close(&mut self, session: SessionId, device: &DeviceName) -> Option<Mirrored> {
        let mirrored = self.devices.get_mut(device)?;
        if mirrored.openers.contains(&session) {
            mirrored.openers = mirrored.openers.iter().copied().filter(|opener| *opener != session).collect();
            forget_open(&mut self.open, session, device);
        }
        if !mirrored.openers.is_empty() {
            return None;
        }
        mirrored.legs.keys().for_each(|leg| drop(self.places.remove(leg)));
        self.devices.remove(device)
    }

    /// Nothing more is told of these legs for now.
    pub(in crate::node) fn hide(&mut self, device: &DeviceName, legs: &[LegId]) {
        let Some(mirrored) = self.devices.get_mut(device) else { return };
        for id in legs {
            if let Some(leg) = mirrored.legs.get_mut(id) {
                leg.hide();
            }
        }
    }

    /// An event that is told to those who have the device open.
    pub(in crate::node) fn event(&mut self, event: &Event) -> Heard {
        self.change(event, Visibility::Shown)
    }

    /// An event that is hidden from them.
    pub(in crate::node) fn hidden(&mut self, event: &Event) {
        self.change(event, Visibility::Hidden);
    }

    fn change(&mut self, event: &Event, visibility: Visibility) -> Heard {
        self.describe(event);
        let found = leg_of(event).and_then(|leg| Some((leg, self.devices.get_mut(&leg.device)?)));
        match found {
            None => Heard::AsItIs,
            Some((leg, device)) if leg.state == LegState::Disconnected => {
                self.places.remove(&leg.leg);
                device.end(leg, visibility)
            }
            Some((leg, device)) => {
                self.places.entry(leg.leg).or_insert_with(|| leg.device.clone());
                device.change(event, leg, visibility)
            }
        }
    }

    /// What an event tells of a device itself.
    fn describe(&mut self, event: &Event) {
        match event {
            Event::DeviceInService(view) | Event::DeviceOutOfService(view, _) => {
                self.devices.get_mut(&view.name).into_iter().for_each(|device| device.describe(view));
            }
            Event::ForwardChanged(name, line) | Event::AutoAcceptChanged(name, line) => {
                self.devices.get_mut(name).into_iter().for_each(|device| device.describe_line(line));
            }
            Event::Leg(_)
            | Event::LegChanged(_)
            | Event::Digit(..)
            | Event::OpenChannel { .. }
            | Event::MediaStarted(..)
            | Event::KeyChanged(..)
            | Event::MediaStopped(..)
            | Event::Transferred { .. }
            | Event::DeviceClosed(..) => {}
        }
    }

    /// The plan in force has reached a device, which is so now: what was hidden there and no longer is.
    pub(in crate::node) fn reached(&mut self, device: &DeviceView) -> Option<Difference> {
        let mirrored = self.devices.get_mut(&device.name)?;
        let line = |dn: &Dn| device.lines.iter().find(|line| line.dn == *dn);
        let hides = |leg: &LegView| device.restricted || line(&leg.dn).is_some_and(|line| line.restricted);
        let mut events = Vec::new();
        for ended in mirrored.unheard.extract_if(.., |leg| !hides(&leg.end)) {
            ended.tell(&mut events);
        }
        let back = |leg: &LegView| line(&leg.dn).is_some() && !hides(leg);
        let back = mirrored.legs.values_mut().filter(|leg| back(&leg.now.view));
        back.for_each(|leg| leg.tell(&mut events));
        Some(Difference { sessions: without_revoked(&self.revoked, &mirrored.openers, &device.name), events })
    }

    /// A device goes: the ends that nobody was told.
    pub(in crate::node) fn leaves(&mut self, device: &DeviceName) -> Option<Difference> {
        let mirrored = self.devices.get_mut(device)?;
        let mut events = Vec::new();
        std::mem::take(&mut mirrored.unheard).into_iter().for_each(|ended| ended.tell(&mut events));
        Some(Difference { sessions: without_revoked(&self.revoked, &mirrored.openers, device), events })
    }

    /// Whether it shows what is, where all was heard and nothing is under way: for tests and simulations.
    pub(in crate::node) fn check(&self, devices: &CallControl) -> Result<(), String> {
        for name in devices.opening_sessions().flat_map(|session| devices.open_devices(session)) {
            let (is, openers) = (devices.openers(name), self.openers(name));
            if is != &*openers {
                return Err(format!("{name} is open to {is:?}, and the mirror says {openers:?}"));
            }
            let there = devices.legs_of_device(name);
            let now = self.devices.get(name).map(|mirrored| &mirrored.legs).into_iter().flatten();
            let now: Vec<_> =
                now.map(|(_, leg)| leg.now.known()).map(|(leg, runs)| (leg.leg, leg.state, runs)).collect();
            let is: Vec<_> = there.iter().map(|leg| (leg.leg, leg.state, devices.streams(leg.leg))).collect();
            if is != now {
                return Err(format!("at {name} there are {is:?}, and the mirror says {now:?}"));
            }
        }
        self.check_indexes()
    }

    /// What is known the other way round is what is known.
    fn check_indexes(&self) -> Result<(), String> {
        let open: BTreeSet<_> =
            self.open.iter().flat_map(|(id, names)| names.iter().map(move |name| (*id, name))).collect();
        let openers =
            self.devices.iter().flat_map(|(name, device)| device.openers.iter().map(move |id| (*id, name)));
        if open != openers.collect() || self.open.values().any(BTreeSet::is_empty) {
            return Err(format!("by session these are open: {open:?}, and by device others"));
        }
        let legs: BTreeMap<_, _> = self
            .devices
            .iter()
            .flat_map(|(name, device)| device.legs.keys().map(move |leg| (leg, name)))
            .collect();
        if legs != self.places.iter().collect() {
            return Err(format!("the legs are {legs:?}, and by their ids {:?}", self.places));
        }
        Ok(())
    }

    /// Whether a session has a device open, by what was told so far.
    pub(in crate::node) fn is_open(&self, session: SessionId, device: &DeviceName) -> bool {
        let openers = self.devices.get(device).map(|mirrored| &mirrored.openers);
        openers.is_some_and(|openers| openers.contains(&session)) && !self.is_revoked(session, device)
    }

    fn is_revoked(&self, session: SessionId, device: &DeviceName) -> bool {
        self.revoked.iter().any(|revoked| revoked.session == session && revoked.has(device))
    }

    /// Who has a device open.
    pub(in crate::node) fn openers(&self, device: &DeviceName) -> Arc<[SessionId]> {
        let mirrored = self.devices.get(device);
        mirrored
            .map_or_else(Arc::default, |mirrored| without_revoked(&self.revoked, &mirrored.openers, device))
    }

    /// The devices that a session has open, in order.
    pub(in crate::node) fn open_devices(&self, session: SessionId) -> impl Iterator<Item = &DeviceName> {
        let open = self.open.get(&session).into_iter().flatten();
        open.filter(move |device| !self.is_revoked(session, device))
    }

    /// The first of them after `last`, by name.
    pub(in crate::node) fn next_open(
        &self,
        session: SessionId,
        last: Option<&DeviceName>,
    ) -> Option<&DeviceName> {
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut open = self.open.get(&session)?.range::<DeviceName, _>((after, Bound::Unbounded));
        open.find(|device| !self.is_revoked(session, device))
    }

    /// How many there are.
    pub(in crate::node) fn open_count(&self, session: SessionId) -> usize {
        let left = self.revoked.iter().filter(|revoked| revoked.session == session).map(Revoked::left);
        self.open.get(&session).map_or(0, BTreeSet::len).saturating_sub(left.sum())
    }

    /// The sessions that have a device open, in order.
    pub(in crate::node) fn opening_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.open.keys().copied()
    }

    /// Where a leg is that was heard of.
    pub(in crate::node) fn device_of_leg(&self, leg: LegId) -> Option<&DeviceName> {
        self.places.get(&leg)
    }

    /// How a device's media ends; `None` at a phone.
    pub(in crate::node) fn media(&self, device: &DeviceName) -> Option<&MediaTermination> {
        self.devices.get(device)?.media.as_deref()
    }

    /// How many legs there are at a device.
    pub(in crate::node) fn leg_count(&self, device: &DeviceName) -> usize {
        self.devices.get(device).map_or(0, |mirrored| mirrored.legs.len())
    }

    /// The legs at a device that were told, those that have ended and of which that was not told last.
    pub(in crate::node) fn told_legs(&self, device: &DeviceName) -> impl Iterator<Item = LegId> {
        let mirrored = self.devices.get(device).into_iter();
        mirrored.flat_map(|mirrored| {
            let there = mirrored.legs.iter().filter(|(_, leg)| !matches!(leg.told, Told::Nothing));
            there.map(|(id, _)| *id).chain(mirrored.unheard.iter().map(|leg| leg.end.leg))
        })
    }

    /// A leg and which of its streams run (input, output), as they were told last.
    pub(in crate::node) fn told(&self, device: &DeviceName, leg: LegId) -> Option<(&LegView, [bool; 2])> {
        let mirrored = self.devices.get(device)?;
        match mirrored.legs.get(&leg).map(|leg| (&leg.told, leg)) {
            Some((Told::AsItIs, leg)) => Some(leg.now.known()),
            Some((Told::Nothing, _)) => None,
            Some((Told::Before(told), _)) => Some(told.known()),
            None => {
                let ended = mirrored.unheard.iter().find(|ended| ended.end.leg == leg);
                ended.map(|ended| (&ended.told, ended.streams))
            }
        }
    }
}

fn forget_open(
    open: &mut BTreeMap<SessionId, BTreeSet<DeviceName>>,
    session: SessionId,
    device: &DeviceName,
) {
    if let Entry::Occupied(mut devices) = open.entry(session) {
        devices.get_mut().remove(device);
        if devices.get().is_empty() {
            devices.remove();
        }
    }
}

/// The leg that an event is about.
fn leg_of(event: &Event) -> Option<&LegView> {
    match event {
        Event::Leg(leg)
        | Event::LegChanged(leg)
        | Event::Digit(leg, _)
        | Event::OpenChannel { leg, .. }
        | Event::MediaStarted(leg, _)
        | Event::KeyChanged(leg, _)
        | Event::MediaStopped(leg, _) => Some(leg),
        // Which legs are in which call now was told of each.
        Event::Transferred { .. }
        | Event::DeviceInService(_)
        | Event::DeviceOutOfService(..)
        | Event::DeviceClosed(..)
        | Event::ForwardChanged(..)
        | Event::AutoAcceptChanged(..) => None,
    }
}

impl CtiManager {
    /// CallManager tells these sessions an event.
    pub(in crate::node) fn heard(&mut self, step: &mut Step<'_>, sessions: &[SessionId], event: &Event) {
        self.applications.owners.heard(event);
        let closed = if let Event::DeviceClosed(device, _) = event { Some(&device.name) } else { None };
        if let Some(device) = closed {
            let unheard = self.mirror.leaves(device);
            self.tell_difference(step, unheard);
        }
        match self.mirror.event(event) {
            Heard::AsItIs => self.tell_opened(step, sessions, event),
            Heard::Instead(events) => {
                events.iter().for_each(|event| self.tell_opened(step, sessions, event));
            }
        }
        if let Some(device) = closed {
            sessions.iter().for_each(|session| self.mirror.closed(*session, device));
        }
    }

    /// Tells those who have a device open how it is now.
    pub(in crate::node) fn tell_difference(&mut self, step: &Step<'_>, difference: Option<Difference>) {
        let Some(Difference { sessions, events }) = difference else { return };
        events.iter().for_each(|event| self.tell_opened(step, &sessions, event));
    }

    fn tell_opened(&mut self, step: &Step<'_>, sessions: &[SessionId], event: &Event) {
        self.keeping.event(sessions, event);
        match event {
            Event::MediaStarted(leg, stream) => {
                self.tell_event(step, sessions, event.into());
                self.tell_key(step, sessions, leg, stream);
            }
            Event::KeyChanged(leg, stream) => self.tell_key(step, sessions, leg, stream),
            Event::Leg(_)
            | Event::LegChanged(_)
            | Event::Digit(..)
            | Event::OpenChannel { .. }
            | Event::MediaStopped(..)
            | Event::Transferred { .. }
            | Event::DeviceInService(_)
            | Event::DeviceOutOfService(..)
            | Event::DeviceClosed(..)
            | Event::ForwardChanged(..)
            | Event::AutoAcceptChanged(..) => self.tell_event(step, sessions, event.into()),
        }
    }
}

#[cfg(test)]
mod tests;
