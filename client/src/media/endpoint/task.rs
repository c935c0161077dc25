//! The endpoint's task: it alone touches the socket and the streams' state.

use super::source::{FarEnd, Verdict};
use super::{Command, EndpointStats, MAX_RECORDING, MediaStream, PlayEnd, SendDigitsError};
use crate::media::SAMPLES_PER_MS;
use crate::media::dtmf::{Digit, EventReceiver, EventSender, KeyEvent};
use crate::media::jitter::JitterBuffer;
use crate::media::rtp::RtpPacket;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// Telephone-events are sent this long, and this far apart.
const DIGIT_MS: u32 = 100;
const DIGIT_GAP_MS: u32 = 80;

/// A sender that was held up by less than this catches up; by more, it goes on where the clock is.
const MAX_CATCH_UP: Duration = Duration::from_millis(100);

/// Larger than any datagram of audio; what is longer is cut and thereby no audio of ours.
const DATAGRAM_BYTES: usize = 2_048;

/// A socket that fails this often in a row is given up.
const MAX_ERRORS: u32 = 100;

/// The pace of a recording while nothing is sent.
const DEFAULT_PACKET_MS: u16 = 20;

/// Runs until the handle is dropped or the socket fails for good. RTCP's socket is only held.
pub(super) async fn run(
    rtp: UdpSocket,
    _rtcp: UdpSocket,
    mut commands: mpsc::Receiver<Command>,
    digits: mpsc::Sender<char>,
    start: [u8; 10],
) {
    let mut task = Task::new(digits, start, Instant::now());
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut errors = 0;
    while errors < MAX_ERRORS {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => task.command(command, Instant::now()),
                None => return,
            },
            received = rtp.recv_from(&mut datagram) => match received {
                Ok((len, from)) => {
                    errors = 0;
                    task.receive(Instant::now(), from, &datagram[..len]);
                }
                Err(error) => {
                    errors += 1;
                    tracing::debug!(%error, "RTP socket");
                }
            },
            () = until(task.next_timeout()) => {
                let now = Instant::now();
                task.timeout(now, |packet, to| rtp.try_send_to(packet, to).is_ok());
            }
        }
    }
    tracing::warn!("an RTP socket failed {MAX_ERRORS} times in a row and is closed");
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

struct Task {
    input: Option<MediaStream>,
    output: Option<MediaStream>,
    far: FarEnd,
    /// Whether it was said that strangers send, since the far end is who it is.
    strangers_told: bool,
    clock: SendClock,
    playing: Option<Play>,
    sending: VecDeque<DigitsToSend>,
    recording: Option<Record>,
    jitter: JitterBuffer,
    events: EventReceiver,
    remote_ssrc: Option<u32>,
    digits: mpsc::Sender<char>,
    next_tick: Option<Instant>,
    packet: Vec<u8>,
    payload: Vec<u8>,
    stats: EndpointStats,
}

struct Play {
    samples: Arc<[i16]>,
    position: usize,
    done: oneshot::Sender<PlayEnd>,
}

struct Record {
    samples: Vec<i16>,
    stopped: oneshot::Receiver<()>,
    audio: oneshot::Sender<Vec<i16>>,
}

impl Record {
    fn is_over(&mut self) -> bool {
        let full = self.samples.len() >= MAX_RECORDING.as_millis() as usize * SAMPLES_PER_MS;
        full || !matches!(self.stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    fn hand_over(self) {
        // Whoever dropped the recording does not want it.
        let _ = self.audio.send(self.samples);
    }
}

struct DigitsToSend {
    digits: VecDeque<Digit>,
    event: Option<(EventSender, u32)>,
    gap_ms: u32,
    sent: oneshot::Sender<Result<(), SendDigitsError>>,
}

/// Sequence numbers, and timestamps that follow the clock through pauses.
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

impl Task {
    /// `start` are random bytes: RFC 3550 wants source, sequence and timestamp to start anywhere.
    fn new(digits: mpsc::Sender<char>, start: [u8; 10], now: Instant) -> Self {
        let [s0, s1, s2, s3, t0, t1, t2, t3, n0, n1] = start;
        let clock = SendClock {
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            sequence: u16::from_be_bytes([n0, n1]),
            first_timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            epoch: now,
            last_sent: None,
        };
        Self {
            input: None,
            output: None,
            far: FarEnd::default(),
            strangers_told: false,
            clock,
            playing: None,
            sending: VecDeque::new(),
            recording: None,
            jitter: JitterBuffer::new(),
            events: EventReceiver::new(),
            remote_ssrc: None,
            digits,
            next_tick: None,
            packet: Vec::with_capacity(256),
            payload: Vec::with_capacity(256),
            stats: EndpointStats::default(),
        }
    }

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Input(stream) => {
                if self.input.is_none() {
                    self.new_source();
                }
                self.input = stream;
                self.forget_far_of_stopped();
            }
            Command::Output(stream) => {
                self.output = stream.map(|s| MediaStream { packet_ms: s.packet_ms.clamp(10, 100), ..s });
                let Some(stream) = stream else {
                    self.fail_digits();
                    self.forget_far_of_stopped();
                    return self.start_or_stop_ticking(now);
                };
                if self.far.tell(stream.address) {
                    (self.remote_ssrc, self.strangers_told) = (None, false);
                    self.new_source();
                }
            }
            Command::Play(samples, done) => {
                if let Some(before) = self.playing.replace(Play { samples, position: 0, done }) {
                    let _ = before.done.send(PlayEnd::Replaced);
                }
            }
            Command::Record(stopped, audio) => {
                self.jitter.reset();
                if let Some(before) = self.recording.replace(Record { samples: Vec::new(), stopped, audio }) {
                    before.hand_over();
                }
            }
            Command::SendDigits(digits, sent) => self.queue_digits(digits.into(), sent),
            Command::Stats(reply) => {
                let _ = reply.send(EndpointStats { jitter: self.jitter.stats(), ..self.stats });
            }
        }
        self.start_or_stop_ticking(now);
    }

