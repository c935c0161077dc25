//! The standard user groups (protocol §7, reference §2.4) and sets of them.

use std::fmt;

/// A standard access control group. What an administrator calls a group of his own is a bundle of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StandardGroup {
    /// Any use of CTI.
    CtiEnabled,
    /// Open every CTI-controllable device by name: a super provider.
    ControlOfAllDevices,
    /// The application must use TLS when the cluster's mode is secure.
    SecureConnection,
    /// `media.srtp_key` with keys.
    ReceptionOfSrtpKeyMaterial,
    /// `provider.monitor_park` and `park.*`.
    CallParkMonitoring,
    /// Another calling number on calls.
    CallingNumberModification,
    /// Silent monitoring.
    CallMonitoring,
    /// Recording that the application controls.
    CallRecording,
    /// Phones whose firmware joins transfers and conferences by itself.
    ConnectedXferPhones,
    /// Phones in rollover mode.
    RolloverPhones,
}

impl StandardGroup {
    /// All of them, in the order of protocol §7.
    pub const ALL: [StandardGroup; 10] = [
        StandardGroup::CtiEnabled,
        StandardGroup::ControlOfAllDevices,
        StandardGroup::SecureConnection,
        StandardGroup::ReceptionOfSrtpKeyMaterial,
        StandardGroup::CallParkMonitoring,
        StandardGroup::CallingNumberModification,
        StandardGroup::CallMonitoring,
        StandardGroup::CallRecording,
        StandardGroup::ConnectedXferPhones,
        StandardGroup::RolloverPhones,
    ];

    /// The group's exact name in CUCM and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StandardGroup::CtiEnabled => "Standard CTI Enabled",
            StandardGroup::ControlOfAllDevices => "Standard CTI Allow Control of All Devices",
            StandardGroup::SecureConnection => "Standard CTI Secure Connection",
            StandardGroup::ReceptionOfSrtpKeyMaterial => "Standard CTI Allow Reception of SRTP Key Material",
            StandardGroup::CallParkMonitoring => "Standard CTI Allow Call Park Monitoring",
            StandardGroup::CallingNumberModification => "Standard CTI Allow Calling Number Modification",
            StandardGroup::CallMonitoring => "Standard CTI Allow Call Monitoring",
            StandardGroup::CallRecording => "Standard CTI Allow Call Recording",
            StandardGroup::ConnectedXferPhones => {
                "Standard CTI Allow Control of Phones supporting Connected Xfer and conf"
            }
            StandardGroup::RolloverPhones => "Standard CTI Allow Control of Phones supporting Rollover Mode",
        }
    }

    /// The group of a name, exactly as written.
    #[must_use]
    pub fn from_name(name: &str) -> Option<StandardGroup> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for StandardGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of standard groups: what a user is a member of, his own bundles resolved.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Groups(u16);

impl Groups {
    /// No group at all.
    pub const NONE: Groups = Groups(0);

    /// With this group, too.
    #[must_use]
    pub fn with(self, group: StandardGroup) -> Self {
        Self(self.0 | group.bit())
    }

    /// Without this group.
    #[must_use]
    pub fn without(self, group: StandardGroup) -> Self {
        Self(self.0 & !group.bit())
    }

    /// The groups of both.
    #[must_use]
    pub fn union(self, other: Groups) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this group is among them.
    #[must_use]
    pub fn contains(self, group: StandardGroup) -> bool {
        self.0 & group.bit() != 0
    }

    /// The groups, in the order of protocol §7.
    pub fn iter(self) -> impl Iterator<Item = StandardGroup> {
        StandardGroup::ALL.into_iter().filter(move |group| self.contains(*group))
    }
}

impl FromIterator<StandardGroup> for Groups {
    fn from_iter<T: IntoIterator<Item = StandardGroup>>(groups: T) -> Self {
        groups.into_iter().fold(Groups::NONE, Groups::with)
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(StandardGroup::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Groups, StandardGroup};

    #[test]
    fn names_read_back_and_sets_hold_what_was_put_in() {
        for group in StandardGroup::ALL {
            assert_eq!(StandardGroup::from_name(group.name()), Some(group));
            let one: Groups = [group].into_iter().collect();
            assert_eq!(one.iter().collect::<Vec<_>>(), [group]);
            assert_eq!(one.without(group), Groups::NONE);
        }
        let all: Groups = StandardGroup::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), StandardGroup::ALL);
        assert_eq!(StandardGroup::from_name("standard cti enabled"), None);
    }
}
