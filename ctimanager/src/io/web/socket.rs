//! Applications' WebSockets (RFC 6455): the upgrade, messages in and out, and how much of an unfinished one may be held.

use super::{Peer, WebShell};
use crate::io::cti::{CtiShell, MeteredStream, ReadEnd, linger};
use crate::io::outbox::{FLUSH_LIMIT, Pending};
use crate::io::places::Place;
use crate::io::queue::{Event, Gone};
use crate::node::{CtiConnection, CtiTransport, Frame, Input};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tracing::debug;

/// The subprotocol of CTI over WebSocket.
const SUBPROTOCOL: &str = "cti.v1.jsonrpc";
/// Frames taken from the queue for one write.
const WRITE_FRAMES: usize = 64;
/// Pings between two writes of ours that went out. The library keeps its answers without a bound until the peer reads;
/// each may have 125 bytes.
const MAX_PINGS: usize = 4_096;
/// Head and mask of a control frame.
const CONTROL_FRAME_BYTES: usize = 6;

/// Answers a request at `/cti/v1`, and serves the WebSocket that it becomes.
pub(super) async fn upgrade(
    State(shell): State<Arc<WebShell>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Response {
    let accept = match accept(&request) {
        Ok(accept) => accept,
        Err(refused) => return refused.into_response(),
    };
    // RFC 6455 section 4.2.2: who offers no subprotocol is told of none.
    let offers = request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let Some(place) = shell.cti.take_place() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n").into_response();
    };
    let foreign = is_foreign_page(request.headers());
    let transport = if foreign { anonymous(peer.transport) } else { peer.transport };
    let upgraded = hyper::upgrade::on(&mut request);
    let cti = Arc::clone(&shell.cti);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => serve(cti, TokioIo::new(stream), peer.address, transport, place).await,
            Err(error) => debug!(peer = %peer.address, %error, "a WebSocket did not come about"),
        }
    });
    let fixed = HeaderValue::from_static;
    let headers = [
        (header::CONNECTION, fixed("Upgrade")),
        (header::UPGRADE, fixed("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    if offers {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, fixed(SUBPROTOCOL));
    }
    response
}

/// Why a request at `/cti/v1` becomes no WebSocket.
enum NoUpgrade {
    /// It is no `GET`.
    Method,
    /// It does not ask for it.
    NotAsked,
    Version,
    Key,
    Protocol,
}

impl IntoResponse for NoUpgrade {
    fn into_response(self) -> Response {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            Self::NotAsked => {
                let sentence = "applications speak WebSocket here: Connection: Upgrade, Upgrade: websocket\n";
                let spoken = [(header::UPGRADE, "websocket")];
                (StatusCode::UPGRADE_REQUIRED, spoken, sentence).into_response()
            }
            Self::Version => {
                let spoken = [(header::SEC_WEBSOCKET_VERSION, "13")];
                (StatusCode::UPGRADE_REQUIRED, spoken, "Sec-WebSocket-Version must be 13\n").into_response()
            }
            Self::Key => (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing\n").into_response(),
            Self::Protocol => {
                let sentence = format!("Sec-WebSocket-Protocol must offer {SUBPROTOCOL}, or be left out\n");
                (StatusCode::BAD_REQUEST, sentence).into_response()
            }
        }
    }
}

/// The answer to the key of a request that asks rightly (RFC 6455 section 4.2).
fn accept(request: &Request) -> Result<HeaderValue, NoUpgrade> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(NoUpgrade::Method);
    }
    let asks = |name, wanted| list(headers, name).any(|word| word.eq_ignore_ascii_case(wanted));
    let upgrades = asks(header::CONNECTION, b"upgrade") && asks(header::UPGRADE, b"websocket");
    if request.version() != Version::HTTP_11 || !upgrades {
        return Err(NoUpgrade::NotAsked);
    }
    if !asks(header::SEC_WEBSOCKET_VERSION, b"13") {
        return Err(NoUpgrade::Version);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(NoUpgrade::Key)?;
    // Unlike the words above these are case-sensitive. Who offers others alone would take no answer without one of them.
    let mut offered = list(headers, header::SEC_WEBSOCKET_PROTOCOL).peekable();
    if offered.peek().is_some() && !offered.any(|offered| offered == SUBPROTOCOL.as_bytes()) {
        return Err(NoUpgrade::Protocol);
    }
    // A digest in base64 always fits into a header.
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| NoUpgrade::Key)
}

/// The words of a header that is a list, however it is spread over lines.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
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
        CtiTransport::Tls { .. } => CtiTransport::Tls { client_cn: None, not_after: None, serial: None },
        CtiTransport::Plain => CtiTransport::Plain,
    }
}

type Socket<S> = WebSocketStream<MeteredStream<S>>;

