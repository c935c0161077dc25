//! A stack between scripted peers, under virtual time: flows read like those of RFC 3665.

use sip::message::{self, Message, Method, Request, Response};
use sip::port::{
    Account, Attempt, Audio, BindingRecord, Command, Config, ConnectionId, Destination, Directory, Event,
    Hop, Identity, Input, InviteHandle, KnownTrunk, MediaDirection, MediaEncryption, Output, Package,
    PayloadFormat, Profile, Proof, Refusal, Refused, Sdp, SecureMediaRefusal, Transport, Waiting, Watched,
    WatchedState,
};
use sip::stack::Stack;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

pub const NODE: &str = "198.51.100.1:5060";
pub const CALL: InviteHandle = InviteHandle(7);

pub const OFFER: &str = "v=0\r\no=- 5 1 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
pub const ANSWER: &str = "v=0\r\no=- 6 1 IN IP4 203.0.113.2\r\ns=-\r\nc=IN IP4 203.0.113.2\r\nt=0 0\r\n\
m=audio 5000 RTP/AVP 0\r\na=sendrecv\r\n";
pub const HOLD: &str = "v=0\r\no=- 5 2 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n";

/// Trunks are whoever lives in 203.0.113.0/24; accounts are what a test adds.
#[derive(Default)]
pub struct Book {
    pub accounts: HashMap<String, Account>,
    pub busy: Option<u32>,
    /// Who we are at every peer.
    pub login: Option<sip::Login>,
    /// Accounts that are trunks.
    pub digest_trunks: Vec<String>,
    /// Digest users whose passwords are not looked at now.
    pub put_off: Vec<String>,
    /// Numbers whose message lamp is on.
    pub lamps: Vec<String>,
    /// Numbers that nobody may watch any more.
    pub hidden: Vec<String>,
    /// Whether media are encrypted, of whomever.
    pub encryption: MediaEncryption,
}

impl Directory for Book {
    fn account(&self, user: &str) -> Option<Account> {
        self.accounts.get(user).cloned()
    }
    fn trunk(&self, hop: &Hop) -> Option<KnownTrunk> {
        let here = hop.remote.ip().to_string().starts_with("203.0.113.");
        here.then(|| KnownTrunk { name: "T".into(), by: Proof::AddressAndPort })
    }
    fn login(&self, _hop: &Hop) -> Option<sip::Login> {
        self.login.clone()
    }
    fn is_trunk(&self, account: &str) -> bool {
        self.digest_trunks.iter().any(|trunk| trunk == account)
    }
    fn may_prove(&self, _now: Instant, user: &str, _hop: &Hop) -> bool {
        !self.put_off.iter().any(|name| name == user)
    }
    fn admit(&self) -> Result<(), u32> {
        self.busy.map_or(Ok(()), Err)
    }
    fn media_encryption(&self, _peer: &str) -> MediaEncryption {
        self.encryption
    }
    /// An account watches its own numbers.
    fn watched(&self, account: &str, package: Package, user: &str) -> Option<Watched> {
        let Package::MessageSummary = package;
        let own = self.accounts.values().filter(|own| *own.id == *account).flat_map(|own| own.numbers.iter());
        let number = own.into_iter().find(|number| ***number == *user)?.clone();
        let waiting = if self.lamps.iter().any(|on| *on == *number) { Waiting::Yes } else { Waiting::No };
        let hidden = self.hidden.iter().any(|hidden| *hidden == *number);
        (!hidden).then_some(Watched { number, state: WatchedState::Messages(waiting) })
    }
}

pub struct World {
    pub stack: Stack,
    pub book: Book,
    pub now: Instant,
    /// What peers have received and not looked at.
    pub inboxes: HashMap<SocketAddr, VecDeque<Message>>,
    pub events: VecDeque<Event>,
    /// Who has shown who he is, or tried.
    pub proofs: Vec<Attempt>,
    /// Whose media had to be encrypted and could not be, and why.
    pub insecure: Vec<(std::sync::Arc<str>, SecureMediaRefusal)>,
    /// Sends to these vanish.
    pub unreachable: Vec<SocketAddr>,
    /// Connections that the stack wants.
    pub connects: Vec<Hop>,
    /// What is to be kept of registrations.
    pub kept: Vec<BindingRecord>,
    /// Ways of the requests that it sent.
    pub ways: Vec<Hop>,
    /// What was said of refused requests.
    pub refused: Vec<Refused>,
}

