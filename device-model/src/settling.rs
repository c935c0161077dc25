//! A new plan takes effect in two parts. [`CallControl::configure`] puts it in force in one step: every question is
//! answered by the new plan from then on, and whoever lost a device can neither command nor hear it. What follows for
//! those who are told and for calls that may not stay is carried out device by device ([`CallControl::settle_next`]), so
//! that other steps can come in between.
//!
//! Nobody can see that it takes time. A device that an input concerns is settled before the input, and an event of a
//! device that came back waits for nothing, but says first that it came back. A device is compared with what was *told*
//! of it, so that a second plan may come before the first is told.

use crate::control::CallControl;
use crate::devices::{Device, Number};
use crate::end::{DialogState, End};
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, SessionId};
use crate::leg::Leg;
use crate::operations::OperationKind;
use crate::plan::Plan;
use crate::port::{Event, Input, News, OutOfServiceReason, Output, Request, Signal};
use crate::routing::Patterns;
use crate::switch::{PreparedPlan, Revocation, RevokedDevices};
use crate::table::Table;
use crate::timers::Timer;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem::{replace, swap};
use std::sync::Arc;

/// What is under way since a plan was put in force.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// Tables of earlier plans, the oldest first, until all that changed is settled.
    retired: VecDeque<Retired>,
    /// Devices with calls that may not stay.
    uncleared: BTreeSet<DeviceName>,
    /// Counts the plans.
    generation: u64,
}

/// The tables of an earlier plan. Its devices that go are [`Device::leaving`]; the others are empty husks.
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
        self.devices.get(name).filter(|device| device.leaving)
    }
}

impl CallControl {
    /// Puts a plan in force and takes holds away, all at once.
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
        let PreparedPlan { plan, devices, numbers, patterns, spaces, mut forwards, changed, before: _ } =
            prepared;
        self.settling.generation += 1;
        let numbers = replace(&mut self.numbers, numbers);
        self.carry_forwards(&mut forwards);
        let mut old = replace(&mut self.devices, devices);
        self.carry_devices(&mut old, &forwards);
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

    /// What applications set stays unless the plan says something else than it did. `before` becomes what was in force of
    /// the numbers of which it does.
    fn carry_forwards(&mut self, before: &mut HashMap<Dn, Option<Dn>>) {
        let (forwarded, numbers) = (&mut self.forwarded, &mut self.numbers);
        forwarded.retain(|dn, to| match (before.get_mut(dn), numbers.get_mut(dn)) {
            (Some(before), _) => {
                before.clone_from(to);
                false
            }
            (None, Some(number)) => {
                number.forward_all.clone_from(to);
                true
            }
            (None, None) => false,
        });
    }

    /// Moves what happened to each device to the new table; both are in order.
    fn carry_devices(&mut self, old: &mut BTreeMap<DeviceName, Device>, forwards: &HashMap<Dn, Option<Dn>>) {
        let (legs, numbers) = (&self.legs, &self.numbers);
        let forward_changed = |dn: &Dn| {
            let before = forwards.get(dn);
            before.is_some_and(|before| numbers.get(dn).is_some_and(|now| now.forward_all != *before))
        };
        let line_of = |leg: &LegId| legs.known(*leg).and_then(|leg| leg.at.line()).map(|(_, dn)| dn);
        self.holds.recount();
        self.registered = 0;
        let mut hiding = Vec::new();
        let mut fresh = self.devices.values_mut().peekable();
        for (name, was) in old {
            while fresh.next_if(|device| device.plan.name < *name).is_some() {}
            let stays = fresh.next_if(|device| device.plan.name == *name);
            let Some(is) = stays.filter(|is| is.plan.kind == was.plan.kind) else {
                was.leaving = true;
                if !was.legs.is_empty() {
                    self.settling.uncleared.insert(name.clone());
                }
                continue;
            };
            if is.kept {
                swap(is, was);
            } else {
                is.succeed(was, forward_changed);
                count_calls(is, legs);
                if is.legs.iter().filter_map(line_of).any(|dn| is.loses(dn)) {
                    self.settling.uncleared.insert(name.clone());
                }
                if is.legs.iter().filter_map(line_of).any(|dn| is.mutes(dn)) {
                    hiding.push(name.clone());
                }
            }
            self.registered += usize::from(is.registered);
            if !is.openers.is_empty() {
                self.holds.add_device();
            }
            let departing = &self.departing;
            is.openers
                .iter()
                .filter(|opener| !departing.has(**opener))
                .for_each(|opener| self.holds.add(*opener));
        }
        for name in hiding {
            self.mute(&name);
        }
    }

