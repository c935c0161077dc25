//! A new configuration under open providers: each row of reference §2.7, and what else protocol §2 says of it.

use super::world::{CONFIG, World, header};
use crate::node::{CtiConnection, CtiTransport, Input};
use serde_json::json;
use std::time::Duration;

const SUPER: &str = "Standard CTI Allow Control of All Devices";
const PARK: &str = "Standard CTI Allow Call Park Monitoring";

fn open(world: &mut World, app: CtiConnection, device: &str, port: u16) {
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": port, "codecs": ["PCMU"]});
    let answer = world.call(app, "device.open", json!({"device": device, "media": media}));
    assert!(answer["result"].is_object(), "{answer}");
    world.event(app, "device.in_service");
}

/// An application with a call that it has answered, on RP_MAIN ("a") or PORT_001 ("b").
fn talk(world: &mut World, app: CtiConnection, tag: &str, number: &str) -> String {
    world.sip.clear();
    world.invite(tag, number);
    world.sent("SIP/2.0 100");
    let leg = world.event(app, "call.offering")["leg"]["leg"].clone();
    let answer = world.call(app, "call.answer", json!({"leg": leg}));
    assert!(answer["result"].is_object(), "{answer}");
    let to = header(&world.sent("SIP/2.0 200"), "To").to_owned();
    world.in_dialog(tag, "ACK", 1, &to);
    world.heard(app);
    to
}

/// The configuration with other groups for `ivr`.
fn with_groups(groups: &[&str]) -> String {
    let listed = format!("groups: [{}], controlled_devices: [RP_MAIN, \"PORT_*\"]", groups.join(", "));
    let standard = "groups: [Standard CTI Enabled], controlled_devices: [RP_MAIN, \"PORT_*\"]";
    assert!(CONFIG.contains(standard));
    CONFIG.replace(standard, &listed)
}

fn with_list(list: &str) -> String {
    CONFIG.replace("[RP_MAIN, \"PORT_*\"]", list)
}

#[test]
fn devices_come_to_a_list_and_leave_it_and_the_neighbours_call_goes_on() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    open(&mut world, app, "RP_MAIN", 30_000);
    open(&mut world, app, "PORT_001", 30_002);
    let main = talk(&mut world, app, "a", "5000");
    talk(&mut world, app, "b", "5101");
    world.reload(&with_list("[RP_MAIN, PORT_002]"));
    // The port's call ends like that of a failed application; the route point's goes on.
    assert!(world.sent("BYE sip:pstn@").contains("Call-ID: b@"));
    assert!(world.sip.is_empty(), "{:?}", world.sip);
    assert_eq!(world.heard(app), ["device.removed PORT_001"]);
    let answer = world.call(app, "device.open", json!({"device": "PORT_001"}));
    assert_eq!(answer["error"]["data"]["cti"], "DEVICE_NOT_CONTROLLED");
    world.reload(CONFIG);
    assert_eq!(world.heard(app), ["device.added PORT_001"]);
    world.in_dialog("a", "BYE", 2, &main);
    assert!(world.heard(app).contains(&"call.disconnected RP_MAIN normal_call_clearing".to_owned()));
}

#[test]
fn devices_come_to_the_configuration_and_leave_it() {
    let mut world = World::new();
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    open(&mut world, app, "PORT_001", 30_002);
    talk(&mut world, app, "b", "5101");
    let port = "  - {name: PORT_001, type: cti_port, pool: Default, lines: [\"5101\"]}\n";
    assert!(CONFIG.contains(port));
    world.reload(&CONFIG.replace(port, ""));
    let heard = world.heard(app);
    let order =
        ["call.disconnected PORT_001 temporary_failure", "device.closed PORT_001 device_unregistered"];
    let at = |what: &str| heard.iter().position(|told| told == what).unwrap_or_else(|| panic!("{heard:?}"));
    assert!(at(order[0]) < at(order[1]));
    assert_eq!(heard.last().expect("told"), "device.removed PORT_001");
    world.reload(CONFIG);
    assert_eq!(world.heard(app), ["device.added PORT_001"]);
    world.no_frames(other);
}

#[test]
fn a_device_of_another_kind_is_another_device() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    open(&mut world, app, "PORT_001", 30_002);
    world.reload(&CONFIG.replace("PORT_001, type: cti_port", "PORT_001, type: route_point"));
    // Nobody has it any more, and both events say so.
    let closed = world.event(app, "device.closed")["device"].clone();
    assert_eq!((&closed["opened"], &closed["registered"]), (&json!(false), &json!(false)), "{closed}");
    assert_eq!(
        (&closed["state"], &closed["type"]),
        (&json!("out_of_service"), &json!("cti_port")),
        "{closed}"
    );
    assert_eq!(world.event(app, "device.removed")["device"], closed);
    assert_eq!(world.heard(app), ["device.added PORT_001"]);
}

