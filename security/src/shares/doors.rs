//! Passwords: failures of a name and of an address, and where a name was let in before.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names (and as many addresses) whose failures are remembered at once. Beyond it whoever failed longest ago is
/// forgotten; to make room on purpose takes that many failures, from many addresses.
pub(super) const MAX_REMEMBERED: usize = 10_000;
/// Networks at which a name is at home; the one that was used longest ago makes room.
pub(super) const MAX_HOMES: usize = 16;
/// How many times the share of a stranger one has who tries a name where it is at home.
const AT_HOME: usize = 10;

const WINDOW: Duration = Duration::from_secs(60);
/// An address that uses up its share again and again waits 1, 2, 4, 8, 16 minutes; a name only ever one, since anybody
/// can use up its share.
const MOST_DOUBLINGS: u32 = 4;
/// How long a failure of an address counts for the length of its next wait.
const MEMORY: Duration = Duration::from_secs(60 * 32);

/// One door.
#[derive(Debug)]
pub(super) struct Guard {
    limit: usize,
    names: Failures<Arc<str>>,
    addresses: Failures<IpAddr>,
    homes: HashMap<Arc<str>, VecDeque<IpAddr>>,
    /// Failures at home, of the pair alone.
    pairs: Failures<(Arc<str>, IpAddr)>,
}

impl Guard {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            names: Failures::new(0),
            addresses: Failures::new(MOST_DOUBLINGS),
            homes: HashMap::new(),
            pairs: Failures::new(0),
        }
    }

    pub(super) fn set(&mut self, limit: u64) {
        self.limit = usize::try_from(limit).unwrap_or(usize::MAX);
    }

    pub(super) fn most(&self) -> u64 {
        u64::try_from(self.limit).unwrap_or(u64::MAX)
    }

    /// How long to wait, and whether it is the address' share that is used up.
    pub(super) fn wait(&self, now: Instant, name: &str, from: IpAddr) -> Option<(Duration, bool)> {
        if let Some(name) = self.home(name, from) {
            let wait = self.pairs.wait(now, &(name, from), self.at_home());
            return wait.map(|wait| (wait, true));
        }
        let (name, address) =
            (self.names.wait(now, name, self.limit), self.addresses.wait(now, &from, self.limit));
        name.max(address).map(|wait| (wait, address >= name))
    }

    /// How long a name at this address has to wait, whether it is at home there or not.
    pub(super) fn wait_of_pair(&self, now: Instant, name: &str, from: IpAddr) -> Option<Duration> {
        self.pairs.wait(now, &(Arc::from(name), from), self.at_home())
    }

    pub(super) fn pair_failed(&mut self, now: Instant, name: &str, from: IpAddr) {
        self.pairs.add(now, (name.into(), from), self.at_home());
    }

    pub(super) fn proved(&mut self, name: &str, from: IpAddr) {
        match self.homes.get_mut(name) {
            Some(homes) if homes.back() == Some(&from) => {}
            Some(homes) => {
                homes.retain(|home| *home != from);
                if homes.len() >= MAX_HOMES {
                    homes.pop_front();
                }
                homes.push_back(from);
            }
            None => drop(self.homes.insert(name.into(), VecDeque::from([from]))),
        }
    }

    pub(super) fn disproved(&mut self, now: Instant, name: &str, from: IpAddr) {
        if let Some(name) = self.home(name, from) {
            return self.pairs.add(now, (name, from), self.at_home());
        }
        self.names.add(now, name.into(), self.limit);
        self.addresses.add(now, from, self.limit);
    }

    pub(super) fn is_at_home(&self, name: &str, from: IpAddr) -> bool {
        self.homes.get(name).is_some_and(|homes| homes.contains(&from))
    }

    fn home(&self, name: &str, from: IpAddr) -> Option<Arc<str>> {
        let (name, homes) = self.homes.get_key_value(name)?;
        homes.contains(&from).then(|| Arc::clone(name))
    }

    fn at_home(&self) -> usize {
        self.limit.saturating_mul(AT_HOME)
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 4] {
        [
            self.names.recent.len(),
            self.names.by_age.len(),
            self.addresses.recent.len(),
            self.addresses.by_age.len(),
        ]
    }
}

/// The last minute's failures of one, oldest first, at most `limit` of them.
#[derive(Debug, Default)]
struct Recent {
    times: VecDeque<Instant>,
    /// How often in a row the share was used up.
    strikes: u32,
    until: Option<Instant>,
}

/// Failures by key. Each step costs the logarithm of their number at most: who invents names makes no work.
#[derive(Debug)]
struct Failures<K> {
    most_doublings: u32,
    recent: HashMap<K, Recent>,
    /// Each key by its last failure.
    by_age: BTreeSet<(Instant, K)>,
}

impl<K: Hash + Ord + Clone> Failures<K> {
    fn new(most_doublings: u32) -> Self {
        Self { most_doublings, recent: HashMap::new(), by_age: BTreeSet::new() }
    }

    /// How long the key has to wait; `None` = not at all.
    fn wait<Q: Hash + Eq + ?Sized>(&self, now: Instant, key: &Q, limit: usize) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        let recent = self.recent.get(key)?;
        // The limit may have been lowered since.
        let decisive = recent.times.len().checked_sub(limit).and_then(|at| recent.times.get(at));
        let until = decisive.map(|at| *at + WINDOW).max(recent.until)?;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    fn add(&mut self, now: Instant, key: K, limit: usize) {
        self.forget(now, if self.recent.contains_key(&key) { MAX_REMEMBERED } else { MAX_REMEMBERED - 1 });
        let recent = self.recent.entry(key.clone()).or_default();
        if let Some(last) = recent.times.back() {
            self.by_age.remove(&(*last, key.clone()));
        }
        recent.times.push_back(now);
        self.by_age.insert((now, key));
        let over = |first: &Instant| now.saturating_duration_since(*first) >= WINDOW;
        while recent.times.len() > limit || recent.times.front().is_some_and(over) {
            recent.times.pop_front();
        }
        // Whoever was good for twice as long as he had to wait begins anew.
        let calm = |until: Instant| now.saturating_duration_since(until) > WINDOW * (2 << recent.strikes);
        if recent.until.is_some_and(calm) {
            recent.strikes = 0;
        }
        if recent.times.len() >= limit
            && let Some(first) = recent.times.front()
        {
            recent.until = Some(*first + WINDOW * (1 << recent.strikes));
            recent.strikes = (recent.strikes + 1).min(self.most_doublings);
        }
    }

    /// Forgets who has not failed for long, and the stalest of those beyond `keep`.
    fn forget(&mut self, now: Instant, keep: usize) {
        let memory = if self.most_doublings == 0 { WINDOW } else { MEMORY };
        while let Some((last, _)) = self.by_age.first()
            && (self.recent.len() > keep || now.saturating_duration_since(*last) >= memory)
        {
            if let Some((_, key)) = self.by_age.pop_first() {
                self.recent.remove(&key);
            }
        }
    }
}
