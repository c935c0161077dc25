//! How many devices each session, and the node, has open, and the soft limits of both: nothing is refused for them, but
//! whom they concern is told.
//!
//! A limit is passed with one device more, and kept again a tenth below it, so that who opens and closes one device at the
//! limit says nothing new. Under another limit it is judged anew.

use crate::control::CallControl;
use crate::ids::SessionId;
use crate::port::{Limit, Output};
use crate::table::{Contradiction, Contradictions};
use std::collections::{BTreeMap, BTreeSet};

/// The counts, and which limits are passed.
#[derive(Debug, Default)]
pub(crate) struct DeviceCounts {
    of_session: BTreeMap<SessionId, u32>,
    /// Devices that at least one session has open.
    devices: u32,
    /// Sessions beyond their limit.
    beyond: BTreeSet<SessionId>,
    /// Where the node is.
    node: Level,
    contradictions: Contradictions,
}

/// Where a count is to its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    Within,
    Beyond,
}

impl Level {
    /// Where it is now, when it was `before`.
    fn of(open: u32, limit: u32, before: Level) -> Self {
        match before {
            Level::Within => Self::simply(open, limit),
            Level::Beyond => Self::simply(open, limit - limit / 10),
        }
    }

    /// Where it is, wherever it was.
    fn simply(open: u32, limit: u32) -> Self {
        if open > limit { Level::Beyond } else { Level::Within }
    }
}

impl DeviceCounts {
    pub(crate) fn of(&self, session: SessionId) -> u32 {
        self.of_session.get(&session).copied().unwrap_or(0)
    }

    pub(crate) fn devices(&self) -> u32 {
        self.devices
    }

    /// Begins to count anew.
    pub(crate) fn recount(&mut self) {
        (self.of_session, self.devices) = (BTreeMap::new(), 0);
    }

    pub(crate) fn add(&mut self, session: SessionId) {
        *self.of_session.entry(session).or_insert(0) += 1;
    }

    pub(crate) fn take(&mut self, session: SessionId) {
        let count = self.of_session.get_mut(&session);
        if let Some(count) = self.contradictions.known(count, "a session without a device loses one") {
            *count = self.contradictions.one_less(*count, "a session without a device loses one");
            if *count == 0 {
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
        self.devices = self.contradictions.one_less(self.devices, "of no open device one is closed");
    }

    pub(crate) fn take_contradiction(&self) -> Option<Contradiction> {
        self.contradictions.take()
    }
}

impl CallControl {
    /// After a session has opened or let go of something: its soft limit.
    pub(crate) fn weigh_session(&mut self, session: SessionId) {
        let (open, limit) = (self.device_counts.of(session), self.plan.parameters.max_devices_per_provider);
        let before = if self.device_counts.beyond.contains(&session) { Level::Beyond } else { Level::Within };
        self.judge_session(session, Level::of(open, limit, before));
    }

    fn judge_session(&mut self, session: SessionId, level: Level) {
        let exceeded = level == Level::Beyond;
        let changed = match level {
            Level::Beyond => self.device_counts.beyond.insert(session),
            Level::Within => self.device_counts.beyond.remove(&session),
        };
        if changed {
            let (open, limit) =
                (self.device_counts.of(session), self.plan.parameters.max_devices_per_provider);
            self.out.push(Output::Limit(Limit::DevicesPerProvider { session, open, limit, exceeded }));
        }
    }

    /// After a device was opened or let go of by all: the node's soft limit.
    pub(crate) fn weigh_node(&mut self) {
        let (open, limit) = (self.device_counts.devices, self.plan.parameters.max_devices_per_node);
        self.judge_node(Level::of(open, limit, self.device_counts.node));
    }

    fn judge_node(&mut self, level: Level) {
        if std::mem::replace(&mut self.device_counts.node, level) != level {
            let exceeded = level == Level::Beyond;
            let (open, limit) = (self.device_counts.devices, self.plan.parameters.max_devices_per_node);
            self.out.push(Output::Limit(Limit::DevicesPerNode { open, limit, exceeded }));
        }
    }

    /// After a plan was put in force or holds were taken: all of them. `before` are the limits of sessions and node until then.
    pub(crate) fn weigh_all(&mut self, before: (u32, u32)) {
        let parameters = &self.plan.parameters;
        let (of_session, of_node) = (parameters.max_devices_per_provider, parameters.max_devices_per_node);
        let all: BTreeSet<SessionId> =
            self.device_counts.of_session.keys().chain(&self.device_counts.beyond).copied().collect();
        for session in all {
            match before.0 == of_session {
                true => self.weigh_session(session),
                false => {
                    self.judge_session(session, Level::simply(self.device_counts.of(session), of_session))
                }
            }
        }
        match before.1 == of_node {
            true => self.weigh_node(),
            false => self.judge_node(Level::simply(self.device_counts.devices, of_node)),
        }
    }
}
