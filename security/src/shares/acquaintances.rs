//! Addresses behind which somebody is known: new connections are expected from there, many at a time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many are remembered; the one that was met longest ago makes room.
pub(super) const MAX_MET: usize = 10_000;
/// For so long: a phone registers again and an application comes back within a day.
pub(super) const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Within this time a meeting is no later one: thousands who prove themselves behind one address make little work.
const ALIKE: Duration = Duration::from_secs(60);

/// All of them, each a network.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    named: HashSet<IpAddr>,
    met: HashMap<IpAddr, Instant>,
    /// By when each was met last.
    by_age: BTreeSet<(Instant, IpAddr)>,
}

impl Acquaintances {
    pub(super) fn knows(&self, now: Instant, address: IpAddr) -> bool {
        let recently = |met: &Instant| now.saturating_duration_since(*met) < REMEMBERED;
        self.named.contains(&address) || self.met.get(&address).is_some_and(recently)
    }

    pub(super) fn named(&mut self, addresses: HashSet<IpAddr>) {
        self.named = addresses;
    }

    pub(super) fn met(&mut self, now: Instant, address: IpAddr) {
        match self.met.get_mut(&address) {
            Some(met) if now.saturating_duration_since(*met) < ALIKE => return,
            Some(met) => {
                self.by_age.remove(&(*met, address));
                *met = now;
            }
            None => {
                if self.met.len() >= MAX_MET
                    && let Some((_, stalest)) = self.by_age.pop_first()
                {
                    self.met.remove(&stalest);
                }
                self.met.insert(address, now);
            }
        }
        self.by_age.insert((now, address));
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 2] {
        [self.met.len(), self.by_age.len()]
    }
}
