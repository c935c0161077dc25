//! A CTI connection: two streams of bytes that are cut anywhere, delayed, stalled, and broken in the middle of a line.

use super::dice::Dice;
use super::scene::TIGHT;
use protocol::frame::Decoder;
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes under way that nobody has read; beyond it the writer waits.
const WINDOW: usize = 16 * 1024;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Node,
    Application,
}

/// Whether the application hears that its connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Always,
    OrNot,
}

/// One direction.
#[derive(Default)]
struct Stream {
    /// Pieces under way, with their arrival.
    pieces: VecDeque<(Duration, Vec<u8>)>,
    bytes: usize,
    last_arrival: Duration,
    /// Nothing moves until then.
    stalled_until: Duration,
    /// The end comes after the last piece.
    ends_at: Option<Duration>,
}

/// Tells a slow reader from a node that says much at once, as the shell does: what is written in one step to an empty
/// queue is excused, and counts for nothing while it waits.
#[derive(Default)]
struct Backlog {
    queued: usize,
    /// The first so many of them.
    excused: usize,
    /// The node's step in which it wrote last, and whether nothing waited then.
    step: u64,
    from_empty: bool,
}

impl Backlog {
    fn is_full(&mut self, step: u64, waiting: usize) -> bool {
        if self.step != step {
            self.step = step;
            self.from_empty = waiting == 0;
        }
        let written = self.queued - waiting;
        !self.from_empty && waiting >= TIGHT.queue_events + self.excused.saturating_sub(written)
    }

    fn queued(&mut self) {
        self.queued += 1;
        if self.from_empty {
            self.excused = self.queued;
        }
    }
}

/// One connection.
pub(super) struct Pipe {
    to_node: Stream,
    to_application: Stream,
    /// Whole frames of the node that have no room under way yet.
    waiting: VecDeque<Vec<u8>>,
    /// The node has closed: the end follows what waits.
    closing: bool,
    backlog: Backlog,
    overflowed: bool,
    farewell: bool,
    /// What the node's shell cuts the bytes into lines with.
    pub(super) decoder: Decoder,
    pub(super) node_knows_the_end: bool,
    pub(super) application_knows_the_end: bool,
}

