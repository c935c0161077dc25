//! What waits to be written to a session's connection, in its order. A replay is not copied here: it is read from the log
//! when its turn comes, so that a long one can be written a little at a time.

use super::log::EventLog;
use crate::frame::Frame;
use std::collections::VecDeque;

#[derive(Debug)]
enum Waiting {
    Frame(Frame),
    /// Events of the log.
    Replay {
        next: u64,
        last: u64,
    },
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Waiting>,
    frames: usize,
    /// So many of the first frames are not the reader's fault: they came with a replay.
    excused: usize,
}

impl Queue {
    /// Adds a frame.
    pub(super) fn push(&mut self, frame: Frame) {
        self.items.push_back(Waiting::Frame(frame));
        self.frames += 1;
    }

    /// Adds the events of the log from `first` on. Nothing that waits already counts any more.
    pub(super) fn replay(&mut self, first: u64, log: &mut EventLog) {
        self.excused = self.frames;
        let last = log.last_seq();
        if first <= last {
            self.items.push_back(Waiting::Replay { next: first, last });
            self.hold(log);
        }
    }

    /// The next frame.
    pub(super) fn pop(&mut self, log: &mut EventLog) -> Option<Frame> {
        loop {
            match self.items.front_mut()? {
                Waiting::Frame(_) => {
                    let Some(Waiting::Frame(frame)) = self.items.pop_front() else { return None };
                    self.frames -= 1;
                    self.excused = self.excused.saturating_sub(1);
                    return Some(frame);
                }
                Waiting::Replay { next, last } => {
                    let event = log.read(*next);
                    *next += 1;
                    if next > last {
                        self.items.pop_front();
                        self.hold(log);
                    } else {
                        log.read_up_to(*next);
                    }
                    // What is replayed is held, so that there is one.
                    if event.is_some() {
                        return event;
                    }
                }
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, log: &mut EventLog) {
        (self.frames, self.excused) = (0, 0);
        self.items.clear();
        log.hold(None);
    }

    /// Frames that count against the bound of the queue.
    pub(super) fn counted(&self) -> usize {
        self.frames - self.excused
    }

    /// All frames that wait, those of replays too.
    pub(super) fn len(&self) -> usize {
        self.replays()
            .map(|(next, last)| usize::try_from(last + 1 - next).unwrap_or(usize::MAX))
            .sum::<usize>()
            + self.frames
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether events of a replay wait.
    pub(super) fn is_replaying(&self) -> bool {
        self.frames < self.items.len()
    }

    /// The log keeps what is to be replayed, whatever its bounds.
    fn hold(&self, log: &mut EventLog) {
        let mut replays = self.replays();
        let first = replays.next();
        let last = replays.last().or(first);
        log.hold(first.zip(last).map(|((next, _), (_, last))| (next, last)));
    }

    fn replays(&self) -> impl Iterator<Item = (u64, u64)> {
        self.items.iter().filter_map(|item| match item {
            Waiting::Frame(_) => None,
            Waiting::Replay { next, last } => Some((*next, *last)),
        })
    }
}