pub fn config() -> Config {
    let at: SocketAddr = NODE.parse().unwrap();
    Config {
        realm: "lab".into(),
        product: "test".into(),
        advertised: [].into(),
        listen: vec![
            (Transport::Udp, at),
            (Transport::Tcp, at),
            (Transport::Tls, SocketAddr::new(at.ip(), 5061)),
        ],
        session_expires: Duration::from_secs(1800),
        min_session_expires: Duration::from_secs(90),
        min_expires: Duration::from_secs(60),
        max_expires: Duration::from_secs(3600),
        max_contacts: 10,
        max_transactions: 1000,
        max_bytes_per_address: 1 << 20,
        max_calls: 100,
        max_dialog_requests_per_second: 30,
        max_subscriptions: 100,
        max_subscriptions_per_account: 4,
        t1: Duration::from_millis(500),
    }
}

impl World {
    pub fn new() -> World {
        World::with(config())
    }

    /// With an account `phone` of the numbers 2001 and 2002.
    pub fn with_account() -> World {
        World::with_account_and(config())
    }

    pub fn with_account_and(config: Config) -> World {
        let mut world = World::with(config);
        let account = Account {
            id: "phone".into(),
            numbers: ["2001".into(), "2002".into()].into(),
            password: Zeroizing::new("secret".into()),
            max_expires: None,
        };
        world.book.accounts.insert("2001".into(), account);
        world
    }

    #[allow(clippy::disallowed_methods)] // the origin of virtual time; nothing is measured
    pub fn with(config: Config) -> World {
        World {
            stack: Stack::new(config, [7; 32]),
            book: Book::default(),
            now: Instant::now(),
            inboxes: HashMap::new(),
            events: VecDeque::new(),
            proofs: Vec::new(),
            insecure: Vec::new(),
            unreachable: Vec::new(),
            connects: Vec::new(),
            kept: Vec::new(),
            ways: Vec::new(),
            refused: Vec::new(),
        }
    }

    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.stack.handle(self.now, input, &self.book, &mut out);
        for output in out {
            match output {
                Output::Send { hop, bytes } => {
                    let message = message::read(&bytes, hop.transport).expect("we write what we can read");
                    if matches!(message, Message::Request(_)) {
                        self.ways.push(hop);
                    }
                    if !self.unreachable.contains(&hop.remote) {
                        self.inboxes.entry(hop.remote).or_default().push_back(message);
                    }
                }
                Output::Connect(hop) => self.connects.push(hop),
                Output::Keep(record) => self.kept.push(record),
                Output::SecureMediaRefused { peer, reason } => self.insecure.push((peer, reason)),
                Output::Close(_) => {}
                Output::Refused(refused) => self.refused.push(refused),
                Output::Attempt(attempt) => self.proofs.push(attempt),
                Output::Event(event) => self.events.push_back(event),
            }
        }
    }

    pub fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.stack.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    pub fn event(&mut self) -> Event {
        self.events.pop_front().expect("an event")
    }

    pub fn no_event(&self) {
        assert!(self.events.is_empty(), "{:?}", self.events);
    }

    /// Nothing of any call is left once every transaction has had its time.
    pub fn all_quiet(&mut self) {
        self.no_event();
        self.seconds(200);
        self.no_event();
        assert!(self.stack.is_quiet(), "{:#?}", self.stack);
    }

    pub fn invite(&mut self, ua: &Ua, offer: Option<Sdp>) {
        let to = Destination::Peer {
            trunk: "T".into(),
            transport: ua.hop.transport,
            remote: ua.hop.remote,
            user: "5000".into(),
            host: "peer.example".into(),
        };
        self.invite_to(to, offer);
    }

    pub fn invite_to(&mut self, to: Destination, offer: Option<Sdp>) {
        let party = |number: &str| Identity { number: number.into(), name: None, restricted: false };
        self.command(Command::Invite {
            call: CALL,
            to,
            from: party("2001"),
            called: party("5000"),
            diverted: None,
            offer,
            media_encryption: self.book.encryption,
            max_forwards: 69,
            hops: 0,
        });
    }
}

