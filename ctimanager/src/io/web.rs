//! The web port, HTTPS only: health, metrics, and applications' WebSockets.

mod door;
mod socket;

pub use door::WebDoor;

use super::cti::CtiShell;
use super::metrics::{self, Gauges};
use super::places::{Place, Places, SharedPlace};
use super::tls;
use crate::node::CtiTransport;
use axum::Router;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

/// A request's head must be whole after this time.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// An HTTP connection lives no longer, whatever it does.
const HTTP_LIFE: Duration = Duration::from_secs(300);

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
    let router = router(&shell);
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
    handshake: SharedPlace,
    _place: Place,
) {
    let config = Arc::clone(&shell.cti.tls.load().web);
    let Some(stream) = shell.cti.handshakes.accept(handshake, config, stream, address).await else { return };
    let peer = Peer { address, transport: tls::transport_of(&stream) };
    serve_http(router, stream, peer).await;
}

/// Whatever carries the bytes: all below has been seen to.
async fn serve_http<S>(router: Router, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = peer.address;
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
