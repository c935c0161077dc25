//! The devices that each session has opened, by name. A device lists the same sessions ([`crate::devices::Device::openers`]),
//! with two delays: a device that a new plan has taken away is removed here when it is settled (`reconcile`), and a session
//! that has ended is removed there when the device is released (`departing`).

use crate::ids::{DeviceName, SessionId};
use crate::transitions::{DeviceChange, Recorder, What};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// The table; a session without anything open is not in it.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    of_session: BTreeMap<SessionId, BTreeSet<DeviceName>>,
}

impl Openings {
    pub(crate) fn add(&mut self, session: SessionId, name: DeviceName, recorder: &mut Recorder<'_>) {
        if self.of_session.entry(session).or_default().insert(name.clone()) {
            recorder.record(What::Device(name, DeviceChange::Opened(session)));
        }
    }

    /// Strikes one device.
    pub(crate) fn strike(&mut self, session: SessionId, name: &DeviceName, recorder: &mut Recorder<'_>) {
        if let Some(open) = self.of_session.get_mut(&session) {
            if open.remove(name) {
                recorder.record(What::Device(name.clone(), DeviceChange::Closed(session)));
            }
            if open.is_empty() {
                self.of_session.remove(&session);
            }
        }
    }

    /// Strikes those that a session has lost by a new configuration; returns them in order.
    pub(crate) fn strike_revoked(
        &mut self,
        session: SessionId,
        devices: &[DeviceName],
        recorder: &mut Recorder<'_>,
    ) -> Arc<[DeviceName]> {
        let Some(open) = self.of_session.get_mut(&session) else { return Arc::default() };
        let mut names = devices.iter().peekable();
        let listed = |name: &DeviceName| {
            while names.next_if(|listed| *listed < name).is_some() {}
            names.next_if(|listed| *listed == name).is_some()
        };
        let struck: Arc<[DeviceName]> = open.extract_if(.., listed).collect();
        if open.is_empty() {
            self.of_session.remove(&session);
        }
        if !struck.is_empty() {
            recorder.record(What::Devices(Arc::clone(&struck), DeviceChange::Closed(session)));
        }
        struck
    }

    /// Strikes a session with all that it has. It is recorded device by device, when each departs.
    pub(crate) fn remove(&mut self, session: SessionId) -> Option<BTreeSet<DeviceName>> {
        self.of_session.remove(&session)
    }

    pub(crate) fn has(&self, session: SessionId, name: &DeviceName) -> bool {
        self.of_session.get(&session).is_some_and(|open| open.contains(name))
    }

    /// What a session has, in order, after this one.
    pub(crate) fn after(
        &self,
        session: SessionId,
        last: Option<&DeviceName>,
    ) -> impl Iterator<Item = &DeviceName> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let open = self.of_session.get(&session);
        open.into_iter().flat_map(move |open| open.range::<DeviceName, _>((from, Bound::Unbounded)))
    }

    /// Each session with what it has, both in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SessionId, &BTreeSet<DeviceName>)> {
        self.of_session.iter().map(|(session, open)| (*session, open))
    }
}
