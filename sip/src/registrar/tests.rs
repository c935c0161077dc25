//! Tests of the registrar, each through digest as a phone would do it.

use super::*;
use crate::digest::Login;
use crate::message::{Message, read};
use zeroize::Zeroizing;

struct Users;

impl Directory for Users {
    fn account(&self, user: &str) -> Option<Account> {
        (user == "phone1").then(|| Account {
            id: "SEP1".into(),
            numbers: Arc::from([Arc::from("100"), Arc::from("101")]),
            password: Zeroizing::new("secret".to_owned()),
        })
    }

    fn trunk(&self, _: &Hop, _: u16) -> Option<Arc<str>> {
        None
    }
}

struct Bench {
    registrar: Registrar,
    authenticator: Authenticator,
    ids: Ids,
    now: Instant,
    hop: Hop,
    cseq: u32,
    events: Vec<Event>,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // the epoch of a virtual clock
    fn new() -> Self {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let limits = Limits { min_expires: seconds(60), max_expires: seconds(3600), max_contacts: 2 };
        let address = |text: &str| text.parse().unwrap();
        Self {
            registrar: Registrar::new(limits),
            authenticator: Authenticator::new("house".into(), [7; 32], now),
            ids: Ids::new([1; 32]),
            now,
            hop: Hop {
                transport: Transport::Udp,
                local: address("192.0.2.9:5060"),
                remote: address("192.0.2.1:40000"),
                connection: None,
            },
            cseq: 0,
            events: Vec::new(),
        }
    }

    fn request(&mut self, number: &str, headers: &str) -> Request {
        self.cseq += 1;
        let text = format!(
            "REGISTER sip:house SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:x@house>;tag=f\r\n\
             To: <sip:{number}@house>\r\nCall-ID: c\r\nCSeq: {} REGISTER\r\n{headers}\r\n",
            self.cseq
        );
        match read(text.as_bytes(), Transport::Udp) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn handle(&mut self, request: &Request) -> Response {
        let Self { registrar, authenticator, ids, now, hop, events, .. } = self;
        registrar.register(*now, hop, request, authenticator, &Users, ids, events)
    }

    fn register_as(&mut self, password: &str, number: &str, headers: &str) -> Response {
        let mut request = self.request(number, headers);
        let challenge = self.handle(&request);
        assert_eq!(challenge.status, 401);
        let login = Login { user: "phone1".to_owned(), password: Zeroizing::new(password.to_owned()) };
        assert!(login.answer(&challenge.headers, 401, &mut request, "c"));
        self.handle(&request)
    }

    fn register(&mut self, number: &str, headers: &str) -> Response {
        self.register_as("secret", number, headers)
    }

    /// The contact counts told since the last call.
    fn told(&mut self) -> Vec<usize> {
        let contacts = |event| match event {
            Event::Registration { contacts, .. } => contacts,
            other => panic!("{other:?}"),
        };
        self.events.drain(..).map(contacts).collect()
    }

    fn uris(&self, number: &str) -> Vec<&str> {
        self.registrar.contacts("SEP1", number).iter().map(|binding| binding.contact.as_str()).collect()
    }
}

fn contacts(response: &Response) -> Vec<&str> {
    response.headers.all("Contact").collect()
}

#[test]
fn a_contact_is_bound_renewed_fetched_and_expires() {
    let mut bench = Bench::new();
    let answer = bench.register("100", "Contact: <sip:100@192.0.2.1:5070>;expires=100\r\n");
    assert_eq!((answer.status, contacts(&answer)), (200, vec!["<sip:100@192.0.2.1:5070>;expires=100"]));
    assert_eq!(bench.told(), [1]);
    bench.now += Duration::from_secs(90);
    bench.register("100", "Contact: <sip:100@192.0.2.1:5070>\r\nExpires: 99999\r\n");
    assert_eq!(contacts(&bench.register("100", "")), ["<sip:100@192.0.2.1:5070>;expires=3600"]);
    bench.now += Duration::from_secs(3599);
    bench.registrar.timeout(bench.now, &mut bench.events);
    assert_eq!(bench.told(), [0; 0]);
    assert_eq!(bench.registrar.next_timeout(), Some(bench.now + Duration::from_secs(1)));
    bench.now += Duration::from_secs(1);
    bench.registrar.timeout(bench.now, &mut bench.events);
    assert_eq!((bench.told(), bench.registrar.len(), bench.registrar.next_timeout()), (vec![0], 0, None));
}

#[test]
fn several_contacts_come_best_first_and_have_a_limit() {
    let mut bench = Bench::new();
    let two = "Contact: <sip:a@198.51.100.1>;q=0.3, <sip:b@198.51.100.1>;q=0.75\r\n";
    let answer = bench.register("100", two);
    assert_eq!(contacts(&answer)[1], "<sip:b@198.51.100.1>;q=0.750;expires=3600");
    assert_eq!(bench.uris("100"), ["sip:b@198.51.100.1", "sip:a@198.51.100.1"]);
    assert_eq!(bench.register("100", "Contact: <sip:c@198.51.100.1>\r\n").status, 403);
    assert_eq!(bench.register("101", "Contact: <sip:c@198.51.100.1>\r\n").status, 200);
    assert_eq!(bench.uris("101"), ["sip:c@198.51.100.1"]);
    assert_eq!(bench.uris("phone1").len(), 3, "a number without contacts rings all of the account");
    let swap = "Contact: <sip:a@198.51.100.1>;expires=0, <sip:d@198.51.100.1>\r\n";
    assert_eq!(bench.register("100", swap).status, 200);
    assert_eq!(bench.uris("100"), ["sip:d@198.51.100.1", "sip:b@198.51.100.1"]);
    assert_eq!(bench.told(), [2, 3]);
}

#[test]
fn star_removes_all_of_one_number_and_must_stand_alone() {
    let mut bench = Bench::new();
    bench.register("100", "Contact: <sip:a@198.51.100.1>, <sip:b@198.51.100.1>\r\n");
    bench.register("101", "Contact: <sip:c@198.51.100.1>\r\n");
    for wrong in
        ["Contact: *\r\n", "Contact: *\r\nExpires: 60\r\n", "Contact: *, <sip:a@h>\r\nExpires: 0\r\n"]
    {
        assert_eq!(bench.register("100", wrong).status, 400, "{wrong}");
    }
    assert_eq!(contacts(&bench.register("100", "Contact: *\r\nExpires: 0\r\n")), [""; 0]);
    assert_eq!(bench.told(), [2, 3, 1]);
}

#[test]
fn too_short_is_refused_and_nothing_of_the_request_is_done() {
    let mut bench = Bench::new();
    let answer = bench.register("100", "Contact: <sip:a@h.example>, <sip:b@h.example>;expires=59\r\n");
    assert_eq!((answer.status, answer.headers.get("Min-Expires")), (423, Some("60")));
    assert!(bench.registrar.is_empty());
    assert_eq!(bench.register("100", "Contact: <tel:5>\r\n").status, 400);
}

#[test]
fn what_comes_out_of_order_changes_nothing() {
    let mut bench = Bench::new();
    bench.register("100", "Contact: <sip:a@198.51.100.1>\r\n");
    bench.cseq -= 1;
    assert_eq!(bench.register("100", "Contact: <sip:a@198.51.100.1>;expires=0\r\n").status, 500);
    bench.cseq -= 1;
    assert_eq!(bench.register("100", "Contact: *\r\nExpires: 0\r\n").status, 500);
    assert_eq!(bench.registrar.len(), 1);
}

#[test]
fn wrong_password_and_foreign_numbers_say_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.register_as("guess", "100", "Contact: <sip:a@h.example>\r\n").status, 401);
    let foreign = bench.register("200", "Contact: <sip:a@h.example>\r\n");
    let absent = bench.register("nobody", "Contact: <sip:a@h.example>\r\n");
    assert_eq!((foreign.status, absent.status), (403, 403));
    assert_eq!(bench.register("phone1", "Contact: <sip:a@h.example>\r\n").status, 200);
}

