//! The machine's state, its one entrance, and what others may ask of it.

use crate::call::{Call, Conversation, Parties};
use crate::calling_search_spaces::Spaces;
use crate::calls::Calls;
use crate::departing::Departing;
use crate::device_limits::DeviceCounts;
use crate::device_table::{Devices, Numbers};
use crate::devices::Registration;
use crate::dialling::{self, Trunk};
use crate::end::{End, RemotePlace};
use crate::identity::Ids;
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, RequestToken, SessionId, TrunkName};
use crate::leg::{At, Leg};
use crate::media::MediaTermination;
use crate::openings::Openings;
use crate::operations::{Operations, Undo};
use crate::plan::{Identity, Plan};
use crate::port::{EndCommand, Event, Input, Output, Refusal, RefusalKind, Reply};
use crate::prepared_plan::PreparedPlan;
use crate::reconcile::Settling;
use crate::route_patterns::Patterns;
use crate::signalling::NewCall;
use crate::streams::security_between;
use crate::table::Contradictions;
use crate::timers::{Timer, Timers};
use crate::transitions::{Trigger, Why};
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
    pub(crate) devices: Devices,
    pub(crate) numbers: Numbers,
    pub(crate) patterns: Patterns,
    pub(crate) spaces: Spaces,
    /// Those of the plan, and those before that have calls still.
    pub(crate) trunks: BTreeMap<TrunkName, Trunk>,
    pub(crate) calls: Calls,
    /// What was asked and is not answered yet.
    pub(crate) operations: Operations,
    /// What each session has opened.
    pub(crate) openings: Openings,
    pub(crate) device_counts: DeviceCounts,
    /// Numbers whose Forward All applications have set.
    pub(crate) forwarded: HashMap<Dn, Option<Dn>>,
    /// Numbers whose message lamp is on.
    pub(crate) lit: BTreeSet<Dn>,
    pub(crate) settling: Settling,
    pub(crate) departing: Departing,
    /// Phones that are registered, counted.
    pub(crate) registered: usize,
    pub(crate) timers: Timers,
    pub(crate) ids: Ids,
    pub(crate) no_data: Arc<BTreeMap<String, String>>,
    /// How often tables contradicted each other since the start.
    pub(crate) contradicted: u64,
    /// Those of the step that is being taken, beside the tables' own.
    pub(crate) contradictions: Contradictions,
    /// The time of the step that is being taken.
    pub(crate) now: Option<Instant>,
    /// Why what is changing now changes.
    pub(crate) why: Why,
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

impl CallControl {
    /// A machine with this plan and nothing going on.
    #[must_use]
    pub fn new(identity: Identity, plan: Arc<Plan>) -> Self {
        let PreparedPlan { plan, devices, numbers, patterns, spaces, .. } = PreparedPlan::first(&plan);
        let mut trunks = BTreeMap::new();
        dialling::succeed(&mut trunks, &plan.trunks);
        Self {
            ids: Ids::new(&identity),
            identity,
            plan,
            devices: Devices::new(devices),
            numbers: Numbers::new(numbers),
            patterns,
            spaces,
            trunks,
            calls: Calls::new(),
            operations: Operations::new(),
            contradicted: 0,
            contradictions: Contradictions::default(),
            openings: Openings::default(),
            device_counts: DeviceCounts::default(),
            forwarded: HashMap::new(),
            lit: BTreeSet::new(),
            settling: Settling::default(),
            departing: Departing::default(),
            registered: 0,
            timers: Timers::default(),
            no_data: Arc::default(),
            now: None,
            why: Why::of(Trigger::Reload),
            out: Vec::new(),
        }
    }

