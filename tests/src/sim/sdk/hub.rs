//! The node with its phones, and the far ends of all lines: what is under way besides the bytes of applications.

use super::line::Fate;
use super::witness::Witness;
use crate::sim::dice::Dice;
use crate::sim::phone::{Mood, Phone};
use crate::sim::scene::{self, LOG_EVENTS, NODE, PASSWORD, PHONES, QUEUE_EVENTS, address};
use crate::sim::trace::Trace;
use ctimanager::node::{
    AdminRequest, AdminToken, CtiConnection, CtiTransport, Input, Node, Output, Settings,
};
use protocol::frame::Decoder;
use serde_json::Value;
use sip::{Hop, Transport};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// The two ways to the node: the one that it tells of itself, and one that only the author knows.
pub(super) const SERVERS: [&str; 2] = ["10.0.0.1:2749", "cm2:2749"];
/// Frames that the shell may hold for one connection, a replay included.
const MAX_FRAMES: usize = QUEUE_EVENTS + 3 * LOG_EVENTS;
/// The witness's connections are numbered from here.
const WITNESSES: u64 = 1 << 40;

/// The hub, for everybody. It is never locked across an await.
#[derive(Clone)]
pub(super) struct SharedHub {
    hub: Arc<Mutex<Hub>>,
    changed: Arc<Notify>,
}

/// What an application that connects meets.
pub(super) enum Approach {
    Refused(Duration),
    /// Nobody answers.
    Stalled,
    Through(Duration),
}

/// The near end of an accepted line.
pub(super) struct Accepted {
    pub(super) id: u64,
    pub(super) fate: watch::Receiver<Fate>,
    pub(super) frames: mpsc::Receiver<Vec<u8>>,
    pub(super) dice: [Dice; 2],
}

/// The far end of a line.
struct Line {
    application: usize,
    decoder: Decoder,
    frames: mpsc::Sender<Vec<u8>>,
    fate: watch::Sender<Fate>,
    /// The node's step in which it wrote last, and whether nothing waited then.
    step: u64,
    from_empty: bool,
    overflowed: bool,
}

enum Later {
    ToNode(usize, Vec<u8>),
    ToPhone(usize, Vec<u8>),
    Password(CtiConnection, bool),
    Witness(u64, Vec<u8>),
    Restart,
}

/// How a way to the node is.
#[derive(Clone, Copy)]
enum Way {
    Open,
    Refuses(Instant),
    Stalls(Instant),
}

pub(super) struct Hub {
    pub(super) phones: Vec<Phone>,
    pub(super) dice: Dice,
    pub(super) trace: Trace,
    pub(super) witness: Option<Witness>,
    /// The first thing that went wrong.
    pub(super) failure: Option<String>,
    pub(super) life: u32,
    /// Datagrams of a thousand that get lost.
    pub(super) lost: u64,
    /// The node never comes back.
    pub(super) for_ever: bool,
    start: Instant,
    node: Option<Node>,
    settings: Arc<Settings>,
    later: BTreeMap<(Duration, u64), Later>,
    order: u64,
    lines: BTreeMap<u64, Line>,
    last_line: u64,
    ways: [Way; 2],
    pub(super) steps: u64,
    answer: Option<Value>,
}

impl SharedHub {
    pub(super) fn new(seed: u64, with_witness: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut hub = Hub {
            phones: PHONES.iter().map(|phone| Phone::new(phone, dice.split())).collect(),
            trace: Trace::default(),
            witness: with_witness.then(Witness::default),
            failure: None,
            life: 0,
            lost: 0,
            for_ever: false,
            start: Instant::now(),
            node: None,
            settings: scene::settings(scene::ROOMY, &[]),
            later: BTreeMap::new(),
            order: 0,
            lines: BTreeMap::new(),
            last_line: 0,
            ways: [Way::Open; 2],
            steps: 0,
            answer: None,
            dice,
        };
        hub.start_node();
        Self { hub: Arc::new(Mutex::new(hub)), changed: Arc::default() }
    }

