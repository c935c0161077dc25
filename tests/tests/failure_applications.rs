//! Applications as processes that die, freeze, leave, or lose their network: what becomes of their calls, and when.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::process::Process;
use tests::lab::sipp::{Run, Sipp};
use tests::lab::{Lab, SOON, eventually};
use tokio::time::Instant;

/// Two silent intervals of one second, and what it takes to look.
const HEARTBEAT_BOUND: Duration = Duration::from_millis(3_500);

/// A desk at 5000 whose calls go to 9009, behind a trunk, when it fails; callers from two trunks.
struct Office {
    lab: Lab,
    node: Node,
    callers: [SocketAddr; 2],
    away: SocketAddr,
}

impl Office {
    async fn open(test: &str) -> Office {
        let lab = Lab::new(test);
        let (callers, away) = ([lab.address(), lab.address()], lab.address());
        let config = Config::new(&lab)
            .route_point("RP_MAIN", "5000")
            .number("5000", json!({"max_calls": 50, "busy_trigger": 50, "forward": {"on_failure": "9009"}}))
            .trunk("first", callers[0])
            .trunk("second", callers[1])
            .trunk("away", away)
            .pattern("9XXX", "away")
            .user("desk", &["RP_MAIN"])
            .parameter("application_heartbeat_minimum_interval", json!("1s"))
            .parameter("cti_new_call_accept_timer", json!("30s"));
        let node = Node::start(&lab, config).await;
        Office { lab, node, callers, away }
    }

    /// A desk that answers so many calls, as a process of its own.
    async fn desk(&self, name: &str, places: u32, prefix: &[&str]) -> Process {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/desk.py");
        let mut words = prefix.to_vec();
        words.push("python3");
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(script).arg(self.node.cti.to_string()).arg(self.node.ca());
        command.args(["desk", "RP_MAIN", &places.to_string()]).env("CTI_PASSWORD", PASSWORD);
        let mut desk = Process::start(name, command, &self.lab.folder(name).join("log"));
        desk.wait_for_log("device.open ok", SOON).await;
        desk
    }

    fn calls(&self, scenario: &'static str, from: SocketAddr, calls: u64) -> Sipp {
        let run = Run {
            scenario,
            to: Some(self.node.sip),
            number: "5000".into(),
            local: Some(from),
            calls,
            rate: 20,
            media_ports: 40,
            keys: vec![("TALK_MS", "20000".into()), ("ANSWER_MS", "20000".into())],
            ..Run::default()
        };
        Sipp::start(&self.lab, &run)
    }

    /// Callers who talk for half a second once they are answered.
    fn short_calls(&self, from: SocketAddr, calls: u64) -> Sipp {
        let run = Run {
            scenario: "uac",
            to: Some(self.node.sip),
            number: "5000".into(),
            local: Some(from),
            calls,
            rate: 20,
            media_ports: 40,
            keys: vec![("ANSWER_MS", "20000".into())],
            ..Run::default()
        };
        Sipp::start(&self.lab, &run)
    }

    /// Whoever is called at 9009 answers.
    fn operators(&self, calls: u64) -> Sipp {
        let run = Run { scenario: "uas", local: Some(self.away), calls, media_ports: 40, ..Run::default() };
        Sipp::start(&self.lab, &run)
    }

    /// Waits until so many legs of the desk are in this state.
    async fn until(&self, state: &str, count: usize) {
        eventually(&format!("{count} calls are {state}"), SOON, async || {
            let calls = self.node.admin("calls");
            let legs =
                calls.as_array().into_iter().flatten().flat_map(|call| call["legs"].as_array()).flatten();
            let at_desk = |leg: &&Value| leg["device"] == "RP_MAIN" && leg["state"] == state;
            (legs.filter(at_desk).count() == count).then_some(())
        })
        .await;
    }

    async fn until_reported(&self, what: &str) {
        eventually(what, HEARTBEAT_BOUND + SOON, async || self.node.log().contains(what).then_some(())).await;
    }
}

