//! SIP over TCP and TLS.

use super::{OUTBOX, SipContext};
use crate::io::outbox::{Pending, outbox};
use crate::io::places::{Place, SharedPlace};
use crate::io::queue::{Event, Gone};
use crate::io::tls;
use crate::io::{now, wall};
use crate::node::{Certified, Input};
use rustls::pki_types::CertificateDer;
use sip::Hop;
use sip::frame::{Frame, PONG, StreamFramer};
use sip::port::{ConnectionId, Transport};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

/// Read at once.
const READ_BYTES: usize = 4 * 1024;

/// Accepts SIP over TCP.
pub(in crate::io) async fn listen_tcp(listener: TcpListener, local: SocketAddr, context: Arc<SipContext>) {
    let counters = Arc::clone(&context.counters);
    tls::accept(listener, counters, |stream, remote| {
        let Some(place) = context.take_place() else {
            return context.counters.sip_refused.add();
        };
        context.counters.sip_accepted.add();
        let hop = Hop { transport: Transport::Tcp, local, remote, connection: None };
        tokio::spawn(accepted(Arc::clone(&context), stream, hop, None, place));
    })
    .await;
}

/// Accepts SIP over TLS.
pub(in crate::io) async fn listen_tls(listener: TcpListener, local: SocketAddr, context: Arc<SipContext>) {
    let counters = Arc::clone(&context.counters);
    tls::accept(listener, counters, |stream, remote| {
        let (Some(place), Some(beginning)) = (context.take_place(), context.take_beginning(remote)) else {
            return context.counters.sip_refused.add();
        };
        let context = Arc::clone(&context);
        tokio::spawn(async move {
            let config = Arc::clone(&context.tls.load().sip_server);
            let Some(stream) = context.beginning.accept(beginning, config, stream, remote).await else {
                return;
            };
            context.counters.sip_accepted.add();
            let certified = certified(&context, stream.get_ref().1.peer_certificates());
            let hop = Hop { transport: Transport::Tls, local, remote, connection: None };
            accepted(context, stream, hop, certified, place).await;
        });
    })
    .await;
}

async fn accepted<S: AsyncRead + AsyncWrite>(
    context: Arc<SipContext>,
    stream: S,
    hop: Hop,
    certified: Option<Certified>,
    _place: Place,
) {
    let id = context.next_id();
    let hop = named(hop, id);
    let (outbox, pending) = outbox(OUTBOX);
    if context.queue.send(Event::SipOpened { hop, id, outbox }).await.is_ok()
        && tell_certified(&context, id, certified).await.is_ok()
    {
        serve(&context, stream, hop, id, pending).await;
    }
}

/// What the peer's certificate proves.
fn certified(context: &SipContext, chain: Option<&[CertificateDer<'_>]>) -> Option<Certified> {
    context.tls.load().sip_peers.certified(chain?, wall())
}

async fn tell_certified(
    context: &SipContext,
    id: ConnectionId,
    certified: Option<Certified>,
) -> Result<(), Gone> {
    match certified {
        Some(certified) => context.queue.send(Event::Input(Input::SipCertified(id, certified))).await,
        None => Ok(()),
    }
}

/// Makes a connection that the core wants, and serves it. The owner knows of it already and queues meanwhile.
pub(super) async fn connect(
    context: Arc<SipContext>,
    hop: Hop,
    id: ConnectionId,
    pending: Pending<Vec<u8>>,
    _place: Place,
    beginning: SharedPlace,
) {
    let made = timeout(context.patience.sip_connect, make(&context, hop)).await;
    drop(beginning);
    let error = match made {
        Ok(Ok(Made::Tcp(stream))) => return serve(&context, stream, named(hop, id), id, pending).await,
        Ok(Ok(Made::Tls(stream))) => {
            let certified = certified(&context, stream.get_ref().1.peer_certificates());
            if tell_certified(&context, id, certified).await.is_ok() {
                serve(&context, *stream, named(hop, id), id, pending).await;
            }
            return;
        }
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
            let (name, config) = context.tls.load().sip_client_for(hop.remote);
            let connector = TlsConnector::from(config);
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
    let pinged = Notify::new();
    let write = write(writer, pending, &pinged);
    tokio::pin!(overdue, write);
    let peer_ended = tokio::select! {
        end = read(context, reader, hop, &pinged) => match end {
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
    pinged: &Notify,
) -> Result<ReadEnd, Gone> {
    let mut framer = StreamFramer::default();
    let mut buffer = [0; READ_BYTES];
    let mut due = now() + context.patience.sip_message;
    loop {
        let left = due.saturating_duration_since(now());
        let read = match timeout(left, reader.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return Ok(ReadEnd::Closed),
            Ok(Ok(read)) => read,
            Err(_) => return Ok(ReadEnd::Broken),
        };
        let was_between_messages = framer.is_between_messages();
        framer.push(&buffer[..read]);
        let mut whole = false;
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(bytes))) => {
                    whole = true;
                    context.queue.send(Event::Input(Input::Sip { hop, bytes })).await?;
                }
                // A keep-alive proves nothing about who sends it: it doesn't put the limit off.
                Ok(Some(Frame::Ping)) => pinged.notify_one(),
                Ok(None) => break,
                Err(_) => return Ok(ReadEnd::Broken),
            }
        }
        if framer.is_between_messages() {
            if whole {
                due = now() + context.idle();
            }
        } else if whole || was_between_messages {
            // A message has begun with this read. More bytes of it don't put the time off.
            due = now() + context.patience.sip_message;
        }
    }
}

async fn write<S: AsyncRead + AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut pending: Pending<Vec<u8>>,
    pinged: &Notify,
) -> io::Result<()> {
    loop {
        tokio::select! {
            item = pending.items.recv() => match item {
                Some(bytes) => {
                    writer.write_all(&bytes).await?;
                    pending.written(bytes.len());
                }
                None => return writer.shutdown().await,
            },
            () = pinged.notified() => writer.write_all(PONG).await?,
        }
        writer.flush().await?;
    }
}
