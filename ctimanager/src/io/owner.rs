//! The owner task: takes inputs in batches, drives the core, carries out what it decides.

use super::cluster::ClusterLinks;
use super::counters::Counters;
use super::cti::link::{CtiLink, Written};
use super::password::Passwords;
use super::queue::{Event, Lanes, Queued};
use super::registrations::{self, RegistrationStore};
use super::report;
use super::sip::SipShell;
use super::store::Progress;
use super::store::gate::{Gate, Told};
use super::{Core, Tap, now, wall};
use crate::node::registrations::RegistrationRecord;
use crate::node::{AdminToken, CtiConnection, Frame, Input, NodesInput, NodesOutput, Output};
use serde_json::Value;
use sip::Hop;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Sleep;

/// What is taken from one queue before the others, and the timers, have their turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    inputs: usize,
    /// It ends with the input that takes it over this time.
    time: Duration,
    /// Whether how long they wait is a measure of how far behind the node is.
    measured: bool,
}

/// Of known phones and trunks.
const KNOWN: Turn = Turn { inputs: 64, time: Duration::MAX, measured: true };
/// Of the other nodes: a heartbeat that waits looks like one that did not come.
const NODES: Turn = Turn { inputs: 256, time: Duration::from_millis(2), measured: true };
/// Of all else; a phone waits for no more of them.
const REST: Turn = Turn { inputs: 64, time: Duration::from_millis(2), measured: true };
/// Of strangers; where more of them wait, they have no other turn for as long as this one took.
const STRANGERS: Turn = Turn { inputs: 32, time: Duration::from_micros(500), measured: false };
/// So long the owner works without a pause; then the tasks that wait for its thread have theirs, those that read the
/// sockets among them.
const SLICE: Duration = Duration::from_millis(1);
/// Administrators' questions that wait for their answers at once.
const MAX_ASKED: usize = 64;

/// Ages at which the core hears of another step of pressure.
const PRESSURE_STEPS: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(200)];

type Answer = Result<Value, String>;

/// All that the owner task owns. No other task touches any of it.
pub(super) struct Owner<C> {
    pub(super) core: C,
    pub(super) sip: SipShell,
    pub(super) passwords: Passwords,
    pub(super) counters: Arc<Counters>,
    pub(super) tap: Option<Arc<dyn Tap>>,
    /// What holds frames back until what they tell is kept; none when nothing is to outlive the process.
    gate: Option<Gate>,
    /// What keeps the phones' registrations, where there is a state directory.
    registrations: Option<RegistrationStore>,
    tables: Tables,
}

#[derive(Default)]
struct Tables {
    cti: HashMap<CtiConnection, CtiLink>,
    asked: HashMap<AdminToken, oneshot::Sender<Answer>>,
    /// Who waits for his configuration to be in force; one at a time.
    reloading: VecDeque<oneshot::Sender<()>>,
    last_token: u64,
    /// Counts what the core was told.
    step: u64,
    outputs: Vec<Output>,
    /// Connections of which the core knows that their readers are behind.
    behind: BTreeSet<CtiConnection>,
    /// This step has said that somebody is registered: its answers wait until that is written.
    registers: bool,
    /// What carrying out an output made known; handled before the next event.
    feedback: VecDeque<Input>,
    pressure: Pressure,
    /// When the first step was.
    begun: Option<Instant>,
    end: Option<End>,
    /// The links to other nodes.
    nodes: ClusterLinks,
}

/// How the core has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In order.
    Stopped,
    /// For another process of the node.
    Yielded,
}

/// Where the queues end.
pub(super) struct Inlets {
    pub(super) sip: Lanes<mpsc::Receiver<Queued>>,
    pub(super) rest: mpsc::Receiver<Queued>,
    /// It ends at once where there are no other nodes.
    pub(super) nodes: mpsc::Receiver<Queued>,
    /// How far the store is.
    pub(super) progress: Option<watch::Receiver<Progress>>,
    /// How far the registrations are written.
    pub(super) written: Option<watch::Receiver<u64>>,
}

impl<C: Core> Owner<C> {
    #[allow(clippy::too_many_arguments)] // the parts of which it is the owner
    pub(super) fn new(
        core: C,
        sip: SipShell,
        passwords: Passwords,
        counters: Arc<Counters>,
        tap: Option<Arc<dyn Tap>>,
        gate: Option<Gate>,
        registrations: Option<RegistrationStore>,
    ) -> Self {
        Self { core, sip, passwords, counters, tap, gate, registrations, tables: Tables::default() }
    }