#[test]
fn the_way_back_is_the_way_it_came() {
    let mut bench = Bench::new();
    bench.register("100", "Contact: <sip:a@10.0.0.5:5060>\r\n");
    let remote = |bench: &Bench| bench.registrar.contacts("SEP1", "100")[0].hop.remote.to_string();
    assert_eq!(remote(&bench), "192.0.2.1:40000", "behind a NAT");
    bench.register("100", "Contact: <sip:a@10.0.0.5:5060>;expires=0, <sip:a@192.0.2.1:5070>\r\n");
    assert_eq!(remote(&bench), "192.0.2.1:5070", "no NAT");
}

#[test]
fn a_lost_connection_takes_its_contacts_with_it() {
    let mut bench = Bench::new();
    bench.register("100", "Contact: <sip:a@198.51.100.1>\r\n");
    bench.hop.transport = Transport::Tls;
    bench.hop.connection = Some(ConnectionId(7));
    bench.register("101", "Contact: <sip:b@198.51.100.1>\r\n");
    assert!(bench.registrar.is_registered_from("SEP1", &bench.hop));
    bench.registrar.closed(ConnectionId(8), &mut bench.events);
    bench.registrar.closed(ConnectionId(7), &mut bench.events);
    assert_eq!(bench.told(), [1, 2, 1]);
    bench.registrar.forget("SEP1", &mut bench.events);
    assert_eq!((bench.told(), bench.registrar.timers.len()), (vec![0], 0));
}

#[test]
fn a_phone_that_started_again_replaces_its_contact() {
    let mut bench = Bench::new();
    for port in [5070, 5071, 5072] {
        let contact =
            format!("Contact: <sip:a@192.0.2.1:{port}>;+sip.instance=\"<urn:uuid:1>\";reg-id=1\r\n");
        assert_eq!(bench.register("100", &contact).status, 200);
    }
    assert_eq!(bench.uris("100"), ["sip:a@192.0.2.1:5072"]);
}

#[test]
fn a_flood_without_credentials_leaves_nothing() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        let request = bench.request("100", "Contact: <sip:a@h.example>\r\nAuthorization: Digest x\r\n");
        assert_eq!(bench.handle(&request).status, 401);
    }
    assert_eq!((bench.registrar.len(), bench.authenticator.remembered(), bench.events.len()), (0, 0, 0));
}
