//! Nodes of one configuration as processes of their own: they see each other, die, stand still and come back; and who is no
//! node of theirs stays outside.

use serde_json::{Value, json};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use tests::lab::cluster::{BY_AND_BY, Cluster};
use tests::lab::openssl::Client;
use tests::lab::{SOON, eventually};

#[tokio::test]
async fn nodes_see_each_other_and_a_dead_or_frozen_one_is_down_until_it_is_back() {
    let mut cluster = Cluster::new("nodes", &["cm1", "cm2", "cm3"]);
    for name in ["cm1", "cm2", "cm3"] {
        cluster.start(name).await;
    }
    cluster.all_run(&["cm1", "cm2", "cm3"]).await;
    let rows = cluster.ask("cm1", "nodes").expect("it answers");
    let names: Vec<&Value> = rows.as_array().into_iter().flatten().map(|row| &row["node"]).collect();
    assert_eq!(names, ["cm1", "cm2", "cm3"]);
    let revision = &rows[0]["revision"];
    for row in rows.as_array().into_iter().flatten() {
        assert!(row["revision"] == *revision && row["incarnation"] == 1 && row["since"].is_string(), "{row}");
        assert_eq!(row["services"], json!(["callmanager", "ctimanager"]));
    }
    let status = cluster.ask("cm2", "status").expect("it answers");
    assert_eq!(status["nodes"], json!({"running": 3, "down": 0}));
    assert_eq!((&status["revision"], &status["cluster"]), (revision, &json!("lab")));
    cluster.until_ready("cm2").await;
    let (_, metrics) = cluster.page("cm2", "/metrics").await;
    assert!(metrics.contains("ctimanager_nodes{state=\"running\"} 3"), "{metrics}");

    cluster.process("cm1").kill();
    for other in ["cm2", "cm3"] {
        let row = cluster.until(other, "cm1", "down").await;
        assert_eq!((&row["link"], &row["incarnation"]), (&json!("down"), &json!(1)));
        cluster.until_alarm(other, "ServerDown", "cm1", "raised").await;
        cluster.until_alarm(other, "SDLLinkOOS", "cm1", "raised").await;
    }
    assert_eq!(cluster.ask("cm3", "status").expect("it answers")["nodes"], json!({"running": 2, "down": 1}));
    cluster.start("cm1").await;
    cluster.all_run(&["cm1", "cm2", "cm3"]).await;
    assert_eq!(cluster.row("cm3", "cm1").expect("it is there")["incarnation"], 2);
    cluster.until_alarm("cm2", "ServerDown", "cm1", "cleared").await;

    cluster.process("cm2").signal("STOP");
    cluster.until("cm1", "cm2", "down").await;
    cluster.until("cm3", "cm2", "down").await;
    cluster.process("cm2").signal("CONT");
    cluster.all_run(&["cm1", "cm2", "cm3"]).await;
    assert_eq!(cluster.row("cm1", "cm2").expect("it is there")["incarnation"], 1, "the same life");

    assert!(cluster.ask("cm3", "drain").is_some());
    cluster.until("cm1", "cm3", "draining").await;
    assert!(cluster.process("cm3").terminate().await.success());
    cluster.until("cm2", "cm3", "down").await;
}

/// A handshake with this certificate, or with none.
async fn knock(cluster: &Cluster, identity: Option<&Path>, words: &[&str]) {
    let key = identity.map(|path| path.with_extension("key"));
    let paths = identity.and_then(Path::to_str).zip(key.as_deref().and_then(Path::to_str));
    let mut all: Vec<&str> = paths.map_or_else(Vec::new, |(cert, key)| vec!["-cert", cert, "-key", key]);
    all.extend(words);
    let ca = cluster.pki().join("ca.pem");
    let _ = Client::connect(cluster.lab(), cluster.port("cm1"), &ca, &all).finish().await;
}

