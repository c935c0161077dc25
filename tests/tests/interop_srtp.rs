//! Encrypted media (SDES-SRTP) between desk phones that nobody here wrote: what each setting means over each transport, what
//! applications are told of it, and that no key goes where it may not.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, SOON, eventually};

const ALICE_HZ: u32 = 450;
const BOB_HZ: u32 = 900;
const APPLICATION_HZ: u32 = 650;

fn config(lab: &Lab, alice: &str, bob: &str) -> Config {
    Config::new(lab)
        .phone_with("2001", &json!({"media_encryption": alice}))
        .phone_with("2002", &json!({"media_encryption": bob}))
        .route_point("RP_MAIN", "5000")
        .user("attendant", &["RP_MAIN", "SEP2001", "SEP2002"])
}

async fn phone(
    lab: &Lab,
    node: &Node,
    number: &str,
    transport: Transport,
    how: Option<&'static str>,
) -> Baresip {
    let hz = if number == "2001" { ALICE_HZ } else { BOB_HZ };
    let account = Account { media_encryption: how, ..node.account(number, transport, hz) };
    Baresip::registered(lab, account).await
}

/// An application that has both phones open.
async fn watcher(node: &Node) -> Cti {
    let mut cti = node.application("attendant").await;
    for device in ["SEP2001", "SEP2002"] {
        cti.call("device.open", json!({"device": device})).await;
    }
    cti
}

/// The keys that stand in what a phone sent and received.
fn keys_of(phone: &Baresip) -> BTreeSet<String> {
    let log = phone.log();
    let keys =
        log.lines().filter_map(|line| line.split_once("inline:")).map(|(_, key)| key.trim().to_owned());
    keys.collect()
}

/// How often each key stands anywhere in what the node wrote or says.
fn assert_no_key(node: &Node, keys: &BTreeSet<String>) {
    let said = [node.log(), node.admin("calls").to_string(), node.admin("status").to_string()];
    for key in keys {
        let key = key.split('|').next().unwrap_or_default();
        assert!(key.len() >= 38 && said.iter().all(|text| !text.contains(key)), "a key in use is said");
    }
    assert!(said.iter().all(|text| !text.contains("inline:")));
}

async fn talk(caller: &mut Baresip, callee: &mut Baresip) {
    let number = callee.number().to_owned();
    caller.dial(&number).await;
    callee.expect("CALL_INCOMING", SOON).await;
    callee.accept().await;
    let (here, there) = (caller.tone_hz(), callee.tone_hz());
    caller.hears(there, SOON).await;
    callee.hears(here, SOON).await;
}

/// What the streams of a leg that start are said to be.
async fn starts(cti: &mut Cti, device: &str) -> (Value, Value) {
    let of = |event: &Value| event["leg"]["device"] == device;
    let event = cti.expect_event("media.started", of, SOON).await;
    assert_eq!(event["security"], event["leg"]["security"], "{event}");
    (event["leg"]["leg"].clone(), event["security"].clone())
}

#[tokio::test]
async fn phones_that_both_can_talk_encrypted_and_an_application_holds_and_retrieves() {
    let lab = Lab::new("srtp-both");
    for how in ["srtp", "srtp-mand"] {
        let mut node = Node::start(&lab, config(&lab, "optional", "optional")).await;
        let mut cti = watcher(&node).await;
        let mut alice = phone(&lab, &node, "2001", Transport::Tls, Some(how)).await;
        let mut bob = phone(&lab, &node, "2002", Transport::Tls, Some(how)).await;
        talk(&mut alice, &mut bob).await;
        let (leg, security) = starts(&mut cti, "SEP2001").await;
        assert_eq!(security, "encrypted", "{how}");
        let (hers, his) = (keys_of(&alice), keys_of(&bob));
        assert!(
            hers.len() >= 2 && hers == his,
            "{how}: both saw the same keys: {} {}",
            hers.len(),
            his.len()
        );
        assert_eq!(node.admin("calls")[0]["legs"][0]["security"], "encrypted", "{}", node.admin("calls"));

        cti.call("call.hold", json!({"leg": leg})).await;
        let held = cti.expect_leg("call.held", &leg).await;
        assert_eq!(held["leg"]["security"], "encrypted", "{held}");
        bob.receives_nothing().await;
        cti.call("call.retrieve", json!({"leg": leg})).await;
        assert_eq!(starts(&mut cti, "SEP2001").await.1, "encrypted");
        alice.receives_audio().await;
        bob.receives_audio().await;
        for phone in [&alice, &bob] {
            assert!(!phone.log().contains("failed to decrypt RTP packet"), "{how}: it can't decrypt");
        }
        let all: BTreeSet<String> = keys_of(&alice).union(&keys_of(&bob)).cloned().collect();
        assert_no_key(&node, &all);
        alice.hang_up().await;
        bob.expect("CALL_CLOSED", SOON).await;
        node.is_quiet().await;
        node.is_well();
    }
}

