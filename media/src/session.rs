//! One end of an RTP session, without its socket: what is played, recorded and pressed, and whose packets are heard.
//!
//! - Nothing is sent while there is nothing to say: no comfort noise. The next talk-spurt begins with the marker bit, its
//!   timestamp where the clock stands.
//! - Packets are taken from the far end alone: the address that was told or, until that has sent anything, another one
//!   that sends a few valid packets of the agreed types in a row; ours go there, too (symmetric RTP, RFC 4961). Whatever
//!   else arrives is counted and left out.

mod sending;

use crate::SAMPLES_PER_MS;
use crate::codec::{AudioCodec, Decoder};
use crate::dtmf::{Digit, EventReceiver, KeyEvent};
use crate::jitter::{JitterBuffer, JitterStats};
use crate::rtp::RtpPacket;
use crate::source::{FarEnd, Verdict};
use sending::Sending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest recording; it ends by itself then and keeps what it has.
pub const MAX_RECORDING: Duration = Duration::from_secs(600);

/// Sequences of digits that may wait to be sent.
pub const MAX_WAITING_DIGITS: usize = 64;

/// A sender that was held up by less than this catches up; by more, it goes on where the clock is.
const MAX_CATCH_UP: Duration = Duration::from_millis(100);

/// The pace of a recording while nothing is sent.
const DEFAULT_PACKET_MS: u16 = 20;

/// One direction of the session, as `media.started` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaStream {
    /// Output: where to send. Input: the endpoint's own address.
    pub address: SocketAddr,
    /// The codec.
    pub codec: AudioCodec,
    /// Its payload type in this direction.
    pub payload_type: u8,
    /// Packet length, milliseconds; brought into 10 to 100.
    pub packet_ms: u16,
    /// Telephone-event's payload type in this direction.
    pub dtmf_payload_type: Option<u8>,
}

/// What a session has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpStats {
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets of the stream that came.
    pub received: u64,
    /// Datagrams from other addresses than the far end's.
    pub strangers: u64,
    /// How often another address than the one that was told turned out to be the far end's.
    pub latched: u64,
    /// Datagrams that are no RTP packets, or of a type that was not agreed.
    pub unreadable: u64,
    /// Datagrams that the socket would not send.
    pub send_errors: u64,
    /// Of the jitter buffer, while something records.
    pub jitter: JitterStats,
}

/// What a session tells, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The far end pressed a key.
    Digit(Digit),
    /// All that was to be played has been sent.
    Played,
    /// The recording has its full length: 8 kHz mono, pauses as silence.
    Recorded(Vec<i16>),
    /// The first of the sequences of digits that wait has been sent (`true`), or can't be sent any more.
    DigitsSent(bool),
    /// RTP comes from another address than was agreed, which is taken for the far end's.
    Latched(SocketAddr),
    /// RTP comes from a stranger; told once for each far end.
    Stranger(SocketAddr),
}

/// Telephone-events were not agreed, nothing is sent now, or too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no telephone-event stream is running")]
pub struct NoTelephoneEvents;

/// One end of an RTP session; its user owns the socket.
///
/// [`RtpSession::packet`] takes what the socket received; [`RtpSession::tick`], when [`RtpSession::next_tick`] is due,
/// makes what it is to send; [`RtpSession::take_events`] is to be read after either.
#[derive(Debug)]
pub struct RtpSession {
    input: Option<Input>,
    output: Option<MediaStream>,
    far: FarEnd,
    /// Whether it was said that strangers send, since the far end is who it is.
    strangers_told: bool,
    sending: Sending,
    recording: Option<Vec<i16>>,
    jitter: JitterBuffer,
    digits: EventReceiver,
    remote_ssrc: Option<u32>,
    next_tick: Option<Instant>,
    events: Vec<SessionEvent>,
    stats: RtpStats,
}

/// What is received, and by what it is decoded.
#[derive(Debug)]
struct Input {
    stream: MediaStream,
    decoder: Decoder,
}

/// Sends one datagram; whether the socket took it.
pub trait SendDatagram: FnMut(&[u8], SocketAddr) -> bool {}
impl<F: FnMut(&[u8], SocketAddr) -> bool> SendDatagram for F {}

