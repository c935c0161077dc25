//! Applications that are slow, frozen, gone, or not who they say: the caller is never left hanging.

use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Baresip, Transport};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::process::Process;
use tests::lab::sipp::{self, Sipp};
use tests::lab::{Lab, SOON};
use tokio::time::Instant;

/// An operator's phone at 2001, to whom calls of 5000 are forwarded as `forward` says, a trunk with a caller.
fn config(lab: &Lab, trunk: std::net::SocketAddr, forward: &Value) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .number("5000", json!({"forward": forward}))
        .phone("2001")
        .trunk("pstn", trunk)
        .user("attendant", &["RP_MAIN"])
}

fn caller(node: &Node, scenario: &'static str, from: std::net::SocketAddr) -> sipp::Run {
    sipp::Run {
        scenario,
        to: Some(node.sip),
        number: "5000".into(),
        local: Some(from),
        calls: 1,
        keys: vec![("TALK_MS", "20000".into()), ("ANSWER_MS", "20000".into())],
        ..sipp::Run::default()
    }
}

fn refused_with(node: &Node, status: &str, from: std::net::SocketAddr) -> sipp::Run {
    let mut run = caller(node, "uac_refused", from);
    run.keys.push(("STATUS", status.into()));
    run
}

#[tokio::test]
async fn a_call_that_nobody_accepts_is_forwarded_after_the_new_call_accept_timer() {
    let lab = Lab::new("nobody-accepts");
    let trunk = lab.address();
    let config = config(&lab, trunk, &json!({"no_answer": "2001"}))
        .parameter("cti_new_call_accept_timer", json!("2s"));
    let mut node = Node::start(&lab, config).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::None).await;
    let mut operator = Baresip::registered(&lab, node.account("2001", Transport::Udp, 450)).await;

    let mut call = Sipp::start(&lab, &caller(&node, "uac_hangs_on", trunk));
    let leg = app.offered().await["leg"].clone();
    let offered = Instant::now();
    operator.expect("CALL_INCOMING", SOON).await;
    let waited = offered.elapsed();
    assert!((1_800..4_000).contains(&waited.as_millis()), "the timer is 2 s, it took {waited:?}");
    app.cti.expect_leg("call.disconnected", &leg).await;
    operator.accept().await;
    operator.expect("CALL_ESTABLISHED", SOON).await;
    operator.hang_up().await;
    call.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn a_call_that_nobody_accepts_ends_when_there_is_nowhere_to_go() {
    let lab = Lab::new("nobody-at-all");
    let trunk = lab.address();
    let config = config(&lab, trunk, &json!({})).parameter("cti_new_call_accept_timer", json!("1s"));
    let node = Node::start(&lab, config).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::None).await;
    let mut call = Sipp::start(&lab, &refused_with(&node, "480", trunk));
    let leg = app.offered().await["leg"].clone();
    app.cti.expect_leg("call.disconnected", &leg).await;
    call.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
}

/// The Python attendant, frozen before the call comes (it can't answer), then killed while the call waits for it.
#[tokio::test]
async fn an_application_that_is_killed_before_it_answers_leaves_its_call_to_the_operator() {
    let lab = Lab::new("killed");
    let trunk = lab.address();
    let config = config(&lab, trunk, &json!({"on_failure": "2001"}))
        .parameter("cti_new_call_accept_timer", json!("30s"));
    let node = Node::start(&lab, config).await;
    let mut operator = Baresip::registered(&lab, node.account("2001", Transport::Udp, 450)).await;
    let mut attendant = attendant(&lab, &node, "2001");
    attendant.wait_for_log("device.open ok", SOON).await;
    attendant.signal("STOP");

    let mut call = Sipp::start(&lab, &caller(&node, "uac_hangs_on", trunk));
    tests::lab::eventually("the call waits for the application", SOON, async || {
        (node.admin("calls") != json!([])).then_some(())
    })
    .await;
    let killed = Instant::now();
    attendant.kill();
    operator.expect("CALL_INCOMING", SOON).await;
    assert!(killed.elapsed() < Duration::from_secs(2), "it took {:?}", killed.elapsed());
    operator.accept().await;
    operator.expect("CALL_ESTABLISHED", SOON).await;
    operator.hang_up().await;
    call.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
}

