mod addresses;
mod partitions;
mod planned;

use super::{Config, Loaded, Mistake, load, parse};
use device_model::plan::{DeviceKind, OfferTime};
use proptest::prelude::*;
use security::pki::Authority;
use security::tls::Serial;
use security::{Action, Actor, Transport};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

/// A whole configuration with these lines in place of some of its own.
fn with(section: &str, lines: &str) -> String {
    let mut text = String::new();
    for (key, value) in [
        ("cluster", "cluster: {name: hq}\n"),
        ("nodes", "nodes: [{name: cm1, host: 127.0.0.1}]\n"),
        ("call_manager_groups", "call_manager_groups: [{name: Default, members: [cm1]}]\n"),
        ("device_pools", "device_pools: [{name: Default, call_manager_group: Default}]\n"),
        ("devices", "devices: [{name: RP, type: route_point, pool: Default, lines: [\"5000\"]}]\n"),
    ] {
        text += if key == section { "" } else { value };
    }
    text + lines
}

fn mistakes(text: &str) -> Vec<String> {
    match parse("f.yaml", text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

/// The only mistake, without its place.
#[track_caller]
fn only(text: &str) -> String {
    let all = parse("f.yaml", text).map(|_| ()).expect_err("it is bad");
    match all.as_slice() {
        [Mistake { path, message, .. }] => format!("{path}: {message}"),
        more => panic!("one mistake expected: {more:#?}"),
    }
}

fn good(text: &str) -> Config {
    parse("f.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}")).config
}

#[test]
fn the_samples_are_good() {
    for file in ["minimal.yaml", "hq.yaml"] {
        let Loaded { config, warnings } =
            load(&samples().join(file)).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        // A checkout may be readable by everybody, and so then is the sample's password.
        let said: Vec<&str> = warnings.iter().map(|warning| &*warning.message).collect();
        let said: Vec<&str> = said.into_iter().filter(|said| !said.contains("`chmod o-rwx ")).collect();
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].contains("`ctimanager pki init "), "{}", said[0]);
        assert_eq!(config.node(None).map(|node| node.name.as_str()), Ok("cm1"));
        let hash = config.policy().hash_to_verify("attendant");
        assert!(security::password::verify(&hash, &security::Secret::new("change-me".into())));
    }
}

#[test]
fn the_headquarters_become_a_plan_a_policy_and_accounts() {
    let config = load(&samples().join("hq.yaml")).expect("good").config;
    let plan = config.plan();
    assert_eq!(plan.devices.len(), 102);
    assert_eq!(plan.numbers.len(), 103);
    let port = plan.devices.iter().find(|device| device.name.as_str() == "PORT_042").expect("in the range");
    assert_eq!((port.kind, port.lines[0].as_str()), (DeviceKind::CtiPort, "5142"));
    let main = plan.numbers.iter().find(|number| number.dn.as_str() == "5000").expect("it has an entry");
    assert_eq!((main.max_calls, main.busy_trigger), (Some(5000), Some(4500)));
    assert_eq!(main.forward.on_failure.as_ref().map(device_model::Dn::as_str), Some("2001"));
    assert_eq!(main.forward.all, None);
    assert_eq!(main.ring_duration, Some(Duration::from_secs(12)));

    let policy = config.policy();
    let open = |user, device: &str| {
        policy.decide(Actor { user, transport: Transport::Tls }, Action::OpenDevice(&device.into())).allowed()
    };
    assert!(open("attendant", "PORT_100") && !open("attendant", "SEP0019E8D3A001"));
    assert!(open("callback", "SEP0019E8D3A001"));
    let modifies = |user| policy.privileges(user).calling_number_modification;
    assert!(modifies("callback") && !modifies("attendant"));

    let accounts = config.accounts();
    let account = &accounts["2001"];
    assert_eq!((&*account.id, &*account.numbers[0]), ("SEP0019E8D3A001", "2001"));
    assert_eq!(account.password.as_str(), "change-me");
    assert_eq!(config.trunks[0].address(), Some("127.0.0.1:5070".parse().expect("an address")));
}

#[test]
fn phones_and_trunks_are_offered_media_early_unless_told_otherwise() {
    let of = |settings: &str| {
        let lines = format!(
            "devices: [{{name: A, type: phone, pool: Default{settings}}}]\ntrunks: [{{name: t, host: 127.0.0.1{settings}}}]"
        );
        let plan = good(&with("devices", &lines)).plan();
        (plan.devices[0].offer, plan.trunks[0].offer)
    };
    assert_eq!(of(""), (OfferTime::Early, OfferTime::Early));
    assert_eq!(of(", offer: early"), (OfferTime::Early, OfferTime::Early));
    assert_eq!(of(", offer: late"), (OfferTime::Late, OfferTime::Late));
    let wrong = with("", "trunks: [{name: t, host: 127.0.0.1, offer: never}]");
    assert!(only(&wrong).contains("early"), "{}", only(&wrong));
}