    /// Takes holds on devices of the plan in force.
    fn revoke(&mut self, revoked: &[Revocation]) {
        let mut lost: Vec<(DeviceName, SessionId)> = Vec::new();
        for Revocation { session, devices } in revoked {
            let names = self.strike(*session, devices);
            if !names.is_empty() {
                lost.extend(names.iter().map(|name| (name.clone(), *session)));
                self.out.push(Output::News(News::Revoked { session: *session, devices: names.into() }));
            }
        }
        lost.sort_unstable();
        let mut lost = lost.into_iter().peekable();
        if lost.peek().is_none() {
            return;
        }
        for (name, device) in &mut self.devices {
            while let Some((lost, session)) = lost.next_if(|(lost, _)| lost <= name) {
                // One that is no device of this plan is gone already.
                if lost != *name || !device.openers.contains(&session) {
                    continue;
                }
                let others = device.openers.iter().copied().filter(|opener| *opener != session);
                device.openers = others.collect();
                self.holds.take(session);
                if device.openers.is_empty() {
                    self.holds.take_device();
                    device.unheard.clear();
                    if device.is_application() {
                        device.media = None;
                        if !device.legs.is_empty() {
                            self.settling.uncleared.insert(name.clone());
                        }
                    }
                }
            }
        }
    }

    /// Strikes devices from what a session has opened; returns them in order.
    fn strike(&mut self, session: SessionId, devices: &RevokedDevices) -> Vec<DeviceName> {
        let Some(open) = self.sessions.get_mut(&session) else { return Vec::new() };
        let struck = match devices {
            RevokedDevices::All => std::mem::take(open).into_iter().collect(),
            RevokedDevices::Listed(names) => {
                let mut names = names.iter().peekable();
                let listed = |name: &DeviceName| {
                    while names.next_if(|listed| *listed < name).is_some() {}
                    names.next_if(|listed| *listed == name).is_some()
                };
                open.extract_if(.., listed).collect()
            }
        };
        if open.is_empty() {
            self.sessions.remove(&session);
        }
        struck
    }

