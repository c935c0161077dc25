//! Work in portions: what would hold the owner up for longer than a moment is carried out a little at a time, and other
//! inputs come in between. What follows from a reload, from the end of a session that held much, a long list or snapshot,
//! and what is told to thousands: all of it is counted in one [`Portion`] a step, with a pause before the next.
//!
//! The node has no clock of its own: a portion is counted in what it tells, sends and looks at. How long steps take is for
//! the shell to measure (`ctimanager_owner_longest_step_seconds`).

use super::alarms;
use super::applications::Link;
use super::pages::{Capture, Listing};
use super::port::Output;
use super::reload::consequences::{
    AT_ONCE, LEGS_AT_ONCE, Parameters, READERS_PATIENCE, SIP_AT_ONCE, WORK_AT_ONCE, WORK_OF_LEG,
};
use super::{Node, Step};
use device_model::{DeviceName, Input, SessionId};
use protocol::Encoded;
use std::collections::{BTreeMap, VecDeque};
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
/// Tasks that wait at once; the next request for one is put off.
pub(super) const MAX_TASKS: usize = 256;

/// How much of a portion is used up.
pub(super) struct Portion {
    told: u64,
    out: usize,
    work: usize,
}

/// A piece of work that takes more than one step.
pub(super) enum Task {
    /// A page of `provider.devices`.
    Listing(Box<Listing>),
    /// What a session has open.
    Capture(Box<Capture>),
    /// Devices of a provider that has ended: for the log.
    Closed(Arc<Parameters>, VecDeque<DeviceName>),
    /// Something told to many.
    Tell(Vec<SessionId>, Encoded),
}

/// All work that is under way, but for that of reloads.
#[derive(Default)]
pub(super) struct Portions {
    tasks: VecDeque<Task>,
    /// Sessions that have ended and hold something still: how their end is reported.
    leaving: BTreeMap<SessionId, Arc<Parameters>>,
    due: Option<Instant>,
    /// Whose turn is next: a task's or a reload's.
    reload_next: bool,
}

impl Portions {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_full(&self) -> bool {
        self.tasks.len() >= MAX_TASKS
    }

    pub(super) fn add(&mut self, task: Task) {
        self.tasks.push_back(task);
    }

    fn gathers(&self) -> bool {
        self.tasks.iter().any(|task| matches!(task, Task::Listing(_) | Task::Capture(_)))
    }
}

impl Portion {
    /// So much was looked at.
    pub(super) fn work(&mut self, work: usize) {
        self.work += work;
    }
}

impl Node {
    /// Carries out the next portion.
    pub(super) fn carry_out(&mut self, step: &mut Step<'_>) {
        let mut portion = Portion { told: self.applications.told, out: step.out.len(), work: 0 };
        while self.has_room(step, &portion) {
            if !self.model.is_clear() {
                // Calls that may not stay are not to wait for what is only told.
                self.model(step, Input::Settle { legs: LEGS_AT_ONCE });
                portion.work += LEGS_AT_ONCE * WORK_OF_LEG;
            } else if self.model.is_departing() {
                self.model(step, Input::Depart { devices: DEPARTURES_AT_ONCE, legs: LEGS_AT_ONCE });
                portion.work += DEPARTURES_AT_ONCE * WORK_OF_DEPARTURE;
            } else if !self.carry_on_one(step, &mut portion) {
                break;
            }
        }
        self.rest(step.now);
    }

    /// One piece of a task or of a reload, in turns; false when nothing can be done now.
    fn carry_on_one(&mut self, step: &mut Step<'_>, portion: &mut Portion) -> bool {
        let reload = !self.applications.consequences.is_empty() && !self.readers_are_behind(step);
        let task = !self.portions.tasks.is_empty();
        let turn = reload && (!task || self.portions.reload_next);
        self.portions.reload_next = !turn;
        if turn {
            self.carry_on_reload(step, portion);
        } else if let Some(task) = self.portions.tasks.pop_front() {
            let rest = self.carry_on_task(step, task, portion);
            self.portions.tasks.extend(rest);
        }
        turn || task
    }

    /// What is left of the task.
    fn carry_on_task(&mut self, step: &mut Step<'_>, task: Task, portion: &mut Portion) -> Option<Task> {
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
        }
    }

    fn has_room(&self, step: &Step<'_>, portion: &Portion) -> bool {
        let told = self.applications.told - portion.told;
        told < AT_ONCE as u64 && step.out.len() - portion.out < SIP_AT_ONCE && portion.work < WORK_AT_ONCE
    }

    /// Whether somebody reads, and has still to read what he was told: he is waited for, but not for ever.
    fn readers_are_behind(&self, step: &Step<'_>) -> bool {
        let waited_for = |link: &Link| link.behind.is_some_and(|since| step.now < since + READERS_PATIENCE);
        self.applications.links.values().any(waited_for)
    }

    fn rest(&mut self, now: Instant) {
        let urgent = !self.model.is_clear() || self.model.is_departing();
        let left = !self.portions.tasks.is_empty() || !self.applications.consequences.is_empty();
        let pause = match (urgent, self.portions.gathers()) {
            (true, _) => SHORT_PAUSE,
            (false, true) => PAUSE,
            (false, false) => LONG_PAUSE,
        };
        self.portions.due = (urgent || left).then(|| now + pause);
    }

    /// After a step: what it left to be done is done soon.
    pub(super) fn look_for_work(&mut self, step: &Step<'_>) {
        if self.portions.due.is_none() {
            self.rest(step.now);
        }
    }

    pub(super) fn portion_timeouts(&mut self, step: &mut Step<'_>) {
        if self.portions.due.is_some_and(|at| at <= step.now) {
            self.carry_out(step);
        }
    }

    /// A session has ended and its devices are about to be let go. The first of them go at once.
    pub(super) fn let_go_of_all(&mut self, step: &mut Step<'_>, id: SessionId, parameters: Parameters) {
        self.portions.leaving.insert(id, Arc::new(parameters.clone()));
        if self.model.open_count(id) == 0 {
            self.portions.leaving.remove(&id);
        }
        self.model(step, device_model::Input::SessionEnded(id));
        let report = self.alarms.occur(&alarms::PROVIDER_CLOSED, parameters);
        step.out.push(Output::Report(report));
    }

    /// The model let go of these.
    pub(super) fn departed(
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
            self.portions.add(Task::Closed(parameters, devices.into()));
        }
    }

    /// Tells an event to few at once, to many in portions.
    pub(super) fn tell_many(&mut self, step: &Step<'_>, sessions: &[SessionId], event: protocol::Event) {
        if sessions.len() <= TOLD_AT_ONCE {
            return self.tell_event(step, sessions, event);
        }
        self.bear_witness(sessions, &event);
        let event = event.encode(&self.settings.node, step.wall);
        self.portions.add(Task::Tell(sessions.to_vec(), event));
    }
}
