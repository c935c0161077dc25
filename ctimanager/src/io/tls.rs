//! TLS at the sockets: configurations that a reload exchanges, and handshakes with a time limit.

use super::counters::Counters;
use super::places::{SharedPlace, SharedPlaces};
use crate::config::{Config, TrunkTransport};
use crate::node::{Certified, CtiTransport};
use arc_swap::ArcSwap;
use device_model::{NodeName, TrunkName};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use security::tls::nodes::NodeNames;
use security::tls::{Serial, Trust};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

/// How long `accept` rests after an error such as no free file descriptor, which does not mend itself at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The node's TLS configurations. Connections that are open keep the one with which they began.
#[derive(Clone, Debug)]
pub struct TlsConfigs {
    /// NDJSON over TLS.
    pub cti: Arc<ServerConfig>,
    /// SIP over TLS, as the server.
    pub sip_server: Arc<ServerConfig>,
    /// SIP over TLS, as the client.
    pub sip_client: Arc<ClientConfig>,
    /// SIP over TLS: whom trunks are to be.
    pub sip_peers: SipPeers,
    /// HTTPS and WebSocket.
    pub web: Arc<ServerConfig>,
    /// Between nodes, where the configuration has several.
    pub cluster: Option<Arc<ClusterTls>>,
    /// When the node's certificate ends.
    pub ends: SystemTime,
    /// Certificates that are taken back: who has come with one is closed.
    pub revoked: Arc<BTreeSet<Serial>>,
}

/// TLS between the nodes of a configuration.
#[derive(Clone, Debug)]
pub struct ClusterTls {
    /// For who connects.
    pub server: Arc<ServerConfig>,
    /// To connect to each of the others.
    pub clients: HashMap<NodeName, Arc<ClientConfig>>,
    /// Whom certificates may name.
    pub names: NodeNames,
}

/// Whom the peers of SIP connections over TLS are to be.
#[derive(Clone, Debug, Default)]
pub struct SipPeers {
    /// Who vouches for them: the cluster's authority (`None`) and those of trunks.
    pub authorities: Vec<(Option<Arc<str>>, Trust)>,
    /// The trunks: their host, and how to connect there.
    pub trunks: Vec<(TrunkName, ServerName<'static>, Arc<ClientConfig>)>,
    /// Which of them is at an address.
    pub at: HashMap<SocketAddr, TrunkName>,
}

impl SipPeers {
    /// With the addresses of those trunks.
    #[must_use]
    pub fn located(mut self, config: &Config, resolved: &HashMap<TrunkName, SocketAddr>) -> Self {
        let tls = config.trunks.iter().filter(|trunk| trunk.transport == TrunkTransport::Tls);
        let found = tls.filter_map(|trunk| {
            Some((trunk.address().or_else(|| resolved.get(&trunk.name).copied())?, trunk.name.clone()))
        });
        self.at = found.collect();
        self
    }

    /// What the certificate that the peer has shown proves; `None` when it has shown none that any of our authorities
    /// vouches for.
    pub(super) fn certified(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Option<Certified> {
        let vouch = self.authorities.iter().filter(|(_, trust)| trust.vouches_for(chain, now));
        let authorities: Vec<_> = vouch.map(|(authority, _)| authority.clone()).collect();
        let (names, serial) = (security::tls::names(chain), security::tls::number(chain)?);
        (!authorities.is_empty()).then_some(Certified { authorities, names, serial })
    }
}

impl TlsConfigs {
    /// The name that the peer at this address must have in its certificate, and the configuration to ask it with: a trunk's
    /// host, else the address itself.
    pub(super) fn sip_client_for(&self, remote: SocketAddr) -> (ServerName<'static>, Arc<ClientConfig>) {
        let peers = &self.sip_peers;
        let trunk = peers.at.get(&remote).and_then(|name| peers.trunks.iter().find(|(one, ..)| one == name));
        match trunk {
            Some((_, host, config)) => (host.clone(), Arc::clone(config)),
            None => (ServerName::IpAddress(remote.ip().into()), Arc::clone(&self.sip_client)),
        }
    }
}

/// Where the tasks look for the configuration of the next handshake.
pub(super) type SharedTls = Arc<ArcSwap<TlsConfigs>>;

/// Accepts for ever; each connection without Nagle's delay. Whom `knock` does not let in, for he comes too often, is closed
/// before anything is done for him.
pub(super) async fn accept(
    listener: TcpListener,
    counters: Arc<Counters>,
    knock: impl Fn(IpAddr) -> bool,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if !knock(peer.ip()) {
                    continue;
                }
                // It fails only on a socket that is gone already, which the first read will tell.
                let _ = stream.set_nodelay(true);
                serve(stream, peer);
            }
            Err(error) => {
                counters.accept_errors.add();
                let times = counters.accept_errors.value();
                // Without a free file descriptor this comes twenty times a second, as long as somebody knocks.
                if times.is_power_of_two() {
                    warn!(%error, times, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Bounds how many handshakes run at once and how long each may take.
#[derive(Clone, Debug)]
pub(super) struct Handshakes {
    places: Arc<SharedPlaces>,
    counters: Arc<Counters>,
    limit: Duration,
}

impl Handshakes {
    /// Handshakes that take longer than `limit` are given up.
    pub(super) fn new(counters: Arc<Counters>, limit: Duration) -> Self {
        Self { places: Arc::default(), counters, limit }
    }

    /// A place for one handshake among at most `limit`, and at most `of_address` of one address.
    pub(super) fn take(&self, limit: usize, peer: SocketAddr, of_address: usize) -> Option<SharedPlace> {
        self.places.take(limit, peer.ip(), of_address)
    }

    /// The server's side of a handshake; the place is free again after it.
    pub(super) async fn accept<P>(
        &self,
        _place: P,
        config: Arc<ServerConfig>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = TlsAcceptor::from(config).accept(stream);
        let result = match tokio::time::timeout(self.limit, handshake).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        result
            .inspect_err(|error| {
                self.counters.tls_failures.add();
                debug!(%peer, %error, "TLS handshake failed");
            })
            .ok()
    }
}

/// What the node wants to know of an application's TLS connection.
pub(super) fn transport_of(stream: &TlsStream<TcpStream>) -> CtiTransport {
    let (_, session) = stream.get_ref();
    let peer = session.peer_certificates().and_then(security::tls::peer_identity);
    match peer {
        None => CtiTransport::Tls { client_cn: None, not_after: None, serial: None },
        Some(peer) => CtiTransport::Tls {
            client_cn: Some(peer.common_name),
            // Before 1970 means: long over.
            not_after: Some(peer.not_after.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
            serial: Some(peer.serial),
        },
    }
}