#[test]
fn a_line_that_comes_to_an_open_device_is_told_with_the_device() {
    let mut world = World::new();
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    open(&mut world, app, "PORT_001", 30_002);
    world.reload(&CONFIG.replace("[\"5101\"]", "[\"5101\", \"5111\"]"));
    let told = world.event(app, "device.added");
    assert_eq!(told["device"]["lines"][1]["dn"], "5111");
    assert_eq!(told["device"]["opened"], true);
    talk(&mut world, app, "c", "5111");
    world.reload(CONFIG);
    assert!(world.sent("BYE").contains("Call-ID: c@"));
    let heard = world.heard(app);
    assert_eq!(heard.last().expect("told"), "device.added PORT_001", "{heard:?}");
    world.no_frames(other);
}

#[test]
fn a_restricted_device_goes_out_of_service_and_comes_back_by_itself() {
    let mut world = World::new();
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    open(&mut world, app, "RP_MAIN", 30_000);
    talk(&mut world, app, "a", "5000");
    world.reload(&CONFIG.replace("lines: [\"5000\"]", "lines: [\"5000\"], allow_cti_control: false"));
    world.sent("BYE");
    assert_eq!(
        world.heard(app),
        [
            "device.restricted RP_MAIN",
            "media.stopped RP_MAIN input",
            "media.stopped RP_MAIN output",
            "call.disconnected RP_MAIN temporary_failure",
            "device.out_of_service RP_MAIN device_restricted",
        ]
    );
    assert_eq!(world.heard(other), ["device.restricted RP_MAIN"], "he has it on his list, not open");
    let answer = world.call(other, "device.open", json!({"device": "RP_MAIN"}));
    assert_eq!(answer["error"]["data"]["cti"], "DEVICE_RESTRICTED");
    world.reload(CONFIG);
    assert_eq!(world.heard(app), ["device.unrestricted RP_MAIN", "device.in_service RP_MAIN"]);
    talk(&mut world, app, "b", "5000");
}

#[test]
fn a_restricted_line_is_told_and_without_any_other_the_device_is_out_of_service() {
    let two = CONFIG.replace("[\"5101\"]", "[\"5101\", \"5111\"]");
    let mut world = World::with(&two);
    let app = world.application(1, "ivr");
    open(&mut world, app, "PORT_001", 30_002);
    talk(&mut world, app, "a", "5111");
    talk(&mut world, app, "b", "5101");
    let shut = |numbers: &[&str]| {
        let entries: String =
            numbers.iter().map(|dn| format!("\n  - {{dn: \"{dn}\", allow_cti_control: false}}")).collect();
        two.replace("directory_numbers:", &format!("directory_numbers:{entries}"))
    };
    world.reload(&shut(&["5101"]));
    assert!(world.sent("BYE").contains("Call-ID: b@"), "the other line's call goes on");
    assert!(world.sip.is_empty());
    let told = world.event(app, "device.restricted");
    assert_eq!((&told["reason"], &told["device"]["restricted"]), (&json!("line_restricted"), &json!(false)));
    assert_eq!(told["device"]["lines"][0]["restricted"], true);
    assert_eq!(told["device"]["lines"][1]["restricted"], false);
    assert_eq!(world.heard(app).last().expect("told"), "call.disconnected PORT_001 temporary_failure");
    world.reload(&shut(&["5101", "5111"]));
    let heard = world.heard(app);
    assert_eq!(heard.first().expect("told"), "device.restricted PORT_001 line_restricted");
    assert_eq!(heard.last().expect("told"), "device.out_of_service PORT_001 line_restricted");
    world.reload(&two);
    assert_eq!(
        world.heard(app),
        ["device.unrestricted PORT_001 line_restricted", "device.in_service PORT_001"]
    );
}

