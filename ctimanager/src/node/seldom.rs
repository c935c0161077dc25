//! What would be reported too often: one of its kind is let through a second, the others are counted.

use std::time::{Duration, Instant};

/// Lets one report a second through and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    last: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// Whether to tell this one: then, how many were not told since the last.
    pub(super) fn tell(&mut self, now: Instant) -> Option<u64> {
        let second = Duration::from_secs(1);
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < second) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}
