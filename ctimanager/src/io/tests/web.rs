use super::*;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use protocol::frame::MAX_LINE_BYTES;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn fetch(house: &House, path: &str, headers: &str) -> String {
    let mut stream = house.tls(house.running.addresses.web.first().copied(), None).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    rest(&mut stream).await
}

async fn socket(house: &House, who: Option<&str>, origin: Option<&str>) -> Socket {
    let stream = house.tls(house.running.addresses.web.first().copied(), who).await;
    let mut request = "wss://localhost/cti/v1".into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "cti.v1.jsonrpc".parse().expect("a value"));
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().expect("a value"));
    }
    let (socket, response) =
        soon(tokio_tungstenite::client_async(request, stream)).await.expect("a WebSocket");
    assert_eq!(response.headers()["sec-websocket-protocol"], "cti.v1.jsonrpc");
    socket
}

async fn next(socket: &mut Socket) -> Message {
    soon(socket.next()).await.expect("a message").expect("in order")
}

#[tokio::test]
async fn health_is_told() {
    let house = house(Wishes::default()).await;
    assert!(fetch(&house, "/livez", "").await.starts_with("HTTP/1.1 200"));
    assert!(fetch(&house, "/readyz", "").await.starts_with("HTTP/1.1 200"));
    assert!(fetch(&house, "/metrics", "").await.contains("ctimanager_cti_connections_accepted_total 0\n"));
    assert!(fetch(&house, "/elsewhere", "").await.starts_with("HTTP/1.1 404"));
    let readiness = Arc::clone(&house.running.readiness);
    readiness.set_draining();
    let draining = fetch(&house, "/readyz", "").await;
    assert!(draining.starts_with("HTTP/1.1 503") && draining.contains("the node is draining"), "{draining}");
    readiness.set_stopping();
    // What is told late takes nothing back.
    readiness.set_draining();
    readiness.set_ready();
    let stopping = fetch(&house, "/readyz", "").await;
    assert!(
        stopping.starts_with("HTTP/1.1 503") && stopping.ends_with("the node is stopping\n"),
        "{stopping}"
    );
}

