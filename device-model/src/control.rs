//! The machine's state, its one entrance, and what others may ask of it.

use crate::call::{Attempts, Call, Conversation};
use crate::departing::Departing;
use crate::devices::{Device, Number, Registration};
use crate::dialling::{self, Trunk};
use crate::end::{End, Ends};
use crate::holds::Holds;
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, RequestToken, SessionId, TrunkName};
use crate::leg::{At, Leg};
use crate::media::{Description, MediaTermination};
use crate::operations::{Operation, OperationId};
use crate::plan::{Identity, Plan};
use crate::port::{EndCommand, Event, Input, Output, Refusal, RefusalKind, Reply};
use crate::routing::Patterns;
use crate::settling::Settling;
use crate::signals::NewCall;
use crate::spaces::Spaces;
use crate::switch::PreparedPlan;
use crate::table::{Contradictions, Table};
use crate::timers::{Timer, Timers};
use crate::view::{DeviceView, LegState, LegView, Party, Security};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pure machine of a node's devices, lines, calls and legs.
#[derive(Debug)]
pub struct CallControl {
    pub(crate) identity: Identity,
    pub(crate) plan: Arc<Plan>,
    pub(crate) devices: BTreeMap<DeviceName, Device>,
    pub(crate) numbers: HashMap<Dn, Number>,
    pub(crate) patterns: Patterns,
    pub(crate) spaces: Spaces,
    /// Those of the plan, and those before that have calls still.
    pub(crate) trunks: BTreeMap<TrunkName, Trunk>,
    pub(crate) calls: Table<CallId, Call>,
    pub(crate) legs: Table<LegId, Leg>,
    /// What is at the far sides of the legs.
    pub(crate) ends: Ends,
    /// Destinations that are being tried.
    pub(crate) attempts: Attempts,
    pub(crate) last_attempt: u64,
    /// What was asked and is not answered yet.
    pub(crate) operations: Table<OperationId, Operation>,
    pub(crate) last_operation: u64,
    /// What each session has opened; devices of an earlier plan are struck when they are settled.
    pub(crate) sessions: HashMap<SessionId, BTreeSet<DeviceName>>,
    pub(crate) holds: Holds,
    /// Numbers whose Forward All applications have set.
    pub(crate) forwarded: HashMap<Dn, Option<Dn>>,
    pub(crate) settling: Settling,
    pub(crate) departing: Departing,
    /// Phones that are registered, counted.
    pub(crate) registered: usize,
    pub(crate) timers: Timers,
    pub(crate) next_id: u64,
    pub(crate) no_data: Arc<BTreeMap<String, String>>,
    /// How often tables contradicted each other since the start.
    pub(crate) contradicted: u64,
    /// Those of the step that is being taken, beside the tables' own.
    pub(crate) contradictions: Contradictions,
    /// The time of the step that is being taken.
    pub(crate) now: Option<Instant>,
    /// What the step has said so far.
    pub(crate) out: Vec<Output>,
}

/// How much there is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Legs, those at trunks included.
    pub legs: usize,
    /// Calls.
    pub calls: usize,
    /// Devices that at least one session has open.
    pub open_devices: u32,
    /// Phones that are registered.
    pub registered_phones: usize,
    /// Mistakes of the program that were survived since the start ([`Output::Contradiction`]).
    pub contradictions: u64,
}

/// Timers that run in one step.
const TIMERS_AT_ONCE: usize = 16;

/// Ids keep 40 bits for the counter: a trillion of them in the life of an incarnation.
const COUNTER_BITS: u32 = 40;

impl CallControl {
    /// A machine with this plan and nothing going on.
    #[must_use]
    pub fn new(identity: Identity, plan: Arc<Plan>) -> Self {
        let PreparedPlan { plan, devices, numbers, patterns, spaces, .. } = PreparedPlan::first(&plan);
        let mut trunks = BTreeMap::new();
        dialling::succeed(&mut trunks, &plan.trunks);
        Self {
            identity,
            plan,
            devices,
            numbers,
            patterns,
            spaces,
            trunks,
            calls: Table::new("a call is not there"),
            legs: Table::new("a leg is not there"),
            ends: Table::new("an end is not there"),
            attempts: Table::new("an attempt is not there"),
            last_attempt: 0,
            operations: Table::new("an operation is not there"),
            last_operation: 0,
            contradicted: 0,
            contradictions: Contradictions::default(),
            sessions: HashMap::new(),
            holds: Holds::default(),
            forwarded: HashMap::new(),
            settling: Settling::default(),
            departing: Departing::default(),
            registered: 0,
            timers: Timers::default(),
            next_id: 0,
            no_data: Arc::default(),
            now: None,
            out: Vec::new(),
        }
    }

