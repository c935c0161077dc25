//! Strangers at a real node's doors, each beside an honest phone and an honest application: what one of them does costs the
//! others nothing, and nothing of it is left.

use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::lab::agent::{Agent, Ask};
use tests::lab::cti::{Cti, client_config};
use tests::lab::node::{Config, Node, PASSWORD, digest_password};
use tests::lab::{Lab, SOON, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
/// Requests of the honest beside an attack, each time, and without it.
const ROUNDS: u32 = 20;
/// They are measured by turns, without and beside, so often: what else a machine has to do is the same for both.
const TURNS: u32 = 3;
/// By so much the honest may be slower beside an attack than without, in the same run: of what was measured
/// (docs/security.md) twice as much, for a machine that others keep busy.
const FACTOR: u32 = 4;
/// What is no slower than this at [`FACTOR`] is fast: less than what a busy machine lets everybody wait for its processor.
const FAST: Duration = Duration::from_millis(2);
/// Of so many requests of the honest phone one may have to be repeated.
const ONE_IN: u32 = 20;

fn config(lab: &Lab) -> Config {
    let config =
        Config::new(lab).route_point("RP_MAIN", "5000").phone("2001").user("attendant", &["RP_MAIN"]);
    // The honest phone calls as fast as it is answered.
    let calls = ["max_calls_per_second_per_line", "max_calls_per_second_per_device"];
    calls.into_iter().fold(config, |config, key| config.parameter(key, json!(10_000)))
}

/// A phone that has registered, and an application with a provider.
struct Honest {
    phone: Agent,
    application: Cti,
    asked: u32,
}

impl Honest {
    async fn at(lab: &Lab, node: &Node) -> Honest {
        let mut phone = Agent::bind(lab, node.sip).await;
        assert_eq!(register(&mut phone, "2001", &digest_password("2001"), 1).await, 200);
        // What the kernel has no room for beside a flood is lost.
        phone.repeats = true;
        Honest { phone, application: node.application("attendant").await, asked: 0 }
    }

    /// How long calls that are placed and refused took, and requests of the application.
    async fn times(&mut self) -> [Vec<Duration>; 2] {
        let (mut calls, mut requests) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            self.asked += 1;
            let name = format!("honest{}", self.asked);
            let ask = Ask { body: SDP, ..ask("INVITE", "7777", "2001", &name, 1) };
            let began = Instant::now();
            let answer = self.phone.ask_as(&ask, "2001", &digest_password("2001")).await;
            assert_eq!(answer.status(), 404, "the call was routed: {}", answer.0);
            calls.push(began.elapsed());
            let began = Instant::now();
            self.application.call("provider.heartbeat", json!({})).await;
            requests.push(began.elapsed());
        }
        [calls, requests]
    }

    /// Beside an attack both are about as fast as without it, or as where it is aimed at somebody else on the machine, and
    /// nothing of the honest is lost.
    async fn beside(&mut self, what: &str, Attack { mut idle, mut attack }: Attack) {
        let (mut before, mut during) = (Times::default(), Times::default());
        let repeated = self.phone.repeated;
        let ended = |never: Infallible| -> [Vec<Duration>; 2] { match never {} };
        for _ in 0..TURNS {
            before.add(tokio::select! { never = &mut idle => ended(never), times = self.times() => times });
            during.add(tokio::select! { never = &mut attack => ended(never), times = self.times() => times });
        }
        let repeated = self.phone.repeated - repeated;
        let (before, during) = (before.medians(), during.medians());
        let ratio = |n: usize| during[n].as_secs_f64() / before[n].as_secs_f64();
        eprintln!(
            "{what}: a call and a request took {before:.1?} without and {during:.1?} beside it: {:.1} and {:.1} times; \
             {repeated} repeated",
            ratio(0),
            ratio(1)
        );
        for (before, during) in before.into_iter().zip(during) {
            assert!(during < FACTOR * before.max(FAST), "{what}: {before:?}, then {during:?}");
        }
        // Two for each call.
        assert!(repeated <= 4 * TURNS * ROUNDS / ONE_IN, "{what}: {repeated} were lost");
    }
}

