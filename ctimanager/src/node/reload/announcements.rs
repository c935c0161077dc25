//! Thousands of devices that come and go at once are told a few at a time: neither a call that waits for the node nor the
//! queue of a reader that keeps up shall suffer from one reload.

use device_model::{DeviceName, DeviceView, SessionId};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Announcements told in one step.
pub(in crate::node) const AT_ONCE: usize = 256;

/// Announcements that may wait; reloads that come faster than they can be told make the oldest go at once.
const MAX_WAITING: usize = 500_000;

/// The pause between two such steps: readers get some 50,000 announcements a second.
const PAUSE: Duration = Duration::from_millis(5);

/// A device that went or came, and whom it concerns.
#[derive(Debug)]
pub(in crate::node) enum Announcement {
    /// As it was last.
    Removed(Box<DeviceView>, Vec<SessionId>),
    /// As it is when it is told.
    Added(DeviceName, Vec<SessionId>),
}

/// What is still to be told, in its order. At most [`MAX_WAITING`] wait.
#[derive(Debug, Default)]
pub(in crate::node) struct Announcements {
    waiting: VecDeque<Announcement>,
    due: Option<Instant>,
}

impl Announcements {
    pub(in crate::node) fn push(&mut self, now: Instant, announcement: Announcement) {
        self.waiting.push_back(announcement);
        self.due.get_or_insert(now);
    }

    /// How many to tell in this step.
    pub(in crate::node) fn share(&self) -> usize {
        AT_ONCE.max(self.waiting.len().saturating_sub(MAX_WAITING))
    }

    pub(in crate::node) fn pop(&mut self) -> Option<Announcement> {
        self.waiting.pop_front()
    }

    /// After a step: the others come a little later.
    pub(in crate::node) fn rest(&mut self, now: Instant) {
        self.due = (!self.waiting.is_empty()).then(|| now + PAUSE);
    }

    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        self.due
    }
}
