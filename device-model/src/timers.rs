//! All timers of the machine in one table.

use crate::call::AttemptId;
use crate::ids::EndId;
use crate::operations::OperationId;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// What a time is for. There is at most one of each at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// This destination rings too long (CFNA).
    NoAnswer(AttemptId),
    /// No application took the call that is offered at a route point (CTI New Call Accept Timer).
    NewCallAccept(AttemptId),
    /// No application gave an address for this end (Media Exchange Timer).
    MediaExchange(EndId),
    /// What was asked is not decided yet.
    Operation(OperationId),
}

/// Set, cancel and pop in logarithmic time; equal instants pop in the order in which they were set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<(Instant, u64), Timer>,
    set: HashMap<Timer, (Instant, u64)>,
    counter: u64,
}

impl Timers {
    /// Sets a timer; one of the same name that ran already is replaced.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.cancel(timer);
        self.counter += 1;
        let key = (at, self.counter);
        self.due.insert(key, timer);
        self.set.insert(timer, key);
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(key) = self.set.remove(&timer) {
            self.due.remove(&key);
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The first timer that is due, which then runs no more.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let entry = self.due.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let timer = entry.remove();
        self.set.remove(&timer);
        Some(timer)
    }

    /// When it will be due, while it runs.
    pub(crate) fn at(&self, timer: Timer) -> Option<Instant> {
        self.set.get(&timer).map(|(at, _)| *at)
    }

    pub(crate) fn has(&self, timer: Timer) -> bool {
        self.set.contains_key(&timer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Timer> + '_ {
        self.due.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
    fn timers_pop_in_order_and_only_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(Timer::NoAnswer(AttemptId(1)), at(30));
        timers.set(Timer::MediaExchange(EndId(2)), at(10));
        timers.set(Timer::NoAnswer(AttemptId(1)), at(20));
        timers.set(Timer::NewCallAccept(AttemptId(3)), at(15));
        timers.cancel(Timer::NewCallAccept(AttemptId(3)));
        assert_eq!(timers.next_timeout(), Some(at(10)));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(40)), Some(Timer::MediaExchange(EndId(2))));
        assert_eq!(timers.pop(at(40)), Some(Timer::NoAnswer(AttemptId(1))));
        assert_eq!(timers.pop(at(40)), None);
        assert_eq!(timers.next_timeout(), None);
    }
}
