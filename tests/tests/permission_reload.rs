//! Rights that change while providers are open and calls live, on a real process: what each is told, in which order, and
//! what goes on untouched (reference §2.7).

use serde_json::{Value, json};
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Baresip, Transport};
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::rtp::Endpoint;
use tests::lab::{Lab, SOON, eventually};

const ENABLED: &str = "Standard CTI Enabled";
const SUPER: &str = "Standard CTI Allow Control of All Devices";
const PARK: &str = "Standard CTI Allow Call Park Monitoring";
const NUMBER: &str = "Standard CTI Allow Calling Number Modification";
const ALICE_HZ: u32 = 450;
const BOB_HZ: u32 = 850;
const APPLICATION_HZ: u32 = 650;

fn static_media(voice: &Endpoint) -> Value {
    let (ip, port) = (voice.address.ip(), voice.address.port());
    json!({"mode": "static", "ip": ip, "port": port, "codecs": ["PCMU", "PCMA"]})
}

/// Answers the next call at a device of the connection and waits until it is connected.
async fn answer(cti: &mut Cti, device: &str) -> Value {
    let offered = cti.expect_event("call.offering", |event| event["leg"]["device"] == device, SOON).await;
    let leg = offered["leg"]["leg"].clone();
    cti.call("call.answer", json!({"leg": leg})).await;
    cti.expect_leg("call.connected", &leg).await;
    leg
}

/// Everything that was told until now: an answer has come after it.
async fn told(cti: &mut Cti) -> Vec<Value> {
    cti.call("provider.devices", json!({})).await;
    let mut events = Vec::new();
    while let Some(event) = cti.take_kept() {
        events.push(event);
    }
    events
}

fn types(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| {
        let device = event["device"]["name"].as_str().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{}{device}", event["type"].as_str().unwrap_or_default())
    };
    events.iter().map(name).collect()
}

/// Milliseconds of the day in `2026-11-20T20:01:02.123Z`, or of a log line that begins so.
fn milliseconds(time: &str) -> u64 {
    let clock = time.split_once('T').map(|(_, clock)| clock).unwrap_or_default();
    let part = |from: usize, to: usize| {
        clock.get(from..to).and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0)
    };
    ((part(0, 2) * 60 + part(3, 5)) * 60 + part(6, 8)) * 1000 + part(9, 12)
}

#[tokio::test]
async fn a_device_that_leaves_the_list_goes_within_a_second_and_its_neighbours_call_goes_on() {
    let lab = Lab::new("revoked");
    let config = Config::new(&lab)
        .route_point("RP_A", "5000")
        .port("PORT_B", "5001")
        .phone("2001")
        .phone("2002")
        .user("attendant", &["RP_A", "PORT_B"]);
    let mut node = Node::start(&lab, config.clone()).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_A", Media::Static).await;
    let other = Endpoint::bind(&lab).await;
    app.cti.call("device.open", json!({"device": "PORT_B", "media": static_media(&other)})).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Udp, BOB_HZ)).await;
    alice.dial("5000").await;
    let (leg, far) = app.answer().await;
    app.voice.speak(APPLICATION_HZ, far);
    app.voice.hears(ALICE_HZ, SOON).await;
    bob.dial("5001").await;
    answer(&mut app.cti, "PORT_B").await;
    told(&mut app.cti).await;

    node.reloads(&config.clone().set("users", "attendant", "controlled_devices", json!(["RP_A"])));
    let removed = app.cti.expect("device.removed").await;
    assert_eq!(removed["device"]["name"], "PORT_B", "{removed}");
    let audited = || node.log().lines().find(|line| line.contains("action=reload")).map(str::to_owned);
    let taken = eventually("a reload is audited", SOON, async || audited()).await;
    let late = milliseconds(removed["time"].as_str().expect("a time")).abs_diff(milliseconds(&taken));
    eprintln!("{late} ms between the removal and the reload's line in the audit log");
    assert!(late < 1_000, "{late} ms between {removed} and {taken}");
    bob.expect("CALL_CLOSED", SOON).await;
    assert_eq!(types(&told(&mut app.cti).await), Vec::<String>::new(), "nothing more of it");

    // The neighbour's call has not been touched: voices in both directions, and its end is told.
    let heard = app.voice.frames_with(ALICE_HZ);
    eventually("more of alice is heard", SOON, async || {
        (app.voice.frames_with(ALICE_HZ) > heard + 20).then_some(())
    })
    .await;
    alice.receives_audio().await;
    let open = json!({"device": "PORT_B", "media": static_media(&other)});
    assert_eq!(app.cti.refused("device.open", open.clone()).await.symbol, "DEVICE_NOT_CONTROLLED");
    let listed = app.cti.call("provider.devices", json!({})).await;
    assert_eq!(listed["devices"].as_array().map(Vec::len), Some(1), "{listed}");
    alice.hang_up().await;
    app.cti.expect_leg("call.disconnected", &leg).await;

    node.reloads(&config);
    assert_eq!(app.cti.expect("device.added").await["device"]["name"], "PORT_B");
    app.cti.call("device.open", open).await;
    node.is_quiet().await;
    node.is_well();
}

