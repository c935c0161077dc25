//! What goes wrong in the process itself: a log that nobody reads, and a panic.

use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use tests::lab::agent::{Agent, Ask};
use tests::lab::app::{App, Media};
use tests::lab::node::{Config, Node, PASSWORD, digest_password};
use tests::lab::{Lab, SOON};

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn invite(call: &str) -> Ask<'_> {
    Ask { method: "INVITE", to: "5000", from: "4000", call, cseq: 1, headers: Vec::new(), body: SDP }
}

/// A pipe in the place of the node's log; nobody reads it until somebody reads what this gives.
fn stalled_log(lab: &Lab) -> File {
    let path = lab.folder("cm1").join("log");
    let made = Command::new("mkfifo").arg(&path).status().expect("coreutils are everywhere");
    assert!(made.success(), "{}", path.display());
    OpenOptions::new().read(true).write(true).open(&path).expect("it was made")
}

/// The lines of the pipe, from now on.
fn read(mut log: File) -> mpsc::Receiver<String> {
    let (lines, read) = mpsc::sync_channel(1 << 20);
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let mut bytes = [0; 65_536];
        while let Ok(count @ 1..) = log.read(&mut bytes) {
            rest.extend_from_slice(&bytes[..count]);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        }
    });
    read
}

#[tokio::test]
async fn who_does_not_read_the_log_stops_nothing_and_the_lines_lost_are_counted_and_told() {
    let lab = Lab::new("stalled-log");
    let log = stalled_log(&lab);
    let trunk = lab.address();
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .trunk("pstn", trunk)
        .parameter("max_requests_per_second", json!(100_000))
        .user("ivr", &["RP_MAIN", "PORT_001"]);
    let node = Node::start_logging(&lab, &config, Some("info")).await;
    let mut agent = Agent::at(trunk, node.sip).await;
    let mut app = App::open(&lab, &node, "ivr", "RP_MAIN", Media::Static).await;

    // Each opening and closing of a device is two lines at least; the queue of the log holds 16,384.
    let media = json!({"mode": "static", "ip": lab.host(), "port": 30_000, "codecs": ["PCMU"]});
    while lost(&node).await == 0 {
        for _ in 0..500 {
            app.cti.call("device.open", json!({"device": "PORT_001", "media": media})).await;
            app.cti.call("device.close", json!({"device": "PORT_001"})).await;
        }
    }
    let text = agent.write(&invite("heard"));
    agent.send(text.as_bytes()).await;
    let (leg, _) = app.answer().await;
    assert_eq!(agent.final_to(&invite("heard"), &text).await.status(), 200);
    app.cti.call("call.drop", json!({"leg": leg})).await;

    let lines = read(log);
    let told = || lines.recv_timeout(SOON).expect("the log goes on");
    while !told().contains("log lines were lost") {}
}

async fn lost(node: &Node) -> u64 {
    let (_, page) = node.page("/metrics").await;
    let count = page.lines().find_map(|line| line.strip_prefix("ctimanager_log_lines_lost_total "));
    count.expect("it is counted").parse().expect("a number")
}

/// A line of standard output that nobody takes must not keep the node from its signals either.
#[tokio::test]
async fn a_node_whose_outputs_nobody_reads_stops_in_order() {
    let lab = Lab::new("stalled-stop");
    let log = stalled_log(&lab);
    let config = Config::new(&lab).route_point("RP_MAIN", "5000").user("ivr", &["RP_MAIN"]);
    // At this level the pipe is full before the node is ready.
    let mut node = Node::start_logging(&lab, &config, Some("trace")).await;
    fill(&node).await;
    assert!(node.stop().await.success());
    drop(log);
}

/// More lines than a pipe takes.
async fn fill(node: &Node) {
    for _ in 0..200 {
        let _ = node.page("/livez").await;
    }
}

#[tokio::test]
async fn after_a_panic_of_the_core_the_process_ends_without_telling_secrets_and_its_next_life_goes_on() {
    let lab = Lab::new("panic");
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .phone("2001")
        .user("ivr", &["RP_MAIN", "SEP2001"])
        .parameter("persist_sessions", json!(true));
    let mut node = Node::start_program("failing_node", &lab, &config, Some("trace")).await;
    let mut phone = Agent::bind(&lab, node.sip).await;
    let register =
        Ask { method: "REGISTER", to: "", from: "2001", call: "r", cseq: 1, headers: Vec::new(), body: "" };
    assert_eq!(phone.ask_as(&register, "2001", &digest_password("2001")).await.status(), 200);
    let mut cti = node.connect().await;
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "lab", "resume_grace_ms": 30_000});
    let session = cti.call("provider.open", hello).await["session"].clone();
    let media = json!({"mode": "static", "ip": lab.host(), "port": 30_000, "codecs": ["PCMU"]});
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    cti.expect("device.in_service").await;

    let secret = "4711-is-nobodys-number";
    let fatal = Ask {
        method: "OPTIONS",
        from: secret,
        headers: vec![format!("X-Fail: {secret}"), format!("Authorization: Digest response={secret}")],
        ..register.clone()
    };
    let text = phone.write(&fatal);
    phone.send(text.as_bytes()).await;
    let ended = node.ends().await;
    assert!(!ended.success(), "the service manager must see that it failed: {ended}");
    let log = node.log();
    assert!(log.contains("panicked at") && log.contains("failing_node.rs:"), "where: {log}");
    assert!(log.contains("its words may hold data"), "{log}");
    let trace = log.split_once("panicked at").map_or("", |(_, trace)| trace);
    assert!(trace.contains("ctimanager::io::owner"), "by which calls: {trace}");
    assert!(!trace.contains(secret), "{trace}");

    // What Restart=on-failure of the unit does.
    node.start_again().await;
    let last_seq = cti.last_seq();
    let mut cti = node.connect().await;
    let resumed = cti.resume("ivr", PASSWORD, &session, last_seq).await;
    assert_eq!(resumed["resumed"], true, "{resumed}");
    let call = phone.write(&Ask { call: "after", from: "2001", cseq: 1, ..invite("after") });
    phone.send(call.as_bytes()).await;
    assert!(phone.hear().await.status() >= 100, "it is heard again");
}

#[test]
fn the_unit_starts_a_failed_node_again() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/ctimanager.service");
    let unit = std::fs::read_to_string(&unit).expect("it is beside the samples");
    let has = |line: &str| unit.lines().any(|l| l == line);
    assert!(has("Restart=on-failure") && has("StartLimitIntervalSec=0"), "{unit}");
    let seconds = unit.lines().find_map(|line| line.strip_prefix("RestartSec=")).expect("a pause");
    assert!(
        humantime::parse_duration(seconds).is_ok_and(|pause| pause < Duration::from_secs(2)),
        "{seconds}"
    );
}
