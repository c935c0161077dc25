//! One end of an RTP session with its socket: a task that has both, and a handle for the application. What is sent,
//! heard and left out is [`media::session`]'s matter.
//!
//! RTCP's port, the odd one above, is kept free of others; RTCP is neither sent nor read.

// This module is where the pure media helpers meet the network: it has the socket, the clock and the random start values.
#![allow(clippy::disallowed_methods)]

mod task;

use super::dtmf::Digit;
use super::wav::{self, WavError};
use media::session::{NoTelephoneEvents, RtpStats};
use rand::TryRng as _;
use rand::rngs::SysRng;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc, oneshot};

pub use media::session::{MAX_RECORDING, MediaStream};

/// Commands that may wait for the endpoint's task; the next one waits for a place.
const MAX_COMMANDS: usize = 64;

/// Digits that may wait for the application; more are dropped, which is logged and counted.
pub const MAX_DIGITS: usize = 64;

/// Digits that may be sent with one call of [`RtpEndpoint::send_digits`].
pub const MAX_SENT_DIGITS: usize = 64;

/// The endpoint's task is gone: its socket failed, or the runtime ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the RTP endpoint is closed")]
pub struct EndpointClosed;

/// Digits that could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendDigitsError {
    /// A character that is no key, or too many of them.
    #[error("digits are 1 to {MAX_SENT_DIGITS} of 0-9, *, # and A-D")]
    NotDigits,
    /// The far end did not agree to telephone-events, or nothing is sent now.
    #[error("no telephone-event stream is running")]
    NoTelephoneEvents,
    /// See [`EndpointClosed`].
    #[error(transparent)]
    Closed(#[from] EndpointClosed),
}

impl From<NoTelephoneEvents> for SendDigitsError {
    fn from(_: NoTelephoneEvents) -> Self {
        Self::NoTelephoneEvents
    }
}

/// What an endpoint has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Packets and datagrams.
    pub rtp: RtpStats,
    /// Digits that found the application's queue full.
    pub digits_dropped: u64,
}

/// One end of an RTP session. Dropping it closes the socket and ends what it plays and records.
#[derive(Debug)]
pub struct RtpEndpoint {
    local: SocketAddr,
    commands: mpsc::Sender<Command>,
    digits: Mutex<mpsc::Receiver<char>>,
    digits_in: mpsc::WeakSender<char>,
}

/// What the handle asks of the task.
#[derive(Debug)]
enum Command {
    Input(Option<MediaStream>),
    Output(Option<MediaStream>),
    Play(Arc<[i16]>, oneshot::Sender<PlayEnd>),
    Record(oneshot::Receiver<()>, oneshot::Sender<Vec<i16>>),
    SendDigits(Vec<Digit>, oneshot::Sender<Result<(), SendDigitsError>>),
    Stats(oneshot::Sender<EndpointStats>),
}

impl RtpEndpoint {
    /// Binds an even port of this address, and the odd one above for RTCP. To be called in a tokio runtime.
    ///
    /// # Errors
    /// What the operating system says, or `AddrInUse` when no pair of ports was to be had.
    pub async fn bind(ip: IpAddr) -> io::Result<Self> {
        let (rtp, rtcp) = bind_pair(ip).await?;
        let local = rtp.local_addr()?;
        let (commands, command_rx) = mpsc::channel(MAX_COMMANDS);
        let (digits_tx, digits) = mpsc::channel(MAX_DIGITS);
        let digits_in = digits_tx.downgrade();
        let mut start = [0; 10];
        SysRng.try_fill_bytes(&mut start).map_err(io::Error::other)?;
        tokio::spawn(task::run(rtp, rtcp, command_rx, digits_tx, start));
        Ok(Self { local, commands, digits: Mutex::new(digits), digits_in })
    }

    /// Where it receives: what `call.set_media` or an SDP tells the far end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Starts or changes both directions at once: what is agreed is the same both ways, `stream.address` is the far end.
    ///
    /// # Errors
    /// [`EndpointClosed`]
    pub async fn start(&self, stream: MediaStream) -> Result<(), EndpointClosed> {
        self.start_output(stream).await?;
        self.start_input(stream).await
    }

    /// Ends both directions. What plays waits until sending starts again.
    ///
    /// # Errors
    /// [`EndpointClosed`]
    pub async fn stop(&self) -> Result<(), EndpointClosed> {
        self.stop_output().await?;
        self.stop_input().await
    }

