//! Who may dial what. A call, its forwards and its redirects are judged by who sends it there, each step by its own: a
//! number, then the patterns, of the partitions within the sender's reach.

use crate::calling_search_spaces::{Partition, Reach};
use crate::control::CallControl;
use crate::devices::Number;
use crate::ids::{DeviceName, Dn, PartitionName, SearchSpaceName, TrunkName};
use crate::leg::At;
use crate::plan::TrunkPlan;
use crate::route_patterns::Pattern;
use std::collections::BTreeMap;

/// Who sends a call to a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A line that dials, redirects, or answers with another destination (SIP 3xx): its own space, then its device's.
    Line {
        /// The device.
        device: DeviceName,
        /// The line.
        dn: Dn,
    },
    /// A number, by one of its forwards: its own space, then what the spaces of all its devices have in common.
    Number(Dn),
    /// A trunk.
    Trunk(TrunkName),
}

/// Why a number can't be dialled. Outside it looks like a number that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barred {
    /// Nobody has it.
    Unknown,
    /// It is in a partition that the sender doesn't reach.
    Partition,
    /// It leaves by a trunk, and the sender is a trunk that may not ([`TrunkPlan::block_offnet_to_offnet`]).
    OffnetToOffnet,
}

/// What a dialled number is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    Number(&'a Number),
    Pattern(&'a Pattern),
}

impl Found<'_> {
    fn partition(&self) -> Partition {
        match self {
            Found::Number(number) => number.partition,
            Found::Pattern(pattern) => pattern.partition,
        }
    }
}

/// How a number is dialled, for administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialling {
    /// What it is; where it is barred, what it would be.
    pub what: Option<Dialled>,
    /// Its partition.
    pub partition: Option<PartitionName>,
    /// The sender's space that reaches the partition.
    pub space: Option<SearchSpaceName>,
    /// Why it can't be dialled.
    pub barred: Option<Barred>,
}

/// See [`Dialling::what`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialled {
    /// A directory number.
    Number,
    /// It leaves by a trunk.
    Pattern {
        /// The place of the pattern in the plan.
        index: usize,
        /// By this trunk.
        trunk: TrunkName,
        /// As this number.
        sends: Dn,
    },
}

impl At {
    /// Who sends a call on that is here.
    pub(crate) fn sender(&self) -> Sender {
        match self {
            At::Phone { device, dn } | At::Application { device, dn } => {
                Sender::Line { device: device.clone(), dn: dn.clone() }
            }
            At::Trunk { trunk, .. } => Sender::Trunk(trunk.clone()),
        }
    }
}