#[derive(Default)]
struct Times([Vec<Duration>; 2]);

impl Times {
    fn add(&mut self, [calls, requests]: [Vec<Duration>; 2]) {
        self.0[0].extend(calls);
        self.0[1].extend(requests);
    }

    fn medians(self) -> [Duration; 2] {
        self.0.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
    }
}

fn ask<'a>(method: &'a str, to: &'a str, from: &'a str, call: &'a str, cseq: u32) -> Ask<'a> {
    Ask { method, to, from, call, cseq, headers: Vec::new(), body: "" }
}

async fn register(agent: &mut Agent, user: &str, password: &str, number: u32) -> u16 {
    let call = format!("register{number}");
    agent.ask_as(&ask("REGISTER", "", user, &call, 1), user, password).await.status()
}

fn request(method: &str, transport: &str, number: usize, extra: &str) -> String {
    format!(
        "{method} sip:5000@x SIP/2.0\r\nVia: SIP/2.0/{transport} h;branch=z9hG4bKflood{number};rport{extra}\r\n\
         From: <sip:a@b>;tag={number}\r\nTo: <sip:5000@x>\r\nCall-ID: {number}\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Sends datagrams from these addresses in turn, 32,000 a second together, and reads what comes back, for ever. It leaves
/// the node its processors: without them it is the machine that is slow.
async fn flood(from: &[IpAddr], node: SocketAddr, message: impl Fn(usize) -> Vec<u8>) -> Infallible {
    let mut sockets = Vec::new();
    for address in from {
        sockets.push(UdpSocket::bind((*address, 0)).await.expect("a port"));
    }
    let mut answer = [0; 2048];
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    for (number, socket) in sockets.iter().cycle().enumerate() {
        // What the kernel can't take now is lost, as on any line.
        let _ = socket.send_to(&message(number), node).await;
        while socket.try_recv(&mut answer).is_ok() {}
        if number % 32 == 0 {
            pace.tick().await;
        }
    }
    unreachable!("they come round for ever")
}

/// Such a flood, and the same one at somebody else's port, where nobody reads.
fn floods(
    from: impl Into<Vec<IpAddr>>,
    node: SocketAddr,
    message: impl Fn(usize) -> Vec<u8> + Send + Sync + Copy + 'static,
) -> Attack {
    let from: Vec<IpAddr> = from.into();
    let elsewhere = std::net::UdpSocket::bind((node.ip(), 0)).expect("a port");
    let (others, at) = (from.clone(), elsewhere.local_addr().expect("bound"));
    let idle = Box::pin(async move {
        let _held = elsewhere;
        flood(&others, at, message).await
    });
    Attack { idle, attack: Box::pin(async move { flood(&from, node, message).await }) }
}

/// As many addresses as keep each of them below its share.
fn crowd() -> Vec<IpAddr> {
    (0..64_u32).map(|n| Ipv4Addr::from_bits(0x7f4d_0001 + (n << 10)).into()).collect()
}

/// REGISTERs with a wrong password under the nonce that the node gave this address.
async fn guesses(mut agent: Agent) -> Infallible {
    let ask = ask("REGISTER", "", "2001", "guess", 1);
    let challenge = agent.ask(&ask).await;
    let signed = agent.signed(&ask, &challenge, "2001", "a wrong one");
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    for number in 0_u64.. {
        let text = agent.write(&signed);
        agent.send(text.as_bytes()).await;
        if number % 16 == 0 {
            agent.forget_all();
            pace.tick().await;
        }
    }
    unreachable!("it goes on for ever")
}

/// Bytes that are no SIP.
fn garbage(number: usize) -> Vec<u8> {
    (0..300).map(|n| (number.wrapping_mul(2_654_435_761).wrapping_add(n * n * 7) >> 3) as u8).collect()
}

/// Pumps requests over a connection and reads the answers; makes another one when it is closed; for ever.
async fn pump(node: SocketAddr) -> Infallible {
    loop {
        let Ok(stream) = TcpStream::connect(node).await else { continue };
        let (mut read, mut write) = stream.into_split();
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; 65_536];
            while read.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
        for number in 0.. {
            if write.write_all(request("OPTIONS", "TCP", number, "").as_bytes()).await.is_err() {
                break;
            }
        }
        reading.abort();
    }
}

/// Connects, asks once and is gone, for ever.
async fn comes_and_goes(node: SocketAddr) -> Infallible {
    for number in 0.. {
        let Ok(mut stream) = TcpStream::connect(node).await else { continue };
        // Who is refused may have heard it before he writes.
        let _ = stream.write_all(request("OPTIONS", "TCP", number, "").as_bytes()).await;
    }
    unreachable!("it goes on for ever")
}

fn gauge(page: &str, name: &str) -> u64 {
    let line =
        page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {page}"));
    line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).map_or(0, |value| value as u64)
}

