//! Who may call which method on what: the whole matrix, as the node really answers. The checked-in text is what a
//! reviewer reads; a row that changes is a change of what somebody may do.

use super::world::{CONFIG, World};
use crate::node::{CtiConnection, CtiTransport};
use security::{Groups, StandardGroup};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The answers that are about permission; any other means: he may. A method that the node can't carry out yet is
/// `unsupported`.
const REFUSALS: [&str; 13] = [
    "LOGIN_FAILED",
    "SECURE_CONNECTION_REQUIRED",
    "USER_NOT_CTI_ENABLED",
    "NOT_OPEN",
    "DEVICE_NOT_CONTROLLED",
    "NO_SUCH_DEVICE",
    "DEVICE_RESTRICTED",
    "LINE_RESTRICTED",
    "DEVICE_NOT_OPEN",
    "NO_SUCH_LEG",
    "PRIVILEGE_VIOLATION",
    "CALLING_NUMBER_MODIFICATION_NOT_ALLOWED",
    "NO_SUCH_LINE",
];

const ABOUT_NOTHING: [(&str, &str); 10] = [
    ("provider.heartbeat", "{}"),
    ("provider.devices", "{}"),
    ("provider.devices", r#"{"scope": "all"}"#),
    ("provider.monitor_park", r#"{"on": true}"#),
    ("provider.snapshot", "{}"),
    ("rpc.discover", "{}"),
    ("line.set_message_waiting", r#"{"dn": "5000", "on": true}"#),
    ("line.set_message_waiting", r#"{"dn": "6000", "on": true}"#),
    ("line.set_message_waiting", r#"{"dn": "7000", "on": true}"#),
    ("line.set_message_waiting", r#"{"dn": "8000", "on": true}"#),
];
const ABOUT_DEVICES: [(&str, &str); 8] = [
    ("device.open", r#"{"media": {"mode": "dynamic", "codecs": ["PCMU"]}}"#),
    ("line.set_forward", r#"{"destination": null}"#),
    ("line.set_auto_accept", r#"{"on": false}"#),
    ("call.make", r#"{"destination": "1"}"#),
    ("call.make", r#"{"destination": "1", "calling_number": "2"}"#),
    ("call.unpark", r#"{"park_number": "8801"}"#),
    ("call.pickup", r#"{"ringing_dn": "1"}"#),
    ("device.close", "{}"),
];
const ABOUT_LEGS: [(&str, &str); 17] = [
    ("call.accept", "{}"),
    ("call.answer", "{}"),
    ("call.set_media", r#"{"ip": "127.0.0.1", "port": 30000}"#),
    ("call.hold", "{}"),
    ("call.retrieve", "{}"),
    ("call.consult", r#"{"destination": "1", "for": "transfer"}"#),
    ("call.transfer", r#"{"destination": "1"}"#),
    ("call.conference", r#"{"with": ["l1"]}"#),
    ("call.park", "{}"),
    ("call.dtmf", r#"{"digits": "1"}"#),
    ("call.set_user_data", r#"{"user_data": {}}"#),
    ("call.redirect", r#"{"destination": "1"}"#),
    ("call.redirect", r#"{"destination": "1", "calling_number": "2"}"#),
    ("call.redirect", r#"{"destination": "1", "original_called": "2"}"#),
    ("call.reject", "{}"),
    ("call.drop", "{}"),
    ("provider.close", "{}"),
];

fn config(groups: Groups, secure: bool) -> String {
    let names: Vec<String> = groups.iter().map(|group| format!("\"{group}\"")).collect();
    let users = CONFIG.find("users:").expect("there");
    let mode = if secure { "mode: secure" } else { "mode: non_secure" };
    format!(
        "{}users:\n\
         - {{id: alice, kind: application_user, password_hash: \"HASH\", groups: [{}], controlled_devices: [RP_MAIN, RP_SHUT]}}\n\
         - {{id: bob, kind: application_user, password_hash: \"HASH\", groups: [Standard CTI Enabled], controlled_devices: [RP_OTHER]}}\n",
        &CONFIG[..users], names.join(", ")
    )
    .replace("mode: non_secure", mode)
    .replace(
        "trunks:",
        "  - {name: RP_OTHER, type: route_point, pool: Default, lines: [\"6000\"]}\n  \
         - {name: RP_SHUT, type: route_point, pool: Default, lines: [\"7000\"], allow_cti_control: false}\ntrunks:",
    )
}

fn verdict(answer: &Value) -> String {
    let error = &answer["error"];
    if error["message"].as_str().is_some_and(|message| message.contains("not supported by this version")) {
        return "unsupported".to_owned();
    }
    let symbol = error["data"]["cti"].as_str();
    symbol.filter(|symbol| REFUSALS.contains(symbol)).unwrap_or("yes").to_owned()
}

/// The answer to a request, whatever is told before it.
fn ask(world: &mut World, app: CtiConnection, method: &str, params: &str, more: &[(&str, &str)]) -> String {
    let mut params: Value = serde_json::from_str(params).expect("JSON");
    for (key, value) in more {
        params[*key] = json!(value);
    }
    let id = world.send(app, method, params);
    let frames = world.frames.remove(&app).unwrap_or_default();
    let answer =
        frames.iter().find(|frame| frame["id"] == id).unwrap_or_else(|| panic!("{method}: {frames:?}"));
    verdict(answer)
}

fn offered(world: &mut World, app: CtiConnection, tag: &str, number: &str) -> String {
    world.invite(tag, number);
    let told = world.event(app, "call.offering");
    told["leg"]["leg"].as_str().expect("a leg").to_owned()
}

/// What alice may with these groups, this mode and this transport.
fn rows(groups: Groups, secure: bool, transport: CtiTransport) -> String {
    let mut world = World::with(&config(groups, secure));
    let bob = world.application(1, "bob");
    world.call(bob, "device.open", json!({"device": "RP_OTHER", "media": {"mode": "none"}}));
    world.heard(bob);
    let foreign = offered(&mut world, bob, "f", "6000");
    let alice = world.connect_by(2, transport);
    let open = r#"{"user": "alice", "password": "secret", "application": "matrix"}"#;
    let mut table = format!("provider.open  {}\n", ask(&mut world, alice, "provider.open", open, &[]));
    for (method, params) in ABOUT_NOTHING {
        let _ = writeln!(table, "{method} {params}  {}", ask(&mut world, alice, method, params, &[]));
    }
    for (method, params) in ABOUT_DEVICES {
        let _ = write!(table, "{method} {params} ");
        for (what, device, dn) in [
            ("own", "RP_MAIN", "5000"),
            ("foreign", "RP_OTHER", "6000"),
            ("restricted", "RP_SHUT", "7000"),
            ("unknown", "RP_NONE", "8000"),
        ] {
            let more = [("device", device), ("dn", dn)];
            let more = if method.starts_with("device.") { &more[..1] } else { &more[..] };
            let _ = write!(table, " {what}: {}", ask(&mut world, alice, method, params, more));
        }
        table.push('\n');
    }
    let media = json!({"device": "RP_MAIN", "media": {"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]}});
    let opened = world.call(alice, "device.open", media)["result"].is_object();
    world.heard(alice);
    let own = opened.then(|| offered(&mut world, alice, "o", "5000"));
    for (method, params) in ABOUT_LEGS {
        let _ = write!(table, "{method} {params} ");
        if method == "provider.close" {
            let _ = writeln!(table, " {}", ask(&mut world, alice, method, params, &[]));
            continue;
        }
        for (what, leg) in [("own", own.as_deref().unwrap_or("l1")), ("foreign", foreign.as_str())] {
            let _ = write!(table, " {what}: {}", ask(&mut world, alice, method, params, &[("leg", leg)]));
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_whole_matrix_of_methods() {
    insta::assert_snapshot!(by_who_may_the_same(rows));
}

/// The rows of telling sets of groups, in both modes, over both transports. Who may the same stands under one heading.
pub(super) fn by_who_may_the_same(rows: impl Fn(Groups, bool, CtiTransport) -> String) -> String {
    let enabled = Groups::NONE.with(StandardGroup::CtiEnabled);
    let all: Groups = StandardGroup::ALL.into_iter().collect();
    let mut sets = vec![("no group".to_owned(), Groups::NONE), ("CTI Enabled".to_owned(), enabled)];
    for group in StandardGroup::ALL.into_iter().skip(1) {
        sets.push((
            format!("CTI Enabled, {}", group.name().trim_start_matches("Standard CTI ")),
            enabled.with(group),
        ));
    }
    sets.push(("every group".into(), all));
    sets.push(("every group but CTI Enabled".into(), all.without(StandardGroup::CtiEnabled)));
    let mut same: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, groups) in sets {
        for secure in [true, false] {
            let tls = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
            for (way, transport) in [("TLS", tls), ("plain", CtiTransport::Plain)] {
                let mode = if secure { "secure" } else { "non_secure" };
                let heading = format!("# {name}; {mode} cluster; {way}");
                same.entry(rows(groups, secure, transport)).or_default().push(heading);
            }
        }
    }
    let mut sections: Vec<(Vec<String>, String)> = same.into_iter().map(|(rows, who)| (who, rows)).collect();
    sections.sort();
    sections.iter().map(|(who, rows)| format!("{}\n{rows}\n", who.join("\n"))).collect()
}
