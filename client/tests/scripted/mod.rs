//! A CTIManager that says what a test tells it to: real sockets, and TLS where asked for.
#![allow(dead_code, missing_docs)] // each test file uses its part of it

use client::provider::{ProviderConfig, Reconnect, Transport};
use client::{Provider, Secret};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

/// One connection of a client, seen by the server.
pub struct Peer {
    stream: BufReader<Box<dyn Stream>>,
    next_seq: u64,
}

/// A request that has come.
#[derive(Debug)]
pub struct Asked {
    pub id: Value,
    pub params: Value,
}

impl Server {
    pub async fn plain() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("binds"), tls: None }
    }

    pub async fn tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self { tls: Some(TlsAcceptor::from(config)), ..Self::plain().await }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().expect("bound").to_string()
    }

    pub async fn accept(&self) -> Peer {
        self.try_accept().await.expect("a client")
    }

    pub async fn try_accept(&self) -> std::io::Result<Peer> {
        let (tcp, _) = self.listener.accept().await?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(acceptor) => Box::new(acceptor.accept(tcp).await?),
        };
        Ok(Peer { stream: BufReader::new(stream), next_seq: 1 })
    }

    /// Accepts a client and opens its session.
    pub async fn open(&self) -> Peer {
        let mut peer = self.accept().await;
        let asked = peer.expect("provider.open").await;
        peer.reply(&asked, opened(json!({}))).await;
        peer
    }
}

impl Peer {
    /// The next request, heartbeats left out; panics unless it is of this method.
    pub async fn expect(&mut self, method: &str) -> Asked {
        loop {
            let request = self.next().await.expect("a request");
            if request["method"] == "provider.heartbeat" && method != "provider.heartbeat" {
                continue;
            }
            assert_eq!(request["method"], method, "{request}");
            return Asked { id: request["id"].clone(), params: request["params"].clone() };
        }
    }

    /// The next message; `None` when the client has closed.
    pub async fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let len = self.stream.read_line(&mut line).await.unwrap_or(0);
        if len == 0 {
            return None;
        }
        let request = protocol::rpc::parse_request(line.as_bytes()).expect("the client writes requests");
        let mut fields: serde_json::Map<String, Value> =
            serde_json::from_str(request.params.expect("params").get())
                .expect("the client's params are an object");
        protocol::methods::take_idem(&mut fields).expect("a key that a server takes");
        let params = serde_json::value::to_raw_value(&fields).expect("an object");
        protocol::Method::parse(&request.method, Some(&params)).expect("params that a server reads");
        Some(serde_json::from_str(&line).expect("the client writes JSON"))
    }

    pub async fn reply(&mut self, asked: &Asked, result: Value) {
        self.write(&json!({"jsonrpc": "2.0", "id": asked.id, "result": result}).to_string()).await;
    }

    pub async fn refuse(&mut self, asked: &Asked, code: i64, symbol: &str) {
        let error = json!({"code": code, "message": "a sentence that helps", "data": {"cti": symbol}});
        self.write(&json!({"jsonrpc": "2.0", "id": asked.id, "error": error}).to_string()).await;
    }

    /// Tells the next event.
    pub async fn event(&mut self, event_type: &str, body: Value) {
        let seq = self.next_seq;
        self.event_numbered(seq, event_type, body).await;
    }

    pub async fn event_numbered(&mut self, seq: u64, event_type: &str, body: Value) {
        let mut params =
            json!({"seq": seq, "time": "2026-11-20T20:01:02.123Z", "type": event_type, "node": "cm1"});
        let members = params.as_object_mut().expect("an object");
        members.extend(body.as_object().expect("an object").clone());
        self.next_seq = seq.wrapping_add(1);
        self.write(&json!({"jsonrpc": "2.0", "method": "event", "params": params}).to_string()).await;
    }

    /// Writes a line as it is.
    pub async fn write(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).await.expect("the client reads");
        self.stream.flush().await.expect("the client reads");
    }
}

/// The answer to `provider.open`, with some members replaced.
pub fn opened(with: Value) -> Value {
    let mut answer = json!({
        "session": "s1", "resumed": false, "next_seq": 1, "heartbeat_ms": 30_000, "resume_grace_ms": 0,
        "node": "cm1", "cluster": "lab", "ctimanagers": [], "device_count": 1,
        "privileges": {"control_all_devices": false, "park_monitoring": false, "calling_number_modification": false,
                       "srtp_keys": false, "secure_connection": false},
    });
    answer.as_object_mut().expect("an object").extend(with.as_object().expect("an object").clone());
    answer
}

pub fn device(name: &str) -> Value {
    json!({
        "name": name, "type": "route_point", "description": "", "pool": "Default", "state": "in_service",
        "node": "cm1", "registered": true, "restricted": false, "opened": true,
        "lines": [{"dn": "5000", "index": 1, "max_calls": 100, "busy_trigger": 100, "auto_accept": false,
                   "forward_all": null, "restricted": false}],
    })
}

pub fn leg(id: &str, state: &str) -> Value {
    let party = |number: &str| json!({"number": number, "presentation": "allowed"});
    json!({
        "leg": id, "call": "c1", "device": "RP_MAIN", "dn": "5000", "state": state, "reason": "normal",
        "calling": party("2001"), "called": party("5000"), "remote_in_use": false, "security": "none",
    })
}

pub fn config(server: &Server) -> ProviderConfig {
    let password = Secret::from("opensesame".to_owned());
    let config = ProviderConfig::new(&server.address(), Transport::PlainTcp, "ivr1", password, "tests");
    ProviderConfig { reconnect: None, ..config }
}

pub fn coming_back() -> Option<Reconnect> {
    Some(Reconnect {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(10),
        give_up_after: Duration::from_secs(30),
        jitter: client::provider::Jitter::System,
    })
}

/// A provider over plain TCP that does not come back, and the server's end of it.
pub async fn connected() -> (Provider, Peer) {
    let server = Server::plain().await;
    let (provider, peer) = tokio::join!(Provider::connect(config(&server)), server.open());
    (provider.expect("opens"), peer)
}
