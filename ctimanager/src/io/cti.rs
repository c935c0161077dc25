//! Applications' connections: NDJSON over TLS and plain TCP. WebSockets (`web.rs`) share all but the framing.

pub(super) mod link;

use super::counters::Counters;
use super::limits::{Alive, Limits, Patience};
use super::outbox::{Capacity, FLUSH_LIMIT, Item, Pending, outbox};
use super::places::{Place, Places, SharedPlace};
use super::queue::{Event, Gone, Queue};
use super::sip::Door;
use super::tls::{self, Handshakes, SharedTls};
use crate::node::{CtiConnection, CtiTransport, Frame, Input};
use arc_swap::ArcSwap;
use link::CtiLink;
use protocol::frame::Decoder;
use security::shares::Listener;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::PollSemaphore;
use tracing::debug;

/// Read at once; longer lines take several reads.
const READ_BYTES: usize = 4 * 1024;
/// An unfinished line that is longer needs one of [`LONG_LINES`].
const SHORT_LINE_BYTES: usize = 64 * 1024;
/// Unfinished long lines of all connections at once, 1 MiB each; the next connection is not read on until one is
/// finished, or its connection closed: nobody may drip a line for longer than his time to open, or two heartbeats.
const LONG_LINES: usize = 64;
/// Frames taken from the queue for one write.
const WRITE_FRAMES: usize = 64;
/// Bytes that are gathered for one write, if there are as many.
const WRITE_BYTES: usize = 32 * 1024;
/// Places kept for `session.closed` when the queue is full.
const FAREWELL_FRAMES: usize = 4;

impl Item for Frame {
    fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// What all applications' connections share.
#[derive(Debug)]
pub(super) struct CtiShell {
    pub(super) queue: Queue,
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) counters: Arc<Counters>,
    pub(super) door: Arc<Door>,
    pub(super) tls: SharedTls,
    pub(super) handshakes: Handshakes,
    pub(super) patience: Patience,
    pub(super) alive: Alive,
    places: Arc<Places>,
    long_lines: Semaphore,
    /// The same for WebSockets.
    long_messages: Arc<Semaphore>,
    last_connection: AtomicU64,
}

impl CtiShell {
    #[allow(clippy::too_many_arguments)] // what all of them share
    pub(super) fn new(
        queue: Queue,
        limits: Arc<ArcSwap<Limits>>,
        counters: Arc<Counters>,
        door: Arc<Door>,
        tls: SharedTls,
        alive: Alive,
        patience: Patience,
    ) -> Self {
        let handshakes = Handshakes::new(Arc::clone(&counters), patience.handshake);
        Self {
            queue,
            limits,
            counters,
            door,
            tls,
            handshakes,
            patience,
            alive,
            places: Arc::default(),
            long_lines: Semaphore::new(LONG_LINES),
            long_messages: Arc::new(Semaphore::new(LONG_LINES)),
            last_connection: AtomicU64::new(0),
        }
    }

    /// Whether a new connection is within its address' share.
    pub(super) fn knock(&self, listener: Listener, from: IpAddr) -> bool {
        self.door.knock(listener, from)
    }

    /// A place for one more application, whatever its transport.
    pub(super) fn take_place(&self) -> Option<Place> {
        let limits = self.limits.load();
        let place = self.places.take(limits.max_cti_connections + limits.max_unopened_connections);
        match &place {
            Some(_) => self.counters.cti_accepted.add(),
            None => self.counters.cti_refused.add(),
        }
        place
    }

    /// A place for one more handshake, whatever comes after it.
    pub(super) fn take_handshake(&self, peer: SocketAddr) -> Option<SharedPlace> {
        let limits = self.limits.load();
        let of_address = limits.max_unopened_connections_per_address;
        self.handshakes.take(limits.max_unopened_connections, peer, of_address)
    }

