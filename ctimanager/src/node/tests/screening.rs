//! What rules refuse of calls: how it looks outside, in the log, in the counters and in the alarms.

use super::world::{CONFIG, World, header};
use crate::node::{AdminRequest, AdminToken, Input, Report, Severity};
use serde_json::{Value, json};
use std::time::Duration;

/// `9XXX` is outside, RP_MAIN's number may forward there, PORT_001 reaches it and PORT_002 doesn't.
fn config() -> String {
    CONFIG
        .replace(
            "directory_numbers:\n  - {dn: \"5000\",",
            "partitions: [outside]\ncalling_search_spaces: [{name: staff, partitions: [outside]}]\n\
             directory_numbers:\n  - {dn: \"5000\", calling_search_space: staff,",
        )
        .replace("name: PORT_001,", "name: PORT_001, calling_search_space: staff,")
        .replace("trunk: pstn}", "trunk: pstn, partition: outside}")
}

fn ask(world: &mut World, request: AdminRequest) -> Value {
    world.input(Input::Admin(AdminToken(1), request));
    world.answers.pop().expect("an answer").expect("a good one")
}

fn count(world: &mut World, rule: &str) -> Value {
    ask(world, AdminRequest::Metrics)["calls_refused"][rule].clone()
}

fn refused(world: &mut World, tag: &str, number: &str, status: &str) -> String {
    world.sip.clear();
    world.invite(tag, number);
    let answer = world.sip.pop_back().expect("an answer");
    assert!(answer.starts_with(status), "{answer}");
    world.in_dialog(tag, "ACK", 1, header(&answer, "To"));
    answer
}

/// Takes the reports of refusals at a level.
fn told(world: &mut World, severity: Severity) -> Vec<Report> {
    let all = std::mem::take(&mut world.reports);
    all.into_iter().filter(|report| report.name == "CallRefused" && report.severity == severity).collect()
}

#[test]
fn refused_calls_are_counted_and_told_once_a_second() {
    let mut world = World::with(&config());
    for n in 0..5 {
        let answer = refused(&mut world, &format!("a{n}"), "9123", "SIP/2.0 404");
        assert!(answer.contains("Reason: Q.850;cause=1"), "{answer}");
    }
    let reports = std::mem::take(&mut world.reports);
    let of = |severity| reports.iter().filter(move |report| report.severity == severity);
    let lines: Vec<&Report> = of(Severity::Informational).filter(|r| r.name == "CallRefused").collect();
    let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
    let shown = format!("{:?}", line.parameters);
    assert!(shown.contains("partition") && shown.contains("pstn") && !shown.contains("9123"), "{shown}");
    let each = of(Severity::Debug).filter(|report| format!("{report:?}").contains("9123"));
    assert_eq!(each.count(), 5, "each one, and its number, at DEBUG");
    world.pass(Duration::from_secs(1));
    refused(&mut world, "b", "9124", "SIP/2.0 404");
    let [line] = &told(&mut world, Severity::Informational)[..] else {
        panic!("the next second has its line")
    };
    assert!(line.parameters.contains(&("untold", "4".to_owned())), "{line:?}");
    assert_eq!(count(&mut world, "partition"), 6);
    // A trunk that reaches the partition meets the other rule; what nobody has meets none.
    let reaches = config().replace("transport: udp}", "transport: udp, calling_search_space: staff}");
    world.reload(&reaches);
    refused(&mut world, "c", "9124", "SIP/2.0 404");
    refused(&mut world, "d", "7777", "SIP/2.0 404");
    assert_eq!(
        (count(&mut world, "block_offnet_to_offnet"), count(&mut world, "partition")),
        (1.into(), 6.into())
    );
    world.quiet();
}

