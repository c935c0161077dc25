//! Which events a session wants.

use super::EventType;
use crate::methods::Glob;
use std::fmt;

/// The event types that a session wants, decided once: one bit a type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subscription(pub(super) u64);

const _: () = assert!(EventType::ALL.len() <= 64, "one bit a type");

impl Subscription {
    /// Everything: what a client gets that did not choose.
    #[must_use]
    pub fn all() -> Self {
        Self(u64::MAX)
    }

    /// What any of these globs names. No glob: nothing but answers.
    #[must_use]
    pub fn of(globs: &[Glob]) -> Self {
        let wanted = |t: EventType| globs.iter().any(|g| g.matches(t.name()));
        Self(EventType::ALL.iter().filter(|t| wanted(**t)).fold(0, |bits, t| bits | 1 << (*t as u64)))
    }

    /// Whether the session wants events of this type.
    #[must_use]
    pub fn wants(self, event_type: EventType) -> bool {
        self.0 & (1 << (event_type as u64)) != 0
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(EventType::ALL.iter().filter(|t| self.wants(**t)).map(|t| t.name())).finish()
    }
}
