//! What a node writes of what it does: the audit log has every opening, refusal and reload; passwords, keys and digests are
//! nowhere at any level, people's numbers and names at none above DEBUG.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tests::lab::agent::{Agent, Ask};
use tests::lab::app::{App, Media};
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::openssl::{Client, md5};
use tests::lab::{Lab, SOON, eventually};

const DIGEST: &str = "digest-secret-8a31";
const WRONG: &str = "wrong-secret-55c2";
const WRONG_DIGEST: &str = "wrong-digest-77e0";
/// In the file where something else belongs.
const MISPLACED: &str = "misplaced-secret-19d4";
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const ROUTE_POINT: &str = "5559017";
const DESK: &str = "5552001";
const CALLER: &str = "5554003";
const NAME: &str = "Mustermann";
const DATA: &str = "customer-4711";

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn config(lab: &Lab, trunk: std::net::SocketAddr) -> Config {
    let desk = json!({"name": "DESK", "type": "phone", "protocol": "sip", "pool": "Default", "lines": [DESK],
                      "digest": {"user": "desk", "password": DIGEST}, "media_encryption": "optional"});
    Config::new(lab)
        .route_point("RP_MAIN", ROUTE_POINT)
        .number(ROUTE_POINT, json!({"description": NAME, "forward": {"busy": DESK}}))
        .add("devices", desk)
        .trunk("pstn", trunk)
        .parameter("persist_sessions", json!(true))
        .parameter("session_resume_grace", json!("10s"))
        .user("ivr", &["RP_MAIN"])
}

fn ask<'a>(method: &'a str, to: &'a str, call: &'a str, body: &'a str) -> Ask<'a> {
    Ask { method, to, from: CALLER, call, cseq: 1, headers: Vec::new(), body }
}

/// A running office and all that was seen of it.
struct Office {
    node: Node,
    trunk: Agent,
    desk: Agent,
    config: Config,
    written: Vec<String>,
    digests: Vec<String>,
}

impl Office {
    async fn open(lab: &Lab, level: Option<&str>) -> Office {
        let address = lab.address();
        let config = config(lab, address);
        let node = Node::start_logging(lab, &config, level).await;
        let trunk = Agent::at(address, node.sip).await;
        let desk = Agent::bind(lab, node.sip).await;
        Office { node, trunk, desk, config, written: Vec::new(), digests: Vec::new() }
    }

    /// Logins and registrations, good and bad.
    async fn prove_who_is_who(&mut self) {
        for (user, password) in [("ivr", WRONG), ("nobody", PASSWORD)] {
            let hello = json!({"user": user, "password": password, "application": "lab"});
            let refused = self.node.connect().await.refused("provider.open", hello).await;
            assert_eq!(refused.symbol, "LOGIN_FAILED");
            self.written.push(refused.to_string());
        }
        for (call, password, status) in [("wrong", WRONG_DIGEST, 401), ("right", DIGEST, 200)] {
            let register =
                Ask { from: DESK, headers: vec!["Expires: 600".into()], ..ask("REGISTER", "", call, "") };
            let said = self.desk.ask_as(&register, "desk", password).await;
            assert_eq!(said.status(), status, "{}", said.0);
            let signed = self.desk.authorization.clone().unwrap_or_default();
            let response = signed.split_once("response=\"").map(|(_, rest)| rest.chars().take(32).collect());
            self.digests.extend([response.expect("a response"), md5(&format!("desk:lab:{password}"))]);
        }
    }

    /// A call to the application with data, one whose keys may not be taken and which nobody hears of, and one with keys
    /// beside RTP/AVP for a phone.
    async fn talk(&mut self, app: &mut App) {
        let encrypted =
            SDP.replace("RTP/AVP", "RTP/SAVP") + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY + "\r\n";
        let call = ask("INVITE", ROUTE_POINT, "keys", &encrypted);
        let text = self.trunk.write(&call);
        self.trunk.send(text.as_bytes()).await;
        assert_eq!(self.trunk.final_to(&call, &text).await.status(), 488);
        let call = ask("INVITE", ROUTE_POINT, "plain", SDP);
        let text = self.trunk.write(&call);
        self.trunk.send(text.as_bytes()).await;
        let leg = app.offered().await["leg"].clone();
        app.cti.call("call.answer", json!({"leg": leg})).await;
        app.cti.call("call.set_user_data", json!({"leg": leg, "user_data": {"account": DATA}})).await;
        self.written.push(self.node.admin("calls").to_string());
        app.drop_call(&leg).await;
        // Beside RTP/AVP the key is left out on a way that is not TLS.
        let beside = encrypted.replace("RTP/SAVP", "RTP/AVP");
        let text = self.trunk.write(&ask("INVITE", DESK, "phone", &beside));
        self.trunk.send(text.as_bytes()).await;
        let offered = self.desk.hear().await;
        assert!(
            offered.0.starts_with("INVITE") && !offered.0.contains(KEY),
            "the key goes on: {}",
            offered.0
        );
    }