#[tokio::test]
async fn messages_come_back_over_a_websocket() {
    let mut house = house(Wishes::default()).await;
    let mut socket = socket(&house, Some("attendant"), None).await;
    for n in 0..100 {
        let text = format!("{{\"n\": {n}, \"ä\": \"{}\"}}", "é".repeat(n));
        socket.send(Message::text(text.clone())).await.expect("sent");
        // The echo is cut in two at any byte, and joined again.
        assert_eq!(next(&mut socket).await, Message::text(text));
    }
    assert!(house.sees("opened").await.contains(r#"client_cn: Some("attendant")"#));
    socket.send(Message::text("close")).await.expect("sent");
    assert_eq!(next(&mut socket).await, Message::text("bye"));
    assert!(matches!(next(&mut socket).await, Message::Close(_)));
}

#[tokio::test]
async fn who_offers_no_subprotocol_gets_a_socket_and_is_told_of_none() {
    let house = house(Wishes::default()).await;
    for (offer, told) in
        [("", false), ("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: cti.v1.jsonrpc\r\n", true)]
    {
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut stream = house.tls(house.running.addresses.web.first().copied(), None).await;
        let request = format!("GET /cti/v1 HTTP/1.1\r\nHost: localhost\r\n{upgrade}{offer}\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert_eq!(head.contains("sec-websocket-protocol: cti.v1.jsonrpc"), told, "{head}");
    }
}

#[tokio::test]
async fn with_other_subprotocols_alone_there_is_no_socket() {
    let house = house(Wishes::default()).await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n";
    let mut stream = house.tls(house.running.addresses.web.first().copied(), None).await;
    let request = format!("GET /cti/v1 HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    expect(&mut stream, "HTTP/1.1 400").await;
    assert_eq!(house.running.counters.cti_accepted.value(), 0);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_use_the_browsers_certificate() {
    let mut house = house(Wishes::default()).await;
    let _foreign = socket(&house, Some("attendant"), Some("https://evil.example")).await;
    assert!(house.sees("opened").await.contains("client_cn: None"));
    let _own = socket(&house, Some("attendant"), Some("https://localhost")).await;
    assert!(house.sees("opened").await.contains(r#"client_cn: Some("attendant")"#));
}

#[tokio::test]
async fn a_message_over_the_limit_is_told_and_closes() {
    for max_line_bytes in [MAX_LINE_BYTES, 100] {
        let limits = Limits { max_line_bytes, ..Wishes::default().limits };
        let house = house(Wishes { limits, ..Wishes::default() }).await;
        let mut socket = socket(&house, None, None).await;
        let longest = Message::text("x".repeat(max_line_bytes));
        socket.send(longest.clone()).await.expect("sent");
        assert_eq!(next(&mut socket).await, longest);
        // The server may close before all of it is written.
        let _ = socket.send(Message::text("x".repeat(max_line_bytes + 1))).await;
        assert_eq!(next(&mut socket).await, Message::text("line_too_long"));
        match next(&mut socket).await {
            Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Size),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn binary_messages_close_the_socket() {
    let mut house = house(Wishes::default()).await;
    let mut socket = socket(&house, None, None).await;
    socket.send(Message::binary(vec![1, 2, 3])).await.expect("sent");
    match next(&mut socket).await {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Unsupported),
        other => panic!("{other:?}"),
    }
    house.sees("closed").await;
}

#[tokio::test]
async fn a_flood_of_pings_ends_before_its_answers_fill_the_memory() {
    let mut house = house(Wishes::default()).await;
    let mut socket = socket(&house, None, None).await;
    // One more than it answers; with any beyond it lying unread its last word might be lost to a reset.
    for _ in 0..=4_096 {
        socket.feed(Message::Ping(vec![7; 125].into())).await.expect("it is read");
    }
    socket.flush().await.expect("it is read");
    let mut pongs = 0;
    loop {
        match next(&mut socket).await {
            Message::Pong(_) => pongs += 1,
            Message::Close(Some(frame)) => break assert_eq!(frame.code, CloseCode::Policy),
            other => panic!("{other:?}"),
        }
    }
    assert!(pongs <= 4_096, "{pongs}");
    house.sees("closed").await;
}

/// All that comes until the end of the stream.
async fn farewell(socket: &mut Socket) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some(Ok(message)) = soon(socket.next()).await {
        all.push(message);
    }
    all
}

#[tokio::test]
async fn a_goodbye_is_answered_even_when_something_is_still_to_be_said() {
    let mut house = house(Wishes::default()).await;
    for before in [0, 1, 40] {
        let mut socket = socket(&house, None, None).await;
        for _ in 0..before {
            // Whether its echo still goes out is a matter of luck.
            socket.feed(Message::text("hello")).await.expect("it is read");
        }
        let frame = CloseFrame { code: CloseCode::Away, reason: "enough".into() };
        socket.send(Message::Close(Some(frame.clone()))).await.expect("it is read");
        assert_eq!(farewell(&mut socket).await.pop(), Some(Message::Close(Some(frame))), "{before}");
        house.sees("closed").await;
    }
}

#[tokio::test]
async fn broken_rules_are_told_by_their_codes() {
    let house = house(Wishes::default()).await;
    // A text with a reserved bit, a frame of no known kind, a text without a mask, one that is no UTF-8, a ping in pieces.
    for (bytes, code) in [
        (&b"\xc1\x80\0\0\0\0"[..], CloseCode::Protocol),
        (b"\x83\x81\0\0\0\0x", CloseCode::Protocol),
        (b"\x81\x02{}", CloseCode::Protocol),
        (b"\x81\x81\0\0\0\0\xff", CloseCode::Invalid),
        (b"\x09\x80\0\0\0\0", CloseCode::Protocol),
    ] {
        let mut socket = socket(&house, None, None).await;
        socket.get_mut().write_all(bytes).await.expect("written");
        match farewell(&mut socket).await.pop() {
            Some(Message::Close(Some(frame))) => assert_eq!(frame.code, code, "{bytes:?}"),
            other => panic!("{other:?} after {bytes:?}"),
        }
    }
}

#[tokio::test]
async fn another_version_is_told_which_one_is_spoken() {
    let house = house(Wishes::default()).await;
    for (headers, told) in [
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: cti.v1.jsonrpc\r\n",
            "HTTP/1.1 426 Upgrade Required\r\ncontent-type: text/plain; charset=utf-8\r\nsec-websocket-version: 13\r\n",
        ),
        (
            "",
            "HTTP/1.1 426 Upgrade Required\r\ncontent-type: text/plain; charset=utf-8\r\nupgrade: websocket\r\n",
        ),
    ] {
        let mut stream = house.tls(house.running.addresses.web.first().copied(), None).await;
        let request = format!("GET /cti/v1 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        expect(&mut stream, told).await;
    }
}

#[tokio::test]
async fn long_messages_are_bounded_and_who_sent_one_keeps_its_place() {
    let house = house(Wishes::default()).await;
    let begun = "x".repeat(35_000);
    // A text in three parts, with a ping between two of them: its bytes are not forgotten for that.
    let part = |first: u8| {
        let head = [first, 0xfe, 0x88, 0xb8, 0, 0, 0, 0];
        [&head[..], begun.as_bytes(), b"\x89\x80\0\0\0\0"].concat()
    };
    let mut unfinished = Vec::new();
    for _ in 0..65 {
        let mut socket = socket(&house, None, None).await;
        socket.get_mut().write_all(&[part(0x01), part(0x00)].concat()).await.expect("written");
        unfinished.push(socket);
    }
    let mut short = house.plain().await;
    while house.running.counters.cti_lines_waited.value() == 0 {
        echoes(&mut short, "short lines pass\n").await;
    }
    for socket in &mut unfinished {
        socket.get_mut().write_all(b"\x80\x80\0\0\0\0").await.expect("written");
    }
    let mut answers: FuturesUnordered<_> = unfinished.into_iter().map(long_answer).collect();
    let mut answered = Vec::new();
    while answered.len() < 64 {
        answered.extend(answers.next().await);
    }
    // The last one waits until somebody leaves.
    drop(answered.pop());
    answers.next().await.expect("it is answered");
    assert_eq!(house.running.counters.cti_lines_waited.value(), 1);
}

async fn long_answer(mut socket: Socket) -> Socket {
    let text = loop {
        match next(&mut socket).await {
            Message::Pong(_) => {}
            Message::Text(text) => break text,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(text.len(), 70_000);
    socket
}
