//! A caller for measurements: places calls over UDP at a fixed rate as a trunk would, holds them, hangs up, and notes
//! when each answer came. One socket, one loop, no state machine beyond what the figures need.

use super::now;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

/// What to place.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// The node's SIP address.
    pub(super) node: SocketAddr,
    /// The number to dial.
    pub(super) number: String,
    /// The caller's number of the first call; the next ones count on. No two loads on one node share any.
    pub(super) first: u64,
    /// Calls a second.
    pub(super) rate: u32,
    /// How many in all.
    pub(super) calls: u32,
    /// How long each is held after its answer.
    pub(super) hold: Duration,
    /// Where the caller says that it wants its RTP; nothing is sent there.
    pub(super) media: SocketAddr,
}

/// How one call went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// When its INVITE should have left.
    pub(super) due: Option<Instant>,
    /// When it left; `None` = it never did.
    pub(super) sent: Option<Instant>,
    /// Anything was heard of it: its INVITE needs no repetition.
    pub(super) heard: bool,
    /// When its 200 came.
    pub(super) answered: Option<Instant>,
    /// When a final refusal came.
    pub(super) refused: Option<(u16, Instant)>,
    /// Our BYE was answered, or theirs came.
    pub(super) ended: bool,
    /// Requests that were sent again because nothing came back (RFC 3261 §17.1).
    pub(super) repeats: u8,
}

/// How long after the last call the stragglers may take.
const STRAGGLERS: Duration = Duration::from_secs(6);
/// After this time without a word a request is repeated, then after twice as long.
const T1: Duration = Duration::from_millis(500);
/// Repetitions of one request.
const MAX_REPEATS: u8 = 3;

/// The part of a message that a load needs.
struct Parsed {
    status: Option<u16>,
    method: &'static str,
    number: u64,
    to: String,
    contact: Option<String>,
}

/// A BYE that is to be sent.
#[derive(Debug)]
struct Farewell {
    at: Instant,
    call: usize,
    to: String,
    target: String,
    repeats: u8,
}

/// An INVITE that may have to be repeated.
#[derive(Debug)]
struct Unheard {
    at: Instant,
    call: usize,
    interval: Duration,
}

/// A load at work.
struct Caller<'a> {
    socket: &'a UdpSocket,
    load: &'a Load,
    local: SocketAddr,
    outcomes: Vec<Outcome>,
    unheard: VecDeque<Unheard>,
    farewells: VecDeque<Farewell>,
    /// BYEs without an answer yet.
    unanswered: VecDeque<Farewell>,
    open: usize,
}

/// Places the calls and returns how each went, in their order.
///
/// # Errors
/// When the socket fails.
pub(super) async fn place(socket: &UdpSocket, load: &Load) -> io::Result<Vec<Outcome>> {
    let mut caller = Caller {
        socket,
        load,
        local: socket.local_addr()?,
        outcomes: vec![Outcome::default(); load.calls as usize],
        unheard: VecDeque::new(),
        farewells: VecDeque::new(),
        unanswered: VecDeque::new(),
        open: 0,
    };
    let started = now();
    let last = started + Duration::from_secs_f64(f64::from(load.calls) / f64::from(load.rate.max(1)));
    let give_up = last + load.hold + STRAGGLERS;
    let mut placed = 0u32;
    let mut buffer = vec![0u8; 65_536];
    loop {
        let at = now();
        while placed < load.calls {
            let due = started + Duration::from_secs_f64(f64::from(placed) / f64::from(load.rate.max(1)));
            if due > at {
                break;
            }
            caller.invite(placed as usize, due).await?;
            placed += 1;
        }
        caller.repeat(at).await?;
        caller.hang_up(at).await?;
        if placed == load.calls && (caller.open == 0 || at >= give_up) {
            return Ok(caller.outcomes);
        }
        let until = at + Duration::from_millis(1);
        while let Ok(received) = timeout_at(until.into(), socket.recv_from(&mut buffer)).await {
            let (length, _) = received?;
            caller.take(&buffer[..length]).await?;
            if now() >= until {
                break;
            }
        }
    }
}

