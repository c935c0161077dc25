//! SIP messages, the values in them, and the whole stack.

use super::food::steps;
use super::wire::Wire;
use sip::Login;
use sip::digest::{Authenticator, Verdict};
use sip::message::{self, CSeq, Message, Method, NameAddr, Params, Request, Uri, Via};
use sip::port::{
    Audio, ConnectionId, KnownTrunk, MediaDirection, Package, PayloadFormat, Profile, Proof, Refusal, Sdp,
    Waiting, Watched, WatchedState,
};
use sip::{Account, Command, Config, Directory, Event, Hop, Input, InviteHandle, Output, Stack, Transport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One message: it is refused, or can be asked everything, written and read again.
pub(super) fn message(data: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let Ok(read) = message::read(data, transport) else { continue };
        ask_everything(&read);
        let written = read.write();
        for again in [Transport::Udp, Transport::Tls] {
            assert_eq!(
                message::read(&written, again).as_ref(),
                Ok(&read),
                "what is read can be written and read again"
            );
        }
    }
}

fn ask_everything(message: &Message) {
    let headers = message.headers();
    let _ = (headers.top_via(), headers.from(), headers.to(), headers.from_tag(), headers.to_tag());
    let _ = (headers.cseq(), headers.call_id(), headers.contacts(), headers.name_addrs("Record-Route"));
    let _ = (headers.max_forwards(), headers.session_expires(), headers.rack(), headers.q850());
    let _ = (headers.wants_privacy(), headers.content_type(), headers.has_token("Supported", "x"));
    let _ = (headers.number("Expires"), headers.elements("Via").count(), format!("{message:?}"));
}

/// A header's value, read as each kind of value, and as credentials and challenge.
pub(super) fn values(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(uri) = Uri::read(&text) {
        assert_eq!(uri.as_str(), text);
        let _ = (uri.user(), uri.host(), uri.port(), uri.ip(), uri.param("lr"), uri.headers());
        assert!(uri.same_resource(&uri));
    }
    if let Ok(via) = Via::read(&text) {
        let _ = (via.branch(), via.received(), via.rport(), via.port_or_default());
        assert_eq!(Via::read(&via.to_string()), Ok(via));
    }
    if let Ok(address) = NameAddr::read(&text) {
        let _ = (address.tag(), address.expires(), address.q_thousandths(), address.is_star());
        // White space of a quoted name may become a blank, once.
        let again = NameAddr::read(&address.to_string()).expect("what is read can be written and read");
        assert_eq!(NameAddr::read(&again.to_string()), Ok(again));
    }
    if let Ok(params) = Params::read(&text) {
        assert_eq!(Params::read(&params.to_string()), Ok(params));
    }
    if let Ok(cseq) = CSeq::read(&text) {
        assert_eq!(CSeq::read(&cseq.to_string()), Ok(cseq));
    }
    let user = Uri::sip(&text, "h.example", None);
    assert_eq!(user.user(), text, "any user can stand in a URI");
    credentials(&text);
}

fn credentials(value: &str) {
    let now = Instant::now();
    let mut authenticator = Authenticator::new("lab".into(), [3; 32], now);
    let mut request = Request::new(Method::Register, Uri::sip("", "h", None));
    request.headers.push("Authorization", value);
    request.headers.push("Proxy-Authorization", value);
    let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let hop = Hop { transport: Transport::Udp, local: at(5060), remote: at(5070), connection: None };
    match authenticator.check(now, &request, &hop, &House) {
        Verdict::Missing | Verdict::Wrong { .. } | Verdict::PutOff { .. } | Verdict::Stale => {}
        Verdict::Accepted { .. } | Verdict::OtherUri => panic!("nobody was given a nonce"),
    }
    let mut challenge = Request::new(Method::Register, Uri::sip("", "h", None));
    challenge.headers.push("WWW-Authenticate", value);
    let mut ours = Request::new(Method::Invite, Uri::sip("5000", "h", None));
    for (name, value) in [
        ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1"),
        ("From", "<sip:a@h>;tag=1"),
        ("To", "<sip:b@h>"),
        ("Call-ID", "c"),
        ("CSeq", "1 INVITE"),
    ] {
        ours.headers.push(name, value);
    }
    let login = Login { user: "p1".into(), password: "secret".to_owned().into() };
    if login.answer(&challenge.headers, 401, &mut ours, "cnonce") {
        let written = ours.write();
        assert!(
            !written.windows(6).any(|window| window == b"secret") || value.contains("secret"),
            "the password is shown"
        );
        message::read(&written, Transport::Tcp).expect("a challenge can't break our request");
    }
}

