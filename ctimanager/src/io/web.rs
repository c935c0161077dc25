//! The web port, HTTPS only: health, metrics, and applications' WebSockets.

use super::cti::{CtiShell, ReadEnd};
use super::metrics::{self, Gauges};
use super::outbox::Pending;
use super::places::{Place, Places, SharedPlace};
use super::queue::{Event, Gone};
use super::tls;
use crate::node::{CtiConnection, CtiTransport, Frame, Input};
use axum::Router;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::BytesMut;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite;
use tracing::debug;

/// The subprotocol of CTI over WebSocket.
const SUBPROTOCOL: &str = "cti.v1.jsonrpc";
/// A request's head must be whole after this time.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// An HTTP connection lives no longer, whatever it does.
const HTTP_LIFE: Duration = Duration::from_secs(300);
/// Frames taken from the queue for one write.
const WRITE_FRAMES: usize = 64;
/// Pings between two writes of ours that went out. The library keeps its answers without a bound until the peer reads;
/// each may have 125 bytes.
const MAX_PINGS: usize = 4_096;

/// Whether the node can do its work.
#[derive(Debug, Default)]
pub(super) struct Readiness(AtomicU8);

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;
const STOPPING: u8 = 3;

impl Readiness {
    // A node only ever goes on to the next state, whatever is told first.

    pub(super) fn set_ready(&self) {
        self.0.fetch_max(READY, Ordering::Relaxed);
    }

    /// It takes no new calls and no new applications.
    pub(super) fn set_draining(&self) {
        self.0.fetch_max(DRAINING, Ordering::Relaxed);
    }

    pub(super) fn set_stopping(&self) {
        self.0.fetch_max(STOPPING, Ordering::Relaxed);
    }

    fn reason_against(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Relaxed) {
            STARTING => Some("SIP and CTI do not listen yet\n"),
            READY => None,
            DRAINING => Some("the node is draining: it takes no new calls and no new applications\n"),
            _ => Some("the node is stopping\n"),
        }
    }
}

/// What the web port's tasks share.
#[derive(Debug)]
pub(super) struct WebShell {
    cti: Arc<CtiShell>,
    readiness: Arc<Readiness>,
    places: Arc<Places>,
    gauges: Gauges,
}

impl WebShell {
    pub(super) fn new(cti: Arc<CtiShell>, readiness: Arc<Readiness>) -> Self {
        Self { cti, readiness, places: Arc::default(), gauges: Gauges::default() }
    }
}

/// Who is at the other end of an HTTP connection.
#[derive(Clone, Debug)]
struct Peer {
    address: SocketAddr,
    transport: CtiTransport,
}

/// Serves for ever.
pub(super) async fn listen(listener: TcpListener, shell: Arc<WebShell>) {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/cti/v1", get(cti))
        .with_state(Arc::clone(&shell));
    let counters = Arc::clone(&shell.cti.counters);
    tls::accept(listener, counters, |stream, address| {
        // One that became a WebSocket counts here no more.
        let place = shell.places.take(shell.cti.limits.load().max_web_connections);
        let (Some(place), Some(handshake)) = (place, shell.cti.take_handshake(address)) else {
            return shell.cti.counters.web_refused.add();
        };
        tokio::spawn(serve(Arc::clone(&shell), router.clone(), stream, address, handshake, place));
    })
    .await;
}

async fn serve(
    shell: Arc<WebShell>,
    router: Router,
    stream: TcpStream,
    address: SocketAddr,
    handshake: SharedPlace,
    _place: Place,
) {
    let config = Arc::clone(&shell.cti.tls.load().web);
    let Some(stream) = shell.cti.handshakes.accept(handshake, config, stream, address).await else { return };
    let peer = Peer { address, transport: tls::transport_of(&stream) };
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    match tokio::time::timeout(HTTP_LIFE, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(peer = %address, %error, "an HTTP connection broke"),
    }
}

async fn readyz(State(shell): State<Arc<WebShell>>) -> Response {
    match shell.readiness.reason_against() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(shell): State<Arc<WebShell>>) -> Response {
    let node = shell.gauges.ask(&shell.cti.queue).await;
    let text = metrics::render(&shell.cti.counters, node.as_ref());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn cti(
    State(shell): State<Arc<WebShell>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let max_bytes = shell.cti.limits.load().max_line_bytes;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(8 * 1024)
        .write_buffer_size(8 * 1024)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(max_bytes)
        .max_frame_size(max_bytes);
    if upgrade.selected_protocol().is_none() {
        let sentence = format!("Sec-WebSocket-Protocol must offer {SUBPROTOCOL}\n");
        return (StatusCode::BAD_REQUEST, sentence).into_response();
    }
    let Some(place) = shell.cti.take_place() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n").into_response();
    };
    let transport = if is_foreign_page(&headers) { anonymous(peer.transport) } else { peer.transport };
    let cti = Arc::clone(&shell.cti);
    upgrade.on_upgrade(move |socket| serve_socket(cti, socket, peer.address, transport, place))
}

