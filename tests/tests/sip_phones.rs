//! What desk phones do beside plain calls: several phones of one number, a cable that is pulled, a proxy in between,
//! encryption that is only offered, hold from either side, and a phone of another family.

use serde_json::{Value, json};
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::kamailio::Kamailio;
use tests::lab::linphone::Linphone;
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, SOON, eventually};

const ALICE_HZ: u32 = 450;
const BOB_HZ: u32 = 900;
const APPLICATION_HZ: u32 = 650;

fn config(lab: &Lab) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .phone("2001")
        .phone("2002")
        .user("attendant", &["RP_MAIN", "SEP2001", "SEP2002"])
}

fn is_registered(node: &Node, device: &str) -> bool {
    let devices = node.admin("devices");
    let this = |entry: &Value| entry["name"] == device && entry["registered"] == true;
    devices.as_array().is_some_and(|all| all.iter().any(this))
}

/// A phone behind TLS listens nowhere: it is reached on the connection that it made (RFC 5923). When that is cut, the
/// phone is gone at once, and its application knows.
#[tokio::test]
async fn a_phone_lives_as_long_as_its_connection() {
    let lab = Lab::new("connection");
    let mut node = Node::start(&lab, config(&lab)).await;
    let mut cti = node.application("attendant").await;
    cti.call("device.open", json!({"device": "SEP2001"})).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Tls, ALICE_HZ)).await;
    cti.expect_event("device.in_service", |e| e["device"]["name"] == "SEP2001", SOON).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Tcp, BOB_HZ)).await;

    bob.dial("2001").await;
    alice.expect("CALL_INCOMING", SOON).await;
    alice.accept().await;
    alice.hears(BOB_HZ, SOON).await;
    bob.hears(ALICE_HZ, SOON).await;
    bob.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    alice.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;

    // Registered anew on the same connection: nothing changes.
    alice.command("uareg", "600 0").await;
    eventually("it registers again", SOON, async || alice.is_registered().await.then_some(())).await;
    assert!(is_registered(&node, "SEP2001"));

    alice.pull_the_plug();
    cti.expect_event("device.out_of_service", |e| e["device"]["name"] == "SEP2001", SOON).await;
    assert!(!is_registered(&node, "SEP2001"));
    bob.dial("2001").await;
    let closed = bob.expect("CALL_CLOSED", SOON).await;
    assert!(closed["param"].as_str().is_some_and(|why| why.starts_with("480")), "{closed}");
    let mut again = Baresip::registered(&lab, node.account("2001", Transport::Tls, ALICE_HZ)).await;
    cti.expect_event("device.in_service", |e| e["device"]["name"] == "SEP2001", SOON).await;
    bob.dial("2001").await;
    again.expect("CALL_INCOMING", SOON).await;
    bob.hang_up().await;
    again.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn all_phones_of_a_number_ring_and_one_answers() {
    let lab = Lab::new("fork");
    let node = Node::start(&lab, config(&lab)).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut desk = Baresip::registered(&lab, node.account("2002", Transport::Tcp, BOB_HZ)).await;
    let mut lab_phone = Baresip::registered(&lab, node.account("2002", Transport::Tls, BOB_HZ)).await;

    alice.dial("2002").await;
    desk.expect("CALL_INCOMING", SOON).await;
    lab_phone.expect("CALL_INCOMING", SOON).await;
    lab_phone.accept().await;
    desk.expect("CALL_CLOSED", SOON).await;
    assert!(desk.log().contains("CANCEL sip:"), "it was told that it need not ring");
    alice.hears(BOB_HZ, SOON).await;
    lab_phone.hears(ALICE_HZ, SOON).await;
    alice.hang_up().await;
    lab_phone.expect("CALL_CLOSED", SOON).await;

    // All refuse: the caller hears of it once, and the second refusal counts no less than the first.
    alice.dial("2002").await;
    desk.expect("CALL_INCOMING", SOON).await;
    lab_phone.expect("CALL_INCOMING", SOON).await;
    desk.hang_up().await;
    lab_phone.hang_up().await;
    alice.expect("CALL_CLOSED", SOON).await;
    alice.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}