/// One phone and one trunk.
pub(super) struct House;

pub(super) const TRUNK: &str = "10.0.0.99:5070";

impl Directory for House {
    fn account(&self, user: &str) -> Option<Account> {
        let account = || Account {
            id: "PHONE".into(),
            numbers: Arc::from(["1001".into()]),
            password: "secret".to_owned().into(),
            max_expires: None,
        };
        (user == "p1").then(account)
    }

    fn trunk(&self, hop: &Hop) -> Option<KnownTrunk> {
        (hop.remote.to_string() == TRUNK)
            .then(|| KnownTrunk { name: "pstn".into(), by: Proof::AddressAndPort })
    }

    fn watched(&self, _: &str, _: Package, user: &str) -> Option<Watched> {
        let state = WatchedState::Messages(Waiting::Yes);
        (user == "1001").then(|| Watched { number: "1001".into(), state })
    }
}

/// A conversation with the stack: only requests are answered, what it sends is whole, and nothing stays.
///
/// Steps: `T` a message of the trunk, `P` one of a phone over TCP, `S` one of a stranger; `L` the phone answers its
/// challenge; `R` an answer to a request of ours; `C` the phone's connection ends; `W` seconds pass; `A` accept, `G`
/// ring, `F` refuse, `E` end the newest call.
pub(super) fn stack(data: &[u8]) {
    let mut world = World::new();
    for (letter, rest) in steps(data).take(64) {
        world.step(letter, rest);
    }
    world.end();
}

fn local() -> SocketAddr {
    "10.0.0.1:5060".parse().expect("an address")
}

pub(super) fn hop(transport: Transport, remote: &str, connection: Option<ConnectionId>) -> Hop {
    Hop { transport, local: local(), remote: remote.parse().expect("an address"), connection }
}

