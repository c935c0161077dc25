//! A new plan takes effect in two parts. [`CallControl::configure`] puts it in force in one step: every question is
//! answered by the new plan from then on, and a session that lost a device can no longer control it and gets no events of
//! it. The rest follows device by device ([`CallControl::settle_next`]), with other steps in between: calls that may not
//! stay are cleared, and events say what is other than before. A device of which this is not done is *unsettled*.
//!
//! Applications can't see that it takes time. A device that an input concerns is settled before the input, and an event of
//! a device that came back is preceded by what says so. How a device is by the plan in force is said when its turn comes and
//! when all is done ([`News::Announced`], [`News::Settled`]): whoever has been told of it finds what is other than that, so that a
//! second plan may come before anything of the first is told. Only of restrictions, which everybody hears, it is remembered
//! what was said last ([`crate::devices::Told`]).

use crate::calls::Calls;
use crate::control::CallControl;
use crate::devices::{Device, Number, Stay};
use crate::end::{DialogState, End};
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, SessionId};
use crate::leg::Leg;
use crate::plan::Plan;
use crate::port::{Event, Input, News, Origin, OutOfServiceReason, Output, Signal, Subject};
use crate::prepared_plan::{PreparedPlan, Revocation};
use crate::route_patterns::Patterns;
use crate::timers::Timer;
use crate::transitions::{DeviceChange, Recorder, Trigger, What, Why};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem::{replace, swap};
use std::sync::Arc;

const RELOAD: Why = Why::of(Trigger::Reload);

/// What is under way since a plan was put in force.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// Tables of earlier plans, the oldest first, until all that changed is settled.
    retired: VecDeque<Retired>,
    /// Devices with calls that may not stay, and why.
    uncleared: BTreeMap<DeviceName, Why>,
    /// Counts the plans.
    generation: u64,
}

/// The tables of an earlier plan. Its devices that go are [`Stay::Leaves`]; the others are empty husks.
#[derive(Debug)]
struct Retired {
    generation: u64,
    devices: BTreeMap<DeviceName, Device>,
    numbers: HashMap<Dn, Number>,
    changed: Arc<[DeviceName]>,
    next: usize,
    #[allow(dead_code, reason = "held for their drop, elsewhere")]
    rest: (Arc<Plan>, Patterns, HashMap<Dn, Option<Dn>>),
}

impl Retired {
    /// A device of this plan that goes and is not settled.
    fn leaving(&self, name: &DeviceName) -> Option<&Device> {
        self.devices.get(name).filter(|device| device.is_leaving())
    }
}

impl CallControl {
    /// Puts a plan in force and closes what sessions lose by it, all at once.
    pub(crate) fn configure(&mut self, plan: Option<Box<PreparedPlan>>, revoked: &[Revocation]) {
        let parameters = &self.plan.parameters;
        let limits = (parameters.max_devices_per_provider, parameters.max_devices_per_node);
        if let Some(prepared) = plan {
            let fitting = Arc::ptr_eq(&prepared.before, &self.plan) || prepared.before == self.plan;
            match fitting {
                true => self.put_in_force(*prepared),
                false => {
                    if let Some(prepared) = PreparedPlan::between(&self.plan, &prepared.plan) {
                        self.put_in_force(prepared);
                    }
                }
            }
        }
        self.revoke(revoked);
        self.weigh_all(limits);
    }

    fn put_in_force(&mut self, prepared: PreparedPlan) {
        let PreparedPlan { plan, devices, numbers, patterns, spaces, forwards, changed, before: _ } =
            prepared;
        self.settling.generation += 1;
        let numbers = self.numbers.exchange(numbers);
        self.carry_forwards(&forwards);
        self.carry_lamps();
        let mut old = self.devices.exchange(devices);
        self.carry_devices(&mut old);
        self.spaces = spaces;
        crate::dialling::succeed(&mut self.trunks, &plan.trunks);
        let retired = Retired {
            generation: self.settling.generation,
            devices: old,
            numbers,
            changed,
            next: 0,
            rest: (replace(&mut self.plan, plan), replace(&mut self.patterns, patterns), forwards),
        };
        self.settling.retired.push_back(retired);
    }

