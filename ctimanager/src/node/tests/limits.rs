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
fn an_alarm_that_toggles_is_told_a_few_times_a_minute_and_then_as_it_is() {
    let mut world = limited("max_devices_per_node: 1, max_requests_per_second: 100000");
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    let open = |world: &mut World, device: &str| {
        let opened = world.call(app, "device.open", json!({"device": device, "media": media}));
        assert!(opened["result"].is_object(), "{opened}");
    };
    open(&mut world, "PORT_001");
    for _ in 0..100 {
        world.frames.remove(&app);
        open(&mut world, "PORT_002");
        world.frames.remove(&app);
        world.call(app, "device.close", json!({"device": "PORT_002"}));
    }
    world.frames.remove(&app);
    open(&mut world, "PORT_002");
    let told = world.heard(other);
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("alarm MaxDevicesPerNodeExceeded cleared"));
    for _ in 0..2 {
        world.pass(Duration::from_millis(29_500));
        assert!(!world.heard(other).iter().any(|told| told.starts_with("alarm")));
        for one in [app, other] {
            world.send(one, "provider.heartbeat", json!({}));
        }
    }
    world.pass(Duration::from_secs(2));
    let told = world.heard(other);
    assert!(told.contains(&"alarm MaxDevicesPerNodeExceeded raised".to_owned()), "{told:?}");
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
fn the_alarm_of_the_hard_limit_stands_while_every_place_is_taken() {
    let mut world = limited("max_cti_connections: 2");
    let alarm = |world: &mut World| {
        let told = world.reports.drain(..).filter(|report| report.name == "CtiMaxConnectionReached");
        told.filter_map(|r| r.parameters.iter().find(|(k, _)| *k == "state").map(|(_, v)| v.clone()))
            .collect::<Vec<_>>()
    };
    world.application(1, "ivr");
    assert_eq!(alarm(&mut world), [""; 0]);
    let second = world.application(2, "ivr");
    assert_eq!(alarm(&mut world), ["raised"]);
    for number in 3..6 {
        assert_eq!(login(&mut world, number, "ivr", "secret")["error"]["data"]["cti"], "MAX_CONNECTIONS");
    }
    assert_eq!(alarm(&mut world), [""; 0], "once, not for each");
    world.call(second, "provider.close", json!({}));
    assert_eq!(alarm(&mut world), ["cleared"]);
    assert!(login(&mut world, 6, "ivr", "secret")["result"].is_object());
    assert_eq!(alarm(&mut world), ["raised"]);
    world.reload(&format!("service_parameters: {{max_cti_connections: 3}}\n{CONFIG}"));
    assert_eq!(alarm(&mut world), ["cleared"], "a reload counts as well");
}

