//! Where a connection comes from, when it is neither TCP nor TLS of the SDK's own.

use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection: two streams of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is being made. Dropping it gives up.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes connections by a way of its own: through a proxy or a tunnel, or to a CTIManager in the same process. The
/// protocol on it is NDJSON; what protects it is the connector's affair.
pub trait Connector: Send + Sync {
    /// Connects to one of [`super::ProviderConfig::servers`], or of the addresses that a CTIManager has told
    /// (`host:port`). The SDK bounds the time that it may take (`connect_timeout`).
    fn connect(&self, server: &str) -> Connecting;
}
