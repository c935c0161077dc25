//! One run: a node, its phones and its applications, the network between them, and what goes wrong.

use super::application::{Act, Application};
use super::dice::Dice;
use super::disk::Disk;
use super::neighbour::Neighbour;
use super::oracle::{Fact, Oracle, Way};
use super::phone::{Mood, Phone};
use super::pipe::{Heard, Pipe, To, Written};
use super::scene::{self, ApplicationOfScene, Bounds, EVENT_BYTES, NODE, PASSWORD, PHONES, STREAMS, address};
use super::streams::Stream;
use super::tally::{Happening, Tally};
use super::trace::Trace;
use ctimanager::node::kept::{Kept, millis};
use ctimanager::node::{
    AdminRequest, AdminToken, CtiConnection, CtiTransport, Input, Node, Output, Settings, Switch,
};
use device_model::Standing;
use serde_json::Value;
use sip::{Hop, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Timeouts of the node at one and the same moment; more is a timer that doesn't let go.
const MAX_TIMEOUTS_AT_ONCE: u32 = 200;

/// How long a node may take to stop.
const STOPS_WITHIN: Duration = Duration::from_millis(2_010);

/// What is under way besides the bytes of CTI connections.
pub(super) enum Later {
    /// A message on a phone's connection, for the node.
    StreamToNode(usize, u64, Vec<u8>),
    /// The same for the phone.
    StreamToPhone(usize, u64, Vec<u8>),
    /// The node hears that a SIP connection is gone.
    Closed(Hop),
    /// The node hears that one can't be made.
    Unreachable(Hop),
    /// A datagram for the node, from this phone.
    ToNode(usize, Vec<u8>),
    /// A datagram for this phone.
    ToPhone(usize, Vec<u8>),
    /// The shell has verified a password.
    Password(CtiConnection, bool),
    /// The node is started again.
    Restart,
    /// The first life hears that nothing was kept before it.
    Restore,
    /// The disk has kept what the node said up to this number.
    Committed(u64),
}

/// How the network treats datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Of a thousand.
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) late: u64,
}

/// Nothing is lost.
pub(super) const FAIR: Weather = Weather { lost: 0, doubled: 0, late: 0 };

/// Everything.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) phones: Vec<Phone>,
    pub(super) applications: Vec<Application>,
    pub(super) dice: Dice,
    pub(super) trace: Trace,
    pub(super) tally: Tally,
    pub(super) weather: Weather,
    pub(super) node: Option<Node>,
    pub(super) life: u32,
    /// What is asked of devices waits, by chances of its own.
    delay: Option<u64>,
    bounds: Bounds,
    settings: Arc<Settings>,
    base: Instant,
    later: BTreeMap<(Duration, u64), Later>,
    order: u64,
    pub(super) pipes: BTreeMap<u64, (usize, Pipe)>,
    /// Each application's connection.
    pub(super) connected: Vec<Option<u64>>,
    last_connection: u64,
    /// Phones whose cable is out.
    pub(super) unplugged_until: Vec<Duration>,
    /// Inputs of the node so far.
    pub(super) steps: u64,
    /// Which of the scene's changes are in force.
    pub(super) changes: Vec<usize>,
    /// What applications were told of legs that are over.
    pub(super) stories: BTreeMap<String, Vec<u64>>,
    timeouts_at: (Duration, u32),
    answer: Option<Value>,
    /// Where the node keeps its sessions, in every other seed.
    pub(super) disk: Option<Disk>,
    /// What its earlier life left there.
    left: Kept,
    /// The node has just refused a resume for its log, or gone on with a session.
    resume: Option<Resume>,
    /// Who means no good, in a share of the seeds.
    pub(super) neighbour: Option<Neighbour>,
    /// The connection whose heartbeat the node has just got, and not answered yet.
    unanswered: Option<u64>,
    /// What should have happened.
    pub(super) oracle: Oracle,
    /// What the records of the node's life say.
    standing: Standing,
    /// The SIP connection of each phone that has one.
    pub(super) streams: Vec<Option<Stream>>,
    /// It was told to stop, and has until then.
    stops_until: Option<Duration>,
    /// It said so.
    has_stopped: bool,
    /// Connections that the node has closed, though its word may still wait for the disk.
    closed_by_node: BTreeSet<u64>,
}

