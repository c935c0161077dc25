//! Who has not said who he is: nothing is kept for him, nothing is sent twice, and he learns nothing (RFC 3261 §26.3.2.4).

use crate::world::*;
use sip::port::{Command, ConnectionId, Event, Outcome, Source, Transport};
use std::time::Duration;

const STRANGER: &str = "192.0.2.77:5060";

/// A phone of the account's number.
fn phone_at(address: &str) -> Ua {
    let mut phone = Ua::new(address);
    phone.to = "sip:2001@node".into();
    phone
}

fn outcomes(w: &mut World) -> Vec<Outcome> {
    std::mem::take(&mut w.proofs).into_iter().map(|proof| proof.outcome).collect()
}

#[test]
fn every_answer_to_a_stranger_is_sent_once_and_leaves_nothing() {
    let asked: &[(&str, &[&str], u16)] = &[
        ("INVITE", &[], 401),
        ("INVITE", &["Max-Forwards: 0"], 483),
        ("INVITE", &["Require: foo"], 420),
        (
            "INVITE",
            &[
                "Authorization: Digest username=\"x\", realm=\"lab\", nonce=\"n\", uri=\"sip:x\", response=\"0\"",
            ],
            401,
        ),
        ("REGISTER", &[], 401),
        ("OPTIONS", &[], 200),
        ("BYE", &[], 481),
        ("INFO", &[], 481),
        ("MESSAGE", &[], 405),
        ("SUBSCRIBE", &["Event: x"], 489),
        ("SUBSCRIBE", &["Event: message-summary"], 401),
        ("FOO", &[], 501),
    ];
    for (method, headers, status) in asked {
        let ways = [Ua::new(STRANGER), Ua::over(Transport::Tcp, STRANGER, Some(3))];
        for mut stranger in ways {
            let mut w = World::with_account();
            stranger.request(&mut w, method, headers, "");
            let first = stranger.expect(&mut w, *status);
            assert_eq!(w.stack.counts().transactions, 0, "{method}");
            // The same once more: a stateless server gives the same tag (§8.2.7).
            stranger.remote_tag = None;
            stranger.repeat(&mut w, method, headers);
            let again = stranger.expect(&mut w, *status);
            assert_eq!(again.headers.to_tag(), first.headers.to_tag(), "{method}");
            if *method == "INVITE" {
                stranger.acknowledge_refusal(&mut w);
            }
            assert_eq!(w.stack.next_timeout(), None, "{method}: nothing will be repeated");
            w.seconds(40);
            stranger.nothing(&w);
            w.no_event();
            assert!(w.stack.is_quiet());
        }
    }
}

#[test]
fn the_tag_of_a_stateless_answer_cannot_be_guessed_from_another() {
    let (mut w, mut stranger) = (World::with_account(), Ua::new(STRANGER));
    let mut tags = std::collections::HashSet::new();
    for _ in 0..50 {
        stranger.request(&mut w, "INVITE", &[], OFFER);
        let refusal = stranger.expect(&mut w, 401);
        tags.insert(refusal.headers.to_tag().expect("a tag").to_owned());
        stranger.remote_tag = None;
    }
    assert_eq!(tags.len(), 50, "each request has its own");
}

/// More requests than the table has places; a phone's calls and a trunk's go on as before.
#[test]
fn a_flood_takes_no_place_of_those_who_are_known() {
    let mut w = World::with_account();
    let mut phone = phone_at("192.0.2.5:5060");
    phone.registers(&mut w);
    w.seconds(40);
    w.events.clear();
    let mut stranger = Ua::new(STRANGER);
    for round in 0..3_000 {
        let method = ["INVITE", "REGISTER", "OPTIONS", "BYE", "FOO"][round % 5];
        stranger.request(&mut w, method, &[], "");
        stranger.forget(&mut w);
    }
    assert_eq!(w.stack.counts().transactions, 0);
    phone.signed(&mut w, "INVITE", &[], OFFER);
    phone.expect(&mut w, 100);
    assert!(matches!(w.event(), Event::Incoming { source: Source::Account(_), .. }));
    let mut trunk = Ua::new("203.0.113.1:5060");
    trunk.request(&mut w, "INVITE", &[], OFFER);
    trunk.expect(&mut w, 100);
}

