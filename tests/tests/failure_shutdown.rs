//! A node that is to be emptied, and one that stops: what becomes of its sessions and calls, and who is told.

use serde_json::{Value, json};
use std::time::Duration;
use tests::lab::app::{App, Media};
use tests::lab::cti::{Cti, time_of};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::trunk::Trunk;
use tests::lab::{Lab, SOON};

/// docs/operations.md: the process goes within three seconds.
const STOP_BOUND: Duration = Duration::from_secs(3);

async fn house(lab: &Lab) -> (Node, Trunk) {
    let callers = lab.address();
    let config = Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .route_point("RP_NIGHT", "5001")
        .trunk("pstn", callers)
        .user("desk", &["RP_MAIN"])
        .user("night", &["RP_NIGHT"])
        .parameter("cti_new_call_accept_timer", json!("30s"));
    let node = Node::start(lab, config).await;
    let trunk = Trunk::at(callers, node.sip).await;
    (node, trunk)
}

fn hello(user: &str, more: &Value) -> Value {
    let mut params = json!({"user": user, "password": PASSWORD, "application": "lab"});
    for (key, value) in more.as_object().into_iter().flatten() {
        params[key] = value.clone();
    }
    params
}

/// The last words of the server on this connection.
async fn farewell(cti: &mut Cti) -> Value {
    let closed = cti.expect("session.closed").await;
    cti.expect_closed(SOON).await;
    closed
}

#[tokio::test]
async fn a_node_that_drains_lets_calls_finish_and_takes_no_new_ones() {
    let lab = Lab::new("drain");
    let (mut node, trunk) = house(&lab).await;
    let mut cti = node.connect().await;
    let session =
        cti.call("provider.open", hello("desk", &json!({"resume_grace_ms": 20_000}))).await["session"]
            .clone();
    let mut app = App::on(cti, &lab, "RP_MAIN", Media::Static).await;
    let call = trunk.call("5000").await;
    let (leg, _) = app.answer().await;
    assert_eq!(node.page("/readyz").await, (200, "ok\n".to_owned()));

    assert_eq!(node.admin("drain"), json!({"draining": true}));
    let (status, why) = node.page("/readyz").await;
    assert!(status == 503 && why.contains("draining"), "{status}: {why}");
    assert_eq!(node.page("/livez").await.0, 200, "it lives");
    assert_eq!(node.admin("status")["state"], "draining");

    let refused = trunk.call("5000").await.is_over().await;
    assert_eq!(refused.refused, Some(503), "no new call: {refused:?}");
    let mut late = node.connect().await;
    late.send("provider.open", hello("night", &json!({}))).await;
    assert_eq!(farewell(&mut late).await["reason"], "draining");

    // The call goes on, also with an application that loses its connection meanwhile.
    app.cti.call("call.hold", json!({"leg": leg})).await;
    app.cti.expect_leg("call.held", &leg).await;
    let last_seq = app.cti.last_seq();
    app.cti = node.connect().await;
    let resumed = app.cti.resume("desk", PASSWORD, &session, last_seq).await;
    assert_eq!(resumed["resumed"], true, "{resumed}");
    app.cti.call("call.retrieve", json!({"leg": leg})).await;
    app.cti.expect_leg("call.connected", &leg).await;
    assert_eq!(call.look().over, None);
    call.hang_up().await;
    app.cti.expect_leg("call.disconnected", &leg).await;
    node.is_quiet().await;
    assert_eq!(node.admin("sessions").as_array().map(Vec::len), Some(1), "the session is told nothing");
    assert!(app.cti.kept().iter().all(|event| event["type"] != "session.closed"), "{:?}", app.cti.kept());
    node.is_well();
}

/// A node with an answered call, an offered one, and a session that waits for its application; how it says goodbye.
async fn stops(test: &str, stop: impl AsyncFnOnce(&mut Node)) {
    let lab = Lab::new(test);
    let (mut node, trunk) = house(&lab).await;
    let mut app = App::open(&lab, &node, "desk", "RP_MAIN", Media::Static).await;
    let connected = trunk.call("5000").await;
    app.answer().await;
    let offered = trunk.call("5000").await;
    app.offered().await;

    let mut away = node.connect().await;
    away.call("provider.open", hello("night", &json!({"resume_grace_ms": 20_000}))).await;
    let mut away = App::on(away, &lab, "RP_NIGHT", Media::Static).await;
    let waiting = trunk.call("5001").await;
    away.answer().await;
    drop(away);
    node.writes(&["ApplicationConnectionDropped"]).await;
    let mut nobody = node.connect().await;

    stop(&mut node).await;
    let told = app.cti.expect("session.closed").await;
    assert_eq!(told["reason"], "stopping");
    // The ends of the calls were told before.
    let ended = app.cti.kept().iter().filter(|event| event["type"] == "call.disconnected").count();
    assert_eq!(ended, 2, "{:?}", app.cti.kept());
    assert_eq!(
        farewell(&mut nobody).await["reason"],
        "stopping",
        "a connection without a provider hears it, too"
    );
    for call in [connected, waiting] {
        let over = call.is_over().await;
        assert_eq!((over.refused, over.cause), (None, Some(41)), "{over:?}");
    }
    let over = offered.is_over().await;
    assert_eq!((over.refused, over.cause), (Some(503), Some(41)), "{over:?}");
    let status = node.ends().await;
    assert!(status.success(), "{status}");
    let stopped = node.wrote(&["stopped"]).expect("its last line");
    let took = stopped.duration_since(time_of(&told)).unwrap_or_default();
    assert!(took < STOP_BOUND, "it took {took:?}");
    assert!(!node.log().contains("panicked at"), "{}", node.log());
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_ends_its_calls_and_says_goodbye() {
    stops("stop-command", async |node: &mut Node| assert_eq!(node.admin("stop"), json!({"stopping": true})))
        .await;
}

#[tokio::test]
async fn a_node_that_is_terminated_ends_its_calls_and_says_goodbye() {
    stops("stop-signal", async |node: &mut Node| node.signal("TERM")).await;
}

#[tokio::test]
async fn a_drained_node_can_still_be_stopped() {
    let lab = Lab::new("drain-stop");
    let (mut node, trunk) = house(&lab).await;
    let mut app = App::open(&lab, &node, "desk", "RP_MAIN", Media::Static).await;
    let call = trunk.call("5000").await;
    app.answer().await;
    assert_eq!(node.admin("drain"), json!({"draining": true}));
    assert_eq!(node.admin("stop"), json!({"stopping": true}));
    assert_eq!(farewell(&mut app.cti).await["reason"], "stopping");
    assert_eq!(call.is_over().await.cause, Some(41));
    assert!(node.ends().await.success());
}
