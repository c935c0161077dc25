//! How many devices each session, and the node, has open, and the soft limits of both: nothing is refused for them, but
//! whom they concern is told.
//!
//! A limit is passed with one device more, and kept again a tenth below it, so that who opens and closes one device at the
//! limit says nothing new. Under another limit it is judged anew.

use crate::control::CallControl;
use crate::ids::SessionId;
use crate::port::{Limit, Output};
use std::collections::{BTreeSet, HashMap};

/// The counts, and which limits are passed.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    of_session: HashMap<SessionId, u32>,
    /// Devices that at least one session has open.
    devices: u32,
    /// Sessions beyond their limit.
    beyond: BTreeSet<SessionId>,
    /// The node is beyond its own.
    node_beyond: bool,
}

impl Holds {
    pub(crate) fn of(&self, session: SessionId) -> u32 {
        self.of_session.get(&session).copied().unwrap_or(0)
    }

    pub(crate) fn devices(&self) -> u32 {
        self.devices
    }

    /// Begins to count anew.
    pub(crate) fn recount(&mut self) {
        (self.of_session, self.devices) = (HashMap::new(), 0);
    }

    pub(crate) fn add(&mut self, session: SessionId) {
        *self.of_session.entry(session).or_insert(0) += 1;
    }

    pub(crate) fn take(&mut self, session: SessionId) {
        if let Some(held) = self.of_session.get_mut(&session) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.of_session.remove(&session);
            }
        }
    }

    /// The session has ended: what it holds is counted no more.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.of_session.remove(&session);
    }

    pub(crate) fn add_device(&mut self) {
        self.devices += 1;
    }

    pub(crate) fn take_device(&mut self) {
        self.devices = self.devices.saturating_sub(1);
    }
}

/// Whether a limit is passed, which it was before or was not.
fn is_beyond(open: u32, limit: u32, before: bool) -> bool {
    open > if before { limit - limit / 10 } else { limit }
}

impl CallControl {
    /// After a session has opened or let go of something: its soft limit.
    pub(crate) fn weigh_session(&mut self, session: SessionId) {
        let (open, limit) = (self.holds.of(session), self.plan.parameters.max_devices_per_provider);
        let before = self.holds.beyond.contains(&session);
        self.judge_session(session, is_beyond(open, limit, before));
    }

    fn judge_session(&mut self, session: SessionId, exceeded: bool) {
        let beyond = &mut self.holds.beyond;
        let changed = if exceeded { beyond.insert(session) } else { beyond.remove(&session) };
        if changed {
            let (open, limit) = (self.holds.of(session), self.plan.parameters.max_devices_per_provider);
            self.out.push(Output::Limit(Limit::DevicesPerProvider { session, open, limit, exceeded }));
        }
    }

    /// After a device was opened or let go of by all: the node's soft limit.
    pub(crate) fn weigh_node(&mut self) {
        let (open, limit) = (self.holds.devices, self.plan.parameters.max_devices_per_node);
        self.judge_node(is_beyond(open, limit, self.holds.node_beyond));
    }

    fn judge_node(&mut self, exceeded: bool) {
        if std::mem::replace(&mut self.holds.node_beyond, exceeded) != exceeded {
            let (open, limit) = (self.holds.devices, self.plan.parameters.max_devices_per_node);
            self.out.push(Output::Limit(Limit::DevicesPerNode { open, limit, exceeded }));
        }
    }

    /// After a plan was put in force or holds were taken: all of them. `before` are the limits of sessions and node until then.
    pub(crate) fn weigh_all(&mut self, before: (u32, u32)) {
        let parameters = &self.plan.parameters;
        let (of_session, of_node) = (parameters.max_devices_per_provider, parameters.max_devices_per_node);
        let all: BTreeSet<SessionId> =
            self.holds.of_session.keys().chain(&self.holds.beyond).copied().collect();
        for session in all {
            match before.0 == of_session {
                true => self.weigh_session(session),
                false => self.judge_session(session, self.holds.of(session) > of_session),
            }
        }
        match before.1 == of_node {
            true => self.weigh_node(),
            false => self.judge_node(self.holds.devices > of_node),
        }
    }
}