#[tokio::test]
async fn who_is_no_node_is_closed_in_the_handshake_and_told_of() {
    let mut cluster = Cluster::new("strangers", &["cm1", "cm2"]);
    cluster.make_certificates("other-pki");
    let user = cluster.certify("ivr");
    let false_node = cluster.certify("cm2");
    let other = cluster.pki().with_file_name("other-pki").join("cm2.pem");
    cluster.start("cm1").await;
    let told = |reason: &str| {
        let alarms = cluster.alarms("cm1", "ClusterPeerRefused");
        alarms.iter().any(|alarm| {
            alarm["parameters"]["reason"] == reason && alarm["parameters"]["address"].is_string()
        })
    };
    // The log and the list have one a second; each is tried until it was that one.
    for (identity, reason) in [
        (Some(user.as_path()), "not_a_node"),
        (Some(false_node.as_path()), "wrong_host"),
        (Some(other.as_path()), "other_authority"),
        (None, "no_certificate"),
    ] {
        eventually(format!("{reason} is told"), BY_AND_BY, async || {
            knock(&cluster, identity, &[]).await;
            told(reason).then_some(())
        })
        .await;
    }
    eventually("plain text is told", BY_AND_BY, async || {
        let mut stream = TcpStream::connect(cluster.port("cm1")).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a connection");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
        // An alert of TLS may come before the end, or the end be a reset.
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!String::from_utf8_lossy(&said).contains("HTTP"), "{said:?}");
        told("no_tls").then_some(())
    })
    .await;
    assert_eq!(cluster.row("cm1", "cm2").expect("it answers")["state"], "unknown", "none of them was cm2");
    let (_, metrics) = cluster.page("cm1", "/metrics").await;
    let refused =
        metrics.lines().find_map(|line| line.strip_prefix("ctimanager_cluster_peers_refused_total "));
    assert!(refused.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count >= 5), "{metrics}");

    cluster.start("cm2").await;
    cluster.all_run(&["cm1", "cm2"]).await;
}

#[tokio::test]
async fn one_address_gets_its_share_of_handshakes_between_nodes() {
    let mut cluster = Cluster::new("crowd", &["cm1", "cm2"]);
    cluster.start("cm1").await;
    let port = cluster.port("cm1");
    let crowd: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(port).expect("it listens")).collect();
    let mut late = TcpStream::connect(port).expect("it listens");
    late.set_read_timeout(Some(SOON)).expect("a connection");
    let closed = late.read(&mut [0; 16]).map_err(|error| error.kind());
    assert!(matches!(closed, Ok(0) | Err(ErrorKind::ConnectionReset)), "it is closed at once: {closed:?}");
    for stream in &crowd {
        stream.set_nonblocking(true).expect("a connection");
        let waits = stream.peek(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(waits, Err(ErrorKind::WouldBlock), "the others are waited for");
    }
    drop(crowd);
    cluster.start("cm2").await;
    cluster.all_run(&["cm1", "cm2"]).await;
}

#[tokio::test]
async fn the_second_process_of_a_node_ends_and_so_does_a_first_that_was_replaced_while_it_stood_still() {
    let mut cluster = Cluster::new("twice", &["cm1", "cm2"]);
    cluster.start("cm1").await;
    cluster.start("cm2").await;
    cluster.all_run(&["cm1", "cm2"]).await;

    cluster.start_second("cm1", "second").await;
    let ended = cluster.process("second").wait(BY_AND_BY).await;
    assert_eq!(ended.code(), Some(1));
    assert!(cluster.process("second").log().contains("another process of the node cm1 is up"));
    for at in ["cm1", "cm2"] {
        cluster.until_alarm(at, "DuplicateNode", "cm1", "cleared").await;
    }
    cluster.all_run(&["cm1", "cm2"]).await;

    cluster.process("cm1").signal("STOP");
    cluster.until("cm2", "cm1", "down").await;
    cluster.start_second("cm1", "third").await;
    cluster.until("cm2", "cm1", "running").await;
    cluster.until("third", "cm2", "running").await;
    cluster.until_ready("third").await;
    cluster.process("cm1").signal("CONT");
    let ended = cluster.process("cm1").wait(BY_AND_BY).await;
    assert_eq!(ended.code(), Some(1));
    cluster.until("cm2", "cm1", "running").await;
    assert!(cluster.process("third").ended().is_none());
}