impl RtpSession {
    /// A session without streams. `start` are random bytes: RFC 3550 wants source, sequence and timestamp to start
    /// anywhere.
    #[must_use]
    pub fn new(start: [u8; 10], now: Instant) -> Self {
        Self {
            input: None,
            output: None,
            far: FarEnd::default(),
            strangers_told: false,
            sending: Sending::new(start, now),
            recording: None,
            jitter: JitterBuffer::new(),
            digits: EventReceiver::new(),
            remote_ssrc: None,
            next_tick: None,
            events: Vec::new(),
            stats: RtpStats::default(),
        }
    }

    /// Starts, changes or ends what is received.
    pub fn set_input(&mut self, stream: Option<MediaStream>) {
        if self.input.is_none() {
            self.new_source();
        }
        self.input = stream.map(|stream| Input { stream, decoder: Decoder::new(stream.codec) });
        self.forget_far_of_stopped();
    }

    /// Starts, changes or ends what is sent. What plays waits while nothing is sent; digits that wait are given up.
    pub fn set_output(&mut self, now: Instant, stream: Option<MediaStream>) {
        self.output = stream.map(|s| MediaStream { packet_ms: s.packet_ms.clamp(10, 100), ..s });
        match stream {
            None => {
                self.sending.give_up_digits(&mut self.events);
                self.forget_far_of_stopped();
            }
            Some(stream) => {
                self.sending.speak(stream.codec);
                if self.far.tell(stream.address) {
                    (self.remote_ssrc, self.strangers_told) = (None, false);
                    self.new_source();
                }
            }
        }
        self.start_or_stop_ticking(now);
    }

    /// Plays samples (8 kHz mono) as soon as and as long as an output stream runs, in place of what played before.
    pub fn play(&mut self, now: Instant, samples: Arc<[i16]>) {
        self.sending.play(samples);
        self.start_or_stop_ticking(now);
    }

    /// Plays no more.
    pub fn stop_playing(&mut self, now: Instant) {
        self.sending.stop_playing();
        self.start_or_stop_ticking(now);
    }

    /// Records what is received from now on, for [`MAX_RECORDING`] at most. What was recorded before is lost.
    pub fn record(&mut self, now: Instant) {
        self.jitter.reset();
        self.recording = Some(Vec::new());
        self.start_or_stop_ticking(now);
    }

    /// Ends a recording that runs: 8 kHz mono.
    pub fn finish_recording(&mut self, now: Instant) -> Option<Vec<i16>> {
        let samples = self.recording.take();
        self.start_or_stop_ticking(now);
        samples
    }

    /// Sends digits as telephone-events of 100 ms, 80 ms apart; what plays waits meanwhile. [`SessionEvent::DigitsSent`]
    /// says when they have gone, for each sequence in its turn.
    ///
    /// # Errors
    /// [`NoTelephoneEvents`]
    pub fn send_digits(&mut self, now: Instant, digits: Vec<Digit>) -> Result<(), NoTelephoneEvents> {
        let agreed = self.output.is_some_and(|output| output.dtmf_payload_type.is_some());
        if !agreed || !self.sending.queue_digits(digits) {
            return Err(NoTelephoneEvents);
        }
        self.start_or_stop_ticking(now);
        Ok(())
    }

    /// Takes a datagram that the socket received.
    pub fn packet(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(stream) = self.input.as_ref().map(|input| input.stream) else { return };
        let agreed = |pt: u8| pt == stream.payload_type || Some(pt) == stream.dtmf_payload_type;
        let packet = RtpPacket::parse(datagram).ok().filter(|p| agreed(p.payload_type));
        let Some(packet) = packet else {
            match self.far.knows(from) {
                true => self.stats.unreadable += 1,
                false => self.stranger(from),
            }
            return;
        };
        match self.far.judge(from, &packet) {
            Verdict::Heard => {}
            Verdict::NewSource => self.new_source(),
            Verdict::Latched => {
                self.stats.latched += 1;
                self.events.push(SessionEvent::Latched(from));
                self.new_source();
            }
            Verdict::Stranger => return self.stranger(from),
        }
        self.stats.received += 1;
        if self.remote_ssrc.replace(packet.ssrc).is_some_and(|before| before != packet.ssrc) {
            self.new_source();
        }
        if Some(packet.payload_type) == stream.dtmf_payload_type {
            let told = self.digits.receive(now, packet.timestamp, packet.payload);
            told.into_iter().flatten().for_each(|event| self.key(event));
        } else if self.recording.is_some()
            && let Some(input) = &mut self.input
        {
            let mut samples = Vec::with_capacity(packet.payload.len());
            input.decoder.decode(packet.payload, &mut samples);
            self.jitter.push(now, packet.timestamp, samples);
        }
    }

