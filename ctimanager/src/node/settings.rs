//! What the node takes of a configuration, in the values that its rooms use.

use super::call_manager::directory::Accounts;
use super::call_manager::sip_legs::{Certified, PeerProof, TrunkPeer};
use crate::config::{self, Config, CtiListeners, Listener};
use device_model::plan::Plan;
use device_model::{NodeName, TrunkName};
use protocol::openrpc::Server;
use security::Policy;
use security::shares::{Bound, Door, Place, Rate, Share, Shares};
use security::tls::Serial;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A configuration as one node sees it. Immutable; a reload makes another.
pub struct Settings {
    /// The cluster's name, which is the digest realm.
    pub cluster: Arc<str>,
    /// This node.
    pub node: NodeName,
    /// Where applications may reconnect, in order (`host:port`, TLS).
    pub ctimanagers: Vec<Arc<str>>,
    /// Where the nodes' CTI is reached, as the OpenRPC document says it.
    pub servers: Vec<Server>,
    /// This node's SIP listeners.
    pub sip_listen: Vec<(sip::Transport, std::net::SocketAddr)>,
    /// What the system granted each UDP socket of SIP for datagrams that wait.
    pub sip_udp_buffer_bytes: usize,
    /// What others are told of them.
    pub advertised: Arc<[sip::port::Advertised]>,
    /// Devices, numbers, trunks, patterns, timers.
    pub plan: Arc<Plan>,
    /// Users and groups.
    pub policy: Arc<Policy>,
    /// Phones' accounts.
    pub accounts: Arc<Accounts>,
    /// Trunks' addresses.
    pub trunks: Vec<(TrunkName, TrunkPeer)>,
    /// Devices and trunks whose media are encrypted; others' are not.
    pub encrypting: Arc<HashMap<Arc<str>, sip::port::MediaEncryption>>,
    /// The service parameters that sessions use.
    pub sessions: SessionParameters,
    /// The service parameters that signalling uses.
    pub signalling: SignallingParameters,
    /// When the node's own certificate ends.
    pub certificate_ends: Option<SystemTime>,
    /// Certificates that are taken back.
    pub revoked: Arc<BTreeSet<Serial>>,
    /// The same of the trunks' own authorities (PEM).
    pub revoked_of_trunks: BTreeMap<Arc<str>, BTreeSet<Serial>>,
    /// All of it as it was written, for administrators' questions.
    pub config: Arc<Config>,
}

/// Service parameters of the CTI side (administrator's contract §1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the configuration's own
pub struct SessionParameters {
    pub max_cti_connections: usize,
    pub max_cti_connections_per_user: usize,
    pub heartbeat_minimum: Duration,
    pub heartbeat_maximum: Duration,
    pub resume_grace: Duration,
    pub resume_grace_maximum: Duration,
    pub log_events: usize,
    pub log_bytes: usize,
    pub queue_events: usize,
    pub idem_keys: usize,
    pub pending_requests: usize,
    pub subscriptions: usize,
    pub credential_change_grace: Duration,
    pub max_unopened_connections: usize,
    pub max_unopened_connections_per_address: usize,
}

/// Service parameters of the SIP side (administrator's contract §1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the configuration's own
pub struct SignallingParameters {
    pub max_transactions: usize,
    pub max_contacts: usize,
    pub registration_expiry_maximum: Duration,
    pub session_expires: Duration,
    pub dialog_requests_per_second: u32,
    pub max_bytes_per_address: usize,
}

impl fmt::Debug for Settings {
    /// Not the accounts: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("accounts", &self.accounts.len())
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// What the shell found out when it opened the listeners and looked up names.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// This node's SIP listeners, their real ports.
    pub sip_listen: Vec<(sip::Transport, SocketAddr)>,
    /// What the system granted each UDP socket of SIP for datagrams that wait, the least of them.
    pub sip_udp_buffer_bytes: usize,
    /// This node's CTI listeners for TLS, their real ports, in the order of its hosts.
    pub cti_tls: Vec<SocketAddr>,
    /// Those without.
    pub cti_plain: Vec<SocketAddr>,
    /// This node's HTTPS listeners.
    pub web: Vec<SocketAddr>,
    /// Addresses of trunks whose host is a name.
    pub resolved: HashMap<TrunkName, SocketAddr>,
    /// When the node's own certificate ends.
    pub certificate_ends: Option<SystemTime>,
    /// Certificates that are taken back.
    pub revoked: Arc<BTreeSet<Serial>>,
}

impl Settings {
    /// Sets each row of a table of shares.
    pub fn set_shares(&self, shares: &mut Shares) {
        shares_of(&self.config.parameters).into_iter().for_each(|(share, most)| shares.set(share, most));
    }

