//! Dialogs (RFC 3261 §12): who talks to whom under which ids, in which order, and along which way.

use crate::message::{Headers, NameAddr, Scheme, Uri};
use crate::port::{Hop, Transport};
use crate::registrar::{is_listed, same_host, told};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What finds a dialog of ours: Call-ID and our own tag. Dialogs that a fork made of one INVITE share it and differ in
/// the peer's tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DialogId {
    /// `Call-ID`
    pub call_id: Arc<str>,
    /// The tag that we chose.
    pub local_tag: Arc<str>,
}

/// How requests find the peer when no proxy asked to stay in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The way its own messages came: a phone, perhaps behind NAT, whose Contact may lead nowhere.
    AsItCame,
    /// Its Contact, as RFC 3261 says, where that is its own address or a listed proxy's: a trunk.
    Contact,
}

/// One end of a dialog: a name-addr without its tag, as it stands in From and To.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `"Name" <sip:…>`
    pub address: Arc<str>,
    /// `None` while the peer has not said one.
    pub tag: Option<Arc<str>>,
}

impl End {
    /// What a From or To says.
    #[must_use]
    pub fn of(read: &NameAddr) -> End {
        let tag = read.tag().map(Into::into);
        let mut plain = NameAddr::of(read.uri.clone());
        plain.name.clone_from(&read.name);
        End { address: plain.to_string().into(), tag }
    }

    /// The value of a From or To header.
    #[must_use]
    pub fn header(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{};tag={tag}", self.address),
            None => self.address.to_string(),
        }
    }
}

/// The state of one dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Names it.
    pub id: DialogId,
    /// Our end; its tag is always there.
    pub local: End,
    /// The peer's.
    pub remote: End,
    /// Whether we sent the request that made it, and so chose its Call-ID.
    pub own_call_id: bool,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    /// The peer's Contact, word for word.
    target: Uri,
    /// Route values, word for word, ours to the peer.
    routes: Vec<String>,
    first_route: Option<Uri>,
    /// The way that the peer's messages come and go.
    hop: Hop,
    /// Where its last message came from: over UDP maybe another port than the one that it hears at.
    source: Hop,
    reach: Reach,
    listen: Arc<[(Transport, SocketAddr)]>,
}

/// What a message says that makes or changes a dialog.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// URI of its Contact.
    pub contact: Option<Uri>,
    /// Record-Route values in the order of the message.
    pub record_routes: Vec<String>,
}

impl Peer {
    /// Reads them; what can't be read counts as absent.
    #[must_use]
    pub fn of(headers: &Headers) -> Peer {
        let record_routes = headers.elements("Record-Route").filter_map(Result::ok).map(Into::into).collect();
        Peer { contact: contact_of(headers), record_routes }
    }
}

/// The URI of the first Contact.
#[must_use]
pub fn contact_of(headers: &Headers) -> Option<Uri> {
    let first = headers.elements("Contact").next()?.ok()?;
    NameAddr::read(first).ok().filter(|c| !c.is_star()).map(|c| c.uri)
}

/// A request in the dialog came with a CSeq below one before (RFC 3261 §12.2.2): 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder;

/// The request line and the Route headers of a request in a dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Request-URI.
    pub uri: Uri,
    /// Route values.
    pub routes: Vec<String>,
}

impl Dialog {
    /// The caller's side: a response that makes a dialog of our INVITE (RFC 3261 §12.1.2). `remote` is its To.
    #[must_use]
    pub fn of_caller(seed: &Seed, remote: End, peer: Peer, hop: Hop) -> Dialog {
        let mut routes = peer.record_routes;
        routes.reverse();
        Dialog {
            id: seed.id.clone(),
            local: seed.local.clone(),
            remote,
            own_call_id: true,
            local_cseq: seed.cseq,
            remote_cseq: None,
            target: peer.contact.unwrap_or_else(|| seed.target.clone()),
            first_route: first_route(&routes),
            routes,
            hop,
            source: hop,
            reach: seed.reach,
            listen: seed.listen.clone(),
        }
    }