/// The proxy recorded itself in both directions: calls to the phone pass it as well as calls from it, and so does all
/// that follows within them.
#[tokio::test]
async fn a_phone_behind_a_proxy_is_called_through_it() {
    let lab = Lab::new("proxy-both");
    let node = Node::start(&lab, config(&lab)).await;
    let proxy = Kamailio::in_front_of(&lab, node.sip).await;
    let behind = Account { proxy: Some(proxy.address), ..node.account("2001", Transport::Udp, ALICE_HZ) };
    let mut alice = Baresip::registered(&lab, behind).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Udp, BOB_HZ)).await;

    bob.dial("2001").await;
    alice.expect("CALL_INCOMING", SOON).await;
    alice.accept().await;
    alice.hears(BOB_HZ, SOON).await;
    bob.hears(ALICE_HZ, SOON).await;
    bob.hold().await;
    bob.receives_nothing().await;
    bob.resume().await;
    bob.receives_audio().await;
    bob.hang_up().await;
    alice.expect("CALL_CLOSED", SOON).await;
    let log = proxy.log();
    assert!(log.contains("passed on INVITE to a phone"), "{log}");
    for method in ["INVITE", "ACK", "BYE"] {
        assert!(log.contains(&format!("passed on {method} in a dialog")), "{method} went past it: {log}");
    }
    node.is_quiet().await;
}

/// A phone's hold silences one direction (baresip goes on speaking to whom it holds), an application's hold both.
#[tokio::test]
async fn hold_stops_the_media_that_it_should() {
    let lab = Lab::new("hold-media");
    let node = Node::start(&lab, config(&lab)).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Tls, BOB_HZ)).await;
    let mut cti = node.application("attendant").await;
    cti.call("device.open", json!({"device": "SEP2002"})).await;
    alice.dial("2002").await;
    let leg = cti.expect("call.ringing").await["leg"]["leg"].clone();
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    cti.expect_leg("call.connected", &leg).await;
    alice.hears(BOB_HZ, SOON).await;
    bob.hears(ALICE_HZ, SOON).await;

    bob.hold().await;
    cti.expect_leg("call.held", &leg).await;
    bob.receives_nothing().await;
    alice.receives_audio().await;
    bob.resume().await;
    cti.expect_leg("call.connected", &leg).await;
    bob.receives_audio().await;

    cti.call("call.hold", json!({"leg": leg})).await;
    cti.expect_leg("call.held", &leg).await;
    bob.receives_nothing().await;
    alice.receives_nothing().await;
    cti.call("call.retrieve", json!({"leg": leg})).await;
    cti.expect_leg("call.connected", &leg).await;
    bob.receives_audio().await;
    alice.receives_audio().await;
    alice.hang_up().await;
    cti.expect_leg("call.disconnected", &leg).await;
    node.is_quiet().await;
}

/// linphonec beside baresip and an application: another stack reads what we write.
#[tokio::test]
async fn a_phone_of_another_family_calls_and_is_called() {
    let lab = Lab::new("linphone");
    let mut node = Node::start(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let mut alice = Linphone::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Tls, BOB_HZ)).await;

    alice.dial("5000");
    let (leg, far) = app.answer().await;
    app.voice.speak(APPLICATION_HZ, far);
    app.voice.hears(ALICE_HZ, SOON).await;
    alice.hears(APPLICATION_HZ).await;
    alice.say("pause");
    let stopped = app.cti.expect_leg("media.stopped", &leg).await;
    assert_eq!(stopped["direction"], "output", "{stopped}");
    alice.comes_to("LinphoneCallPaused").await;
    alice.say("resume");
    let far = app.output(&leg).await;
    app.voice.speak(APPLICATION_HZ, far);
    app.voice.hears(ALICE_HZ, SOON).await;
    alice.say("terminate");
    app.cti.expect_leg("call.disconnected", &leg).await;

    bob.dial("2001").await;
    alice.comes_to("LinphoneCallIncomingReceived").await;
    alice.say("answer");
    bob.expect("CALL_ESTABLISHED", SOON).await;
    bob.hears(ALICE_HZ, SOON).await;
    bob.hang_up().await;
    node.is_quiet().await;
    node.is_well();
}
