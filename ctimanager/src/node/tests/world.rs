//! The world around a node in these tests: a trunk that speaks SIP by the letter, applications that speak JSON-RPC, and
//! a clock that only the test moves.

use crate::config;
use crate::node::kept::{Kept, millis};
use crate::node::{CtiConnection, CtiTransport, Input, Node, Output, Report, Settings, Surroundings, Switch};
use device_model::Standing;
use security::audit::AuditRecord;
use serde_json::{Value, json};
use sip::{Hop, Transport};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Two applications' users, a route point with every forward, two ports, a phone that never registers, a trunk.
pub const CONFIG: &str = r#"
cluster: {name: test, security: {mode: non_secure}}
nodes: [{name: cm1, host: 127.0.0.1, services: [callmanager, ctimanager], sip: {udp: 5060}, cti: {tls: 2749}}]
call_manager_groups: [{name: Default, members: [cm1]}]
device_pools: [{name: Default, call_manager_group: Default}]
directory_numbers:
  - {dn: "5000", description: Auto attendant, forward: {no_answer: "9001", unregistered: "9001", on_failure: "9009"}}
devices:
  - {name: RP_MAIN, type: route_point, pool: Default, lines: ["5000"]}
  - {name: PORT_001, type: cti_port, pool: Default, lines: ["5101"]}
  - {name: PORT_002, type: cti_port, pool: Default, lines: ["5102"]}
trunks: [{name: pstn, host: 127.0.0.1, port: 5070, transport: udp}]
route_patterns: [{pattern: "9XXX", trunk: pstn}]
users:
  - {id: ivr, kind: application_user, password_hash: "HASH", groups: [Standard CTI Enabled], controlled_devices: [RP_MAIN, "PORT_*"]}
  - {id: other, kind: application_user, password_hash: "HASH", groups: [Standard CTI Enabled], controlled_devices: [RP_MAIN]}
"#;

/// An argon2id hash; the tests' shell says itself whether a password matches.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";

/// The trunk's address.
pub const TRUNK: &str = "127.0.0.1:5070";

/// Everything around one node.
pub struct World {
    pub node: Node,
    /// What the records of this life say.
    standing: Standing,
    settings: Arc<Settings>,
    pub now: Instant,
    pub wall: SystemTime,
    /// SIP messages that the node sent, as text.
    pub sip: VecDeque<String>,
    /// Frames for each application.
    pub frames: BTreeMap<CtiConnection, VecDeque<Value>>,
    /// Connections that the node closed.
    pub closed: Vec<CtiConnection>,
    pub stopped: bool,
    /// What the node said of registrations.
    pub registrations: Vec<crate::node::registrations::RegistrationRecord>,
    /// What the node reported and audited.
    pub reports: Vec<Report>,
    /// Ways that the shell was told of.
    pub known: Vec<(sip::Hop, security::shares::Who, Option<Instant>)>,
    /// Addresses that it was told of, and those that are known for good.
    pub met: Vec<IpAddr>,
    /// Configurations that were put in force.
    pub in_force: usize,
    pub named: Vec<IpAddr>,
    pub audits: Vec<AuditRecord>,
    pub answers: Vec<Result<Value, String>>,
    /// Passwords that were verified, and those that wait when `verify_later`.
    pub hashed: usize,
    pub verify_later: bool,
    /// The number of the last event for each connection.
    pub last_seqs: BTreeMap<CtiConnection, u64>,
    /// What the node said is to be kept.
    pub kept: Kept,
    life: u32,
    waiting: Vec<(CtiConnection, bool)>,
    requests: u64,
}

impl World {
    pub fn new() -> Self {
        Self::with(CONFIG)
    }