    /// What applications set stays unless the plan says something else than it did: of these numbers.
    fn carry_forwards(&mut self, other: &HashMap<Dn, Option<Dn>>) {
        let (forwarded, numbers) = (&mut self.forwarded, &mut self.numbers);
        forwarded.retain(|dn, to| match numbers.get_mut(dn).filter(|_| !other.contains_key(dn)) {
            Some(number) => {
                number.forward_all.clone_from(to);
                true
            }
            None => false,
        });
    }

    /// Moves what happened to each device to the new table; both are in order.
    fn carry_devices(&mut self, old: &mut BTreeMap<DeviceName, Device>) {
        let calls = &self.calls;
        let line_of = |leg: &LegId| calls.leg(*leg).and_then(|leg| leg.at.line()).map(|(_, dn)| dn);
        self.device_counts.recount();
        self.registered = 0;
        let mut hiding = Vec::new();
        let mut fresh = self.devices.iter_mut().map(|(_, device)| device).peekable();
        for (name, was) in old {
            while fresh.next_if(|device| device.plan.name < *name).is_some() {}
            let stays = fresh.next_if(|device| device.plan.name == *name);
            let Some(is) = stays.filter(|is| is.plan.kind == was.plan.kind) else {
                was.stay = Stay::Leaves;
                if !was.legs.is_empty() {
                    self.settling.uncleared.insert(name.clone(), self.why);
                }
                continue;
            };
            if is.kept {
                swap(is, was);
            } else {
                is.succeed(was);
                count_calls(is, calls);
                if is.legs.iter().filter_map(line_of).any(|dn| is.loses(dn)) {
                    self.settling.uncleared.insert(name.clone(), self.why);
                }
                if is.legs.iter().filter_map(line_of).any(|dn| is.hides(dn)) {
                    hiding.push(name.clone());
                }
            }
            self.registered += usize::from(is.registered);
            if !is.openers.is_empty() {
                self.device_counts.add_device();
            }
            let departing = &self.departing;
            is.openers
                .iter()
                .filter(|opener| !departing.has(**opener))
                .for_each(|opener| self.device_counts.add(*opener));
        }
        for name in hiding {
            self.say_hidden(&name);
        }
    }

    /// Closes devices of the plan in force that sessions have open.
    fn revoke(&mut self, revoked: &[Revocation]) {
        let mut lost: Vec<(DeviceName, SessionId)> = Vec::new();
        for Revocation { session, devices } in revoked {
            let recorder = &mut Recorder { why: self.why, out: &mut self.out };
            let devices = self.openings.strike_revoked(*session, devices, recorder);
            if !devices.is_empty() {
                lost.extend(devices.iter().map(|name| (name.clone(), *session)));
                self.out.push(Output::News(News::Revoked { session: *session, devices }));
            }
        }
        lost.sort_unstable();
        let mut lost = lost.into_iter().peekable();
        if lost.peek().is_none() {
            return;
        }
        let mut out_of_service = Vec::new();
        for (name, device) in self.devices.iter_mut() {
            while let Some((lost, session)) = lost.next_if(|(lost, _)| lost <= name) {
                // One that is no device of this plan is gone already.
                if lost != *name || !device.openers.contains(&session) {
                    continue;
                }
                let others = device.openers.iter().copied().filter(|opener| *opener != session);
                device.openers = others.collect();
                self.device_counts.take(session);
                if device.openers.is_empty() {
                    self.device_counts.take_device();
                    if device.is_application() {
                        device.media = None;
                        if !device.legs.is_empty() {
                            self.settling.uncleared.insert(name.clone(), self.why);
                        }
                        out_of_service.extend(device.service_news().map(|_| name.clone()));
                    }
                }
            }
        }
        if !out_of_service.is_empty() {
            let what = What::Devices(out_of_service.into(), DeviceChange::OutOfService);
            Recorder { why: self.why, out: &mut self.out }.record(what);
        }
    }

