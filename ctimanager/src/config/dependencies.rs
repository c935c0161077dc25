//! What refers to a number or a device (CUCM's Dependency Records).

use super::dial::{self, Pattern};
use super::{Config, Place};
use device_model::{DeviceName, Dn};
use serde::Serialize;

/// One that refers to it; serialised, the stable JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// `device`, `forward`, `route_pattern`, `park_number` or `user`.
    pub kind: &'static str,
    /// Its name: of a forward the number that has it.
    pub name: String,
    /// In which way.
    pub how: String,
    /// Its line; a park number has none.
    #[serde(flatten)]
    pub place: Option<Place>,
}

impl Config {
    /// Everything that refers to this number, or to the device of this name.
    #[must_use]
    pub fn dependencies(&self, written: &str) -> Vec<Dependency> {
        let what = written;
        let plain = Dn::written(what);
        // The name of a device may look like a number with separators in it.
        let is_name = self.devices.iter().any(|device| device.name.as_str() == what);
        let what = if is_name { what } else { plain.as_str() };
        let mut found = self.devices_with(what);
        found.extend(self.forwards_to(what));
        found.extend(self.patterns_for(&dial::plain_pattern(written), what));
        let parks = self.park_numbers.iter().filter(|number| number.as_str() == what);
        found.extend(parks.map(|number| Dependency {
            kind: "park_number",
            name: number.to_string(),
            how: "calls are parked there".into(),
            place: None,
        }));
        found.extend(self.users_of(what));
        found
    }

    fn devices_with(&self, dn: &str) -> Vec<Dependency> {
        let lines = self.devices.iter().filter_map(|device| {
            let index = device.lines.iter().position(|line| line.as_str() == dn)?;
            Some(Dependency {
                kind: "device",
                name: device.name.to_string(),
                how: format!("line {}", index + 1),
                place: Some(device.place.clone()),
            })
        });
        lines.collect()
    }

    fn forwards_to(&self, dn: &str) -> Vec<Dependency> {
        let forwards = self.numbers.iter().flat_map(|number| {
            let forward = &number.forward;
            let all = [
                ("all", &forward.all),
                ("busy", &forward.busy),
                ("no_answer", &forward.no_answer),
                ("unregistered", &forward.unregistered),
                ("on_failure", &forward.on_failure),
            ];
            all.into_iter().filter(|(_, to)| to.as_ref().map(Dn::as_str) == Some(dn)).map(|(which, _)| {
                Dependency {
                    kind: "forward",
                    name: number.dn.to_string(),
                    how: which.to_owned(),
                    place: Some(number.place.clone()),
                }
            })
        });
        forwards.collect()
    }

    /// The pattern that is written so, and those that match the number.
    fn patterns_for(&self, pattern: &str, dn: &str) -> Vec<Dependency> {
        let matching = self.route_patterns.iter().filter(|route| {
            *route.pattern == *pattern
                || Pattern::parse(&route.pattern).is_ok_and(|pattern| pattern.matches(dn))
        });
        let found = matching.map(|route| Dependency {
            kind: "route_pattern",
            name: route.pattern.to_string(),
            how: format!("matches, to trunk {}", route.trunk),
            place: Some(route.place.clone()),
        });
        found.collect()
    }

    /// Who may control the device, or a device with the number, by an entry of his list.
    fn users_of(&self, what: &str) -> Vec<Dependency> {
        let concerned: Vec<&DeviceName> = self
            .devices
            .iter()
            .filter(|device| {
                device.name.as_str() == what || device.lines.iter().any(|dn| dn.as_str() == what)
            })
            .map(|device| &device.name)
            .collect();
        let users = self.users.iter().flat_map(|configured| {
            concerned.iter().filter_map(move |device| {
                let entry = configured.user.controlled.entry_for(device.as_str())?;
                Some(Dependency {
                    kind: "user",
                    name: configured.user.id.to_string(),
                    how: format!("controls {device} by {entry}"),
                    place: Some(configured.controlled_devices_place.clone()),
                })
            })
        });
        users.collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    const TEXT: &str = r#"cluster: {name: hq}
nodes: [{name: cm1, host: 127.0.0.1}]
call_manager_groups: [{name: Default, members: [cm1]}]
device_pools: [{name: Default, call_manager_group: Default}]
directory_numbers:
  - {dn: "5000", forward: {busy: "5101", on_failure: "5101"}}
devices:
  - {name: RP_MAIN, type: route_point, pool: Default, lines: ["5000"]}
  - {name: PORT_1, type: cti_port, pool: Default, lines: ["5100", "5101"]}
trunks: [{name: pstn, host: 127.0.0.1, port: 5070}]
route_patterns:
  - {pattern: "51XX", trunk: pstn}
park_numbers: ["8801-8802"]
users:
  - id: alice
    controlled_devices: ["PORT_*"]
  - id: bob
    controlled_devices: [RP_MAIN]
"#;

    #[test]
    fn all_that_refers_is_told_with_its_line() {
        let config = parse("hq.yaml", TEXT).expect("good").config;
        let told = |what: &str| -> Vec<String> {
            let found = config.dependencies(what);
            let line = |d: &super::Dependency| d.place.as_ref().map_or(0, |place| place.line);
            found.iter().map(|d| format!("{} {}: {} ({})", d.kind, d.name, d.how, line(d))).collect()
        };
        assert_eq!(
            told("5101"),
            [
                "device PORT_1: line 2 (9)",
                "forward 5000: busy (6)",
                "forward 5000: on_failure (6)",
                "route_pattern 51XX: matches, to trunk pstn (12)",
                "user alice: controls PORT_1 by PORT_* (16)",
            ]
        );
        assert_eq!(told("RP_MAIN"), ["user bob: controls RP_MAIN by RP_MAIN (18)"]);
        assert_eq!(told("8802"), ["park_number 8802: calls are parked there (0)"]);
        assert_eq!(told("(88) 02"), told("8802"));
        assert_eq!(told("tel:51-01"), told("5101"));
        assert_eq!(told("51XX"), ["route_pattern 51XX: matches, to trunk pstn (12)"]);
        assert_eq!(told("1"), Vec::<String>::new());
    }
}
