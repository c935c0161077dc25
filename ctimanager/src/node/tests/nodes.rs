//! Other nodes: what is heard of them becomes alarms and answers, and a node that is alone hears nothing.

use super::world::{CONFIG, settings};
use crate::node::{
    AdminRequest, AdminToken, Input, Node, NodesInput, NodesOutput, Output, Report, Settings, Switch,
};
use cluster::message::{Facts, Heard};
use cluster::{Heartbeat, Life, LinkId, Mode};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const LINK: LinkId = LinkId(1);
const STEP: Duration = Duration::from_millis(100);

/// The node cm1 of three, and what it said last.
struct Trio {
    node: Node,
    settings: Arc<Settings>,
    now: Instant,
    wall: SystemTime,
    out: Vec<Output>,
    seq: u64,
    /// Its last heartbeat.
    heard: Option<Arc<Heartbeat>>,
}

impl Trio {
    /// The configuration of three nodes.
    fn config() -> String {
        let node = |name: &str, last: u8| {
            format!(
                "{{name: {name}, host: 127.0.0.{last}, sip: {{udp: 5060}}, cti: {{tls: 2749}}, cluster: 7650}}"
            )
        };
        let nodes = [node("cm1", 1), node("cm2", 2), node("cm3", 3)].join(", ");
        let alone = CONFIG.lines().find(|line| line.starts_with("nodes:")).expect("it has one");
        CONFIG.replace(alone, &format!("nodes: [{nodes}]"))
    }

    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    fn new() -> Self {
        let settings = Arc::new(settings(&Self::config()));
        let node = Node::new(Arc::clone(&settings), [7; 32], 5);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut trio =
            Self { node, settings, now: Instant::now(), wall, out: Vec::new(), seq: 0, heard: None };
        trio.take(Input::Nodes(NodesInput::Link(cluster::Input::Opened { link: LINK, node: "cm2".into() })));
        trio
    }

