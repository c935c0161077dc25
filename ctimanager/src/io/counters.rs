//! What the shell counts: each thing that it had to drop, refuse or close, so that nothing is dropped in silence.

use crate::node::{Report, alarms};
use device_model::Transition;
use device_model::transitions::{Kind, Trigger};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.add_many(1);
    }

    /// So many more.
    pub fn add_many(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The longest of something in the last minute or two.
#[derive(Debug, Default)]
pub struct Longest {
    current: AtomicU64,
    previous: AtomicU64,
    minute: AtomicU64,
}

impl Longest {
    /// One took so long; `at` is the time since the start.
    pub fn observe(&self, at: Duration, took: Duration) {
        let minute = at.as_secs() / 60;
        let before = self.minute.swap(minute, Ordering::Relaxed);
        if before != minute {
            let last = self.current.swap(0, Ordering::Relaxed);
            self.previous.store(if before + 1 == minute { last } else { 0 }, Ordering::Relaxed);
        }
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.current.fetch_max(took, Ordering::Relaxed);
    }

    /// The longest, in whole microseconds.
    #[must_use]
    pub fn value(&self) -> Duration {
        let (current, previous) =
            (self.current.load(Ordering::Relaxed), self.previous.load(Ordering::Relaxed));
        Duration::from_micros(current.max(previous))
    }
}

/// The shell's counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams read.
    pub datagrams_received: Count,
    /// Datagrams dropped because the owner was too far behind; SIP repeats them.
    pub datagrams_dropped: Count,
    /// Datagrams that the system threw away: its buffer was full, or they were of a flood.
    pub datagrams_lost: Count,
    /// Datagrams refused unread because their sender's share was used up.
    pub datagrams_refused: Count,
    /// Datagrams that the system would not send.
    pub datagrams_unsent: Count,
    /// SIP connections accepted.
    pub sip_accepted: Count,
    /// SIP connections refused because all places were taken.
    pub sip_refused: Count,
    /// SIP connections closed because their peer did not read, sent garbage, or sent nothing in time.
    pub sip_broken: Count,
    /// CTI connections accepted, WebSockets too.
    pub cti_accepted: Count,
    /// CTI connections refused because all places were taken.
    pub cti_refused: Count,
    /// CTI connections whose queue was full.
    pub cti_overflows: Count,
    /// Times that a long line had to wait until another one was finished.
    pub cti_lines_waited: Count,
    /// TLS handshakes that failed or took too long.
    pub tls_failures: Count,
    /// HTTP connections closed to make room for another.
    pub web_refused: Count,
    /// Who connected as another node, or answered as one, and is none.
    pub cluster_refused: Count,
    /// Password checks refused because too many waited.
    pub passwords_refused: Count,
    /// Errors of `accept`, such as no free file descriptor.
    pub accept_errors: Count,
    /// The longest step of the owner, what it carried out included: nothing else happens in that time.
    pub longest_step: Longest,
    transitions: Transitions,
    /// Alarms that occurred or were raised, in the order of [`alarms::ALL`].
    alarms: AlarmCounts,
}

#[derive(Debug)]
struct AlarmCounts([Count; alarms::ALL.len()]);

impl Default for AlarmCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

/// Changes of state, by what became of whom, and by what made it so.
#[derive(Debug)]
struct Transitions {
    kinds: [Count; Kind::ALL.len()],
    triggers: [Count; Trigger::ALL.len()],
}

impl Default for Transitions {
    fn default() -> Self {
        Self {
            kinds: std::array::from_fn(|_| Count::default()),
            triggers: std::array::from_fn(|_| Count::default()),
        }
    }
}

impl Counters {
    /// Counts a change of state.
    pub(super) fn transition(&self, record: &Transition) {
        let Transition { what, why } = record;
        let count = what.count() as u64;
        self.transitions.kinds[what.kind() as usize].add_many(count);
        self.transitions.triggers[why.trigger as usize].add_many(count);
    }

    /// Counts a report that is an alarm. That a condition is over is no other alarm.
    pub(super) fn report(&self, report: &Report) {
        let cleared = report.parameters.iter().any(|(name, value)| *name == "state" && value == "cleared");
        if let Some(index) = alarms::index(report.name).filter(|_| !cleared) {
            self.alarms.0[index].add();
        }
    }

