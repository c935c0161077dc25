//! Session timers (RFC 4028): who renews the session, how often, and when it counts as dead.
//!
//! The headers follow the standard, but how long a peer may be silent does not depend on the interval that it asked for: when
//! nothing came from it for the longest interval of ours the call ends, and before that we send a refresh of our own.

use super::context::{Cx, Timer};
use crate::message::{Headers, Refresher, SessionExpires};
use std::time::Duration;

/// No `Min-SE` above this is followed.
const LONGEST: Duration = Duration::from_secs(86_400);

/// After a failed renewal.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The session interval of one dialog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimer {
    /// As it is said on the wire.
    interval: Duration,
    min_se: Duration,
    /// The longest interval of ours; the wire's may be longer where the peer's `Min-SE` is.
    most: Duration,
    we_refresh: bool,
    /// How our 2xx to the request at hand says it.
    answer: Option<Answer>,
}

/// Whether the peer knows session timers (`Supported: timer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerTimer {
    Supported,
    Unsupported,
}

impl PeerTimer {
    pub fn when(supported: bool) -> Self {
        if supported { PeerTimer::Supported } else { PeerTimer::Unsupported }
    }

    /// What a peer of which no more is known says itself.
    pub fn said_by(headers: &Headers) -> Self {
        Self::when(headers.has_token("Supported", "timer"))
    }
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    refresher: Refresher,
    /// The peer renews, so it must know how: `Require: timer`.
    require: bool,
}

impl SessionTimer {
    /// With the longest interval that we grant, which is what we ask for.
    pub fn new(most: Duration, min_se: Duration) -> SessionTimer {
        SessionTimer { interval: most.max(min_se), min_se, most, we_refresh: true, answer: None }
    }

    pub fn min_se(&self) -> Duration {
        self.min_se
    }

    /// What an INVITE of ours asks for; who renews, the callee may choose.
    pub fn interval_seconds(&self) -> u32 {
        seconds(self.interval)
    }

    /// What a request of ours asks for: who renews stays as it is.
    pub fn ask(&self) -> SessionExpires {
        let refresher = if self.we_refresh { Refresher::Uac } else { Refresher::Uas };
        SessionExpires { seconds: seconds(self.interval), refresher: Some(refresher) }
    }

    /// The least interval we accept, when the request asks for less: 422.
    pub fn too_small(&self, headers: &Headers) -> Option<Duration> {
        let asked = headers.session_expires()?;
        (interval_of(asked) < self.min_se).then_some(self.min_se)
    }

    /// The peer's INVITE or UPDATE: its interval counts, within ours but not below its `Min-SE` (RFC 4028 §9); whoever it
    /// names renews, else itself if it can.
    pub fn told_by_request(&mut self, headers: &Headers, peer: PeerTimer) {
        let asked = headers.session_expires();
        if let Some(asked) = asked {
            let least = min_se_of(headers).unwrap_or(Duration::ZERO).min(interval_of(asked)).min(LONGEST);
            self.interval = interval_of(asked).clamp(self.min_se, self.most.max(least));
        }
        let refresher = match asked.and_then(|a| a.refresher) {
            _ if peer == PeerTimer::Unsupported => Refresher::Uas,
            Some(refresher) => refresher,
            None if asked.is_some() => Refresher::Uac,
            None => Refresher::Uas,
        };
        self.we_refresh = refresher == Refresher::Uas;
        self.answer = Some(Answer { refresher, require: refresher == Refresher::Uac });
    }

    /// Headers of our 2xx.
    pub fn answer(&mut self, headers: &mut Headers) {
        if let Some(answer) = self.answer.take() {
            if answer.require {
                headers.push("Require", "timer");
            }
            let value = SessionExpires { seconds: seconds(self.interval), refresher: Some(answer.refresher) };
            headers.push("Session-Expires", value.to_string());
        }
    }

    /// The peer's 2xx to a request of ours. A peer that knows no timers is asked again by us all the same: it is how a
    /// call whose peer has vanished is found.
    pub fn told_by_answer(&mut self, told: Option<SessionExpires>) {
        if let Some(told) = told {
            // No answer may be longer than what was asked.
            self.interval = interval_of(told).clamp(self.min_se, self.interval.max(self.min_se));
        }
        self.we_refresh = told.and_then(|t| t.refresher) != Some(Refresher::Uas);
    }

    /// 422: the interval that its Min-SE asks for.
    pub fn raise_to(&mut self, headers: &Headers) {
        self.min_se = min_se_of(headers).unwrap_or(self.interval * 2).clamp(self.min_se, LONGEST);
        self.interval = self.interval.max(self.min_se);
    }

    /// Begins the interval anew. We renew at its half, or ask at three quarters where the peer wished to renew and has
    /// not: either may at any time, and who knows no timers is asked all the same.
    pub fn start(&self, cx: &mut Cx<'_>) {
        let interval = self.interval.min(self.most);
        let early = Duration::from_secs(32).min(interval / 3);
        cx.set(Timer::Expiry, interval - early);
        // With 90 s that is 60 s before the end: time for a request without any answer.
        let ask =
            if self.we_refresh { interval / 2 } else { (interval * 3 / 4).min(interval - early * 5 / 4) };
        cx.set(Timer::Refresh, ask);
    }

    /// Renewing failed or had to wait.
    pub fn try_again(&self, cx: &mut Cx<'_>) {
        cx.set(Timer::Refresh, TRY_AGAIN);
    }
}

fn min_se_of(headers: &Headers) -> Option<Duration> {
    headers.number("Min-SE").map(|seconds| Duration::from_secs(seconds.into()))
}

fn interval_of(header: SessionExpires) -> Duration {
    Duration::from_secs(header.seconds.into())
}

fn seconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_secs()).unwrap_or(u32::MAX)
}
