//! Ways to a contact: the one that its REGISTER came, and where it is dialled when that is no more.
//!
//! Nothing that a phone writes chooses another host than its own, lest it make the node knock at anybody's door: a Path, a
//! Contact or a route is followed where it names the address that the request came from, or a proxy that an administrator
//! has listed.

use crate::dialog::address_of;
use crate::message::{Headers, NameAddr, Request, Scheme, Uri};
use crate::own::local_for;
use crate::port::{Hop, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The addresses of proxies that an administrator has listed.
pub(crate) type Listed = Arc<[IpAddr]>;

/// Where a binding is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Now.
    pub hop: Hop,
    /// Without the connection in `hop`; `None`: not at all.
    pub anew: Option<(Transport, SocketAddr)>,
}

impl Way {
    /// Of a contact in a REGISTER that came on this hop; `path` is the first value of its Path.
    pub fn of_register(
        hop: &Hop,
        request: &Request,
        contact: &NameAddr,
        path: Option<&String>,
        listed: &Listed,
        listen: &[(Transport, SocketAddr)],
    ) -> Way {
        let flow = Way { hop: *hop, anew: None };
        let way = match path {
            Some(path) => Way::of_path(hop, path, listed, listen),
            None if is_flow(request, contact) => flow,
            None => {
                let direct = is_direct(hop, &request.headers, &contact.uri);
                let anew = direct.then(|| told(hop, &contact.uri)).flatten();
                Way { hop: way_back(hop, &request.headers, Some(&contact.uri)), anew }
            }
        };
        match way.hop.connection {
            Some(_) => way,
            // What needs no connection doesn't lose it.
            None => Way { anew: Some((way.hop.transport, way.hop.remote)), ..way },
        }
    }

    /// RFC 3327 §5.2: the Path is the Route, and so the way. The connection that the proxy made is used while it is open
    /// (RFC 5923).
    fn of_path(hop: &Hop, path: &str, listed: &Listed, listen: &[(Transport, SocketAddr)]) -> Way {
        let uri = NameAddr::read(path).ok().map(|path| path.uri);
        let told = uri.and_then(|uri| told(hop, &uri));
        let source = |at: &SocketAddr| same_host(at.ip(), hop.remote.ip());
        let anew = told.filter(|(_, at)| source(at) || is_listed(listed, at.ip()));
        let through = match anew {
            Some((_, at)) if hop.connection.is_some() && source(&at) => None,
            Some(anew) => without_connection(anew, listen),
            None => None,
        };
        Way { hop: through.unwrap_or(*hop), anew }
    }
}

/// The way to an address that needs no connection of before; `None` where we don't speak that transport.
pub(super) fn without_connection(
    (transport, remote): (Transport, SocketAddr),
    listen: &[(Transport, SocketAddr)],
) -> Option<Hop> {
    let of_another_family = || listen.iter().find(|(of, _)| *of == transport).map(|(_, address)| *address);
    let local = local_for(listen, transport, remote).or_else(of_another_family)?;
    Some(Hop { transport, local, remote, connection: None })
}

/// The way to a phone that sent a request: over UDP to where it came from if it asks for that (RFC 3581) or is behind a
/// NAT, else to the port of its Contact; else the connection.
pub(crate) fn way_back(hop: &Hop, headers: &Headers, contact: Option<&Uri>) -> Hop {
    let symmetric = headers.top_via().is_ok_and(|via| via.rport().is_some());
    match (hop.transport, contact) {
        (Transport::Udp, Some(contact))
            if !symmetric && contact.param("ob").is_none() && is_direct(hop, headers, contact) =>
        {
            Hop { remote: SocketAddr::new(hop.remote.ip(), contact.port().unwrap_or(5060)), ..*hop }
        }
        (Transport::Udp | Transport::Tcp | Transport::Tls, _) => *hop,
    }
}

/// Whether the contact names the address that the request came from, and no NAT changed that on the way.
fn is_direct(hop: &Hop, headers: &Headers, contact: &Uri) -> bool {
    let source = hop.remote.ip();
    let sent_by = headers.top_via().ok().and_then(|via| via.host.trim_matches(['[', ']']).parse().ok());
    contact.ip().is_some_and(|ip| same_host(ip, source))
        && sent_by.is_none_or(|ip: IpAddr| same_host(ip, source))
}

/// RFC 5626: the contact is the flow that it was registered on, and nothing else.
fn is_flow(request: &Request, contact: &NameAddr) -> bool {
    let outbound = request.headers.has_token("Supported", "outbound");
    let numbered = contact.params.get("reg-id").is_some() && contact.params.get("+sip.instance").is_some();
    contact.uri.param("ob").is_some() || (outbound && numbered)
}

/// Where a URI says that it listens. One that names no transport means the one that its owner came with. Who came over
/// TLS is not called in the clear.
pub(crate) fn told(hop: &Hop, uri: &Uri) -> Option<(Transport, SocketAddr)> {
    let (transport, at) = match (uri.param("transport"), uri.scheme()) {
        (None, Scheme::Sip) => {
            let port = if hop.transport == Transport::Tls { 5061 } else { 5060 };
            (hop.transport, SocketAddr::new(uri.ip()?, uri.port().unwrap_or(port)))
        }
        _ => address_of(uri)?,
    };
    (hop.transport != Transport::Tls || transport == Transport::Tls).then_some((transport, at))
}

/// The same address, also where one is written as IPv4 and the other mapped into IPv6.
pub(crate) fn same_host(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

/// Whether an administrator has listed this address.
pub(crate) fn is_listed(listed: &[IpAddr], ip: IpAddr) -> bool {
    listed.iter().any(|address| same_host(*address, ip))
}
