//! What is used up: a bucket for each, that fills again with time.

use super::{MAX_KNOWN, Who};
use crate::limits::TooMany;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Nobody waits longer for what was done already.
const MOST_CHARGED: Duration = Duration::from_secs(1);
/// As many are known before it is looked whom to forget.
const FEW: usize = 256;
/// A crowd that fills the memory is looked through no oftener.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The buckets of one row, each as the moment at which it is full again (GCRA, ITU-T I.371).
#[derive(Debug)]
pub(super) struct Buckets {
    per_second: u64,
    /// As long as an empty bucket needs to fill.
    burst: Duration,
    full_at: HashMap<Who, Instant>,
    /// The one bucket of all who came when as many were active as are told apart.
    crowd: Option<Instant>,
    look_at: usize,
    looked: Option<Instant>,
}

impl Buckets {
    pub(super) fn new(per_second: u64, burst: Duration) -> Self {
        Self { per_second, burst, full_at: HashMap::new(), crowd: None, look_at: FEW, looked: None }
    }

    /// With another rate everybody has his burst anew.
    pub(super) fn set(&mut self, per_second: u64) {
        if self.per_second != per_second {
            *self = Self::new(per_second, self.burst);
        }
    }

    pub(super) fn most(&self) -> u64 {
        self.per_second
    }

    pub(super) fn take(&mut self, now: Instant, who: &Who, price: u64) -> Result<(), TooMany> {
        let (spent, burst) = (self.time_of(price), self.burst);
        if let Some(full_at) = self.full_at.get_mut(who) {
            return draw(full_at, now, spent, burst);
        }
        if self.full_at.len() >= self.look_at {
            self.forget(now);
        }
        if self.full_at.len() >= MAX_KNOWN {
            return draw(self.crowd.get_or_insert(now), now, spent, burst);
        }
        let mut full_at = now;
        let taken = draw(&mut full_at, now, spent, burst);
        self.full_at.insert(who.clone(), full_at);
        taken
    }

    /// Takes what was done already, at most a second's worth, so that nobody waits longer than that for it.
    pub(super) fn charge(&mut self, now: Instant, who: &Who, price: u64) {
        let spent = self.time_of(price).min(MOST_CHARGED);
        if let Some(full_at) = self.full_at.get_mut(who).or(self.crowd.as_mut()) {
            *full_at = ((*full_at).max(now) + spent).min(now + self.burst + MOST_CHARGED);
        }
    }

    fn time_of(&self, price: u64) -> Duration {
        Duration::from_nanos(price.saturating_mul(1_000_000_000) / self.per_second.max(1))
    }

    /// Forgets those whose bucket is full: nothing is lost.
    fn forget(&mut self, now: Instant) {
        let recently = |at: Instant| now.saturating_duration_since(at) < LOOK_AGAIN;
        if self.full_at.len() >= MAX_KNOWN && self.looked.is_some_and(recently) {
            return;
        }
        self.looked = Some(now);
        self.full_at.retain(|_, full_at| *full_at > now);
        self.look_at = (2 * self.full_at.len()).clamp(FEW, MAX_KNOWN);
        self.full_at.shrink_to(self.look_at);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.full_at.len()
    }
}

fn draw(full_at: &mut Instant, now: Instant, spent: Duration, burst: Duration) -> Result<(), TooMany> {
    let after = (*full_at).max(now) + spent;
    let over = after.saturating_duration_since(now).saturating_sub(burst.max(spent));
    if over.is_zero() {
        *full_at = after;
        return Ok(());
    }
    Err(TooMany { retry_after: over })
}
