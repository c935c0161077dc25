//! What a checked configuration holds. The fields are the contract's keys; each item knows its line.

use super::{Place, ServiceParameters};
use device_model::plan::{DeviceKind, Forwards, OfferTime};
use device_model::{DeviceName, Dn, NodeName, PartitionName, SearchSpaceName, TrunkName};
use security::{Mode, Secret, User};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster: Cluster,
    /// Cluster-wide service parameters, defaults filled in.
    pub parameters: ServiceParameters,
    /// The nodes; at least one.
    pub nodes: Vec<Node>,
    /// CallManager groups.
    pub call_manager_groups: Vec<CallManagerGroup>,
    /// Device pools.
    pub device_pools: Vec<DevicePool>,
    /// Partitions.
    pub partitions: Vec<Partition>,
    /// Calling search spaces.
    pub calling_search_spaces: Vec<CallingSearchSpace>,
    /// Directory numbers: those with an entry and, with defaults, those that only a device names.
    pub numbers: Vec<DirectoryNumber>,
    /// Devices, ranges expanded.
    pub devices: Vec<Device>,
    /// Trunks.
    pub trunks: Vec<Trunk>,
    /// Route patterns.
    pub route_patterns: Vec<RoutePattern>,
    /// Park numbers, ranges expanded.
    pub park_numbers: Vec<ParkNumber>,
    /// The administrator's own groups.
    pub user_groups: Vec<UserGroup>,
    /// Users.
    pub users: Vec<ConfiguredUser>,
    /// Where what is missing would have to stand.
    pub places: Places,
    /// Names what was written: nodes whose files differ have different ones.
    pub revision: Arc<str>,
}

/// Where the lists of the configuration stand.
#[derive(Clone, Debug)]
pub struct Places {
    /// The (first) file as a whole.
    pub file: Place,
    /// The list of directory numbers.
    pub numbers: Option<Place>,
    /// The list of devices.
    pub devices: Option<Place>,
    /// The list of trunks.
    pub trunks: Option<Place>,
    /// The list of users.
    pub users: Option<Place>,
}

/// `cluster`
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name, and the realm of SIP digests.
    pub name: Arc<str>,
    /// `security.mode`
    pub mode: Mode,
    /// `sip_proxies`: edge proxies that a Path, a route or a Contact may name, whoever wrote it.
    pub sip_proxies: Vec<IpAddr>,
    /// `security.pki`: the folder that `ctimanager pki init` made, `pki` beside the file by default.
    pub pki: PathBuf,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where it listens, and what others are told of that.
    pub addresses: Addresses,
    /// Whether it registers devices and carries calls.
    pub callmanager: bool,
    /// Whether it serves applications.
    pub ctimanager: bool,
    /// SIP ports; `None` = not listened on, 0 = any free one.
    pub sip: SipPorts,
    /// CTI ports.
    pub cti: CtiPorts,
    /// The web port.
    pub web: Option<u16>,
    /// The port at which other nodes connect.
    pub cluster: Option<u16>,
    /// Where it keeps its socket, the number of its life, and sessions that outlive it.
    pub state_dir: PathBuf,
    /// Where it stands.
    pub place: Place,
}

/// What of a node listens; each may have addresses of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Listener {
    SipUdp,
    SipTcp,
    SipTls,
    Cti,
    Web,
}

impl Listener {
    /// All of them.
    pub const ALL: &'static [Listener] =
        &[Listener::SipUdp, Listener::SipTcp, Listener::SipTls, Listener::Cti, Listener::Web];
    /// With the keys that name them.
    pub const NAMED: [(Listener, &'static str); 5] = [
        (Listener::SipUdp, "udp"),
        (Listener::SipTcp, "tcp"),
        (Listener::SipTls, "tls"),
        (Listener::Cti, "cti"),
        (Listener::Web, "web"),
    ];
}

/// A node's `host` and `advertise`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub(super) hosts: BTreeMap<Listener, Vec<Arc<str>>>,
    pub(super) rules: BTreeMap<Listener, Vec<Rule>>,
}

/// One entry of `advertise`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Of this listen address alone.
    pub(super) of: Option<IpAddr>,
    /// Of listen addresses of this family alone.
    pub(super) ipv4: Option<bool>,
    pub(super) to: Advertised,
}

/// What others use to reach a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// An address or a name.
    pub host: Arc<str>,
    /// Where it is another than the listener's.
    pub port: Option<u16>,
}

impl Addresses {
    /// The addresses and names that it listens on.
    #[must_use]
    pub fn hosts(&self, listener: Listener) -> &[Arc<str>] {
        self.hosts.get(&listener).map_or(&[], Vec::as_slice)
    }

