//! Strangers at a real node's doors, each beside an honest phone and an honest application: what one of them does costs the
//! others nothing, and nothing of it is left.

use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::lab::agent::{Agent, Ask};
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node, PASSWORD, digest_password};
use tests::lab::{Lab, SOON, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
/// Requests of the honest before and beside an attack.
const ROUNDS: u32 = 25;
/// By so much the honest may be slower beside an attack, of a node without optimisation whose machine has other work.
const FACTOR: u32 = 10;
/// What is no slower than this at [`FACTOR`] is fast.
const FAST: Duration = Duration::from_millis(2);
/// The same beside a crowd, of whom nobody is over his own share: of what they may do together the honest feel the cost. No
/// call of theirs needs to be repeated for it (T1).
const BESIDE_A_CROWD: Duration = Duration::from_millis(25);

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

    /// The median time of a call that is placed and refused, and of a request of the application.
    async fn times(&mut self) -> [Duration; 2] {
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
        [calls, requests].map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
    }

    /// Beside an attack both are about as fast as before it, or as `least`, and nothing of the honest is lost; the factor is
    /// for a busy machine.
    async fn beside(&mut self, what: &str, least: Duration, attack: impl Future<Output = ()>) {
        let before = self.times().await;
        tokio::pin!(attack);
        let during = tokio::select! {
            () = &mut attack => panic!("{what} ended before the honest were done"),
            times = self.times() => times,
        };
        let ratio = |n: usize| during[n].as_secs_f64() / before[n].as_secs_f64();
        eprintln!(
            "{what}: a call and a request took {before:.1?} before and {during:.1?} beside it: {:.1} and {:.1} times",
            ratio(0),
            ratio(1)
        );
        for (before, during) in before.into_iter().zip(during) {
            assert!(during < FACTOR * before.max(least), "{what}: {before:?}, then {during:?}");
        }
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
async fn flood(from: &[IpAddr], node: SocketAddr, message: impl Fn(usize) -> Vec<u8>) {
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
}

/// As many addresses as keep each of them below its share.
fn crowd() -> Vec<IpAddr> {
    (0..64_u32).map(|n| Ipv4Addr::from_bits(0x7f4d_0001 + (n << 10)).into()).collect()
}

/// REGISTERs with a wrong password under the nonce that the node gave this address.
async fn guesses(mut agent: Agent) {
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
}

/// Bytes that are no SIP.
fn garbage(number: usize) -> Vec<u8> {
    (0..300).map(|n| (number.wrapping_mul(2_654_435_761).wrapping_add(n * n * 7) >> 3) as u8).collect()
}

/// Pumps requests over a connection and reads the answers; makes another one when it is closed; for ever.
async fn pump(node: SocketAddr) {
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
async fn comes_and_goes(node: SocketAddr) {
    for number in 0.. {
        let Ok(mut stream) = TcpStream::connect(node).await else { continue };
        // Who is refused may have heard it before he writes.
        let _ = stream.write_all(request("OPTIONS", "TCP", number, "").as_bytes()).await;
    }
}

fn gauge(page: &str, name: &str) -> u64 {
    let line =
        page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {page}"));
    line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).map_or(0, |value| value as u64)
}

fn alarm_of<'a>(alarms: &'a Value, name: &str, address: IpAddr) -> Option<&'a Value> {
    let is = |alarm: &&Value| {
        alarm["name"] == name
            && alarm["state"] == "raised"
            && alarm["parameters"]["address"] == address.to_string()
    };
    alarms.as_array().into_iter().flatten().find(is)
}

/// What goes on until the honest are done.
type Attack = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A node with its honest phone and application, and whom floods come from.
struct Flooded {
    node: Node,
    honest: Honest,
    /// See [`FAST`].
    least: Duration,
    /// Held for their addresses.
    labs: [Lab; 2],
}

impl Flooded {
    async fn new(test: &str) -> Flooded {
        let labs = [Lab::new(test), Lab::new(&format!("{test}-outside"))];
        let node = Node::start(&labs[0], config(&labs[0])).await;
        let mut honest = Honest::at(&labs[0], &node).await;
        honest.times().await;
        Flooded { node, honest, least: FAST, labs }
    }

    /// Runs each attack beside the honest; then nothing of them is left.
    async fn suffers(&mut self, attacks: Vec<(&str, Attack)>) {
        let before = self.node.memory_kib();
        for (what, attack) in attacks {
            self.honest.beside(what, self.least, attack).await;
        }
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
        let (_, page) = self.node.page("/metrics").await;
        gauge(&page, &format!("ctimanager_shares_refused_total{{share=\"sip_messages\",who=\"{who}\"}}"))
    }
}