async fn refused(node: &Node, share: &str, who: &str) -> u64 {
    let (_, page) = node.page("/metrics").await;
    gauge(&page, &format!("ctimanager_shares_refused_total{{share=\"{share}\",who=\"{who}\"}}"))
}

fn alarm_of<'a>(alarms: &'a Value, name: &str, address: IpAddr) -> Option<&'a Value> {
    let is = |alarm: &&Value| {
        alarm["name"] == name
            && alarm["state"] == "raised"
            && alarm["parameters"]["address"] == address.to_string()
    };
    alarms.as_array().into_iter().flatten().find(is)
}

type Endless = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// What goes on until the honest are done, and what goes on without it.
struct Attack {
    idle: Endless,
    attack: Endless,
}

impl Attack {
    fn alone(attack: impl Future<Output = Infallible> + Send + 'static) -> Attack {
        Attack { idle: Box::pin(std::future::pending()), attack: Box::pin(attack) }
    }
}

/// A node with its honest phone and application, and whom floods come from.
struct Flooded {
    node: Node,
    honest: Honest,
    /// Held for their addresses.
    labs: [Lab; 2],
}

impl Flooded {
    async fn new(test: &str, change: impl FnOnce(Config) -> Config) -> Flooded {
        let labs = [Lab::new(test), Lab::new(&format!("{test}-outside"))];
        let node = Node::start(&labs[0], change(config(&labs[0]))).await;
        let mut honest = Honest::at(&labs[0], &node).await;
        honest.times().await;
        Flooded { node, honest, labs }
    }

    /// Runs each attack beside the honest; then nothing of them is left.
    async fn suffers(&mut self, attacks: Vec<(&str, Attack)>) {
        let before = self.node.memory_kib();
        for (what, attack) in attacks {
            self.honest.beside(what, attack).await;
        }
        self.has_nothing_left(before).await;
    }

    async fn has_nothing_left(&mut self, before: u64) {
        let (_, page) = self.node.page("/metrics").await;
        let transactions = gauge(&page, "ctimanager_sip_transactions ");
        assert!(transactions < 1_000, "the honest phone's alone: {transactions}");
        let lines = self.node.log().matches("ShareExceeded").count();
        assert!(lines < 300, "{lines} lines of refusals");
        let grown = self.node.memory_kib().saturating_sub(before);
        let lost = gauge(&page, "ctimanager_sip_datagrams_lost_total ");
        eprintln!(
            "memory {before} KiB and {grown} KiB more; {lost} datagrams thrown away by the system, {lines} lines"
        );
        assert!(grown < 32 * 1024, "{grown} KiB");
        self.node.is_well();
    }

    async fn refused(&self, who: &str) -> u64 {
        refused(&self.node, "sip_messages", who).await
    }
}

