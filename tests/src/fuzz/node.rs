//! A whole node between hostile phones, trunks and applications.

use super::food::steps;
use super::wire::Wire;
use crate::sim::scene;
use ctimanager::node::{AdminRequest, AdminToken, CtiTransport, Input, Node, Output, Settings};
use protocol::{ConnectionId, rpc};
use serde_json::Value;
use sip::{Hop, Transport};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

const CONNECTIONS: u64 = 4;
/// The wall clock of the beginning, seconds since the epoch.
pub(super) const WALL: u64 = 1_800_000_000;

/// A script for everybody around one node. After each step the node's rooms agree with each other; each request of an
/// application has one answer; when all have gone nothing is left.
///
/// Steps: `T` a message of the trunk, `1`–`4` of a phone, `S` of a stranger; `L` the phone that was challenged last
/// answers; `R` an answer to a request of the node's; `a`–`d` a line of an application (which connects when it must);
/// `X` an application's connection ends, `V` its queue is full, `N` its line was too long; `W` seconds pass; `Q` an
/// administrator asks; `!` the node is late.
pub(super) fn node(data: &[u8]) {
    let mut world = World::new();
    for (letter, rest) in steps(data).take(96) {
        world.step(letter, rest);
    }
    world.end();
}

pub(super) struct World {
    node: Node,
    /// It may say what is to be kept.
    keeps: bool,
    now: Instant,
    wall: SystemTime,
    wire: Wire,
    connections: BTreeMap<u64, Application>,
    last_connection: u64,
    passwords: Vec<(ConnectionId, bool)>,
    asked: u64,
    answered: u64,
    last_leg: String,
    last_session: String,
}

#[derive(Default)]
struct Application {
    connection: u64,
    awaited: Vec<Value>,
    closed: bool,
}

impl World {
    pub(super) fn new() -> Self {
        // Reading it takes longer than most scripts.
        static SETTINGS: OnceLock<Arc<Settings>> = OnceLock::new();
        let settings = SETTINGS.get_or_init(|| scene::settings(scene::TIGHT, &[]));
        let mut node = Node::new(Arc::clone(settings), [7; 32], 1);
        node.watch_permissions();
        Self {
            node,
            keeps: false,
            now: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(WALL),
            wire: Wire::default(),
            connections: BTreeMap::new(),
            last_connection: 0,
            passwords: Vec::new(),
            asked: 0,
            answered: 0,
            last_leg: "l1".into(),
            last_session: "s1".into(),
        }
    }

    /// What an earlier life left, and that this one is to leave the like.
    pub(super) fn restore(&mut self, input: Input) {
        self.keeps = true;
        self.input(input);
    }

    pub(super) fn step(&mut self, letter: u8, rest: &[u8]) {
        match letter {
            b'1'..=b'4' => self.sip(&format!("10.0.0.1{}:5060", char::from(letter)), rest),
            b'S' => self.sip("10.0.0.66:5060", rest),
            b'L' => {
                let user = ["p1", "p2", "p3", "p4"][usize::from(rest.first().copied().unwrap_or(0)) % 4];
                if let Some((hop, bytes)) = self.wire.with_login(user) {
                    self.received(hop, bytes);
                }
            }
            b'R' => {
                if let Some((hop, bytes)) = self.wire.answer(rest) {
                    self.received(hop, bytes);
                }
            }
            b'a'..=b'd' => self.line(u64::from(letter - b'a'), rest),
            b'X' | b'V' | b'N' => self.connection_ends(letter, rest),
            b'W' => self.pass(Duration::from_secs(rest.first().copied().unwrap_or(1).into())),
            b'Q' => self.administrator(rest),
            b'!' => self.input(Input::Pressure(Duration::from_millis(
                u64::from(rest.first().copied().unwrap_or(0)) * 10,
            ))),
            _ => self.sip("10.0.0.99:5070", rest),
        }
    }

    fn sip(&mut self, remote: &str, text: &[u8]) {
        let bytes = self.wire.fill(text);
        let hop = Hop {
            transport: Transport::Udp,
            local: scene::address(scene::NODE),
            remote: scene::address(remote),
            connection: None,
        };
        self.received(hop, bytes);
    }

    fn received(&mut self, hop: Hop, bytes: Vec<u8>) {
        self.wire.received(hop, &bytes);
        self.input(Input::Sip { hop, bytes });
    }

    fn line(&mut self, which: u64, text: &[u8]) {
        if self.connections.get(&which).is_none_or(|application| application.closed) {
            self.last_connection += 1;
            let connection = self.last_connection;
            self.connections.insert(which, Application { connection, ..Application::default() });
            let peer = scene::address("10.0.0.50:40000");
            let transport = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
            self.input(Input::CtiOpened { connection: ConnectionId(connection), peer, transport });
        }
        let text = String::from_utf8_lossy(text)
            .replace("@LEG@", &self.last_leg)
            .replace("@SESSION@", &self.last_session);
        let value = |id: rpc::Id| serde_json::from_str::<Value>(id.as_json()).expect("an id is JSON");
        let awaited = match rpc::parse_request(text.as_bytes()) {
            Ok(request) => request.id.map(value),
            Err(bad) => Some(bad.id.map_or(Value::Null, value)),
        };
        let application = self.connections.get_mut(&which).expect("connected just now");
        application.awaited.extend(awaited);
        let connection = ConnectionId(application.connection);
        self.input(Input::CtiFrame(connection, text.into_bytes()));
    }

