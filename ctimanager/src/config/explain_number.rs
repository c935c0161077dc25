//! May this device or trunk dial that number, and which line of the configuration decides it?

use super::{Config, Place};
use device_model::dialling::{Barred, Dialled, Dialling};
use device_model::{CallControl, Dn, SearchSpaceName, Sender};
use serde::Serialize;

/// The answer of `explain NUMBER --from`; serialised, its stable JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NumberExplanation {
    /// What was asked about.
    pub number: String,
    /// Who dials.
    pub from: String,
    /// From which line of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dn: Option<String>,
    /// Whether the call goes out to where the number leads.
    pub allowed: bool,
    /// What the number is, or would be within reach: `directory_number` or `route_pattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<&'static str>,
    /// The pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The partition of number or pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The space that reaches the partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calling_search_space: Option<String>,
    /// The trunk by which it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// As which number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sends: Option<String>,
    /// Which rule decided: `calling_search_space NAME`, `no partition`, `partition NAME`, `block_offnet_to_offnet`, `number
    /// exists`, `device or trunk exists`, `line exists`.
    pub rule: String,
    /// The error symbol that an application would get (protocol §8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<&'static str>,
    /// A sentence.
    pub message: String,
    /// The line that decides, or that would change it.
    #[serde(flatten)]
    pub place: Place,
}

impl NumberExplanation {
    fn refused(number: &str, from: &str, rule: &str, message: String, place: Place) -> Self {
        Self {
            number: number.to_owned(),
            from: from.to_owned(),
            dn: None,
            allowed: false,
            matches: None,
            pattern: None,
            partition: None,
            calling_search_space: None,
            trunk: None,
            sends: None,
            rule: rule.to_owned(),
            symbol: None,
            message,
            place,
        }
    }
}

impl Config {
    /// Explains how a device (by its line `dn`, without one by its first) or a trunk dials a number. `model` has this
    /// configuration's plan.
    #[must_use]
    pub fn explain_number(
        &self,
        model: &CallControl,
        number: &str,
        from: &str,
        dn: Option<&str>,
    ) -> NumberExplanation {
        let number = Dn::written(number);
        let number = number.as_str();
        let sender = match self.sender(from, dn) {
            Ok(sender) => sender,
            Err((rule, message, place)) => {
                return NumberExplanation::refused(number, from, rule, message, place);
            }
        };
        let told = model.explain_dialling(&sender, &Dn::from(number));
        let (rule, place, message) = self.why(&sender, number, from, &told);
        let (matches, pattern, trunk, sends) = match &told.what {
            None => (None, None, None, None),
            Some(Dialled::Number) => (Some("directory_number"), None, None, None),
            Some(Dialled::Pattern { index, trunk, sends }) => {
                let pattern = self.route_patterns.get(*index).map(|route| route.pattern.to_string());
                (Some("route_pattern"), pattern, Some(trunk.to_string()), Some(sends.to_string()))
            }
        };
        NumberExplanation {
            dn: match &sender {
                Sender::Line { dn, .. } | Sender::Number(dn) => Some(dn.to_string()),
                Sender::Trunk(_) => None,
            },
            allowed: told.barred.is_none(),
            matches,
            pattern,
            partition: told.partition.as_ref().map(ToString::to_string),
            calling_search_space: told.space.as_ref().map(ToString::to_string),
            trunk,
            sends,
            symbol: told.barred.map(|_| "DESTINATION_UNKNOWN"),
            ..NumberExplanation::refused(number, from, &rule, message, place)
        }
    }

    /// Who dials: a device before a trunk of the same name.
    fn sender(&self, from: &str, dn: Option<&str>) -> Result<Sender, (&'static str, String, Place)> {
        let Some(device) = self.devices.iter().find(|device| device.name.as_str() == from) else {
            if let Some(trunk) = self.trunks.iter().find(|trunk| trunk.name.as_str() == from) {
                return Ok(Sender::Trunk(trunk.name.clone()));
            }
            let place = self.places.devices.as_ref().or(self.places.trunks.as_ref());
            let message = format!("there is no device and no trunk {from}");
            return Err(("device or trunk exists", message, place.unwrap_or(&self.places.file).clone()));
        };
        let line = match dn {
            Some(dn) => device.lines.iter().find(|line| **line == Dn::written(dn)),
            None => device.lines.first(),
        };
        match line {
            Some(line) => Ok(Sender::Line { device: device.name.clone(), dn: line.clone() }),
            None => {
                let message = match dn {
                    Some(dn) => format!("{from} has no line {dn}"),
                    None => format!("{from} has no line to dial from"),
                };
                Err(("line exists", message, device.place.clone()))
            }
        }
    }

