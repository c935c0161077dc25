//! What the protocol's page promises of providers, devices and lines, sentence by sentence, on plain JSON against a
//! real node.

use serde_json::{Value, json};
use std::time::Duration;
use tests::lab::cti::{Cti, leg_of};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::{Lab, SOON};

const SUPER: &[&str] = &["Standard CTI Enabled", "Standard CTI Allow Control of All Devices"];

async fn node(lab: &Lab, change: impl FnOnce(Config) -> Config) -> Node {
    let config = Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .port("PORT_002", "5102")
        .phone("2001")
        .user("ivr", &["RP_MAIN", "PORT_*"])
        .user("other", &["RP_MAIN"])
        .member("super", SUPER, &[])
        .member("stranger", &[], &["RP_MAIN"]);
    Node::start(lab, change(config)).await
}

fn dynamic() -> Value {
    json!({"mode": "dynamic", "codecs": ["PCMU", "PCMA"]})
}

fn hello(user: &str, more: &Value) -> Value {
    let mut params = json!({"user": user, "password": PASSWORD, "application": "contract"});
    for (key, value) in more.as_object().into_iter().flatten() {
        params[key] = value.clone();
    }
    params
}

async fn open(node: &Node, user: &str, more: Value) -> (Cti, Value) {
    let mut cti = node.connect().await;
    let opened = cti.call("provider.open", hello(user, &more)).await;
    (cti, opened)
}

async fn open_port(cti: &mut Cti, device: &str) {
    cti.call("device.open", json!({"device": device, "media": dynamic()})).await;
    cti.expect_event("device.in_service", |event| event["device"]["name"] == device, SOON).await;
}

#[tokio::test]
async fn provider_open_answers_with_every_field_and_the_servers_decisions() {
    let lab = Lab::new("contract-open");
    let node = node(&lab, |c| c.parameter("session_resume_grace_maximum", json!("5s"))).await;
    let (_plain, opened) = open(&node, "ivr", json!({})).await;
    let mut names: Vec<&str> = opened.as_object().into_iter().flatten().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    let wanted = [
        "cluster",
        "ctimanagers",
        "device_count",
        "heartbeat_ms",
        "next_seq",
        "node",
        "privileges",
        "resume_grace_ms",
        "resumed",
        "session",
    ];
    assert_eq!(names, wanted, "{opened}");
    assert_eq!(opened["ctimanagers"], json!([node.cti.to_string()]));
    assert_eq!(
        opened["privileges"],
        json!({"control_all_devices": false, "park_monitoring": false, "calling_number_modification": false,
               "srtp_keys": false, "secure_connection": false})
    );
    let (_super, all) = open(&node, "super", json!({})).await;
    assert_eq!(all["privileges"]["control_all_devices"], true, "{all}");

    for (wish, decided) in [(1, 5_000), (7_000, 7_000), (99_000_000, 3_600_000)] {
        let (_cti, opened) = open(&node, "ivr", json!({"heartbeat_ms": wish})).await;
        assert_eq!(opened["heartbeat_ms"], decided, "{opened}");
    }
    for (wish, decided) in [(1_000, 1_000), (60_000, 5_000)] {
        let (_cti, opened) = open(&node, "ivr", json!({"resume_grace_ms": wish})).await;
        assert_eq!(opened["resume_grace_ms"], decided, "{opened}");
    }
}

