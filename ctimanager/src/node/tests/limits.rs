//! Each limit of an open node, at the limit (administrator's contract §1).

use super::world::{CONFIG, World};
use crate::node::{AdminRequest, AdminToken, Input};
use serde_json::{Value, json};
use std::time::Duration;

fn limited(keys: &str) -> World {
    World::with(&format!("service_parameters: {{{keys}}}\n{CONFIG}"))
}

fn login(world: &mut World, number: u64, user: &str, password: &str) -> Value {
    let connection = world.connect(number);
    world.call(connection, "provider.open", json!({"user": user, "password": password, "application": "x"}))
}

#[test]
fn providers_are_limited_and_those_in_their_grace_count() {
    let yaml = CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 30s,");
    let mut world = World::with(&format!("service_parameters: {{max_cti_connections: 2}}\n{yaml}"));
    let first = world.application(1, "ivr");
    world.application(2, "other");
    assert_eq!(login(&mut world, 3, "other", "secret")["error"]["data"]["cti"], "MAX_CONNECTIONS");
    world.input(Input::CtiClosed(first));
    assert_eq!(login(&mut world, 4, "other", "secret")["error"]["data"]["cti"], "MAX_CONNECTIONS", "held");
    assert!(world.reported().contains(&"CtiMaxConnectionReached"));
    world.pass(Duration::from_secs(31));
    assert!(login(&mut world, 5, "other", "secret")["result"].is_object());
}

#[test]
fn soft_limits_are_told_to_those_whom_they_concern_when_passed_and_when_kept_again() {
    let mut world = limited("max_devices_per_provider: 1, max_devices_per_node: 1");
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    for (device, port) in [("PORT_001", 30_000), ("PORT_002", 30_002)] {
        let media = json!({"mode": "static", "ip": "127.0.0.1", "port": port, "codecs": ["PCMU"]});
        let opened = world.call(app, "device.open", json!({"device": device, "media": media}));
        assert!(opened["result"].is_object(), "the limit is soft: {opened}");
        world.event(app, "device.in_service");
    }
    assert_eq!(
        world.heard(app),
        ["alarm MaxDevicesPerProviderExceeded raised", "alarm MaxDevicesPerNodeExceeded raised"]
    );
    assert_eq!(world.heard(other), ["alarm MaxDevicesPerNodeExceeded raised"]);
    assert!(world.call(app, "device.close", json!({"device": "PORT_001"}))["result"].is_object());
    assert_eq!(
        world.heard(app),
        ["alarm MaxDevicesPerProviderExceeded cleared", "alarm MaxDevicesPerNodeExceeded cleared"]
    );
    assert_eq!(world.heard(other), ["alarm MaxDevicesPerNodeExceeded cleared"]);
}

#[test]
fn requests_beyond_the_rate_are_told_when_to_come_again() {
    let mut world = limited("max_requests_per_second: 2");
    let app = world.application(1, "ivr");
    for _ in 0..2 {
        assert!(world.call(app, "provider.devices", json!({}))["result"].is_object());
    }
    let refused = world.call(app, "device.close", json!({"device": "RP_MAIN", "idem": "k"}));
    assert_eq!(refused["error"]["data"]["cti"], "RATE_LIMITED");
    let wait = refused["error"]["data"]["retry_after_ms"].as_u64().expect("how long");
    assert!((1..=500).contains(&wait), "{wait}");
    world.pass(Duration::from_millis(wait));
    let answer = world.call(app, "device.close", json!({"device": "RP_MAIN", "idem": "k"}));
    assert_eq!(
        answer["error"]["data"]["cti"], "DEVICE_NOT_OPEN",
        "RATE_LIMITED is no answer and is not kept"
    );
}

#[test]
fn guesses_are_stopped_before_a_password_is_hashed() {
    let mut world = limited("max_login_failures_per_minute: 3");
    for number in 0..3 {
        assert_eq!(login(&mut world, number, "ivr", "wrong")["error"]["data"]["cti"], "LOGIN_FAILED");
    }
    assert_eq!(world.hashed, 3);
    for (number, user) in [(3, "ivr"), (4, "other"), (5, "nobody")] {
        let refused = login(&mut world, number, user, "secret");
        assert_eq!(refused["error"]["data"]["cti"], "RATE_LIMITED", "{user} from this address");
        assert!(refused["error"]["data"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 59_000));
    }
    assert_eq!(world.hashed, 3, "nothing was hashed for them");
    world.pass(Duration::from_secs(60));
    assert!(login(&mut world, 6, "ivr", "secret")["result"].is_object());
}

