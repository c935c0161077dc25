//! SIP over TCP and TLS.

use super::guests::Stands;
use super::{Door, OUTBOX, SipContext};
use crate::io::outbox::{Pending, outbox};
use crate::io::places::{Place, SharedPlace};
use crate::io::queue::Sender;
use crate::io::queue::{Event, Gone, Lanes, Queue};
use crate::io::tls;
use crate::io::{now, wall};
use crate::node::{Certified, Input};
use rustls::pki_types::CertificateDer;
use security::shares::Listener;
use sip::Hop;
use sip::frame::{Frame, PONG, StreamFramer};
use sip::port::{ConnectionId, Transport};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::debug;

/// Messages of one connection that wait for the owner at once: no peer fills the queue of all.
const TURNS: usize = 16;
/// Read at once.
const READ_BYTES: usize = 4 * 1024;

/// Accepts SIP over TCP.
pub(in crate::io) async fn listen_tcp(listener: TcpListener, local: SocketAddr, context: Arc<SipContext>) {
    let (counters, door) = (Arc::clone(&context.counters), Arc::clone(&context.door));
    let knock = move |from| door.knock(Listener::Sip, from);
    tls::accept(listener, counters, knock, |stream, remote| {
        let Some(visitor) = Visitor::admit(&context, remote) else {
            return context.counters.sip_refused.add();
        };
        context.counters.sip_accepted.add();
        let local = own_end(&stream, local);
        let hop = Hop { transport: Transport::Tcp, local, remote, connection: None };
        tokio::spawn(accepted(visitor, stream, hop, None));
    })
    .await;
}

/// Accepts SIP over TLS.
pub(in crate::io) async fn listen_tls(listener: TcpListener, local: SocketAddr, context: Arc<SipContext>) {
    let (counters, door) = (Arc::clone(&context.counters), Arc::clone(&context.door));
    let knock = move |from| door.knock(Listener::Sip, from);
    tls::accept(listener, counters, knock, |stream, remote| {
        let (Some(visitor), Some(beginning)) =
            (Visitor::admit(&context, remote), context.take_beginning(remote))
        else {
            return context.counters.sip_refused.add();
        };
        let context = Arc::clone(&context);
        let local = own_end(&stream, local);
        tokio::spawn(async move {
            let config = Arc::clone(&context.tls.load().sip_server);
            let Some(stream) = context.beginning.accept(beginning, config, stream, remote).await else {
                return;
            };
            context.counters.sip_accepted.add();
            let certified = certified(&context, stream.get_ref().1.peer_certificates());
            let hop = Hop { transport: Transport::Tls, local, remote, connection: None };
            accepted(visitor, stream, hop, certified).await;
        });
    })
    .await;
}

/// Our end of a connection: of a listener at every address the one that was dialled.
fn own_end(stream: &TcpStream, listener: SocketAddr) -> SocketAddr {
    stream.local_addr().unwrap_or(listener)
}

/// A connection: its place, and its share of those of somebody, or of those on which nothing was proved.
struct Visitor {
    context: Arc<SipContext>,
    id: ConnectionId,
    _place: Place,
}

impl Visitor {
    fn admit(context: &Arc<SipContext>, remote: SocketAddr) -> Option<Self> {
        let place = context.take_place()?;
        let (context, id) = (Arc::clone(context), context.next_id());
        let until = now() + context.patience.sip_stranger;
        context.door.admit(id, remote.ip(), until).then(|| Self { context, id, _place: place })
    }

    /// One that we have made ourselves.
    fn made(context: Arc<SipContext>, id: ConnectionId, to: SocketAddr, place: Place) -> Self {
        context.door.made(id, to.ip());
        Self { context, id, _place: place }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.context.door.forget(self.id);
    }
}

async fn accepted<S: AsyncRead + AsyncWrite>(
    visitor: Visitor,
    stream: S,
    hop: Hop,
    certified: Option<Certified>,
) {
    let Visitor { context, id, .. } = &visitor;
    let hop = named(hop, *id);
    let (outbox, pending) = outbox(OUTBOX);
    let mut way = Way::new(&context.lanes, &context.door, hop, Sender::Stranger);
    if way.send(Event::SipOpened { hop, id: *id, outbox }).await.is_ok()
        && tell_certified(&mut way, *id, certified).await.is_ok()
    {
        serve(context, way, stream, pending).await;
    }
}