    /// Does something with the hub; its timers are looked at afterwards.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Hub) -> T) -> T {
        let done = act(&mut self.hub.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
        done
    }

    /// Keeps the time of the node and its phones.
    pub(super) async fn run(self) {
        loop {
            let next = {
                let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
                hub.run_due();
                if hub.failure.is_some() {
                    return;
                }
                hub.next().map(|at| hub.start + at)
            };
            let far = Instant::now() + Duration::from_secs(3_600);
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or(far)) => {}
            }
        }
    }
}

impl Hub {
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes what a rule did not allow; the first one counts.
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.trace.line(self.start.elapsed(), "wrong:", what.as_bytes());
        self.failure.get_or_insert(what);
    }

    fn next(&self) -> Option<Duration> {
        let node = self.node_timeout();
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        let phones = self.phones.iter().filter_map(Phone::next_timeout);
        node.into_iter().chain(later).chain(phones).min()
    }

    fn node_timeout(&self) -> Option<Duration> {
        let at = self.node.as_ref()?.next_timeout()?;
        Some(at.saturating_duration_since(self.start.into_std()))
    }

    fn run_due(&mut self) {
        let mut turns = 0;
        while self.next().is_some_and(|at| at <= self.now()) && self.failure.is_none() {
            turns += 1;
            if turns > 100_000 {
                return self.fail("something is due again and again at the same moment");
            }
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now();
        if let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let later = entry.remove();
            return self.arrive(later);
        }
        if self.node_timeout().is_some_and(|at| at <= now) {
            return self.input(Input::Timeout);
        }
        for index in 0..self.phones.len() {
            if self.phones[index].next_timeout().is_some_and(|at| at <= now) {
                self.phones[index].timeout(now);
                return self.after_phone(index);
            }
        }
    }

    fn arrive(&mut self, later: Later) {
        match later {
            Later::ToNode(phone, bytes) => {
                self.trace.line(self.now(), self.phones[phone].device, &bytes);
                let (local, remote) = (address(NODE), self.phones[phone].address);
                let hop = Hop { transport: Transport::Udp, local, remote, connection: None };
                self.input(Input::Sip { hop, bytes });
            }
            Later::ToPhone(phone, bytes) => {
                if let Err(what) = self.phones[phone].receive(self.start.elapsed(), &bytes) {
                    self.fail(what);
                }
                self.after_phone(phone);
            }
            Later::Password(connection, matches) => self.input(Input::PasswordChecked(connection, matches)),
            Later::Witness(connection, frame) => {
                self.input(Input::CtiFrame(protocol::session::ConnectionId(connection), frame));
            }
            Later::Restart => {
                if !self.for_ever {
                    self.start_node();
                }
            }
        }
    }

    fn after_phone(&mut self, index: usize) {
        for bytes in std::mem::take(&mut self.phones[index].out) {
            self.post(index, bytes, Later::ToNode);
        }
        let complaint = self.phones[index].complaints.pop();
        // Of a node that is gone for ever nothing is expected.
        if let Some(complaint) = complaint.filter(|_| !self.for_ever) {
            self.fail(format!("{}: {complaint}", self.phones[index].device));
        }
        self.phones[index].ended_by_peer.clear();
    }

    fn post(&mut self, phone: usize, bytes: Vec<u8>, kind: fn(usize, Vec<u8>) -> Later) {
        if self.dice.per_mille(self.lost) {
            return;
        }
        let after = self.dice.ms(1, 8);
        self.schedule(after, kind(phone, bytes));
    }

    fn schedule(&mut self, after: Duration, later: Later) {
        self.order += 1;
        self.later.insert((self.now() + after, self.order), later);
    }

    // Lines.

    /// Somebody connects to this server.
    pub(super) fn approach(&mut self, server: &str, application: usize) -> Approach {
        self.trace.line(self.now(), &format!("application {application} tries"), server.as_bytes());
        let now = Instant::now();
        let way = SERVERS.iter().position(|known| *known == server).map(|index| self.ways[index]);
        let time = self.dice.ms(1, 40);
        match way {
            None => Approach::Refused(time),
            Some(Way::Refuses(until)) if until > now => Approach::Refused(time),
            Some(Way::Stalls(until)) if until > now => Approach::Stalled,
            Some(_) if self.node.is_none() => Approach::Refused(time),
            Some(_) => Approach::Through(time),
        }
    }

    pub(super) fn accept(&mut self, application: usize) -> Option<Accepted> {
        self.node.as_ref()?;
        self.last_line += 1;
        let id = self.last_line;
        let (frames, waiting) = mpsc::channel(MAX_FRAMES);
        let (fate, seen) = watch::channel(Fate::Fine);
        let decoder = Decoder::new();
        let line = Line { application, decoder, frames, fate, step: 0, from_empty: true, overflowed: false };
        self.lines.insert(id, line);
        self.open_connection(id);
        let dice = [self.dice.split(), self.dice.split()];
        Some(Accepted { id, fate: seen, frames: waiting, dice })
    }

    fn open_connection(&mut self, id: u64) {
        let peer = std::net::SocketAddr::from(([10, 0, 0, 50], 40_000));
        let transport = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
        self.input(Input::CtiOpened { connection: protocol::session::ConnectionId(id), peer, transport });
    }

    /// Bytes of an application arrive at the node.
    pub(super) fn bytes(&mut self, id: u64, bytes: &[u8]) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        if let Err(error) = line.decoder.push(bytes) {
            return self.fail(format!("the SDK wrote what is no line: {error}"));
        }
        while let Some(frame) = self.lines.get_mut(&id).and_then(|line| line.decoder.next_line()) {
            self.trace.line(self.now(), &format!("application → {id}"), &frame);
            self.input(Input::CtiFrame(protocol::session::ConnectionId(id), frame));
        }
    }

    /// The node hears that the line is no more.
    pub(super) fn closed(&mut self, id: u64) {
        if self.lines.remove(&id).is_some() {
            self.input(Input::CtiClosed(protocol::session::ConnectionId(id)));
        }
    }

    /// Something happens to all lines of an application.
    pub(super) fn befall(&mut self, application: usize, fate: Fate) {
        let what = if fate == Fate::Cut { "cut" } else { "stalled" };
        self.trace.line(self.now(), &format!("application {application} is {what}"), &[]);
        for line in self.lines.values().filter(|line| line.application == application) {
            line.fate.send_if_modified(|now| *now != Fate::Cut && std::mem::replace(now, fate) != fate);
        }
    }

    /// One of the two ways refuses, or is silent, for so long.
    pub(super) fn block_way(&mut self, index: usize, silent: bool, lasts: Duration) {
        let until = Instant::now() + lasts;
        self.ways[index] = if silent { Way::Stalls(until) } else { Way::Refuses(until) };
        self.trace.line(self.now(), SERVERS[index], format!("silent {silent} for {lasts:?}").as_bytes());
    }

    // The node.

    fn start_node(&mut self) {
        self.life += 1;
        self.trace.line(self.now(), "the node starts", &[]);
        self.node = Some(Node::new(self.settings.clone(), self.dice.seed(), self.life));
        if let Some(witness) = &mut self.witness {
            let first = WITNESSES + u64::from(self.life) * 16;
            for (connection, frame) in witness.begin(first) {
                self.open_connection(connection);
                self.schedule(Duration::ZERO, Later::Witness(connection, frame));
            }
        }
    }

    /// The node dies with everything it knows, and is back after a while.
    pub(super) fn kill_node(&mut self) {
        if self.node.take().is_none() {
            return;
        }
        self.trace.line(self.now(), "the node dies", &[]);
        self.later.retain(|_, later| !matches!(later, Later::Password(..) | Later::Witness(..)));
        for line in self.lines.values() {
            line.fate.send_replace(Fate::Cut);
        }
        self.lines.clear();
        let now = self.now();
        self.phones.iter_mut().for_each(|phone| phone.node_gone(now));
        let back = self.dice.ms(100, 6_000);
        self.schedule(back, Later::Restart);
    }

    fn input(&mut self, input: Input) {
        let elapsed = self.now();
        let (now, wall) = (
            self.start.into_std() + elapsed,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + elapsed,
        );
        let Some(node) = &mut self.node else { return };
        self.steps += 1;
        let mut out = Vec::new();
        node.handle(now, wall, input, &mut out);
        if let Err(what) = node.check() {
            return self.fail(what);
        }
        let mut overflowed = Vec::new();
        for output in out {
            overflowed.extend(self.carry_out(output));
        }
        for connection in overflowed {
            self.trace.line(self.now(), "overflow", &connection.0.to_le_bytes());
            if let Some(line) = self.lines.get_mut(&connection.0) {
                (line.overflowed, line.from_empty) = (false, true);
            }
            self.input(Input::CtiOverflow(connection));
        }
    }

    fn carry_out(&mut self, output: Output) -> Option<CtiConnection> {
        match output {
            Output::Sip { hop, bytes } => {
                let Some(phone) = self.phones.iter().position(|phone| phone.address == hop.remote) else {
                    self.fail(format!("the node wrote to {}, where nobody is", hop.remote));
                    return None;
                };
                self.trace.line(self.now(), &format!("node → {}", self.phones[phone].device), &bytes);
                self.post(phone, bytes, Later::ToPhone);
            }
            Output::Cti(connection, frame) => {
                let mut line = Vec::new();
                frame.encode_line(&mut line);
                return self.frame(connection, line);
            }
            Output::CtiClose(connection) => {
                if connection.0 >= WITNESSES {
                    self.fail("the node closed a connection of the witness");
                }
                self.lines.remove(&connection.0);
            }
            Output::CheckPassword { connection, password, .. } => {
                let matches = password.expose() == PASSWORD;
                let witness = connection.0 >= WITNESSES;
                let after = if witness { Duration::ZERO } else { self.dice.ms(2, 60) };
                self.schedule(after, Later::Password(connection, matches));
            }
            Output::Admin(_, answer) => self.answer = answer.ok(),
            Output::Stopped
            | Output::SipConnect(_)
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
            | Output::Discard(_)
            | Output::Registrations(_) => {}
            Output::Persist(_) => self.fail("a node that wasn't asked to keep anything says a record"),
        }
        None
    }

    fn frame(&mut self, connection: CtiConnection, bytes: Vec<u8>) -> Option<CtiConnection> {
        if connection.0 >= WITNESSES {
            let heard = self.witness.as_mut().map(|witness| witness.hear(connection.0, &bytes));
            match heard {
                Some(Ok(frames)) => {
                    for frame in frames {
                        self.schedule(Duration::ZERO, Later::Witness(connection.0, frame));
                    }
                }
                Some(Err(what)) => self.fail(what),
                None => {}
            }
            return None;
        }
        self.trace.line(self.now(), &format!("{} → application", connection.0), &bytes);
        let step = self.steps;
        let line = self.lines.get_mut(&connection.0)?;
        let waiting = MAX_FRAMES - line.frames.capacity();
        if line.step != step {
            (line.step, line.from_empty) = (step, waiting == 0);
        }
        if line.overflowed {
            return None;
        }
        // What comes in one step to an empty queue may be a replay.
        if (!line.from_empty && waiting > QUEUE_EVENTS + LOG_EVENTS) || line.frames.try_send(bytes).is_err() {
            line.overflowed = true;
            return Some(connection);
        }
        None
    }

    /// What an administrator would be told.
    pub(super) fn ask(&mut self, request: AdminRequest) -> Value {
        self.input(Input::Admin(AdminToken(1), request));
        self.answer.take().unwrap_or_default()
    }

    pub(super) fn mood(&mut self, mood: Mood) {
        self.phones.iter_mut().for_each(|phone| phone.mood = mood);
    }

    pub(super) fn dial(&mut self, phone: usize, number: &str) -> String {
        let token = self.phones[phone].dial(self.start.elapsed(), number);
        self.after_phone(phone);
        token
    }

    pub(super) fn hang_up_all(&mut self) {
        for index in 0..self.phones.len() {
            self.phones[index].hang_up_all(self.start.elapsed());
            self.after_phone(index);
        }
    }
}
