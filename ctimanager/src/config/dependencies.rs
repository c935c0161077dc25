//! What refers to a number or a device (CUCM's Dependency Records).

use super::dial::{self, Pattern};
use super::{Config, Place};
use device_model::{DeviceName, Dn, PartitionName, SearchSpaceName};
use serde::Serialize;

/// One that refers to it; serialised, the stable JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// `device`, `forward`, `route_pattern`, `park_number`, `user`, `partition`, `calling_search_space`,
    /// `directory_number` or `trunk`.
    pub kind: &'static str,
    /// Its name: of a forward the number that has it.
    pub name: String,
    /// In which way.
    pub how: String,
    /// Its line.
    #[serde(flatten)]
    pub place: Option<Place>,
}

impl Config {
    /// Everything that refers to this number, or to the device, partition or calling search space of this name. Of a number
    /// and a pattern also its partition, and the spaces that reach it by that.
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
        let parks = self.park_numbers.iter().filter(|number| number.dn.as_str() == what);
        found.extend(parks.map(|number| Dependency {
            kind: "park_number",
            name: number.dn.to_string(),
            how: "calls are parked there".into(),
            place: Some(number.place.clone()),
        }));
        found.extend(self.users_of(what));
        found.extend(self.partitions_of(what));
        found.extend(self.members_of(what));
        found.extend(self.who_has_space(what));
        found
    }

    /// The partition of a number or pattern, and the spaces that reach it.
    fn partitions_of(&self, what: &str) -> Vec<Dependency> {
        let numbers = self.numbers.iter().filter(|number| number.dn.as_str() == what);
        let patterns = self.route_patterns.iter().filter(|route| &*route.pattern == what);
        let parks = self.park_numbers.iter().filter(|number| number.dn.as_str() == what);
        let own = numbers
            .map(|number| (&number.partition, &number.place))
            .chain(patterns.map(|route| (&route.partition, &route.place)))
            .chain(parks.map(|number| (&number.partition, &number.place)));
        let mut found = Vec::new();
        for (partition, place) in own {
            let Some(partition) = partition else { continue };
            found.push(Dependency {
                kind: "partition",
                name: partition.to_string(),
                how: format!("{what} is in it"),
                place: Some(place.clone()),
            });
            let spaces =
                self.calling_search_spaces.iter().filter(|space| space.partitions.contains(partition));
            found.extend(spaces.map(|space| Dependency {
                kind: "calling_search_space",
                name: space.name.to_string(),
                how: format!("reaches it by partition {partition}"),
                place: Some(space.place.clone()),
            }));
        }
        found
    }

    /// What is in a partition, and which spaces have it.
    fn members_of(&self, partition: &str) -> Vec<Dependency> {
        let is_it = |own: &Option<PartitionName>| own.as_ref().is_some_and(|own| own.as_str() == partition);
        let member = |kind, name: String, place: &Place| Dependency {
            kind,
            name,
            how: "is in the partition".into(),
            place: Some(place.clone()),
        };
        let numbers = self.numbers.iter().filter(|number| is_it(&number.partition));
        let patterns = self.route_patterns.iter().filter(|route| is_it(&route.partition));
        let parks = self.park_numbers.iter().filter(|number| is_it(&number.partition));
        let spaces = self.calling_search_spaces.iter().filter_map(|space| {
            let index = space.partitions.iter().position(|own| own.as_str() == partition)?;
            Some(Dependency {
                kind: "calling_search_space",
                name: space.name.to_string(),
                how: format!("has the partition as number {}", index + 1),
                place: Some(space.place.clone()),
            })
        });
        numbers
            .map(|number| member("directory_number", number.dn.to_string(), &number.place))
            .chain(patterns.map(|route| member("route_pattern", route.pattern.to_string(), &route.place)))
            .chain(parks.map(|number| member("park_number", number.dn.to_string(), &number.place)))
            .chain(spaces)
            .collect()
    }

    /// Who has this calling search space.
    fn who_has_space(&self, space: &str) -> Vec<Dependency> {
        let is_it = |own: &Option<SearchSpaceName>| own.as_ref().is_some_and(|own| own.as_str() == space);
        let has = |kind, name: String, place: &Place| Dependency {
            kind,
            name,
            how: "has the calling search space".into(),
            place: Some(place.clone()),
        };
        let numbers = self.numbers.iter().filter(|number| is_it(&number.calling_search_space));
        let devices = self.devices.iter().filter(|device| is_it(&device.calling_search_space));
        let trunks = self.trunks.iter().filter(|trunk| is_it(&trunk.calling_search_space));
        numbers
            .map(|number| has("directory_number", number.dn.to_string(), &number.place))
            .chain(devices.map(|device| has("device", device.name.to_string(), &device.place)))
            .chain(trunks.map(|trunk| has("trunk", trunk.name.to_string(), &trunk.place)))
            .collect()
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
        assert_eq!(told("8802"), ["park_number 8802: calls are parked there (13)"]);
        assert_eq!(told("(88) 02"), told("8802"));
        assert_eq!(told("tel:51-01"), told("5101"));
        assert_eq!(told("51XX"), ["route_pattern 51XX: matches, to trunk pstn (12)"]);
        assert_eq!(told("1"), Vec::<String>::new());
    }
}
