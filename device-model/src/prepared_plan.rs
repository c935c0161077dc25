//! A plan made ready: the tables of its devices and numbers, built and compared with the plan in force before anybody has
//! to wait for it. To put it in force is to exchange tables and to move what phones, applications and calls made of
//! them.

use crate::calling_search_spaces::Spaces;
use crate::devices::{Device, Line, Number};
use crate::ids::{DeviceName, Dn, SessionId};
use crate::plan::{DeviceKind, DevicePlan, NumberPlan, Plan};
use crate::route_patterns::Patterns;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Calls at once on a line that says nothing: phones and ports (reference §3.1).
const DEFAULT_CALLS: u32 = 4;
/// The same for route points.
const DEFAULT_ROUTE_POINT_CALLS: u32 = 5000;

/// A plan, and what it changes of the one before. Making it takes time that grows with both; it may be made on any
/// thread.
#[derive(Clone, Debug)]
pub struct PreparedPlan {
    /// The plan that it follows.
    pub(crate) before: Arc<Plan>,
    pub(crate) plan: Arc<Plan>,
    /// Devices as if nothing had ever happened to them.
    pub(crate) devices: BTreeMap<DeviceName, Device>,
    pub(crate) numbers: HashMap<Dn, Number>,
    pub(crate) patterns: Patterns,
    pub(crate) spaces: Spaces,
    /// Numbers with another Forward All than before, with what the plan before said.
    pub(crate) forwards: HashMap<Dn, Option<Dn>>,
    /// Devices that go or are other than before, in order.
    pub(crate) changed: Arc<[DeviceName]>,
}

/// A new configuration closes devices that a session has open.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// Whose.
    pub session: SessionId,
    /// Which, if it has them open; in order.
    pub devices: Arc<[DeviceName]>,
}

impl PreparedPlan {
    /// `after`, ready to follow `before`; `None` when they are the same.
    #[must_use]
    pub fn between(before: &Arc<Plan>, after: &Arc<Plan>) -> Option<Self> {
        if before == after {
            return None;
        }
        let mut prepared = Self::first(after);
        prepared.before = Arc::clone(before);
        let old_numbers: HashMap<&Dn, &NumberPlan> = before.numbers.iter().map(|n| (&n.dn, n)).collect();
        let changed_numbers = prepared.compare_numbers(&old_numbers);
        let mut changed = BTreeSet::new();
        for old in &before.devices {
            let new = prepared.devices.get_mut(&old.name);
            let same = |new: &Device| {
                new.plan == *old && !new.lines.iter().any(|line| changed_numbers.contains(&line.dn))
            };
            match new {
                Some(new) if same(new) => new.kept = true,
                Some(_) | None => drop(changed.insert(old.name.clone())),
            }
        }
        prepared.changed = changed.into_iter().collect();
        Some(prepared)
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

    /// A plan that follows none.
    pub(crate) fn first(plan: &Arc<Plan>) -> Self {
        let spaces = Spaces::new(&plan.spaces);
        let mut prepared = Self {
            before: Arc::default(),
            plan: Arc::clone(plan),
            devices: BTreeMap::new(),
            numbers: plan.numbers.iter().map(|n| (n.dn.clone(), Number::new(n, &spaces))).collect(),
            patterns: Patterns::new(&plan.patterns, &spaces),
            spaces,
            forwards: HashMap::new(),
            changed: Arc::default(),
        };
        let nobody: Arc<[SessionId]> = Arc::default();
        for device in &plan.devices {
            let built = prepared.build_device(device, &nobody);
            prepared.devices.insert(device.name.clone(), built);
        }
        prepared
    }

    fn build_device(&mut self, plan: &DevicePlan, nobody: &Arc<[SessionId]>) -> Device {
        let default = match plan.kind {
            DeviceKind::Phone | DeviceKind::CtiPort => DEFAULT_CALLS,
            DeviceKind::RoutePoint => DEFAULT_ROUTE_POINT_CALLS,
        };
        let mut lines = SmallVec::new();
        for dn in &plan.lines {
            let number = self.numbers.entry(dn.clone()).or_insert_with(|| Number::plain(dn));
            if !number.appearances.contains(&plan.name) {
                number.appearances.push(plan.name.clone());
            }
            lines.push(Line::new(&number.plan, default));
        }
        Device::new(plan.clone(), lines, Arc::clone(nobody))
    }

    /// Notes whose Forward All is another; returns the numbers that devices must hear of.
    fn compare_numbers(&mut self, before: &HashMap<&Dn, &NumberPlan>) -> BTreeSet<Dn> {
        let mut changed = BTreeSet::new();
        // Any order: what is found goes into maps.
        for (dn, number) in &self.numbers {
            let plain;
            let old = match before.get(dn) {
                Some(old) => *old,
                None => {
                    plain = NumberPlan::plain(dn);
                    &plain
                }
            };
            if old.forward.all != number.plan.forward.all {
                self.forwards.insert(dn.clone(), old.forward.all.clone());
                changed.insert(dn.clone());
            }
            let of_line = |plan: &NumberPlan| {
                (plan.max_calls, plan.busy_trigger, plan.auto_accept, plan.allow_cti_control)
            };
            if of_line(old) != of_line(&number.plan) {
                changed.insert(dn.clone());
            }
        }
        changed
    }
}
