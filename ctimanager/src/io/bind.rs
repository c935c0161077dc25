//! Opens all listening sockets before anything starts, so that a port that is taken is told with all the others.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};

use super::control;

/// Room for bursts of datagrams in the kernel; it grants at most `net.core.rmem_max`.
const UDP_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Where to listen; `None` = not at all, port 0 = any free one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // one per transport, named as in the configuration
pub struct Listen {
    pub sip_udp: Option<SocketAddr>,
    pub sip_tcp: Option<SocketAddr>,
    pub sip_tls: Option<SocketAddr>,
    pub cti_tls: Option<SocketAddr>,
    pub cti_plain: Option<SocketAddr>,
    pub web: Option<SocketAddr>,
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
    pub(super) sip_udp: Option<Arc<UdpSocket>>,
    pub(super) sip_tcp: Option<TcpListener>,
    pub(super) sip_tls: Option<TcpListener>,
    pub(super) cti_tls: Option<TcpListener>,
    pub(super) cti_plain: Option<TcpListener>,
    pub(super) web: Option<TcpListener>,
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
    if let Some(address) = listen.sip_udp {
        match udp(address) {
            Ok((socket, address)) => {
                bound.sip_udp = Some(Arc::new(socket));
                bound.addresses.sip_udp = Some(address);
            }
            Err(error) => failures.push(("SIP over UDP", address.to_string(), error)),
        }
    }
    let Bound { sip_tcp, sip_tls, cti_tls, cti_plain, web, addresses, .. } = &mut bound;
    let ports = [
        ("SIP over TCP", listen.sip_tcp, sip_tcp, &mut addresses.sip_tcp),
        ("SIP over TLS", listen.sip_tls, sip_tls, &mut addresses.sip_tls),
        ("CTI over TLS", listen.cti_tls, cti_tls, &mut addresses.cti_tls),
        ("CTI over plain TCP", listen.cti_plain, cti_plain, &mut addresses.cti_plain),
        ("HTTPS", listen.web, web, &mut addresses.web),
    ];
    for (what, wanted, listener, actual) in ports {
        let Some(address) = wanted else { continue };
        match tcp(address).await {
            Ok((socket, address)) => {
                *listener = Some(socket);
                *actual = Some(address);
            }
            Err(error) => failures.push((what, address.to_string(), error)),
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

async fn tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn udp(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    // The kernel grants what it may; less is no reason not to start.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}
