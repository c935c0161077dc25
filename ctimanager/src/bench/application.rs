//! The application of a measurement: NDJSON over TLS, written for speed, on a thread of its own. It answers every call
//! that it is offered and notes when it heard of it.

use super::{BenchError, now};
use protocol::frame::Decoder;
use security::Secret;
use security::tls;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long any answer may take before the measurement is off.
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests under way at once while devices are opened.
const OPENING: usize = 100;
/// Longer than any step: an application that only listens sends no heartbeats here.
const HEARTBEAT_MS: u64 = 600_000;
const READ_BYTES: usize = 64 * 1024;

/// What it heard, for whoever evaluates.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// The caller's number of each offered call, and when its event was read.
    offered: Vec<(u64, Instant)>,
    refused: u64,
}

impl Heard {
    fn with<T>(&self, step: impl FnOnce(&mut Counts) -> T) -> T {
        step(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The calls that were offered since the last time this was asked.
    pub(super) fn take_offered(&self) -> Vec<(u64, Instant)> {
        self.with(|counts| std::mem::take(&mut counts.offered))
    }

    /// Requests of the application that were refused since the last time this was asked: the call had gone.
    pub(super) fn take_refused(&self) -> u64 {
        self.with(|counts| std::mem::take(&mut counts.refused))
    }
}

/// An application with an open provider.
pub(super) struct Application {
    stream: TlsStream<TcpStream>,
    decoder: Decoder,
    buffer: Vec<u8>,
    out: Vec<u8>,
    requests: u64,
}

/// What is needed of a frame. All else is skipped unread.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(default)]
    id: Option<u64>,
    #[serde(borrow, default)]
    error: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    params: Option<EventParams<'a>>,
}

#[derive(Deserialize)]
struct EventParams<'a> {
    #[serde(rename = "type", default)]
    kind: &'a str,
    #[serde(borrow, default)]
    leg: Option<OfferedLeg<'a>>,
}

#[derive(Deserialize)]
struct OfferedLeg<'a> {
    leg: &'a str,
    #[serde(borrow)]
    calling: CallingParty<'a>,
}

#[derive(Deserialize)]
struct CallingParty<'a> {
    number: &'a str,
}

/// Why a provider was not opened.
#[derive(Debug)]
pub(super) enum OpenFailure {
    /// The error's symbol.
    Refused(String),
    /// The connection was closed, or nobody answers.
    Lost,
}

/// `data.cti` of an error.
fn symbol(error: &str) -> String {
    let read: Option<Value> = serde_json::from_str(error).ok();
    read.and_then(|error| error["data"]["cti"].as_str().map(str::to_owned)).unwrap_or_default()
}

impl Application {
    /// Connects and opens a provider.
    pub(super) async fn open(
        server: SocketAddr,
        ca: &str,
        user: &str,
        password: &Secret,
    ) -> Result<Self, BenchError> {
        let mut application = Self::connect(server, ca).await?;
        application.log_in(user, password).await.map_err(|failure| match failure {
            OpenFailure::Refused(symbol) => BenchError::Application(format!("refused: {symbol}")),
            OpenFailure::Lost => BenchError::Application("the node closed the connection".into()),
        })?;
        Ok(application)
    }

    /// Connects.
    pub(super) async fn connect(server: SocketAddr, ca: &str) -> Result<Self, BenchError> {
        let failed = |error: &dyn std::fmt::Display| BenchError::Application(error.to_string());
        let config = tls::client(ca, None).map_err(|e| failed(&e))?;
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(server.ip().into());
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let (buffer, out) = (vec![0; READ_BYTES], Vec::new());
        Ok(Self { stream, decoder: Decoder::new(), buffer, out, requests: 0 })
    }

    /// Opens a provider on a connection that has none.
    pub(super) async fn log_in(&mut self, user: &str, password: &Secret) -> Result<(), OpenFailure> {
        let open = json!({"user": user, "password": password.expose(), "application": "bench", "heartbeat_ms": HEARTBEAT_MS});
        self.ask("provider.open", &open);
        self.send().await.map_err(|_| OpenFailure::Lost)?;
        loop {
            while let Some(line) = self.decoder.next_line() {
                let frame = parse(&line).map_err(|_| OpenFailure::Lost)?;
                match (frame.id, frame.error) {
                    (Some(_), None) => return Ok(()),
                    (Some(_), Some(error)) => return Err(OpenFailure::Refused(symbol(error.get()))),
                    // `session.closed`: the ten seconds are over.
                    (None, _) => {}
                }
            }
            match timeout(PATIENCE, self.read()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(OpenFailure::Lost),
            }
        }
    }

