//! Keys of encrypted media for applications: who gets them, when, and that they open what was captured. Another library decrypts.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::capture::{Capture, MediaKey};
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::{Lab, SOON, tone};

const ALICE_HZ: u32 = 450;
const BOB_HZ: u32 = 900;
const GROUPS: [&str; 3] = [
    "Standard CTI Enabled",
    "Standard CTI Secure Connection",
    "Standard CTI Allow Reception of SRTP Key Material",
];
const PHONES: [&str; 2] = ["SEP2001", "SEP2002"];

fn config(lab: &Lab) -> Config {
    let encrypted = json!({"media_encryption": "optional"});
    Config::new(lab)
        .phone_with("2001", &encrypted)
        .phone_with("2002", &encrypted)
        .phone("2003")
        .member("recorder", &GROUPS, &["SEP2001", "SEP2002", "SEP2003"])
        .member("watcher", &GROUPS[..1], &PHONES)
        .parameter("persist_sessions", json!(true))
}

async fn phone(lab: &Lab, node: &Node, number: &str, hz: u32) -> Baresip {
    let account = Account { media_encryption: Some("srtp-mand"), ..node.account(number, Transport::Tls, hz) };
    Baresip::registered(lab, account).await
}

async fn opens(cti: &mut Cti) {
    for device in PHONES {
        cti.call("device.open", json!({"device": device})).await;
    }
}

async fn talk(alice: &mut Baresip, bob: &mut Baresip) {
    alice.dial("2002").await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    alice.hears(BOB_HZ, SOON).await;
    bob.hears(ALICE_HZ, SOON).await;
}

/// What is told of a key of a device's stream.
async fn key_of(cti: &mut Cti, device: &str, direction: &str) -> Value {
    let is_it = |event: &Value| event["leg"]["device"] == device && event["direction"] == direction;
    cti.expect_event("media.srtp_key", is_it, SOON).await
}

/// A stream that starts: its address, and its key, which is told next.
async fn stream(cti: &mut Cti, device: &str, direction: &str) -> (String, MediaKey) {
    let is_it = |event: &Value| event["leg"]["device"] == device && event["direction"] == direction;
    let started = cti.expect_event("media.started", is_it, SOON).await;
    assert_eq!(started["security"], "encrypted", "{started}");
    let key = key_of(cti, device, direction).await;
    let number = |event: &Value| event["seq"].as_u64();
    assert_eq!(number(&key), number(&started).map(|seq| seq + 1), "the next event");
    let ip = started["ip"].as_str().unwrap_or_default();
    (format!("{ip}:{}", started["port"]), media_key(&key))
}

fn media_key(event: &Value) -> MediaKey {
    assert_eq!(event["indicator"], "available");
    assert!(event["since"].as_str().is_some_and(|since| since.starts_with("20") && since.ends_with('Z')));
    assert!(event.get("ssrc").is_none() && event.get("roc").is_none(), "the node sees no packet");
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    MediaKey { algorithm: text("algorithm"), key: text("key"), salt: text("salt") }
}

/// Only the indicator is there.
fn assert_bare(event: &Value, indicator: &str) {
    assert_eq!(event["indicator"], indicator);
    for name in ["algorithm", "key", "salt", "mki", "lifetime", "since"] {
        assert!(event.get(name).is_none(), "{name} is there");
    }
}

/// Every file below a folder, as it is.
fn files(folder: &Path, all: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), all),
            Ok(_) => all.extend(std::fs::read(entry.path())),
            Err(_) => {}
        }
    }
}

/// Nothing that the node wrote or shows has a key that is in use.
async fn assert_kept_secret(node: &Node, keys: &[MediaKey]) {
    let mut all = Vec::new();
    files(&node.state(), &mut all);
    assert!(!all.is_empty(), "there is state on the disk");
    all.push(node.log().into_bytes());
    for question in ["status", "calls", "sessions", "alarms", "devices"] {
        all.push(node.admin(question).to_string().into_bytes());
    }
    all.push(node.page("/metrics").await.1.into_bytes());
    for key in keys {
        for text in [&key.key, &key.salt] {
            let stem = text.trim_end_matches('=').as_bytes();
            assert!(stem.len() >= 16, "a key");
            // In base64 alone and as a part of the whole; raw; in hexadecimal.
            let part = &stem[..stem.len() - 2];
            let found = all.iter().any(|bytes| bytes.windows(part.len()).any(|window| window == part));
            assert!(!found, "a key in use was written");
        }
    }
    assert!(!node.log().contains("inline:"));
}

