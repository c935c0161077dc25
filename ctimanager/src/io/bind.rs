//! Opens all listening sockets before anything starts, so that a port that is taken is told with all the others.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
use tracing::debug;

use super::control;
use super::sip::{UdpSockets, choose, packet_info};

/// Where to listen; none = not at all, port 0 = any free one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // one per transport, named as in the configuration
pub struct Listen {
    pub sip_udp: Vec<SocketAddr>,
    pub sip_tcp: Vec<SocketAddr>,
    pub sip_tls: Vec<SocketAddr>,
    pub cti_tls: Vec<SocketAddr>,
    pub cti_plain: Vec<SocketAddr>,
    pub web: Vec<SocketAddr>,
    pub cluster: Vec<SocketAddr>,
    /// Room for bursts of datagrams in the system, of each socket, of which there are two at an address; what it granted
    /// where it is bound. The system's default with 0.
    pub sip_udp_buffer_bytes: usize,
    /// The administrators' Unix socket.
    pub control: Option<PathBuf>,
}

/// Why the node can't start: every address that could not be had.
#[derive(Debug)]
pub struct BindError {
    /// What could not be opened, where, and why.
    pub failures: Vec<(&'static str, String, io::Error)>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (what, address, error)) in self.failures.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}cannot listen for {what} on {address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BindError {}

/// Open sockets on which nobody reads yet.
#[derive(Debug, Default)]
pub struct Bound {
    pub(super) sip_udp: Vec<UdpSockets>,
    pub(super) sip_tcp: Vec<TcpListener>,
    pub(super) sip_tls: Vec<TcpListener>,
    pub(super) cti_tls: Vec<TcpListener>,
    pub(super) cti_plain: Vec<TcpListener>,
    pub(super) web: Vec<TcpListener>,
    pub(super) cluster: Vec<TcpListener>,
    pub(super) control: Option<control::Socket>,
    /// Where they are, with the ports that the system chose.
    pub addresses: Listen,
}

/// Opens them all.
///
/// # Errors
/// Every address that could not be opened.
pub async fn bind(listen: &Listen) -> Result<Bound, BindError> {
    let mut failures = Vec::new();
    let mut bound = Bound::default();
    for address in &listen.sip_udp {
        match udp(*address, listen.sip_udp_buffer_bytes) {
            Ok((sockets, address, granted)) => {
                let least =
                    bound.sip_udp.first().map_or(usize::MAX, |_| bound.addresses.sip_udp_buffer_bytes);
                bound.addresses.sip_udp_buffer_bytes = granted.min(least);
                bound.sip_udp.push(sockets);
                bound.addresses.sip_udp.push(address);
            }
            Err(error) => failures.push(("SIP over UDP", address.to_string(), error)),
        }
    }
    let Bound { sip_tcp, sip_tls, cti_tls, cti_plain, web, cluster, addresses, .. } = &mut bound;
    let ports = [
        ("SIP over TCP", &listen.sip_tcp, sip_tcp, &mut addresses.sip_tcp),
        ("SIP over TLS", &listen.sip_tls, sip_tls, &mut addresses.sip_tls),
        ("CTI over TLS", &listen.cti_tls, cti_tls, &mut addresses.cti_tls),
        ("CTI over plain TCP", &listen.cti_plain, cti_plain, &mut addresses.cti_plain),
        ("HTTPS", &listen.web, web, &mut addresses.web),
        ("other nodes", &listen.cluster, cluster, &mut addresses.cluster),
    ];
    for (what, wanted, listeners, actual) in ports {
        for address in wanted {
            match tcp(*address) {
                Ok((socket, address)) => {
                    listeners.push(socket);
                    actual.push(address);
                }
                Err(error) => failures.push((what, address.to_string(), error)),
            }
        }
    }
    if let Some(path) = &listen.control {
        match control::Socket::bind(path).await {
            Ok(socket) => {
                bound.control = Some(socket);
                bound.addresses.control = Some(path.clone());
            }
            Err(error) => failures.push(("administrators", path.display().to_string(), error)),
        }
    }
    if failures.is_empty() { Ok(bound) } else { Err(BindError { failures }) }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

fn tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = socket(address, socket2::Type::STREAM)?;
    // Connections of an earlier life may still be waited for.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// IPv6 alone on IPv6 addresses: `::` and `0.0.0.0` stand side by side on one port.
fn socket(address: SocketAddr, kind: socket2::Type) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Two sockets, one of them for those who are known, where the system can choose between them; and the bytes that it granted
/// the buffer of each: at most `net.core.rmem_max`.
fn udp(address: SocketAddr, buffer_bytes: usize) -> io::Result<(UdpSockets, SocketAddr, usize)> {
    let first = datagrams(address, buffer_bytes)?;
    // The system doubles what it grants, for what it needs itself (socket(7)).
    let granted = first.recv_buffer_size()? / 2;
    // Alone, so that an address that somebody else has is not shared with him.
    first.bind(&address.into())?;
    let known = UdpSocket::from_std(first.into())?;
    let address = known.local_addr()?;
    let strangers = match beside(&known, address, buffer_bytes) {
        Ok(socket) => Some(Arc::new(socket)),
        Err(error) => {
            debug!(%address, %error, "strangers' datagrams wait in one buffer with all others");
            None
        }
    };
    Ok((UdpSockets { known: Arc::new(known), strangers }, address, granted))
}

fn datagrams(address: SocketAddr, buffer_bytes: usize) -> io::Result<socket2::Socket> {
    let socket = socket(address, socket2::Type::DGRAM)?;
    if buffer_bytes > 0 {
        // Less is no reason not to start; the caller tells of it.
        let _ = socket.set_recv_buffer_size(buffer_bytes);
        let _ = socket.set_send_buffer_size(buffer_bytes);
    }
    packet_info::count_lost(&socket);
    if address.ip().is_unspecified() {
        packet_info::enable(&socket, address.is_ipv4())?;
    }
    Ok(socket)
}

/// A second socket at the address of the first, and all that comes goes to it until somebody is known.
fn beside(first: &UdpSocket, address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    socket2::SockRef::from(first).set_reuse_port(true)?;
    let second = datagrams(address, buffer_bytes)?;
    second.set_reuse_port(true)?;
    second.bind(&address.into())?;
    // Without it each would have some of everybody's; the second is closed then.
    match choose(&[], &second, address.is_ipv4()) {
        true => UdpSocket::from_std(second.into()),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}