    fn take(&mut self, input: Input) {
        self.node.handle(self.now, self.wall, input, &mut self.out);
        for output in &self.out {
            if let Output::Nodes(NodesOutput::Send(_, heartbeat)) = output {
                self.heard = Some(Arc::clone(heartbeat));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.now += STEP;
            self.wall += STEP;
            if self.node.next_timeout().is_some_and(|due| due <= self.now) {
                self.take(Input::Timeout);
            }
        }
    }

    /// cm2 has heard what we said last, and says this of others.
    fn hears(&mut self, incarnation: u32, mut of_others: Vec<Heard>) {
        self.seq += 1;
        let last = self.heard.clone().expect("it has spoken");
        of_others.push(Heard {
            node: last.node.clone(),
            life: last.life,
            seq: last.seq,
            direct: Some(last.seq),
            facts: last.facts.clone(),
        });
        let facts = Facts { mode: Mode::Running, settled: true, duplicate: false, revision: "r2".into() };
        let life = Life { started_ms: u64::from(incarnation), life: 1, incarnation };
        let heartbeat = Heartbeat { node: "cm2".into(), life, seq: self.seq, facts, heard: of_others };
        self.take(Input::Nodes(NodesInput::Link(cluster::Input::Received(LINK, Box::new(heartbeat)))));
    }

    fn ask(&mut self, request: AdminRequest) -> Value {
        self.out.clear();
        self.take(Input::Admin(AdminToken(1), request));
        let answer = self.out.drain(..).find_map(|output| match output {
            Output::Admin(_, answer) => answer.ok(),
            _ => None,
        });
        answer.expect("an answer")
    }

    /// What was reported since it was asked last: name, state, node.
    fn reports(&mut self) -> Vec<String> {
        let of = |report: &Report, key: &str| {
            let found = report.parameters.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let reports = self.out.drain(..).filter_map(|output| match output {
            Output::Report(report) => Some(report),
            _ => None,
        });
        reports.map(|r| format!("{} {} {}", r.name, of(&r, "node"), of(&r, "state"))).collect()
    }
}

#[test]
fn nodes_are_listed_in_the_order_of_the_file_and_raise_and_clear_alarms() {
    let mut trio = Trio::new();
    trio.hears(3, Vec::new());
    assert_eq!(trio.reports(), ["NodeStateChanged cm2 running"]);
    let nodes = trio.ask(AdminRequest::Nodes);
    let own = &nodes[0];
    let keys = ["node", "state", "link", "incarnation"];
    let row = |row: &Value| keys.map(|key| row[key].clone());
    assert_eq!(row(own), [json!("cm1"), json!("running"), json!("self"), json!(5)]);
    assert_eq!(own["services"], json!(["callmanager", "ctimanager"]));
    assert!(own["revision"].as_str().is_some_and(|revision| revision.len() == 12), "{own}");
    assert_eq!(row(&nodes[1]), [json!("cm2"), json!("running"), json!("up"), json!(3)]);
    assert_eq!((&nodes[1]["revision"], &nodes[1]["since"]), (&json!("r2"), &own["since"]));
    assert_eq!(row(&nodes[2]), [json!("cm3"), json!("unknown"), json!("down"), Value::Null]);
    let status = trio.ask(AdminRequest::Status);
    assert_eq!(status["nodes"], json!({"running": 2, "down": 0}));
    assert_eq!((&status["incarnation"], &status["revision_source"]), (&json!(5), &json!("file")));

    trio.pass(Duration::from_secs(3));
    let told = trio.reports();
    for expected in [
        "NodeStateChanged cm2 down",
        "SDLLinkOOS cm2 raised",
        "ServerDown cm2 raised",
        "SDLLinkOOS cm3 raised",
    ] {
        assert!(told.iter().any(|line| line == expected), "{expected}: {told:?}");
    }
    assert!(!told.iter().any(|line| line.starts_with("ServerDown cm3")), "nobody has seen it: {told:?}");
    assert_eq!(trio.ask(AdminRequest::Status)["nodes"], json!({"running": 1, "down": 1}));
    let metrics = trio.ask(AdminRequest::Metrics);
    assert_eq!(metrics["nodes_by_state"]["unknown"], json!(1));

    trio.hears(4, Vec::new());
    assert_eq!(
        trio.reports(),
        ["NodeStateChanged cm2 running", "SDLLinkOOS cm2 cleared", "ServerDown cm2 cleared"]
    );
    assert_eq!(trio.ask(AdminRequest::Nodes)[1]["incarnation"], json!(4));
}

#[test]
fn what_this_node_does_is_said_to_the_others_at_once() {
    let mut trio = Trio::new();
    trio.ask(AdminRequest::Drain);
    trio.take(Input::Timeout);
    assert_eq!(trio.heard.as_ref().map(|heartbeat| heartbeat.facts.mode), Some(Mode::Draining));
    assert_eq!(trio.ask(AdminRequest::Nodes)[0]["state"], json!("draining"));
}

#[test]
fn after_a_reload_the_others_hear_of_another_revision_and_wait_as_long_as_it_says() {
    let mut trio = Trio::new();
    trio.hears(3, Vec::new());
    let before = trio.heard.clone().expect("it has spoken").facts.revision.clone();
    let later = "service_parameters: {node_failure_timeout: 30s}\ncluster:";
    let after = Arc::new(settings(&Trio::config().replacen("cluster:", later, 1)));
    let switch = Box::new(Switch::between(&trio.settings, after));
    trio.take(Input::Configure(switch));
    trio.take(Input::Timeout);
    assert_ne!(trio.heard.as_ref().map(|heartbeat| &heartbeat.facts.revision), Some(&before));
    trio.pass(Duration::from_secs(20));
    assert_eq!(
        trio.ask(AdminRequest::Nodes)[1]["state"],
        json!("running"),
        "twenty seconds are not enough now"
    );
    trio.pass(Duration::from_secs(40));
    assert_eq!(trio.ask(AdminRequest::Nodes)[1]["state"], json!("down"));
}

#[test]
fn another_process_of_this_node_makes_it_end_without_a_goodbye() {
    let mut trio = Trio::new();
    let rival = Life { started_ms: 1, life: 2, incarnation: 5 };
    let facts = Facts { mode: Mode::Running, settled: true, duplicate: false, revision: "r2".into() };
    for seq in 1..40 {
        trio.pass(STEP);
        trio.hears(
            3,
            vec![Heard { node: "cm1".into(), life: rival, seq, direct: Some(seq), facts: facts.clone() }],
        );
    }
    assert!(trio.out.iter().any(|output| matches!(output, Output::Nodes(NodesOutput::Yield))));
    let told = trio.reports();
    assert!(told.iter().any(|line| line == "DuplicateNode cm1 raised"), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("NodeYields cm1")), "{told:?}");
}

#[test]
fn refused_peers_are_told_of_once_a_second() {
    let mut trio = Trio::new();
    trio.out.clear();
    let address: IpAddr = "192.0.2.9".parse().expect("an address");
    for _ in 0..50 {
        trio.take(Input::Nodes(NodesInput::Refused { address, reason: "not_a_node" }));
    }
    let refused = |told: &[String]| told.iter().filter(|line| line.starts_with("ClusterPeerRefused")).count();
    assert_eq!(refused(&trio.reports()), 1);
    trio.pass(Duration::from_secs(1));
    trio.take(Input::Nodes(NodesInput::Refused { address, reason: "no_tls" }));
    let alarms = trio.ask(AdminRequest::Alarms);
    let parameters: Vec<&Value> =
        alarms.as_array().into_iter().flatten().map(|alarm| &alarm["parameters"]).collect();
    assert!(
        parameters.contains(&&json!({"address": "192.0.2.9", "reason": "no_tls", "untold": "49"})),
        "{alarms}"
    );
}

#[test]
#[allow(clippy::disallowed_methods, reason = "any moment will do")]
fn a_node_that_is_alone_hears_nothing_and_says_nothing() {
    let mut node = Node::new(Arc::new(settings(CONFIG)), [7; 32], 5);
    let mut out = Vec::new();
    node.handle(Instant::now(), SystemTime::UNIX_EPOCH, Input::Timeout, &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::Nodes(_))), "{out:?}");
    assert_eq!(node.next_timeout(), None, "it waits for nothing");
}
