//! What CallManager tells, in its order: heard in the step in which it is said, or in a later one, as between nodes.
//!
//! What is told and not heard yet is older than what CallManager's devices show. So whoever looks at them to tell of it
//! (a list, a snapshot, the consequences of a reload, what is kept) hears first all that was told before.

use super::CtiManager;
use super::missing::Missing;
use crate::node::delay::Delay;
use crate::node::messages::{Envelope, Receiver, Told};
use crate::node::port::Output;
use crate::node::{Step, alarms};
use device_model::SessionId;
use device_model::port::Limit;
use std::collections::VecDeque;
use std::time::Instant;

/// What is told and not heard.
#[derive(Default)]
pub(in crate::node) struct Hearing {
    queue: VecDeque<Envelope<Told>>,
    receiver: Receiver,
    delay: Option<Delay>,
    pub(in crate::node) missing: Missing,
}

impl Hearing {
    pub(in crate::node) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        self.delay.as_ref().filter(|_| !self.queue.is_empty()).and_then(Delay::due)
    }
}

impl CtiManager {
    /// From now on what CallManager tells waits for some steps, as it does between nodes: for tests and simulations.
    pub(in crate::node) fn delay_told(&mut self, seed: u64) {
        self.hearing.delay = Some(Delay::new(seed));
    }

    /// Whether nothing that was told waits.
    pub(in crate::node) fn has_heard_all(&self) -> bool {
        self.hearing.is_empty()
    }

    /// CallManager tells something.
    pub(in crate::node) fn told(&mut self, step: &mut Step<'_>, told: Envelope<Told>) {
        let told = self.passage.pass(told);
        if self.hearing.missing.loses(&told.what) {
            return;
        }
        // A node that stops has no later step to count on.
        match self.hearing.delay.as_mut().filter(|_| !step.stops) {
            None => self.hear(step, told),
            Some(delay) => {
                if self.hearing.queue.is_empty() {
                    delay.wait(step.now);
                }
                self.hearing.queue.push_back(told);
            }
        }
    }

    /// Hears some of what waits; all of it when it is time.
    pub(in crate::node) fn hear_some(&mut self, step: &mut Step<'_>) {
        let waiting = self.hearing.queue.len();
        let Some(delay) = self.hearing.delay.as_mut().filter(|_| waiting > 0) else { return };
        let most = if delay.is_due(step.now) { waiting } else { delay.some(step.now, waiting) };
        for _ in 0..most {
            self.hear_next(step);
        }
        self.ask_for_what_is_missing(step);
    }

    /// Hears all that was told until now.
    pub(in crate::node) fn hear_all(&mut self, step: &mut Step<'_>) {
        while self.hear_next(step) {}
        self.ask_for_what_is_missing(step);
    }

    fn hear_next(&mut self, step: &mut Step<'_>) -> bool {
        let Some(told) = self.hearing.queue.pop_front() else { return false };
        self.hear(step, told);
        true
    }

    fn hear(&mut self, step: &mut Step<'_>, told: Envelope<Told>) {
        let at = told.at;
        let (told, gap) = self.hearing.receiver.take(told);
        if let Some(gap) = gap {
            self.hearing.missing.found(&gap);
            step.out.push(Output::Report(gap.report()));
        }
        // An event is of the time when it happened, whenever it is heard.
        let now = std::mem::replace(&mut step.wall, at);
        match told {
            Told::Answer { session, token, result } => self.answered(step, session, token, result),
            Told::Event { sessions, event } => self.heard(step, &sessions, &event),
            Told::Hidden(event) => self.mirror.hidden(&event),
            Told::Limit(limit) => self.limit(step, &limit),
            Told::Directory(news) => self.tell_news(step, news),
            Told::Whole { round, devices, place } => self.hear_whole(step, round, devices, place),
        }
        step.wall = now;
    }

    /// A soft limit is passed or kept again: an alarm, and an event for the providers that can do something about it.
    fn limit(&mut self, step: &mut Step<'_>, limit: &Limit) {
        let (definition, key, open, bound, on, concerned) = match limit {
            Limit::DevicesPerProvider { session, open, limit, exceeded } => {
                let key = session.to_string();
                (&alarms::MAX_DEVICES_PER_PROVIDER, key, open, limit, *exceeded, vec![*session])
            }
            Limit::DevicesPerNode { open, limit, exceeded } => {
                let everybody = self.applications.everybody();
                (&alarms::MAX_DEVICES_PER_NODE, String::new(), open, limit, *exceeded, everybody)
            }
        };
        let parameters = vec![("open", open.to_string()), ("limit", bound.to_string())];
        self.alarm_condition(step, definition, key, alarms::AlarmState::when(on), parameters, &concerned);
    }

    /// A condition begins or ends: it is reported, and told to the sessions that it concerns.
    pub(in crate::node) fn alarm_condition(
        &mut self,
        step: &mut Step<'_>,
        definition: &'static alarms::Definition,
        key: String,
        state: alarms::AlarmState,
        parameters: Vec<(&'static str, String)>,
        concerned: &[SessionId],
    ) {
        let telling = step.alarms.condition(step.now, definition, key, state, parameters, concerned.to_vec());
        telling.into_iter().for_each(|telling| self.tell_condition(step, telling));
    }

    fn tell_condition(&mut self, step: &mut Step<'_>, telling: alarms::Telling) {
        let alarms::Telling { report, alarm, concerned } = telling;
        step.out.push(Output::Report(report));
        if !concerned.is_empty() {
            self.tell_many(step, &concerned, protocol::Event::Alarm { alarm });
        }
    }

    /// Conditions that changed too often to be told at once, as they are now.
    pub(in crate::node) fn alarm_timeouts(&mut self, step: &mut Step<'_>) {
        while let Some(telling) = step.alarms.overdue(step.now) {
            self.tell_condition(step, telling);
        }
    }
}
