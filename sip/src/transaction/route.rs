//! Ways: what is written into a Via, and where a response goes.

use super::Settings;
use crate::message::{Params, Request, Via};
use crate::own;
use crate::port::{Hop, Transport};
use std::net::{IpAddr, SocketAddr};

/// Notes in the topmost Via where the request really came from (RFC 3261 §18.2.1, RFC 3581 §4).
pub(super) fn note_source(request: &mut Request, hop: &Hop) -> Option<Via> {
    let mut via = request.headers.top_via().ok()?;
    let wants_port = via.rport().is_some();
    let sent_from = via.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    via.params.remove("received");
    if wants_port {
        via.params.set("rport", Some(&hop.remote.port().to_string()));
    }
    if wants_port || sent_from != Some(hop.remote.ip()) {
        via.params.set("received", Some(&hop.remote.ip().to_string()));
    }
    request.headers.set_top_via(&via);
    Some(via)
}

/// Where the responses go (RFC 3261 §18.2.2): back on the connection; over UDP to the source address, at its port if
/// rport was asked for and at the port of sent-by otherwise. `maddr` is not followed: it would let anyone aim our
/// responses at a third party.
pub(super) fn response_hop(via: &Via, hop: &Hop) -> Hop {
    match hop.transport {
        Transport::Tcp | Transport::Tls => *hop,
        Transport::Udp if via.rport().is_some() => *hop,
        Transport::Udp => Hop { remote: SocketAddr::new(hop.remote.ip(), via.port_or_default()), ..*hop },
    }
}

/// Where they go when the connection is no more: a new one to the port that the peer listens on.
pub(super) fn response_hop_without_connection(via: &Via, hop: &Hop) -> Hop {
    Hop { remote: SocketAddr::new(hop.remote.ip(), via.port_or_default()), connection: None, ..*hop }
}

/// The Via of a request of ours.
pub(super) fn own_via(settings: &Settings, hop: &Hop, branch: &str) -> Via {
    let (host, port) = sent_by(settings, hop);
    let mut params = Params::default();
    params.set("branch", Some(branch));
    params.set("rport", None);
    let transport = match hop.transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
    };
    Via { transport: transport.to_owned(), host, port: Some(port), params }
}

/// Our address as others shall write it.
fn sent_by(settings: &Settings, hop: &Hop) -> (String, u16) {
    own::name(&settings.listen, &settings.advertised, hop)
}

/// Whether the topmost Via of a response is ours (RFC 3261 §18.1.2).
pub(super) fn is_own(settings: &Settings, hop: &Hop, via: &Via) -> bool {
    let (host, port) = sent_by(settings, hop);
    via.host.eq_ignore_ascii_case(&host) && via.port_or_default() == port
}

/// The first branch in the beginning of a message; `None` where it is not there or cut off.
pub(super) fn quoted_branch(quoted: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b";branch=";
    let at = quoted.windows(NAME.len()).position(|part| part.eq_ignore_ascii_case(NAME))? + NAME.len();
    let rest = &quoted[at..];
    let end = rest.iter().position(|byte| matches!(byte, b';' | b',' | b' ' | b'\t' | b'\r' | b'\n'))?;
    Some(&rest[..end])
}