    /// When [`RtpSession::tick`] is due: never, while there is nothing to do at each tick. So thousands of idle sessions
    /// cost nothing.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        [self.next_tick, self.digits.next_timeout()].into_iter().flatten().min()
    }

    /// Sends and records what is due by now.
    pub fn tick(&mut self, now: Instant, mut send: impl SendDatagram) {
        if let Some(event) = self.digits.timeout(now) {
            self.key(event);
        }
        while let Some(tick) = self.next_tick.filter(|tick| *tick <= now) {
            self.one_tick(tick, &mut send);
            let next = tick + self.interval();
            self.next_tick =
                Some(if now.saturating_duration_since(next) > MAX_CATCH_UP { now } else { next });
            self.start_or_stop_ticking(now);
        }
    }

    /// What happened since it was last asked for.
    pub fn take_events(&mut self) -> impl Iterator<Item = SessionEvent> + use<> {
        std::mem::take(&mut self.events).into_iter()
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> RtpStats {
        RtpStats { jitter: self.jitter.stats(), ..self.stats }
    }

    /// The far end stays who it was while one direction runs (hold), and may be another after both have stopped.
    fn forget_far_of_stopped(&mut self) {
        if self.input.is_none() && self.output.is_none() {
            (self.far, self.remote_ssrc, self.strangers_told) = (FarEnd::default(), None, false);
        }
    }

    fn new_source(&mut self) {
        self.jitter.reset();
        self.digits = EventReceiver::new();
        if let Some(input) = &mut self.input {
            input.decoder = Decoder::new(input.stream.codec);
        }
    }

    /// Counts it, and tells once for each far end: before somebody is heard it may be the far end itself.
    fn stranger(&mut self, from: SocketAddr) {
        self.stats.strangers += 1;
        if self.far.is_heard() && !std::mem::replace(&mut self.strangers_told, true) {
            self.events.push(SessionEvent::Stranger(from));
        }
    }

    fn key(&mut self, event: KeyEvent) {
        match event {
            KeyEvent::Pressed(digit) => self.events.push(SessionEvent::Digit(digit)),
            KeyEvent::Released { .. } => {}
        }
    }

    fn packet_ms(&self) -> u16 {
        self.output.map_or(DEFAULT_PACKET_MS, |output| output.packet_ms)
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.packet_ms().into())
    }

    fn start_or_stop_ticking(&mut self, now: Instant) {
        let sends = self.output.is_some() && self.sending.has_something();
        match (sends || self.recording.is_some(), self.next_tick) {
            // What is played right after something else goes on in its rhythm.
            (true, None) => {
                let due = self.sending.last_sent().map_or(now, |last| last + self.interval());
                self.next_tick = Some(now.max(due));
            }
            (true, Some(_)) => {}
            (false, _) => self.next_tick = None,
        }
    }

    fn one_tick(&mut self, at: Instant, send: &mut impl SendDatagram) {
        self.tick_recording(at, usize::from(self.packet_ms()) * SAMPLES_PER_MS);
        let Some(output) = self.output else { return };
        let to = self.far.destination(output.address);
        match self.sending.tick(at, output, to, &mut self.events, send) {
            None => {}
            Some(true) => self.stats.sent += 1,
            Some(false) => self.stats.send_errors += 1,
        }
    }

    fn tick_recording(&mut self, at: Instant, len: usize) {
        let Some(samples) = &mut self.recording else { return };
        match self.jitter.pull(at, len) {
            Some(frame) => samples.extend(frame),
            None => samples.resize(samples.len() + len, 0),
        }
        if samples.len() >= MAX_RECORDING.as_millis() as usize * SAMPLES_PER_MS {
            self.events.extend(self.recording.take().map(SessionEvent::Recorded));
        }
    }
}

#[cfg(test)]
mod tests;