/// What the peer's certificate proves.
fn certified(context: &SipContext, chain: Option<&[CertificateDer<'_>]>) -> Option<Certified> {
    context.tls.load().sip_peers.certified(chain?, wall())
}

async fn tell_certified(way: &mut Way, id: ConnectionId, certified: Option<Certified>) -> Result<(), Gone> {
    match certified {
        Some(certified) => way.send(Event::Input(Input::SipCertified(id, certified))).await,
        None => Ok(()),
    }
}

/// Makes a connection that the core wants, and serves it. The owner knows of it already and queues meanwhile.
pub(super) async fn connect(
    context: Arc<SipContext>,
    hop: Hop,
    id: ConnectionId,
    pending: Pending<Vec<u8>>,
    place: Place,
    beginning: SharedPlace,
) {
    let visitor = Visitor::made(context, id, hop.remote, place);
    let context = &visitor.context;
    let made = timeout(context.patience.sip_connect, make(context, hop)).await;
    drop(beginning);
    let mut way = Way::new(&context.lanes, &context.door, named(hop, id), Sender::Known);
    let error = match made {
        Ok(Ok(Made::Tcp(stream))) => return serve(context, way, stream, pending).await,
        Ok(Ok(Made::Tls(stream))) => {
            let certified = certified(context, stream.get_ref().1.peer_certificates());
            if tell_certified(&mut way, id, certified).await.is_ok() {
                serve(context, way, *stream, pending).await;
            }
            return;
        }
        Ok(Err(error)) => error,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    debug!(remote = %hop.remote, %error, "no SIP connection could be made");
    // If the owner is gone, nobody waits for the news.
    let _ =
        context.lanes.known_streams.send(Event::SipEnded { hop: Hop { connection: None, ..hop }, id }).await;
}

enum Made {
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Connects from the address that the hop leaves from, since peers know us by it (a trunk's `host`, an access list). A
/// wildcard leaves the choice to the system, and so does an address that has no way to the peer.
async fn reach(hop: Hop) -> io::Result<TcpStream> {
    let local = hop.local.ip();
    if local.is_unspecified() || local.is_ipv4() != hop.remote.is_ipv4() {
        return TcpStream::connect(hop.remote).await;
    }
    let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(local, 0))?;
    match socket.connect(hop.remote).await {
        Err(error) if has_no_way(&error) => TcpStream::connect(hop.remote).await,
        made => made,
    }
}

fn has_no_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}

async fn make(context: &SipContext, hop: Hop) -> io::Result<Made> {
    let stream = reach(hop).await?;
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

/// The way of a connection's messages to the owner: at most so many of them wait, and they stay in their order when the
/// connection changes its lane.
struct Way {
    lanes: Lanes<Queue>,
    door: Arc<Door>,
    hop: Hop,
    lane: Sender,
    turns: Arc<Semaphore>,
}

impl Way {
    fn new(lanes: &Lanes<Queue>, door: &Arc<Door>, hop: Hop, lane: Sender) -> Self {
        let turns = Arc::new(Semaphore::new(TURNS));
        Self { lanes: lanes.clone(), door: Arc::clone(door), hop, lane, turns }
    }

    /// Hands on one message, once its sender's share allows it: the connection is not read meanwhile.
    async fn message(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        let sender = loop {
            match self.door.ask(&self.hop, bytes.len()) {
                Ok(sender) => break sender,
                Err(wait) => sleep(wait).await,
            }
        };
        // What came before is with the owner: nothing is overtaken.
        if sender != self.lane && self.turns.available_permits() == TURNS {
            self.lane = sender;
        }
        self.send(Event::Input(Input::Sip { hop: self.hop, bytes })).await
    }

    async fn send(&mut self, event: Event) -> Result<(), Gone> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Gone)?;
        self.lanes.streams(self.lane).send_in_turn(event, Some(turn)).await
    }
}

/// Returns when the connection is nobody's, and some seconds have shown that it stays so.
async fn shown_out(context: &SipContext, hop: Hop) {
    let Some(id) = hop.connection else { return std::future::pending().await };
    loop {
        let (stands, changed) = context.door.stands(id, context.patience.sip_stranger);
        match stands {
            Stands::Leaves => return,
            Stands::Asks(who) => {
                let question = Event::Input(Input::SipWhose { hop, who });
                // Without an owner nobody reads the connection either.
                let _ = context.lanes.known_streams.send(question).await;
            }
            Stands::Stays(Some(until)) => {
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = changed.notified() => {}
                }
            }
            Stands::Stays(None) => changed.notified().await,
        }
    }
}

