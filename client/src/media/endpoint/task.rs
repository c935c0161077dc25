//! The endpoint's task: it alone touches the socket and the session.

use super::{Command, EndpointStats, PlayEnd, SendDigitsError};
use media::RtpSession;
use media::session::SessionEvent;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// Larger than any datagram of audio; what is longer is cut and thereby no audio of ours.
const DATAGRAM_BYTES: usize = 2_048;

/// A socket that fails this often in a row is given up.
const MAX_ERRORS: u32 = 100;

/// Runs until the handle is dropped or the socket fails for good. RTCP's socket is only held.
pub(super) async fn run(
    rtp: UdpSocket,
    _rtcp: UdpSocket,
    mut commands: mpsc::Receiver<Command>,
    digits: mpsc::Sender<char>,
    start: [u8; 10],
) {
    let mut task = Task::new(RtpSession::new(start, Instant::now()), digits);
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
            () = until(task.session.next_tick()) => {
                task.tick(Instant::now(), |packet, to| rtp.try_send_to(packet, to).is_ok());
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

/// The session, and who waits for what of it.
struct Task {
    session: RtpSession,
    playing: Option<oneshot::Sender<PlayEnd>>,
    recording: Option<Recorder>,
    sending: VecDeque<oneshot::Sender<Result<(), SendDigitsError>>>,
    digits: mpsc::Sender<char>,
    digits_dropped: u64,
}

struct Recorder {
    stopped: oneshot::Receiver<()>,
    audio: oneshot::Sender<Vec<i16>>,
}

impl Recorder {
    fn is_stopped(&mut self) -> bool {
        !matches!(self.stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    fn hand_over(self, samples: Vec<i16>) {
        // Whoever dropped the recording does not want it.
        let _ = self.audio.send(samples);
    }
}

impl Task {
    fn new(session: RtpSession, digits: mpsc::Sender<char>) -> Self {
        let sending = VecDeque::new();
        Self { session, playing: None, recording: None, sending, digits, digits_dropped: 0 }
    }

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Input(stream) => self.session.set_input(stream),
            Command::Output(stream) => self.session.set_output(now, stream),
            Command::Play(samples, done) => {
                if let Some(before) = self.playing.replace(done) {
                    let _ = before.send(PlayEnd::Replaced);
                }
                self.session.play(now, samples);
            }
            Command::Record(stopped, audio) => {
                self.hand_over_recording(now);
                self.recording = Some(Recorder { stopped, audio });
                self.session.record(now);
            }
            Command::SendDigits(digits, sent) => match self.session.send_digits(now, digits) {
                Ok(()) => self.sending.push_back(sent),
                Err(refused) => {
                    let _ = sent.send(Err(refused.into()));
                }
            },
            Command::Stats(reply) => {
                let _ = reply
                    .send(EndpointStats { rtp: self.session.stats(), digits_dropped: self.digits_dropped });
            }
        }
        self.tell();
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.session.packet(now, from, datagram);
        self.tell();
    }

    fn tick(&mut self, now: Instant, send: impl FnMut(&[u8], SocketAddr) -> bool) {
        if self.playing.as_ref().is_some_and(oneshot::Sender::is_closed) {
            self.playing = None;
            self.session.stop_playing(now);
        }
        self.session.tick(now, send);
        if self.recording.as_mut().is_some_and(Recorder::is_stopped) {
            self.hand_over_recording(now);
        }
        self.tell();
    }

    fn hand_over_recording(&mut self, now: Instant) {
        if let (Some(recorder), Some(samples)) = (self.recording.take(), self.session.finish_recording(now)) {
            recorder.hand_over(samples);
        }
    }

    fn tell(&mut self) {
        for event in self.session.take_events() {
            match event {
                SessionEvent::Digit(digit) => self.digit(digit.as_char()),
                SessionEvent::Played => {
                    if let Some(done) = self.playing.take() {
                        let _ = done.send(PlayEnd::Finished);
                    }
                }
                SessionEvent::Recorded(samples) => {
                    if let Some(recorder) = self.recording.take() {
                        recorder.hand_over(samples);
                    }
                }
                SessionEvent::DigitsSent(sent) => {
                    let outcome = if sent { Ok(()) } else { Err(SendDigitsError::NoTelephoneEvents) };
                    let waiting =
                        self.sending.pop_front().expect("each sequence has somebody who waits for it");
                    let _ = waiting.send(outcome);
                }
                SessionEvent::Latched(from) => {
                    tracing::info!(%from, "RTP comes from another address than was agreed; it is taken for the far end's");
                }
                SessionEvent::Stranger(from) => {
                    tracing::warn!(%from, "RTP comes from a stranger; it is counted and not heard");
                }
            }
        }
    }

    fn digit(&mut self, digit: char) {
        if let Err(TrySendError::Full(_)) = self.digits.try_send(digit) {
            self.digits_dropped += 1;
            tracing::warn!(dropped = self.digits_dropped, "nobody collects digits: the queue is full");
        }
    }
}
