//! A caller for measurements: places calls over UDP at a fixed rate as a trunk would, holds them, hangs up, and notes
//! when each answer came. One socket, two tasks, no state machine beyond what the figures need.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

/// What to place.
#[derive(Clone, Debug)]
pub struct Load {
    /// The node's SIP address.
    pub node: SocketAddr,
    /// The number to dial.
    pub number: String,
    /// Calls a second.
    pub rate: u32,
    /// How many in all.
    pub calls: u32,
    /// How long each is held after its answer.
    pub hold: Duration,
    /// Where the caller says that it wants its RTP; nothing is sent there.
    pub media: SocketAddr,
}

/// How one call went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// When its INVITE left; `None` = it never did.
    pub sent: Option<Instant>,
    /// When its 200 came.
    pub answered: Option<Instant>,
    /// A final refusal.
    pub refused: Option<u16>,
    /// The node's BYE or the 200 to ours came.
    pub ended: bool,
}

/// How long after the last call the stragglers may take.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// The part of a message that a load needs.
struct Parsed {
    status: Option<u16>,
    method: &'static str,
    call: usize,
    to: String,
    contact: Option<String>,
}

/// Places the calls and returns how each went, in their order.
///
/// # Errors
/// When the socket fails.
pub async fn place(socket: Arc<UdpSocket>, load: Load) -> io::Result<Vec<Outcome>> {
    let mut outcomes = vec![Outcome::default(); load.calls as usize];
    let mut to_end: VecDeque<(Instant, usize, String, String)> = VecDeque::new();
    let local = socket.local_addr()?;
    let started = now();
    let mut placed = 0u32;
    let mut open = 0usize;
    let mut buffer = vec![0u8; 65_536];
    let mut give_up = None;
    loop {
        let at = now();
        let due = (at - started).as_secs_f64() * f64::from(load.rate);
        while placed < load.calls && f64::from(placed) <= due {
            socket.send_to(invite(&load, local, placed).as_bytes(), load.node).await?;
            outcomes[placed as usize].sent = Some(now());
            placed += 1;
            open += 1;
        }
        while to_end.front().is_some_and(|(when, ..)| *when <= at) {
            if let Some((_, call, to, target)) = to_end.pop_front() {
                let bye = in_dialog(&load, local, "BYE", call, &to, &target);
                socket.send_to(bye.as_bytes(), load.node).await?;
            }
        }
        if placed == load.calls {
            let end = *give_up.get_or_insert(at + load.hold + STRAGGLERS);
            if open == 0 || at >= end {
                return Ok(outcomes);
            }
        }
        let until = at + Duration::from_millis(1);
        while let Ok(received) = timeout_at(until.into(), socket.recv_from(&mut buffer)).await {
            let (length, _) = received?;
            let Some(message) = parse(&buffer[..length]) else { continue };
            if take(&socket, &load, local, message, &buffer[..length], &mut outcomes, &mut to_end).await? {
                open = open.saturating_sub(1);
            }
            if now() >= until {
                break;
            }
        }
    }
}

/// Takes one message; true when a call is over by it.
async fn take(
    socket: &UdpSocket,
    load: &Load,
    local: SocketAddr,
    message: Parsed,
    bytes: &[u8],
    outcomes: &mut [Outcome],
    to_end: &mut VecDeque<(Instant, usize, String, String)>,
) -> io::Result<bool> {
    let Some(outcome) = outcomes.get_mut(message.call) else { return Ok(false) };
    match (message.status, message.method) {
        (None, "BYE") => {
            socket.send_to(ok_to(bytes).as_bytes(), load.node).await?;
            Ok(!std::mem::replace(&mut outcome.ended, true))
        }
        (Some(200), "INVITE") => {
            let target = message.contact.unwrap_or_else(|| format!("sip:{}", load.node));
            let ack = in_dialog(load, local, "ACK", message.call, &message.to, &target);
            socket.send_to(ack.as_bytes(), load.node).await?;
            if outcome.answered.is_none() {
                let at = now();
                outcome.answered = Some(at);
                to_end.push_back((at + load.hold, message.call, message.to, target));
            }
            Ok(false)
        }
        (Some(300..=699), "INVITE") => {
            let ack = refused_ack(load, local, message.call, &message.to);
            socket.send_to(ack.as_bytes(), load.node).await?;
            Ok(outcome.refused.replace(message.status.unwrap_or(0)).is_none())
        }
        (Some(200..=699), "BYE") => Ok(!std::mem::replace(&mut outcome.ended, true)),
        _ => Ok(false),
    }
}

fn parse(bytes: &[u8]) -> Option<Parsed> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let (mut method, mut call, mut to, mut contact) = (None, None, None, None);
    for line in lines.take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "call-id" => call = value.split('-').next()?.parse().ok(),
            "cseq" => method = ["INVITE", "BYE"].into_iter().find(|m| value.ends_with(m)),
            "to" => to = Some(value.to_owned()),
            "contact" => contact = Some(value.trim_start_matches('<').split('>').next()?.to_owned()),
            _ => {}
        }
    }
    Some(Parsed { status, method: method?, call: call?, to: to?, contact })
}

fn head(load: &Load, local: SocketAddr, call: usize, branch: &str) -> String {
    format!(
        "Via: SIP/2.0/UDP {local};branch=z9hG4bK{branch}{call}\r\nMax-Forwards: 70\r\n\
         From: <sip:{call}@{local}>;tag=f{call}\r\nCall-ID: {call}-bench-{}\r\n",
        load.rate
    )
}

fn invite(load: &Load, local: SocketAddr, call: u32) -> String {
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
        head = head(load, local, call as usize, "i"),
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

#[allow(clippy::disallowed_methods)] // a measurement's clock
fn now() -> Instant {
    Instant::now()
}
