//! Who hears which event about what: what the decision says, and what applications really hear when everything happens
//! that this node can make happen. The checked-in text is what a reviewer reads.
//!
//! `heard` = he may, and was told; `may` = he may, and it did not happen here; `no` = he may not, whatever happens.

use super::matrix::by_who_may_the_same;
use super::world::{CONFIG, World, header, settings};
use crate::node::{CtiConnection, CtiTransport, Input};
use protocol::EventType;
use security::{Action, Actor, Groups, Policy, StandardGroup, Topic, Transport};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What events are about, with a device and a line for each.
const COLUMNS: [(&str, &str, &str); 4] = [
    ("own", "RP_MAIN", "5000"),
    ("foreign", "RP_OTHER", "6000"),
    ("restricted", "RP_SHUT", "7000"),
    ("restricted line", "PORT_001", "5111"),
];

/// What can't happen yet: the decision about it is in the text all the same.
const NOT_YET: [&str; 11] = [
    "call.dialtone",
    "call.transferred",
    "call.conferenced",
    "call.parked",
    "park.parked",
    "park.retrieved",
    "park.reverted",
    "park.abandoned",
    "media.srtp_key",
    "provider.out_of_service",
    "provider.in_service",
];

/// Alice's groups vary, bob's don't. Alice has RP_MAIN, PORT_001 and RP_SHUT on her list, bob RP_OTHER and PORT_002.
fn config(groups: Groups, secure: bool) -> String {
    let names: Vec<String> = groups.iter().map(|group| format!("\"{group}\"")).collect();
    let users = CONFIG.find("users:").expect("there");
    let mode = if secure { "mode: secure" } else { "mode: non_secure" };
    let user = |id: &str, groups: &str, list: &str| {
        format!(
            "- {{id: {id}, kind: application_user, password_hash: \"HASH\", groups: [{groups}], controlled_devices: [{list}]}}\n"
        )
    };
    let devices = "  - {name: RP_OTHER, type: route_point, pool: Default, lines: [\"6000\"]}\n  \
                   - {name: RP_SHUT, type: route_point, pool: Default, lines: [\"7000\"]}\ntrunks:";
    let text = format!(
        "{}users:\n{}{}",
        &CONFIG[..users],
        user("alice", &names.join(", "), r#"RP_MAIN, "PORT_*1", RP_SHUT"#),
        user("bob", "Standard CTI Enabled", r#"RP_OTHER, "PORT_*2""#)
    );
    text.replace("mode: non_secure", mode)
        .replace("trunks:", devices)
        .replace("lines: [\"5101\"]", "lines: [\"5101\", \"5111\"]")
        .replace("directory_numbers:", "directory_numbers:\n  - {dn: \"5111\", allow_cti_control: false}")
}

/// Alice, bob, and all that they were told.
struct Scene {
    world: World,
    heard: BTreeMap<CtiConnection, Vec<Value>>,
}

impl Scene {
    fn new(yaml: &str) -> Self {
        Self { world: World::with(yaml), heard: BTreeMap::new() }
    }

    fn listen(&mut self, app: CtiConnection) -> Option<Value> {
        let mut answer = None;
        for frame in self.world.frames.remove(&app).unwrap_or_default() {
            if frame["method"] == "event" {
                self.heard.entry(app).or_default().push(frame["params"].clone());
            } else {
                answer = Some(frame);
            }
        }
        answer
    }

    /// An application that is patient enough for all that happens here, if it may come in.
    fn enter(&mut self, number: u64, user: &str, transport: CtiTransport) -> CtiConnection {
        let app = self.world.connect_by(number, transport);
        let hello =
            json!({"user": user, "password": "secret", "application": "test", "heartbeat_ms": 600_000});
        self.ask(app, "provider.open", hello);
        app
    }

    /// Whatever comes of it.
    fn ask(&mut self, app: CtiConnection, method: &str, params: Value) -> Value {
        self.world.send(app, method, params);
        self.listen(app).unwrap_or_default()["result"].clone()
    }

    /// The newest leg that was told of with this event at this device.
    fn leg(&mut self, app: CtiConnection, kind: &str, device: &str) -> Value {
        self.listen(app);
        let mut told = self.heard.get(&app).into_iter().flatten().rev();
        let at = told.find(|event| event["type"] == kind && event["leg"]["device"] == device);
        at.map_or(Value::Null, |event| event["leg"]["leg"].clone())
    }

    fn open(&mut self, app: CtiConnection, device: &str, port: u16) {
        let codecs = ["PCMU"];
        let media = match device.starts_with("RP") {
            true => json!({"mode": "dynamic", "codecs": codecs}),
            false => json!({"mode": "static", "ip": "127.0.0.1", "port": port, "codecs": codecs}),
        };
        self.ask(app, "device.open", json!({"device": device, "media": media}));
    }

    /// A call from a port to a route point with all that can happen on the way.
    fn talk(&mut self, caller: (CtiConnection, &str), callee: (CtiConnection, &str), number: &str) {
        let made = self.ask(caller.0, "call.make", json!({"device": caller.1, "destination": number}));
        let offered = self.leg(callee.0, "call.offering", callee.1);
        self.ask(callee.0, "call.accept", json!({"leg": offered}));
        self.ask(callee.0, "call.answer", json!({"leg": offered}));
        let asked = self.leg(callee.0, "media.open_channel", callee.1);
        self.ask(callee.0, "call.set_media", json!({"leg": asked, "ip": "127.0.0.1", "port": 31_000}));
        let data = json!({"leg": made["leg"], "user_data": {"order": "7"}});
        self.ask(caller.0, "call.set_user_data", data);
        for method in ["call.hold", "call.retrieve", "call.drop"] {
            self.ask(caller.0, method, json!({"leg": made["leg"]}));
        }
    }

    /// A call from the trunk to a port; the caller presses a key and hangs up.
    fn called(&mut self, app: CtiConnection, device: &str, number: &str, tag: &str) {
        self.world.invite(tag, number);
        let offered = self.leg(app, "call.offering", device);
        self.ask(app, "call.answer", json!({"leg": offered}));
        let id = format!("Call-ID: {tag}@");
        let good = self.world.sip.iter().find(|sent| sent.starts_with("SIP/2.0 200") && sent.contains(&id));
        let Some(to) = good.map(|good| header(good, "To").to_owned()) else { return };
        self.world.in_dialog(tag, "ACK", 1, &to);
        self.world.press(tag, 2, &to, '5');
        self.world.in_dialog(tag, "BYE", 3, &to);
    }

    /// What an application does with its own devices.
    fn work(&mut self, app: CtiConnection, port: &str, point: &str, number: &str) {
        self.talk((app, port), (app, point), number);
        self.ask(app, "call.make", json!({"device": port, "destination": "404404"}));
        for to in [json!("9404"), Value::Null] {
            let forward = json!({"device": point, "dn": number, "destination": to});
            self.ask(app, "line.set_forward", forward);
        }
        for on in [true, false] {
            self.ask(app, "line.set_auto_accept", json!({"device": point, "dn": number, "on": on}));
        }
    }

    fn types(&self, app: CtiConnection, column: &str) -> BTreeSet<&str> {
        let told = self.heard.get(&app).into_iter().flatten();
        told.filter(|event| column_of(event) == column).filter_map(|event| event["type"].as_str()).collect()
    }
}

/// What an event is about; what is about the provider itself is its own.
fn column_of(event: &Value) -> &'static str {
    let pointers = ["/device/name", "/device", "/leg/device"];
    let device = pointers.iter().find_map(|at| event.pointer(at)?.as_str());
    let dn = ["/line/dn", "/leg/dn"].iter().find_map(|at| event.pointer(at)?.as_str());
    match (device, dn) {
        (_, Some("5111")) => "restricted line",
        (Some("RP_OTHER" | "PORT_002"), _) => "foreign",
        (Some("RP_SHUT"), _) => "restricted",
        (None | Some("RP_MAIN" | "PORT_001"), _) => "own",
        (Some(other), _) => panic!("{other} is nobody's: {event}"),
    }
}

/// All that can happen, while alice has opened what she may.
fn play(groups: Groups, secure: bool, transport: CtiTransport) -> (Scene, CtiConnection, CtiConnection) {
    let yaml = config(groups, secure);
    let mut scene = Scene::new(&yaml);
    let bob = scene.enter(1, "bob", CtiTransport::Tls { client_cn: None, not_after: None, serial: None });
    let alice = scene.enter(2, "alice", transport);
    for device in ["RP_OTHER", "PORT_002"] {
        scene.open(bob, device, 30_002);
    }
    for device in ["RP_MAIN", "PORT_001", "RP_SHUT", "RP_OTHER"] {
        scene.open(alice, device, 30_000);
    }
    scene.work(alice, "PORT_001", "RP_MAIN", "5000");
    scene.called(alice, "PORT_001", "5101", "a");
    scene.work(bob, "PORT_002", "RP_OTHER", "6000");
    scene.called(bob, "PORT_002", "5102", "b");
    scene.talk((alice, "PORT_001"), (bob, "RP_OTHER"), "6000");
    change(&mut scene, &yaml, bob);
    scene.world.reload(&limited(&config(other(groups), secure)));
    for app in [alice, bob] {
        scene.listen(app);
    }
    (scene, alice, bob)
}

/// What an administrator may change, and calls to what he has restricted.
fn change(scene: &mut Scene, yaml: &str, bob: CtiConnection) {
    let shut = yaml.replace("lines: [\"7000\"]", "lines: [\"7000\"], allow_cti_control: false");
    let shut = shut.replace("lines: [\"6000\"]", "lines: [\"6000\"], allow_cti_control: false");
    scene.world.reload(&shut);
    for number in ["7000", "5111"] {
        scene.ask(bob, "call.make", json!({"device": "PORT_002", "destination": number}));
    }
    scene.world.pass(std::time::Duration::from_secs(90));
    scene.world.reload(yaml);
    let without = |name: &str| {
        let line = |text: &&str| !text.contains(&format!("name: {name},"));
        yaml.lines().filter(line).fold(String::new(), |text, line| text + line + "\n")
    };
    for device in ["PORT_001", "PORT_002"] {
        scene.world.reload(&without(device));
        scene.world.reload(yaml);
    }
    scene.open(bob, "PORT_002", 30_002);
    scene.world.reload(&limited(yaml));
}

fn limited(yaml: &str) -> String {
    format!("service_parameters: {{max_devices_per_provider: 1, max_devices_per_node: 1}}\n{yaml}")
}

/// Park monitoring comes or goes, the super provider's right goes.
fn other(groups: Groups) -> Groups {
    let park = StandardGroup::CallParkMonitoring;
    let other = if groups.contains(park) { groups.without(park) } else { groups.with(park) };
    other.without(StandardGroup::ControlOfAllDevices)
}

fn topic_of<'a>(kind: &str, device: &'a device_model::DeviceName, dn: &'a device_model::Dn) -> Topic<'a> {
    match kind.split('.').next() {
        Some("provider" | "alarm") => Topic::Provider,
        Some("device") => Topic::Device(device),
        Some("park") => Topic::ParkNumbers,
        Some("call" | "line" | "media") => Topic::Line(device, dn),
        other => panic!("{other:?} is no kind of event"),
    }
}

/// What alice hears with these groups, this mode and this transport.
fn rows(groups: Groups, secure: bool, transport: CtiTransport) -> String {
    let way = if transport == CtiTransport::Plain { Transport::Plain } else { Transport::Tls };
    let (scene, alice, bob) = play(groups, secure, transport);
    let shut =
        config(groups, secure).replace("lines: [\"7000\"]", "lines: [\"7000\"], allow_cti_control: false");
    let policy = settings(&shut).policy;
    let actor = Actor { user: "alice", transport: way };
    let mut table = String::new();
    for kind in EventType::ALL.iter().map(|kind| kind.name()) {
        assert!(
            scene.types(bob, "foreign").contains(kind)
                || scene.types(bob, "own").contains(kind)
                || NOT_YET.contains(&kind)
                || kind == "provider.privileges_changed",
            "{kind} has not happened"
        );
        let _ = write!(table, "{kind} ");
        let about_devices = ["device", "line", "call", "media"].iter().any(|what| kind.starts_with(what));
        for (column, device, dn) in &COLUMNS[..if about_devices { 4 } else { 1 }] {
            let (device, dn) = ((*device).into(), (*dn).into());
            let may = policy.decide(actor, Action::Hear(topic_of(kind, &device, &dn))).allowed();
            let heard = scene.types(alice, column).contains(kind);
            assert!(may || !heard, "{kind} of {column} was heard");
            let cell = match (may, heard) {
                (_, true) => "heard",
                (true, false) => "may",
                (false, false) => "no",
            };
            let _ = if about_devices { write!(table, " {column}: {cell}") } else { write!(table, " {cell}") };
        }
        table.push('\n');
    }
    let _ = writeln!(table, "the keys in media.srtp_key  {}", keys(&policy, actor));
    let _ =
        writeln!(table, "the parties of a call from an own to a foreign device  {}", parties(&scene, alice));
    table
}

fn keys(policy: &Policy, actor: Actor<'_>) -> &'static str {
    if policy.decide(actor, Action::ReceiveSrtpKeys).allowed() { "may" } else { "no" }
}

/// Calling, called and connected number of alice's own leg of her call with bob.
fn parties(scene: &Scene, alice: CtiConnection) -> String {
    let told = scene.heard.get(&alice).into_iter().flatten();
    let mut own =
        told.filter(|event| event["leg"]["device"] == "PORT_001" && event["type"] == "call.connected");
    let Some(leg) = own.rfind(|event| event["leg"]["called"]["number"] == "6000").map(|event| &event["leg"])
    else {
        return "no".to_owned();
    };
    let number = |party: &str| leg[party]["number"].as_str().unwrap_or("-").to_owned();
    format!("{} {} {}", number("calling"), number("called"), number("connected"))
}

#[test]
fn the_whole_matrix_of_events() {
    insta::assert_snapshot!(by_who_may_the_same(rows));
}

#[test]
fn a_super_provider_that_is_withdrawn_hears_of_nothing_that_is_not_on_the_list() {
    let all = Groups::NONE.with(StandardGroup::CtiEnabled).with(StandardGroup::ControlOfAllDevices);
    let tls = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
    let (mut scene, alice, bob) = play(all, false, tls);
    assert!(scene.types(alice, "foreign").contains("call.connected"));
    scene.world.reload(&config(Groups::NONE.with(StandardGroup::CtiEnabled), false));
    scene.listen(alice);
    scene.heard.clear();
    scene.work(bob, "PORT_002", "RP_OTHER", "6000");
    scene.talk((alice, "PORT_001"), (bob, "RP_OTHER"), "6000");
    scene.listen(alice);
    assert_eq!(scene.types(alice, "foreign"), BTreeSet::new());
}

#[test]
fn what_was_withdrawn_while_an_application_was_away_is_told_at_its_return() {
    let groups = Groups::NONE.with(StandardGroup::CtiEnabled).with(StandardGroup::CallParkMonitoring);
    let mut scene = Scene::new(&config(groups, false));
    let bob = scene.world.application(1, "bob");
    scene.open(bob, "PORT_002", 30_002);
    let alice = scene.world.connect(2);
    let mut hello =
        json!({"user": "alice", "password": "secret", "application": "test", "resume_grace_ms": 30_000});
    let session = scene.ask(alice, "provider.open", hello.clone())["session"].clone();
    scene.open(alice, "PORT_001", 30_000);
    let known = scene.heard[&alice].len();
    scene.world.input(Input::CtiClosed(alice));
    let less = config(Groups::NONE.with(StandardGroup::CtiEnabled), false).replace("\"PORT_*1\", ", "");
    scene.world.reload(&less);
    let made = scene.ask(bob, "call.make", json!({"device": "PORT_002", "destination": "5101"}));
    assert!(made["leg"].is_string(), "{made}");
    let back = scene.world.connect(3);
    hello["resume"] = json!({"session": session, "last_seq": known});
    assert_eq!(scene.ask(back, "provider.open", hello)["resumed"], true);
    let told: Vec<&str> = scene.heard[&back].iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(told, ["provider.privileges_changed", "device.removed"]);
}
