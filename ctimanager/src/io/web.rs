//! The web port, HTTPS only: health, metrics, and applications' WebSockets.

mod door;
mod guests;
mod socket;

pub use door::WebDoor;

use super::cti::CtiShell;
use super::limits::Patience;
use super::metrics::{self, Gauges};
use super::tls;
use crate::node::CtiTransport;
use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use guests::{Guest, Guests};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use security::limits::network;
use security::shares::{Bound, Listener, Who};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

/// Whether the node can do its work.
#[derive(Debug, Default)]
pub(super) struct Readiness(AtomicU8);

const STARTING: u8 = 0;
const LISTENING: u8 = 1;
const READY: u8 = 2;
const DRAINING: u8 = 3;
const STOPPING: u8 = 4;

impl Readiness {
    // A node only ever goes on to the next state, whatever is told first.

    /// SIP and CTI listen; it waits to hear of the other nodes.
    pub(super) fn set_listening(&self) {
        self.0.fetch_max(LISTENING, Ordering::Relaxed);
    }

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
            LISTENING => Some("the node has not listened to the other nodes for long enough yet\n"),
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
    guests: Arc<Guests>,
    gauges: Gauges,
}

impl WebShell {
    pub(super) fn new(cti: Arc<CtiShell>, readiness: Arc<Readiness>) -> Self {
        Self { cti, readiness, guests: Arc::default(), gauges: Gauges::default() }
    }

    /// A place for one more connection. One that became a WebSocket has none here any more.
    fn take_place(&self, peer: SocketAddr) -> Guest {
        let limits = self.cti.limits.load();
        let (most, of_address) = (limits.max_web_connections, limits.max_web_connections_per_address);
        let (guest, loser) = self.guests.take(peer.ip(), most, of_address);
        if let Some(address) = loser {
            self.cti.counters.web_refused.add();
            let own = address == network(peer.ip());
            let bound = if own { Bound::WebOfAddress } else { Bound::WebOfAll };
            self.cti.door.refused(bound, &Who::Address(address));
        }
        guest
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
    let router = router(&shell);
    let counters = Arc::clone(&shell.cti.counters);
    let knock = |from| shell.cti.knock(Listener::Web, from);
    tls::accept(listener, counters, knock, |stream, address| {
        let guest = Arc::new(shell.take_place(address));
        tokio::spawn(serve(Arc::clone(&shell), router.clone(), stream, address, guest));
    })
    .await;
}

fn router(shell: &Arc<WebShell>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/cti/v1", get(socket::upgrade))
        .with_state(Arc::clone(shell))
}

async fn serve(
    shell: Arc<WebShell>,
    router: Router,
    stream: TcpStream,
    address: SocketAddr,
    guest: Arc<Guest>,
) {
    let config = Arc::clone(&shell.cti.tls.load().web);
    let talk = async {
        // Bounded by the places here: health is told also while applications' handshakes have all of theirs.
        let Some(stream) = shell.cti.handshakes.accept((), config, stream, address).await else { return };
        let peer = Peer { address, transport: tls::transport_of(&stream) };
        let router = router.layer(middleware::from_fn_with_state(Arc::clone(&guest), note_request));
        serve_http(router, stream, peer, shell.cti.patience).await;
    };
    tokio::select! {
        () = talk => {}
        () = guest.loses_its_place() => {}
    }
}

async fn note_request(State(guest): State<Arc<Guest>>, request: Request, next: Next) -> Response {
    guest.asks();
    next.run(request).await
}

/// Whatever carries the bytes: all below has been seen to.
async fn serve_http<S>(router: Router, stream: S, peer: Peer, patience: Patience)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = peer.address;
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.http_head)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    match tokio::time::timeout(patience.http_life, connection).await {
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
