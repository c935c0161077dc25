//! The shell over real sockets, with a stand-in for the core that echoes.

mod abuse;
mod cti;
mod lifecycle;
mod limits;
mod node;
mod persist;
mod sip;
mod web;

use super::*;
use crate::node::{AdminToken, CtiConnection, Frame, Report, Severity};
use ::sip::port::Transport;
use bytes::Bytes;
use security::pki::{Authority, Issued};
use security::shares::Share;
use security::tls::{ClientCertificates, Identity};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Echoes frames and messages. Some have a meaning: the frame `flood N` is answered by N frames, `close` by a goodbye,
/// `password P` by a check of P, `hold` keeps the owner until [`HELD`] is false and `busy N` N milliseconds more; the message `RELAY tcp ADDRESS` is sent on to there,
/// and `BUSY N` keeps the owner as long.
struct Echo {
    open: BTreeSet<CtiConnection>,
    seen: mpsc::Sender<String>,
    /// The hash of the password that is right.
    hash: Arc<str>,
    stop: StopWish,
    stop_at: Option<Instant>,
}

/// How the stand-in takes an order to stop.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum StopWish {
    #[default]
    AtOnce,
    /// When a time has come, as a node does whose peers don't acknowledge.
    Later,
    Never,
}

impl Core for Echo {
    fn handle(&mut self, now: Instant, _wall: SystemTime, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Sip { hop, bytes } => self.sip(hop, bytes, out),
            Input::SipCertified(..) | Input::SipWhose { .. } | Input::Nodes(_) => {}
            Input::Registrations(news) => self.see(format!("{news:?}")),
            Input::SipClosed(hop) | Input::SipUnreachable(hop) => {
                self.see(format!("sip closed {} {:?}", hop.remote, hop.connection))
            }
            Input::SipUndelivered { hop, quoted } => {
                self.see(format!("undelivered {} {}", hop.remote, String::from_utf8_lossy(&quoted)));
            }
            Input::CtiOpened { connection, transport, .. } => {
                self.open.insert(connection);
                self.see(format!("opened {connection:?} {transport:?}"));
            }
            Input::CtiFrame(connection, frame) => self.frame(connection, frame, out),
            Input::CtiLineTooLong(connection) => self.goodbye(connection, "line_too_long", out),
            Input::CtiBehind(..) => {}
            Input::CtiOverflow(connection) => {
                self.see("overflow".into());
                self.goodbye(connection, "slow_consumer", out);
            }
            Input::CtiClosed(connection) => {
                self.open.remove(&connection);
                self.see(format!("closed {connection:?}"));
            }
            Input::PasswordChecked(connection, right) => {
                out.push(write(connection, &format!("right {right}")))
            }
            Input::PasswordBusy(connection) => out.push(write(connection, "busy")),
            Input::Configure(_) => {
                self.see("configure".into());
                out.push(Output::InForce);
            }
            Input::Admin(token, request) => out.push(answer(token, request)),
            Input::Pressure(_) | Input::Refused(_) => {}
            Input::Restored(..) => self.see("restored".into()),
            Input::StoreLost(why) => self.see(format!("store lost: {why}")),
            Input::StoreReady => self.see("store ready".into()),
            Input::Timeout => {
                assert!(self.stop_at.is_some_and(|at| at <= now), "too early");
                self.stop_at = None;
                out.push(Output::Stopped);
            }
            Input::Stop => {
                for connection in std::mem::take(&mut self.open) {
                    out.push(write(connection, "stopping"));
                    out.push(Output::CtiClose(connection));
                }
                match self.stop {
                    StopWish::AtOnce => out.push(Output::Stopped),
                    StopWish::Later => self.stop_at = Some(now + Duration::from_millis(20)),
                    StopWish::Never => {}
                }
            }
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.stop_at
    }
}

fn answer(token: AdminToken, request: crate::node::AdminRequest) -> Output {
    match request {
        crate::node::AdminRequest::Explain { device, user } => {
            Output::Admin(token, Ok(serde_json::json!({"device": device, "user": user})))
        }
        crate::node::AdminRequest::Drain => Output::Admin(token, Err("not here".into())),
        other => Output::Admin(token, Ok(format!("{other:?}").into())),
    }
}

/// Keeps the thread for so many milliseconds.
fn busy(time: &str) {
    let until = now() + Duration::from_millis(time.parse().expect("milliseconds"));
    while now() < until {
        std::hint::spin_loop();
    }
}

static HELD: AtomicBool = AtomicBool::new(false);

