//! A new configuration with all that it changes, found before the node has to do with it: on the thread that reads the
//! file. The node's own step exchanges tables and begins to tell.

use crate::node::Settings;
use device_model::plan::{DevicePlan, Plan};
use device_model::{DeviceName, PreparedPlan};
use security::Policy;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

/// A configuration, ready to follow another one.
pub struct Switch {
    pub(super) before: Arc<Settings>,
    pub(super) after: Arc<Settings>,
    /// `None`: the plan stays.
    pub(super) plan: Option<Box<PreparedPlan>>,
    pub(super) difference: Arc<Difference>,
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Switch").field(&self.after).finish()
    }
}

impl Switch {
    /// From the settings in force to others. Takes time that grows with both; the node finds the difference once more by
    /// itself if other settings are in force by then.
    #[must_use]
    pub fn between(before: &Arc<Settings>, after: Arc<Settings>) -> Self {
        let plan = PreparedPlan::between(&before.plan, &after.plan).map(Box::new);
        let difference = Arc::new(Difference::between(before, &after));
        Self { before: Arc::clone(before), after, plan, difference }
    }
}

/// What is other than before. All lists are in order.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Devices that are new; one of another kind under an old name is.
    pub(super) added: Arc<[DeviceName]>,
    /// Devices that stay and have other lines.
    pub(super) relined: Arc<[DeviceName]>,
    /// Users with another list of devices, or without the super provider's right that they had.
    pub(super) users: HashMap<Arc<str>, Lists>,
    /// SIP accounts that are gone.
    pub(super) accounts: Vec<Arc<str>>,
}

/// What a user's list of devices loses and gains of the devices that stay. All are in order.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// No longer on it.
    pub(super) unlisted: Arc<[DeviceName]>,
    /// New on it.
    pub(super) gained: Arc<[DeviceName]>,
    /// What his providers may not keep open.
    pub(super) revoked: Arc<[DeviceName]>,
}

impl Difference {
    fn between(before: &Settings, after: &Settings) -> Self {
        let (added, relined) = match before.plan == after.plan {
            true => (Arc::default(), Arc::default()),
            false => changed_devices(&before.plan, &after.plan),
        };
        let users = changed_lists(&before.policy, &after.policy, &added);
        let accounts = before.accounts.ids().filter(|id| !after.accounts.has(id)).cloned().collect();
        Self { added, relined, users, accounts }
    }
}

/// Devices that are new, and those that have other lines.
fn changed_devices(old: &Plan, new: &Plan) -> (Arc<[DeviceName]>, Arc<[DeviceName]>) {
    let before: HashMap<&DeviceName, &DevicePlan> = old.devices.iter().map(|d| (&d.name, d)).collect();
    let (mut added, mut relined) = (BTreeSet::new(), BTreeSet::new());
    for device in &new.devices {
        match before.get(&device.name) {
            Some(was) if was.kind == device.kind => {
                if was.lines != device.lines {
                    relined.insert(device.name.clone());
                }
            }
            Some(_) | None => drop(added.insert(device.name.clone())),
        }
    }
    (added.into_iter().collect(), relined.into_iter().collect())
}

fn changed_lists(before: &Policy, after: &Policy, added: &[DeviceName]) -> HashMap<Arc<str>, Lists> {
    let stays =
        |name: &&DeviceName| before.device(name.as_str()).is_some() && added.binary_search(name).is_err();
    let mut changed = HashMap::new();
    for new in after.users() {
        let id = new.id.as_str();
        let Some(old) = before.user(id) else { continue };
        let super_provider = after.privileges(id).control_all_devices;
        let withdrawn = before.privileges(id).control_all_devices && !super_provider;
        if old.controlled == new.controlled && !withdrawn {
            continue;
        }
        let (mut unlisted, mut gained, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        for name in after.devices().keys().filter(stays) {
            let lists = |user: &security::User| user.controlled.entry_for(name.as_str()).is_some();
            match (lists(old), lists(new)) {
                (true, false) => unlisted.push(name.clone()),
                (false, true) => gained.push(name.clone()),
                (true, true) | (false, false) => {}
            }
            if withdrawn && !lists(new) {
                foreign.push(name.clone());
            }
        }
        let unlisted: Arc<[DeviceName]> = unlisted.into();
        let revoked = match (super_provider, withdrawn) {
            // A super provider keeps what it has open.
            (true, _) => Arc::default(),
            (false, true) => foreign.into(),
            (false, false) => Arc::clone(&unlisted),
        };
        changed.insert(id.into(), Lists { unlisted, gained: gained.into(), revoked });
    }
    changed
}
