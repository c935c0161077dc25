//! The door of the node: what the shell tells it and what the shell shall do.
//!
//! The shell (`io`) owns sockets, files, clock and entropy. It hands the node one [`Input`] at a time, each with the
//! time, and carries out the [`Output`]s in their order.

use super::call_manager::sip_legs::Certified;
use super::cti_manager::reload::Switch;
use super::kept::{Kept, Record};
use super::registrations::{RegistrationNews, RegistrationRecord};
use cluster::{Heartbeat, LinkId};
use device_model::Transition;
use security::Secret;
use security::shares::{News, Share, Who};
use security::tls::Serial;
use serde_json::Value;
use sip::Hop;
use sip::port::ConnectionId as SipConnection;
use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use protocol::Frame;
/// One CTI connection (TLS, plain TCP or WebSocket) of the node's life; the shell numbers them and uses none twice.
pub use protocol::session::ConnectionId as CtiConnection;

/// Names one question of an administrator until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdminToken(pub u64);

/// How an application is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CtiTransport {
    /// NDJSON over TLS, or WebSocket over TLS; with the CN of a verified client certificate.
    Tls {
        /// The certificate's CN.
        client_cn: Option<Arc<str>>,
        /// When that certificate ends, seconds since the epoch.
        not_after: Option<u64>,
        /// The number by which its issuer may take it back.
        serial: Option<Serial>,
    },
    /// NDJSON over plain TCP.
    Plain,
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// One SIP message: a datagram, or what the framer cut from a stream.
    Sip {
        /// The way it came.
        hop: Hop,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The peer of a SIP connection has shown a certificate; before its first message.
    SipCertified(SipConnection, Certified),
    /// Whose a connection is, the shell asks: the time of who has proved himself on it is over, or we have made it ourselves.
    /// [`Output::SipKnown`] answers; nothing, if it is nobody's any more.
    SipWhose {
        /// The connection.
        hop: Hop,
        /// Whose it was.
        who: Option<Who>,
    },
    /// What the shell has refused for want of a share.
    Refused(Vec<News>),
    /// A SIP connection ended, or there was no room for it.
    SipClosed(Hop),
    /// A SIP connection could not be made.
    SipUnreachable(Hop),
    /// A datagram to this peer did not arrive (ICMP).
    SipUndelivered {
        /// The way it went.
        hop: Hop,
        /// Its beginning, as far as it was quoted; maybe nothing.
        quoted: Vec<u8>,
    },
    /// An application connected.
    CtiOpened {
        /// The connection.
        connection: CtiConnection,
        /// From where.
        peer: SocketAddr,
        /// How.
        transport: CtiTransport,
    },
    /// One frame from an application: a line without its end, or a WebSocket text message.
    CtiFrame(CtiConnection, Vec<u8>),
    /// A line over the limit came: the connection is to be told and closed.
    CtiLineTooLong(CtiConnection),
    /// The application's end of the connection is gone.
    CtiClosed(CtiConnection),
    /// The connection's queue was full when the node wrote to it: the reader is too slow.
    CtiOverflow(CtiConnection),
    /// A quarter of the connection's queue waits for the reader (true), or no more than an eighth of it again.
    CtiBehind(CtiConnection, bool),
    /// The answer to [`Output::CheckPassword`].
    PasswordChecked(CtiConnection, bool),
    /// The other answer: too many checks wait already, nothing was verified; the application may try again.
    PasswordBusy(CtiConnection),
    /// A new, checked configuration. [`Output::InForce`] says when it is in force.
    Configure(Box<Switch>),
    /// What was kept of the node's earlier life, maybe nothing, and why it could not be read if so. It comes before any
    /// other input, if sessions are to outlive the process; from then on the node says [`Output::Persist`].
    Restored(Box<Kept>, Option<String>),
    /// Of the keeping of registrations.
    Registrations(RegistrationNews),
    /// What [`Output::Persist`] said is not kept any more, and why: records are said no more.
    StoreLost(String),
    /// Records are kept again. Nothing of before is: the node says all that there is.
    StoreReady,
    /// Of the other nodes, and of who would be one.
    Nodes(NodesInput),
    /// An administrator's question or order.
    Admin(AdminToken, AdminRequest),
    /// How far behind the shell is: the age of the oldest unread input. New calls are refused while it is too great.
    Pressure(Duration),
    /// End everything in order; [`Output::Stopped`] follows within two seconds.
    Stop,
    /// A time that `next_timeout` named has come.
    Timeout,
}

