//! What the SIP stack may ask: accounts by digest user, trunks by address, and whether new calls are taken now.

use super::sip_legs::{Certified, PeerProof, TrunkPeer};
use crate::node::settings::Settings;
use device_model::{CallControl, Dn, MessageLamp, TrunkName};
use security::shares::{Door, Shares};
use sip::port::{ConnectionId, KnownTrunk, MediaEncryption, Package, Proof, Waiting, Watched, WatchedState};
use sip::{Account, Hop, Login, Transport};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far behind its inputs a node may be and still take new calls.
///
/// A caller's INVITE is repeated after T1 = 500 ms (RFC 3261 §17.1.1.2). Refusing well before that keeps the repeats
/// from adding to the load that delays them.
pub const ADMISSION_LAG: Duration = Duration::from_millis(100);

/// Seconds after which a refused caller may try again.
const RETRY_AFTER_SECONDS: u32 = 2;

/// The accounts of one configuration, by digest user and by id.
#[derive(Default)]
pub struct Accounts {
    users: HashMap<Arc<str>, Account>,
    numbers: HashMap<Arc<str>, Arc<[Arc<str>]>>,
}

impl FromIterator<(Arc<str>, Account)> for Accounts {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Account)>>(accounts: T) -> Self {
        let users: HashMap<_, _> = accounts.into_iter().collect();
        let numbers = users.values().map(|a: &Account| (a.id.clone(), a.numbers.clone())).collect();
        Self { users, numbers }
    }
}

impl Accounts {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// All accounts' ids.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.numbers.keys()
    }

    /// Whether there is an account of this id.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.numbers.contains_key(id)
    }
}

/// Accounts and trunks of one configuration, and the node's present pressure.
#[derive(Default)]
pub struct Directory {
    accounts: Arc<Accounts>,
    trunks: Vec<(Arc<str>, TrunkPeer)>,
    /// Devices and trunks whose media are encrypted.
    encrypting: Arc<HashMap<Arc<str>, MediaEncryption>>,
    /// Whose certificates the peers of TLS connections have shown; bounded by those connections.
    certified: HashMap<ConnectionId, Certified>,
    pressed: bool,
    draining: bool,
}

impl Directory {
    /// Replaces accounts and trunks; pressure and draining stay.
    pub fn configure(&mut self, settings: &Settings) {
        self.replace(settings.accounts.clone(), settings.trunks.iter().cloned());
        self.encrypting = Arc::clone(&settings.encrypting);
    }

    fn replace(&mut self, accounts: Arc<Accounts>, trunks: impl IntoIterator<Item = (TrunkName, TrunkPeer)>) {
        self.accounts = accounts;
        self.trunks = trunks.into_iter().map(|(name, peer)| (name.as_str().into(), peer)).collect();
    }

    /// The peer of a connection has shown this certificate.
    pub fn certify(&mut self, connection: ConnectionId, certified: Certified) {
        self.certified.insert(connection, certified);
    }

    /// The connections whose certificates are taken back.
    pub fn revoked(&self, settings: &Settings) -> Vec<(ConnectionId, Certified)> {
        let certified = self.certified.iter().filter(|(_, certified)| settings.has_revoked(certified));
        let mut all: Vec<_> = certified.map(|(id, certified)| (*id, certified.clone())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// A connection is over.
    pub fn forget(&mut self, connection: ConnectionId) {
        self.certified.remove(&connection);
    }

    /// The device that a digest user belongs to.
    #[must_use]
    pub fn device_of(&self, user: &str) -> Option<&Arc<str>> {
        self.accounts.users.get(user).map(|account| &account.id)
    }

    /// Where datagrams of trunks come from.
    pub fn datagram_trunks(
        &self,
        listen: &[(Transport, SocketAddr)],
    ) -> impl Iterator<Item = (Arc<str>, Hop)> {
        let local = listen.iter().find(|(transport, _)| *transport == Transport::Udp).map(|(_, at)| *at);
        let trunks = self.trunks.iter().filter(|(_, peer)| peer.transport == Transport::Udp);
        trunks.filter_map(move |(name, peer)| {
            let mut remote = peer.remote;
            if let PeerProof::Port(port) = &peer.proof {
                remote.set_port(*port);
            }
            let transport = Transport::Udp;
            Some((name.clone(), Hop { transport, local: local?, remote, connection: None }))
        })
    }

    /// The shell's word on how far behind it is. True when this changed whether new calls are taken.
    pub fn set_pressure(&mut self, age: Duration) -> bool {
        // Half the mark ends what the mark began, so that a node at the mark does not flap.
        let pressed = if self.pressed { age > ADMISSION_LAG / 2 } else { age > ADMISSION_LAG };
        std::mem::replace(&mut self.pressed, pressed) != pressed
    }

    /// Whether new calls are refused for pressure.
    #[must_use]
    pub fn pressed(&self) -> bool {
        self.pressed
    }

    /// From now on no new call is taken.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether the node takes no new calls because it is to be emptied.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Whether `number` is a line of the account.
    #[must_use]
    pub fn is_line(&self, account: &str, number: &str) -> bool {
        self.accounts.numbers.get(account).is_some_and(|numbers| numbers.iter().any(|n| &**n == number))
    }

    /// The number that an account means by this user: one of its own, or by its digest user its first.
    fn number_of(&self, account: &str, user: &str) -> Option<Arc<str>> {
        let numbers = self.accounts.numbers.get(account)?;
        let named = numbers.iter().find(|number| ***number == *user);
        let is_itself = || self.accounts.users.get(user).is_some_and(|own| *own.id == *account);
        named.or_else(|| numbers.first().filter(|_| is_itself())).cloned()
    }

    /// Whether an account may register an address of record with this user: a number of its own, or its digest user.
    #[must_use]
    pub fn may_register(&self, account: &str, user: &str) -> bool {
        self.is_line(account, user) || self.accounts.users.get(user).is_some_and(|own| *own.id == *account)
    }

    /// Where a trunk's calls go.
    #[must_use]
    pub fn peer(&self, trunk: &TrunkName) -> Option<TrunkPeer> {
        self.trunks.iter().find(|(name, _)| **name == *trunk.as_str()).map(|(_, peer)| peer.clone())
    }

    /// Whether the media of a device or trunk are encrypted.
    #[must_use]
    pub fn media_encryption(&self, name: &str) -> MediaEncryption {
        self.encrypting.get(name).copied().unwrap_or_default()
    }

    /// Whether there is an account of this id.
    #[must_use]
    pub fn has(&self, account: &str) -> bool {
        self.accounts.has(account)
    }

    /// Whether there is a trunk of this name.
    #[must_use]
    pub fn is_trunk(&self, name: &str) -> bool {
        self.trunks.iter().any(|(trunk, _)| **trunk == *name)
    }
}

/// The directory with the shares of who guesses passwords, and with the devices: what the stack asks.
pub(super) struct Gate<'a> {
    pub(super) directory: &'a Directory,
    pub(super) shares: &'a Shares,
    pub(super) model: &'a CallControl,
}

impl sip::Directory for Gate<'_> {
    fn account(&self, user: &str) -> Option<Account> {
        self.directory.accounts.users.get(user).cloned()
    }

