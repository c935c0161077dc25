//! Our own addresses: where we listen, and what others are told of it.

use crate::port::{Advertised, Hop, Transport};
use std::net::{IpAddr, SocketAddr};

/// What Via, Contact and From say of us to the peer of a hop: host (an IPv6 address in brackets) and port.
pub(crate) fn name(
    listen: &[(Transport, SocketAddr)],
    advertised: &[Advertised],
    hop: &Hop,
) -> (String, u16) {
    let Some(own) = listener(listen, hop) else { return (host_text(hop.local.ip()), hop.local.port()) };
    if let Some(told) = advertised.iter().find(|told| (told.transport, told.listen) == (hop.transport, own)) {
        let host = told.host.parse().map_or_else(|_| told.host.to_string(), host_text);
        return (host, told.port);
    }
    let ip = if own.ip().is_unspecified() { hop.local.ip() } else { own.ip() };
    (host_text(ip), own.port())
}

/// The listener of a hop: the one that the message came to or shall leave from; else one of the peer's family.
fn listener(listen: &[(Transport, SocketAddr)], hop: &Hop) -> Option<SocketAddr> {
    let of = || listen.iter().filter(|(transport, _)| *transport == hop.transport).map(|(_, own)| *own);
    let everywhere = |own: &SocketAddr| own.ip().is_unspecified() && own.is_ipv4() == hop.local.is_ipv4();
    of().find(|own| *own == hop.local)
        .or_else(|| of().find(everywhere))
        .or_else(|| of().find(|own| own.is_ipv4() == hop.remote.is_ipv4()))
        .or_else(|| of().next())
}

/// Bits that two addresses must share before one is taken for the other's neighbour.
const NEIGHBOURS: u32 = 8;

/// Where a request of ours leaves from: of the peer's family the listener that is the peer's neighbour, else the first.
pub(crate) fn local_for(
    listen: &[(Transport, SocketAddr)],
    transport: Transport,
    remote: SocketAddr,
) -> Option<SocketAddr> {
    let of = || {
        let own = listen.iter().filter(|(of, own)| *of == transport && own.is_ipv4() == remote.is_ipv4());
        own.map(|(_, own)| *own)
    };
    let near = |own: &SocketAddr| common_bits(own.ip(), remote.ip());
    // The first of the nearest.
    let nearest = of().reduce(|best, own| if near(&own) > near(&best) { own } else { best });
    nearest.filter(|own| near(own) >= NEIGHBOURS).or_else(|| of().next())
}

fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

/// An address as it stands in a URI.
pub(crate) fn host_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn hop(local: &str, remote: &str) -> Hop {
        Hop { transport: Transport::Udp, local: at(local), remote: at(remote), connection: None }
    }

    fn told(listen: &str, host: &str, port: u16) -> Advertised {
        Advertised { transport: Transport::Udp, listen: at(listen), host: host.into(), port }
    }

    #[test]
    fn who_says_nothing_advertises_where_it_listens() {
        let listen = [(Transport::Udp, at("10.0.0.1:5060")), (Transport::Udp, at("[2001:db8::1]:5060"))];
        let name = |local, remote| name(&listen, &[], &hop(local, remote));
        assert_eq!(name("10.0.0.1:5060", "10.0.0.9:5060"), ("10.0.0.1".into(), 5060));
        assert_eq!(name("[2001:db8::1]:5060", "[2001:db8::9]:5060"), ("[2001:db8::1]".into(), 5060));
        assert_eq!(
            name("192.0.2.1:9", "[2001:db8::9]:5060"),
            ("[2001:db8::1]".into(), 5060),
            "by the family"
        );
    }

    #[test]
    fn what_is_advertised_is_told_of_the_listener_that_it_belongs_to() {
        let listen = [(Transport::Udp, at("0.0.0.0:5060")), (Transport::Udp, at("[::]:5060"))];
        let all = [told("0.0.0.0:5060", "203.0.113.5", 15_060), told("[::]:5060", "2001:db8::5", 5060)];
        let name = |local, remote| name(&listen, &all, &hop(local, remote));
        // A datagram came to one of the machine's addresses; a request leaves from whichever the kernel takes.
        assert_eq!(name("10.0.0.1:5060", "10.0.0.9:5060"), ("203.0.113.5".into(), 15_060));
        assert_eq!(name("0.0.0.0:5060", "10.0.0.9:5060"), ("203.0.113.5".into(), 15_060));
        assert_eq!(name("[fd00::1]:5060", "[fd00::9]:5060"), ("[2001:db8::5]".into(), 5060));
        let two = [(Transport::Udp, at("10.0.0.1:5060")), (Transport::Udp, at("192.168.0.1:5060"))];
        let one_to_one = [told("192.168.0.1:5060", "sip.example.com", 5060)];
        assert_eq!(super::name(&two, &one_to_one, &hop("10.0.0.1:5060", "10.0.0.9:1")).0, "10.0.0.1");
        assert_eq!(
            super::name(&two, &one_to_one, &hop("192.168.0.1:5060", "192.0.2.9:1")).0,
            "sip.example.com"
        );
    }

    #[test]
    fn a_request_leaves_from_the_peers_neighbour_or_the_first() {
        let listen = [
            (Transport::Udp, at("203.0.113.5:5060")),
            (Transport::Tcp, at("10.0.0.1:5060")),
            (Transport::Udp, at("10.0.0.1:5060")),
            (Transport::Udp, at("[2001:db8::1]:5060")),
        ];
        let local = |remote| local_for(&listen, Transport::Udp, at(remote)).map(|own| own.to_string());
        assert_eq!(local("10.9.9.9:5060").as_deref(), Some("10.0.0.1:5060"));
        assert_eq!(
            local("8.8.8.8:5060").as_deref(),
            Some("203.0.113.5:5060"),
            "six bits are no neighbourhood"
        );
        assert_eq!(local("[2620::1]:5060").as_deref(), Some("[2001:db8::1]:5060"));
        assert_eq!(local_for(&listen, Transport::Tls, at("10.9.9.9:5060")), None);
    }
}