/// Users and groups as the file has them at first.
fn people(lab: &Lab) -> Config {
    Config::new(lab)
        .route_point("RP_GONE", "5001")
        .port("PORT_LEFT", "5002")
        .route_point("RP_BOSS", "5003")
        .route_point("RP_OTHER", "5004")
        .route_point("RP_CALM", "5005")
        .phone("2001")
        .phone("2002")
        .phone("2003")
        .user("gone", &["RP_GONE"])
        .user("left", &["PORT_LEFT"])
        .member("boss", &[ENABLED, SUPER], &["RP_BOSS"])
        .member("warden", &[ENABLED, PARK, NUMBER], &["PORT_LEFT"])
        .user("calm", &["RP_CALM"])
}

/// The last thing that a connection is told.
async fn last_words(cti: &mut Cti) -> Value {
    cti.expect_closed(SOON).await;
    cti.kept().back().cloned().unwrap_or_default()
}

/// The sequence of reference §2.7.
async fn is_a_normal_provider_now(boss: &mut Cti, foreign: &Value) {
    boss.expect_event("device.added", |event| event["device"]["name"] == "RP_BOSS", SOON).await;
    assert_eq!(
        types(&told(boss).await),
        [
            "provider.privileges_changed",
            "provider.out_of_service",
            "device.removed RP_OTHER",
            "provider.in_service"
        ],
        "and then what he keeps"
    );
    assert_eq!(boss.refused("device.open", foreign.clone()).await.symbol, "DEVICE_NOT_CONTROLLED");
}

async fn has_lost_his_rights(warden: &mut Cti, media: &Value) {
    let changed = warden.expect("provider.privileges_changed").await;
    assert_eq!(changed["privileges"]["park_monitoring"], false, "{changed}");
    assert_eq!(changed["privileges"]["calling_number_modification"], false, "{changed}");
    let refused = warden.refused("provider.monitor_park", json!({"on": true})).await;
    assert_eq!(refused.symbol, "PRIVILEGE_VIOLATION");
    warden.call("device.open", json!({"device": "PORT_LEFT", "media": media})).await;
    let call = json!({"device": "PORT_LEFT", "destination": "5005", "calling_number": "1"});
    let refused = warden.refused("call.make", call).await;
    assert_eq!(refused.symbol, "CALLING_NUMBER_MODIFICATION_NOT_ALLOWED");
}

