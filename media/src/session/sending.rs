//! What one end sends: audio and telephone-events, one packet a tick.

use super::{MAX_WAITING_DIGITS, MediaStream, SendDatagram, SessionEvent};
use crate::SAMPLES_PER_MS;
use crate::codec::{AudioCodec, Encoder};
use crate::dtmf::{Digit, EventSender};
use crate::rtp::RtpPacket;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Telephone-events are sent this long, and this far apart.
const DIGIT_MS: u32 = 100;
const DIGIT_GAP_MS: u32 = 80;

#[derive(Debug)]
pub(super) struct Sending {
    clock: SendClock,
    encoder: Option<Encoder>,
    playing: Option<Play>,
    digits: VecDeque<DigitsToSend>,
    packet: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Play {
    samples: Arc<[i16]>,
    position: usize,
}

#[derive(Debug)]
struct DigitsToSend {
    digits: VecDeque<Digit>,
    event: Option<(EventSender, u32)>,
    gap_ms: u32,
}

/// Sequence numbers, and timestamps that follow the clock through pauses.
#[derive(Debug)]
struct SendClock {
    ssrc: u32,
    sequence: u16,
    first_timestamp: u32,
    epoch: Instant,
    last_sent: Option<Instant>,
}

impl SendClock {
    fn timestamp(&self, at: Instant) -> u32 {
        let samples =
            at.saturating_duration_since(self.epoch).as_nanos() * SAMPLES_PER_MS as u128 / 1_000_000;
        self.first_timestamp.wrapping_add(samples as u32)
    }
}

/// What is the packet's own in its header.
struct Head {
    marker: bool,
    payload_type: u8,
    timestamp: u32,
}

impl Sending {
    pub(super) fn new(start: [u8; 10], now: Instant) -> Self {
        let [s0, s1, s2, s3, t0, t1, t2, t3, n0, n1] = start;
        let clock = SendClock {
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            sequence: u16::from_be_bytes([n0, n1]),
            first_timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            epoch: now,
            last_sent: None,
        };
        Self {
            clock,
            encoder: None,
            playing: None,
            digits: VecDeque::new(),
            packet: Vec::with_capacity(256),
            payload: Vec::with_capacity(256),
        }
    }

    /// The codec from now on.
    pub(super) fn speak(&mut self, codec: AudioCodec) {
        if self.encoder.as_ref().is_none_or(|encoder| encoder.codec() != codec) {
            self.encoder = Some(Encoder::new(codec));
        }
    }

    pub(super) fn play(&mut self, samples: Arc<[i16]>) {
        self.playing = Some(Play { samples, position: 0 });
    }

    pub(super) fn stop_playing(&mut self) {
        self.playing = None;
    }

    /// `false` when too many wait already.
    pub(super) fn queue_digits(&mut self, digits: Vec<Digit>) -> bool {
        let room = self.digits.len() < MAX_WAITING_DIGITS;
        if room {
            self.digits.push_back(DigitsToSend { digits: digits.into(), event: None, gap_ms: 0 });
        }
        room
    }

    pub(super) fn give_up_digits(&mut self, events: &mut Vec<SessionEvent>) {
        events.extend(self.digits.drain(..).map(|_| SessionEvent::DigitsSent(false)));
    }

    pub(super) fn has_something(&self) -> bool {
        self.playing.is_some() || !self.digits.is_empty()
    }

    pub(super) fn last_sent(&self) -> Option<Instant> {
        self.clock.last_sent
    }

    /// One packet at most; whether the socket took it.
    pub(super) fn tick(
        &mut self,
        at: Instant,
        output: MediaStream,
        to: SocketAddr,
        events: &mut Vec<SessionEvent>,
        send: &mut impl SendDatagram,
    ) -> Option<bool> {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        let head = match self.digits.is_empty() {
            false => self.next_event(at, output, &mut payload, events),
            true => self.next_audio(at, output, &mut payload, events),
        };
        let sent = head.map(|head| {
            let Head { marker, payload_type, timestamp } = head;
            let (sequence, ssrc) = (self.clock.sequence, self.clock.ssrc);
            RtpPacket { marker, payload_type, sequence, timestamp, ssrc, payload: &payload }
                .write(&mut self.packet);
            self.clock.sequence = sequence.wrapping_add(1);
            self.clock.last_sent = Some(at);
            send(&self.packet, to)
        });
        self.payload = payload;
        sent
    }

    fn next_audio(
        &mut self,
        at: Instant,
        output: MediaStream,
        payload: &mut Vec<u8>,
        events: &mut Vec<SessionEvent>,
    ) -> Option<Head> {
        let (play, encoder) = (self.playing.as_mut()?, self.encoder.as_mut()?);
        let len = usize::from(output.packet_ms) * SAMPLES_PER_MS;
        let rest = &play.samples[play.position..];
        let now = &rest[..rest.len().min(len)];
        encoder.encode(now, payload);
        // The last packet is as long as the others.
        encoder.encode(&vec![0; len - now.len()], payload);
        play.position += now.len();
        if play.position == play.samples.len() {
            self.playing = None;
            events.push(SessionEvent::Played);
        }
        let interval = Duration::from_millis(output.packet_ms.into());
        let marker = self.clock.last_sent.is_none_or(|last| at > last + interval);
        Some(Head { marker, payload_type: output.payload_type, timestamp: self.clock.timestamp(at) })
    }

    fn next_event(
        &mut self,
        at: Instant,
        output: MediaStream,
        payload: &mut Vec<u8>,
        events: &mut Vec<SessionEvent>,
    ) -> Option<Head> {
        let Some(payload_type) = output.dtmf_payload_type else {
            self.give_up_digits(events);
            return None;
        };
        let packet_ms = u32::from(output.packet_ms);
        let waiting = self.digits.front_mut()?;
        if waiting.event.is_none() && waiting.gap_ms == 0 {
            let Some(digit) = waiting.digits.pop_front() else {
                self.digits.pop_front();
                events.push(SessionEvent::DigitsSent(true));
                return None;
            };
            waiting.event = Some((EventSender::new(digit, DIGIT_MS, packet_ms), self.clock.timestamp(at)));
        }
        let Some((event, timestamp)) = &mut waiting.event else {
            waiting.gap_ms = waiting.gap_ms.saturating_sub(packet_ms);
            return None;
        };
        let Some(packet) = event.next() else {
            (waiting.event, waiting.gap_ms) = (None, DIGIT_GAP_MS.saturating_sub(packet_ms));
            return None;
        };
        payload.extend(packet.payload);
        Some(Head { marker: packet.marker, payload_type, timestamp: *timestamp })
    }
}
