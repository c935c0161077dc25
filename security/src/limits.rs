//! Rate limits: failed logins per user and per address, requests per session, per user and per address. The time is an
//! argument.

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Names (and as many addresses) whose failures are remembered at once. Beyond it whoever failed longest ago is
/// forgotten; to make room on purpose takes that many failed logins within the minute, from many addresses.
pub const MAX_REMEMBERED: usize = 10_000;

const WINDOW: Duration = Duration::from_secs(60);

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

/// Counts failed logins in a sliding minute, for each user name (known or not) and each address.
///
/// Ask [`check`](Self::check) before a password is verified, and once more when the verdict is there, before anybody
/// hears it: then guesses that ran side by side tell no more than the limit allows, and a crowd of honest applications
/// that reconnect at once is never held up.
#[derive(Debug)]
pub struct LoginLimiter {
    limit: usize,
    users: Failures<Arc<str>>,
    addresses: Failures<IpAddr>,
}

impl LoginLimiter {
    /// A limiter that allows so many failures a minute; at least one.
    #[must_use]
    pub fn new(max_failures_per_minute: u32) -> Self {
        let limit = usize::try_from(max_failures_per_minute.max(1)).unwrap_or(usize::MAX);
        Self { limit, users: Failures::default(), addresses: Failures::default() }
    }

    /// Another limit, from now on.
    pub fn set_limit(&mut self, max_failures_per_minute: u32) {
        self.limit = Self::new(max_failures_per_minute).limit;
    }

    /// May a login of this user from this address be tried, or its outcome be told?
    ///
    /// # Errors
    /// When the user or the address has failed as often as the limit says within the last minute.
    pub fn check(&self, now: Instant, user: &str, address: IpAddr) -> Result<(), TooMany> {
        let user = self.users.wait(now, user, self.limit);
        let address = self.addresses.wait(now, &network(address), self.limit);
        match user.max(address) {
            None => Ok(()),
            Some(retry_after) => Err(TooMany { retry_after }),
        }
    }

