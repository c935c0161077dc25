//! Whatever comes from a socket: no panic, no growth, and what is read can be written.

use proptest::prelude::*;
use sip::frame::{Frame, StreamFramer};
use sip::message::{self, Message, Method, NameAddr, Params, Request, Uri, Via};
use sip::port::ConnectionId;
use sip::transaction::{Settings, Transactions, TuEvent};
use sip::{Account, Config, Directory, Hop, Input, Output, Stack, Transport};
use std::time::{Duration, Instant};

const LINES: [&str; 40] = [
    "INVITE sip:a@h SIP/2.0",
    "ACK sip:a@h SIP/2.0",
    "CANCEL sip:a@h SIP/2.0",
    "BYE sip:a;b?c@[::1]:5 SIP/2.0",
    "SIP/2.0 200 OK",
    "SIP/2.0 486",
    "Via: SIP/2.0/UDP h;branch=z9hG4bKa;rport",
    "v: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa, SIP/2.0/TCP [::1]",
    "Via: SIP/2.0/UDP",
    "From: \"a\\\"\" <sip:a@h>;tag=1",
    "f: sip:a@h;tag=1",
    "From: \"",
    "To: <sip:b@h>",
    "t: B <sip:b@h>;tag=2",
    "To: <",
    "Call-ID: c",
    "i: d",
    "CSeq: 1 INVITE",
    "CSeq: 1 ACK",
    "CSeq: 1 CANCEL",
    "CSeq: 2 BYE",
    "CSeq: 99999999999 INVITE",
    "Contact: *",
    "m: <sip:a@h;x=%41?y=z>;q=0.5;expires=3, sip:b@h",
    "Contact: <sip:%zz@h>",
    "Content-Length: 0",
    "l: 4",
    "Content-Length: -1",
    "Max-Forwards: 70",
    "Max-Forwards: 256",
    " folded",
    "\tfolded \u{1}",
    ": nothing",
    "no colon",
    "X: \\\u{0}",
    "Reason: Q.850;cause=16",
    "RAck: 1 2 INVITE",
    "Session-Expires: 90;refresher=uac",
    "Authorization: Digest username=\"a\", realm=\"h\", nonce=\"n\", uri=\"sip:h\", response=\"0\"",
    "",
];

/// Lines that a whole message may have more of.
const HARMLESS: [&str; 14] = [
    "m: <sip:a@h;x=%41?y=z>;q=0.5;expires=3, sip:b@h",
    "Contact: \"a, \\\" b\" <sip:[::1]:5060;transport=tcp>;+sip.instance=\"<urn:x>\"",
    "Record-Route: <sip:p;lr>, <sip:q;lr>",
    " ,folded",
    "k: timer, 100rel",
    "Reason: SIP;cause=200, Q.850;cause=16;text=\"a;b\"",
    "RAck: 1 2 INVITE",
    "x: 90;refresher=uac",
    "Privacy: id;header",
    "c: application/sdp; a=b",
    "Subject: J\u{fc}rg \u{1f600}",
    "X: \\\u{0}",
    "Expires: 99999999999999999999",
    "Via: SIP / 2.0 / TCP h ; branch = z , SIP/2.0/UDP i",
];

/// What makes a message whole, so that the lines after it are looked at.
const WHOLE: [&str; 3] = [
    "",
    "INVITE sip:5000@h SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bKa\r\nf: sip:a@h;tag=1\r\nt: <sip:b@h>\r\ni: c\r\n\
     CSeq: 1 INVITE\r\n",
    "SIP/2.0 183 On Its Way\r\nVia: SIP/2.0/TLS [::1]:5;branch=z9hG4bKa\r\nFrom: sip:a@h;tag=1\r\nTo: \"B\" <sip:b@h>;\
     tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        20 => (0..HARMLESS.len()).prop_map(|at| HARMLESS[at].to_owned()),
        2 => (0..LINES.len()).prop_map(|at| LINES[at].to_owned()),
        1 => ".{0,20}",
    ];
    let end = prop_oneof![Just("\r\n"), Just("\n")];
    let lines = prop::collection::vec((line, end), 0..8);
    let joined = (0..WHOLE.len(), lines).prop_map(|(whole, lines)| {
        let lines = lines.into_iter().map(|(line, end)| line + end).collect::<String>();
        WHOLE[whole].to_owned() + &lines
    });
    (joined, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2)).prop_map(
        |(text, flips)| {
            let mut bytes = text.into_bytes();
            if !bytes.is_empty() {
                for (at, byte) in flips {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        },
    )
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp), Just(Transport::Tls)]
}