    fn trunk(&self, hop: &Hop) -> Option<KnownTrunk> {
        self.directory.trunk(hop)
    }

    fn trunk_of_address(&self, hop: &Hop) -> Option<Arc<str>> {
        self.directory.trunk_of_address(hop)
    }

    fn login(&self, hop: &Hop) -> Option<Login> {
        self.directory.login(hop)
    }

    fn is_trunk(&self, account: &str) -> bool {
        self.directory.is_trunk(account)
    }

    fn has_digest(&self, trunk: &str) -> bool {
        self.directory.has(trunk)
    }

    fn may_prove(&self, now: Instant, user: &str, hop: &Hop) -> bool {
        self.shares.may_prove(now, Door::Sip, user, hop.remote.ip()).is_ok()
    }

    fn media_encryption(&self, peer: &str) -> MediaEncryption {
        self.directory.media_encryption(peer)
    }

    fn admit(&self) -> Result<(), u32> {
        self.directory.admit()
    }

    fn watched(&self, account: &str, package: Package, user: &str) -> Option<Watched> {
        match package {
            Package::MessageSummary => {
                let number = self.directory.number_of(account, user)?;
                let waiting = waiting(self.model.message_lamp(&Dn::from(&*number)));
                Some(Watched { number, state: WatchedState::Messages(waiting) })
            }
        }
    }
}

impl Directory {
    pub(super) fn trunk(&self, hop: &Hop) -> Option<KnownTrunk> {
        let certified = hop.connection.and_then(|connection| self.certified.get(&connection));
        let (name, peer) = self.trunks.iter().find(|(_, peer)| peer.is_at(hop, certified))?;
        let by = match peer.proof {
            PeerProof::Port(_) => Proof::AddressAndPort,
            PeerProof::Address => Proof::Address,
            PeerProof::Certificate { .. } => Proof::Certificate,
        };
        Some(KnownTrunk { name: name.clone(), by })
    }

    fn trunk_of_address(&self, hop: &Hop) -> Option<Arc<str>> {
        let there = |peer: &TrunkPeer| {
            peer.transport == hop.transport && same_host(peer.remote.ip(), hop.remote.ip())
        };
        self.trunks.iter().find(|(_, peer)| there(peer)).map(|(name, _)| name.clone())
    }

    /// Credentials go only where the trunk was configured to be, whoever asks for them.
    fn login(&self, hop: &Hop) -> Option<Login> {
        let there = |peer: &&TrunkPeer| {
            peer.transport == hop.transport
                && same_host(peer.remote.ip(), hop.remote.ip())
                && peer.remote.port() == hop.remote.port()
        };
        self.trunks.iter().map(|(_, peer)| peer).find(there)?.login.clone()
    }

    fn admit(&self) -> Result<(), u32> {
        if self.pressed || self.draining { Err(RETRY_AFTER_SECONDS) } else { Ok(()) }
    }
}

