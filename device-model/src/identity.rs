//! Who issues ids: one life of one node. No two nodes of a cluster, and no two lives of a node that are near each other, issue
//! the same call, leg, end, session or token.
//!
//! An id is a number of 64 bits. From the top: one bit that is 0 (the signalling sets it in names of its own), 14 bits for
//! the node, 13 for its life, and a counter of 36. Of a session's id all below the node is random. What is random or counted
//! differs by chance or within one process alone, so the node's bits come from its name: two names of the same length that
//! differ in one character, or in two digits side by side, never give the same number (a checksum finds each such burst),
//! and the configuration refuses any other two that do.

use crate::ids::{NodeName, RequestToken, SessionId};

/// Bits of the counter: 68 thousand million ids of one life. Then it begins anew, and passes by what is in use.
pub(crate) const COUNTER_BITS: u32 = 36;
/// Bits of the number of a node's life: after 8,192 of them it begins anew.
const LIFE_BITS: u32 = 13;
/// Bits of the node's number.
const NODE_BITS: u32 = 14;
/// `x^14 + x^11 + x^2 + 1` (CRC-14 of ETSI EN 300 751), without its first term.
const POLYNOMIAL: u16 = 0x0805;

/// Which node a model runs on, and what makes its ids unique in the cluster and in time.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's name.
    pub node: NodeName,
    /// Differs at each start of the node; of a greater number the low 13 bits count.
    pub incarnation: u32,
}

/// A node's number in its ids, never 0: its name's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(u16);

impl NodeName {
    /// The node's number in its ids.
    #[must_use]
    pub fn number(&self) -> NodeNumber {
        let mask = (1 << NODE_BITS) - 1;
        let checksum = self.as_str().bytes().fold(mask, |sum, byte| {
            (0..8).fold(sum ^ (u16::from(byte) << (NODE_BITS - 8)), |sum, _| {
                let shifted = (sum << 1) & mask;
                if sum >> (NODE_BITS - 1) == 1 { shifted ^ POLYNOMIAL } else { shifted }
            })
        });
        NodeNumber(checksum.max(1))
    }
}

impl Identity {
    /// What all ids of this life begin with; the counter is 0.
    fn prefix(&self) -> u64 {
        let life = u64::from(self.incarnation) & ((1 << LIFE_BITS) - 1);
        self.node_bits() | (life << COUNTER_BITS)
    }

    fn node_bits(&self) -> u64 {
        u64::from(self.node.number().0) << (COUNTER_BITS + LIFE_BITS)
    }

    /// The id of a session: unguessable but for the node. `random` has 64 random bits.
    #[must_use]
    pub fn session(&self, random: u64) -> SessionId {
        SessionId(self.node_bits() | (random & ((1 << (COUNTER_BITS + LIFE_BITS)) - 1)))
    }

    /// The first of the tokens that a session of this life gives its requests; the next ones are counted up from it.
    #[must_use]
    pub fn first_token(&self) -> RequestToken {
        RequestToken(self.prefix() | 1)
    }
}

/// Counts the ids of a life.
#[derive(Debug)]
pub(crate) struct Ids {
    prefix: u64,
    last: u64,
    /// The counter has begun anew.
    again: bool,
}

impl Ids {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self { prefix: identity.prefix(), last: 0, again: false }
    }

    /// The next id that is not in use.
    pub(crate) fn next(&mut self, in_use: impl Fn(u64) -> bool) -> u64 {
        loop {
            self.last += 1;
            if self.last >> COUNTER_BITS != 0 {
                (self.last, self.again) = (1, true);
            }
            let id = self.prefix | self.last;
            if !self.again || !in_use(id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn identity(node: &str, incarnation: u32) -> Identity {
        Identity { node: node.into(), incarnation }
    }

    #[test]
    fn nodes_named_as_people_name_them_have_numbers_of_their_own() {
        let two_digits = |i: u32| format!("{}{}", i / 10, i % 10);
        let series: [Vec<String>; 5] = [
            (0..10).map(|i| format!("cm{i}")).collect(),
            (0..100).map(|i| format!("node-{}.example.com", two_digits(i))).collect(),
            (0..100).map(|i| format!("SUB{}", two_digits(i))).collect(),
            ('a'..='z').map(|c| format!("site-{c}-cti")).collect(),
            ["pub", "sub1", "sub2", "tftp", "cups", "cm1", "cm2", "cm10"].map(str::to_owned).to_vec(),
        ];
        for names in series {
            let numbers: BTreeSet<_> =
                names.iter().map(|name| NodeName::from(name.as_str()).number()).collect();
            assert_eq!(numbers.len(), names.len(), "{names:?}");
            assert!(numbers.iter().all(|number| (1..1 << NODE_BITS).contains(&number.0)));
        }
    }

    #[test]
    fn two_nodes_in_their_first_life_issue_nothing_alike() {
        let (one, other) = (identity("cm1", 1), identity("cm2", 1));
        let ids = |identity: &Identity| {
            let mut ids = Ids::new(identity);
            (0..1_000).map(|_| ids.next(|_| false)).collect::<BTreeSet<_>>()
        };
        assert!(ids(&one).is_disjoint(&ids(&other)));
        assert!(ids(&one).is_disjoint(&ids(&identity("cm1", 2))), "nor does the next life");
        assert!(ids(&one).iter().all(|id| id >> 63 == 0), "the top bit is the signalling's");
        for random in [0, 7, u64::MAX] {
            assert_ne!(one.session(random), other.session(random), "even with the same randomness");
        }
        assert_ne!(one.first_token(), other.first_token());
        assert_ne!(one.first_token(), identity("cm1", 2).first_token());
    }

    #[test]
    fn a_counter_that_begins_anew_passes_by_what_is_in_use() {
        let mut ids = Ids::new(&identity("cm1", 1));
        let first = ids.next(|_| true);
        ids.last = (1 << COUNTER_BITS) - 2;
        let last = ids.next(|_| true);
        assert_eq!(last - first, (1 << COUNTER_BITS) - 2);
        assert_eq!(ids.next(|id| id == first), first + 1);
    }
}
