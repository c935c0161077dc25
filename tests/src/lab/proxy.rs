//! Bad weather on the way: passes connections on, late, in pieces, and not all of them to their end. The seed decides
//! what happens to which connection.

use super::Lab;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes towards the application, and towards the node, after which a connection is cut at the latest. A TLS handshake
/// has some 2,000 and 500 of them.
const DOWN: usize = 40_000;
const UP: usize = 4_000;

/// One way through bad weather.
pub struct Proxy {
    /// Where to connect.
    pub address: SocketAddr,
    cuts: Arc<AtomicU32>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Between whoever connects and `node`; after so many cuts the weather is fine.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(lab: &Lab, node: SocketAddr, seed: u64, cuts: u32) -> Proxy {
        let listener = TcpListener::bind(SocketAddr::new(lab.host(), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        let listener = tokio::spawn(async move {
            for number in 0.. {
                let Ok((application, _)) = listener.accept().await else { return };
                let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
                let fine = count.load(Ordering::Relaxed) >= cuts;
                tokio::spawn(pass(application, node, rng, fine, Arc::clone(&count)));
            }
        });
        Proxy { address, cuts: made, listener }
    }

    /// Connections that it cut so far.
    #[must_use]
    pub fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn pass(application: TcpStream, node: SocketAddr, mut rng: StdRng, fine: bool, cuts: Arc<AtomicU32>) {
    let Ok(node) = TcpStream::connect(node).await else { return };
    let (from_application, to_application) = application.into_split();
    let (from_node, to_node) = node.into_split();
    let (mut down, mut up) = (usize::MAX, usize::MAX);
    match (fine, rng.random_bool(0.5)) {
        (true, _) => {}
        (false, true) => down = rng.random_range(1..DOWN),
        (false, false) => up = rng.random_range(1..UP),
    }
    let weather = StdRng::seed_from_u64(rng.random());
    // When one direction ends, both do. What was read and not passed on is lost, as in a router that fails.
    let cut = tokio::select! {
        cut = carry(from_node, to_application, down, rng, fine) => cut,
        cut = carry(from_application, to_node, up, weather, fine) => cut,
    };
    if cut {
        cuts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Carries bytes in one direction; true when it was cut after so many, false when an end hung up.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut budget: usize,
    mut rng: StdRng,
    fine: bool,
) -> bool {
    let mut buffer = [0; 2048];
    while budget > 0 {
        let most = budget.min(buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else { return false };
        // Mostly at once, sometimes late, seldom so late that everybody wonders.
        let late = match rng.random_range(0..100) {
            _ if fine => 0,
            0..80 => 0,
            80..99 => rng.random_range(1..15),
            _ => rng.random_range(100..400),
        };
        if late > 0 {
            tokio::time::sleep_until(Instant::now() + Duration::from_millis(late)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return false;
        }
        budget -= read;
    }
    true
}
