//! Tests of digest authentication, both sides against each other and against the examples of the RFCs.

use super::*;
use crate::message::{Method, Uri};
use crate::port::{Hop, Transport};

struct Users;

impl Directory for Users {
    fn account(&self, user: &str) -> Option<Account> {
        (user == "100").then(|| Account {
            id: "SEP100".into(),
            numbers: Arc::from([Arc::from("100")]),
            password: Zeroizing::new("secret".to_owned()),
            max_expires: None,
        })
    }

    fn trunk(&self, _: &Hop) -> Option<crate::port::KnownTrunk> {
        None
    }
}

fn hop(remote: &str) -> Hop {
    let address = |text: &str| text.parse().unwrap();
    let (local, remote) = (address("198.51.100.1:5060"), address(remote));
    Hop { transport: Transport::Udp, local, remote, connection: None }
}

struct Bench {
    server: Authenticator,
    ids: Ids,
    now: Instant,
    hop: Hop,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // the epoch of a virtual clock
    fn new() -> Self {
        let now = Instant::now();
        let server = Authenticator::new("house".into(), [7; 32], now);
        Self { server, ids: Ids::new([1; 32]), now, hop: hop("192.0.2.1:5060") }
    }

    /// A REGISTER that answers a fresh challenge.
    fn request(&mut self, user: &str, password: &str) -> Request {
        let mut request = Request::new(Method::Register, Uri::read("sip:house").unwrap());
        let challenge = self.server.challenge(self.now, &mut self.ids, &request, &self.hop, Ask::Password);
        assert_eq!(challenge.status, 401);
        let login = Login { user: user.to_owned(), password: Zeroizing::new(password.to_owned()) };
        assert!(login.answer(&challenge.headers, 401, &mut request, "c"));
        request
    }

    fn verdict(&mut self, request: &Request) -> String {
        format!("{:?}", self.server.check(self.now, request, &self.hop, &Users))
    }
}

#[test]
fn the_right_password_is_accepted_once_for_each_count() {
    for (offer, answered) in [(Offer::Md5, "MD5"), (Offer::Sha256, "SHA-256"), (Offer::Both, "SHA-256")] {
        let mut bench = Bench::new();
        bench.server = bench.server.offering(offer);
        let request = bench.request("100", "secret");
        let algorithm = format!("algorithm={answered},");
        assert!(request.headers.get("Authorization").unwrap().contains(&algorithm), "{offer:?}");
        assert_eq!(bench.verdict(&request), "Accepted");
        assert_eq!(bench.verdict(&request), "Stale");
    }
}

#[test]
fn unknown_user_and_wrong_password_look_alike_and_leave_nothing() {
    let mut bench = Bench::new();
    for (user, password) in [("100", "guess"), ("nobody", "guess"), ("nobody", "")] {
        let request = bench.request(user, password);
        assert_eq!(bench.verdict(&request), "Wrong", "{user}");
    }
    assert_eq!(bench.server.remembered(), 0);
}

#[test]
fn an_old_or_foreign_nonce_is_stale_only_with_the_right_password() {
    let mut bench = Bench::new();
    let (right, wrong) = (bench.request("100", "secret"), bench.request("100", "guess"));
    bench.now += NONCE_LIFETIME + Duration::from_secs(1);
    assert_eq!(bench.verdict(&right), "Stale");
    assert_eq!(bench.verdict(&wrong), "Wrong");
    bench.server = Authenticator::new("house".into(), [8; 32], bench.now);
    let fresh_of_another_key = right;
    assert_eq!(bench.verdict(&fresh_of_another_key), "Stale");
}

#[test]
fn no_credentials_or_those_of_another_realm_are_missing() {
    let mut bench = Bench::new();
    let mut request = Request::new(Method::Register, Uri::read("sip:house").unwrap());
    assert_eq!(bench.verdict(&request), "Missing");
    for value in ["Basic YTpi", "Digest", "Digest realm=\"x\", username=\"100\"", "Digest realm", "\"", ""] {
        request.headers.set("Authorization", value);
        assert_eq!(bench.verdict(&request), "Missing", "{value}");
    }
}

#[test]
fn memory_of_used_nonces_is_bounded() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        let request = bench.request("100", "secret");
        assert_eq!(bench.verdict(&request), "Accepted");
        bench.now += Duration::from_secs(60);
    }
    assert!(bench.server.remembered() <= 7, "{}", bench.server.remembered());
}