    /// A login failed.
    pub fn failed(&mut self, now: Instant, user: &str, address: IpAddr) {
        self.users.add(now, user.into(), self.limit);
        self.addresses.add(now, network(address), self.limit);
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

/// The times of the last minute's failures by key, oldest first, at most `limit` of each. Each step costs the logarithm
/// of their number at most: who invents names makes no work.
#[derive(Debug)]
struct Failures<K> {
    times: HashMap<K, VecDeque<Instant>>,
    /// Each key by its last failure.
    by_age: BTreeSet<(Instant, K)>,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self { times: HashMap::new(), by_age: BTreeSet::new() }
    }
}

impl<K: Hash + Ord + Clone> Failures<K> {
    /// How long the key has to wait; `None` = not at all.
    fn wait<Q: Hash + Eq + ?Sized>(&self, now: Instant, key: &Q, limit: usize) -> Option<Duration>
    where
        K: std::borrow::Borrow<Q>,
    {
        let times = self.times.get(key)?;
        let decisive = times.len().checked_sub(limit).and_then(|at| times.get(at))?;
        (*decisive + WINDOW).checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    fn add(&mut self, now: Instant, key: K, limit: usize) {
        self.forget(now, if self.times.contains_key(&key) { MAX_REMEMBERED } else { MAX_REMEMBERED - 1 });
        let times = self.times.entry(key.clone()).or_default();
        if let Some(last) = times.back() {
            self.by_age.remove(&(*last, key.clone()));
        }
        times.push_back(now);
        self.by_age.insert((now, key));
        let over = |first: &Instant| now.saturating_duration_since(*first) >= WINDOW;
        while times.len() > limit || times.front().is_some_and(over) {
            times.pop_front();
        }
    }

    /// Forgets who has not failed for a minute, and the stalest of those beyond `keep`.
    fn forget(&mut self, now: Instant, keep: usize) {
        while let Some((last, _)) = self.by_age.first()
            && (self.times.len() > keep || now.saturating_duration_since(*last) >= WINDOW)
        {
            if let Some((_, key)) = self.by_age.pop_first() {
                self.times.remove(&key);
            }
        }
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
    use super::{FEW, LoginLimiter, MAX_REMEMBERED, RequestRate, RequestRates, TooMany};
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Tests need some instant to count from; which one makes no difference.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_eleventh_try_of_a_minute_waits_until_the_first_failure_is_a_minute_old() {
        let (mut limiter, t0) = (LoginLimiter::new(10), start());
        let from = address("192.0.2.1");
        for n in 0..10 {
            assert_eq!(limiter.check(t0 + n * MS, "alice", from), Ok(()));
            limiter.failed(t0 + n * MS, "alice", from);
        }
        let refused = limiter.check(t0 + 10 * MS, "alice", from).unwrap_err();
        assert_eq!(refused.retry_after_ms(), 59_990);
        assert!(
            limiter.check(t0 + 10 * MS, "alice", address("192.0.2.2")).is_err(),
            "the user from elsewhere"
        );
        assert!(limiter.check(t0 + 10 * MS, "bob", from).is_err(), "another user from there");
        assert_eq!(limiter.check(t0 + 10 * MS, "bob", address("192.0.2.2")), Ok(()));
        assert!(limiter.check(t0 + Duration::from_secs(60) - MS, "alice", from).is_err());
        assert_eq!(limiter.check(t0 + Duration::from_secs(60), "alice", from), Ok(()));
    }

    #[test]
    fn a_lower_limit_binds_at_once() {
        let (mut limiter, t0) = (LoginLimiter::new(10), start());
        for n in 0..3 {
            limiter.failed(t0 + n * MS, "alice", address("192.0.2.1"));
        }
        limiter.set_limit(2);
        let refused = limiter.check(t0 + 3 * MS, "alice", address("192.0.2.9")).unwrap_err();
        assert_eq!(refused.retry_after_ms(), 59_998, "from the second failure on");
    }

    #[test]
    fn a_high_limit_keeps_no_more_than_a_minute() {
        let (mut limiter, t0) = (LoginLimiter::new(1_000_000), start());
        for second in 0..600 {
            limiter.failed(t0 + Duration::from_secs(second), "alice", address("192.0.2.1"));
        }
        assert_eq!(limiter.users.times["alice"].len(), 60);
    }

    #[test]
    fn a_slash_64_counts_as_one_address_and_mapped_ones_as_ipv4() {
        let (mut limiter, t0) = (LoginLimiter::new(1), start());
        limiter.failed(t0, "a", address("2001:db8:1:2::1"));
        assert!(limiter.check(t0, "b", address("2001:db8:1:2:ffff::9")).is_err());
        assert!(limiter.check(t0, "b", address("2001:db8:1:3::1")).is_ok());
        limiter.failed(t0, "c", address("::ffff:192.0.2.1"));
        assert!(limiter.check(t0, "d", address("192.0.2.1")).is_err());
    }

    #[test]
    fn memory_is_bounded_and_the_stalest_is_forgotten() {
        let (mut limiter, t0) = (LoginLimiter::new(1), start());
        let from = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let most = u32::try_from(MAX_REMEMBERED).unwrap();
        for n in 0..=most {
            limiter.failed(t0 + n * Duration::from_micros(1), &format!("user{n}"), from(n));
        }
        assert_eq!(limiter.users.times.len(), MAX_REMEMBERED);
        assert_eq!(limiter.addresses.times.len(), MAX_REMEMBERED);
        let now = t0 + Duration::from_secs(1);
        assert!(limiter.check(now, "user0", address("192.0.2.1")).is_ok(), "the oldest went");
        assert!(limiter.check(now, "user1", address("192.0.2.1")).is_err());
        limiter.failed(t0 + Duration::from_secs(120), "late", from(1));
        assert_eq!(limiter.users.times.len(), 1, "what is over is thrown away first");
    }

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

    /// A million names within a second: the stalest goes each time, at no more cost than the first.
    #[test]
    fn millions_of_invented_names_are_no_work() {
        let (mut limiter, t0) = (LoginLimiter::new(10), start());
        let from = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        for n in 0..50_000 {
            limiter.failed(t0 + n * Duration::from_micros(1), &format!("user{n}"), from(n));
        }
        for failures in
            [limiter.users.times.len(), limiter.users.by_age.len(), limiter.addresses.by_age.len()]
        {
            assert_eq!(failures, MAX_REMEMBERED);
        }
        assert!(limiter.users.times.contains_key("user49999"));
        assert!(!limiter.users.times.contains_key("user0"));
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