impl CallControl {
    /// What a number is to this sender.
    pub(crate) fn dial(&self, sender: &Sender, dn: &Dn) -> Result<Found<'_>, Barred> {
        let (found, barred) = self.judge(sender, dn);
        match (found, barred) {
            (Some(found), None) => Ok(found),
            (_, barred) => Err(barred.unwrap_or(Barred::Unknown)),
        }
    }

    fn judge(&self, sender: &Sender, dn: &Dn) -> (Option<Found<'_>>, Option<Barred>) {
        let reach = self.reach(sender);
        // A number without a device and without a forward is nobody's.
        let number = self.numbers.get(dn).filter(|number| number.leads_somewhere());
        if let Some(number) = number.filter(|number| reach.contains(number.partition)) {
            return (Some(Found::Number(number)), None);
        }
        let patterns = self.patterns.matches(dn, &reach);
        match (patterns.best, number.map(Found::Number).or(patterns.hidden.map(Found::Pattern))) {
            (Some(best), _) if self.stays_inside(sender) => {
                (Some(Found::Pattern(best)), Some(Barred::OffnetToOffnet))
            }
            (Some(best), _) => (Some(Found::Pattern(best)), None),
            (None, Some(hidden)) => (Some(hidden), Some(Barred::Partition)),
            (None, None) => (None, Some(Barred::Unknown)),
        }
    }

    /// Whether what this sender dials must not leave by a trunk.
    fn stays_inside(&self, sender: &Sender) -> bool {
        match sender {
            Sender::Trunk(name) => self.trunk_plan(name).is_none_or(|plan| plan.block_offnet_to_offnet),
            Sender::Line { .. } | Sender::Number(_) => false,
        }
    }

    fn reach(&self, sender: &Sender) -> Reach {
        let of = |space| self.spaces.space(space).iter().copied();
        let of_line = |dn: &Dn| of(self.numbers.get(dn).and_then(|n| n.plan.calling_search_space.as_ref()));
        let of_device = |name: &DeviceName| {
            of(self.devices.get(name).and_then(|device| device.plan.calling_search_space.as_ref()))
        };
        match sender {
            Sender::Line { device, dn } => Reach::new(of_line(dn).chain(of_device(device))),
            Sender::Trunk(name) => {
                Reach::new(of(self.trunk_plan(name).and_then(|plan| plan.calling_search_space.as_ref())))
            }
            Sender::Number(dn) => {
                let devices = self.numbers.get(dn).map(|number| number.appearances.as_slice());
                let Some((first, others)) = devices.and_then(<[_]>::split_first) else {
                    return Reach::new(of_line(dn));
                };
                let all = |partition: &Partition| {
                    others.iter().all(|other| of_device(other).any(|own| own == *partition))
                };
                Reach::new(of_line(dn).chain(of_device(first).filter(all)))
            }
        }
    }

    /// How this sender dials a number.
    #[must_use]
    pub fn explain_dialling(&self, sender: &Sender, dn: &Dn) -> Dialling {
        let (found, barred) = self.judge(sender, dn);
        let what = found.map(|found| match found {
            Found::Number(_) => Dialled::Number,
            Found::Pattern(pattern) => Dialled::Pattern {
                index: pattern.index,
                trunk: pattern.trunk.clone(),
                sends: pattern.sends(dn),
            },
        });
        let partition = found.and_then(|found| match found {
            Found::Number(number) => number.plan.partition.clone(),
            Found::Pattern(pattern) => {
                let plan = self.plan.patterns.get(pattern.index);
                self.contradictions.known(plan, "a pattern is not in the plan")?.partition.clone()
            }
        });
        let reaches = |space: &&SearchSpaceName| {
            let partition = found.map(|found| found.partition());
            self.spaces.space(Some(*space)).iter().any(|own| Some(*own) == partition)
        };
        let space = self.spaces_of(sender).into_iter().find(reaches).cloned();
        Dialling { what, partition, space, barred }
    }

    /// The spaces by which a sender reaches numbers, in order.
    fn spaces_of(&self, sender: &Sender) -> Vec<&SearchSpaceName> {
        let of_line = |dn: &Dn| self.numbers.get(dn).and_then(|n| n.plan.calling_search_space.as_ref());
        let of_device =
            |name: &DeviceName| self.devices.get(name).and_then(|d| d.plan.calling_search_space.as_ref());
        let first = |dn: &Dn| self.numbers.get(dn).and_then(|number| number.appearances.first());
        let both = match sender {
            Sender::Line { device, dn } => [of_line(dn), of_device(device)],
            Sender::Number(dn) => [of_line(dn), first(dn).and_then(of_device)],
            Sender::Trunk(name) => {
                [self.trunk_plan(name).and_then(|plan| plan.calling_search_space.as_ref()), None]
            }
        };
        both.into_iter().flatten().collect()
    }

    pub(crate) fn trunk_plan(&self, name: &TrunkName) -> Option<&TrunkPlan> {
        self.trunks.get(name).and_then(|trunk| trunk.plan.as_ref())
    }
}

/// A trunk and its calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trunk {
    /// `None`: no plan names it any more, or none ever did.
    pub(crate) plan: Option<TrunkPlan>,
    /// Its legs.
    pub(crate) calls: u32,
    /// Calls that begin there.
    pub(crate) incoming: crate::pace::Pace,
    /// Calls that are sent there.
    pub(crate) outgoing: crate::pace::Pace,
}

/// The trunks of a new plan; those before go on with the calls that they have.
pub(crate) fn succeed(trunks: &mut BTreeMap<TrunkName, Trunk>, plans: &[TrunkPlan]) {
    for trunk in trunks.values_mut() {
        trunk.plan = None;
    }
    for plan in plans {
        trunks.entry(plan.name.clone()).or_default().plan = Some(plan.clone());
    }
    trunks.retain(|_, trunk| trunk.plan.is_some() || trunk.calls > 0);
}