/// A small house: its bounds are within a short script's reach.
pub(super) fn config() -> Config {
    let seconds = Duration::from_secs;
    Config {
        realm: "lab".into(),
        product: "x".into(),
        advertised: [].into(),
        listen: vec![(Transport::Udp, local()), (Transport::Tcp, local())],
        session_expires: seconds(1800),
        min_session_expires: seconds(90),
        max_dialog_requests_per_second: 1000,
        min_expires: seconds(60),
        max_expires: seconds(3600),
        max_contacts: 3,
        max_transactions: 40,
        max_bytes_per_address: 1 << 16,
        max_calls: 6,
        max_subscriptions: 100,
        max_subscriptions_per_account: 4,
        t1: Duration::from_millis(500),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Offered,
    Accepted,
    Over,
}

struct World {
    stack: Stack,
    now: Instant,
    wire: Wire,
    calls: BTreeMap<InviteHandle, Stage>,
    trunk: Hop,
    phone: Hop,
    stranger: Hop,
}

impl World {
    fn new() -> Self {
        let config = config();
        Self {
            stack: Stack::new(config, [1; 32]),
            now: Instant::now(),
            wire: Wire::default(),
            calls: BTreeMap::new(),
            trunk: hop(Transport::Udp, TRUNK, None),
            phone: hop(Transport::Tcp, "10.0.0.11:40000", Some(ConnectionId(1))),
            stranger: hop(Transport::Udp, "10.0.0.66:5060", None),
        }
    }

    fn step(&mut self, letter: u8, rest: &[u8]) {
        match letter {
            b'P' => self.receive(self.phone, rest),
            b'S' => self.receive(self.stranger, rest),
            b'L' => {
                if let Some((hop, bytes)) = self.wire.with_login("p1") {
                    self.receive(hop, &bytes);
                }
            }
            b'R' => {
                if let Some((hop, bytes)) = self.wire.answer(rest) {
                    self.receive(hop, &bytes);
                }
            }
            b'C' => self.input(Input::Closed(self.phone), false),
            b'W' => self.pass(Duration::from_secs(rest.first().copied().unwrap_or(1).into())),
            b'A' | b'G' | b'F' | b'E' => self.decide(letter, rest),
            _ => self.receive(self.trunk, rest),
        }
    }

    fn decide(&mut self, letter: u8, rest: &[u8]) {
        let Some((call, stage)) = self.calls.iter_mut().rev().find(|(_, stage)| **stage != Stage::Over)
        else {
            return;
        };
        let call = *call;
        let refusal = Refusal { status: 486, cause: 17, retry_after: None };
        let described = || Sdp::Relay(rest.into(), None);
        let command = match (letter, *stage) {
            (b'A', Stage::Offered) => {
                *stage = Stage::Accepted;
                Command::Accept(call, if rest.is_empty() { Sdp::Local(audio()) } else { described() })
            }
            (b'G', Stage::Offered) => Command::Ring(call, (!rest.is_empty()).then(described)),
            (b'F', Stage::Offered) => {
                *stage = Stage::Over;
                Command::Refuse(call, refusal)
            }
            (b'E', _) => {
                *stage = Stage::Over;
                Command::End(call, refusal)
            }
            _ => return,
        };
        self.input(Input::Command(command), false);
    }

    fn receive(&mut self, hop: Hop, text: &[u8]) {
        let bytes = self.wire.fill(text);
        let response = matches!(self.wire.received(hop, &bytes), Some(Message::Response(_)));
        self.input(Input::Received { hop, bytes }, response);
    }

    /// Carries out an input; after a response nothing may be answered.
    fn input(&mut self, input: Input, response: bool) {
        let mut out = Vec::new();
        self.stack.handle(self.now, input, &House, &mut out);
        for output in out {
            match output {
                Output::Send { hop, bytes } => {
                    let answers = self.wire.sent(hop, &bytes);
                    assert!(!(answers && response), "a response was answered");
                }
                Output::Connect(_)
                | Output::Close(_)
                | Output::Keep(_)
                | Output::SecureMediaRefused { .. } => {}
                Output::Refused(_) | Output::Attempt(_) => {}
                Output::Event(event) => self.event(event),
            }
        }
        let counts = self.stack.counts();
        assert!(counts.calls <= 6 && counts.transactions <= 50 && counts.contacts <= 3, "{counts:?}");
        assert!(counts.subscriptions <= 4, "{counts:?}");
    }

    fn event(&mut self, event: Event) {
        let answer = match event {
            Event::Incoming { call, .. } => {
                assert_eq!(self.calls.insert(call, Stage::Offered), None, "a call is told once");
                return;
            }
            Event::Ended { call, .. } | Event::Refused { call, .. } => {
                let before = self.calls.insert(call, Stage::Over);
                assert!(before.is_some_and(|stage| stage != Stage::Over), "the end is told once");
                return;
            }
            Event::Offer(call, Some(offer)) => Command::Answer(call, Sdp::Relay(offer.text, None)),
            Event::Offer(call, None) => Command::RefuseOffer(call, 488),
            Event::Referred(call, _) => Command::Referred(call, 486),
            Event::Registration { .. }
            | Event::Identified(..)
            | Event::Ringing(..)
            | Event::Answered(..)
            | Event::Answer(..)
            | Event::OfferRefused(..)
            | Event::Digit(..) => return,
        };
        self.input(Input::Command(answer), false);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(at) = self.stack.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout, false);
            turns += 1;
            assert!(turns < 100_000, "a timer does not let go");
        }
        self.now = end;
    }

    /// All calls are ended, the peers say nothing more: an hour later nothing is left.
    fn end(mut self) {
        while self.calls.values().any(|stage| *stage != Stage::Over) {
            self.decide(b'E', b"");
        }
        self.pass(Duration::from_secs(3_700));
        assert!(self.stack.is_quiet(), "left: {:?}", self.stack.counts());
        assert_eq!(self.stack.counts().contacts, 0, "a registration never ends");
        assert_eq!(self.stack.counts().subscriptions, 0, "a subscription never ends");
    }
}

fn audio() -> Audio {
    Audio {
        line: 0,
        profile: Profile::Plain,
        address: "10.0.0.1:4000".parse().expect("an address"),
        formats: vec![PayloadFormat { payload_type: 0, name: "PCMU".into(), clock_rate: 8000, channels: 1 }],
        dtmf_payload_type: None,
        direction: MediaDirection::SendReceive,
        packet_ms: 20,
        crypto: Vec::new(),
    }
}
