//! Bindings live until they expire: at the limit of contacts, across connections, proxies and the node's own end; and what a
//! phone writes leads the node to no other host.

use serde_json::{Value, json};
use sip::frame::{Frame, StreamFramer};
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::agent::{Agent, Ask, Heard};
use tests::lab::node::{Config, Node, digest_password};
use tests::lab::{Lab, SOON, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn config(lab: &Lab) -> Config {
    Config::new(lab).phone("2001").phone("2002").phone("2003")
}

fn register<'a>(number: &'a str, call: &'a str, headers: &[&str]) -> Ask<'a> {
    let headers = headers.iter().map(|line| (*line).to_owned()).collect();
    Ask { method: "REGISTER", to: "", from: number, call, cseq: 1, headers, body: "" }
}

/// A phone over UDP that has registered.
async fn phone(lab: &Lab, node: &Node, number: &'static str) -> Agent {
    let mut agent = Agent::bind(lab, node.sip).await;
    let said = agent.ask_as(&register(number, number, &[]), number, &digest_password(number)).await;
    assert_eq!(said.status(), 200, "{}", said.0);
    agent
}

/// Dials, with the phone's password; gives the INVITE that is on its way.
async fn dial(agent: &mut Agent, number: &'static str, to: &'static str, headers: &[&str]) -> Ask<'static> {
    let headers = headers.iter().map(|line| (*line).to_owned()).collect();
    let call = Ask { method: "INVITE", to, from: number, call: "call", cseq: 1, headers, body: SDP };
    let challenge = agent.ask(&call).await;
    assert_eq!(challenge.status(), 401, "{}", challenge.0);
    let call = agent.signed(&call, &challenge, number, &digest_password(number));
    let text = agent.write(&call);
    agent.send(text.as_bytes()).await;
    call
}

/// The next request of this method.
async fn asked(agent: &Agent, method: &str) -> Heard {
    loop {
        let heard = agent.hear().await;
        if heard.0.starts_with(method) {
            return heard;
        }
    }
}

async fn said(agent: &Agent, status: u16) -> Heard {
    loop {
        let heard = agent.hear().await;
        if heard.status() == status {
            return heard;
        }
    }
}

/// Is called, answers, and the call is up.
async fn talking(caller: &mut Agent, callee: &Agent, headers: &[&str], contact: &str) -> Heard {
    let call = dial(caller, "2002", "2001", headers).await;
    let invite = asked(callee, "INVITE").await;
    callee.answer(&invite, "200 OK", &format!("Contact: {contact}\r\n"), SDP).await;
    asked(callee, "ACK").await;
    let answered = said(caller, 200).await;
    let to = answered.header("To").unwrap_or_default().to_owned();
    let ack = caller.write(&Ask { method: "ACK", body: "", headers: Vec::new(), ..call });
    let plain = ack.lines().find(|line| line.starts_with("To:")).unwrap_or_default().to_owned();
    caller.send(ack.replace(&plain, &format!("To: {to}")).as_bytes()).await;
    invite
}

fn is_registered(node: &Node, device: &str) -> bool {
    let devices = node.admin("devices");
    let this = |entry: &Value| entry["name"] == device && entry["registered"] == true;
    devices.as_array().is_some_and(|all| all.iter().any(this))
}

/// One connection of a phone or a proxy over TCP.
struct Line {
    stream: TcpStream,
    framer: StreamFramer,
}

impl Line {
    fn of(stream: TcpStream) -> Line {
        Line { stream, framer: StreamFramer::default() }
    }