    fn connection_ends(&mut self, letter: u8, rest: &[u8]) {
        let which = u64::from(rest.first().copied().unwrap_or(0)) % CONNECTIONS;
        let Some(application) = self.connections.get_mut(&which).filter(|application| !application.closed)
        else {
            return;
        };
        let connection = ConnectionId(application.connection);
        match letter {
            b'V' => self.input(Input::CtiOverflow(connection)),
            b'N' => self.input(Input::CtiLineTooLong(connection)),
            _ => {
                application.closed = true;
                self.input(Input::CtiClosed(connection));
            }
        }
    }

    fn administrator(&mut self, rest: &[u8]) {
        let text = String::from_utf8_lossy(rest.get(1..).unwrap_or_default()).into_owned();
        let request = match rest.first().copied().unwrap_or(0) % 8 {
            0 => AdminRequest::Status,
            1 => AdminRequest::Devices,
            2 => AdminRequest::Calls,
            3 => AdminRequest::Sessions,
            4 => AdminRequest::Alarms,
            5 => AdminRequest::Nodes,
            6 => AdminRequest::Explain { device: text, user: "ivr".into() },
            _ => AdminRequest::Dependencies { dn: text },
        };
        self.asked += 1;
        self.input(Input::Admin(AdminToken(self.asked), request));
        assert_eq!(self.answered, self.asked, "an administrator has an answer at once");
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.node.handle(self.now, self.wall, input, &mut out);
        for output in out {
            self.output(output);
        }
        self.node.check().unwrap_or_else(|broken| panic!("{broken}"));
        for (connection, matches) in std::mem::take(&mut self.passwords) {
            self.input(Input::PasswordChecked(connection, matches));
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Sip { hop, bytes } => drop(self.wire.sent(hop, &bytes)),
            Output::Cti(connection, frame) => self.frame(connection, &frame.to_vec()),
            Output::CtiClose(connection) => {
                if let Some(application) =
                    self.connections.values_mut().find(|a| a.connection == connection.0)
                {
                    application.closed = true;
                }
            }
            Output::CheckPassword { connection, password, .. } => {
                self.passwords.push((connection, password.expose() == scene::PASSWORD));
            }
            Output::Admin(..) => self.answered += 1,
            Output::SipConnect(_)
            | Output::SipClose(_)
            | Output::SipKnown { .. }
            | Output::Met(_)
            | Output::Named(_)
            | Output::InForce
            | Output::Nodes(_)
            | Output::SipShares(_)
            | Output::Report(_)
            | Output::Audit(_)
            | Output::Transition { .. }
            | Output::Discard(_) => {}
            Output::Registrations(_) | Output::Persist(_) => {
                assert!(self.keeps, "nobody asked it to keep anything");
            }
            Output::Stopped => panic!("nobody asked it to stop"),
        }
    }

    fn frame(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let message: Value = serde_json::from_slice(bytes).expect("we write JSON");
        assert!(!bytes.contains(&b'\n'), "a frame is a line");
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if let Some(leg) = text("/params/leg/leg").or_else(|| text("/result/leg")) {
            self.last_leg = leg;
        }
        if let Some(session) = text("/result/session") {
            self.last_session = session;
        }
        if message["method"] == "event" {
            return;
        }
        let application = self.connections.values_mut().find(|a| a.connection == connection.0);
        let application = application.expect("frames go to connections");
        let at = application.awaited.iter().position(|id| *id == message["id"]);
        application.awaited.swap_remove(at.unwrap_or_else(|| panic!("nobody asked for {message}")));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(at) = self.node.next_timeout().filter(|at| *at <= end) {
            let at = at.max(self.now);
            self.wall += at - self.now;
            self.now = at;
            self.input(Input::Timeout);
            turns += 1;
            assert!(turns < 100_000, "a timer does not let go");
        }
        self.wall += end - self.now;
        self.now = end;
    }

    /// The applications go, the phones and the trunk fall silent: requests are answered within a minute, and two hours
    /// later nothing is left.
    pub(super) fn end(mut self) {
        self.pass(Duration::from_secs(5));
        let living: Vec<u64> =
            self.connections.iter().filter(|(_, a)| !a.closed).map(|(which, _)| *which).collect();
        for _ in 0..12 {
            // Heartbeats, so that the connection lives until its requests are answered.
            for which in &living {
                if self.connections[which].closed {
                    continue;
                }
                self.line(
                    *which,
                    br#"{"jsonrpc":"2.0","id":"end","method":"provider.heartbeat","params":{}}"#,
                );
            }
            self.pass(Duration::from_secs(5));
        }
        for (_, application) in self.connections.iter().filter(|(_, application)| !application.closed) {
            assert_eq!(application.awaited, Vec::<Value>::new(), "unanswered for a minute");
        }
        for which in 0..CONNECTIONS {
            self.connection_ends(b'X', &[u8::try_from(which).expect("few")]);
        }
        self.pass(Duration::from_secs(7_200));
        assert!(self.node.is_quiet(), "something is left");
    }
}
