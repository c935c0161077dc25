//! The application of a measurement: NDJSON over TLS, written for speed, on a thread of its own. It answers every call
//! that it is offered and notes when it heard of it.

use super::{BenchError, now};
use protocol::frame::Decoder;
use security::Secret;
use security::tls;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
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
    /// Events of calls and their media.
    events: u64,
}

/// What those heard who only listen.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// The caller's number of each offered call, and when the last of all read of it.
    pub(super) last: HashMap<u64, Instant>,
    /// Events of calls and their media, of each that has stopped.
    pub(super) events: Vec<u64>,
}

/// Looks at what several threads or tasks share; one that panicked has left nothing half done.
pub(super) fn with<S, T>(shared: &Mutex<S>, step: impl FnOnce(&mut S) -> T) -> T {
    step(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Heard {
    fn with<T>(&self, step: impl FnOnce(&mut Counts) -> T) -> T {
        with(&self.0, step)
    }

    /// Events of calls and their media since the last time this was asked.
    pub(super) fn take_events(&self) -> u64 {
        self.with(|counts| std::mem::take(&mut counts.events))
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

/// How an application takes the media of its devices.
#[derive(Clone, Copy, Debug)]
pub(super) enum Media {
    /// At one address.
    Static(SocketAddr),
    /// It names [`super::MEDIA`] for each call. Only so several can have one device open.
    Dynamic,
}

impl Media {
    fn on_the_wire(self) -> Value {
        match self {
            Media::Static(at) => {
                json!({"mode": "static", "ip": at.ip(), "port": at.port(), "codecs": ["PCMU"]})
            }
            Media::Dynamic => json!({"mode": "dynamic", "codecs": ["PCMU"]}),
        }
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

impl EventParams<'_> {
    /// Of a call or its media, and so told to all that have its device open.
    fn is_of_a_call(&self) -> bool {
        self.kind.starts_with("call.") || self.kind.starts_with("media.")
    }
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

fn opened_not(failure: OpenFailure) -> BenchError {
    match failure {
        OpenFailure::Refused(symbol) => BenchError::Application(format!("refused: {symbol}")),
        OpenFailure::Lost => BenchError::Application("the node closed the connection".into()),
    }
}

/// A client that trusts this authority and shows no certificate.
pub(super) fn trusting(ca: &str) -> Result<Arc<ClientConfig>, BenchError> {
    tls::client(ca, None).map_err(|e| BenchError::Application(e.to_string()))
}

/// `data.cti` of an error.
fn symbol(error: &str) -> String {
    let read: Option<Value> = serde_json::from_str(error).ok();
    read.and_then(|error| error["data"]["cti"].as_str().map(str::to_owned)).unwrap_or_default()
}

impl Application {
    /// Connects and opens a provider with a password.
    pub(super) async fn open(
        server: SocketAddr,
        ca: &str,
        user: &str,
        password: &Secret,
    ) -> Result<Self, BenchError> {
        let mut application = Self::connect(server, trusting(ca)?).await?;
        application.log_in(user, Some(password)).await.map_err(opened_not)?;
        Ok(application)
    }

    /// The same with a client certificate: nothing has to be hashed, so that a thousand are quickly there.
    pub(super) async fn open_certified(
        server: SocketAddr,
        config: Arc<ClientConfig>,
        user: &str,
    ) -> Result<Self, BenchError> {
        let mut application = Self::connect(server, config).await?;
        application.log_in(user, None).await.map_err(opened_not)?;
        Ok(application)
    }

    /// Connects.
    pub(super) async fn connect(server: SocketAddr, config: Arc<ClientConfig>) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(server.ip().into());
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let (buffer, out) = (vec![0; READ_BYTES], Vec::new());
        Ok(Self { stream, decoder: Decoder::new(), buffer, out, requests: 0 })
    }

    /// Opens a provider on a connection that has none; without a password its certificate has to do.
    pub(super) async fn log_in(&mut self, user: &str, password: Option<&Secret>) -> Result<(), OpenFailure> {
        let mut open = json!({"user": user, "application": "bench", "heartbeat_ms": HEARTBEAT_MS});
        if let Some(password) = password {
            open["password"] = json!(password.expose());
        }
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

    /// Opens a device.
    pub(super) async fn open_device(&mut self, name: &str, media: Media) -> Result<(), BenchError> {
        self.ask("device.open", &json!({"device": name, "media": media.on_the_wire()}));
        self.answers(1).await
    }

    /// Opens many, several at a time.
    pub(super) async fn open_devices(
        &mut self,
        names: impl Iterator<Item = String>,
        media: Media,
    ) -> Result<usize, BenchError> {
        let names: Vec<String> = names.collect();
        for some in names.chunks(OPENING) {
            for name in some {
                self.ask("device.open", &json!({"device": name, "media": media.on_the_wire()}));
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

    /// Answers calls until told to stop; what the node has said by then is read.
    pub(super) async fn answer_calls(
        mut self,
        heard: Heard,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<(), BenchError> {
        let mut last = None;
        loop {
            tokio::select! {
                read = self.read() => read?,
                // The other end's drop means the same.
                _ = &mut stop, if last.is_none() => last = Some(self.last_question().await?),
            }
            let at = now();
            while let Some(line) = self.decoder.next_line() {
                let frame = parse(&line)?;
                if frame.id.is_some() && frame.id == last {
                    return Ok(());
                }
                if frame.error.is_some() {
                    heard.with(|counts| counts.refused += 1);
                }
                if frame.params.as_ref().is_some_and(EventParams::is_of_a_call) {
                    heard.with(|counts| counts.events += 1);
                }
                let Some(EventParams { kind, leg: Some(leg) }) = frame.params else { continue };
                match kind {
                    "call.offering" => {}
                    "media.open_channel" => {
                        self.set_media(leg.leg);
                        continue;
                    }
                    _ => continue,
                }
                if let Ok(number) = leg.calling.number.parse() {
                    heard.with(|counts| counts.offered.push((number, at)));
                }
                self.answer(leg.leg);
            }
            self.send().await?;
        }
    }

    /// Only listens, until told to stop; what the node has said by then is read.
    pub(super) async fn watch(
        mut self,
        watched: Arc<Mutex<Watched>>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), BenchError> {
        let (mut events, mut last) = (0, None);
        loop {
            tokio::select! {
                read = self.read() => read?,
                // The other end's drop means the same.
                _ = stop.changed(), if last.is_none() => last = Some(self.last_question().await?),
            }
            let at = now();
            while let Some(line) = self.decoder.next_line() {
                let frame = parse(&line)?;
                if frame.id.is_some() && frame.id == last {
                    with(&watched, |watched| watched.events.push(events));
                    return Ok(());
                }
                let Some(event) = frame.params else { continue };
                events += u64::from(event.is_of_a_call());
                let EventParams { kind: "call.offering", leg: Some(leg) } = event else { continue };
                let Ok(number) = leg.calling.number.parse() else { continue };
                with(&watched, |watched| watched.last.insert(number, at));
            }
        }
    }

    /// All that a session is told comes in one order: what was said before is there when this is answered.
    async fn last_question(&mut self) -> io::Result<u64> {
        self.ask("provider.heartbeat", &json!({}));
        self.send().await?;
        Ok(self.requests)
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

    fn set_media(&mut self, leg: &str) {
        let at = super::MEDIA;
        self.ask("call.set_media", &json!({"leg": leg, "ip": at.ip(), "port": at.port()}));
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