/// Offered beside plain RTP, it is left alone where the other end has none, or may have none.
#[tokio::test]
async fn where_one_end_may_not_have_keys_the_call_is_clear_and_says_so() {
    let lab = Lab::new("srtp-one");
    for (alice_has, bob_has, way, security) in [
        ("optional", "optional", Transport::Udp, "none"),
        ("none", "optional", Transport::Tls, "authenticated"),
        ("optional", "none", Transport::Tls, "authenticated"),
    ] {
        let mut node = Node::start(&lab, config(&lab, alice_has, bob_has)).await;
        let mut cti = watcher(&node).await;
        let mut alice = phone(&lab, &node, "2001", way, Some("srtp")).await;
        let mut bob = phone(&lab, &node, "2002", Transport::Tls, Some("srtp")).await;
        talk(&mut alice, &mut bob).await;
        assert_eq!(starts(&mut cti, "SEP2001").await.1, security, "{alice_has} {bob_has} {way:?}");
        let (hers, his) = (keys_of(&alice), keys_of(&bob));
        assert!(hers.is_disjoint(&his), "no key of one came to the other: {alice_has} {bob_has} {way:?}");
        assert_no_key(&node, &hers.union(&his).cloned().collect());
        alice.hang_up().await;
        bob.expect("CALL_CLOSED", SOON).await;
        // An application without keys answers in clear.
        let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
        alice.dial("5000").await;
        let (leg, far) = app.answer().await;
        app.voice.speak(APPLICATION_HZ, far);
        alice.hears(APPLICATION_HZ, SOON).await;
        app.voice.hears(ALICE_HZ, SOON).await;
        app.drop_call(&leg).await;
        alice.expect("CALL_CLOSED", SOON).await;
        node.is_quiet().await;
        node.is_well();
    }
}

/// Waits until the alarm has been told of the device for this reason.
async fn refused_for(node: &Node, device: &str, reason: &str) {
    eventually(format!("the alarm of {device} for {reason}"), SOON, async || {
        let alarms = node.admin("alarms");
        let told = |alarm: &Value| {
            let of = &alarm["parameters"];
            alarm["name"] == "SecureMediaRefused" && of["device"] == device && of["reason"] == reason
        };
        alarms.as_array().into_iter().flatten().any(told).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_must_encrypt_does_or_has_no_call() {
    let lab = Lab::new("srtp-must");
    let node = Node::start(&lab, config(&lab, "required", "optional")).await;
    let mut bob = phone(&lab, &node, "2002", Transport::Tls, None).await;
    {
        let mut alice = phone(&lab, &node, "2001", Transport::Udp, Some("srtp-mand")).await;
        alice.dial("2002").await;
        let closed = alice.expect("CALL_CLOSED", SOON).await;
        assert!(closed["param"].as_str().is_some_and(|why| why.contains("488")), "{closed}");
        refused_for(&node, "SEP2001", "transport").await;
        bob.dial("2001").await;
        bob.expect("CALL_CLOSED", SOON).await;
        alice.pull_the_plug();
    }
    let mut alice = phone(&lab, &node, "2001", Transport::Tls, Some("srtp-mand")).await;
    // Bob's phone has no keys to offer.
    bob.dial("2001").await;
    let closed = bob.expect("CALL_CLOSED", SOON).await;
    assert!(closed["param"].as_str().is_some_and(|why| why.contains("488")), "{closed}");
    refused_for(&node, "SEP2001", "peer_not_secure").await;
    bob.pull_the_plug();
    let mut bob = phone(&lab, &node, "2002", Transport::Tls, Some("srtp")).await;
    talk(&mut bob, &mut alice).await;
    assert_eq!(node.admin("calls")[0]["legs"][0]["security"], "encrypted", "{}", node.admin("calls"));
    bob.hang_up().await;
    alice.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}
