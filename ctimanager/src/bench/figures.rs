//! What a measurement found, and how it is computed.

use super::application::Watched;
use super::load::Outcome;
use super::now;
use super::proc::{self, Machine};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// A caller that is this late at its 99th percentile did not place the rate that it was asked for.
const LATE_MS: f64 = 20.0;
/// A machine this busy has no room left for anybody.
const BUSY: f64 = 0.95;

/// All figures. Times are milliseconds, memory is bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The machine that all shared.
    pub machine: String,
    /// The node's version.
    pub version: &'static str,
    /// The rates, in order; the last is the first that was not clean, if one was.
    pub steps: Vec<Step>,
    /// Calls held at once.
    pub held: Held,
    /// Devices open at once.
    pub idle: Idle,
    /// Sessions that all hear of the same calls.
    pub subscribers: Vec<Subscribers>,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // percentiles
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    pub(super) fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let at = |share: f64| {
            let index = (durations.len() as f64 * share).ceil() as usize;
            durations.get(index.saturating_sub(1)).map_or(0.0, |d| d.as_secs_f64() * 1_000.0)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// What stood in the way of a higher rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Nothing: there was room.
    None,
    /// The caller could not place its calls in time; the figures are no less than the node's own.
    Caller,
    /// All cores were busy with node, caller and application.
    Machine,
}

/// One rate.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Calls a second that were wanted.
    pub rate: u32,
    /// Calls placed.
    pub calls: usize,
    /// Answered and ended in order.
    pub completed: usize,
    /// Refused, by SIP status.
    pub refused: BTreeMap<u16, usize>,
    /// Neither: no answer, or no end.
    pub failed: usize,
    /// Requests that the caller had to repeat.
    pub repeats: u64,
    /// Answers of the application to calls that had gone.
    pub late_answers: u64,
    /// From the INVITE's leaving to the event's arrival at the application.
    pub event_ms: Percentiles,
    /// From the INVITE's leaving to the 200's arrival.
    pub answer_ms: Percentiles,
    /// From the INVITE's leaving to the refusal's arrival.
    pub refusal_ms: Percentiles,
    /// How late the caller was, against its schedule.
    pub caller_late_ms: Percentiles,
    /// Processor time of the node for one call, its kernel time included.
    pub cpu_ms_per_call: f64,
    /// Cores that the node used on average.
    pub node_cores: f64,
    /// Cores that the caller and the application used on average.
    pub bench_cores: f64,
    /// The share of all cores that was busy, with whatever else ran.
    pub machine_busy: f64,
    /// What was in the way.
    pub limit: Limit,
}

/// Processor times, of a moment or of a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    at: Instant,
    node: Duration,
    bench: Duration,
    machine: Machine,
}

/// Processor times of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    node: Duration,
    seconds: f64,
    node_cores: f64,
    bench_cores: f64,
    machine_busy: f64,
}

impl Spent {
    pub(super) fn now(node: u32, bench: u32) -> Self {
        Self { at: now(), node: proc::cpu(node), bench: proc::cpu(bench), machine: Machine::now() }
    }

    pub(super) fn since(&self, before: &Self) -> Span {
        let seconds = (self.at - before.at).as_secs_f64().max(0.001);
        let node = self.node.saturating_sub(before.node);
        Span {
            node,
            seconds,
            node_cores: node.as_secs_f64() / seconds,
            bench_cores: self.bench.saturating_sub(before.bench).as_secs_f64() / seconds,
            machine_busy: self.machine.busy_since(before.machine),
        }
    }
}

impl Step {
    pub(super) fn of(
        rate: u32,
        first: u64,
        outcomes: &[Outcome],
        offered: &[(u64, Instant)],
        late_answers: u64,
        spent: Span,
    ) -> Self {
        let offered: HashMap<u64, Instant> = offered.iter().copied().collect();
        let numbered = outcomes.iter().enumerate().map(|(i, outcome)| (first + i as u64, outcome));
        let event = numbered.filter_map(|(n, o)| Some(offered.get(&n)?.saturating_duration_since(o.sent?)));
        let since = |at: Option<Instant>, then: Option<Instant>| Some(at?.saturating_duration_since(then?));
        let answers = outcomes.iter().filter_map(|o| since(o.answered, o.sent));
        let refusals = outcomes.iter().filter_map(|o| since(o.refused.map(|(_, at)| at), o.sent));
        let lateness = outcomes.iter().filter_map(|o| since(o.sent, o.due));
        let mut refused = BTreeMap::new();
        for (status, _) in outcomes.iter().filter_map(|o| o.refused) {
            *refused.entry(status).or_default() += 1;
        }
        let completed = outcomes.iter().filter(|o| o.answered.is_some() && o.ended).count();
        let caller_late_ms = Percentiles::of(lateness.collect());
        Self {
            rate,
            calls: outcomes.len(),
            completed,
            failed: outcomes.len()
                - completed
                - refused.values().sum::<usize>().min(outcomes.len() - completed),
            refused,
            repeats: outcomes.iter().map(|o| u64::from(o.repeats)).sum(),
            late_answers,
            event_ms: Percentiles::of(event.collect()),
            answer_ms: Percentiles::of(answers.collect()),
            refusal_ms: Percentiles::of(refusals.collect()),
            caller_late_ms,
            cpu_ms_per_call: spent.node.as_secs_f64() * 1_000.0 / outcomes.len().max(1) as f64,
            node_cores: spent.node_cores,
            bench_cores: spent.bench_cores,
            machine_busy: spent.machine_busy,
            limit: limit(&spent, caller_late_ms),
        }
    }