/// What a lamp means.
pub(super) fn waiting(lamp: MessageLamp) -> Waiting {
    match lamp {
        MessageLamp::On => Waiting::Yes,
        MessageLamp::Off => Waiting::No,
    }
}

/// The same address, also where one is written as IPv4 and the other mapped into IPv6.
fn same_host(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::Transport;

    fn hop(transport: Transport, remote: &str) -> Hop {
        let local = "127.0.0.1:5060".parse().expect("an address");
        Hop { transport, local, remote: remote.parse().expect("an address"), connection: None }
    }

    fn peer(transport: Transport, proof: PeerProof) -> TrunkPeer {
        let remote = "127.0.0.1:5070".parse().expect("an address");
        TrunkPeer { transport, remote, host: "127.0.0.1".into(), login: None, proof }
    }

    fn known(directory: &Directory, hop: &Hop) -> Option<String> {
        directory.trunk(hop).map(|trunk| format!("{} by {}", trunk.name, trunk.by))
    }

    #[test]
    fn a_trunk_is_its_address_and_port() {
        let mut directory = Directory::default();
        directory.replace(
            Arc::default(),
            [
                ("udp".into(), peer(Transport::Udp, PeerProof::Port(5070))),
                ("tcp".into(), peer(Transport::Tcp, PeerProof::Port(5099))),
            ],
        );
        let known = |transport, remote: &str| known(&directory, &hop(transport, remote));
        let udp = Some("udp by address and port".to_owned());
        assert_eq!(known(Transport::Udp, "127.0.0.1:5070"), udp);
        assert_eq!(known(Transport::Udp, "[::ffff:127.0.0.1]:5070"), udp);
        assert_eq!(known(Transport::Udp, "127.0.0.1:5071"), None);
        assert_eq!(known(Transport::Udp, "127.0.0.2:5070"), None);
        let tcp = Some("tcp by address and port".to_owned());
        assert_eq!(known(Transport::Tcp, "127.0.0.1:5099"), tcp);
        assert_eq!(known(Transport::Tcp, "127.0.0.1:5070"), tcp, "a connection of ours");
        assert_eq!(known(Transport::Tcp, "127.0.0.1:40000"), None);
        assert_eq!(known(Transport::Tls, "127.0.0.1:5070"), None);
    }

    #[test]
    fn a_trunk_may_be_every_port_of_its_address() {
        let mut directory = Directory::default();
        directory.replace(Arc::default(), [("tcp".into(), peer(Transport::Tcp, PeerProof::Address))]);
        let any = known(&directory, &hop(Transport::Tcp, "127.0.0.1:40000"));
        assert_eq!(any.as_deref(), Some("tcp by address"));
        assert_eq!(known(&directory, &hop(Transport::Tcp, "127.0.0.2:40000")), None);
        assert_eq!(directory.trunk_of_address(&hop(Transport::Tcp, "127.0.0.1:1")).as_deref(), Some("tcp"));
        assert_eq!(directory.trunk_of_address(&hop(Transport::Udp, "127.0.0.1:1")), None);
    }

    #[test]
    fn a_tls_trunk_is_whose_certificate_names_it() {
        let mut directory = Directory::default();
        let of = |authority: Option<&str>, name: &str| PeerProof::Certificate {
            authority: authority.map(Into::into),
            name: name.into(),
        };
        directory.replace(
            Arc::default(),
            [
                ("ours".into(), peer(Transport::Tls, of(None, "sbc.example.com"))),
                ("carrier".into(), peer(Transport::Tls, of(Some("CA"), "2001:db8::1"))),
            ],
        );
        let mut way = hop(Transport::Tls, "192.0.2.9:40000");
        way.connection = Some(ConnectionId(7));
        for (authority, name, expected) in [
            (None, "SBC.example.com", Some("ours by certificate")),
            (None, "2001:db8::1", None),
            (Some("CA"), "sbc.example.com", None),
            (Some("CA"), "2001:DB8:0::1", Some("carrier by certificate")),
            (Some("other CA"), "2001:db8::1", None),
            (None, "evil.sbc.example.com", None),
        ] {
            let names = vec!["else.example".to_owned(), name.to_owned()];
            let authorities = vec![authority.map(Arc::from)];
            let serial = security::tls::Serial::new(&[7]);
            directory.certify(ConnectionId(7), Certified { authorities, names, serial });
            assert_eq!(known(&directory, &way).as_deref(), expected, "{authority:?} {name}");
        }
        directory.forget(ConnectionId(7));
        assert_eq!(known(&directory, &way), None);
        assert_eq!(
            known(&directory, &hop(Transport::Tls, "127.0.0.1:5070")),
            None,
            "an address proves nothing"
        );
    }

    #[test]
    fn pressure_refuses_new_calls_until_half_the_mark() {
        let mut directory = Directory::default();
        assert!(!directory.set_pressure(ADMISSION_LAG));
        assert!(directory.set_pressure(ADMISSION_LAG * 2) && directory.admit().is_err());
        assert!(!directory.set_pressure(ADMISSION_LAG));
        assert!(directory.set_pressure(ADMISSION_LAG / 2) && directory.admit().is_ok());
    }
}