    /// What is said of a listener at this address: of the address, else of its family.
    #[must_use]
    pub fn advertised(&self, listener: Listener, ip: IpAddr) -> Option<&Advertised> {
        let rules = || self.rules.get(&listener).into_iter().flatten();
        let of_address = rules().find(|rule| rule.of == Some(ip));
        let of_family = |rule: &&Rule| rule.of.is_none() && rule.ipv4.is_none_or(|ipv4| ipv4 == ip.is_ipv4());
        of_address.or_else(|| rules().find(of_family)).map(|rule| &rule.to)
    }

    /// What `advertise` says of a listener, as one text; empty without.
    #[must_use]
    pub fn advertise(&self, listener: Listener) -> String {
        let text = |rule: &Rule| {
            let of = rule.of.map(|of| format!("{of}=")).unwrap_or_default();
            let port = rule.to.port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{of}{}{port}", rule.to.host)
        };
        self.rules.get(&listener).into_iter().flatten().map(text).collect::<Vec<_>>().join(" ")
    }

    /// What others use for this host of a listener; `None` where that is not known.
    #[must_use]
    pub fn told(&self, listener: Listener, host: &str, port: u16) -> Option<(Arc<str>, u16)> {
        let ip = host.parse::<IpAddr>().ok();
        // A name may have addresses of both families: what is said of either will do.
        let families = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        let told = match ip {
            Some(ip) => self.advertised(listener, ip),
            None => families.into_iter().find_map(|ip| self.advertised(listener, ip)),
        };
        match told {
            Some(told) => Some((told.host.clone(), told.port.unwrap_or(port))),
            None => Some((host.into(), port)).filter(|_| ip.is_none_or(|ip| !ip.is_unspecified())),
        }
    }

    /// All by which the node may be called: what its certificate has to name.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let hosts = self.hosts.values().flatten();
        let told = self.rules.values().flatten().map(|rule| &rule.to.host);
        let wildcard = |name: &str| name.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let mut names: Vec<String> = Vec::new();
        for name in hosts.chain(told).filter(|name| !wildcard(name)) {
            if !names.iter().any(|known| known == &**name) {
                names.push(name.to_string());
            }
        }
        names
    }
}

/// A node's SIP ports; `None` = not listened on, 0 = any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SipPorts {
    pub udp: Option<u16>,
    pub tcp: Option<u16>,
    pub tls: Option<u16>,
}

/// A node's CTI ports; `None` = not listened on, 0 = any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CtiPorts {
    pub tls: Option<u16>,
    pub plain: Option<u16>,
}

/// A CallManager group: nodes in order of priority.
#[derive(Clone, Debug)]
pub struct CallManagerGroup {
    /// Its name.
    pub name: Arc<str>,
    /// Its nodes, the best first; at least one.
    pub members: Vec<NodeName>,
    /// Where it stands.
    pub place: Place,
}

/// A device pool.
#[derive(Clone, Debug)]
pub struct DevicePool {
    /// Its name.
    pub name: Arc<str>,
    /// The CallManager group of its devices.
    pub call_manager_group: Arc<str>,
    /// Where it stands.
    pub place: Place,
}

/// A partition: numbers and patterns that are reached alike.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its name.
    pub name: PartitionName,
    /// For people.
    pub description: Arc<str>,
    /// Where it stands.
    pub place: Place,
}

/// A calling search space.
#[derive(Clone, Debug)]
pub struct CallingSearchSpace {
    /// Its name.
    pub name: SearchSpaceName,
    /// The partitions that it reaches, in order; at least one.
    pub partitions: Vec<PartitionName>,
    /// Where it stands.
    pub place: Place,
}

/// A directory number.
#[derive(Clone, Debug)]
pub struct DirectoryNumber {
    /// The number.
    pub dn: Dn,
    /// For people who read the file; the party's name where there is no `display`.
    pub description: Arc<str>,
    /// The name that others see of who has the number.
    pub display: Option<Arc<str>>,
    /// Calls at once; `None` = the default of the device's kind.
    pub max_calls: Option<u32>,
    /// From this many on it is busy; `None` = `max_calls`.
    pub busy_trigger: Option<u32>,
    /// How long it rings; `None` = `forward_no_answer_timer`.
    pub ring_duration: Option<Duration>,
    /// Where its calls go instead.
    pub forward: Forwards,
    /// Ports and route points: calls are accepted without asking.
    pub auto_accept: bool,
    /// Whether applications may control the line.
    pub allow_cti_control: bool,
    /// Who reaches it; `None`: everybody.
    pub partition: Option<PartitionName>,
    /// What its line reaches, before what the device reaches.
    pub calling_search_space: Option<SearchSpaceName>,
    /// Calls that begin at its line; `None` = `max_calls_per_second_per_line`.
    pub max_calls_per_second: Option<u32>,
    /// Where it stands: its entry, else the device's line that names it.
    pub place: Place,
}

/// The protocol of a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PhoneProtocol {
    Sip,
    Sccp,
}