    /// The callee's side: an INVITE that came (RFC 3261 §12.1.1). `remote` is its From, `local` its To with our tag.
    #[must_use]
    pub fn of_callee(incoming: Incoming, peer: Peer) -> Dialog {
        Dialog {
            id: incoming.id,
            local: incoming.local,
            remote: incoming.remote,
            own_call_id: false,
            local_cseq: incoming.first_cseq,
            remote_cseq: Some(incoming.cseq),
            target: peer.contact.unwrap_or(incoming.from_uri),
            first_route: first_route(&peer.record_routes),
            routes: peer.record_routes,
            hop: incoming.hop,
            source: incoming.hop,
            reach: incoming.reach,
            listen: incoming.listen,
        }
    }

    /// The number of the next request of ours.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq = self.local_cseq.wrapping_add(1) & 0x7fff_ffff;
        self.local_cseq
    }

    /// Notes the number of a request of the peer.
    ///
    /// # Errors
    /// It is below the one before.
    pub fn accept_cseq(&mut self, cseq: u32) -> Result<(), OutOfOrder> {
        if self.remote_cseq.is_some_and(|last| cseq <= last) {
            return Err(OutOfOrder);
        }
        self.remote_cseq = Some(cseq);
        Ok(())
    }

    /// A target refresh: INVITE or UPDATE, request or 2xx, with a Contact. The route set never changes.
    pub fn refresh_target(&mut self, contact: Option<Uri>) {
        if let Some(contact) = contact {
            self.target = contact;
        }
    }

    /// The 2xx to our INVITE fixes the route set anew (RFC 3261 §13.2.2.4).
    pub fn refresh_routes(&mut self, headers: &Headers) {
        self.routes = Peer::of(headers).record_routes;
        self.routes.reverse();
        self.first_route = first_route(&self.routes);
    }

    /// The peer was heard on this hop; it may have come back over a new connection.
    pub fn heard_on(&mut self, hop: Hop) {
        if self.routes.is_empty() {
            self.hop = hop;
        }
    }

    /// A message of the peer came from there.
    pub fn came_from(&mut self, source: Hop) {
        self.source = source;
    }

    /// Where its last message came from.
    #[must_use]
    pub fn source(&self) -> &Hop {
        &self.source
    }

    /// The peer answered on this hop a request that went out on `asked`. A datagram may come from another port than the
    /// peer hears at; a connection leads back.
    pub fn answered_on(&mut self, hop: Hop, asked: Hop) {
        self.source = hop;
        self.heard_on(if hop.transport == Transport::Udp && self.reach == Reach::AsItCame {
            asked
        } else {
            hop
        });
    }

    /// The connection is gone: what follows needs a new one, to where the peer says it lives, if that is its own address or
    /// a listed one.
    pub fn connection_closed(&mut self, listed: &[IpAddr]) {
        self.hop.connection = None;
        let told = told(&self.hop, self.first_route.as_ref().unwrap_or(&self.target));
        let told = told.filter(|(transport, _)| *transport == self.hop.transport);
        if let Some((_, remote)) = told.filter(|(_, at)| self.is_its_own(at) || is_listed(listed, at.ip())) {
            self.hop.remote = remote;
        }
    }

    fn is_its_own(&self, at: &SocketAddr) -> bool {
        same_host(at.ip(), self.hop.remote.ip())
    }

    /// See [`Reach`].
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The way that the peer's messages come and go.
    #[must_use]
    pub fn peer_hop(&self) -> &Hop {
        &self.hop
    }

    /// Request-URI and Route of a request in this dialog (RFC 3261 §12.2.1.1): loose routing, or the old strict kind
    /// where the first proxy has no `lr`.
    #[must_use]
    pub fn path(&self) -> Path {
        match &self.first_route {
            Some(first) if first.param("lr").is_none() => {
                let mut routes: Vec<String> = self.routes[1..].to_vec();
                routes.push(format!("<{}>", self.target));
                Path { uri: first.clone(), routes }
            }
            Some(_) => Path { uri: self.target.clone(), routes: self.routes.clone() },
            None => Path { uri: self.target.clone(), routes: Vec::new() },
        }
    }

    /// Where a request in this dialog leaves to: no route and no Contact leads to another host than the peer's own, but to
    /// a listed proxy.
    #[must_use]
    pub fn next_hop(&self, listed: &[IpAddr]) -> Hop {
        let target = match (&self.first_route, self.reach) {
            (Some(route), Reach::AsItCame | Reach::Contact) => Some(route),
            (None, Reach::AsItCame) => None,
            (None, Reach::Contact) => Some(&self.target),
        };
        let told = target.and_then(address_of).filter(|(_, at)| match self.reach {
            // A phone's own ports are no business of ours either, but for the one that it calls from.
            Reach::AsItCame => is_listed(listed, at.ip()),
            Reach::Contact => self.is_its_own(at) || is_listed(listed, at.ip()),
        });
        match told {
            Some((transport, remote)) if (transport, remote) != (self.hop.transport, self.hop.remote) => {
                self.hop_to(transport, remote).unwrap_or(self.hop)
            }
            Some(_) | None => self.hop,
        }
    }

    /// Whether no proxy has asked to stay between.
    #[must_use]
    pub fn has_no_route(&self) -> bool {
        self.routes.is_empty()
    }

    /// The peer's Contact.
    #[must_use]
    pub fn target(&self) -> &Uri {
        &self.target
    }

    fn hop_to(&self, transport: Transport, remote: SocketAddr) -> Option<Hop> {
        // A peer on a connection is answered on it: its own address often has no listener behind it.
        let same_peer = self.hop.transport == transport && self.hop.remote.ip() == remote.ip();
        if same_peer && self.hop.connection.is_some() {
            return Some(self.hop);
        }
        // From the address that the peer knows, where that fits; else as a new call would.
        let same = |(of, own): &&(Transport, SocketAddr)| {
            *of == transport && own.ip() == self.hop.local.ip() && own.is_ipv4() == remote.is_ipv4()
        };
        let own = self.listen.iter().find(same).map(|(_, own)| *own);
        let local = own.or_else(|| crate::own::local_for(&self.listen, transport, remote))?;
        Some(Hop { transport, local, remote, connection: None })
    }
}