fn bytes(method: &'static str, extra: &'static str) -> impl Fn(usize) -> Vec<u8> + Send + Sync + Copy {
    move |number| request(method, "UDP", number, extra).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_one_address_take_nothing_from_the_honest_and_leave_nothing() {
    let mut house = Flooded::new("strangers-floods", |config| config).await;
    let (outside, inside, at) = ([house.labs[1].host()], [house.labs[0].host()], house.node.sip);
    let many: &'static str = ";a".repeat(8_000).leak();
    let guesser = Agent::bind(&house.labs[1], at).await;
    house
        .suffers(vec![
            ("small OPTIONS", floods(outside, at, bytes("OPTIONS", ""))),
            ("INVITEs", floods(outside, at, bytes("INVITE", ""))),
            ("REGISTERs", floods(outside, at, bytes("REGISTER", ""))),
            ("16 KiB datagrams", floods(outside, at, bytes("INVITE", many))),
            ("garbage", floods(outside, at, garbage)),
            ("unknown methods", floods(outside, at, bytes("NONSENSE", ""))),
            ("wrong digests", Attack::alone(guesses(guesser))),
            ("INVITEs from the phone's own address", floods(inside, at, bytes("INVITE", ""))),
            ("16 KiB datagrams from the phone's own address", floods(inside, at, bytes("INVITE", many))),
        ])
        .await;
    assert!(house.refused("address").await > 0, "the floods were over their shares");
    let alarms = house.node.admin("alarms");
    assert!(alarm_of(&alarms, "ShareExceeded", outside[0]).is_some(), "{alarms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_a_crowd_take_nothing_from_the_honest_and_leave_nothing() {
    let mut house = Flooded::new("strangers-crowd", |config| config).await;
    let at = house.node.sip;
    let many: &'static str = ";a".repeat(8_000).leak();
    house
        .suffers(vec![
            ("OPTIONS of a crowd", floods(crowd(), at, bytes("OPTIONS", ""))),
            ("INVITEs of a crowd", floods(crowd(), at, bytes("INVITE", ""))),
            ("REGISTERs of a crowd", floods(crowd(), at, bytes("REGISTER", ""))),
            ("16 KiB datagrams of a crowd", floods(crowd(), at, bytes("INVITE", many))),
            ("garbage of a crowd", floods(crowd(), at, garbage)),
        ])
        .await;
    assert!(house.refused("strangers").await > 0, "the crowd was over its share");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_connections_take_nothing_from_the_honest_and_leave_nothing() {
    // How much a pump gets through depends on the machine; a small share is used up on any.
    let share =
        |config: Config| config.parameter("max_stranger_sip_messages_per_second_per_address", json!(50));
    let mut house = Flooded::new("strangers-pumps", share).await;
    let at = house.node.sip;
    let pumps = async move { tokio::join!(pump(at), pump(at), pump(at), pump(at)).0 };
    let coming = |at| async move { tokio::join!(comes_and_goes(at), comes_and_goes(at)).0 };
    let elsewhere = tokio::net::TcpListener::bind((at.ip(), 0)).await.expect("a port");
    let other = elsewhere.local_addr().expect("bound");
    let idle = Box::pin(async move {
        tokio::select! { never = doorman(elsewhere) => never, never = coming(other) => never }
    });
    house
        .suffers(vec![
            ("OPTIONS over four connections", Attack::alone(pumps)),
            ("connections that come and go", Attack { idle, attack: Box::pin(coming(at)) }),
        ])
        .await;
    assert!(house.refused("address").await > 0, "the pumps were over their share");
}

/// What a client says first.
fn hello(ca: &std::path::Path) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(client_config(ca)), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory takes it");
    hello
}

/// Connects from there, says it, waits for the first bytes of an answer and is gone without a trace, for ever.
async fn knocks(from: IpAddr, node: SocketAddr, says: Vec<u8>) -> Infallible {
    loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_zero_linger().expect("it can be set");
        socket.bind((from, 0).into()).expect("an address of the machine");
        let Ok(mut stream) = socket.connect(node).await else { continue };
        // Who is refused may have heard it before he writes.
        if stream.write_all(&says).await.is_ok() {
            let _ = timeout(Duration::from_millis(5), stream.read(&mut [0; 64])).await;
        }
    }
}

/// Somebody else on the machine who takes all and says nothing.
async fn doorman(listener: tokio::net::TcpListener) -> Infallible {
    loop {
        drop(listener.accept().await);
    }
}

/// Four who knock there, and the same four at somebody else's.
async fn knocking(from: IpAddr, node: SocketAddr, says: Vec<u8>) -> Attack {
    let elsewhere = tokio::net::TcpListener::bind((node.ip(), 0)).await.expect("a port");
    let other = elsewhere.local_addr().expect("bound");
    let four = move |at| {
        let one = || knocks(from, at, says.clone());
        let (a, b, c, d) = (one(), one(), one(), one());
        async move { tokio::join!(a, b, c, d).0 }
    };
    let (idle, attack) = (four(other), Box::pin(four(node)));
    let idle = Box::pin(async move {
        tokio::select! { never = doorman(elsewhere) => never, never = idle => never }
    });
    Attack { idle, attack }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_and_closes_connections_as_fast_as_he_can_takes_nothing_from_the_honest() {
    let mut house = Flooded::new("strangers-doors", |config| config).await;
    let (outside, hello) = (house.labs[1].host(), hello(&house.node.ca()));
    let Node { sip, sips, cti, cti_plain, web, .. } = house.node;
    let (before, files) = (house.node.memory_kib(), house.node.open_files());
    let options = request("OPTIONS", "TCP", 1, "").into_bytes();
    for (what, share, at, says) in [
        ("SIP over TCP", "new_sip_connections", sip, options),
        ("SIP over TLS", "new_sip_connections", sips, hello.clone()),
        ("CTI over TLS", "new_cti_connections", cti, hello.clone()),
        ("CTI without", "new_cti_connections", cti_plain, b"{}\n".to_vec()),
        ("HTTPS", "new_web_connections", web, hello.clone()),
    ] {
        let Attack { idle, mut attack } = knocking(outside, at, says).await;
        let refusals = refused(&house.node, share, "address").await;
        // What may come at once has come.
        let used_up = eventually(format!("{what} is refused"), 3 * SOON, async || {
            (refused(&house.node, share, "address").await > refusals).then_some(())
        });
        tokio::select! { never = &mut attack => match never {}, () = used_up => {} }
        house.honest.beside(what, Attack { idle, attack }).await;
        let refusals = refused(&house.node, share, "address").await - refusals;
        eprintln!("{what}: {refusals} connections were refused");
    }
    // Others come in as ever, and a supervisor asks.
    let mut phone = connect(house.labs[0].host(), sip).await;
    assert!(registers(&mut phone, sip, "2001", ("late", 120)).await);
    house.node.application("attendant").await.call("provider.heartbeat", json!({})).await;
    let alarms = house.node.admin("alarms");
    let alarm = alarm_of(&alarms, "ShareExceeded", outside).unwrap_or_else(|| panic!("{alarms}"));
    assert_eq!(alarm["parameters"]["limit"], "max_new_connections_per_second_per_address", "{alarm}");
    assert_eq!(refused(&house.node, "new_sip_connections", "known_address").await, 0);
    eventually("no connection is left", 3 * SOON, async || {
        (house.node.open_files() <= files + 4).then_some(())
    })
    .await;
    house.has_nothing_left(before).await;
}

/// How many of so many connections from there, made at once, are answered.
async fn answered(from: IpAddr, node: SocketAddr, many: usize) -> usize {
    let mut crowd = Vec::new();
    for number in 0..many {
        let mut stream = connect(from, node).await;
        let _ = stream.write_all(request("OPTIONS", "TCP", number, "").as_bytes()).await;
        crowd.push(stream);
    }
    let mut answered = 0;
    for stream in &mut crowd {
        let answer = timeout(4 * SOON, head(stream)).await.expect("an answer or the end");
        answered += usize::from(answer.is_some_and(|answer| answer.starts_with("SIP/2.0 200")));
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_come_back_at_once_where_somebody_has_proved_himself_and_a_reload_changes_how_many() {
    let (lab, edge, outside) =
        (Lab::new("strangers-back"), Lab::new("strangers-back-edge"), Lab::new("strangers-back-outside"));
    let config = config(&lab).parameter("max_new_connections_per_second_per_address", json!(1));
    let mut node = Node::start(&lab, config.clone()).await;
    // Twenty at once, and one for each second that a slow machine takes for it.
    let strangers = answered(outside.host(), node.sip, 150).await;
    assert!((20..60).contains(&strangers), "{strangers} of a stranger's address");
    let mut phone = Agent::bind(&edge, node.sip).await;
    assert_eq!(register(&mut phone, "2001", &digest_password("2001"), 1).await, 200);
    assert_eq!(answered(edge.host(), node.sip, 300).await, 300, "behind a phone's address");
    // The node remembers it from the registration that it has kept.
    node.kill();
    node.start_again().await;
    assert_eq!(answered(edge.host(), node.sip, 300).await, 300, "after a restart, too");
    let strangers = answered(outside.host(), node.sip, 150).await;
    assert!((20..60).contains(&strangers), "{strangers} of a stranger's address");
    node.reloads(&config.parameter("max_new_connections_per_second_per_address", json!(100)));
    assert_eq!(answered(outside.host(), node.sip, 150).await, 150, "another share, from now on");
    eventually("the alarm of the address", SOON, async || {
        alarm_of(&node.admin("alarms"), "ShareExceeded", outside.host()).map(drop)
    })
    .await;
    node.is_well();
}

#[tokio::test]
async fn a_stranger_gets_one_answer_for_each_request() {
    let lab = Lab::new("strangers-echo");
    let mut node = Node::start(&lab, config(&lab)).await;
    let mut agent = Agent::bind(&lab, node.sip).await;
    for (number, (method, status)) in
        [("INVITE", 401), ("REGISTER", 401), ("BYE", 481), ("OPTIONS", 200)].into_iter().enumerate()
    {
        let call = format!("echo{number}");
        let text = agent.write(&ask(method, "5000", "2001", &call, 1));
        agent.send(text.as_bytes()).await;
        assert_eq!(agent.hear().await.status(), status);
    }
    // T1, doubled twice: a transaction would have repeated the refusal of the INVITE by then.
    assert!(agent.hear_within(Duration::from_millis(2_500)).await.is_none(), "nothing is said twice");
    assert_eq!(node.admin("status")["sip_transactions"], 0);
    node.is_well();
}

/// Reads one message without a body; `None` at the end.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if stream.read_line(&mut text).await.ok()? == 0 {
            return None;
        }
    }
    Some(text)
}

/// Connects from that address; the kernel would take the first one of the network.
async fn connect(from: IpAddr, node: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("the lab's address");
    BufReader::new(socket.connect(node).await.expect("it listens"))
}

/// Registers 2001 over TCP; the connection.
async fn registered_over_tcp(from: IpAddr, node: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = connect(from, node).await;
    assert!(registers(&mut stream, node, "2001", ("tcp", 120)).await);
    stream
}

/// A REGISTER on this connection, with the Call-ID and for so many seconds; whether it was answered 200.
async fn registers(
    stream: &mut BufReader<TcpStream>,
    node: SocketAddr,
    user: &str,
    (call, seconds): (&str, u32),
) -> bool {
    let mut proof = String::new();
    for (cseq, status) in [(1, "401"), (2, "200")] {
        let text = format!(
            "REGISTER sip:{node} SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK{call}{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{node}>;tag=t\r\nTo: <sip:{user}@{node}>\r\nCall-ID: {call}\r\n\
             CSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{node};transport=tcp>;expires={seconds}\r\n\
             {proof}Content-Length: 0\r\n\r\n"
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return false;
        }
        let Some(answer) = head(stream).await else { return false };
        assert!(answer.contains(status), "{answer}");
        let Some(challenge) = answer.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: ")) else {
            break;
        };
        let mut headers = sip::message::Headers::default();
        headers.push("WWW-Authenticate", challenge);
        let uri = sip::message::Uri::read(&format!("sip:{node}")).expect("a URI");
        let mut signed = sip::message::Request::new(sip::message::Method::Register, uri);
        let login = sip::Login { user: user.into(), password: digest_password(user).into() };
        assert!(login.answer(&headers, 401, &mut signed, "c"));
        proof = format!("Authorization: {}\r\n", signed.headers.get("Authorization").unwrap_or_default());
    }
    true
}

