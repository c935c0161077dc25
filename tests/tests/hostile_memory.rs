//! What is left of attacks at a real node: each kind in turn, again and again; after each all counts are what they were, and
//! in the end the memory grows no more.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::agent::{Agent, Ask};
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node, PASSWORD, digest_password};
use tests::lab::trunk::Trunk;
use tests::lab::{Lab, SOON, eventually};
use tokio::net::TcpStream;

/// How often each kind is tried at least, and at most.
const TIMES: std::ops::RangeInclusive<usize> = 3..=12;
/// An allocator keeps some of what it was given back, more of it with each of the first times. What leaks grows each time by
/// the same: there must be a time, the third or a later one, after which the node is not larger by this. It is less than
/// 350 bytes for each connection, 1,100 for each INVITE or call, 53 for each request of a stranger.
const REST_KIB: u64 = 256;
/// How long an INVITE is kept whose refusal nobody acknowledges (RFC 3261, timer H), and a busy machine's delay.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// What of `status` says how much is held.
const HELD: [&str; 10] = [
    "calls",
    "legs",
    "open_devices",
    "sessions",
    "unopened_connections",
    "sip_transactions",
    "sip_transaction_bytes",
    "sip_calls",
    "registered_contacts",
    "sip_subscriptions",
];

struct House {
    node: Node,
    phone: Agent,
    trunk: Trunk,
    lab: Lab,
}

async fn house() -> House {
    let lab = Lab::new("memory");
    let callers = lab.address();
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .phone("2001")
        .trunk("pstn", callers)
        .user("greedy", &["RP_MAIN"])
        .parameter("session_resume_grace_maximum", json!("600s"))
        .parameter("max_sip_messages_per_second_per_phone", json!(100_000))
        .parameter("max_new_connections_per_second_per_address", json!(1_000_000))
        .parameter("max_calls_per_second_per_line", json!(10_000))
        .parameter("max_calls_per_second_per_trunk", json!(10_000))
        .parameter("max_calls_per_second_per_device", json!(10_000));
    let node = Node::start(&lab, config).await;
    let trunk = Trunk::at(callers, node.sip).await;
    let mut phone = Agent::bind(&lab, node.sip).await;
    phone.repeats = true;
    let register =
        Ask { method: "REGISTER", to: "", from: "2001", call: "r", cseq: 1, headers: vec![], body: "" };
    assert_eq!(phone.ask_as(&register, "2001", &digest_password("2001")).await.status(), 200);
    House { node, phone, trunk, lab }
}

