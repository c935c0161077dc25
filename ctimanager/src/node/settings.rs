//! What the node takes of a configuration, in the values that its rooms use.

use super::bridge::TrunkPeer;
use device_model::plan::Plan;
use device_model::{NodeName, TrunkName};
use security::Policy;
use std::sync::Arc;
use std::time::Duration;

/// A configuration as one node sees it. Immutable; a reload makes another.
pub struct Settings {
    /// The cluster's name, which is the digest realm.
    pub cluster: Arc<str>,
    /// This node.
    pub node: NodeName,
    /// Where applications may reconnect, in order (`host:port`, TLS).
    pub ctimanagers: Vec<Arc<str>>,
    /// This node's SIP listeners.
    pub sip_listen: Vec<(sip::Transport, std::net::SocketAddr)>,
    /// Devices, numbers, trunks, patterns, timers.
    pub plan: Arc<Plan>,
    /// Users and groups.
    pub policy: Arc<Policy>,
    /// Phones' accounts by digest user.
    pub accounts: Vec<(Arc<str>, sip::Account)>,
    /// Trunks' addresses.
    pub trunks: Vec<(TrunkName, TrunkPeer)>,
    /// The service parameters that sessions use.
    pub sessions: SessionParameters,
}

/// Service parameters of the CTI side (administrator's contract §1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the configuration's own
pub struct SessionParameters {
    pub max_cti_connections: usize,
    pub heartbeat_minimum: Duration,
    pub heartbeat_maximum: Duration,
    pub resume_grace: Duration,
    pub resume_grace_maximum: Duration,
    pub log_events: usize,
    pub log_bytes: usize,
    pub queue_events: usize,
    pub max_requests_per_second: u32,
    pub max_login_failures_per_minute: u32,
    pub max_unopened_connections: usize,
}