    /// One step: something happened at `now`; what follows is appended to `out`, in the order in which it is to be done.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        self.now = Some(now);
        std::mem::swap(&mut self.out, out);
        self.depart_concerned(&input);
        self.settle_concerned(&input);
        self.why = Why::of_input(&input);
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
            Input::Request { session, token, owner, request } => self.request(session, token, owner, request),
            Input::SessionEnded(session) => self.sessions_ended(&[session]),
            Input::SessionsEnded(sessions) => self.sessions_ended(&sessions),
            Input::Revoked { session, device } => self.release_opening(session, &device),
            Input::Restored { session, device, media } => self.restore_opening(session, &device, media),
            Input::Shutdown { calls } => self.shutdown(calls),
            Input::Timeout => {
                // The next ones are due at once; others have their turn in between.
                for _ in 0..TIMERS_AT_ONCE {
                    let Some(timer) = self.timers.pop(now) else { break };
                    self.settle_before(&timer);
                    self.why = Why::of(Trigger::of_timer(timer));
                    self.timeout(timer);
                }
            }
        }
        self.say_contradictions();
        std::mem::swap(&mut self.out, out);
    }

    /// What happens meanwhile happens for this reason.
    pub(crate) fn because<T>(&mut self, why: Why, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.why, why);
        let done = act(self);
        self.why = before;
        done
    }

    fn say_contradictions(&mut self) {
        let own = [
            self.contradictions.take(),
            self.operations.take_contradiction(),
            self.devices.take_contradiction(),
            self.numbers.take_contradiction(),
            self.device_counts.take_contradiction(),
        ];
        for found in own.into_iter().chain(self.calls.take_contradictions()).flatten() {
            self.contradicted += u64::from(found.times);
            self.out.push(Output::Contradiction(found));
        }
    }

    /// When to call [`CallControl::handle`] with [`Input::Timeout`] at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    /// An id for an end that begins at the signalling.
    pub fn new_end_id(&mut self) -> EndId {
        EndId(self.new_id())
    }

    /// An id for a leg. The end that begins with it has the same number.
    pub(crate) fn new_leg(&mut self) -> LegId {
        LegId(self.new_id())
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        let calls = &self.calls;
        self.ids.next(|id| calls.is_in_use(id))
    }

    /// A device as it is now.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> Option<DeviceView> {
        self.devices.get(name).map(|device| self.device_view(device))
    }

    /// All devices' names, in order.
    pub fn device_names(&self) -> impl Iterator<Item = &DeviceName> {
        self.devices.names()
    }

    /// The first device from there on, by name.
    #[must_use]
    pub fn first_device(&self, from: &Bound<DeviceName>) -> Option<&DeviceName> {
        self.devices.first_name(from)
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
        self.calls.find_leg(id).and_then(|leg| self.leg_view(leg))
    }

    /// Where a leg is; `None` for trunks.
    #[must_use]
    pub fn device_of_leg(&self, id: LegId) -> Option<&DeviceName> {
        self.calls.find_leg(id).and_then(|leg| leg.at.line()).map(|(device, _)| device)
    }

    /// The leg whose end this is.
    #[must_use]
    pub fn leg_of_end(&self, end: EndId) -> Option<LegId> {
        self.calls.find_end(end).and_then(End::leg)
    }

    /// What is at the far side of a leg; `None` also while another appearance of its line has the call.
    #[must_use]
    pub fn end_of_leg(&self, leg: LegId) -> Option<EndId> {
        self.calls.find_leg(leg)?.end
    }

    /// Where an end is that another node of the cluster has: it is told there what [`Output::End`] says of it. `None`: it is
    /// this node's own, or there is none.
    #[must_use]
    pub fn place_of_end(&self, end: EndId) -> Option<&RemotePlace> {
        match self.calls.find_end(end)? {
            End::Remote(remote) => Some(&remote.place),
            End::Dialog(_) | End::Application(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    /// All ends of the call that an end belongs to, itself among them.
    pub fn ends_beside(&self, end: EndId) -> impl Iterator<Item = EndId> {
        let leg = self.leg_of_end(end).and_then(|leg| self.calls.leg(leg));
        let legs = leg.and_then(|leg| self.calls.call(leg.call)).map(|call| self.calls.legs_of(call));
        legs.into_iter().flatten().filter_map(|leg| self.end_of_leg(leg))
    }

    /// The ids of all calls, in order.
    pub fn call_ids(&self) -> impl Iterator<Item = CallId> {
        self.calls.first(usize::MAX).into_iter()
    }

    /// The legs of a call; none when it has ended.
    #[must_use]
    pub fn legs_of_call(&self, call: CallId) -> Vec<LegView> {
        let legs = self.calls.find_call(call).map(|call| self.calls.legs_of(call)).unwrap_or_default();
        legs.iter().filter_map(|leg| self.leg(*leg)).collect()
    }

    /// All calls with all their legs, in no particular order.
    pub fn calls(&self) -> impl Iterator<Item = (CallId, Vec<LegView>)> + '_ {
        self.calls
            .all()
            .map(|call| (call.id, self.calls.legs_of(call).iter().filter_map(|leg| self.leg(*leg)).collect()))
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
    pub fn media(&self, device: &DeviceName) -> Option<&Arc<MediaTermination>> {
        self.devices.get(device)?.media.as_ref()
    }

    /// The streams of a leg that run: input, output.
    #[must_use]
    pub fn streams(&self, leg: LegId) -> [bool; 2] {
        self.calls.find_leg(leg).map_or([false; 2], |leg| leg.running.each_ref().map(Option::is_some))
    }

    /// The devices that a session has open, in order.
    pub fn open_devices(&self, session: SessionId) -> impl Iterator<Item = &DeviceName> {
        let opened = self.openings.after(session, None);
        opened.filter(move |name| self.unsettled().is_none() || self.is_open(session, name))
    }

    /// The first device after `last`, by name, that a session has opened: it may have lost it by a new plan, and not have
    /// been told so.
    #[must_use]
    pub fn next_opened(&self, session: SessionId, last: Option<&DeviceName>) -> Option<&DeviceName> {
        self.openings.after(session, last).next()
    }

    /// The first device after `last`, by name, that a session has open.
    #[must_use]
    pub fn next_open_device(&self, session: SessionId, last: Option<&DeviceName>) -> Option<&DeviceName> {
        self.openings.after(session, last).find(|name| self.is_open(session, name))
    }

    /// How many devices a session has open.
    #[must_use]
    pub fn open_count(&self, session: SessionId) -> u32 {
        self.device_counts.of(session)
    }

    /// The sessions that have a device open, each once, in order.
    pub fn opening_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.openings.all().map(|(session, _)| session)
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            legs: self.calls.leg_count(),
            calls: self.calls.count(),
            open_devices: self.device_counts.devices(),
            registered_phones: self.registered,
            contradictions: self.contradicted,
        }
    }

    /// Whether nothing goes on: no call, no leg, no timer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.calls.count() == 0 && self.calls.leg_count() == 0 && self.timers.next_timeout().is_none()
    }

    /// What holds for all media of a leg's call now. An application's media are in clear, and how it is reached the model does
    /// not know.
    pub(crate) fn security_of(&self, leg: &Leg) -> Security {
        let of_call = || {
            let call = self.calls.call(leg.call)?;
            let watched = || call.watched_by(leg.id).and_then(|watched| self.calls.leg(watched)?.end);
            let own = leg.end.or_else(watched)?;
            let far = |end: EndId| self.calls.end(end)?.dialog()?.far();
            Some(security_between(far(own)?, far(call.peer_of_end(own)?)?))
        };
        of_call().unwrap_or(Security::None)
    }

    pub(crate) fn leg_view(&self, leg: &Leg) -> Option<LegView> {
        let call = self.calls.call(leg.call)?;
        let (device, dn) = match &leg.at {
            At::Phone { device, dn } | At::Application { device, dn } => (device.clone(), dn.clone()),
            At::Trunk { trunk, number } => (DeviceName::from(trunk.as_str()), number.clone()),
        };
        // Where another appearance has the call: whom that one talks to.
        let watched = || call.watched_by(leg.id).and_then(|watched| self.calls.leg(watched)?.end);
        let peer = leg.end.or_else(watched).and_then(|end| self.far_leg(call.peer_of_end(end)?));
        let peer = peer.and_then(|peer| self.calls.leg(peer));
        let shown = || match &call.conversation {
            Conversation::Waiting(wait) => wait.shown.clone(),
            Conversation::Setup(_)
            | Conversation::Pair(..)
            | Conversation::Relayed(_)
            | Conversation::Mixed(_) => None,
        };
        let parties = self.shown_parties(call, leg);
        Some(LegView {
            leg: leg.id,
            call: call.id,
            device,
            dn,
            state: leg.state(),
            cause: leg.cause,
            reason: leg.reason,
            calling: parties.calling.clone(),
            called: parties.called.clone(),
            original_called: parties.original_called.clone(),
            last_redirecting: parties.last_redirecting.clone(),
            connected: peer.map(|peer| peer.party.clone()).or_else(shown),
            consult_of: leg.consult_of,
            conference: matches!(call.conversation, Conversation::Mixed(_)),
            remote_in_use: leg.is_remote_in_use(),
            security: self.security_of(leg),
            user_data: Arc::clone(call.user_data()),
        })
    }

    /// The parties that applications are shown of a leg. While a redirect is not decided, the legs that were there before
    /// it show what they showed: should it fail, nothing has changed.
    fn shown_parties<'a>(&'a self, call: &'a Call, leg: &'a Leg) -> &'a Parties {
        let undecided = call.left.as_ref().and_then(|left| self.operations.known(left.operation));
        let before = undecided.and_then(|operation| {
            let Undo::Redirect { seen, .. } = &operation.undo;
            seen.iter().find(|(id, _)| *id == leg.id)
        });
        before.map_or(&leg.parties, |(_, parties)| parties)
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

    /// To whom something is said of a leg: the openers of its device, unless that is a restricted port or route point. Of a
    /// hidden one ([`CallControl::is_hidden`]) it is not for their ears, and they may not act on it.
    pub(crate) fn watchers(&self, leg: &Leg) -> Option<&Arc<[SessionId]>> {
        let (_, dn) = leg.at.line()?;
        let device = self.device_at(leg)?;
        let seen = !device.openers.is_empty() && (device.is_leaving() || device.speaks_of(dn));
        seen.then_some(&device.openers)
    }

    /// Tells a leg's watchers, after what is new of its device. What a restriction hid is told as it is now: after an event that
    /// says how the leg is, before one that says something else. The view is made only if somebody watches.
    pub(crate) fn tell_of(&mut self, id: LegId, event: impl FnOnce(LegView) -> Event) {
        // While an earlier life of the device is still to be ended its leg is of that one, and the end comes first.
        let beside =
            self.device_of_leg(id).filter(|device| self.unsettled().is_some() && !self.is_leaving(device));
        let beside = beside.cloned();
        beside.iter().for_each(|device| self.announce(device));
        let said = self.event_of(id, event);
        let (before, after) = match said.as_ref().map(|(event, _)| event) {
            None | Some(Event::Leg(_) | Event::LegChanged(_)) => (false, true),
            // The state of the leg follows.
            Some(Event::MediaStarted(..) | Event::KeyChanged(..) | Event::MediaStopped(..)) => (false, false),
            Some(
                Event::Digit(..)
                | Event::OpenChannel { .. }
                | Event::Transferred { .. }
                | Event::DeviceInService(_)
                | Event::DeviceOutOfService(..)
                | Event::DeviceClosed(..)
                | Event::ForwardChanged(..)
                | Event::AutoAcceptChanged(..),
            ) => (true, false),
        };
        beside.iter().filter(|_| before).for_each(|device| self.say_reached(device));
        let said = said.map(|(event, watchers)| match watchers {
            Some(watchers) => Output::Event(watchers, event),
            None => Output::Hidden(event),
        });
        self.out.extend(said);
        if let Some(security) = self.calls.leg(id).map(|leg| self.security_of(leg))
            && let Some(leg) = self.calls.leg_mut(id)
        {
            leg.security = security;
        }
        beside.iter().filter(|_| after).for_each(|device| self.say_reached(device));
    }

    /// An event of a leg with those who are told; `None` of them: it is hidden.
    fn event_of(
        &self,
        id: LegId,
        event: impl FnOnce(LegView) -> Event,
    ) -> Option<(Event, Option<Arc<[SessionId]>>)> {
        let leg = self.calls.leg(id)?;
        let Some(watchers) = self.watchers(leg) else {
            // It is to be cleared for a restriction, and a later plan may let it stay before it is.
            let (device, (_, dn)) = (self.device_at(leg)?, leg.at.line()?);
            let open = device.is_application() && !device.openers.is_empty() && device.line(dn).is_some();
            self.waits_to_be_cleared(id).filter(|_| open)?;
            return Some((event(self.leg_view(leg)?), None));
        };
        let event = event(self.leg_view(leg)?);
        let ends = match &event {
            Event::Leg(leg) => matches!(leg.state, LegState::Failed | LegState::Disconnected),
            Event::MediaStopped(..) => true,
            Event::LegChanged(_)
            | Event::Digit(..)
            | Event::OpenChannel { .. }
            | Event::MediaStarted(..)
            | Event::KeyChanged(..)
            | Event::Transferred { .. }
            | Event::DeviceInService(_)
            | Event::DeviceOutOfService(..)
            | Event::DeviceClosed(..)
            | Event::ForwardChanged(..)
            | Event::AutoAcceptChanged(..) => false,
        };
        let told = (!self.is_hidden(leg)).then(|| Arc::clone(watchers));
        (ends || !self.is_lost(leg)).then_some((event, told))
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, after: Duration) {
        if let Some(now) = self.known_now() {
            self.timers.set(timer, now + after);
        }
    }

    /// The time of the step that is being taken: whatever sets a timer or counts does so within one.
    #[track_caller]
    pub(crate) fn known_now(&self) -> Option<Instant> {
        self.contradictions.known(self.now, "something happens outside of a step")
    }

    /// The party of a number of ours, or just a number.
    pub(crate) fn party(&self, dn: &Dn) -> Party {
        let name = self.numbers.get(dn).map(|number| &number.plan.display).filter(|text| !text.is_empty());
        Party { number: dn.shared(), name: name.cloned(), restricted: false }
    }
}

pub(crate) fn refusal<T>(kind: RefusalKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, message: message.into() })
}
