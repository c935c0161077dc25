//! Links to the other nodes: each node listens and connects to each other, mutual TLS, heartbeats in both directions.

mod link;

use super::counters::Counters;
use super::cti::CtiShell;
use super::limits::{Alive, Limits, Patience};
use super::places::SharedPlaces;
use super::queue::{Event, Queue};
use super::tls::{SharedTls, accept};
use crate::config::{self, Config};
use crate::node::{Input, NodesInput};
use arc_swap::ArcSwap;
use device_model::NodeName;
use link::Link;
use rustls::pki_types::ServerName;
use security::tls::nodes::reason;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tracing::{debug, warn};

/// Handshakes of others that run at once, and those of one address.
const HANDSHAKES: usize = 64;
const HANDSHAKES_OF_ADDRESS: usize = 8;
/// Links of one node, both directions and those that are about to end: more are closed.
const LINKS_OF_NODE: usize = 8;
/// Between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Another node, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeName,
    /// Hosts and ports, tried one after the other.
    pub addresses: Vec<(Arc<str>, u16)>,
}

/// The other nodes of a configuration.
#[must_use]
pub fn peers_of(config: &Config, own: &config::Node) -> Vec<Peer> {
    let others = config.nodes.iter().filter(|node| node.name != own.name && config.is_clustered());
    others.map(|node| Peer { node: node.name.clone(), addresses: node.cluster_addresses() }).collect()
}

/// What all links share.
#[derive(Debug)]
pub(super) struct ClusterShell {
    queue: Queue,
    tls: SharedTls,
    limits: Arc<ArcSwap<Limits>>,
    counters: Arc<Counters>,
    alive: Alive,
    patience: Patience,
    handshakes: Arc<SharedPlaces>,
    /// The links of each node.
    links: link::Places,
    last_link: AtomicU64,
}

impl ClusterShell {
    /// With what applications' connections have.
    pub(super) fn beside(cti: &CtiShell, queue: Queue) -> Self {
        Self {
            queue,
            tls: Arc::clone(&cti.tls),
            limits: Arc::clone(&cti.limits),
            counters: Arc::clone(&cti.counters),
            alive: cti.alive.clone(),
            patience: cti.patience,
            handshakes: Arc::default(),
            links: link::Places::default(),
            last_link: AtomicU64::new(0),
        }
    }

    fn node_failure_timeout(&self) -> Duration {
        self.limits.load().node_failure_timeout
    }

    fn next_link(&self) -> cluster::LinkId {
        cluster::LinkId(self.last_link.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Tells of somebody who is no node of ours. He is counted even when nobody has time to hear of him.
    fn refuse(&self, address: IpAddr, error: &io::Error) {
        self.counters.cluster_refused.add();
        let reason = word(error);
        debug!(%address, %reason, %error, "a handshake between nodes failed");
        let input = Input::Nodes(NodesInput::Refused { address, reason });
        // A full queue has told of as many already.
        let _ = self.queue.try_send(Event::Input(input));
    }
}

fn word(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::TimedOut {
        return "timeout";
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => reason(error),
        None => "connection_lost",
    }
}

/// Serves who connects, for ever.
pub(super) async fn listen(listener: TcpListener, shell: Arc<ClusterShell>) {
    let counters = Arc::clone(&shell.counters);
    accept(
        listener,
        counters,
        |_| true,
        |stream, peer| {
            let Some(place) = shell.handshakes.take(HANDSHAKES, peer.ip(), HANDSHAKES_OF_ADDRESS) else {
                return shell.counters.cluster_refused.add();
            };
            let shell = Arc::clone(&shell);
            tokio::spawn(async move {
                let _alive = shell.alive.clone();
                let accepted = welcome(&shell, stream, peer).await;
                drop(place);
                if let Some((node, stream)) = accepted {
                    Link::new(&shell, node).talk(stream).await;
                }
            });
        },
    )
    .await;
}

/// The handshake of who connects, and which node he is.
async fn welcome(
    shell: &ClusterShell,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(NodeName, TlsStream<TcpStream>)> {
    let tls = shell.tls.load().cluster.clone()?;
    let handshake = TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream);
    let stream = match timeout(shell.patience.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shell.refuse(peer.ip(), &error);
            return None;
        }
        Err(_) => {
            shell.refuse(peer.ip(), &io::ErrorKind::TimedOut.into());
            return None;
        }
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    // The handshake has seen to that.
    let node = tls.names.node_of(chain).ok()?.into();
    Some((node, TlsStream::from(stream)))
}

/// Connects to a node, again and again.
pub(super) async fn dial(peer: Peer, shell: Arc<ClusterShell>) {
    if peer.addresses.is_empty() {
        // It connects to us.
        return std::future::pending().await;
    }
    let mut pause = FIRST_PAUSE;
    let mut told = None;
    for (host, port) in peer.addresses.iter().cycle() {
        match connect(&shell, &peer.node, host, *port).await {
            Ok(stream) => {
                (pause, told) = (FIRST_PAUSE, None);
                let _alive = shell.alive.clone();
                Link::new(&shell, peer.node.clone()).talk(stream).await;
            }
            Err(error) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    warn!(node = %peer.node, %host, port, error = %why, "another node can't be reached");
                    told = Some(why);
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(
    shell: &ClusterShell,
    node: &NodeName,
    host: &str,
    port: u16,
) -> io::Result<TlsStream<TcpStream>> {
    let client = shell.tls.load().cluster.as_ref().and_then(|tls| tls.clients.get(node).cloned());
    let client = client.ok_or_else(|| io::Error::other("there is no certificate for it"))?;
    let limit = shell.node_failure_timeout().max(Duration::from_secs(1));
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = timeout(limit, TcpStream::connect((host, port))).await??;
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?.ip();
    match timeout(limit, TlsConnector::from(client).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(TlsStream::from(stream)),
        Ok(Err(error)) => {
            // Only of a certificate can somebody else be guilty: a node that is about to end resets connections, too.
            if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                shell.refuse(address, &error);
            }
            Err(error)
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Where the owner writes: the queues of the links.
#[derive(Debug, Default)]
pub(super) struct ClusterLinks(HashMap<cluster::LinkId, mpsc::Sender<Arc<[u8]>>>);

impl ClusterLinks {
    pub(super) fn opened(&mut self, link: cluster::LinkId, outbox: mpsc::Sender<Arc<[u8]>>) {
        self.0.insert(link, outbox);
    }

    /// The link ends when what is queued is written.
    pub(super) fn close(&mut self, link: cluster::LinkId) {
        self.0.remove(&link);
    }

    /// Where a queue is full the message is left out: the next one says all again.
    pub(super) fn send(&self, links: &[cluster::LinkId], heartbeat: &cluster::Heartbeat) {
        let Some(bytes) = cluster::message::write(heartbeat) else {
            return warn!("there are too many nodes for one heartbeat");
        };
        let bytes: Arc<[u8]> = bytes.into();
        for outbox in links.iter().filter_map(|link| self.0.get(link)) {
            let _ = outbox.try_send(Arc::clone(&bytes));
        }
    }
}