    /// Runs until the core says [`Output::Stopped`] and nothing waits for the store any more. Neither queue can end before: the owner's own parts hold senders.
    pub(super) async fn run(mut self, mut inlets: Inlets) -> End {
        let mut alarm = AlarmClock::new();
        let mut slice = now();
        // Until then strangers have had their part of the owner's time.
        let mut strangers_at: Option<Instant> = None;
        loop {
            self.fire_due();
            let waits = self.gate.as_ref().is_some_and(|gate| !gate.is_empty());
            if let Some(end) = self.tables.end.filter(|end| !waits || *end == End::Yielded) {
                self.answer_registers(now() + registrations::PATIENCE);
                return end;
            }
            let patience = self.gate.as_ref().and_then(Gate::deadline);
            let answers = self.registrations.as_ref().and_then(RegistrationStore::deadline);
            let door = self.sip.door().next_timeout();
            let timeouts = [self.core.next_timeout(), patience, answers, door, strangers_at];
            alarm.set(timeouts.into_iter().flatten().min());
            let open = strangers_at.is_none();
            let mut stranger = None;
            let lanes = &mut inlets.sip;
            tokio::select! {
                // The order is drawn anew each time, so neither queue can starve the other.
                Some(first) = lanes.known_datagrams.recv() => self.one(first, KNOWN.measured),
                Some(first) = lanes.known_streams.recv() => self.one(first, KNOWN.measured),
                Some(first) = inlets.rest.recv() => self.one(first, REST.measured),
                Some(first) = inlets.nodes.recv() => self.one(first, NODES.measured),
                first @ Some(_) = lanes.datagrams.recv(), if open => stranger = first,
                first @ Some(_) = lanes.streams.recv(), if open => stranger = first,
                news = news(&mut inlets.progress) => self.store_says(&news),
                () = written(&mut inlets.written) => {}
                () = alarm.rings() => {}
                () = self.sip.door().rings() => {}
            }
            self.take(&mut lanes.known_datagrams, KNOWN);
            self.take(&mut lanes.known_streams, KNOWN);
            self.take(&mut inlets.nodes, NODES);
            self.take(&mut inlets.rest, REST);
            strangers_at = strangers_at.filter(|at| *at > now());
            if strangers_at.is_none() {
                strangers_at = self.take_strangers(lanes, stranger);
            }
            if now().saturating_duration_since(slice) >= SLICE {
                tokio::task::yield_now().await;
                slice = now();
            }
        }
    }

    fn one(&mut self, queued: Queued, measured: bool) {
        if measured {
            let age = now().saturating_duration_since(queued.arrived);
            if let Some(pressure) = self.tables.pressure.observe(age) {
                self.feed(Input::Pressure(pressure));
            }
        }
        self.event(queued.event);
    }

    /// A turn of strangers, with the first of them where it was waited for; when they may have the next one, if more wait.
    fn take_strangers(
        &mut self,
        lanes: &mut Lanes<mpsc::Receiver<Queued>>,
        first: Option<Queued>,
    ) -> Option<Instant> {
        let begun = now();
        if let Some(first) = first {
            self.one(first, STRANGERS.measured);
        }
        self.take(&mut lanes.datagrams, STRANGERS);
        self.take(&mut lanes.streams, STRANGERS);
        let more = !lanes.datagrams.is_empty() || !lanes.streams.is_empty();
        let done = now();
        more.then(|| done + done.saturating_duration_since(begun))
    }

    /// What waits, for one turn.
    fn take(&mut self, inlet: &mut mpsc::Receiver<Queued>, turn: Turn) {
        if inlet.is_empty() {
            return;
        }
        let begun = now();
        for taken in 0..turn.inputs {
            // The first is the oldest.
            let Ok(queued) = inlet.try_recv() else { return };
            self.one(queued, turn.measured && taken == 0);
            if now().saturating_duration_since(begun) >= turn.time {
                return;
            }
        }
    }

    fn fire_due(&mut self) {
        self.hear_readers();
        self.answer_registers(now());
        if self.core.next_timeout().is_some_and(|due| due <= now()) {
            self.feed(Input::Timeout);
        }
        let refused = self.sip.door().news();
        if !refused.is_empty() {
            self.feed(Input::Refused(refused));
        }
        if let Some(input) = self.gate.as_mut().and_then(|gate| gate.look(now())) {
            self.feed(input);
        }
    }

