//! What the contracts promise and this version does not do yet. OpenRPC (`x-status`), the documents and `check-config` are
//! made of this one table, and tests hold it against what a node really answers: what comes to work leaves it.

use std::fmt;

/// The value of `x-status`.
pub const PLANNED: &str = "planned";

/// A feature that is not there, and all that is without effect until it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is, in the singular: "… does not work in this version".
    pub name: &'static str,
    /// Methods that answer `OPERATION_NOT_SUPPORTED` whatever the device.
    pub methods: &'static [&'static str],
    /// Events that are never told.
    pub events: &'static [&'static str],
    /// Standard groups that allow nothing.
    pub groups: &'static [&'static str],
    /// Settings of the configuration: taken and warned of.
    pub settings: &'static [Setting],
}

/// A setting that has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its keys from the top of the file; each item of a list on the way is meant: `devices.protocol`.
    pub path: &'static str,
    /// The value that has none; any without one.
    pub value: Option<&'static str>,
    /// What happens instead, as a sentence.
    pub instead: &'static str,
    /// Without its effect something would seem safe that is not: it is a mistake.
    pub refused: bool,
}

const fn setting(path: &'static str, instead: &'static str) -> Setting {
    Setting { path, value: None, instead, refused: false }
}

const fn value(path: &'static str, value: &'static str, instead: &'static str) -> Setting {
    Setting { path, value: Some(value), instead, refused: false }
}

const NOTHING: Feature = Feature { name: "", methods: &[], events: &[], groups: &[], settings: &[] };

/// All of them.
pub const FEATURES: &[Feature] = &[
    Feature { name: "conferencing", methods: &["call.conference"], events: &["call.conferenced"], ..NOTHING },
    Feature {
        name: "call park",
        methods: &["provider.monitor_park", "call.park", "call.unpark"],
        events: &["call.parked", "park.parked", "park.retrieved", "park.reverted", "park.abandoned"],
        groups: &["Standard CTI Allow Call Park Monitoring"],
        settings: &[
            setting("park_numbers", "nothing can be parked; the numbers are kept free of other uses"),
            setting("service_parameters.park_reversion_timer", "nothing can be parked"),
        ],
    },
    Feature { name: "call pickup", methods: &["call.pickup"], ..NOTHING },
    Feature { name: "sending digits", methods: &["call.dtmf"], ..NOTHING },
    Feature { name: "silent monitoring", groups: &["Standard CTI Allow Call Monitoring"], ..NOTHING },
    Feature { name: "recording", groups: &["Standard CTI Allow Call Recording"], ..NOTHING },
    Feature {
        name: "control of phones in Cisco's own modes",
        groups: &[
            "Standard CTI Allow Control of Phones supporting Connected Xfer and conf",
            "Standard CTI Allow Control of Phones supporting Rollover Mode",
        ],
        ..NOTHING
    },
    Feature {
        name: "SCCP",
        settings: &[value("devices.protocol", "sccp", "the phone can't register and stays out of service")],
        ..NOTHING
    },
];

/// Why a method of the contract can't be used; `None` = it works.
#[must_use]
pub fn method(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.methods.contains(&name))
}

/// Why an event is never told; `None` = it is.
#[must_use]
pub fn event(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.events.contains(&name))
}

/// Why a standard group allows nothing; `None` = it does.
#[must_use]
pub fn group(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.groups.contains(&name))
}

impl Feature {
    /// That a setting of the configuration has no effect, and what that means.
    #[must_use]
    pub fn without_effect(&self, setting: &Setting) -> String {
        format!("{self}: {}", setting.instead)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of no effect, since {} does not work in this version ({PLANNED})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;
    use crate::methods::Method;

    #[test]
    fn what_is_planned_is_in_the_contract_and_stands_once() {
        let mut seen = std::collections::BTreeSet::new();
        for feature in FEATURES {
            for name in feature.methods {
                assert!(Method::NAMES.contains(name), "{name}");
            }
            for name in feature.events {
                assert!(EventType::from_name(name).is_some(), "{name}");
            }
            let names = feature.methods.iter().chain(feature.events).chain(feature.groups);
            assert!(names.copied().all(|name| seen.insert(name)), "{feature:?} has a name of another one");
            let settings = feature.settings.iter().map(|setting| (setting.path, setting.value));
            assert!(
                !(feature.methods.is_empty() && feature.events.is_empty() && feature.groups.is_empty())
                    || settings.count() > 0,
                "{feature:?} is about nothing"
            );
        }
    }

    /// A method that the node asks the model or answers itself is there; see `tests/tests/contract_menu.rs` for the rest.
    #[test]
    fn what_the_model_carries_out_is_not_planned() {
        // CTIManager finds out which device is meant.
        let own = ["provider.", "rpc.", "line.set_message_waiting"];
        for name in Method::NAMES {
            let params = crate::planned::tests::any_params(name);
            let method =
                Method::parse(name, Some(&params)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            if own.iter().all(|prefix| !name.starts_with(prefix)) {
                assert_eq!(method.to_model().is_none(), super::method(name).is_some(), "{name}");
            }
        }
    }

    fn any_params(name: &str) -> Box<serde_json::value::RawValue> {
        let mut params = serde_json::json!({
            "user": "u", "application": "a", "device": "D", "dn": "1", "leg": "l1", "destination": "1", "on": true,
            "for": "transfer", "park_number": "1", "ringing_dn": "1", "digits": "1", "user_data": {}, "ip": "192.0.2.1",
            "port": 4000,
        });
        if name == "call.conference" {
            params["with"] = serde_json::json!(["l2"]);
        }
        serde_json::value::to_raw_value(&params).expect("JSON")
    }
}
