//! May this user open that device, and which line of the configuration decides it?

use super::{Config, Place};
use security::{Action, Actor, Decision, Policy, Rule, Transport};
use serde::Serialize;

/// The answer of `explain`; serialised, its stable JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked about.
    pub device: String,
    /// Who.
    pub user: String,
    /// Whether he may.
    pub allowed: bool,
    /// Whether he may without TLS, too.
    pub allowed_over_plain: bool,
    /// Which rule decided: `controlled_devices PORT_*`, `group Standard CTI Enabled`, `transport`, `allow_cti_control`,
    /// `device exists`, `user exists`.
    pub rule: String,
    /// The error symbol that the application gets (protocol §8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<&'static str>,
    /// A sentence.
    pub message: String,
    /// The line that decides, or that would change it: of what is missing, the list that it would have to be in.
    #[serde(flatten)]
    pub place: Place,
    /// Lines of the device that no application may control, even where it may open the device.
    pub restricted_lines: Vec<RestrictedLine>,
}

/// A line that `allow_cti_control: false` keeps from applications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestrictedLine {
    /// Its number.
    pub dn: String,
    /// The entry that restricts it.
    #[serde(flatten)]
    pub place: Place,
}

impl Config {
    /// Explains the decision about `device.open`.
    #[must_use]
    pub fn explain(&self, device: &str, user: &str, transport: Transport) -> Explanation {
        self.explain_by(&self.policy(), device, user, transport)
    }

    /// The same with a policy that was made of this configuration before.
    #[must_use]
    pub fn explain_by(&self, policy: &Policy, device: &str, user: &str, transport: Transport) -> Explanation {
        let name = device.into();
        let decide = |transport| policy.decide(Actor { user, transport }, Action::OpenDevice(&name));
        let decision = decide(transport);
        let (allowed, symbol, message) = match &decision {
            Decision::Allowed(_) => (true, None, format!("user {user} may open {device}")),
            Decision::Refused(refusal) => {
                let message = match refusal.rule {
                    // An application is not told that; an administrator may know.
                    Rule::UserExists => format!("there is no user {user}"),
                    Rule::Group(_)
                    | Rule::ControlledDevices(_)
                    | Rule::Transport
                    | Rule::AllowCtiControl
                    | Rule::LineAllowsCtiControl
                    | Rule::DeviceExists => refusal.message.clone(),
                };
                (false, Some(refusal.kind.symbol()), message)
            }
        };
        Explanation {
            device: device.to_owned(),
            user: user.to_owned(),
            allowed,
            allowed_over_plain: matches!(decide(Transport::Plain), Decision::Allowed(_)),
            rule: decision.rule().to_string(),
            symbol,
            message,
            place: self.place_of(decision.rule(), device, user),
            restricted_lines: self.restricted_lines(device),
        }
    }

    fn place_of(&self, rule: &Rule, device: &str, user: &str) -> Place {
        let user = self.users.iter().find(|configured| configured.user.id.as_str() == user);
        let found = match rule {
            Rule::Group(_) | Rule::Transport => user.map(|user| &user.groups_place),
            Rule::ControlledDevices(_) => user.map(|user| &user.controlled_devices_place),
            Rule::AllowCtiControl | Rule::LineAllowsCtiControl => {
                let device = self.devices.iter().find(|configured| configured.name.as_str() == device);
                device.map(|device| &device.place)
            }
            Rule::DeviceExists => self.places.devices.as_ref(),
            Rule::UserExists => self.places.users.as_ref(),
        };
        found.unwrap_or(&self.places.file).clone()
    }