#[test]
fn a_file_with_many_mistakes_shows_them_all_with_their_places() {
    let shown = mistakes(include_str!("tests/mistakes.yaml"));
    assert!(shown.len() >= 10);
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn every_range_is_kept_at_both_ends() {
    for (key, good_values, bad_values) in [
        ("max_devices_per_provider", ["1", "1000000"], ["0", "1000001"]),
        ("max_devices_per_node", ["1", "1000000"], ["0", "1000001"]),
        ("max_cti_connections", ["1", "100000"], ["0", "100001"]),
        ("max_cti_connections_per_user", ["1", "100000"], ["0", "100001"]),
        ("application_heartbeat_minimum_interval", ["1s", "3600s"], ["999ms", "3601s"]),
        ("cti_new_call_accept_timer", ["1s", "60s"], ["0s", "61s"]),
        ("media_exchange_timer", ["1s", "1m"], ["0s", "61s"]),
        ("forward_no_answer_timer", ["1s", "5m"], ["0s", "301s"]),
        ("park_reversion_timer", ["5s", "3600s"], ["4s", "2h"]),
        ("session_resume_grace", ["0s", "600s"], ["601s", "11m"]),
        ("session_resume_grace_maximum", ["0s", "600s"], ["601s", "11m"]),
        ("session_log_events", ["100", "1000000"], ["99", "1000001"]),
        ("session_log_bytes", ["64KiB", "1GiB"], ["63KiB", "2GiB"]),
        ("session_queue_events", ["16", "1000000"], ["15", "1000001"]),
        ("session_idem_keys", ["1024", "1000000"], ["1023", "1000001"]),
        ("session_pending_requests", ["1", "100000"], ["0", "100001"]),
        ("session_subscriptions", ["1", "1024"], ["0", "1025"]),
        ("max_requests_per_second", ["1", "1000000"], ["0", "1000001"]),
        ("max_requests_per_second_per_user", ["1", "10000000"], ["0", "10000001"]),
        ("max_requests_per_second_per_address", ["1", "10000000"], ["0", "10000001"]),
        ("max_login_failures_per_minute", ["1", "1000000"], ["0", "1000001"]),
        ("max_digest_failures_per_minute", ["1", "1000000"], ["0", "1000001"]),
        ("max_waiting_passwords_per_address", ["1", "10000"], ["0", "10001"]),
        ("max_waiting_passwords_per_user", ["1", "10000"], ["0", "10001"]),
        ("max_sip_bytes_per_address", ["64KiB", "4GiB"], ["63KiB", "5GiB"]),
        ("max_stranger_sip_messages_per_second", ["10", "10000000"], ["9", "10000001"]),
        ("max_stranger_sip_messages_per_second_per_address", ["10", "10000000"], ["9", "10000001"]),
        ("max_sip_messages_per_second_per_phone", ["10", "10000000"], ["9", "10000001"]),
        ("max_stranger_sip_connections", ["1", "1000000"], ["0", "1000001"]),
        ("max_stranger_sip_connections_per_address", ["1", "1000000"], ["0", "1000001"]),
        ("max_unopened_connections", ["1", "100000"], ["0", "100001"]),
        ("max_unopened_connections_per_address", ["1", "100000"], ["0", "100001"]),
        ("max_new_connections_per_second_per_address", ["1", "1000000"], ["0", "1000001"]),
        ("max_new_connections_per_second_per_known_address", ["1", "1000000"], ["0", "1000001"]),
        ("password_threads", ["1", "16"], ["0", "17"]),
        ("max_waiting_passwords", ["1", "10000"], ["0", "10001"]),
        ("input_queue", ["64", "1000000"], ["63", "1000001"]),
        ("input_queue_bytes", ["2MiB", "4GiB"], ["1MiB", "5GiB"]),
        ("sip_udp_buffer_bytes", ["64KiB", "1GiB"], ["63KiB", "2GiB"]),
        ("max_line_bytes", ["16KiB", "1MiB"], ["15KiB", "1025KiB"]),
        ("max_legs", ["2", "1000000"], ["1", "1000001"]),
        ("max_calls_per_second_per_line", ["1", "100000"], ["0", "100001"]),
        ("max_calls_per_second_per_device", ["1", "100000"], ["0", "100001"]),
        ("max_calls_per_trunk", ["1", "1000000"], ["0", "1000001"]),
        ("max_calls_per_second_per_trunk", ["1", "100000"], ["0", "100001"]),
        ("max_sip_transactions", ["100", "10000000"], ["99", "10000001"]),
        ("max_sip_connections", ["1", "1000000"], ["0", "1000001"]),
        ("max_sip_connections_per_phone", ["1", "1000000"], ["0", "1000001"]),
        ("max_sip_connections_per_trunk", ["1", "1000000"], ["0", "1000001"]),
        ("max_sip_connections_per_address", ["1", "1000000"], ["0", "1000001"]),
        ("max_sip_connecting", ["1", "100000"], ["0", "100001"]),
        ("max_contacts_per_number", ["1", "100"], ["0", "101"]),
        ("registration_expiry_maximum", ["60s", "86400s"], ["59s", "86401s"]),
        ("max_dialog_requests_per_second", ["1", "100000"], ["0", "100001"]),
        ("session_expires_maximum", ["90s", "86400s"], ["89s", "86401s"]),
        ("max_web_connections", ["1", "100000"], ["0", "100001"]),
        ("max_web_connections_per_address", ["1", "100000"], ["0", "100001"]),
        ("node_failure_timeout", ["200ms", "60s"], ["199ms", "61s"]),
    ] {
        let set = |value: &str| with("", &format!("service_parameters: {{{key}: {value}}}"));
        for value in good_values {
            assert_eq!(mistakes(&set(value)), [""; 0], "{key}: {value}");
        }
        for value in bad_values {
            assert!(only(&set(value)).contains("out of range"), "{key}: {value}");
        }
    }
}

#[test]
fn a_phone_may_have_a_longest_registration_of_its_own() {
    let device = |kind: &str, more: &str| {
        let digest = if kind == "phone" { ", digest: {user: \"1\", password: abcd}" } else { "" };
        let line = format!("{{name: P, type: {kind}, pool: Default, lines: [\"1\"]{digest}, {more}}}");
        with("devices", &format!("devices: [{line}]"))
    };
    let config = good(&device("phone", "registration_expiry_maximum: 1h"));
    assert_eq!(config.accounts()["1"].max_expires, Some(Duration::from_secs(3600)));
    assert_eq!(good(&device("phone", "description: x")).accounts()["1"].max_expires, None);
    assert!(only(&device("phone", "registration_expiry_maximum: 59s")).contains("out of range"));
    assert!(only(&device("cti_port", "registration_expiry_maximum: 60s")).contains("only a phone"));
}

#[test]
fn proxies_are_addresses() {
    let cluster = |list: &str| with("cluster", &format!("cluster: {{name: hq, sip_proxies: [{list}]}}\n"));
    let config = good(&cluster("192.0.2.7, \"2001:db8::7\""));
    let listed: Vec<String> = config.cluster.sip_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["192.0.2.7", "2001:db8::7"]);
    for wrong in ["edge.example", "\"192.0.2.7:5060\"", "0.0.0.0", "224.0.0.1", "192.0.2.7, 192.0.2.7"] {
        assert!(only(&cluster(wrong)).starts_with("cluster.sip_proxies["), "{wrong}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("192.0.2.{n}")).collect();
    assert!(only(&cluster(&many.join(", "))).contains("more than 64"));
}

#[test]
fn wrong_types_say_what_is_needed() {
    for (written, wanted) in [
        ("max_cti_connections: many", "a whole number from 1 to 100000 is needed here, not `many`"),
        ("max_cti_connections: \"5\"", "a whole number from 1 to 100000 is needed here, not `5`"),
        ("max_cti_connections: -5", "a whole number from 1 to 100000 is needed here, not `-5`"),
        ("media_exchange_timer: 12", "a duration as `4s`, `250ms` or `5m` is needed here, not `12`"),
        ("session_log_bytes: 16MB", "a size as `64KiB`, `16MiB` or `1GiB` is needed here, not `16MB`"),
        ("persist_sessions: yes", "`true` or `false` is needed here, not `yes`"),
        ("persist_sessions: [true]", "`true` or `false` is needed here, not a list"),
    ] {
        let message = only(&with("", &format!("service_parameters: {{{written}}}")));
        assert!(message.ends_with(wanted), "{message}");
    }
    assert!(only(&with("", "users: {id: a}")).contains("a list is needed here, not a map"));
    assert!(only("[]").contains("a map of keys and values is needed here, not a list"));
}

#[test]
fn password_hashes_of_different_costs_are_warned_of() {
    let hash = |memory: u32| {
        format!(
            "$argon2id$v=19$m={memory},t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bm8gcGFzc3dvcmQgaXMga25vd24gdG8gbWF0Y2ggdGg"
        )
    };
    let warnings = |costs: &[u32]| -> Vec<String> {
        let user =
            |(n, cost): (usize, &u32)| format!("  - {{id: u{n}, password_hash: \"{}\"}}\n", hash(*cost));
        let users: String = costs.iter().enumerate().map(user).collect();
        let loaded = parse("f.yaml", &with("", &format!("users:\n{users}"))).expect("good");
        let about = loaded.warnings.iter().filter(|warning| warning.path.contains("password_hash"));
        about.map(ToString::to_string).collect()
    };
    assert_eq!(warnings(&[19_456, 19_456]), [""; 0]);
    let [told] = &warnings(&[64, 19_456, 19_456, 128])[..] else { panic!("one warning") };
    assert!(told.contains("users[id=u0].password_hash: the password hashes of 2 users"), "{told}");
    assert!(told.contains("m=19456,t=2,p=1"), "{told}");
}

#[test]
fn the_heartbeat_minimum_is_not_above_the_maximum() {
    let text = "service_parameters:\n  application_heartbeat_minimum_interval: 10s\n  \
                application_heartbeat_maximum_interval: 9s\n";
    let [mistake] = &mistakes(&with("", text))[..] else { panic!("one mistake") };
    assert!(mistake.starts_with("f.yaml:7:43: service_parameters.application_heartbeat_minimum_interval: "));
}

#[test]
fn numbers_have_limits_by_the_devices_that_have_them() {
    let phone = "devices: [{name: P, type: phone, pool: Default, lines: [\"1\"]}]\n";
    let number =
        |settings: &str| with("devices", &format!("{phone}directory_numbers: [{{dn: \"1\", {settings}}}]"));
    assert_eq!(good(&number("max_calls: 200, busy_trigger: 200")).numbers[0].max_calls, Some(200));
    assert!(only(&number("max_calls: 201")).contains("1 to 200 on a phone"));
    assert!(only(&number("max_calls: 3, busy_trigger: 4")).contains("4 is above max_calls, 3"));
    assert!(only(&number("busy_trigger: 5")).contains("above the default of max_calls, 4"));
    assert!(only(&number("max_calls: 10001")).contains("out of range: 1 to 10000"));
    let route_point = with("", "directory_numbers: [{dn: \"5000\", busy_trigger: 5000}]");
    assert_eq!(good(&route_point).numbers[0].busy_trigger, Some(5000));
}

#[test]
fn destinations_lead_somewhere() {
    let forward = |to: &str| format!("directory_numbers: [{{dn: \"5000\", forward: {{busy: \"{to}\"}}}}]\n");
    let out = "trunks: [{name: t, host: a.example}]\nroute_patterns: [{pattern: 9.!, trunk: t}]\n";
    good(&with("", &(forward("9123") + out)));
    good(&with("", &(forward("88") + "park_numbers: [\"88\"]")));
    assert!(only(&with("", &forward("5001"))).contains("did you mean `5000`?"));
    assert!(only(&with("", &(forward("8123") + out))).contains("no device has the number `8123`"));
}

#[test]
fn ranges_of_devices_and_lines_are_as_long_as_each_other() {
    let device =
        |rest: &str| with("devices", &format!("devices: [{{type: cti_port, pool: Default, {rest}}}]"));
    let config = good(&device("name: \"P_[08-11]\", lines: [\"[20-23]\", \"700\"]"));
    let all: Vec<String> = config
        .devices
        .iter()
        .map(|d| {
            format!("{} {}", d.name, d.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(all, ["P_08 20 700", "P_09 21 700", "P_10 22 700", "P_11 23 700"]);
    for (rest, wanted) in [
        ("name: \"P_[1-3]\", lines: [\"[1-2]\"]", "2 numbers for 3 devices"),
        ("name: P, lines: [\"[1-2]\"]", "2 numbers for 1 devices"),
        ("name: \"P_[1-10]\"", "same number of digits"),
        ("name: \"P_[3-1]\"", "from the lower to the higher"),
        ("name: \"P_[1-2]_[1-2]\"", "one range is enough"),
        ("name: \"P_[1-2\"", "`[` without `]`"),
        ("name: \"P_[000001-900000]\"", "more than 100000 devices"),
        ("name: P, lines: [\"1\", \"1\"]", "the device has `1` already"),
        ("name: P, lines: [1]", "write \"1\", in quotes"),
        ("name: P, digest: {user: u, password: p}", "only a phone has `digest`"),
        ("name: P, offer: late", "only a phone has `offer`"),
    ] {
        let message = only(&device(rest));
        assert!(message.contains(wanted), "{rest}: {message}");
    }
}

#[test]
fn names_are_unique() {
    for (section, lines, wanted) in [
        ("nodes", "nodes: [{name: cm1, host: a}, {name: cm1, host: b}]", "the node `cm1` is there twice"),
        (
            "nodes",
            "nodes: [{name: cm1, host: a}, {name: sub23930, host: b}]",
            "`sub23930` and `cm1` would issue the same ids: give one another name",
        ),
        ("", "users: [{id: a}, {id: a}]", "the user `a` is there twice, first in f.yaml:6"),
        ("", "trunks: [{name: t, host: a}, {name: t, host: b}]", "the trunk `t` is there twice"),
        ("", "park_numbers: [\"10-12\", \"12-14\"]", "the park number `12` is there twice"),
        ("", "park_numbers: [\"5000\"]", "is a park number, too"),
        ("", "directory_numbers: [{dn: \"1\"}, {dn: \"1\"}]", "the directory number `1` is there twice"),
        ("", "user_groups: [{name: Standard CTI Enabled, includes: []}]", "is a standard group"),
    ] {
        let message = only(&with(section, lines));
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn ports_of_a_node_differ_and_sip_listens_where_it_is_told() {
    let node = |rest: &str| with("nodes", &format!("nodes: [{{name: cm1, host: 127.0.0.1, {rest}}}]"));
    let config = good(&node("sip: {udp: 5060}, cti: {plain: 2748}"));
    let node_read = &config.nodes[0];
    assert_eq!((node_read.sip.udp, node_read.sip.tcp, node_read.sip.tls), (Some(5060), None, None));
    assert_eq!((node_read.cti.tls, node_read.cti.plain), (Some(2749), Some(2748)));
    assert!(node_read.callmanager && node_read.ctimanager && node_read.web.is_none());
    good(&node("sip: {udp: 7000, tcp: 7000}, web: 0, cluster: 0"));
    assert!(only(&node("sip: {tcp: 7000}, web: 7000")).contains("can't both listen on TCP port 7000"));
    assert!(only(&node("web: 70000")).contains("out of range: 0 to 65535"));
    assert_eq!(
        only(&node("services: []")),
        "nodes[0].services: a node runs `callmanager`, `ctimanager` or both"
    );
    assert!(only(&node("services: [phones]")).contains("`callmanager` or `ctimanager` is needed here"));
}

#[test]
fn passwords_are_never_shown() {
    let phone = |digest: &str| {
        with(
            "devices",
            &format!("devices: [{{name: P, type: phone, pool: Default, digest: {{user: u, {digest}}}}}]"),
        )
    };
    for digest in ["password: 31415", "password: \"\"", "password: [wonder31415]", "passwort: wonder31415"] {
        let shown = mistakes(&phone(digest)).join("\n");
        assert!(!shown.is_empty() && !shown.contains("31415"), "{shown}");
    }
    let config = good(&phone("password: \"wonder31415\""));
    assert!(!format!("{config:?}").contains("31415"));
    let message = only(&phone("password_file: not/there"));
    assert!(message.contains("not/there can't be read"), "{message}");
    assert!(only(&phone("password: a, password_file: b")).contains("not both"));
    for endless in ["/dev/zero", "/"] {
        let message = only(&phone(&format!("password_file: {endless}")));
        assert!(message.contains("is no file"), "{message}");
    }
}

#[test]
fn hashes_and_groups_of_users_are_checked() {
    for (user, wanted) in [
        ("password_hash: change-me", "`ctimanager hash-password` makes one"),
        ("groups: [Standard CTI Enable]", "did you mean `Standard CTI Enabled`?"),
        ("controlled_devices: [RPP]", "there is no device `RPP`: did you mean `RP`?"),
        ("controlled_devices: [\"RP_[2-1]\"]", "from the lower to the higher"),
        ("kind: robot", "`application_user` or `end_user` is needed here"),
        ("session_resume_grace: 601s", "out of range: 0s to 600s"),
    ] {
        let message = only(&with("", &format!("users: [{{id: a, {user}}}]")));
        assert!(message.contains(wanted), "{message}");
    }
    let nested = "user_groups: [{name: R, includes: [Standard CTI Enabled]}, {name: S, includes: [R]}]";
    assert!(
        only(&with("", nested))
            .ends_with("`R` is no standard group: a bundle holds standard groups, not other bundles")
    );
    let loaded = parse("f.yaml", &with("", "users: [{id: a, controlled_devices: [\"X_*\"]}]")).expect("good");
    assert!(loaded.warnings.iter().any(|w| w.message.contains("no device is called like `X_*`")));
}

#[test]
fn what_one_mistake_hides_is_no_mistake() {
    let text = "devices:\n  - {name: RP, type: route_pint, pool: Default, lines: [\"5000\"]}\n\
                users: [{id: a, controlled_devices: [RP]}]\n\
                directory_numbers: [{dn: \"1\", forward: {all: \"5000\"}}]\n";
    assert!(only(&with("devices", text)).contains("`phone` or `cti_port` or `route_point` is needed here"));
}

#[test]
fn hostile_yaml_is_bounded() {
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (before, name) in ('a'..='h').zip('b'..='i') {
        let aliases = vec![format!("*{before}"); 10].join(",");
        let _ = writeln!(laughs, "{name}: &{name} [{aliases}]");
    }
    assert!(only(&laughs).contains("aliases repeat more"));
    let anchors: String = (0..30).map(|n| format!("&a{n} [")).collect();
    let values = "x,".repeat(50_000) + &"]".repeat(30);
    assert!(only(&format!("{anchors}{values}")).contains("anchors and aliases repeat more"));
    assert!(only(&"[".repeat(33)).contains("nested deeper than 32 levels"));
    assert!(only(&"[".repeat(100_000)).contains("not YAML: recursion limit"), "the parser's own bound");
    assert!(only(&"- ".repeat(100_000)).contains("nested deeper than 32 levels"));
    assert!(only("a: &a [*a]").contains("alias"));
    assert!(only("cluster: {name: hq}\n---\ncluster: {name: hq}\n").contains("one document"));
    assert!(only("{a: [}").contains("not YAML"));
    assert!(only("? [a]\n: b\n").contains("a key is a text"));
    assert_eq!(mistakes("# nothing\n"), ["f.yaml:0:0: the configuration is empty"]);
}

/// The library counts bytes in directives.
#[test]
fn a_mistake_is_never_behind_the_end_of_its_line() {
    for (text, place) in [
        ("%\u{fffd}\0", "f.yaml:1:4: "),
        ("# äö\r\n%äöü äöü äöü\n", "f.yaml:"),
        ("%é é\ré: [\r%é é é é é\0", "f.yaml:"),
        ("é: [é, é, é", "f.yaml:"),
    ] {
        let all = mistakes(text);
        assert!(!all.is_empty(), "{text:?}");
        for mistake in all {
            assert!(mistake.starts_with(place), "{text:?}: {mistake}");
            let numbers: Vec<usize> = mistake.split(':').skip(1).map_while(|n| n.parse().ok()).collect();
            let line =
                text.split(['\n', '\r']).filter(|line| !line.is_empty()).nth(numbers[0].saturating_sub(1));
            let length = line.map_or(0, |line| line.chars().count());
            assert!(numbers[1] <= length + 1, "{text:?}: {mistake}");
        }
    }
}

#[test]
fn what_is_listed_is_bounded() {
    let values = format!("x: [{}]", "x,".repeat(1_000_000));
    assert!(only(&values).contains("more than 1000000 values"));
    let lines = (0..1_001).fold(String::new(), |lines, n| lines + &format!("\"{n:04}\","));
    let many =
        with("devices", &format!("devices: [{{name: P, type: phone, pool: Default, lines: [{lines}]}}]"));
    assert_eq!(only(&many), "devices[0].lines[1000]: more than 1000 lines");
    for numbers in ["\"10000-20000\"", "\"10000-19999\", \"8801\""] {
        let park = with("", &format!("park_numbers: [{numbers}]"));
        assert!(only(&park).ends_with("more than 10000 park numbers"), "{numbers}");
    }
    assert_eq!(mistakes(&with("", "park_numbers: [\"10000-19999\"]")), [""; 0]);
    let named = |length| with("", &format!("trunks: [{{name: {}, host: 127.0.0.1}}]", "t".repeat(length)));
    assert_eq!(mistakes(&named(64)), [""; 0]);
    assert_eq!(only(&named(65)), "trunks[0].name: must have 1 to 64 characters");
}

#[test]
fn files_are_bounded() {
    let folder = Folder::new("many");
    folder.write("large.yaml", &"#".repeat((16 << 20) + 1));
    let first = |path: &Path| load(path).map(|_| ()).expect_err("bad")[0].to_string();
    assert!(first(&folder.0.join("large.yaml")).ends_with("larger than 16 MiB"));
    folder.write("large.yaml", "# nothing");
    (1..999).for_each(|n| folder.write(&format!("{n}.yaml"), "# nothing"));
    folder.write("0.yaml", &with("", ""));
    assert!(load(&folder.0).is_ok());
    folder.write("one-more.yaml", "# nothing");
    assert!(first(&folder.0).ends_with("more than 1000 files"));
}

#[test]
fn a_thousand_mistakes_are_shown_and_the_rest_counted() {
    let users: String = (0..1_500).map(|n| format!("  - {{id: u{n}, kind: x}}\n")).collect();
    let shown = mistakes(&with("", &format!("users:\n{users}")));
    assert_eq!(shown.len(), 1_001);
    assert!(shown[1_000].ends_with("and 500 more mistakes"));
}

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ctimanager-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file for the test");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_files_of_a_folder_are_one() {
    let folder = Folder::new("merge");
    folder.write("10-base.yaml", &with("devices", ""));
    folder.write(
        "20-devices.yaml",
        "devices: [{name: RP, type: route_point, pool: Default, lines: [\"5000\"]}]",
    );
    folder.write("notes.txt", "not: [yaml");
    let loaded = load(&folder.0).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!(loaded.config.devices.len(), 1);
    assert!(loaded.config.devices[0].place.file.ends_with("20-devices.yaml"));
    assert_eq!(loaded.config.cluster.pki, folder.0.join("pki"));
    // One file of several may be no configuration by itself: the command is told the folder.
    let [warning] = loaded.warnings.as_slice() else { panic!("{:#?}", loaded.warnings) };
    let command = format!("`ctimanager pki init {0}/pki --config {0}`", folder.0.display());
    assert!(warning.message.ends_with(&command), "{warning}");

    folder.write("30-again.yaml", "devices: []\nuser: []\n");
    let shown = load(&folder.0).map(|_| ()).expect_err("the key is there twice");
    let shown: Vec<String> =
        shown.iter().map(|m| m.to_string().replace(&folder.0.display().to_string(), "D")).collect();
    assert_eq!(
        shown,
        [
            "D/30-again.yaml:1:1: devices: the key `devices` is in two files, first in D/20-devices.yaml:1",
            "D/30-again.yaml:2:1: user: unknown key `user`: did you mean `users`?",
        ]
    );
}

#[test]
fn a_broken_file_of_a_folder_does_not_make_the_others_seem_wrong() {
    let folder = Folder::new("broken");
    folder.write("10-base.yaml", &with("device_pools", "device_pools: [\n"));
    folder.write("20-users.yaml", "users: [{id: a, controlled_devices: [RP]}]");
    folder.write("30-empty.yaml", "# nothing yet\n");
    let shown = load(&folder.0).map(|_| ()).expect_err("bad");
    assert_eq!(shown.len(), 1, "{shown:#?}");
    assert!(shown[0].message.contains("not YAML"), "{}", shown[0]);
    folder.write("10-base.yaml", &with("", ""));
    assert_eq!(load(&folder.0).map(|loaded| loaded.config.users.len()).ok(), Some(1));
}

#[test]
fn what_cant_be_read_is_named() {
    let folder = Folder::new("unreadable");
    let first = |path: &Path| load(path).map(|_| ()).expect_err("bad")[0].to_string();
    assert!(first(&folder.0).contains("no *.yaml in this folder"));
    assert!(first(&folder.0.join("none.yaml")).contains("none.yaml:0:0: can't be read"));
    std::fs::write(folder.0.join("latin1.yaml"), b"cluster:\n  name: caf\xe9\n").expect("a file");
    assert!(first(&folder.0).contains(":2:12: not UTF-8 (a byte 0xE9)"), "{}", first(&folder.0));
}

#[test]
fn another_encoding_is_named_with_its_place() {
    let folder = Folder::new("encodings");
    let file = folder.0.join("hq.yaml");
    let first = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("a file");
        load(&file).map(|_| ()).expect_err("bad")[0].to_string()
    };
    let text = with("", "");
    let marked = first(format!("\u{feff}{text}").as_bytes());
    assert!(marked.contains("hq.yaml:1:1: a byte order mark (U+FEFF)"), "{marked}");
    let within = first(format!("# ä\n  \u{feff}{text}").as_bytes());
    assert!(within.contains(":2:3: a byte order mark"), "{within}");
    let wide = |big: bool, mark: bool| -> Vec<u8> {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        units.flat_map(|unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    for bytes in [wide(true, true), wide(true, false), wide(false, true), wide(false, false)] {
        let said = first(&bytes);
        assert!(said.contains("hq.yaml:1:1: the file is encoded as UTF-16: save it as UTF-8"), "{said}");
    }
    let wider: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    assert!(first(&wider).contains("UTF-32"));
    std::fs::write(&file, text).expect("a file");
    assert!(load(&file).is_ok());
}

#[test]
fn numbers_may_be_written_as_people_write_them() {
    let text = r#"directory_numbers:
  - {dn: "(555) 0100", display: Ann, description: "Room 1", forward: {busy: "tel:5-55-0101"}}
  - {dn: "555-0101", description: "\u202Eread backwards"}
devices:
  - {name: "P_[1-2]", type: cti_port, pool: Default, lines: ["555-[0100-0101]", "+1-555-0199"]}
trunks: [{name: pstn, host: 127.0.0.1}]
route_patterns: [{pattern: "9.1-555-[2-4]XXX", trunk: pstn, discard: pre_dot}]
park_numbers: ["88 01-88 03"]
"#;
    let said = mistakes(&with("devices", text));
    assert!(said.len() == 1 && said[0].contains("directory_numbers[1].description"), "{said:?}");
    let config = good(&with("devices", &text.replace("\\u202Eread backwards", "Bob")));
    let lines: Vec<Vec<&str>> =
        config.devices.iter().map(|device| device.lines.iter().map(|dn| dn.as_str()).collect()).collect();
    assert_eq!(lines, [["5550100", "+15550199"], ["5550101", "+15550199"]]);
    let plan = config.plan();
    let shown: Vec<(&str, &str)> = plan.numbers.iter().map(|n| (n.dn.as_str(), &*n.display)).collect();
    assert_eq!(shown, [("5550100", "Ann"), ("5550101", "Bob"), ("+15550199", "")]);
    assert_eq!(plan.numbers[0].forward.busy.as_ref().map(|dn| dn.as_str()), Some("5550101"));
    assert_eq!(&*plan.patterns[0].pattern, "9.1555[2-4]XXX");
    assert_eq!(config.park_numbers.len(), 3);
    let twice = text.replace("(555) 0100", "555.0101").replace("\\u202Eread backwards", "Bob");
    assert!(mistakes(&with("devices", &twice))[0].contains("`5550101` is there twice"));
}

#[test]
fn a_trunk_is_told_by_what_fits_its_transport() {
    let trunk = |keys: &str| with("", &format!("trunks: [{{name: t, host: sbc.example.com, {keys}}}]\n"));
    let config = good(&trunk("transport: tcp, source_port: any"));
    assert_eq!(config.trunks[0].source_port, Some(super::SourcePort::Any));
    let config = good(&trunk("source_port: 5099"));
    assert_eq!(config.trunks[0].source_port, Some(super::SourcePort::Port(5099)));
    let config = good(&trunk("transport: tls, tls_subject: carrier"));
    assert_eq!(config.trunks[0].tls_subject.as_deref(), Some("carrier"));
    for (keys, wrong) in [
        ("source_port: 0", "0 is out of range"),
        ("source_port: all", "a whole number"),
        ("transport: tls, source_port: any", "its certificate tells"),
        ("tls_subject: x", "only over TLS"),
        ("transport: tls, ca: none.pem", "none.pem can't be read"),
        ("transport: tls, ca: .", "is no file"),
        ("transport: tls, crl: none.pem", "of a trunk's own `ca`"),
    ] {
        let said = only(&trunk(keys));
        assert!(said.contains(wrong), "{keys}: {said}");
    }
    let folder = Folder::new("trunk-authority");
    let day = std::time::UNIX_EPOCH + Duration::from_secs(86_400 * 365 * 50);
    let [carrier, other] =
        ["carrier", "other"].map(|name| Authority::generate(name, day).expect("an authority"));
    let taken_back = [(Serial::new(&[7]), day)];
    for (name, text) in [
        ("ca.txt", "no certificate".to_owned()),
        ("carrier.pem", carrier.pem().certificate.clone()),
        ("carrier.crl", carrier.revocation_list(&taken_back, 1, day).expect("a list")),
        ("other.crl", other.revocation_list(&taken_back, 1, day).expect("a list")),
    ] {
        std::fs::write(folder.0.join(name), text).expect("a file");
    }
    for (keys, key, wrong) in [
        ("ca: ca.txt", "ca", "there is no certificate in it"),
        ("ca: carrier.pem, crl: none.crl", "crl", "can't be read"),
        ("ca: carrier.pem, crl: carrier.pem", "crl", "the revocation list can't be read"),
        ("ca: carrier.pem, crl: other.crl", "crl", "of another authority"),
    ] {
        folder.write("a.yaml", &trunk(&format!("transport: tls, {keys}")));
        let said = load(&folder.0).map(|_| ()).expect_err("bad")[0].to_string();
        assert!(said.contains(&format!("trunks[0].{key}")) && said.contains(wrong), "{keys}: {said}");
    }
    folder.write("a.yaml", &trunk("transport: tls, ca: carrier.pem, crl: carrier.crl"));
    let config = load(&folder.0).expect("good").config;
    let serials: Vec<_> = config.revoked_of_trunks().into_values().flatten().collect();
    assert_eq!(serials, [Serial::new(&[7])]);
    assert!(config.lists_of(&carrier.pem().certificate).is_some_and(|lists| lists.contains("X509 CRL")));
}

#[test]
fn the_document_names_every_parameter_and_key() {
    let document = include_str!("../../../docs/configuration.md");
    let schema = super::json_schema();
    let properties = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
    };
    let mut keys = properties(&schema["properties"]["service_parameters"]["properties"]);
    for (_, section) in schema["properties"].as_object().expect("sections") {
        keys.extend(properties(&section["items"]["properties"]));
    }
    keys.extend(properties(&schema["properties"]));
    assert!(keys.len() > 60);
    for key in keys {
        assert!(document.contains(&format!("`{key}`")), "docs/configuration.md doesn't say what `{key}` is");
    }
}

/// What this reader takes from a sample is what another reads in it.
#[test]
fn another_reader_sees_the_same_samples() {
    for file in ["minimal.yaml", "hq.yaml"] {
        let text = std::fs::read_to_string(samples().join(file)).expect("a sample");
        let other: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
        let config = good(&text.replace("password_file: secrets/2001", "password: change-me"));
        assert_eq!(other["cluster"]["name"].as_str(), Some(&*config.cluster.name));
        let users = other["users"].as_sequence().expect("a list");
        let ids: Vec<&str> = users.iter().filter_map(|user| user["id"].as_str()).collect();
        assert_eq!(ids, config.users.iter().map(|u| u.user.id.as_str()).collect::<Vec<_>>());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(text) = super::read::decode(bytes) {
            let _ = parse("f.yaml", &text);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse("f.yaml", &text);
    }

    #[test]
    fn text_that_looks_like_yaml_never_panics(text in "[ \n\t:,&*!?|>'\"{}\\[\\]#%@`a0~.-]{0,120}") {
        let _ = parse("f.yaml", &text);
    }

    /// A sample with some bytes broken: the reader gets far into it.
    #[test]
    fn a_damaged_sample_never_panics(cuts in prop::collection::vec((0_usize..4_000, "\\PC{0,3}"), 1..4)) {
        let mut text = std::fs::read_to_string(samples().join("hq.yaml")).expect("a sample");
        for (at, by) in cuts {
            let at = at % text.len();
            if let (true, Some(c)) = (text.is_char_boundary(at), text.get(at..).and_then(|t| t.chars().next())) {
                text.replace_range(at..at + c.len_utf8(), &by);
            }
        }
        let _ = parse("f.yaml", &text);
    }
}
