//! The machine: heartbeats in and out, and the states that follow from them.

use crate::lives::Lives;
use crate::message::{Facts, Heard, Heartbeat, Life, Mode};
use crate::port::{Input, LinkId, LinkState, NodeState, Output, Own, View};
use crate::timing::Timing;
use device_model::NodeName;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Own heartbeats whose time is remembered, for acknowledgements: of some six timeouts.
const REMEMBERED: usize = 64;
/// Links that are taken; more are closed. Two of each node are enough.
const MAX_LINKS: usize = 1_024;

/// What one node knows of all others.
#[derive(Debug)]
pub struct Membership {
    own: Own,
    facts: Facts,
    timing: Timing,
    /// The count of our last heartbeat.
    seq: u64,
    /// When the newest of them left.
    sent: VecDeque<(u64, Instant)>,
    next_heartbeat: Instant,
    /// When we were asked last.
    asked: Instant,
    begun: Instant,
    standing: Standing,
    links: BTreeMap<LinkId, NodeName>,
    /// In the order of the configuration.
    peers: Vec<Peer>,
    /// Other lives of our own name.
    rivals: Lives,
}

/// How this life stands to others of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No link has been up since it began or since that broke off.
    Alone,
    /// It listens, since then.
    Listening(Instant),
    Settled,
    /// It is to end; the others are told first, until then.
    Yielding(Life, Instant),
    /// It was said.
    Yielded,
}

/// Another node.
#[derive(Debug)]
struct Peer {
    name: NodeName,
    lives: Lives,
    state: State,
    link: LinkState,
    since: SystemTime,
    /// Two lives of it are up.
    several: bool,
    /// It was said that nobody has heard of it.
    missed: bool,
}

/// What is known of a life, as long as its state is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    life: Life,
    mode: Mode,
    revision: Arc<str>,
}

/// How a node is, and who of it that is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Up(Seen),
    Unreachable(Seen),
    Down(Seen),
}

impl State {
    fn word(&self) -> NodeState {
        match self {
            State::Unknown => NodeState::Unknown,
            State::Up(seen) => NodeState::of(seen.mode),
            State::Unreachable(_) => NodeState::Unreachable,
            State::Down(_) => NodeState::Down,
        }
    }

    fn seen(&self) -> Option<&Seen> {
        match self {
            State::Unknown => None,
            State::Up(seen) | State::Unreachable(seen) | State::Down(seen) => Some(seen),
        }
    }

    fn link(&self) -> LinkState {
        match self {
            State::Up(_) => LinkState::Up,
            State::Unknown | State::Unreachable(_) | State::Down(_) => LinkState::Down,
        }
    }
}

impl Membership {
    /// A node that has just started, and the names of the others. `timeout` is the failure timeout.
    #[must_use]
    pub fn new(own: Own, others: Vec<NodeName>, timeout: Duration, now: Instant, wall: SystemTime) -> Self {
        let peer = |name| Peer {
            name,
            lives: Lives::default(),
            state: State::Unknown,
            link: LinkState::Down,
            since: wall,
            several: false,
            missed: false,
        };
        let revision = Arc::clone(&own.revision);
        Self {
            own,
            facts: Facts { mode: Mode::Running, settled: false, duplicate: false, revision },
            timing: Timing { timeout },
            seq: 0,
            sent: VecDeque::new(),
            next_heartbeat: now,
            asked: now,
            begun: now,
            standing: Standing::Alone,
            links: BTreeMap::new(),
            peers: others.into_iter().map(peer).collect(),
            rivals: Lives::default(),
        }
    }

    /// Takes one input; what follows is appended to `out`, in order.
    pub fn handle(&mut self, now: Instant, wall: SystemTime, input: Input, out: &mut Vec<Output>) {
        self.forgive_an_own_pause(now);
        match input {
            Input::Opened { link, node } => self.opened(link, node, now, out),
            Input::Closed(link) => drop(self.links.remove(&link)),
            Input::Received(link, heartbeat) => self.received(link, &heartbeat, now, out),
            Input::Timeout => {}
        }
        self.look_at_peers(now, wall, out);
        self.look_at_rivals(now, out);
        if now >= self.next_heartbeat {
            self.send_heartbeat(now, out);
        }
    }

