//! The policy: everything of the configuration that decides what users may. Immutable; a reload makes another.

use crate::decoy::Decoys;
use crate::devices::ControlledDevices;
use crate::groups::{Groups, StandardGroup};
use crate::users::{User, UserId};
use device_model::{DeviceName, Dn};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

/// The cluster's security mode: CUCM's mixed mode, or non-secure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Users of the Secure Connection group must use TLS.
    #[default]
    Secure,
    /// That group binds nobody (as in CUCM).
    NonSecure,
}

/// What the decision needs to know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// "Allow control of device from CTI"; without it the device is restricted.
    pub allow_cti_control: bool,
}

/// What a provider may do, as its application is told (protocol §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // field for field the wire's `privileges`
pub struct Privileges {
    pub control_all_devices: bool,
    pub park_monitoring: bool,
    pub calling_number_modification: bool,
    pub srtp_keys: bool,
    pub secure_connection: bool,
}

/// Users, devices and the mode, ready for [`Policy::decide`](crate::decision). Share it in an `Arc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    mode: Mode,
    users: HashMap<UserId, Arc<User>>,
    devices: BTreeMap<DeviceName, DeviceFacts>,
    restricted: HashSet<Dn>,
    decoys: Decoys,
    /// How many devices each user may control by his list: counted once, since each opening of a provider tells it.
    counts: HashMap<UserId, usize>,
}

/// Lists with patterns whose counts are remembered while they are counted: many users share few of them.
const MEMO: usize = 64;

impl Policy {
    /// Builds the policy. Of two users or devices of one name the later counts; the configuration's reader lets no such
    /// pair through.
    #[must_use]
    pub fn new(
        mode: Mode,
        users: impl IntoIterator<Item = User>,
        devices: impl IntoIterator<Item = (DeviceName, DeviceFacts)>,
    ) -> Self {
        let by_id: HashMap<UserId, Arc<User>> =
            users.into_iter().map(|user| (user.id.clone(), Arc::new(user))).collect();
        // Any order: they are sorted there.
        let decoys = Decoys::like(by_id.values().filter_map(|user| user.password_hash.as_deref()));
        let devices: BTreeMap<_, _> = devices.into_iter().collect();
        let counts = count_all(&by_id, &devices);
        Self { mode, users: by_id, devices, restricted: HashSet::new(), decoys, counts }
    }

    /// With these numbers kept from applications on whatever device they are (their own `allow_cti_control`).
    #[must_use]
    pub fn restricting(mut self, numbers: impl IntoIterator<Item = Dn>) -> Self {
        self.restricted.extend(numbers);
        self
    }

    /// Whether applications are kept from the lines of this number.
    #[must_use]
    pub fn is_restricted(&self, dn: &Dn) -> bool {
        self.restricted.contains(dn)
    }

    /// The cluster's mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The user of an id.
    #[must_use]
    pub fn user(&self, id: &str) -> Option<&Arc<User>> {
        self.users.get(id)
    }

    /// Every user, in no particular order.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values().map(|user| &**user) // any order, as said
    }

    /// What is known of a device.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<DeviceFacts> {
        self.devices.get(name).copied()
    }

    /// Every device with what the decision knows of it, by name.
    #[must_use]
    pub fn devices(&self) -> &BTreeMap<DeviceName, DeviceFacts> {
        &self.devices
    }

    /// The hash against which to verify the password that somebody sent for this id. For an unknown user, and for one
    /// without a password, it is a hash that nothing matches: the work, and so the time, is that of some known user, the
    /// same one each time for the same name.
    #[must_use]
    pub fn hash_to_verify(&self, id: &str) -> Arc<str> {
        self.users.get(id).and_then(|user| user.password_hash.clone()).unwrap_or_else(|| self.decoys.of(id))
    }

    /// What the application is told of its privileges; all `false` for an unknown user.
    #[must_use]
    pub fn privileges(&self, id: &str) -> Privileges {
        let groups = self.users.get(id).map_or(Groups::NONE, |user| user.groups);
        Privileges {
            control_all_devices: groups.contains(StandardGroup::ControlOfAllDevices),
            park_monitoring: groups.contains(StandardGroup::CallParkMonitoring),
            calling_number_modification: groups.contains(StandardGroup::CallingNumberModification),
            srtp_keys: groups.contains(StandardGroup::CtiEnabled)
                && groups.contains(StandardGroup::SecureConnection)
                && groups.contains(StandardGroup::ReceptionOfSrtpKeyMaterial),
            secure_connection: groups.contains(StandardGroup::SecureConnection),
        }
    }

    /// How many [`Policy::controlled_devices`] a user has.
    #[must_use]
    pub fn controlled_count(&self, user: &User) -> usize {
        self.counts.get(&user.id).copied().unwrap_or(0)
    }

    /// The devices on a user's controlled list that exist, by name. Restricted ones are among them, as in CUCM: the
    /// application sees that they are.
    pub fn controlled_devices<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a DeviceName> {
        self.devices.keys().filter(|name| user.controlled.entry_for(name.as_str()).is_some())
    }
}

