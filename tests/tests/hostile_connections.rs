//! Connections that mean no good, against a real node: whoever drips, floods or takes all places is bounded, and an
//! honest application beside them does not feel it.

use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::cti::{Cti, over_tls};
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, SOON, eventually};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

const MIB: usize = 1024 * 1024;
/// A head that asks for a WebSocket.
const UPGRADE: &[u8] = b"GET /cti/v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: cti.v1.jsonrpc\r\n\r\n";

async fn node(lab: &Lab) -> Node {
    Node::start(lab, Config::new(lab).route_point("RP_MAIN", "5000").user("attendant", &["RP_MAIN"])).await
}

async fn tcp(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap_or_else(|e| panic!("{address}: {e}"))
}

/// Writes a beginning at once and then a byte four times a second until the other end closes: how long that took, and
/// what it said.
async fn drip<S>(stream: S, beginning: &[u8], bytes: &[u8]) -> (Duration, String)
where
    S: AsyncRead + AsyncWrite,
{
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(stream);
    let dripping = async {
        let _ = write.write_all(beginning).await;
        let mut clock = interval(Duration::from_millis(250));
        for byte in bytes.iter().cycle() {
            clock.tick().await;
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
        }
        // What it says is read to its end.
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    tokio::select! {
        () = dripping => {}
        // A reset is an end, too.
        _ = read.read_to_end(&mut said) => {}
    }
    (began.elapsed(), String::from_utf8_lossy(&said).into_owned())
}

/// The slowest answer that an application got while something went on, asked ten times a second.
async fn meanwhile<T>(honest: &mut Cti, something: impl Future<Output = T>) -> (T, Duration) {
    let mut worst = Duration::ZERO;
    let mut clock = interval(Duration::from_millis(100));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let asking = async {
        loop {
            clock.tick().await;
            let asked = Instant::now();
            honest.call("provider.heartbeat", json!({})).await;
            worst = worst.max(asked.elapsed());
        }
    };
    let done = tokio::select! {
        never = asking => never,
        done = something => done,
    };
    (done, worst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drips_is_given_up_on_every_port() {
    let lab = Lab::new("drips");
    let mut node = node(&lab).await;
    let mut honest = node.application("attendant").await;
    let ca = node.ca();
    // The first bytes of a ClientHello that says it is long.
    let hello = [0x16, 0x03, 0x01, 0x10, 0x00, 0x01, 0x00, 0x0f, 0xfc, 0x03, 0x03];
    let line = br#"{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{"user":""#;
    let sip = b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nSubject: ";
    // A text frame that says it has 100 bytes.
    let text_frame = [UPGRADE, &[0x81, 0x80 | 100]].concat();
    let sockets = async {
        tokio::join!(
            drip(tcp(node.cti).await, &hello, &[0]),
            drip(tcp(node.sips).await, &hello, &[0]),
            drip(tcp(node.web).await, &hello, &[0]),
            drip(tcp(node.cti_plain).await, b"", line),
            drip(over_tls(node.cti, &ca).await, b"", line),
            drip(over_tls(node.web, &ca).await, b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", b"y"),
            drip(over_tls(node.web, &ca).await, &UPGRADE[..UPGRADE.len() - 4], b"\r\nX: y"),
            drip(over_tls(node.web, &ca).await, &text_frame, b"{"),
            drip(tcp(node.sip).await, b"", sip),
            drip(over_tls(node.sips, &ca).await, b"", sip),
        )
    };
    let (ends, worst) = meanwhile(&mut honest, sockets).await;
    let (a, b, c, plain, tls, head, upgrade, frame, sip, sips) = ends;
    let seconds = |(time, _): &(Duration, String)| time.as_secs_f64();
    let brief = [&a, &b, &c, &plain, &tls, &head, &upgrade, &frame].map(seconds);
    let longer = [&sip, &sips].map(seconds);
    eprintln!("given up after {brief:.1?} s, SIP after {longer:.1?} s; slowest answer meanwhile {worst:?}");
    assert!(brief.iter().all(|time| *time < 20.0), "10 s and a busy machine's delay: {brief:.1?}");
    assert!(longer.iter().all(|time| *time < 45.0), "30 s and a busy machine's delay: {longer:.1?}");
    for (_, said) in [&plain, &tls, &frame] {
        assert!(said.contains("open_timeout"), "told why: {said}");
    }
    honest.call("device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}})).await;
    node.is_well();
}

/// Writes as much as the other end takes, and what it said until it closed.
async fn pour<S: AsyncRead + AsyncWrite>(
    stream: S,
    pieces: impl Iterator<Item = Vec<u8>>,
    listen: bool,
) -> String {
    let (mut read, mut write) = tokio::io::split(stream);
    let pouring = async {
        for piece in pieces {
            if write.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = write.flush().await;
    };
    let mut said = Vec::new();
    if listen {
        let hearing = async { read.read_to_end(&mut said).await };
        let _ = timeout(3 * SOON, async { tokio::join!(pouring, hearing) }).await.expect("it closes");
    } else {
        timeout(3 * SOON, pouring).await.expect("it closes");
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn frame(first: u8, length: u64) -> Vec<u8> {
    // A mask of zeros leaves the bytes as they are.
    [&[first, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giants_and_floods_end_and_the_memory_stays() {
    let lab = Lab::new("floods");
    let config = Config::new(&lab)
        .user("attendant", &[])
        // The honest one is at the same address as those who flood.
        .parameter("max_requests_per_second_per_address", json!(10_000_000));
    let mut node = Node::start(&lab, config).await;
    let mut honest = node.application("attendant").await;
    let before = node.memory_kib();
    let ca = node.ca();

    let giant_line = pour(tcp(node.cti_plain).await, std::iter::repeat_n(vec![b'x'; MIB / 2], 3), true);
    let giant_length = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 4000000000\r\n\r\n".to_vec();
    let giant_length = pour(tcp(node.sip).await, std::iter::once(giant_length), true);
    let endless_head = pour(tcp(node.sip).await, std::iter::repeat_n(b"X: y\r\n".repeat(100), 1000), true);
    let giant_frame = [UPGRADE.to_vec(), frame(0x81, 1 << 62)].into_iter();
    let giant_frame = pour(over_tls(node.web, &ca).await, giant_frame, true);
    let fragments = std::iter::once([UPGRADE, &frame(0x01, 8192), &[b' '; 8192]].concat())
        .chain(std::iter::repeat_n([&frame(0x00, 8192)[..], &[b' '; 8192]].concat(), 200));
    let fragments = pour(over_tls(node.web, &ca).await, fragments, true);
    // A million pings, whose answers nobody reads.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[7; 125]].concat().repeat(100);
    let pings = std::iter::once(UPGRADE.to_vec()).chain(std::iter::repeat_n(ping, 10_000));
    let pings = pour(over_tls(node.web, &ca).await, pings, false);
    // Requests whose answers nobody reads, as many as it takes.
    let request = br#"{"jsonrpc":"2.0","id":1,"method":"provider.devices"}"#;
    let request = [&request[..], b"\n"].concat().repeat(100);
    let unread = pour(tcp(node.cti_plain).await, std::iter::repeat_n(request, 100_000), false);
    let all =
        async { tokio::join!(giant_line, giant_length, endless_head, giant_frame, fragments, pings, unread) };
    let ((line, _, _, giant_frame, fragments, _, _), worst) = meanwhile(&mut honest, all).await;
    for said in [&line, &giant_frame, &fragments] {
        assert!(said.contains("line_too_long"), "told why: {said}");
    }
    let grown = node.memory_kib().saturating_sub(before);
    eprintln!("memory {before} KiB and {grown} KiB more; slowest answer meanwhile {worst:?}");
    assert!(grown < 64 * 1024, "{grown} KiB");
    node.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_megabyte_of_a_line_on_each_of_many_connections_is_not_held() {
    let lab = Lab::new("unfinished");
    let mut node = node(&lab).await;
    let mut honest = node.application("attendant").await;
    let before = node.memory_kib();
    let pouring: Vec<_> = (0..300)
        .map(|_| {
            let address = node.cti_plain;
            tokio::spawn(async move {
                // Who is refused, or not read on, has his end as well.
                let Ok(mut stream) = TcpStream::connect(address).await else { return };
                let _ = stream.write_all(&vec![b'x'; MIB]).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            })
        })
        .collect();
    let ended = async {
        for pour in pouring {
            timeout(3 * SOON, pour).await.expect("each one is closed").expect("no panic");
        }
    };
    let mut most = before;
    let watching = async {
        let mut clock = interval(Duration::from_millis(100));
        loop {
            clock.tick().await;
            most = node.memory_kib().max(most);
        }
    };
    let both = async {
        tokio::select! {
            () = ended => {}
            never = watching => never,
        }
    };
    let ((), worst) = meanwhile(&mut honest, both).await;
    let grown = most.saturating_sub(before);
    eprintln!("300 unfinished lines of 1 MiB: {grown} KiB more; slowest answer meanwhile {worst:?}");
    // 64 lines of 1 MiB, the others up to 64 KiB, with the room that a growing buffer takes.
    assert!(grown < 200 * 1024, "{grown} KiB");
    node.is_well();
}

/// Processor time of the node so far, in hundredths of a second.
fn processor_time(node: &Node) -> u64 {
    let stat = node.proc("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // utime and stime, counted from the state, which comes after the name.
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_free_files_it_neither_spins_nor_ends_and_goes_on_when_there_are_some() {
    let lab = Lab::new("files");
    let mut node = node(&lab).await;
    let mut honest = node.application("attendant").await;
    node.limit_files(node.open_files() + 10);
    // The system accepts them; the node can't.
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(tcp(node.cti_plain).await);
    }
    eventually("the node is out of files", SOON, async || {
        node.log().contains("a connection could not be accepted").then_some(())
    })
    .await;
    let before = processor_time(&node);
    let two_seconds = async {
        let mut clock = interval(Duration::from_secs(1));
        for _ in 0..3 {
            clock.tick().await;
        }
    };
    let ((), worst) = meanwhile(&mut honest, two_seconds).await;
    let used = processor_time(&node) - before;
    eprintln!("out of files for two seconds: {used} hundredths of a second used, slowest answer {worst:?}");
    assert!(used < 100, "it spins");
    let socket = UdpSocket::bind((lab.host(), 0)).await.expect("a port");
    let ping = format!(
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:x>\r\n\
         Call-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
        socket.local_addr().expect("bound")
    );
    socket.send_to(ping.as_bytes(), node.sip).await.expect("sent");
    let mut answer = [0; 4096];
    let length = timeout(SOON, socket.recv(&mut answer)).await.expect("SIP goes on").expect("read");
    assert!(answer[..length].starts_with(b"SIP/2.0 200"));
    drop(crowd);
    let mut late = node.application("attendant").await;
    late.call("provider.heartbeat", json!({})).await;
    let warnings = node.log().matches("a connection could not be accepted").count();
    assert!(warnings < 20, "{warnings} lines for one condition");
    node.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_more_than_may_come_are_closed_and_an_honest_one_gets_in() {
    let lab = Lab::new("crowd");
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .user("attendant", &["RP_MAIN"])
        .parameter("max_cti_connections", json!(50))
        .parameter("max_unopened_connections", json!(100))
        .parameter("max_unopened_connections_per_address", json!(100));
    let mut node = Node::start(&lab, config).await;
    let mut honest = node.application("attendant").await;
    let address = node.cti_plain;
    let knocking = async {
        let mut crowd = Vec::new();
        for _ in 0..1_150 {
            crowd.push(tcp(address).await);
        }
        let mut ends = 0;
        for mut stream in crowd {
            let mut said = Vec::new();
            // Closed at once, or after 10 s with a word; a reset is an end, too.
            let _ = timeout(2 * SOON, stream.read_to_end(&mut said)).await.expect("it is closed");
            ends += 1;
        }
        ends
    };
    let late = async {
        eventually("another application gets in", 2 * SOON, async || {
            let mut stream = TcpStream::connect(address).await.ok()?;
            let open =
                json!({"user": "attendant", "password": tests::lab::node::PASSWORD, "application": "late"});
            let open = json!({"jsonrpc": "2.0", "id": 1, "method": "provider.open", "params": open});
            stream.write_all(format!("{open}\n").as_bytes()).await.ok()?;
            let mut answer = vec![0; 4096];
            let length = stream.read(&mut answer).await.ok()?;
            String::from_utf8_lossy(&answer[..length]).contains("\"session\"").then_some(stream)
        })
        .await
    };
    let ((ends, _late), worst) = meanwhile(&mut honest, async { tokio::join!(knocking, late) }).await;
    eprintln!("{ends} connections ended; slowest answer meanwhile {worst:?}");
    assert_eq!(ends, 1_150);
    node.is_well();
}