#[test]
fn a_users_sessions_have_a_share_and_others_are_let_in() {
    let yaml = CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 30s,");
    let mut world = World::with(&format!(
        "service_parameters: {{max_cti_connections: 5, max_cti_connections_per_user: 2}}\n{yaml}"
    ));
    let alarm = |world: &mut World| {
        let told = world.reports.drain(..).filter(|report| report.name == "CtiMaxConnectionsOfUserReached");
        told.map(|report| format!("{:?}", report.parameters)).collect::<Vec<_>>()
    };
    let first = world.application(1, "ivr");
    world.application(2, "ivr");
    let told = alarm(&mut world);
    assert!(told.len() == 1 && told[0].contains("ivr") && told[0].contains("raised"), "{told:?}");
    // Those that wait for their applications count as well.
    world.input(Input::CtiClosed(first));
    for number in 3..30 {
        let refused = login(&mut world, number, "ivr", "secret");
        assert_eq!(refused["error"]["data"]["cti"], "MAX_CONNECTIONS");
        let message = refused["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains("max_cti_connections_per_user"), "{message}");
    }
    assert_eq!(alarm(&mut world), [""; 0], "once, not for each");
    assert!(login(&mut world, 30, "other", "secret")["result"].is_object(), "another user has his own");
    world.pass(Duration::from_secs(31));
    assert!(alarm(&mut world)[0].contains("cleared"));
    assert!(login(&mut world, 31, "ivr", "secret")["result"].is_object());
    world.reload(&format!("service_parameters: {{max_cti_connections_per_user: 1}}\n{yaml}"));
    assert_eq!(login(&mut world, 32, "other", "secret")["error"]["data"]["cti"], "MAX_CONNECTIONS");
}

#[test]
fn connections_without_a_provider_are_limited_in_all_and_by_address() {
    let mut world = limited("max_unopened_connections: 5, max_unopened_connections_per_address: 4");
    let from = |world: &mut World, number, address: &str| {
        world.connect_from(number, format!("{address}:40000").parse().expect("an address"));
        !world.closed.contains(&protocol::session::ConnectionId(number))
    };
    assert!((0..4).all(|n| from(&mut world, n, "192.0.2.1")));
    assert!(!from(&mut world, 4, "192.0.2.1"), "its places are taken");
    assert!(from(&mut world, 5, "192.0.2.2"), "another's are not");
    assert!(!from(&mut world, 6, "192.0.2.3"), "now all are");
    for number in 7..50 {
        assert!(!from(&mut world, number, "192.0.2.1"));
    }
    let told: Vec<String> =
        world.reports.drain(..).map(|r| format!("{} {:?}", r.name, r.parameters)).collect();
    assert_eq!(told.len(), 2, "each is told once: {told:?}");
    assert!(
        told[0].contains("CtiMaxUnopenedConnectionsReached") && told[0].contains("192.0.2.1"),
        "{told:?}"
    );
    // Whoever opens a provider gives the place back, and so does whoever goes.
    let first = protocol::session::ConnectionId(0);
    let open = json!({"user": "ivr", "password": "secret", "application": "x"});
    assert!(world.call(first, "provider.open", open)["result"].is_object());
    assert!(from(&mut world, 50, "192.0.2.1"));
    for number in [1, 2, 3] {
        world.input(Input::CtiClosed(protocol::session::ConnectionId(number)));
    }
    let cleared = world.reports.drain(..).filter(|r| r.name == "CtiMaxUnopenedConnectionsReached").count();
    assert_eq!(cleared, 2, "half of the places are free, of the address' and of all");
    world.node.check().expect("counted right");
    world.pass(Duration::from_secs(10));
    assert!((60..64).all(|n| from(&mut world, n, "192.0.2.1")), "ten seconds are all that one has");
    world.node.check().expect("counted right");
}

#[test]
fn a_users_sessions_and_an_address_connections_share_their_rates() {
    let mut world = limited(
        "max_requests_per_second: 2, max_requests_per_second_per_user: 3, max_requests_per_second_per_address: 8",
    );
    // Two at a session, three at a user, eight at an address; each opening is one of the address' own.
    let far = "192.0.2.1:40000".parse().expect("an address");
    let apps: Vec<_> = ["ivr", "ivr", "other"]
        .into_iter()
        .zip(1..)
        .map(|(user, number)| {
            let connection = world.connect_from(number, far);
            let open = json!({"user": user, "password": "secret", "application": "test"});
            assert!(world.call(connection, "provider.open", open)["result"].is_object());
            connection
        })
        .collect();
    let ask = |world: &mut World, connection| {
        let answer = world.call(connection, "provider.devices", json!({}));
        let refused = answer["error"]["data"]["cti"] == "RATE_LIMITED";
        assert!(!refused || answer["error"]["data"]["retry_after_ms"].is_u64(), "{answer}");
        refused
    };
    assert!(!ask(&mut world, apps[0]) && !ask(&mut world, apps[0]));
    assert!(ask(&mut world, apps[0]), "a session has two");
    assert!(!ask(&mut world, apps[1]));
    assert!(ask(&mut world, apps[1]), "its user has three");
    assert!(!ask(&mut world, apps[2]) && !ask(&mut world, apps[2]), "another user has his own");
    let late = world.connect_from(9, far);
    assert!(ask(&mut world, late), "the address has eight, before a provider is open as well");
    world.input(Input::CtiFrame(late, b"no JSON at all".to_vec()));
    assert_eq!(world.frame(late).expect("told")["error"]["data"]["cti"], "RATE_LIMITED");
    let near = world.connect(10);
    assert_eq!(world.call(near, "provider.devices", json!({}))["error"]["data"]["cti"], "NOT_OPEN");
    world.pass(Duration::from_secs(1));
    assert!(!ask(&mut world, apps[0]) && !ask(&mut world, late));
    world.input(Input::CtiFrame(apps[0], b"no JSON at all".to_vec()));
    assert_eq!(world.frame(apps[0]).expect("told")["error"]["data"]["cti"], "PARSE_ERROR");
    world.input(Input::CtiFrame(apps[0], b"no JSON at all".to_vec()));
    assert_eq!(world.frame(apps[0]).expect("told")["error"]["data"]["cti"], "RATE_LIMITED", "garbage counts");
}

#[test]
fn of_logins_refused_for_their_rate_one_a_second_is_logged_with_how_many_were_not() {
    let mut world = limited("max_login_failures_per_minute: 1");
    login(&mut world, 0, "ivr", "wrong");
    world.reports.clear();
    world.audits.clear();
    for number in 1..=40 {
        assert_eq!(login(&mut world, number, "ivr", "guess")["error"]["data"]["cti"], "RATE_LIMITED");
    }
    assert_eq!((world.reports.len(), world.audits.len()), (1, 1));
    world.pass(Duration::from_secs(1));
    login(&mut world, 41, "ivr", "guess");
    let last = world.reports.last().expect("told");
    assert!(last.parameters.contains(&("untold", "39".to_owned())), "{last:?}");
}

#[test]
fn a_session_subscribes_to_so_many_globs() {
    let mut world = limited("session_subscriptions: 3");
    let open = |world: &mut World, number, globs: usize| {
        let connection = world.connect(number);
        let subscribe = vec!["call.*"; globs];
        let open = json!({"user": "ivr", "password": "secret", "application": "x", "subscribe": subscribe});
        world.call(connection, "provider.open", open)
    };
    assert!(open(&mut world, 1, 3)["result"].is_object());
    let refused = open(&mut world, 2, 4);
    assert_eq!(
        (&refused["error"]["data"]["cti"], &refused["error"]["data"]["field"]),
        (&json!("INVALID_PARAMS"), &json!("subscribe"))
    );
    assert_eq!(world.hashed, 1, "refused before anything else");
    let mut world = World::new();
    assert!(open(&mut world, 1, 64)["result"].is_object());
    assert_eq!(open(&mut world, 2, 65)["error"]["data"]["field"], "subscribe");
}

#[test]
fn the_last_1024_keys_are_kept_and_the_1025th_forgets_the_first_which_is_then_carried_out_again() {
    let mut world = limited("max_requests_per_second: 1000000");
    let app = world.application(1, "ivr");
    // A refusal that is an answer, and that opening the device in between would change.
    let close = |world: &mut World, key: usize| {
        let answer = world.call(app, "device.close", json!({"device": "RP_MAIN", "idem": format!("k{key}")}));
        answer["error"]["data"]["cti"].as_str().map(str::to_owned)
    };
    let not_open = Some("DEVICE_NOT_OPEN".to_owned());
    for key in 0..1024 {
        assert_eq!(close(&mut world, key), not_open);
    }
    let open = json!({"device": "RP_MAIN", "media": {"mode": "none"}});
    assert!(world.call(app, "device.open", open.clone())["result"].is_object());
    world.heard(app);
    assert_eq!(close(&mut world, 0), not_open, "the first answer, though it is open by now");
    assert_eq!(close(&mut world, 1024), None, "carried out");
    world.heard(app);
    assert!(world.call(app, "device.open", open)["result"].is_object());
    world.heard(app);
    assert_eq!(close(&mut world, 1), not_open, "the second is kept");
    assert_eq!(close(&mut world, 0), None, "the first was forgotten: carried out");
}

#[test]
fn requests_that_wait_for_their_answers_are_limited() {
    let mut world = limited("session_pending_requests: 2");
    let app = world.application(1, "ivr");
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    world.call(app, "device.open", json!({"device": "PORT_001", "media": media}));
    world.heard(app);
    // Redirecting to a trunk is answered when it rings.
    let mut redirect = |tag: &str| {
        world.invite(tag, "5101");
        world.sip.clear();
        let leg = world.event(app, "call.offering")["leg"]["leg"].clone();
        world.send(app, "call.redirect", json!({"leg": leg, "destination": "9001"}));
        world.sip.clear();
        let frames = world.frames.remove(&app).unwrap_or_default();
        frames.into_iter().find(|frame| frame["error"].is_object())
    };
    assert_eq!((redirect("a"), redirect("b")), (None, None));
    let refused = redirect("c").expect("refused");
    assert_eq!(refused["error"]["data"]["cti"], "RATE_LIMITED");
    assert!(refused["error"]["data"]["retry_after_ms"].is_u64());
}

#[test]
fn legs_are_limited_for_phones_and_applications_and_a_reload_changes_the_limit() {
    let mut world = limited("max_legs: 2");
    let app = world.application(1, "ivr");
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}}));
    world.heard(app);
    world.invite("a", "5000");
    assert!(world.sent("SIP/2.0 100").contains("a@"));
    world.event(app, "call.offering");
    world.invite("b", "5000");
    let refused = world.sip.drain(..).find(|message| message.starts_with("SIP/2.0 503")).expect("refused");
    assert!(refused.contains("\r\nRetry-After: "), "{refused}");
    world.reload(&format!("service_parameters: {{max_legs: 4}}\n{CONFIG}"));
    world.heard(app);
    world.invite("c", "5000");
    assert!(world.sip.iter().any(|message| message.starts_with("SIP/2.0 100")));
    world.event(app, "call.offering");
}

