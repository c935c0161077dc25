//! Who is there: the configuration that every run has.

use super::oracle::Plan;
use ctimanager::config::Loaded;
use ctimanager::node::{Settings, Surroundings};
use std::net::SocketAddr;
use std::sync::Arc;

/// The node's SIP address.
pub(crate) const NODE: &str = "10.0.0.1:5060";
/// The same over TLS.
pub(super) const NODE_TLS: &str = "10.0.0.1:5061";
/// Phones that don't speak over UDP.
pub(super) const STREAMS: [(&str, sip::Transport); 2] =
    [("PHONE_2", sip::Transport::Tcp), ("PHONE_4", sip::Transport::Tls)];
/// The trunk's.
pub(super) const TRUNK: &str = "10.0.0.99:5070";
/// No event of a run has more bytes.
pub(super) const EVENT_BYTES: usize = 6 * 1024;
/// Every phone's and user's.
pub(crate) const PASSWORD: &str = "secret";
/// Frames that may wait for a slow application, where it is not told as fast as it can be.
pub(super) const QUEUE_EVENTS: usize = 48;
/// Events that a session keeps there.
pub(super) const LOG_EVENTS: usize = 120;

/// The numbers that somebody may dial.
pub(super) const NUMBERS: &[&str] =
    &["1001", "1002", "1003", "1004", "5000", "5000", "5000", "5001", "5101", "5102", "9001", "9009", "7777"];

/// An argon2id hash: the simulated shell says itself whether a password matches.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";

const CONFIG: &str = r#"
cluster: {name: sim, security: {mode: non_secure}}
nodes: [{name: cm1, host: 10.0.0.1, services: [callmanager, ctimanager], sip: {udp: 5060, tcp: 5060, tls: 5061}, cti: {tls: 2749}}]
call_manager_groups: [{name: Default, members: [cm1]}]
device_pools: [{name: Default, call_manager_group: Default}]
directory_numbers:
  - {dn: "5000", max_calls: 40, busy_trigger: 30, forward: {no_answer: "1002", unregistered: "9001", on_failure: "1001"}}
  - {dn: "5101", forward: {on_failure: "9009"}}
  - {dn: "1001", forward: {busy: "1002"}}
  - {dn: "1002", forward: {no_answer: "5000"}}
  - {dn: "5001"}
devices:
  - {name: RP_MAIN, type: route_point, pool: Default, lines: ["5000"]}
  - {name: RP_QUEUE, type: route_point, pool: Default, lines: ["5001"]}
  - {name: PORT_1, type: cti_port, pool: Default, lines: ["5101"]}
  - {name: PORT_2, type: cti_port, pool: Default, lines: ["5102"]}
  - {name: PHONE_1, type: phone, pool: Default, lines: ["1001"], digest: {user: "p1", password: secret}}
  - {name: PHONE_2, type: phone, pool: Default, lines: ["1002"], digest: {user: "p2", password: secret}}
  - {name: PHONE_3, type: phone, pool: Default, lines: ["1003", "1004"], digest: {user: "p3", password: secret}}
  - {name: PHONE_4, type: phone, pool: Default, lines: ["1003"], digest: {user: "p4", password: secret}}
trunks: [{name: pstn, host: 10.0.0.99, port: 5070, transport: udp, digest: {user: gw, password: secret}}]
route_patterns: [{pattern: "9XXX", trunk: pstn}]
users:
  - {id: ivr, kind: application_user, password_hash: "@HASH@", groups: [Standard CTI Enabled], controlled_devices: ["RP_M*"]}
  - {id: ports, kind: application_user, password_hash: "@HASH@", groups: [Standard CTI Enabled], controlled_devices: ["PORT_*"]}
  - {id: desk, kind: application_user, password_hash: "@HASH@", groups: [Standard CTI Enabled], controlled_devices: ["RP_Q*", PHONE_3, "PHONE_4*"]}
  - {id: watch, kind: application_user, password_hash: "@HASH@", groups: [Standard CTI Enabled, Standard CTI Allow Control of All Devices], controlled_devices: ["PHONE_[3-4]*"]}
service_parameters: {application_heartbeat_minimum_interval: 5s, session_log_events: @LOG@, session_log_bytes: @BYTES@KiB, session_queue_events: @QUEUE@, session_resume_grace_maximum: 60s}
"#;

/// What a run has besides when there is a hostile neighbour: what that is let in as, and rates that it reaches.
const NEIGHBOUR: &[(&str, &str)] = &[
    ("trunks: [", "  - {name: RP_GREEDY, type: route_point, pool: Default, lines: [\"5009\"]}\ntrunks: ["),
    (
        "service_parameters: {",
        "  - {id: greedy, kind: application_user, password_hash: \"@HASH@\", groups: [Standard CTI Enabled], controlled_devices: [RP_GREEDY]}\nservice_parameters: {max_requests_per_second: 60, max_requests_per_second_per_user: 60, max_requests_per_second_per_address: 60, ",
    ),
];

