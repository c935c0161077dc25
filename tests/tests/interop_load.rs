//! A minute of load by SIPp, with an application that answers over TLS, while strangers knock and break things.

use serde_json::json;
use std::time::Duration;
use tests::lab::app::Answerer;
use tests::lab::node::{Config, Node};
use tests::lab::sipp::{self, Sipp};
use tests::lab::{Lab, SOON};
use tokio::net::UdpSocket;

const CALLS_PER_SECOND: u32 = 200;
const SECONDS: u32 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_a_second_for_a_minute_while_strangers_knock() {
    let lab = Lab::new("load");
    let trunk = lab.address();
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .number("5000", json!({"max_calls": 10_000, "busy_trigger": 10_000}))
        .phone("2001")
        .trunk("pstn", trunk)
        .parameter("max_requests_per_second", json!(5_000))
        .user("attendant", &["RP_MAIN"]);
    let mut node = Node::start(&lab, config).await;
    let mut app = Answerer::start(&lab, &node, "attendant", "RP_MAIN").await;

    let calls = u64::from(CALLS_PER_SECOND * SECONDS);
    let load = sipp::Run {
        scenario: "uac",
        to: Some(node.sip),
        number: "5000".into(),
        local: Some(trunk),
        calls,
        rate: CALLS_PER_SECOND,
        ..sipp::Run::default()
    };
    let mut load = Sipp::start(&lab, &load);
    let strangers = sipp::Run {
        scenario: "register_wrong",
        to: Some(node.sip),
        calls: u64::from(SECONDS) * 20,
        rate: 20,
        fields: vec![sipp::credentials("2001", "2001", "guess"), sipp::credentials("2999", "2999", "guess")],
        ..sipp::Run::default()
    };
    let mut strangers = Sipp::start(&lab, &strangers);
    let nonsense = tokio::spawn(throw_nonsense(lab.host(), node.sip));

    let report = load.finish(Duration::from_secs(u64::from(SECONDS) + 60)).await;
    report.all_went_well(calls);
    app.has_seen_end(calls, SOON).await;
    let tally = app.tally();
    assert_eq!((tally.offered, tally.connected, tally.refused), (calls, calls, 0));
    nonsense.abort();
    let knocked = strangers.finish(Duration::from_secs(60)).await;
    assert_eq!(knocked.failed, 0, "every knock got its refusal: {}", knocked.errors);
    node.is_quiet().await;
    node.is_well();
    eprintln!(
        "retransmissions: {} in {calls} calls; memory {} KiB",
        report.retransmissions,
        node.memory_kib()
    );
}

/// A broken datagram every ten milliseconds.
async fn throw_nonsense(from: std::net::IpAddr, node: std::net::SocketAddr) {
    let socket = UdpSocket::bind((from, 0)).await.expect("a free port");
    let broken: [&[u8]; 5] = [
        b"\0\0\0\0",
        b"INVITE",
        b"INVITE sip:5000@x SIP/2.0\r\nVia: nonsense\r\n\r\n",
        b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ];
    let mut clock = tokio::time::interval(Duration::from_millis(10));
    for bytes in broken.iter().cycle() {
        clock.tick().await;
        // Nobody listens for what becomes of it.
        let _ = socket.send_to(bytes, node).await;
    }
}