#[tokio::test]
async fn a_killed_attendant_with_five_calls_ringing_and_five_connected() {
    let mut office = Office::open("killed-desk").await;
    let mut desk = office.desk("desk", 5, &[]).await;
    let mut operators = office.operators(5);
    let mut connected = office.calls("uac_cleared", office.callers[0], 5);
    office.until("connected", 5).await;
    let mut ringing = office.short_calls(office.callers[1], 5);
    office.until("ringing", 5).await;

    let killed = Instant::now();
    desk.kill();
    // Cleared with cause 41: the scenario looks at each BYE.
    connected.finish(SOON).await.all_went_well(5);
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    ringing.finish(SOON).await.all_went_well(5);
    operators.finish(SOON).await.all_went_well(5);
    office.node.is_quiet().await;
    assert_eq!(office.node.admin("status")["open_devices"], 0);

    let restarted = Instant::now();
    let _desk = office.desk("desk-again", 1, &[]).await;
    let _call = office.calls("uac_hangs_on", office.callers[0], 1);
    office.until("connected", 1).await;
    assert!(restarted.elapsed() < HEARTBEAT_BOUND, "{:?}", restarted.elapsed());
    office.node.is_well();
}

#[tokio::test]
async fn a_frozen_attendant_is_found_out_by_its_heartbeat() {
    let mut office = Office::open("frozen-desk").await;
    let mut desk = office.desk("desk", 1, &[]).await;
    let mut operators = office.operators(2);
    let mut connected = office.calls("uac_cleared", office.callers[0], 1);
    office.until("connected", 1).await;
    let mut ringing = office.short_calls(office.callers[1], 2);
    office.until("ringing", 2).await;

    desk.signal("STOP");
    let frozen = Instant::now();
    office.until_reported("CtiProviderCloseHeartbeatTimeout").await;
    let found = frozen.elapsed();
    assert!((1_000..3_500).contains(&found.as_millis()), "two silent seconds, it took {found:?}");
    connected.finish(SOON).await.all_went_well(1);
    ringing.finish(SOON).await.all_went_well(2);
    operators.finish(SOON).await.all_went_well(2);
    office.node.is_quiet().await;
    desk.signal("CONT");
    office.node.is_well();
}

/// A link of an own network namespace that can be pulled; taken down when it is dropped.
struct Cable {
    namespace: String,
    host: String,
}

impl Cable {
    fn plug(number: u32) -> Cable {
        let (namespace, host) = (format!("ctilab{number}"), format!("ctilab{number}h"));
        let inside = format!("ctilab{number}n");
        let cable = Cable { namespace, host };
        let (ns, host) = (&cable.namespace, &cable.host);
        let net = number % 250;
        for words in [
            format!("netns add {ns}"),
            format!("link add {host} type veth peer name {inside} netns {ns}"),
            format!("addr add 10.79.{net}.1/30 dev {host}"),
            format!("link set {host} up"),
            format!("-n {ns} addr add 10.79.{net}.2/30 dev {inside}"),
            format!("-n {ns} link set {inside} up"),
            format!("-n {ns} route add default via 10.79.{net}.1"),
        ] {
            ip(&words);
        }
        cable
    }

    fn pull(&self) {
        ip(&format!("link set {} down", self.host));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The link goes with its namespace.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
    }
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is there");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether this machine lets us make a network namespace.
fn may_plug_cables() -> bool {
    let probe = format!("ctilabprobe{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &probe]).output();
    let made = made.is_ok_and(|output| output.status.success());
    if made {
        ip(&format!("netns del {probe}"));
    }
    made
}

#[tokio::test]
async fn an_attendant_whose_cable_is_pulled_is_found_out_by_its_heartbeat() {
    if !may_plug_cables() {
        eprintln!("skipped: without the right to make network namespaces there is no cable to pull");
        return;
    }
    let mut office = Office::open("pulled-cable").await;
    let cable = Cable::plug(std::process::id());
    let inside = ["ip", "netns", "exec", &cable.namespace];
    let _desk = office.desk("desk", 1, &inside).await;
    let mut operators = office.operators(1);
    let mut connected = office.calls("uac_cleared", office.callers[0], 1);
    office.until("connected", 1).await;
    let mut ringing = office.short_calls(office.callers[1], 1);
    office.until("ringing", 1).await;

    cable.pull();
    let pulled = Instant::now();
    office.until_reported("CtiProviderCloseHeartbeatTimeout").await;
    let found = pulled.elapsed();
    assert!((1_000..3_500).contains(&found.as_millis()), "two silent seconds, it took {found:?}");
    connected.finish(SOON).await.all_went_well(1);
    ringing.finish(SOON).await.all_went_well(1);
    operators.finish(SOON).await.all_went_well(1);
    office.node.is_quiet().await;
    office.node.is_well();
}