    fn queue_digits(&mut self, digits: VecDeque<Digit>, sent: oneshot::Sender<Result<(), SendDigitsError>>) {
        if self.output.is_some_and(|o| o.dtmf_payload_type.is_some())
            && self.sending.len() < super::MAX_COMMANDS
        {
            self.sending.push_back(DigitsToSend { digits, event: None, gap_ms: 0, sent });
        } else {
            let _ = sent.send(Err(SendDigitsError::NoTelephoneEvents));
        }
    }

    fn fail_digits(&mut self) {
        for waiting in self.sending.drain(..) {
            let _ = waiting.sent.send(Err(SendDigitsError::NoTelephoneEvents));
        }
    }

    /// The far end stays who it was while one direction runs (hold), and may be another after both have stopped.
    fn forget_far_of_stopped(&mut self) {
        if self.input.is_none() && self.output.is_none() {
            (self.far, self.remote_ssrc, self.strangers_told) = (FarEnd::default(), None, false);
        }
    }

    fn new_source(&mut self) {
        self.jitter.reset();
        self.events = EventReceiver::new();
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(input) = self.input else { return };
        let agreed = |pt: u8| pt == input.payload_type || Some(pt) == input.dtmf_payload_type;
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
                tracing::info!(%from, "RTP comes from another address than was agreed; it is taken for the far end's");
                self.new_source();
            }
            Verdict::Stranger => return self.stranger(from),
        }
        self.stats.received += 1;
        if self.remote_ssrc.replace(packet.ssrc).is_some_and(|before| before != packet.ssrc) {
            self.new_source();
        }
        if Some(packet.payload_type) == input.dtmf_payload_type {
            let told = self.events.receive(now, packet.timestamp, packet.payload);
            told.into_iter().flatten().for_each(|event| self.key(event));
        } else if self.recording.is_some() {
            let mut samples = Vec::with_capacity(packet.payload.len());
            input.codec.decode(packet.payload, &mut samples);
            self.jitter.push(now, packet.timestamp, samples);
        }
    }

    /// Counts it, and warns once for each far end: before somebody is heard it may be the far end itself.
    fn stranger(&mut self, from: SocketAddr) {
        self.stats.strangers += 1;
        if self.far.is_heard() && !std::mem::replace(&mut self.strangers_told, true) {
            tracing::warn!(%from, "RTP comes from a stranger; it is counted and not heard");
        }
    }

    fn key(&mut self, event: KeyEvent) {
        let KeyEvent::Pressed(digit) = event else { return };
        if let Err(TrySendError::Full(_)) = self.digits.try_send(digit.as_char()) {
            self.stats.digits_dropped += 1;
            tracing::warn!(dropped = self.stats.digits_dropped, "nobody collects digits: the queue is full");
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        [self.next_tick, self.events.next_timeout()].into_iter().flatten().min()
    }

    fn timeout(&mut self, now: Instant, mut send: impl FnMut(&[u8], SocketAddr) -> bool) {
        if let Some(event) = self.events.timeout(now) {
            self.key(event);
        }
        while let Some(tick) = self.next_tick.filter(|tick| *tick <= now) {
            self.tick(tick, &mut send);
            let next = tick + self.interval();
            self.next_tick =
                Some(if now.saturating_duration_since(next) > MAX_CATCH_UP { now } else { next });
            self.start_or_stop_ticking(now);
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.packet_ms().into())
    }

    fn packet_ms(&self) -> u16 {
        self.output.map_or(DEFAULT_PACKET_MS, |o| o.packet_ms)
    }

    /// The task ticks only while there is something to do at each tick: thousands of idle endpoints cost nothing.
    fn start_or_stop_ticking(&mut self, now: Instant) {
        let sends = self.output.is_some() && (self.playing.is_some() || !self.sending.is_empty());
        match (sends || self.recording.is_some(), self.next_tick) {
            // What is played right after something else goes on in its rhythm.
            (true, None) => {
                let due = self.clock.last_sent.map_or(now, |last| last + self.interval());
                self.next_tick = Some(now.max(due));
            }
            (true, Some(_)) => {}
            (false, _) => self.next_tick = None,
        }
    }

    fn tick(&mut self, at: Instant, send: &mut impl FnMut(&[u8], SocketAddr) -> bool) {
        let len = usize::from(self.packet_ms()) * SAMPLES_PER_MS;
        self.tick_recording(at, len);
        let Some(output) = self.output else { return };
        if !self.sending.is_empty() {
            self.tick_digits(at, output, send);
        } else if self.playing.is_some() {
            self.tick_playing(at, output, len, send);
        }
    }

    fn tick_recording(&mut self, at: Instant, len: usize) {
        let Some(recording) = &mut self.recording else { return };
        match self.jitter.pull(at, len) {
            Some(frame) => recording.samples.extend(frame),
            None => recording.samples.resize(recording.samples.len() + len, 0),
        }
        if recording.is_over() {
            self.recording.take().into_iter().for_each(Record::hand_over);
        }
    }

    fn tick_playing(
        &mut self,
        at: Instant,
        output: MediaStream,
        len: usize,
        send: &mut impl FnMut(&[u8], SocketAddr) -> bool,
    ) {
        let Some(play) = self.playing.as_mut().filter(|play| !play.done.is_closed()) else {
            self.playing = None;
            return;
        };
        let rest = &play.samples[play.position..];
        let now = &rest[..rest.len().min(len)];
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        output.codec.encode(now, &mut payload);
        // The last packet is as long as the others.
        output.codec.encode(&vec![0; len - now.len()], &mut payload);
        play.position += now.len();
        let finished = play.position == play.samples.len();
        let marker = self.clock.last_sent.is_none_or(|last| at > last + self.interval());
        let timestamp = self.clock.timestamp(at);
        self.send(at, output.address, marker, output.payload_type, timestamp, &payload, send);
        self.payload = payload;
        if finished && let Some(play) = self.playing.take() {
            let _ = play.done.send(PlayEnd::Finished);
        }
    }

    fn tick_digits(
        &mut self,
        at: Instant,
        output: MediaStream,
        send: &mut impl FnMut(&[u8], SocketAddr) -> bool,
    ) {
        let (Some(payload_type), packet_ms) = (output.dtmf_payload_type, u32::from(output.packet_ms)) else {
            self.fail_digits();
            return;
        };
        let Some(waiting) = self.sending.front_mut() else { return };
        if waiting.event.is_none() && waiting.gap_ms == 0 {
            let Some(digit) = waiting.digits.pop_front() else {
                self.sending.pop_front().into_iter().for_each(|done| {
                    let _ = done.sent.send(Ok(()));
                });
                return;
            };
            waiting.event = Some((EventSender::new(digit, DIGIT_MS, packet_ms), self.clock.timestamp(at)));
        }
        match &mut waiting.event {
            None => waiting.gap_ms = waiting.gap_ms.saturating_sub(packet_ms),
            Some((event, timestamp)) => match event.next() {
                None => (waiting.event, waiting.gap_ms) = (None, DIGIT_GAP_MS.saturating_sub(packet_ms)),
                Some(packet) => {
                    let timestamp = *timestamp;
                    self.send(
                        at,
                        output.address,
                        packet.marker,
                        payload_type,
                        timestamp,
                        &packet.payload,
                        send,
                    );
                }
            },
        }
    }

    #[allow(clippy::too_many_arguments)] // the fields of an RTP header
    fn send(
        &mut self,
        at: Instant,
        to: SocketAddr,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
        send: &mut impl FnMut(&[u8], SocketAddr) -> bool,
    ) {
        let (sequence, to) = (self.clock.sequence, self.far.destination(to));
        RtpPacket { marker, payload_type, sequence, timestamp, ssrc: self.clock.ssrc, payload }
            .write(&mut self.packet);
        self.clock.sequence = sequence.wrapping_add(1);
        self.clock.last_sent = Some(at);
        match send(&self.packet, to) {
            true => self.stats.sent += 1,
            false => self.stats.send_errors += 1,
        }
    }
}

#[cfg(test)]
mod tests;
