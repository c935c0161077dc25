//! The transport as another TLS library finds it: versions, compression, renegotiation, certificates of either side, and
//! their exchange while connections live.

use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tests::lab::app::{App, Media};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::openssl::{self, Client, Listener, x509};
use tests::lab::{Lab, built};

fn config(lab: &Lab) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .parameter("application_heartbeat_minimum_interval", json!("1s"))
        .user("attendant", &["RP_MAIN"])
        .user("ivr", &["RP_MAIN"])
}

/// The alert with which the server ended the handshake.
fn alert(said: &str) -> Option<&str> {
    said.split_once("SSL alert number ")?.1.split_whitespace().next()
}

/// A handshake and its end.
async fn handshake(lab: &Lab, to: SocketAddr, ca: &Path, words: &[&str]) -> String {
    Client::connect(lab, to, ca, words).finish().await
}

#[tokio::test]
async fn nothing_older_than_tls_1_2_is_spoken_at_any_port() {
    let lab = Lab::new("tls-versions");
    let node = Node::start(&lab, config(&lab)).await;
    let (ca, pki) = (node.ca(), node.pki());
    for (name, port) in [("CTI", node.cti), ("web", node.web), ("SIP", node.sips)] {
        for old in ["-tls1", "-tls1_1"] {
            let said = handshake(&lab, port, &ca, &[old]).await;
            // Without the signature algorithms of TLS 1.2, rustls says handshake_failure before protocol_version.
            assert!(matches!(alert(&said), Some("40" | "70")), "{name} {old}: the server refuses: {said}");
            assert!(said.contains("Cipher is (NONE)"), "{name} {old}: {said}");
        }
        for (new, version) in [("-tls1_2", "New, TLSv1.2"), ("-tls1_3", "New, TLSv1.3")] {
            let said = handshake(&lab, port, &ca, &[new]).await;
            assert!(said.contains(version), "{name} {new}: {said}");
            assert!(said.contains("Compression: NONE"), "{name} {new}: {said}");
            assert!(said.contains("Verify return code: 0 (ok)"), "{name} {new}: the same authority: {said}");
        }
        let weak = ["-tls1_2", "-cipher", "AES128-SHA:ECDHE-ECDSA-AES128-SHA@SECLEVEL=0"];
        let said = handshake(&lab, port, &ca, &weak).await;
        assert_eq!(alert(&said), Some("40"), "{name}: neither CBC nor RSA key exchange: {said}");
    }
    // The same client can speak the old versions to a server that has them.
    let identity = (pki.join("cm1.pem"), pki.join("cm1.key"));
    let address = lab.address();
    let _server = openssl::server(&lab, address, (&identity.0, &identity.1), "-tls1_1").await;
    let said = handshake(&lab, address, &ca, &["-tls1_1"]).await;
    assert!(said.contains("Protocol  : TLSv1.1") && !said.contains("Cipher is (NONE)"), "{said}");
}

#[tokio::test]
async fn a_connection_is_not_negotiated_anew() {
    let lab = Lab::new("tls-renegotiation");
    let node = Node::start(&lab, config(&lab)).await;
    let mut client = Client::connect(&lab, node.cti, &node.ca(), &["-tls1_2"]);
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "openssl", "heartbeat_ms": 1_000});
    client.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "provider.open", "params": hello}).to_string());
    client.says("\"heartbeat_ms\":1000").await;
    client.say("R");
    let said = client.ends().await;
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
}

