//! Session timers (RFC 4028): who renews the session, how often, and when it counts as dead.

use super::context::{Cx, Timer};
use crate::message::{Headers, Refresher, SessionExpires};
use std::time::Duration;

/// No session is longer; a peer that asks for a year gets a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// After a failed renewal.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The session interval of one dialog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimer {
    interval: Duration,
    min_se: Duration,
    we_refresh: bool,
    /// How our 2xx to the request at hand says it.
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    refresher: Refresher,
    /// The peer renews, so it must know how: `Require: timer`.
    require: bool,
}

impl SessionTimer {
    pub fn new(interval: Duration, min_se: Duration) -> SessionTimer {
        SessionTimer { interval, min_se, we_refresh: true, answer: None }
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

    /// The peer's INVITE or UPDATE: its interval counts, within ours; whoever it names renews, else itself if it can.
    pub fn told_by_request(&mut self, headers: &Headers, peer_has_timer: bool) {
        let asked = headers.session_expires();
        if let Some(asked) = asked {
            self.interval = interval_of(asked).clamp(self.min_se, LONGEST);
        }
        let refresher = match asked.and_then(|a| a.refresher) {
            _ if !peer_has_timer => Refresher::Uas,
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
            self.interval = interval_of(told).clamp(self.min_se, LONGEST);
        }
        self.we_refresh = told.and_then(|t| t.refresher) != Some(Refresher::Uas);
    }

    /// 422: the interval that its Min-SE asks for.
    pub fn raise_to(&mut self, headers: &Headers) {
        let min_se = headers.number("Min-SE").map(|s| Duration::from_secs(s.into()));
        self.min_se = min_se.unwrap_or(self.interval * 2).clamp(self.min_se, LONGEST);
        self.interval = self.interval.max(self.min_se);
    }

    /// Begins the interval anew.
    pub fn start(&self, cx: &mut Cx<'_>) {
        let early = Duration::from_secs(32).min(self.interval / 3);
        cx.set(Timer::Expiry, self.interval - early);
        if self.we_refresh {
            cx.set(Timer::Refresh, self.interval / 2);
        } else {
            cx.clear(Timer::Refresh);
        }
    }

    /// Renewing failed or had to wait.
    pub fn try_again(&self, cx: &mut Cx<'_>) {
        cx.set(Timer::Refresh, TRY_AGAIN);
    }
}

fn interval_of(header: SessionExpires) -> Duration {
    Duration::from_secs(header.seconds.into())
}

fn seconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_secs()).unwrap_or(u32::MAX)
}