    /// When [`Input::Timeout`] is wanted.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let all = self.peers.iter().map(|peer| &peer.lives).chain([&self.rivals]);
        let signs = all.flat_map(|lives| lives.deadlines(self.timing)).filter(|at| *at > self.asked);
        let own = match self.standing {
            Standing::Listening(since) => Some(since + self.timing.settling()),
            Standing::Yielding(_, at) => Some(at),
            Standing::Alone | Standing::Settled | Standing::Yielded => None,
        };
        signs.chain(own).min().map_or(self.next_heartbeat, |at| at.min(self.next_heartbeat))
    }

    /// What this node does is another now; the others hear it at once.
    pub fn set_mode(&mut self, mode: Mode, now: Instant) {
        if self.facts.mode != mode {
            self.facts.mode = mode;
            self.next_heartbeat = now;
        }
    }

    /// Another configuration is in force.
    pub fn configure(&mut self, timeout: Duration, revision: Arc<str>, now: Instant) {
        self.timing = Timing { timeout };
        self.facts.revision = Arc::clone(&revision);
        self.own.revision = revision;
        self.next_heartbeat = now;
    }

    /// The failure timeout.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timing.timeout
    }

    /// How the others look, in the order of the configuration.
    pub fn others(&self) -> impl Iterator<Item = View<'_>> {
        self.peers.iter().map(Peer::view)
    }

    /// How this one looks.
    #[must_use]
    pub fn other(&self, node: &NodeName) -> Option<View<'_>> {
        self.peers.iter().find(|peer| peer.name == *node).map(Peer::view)
    }

    /// This process.
    #[must_use]
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Whether this life has listened for a while and heard of no other of its name.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.facts.settled
    }

    /// A machine that stood still heard nobody in that time, which says nothing of the others.
    fn forgive_an_own_pause(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.asked);
        self.asked = now;
        if pause <= self.timing.own_pause() {
            return;
        }
        let lost = pause.saturating_sub(self.timing.interval());
        self.peers.iter_mut().for_each(|peer| peer.lives.forgive(lost, now));
        self.rivals.forgive(lost, now);
        if let Standing::Listening(since) = &mut self.standing {
            *since = (*since + lost).min(now);
        }
    }

    fn opened(&mut self, link: LinkId, node: NodeName, now: Instant, out: &mut Vec<Output>) {
        let known = node == self.own.node || self.peers.iter().any(|peer| peer.name == node);
        if !known || self.links.len() >= MAX_LINKS {
            out.push(Output::Close(link));
            return;
        }
        self.links.insert(link, node);
        self.next_heartbeat = now;
    }

    fn received(&mut self, link: LinkId, heartbeat: &Heartbeat, now: Instant, out: &mut Vec<Output>) {
        // A link that we have closed may still bring something.
        let Some(proved) = self.links.get(&link) else { return };
        let is_own = heartbeat.node == self.own.node && heartbeat.life == self.own.life;
        if *proved != heartbeat.node || is_own {
            self.links.remove(&link);
            out.push(Output::Close(link));
            return;
        }
        let timing = self.timing;
        let acknowledged = self.acknowledged_by(heartbeat);
        let Some(lives) = self.lives_of(&heartbeat.node) else { return };
        // Met with a count of 0: it is believed when the link is up.
        let Some(known) = lives.meet(heartbeat.life, &heartbeat.facts, 0, now) else { return };
        if !known.hear(heartbeat.seq, &heartbeat.facts, now) {
            return;
        }
        if let Some(sent) = acknowledged {
            known.acknowledge(sent);
        }
        if !known.is_linked(now, timing) {
            return;
        }
        known.grow(heartbeat.seq, now, timing);
        for heard in &heartbeat.heard {
            let is_own = heard.node == self.own.node && heard.life == self.own.life;
            if let Some(lives) = self.lives_of(&heard.node).filter(|_| !is_own) {
                lives.told(heard, now, timing);
            }
        }
    }

    /// When that heartbeat of ours left which its sender has heard.
    fn acknowledged_by(&self, heartbeat: &Heartbeat) -> Option<Instant> {
        let own = |heard: &&Heard| heard.node == self.own.node && heard.life == self.own.life;
        let seq = heartbeat.heard.iter().find(own)?.direct?;
        self.sent.iter().find(|(sent, _)| *sent == seq).map(|(_, at)| *at)
    }

    fn lives_of(&mut self, node: &NodeName) -> Option<&mut Lives> {
        if *node == self.own.node {
            return Some(&mut self.rivals);
        }
        // Names of another configuration are not ours to know.
        self.peers.iter_mut().find(|peer| peer.name == *node).map(|peer| &mut peer.lives)
    }

    fn look_at_peers(&mut self, now: Instant, wall: SystemTime, out: &mut Vec<Output>) {
        let listened = now.saturating_duration_since(self.begun) >= self.timing.settling();
        for peer in &mut self.peers {
            peer.look(now, wall, self.timing, out);
            let missed = listened && peer.state == State::Unknown;
            if missed && !std::mem::replace(&mut peer.missed, true) {
                out.push(Output::Changed(peer.name.clone()));
            }
        }
    }

    fn look_at_rivals(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.rivals.forget(None, now, self.timing);
        let rival = self.rivals.iter().find(|known| known.is_beside(self.begun, now, self.timing));
        let rival = rival.map(|known| (known.life, known.facts.settled));
        if self.facts.duplicate != rival.is_some() {
            self.facts.duplicate = rival.is_some();
            self.next_heartbeat = now;
            let own = self.own.node.clone();
            out.push(match rival {
                Some(_) => Output::DuplicateBegan(own),
                None => Output::DuplicateEnded(own),
            });
        }
        let linked = self.peers.iter().any(|peer| peer.link == LinkState::Up);
        self.standing = match (self.standing, rival) {
            (Standing::Alone | Standing::Listening(_) | Standing::Settled, Some((life, settled)))
                if Claim::of(self.facts.settled, self.own.life).yields_to(Claim::of(settled, life)) =>
            {
                // Some heartbeats tell the others why.
                Standing::Yielding(life, now + self.timing.farewell())
            }
            (Standing::Listening(since), _) if since + self.timing.settling() <= now => {
                self.facts.settled = true;
                Standing::Settled
            }
            (Standing::Alone, _) if linked => Standing::Listening(now),
            (Standing::Listening(_), _) if !linked => Standing::Alone,
            (Standing::Yielding(life, at), _) if at <= now => {
                out.push(Output::Yield(life));
                Standing::Yielded
            }
            (
                standing @ (Standing::Alone
                | Standing::Listening(_)
                | Standing::Settled
                | Standing::Yielding(..)
                | Standing::Yielded),
                _,
            ) => standing,
        };
    }

    fn send_heartbeat(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.next_heartbeat = now + self.timing.interval();
        self.seq += 1;
        self.sent.push_back((self.seq, now));
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        if self.links.is_empty() {
            return;
        }
        let timing = self.timing;
        let others = self.peers.iter().flat_map(|peer| {
            let shown = peer.state.seen().map(|seen| seen.life);
            peer.lives.heard(&peer.name, shown, now, timing)
        });
        let rivals = self.rivals.heard(&self.own.node, None, now, timing);
        let heartbeat = Heartbeat {
            node: self.own.node.clone(),
            life: self.own.life,
            seq: self.seq,
            facts: self.facts.clone(),
            heard: others.chain(rivals).collect(),
        };
        out.push(Output::Send(self.links.keys().copied().collect(), Arc::new(heartbeat)));
    }
}

