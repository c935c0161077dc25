//! A CTI client written from the protocol's page alone, on plain JSON values: it shares no code with the server and
//! the SDK, so that it is a second opinion about what goes over the wire. It holds all that it is told against the OpenRPC
//! document.

use super::{SOON, document, websocket};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

/// Anything that carries the protocol's lines.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection. It checks by itself that events are numbered 1, 2, 3, … without gaps, and that each event and each answer
/// is as the document says.
pub struct Cti {
    read: BufReader<ReadHalf<Box<dyn Stream>>>,
    write: WriteHalf<Box<dyn Stream>>,
    line: Vec<u8>,
    next_id: u64,
    next_seq: u64,
    backlog: VecDeque<Value>,
    replies: HashMap<u64, Reply>,
    /// The methods of requests without an answer yet, by their ids.
    asked: HashMap<u64, String>,
    closed: bool,
}

/// The answer to a request.
pub type Reply = Result<Value, CtiError>;

/// A refusal: `error` of JSON-RPC.
#[derive(Clone, Debug, PartialEq)]
pub struct CtiError {
    /// JSON-RPC's code.
    pub code: i64,
    /// The symbol in `data.cti`.
    pub symbol: String,
    /// The sentence.
    pub message: String,
    /// All of `data`.
    pub data: Value,
}

impl fmt::Display for CtiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {} {}", self.symbol, self.code, self.message, self.data)
    }
}

/// What may come next.
#[derive(Debug)]
pub enum Message {
    /// The answer to the request of this id.
    Reply(u64, Reply),
    /// An event's `params`.
    Event(Value),
    /// The server has closed the connection.
    Closed,
}

impl Cti {
    /// Connects over TLS; the server must show a certificate of this authority.
    pub async fn tls(address: SocketAddr, ca: &Path) -> Cti {
        Cti::over(Box::new(over_tls(address, ca).await))
    }

    /// Connects over TLS with room for so many bytes that it hasn't read: the kernel keeps no more for it.
    ///
    /// # Panics
    /// If the kernel doesn't like the number.
    pub async fn tls_with_window(address: SocketAddr, ca: &Path, bytes: u32) -> Cti {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("a size that the kernel takes");
        let stream = socket.connect(address).await.unwrap_or_else(|e| panic!("connecting to {address}: {e}"));
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Cti::over(Box::new(tls_on(stream, address, ca).await))
    }

    /// Connects over WebSocket and TLS.
    pub async fn websocket(address: SocketAddr, ca: &Path) -> Cti {
        let stream = over_tls(address, ca).await;
        Cti::over(Box::new(websocket::lines_over(&address.to_string(), stream).await))
    }

    /// Connects without TLS.
    pub async fn plain(address: SocketAddr) -> Cti {
        Cti::over(Box::new(tcp(address).await))
    }

    fn over(stream: Box<dyn Stream>) -> Cti {
        let (read, write) = tokio::io::split(stream);
        Cti {
            read: BufReader::with_capacity(1 << 16, read),
            write,
            line: Vec::new(),
            next_id: 1,
            next_seq: 1,
            backlog: VecDeque::new(),
            replies: HashMap::new(),
            asked: HashMap::new(),
            closed: false,
        }
    }