/// Asks a message everything that anyone asks.
fn ask_everything(message: &Message) {
    let headers = message.headers();
    let _ = (headers.top_via(), headers.from(), headers.to(), headers.from_tag(), headers.to_tag());
    let _ = (headers.cseq(), headers.call_id(), headers.contacts(), headers.name_addrs("Record-Route"));
    let _ = (headers.max_forwards(), headers.session_expires(), headers.rack(), headers.q850());
    let _ = (headers.wants_privacy(), headers.content_type(), headers.has_token("Supported", "x"));
    let _ = (headers.number("Expires"), headers.elements("Via").count(), format!("{message:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), transport in transport()) {
        let _ = message::read(&bytes, transport);
    }

    #[test]
    fn what_is_read_can_be_written_and_read_again(bytes in text(), transport in transport()) {
        if let Ok(message) = message::read(&bytes, transport) {
            ask_everything(&message);
            for again in [Transport::Udp, Transport::Tcp] {
                let back = message::read(&message.write(), again);
                prop_assert_eq!(back.as_ref(), Ok(&message));
            }
        }
    }

    #[test]
    fn values_come_back_as_they_were_written(text in "[ -~]{0,60}") {
        if let Ok(uri) = Uri::read(&text) {
            prop_assert_eq!(uri.as_str(), &text);
            let _ = (uri.user(), uri.host(), uri.port(), uri.ip(), uri.param("lr"), uri.headers());
        }
        if let Ok(via) = Via::read(&text) {
            prop_assert_eq!(Via::read(&via.to_string()), Ok(via));
        }
        if let Ok(address) = NameAddr::read(&text) {
            prop_assert_eq!(NameAddr::read(&address.to_string()), Ok(address));
        }
        if let Ok(params) = Params::read(&text) {
            prop_assert_eq!(Params::read(&params.to_string()), Ok(params));
        }
    }

    #[test]
    fn any_user_can_stand_in_a_uri(user in "\\PC{0,20}") {
        let uri = Uri::sip(&user, "h.example", Some(5060));
        prop_assert_eq!(uri.user(), user.as_str());
        prop_assert_eq!(Uri::read(uri.as_str()), Ok(uri));
    }

    #[test]
    fn no_header_value_breaks_a_message(name in "[A-Za-z-]{1,10}", value in "\\PC*|[\\x00-\\x7f]{0,30}") {
        let mut request = Request::new(Method::Options, Uri::sip("a", "h", None));
        request.headers.push("Via", "SIP/2.0/UDP h;branch=z9hG4bKa");
        for (name, value) in [("From", "<sip:a@h>;tag=1"), ("To", "<sip:b@h>"), ("Call-ID", "c"), ("CSeq", "1 OPTIONS")] {
            request.headers.push(name, value);
        }
        request.headers.push(&format!("X-{name}"), value);
        request.body = b"body".to_vec();
        let Ok(Message::Request(again)) = message::read(&request.write(), Transport::Tcp) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!((again.headers.len(), again.body), (6, request.body));
    }

    #[test]
    fn a_stream_is_cut_the_same_way_however_it_is_split(
        bytes in prop::collection::vec(text(), 0..6).prop_map(|texts| texts.concat()),
        chunk in 1_usize..50,
    ) {
        let frames = |chunk: usize| {
            let mut framer = StreamFramer::default();
            let mut frames = Vec::new();
            for part in bytes.chunks(chunk) {
                framer.push(part);
                loop {
                    match framer.next() {
                        Ok(Some(frame)) => frames.push(Ok(frame)),
                        Ok(None) => break,
                        Err(broken) => return [frames, vec![Err(broken)]].concat(),
                    }
                }
            }
            frames
        };
        let whole = frames(bytes.len().max(1));
        let held: usize = whole.iter().map(|frame| match frame {
            Ok(Frame::Message(message)) => message.len(),
            Ok(Frame::Ping) => 4,
            Err(_) => 0,
        }).sum();
        prop_assert!(held <= bytes.len());
        prop_assert_eq!(frames(chunk), whole);
    }
}

struct Nobody;

impl Directory for Nobody {
    fn account(&self, _: &str) -> Option<Account> {
        None
    }

    fn trunk(&self, _: &Hop) -> Option<sip::port::KnownTrunk> {
        None
    }
}

#[allow(clippy::disallowed_methods)] // the epoch of a virtual clock
fn start() -> Instant {
    Instant::now()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A peer that nobody knows leaves nothing behind, whatever it sends.
    #[test]
    fn strangers_leave_nothing(messages in prop::collection::vec(text(), 0..30), transport in transport()) {
        let address = "192.0.2.9:5060".parse().unwrap();
        let seconds = Duration::from_secs;
        let config = Config {
            realm: "h".into(),
            product: "x".into(),
            advertised: [].into(),
            listen: vec![(transport, address)],
            session_expires: seconds(1800),
            min_session_expires: seconds(90),
            max_dialog_requests_per_second: 1000,
            min_expires: seconds(60),
            max_expires: seconds(3600),
            max_contacts: 10,
            max_transactions: 100,
            max_bytes_per_address: 1 << 20,
            max_calls: 100,
            max_subscriptions: 100,
            max_subscriptions_per_account: 4,
            t1: Duration::from_millis(500),
        };
        let (mut stack, mut now) = (Stack::new(config, [1; 32]), start());
        let connection = (transport != Transport::Udp).then_some(ConnectionId(1));
        let hop = Hop { transport, local: address, remote: address, connection };
        let mut out = Vec::new();
        for bytes in messages {
            stack.handle(now, Input::Received { hop, bytes }, &Nobody, &mut out);
        }
        prop_assert!(!out.iter().any(|output| matches!(output, Output::Event(_))), "told the node");
        stack.handle(now, Input::Closed(hop), &Nobody, &mut out);
        let end = now + seconds(100);
        while let Some(due) = stack.next_timeout().filter(|due| *due <= end) {
            now = due;
            stack.handle(now, Input::Timeout, &Nobody, &mut out);
        }
        prop_assert!(stack.is_quiet());
        prop_assert_eq!(stack.next_timeout(), None);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Receive(usize, usize, bool),
    Respond(usize, u16),
    Send(bool),
    Answer(usize, u16),
    Cancel(usize),
    Close,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let status = prop_oneof![Just(100_u16), Just(183), Just(200), Just(302), Just(486), Just(699)];
    prop_oneof![
        4 => (0..5_usize, 0..4_usize, any::<bool>()).prop_map(|(method, branch, tag)| Act::Receive(method, branch, tag)),
        3 => (0..8_usize, status.clone()).prop_map(|(which, status)| Act::Respond(which, status)),
        2 => any::<bool>().prop_map(Act::Send),
        3 => (0..8_usize, status).prop_map(|(which, status)| Act::Answer(which, status)),
        1 => (0..8_usize).prop_map(Act::Cancel),
        1 => Just(Act::Close),
        3 => (0..40_000_u64).prop_map(Act::Pass),
    ]
}

/// A transaction layer, everything that it gave out, and a clock.
struct World {
    layer: Transactions,
    now: Instant,
    hop: Hop,
    servers: Vec<(sip::transaction::ServerId, Request)>,
    clients: Vec<(sip::transaction::ClientId, Request)>,
    ended: Vec<sip::transaction::ClientId>,
}

impl World {
    fn new(transport: Transport) -> Self {
        let local = "192.0.2.9:5060".parse().unwrap();
        let settings = Settings {
            advertised: [].into(),
            t1: Duration::from_millis(500),
            max: 8,
            max_bytes_per_address: 1 << 20,
            listen: vec![(transport, local)],
            product: "x".into(),
        };
        let connection = (transport != Transport::Udp).then_some(ConnectionId(1));
        let remote = "192.0.2.1:5060".parse().unwrap();
        Self {
            layer: Transactions::new(settings, [1; 32]),
            now: start(),
            hop: Hop { transport, local, remote, connection },
            servers: Vec::new(),
            clients: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn note(&mut self, event: TuEvent) {
        match event {
            TuEvent::Request { id, request, .. } => self.servers.push((id, request)),
            TuEvent::ClientTimeout(id) | TuEvent::ClientTransportError(id) => {
                assert!(!self.ended.contains(&id), "ended twice");
                self.ended.push(id);
            }
            TuEvent::Response { id, response, .. }
                if !response.is_provisional() && !response.is_success() =>
            {
                assert!(!self.ended.contains(&id), "refused twice");
                self.ended.push(id);
            }
            TuEvent::Response { id, .. } => assert!(!self.ended.contains(&id), "answered after its end"),
            TuEvent::Ack { .. }
            | TuEvent::Cancelled { .. }
            | TuEvent::StrayResponse { .. }
            | TuEvent::NoAck(_) => {}
        }
    }

    fn receive(&mut self, text: &str) {
        let message = message::read(text.replace('\n', "\r\n").as_bytes(), self.hop.transport).unwrap();
        if let Some(event) = self.layer.receive(self.now, self.hop, message, &mut Vec::new()) {
            self.note(event);
        }
    }

    fn act(&mut self, act: &Act) {
        let mut out = Vec::new();
        match act {
            Act::Receive(method, branch, tag) => {
                let method = ["INVITE", "ACK", "CANCEL", "OPTIONS", "FOO"][*method];
                let tag = if *tag { ";tag=t" } else { "" };
                self.receive(&format!(
                    "{method} sip:a@h SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK{branch}\nFrom: <sip:b@h>;tag=f\n\
                     To: <sip:a@h>{tag}\nCall-ID: {branch}\nCSeq: 1 {method}\n\n"
                ));
            }
            Act::Respond(which, status) => {
                let Some((id, request)) = self.servers.get(*which) else { return };
                let response = message::Response::to(request, *status, Some("t"));
                self.layer.respond(self.now, *id, response, &mut out);
            }
            Act::Send(invite) => {
                let method = if *invite { Method::Invite } else { Method::Info };
                let mut request = Request::new(method.clone(), Uri::sip("a", "h", None));
                request.headers.push("From", "<sip:a@h>;tag=f");
                request.headers.push("To", "<sip:b@h>");
                request.headers.push("Call-ID", "own");
                request.headers.push("CSeq", format!("1 {method}"));
                let id = self.layer.request(self.now, self.hop, request, &mut out);
                let Some(Output::Send { bytes, .. }) = out.pop() else { panic!("nothing sent") };
                let Ok(Message::Request(sent)) = message::read(&bytes, Transport::Tcp) else {
                    panic!("broken")
                };
                self.clients.push((id, sent));
            }
            Act::Answer(which, status) => {
                let Some((_, request)) = self.clients.get(*which) else { return };
                let response = message::Response::to(request, *status, Some("t"));
                let text = String::from_utf8(response.write()).unwrap().replace("\r\n", "\n");
                self.receive(&text);
            }
            Act::Cancel(which) => {
                let Some((id, _)) = self.clients.get(*which) else { return };
                self.layer.cancel(self.now, *id, None, &mut out);
            }
            Act::Close => {
                let mut events = Vec::new();
                self.layer.closed(self.hop, &mut out, &mut events);
                events.into_iter().for_each(|event| self.note(event));
            }
            Act::Pass(milliseconds) => self.pass(Duration::from_millis(*milliseconds)),
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(due) = self.layer.next_timeout().filter(|due| *due <= end) {
            assert!(due >= self.now, "a timer in the past");
            self.now = due;
            let mut events = Vec::new();
            self.layer.timeout(self.now, 64, &mut Vec::new(), &mut events);
            events.into_iter().for_each(|event| self.note(event));
            steps += 1;
            assert!(steps < 10_000, "the clock stands still");
        }
        self.now = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Once the TU has answered what it was asked and cancelled what it asked, time alone empties the table.
    #[test]
    fn whatever_happens_all_transactions_end(acts in prop::collection::vec(act(), 0..60), transport in transport()) {
        let mut world = World::new(transport);
        for act in &acts {
            world.act(act);
        }
        for which in 0..world.servers.len() {
            world.act(&Act::Respond(which, 500));
        }
        for which in 0..world.clients.len() {
            world.act(&Act::Cancel(which));
        }
        world.pass(Duration::from_secs(100));
        prop_assert_eq!((world.layer.len(), world.layer.next_timeout()), (0, None));
    }
}