#[tokio::test]
async fn whoever_may_not_come_in_hears_why_in_the_order_of_the_checks() {
    let lab = Lab::new("contract-login");
    let node = node(&lab, |c| c.parameter("max_login_failures_per_minute", json!(3))).await;
    let mut cti = node.connect().await;
    let not_enabled = cti.refused("provider.open", hello("stranger", &json!({}))).await;
    assert_eq!(not_enabled.symbol, "USER_NOT_CTI_ENABLED", "{not_enabled}");
    assert!(not_enabled.message.contains("Standard CTI Enabled"), "the group is named: {not_enabled}");

    let wrong = |user: &str| hello(user, &json!({"password": "wrong"}));
    let mut answers = Vec::new();
    // The first one's password was right from here before: his failures are his own and bind no others at this address.
    for user in ["stranger", "nobody", "ivr", "other"] {
        answers.push(cti.refused("provider.open", wrong(user)).await);
    }
    assert_eq!(answers[0].symbol, "LOGIN_FAILED");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let limited = cti.refused("provider.open", hello("ivr", &json!({}))).await;
    assert_eq!(limited.symbol, "RATE_LIMITED", "{limited}");
    assert!(limited.data["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{limited}");
    let known = cti.refused("provider.open", hello("stranger", &json!({}))).await;
    assert_eq!(known.symbol, "USER_NOT_CTI_ENABLED", "whoever is known here is not bound: {known}");
}

#[tokio::test]
async fn a_name_that_the_user_may_not_control_is_refused_alike_in_every_method() {
    let lab = Lab::new("contract-names");
    let node = node(&lab, |c| c).await;
    let (mut ivr, _) = open(&node, "ivr", json!({})).await;
    let (mut master, _) = open(&node, "super", json!({})).await;
    let with = |device: &str, more: Value| {
        let mut params = more;
        params["device"] = json!(device);
        params
    };
    for (method, more) in [
        ("device.open", json!({})),
        ("device.close", json!({})),
        ("line.set_forward", json!({"dn": "2001", "destination": null})),
        ("line.set_auto_accept", json!({"dn": "2001", "on": true})),
        ("call.make", json!({"destination": "5000"})),
    ] {
        for name in ["SEP2001", "NO_SUCH_THING", "PORT_999"] {
            let refused = ivr.refused(method, with(name, more.clone())).await;
            assert_eq!(refused.symbol, "DEVICE_NOT_CONTROLLED", "{method} {name}: {refused}");
        }
        let unknown = master.refused(method, with("NO_SUCH_THING", more.clone())).await;
        assert_eq!(unknown.symbol, "NO_SUCH_DEVICE", "{method}: {unknown}");
        if method != "device.open" {
            let closed = ivr.refused(method, with("PORT_001", more)).await;
            assert_eq!(closed.symbol, "DEVICE_NOT_OPEN", "{method}: {closed}");
        }
    }
}

#[tokio::test]
async fn devices_come_in_pages_by_type_and_by_name() {
    let lab = Lab::new("contract-devices");
    let node = node(&lab, |c| c).await;
    let (mut ivr, opened) = open(&node, "ivr", json!({})).await;
    assert_eq!(opened["device_count"], 3, "{opened}");
    let (mut cursor, mut names) = (Value::Null, Vec::new());
    loop {
        let page = ivr.call("provider.devices", json!({"limit": 1, "cursor": cursor})).await;
        names.extend(names_of(&page));
        assert!(names.len() < 10, "the pages come to an end: {names:?}");
        match &page["cursor"] {
            Value::Null => break,
            next => cursor = next.clone(),
        }
    }
    assert_eq!(names, ["PORT_001", "PORT_002", "RP_MAIN"]);
    let ports = ivr.call("provider.devices", json!({"type": "cti_port", "name": "*2"})).await;
    assert_eq!(names_of(&ports), ["PORT_002"]);
    let device = &ports["devices"][0];
    assert_eq!(
        *device,
        json!({"name": "PORT_002", "type": "cti_port", "description": "", "pool": "Default",
               "state": "out_of_service", "registered": false, "restricted": false, "opened": false,
               "lines": [{"dn": "5102", "index": 1, "max_calls": 4, "busy_trigger": 4, "auto_accept": false,
                          "forward_all": null, "restricted": false}]})
    );
    let all = ivr.refused("provider.devices", json!({"scope": "all"})).await;
    assert_eq!(all.symbol, "PRIVILEGE_VIOLATION", "{all}");
    for (wrong, field) in [(json!({"limit": 1001}), "limit"), (json!({"type": "fax"}), "type")] {
        let refused = ivr.refused("provider.devices", wrong).await;
        assert_eq!((refused.symbol.as_str(), &refused.data["field"]), ("INVALID_PARAMS", &json!(field)));
    }
    let (mut master, _) = open(&node, "super", json!({})).await;
    let all = master.call("provider.devices", json!({"scope": "all", "type": "phone"})).await;
    assert_eq!(names_of(&all), ["SEP2001"]);
    assert_eq!(all["devices"][0]["protocol"], "sip");
}

fn names_of(page: &Value) -> Vec<String> {
    let devices = page["devices"].as_array().into_iter().flatten();
    devices.filter_map(|device| device["name"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_session_goes_on_as_often_as_its_connection_is_lost_and_its_wishes_with_it() {
    let lab = Lab::new("contract-resume");
    let node = node(&lab, |c| c).await;
    let wishes = json!({"resume_grace_ms": 8_000, "heartbeat_ms": 9_000, "subscribe": ["device.*"]});
    let (mut first, opened) = open(&node, "ivr", wishes).await;
    open_port(&mut first, "PORT_001").await;
    open_port(&mut first, "PORT_002").await;
    let (session, last) = (opened["session"].clone(), first.last_seq());
    assert_eq!(last, 2);
    drop(first);

    let mut second = node.connect().await;
    let resumed = second.resume("ivr", PASSWORD, &session, last).await;
    assert_eq!((&resumed["resumed"], &resumed["next_seq"]), (&json!(true), &json!(3)), "{resumed}");
    assert_eq!(
        (&resumed["resume_grace_ms"], &resumed["heartbeat_ms"]),
        (&json!(8_000), &json!(9_000)),
        "without a new wish the old one holds: {resumed}"
    );
    // A second live connection takes it over; the replay may be asked for again.
    let mut third = node.connect().await;
    let resumed = third.resume("ivr", PASSWORD, &session, 0).await;
    assert_eq!((&resumed["resumed"], &resumed["next_seq"]), (&json!(true), &json!(1)), "{resumed}");
    for device in ["PORT_001", "PORT_002"] {
        let replayed = third.expect("device.in_service").await;
        assert_eq!(replayed["device"]["name"], device, "{replayed}");
    }
    let superseded = second.expect("session.superseded").await;
    assert!(superseded["time"].is_string() && superseded["seq"].is_null(), "{superseded}");
    second.expect_closed(SOON).await;
    third.call("device.close", json!({"device": "PORT_001"})).await;

    let mut thief = node.connect().await;
    let refused = thief.resume("other", PASSWORD, &session, 0).await;
    assert_eq!(
        (&refused["resumed"], &refused["reason"]),
        (&json!(false), &json!("unknown_session")),
        "{refused}"
    );
    let mut ahead = node.connect().await;
    let params = json!({"resume": {"session": session, "last_seq": 999}});
    let wrong = ahead.refused("provider.open", hello("ivr", &params)).await;
    assert_eq!((wrong.symbol.as_str(), &wrong.data["field"]), ("INVALID_PARAMS", &json!("resume.last_seq")));
    third.call("provider.close", json!({})).await;
    let mut late = node.connect().await;
    let refused = late.resume("ivr", PASSWORD, &session, 2).await;
    assert_eq!((&refused["resumed"], &refused["reason"]), (&json!(false), &json!("expired")), "{refused}");
}

#[tokio::test]
async fn what_is_not_subscribed_to_takes_no_number() {
    let lab = Lab::new("contract-subscribe");
    let node = node(&lab, |c| c).await;
    let (mut cti, _) = open(&node, "ivr", json!({"subscribe": ["call.*"]})).await;
    let media = json!({"mode": "static", "ip": lab.host(), "port": lab.port(), "codecs": ["PCMU"]});
    for device in ["PORT_001", "PORT_002"] {
        cti.call("device.open", json!({"device": device, "media": media})).await;
    }
    let made = cti.call("call.make", json!({"device": "PORT_001", "destination": "5102"})).await;
    let leg = leg_of(&cti.expect("call.offering").await);
    cti.call("call.answer", json!({"leg": leg})).await;
    cti.expect_leg("call.connected", &made["leg"]).await;
    cti.call("call.drop", json!({"leg": leg})).await;
    cti.expect_leg("call.disconnected", &leg).await;
    cti.expect_leg("call.disconnected", &made["leg"]).await;
    let foreign = cti.kept().iter().find(|event| !event["type"].as_str().unwrap_or("").starts_with("call."));
    assert_eq!(foreign, None, "only what was asked for");
    let snapshot = cti.call("provider.snapshot", json!({})).await;
    assert_eq!(snapshot["seq"], cti.last_seq(), "{snapshot}");
}

#[tokio::test]
async fn user_data_travel_and_every_watcher_is_told_the_asker_too() {
    let lab = Lab::new("contract-data");
    let node = node(&lab, |c| c).await;
    let (mut cti, _) = open(&node, "ivr", json!({})).await;
    open_port(&mut cti, "PORT_001").await;
    open_port(&mut cti, "PORT_002").await;
    let made = cti.call("call.make", json!({"device": "PORT_001", "destination": "5102"})).await;
    let leg = leg_of(&cti.expect("call.offering").await);
    cti.call("call.set_user_data", json!({"leg": leg, "user_data": {"ticket": "4711"}})).await;
    for leg in [&leg, &made["leg"]] {
        let changed = cti.expect_leg("call.changed", leg).await;
        assert_eq!(changed["leg"]["user_data"], json!({"ticket": "4711"}), "{changed}");
    }
    cti.call("call.drop", json!({"leg": leg})).await;
    cti.expect_leg("call.disconnected", &leg).await;
}

#[tokio::test]
async fn lines_are_forwarded_and_accept_by_themselves_and_every_opener_is_told() {
    let lab = Lab::new("contract-lines");
    let node = node(&lab, |c| c).await;
    let (mut ivr, _) = open(&node, "ivr", json!({})).await;
    let (mut other, _) = open(&node, "other", json!({})).await;
    for cti in [&mut ivr, &mut other] {
        cti.call("device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}})).await;
    }
    for destination in [json!("2001"), Value::Null] {
        let wish = json!({"device": "RP_MAIN", "dn": "5000", "destination": destination});
        ivr.call("line.set_forward", wish).await;
        for cti in [&mut ivr, &mut other] {
            let changed = cti.expect("line.forward_changed").await;
            assert_eq!(changed["device"], "RP_MAIN", "the name alone: {changed}");
            assert_eq!(changed["line"]["forward_all"], destination, "{changed}");
        }
    }
    ivr.call("line.set_auto_accept", json!({"device": "RP_MAIN", "dn": "5000", "on": true})).await;
    for cti in [&mut ivr, &mut other] {
        assert_eq!(cti.expect("line.auto_accept_changed").await["line"]["auto_accept"], true);
    }
    let nowhere = ivr.refused("line.set_forward", json!({"device": "RP_MAIN", "dn": "5000"})).await;
    assert_eq!((nowhere.symbol.as_str(), &nowhere.data["field"]), ("INVALID_PARAMS", &json!("destination")));
    let wish = json!({"device": "RP_MAIN", "dn": "9", "on": true});
    assert_eq!(ivr.refused("line.set_auto_accept", wish).await.symbol, "NO_SUCH_LINE");
}

#[tokio::test]
async fn a_line_of_one_mebibyte_is_read_and_a_longer_one_closes() {
    let lab = Lab::new("contract-line");
    let node = node(&lab, |c| c).await;
    let line = |length: usize| {
        let frame = r#"{"jsonrpc":"2.0","id":1,"method":"provider.heartbeat","params":{"x":""}}"#;
        frame.replace("\"\"", &format!("\"{}\"", "a".repeat(length - frame.len())))
    };
    let mut cti = node.connect().await;
    cti.send_line(line(1 << 20).as_bytes()).await;
    let answer = cti.reply(1, SOON).await.expect_err("no provider is open");
    assert_eq!(answer.symbol, "NOT_OPEN", "{answer}");
    cti.send_line(line((1 << 20) + 1).as_bytes()).await;
    let closed = cti.expect("session.closed").await;
    assert_eq!((&closed["reason"], &closed["seq"]), (&json!("line_too_long"), &Value::Null), "{closed}");
    cti.expect_closed(SOON).await;
}

#[tokio::test]
async fn who_says_nothing_is_told_of_the_end() {
    let lab = Lab::new("contract-silent");
    let node = node(&lab, |c| c.parameter("application_heartbeat_minimum_interval", json!("1s"))).await;
    let mut unopened = node.connect().await;
    let (mut silent, opened) = open(&node, "ivr", json!({"heartbeat_ms": 1_000})).await;
    assert_eq!(opened["heartbeat_ms"], 1_000);
    silent.expect("session.heartbeat").await;
    let closed = silent.expect("session.closed").await;
    assert_eq!(closed["reason"], "heartbeat_timeout", "{closed}");
    silent.expect_closed(SOON).await;
    let closed = unopened.expect_event("session.closed", |_| true, Duration::from_secs(12)).await;
    assert_eq!((&closed["reason"], &closed["seq"]), (&json!("open_timeout"), &Value::Null), "{closed}");
    unopened.expect_closed(SOON).await;
}
