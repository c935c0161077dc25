//! Work in portions: what would hold the owner up for longer than a moment is carried out a little at a time, and other
//! inputs come in between. What follows from a reload, from the end of a session that held much, a long list or snapshot,
//! and what is told to thousands: all of it is counted in one [`Portion`] a step, with a pause before the next.
//!
//! The node has no clock of its own: a portion is counted in what it tells, sends and looks at. How long steps take is for
//! the shell to measure (`ctimanager_owner_longest_step_seconds`).

use super::CtiManager;
use super::applications::Link;
use super::keeping::Walk;
use super::lists::Answering;
use super::pages::{Capture, Listing};
use super::reload::consequences::{
    AT_ONCE, LEGS_AT_ONCE, Parameters, READERS_PATIENCE, SIP_AT_ONCE, WORK_AT_ONCE, WORK_OF_LEG,
};
use super::tasks::Tasks;
use crate::node::Step;
use crate::node::alarms;
use crate::node::port::Output;
use device_model::{DeviceName, Input, RequestToken, SessionId};
use protocol::Encoded;
use protocol::methods::Method;
use protocol::session::Session;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause between two portions while calls wait to be ended and devices to be let go.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// The same while something is gathered that an application waits for.
const PAUSE: Duration = Duration::from_millis(2);
/// The same while all that is left is told, so that readers keep up.
const LONG_PAUSE: Duration = Duration::from_millis(5);

/// Devices that ended sessions let go before looking again at how much that was, and what of [`WORK_AT_ONCE`] one of
/// them counts.
const DEPARTURES_AT_ONCE: usize = 64;
const WORK_OF_DEPARTURE: usize = 4;
/// Sessions told before looking again.
const TOLD_AT_ONCE: usize = 64;
/// Phones let go before looking again that were lost by the thousand, and what of a portion one of them counts.
const PHONES_AT_ONCE: usize = 16;
const WORK_OF_PHONE: usize = 8;
/// Devices taken out of the mirror in one piece.
const TAKEN_OUT_AT_ONCE: usize = 128;
/// Frames of a replay that are written in one step. After the first half of what may wait for its reader, where that is less.
const REPLAYED_AT_ONCE: usize = 1_024;
/// What of a portion that counts.
const WORK_OF_REPLAY: usize = 512;

/// How much of a portion is used up.
pub(in crate::node) struct Portion {
    told: u64,
    out: usize,
    work: usize,
    /// Sessions of whose replay a piece is written.
    replayed: BTreeSet<SessionId>,
}

/// A piece of work that takes more than one step.
pub(in crate::node) enum Task {
    /// A page of `provider.devices`.
    Listing(Box<Listing>),
    /// What a session has open.
    Capture(Box<Capture>),
    /// Devices of a provider that has ended: for the log.
    Closed(Arc<Parameters>, VecDeque<DeviceName>),
    /// Something told to many.
    Tell(Vec<SessionId>, Encoded),
    /// What sessions are to be told before anything else.
    First,
    /// The rest of a session's replay.
    Replay(SessionId),
    /// What is to be kept, and was not looked at yet.
    Keep(VecDeque<Walk>),
    /// An administrator's list.
    Answer(Box<Answering>),
    /// Devices that sessions lost by a reload, out of the mirror.
    TakeOut,
}

/// What comes next in a portion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Task,
    Reload,
    Phones,
}

impl Turn {
    /// This one, and then the others.
    fn in_order(self) -> [Turn; 3] {
        match self {
            Turn::Task => [Turn::Task, Turn::Reload, Turn::Phones],
            Turn::Reload => [Turn::Reload, Turn::Phones, Turn::Task],
            Turn::Phones => [Turn::Phones, Turn::Task, Turn::Reload],
        }
    }

    fn after(self) -> Turn {
        let [_, next, _] = self.in_order();
        next
    }
}

/// All work that is under way, but for that of reloads.
#[derive(Default)]
pub(in crate::node) struct Portions {
    pub(in crate::node) tasks: Tasks,
    /// Sessions that have ended and hold something still: how their end is reported.
    leaving: BTreeMap<SessionId, Arc<Parameters>>,
    due: Option<Instant>,
    next: Turn,
    /// Sessions whose replay is written a piece at a time, each with whether its next piece is among the tasks.
    replays: BTreeMap<SessionId, bool>,
    /// Requests for devices with many calls to end first, and what their sessions asked after them.
    waiting: BTreeMap<SessionId, VecDeque<(RequestToken, Method)>>,
}

