//! Several instances of one application at one device, by the rules of dynamic media, and standby ones that take over.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::process::Process;
use tests::lab::trunk::{Party, Trunk};
use tests::lab::{Lab, SOON, built, eventually};

/// The standby lets the first instance go first for so long.
const PATIENCE_MS: u64 = 1_000;

struct House {
    lab: Lab,
    node: Node,
    trunk: Trunk,
}

impl House {
    async fn open(test: &str) -> House {
        let lab = Lab::new(test);
        let callers = lab.address();
        let plan = Config::new(&lab)
            .route_point("RP_MAIN", "5000")
            .number("5000", json!({"forward": {"on_failure": "9009", "no_answer": "9009"}}))
            .port("PORT_001", "5101")
            .trunk("pstn", callers)
            .pattern("9XXX", "pstn")
            .user("ivr", &["RP_MAIN", "PORT_001"])
            .parameter("cti_new_call_accept_timer", json!("10s"));
        let node = Node::start(&lab, plan).await;
        let trunk = Trunk::at(callers, node.sip).await;
        House { lab, node, trunk }
    }

    async fn instance(&self, name: &str, patience_ms: u64, places: u32, rtp: u16) -> Process {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/instance.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(self.node.cti.to_string()).arg(self.node.ca()).args(["ivr", "RP_MAIN", name]);
        command.args([patience_ms.to_string(), places.to_string(), rtp.to_string()]);
        command.env("CTI_PASSWORD", PASSWORD);
        let mut instance = Process::start(name, command, &self.lab.folder(name).join("log"));
        instance.wait_for_log("device.open ok", SOON).await;
        instance
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.host(), port)
    }
}

/// Waits until the caller's audio goes there, after so many changes of the call.
async fn talks_to(party: &Party, whom: SocketAddr, changes: u32) {
    let there = |call: &tests::lab::trunk::Call| {
        (call.far_media == Some(whom) && call.changes == changes && call.answered.is_some()).then_some(())
    };
    party.until(&format!("talks to {whom} after {changes} changes"), there).await;
    assert_eq!(party.look().over, None);
}

#[tokio::test]
async fn the_first_instance_has_the_calls_and_a_standby_takes_them_over_when_it_is_killed() {
    let mut house = House::open("standby").await;
    let mut first = house.instance("first", 0, 1, 21_000).await;
    let mut standby = house.instance("standby", PATIENCE_MS, 10, 22_000).await;

    // Both are told of the call; the first answer and the first address win.
    let connected = house.trunk.call("5000").await;
    talks_to(&connected, house.at(21_000), 0).await;
    standby.wait_for_log("call.offering", SOON).await;
    standby.wait_for_log("call.set_media MEDIA_ALREADY_SET", SOON).await;
    let ringing = house.trunk.call("5000").await;
    ringing.rings().await;

    first.kill();
    house.node.writes(&["CtiProviderClosed"]).await;
    // Its address went with it: the standby is asked for another, and the caller talks on.
    talks_to(&connected, house.at(22_000), 1).await;
    talks_to(&ringing, house.at(22_000), 0).await;
    let new = house.trunk.call("5000").await;
    talks_to(&new, house.at(22_000), 0).await;

    // It comes back, and now it is the standby that goes.
    let mut back = house.instance("first-again", 0, 10, 23_000).await;
    standby.kill();
    for (party, changes) in [(&connected, 2), (&ringing, 1), (&new, 1)] {
        talks_to(party, house.at(23_000), changes).await;
    }
    back.kill();
    for party in [&connected, &ringing, &new] {
        let over = party.is_over().await;
        assert_eq!((over.refused, over.cause), (None, Some(41)), "the last one has gone: {over:?}");
    }
    assert!(house.trunk.called("9009").is_empty(), "nothing was forwarded while there was a standby");
    house.node.is_quiet().await;
    house.node.is_well();
}

fn attendant(house: &House, name: &str) -> Process {
    let mut command = Command::new(built("examples/auto-attendant"));
    let host = house.lab.host().to_string();
    command.args(["--server", &house.node.cti.to_string(), "--user", "ivr", "--route-point", "RP_MAIN"]);
    command.args(["--ip", &host, "--menu", "1=9001", "--operator", "9001", "--timeout-s", "100", "--ca"]);
    command.arg(house.node.ca()).env("CTI_PASSWORD", PASSWORD);
    Process::start(name, command, &house.lab.folder(name).join("log"))
}