    async fn place_for_a_long_line(&self) -> Result<SemaphorePermit<'_>, Gone> {
        if let Ok(place) = self.long_lines.try_acquire() {
            return Ok(place);
        }
        self.counters.cti_lines_waited.add();
        self.long_lines.acquire().await.map_err(|_| Gone)
    }

    /// A stream that is read on only while what it has `unfinished` was always short, or has one of the places for long
    /// messages. It keeps that to its end, for so long the WebSocket library keeps the buffer that a long message grew.
    pub(super) fn metered<S>(&self, stream: S, unfinished: Arc<AtomicUsize>) -> MeteredStream<S> {
        let places = PollSemaphore::new(Arc::clone(&self.long_messages));
        let counters = Arc::clone(&self.counters);
        MeteredStream { stream, unfinished, places, place: None, waits: false, counters }
    }

    /// Tells the owner of a new connection; the end of its queue is for the caller to write from.
    pub(super) async fn open(
        &self,
        peer: SocketAddr,
        transport: CtiTransport,
    ) -> Result<(CtiConnection, Pending<Frame>), Gone> {
        let connection = CtiConnection(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1);
        let limits = self.limits.load();
        let capacity = Capacity {
            items: limits.session_queue_events,
            // The replay of a log and its reply.
            burst: limits.session_log_events.saturating_add(1),
            bytes: limits.session_log_bytes.saturating_mul(2),
            reserve: FAREWELL_FRAMES,
        };
        let (outbox, pending) = outbox(capacity);
        let link = CtiLink::new(connection, peer, transport, outbox, limits.session_queue_events);
        self.queue.send(Event::CtiOpened(link)).await?;
        Ok((connection, pending))
    }

    /// Runs both directions of a connection until it has ended and the owner knows.
    pub(super) async fn drive(
        &self,
        connection: CtiConnection,
        overdue: impl Future<Output = ()>,
        read: impl Future<Output = Result<ReadEnd, Gone>>,
        write: impl Future<Output = io::Result<()>>,
    ) {
        tokio::pin!(overdue, read, write);
        let ended = tokio::select! {
            end = &mut read => match end {
                Ok(ReadEnd::Closed) => Input::CtiClosed(connection),
                Ok(ReadEnd::TooLong) => Input::CtiLineTooLong(connection),
                Err(Gone) => return,
            },
            result = &mut write => {
                if let Err(error) = result {
                    debug!(connection = connection.0, %error, "an application's connection broke");
                }
                // If the owner closed it itself, it knows the connection no more and takes no notice.
                let _ = self.queue.send(Event::Input(Input::CtiClosed(connection))).await;
                return;
            }
            () = &mut overdue => return,
        };
        if self.queue.send(Event::Input(ended)).await.is_ok() {
            // What the core still wrote goes out, as far as the peer takes it.
            tokio::select! {
                _ = &mut write => {}
                () = &mut overdue => {}
            }
        }
    }
}

/// See [`CtiShell::metered`]. Whoever takes messages from it says in `unfinished` when one is whole.
pub(super) struct MeteredStream<S> {
    stream: S,
    unfinished: Arc<AtomicUsize>,
    places: PollSemaphore,
    place: Option<OwnedSemaphorePermit>,
    waits: bool,
    counters: Arc<Counters>,
}

impl<S> MeteredStream<S> {
    /// The stream, to be read without a bound.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Whether more may be read now.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.place.is_none() && self.unfinished.load(Ordering::Relaxed) > SHORT_LINE_BYTES {
            let Poll::Ready(place) = self.places.poll_acquire(cx) else {
                if !std::mem::replace(&mut self.waits, true) {
                    self.counters.cti_lines_waited.add();
                }
                return Poll::Pending;
            };
            self.waits = false;
            self.place = Some(place.ok_or(io::ErrorKind::BrokenPipe)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_room(cx))?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.unfinished.fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// End of file, an error, or something that is no frame at all.
    Closed,
    /// A frame over the limit.
    TooLong,
}

/// NDJSON over plain TCP.
pub(super) async fn listen_plain(listener: TcpListener, shell: Arc<CtiShell>) {
    let counters = Arc::clone(&shell.counters);
    let knock = |from| shell.knock(Listener::Cti, from);
    tls::accept(listener, counters, knock, |stream, peer| {
        if let Some(place) = shell.take_place() {
            tokio::spawn(serve(Arc::clone(&shell), stream, peer, CtiTransport::Plain, place));
        }
    })
    .await;
}

