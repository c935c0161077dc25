//! Digits as RFC 4733 telephone-events: a sender that paces one event, and a receiver that tells each digit once.

use super::SAMPLES_PER_MS;
use std::time::{Duration, Instant};

/// The shortest and the longest event that is sent, in milliseconds: what detectors need, and one event's 16-bit duration.
pub const DURATION_MS: std::ops::RangeInclusive<u32> = 40..=8_000;

/// An event whose packets cease without its end packet ends after this.
pub const LOST_END: Duration = Duration::from_millis(300);

/// How often the end packet is sent (RFC 4733 §2.5.1.4).
const END_PACKETS: u8 = 3;

/// −10 dBm0, as most telephones say.
const VOLUME: u8 = 10;

const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// A key of a telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digit(u8);

impl Digit {
    /// `0`–`9`, `*`, `#`, `A`–`D` (or `a`–`d`).
    #[must_use]
    pub fn from_char(c: char) -> Option<Self> {
        let upper = u8::try_from(c).ok()?.to_ascii_uppercase();
        KEYS.iter().position(|key| *key == upper).map(|code| Self(code as u8))
    }

    /// The key of an event code; codes above 15 are no keys.
    #[must_use]
    pub fn from_event(code: u8) -> Option<Self> {
        (usize::from(code) < KEYS.len()).then_some(Self(code))
    }

    /// As it is written on the key.
    #[must_use]
    pub fn as_char(self) -> char {
        char::from(KEYS[usize::from(self.0)])
    }
}

/// The packets of one event: all with the timestamp of its start.
#[derive(Clone, Debug)]
pub struct EventSender {
    digit: Digit,
    packet_ms: u32,
    duration_ms: u32,
    sent_ms: u32,
    ends_left: u8,
}

/// One packet of an event, for the caller's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// Only on the first.
    pub marker: bool,
    /// Event, end bit and volume, duration.
    pub payload: [u8; 4],
}

impl EventSender {
    /// An event of `duration_ms`, brought into [`DURATION_MS`], with a packet every `packet_ms`.
    #[must_use]
    pub fn new(digit: Digit, duration_ms: u32, packet_ms: u32) -> Self {
        let duration_ms = duration_ms.clamp(*DURATION_MS.start(), *DURATION_MS.end());
        Self { digit, packet_ms: packet_ms.max(1), duration_ms, sent_ms: 0, ends_left: END_PACKETS }
    }

    /// How long the key is down, milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u32 {
        self.duration_ms
    }
}

impl Iterator for EventSender {
    type Item = EventPacket;

    /// The packet for the next interval; `None` after the third end packet.
    fn next(&mut self) -> Option<EventPacket> {
        self.ends_left = match self.sent_ms < self.duration_ms {
            true => self.ends_left,
            false => self.ends_left.checked_sub(1)?,
        };
        let marker = self.sent_ms == 0;
        let ended = self.sent_ms >= self.duration_ms;
        self.sent_ms = (self.sent_ms + self.packet_ms).min(self.duration_ms);
        let duration = (self.sent_ms * SAMPLES_PER_MS as u32) as u16;
        let [high, low] = duration.to_be_bytes();
        Some(EventPacket { marker, payload: [self.digit.0, (u8::from(ended) << 7) | VOLUME, high, low] })
    }
}

/// What a receiver tells of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// A key went down: told once an event, with the first of its packets that arrives.
    Pressed(Digit),
    /// It went up, or its packets ceased.
    Released {
        /// Which.
        digit: Digit,
        /// For how long it was down, as far as was told.
        duration_ms: u32,
    },
}

/// Reads the telephone-events of one stream.
///
/// An event is known by its timestamp: its repeated, late and end packets say nothing new. The last few are remembered,
/// so that a packet that was overtaken by the next key's is not taken for a key of its own.
#[derive(Debug, Default)]
pub struct EventReceiver {
    down: Option<Down>,
    past: [Option<u32>; 4],
}

#[derive(Debug)]
struct Down {
    digit: Digit,
    timestamp: u32,
    duration: u16,
    before_ms: u32,
    last_packet: Instant,
}

impl Down {
    fn released(&self) -> KeyEvent {
        let duration_ms = self.before_ms.saturating_add(u32::from(self.duration) / SAMPLES_PER_MS as u32);
        KeyEvent::Released { digit: self.digit, duration_ms }
    }
}

impl EventReceiver {
    /// A receiver that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet of the telephone-event payload type; tells of at most the release of one key and the next key.
    pub fn receive(&mut self, now: Instant, timestamp: u32, payload: &[u8]) -> [Option<KeyEvent>; 2] {
        let &[code, flags, high, low, ..] = payload else { return [None, None] };
        let Some(digit) = Digit::from_event(code) else { return [None, None] };
        let (ended, duration) = (flags & 0x80 != 0, u16::from_be_bytes([high, low]));
        if self.past.contains(&Some(timestamp)) {
            return [None, None];
        }
        let mut told = [None, None];
        match &mut self.down {
            Some(down) if down.timestamp == timestamp => down.go_on(now, duration),
            Some(down) if down.is_continued_by(digit, timestamp) => {
                down.before_ms = down.before_ms.saturating_add(u32::from(u16::MAX) / SAMPLES_PER_MS as u32);
                (down.timestamp, down.duration, down.last_packet) = (timestamp, duration, now);
            }
            Some(_) | None => {
                told[0] = self.release();
                told[1] = Some(KeyEvent::Pressed(digit));
                self.down = Some(Down { digit, timestamp, duration, before_ms: 0, last_packet: now });
            }
        }
        if ended {
            let released = self.release();
            match told[1] {
                // The key's only packet was its end: pressing it is what counts.
                Some(_) => {}
                None => told[1] = released,
            }
        }
        told
    }

    /// When [`EventReceiver::timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.down.as_ref().map(|down| down.last_packet + LOST_END)
    }

    /// Ends an event whose packets have ceased.
    pub fn timeout(&mut self, now: Instant) -> Option<KeyEvent> {
        if self.next_timeout().is_some_and(|due| due <= now) { self.release() } else { None }
    }

    fn release(&mut self) -> Option<KeyEvent> {
        let down = self.down.take()?;
        self.past.rotate_right(1);
        self.past[0] = Some(down.timestamp);
        Some(down.released())
    }
}

impl Down {
    fn go_on(&mut self, now: Instant, duration: u16) {
        self.duration = self.duration.max(duration);
        self.last_packet = now;
    }

    /// A key held for longer than 16 bits can say goes on as a new segment at once (RFC 4733 §2.5.1.3).
    fn is_continued_by(&self, digit: Digit, timestamp: u32) -> bool {
        self.digit == digit && timestamp == self.timestamp.wrapping_add(u32::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests;
