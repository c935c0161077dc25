//! How long messages wait between CallManager and those who ask it, by dice: for tests and simulations.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

/// The longest pause, milliseconds: of what waits something passes then.
const LONGEST: u64 = 50;

/// When something of what waits passes at the latest, and how much.
pub(super) struct Delay {
    dice: StdRng,
    due: Option<Instant>,
}

impl Delay {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), due: None }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something waits from now on.
    pub(super) fn wait(&mut self, now: Instant) {
        self.due = Some(now + Duration::from_millis(self.dice.random_range(0..LONGEST)));
    }

    /// So many pass in the step at `now`, of those that wait; one at least if it is time.
    pub(super) fn some(&mut self, now: Instant, most: usize) -> usize {
        let least = usize::from(self.is_due(now));
        self.dice.random_range(least..=most.max(least))
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}