    /// A file with a password where none belongs and a number that leads nowhere, then a good one.
    fn reload(&mut self) {
        let bad = self.config.clone().set("devices", "DESK", "digest", json!(MISPLACED)).set(
            "directory_numbers",
            ROUTE_POINT,
            "forward",
            json!({"busy": "5558888"}),
        );
        let refused = self.node.reload(&bad);
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains("5558888"), "the administrator is told: {told}");
        self.written.push(told);
        self.node.reloads(&self.config);
    }

    /// What administrators and monitors are shown.
    async fn look(&mut self, lab: &Lab) {
        for command in ["status", "devices", "sessions", "alarms", "nodes"] {
            for format in ["table", "json"] {
                self.show(&[command, "--output", format]);
            }
        }
        self.show(&["explain", "RP_MAIN", "--user", "ivr", "--output", "json"]);
        self.show(&["dependencies", DESK, "--output", "json"]);
        for path in ["/metrics", "/readyz"] {
            let mut client = Client::connect(lab, self.node.web, &self.node.ca(), &["-quiet"]);
            client.say(&format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r"));
            let page = client.ends().await;
            assert!(page.contains("200 OK"), "{path}: {page}");
            self.written.push(page);
        }
    }

    fn show(&mut self, words: &[&str]) {
        let output = self.node.command(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        self.written.push(String::from_utf8_lossy(&output.stdout).into_owned());
    }
}

/// Everything in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => vec![String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()],
        })
        .collect()
}

/// The lines above DEBUG; a line without a level belongs to the one before.
fn above_debug(log: &str) -> impl Iterator<Item = &str> {
    let mut quiet = false;
    log.lines().filter(move |line| {
        match line.split_whitespace().nth(1) {
            Some("DEBUG" | "TRACE") => quiet = true,
            Some("ERROR" | "WARN" | "INFO") => quiet = false,
            _ => {}
        }
        !quiet
    })
}

/// The records of legs that were connected.
fn leg_connected(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("ctimanager::transitions: leg connected ")).collect()
}

async fn nothing_secret_is_written(level: Option<&str>) {
    let lab = Lab::new("secrets");
    let mut office = Office::open(&lab, level).await;
    office.prove_who_is_who().await;
    let mut app = App::open(&lab, &office.node, "ivr", "RP_MAIN", Media::Static).await;
    app.cti.refused("device.open", json!({"device": "DESK"})).await;
    office.talk(&mut app).await;
    office.reload();
    office.look(&lab).await;
    assert!(office.node.stop().await.success());

    let log = office.node.log();
    assert!(
        log.contains("CtiProviderOpened") && log.contains("action=reload"),
        "it was written at all:\n{log}"
    );
    let connected = leg_connected(&log);
    match level {
        // The route point's leg and the trunk's; the number stands with the line.
        Some(_) => {
            assert_eq!(connected.len(), 2, "{log}");
            assert!(connected.iter().any(|line| line.contains(&format!(" line={ROUTE_POINT} "))), "{log}");
            assert!(connected.iter().all(|line| line.contains(" why=request_answer by=s")), "{log}");
        }
        None => assert!(!log.contains("ctimanager::transitions"), "{log}"),
    }
    let counted = r#"ctimanager_transitions_total{of="leg",to="connected"} 2"#;
    assert!(office.written.iter().any(|page| page.contains(counted)), "at any level: {counted}");
    let state = files(&office.node.state());
    assert!(
        state.iter().any(|file| file.contains(ROUTE_POINT)),
        "the sessions are kept, with what they were told"
    );
    let hash = ["$argon2", "fpwV0B+gJFZSv", "33Sf47kZaINGvHk5RHvf7D1r5lwNxeOOdWunUAEKPdQ"];
    let secrets: BTreeSet<&str> = [PASSWORD, WRONG, DIGEST, WRONG_DIGEST, MISPLACED, KEY]
        .into_iter()
        .chain(hash)
        .chain(office.digests.iter().map(String::as_str))
        .collect();
    assert_eq!(secrets.len(), 13);
    for text in office.written.iter().chain(&state).chain([&log]) {
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} in:\n{text}");
        }
    }
    for line in above_debug(&log) {
        for person in [ROUTE_POINT, DESK, CALLER, "5558888", NAME, DATA] {
            assert!(!line.contains(person), "{person} above DEBUG: {line}");
        }
    }
    assert!(office.written.iter().any(|text| text.contains(DESK)), "administrators are shown numbers");
}

#[tokio::test]
async fn nothing_secret_is_written_at_the_default_level() {
    nothing_secret_is_written(None).await;
}

#[tokio::test]
async fn nothing_secret_is_written_at_debug() {
    nothing_secret_is_written(Some("debug")).await;
}

#[tokio::test]
async fn nothing_secret_is_written_at_trace() {
    nothing_secret_is_written(Some("trace,rustls=trace,tungstenite::protocol=trace")).await;
}

