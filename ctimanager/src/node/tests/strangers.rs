//! Guessing, and what it must not do to those who are guessed at.

use super::world::{CONFIG, World};
use crate::config;
use crate::node::{AdminRequest, AdminToken, CtiTransport, Input};
use security::Secret;
use security::shares::{News, Rate, Share, State, Who};
use serde_json::{Value, json};
use sip::message::{self, Message, Method, Request, Uri};
use sip::port::Login;
use sip::{Hop, Transport};
use std::net::SocketAddr;
use std::time::Duration;

const HOME: &str = "192.0.2.1:40000";
const AWAY: &str = "198.51.100.7:40000";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn open(world: &mut World, number: u64, from: &str, user: &str, password: &str) -> Value {
    let connection = world.connect_from(number, address(from));
    let open = json!({"user": user, "password": password, "application": "x"});
    world.call(connection, "provider.open", open)
}

#[test]
fn connections_are_expected_from_where_somebody_was_let_in_and_from_where_trunks_are() {
    let yaml = CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 30s,");
    let mut world = World::with(&yaml.replace("name: test,", "name: test, sip_proxies: [192.0.2.99],"));
    world.input(Input::Restored(Box::default(), None));
    open(&mut world, 1, AWAY, "ivr", "guess");
    assert!(world.met.is_empty(), "who guesses is nobody: {:?}", world.met);
    assert_eq!(world.named, [address("127.0.0.1:0").ip(), address("192.0.2.99:0").ip()]);
    open(&mut world, 2, HOME, "ivr", "secret");
    assert_eq!(std::mem::take(&mut world.met), [address(HOME).ip()]);
    world.reload(&yaml.replace("transport: udp", "transport: tcp"));
    assert_eq!(world.named, [address("127.0.0.1:0").ip()], "a trunk over TCP, and no proxy any more");
    world.reborn(Duration::from_secs(1), &yaml);
    world.input(Input::Timeout);
    assert_eq!(world.met, [address(HOME).ip()], "its session may come back");
}

fn symbol(answer: &Value) -> &str {
    answer["error"]["data"]["cti"].as_str().unwrap_or("none")
}

#[test]
fn a_stranger_who_guesses_locks_no_application_out() {
    let yaml = CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 30s,");
    let mut world = World::with(&yaml);
    let opened = open(&mut world, 1, HOME, "ivr", "secret");
    let session = opened["result"]["session"].clone();
    let mut refused = Vec::new();
    for number in 10..60 {
        refused.push(symbol(&open(&mut world, number, AWAY, "ivr", "guess")).to_owned());
    }
    assert_eq!(refused.iter().filter(|symbol| *symbol == "LOGIN_FAILED").count(), 10);
    assert!(refused[10..].iter().all(|symbol| symbol == "RATE_LIMITED"));
    assert_eq!(
        symbol(&open(&mut world, 60, "203.0.113.5:1", "ivr", "secret")),
        "RATE_LIMITED",
        "never there"
    );
    assert!(open(&mut world, 61, HOME, "ivr", "secret")["result"].is_object(), "where it was let in before");

    let transport = CtiTransport::Tls { client_cn: Some("ivr".into()), not_after: None, serial: None };
    let connection = protocol::session::ConnectionId(62);
    world.input(Input::CtiOpened { connection, peer: address(AWAY), transport });
    let by_certificate = world.call(connection, "provider.open", json!({"user": "ivr", "application": "x"}));
    assert!(by_certificate["result"].is_object(), "a certificate, from the very address: {by_certificate}");

    world.input(Input::CtiClosed(protocol::session::ConnectionId(1)));
    let connection = world.connect_from(63, address("203.0.113.6:1"));
    let resume = json!({"session": session, "last_seq": 0});
    let wish = json!({"user": "ivr", "password": "secret", "application": "x", "resume": resume});
    let resumed = world.call(connection, "provider.open", wish);
    assert_eq!(resumed["result"]["resumed"], true, "{resumed}");
    let connection = world.connect_from(64, address("203.0.113.7:1"));
    let real = session.as_str().expect("a name");
    let last = if real.ends_with('0') { "1" } else { "0" };
    let forged = json!({"session": format!("{}{last}", &real[..real.len() - 1]), "last_seq": 0});
    let wish = json!({"user": "ivr", "password": "secret", "application": "x", "resume": forged});
    assert_eq!(symbol(&world.call(connection, "provider.open", wish)), "RATE_LIMITED", "no session of his");
}