    /// Sends the answers to REGISTERs that need not wait any longer.
    fn answer_registers(&mut self, now: Instant) {
        while let Some((hop, bytes)) = self.registrations.as_mut().and_then(|store| store.next(now)) {
            self.send_sip(hop, bytes);
        }
        self.digest();
    }

    fn send_sip(&mut self, hop: Hop, bytes: Vec<u8>) {
        if let Some(closed) = self.sip.send(hop, bytes) {
            self.tables.feedback.push_back(Input::SipClosed(closed));
        }
    }

    fn store_says(&mut self, news: &Progress) {
        let input = self.gate.as_mut().and_then(|gate| gate.progress(news));
        self.tables.feedback.extend(input);
        self.digest();
    }

    /// Tells the core of readers that have caught up.
    fn hear_readers(&mut self) {
        let cti = &self.tables.cti;
        let caught_up = |connection: &CtiConnection| cti.get(connection).is_none_or(CtiLink::has_caught_up);
        let mut ready: Vec<CtiConnection> = self.tables.behind.extract_if(.., caught_up).collect();
        // Of those that are gone the core has heard more than that.
        ready.retain(|connection| cti.contains_key(connection));
        for connection in ready {
            self.feed(Input::CtiBehind(connection, false));
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Input(input) => {
                if self.is_of_this_life(&input) {
                    self.feed(input);
                }
            }
            Event::SipOpened { hop, id, outbox } => self.sip.opened(hop, id, outbox),
            Event::SipEnded { hop, id } => {
                if self.sip.ended(id) {
                    self.feed(match hop.connection {
                        Some(_) => Input::SipClosed(hop),
                        None => Input::SipUnreachable(hop),
                    });
                }
            }
            Event::CtiOpened(link) => {
                let (connection, peer, transport) = (link.connection, link.peer, link.transport.clone());
                self.tables.cti.insert(connection, link);
                self.feed(Input::CtiOpened { connection, peer, transport });
            }
            Event::ClusterOpened { link, node, outbox } => {
                self.tables.nodes.opened(link, outbox);
                let opened = cluster::Input::Opened { link, node };
                self.feed(Input::Nodes(NodesInput::Link(opened)));
            }
            Event::Admin(request, answer) => self.ask(request, answer),
            Event::Configure(switch, asker) => {
                self.tables.reloading.push_back(asker);
                self.feed(Input::Configure(switch));
            }
        }
    }

    /// Whether the core still knows the connection: after it has closed one, it hears of it no more.
    fn is_of_this_life(&mut self, input: &Input) -> bool {
        match input {
            Input::Nodes(NodesInput::Link(cluster::Input::Closed(link))) => {
                self.tables.nodes.close(*link);
                true
            }
            Input::Nodes(_) => true,
            Input::CtiFrame(connection, _) | Input::CtiLineTooLong(connection) => {
                self.tables.cti.contains_key(connection)
            }
            Input::CtiBehind(connection, _) => self.tables.cti.contains_key(connection),
            // Its shares are to be given back, whether the connection is still there or not.
            Input::PasswordChecked(..) | Input::PasswordBusy(_) | Input::Refused(_) => true,
            Input::CtiClosed(connection) => self.tables.cti.remove(connection).is_some(),
            Input::Sip { hop, .. } => hop.connection.is_none_or(|id| self.sip.is_open(id)),
            Input::SipCertified(connection, _) => self.sip.is_open(*connection),
            Input::SipWhose { hop, .. } => hop.connection.is_some_and(|id| self.sip.is_open(id)),
            Input::SipClosed(_) | Input::SipUnreachable(_) | Input::SipUndelivered { .. } => true,
            Input::CtiOpened { .. } | Input::CtiOverflow(_) => true,
            Input::Configure(_) | Input::Admin(..) | Input::Pressure(_) | Input::Stop | Input::Timeout => {
                true
            }
            Input::Restored(..) | Input::StoreLost(_) | Input::StoreReady | Input::Registrations(_) => true,
        }
    }