impl Portions {
    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether something is to be kept that the records said so far do not tell.
    pub(in crate::node) fn has_to_keep(&self) -> bool {
        !self.leaving.is_empty() || self.tasks.iter().any(|task| matches!(task, Task::Keep(_)))
    }

    /// A session has ended, or its connection has.
    pub(in crate::node) fn forget_replay(&mut self, id: SessionId) {
        self.replays.remove(&id);
    }

    fn gathers(&self) -> bool {
        self.tasks.iter().any(|task| match task {
            Task::Listing(_) | Task::Capture(_) | Task::Replay(_) | Task::Answer(_) => true,
            Task::Closed(..) | Task::Tell(..) | Task::First | Task::Keep(_) | Task::TakeOut => false,
        })
    }
}

impl Portion {
    /// Of something that is begun in a step that has done nothing of the kind.
    pub(in crate::node) fn fresh() -> Self {
        Self { told: 0, out: 0, work: 0, replayed: BTreeSet::new() }
    }

    pub(in crate::node) fn is_used_up(&self) -> bool {
        self.work >= WORK_AT_ONCE
    }

    /// So much was looked at.
    pub(in crate::node) fn work(&mut self, work: usize) {
        self.work += work;
    }
}

impl CtiManager {
    /// Carries out the next portion.
    pub(in crate::node) fn carry_out(&mut self, step: &mut Step<'_>) {
        self.hear_all(step);
        self.say_goodbyes(step);
        let (told, out) = (self.applications.told, step.said_so_far());
        let mut portion = Portion { told, out, work: 0, replayed: BTreeSet::new() };
        // Whoever waits to put a configuration in force doesn't wait for readers.
        let behind = self.readers_are_behind(step) && !self.applications.consequences.is_awaited();
        while self.has_room(step, &portion) {
            if !step.calls.devices().is_clear() {
                // Calls that may not stay are not to wait for what is only told.
                self.model(step, Input::Settle { legs: LEGS_AT_ONCE });
                portion.work += LEGS_AT_ONCE * WORK_OF_LEG;
            } else if step.calls.devices().is_departing() {
                self.model(step, Input::Depart { devices: DEPARTURES_AT_ONCE, legs: LEGS_AT_ONCE });
                portion.work += DEPARTURES_AT_ONCE * WORK_OF_DEPARTURE;
            } else if !self.carry_on_one(step, &mut portion, behind) {
                break;
            }
        }
        self.go_on_with_requests(step);
        self.rest(step);
    }

    /// One piece of a task, of a reload or of the phones that were lost, in turns; false when nothing can be done now.
    fn carry_on_one(&mut self, step: &mut Step<'_>, portion: &mut Portion, behind: bool) -> bool {
        let has_work = |turn: &Turn| match turn {
            Turn::Task => !self.portions.tasks.is_empty(),
            Turn::Reload => !self.applications.consequences.is_empty() && !behind,
            Turn::Phones => step.calls.is_losing() && !behind,
        };
        let Some(turn) = self.portions.next.in_order().into_iter().find(has_work) else { return false };
        self.portions.next = turn.after();
        match turn {
            Turn::Reload => self.carry_on_reload(step, portion),
            Turn::Phones => {
                self.calls(step, |calls, turn| calls.let_go(turn, PHONES_AT_ONCE));
                self.settle(step);
                self.hear_all(step);
                portion.work += PHONES_AT_ONCE * WORK_OF_PHONE;
            }
            Turn::Task => self.carry_on_next_task(step, portion),
        }
        true
    }

    /// What is left of the task.
    pub(in crate::node) fn carry_on_task(
        &mut self,
        step: &mut Step<'_>,
        task: Task,
        portion: &mut Portion,
    ) -> Option<Task> {
        match task {
            Task::Listing(listing) => self.carry_on_listing(step, listing, portion).map(Task::Listing),
            Task::Capture(capture) => self.carry_on_capture(step, capture, portion).map(Task::Capture),
            Task::Closed(parameters, mut devices) => {
                if let Some(device) = devices.pop_front() {
                    self.report_closed(step, &parameters, &device);
                }
                portion.work += 1;
                (!devices.is_empty()).then_some(Task::Closed(parameters, devices))
            }
            Task::Tell(mut sessions, event) => {
                let rest = sessions.split_off(TOLD_AT_ONCE.min(sessions.len()));
                self.tell(&sessions, &event);
                portion.work += sessions.len();
                (!rest.is_empty()).then_some(Task::Tell(rest, event))
            }
            Task::First => {
                for _ in 0..TOLD_AT_ONCE {
                    let Some((id, _)) = self.applications.first.first_key_value() else { break };
                    self.tell_what_is_first(*id);
                }
                portion.work += TOLD_AT_ONCE;
                (!self.applications.first.is_empty()).then_some(Task::First)
            }
            Task::Replay(id) => {
                portion.work += WORK_OF_REPLAY;
                self.carry_on_replay(step, id, portion);
                None
            }
            Task::Keep(walks) => self.carry_on_keeping(walks, portion).map(Task::Keep),
            Task::Answer(answering) => self.carry_on_answering(step, answering, portion).map(Task::Answer),
            Task::TakeOut => {
                portion.work += TAKEN_OUT_AT_ONCE;
                let closed = self.mirror.take_out(TAKEN_OUT_AT_ONCE)?;
                step.out.push(Output::Discard(Arc::new(closed)));
                Some(Task::TakeOut)
            }
        }
    }

