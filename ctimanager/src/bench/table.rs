//! The figures as a table for people.

use super::figures::{Figures, Held, Idle, Limit, Percentiles, Step, Subscribers};
use std::fmt::{self, Display, Formatter};

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "ctimanager {} on {}", self.version, self.machine)?;
        writeln!(f)?;
        writeln!(
            f,
            "calls/s  event p50/p99 ms  200 p50/p99 ms  CPU ms/call  done        refused     failed  node  bench  machine"
        )?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for step in &self.steps {
            notes(step, f)?;
        }
        writeln!(f)?;
        writeln!(f, "{}", self.held)?;
        writeln!(f, "{}", self.idle)?;
        writeln!(f)?;
        writeln!(
            f,
            "sessions  calls/s  events/s  CPU us/event  last event p50/p99 ms  200 p50/p99 ms  failed  wrong"
        )?;
        let rows: Vec<String> = self.subscribers.iter().map(ToString::to_string).collect();
        write!(f, "{}", rows.join("\n"))
    }
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2}/{:.2}", self.p50, self.p99))
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let refused: Vec<String> = self.refused.iter().map(|(status, n)| format!("{n}×{status}")).collect();
        let refused = if refused.is_empty() { "0".to_owned() } else { refused.join(" ") };
        write!(
            f,
            "{:>7}  {:>16}  {:>14}  {:>11.3}  {:<10}  {:<10}  {:>6}  {:>4.2}  {:>5.2}  {:>6.0}%",
            self.rate,
            self.event_ms,
            self.answer_ms,
            self.cpu_ms_per_call,
            format!("{}/{}", self.completed, self.calls),
            refused,
            self.failed,
            self.node_cores,
            self.bench_cores,
            self.machine_busy * 100.0
        )
    }
}

/// What a reader must know about a row.
fn notes(step: &Step, f: &mut Formatter<'_>) -> fmt::Result {
    let rate = step.rate;
    match step.limit {
        Limit::None => {}
        Limit::Caller => writeln!(
            f,
            "  {rate}/s: the caller was late (p99 {:.1} ms): the rate was not reached evenly",
            step.caller_late_ms.p99
        )?,
        Limit::Machine => writeln!(
            f,
            "  {rate}/s: all cores were busy, {:.2} of them with the node and {:.2} with measuring it",
            step.node_cores, step.bench_cores
        )?,
    }
    if step.repeats > 0 {
        writeln!(f, "  {rate}/s: the caller repeated {} requests", step.repeats)?;
    }
    if !step.refused.is_empty() {
        writeln!(f, "  {rate}/s: refusals came after {} ms (p50/p99)", step.refusal_ms)?;
    }
    if step.late_answers > 0 {
        writeln!(f, "  {rate}/s: {} answers of the application came too late", step.late_answers)?;
    }
    Ok(())
}

impl Display for Subscribers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>8}  {:>7}  {:>8.0}  {:>12.2}  {:>21}  {:>14}  {:>6}  {:>5}",
            self.sessions,
            self.rate,
            self.events_per_second,
            self.cpu_us_per_event,
            self.last_event_ms,
            self.answer_ms,
            self.failed,
            self.wrong
        )
    }
}

impl Display for Held {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "held calls:   {} of {} at once, {:.1} kB each, {} threads in all ({:.1} MB before, {:.1} MB with them)",
            self.calls,
            self.wanted,
            self.bytes_per_call() as f64 / 1e3,
            self.threads,
            self.resident_before as f64 / 1e6,
            self.resident_with as f64 / 1e6
        )
    }
}

impl Display for Idle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "open devices: {} idle, {:.2} kB each, opened in {:.0} ms ({:.1} MB before, {:.1} MB with them)",
            self.devices,
            self.bytes_per_device() as f64 / 1e3,
            self.opened_in_ms,
            self.resident_before as f64 / 1e6,
            self.resident_with as f64 / 1e6
        )
    }
}
