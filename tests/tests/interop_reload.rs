//! Ten thousand devices change in one reload after another while calls come and go and an application with the usual
//! bounds has all of them open: no call fails, the application hears of each device once and is not too slow for it.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tests::lab::agent::{Agent, Ask};
use tests::lab::app::Answerer;
use tests::lab::cti::{Cti, Message};
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, SOON};
use tokio::sync::watch;
use tokio::time::Instant;

const DEVICES: u64 = 10_000;
/// Requests on their way at once while the devices are opened.
const AT_ONCE: u64 = 200;
/// The application reads so many events a millisecond, far fewer than the node could tell.
const READ_A_TICK: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(60);
const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8\r\n";

fn ports(description: &str, allow: bool) -> Value {
    json!({
        "name": "PORT_[00001-10000]", "type": "cti_port", "pool": "Default", "lines": ["[600001-610000]"],
        "description": description, "allow_cti_control": allow,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ten_thousand_devices_change_while_calls_come_and_an_application_has_them_open() {
    let lab = Lab::new("mass");
    let trunk = lab.address();
    let base = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .trunk("pstn", trunk)
        .parameter("max_requests_per_second", json!(20_000))
        .parameter("max_devices_per_provider", json!(20_000))
        .user("attendant", &["RP_MAIN"])
        .user("operator", &["PORT_*"]);
    let full = base.clone().add("devices", ports("one", true));
    let mut node = Node::start(&lab, full.clone()).await;
    let answerer = Answerer::start(&lab, &node, "attendant", "RP_MAIN").await;
    let mut operator = node.application("operator").await;
    open_all(&mut operator, &lab).await;
    let (told, mut heard) = watch::channel(HashMap::new());
    let reading = tokio::spawn(read(operator, told));
    let (stop, stopped) = watch::channel(false);
    let calling = tokio::spawn(call(Agent::at(trunk, node.sip).await, stopped));

    for (what, config, events) in [
        ("described anew", base.clone().add("devices", ports("two", true)), &[][..]),
        (
            "restricted",
            base.clone().add("devices", ports("two", false)),
            &["device.restricted", "device.out_of_service"],
        ),
        ("unrestricted", full, &["device.unrestricted", "device.in_service"]),
        ("removed", base, &["device.closed", "device.removed"]),
    ] {
        let begin = Instant::now();
        node.reloads(&config);
        let taken = begin.elapsed();
        for kind in events {
            let all = |told: &HashMap<String, u64>| told.get(*kind).is_some_and(|count| *count >= DEVICES);
            let seen = matches!(tokio::time::timeout(PATIENCE, heard.wait_for(all)).await, Ok(Ok(_)));
            assert!(seen, "{what}: not all were told {kind}: {:?}", heard.borrow());
        }
        eprintln!("{what}: `reload` took {taken:?}, all was told after {:?}", begin.elapsed());
    }
    let _ = stop.send(true);
    let (calls, longest) = calling.await.expect("every call was answered and ended");
    eprintln!("{calls} calls; the longest from INVITE to 100 was {longest:?}");
    assert!(calls > 20, "{calls} calls");
    let tally = answerer.tally();
    assert_eq!((tally.offered, tally.refused), (calls, 0));
    reading.abort();
    let counts = heard.borrow().clone();
    for kind in ["restricted", "out_of_service", "unrestricted", "closed", "removed"] {
        assert_eq!(counts.get(&format!("device.{kind}")), Some(&DEVICES), "{kind} in {counts:?}");
    }
    node.is_quiet().await;
    node.is_well();
}

async fn open_all(cti: &mut Cti, lab: &Lab) {
    let media = json!({"mode": "static", "ip": lab.host(), "port": 30_000, "codecs": ["PCMU"]});
    for first in (1..=DEVICES).step_by(usize::try_from(AT_ONCE).expect("small")) {
        let mut asked = Vec::new();
        for port in first..first + AT_ONCE {
            asked.push(
                cti.send("device.open", json!({"device": format!("PORT_{port:05}"), "media": media})).await,
            );
        }
        for id in asked {
            cti.reply(id, PATIENCE).await.expect("each can be opened");
        }
        while cti.take_kept().is_some() {}
    }
}

/// Counts events by their type, until the connection closes.
async fn read(mut cti: Cti, told: watch::Sender<HashMap<String, u64>>) {
    let (mut read, mut clock) = (0_u64, tokio::time::interval(Duration::from_millis(1)));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        match cti.next(Duration::from_secs(1)).await {
            Some(Message::Event(event)) => {
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                told.send_modify(|told| *told.entry(kind).or_insert(0) += 1);
                read += 1;
                if read.is_multiple_of(READ_A_TICK) {
                    clock.tick().await;
                }
                if !read.is_multiple_of(1_000) {
                    continue;
                }
            }
            Some(Message::Reply(..)) => continue,
            Some(Message::Closed) => return,
            None => {}
        }
        cti.send("provider.heartbeat", json!({})).await;
    }
}

/// Calls again and again until it is told to stop: how many calls, and how long the slowest waited for its 100.
async fn call(mut caller: Agent, stop: watch::Receiver<bool>) -> (u64, Duration) {
    let (mut calls, mut longest) = (0, Duration::ZERO);
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    while !*stop.borrow() {
        clock.tick().await;
        calls += 1;
        let name = format!("mass{calls}");
        let (headers, body) = (Vec::new(), SDP);
        let ask = Ask { method: "INVITE", to: "5000", from: "pstn", call: &name, cseq: 1, headers, body };
        let text = caller.write(&ask);
        let begin = Instant::now();
        caller.send(text.as_bytes()).await;
        let mut trying = None;
        let answer = loop {
            let heard = caller.hear().await;
            if heard.header("Call-ID").is_none_or(|id| !id.starts_with(&format!("{name}@"))) {
                continue;
            }
            match heard.status() {
                100..=199 => drop(trying.get_or_insert_with(|| begin.elapsed())),
                200 => break heard,
                _ => panic!("call {calls} was not answered: {}", heard.0),
            }
        };
        longest = longest.max(trying.unwrap_or_else(|| begin.elapsed()));
        let to = answer.header("To").expect("a response has a To").to_owned();
        for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
            let ask =
                Ask { method, to: "5000", from: "pstn", call: &name, cseq, headers: Vec::new(), body: "" };
            let text = caller.write(&ask);
            let line = text.lines().find(|line| line.starts_with("To: ")).expect("a request has a To");
            caller.send(text.replacen(line, &format!("To: {to}"), 1).as_bytes()).await;
        }
        let ended = async {
            loop {
                let heard = caller.hear().await;
                if heard.status() == 200 && heard.header("CSeq") == Some("2 BYE") {
                    return;
                }
            }
        };
        assert!(tokio::time::timeout(SOON, ended).await.is_ok(), "call {calls} did not end");
    }
    (calls, longest)
}