#[test]
fn an_open_provider_reaches_what_the_configuration_in_force_says() {
    let mut world = World::with(&config());
    let app = world.application(1, "ivr");
    for port in ["PORT_001", "PORT_002"] {
        let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
        world.call(app, "device.open", json!({"device": port, "media": media}));
        assert_eq!(world.heard(app), [format!("device.in_service {port}")]);
    }
    let dials = |world: &mut World, port: &str| -> bool {
        world.frames.clear();
        world.sip.clear();
        let made = world.call(app, "call.make", json!({"device": port, "destination": "9111"}));
        let told = world.heard(app).join(" ");
        let out = world.sip.iter().any(|message| message.starts_with("INVITE sip:9111@"));
        assert_ne!(out, told.contains("call.failed"), "{told}");
        if out {
            world.send(app, "call.drop", json!({"leg": made["result"]["leg"]}));
        }
        world.pass(Duration::from_secs(40));
        // The drop's answer and what came of it.
        world.frames.clear();
        out
    };
    assert!(dials(&mut world, "PORT_001") && !dials(&mut world, "PORT_002"));
    // A space that gains a partition, a device that gains a space, a pattern that loses its partition.
    let other = config()
        .replace("partition: outside}", "partition: inside}")
        .replace("[outside]\n", "[outside, inside]\n");
    world.reload(&other);
    assert!(!dials(&mut world, "PORT_001"), "the pattern moved");
    world.reload(&other.replace("partitions: [outside]}", "partitions: [outside, inside]}"));
    assert!(dials(&mut world, "PORT_001") && !dials(&mut world, "PORT_002"), "the space follows");
    world.reload(&config().replace("name: PORT_002,", "name: PORT_002, calling_search_space: staff,"));
    assert!(dials(&mut world, "PORT_002"), "the device has the space");
    world.reload(&config().replace(", partition: outside}", "}"));
    assert!(dials(&mut world, "PORT_002"), "everybody reaches it");
    let opened = world.call(app, "provider.snapshot", json!({}))["result"]["devices"].clone();
    assert_eq!(opened.as_array().map(Vec::len), Some(2), "the provider has its devices all the while");
    world.quiet();
}

#[test]
fn a_line_is_told_with_its_partition() {
    let yaml = CONFIG.replace("directory_numbers:\n  - {dn: \"5000\",", "partitions: [inside]\n\
             calling_search_spaces: [{name: s, partitions: [inside]}]\ndirectory_numbers:\n  - {dn: \"5000\", partition: inside,");
    let mut world = World::with(&yaml);
    let app = world.application(1, "ivr");
    let opened = world.call(app, "device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}}));
    assert_eq!(opened["result"]["device"]["lines"][0]["partition"], "inside", "{opened}");
    world.heard(app);
    let port = json!({"name": "PORT_001"});
    let listed = world.call(app, "provider.devices", port);
    assert!(listed["result"]["devices"][0]["lines"][0].get("partition").is_none(), "{listed}");
    refused(&mut world, "a", "5000", "SIP/2.0 404");
}

#[test]
fn the_alarm_of_a_trunk_stands_until_a_minute_has_passed_without_a_refusal() {
    let yaml = CONFIG.replace("transport: udp}", "transport: udp, max_calls_per_second: 1}");
    let mut world = World::with(&yaml);
    let alarm = |world: &mut World| {
        let alarms = ask(world, AdminRequest::Alarms);
        let newest =
            alarms.as_array().into_iter().flatten().find(|a| a["name"] == "TrunkCallLimitReached").cloned();
        newest.map(|alarm| format!("{} {}", alarm["state"], alarm["parameters"]["trunk"]))
    };
    refused(&mut world, "a", "7777", "SIP/2.0 404");
    assert_eq!(alarm(&mut world), None);
    for n in 0..3 {
        world.invite(&format!("b{n}"), "7777");
        let answer = world.sip.pop_back().expect("refused");
        assert!(answer.starts_with("SIP/2.0 503") && answer.contains("Retry-After: "), "{answer}");
        world.in_dialog(&format!("b{n}"), "ACK", 1, header(&answer, "To"));
    }
    assert_eq!(alarm(&mut world).as_deref(), Some("\"raised\" \"pstn\""));
    let raised = world.reports.iter().filter(|report| report.name == "TrunkCallLimitReached").count();
    assert_eq!(raised, 1, "once, however many are refused");
    world.pass(Duration::from_secs(59));
    assert_eq!(alarm(&mut world).as_deref(), Some("\"raised\" \"pstn\""));
    world.pass(Duration::from_secs(1));
    assert_eq!(alarm(&mut world).as_deref(), Some("\"cleared\" \"pstn\""));
    assert_eq!(count(&mut world, "trunk_max_calls_per_second"), 3);
    world.quiet();
}