#[tokio::test]
async fn an_application_that_vanishes_clears_what_it_had_answered_and_what_has_nowhere_to_go() {
    let lab = Lab::new("vanished");
    let trunk = lab.address();
    let mut node = Node::start(&lab, config(&lab, trunk, &json!({}))).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;

    let mut connected = Sipp::start(&lab, &caller(&node, "uac_hangs_on", trunk));
    app.answer().await;
    drop(app);
    connected.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;

    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let mut offered = Sipp::start(&lab, &refused_with(&node, "503", trunk));
    app.offered().await;
    drop(app);
    offered.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn calls_to_a_route_point_without_an_application_go_where_the_number_says_or_nowhere() {
    let lab = Lab::new("no-application");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab, trunk, &json!({}))).await;
    sipp::run(&lab, &refused_with(&node, "480", trunk), SOON).await.all_went_well(1);

    let lab = Lab::new("no-application-cfur");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab, trunk, &json!({"unregistered": "2001"}))).await;
    let mut operator = Baresip::registered(&lab, node.account("2001", Transport::Udp, 450)).await;
    let mut call = Sipp::start(&lab, &caller(&node, "uac_hangs_on", trunk));
    operator.expect("CALL_INCOMING", SOON).await;
    operator.accept().await;
    operator.expect("CALL_ESTABLISHED", SOON).await;
    operator.hang_up().await;
    call.finish(SOON).await.all_went_well(1);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_cannot_be_told_apart() {
    let lab = Lab::new("login");
    let node = Node::start(&lab, Config::new(&lab).user("attendant", &[])).await;
    let mut answers = Vec::new();
    for (user, password) in [("attendant", "wrong"), ("nobody", "wrong"), ("nobody", PASSWORD)] {
        let mut cti = node.connect().await;
        let hello = json!({"user": user, "password": password, "application": "lab"});
        answers.push(cti.refused("provider.open", hello).await);
    }
    assert_eq!(answers[0].symbol, "LOGIN_FAILED");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert!(!node.log().contains(PASSWORD), "no password in the log");
}

#[tokio::test]
async fn a_node_that_is_asked_to_stop_ends_its_calls_properly() {
    let lab = Lab::new("stop");
    let trunk = lab.address();
    let mut node = Node::start(&lab, config(&lab, trunk, &json!({}))).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let mut call = Sipp::start(&lab, &caller(&node, "uac_hangs_on", trunk));
    app.answer().await;
    let status = node.stop().await;
    assert!(status.success(), "{status}");
    call.finish(SOON).await.all_went_well(1);
    app.cti.expect_closed(SOON).await;
}

fn attendant(lab: &Lab, node: &Node, extension: &str) -> Process {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/attendant.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(node.cti.to_string()).arg(node.ca()).args(["attendant", "RP_MAIN", extension]);
    command.env("CTI_PASSWORD", PASSWORD);
    Process::start("attendant.py", command, &lab.folder("attendant").join("log"))
}

#[tokio::test]
async fn fifty_lines_of_python_answer_and_redirect_a_call() {
    let lab = Lab::new("python");
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .phone("2001")
        .phone("2002")
        .user("attendant", &["RP_MAIN"]);
    let node = Node::start(&lab, config).await;
    let mut attendant = attendant(&lab, &node, "2002");
    attendant.wait_for_log("device.open ok", SOON).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, 450)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Udp, 900)).await;
    alice.dial("5000").await;
    alice.expect("CALL_ESTABLISHED", SOON).await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    alice.hears(900, SOON).await;
    bob.hears(450, SOON).await;
    attendant.wait_for_log("call.redirect ok", SOON).await;
    attendant.wait_for_log("call.disconnected", SOON).await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}
