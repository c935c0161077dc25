//! Questions to the web port, over HTTPS.

use super::SOON;
use super::cti::over_tls;
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// The status and the body of the answer to `GET path`.
///
/// # Panics
/// If there is none.
pub async fn get(address: SocketAddr, ca: &Path, path: &str) -> (u16, String) {
    let mut stream = over_tls(address, ca).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    let mut answer = Vec::new();
    // Whether the peer ends TLS in order is not what is asked here.
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (status.unwrap_or_else(|| panic!("no HTTP: {answer}")), body.to_owned())
}
