//! The disk of a node that keeps its sessions: what the node says is to be kept is kept a little later, and what is for
//! applications waits for it. When the node dies, what was not yet kept is lost together with the frames behind it.

use ctimanager::node::kept::{Kept, Record};
use ctimanager::node::{CtiConnection, Output};
use std::collections::VecDeque;

/// The disk, and the gate before the connections.
#[derive(Default)]
pub(super) struct Disk {
    kept: Kept,
    waiting: VecDeque<(u64, Vec<Record>)>,
    said: u64,
    done: u64,
    held: VecDeque<(u64, Output)>,
}

impl Disk {
    /// What the node says is to be kept; gives the number of the commit that does it.
    pub(super) fn say(&mut self, records: Vec<Record>) -> u64 {
        self.said += 1;
        self.waiting.push_back((self.said, records));
        self.said
    }

    /// A frame or the end of a connection, if it need not wait.
    pub(super) fn pass(&mut self, output: Output) -> Option<Output> {
        if self.done == self.said && self.held.is_empty() {
            return Some(output);
        }
        self.held.push_back((self.said, output));
        None
    }

    /// All up to this number is kept; gives what waited for it.
    pub(super) fn commit(&mut self, number: u64) -> Vec<Output> {
        self.done = self.done.max(number);
        while let Some((_, records)) = self.waiting.pop_front_if(|(n, _)| *n <= number) {
            records.into_iter().for_each(|record| self.kept.apply(record));
        }
        let mut free = Vec::new();
        while let Some((_, output)) = self.held.pop_front_if(|(n, _)| *n <= self.done) {
            free.push(output);
        }
        free
    }

    /// All that was said is kept.
    pub(super) fn commit_all(&mut self) -> Vec<Output> {
        self.commit(self.said)
    }

    /// After a frame that was dropped none may follow.
    pub(super) fn drop_frames(&mut self, connection: CtiConnection) {
        self.held.retain(|(_, output)| !matches!(output, Output::Cti(of, _) if *of == connection));
    }

    /// The node is dead; what the next life finds.
    pub(super) fn crash(&mut self, alive: u64) -> Kept {
        let kept = std::mem::take(self).kept;
        Kept { alive, ..kept }
    }

    /// What will be kept when all is committed.
    pub(super) fn sum(&self, now: u64) -> Kept {
        let mut kept = Kept { alive: now, ..self.kept.clone() };
        self.waiting.iter().flat_map(|(_, records)| records.clone()).for_each(|record| kept.apply(record));
        kept.forget_ended(now);
        kept
    }
}