/// The audit lines from the target on, with a word for each address.
fn audited(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| line.split_once("INFO ctimanager::audit: "));
    lines
        .map(|(_, record)| {
            let words = record.split(' ').map(|word| match word.strip_prefix("peer=") {
                Some(peer) if peer.parse::<std::net::SocketAddr>().is_ok() => "peer=PEER",
                _ => word,
            });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

async fn refused(mut cti: Cti, user: &str, password: &str) -> String {
    let hello = json!({"user": user, "password": password, "application": "lab"});
    cti.refused("provider.open", hello).await.symbol
}

#[tokio::test]
async fn the_audit_log_says_who_from_where_what_and_by_which_rule() {
    let lab = Lab::new("audit");
    let config = config(&lab, lab.address()).secure().member("nobody", &[], &[]).member(
        "safe",
        &["Standard CTI Enabled", "Standard CTI Secure Connection"],
        &[],
    );
    // Nothing but errors is wished for: the audit log is there all the same.
    let mut node = Node::start_logging(&lab, &config, Some("error")).await;
    assert_eq!(refused(node.connect().await, "ivr", WRONG).await, "LOGIN_FAILED");
    assert_eq!(refused(node.connect().await, "stranger\" allowed=true", PASSWORD).await, "LOGIN_FAILED");
    assert_eq!(refused(node.connect().await, "nobody", PASSWORD).await, "USER_NOT_CTI_ENABLED");
    assert_eq!(
        refused(Cti::plain(node.cti_plain).await, "safe", PASSWORD).await,
        "SECURE_CONNECTION_REQUIRED"
    );
    let mut app = App::open(&lab, &node, "ivr", "RP_MAIN", Media::Static).await;
    for (method, params) in [
        ("device.open", json!({"device": "DESK"})),
        ("provider.devices", json!({"scope": "all"})),
        ("provider.monitor_park", json!({"on": true})),
        ("call.make", json!({"device": "RP_MAIN", "destination": DESK, "calling_number": CALLER})),
        ("line.set_forward", json!({"device": "DESK", "dn": DESK, "destination": Value::Null})),
    ] {
        app.cti.refused(method, params).await;
    }
    node.reloads(&config);
    assert!(!node.reload(&config.clone().set("devices", "DESK", "pool", json!("Nowhere"))).status.success());
    node.hang_up();
    eventually("the signal is audited", SOON, async || node.log().contains("\"SIGHUP\"").then_some(())).await;
    assert!(node.command(&["drain"]).status.success());
    let root = format!("\"uid {}\"", std::fs::metadata("/proc/self").map_or(0, |own| own.uid()));
    let refused = "action=reload allowed=false symbol=CONFIGURATION_REFUSED rule=\"checked configuration\"";
    let by = |who: &str, action: &str, rest: &str| format!("user=\"{who}\" peer=PEER action={action} {rest}");
    let no = |symbol: &str, rule: &str| format!("allowed=false symbol={symbol} rule=\"{rule}\"");
    let group = |name: &str| format!("group Standard CTI {name}");
    let park = no("PRIVILEGE_VIOLATION", &group("Allow Call Park Monitoring"));
    let all = no("PRIVILEGE_VIOLATION", &group("Allow Control of All Devices"));
    let number = no("CALLING_NUMBER_MODIFICATION_NOT_ALLOWED", &group("Allow Calling Number Modification"));
    let foreign = format!("device=\"DESK\" {}", no("DEVICE_NOT_CONTROLLED", "controlled_devices"));
    let wanted = [
        by("ivr", "provider.open", &no("LOGIN_FAILED", "credentials")),
        by("stranger\\\" allowed=true", "provider.open", &no("LOGIN_FAILED", "credentials")),
        by("nobody", "provider.open", &no("USER_NOT_CTI_ENABLED", &group("Enabled"))),
        by("safe", "provider.open", &no("SECURE_CONNECTION_REQUIRED", "transport")),
        by("ivr", "provider.open", "allowed=true rule=\"group Standard CTI Enabled\""),
        by("ivr", "device.open", "device=\"RP_MAIN\" allowed=true rule=\"controlled_devices RP_MAIN\""),
        by("ivr", "device.open", &foreign),
        by("ivr", "provider.devices", &all),
        by("ivr", "provider.monitor_park", &park),
        by("ivr", "call.make", &format!("device=\"RP_MAIN\" {number}")),
        by("ivr", "line.set_forward", &foreign),
        format!("user={root} action=reload allowed=true rule=\"checked configuration\""),
        format!("user={root} {refused}"),
        format!("user=\"SIGHUP\" {refused}"),
        format!("user={root} action=drain allowed=true rule=\"control socket\""),
    ];
    eventually("all is written", SOON, async || (audited(&node.log()).len() >= wanted.len()).then_some(()))
        .await;
    assert_eq!(audited(&node.log()), wanted);
    assert!(!node.log().contains(" INFO ctimanager: "), "nothing else was wished for:\n{}", node.log());
}
