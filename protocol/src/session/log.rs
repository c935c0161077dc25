//! The event log of a session: numbered without gaps, bounded, read again after a reconnect.

use crate::event::Encoded;
use crate::frame::Frame;
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
    /// Events that are being replayed: one that gives way is set aside until it has been read.
    held: Option<(u64, u64)>,
    aside: VecDeque<(u64, Encoded)>,
}

impl EventLog {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        let (events, aside) = (VecDeque::new(), VecDeque::new());
        Self { events, last_seq: 0, bytes: 0, max_events, max_bytes, held: None, aside }
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

    /// From now on these events can be read even when the log has given them up; only they. No more than the log held
    /// when that began are set aside.
    pub(super) fn hold(&mut self, held: Option<(u64, u64)>) {
        self.held = held;
        self.forget_aside(held.map_or(u64::MAX, |(first, _)| first));
    }

    /// Of what is held the events before this number have been read.
    pub(super) fn read_up_to(&mut self, next: u64) {
        self.held = self.held.map(|(_, last)| (next, last));
        self.forget_aside(next);
    }

    fn forget_aside(&mut self, before: u64) {
        while self.aside.front().is_some_and(|(seq, _)| *seq < before) {
            self.aside.pop_front();
        }
    }

    /// An event as it is written, held or still in the log.
    pub(super) fn read(&self, seq: u64) -> Option<Frame> {
        let aside = self.aside.front().filter(|(first, _)| *first == seq).map(|(_, event)| event);
        let kept = || {
            let at = seq.checked_sub(self.first_seq())?;
            self.events.get(usize::try_from(at).ok()?)
        };
        aside.or_else(kept).map(|event| event.frame(seq))
    }

    fn drop_oldest(&mut self) {
        let seq = self.first_seq();
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.len() + ENTRY_BYTES;
            if self.held.is_some_and(|(first, last)| (first..=last).contains(&seq)) {
                self.aside.push_back((seq, event));
            }
        }
    }
}
