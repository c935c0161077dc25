//! A session's link to its application: a connection with heartbeats both ways, or a grace that runs out.

use super::ConnectionId;
use std::time::{Duration, Instant};

/// What a client without a wish gets (the JTAPI client's own default, reference §6).
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);

/// The server's decision about the heartbeat interval: the wish, within the administrator's bounds.
#[must_use]
pub fn heartbeat_interval(wish_ms: Option<u64>, minimum: Duration, maximum: Duration) -> Duration {
    // An interval of nothing would be due for ever.
    let minimum = minimum.max(Duration::from_millis(1));
    wish_ms.map_or(DEFAULT_HEARTBEAT, Duration::from_millis).min(maximum).max(minimum)
}

/// How long a session waits for its application: the wish up to the maximum, without a wish the administrator's value.
#[must_use]
pub fn grace(wish_ms: Option<u64>, without_wish: Duration, maximum: Duration) -> Duration {
    wish_ms.map_or(without_wish, |ms| Duration::from_millis(ms).min(maximum))
}

/// A time that is found this much too late says that the node itself stood still (a paused machine, a stopped process):
/// what its applications sent meanwhile lies unread in its sockets.
pub(super) const AWAY: Duration = Duration::from_millis(500);

/// What becomes of a session whose connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits for its application until then.
    HeldUntil(Instant),
    /// It had no grace: the application has failed now.
    Failed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Link {
    Attached {
        connection: ConnectionId,
        /// The last message of the application.
        received: Instant,
        /// The last frame for it.
        sent: Instant,
        /// Its silence was put down to us once: we were away ourselves.
        excused: bool,
    },
    Held {
        until: Instant,
    },
}

impl Link {
    pub(super) fn attached(connection: ConnectionId, now: Instant) -> Self {
        Link::Attached { connection, received: now, sent: now, excused: false }
    }

    /// When something is due: a heartbeat of ours, the end of patience with theirs, or the end of the grace.
    pub(super) fn next_timeout(&self, interval: Duration) -> Instant {
        match *self {
            Link::Attached { received, sent, .. } => (received + 2 * interval).min(sent + interval),
            Link::Held { until } => until,
        }
    }
}
