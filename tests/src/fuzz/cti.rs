//! The CTI protocol: what applications send, and what a hostile server would send them.

use super::food::{Food, steps};
use device_model::SessionId;
use protocol::event::Received;
use protocol::methods::{Empty, Method};
use protocol::rpc::{self, Incoming};
use protocol::session::{Begin, SessionTimeout, Step};
use protocol::{
    Connection, ConnectionId, CtiError, Event, Frame, Session, SessionConfig, Subscription, Symbol,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

const SESSION: SessionId = SessionId(0x5e);

/// Lines on a connection, before and after its open: each request has one answer, nothing else has any.
///
/// Steps: `L` a line, `E` an event, `W` seconds pass.
pub(super) fn session(data: &[u8]) {
    let mut world = Applicant::new();
    for (letter, rest) in steps(data).take(256) {
        match letter {
            b'E' => world.event(),
            b'W' => world.pass(Duration::from_secs(rest.first().copied().unwrap_or(1).into())),
            _ => world.line(rest),
        }
        world.look();
    }
    world.reply_all();
    assert_eq!(world.awaited, Vec::<String>::new(), "unanswered");
}

struct Applicant {
    now: Instant,
    connection: Connection,
    session: Option<Session>,
    begun: VecDeque<device_model::RequestToken>,
    /// The ids of requests without an answer so far.
    awaited: Vec<String>,
    frames: Vec<Frame>,
    next_seq: u64,
    over: bool,
}

impl Applicant {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            connection: Connection::new(now),
            session: None,
            begun: VecDeque::new(),
            awaited: Vec::new(),
            frames: Vec::new(),
            next_seq: 1,
            over: false,
        }
    }

    fn line(&mut self, line: &[u8]) {
        if self.over {
            return;
        }
        match rpc::parse_request(line) {
            Ok(request) => self.awaited.extend(request.id.map(|id| id.as_json().to_owned())),
            Err(bad) => self.awaited.push(bad.id.map_or("null".to_owned(), |id| id.as_json().to_owned())),
        }
        match self.connection.frame(line) {
            Step::Ignored => {}
            Step::Answer(frame) => self.frames.push(frame),
            Step::SessionAnswer(_, frame) => self.session().push(Instant::now(), frame),
            Step::Open(open) if open.user.as_str() == "nobody" => {
                let error = CtiError::new(Symbol::LoginFailed, "no");
                self.frames.extend(self.connection.refused(&error));
            }
            Step::Open(_) => self.open(),
            Step::Request(_, request) => {
                let now = self.now;
                if let Begin::Execute { token, method } = self.session().begin(now, request) {
                    let _ = (method.to_model(), format!("{method:?}"));
                    self.begun.push_back(token);
                }
            }
        }
        if self.begun.len() > 2 {
            self.reply();
        }
    }

    fn open(&mut self) {
        let request = self.connection.opened(SESSION).expect("it was being opened");
        let reply = rpc::result_frame(&request, &rpc::raw(&Empty {}));
        let config = SessionConfig {
            user: "ivr".into(),
            application: "fuzz".into(),
            instance: None,
            heartbeat: Duration::from_secs(30),
            grace: Duration::ZERO,
            subscription: Subscription::all(),
            log_events: 16,
            log_bytes: 4096,
            queue_events: 64,
            idem_keys: 8,
            pending_requests: 4,
        };
        self.session = Some(Session::new(SESSION, config, ConnectionId(1), reply, self.now));
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("the connection says that it has one")
    }

    fn event(&mut self) {
        if let Some(session) = &mut self.session {
            session.event(&Event::ProviderInService.encode(&"cm1".into(), SystemTime::UNIX_EPOCH));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.over |= self.connection.timeout(self.now, SystemTime::UNIX_EPOCH).is_some();
        while let Some(session) = self.session.as_mut().filter(|session| session.next_timeout() <= self.now) {
            match session.timeout(self.now, SystemTime::UNIX_EPOCH) {
                Some(SessionTimeout::Silent { .. } | SessionTimeout::GraceOver) => {
                    // Answers of a connection that is gone go nowhere.
                    (self.over, self.session, self.awaited) = (true, None, Vec::new());
                    self.connection
                        .close(protocol::event::CloseReason::HeartbeatTimeout, SystemTime::UNIX_EPOCH);
                }
                Some(SessionTimeout::Heartbeat) | None => {}
            }
        }
    }

    fn reply(&mut self) {
        if let (Some(token), Some(session)) = (self.begun.pop_front(), &mut self.session) {
            assert!(
                session.reply(token, Ok(rpc::raw(&Empty {}))),
                "a request that was begun waits for its answer"
            );
            assert!(!session.reply(token, Ok(rpc::raw(&Empty {}))), "and has one");
        }
    }

    fn reply_all(&mut self) {
        while !self.begun.is_empty() {
            self.reply();
            self.look();
        }
    }

    /// Reads what was written: an answer that is awaited, or the next event.
    fn look(&mut self) {
        if let Some(session) = &mut self.session {
            let now = self.now;
            self.frames.extend(std::iter::from_fn(|| session.poll_frame(now)));
            assert!(!session.is_slow() && session.logged().0 <= 16);
        }
        for frame in std::mem::take(&mut self.frames) {
            let message: Value = serde_json::from_slice(&frame.to_vec()).expect("we write JSON");
            assert!(!frame.to_vec().contains(&b'\n'), "a frame is a line");
            if message["method"] == "event" {
                if let Some(seq) = message["params"]["seq"].as_u64() {
                    assert_eq!(seq, self.next_seq);
                    self.next_seq += 1;
                }
                continue;
            }
            assert!(message["result"].is_null() != message["error"].is_null(), "{message}");
            let raw: Map<String, Value> = serde_json::from_slice(&frame.to_vec()).expect("an object");
            let id = raw["id"].clone();
            let at = self
                .awaited
                .iter()
                .position(|awaited| serde_json::from_str::<Value>(awaited).expect("an id is JSON") == id);
            self.awaited.remove(at.unwrap_or_else(|| panic!("nobody asked for {message}")));
        }
    }
}

