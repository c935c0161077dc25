//! One connection: connecting, a task that reads, a task that writes, bounded queues to both.

use super::connector::{Connector, Stream};
use super::error::ConnectError;
use super::observer::LostReason;
use protocol::event::Received;
use protocol::frame::Decoder;
use protocol::rpc::{Id, Incoming};
use protocol::{CtiError, Frame};
use rustls::pki_types::ServerName;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Frames that may wait to be written, and messages that may wait to be looked at. A full reading queue stops the
/// reading, and TCP tells the server.
const MAX_QUEUED: usize = 1_024;

const READ_BYTES: usize = 16 * 1024;

/// How connections are made.
#[derive(Clone)]
pub(super) enum Dialer {
    Plain,
    Tls { config: Arc<rustls::ClientConfig>, server_name: Option<String> },
    Through(Arc<dyn Connector>),
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialer::Plain => "Plain",
            Dialer::Tls { .. } => "Tls",
            Dialer::Through(_) => "Through",
        })
    }
}

/// What a server sent, or the end.
#[derive(Debug)]
pub(super) enum Inbound {
    Reply { id: Option<Id>, outcome: Result<Box<RawValue>, CtiError> },
    Event(Received),
    Unreadable(String),
    End(LostReason),
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Link {
    outbound: mpsc::Sender<Frame>,
    inbound: mpsc::Receiver<Inbound>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotWritten {
    /// As many wait as may.
    Full,
    /// The connection broke; its reader is about to say so.
    Broken,
}

impl Link {
    /// Connects within `limit`, TLS included.
    pub(super) async fn connect(
        server: &str,
        dialer: &Dialer,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let unreachable = |error| ConnectError::Unreachable { server: server.to_owned(), error };
        let stream = dial(server, dialer)?;
        let timed_out = |_| unreachable(io::ErrorKind::TimedOut.into());
        let stream = tokio::time::timeout(limit, stream).await.map_err(timed_out)?.map_err(unreachable)?;
        Ok(Self::over(stream))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (outbound, frames) = mpsc::channel(MAX_QUEUED);
        let (messages, inbound) = mpsc::channel(MAX_QUEUED);
        let reader = tokio::spawn(read_all(read, messages));
        let writer = tokio::spawn(write_all(write, frames));
        Self { outbound, inbound, reader, writer }
    }

    /// Queues a frame; it never waits.
    pub(super) fn send(&self, frame: Frame) -> Result<(), NotWritten> {
        self.outbound.try_send(frame).map_err(|error| match error {
            TrySendError::Full(_) => NotWritten::Full,
            TrySendError::Closed(_) => NotWritten::Broken,
        })
    }

    /// A message that has been read already.
    pub(super) fn waiting(&mut self) -> Option<Inbound> {
        self.inbound.try_recv().ok()
    }

    /// The next message; the last one is [`Inbound::End`]. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Inbound {
        self.inbound.recv().await.unwrap_or(Inbound::End(LostReason::EndOfFile))
    }

    /// Writes what is queued, for `limit` at most, and closes.
    pub(super) async fn finish(mut self, limit: Duration) {
        // The writer ends with its queue.
        self.outbound = mpsc::channel(1).0;
        let _ = tokio::time::timeout(limit, &mut self.writer).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

fn dial<'a>(
    server: &'a str,
    dialer: &'a Dialer,
) -> Result<impl Future<Output = io::Result<Box<dyn Stream>>> + 'a, ConnectError> {
    let name = match dialer {
        Dialer::Plain | Dialer::Through(_) => None,
        Dialer::Tls { server_name, .. } => {
            let name = server_name.clone().unwrap_or_else(|| host(server).to_owned());
            Some(ServerName::try_from(name.clone()).map_err(|_| ConnectError::ServerName(name))?)
        }
    };
    Ok(async move {
        if let Dialer::Through(connector) = dialer {
            return connector.connect(server).await;
        }
        let tcp = TcpStream::connect(server).await?;
        tcp.set_nodelay(true)?;
        Ok(match (dialer, name) {
            (Dialer::Tls { config, .. }, Some(name)) => {
                Box::new(TlsConnector::from(config.clone()).connect(name, tcp).await?) as Box<dyn Stream>
            }
            _ => Box::new(tcp),
        })
    })
}

/// `host` of `host:port` and `[address]:port`.
fn host(server: &str) -> &str {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn read_all(mut stream: impl AsyncRead + Unpin, messages: mpsc::Sender<Inbound>) {
    let (mut decoder, mut buffer) = (Decoder::new(), vec![0; READ_BYTES]);
    let end = loop {
        let (pushed, ended) = match stream.read(&mut buffer).await {
            Ok(0) => (Ok(()), Some(LostReason::EndOfFile)),
            Ok(len) => (decoder.push(&buffer[..len]), None),
            Err(error) => (Ok(()), Some(LostReason::Network(error.kind()))),
        };
        let mut failed = ended.or(pushed.err().map(|e| LostReason::Protocol(e.to_string())));
        while let Some(line) = decoder.next_line() {
            match message(&line) {
                Ok(message) => {
                    if messages.send(message).await.is_err() {
                        return;
                    }
                }
                Err(what) => {
                    failed = Some(LostReason::Protocol(what));
                    break;
                }
            }
        }
        if let Some(reason) = failed {
            break reason;
        }
    };
    // Nobody listens any more when this fails.
    let _ = messages.send(Inbound::End(end)).await;
}

/// An event that can't be read is one event lost; a message that can't be read is a server that can't be understood.
fn message(line: &[u8]) -> Result<Inbound, String> {
    Ok(match Incoming::parse(line).map_err(|e| e.to_string())? {
        Incoming::Reply { id, outcome } => Inbound::Reply { id, outcome },
        Incoming::Event(params) => match Received::parse(&params) {
            Ok(received) => Inbound::Event(received),
            Err(error) => Inbound::Unreadable(error.to_string()),
        },
        Incoming::Unknown(method) => Inbound::Unreadable(method),
    })
}

async fn write_all(mut stream: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Frame>) {
    let mut bytes = Vec::with_capacity(1_024);
    while let Some(frame) = frames.recv().await {
        bytes.clear();
        frame.encode_line(&mut bytes);
        while let Ok(more) = frames.try_recv() {
            more.encode_line(&mut bytes);
        }
        // The reader notices what broke and says so.
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOLD: &str = r#"{"jsonrpc":"2.0","method":"event","params":{"seq":7,"time":"2026-11-20T20:01:02.123Z",
        "type":"call.dtmf","node":"cm1","digit":"7","leg":{"leg":"l1","call":"c1","device":"RP_MAIN","dn":"5000",
        "state":"connected","reason":"normal","calling":{"number":"2001","presentation":"allowed"},
        "called":{"number":"5000","presentation":"allowed"},"remote_in_use":false,"security":"none"}}}"#;

    #[test]
    fn an_event_is_read() {
        let read = message(TOLD.as_bytes());
        assert!(matches!(read, Ok(Inbound::Event(Received::Event { seq: 7, .. }))), "{read:?}");
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = message(&line);
        }

        /// Close to the truth, where a reader's assumptions are.
        #[test]
        fn any_change_of_an_event_is_survived(at in 0..TOLD.len(), len in 0usize..12, instead in "[\\x00-\\x7f]{0,12}") {
            let mut line = TOLD.as_bytes().to_vec();
            line.splice(at..(at + len).min(TOLD.len()), instead.bytes());
            match message(&line) {
                Ok(Inbound::Event(_) | Inbound::Unreadable(_) | Inbound::Reply { .. }) | Err(_) => {}
                Ok(Inbound::End(reason)) => prop_assert!(false, "a line is no end: {reason:?}"),
            }
        }
    }
}