    /// Settles one device, calls that may not stay first; at most `legs` of them end.
    pub(crate) fn settle_next(&mut self, legs: usize) {
        if let Some(name) = self.settling.uncleared.keys().next().cloned() {
            return self.settle_device(&name, legs);
        }
        let Some(front) = self.settling.retired.front_mut() else { return };
        let name = front.changed.get(front.next).cloned();
        front.next += 1;
        let done = front.next >= front.changed.len();
        if let Some(name) = name {
            self.settle_device(&name, legs);
        }
        if done && self.settling.uncleared.is_empty() {
            self.discard_retired();
        }
    }

    fn discard_retired(&mut self) {
        if let Some(retired) = self.settling.retired.pop_front() {
            self.out.push(Output::Discard(Arc::new(retired)));
        }
    }

    /// Which plan was put in force last, counted from the start.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.settling.generation
    }

    /// The oldest plan of which something is not settled yet.
    #[must_use]
    pub fn unsettled(&self) -> Option<u64> {
        let oldest = self.settling.retired.front().map(|retired| retired.generation);
        oldest.or_else(|| (!self.settling.uncleared.is_empty()).then_some(self.settling.generation))
    }

    /// Whether calls wait to be ended because they may not stay where they are.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.settling.uncleared.is_empty()
    }

    /// The calls of a device that nobody has open wait to be ended.
    pub(crate) fn leave_uncleared(&mut self, name: &DeviceName) {
        self.settling.uncleared.insert(name.clone(), self.why);
    }

    /// How many calls would have to be ended before something can be said of this device, those of its earlier lives too.
    #[must_use]
    pub fn legs_to_clear(&self, name: &DeviceName) -> usize {
        let device = self.devices.get(name);
        let left = |device: &&Device| {
            device.is_application() && !device.openers.is_empty() && !self.is_opened(device)
        };
        let present = match self.is_uncleared(name) {
            true => device,
            false => device.filter(left),
        };
        let retired = self.settling.retired.iter().filter_map(|old| old.leaving(name));
        present.into_iter().chain(retired).map(|device| device.legs.len()).sum()
    }

    /// Whether this device has calls that wait so.
    pub(crate) fn is_uncleared(&self, name: &DeviceName) -> bool {
        self.settling.uncleared.contains_key(name)
    }

    /// Settles what an input concerns, so that it finds nothing of an earlier plan.
    pub(crate) fn settle_concerned(&mut self, input: &Input) {
        if self.unsettled().is_none() {
            return;
        }
        match input {
            Input::Registered(device)
            | Input::Unregistered(device)
            | Input::Revoked { device, .. }
            | Input::SettleDevice(device) => self.settle_device(device, usize::MAX),
            Input::Signal(end, Signal::Released { .. } | Signal::Rejected { .. }) => self.clear_without(*end),
            Input::Signal(end, _) => {
                if let Some(leg) = self.leg_of_end(*end) {
                    self.clear_beside(leg);
                }
            }
            Input::Request { request, .. } => match request.subject() {
                Subject::Device(device) => self.settle_device(device, usize::MAX),
                Subject::Leg(leg) => self.clear_beside(leg),
            },
            Input::IncomingCall { origin: Origin::Phone { device, .. }, .. } if self.is_leaving(device) => {
                self.settle_device(device, usize::MAX);
            }
            Input::Configure { .. }
            | Input::Settle { .. }
            | Input::Depart { .. }
            | Input::IncomingCall { .. }
            | Input::SessionEnded(_)
            | Input::SessionsEnded(_)
            | Input::Restored { .. }
            | Input::Shutdown { .. }
            | Input::Timeout => {}
        }
    }

    /// The same for a timer that is due.
    pub(crate) fn settle_before(&mut self, timer: &Timer) {
        let call = match timer {
            Timer::NoAnswer(attempt) | Timer::NewCallAccept(attempt) => {
                self.calls.attempt(*attempt).map(|attempt| attempt.call)
            }
            Timer::MediaExchange(end) => {
                let leg = self.calls.end(*end).and_then(End::leg);
                leg.and_then(|leg| self.calls.leg(leg)).map(|leg| leg.call)
            }
            Timer::Operation(operation) => self.operations.call_of(*operation),
        };
        let Some(call) = call else { return };
        self.depart_from_call(call);
        self.clear_call(call);
    }

    fn clear_beside(&mut self, leg: LegId) {
        if let Some(call) = self.calls.find_leg(leg).map(|leg| leg.call) {
            self.clear_call(call);
        }
    }

    /// The same where this end has ended already: that is not told to end once more.
    fn clear_without(&mut self, gone: EndId) {
        if self.is_clear() {
            return;
        }
        let Some(dialog) = self.calls.find_end_mut(gone).and_then(End::dialog_mut) else { return };
        let (leg, state) = (dialog.leg(), dialog.exchange_state(DialogState::Terminated));
        self.clear_beside(leg);
        if let Some(dialog) = self.calls.find_end_mut(gone).and_then(End::dialog_mut) {
            dialog.exchange_state(state);
        }
    }

    /// Ends those legs of a call that may not stay.
    fn clear_call(&mut self, call: CallId) {
        if self.is_clear() {
            return;
        }
        let legs: SmallVec<[LegId; 4]> =
            self.calls.find_call(call).map(|call| self.calls.legs_of(call)).unwrap_or_default();
        for leg in legs {
            let place = self
                .calls
                .find_leg(leg)
                .and_then(|leg| leg.at.line())
                .map(|(name, dn)| (name.clone(), dn.clone()));
            let Some((name, dn)) = place.filter(|(name, _)| self.is_uncleared(name)) else { continue };
            let present = self.devices.get(&name).filter(|device| device.legs.contains(&leg));
            if present.is_none_or(|device| device.loses(&dn)) {
                self.arrive_at(&name);
                self.clear_leg(&name, leg);
            }
        }
    }

    /// Ends a leg that may not stay; the openers of its device hear it, though it is no longer theirs to control.
    fn clear_leg(&mut self, name: &DeviceName, leg: LegId) {
        let why = self.settling.uncleared.get(name).copied().unwrap_or(RELOAD);
        self.because(why, |this| this.as_leaving(name, |this| this.fail_leg(leg)));
    }

    /// Does something of which the openers of a device hear, though its calls are no longer theirs.
    pub(crate) fn as_leaving(&mut self, name: &DeviceName, act: impl FnOnce(&mut Self)) {
        let before = self.exchange_stay(name, Stay::Leaves);
        act(self);
        self.exchange_stay(name, before);
    }

    fn exchange_stay(&mut self, name: &DeviceName, stay: Stay) -> Stay {
        self.devices.get_mut(name).map_or(Stay::Leaves, |device| replace(&mut device.stay, stay))
    }

    /// Whether nothing is heard of this leg any more but its end: its device or line is gone, or is no longer its openers'.
    pub(crate) fn is_lost(&self, leg: &Leg) -> bool {
        if self.unsettled().is_none() {
            return false;
        }
        let Some((name, dn)) = leg.at.line() else { return false };
        let device = self.devices.get(name).filter(|device| device.legs.contains(&leg.id));
        device.is_none_or(|device| !device.speaks_of(dn))
    }

    /// The device of a leg that may not stay there and isn't ended yet. Should it end by itself first, that is told as well.
    pub(crate) fn waits_to_be_cleared(&self, leg: LegId) -> Option<DeviceName> {
        if self.is_clear() {
            return None;
        }
        let (name, dn) = self.calls.leg(leg)?.at.line().filter(|(name, _)| self.is_uncleared(name))?;
        let device =
            self.devices.get(name).filter(|device| device.legs.contains(&leg) && device.loses(dn))?;
        Some(device.plan.name.clone())
    }

    /// Brings a device to what the plan in force says: its earlier lives first.
    pub(crate) fn settle_device(&mut self, name: &DeviceName, legs: usize) {
        let mut budget = legs;
        for index in 0..self.settling.retired.len() {
            if !self.because(RELOAD, |this| this.bury(index, name, &mut budget)) {
                return;
            }
        }
        self.arrive_at(name);
        if !self.clear_device(name, &mut budget) {
            self.settling.uncleared.entry(name.clone()).or_insert(RELOAD);
            return;
        }
        self.settling.uncleared.remove(name);
        self.say_settled(name);
    }

    /// A device that is gone: its calls, its openers, and whoever else knew it. False when some of its calls are left.
    fn bury(&mut self, index: usize, name: &DeviceName, budget: &mut usize) -> bool {
        loop {
            let Some(old) = self.settling.retired.get(index).and_then(|old| old.leaving(name)) else {
                return true;
            };
            let Some(leg) = old.legs.first().copied() else { break };
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            self.fail_leg(leg);
            if let Some(old) = self.retired_device_mut(index, name) {
                old.legs.remove(&leg);
            }
        }
        let retired = self.contradictions.known(self.settling.retired.get(index), "a plan is not there");
        let Some(retired) = retired else { return true };
        let old = self.contradictions.known(retired.leaving(name), "a device that goes is not there");
        let Some(old) = old else { return true };
        let (generation, openers) = (retired.generation, old.openers.clone());
        // What it was, but nobody has it any more: both events say the same.
        let mut gone = self.view_with(old, &retired.numbers);
        (gone.in_service, gone.node, gone.registered, gone.opened) = (false, None, false, false);
        if let Some(old) = self.retired_device_mut(index, name) {
            old.stay = Stay::Stays;
        }
        for session in openers
            .iter()
            .filter(|session| !self.is_open(**session, name))
            .copied()
            .collect::<SmallVec<[_; 2]>>()
        {
            let recorder = &mut Recorder { why: self.why, out: &mut self.out };
            self.openings.strike(session, name, recorder);
        }
        self.record_device(name, DeviceChange::Removed);
        self.tell(openers, Event::DeviceClosed(gone.clone(), OutOfServiceReason::DeviceUnregistered));
        self.out.push(Output::News(News::Removed { device: gone, generation }));
        true
    }

    /// A device of an earlier plan that goes.
    #[track_caller]
    fn retired_device_mut(&mut self, index: usize, name: &DeviceName) -> Option<&mut Device> {
        let retired = self.settling.retired.get_mut(index);
        let device = retired.and_then(|old| old.devices.get_mut(name));
        self.contradictions.known(device, "a device that goes is not there")
    }

    /// The plan in force reaches a device: its restrictions are told, and what is no longer hidden may be.
    fn arrive_at(&mut self, name: &DeviceName) {
        self.announce(name);
        self.say_reached(name);
    }

    /// Says that a device is restricted or is so no longer, and once for each plan how it is to those who have it open.
    pub(crate) fn announce(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let (restricted, open) = (!device.plan.allow_cti_control, !device.openers.is_empty());
        let Some(told) = &mut device.unsettled else { return };
        let itself = (told.restricted != restricted).then_some(restricted);
        let first = !replace(&mut told.announced, true) && open;
        told.restricted = restricted;
        let mut line = None;
        for changed in device.lines.iter_mut().filter(|line| line.restricted != line.told_restricted) {
            line.get_or_insert(changed.restricted);
            changed.told_restricted = changed.restricted;
        }
        if let Some(restricted) = itself {
            let change = if restricted { DeviceChange::Restricted } else { DeviceChange::Unrestricted };
            self.because(RELOAD, |this| this.record_device(name, change));
        }
        self.because(RELOAD, |this| this.record_service(name));
        if first || itself.is_some() || line.is_some() {
            let device = self.devices.known(name).map(|device| self.device_view(device));
            let said = device.map(|device| News::Announced { device, itself, line });
            self.out.extend(said.map(Output::News));
        }
    }

    /// Ends the calls on lines that the device or its applications have lost. False when some are left.
    fn clear_device(&mut self, name: &DeviceName, budget: &mut usize) -> bool {
        let Some(device) = self.devices.get(name) else { return true };
        if device.legs.is_empty() {
            return true;
        }
        let line_of = |leg: &LegId| self.calls.leg(*leg).and_then(|leg| leg.at.line()).map(|(_, dn)| dn);
        let lost = device.legs.iter().filter(|leg| line_of(leg).is_some_and(|dn| device.loses(dn)));
        let lost: Vec<LegId> = lost.copied().take(budget.saturating_add(1)).collect();
        let all = lost.len() <= *budget;
        for leg in lost.into_iter().take(*budget) {
            *budget -= 1;
            self.clear_leg(name, leg);
        }
        all
    }

    /// Nothing of the plan in force is left to be carried out at the device.
    fn say_settled(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.get_mut(name) else { return };
        if device.unsettled.take().is_some() && !device.openers.is_empty() {
            let device = self.devices.known(name).map(|device| self.device_view(device));
            self.out.extend(device.map(|device| Output::News(News::Settled { device })));
        }
    }

    /// Whether a device of an earlier plan goes, or another one of its name, and that is not told yet.
    pub(crate) fn is_leaving(&self, name: &DeviceName) -> bool {
        self.settling.retired.iter().any(|old| old.leaving(name).is_some())
    }

    /// The device at which a leg is, which may be one that goes; `None` for trunks.
    #[track_caller]
    pub(crate) fn device_at(&self, leg: &Leg) -> Option<&Device> {
        let (name, _) = leg.at.line()?;
        self.contradictions.known(self.find_device_at(name, leg.id), "a leg's device is not there")
    }

    fn find_device_at(&self, name: &DeviceName, leg: LegId) -> Option<&Device> {
        let present = self.devices.get(name);
        if self.settling.retired.is_empty() {
            return present;
        }
        let here = |device: &&Device| device.legs.contains(&leg);
        let old = || self.settling.retired.iter().find_map(|old| old.leaving(name).filter(here));
        present.filter(here).or_else(old)
    }

    /// The same, to be changed, of a leg that may be out of the table of legs already.
    #[track_caller]
    pub(crate) fn device_at_mut(&mut self, name: &DeviceName, leg: LegId) -> Option<&mut Device> {
        if self.settling.retired.is_empty() {
            return self.devices.known_mut(name);
        }
        let here = |device: &&mut Device| device.legs.contains(&leg);
        let (present, retired) = (self.devices.get_mut(name), &mut self.settling.retired);
        let found = present
            .filter(here)
            .or_else(|| retired.iter_mut().find_map(|old| old.devices.get_mut(name).filter(here)));
        self.contradictions.known(found, "a leg's device is not there")
    }
}

/// A line that comes back before it was cleared has its calls still.
fn count_calls(device: &mut Device, calls: &Calls) {
    for line in &mut device.lines {
        let there =
            |leg: &Leg| !leg.is_remote_in_use() && leg.at.line().is_some_and(|(_, dn)| *dn == line.dn);
        let calls = device.legs.iter().filter(|id| calls.leg(**id).is_some_and(there)).count();
        line.calls = u32::try_from(calls).unwrap_or(u32::MAX);
    }
}
