//! A cluster in one thread: processes, links between them, and what befalls these. Microseconds of virtual time.

use cluster::{Heartbeat, Input, Life, LinkId, Membership, Mode, NodeState, Output, Own, View};
use device_model::NodeName;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The failure timeout.
pub const T: u64 = 1_000_000;
/// The shell looks at its links so often.
const ROUND: u64 = 50_000;
/// It dials a peer that can't be reached again after so long at the most.
const LONGEST_PAUSE: u64 = 1_000_000;
/// What waits for a frozen process; beyond it the sender's outbox is full.
const BACKLOG: usize = 200;

pub const fn ms(milliseconds: u64) -> u64 {
    milliseconds * 1_000
}

/// What the network and the machines do without a fault.
#[derive(Clone, Copy, Debug)]
pub struct Chances {
    /// Of a hundred messages.
    pub lost: u32,
    pub doubled: u32,
    /// The longest way of one.
    pub delay: u64,
    /// The longest time for which a process stands still now and then.
    pub pause: u64,
}

impl Chances {
    pub const GOOD: Self = Self { lost: 0, doubled: 0, delay: ms(20), pause: 0 };
    pub const LOSSY: Self = Self { lost: 5, doubled: 5, delay: ms(20), pause: 0 };
    pub const BAD_NETWORK: Self = Self { lost: 5, doubled: 5, delay: ms(60), pause: ms(300) };

    pub fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) { Self::GOOD } else { Self::LOSSY }
    }
}

/// A process, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub usize);

#[derive(Debug)]
struct Machine {
    name: NodeName,
    membership: Option<Membership>,
    /// Its wall clock is so much ahead.
    skew: u64,
    incarnation: u32,
    frozen: bool,
    backlog: Vec<Input>,
    wake: u64,
    /// It dials each of the others; when next, and how long it waits after that.
    dials: BTreeMap<NodeName, (u64, u64)>,
    /// Others reach it at the address of its name.
    is_at_home: bool,
    yielded: bool,
    duplicates: BTreeSet<NodeName>,
}

/// A connection: both ends, and when each heard something last.
#[derive(Debug)]
struct Link {
    ends: [(Process, bool, u64); 2],
}

/// What somebody thought of somebody, from then on.
#[derive(Clone, Debug)]
pub struct Change {
    pub time: u64,
    pub at: Process,
    pub node: NodeName,
    pub state: NodeState,
}

#[derive(Debug)]
enum Event {
    Wake(Process),
    Round(Process),
    Deliver(Process, Input),
    Resume(Process),
}

