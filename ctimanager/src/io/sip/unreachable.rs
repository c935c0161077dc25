//! What ICMP says of a datagram that did not arrive (RFC 3261 §18.4), read from the socket's error queue.

use crate::io::queue::{Event, Queue, Refusal};
use crate::node::Input;
use nix::libc::{sock_extended_err, sockaddr_storage};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use sip::Hop;
use sip::port::Transport;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;

/// What is read of the datagram that did not arrive: enough for the Via of a request of ours.
const QUOTED_BYTES: usize = 2048;

/// `ee_origin` of what a router or host said.
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

/// An unreachable peer.
struct Unreachable {
    remote: SocketAddr,
    /// The beginning of our datagram, as far as the message quoted it.
    quoted: Vec<u8>,
}

/// Asks the system to keep what ICMP says of this socket's datagrams. Both families, for an IPv6 socket may carry IPv4;
/// one of the two is refused on most sockets.
pub(super) fn ask_for_errors(socket: &UdpSocket) {
    let results =
        [setsockopt(socket, sockopt::Ipv4RecvErr, &true), setsockopt(socket, sockopt::Ipv6RecvErr, &true)];
    if results.iter().all(Result::is_err) {
        debug!("unreachable phones over UDP are found by their silence alone");
    }
}

/// Tells the owner of each peer that can't be reached.
pub(super) async fn watch(socket: Arc<UdpSocket>, local: SocketAddr, queue: Queue) {
    loop {
        match socket.async_io(Interest::ERROR, || next_error(&socket)).await {
            Ok(Some(Unreachable { remote, quoted })) => {
                let hop = Hop { transport: Transport::Udp, local, remote, connection: None };
                match queue.try_send(Event::Input(Input::SipUndelivered { hop, quoted })) {
                    // It is found by its silence, later.
                    Ok(()) | Err(Refusal::Full) => {}
                    Err(Refusal::Gone) => return,
                }
            }
            Ok(None) => {}
            Err(error) => return debug!(%error, "the error queue of UDP can't be read"),
        }
    }
}

/// The next entry of the error queue; `None` for one that says something else.
fn next_error(socket: &UdpSocket) -> io::Result<Option<Unreachable>> {
    let mut quoted = vec![0; QUOTED_BYTES];
    let mut control = nix::cmsg_space!(sock_extended_err, sockaddr_storage);
    let (remote, hard, length) = {
        let mut parts = [IoSliceMut::new(&mut quoted)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let hard = message.cmsgs().is_ok_and(|mut all| all.any(|one| is_hard(&one)));
        (message.address.as_ref().and_then(address), hard, message.bytes)
    };
    quoted.truncate(length);
    Ok(remote.filter(|_| hard).map(|remote| Unreachable { remote, quoted }))
}

/// Host, network, port or protocol unreachable, and parameter problems. That a datagram is too long for a link, or went
/// round too long, says nothing of the peer.
fn is_hard(message: &ControlMessageOwned) -> bool {
    let (ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _)) = message
    else {
        return false;
    };
    match (error.ee_origin, error.ee_type, error.ee_code) {
        (ORIGIN_ICMP, 3, code) => code != 4,
        (ORIGIN_ICMP, 12, _) | (ORIGIN_ICMP6, 1 | 4, _) => true,
        _ => false,
    }
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::new(IpAddr::V6(v6.ip()), v6.port()))
}