#[test]
fn an_unknown_account_and_a_wrong_password_look_alike_and_the_node_is_told_which() {
    let mut w = World::with_account();
    let mut answers = Vec::new();
    for (user, password) in [("2001", "guess"), ("nobody", "guess"), ("nobody", "")] {
        let mut stranger = Ua::new(STRANGER);
        stranger.signed_with(&mut w, "REGISTER", (user, password), &["User-Agent: scanner 1.0"], "");
        let refusal = stranger.expect(&mut w, 401);
        let names: Vec<String> = refusal.headers.iter().map(|(name, _)| name.to_owned()).collect();
        let challenge = refusal.headers.get("WWW-Authenticate").expect("a challenge").to_owned();
        let without_nonce: String = challenge.split("nonce=").next().unwrap_or("").to_owned();
        answers.push((names, without_nonce));
        assert_eq!(w.proofs[0].agent, "scanner 1.0");
        assert_eq!(w.proofs[0].user.as_deref(), Some(user));
        let told = outcomes(&mut w);
        let expected = if user == "2001" { Outcome::WrongPassword } else { Outcome::UnknownAccount };
        assert_eq!(told, [expected], "{user}");
        assert_eq!(w.stack.counts().transactions, 0);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[test]
fn who_is_put_off_gets_the_same_answer_whatever_his_password_is() {
    let mut w = World::with_account();
    w.book.put_off = vec!["2001".into()];
    for method in ["REGISTER", "INVITE"] {
        for password in ["secret", "guess"] {
            let mut stranger = Ua::new(STRANGER);
            stranger.signed_with(&mut w, method, ("2001", password), &[], "");
            let refusal = stranger.expect(&mut w, 401);
            assert!(!refusal.headers.get("WWW-Authenticate").expect("a challenge").contains("stale"));
            assert_eq!(outcomes(&mut w), [Outcome::PutOff]);
        }
    }
    w.book.put_off.clear();
    phone_at(STRANGER).registers(&mut w);
    assert!(matches!(outcomes(&mut w)[..], [Outcome::Right(Source::Account(_), _)]));
}

#[test]
fn where_a_phone_registers_from_is_known_until_its_registration_ends() {
    let (mut w, mut phone) = (World::with_account(), phone_at("192.0.2.5:5060"));
    phone.signed(&mut w, "REGISTER", &["Expires: 1800"], "");
    phone.expect(&mut w, 200);
    let proof = w.proofs.pop().expect("a proof");
    let until = w.now + Duration::from_secs(1800);
    assert_eq!(
        (proof.hop, proof.outcome),
        (phone.hop, Outcome::Right(Source::Account("phone".into()), until))
    );
    for method in ["INVITE", "OPTIONS"] {
        let mut trunk = Ua::new("203.0.113.1:5060");
        trunk.request(&mut w, method, &[], OFFER);
        let proof = w.proofs.pop().expect("a proof");
        assert_eq!((proof.user, proof.hop), (None, trunk.hop));
        assert!(matches!(proof.outcome, Outcome::Right(Source::Trunk(_), _)));
    }
}

#[test]
fn a_nonce_of_another_address_is_worth_nothing() {
    let (mut w, mut thief) = (World::with_account(), Ua::new("192.0.2.78:5060"));
    let mut phone = Ua::new("192.0.2.5:5060");
    let heard = phone.authorization(&mut w, "REGISTER", "2001", "secret");
    thief.request(&mut w, "REGISTER", &[&heard], "");
    let refusal = thief.expect(&mut w, 401);
    assert!(refusal.headers.get("WWW-Authenticate").expect("a challenge").contains("stale=true"));
    w.no_event();
}

#[test]
fn what_was_signed_for_one_number_calls_no_other() {
    let (mut w, mut phone) = (World::with_account(), phone_at("192.0.2.5:5060"));
    phone.registers(&mut w);
    w.events.clear();
    let signed = phone.authorization(&mut w, "INVITE", "2001", "secret");
    let text = format!(
        "INVITE sip:0900123456@{NODE} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bKx;rport\r\n\
         From: <sip:2001@example.org>;tag=a\r\nTo: <sip:0900123456@node>\r\nCall-ID: other\r\nCSeq: 9 INVITE\r\n\
         Contact: <sip:2001@192.0.2.5:5060>\r\nMax-Forwards: 70\r\n{signed}\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{OFFER}",
        OFFER.len()
    );
    phone.send(&mut w, text);
    phone.expect(&mut w, 400);
    w.no_event();
}

/// What is kept is counted in bytes, of an address: the rest of a phone's requests wait, a trunk's never.
#[test]
fn the_bytes_that_an_address_has_kept_are_bounded_and_come_back() {
    let mut limits = config();
    limits.max_bytes_per_address = 64 * 1024;
    let mut w = World::with_account_and(limits);
    let mut phone = Ua::new("192.0.2.5:5060");
    let long = format!("Subject: {}", "x".repeat(8_000));
    let mut refused = 0;
    for _ in 0..100 {
        let signed = phone.authorization(&mut w, "REGISTER", "2001", "secret");
        phone.to = format!("sip:{}@node", "9".repeat(4_000));
        phone.request(&mut w, "REGISTER", &[&signed, &long], "");
        let answer = phone.answer(&mut w);
        assert!([403, 503].contains(&answer.status), "{}", answer.status);
        refused += usize::from(answer.status == 503);
        phone.remote_tag = None;
    }
    assert!(refused > 50, "{refused}");
    assert!(w.stack.counts().transaction_bytes < 80 * 1024, "{:?}", w.stack.counts());
    let mut trunk = Ua::new("203.0.113.1:5060");
    trunk.to = format!("sip:{}@node", "9".repeat(4_000));
    for _ in 0..40 {
        trunk.request(&mut w, "INVITE", &["Max-Forwards: 70"], OFFER);
        assert_eq!(trunk.answer(&mut w).status, 100);
        trunk.call_id += "x";
    }
    let calls: Vec<_> = w.events.drain(..).collect();
    for event in calls {
        if let Event::Incoming { call, .. } = event {
            w.command(Command::Refuse(call, refusal(486, 17)));
        }
    }
    w.seconds(100);
    assert_eq!(w.stack.counts().transaction_bytes, 0, "back where it was");
    phone.to = "sip:2001@node".into();
    phone.registers(&mut w);
}

#[test]
fn parameters_beyond_number_are_refused_unread() {
    for (count, status) in [(40, 401), (8_000, 400)] {
        let (mut w, stranger) = (World::with_account(), &mut Ua::new(STRANGER));
        let text = format!(
            "INVITE sip:5000@{NODE} SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER};branch=z9hG4bKv;rport{}\r\n\
             From: <sip:a@b>;tag=a\r\nTo: <sip:5000@node>\r\nCall-ID: v\r\nCSeq: 1 INVITE\r\n\r\n",
            ";a".repeat(count)
        );
        stranger.send(&mut w, text);
        stranger.expect(&mut w, status);
        assert_eq!(w.stack.counts().transactions, 0);
    }
}

/// Until when the stack's last word on this connection says that it is the account's, in seconds from now.
fn known_for(w: &World, connection: u64) -> Option<u64> {
    let of_it = |proof: &&sip::Attempt| proof.hop.connection == Some(ConnectionId(connection));
    match w.proofs.iter().rfind(of_it)?.outcome {
        Outcome::Right(Source::Account(_), until) => Some(until.saturating_duration_since(w.now).as_secs()),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_is_a_phones_while_something_is_registered_or_spoken_on_it() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut w = World::with_account();
        let held = |w: &World, connection| {
            let until = w.stack.held_until(w.now, Some("phone"), ConnectionId(connection));
            until.map(|until| until.saturating_duration_since(w.now).as_secs())
        };
        let on = |connection: u64| {
            let mut ua = Ua::over(transport, &format!("192.0.2.5:{}", 40_000 + connection), Some(connection));
            (ua.to, ua.contact) = ("sip:2001@node".into(), "<sip:2001@192.0.2.5:5060>".into());
            ua
        };
        let (mut first, mut second, mut third) = (on(1), on(2), on(3));
        first.signed(&mut w, "REGISTER", &["Expires: 600"], "");
        first.expect(&mut w, 200);
        assert_eq!(known_for(&w, 1), Some(600), "{transport:?}");
        // The same contact by another connection: the first is no longer anybody's.
        second.signed(&mut w, "REGISTER", &["Expires: 600"], "");
        second.expect(&mut w, 200);
        assert_eq!((known_for(&w, 1), known_for(&w, 2)), (Some(0), Some(600)));
        assert_eq!((held(&w, 1), held(&w, 2)), (None, Some(600)));
        // A call alone holds a connection, too, as long as it lasts.
        third.signed(&mut w, "INVITE", &[], OFFER);
        third.expect(&mut w, 100);
        assert_eq!(known_for(&w, 3), Some(30));
        w.seconds(20);
        assert_eq!(held(&w, 3), Some(30));
        third.signed(&mut w, "REGISTER", &["Expires: 600"], "");
        third.expect(&mut w, 200);
        assert_eq!(known_for(&w, 2), Some(0), "it has moved once more");
        second.signed(&mut w, "REGISTER", &["Expires: 0"], "");
        second.expect(&mut w, 200);
        assert_eq!((known_for(&w, 2), known_for(&w, 3)), (Some(0), Some(30)), "the call is still there");
        assert_eq!((held(&w, 2), held(&w, 3)), (None, Some(30)));
    }
}
