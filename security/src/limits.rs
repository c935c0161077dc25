//! Rates of requests: per session, per user and per address. The time is an argument. Passwords and all else have
//! [`shares`](crate::shares).

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Too much: try again after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts: try again in {} ms", .retry_after.as_millis())]
pub struct TooMany {
    /// How long to wait; never zero.
    pub retry_after: Duration,
}

impl TooMany {
    /// For `data.retry_after_ms`, rounded up.
    #[must_use]
    pub fn retry_after_ms(&self) -> u64 {
        u64::try_from(self.retry_after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// Whom an address counts as: one customer of IPv6 has a /64 at least, and so 2^64 addresses: they count as one.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// The rate of one session's requests; the burst equals the rate (`max_requests_per_second`).
pub struct RequestRate {
    start: Instant,
    /// Requests' worth that is still to be paid, by [`RequestRate::charge`].
    owed: u32,
    per_second: u32,
    limiter: RateLimiter<NotKeyed, InMemoryState, ToldClock, NoOpMiddleware<Duration>>,
}

impl RequestRate {
    /// Allows so many requests a second, at least one, counted from `now`.
    #[must_use]
    pub fn new(now: Instant, per_second: u32) -> Self {
        let quota = Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN));
        let limiter = RateLimiter::direct_with_clock(quota, ToldClock::default());
        Self { start: now, owed: 0, per_second: per_second.max(1), limiter }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// When the session has used up its burst; the request counts for nothing then.
    pub fn check(&mut self, now: Instant) -> Result<(), TooMany> {
        self.pay(now);
        if self.owed > 0 {
            let retry_after = Duration::from_secs(1) * self.owed / self.per_second;
            return Err(TooMany { retry_after: retry_after.max(Duration::from_millis(1)) });
        }
        self.take(now)
    }

    /// A request that was taken cost so many more: further ones are refused until that is paid.
    pub fn charge(&mut self, now: Instant, requests: u32) {
        // No more is owed than a second's worth, whatever it did: a burst pays that.
        self.owed = self.owed.saturating_add(requests).min(self.per_second);
        self.pay(now);
    }

    fn pay(&mut self, now: Instant) {
        while self.owed > 0 && self.take(now).is_ok() {
            self.owed -= 1;
        }
    }

    fn take(&self, now: Instant) -> Result<(), TooMany> {
        let since = now.saturating_duration_since(self.start);
        self.limiter.clock().tell(since);
        self.limiter.check().map_err(|not_until| TooMany {
            retry_after: not_until.wait_time_from(self.limiter.clock().now()).max(Duration::from_millis(1)),
        })
    }
}

impl std::fmt::Debug for RequestRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestRate")
    }
}

/// Keys below which [`RequestRates`] never looks for whom to forget.
const FEW: usize = 1_024;

/// The rates of many, each on its own: the users' or the addresses' requests, whatever sessions and connections they
/// come from. Who was silent for a second has his whole burst again, so that to forget him then loses nothing; that is
/// done whenever twice as many are known as were active at the last time.
#[derive(Debug)]
pub struct RequestRates<K> {
    per_second: u32,
    known: HashMap<K, Known>,
    look_at: usize,
}

#[derive(Debug)]
struct Known {
    last: Instant,
    rate: RequestRate,
}

impl<K: Hash + Eq + Clone> RequestRates<K> {
    /// Allows each key so many requests a second, at least one; the burst is the same.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { per_second, known: HashMap::new(), look_at: FEW }
    }

    /// Another rate, from now on; everybody has his burst anew.
    pub fn set_rate(&mut self, per_second: u32) {
        if self.per_second != per_second {
            *self = Self::new(per_second);
        }
    }

    /// See [`RequestRate::charge`].
    pub fn charge(&mut self, now: Instant, key: &K, requests: u32) {
        if let Some(known) = self.known.get_mut(key) {
            known.rate.charge(now, requests);
        }
    }

    /// Takes one request of this key.
    ///
    /// # Errors
    /// When it has used up its burst; the request counts for nothing then.
    pub fn check(&mut self, now: Instant, key: &K) -> Result<(), TooMany> {
        if let Some(known) = self.known.get_mut(key) {
            known.last = now;
            return known.rate.check(now);
        }
        if self.known.len() >= self.look_at {
            self.known.retain(|_, known| now.saturating_duration_since(known.last) < Duration::from_secs(1));
            self.look_at = (2 * self.known.len()).max(FEW);
        }
        let mut rate = RequestRate::new(now, self.per_second);
        let checked = rate.check(now);
        self.known.insert(key.clone(), Known { last: now, rate });
        checked
    }
}

