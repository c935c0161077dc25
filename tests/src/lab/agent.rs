//! A SIP peer whose every byte the test writes, for what no client would send.

use super::{Lab, SOON};
use sip::message::{Headers, Method, Request, Uri};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// One UDP socket that talks to a node.
pub struct Agent {
    /// Where it is.
    pub address: SocketAddr,
    node: SocketAddr,
    socket: UdpSocket,
    branches: u32,
    /// The last `Authorization` that it sent.
    pub authorization: Option<String>,
    /// Whether it repeats what is not answered, as whoever speaks over UDP must (RFC 3261 §17.1); by itself it doesn't.
    pub repeats: bool,
    /// How often it had to.
    pub repeated: u32,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Heard(pub String);

impl Heard {
    /// The status of a response; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        let digits = self.0.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.0.lines().take_while(|line| !line.is_empty());
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    }
}

/// A request to be written.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Its method.
    pub method: &'a str,
    /// User part of its URI, or nothing for the node itself.
    pub to: &'a str,
    /// User part of From and To (To: of the URI, but for REGISTER).
    pub from: &'a str,
    /// Names the dialog, and so its Call-ID.
    pub call: &'a str,
    /// Its number.
    pub cseq: u32,
    /// Whole lines without their ends.
    pub headers: Vec<String>,
    /// The body.
    pub body: &'a str,
}

impl Agent {
    /// At a free address of the lab.
    pub async fn bind(lab: &Lab, node: SocketAddr) -> Agent {
        Agent::at(lab.address(), node).await
    }