#[test]
fn at_home_a_name_has_ten_times_the_share_and_no_more() {
    let mut world = World::new();
    assert!(open(&mut world, 1, HOME, "ivr", "secret")["result"].is_object());
    let failed =
        (0..200).filter(|n| symbol(&open(&mut world, 10 + n, HOME, "ivr", "guess")) == "LOGIN_FAILED");
    assert_eq!(failed.count(), 100);
    assert_eq!(symbol(&open(&mut world, 900, HOME, "other", "secret")), "none", "another name's is whole");
}

#[test]
fn passwords_that_wait_are_an_address_and_a_users_share() {
    let keys = "max_waiting_passwords_per_address: 3, max_waiting_passwords_per_user: 4";
    let mut world = World::with(&format!("service_parameters: {{{keys}}}\n{CONFIG}"));
    assert!(open(&mut world, 1, HOME, "ivr", "secret")["result"].is_object());
    world.verify_later = true;
    let ask = |world: &mut World, number: u64, from: &str, user: &str| {
        let connection = world.connect_from(number, address(from));
        let open = json!({"user": user, "password": "secret", "application": "x"});
        world.send(connection, "provider.open", open);
        world.frame(connection).map_or("waits".to_owned(), |answer| symbol(&answer).to_owned())
    };
    let mut asked = Vec::new();
    for number in 2..6 {
        asked.push(ask(&mut world, number, AWAY, "ivr"));
    }
    assert_eq!(asked, ["waits", "waits", "waits", "RATE_LIMITED"], "an address has three");
    assert_eq!(ask(&mut world, 6, "203.0.113.1:1", "ivr"), "waits");
    assert_eq!(ask(&mut world, 7, "203.0.113.2:1", "ivr"), "RATE_LIMITED", "a user has four, from elsewhere");
    assert_eq!(ask(&mut world, 8, "203.0.113.2:1", "other"), "waits", "another user");
    assert_eq!(ask(&mut world, 9, HOME, "ivr"), "waits", "at home");
    // Whoever hangs up meanwhile has his places until the check is done.
    world.input(Input::CtiClosed(protocol::session::ConnectionId(2)));
    assert_eq!(ask(&mut world, 10, AWAY, "other"), "RATE_LIMITED");
    world.verify();
    assert_eq!(ask(&mut world, 11, AWAY, "ivr"), "waits", "all are free again");
}

const PHONES: &str = r#"
  - {name: SEP1, type: phone, protocol: sip, pool: Default, lines: ["2001"], digest: {user: "2001", password: "right"}}
  - {name: SEP2, type: phone, protocol: sip, pool: Default, lines: ["2002"], digest: {user: "2002", password: "right"}}
trunks:"#;

/// With two phones.
pub(super) fn phones(config: &str) -> String {
    config.replace("\ntrunks:", PHONES)
}

fn with_phones() -> World {
    World::with(&phones(CONFIG))
}

/// A REGISTER from there, challenged and answered: the status of the last answer.
pub(super) fn register(world: &mut World, number: usize, from: &str, user: &str, password: &str) -> u16 {
    signed(world, number, from, ("REGISTER", user), (user, password), "")
}

/// The same of any request to a number.
pub(super) fn signed(
    world: &mut World,
    number: usize,
    from: &str,
    (method, to): (&str, &str),
    (user, password): (&str, &str),
    headers: &str,
) -> u16 {
    let target = if method == "REGISTER" { "sip:test".to_owned() } else { format!("sip:{to}@test") };
    let hop = Hop {
        transport: Transport::Udp,
        local: address("127.0.0.1:5060"),
        remote: address(from),
        connection: None,
    };
    let uri = || Uri::read(&target).expect("a URI");
    let mut proof = String::new();
    for round in 0..2 {
        let text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{number}x{round}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@test>;tag=t{number}\r\nTo: <sip:{to}@test>\r\nCall-ID: c{number}\r\n\
             CSeq: {} {method}\r\nContact: <sip:{user}@{from}>\r\nUser-Agent: friendly-scanner\r\n{headers}{proof}\r\n",
            round + 1
        );
        world.sip.clear();
        world.input(Input::Sip { hop, bytes: text.into_bytes() });
        let answer = world.sip.pop_front().expect("an answer");
        let Ok(Message::Response(answer)) = message::read(answer.as_bytes(), Transport::Udp) else {
            panic!("no response: {answer}");
        };
        if answer.status != 401 || round == 1 {
            return answer.status;
        }
        let mut request = Request::new(Method::read(method).expect("a method"), uri());
        let login =
            Login { user: user.to_owned(), password: Secret::new(password.to_owned()).into_zeroizing() };
        assert!(login.answer(&answer.headers, 401, &mut request, "c"));
        proof = format!("Authorization: {}\r\n", request.headers.get("Authorization").expect("a proof"));
    }
    unreachable!("two rounds")
}

