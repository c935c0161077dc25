//! What others may see of devices, lines and legs: whole values, cheap to clone, no references into the machine.

use crate::cause::Cause;
use crate::ids::{CallId, DeviceName, Dn, LegId, PartitionName};
use crate::media::Stream;
use crate::plan::DeviceKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A party of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its number; empty when unknown.
    pub number: Arc<str>,
    /// Its display name.
    pub name: Option<Arc<str>>,
    /// The caller asked not to be shown.
    pub restricted: bool,
}

/// The state of a leg (protocol §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegState {
    /// Off hook, nothing dialled.
    Dialtone,
    /// Digits are there, before the call is routed.
    Dialing,
    /// Routed.
    Proceeding,
    /// The far end rings.
    Ringback,
    /// A new call at this line; ports and route points wait for their application.
    Offering,
    /// Accepted.
    Ringing,
    /// Answered.
    Connected,
    /// On hold here.
    Held,
    /// Busy, reorder and the like.
    Failed,
    /// Gone; the last state.
    Disconnected,
}

/// Why a leg came to where it is (protocol §4 `reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are the wire's own
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Normal,
    Redirect,
    Transfer,
    BlindTransfer,
    Conference,
    ForwardAll,
    ForwardBusy,
    ForwardNoAnswer,
    ForwardUnregistered,
    ForwardOnFailure,
    Park,
    Unpark,
    ParkReversion,
    Pickup,
    Barge,
    SilentMonitoring,
}

/// How safe a leg's media and signalling are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    None,
    Authenticated,
    Encrypted,
}

/// A leg as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // field for field the wire's `Leg`
pub struct LegView {
    pub leg: LegId,
    pub call: CallId,
    pub device: DeviceName,
    pub dn: Dn,
    pub state: LegState,
    pub cause: Option<Cause>,
    pub reason: Reason,
    pub calling: Party,
    pub called: Party,
    pub original_called: Option<Party>,
    pub last_redirecting: Option<Party>,
    pub connected: Option<Party>,
    pub consult_of: Option<LegId>,
    pub conference: bool,
    pub remote_in_use: bool,
    pub security: Security,
    pub user_data: Arc<BTreeMap<String, String>>,
}

/// A leg with all that is said of it, for whoever keeps a mirror of its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeLeg {
    /// The leg.
    pub leg: LegView,
    /// The streams that run: input, output.
    pub streams: [Option<Stream>; 2],
    /// It is at a restricted phone or line: applications are told nothing of it.
    pub hidden: bool,
}

/// A line of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // field for field the wire's `Line`
pub struct LineView {
    pub dn: Dn,
    pub partition: Option<PartitionName>,
    pub index: u32,
    pub max_calls: u32,
    pub busy_trigger: u32,
    pub auto_accept: bool,
    pub forward_all: Option<Dn>,
    pub restricted: bool,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // field for field the wire's `Device`
pub struct DeviceView {
    pub name: DeviceName,
    pub kind: DeviceKind,
    pub description: Arc<str>,
    pub pool: Arc<str>,
    pub in_service: bool,
    pub node: Option<crate::ids::NodeName>,
    /// For requests for it; not on the wire.
    pub owner: crate::ids::OwnerEpoch,
    pub registered: bool,
    pub restricted: bool,
    pub opened: bool,
    pub lines: Vec<LineView>,
}