    pub fn with(yaml: &str) -> Self {
        let settings = Arc::new(settings(yaml));
        #[allow(clippy::disallowed_methods)] // a base for virtual time; nothing reads the clock after it
        let now = Instant::now();
        let mut node = Node::new(Arc::clone(&settings), [7; 32], 1);
        node.watch_permissions();
        node.write_messages();
        let standing = node.standing();
        Self {
            node,
            standing,
            settings,
            now,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            sip: VecDeque::new(),
            frames: BTreeMap::new(),
            closed: Vec::new(),
            stopped: false,
            registrations: Vec::new(),
            reports: Vec::new(),
            known: Vec::new(),
            met: Vec::new(),
            in_force: 0,
            named: Vec::new(),
            audits: Vec::new(),
            answers: Vec::new(),
            hashed: 0,
            verify_later: false,
            last_seqs: BTreeMap::new(),
            kept: Kept::default(),
            life: 1,
            waiting: Vec::new(),
            requests: 0,
        }
    }

    /// The process dies, is away for so long, and is started again with this configuration and what was kept.
    pub fn reborn(&mut self, away: Duration, yaml: &str) {
        self.kept.alive = millis(self.wall);
        self.life += 1;
        self.wall += away;
        self.settings = Arc::new(settings(yaml));
        self.node = Node::new(Arc::clone(&self.settings), [7 + self.life as u8; 32], self.life);
        self.node.watch_permissions();
        self.node.write_messages();
        self.standing = self.node.standing();
        self.sip.clear();
        self.frames.clear();
        self.waiting.clear();
        let kept = std::mem::take(&mut self.kept);
        self.input(Input::Restored(Box::new(kept), None));
    }

    /// A reload of this configuration.
    pub fn reload(&mut self, yaml: &str) {
        self.configure(settings(yaml));
    }

    pub fn configure(&mut self, settings: Settings) {
        let settings = Arc::new(settings);
        let switch = Switch::between(&self.settings, Arc::clone(&settings));
        self.settings = settings;
        self.input(Input::Configure(Box::new(switch)));
    }

