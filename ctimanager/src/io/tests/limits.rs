//! The shell's limits, at the limit: whoever comes beyond is closed at once, and counted.

use super::*;
use crate::io::unix::Address;
use security::shares::Listener;
use tokio::net::UnixStream;

fn with(limits: Limits) -> Wishes {
    Wishes { limits, ..Wishes::default() }
}

/// Whether the other end closes without a word. A reset is a close as well.
async fn is_closed<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    soon(stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn sip_connections_beyond_the_limit() {
    let limits = Limits { max_sip_connections: 2, ..Wishes::default().limits };
    let house = house(with(limits)).await;
    let addresses = &house.running.addresses;
    let mut tcp = connect(addresses.sip_tcp.first().copied()).await;
    let _half = connect(addresses.sip_tls.first().copied()).await;
    echoes(&mut tcp, "OPTIONS sip:x SIP/2.0\r\n\r\n").await;
    // The two listeners accept each on its own: wait for the second place to be taken.
    soon(async {
        while !is_closed_now(addresses.sip_tcp.first().copied()).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(is_closed(&mut connect(addresses.sip_tls.first().copied()).await).await, "over TLS as well");
    assert!(house.running.counters.sip_refused.value() >= 2);
    echoes(&mut tcp, "OPTIONS sip:y SIP/2.0\r\n\r\n").await;
}

#[tokio::test]
async fn who_knocks_too_often_is_refused_at_that_kind_of_listener_before_anything_is_done_for_him() {
    let strange = [Listener::Sip, Listener::Cti, Listener::Web].map(|listener| listener.rates().0);
    let shares = strange.map(|rate| (Share::Rate(rate), 1)).to_vec();
    let house = house(Wishes { shares, ..Wishes::default() }).await;
    let addresses = &house.running.addresses;
    let all =
        [&addresses.sip_tcp, &addresses.sip_tls, &addresses.cti_plain, &addresses.cti_tls, &addresses.web];
    // Twenty at once: what one listener takes, the other of its kind lacks.
    for ports in [&all[..2], &all[2..4], &all[4..]] {
        let mut crowd = Vec::new();
        for number in 0..30 {
            crowd.push(connect(ports[number % ports.len()].first().copied()).await);
        }
        for late in &mut crowd[25..] {
            assert!(is_closed(late).await, "beyond the burst, and what a slow machine gives to it");
        }
        assert!(is_open(&mut crowd[0]).await);
    }
    assert_eq!(house.running.counters.sip_refused.value() + house.running.counters.cti_refused.value(), 0);
    let elsewhere = tokio::net::TcpSocket::new_v4().expect("a socket");
    elsewhere.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("another address");
    let mut honest = elsewhere
        .connect(addresses.cti_plain.first().copied().expect("it listens"))
        .await
        .expect("a connection");
    echoes(&mut honest, "from elsewhere\n").await;
}

/// Whether the other end has not closed.
async fn is_open(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await.is_err()
}

/// Whether a new connection is closed instead of answered.
async fn is_closed_now(address: Option<SocketAddr>) -> bool {
    let mut stream = connect(address).await;
    stream.write_all(b"OPTIONS sip:z SIP/2.0\r\n\r\n").await.is_err() || is_closed(&mut stream).await
}

#[tokio::test]
async fn sip_handshakes_beyond_the_limit() {
    let limits = Limits { max_sip_connecting: 1, ..Wishes::default().limits };
    let house = house(with(limits)).await;
    let addresses = &house.running.addresses;
    let _half = connect(addresses.sip_tls.first().copied()).await;
    assert!(is_closed(&mut connect(addresses.sip_tls.first().copied()).await).await);
    assert_eq!(house.running.counters.sip_refused.value(), 1);
    echoes(&mut connect(addresses.sip_tcp.first().copied()).await, "OPTIONS sip:x SIP/2.0\r\n\r\n").await;
}

#[tokio::test]
async fn one_address_gets_its_share_of_handshakes() {
    let limits = Limits { max_unopened_connections_per_address: 1, ..Wishes::default().limits };
    let house = house(with(limits)).await;
    let addresses = &house.running.addresses;
    let _half = connect(addresses.cti_tls.first().copied()).await;
    assert!(is_closed(&mut connect(addresses.cti_tls.first().copied()).await).await);
    assert_eq!(house.running.counters.cti_refused.value(), 1);
    let elsewhere = tokio::net::TcpSocket::new_v4().expect("a socket");
    elsewhere.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("another address");
    let stream = elsewhere
        .connect(addresses.cti_tls.first().copied().expect("it listens"))
        .await
        .expect("a connection");
    let config = security::tls::client(&house.authority.pem().certificate, None).expect("a client");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut stream =
        soon(tokio_rustls::TlsConnector::from(config).connect(name, stream)).await.expect("a handshake");
    echoes(&mut stream, "from elsewhere\n").await;
    assert!(
        health(&house).await.starts_with("HTTP/1.1 200"),
        "whoever asks for health has places of his own"
    );
    echoes(&mut house.plain().await, "without a handshake\n").await;
}

async fn health(house: &House) -> String {
    let mut stream = house.tls(house.running.addresses.web.first().copied(), None).await;
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("written");
    rest(&mut stream).await
}

/// However many places there are: they begin a handshake and say nothing more, finish it, or stop within a request.
#[tokio::test]
async fn idle_web_connections_shut_nobody_out() {
    let shares = [(512, 4), (2, 512)];
    for (max_web_connections, max_web_connections_per_address) in shares {
        let limits =
            Limits { max_web_connections, max_web_connections_per_address, ..Wishes::default().limits };
        let house = house(with(limits)).await;
        let web = house.running.addresses.web.first().copied();
        let mut lazy = Vec::new();
        for _ in 0..10 {
            lazy.push(connect(web).await);
        }
        assert!(health(&house).await.starts_with("HTTP/1.1 200"));
        let mut dripping = Vec::new();
        for _ in 0..10 {
            let mut stream = house.tls(web, None).await;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").await.expect("written");
            dripping.push(stream);
        }
        assert!(health(&house).await.starts_with("HTTP/1.1 200"));
        assert!(house.running.counters.web_refused.value() >= 10);
        for stream in &mut lazy {
            assert!(is_closed(stream).await, "who only lies there has lost his place");
        }
    }
}

#[tokio::test]
async fn idle_http_connections_are_closed() {
    let patience = Patience { http_head: Duration::from_millis(300), ..Patience::default() };
    let house = house(Wishes { patience, ..Wishes::default() }).await;
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (says, answered) in [("", false), ("GET /li", false), (request, true)] {
        let mut stream = house.tls(house.running.addresses.web.first().copied(), None).await;
        stream.write_all(says.as_bytes()).await.expect("written");
        let mut read = Vec::new();
        // Whether its end is said or cut off.
        let _ = soon(stream.read_to_end(&mut read)).await;
        assert_eq!(read.starts_with(b"HTTP/1.1 200"), answered, "{says:?}");
    }
}

#[tokio::test]
async fn an_http_connection_that_is_always_busy_has_its_time() {
    let patience = Patience { http_life: Duration::from_secs(1), ..Patience::default() };
    let house = house(Wishes { patience, ..Wishes::default() }).await;
    let mut stream = house.tls(house.running.addresses.web.first().copied(), None).await;
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let busy = async {
        let mut answer = [0; 4_096];
        while stream.write_all(request).await.is_ok()
            && stream.read(&mut answer).await.is_ok_and(|read| read > 0)
        {}
    };
    soon(busy).await;
}

#[tokio::test]
async fn lines_beyond_a_lower_limit() {
    let limits = Limits { max_line_bytes: 20, ..Wishes::default().limits };
    let house = house(with(limits)).await;
    let mut stream = house.plain().await;
    echoes(&mut stream, "twenty characters it\n").await;
    stream.write_all(b"twenty characters it!\n").await.expect("written");
    assert_eq!(rest(&mut stream).await, "line_too_long\n");
}

#[tokio::test]
async fn administrators_beyond_the_limit() {
    let folder = std::env::temp_dir().join(format!("ctimanager-askers-{}", std::process::id()));
    let path = folder.join("ctimanager.sock");
    let mut wishes = Wishes::default();
    wishes.listen.control = Some(path.clone());
    let house = house(wishes).await;
    let mut askers = Vec::new();
    for _ in 0..32 {
        askers.push(
            UnixStream::connect(Address::of(&path).expect("its folder").path()).await.expect("a connection"),
        );
    }
    assert!(
        is_closed(
            &mut UnixStream::connect(Address::of(&path).expect("its folder").path()).await.expect("accepted")
        )
        .await
    );
    askers[31].write_all(b"{\"command\": \"status\"}\n").await.expect("written");
    expect(&mut askers[31], "{\"ok\":\"Status\"}\n").await;
    drop(house);
    let _ = std::fs::remove_dir_all(folder);
}
