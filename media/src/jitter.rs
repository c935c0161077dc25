//! A small adaptive jitter buffer: puts audio in order on the stream's own time line and plays it at a steady pace.
//!
//! It works on RTP timestamps and not on sequence numbers, so packets of any length, telephone-events in between and
//! silence suppression need no special care. The delay follows the jitter that RFC 3550 §6.4.1 measures.

use super::SAMPLES_PER_MS;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Audio that is held at most, in samples: one second. More drops the oldest, which is counted.
pub const MAX_HELD_SAMPLES: u64 = 1_000 * SAMPLES_PER_MS as u64;

/// Packets that are held at most, however short they are.
pub const MAX_HELD_PACKETS: usize = 200;

/// The shortest and the longest delay.
pub const DELAY: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(200);

/// A gap is filled with an echo of what was last heard for this long, then with silence.
const ECHO_SAMPLES: u64 = 20 * SAMPLES_PER_MS as u64;

/// After so much of nothing the stream has paused: what comes next is buffered anew.
const PAUSE_SAMPLES: u64 = 60 * SAMPLES_PER_MS as u64;

/// A timestamp this far off is another time line: the sender began anew.
const JUMP_SAMPLES: u64 = 5_000 * SAMPLES_PER_MS as u64;

/// Frames with too much in the buffer before one of them is left out.
const PATIENCE_FRAMES: u32 = 50;

/// What was done with packets and samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// Packets that came after their time had been played.
    pub late: u64,
    /// Packets that were there already.
    pub duplicate: u64,
    /// Packets that were dropped because too much was held.
    pub overflow: u64,
    /// Samples that were made up, because theirs did not come in time.
    pub concealed_samples: u64,
    /// Times that the sender's clock jumped.
    pub resets: u64,
}

/// The buffer of one incoming stream.
#[derive(Debug)]
pub struct JitterBuffer {
    packets: BTreeMap<u64, Vec<i16>>,
    held_samples: u64,
    newest: Option<u64>,
    state: State,
    jitter: Jitter,
    echo: Vec<i16>,
    plenty_frames: u32,
    stats: JitterStats,
}