    fn restricted_lines(&self, device: &str) -> Vec<RestrictedLine> {
        let Some(device) = self.devices.iter().find(|configured| configured.name.as_str() == device) else {
            return Vec::new();
        };
        let restricted = self.numbers.iter().filter(|number| !number.allow_cti_control);
        restricted
            .filter(|number| device.lines.contains(&number.dn))
            .map(|number| RestrictedLine { dn: number.dn.to_string(), place: number.place.clone() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use security::Transport;

    const TEXT: &str = r#"cluster: {name: hq}
nodes: [{name: cm1, host: 127.0.0.1}]
call_manager_groups: [{name: Default, members: [cm1]}]
device_pools: [{name: Default, call_manager_group: Default}]
devices:
  - {name: RP_MAIN, type: route_point, pool: Default, lines: ["5000"]}
  - {name: RP_SHUT, type: route_point, pool: Default, allow_cti_control: false}
directory_numbers: [{dn: "5000", allow_cti_control: false}]
users:
  - id: alice
    groups: [Standard CTI Enabled, Standard CTI Secure Connection]
    controlled_devices:
      - "RP_S*"
  - id: bob
"#;

    #[test]
    fn each_answer_names_the_rule_and_the_line() {
        let config = parse("hq.yaml", TEXT).expect("good").config;
        for (device, user, transport, wanted) in [
            ("RP_MAIN", "alice", Transport::Tls, "false DEVICE_NOT_CONTROLLED controlled_devices 13"),
            ("RP_SHUT", "alice", Transport::Tls, "false DEVICE_RESTRICTED allow_cti_control 7"),
            ("RP_SOON", "alice", Transport::Tls, "false DEVICE_NOT_CONTROLLED device exists 6"),
            ("RP_MAIN", "alice", Transport::Plain, "false SECURE_CONNECTION_REQUIRED transport 11"),
            ("RP_MAIN", "bob", Transport::Tls, "false USER_NOT_CTI_ENABLED group Standard CTI Enabled 14"),
            ("RP_MAIN", "eve", Transport::Tls, "false LOGIN_FAILED user exists 10"),
        ] {
            let told = config.explain(device, user, transport);
            let line = told.place.line;
            let shown = format!("{} {} {} {line}", told.allowed, told.symbol.unwrap_or("-"), told.rule);
            assert_eq!(shown, wanted, "{device} {user}");
        }
        let open = TEXT.replace(", allow_cti_control: false", "");
        let told = parse("hq.yaml", &open).expect("good").config.explain("RP_SHUT", "alice", Transport::Tls);
        let json = serde_json::to_value(&told).expect("JSON");
        assert_eq!(json["allowed"], true);
        assert_eq!(json["rule"], "controlled_devices RP_S*");
        assert_eq!((&json["file"], &json["line"]), (&"hq.yaml".into(), &13.into()));
    }

    #[test]
    fn lines_that_stay_shut_are_named_with_the_entry_that_shuts_them() {
        let config = parse("hq.yaml", TEXT).expect("good").config;
        let told = config.explain("RP_MAIN", "alice", Transport::Tls);
        let [line] = told.restricted_lines.as_slice() else { panic!("one of them: {told:?}") };
        assert_eq!((line.dn.as_str(), line.place.line), ("5000", 8));
        assert!(config.explain("RP_SHUT", "alice", Transport::Tls).restricted_lines.is_empty());
    }

    #[test]
    fn what_the_answer_says_of_plain_connections_is_what_they_would_meet() {
        let config =
            parse("hq.yaml", &TEXT.replace(", allow_cti_control: false}\nd", "}\nd")).expect("good").config;
        let told = config.explain("RP_SHUT", "alice", Transport::Tls);
        assert!(told.allowed && !told.allowed_over_plain, "{told:?}");
        let open = TEXT.replace(", Standard CTI Secure Connection", "");
        let open = open.replace(", allow_cti_control: false}\nd", "}\nd");
        let told = parse("hq.yaml", &open).expect("good").config.explain("RP_SHUT", "alice", Transport::Tls);
        assert!(told.allowed && told.allowed_over_plain, "{told:?}");
    }

    #[test]
    fn a_file_without_the_list_is_named_itself() {
        let text = "cluster: {name: hq}\nnodes: [{name: cm1, host: 127.0.0.1}]\n";
        let told = parse("hq.yaml", text).expect("good").config.explain("X", "eve", Transport::Tls);
        assert_eq!((&*told.place.file, told.place.line), ("hq.yaml", 1));
    }
}