/// What an administrator may change while traffic goes on: in the text above this becomes that.
pub(super) struct Change {
    pub(super) what: &'static str,
    from: &'static str,
    to: &'static str,
    /// The user who may not open a provider meanwhile.
    pub(super) locks_out: Option<&'static str>,
}

/// The changes of which a reload takes one, or none.
pub(super) const CHANGES: &[Change] = &[
    Change {
        what: "PHONE_3 is restricted",
        from: "p3\", password: secret}",
        to: "p3\", password: secret}, allow_cti_control: false",
        locks_out: None,
    },
    Change {
        what: "the number 5000 is restricted",
        from: "on_failure: \"1001\"}",
        to: "on_failure: \"1001\"}, allow_cti_control: false",
        locks_out: None,
    },
    Change { what: "PORT_2 leaves a list", from: "[\"PORT_*\"]", to: "[PORT_1]", locks_out: None },
    Change {
        what: "RP_QUEUE is removed",
        from: "  - {name: RP_QUEUE, type: route_point, pool: Default, lines: [\"5001\"]}\n",
        to: "",
        locks_out: None,
    },
    Change {
        what: "PHONE_4 is removed",
        from: "  - {name: PHONE_4, type: phone, pool: Default, lines: [\"1003\"], digest: {user: \"p4\", password: secret}}\n",
        to: "",
        locks_out: None,
    },
    Change {
        what: "RP_MORE is added",
        from: "devices:\n",
        to: "devices:\n  - {name: RP_MORE, type: route_point, pool: Default, lines: [\"5002\"]}\n",
        locks_out: None,
    },
    Change {
        what: "the watcher is no super provider",
        from: ", Standard CTI Allow Control of All Devices]",
        to: "]",
        locks_out: None,
    },
    Change {
        what: "the desk leaves CTI Enabled",
        from: "groups: [Standard CTI Enabled], controlled_devices: [\"RP_Q*\"",
        to: "groups: [], controlled_devices: [\"RP_Q*\"",
        locks_out: Some("desk"),
    },
    Change {
        what: "the watching user is deleted",
        from: "  - {id: watch,",
        to: "  - {id: nobody,",
        locks_out: Some("watch"),
    },
    Change {
        what: "5000 forwards to the trunk",
        from: "{no_answer: \"1002\", unregistered: \"9001\"",
        to: "{no_answer: \"9003\", unregistered: \"1004\"",
        locks_out: None,
    },
    Change {
        what: "5101 accepts by itself",
        from: "{on_failure: \"9009\"}}",
        to: "{on_failure: \"9009\"}, auto_accept: true}",
        locks_out: None,
    },
];

/// A phone of the scene: its device, its digest user, its lines; the trunk's peer has neither.
pub(super) struct PhoneOfScene {
    pub(super) device: &'static str,
    pub(super) user: Option<&'static str>,
    pub(super) lines: &'static [&'static str],
    pub(super) address: &'static str,
    pub(super) max_calls: usize,
    /// Its person dials once in so long, at the most.
    pub(super) dials_within_ms: u64,
}

/// The phones; the last is the trunk's peer.
pub(super) const PHONES: &[PhoneOfScene] = &[
    phone("PHONE_1", "p1", &["1001"], "10.0.0.11:5060"),
    phone("PHONE_2", "p2", &["1002"], "10.0.0.12:5060"),
    phone("PHONE_3", "p3", &["1003", "1004"], "10.0.0.13:5060"),
    phone("PHONE_4", "p4", &["1003"], "10.0.0.14:5060"),
    PhoneOfScene {
        device: "pstn",
        user: None,
        lines: &["0301234"],
        address: TRUNK,
        max_calls: 16,
        dials_within_ms: 1_500,
    },
];

const fn phone(
    device: &'static str,
    user: &'static str,
    lines: &'static [&'static str],
    address: &'static str,
) -> PhoneOfScene {
    PhoneOfScene { device, user: Some(user), lines, address, max_calls: 3, dials_within_ms: 8_000 }
}

/// What an application opens its devices with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Static,
    Dynamic,
    None,
    /// The device is a phone.
    Phone,
}

/// An application of the scene.
pub(super) struct ApplicationOfScene {
    pub(super) user: &'static str,
    pub(super) instance: &'static str,
    pub(super) devices: &'static [(&'static str, Media)],
    /// From where it makes calls of its own.
    pub(super) calls_from: &'static [&'static str],
    /// It watches and does nothing.
    pub(super) passive: bool,
}

/// Four applications: two instances of one on one route point, one on two ports, one at a desk.
pub(super) const APPLICATIONS: &[ApplicationOfScene] = &[
    ApplicationOfScene {
        user: "ivr",
        instance: "a",
        devices: &[("RP_MAIN", Media::Dynamic)],
        calls_from: &[],
        passive: false,
    },
    ApplicationOfScene {
        user: "ivr",
        instance: "b",
        devices: &[("RP_MAIN", Media::Dynamic)],
        calls_from: &[],
        passive: false,
    },
    ApplicationOfScene {
        user: "ports",
        instance: "p",
        devices: &[("PORT_1", Media::Static), ("PORT_2", Media::Dynamic)],
        calls_from: &["PORT_1", "PORT_2"],
        passive: false,
    },
    ApplicationOfScene {
        user: "desk",
        instance: "d",
        devices: &[("RP_QUEUE", Media::None), ("PHONE_3", Media::Phone), ("PHONE_4", Media::Phone)],
        calls_from: &[],
        passive: false,
    },
];

