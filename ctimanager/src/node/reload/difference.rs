//! What a new configuration changes, found once for all open providers.

use super::super::Settings;
use device_model::plan::{DevicePlan, Plan};
use device_model::{DeviceName, Dn};
use security::{Policy, User};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What is other than before. Empty when nothing is.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Devices that are gone; one of another kind under an old name counts as gone and new.
    pub(super) removed: BTreeSet<DeviceName>,
    /// Devices that are new.
    pub(super) added: BTreeSet<DeviceName>,
    /// Devices that stay and have other lines.
    pub(super) relined: BTreeSet<DeviceName>,
    /// Devices that stay and whose restriction, or that of a line, changed.
    pub(super) restrictions: Vec<Restriction>,
}

/// A change of `allow_cti_control`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Restriction {
    pub(super) device: DeviceName,
    /// The device itself: restricted now, or no longer; `None` = as before.
    pub(super) itself: Option<bool>,
    /// The same of any of its lines.
    pub(super) line: Option<bool>,
}

impl Difference {
    pub(super) fn between(old: &Plan, new: &Plan) -> Self {
        let mut found = Self::default();
        if old == new {
            return found;
        }
        let lines = changed_lines(old, new);
        let mut before: HashMap<&DeviceName, &DevicePlan> =
            old.devices.iter().map(|device| (&device.name, device)).collect();
        for device in &new.devices {
            match before.remove(&device.name) {
                Some(was) if was.kind == device.kind => found.compare(was, device, &lines),
                Some(_) => {
                    found.removed.insert(device.name.clone());
                    found.added.insert(device.name.clone());
                }
                None => {
                    found.added.insert(device.name.clone());
                }
            }
        }
        found.removed.extend(before.into_keys().cloned());
        found
    }

    fn compare(&mut self, was: &DevicePlan, is: &DevicePlan, lines: &HashMap<&Dn, bool>) {
        let itself = (was.allow_cti_control != is.allow_cti_control).then_some(!is.allow_cti_control);
        let line = is.lines.iter().filter(|dn| was.lines.contains(dn)).find_map(|dn| lines.get(dn).copied());
        if itself.is_some() || line.is_some() {
            self.restrictions.push(Restriction { device: is.name.clone(), itself, line });
        }
        if was.lines != is.lines {
            self.relined.insert(is.name.clone());
        }
    }
}

/// The numbers whose restriction changed, with what it is now.
fn changed_lines<'a>(old: &'a Plan, new: &'a Plan) -> HashMap<&'a Dn, bool> {
    let restricted = |plan: &'a Plan| -> BTreeSet<&'a Dn> {
        plan.numbers.iter().filter(|number| !number.allow_cti_control).map(|number| &number.dn).collect()
    };
    let (before, after) = (restricted(old), restricted(new));
    before.symmetric_difference(&after).map(|dn| (*dn, after.contains(*dn))).collect()
}

/// What a user's providers lose and gain by the change of his list and of the devices.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Devices that stay and that he may no longer control by his list. Sorted, as the devices of a policy are.
    pub(super) unlisted: Vec<DeviceName>,
    /// Devices that are gone and stood on his list.
    pub(super) removed: Vec<DeviceName>,
    /// Devices on his list that were not there, not on it, or had other lines. Sorted.
    pub(super) gained: Vec<DeviceName>,
}

impl Share {
    pub(super) fn of(user: &str, before: &Settings, after: &Settings, difference: &Difference) -> Self {
        let (old, new) = (before.policy.user(user), after.policy.user(user));
        let lists = |user: Option<&Arc<User>>, name: &DeviceName| {
            user.is_some_and(|user| user.controlled.entry_for(name.as_str()).is_some())
        };
        let mut share = Self {
            unlisted: Vec::new(),
            removed: difference.removed.iter().filter(|name| lists(old, name)).cloned().collect(),
            gained: difference.added.iter().filter(|name| lists(new, name)).cloned().collect(),
        };
        // Only who has another list is compared device by device: there may be thousands of both.
        if old.map(|user| &user.controlled) != new.map(|user| &user.controlled) {
            for name in staying(&after.policy, difference) {
                match (lists(old, name), lists(new, name)) {
                    (true, false) => share.unlisted.push(name.clone()),
                    (false, true) => share.gained.push(name.clone()),
                    (true, true) | (false, false) => {}
                }
            }
        }
        let relined = difference.relined.iter().filter(|name| lists(new, name));
        share.gained.extend(relined.cloned());
        share.gained.sort();
        share.gained.dedup();
        share
    }

    pub(super) fn gains(&self, device: &DeviceName) -> bool {
        self.gained.binary_search(device).is_ok()
    }
}

fn staying<'a>(policy: &'a Policy, difference: &'a Difference) -> impl Iterator<Item = &'a DeviceName> {
    policy.devices().keys().filter(|name| !difference.added.contains(*name))
}