#[tokio::test]
async fn users_and_rights_that_go_while_calls_live() {
    let lab = Lab::new("rights");
    let config = people(&lab);
    let mut node = Node::start(&lab, config.clone()).await;
    let mut gone = App::open(&lab, &node, "gone", "RP_GONE", Media::Static).await;
    let mut left = App::open(&lab, &node, "left", "PORT_LEFT", Media::Static).await;
    let mut boss = App::open(&lab, &node, "boss", "RP_BOSS", Media::Static).await.cti;
    let voice = Endpoint::bind(&lab).await;
    boss.call("device.open", json!({"device": "RP_OTHER", "media": static_media(&voice)})).await;
    let mut warden = node.application("warden").await;
    let mut calm = App::open(&lab, &node, "calm", "RP_CALM", Media::Static).await;
    let mut alice = Baresip::registered(&lab, node.account("2002", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2003", Transport::Udp, BOB_HZ)).await;
    let mut carol = Baresip::registered(&lab, node.account("2001", Transport::Udp, BOB_HZ)).await;
    for (phone, number, app, device) in
        [(&mut alice, "5002", &mut left, "PORT_LEFT"), (&mut carol, "5001", &mut gone, "RP_GONE")]
    {
        phone.dial(number).await;
        answer(&mut app.cti, device).await;
    }
    bob.dial("5005").await;
    let calms = answer(&mut calm.cti, "RP_CALM").await;
    for cti in [&mut boss, &mut warden, &mut calm.cti] {
        told(cti).await;
    }
    assert_eq!(
        warden.refused("provider.monitor_park", json!({"on": true})).await.symbol,
        "OPERATION_NOT_SUPPORTED"
    );

    let less = config
        .clone()
        .without("users", "gone")
        .set("users", "left", "groups", json!([PARK]))
        .set("users", "boss", "groups", json!([ENABLED]))
        .set("users", "warden", "groups", json!([ENABLED]));
    node.reloads(&less);
    assert_eq!(last_words(&mut gone.cti).await["reason"], "user_deleted");
    assert_eq!(last_words(&mut left.cti).await["reason"], "not_cti_enabled");
    alice.expect("CALL_CLOSED", SOON).await;
    carol.expect("CALL_CLOSED", SOON).await;
    let other = json!({"device": "RP_OTHER", "media": static_media(&voice)});
    is_a_normal_provider_now(&mut boss, &other).await;
    has_lost_his_rights(&mut warden, &static_media(&voice)).await;
    assert_eq!(
        types(&told(&mut calm.cti).await),
        Vec::<String>::new(),
        "whom it doesn't concern hears nothing"
    );
    for (user, symbol) in [("gone", "LOGIN_FAILED"), ("left", "USER_NOT_CTI_ENABLED")] {
        let hello = json!({"user": user, "password": PASSWORD, "application": "lab"});
        assert_eq!(node.connect().await.refused("provider.open", hello).await.symbol, symbol);
    }

    // What is granted is told, and nothing else.
    told(&mut warden).await;
    node.reloads(&config);
    boss.expect("provider.privileges_changed").await;
    boss.call("device.open", other).await;
    warden.expect("provider.privileges_changed").await;
    assert_eq!(types(&told(&mut warden).await), Vec::<String>::new());
    bob.hang_up().await;
    calm.cti.expect_leg("call.disconnected", &calms).await;
    node.is_quiet().await;
    node.is_well();
}

/// The legs of all that is open.
async fn seen_legs(cti: &mut Cti) -> usize {
    let snapshot = cti.call("provider.snapshot", json!({})).await;
    let devices = snapshot["devices"].as_array().expect("devices").iter();
    devices.map(|device| device["legs"].as_array().map_or(0, Vec::len)).sum()
}

#[tokio::test]
async fn a_restricted_phone_and_a_restricted_line_fall_silent_while_their_call_goes_on() {
    let lab = Lab::new("silent");
    let config =
        Config::new(&lab).number("2001", json!({})).phone("2001").phone("2002").user("desk", &["SEP2001"]);
    let mut node = Node::start(&lab, config.clone()).await;
    let mut desk = node.application("desk").await;
    desk.call("device.open", json!({"device": "SEP2001"})).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Udp, BOB_HZ)).await;
    alice.dial("2002").await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    let leg = desk.expect("call.connected").await["leg"]["leg"].clone();
    bob.receives_audio().await;
    assert_eq!(seen_legs(&mut desk).await, 1);
    told(&mut desk).await;
    let device = config.clone().set("devices", "SEP2001", "allow_cti_control", json!(false));
    let line = config.clone().set("directory_numbers", "2001", "allow_cti_control", json!(false));
    for (shut, reason) in [(device, "device_restricted"), (line, "line_restricted")] {
        node.reloads(&shut);
        desk.expect("device.restricted").await;
        assert_eq!(desk.expect("device.out_of_service").await["reason"], reason);
        assert_eq!(seen_legs(&mut desk).await, 0, "nobody is shown the parties: {reason}");
        assert_eq!(desk.refused("call.hold", json!({"leg": leg})).await.symbol, "NO_SUCH_LEG");
        bob.receives_audio().await;
        assert_eq!(types(&told(&mut desk).await), Vec::<String>::new());
        node.reloads(&config);
        desk.expect("device.unrestricted").await;
        desk.expect("device.in_service").await;
        // The call is told as it is now, and its media went on.
        let again = desk.expect("call.connected").await;
        assert_eq!(again["leg"]["leg"], leg);
        assert_eq!(seen_legs(&mut desk).await, 1);
        assert_eq!(types(&told(&mut desk).await), Vec::<String>::new());
    }
    alice.hang_up().await;
    desk.expect_leg("call.disconnected", &leg).await;
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_every_mistake_with_its_place() {
    let lab = Lab::new("bad-file");
    let config = Config::new(&lab).route_point("RP_MAIN", "5000").user("ivr", &["RP_MAIN"]);
    let mut node = Node::start(&lab, config.clone()).await;
    let mut app = App::open(&lab, &node, "ivr", "RP_MAIN", Media::Static).await;
    told(&mut app.cti).await;
    let before = (node.admin("devices"), node.admin("sessions")[0]["devices"].clone());
    let bad = config
        .clone()
        .set("users", "ivr", "controlled_devices", json!(["RP_MIAN"]))
        .set("users", "ivr", "groups", json!(["Standard CTI Enable"]))
        .set("devices", "RP_MAIN", "pool", json!("Defualt"))
        .parameter("max_cti_connections", json!(0));
    let refused = node.reload(&bad);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let text = std::fs::read_to_string(node.file()).expect("it was written");
    for (written, meant) in [
        ("\"RP_MIAN\"", "RP_MAIN"),
        ("\"Standard CTI Enable\"", ENABLED),
        ("\"Defualt\"", "Default"),
        ("\"max_cti_connections\"", "1"),
    ] {
        let line = text.lines().position(|line| line.contains(written)).expect("it is in the file") + 1;
        let place = format!("config.yaml:{line}:");
        let found = said.lines().find(|told| told.contains(&place));
        assert!(found.is_some_and(|told| told.contains(meant)), "{written} at {place} in {said}");
    }
    // The signal changes nothing either, and says it in the log.
    node.hang_up();
    eventually("the signal is refused, too", SOON, async || {
        (node.log().matches("configuration not reloaded").count() == 2).then_some(())
    })
    .await;
    let moved = config.clone().changed(|root| root["nodes"][0]["cti"]["tls"] = json!(lab.port()));
    let refused = node.reload(&moved);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs a restart"));
    assert_eq!(
        types(&told(&mut app.cti).await),
        Vec::<String>::new(),
        "an open provider hears nothing of it"
    );
    assert_eq!((node.admin("devices"), node.admin("sessions")[0]["devices"].clone()), before);
    let again = json!({"device": "RP_MAIN", "media": static_media(&app.voice)});
    assert_eq!(app.cti.refused("device.open", again).await.symbol, "DEVICE_ALREADY_OPEN");
    node.reloads(&config);
    node.is_well();
}

/// The line of the configuration with this in it.
fn line_of(node: &Node, text: &str) -> u64 {
    let file = std::fs::read_to_string(node.file()).expect("it is there");
    file.lines().position(|line| line.contains(text)).expect("the file has it") as u64 + 1
}

/// The line of a key in the entry that has this: the last such line before it, as the keys stand in alphabetical order.
fn line_before(node: &Node, key: &str, entry: &str) -> u64 {
    let file = std::fs::read_to_string(node.file()).expect("it is there");
    let lines: Vec<&str> = file.lines().collect();
    let at =
        lines.iter().position(|line| line.contains(entry)).unwrap_or_else(|| panic!("no {entry} in {file}"));
    let line = lines[..at].iter().rposition(|line| line.contains(key)).expect("an entry has the key");
    line as u64 + 1
}

#[tokio::test]
async fn explain_and_dependencies_name_the_rule_and_the_line_and_know_of_the_reload() {
    let lab = Lab::new("explain");
    let shut = json!({"name": "RP_SHUT", "type": "route_point", "pool": "Default", "lines": ["7000"], "allow_cti_control": false});
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .port("PORT_002", "5102")
        .add("devices", shut)
        .number("5000", json!({"forward": {"busy": "5101"}}))
        .secure()
        .user("exact", &["RP_MAIN"])
        .user("glob", &["PORT_*"])
        .user("range", &["PORT_[002-003]", "RP_SHUT"])
        .member("boss", &[ENABLED, SUPER], &[])
        .member("nobody", &[], &["RP_MAIN"])
        .member("safe", &[ENABLED, "Standard CTI Secure Connection"], &["RP_MAIN"]);
    let node = Node::start(&lab, config.clone()).await;
    let controlled = |entry: &str| format!("controlled_devices {entry}");
    let enabled = format!("group {ENABLED}");
    for (device, user, allowed, rule, at) in [
        ("RP_MAIN", "exact", true, controlled("RP_MAIN"), Some("exact")),
        ("PORT_001", "glob", true, controlled("PORT_*"), Some("glob")),
        ("PORT_002", "range", true, controlled("PORT_[002-003]"), Some("range")),
        ("PORT_001", "boss", true, format!("group {SUPER}"), Some("boss")),
        ("PORT_001", "exact", false, "controlled_devices".to_owned(), Some("exact")),
        ("PORT_001", "range", false, "controlled_devices".to_owned(), Some("range")),
        ("RP_SHUT", "range", false, "allow_cti_control".to_owned(), None),
        ("RP_SHUT", "boss", false, "allow_cti_control".to_owned(), None),
        ("RP_MAIN", "nobody", false, enabled, Some("nobody")),
        ("RP_NONE", "boss", false, "device exists".to_owned(), None),
        ("RP_MAIN", "stranger", false, "user exists".to_owned(), None),
    ] {
        let asked = node.command(&["explain", device, "--user", user, "--output", "json"]);
        let told: Value = serde_json::from_slice(&asked.stdout).unwrap_or_else(|e| panic!("{e}: {asked:?}"));
        assert_eq!(asked.status.code(), Some(i32::from(!allowed)), "{told}");
        assert_eq!(
            (&told["allowed"], &told["rule"]),
            (&json!(allowed), &json!(rule)),
            "{device} {user}: {told}"
        );
        let deciding = match (at, rule.starts_with("group Standard CTI")) {
            (Some(user), true) => Some(line_before(&node, "\"groups\"", &format!("\"id\": \"{user}\""))),
            (Some(user), false) => {
                Some(line_before(&node, "\"controlled_devices\"", &format!("\"id\": \"{user}\"")))
            }
            // The entry of the device begins a line before its first key.
            (None, _) if rule == "allow_cti_control" => {
                Some(line_before(&node, "\"allow_cti_control\"", "\"name\": \"RP_SHUT\"") - 1)
            }
            // What is missing would have to stand in its list.
            (None, _) if rule == "device exists" => Some(line_of(&node, "\"devices\": [")),
            (None, _) => Some(line_of(&node, "\"users\": [")),
        };
        assert_eq!(told["line"].as_u64(), deciding, "{device} {user}: {told}");
        assert!(told["file"].as_str().is_some_and(|file| file.ends_with("config.yaml")), "{told}");
    }
    over_the_plain_port(&node);
    after_a_reload(&node, config);
}

/// The transport decides where the cluster is secure: asked of the file, and told beside the node's answer.
fn over_the_plain_port(node: &Node) {
    let told: Value = serde_json::from_slice(
        &node.command(&["explain", "RP_MAIN", "--user", "safe", "--output", "json"]).stdout,
    )
    .expect("JSON");
    assert_eq!((&told["allowed"], &told["allowed_over_plain"]), (&json!(true), &json!(false)), "{told}");
    let file = node.file().display().to_string();
    let asked = node.command(&["explain", "RP_MAIN", "--user", "safe", "--plain", "--config", &file]);
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert_eq!(asked.status.code(), Some(1), "{said}");
    assert!(said.starts_with("refused by transport: ") && said.contains("config.yaml:"), "{said}");
}

fn after_a_reload(node: &Node, config: Config) {
    let names = || {
        let found = node.command(&["dependencies", "5101", "--output", "json"]);
        let found: Value = serde_json::from_slice(&found.stdout).expect("JSON");
        let lines = found.as_array().expect("a list").iter().map(|one| {
            let line = one["line"].as_u64().unwrap_or(0);
            assert!(line > 1, "{one}");
            format!(
                "{} {}",
                one["kind"].as_str().unwrap_or_default(),
                one["name"].as_str().unwrap_or_default()
            )
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(names(), ["device PORT_001", "forward 5000", "user glob"]);
    let explain = || node.command(&["explain", "PORT_001", "--user", "exact"]);
    let said = String::from_utf8_lossy(&explain().stdout).into_owned();
    assert!(said.starts_with("refused by controlled_devices: ") && said.contains("config.yaml:"), "{said}");
    node.reloads(&config.set("users", "exact", "controlled_devices", json!(["PORT_001"])).set(
        "directory_numbers",
        "5000",
        "forward",
        json!({"busy": "5102"}),
    ));
    let told = explain();
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(told.status.code(), Some(0), "{said}");
    assert!(said.starts_with("allowed by controlled_devices PORT_001: "), "{said}");
    assert_eq!(names(), ["device PORT_001", "user exact", "user glob"]);
}
