//! What stands by the records alone: which calls, legs, devices and sessions are in what state. Held against the tables after
//! every step of a test it shows that no transition is without its record, and that none is told that was not.

use crate::control::CallControl;
use crate::devices::{Device, Service};
use crate::ids::{CallId, DeviceName, EndId, LegId, SessionId};
use crate::leg::Leg;
use crate::transitions::{CallChange, DeviceChange, LegChange, SessionChange, Transition, What};
use crate::view::LegState;
use std::collections::{BTreeMap, BTreeSet};

/// All that records tell, put together.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    calls: BTreeSet<CallId>,
    legs: BTreeMap<LegId, StandingLeg>,
    opened: BTreeMap<SessionId, BTreeSet<DeviceName>>,
    registered: BTreeSet<DeviceName>,
    in_service: BTreeSet<DeviceName>,
    /// Of devices of which it was told, or that were there at the beginning.
    restricted: BTreeMap<DeviceName, bool>,
    sessions: BTreeMap<SessionId, SessionStanding>,
}

/// A leg, as its records have left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StandingLeg {
    call: CallId,
    state: LegState,
    end: Option<EndId>,
}

impl StandingLeg {
    fn of(leg: &Leg) -> Self {
        Self { call: leg.call, state: leg.state(), end: leg.end }
    }
}

/// Whether a session has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStanding {
    /// It has one.
    Attached,
    /// It waits for its application.
    Waiting,
}

impl Standing {
    /// One more record.
    ///
    /// # Errors
    /// A sentence on what can't follow what was told before: a record is missing, or is one too many.
    pub fn apply(&mut self, record: &Transition) -> Result<(), String> {
        let fits = match &record.what {
            What::Call(call, CallChange::Begun) => self.calls.insert(*call),
            What::Call(call, CallChange::Ended | CallChange::Joined(_)) => self.calls.remove(call),
            What::Leg { leg, call, end, change, .. } => self.apply_leg(*leg, *call, *end, *change),
            What::Device(device, change) => self.apply_device(device, *change),
            What::Devices(devices, change) => devices.iter().all(|device| self.apply_device(device, *change)),
            What::Session(session, change) => self.apply_session(*session, *change),
        };
        if fits { Ok(()) } else { Err(format!("a record that can't be: {record}")) }
    }

    fn apply_leg(&mut self, leg: LegId, call: CallId, end: Option<EndId>, change: LegChange) -> bool {
        let before = self.legs.get(&leg).copied();
        let (state, fits) = match (change, before) {
            (LegChange::State { from, to, .. }, before) => {
                let known = before.is_none_or(|before| before.call == call);
                (to, known && before.map(|before| before.state) == from)
            }
            (LegChange::Moved(from), Some(before)) => (before.state, before.call == from && from != call),
            (LegChange::End(had), Some(before)) => (before.state, before.end == Some(had)),
            (LegChange::Moved(_) | LegChange::End(_), None) => return false,
        };
        match state {
            LegState::Disconnected => drop(self.legs.remove(&leg)),
            LegState::Dialtone
            | LegState::Dialing
            | LegState::Proceeding
            | LegState::Ringback
            | LegState::Offering
            | LegState::Ringing
            | LegState::Connected
            | LegState::Held
            | LegState::Failed => drop(self.legs.insert(leg, StandingLeg { call, state, end })),
        }
        fits
    }

    fn apply_device(&mut self, device: &DeviceName, change: DeviceChange) -> bool {
        match change {
            DeviceChange::Registered => self.registered.insert(device.clone()),
            DeviceChange::Unregistered => self.registered.remove(device),
            DeviceChange::InService => self.in_service.insert(device.clone()),
            DeviceChange::OutOfService => self.in_service.remove(device),
            DeviceChange::Opened(session) => self.opened.entry(session).or_default().insert(device.clone()),
            DeviceChange::Closed(session) => {
                self.opened.get_mut(&session).is_some_and(|open| open.remove(device))
            }
            DeviceChange::Restricted => self.restricted.insert(device.clone(), true) != Some(true),
            DeviceChange::Unrestricted => self.restricted.insert(device.clone(), false) != Some(false),
            DeviceChange::Removed => {
                self.registered.remove(device);
                self.in_service.remove(device);
                self.restricted.remove(device);
                true
            }
        }
    }

