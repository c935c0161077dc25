//! Certificates that are taken back and passwords that are changed, while their sessions live.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tests::lab::cti::{Cti, Message};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::openssl::Client;
use tests::lab::{Lab, SOON, built};

const NEW_PASSWORD: &str = "another one";

fn config(lab: &Lab) -> Config {
    Config::new(lab).route_point("RP_MAIN", "5000").user("ivr", &["RP_MAIN"]).user("desk", &["RP_MAIN"])
}

fn pki(words: &[&str], folder: &Path, more: &[&str]) {
    let made = Command::new(built("ctimanager")).arg("pki").args(words).arg(folder).args(more).output();
    let made = made.expect("the program runs");
    assert!(made.status.success(), "{words:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// An application with the certificate of this user, as another TLS library shows it.
fn with_certificate(lab: &Lab, node: &Node, user: &str) -> Client {
    let file = |ending: &str| node.pki().join(format!("clients/{user}.{ending}")).display().to_string();
    let words = ["-quiet", "-cert", &file("pem"), "-key", &file("key")];
    let mut client = Client::connect(lab, node.cti, &node.ca(), &words);
    let hello = json!({"user": user, "application": "openssl", "resume_grace_ms": 30_000});
    client.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "provider.open", "params": hello}).to_string());
    client
}

fn sessions(node: &Node) -> Vec<Value> {
    node.admin("sessions").as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_certificate_that_is_taken_back_ends_its_sessions_and_opens_no_other() {
    let lab = Lab::new("revoked");
    let config = config(&lab);
    let node = Node::start(&lab, config.clone()).await;
    for user in ["ivr", "desk"] {
        pki(&["client"], &node.pki(), &["--user", user]);
    }
    let mut stolen = with_certificate(&lab, &node, "ivr");
    stolen.says("\"session\":").await;
    let mut other = with_certificate(&lab, &node, "desk");
    other.says("\"session\":").await;
    let mut password = node.application("ivr").await;
    // Its predecessor is as good as the new one, until it is taken back with it.
    pki(&["client"], &node.pki(), &["--user", "ivr", "--renew"]);
    let mut renewed = with_certificate(&lab, &node, "ivr");
    renewed.says("\"session\":").await;
    pki(&["revoke"], &node.pki(), &["--user", "ivr"]);
    assert_eq!(sessions(&node).len(), 4, "nothing changes before the reload");

    node.reloads(&config);
    stolen.says("certificate_revoked").await;
    renewed.says("certificate_revoked").await;
    let left = sessions(&node);
    assert_eq!(left.len(), 2, "not even in their grace: {left:?}");
    password.call("provider.heartbeat", json!({})).await;
    let refused = with_certificate(&lab, &node, "ivr").ends().await;
    assert!(!refused.contains("\"session\""), "{refused}");
    node.writes(&["CtiProviderCloseCertRevoked", "user=ivr"]).await;

    pki(&["client"], &node.pki(), &["--user", "ivr", "--renew"]);
    with_certificate(&lab, &node, "ivr").says("\"session\":").await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_changes_nothing() {
    let lab = Lab::new("bad-list");
    let config = config(&lab);
    let node = Node::start(&lab, config.clone()).await;
    let mut application = node.application("ivr").await;
    std::fs::write(node.pki().join("crl.pem"), "no list").expect("written");
    let refused = node.reload(&config);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("revocation list"), "{refused:?}");
    application.call("provider.heartbeat", json!({})).await;
}

/// The configuration with another password of the user.
fn changed(config: &Config, user: &str) -> Config {
    let hash = security::password::hash(&security::Secret::new(NEW_PASSWORD.to_owned()), [7; 16]);
    config.clone().set("users", user, "password_hash", json!(hash.expect("a hash")))
}

async fn is_told(cti: &mut Cti, wanted: &str) -> Value {
    loop {
        match cti.next(SOON).await {
            Some(Message::Event(event)) if event.to_string().contains(wanted) => return event,
            Some(Message::Event(_) | Message::Reply(..)) => {}
            other => panic!("{wanted} was expected, and there came {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_changed_password_closes_the_sessions_of_the_old_one_and_of_nobody_else() {
    let lab = Lab::new("password");
    let config = config(&lab);
    let node = Node::start(&lab, config.clone()).await;
    pki(&["client"], &node.pki(), &["--user", "ivr"]);
    let mut certificate = with_certificate(&lab, &node, "ivr");
    certificate.says("\"session\":").await;
    let mut old = node.connect().await;
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "lab", "resume_grace_ms": 30_000});
    let session = old.call("provider.open", hello).await["session"].clone();
    let mut desk = node.application("desk").await;

    node.reloads(&changed(&config, "ivr"));
    let warned = is_told(&mut old, "CtiProviderCredentialChanged").await;
    assert_eq!(warned["alarm"]["state"], "raised", "{warned}");
    let last_seq = old.last_seq();
    is_told(&mut old, "credential_changed").await;
    old.expect_closed(SOON).await;
    desk.call("provider.heartbeat", json!({})).await;
    certificate.say(&json!({"jsonrpc": "2.0", "id": 2, "method": "provider.heartbeat"}).to_string());
    certificate.says("\"id\":2,\"result\"").await;

    let mut thief = node.connect().await;
    let resume = json!({"session": session, "last_seq": last_seq});
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "lab", "resume": resume});
    assert_eq!(thief.refused("provider.open", hello).await.symbol, "LOGIN_FAILED");
    let mut owner = node.connect().await;
    let resumed = owner.resume("ivr", NEW_PASSWORD, &session, last_seq).await;
    assert_eq!(resumed["resumed"], true, "who has the new one loses nothing: {resumed}");
}

#[tokio::test]
async fn within_its_grace_an_application_logs_in_anew_and_stays() {
    let lab = Lab::new("password-grace");
    let config = config(&lab).parameter("credential_change_grace", json!("2s"));
    let node = Node::start(&lab, config.clone()).await;
    let mut first = node.connect().await;
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "lab", "resume_grace_ms": 30_000});
    let session = first.call("provider.open", hello).await["session"].clone();
    let mut late = node.application("ivr").await;
    node.reloads(&changed(&config, "ivr"));
    is_told(&mut first, "CtiProviderCredentialChanged").await;
    let last_seq = first.last_seq();
    let mut anew = node.connect().await;
    assert_eq!(anew.resume("ivr", NEW_PASSWORD, &session, last_seq).await["resumed"], true);
    is_told(&mut late, "credential_changed").await;
    // The other's time was over at the same moment.
    anew.call("provider.heartbeat", json!({})).await;
    assert!(anew.next(Duration::from_millis(200)).await.is_none_or(|told| !is_closed(&told)));
}

#[tokio::test]
async fn further_reloads_give_an_old_password_no_more_time() {
    let lab = Lab::new("password-reloads");
    let config = config(&lab).parameter("credential_change_grace", json!("1s"));
    let node = Node::start(&lab, config.clone()).await;
    let mut thief = node.application("ivr").await;
    let changed = changed(&config, "ivr");
    let begun = tokio::time::Instant::now();
    loop {
        node.reloads(&changed);
        if thief.next(Duration::from_millis(100)).await.is_some_and(|told| is_closed(&told)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "each reload gave it another second");
    }
}

fn is_closed(told: &Message) -> bool {
    match told {
        Message::Closed => true,
        Message::Event(event) => event["type"] == "session.closed",
        Message::Reply(..) => false,
    }
}