fn held(node: &Node) -> Value {
    let status = node.admin("status");
    HELD.iter().map(|key| ((*key).to_owned(), status[*key].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// A phone's INVITEs of 14 KiB each, whose refusals it acknowledges or not.
async fn heavy_invites(house: &mut House, time: usize, acknowledged: bool) {
    // Refusals that were repeated for want of an ACK fill its socket, and are of no interest.
    house.phone.forget_all();
    let padding = format!("X-Padding: {}", "x".repeat(14_000));
    for number in 0..250 {
        let name = format!("heavy{time}n{number}");
        let ask = Ask {
            method: "INVITE",
            to: "7777",
            from: "2001",
            call: &name,
            cseq: 1,
            headers: vec![padding.clone()],
            body: "",
        };
        let challenge = house.phone.ask(&ask).await;
        let signed = house.phone.signed(&ask, &challenge, "2001", &digest_password("2001"));
        let text = house.phone.write(&signed);
        house.phone.send(text.as_bytes()).await;
        if acknowledged {
            assert_eq!(house.phone.final_to(&signed, &text).await.status(), 404);
        }
    }
    let bytes = house.node.admin("status")["sip_transaction_bytes"].as_u64().unwrap_or(0);
    assert!(bytes > 100_000, "it was felt: {bytes} bytes");
}

async fn connections(house: &mut House) {
    let mut all = Vec::new();
    let node = &house.node;
    for at in [node.sip, node.sips, node.cti, node.cti_plain, node.web] {
        for _ in 0..150 {
            all.push(connected(at).await);
        }
    }
    eventually("it was felt", SOON, async || (node.open_files() > 400).then_some(())).await;
}

async fn connected(at: SocketAddr) -> TcpStream {
    TcpStream::connect(at).await.unwrap_or_else(|error| panic!("{at}: {error}"))
}

/// Sessions that are left with a log of what they heard, and a time to come back within which nobody does.
async fn sessions(house: &mut House) {
    let mut all = Vec::new();
    for _ in 0..30 {
        let mut cti = Cti::plain(house.node.cti_plain).await;
        let open =
            json!({"user": "greedy", "password": PASSWORD, "application": "x", "resume_grace_ms": 2_000});
        cti.call("provider.open", open).await;
        cti.call("device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}})).await;
        all.push(cti);
    }
    for _ in 0..100 {
        let caller = house.trunk.call("5000").await;
        let offered = all[0].expect("call.offering").await;
        all[0].call("call.reject", json!({"leg": offered["leg"]["leg"], "cause": 21})).await;
        caller.is_over().await;
    }
    drop(all);
    assert!(house.node.admin("status")["sessions"].as_u64() > Some(10), "it was felt");
}

/// Calls that are all answered before the first one ends.
async fn dialogs(house: &mut House) {
    let mut cti = Cti::plain(house.node.cti_plain).await;
    cti.open("greedy", PASSWORD).await;
    let media =
        json!({"mode": "static", "ip": house.lab.host(), "port": house.lab.port(), "codecs": ["PCMU"]});
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    let mut callers = Vec::new();
    for _ in 0..100 {
        let caller = house.trunk.call("5000").await;
        let offered = cti.expect("call.offering").await;
        cti.call("call.answer", json!({"leg": offered["leg"]["leg"]})).await;
        caller.is_answered().await;
        callers.push(caller);
    }
    assert!(house.node.admin("status")["sip_calls"].as_u64() >= Some(100), "it was felt");
    for caller in &callers {
        caller.hang_up().await;
        caller.is_over().await;
    }
    cti.call("provider.close", json!({})).await;
}

/// Requests of a host without credentials, each with a Via of its own.
async fn strangers(house: &mut House, time: usize) {
    let stranger = Agent::bind(&house.lab, house.node.sip).await;
    let before = house.node.admin("status")["sip_transactions"].as_u64();
    for number in 0..5_000 {
        let text = format!(
            "INVITE sip:5000@{node} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{time}-{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:2001@{node}>;tag={number}\r\nTo: <sip:5000@{node}>\r\n\
             Call-ID: stranger{time}n{number}\r\nCSeq: 1 INVITE\r\nX-Padding: {padding}\r\n\
             Content-Length: 0\r\n\r\n",
            node = house.node.sip,
            padding = "x".repeat(1_000),
        );
        stranger.send(text.as_bytes()).await;
    }
    let now = house.node.admin("status")["sip_transactions"].as_u64();
    assert!(now <= before, "nothing is kept for who has not said who he is: {before:?}, {now:?}");
}

/// Nothing more is held than before; how large the node is then. Transactions linger for their timers, which is waited for
/// where it is asked for.
async fn is_back(house: &House, what: &str, before: &Value, files: usize, wholly: bool) -> u64 {
    let is_back = |now: &Value, key: &str| {
        let lingers = key.starts_with("sip_transaction") && !wholly;
        lingers || now[key].as_u64() <= before[key].as_u64()
    };
    eventually(format!("after {what} no more is held than before: {before}"), UNACKNOWLEDGED, async || {
        let now = held(&house.node);
        let all = HELD.iter().all(|key| is_back(&now, key));
        (all && house.node.open_files() <= files + 4).then_some(())
    })
    .await;
    house.node.memory_kib()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_any_attack() {
    let mut house = house().await;
    let (before, files) = (held(&house.node), house.node.open_files());
    for what in ["heavy INVITEs", "connections", "dialogs", "strangers", "sessions with grace"] {
        let mut sizes = vec![house.node.memory_kib()];
        let mut at_rest = false;
        while !at_rest && sizes.len() <= *TIMES.end() {
            let time = sizes.len();
            match what {
                // Once unacknowledged: who does not acknowledge is waited for long.
                "heavy INVITEs" => heavy_invites(&mut house, time, time != 2).await,
                "connections" => connections(&mut house).await,
                "dialogs" => dialogs(&mut house).await,
                "strangers" => strangers(&mut house, time).await,
                _ => sessions(&mut house).await,
            }
            let wholly = what == "heavy INVITEs";
            let size = is_back(&house, what, &before, files, wholly).await;
            at_rest = time >= *TIMES.start() && size.saturating_sub(sizes[time - 1]) < REST_KIB;
            sizes.push(size);
        }
        eprintln!("{what}: {sizes:?} KiB");
        assert!(at_rest, "it grows each time: {what}: {sizes:?} KiB");
    }
    house.node.is_well();
}
