//! The shell with the real node, from files.

use super::*;
use crate::io::control::{Answer, Request};
use crate::io::unix::Address;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

/// A folder with a configuration and certificates.
struct Site {
    folder: PathBuf,
    authority: Authority,
}

impl Site {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ctimanager-node-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("pki")).expect("a folder");
        let mut site = Self { folder, authority: Authority::generate("hq", wall()).expect("an authority") };
        site.renew_certificates();
        site.write("attendant", "host: 127.0.0.1");
        site
    }

    fn file(&self) -> PathBuf {
        self.folder.join("hq.yaml")
    }

    fn renew_certificates(&mut self) {
        self.authority = Authority::generate("hq", wall()).expect("an authority");
        let node = self.authority.issue_node("cm1", &[], wall()).expect("a certificate");
        let pki = self.folder.join("pki");
        let files = [
            ("ca.pem", self.authority.pem().certificate.as_str()),
            ("cm1.pem", &node.certificate),
            ("cm1.key", node.key.expose()),
        ];
        for (name, text) in files {
            std::fs::write(pki.join(name), text).expect("written");
        }
    }

    /// A configuration with this user, and this in its node.
    fn write(&self, user: &str, node: &str) {
        let hash =
            security::password::hash(&security::Secret::new("sesame".into()), [3; 16]).expect("a hash");
        let text = format!(
            "cluster: {{name: hq}}\n\
             nodes:\n  - {{name: cm1, {node}, sip: {{udp: 0, tcp: 0, tls: 0}}, cti: {{tls: 0, plain: 0}}, web: 0}}\n\
             call_manager_groups: [{{name: Default, members: [cm1]}}]\n\
             device_pools: [{{name: Default, call_manager_group: Default}}]\n\
             devices: [{{name: RP_MAIN, type: route_point, pool: Default, lines: [\"5000\"]}}]\n\
             users: [{{id: {user}, kind: application_user, password_hash: \"{hash}\", \
             groups: [Standard CTI Enabled], controlled_devices: [RP_MAIN]}}]\n"
        );
        std::fs::write(self.file(), text).expect("written");
    }

    async fn launch(&self, tap: Option<Arc<dyn Tap>>) -> Running {
        let config = crate::config::load(&self.file()).expect("a good configuration").config;
        let node = config.node(None).expect("the only one").clone();
        let tls = certificates_of_node(&config, &node).expect("certificates");
        let mut listen = listen(&node).await.expect("an address");
        let state = self.folder.join("state");
        listen.control = Some(state.join("ctimanager.sock"));
        let reload = Some(FileReload::new(self.file(), &config, &node));
        let launch = Launch { config, node, tls, listen, reload, tap, state: Some(state), signals: false };
        launch.start().await.expect("it starts")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

async fn try_tls(ca: &str, address: Option<SocketAddr>) -> std::io::Result<BufReader<Tls>> {
    let config = security::tls::client(ca, None).expect("a client");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = connect(address).await;
    Ok(BufReader::new(soon(tokio_rustls::TlsConnector::from(config).connect(name, stream)).await?))
}

/// Sends a request and reads its reply.
async fn request(stream: &mut BufReader<Tls>, method: &str, params: Value) -> Value {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    stream.write_all(format!("{message}\n").as_bytes()).await.expect("written");
    loop {
        let message = next_line(stream).await;
        if message.get("id").is_some() {
            return message;
        }
    }
}

async fn next_line(stream: &mut BufReader<Tls>) -> Value {
    let mut line = String::new();
    soon(stream.read_line(&mut line)).await.expect("a line");
    serde_json::from_str(&line).expect("JSON")
}

fn credentials() -> Value {
    json!({"user": "attendant", "password": "sesame", "application": "test"})
}

async fn ask(socket: &Path, request: Request) -> Answer {
    let mut stream = BufReader::new(
        UnixStream::connect(Address::of(socket).expect("its folder").path()).await.expect("a connection"),
    );
    let line = format!("{}\n", serde_json::to_string(&request).expect("JSON"));
    stream.write_all(line.as_bytes()).await.expect("written");
    let mut answer = String::new();
    soon(stream.read_line(&mut answer)).await.expect("an answer");
    serde_json::from_str(&answer).expect("JSON")
}

#[tokio::test]
async fn metrics_tell_how_the_node_is_and_count_its_alarms() {
    let site = Site::new("metrics");
    let running = site.launch(None).await;
    let ca = site.authority.pem().certificate.clone();
    let mut app = try_tls(&ca, running.addresses.cti_tls.first().copied()).await.expect("connected");
    assert!(request(&mut app, "provider.open", credentials()).await.get("result").is_some());
    let mut web = try_tls(&ca, running.addresses.web.first().copied()).await.expect("connected");
    let question = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    web.write_all(question.as_bytes()).await.expect("written");
    let mut answer = String::new();
    soon(tokio::io::AsyncReadExt::read_to_string(&mut web, &mut answer)).await.expect("an answer");
    for line in [
        "ctimanager_sessions 1",
        "ctimanager_calls 0",
        "ctimanager_cti_connections_accepted_total 1",
        "ctimanager_alarms_total{alarm=\"CtiProviderOpened\"} 1",
        "ctimanager_alarms_standing{alarm=\"CtiMaxConnectionReached\"} 0",
    ] {
        assert!(answer.lines().any(|told| told == line), "{line}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_node_from_its_files_serves_applications_and_says_goodbye() {
    let site = Site::new("serves");
    let running = site.launch(None).await;
    let ca = site.authority.pem().certificate.clone();
    let mut stream = try_tls(&ca, running.addresses.cti_tls.first().copied()).await.expect("a handshake");
    let wrong = request(
        &mut stream,
        "provider.open",
        json!({"user": "attendant", "password": "barley", "application": "test"}),
    )
    .await;
    assert_eq!(wrong["error"]["data"]["cti"], "LOGIN_FAILED");
    let opened = request(&mut stream, "provider.open", credentials()).await;
    assert_eq!(opened["result"]["node"], "cm1");
    let port = running.addresses.cti_tls.first().copied().expect("it listens").port();
    assert_eq!(
        opened["result"]["ctimanagers"],
        json!([format!("127.0.0.1:{port}")]),
        "the port that it really has"
    );
    let media = json!({"device": "RP_MAIN", "media": {"mode": "none"}});
    let device = request(&mut stream, "device.open", media).await;
    assert_eq!(device["result"]["device"]["name"], "RP_MAIN");
    let socket = running.addresses.control.clone().expect("it listens");
    let Answer::Ok(sessions) = ask(&socket, Request::Sessions).await else { panic!("refused") };
    assert_eq!(sessions[0]["devices"], json!(["RP_MAIN"]));
    let goodbye = async {
        loop {
            let message = next_line(&mut stream).await;
            if message["params"]["type"] == "session.closed" {
                return message;
            }
        }
    };
    let (cause, goodbye) = tokio::join!(soon(running.stop()), goodbye);
    assert_eq!(cause, StopCause::Stopped);
    assert_eq!(goodbye["params"]["reason"], "stopping");
}

#[tokio::test]
async fn an_administrator_stops_the_node() {
    let site = Site::new("stops");
    let running = site.launch(None).await;
    let socket = running.addresses.control.clone().expect("it listens");
    let (answer, cause) = tokio::join!(ask(&socket, Request::Stop), soon(running.wait()));
    assert!(matches!(answer, Answer::Ok(_)), "{answer:?}");
    assert_eq!(cause, StopCause::Stopped);
}

#[tokio::test]
async fn a_reload_exchanges_users_and_certificates_and_refuses_what_needs_a_restart() {
    let mut site = Site::new("reloads");
    let running = site.launch(None).await;
    let socket = running.addresses.control.clone().expect("it listens");
    let old = site.authority.pem().certificate.clone();
    let mut before = try_tls(&old, running.addresses.cti_tls.first().copied()).await.expect("a handshake");

    site.write("attendant", "host: 127.0.0.2");
    let Answer::Error(what) = ask(&socket, Request::Reload).await else { panic!("it must be refused") };
    assert_eq!(what, "this needs a restart: nodes[cm1].host (127.0.0.1 → 127.0.0.2)");
    site.write("attendant", "host: 127.0.0.1");
    let text = std::fs::read_to_string(site.file()).expect("written");
    let queue = "service_parameters: {input_queue: 100, password_threads: 2}\n";
    std::fs::write(site.file(), format!("{text}{queue}")).expect("written");
    let Answer::Error(what) = ask(&socket, Request::Reload).await else { panic!("it must be refused") };
    let changes = "service_parameters.password_threads (1 → 2), service_parameters.input_queue (4096 → 100)";
    assert_eq!(what, format!("this needs a restart: {changes}"));
    std::fs::write(site.file(), "cluster: {nam: hq}\n").expect("written");
    let Answer::Error(what) = ask(&socket, Request::Reload).await else { panic!("it must be refused") };
    assert!(what.contains("hq.yaml:1:11: cluster.nam: "), "{what}");
    let opened = request(&mut before, "provider.open", credentials()).await;
    assert_eq!(opened["result"]["node"], "cm1", "nothing has changed");

    site.renew_certificates();
    site.write("somebody_else", "host: 127.0.0.1");
    assert_eq!(ask(&socket, Request::Reload).await, Answer::Ok(json!({"reloaded": true})));
    let new = site.authority.pem().certificate.clone();
    assert!(try_tls(&old, running.addresses.cti_tls.first().copied()).await.is_err());
    let mut after = try_tls(&new, running.addresses.cti_tls.first().copied()).await.expect("a handshake");
    let refused = request(&mut after, "provider.open", credentials()).await;
    assert_eq!(refused["error"]["data"]["cti"], "LOGIN_FAILED");
}

/// Remembers the kinds of what passes.
#[derive(Default)]
struct Listener(Mutex<Vec<&'static str>>);

impl Tap for Listener {
    fn input(&self, _now: Instant, input: &Input) {
        if matches!(input, Input::CtiFrame(..)) {
            self.0.lock().expect("no panic").push("request");
        }
    }

    fn output(&self, _now: Instant, output: &Output) {
        if matches!(output, Output::Cti(..)) {
            self.0.lock().expect("no panic").push("reply");
        }
    }
}

#[tokio::test]
async fn a_tap_sees_what_passes_in_its_order() {
    let site = Site::new("tap");
    let listener = Arc::new(Listener::default());
    let running = site.launch(Some(Arc::clone(&listener) as Arc<dyn Tap>)).await;
    let ca = site.authority.pem().certificate.clone();
    let mut stream = try_tls(&ca, running.addresses.cti_tls.first().copied()).await.expect("a handshake");
    let reply = request(&mut stream, "provider.devices", json!({})).await;
    assert_eq!(reply["error"]["data"]["cti"], "NOT_OPEN");
    assert_eq!(*listener.0.lock().expect("no panic"), ["request", "reply"]);
}

#[tokio::test]
async fn connections_without_a_provider_are_bounded() {
    let site = Site::new("unopened");
    let text = std::fs::read_to_string(site.file()).expect("written");
    let parameters = "service_parameters: {max_unopened_connections: 2}\n";
    std::fs::write(site.file(), format!("{text}{parameters}")).expect("written");
    let running = site.launch(None).await;
    let ca = site.authority.pem().certificate.clone();
    let mut first = try_tls(&ca, running.addresses.cti_tls.first().copied()).await.expect("a handshake");
    let opened = request(&mut first, "provider.open", credentials()).await;
    assert_eq!(opened["result"]["node"], "cm1");
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = try_tls(&ca, running.addresses.cti_tls.first().copied()).await.expect("a handshake");
        let reply = request(&mut stream, "provider.devices", json!({})).await;
        assert_eq!(reply["error"]["data"]["cti"], "NOT_OPEN");
        idle.push(stream);
    }
    let mut third = try_tls(&ca, running.addresses.cti_tls.first().copied()).await.expect("a handshake");
    assert_eq!(rest(&mut third).await, "");
}

#[tokio::test]
async fn without_certificates_the_command_that_makes_them_is_named() {
    let site = Site::new("bare");
    std::fs::remove_dir_all(site.folder.join("pki")).expect("removed");
    let options = RunOptions { config: site.file(), ..RunOptions::default() };
    let error = run(options).await.expect_err("no certificates").to_string();
    assert!(error.contains("ca.pem") && error.contains("`ctimanager pki init "), "{error}");
}

/// A handshake with a client certificate of the site's authority, made at this time.
async fn try_tls_as(
    site: &Site,
    user: &str,
    made: std::time::SystemTime,
    to: Option<SocketAddr>,
) -> BufReader<Tls> {
    let issued = site.authority.issue_client(user, made).expect("a certificate");
    let ca = &site.authority.pem().certificate;
    let config = security::tls::client(ca, Some(identity(&issued))).expect("a client");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = connect(to).await;
    let connector = tokio_rustls::TlsConnector::from(config);
    BufReader::new(soon(connector.connect(name, stream)).await.expect("a handshake"))
}

#[tokio::test]
async fn an_application_with_a_certificate_needs_no_password_and_goes_when_it_ends() {
    let site = Site::new("mutual");
    let running = site.launch(None).await;
    let address = running.addresses.cti_tls.first().copied();
    let open = |user: &str| json!({"user": user, "application": "test"});
    let mut app = try_tls_as(&site, "attendant", wall(), address).await;
    let refused = request(&mut app, "provider.open", open("another")).await;
    assert_eq!(refused["error"]["data"]["cti"], "LOGIN_FAILED");
    assert!(request(&mut app, "provider.open", open("attendant")).await["result"]["session"].is_string());
    let mut bare = try_tls(&site.authority.pem().certificate, address).await.expect("a handshake");
    let refused = request(&mut bare, "provider.open", open("attendant")).await;
    assert_eq!(refused["error"]["data"]["cti"], "LOGIN_FAILED");
    // One that ends in two seconds.
    let long_ago = wall() - security::pki::CERTIFICATE_LIFE + Duration::from_secs(2);
    let mut brief = try_tls_as(&site, "attendant", long_ago, address).await;
    assert!(request(&mut brief, "provider.open", open("attendant")).await["result"].is_object());
    assert_eq!(next_line(&mut brief).await["params"]["alarm"]["name"], "CtiProviderPeerCertExpireSoon");
    let last = next_line(&mut brief).await;
    assert_eq!(last["params"]["reason"], "certificate_expired", "{last}");
    assert_eq!(rest(&mut brief).await, "");
    // The other application's lives on.
    assert!(request(&mut app, "provider.devices", json!({})).await["result"].is_object());
    running.stop().await;
}