pub struct World {
    pub now: u64,
    begun: Instant,
    dice: StdRng,
    chances: Chances,
    machines: Vec<Machine>,
    links: BTreeMap<LinkId, Link>,
    cuts: BTreeSet<(Process, Process)>,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    changes: Vec<Change>,
    duplicates: Vec<(u64, Process, NodeName)>,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "any moment will do: only the time since then is looked at")]
    pub fn new(seed: u64, chances: Chances) -> Self {
        let mut world = Self {
            now: 0,
            begun: Instant::now(),
            dice: StdRng::seed_from_u64(seed),
            chances,
            machines: Vec::new(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            events: BTreeMap::new(),
            count: 0,
            changes: Vec::new(),
            duplicates: Vec::new(),
        };
        let nodes = 2 + world.below(4);
        let names: Vec<NodeName> = (1..=nodes).map(|n| format!("cm{n}").into()).collect();
        for name in names {
            let incarnation = u32::try_from(world.below(5)).unwrap_or(0);
            world.add(name, incarnation, true);
        }
        for process in world.living().collect::<Vec<_>>() {
            world.boot(process);
        }
        world
    }

    fn add(&mut self, name: NodeName, incarnation: u32, is_at_home: bool) -> Process {
        let skew = self.below(T);
        self.machines.push(Machine {
            name,
            membership: None,
            skew,
            incarnation,
            frozen: false,
            backlog: Vec::new(),
            wake: 0,
            dials: BTreeMap::new(),
            is_at_home,
            yielded: false,
            duplicates: BTreeSet::new(),
        });
        let process = Process(self.machines.len() - 1);
        self.machines[process.0].membership = Some(self.membership_of(process));
        process
    }

    fn membership_of(&mut self, process: Process) -> Membership {
        let id = self.dice.random();
        let (now, wall) = self.clocks(process);
        let names: BTreeSet<NodeName> = (1..=5).map(|n| format!("cm{n}").into()).collect();
        let machine = &self.machines[process.0];
        let started = wall.duration_since(UNIX_EPOCH).expect("later").as_millis();
        let life = Life {
            started_ms: u64::try_from(started).expect("soon"),
            life: id,
            incarnation: machine.incarnation,
        };
        let own = Own { node: machine.name.clone(), life, revision: "r1".into() };
        let others = names.into_iter().filter(|name| *name != own.node).collect();
        Membership::new(own, others, Duration::from_micros(T), now, wall)
    }

    fn boot(&mut self, process: Process) {
        self.push(self.now, Event::Round(process));
        self.handle(process, Input::Timeout);
    }

    fn clocks(&self, process: Process) -> (Instant, SystemTime) {
        let since = Duration::from_micros(self.now);
        let skew = Duration::from_micros(self.machines[process.0].skew);
        (self.begun + since, UNIX_EPOCH + Duration::from_secs(1_000_000_000) + since + skew)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice.random_range(0..bound.max(1))
    }

    fn percent(&mut self, chance: u32) -> bool {
        self.dice.random_range(0..100) < chance
    }

    fn push(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    pub fn run_for(&mut self, time: u64) {
        self.run_until(self.now + time);
    }

    fn run_until(&mut self, end: u64) {
        while let Some(((at, _), event)) =
            self.events.first_key_value().map(|(key, _)| *key).and_then(|key| {
                (key.0 <= end).then(|| (key, self.events.remove(&key).expect("it is the first")))
            })
        {
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    /// Runs until that is so.
    pub fn until(&mut self, seed: u64, deadline: u64, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            let next = self.events.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            assert!(next <= deadline, "seed {seed}: not by {deadline}: {}", self.shown());
            self.run_until(next);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(process) => {
                if self.machines[process.0].wake == self.now && self.is_awake(process) {
                    self.handle(process, Input::Timeout);
                }
            }
            Event::Round(process) => {
                if self.machines[process.0].membership.is_some() {
                    self.push(self.now + ROUND, Event::Round(process));
                    if self.is_awake(process) {
                        self.round(process);
                    }
                }
            }
            Event::Deliver(process, input) => self.deliver(process, input),
            Event::Resume(process) => self.thaw(process),
        }
    }

    fn is_awake(&self, process: Process) -> bool {
        let machine = &self.machines[process.0];
        machine.membership.is_some() && !machine.frozen && !machine.yielded
    }

    fn deliver(&mut self, process: Process, input: Input) {
        let machine = &mut self.machines[process.0];
        if machine.membership.is_none() || machine.yielded {
            return;
        }
        if machine.frozen {
            if machine.backlog.len() < BACKLOG {
                machine.backlog.push(input);
            }
            return;
        }
        if let Input::Received(link, _) = &input {
            let (link, now) = (*link, self.now);
            let Some(connection) = self.links.get_mut(&link) else { return };
            let Some(end) = connection.ends.iter_mut().find(|(one, ..)| *one == process) else { return };
            if !end.1 {
                return;
            }
            end.2 = now;
        }
        self.handle(process, input);
    }

    fn handle(&mut self, process: Process, input: Input) {
        let (now, wall) = self.clocks(process);
        let mut out = Vec::new();
        let Some(membership) = &mut self.machines[process.0].membership else { return };
        membership.handle(now, wall, input, &mut out);
        let next = membership.next_timeout().saturating_duration_since(self.begun);
        let wake = u64::try_from(next.as_micros()).expect("soon").max(self.now + 1) + self.below(ms(5));
        self.machines[process.0].wake = wake;
        self.push(wake, Event::Wake(process));
        for output in out {
            self.carry_out(process, output);
        }
    }

    fn carry_out(&mut self, process: Process, output: Output) {
        match output {
            Output::Send(links, heartbeat) => {
                links.into_iter().for_each(|link| self.send(process, link, &heartbeat));
            }
            Output::Close(link) => self.hang_up(process, link),
            Output::Changed(node) => {
                let state = self.membership(process).other(&node).expect("it has changed").state;
                self.changes.push(Change { time: self.now, at: process, node, state });
            }
            Output::DuplicateBegan(node) => {
                self.duplicates.push((self.now, process, node.clone()));
                self.machines[process.0].duplicates.insert(node);
            }
            Output::DuplicateEnded(node) => drop(self.machines[process.0].duplicates.remove(&node)),
            Output::Yield(_) => self.machines[process.0].yielded = true,
        }
    }

    fn send(&mut self, process: Process, link: LinkId, heartbeat: &Arc<Heartbeat>) {
        // Some go over the wire as they would; all of them took most of the time.
        let heartbeat = if self.percent(5) {
            let wire = cluster::message::write(heartbeat).expect("short");
            cluster::message::read(&wire[4..]).expect("ours").expect("a heartbeat")
        } else {
            Heartbeat::clone(heartbeat)
        };
        let Some(other) = self.other_end(link, process) else { return };
        let copies = 1 + u32::from(self.percent(self.chances.doubled));
        for _ in 0..copies {
            if !self.cuts.contains(&(process, other)) && !self.percent(self.chances.lost) {
                let at = self.now + 200 + self.below(self.chances.delay);
                let input = Input::Received(link, Box::new(heartbeat.clone()));
                self.push(at, Event::Deliver(other, input));
            }
        }
    }

    fn other_end(&self, link: LinkId, process: Process) -> Option<Process> {
        let ends = &self.links.get(&link)?.ends;
        ends.iter().map(|(one, ..)| *one).find(|one| *one != process)
    }

    /// What the shell does now and then: lets go of silent links, and dials.
    fn round(&mut self, process: Process) {
        let silent = |link: &Link| {
            link.ends.iter().any(|(one, open, heard)| *one == process && *open && heard + 2 * T < self.now)
        };
        let silent: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| silent(link)).map(|(id, _)| *id).collect();
        for link in silent {
            self.hang_up(process, link);
            self.handle(process, Input::Closed(link));
        }
        self.dial_all(process);
        if self.chances.pause > 0 && self.percent(2) {
            let time = 1 + self.below(self.chances.pause);
            self.machines[process.0].frozen = true;
            self.push(self.now + time, Event::Resume(process));
        }
    }

    fn dial_all(&mut self, process: Process) {
        let own = self.machines[process.0].name.clone();
        let homes: Vec<Process> = (0..self.machines.len()).map(Process).collect();
        for home in homes {
            let machine = &self.machines[home.0];
            if !machine.is_at_home || machine.name == own {
                continue;
            }
            let name = machine.name.clone();
            let dialled = self
                .links
                .values()
                .any(|link| link.ends[0].0 == process && link.ends[0].1 && link.ends[1].0 == home);
            let (due, pause) = *self.machines[process.0].dials.entry(name.clone()).or_insert((0, ms(100)));
            if dialled || due > self.now {
                continue;
            }
            if self.connect(process, home) {
                self.machines[process.0].dials.insert(name, (self.now, ms(100)));
            } else {
                let longer = (pause * 2).min(LONGEST_PAUSE);
                self.machines[process.0].dials.insert(name, (self.now + pause, longer));
            }
        }
    }

    fn connect(&mut self, from: Process, to: Process) -> bool {
        let cut = self.cuts.contains(&(from, to)) || self.cuts.contains(&(to, from));
        if cut || !self.is_awake(to) {
            return false;
        }
        self.count += 1;
        let link = LinkId(self.count);
        self.links.insert(link, Link { ends: [(from, true, self.now), (to, true, self.now)] });
        for (end, peer) in [(from, to), (to, from)] {
            let node = self.machines[peer.0].name.clone();
            let at = self.now + 300 + self.below(self.chances.delay);
            self.push(at, Event::Deliver(end, Input::Opened { link, node }));
        }
        true
    }

    /// One end closes a link; the other hears of it if anything passes.
    fn hang_up(&mut self, process: Process, link: LinkId) {
        let Some(connection) = self.links.get_mut(&link) else { return };
        connection.ends.iter_mut().filter(|(one, ..)| *one == process).for_each(|end| end.1 = false);
        let other = connection.ends.iter().find(|(one, open, _)| *one != process && *open).map(|end| end.0);
        if let Some(other) = other.filter(|other| !self.cuts.contains(&(process, *other))) {
            if let Some(connection) = self.links.get_mut(&link) {
                connection.ends.iter_mut().for_each(|end| end.1 = false);
            }
            let at = self.now + 200 + self.below(self.chances.delay);
            self.push(at, Event::Deliver(other, Input::Closed(link)));
        }
        self.links.retain(|_, link| link.ends.iter().any(|(_, open, _)| *open));
    }

    // What befalls them.

    pub fn crash(&mut self, process: Process) {
        self.machines[process.0].membership = None;
        self.machines[process.0].backlog.clear();
        let of_it = |link: &Link| link.ends.iter().any(|(one, ..)| *one == process);
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| of_it(link)).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.hang_up(process, link));
    }

    pub fn freeze(&mut self, process: Process) {
        self.machines[process.0].frozen = true;
    }

    pub fn thaw(&mut self, process: Process) {
        let machine = &mut self.machines[process.0];
        if !std::mem::replace(&mut machine.frozen, false) || machine.membership.is_none() {
            return;
        }
        let backlog = std::mem::take(&mut machine.backlog);
        if self.percent(50) {
            self.handle(process, Input::Timeout);
        }
        backlog.into_iter().for_each(|input| self.deliver(process, input));
        self.handle(process, Input::Timeout);
    }

    /// The same machine starts the node again, with or without what it remembers.
    pub fn start_again(&mut self, process: Process, keeps_state: bool) -> Process {
        let machine = &mut self.machines[process.0];
        machine.is_at_home = false;
        let (name, incarnation) =
            (machine.name.clone(), if keeps_state { machine.incarnation + 1 } else { 1 });
        let next = self.add(name, incarnation, true);
        self.boot(next);
        next
    }

    /// Another machine starts a node of the same name; nobody dials that.
    pub fn start_second(&mut self, first: Process) -> Process {
        let (name, incarnation) = (self.machines[first.0].name.clone(), self.machines[first.0].incarnation);
        let second = self.add(name, incarnation, false);
        self.boot(second);
        second
    }

    /// Nothing passes from one to the other.
    pub fn cut(&mut self, from: Process, to: Process) {
        self.cuts.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    pub fn set_mode(&mut self, process: Process, mode: Mode) {
        let (now, _) = self.clocks(process);
        self.machines[process.0].membership.as_mut().expect("it runs").set_mode(mode, now);
        self.handle(process, Input::Timeout);
    }

    pub fn misfortune(&mut self) {
        let (one, other) = self.two();
        match self.below(6) {
            0 => self.cut(one, other),
            1 => {
                self.cut(one, other);
                self.cut(other, one);
            }
            2 => self.freeze(one),
            3 => self.thaw(one),
            4 => {
                self.crash(one);
                let keeps_state = self.percent(70);
                self.start_again(one, keeps_state);
            }
            _ => self.heal(),
        }
    }

    pub fn end_all_misfortune(&mut self) {
        self.heal();
        self.chances = Chances::LOSSY;
        for process in self.living().collect::<Vec<_>>() {
            self.thaw(process);
        }
    }

    // What is looked at.

    pub fn living(&self) -> impl Iterator<Item = Process> + use<'_> {
        (0..self.machines.len()).map(Process).filter(|one| self.machines[one.0].membership.is_some())
    }

    pub fn any(&mut self) -> Process {
        let all: Vec<Process> = self.living().collect();
        all[usize::try_from(self.below(all.len() as u64)).expect("few")]
    }

    pub fn two(&mut self) -> (Process, Process) {
        let one = self.any();
        let others: Vec<Process> = self.living().filter(|other| *other != one).collect();
        (one, others[usize::try_from(self.below(others.len() as u64)).expect("few")])
    }

    pub fn membership(&self, process: Process) -> &Membership {
        self.machines[process.0].membership.as_ref().expect("it runs")
    }

    pub fn life(&self, process: Process) -> Life {
        self.machines[process.0].membership.as_ref().map_or_else(
            || {
                // What the others have seen of it.
                let name = &self.machines[process.0].name;
                let other = self.living().next().expect("one is left");
                self.membership(other).other(name).and_then(|view| view.life).expect("it was seen")
            },
            |membership| membership.own().life,
        )
    }

    pub fn named(&self, node: &NodeName) -> Process {
        let of_it = |one: &Process| self.machines[one.0].name == *node;
        self.living().find(of_it).expect("it lives")
    }

    pub fn view(&self, at: Process, of: Process) -> View<'_> {
        self.membership(at).other(&self.machines[of.0].name).expect("another node")
    }

    pub fn state(&self, at: Process, of: Process) -> NodeState {
        self.view(at, of).state
    }

    /// Whether each hears each.
    pub fn agrees(&self) -> bool {
        let all: Vec<Process> = self.living().collect();
        all.iter().all(|at| {
            let others = all.iter().filter(|of| self.machines[of.0].name != self.machines[at.0].name);
            others.into_iter().all(|of| self.state(*at, *of) == NodeState::Running)
        })
    }

    pub fn all_agree(&self) {
        assert!(self.agrees(), "{}", self.shown());
    }

    pub fn changes_since(&self, time: u64) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.time >= time && self.exists(&change.node))
    }

    /// Of the five names of the file some are never started.
    fn exists(&self, node: &NodeName) -> bool {
        self.machines.iter().any(|machine| machine.name == *node)
    }

    /// Nobody thought otherwise of anybody else since then.
    pub fn only_changed(&self, seed: u64, since: u64, process: Process) {
        let name = &self.machines[process.0].name;
        let wrong: Vec<_> = self
            .changes_since(since)
            .filter(|change| change.node != *name && self.machines[change.at.0].name != *name)
            .collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
    }

    pub fn has_yielded(&self, process: Process) -> bool {
        self.machines[process.0].yielded
    }

    pub fn duplicates(&self) -> Vec<String> {
        self.duplicates.iter().map(|(time, at, node)| format!("{node} at {at:?}, {time}")).collect()
    }

    pub fn began_duplicate(&self, at: Process, of: Process) -> bool {
        let name = &self.machines[of.0].name;
        self.duplicates.iter().any(|(_, process, node)| *process == at && node == name)
    }

    pub fn standing_duplicates(&self) -> Vec<String> {
        self.living()
            .flat_map(|one| self.machines[one.0].duplicates.iter().map(ToString::to_string))
            .collect()
    }

    fn shown(&self) -> String {
        let mut text = format!("at {}", self.now);
        for at in self.living() {
            for view in self.membership(at).others() {
                text += &format!("; {:?} {} {}: {:?}", at, self.machines[at.0].name, view.node, view.state);
            }
        }
        text
    }
}