    /// The rule, its place, and a sentence.
    fn why(&self, sender: &Sender, number: &str, from: &str, told: &Dialling) -> (String, Place, String) {
        let (what, own) = self.what(number, told);
        let goes = match &told.what {
            Some(Dialled::Pattern { trunk, sends, .. }) => {
                format!(", and leaves by trunk {trunk} as {sends}")
            }
            Some(Dialled::Number) | None => String::new(),
        };
        match (told.barred, &told.partition, &told.space) {
            (None, Some(partition), Some(space)) => {
                let place = self.calling_search_spaces.iter().find(|s| s.name == *space).map(|s| &s.place);
                let message = format!("{number} is {what} in partition {partition}, which {space} has{goes}");
                (format!("calling_search_space {space}"), place.unwrap_or(&own).clone(), message)
            }
            (None, _, _) => {
                let message =
                    format!("{number} is {what} without a partition, which everybody reaches{goes}");
                ("no partition".into(), own, message)
            }
            (Some(Barred::Partition), partition, _) => {
                let partition = partition.as_ref().map_or("", |name| name.as_str());
                let (space, place, sender) = self.spaces_of(sender);
                let place = place.or(sender);
                let why = match space {
                    Some(space) => format!("which {space} has not"),
                    None => format!("and {from} has no calling_search_space"),
                };
                let message = format!("{number} is {what} in partition {partition}, {why}");
                (format!("partition {partition}"), place.unwrap_or(own), message)
            }
            (Some(Barred::OffnetToOffnet), _, _) => {
                let message = format!(
                    "{number} is {what}, which leads out by a trunk: trunk {from} reaches directory numbers alone"
                );
                ("block_offnet_to_offnet".into(), self.spaces_of(sender).2.unwrap_or(own), message)
            }
            (Some(Barred::Unknown), _, _) => {
                let message =
                    format!("no device and no forward has {number}, and no route pattern matches it");
                ("number exists".into(), own, message)
            }
        }
    }

    /// What the number is, and where that stands.
    fn what(&self, number: &str, told: &Dialling) -> (String, Place) {
        match &told.what {
            Some(Dialled::Number) => {
                let place = self.numbers.iter().find(|own| own.dn.as_str() == number).map(|own| &own.place);
                ("a directory number".into(), place.unwrap_or(&self.places.file).clone())
            }
            Some(Dialled::Pattern { index, .. }) => match self.route_patterns.get(*index) {
                Some(route) => (format!("matched by {}", route.pattern), route.place.clone()),
                None => ("matched by a pattern".into(), self.places.file.clone()),
            },
            None => {
                let place = self.places.numbers.as_ref().or(self.places.devices.as_ref());
                (String::new(), place.unwrap_or(&self.places.file).clone())
            }
        }
    }