    /// Whether one of the authorities that vouch for a SIP peer's certificate has taken it back.
    #[must_use]
    pub fn has_revoked(&self, certified: &Certified) -> bool {
        let is_listed = |authority: &Option<Arc<str>>| match authority {
            None => self.revoked.contains(&certified.serial),
            Some(own) => self.revoked_of_trunks.get(own).is_some_and(|all| all.contains(&certified.serial)),
        };
        certified.authorities.iter().any(is_listed)
    }

    /// The configuration as `node` sees it. A trunk whose name could not be looked up has no address and takes no calls.
    #[must_use]
    pub fn of(config: &Config, node: &config::Node, surroundings: &Surroundings) -> Self {
        Self {
            cluster: config.cluster.name.clone(),
            node: node.name.clone(),
            ctimanagers: ctimanagers(config, node, surroundings),
            servers: config.nodes.iter().flat_map(|n| n.servers(bound(n, node, surroundings))).collect(),
            sip_listen: surroundings.sip_listen.clone(),
            sip_udp_buffer_bytes: surroundings.sip_udp_buffer_bytes,
            advertised: advertised(node, surroundings),
            plan: Arc::new(config.plan()),
            policy: Arc::new(config.policy()),
            accounts: Arc::new(config.accounts().into_iter().collect()),
            trunks: config.trunks.iter().filter_map(|trunk| peer(trunk, surroundings)).collect(),
            encrypting: Arc::new(config.encrypting()),
            sessions: session_parameters(&config.parameters),
            signalling: SignallingParameters {
                max_transactions: config.parameters.max_sip_transactions as usize,
                max_contacts: config.parameters.max_contacts_per_number as usize,
                registration_expiry_maximum: config.parameters.registration_expiry_maximum,
                session_expires: config.parameters.session_expires_maximum,
                dialog_requests_per_second: config.parameters.max_dialog_requests_per_second,
                max_bytes_per_address: usize::try_from(config.parameters.max_sip_bytes_per_address)
                    .unwrap_or(usize::MAX),
            },
            certificate_ends: surroundings.certificate_ends,
            revoked: Arc::clone(&surroundings.revoked),
            revoked_of_trunks: config.revoked_of_trunks(),
            config: Arc::new(config.clone()),
        }
    }
}

/// The table of shares as the service parameters set it.
#[must_use]
pub fn shares_of(parameters: &config::ServiceParameters) -> Vec<(Share, u64)> {
    Share::all().map(|share| (share, share_of(parameters, share))).collect()
}

fn share_of(parameters: &config::ServiceParameters, share: Share) -> u64 {
    // One session may always use all that a session may.
    let of_session = parameters.max_requests_per_second;
    let new_connections = parameters.max_new_connections_per_second_per_address;
    match share {
        Share::Rate(rate) => u64::from(match rate {
            Rate::SipOfStrangers => parameters.max_stranger_sip_messages_per_second,
            Rate::SipOfAddress => parameters.max_stranger_sip_messages_per_second_per_address,
            Rate::SipOfDevice => parameters.max_sip_messages_per_second_per_phone,
            Rate::RequestsOfSession => of_session,
            Rate::RequestsOfUser => parameters.max_requests_per_second_per_user.max(of_session),
            Rate::RequestsOfAddress => parameters.max_requests_per_second_per_address.max(of_session),
            Rate::NewSipConnectionsOfAddress
            | Rate::NewCtiConnectionsOfAddress
            | Rate::NewWebConnectionsOfAddress => new_connections,
            Rate::NewSipConnectionsOfKnown
            | Rate::NewCtiConnectionsOfKnown
            | Rate::NewWebConnectionsOfKnown => {
                parameters.max_new_connections_per_second_per_known_address.max(new_connections)
            }
        }),
        Share::Place(place) => u64::from(match place {
            Place::SipConnectionsOfStrangers => parameters.max_stranger_sip_connections,
            Place::SipConnectionsOfAddress => parameters.max_stranger_sip_connections_per_address,
            Place::SipConnectionsOfDevice => parameters.max_sip_connections_per_phone,
            Place::SipConnectionsOfTrunk => parameters.max_sip_connections_per_trunk,
            Place::ProvedSipConnectionsOfAddress => parameters.max_sip_connections_per_address,
            Place::PasswordsOfAddress => parameters.max_waiting_passwords_per_address,
            Place::PasswordsOfUser => parameters.max_waiting_passwords_per_user,
        }),
        Share::Door(door) => u64::from(match door {
            Door::Sip => parameters.max_digest_failures_per_minute,
            Door::Cti => parameters.max_login_failures_per_minute,
        }),
        Share::Bound(Bound::SipBytesOfAddress) => parameters.max_sip_bytes_per_address,
        Share::Bound(bound) => u64::from(match bound {
            Bound::ConnectionsOfAll => parameters.max_unopened_connections,
            Bound::ConnectionsOfAddress => parameters.max_unopened_connections_per_address,
            Bound::SessionsOfUser => parameters.max_cti_connections_per_user,
            Bound::WebOfAll => parameters.max_web_connections,
            Bound::WebOfAddress => parameters.max_web_connections_per_address,
            Bound::SipBytesOfAddress => u32::MAX,
            Bound::DialogRequestsOfDevice | Bound::DialogRequestsOfTrunk => {
                parameters.max_dialog_requests_per_second
            }
            Bound::NewCallsOfLine => parameters.max_calls_per_second_per_line,
            Bound::NewCallsOfDevice => parameters.max_calls_per_second_per_device,
            Bound::NewCallsOfTrunk => parameters.max_calls_per_second_per_trunk,
            Bound::CallsOfTrunk => parameters.max_calls_per_trunk,
        }),
    }
}