    fn ask(&mut self, request: crate::node::AdminRequest, answer: oneshot::Sender<Answer>) {
        self.tables.asked.retain(|_, waiting| !waiting.is_closed());
        if self.tables.asked.len() >= MAX_ASKED {
            // The asker may have gone; then nobody is left to be told.
            let _ = answer.send(Err("too many questions wait for their answers; try again".into()));
            return;
        }
        self.tables.last_token += 1;
        let token = AdminToken(self.tables.last_token);
        self.tables.asked.insert(token, answer);
        self.feed(Input::Admin(token, request));
    }

    /// Hands one input to the core and carries out everything that follows from it.
    fn feed(&mut self, input: Input) {
        self.tables.feedback.push_back(input);
        self.digest();
    }

    fn digest(&mut self) {
        loop {
            self.release();
            let Some(input) = self.tables.feedback.pop_front() else { return };
            if let Input::CtiOverflow(connection) = &input
                && let Some(link) = self.tables.cti.get_mut(connection)
            {
                link.begin_farewell();
            }
            self.tables.step += 1;
            self.tables.registers = false;
            let (now, wall) = (now(), wall());
            if let Some(tap) = &self.tap {
                tap.input(now, &input);
            }
            let mut outputs = std::mem::take(&mut self.tables.outputs);
            self.core.handle(now, wall, input, &mut outputs);
            for output in outputs.drain(..) {
                if let Some(tap) = &self.tap {
                    tap.output(now, &output);
                }
                self.carry_out(now, output);
            }
            self.tables.outputs = outputs;
            let begun = *self.tables.begun.get_or_insert(now);
            let took = super::now().saturating_duration_since(now);
            self.counters.longest_step.observe(now.saturating_duration_since(begun), took);
        }
    }

    /// Hands on what waited for the store, as far as that is. It counts as one step: what comes at once is not the
    /// reader's fault.
    fn release(&mut self) {
        let mut begun = false;
        while let Some(told) = self.gate.as_mut().and_then(Gate::next) {
            self.tables.step += u64::from(!std::mem::replace(&mut begun, true));
            self.deliver(told);
        }
    }

    /// What is for an application waits for what it tells to be kept.
    fn tell(&mut self, now: Instant, told: Told) {
        let free = match &mut self.gate {
            Some(gate) => gate.hold(now, told),
            None => Some(told),
        };
        if let Some(told) = free {
            self.deliver(told);
        }
    }

    fn deliver(&mut self, told: Told) {
        match told {
            Told::Frame(connection, frame) => self.write(connection, frame),
            // Dropping the link closes it; its task writes what is queued.
            Told::Close(connection) => drop(self.tables.cti.remove(&connection)),
        }
    }

    fn carry_out(&mut self, now: Instant, output: Output) {
        match output {
            Output::Sip { hop, bytes } => {
                let waits = self.registrations.as_mut().filter(|_| self.tables.registers);
                let free = match waits {
                    Some(store) => store.hold(now, hop, bytes),
                    None => Some((hop, bytes)),
                };
                if let Some((hop, bytes)) = free {
                    self.send_sip(hop, bytes);
                }
            }
            Output::SipConnect(hop) => self.sip.open(hop),
            Output::SipShares(rows) => self.sip.door().set(&rows),
            Output::SipKnown { hop, who, until } => self.sip.door().learn(&hop, who, until),
            Output::Met(address) => self.sip.door().met(address),
            Output::Named(addresses) => self.sip.door().named(addresses),
            Output::SipClose(id) => {
                if let Some(closed) = self.sip.close(id) {
                    self.tables.feedback.push_back(Input::SipClosed(closed));
                }
            }
            Output::Cti(connection, frame) => self.tell(now, Told::Frame(connection, frame)),
            Output::CtiClose(connection) => self.tell(now, Told::Close(connection)),
            Output::Persist(records) => {
                let input = self.gate.as_mut().and_then(|gate| gate.persist(records));
                self.tables.feedback.extend(input);
            }
            Output::Registrations(records) => {
                self.tables.registers = records.iter().any(|r| matches!(r, RegistrationRecord::Bound(..)));
                let input = self.registrations.as_mut().and_then(|store| store.keep(records));
                self.tables.feedback.extend(input);
            }
            Output::CheckPassword { connection, hash, password, at_home } => {
                if !self.passwords.check(connection, hash, password, at_home) {
                    self.counters.passwords_refused.add();
                    self.tables.feedback.push_back(Input::PasswordBusy(connection));
                }
            }
            Output::Admin(token, answer) => {
                if let Some(asker) = self.tables.asked.remove(&token) {
                    // The asker may have hung up meanwhile.
                    let _ = asker.send(answer);
                }
            }
            Output::InForce => {
                if let Some(asker) = self.tables.reloading.pop_front() {
                    // Whoever waited may have gone.
                    let _ = asker.send(());
                }
            }
            Output::Report(report) => {
                self.counters.report(&report);
                report::log(&report);
            }
            Output::Transition { transition, .. } => {
                self.counters.transition(&transition);
                report::transition(&transition);
            }
            Output::Audit(record) => report::audit(&record),
            // Nothing waits for it: what it holds is of no use to anybody.
            Output::Discard(what) => drop(tokio::task::spawn_blocking(move || drop(what))),
            Output::Nodes(NodesOutput::Send(links, heartbeat)) => self.tables.nodes.send(&links, &heartbeat),
            Output::Nodes(NodesOutput::Close(link)) => self.tables.nodes.close(link),
            Output::Nodes(NodesOutput::Yield) => self.tables.end = Some(End::Yielded),
            Output::Stopped => self.tables.end = self.tables.end.or(Some(End::Stopped)),
        }
    }