/// Who comes in mid-call gets the keys in use after the answer.
async fn mid_call(node: &Node, keys: &[(String, MediaKey)]) {
    let mut late = node.application("recorder").await;
    opens(&mut late).await;
    for device in PHONES {
        for direction in ["input", "output"] {
            let key = media_key(&key_of(&mut late, device, direction).await);
            assert!(keys.iter().any(|(_, known)| *known == key), "the keys in use");
        }
    }
}

/// Each key that went out is a line.
fn assert_audited(node: &Node, times: usize) {
    let log = node.log();
    let audited: Vec<&str> = log.lines().filter(|line| line.contains("action=media.srtp_key")).collect();
    assert_eq!(audited.len(), times);
    assert!(audited.iter().all(|line| {
        line.contains("ctimanager::audit: user=\"recorder\"")
            && line.contains(" session=s")
            && line.contains(" leg=l")
            && line.contains(" direction=")
    }));
}

#[tokio::test]
async fn keys_open_what_was_captured_and_no_other_does() {
    let lab = Lab::new("keys");
    let mut node = Node::start_logging(&lab, &config(&lab), Some("trace")).await;
    let mut capture = Capture::start(&lab).await;
    let mut recorder = node.application("recorder").await;
    opens(&mut recorder).await;
    let mut alice = phone(&lab, &node, "2001", ALICE_HZ).await;
    let mut bob = phone(&lab, &node, "2002", BOB_HZ).await;
    talk(&mut alice, &mut bob).await;
    let mut keys = Vec::new();
    for device in PHONES {
        for direction in ["input", "output"] {
            keys.push(stream(&mut recorder, device, direction).await);
        }
    }
    assert_eq!(keys[0], keys[3], "what Alice receives is what Bob sends");
    assert_eq!(keys[1], keys[2]);
    assert_ne!(keys[0].1, keys[1].1, "each sends with its own");

    // Hold and retrieve: the streams start again, and their keys are told again.
    let leg = node.admin("calls")[0]["legs"][0]["leg"].clone();
    recorder.call("call.hold", json!({"leg": leg})).await;
    recorder.expect_leg("call.held", &leg).await;
    bob.receives_nothing().await;
    recorder.call("call.retrieve", json!({"leg": leg})).await;
    for (device, of) in [("SEP2001", 0), ("SEP2002", 2)] {
        for (direction, of) in [("input", of), ("output", of + 1)] {
            assert_eq!(stream(&mut recorder, device, direction).await.0, keys[of].0);
        }
    }
    alice.receives_audio().await;
    bob.receives_audio().await;

    mid_call(&node, &keys).await;
    let only: Vec<MediaKey> = keys.iter().map(|(_, key)| key.clone()).collect();
    assert_kept_secret(&node, &only).await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
    capture.end();

    for (at, hz) in [(0, BOB_HZ), (1, ALICE_HZ)] {
        let (to, key) = &keys[at];
        let heard = capture.decrypt(to, key);
        assert!(heard.of > 100 && heard.packets * 100 >= heard.of * 95, "{} of {}", heard.packets, heard.of);
        let tones = tone::frames_with(&heard.samples, hz);
        assert!(tones * 2 > heard.packets, "{tones} frames of {hz} Hz in {} packets", heard.packets);
        let wrong = capture.decrypt(to, &keys[1 - at].1);
        assert_eq!((wrong.packets, wrong.of), (0, heard.of), "another key opens nothing");
    }
    // Four at the start, after the hold, and in mid-call.
    assert_audited(&node, 12);
    let metrics = node.page("/metrics").await.1;
    assert!(metrics.contains("ctimanager_srtp_keys_delivered_total 12\n"), "{metrics}");
    assert!(node.proc("limits").lines().any(|l| l.starts_with("Max core file size") && l.contains(" 0 ")));
    node.is_well();
}

