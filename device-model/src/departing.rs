//! Sessions that have ended. None of their devices counts as open from that moment on; the devices are released one by one
//! ([`CallControl::depart`]), with other steps in between: an application may have had a hundred thousand open.
//!
//! Applications can't see that it takes a moment. New calls skip a device that only ended sessions have open, and a device
//! that an input concerns is released before the input. A few devices with a few calls are released in the step that ends
//! the session.

use crate::control::CallControl;
use crate::devices::Device;
use crate::ids::{CallId, DeviceName, LegId, SessionId};
use crate::port::{Input, News, Output, Subject};
use crate::transitions::{DeviceChange, Recorder, Trigger, What, Why};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// Devices that a session lets go in the step that ends it.
const DEVICES_AT_ONCE: usize = 16;
/// Legs that end in that step, and when the last session closes a device.
pub(crate) const LEGS_AT_ONCE: usize = 8;

/// What ended sessions have not let go yet.
#[derive(Debug, Default)]
pub(crate) struct Departing {
    sessions: BTreeMap<SessionId, BTreeSet<DeviceName>>,
    /// Legs whose address was a session's that has the device open no more, while others have.
    orphans: BTreeMap<LegId, SessionId>,
}

impl Departing {
    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Whether this session's name may still stand at the device.
    pub(crate) fn holds(&self, session: SessionId, device: &DeviceName) -> bool {
        self.sessions.get(&session).is_some_and(|devices| devices.contains(device))
    }
}

impl CallControl {
    /// Sessions are gone: what they had open is let go, the first of it at once.
    pub(crate) fn sessions_ended(&mut self, sessions: &[SessionId]) {
        let mut departs = false;
        for session in sessions {
            let Some(open) = self.openings.remove(*session) else { continue };
            self.device_counts.forget(*session);
            self.weigh_session(*session);
            self.departing.sessions.insert(*session, open);
            departs = true;
        }
        if departs {
            self.depart(DEVICES_AT_ONCE, LEGS_AT_ONCE);
        }
    }

    /// Each device that a session has open, or has ended without having let go of it.
    pub(crate) fn all_openings(&self) -> impl Iterator<Item = (SessionId, &DeviceName)> {
        let departing = self.departing.sessions.iter().map(|(session, open)| (*session, open));
        self.openings
            .all()
            .chain(departing)
            .flat_map(|(session, open)| open.iter().map(move |d| (session, d)))
    }

    /// Whether ended sessions have something left to let go.
    #[must_use]
    pub fn is_departing(&self) -> bool {
        !self.departing.sessions.is_empty() || !self.departing.orphans.is_empty()
    }

    /// Lets go of so many devices, and ends so many of the legs there; further ones wait to be cleared.
    pub(crate) fn depart(&mut self, devices: usize, legs: usize) {
        let mut budget = legs;
        let mut let_go: BTreeMap<SessionId, Vec<DeviceName>> = BTreeMap::new();
        for _ in 0..devices {
            let Some(mut first) = self.departing.sessions.first_entry() else { break };
            let session = *first.key();
            let name = first.get_mut().pop_first();
            if first.get().is_empty() {
                first.remove();
            }
            if let Some(name) = name {
                self.let_go(session, &name, &mut budget);
                let_go.entry(session).or_default().push(name);
            }
        }
        self.ask_for_orphans(budget);
        for (session, devices) in let_go {
            let over = !self.departing.has(session);
            self.out.push(Output::News(News::Departed { session, devices, over }));
        }
    }

    /// Takes the session from the device, unless a new plan has taken the device away. At the last one an application's device
    /// goes out of service and its calls end; else they go on, but not at an address that this session gave.
    fn let_go(&mut self, session: SessionId, name: &DeviceName, budget: &mut usize) {
        let why = Why::session(Trigger::SessionEnded, session);
        let closed = What::Device(name.clone(), DeviceChange::Closed(session));
        Recorder { why, out: &mut self.out }.record(closed);
        self.because(why, |this| this.let_go_of(session, name, budget));
    }

    fn let_go_of(&mut self, session: SessionId, name: &DeviceName, budget: &mut usize) {
        let Some(last) = self.take_opening(session, name) else { return };
        if last {
            return self.fail_in_portions(name, budget);
        }
        self.orphan(session, name);
    }

