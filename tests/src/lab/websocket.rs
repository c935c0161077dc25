//! The CTI protocol over WebSocket, turned into lines so that the one client serves all transports.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const SUBPROTOCOL: &str = "cti.v1.jsonrpc";

/// Shakes hands on a TLS stream; what is written to the result as lines goes out as text frames, and back.
///
/// # Panics
/// If the server refuses, or doesn't take up the subprotocol.
pub async fn lines_over<S>(host: &str, stream: S) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = format!("wss://{host}/cti/v1").into_client_request().expect("a fine URL");
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    let (socket, response) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap_or_else(|e| panic!("WebSocket with {host}: {e}"));
    let chosen = response.headers().get("Sec-WebSocket-Protocol").and_then(|value| value.to_str().ok());
    assert_eq!(chosen, Some(SUBPROTOCOL), "the server takes up the subprotocol");
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(pump(socket, ours));
    theirs
}

/// One message is one text frame is one line. Ends when either side does.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, lines: DuplexStream) {
    let (read, mut write) = tokio::io::split(lines);
    let mut read = BufReader::new(read).lines();
    loop {
        tokio::select! {
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => {
                    let line = [text.as_bytes(), b"\n"].concat();
                    if write.write_all(&line).await.is_err() { return }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)) | Err(_)) | None => return,
            },
            line = read.next_line() => match line {
                Ok(Some(line)) => if socket.send(Message::text(line)).await.is_err() { return },
                Ok(None) | Err(_) => return,
            },
        }
    }
}