    fn write(&mut self, connection: CtiConnection, frame: Frame) {
        let Some(link) = self.tables.cti.get_mut(&connection) else { return };
        match link.write(self.tables.step, frame) {
            Written::Overflow => {
                self.counters.cti_overflows.add();
                if let Some(gate) = &mut self.gate {
                    gate.drop_frames(connection);
                }
                self.tables.feedback.push_back(Input::CtiOverflow(connection));
            }
            Written::Queued if link.is_behind() && self.tables.behind.insert(connection) => {
                self.tables.feedback.push_back(Input::CtiBehind(connection, true));
            }
            Written::Queued | Written::Dropped => {}
        }
    }
}

/// Whether more registrations are written; never without a store.
async fn written(progress: &mut Option<watch::Receiver<u64>>) {
    let Some(receiver) = progress else { return std::future::pending().await };
    if receiver.changed().await.is_err() {
        *progress = None;
    }
}

/// The next news of the store; never any without one.
async fn news(progress: &mut Option<watch::Receiver<Progress>>) -> Progress {
    match progress {
        Some(receiver) => match receiver.changed().await {
            Ok(()) => receiver.borrow_and_update().clone(),
            Err(_) => {
                *progress = None;
                Progress::Failed("the thread that writes them has ended".into())
            }
        },
        None => std::future::pending().await,
    }
}

/// How far behind the owner is, in steps, so that the core hears of changes only.
#[derive(Debug, Default)]
struct Pressure {
    step: usize,
}

impl Pressure {
    /// What to tell the core, when the age has come to another step; zero below the lowest.
    fn observe(&mut self, age: Duration) -> Option<Duration> {
        let step = PRESSURE_STEPS.iter().filter(|limit| age >= **limit).count();
        if step == self.step {
            return None;
        }
        self.step = step;
        Some(if step == 0 { Duration::ZERO } else { age })
    }
}

/// One timer that is moved as seldom as possible: timeouts of calls are mostly put off, and to ring too early costs
/// less than to move the timer with each message.
struct AlarmClock {
    sleep: Pin<Box<Sleep>>,
    set_to: Option<Instant>,
}

impl AlarmClock {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::ZERO)), set_to: None }
    }

    fn set(&mut self, due: Option<Instant>) {
        let earlier = match (due, self.set_to) {
            (Some(due), Some(set_to)) => due < set_to || self.sleep.is_elapsed(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(due) = due.filter(|_| earlier) {
            self.sleep.as_mut().reset(due.into());
            self.set_to = Some(due);
        }
        if due.is_none() && self.sleep.is_elapsed() {
            self.set_to = None;
        }
    }

    async fn rings(&mut self) {
        match self.set_to {
            Some(_) => self.sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_hears_of_pressure_when_it_changes_by_a_step() {
        let mut pressure = Pressure::default();
        let ms = Duration::from_millis;
        let heard: Vec<_> =
            [0, 9, 10, 30, 60, 49, 300, 900, 9, 0].into_iter().map(|age| pressure.observe(ms(age))).collect();
        let expected = [
            None,
            None,
            Some(ms(10)),
            None,
            Some(ms(60)),
            Some(ms(49)),
            Some(ms(300)),
            None,
            Some(ms(0)),
            None,
        ];
        assert_eq!(heard, expected);
    }
}