/// What a life has to say when there is another one of its name.
#[derive(Clone, Copy)]
enum Claim {
    Settled(Life),
    New(Life),
}

impl Claim {
    fn of(settled: bool, life: Life) -> Self {
        if settled { Self::Settled(life) } else { Self::New(life) }
    }

    /// Whether it is the one to end.
    fn yields_to(self, other: Self) -> bool {
        match (self, other) {
            (Self::New(_), Self::Settled(_)) => true,
            (Self::Settled(_), Self::New(_)) => false,
            (Self::New(own), Self::New(other)) => own > other,
            (Self::Settled(own), Self::Settled(other)) => own < other,
        }
    }
}

impl Peer {
    fn look(&mut self, now: Instant, wall: SystemTime, timing: Timing, out: &mut Vec<Output>) {
        let state = self.state_now(now, timing);
        let is_shown = |state: &State| (state.word(), state.seen().map(|seen| seen.life));
        let changed = is_shown(&state) != is_shown(&self.state);
        self.link = state.link();
        self.state = state;
        if changed {
            self.since = wall;
            out.push(Output::Changed(self.name.clone()));
        }
        self.lives.forget(self.state.seen().map(|seen| seen.life), now, timing);
        let several = self.lives.are_several(now, timing);
        if std::mem::replace(&mut self.several, several) != several {
            let name = self.name.clone();
            out.push(if several { Output::DuplicateBegan(name) } else { Output::DuplicateEnded(name) });
        }
    }

    fn state_now(&self, now: Instant, timing: Timing) -> State {
        let Some(known) = self.lives.current(now, timing) else { return self.state_of_silence(now, timing) };
        let Facts { mode, revision, .. } = &known.facts;
        let seen = Seen { life: known.life, mode: *mode, revision: Arc::clone(revision) };
        if known.is_linked(now, timing) { State::Up(seen) } else { State::Unreachable(seen) }
    }

    fn state_of_silence(&self, now: Instant, timing: Timing) -> State {
        match &self.state {
            State::Up(seen) | State::Unreachable(seen) | State::Down(seen) => State::Down(seen.clone()),
            State::Unknown => match self.lives.silent(now, timing) {
                Some(known) => State::Down(Seen {
                    life: known.life,
                    mode: known.facts.mode,
                    revision: Arc::clone(&known.facts.revision),
                }),
                None => State::Unknown,
            },
        }
    }

    fn view(&self) -> View<'_> {
        View {
            node: &self.name,
            state: self.state.word(),
            since: self.since,
            link: self.link,
            life: self.state.seen().map(|seen| seen.life),
            revision: self.state.seen().map(|seen| &seen.revision),
        }
    }
}

#[cfg(test)]
mod tests;