#[test]
fn a_node_that_is_behind_refuses_new_calls_keeps_the_others_and_says_so() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}}));
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    world.heard(app);
    world.input(Input::Pressure(Duration::from_millis(200)));
    world.invite("b", "5000");
    let refused = world.sip.pop_front().expect("an answer");
    assert!(refused.starts_with("SIP/2.0 503") && refused.contains("\r\nRetry-After: "), "{refused}");
    world.no_frames(app);
    world.trunk(
        "CANCEL sip:5000@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKa1\r\n\
         From: <sip:0301234@127.0.0.1:5070>;tag=a\r\nTo: <sip:5000@127.0.0.1>\r\nCall-ID: a@127.0.0.1:5070\r\n\
         CSeq: 1 CANCEL\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
    );
    assert_eq!(world.heard(app).len(), 1, "the call that was there ends in order");
    world.sip.clear();
    world.input(Input::Pressure(Duration::ZERO));
    world.invite("c", "5000");
    world.sent("SIP/2.0 100");
    let told = world.reported().into_iter().filter(|name| *name == "CallAdmissionRefused").count();
    assert_eq!(told, 2, "raised and cleared");
}

#[test]
fn a_full_line_is_busy_for_callers_and_max_calls_for_its_application() {
    let line = "  - {dn: \"5101\", max_calls: 2, busy_trigger: 1}\n";
    let mut world =
        World::with(&CONFIG.replace("directory_numbers:\n", &format!("directory_numbers:\n{line}")));
    let app = world.application(1, "ivr");
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    world.call(app, "device.open", json!({"device": "PORT_001", "media": media}));
    world.heard(app);
    world.invite("a", "5101");
    world.sent("SIP/2.0 100");
    world.heard(app);
    world.invite("b", "5101");
    assert!(
        world.sip.iter().any(|message| message.starts_with("SIP/2.0 486")),
        "the trigger: {:?}",
        world.sip
    );
    let make = json!({"device": "PORT_001", "destination": "9001"});
    assert!(world.call(app, "call.make", make.clone())["result"].is_object(), "a second may be made");
    world.heard(app);
    assert_eq!(world.call(app, "call.make", make)["error"]["data"]["cti"], "MAX_CALLS", "a third may not");
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
    let nobody = ask(explain("PORT_001", "nobody"));
    let line = CONFIG.lines().position(|line| line.starts_with("users:")).expect("there") + 2;
    assert_eq!(
        (&nobody["rule"], &nobody["line"]),
        (&json!("user exists"), &json!(line)),
        "where he would stand"
    );
    let found = ask(AdminRequest::Dependencies { dn: "5000".into() });
    let names: Vec<&str> =
        found.as_array().expect("a list").iter().filter_map(|d| d["name"].as_str()).collect();
    assert_eq!(names, ["RP_MAIN", "ivr", "other"]);
    assert!(found[0]["line"].is_u64());
}

