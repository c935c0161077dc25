//! Datagrams of a socket that is bound to every address of its machine: to which of them each came, and from which one
//! leaves. Without that an answer may leave from another address than it was asked at, and is dropped on its way. And of any
//! socket how many the system threw away.

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// From now on the socket tells how many datagrams were thrown away. Where the system can't, nothing is told.
pub fn count_lost(socket: &impl AsFd) {
    if let Err(error) = setsockopt(socket, sockopt::RxqOvfl, &1) {
        tracing::debug!(%error, "what is lost over UDP is not counted");
    }
}

/// From now on the socket tells where its datagrams came to.
///
/// # Errors
/// What the system says.
pub fn enable(socket: &impl AsFd, ipv4: bool) -> io::Result<()> {
    match ipv4 {
        true => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        false => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes.
    pub read: usize,
    /// Where it came from.
    pub remote: SocketAddr,
    /// To which of our addresses, where that was asked.
    pub own: Option<IpAddr>,
    /// How many were thrown away before it since the socket was made, if any.
    pub lost: Option<u32>,
}

/// The next datagram.
///
/// # Errors
/// What the system says; `WouldBlock` when there is none.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = nix::cmsg_space!(libc::in6_pktinfo, u32);
    let mut pieces = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(&mut space), MsgFlags::empty())?;
    let (mut own, mut lost) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                own = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                own = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
            }
            ControlMessageOwned::RxqOvfl(count) => lost = Some(count),
            _ => {}
        }
    }
    let remote = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received { read: message.bytes, remote, own, lost })
}

/// Sends from this address of ours; from any without one.
///
/// # Errors
/// What the system says.
pub fn send(socket: &impl AsRawFd, bytes: &[u8], own: Option<IpAddr>, to: SocketAddr) -> io::Result<usize> {
    let pieces = [IoSlice::new(bytes)];
    let fd = socket.as_raw_fd();
    let to = SockaddrStorage::from(to);
    let flags = MsgFlags::empty();
    let sent = match own.filter(|own| !own.is_unspecified()) {
        Some(IpAddr::V4(own)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(own.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            sendmsg(fd, &pieces, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))?
        }
        Some(IpAddr::V6(own)) => {
            let info =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: own.octets() }, ipi6_ifindex: 0 };
            sendmsg(fd, &pieces, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))?
        }
        None => sendmsg(fd, &pieces, &[], flags, Some(&to))?,
    };
    Ok(sent)
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|own| SocketAddr::V4(SocketAddrV4::from(*own)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|own| SocketAddr::V6(SocketAddrV6::from(*own))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        for (any, addresses) in [("0.0.0.0:0", ["127.0.0.1", "127.0.0.2"].as_slice()), ("[::]:0", &["::1"])] {
            // A machine may be without IPv6; none is without IPv4.
            let Ok(node) = UdpSocket::bind(any) else {
                assert!(any.starts_with('['), "{any}");
                continue;
            };
            enable(&node, any.starts_with('0')).expect("the system can do that");
            let port = node.local_addr().expect("bound").port();
            for own in addresses {
                let own: IpAddr = own.parse().expect("an address");
                let phone = UdpSocket::bind((own, 0)).expect("bound");
                phone.send_to(b"OPTIONS", (own, port)).expect("sent");
                let mut buffer = [0; 100];
                let received = receive(&node, &mut buffer).expect("received");
                let (length, from) = (received.read, received.remote);
                assert_eq!(
                    (&buffer[..length], from, received.own),
                    (&b"OPTIONS"[..], phone.local_addr().expect("bound"), Some(own))
                );
                send(&node, b"200", received.own, from).expect("sent");
                let (length, asked) = phone.recv_from(&mut buffer).expect("received");
                assert_eq!((&buffer[..length], asked), (&b"200"[..], SocketAddr::new(own, port)));
            }
            send(&node, b"INVITE", Some("0.0.0.0".parse().expect("an address")), node_at(any, port))
                .expect("the kernel chooses");
        }
    }

    fn node_at(any: &str, port: u16) -> SocketAddr {
        let ip: IpAddr =
            if any.starts_with('0') { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        SocketAddr::new(ip, port)
    }
}
