//! The plan: what the administrator described, checked and ready to use. The configuration's reader makes it; the model
//! compares an old with a new one and carries out the difference.

pub use crate::identity::Identity;
use crate::ids::{DeviceName, Dn, PartitionName, SearchSpaceName, TrunkName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Everything of the configuration that the model needs. Names are unique and references hold: the reader checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Directory numbers with settings; a number that only a device names is here with defaults.
    pub numbers: Vec<NumberPlan>,
    /// Devices.
    pub devices: Vec<DevicePlan>,
    /// Trunks.
    pub trunks: Vec<TrunkPlan>,
    /// Route patterns, as written.
    pub patterns: Vec<PatternPlan>,
    /// Park numbers, ranges expanded.
    pub park_numbers: Vec<ParkPlan>,
    /// Calling search spaces. A partition that none of them names is reached by nobody.
    pub spaces: Vec<SpacePlan>,
    /// Timers and limits.
    pub parameters: Parameters,
}

/// A directory number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberPlan {
    /// The number.
    pub dn: Dn,
    /// The name that others see; empty = none.
    pub display: Arc<str>,
    /// Calls on the line at once, in and out. `None`: 4 on phones and ports, 5000 on route points.
    pub max_calls: Option<u32>,
    /// Incoming calls beyond this many are busy. `None`: `max_calls`.
    pub busy_trigger: Option<u32>,
    /// How long it rings before `no_answer`; `None`: [`Parameters::forward_no_answer`].
    pub ring_duration: Option<Duration>,
    /// Where its calls go instead.
    pub forward: Forwards,
    /// Ports and route points: accept by itself.
    pub auto_accept: bool,
    /// Whether applications may control the line.
    pub allow_cti_control: bool,
    /// Who reaches it; `None`: everybody (CUCM's partition `<None>`).
    pub partition: Option<PartitionName>,
    /// What its line reaches, before what the device reaches.
    pub calling_search_space: Option<SearchSpaceName>,
    /// Calls that begin at its line, of each device. `None`: [`Parameters::max_calls_per_second_per_line`].
    pub max_calls_per_second: Option<u32>,
}

impl NumberPlan {
    /// A number without any setting.
    #[must_use]
    pub fn plain(dn: &Dn) -> Self {
        Self {
            dn: dn.clone(),
            display: "".into(),
            max_calls: None,
            busy_trigger: None,
            ring_duration: None,
            forward: Forwards::default(),
            auto_accept: false,
            allow_cti_control: true,
            partition: None,
            calling_search_space: None,
            max_calls_per_second: None,
        }
    }
}

/// Forwards of a number (reference §5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    /// CFA
    pub all: Option<Dn>,
    /// CFB
    pub busy: Option<Dn>,
    /// CFNA
    pub no_answer: Option<Dn>,
    /// CFUR
    pub unregistered: Option<Dn>,
    /// CFOF
    pub on_failure: Option<Dn>,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Terminates its own media; accepts calls by itself.
    Phone,
    /// A phone line made of an application.
    CtiPort,
    /// A number that applications answer.
    RoutePoint,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// Its name.
    pub name: DeviceName,
    /// What it is.
    pub kind: DeviceKind,
    /// For people.
    pub description: Arc<str>,
    /// Its device pool.
    pub pool: Arc<str>,
    /// Its lines, in order; the first is index 1.
    pub lines: Vec<Dn>,
    /// Whether applications may control it.
    pub allow_cti_control: bool,
    /// Phones: when it is offered media.
    pub offer: OfferTime,
    /// What its lines reach, after what each reaches itself.
    pub calling_search_space: Option<SearchSpaceName>,
    /// Calls at once on all its lines. `None`: as many as its lines may have.
    pub max_calls: Option<u32>,
    /// Calls that begin there. `None`: [`Parameters::max_calls_per_second_per_device`].
    pub max_calls_per_second: Option<u32>,
}

impl DevicePlan {
    /// A device without any setting.
    #[must_use]
    pub fn plain(name: DeviceName, kind: DeviceKind, lines: Vec<Dn>) -> Self {
        Self {
            name,
            kind,
            description: "".into(),
            pool: "Default".into(),
            lines,
            allow_cti_control: true,
            offer: OfferTime::default(),
            calling_search_space: None,
            max_calls: None,
            max_calls_per_second: None,
        }
    }
}

/// When whom we call is offered media (RFC 3264, RFC 3261 §13.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OfferTime {
    /// With the call, where there is anything to offer.
    #[default]
    Early,
    /// Never: it makes the offer itself, with its answer.
    Late,
}

/// A trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkPlan {
    /// Its name.
    pub name: TrunkName,
    /// When it is offered media.
    pub offer: OfferTime,
    /// What its calls reach beside the numbers and patterns without a partition.
    pub calling_search_space: Option<SearchSpaceName>,
    /// Its calls reach directory numbers alone: what it dials does not leave by a trunk again.
    pub block_offnet_to_offnet: bool,
    /// Calls at once, in and out.
    pub max_calls: u32,
    /// Calls that begin there, and as many that are sent there.
    pub max_calls_per_second: u32,
}

impl From<&str> for TrunkPlan {
    /// A trunk without any setting.
    fn from(name: &str) -> Self {
        Self {
            name: name.into(),
            offer: OfferTime::default(),
            calling_search_space: None,
            block_offnet_to_offnet: true,
            max_calls: u32::MAX,
            max_calls_per_second: u32::MAX,
        }
    }
}

/// A calling search space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpacePlan {
    /// Its name.
    pub name: SearchSpaceName,
    /// Of two patterns that match alike, the one whose partition comes first here is taken.
    pub partitions: Vec<PartitionName>,
}

/// A park number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkPlan {
    /// The number.
    pub dn: Dn,
    /// Who reaches it; `None`: everybody.
    pub partition: Option<PartitionName>,
}

/// A route pattern and its trunk (`9.!`, digit discard).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternPlan {
    /// CUCM's pattern language: digits, `X`, `!`, `[1-5]`, `[^1]`, `.` (where the access code ends), `+`, `*`, `#`, `@` not.
    pub pattern: Arc<str>,
    /// Where matching calls go.
    pub trunk: TrunkName,
    /// Drop what stands before the dot.
    pub discard_pre_dot: bool,
    /// Who reaches it; `None`: everybody.
    pub partition: Option<PartitionName>,
}

/// Timers and limits of the service parameters that the model uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// CTI New Call Accept Timer, 4 s.
    pub new_call_accept: Duration,
    /// Media Exchange Timer, 12 s.
    pub media_exchange: Duration,
    /// Forward No Answer Timer, 12 s.
    pub forward_no_answer: Duration,
    /// Soft limit of open devices per provider, 2000.
    pub max_devices_per_provider: u32,
    /// Soft limit of open devices per node, 800.
    pub max_devices_per_node: u32,
    /// Hard limit of legs on this node at once; beyond it new calls get cause 42. 50,000.
    pub max_legs: u32,
    /// Forwards that one call may follow before it counts as a loop, 12.
    pub max_forward_hops: u32,
    /// Calls that begin at one line, 100.
    pub max_calls_per_second_per_line: u32,
    /// Calls that begin at one device, 200.
    pub max_calls_per_second_per_device: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            new_call_accept: Duration::from_secs(4),
            media_exchange: Duration::from_secs(12),
            forward_no_answer: Duration::from_secs(12),
            max_devices_per_provider: 2000,
            max_devices_per_node: 800,
            max_legs: 50_000,
            max_forward_hops: 12,
            max_calls_per_second_per_line: 100,
            max_calls_per_second_per_device: 200,
        }
    }
}