/// What `pki client` prints is what another TLS library and another user of JSON need.
#[tokio::test]
async fn the_lines_that_pki_client_prints_open_a_provider_without_a_password() {
    let lab = Lab::new("tls-client");
    let node = Node::start(&lab, config(&lab)).await;
    let made = Command::new(built("ctimanager"))
        .args(["pki", "client"])
        .arg(node.pki())
        .args(["--user", "attendant"])
        .output()
        .expect("the program runs");
    let printed = String::from_utf8_lossy(&made.stdout).into_owned();
    let line = |start: &str| {
        let found = printed.lines().map(str::trim).find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in {printed}")).to_owned()
    };
    assert!(line("- {id:").contains("\"attendant\""), "{printed}");
    let command = line("openssl s_client -quiet -connect HOST:2749 ");
    // As a shell reads them: paths may hold spaces and quotes.
    let typed = command.split_once(" HOST:2749 ").expect("where to").1;
    let read = Command::new("sh").args(["-c", &format!("printf '%s\\n' {typed}")]).output().expect("a shell");
    let words = String::from_utf8_lossy(&read.stdout).into_owned();
    let words: Vec<&str> = words.lines().collect();
    let hello = line("{\"jsonrpc\"");
    let mut client = Client::connect(&lab, node.cti, &node.ca(), &words);
    client.say(&hello);
    client.says("\"session\":").await;
    drop(client);
    // The certificate is the user's, and nobody else's.
    let mut client = Client::connect(&lab, node.cti, &node.ca(), &words);
    client.say(&hello.replace("\"attendant\"", "\"ivr\""));
    client.says("LOGIN_FAILED").await;
}

#[tokio::test]
async fn certificates_are_exchanged_while_connections_live() {
    let lab = Lab::new("tls-reload");
    let config = config(&lab);
    let node = Node::start(&lab, config.clone()).await;
    let mut before = node.application("attendant").await;
    let old = x509(&node.pki().join("cm1.pem"), &["-serial"]);
    let renewed = Command::new(built("ctimanager"))
        .args(["pki", "init", "--renew"])
        .arg(node.pki())
        .arg("--config")
        .arg(node.file())
        .status();
    assert!(renewed.is_ok_and(|status| status.success()));
    let new = x509(&node.pki().join("cm1.pem"), &["-serial"]);
    assert_ne!(old, new);
    let shown = async |port| {
        let said = handshake(&lab, port, &node.ca(), &["-tls1_3"]).await;
        let (start, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        let from = said.find(start).unwrap_or_else(|| panic!("no certificate in {said}"));
        let to = said[from..].find(end).map_or(said.len(), |at| from + at + end.len());
        let file = lab.folder("shown").join("certificate.pem");
        std::fs::write(&file, format!("{}\n", &said[from..to])).expect("a file");
        x509(&file, &["-serial"])
    };
    assert_eq!(shown(node.cti).await, old, "nothing changes before the reload");
    node.reloads(&config);
    for port in [node.cti, node.web, node.sips] {
        assert_eq!(shown(port).await, new, "{port}");
    }
    before.call("provider.heartbeat", json!({})).await;
    assert_eq!(node.admin("status")["sessions"], 1);
}

/// A number of its own for each name.
fn serial(name: &str) -> String {
    name.bytes().fold(1_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())).to_string()
}

