//! Applications and browsers that take all that they can get, against a real node, with an honest application and honest
//! callers beside them: what one of them can do to all the others is a few milliseconds at most.

use serde_json::{Value, json};
use std::time::Duration;
use tests::lab::cti::{Cti, over_tls};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::trunk::{Party, Trunk};
use tests::lab::{Lab, SOON, eventually};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Devices of the application that takes so many.
const MANY: usize = 3_000;

/// A call that is offered to the honest application. A node that is behind by more than 100 ms, as one without
/// optimisation on a busy machine may be, refuses a new call with 503: its caller tries again, and his time runs on.
async fn offered(trunk: &Trunk, desk: &mut Cti) -> (Party, Value) {
    let mut offering = std::pin::pin!(desk.expect("call.offering"));
    let mut again = tokio::time::interval(Duration::from_millis(10));
    loop {
        again.tick().await;
        let caller = trunk.call("5000").await;
        tokio::select! {
            offered = &mut offering => return (caller, offered["leg"]["leg"].clone()),
            over = caller.is_over() => assert_eq!(over.refused, Some(503), "nothing else keeps a caller out"),
        }
    }
}

/// The slowest of so many calls to the honest application: INVITE to the event, answer to the caller's 200.
async fn slowest_call(trunk: &Trunk, desk: &mut Cti, calls: u32) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..calls {
        let begun = Instant::now();
        let (caller, leg) = offered(trunk, desk).await;
        desk.call("call.answer", json!({"leg": leg})).await;
        caller.is_answered().await;
        slowest = slowest.max(begun.elapsed());
        caller.hang_up().await;
        desk.expect_leg("call.disconnected", &leg).await;
    }
    slowest
}

/// As fast as without, but for what a busy machine does to both.
fn assert_as_fast(what: &str, before: Duration, beside: Duration) {
    eprintln!("{what}: slowest call {before:?} before, {beside:?} beside");
    let most = 10 * before + Duration::from_millis(300);
    assert!(beside < most, "{what}: {beside:?} beside it, {before:?} without");
}

struct House {
    /// Held for its folder.
    _lab: Lab,
    node: Node,
    trunk: Trunk,
    desk: Cti,
}

/// The rate is a session's, a second.
async fn house(test: &str, rate: u32) -> House {
    let lab = Lab::new(test);
    let callers = lab.address();
    let ports = json!({"name": "PORT_[0001-3000]", "type": "cti_port", "pool": "Default", "lines": ["[700001-703000]"]});
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .add("devices", ports)
        .trunk("pstn", callers)
        .user("desk", &["RP_MAIN"])
        .user("greedy", &["PORT_*"])
        .parameter("max_requests_per_second", json!(rate))
        .parameter("max_devices_per_provider", json!(10_000))
        .parameter("max_devices_per_node", json!(10_000));
    let node = Node::start(&lab, config).await;
    let trunk = Trunk::at(callers, node.sip).await;
    let mut desk = node.application("desk").await;
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU", "PCMA"]});
    desk.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    House { _lab: lab, node, trunk, desk }
}

