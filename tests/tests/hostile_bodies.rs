//! Bodies and headers that are broken beyond use, from a stranger, a phone and a trunk, at a real node: each gets an answer or
//! none, the process goes on, and an honest phone's calls beside them as well.

use serde_json::json;
use std::net::SocketAddr;
use tests::lab::agent::{Agent, Ask};
use tests::lab::node::{Config, Node, digest_password};
use tests::lab::{Lab, SOON};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const MULTIPART: &str = "Content-Type: multipart/mixed;boundary=b";
const PART: &str = "--b\r\nContent-Type: application/sdp\r\n\r\n";

fn ask<'a>(method: &'a str, to: &'a str, from: &'a str, call: &'a str) -> Ask<'a> {
    Ask { method, to, from, call, cseq: 1, headers: Vec::new(), body: "" }
}

fn invite<'a>(to: &'a str, from: &'a str, call: &'a str) -> Ask<'a> {
    Ask { body: SDP, ..ask("INVITE", to, from, call) }
}

async fn phone(lab: &Lab, node: &Node, number: &str) -> Agent {
    let mut agent = Agent::bind(lab, node.sip).await;
    let said = agent.ask_as(&ask("REGISTER", "", number, number), number, &digest_password(number)).await;
    assert_eq!(said.status(), 200, "{}", said.0);
    agent
}

/// Lines and a body, as bytes.
struct Broken {
    what: String,
    lines: Vec<u8>,
    body: Vec<u8>,
}