    /// Prometheus' text format.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let all = [
            ("sip_datagrams_received", "Datagrams read.", &self.datagrams_received),
            ("sip_datagrams_dropped", "Datagrams dropped: the node was behind.", &self.datagrams_dropped),
            ("sip_datagrams_lost", "Datagrams that the system threw away.", &self.datagrams_lost),
            ("sip_datagrams_refused", "Datagrams refused: over a share.", &self.datagrams_refused),
            ("sip_datagrams_unsent", "Datagrams that the system would not send.", &self.datagrams_unsent),
            ("sip_connections_accepted", "SIP connections accepted.", &self.sip_accepted),
            ("sip_connections_refused", "SIP connections refused: no place.", &self.sip_refused),
            ("sip_connections_broken", "SIP connections closed for their peer's fault.", &self.sip_broken),
            ("cti_connections_accepted", "Applications' connections accepted.", &self.cti_accepted),
            ("cti_connections_refused", "Applications' connections refused: no place.", &self.cti_refused),
            ("cti_queue_overflows", "Applications' connections whose queue was full.", &self.cti_overflows),
            ("cti_long_lines_waited", "Long lines that waited for another one.", &self.cti_lines_waited),
            ("tls_handshake_failures", "TLS handshakes that failed or took too long.", &self.tls_failures),
            ("web_connections_refused", "HTTP connections closed to make room.", &self.web_refused),
            ("cluster_peers_refused", "Connections of who is no node of the cluster.", &self.cluster_refused),
            ("password_checks_refused", "Password checks refused: too many wait.", &self.passwords_refused),
            ("accept_errors", "Connections that could not be accepted.", &self.accept_errors),
        ];
        let mut text = String::new();
        for (name, help, count) in all {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP ctimanager_{name}_total {help}");
            let _ = writeln!(text, "# TYPE ctimanager_{name}_total counter");
            let _ = writeln!(text, "ctimanager_{name}_total {}", count.value());
        }
        let _ = writeln!(
            text,
            "# HELP ctimanager_log_lines_lost_total Log lines lost: their reader was too slow."
        );
        let _ = writeln!(text, "# TYPE ctimanager_log_lines_lost_total counter");
        let _ = writeln!(text, "ctimanager_log_lines_lost_total {}", super::logging::lines_lost());
        let longest = self.longest_step.value().as_secs_f64();
        let name = "ctimanager_owner_longest_step_seconds";
        let _ = writeln!(text, "# HELP {name} The longest step of the owner in the last minute or two.");
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {longest}");
        let _ = writeln!(text, "# HELP ctimanager_alarms_total Alarms that occurred or were raised.");
        let _ = writeln!(text, "# TYPE ctimanager_alarms_total counter");
        for (alarm, count) in alarms::ALL.iter().zip(&self.alarms.0) {
            let _ = writeln!(text, "ctimanager_alarms_total{{alarm=\"{}\"}} {}", alarm.name, count.value());
        }
        self.write_transitions(&mut text);
        text
    }

    fn write_transitions(&self, text: &mut String) {
        let Transitions { kinds, triggers } = &self.transitions;
        let name = "ctimanager_transitions_total";
        let _ = writeln!(text, "# HELP {name} Changes of state, by what became of whom.");
        let _ = writeln!(text, "# TYPE {name} counter");
        for (kind, count) in Kind::ALL.iter().zip(kinds) {
            let (of, to) = (kind.of(), kind.word());
            let _ = writeln!(text, "{name}{{of=\"{of}\",to=\"{to}\"}} {}", count.value());
        }
        let name = "ctimanager_transition_triggers_total";
        let _ = writeln!(text, "# HELP {name} Changes of state, by what made it so.");
        let _ = writeln!(text, "# TYPE {name} counter");
        for (trigger, count) in Trigger::ALL.iter().zip(triggers) {
            let _ = writeln!(text, "{name}{{why=\"{}\"}} {}", trigger.word(), count.value());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_model::SessionId;
    use device_model::transitions::{DeviceChange, SessionChange, What, Why};

    #[test]
    fn counts_are_written_as_prometheus_reads_them() {
        let counters = Counters::default();
        counters.datagrams_dropped.add();
        let text = counters.prometheus();
        assert!(text.contains("# TYPE ctimanager_sip_datagrams_dropped_total counter\n"));
        assert!(text.contains("\nctimanager_sip_datagrams_dropped_total 1\n"));
    }

    #[test]
    fn the_longest_is_that_of_the_last_minute_or_two() {
        let longest = Longest::default();
        let at = |at: u64, took: u64| longest.observe(Duration::from_secs(at), Duration::from_millis(took));
        at(1, 5);
        at(2, 3);
        assert_eq!(longest.value(), Duration::from_millis(5));
        at(61, 1);
        assert_eq!(longest.value(), Duration::from_millis(5), "of the minute before");
        at(121, 2);
        assert_eq!(longest.value(), Duration::from_millis(2));
        at(1_000, 1);
        assert_eq!(longest.value(), Duration::from_millis(1), "long ago is nothing");
    }

    #[test]
    fn transitions_are_counted_by_what_became_of_whom_and_by_why() {
        let counters = Counters::default();
        let closed = DeviceChange::Closed(SessionId(1));
        let devices = What::Devices(["A".into(), "B".into()].into(), closed);
        let why = Why::of(Trigger::Reload);
        counters.transition(&Transition { what: devices, why });
        counters.transition(&Transition { what: What::Device("C".into(), closed), why });
        counters.transition(&Transition { what: What::Session(SessionId(1), SessionChange::Closed), why });
        let text = counters.prometheus();
        for line in [
            "ctimanager_transitions_total{of=\"device\",to=\"closed\"} 3\n",
            "ctimanager_transitions_total{of=\"session\",to=\"closed\"} 1\n",
            "ctimanager_transitions_total{of=\"leg\",to=\"connected\"} 0\n",
            "ctimanager_transition_triggers_total{why=\"reload\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn alarms_are_counted_by_name_when_they_are_raised() {
        let counters = Counters::default();
        let of = |state: &str| Report {
            parameters: vec![("state", state.to_owned())],
            ..alarms::MAX_DEVICES_PER_NODE.report(Vec::new())
        };
        counters.report(&of("raised"));
        counters.report(&of("cleared"));
        counters.report(&alarms::PROVIDER_OPENED.report(Vec::new()));
        let text = counters.prometheus();
        for line in [
            "ctimanager_alarms_total{alarm=\"MaxDevicesPerNodeExceeded\"} 1\n",
            "ctimanager_alarms_total{alarm=\"CtiProviderOpened\"} 1\n",
            "ctimanager_alarms_total{alarm=\"CtiProviderClosed\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