fn first_route(routes: &[String]) -> Option<Uri> {
    routes.first().and_then(|r| NameAddr::read(r).ok()).map(|r| r.uri)
}

/// Where a URI says it lives, if its host is an address; a name can't be resolved in here.
#[must_use]
pub fn address_of(uri: &Uri) -> Option<(Transport, SocketAddr)> {
    let secure = match uri.scheme() {
        Scheme::Sip => false,
        Scheme::Sips => true,
        Scheme::Tel | Scheme::Other => return None,
    };
    let transport = match uri.param("transport") {
        Some(t) if t.eq_ignore_ascii_case("tls") => Transport::Tls,
        Some(t) if t.eq_ignore_ascii_case("tcp") && secure => Transport::Tls,
        Some(t) if t.eq_ignore_ascii_case("tcp") => Transport::Tcp,
        Some(t) if t.eq_ignore_ascii_case("udp") => Transport::Udp,
        Some(_) => return None,
        None if secure => Transport::Tls,
        None => Transport::Udp,
    };
    let default_port = if transport == Transport::Tls { 5061 } else { 5060 };
    Some((transport, SocketAddr::new(uri.ip()?, uri.port().unwrap_or(default_port))))
}

/// What an INVITE of ours fixes for every dialog that it makes.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Names them.
    pub id: DialogId,
    /// Our end.
    pub local: End,
    /// CSeq of the INVITE.
    pub cseq: u32,
    /// Its Request-URI.
    pub target: Uri,
    /// URI of our Contact.
    pub contact: Arc<str>,
    /// See [`Reach`].
    pub reach: Reach,
    /// The INVITE carried an offer; else the 2xx does.
    pub offered: bool,
    /// Our listening addresses.
    pub listen: Arc<[(Transport, SocketAddr)]>,
}

