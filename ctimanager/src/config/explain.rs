//! May this user open that device, and which line of the configuration decides it?

use super::{Config, Place};
use security::{Action, Actor, Decision, Policy, Rule, Transport};
use serde::Serialize;

/// The answer of `explain`; serialised, its stable JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether he may.
    pub allowed: bool,
    /// Which rule decided: `controlled_devices PORT_*`, `group Standard CTI Enabled`, `transport`, `allow_cti_control`,
    /// `device exists`, `user exists`.
    pub rule: String,
    /// The error symbol that the application gets (protocol §8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<&'static str>,
    /// A sentence.
    pub message: String,
    /// The line that decides, or that would change it.
    #[serde(flatten)]
    pub place: Option<Place>,
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
        let decision = policy.decide(Actor { user, transport }, Action::OpenDevice(&name));
        let place = self.place_of(decision.rule(), device, user);
        let rule = decision.rule().to_string();
        match decision {
            Decision::Allowed(_) => {
                let message = format!("user {user} may open {device}");
                Explanation { allowed: true, rule, symbol: None, message, place }
            }
            Decision::Refused(refusal) => {
                let message = match refusal.rule {
                    // An application is not told that; an administrator may know.
                    Rule::UserExists => format!("there is no user {user}"),
                    Rule::Group(_)
                    | Rule::ControlledDevices(_)
                    | Rule::Transport
                    | Rule::AllowCtiControl
                    | Rule::LineAllowsCtiControl
                    | Rule::DeviceExists => refusal.message,
                };
                Explanation { allowed: false, rule, symbol: Some(refusal.kind.symbol()), message, place }
            }
        }
    }

    fn place_of(&self, rule: &Rule, device: &str, user: &str) -> Option<Place> {
        let user = self.users.iter().find(|configured| configured.user.id.as_str() == user);
        match rule {
            Rule::Group(_) | Rule::Transport => user.map(|user| user.groups_place.clone()),
            Rule::ControlledDevices(_) => user.map(|user| user.controlled_devices_place.clone()),
            Rule::AllowCtiControl => {
                let device = self.devices.iter().find(|configured| configured.name.as_str() == device);
                device.map(|device| device.place.clone())
            }
            Rule::LineAllowsCtiControl | Rule::DeviceExists | Rule::UserExists => None,
        }
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
            ("RP_MAIN", "alice", Transport::Tls, "false DEVICE_NOT_CONTROLLED controlled_devices 12"),
            ("RP_SHUT", "alice", Transport::Tls, "false DEVICE_RESTRICTED allow_cti_control 7"),
            ("RP_SOON", "alice", Transport::Tls, "false DEVICE_NOT_CONTROLLED device exists 0"),
            ("RP_MAIN", "alice", Transport::Plain, "false SECURE_CONNECTION_REQUIRED transport 10"),
            ("RP_MAIN", "bob", Transport::Tls, "false USER_NOT_CTI_ENABLED group Standard CTI Enabled 13"),
            ("RP_MAIN", "eve", Transport::Tls, "false LOGIN_FAILED user exists 0"),
        ] {
            let told = config.explain(device, user, transport);
            let line = told.place.as_ref().map_or(0, |place| place.line);
            let shown = format!("{} {} {} {line}", told.allowed, told.symbol.unwrap_or("-"), told.rule);
            assert_eq!(shown, wanted, "{device} {user}");
        }
        let open = TEXT.replace(", allow_cti_control: false", "");
        let told = parse("hq.yaml", &open).expect("good").config.explain("RP_SHUT", "alice", Transport::Tls);
        let json = serde_json::to_value(&told).expect("JSON");
        assert_eq!(json["allowed"], true);
        assert_eq!(json["rule"], "controlled_devices RP_S*");
        assert_eq!((&json["file"], &json["line"]), (&"hq.yaml".into(), &12.into()));
    }
}
