//! What CallManager told and what never came: a number that is missing is found by the next message
//! ([`crate::node::messages::Receiver`]), and then the whole of all open devices is asked for. It comes in the one order of what is
//! told, is compared with the mirror, and the difference is told.

use super::CtiManager;
use crate::node::Step;
use crate::node::messages::{Ask, Gap, Place, Told, WholeDevice};
use device_model::{DeviceName, DeviceView, LineView, News};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeSet;

/// Of so many messages one is lost, in tests.
const LOST: u32 = 6;

/// What is known to be missing.
#[derive(Default)]
pub(in crate::node) struct Missing {
    state: State,
    /// Which time it is asked for.
    round: u64,
    /// Loses something by these dice: for tests.
    dice: Option<StdRng>,
    /// Something was lost, and the whole has not come since.
    lost: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    /// Something is missing.
    Found,
    /// The whole was asked for, and these devices have come.
    Asked(BTreeSet<DeviceName>),
}

impl Missing {
    /// A message never came. Was it one of those that were asked for, they are asked for again.
    pub(in crate::node) fn found(&mut self, gap: &Gap) {
        debug_assert!(self.lost, "within one process nothing is lost: {gap:?}");
        self.state = State::Found;
    }

    /// Whether the mirror may not show what is: for tests.
    pub(in crate::node) fn may_be(&self) -> bool {
        self.lost
    }

    /// Whether this message is lost: for tests. Answers, limits, and what a reload makes of devices that nobody has open are
    /// asked for by nobody again.
    pub(in crate::node) fn loses(&mut self, told: &Told) -> bool {
        let may_be_lost = match told {
            Told::Event { .. } | Told::Hidden(_) | Told::Whole { .. } => true,
            Told::Directory(news) => match news {
                News::Opened { .. } | News::Closed { .. } | News::Hidden { .. } | News::Reached { .. } => {
                    true
                }
                News::Announced { .. }
                | News::Settled { .. }
                | News::Revoked { .. }
                | News::Departed { .. }
                | News::Removed { .. } => false,
            },
            Told::Answer { .. } | Told::Limit(_) => false,
        };
        let lost = may_be_lost && self.dice.as_mut().is_some_and(|dice| dice.random_ratio(1, LOST));
        self.lost |= lost;
        lost
    }
}

impl CtiManager {
    /// From now on messages are lost by these dice, or none is.
    #[cfg(test)]
    pub(in crate::node) fn lose_told(&mut self, seed: Option<u64>) {
        self.hearing.missing.dice = seed.map(<StdRng as rand::SeedableRng>::seed_from_u64);
    }

    /// Asks for the whole where something is missing. It is asked in the order of all that is asked.
    pub(in crate::node) fn ask_for_what_is_missing(&mut self, step: &mut Step<'_>) {
        let missing = &mut self.hearing.missing;
        if let State::Found = missing.state {
            missing.state = State::Asked(BTreeSet::new());
            missing.round += 1;
            let round = missing.round;
            self.ask(step, Ask::Whole { round });
        }
    }

    /// Some of the devices that are open, as they are.
    pub(in crate::node) fn hear_whole(
        &mut self,
        step: &mut Step<'_>,
        round: u64,
        devices: Vec<WholeDevice>,
        place: Place,
    ) {
        let over = place == Place::Last;
        if round != self.hearing.missing.round {
            return;
        }
        let State::Asked(come) = &mut self.hearing.missing.state else { return };
        come.extend(devices.iter().map(|whole| whole.device.name.clone()));
        let gone = over.then(|| self.mirror.others(come));
        if over {
            (self.hearing.missing.state, self.hearing.missing.lost) = (State::Nothing, false);
        }
        devices.into_iter().for_each(|whole| self.reconcile(step, whole));
        for name in gone.into_iter().flatten() {
            self.reconcile_gone(step, &name);
        }
    }

    /// Tells what is other of a device than was told.
    fn reconcile(&mut self, step: &mut Step<'_>, whole: WholeDevice) {
        let WholeDevice { device, openers, media, legs } = whole;
        self.applications.owners.told(&device);
        openers.iter().for_each(|id| self.keeping.device(*id, &device.name));
        let lost = self.mirror.has_now(&device, openers, media);
        let (itself, line) =
            self.mirror.told_device(&device.name).map_or((None, None), |t| restriction(t, &device));
        if itself.is_some() || line.is_some() {
            self.tell_restriction(step, &device, itself, line);
        }
        let difference = self.mirror.whole(device, legs);
        self.tell_difference(step, difference);
        self.tell_difference(step, lost);
    }

    /// A device is open to nobody any more.
    fn reconcile_gone(&mut self, step: &mut Step<'_>, name: &DeviceName) {
        let difference = self.mirror.gone(name);
        self.tell_difference(step, difference);
    }
}

/// Whether a device is restricted now, or no longer, and any line of it: `None` = as it was told.
fn restriction(told: &DeviceView, is: &DeviceView) -> (Option<bool>, Option<bool>) {
    let itself = (told.restricted != is.restricted).then_some(is.restricted);
    let other = |line: &&LineView| {
        told.lines.iter().any(|told| told.dn == line.dn && told.restricted != line.restricted)
    };
    (itself, is.lines.iter().find(other).map(|line| line.restricted))
}