pub fn local() -> Sdp {
    Sdp::Local(Audio {
        line: 0,
        profile: Profile::Plain,
        address: "192.0.2.9:4000".parse().unwrap(),
        formats: vec![PayloadFormat { payload_type: 0, name: "PCMU".into(), clock_rate: 8000, channels: 1 }],
        dtmf_payload_type: None,
        direction: MediaDirection::SendReceive,
        packet_ms: 20,
        crypto: Vec::new(),
    })
}

pub fn relay(text: &str) -> Sdp {
    Sdp::Relay(text.as_bytes().into(), None)
}

pub fn refusal(status: u16, cause: u16) -> Refusal {
    Refusal { status, cause, retry_after: None }
}

/// A scripted peer: one call's worth of SIP, written by hand.
pub struct Ua {
    pub hop: Hop,
    pub call_id: String,
    pub local_tag: String,
    /// The stack's tag, once heard.
    pub remote_tag: Option<String>,
    pub cseq: u32,
    pub contact: String,
    pub to: String,
    /// User of its Request-URIs.
    pub user: &'static str,
    /// What its Via says of symmetric responses.
    pub rport: &'static str,
    branch: u32,
    invite_branch: u32,
    pub invite_cseq: u32,
}

impl Ua {
    pub fn new(address: &str) -> Ua {
        Ua::over(Transport::Udp, address, None)
    }

    pub fn over(transport: Transport, address: &str, connection: Option<u64>) -> Ua {
        let remote: SocketAddr = address.parse().unwrap();
        // The stack sees the peer's address as `remote`.
        let hop =
            Hop { transport, local: NODE.parse().unwrap(), remote, connection: connection.map(ConnectionId) };
        Ua {
            hop,
            call_id: format!("call-{address}"),
            local_tag: "peer".into(),
            remote_tag: None,
            cseq: 0,
            contact: format!("<sip:5000@{address}>"),
            to: "sip:5000@node".into(),
            user: "5000",
            rport: ";rport",
            branch: 0,
            invite_branch: 0,
            invite_cseq: 0,
        }
    }

    pub fn send(&self, world: &mut World, text: String) {
        world.input(Input::Received { hop: self.hop, bytes: text.into_bytes() });
    }

    fn via(&self, branch: u32) -> String {
        let transport = match self.hop.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        format!(
            "Via: SIP/2.0/{transport} {};branch=z9hG4bK{branch}{}{}\r\n",
            self.hop.remote, self.call_id, self.rport
        )
    }

    /// A request outside or inside the dialog. `headers` are whole lines without their ends.
    pub fn request(&mut self, world: &mut World, method: &str, headers: &[&str], body: &str) {
        self.branch += 1;
        match method {
            "ACK" => self.request_as(world, method, self.branch, self.invite_cseq, headers, body),
            "CANCEL" => {
                let tag = self.remote_tag.take();
                self.request_as(world, method, self.invite_branch, self.invite_cseq, headers, body);
                self.remote_tag = tag;
            }
            _ => {
                self.cseq += 1;
                if method == "INVITE" {
                    (self.invite_branch, self.invite_cseq) = (self.branch, self.cseq);
                }
                self.request_as(world, method, self.branch, self.cseq, headers, body);
            }
        }
    }

    /// Registers number 2001 as account `phone`, by digest.
    pub fn registers(&mut self, world: &mut World) {
        self.signed(world, "REGISTER", &[], "");
        self.expect(world, 200);
        self.remote_tag = None;
    }

