//! The event log of a session: numbered without gaps, bounded, read again after a reconnect.

use crate::event::Encoded;
use std::collections::VecDeque;

/// What an entry costs besides its bytes: its place here and the owner of the shared bytes.
const ENTRY_BYTES: usize = 96;

/// Events `first_seq ..= last_seq`, the newest that fit.
#[derive(Debug)]
pub(super) struct EventLog {
    events: VecDeque<Encoded>,
    last_seq: u64,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
}

impl EventLog {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { events: VecDeque::new(), last_seq: 0, bytes: 0, max_events, max_bytes }
    }

    /// The log of an earlier process; what no longer fits goes at once.
    pub(super) fn restore(max_events: usize, max_bytes: usize, first_seq: u64, events: Vec<Encoded>) -> Self {
        let mut log = Self { last_seq: first_seq.saturating_sub(1), ..Self::new(max_events, max_bytes) };
        for event in events {
            log.push(event);
        }
        log
    }

    /// Numbers an event and keeps it; the oldest give way.
    pub(super) fn push(&mut self, event: Encoded) -> u64 {
        self.last_seq += 1;
        self.bytes += event.len() + ENTRY_BYTES;
        self.events.push_back(event);
        self.keep_bounds();
        self.last_seq
    }

    fn keep_bounds(&mut self) {
        while self.events.len() > self.max_events || self.bytes > self.max_bytes {
            self.drop_oldest();
        }
    }

    /// Other bounds, from now on; what no longer fits goes at once.
    pub(super) fn set_bounds(&mut self, max_events: usize, max_bytes: usize) {
        (self.max_events, self.max_bytes) = (max_events, max_bytes);
        self.keep_bounds();
    }

    /// The number of the newest event; 0 before the first.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets what the client says that it has.
    pub(super) fn trim(&mut self, seq: u64) {
        while !self.events.is_empty() && self.first_seq() <= seq {
            self.drop_oldest();
        }
    }

    /// Whether every event after `seq` is still here.
    pub(super) fn reaches_back_to(&self, seq: u64) -> bool {
        seq + 1 >= self.first_seq()
    }

    /// The events after `seq` with their numbers.
    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = (u64, &Encoded)> {
        let first = self.first_seq();
        let skip = (seq + 1).saturating_sub(first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        (first..).zip(&self.events).skip(skip)
    }

    /// The number of the oldest event; of the next one when there is none.
    pub(super) fn first_seq(&self) -> u64 {
        self.last_seq + 1 - self.events.len() as u64
    }

    fn drop_oldest(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.len() + ENTRY_BYTES;
        }
    }
}
