//! Rights, lists, devices and restrictions that change at random while applications work. After every input the node's
//! own checks hold (`World::input`): nobody was told what he may not hear, and nobody has open what he may not open. And what an
//! application was told of the changes is all that it needs to know them.

use super::world::{World, header};
use crate::node::{CtiConnection, CtiTransport, Input};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const HEAD: &str = r#"
nodes: [{name: cm1, host: 127.0.0.1, services: [callmanager, ctimanager], sip: {udp: 5060}, cti: {tls: 2749}}]
call_manager_groups: [{name: Default, members: [cm1]}]
device_pools: [{name: Default, call_manager_group: Default}]
trunks: [{name: pstn, host: 127.0.0.1, port: 5070, transport: udp}]
"#;

const DEVICES: [(&str, &str, &str); 4] = [
    ("RP_A1", "route_point", "5000"),
    ("RP_B2", "route_point", "6000"),
    ("PORT_C3", "cti_port", "5101"),
    ("PORT_D4", "cti_port", "5102"),
];
const GROUPS: [&str; 4] = [
    "Standard CTI Enabled",
    "Standard CTI Allow Control of All Devices",
    "Standard CTI Allow Call Park Monitoring",
    "Standard CTI Secure Connection",
];
const USERS: [&str; 2] = ["alice", "bob"];

/// A configuration as its choices.
#[derive(Clone, Debug)]
struct Choices {
    secure: bool,
    /// Of each device: is it there, is it restricted, is its line.
    devices: [(bool, bool, bool); 4],
    /// Of each user: is he there, his groups, his list.
    users: [(bool, [bool; 4], [bool; 4]); 2],
}

impl Choices {
    fn first() -> Self {
        let user = (true, [true, false, false, false], [true, false, true, false]);
        Self { secure: false, devices: [(true, false, false); 4], users: [user; 2] }
    }

    fn change(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(1..4) {
            let (device, user, bit) =
                (random.random_range(0..4), random.random_range(0..2), random.random_range(0..4));
            match random.random_range(0..8) {
                0 => self.secure = !self.secure,
                1 => self.devices[device].0 = !self.devices[device].0,
                2 => self.devices[device].1 = !self.devices[device].1,
                3 => self.devices[device].2 = !self.devices[device].2,
                4 if random.random_bool(0.3) => self.users[user].0 = !self.users[user].0,
                // Who may not use CTI at all has little to lose.
                5 if bit > 0 || random.random_bool(0.3) => self.users[user].1[bit] = !self.users[user].1[bit],
                _ => self.users[user].2[bit] = !self.users[user].2[bit],
            }
        }
    }

    fn yaml(&self) -> String {
        let list = |entries: Vec<String>| entries.join(", ");
        let mode = if self.secure { "secure" } else { "non_secure" };
        let there = DEVICES.iter().zip(self.devices).filter(|(_, (there, ..))| *there);
        let devices = there.clone().map(|((name, kind, dn), (_, shut, _))| {
            format!(
                "{{name: {name}, type: {kind}, pool: Default, lines: [\"{dn}\"], allow_cti_control: {}}}",
                !shut
            )
        });
        let numbers =
            there.map(|((.., dn), (.., shut))| format!("{{dn: \"{dn}\", allow_cti_control: {}}}", !shut));
        let users = USERS.iter().zip(self.users).filter(|(_, (there, ..))| *there).map(|(id, (_, groups, listed))| {
            let groups = GROUPS.iter().zip(groups).filter(|(_, member)| *member);
            // A pattern may stand for a device that is not there now.
            let listed = DEVICES.iter().zip(listed).filter(|(_, on)| *on);
            let listed = listed.map(|((name, ..), _)| format!("\"{}?\"", &name[..name.len() - 1]));
            format!(
                "{{id: {id}, kind: application_user, password_hash: \"HASH\", groups: [{}], controlled_devices: [{}]}}",
                list(groups.map(|(group, _)| (*group).to_owned()).collect()),
                list(listed.collect())
            )
        });
        format!(
            "cluster: {{name: test, security: {{mode: {mode}}}}}\n{HEAD}devices: [{}]\ndirectory_numbers: [{}]\nusers: [{}]\n",
            list(devices.collect()),
            list(numbers.collect()),
            list(users.collect())
        )
    }
}