    /// From the lab's address, which is the one in its Contact.
    async fn to(node: &Node) -> Line {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(node.sip.ip(), 0)).expect("a free port");
        Line::of(socket.connect(node.sip).await.expect("the node listens"))
    }

    async fn accepted(listener: &TcpListener) -> Line {
        Line::of(timeout(SOON, listener.accept()).await.expect("it is dialled").expect("a connection").0)
    }

    async fn hear(&mut self) -> Heard {
        let mut piece = [0; 4096];
        loop {
            match self.framer.next().expect("it speaks SIP") {
                Some(Frame::Message(bytes)) => return Heard(String::from_utf8_lossy(&bytes).into_owned()),
                Some(Frame::Ping) => {}
                None => {
                    let read = timeout(SOON, self.stream.read(&mut piece)).await.expect("it is heard");
                    let read = read.expect("the connection lives");
                    assert!(read > 0, "the node hung up");
                    self.framer.push(&piece[..read]);
                }
            }
        }
    }

    async fn ask(&mut self, writer: &mut Agent, ask: &Ask<'_>) -> Heard {
        let text = writer.write(ask).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        self.stream.write_all(text.as_bytes()).await.expect("the node reads");
        loop {
            let heard = self.hear().await;
            if heard.status() >= 200 {
                return heard;
            }
        }
    }

    /// Registers by digest. `writer` is only the pen.
    async fn registers(&mut self, writer: &mut Agent, number: &str, headers: &[&str]) {
        let ask = register(number, "tcp", headers);
        let challenge = self.ask(writer, &ask).await;
        let again = writer.signed(&ask, &challenge, number, &digest_password(number));
        let said = self.ask(writer, &again).await;
        assert_eq!(said.status(), 200, "{}", said.0);
    }
}

/// A phone behind NAT that starts again and again: another port, another Call-ID, no instance.
#[tokio::test]
async fn the_oldest_of_too_many_contacts_gives_way() {
    let lab = Lab::new("twelve-registers");
    let node = Node::start(&lab, config(&lab)).await;
    let mut bob = phone(&lab, &node, "2002").await;
    let mut lives = Vec::new();
    for life in 0..12_u32 {
        let mut agent = Agent::bind(&lab, node.sip).await;
        let (call, contact) = (format!("life{life}"), format!("Contact: <sip:2001@{}>", agent.address));
        let said =
            agent.ask_as(&register("2001", &call, &[&contact]), "2001", &digest_password("2001")).await;
        assert_eq!(said.status(), 200, "{life}: {}", said.0);
        assert!(said.header("Date").is_some_and(|date| date.ends_with(" GMT")), "{}", said.0);
        assert!(said.0.contains(";expires=120"), "as long as a keepalive of CUCM: {}", said.0);
        lives.push(agent);
    }
    dial(&mut bob, "2002", "2001", &[]).await;
    for alive in &lives[2..] {
        asked(alive, "INVITE").await;
    }
    for gone in &lives[..2] {
        assert!(gone.hear_within(Duration::from_millis(50)).await.is_none());
    }
    // The same contact twice in one request is one.
    let contact = format!("<sip:2003@{}>", bob.address);
    let twice = format!("Contact: {contact}, {contact};expires=60");
    let said = bob.ask_as(&register("2003", "twice", &[&twice]), "2003", &digest_password("2003")).await;
    assert_eq!(said.0.lines().filter(|line| line.starts_with("Contact:")).count(), 1, "{}", said.0);
}

#[tokio::test]
async fn the_longest_registration_is_the_administrators_and_a_reload_changes_it() {
    let lab = Lab::new("expiry-maximum");
    let first = config(&lab).set("devices", "SEP2002", "registration_expiry_maximum", json!("2h"));
    let node = Node::start(&lab, first.clone()).await;
    let mut agent = Agent::bind(&lab, node.sip).await;
    let mut granted = async |number: &'static str, call: &str, headers: &[&str]| {
        let said = agent.ask_as(&register(number, call, headers), number, &digest_password(number)).await;
        let contact = said.header("Contact").unwrap_or_default().to_owned();
        contact.rsplit_once("expires=").map_or(contact.clone(), |(_, seconds)| seconds.to_owned())
    };
    assert_eq!(granted("2001", "a", &["Expires: 3600"]).await, "120");
    assert_eq!(granted("2001", "b", &[]).await, "120");
    assert_eq!(granted("2001", "c", &["Expires: 61"]).await, "61");
    assert_eq!(granted("2002", "d", &["Expires: 86400"]).await, "7200");
    node.reloads(&first.parameter("registration_expiry_maximum", json!("600s")));
    assert_eq!(granted("2001", "e", &["Expires: 3600"]).await, "600");
    assert_eq!(granted("2002", "f", &["Expires: 3600"]).await, "3600");
}