/// What the node said to a wish to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    Resumed,
    Overrun,
    Other,
}

impl World {
    pub(super) fn new(
        seed: u64,
        base: Instant,
        bounds: Bounds,
        applications: &'static [ApplicationOfScene],
    ) -> Self {
        let mut dice = Dice::new(seed);
        let neighbour = Neighbour::of(seed);
        let settings = scene_of(neighbour.is_some())(bounds, &[]);
        let oracle = Oracle::new(scene::plan(neighbour.is_some(), &[]));
        let mut phones: Vec<Phone> = PHONES.iter().map(|phone| Phone::new(phone, dice.split())).collect();
        for (device, transport) in STREAMS {
            let found = phones.iter_mut().filter(|phone| phone.device == device);
            found.for_each(|phone| phone.transport = transport);
        }
        let applications: Vec<_> =
            applications.iter().map(|app| Application::new(app, dice.split())).collect();
        let mut world = Self {
            now: Duration::ZERO,
            phones,
            connected: vec![None; applications.len()],
            applications,
            trace: Trace::default(),
            tally: Tally::default(),
            weather: FAIR,
            node: None,
            life: 0,
            delay: None,
            bounds,
            settings,
            base,
            later: BTreeMap::new(),
            order: 0,
            pipes: BTreeMap::new(),
            last_connection: 0,
            unplugged_until: vec![Duration::ZERO; PHONES.len()],
            steps: 0,
            changes: Vec::new(),
            stories: BTreeMap::new(),
            timeouts_at: (Duration::ZERO, 0),
            answer: None,
            disk: seed.is_multiple_of(2).then(Disk::default),
            left: Kept::default(),
            resume: None,
            neighbour,
            unanswered: None,
            oracle,
            standing: Standing::default(),
            streams: vec![None; PHONES.len()],
            stops_until: None,
            has_stopped: false,
            closed_by_node: BTreeSet::new(),
            dice,
        };
        world.start_node();
        world.schedule(Duration::ZERO, Later::Restore);
        world
    }

    /// Lets everything happen until then.
    pub(super) fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    fn next(&self) -> Option<Duration> {
        let node = self.node_timeout();
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        let pipes = self.pipes.values().filter_map(|(_, pipe)| pipe.next_arrival()).map(|(at, _)| at);
        let phones = self.phones.iter().filter_map(Phone::next_timeout);
        let applications = self.applications.iter().filter_map(Application::next_timeout);
        node.into_iter().chain(later).chain(pipes).chain(phones).chain(applications).min()
    }

    fn node_timeout(&self) -> Option<Duration> {
        let at = self.node.as_ref()?.next_timeout()?;
        Some(at.saturating_duration_since(self.base))
    }