fn bytes(method: &'static str, extra: &'static str) -> impl Fn(usize) -> Vec<u8> + Send {
    move |number| request(method, "UDP", number, extra).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_one_address_take_nothing_from_the_honest_and_leave_nothing() {
    let mut house = Flooded::new("strangers-floods").await;
    let (outside, inside, at) = ([house.labs[1].host()], [house.labs[0].host()], house.node.sip);
    let many: &'static str = ";a".repeat(8_000).leak();
    let guesser = Agent::bind(&house.labs[1], at).await;
    house
        .suffers(vec![
            ("small OPTIONS", Box::pin(async move { flood(&outside, at, bytes("OPTIONS", "")).await })),
            ("INVITEs", Box::pin(async move { flood(&outside, at, bytes("INVITE", "")).await })),
            ("16 KiB datagrams", Box::pin(async move { flood(&outside, at, bytes("INVITE", many)).await })),
            ("garbage", Box::pin(async move { flood(&outside, at, garbage).await })),
            ("unknown methods", Box::pin(async move { flood(&outside, at, bytes("NONSENSE", "")).await })),
            ("wrong digests", Box::pin(guesses(guesser))),
            (
                "INVITEs from the phone's own address",
                Box::pin(async move { flood(&inside, at, bytes("INVITE", "")).await }),
            ),
            (
                "16 KiB datagrams from the phone's own address",
                Box::pin(async move { flood(&inside, at, bytes("INVITE", many)).await }),
            ),
        ])
        .await;
    assert!(house.refused("address").await > 0, "the floods were over their shares");
    let alarms = house.node.admin("alarms");
    assert!(alarm_of(&alarms, "ShareExceeded", outside[0]).is_some(), "{alarms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_a_crowd_take_nothing_from_the_honest_and_leave_nothing() {
    let mut house = Flooded { least: BESIDE_A_CROWD, ..Flooded::new("strangers-crowd").await };
    let at = house.node.sip;
    let many: &'static str = ";a".repeat(8_000).leak();
    house
        .suffers(vec![
            ("INVITEs", Box::pin(async move { flood(&crowd(), at, bytes("INVITE", "")).await })),
            ("16 KiB datagrams", Box::pin(async move { flood(&crowd(), at, bytes("INVITE", many)).await })),
            ("garbage", Box::pin(async move { flood(&crowd(), at, garbage).await })),
        ])
        .await;
    assert!(house.refused("strangers").await > 0, "the crowd was over its share");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_connections_take_nothing_from_the_honest_and_leave_nothing() {
    let mut house = Flooded::new("strangers-pumps").await;
    let at = house.node.sip;
    let pumps = async move {
        tokio::join!(pump(at), pump(at), pump(at), pump(at));
    };
    let comings = async move {
        tokio::join!(comes_and_goes(at), comes_and_goes(at));
    };
    house
        .suffers(vec![
            ("OPTIONS over four connections", Box::pin(pumps)),
            ("connections that come and go", Box::pin(comings)),
        ])
        .await;
    assert!(house.refused("address").await > 0, "the pumps were over their share");
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
    let mut proof = String::new();
    for (cseq, status) in [(1, "401"), (2, "200")] {
        let text = format!(
            "REGISTER sip:{node} SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKtcp{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:2001@{node}>;tag=t\r\nTo: <sip:2001@{node}>\r\nCall-ID: tcp\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <sip:2001@{node};transport=tcp>\r\n{proof}Content-Length: 0\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await.expect("written");
        let answer = head(&mut stream).await.expect("an answer");
        assert!(answer.contains(status), "{answer}");
        let Some(challenge) = answer.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: ")) else {
            break;
        };
        let mut headers = sip::message::Headers::default();
        headers.push("WWW-Authenticate", challenge);
        let uri = sip::message::Uri::read(&format!("sip:{node}")).expect("a URI");
        let mut signed = sip::message::Request::new(sip::message::Method::Register, uri);
        let login = sip::Login { user: "2001".into(), password: digest_password("2001").into() };
        assert!(login.answer(&headers, 401, &mut signed, "c"));
        proof = format!("Authorization: {}\r\n", signed.headers.get("Authorization").unwrap_or_default());
    }
    stream
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
    honest.beside("guesses", FAST, std::future::pending()).await;
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
