use super::*;
use crate::io::counters::Counters;
use crate::io::queue::lanes;
use tokio::net::{TcpListener, UdpSocket};

fn message(n: usize) -> String {
    format!("OPTIONS sip:{n} SIP/2.0\r\nCall-ID: {n}\r\nContent-Length: 0\r\n\r\n")
}

async fn udp_client(house: &House) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket
        .connect(house.running.addresses.sip_udp.first().copied().expect("it listens"))
        .await
        .expect("connected");
    socket
}

#[tokio::test]
async fn datagrams_come_back_whence_they_came() {
    let house = house(Wishes::default()).await;
    let client = udp_client(&house).await;
    let mut buffer = [0; 1500];
    for n in 0..50 {
        client.send(message(n).as_bytes()).await.expect("sent");
        let read = soon(client.recv(&mut buffer)).await.expect("an echo");
        assert_eq!(String::from_utf8_lossy(&buffer[..read]), message(n));
    }
}

#[tokio::test]
async fn in_a_burst_each_datagram_is_answered_or_counted() {
    let house = house(Wishes::default()).await;
    let client = udp_client(&house).await;
    let counters = Arc::clone(&house.running.counters);
    // As many as the client's own buffer holds, so that no answer is lost there.
    for n in 0..200 {
        // The kernel may refuse for a moment; it is a burst, not a race.
        while client.try_send(message(n).as_bytes()).is_err() {
            soon(client.writable()).await.expect("writable");
        }
    }
    let mut answered = 0;
    let mut buffer = [0; 1500];
    soon(async {
        while answered
            + counters.datagrams_dropped.value()
            + counters.datagrams_refused.value()
            + counters.datagrams_unsent.value()
            < counters.datagrams_received.value()
            || answered == 0
        {
            client.recv(&mut buffer).await.expect("an echo");
            answered += 1;
        }
    })
    .await;
}

#[tokio::test]
async fn datagrams_that_find_the_queue_full_are_dropped_and_counted() {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
    let local = socket.local_addr().expect("bound");
    // A quarter of the places is for strangers.
    let (lanes, mut inlets) = lanes(8, 1024);
    let (door, counters) = (Arc::default(), Arc::new(Counters::default()));
    let sockets = crate::io::sip::UdpSockets { known: socket, strangers: None };
    let reading = tokio::spawn(crate::io::sip::receive(sockets, local, lanes, door, Arc::clone(&counters)));
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for n in 0..5 {
        client.send_to(message(n).as_bytes(), local).await.expect("sent");
    }
    soon(async {
        while counters.datagrams_received.value() < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(counters.datagrams_dropped.value(), 3);
    let mut queued = 0;
    while inlets.datagrams.try_recv().is_ok() {
        queued += 1;
    }
    assert_eq!(queued, 2);
    reading.abort();
}

#[tokio::test]
async fn a_udp_socket_has_the_buffer_that_the_system_grants() {
    let most: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max")
        .map_or(usize::MAX, |text| text.trim().parse().expect("a number"));
    for wanted in [64 << 10, 100 << 10, 1 << 30] {
        let own = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = Listen { sip_udp: vec![own, own], sip_udp_buffer_bytes: wanted, ..Listen::default() };
        let bound = bind(&listen).await.expect("free ports");
        assert_eq!(bound.addresses.sip_udp_buffer_bytes, wanted.min(most));
    }
}

/// A phone waits for a turn of all else, not for all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_applications_have_waiting_does_not_delay_sip() {
    const FRAMES: usize = 60;
    let mut house = house(Wishes::default()).await;
    let (client, counters) = (udp_client(&house).await, Arc::clone(&house.running.counters));
    let mut application = house.plain().await;
    HELD.store(true, Ordering::Relaxed);
    application.write_all(format!("hold\n{}", "busy 5\n".repeat(FRAMES)).as_bytes()).await.expect("written");
    while soon(house.seen.recv()).await.expect("it lives") != "held" {}
    client.send(b"OPTIONS sip:mark SIP/2.0\r\nContent-Length: 0\r\n\r\n").await.expect("sent");
    soon(async {
        while counters.datagrams_received.value() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    HELD.store(false, Ordering::Relaxed);
    let mut before = 0;
    while soon(house.seen.recv()).await.expect("it lives") != "mark" {
        before += 1;
    }
    assert!(before < 5, "{before} of {FRAMES} came before");
}

/// On one thread: whoever reads sockets, or is an application's connection, has it between the owner's inputs.
#[tokio::test]
async fn the_owner_keeps_no_thread_for_long() {
    const FRAMES: usize = 40;
    let mut house = house(Wishes::default()).await;
    let mut application = house.plain().await;
    application.write_all("busy 3\n".repeat(FRAMES).as_bytes()).await.expect("written");
    let (mut seen, mut most) = (0, 0);
    soon(async {
        while seen < FRAMES {
            tokio::task::yield_now().await;
            let now = std::iter::from_fn(|| house.seen.try_recv().ok()).filter(|what| what == "busy").count();
            (seen, most) = (seen + now, most.max(now));
        }
    })
    .await;
    assert!(most <= 2, "{most} of {FRAMES} without a pause");
}

/// As long as strangers had their turn, so long it is others' before the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_have_half_of_the_owners_time() {
    const MESSAGES: u32 = 40;
    let house = house(Wishes::default()).await;
    let (client, counters) = (udp_client(&house).await, Arc::clone(&house.running.counters));
    let began = now();
    for _ in 0..MESSAGES {
        client.send(b"BUSY 5\r\n\r\n").await.expect("sent");
    }
    let mut buffer = [0; 100];
    for _ in 0..MESSAGES {
        soon(client.recv(&mut buffer)).await.expect("an echo");
    }
    let took = now().saturating_duration_since(began);
    assert!(took >= Duration::from_millis(5) * MESSAGES * 7 / 4, "{took:?}");
    assert_eq!(counters.datagrams_dropped.value(), 0);
}

#[tokio::test]
async fn messages_on_a_stream_come_back_in_order_however_it_is_cut() {
    let house = house(Wishes::default()).await;
    let all: String = (0..100).map(message).collect();
    let addresses = &house.running.addresses;
    let mut dice = Dice(7);
    let (mut reader, mut writer) = connect(addresses.sip_tcp.first().copied()).await.into_split();
    tokio::join!(write_in_pieces(&mut writer, all.as_bytes(), &mut dice), expect(&mut reader, &all));
    let (mut reader, mut writer) =
        tokio::io::split(house.tls(addresses.sip_tls.first().copied(), None).await);
    tokio::join!(write_in_pieces(&mut writer, all.as_bytes(), &mut dice), expect(&mut reader, &all));
}

#[tokio::test]
async fn a_keep_alive_is_answered() {
    let house = house(Wishes::default()).await;
    let mut stream = connect(house.running.addresses.sip_tcp.first().copied()).await;
    stream.write_all(b"\r\n\r\n").await.expect("written");
    expect(&mut stream, "\r\n").await;
    echoes(&mut stream, &message(1)).await;
}

#[tokio::test]
async fn a_message_that_never_ends_closes_its_connection() {
    let patience = Patience { sip_message: Duration::from_millis(50), ..Patience::default() };
    let mut house = house(Wishes { patience, ..Wishes::default() }).await;
    let address = house.running.addresses.sip_tcp.first().copied();
    let mut silent = connect(address).await;
    let mut slow = connect(address).await;
    slow.write_all(format!("{}OPTIONS sip:x SIP/2.0\r\n", message(1)).as_bytes()).await.expect("written");
    expect(&mut slow, &message(1)).await;
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut slow).await, "");
    house.sees("sip closed").await;
    house.sees("sip closed").await;
    assert_eq!(house.running.counters.sip_broken.value(), 2);
}