    /// A session is no opener of the device any more, others are: they are asked for the addresses that it gave.
    fn orphan(&mut self, session: SessionId, name: &DeviceName) {
        let Some(device) = self.devices.get(name) else { return };
        let gave = |leg: &&LegId| self.is_given_by(**leg, session);
        let orphans: Vec<_> = device.legs.iter().filter(gave).map(|leg| (*leg, session)).collect();
        self.departing.orphans.extend(orphans);
    }

    /// The same of a session that lives; the first of them are asked for at once.
    pub(crate) fn orphan_at_once(&mut self, session: SessionId, name: &DeviceName) {
        self.orphan(session, name);
        self.ask_for_orphans(LEGS_AT_ONCE);
    }

    fn ask_for_orphans(&mut self, legs: usize) {
        for _ in 0..legs {
            let Some((leg, session)) = self.departing.orphans.pop_first() else { return };
            self.ask_for(leg, session);
        }
    }

    fn ask_for(&mut self, leg: LegId, gone: SessionId) {
        if self.calls.find_leg(leg).is_some() && self.is_given_by(leg, gone) {
            self.ask_others(leg);
        }
    }

    /// No session has the device open any more: few calls end now, many wait for their turn to end.
    pub(crate) fn fail_in_portions(&mut self, name: &DeviceName, budget: &mut usize) {
        let Some(device) = self.devices.known_mut(name).filter(|device| device.is_application()) else {
            return;
        };
        device.media = None;
        let legs = device.legs.len();
        if legs <= *budget {
            *budget -= legs;
            self.fail_device(name);
        } else {
            self.leave_uncleared(name);
        }
    }

    /// Whether a session that has not ended has the device open.
    pub(crate) fn is_opened(&self, device: &Device) -> bool {
        match self.departing.sessions.is_empty() {
            true => !device.openers.is_empty(),
            false => device.openers.iter().any(|opener| !self.departing.has(*opener)),
        }
    }

    /// What an input concerns is let go before it.
    pub(crate) fn depart_concerned(&mut self, input: &Input) {
        if !self.is_departing() {
            return;
        }
        match input {
            Input::Revoked { device, .. } | Input::Restored { device, .. } => self.depart_from(device),
            Input::Signal(end, _) => {
                if let Some(leg) = self.leg_of_end(*end) {
                    self.depart_beside(leg);
                }
            }
            Input::Request { request, .. } => match request.subject() {
                Subject::Device(device) => self.depart_from(device),
                Subject::Leg(leg) => self.depart_beside(leg),
            },
            Input::Configure { .. }
            | Input::Settle { .. }
            | Input::SettleDevice(_)
            | Input::Depart { .. }
            | Input::Registered(_)
            | Input::Unregistered(_)
            | Input::IncomingCall { .. }
            | Input::SessionEnded(_)
            | Input::SessionsEnded(_)
            | Input::Shutdown { .. }
            | Input::Timeout => {}
        }
    }

    fn depart_beside(&mut self, leg: LegId) {
        if let Some(call) = self.calls.find_leg(leg).map(|leg| leg.call) {
            self.depart_from_call(call);
        }
    }

    /// The same for all devices of a call.
    pub(crate) fn depart_from_call(&mut self, call: CallId) {
        if !self.is_departing() {
            return;
        }
        let legs = self.calls.call(call).map(|call| self.calls.legs_of(call)).unwrap_or_default();
        let devices: SmallVec<[DeviceName; 4]> =
            legs.iter().filter_map(|leg| self.device_of_leg(*leg).cloned()).collect();
        devices.iter().for_each(|device| self.depart_from(device));
        for leg in legs {
            if let Some(session) = self.departing.orphans.remove(&leg) {
                self.ask_for(leg, session);
            }
        }
    }

    fn depart_from(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.get(name) else { return };
        let gone = device.openers.iter().copied().filter(|opener| self.departing.has(*opener));
        for session in gone.collect::<SmallVec<[SessionId; 2]>>() {
            let mut over = false;
            let devices = self.departing.sessions.get_mut(&session);
            if let Some(devices) = self.contradictions.known(devices, "a session that departs is not there") {
                devices.remove(name);
                over = devices.is_empty();
            }
            if over {
                self.departing.sessions.remove(&session);
            }
            // Its calls wait to be cleared; what the input concerns of them is cleared next.
            self.let_go(session, name, &mut 0);
            let devices = vec![name.clone()];
            self.out.push(Output::News(News::Departed { session, devices, over }));
        }
    }
}