    /// At this address.
    ///
    /// # Panics
    /// If it is taken.
    pub async fn at(address: SocketAddr, node: SocketAddr) -> Agent {
        let socket = UdpSocket::bind(address).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        Agent { address, node, socket, branches: 0, authorization: None, repeats: false, repeated: 0 }
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// If the kernel doesn't take them.
    pub async fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.node).await.expect("loopback takes a datagram");
    }

    /// The next message.
    ///
    /// # Panics
    /// If none comes.
    pub async fn hear(&self) -> Heard {
        self.hear_within(SOON).await.unwrap_or_else(|| panic!("{} heard nothing", self.address))
    }

    /// What it has not heard yet is of no interest.
    pub fn forget_all(&self) {
        let mut datagram = [0; 2048];
        while self.socket.try_recv(&mut datagram).is_ok() {}
    }

    /// The next message within this time.
    pub async fn hear_within(&self, time: Duration) -> Option<Heard> {
        let mut datagram = vec![0; 65_535];
        let deadline = Instant::now() + time;
        // An ICMP error of before is no message.
        let read = timeout_at(deadline, self.socket.recv(&mut datagram)).await.ok()?.ok()?;
        Some(Heard(String::from_utf8_lossy(&datagram[..read]).into_owned()))
    }

    /// The text of a request, with a branch of its own.
    pub fn write(&mut self, ask: &Ask<'_>) -> String {
        self.branches += 1;
        let Ask { method, to, from, call, cseq, headers, body } = ask;
        let (here, node, branch) = (self.address, self.node, self.branches);
        let at = if to.is_empty() { String::new() } else { format!("{to}@") };
        let whom = if *method == "REGISTER" { format!("{from}@") } else { at.clone() };
        let mut text = format!(
            "{method} sip:{at}{node} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{call}{branch};rport\r\n\
             From: <sip:{from}@{node}>;tag={call}\r\nTo: <sip:{whom}{node}>\r\nCall-ID: {call}@{here}\r\n\
             CSeq: {cseq} {method}\r\n"
        );
        let mut add = |line: &str| {
            // Writing to a String can't fail.
            let _ = write!(text, "{line}\r\n");
        };
        let has = |name: &str| headers.iter().any(|line| line.starts_with(name));
        if !has("Max-Forwards") {
            add("Max-Forwards: 70");
        }
        if !has("Contact") {
            add(&format!("Contact: <sip:{from}@{here}>"));
        }
        headers.iter().for_each(|line| add(line));
        if !body.is_empty() && !has("Content-Type") {
            add("Content-Type: application/sdp");
        }
        add(&format!("Content-Length: {}", body.len()));
        text + "\r\n" + body
    }

    /// Sends a request and waits for its final response, whose ACK is sent where it is due.
    pub async fn ask(&mut self, ask: &Ask<'_>) -> Heard {
        let text = self.write(ask);
        self.send(text.as_bytes()).await;
        self.final_to(ask, &text).await
    }

    /// Waits for the final response to a request that was sent.
    pub async fn final_to(&mut self, ask: &Ask<'_>, text: &str) -> Heard {
        let mut repetitions = if self.repeats { 10 } else { 0 };
        loop {
            let heard = match self.hear_within(Duration::from_millis(500)).await {
                Some(heard) => heard,
                None if repetitions > 0 => {
                    repetitions -= 1;
                    self.repeated += 1;
                    self.send(text.as_bytes()).await;
                    continue;
                }
                None => self.hear().await,
            };
            // Of what was repeated more than one answer may have come.
            let own = format!("Call-ID: {}", heard.header("Call-ID").unwrap_or_default());
            if self.repeats && !text.lines().any(|line| line == own) {
                continue;
            }
            if heard.status() < 200 || heard.header("CSeq") != Some(&format!("{} {}", ask.cseq, ask.method)) {
                continue;
            }
            if ask.method == "INVITE" && heard.status() >= 300 {
                let via = text.lines().find(|line| line.starts_with("Via")).unwrap_or_default();
                let start = text.lines().next().unwrap_or_default().replacen("INVITE", "ACK", 1);
                let same = |name: &str| heard.header(name).unwrap_or_default().to_owned();
                let ack = format!(
                    "{start}\r\n{via}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} ACK\r\nMax-Forwards: 70\r\n\
                     Content-Length: 0\r\n\r\n",
                    same("From"),
                    same("To"),
                    same("Call-ID"),
                    ask.cseq
                );
                self.send(ack.as_bytes()).await;
            }
            return heard;
        }
    }

    /// Waits for the next request of this method; others and responses are passed over.
    pub async fn hear_request(&self, method: &str) -> Heard {
        loop {
            let heard = self.hear().await;
            if heard.0.starts_with(&format!("{method} ")) {
                return heard;
            }
        }
    }

    /// Answers a request with a tag of its own.
    pub async fn reply(&self, request: &Heard, status: &str, headers: &[String], body: &str) {
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|name| {
            let value = request.header(name).unwrap_or_default();
            format!("{name}: {value}\r\n")
        });
        let to = request.header("To").unwrap_or_default();
        let tag = if to.contains("tag=") { "" } else { ";tag=agent" };
        let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let contact = format!("Contact: <sip:agent@{}>\r\n", self.address);
        let contact = if headers.iter().any(|line| line.starts_with("Contact")) { "" } else { &contact };
        let text = format!(
            "SIP/2.0 {status}\r\n{}To: {to}{tag}\r\n{contact}{more}{kind}Content-Length: {}\r\n\r\n{body}",
            copied.concat(),
            body.len()
        );
        self.send(text.as_bytes()).await;
    }

    /// A request within the dialog that this answered request of ours began.
    pub fn write_in(&mut self, answered: &Heard, ask: &Ask<'_>) -> String {
        let text = self.write(ask);
        let to = text.lines().find(|line| line.starts_with("To:")).unwrap_or_default().to_owned();
        text.replacen(&to, &format!("To: {}", answered.header("To").unwrap_or_default()), 1)
    }

    /// The same, and once more with this password after a 401.
    ///
    /// # Panics
    /// If the challenge can't be answered.
    pub async fn ask_as(&mut self, ask: &Ask<'_>, user: &str, password: &str) -> Heard {
        let challenge = self.ask(ask).await;
        if challenge.status() != 401 {
            return challenge;
        }
        let again = self.signed(ask, &challenge, user, password);
        self.ask(&again).await
    }

    /// The next request after this challenge, with this password.
    ///
    /// # Panics
    /// If the challenge can't be answered.
    pub fn signed<'a>(&mut self, ask: &Ask<'a>, challenge: &Heard, user: &str, password: &str) -> Ask<'a> {
        let mut again = ask.clone();
        again.cseq += 1;
        let authorization = self.prove(challenge, ask.method, user, password);
        again.headers.push(format!("Authorization: {authorization}"));
        again
    }

    /// The value of Authorization that answers a challenge.
    ///
    /// # Panics
    /// If it can't be answered.
    pub fn prove(&mut self, challenge: &Heard, method: &str, user: &str, password: &str) -> String {
        let mut headers = Headers::default();
        headers.push("WWW-Authenticate", challenge.header("WWW-Authenticate").unwrap_or_default());
        let uri = Uri::read(&format!("sip:{}", self.node)).expect("an address is a URI's host");
        let mut signed = Request::new(Method::read(method).expect("a method"), uri);
        let login = sip::Login { user: user.into(), password: password.to_owned().into() };
        assert!(login.answer(&headers, 401, &mut signed, "c"), "no challenge in {}", challenge.0);
        let authorization = signed.headers.get("Authorization").unwrap_or_default().to_owned();
        self.authorization = Some(authorization.clone());
        authorization
    }

    /// Waits for a final response.
    pub async fn hear_final(&self) -> Heard {
        loop {
            let heard = self.hear().await;
            if heard.status() >= 200 {
                return heard;
            }
        }
    }

    /// The text of a request in the call of this INVITE, which we have answered.
    pub fn write_within(
        &mut self,
        invite: &Heard,
        method: &str,
        cseq: u32,
        headers: &[&str],
        body: &str,
    ) -> String {
        self.branches += 1;
        let of = |name: &str| invite.header(name).unwrap_or_default().to_owned();
        let target = of("Contact").trim_matches(['<', '>']).to_owned();
        let (here, branch) = (self.address, self.branches);
        let mut text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKwithin{branch};rport\r\n\
             From: {};tag=agent\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n\
             Contact: <sip:4000@{here}>\r\n",
            of("To"),
            of("From"),
            of("Call-ID")
        );
        let kind = (!body.is_empty()).then_some("Content-Type: application/sdp");
        for line in headers.iter().copied().chain(kind) {
            // Writing to a String can't fail.
            let _ = write!(text, "{line}\r\n");
        }
        text + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Answers a request with this status line, these header lines and this body.
    pub async fn answer(&self, request: &Heard, status: &str, headers: &str, body: &str) {
        self.send(request.answer(status, headers, body).as_bytes()).await;
    }
}

impl Heard {
    /// The text of an answer to this request; To gets a tag.
    #[must_use]
    pub fn answer(&self, status: &str, headers: &str, body: &str) -> String {
        let copied = self.0.lines().take_while(|line| !line.is_empty());
        let copied =
            copied.filter(|l| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|n| l.starts_with(n)));
        let copied: String = copied.map(|line| format!("{line}\r\n")).collect();
        let to = self.header("To").unwrap_or_default();
        let tag = if to.contains("tag=") { "" } else { ";tag=agent" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let length = body.len();
        format!(
            "SIP/2.0 {status}\r\n{copied}To: {to}{tag}\r\n{headers}{kind}Content-Length: {length}\r\n\r\n{body}"
        )
    }
}