/// What a frame of the node's met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Queued,
    Overflow,
    Dropped,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self {
            to_node: Stream::default(),
            to_application: Stream::default(),
            waiting: VecDeque::new(),
            closing: false,
            backlog: Backlog::default(),
            overflowed: false,
            farewell: false,
            decoder: Decoder::new(),
            node_knows_the_end: false,
            application_knows_the_end: false,
        }
    }

    /// The node writes a frame in this step of its.
    pub(super) fn write_frame(
        &mut self,
        now: Duration,
        step: u64,
        line: Vec<u8>,
        dice: &mut Dice,
    ) -> Written {
        if self.closing || self.node_knows_the_end {
            return Written::Dropped;
        }
        if self.overflowed {
            return Written::Dropped;
        }
        if self.backlog.is_full(step, self.waiting.len()) && !self.farewell {
            self.overflowed = true;
            return Written::Overflow;
        }
        self.waiting.push_back(line);
        self.backlog.queued();
        self.fill(now, dice);
        Written::Queued
    }

    /// The node says goodbye: the reserve of the shell's queue is there for it.
    pub(super) fn begin_farewell(&mut self) {
        self.overflowed = false;
        self.farewell = true;
    }

    /// Frames that wait for the reader.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn close_by_node(&mut self, now: Duration, dice: &mut Dice) {
        self.closing = true;
        self.node_knows_the_end = true;
        self.fill(now, dice);
    }

    pub(super) fn write_to_node(&mut self, now: Duration, bytes: &[u8], dice: &mut Dice) {
        if !self.application_knows_the_end {
            self.to_node.write(now, bytes, dice);
        }
    }

    pub(super) fn close_by_application(&mut self, now: Duration, dice: &mut Dice) {
        self.application_knows_the_end = true;
        self.to_node.end(now + dice.ms(0, 30));
    }

    /// The connection breaks: of what is under way only so much arrives, cut at any byte. Either end may hear of it at
    /// once, later, or never (a pulled cable).
    pub(super) fn cut(&mut self, now: Duration, dice: &mut Dice, heard: Heard) {
        self.backlog.queued -= self.waiting.len();
        self.waiting.clear();
        for (to, stream) in [(To::Node, &mut self.to_node), (To::Application, &mut self.to_application)] {
            stream.truncate(dice.up_to(stream.bytes));
            if dice.percent(70) || (heard == Heard::Always && to == To::Application) {
                let late = now + dice.ms(0, 200);
                stream.end(late);
            } else {
                stream.stalled_until = Duration::MAX;
            }
        }
        self.closing = true;
    }

    /// Both ends hear at once that it is gone; nothing of what is under way arrives.
    pub(super) fn vanish(&mut self) {
        self.waiting.clear();
        self.backlog = Backlog::default();
        for stream in [&mut self.to_node, &mut self.to_application] {
            *stream = Stream::default();
        }
        (self.closing, self.node_knows_the_end, self.application_knows_the_end) = (true, true, true);
    }

    pub(super) fn stall(&mut self, to: To, until: Duration) {
        let stream = self.stream(to);
        stream.stalled_until = stream.stalled_until.max(until);
    }

    fn stream(&mut self, to: To) -> &mut Stream {
        match to {
            To::Node => &mut self.to_node,
            To::Application => &mut self.to_application,
        }
    }

    /// When the next piece or the end arrives at one of the two.
    pub(super) fn next_arrival(&self) -> Option<(Duration, To)> {
        let node = self.to_node.next().filter(|_| !self.node_knows_the_end).map(|at| (at, To::Node));
        let application = self
            .to_application
            .next()
            .filter(|_| !self.application_knows_the_end)
            .map(|at| (at, To::Application));
        match (node, application) {
            (Some(node), Some(application)) if application.0 < node.0 => Some(application),
            (Some(node), _) => Some(node),
            (None, application) => application,
        }
    }

    /// What arrives now; an empty piece is the end.
    pub(super) fn arrive(&mut self, now: Duration, to: To, dice: &mut Dice) -> Vec<u8> {
        let piece = self.stream(to).take();
        if to == To::Application {
            self.fill(now, dice);
        }
        if piece.is_empty() {
            match to {
                To::Node => self.node_knows_the_end = true,
                To::Application => self.application_knows_the_end = true,
            }
        }
        piece
    }

    /// Whether both ends have forgotten it.
    pub(super) fn is_over(&self) -> bool {
        self.node_knows_the_end && self.application_knows_the_end
    }

    fn fill(&mut self, now: Duration, dice: &mut Dice) {
        while self.to_application.bytes < WINDOW
            && let Some(line) = self.waiting.pop_front()
        {
            self.to_application.write(now, &line, dice);
        }
        if self.closing && self.waiting.is_empty() && self.node_knows_the_end {
            self.to_application.end(now + dice.ms(0, 30));
        }
    }
}

impl Stream {
    fn write(&mut self, now: Duration, mut bytes: &[u8], dice: &mut Dice) {
        if self.ends_at.is_some() {
            return;
        }
        while !bytes.is_empty() {
            let whole = dice.percent(60);
            let cut = if whole { bytes.len() } else { 1 + dice.up_to(bytes.len() - 1) };
            let (piece, rest) = bytes.split_at(cut);
            self.last_arrival = self.last_arrival.max(now + dice.ms(1, 25));
            self.bytes += piece.len();
            self.pieces.push_back((self.last_arrival, piece.to_vec()));
            bytes = rest;
        }
    }

    fn end(&mut self, at: Duration) {
        let at = at.max(self.last_arrival);
        self.ends_at = Some(self.ends_at.map_or(at, |already| already.min(at)));
    }

    fn truncate(&mut self, mut left: usize) {
        for (_, piece) in &mut self.pieces {
            let keep = piece.len().min(left);
            piece.truncate(keep);
            left -= keep;
        }
        self.pieces.retain(|(_, piece)| !piece.is_empty());
        self.bytes = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
    }

    fn next(&self) -> Option<Duration> {
        let next = self.pieces.front().map(|(at, _)| *at).or(self.ends_at)?;
        (self.stalled_until < Duration::MAX).then(|| next.max(self.stalled_until))
    }

    fn take(&mut self) -> Vec<u8> {
        let Some((_, piece)) = self.pieces.pop_front() else { return Vec::new() };
        self.bytes -= piece.len();
        piece
    }
}