/// Two of the SDK's attendants answer every call at the same moment.
#[tokio::test]
async fn two_auto_attendants_share_a_route_point_and_one_is_enough() {
    let mut house = House::open("attendants").await;
    let mut pair = [attendant(&house, "one"), attendant(&house, "two")];
    eventually("both are open", SOON, async || {
        let sessions = house.node.admin("sessions");
        let open = sessions.as_array()?.iter().filter(|s| s["devices"] == json!(["RP_MAIN"])).count();
        (open == 2).then_some(())
    })
    .await;
    let mut parties = Vec::new();
    for _ in 0..10 {
        parties.push(house.trunk.call("5000").await);
    }
    let mut before = Vec::new();
    for party in &parties {
        party.is_answered().await;
        before.push(party.until("has an address", |call| call.far_media).await);
    }
    pair[0].kill();
    house.node.writes(&["CtiProviderClosed"]).await;
    // Those that the killed one had are the other's within a moment; those of the other's stay.
    for (party, before) in parties.iter().zip(&before) {
        let moved = party.until("has a living address", |call| {
            let port = call.far_media?.port();
            let living = house_ports(&pair[1]).contains(&port);
            living.then_some(call.far_media != Some(*before))
        });
        eprintln!("moved: {}", moved.await);
        assert_eq!(party.look().over, None);
    }
    assert!(house.trunk.called("9001").is_empty(), "nobody was sent to the operator");
    for party in &parties {
        party.hang_up().await;
    }
    house.node.is_quiet().await;
    house.node.is_well();
}

/// The UDP ports that a process has open.
fn house_ports(process: &Process) -> Vec<u16> {
    let sockets = std::process::Command::new("ss").args(["-Hulnp"]).output().expect("iproute2 is there");
    let of = format!("pid={},", process.id());
    let text = String::from_utf8_lossy(&sockets.stdout).into_owned();
    let lines = text.lines().filter(|line| line.contains(&of));
    lines.filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':')?.1.parse().ok()).collect()
}

#[tokio::test]
async fn who_may_open_a_device_that_another_has_open() {
    let house = House::open("second-opener").await;
    let (mut first, mut second) = (house.node.application("ivr").await, house.node.application("ivr").await);
    let open = |media: Value| json!({"device": "PORT_001", "media": media});
    let dynamic = json!({"mode": "dynamic", "codecs": ["PCMU", "PCMA"], "srtp": ["AES_CM_128_HMAC_SHA1_80"]});
    let fixed = json!({"mode": "static", "ip": house.lab.host(), "port": 24_000, "codecs": ["PCMU", "PCMA"]});

    first.call("device.open", open(dynamic.clone())).await;
    for (media, symbol) in [
        (fixed.clone(), "MEDIA_ALREADY_TERMINATED_DYNAMIC"),
        (json!({"mode": "dynamic", "codecs": ["PCMU"]}), "MEDIA_CAPABILITY_MISMATCH"),
        (json!({"mode": "dynamic", "codecs": ["PCMU", "PCMA"]}), "MEDIA_CAPABILITY_MISMATCH"),
    ] {
        assert_eq!(second.refused("device.open", open(media.clone())).await.symbol, symbol, "{media}");
    }
    // A set has no order.
    let other_order =
        json!({"mode": "dynamic", "codecs": ["PCMA", "PCMU"], "srtp": ["AES_CM_128_HMAC_SHA1_80"]});
    second.call("device.open", open(other_order)).await;
    first.call("device.close", json!({"device": "PORT_001"})).await;
    second.call("device.close", json!({"device": "PORT_001"})).await;

    first.call("device.open", open(fixed.clone())).await;
    for media in [fixed.clone(), dynamic] {
        let refused = second.refused("device.open", open(media.clone())).await;
        assert_eq!(refused.symbol, "MEDIA_ALREADY_TERMINATED_STATIC", "{media}");
    }
    drop(first);
    house.node.writes(&["CtiProviderClosed"]).await;
    second.call("device.open", open(fixed)).await;
}