#[tokio::test]
async fn who_may_not_have_keys_gets_the_indicator_alone() {
    let lab = Lab::new("keys-not");
    let node = Node::start_logging(&lab, &config(&lab), Some("trace")).await;
    let mut watcher = node.application("watcher").await;
    opens(&mut watcher).await;
    let mut plain = Cti::plain(node.cti_plain).await;
    plain.open("recorder", PASSWORD).await;
    opens(&mut plain).await;
    plain.call("device.open", json!({"device": "SEP2003"})).await;
    let mut alice = phone(&lab, &node, "2001", ALICE_HZ).await;
    let mut bob = phone(&lab, &node, "2002", BOB_HZ).await;
    talk(&mut alice, &mut bob).await;
    for device in PHONES {
        for direction in ["input", "output"] {
            assert_bare(&key_of(&mut watcher, device, direction).await, "not_authorized");
            assert_bare(&key_of(&mut plain, device, direction).await, "unavailable");
        }
    }
    assert!(!node.log().contains("action=media.srtp_key"), "nobody had one");
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;

    // A phone that encrypts and one that does not: that is told, too; of who never does nothing is.
    let mut carol = Baresip::registered(&lab, node.account("2003", Transport::Tls, 650)).await;
    let account =
        Account { media_encryption: Some("srtp"), ..node.account("2001", Transport::Tls, ALICE_HZ) };
    alice.pull_the_plug();
    let mut alice = Baresip::registered(&lab, account).await;
    alice.dial("2003").await;
    carol.expect("CALL_INCOMING", SOON).await;
    carol.accept().await;
    alice.hears(650, SOON).await;
    for direction in ["input", "output"] {
        assert_bare(&key_of(&mut watcher, "SEP2001", direction).await, "not_encrypted");
        assert_bare(&key_of(&mut plain, "SEP2001", direction).await, "not_encrypted");
    }
    let of_carol = |event: &&Value| event["type"] == "media.srtp_key" && event["leg"]["device"] == "SEP2003";
    assert_eq!(plain.kept().iter().filter(of_carol).count(), 0);
    let seen: BTreeSet<String> = plain.kept().iter().map(|event| event["type"].to_string()).collect();
    assert!(seen.contains("\"media.started\""), "{seen:?}");
    alice.hang_up().await;
    carol.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}

/// A session that comes back hears the keys of what runs again, over TLS alone.
#[tokio::test]
async fn a_replay_has_the_keys_over_tls_and_not_by_plain_tcp() {
    let lab = Lab::new("keys-again");
    let config = config(&lab).parameter("session_resume_grace", json!("60s"));
    let node = Node::start_logging(&lab, &config, Some("trace")).await;
    let mut alice = phone(&lab, &node, "2001", ALICE_HZ).await;
    let mut bob = phone(&lab, &node, "2002", BOB_HZ).await;
    let mut first = node.connect().await;
    let opened = first.open("recorder", PASSWORD).await;
    opens(&mut first).await;
    talk(&mut alice, &mut bob).await;
    let (_, key) = stream(&mut first, "SEP2002", "output").await;
    drop(first);
    let mut again = node.connect().await;
    let resumed = again.resume("recorder", PASSWORD, &opened["session"], 0).await;
    assert_eq!(resumed["resumed"], true, "{resumed}");
    assert_eq!(media_key(&key_of(&mut again, "SEP2002", "output").await), key);
    drop(again);
    let mut plain = Cti::plain(node.cti_plain).await;
    let resumed = plain.resume("recorder", PASSWORD, &opened["session"], 0).await;
    assert_eq!(resumed["resumed"], true, "{resumed}");
    assert_bare(&key_of(&mut plain, "SEP2002", "output").await, "unavailable");
    assert_kept_secret(&node, &[key]).await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    node.is_quiet().await;
}
