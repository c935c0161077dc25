//! The one source of chance of a run.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Numbers that a seed decides.
pub(super) struct Dice(StdRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Another source, decided by this one.
    pub(super) fn split(&mut self) -> Self {
        Self::new(self.0.random())
    }

    pub(super) fn seed(&mut self) -> [u8; 32] {
        self.0.random()
    }

    /// `0 .. bound`; the bound is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn per_mille(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Milliseconds in this range, to the microsecond.
    pub(super) fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.below((to - from).max(1) * 1000))
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let bound = u64::try_from(from.len()).unwrap_or(u64::MAX);
        &from[usize::try_from(self.below(bound)).unwrap_or(0)]
    }

    /// `0 ..= most`.
    pub(super) fn up_to(&mut self, most: usize) -> usize {
        usize::try_from(self.below(most as u64 + 1)).unwrap_or(0)
    }
}