/// What an INVITE that came fixes for its dialog.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Names it.
    pub id: DialogId,
    /// Its To, with our tag.
    pub local: End,
    /// Its From.
    pub remote: End,
    /// URI of its From, where requests go if it has no Contact.
    pub from_uri: Uri,
    /// Its CSeq.
    pub cseq: u32,
    /// Our own requests count from here.
    pub first_cseq: u32,
    /// Where it came from.
    pub hop: Hop,
    /// See [`Reach`].
    pub reach: Reach,
    /// Our listening addresses.
    pub listen: Arc<[(Transport, SocketAddr)]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::ConnectionId;

    fn hop(connection: Option<u64>) -> Hop {
        let transport = if connection.is_some() { Transport::Tcp } else { Transport::Udp };
        Hop {
            transport,
            local: "198.51.100.1:5060".parse().unwrap(),
            remote: "203.0.113.7:40000".parse().unwrap(),
            connection: connection.map(ConnectionId),
        }
    }

    fn listen() -> Arc<[(Transport, SocketAddr)]> {
        let at = "198.51.100.1:5060".parse().unwrap();
        [(Transport::Udp, at), (Transport::Tcp, at)].into()
    }

    fn uri(text: &str) -> Uri {
        Uri::read(text).unwrap()
    }

    fn end(text: &str) -> End {
        End::of(&NameAddr::read(text).unwrap())
    }

    fn dialog(reach: Reach, contact: &str, routes: &[&str], hop: Hop) -> Dialog {
        let seed = Seed {
            id: DialogId { call_id: "c".into(), local_tag: "l".into() },
            local: End { address: "<sip:1@h>".into(), tag: Some("l".into()) },
            cseq: 1,
            target: uri("sip:2@first"),
            contact: "sip:1@h".into(),
            reach,
            offered: true,
            listen: listen(),
        };
        let record_routes = routes.iter().map(ToString::to_string).collect();
        let peer = Peer { contact: Some(uri(contact)), record_routes };
        Dialog::of_caller(&seed, end("<sip:2@h>;tag=r"), peer, hop)
    }

    #[test]
    fn a_phone_is_reached_the_way_it_came() {
        for connection in [None, Some(3)] {
            let phone = dialog(Reach::AsItCame, "sip:2@10.0.0.1:5060", &[], hop(connection));
            assert_eq!(phone.next_hop(&[]), hop(connection));
            assert_eq!(phone.path(), Path { uri: uri("sip:2@10.0.0.1:5060"), routes: vec![] });
        }
    }

    #[test]
    fn a_trunk_is_reached_at_its_contact() {
        let trunk = dialog(Reach::Contact, "sip:2@203.0.113.7:5070", &[], hop(None));
        let expected = Hop { remote: "203.0.113.7:5070".parse().unwrap(), ..hop(None) };
        assert_eq!(trunk.next_hop(&[]), expected);
        let named = dialog(Reach::Contact, "sip:2@example.org", &[], hop(None));
        assert_eq!(named.next_hop(&[]), hop(None));
        let connected = dialog(Reach::Contact, "sip:2@203.0.113.7:5060;transport=tcp", &[], hop(Some(4)));
        assert_eq!(connected.next_hop(&[]), hop(Some(4)), "its open connection is used");
    }

    #[test]
    fn a_proxy_that_stays_is_the_first_hop() {
        let routes = ["<sip:203.0.113.3;lr>", "<sip:203.0.113.2;transport=tcp;lr>"];
        let behind = dialog(Reach::AsItCame, "sip:2@10.0.0.1", &routes, hop(None));
        let expected = Path { uri: uri("sip:2@10.0.0.1"), routes: vec![routes[1].into(), routes[0].into()] };
        assert_eq!(behind.path(), expected);
        let first = behind.next_hop(&["203.0.113.2".parse().unwrap()]);
        assert_eq!((first.transport, first.remote), (Transport::Tcp, "203.0.113.2:5060".parse().unwrap()));
    }

    /// Contact and Record-Route of a phone, of a trunk, before and after their connection ended.
    #[test]
    fn nothing_that_a_peer_writes_chooses_another_host() {
        let elsewhere = ["sip:2@198.51.100.1:22;transport=tcp", "sip:2@127.0.0.1:8443", "sips:2@[::1]"];
        for contact in elsewhere {
            for connection in [None, Some(3)] {
                for reach in [Reach::AsItCame, Reach::Contact] {
                    let route = format!("<{contact};lr>");
                    for routes in [&[][..], &[route.as_str()]] {
                        let mut peer = dialog(reach, contact, routes, hop(connection));
                        assert_eq!(peer.next_hop(&[]), hop(connection), "{contact} {reach:?} {routes:?}");
                        peer.connection_closed(&[]);
                        assert_eq!(peer.next_hop(&[]), Hop { connection: None, ..hop(connection) });
                    }
                }
            }
        }
        let own = dialog(
            Reach::AsItCame,
            "sip:2@203.0.113.7",
            &["<sip:203.0.113.7:22;transport=tcp;lr>"],
            hop(None),
        );
        assert_eq!(own.next_hop(&[]), hop(None), "nor another port of a phone");
    }

    #[test]
    fn a_listed_proxy_may_be_named_by_anybody() {
        let listed: [IpAddr; 2] = ["203.0.113.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        let trunk = dialog(Reach::Contact, "sip:2@203.0.113.9:5070", &[], hop(None));
        assert_eq!(trunk.next_hop(&listed).remote, "203.0.113.9:5070".parse().unwrap());
        let mut phone =
            dialog(Reach::AsItCame, "sip:2@10.0.0.1", &["<sip:203.0.113.9;transport=tcp;lr>"], hop(Some(3)));
        assert_eq!(phone.next_hop(&listed).remote, "203.0.113.9:5060".parse().unwrap());
        phone.connection_closed(&listed);
        assert_eq!(
            (phone.next_hop(&listed).remote, phone.next_hop(&listed).connection),
            ("203.0.113.9:5060".parse().unwrap(), None)
        );
    }

    #[test]
    fn a_strict_router_gets_the_request_uri() {
        let strict =
            dialog(Reach::AsItCame, "sip:2@10.0.0.1", &["<sip:b@h;lr>", "<sip:203.0.113.2>"], hop(None));
        let expected = Path {
            uri: uri("sip:203.0.113.2"),
            routes: vec!["<sip:b@h;lr>".into(), "<sip:2@10.0.0.1>".into()],
        };
        assert_eq!(strict.path(), expected);
    }

    #[test]
    fn numbers_only_grow() {
        let mut d = dialog(Reach::AsItCame, "sip:2@h", &[], hop(None));
        assert_eq!((d.next_cseq(), d.next_cseq()), (2, 3));
        assert_eq!(d.accept_cseq(7), Ok(()));
        assert_eq!(d.accept_cseq(7), Err(OutOfOrder));
        assert_eq!(d.accept_cseq(8), Ok(()));
    }

    #[test]
    fn a_lost_connection_falls_back_to_the_contact() {
        let mut d = dialog(Reach::AsItCame, "sip:2@203.0.113.7:5066;transport=tcp", &[], hop(Some(3)));
        d.connection_closed(&[]);
        assert_eq!(d.next_hop(&[]).connection, None);
        assert_eq!(d.next_hop(&[]).remote, "203.0.113.7:5066".parse().unwrap());
        let route = "<sip:203.0.113.7:5080;transport=tcp;lr>";
        let mut behind = dialog(Reach::AsItCame, "sip:2@10.0.0.1", &[route], hop(Some(3)));
        behind.connection_closed(&[]);
        assert_eq!(
            behind.next_hop(&[]).remote,
            "203.0.113.7:5080".parse().unwrap(),
            "its proxy is dialled anew"
        );
    }

    #[test]
    fn ends_read_what_from_and_to_say() {
        assert_eq!(end("\"A\" <sip:1@h;user=phone>;tag=t;x").header(), "\"A\" <sip:1@h;user=phone>;tag=t");
        assert_eq!(end("Bob <sip:1@h>").header(), "\"Bob\" <sip:1@h>");
        assert_eq!(end("sip:1@h;tag=t").header(), "<sip:1@h>;tag=t");
    }

    #[test]
    fn uris_say_where_they_live() {
        let at = |text| address_of(&uri(text));
        assert_eq!(at("sip:1@192.0.2.1"), Some((Transport::Udp, "192.0.2.1:5060".parse().unwrap())));
        assert_eq!(
            at("sip:192.0.2.1:7;transport=TCP"),
            Some((Transport::Tcp, "192.0.2.1:7".parse().unwrap()))
        );
        assert_eq!(at("sips:1@[2001:db8::1]"), Some((Transport::Tls, "[2001:db8::1]:5061".parse().unwrap())));
        assert_eq!(at("sip:1@example.org"), None);
        assert_eq!(at("tel:1"), None);
    }
}