#[test]
fn counts_are_taken_in_any_order_and_once() {
    let mut counts = Counts::default();
    let taken: Vec<bool> = [1, 3, 2, 2, 3, 200, 137, 136, 4].map(|count| counts.take(count)).to_vec();
    assert_eq!(taken, [true, true, true, false, false, true, true, false, false]);
}

#[test]
fn the_example_of_rfc_7616_comes_out() {
    let credentials = |algorithm| Credentials {
        user: "Mufasa".to_owned(),
        realm: "http-auth@example.org".to_owned(),
        nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v".to_owned(),
        uri: "/dir/index.html".to_owned(),
        response: String::new(),
        algorithm,
        qop: Some(("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".to_owned(), "00000001".to_owned())),
        count: 1,
        offered: true,
    };
    let response = |algorithm| credentials(algorithm).response("Circle of Life", "GET").to_string();
    assert_eq!(response(Algorithm::Md5), "8ca523f5e9506fed4657c9700eebdbec");
    assert_eq!(
        response(Algorithm::Sha256),
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    );
}

#[test]
fn a_login_that_was_refused_is_not_tried_again() {
    let mut bench = Bench::new();
    let mut request = bench.request("100", "guess");
    let again = bench.server.challenge(bench.now, &mut bench.ids, &request, &bench.hop, Ask::Password);
    let login = Login { user: "100".to_owned(), password: Zeroizing::new("guess".to_owned()) };
    assert!(!login.answer(&again.headers, 401, &mut request, "c"));
    let stale = bench.server.challenge(bench.now, &mut bench.ids, &request, &bench.hop, Ask::NewNonce);
    assert!(login.answer(&stale.headers, 401, &mut request, "c"));
}

#[test]
fn a_nonce_is_good_for_the_address_that_it_was_made_for() {
    let cases = [
        ("192.0.2.1:5060", "192.0.2.1:1024", "Accepted"),
        ("192.0.2.1:5060", "192.0.2.2:5060", "Stale"),
        ("192.0.2.1:5060", "[::ffff:192.0.2.1]:5060", "Accepted"),
        ("[2001:db8:1:2::1]:5060", "[2001:db8:1:2:9::9]:5060", "Accepted"),
        ("[2001:db8:1:2::1]:5060", "[2001:db8:1:3::1]:5060", "Stale"),
    ];
    for (asked, used, verdict) in cases {
        let mut bench = Bench::new();
        bench.hop = hop(asked);
        let request = bench.request("100", "secret");
        bench.hop = hop(used);
        assert_eq!(bench.verdict(&request), verdict, "{asked} {used}");
    }
}

#[test]
fn what_was_signed_for_one_number_calls_no_other() {
    let requested = |text: &str| Uri::read(text).unwrap();
    let same = [
        ("sip:house", "sip:house"),
        ("sip:house:5060;transport=tcp", "sip:house"),
        ("sip:2001@house", "sip:house"),
        ("sip:5000@house", "sip:5000@192.0.2.1:5060;user=phone"),
        ("sip:5000@house;user=phone", "sip:5000@house"),
        ("sips:%35000@house", "sip:5000@house"),
        ("sip:192.0.2.1:5060", "sip:5000@192.0.2.1:5060"),
        ("sip:HOUSE", "sip:5000@house"),
        ("192.0.2.1:5060", "sip:house"),
    ];
    for (signed, request) in same {
        assert!(is_same_target(signed, &requested(request)), "{signed} for {request}");
    }
    let other = [
        ("sip:5000@house", "sip:5001@house"),
        ("sip:5000@house", "sip:0900123456@house"),
        ("sip:elsewhere", "sip:5000@house"),
        ("", "sip:5000@house"),
        ("192.0.2.1:5060", "sip:5000@house"),
    ];
    for (signed, request) in other {
        assert!(!is_same_target(signed, &requested(request)), "{signed} for {request}");
    }
    let mut bench = Bench::new();
    let mut request = bench.request("100", "secret");
    request.uri = requested("sip:0900123456@house");
    assert_eq!(bench.verdict(&request), "Accepted", "the server's own address stands for each");
    let mut request = Request::new(Method::Invite, requested("sip:5000@house"));
    let challenge = bench.server.challenge(bench.now, &mut bench.ids, &request, &bench.hop, Ask::Password);
    let login = Login { user: "100".to_owned(), password: Zeroizing::new("secret".to_owned()) };
    assert!(login.answer(&challenge.headers, 401, &mut request, "c"));
    request.uri = requested("sip:0900123456@house");
    assert_eq!(bench.verdict(&request), "OtherUri");
    request.uri = requested("sip:5000@house");
    assert_eq!(bench.verdict(&request), "Accepted");
}
