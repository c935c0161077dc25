//! Bytes on the SIP wire, for messages that no client would send.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// Sends a message on a connection of its own; the first final status that comes back, `None` for silence or a close.
///
/// # Panics
/// If nobody listens.
pub async fn first_final_status(node: SocketAddr, message: &[u8]) -> Option<u16> {
    final_status_on(TcpStream::connect(node).await.expect("the node listens"), message).await
}

/// The same from any port of this IPv4 address.
///
/// # Panics
/// If nobody listens, or the address is not this machine's.
pub async fn first_final_status_from(here: IpAddr, node: SocketAddr, message: &[u8]) -> Option<u16> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(here, 0)).expect("an address of this machine");
    final_status_on(socket.connect(node).await.expect("the node listens"), message).await
}

async fn final_status_on(mut stream: TcpStream, message: &[u8]) -> Option<u16> {
    // The node may close while it is being written to.
    let _ = stream.write_all(message).await;
    let deadline = Instant::now() + Duration::from_millis(700);
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match timeout_at(deadline, stream.read(&mut piece)).await {
            Ok(Ok(length)) if length > 0 => received.extend_from_slice(&piece[..length]),
            _ => return None,
        }
        let text = String::from_utf8_lossy(&received).into_owned();
        let mut statuses =
            text.lines().filter_map(|line| line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok());
        if let Some(code) = statuses.find(|code| *code >= 200) {
            return Some(code);
        }
    }
}
