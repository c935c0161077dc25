//! A rate: so many a second, and as many at once after a pause.

use std::time::{Duration, Instant};

/// The generic cell rate algorithm (ITU-T I.371): all that is remembered is when the next one would be due if they came
/// evenly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    due: Option<Instant>,
}

impl Pace {
    /// Whether one more is within the rate; else how long until it is.
    pub(crate) fn allows(&self, now: Instant, per_second: u32) -> Result<(), Duration> {
        let Some(due) = self.due else { return Ok(()) };
        let ahead = due.saturating_duration_since(now) + interval(per_second);
        match ahead.checked_sub(Duration::from_secs(1)).filter(|wait| !wait.is_zero()) {
            None => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    /// Counts one.
    pub(crate) fn count(&mut self, now: Instant, per_second: u32) {
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + interval(per_second));
    }
}

fn interval(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &mut Pace, now: Instant, rate: u32, tries: u32) -> u32 {
        let mut taken = 0;
        for _ in 0..tries {
            if pace.allows(now, rate).is_ok() {
                pace.count(now, rate);
                taken += 1;
            }
        }
        taken
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
    fn a_second_holds_the_rate_and_a_pause_its_burst() {
        let start = Instant::now();
        for rate in [1, 3, 20, 1000] {
            let mut pace = Pace::default();
            assert_eq!(taken(&mut pace, start, rate, 3000), rate, "at once");
            let wait = pace.allows(start, rate).expect_err("all are taken");
            assert!(wait <= Duration::from_secs(1) / rate, "{wait:?}");
            assert_eq!(pace.allows(start + wait, rate), Ok(()), "then it is allowed");
            let half = start + Duration::from_millis(500);
            assert_eq!(taken(&mut pace, half, rate, 3000), rate / 2, "half a second gives half of them");
            let later = start + Duration::from_secs(60);
            assert_eq!(taken(&mut pace, later, rate, 3000), rate, "a pause gives no more than the burst");
        }
        let mut unlimited = Pace::default();
        assert_eq!(taken(&mut unlimited, start, u32::MAX, 100_000), 100_000);
    }
}
