//! What is verified for a name that has no password: a hash that nothing matches and that costs what a known user's
//! might. Where all hashes cost the same, so does every refusal. Where they don't, each unknown name has the cost of some
//! user, drawn once and for all from the name and a secret: then a slow or a quick refusal says nothing of whether the
//! name exists, also when it is asked again.

use crate::password::{self, Cost};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The stand-ins, one for each cost that a user's hash has.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Decoys {
    /// Whoever knows the hashes needs no timing: so they are the secret, which also stays over a restart.
    secret: u64,
    /// Each with the number of users up to and with its cost.
    kinds: Vec<(u64, Arc<str>)>,
}

impl Decoys {
    /// For users with these hashes, in whatever order.
    pub(crate) fn like<'a>(hashes: impl Iterator<Item = &'a str>) -> Self {
        let mut hashes: Vec<&str> = hashes.collect();
        hashes.sort_unstable();
        let mut hasher = DefaultHasher::new();
        hashes.hash(&mut hasher);
        let mut users: BTreeMap<Cost, u64> = BTreeMap::new();
        for cost in hashes.into_iter().filter_map(password::cost) {
            *users.entry(cost).or_default() += 1;
        }
        if users.is_empty() {
            users.insert(Cost::default(), 1);
        }
        let mut sum = 0;
        let kinds = users.into_iter().map(|(cost, count)| {
            sum += count;
            (sum, password::decoy(cost).into())
        });
        Self { kinds: kinds.collect(), secret: hasher.finish() }
    }

    /// The stand-in for this name; the same each time.
    pub(crate) fn of(&self, name: &str) -> Arc<str> {
        let mut hasher = DefaultHasher::new();
        (self.secret, name).hash(&mut hasher);
        let all = self.kinds.last().map_or(1, |(sum, _)| *sum);
        let drawn = hasher.finish() % all;
        let kind = self.kinds.iter().find(|(sum, _)| drawn < *sum);
        kind.map_or_else(|| password::decoy(Cost::default()).into(), |(_, hash)| hash.clone())
    }
}

impl fmt::Debug for Decoys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoys").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Decoys;
    use crate::password::{Cost, check, cost};

    const TAG: &str = "c29tZXNhbHRzb21lc2FsdA$bm8gcGFzc3dvcmQgaXMga25vd24gdG8gbWF0Y2ggdGg";

    fn hash(memory: u32) -> String {
        format!("$argon2id$v=19$m={memory},t=1,p=1${TAG}")
    }

    #[test]
    fn an_unknown_name_costs_what_all_users_cost() {
        let hashes = [hash(64), hash(64)];
        let decoys = Decoys::like(hashes.iter().map(String::as_str));
        for name in ["alice", "bob", ""] {
            assert_eq!(check(&decoys.of(name)), Ok(()));
            assert_eq!(cost(&decoys.of(name)), cost(&hashes[0]));
        }
        assert_eq!(cost(&Decoys::like(std::iter::empty()).of("alice")), Some(Cost::default()));
    }

    #[test]
    fn where_costs_differ_unknown_names_are_as_mixed_as_the_known_and_each_stays_what_it_was() {
        let (cheap, costly) = (hash(64), hash(128));
        let users = [&cheap, &cheap, &costly, &cheap];
        let decoys = Decoys::like(users.iter().map(|hash| hash.as_str()));
        let again = Decoys::like(users.iter().rev().map(|hash| hash.as_str()));
        let name = |n: u32| format!("name{n}");
        let slow = (0..4_000).filter(|n| cost(&decoys.of(&name(*n))) == cost(&costly)).count();
        assert!((900..1_100).contains(&slow), "a quarter of them: {slow}");
        assert!((0..100).all(|n| decoys.of(&name(n)) == again.of(&name(n))), "also after a restart");
        let others = [hash(65), hash(65), hash(129), hash(65)];
        let others = Decoys::like(others.iter().map(String::as_str));
        let differ = |n: &u32| {
            let slow = cost(&others.of(&name(*n))) == cost(&hash(129));
            slow != (cost(&decoys.of(&name(*n))) == cost(&costly))
        };
        assert!((0..1_000).filter(differ).count() > 100, "the secret decides, not the name alone");
    }
}