    /// The spaces of a sender, the place of the first of them, and his own.
    fn spaces_of(&self, sender: &Sender) -> (Option<String>, Option<Place>, Option<Place>) {
        let number = |dn: &Dn| self.numbers.iter().find(|number| number.dn == *dn);
        let (names, own) = match sender {
            Sender::Line { device, dn } => {
                let device = self.devices.iter().find(|own| own.name == *device);
                let names = [
                    number(dn).and_then(|number| number.calling_search_space.as_ref()),
                    device.and_then(|device| device.calling_search_space.as_ref()),
                ];
                (names, device.map(|device| &device.place))
            }
            Sender::Number(dn) => {
                let name = number(dn).and_then(|number| number.calling_search_space.as_ref());
                ([name, None], number(dn).map(|number| &number.place))
            }
            Sender::Trunk(name) => {
                let trunk = self.trunks.iter().find(|trunk| trunk.name == *name);
                let space = trunk.and_then(|trunk| trunk.calling_search_space.as_ref());
                ([space, None], trunk.map(|trunk| &trunk.place))
            }
        };
        let names: Vec<&SearchSpaceName> = names.into_iter().flatten().collect();
        let space = self.calling_search_spaces.iter().find(|space| Some(&&space.name) == names.first());
        let shown = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        ((!names.is_empty()).then_some(shown), space.map(|space| space.place.clone()), own.cloned())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    const TEXT: &str = r#"cluster: {name: hq}
nodes: [{name: cm1, host: 127.0.0.1}]
call_manager_groups: [{name: Default, members: [cm1]}]
device_pools: [{name: Default, call_manager_group: Default}]
partitions: [inside, national, {name: abroad, description: Dear}]
calling_search_spaces:
  - {name: lobby, partitions: [inside]}
  - {name: staff, partitions: [inside, national]}
  - {name: boss, partitions: [abroad]}
directory_numbers:
  - {dn: "2001", partition: inside}
  - {dn: "2002", calling_search_space: boss}
devices:
  - {name: LOBBY, type: phone, pool: Default, lines: ["2001", {dn: "2009", calling_search_space: staff}], calling_search_space: lobby, digest: {user: a, password: b}}
  - {name: DESK, type: phone, pool: Default, lines: ["2002"], calling_search_space: staff, digest: {user: c, password: d}}
  - {name: BARE, type: cti_port, pool: Default, lines: ["2003"]}
  - {name: NOLINE, type: cti_port, pool: Default}
trunks:
  - {name: pstn, host: 127.0.0.1, calling_search_space: lobby}
  - {name: tie, host: 127.0.0.2, block_offnet_to_offnet: false, calling_search_space: staff}
  - {name: raw, host: 127.0.0.3}
route_patterns:
  - {pattern: "9.!", trunk: pstn, discard: pre_dot, partition: national}
  - {pattern: "9.00!", trunk: tie, partition: abroad}
  - {pattern: "112", trunk: pstn}
"#;

    /// `allowed rule partition space trunk sends line`
    fn told(number: &str, from: &str, dn: Option<&str>) -> String {
        let config = parse("hq.yaml", TEXT).expect("good").config;
        let told = config.explain_number(&config.model(), number, from, dn);
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        format!(
            "{} {} {} {} {} {} {}",
            told.allowed,
            told.rule,
            or_none(&told.partition),
            or_none(&told.calling_search_space),
            or_none(&told.trunk),
            or_none(&told.sends),
            told.place.line
        )
    }

    #[test]
    fn each_answer_names_the_match_its_partition_the_space_and_the_line() {
        for (number, from, wanted) in [
            ("2001", "DESK", "true calling_search_space staff inside staff - - 8"),
            ("2002", "LOBBY", "true no partition - - - - 12"),
            ("2003", "raw", "true no partition - - - - 16"),
            ("9555", "DESK", "true calling_search_space staff national staff pstn 555 8"),
            ("90044", "DESK", "true calling_search_space boss abroad boss tie 90044 9"),
            ("112", "LOBBY", "true no partition - - pstn 112 25"),
            ("2001", "pstn", "true calling_search_space lobby inside lobby - - 7"),
            ("9555", "tie", "true calling_search_space staff national staff pstn 555 8"),
            ("9555", "LOBBY", "false partition national national - pstn 555 7"),
            ("2001", "BARE", "false partition inside inside - - - 16"),
            ("2001", "raw", "false partition inside inside - - - 21"),
            ("9555", "pstn", "false partition national national - pstn 555 7"),
            ("112", "pstn", "false block_offnet_to_offnet - - pstn 112 19"),
            ("112", "raw", "false block_offnet_to_offnet - - pstn 112 21"),
            ("90044", "tie", "true calling_search_space staff national staff pstn 0044 8"),
            ("7777", "DESK", "false number exists - - - - 11"),
            ("2001", "NOLINE", "false line exists - - - - 17"),
            ("2001", "NOBODY", "false device or trunk exists - - - - 14"),
        ] {
            assert_eq!(told(number, from, None), wanted, "{number} from {from}");
        }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(told("9 (5) 55", "DESK", None), told("9555", "DESK", None));
        assert_eq!(told("tel:20-01", "LOBBY", Some("20 09")), told("2001", "LOBBY", Some("2009")));
    }

    #[test]
    fn a_lines_space_comes_before_its_devices() {
        let lobby = told("9555", "LOBBY", Some("2009"));
        assert_eq!(lobby, "true calling_search_space staff national staff pstn 555 8");
        assert_eq!(told("2001", "LOBBY", Some("2009")), "true calling_search_space staff inside staff - - 8");
        assert_eq!(told("2001", "LOBBY", Some("7")), "false line exists - - - - 14");
    }

    #[test]
    fn a_refusal_has_the_symbol_that_an_application_gets() {
        let config = parse("hq.yaml", TEXT).expect("good").config;
        let told = config.explain_number(&config.model(), "9555", "LOBBY", None);
        let json = serde_json::to_value(&told).expect("JSON");
        assert_eq!((&json["allowed"], &json["symbol"]), (&false.into(), &"DESTINATION_UNKNOWN".into()));
        assert_eq!((&json["file"], &json["line"]), (&"hq.yaml".into(), &7.into()));
        assert_eq!((&json["matches"], &json["pattern"]), (&"route_pattern".into(), &"9.!".into()));
        assert_eq!(told.message, "9555 is matched by 9.! in partition national, which lobby has not");
    }
}