#[test]
fn rights_that_come_and_go_are_told_and_hold_from_the_next_request() {
    let number = "Standard CTI Allow Calling Number Modification";
    let mut world = World::new();
    let app = world.application(1, "ivr");
    open(&mut world, app, "PORT_001", 30_002);
    let make = json!({"device": "PORT_001", "destination": "9111", "calling_number": "0800"});
    let park = json!({"on": true});
    let refused = |world: &mut World, method: &str, params: &serde_json::Value| {
        world.call(app, method, params.clone())["error"]["data"]["cti"].clone()
    };
    assert_eq!(refused(&mut world, "call.make", &make), "CALLING_NUMBER_MODIFICATION_NOT_ALLOWED");
    assert_eq!(refused(&mut world, "provider.monitor_park", &park), "PRIVILEGE_VIOLATION");
    world.reload(&with_groups(&["Standard CTI Enabled", number, PARK]));
    let told = world.event(app, "provider.privileges_changed");
    assert_eq!(told["privileges"]["calling_number_modification"], true);
    assert_eq!(told["privileges"]["park_monitoring"], true);
    world.no_frames(app);
    assert!(world.call(app, "call.make", make.clone())["result"]["leg"].is_string());
    world.heard(app);
    assert_ne!(refused(&mut world, "provider.monitor_park", &park), "PRIVILEGE_VIOLATION");
    world.heard(app);
    world.reload(CONFIG);
    assert_eq!(world.heard(app), ["provider.privileges_changed"], "and the call goes on");
    assert_eq!(refused(&mut world, "call.make", &make), "CALLING_NUMBER_MODIFICATION_NOT_ALLOWED");
    assert_eq!(refused(&mut world, "provider.monitor_park", &park), "PRIVILEGE_VIOLATION");
}

#[test]
fn a_super_provider_becomes_a_normal_one() {
    let all = with_groups(&["Standard CTI Enabled", &format!("\"{SUPER}\"")])
        .replace("controlled_devices: [RP_MAIN, \"PORT_*\"]", "controlled_devices: [PORT_001]");
    let mut world = World::with(&all);
    let app = world.application(1, "ivr");
    open(&mut world, app, "RP_MAIN", 30_000);
    open(&mut world, app, "PORT_001", 30_002);
    talk(&mut world, app, "a", "5000");
    let own = talk(&mut world, app, "b", "5101");
    world.reload(&with_list("[PORT_001]"));
    assert_eq!(
        world.heard(app),
        [
            "provider.privileges_changed",
            "provider.out_of_service",
            "device.removed RP_MAIN",
            "provider.in_service",
            "device.added PORT_001",
        ]
    );
    assert!(world.sent("BYE").contains("Call-ID: a@"));
    world.in_dialog("b", "BYE", 2, &own);
    assert!(world.heard(app).contains(&"call.disconnected PORT_001 normal_call_clearing".to_owned()));
    let answer = world.call(app, "device.open", json!({"device": "RP_MAIN"}));
    assert_eq!(answer["error"]["data"]["cti"], "DEVICE_NOT_CONTROLLED");
    world.reload(&all);
    assert_eq!(world.heard(app), ["provider.privileges_changed"]);
    open(&mut world, app, "RP_MAIN", 30_000);
    // Off his list, but a super provider keeps what he has open.
    world.reload(&all.replace("controlled_devices: [PORT_001]", "controlled_devices: []"));
    world.no_frames(app);
    talk(&mut world, app, "c", "5101");
}

#[test]
fn a_deleted_user_fails_with_his_devices_and_calls() {
    for (yaml, reason) in [
        (CONFIG.replace("id: ivr", "id: renamed"), "user_deleted"),
        (with_groups(&[PARK]), "not_cti_enabled"),
    ] {
        let mut world = World::new();
        let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
        open(&mut world, app, "RP_MAIN", 30_000);
        open(&mut world, app, "PORT_001", 30_002);
        talk(&mut world, app, "b", "5101");
        world.invite("a", "5000");
        world.sent("SIP/2.0 100");
        world.heard(app);
        world.reload(&yaml);
        let last = world.frame(app).expect("a last word");
        assert_eq!(last["params"]["type"], "session.closed");
        assert_eq!(last["params"]["reason"], reason);
        world.no_frames(app);
        assert_eq!(world.closed, [app]);
        let sent: Vec<String> = world.sip.drain(..).collect();
        assert!(sent.iter().any(|m| m.starts_with("BYE") && m.contains("Call-ID: b@")), "{sent:?}");
        assert!(sent.iter().any(|m| m.starts_with("INVITE sip:9009@")), "to CFOF: {sent:?}");
        assert_eq!(world.heard(other), Vec::<String>::new());
        let again = world.connect(3);
        let open = json!({"user": "ivr", "password": "secret", "application": "test"});
        let symbol = world.call(again, "provider.open", open)["error"]["data"]["cti"].clone();
        assert_eq!(symbol, if reason == "user_deleted" { "LOGIN_FAILED" } else { "USER_NOT_CTI_ENABLED" });
    }
}