    /// One step: something happened at `now`; what follows is appended to `out`, in the order in which it is to be done.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        self.now = Some(now);
        std::mem::swap(&mut self.out, out);
        self.depart_concerned(&input);
        self.settle_concerned(&input);
        match input {
            Input::Configure { plan, revoked } => self.configure(plan, &revoked),
            Input::Settle { legs } => self.settle_next(legs),
            Input::SettleDevice(_) => {}
            Input::Depart { devices, legs } => self.depart(devices, legs),
            Input::Registered(device) => self.registered(&device, Registration::Present),
            Input::Unregistered(device) => self.registered(&device, Registration::Absent),
            Input::IncomingCall { end, origin, dialled, calling, diverted, offer, hops } => {
                self.incoming_call(NewCall { end, origin, dialled, calling, diverted, offer, hops })
            }
            Input::Signal(end, signal) => self.signal(end, signal),
            Input::Request { session, token, request } => self.request(session, token, request),
            Input::SessionEnded(session) => self.session_ended(session),
            Input::Revoked { session, device } => self.release_hold(session, &device),
            Input::Restored { session, device, media } => self.restore_hold(session, &device, media),
            Input::Shutdown => self.shutdown(),
            Input::Timeout => {
                // The next ones are due at once; others have their turn in between.
                for _ in 0..TIMERS_AT_ONCE {
                    let Some(timer) = self.timers.pop(now) else { break };
                    self.settle_before(&timer);
                    self.timeout(timer);
                }
            }
        }
        self.say_contradictions();
        std::mem::swap(&mut self.out, out);
    }

    fn say_contradictions(&mut self) {
        let found = [
            self.contradictions.take(),
            self.legs.take_contradiction(),
            self.calls.take_contradiction(),
            self.ends.take_contradiction(),
            self.attempts.take_contradiction(),
            self.operations.take_contradiction(),
        ];
        for found in found.into_iter().flatten() {
            self.contradicted += u64::from(found.times);
            self.out.push(Output::Contradiction(found));
        }
    }

    /// When to call [`CallControl::handle`] with [`Input::Timeout`] at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    /// An id for an end that begins at the signalling: the incarnation in the high 24 bits, then a counter.
    pub fn new_end_id(&mut self) -> EndId {
        EndId(self.new_id())
    }

    /// An id for a leg. The end that begins with it has the same number.
    pub(crate) fn new_leg(&mut self) -> LegId {
        LegId(self.new_id())
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        (u64::from(self.identity.incarnation) << COUNTER_BITS) | self.next_id
    }

    /// A device as it is now.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> Option<DeviceView> {
        self.devices.get(name).map(|device| self.device_view(device))
    }

    /// All devices' names, in order.
    pub fn device_names(&self) -> impl Iterator<Item = &DeviceName> {
        self.devices.keys()
    }

    /// The first device from there on, by name.
    #[must_use]
    pub fn first_device(&self, from: &Bound<DeviceName>) -> Option<&DeviceName> {
        let range = (from.as_ref(), Bound::Unbounded);
        self.devices.range::<DeviceName, _>(range).next().map(|(name, _)| name)
    }

    /// The legs at a device, oldest first.
    #[must_use]
    pub fn legs_of_device(&self, name: &DeviceName) -> Vec<LegView> {
        let Some(device) = self.devices.get(name) else { return Vec::new() };
        let legs = device.legs.iter().filter_map(|id| self.leg(*id));
        // Calls that are about to end because they may not stay are nobody's any more.
        legs.filter(|leg| self.is_clear() || !device.loses(&leg.dn)).collect()
    }

    /// How many legs are at a device.
    #[must_use]
    pub fn leg_count(&self, name: &DeviceName) -> usize {
        self.devices.get(name).map_or(0, |device| device.legs.len())
    }

    /// The ids of the legs at a device, oldest first.
    pub fn legs_at(&self, name: &DeviceName) -> impl Iterator<Item = LegId> {
        self.devices.get(name).into_iter().flat_map(|device| device.legs.iter().copied())
    }

    /// A leg as it is now. A trunk's leg has the trunk's name for a device.
    #[must_use]
    pub fn leg(&self, id: LegId) -> Option<LegView> {
        self.legs.get(id).and_then(|leg| self.leg_view(leg))
    }

    /// Where a leg is; `None` for trunks.
    #[must_use]
    pub fn device_of_leg(&self, id: LegId) -> Option<&DeviceName> {
        self.legs.get(id).and_then(|leg| leg.at.line()).map(|(device, _)| device)
    }

    /// The leg whose end this is.
    #[must_use]
    pub fn leg_of_end(&self, end: EndId) -> Option<LegId> {
        self.ends.get(end).and_then(End::leg)
    }

    /// What is at the far side of a leg; `None` also while another appearance of its line has the call.
    #[must_use]
    pub fn end_of_leg(&self, leg: LegId) -> Option<EndId> {
        self.legs.get(leg)?.end
    }

    /// All ends of the call that an end belongs to, itself among them.
    pub fn ends_beside(&self, end: EndId) -> impl Iterator<Item = EndId> {
        let leg = self.leg_of_end(end).and_then(|leg| self.legs.known(leg));
        let legs =
            leg.and_then(|leg| self.calls.known(leg.call)).map(|call| call.legs(&self.attempts, &self.ends));
        legs.into_iter().flatten().filter_map(|leg| self.end_of_leg(leg))
    }

    /// The ids of all calls, in no particular order.
    pub fn call_ids(&self) -> impl Iterator<Item = CallId> {
        self.calls.values().map(|call| call.id)
    }

    /// The legs of a call; none when it has ended.
    #[must_use]
    pub fn legs_of_call(&self, call: CallId) -> Vec<LegView> {
        let legs = self.calls.get(call).map(|call| call.legs(&self.attempts, &self.ends)).unwrap_or_default();
        legs.iter().filter_map(|leg| self.leg(*leg)).collect()
    }

    /// All calls with all their legs, in no particular order.
    pub fn calls(&self) -> impl Iterator<Item = (CallId, Vec<LegView>)> + '_ {
        self.calls.values().map(|call| {
            (call.id, call.legs(&self.attempts, &self.ends).iter().filter_map(|leg| self.leg(*leg)).collect())
        })
    }

    /// Whether the session has the device open.
    #[must_use]
    pub fn is_open(&self, session: SessionId, device: &DeviceName) -> bool {
        self.devices.get(device).is_some_and(|device| device.openers.contains(&session))
    }

    /// The sessions that have the device open.
    #[must_use]
    pub fn openers(&self, device: &DeviceName) -> &[SessionId] {
        self.devices.get(device).map_or(&[], |device| &device.openers)
    }

    /// How the device's media ends, while an application has it open.
    #[must_use]
    pub fn media(&self, device: &DeviceName) -> Option<&MediaTermination> {
        self.devices.get(device)?.media.as_deref()
    }

    /// The streams of a leg that run: input, output.
    #[must_use]
    pub fn streams(&self, leg: LegId) -> [bool; 2] {
        self.legs.get(leg).map_or([false; 2], |leg| leg.running.each_ref().map(Option::is_some))
    }

    /// The devices that a session has open, in order.
    pub fn open_devices(&self, session: SessionId) -> impl Iterator<Item = &DeviceName> {
        let opened = self.sessions.get(&session).into_iter().flatten();
        opened.filter(move |name| self.unsettled().is_none() || self.is_open(session, name))
    }

    /// The first device after `last`, by name, that a session has opened: it may have lost it by a new plan, and not have
    /// been told so.
    #[must_use]
    pub fn next_opened(&self, session: SessionId, last: Option<&DeviceName>) -> Option<&DeviceName> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions.get(&session)?.range::<DeviceName, _>((from, Bound::Unbounded)).next()
    }

    /// The first device after `last`, by name, that a session has open.
    #[must_use]
    pub fn next_open_device(&self, session: SessionId, last: Option<&DeviceName>) -> Option<&DeviceName> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.sessions.get(&session)?.range::<DeviceName, _>((from, Bound::Unbounded));
        names.into_iter().find(|name| self.is_open(session, name))
    }

    /// How many devices a session has open.
    #[must_use]
    pub fn open_count(&self, session: SessionId) -> u32 {
        self.holds.of(session)
    }

    /// The sessions that have a device open, each once.
    pub fn opening_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            legs: self.legs.len(),
            calls: self.calls.len(),
            open_devices: self.holds.devices(),
            registered_phones: self.registered,
            contradictions: self.contradicted,
        }
    }

    /// Whether nothing goes on: no call, no leg, no timer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.calls.is_empty() && self.legs.is_empty() && self.timers.next_timeout().is_none()
    }

    pub(crate) fn leg_view(&self, leg: &Leg) -> Option<LegView> {
        let call = self.calls.known(leg.call)?;
        let (device, dn) = match &leg.at {
            At::Phone { device, dn } | At::Application { device, dn } => (device.clone(), dn.clone()),
            At::Trunk { trunk, number } => (DeviceName::from(trunk.as_str()), number.clone()),
        };
        let peer = match leg.end {
            Some(end) => {
                let peer = call.peer_of_end(end).and_then(|peer| self.ends.known(peer));
                peer.and_then(End::leg)
            }
            // Whom the appearance that it watches talks to.
            None => (!call.links().is_empty()).then_some(call.anchor),
        };
        let peer = peer.and_then(|peer| self.legs.known(peer));
        let end = |leg: &Leg| leg.end.and_then(|end| self.ends.known(end));
        let encrypted = |leg: &Leg| end(leg).and_then(End::far).is_some_and(Description::is_encrypted);
        let safe = match peer {
            Some(peer) if leg.is_application() => {
                encrypted(peer) && leg.running.iter().flatten().any(|s| s.encrypted)
            }
            Some(peer) => encrypted(leg) && (peer.is_application() || encrypted(peer)),
            None => false,
        };
        Some(LegView {
            leg: leg.id,
            call: call.id,
            device,
            dn,
            state: leg.state,
            cause: leg.cause,
            reason: leg.reason,
            calling: call.parties.calling.clone(),
            called: call.parties.called.clone(),
            original_called: call.parties.original_called.clone(),
            last_redirecting: call.parties.last_redirecting.clone(),
            connected: peer.map(|peer| peer.party.clone()),
            consult_of: None,
            conference: matches!(call.conversation, Conversation::Mixed(_)),
            remote_in_use: leg.is_remote_in_use(),
            security: if safe { Security::Encrypted } else { Security::None },
            user_data: call.user_data.clone(),
        })
    }

    // What every part of the machine says its sentences with.

    /// Tells the far side of a leg; one without signalling hears nothing.
    pub(crate) fn command(&mut self, leg: LegId, command: EndCommand) {
        if let Some(end) = self.end_of(leg) {
            self.out.push(Output::End(end, command));
        }
    }

    pub(crate) fn reply(&mut self, session: SessionId, token: RequestToken, reply: Result<Reply, Refusal>) {
        self.out.push(Output::Reply(session, token, reply));
    }

    pub(crate) fn tell(&mut self, sessions: Arc<[SessionId]>, event: Event) {
        if !sessions.is_empty() {
            self.out.push(Output::Event(sessions, event));
        }
    }

    /// Who is told of a leg: the openers of its device, unless device or line is restricted.
    pub(crate) fn watchers(&self, leg: &Leg) -> Option<&Arc<[SessionId]>> {
        let (_, dn) = leg.at.line()?;
        let device = self.device_at(leg)?;
        let open = || device.plan.allow_cti_control && device.line(dn).is_some_and(|line| !line.restricted);
        let seen = !device.openers.is_empty() && (device.leaving || open());
        seen.then_some(&device.openers)
    }

    /// Tells a leg's watchers; the view is made only if there are some.
    pub(crate) fn tell_of(&mut self, id: LegId, event: impl FnOnce(LegView) -> Event) {
        let told_again = self.unsettled().is_some() && self.announce_beside(id);
        let Some(leg) = self.legs.known(id).filter(|leg| leg.muted.is_none()) else { return };
        let Some(watchers) = self.watchers(leg).cloned() else { return };
        let Some(event) = self.leg_view(leg).map(event) else { return };
        let ends = match &event {
            Event::Leg(leg) => matches!(leg.state, LegState::Failed | LegState::Disconnected),
            other => matches!(other, Event::MediaStopped(..)),
        };
        match event {
            Event::Leg(_) | Event::LegChanged(_) if told_again => {}
            _ if !ends && self.is_lost(leg) => {}
            event => self.out.push(Output::Event(watchers, event)),
        }
    }

    /// Says first what is new of a leg's device; true when that tells how the leg itself is now.
    fn announce_beside(&mut self, id: LegId) -> bool {
        let Some(name) = self.device_of_leg(id).cloned() else { return false };
        let muted = |control: &Self| control.legs.known(id).is_some_and(|leg| leg.muted.is_some());
        let before = muted(self);
        self.announce(&name);
        before && !muted(self)
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, after: Duration) {
        if let Some(now) = self.now {
            self.timers.set(timer, now + after);
        }
    }

    /// The party of a number of ours, or just a number.
    pub(crate) fn party(&self, dn: &Dn) -> Party {
        let name = self.numbers.get(dn).map(|number| &number.plan.display).filter(|text| !text.is_empty());
        Party { number: dn.as_str().into(), name: name.cloned(), restricted: false }
    }
}

pub(crate) fn refusal<T>(kind: RefusalKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, message: message.into() })
}
