//! The main job with desk phones that nobody here wrote: they register, reach an application, are heard, press keys,
//! are sent on, hold, and hang up.

use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::cti::leg_of;
use tests::lab::kamailio::Kamailio;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::process::Process;
use tests::lab::rtp::Endpoint;
use tests::lab::sipp::{self, Sipp};
use tests::lab::{Lab, SOON, built, eventually, tone};

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

/// Alice calls the auto-attendant, hears its prompt, presses 1, is sent on to Bob, and they talk.
async fn a_phone_reaches_the_attendant_and_is_sent_on(lab: &Lab, transport: Transport) {
    let mut node = Node::start(lab, config(lab)).await;
    let _attendant = auto_attendant(lab, &node).await;
    let mut alice = Baresip::registered(lab, node.account("2001", transport, ALICE_HZ)).await;
    let mut bob = Baresip::registered(lab, node.account("2002", transport, BOB_HZ)).await;

    alice.dial("5000").await;
    alice.expect("CALL_ESTABLISHED", SOON).await;
    alice.hears(APPLICATION_HZ, SOON).await;
    alice.press('1').await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    bob.expect("CALL_ESTABLISHED", SOON).await;
    bob.hears(ALICE_HZ, SOON).await;
    alice.hears(BOB_HZ, SOON).await;

    alice.hold().await;
    alice.receives_nothing().await;
    alice.resume().await;
    alice.receives_audio().await;

    bob.hang_up().await;
    alice.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
    node.is_well();
}

/// The SDK's example as an application author would run it, with a prompt of the test's own, open for calls.
async fn auto_attendant(lab: &Lab, node: &Node) -> Process {
    let folder = lab.folder("auto-attendant");
    let prompt = folder.join("prompt.wav");
    tone::write_wav(&prompt, APPLICATION_HZ, 5);
    let mut command = Command::new(built("examples/auto-attendant"));
    command.env("CTI_PASSWORD", PASSWORD).env("RUST_LOG", "debug");
    command.args(["--server", &node.cti.to_string(), "--user", "attendant", "--route-point", "RP_MAIN"]);
    command.args([
        "--menu",
        "1=2002",
        "--operator",
        "2002",
        "--ip",
        &lab.host().to_string(),
        "--timeout-s",
        "2",
    ]);
    command.arg("--ca").arg(node.ca()).arg("--prompt").arg(prompt);
    let mut process = Process::start("auto-attendant", command, &folder.join("log"));
    eventually("the attendant opens its route point", SOON, async || {
        assert!(process.ended().is_none(), "the attendant ended");
        let devices = node.admin("devices");
        let open = |device: &Value| device["name"] == "RP_MAIN" && device["opened"] == true;
        devices.as_array().is_some_and(|all| all.iter().any(open)).then_some(())
    })
    .await;
    process
}

#[tokio::test]
async fn a_phone_over_udp_reaches_the_attendant_and_is_sent_on() {
    a_phone_reaches_the_attendant_and_is_sent_on(&Lab::new("udp"), Transport::Udp).await;
}

#[tokio::test]
async fn a_phone_over_tcp_reaches_the_attendant_and_is_sent_on() {
    a_phone_reaches_the_attendant_and_is_sent_on(&Lab::new("tcp"), Transport::Tcp).await;
}

#[tokio::test]
async fn a_phone_over_tls_reaches_the_attendant_and_is_sent_on() {
    a_phone_reaches_the_attendant_and_is_sent_on(&Lab::new("tls"), Transport::Tls).await;
}

#[tokio::test]
async fn who_presses_nothing_is_sent_to_the_operator() {
    let lab = Lab::new("operator");
    let node = Node::start(&lab, config(&lab)).await;
    let _attendant = auto_attendant(&lab, &node).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut operator = Baresip::registered(&lab, node.account("2002", Transport::Udp, BOB_HZ)).await;
    alice.dial("5000").await;
    operator.expect("CALL_INCOMING", Duration::from_secs(20)).await;
    alice.hang_up().await;
    operator.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}