/// A method and its params: what is read can be written and read again.
pub(super) fn methods(data: &[u8]) {
    let mut food = Food(data);
    let (name, names) = food.pick(params_of_methods());
    let params = match serde_json::from_slice::<&RawValue>(food.0) {
        Ok(written) => written.to_owned(),
        Err(_) => {
            let mut params = Map::new();
            for param in names {
                if food.byte() % 4 > 0 {
                    params.insert(param.clone(), food.json(3));
                }
            }
            rpc::raw(&params)
        }
    };
    match Method::parse(name, Some(&params)) {
        Ok(method) => {
            let _ = (method.to_model(), method.is_mutating());
            let again = Method::parse(name, Some(&method.to_params()));
            assert_eq!(again.as_ref(), Ok(&method), "what is read can be written and read again");
            if let Method::ProviderOpen(mut open) = method {
                open.password = Some("correct horse battery".to_owned().into());
                assert!(!format!("{open:?}").contains("battery"), "a password is shown");
            }
        }
        Err(error) => {
            let symbols = [Symbol::InvalidParams, Symbol::NoSuchLeg];
            assert!(symbols.contains(&error.symbol), "{error:?}");
            assert_eq!(error.symbol == Symbol::InvalidParams, error.data.field.is_some(), "{error:?}");
        }
    }
}

/// Each method's name with its params' names, of the document that describes them.
fn params_of_methods() -> &'static [(String, Vec<String>)] {
    static METHODS: OnceLock<Vec<(String, Vec<String>)>> = OnceLock::new();
    METHODS.get_or_init(|| {
        let document = protocol::openrpc::document(&[]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let methods = document["methods"].as_array().expect("methods").iter();
        let described: Vec<_> = methods
            .map(|method| {
                let params = method["params"].as_array().expect("params").iter();
                (
                    text(&method["name"]),
                    params.map(|param| text(&param["name"])).filter(|name| name != "idem").collect(),
                )
            })
            .collect();
        assert_eq!(described.len(), Method::NAMES.len());
        described
    })
}

/// Lines of a server that means its clients no good; an event that is read can be written and read again.
pub(super) fn client(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        match Incoming::parse(line) {
            Ok(Incoming::Event(params)) => {
                if let Ok(received) = Received::parse(&params) {
                    assert!(!format!("{received:?}").contains("c2VjcmV0a2V5"), "a key is shown");
                    if let Received::Event { seq, event, node, .. } = received {
                        event_again(seq, *event, &node);
                    }
                }
            }
            Ok(Incoming::Reply { id, outcome }) => {
                let _ = (id.map(|id| id.as_number()), outcome.map_err(|error| error.to_string()));
            }
            Ok(Incoming::Unknown(_)) | Err(_) => {}
        }
    }
}

fn event_again(seq: u64, event: Event, node: &str) {
    let _ = event.leg();
    let encoded = event.clone().encode(&node.into(), SystemTime::UNIX_EPOCH);
    let frame = encoded.frame(seq).to_vec();
    let Ok(Incoming::Event(params)) = Incoming::parse(&frame) else { panic!("we write events") };
    match Received::parse(&params) {
        Ok(Received::Event { seq: again, event: back, .. }) => {
            assert_eq!((again, *back), (seq, event), "what is written reads back")
        }
        other => panic!("{other:?}"),
    }
}
