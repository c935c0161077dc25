//! Why a call can't be set up, or why it ends: what is told of it, and where it began, which decides what follows.

use crate::cause::Cause;

/// A failure, as it is told and as it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) origin: FailureOrigin,
    pub(crate) cause: Cause,
    /// The status of the signalling (a SIP code) where one is to be written unchanged.
    pub(crate) status: Option<u16>,
}

/// Where a failure began. The forwards of a number depend on it (reference §5.1): two failures with one cause may go
/// different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FailureOrigin {
    /// A phone or trunk refused or hung up, or could not be reached.
    FarEnd,
    /// Nobody answered or accepted in time.
    NoAnswer,
    /// The application of a port or route point is gone. CFOF is for this alone.
    ApplicationGone,
    /// A phone, or its line, is no longer where the call is.
    DeviceGone,
    /// An application has decided: it rejected or dropped.
    Decided,
    /// The number leads nowhere, is barred, or leads round and round.
    Routing,
    /// A limit of a line, device, trunk or of the node.
    Limit,
    /// It was asked for, and was not decided in time.
    Overdue,
    /// The ends have no media in common, or nobody gave an address.
    Media,
    /// The node stops.
    Stop,
}

impl Failure {
    /// The call came back to a number, or has been sent on too often.
    pub(crate) const LOOP: Failure =
        Self::new(FailureOrigin::Routing, Cause::EXCHANGE_ROUTING_ERROR).with_status(482);
    /// The node has no room for another leg.
    pub(crate) const NO_ROOM: Failure = Self::new(FailureOrigin::Limit, Cause::SWITCHING_CONGESTION);

    pub(crate) const fn new(origin: FailureOrigin, cause: Cause) -> Self {
        Self { origin, cause, status: None }
    }

    pub(crate) const fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}
