//! Partitions and calling search spaces: who reaches whom.

use crate::ids::{PartitionName, SearchSpaceName};
use crate::plan::SpacePlan;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// A partition of one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition(u16);

impl Partition {
    /// CUCM's `<None>`: within everybody's reach, after all others.
    pub(crate) const NONE: Self = Self(u16::MAX);
    /// One that no space names: nobody reaches it.
    const UNREACHED: Self = Self(u16::MAX - 1);
}

/// The spaces of a plan, and the partitions that they name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spaces {
    partitions: HashMap<PartitionName, Partition>,
    spaces: HashMap<SearchSpaceName, Arc<[Partition]>>,
}

impl Spaces {
    /// Of partitions beyond the 65,534th nobody reaches any; the configuration's reader allows far fewer.
    pub(crate) fn new(plans: &[SpacePlan]) -> Self {
        let mut made = Self::default();
        for plan in plans {
            let list = plan.partitions.iter().map(|name| made.intern(name)).collect();
            made.spaces.insert(plan.name.clone(), list);
        }
        made
    }

    fn intern(&mut self, name: &PartitionName) -> Partition {
        let next = u16::try_from(self.partitions.len()).map_or(Partition::UNREACHED, Partition);
        let next = if next == Partition::NONE { Partition::UNREACHED } else { next };
        *self.partitions.entry(name.clone()).or_insert(next)
    }

    pub(crate) fn partition(&self, name: Option<&PartitionName>) -> Partition {
        match name {
            None => Partition::NONE,
            Some(name) => self.partitions.get(name).copied().unwrap_or(Partition::UNREACHED),
        }
    }

    /// The partitions of a space, in order; without a space none.
    pub(crate) fn space(&self, name: Option<&SearchSpaceName>) -> &[Partition] {
        name.and_then(|name| self.spaces.get(name)).map_or(&[], |list| &**list)
    }
}

/// The partitions that somebody reaches, in order. Everybody reaches what has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    order: SmallVec<[Partition; 8]>,
    /// A bit for each, so that who is out of reach is told at once.
    set: SmallVec<[u64; 2]>,
}

impl Reach {
    pub(crate) fn new(partitions: impl Iterator<Item = Partition>) -> Self {
        let mut reach = Self::default();
        for partition in partitions.filter(|partition| partition.0 < Partition::UNREACHED.0) {
            let (word, bit) = (usize::from(partition.0) / 64, partition.0 % 64);
            if reach.set.len() <= word {
                reach.set.resize(word + 1, 0);
            }
            if reach.set[word] & (1 << bit) == 0 {
                reach.set[word] |= 1 << bit;
                reach.order.push(partition);
            }
        }
        reach
    }

    pub(crate) fn contains(&self, partition: Partition) -> bool {
        let (word, bit) = (usize::from(partition.0) / 64, partition.0 % 64);
        partition == Partition::NONE || self.set.get(word).is_some_and(|word| word & (1 << bit) != 0)
    }

    /// Its place in the order; `None`: out of reach.
    pub(crate) fn rank(&self, partition: Partition) -> Option<usize> {
        if !self.contains(partition) {
            return None;
        }
        Some(self.order.iter().position(|own| *own == partition).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_space_reaches_what_has_no_partition_alone() {
        let plan = |name: &str, list: &[&str]| SpacePlan {
            name: name.into(),
            partitions: list.iter().map(|name| (*name).into()).collect(),
        };
        let spaces = Spaces::new(&[plan("staff", &["b", "a"]), plan("boss", &["c", "a"])]);
        let of = |name: &str| spaces.partition(Some(&name.into()));
        let nobody = Reach::new(spaces.space(None).iter().copied());
        let unknown = Reach::new(spaces.space(Some(&"gone".into())).iter().copied());
        for reach in [nobody, unknown] {
            assert_eq!(reach.rank(Partition::NONE), Some(usize::MAX));
            assert_eq!((reach.rank(of("a")), reach.rank(of("lost"))), (None, None));
        }
        let both = spaces.space(Some(&"staff".into())).iter().chain(spaces.space(Some(&"boss".into())));
        let both = Reach::new(both.copied());
        let ranks = ["b", "a", "c", "lost"].map(|name| both.rank(of(name)));
        assert_eq!(ranks, [Some(0), Some(1), Some(2), None], "each once, the first place counts");
        assert_eq!(both.rank(Partition::NONE), Some(usize::MAX), "the last of all");
    }

    #[test]
    fn many_partitions_are_told_apart() {
        let names = || (0..200).map(|n| PartitionName::from(format!("p{n}")));
        let every_third = names().step_by(3).collect();
        let spaces = Spaces::new(&[
            SpacePlan { name: "all".into(), partitions: names().collect() },
            SpacePlan { name: "third".into(), partitions: every_third },
        ]);
        let reach = Reach::new(spaces.space(Some(&"third".into())).iter().copied());
        for (n, name) in names().enumerate() {
            let wanted = n.is_multiple_of(3).then_some(n / 3);
            assert_eq!(reach.rank(spaces.partition(Some(&name))), wanted, "{name}");
        }
    }
}
