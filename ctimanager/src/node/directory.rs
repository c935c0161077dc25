//! What the SIP stack may ask: accounts by digest user, trunks by address, and whether new calls are taken now.

use super::bridge::TrunkPeer;
use device_model::TrunkName;
use sip::{Account, Hop, Login, Transport};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
    pressed: bool,
    draining: bool,
}

impl Directory {
    /// Replaces accounts and trunks; pressure and draining stay.
    pub fn configure(
        &mut self,
        accounts: Arc<Accounts>,
        trunks: impl IntoIterator<Item = (TrunkName, TrunkPeer)>,
    ) {
        self.accounts = accounts;
        self.trunks = trunks.into_iter().map(|(name, peer)| (name.as_str().into(), peer)).collect();
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

    /// Whether there is an account of this id.
    #[must_use]
    pub fn has(&self, account: &str) -> bool {
        self.accounts.has(account)
    }
}

impl sip::Directory for Directory {
    fn account(&self, user: &str) -> Option<Account> {
        self.accounts.users.get(user).cloned()
    }

    /// A trunk is known by its address and port. A TCP or TLS connection comes from a port of its own, so there the
    /// port that the peer says it listens on (its Via) stands for it; the address is the connection's in any case.
    fn trunk(&self, hop: &Hop, via_port: u16) -> Option<Arc<str>> {
        let port = match hop.transport {
            Transport::Udp => hop.remote.port(),
            Transport::Tcp | Transport::Tls => via_port,
        };
        let matches = |peer: &TrunkPeer| {
            peer.transport == hop.transport
                && same_host(peer.remote.ip(), hop.remote.ip())
                && peer.remote.port() == port
        };
        self.trunks.iter().find(|(_, peer)| matches(peer)).map(|(name, _)| name.clone())
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

    fn is_trunk(&self, account: &str) -> bool {
        self.trunks.iter().any(|(name, _)| **name == *account)
    }

    fn has_digest(&self, trunk: &str) -> bool {
        self.accounts.has(trunk)
    }

    fn admit(&self) -> Result<(), u32> {
        if self.pressed || self.draining { Err(RETRY_AFTER_SECONDS) } else { Ok(()) }
    }
}

/// The same address, also where one is written as IPv4 and the other mapped into IPv6.
fn same_host(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::Directory as _;

    fn hop(transport: Transport, remote: &str) -> Hop {
        let local = "127.0.0.1:5060".parse().expect("an address");
        Hop { transport, local, remote: remote.parse().expect("an address"), connection: None }
    }

    #[test]
    fn a_trunk_is_its_address_and_port() {
        let mut directory = Directory::default();
        let peer = |transport| TrunkPeer {
            transport,
            remote: "127.0.0.1:5070".parse().expect("an address"),
            host: "127.0.0.1".into(),
            login: None,
        };
        directory.configure(
            Arc::default(),
            [("udp".into(), peer(Transport::Udp)), ("tcp".into(), peer(Transport::Tcp))],
        );
        assert_eq!(directory.trunk(&hop(Transport::Udp, "127.0.0.1:5070"), 9).as_deref(), Some("udp"));
        assert_eq!(directory.trunk(&hop(Transport::Udp, "127.0.0.1:5071"), 5070), None);
        assert_eq!(directory.trunk(&hop(Transport::Tcp, "127.0.0.1:40000"), 5070).as_deref(), Some("tcp"));
        assert_eq!(directory.trunk(&hop(Transport::Tcp, "127.0.0.2:5070"), 5070), None);
        assert_eq!(
            directory.trunk(&hop(Transport::Udp, "[::ffff:127.0.0.1]:5070"), 0).as_deref(),
            Some("udp")
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
