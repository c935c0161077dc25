//! Many applications that have opened a provider over TLS and say nothing more: what each costs the node, and what a
//! call feels of them. `cargo run -p tests --bin idle_sessions [-- COUNT]`; docs/performance.md has what was measured.
#![allow(clippy::print_stdout, reason = "a command: its output is what it is for")]

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tests::lab::agent::{Agent, Ask};
use tests::lab::app::Answerer;
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, built};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Handshakes at once.
const SIDE_BY_SIDE: usize = 16;
/// Calls of each measurement.
const CALLS: usize = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let count: usize = std::env::args().nth(1).map_or(10_000, |count| count.parse().expect("a number"));
    let files = ctimanager::io::raise_file_limit();
    println!("{count} sessions; open files at most {files:?}");
    let lab = Lab::new("idle");
    let trunk = lab.address();
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .trunk("pstn", trunk)
        .parameter("max_cti_connections", json!(count + 10))
        .parameter("max_unopened_connections", json!(1_000))
        .parameter("max_unopened_connections_per_address", json!(1_000))
        .user("attendant", &["RP_MAIN"])
        .user("crowd", &[]);
    let node = Node::start(&lab, config).await;
    let _application = Answerer::start(&lab, &node, "attendant", "RP_MAIN").await;
    let mut agent = Agent::at(trunk, node.sip).await;
    calls(&mut agent, "before").await;

    let connector = connector(&node);
    let (before, began) = (node.memory_kib(), Instant::now());
    let mut sessions = Vec::with_capacity(count);
    while sessions.len() < count {
        let batch = (0..SIDE_BY_SIDE.min(count - sessions.len()))
            .map(|_| tokio::spawn(open(connector.clone(), node.cti)));
        for opening in batch.collect::<Vec<_>>() {
            sessions.push(opening.await.expect("no panic"));
        }
    }
    let took = began.elapsed();
    let grown = node.memory_kib() - before;
    println!("opened in {:.1} s; {} files open", took.as_secs_f64(), node.open_files());
    println!(
        "memory {before} KiB before, {grown} KiB more: {:.1} KiB a session",
        grown as f64 / count as f64
    );
    calls(&mut agent, "beside them").await;
    assert_eq!(node.admin("sessions").as_array().map_or(0, Vec::len), count + 1);
    drop(sessions);
}

/// Places calls one after the other; says how long each 200 took.
async fn calls(agent: &mut Agent, when: &str) {
    let body =
        "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let mut times = Vec::new();
    for n in 0..CALLS {
        let call = format!("{}-{n}", when.replace(' ', "-"));
        let ask = Ask {
            method: "INVITE",
            to: "5000",
            from: "4000",
            call: &call,
            cseq: 1,
            headers: Vec::new(),
            body,
        };
        let asked = Instant::now();
        let answer = agent.ask(&ask).await;
        times.push(asked.elapsed());
        assert_eq!(answer.status(), 200, "{}", answer.0);
        let to = format!("To: {}", answer.header("To").unwrap_or_default());
        for method in ["ACK", "BYE"] {
            let cseq = if method == "ACK" { 1 } else { 2 };
            let text = agent.write(&Ask { method, cseq, body: "", ..ask.clone() });
            let own = text.lines().find(|line| line.starts_with("To: ")).expect("it has one").to_owned();
            agent.send(text.replace(&own, &to).as_bytes()).await;
        }
        while agent.hear().await.header("CSeq") != Some("2 BYE") {}
    }
    times.sort();
    println!(
        "{CALLS} calls {when}: INVITE to 200 p50 {:?}, p99 {:?}, slowest {:?}",
        times[CALLS / 2],
        times[CALLS * 99 / 100],
        times[CALLS - 1]
    );
}

/// A connection with an open provider, by the user's certificate: no password is hashed. Its heartbeat is an hour.
async fn open(connector: TlsConnector, node: std::net::SocketAddr) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(node).await.expect("the node listens");
    let name = ServerName::IpAddress(node.ip().into());
    let mut stream = connector.connect(name, tcp).await.expect("a handshake");
    let params = json!({"user": "crowd", "application": "idle", "heartbeat_ms": 3_600_000});
    let open = json!({"jsonrpc": "2.0", "id": 1, "method": "provider.open", "params": params});
    stream.write_all(format!("{open}\n").as_bytes()).await.expect("written");
    let mut answer = vec![0; 4096];
    let wait = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut answer));
    let length = wait.await.expect("in time").expect("read");
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.contains("\"session\""), "{answer}");
    stream
}

fn connector(node: &Node) -> TlsConnector {
    let pki = node.pki();
    let made = Command::new(built("ctimanager"))
        .args(["pki", "client"])
        .arg(&pki)
        .args(["--user", "crowd"])
        .output();
    assert!(made.expect("the program runs").status.success(), "no certificate");
    let certificates = |path: &Path| {
        let read = CertificateDer::pem_file_iter(path).expect("PEM");
        read.collect::<Result<Vec<_>, _>>().expect("certificates")
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates(&node.ca()).remove(0)).expect("the authority's certificate");
    let own = pki.join("clients").join("crowd");
    let key = PrivateKeyDer::from_pem_file(own.with_extension("key")).expect("a key");
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the protocol versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&own.with_extension("pem")), key)
            .expect("the key fits");
    TlsConnector::from(Arc::new(config))
}