#[test]
fn what_an_application_leaves_behind_is_among_the_alarms_with_who_it_was() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}}));
    world.heard(app);
    world.call(app, "device.open", json!({"device": "SECRET"}));
    world.input(Input::CtiClosed(app));
    world.input(Input::Admin(AdminToken(1), AdminRequest::Alarms));
    let alarms = world.answers.pop().expect("an answer").expect("a good one");
    let told: Vec<(&str, &str)> = alarms
        .as_array()
        .expect("a list")
        .iter()
        .map(|alarm| {
            let parameters = &alarm["parameters"];
            assert_eq!(
                (&parameters["user"], &parameters["address"]),
                (&json!("ivr"), &json!("127.0.0.1:40000"))
            );
            let name = alarm["name"].as_str().expect("a name");
            (name, parameters["reason"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("CtiProviderClosed", "connection_lost"),
            ("CtiDeviceClosed", "connection_lost"),
            ("ApplicationConnectionDropped", ""),
            ("CtiDeviceOpenFailure", "DEVICE_NOT_CONTROLLED"),
            ("CtiDeviceOpened", ""),
            ("CtiProviderOpened", ""),
        ]
    );
}

#[test]
fn a_message_over_the_limit_is_an_alarm_that_says_whose_it_was() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    world.input(Input::CtiLineTooLong(app));
    assert_eq!(world.closed, [app]);
    let report =
        world.reports.iter().find(|report| report.name == "kCtiQbeMessageTooLong").expect("an alarm");
    assert!(report.parameters.contains(&("user", "ivr".to_owned())), "{report:?}");
}

#[test]
fn a_node_names_the_services_that_it_runs() {
    for (written, told) in [
        ("[callmanager, ctimanager]", json!(["callmanager", "ctimanager"])),
        ("[ctimanager]", json!(["ctimanager"])),
    ] {
        let mut world = World::with(&CONFIG.replace("[callmanager, ctimanager]", written));
        world.input(Input::Admin(AdminToken(1), AdminRequest::Nodes));
        let nodes = world.answers.pop().expect("an answer").expect("a good one");
        assert_eq!((&nodes[0]["node"], &nodes[0]["services"]), (&json!("cm1"), &told));
    }
}

#[test]
fn opens_and_refusals_are_audited_without_numbers_and_passwords() {
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
        ]
    );
    let reports = format!("{:?}", world.reports);
    for secret in ["a-wrong-password", "secret\"", "5552001", "5551999", "$argon2"] {
        assert!(!reports.contains(secret) && !lines.concat().contains(secret), "{secret}: {reports}");
    }
}