    /// Opens a provider.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn open(&mut self, user: &str, password: &str) -> Value {
        self.call("provider.open", json!({"user": user, "password": password, "application": "lab"})).await
    }

    /// The OpenRPC document of the server, which a provider has to be open for.
    pub async fn discovered(mut self, user: &str) -> Value {
        self.open(user, super::node::PASSWORD).await;
        let document = self.call("rpc.discover", json!({})).await;
        self.call("provider.close", json!({})).await;
        document
    }

    /// Opens a provider that goes on with a session; the numbers of the events go on, too, where it was resumed.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn resume(&mut self, user: &str, password: &str, session: &Value, last_seq: u64) -> Value {
        let resume = json!({"session": session, "last_seq": last_seq});
        let hello = json!({"user": user, "password": password, "application": "lab", "resume": resume});
        let opened = self.call("provider.open", hello).await;
        self.continues(&opened);
        opened
    }

    /// Events are numbered as this answer to a `provider.open` says.
    ///
    /// # Panics
    /// If it doesn't say it.
    pub fn continues(&mut self, opened: &Value) {
        self.next_seq = opened["next_seq"].as_u64().unwrap_or_else(|| panic!("no next_seq in {opened}"));
    }

    /// The number of the last event.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Sends a request and waits for its result; events that come meanwhile are kept.
    ///
    /// # Panics
    /// If it is refused, or unanswered for ten seconds.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let shown = params.to_string();
        self.try_call(method, params).await.unwrap_or_else(|e| panic!("{method} {shown}: {e}"))
    }

    /// Sends a request that must be refused; gives the refusal.
    ///
    /// # Panics
    /// If it succeeds.
    pub async fn refused(&mut self, method: &str, params: Value) -> CtiError {
        match self.try_call(method, params).await {
            Ok(result) => panic!("{method} should have been refused and said {result}"),
            Err(error) => error,
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Panics
    /// If there is none within ten seconds.
    pub async fn try_call(&mut self, method: &str, params: Value) -> Reply {
        let id = self.send(method, params).await;
        self.reply(id, SOON).await
    }

    /// Sends a request without waiting; gives its id.
    pub async fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id, method.to_owned());
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send_line(request.to_string().as_bytes()).await;
        id
    }

    /// Sends any bytes as a line.
    pub async fn send_line(&mut self, bytes: &[u8]) {
        // One write a message. That the server has gone shows when the answer is missing.
        let _ = self.write.write_all(&[bytes, b"\n"].concat()).await;
        let _ = self.write.flush().await;
    }

    /// Waits for the answer to a request sent before.
    ///
    /// # Panics
    /// If there is none within the time.
    pub async fn reply(&mut self, id: u64, within: Duration) -> Reply {
        let deadline = Instant::now() + within;
        loop {
            if let Some(reply) = self.replies.remove(&id) {
                return reply;
            }
            match self.receive(deadline).await {
                Some(Message::Reply(of, reply)) => {
                    self.replies.insert(of, reply);
                }
                Some(Message::Event(event)) => self.backlog.push_back(event),
                Some(Message::Closed) => {
                    panic!("the server closed the connection before it answered request {id}")
                }
                None => panic!("request {id} unanswered for {within:?}"),
            }
        }
    }

    /// The next event of this type for which `matches` holds; those before it are kept.
    ///
    /// # Panics
    /// If there is none within the time; shows what came instead.
    pub async fn expect_event(
        &mut self,
        kind: &str,
        matches: impl Fn(&Value) -> bool,
        within: Duration,
    ) -> Value {
        let deadline = Instant::now() + within;
        let mut looked_at = 0;
        loop {
            let found = self.backlog.iter().skip(looked_at).position(|e| e["type"] == kind && matches(e));
            if let Some(at) = found {
                return self.backlog.remove(looked_at + at).expect("found just now");
            }
            looked_at = self.backlog.len();
            match self.receive(deadline).await {
                Some(Message::Event(event)) => self.backlog.push_back(event),
                Some(Message::Reply(of, reply)) => {
                    self.replies.insert(of, reply);
                }
                Some(Message::Closed) => panic!("closed before {kind}; there were {}", self.shown_backlog()),
                None => panic!("no {kind} within {within:?}; there were {}", self.shown_backlog()),
            }
        }
    }

    /// The next event of this type, whatever it is about.
    pub async fn expect(&mut self, kind: &str) -> Value {
        self.expect_event(kind, |_| true, SOON).await
    }

    /// The next event of this type about this leg.
    pub async fn expect_leg(&mut self, kind: &str, leg: &Value) -> Value {
        self.expect_event(kind, |event| leg_of(event) == *leg, SOON).await
    }

    /// Whatever comes next, in the order of the wire; `None` when the time is over. Events that were kept come first.
    pub async fn next(&mut self, within: Duration) -> Option<Message> {
        match self.backlog.pop_front() {
            Some(event) => Some(Message::Event(event)),
            None => self.receive(Instant::now() + within).await,
        }
    }

    /// The events that were kept so far.
    #[must_use]
    pub fn kept(&self) -> &VecDeque<Value> {
        &self.backlog
    }

    /// Takes the oldest of the events that were kept.
    pub fn take_kept(&mut self) -> Option<Value> {
        self.backlog.pop_front()
    }

    /// Waits until the server closes the connection.
    ///
    /// # Panics
    /// If it is still open when the time is over.
    pub async fn expect_closed(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            match self.receive(deadline).await {
                Some(Message::Closed) => return,
                Some(Message::Event(event)) => self.backlog.push_back(event),
                Some(Message::Reply(..)) => {}
                None => panic!("still open after {within:?}"),
            }
        }
    }

    async fn receive(&mut self, deadline: Instant) -> Option<Message> {
        if self.closed {
            return Some(Message::Closed);
        }
        // What was read of a line stays in `self.line` when the time is over in the middle of it.
        let read = timeout_at(deadline, self.read.read_until(b'\n', &mut self.line)).await.ok()?;
        if !matches!(read, Ok(1..)) {
            self.closed = true;
            return Some(Message::Closed);
        }
        let line = std::mem::take(&mut self.line);
        assert!(line.len() <= protocol::frame::MAX_LINE_BYTES, "a line of {} bytes", line.len());
        let message: Value = serde_json::from_slice(&line)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(&line)));
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        if message["method"] == "event" {
            let event = message["params"].clone();
            document::check_event(&event).unwrap_or_else(|why| panic!("{event}: {why}"));
            return Some(Message::Event(self.numbered(event)));
        }
        let id = message["id"].as_u64().unwrap_or(0);
        if let Some(method) = self.asked.remove(&id) {
            let checked = match message.get("error") {
                None => document::check_result(&method, &message["result"]),
                Some(error) => document::check_error(&method, error),
            };
            checked.unwrap_or_else(|why| panic!("{method}: {message}: {why}"));
        }
        Some(Message::Reply(id, reply_of(&message)))
    }

    /// Session events bear the next number; events about the connection none.
    fn numbered(&mut self, event: Value) -> Value {
        let kind = event["type"].as_str().unwrap_or_else(|| panic!("an event without a type: {event}"));
        match event["seq"].as_u64() {
            Some(seq) => {
                assert_eq!(seq, self.next_seq, "events are numbered without gaps: {event}");
                self.next_seq += 1;
            }
            None => assert!(kind.starts_with("session."), "an event without a number: {event}"),
        }
        event
    }

    fn shown_backlog(&self) -> String {
        self.backlog.iter().map(|e| format!("\n  {e}")).collect()
    }
}

