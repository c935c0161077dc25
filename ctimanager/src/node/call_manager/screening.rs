//! Calls that a rule of the configuration refuses: counted by rule, logged once a second, an alarm where a trunk is at its limit.

use super::{Said, Turn};
use crate::node::alarms;
use crate::node::port::{Report, Severity};
use crate::node::seldom::Seldom;
use device_model::port::{Refused, Rule};
use device_model::{Sender, TrunkName};
use security::shares::Bound;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The alarm of a trunk stands until nothing of it was refused for so long.
const CALM: Duration = Duration::from_secs(60);

/// The rules in the words of the configuration.
const RULES: [&str; 8] = [
    "partition",
    "block_offnet_to_offnet",
    "line_max_calls",
    "line_max_calls_per_second",
    "device_max_calls",
    "device_max_calls_per_second",
    "trunk_max_calls",
    "trunk_max_calls_per_second",
];

/// The rule's place among [`RULES`].
fn index(rule: &Rule) -> usize {
    match rule {
        Rule::Partition => 0,
        Rule::OffnetToOffnet => 1,
        Rule::LineCalls => 2,
        Rule::LineRate => 3,
        Rule::DeviceCalls => 4,
        Rule::DeviceRate => 5,
        Rule::TrunkCalls(_) => 6,
        Rule::TrunkRate(_) => 7,
    }
}

/// What was refused so far.
#[derive(Debug, Default)]
pub(super) struct Screening {
    counts: [u64; RULES.len()],
    told: [Seldom; RULES.len()],
    /// Trunks at their limit, and when a call was last refused for it.
    trunks: BTreeMap<TrunkName, Instant>,
}

impl Screening {
    /// Refusals of each rule since the start.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        RULES.into_iter().zip(self.counts).collect()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.trunks.values().min().map(|last| *last + CALM)
    }
}

/// The row of the table of shares; `None` for what is no share, or a device's own.
fn bound(rule: &Rule) -> Option<Bound> {
    match rule {
        Rule::LineRate => Some(Bound::NewCallsOfLine),
        Rule::DeviceRate => Some(Bound::NewCallsOfDevice),
        Rule::TrunkRate(_) => Some(Bound::NewCallsOfTrunk),
        Rule::TrunkCalls(_) => Some(Bound::CallsOfTrunk),
        Rule::Partition | Rule::OffnetToOffnet | Rule::LineCalls | Rule::DeviceCalls => None,
    }
}

impl Screening {
    /// Who is a name of the configuration and may be logged; the number that was dialled only at DEBUG.
    pub(super) fn refused(&mut self, turn: &mut Turn<'_>, refused: &Refused) {
        let rule = index(&refused.rule);
        self.counts[rule] += 1;
        if let Some(bound) = bound(&refused.rule) {
            turn.out.push(Said::NoShare(bound));
        }
        let mut who = vec![("rule", RULES[rule].to_owned())];
        match &refused.sender {
            Sender::Line { device, .. } => who.push(("device", device.to_string())),
            Sender::Trunk(trunk) => who.push(("from_trunk", trunk.to_string())),
            Sender::Number(_) => who.push(("by", "forward".to_owned())),
        }
        if let Rule::TrunkCalls(trunk) | Rule::TrunkRate(trunk) = &refused.rule {
            who.push(("trunk", trunk.to_string()));
            self.trunk_at_limit(turn, trunk.clone(), RULES[rule]);
        }
        if let Some(untold) = self.told[rule].tell(turn.now) {
            let mut parameters = who.clone();
            parameters.push(("untold", untold.to_string()));
            let report = Report { name: "CallRefused", severity: Severity::Informational, parameters };
            turn.out.push(Said::Report(report));
        }
        who.push(("dialled", refused.dialled.to_string()));
        if let Sender::Line { dn, .. } | Sender::Number(dn) = &refused.sender {
            who.push(("line", dn.to_string()));
        }
        let report = Report { name: "CallRefused", severity: Severity::Debug, parameters: who };
        turn.out.push(Said::Report(report));
    }

    fn trunk_at_limit(&mut self, turn: &mut Turn<'_>, trunk: TrunkName, rule: &str) {
        let parameters = vec![("trunk", trunk.to_string()), ("rule", rule.to_owned())];
        if self.trunks.insert(trunk.clone(), turn.now).is_none() {
            turn.out.push(at_limit(&trunk, alarms::AlarmState::Raised, parameters));
        }
    }

    /// Ends the alarms of trunks of which nothing was refused for a while.
    pub(super) fn trunks_have_room(&mut self, turn: &mut Turn<'_>) {
        let calm = self.trunks.extract_if(.., |_, last| *last + CALM <= turn.now);
        for (trunk, _) in calm.collect::<Vec<_>>() {
            let parameters = vec![("trunk", trunk.to_string())];
            turn.out.push(at_limit(&trunk, alarms::AlarmState::Cleared, parameters));
        }
    }
}

fn at_limit(trunk: &TrunkName, state: alarms::AlarmState, parameters: Vec<(&'static str, String)>) -> Said {
    Said::Condition { alarm: &alarms::TRUNK_CALL_LIMIT, key: trunk.to_string(), state, parameters }
}
