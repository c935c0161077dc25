//! Restricted phones and lines (`allow_cti_control: false`). Their calls go on, and their legs are *hidden*: what happens to
//! them is said for whoever keeps a mirror of the device ([`Output::Hidden`]), and no application is told. Which legs a new plan
//! hides is said when it is put in force ([`News::Hidden`]), and that it has reached a device, so that what is no longer hidden
//! can be told, once its restrictions are told ([`News::Reached`]).
//!
//! Calls at ports and route points are cleared when a restriction begins (`reconcile`).

use crate::control::CallControl;
use crate::devices::Device;
use crate::ids::{DeviceName, Dn, LegId};
use crate::leg::Leg;
use crate::port::{News, Output};
use crate::view::WholeLeg;
use std::mem::replace;

impl Device {
    /// Whether this line's calls go on and are hidden.
    pub(crate) fn hides(&self, dn: &Dn) -> bool {
        !self.is_application()
            && (!self.plan.allow_cti_control || self.line(dn).is_some_and(|line| line.restricted))
    }
}

impl CallControl {
    /// Whether applications are told nothing of this leg. Of one that must go they hear the end.
    pub(crate) fn is_hidden(&self, leg: &Leg) -> bool {
        let Some((_, dn)) = leg.at.line() else { return false };
        self.device_at(leg).is_some_and(|device| device.hides(dn) && !device.is_leaving())
    }

    /// Says which legs of a device the plan in force hides.
    pub(crate) fn say_hidden(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.known(name).filter(|device| !device.openers.is_empty()) else {
            return;
        };
        let hidden = |id: &LegId| self.calls.leg(*id).is_some_and(|leg| self.is_hidden(leg));
        let legs: Vec<LegId> = device.legs.iter().copied().filter(hidden).collect();
        if !legs.is_empty() {
            self.out.push(Output::News(News::Hidden { device: name.clone(), legs }));
        }
    }

    /// Says once for each plan that the restrictions of an open phone are told.
    pub(crate) fn say_reached(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let concerns = !device.is_application() && !device.openers.is_empty();
        let Some(told) = device.unsettled.as_mut().filter(|_| concerns) else { return };
        if replace(&mut told.reached, true) {
            return;
        }
        let device = self.devices.known(name).map(|device| self.device_view(device));
        self.out.extend(device.map(|device| Output::News(News::Reached { device })));
    }

    /// The legs at a device with their streams, for whoever keeps a mirror of it.
    #[must_use]
    pub fn whole_legs(&self, name: &DeviceName) -> Vec<WholeLeg> {
        let whole = |leg| {
            let found = self.calls.find_leg(leg)?;
            let (streams, hidden) = (found.running.clone(), self.is_hidden(found));
            Some(WholeLeg { leg: self.leg_view(found)?, streams, hidden })
        };
        self.legs_at(name).filter_map(whole).collect()
    }
}