    /// A reload takes these devices from a session: they are not open to it any more, and are taken out of the mirror later.
    pub(in crate::node) fn revoke(&mut self, session: SessionId, devices: &Arc<[DeviceName]>) {
        self.mirror.revoke(session, Arc::clone(devices));
        self.add_task(Task::TakeOut);
    }

    fn has_room(&self, step: &Step<'_>, portion: &Portion) -> bool {
        let told = self.applications.told - portion.told;
        told < AT_ONCE as u64 && step.said_so_far() - portion.out < SIP_AT_ONCE && portion.work < WORK_AT_ONCE
    }

    /// Whether somebody reads, and has still to read what he was told: he is waited for, but not for ever.
    pub(in crate::node) fn readers_are_behind(&self, step: &Step<'_>) -> bool {
        let waited_for = |link: &Link| link.behind.is_some_and(|since| step.now < since + READERS_PATIENCE);
        self.applications.links.values().any(waited_for)
    }

    fn rest(&mut self, step: &Step<'_>) {
        let urgent = !step.calls.devices().is_clear()
            || step.calls.devices().is_departing()
            || !self.dismissals.is_empty();
        let left = !self.portions.tasks.is_empty()
            || !self.applications.consequences.is_empty()
            || self.applications.consequences.is_awaited()
            || !self.portions.waiting.is_empty()
            || step.calls.is_losing();
        let pause = match (urgent, self.portions.gathers()) {
            (true, _) => SHORT_PAUSE,
            (false, true) => PAUSE,
            (false, false) => LONG_PAUSE,
        };
        self.portions.due = (urgent || left).then(|| step.now + pause);
    }

    /// After a step: what it left to be done is done soon.
    pub(in crate::node) fn look_for_work(&mut self, step: &Step<'_>) {
        if self.portions.due.is_none() {
            self.rest(step);
        }
    }

    pub(in crate::node) fn portion_timeouts(&mut self, step: &mut Step<'_>) {
        if self.portions.due.is_none_or(|at| at > step.now) {
            return;
        }
        // A node that stops is in a hurry, and puts nothing else in force.
        let next = self.applications.consequences.take_next().filter(|_| !step.stops);
        match next {
            Some(next) => self.put_in_force(step, next),
            None => self.carry_out(step),
        }
    }

    /// A session has ended and its devices are about to be let go. The first of them go at once.
    pub(in crate::node) fn let_go_of_all(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        parameters: Parameters,
    ) {
        self.await_departure(step, id, &parameters);
        self.model(step, device_model::Input::SessionEnded(id));
        let report = step.alarms.occur(&alarms::PROVIDER_CLOSED, parameters);
        step.out.push(Output::Report(report));
    }

    /// The session lets go of what it has open from now on; how that is reported.
    pub(in crate::node) fn await_departure(&mut self, step: &Step<'_>, id: SessionId, of: &Parameters) {
        if step.calls.devices().open_count(id) > 0 {
            self.portions.leaving.insert(id, Arc::new(of.clone()));
        }
    }

    /// The model let go of these.
    pub(in crate::node) fn departed(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        devices: Vec<DeviceName>,
        over: bool,
    ) {
        let parameters = match over {
            true => self.portions.leaving.remove(&id),
            false => self.portions.leaving.get(&id).cloned(),
        };
        devices.iter().for_each(|device| self.keeping.device(id, device));
        let Some(parameters) = parameters else { return };
        if devices.len() < SIP_AT_ONCE / 2 {
            devices.iter().for_each(|device| self.report_closed(step, &parameters, device));
        } else {
            self.add_task(Task::Closed(parameters, devices.into()));
        }
    }