    /// Starts or changes what is sent.
    ///
    /// # Errors
    /// [`EndpointClosed`]
    pub async fn start_output(&self, stream: MediaStream) -> Result<(), EndpointClosed> {
        self.command(Command::Output(Some(stream))).await
    }

    /// Starts or changes what is received.
    ///
    /// # Errors
    /// [`EndpointClosed`]
    pub async fn start_input(&self, stream: MediaStream) -> Result<(), EndpointClosed> {
        self.command(Command::Input(Some(stream))).await
    }

    /// Sends nothing any more.
    ///
    /// # Errors
    /// [`EndpointClosed`]
    pub async fn stop_output(&self) -> Result<(), EndpointClosed> {
        self.command(Command::Output(None)).await
    }

    /// Takes nothing any more.
    ///
    /// # Errors
    /// [`EndpointClosed`]
    pub async fn stop_input(&self) -> Result<(), EndpointClosed> {
        self.command(Command::Input(None)).await
    }

    /// Plays samples (8 kHz mono), as soon as and as long as an output stream runs, in place of what played before.
    /// The returned future ends when all has been sent; dropping it stops the playing.
    pub async fn play(&self, samples: impl Into<Arc<[i16]>>) -> Playing {
        let (done_tx, done) = oneshot::channel();
        // When the task is gone, the sender is dropped with the command and the future says so.
        let _ = self.command(Command::Play(samples.into(), done_tx)).await;
        Playing { done }
    }

    /// Reads a WAV file and plays it like [`RtpEndpoint::play`].
    ///
    /// # Errors
    /// [`WavError`] when the file can't be read.
    pub async fn play_file(&self, path: impl Into<PathBuf>) -> Result<Playing, WavError> {
        let samples = blocking({
            let path = path.into();
            move || wav::read(path)
        })
        .await?;
        Ok(self.play(samples).await)
    }

    /// Records what is received from now on, pauses as silence, for [`MAX_RECORDING`] at most. In place of a recording
    /// that runs, which ends with what it has.
    pub async fn record(&self) -> Recording {
        let (stop, stopped) = oneshot::channel();
        let (audio_tx, audio) = oneshot::channel();
        let _ = self.command(Command::Record(stopped, audio_tx)).await;
        Recording { stop, audio }
    }

    /// Sends digits as telephone-events of 100 ms, 80 ms apart; what plays waits meanwhile. Ends when all are sent.
    ///
    /// # Errors
    /// [`SendDigitsError`]
    pub async fn send_digits(&self, digits: &str) -> Result<(), SendDigitsError> {
        let digits = digits.chars().map(Digit::from_char).collect::<Option<Vec<_>>>();
        let digits =
            digits.filter(|d| (1..=MAX_SENT_DIGITS).contains(&d.len())).ok_or(SendDigitsError::NotDigits)?;
        let (sent, outcome) = oneshot::channel();
        self.command(Command::SendDigits(digits, sent)).await?;
        outcome.await.map_err(|_| EndpointClosed)?
    }

    /// The next digit that was pressed at the far end; `None` when the endpoint is closed.
    pub async fn next_digit(&self) -> Option<char> {
        self.digits.lock().await.recv().await
    }

    /// Forgets the digits that nobody has asked for.
    pub async fn flush_digits(&self) {
        let mut digits = self.digits.lock().await;
        while digits.try_recv().is_ok() {}
    }

    /// Adds a digit that came on another way, as `call.dtmf` does. False when the queue is full and it was dropped.
    pub fn push_digit(&self, digit: char) -> bool {
        self.digits_in.upgrade().is_some_and(|digits| digits.try_send(digit).is_ok())
    }

    /// Collects up to `count` digits: waits `first` for the first one and `next` for each further one, and ends early at
    /// the `terminator`, which is not part of the digits.
    pub async fn collect(
        &self,
        count: usize,
        first: Duration,
        next: Duration,
        terminator: Option<char>,
    ) -> Collected {
        self.collect_after(None, count, first, next, terminator).await
    }

