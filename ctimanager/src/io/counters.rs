//! What the shell counts: each thing that it had to drop, refuse or close, so that nothing is dropped in silence.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// One count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The shell's counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams read.
    pub datagrams_received: Count,
    /// Datagrams dropped because the owner was too far behind; SIP repeats them.
    pub datagrams_dropped: Count,
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
    /// HTTP connections refused because all places were taken.
    pub web_refused: Count,
    /// Password checks refused because too many waited.
    pub passwords_refused: Count,
    /// Errors of `accept`, such as no free file descriptor.
    pub accept_errors: Count,
}

impl Counters {
    /// Prometheus' text format.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let all = [
            ("sip_datagrams_received", &self.datagrams_received),
            ("sip_datagrams_dropped", &self.datagrams_dropped),
            ("sip_datagrams_unsent", &self.datagrams_unsent),
            ("sip_connections_accepted", &self.sip_accepted),
            ("sip_connections_refused", &self.sip_refused),
            ("sip_connections_broken", &self.sip_broken),
            ("cti_connections_accepted", &self.cti_accepted),
            ("cti_connections_refused", &self.cti_refused),
            ("cti_queue_overflows", &self.cti_overflows),
            ("cti_long_lines_waited", &self.cti_lines_waited),
            ("tls_handshake_failures", &self.tls_failures),
            ("web_connections_refused", &self.web_refused),
            ("password_checks_refused", &self.passwords_refused),
            ("accept_errors", &self.accept_errors),
        ];
        let mut text = String::new();
        for (name, count) in all {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# TYPE ctimanager_{name}_total counter");
            let _ = writeln!(text, "ctimanager_{name}_total {}", count.value());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_prometheus_reads_them() {
        let counters = Counters::default();
        counters.datagrams_dropped.add();
        let text = counters.prometheus();
        assert!(text.contains("# TYPE ctimanager_sip_datagrams_dropped_total counter\n"));
        assert!(text.contains("\nctimanager_sip_datagrams_dropped_total 1\n"));
        assert_eq!(text.lines().count(), 28);
    }
}