/// What the shell hears of the other nodes.
#[derive(Debug)]
pub enum NodesInput {
    /// A link to one of them, and what it brings.
    Link(cluster::Input),
    /// Who connected, or answered, in the place of a node and is none.
    Refused {
        /// From where, or where.
        address: IpAddr,
        /// Why, in a word.
        reason: &'static str,
    },
}

/// What the shell shall do for the other nodes.
#[derive(Debug)]
pub enum NodesOutput {
    /// Send this on each of these links. A link that takes nothing now leaves it out.
    Send(Vec<LinkId>, Arc<Heartbeat>),
    /// Close a link.
    Close(LinkId),
    /// Another process of this node is up: end this one at once, without a goodbye to anybody.
    Yield,
}

/// What an administrator asks of a running node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the commands of the command line
pub enum AdminRequest {
    Status,
    Devices,
    Calls,
    Sessions,
    Alarms,
    Nodes,
    /// The numbers of [`AdminRequest::Status`], and how many conditions of each alarm stand; for `/metrics`.
    Metrics,
    Explain {
        device: String,
        user: String,
    },
    ExplainNumber {
        number: String,
        from: String,
        line: Option<String>,
    },
    Dependencies {
        dn: String,
    },
    Drain,
    Stop,
}

/// What the shell shall do.
#[derive(Debug)]
pub enum Output {
    /// Send a SIP message.
    Sip {
        /// The way.
        hop: Hop,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Make a SIP connection if none is open to there.
    SipConnect(Hop),
    /// Close a SIP connection that broke the protocol.
    SipClose(SipConnection),
    /// How much everybody has from now on.
    SipShares(Vec<(Share, u64)>),
    /// What comes this way is this one's until then (`None`: for good): it goes before what strangers send.
    SipKnown {
        /// The way.
        hop: Hop,
        /// A device, a trunk or a listed proxy.
        who: Who,
        /// Until when. Of a connection the shell asks again then ([`Input::SipWhose`]).
        until: Option<Instant>,
    },
    /// Somebody has proved who he is from there: more new connections may come from this address.
    Met(IpAddr),
    /// The same of these addresses, for good, and of no others: an administrator has named them.
    Named(Vec<IpAddr>),
    /// Write a frame. The queue behind it is bounded by `session_queue_events`; when it is full the shell answers
    /// [`Input::CtiOverflow`] and drops the frame (the session's log has it).
    Cti(CtiConnection, Frame),
    /// Close a CTI connection once what was written before is out, or after one second.
    CtiClose(CtiConnection),
    /// Verify a password against an argon2 hash, off the owner's thread, a bounded number at once.
    CheckPassword {
        /// Whose.
        connection: CtiConnection,
        /// PHC string; for an unknown user a hash that nothing matches, so that the time taken is the same.
        hash: Arc<str>,
        /// What the application sent.
        password: Secret,
        /// The user was let in from there before: it goes before those of strangers.
        at_home: bool,
    },
    /// For the other nodes.
    Nodes(NodesOutput),
    /// The answer to [`Input::Admin`].
    Admin(AdminToken, Result<Value, String>),
    /// Keep these, all or none of them. What is written to applications from here on, in this step and later ones, tells of
    /// it: it may leave only when they are kept. SIP doesn't wait.
    Persist(Vec<Record>),
    /// Keep these of the phones' registrations, in their order. It comes before the answers of its step, and no other waits.
    Registrations(Vec<RegistrationRecord>),
    /// Something to log and count.
    Report(Report),
    /// The record of a change of state: a line of the log at DEBUG, and a count.
    Transition {
        /// When.
        at: SystemTime,
        /// What, of whom, and why.
        transition: Transition,
    },
    /// Something for the audit log: who did what to which device, by which rule.
    Audit(security::audit::AuditRecord),
    /// The configuration that was handed over first of those that were not in force yet is so from this step on.
    InForce,
    /// Nobody needs this any more, and to drop it takes time: let another thread do it.
    Discard(Arc<dyn Any + Send + Sync>),
    /// All is ended; the process may go.
    Stopped,
}

/// How grave (syslog numbers in CUCM's alarm tables, reference §10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Severity {
    Critical,
    Error,
    Warning,
    Informational,
    Debug,
}

/// One event that is a log line, a metric and a test hook at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// CUCM's alarm name where it has one (`CtiProviderOpened`), else a name of the same style.
    pub name: &'static str,
    /// How grave.
    pub severity: Severity,
    /// Parameters; never a secret, and a person's number only at [`Severity::Debug`].
    pub parameters: Vec<(&'static str, String)>,
}