    /// Writes the first piece of a replay, or sees to it that the next one has its turn.
    pub(in crate::node) fn replay(&mut self, step: &mut Step<'_>, id: SessionId) {
        match self.portions.replays.get(&id).copied() {
            None => self.write_replay(step, id, REPLAYED_AT_ONCE),
            Some(true) => {}
            Some(false) if self.is_behind(id) => {}
            Some(false) => self.replay_later(id),
        }
    }

    /// Whether what this session says waits behind a replay.
    pub(in crate::node) fn is_replaying(&self, id: SessionId) -> bool {
        self.portions.replays.contains_key(&id)
            || self.applications.sessions.get(id).is_some_and(Session::is_replaying)
    }

    fn replay_later(&mut self, id: SessionId) {
        if self.portions.replays.insert(id, true) != Some(true) {
            self.add_task(Task::Replay(id));
        }
    }

    fn carry_on_replay(&mut self, step: &mut Step<'_>, id: SessionId, portion: &mut Portion) {
        // The session may have ended, or have another connection.
        let Some(queued) = self.portions.replays.get_mut(&id) else { return };
        *queued = false;
        if !portion.replayed.insert(id) {
            // Its reader is to have a chance to say that he is behind.
            portion.work += WORK_AT_ONCE;
            self.replay_later(id);
        } else if !self.is_behind(id) {
            self.write_replay(step, id, REPLAYED_AT_ONCE.min(self.settings.sessions.queue_events / 2));
        }
    }

    fn write_replay(&mut self, step: &mut Step<'_>, id: SessionId, most: usize) {
        if self.flush_some(step, id, most) {
            self.replay_later(id);
        } else {
            self.portions.forget_replay(id);
        }
    }

    fn is_behind(&self, id: SessionId) -> bool {
        let connection = self.applications.sessions.get(id).and_then(Session::connection);
        let link = connection.and_then(|connection| self.applications.links.get(&connection));
        link.is_some_and(|link| link.behind.is_some())
    }

    /// Puts a request off if its device has many calls to end first, or if an earlier one of its session waits so: it finds
    /// everything as if that had been done at once.
    pub(in crate::node) fn puts_off(
        &mut self,
        step: &Step<'_>,
        id: SessionId,
        token: RequestToken,
        method: &Method,
    ) -> bool {
        let waits = self.portions.waiting.contains_key(&id)
            || super::methods::device_of(method)
                .is_some_and(|device| step.calls.devices().legs_to_clear(device) > LEGS_AT_ONCE);
        if waits {
            self.portions.waiting.entry(id).or_default().push_back((token, method.clone()));
        }
        waits
    }

    /// Requests whose devices are clear now, each session's in their order.
    fn go_on_with_requests(&mut self, step: &mut Step<'_>) {
        let sessions: Vec<SessionId> = self.portions.waiting.keys().copied().collect();
        for id in sessions {
            while let Some(waiting) = self.portions.waiting.get_mut(&id) {
                let clear = waiting.front().is_none_or(|(_, method)| {
                    super::methods::device_of(method)
                        .is_none_or(|device| step.calls.devices().legs_to_clear(device) <= LEGS_AT_ONCE)
                });
                if !clear {
                    break;
                }
                let next = waiting.pop_front();
                if waiting.is_empty() {
                    self.portions.waiting.remove(&id);
                }
                if let Some((token, method)) = next {
                    self.carry_out_request(step, id, token, method);
                }
            }
        }
    }

    /// A session has ended: its requests go with it.
    pub(in crate::node) fn forget_requests(&mut self, id: SessionId) {
        self.portions.waiting.remove(&id);
    }

    /// The same of what is to be heard before all that follows: whoever hears or asks something sooner is told first.
    pub(in crate::node) fn tell_first(
        &mut self,
        step: &Step<'_>,
        sessions: &[SessionId],
        event: protocol::Event,
    ) {
        if sessions.len() <= TOLD_AT_ONCE {
            return self.tell_event(step, sessions, event);
        }
        self.bear_witness(sessions, &event);
        let event = event.encode(&self.settings.node, step.wall);
        if self.applications.first.is_empty() {
            self.add_task(Task::First);
        }
        for id in sessions {
            self.applications.first.entry(*id).or_default().push(event.clone());
        }
    }

    /// Tells an event to few at once, to many in portions.
    pub(in crate::node) fn tell_many(
        &mut self,
        step: &Step<'_>,
        sessions: &[SessionId],
        event: protocol::Event,
    ) {
        if sessions.len() <= TOLD_AT_ONCE {
            return self.tell_event(step, sessions, event);
        }
        self.bear_witness(sessions, &event);
        let event = event.encode(&self.settings.node, step.wall);
        self.add_task(Task::Tell(sessions.to_vec(), event));
    }
}