fn broken(what: impl Into<String>, lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Broken {
    Broken { what: what.into(), lines: lines.as_ref().to_vec(), body: body.as_ref().to_vec() }
}

/// Bodies of several parts of which one is empty, unfinished, alone, too many, or no text.
fn multiparts() -> Vec<Broken> {
    let parts: Vec<Vec<u8>> = [
        "--b--",
        "--b\r\n--b--",
        "\r\n--b--",
        "",
        "--b",
        "--b\r\n",
        "\r\n\r\n--b--",
        "\n--b",
        "v=0\r\n--b--",
    ]
    .iter()
    .map(|rest| format!("{PART}{rest}").into_bytes())
    .chain([
        b"--b".to_vec(),
        b"--b--".to_vec(),
        b"--b\r\n\r\n\r\n--b--".to_vec(),
        b"--b\r\nContent-Type: application/sdp\r\n--b--".to_vec(),
        b"--b\r\nContent-Type: application/sdp\n\n--b--".to_vec(),
        b"--b\r\nContent-Type\r\n\r\n\r\n--b--".to_vec(),
        b"--b\r\nContent-Type: \xff\xfe\r\n\r\nv=0\r\n--b--".to_vec(),
        PART.repeat(40).into_bytes(),
        "--b\r\nContent-Type: text/plain\r\n\r\n".repeat(400).into_bytes(),
        [PART.as_bytes(), &[0xff; 300], b"\r\n--b--"].concat(),
    ])
    .collect();
    let mut all: Vec<_> =
        parts.iter().enumerate().map(|(n, body)| broken(format!("parts {n}"), MULTIPART, body)).collect();
    for boundary in ["", "\"\"", "\"", "b;boundary=", "\"\\", "\u{fc}", &"b".repeat(3_000)] {
        let line = format!("Content-Type: multipart/mixed;boundary={boundary}");
        all.push(broken(line.chars().take(60).collect::<String>(), &line, format!("{PART}--b--")));
    }
    all.extend(
        ["multipart/", "multipart/;", "multipart/mixed;", "MULTIPART/x;=;boundary=b", "application/sdp;"]
            .map(|kind| broken(kind, format!("Content-Type: {kind}"), format!("{PART}--b--"))),
    );
    all
}

/// Descriptions that say what can't be.
fn descriptions() -> Vec<Broken> {
    let lines = [
        "v=",
        "v=0",
        "m=audio",
        "m=audio 0",
        "m=audio 99999 RTP/AVP 0",
        "m=audio 4000/99999 RTP/AVP 0",
        "m= ",
        "c=IN IP4",
        "c=IN IP6 ::1%",
        "c=IN IP4 999.1.1.1/127/3",
        "a=rtpmap:",
        "a=rtpmap:0",
        "a=rtpmap:999 x/0/0",
        "a=fmtp:101",
        "a=ptime:0",
        "a=ptime:4294967296",
        "a=crypto:",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:",
        "o=",
        "o=- 99999999999999999999 1 IN IP4 x",
        "t=",
        "=",
        "\u{1}=x",
        "a=\u{7f}",
    ];
    let whole = lines.map(|line| broken(line, "Content-Type: application/sdp", format!("{SDP}{line}\r\n")));
    let alone = lines.map(|line| broken(format!("{line} alone"), "Content-Type: application/sdp", line));
    let odd = [
        broken("no text", "Content-Type: application/sdp", [0xff; 200]),
        broken("zeros", "Content-Type: application/sdp", [0; 200]),
        broken(
            "many media",
            "Content-Type: application/sdp",
            SDP.to_owned() + &"m=audio 1 RTP/AVP 0\r\n".repeat(900),
        ),
        broken(
            "many formats",
            "Content-Type: application/sdp",
            SDP.trim_end().to_owned() + &" 0".repeat(5_000),
        ),
    ];
    whole.into_iter().chain(alone).chain(odd).collect()
}

/// Headers that are empty, too long, too many, out of range or no text; some of them stand in place of the proper ones.
fn headers() -> Vec<Broken> {
    let mut all = Vec::new();
    for name in [
        "Content-Type",
        "Content-Length",
        "Contact",
        "Route",
        "Record-Route",
        "Max-Forwards",
        "Require",
        "Supported",
        "Session-Expires",
        "Min-SE",
        "Expires",
        "Diversion",
        "History-Info",
        "P-Asserted-Identity",
        "Remote-Party-ID",
        "Privacy",
        "Replaces",
        "Refer-To",
        "RAck",
        "Reason",
        "Path",
        "Via",
        "Authorization",
        "Proxy-Authorization",
        "Event",
        "Allow",
        "Accept",
        "Content-Disposition",
        "Content-Encoding",
        "Date",
        "To",
        "From",
        "CSeq",
    ] {
        let values: [&[u8]; 9] = [
            b"",
            b"\"",
            b"<",
            b"<sip:>;tag",
            b",,,;;;===",
            b"-1",
            b"99999999999999999999",
            b"\xff\xfe\xc3",
            b"<sip:a@[>\\",
        ];
        let lines: Vec<u8> =
            values.iter().flat_map(|value| [name.as_bytes(), b": ", value, b"\r\n"].concat()).collect();
        all.push(broken(format!("{name} in all ways"), &lines[..lines.len() - 2], SDP));
        for value in values {
            all.push(broken(name, [name.as_bytes(), b": ", value].concat(), SDP));
        }
    }
    all.push(broken("many lines", vec!["X: y"; 600].join("\r\n"), SDP));
    all.push(broken("a long line", format!("X: {}", "y".repeat(30_000)), SDP));
    all.push(broken("folds", format!("X: y{}", "\r\n z".repeat(3_000)), SDP));
    all.push(broken("a line without a name", ": x\r\n:\r\n", SDP));
    all
}

/// A request with these lines and this body in place of its own.
fn with(text: &str, broken: &Broken) -> Vec<u8> {
    let (head, _) = text.split_once("\r\n\r\n").expect("an end of the head");
    let own = ["content-type:", "content-length:"];
    let head =
        head.split("\r\n").filter(|line| !own.iter().any(|name| line.to_ascii_lowercase().starts_with(name)));
    let head = head.collect::<Vec<_>>().join("\r\n");
    let length = format!("\r\nContent-Length: {}\r\n\r\n", broken.body.len());
    [head.as_bytes(), b"\r\n", &broken.lines, length.as_bytes(), &broken.body].concat()
}

/// Two phones that are well.
struct Honest {
    caller: Agent,
    called: Agent,
    calls: u32,
}

impl Honest {
    async fn at(lab: &Lab, node: &Node) -> Honest {
        Honest { caller: phone(lab, node, "2001").await, called: phone(lab, node, "2002").await, calls: 0 }
    }

    /// One calls the other, who answers; then it hangs up.
    async fn call(&mut self) {
        self.calls += 1;
        let name = format!("honest{}", self.calls);
        let (text, call) = self.caller.signed_text(&invite("2002", "2001", &name), "2001").await;
        self.caller.send(text.as_bytes()).await;
        let offered = self.called.hear_request("INVITE").await;
        self.called.reply(&offered, "200 OK", &[], SDP).await;
        let ok = self.caller.final_to(&call, &text).await;
        assert_eq!(ok.status(), 200, "{}", ok.0);
        let ack = self.caller.write_in(&ok, &Ask { method: "ACK", body: "", ..call.clone() });
        self.caller.send(ack.as_bytes()).await;
        let bye = Ask { method: "BYE", body: "", cseq: call.cseq + 1, headers: Vec::new(), ..call };
        let text = self.caller.write_in(&ok, &bye);
        self.caller.send(text.as_bytes()).await;
        let over = self.called.hear_request("BYE").await;
        self.called.reply(&over, "200 OK", &[], "").await;
        assert_eq!(self.caller.final_to(&bye, &text).await.status(), 200);
    }
}

trait Signs {
    /// A request with the proof that the node asks for.
    async fn signed_text<'a>(&mut self, ask: &Ask<'a>, user: &str) -> (String, Ask<'a>);
    /// Waits until all that was sent before has been looked at.
    async fn fence(&mut self, what: &str);
}

impl Signs for Agent {
    async fn signed_text<'a>(&mut self, ask: &Ask<'a>, user: &str) -> (String, Ask<'a>) {
        let challenge = self.ask(ask).await;
        assert_eq!(challenge.status(), 401, "{}", challenge.0);
        let again = self.signed(ask, &challenge, user, &digest_password(user));
        (self.write(&again), again)
    }

    async fn fence(&mut self, what: &str) {
        // By its number it is told from what was broken.
        let said = self.ask(&Ask { cseq: 7_777, ..ask("OPTIONS", "", "4000", "fence") }).await;
        assert_eq!(said.status(), 200, "after {what}: {}", said.0);
    }
}