/// A clock for governor that only knows what it was told: nanoseconds since the session began.
#[derive(Debug, Default)]
struct ToldClock(AtomicU64);

impl ToldClock {
    fn tell(&self, since_start: Duration) {
        self.0.store(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for ToldClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::{FEW, RequestRate, RequestRates, TooMany};
    use std::time::{Duration, Instant};

    /// Tests need some instant to count from; which one makes no difference.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn requests_have_a_burst_and_then_a_rate() {
        let t0 = start();
        let mut rate = RequestRate::new(t0, 500);
        assert!((0..500).all(|_| rate.check(t0).is_ok()));
        assert_eq!(rate.check(t0), Err(TooMany { retry_after: 2 * MS }));
        assert_eq!(rate.check(t0 + 2 * MS), Ok(()));
        assert!(rate.check(t0 + 2 * MS).is_err());
        assert!((0..500).all(|_| rate.check(t0 + Duration::from_secs(10)).is_ok()));
        assert!(rate.check(t0 + Duration::from_secs(10)).is_err());
    }

    #[test]
    fn what_a_request_cost_is_paid_before_the_next_one() {
        let t0 = start();
        let mut rate = RequestRate::new(t0, 100);
        assert_eq!(rate.check(t0), Ok(()));
        rate.charge(t0, 49);
        assert!((0..50).all(|_| rate.check(t0).is_ok()), "half of the burst is left");
        assert!(rate.check(t0).is_err());
        rate.charge(t0, 49);
        assert_eq!(rate.check(t0), Err(TooMany { retry_after: 490 * MS }));
        assert!(rate.check(t0 + 485 * MS).is_err());
        assert_eq!(rate.check(t0 + 505 * MS), Ok(()));
        let later = t0 + Duration::from_secs(60);
        rate.charge(later, u32::MAX);
        assert_eq!(rate.check(later + 15 * MS), Ok(()), "a second's worth is the most");
        let mut rates = RequestRates::<&str>::new(10);
        assert_eq!(rates.check(t0, &"alice"), Ok(()));
        rates.charge(t0, &"alice", 10);
        rates.charge(t0, &"nobody", 10);
        assert!(rates.check(t0, &"alice").is_err() && rates.check(t0, &"bob").is_ok());
    }

    #[test]
    fn each_key_has_a_rate_of_its_own_and_the_silent_are_forgotten_without_loss() {
        let (mut rates, t0) = (RequestRates::<String>::new(2), start());
        let alice = "alice".to_owned();
        assert!((0..2).all(|_| rates.check(t0, &alice).is_ok()));
        assert_eq!(rates.check(t0, &alice), Err(TooMany { retry_after: 500 * MS }));
        assert_eq!(rates.check(t0, &"bob".into()), Ok(()));
        for n in 0..10 * FEW {
            assert_eq!(rates.check(t0 + 2 * MS, &n.to_string()), Ok(()));
        }
        let later = t0 + Duration::from_secs(2);
        let most = (0..100_000_u32).map(|n| {
            let at = later + n * MS;
            assert!(rates.check(at, &format!("late {n}")).is_ok());
            rates.known.len()
        });
        // Two thousand of them speak within a second, whatever their names.
        let most = most.skip(20_000).max().unwrap();
        assert!(most <= 4 * FEW, "{most}");
        rates.set_rate(1);
        assert_eq!(rates.check(later, &alice), Ok(()));
        assert!(rates.check(later, &alice).is_err());
    }
}
