//! What can go wrong, typed: whose fault it is and whether a repeat helps.

use protocol::{CtiError, Symbol};
use std::io;
use std::time::Duration;

/// Why a request of the SDK failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The CTIManager refused it; the symbol says why.
    #[error("{0}")]
    Refused(CtiError),
    /// The connection was lost before the answer came. Whether the request was carried out is not known.
    #[error("the connection was lost before the answer came")]
    ConnectionLost,
    /// There is no connection now; the request was not sent.
    #[error("there is no connection to a CTIManager now")]
    NotConnected,
    /// No answer came in time. Whether the request will be carried out is not known.
    #[error("no answer came in time")]
    Timeout,
    /// More requests wait than may wait; the request was not sent.
    #[error("too many requests wait for their answers")]
    Overloaded,
    /// The request is longer than a message may be (1 MiB); it was not sent.
    #[error("the request is longer than a message may be")]
    TooLong,
    /// The provider is shut down.
    #[error("the provider is shut down")]
    ShutDown,
    /// The CTIManager answered something that this version does not understand.
    #[error("the answer was not understood: {0}")]
    BadAnswer(String),
}

impl Error {
    /// The symbol of a refusal.
    #[must_use]
    pub fn symbol(&self) -> Option<Symbol> {
        match self {
            Error::Refused(error) => Some(error.symbol),
            Error::ConnectionLost
            | Error::NotConnected
            | Error::Timeout
            | Error::Overloaded
            | Error::TooLong
            | Error::ShutDown
            | Error::BadAnswer(_) => None,
        }
    }

    /// Whether the destination of a call can't be reached now, but a caller may be told so and asked for another.
    #[must_use]
    pub fn is_destination(&self) -> bool {
        matches!(
            self.symbol(),
            Some(Symbol::DestinationBusy | Symbol::DestinationUnknown | Symbol::DestinationOutOfService)
        )
    }
}

/// Whether a refusal of `provider.open` may be another answer at another server, or later.
pub(super) fn may_be_taken_later(error: &CtiError) -> bool {
    error.is_retryable() || error.symbol == Symbol::Internal
}

/// Why no provider could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration names no server.
    #[error("no server is configured")]
    NoServer,
    /// The authority, the client certificate or its key can't be used.
    #[error("TLS: {0}")]
    Tls(#[from] security::tls::TlsError),
    /// Not a name or address that a certificate could be checked against.
    #[error("{0:?} is no server name for TLS")]
    ServerName(String),
    /// No server could be reached; the last one's error.
    #[error("{server}: {error}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why.
        error: io::Error,
    },
    /// The server did not answer `provider.open` as the protocol says.
    #[error("{server} is no CTIManager, or it hung up: {what}")]
    NoAnswer {
        /// Which.
        server: String,
        /// What it did.
        what: String,
    },
    /// `provider.open` was refused.
    #[error("{0}")]
    Refused(CtiError),
}

impl ConnectError {
    /// Whether another attempt, with the same configuration, may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            ConnectError::NoServer | ConnectError::Tls(_) | ConnectError::ServerName(_) => false,
            ConnectError::Unreachable { .. } | ConnectError::NoAnswer { .. } => true,
            ConnectError::Refused(error) => may_be_taken_later(error),
        }
    }

    /// Whether all servers of the cluster would say the same, now and later.
    pub(super) fn is_the_clusters_word(&self) -> bool {
        match self {
            ConnectError::Tls(_) => true,
            ConnectError::Refused(error) => !may_be_taken_later(error),
            ConnectError::NoServer
            | ConnectError::ServerName(_)
            | ConnectError::Unreachable { .. }
            | ConnectError::NoAnswer { .. } => false,
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            ConnectError::Refused(error) => error.data.retry_after_ms.map(Duration::from_millis),
            ConnectError::NoServer
            | ConnectError::Tls(_)
            | ConnectError::ServerName(_)
            | ConnectError::Unreachable { .. }
            | ConnectError::NoAnswer { .. } => None,
        }
    }
}