/// The same, the desk calling from its phone, and two more: one waits for the port whose media is at one address, and one
/// watches all phones.
pub(super) const SIX_APPLICATIONS: &[ApplicationOfScene] = &[
    ApplicationOfScene {
        user: "ivr",
        instance: "a",
        devices: &[("RP_MAIN", Media::Dynamic)],
        calls_from: &[],
        passive: false,
    },
    ApplicationOfScene {
        user: "ivr",
        instance: "b",
        devices: &[("RP_MAIN", Media::Dynamic)],
        calls_from: &[],
        passive: false,
    },
    ApplicationOfScene {
        user: "ports",
        instance: "p",
        devices: &[("PORT_1", Media::Static), ("PORT_2", Media::Dynamic)],
        calls_from: &["PORT_1", "PORT_2"],
        passive: false,
    },
    ApplicationOfScene {
        user: "ports",
        instance: "q",
        devices: &[("PORT_1", Media::Static)],
        calls_from: &["PORT_1"],
        passive: false,
    },
    ApplicationOfScene {
        user: "desk",
        instance: "d",
        devices: &[("RP_QUEUE", Media::None), ("PHONE_3", Media::Phone), ("PHONE_4", Media::Phone)],
        calls_from: &["PHONE_3"],
        passive: false,
    },
    ApplicationOfScene {
        user: "watch",
        instance: "w",
        devices: &[
            ("RP_QUEUE", Media::None),
            ("PHONE_1", Media::Phone),
            ("PHONE_2", Media::Phone),
            ("PHONE_3", Media::Phone),
            ("PHONE_4", Media::Phone),
        ],
        calls_from: &[],
        passive: true,
    },
];

/// What bounds the sessions of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(super) log_events: usize,
    pub(super) log_bytes: usize,
    pub(super) queue_events: usize,
}

/// The smallest logs and queues that can be configured.
pub(crate) const TIGHT: Bounds = Bounds { log_events: 100, log_bytes: 64 * 1024, queue_events: 16 };

/// A little more room.
pub(super) const ROOMY: Bounds =
    Bounds { log_events: LOG_EVENTS, log_bytes: 64 * 1024, queue_events: QUEUE_EVENTS };

/// The configuration as the node sees it, with these of the [`CHANGES`].
pub(crate) fn settings(bounds: Bounds, changes: &[usize]) -> Arc<Settings> {
    settings_of(CONFIG, bounds, changes)
}

/// The same where there is a hostile neighbour.
pub(super) fn settings_beside_a_neighbour(bounds: Bounds, changes: &[usize]) -> Arc<Settings> {
    settings_of(&with_neighbour(), bounds, changes)
}

fn with_neighbour() -> String {
    NEIGHBOUR.iter().fold(CONFIG.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

/// The same as an administrator and his users see it.
pub(super) fn plan(beside_a_neighbour: bool, changes: &[usize]) -> Plan {
    let config = if beside_a_neighbour { with_neighbour() } else { CONFIG.to_owned() };
    Plan::of(&loaded(&config, TIGHT, changes).config)
}

fn settings_of(config: &str, bounds: Bounds, changes: &[usize]) -> Arc<Settings> {
    let loaded = loaded(config, bounds, changes);
    let listen = [
        (sip::Transport::Udp, address(NODE)),
        (sip::Transport::Tcp, address(NODE)),
        (sip::Transport::Tls, address(NODE_TLS)),
    ];
    let surroundings = Surroundings { sip_listen: listen.to_vec(), ..Surroundings::default() };
    Arc::new(Settings::of(&loaded.config, &loaded.config.nodes[0], &surroundings))
}

fn loaded(config: &str, bounds: Bounds, changes: &[usize]) -> Loaded {
    let mut yaml = config
        .replace("@HASH@", HASH)
        .replace("@LOG@", &bounds.log_events.to_string())
        .replace("@BYTES@", &(bounds.log_bytes / 1024).to_string())
        .replace("@QUEUE@", &bounds.queue_events.to_string());
    for change in changes.iter().map(|index| &CHANGES[*index]) {
        assert_eq!(yaml.matches(change.from).count(), 1, "{}", change.what);
        yaml = yaml.replace(change.from, change.to);
    }
    ctimanager::config::parse("sim.yaml", &yaml)
        .unwrap_or_else(|mistakes| panic!("the scene is wrong: {mistakes:#?}"))
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("the scene's addresses are addresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_can_be_made_to_the_scene_alone_and_with_all_others() {
        for index in 0..CHANGES.len() {
            settings(TIGHT, &[index]);
            settings_beside_a_neighbour(TIGHT, &[index]);
        }
        settings(TIGHT, &(0..CHANGES.len()).collect::<Vec<_>>());
    }
}