/// The leg an event is about: `leg.leg`, or `leg` where the event has only the id.
#[must_use]
pub fn leg_of(event: &Value) -> Value {
    if event["leg"].is_object() { event["leg"]["leg"].clone() } else { event["leg"].clone() }
}

/// When the server says that it happened.
///
/// # Panics
/// If it says none.
#[must_use]
pub fn time_of(event: &Value) -> SystemTime {
    let time = event["time"].as_str().and_then(|text| humantime::parse_rfc3339(text).ok());
    time.unwrap_or_else(|| panic!("no time in {event}"))
}

fn reply_of(message: &Value) -> Reply {
    let error = &message["error"];
    if error.is_null() {
        assert!(!message["result"].is_null(), "neither result nor error: {message}");
        return Ok(message["result"].clone());
    }
    Err(CtiError {
        code: error["code"].as_i64().unwrap_or_default(),
        symbol: error["data"]["cti"].as_str().unwrap_or_default().to_owned(),
        message: error["message"].as_str().unwrap_or_default().to_owned(),
        data: error["data"].clone(),
    })
}

/// A TLS connection and nothing on it yet; the server must show a certificate of this authority.
///
/// # Panics
/// If there is none to be had.
pub async fn over_tls(address: SocketAddr, ca: &Path) -> TlsStream<TcpStream> {
    tls_on(tcp(address).await, address, ca).await
}

async fn tls_on(stream: TcpStream, address: SocketAddr, ca: &Path) -> TlsStream<TcpStream> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(ca)));
    let name = ServerName::IpAddress(address.ip().into());
    connector.connect(name, stream).await.unwrap_or_else(|e| panic!("TLS with {address}: {e}"))
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap_or_else(|e| panic!("connecting to {address}: {e}"));
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream
}

/// What a client of a server of this authority brings to a handshake.
///
/// # Panics
/// If the file is none.
#[must_use]
pub fn client_config(ca: &Path) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).unwrap_or_else(|e| panic!("{}: {e}", ca.display()));
    for certificate in certificates {
        roots
            .add(certificate.expect("the authority's file is PEM"))
            .expect("the authority's certificate is one");
    }
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