/// Both directions until one of them ends. One task for both: what the core wrote before it closed still goes out.
async fn serve<S: AsyncRead + AsyncWrite>(
    context: &SipContext,
    mut way: Way,
    stream: S,
    mut pending: Pending<Vec<u8>>,
) {
    let hop = way.hop;
    let _alive = context.alive.clone();
    let (reader, writer) = tokio::io::split(stream);
    let overdue = pending.overdue();
    let pinged = Notify::new();
    let write = write(writer, pending, &pinged);
    tokio::pin!(overdue, write);
    let peer_ended = tokio::select! {
        end = read(context, &mut way, reader, &pinged) => match end {
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
        () = shown_out(context, hop) => ReadEnd::Closed,
    };
    if peer_ended == ReadEnd::Broken {
        context.counters.sip_broken.add();
    }
    // If the core closed it itself, the owner knows it no more and takes no notice.
    if let Some(id) = hop.connection {
        let _ = way.send(Event::SipEnded { hop, id }).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadEnd {
    Closed,
    /// No SIP, or too slow to be honest.
    Broken,
}

async fn read<S: AsyncRead + AsyncWrite>(
    context: &SipContext,
    way: &mut Way,
    mut reader: ReadHalf<S>,
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
                    way.message(bytes).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::queue::lanes;
    use security::shares::Who;

    fn hop() -> Hop {
        let (local, remote) =
            ("127.0.0.1:5060".parse().expect("valid"), "127.0.0.1:9".parse().expect("valid"));
        Hop { transport: Transport::Tcp, local, remote, connection: Some(ConnectionId(1)) }
    }

    fn number(event: Event) -> u8 {
        match event {
            Event::Input(Input::Sip { bytes, .. }) => bytes[0],
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_connection_that_pumps_has_its_turns_and_no_more() {
        let (lanes, mut inlets) = lanes(4_096, 1 << 20);
        let mut way = Way::new(&lanes, &Arc::default(), hop(), Sender::Stranger);
        let pumping = tokio::spawn(async move {
            for n in 0..100 {
                way.message(vec![n]).await.expect("the owner is there");
            }
        });
        let mut seen = Vec::new();
        while seen.len() < 100 {
            let first = inlets.streams.recv().await.expect("a message");
            tokio::task::yield_now().await;
            assert!(inlets.streams.len() < TURNS, "{} wait", inlets.streams.len());
            seen.push(number(first.event));
        }
        assert!(seen.is_sorted(), "in their order: {seen:?}");
        pumping.await.expect("all were handed on");
    }

    #[tokio::test]
    async fn whoever_becomes_known_overtakes_nothing_of_his_own() {
        let (lanes, mut inlets) = lanes(4_096, 1 << 20);
        let door = Arc::new(Door::default());
        assert!(door.admit(ConnectionId(1), hop().remote.ip(), now()));
        let mut way = Way::new(&lanes, &door, hop(), Sender::Stranger);
        way.message(vec![0]).await.expect("the owner is there");
        door.learn(&hop(), Who::Device("SEP1".into()), None);
        way.message(vec![1]).await.expect("the owner is there");
        for n in 0..2 {
            let queued = inlets.streams.recv().await.expect("still behind the first");
            assert_eq!(number(queued.event), n);
        }
        way.message(vec![2]).await.expect("the owner is there");
        let queued = inlets.known_streams.recv().await.expect("now before strangers");
        assert_eq!(number(queued.event), 2);
    }
}