/// An application that has all ports open.
async fn greedy(node: &Node) -> Cti {
    let mut greedy = node.application("greedy").await;
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_002, "codecs": ["PCMU"]});
    for first in (1..=MANY).step_by(500) {
        let mut asked = Vec::new();
        for port in first..first + 500 {
            let open = json!({"device": format!("PORT_{port:04}"), "media": media});
            asked.push(greedy.send("device.open", open).await);
        }
        for id in asked {
            greedy.reply(id, 3 * SOON).await.expect("it is opened");
        }
        while greedy.take_kept().is_some() {}
    }
    greedy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_thousands_of_devices_looks_at_them_and_leaves_and_calls_go_on() {
    let House { _lab, mut node, trunk, mut desk } = house("greedy", 100_000).await;
    let mut one = greedy(&node).await;
    let before = slowest_call(&trunk, &mut desk, 20).await;
    let looking = async {
        // One moment, in lines that are not too long.
        for _ in 0..3 {
            let (mut all, mut params) = (0, json!({}));
            let mut seq = None;
            loop {
                let id = one.send("provider.snapshot", params).await;
                let page = one.reply(id, 3 * SOON).await.expect("a page");
                all += page["devices"].as_array().map_or(0, Vec::len);
                assert_eq!(*seq.get_or_insert(page["seq"].clone()), page["seq"]);
                let Some(cursor) = page["cursor"].as_str() else { break };
                params = json!({"cursor": cursor});
            }
            assert_eq!(all, MANY);
        }
        one
    };
    let (mut one, beside) = tokio::join!(looking, slowest_call(&trunk, &mut desk, 20));
    assert_as_fast("snapshots", before, beside);
    for way in ["closes", "is lost"] {
        let leaving = async {
            match way {
                "closes" => drop(one.call("provider.close", json!({})).await),
                _ => drop(one),
            }
        };
        let ((), beside) = tokio::join!(leaving, slowest_call(&trunk, &mut desk, 20));
        assert_as_fast(way, before, beside);
        eventually("nothing of it is left", SOON, async || {
            (node.admin("status")["open_devices"] == json!(1)).then_some(())
        })
        .await;
        one = greedy(&node).await;
    }
    let metrics = node.page("/metrics").await.1;
    let longest = metrics.lines().find(|line| line.starts_with("ctimanager_owner_longest_step_seconds "));
    eprintln!("{longest:?}");
    assert!(longest.is_some());
    node.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lists_all_devices_all_the_time_and_calls_go_on() {
    let House { _lab, mut node, trunk, mut desk } = house("lists", 500).await;
    let before = slowest_call(&trunk, &mut desk, 20).await;
    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(node.application("greedy").await);
    }
    let listing = |mut one: Cti, wish: Value| async move {
        let end = Instant::now() + Duration::from_secs(4);
        let (mut answers, mut refused) = (0, 0);
        while Instant::now() < end {
            match one.try_call("provider.devices", wish.clone()).await {
                Ok(_) => answers += 1,
                Err(error) => {
                    assert!(error.data["retry_after_ms"].is_u64(), "{error}");
                    refused += 1;
                }
            }
        }
        (answers, refused)
    };
    let wishes = [
        json!({"limit": 1000}),
        json!({"name": "NOBODY*"}),
        json!({}),
        json!({"cursor": "PORT_2000", "limit": 1000}),
    ];
    let crowd: Vec<_> =
        crowd.into_iter().zip(wishes).map(|(one, wish)| tokio::spawn(listing(one, wish))).collect();
    let beside = slowest_call(&trunk, &mut desk, 20).await;
    for one in crowd {
        eprintln!("answered, refused: {:?}", one.await.expect("it lists"));
    }
    assert_as_fast("lists", before, beside);
    node.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_opens_and_leaves_sessions_keeps_nobody_out() {
    let lab = Lab::new("crowded");
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .user("desk", &["RP_MAIN"])
        .user("greedy", &["RP_MAIN"])
        .parameter("max_cti_connections", json!(12))
        .parameter("max_cti_connections_per_user", json!(8))
        .parameter("session_resume_grace_maximum", json!("600s"));
    let mut node = Node::start(&lab, config).await;
    let hello = |user: &str| json!({"user": user, "password": PASSWORD, "application": "x", "resume_grace_ms": 600_000});
    let mut staying = Vec::new();
    for n in 0..8 {
        let mut one = node.connect().await;
        one.call("provider.open", hello("greedy")).await;
        // Half of them leave their session behind, half stay.
        if n % 2 == 0 {
            staying.push(one);
        }
    }
    let refused = node.connect().await.refused("provider.open", hello("greedy")).await;
    assert_eq!(refused.symbol, "MAX_CONNECTIONS");
    for _ in 0..4 {
        staying.push(node.application("desk").await);
    }
    let alarms = node.admin("alarms").to_string();
    assert!(alarms.contains("CtiMaxConnectionsOfUserReached") && alarms.contains("greedy"), "{alarms}");
    node.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_that_take_all_places_shut_neither_health_nor_websockets() {
    let lab = Lab::new("browsers");
    let config = Config::new(&lab).route_point("RP_MAIN", "5000").user("desk", &["RP_MAIN"]);
    let mut node = Node::start(&lab, config).await;
    let ca = node.ca();
    let mut idle = Vec::new();
    for n in 0..700 {
        let stream = TcpStream::connect(node.web).await.expect("the port never shuts");
        idle.push(stream);
        if n % 100 == 99 {
            assert_eq!(node.page("/livez").await.0, 200);
            assert_eq!(node.page("/metrics").await.0, 200);
        }
    }
    let mut whole = Vec::new();
    for n in 0..90 {
        whole.push(over_tls(node.web, &ca).await);
        if n % 30 == 29 {
            assert_eq!(node.page("/readyz").await.0, 200);
        }
    }
    let mut desk = Cti::websocket(node.web, &ca).await;
    desk.open("desk", PASSWORD).await;
    desk.call("device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}})).await;
    assert!(node.open_files() < 300, "{} files: who only lies there has lost his place", node.open_files());
    assert_eq!(node.admin("status")["state"], "running", "administrators have their own socket");
    let log = node.log();
    let refused =
        log.lines().filter(|line| line.contains("ShareExceeded") && line.contains("web_connections"));
    let lost = refused.count();
    assert!((1..120).contains(&lost), "{lost} lines: one a second");
    drop((idle, whole));
    desk.call("provider.heartbeat", json!({})).await;
    node.is_well();
}