/// Over UDP at once, over TCP where it can be dialled; and who calls is let in without registering anew.
#[tokio::test]
async fn a_killed_node_goes_on_with_its_registrations() {
    let lab = Lab::new("restart-registrations");
    let (alice_listens, address) = {
        let listener = TcpListener::bind(lab.address()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    };
    let mut node = Node::start(&lab, config(&lab)).await;
    let mut bob = phone(&lab, &node, "2002").await;
    let carol = phone(&lab, &node, "2003").await;
    let mut alice = Line::to(&node).await;
    let contact = format!("Contact: <sip:2001@{address};transport=tcp>");
    alice.registers(&mut bob, "2001", &[&contact]).await;
    node.kill();
    node.start_again().await;
    for device in ["SEP2001", "SEP2002", "SEP2003"] {
        assert!(is_registered(&node, device), "{device}: {}", node.log());
    }
    dial(&mut bob, "2002", "2003", &[]).await;
    let invite = asked(&carol, "INVITE").await;
    assert!(invite.0.starts_with(&format!("INVITE sip:2003@{}", carol.address)), "{}", invite.0);
    carol.answer(&invite, "486 Busy Here", "", "").await;
    said(&bob, 486).await;
    let mut dave = Agent::bind(&lab, node.sip).await;
    let register = register("2002", "dave", &[]);
    assert_eq!(dave.ask_as(&register, "2002", &digest_password("2002")).await.status(), 200);
    dial(&mut dave, "2002", "2001", &[]).await;
    let mut dialled = Line::accepted(&alice_listens).await;
    assert!(dialled.hear().await.0.starts_with(&format!("INVITE sip:2001@{address}")));
    node.is_well();
}

#[tokio::test]
async fn what_the_configuration_has_no_place_for_does_not_come_back_nor_what_was_damaged() {
    let lab = Lab::new("restart-without");
    let all = config(&lab);
    let mut node = Node::start(&lab, all.clone()).await;
    let bob = phone(&lab, &node, "2002").await;
    let _carol = phone(&lab, &node, "2003").await;
    node.kill();
    std::fs::write(node.file(), all.clone().without("devices", "SEP2003").to_string()).expect("written");
    node.start_again().await;
    assert!(is_registered(&node, "SEP2002"));
    node.reloads(&all);
    assert!(!is_registered(&node, "SEP2003"), "it was removed in between");
    node.kill();
    let file = node.state().join("registrations");
    let mut bytes = std::fs::read(&file).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&file, bytes).expect("written");
    node.start_again().await;
    assert!(!is_registered(&node, "SEP2002"));
    assert!(node.log().contains("RegistrationStoreUnreadable"), "{}", node.log());
    assert!(node.state().join("registrations.unreadable").exists());
    drop(bob);
    let bob = phone(&lab, &node, "2002").await;
    node.kill();
    node.start_again().await;
    assert!(is_registered(&node, "SEP2002"), "it keeps them anew: {}", bob.address);
}