async fn serve<S>(shell: Arc<CtiShell>, stream: S, peer: SocketAddr, transport: CtiTransport, _place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let alive = shell.alive.clone();
    let Ok((connection, mut pending)) = shell.open(peer, transport).await else { return };
    let max_bytes = shell.limits.load().max_line_bytes;
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(8 * 1024)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max_bytes))
        .max_frame_size(Some(max_bytes));
    let talk = Talk::default();
    let stream = shell.metered(stream, Arc::clone(&talk.unfinished));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let overdue = pending.overdue();
    let read = read_messages(&mut stream, &talk, connection, &shell);
    shell.drive(connection, overdue, read, write_messages(&mut sink, &talk, pending)).await;
    // A node that stops need not wait for the peer to hang up.
    drop(alive);
    if talk.said_goodbye.load(Ordering::Relaxed)
        && let Ok(socket) = stream.reunite(sink)
    {
        let mut stream = socket.into_inner().into_inner();
        // The end of TLS is said, too.
        if let Ok(Ok(())) = tokio::time::timeout(FLUSH_LIMIT, stream.shutdown()).await {
            linger(&mut stream).await;
        }
    }
}

/// What the two directions of a WebSocket tell each other.
#[derive(Default)]
struct Talk {
    /// The code to close with; 0: nothing is wrong.
    closing: AtomicU16,
    /// Pings since our last write went out.
    pings: AtomicUsize,
    /// Bytes that came since the last message was whole.
    unfinished: Arc<AtomicUsize>,
    /// The last frame went out.
    said_goodbye: AtomicBool,
}

impl Talk {
    fn close_with(&self, code: CloseCode) {
        self.closing.store(code.into(), Ordering::Relaxed);
    }

    /// A control frame is none of a message's bytes, before, after or within which it came. Its head may have been written
    /// longer than need be: that counts against who wrote it.
    fn forget_control_frame(&self, payload: usize) {
        let bytes = CONTROL_FRAME_BYTES + payload;
        let less = |unfinished: usize| Some(unfinished.saturating_sub(bytes));
        // It never fails, since `less` always gives a number.
        let _ = self.unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

async fn read_messages<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SplitStream<Socket<S>>,
    talk: &Talk,
    connection: CtiConnection,
    shell: &CtiShell,
) -> Result<ReadEnd, Gone> {
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Text(text)) => {
                talk.unfinished.store(0, Ordering::Relaxed);
                let frame = bytes::Bytes::from(text).into();
                shell.queue.send(Event::Input(Input::CtiFrame(connection, frame))).await?;
            }
            // The library answers them.
            Ok(Message::Ping(payload)) => {
                talk.forget_control_frame(payload.len());
                if talk.pings.fetch_add(1, Ordering::Relaxed) >= MAX_PINGS {
                    talk.close_with(CloseCode::Policy);
                    break;
                }
            }
            Ok(Message::Pong(payload)) => talk.forget_control_frame(payload.len()),
            Ok(Message::Binary(_)) => {
                talk.close_with(CloseCode::Unsupported);
                break;
            }
            // Only who asks for them is given raw frames.
            Ok(Message::Close(_) | Message::Frame(_)) => break,
            Err(Error::Capacity(_)) => {
                talk.close_with(CloseCode::Size);
                return Ok(ReadEnd::TooLong);
            }
            Err(error) => {
                match error {
                    Error::Protocol(_) => talk.close_with(CloseCode::Protocol),
                    Error::Utf8(_) => talk.close_with(CloseCode::Invalid),
                    _ => {}
                }
                break;
            }
        }
    }
    Ok(ReadEnd::Closed)
}

async fn write_messages<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<Socket<S>, Message>,
    talk: &Talk,
    mut pending: Pending<Frame>,
) -> io::Result<()> {
    let mut frames = Vec::new();
    while pending.items.recv_many(&mut frames, WRITE_FRAMES).await > 0 {
        let mut taken = 0;
        for frame in frames.drain(..) {
            taken += frame.len();
            said(sink.feed(Message::Text(text_of(frame)?)).await)?;
        }
        said(sink.flush().await)?;
        pending.written(taken);
        talk.pings.store(0, Ordering::Relaxed);
    }
    let code = match talk.closing.load(Ordering::Relaxed) {
        0 => CloseCode::Normal,
        code => code.into(),
    };
    let goodbye = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static("") }));
    match sink.send(goodbye).await {
        // The peer was first: the library's answer to it is our last word.
        Err(Error::Protocol(ProtocolError::SendAfterClosing)) => said(sink.flush().await)?,
        sent => said(sent)?,
    }
    talk.said_goodbye.store(true, Ordering::Relaxed);
    Ok(())
}

/// Who has said goodbye is told nothing more: that is no fault.
fn said(result: Result<(), Error>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Error::AlreadyClosed | Error::ConnectionClosed) => Ok(()),
        Err(Error::Protocol(ProtocolError::SendAfterClosing)) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
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
