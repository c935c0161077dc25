//! What follows from new configurations and is not carried out yet, in its order. Ten thousand devices that change at once
//! are told a few at a time: neither a call that waits for the node nor the queue of a reader that keeps up shall suffer.

use super::switch::{Difference, Switch};
use crate::node::Settings;
use device_model::{DeviceName, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Events told in one step, each to one session.
pub(in crate::node) const AT_ONCE: usize = 256;

/// SIP messages sent in one step for calls that may not stay, and reports made.
pub(in crate::node) const SIP_AT_ONCE: usize = 32;

/// Legs ended before looking again at how much that was, and what of [`WORK_AT_ONCE`] one of them counts.
pub(in crate::node) const LEGS_AT_ONCE: usize = 8;
pub(in crate::node) const WORK_OF_LEG: usize = 32;

/// Devices looked at in one step, times the users that may have them on their lists.
pub(in crate::node) const WORK_AT_ONCE: usize = 2_048;

/// Reloads under way at once; when they come faster than they can be told, the next one waits until the oldest is told.
pub(in crate::node) const MAX_RELOADS: usize = 8;

/// How long to wait for a reader who is behind: by the usual bounds one who reads some 800 events a second has caught up
/// by then. For a slower one nobody else is to wait.
pub(in crate::node) const READERS_PATIENCE: Duration = Duration::from_secs(1);

/// The sessions of each user when the switch was made: who came later has seen the new configuration from the start.
pub(super) type Listeners = BTreeMap<Arc<str>, Vec<SessionId>>;

/// One reload on its way.
pub(super) struct Reload {
    pub(super) before: Arc<Settings>,
    pub(super) after: Arc<Settings>,
    pub(super) difference: Arc<Difference>,
    pub(super) listeners: Listeners,
    /// The model's number of this plan.
    pub(super) generation: u64,
    pub(super) work: VecDeque<Work>,
    /// Devices that somebody asked for, and of which all was told before their turn.
    pub(super) early: BTreeSet<DeviceName>,
}

/// What is to be done, device by device.
pub(super) enum Work {
    /// The session has lost these: `device.removed`, but for what it has open.
    Lost(SessionId, Names),
    /// A former super provider is in service as a normal one.
    InService(SessionId),
    /// What it keeps open; the last one that it was told of.
    Kept(SessionId, Option<DeviceName>),
    /// The model's part.
    Settle,
    /// These accounts' contacts go.
    Forget(usize),
    /// These are new, for whoever lists them.
    Added(Names),
    /// These have other lines, for whoever lists them or has them open.
    Relined(Names),
    /// These are new on the session's list.
    Gained(SessionId, Names),
}

/// The parameters of a report.
pub(in crate::node) type Parameters = Vec<(&'static str, String)>;

/// Some devices, in order, and how far they are told.
pub(super) struct Names {
    names: Arc<[DeviceName]>,
    next: usize,
}

impl Names {
    pub(super) fn new(names: &Arc<[DeviceName]>) -> Self {
        Self { names: Arc::clone(names), next: 0 }
    }

    pub(super) fn next(&mut self) -> Option<DeviceName> {
        let name = self.names.get(self.next).cloned();
        self.next += usize::from(name.is_some());
        name
    }

    /// Whether this one is still to be told.
    pub(super) fn awaits(&self, name: &DeviceName) -> bool {
        self.names.get(self.next..).is_some_and(|rest| rest.binary_search(name).is_ok())
    }
}

impl Reload {
    pub(super) fn new(switch: Switch, listeners: Listeners) -> Self {
        let Switch { before, after, difference, plan: _ } = switch;
        let (work, early) = (VecDeque::new(), BTreeSet::new());
        Self { before, after, difference, listeners, generation: 0, work, early }
    }

    /// Lays out what is to be done: first what is lost, then what is gained. `withdrawn` are the sessions that are super
    /// providers no longer.
    pub(super) fn lay_out(&mut self, withdrawn: &BTreeMap<SessionId, Arc<[DeviceName]>>) {
        let difference = Arc::clone(&self.difference);
        let changed: Vec<_> = self
            .listeners
            .iter()
            .filter_map(|(user, sessions)| Some((difference.users.get(user)?, sessions)))
            .flat_map(|(lists, sessions)| sessions.iter().map(move |session| (*session, lists)))
            .collect();
        for (session, lists) in &changed {
            match withdrawn.get(session) {
                None => self.work.push_back(Work::Lost(*session, Names::new(&lists.unlisted))),
                Some(lost) => self.work.extend([
                    Work::Lost(*session, Names::new(&both(lost, &lists.unlisted))),
                    Work::InService(*session),
                    Work::Kept(*session, None),
                ]),
            }
        }
        self.work.extend([
            Work::Settle,
            Work::Forget(0),
            Work::Added(Names::new(&difference.added)),
            Work::Relined(Names::new(&difference.relined)),
        ]);
        for (session, lists) in changed {
            self.work.push_back(Work::Gained(session, Names::new(&lists.gained)));
        }
    }

    /// Whether a user had the device on his list.
    pub(super) fn listed(&self, user: &str, device: &DeviceName) -> bool {
        lists(&self.before, user, device)
    }

    /// Whether he has it there by this reload.
    pub(super) fn lists(&self, user: &str, device: &DeviceName) -> bool {
        lists(&self.after, user, device)
    }
}

/// What was open and is lost, and what left the list.
fn both(lost: &Arc<[DeviceName]>, unlisted: &Arc<[DeviceName]>) -> Arc<[DeviceName]> {
    if unlisted.is_empty() {
        return Arc::clone(lost);
    }
    lost.iter().chain(unlisted.iter()).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

pub(super) fn lists(settings: &Settings, user: &str, device: &DeviceName) -> bool {
    let user = settings.policy.user(user);
    user.is_some_and(|user| user.controlled.entry_for(device.as_str()).is_some())
}

/// A configuration that is not in force yet.
pub(in crate::node) struct Waiting {
    pub(super) switch: Switch,
    /// How many are to be told that theirs is in force, or a later one.
    pub(super) asked: usize,
}

/// All reloads that are under way, the oldest first.
#[derive(Default)]
pub(in crate::node) struct Consequences {
    pub(super) reloads: VecDeque<Reload>,
    pub(super) waiting: Option<Waiting>,
    /// During the switch: which holds were taken from whom.
    pub(super) lost: BTreeMap<SessionId, Arc<[DeviceName]>>,
}

impl Consequences {
    pub(in crate::node) fn is_empty(&self) -> bool {
        self.reloads.is_empty()
    }

    /// Whether another configuration waits until the oldest reload is told.
    pub(in crate::node) fn is_awaited(&self) -> bool {
        self.waiting.is_some()
    }

    /// The configuration whose turn it is.
    pub(in crate::node) fn take_next(&mut self) -> Option<Waiting> {
        self.waiting.take_if(|_| self.reloads.len() < MAX_RELOADS)
    }
}
