//! An application whose TLS connection breaks again and again under load: it comes back and has missed nothing.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::cti::{Cti, Message, leg_of};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::sipp::{Run, Sipp};
use tests::lab::{Lab, SOON};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CALLS: u64 = 120;

/// Passes connections on, and breaks each after so many bytes of the node's: 701, 1402, … up to 20,000 and again.
async fn brittle_wire(lab: &Lab, node: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::new(lab.host(), 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        // The handshake alone takes some 2,000 bytes.
        let mut budget = 6_000;
        while let Ok((application, _)) = listener.accept().await {
            budget = 6_000 + (budget - 6_000 + 701) % 20_000;
            tokio::spawn(pass(application, node, budget));
        }
    });
    address
}

async fn pass(application: TcpStream, node: SocketAddr, mut budget: usize) {
    let Ok(node) = TcpStream::connect(node).await else { return };
    let (mut from_application, mut to_application) = application.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_application, &mut to_node).await });
    let mut buffer = [0; 2048];
    while budget > 0 {
        let most = budget.min(buffer.len());
        match from_node.read(&mut buffer[..most]).await {
            Ok(read @ 1..) if to_application.write_all(&buffer[..read]).await.is_ok() => budget -= read,
            Ok(_) | Err(_) => break,
        }
    }
    up.abort();
}

/// What the application knows across its connections.
#[derive(Default)]
struct Ledger {
    offered: BTreeSet<String>,
    connected: BTreeSet<String>,
    ended: BTreeSet<String>,
    events: u64,
}

impl Ledger {
    fn note(&mut self, event: &Value) {
        self.events += u64::from(event["seq"].is_u64());
        let leg = leg_of(event).as_str().unwrap_or_default().to_owned();
        match event["type"].as_str() {
            Some("call.offering") => assert!(self.offered.insert(leg), "offered twice: {event}"),
            Some("call.connected") => drop(self.connected.insert(leg)),
            Some("call.disconnected") => assert!(self.ended.insert(leg), "ended twice: {event}"),
            _ => {}
        }
    }
}

/// Answers calls until the connection breaks or all calls have ended. Events are numbered without gaps: the client
/// looks at each.
async fn serve(cti: &mut Cti, ledger: &mut Ledger) {
    while (ledger.ended.len() as u64) < CALLS {
        match cti.next(Duration::from_secs(3)).await {
            Some(Message::Event(event)) => {
                ledger.note(&event);
                let leg = leg_of(&event);
                match event["type"].as_str() {
                    Some("call.offering") => {
                        let key = format!("answer {leg}");
                        cti.send("call.answer", json!({"leg": leg, "idem": key})).await;
                    }
                    Some("call.connected") => {
                        let key = format!("drop {leg}");
                        cti.send("call.drop", json!({"leg": leg, "idem": key})).await;
                    }
                    _ => {}
                }
            }
            Some(Message::Reply(..)) => {}
            None => {
                cti.send("provider.heartbeat", json!({})).await;
            }
            Some(Message::Closed) => return,
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_loses_nothing() {
    let lab = Lab::new("brittle");
    let trunk = lab.address();
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .number("5000", json!({"max_calls": 500, "busy_trigger": 500}))
        .trunk("pstn", trunk)
        .user("ivr", &["RP_MAIN"]);
    let mut node = Node::start(&lab, config).await;
    let wire = brittle_wire(&lab, node.cti).await;

    // The first connection is a steady one, so that the devices are open before anything breaks.
    let mut cti = node.connect().await;
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "lab", "resume_grace_ms": 30_000});
    let session = cti.call("provider.open", hello).await["session"].clone();
    let media = json!({"mode": "static", "ip": lab.host(), "port": 30_000, "codecs": ["PCMU"]});
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    let mut ledger = Ledger::default();

    let run = Run {
        scenario: "uac_hangs_on",
        to: Some(node.sip),
        number: "5000".into(),
        local: Some(trunk),
        calls: CALLS,
        rate: 20,
        media_ports: 40,
        keys: vec![("TALK_MS", "20000".into()), ("ANSWER_MS", "20000".into())],
        ..Run::default()
    };
    let mut calls = Sipp::start(&lab, &run);
    let mut breaks = 0;
    // Half of a broken connection may still arrive: what was read counts, and nothing else.
    while (ledger.ended.len() as u64) < CALLS {
        let last_seq = cti.last_seq();
        drop(cti);
        breaks += 1;
        cti = Cti::tls(wire, &node.ca()).await;
        let opened = cti.resume("ivr", PASSWORD, &session, last_seq).await;
        assert_eq!(
            (&opened["resumed"], &opened["next_seq"]),
            (&json!(true), &json!(last_seq + 1)),
            "{opened}"
        );
        answer_again(&mut cti, &ledger).await;
        serve(&mut cti, &mut ledger).await;
    }
    calls.finish(SOON).await.all_went_well(CALLS);
    assert_eq!(ledger.offered.len() as u64, CALLS);
    assert!(breaks > 10, "the wire broke {breaks} times only");
    node.is_quiet().await;
    node.is_well();
}

/// A request whose answer was lost is made again under its key; one that arrived is not carried out twice.
async fn answer_again(cti: &mut Cti, ledger: &Ledger) {
    for leg in ledger.offered.difference(&ledger.ended) {
        let done = ledger.connected.contains(leg);
        let (method, what) = if done { ("call.drop", "drop") } else { ("call.answer", "answer") };
        let leg = json!(leg);
        let key = format!("{what} {leg}");
        cti.send(method, json!({"leg": leg, "idem": key})).await;
    }
}