impl Echo {
    fn see(&self, what: String) {
        self.seen.try_send(what).expect("a test sees less than the channel holds");
    }

    fn sip(&mut self, hop: ::sip::Hop, bytes: Vec<u8>, out: &mut Vec<Output>) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let first = text.lines().next().unwrap_or_default();
        if first.starts_with("OPTIONS sip:mark") {
            self.see("mark".into());
        }
        if let Some(time) = first.strip_prefix("BUSY ") {
            busy(time);
        }
        if first == "CLOSE" {
            return out.extend(hop.connection.map(Output::SipClose));
        }
        let hop = match first.strip_prefix("RELAY ").and_then(|rest| rest.split_once(' ')) {
            Some((transport, address)) => ::sip::Hop {
                transport: if transport == "tls" { Transport::Tls } else { Transport::Tcp },
                remote: address.trim().parse().expect("an address"),
                connection: None,
                ..hop
            },
            None => hop,
        };
        out.push(Output::Sip { hop, bytes });
    }

    fn frame(&mut self, connection: CtiConnection, frame: Vec<u8>, out: &mut Vec<Output>) {
        let text = String::from_utf8_lossy(&frame).into_owned();
        match text.split_once(' ') {
            Some(("flood", count)) => {
                let count: usize = count.parse().expect("a count");
                out.extend((0..count).map(|n| write(connection, &format!("{n} {}", "x".repeat(1000)))));
            }
            Some(("password", password)) => out.push(Output::CheckPassword {
                connection,
                hash: Arc::clone(&self.hash),
                password: security::Secret::new(password.to_owned()),
                at_home: false,
            }),
            Some(("busy", time)) => {
                self.see("busy".into());
                busy(time);
            }
            _ if text == "hold" => {
                self.see("held".into());
                // The runtime's other tasks go on elsewhere meanwhile.
                tokio::task::block_in_place(|| {
                    while HELD.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                });
            }
            // Something that is to be kept, and the frame that tells of it.
            Some(("keep", _)) => {
                out.push(Output::Persist(vec![crate::node::kept::Record::LegGone(device_model::LegId(1))]));
                out.push(write(connection, &text));
            }
            _ if text == "close" => {
                out.push(Output::Report(Report {
                    name: "Closing",
                    severity: Severity::Debug,
                    parameters: vec![("frame", text)],
                }));
                self.goodbye(connection, "bye", out);
                out.push(write(connection, "never: it is closed"));
            }
            _ => {
                // In two parts, as events for several sessions are.
                let mut head = Bytes::from(frame);
                let tail = head.split_off(head.len() / 2);
                out.push(Output::Cti(connection, Frame { head, tail, key: None }));
            }
        }
    }

    fn goodbye(&mut self, connection: CtiConnection, reason: &str, out: &mut Vec<Output>) {
        self.open.remove(&connection);
        out.push(write(connection, reason));
        out.push(Output::CtiClose(connection));
    }
}

fn write(connection: CtiConnection, text: &str) -> Output {
    Output::Cti(connection, Frame { head: Bytes::from(text.to_owned()), tail: Bytes::new(), key: None })
}

/// A running shell, and how to reach it.
struct House {
    running: Running,
    seen: mpsc::Receiver<String>,
    authority: Authority,
}

/// What a test wants different.
pub(super) struct Wishes {
    listen: Listen,
    pub(super) limits: Limits,
    pub(super) shares: Vec<(Share, u64)>,
    patience: Patience,
    stop: StopWish,
    reload: Option<Box<dyn Reload>>,
    store: Option<Keeping>,
}

impl Default for Wishes {
    fn default() -> Self {
        let any = || vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        Self {
            listen: Listen {
                sip_udp: any(),
                sip_tcp: any(),
                sip_tls: any(),
                cti_tls: any(),
                cti_plain: any(),
                web: any(),
                cluster: Vec::new(),
                sip_udp_buffer_bytes: 4 << 20,
                control: None,
            },
            limits: Limits {
                max_cti_connections: 2_000,
                max_unopened_connections: 1_000,
                max_unopened_connections_per_address: 1_000,
                max_waiting_passwords: 256,
                password_threads: 1,
                input_queue: 4_096,
                input_queue_bytes: 32 << 20,
                max_sip_connections: 20_000,
                max_sip_connecting: 1_000,
                sip_idle: Duration::from_secs(3_900),
                max_web_connections: 512,
                max_web_connections_per_address: 512,
                node_failure_timeout: Duration::from_secs(1),
                max_line_bytes: protocol::MAX_LINE_BYTES,
                session_queue_events: 64,
                session_log_events: 200,
                session_log_bytes: 512 * 1024,
            },
            shares: Vec::new(),
            patience: Patience::default(),
            stop: StopWish::default(),
            reload: None,
            store: None,
        }
    }
}

