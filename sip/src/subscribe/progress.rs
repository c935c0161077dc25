//! How far a subscription is: what is still to be told, what waits for its answer, and when it ends (RFC 6665 §4.2).

use crate::transaction::ClientId;
use std::time::{Duration, Instant};

/// A change is told no sooner after the last NOTIFY. A SUBSCRIBE is answered at once.
pub(super) const PACE: Duration = Duration::from_secs(1);
/// NOTIFYs that fail one after the other before nobody is thought to be there.
const MOST_FAILURES: u8 = 3;
/// How long to wait after the first failure where its answer says nothing of it; twice as long after the next.
const PATIENCE: Duration = Duration::from_secs(5);
/// A Retry-After beyond this counts as this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// All was told.
    Told,
    /// Something is to be told at this time.
    Due { at: Instant, what: News },
    /// A NOTIFY waits for its answer.
    Telling { client: ClientId, failures: u8, next: Option<News> },
    /// A NOTIFY failed; the next goes at this time.
    Failed { at: Instant, failures: u8 },
    /// The last NOTIFY waits for its answer.
    Ending { client: ClientId },
}

/// What a NOTIFY is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// The state, if it is other than what was told.
    IfChanged,
    /// The state, whatever it is: a SUBSCRIBE asked for it.
    Asked,
}

/// What happens to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// A SUBSCRIBE renewed it.
    Renewed,
    /// What is watched may have changed.
    Changed,
    /// A time has come.
    Time,
    /// The NOTIFY got this status, with this Retry-After.
    Answered { status: u16, retry_after: Option<u32> },
    /// Nobody answered the NOTIFY, or it could not be sent.
    Unanswered,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Nothing,
    /// Send a NOTIFY.
    Tell(News),
    /// Its time is over: send the last NOTIFY.
    Expire,
    /// It is no more.
    Forget,
}

/// One subscription's progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    phase: Phase,
    told_at: Option<Instant>,
    expires_at: Instant,
}

impl Progress {
    /// Of a subscription that begins.
    pub fn new(now: Instant, expires_at: Instant) -> Self {
        Self { phase: Phase::Due { at: now, what: News::Asked }, told_at: None, expires_at }
    }

    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. })
    }

    /// The NOTIFY whose answer counts.
    pub fn client(&self) -> Option<ClientId> {
        match self.phase {
            Phase::Telling { client, .. } | Phase::Ending { client } => Some(client),
            Phase::Told | Phase::Due { .. } | Phase::Failed { .. } => None,
        }
    }

    pub fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// It lasts until then.
    pub fn lasts_until(&mut self, expires_at: Instant) {
        self.expires_at = expires_at;
    }

    /// When a time comes. The last NOTIFY has its transaction's.
    pub fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Told | Phase::Telling { .. } => Some(self.expires_at),
            Phase::Due { at, .. } | Phase::Failed { at, .. } => Some(at.min(self.expires_at)),
            Phase::Ending { .. } => None,
        }
    }

    pub fn happens(&mut self, now: Instant, what: Happening) -> Deed {
        if what == Happening::Time && self.expires_at <= now && !self.is_ending() {
            return Deed::Expire;
        }
        match what {
            Happening::Renewed => self.renewed(now),
            Happening::Changed => self.changed(now),
            Happening::Time => self.time(now),
            Happening::Answered { status, retry_after } => self.answered(now, status, retry_after),
            Happening::Unanswered => self.failed(now, None),
        }
    }

    /// A NOTIFY was sent.
    pub fn told(&mut self, now: Instant, client: ClientId) {
        let failures = match self.phase {
            Phase::Failed { failures, .. } => failures,
            Phase::Told | Phase::Due { .. } | Phase::Telling { .. } | Phase::Ending { .. } => 0,
        };
        self.told_at = Some(now);
        self.phase = Phase::Telling { client, failures, next: None };
    }

    /// There was nothing new to tell.
    pub fn nothing_new(&mut self) {
        self.phase = Phase::Told;
    }

    /// The last NOTIFY was sent.
    pub fn ends(&mut self, client: ClientId) {
        self.phase = Phase::Ending { client };
    }

    fn renewed(&mut self, now: Instant) -> Deed {
        match self.phase {
            Phase::Told | Phase::Due { .. } | Phase::Failed { .. } => {
                self.phase = Phase::Due { at: now, what: News::Asked };
                Deed::Tell(News::Asked)
            }
            Phase::Telling { client, failures, .. } => {
                self.phase = Phase::Telling { client, failures, next: Some(News::Asked) };
                Deed::Nothing
            }
            Phase::Ending { .. } => Deed::Nothing,
        }
    }

    fn changed(&mut self, now: Instant) -> Deed {
        match self.phase {
            Phase::Told => self.phase = Phase::Due { at: self.next_change(now), what: News::IfChanged },
            Phase::Telling { client, failures, next } => {
                let next = next.max(Some(News::IfChanged));
                self.phase = Phase::Telling { client, failures, next };
            }
            // What goes then says how it is then.
            Phase::Due { .. } | Phase::Failed { .. } | Phase::Ending { .. } => {}
        }
        Deed::Nothing
    }

    fn time(&mut self, now: Instant) -> Deed {
        match self.phase {
            Phase::Due { at, what } if at <= now => Deed::Tell(what),
            Phase::Failed { at, .. } if at <= now => Deed::Tell(News::Asked),
            Phase::Told
            | Phase::Due { .. }
            | Phase::Telling { .. }
            | Phase::Failed { .. }
            | Phase::Ending { .. } => Deed::Nothing,
        }
    }

    fn answered(&mut self, now: Instant, status: u16, retry_after: Option<u32>) -> Deed {
        match (self.phase, status) {
            (_, 100..=199) => Deed::Nothing,
            (Phase::Ending { .. }, _) => Deed::Forget,
            (Phase::Telling { next, .. }, 200..=299) => {
                self.phase = match next {
                    None => Phase::Told,
                    Some(News::IfChanged) => Phase::Due { at: self.next_change(now), what: News::IfChanged },
                    Some(News::Asked) => Phase::Due { at: now, what: News::Asked },
                };
                if next == Some(News::Asked) { Deed::Tell(News::Asked) } else { Deed::Nothing }
            }
            (Phase::Telling { .. }, _) if ends_usage(status) => Deed::Forget,
            (Phase::Telling { .. }, _) => self.failed(now, retry_after),
            (Phase::Told | Phase::Due { .. } | Phase::Failed { .. }, _) => Deed::Nothing,
        }
    }

    fn failed(&mut self, now: Instant, retry_after: Option<u32>) -> Deed {
        match self.phase {
            Phase::Telling { failures, .. } if failures + 1 < MOST_FAILURES => {
                let wait = retry_after.map_or(PATIENCE * (1 << failures), |seconds| {
                    Duration::from_secs(seconds.into()).clamp(PACE, LONGEST_WAIT)
                });
                self.phase = Phase::Failed { at: now + wait, failures: failures + 1 };
                Deed::Nothing
            }
            Phase::Telling { .. } | Phase::Ending { .. } => Deed::Forget,
            Phase::Told | Phase::Due { .. } | Phase::Failed { .. } => Deed::Nothing,
        }
    }

    fn next_change(&self, now: Instant) -> Instant {
        self.told_at.map_or(now, |told| (told + PACE).max(now))
    }
}

/// The refusals after which there is no such subscription any more (RFC 5057 §5.1, RFC 6665 §4.2.2).
fn ends_usage(status: u16) -> bool {
    matches!(status, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604)
}