#[test]
fn who_guesses_a_phones_password_is_put_off_and_told_of_and_the_phone_is_not() {
    let mut world = with_phones();
    assert_eq!(register(&mut world, 0, HOME, "2001", "right"), 200);
    let (hop, who, _) = world.known.pop().expect("known from now on");
    assert_eq!((hop.remote, who), (address(HOME), Who::Device("SEP1".into())));
    world.reports.clear();
    for number in 1..=40 {
        let user = if number % 2 == 0 { "2001" } else { "nobody" };
        assert_eq!(register(&mut world, number, AWAY, user, "guess"), 401);
    }
    let failed = world.reports.iter().filter(|report| report.name == "SipAuthenticationFailed").count();
    assert_eq!(failed, 1, "one line a second and address");
    assert_eq!(register(&mut world, 50, AWAY, "2001", "right"), 401, "not looked at");
    assert_eq!(register(&mut world, 51, AWAY, "2002", "right"), 401, "nor another account's from there");
    assert_eq!(register(&mut world, 52, HOME, "2001", "right"), 200, "the phone at its own address");
    assert_eq!(register(&mut world, 53, "203.0.113.9:5060", "2002", "right"), 200, "somebody else");
    world.pass(Duration::from_secs(1));
    let raised: Vec<_> = world.reports.iter().filter(|report| report.name == "PasswordGuessing").collect();
    let address = ("address", "198.51.100.7".to_owned());
    assert!(raised.iter().any(|report| report.parameters.contains(&address)), "{raised:?}");
    assert!(!format!("{:?}", world.reports).contains("2001"), "no number above DEBUG: {:?}", world.reports);
    let line = world.reports.iter().find(|report| report.name == "SipAuthenticationFailed").expect("a line");
    for part in [("user_agent", "friendly-scanner"), ("reason", "unknown_account")] {
        assert!(line.parameters.contains(&(part.0, part.1.to_owned())), "{line:?}");
    }
    world.pass(Duration::from_secs(61));
    assert!(world.reports.iter().any(|report| {
        report.name == "PasswordGuessing" && report.parameters.contains(&("state", "cleared".to_owned()))
    }));
    assert_eq!(register(&mut world, 60, AWAY, "2001", "right"), 200, "a minute later");
    assert_eq!(register(&mut world, 61, AWAY, "2001", "guess"), 401);
}

#[test]
fn what_the_shell_refuses_is_an_alarm_with_the_address_and_a_count() {
    let mut world = World::new();
    let news = |refused, state| {
        let who = Who::address("198.51.100.7".parse().expect("an address"));
        vec![News { share: Share::Rate(Rate::SipOfAddress), who, refused, state }]
    };
    world.input(Input::Refused(news(3, State::Began)));
    world.input(Input::Refused(news(500, State::GoesOn)));
    let told: Vec<_> = world.reports.iter().filter(|report| report.name == "ShareExceeded").collect();
    assert_eq!(told.len(), 2);
    for part in [
        ("address", "198.51.100.7"),
        ("share", "sip_messages"),
        ("limit", "max_stranger_sip_messages_per_second_per_address"),
    ] {
        assert!(told[0].parameters.contains(&(part.0, part.1.to_owned())), "{told:?}");
    }
    world.input(Input::Admin(AdminToken(1), AdminRequest::Metrics));
    let metrics = world.answers.pop().expect("an answer").expect("metrics");
    assert_eq!(metrics["refused"][Share::Rate(Rate::SipOfAddress).index()], 503);
    assert_eq!(metrics["standing"]["ShareExceeded"], 1);
    world.input(Input::Refused(news(0, State::Over)));
    world.input(Input::Admin(AdminToken(2), AdminRequest::Metrics));
    let metrics = world.answers.pop().expect("an answer").expect("metrics");
    assert!(metrics["standing"]["ShareExceeded"].is_null());
}

#[test]
fn the_defaults_of_the_configuration_are_those_of_the_table() {
    for (share, most) in crate::node::shares_of(&config::ServiceParameters::default()) {
        assert_eq!(most, share.row().default, "{}", share.row().key);
    }
}

#[test]
fn a_reload_sets_other_shares() {
    let mut world = World::new();
    world.reload(&format!("service_parameters: {{max_login_failures_per_minute: 2}}\n{CONFIG}"));
    let failed = (0..9).filter(|n| symbol(&open(&mut world, 10 + n, AWAY, "ivr", "guess")) == "LOGIN_FAILED");
    assert_eq!(failed.count(), 2);
}
