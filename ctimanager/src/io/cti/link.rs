//! The owner's end of an application's connection: what waits for a slow reader, and when it is too much.

use crate::io::outbox::{Outbox, Refused};
use crate::node::{CtiConnection, CtiTransport, Frame};
use std::net::SocketAddr;

/// The owner's end of an application's connection. To drop it closes the connection.
#[derive(Debug)]
pub(in crate::io) struct CtiLink {
    pub(in crate::io) connection: CtiConnection,
    pub(in crate::io) peer: SocketAddr,
    pub(in crate::io) transport: CtiTransport,
    outbox: Outbox<Frame>,
    backlog: Backlog,
    state: LinkState,
}

/// Tells a slow reader from a core that says much at once, as when it replays a log: what the core writes in one step
/// to an empty queue is excused, and counts for nothing while it waits.
#[derive(Debug, Default)]
struct Backlog {
    /// How many frames may wait that are not excused.
    limit: usize,
    /// Frames ever queued; the first `excused` of them are.
    queued: usize,
    excused: usize,
    /// The core's step in which a frame came last, and whether the queue was empty when it began.
    step: u64,
    from_empty: bool,
}

impl Backlog {
    /// How many frames may wait now.
    fn limit(&mut self, step: u64, waiting: usize) -> usize {
        if self.step != step {
            self.step = step;
            self.from_empty = waiting == 0;
        }
        if self.from_empty {
            return usize::MAX;
        }
        let written = self.queued - waiting;
        self.limit + self.excused.saturating_sub(written)
    }

    fn queued(&mut self) {
        self.queued += 1;
        if self.from_empty {
            self.excused = self.queued;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    Writing,
    /// A frame was dropped. Nothing may follow it, or the reader would not see the gap.
    Overflowed,
    /// The core knows of it and says goodbye.
    Farewell,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Written {
    Queued,
    /// The queue is full: the core is to be told, once.
    Overflow,
    /// It came after an overflow, or the connection is at its end.
    Dropped,
}

impl CtiLink {
    /// A link whose queue refuses what comes when `limit` frames wait that are not excused.
    pub(super) fn new(
        connection: CtiConnection,
        peer: SocketAddr,
        transport: CtiTransport,
        outbox: Outbox<Frame>,
        limit: usize,
    ) -> Self {
        let backlog = Backlog { limit, ..Backlog::default() };
        Self { connection, peer, transport, outbox, backlog, state: LinkState::Writing }
    }

    /// Queues a frame, written in this step of the core, for the connection's task.
    pub(in crate::io) fn write(&mut self, step: u64, frame: Frame) -> Written {
        let refused = match self.state {
            LinkState::Writing => {
                let limit = self.backlog.limit(step, self.outbox.waiting());
                self.outbox.push_within(limit, frame).inspect(|()| self.backlog.queued())
            }
            LinkState::Overflowed => return Written::Dropped,
            LinkState::Farewell => self.outbox.push_farewell(frame),
        };
        match (refused, self.state) {
            (Ok(()), _) => Written::Queued,
            (Err(Refused::Full), LinkState::Writing) => {
                self.state = LinkState::Overflowed;
                Written::Overflow
            }
            (Err(Refused::Full | Refused::Closed), _) => Written::Dropped,
        }
    }

    /// Whether a quarter of the queue waits for the reader.
    pub(in crate::io) fn is_behind(&self) -> bool {
        self.outbox.waiting() > self.backlog.limit / 4
    }

    /// Whether no more than an eighth of it waits.
    pub(in crate::io) fn has_caught_up(&self) -> bool {
        self.outbox.waiting() <= self.backlog.limit / 8
    }

    /// The core has been told of the overflow: what it writes now is the goodbye.
    pub(in crate::io) fn begin_farewell(&mut self) {
        self.state = LinkState::Farewell;
    }
}

#[cfg(test)]
mod tests {
    use super::Backlog;

    #[test]
    fn what_came_in_one_step_to_an_empty_queue_is_excused_until_it_is_written() {
        let mut backlog = Backlog { limit: 10, ..Backlog::default() };
        for waiting in 0..100 {
            assert_eq!(backlog.limit(1, waiting), usize::MAX);
            backlog.queued();
        }
        assert_eq!(backlog.limit(2, 100), 110, "all of it still waits");
        assert_eq!(backlog.limit(3, 40), 50);
        backlog.queued();
        assert_eq!(backlog.limit(4, 11), 20, "the newest is not excused");
        assert_eq!(backlog.limit(5, 1), 10);
        assert_eq!(backlog.limit(6, 0), usize::MAX, "a new step, an empty queue");
    }
}