/// The contact that they register is one and the same, so that only the last connection leads to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_its_share_of_connections_and_keeps_none_that_is_nobodys() {
    let (lab, other) = (Lab::new("strangers-account"), Lab::new("strangers-account-phone"));
    let config = config(&lab).phone("2002").parameter("max_sip_connections", json!(100));
    let mut node = Node::start(&lab, config).await;
    let mut phone = connect(other.host(), node.sip).await;
    assert!(registers(&mut phone, node.sip, "2002", ("phone", 120)).await);
    let mut crowd = Vec::new();
    for number in 0..150 {
        let mut stream = connect(lab.host(), node.sip).await;
        let call = format!("crowd{number}");
        assert!(registers(&mut stream, node.sip, "2001", (&call, 120)).await, "{number}: there is room");
        if number % 2 == 1 {
            // It unregisters and stays.
            assert!(registers(&mut stream, node.sip, "2001", (&format!("{call}-end"), 0)).await, "{number}");
        }
        crowd.push(stream);
    }
    let mut late = connect(other.host(), node.sip).await;
    assert!(registers(&mut late, node.sip, "2002", ("late", 120)).await, "another phone comes in");
    let began = Instant::now();
    for stream in &mut crowd {
        let _ = timeout(4 * SOON, stream.read_to_end(&mut Vec::new())).await.expect("it is closed");
    }
    eprintln!("all that led to no contact were closed after {:.1?}", began.elapsed());
    late.write_all(request("OPTIONS", "TCP", 1_000, "").as_bytes()).await.expect("it is open");
    assert!(head(&mut late).await.is_some_and(|answer| answer.starts_with("SIP/2.0 200")));
    eventually("the alarm of the account", SOON, async || {
        let alarms = node.admin("alarms");
        let of_phone = |alarm: &&Value| alarm["parameters"]["limit"] == "max_sip_connections_per_phone";
        alarms.as_array().into_iter().flatten().find(of_phone).map(drop)
    })
    .await;
    node.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_strangers_close_after_seconds_and_a_phones_stays() {
    let lab = Lab::new("strangers-idle");
    let config = config(&lab).parameter("max_stranger_sip_connections_per_address", json!(50));
    let mut node = Node::start(&lab, config).await;
    let mut phone = registered_over_tcp(lab.host(), node.sip).await;
    let began = Instant::now();
    let mut crowd = Vec::new();
    for number in 0..200 {
        let mut stream = connect(lab.host(), node.sip).await;
        // Who is refused may have heard it before he writes.
        let _ = stream.write_all(request("OPTIONS", "TCP", number, "").as_bytes()).await;
        crowd.push(stream);
    }
    let mut served = 0;
    for stream in &mut crowd {
        let answer = timeout(4 * SOON, head(stream)).await.expect("an answer or the end");
        served += usize::from(answer.is_some_and(|answer| answer.starts_with("SIP/2.0 200")));
    }
    assert!((1..=50).contains(&served), "{served} connections of one address were served at once");
    for stream in &mut crowd {
        let _ = timeout(4 * SOON, stream.read_to_end(&mut Vec::new())).await.expect("it is closed");
    }
    let took = began.elapsed();
    eprintln!("{served} of 200 connections were served, all were closed after {took:.1?}");
    assert!(took < Duration::from_secs(40), "10 s and a busy machine's delay: {took:?}");
    phone.write_all(request("OPTIONS", "TCP", 1_000, "").as_bytes()).await.expect("the phone's stays open");
    assert!(head(&mut phone).await.is_some_and(|answer| answer.starts_with("SIP/2.0 200")));
    eventually("the alarm of the address", SOON, async || {
        alarm_of(&node.admin("alarms"), "ShareExceeded", lab.host()).map(drop)
    })
    .await;
    node.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_a_phones_password_is_stopped_and_the_phone_is_not() {
    let (lab, outside) = (Lab::new("strangers-digest"), Lab::new("strangers-guesser"));
    let mut node = Node::start(&lab, config(&lab).phone("2002")).await;
    let mut honest = Honest::at(&lab, &node).await;
    let mut guesser = Agent::bind(&outside, node.sip).await;
    let stop = Arc::new(AtomicBool::new(false));
    let guessing = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let mut number = 100;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                assert_eq!(register(&mut guesser, "2001", &format!("guess{number}"), number).await, 401);
            }
            (guesser, number)
        })
    };
    honest.beside("guesses", Attack::alone(std::future::pending())).await;
    stop.store(true, Ordering::Relaxed);
    let (mut guesser, guessed) = guessing.await.expect("no panic");
    eprintln!("{} guesses", guessed - 100);
    assert!(guessed > 120, "more than the share: {guessed}");
    let right = register(&mut guesser, "2001", &digest_password("2001"), 1).await;
    assert_eq!(right, 401, "the right one is not taken either");
    let right = register(&mut guesser, "2002", &digest_password("2002"), 2).await;
    assert_eq!(right, 401, "nor another account's from there");
    assert_eq!(register(&mut honest.phone, "2001", &digest_password("2001"), 3).await, 200);
    eventually("the alarm of the address", SOON, async || {
        alarm_of(&node.admin("alarms"), "PasswordGuessing", outside.host()).map(drop)
    })
    .await;
    let log = node.log();
    let line = log.lines().find(|line| line.contains("SipAuthenticationFailed")).expect("a line");
    assert!(line.contains(&outside.host().to_string()) && line.contains("reason=wrong_password"), "{line}");
    assert!(log.matches("SipAuthenticationFailed").count() < 200, "a line a second");
    node.is_well();
}