/// The connection is idle and closes: the Path, or the Contact, is dialled when the phone is wanted.
#[tokio::test]
async fn a_phone_outlives_its_connection_where_it_can_be_dialled() {
    let lab = Lab::new("dialled-anew");
    let node = Node::start(&lab, config(&lab)).await;
    let mut bob = phone(&lab, &node, "2002").await;
    let listener = TcpListener::bind(lab.address()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let behind =
        ["Contact: <sip:2001@10.9.9.9:5060>".to_owned(), format!("Path: <sip:{address};transport=tcp;lr>")];
    for (headers, route) in [
        (vec![format!("Contact: <sip:2001@{address};transport=tcp>")], None),
        (behind.to_vec(), Some(format!("<sip:{address};transport=tcp;lr>"))),
    ] {
        let files = node.open_files();
        let mut line = Line::to(&node).await;
        line.registers(&mut bob, "2001", &["Contact: *", "Expires: 0"]).await;
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let mut pen = Agent::bind(&lab, node.sip).await;
        line.registers(&mut pen, "2001", &headers).await;
        drop(line);
        // Whether the phone listens is tried at once; a proxy is dialled when the phone is wanted.
        let tried = if route.is_none() { Some(Line::accepted(&listener).await) } else { None };
        let open = files + usize::from(tried.is_some());
        let closed = || (node.open_files() == open).then_some(());
        eventually("the node has seen the end of the connection", SOON, async || closed()).await;
        let call = dial(&mut bob, "2002", "2001", &[]).await;
        let mut dialled = match tried {
            Some(line) => line,
            None => Line::accepted(&listener).await,
        };
        let from = dialled.stream.peer_addr().expect("connected").ip();
        assert_eq!(from, node.sip.ip(), "the node is where it says that it is");
        let invite = dialled.hear().await;
        assert!(invite.0.starts_with("INVITE sip:2001@"), "{}", invite.0);
        assert_eq!(invite.header("Route"), route.as_deref());
        assert!(is_registered(&node, "SEP2001"));
        dialled.stream.write_all(invite.answer("486 Busy Here", "", "").as_bytes()).await.expect("it reads");
        let text = bob.write(&call);
        assert_eq!(bob.final_to(&call, &text).await.status(), 486);
        node.is_quiet().await;
        drop(dialled);
        if route.is_none() {
            // After a call the phone is tried once more; a proxy is not.
            drop(Line::accepted(&listener).await);
        }
        let closed = || (node.open_files() == files).then_some(());
        eventually("it has seen the end of this one, too", SOON, async || closed()).await;
    }
}

#[tokio::test]
async fn a_flow_a_nat_and_a_deaf_phone_end_with_their_connection() {
    let lab = Lab::new("flows");
    let node = Node::start(&lab, config(&lab)).await;
    let listener = TcpListener::bind(lab.address()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let deaf = lab.address();
    for contact in [
        format!("Contact: <sip:2001@{address};transport=tcp;ob>"),
        "Contact: <sip:2001@10.9.9.9;transport=tcp>".to_owned(),
        format!("Contact: <sip:2001@{deaf};transport=tcp>"),
    ] {
        let mut pen = Agent::bind(&lab, node.sip).await;
        let mut line = Line::to(&node).await;
        line.registers(&mut pen, "2001", &[&contact]).await;
        assert!(is_registered(&node, "SEP2001"), "{contact}");
        drop(line);
        let gone = || (!is_registered(&node, "SEP2001")).then_some(());
        eventually(format!("{contact} is gone"), SOON, async || gone()).await;
    }
}

/// It starts again in the middle of a call, and knows nothing of it.
#[tokio::test]
async fn the_calls_of_a_phone_that_starts_again_end_at_once() {
    let lab = Lab::new("rebooted");
    let mut node = Node::start(&lab, config(&lab)).await;
    for silent in [false, true] {
        let mut alice = phone(&lab, &node, "2001").await;
        let mut bob = phone(&lab, &node, "2002").await;
        let contact = format!("<sip:2001@{}>", alice.address);
        talking(&mut bob, &alice, &[], &contact).await;
        let again = register("2001", "restarted", &[]);
        let said = alice.ask_as(&again, "2001", &digest_password("2001")).await;
        assert_eq!(said.status(), 200, "{}", said.0);
        let question = asked(&alice, "OPTIONS").await;
        if !silent {
            alice.answer(&question, "481 Call/Transaction Does Not Exist", "", "").await;
        }
        let bye = asked(&bob, "BYE").await;
        bob.answer(&bye, "200 OK", "", "").await;
        node.is_quiet().await;
        let leave = register("2001", "leave", &["Contact: *", "Expires: 0"]);
        alice.ask_as(&leave, "2001", &digest_password("2001")).await;
        let leave = register("2002", "leave", &["Contact: *", "Expires: 0"]);
        bob.ask_as(&leave, "2002", &digest_password("2002")).await;
    }
    node.is_well();
}

/// A call that rings: the phone that rings hears it, the caller has heard of it.
async fn ringing(caller: &mut Agent, callee: &Agent) -> Heard {
    dial(caller, "2002", "2001", &[]).await;
    let invite = asked(callee, "INVITE").await;
    let contact = format!("Contact: <sip:2001@{}>\r\n", callee.address);
    callee.answer(&invite, "180 Ringing", &contact, "").await;
    said(caller, 180).await;
    invite
}

/// Both phones are out of service, for the next ones.
async fn both_leave(alice: &mut Agent, bob: &mut Agent) {
    for (agent, number) in [(alice, "2001"), (bob, "2002")] {
        let leave = register(number, "leave", &["Contact: *", "Expires: 0"]);
        agent.ask_as(&leave, number, &digest_password(number)).await;
    }
}

/// It starts again before the call is answered, as the caller and as the one that rings.
#[tokio::test]
async fn a_phone_that_starts_again_before_the_answer_is_in_no_call_any_more() {
    let lab = Lab::new("rebooted-early");
    let mut node = Node::start(&lab, config(&lab)).await;
    for (calls, silent) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut alice = phone(&lab, &node, "2001").await;
        let mut bob = phone(&lab, &node, "2002").await;
        ringing(&mut bob, &alice).await;
        let (again, number) = if calls { (&mut bob, "2002") } else { (&mut alice, "2001") };
        again.ask_as(&register(number, "restarted", &[]), number, &digest_password(number)).await;
        let question = asked(again, "OPTIONS").await;
        if !silent {
            again.answer(&question, "481 Call/Transaction Does Not Exist", "", "").await;
        }
        if calls {
            let cancel = asked(&alice, "CANCEL").await;
            alice.answer(&cancel, "200 OK", "", "").await;
        } else {
            said(&bob, 502).await;
        }
        node.is_quiet().await;
        both_leave(&mut alice, &mut bob).await;
    }
    node.is_well();
}

/// Its REGISTER looks as if it had started again, but it still knows the call.
#[tokio::test]
async fn a_phone_that_still_knows_what_rings_goes_on() {
    let lab = Lab::new("not-rebooted");
    let mut node = Node::start(&lab, config(&lab)).await;
    let mut alice = phone(&lab, &node, "2001").await;
    let mut bob = phone(&lab, &node, "2002").await;
    let invite = ringing(&mut bob, &alice).await;
    for (agent, number) in [(&mut alice, "2001"), (&mut bob, "2002")] {
        agent.ask_as(&register(number, "another", &[]), number, &digest_password(number)).await;
        let question = asked(agent, "OPTIONS").await;
        agent.answer(&question, "200 OK", "", "").await;
    }
    let contact = format!("Contact: <sip:2001@{}>\r\n", alice.address);
    alice.answer(&invite, "200 OK", &contact, SDP).await;
    said(&bob, 200).await;
    node.is_well();
}

/// Record-Route of the caller, Contact of the callee: nobody else is knocked at, and both hear what is theirs.
#[tokio::test]
async fn a_phone_can_not_send_the_node_to_somebody_else() {
    let lab = Lab::new("where-it-sends");
    let node = Node::start(&lab, config(&lab)).await;
    let victim = std::net::TcpListener::bind(lab.address()).expect("a free port");
    victim.set_nonblocking(true).expect("a socket");
    let at: SocketAddr = victim.local_addr().expect("bound");
    let mut alice = phone(&lab, &node, "2001").await;
    let mut bob = phone(&lab, &node, "2002").await;
    let route = format!("Record-Route: <sip:{at};transport=tcp;lr>");
    let invite = talking(&mut bob, &alice, &[&route], &format!("<sip:2001@{at};transport=tcp>")).await;
    // The callee hangs up; then both have heard all that the node says.
    let headers = vec![];
    let bye = Ask { method: "BYE", to: "2002", from: "2001", call: "call", cseq: 1, headers, body: "" };
    let text = alice.write(&bye);
    let replace = |text: String, name: &str, value: String| {
        let plain = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        text.replace(&plain, &format!("{name} {value}"))
    };
    let text = replace(text, "From:", format!("{};tag=agent", invite.header("To").unwrap_or_default()));
    let text = replace(text, "To:", invite.header("From").unwrap_or_default().to_owned());
    let text = replace(text, "Call-ID:", invite.header("Call-ID").unwrap_or_default().to_owned());
    alice.send(text.as_bytes()).await;
    said(&alice, 200).await;
    let bye = asked(&bob, "BYE").await;
    bob.answer(&bye, "200 OK", "", "").await;
    node.is_quiet().await;
    assert!(victim.accept().is_err(), "somebody knocked");
}