/// An application and what it believes.
struct App {
    connection: CtiConnection,
    /// A super provider's devices come and go without a word while he has them open.
    was_super: bool,
    /// The devices of its list with their states, as it was told.
    devices: BTreeMap<String, Value>,
    /// The newest last.
    legs: Vec<String>,
    /// Requests without an answer.
    waiting: BTreeSet<u64>,
}

struct Walk {
    world: World,
    random: StdRng,
    choices: Choices,
    apps: Vec<App>,
    connections: u64,
    calls: u32,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let choices = Choices::first();
        let world = World::with(&choices.yaml());
        let random = StdRng::seed_from_u64(seed);
        Self { world, random, choices, apps: Vec::new(), connections: 0, calls: 0 }
    }

    fn step(&mut self) {
        let app = self.random.random_range(0..self.apps.len().max(1));
        let (name, _, dn) = DEVICES[self.random.random_range(0..4)];
        match self.random.random_range(0..12) {
            0 => {
                self.choices.change(&mut self.random);
                self.world.reload(&self.choices.yaml());
            }
            1 => self.enter(),
            2..=4 => self.ask(app, "device.open", json!({"device": name, "media": media(name)})),
            5 | 6 => self.ring(dn),
            7 => self.ask(app, "call.make", json!({"device": name, "destination": dn})),
            8..=10 => self.use_a_leg(app),
            _ => self.world.pass(Duration::from_millis(self.random.random_range(1..3000))),
        }
        self.hear();
        self.compare();
    }

    fn enter(&mut self) {
        if self.apps.len() >= 4 {
            return;
        }
        self.connections += 1;
        let tls = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
        let way = if self.random.random_bool(0.5) { tls } else { CtiTransport::Plain };
        let connection = self.world.connect_by(self.connections, way);
        let user = self.random.random_range(0..2);
        let hello = json!({"user": USERS[user], "password": "secret", "application": "walk", "heartbeat_ms": 3_600_000,
                           "resume_grace_ms": self.random.random_range(0..2) * 5_000});
        if self.world.call(connection, "provider.open", hello)["result"].is_object() {
            let was_super = self.choices.users[user].1[1];
            let devices = listed(&mut self.world, connection);
            self.apps.push(App {
                connection,
                was_super,
                devices,
                legs: Vec::new(),
                waiting: BTreeSet::new(),
            });
        }
    }

    fn ask(&mut self, app: usize, method: &str, params: Value) {
        if let Some(app) = self.apps.get_mut(app) {
            app.waiting.insert(self.world.send(app.connection, method, params));
        }
    }

    fn use_a_leg(&mut self, app: usize) {
        const METHODS: [&str; 8] = [
            "call.answer",
            "call.answer",
            "call.accept",
            "call.redirect",
            "call.hold",
            "call.retrieve",
            "call.set_user_data",
            "call.drop",
        ];
        let method = METHODS[self.random.random_range(0..METHODS.len())];
        let (.., to) = DEVICES[self.random.random_range(0..4)];
        let Some(leg) = self.apps.get(app).and_then(|app| app.legs.last().cloned()) else { return };
        self.ask(app, method, json!({"leg": leg, "user_data": {}, "destination": to}));
    }

    /// The trunk calls, acknowledges what was answered before, and sometimes the cable is pulled.
    fn ring(&mut self, dn: &str) {
        self.calls += 1;
        self.world.invite(&format!("t{}", self.calls), dn);
        let answered: Vec<(String, String)> = (self.world.sip.drain(..))
            .filter(|sent| sent.starts_with("SIP/2.0 200"))
            .map(|sent| (header(&sent, "Call-ID").to_owned(), header(&sent, "To").to_owned()))
            .collect();
        for (call, to) in answered {
            let tag = call.split('@').next().unwrap_or_default();
            self.world.in_dialog(tag, "ACK", 1, &to);
        }
        if self.random.random_bool(0.1) && !self.apps.is_empty() {
            let gone = self.apps.remove(self.random.random_range(0..self.apps.len()));
            self.world.input(Input::CtiClosed(gone.connection));
        }
    }

    /// What every application makes of what it is told.
    fn hear(&mut self) {
        for app in &mut self.apps {
            for frame in self.world.frames.remove(&app.connection).unwrap_or_default() {
                if let Some(answered) = frame["id"].as_u64() {
                    assert!(app.waiting.remove(&answered), "one answer, to what was asked: {frame}");
                }
                let event = &frame["params"];
                let name = event["device"]["name"].as_str().unwrap_or_default().to_owned();
                let leg = event["leg"]["leg"].as_str().unwrap_or_default().to_owned();
                match event["type"].as_str() {
                    Some("device.removed") => drop(app.devices.remove(&name)),
                    Some("device.added") => drop(app.devices.insert(name, event["device"].clone())),
                    Some(kind) if kind.starts_with("device.") => {
                        app.devices.entry(name).and_modify(|known| *known = event["device"].clone());
                    }
                    Some("provider.privileges_changed") => {
                        app.was_super |= event["privileges"]["control_all_devices"] == true;
                    }
                    Some("call.disconnected") => app.legs.retain(|known| *known != leg),
                    Some(kind) if kind.starts_with("call.") && !app.legs.contains(&leg) => app.legs.push(leg),
                    _ => {}
                }
            }
        }
        let closed = std::mem::take(&mut self.world.closed);
        self.apps.retain(|app| !closed.contains(&app.connection));
    }

    /// Once every timer has run out no request waits for its answer.
    fn settle(&mut self) {
        self.world.pass(Duration::from_secs(90));
        self.hear();
        self.compare();
        for app in &self.apps {
            assert!(app.waiting.is_empty(), "unanswered: {:?}", app.waiting);
        }
    }

    /// What it believes is what it would be shown.
    fn compare(&mut self) {
        for app in self.apps.iter().filter(|app| !app.was_super) {
            let shown = listed(&mut self.world, app.connection);
            let names = |devices: &BTreeMap<String, Value>| {
                let one = |(name, device): (&String, &Value)| (name.clone(), device["restricted"].clone());
                devices.iter().map(one).collect::<Vec<_>>()
            };
            assert_eq!(names(&app.devices), names(&shown), "as it was told, and as it is");
        }
    }
}

fn media(device: &str) -> Value {
    let port = if device == "PORT_C3" { 31_000 } else { 31_002 };
    json!({"mode": "static", "ip": "127.0.0.1", "port": port, "codecs": ["PCMU"]})
}

/// What `provider.devices` shows, by name.
fn listed(world: &mut World, app: CtiConnection) -> BTreeMap<String, Value> {
    let page = world.call(app, "provider.devices", json!({}));
    let devices = page["result"]["devices"].as_array().cloned().unwrap_or_default();
    devices
        .into_iter()
        .map(|device| (device["name"].as_str().unwrap_or_default().to_owned(), device))
        .collect()
}

#[test]
fn whatever_is_changed_nobody_hears_what_he_may_not_and_everybody_what_he_must() {
    for seed in 0..40 {
        let mut walk = Walk::new(seed);
        for step in 0..120 {
            let before = walk.choices.clone();
            let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk.step()));
            assert!(walked.is_ok(), "seed {seed}, step {step}, from {before:?} to {:?}", walk.choices);
        }
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk.settle()));
        assert!(settled.is_ok(), "seed {seed}, at the end");
    }
}