/// The same on the raw wire, event by event: the application's own media, the keys in them, the events' addresses.
#[tokio::test]
async fn an_application_on_the_raw_wire_hears_a_phone_and_sends_it_on() {
    let lab = Lab::new("raw");
    let node = Node::start(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Udp, BOB_HZ)).await;

    alice.dial("5000").await;
    let (leg, far) = app.answer().await;
    app.voice.speak(APPLICATION_HZ, far);
    alice.hears(APPLICATION_HZ, SOON).await;
    app.voice.hears(ALICE_HZ, SOON).await;
    assert_eq!(app.voice.peer_port(), Some(far.port()), "the event names the phone's own address");

    alice.press('1').await;
    eventually("the application gets the key", SOON, async || (app.voice.digits() == "1").then_some(()))
        .await;
    app.cti.call("call.redirect", json!({"leg": leg, "destination": "2002"})).await;
    for direction in ["input", "output"] {
        let is_it = |event: &Value| leg_of(event) == leg && event["direction"] == direction;
        app.cti.expect_event("media.stopped", is_it, SOON).await;
    }
    app.voice.be_silent();
    app.cti.expect_leg("call.disconnected", &leg).await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    bob.hears(ALICE_HZ, SOON).await;
    alice.hears(BOB_HZ, SOON).await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}

/// Everything within Alice's dialog goes through the proxy that recorded itself in its route, in both directions.
#[tokio::test]
async fn a_phone_behind_a_proxy_is_reached_through_it() {
    let lab = Lab::new("proxy");
    let node = Node::start(&lab, config(&lab)).await;
    let proxy = Kamailio::in_front_of(&lab, node.sip).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let behind = Account { proxy: Some(proxy.address), ..node.account("2001", Transport::Udp, ALICE_HZ) };
    let mut alice = Baresip::registered(&lab, behind).await;

    alice.dial("5000").await;
    let (leg, far) = app.answer().await;
    app.voice.speak(APPLICATION_HZ, far);
    alice.hears(APPLICATION_HZ, SOON).await;
    app.drop_call(&leg).await;
    alice.expect("CALL_CLOSED", SOON).await;
    let log = proxy.log();
    assert!(log.contains("passed on ACK"), "from the phone: {log}");
    assert!(log.contains("passed on BYE"), "from the node: {log}");
    node.is_quiet().await;
}

#[tokio::test]
async fn phones_call_each_other_and_either_may_hold_and_hang_up() {
    let lab = Lab::new("phones");
    let mut node = Node::start(&lab, config(&lab)).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Tcp, BOB_HZ)).await;

    alice.dial("2002").await;
    bob.expect("CALL_INCOMING", SOON).await;
    alice.expect("CALL_RINGING", SOON).await;
    bob.accept().await;
    alice.expect("CALL_ESTABLISHED", SOON).await;
    alice.hears(BOB_HZ, SOON).await;
    bob.hears(ALICE_HZ, SOON).await;

    alice.receives_audio().await;
    alice.hold().await;
    alice.receives_nothing().await;
    alice.resume().await;
    alice.receives_audio().await;
    bob.hold().await;
    bob.receives_nothing().await;
    bob.resume().await;
    bob.receives_audio().await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;

    bob.dial("2001").await;
    alice.expect("CALL_INCOMING", SOON).await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
    node.is_well();
}

