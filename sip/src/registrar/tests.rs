//! Tests of the registrar, each through digest as a phone would do it.

use super::*;
use crate::digest::{Ask, Authenticator, Verdict};
use crate::message::{Message, read};
use crate::port::Directory;
use crate::port::Login;
use zeroize::Zeroizing;

struct Users;

impl Directory for Users {
    fn account(&self, user: &str) -> Option<Account> {
        ["phone1", "patient"].contains(&user).then(|| Account {
            id: if user == "phone1" { "SEP1" } else { "SEP2" }.into(),
            numbers: Arc::from([Arc::from("100"), Arc::from("101")]),
            password: Zeroizing::new("secret".to_owned()),
            max_expires: (user == "patient").then_some(Duration::from_secs(86_400)),
        })
    }

    fn trunk(&self, _: &Hop) -> Option<crate::port::KnownTrunk> {
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
    /// sent-by of its Via, with parameters.
    via: String,
    call_id: String,
    user: &'static str,
    newcomers: Vec<Newcomer>,
    out: Vec<Output>,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // the epoch of a virtual clock
    fn new() -> Self {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let limits = Limits { min_expires: seconds(60), max_expires: seconds(3600), max_contacts: 2 };
        let address = |text: &str| text.parse().unwrap();
        let listen = [Transport::Udp, Transport::Tcp, Transport::Tls].map(|t| (t, address("192.0.2.9:5060")));
        Self {
            registrar: Registrar::new(limits, listen.into()),
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
            via: "h".into(),
            call_id: "c".into(),
            user: "phone1",
            newcomers: Vec::new(),
            out: Vec::new(),
        }
    }

    fn request(&mut self, number: &str, headers: &str) -> Request {
        self.cseq += 1;
        let Self { cseq, via, call_id, .. } = self;
        let text = format!(
            "REGISTER sip:house SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK1\r\nFrom: <sip:x@house>;tag=f\r\n\
             To: <sip:{number}@house>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{headers}\r\n"
        );
        match read(text.as_bytes(), Transport::Udp) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn handle(&mut self, request: &Request) -> Response {
        let Self { registrar, authenticator, ids, now, hop, out, .. } = self;
        match authenticator.check(*now, request, hop, &Users) {
            Verdict::Accepted { user, account } => {
                let (response, newcomers) = registrar.register(*now, hop, request, &user, &account, ids, out);
                self.newcomers.extend(newcomers);
                response
            }
            _ => authenticator.challenge(*now, ids, request, hop, Ask::Password),
        }
    }

    fn register_as(&mut self, password: &str, number: &str, headers: &str) -> Response {
        let mut request = self.request(number, headers);
        let challenge = self.handle(&request);
        assert_eq!(challenge.status, 401);
        let login = Login { user: self.user.to_owned(), password: Zeroizing::new(password.to_owned()) };
        assert!(login.answer(&challenge.headers, 401, &mut request, "c"));
        self.handle(&request)
    }

    fn register(&mut self, number: &str, headers: &str) -> Response {
        self.register_as("secret", number, headers)
    }

    /// The contact counts told since the last call.
    fn told(&mut self) -> Vec<usize> {
        let contacts = |output| match output {
            Output::Event(Event::Registration { contacts, .. }) => Some(contacts),
            Output::Keep(_) | Output::Connect(_) | Output::SecureMediaRefused { .. } => None,
            other => panic!("{other:?}"),
        };
        self.out.drain(..).filter_map(contacts).collect()
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
    bench.registrar.observe(bench.now, &mut bench.out);
    assert_eq!(bench.told(), [0; 0]);
    assert_eq!(bench.registrar.next_timeout(), Some(bench.now + Duration::from_secs(1)));
    bench.now += Duration::from_secs(1);
    bench.registrar.observe(bench.now, &mut bench.out);
    assert_eq!((bench.told(), bench.registrar.len(), bench.registrar.next_timeout()), (vec![0], 0, None));
}

#[test]
fn several_contacts_come_best_first_and_have_a_limit() {
    let mut bench = Bench::new();
    let two = "Contact: <sip:a@198.51.100.1>;q=0.3, <sip:b@198.51.100.1>;q=0.75\r\n";
    let answer = bench.register("100", two);
    assert_eq!(contacts(&answer)[1], "<sip:b@198.51.100.1>;q=0.750;expires=3600");
    assert_eq!(bench.uris("100"), ["sip:b@198.51.100.1", "sip:a@198.51.100.1"]);
    assert_eq!(bench.register("101", "Contact: <sip:c@198.51.100.1>\r\n").status, 200);
    assert_eq!(bench.uris("101"), ["sip:c@198.51.100.1"]);
    assert_eq!(bench.uris("phone1").len(), 3, "a number without contacts rings all of the account");
    let swap = "Contact: <sip:a@198.51.100.1>;expires=0, <sip:d@198.51.100.1>\r\n";
    assert_eq!(bench.register("100", swap).status, 200);
    assert_eq!(bench.uris("100"), ["sip:d@198.51.100.1", "sip:b@198.51.100.1"]);
    bench.register("100", "Contact: <sip:b@198.51.100.1>\r\n");
    assert_eq!(bench.register("100", "Contact: <sip:e@198.51.100.1>\r\n").status, 200);
    let left = ["sip:e@198.51.100.1", "sip:b@198.51.100.1"];
    assert_eq!(bench.uris("100"), left, "who was silent for the longest time gives way");
    let three = "Contact: <sip:x@h.example>, <sip:y@h.example>, <sip:z@h.example>\r\n";
    assert_eq!(bench.register("100", three).status, 403, "not at once");
    assert_eq!(bench.uris("100"), left);
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

/// Each time it comes back from another port, with another Call-ID and no instance.
#[test]
fn a_phone_that_reboots_behind_nat_is_never_locked_out() {
    let mut bench = Bench::new();
    for life in 0..12 {
        bench.call_id = format!("life-{life}");
        bench.hop.remote.set_port(40_000 + life);
        let contact = format!("Contact: <sip:a@10.0.0.5:{}>\r\n", 5070 + life);
        assert_eq!(bench.register("100", &contact).status, 200, "{life}");
    }
    assert_eq!(bench.uris("100"), ["sip:a@10.0.0.5:5081", "sip:a@10.0.0.5:5080"]);
    assert_eq!((bench.told(), bench.registrar.timers.len()), (vec![1, 2], 2));
    // A limit that was lowered takes nothing away from who only renews.
    bench.registrar.set_limits(Limits { max_contacts: 1, ..bench.registrar.limits });
    bench.register("100", "Contact: <sip:a@10.0.0.5:5081>\r\n");
    assert_eq!(bench.registrar.len(), 2);
    bench.register("100", "Contact: <sip:new@10.0.0.5>\r\n");
    assert_eq!(bench.uris("100"), ["sip:new@10.0.0.5"]);
}

#[test]
fn a_contact_that_is_named_twice_is_one() {
    let mut bench = Bench::new();
    let twice = "Contact: <sip:a@192.0.2.1>;expires=90, <sip:A@192.0.2.1>, <sip:a@192.0.2.1>;expires=70\r\n";
    let answer = bench.register("100", twice);
    assert_eq!(contacts(&answer), ["<sip:A@192.0.2.1>;expires=3600", "<sip:a@192.0.2.1>;expires=70"]);
    let gone = "Contact: <sip:a@192.0.2.1>;expires=90, <sip:a@192.0.2.1>;expires=0\r\n";
    assert_eq!(contacts(&bench.register("100", gone)), ["<sip:A@192.0.2.1>;expires=3600"]);
    let phone = ";+sip.instance=\"<urn:uuid:1>\"";
    let moved = format!("Contact: <sip:A@192.0.2.1>{phone}, <sip:A@192.0.2.1:5080>{phone}\r\n");
    assert_eq!(contacts(&bench.register("100", &moved)), ["<sip:A@192.0.2.1:5080>;expires=3600"]);
    // One contact may stand for two of before: the URI of one, the instance of the other.
    bench.register("100", "Contact: <sip:b@192.0.2.1>\r\n");
    let both = format!("Contact: <sip:b@192.0.2.1>{phone}\r\n");
    assert_eq!(contacts(&bench.register("100", &both)), ["<sip:b@192.0.2.1>;expires=3600"]);
}

#[test]
fn an_account_may_have_a_longest_registration_of_its_own() {
    let mut bench = Bench::new();
    bench.user = "patient";
    assert_eq!(contacts(&bench.register("100", "Contact: <sip:a@h>\r\n")), ["<sip:a@h>;expires=86400"]);
    bench.register("100", "Contact: <sip:a@h>\r\nExpires: 100000\r\n");
    bench.user = "phone1";
    bench.registrar.set_limits(Limits { max_expires: Duration::from_secs(61), ..bench.registrar.limits });
    for asked in ["", "Expires: 62\r\n", "Expires: 4294967295\r\n"] {
        let answer = bench.register("101", &format!("Contact: <sip:a@h>\r\n{asked}"));
        assert_eq!(contacts(&answer), ["<sip:a@h>;expires=61"], "{asked}");
    }
    assert_eq!(
        contacts(&bench.register("101", "Contact: <sip:a@h>;expires=60\r\n")),
        ["<sip:a@h>;expires=60"]
    );
}

fn over(bench: &mut Bench, transport: Transport, connection: u64) {
    bench.hop.transport = transport;
    bench.hop.connection = Some(ConnectionId(connection));
}

fn way(bench: &Bench, number: &str) -> Option<(Transport, String, bool)> {
    let contacts = bench.registrar.contacts("SEP1", number);
    let hop = contacts.first()?.hop;
    Some((hop.transport, hop.remote.to_string(), hop.connection.is_some()))
}

#[test]
fn rport_and_nat_lead_back_to_the_source() {
    let mut bench = Bench::new();
    let source = "192.0.2.1:40000";
    for (via, contact, expected) in [
        ("192.0.2.1:5070;rport=40000", "sip:a@192.0.2.1:5070", source),
        ("192.0.2.1:5070;rport=40000", "sip:a@192.0.2.1", source),
        ("192.0.2.1:40000;rport=40000", "sip:a@192.0.2.1:40000", source),
        ("192.0.2.1:5070", "sip:a@192.0.2.1:5070", "192.0.2.1:5070"),
        ("192.0.2.1:5070", "sip:a@192.0.2.1", "192.0.2.1:5060"),
        // It wrote its public address into the Contact, but its port is the NAT's.
        ("10.0.0.5:5070;received=192.0.2.1", "sip:a@192.0.2.1:5070", source),
        ("10.0.0.5:5070", "sip:a@10.0.0.5:5070", source),
        ("192.0.2.1:5070", "sip:a@phone.example:5070", source),
        ("192.0.2.1:5070", "sip:a@192.0.2.1:5070;ob", source),
    ] {
        bench.via = via.into();
        assert_eq!(bench.register("100", &format!("Contact: <{contact}>\r\n")).status, 200);
        assert_eq!(way(&bench, "100"), Some((Transport::Udp, expected.to_owned(), false)), "{via} {contact}");
        bench.register("100", "Contact: *\r\nExpires: 0\r\n");
    }
}

#[test]
fn who_can_be_dialled_outlives_its_connection() {
    use Transport::{Tcp, Tls};
    let instance = ";+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    for (transport, contact, more, afterwards) in [
        (Tcp, "sip:a@192.0.2.1:5070;transport=tcp", "", Some((Tcp, "192.0.2.1:5070"))),
        (Tcp, "sip:a@192.0.2.1;transport=tcp", "", Some((Tcp, "192.0.2.1:5060"))),
        (Tcp, "sip:a@192.0.2.1:5070", "", Some((Tcp, "192.0.2.1:5070"))),
        (Tls, "sip:a@192.0.2.1:5071;transport=tls", "", Some((Tls, "192.0.2.1:5071"))),
        (Tls, "sips:a@192.0.2.1;transport=tcp", "", Some((Tls, "192.0.2.1:5061"))),
        (Tls, "sip:a@192.0.2.1", "", Some((Tls, "192.0.2.1:5061"))),
        // Not in the clear.
        (Tls, "sip:a@192.0.2.1:5070;transport=tcp", "", None),
        // A NAT, a name, a flow.
        (Tcp, "sip:a@10.0.0.5:5070;transport=tcp", "", None),
        (Tcp, "sip:a@phone.example;transport=tcp", "", None),
        (Tcp, "sip:a@192.0.2.1:5070;transport=tcp;ob", "", None),
        (Tcp, "sip:a@192.0.2.1:5070;transport=tcp", "Supported: path, outbound\r\n", None),
        // The phone behind a proxy: its Contact doesn't matter.
        (
            Tcp,
            "sip:a@10.0.0.5",
            "Path: <sip:192.0.2.1:5080;transport=tcp;lr>\r\n",
            Some((Tcp, "192.0.2.1:5080")),
        ),
        (Tcp, "sip:a@10.0.0.5;ob", "Path: <sip:edge@192.0.2.1;lr>\r\n", Some((Tcp, "192.0.2.1:5060"))),
        (Tcp, "sip:a@10.0.0.5", "Path: <sip:198.51.100.9;transport=tcp;lr>\r\n", None),
        (Tcp, "sip:a@10.0.0.5", "Path: <sip:edge.example;transport=tcp;lr>\r\n", None),
    ] {
        let mut bench = Bench::new();
        over(&mut bench, transport, 7);
        bench.register("100", &format!("Contact: <{contact}>{instance}\r\n{more}"));
        assert_eq!(way(&bench, "100"), Some((transport, "192.0.2.1:40000".into(), true)), "{contact} {more}");
        bench.told();
        bench.registrar.closed(ConnectionId(7), &mut bench.out);
        let afterwards = afterwards.map(|(transport, at)| (transport, at.to_owned(), false));
        assert_eq!(way(&bench, "100"), afterwards, "{contact} {more}");
        let told = if afterwards.is_some() { vec![] } else { vec![0] };
        assert_eq!(bench.told(), told, "{contact} {more}");
    }
}

/// Whether it listens at its Contact is tried once for all that share it; a proxy that doesn't listen just now comes back.
#[test]
fn a_contact_where_nobody_listens_is_dead() {
    let mut bench = Bench::new();
    over(&mut bench, Transport::Tcp, 7);
    bench.register("100", "Contact: <sip:a@192.0.2.1:5070;transport=tcp>\r\n");
    bench.register("101", "Contact: <sip:b@192.0.2.1:5070;transport=tcp>\r\n");
    bench.register("101", "Contact: <sip:c@10.0.0.1>\r\nPath: <sip:192.0.2.1:5070;transport=tcp;lr>\r\n");
    bench.out.clear();
    bench.registrar.closed(ConnectionId(7), &mut bench.out);
    let tried: Vec<Hop> = bench
        .out
        .iter()
        .filter_map(|o| match o {
            Output::Connect(hop) => Some(*hop),
            _ => None,
        })
        .collect();
    let [hop] = tried[..] else { panic!("{tried:?}") };
    assert_eq!((hop.remote.to_string(), hop.connection), ("192.0.2.1:5070".into(), None));
    bench.registrar.unreachable(&Hop { transport: Transport::Tls, ..hop }, &mut bench.out);
    assert_eq!((bench.told(), bench.registrar.len()), (vec![], 3));
    bench.registrar.unreachable(&hop, &mut bench.out);
    assert_eq!((bench.told(), bench.uris("phone1")), (vec![1], vec!["sip:c@10.0.0.1"]));
    // One that has come back on a connection of its own is not lost with what was tried before.
    over(&mut bench, Transport::Tcp, 8);
    bench.register("100", "Contact: <sip:a@192.0.2.1:5070;transport=tcp>\r\n");
    bench.registrar.unreachable(&hop, &mut bench.out);
    assert_eq!(bench.registrar.len(), 2);
}

#[test]
fn a_path_leads_elsewhere_only_to_a_listed_proxy() {
    let path = "Contact: <sip:a@10.0.0.5>\r\nPath: <sip:198.51.100.9:5080;lr>, <sip:inner;lr>\r\n";
    let mut bench = Bench::new();
    bench.register("100", path);
    assert_eq!(way(&bench, "100"), Some((Transport::Udp, "192.0.2.1:40000".into(), false)));
    bench.registrar.set_listed(["198.51.100.9".parse().unwrap()].into());
    bench.register("100", path);
    assert_eq!(way(&bench, "100"), Some((Transport::Udp, "198.51.100.9:5080".into(), false)));
    over(&mut bench, Transport::Tcp, 3);
    bench.register("100", path);
    assert_eq!(way(&bench, "100"), Some((Transport::Tcp, "198.51.100.9:5080".into(), false)));
    bench.registrar.closed(ConnectionId(3), &mut bench.out);
    assert_eq!(bench.registrar.len(), 1);
}

/// What the records of one registrar add up to, in another one.
#[test]
fn another_life_goes_on_with_what_was_kept() {
    let mut bench = Bench::new();
    bench.register("100", "Contact: <sip:a@192.0.2.1:5070>;q=0.5;+sip.instance=\"<urn:uuid:1>\"\r\n");
    bench.register("100", "Contact: <sip:gone@192.0.2.1>\r\n");
    bench.register("100", "Contact: <sip:gone@192.0.2.1>;expires=0\r\n");
    over(&mut bench, Transport::Tcp, 3);
    bench.register(
        "101",
        "Contact: <sip:b@192.0.2.1:5071;transport=tcp>\r\nPath: <sip:192.0.2.1:6;transport=tcp;lr>\r\n",
    );
    bench.register("101", "Contact: <sip:flow@192.0.2.1:5072;ob>\r\n");
    let mut kept = BTreeMap::new();
    for output in bench.out.drain(..) {
        match output {
            Output::Keep(BindingRecord::Bound(id, binding)) => drop(kept.insert(id, *binding)),
            Output::Keep(BindingRecord::Gone(id)) => drop(kept.remove(&id)),
            _ => {}
        }
    }
    let all = bench.registrar.records().into_iter().filter(|r| matches!(r, BindingRecord::Bound(..))).count();
    assert_eq!((kept.len(), all), (2, 2));
    let limits = bench.registrar.limits;
    bench.registrar = Registrar::new(limits, Arc::clone(&bench.registrar.listen));
    bench.now += Duration::from_secs(100);
    for (id, mut binding) in kept {
        bench.registrar.restore(bench.now, id, binding.clone(), &mut bench.out);
        let mut broken = binding.clone();
        broken.path.push("<si%:192.0.2.1;lr>".into());
        bench.registrar.restore(bench.now, id + 200, broken, &mut bench.out);
        let mut two = binding.clone();
        two.path.push("edge, edge <sip:192.0.2.1;lr>".into());
        bench.registrar.restore(bench.now, id + 300, two, &mut bench.out);
        binding.expires_at = bench.now;
        bench.registrar.restore(bench.now, id + 100, binding, &mut bench.out);
    }
    let gone =
        bench.out.iter().filter(|output| matches!(output, Output::Keep(BindingRecord::Gone(_)))).count();
    assert_eq!((gone, bench.told()), (6, vec![1, 2]), "what is over or can't be read is not brought back");
    assert_eq!(way(&bench, "100"), Some((Transport::Udp, "192.0.2.1:5070".into(), false)));
    assert_eq!(way(&bench, "101"), Some((Transport::Tcp, "192.0.2.1:6".into(), false)));
    assert_eq!(bench.registrar.contacts("SEP1", "101")[0].path, ["<sip:192.0.2.1:6;transport=tcp;lr>"]);
    // It is the same phone: what it said before is late, and its instance is known.
    (bench.hop.transport, bench.hop.connection, bench.cseq) = (Transport::Udp, None, 0);
    assert_eq!(bench.register("100", "Contact: <sip:a@192.0.2.1:5070>\r\n").status, 500);
    bench.cseq = 50;
    bench.register("100", "Contact: <sip:a@192.0.2.1:5099>;+sip.instance=\"<urn:uuid:1>\"\r\n");
    assert_eq!(bench.uris("100"), ["sip:a@192.0.2.1:5099"]);
}

#[test]
fn a_new_call_id_is_a_newcomer_and_says_what_it_replaces() {
    let mut bench = Bench::new();
    bench.register("100", "Contact: <sip:a@192.0.2.1:5070>\r\n");
    bench.newcomers.clear();
    bench.register("100", "Contact: <sip:a@192.0.2.1:5070>\r\n");
    bench.register("101", "Contact: <sip:a@192.0.2.1:5070>\r\n");
    assert_eq!(bench.newcomers.len(), 0, "the same phone goes on");
    bench.call_id = "another".into();
    bench.hop.remote.set_port(41_000);
    bench.register("100", "Contact: <sip:a@192.0.2.1:5070>, <sip:z@192.0.2.1:5071>\r\n");
    let replaced: Vec<usize> = bench.newcomers.iter().map(|newcomer| newcomer.replaced.len()).collect();
    assert_eq!(replaced, [1, 0]);
    bench.register("100", "Contact: <sip:a@192.0.2.1:5070>;expires=0\r\n");
    assert_eq!(bench.newcomers.len(), 2);
}

#[test]
fn a_lost_connection_takes_its_contacts_with_it() {
    let mut bench = Bench::new();
    bench.register("100", "Contact: <sip:a@198.51.100.1>\r\n");
    bench.hop.transport = Transport::Tls;
    bench.hop.connection = Some(ConnectionId(7));
    bench.register("101", "Contact: <sip:b@198.51.100.1>\r\n");
    assert!(bench.registrar.is_registered_from("SEP1", &bench.hop));
    bench.registrar.closed(ConnectionId(8), &mut bench.out);
    bench.registrar.closed(ConnectionId(7), &mut bench.out);
    assert_eq!(bench.told(), [1, 2, 1]);
    bench.registrar.forget("SEP1", &mut bench.out);
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
    assert_eq!((bench.registrar.len(), bench.authenticator.remembered(), bench.out.len()), (0, 0, 0));
}

/// A Path is the Route of what is sent there: one that nobody can read would break each of our requests.
#[test]
fn a_path_that_cannot_be_read_is_refused() {
    let mut bench = Bench::new();
    let contact = "Contact: <sip:a@192.0.2.1:5070>\r\n";
    for path in ["<si%:192.0.2.1;lr>", "<sip:192.0.2.1;lr>, <sip :x>", "<sip:192.0.2.1;lr"] {
        let response = bench.register("100", &format!("{contact}Path: {path}\r\n"));
        assert_eq!(response.status, 400, "{path}");
    }
    assert_eq!(bench.registrar.count("SEP1"), 0);
    assert_eq!(bench.register("100", &format!("{contact}Path: <sip:192.0.2.1;lr>\r\n")).status, 200);
}

/// A contact of an earlier life, dialled over TCP at the edge, of an account of its own.
fn at_the_edge(bench: &Bench, number: u64) -> KeptBinding {
    KeptBinding {
        account: format!("SEP{number}").into(),
        number: "100".into(),
        contact: "sip:100@192.0.2.5:5060;transport=tcp".into(),
        q_thousandths: 1_000,
        path: Vec::new(),
        call_id: number.to_string(),
        cseq: 1,
        instance: None,
        transport: Transport::Tcp,
        remote: "192.0.2.5:5060".parse().unwrap(),
        expires_at: bench.now + Duration::from_secs(100),
    }
}

#[test]
fn contacts_that_are_lost_by_the_hundred_go_a_few_at_a_time_and_those_that_are_asked_for_first() {
    for expire in [false, true] {
        let mut bench = Bench::new();
        for number in 1..=100 {
            let kept = at_the_edge(&bench, number);
            bench.registrar.restore(bench.now, number, kept, &mut bench.out);
        }
        bench.registrar.observe(bench.now, &mut bench.out);
        assert_eq!(bench.told(), [1; 100]);
        if expire {
            bench.now += Duration::from_secs(100);
            bench.registrar.observe(bench.now, &mut bench.out);
        } else {
            let mut edge = bench.hop;
            (edge.transport, edge.remote) = (Transport::Tcp, "192.0.2.5:5060".parse().unwrap());
            bench.registrar.unreachable(&edge, &mut bench.out);
        }
        assert_eq!((bench.told(), bench.registrar.is_losing()), (vec![0; AT_ONCE], true));
        // Whatever else happens at this time makes it no faster.
        bench.registrar.observe(bench.now, &mut bench.out);
        assert_eq!((bench.told(), bench.registrar.next_timeout().is_some()), (vec![], !expire));
        assert_eq!(bench.registrar.count("SEP90"), 1);
        bench.registrar.update("SEP90", &mut bench.out);
        assert_eq!((bench.told(), bench.registrar.count("SEP90")), (vec![0], 0));
        bench.registrar.update("SEP90", &mut bench.out);
        bench.registrar.let_go(50, &mut bench.out);
        assert_eq!(bench.told(), [0; 50]);
        bench.registrar.let_go(50, &mut bench.out);
        assert_eq!(bench.told(), [0; 100 - AT_ONCE - 1 - 50], "each once");
        assert!(bench.registrar.is_empty() && !bench.registrar.is_losing());
        assert_eq!(bench.registrar.next_timeout(), None);
    }
}

#[test]
fn a_phone_that_registers_anew_while_its_edge_is_being_lost_stays() {
    let mut bench = Bench::new();
    for number in 1..=100 {
        let mut kept = at_the_edge(&bench, number);
        if number == 100 {
            kept.account = "SEP1".into();
        }
        bench.registrar.restore(bench.now, number, kept, &mut bench.out);
    }
    let mut edge = bench.hop;
    (edge.transport, edge.remote) = (Transport::Tcp, "192.0.2.5:5060".parse().unwrap());
    bench.registrar.unreachable(&edge, &mut bench.out);
    bench.told();
    // The same contact by another way: what was lost under its name is forgotten with it.
    bench.register("100", "Contact: <sip:100@192.0.2.5:5060;transport=tcp>;expires=100\r\n");
    bench.registrar.let_go(1_000, &mut bench.out);
    bench.told();
    assert_eq!((bench.registrar.len(), bench.registrar.count("SEP1")), (1, 1));
    assert!(!bench.registrar.is_losing());
}