    fn apply_session(&mut self, session: SessionId, change: SessionChange) -> bool {
        use SessionStanding as S;
        let is = self.sessions.get(&session).copied();
        let now = match (change, is) {
            (SessionChange::Opened, None) | (SessionChange::Resumed, Some(S::Attached | S::Waiting)) => {
                Some(S::Attached)
            }
            (SessionChange::Restored, None) | (SessionChange::Lost, Some(S::Attached)) => Some(S::Waiting),
            (SessionChange::Closed, Some(S::Attached | S::Waiting)) => None,
            (SessionChange::Opened | SessionChange::Restored, Some(_))
            | (SessionChange::Resumed | SessionChange::Lost | SessionChange::Closed, None)
            | (SessionChange::Lost, Some(S::Waiting)) => return false,
        };
        match now {
            Some(now) => drop(self.sessions.insert(session, now)),
            None => drop(self.sessions.remove(&session)),
        }
        true
    }

    /// The sessions, in order.
    #[must_use]
    pub fn sessions(&self) -> &BTreeMap<SessionId, SessionStanding> {
        &self.sessions
    }
}

impl CallControl {
    /// What stands now, to begin with: sessions beside, of which the model knows nothing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let legs = self.calls.legs().map(|leg| (leg.id, StandingLeg::of(leg)));
        let mut opened: BTreeMap<SessionId, BTreeSet<DeviceName>> = BTreeMap::new();
        for (session, name) in self.all_openings() {
            opened.entry(session).or_default().insert(name.clone());
        }
        let devices = || self.devices.iter();
        let those = |which: fn(&Device) -> bool| {
            devices().filter(|(_, device)| which(device)).map(|(name, _)| name.clone()).collect()
        };
        Standing {
            calls: self.call_ids().collect(),
            legs: legs.collect(),
            opened,
            registered: those(|device| device.registered),
            in_service: those(|device| device.service() == Service::In),
            restricted: devices()
                .map(|(name, device)| (name.clone(), !device.plan.allow_cti_control))
                .collect(),
            sessions: BTreeMap::new(),
        }
    }

    /// Holds what records told against the tables. A device that a new plan changed is compared once that is told of it.
    ///
    /// # Errors
    /// A sentence on the first difference.
    pub fn check_records(&self, told: &Standing) -> Result<(), String> {
        let calls = self.calls.all().filter(|call| told.calls.contains(&call.id)).count();
        if (calls, calls) != (self.calls.count(), told.calls.len()) {
            return Err(format!("{calls} calls are there and recorded, {} are recorded", told.calls.len()));
        }
        for leg in self.calls.legs() {
            let (is, told) = (StandingLeg::of(leg), told.legs.get(&leg.id));
            if told != Some(&is) {
                return Err(format!("{} is {is:?}, and was told as {told:?}", leg.id));
            }
        }
        if let Some(gone) = told.legs.keys().find(|leg| self.calls.find_leg(**leg).is_none()) {
            return Err(format!("{gone} went without a record"));
        }
        let mut openings = 0;
        for (session, name) in self.all_openings() {
            openings += 1;
            if !told.opened.get(&session).is_some_and(|open| open.contains(name)) {
                return Err(format!("{session} has opened {name} without a record"));
            }
        }
        if openings != told.opened.values().map(BTreeSet::len).sum::<usize>() {
            return Err("a device was let go of without a record".into());
        }
        self.check_recorded_devices(told)
    }

    fn check_recorded_devices(&self, told: &Standing) -> Result<(), String> {
        for (name, device) in self.devices.iter().filter(|(name, _)| self.is_recorded(name)) {
            let restricted = !device.plan.allow_cti_control;
            // One that a plan added is as that plan says.
            let told_restricted = told.restricted.get(name).copied().unwrap_or(restricted);
            let told = (told.registered.contains(name), told.in_service.contains(name), told_restricted);
            let is = (device.registered, device.service() == Service::In, restricted);
            if is != told {
                return Err(format!(
                    "{name} (registered, in service, restricted) is {is:?}, told as {told:?}"
                ));
            }
        }
        let known = told.registered.iter().chain(&told.in_service).chain(told.restricted.keys());
        match known.into_iter().find(|name| !self.devices.contains(name) && !self.is_leaving(name)) {
            Some(gone) => Err(format!("{gone} was removed without a record")),
            None => Ok(()),
        }
    }

    /// Whether all that a new plan made of a device is told.
    fn is_recorded(&self, name: &DeviceName) -> bool {
        self.devices.get(name).is_none_or(|device| device.unsettled.is_none()) && !self.is_leaving(name)
    }
}