/// The keys (RFC 4568) pass through the node untouched; the phones talk to each other directly.
#[tokio::test]
async fn phones_that_encrypt_hear_each_other() {
    let lab = Lab::new("srtp");
    let encrypted = json!({"media_encryption": "optional"});
    let config = Config::new(&lab).phone_with("2001", &encrypted).phone_with("2002", &encrypted);
    let node = Node::start(&lab, config).await;
    let account = |number, hz| Account {
        media_encryption: Some("srtp-mand"),
        ..node.account(number, Transport::Tls, hz)
    };
    let mut alice = Baresip::registered(&lab, account("2001", ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, account("2002", BOB_HZ)).await;
    alice.dial("2002").await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    alice.hears(BOB_HZ, SOON).await;
    bob.hears(ALICE_HZ, SOON).await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}

#[tokio::test]
async fn phones_and_the_trunk_call_each_other() {
    let lab = Lab::new("trunk");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab).trunk("pstn", trunk).pattern("9.!", "pstn")).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;

    let ear = Endpoint::bind(&lab).await;
    let peer = sipp::Run {
        scenario: "uas",
        local: Some(trunk),
        calls: 1,
        keys: vec![("MEDIA_PORT", ear.address.port().to_string()), ("TALK_MS", "10000".into())],
        ..sipp::Run::default()
    };
    let mut peer = Sipp::start(&lab, &peer);
    alice.dial("95551234").await;
    alice.expect("CALL_ESTABLISHED", SOON).await;
    ear.hears(ALICE_HZ, SOON).await;
    alice.hang_up().await;
    peer.finish(SOON).await.all_went_well(1);

    let caller = sipp::Run {
        scenario: "uac_hangs_on",
        to: Some(node.sip),
        number: "2001".into(),
        local: Some(trunk),
        calls: 1,
        keys: vec![("TALK_MS", "10000".into())],
        ..sipp::Run::default()
    };
    let mut caller = Sipp::start(&lab, &caller);
    alice.expect("CALL_INCOMING", SOON).await;
    alice.accept().await;
    alice.expect("CALL_ESTABLISHED", SOON).await;
    alice.hang_up().await;
    caller.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
}

#[tokio::test]
async fn a_phone_that_holds_an_application_stops_its_media_and_starts_them_again() {
    let lab = Lab::new("hold-app");
    let node = Node::start(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    alice.dial("5000").await;
    let (leg, far) = app.answer().await;
    app.voice.speak(APPLICATION_HZ, far);
    alice.hears(APPLICATION_HZ, SOON).await;

    alice.hold().await;
    let stopped = app.cti.expect_leg("media.stopped", &leg).await;
    assert_eq!(stopped["direction"], "output", "whoever is held must not send: {stopped}");
    alice.resume().await;
    let far = app.output(&leg).await;
    app.voice.speak(APPLICATION_HZ, far);
    alice.receives_audio().await;
    app.voice.hears(ALICE_HZ, SOON).await;

    app.drop_call(&leg).await;
    alice.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}

#[tokio::test]
async fn an_application_sees_and_leads_the_calls_of_a_phone() {
    let lab = Lab::new("phone-seen");
    let node = Node::start(&lab, config(&lab)).await;
    let mut alice = Baresip::registered(&lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;
    let mut bob = Baresip::registered(&lab, node.account("2002", Transport::Udp, BOB_HZ)).await;
    let mut cti = node.application("attendant").await;
    let opened = cti.call("device.open", json!({"device": "SEP2002"})).await;
    assert_eq!(opened["device"]["registered"], true, "{opened}");

    alice.dial("2002").await;
    let ringing = cti.expect("call.ringing").await;
    assert_eq!(ringing["leg"]["calling"]["number"], "2001", "{ringing}");
    let leg = ringing["leg"]["leg"].clone();
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    cti.expect_leg("call.connected", &leg).await;
    alice.receives_audio().await;

    cti.call("call.hold", json!({"leg": leg})).await;
    cti.expect_leg("call.held", &leg).await;
    alice.receives_nothing().await;
    cti.call("call.retrieve", json!({"leg": leg})).await;
    cti.expect_leg("call.connected", &leg).await;
    alice.receives_audio().await;

    cti.call("call.drop", json!({"leg": leg})).await;
    cti.expect_leg("call.disconnected", &leg).await;
    alice.expect("CALL_CLOSED", SOON).await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}

#[tokio::test]
async fn a_wrong_password_does_not_register() {
    let lab = Lab::new("wrong-password");
    let node = Node::start(&lab, config(&lab)).await;
    let wrong = Account { password: "guess".into(), ..node.account("2001", Transport::Udp, ALICE_HZ) };
    let mut alice = Baresip::start(&lab, wrong).await;
    let to_the_wrong = alice.registration_refused().await;
    let unknown = node.account("2999", Transport::Udp, ALICE_HZ);
    let mut nobody = Baresip::start(&lab, unknown).await;
    let to_the_unknown = nobody.registration_refused().await;
    let words = |said: &str| said.split_once(": ").map(|(_, words)| words.to_owned());
    assert_eq!(words(&to_the_wrong), words(&to_the_unknown), "no hint which of the two was wrong");
}