#[derive(Debug)]
enum State {
    /// Nothing is held.
    Empty,
    /// Waits until the delay has passed since the first packet came.
    Filling { since: Instant },
    /// Plays; the cursor is the time of the next sample, `made_up` counts samples since the last true one.
    Playing { cursor: u64, made_up: u64 },
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl JitterBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            packets: BTreeMap::new(),
            held_samples: 0,
            newest: None,
            state: State::Empty,
            jitter: Jitter::default(),
            echo: Vec::new(),
            plenty_frames: 0,
            stats: JitterStats::default(),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    /// The delay that the jitter asks for now.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.jitter.delay()
    }

    /// Takes the samples of a packet.
    pub fn push(&mut self, now: Instant, timestamp: u32, samples: Vec<i16>) {
        if samples.is_empty() || samples.len() as u64 > MAX_HELD_SAMPLES {
            return;
        }
        let at = self.place(timestamp);
        self.jitter.measure(now, at);
        if let State::Playing { cursor, .. } = self.state
            && at + samples.len() as u64 <= cursor
        {
            self.stats.late += 1;
            return;
        }
        if self.packets.contains_key(&at) {
            self.stats.duplicate += 1;
            return;
        }
        if matches!(self.state, State::Empty) {
            self.state = State::Filling { since: now };
        }
        self.newest = self.newest.max(Some(at));
        self.held_samples += samples.len() as u64;
        self.packets.insert(at, samples);
        while self.held_samples > MAX_HELD_SAMPLES || self.packets.len() > MAX_HELD_PACKETS {
            self.drop_oldest();
        }
    }

    /// The next `len` samples, or nothing while the stream pauses or the buffer fills. To be called once for each `len`
    /// samples of time.
    pub fn pull(&mut self, now: Instant, len: usize) -> Option<Vec<i16>> {
        let (mut cursor, mut made_up) = match self.state {
            State::Empty => return None,
            State::Filling { since } if now.saturating_duration_since(since) < self.delay() => return None,
            State::Filling { .. } => (*self.packets.first_key_value()?.0, 0),
            State::Playing { cursor, made_up } => (cursor, made_up),
        };
        if self.packets.is_empty() && made_up >= PAUSE_SAMPLES {
            self.state = State::Empty;
            return None;
        }
        cursor += self.skip(cursor, len);
        let frame = self.fill(cursor, len, &mut made_up);
        self.state = State::Playing { cursor: cursor + len as u64, made_up };
        Some(frame)
    }

    /// The stream begins anew: what is held belongs to the old one.
    pub fn reset(&mut self) {
        *self = Self { stats: self.stats, ..Self::new() };
    }

    /// Where the 32-bit timestamp lies on the endless time line.
    fn place(&mut self, timestamp: u32) -> u64 {
        // The line starts high enough for packets that were overtaken by the first.
        const START: u64 = 1 << 33;
        let Some(newest) = self.newest else {
            let at = START + u64::from(timestamp);
            self.newest = Some(at);
            return at;
        };
        let step = timestamp.wrapping_sub(newest as u32) as i32;
        if u64::from(step.unsigned_abs()) > JUMP_SAMPLES {
            self.reset();
            self.stats.resets += 1;
            return self.place(timestamp);
        }
        newest.saturating_add_signed(i64::from(step))
    }

    /// Samples to leave out, because for a while more has been held than the delay asks for.
    fn skip(&mut self, cursor: u64, len: usize) -> u64 {
        let end = self.packets.last_key_value().map_or(cursor, |(at, samples)| at + samples.len() as u64);
        let wanted = self.delay().as_millis() as u64 * SAMPLES_PER_MS as u64 + 2 * len as u64;
        if end.saturating_sub(cursor) <= wanted {
            self.plenty_frames = 0;
            return 0;
        }
        self.plenty_frames += 1;
        if self.plenty_frames < PATIENCE_FRAMES {
            return 0;
        }
        self.plenty_frames = 0;
        len as u64
    }

    fn fill(&mut self, cursor: u64, len: usize, made_up: &mut u64) -> Vec<i16> {
        let end = cursor + len as u64;
        let mut frame = Vec::with_capacity(len);
        while frame.len() < len {
            let at = cursor + frame.len() as u64;
            match self.packets.first_entry() {
                Some(entry) if *entry.key() <= at => {
                    let (start, samples) = entry.remove_entry();
                    self.held_samples -= samples.len() as u64;
                    let rest = samples.get((at - start) as usize..).unwrap_or_default();
                    let (now, later) = rest.split_at(rest.len().min(len - frame.len()));
                    frame.extend_from_slice(now);
                    if !rest.is_empty() {
                        *made_up = 0;
                    }
                    if !later.is_empty() && !self.packets.contains_key(&end) {
                        self.held_samples += later.len() as u64;
                        self.packets.insert(end, later.to_vec());
                    }
                }
                Some(entry) => {
                    let gap = (*entry.key()).min(end) - at;
                    self.conceal(&mut frame, gap as usize, made_up);
                }
                None => {
                    let gap = end - at;
                    self.conceal(&mut frame, gap as usize, made_up);
                }
            }
        }
        if *made_up == 0 {
            self.echo.clone_from(&frame);
        }
        frame
    }

    fn conceal(&mut self, frame: &mut Vec<i16>, samples: usize, made_up: &mut u64) {
        for n in 0..samples {
            let echo = match self.echo.len() {
                len if len > 0 && *made_up < ECHO_SAMPLES => self.echo[n % len] / 2,
                _ => 0,
            };
            frame.push(echo);
            *made_up += 1;
        }
        self.stats.concealed_samples += samples as u64;
    }

    fn drop_oldest(&mut self) {
        if let Some((_, samples)) = self.packets.pop_first() {
            self.held_samples -= samples.len() as u64;
            self.stats.overflow += 1;
        }
        // What is left is a later part of the line; playing on from the gap would only keep the buffer full.
        if let (State::Playing { cursor, .. }, Some((first, _))) =
            (&mut self.state, self.packets.first_key_value())
        {
            *cursor = (*cursor).max(*first);
        }
    }
}

/// The interarrival jitter of RFC 3550 §6.4.1, in samples.
#[derive(Debug, Default)]
struct Jitter {
    last: Option<(Instant, u64)>,
    samples: f64,
}

impl Jitter {
    fn measure(&mut self, now: Instant, at: u64) {
        if let Some((then, before)) = self.last {
            let arrived = now.saturating_duration_since(then).as_secs_f64() * 1_000.0 * SAMPLES_PER_MS as f64;
            let sent = at as f64 - before as f64;
            // A pause of the sender is no jitter of the network; one outlier must not fill the whole buffer.
            let difference = (arrived - sent).abs().min(200.0 * SAMPLES_PER_MS as f64);
            self.samples += (difference - self.samples) / 16.0;
        }
        self.last = Some((now, at));
    }

    fn delay(&self) -> Duration {
        let wanted = Duration::from_secs_f64(3.0 * self.samples / (1_000.0 * SAMPLES_PER_MS as f64));
        (*DELAY.start() + wanted).min(*DELAY.end())
    }
}

#[cfg(test)]
mod tests;
