//! What is read of the two wires.

use serde_json::Value;
use sip::message::{self, Headers, Message, Method};
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// The origin of virtual time on the wall.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// Which way a SIP message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Way {
    ToNode,
    FromNode,
}

/// A SIP message between a phone and the node.
#[derive(Debug)]
pub(super) struct SipMessage {
    pub(super) way: Way,
    pub(super) device: &'static str,
    pub(super) call_id: String,
    pub(super) method: Method,
    pub(super) cseq: u32,
    /// `None`: a request.
    pub(super) status: Option<u16>,
    /// It is in a dialog, or makes one.
    pub(super) to_tag: bool,
    pub(super) from: String,
    pub(super) to: String,
    /// Who sent the call on, the last first.
    pub(super) diverted: Vec<String>,
    /// Numbers of a redirection.
    pub(super) contacts: Vec<String>,
    pub(super) description: Option<Told>,
}

/// What a description says of the audio: whose it is, from where, which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) address: SocketAddr,
    pub(super) direction: String,
}

impl SipMessage {
    pub(super) fn read(way: Way, device: &'static str, bytes: &[u8]) -> Option<Self> {
        let message = message::read(bytes, sip::Transport::Udp).ok()?;
        let (headers, status, body) = match &message {
            Message::Request(request) => (&request.headers, None, &request.body),
            Message::Response(response) => (&response.headers, Some(response.status), &response.body),
        };
        let cseq = headers.cseq().ok()?;
        let method = match &message {
            Message::Request(request) => request.method.clone(),
            Message::Response(_) => cseq.method,
        };
        let redirects = matches!(status, Some(300..=399));
        Some(Self {
            way,
            device,
            call_id: headers.call_id().to_owned(),
            method,
            cseq: cseq.number,
            status,
            to_tag: headers.to_tag().is_some(),
            from: user(headers, "From"),
            to: user(headers, "To"),
            diverted: users(headers, "Diversion"),
            contacts: if redirects { users(headers, "Contact") } else { Vec::new() },
            description: Told::read(body),
        })
    }
}

fn users(headers: &Headers, name: &str) -> Vec<String> {
    let found = headers.name_addrs(name).unwrap_or_default();
    found.iter().map(|address| address.uri.number()).collect()
}

fn user(headers: &Headers, name: &str) -> String {
    users(headers, name).into_iter().next().unwrap_or_default()
}

impl Told {
    fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok().filter(|text| !text.is_empty())?;
        let host = text.lines().find_map(|line| line.strip_prefix("c=IN IP4 "))?;
        let port = text.lines().find_map(|line| line.strip_prefix("m=audio "))?.split(' ').next()?;
        let address = format!("{}:{port}", host.trim()).parse().ok()?;
        let named = |name: &&str| text.lines().any(|line| line.strip_prefix("a=") == Some(name));
        let direction = ["inactive", "sendonly", "recvonly"].into_iter().find(named).unwrap_or("sendrecv");
        Some(Self { address, direction: direction.into() })
    }
}

/// When an event was told, as it says itself.
pub(super) fn time_of(event: &Value) -> Option<Duration> {
    let at = humantime::parse_rfc3339(event["time"].as_str()?).ok()?;
    at.duration_since(SystemTime::UNIX_EPOCH + EPOCH).ok()
}

/// An event's line in one number, all but the number that it has in its session.
pub(super) fn number_of(line: &[u8]) -> u64 {
    const BEFORE: &[u8] = b"\"seq\":";
    let start = line.windows(BEFORE.len()).position(|part| part == BEFORE).unwrap_or(0);
    let after = line.iter().skip(start).position(|byte| *byte == b',').map_or(0, |at| start + at);
    let mut hasher = DefaultHasher::new();
    hasher.write(&line[after..]);
    hasher.finish()
}

/// A text member, or nothing.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A number of a party, or nothing.
pub(super) fn party<'a>(leg: &'a Value, name: &str) -> Option<&'a str> {
    leg[name]["number"].as_str()
}