/// Certificates of ten days, made by openssl with the authority's key: for the node, and for an application.
fn brief(lab: &Lab, pki: &Path, name: &str) {
    let folder = lab.folder("brief");
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let host = lab.host();
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    request.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=IP:{host}")]);
    request.args(["-keyout"]).arg(file("key")).arg("-out").arg(file("csr"));
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-days", "10", "-copy_extensions", "copy", "-CA"]);
    sign.arg(pki.join("ca.pem")).arg("-CAkey").arg(pki.join("ca.key"));
    // Without a file of numbers: openssl takes no long path for that.
    sign.arg("-set_serial").arg(serial(name));
    sign.arg("-in").arg(file("csr")).arg("-out").arg(file("pem"));
    for mut command in [request, sign] {
        let made = command.output().expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

fn raised(node: &Node, name: &str) -> bool {
    let alarms = node.admin("alarms");
    let mut all = alarms.as_array().expect("a list").iter();
    all.any(|alarm| {
        alarm["name"] == name
            && alarm["state"] == "raised"
            && alarm["cure"].as_str().is_some_and(|cure| cure.contains("pki"))
    })
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_ahead_and_a_new_one_clears_the_alarm() {
    let lab = Lab::new("tls-expiry");
    let config = config(&lab);
    let node = Node::start(&lab, config.clone()).await;
    let pki = node.pki();
    for name in ["cm1", "attendant"] {
        brief(&lab, &pki, name);
    }
    let made = lab.folder("brief");
    assert!(!raised(&node, "NodeCertificateExpiresSoon"));
    let good = ["pem", "key"].map(|ending| {
        let file = pki.join(format!("cm1.{ending}"));
        let kept = std::fs::read(&file).expect("it is there");
        std::fs::copy(made.join(format!("cm1.{ending}")), &file).expect("copied");
        (file, kept)
    });
    node.reloads(&config);
    assert!(raised(&node, "NodeCertificateExpiresSoon"));
    let (pem, key) = (made.join("attendant.pem"), made.join("attendant.key"));
    let words = ["-quiet", "-cert", &pem.display().to_string(), "-key", &key.display().to_string()];
    let mut client = Client::connect(&lab, node.cti, &node.ca(), &words);
    let hello = json!({"user": "attendant", "application": "openssl"});
    client.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "provider.open", "params": hello}).to_string());
    client.says("CtiProviderPeerCertExpireSoon").await;
    for (file, kept) in good {
        std::fs::write(file, kept).expect("written");
    }
    node.reloads(&config);
    assert!(!raised(&node, "NodeCertificateExpiresSoon"));
    assert!(raised(&node, "CtiProviderPeerCertExpireSoon"), "the application still has its own");
}

/// SIP over TLS as the client: the trunk must show a certificate of the one authority, and is shown the node's.
#[tokio::test]
async fn a_trunk_over_tls_must_be_of_the_same_authority() {
    let lab = Lab::new("tls-trunk");
    let (ours, theirs) = (lab.address(), lab.address());
    let trunk = |name: &str, at: SocketAddr| json!({"name": name, "host": at.ip(), "port": at.port(), "transport": "tls"});
    let config = config(&lab)
        .port("PORT_1", "5101")
        .add("trunks", trunk("ours", ours))
        .add("trunks", trunk("theirs", theirs))
        .pattern("8.!", "ours")
        .pattern("9.!", "theirs")
        .user("caller", &["PORT_1"]);
    let node = Node::start(&lab, config).await;
    brief(&lab, &node.pki(), "pstn");
    let other = lab.folder("other");
    let made = Command::new(built("ctimanager")).args(["pki", "init"]).arg(&other).status();
    assert!(made.is_ok_and(|status| status.success()));
    brief(&lab, &other, "stranger");
    let files = lab.folder("brief");
    let pair = |name: &str| (files.join(format!("{name}.pem")), files.join(format!("{name}.key")));
    let ((pem, key), (foreign_pem, foreign_key)) = (pair("pstn"), pair("stranger"));
    let mut good = Listener::start(&lab, ours, (&pem, &key), &node.ca()).await;
    let mut bad = Listener::start(&lab, theirs, (&foreign_pem, &foreign_key), &node.ca()).await;

    let mut app = App::open(&lab, &node, "caller", "PORT_1", Media::Static).await;
    app.cti.call("call.make", json!({"device": "PORT_1", "destination": "8123"})).await;
    good.shows("INVITE sip:").await;
    assert!(good.log().contains("CN = cm1"), "the node shows who it is: {}", good.log());
    let made = app.cti.call("call.make", json!({"device": "PORT_1", "destination": "9123"})).await;
    bad.shows("alert").await;
    app.cti.expect_leg("call.failed", &made["leg"]).await;
    assert!(!bad.log().contains("INVITE"), "nothing is said to a stranger: {}", bad.log());
}