/// NDJSON over TLS.
pub(super) async fn listen_tls(listener: TcpListener, shell: Arc<CtiShell>) {
    let counters = Arc::clone(&shell.counters);
    let knock = |from| shell.knock(Listener::Cti, from);
    tls::accept(listener, counters, knock, |stream, peer| {
        let Some(handshake) = shell.take_handshake(peer) else { return shell.counters.cti_refused.add() };
        if let Some(place) = shell.take_place() {
            tokio::spawn(serve_tls(Arc::clone(&shell), stream, peer, handshake, place));
        }
    })
    .await;
}

async fn serve_tls(
    shell: Arc<CtiShell>,
    stream: TcpStream,
    peer: SocketAddr,
    handshake: SharedPlace,
    place: Place,
) {
    let config = Arc::clone(&shell.tls.load().cti);
    if let Some(stream) = shell.handshakes.accept(handshake, config, stream, peer).await {
        let transport = tls::transport_of(&stream);
        serve(shell, stream, peer, transport, place).await;
    }
}

async fn serve<S: AsyncRead + AsyncWrite>(
    shell: Arc<CtiShell>,
    stream: S,
    peer: SocketAddr,
    transport: CtiTransport,
    _place: Place,
) {
    let alive = shell.alive.clone();
    let Ok((connection, mut pending)) = shell.open(peer, transport).await else { return };
    let (mut reader, writer) = tokio::io::split(stream);
    let overdue = pending.overdue();
    let reading = read_lines(&mut reader, connection, &shell);
    let said = AtomicBool::new(false);
    shell.drive(connection, overdue, reading, write_lines(writer, pending, &said)).await;
    // A node that stops need not wait for the peer to hang up.
    drop(alive);
    // Whoever was refused without a word keeps no place.
    if said.load(Ordering::Relaxed) {
        linger(&mut reader).await;
    }
}

async fn read_lines<S: AsyncRead + AsyncWrite>(
    reader: &mut ReadHalf<S>,
    connection: CtiConnection,
    shell: &CtiShell,
) -> Result<ReadEnd, Gone> {
    let mut decoder = Decoder::within(shell.limits.load().max_line_bytes);
    let mut buffer = [0; READ_BYTES];
    let mut place = None;
    loop {
        if decoder.held() <= SHORT_LINE_BYTES {
            place = None;
        } else if place.is_none() {
            place = Some(shell.place_for_a_long_line().await?);
        }
        let read = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(ReadEnd::Closed),
            Ok(read) => read,
        };
        let pushed = decoder.push(&buffer[..read]);
        while let Some(line) = decoder.next_line() {
            shell.queue.send(Event::Input(Input::CtiFrame(connection, line))).await?;
        }
        if pushed.is_err() {
            return Ok(ReadEnd::TooLong);
        }
    }
}

async fn write_lines<S: AsyncRead + AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut pending: Pending<Frame>,
    said: &AtomicBool,
) -> io::Result<()> {
    let mut frames = Vec::new();
    let mut buffer = Vec::new();
    while pending.items.recv_many(&mut frames, WRITE_FRAMES).await > 0 {
        said.store(true, Ordering::Relaxed);
        let mut taken = 0;
        for frame in frames.drain(..) {
            taken += frame.len();
            buffer.extend_from_slice(&frame.head);
            buffer.extend_from_slice(&frame.tail);
            buffer.push(b'\n');
            if buffer.len() >= WRITE_BYTES {
                writer.write_all(&buffer).await?;
                buffer.clear();
            }
        }
        writer.write_all(&buffer).await?;
        writer.flush().await?;
        pending.written(taken);
        buffer.clear();
        // One huge reply should not keep its room for the life of the connection.
        buffer.shrink_to(2 * WRITE_BYTES);
    }
    writer.shutdown().await
}

/// Reads and forgets what the peer still sends: a socket closed with unread bytes resets the connection, and the peer
/// might lose our last words.
pub(super) async fn linger<R: AsyncRead + Unpin>(reader: &mut R) {
    let forget = async {
        let mut buffer = [0; READ_BYTES];
        while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    // An elapsed limit is as good an end as the peer's.
    let _ = tokio::time::timeout(FLUSH_LIMIT, forget).await;
}