impl Caller<'_> {
    async fn invite(&mut self, call: usize, due: Instant) -> io::Result<()> {
        self.send(&invite(self.load, self.local, call)).await?;
        let at = now();
        let Some(outcome) = self.outcomes.get_mut(call) else { return Ok(()) };
        (outcome.due, outcome.sent) = (Some(due), Some(at));
        self.unheard.push_back(Unheard { at: at + T1, call, interval: T1 });
        self.open += 1;
        Ok(())
    }

    /// Repeats what may have been lost. All first repetitions wait equally long, so the queue is nearly in order.
    async fn repeat(&mut self, at: Instant) -> io::Result<()> {
        while let Some(unheard) = self.unheard.pop_front_if(|unheard| unheard.at <= at) {
            let Some(outcome) = self.outcomes.get_mut(unheard.call) else { continue };
            if outcome.heard || outcome.repeats >= MAX_REPEATS {
                continue;
            }
            outcome.repeats += 1;
            let interval = unheard.interval * 2;
            self.unheard.push_back(Unheard { at: at + interval, interval, ..unheard });
            self.send(&invite(self.load, self.local, unheard.call)).await?;
        }
        while let Some(mut bye) = self.unanswered.pop_front_if(|bye| bye.at <= at) {
            let ended = self.outcomes.get(bye.call).is_none_or(|outcome| outcome.ended);
            if ended || bye.repeats >= MAX_REPEATS {
                continue;
            }
            bye.repeats += 1;
            if let Some(outcome) = self.outcomes.get_mut(bye.call) {
                outcome.repeats += 1;
            }
            self.bye(bye, at).await?;
        }
        Ok(())
    }

    async fn hang_up(&mut self, at: Instant) -> io::Result<()> {
        while let Some(bye) = self.farewells.pop_front_if(|bye| bye.at <= at) {
            self.bye(bye, at).await?;
        }
        Ok(())
    }

    async fn bye(&mut self, bye: Farewell, at: Instant) -> io::Result<()> {
        let text = in_dialog(self.load, self.local, "BYE", bye.call, &bye.to, &bye.target);
        let again = at + T1 * (1 << u32::from(bye.repeats));
        self.unanswered.push_back(Farewell { at: again, ..bye });
        self.send(&text).await
    }

    async fn send(&self, text: &str) -> io::Result<()> {
        self.socket.send_to(text.as_bytes(), self.load.node).await.map(|_| ())
    }

    /// Takes one message. What belongs to an earlier load is nobody's.
    async fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(message) = parse(bytes) else { return Ok(()) };
        let index = message.number.checked_sub(self.load.first).and_then(|call| usize::try_from(call).ok());
        let Some((call, outcome)) = index.and_then(|i| Some((i, self.outcomes.get_mut(i)?))) else {
            return Ok(());
        };
        outcome.heard = true;
        match (message.status, message.method) {
            (None, "BYE") => {
                self.open -= usize::from(!std::mem::replace(&mut outcome.ended, true));
                self.send(&ok_to(bytes)).await
            }
            (Some(200), "INVITE") => {
                let target = message.contact.unwrap_or_else(|| format!("sip:{}", self.load.node));
                let ack = in_dialog(self.load, self.local, "ACK", call, &message.to, &target);
                if outcome.answered.is_none() {
                    let at = now();
                    outcome.answered = Some(at);
                    let at = at + self.load.hold;
                    self.farewells.push_back(Farewell { at, call, to: message.to, target, repeats: 0 });
                }
                self.send(&ack).await
            }
            (Some(status @ 300..=699), "INVITE") => {
                self.open -= usize::from(outcome.refused.replace((status, now())).is_none());
                self.send(&refused_ack(self.load, self.local, call, &message.to)).await
            }
            (Some(200..=699), "BYE") => {
                self.open -= usize::from(!std::mem::replace(&mut outcome.ended, true));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Parsed> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let (mut method, mut number, mut to, mut contact) = (None, None, None, None);
    for line in lines.take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name {
            "Call-ID" => number = value.split('-').next()?.parse().ok(),
            "CSeq" => method = ["INVITE", "BYE"].into_iter().find(|m| value.ends_with(m)),
            "To" => to = Some(value.to_owned()),
            "Contact" => contact = Some(value.trim_start_matches('<').split('>').next()?.to_owned()),
            _ => {}
        }
    }
    Some(Parsed { status, method: method?, number: number?, to: to?, contact })
}