/// Whether the media of a phone or trunk are encrypted (SDES-SRTP, keys over TLS alone).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MediaEncryption {
    #[default]
    None,
    Optional,
    Required,
}

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// What it is.
    pub kind: DeviceKind,
    /// Phones: how they speak.
    pub protocol: Option<PhoneProtocol>,
    /// For people.
    pub description: Arc<str>,
    /// Its device pool.
    pub pool: Arc<str>,
    /// Its lines, in order.
    pub lines: Vec<Dn>,
    /// Phones: the digest account.
    pub digest: Option<Digest>,
    /// Phones: SRTP.
    pub media_encryption: MediaEncryption,
    /// Phones: when they are offered media.
    pub offer: OfferTime,
    /// Whether applications may control it; without, it is restricted.
    pub allow_cti_control: bool,
    /// Phones: the longest registration; `None` = the cluster's `registration_expiry_maximum`.
    pub registration_expiry_maximum: Option<Duration>,
    /// What its lines reach, after what each reaches itself.
    pub calling_search_space: Option<SearchSpaceName>,
    /// Calls at once on all its lines; `None` = as many as these may have.
    pub max_calls: Option<u32>,
    /// Calls that begin there; `None` = `max_calls_per_second_per_device`.
    pub max_calls_per_second: Option<u32>,
    /// Where it stands.
    pub place: Place,
}

/// A digest account (RFC 3261 §22).
#[derive(Clone, Debug)]
pub struct Digest {
    /// The user name.
    pub user: Arc<str>,
    /// The password, written down or read from `password_file`.
    pub password: Secret,
}

/// SIP transports of a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TrunkTransport {
    #[default]
    Udp,
    Tcp,
    Tls,
}

/// The port that a trunk's requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePort {
    /// This one.
    Port(u16),
    /// Any: every process at its address is the trunk.
    Any,
}

/// A SIP trunk. Over UDP and TCP it is known by its address and port, over TLS by its certificate, and everywhere by digest
/// where it has one.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// Its name.
    pub name: TrunkName,
    /// The peer's host name or address.
    pub host: Arc<str>,
    /// The peer's port.
    pub port: u16,
    /// How it is reached.
    pub transport: TrunkTransport,
    /// When it is offered media.
    pub offer: OfferTime,
    /// Its digest account.
    pub digest: Option<Digest>,
    /// SRTP.
    pub media_encryption: MediaEncryption,
    /// UDP and TCP: where its requests come from, if not from `port`.
    pub source_port: Option<SourcePort>,
    /// TLS: the authority of its certificate (PEM), if not the cluster's own.
    pub ca: Option<Arc<str>>,
    /// TLS: the certificates that this authority has taken back (PEM, one list or more).
    pub crl: Option<Arc<str>>,
    /// TLS: the name that its certificate must have where it calls us, if not `host`.
    pub tls_subject: Option<Arc<str>>,
    /// What its calls reach beside the numbers without a partition.
    pub calling_search_space: Option<SearchSpaceName>,
    /// Whether its calls must not leave by a trunk again; `None` = the service parameter of this name.
    pub block_offnet_to_offnet: Option<bool>,
    /// Calls at once, in and out; `None` = `max_calls_per_trunk`.
    pub max_calls: Option<u32>,
    /// New calls, in and out each; `None` = `max_calls_per_second_per_trunk`.
    pub max_calls_per_second: Option<u32>,
    /// Where it stands.
    pub place: Place,
}

/// A route pattern.
#[derive(Clone, Debug)]
pub struct RoutePattern {
    /// As written; its syntax is checked.
    pub pattern: Arc<str>,
    /// Where matching calls go.
    pub trunk: TrunkName,
    /// Drop what stands before the dot.
    pub discard_pre_dot: bool,
    /// Who reaches it; `None`: everybody.
    pub partition: Option<PartitionName>,
    /// Where it stands.
    pub place: Place,
}

/// A park number.
#[derive(Clone, Debug)]
pub struct ParkNumber {
    /// The number.
    pub dn: Dn,
    /// Who reaches it; `None`: everybody.
    pub partition: Option<PartitionName>,
    /// Where it, or its range, stands.
    pub place: Place,
}

/// A group of the administrator's own: a bundle of standard groups.
#[derive(Clone, Debug)]
pub struct UserGroup {
    /// Its name.
    pub name: Arc<str>,
    /// The standard groups in it.
    pub includes: security::Groups,
    /// Where it stands.
    pub place: Place,
}

/// A user and his line in the file.
#[derive(Clone, Debug)]
pub struct ConfiguredUser {
    /// The user.
    pub user: User,
    /// The names of his groups as written.
    pub groups: Vec<Arc<str>>,
    /// Where he stands.
    pub place: Place,
    /// Where his `groups` stand, or he himself.
    pub groups_place: Place,
    /// Where his `controlled_devices` stand, or he himself.
    pub controlled_devices_place: Place,
}
