//! The shell: the only place of the server with sockets, files, clock, entropy and tokio.
//!
//! Each socket has a task that reads it into one of two bounded queues (SIP, and all the rest, so that neither side can
//! crowd the other out). One owner task takes the inputs from there, hands them to the [`Core`], and carries out what
//! the core decides. It never waits for a socket: whatever can't be written at once goes into the bounded outbox of a
//! connection, whose own task writes it.

mod bind;
mod certificates;
mod cluster;
mod control;
mod counters;
mod cti;
mod limits;
mod logging;
mod lookup;
mod metrics;
mod outbox;
mod owner;
mod password;
mod places;
mod queue;
mod registrations;
mod reload;
mod report;
mod run;
mod sip;
mod start;
mod store;
mod tls;
mod unix;
mod web;

pub use bind::{BindError, Bound, Listen, bind};
pub use certificates::{
    CertificateError, REVOCATION_LISTS, of_node as certificates_of_node, of_parts as certificates_of_parts,
};
pub use cluster::{Peer as ClusterPeer, peers_of as cluster_peers};
pub use control::{Answer, Request};
pub use counters::Counters;
pub use limits::{Limits, Patience};
pub use logging::{LogFormat, Logging, USUAL_LOG, report_panics, start_logging};
pub use registrations::{read_journal, write_journal};
pub use reload::{FileReload, Reload, Reloaded};
pub use run::{Keeping, KeptRegistrations, Running, Setup, StopCause, dump_no_core, raise_file_limit, start};
pub use start::{Launch, RunOptions, StartError, listen, run, run_core};
pub use tls::{ClusterTls, SipPeers, TlsConfigs};
pub use unix::Address as UnixAddress;
pub use web::WebDoor;

use crate::node::{Input, Output};
use std::time::{Instant, SystemTime};

/// What the owner task drives: the node, or a stand-in of a test. It decides at once and never waits.
pub trait Core: Send + 'static {
    /// Takes one input and appends what shall be done, in order.
    fn handle(&mut self, now: Instant, wall: SystemTime, input: Input, out: &mut Vec<Output>);
    /// When [`Input::Timeout`] is wanted next.
    fn next_timeout(&self) -> Option<Instant>;
}

/// Watches what goes in and out of the core, in order, on the owner's task: it must not block.
pub trait Tap: Send + Sync + 'static {
    /// Before the core handles `input`.
    fn input(&self, now: Instant, input: &Input);
    /// Before the shell carries out `output`.
    fn output(&self, now: Instant, output: &Output);
}

/// The clock. Everything else gets the time as an argument.
#[allow(clippy::disallowed_methods, reason = "the shell is where time comes from")]
fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for what people and certificates read.
#[allow(clippy::disallowed_methods, reason = "the shell is where time comes from")]
fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