    /// Settles one device, calls that may not stay first; at most `legs` of them end.
    pub(crate) fn settle_next(&mut self, legs: usize) {
        if let Some(name) = self.settling.uncleared.first().cloned() {
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

    /// The calls of a device that nobody holds wait to be ended.
    pub(crate) fn leave_uncleared(&mut self, name: &DeviceName) {
        self.settling.uncleared.insert(name.clone());
    }

    /// How many calls would have to be ended before something can be said of this device, those of its earlier lives too.
    #[must_use]
    pub fn legs_to_clear(&self, name: &DeviceName) -> usize {
        let device = self.devices.get(name);
        let left =
            |device: &&Device| device.is_application() && !device.openers.is_empty() && !self.is_held(device);
        let present = match self.is_uncleared(name) {
            true => device,
            false => device.filter(left),
        };
        let retired = self.settling.retired.iter().filter_map(|old| old.leaving(name));
        present.into_iter().chain(retired).map(|device| device.legs.len()).sum()
    }

    /// Whether this device has calls that wait so.
    pub(crate) fn is_uncleared(&self, name: &DeviceName) -> bool {
        self.settling.uncleared.contains(name)
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
            Input::Request { request, .. } => match subject(request) {
                Subject::Device(device) => self.settle_device(device, usize::MAX),
                Subject::Leg(leg) => self.clear_beside(leg),
            },
            Input::Configure { .. }
            | Input::Settle { .. }
            | Input::Depart { .. }
            | Input::IncomingCall { .. }
            | Input::SessionEnded(_)
            | Input::Restored { .. }
            | Input::Shutdown
            | Input::Timeout => {}
        }
    }

    /// The same for a timer that is due.
    pub(crate) fn settle_before(&mut self, timer: &Timer) {
        let call = match timer {
            Timer::NoAnswer(attempt) | Timer::NewCallAccept(attempt) => {
                self.attempts.known(*attempt).map(|attempt| attempt.call)
            }
            Timer::MediaExchange(end) => {
                let leg = self.ends.known(*end).and_then(End::leg);
                leg.and_then(|leg| self.legs.known(leg)).map(|leg| leg.call)
            }
            Timer::Operation(operation) => self.operations.known(*operation).map(|operation| {
                let OperationKind::Redirect { call, .. } = operation.kind;
                call
            }),
        };
        let Some(call) = call else { return };
        self.depart_from_call(call);
        self.clear_call(call);
    }

    fn clear_beside(&mut self, leg: LegId) {
        if let Some(call) = self.legs.get(leg).map(|leg| leg.call) {
            self.clear_call(call);
        }
    }

    /// The same where this end has ended already: that is not told to end once more.
    fn clear_without(&mut self, gone: EndId) {
        if self.is_clear() {
            return;
        }
        let Some(dialog) = self.ends.get_mut(gone).and_then(End::dialog_mut) else { return };
        let (leg, state) = (dialog.leg, replace(&mut dialog.state, DialogState::Terminated));
        self.clear_beside(leg);
        if let Some(dialog) = self.ends.get_mut(gone).and_then(End::dialog_mut) {
            dialog.state = state;
        }
    }

    /// Ends those legs of a call that may not stay.
    fn clear_call(&mut self, call: CallId) {
        if self.is_clear() {
            return;
        }
        let legs: SmallVec<[LegId; 4]> =
            self.calls.get(call).map(|call| call.legs(&self.attempts, &self.ends)).unwrap_or_default();
        for leg in legs {
            let place =
                self.legs.get(leg).and_then(|leg| leg.at.line()).map(|(name, dn)| (name.clone(), dn.clone()));
            let Some((name, dn)) = place.filter(|(name, _)| self.is_uncleared(name)) else { continue };
            let present = self.devices.get(&name).filter(|device| device.legs.contains(&leg));
            if present.is_none_or(|device| device.loses(&dn)) {
                self.announce(&name);
                self.clear_leg(&name, leg);
            }
        }
    }

    /// Ends a leg that may not stay; the openers of its device hear it, though it is no longer theirs to control.
    fn clear_leg(&mut self, name: &DeviceName, leg: LegId) {
        self.as_leaving(name, |this| this.fail_leg(leg));
    }

    /// Does something of which the openers of a device hear, though its calls are no longer theirs.
    pub(crate) fn as_leaving(&mut self, name: &DeviceName, act: impl FnOnce(&mut Self)) {
        let before = self.set_leaving(name, true);
        act(self);
        self.set_leaving(name, before);
    }

    fn set_leaving(&mut self, name: &DeviceName, leaving: bool) -> bool {
        self.devices.get_mut(name).is_some_and(|device| replace(&mut device.leaving, leaving))
    }

    /// Whether nothing is heard of this leg any more but its end: its device or line is gone, or is no longer its openers'.
    pub(crate) fn is_lost(&self, leg: &Leg) -> bool {
        if self.unsettled().is_none() {
            return false;
        }
        let Some((name, dn)) = leg.at.line() else { return false };
        let device = self.devices.get(name).filter(|device| device.legs.contains(&leg.id));
        device.is_none_or(|device| {
            !device.plan.allow_cti_control || device.line(dn).is_none_or(|line| line.restricted)
        })
    }

    /// The device of a leg that may not stay there and isn't ended yet. Should it end by itself first, that is told as well.
    pub(crate) fn waits_to_be_cleared(&self, leg: LegId) -> Option<DeviceName> {
        if self.is_clear() {
            return None;
        }
        let (name, dn) = self.legs.known(leg)?.at.line().filter(|(name, _)| self.is_uncleared(name))?;
        let device =
            self.devices.get(name).filter(|device| device.legs.contains(&leg) && device.loses(dn))?;
        Some(device.plan.name.clone())
    }

    /// Brings a device to what the plan in force says: its earlier lives first.
    pub(crate) fn settle_device(&mut self, name: &DeviceName, legs: usize) {
        let mut budget = legs;
        for index in 0..self.settling.retired.len() {
            if !self.bury(index, name, &mut budget) {
                return;
            }
        }
        self.announce(name);
        if !self.clear_device(name, &mut budget) {
            self.settling.uncleared.insert(name.clone());
            return;
        }
        self.settling.uncleared.remove(name);
        self.tell_rest(name);
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
            if let Some(old) = self.settling.retired.get_mut(index).and_then(|old| old.devices.get_mut(name))
            {
                old.legs.remove(&leg);
            }
        }
        let Some(retired) = self.settling.retired.get(index) else { return true };
        let Some(old) = retired.leaving(name) else { return true };
        let (generation, openers) = (retired.generation, old.openers.clone());
        // What it was, but nobody has it any more: both events say the same.
        let mut gone = self.view_with(old, &retired.numbers);
        (gone.in_service, gone.node, gone.registered, gone.opened) = (false, None, false, false);
        if let Some(old) = self.settling.retired.get_mut(index).and_then(|old| old.devices.get_mut(name)) {
            old.leaving = false;
        }
        for session in openers
            .iter()
            .filter(|session| !self.is_open(**session, name))
            .copied()
            .collect::<SmallVec<[_; 2]>>()
        {
            self.forget_name(session, name);
        }
        self.tell(openers, Event::DeviceClosed(gone.clone(), OutOfServiceReason::DeviceUnregistered));
        self.out.push(Output::News(News::Removed { device: gone, generation }));
        true
    }

