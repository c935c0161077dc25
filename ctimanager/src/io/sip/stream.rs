//! SIP over TCP and TLS.

use super::{MAX_BEGINNING, MAX_CONNECTIONS, OUTBOX, SipContext};
use crate::io::now;
use crate::io::outbox::{Pending, outbox};
use crate::io::places::Place;
use crate::io::queue::{Event, Gone};
use crate::io::tls;
use crate::node::Input;
use rustls::pki_types::ServerName;
use sip::Hop;
use sip::frame::StreamFramer;
use sip::port::{ConnectionId, Transport};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

/// To make a connection, its TLS handshake included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A message must be whole after this time, and the first must have come.
const MESSAGE_LIMIT: Duration = Duration::from_secs(30);
/// A connection without any message. Longer than the longest registration (an hour): a phone is called on the
/// connection on which it registered.
const IDLE_LIMIT: Duration = Duration::from_secs(3_900);
/// Read at once.
const READ_BYTES: usize = 4 * 1024;

/// Accepts SIP over TCP.
pub(in crate::io) async fn listen_tcp(listener: TcpListener, local: SocketAddr, context: Arc<SipContext>) {
    let counters = Arc::clone(&context.counters);
    tls::accept(listener, counters, |stream, remote| {
        let Some(place) = context.connections.take(MAX_CONNECTIONS) else {
            return context.counters.sip_refused.add();
        };
        context.counters.sip_accepted.add();
        tokio::spawn(accepted(Arc::clone(&context), stream, Transport::Tcp, local, remote, place));
    })
    .await;
}

/// Accepts SIP over TLS.
pub(in crate::io) async fn listen_tls(listener: TcpListener, local: SocketAddr, context: Arc<SipContext>) {
    let counters = Arc::clone(&context.counters);
    tls::accept(listener, counters, |stream, remote| {
        let place = context.connections.take(MAX_CONNECTIONS);
        let (Some(place), Some(beginning)) = (place, context.beginning.take(MAX_BEGINNING)) else {
            return context.counters.sip_refused.add();
        };
        let context = Arc::clone(&context);
        tokio::spawn(async move {
            let config = Arc::clone(&context.tls.load().sip_server);
            let Some(stream) = context.beginning.accept(beginning, config, stream, remote).await else {
                return;
            };
            context.counters.sip_accepted.add();
            accepted(context, stream, Transport::Tls, local, remote, place).await;
        });
    })
    .await;
}

async fn accepted<S: AsyncRead + AsyncWrite>(
    context: Arc<SipContext>,
    stream: S,
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
    _place: Place,
) {
    let id = context.next_id();
    let hop = Hop { transport, local, remote, connection: Some(id) };
    let (outbox, pending) = outbox(OUTBOX);
    if context.queue.send(Event::SipOpened { hop, id, outbox }).await.is_ok() {
        serve(&context, stream, hop, id, pending).await;
    }
}

/// Makes a connection that the core wants, and serves it. The owner knows of it already and queues meanwhile.
pub(super) async fn connect(
    context: Arc<SipContext>,
    hop: Hop,
    id: ConnectionId,
    pending: Pending<Vec<u8>>,
    _place: Place,
    beginning: Place,
) {
    let made = timeout(CONNECT_LIMIT, make(&context, hop)).await;
    drop(beginning);
    let error = match made {
        Ok(Ok(Made::Tcp(stream))) => return serve(&context, stream, named(hop, id), id, pending).await,
        Ok(Ok(Made::Tls(stream))) => return serve(&context, *stream, named(hop, id), id, pending).await,
        Ok(Err(error)) => error,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    debug!(remote = %hop.remote, %error, "no SIP connection could be made");
    // If the owner is gone, nobody waits for the news.
    let _ = context.queue.send(Event::SipEnded { hop: Hop { connection: None, ..hop }, id }).await;
}

enum Made {
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn make(context: &SipContext, hop: Hop) -> io::Result<Made> {
    let stream = TcpStream::connect(hop.remote).await?;
    stream.set_nodelay(true)?;
    match hop.transport {
        Transport::Udp | Transport::Tcp => Ok(Made::Tcp(stream)),
        Transport::Tls => {
            let connector = TlsConnector::from(Arc::clone(&context.tls.load().sip_client));
            // Peers are configured by address, so their certificates have to name it.
            let name = ServerName::IpAddress(hop.remote.ip().into());
            Ok(Made::Tls(Box::new(connector.connect(name, stream).await?)))
        }
    }
}

fn named(hop: Hop, id: ConnectionId) -> Hop {
    Hop { connection: Some(id), ..hop }
}

/// Both directions until one of them ends. One task for both: what the core wrote before it closed still goes out.
async fn serve<S: AsyncRead + AsyncWrite>(
    context: &SipContext,
    stream: S,
    hop: Hop,
    id: ConnectionId,
    mut pending: Pending<Vec<u8>>,
) {
    let _alive = context.alive.clone();
    let (reader, writer) = tokio::io::split(stream);
    let overdue = pending.overdue();
    let write = write(writer, pending);
    tokio::pin!(overdue, write);
    let peer_ended = tokio::select! {
        end = read(context, reader, hop) => match end {
            Ok(end) => end,
            Err(Gone) => return,
        },
        result = &mut write => {
            if let Err(error) = result {
                debug!(remote = %hop.remote, %error, "a SIP connection broke");
            }
            ReadEnd::Closed
        }
        () = &mut overdue => ReadEnd::Closed,
    };
    if peer_ended == ReadEnd::Broken {
        context.counters.sip_broken.add();
    }
    // If the core closed it itself, the owner knows it no more and takes no notice.
    let _ = context.queue.send(Event::SipEnded { hop, id }).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadEnd {
    Closed,
    /// No SIP, or too slow to be honest.
    Broken,
}

async fn read<S: AsyncRead + AsyncWrite>(
    context: &SipContext,
    mut reader: ReadHalf<S>,
    hop: Hop,
) -> Result<ReadEnd, Gone> {
    let mut framer = StreamFramer::default();
    let mut buffer = [0; READ_BYTES];
    let mut due = now() + MESSAGE_LIMIT;
    loop {
        let left = due.saturating_duration_since(now());
        let read = match timeout(left, reader.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return Ok(ReadEnd::Closed),
            Ok(Ok(read)) => read,
            Err(_) => return Ok(ReadEnd::Broken),
        };
        let was_between_messages = framer.is_empty();
        let pushed = framer.push(&buffer[..read]);
        let mut whole = false;
        while let Some(bytes) = framer.next_message() {
            whole = true;
            context.queue.send(Event::Input(Input::Sip { hop, bytes })).await?;
        }
        if pushed.is_err() {
            return Ok(ReadEnd::Broken);
        }
        if framer.is_empty() {
            if whole {
                due = now() + IDLE_LIMIT;
            }
        } else if whole || was_between_messages {
            // A message has begun with this read. More bytes of it don't put the time off.
            due = now() + MESSAGE_LIMIT;
        }
    }
}

async fn write<S: AsyncRead + AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut pending: Pending<Vec<u8>>,
) -> io::Result<()> {
    while let Some(bytes) = pending.items.recv().await {
        writer.write_all(&bytes).await?;
        writer.flush().await?;
        pending.written(bytes.len());
    }
    writer.shutdown().await
}