    /// Opens a device with static media.
    pub(super) async fn open_device(&mut self, name: &str, media: SocketAddr) -> Result<(), BenchError> {
        self.ask("device.open", &static_media(name, media));
        self.answers(1).await
    }

    /// Opens many, several at a time.
    pub(super) async fn open_devices(
        &mut self,
        names: impl Iterator<Item = String>,
        media: SocketAddr,
    ) -> Result<usize, BenchError> {
        let names: Vec<String> = names.collect();
        for some in names.chunks(OPENING) {
            for name in some {
                self.ask("device.open", &static_media(name, media));
            }
            self.answers(some.len()).await?;
        }
        Ok(names.len())
    }

    fn ask(&mut self, method: &str, params: &Value) {
        self.requests += 1;
        let request = json!({"jsonrpc": "2.0", "id": self.requests, "method": method, "params": params});
        self.out.extend_from_slice(request.to_string().as_bytes());
        self.out.push(b'\n');
    }

    /// Sends what is asked and waits for so many good answers; events pass by.
    async fn answers(&mut self, mut wanted: usize) -> Result<(), BenchError> {
        self.send().await?;
        while wanted > 0 {
            match timeout(PATIENCE, self.read()).await {
                Ok(read) => read?,
                Err(_) => return Err(BenchError::Application("no answer came".into())),
            }
            while let Some(line) = self.decoder.next_line() {
                let frame = parse(&line)?;
                if let Some(error) = frame.error {
                    return Err(BenchError::Application(error.get().to_owned()));
                }
                wanted = wanted.saturating_sub(usize::from(frame.id.is_some()));
            }
        }
        Ok(())
    }

    /// Answers calls until told to stop.
    pub(super) async fn answer_calls(
        mut self,
        heard: Heard,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<(), BenchError> {
        loop {
            tokio::select! {
                read = self.read() => read?,
                // The other end's drop means the same.
                _ = &mut stop => return Ok(()),
            }
            let at = now();
            while let Some(line) = self.decoder.next_line() {
                let frame = parse(&line)?;
                if frame.error.is_some() {
                    heard.with(|counts| counts.refused += 1);
                }
                let Some(EventParams { kind: "call.offering", leg: Some(leg) }) = frame.params else {
                    continue;
                };
                if let Ok(number) = leg.calling.number.parse() {
                    heard.with(|counts| counts.offered.push((number, at)));
                }
                self.answer(leg.leg);
            }
            self.send().await?;
        }
    }

    fn answer(&mut self, leg: &str) {
        use std::io::Write as _;
        self.requests += 1;
        // Leg ids are plain text. Writing into a vector can't fail.
        let _ = writeln!(
            self.out,
            r#"{{"jsonrpc":"2.0","id":{},"method":"call.answer","params":{{"leg":"{leg}"}}}}"#,
            self.requests
        );
    }

    async fn read(&mut self) -> Result<(), BenchError> {
        let read = self.stream.read(&mut self.buffer).await?;
        if read == 0 {
            return Err(BenchError::Application("the node closed the connection".into()));
        }
        self.decoder
            .push(&self.buffer[..read])
            .map_err(|_| BenchError::Application("the node sent an endless line".into()))
    }

    async fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await?;
            self.out.clear();
        }
        Ok(())
    }
}

fn parse(line: &[u8]) -> Result<Incoming<'_>, BenchError> {
    serde_json::from_slice(line).map_err(|e| BenchError::Application(format!("a frame can't be read: {e}")))
}

fn static_media(device: &str, media: SocketAddr) -> Value {
    json!({"device": device, "media": {"mode": "static", "ip": media.ip(), "port": media.port(), "codecs": ["PCMU"]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_frame_only_the_needed_is_read() {
        let offering = br#"{"jsonrpc":"2.0","method":"event","params":{"seq":1,"type":"call.offering",
            "leg":{"leg":"l-1","calling":{"number":"1000007","name":null},"state":"offering"}}}"#;
        let event = parse(offering).expect("it can be read").params.expect("an event");
        let leg = event.leg.expect("a leg");
        assert_eq!((event.kind, leg.leg, leg.calling.number), ("call.offering", "l-1", "1000007"));
        let answer = parse(br#"{"jsonrpc":"2.0","id":7,"result":{}}"#).expect("it can be read");
        assert!(answer.id == Some(7) && answer.error.is_none() && answer.params.is_none());
    }

    #[test]
    fn a_refusal_is_known_by_its_symbol() {
        assert_eq!(symbol(r#"{"code":-32006,"message":"x","data":{"cti":"RATE_LIMITED"}}"#), "RATE_LIMITED");
        assert_eq!(symbol("[]"), "");
    }
}