#[test]
fn a_session_that_waits_for_its_application_goes_with_its_user() {
    let mut world = World::with(&CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 30s,"));
    let app = world.application(1, "ivr");
    open(&mut world, app, "RP_MAIN", 30_000);
    talk(&mut world, app, "a", "5000");
    world.input(Input::CtiClosed(app));
    assert!(world.sip.is_empty(), "it is held");
    world.reload(&CONFIG.replace("id: ivr", "id: renamed"));
    world.sent("BYE");
}

#[test]
fn a_cluster_that_becomes_secure_closes_plain_connections_that_must_not_be() {
    let groups = ["Standard CTI Enabled", "Standard CTI Secure Connection"];
    let mut world = World::with(&with_groups(&groups));
    let plain = world.connect_by(1, CtiTransport::Plain);
    let open = json!({"user": "ivr", "password": "secret", "application": "test"});
    assert!(world.call(plain, "provider.open", open.clone())["result"].is_object());
    let safe = world.application(2, "ivr");
    let secure = with_groups(&groups).replace("mode: non_secure", "mode: secure");
    world.reload(&secure);
    assert_eq!(world.frame(plain).expect("told")["params"]["type"], "session.closed");
    assert_eq!(world.closed, [plain]);
    world.no_frames(safe);
    let again = world.connect_by(3, CtiTransport::Plain);
    let answer = world.call(again, "provider.open", open);
    assert_eq!(answer["error"]["data"]["cti"], "SECURE_CONNECTION_REQUIRED");
}

#[test]
fn forwards_and_timers_hold_for_the_next_call_and_are_told() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    open(&mut world, app, "RP_MAIN", 30_000);
    let changed = CONFIG
        .replace("no_answer: \"9001\"", "no_answer: \"9002\"")
        .replace("cluster:", "service_parameters: {cti_new_call_accept_timer: 2s}\ncluster:");
    world.reload(&changed);
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    world.event(app, "call.offering");
    world.pass(Duration::from_millis(1900));
    assert!(world.sip.is_empty(), "{:?}", world.sip);
    world.pass(Duration::from_millis(200));
    world.sent("INVITE sip:9002@");
    world.heard(app);
    world.reload(&changed.replace("forward: {", "forward: {all: \"9003\", "));
    let told = world.event(app, "line.forward_changed");
    assert_eq!(told["line"]["forward_all"], "9003");
}

#[test]
fn limits_hold_for_providers_that_are_open() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    for (device, port) in [("RP_MAIN", 30_000), ("PORT_001", 30_002)] {
        open(&mut world, app, device, port);
    }
    let limited = |keys: &str| format!("service_parameters: {{{keys}}}\n{CONFIG}");
    world.reload(&limited("max_devices_per_provider: 1, max_requests_per_second: 1"));
    assert_eq!(world.heard(app), ["alarm MaxDevicesPerProviderExceeded raised"]);
    assert!(world.call(app, "provider.devices", json!({}))["result"].is_object());
    let answer = world.call(app, "provider.devices", json!({}));
    assert_eq!(answer["error"]["data"]["cti"], "RATE_LIMITED");
    world.reload(&limited("max_devices_per_provider: 2, max_devices_per_node: 1"));
    assert_eq!(
        world.heard(app),
        ["alarm MaxDevicesPerProviderExceeded cleared", "alarm MaxDevicesPerNodeExceeded raised"]
    );
    assert!(world.call(app, "provider.devices", json!({}))["result"].is_object());
}

#[test]
fn the_same_configuration_again_is_told_to_nobody() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    open(&mut world, app, "RP_MAIN", 30_000);
    talk(&mut world, app, "a", "5000");
    world.reload(CONFIG);
    world.no_frames(app);
    assert!(world.sip.is_empty());
}

#[test]
fn ten_thousand_devices_are_told_in_pages_and_calls_are_answered_between_them() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    open(&mut world, app, "RP_MAIN", 30_000);
    let many = CONFIG.replace(
        "trunks:",
        "  - {name: \"PORT_[10001-20000]\", type: cti_port, pool: Default, lines: [\"[610001-620000]\"]}\ntrunks:",
    );
    world.reload(&many);
    let page = world.heard(app);
    assert_eq!(page.len(), super::super::cti_manager::reload::consequences::AT_ONCE);
    assert!(page.iter().all(|told| told.starts_with("device.added PORT_1")));
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    world.event(app, "call.offering");
    world.pass(Duration::from_millis(500));
    let added = |heard: &[String], what: &str| heard.iter().filter(|told| told.starts_with(what)).count();
    assert_eq!(page.len() + added(&world.heard(app), "device.added PORT_"), 10_000);
    // Another reload before all of the first is told: nothing is lost, and the order stays.
    world.reload(CONFIG);
    world.reload(&many);
    world.pass(Duration::from_secs(1));
    let heard = world.heard(app);
    assert_eq!((added(&heard, "device.removed"), added(&heard, "device.added")), (10_000, 10_000));
    let first = heard.iter().position(|told| told.starts_with("device.added")).expect("added");
    assert!(heard[first..].iter().all(|told| told.starts_with("device.added")));
}