const WAIT: Duration = Duration::from_secs(20);

/// The result, or the test fails: nothing here may take that long.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, what).await.expect("it takes too long")
}

fn identity(issued: &Issued) -> Identity {
    Identity::from_pem(&issued.certificate, &issued.key).expect("just made")
}

/// Configurations with a certificate of the authority's for 127.0.0.1.
fn tls_of(authority: &Authority) -> TlsConfigs {
    let ca = authority.pem().certificate.clone();
    let node = authority.issue_node("cm1", &[], wall()).expect("a certificate");
    let server = |clients, alpn: &[&str]| {
        security::tls::server(identity(&node), &clients, None, alpn).expect("a server")
    };
    TlsConfigs {
        cti: server(ClientCertificates::Optional(ca.clone()), &[]),
        sip_server: server(ClientCertificates::Ignored, &[]),
        sip_client: security::tls::client(&ca, None).expect("a client"),
        sip_peers: SipPeers::default(),
        web: server(ClientCertificates::Optional(ca), &["http/1.1"]),
        cluster: None,
        revoked: Arc::default(),
        ends: security::tls::not_after(&node.certificate).expect("just made"),
    }
}

async fn house(wishes: Wishes) -> House {
    let authority = Authority::generate("hq", wall()).expect("an authority");
    let (see, seen) = mpsc::channel(10_000);
    let hash =
        security::password::hash(&security::Secret::new("sesame".into()), [1; 16]).expect("a hash").into();
    let core = Echo { open: BTreeSet::new(), seen: see, hash, stop: wishes.stop, stop_at: None };
    let bound = bind(&wishes.listen).await.expect("free ports");
    let setup = Setup {
        node: "cm1".into(),
        tls: tls_of(&authority),
        limits: wishes.limits,
        shares: wishes.shares,
        patience: wishes.patience,
        reload: wishes.reload,
        tap: None,
        signals: false,
        store: wishes.store,
        registrations: None,
        counters: Arc::default(),
        peers: Vec::new(),
    };
    House { running: start(bound, core, setup), seen, authority }
}

impl House {
    async fn plain(&self) -> TcpStream {
        connect(self.running.addresses.cti_plain.first().copied()).await
    }

    async fn tls(
        &self,
        address: Option<SocketAddr>,
        who: Option<&str>,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let shown =
            who.map(|user| identity(&self.authority.issue_client(user, wall()).expect("a certificate")));
        let config = security::tls::client(&self.authority.pem().certificate, shown).expect("a client");
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let stream = connect(address).await;
        soon(tokio_rustls::TlsConnector::from(config).connect(name, stream)).await.expect("a handshake")
    }

    /// Waits until the core has seen something that begins like this; what came before is dropped.
    async fn sees(&mut self, beginning: &str) -> String {
        loop {
            let seen = soon(self.seen.recv()).await.expect("the core lives");
            if seen.starts_with(beginning) {
                return seen;
            }
        }
    }
}

async fn connect(address: Option<SocketAddr>) -> TcpStream {
    let stream = TcpStream::connect(address.expect("it listens")).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Sends the text and reads exactly as much.
async fn echoes<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, text: &str) {
    soon(stream.write_all(text.as_bytes())).await.expect("written");
    expect(stream, text).await;
}

/// Reads exactly this.
async fn expect<S: AsyncRead + Unpin>(stream: &mut S, text: &str) {
    let mut read = vec![0; text.len()];
    soon(stream.read_exact(&mut read)).await.expect("read");
    assert_eq!(String::from_utf8_lossy(&read), text);
}

/// Reads to the end, which must be in order and no reset.
async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut read = Vec::new();
    soon(stream.read_to_end(&mut read)).await.expect("an end in order");
    String::from_utf8_lossy(&read).into_owned()
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).expect("few sides")).expect("fewer than sides")
    }
}

/// Writes the bytes in pieces of any size.
async fn write_in_pieces<S: AsyncWrite + Unpin>(stream: &mut S, mut bytes: &[u8], dice: &mut Dice) {
    while !bytes.is_empty() {
        let (piece, later) = bytes.split_at((1 + dice.roll(40)).min(bytes.len()));
        soon(stream.write_all(piece)).await.expect("written");
        soon(stream.flush()).await.expect("flushed");
        bytes = later;
    }
}