    /// [`RtpEndpoint::collect`], where one digit has been pressed already.
    pub(crate) async fn collect_after(
        &self,
        pressed: Option<char>,
        count: usize,
        first: Duration,
        next: Duration,
        terminator: Option<char>,
    ) -> Collected {
        let mut digits = String::new();
        match pressed {
            Some(digit) if Some(digit) == terminator => {
                return Collected { digits, end: CollectEnd::Terminator };
            }
            Some(digit) => digits.push(digit),
            None => {}
        }
        while digits.len() < count {
            let wait = if digits.is_empty() { first } else { next };
            match tokio::time::timeout(wait, self.next_digit()).await {
                Err(_) => return Collected { digits, end: CollectEnd::Timeout },
                Ok(None) => return Collected { digits, end: CollectEnd::Closed },
                Ok(Some(digit)) if Some(digit) == terminator => {
                    return Collected { digits, end: CollectEnd::Terminator };
                }
                Ok(Some(digit)) => digits.push(digit),
            }
        }
        Collected { digits, end: CollectEnd::Count }
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// [`EndpointClosed`]
    pub async fn stats(&self) -> Result<EndpointStats, EndpointClosed> {
        let (tx, rx) = oneshot::channel();
        self.command(Command::Stats(tx)).await?;
        rx.await.map_err(|_| EndpointClosed)
    }

    async fn command(&self, command: Command) -> Result<(), EndpointClosed> {
        self.commands.send(command).await.map_err(|_| EndpointClosed)
    }
}

/// How a playing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayEnd {
    /// All of it was sent.
    Finished,
    /// Something else was played in its place.
    Replaced,
    /// The endpoint was closed.
    Closed,
}

/// A playing: a future that ends with it. Dropping it stops the playing within a packet's length.
#[derive(Debug)]
#[must_use = "dropping it stops the playing"]
pub struct Playing {
    done: oneshot::Receiver<PlayEnd>,
}

impl Future for Playing {
    type Output = PlayEnd;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<PlayEnd> {
        Pin::new(&mut self.done).poll(context).map(|end| end.unwrap_or(PlayEnd::Closed))
    }
}

/// A recording that runs. Dropping it throws it away.
#[derive(Debug)]
#[must_use = "dropping it throws the recording away"]
pub struct Recording {
    stop: oneshot::Sender<()>,
    audio: oneshot::Receiver<Vec<i16>>,
}

impl Recording {
    /// Ends it and gives what was heard (8 kHz mono).
    ///
    /// # Errors
    /// [`EndpointClosed`] when the endpoint was dropped before.
    pub async fn finish(self) -> Result<Vec<i16>, EndpointClosed> {
        drop(self.stop);
        self.audio.await.map_err(|_| EndpointClosed)
    }

    /// Ends it and writes a WAV file.
    ///
    /// # Errors
    /// [`SaveError`]
    pub async fn save(self, path: impl Into<PathBuf>) -> Result<(), SaveError> {
        let (path, samples) = (path.into(), self.finish().await?);
        Ok(blocking(move || wav::write(path, &samples)).await?)
    }
}

/// A recording that could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// See [`EndpointClosed`].
    #[error(transparent)]
    Closed(#[from] EndpointClosed),
    /// The file can't be written.
    #[error(transparent)]
    Wav(#[from] WavError),
}

/// Digits that were collected, and why no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Without the terminator.
    pub digits: String,
    /// Why it ended.
    pub end: CollectEnd,
}

/// Why collecting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectEnd {
    /// All the digits are there.
    Count,
    /// The terminator was pressed.
    Terminator,
    /// No digit came in time.
    Timeout,
    /// The endpoint was closed.
    Closed,
}

/// File work, off the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WavError> + Send + 'static,
) -> Result<T, WavError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(stopped) => Err(WavError::Io(io::Error::other(stopped))),
    }
}

/// An even port and the odd one above. The system hands out ports as it likes, so it is asked a few times.
async fn bind_pair(ip: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    const ATTEMPTS: usize = 64;
    for _ in 0..ATTEMPTS {
        let first = UdpSocket::bind((ip, 0)).await?;
        let port = first.local_addr()?.port();
        let other = if port % 2 == 0 { port + 1 } else { port - 1 };
        match UdpSocket::bind((ip, other)).await {
            Ok(second) if port % 2 == 0 => return Ok((first, second)),
            Ok(second) => return Ok((second, first)),
            Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => {}
            Err(other) => return Err(other),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no even port with a free odd one above it was found"))
}

#[cfg(test)]
mod tests;
