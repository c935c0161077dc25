//! The hostile neighbour: a host in the same network without any password, another process on the hosts of honest people,
//! and an application that is let in and asks for all that it can. In a share of the seeds it is there.
//!
//! What it does it does at one moment, all at once, so that the node can be held against how it was before: a stranger's
//! datagrams leave nothing behind, make the node write to nobody else, and are answered once each, with no more than was
//! sent. The honest have the rules that they have without it, and are never put off.

use super::dice::Dice;
use super::scene::{NODE, PASSWORD, address};
use super::tally::Happening;
use super::world::World;
use ctimanager::node::{AdminRequest, CtiConnection, CtiTransport, Input, Node};
use serde_json::Value;
use sip::message::{self, Message, Method, Request, Response};
use sip::port::Login;
use sip::{Hop, Transport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Its own host, and other processes on the hosts of a phone and of the trunk.
const ADDRESSES: [&str; 4] = ["10.0.0.66:5060", "10.0.0.66:40001", "10.0.0.11:6000", "10.0.0.99:6000"];
/// From where passwords are guessed. (At a phone's own host they are the phone's, too.)
const GUESSES_FROM: &str = "10.0.0.66:5060";
/// From where its connections lie idle, and from where it is let in. Guesses at the CTI port come from many hosts: one alone
/// has its own share of failures used up at once.
const WITHOUT: &str = "10.0.0.66:50000";
const LET_IN: &str = "10.0.0.67:50000";
/// The most parameters that fit into a Via of one datagram.
const GIANT_VIA: usize = 8_000;
/// What an answer may be longer than its request: a challenge with its realm, nonce and the node's name.
const LONGER: usize = 600;
/// In one of so many seeds it is there.
const ONE_SEED_OF: u64 = 3;
/// What makes its chances its own: those of all others are the same with it and without.
const SALT: u64 = 0x6e65_6967_6862_6f72;

/// How long its connections and passwords may be under way when it leaves.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// What it knows and has.
pub(super) struct Neighbour {
    dice: Dice,
    /// Datagrams so far: each has a branch, a tag and a Call-ID of its own.
    count: u64,
    /// While it acts: what was written to it.
    pub(super) heard: Option<Vec<(SocketAddr, Vec<u8>)>>,
    /// Other things waited within the node when it heard the datagram. What it does then may be theirs.
    pub(super) among_others: bool,
    /// Its connections, and what each of them still waits for.
    lines: BTreeMap<u64, Line>,
    greedy: Option<u64>,
    /// Legs and numbers of the greedy application's requests.
    requests: u64,
}

/// A CTI connection.
#[derive(Default)]
struct Line {
    awaited: BTreeMap<u64, &'static str>,
    open: bool,
}

impl Neighbour {
    /// The neighbour of this seed, if it has one.
    pub(super) fn of(seed: u64) -> Option<Self> {
        (seed % ONE_SEED_OF == 2).then(|| Self {
            dice: Dice::new(seed ^ SALT),
            count: 0,
            heard: None,
            among_others: false,
            lines: BTreeMap::new(),
            greedy: None,
            requests: 0,
        })
    }

    pub(super) fn is_at(&self, remote: SocketAddr) -> bool {
        ADDRESSES.iter().any(|own| address(own) == remote)
    }

    pub(super) fn has(&self, connection: CtiConnection) -> bool {
        self.lines.contains_key(&connection.0)
    }

    /// A frame of the node's. Each request has one answer.
    pub(super) fn frame(
        &mut self,
        connection: CtiConnection,
        line: &[u8],
    ) -> Result<Option<Happening>, String> {
        let frame: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if frame["method"] == "event" {
            return Ok(None);
        }
        let Some(line) = self.lines.get_mut(&connection.0) else { return Ok(None) };
        let id = frame["id"].as_u64().unwrap_or(0);
        let Some(method) = line.awaited.remove(&id) else {
            return Err(format!("the neighbour asked for no such answer: {frame}"));
        };
        line.open |= method == "provider.open" && frame["error"].is_null();
        if method == "provider.open" && self.greedy != Some(connection.0) && frame["error"].is_null() {
            return Err(format!("a wrong password was taken: {frame}"));
        }
        Ok((frame["error"]["data"]["cti"] == "RATE_LIMITED").then_some(Happening::PutOff))
    }

    /// The node has closed a connection, or is dead.
    pub(super) fn closed(&mut self, connection: CtiConnection) {
        self.lines.remove(&connection.0);
        self.greedy = self.greedy.filter(|greedy| *greedy != connection.0);
    }

    pub(super) fn node_gone(&mut self) {
        (self.lines, self.greedy) = (BTreeMap::new(), None);
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A request outside all dialogs.
    fn stranger(&mut self, method: &str, from: &str, via: &str) -> Vec<u8> {
        let n = self.next();
        format!(
            "{method} sip:1001@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKn{n};rport{via}\r\nMax-Forwards: 70\r\n\
             From: <sip:1001@10.0.0.1>;tag=n{n}\r\nTo: <sip:1001@10.0.0.1>\r\nCall-ID: n{n}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:1001@{from}>\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }
}

/// What is in the tables that a stranger must not fill.
#[derive(Debug, PartialEq)]
struct Tables([Value; 4]);

impl World {
    /// The neighbour does something, if there is one.
    pub(super) fn provoke(&mut self) -> Result<(), String> {
        if self.node.is_none() {
            return Ok(());
        }
        let Some(neighbour) = &mut self.neighbour else { return Ok(()) };
        match neighbour.dice.below(8) {
            0 => self.flood(),
            1 => self.wrong_digests(),
            2 => self.giant_via(),
            3 | 4 => self.in_their_calls(),
            5 => self.guess(),
            6 => self.lie_idle(),
            _ => self.be_greedy(),
        }
    }

    /// It goes for good, with its session and its connections.
    pub(super) fn neighbour_leaves(&mut self) -> Result<(), String> {
        if self.neighbour.is_some() {
            self.run_until(self.now + UNDER_WAY)?;
        }
        let Some(neighbour) = &self.neighbour else { return Ok(()) };
        let unanswered =
            neighbour.lines.values().filter(|line| line.open).flat_map(|line| line.awaited.values());
        if let Some(method) = unanswered.last() {
            return Err(format!("the greedy application's {method} had no answer"));
        }
        let lines: Vec<u64> = neighbour.lines.keys().copied().collect();
        for line in lines {
            self.hang_up_line(line)?;
        }
        Ok(())
    }

    fn hang_up_line(&mut self, line: u64) -> Result<(), String> {
        if let Some(neighbour) = &mut self.neighbour {
            neighbour.closed(protocol::session::ConnectionId(line));
        }
        self.input(Input::CtiClosed(protocol::session::ConnectionId(line)))
    }

    // Without a password.

    /// Requests of somebody who has not said who he is.
    fn flood(&mut self) -> Result<(), String> {
        let Some(neighbour) = &mut self.neighbour else { return Ok(()) };
        let (from, many) = (*neighbour.dice.pick(&ADDRESSES), 20 + neighbour.dice.below(80));
        let methods = ["INVITE", "INVITE", "REGISTER", "OPTIONS", "BYE", "INFO", "SUBSCRIBE", "PUBLISH"];
        let pick = |neighbour: &mut Neighbour| {
            let method = *neighbour.dice.pick(&methods);
            neighbour.stranger(method, from, "")
        };
        let datagrams: Vec<Vec<u8>> = (0..many).map(|_| pick(neighbour)).collect();
        self.strange(Happening::Flood, from, datagrams).map(drop)
    }

    /// Passwords of phones are guessed, each with a challenge of its own.
    fn wrong_digests(&mut self) -> Result<(), String> {
        // Where nobody has been let in yet, a name may have to wait for its guesses (docs/security.md).
        let there: Vec<&str> =
            self.phones.iter().filter(|phone| phone.registered).filter_map(|p| p.user()).collect();
        let Some(neighbour) = self.neighbour.as_mut().filter(|_| !there.is_empty()) else { return Ok(()) };
        let user = (*neighbour.dice.pick(&there)).to_owned();
        let login = Login { user, password: "guessed".to_owned().into() };
        for _ in 0..12 {
            let Some(neighbour) = &mut self.neighbour else { return Ok(()) };
            let first = neighbour.stranger("REGISTER", GUESSES_FROM, "");
            let challenges = self.strange(Happening::WrongDigest, GUESSES_FROM, vec![first.clone()])?;
            let challenge = challenges.first().ok_or("a REGISTER without a password had no challenge")?;
            let Ok(Message::Request(mut request)) = message::read(&first, Transport::Udp) else {
                return Err("the neighbour writes no SIP".into());
            };
            if !login.answer(&challenge.headers, challenge.status, &mut request, "n") {
                return Err(format!("no challenge, but {}", challenge.status));
            }
            self.again(&mut request);
            self.strange(Happening::WrongDigest, GUESSES_FROM, vec![request.write()])?;
        }
        Ok(())
    }

    fn again(&mut self, request: &mut Request) {
        let n = self.neighbour.as_mut().map_or(0, Neighbour::next);
        request.headers.set("CSeq", format!("2 {}", request.method));
        if let Ok(mut via) = request.headers.top_via() {
            via.params.set("branch", Some(&format!("z9hG4bKn{n}")));
            request.headers.set_top_via(&via);
        }
    }

    fn giant_via(&mut self) -> Result<(), String> {
        let Some(neighbour) = &mut self.neighbour else { return Ok(()) };
        let from = *neighbour.dice.pick(&ADDRESSES);
        let datagrams = (0..3).map(|_| neighbour.stranger("INVITE", from, &";a".repeat(GIANT_VIA))).collect();
        self.strange(Happening::GiantVia, from, datagrams).map(drop)
    }

    /// Requests with the tags of calls that it has seen, from elsewhere.
    fn in_their_calls(&mut self) -> Result<(), String> {
        let seen: Vec<_> = self.phones.iter().flat_map(|phone| phone.seen_calls()).collect();
        let Some(neighbour) = self.neighbour.as_mut().filter(|_| !seen.is_empty()) else { return Ok(()) };
        let (from, seen) = (*neighbour.dice.pick(&ADDRESSES), neighbour.dice.pick(&seen).clone());
        let media = "v=0\r\no=n 1 9 IN IP4 10.0.0.66\r\ns=-\r\nc=IN IP4 10.0.0.66\r\nt=0 0\r\nm=audio 6666 RTP/AVP 0\r\n\
                     a=x-call:NEIGHBOUR\r\n";
        let all = [
            ("BYE", "", ""),
            ("INVITE", "application/sdp", media),
            ("UPDATE", "application/sdp", media),
            ("INFO", "application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"),
            ("CANCEL", "", ""),
        ];
        let datagrams = all.iter().filter_map(|(method, kind, body)| {
            let n = neighbour.next();
            let (via, cseq) = match (*method, &seen.inviting) {
                ("CANCEL", None) => return None,
                // Who is on the caller's own host can't be told from him there.
                ("CANCEL", _) if address(from).ip() == seen.address.ip() => return None,
                ("CANCEL", Some((cseq, branch))) => (format!("{};branch={branch}", seen.address), *cseq),
                _ => (format!("{from};branch=z9hG4bKn{n}"), seen.cseq + 1 + u32::try_from(n % 3).unwrap_or(0)),
            };
            let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
            Some(
                format!(
                    "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {via};rport\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
                     Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:n@{from}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
                    seen.target, seen.local, seen.remote, seen.call_id, body.len()
                )
                .into_bytes(),
            )
        });
        let datagrams = datagrams.collect();
        self.strange(Happening::Elsewhere, from, datagrams).map(drop)
    }

    /// Datagrams from this address of its, one after the other at this moment; gives the answers.
    fn strange(
        &mut self,
        what: Happening,
        from: &str,
        datagrams: Vec<Vec<u8>>,
    ) -> Result<Vec<Response>, String> {
        let remote = address(from);
        let before = self.tables()?;
        let (mut answers, mut alone) = (Vec::new(), true);
        for bytes in datagrams {
            self.tally.add(what);
            self.trace.line(self.now, what.text(), &bytes);
            let among_others = self.node.as_ref().is_some_and(Node::has_waiting_messages);
            alone &= !among_others;
            if let Some(neighbour) = &mut self.neighbour {
                (neighbour.heard, neighbour.among_others) = (Some(Vec::new()), among_others);
            }
            let hop = Hop { transport: Transport::Udp, local: address(NODE), remote, connection: None };
            let sent = bytes.len();
            let asked = message::read(&bytes, Transport::Udp);
            self.input(Input::Sip { hop, bytes })?;
            let heard =
                self.neighbour.as_mut().and_then(|neighbour| neighbour.heard.take()).unwrap_or_default();
            let options =
                matches!(&asked, Ok(Message::Request(request)) if request.method == Method::Options);
            answers.extend(answer_to_a_stranger(sent, options, heard)?);
        }
        let after = self.tables()?;
        if before == after || !alone {
            Ok(answers)
        } else {
            Err(format!("a stranger has changed {before:?} to {after:?}"))
        }
    }

    fn tables(&mut self) -> Result<Tables, String> {
        let status = self.ask(AdminRequest::Status)?;
        Ok(Tables(["calls", "legs", "sip_calls", "sip_transactions"].map(|name| status[name].clone())))
    }

    // With a connection.

    fn connect_line(&mut self, peer: &str) -> Result<u64, String> {
        let id = self.next_connection();
        if let Some(neighbour) = &mut self.neighbour {
            neighbour.lines.insert(id, Line::default());
        }
        let transport = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
        let connection = protocol::session::ConnectionId(id);
        self.input(Input::CtiOpened { connection, peer: address(peer), transport })?;
        Ok(id)
    }

    /// A request on a connection of its, if that is still there.
    fn say(&mut self, line: u64, method: &'static str, params: &str) -> Result<(), String> {
        let Some(neighbour) = &mut self.neighbour else { return Ok(()) };
        neighbour.requests += 1;
        let id = neighbour.requests;
        let Some(to) = neighbour.lines.get_mut(&line) else { return Ok(()) };
        to.awaited.insert(id, method);
        let frame = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.trace.line(self.now, "neighbour", frame.as_bytes());
        self.input(Input::CtiFrame(protocol::session::ConnectionId(line), frame.into_bytes()))
    }

    /// Passwords of applications' users, side by side.
    fn guess(&mut self) -> Result<(), String> {
        // As with those of phones.
        let let_in = |user: &str| {
            self.applications
                .iter()
                .filter(|one| one.scene.user == user)
                .all(|one| one.let_in == Some(self.life))
        };
        let users: Vec<&str> = ["ivr", "ports", "desk"].into_iter().filter(|user| let_in(user)).collect();
        let Some(neighbour) = self.neighbour.as_mut().filter(|_| !users.is_empty()) else { return Ok(()) };
        let (user, host) = (*neighbour.dice.pick(&users), 1 + neighbour.next() % 200);
        let from = format!("10.0.1.{host}:50000");
        for _ in 0..12 {
            let line = self.connect_line(&from)?;
            self.tally.add(Happening::Guess);
            let params = format!(r#"{{"user":"{user}","password":"guessed","application":"n"}}"#);
            self.say(line, "provider.open", &params)?;
        }
        Ok(())
    }

    /// Connections that never open a provider.
    fn lie_idle(&mut self) -> Result<(), String> {
        for _ in 0..10 {
            self.tally.add(Happening::Idle);
            self.connect_line(WITHOUT)?;
        }
        Ok(())
    }

    /// A user who is let in asks for everything at once.
    fn be_greedy(&mut self) -> Result<(), String> {
        let line = self.neighbour.as_ref().and_then(|neighbour| neighbour.greedy);
        let Some(line) = line else {
            let line = self.connect_line(LET_IN)?;
            if let Some(neighbour) = self.neighbour.as_mut().filter(|n| n.lines.contains_key(&line)) {
                neighbour.greedy = Some(line);
            }
            let params = format!(
                r#"{{"user":"greedy","password":"{PASSWORD}","application":"n","heartbeat_ms":60000,"resume_grace_ms":0}}"#
            );
            return self.say(line, "provider.open", &params);
        };
        for _ in 0..20 {
            self.tally.add(Happening::Greed);
            self.say(line, "provider.devices", r#"{"limit":100}"#)?;
            self.say(line, "provider.snapshot", "{}")?;
            self.say(line, "device.open", r#"{"device":"RP_GREEDY","media":{"mode":"none"}}"#)?;
            self.say(line, "device.close", r#"{"device":"RP_GREEDY"}"#)?;
        }
        self.say(line, "provider.heartbeat", "{}")
    }
}

/// One answer at the most, no longer than what was sent and a challenge, and none that grants anything.
fn answer_to_a_stranger(
    sent: usize,
    options: bool,
    heard: Vec<(SocketAddr, Vec<u8>)>,
) -> Result<Option<Response>, String> {
    if heard.len() > 1 {
        return Err(format!("a stranger's datagram drew {} answers", heard.len()));
    }
    let Some((_, bytes)) = heard.into_iter().next() else { return Ok(None) };
    if bytes.len() > sent + LONGER {
        return Err(format!("a stranger's datagram of {sent} bytes drew {}", bytes.len()));
    }
    match message::read(&bytes, Transport::Udp) {
        Ok(Message::Response(response)) if response.is_success() && !options => {
            Err(format!("a stranger was granted {}", response.status))
        }
        Ok(Message::Response(response)) => Ok(Some(response)),
        Ok(Message::Request(request)) => Err(format!("the node asks a stranger: {}", request.method)),
        // A refusal of what could not be read has what was there.
        Err(_) => Ok(None),
    }
}