/// Where applications reach the nodes over TLS, in the order of their hosts.
fn ctimanagers(config: &Config, own: &config::Node, surroundings: &Surroundings) -> Vec<Arc<str>> {
    let of = |n: &config::Node| n.authorities(Listener::Cti, n.cti.tls, bound(n, own, surroundings).tls);
    config.nodes.iter().flat_map(of).map(Arc::from).collect()
}

/// What is known of a node's CTI listeners: the real ports of its own, nothing of another's.
fn bound<'a>(node: &config::Node, own: &config::Node, surroundings: &'a Surroundings) -> CtiListeners<'a> {
    let Surroundings { cti_tls, cti_plain, web, .. } = surroundings;
    if node.name == own.name {
        CtiListeners { tls: cti_tls, plain: cti_plain, web }
    } else {
        CtiListeners::default()
    }
}

/// What is told of each SIP listener that is not told by its own address.
fn advertised(node: &config::Node, surroundings: &Surroundings) -> Arc<[sip::port::Advertised]> {
    let told = |&(transport, listen): &(sip::Transport, SocketAddr)| {
        let listener = match transport {
            sip::Transport::Udp => Listener::SipUdp,
            sip::Transport::Tcp => Listener::SipTcp,
            sip::Transport::Tls => Listener::SipTls,
        };
        let told = node.addresses.advertised(listener, listen.ip())?;
        let port = told.port.unwrap_or(listen.port());
        Some(sip::port::Advertised { transport, listen, host: told.host.clone(), port })
    };
    surroundings.sip_listen.iter().filter_map(told).collect()
}

fn peer(trunk: &config::Trunk, surroundings: &Surroundings) -> Option<(TrunkName, TrunkPeer)> {
    let remote = trunk.address().or_else(|| surroundings.resolved.get(&trunk.name).copied())?;
    let transport = match trunk.transport {
        config::TrunkTransport::Udp => sip::Transport::Udp,
        config::TrunkTransport::Tcp => sip::Transport::Tcp,
        config::TrunkTransport::Tls => sip::Transport::Tls,
    };
    let login = trunk.digest.as_ref().map(|digest| sip::Login {
        user: digest.user.to_string(),
        password: digest.password.clone().into_zeroizing(),
    });
    let proof = match (trunk.transport, trunk.source_port) {
        (config::TrunkTransport::Tls, _) => PeerProof::Certificate {
            authority: trunk.ca.clone(),
            name: trunk.tls_subject.clone().unwrap_or_else(|| trunk.host.clone()),
        },
        (config::TrunkTransport::Udp | config::TrunkTransport::Tcp, Some(config::SourcePort::Any)) => {
            PeerProof::Address
        }
        (config::TrunkTransport::Udp | config::TrunkTransport::Tcp, Some(config::SourcePort::Port(port))) => {
            PeerProof::Port(port)
        }
        (config::TrunkTransport::Udp | config::TrunkTransport::Tcp, None) => PeerProof::Port(remote.port()),
    };
    Some((trunk.name.clone(), TrunkPeer { transport, remote, host: trunk.host.to_string(), login, proof }))
}

fn session_parameters(parameters: &config::ServiceParameters) -> SessionParameters {
    SessionParameters {
        max_cti_connections: parameters.max_cti_connections as usize,
        max_cti_connections_per_user: parameters.max_cti_connections_per_user as usize,
        heartbeat_minimum: parameters.application_heartbeat_minimum_interval,
        heartbeat_maximum: parameters.application_heartbeat_maximum_interval,
        resume_grace: parameters.session_resume_grace,
        resume_grace_maximum: parameters.session_resume_grace_maximum,
        log_events: parameters.session_log_events as usize,
        log_bytes: usize::try_from(parameters.session_log_bytes).unwrap_or(usize::MAX),
        queue_events: parameters.session_queue_events as usize,
        idem_keys: parameters.session_idem_keys as usize,
        pending_requests: parameters.session_pending_requests as usize,
        subscriptions: parameters.session_subscriptions as usize,
        credential_change_grace: parameters.credential_change_grace,
        max_unopened_connections: parameters.max_unopened_connections as usize,
        max_unopened_connections_per_address: parameters.max_unopened_connections_per_address as usize,
    }
}