#[tokio::test]
async fn a_connection_that_the_core_closes_ends_after_what_was_written() {
    let mut house = house(Wishes::default()).await;
    let mut stream = connect(house.running.addresses.sip_tcp.first().copied()).await;
    stream.write_all(format!("{}CLOSE\r\n\r\n", message(1)).as_bytes()).await.expect("written");
    assert_eq!(rest(&mut stream).await, message(1));
    assert!(house.sees("sip closed").await.contains("Some(ConnectionId(1))"));
}

#[tokio::test]
async fn connections_are_made_on_demand_kept_and_made_again() {
    let mut house = house(Wishes::default()).await;
    let peer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let order = format!("RELAY tcp {}\r\n\r\n", peer.local_addr().expect("bound"));
    let client = udp_client(&house).await;
    client.send(order.as_bytes()).await.expect("sent");
    client.send(order.as_bytes()).await.expect("sent");
    let (mut stream, _) = soon(peer.accept()).await.expect("a connection");
    expect(&mut stream, &order.repeat(2)).await;
    // What comes on it is read like any other, and answered on it.
    echoes(&mut stream, &message(5)).await;
    drop(stream);
    assert!(house.sees("sip closed").await.ends_with("Some(ConnectionId(1))"));
    client.send(order.as_bytes()).await.expect("sent");
    let (mut stream, _) = soon(peer.accept()).await.expect("another connection");
    expect(&mut stream, &order).await;
}

#[tokio::test]
async fn over_tls_too_and_only_to_whom_the_authority_knows() {
    let mut house = house(Wishes::default()).await;
    let client = udp_client(&house).await;
    let peer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let order = format!("RELAY tls {}\r\n\r\n", peer.local_addr().expect("bound"));
    client.send(order.as_bytes()).await.expect("sent");
    let (stream, _) = soon(peer.accept()).await.expect("a connection");
    let acceptor = tokio_rustls::TlsAcceptor::from(tls_of(&house.authority).sip_server);
    let mut stream = soon(acceptor.accept(stream)).await.expect("a handshake");
    expect(&mut stream, &order).await;
    drop(stream);
    house.sees("sip closed").await;

    client.send(order.as_bytes()).await.expect("sent");
    let (stream, _) = soon(peer.accept()).await.expect("a connection");
    let stranger = Authority::generate("elsewhere", wall()).expect("an authority");
    let acceptor = tokio_rustls::TlsAcceptor::from(tls_of(&stranger).sip_server);
    assert!(soon(acceptor.accept(stream)).await.is_err());
    assert!(house.sees("sip closed").await.ends_with("None"));
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_told() {
    let mut house = house(Wishes::default()).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let client = udp_client(&house).await;
    client.send(format!("RELAY tcp {gone}\r\n\r\n").as_bytes()).await.expect("sent");
    assert_eq!(house.sees("sip closed").await, format!("sip closed {gone} None"));
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed() {
    let mut house = house(Wishes::default()).await;
    let mut stream = connect(house.running.addresses.sip_tcp.first().copied()).await;
    let big = format!("OPTIONS sip:x SIP/2.0\r\nX: {}\r\n\r\n", "z".repeat(30_000));
    soon(async {
        // It writes, and never reads the echoes: at last the server's end closes.
        while stream.write_all(big.as_bytes()).await.is_ok() {}
    })
    .await;
    assert!(house.sees("sip closed").await.ends_with("Some(ConnectionId(1))"));
}