    /// Says that a device is restricted or is so no longer, that it is in service again, and what was hidden so long.
    pub(crate) fn announce(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let (restricted, now) = (!device.plan.allow_cti_control, device.in_service());
        let Some(told) = &mut device.unsettled else { return };
        let itself = (told.restricted != restricted).then_some(restricted);
        let back = now && !told.in_service;
        told.restricted = restricted;
        told.in_service |= now;
        let mut line = None;
        for changed in device.lines.iter_mut().filter(|line| line.restricted != line.told_restricted) {
            line.get_or_insert(changed.restricted);
            changed.told_restricted = changed.restricted;
        }
        let Some(device) = self.devices.get(name) else { return };
        let (view, openers) = (|| self.device_view(device), device.openers.clone());
        if itself.is_some() || line.is_some() {
            let news = News::Restriction { device: view(), itself, line };
            self.out.push(Output::News(news));
        }
        if back && !openers.is_empty() {
            let view = self.device(name);
            view.into_iter().for_each(|view| self.tell(openers.clone(), Event::DeviceInService(view)));
        }
        self.unmute(name);
    }

    /// Ends the calls on lines that the device or its applications have lost. False when some are left.
    fn clear_device(&mut self, name: &DeviceName, budget: &mut usize) -> bool {
        let Some(device) = self.devices.get(name) else { return true };
        if device.legs.is_empty() {
            return true;
        }
        let line_of = |leg: &LegId| self.legs.known(*leg).and_then(|leg| leg.at.line()).map(|(_, dn)| dn);
        let lost = device.legs.iter().filter(|leg| line_of(leg).is_some_and(|dn| device.loses(dn)));
        let lost: Vec<LegId> = lost.copied().take(budget.saturating_add(1)).collect();
        let all = lost.len() <= *budget;
        for leg in lost.into_iter().take(*budget) {
            *budget -= 1;
            self.clear_leg(name, leg);
        }
        all
    }

    /// Settings of lines, and that the device went out of service.
    fn tell_rest(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let Some(told) = device.unsettled.take() else { return };
        let mut changed: SmallVec<[(Dn, bool, bool); 1]> = SmallVec::new();
        for line in &mut device.lines {
            let (forward, accept) =
                (replace(&mut line.forward_untold, false), replace(&mut line.auto_accept_untold, false));
            if forward || accept {
                changed.push((line.dn.clone(), forward, accept));
            }
        }
        let reason = device.restriction().unwrap_or(OutOfServiceReason::DeviceUnregistered);
        for (dn, forward, accept) in changed {
            if forward {
                self.tell_line(name, &dn, Event::ForwardChanged);
            }
            if accept {
                self.tell_line(name, &dn, Event::AutoAcceptChanged);
            }
        }
        self.tell_service(name, told.in_service, reason);
    }

    /// The device at which a leg is, which may be one that goes.
    pub(crate) fn device_at(&self, leg: &Leg) -> Option<&Device> {
        let (name, _) = leg.at.line()?;
        let present = self.devices.get(name);
        if self.settling.retired.is_empty() {
            return present;
        }
        let here = |device: &&Device| device.legs.contains(&leg.id);
        let old = || self.settling.retired.iter().find_map(|old| old.leaving(name).filter(here));
        present.filter(here).or_else(old)
    }

    /// The same, to be changed.
    pub(crate) fn device_at_mut(&mut self, name: &DeviceName, leg: LegId) -> Option<&mut Device> {
        let present = self.devices.get_mut(name);
        if self.settling.retired.is_empty() {
            return present;
        }
        let here = |device: &&mut Device| device.legs.contains(&leg);
        let retired = &mut self.settling.retired;
        present
            .filter(here)
            .or_else(|| retired.iter_mut().find_map(|old| old.devices.get_mut(name).filter(here)))
    }
}

/// A line that comes back before it was cleared has its calls still.
fn count_calls(device: &mut Device, legs: &Table<LegId, Leg>) {
    for line in &mut device.lines {
        let there =
            |leg: &Leg| !leg.is_remote_in_use() && leg.at.line().is_some_and(|(_, dn)| *dn == line.dn);
        let calls = device.legs.iter().filter(|id| legs.known(**id).is_some_and(there)).count();
        line.calls = u32::try_from(calls).unwrap_or(u32::MAX);
    }
}

/// What a request is about.
pub(crate) enum Subject<'a> {
    Device(&'a DeviceName),
    Leg(LegId),
}

pub(crate) fn subject(request: &Request) -> Subject<'_> {
    match request {
        Request::OpenDevice { device, .. }
        | Request::CloseDevice { device }
        | Request::SetForwardAll { device, .. }
        | Request::SetAutoAccept { device, .. }
        | Request::MakeCall { device, .. } => Subject::Device(device),
        Request::Accept { leg }
        | Request::Answer { leg }
        | Request::Reject { leg, .. }
        | Request::Redirect { leg, .. }
        | Request::Drop { leg }
        | Request::Hold { leg }
        | Request::Retrieve { leg }
        | Request::SetUserData { leg, .. }
        | Request::SetMedia { leg, .. } => Subject::Leg(*leg),
    }
}