/// Tries to log in over plain TCP from that address; the symbol of the refusal, nothing for success.
async fn guess(from: IpAddr, node: SocketAddr, user: &str, password: &str) -> Option<String> {
    let mut stream = connect(from, node).await;
    let open = json!({"user": user, "password": password, "application": "guess"});
    let open = json!({"jsonrpc": "2.0", "id": 1, "method": "provider.open", "params": open});
    stream.write_all(format!("{open}\n").as_bytes()).await.expect("written");
    let mut line = String::new();
    timeout(3 * SOON, stream.read_line(&mut line)).await.expect("an answer").expect("read");
    let answer: Value = serde_json::from_str(&line).expect("JSON");
    answer["error"]["data"]["cti"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_a_users_password_locks_out_nobody_but_himself() {
    let (lab, outside) = (Lab::new("strangers-logins"), Lab::new("strangers-logins-guesser"));
    let mut node = Node::start(&lab, config(&lab).user("other", &[])).await;
    let mut honest = Honest::at(&lab, &node).await;
    // Many at once take the queue of passwords, or so they hope.
    let crowd: Vec<_> =
        (0..200).map(|_| tokio::spawn(guess(outside.host(), node.cti_plain, "attendant", "guess"))).collect();
    let mut again = node.connect().await;
    let began = Instant::now();
    again.open("attendant", PASSWORD).await;
    eprintln!("an application at home logged in after {:?} beside 200 guesses", began.elapsed());
    let mut told = Vec::new();
    for guess in crowd {
        told.push(guess.await.expect("no panic").expect("refused"));
    }
    let failed = told.iter().filter(|symbol| *symbol == "LOGIN_FAILED").count();
    assert!(failed <= 10, "{failed} outcomes were told");
    let refused = guess(outside.host(), node.cti_plain, "attendant", PASSWORD).await;
    assert_eq!(refused.as_deref(), Some("RATE_LIMITED"), "the right one from there");
    let refused = guess(outside.host(), node.cti_plain, "other", PASSWORD).await;
    assert_eq!(refused.as_deref(), Some("RATE_LIMITED"), "another user's from there");
    // The kernel chose it for the honest application, too.
    let home = TcpStream::connect(node.cti_plain).await.and_then(|stream| stream.local_addr());
    let home = home.expect("it listens").ip();
    assert_eq!(guess(home, node.cti_plain, "attendant", PASSWORD).await, None, "where it was let in before");
    assert_eq!(guess(lab.host(), node.cti_plain, "other", PASSWORD).await, None, "whom nobody guessed at");
    honest.application.call("provider.heartbeat", json!({})).await;
    eventually("the alarm", SOON, async || {
        alarm_of(&node.admin("alarms"), "PasswordGuessing", outside.host()).map(drop)
    })
    .await;
    node.is_well();
}