    /// A request with the right password, after its challenge.
    pub fn signed(&mut self, world: &mut World, method: &str, headers: &[&str], body: &str) {
        self.remote_tag = None;
        self.signed_as(world, "2001", method, headers, body);
    }

    /// The same as this digest user, within the dialog if there is one.
    pub fn signed_as(&mut self, world: &mut World, user: &str, method: &str, headers: &[&str], body: &str) {
        self.signed_with(world, method, (user, "secret"), headers, body);
    }

    /// The same as anybody, with any password.
    pub fn signed_with(
        &mut self,
        world: &mut World,
        method: &str,
        login: (&str, &str),
        headers: &[&str],
        body: &str,
    ) {
        let authorization = self.authorization(world, method, login.0, login.1);
        let mut headers = headers.to_vec();
        headers.push(&authorization);
        self.request(world, method, &headers, body);
    }

    /// The header that answers a fresh challenge for its Request-URI, within the dialog if there is one.
    pub fn authorization(&mut self, world: &mut World, method: &str, user: &str, password: &str) -> String {
        let tag = self.remote_tag.clone();
        self.request(world, method, &[], "");
        let challenge = self.expect(world, 401);
        if method == "INVITE" {
            self.acknowledge_refusal(world);
        }
        self.remote_tag = tag;
        self.answer_to(&challenge, method, user, password)
    }

    /// The header that answers this challenge.
    pub fn answer_to(&self, challenge: &Response, method: &str, user: &str, password: &str) -> String {
        let uri = sip::message::Uri::read(&format!("sip:{}@{NODE}", self.user)).unwrap();
        let mut signed = Request::new(Method::read(method).unwrap(), uri);
        let login = sip::port::Login { user: user.into(), password: Zeroizing::new(password.into()) };
        assert!(login.answer(&challenge.headers, 401, &mut signed, "c"));
        format!("Authorization: {}", signed.headers.get("Authorization").unwrap())
    }

    /// The last request outside a dialog once more, byte for byte.
    pub fn repeat(&mut self, world: &mut World, method: &str, headers: &[&str]) {
        self.request_as(world, method, self.branch, self.cseq, headers, "");
    }

    /// The next message is a response.
    pub fn answer(&mut self, world: &mut World) -> Response {
        match self.next(world) {
            Message::Response(response) => response,
            Message::Request(request) => panic!("a request: {request:?}"),
        }
    }

    /// The ACK of a refused INVITE: it has the INVITE's branch.
    pub fn acknowledge_refusal(&mut self, world: &mut World) {
        self.request_as(world, "ACK", self.invite_branch, self.invite_cseq, &[], "");
    }

    /// The text of an INVITE, to be changed and sent.
    pub fn text(&mut self, headers: &[&str], body: &str) -> String {
        self.branch += 1;
        self.cseq += 1;
        (self.invite_branch, self.invite_cseq) = (self.branch, self.cseq);
        self.written("INVITE", self.branch, self.cseq, headers, body)
    }

    fn request_as(
        &self,
        world: &mut World,
        method: &str,
        branch: u32,
        cseq: u32,
        headers: &[&str],
        body: &str,
    ) {
        let text = self.written(method, branch, cseq, headers, body);
        self.send(world, text);
    }