#[test]
fn the_outcome_of_guesses_side_by_side_is_told_no_oftener_than_the_limit_allows() {
    let mut world = limited("max_login_failures_per_minute: 2");
    world.verify_later = true;
    for number in 0..5 {
        let connection = world.connect(number);
        let open = json!({"user": "ivr", "password": "wrong", "application": "x"});
        world.send(connection, "provider.open", open);
    }
    world.verify();
    let told: Vec<Value> = (0..5)
        .map(|n| {
            world.frame(protocol::session::ConnectionId(n)).expect("told")["error"]["data"]["cti"].clone()
        })
        .collect();
    assert_eq!(told, ["LOGIN_FAILED", "LOGIN_FAILED", "RATE_LIMITED", "RATE_LIMITED", "RATE_LIMITED"]);
}

#[test]
fn a_crowd_that_waits_for_its_passwords_is_told_to_come_again() {
    let mut world = World::new();
    world.verify_later = true;
    let connection = world.connect(1);
    world.send(connection, "provider.open", json!({"user": "ivr", "password": "secret", "application": "x"}));
    world.input(Input::PasswordBusy(connection));
    let refused = world.frame(connection).expect("told");
    assert_eq!(refused["error"]["data"]["cti"], "RATE_LIMITED");
    assert!(refused["error"]["data"]["retry_after_ms"].is_u64());
    world.verify();
    world.no_frames(connection);
}

#[test]
fn explain_and_dependencies_name_the_line() {
    let mut world = World::new();
    let mut ask = |request| {
        world.input(Input::Admin(AdminToken(1), request));
        world.answers.pop().expect("an answer").expect("a good one")
    };
    let explain =
        |device: &str, user: &str| AdminRequest::Explain { device: device.into(), user: user.into() };
    let yes = ask(explain("PORT_001", "ivr"));
    assert_eq!((&yes["allowed"], &yes["rule"]), (&json!(true), &json!("controlled_devices PORT_*")));
    assert_eq!((&yes["file"], &yes["user"]), (&json!("test.yaml"), &json!("ivr")));
    let no = ask(explain("PORT_001", "other"));
    assert_eq!((&no["allowed"], &no["symbol"]), (&json!(false), &json!("DEVICE_NOT_CONTROLLED")));
    let line = CONFIG.lines().position(|line| line.contains("id: other")).expect("there") + 1;
    assert_eq!(no["line"], line);
    assert!(no["message"].as_str().expect("a sentence").contains("controlled_devices"));
    assert_eq!(ask(explain("PORT_001", "nobody"))["rule"], "user exists");
    let found = ask(AdminRequest::Dependencies { dn: "5000".into() });
    let names: Vec<&str> =
        found.as_array().expect("a list").iter().filter_map(|d| d["name"].as_str()).collect();
    assert_eq!(names, ["RP_MAIN", "ivr", "other"]);
    assert!(found[0]["line"].is_u64());
}

#[test]
fn opens_refusals_and_reloads_are_audited_without_numbers_and_passwords() {
    let mut world = World::new();
    login(&mut world, 1, "ivr", "a-wrong-password");
    let app = world.application(2, "ivr");
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}}));
    world.heard(app);
    world.call(app, "device.open", json!({"device": "SECRET"}));
    world.call(
        app,
        "call.make",
        json!({"device": "RP_MAIN", "destination": "5552001", "calling_number": "5551999"}),
    );
    world.call(app, "call.make", json!({"device": "SECRET", "destination": "5552001"}));
    world.reload(CONFIG);
    let lines: Vec<String> = world.audits.iter().map(ToString::to_string).collect();
    let from = "peer=127.0.0.1:40000";
    assert_eq!(
        lines,
        [
            format!(
                "user=\"ivr\" {from} action=provider.open allowed=false symbol=LOGIN_FAILED rule=\"credentials\""
            ),
            format!(
                "user=\"ivr\" {from} action=provider.open allowed=true rule=\"group Standard CTI Enabled\""
            ),
            format!(
                "user=\"ivr\" {from} action=device.open device=\"RP_MAIN\" allowed=true rule=\"controlled_devices RP_MAIN\""
            ),
            format!(
                "user=\"ivr\" {from} action=device.open device=\"SECRET\" allowed=false symbol=DEVICE_NOT_CONTROLLED rule=\"controlled_devices\""
            ),
            format!(
                "user=\"ivr\" {from} action=call.make device=\"RP_MAIN\" allowed=false symbol=CALLING_NUMBER_MODIFICATION_NOT_ALLOWED rule=\"group Standard CTI Allow Calling Number Modification\""
            ),
            format!(
                "user=\"ivr\" {from} action=call.make device=\"SECRET\" allowed=false symbol=DEVICE_NOT_CONTROLLED rule=\"controlled_devices\""
            ),
            "user=\"administrator\" action=reload allowed=true rule=\"checked configuration\"".to_owned(),
        ]
    );
    let reports = format!("{:?}", world.reports);
    for secret in ["a-wrong-password", "secret\"", "5552001", "5551999", "$argon2"] {
        assert!(!reports.contains(secret) && !lines.concat().contains(secret), "{secret}: {reports}");
    }
}
