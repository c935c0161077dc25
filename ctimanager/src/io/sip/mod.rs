//! SIP's sockets, as the owner sees them: where to send, and which connections are open.

mod door;
mod guests;
pub(super) mod packet_info;
mod sieve;
mod stream;
mod udp;
mod unreachable;

pub(super) use door::Door;
pub(super) use sieve::choose;
pub(super) use stream::{listen_tcp, listen_tls};
#[cfg(test)]
pub(super) use udp::receive;
pub(super) use udp::{UdpSockets, listen_udp};

use super::counters::Counters;
use super::limits::{Alive, Limits, Patience};
use super::outbox::{Capacity, Outbox, Refused, outbox};
use super::places::{Place, Places, SharedPlace};
use super::queue::{Lanes, Queue};
use super::tls::{Handshakes, SharedTls};
use arc_swap::ArcSwap;
use sip::Hop;
use sip::port::{ConnectionId, Transport};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::debug;
use udp::{NoWay, UdpSender};

/// What may wait for a peer that does not read, or whose connection is being made.
const OUTBOX: Capacity = Capacity { items: 256, burst: 0, bytes: 1024 * 1024, reserve: 0 };

/// What the tasks of all SIP connections share.
#[derive(Debug)]
pub(super) struct SipContext {
    pub(super) lanes: Lanes<Queue>,
    pub(super) door: Arc<Door>,
    pub(super) tls: SharedTls,
    pub(super) counters: Arc<Counters>,
    pub(super) alive: Alive,
    pub(super) patience: Patience,
    limits: Arc<ArcSwap<Limits>>,
    connections: Arc<Places>,
    beginning: Handshakes,
    last_id: AtomicU64,
}

impl SipContext {
    pub(super) fn new(
        lanes: Lanes<Queue>,
        tls: SharedTls,
        counters: Arc<Counters>,
        alive: Alive,
        patience: Patience,
        limits: Arc<ArcSwap<Limits>>,
    ) -> Self {
        let beginning = Handshakes::new(Arc::clone(&counters), patience.handshake);
        let (connections, last_id, door) = (Arc::default(), AtomicU64::new(0), Arc::default());
        Self { lanes, door, tls, counters, alive, patience, limits, connections, beginning, last_id }
    }

    /// A place for one more connection: each phone over TCP or TLS keeps one.
    fn take_place(&self) -> Option<Place> {
        self.connections.take(self.limits.load().max_sip_connections)
    }

    /// A place for a handshake or a connect.
    fn take_beginning(&self, peer: SocketAddr) -> Option<SharedPlace> {
        let most = self.limits.load().max_sip_connecting;
        self.beginning.take(most, peer, most)
    }

    /// How long a connection may be without a message.
    fn idle(&self) -> Duration {
        self.limits.load().sip_idle
    }

    fn next_id(&self) -> ConnectionId {
        ConnectionId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The owner's half of SIP's sockets.
pub(super) struct SipShell {
    context: Arc<SipContext>,
    udp: Vec<UdpSender>,
    open: HashMap<ConnectionId, Connection>,
    /// Which open connection leads to a peer; the newest, when there are several.
    by_peer: HashMap<(Transport, SocketAddr), ConnectionId>,
}

#[derive(Debug)]
struct Connection {
    /// As the core knows it: with the connection's id once it is open.
    hop: Hop,
    outbox: Outbox<Vec<u8>>,
}

impl SipShell {
    pub(super) fn new(context: Arc<SipContext>, udp: Vec<UdpSender>) -> Self {
        Self { context, udp, open: HashMap::new(), by_peer: HashMap::new() }
    }

    pub(super) fn door(&self) -> &Door {
        &self.context.door
    }

    pub(super) fn is_open(&self, id: ConnectionId) -> bool {
        self.open.contains_key(&id)
    }

    /// A connection was accepted, or one that the core asked for was made.
    pub(super) fn opened(&mut self, hop: Hop, id: ConnectionId, outbox: Outbox<Vec<u8>>) {
        self.by_peer.insert((hop.transport, hop.remote), id);
        self.open.insert(id, Connection { hop, outbox });
    }

    /// A connection ended; `false` when the core has closed it itself before.
    pub(super) fn ended(&mut self, id: ConnectionId) -> bool {
        self.forget(id).is_some()
    }

    /// Closes a connection; what is queued still goes out. Its hop, if it was open.
    pub(super) fn close(&mut self, id: ConnectionId) -> Option<Hop> {
        self.forget(id).map(|connection| connection.hop)
    }

    /// Sends a message. A hop comes back if its connection had to be closed, or can't be made.
    pub(super) fn send(&mut self, hop: Hop, bytes: Vec<u8>) -> Option<Hop> {
        match hop.transport {
            Transport::Udp => {
                match udp::fitting(&self.udp, &hop) {
                    Some(udp) => {
                        return udp.send(bytes, hop.local.ip(), hop.remote).err().map(|NoWay| hop);
                    }
                    None => self.context.counters.datagrams_unsent.add(),
                }
                None
            }
            Transport::Tcp | Transport::Tls => {
                let id = hop.connection.or_else(|| self.by_peer.get(&(hop.transport, hop.remote)).copied());
                match (id, hop.connection) {
                    // The core has been told of the end of a connection that is no longer here.
                    (Some(id), _) => self.write(id, bytes),
                    (None, _) => self.connect(hop, Some(bytes)),
                }
            }
        }
    }

    fn write(&mut self, id: ConnectionId, bytes: Vec<u8>) -> Option<Hop> {
        match self.open.get(&id)?.outbox.push(bytes) {
            Ok(()) => None,
            // Its SipEnded is on the way.
            Err(Refused::Closed) => None,
            Err(Refused::Full) => {
                self.context.counters.sip_broken.add();
                debug!(connection = id.0, "a SIP peer does not read; closing");
                self.close(id)
            }
        }
    }

    /// Makes a connection unless one is open. Without room for it nothing is lost: nobody waits for it.
    pub(super) fn open(&mut self, hop: Hop) {
        if hop.transport != Transport::Udp && !self.by_peer.contains_key(&(hop.transport, hop.remote)) {
            let _ = self.connect(hop, None);
        }
    }

    fn connect(&mut self, hop: Hop, bytes: Option<Vec<u8>>) -> Option<Hop> {
        let (place, beginning) = (self.context.take_place(), self.context.take_beginning(hop.remote));
        let (Some(place), Some(beginning)) = (place, beginning) else {
            self.context.counters.sip_refused.add();
            return Some(hop);
        };
        let id = self.context.next_id();
        let (outbox, pending) = outbox(OUTBOX);
        if bytes.is_some_and(|bytes| outbox.push(bytes).is_err()) {
            return Some(hop);
        }
        self.opened(hop, id, outbox);
        tokio::spawn(stream::connect(Arc::clone(&self.context), hop, id, pending, place, beginning));
        None
    }

    fn forget(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.open.remove(&id)?;
        let peer = (connection.hop.transport, connection.hop.remote);
        if self.by_peer.get(&peer) == Some(&id) {
            self.by_peer.remove(&peer);
        }
        Some(connection)
    }
}