fn count_all(
    by_id: &HashMap<UserId, Arc<User>>,
    devices: &BTreeMap<DeviceName, DeviceFacts>,
) -> HashMap<UserId, usize> {
    let mut memo: Vec<(&ControlledDevices, usize)> = Vec::new();
    let mut counts = HashMap::new();
    // Any order: each is counted for itself.
    for user in by_id.values() {
        let known = memo.iter().find(|(list, _)| **list == user.controlled).map(|(_, count)| *count);
        let counted = known.unwrap_or_else(|| count(devices, &user.controlled));
        if known.is_none() && user.controlled.has_patterns() && memo.len() < MEMO {
            memo.push((&user.controlled, counted));
        }
        counts.insert(user.id.clone(), counted);
    }
    counts
}

/// Looks only where a name of the list may be.
fn count(devices: &BTreeMap<DeviceName, DeviceFacts>, list: &ControlledDevices) -> usize {
    let (mut count, mut from) = (0, Bound::Unbounded);
    while let Some((name, _)) = devices.range::<DeviceName, _>((from.as_ref(), Bound::Unbounded)).next() {
        let Some(next) = list.next_from(name.as_str()) else { break };
        if next == name.as_str() {
            count += usize::from(list.entry_for(name.as_str()).is_some());
            from = Bound::Excluded(name.clone());
        } else {
            from = Bound::Included(next.into());
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::UserKind;

    #[test]
    fn the_devices_of_each_list_are_counted_as_they_are_listed() {
        let facts = DeviceFacts { allow_cti_control: true };
        let devices: Vec<_> =
            (0..500).flat_map(|n| [format!("A{n}"), format!("PORT_{n}"), format!("Z{n}")]).collect();
        let user = |id: &str, entries: &[&str]| {
            let mut controlled = ControlledDevices::default();
            entries.iter().for_each(|entry| controlled.add(entry).expect("an entry"));
            User {
                id: id.into(),
                kind: UserKind::ApplicationUser,
                password_hash: None,
                groups: Groups::NONE,
                controlled,
                session_resume_grace: None,
            }
        };
        let lists: [(&str, &[&str]); 8] = [
            ("all", &["*"]),
            ("also all", &["*"]),
            ("none", &[]),
            ("names", &["A1", "Z7", "NOBODY"]),
            ("ports", &["PORT_*", "PORT_1", "Z[1-3]"]),
            ("odd", &["*1", "?2"]),
            ("beyond", &["ZZ*"]),
            ("sevens", &["*7*"]),
        ];
        let users = lists.map(|(id, entries)| user(id, entries));
        let policy = Policy::new(
            Mode::Secure,
            users.clone(),
            devices.iter().map(|name| (DeviceName::from(name.as_str()), facts)),
        );
        for user in &users {
            assert_eq!(
                policy.controlled_count(user),
                policy.controlled_devices(user).count(),
                "{:?}",
                user.id
            );
        }
        assert_eq!(policy.controlled_count(&users[4]), 503);
    }
}