    /// Every call was answered and ended.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.completed == self.calls
    }
}

fn limit(spent: &Span, late: Percentiles) -> Limit {
    if late.p99 > LATE_MS {
        Limit::Caller
    } else if spent.seconds >= 1.0 && spent.machine_busy > BUSY {
        Limit::Machine
    } else {
        Limit::None
    }
}

/// Memory of held calls.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Held {
    /// Calls that were held at once.
    pub calls: u32,
    /// Calls that were placed.
    pub wanted: u32,
    /// The node's threads meanwhile.
    pub threads: u64,
    /// Resident memory of the node before the first.
    pub resident_before: u64,
    /// Resident memory of the node with all of them.
    pub resident_with: u64,
}

impl Held {
    /// Bytes of one call, with what its SIP transactions and its events in the session's log still hold.
    #[must_use]
    pub fn bytes_per_call(&self) -> u64 {
        per(self.resident_before, self.resident_with, self.calls)
    }
}

/// Memory of open devices on which nothing happens.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Idle {
    /// Devices open at once.
    pub devices: u32,
    /// How long opening all of them took.
    pub opened_in_ms: f64,
    /// Resident memory of the node before the first.
    pub resident_before: u64,
    /// Resident memory of the node with all of them.
    pub resident_with: u64,
}

impl Idle {
    /// Bytes of one open device, with its event in the session's log.
    #[must_use]
    pub fn bytes_per_device(&self) -> u64 {
        per(self.resident_before, self.resident_with, self.devices)
    }
}

/// Many sessions that have one device open, and calls at it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Subscribers {
    /// Sessions, each on a TLS connection of its own. One of them answers the calls.
    pub sessions: u32,
    /// Calls a second.
    pub rate: u32,
    /// Events that all sessions read together.
    pub events: u64,
    /// Events that somebody did not get, or got twice: the difference from what the answering session read.
    pub wrong: u64,
    /// Events read a second.
    pub events_per_second: f64,
    /// Processor time of the node for one event at one session, in microseconds; the calls' own share is in it.
    pub cpu_us_per_event: f64,
    /// From the INVITE's leaving to the event's arrival at the last session.
    pub last_event_ms: Percentiles,
    /// From the INVITE's leaving to the 200's arrival.
    pub answer_ms: Percentiles,
    /// Calls that were not answered and ended.
    pub failed: usize,
}

impl Subscribers {
    pub(super) fn of(
        (sessions, rate): (u32, u32),
        first: u64,
        outcomes: &[Outcome],
        answering: u64,
        watched: &Watched,
        spent: Span,
    ) -> Self {
        let events = answering + watched.events.iter().sum::<u64>();
        let numbered = outcomes.iter().enumerate().map(|(i, outcome)| (first + i as u64, outcome));
        let last =
            numbered.filter_map(|(n, o)| Some(watched.last.get(&n)?.saturating_duration_since(o.sent?)));
        let answers = outcomes.iter().filter_map(|o| Some(o.answered?.saturating_duration_since(o.sent?)));
        Self {
            sessions,
            rate,
            events,
            wrong: watched.events.iter().map(|read| read.abs_diff(answering)).sum(),
            events_per_second: events as f64 / spent.seconds,
            cpu_us_per_event: spent.node.as_secs_f64() * 1e6 / events.max(1) as f64,
            last_event_ms: Percentiles::of(last.collect()),
            answer_ms: Percentiles::of(answers.collect()),
            failed: outcomes.iter().filter(|o| o.answered.is_none() || !o.ended).count(),
        }
    }
}

fn per(before: u64, with: u64, count: u32) -> u64 {
    with.saturating_sub(before) / u64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_values_themselves() {
        let ms = |n| Duration::from_millis(n);
        let hundred = Percentiles::of((1..=100).rev().map(ms).collect());
        assert_eq!(hundred, Percentiles { p50: 50.0, p99: 99.0, max: 100.0 });
        let one = Percentiles::of(vec![ms(7)]);
        assert_eq!(one, Percentiles { p50: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }

    #[test]
    fn a_call_is_completed_refused_or_failed() {
        let at = now();
        let sent = Outcome { due: Some(at), sent: Some(at), ..Outcome::default() };
        let ms = Duration::from_millis;
        let outcomes = [
            Outcome { answered: Some(at + ms(3)), ended: true, ..sent },
            Outcome { answered: Some(at + ms(3)), ..sent },
            Outcome { refused: Some((503, at + ms(1))), ..sent },
            sent,
        ];
        let before = Spent::now(0, 0);
        let span = Spent::now(0, 0).since(&before);
        let step = Step::of(10, 100, &outcomes, &[(100, at + ms(2)), (7, at)], 0, span);
        assert_eq!((step.completed, step.failed, step.calls), (1, 2, 4));
        assert_eq!(step.refused, BTreeMap::from([(503, 1)]));
        assert_eq!((step.event_ms.p50, step.answer_ms.p50, step.refusal_ms.p50), (2.0, 3.0, 1.0));
        assert!(!step.is_clean());
    }
}
