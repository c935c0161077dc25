//! A stop: first the calls are ended, a few in each step, then the sessions are closed, then the node waits for the last SIP
//! transactions.

use super::Node;
use super::cti_manager::reload::consequences::SIP_AT_ONCE;
use super::port::{CtiConnection, Output};
use super::step::At;
use protocol::event::CloseReason;
use std::time::{Duration, Instant};

/// How long a stopping node waits for its last messages to be acknowledged.
const PATIENCE: Duration = Duration::from_millis(1500);
/// After so long what is left is ended in one step: whoever stops the process doesn't wait for ever.
const ENDING: Duration = Duration::from_secs(2);
/// The pause between two portions.
const PAUSE: Duration = Duration::from_millis(1);
/// Calls ended before looking again at how many messages that was, and connections closed in one step.
const CALLS_AT_ONCE: usize = 4;
const CONNECTIONS_AT_ONCE: usize = 32;

/// How far a stop is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stopping {
    #[default]
    No,
    /// Calls are ended and applications let go; the next portion is due then, and all the rest at last.
    Ending {
        due: Instant,
        last: Instant,
    },
    /// Until then for the peers to acknowledge it.
    Settling {
        until: Instant,
    },
    Over,
}

impl Stopping {
    pub(super) fn has_begun(self) -> bool {
        self != Stopping::No
    }

    pub(super) fn next_timeout(self) -> Option<Instant> {
        match self {
            Stopping::Ending { due, .. } => Some(due),
            Stopping::Settling { until } => Some(until),
            Stopping::No | Stopping::Over => None,
        }
    }
}

impl Node {
    /// Ends every call in order and lets go of every application: a session with a grace is held, and another life of the
    /// node may go on with it. [`Node::finish`] says when the wire is silent.
    pub(super) fn stop(&mut self, at: &mut At<'_>) {
        if !self.stopping.has_begun() {
            self.call_manager.drain();
            self.cti(at, |cti, step| {
                cti.deliver(step, usize::MAX);
                cti.hear_all(step);
            });
            self.end_some(at, at.now + ENDING);
        }
    }

    pub(super) fn stop_timeouts(&mut self, at: &mut At<'_>) {
        if let Stopping::Ending { due, last } = self.stopping
            && due <= at.now
        {
            self.end_some(at, last);
        }
    }

    fn end_some(&mut self, at: &mut At<'_>, last: Instant) {
        let (begin, in_a_hurry) = (at.said_so_far(), last <= at.now);
        let waits = !in_a_hurry && self.cti(at, |cti, step| cti.readers_are_behind(step));
        while self.call_manager.devices().has_calls()
            && !waits
            && (in_a_hurry || at.said_so_far() - begin < SIP_AT_ONCE)
        {
            let calls = if in_a_hurry { usize::MAX } else { CALLS_AT_ONCE };
            self.cti(at, |cti, step| {
                cti.model(step, device_model::Input::Shutdown { calls });
                cti.settle(step);
                cti.hear_all(step);
                cti.flush(step);
            });
        }
        self.stopping = match self.call_manager.devices().has_calls() || self.let_go_of_some(at, in_a_hurry) {
            true => Stopping::Ending { due: at.now + PAUSE, last },
            false => Stopping::Settling { until: at.now + PATIENCE },
        };
    }

    /// Applications are let go by the numbers of their connections: the same step says the same thing in the same order.
    /// Whether there are more.
    fn let_go_of_some(&mut self, at: &mut At<'_>, all: bool) -> bool {
        let mut connections: Vec<CtiConnection> =
            self.cti_manager.applications.links.keys().copied().collect();
        let most = if all { connections.len() } else { CONNECTIONS_AT_ONCE.min(connections.len()) };
        if most < connections.len() {
            connections.select_nth_unstable(most);
        }
        let rest = connections.split_off(most);
        connections.sort_unstable();
        for connection in connections {
            self.cti(at, |cti, step| cti.lose_connection(step, connection, CloseReason::Stopping));
        }
        !rest.is_empty()
    }

    pub(super) fn finish(&mut self, at: &mut At<'_>) {
        let Stopping::Settling { until } = self.stopping else { return };
        if self.call_manager.is_settled() || at.now >= until {
            self.stopping = Stopping::Over;
            at.out.push(Output::Stopped);
        }
    }
}