fn head(load: &Load, local: SocketAddr, call: usize, branch: &str) -> String {
    let number = load.first + call as u64;
    format!(
        "Via: SIP/2.0/UDP {local};branch=z9hG4bK{branch}{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:{number}@{local}>;tag=f{number}\r\nCall-ID: {number}-bench\r\n"
    )
}

fn invite(load: &Load, local: SocketAddr, call: usize) -> String {
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n",
        ip = load.media.ip(),
        port = load.media.port()
    );
    format!(
        "INVITE sip:{number}@{node} SIP/2.0\r\n{head}To: <sip:{number}@{node}>\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:bench@{local}>\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}",
        number = load.number,
        node = load.node,
        head = head(load, local, call, "i"),
        length = body.len()
    )
}

fn in_dialog(load: &Load, local: SocketAddr, method: &str, call: usize, to: &str, target: &str) -> String {
    let (branch, sequence) = if method == "ACK" { ("a", 1) } else { ("b", 2) };
    format!(
        "{method} {target} SIP/2.0\r\n{}To: {to}\r\nCSeq: {sequence} {method}\r\nContent-Length: 0\r\n\r\n",
        head(load, local, call, branch)
    )
}

/// The ACK of a refusal belongs to the INVITE's own transaction (RFC 3261 §17.1.1.3).
fn refused_ack(load: &Load, local: SocketAddr, call: usize, to: &str) -> String {
    format!(
        "ACK sip:{}@{} SIP/2.0\r\n{}To: {to}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
        load.number,
        load.node,
        head(load, local, call, "i")
    )
}

fn ok_to(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let wanted = ["via:", "from:", "to:", "call-id:", "cseq:"];
    let kept: String = text
        .split("\r\n")
        .filter(|line| wanted.iter().any(|w| line.to_ascii_lowercase().starts_with(w)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    format!("SIP/2.0 200 OK\r\n{kept}Content-Length: 0\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        let address: SocketAddr = "127.0.0.1:5060".parse().expect("an address");
        let (number, hold) = ("5000".into(), Duration::ZERO);
        Load { node: address, number, first: 1_000_000, rate: 10, calls: 1, hold, media: address }
    }

    #[test]
    fn an_answer_is_understood() {
        let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bKi1000000\r\nTo: <sip:a@b>;tag=7\r\n\
                    Call-ID: 1000000-bench\r\nCSeq: 1 INVITE\r\nContact: <sip:cm1@127.0.0.1:5060>\r\n\r\n";
        let parsed = parse(text.as_bytes()).expect("it can be read");
        assert_eq!((parsed.status, parsed.method, parsed.number), (Some(200), "INVITE", 1_000_000));
        assert_eq!(parsed.to, "<sip:a@b>;tag=7");
        assert_eq!(parsed.contact.as_deref(), Some("sip:cm1@127.0.0.1:5060"));
    }

    #[test]
    fn requests_are_such_as_the_node_reads() {
        let (load, local) = (load(), "127.0.0.1:5070".parse().expect("an address"));
        for text in [
            invite(&load, local, 0),
            in_dialog(&load, local, "ACK", 0, "<sip:5000@127.0.0.1>;tag=x", "sip:cm1@127.0.0.1:5060"),
            in_dialog(&load, local, "BYE", 0, "<sip:5000@127.0.0.1>;tag=x", "sip:cm1@127.0.0.1:5060"),
            refused_ack(&load, local, 0, "<sip:5000@127.0.0.1>;tag=x"),
        ] {
            let read = sip::message::read(text.as_bytes(), sip::Transport::Udp);
            assert!(read.is_ok(), "{text}");
        }
    }
}