struct House {
    node: Node,
    honest: Honest,
    labs: [Lab; 2],
    trunk: SocketAddr,
}

impl House {
    async fn new(test: &str) -> House {
        let labs = [Lab::new(test), Lab::new(&format!("{test}-outside"))];
        let trunk = labs[0].address();
        let rates =
            ["max_stranger_sip_messages_per_second_per_address", "max_sip_messages_per_second_per_phone"];
        let config =
            ["2001", "2002", "2003"].iter().fold(Config::new(&labs[0]), |config, dn| config.phone(dn));
        let config = config.route_point("RP_MAIN", "5000").trunk("pstn", trunk);
        let config = rates.iter().fold(config, |config, key| config.parameter(key, json!(5_000)));
        let node = Node::start(&labs[0], config).await;
        let honest = Honest::at(&labs[0], &node).await;
        House { node, honest, labs, trunk }
    }

    /// The node is as it was, and calls can be made.
    async fn is_well_after(&mut self, what: &str, sent: usize) {
        eprintln!("{sent} from {what}");
        self.node.is_well();
        self.honest.call().await;
    }
}

fn all() -> Vec<Broken> {
    [multiparts(), descriptions(), headers()].into_iter().flatten().collect()
}

#[tokio::test]
async fn what_a_stranger_breaks_ends_nothing() {
    let mut house = House::new("broken-stranger").await;
    house.honest.call().await;
    let mut stranger = Agent::bind(&house.labs[1], house.node.sip).await;
    for method in ["INVITE", "OPTIONS", "REGISTER", "BYE", "MESSAGE", "NONSENSE"] {
        let all = all();
        for (number, broken) in all.iter().enumerate() {
            let text = stranger.write(&ask(method, "5000", "2001", &format!("{method}{number}")));
            stranger.send(&with(&text, broken)).await;
            stranger.fence(&broken.what).await;
        }
        house.is_well_after(&format!("a stranger in {method}"), all.len()).await;
    }
    let kept = house.node.admin("status")["sip_transactions"].as_u64().unwrap_or(u64::MAX);
    // Two registrations, and of each call an INVITE and a BYE at both ends.
    let honest = u64::from(house.honest.calls) * 4 + 2;
    assert!(kept <= honest, "{kept} transactions, {honest} of the honest");
}

