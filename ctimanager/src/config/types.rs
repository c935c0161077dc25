//! What a checked configuration holds. The fields are the contract's keys; each item knows its line.

use super::{Place, ServiceParameters};
use device_model::plan::{DeviceKind, Forwards, OfferTime};
use device_model::{DeviceName, Dn, NodeName, PartitionName, SearchSpaceName, TrunkName};
use security::{Mode, Secret, User};
use std::net::IpAddr;
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
    /// The host name or address that it listens on and that others reach it by.
    pub host: Arc<str>,
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
    /// The port for traffic between nodes; nothing listens there in this version.
    pub cluster: Option<u16>,
    /// Where it keeps its socket, the number of its life, and sessions that outlive it.
    pub state_dir: PathBuf,
    /// Where it stands.
    pub place: Place,
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

/// Whether a phone's media is encrypted (SDES-SRTP).
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
    /// UDP and TCP: where its requests come from, if not from `port`.
    pub source_port: Option<SourcePort>,
    /// TLS: the authority of its certificate (PEM), if not the cluster's own.
    pub ca: Option<Arc<str>>,
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