    /// The names of the reports since this was asked last.
    pub fn reported(&mut self) -> Vec<&'static str> {
        self.reports.drain(..).map(|report| report.name).collect()
    }

    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        if matches!(input, Input::StoreReady) {
            self.kept = Kept::default();
        }
        self.node.handle(self.now, self.wall, input, &mut out);
        let checked = self.node.check().and_then(|()| self.hear_records(&out));
        checked.unwrap_or_else(|what| panic!("{what}"));
        for output in out {
            match output {
                Output::Sip { bytes, .. } => {
                    self.sip.push_back(String::from_utf8(bytes).expect("our messages are UTF-8"));
                }
                Output::Cti(connection, frame) => {
                    let value: Value = serde_json::from_slice(&frame.to_vec()).expect("our frames are JSON");
                    self.last_seqs.extend(value["params"]["seq"].as_u64().map(|seq| (connection, seq)));
                    self.frames.entry(connection).or_default().push_back(value);
                }
                Output::CtiClose(connection) => self.closed.push(connection),
                Output::CheckPassword { connection, password, .. } => {
                    let matches = password.expose() == "secret";
                    self.hashed += 1;
                    self.waiting.push((connection, matches));
                    if !self.verify_later {
                        self.verify();
                    }
                }
                Output::Stopped => self.stopped = true,
                Output::Report(report) => self.reports.push(report),
                Output::Audit(record) => self.audits.push(record),
                Output::Transition { .. } => {}
                Output::Admin(_, answer) => self.answers.push(answer),
                Output::Persist(records) => records.into_iter().for_each(|record| self.kept.apply(record)),
                Output::SipKnown { hop, who, until } => self.known.push((hop, who, until)),
                Output::Met(address) => self.met.push(address),
                Output::Named(addresses) => self.named = addresses,
                Output::InForce => self.in_force += 1,
                Output::SipShares(_) | Output::Nodes(_) => {}
                Output::SipConnect(_) | Output::SipClose(_) | Output::Discard(_) => {}
                Output::Registrations(records) => self.registrations.extend(records),
            }
        }
        self.node.check().unwrap_or_else(|what| panic!("{what}"));
        if self.node.cti_manager.keeping.is_on() && self.node.has_kept_all() {
            self.all_is_kept();
        }
    }

    /// What the records of all steps say is how it is.
    fn hear_records(&mut self, out: &[Output]) -> Result<(), String> {
        for output in out {
            if let Output::Transition { transition, .. } = output {
                self.standing.apply(transition)?;
            }
        }
        self.node.check_records(&self.standing)
    }

    /// What the records add up to is what there is to be kept.
    fn all_is_kept(&mut self) {
        let now = millis(self.wall);
        self.kept.alive = now;
        self.kept.forget_ended(now);
        assert_eq!(self.kept, self.node.kept(self.now, self.wall));
    }

    /// Tells what became of the passwords that wait.
    pub fn verify(&mut self) {
        for (connection, matches) in std::mem::take(&mut self.waiting) {
            self.input(Input::PasswordChecked(connection, matches));
        }
    }

    /// Lets time pass; whatever falls due in it happens at its time.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.node.next_timeout().filter(|at| *at <= end) {
            let at = at.max(self.now);
            self.wall += at - self.now;
            self.now = at;
            self.input(Input::Timeout);
        }
        self.wall += end - self.now;
        self.now = end;
    }

    /// The next thing that is due.
    pub fn pass_to_next(&mut self) {
        let at = self.node.next_timeout().expect("something is due").max(self.now);
        self.wall += at - self.now;
        self.now = at;
        self.input(Input::Timeout);
    }

    pub fn connect(&mut self, number: u64) -> CtiConnection {
        self.connect_by(number, CtiTransport::Tls { client_cn: None, not_after: None, serial: None })
    }

    pub fn connect_by(&mut self, number: u64, transport: CtiTransport) -> CtiConnection {
        let connection = protocol::session::ConnectionId(number);
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        self.input(Input::CtiOpened { connection, peer, transport });
        connection
    }

    pub fn connect_from(&mut self, number: u64, peer: SocketAddr) -> CtiConnection {
        let connection = protocol::session::ConnectionId(number);
        let transport = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
        self.input(Input::CtiOpened { connection, peer, transport });
        connection
    }

    pub fn send(&mut self, connection: CtiConnection, method: &str, params: Value) -> u64 {
        self.requests += 1;
        let request = json!({"jsonrpc": "2.0", "id": self.requests, "method": method, "params": params});
        self.input(Input::CtiFrame(connection, request.to_string().into_bytes()));
        self.requests
    }

    /// The next frame for an application.
    pub fn frame(&mut self, connection: CtiConnection) -> Option<Value> {
        self.frames.get_mut(&connection)?.pop_front()
    }

    /// Sends a request and takes its answer, which must be the next frame.
    pub fn call(&mut self, connection: CtiConnection, method: &str, params: Value) -> Value {
        let id = self.send(connection, method, params);
        let answer = self.frame(connection).unwrap_or_else(|| panic!("{method} got no answer"));
        assert_eq!(answer["id"], id, "{method}: the answer comes first: {answer}");
        answer
    }

    /// An application that has opened a provider.
    pub fn application(&mut self, number: u64, user: &str) -> CtiConnection {
        let connection = self.connect(number);
        let open = json!({"user": user, "password": "secret", "application": "test"});
        let answer = self.call(connection, "provider.open", open);
        assert!(answer["result"]["session"].is_string(), "{answer}");
        connection
    }

    /// The next event's params, of this type.
    pub fn event(&mut self, connection: CtiConnection, kind: &str) -> Value {
        let frame = self.frame(connection).unwrap_or_else(|| panic!("no event where {kind} was expected"));
        assert_eq!(frame["params"]["type"], kind, "{frame}");
        frame["params"].clone()
    }

    /// All events that wait for an application: their types, each with its device or leg's device, its reason or cause.
    pub fn heard(&mut self, connection: CtiConnection) -> Vec<String> {
        let frames = self.frames.remove(&connection).unwrap_or_default();
        frames.iter().map(|frame| summary(&frame["params"])).collect()
    }

    pub fn no_frames(&mut self, connection: CtiConnection) {
        assert_eq!(self.frames.get(&connection).map_or(0, VecDeque::len), 0, "{:?}", self.frames);
    }

    /// A datagram from the trunk.
    pub fn trunk(&mut self, text: String) {
        let hop = Hop {
            transport: Transport::Udp,
            local: "127.0.0.1:5060".parse().expect("an address"),
            remote: TRUNK.parse().expect("an address"),
            connection: None,
        };
        self.input(Input::Sip { hop, bytes: text.into_bytes() });
    }

    /// The trunk calls `number`; `tag` names the call.
    pub fn invite(&mut self, tag: &str, number: &str) {
        let sdp = sdp(40_000);
        self.trunk(format!(
            "INVITE sip:{number}@127.0.0.1 SIP/2.0\r\n{}To: <sip:{number}@127.0.0.1>\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:pstn@{TRUNK}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            head(tag, "1"),
            sdp.len()
        ));
    }

    /// A request of the trunk within a call, with the To of an earlier response.
    pub fn in_dialog(&mut self, tag: &str, method: &str, sequence: u32, to: &str) {
        let branch = format!("{method}{sequence}");
        self.trunk(format!(
            "{method} sip:cm1@127.0.0.1:5060 SIP/2.0\r\n{}To: {to}\r\nCSeq: {sequence} {method}\r\nContent-Length: 0\r\n\r\n",
            head(tag, &branch)
        ));
    }

    /// A key that the trunk sends within a call by SIP INFO.
    pub fn press(&mut self, tag: &str, sequence: u32, to: &str, digit: char) {
        let body = format!("Signal={digit}\r\nDuration=160\r\n");
        self.trunk(format!(
            "INFO sip:cm1@127.0.0.1:5060 SIP/2.0\r\n{}To: {to}\r\nCSeq: {sequence} INFO\r\n\
             Content-Type: application/dtmf-relay\r\nContent-Length: {}\r\n\r\n{body}",
            head(tag, &format!("INFO{sequence}")),
            body.len()
        ));
    }

    /// The next message of the node, which must begin so.
    pub fn sent(&mut self, start: &str) -> String {
        let message =
            self.sip.pop_front().unwrap_or_else(|| panic!("nothing sent where {start} was expected"));
        assert!(message.starts_with(start), "expected {start}, got {message}");
        message
    }

    pub fn quiet(&mut self) {
        self.pass(Duration::from_secs(64));
        assert!(self.node.is_quiet(), "something is left");
    }
}