/// Whether a web page of another site opened the socket.
fn is_foreign_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let own = text(header::HOST).map(|host| format!("https://{host}"));
    own.is_none_or(|own| origin.as_bytes() != own.as_bytes())
}

/// A browser shows its user's certificate to whatever page asks it to connect, so for foreign pages it proves nothing:
/// they have to bring a password.
fn anonymous(transport: CtiTransport) -> CtiTransport {
    match transport {
        CtiTransport::Tls { .. } => CtiTransport::Tls { client_cn: None, not_after: None },
        CtiTransport::Plain => CtiTransport::Plain,
    }
}

async fn serve_socket(
    shell: Arc<CtiShell>,
    socket: WebSocket,
    peer: SocketAddr,
    transport: CtiTransport,
    _place: Place,
) {
    let _alive = shell.alive.clone();
    let Ok((connection, mut pending)) = shell.open(peer, transport).await else { return };
    let (sink, stream) = socket.split();
    let overdue = pending.overdue();
    let talk = Talk {
        closing: AtomicU16::new(close_code::NORMAL),
        peer_closed: AtomicBool::new(false),
        pings: AtomicUsize::new(0),
    };
    let read = read_messages(stream, &talk, connection, &shell);
    shell.drive(connection, overdue, read, write_messages(sink, &talk, pending)).await;
}

/// What the two directions of a WebSocket tell each other.
struct Talk {
    /// The code to close with.
    closing: AtomicU16,
    /// Whether the peer's close frame came; the library has its answer ready.
    peer_closed: AtomicBool,
    /// Pings since our last write went out.
    pings: AtomicUsize,
}

async fn read_messages(
    mut stream: SplitStream<WebSocket>,
    talk: &Talk,
    connection: CtiConnection,
    shell: &CtiShell,
) -> Result<ReadEnd, Gone> {
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Text(text)) => {
                let frame = bytes::Bytes::from(text).into();
                shell.queue.send(Event::Input(Input::CtiFrame(connection, frame))).await?;
            }
            // The library answers them.
            Ok(Message::Ping(_)) => {
                if talk.pings.fetch_add(1, Ordering::Relaxed) >= MAX_PINGS {
                    talk.closing.store(close_code::POLICY, Ordering::Relaxed);
                    break;
                }
            }
            Ok(Message::Pong(_)) => {}
            Ok(Message::Binary(_)) => {
                talk.closing.store(close_code::UNSUPPORTED, Ordering::Relaxed);
                break;
            }
            Ok(Message::Close(_)) => {
                talk.peer_closed.store(true, Ordering::Relaxed);
                break;
            }
            Err(error) => {
                let code = code_for(&error);
                talk.closing.store(code, Ordering::Relaxed);
                return Ok(if code == close_code::SIZE { ReadEnd::TooLong } else { ReadEnd::Closed });
            }
        }
    }
    Ok(ReadEnd::Closed)
}

/// The code to close with after an error (RFC 6455 §7.4.1); who hears it has not lost his connection.
fn code_for(error: &axum::Error) -> u16 {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<tungstenite::Error>());
    match cause {
        Some(tungstenite::Error::Capacity(_)) => close_code::SIZE,
        Some(tungstenite::Error::Utf8(_)) => close_code::INVALID,
        Some(tungstenite::Error::Protocol(_)) => close_code::PROTOCOL,
        // Of the library, and nothing that a peer could be told.
        Some(_) | None => close_code::NORMAL,
    }
}

async fn write_messages(
    mut sink: SplitSink<WebSocket, Message>,
    talk: &Talk,
    mut pending: Pending<Frame>,
) -> io::Result<()> {
    let mut frames = Vec::new();
    while pending.items.recv_many(&mut frames, WRITE_FRAMES).await > 0 {
        let mut taken = 0;
        for frame in frames.drain(..) {
            taken += frame.len();
            sink.feed(Message::Text(text_of(frame)?)).await.map_err(io::Error::other)?;
        }
        sink.flush().await.map_err(io::Error::other)?;
        pending.written(taken);
        talk.pings.store(0, Ordering::Relaxed);
    }
    if talk.peer_closed.load(Ordering::Relaxed) {
        return sink.flush().await.map_err(io::Error::other);
    }
    let code = talk.closing.load(Ordering::Relaxed);
    let goodbye = CloseFrame { code, reason: Utf8Bytes::from_static("") };
    sink.send(Message::Close(Some(goodbye))).await.map_err(io::Error::other)
}

fn text_of(frame: Frame) -> io::Result<Utf8Bytes> {
    let bytes = if frame.tail.is_empty() {
        frame.head
    } else {
        let mut whole = BytesMut::with_capacity(frame.head.len() + frame.tail.len());
        whole.extend_from_slice(&frame.head);
        whole.extend_from_slice(&frame.tail);
        whole.freeze()
    };
    Utf8Bytes::try_from(bytes).map_err(io::Error::other)
}