    fn written(&self, method: &str, branch: u32, cseq: u32, headers: &[&str], body: &str) -> String {
        let to = self.remote_tag.as_ref().map_or(String::new(), |t| format!(";tag={t}"));
        let mut text = format!("{method} sip:{}@{NODE} SIP/2.0\r\n{}", self.user, self.via(branch));
        text += &format!(
            "From: \"Peer\" <sip:2001@example.org>;tag={}\r\nTo: <{}>{to}\r\n",
            self.local_tag, self.to
        );
        text +=
            &format!("Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: {}\r\n", self.call_id, self.contact);
        if !headers.iter().any(|h| h.starts_with("Max-Forwards")) {
            text += "Max-Forwards: 70\r\n";
        }
        for header in headers {
            text += header;
            text += "\r\n";
        }
        if !body.is_empty() && !headers.iter().any(|h| h.starts_with("Content-Type")) {
            text += "Content-Type: application/sdp\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        text
    }

    /// Answers a request of the stack.
    pub fn reply(&mut self, world: &mut World, request: &Request, status: u16, headers: &[&str], body: &str) {
        let tag = self.local_tag.clone();
        self.reply_as(world, request, &tag, status, headers, body);
    }

    pub fn reply_as(
        &mut self,
        world: &mut World,
        request: &Request,
        tag: &str,
        status: u16,
        headers: &[&str],
        body: &str,
    ) {
        let mut response = Response::to(request, status, Some(tag));
        if status > 100 {
            response.headers.push("Contact", self.contact.as_str());
        }
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            response.headers.push(name, value);
        }
        if !body.is_empty() {
            response = response.with_body("application/sdp", body.as_bytes().to_vec());
        }
        world.input(Input::Received { hop: self.hop, bytes: response.write() });
    }

    fn next(&self, world: &mut World) -> Message {
        let inbox = world.inboxes.entry(self.hop.remote).or_default();
        inbox
            .pop_front()
            .unwrap_or_else(|| panic!("{} got nothing; events {:?}", self.hop.remote, world.events))
    }

    /// The next message is this response.
    pub fn expect(&mut self, world: &mut World, status: u16) -> Response {
        match self.next(world) {
            Message::Response(response) => {
                assert_eq!(response.status, status, "{}", String::from_utf8_lossy(&response.write()));
                if let Some(tag) = response.headers.to_tag().filter(|_| status > 100) {
                    self.remote_tag = Some(tag.to_owned());
                }
                response
            }
            Message::Request(request) => {
                panic!("not {status} but {}", String::from_utf8_lossy(&request.write()))
            }
        }
    }

    /// The next message is this request.
    pub fn take(&mut self, world: &mut World, method: Method) -> Request {
        match self.next(world) {
            Message::Request(request) => {
                assert_eq!(request.method, method, "{}", String::from_utf8_lossy(&request.write()));
                if method == Method::Invite {
                    self.call_id = request.headers.call_id().to_owned();
                    self.remote_tag = request.headers.from_tag().map(Into::into);
                }
                request
            }
            Message::Response(response) => {
                panic!("not {method} but {}", String::from_utf8_lossy(&response.write()))
            }
        }
    }

    pub fn nothing(&self, world: &World) {
        let got = world.inboxes.get(&self.hop.remote).and_then(|i| i.front());
        assert!(got.is_none(), "{}", String::from_utf8_lossy(&got.map(Message::write).unwrap_or_default()));
    }

    pub fn forget(&self, world: &mut World) {
        world.inboxes.remove(&self.hop.remote);
    }

    /// Calls and is answered: in the end the ACK is sent. The stack's handle.
    pub fn established(&mut self, world: &mut World) -> InviteHandle {
        self.request(world, "INVITE", &["Allow: INVITE, UPDATE, BYE"], OFFER);
        self.expect(world, 100);
        let call = match world.event() {
            Event::Incoming { call, .. } => call,
            other => panic!("{other:?}"),
        };
        world.command(Command::Accept(call, relay(ANSWER)));
        self.expect(world, 200);
        self.request(world, "ACK", &[], "");
        world.no_event();
        call
    }

    /// Is called and answers. Its Allow has no UPDATE unless a header says so.
    pub fn answered(&mut self, world: &mut World, headers: &[&str]) -> InviteHandle {
        world.invite(self, Some(relay(OFFER)));
        let invite = self.take(world, Method::Invite);
        self.reply(world, &invite, 200, headers, ANSWER);
        self.take(world, Method::Ack);
        match world.event() {
            Event::Answered(CALL, Some(_)) => CALL,
            other => panic!("{other:?}"),
        }
    }

    pub fn hangs_up(&mut self, world: &mut World) {
        self.request(world, "BYE", &[], "");
        self.expect(world, 200);
        match world.event() {
            Event::Ended { cause: 16, .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

pub fn body(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
