//! What of a session outlives the process: what changed since it was asked last, and the way back.
//!
//! A session that is kept has a cursor: up to where somebody has written down its log and its answers. What is beyond it
//! is a [`Changes`]. A fresh cursor stands before everything, so the first changes are the whole session.

use super::answers::KeptAnswer;
use crate::event::Encoded;

/// What changed in a session since [`super::Session::changes`] was asked before.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Its configuration or its link: connected, or held until when.
    pub head: bool,
    /// Events before this number are kept no more.
    pub first_seq: Option<u64>,
    /// New events with their numbers.
    pub events: Vec<(u64, Encoded)>,
    /// Answers before this number are forgotten. They are numbered 1, 2, 3, … as they were given.
    pub first_answer: Option<u64>,
    /// New answers with their numbers.
    pub answers: Vec<(u64, KeptAnswer)>,
}

impl Changes {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Changes { head, first_seq, events, first_answer, answers } = self;
        !head && first_seq.is_none() && events.is_empty() && first_answer.is_none() && answers.is_empty()
    }
}

/// Log and answers of a session of an earlier process, as they were written down last.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The number of the first of `events`; of the next event when there is none.
    pub first_seq: u64,
    /// The log.
    pub events: Vec<Encoded>,
    /// The answers, oldest first.
    pub answers: Vec<KeptAnswer>,
}

/// Up to where a session has been written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) head: bool,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) first_answer: u64,
    pub(super) last_answer: u64,
}

impl Cursor {
    /// Before everything.
    pub(super) fn start() -> Self {
        Self { head: true, first_seq: 1, last_seq: 0, first_answer: 1, last_answer: 0 }
    }
}
