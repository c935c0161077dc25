//! Who owns which device, by what was told of it last: each request carries that epoch, and an owner refuses another's (P1).

use super::CtiManager;
use device_model::port::{Event, Subject};
use device_model::{DeviceName, DeviceView, OwnerEpoch, Request};
use std::collections::BTreeMap;

/// The devices whose owner is not their first.
#[derive(Debug, Default)]
pub(in crate::node) struct Owners(BTreeMap<DeviceName, OwnerEpoch>);

impl Owners {
    /// The device is described so.
    pub(in crate::node) fn told(&mut self, device: &DeviceView) {
        if device.owner == OwnerEpoch::FIRST {
            self.0.remove(&device.name);
        } else {
            self.0.insert(device.name.clone(), device.owner);
        }
    }

    /// The device is told of, if the event is about one.
    pub(in crate::node) fn heard(&mut self, event: &Event) {
        match event {
            Event::DeviceInService(device)
            | Event::DeviceOutOfService(device, _)
            | Event::DeviceClosed(device, _) => self.told(device),
            Event::Leg(_)
            | Event::LegChanged(_)
            | Event::Digit(..)
            | Event::OpenChannel { .. }
            | Event::MediaStarted(..)
            | Event::KeyChanged(..)
            | Event::MediaStopped(..)
            | Event::Transferred { .. }
            | Event::ForwardChanged(..)
            | Event::AutoAcceptChanged(..) => {}
        }
    }

    fn of(&self, device: &DeviceName) -> OwnerEpoch {
        self.0.get(device).copied().unwrap_or(OwnerEpoch::FIRST)
    }
}

impl CtiManager {
    /// Whom a request is meant for.
    pub(in crate::node) fn owner_of(&self, request: &Request) -> OwnerEpoch {
        let device = match request.subject() {
            Subject::Device(device) => Some(device),
            Subject::Leg(leg) => self.mirror.device_of_leg(leg),
        };
        device.map_or(OwnerEpoch::FIRST, |device| self.applications.owners.of(device))
    }
}