pub fn summary(event: &Value) -> String {
    let pointers = ["/type", "/device/name", "/device", "/leg/device", "/alarm/name", "/alarm/state"];
    let mut told: Vec<&str> = pointers.iter().filter_map(|at| event.pointer(at)?.as_str()).collect();
    told.extend(
        ["/reason", "/leg/cause/name", "/direction"].iter().filter_map(|at| event.pointer(at)?.as_str()),
    );
    told.join(" ")
}

/// What a node reads of a configuration; `HASH` stands for a password's hash.
pub fn settings(yaml: &str) -> Settings {
    let yaml = yaml.replace("HASH", HASH);
    let loaded = config::parse("test.yaml", &yaml).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let listens = |transport| (transport, "127.0.0.1:5060".parse().expect("an address"));
    let mut sip_listen = vec![listens(Transport::Udp)];
    if yaml.contains("tcp: 5060") {
        sip_listen.push(listens(Transport::Tcp));
    }
    let surroundings = Surroundings { sip_listen, ..Surroundings::default() };
    Settings::of(&loaded.config, &loaded.config.nodes[0], &surroundings)
}

fn head(tag: &str, branch: &str) -> String {
    format!(
        "Via: SIP/2.0/UDP {TRUNK};branch=z9hG4bK{tag}{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:0301234@{TRUNK}>;tag={tag}\r\nCall-ID: {tag}@{TRUNK}\r\n"
    )
}

/// PCMU, PCMA and digits at this port.
pub fn sdp(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
    )
}

/// The value of a header of a message.
pub fn header<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .split("\r\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("no {name} in {message}"))
}
