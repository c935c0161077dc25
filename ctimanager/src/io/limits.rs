//! The bounds of the shell and its patience with peers, and what every connection's task holds.

use crate::config::Config;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// The bounds of the shell that the configuration sets; a reload exchanges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Applications with an open provider. The core refuses more; the shell needs it to bound its connections.
    pub max_cti_connections: usize,
    /// Applications' connections beyond those, and TLS handshakes at once.
    pub max_unopened_connections: usize,
    /// Of those handshakes, the ones of one address.
    pub max_unopened_connections_per_address: usize,
    /// Passwords that wait to be verified.
    pub max_waiting_passwords: usize,
    /// Threads that verify them; fixed at the start.
    pub password_threads: usize,
    /// Inputs in each of the two queues; fixed at the start.
    pub input_queue: usize,
    /// The bytes of large ones among them; fixed at the start.
    pub input_queue_bytes: usize,
    /// SIP connections.
    pub max_sip_connections: usize,
    /// SIP connections that are being made, handshakes included.
    pub max_sip_connecting: usize,
    /// How long a SIP connection may be without a message; longer than the longest registration, since a phone is called on
    /// the connection on which it registered.
    pub sip_idle: Duration,
    /// HTTP connections, WebSockets not counted.
    pub max_web_connections: usize,
    /// Those of one address.
    pub max_web_connections_per_address: usize,
    /// After how long a silent node is taken to have failed.
    pub node_failure_timeout: Duration,
    /// Bytes of an application's line or message.
    pub max_line_bytes: usize,
    /// Frames that may wait for a slow reader.
    pub session_queue_events: usize,
    /// Frames of a resumed session's log, which are not the reader's fault and may wait on top of those.
    pub session_log_events: usize,
    /// The bytes of the log; the frames that wait may have twice as many.
    pub session_log_bytes: usize,
}

impl Limits {
    /// As a configuration has them.
    pub(super) fn of(config: &Config) -> Self {
        let parameters = &config.parameters;
        Self {
            max_cti_connections: parameters.max_cti_connections as usize,
            max_unopened_connections: parameters.max_unopened_connections as usize,
            max_unopened_connections_per_address: parameters.max_unopened_connections_per_address as usize,
            max_waiting_passwords: parameters.max_waiting_passwords as usize,
            password_threads: parameters.password_threads as usize,
            input_queue: parameters.input_queue as usize,
            input_queue_bytes: usize::try_from(parameters.input_queue_bytes).unwrap_or(usize::MAX),
            max_sip_connections: parameters.max_sip_connections as usize,
            max_sip_connecting: parameters.max_sip_connecting as usize,
            sip_idle: idle(config),
            max_web_connections: parameters.max_web_connections as usize,
            max_web_connections_per_address: parameters.max_web_connections_per_address as usize,
            node_failure_timeout: parameters.node_failure_timeout,
            max_line_bytes: usize::try_from(parameters.max_line_bytes).unwrap_or(usize::MAX),
            session_queue_events: parameters.session_queue_events as usize,
            session_log_events: parameters.session_log_events as usize,
            session_log_bytes: usize::try_from(parameters.session_log_bytes).unwrap_or(usize::MAX),
        }
    }
}

/// How long a SIP connection may be without a message: somewhat longer than any registration, an hour at least.
fn idle(config: &Config) -> Duration {
    const LEAST: Duration = Duration::from_secs(3_600);
    const MORE: Duration = Duration::from_secs(300);
    let own = config.devices.iter().filter_map(|device| device.registration_expiry_maximum);
    own.fold(config.parameters.registration_expiry_maximum.max(LEAST), Duration::max) + MORE
}

/// How long the shell waits for its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a TLS handshake that a peer began; 10 s.
    pub handshake: Duration,
    /// For a SIP connection of our own to be made, its TLS handshake included; 5 s.
    pub sip_connect: Duration,
    /// For a SIP message that has begun on a stream to be whole, and for the first of a connection to come; 30 s.
    pub sip_message: Duration,
    /// For the head of an HTTP request to be whole, counted from the handshake or from the answer before; 5 s.
    pub http_head: Duration,
    /// For all that an HTTP connection does; 60 s.
    pub http_life: Duration,
    /// For somebody who has connected to prove that he is a phone or a trunk; 10 s.
    pub sip_stranger: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            sip_connect: Duration::from_secs(5),
            sip_message: Duration::from_secs(30),
            http_head: Duration::from_secs(5),
            http_life: Duration::from_secs(60),
            sip_stranger: Duration::from_secs(10),
        }
    }
}

/// A connection's task holds one for as long as it lives.
#[derive(Clone, Debug)]
pub(super) struct Alive(#[allow(dead_code, reason = "held for its drop")] mpsc::Sender<()>);

impl Alive {
    /// One to be cloned for each connection, and what ends when no clone is left.
    pub(super) fn new() -> (Self, mpsc::Receiver<()>) {
        let (alive, ended) = mpsc::channel(1);
        (Self(alive), ended)
    }

    /// For connections whose end nobody waits for.
    pub(super) fn of_nobody() -> Self {
        Self::new().0
    }
}

/// A boxed task, for code that spawns on behalf of others.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