#[tokio::test]
async fn what_a_phone_breaks_ends_nothing() {
    let mut house = House::new("broken-phone").await;
    let mut phone = phone(&house.labs[0], &house.node, "2003").await;
    for (method, to) in [("INVITE", "5000"), ("REGISTER", "")] {
        let all = all();
        for (number, broken) in all.iter().enumerate() {
            let name = format!("{method}{number}");
            let (text, _) = phone.signed_text(&ask(method, to, "2003", &name), "2003").await;
            phone.send(&with(&text, broken)).await;
            phone.fence(&broken.what).await;
        }
        house.is_well_after(&format!("a phone in {method}"), all.len()).await;
    }
}

#[tokio::test]
async fn what_a_trunk_breaks_ends_nothing() {
    let mut house = House::new("broken-trunk").await;
    let mut trunk = Agent::at(house.trunk, house.node.sip).await;
    let all = all();
    for (number, broken) in all.iter().enumerate() {
        let text = trunk.write(&ask("INVITE", "5000", "4000", &format!("t{number}")));
        trunk.send(&with(&text, broken)).await;
        trunk.fence(&broken.what).await;
    }
    house.is_well_after("a trunk", all.len()).await;
}

/// Who is called answers with it: with an answer, and while it rings.
#[tokio::test]
async fn what_a_called_phone_answers_ends_nothing() {
    let mut house = House::new("broken-answers").await;
    let mut phone = phone(&house.labs[0], &house.node, "2003").await;
    let mut trunk = Agent::at(house.trunk, house.node.sip).await;
    let all: Vec<_> = [multiparts(), descriptions()].into_iter().flatten().collect();
    for (number, broken) in all.iter().enumerate() {
        let name = format!("a{number}");
        let call = invite("2003", "4000", &name);
        let text = trunk.write(&call);
        trunk.send(text.as_bytes()).await;
        let offered = phone.hear_request("INVITE").await;
        for status in ["183 Session Progress", "200 OK"] {
            let contact = format!("Contact: <sip:agent@{}>\r\n", phone.address);
            phone.send(&with(&offered.answer(status, &contact, SDP), broken)).await;
            phone.fence(&broken.what).await;
        }
        // What can't be used is refused or ended; what can is answered, and ended by the caller.
        let said = trunk.final_to(&call, &text).await;
        if said.status() == 200 {
            let ack = trunk.write_in(&said, &Ask { method: "ACK", body: "", ..call.clone() });
            trunk.send(ack.as_bytes()).await;
            let bye = trunk.write_in(&said, &Ask { method: "BYE", body: "", cseq: 2, ..call.clone() });
            trunk.send(bye.as_bytes()).await;
        }
        let over = phone.hear_request("BYE").await;
        phone.reply(&over, "200 OK", &[], "").await;
    }
    house.is_well_after("a called phone", all.len()).await;
    house.node.is_quiet().await;
}

/// The same bytes on a connection, one behind the other.
#[tokio::test]
async fn what_comes_broken_over_a_connection_ends_nothing() {
    let mut house = House::new("broken-streams").await;
    let mut agent = Agent::bind(&house.labs[1], house.node.sip).await;
    let all: Vec<_> = [multiparts(), descriptions()].into_iter().flatten().collect();
    let mut bytes = Vec::new();
    for (number, broken) in all.iter().enumerate() {
        let text = agent.write(&ask("INVITE", "5000", "2001", &format!("c{number}"))).replace("/UDP", "/TCP");
        bytes.extend(with(&text, broken));
    }
    let last = agent.write(&ask("OPTIONS", "", "2001", "last")).replace("/UDP", "/TCP");
    bytes.extend(last.as_bytes());
    let stream = TcpStream::connect(house.node.sip).await.expect("it listens");
    let (mut read, mut write) = stream.into_split();
    let hearing = async {
        let (mut heard, mut buffer) = (String::new(), vec![0; 65_536]);
        while !heard.contains("CSeq: 1 OPTIONS") {
            let length = read.read(&mut buffer).await.expect("it stays open");
            assert!(length > 0, "it stays open: {heard}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    let (written, ()) = timeout(3 * SOON, async { tokio::join!(write.write_all(&bytes), hearing) })
        .await
        .expect("all were answered");
    written.expect("written");
    house.is_well_after("a connection", all.len()).await;
}