    /// One thing that is due.
    fn step(&mut self) -> Result<(), String> {
        self.oracle.due(self.now)?;
        if self.stops_until.is_some_and(|until| self.now > until) {
            return Err("the node was told to stop, and does not".into());
        }
        if let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let later = entry.remove();
            return self.arrive(later);
        }
        if self.node_timeout().is_some_and(|at| at <= self.now) {
            if self.timeouts_at.0 != self.now {
                self.timeouts_at = (self.now, 0);
            }
            self.timeouts_at.1 += 1;
            if self.timeouts_at.1 > MAX_TIMEOUTS_AT_ONCE {
                return Err("a timer of the node is due again and again at the same moment".into());
            }
            return self.input(Input::Timeout);
        }
        let due = self.pipes.iter().find_map(|(id, (_, pipe))| {
            pipe.next_arrival().filter(|(at, _)| *at <= self.now).map(|(_, to)| (*id, to))
        });
        if let Some((id, to)) = due {
            return self.piece(id, to);
        }
        for index in 0..self.phones.len() {
            if self.phones[index].next_timeout().is_some_and(|at| at <= self.now) {
                self.phones[index].timeout(self.now);
                return self.after_phone(index);
            }
        }
        for index in 0..self.applications.len() {
            if self.applications[index].next_timeout().is_some_and(|at| at <= self.now) {
                self.applications[index].timeout(self.now)?;
                self.after_application(index)?;
                return Ok(());
            }
        }
        Ok(())
    }

    fn arrive(&mut self, later: Later) -> Result<(), String> {
        match later {
            Later::ToNode(phone, bytes) => {
                self.trace.line(self.now, self.phones[phone].device, &bytes);
                let hop = Hop {
                    transport: Transport::Udp,
                    local: address(NODE),
                    remote: self.phones[phone].address,
                    connection: None,
                };
                if self.node.is_some() {
                    self.oracle.sip(self.now, Way::ToNode, self.phones[phone].device, &bytes)?;
                }
                self.input(Input::Sip { hop, bytes })
            }
            Later::StreamToNode(phone, id, bytes) => self.stream_to_node(phone, id, bytes),
            Later::StreamToPhone(phone, id, _)
                if self.phones[phone].off_until > self.now || !self.is_stream(phone, id) =>
            {
                Ok(())
            }
            Later::StreamToPhone(phone, _, bytes) => {
                self.phones[phone].receive(self.now, &bytes)?;
                self.after_phone(phone)
            }
            Later::Closed(hop) => self.input(Input::SipClosed(hop)),
            Later::Unreachable(hop) => self.input(Input::SipUnreachable(hop)),
            Later::ToPhone(phone, _) if self.phones[phone].off_until > self.now => Ok(()),
            Later::ToPhone(phone, bytes) => {
                self.phones[phone].receive(self.now, &bytes)?;
                self.after_phone(phone)
            }
            Later::Password(connection, matches) => self.password_checked(connection, matches),
            Later::Restart => {
                self.start_node();
                self.restore()
            }
            Later::Restore => self.restore(),
            Later::Committed(number) => {
                let free = self.disk.as_mut().map(|disk| disk.commit(number)).unwrap_or_default();
                self.deliver(free)
            }
        }
    }

    pub(super) fn after_phone(&mut self, index: usize) -> Result<(), String> {
        for bytes in std::mem::take(&mut self.phones[index].out) {
            match self.phones[index].transport {
                Transport::Udp => self.post(index, bytes, Later::ToNode),
                Transport::Tcp | Transport::Tls => self.write_stream(index, bytes, Way::ToNode),
            }
        }
        if let Some(complaint) = self.phones[index].complaints.pop() {
            return Err(format!("{}: {complaint}", self.phones[index].device));
        }
        self.no_strange_end(index)
    }

    /// P7: a call of phones ends because one of them hung up, whatever becomes of applications.
    fn no_strange_end(&mut self, index: usize) -> Result<(), String> {
        for (token, peer) in std::mem::take(&mut self.phones[index].ended_by_peer) {
            let Some(peer) = peer.filter(|_| self.stops_until.is_none()) else { continue };
            // What applications watch, they may also end.
            let watched = |token: &str| token.starts_with("PHONE_3") || token.starts_with("PHONE_4");
            if watched(&token) || watched(&peer) {
                continue;
            }
            let other = self.phones.iter().find_map(|phone| phone.live_call(&peer));
            if other.is_some_and(|other| other.peer.as_deref() == Some(&token) && !other.orphan) {
                return Err(format!("{token} was ended, but {peer}, at its other end, has not hung up"));
            }
        }
        Ok(())
    }

    /// Sends a datagram between a phone and the node.
    fn post(&mut self, phone: usize, bytes: Vec<u8>, kind: fn(usize, Vec<u8>) -> Later) {
        if self.unplugged_until[phone] > self.now || self.dice.per_mille(self.weather.lost) {
            return self.tally.add(Happening::DatagramLost);
        }
        if self.dice.per_mille(self.weather.doubled) {
            self.tally.add(Happening::DatagramDoubled);
            let delay = self.dice.ms(1, 900);
            self.schedule(delay, kind(phone, bytes.clone()));
        }
        let late = self.dice.per_mille(self.weather.late);
        if late {
            self.tally.add(Happening::DatagramLate);
        }
        let delay = if late { self.dice.ms(20, 700) } else { self.dice.ms(1, 8) };
        self.schedule(delay, kind(phone, bytes));
    }

    pub(super) fn schedule(&mut self, after: Duration, later: Later) {
        self.order += 1;
        self.later.insert((self.now + after, self.order), later);
    }

    fn piece(&mut self, id: u64, to: To) -> Result<(), String> {
        let Some((index, pipe)) = self.pipes.get_mut(&id) else { return Ok(()) };
        let index = *index;
        let bytes = pipe.arrive(self.now, to, &mut self.dice);
        let over = pipe.is_over();
        match to {
            To::Node if bytes.is_empty() => {
                self.oracle.lost(self.now, id);
                self.input(Input::CtiClosed(protocol::session::ConnectionId(id)))?
            }
            To::Node => self.lines_to_node(id, &bytes)?,
            To::Application if bytes.is_empty() => {
                if self.connected[index] == Some(id) {
                    self.connected[index] = None;
                    self.applications[index].lost(self.now);
                }
            }
            To::Application if self.connected[index] == Some(id) => {
                self.applications[index].read(self.now, &bytes)?;
                self.after_application(index)?;
            }
            To::Application => {}
        }
        if over {
            self.pipes.remove(&id);
        }
        Ok(())
    }

    fn lines_to_node(&mut self, id: u64, bytes: &[u8]) -> Result<(), String> {
        let Some((_, pipe)) = self.pipes.get_mut(&id) else { return Ok(()) };
        pipe.decoder.push(bytes).map_err(|e| e.to_string())?;
        while let Some((_, pipe)) = self.pipes.get_mut(&id)
            && let Some(line) = pipe.decoder.next_line()
        {
            self.trace.line(self.now, &format!("application → {id}"), &line);
            self.frame_to_node(id, line)?;
        }
        Ok(())
    }

    /// Whatever others ask for, a heartbeat is answered by the step that takes it; a node that stops closes the session.
    fn frame_to_node(&mut self, id: u64, line: Vec<u8>) -> Result<(), String> {
        const HEARTBEAT: &[u8] = b"\"method\":\"provider.heartbeat\"";
        let is_heartbeat = line.windows(HEARTBEAT.len()).any(|part| part == HEARTBEAT);
        self.unanswered = is_heartbeat.then_some(id);
        if self.node.is_some() {
            self.oracle.asked(self.now, id, &line);
        }
        self.input(Input::CtiFrame(protocol::session::ConnectionId(id), line))?;
        let lives = self.stops_until.is_none()
            && self.pipes.get(&id).is_some_and(|(_, pipe)| !pipe.node_knows_the_end)
            && !self.closed_by_node.contains(&id);
        match self.unanswered.take() {
            Some(_) if lives => Err(format!("a heartbeat on {id} was not answered at once")),
            _ => Ok(()),
        }
    }

    pub(super) fn after_application(&mut self, index: usize) -> Result<(), String> {
        self.compare_stories(index)?;
        for act in std::mem::take(&mut self.applications[index].acts) {
            let pipe = self.connected[index].and_then(|id| self.pipes.get_mut(&id));
            match (act, pipe) {
                (Act::Connect, _) => self.connect(index)?,
                (Act::Write(line), Some((_, pipe))) => pipe.write_to_node(self.now, &line, &mut self.dice),
                (Act::Write(_), None) => {}
                (Act::Close, pipe) => {
                    if let Some((_, pipe)) = pipe {
                        pipe.close_by_application(self.now, &mut self.dice);
                    }
                    self.connected[index] = None;
                }
            }
        }
        Ok(())
    }

    /// P3: whoever watches a leg is told the same, in the same order, from the event on with which he began to watch.
    fn compare_stories(&mut self, index: usize) -> Result<(), String> {
        for (leg, story) in std::mem::take(&mut self.applications[index].told) {
            let Some(other) = self.stories.get_mut(&leg) else {
                self.stories.insert(leg, story);
                continue;
            };
            if !other.ends_with(&story) && !story.ends_with(other) {
                let instance = self.applications[index].scene.instance;
                return Err(format!(
                    "{instance} was told of {leg} otherwise than another: {story:x?}, {other:x?}"
                ));
            }
            self.tally.add(Happening::LegStory);
            if story.len() > other.len() {
                *other = story;
            }
        }
        Ok(())
    }

    pub(super) fn next_connection(&mut self) -> u64 {
        self.last_connection += 1;
        self.last_connection
    }

    fn connect(&mut self, index: usize) -> Result<(), String> {
        if self.node.is_none() {
            self.applications[index].lost(self.now);
            return Ok(());
        }
        let id = self.next_connection();
        self.pipes.insert(id, (index, Pipe::new()));
        self.connected[index] = Some(id);
        self.applications[index].connection_life = self.life;
        let host = 50 + u8::try_from(index).unwrap_or(0);
        let peer = std::net::SocketAddr::from(([10, 0, 0, host], 40_000));
        let transport = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
        self.input(Input::CtiOpened { connection: protocol::session::ConnectionId(id), peer, transport })
    }

    /// A session goes on if the log reaches back to what the application has, and not otherwise: then it has ended there
    /// and then (protocol §2, "Resume").
    fn password_checked(&mut self, connection: CtiConnection, matches: bool) -> Result<(), String> {
        let Some((index, _)) = self.pipes.get(&connection.0) else {
            return self.input(Input::PasswordChecked(connection, matches));
        };
        let application = &self.applications[*index];
        let own = self.connected[*index] == Some(connection.0) && application.borrowed.is_none();
        let wished = application.position().filter(|_| own);
        let wished = wished.map(|(session, heard)| (session.to_owned(), heard));
        let instance = application.scene.instance;
        let before = self.ask(AdminRequest::Sessions)?;
        self.resume = None;
        self.input(Input::PasswordChecked(connection, matches))?;
        let (Some((session, heard)), Some(said)) = (wished, self.resume) else { return Ok(()) };
        let row =
            |rows: &Value| rows.as_array()?.iter().find(|row| row["session"] == session.as_str()).cloned();
        let Some(last) = row(&before).map(|row| row["last_seq"].as_u64().unwrap_or(0)) else {
            return if said == Resume::Other {
                Ok(())
            } else {
                Err(format!("{instance}: {session} was over, and the node says {said:?}"))
            };
        };
        let missed = last.saturating_sub(heard);
        let true_word = match said {
            Resume::Resumed => missed <= self.bounds.log_events as u64,
            // As many as the log surely keeps.
            Resume::Overrun => {
                missed > self.bounds.log_events.min(self.bounds.log_bytes / EVENT_BYTES) as u64
            }
            Resume::Other => false,
        };
        let after = self.ask(AdminRequest::Sessions)?;
        if !true_word || row(&after).is_some() != (said == Resume::Resumed) {
            return Err(format!(
                "{instance} missed {missed} events of {session}, and the node says {said:?}: {after}"
            ));
        }
        Ok(())
    }

    /// Another configuration, in the midst of everything.
    pub(super) fn reload(&mut self, changes: Vec<usize>) -> Result<(), String> {
        if self.changes == changes {
            return Ok(());
        }
        self.tally.add(Happening::Reload);
        for change in &changes {
            self.trace.line(self.now, Happening::Reload.text(), scene::CHANGES[*change].what.as_bytes());
        }
        let locked =
            |user: &str| changes.iter().any(|change| scene::CHANGES[*change].locks_out == Some(user));
        for application in &mut self.applications {
            let now = self.now;
            let until = &mut application.locked_out_until;
            match (locked(application.scene.user), *until == Duration::MAX) {
                (true, _) => *until = Duration::MAX,
                // An answer may be under way.
                (false, true) => *until = now + Duration::from_secs(60),
                (false, false) => {}
            }
        }
        let after = scene_of(self.neighbour.is_some())(self.bounds, &changes);
        let switch = Switch::between(&self.settings, Arc::clone(&after));
        self.settings = after;
        self.oracle.configured(self.now, scene::plan(self.neighbour.is_some(), &changes));
        self.changes = changes;
        self.input(Input::Configure(Box::new(switch)))
    }

    // The node.

    /// From now on what applications ask of devices waits for some steps, and what they are told of them.
    pub(super) fn delay(&mut self, seed: u64) {
        self.delay = Some(seed);
        self.oracle.delay();
        if let Some(node) = &mut self.node {
            node.delay_requests(seed ^ u64::from(self.life));
            node.delay_told(!(seed ^ u64::from(self.life)));
            node.write_messages();
        }
    }

    fn start_node(&mut self) {
        self.life += 1;
        self.trace.line(self.now, "the node starts", &[]);
        let mut node = Node::new(self.settings.clone(), self.dice.seed(), self.life);
        node.watch_permissions();
        if let Some(seed) = self.delay {
            node.delay_requests(seed ^ u64::from(self.life));
            node.delay_told(!(seed ^ u64::from(self.life)));
            node.write_messages();
        }
        self.standing = node.standing();
        self.node = Some(node);
        for application in &mut self.applications {
            application.node_life = self.life;
            application.node_keeps = self.disk.is_some();
        }
    }

    /// The node hears what its earlier life kept, before anything else.
    fn restore(&mut self) -> Result<(), String> {
        if self.disk.is_none() {
            return Ok(());
        }
        let left = std::mem::take(&mut self.left);
        self.input(Input::Restored(Box::new(left), None))?;
        // The shell replaces what the earlier life kept by what this one says of it, before it does anything else.
        let free = self.disk.as_mut().map(Disk::commit_all).unwrap_or_default();
        self.deliver(free)
    }

    /// What the node said is to be kept adds up to what there is.
    pub(super) fn all_is_kept(&self) -> Result<(), String> {
        let (Some(disk), Some(node)) = (&self.disk, &self.node) else { return Ok(()) };
        let (said, is) = (disk.sum(millis(self.wall())), node.kept(self.base + self.now, self.wall()));
        if said == is { Ok(()) } else { Err(format!("kept is {said:?}, and there is {is:?}")) }
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now
    }

    /// An application's connection is gone, as both ends hear at once.
    pub(super) fn vanish(&mut self, index: usize) -> Result<(), String> {
        let Some(id) = self.connected[index].take() else { return Ok(()) };
        if let Some((_, mut pipe)) = self.pipes.remove(&id) {
            pipe.vanish();
            self.oracle.lost(self.now, id);
            self.input(Input::CtiClosed(protocol::session::ConnectionId(id)))?;
        }
        self.applications[index].lost(self.now);
        self.after_application(index)
    }

    /// The node is told to stop, and is back after a while.
    pub(super) fn stop_node(&mut self) -> Result<(), String> {
        if self.node.is_none() || self.stops_until.is_some() {
            return Ok(());
        }
        self.trace.line(self.now, Happening::Stop.text(), &[]);
        self.tally.add(Happening::Stop);
        self.oracle.stops(self.now);
        self.stops_until = Some(self.now + STOPS_WITHIN);
        self.input(Input::Stop)
    }

    /// It has stopped: whoever had a call or a connection knows it, and what it keeps is kept.
    fn stopped(&mut self) -> Result<(), String> {
        self.stops_until = None;
        self.oracle.stopped()?;
        let free = self.disk.as_mut().map(Disk::commit_all).unwrap_or_default();
        self.deliver(free)?;
        self.kill_node();
        Ok(())
    }

    /// The node dies with everything it knows, and is back after a while.
    pub(super) fn kill_node(&mut self) {
        if self.node.take().is_none() {
            return;
        }
        self.trace.line(self.now, "the node dies", &[]);
        if self.stops_until.take().is_none() && !self.has_stopped {
            self.tally.add(Happening::NodeDeath);
        }
        self.has_stopped = false;
        self.oracle.node_died(self.now, self.disk.is_some());
        self.later.retain(|_, later| !matches!(later, Later::Password(..) | Later::Committed(_)));
        let alive = millis(self.wall());
        self.left = self.disk.as_mut().map(|disk| disk.crash(alive)).unwrap_or_default();
        for (_, pipe) in self.pipes.values_mut() {
            pipe.cut(self.now, &mut self.dice, Heard::OrNot);
            pipe.node_knows_the_end = true;
        }
        self.pipes.retain(|_, (_, pipe)| !pipe.is_over());
        self.neighbour.iter_mut().for_each(Neighbour::node_gone);
        for phone in &mut self.phones {
            phone.node_gone(self.now);
        }
        self.streams.fill(None);
        self.later.retain(|_, later| !matches!(later, Later::Closed(_) | Later::Unreachable(_)));
        let back = self.dice.ms(100, 6_000);
        self.schedule(back, Later::Restart);
    }

    pub(super) fn input(&mut self, input: Input) -> Result<(), String> {
        let (now, wall) = (self.base + self.now, self.wall());
        let Some(node) = &mut self.node else { return Ok(()) };
        self.steps += 1;
        let mut out = Vec::new();
        node.handle(now, wall, input, &mut out);
        node.check()?;
        let mut free = Vec::new();
        for output in out {
            self.observe(&output)?;
            match (output, &mut self.disk) {
                (Output::Persist(records), Some(disk)) => {
                    let number = disk.say(records);
                    let after = self.dice.ms(0, 40);
                    self.schedule(after, Later::Committed(number));
                }
                (output @ (Output::Cti(..) | Output::CtiClose(_)), Some(disk)) => {
                    free.extend(disk.pass(output));
                }
                (output, _) => free.push(output),
            }
        }
        if let Some(node) = &self.node {
            node.check_records(&self.standing)?;
        }
        self.deliver(free)?;
        match self.has_stopped && self.stops_until.is_some() {
            true => self.stopped(),
            false => Ok(()),
        }
    }

    /// What the node does, in its order, before anything of it waits.
    fn observe(&mut self, output: &Output) -> Result<(), String> {
        match output {
            Output::Cti(connection, frame) => {
                self.unanswered = self.unanswered.filter(|asked| *asked != connection.0);
                let line = frame.to_vec();
                self.overhear(&line);
                self.oracle.said(self.now, connection.0, &line)
            }
            Output::Transition { transition, .. } => self.standing.apply(transition),
            Output::CtiClose(connection) => {
                self.closed_by_node.insert(connection.0);
                self.oracle.closed(self.now, connection.0)
            }
            Output::Sip { hop, bytes } => {
                // What is written on a dead connection is said all the same.
                let of_host = || self.phones.iter().position(|phone| phone.address.ip() == hop.remote.ip());
                let phone = self.phone_at(hop).or_else(|| of_host().filter(|_| hop.connection.is_some()));
                match phone.map(|phone| self.phones[phone].device) {
                    Some(device) => self.oracle.sip(self.now, Way::FromNode, device, bytes),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// All is quiet: who hears whom is what was promised.
    pub(super) fn at_rest(&self) -> Result<(), String> {
        let facts: Vec<Fact> = self.phones.iter().flat_map(super::phone::Phone::facts).collect();
        self.oracle.at_rest(self.now, &facts)
    }

    fn deliver(&mut self, outputs: Vec<Output>) -> Result<(), String> {
        let mut overflowed = Vec::new();
        for output in outputs {
            overflowed.extend(self.carry_out(output)?);
        }
        for connection in overflowed {
            self.trace.line(self.now, "overflow", &connection.0.to_le_bytes());
            if let Some((_, pipe)) = self.pipes.get_mut(&connection.0) {
                pipe.begin_farewell();
            }
            if let Some(disk) = &mut self.disk {
                disk.drop_frames(connection);
            }
            self.input(Input::CtiOverflow(connection))?;
        }
        Ok(())
    }

    fn carry_out(&mut self, output: Output) -> Result<Option<CtiConnection>, String> {
        match output {
            Output::Sip { hop, bytes } if self.is_neighbours(hop.remote) => {
                self.trace.line(self.now, "node → neighbour", &bytes);
                return self.neighbour_hears(hop.remote, bytes).map(|()| None);
            }
            Output::Sip { hop, bytes } => {
                let alone = |one: &Neighbour| one.heard.is_some() && !one.among_others;
                if self.neighbour.as_ref().is_some_and(alone) {
                    let first = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
                    return Err(format!("a stranger made the node write to {}: {first}", hop.remote));
                }
                let Some(phone) = self.phone_at(&hop) else {
                    return self.write_into_the_void(hop).map(|()| None);
                };
                self.trace.line(self.now, &format!("node → {}", self.phones[phone].device), &bytes);
                match hop.transport {
                    Transport::Udp => self.post(phone, bytes, Later::ToPhone),
                    Transport::Tcp | Transport::Tls => self.write_stream(phone, bytes, Way::FromNode),
                }
            }
            Output::Cti(connection, frame) => {
                let mut line = Vec::new();
                frame.encode_line(&mut line);
                self.trace.line(self.now, &format!("{} → application", connection.0), &line);
                if let Some(neighbour) = self.neighbour.as_mut().filter(|one| one.has(connection)) {
                    let happening = neighbour.frame(connection, &line)?;
                    happening.into_iter().for_each(|happening| self.tally.add(happening));
                    return Ok(None);
                }
                let Some((_, pipe)) = self.pipes.get_mut(&connection.0) else { return Ok(None) };
                let written = pipe.write_frame(self.now, self.steps, line, &mut self.dice);
                return Ok((written == Written::Overflow).then_some(connection));
            }
            Output::CtiClose(connection) => {
                self.neighbour.iter_mut().for_each(|neighbour| neighbour.closed(connection));
                if let Some((_, pipe)) = self.pipes.get_mut(&connection.0) {
                    pipe.close_by_node(self.now, &mut self.dice);
                }
            }
            Output::CheckPassword { connection, password, .. } => {
                let matches = password.expose() == PASSWORD;
                let after = self.dice.ms(2, 60);
                self.schedule(after, Later::Password(connection, matches));
            }
            Output::Admin(_, answer) => self.answer = answer.ok(),
            Output::Stopped => self.has_stopped = true,
            Output::SipConnect(hop) => self.connect_to(hop),
            Output::SipClose(connection) => {
                for stream in &mut self.streams {
                    stream.take_if(|stream| stream.is(connection));
                }
            }
            Output::SipKnown { .. }
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
            Output::Persist(_) => {
                return Err("a node that wasn't asked to keep anything says a record".into());
            }
        }
        Ok(None)
    }

    fn is_neighbours(&self, remote: std::net::SocketAddr) -> bool {
        self.neighbour.as_ref().is_some_and(|neighbour| neighbour.is_at(remote))
    }

    fn neighbour_hears(&mut self, remote: std::net::SocketAddr, bytes: Vec<u8>) -> Result<(), String> {
        match self.neighbour.as_mut().and_then(|neighbour| neighbour.heard.as_mut()) {
            Some(heard) => heard.push((remote, bytes)),
            // Nothing is kept for it that could be sent again.
            None => return Err(format!("the node writes to {remote}, who has said nothing")),
        }
        Ok(())
    }

    /// Counts why connections are closed, for often nobody is left to read it, and what becomes of wishes to resume.
    fn overhear(&mut self, line: &[u8]) {
        const REASONS: [(&[u8], Happening); 3] = [
            (b"\"session.superseded\"", Happening::Superseded),
            (b"\"slow_consumer\"", Happening::SlowConsumer),
            (b"\"heartbeat_timeout\"", Happening::HeartbeatTimeout),
        ];
        let says = |word: &[u8]| line.len() < 1_000 && line.windows(word.len()).any(|part| part == word);
        if line.len() < 250 {
            let said = REASONS.iter().filter(|(reason, _)| says(reason));
            said.for_each(|(_, happening)| self.tally.add(*happening));
        }
        if says(b"\"resumed\":true") {
            self.resume = Some(Resume::Resumed);
        } else if says(b"\"reason\":\"log_overrun\"") {
            self.resume = Some(Resume::Overrun);
        } else if says(b"\"resumed\":false") {
            self.resume = Some(Resume::Other);
        }
    }

    /// What an administrator would be told.
    pub(super) fn ask(&mut self, request: AdminRequest) -> Result<Value, String> {
        self.input(Input::Admin(AdminToken(1), request))?;
        self.answer.take().ok_or_else(|| "an administrator got no answer".into())
    }

    /// Everybody in this mood.
    pub(super) fn mood(&mut self, mood: Mood) {
        self.phones.iter_mut().for_each(|phone| phone.mood = mood);
        self.applications.iter_mut().for_each(|application| application.mood = mood);
    }

    /// Everybody ends what he has.
    pub(super) fn hang_up_all(&mut self) -> Result<(), String> {
        for index in 0..self.phones.len() {
            self.phones[index].hang_up_all(self.now);
            self.after_phone(index)?;
        }
        for index in 0..self.applications.len() {
            self.applications[index].drop_all(self.now);
            self.after_application(index)?;
        }
        Ok(())
    }

    /// The most frames that wait for one reader.
    pub(super) fn longest_queue(&self) -> usize {
        self.pipes.values().map(|(_, pipe)| pipe.waiting()).max().unwrap_or(0)
    }

    /// Connections of which either end still knows.
    pub(super) fn dial(&mut self, phone: usize, number: &str) -> Result<String, String> {
        let token = self.phones[phone].dial(self.now, number);
        self.after_phone(phone)?;
        Ok(token)
    }
}

/// The scene's configuration, with or without a neighbour.
fn scene_of(neighbour: bool) -> fn(Bounds, &[usize]) -> Arc<Settings> {
    if neighbour { scene::settings_beside_a_neighbour } else { scene::settings }
}
