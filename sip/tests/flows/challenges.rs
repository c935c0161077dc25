//! A peer that asks who we are (RFC 3261 §22.2, §22.3).

use crate::world::*;
use sip::Login;
use sip::message::{Method, Request};
use sip::port::{Command, Event};
use zeroize::Zeroizing;

const CHALLENGE: &str = "Digest realm=\"peer\", nonce=\"n1\", qop=\"auth\", algorithm=MD5, opaque=\"o\"";

fn world() -> World {
    let mut world = World::new();
    let login = Login { user: "house".into(), password: Zeroizing::new("secret".into()) };
    world.book.login = Some(login);
    world
}

fn challenge(w: &mut World, peer: &mut Ua, request: &Request, status: u16) {
    let name = if status == 407 { "Proxy-Authenticate" } else { "WWW-Authenticate" };
    peer.reply(w, request, status, &[&format!("{name}: {CHALLENGE}")], "");
}

fn number(request: &Request) -> u32 {
    request.headers.cseq().unwrap().number
}

fn assert_proved(request: &Request, header: &str) {
    let proof = request.headers.get(header).unwrap_or_else(|| panic!("no {header}"));
    for part in ["username=\"house\"", "realm=\"peer\"", "nonce=\"n1\"", "nc=00000001", "opaque=\"o\""] {
        assert!(proof.contains(part), "{part} in {proof}");
    }
    assert!(!proof.contains("secret"));
}

#[test]
fn an_invite_goes_again_with_credentials() {
    for (status, header) in [(401, "Authorization"), (407, "Proxy-Authorization")] {
        let (mut w, mut b) = (world(), Ua::new("203.0.113.2:5060"));
        w.invite(&b, Some(relay(OFFER)));
        let first = b.take(&mut w, Method::Invite);
        assert!(first.headers.get(header).is_none());
        challenge(&mut w, &mut b, &first, status);
        b.take(&mut w, Method::Ack);
        let second = b.take(&mut w, Method::Invite);
        assert_proved(&second, header);
        assert_eq!(second.headers.call_id(), first.headers.call_id());
        assert_eq!(second.headers.from_tag(), first.headers.from_tag());
        assert_eq!(number(&second), number(&first) + 1);
        assert_eq!(second.body, first.body);
        assert_ne!(second.headers.get("Via"), first.headers.get("Via"));
        b.reply(&mut w, &second, 180, &[], "");
        assert!(matches!(w.event(), Event::Ringing(CALL, None)));
        b.reply(&mut w, &second, 200, &[], ANSWER);
        let ack = b.take(&mut w, Method::Ack);
        assert_eq!(number(&ack), number(&second));
        assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
        w.command(Command::End(CALL, refusal(480, 16)));
        let bye = b.take(&mut w, Method::Bye);
        challenge(&mut w, &mut b, &bye, status);
        let again = b.take(&mut w, Method::Bye);
        assert_proved(&again, header);
        assert!(number(&again) > number(&bye));
        b.reply(&mut w, &again, 200, &[], "");
        w.all_quiet();
    }
}

#[test]
fn who_refuses_our_credentials_is_not_asked_again() {
    let (mut w, mut b) = (world(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(relay(OFFER)));
    for round in 0..2 {
        let invite = b.take(&mut w, Method::Invite);
        assert_eq!(invite.headers.get("Authorization").is_some(), round == 1);
        challenge(&mut w, &mut b, &invite, 401);
        b.take(&mut w, Method::Ack);
    }
    b.nothing(&w);
    assert!(matches!(w.event(), Event::Refused { call: CALL, status: 401, .. }));
    w.all_quiet();
}

/// A nonce that was too old: the new one is answered once, of each kind of request.
#[test]
fn a_stale_nonce_is_answered_once_more_with_the_new_one() {
    for (status, asks, proof) in
        [(401, "WWW-Authenticate", "Authorization"), (407, "Proxy-Authenticate", "Proxy-Authorization")]
    {
        let (mut w, mut b) = (world(), Ua::new("203.0.113.2:5060"));
        w.invite(&b, Some(relay(OFFER)));
        let mut numbers = Vec::new();
        for (round, nonce) in ["n1", "n2", "n3"].into_iter().enumerate() {
            let invite = b.take(&mut w, Method::Invite);
            numbers.push(number(&invite));
            let before = ["", "nonce=\"n1\"", "nonce=\"n2\""][round];
            assert!(round == 0 || invite.headers.get(proof).unwrap().contains(before), "{round}");
            assert_eq!(invite.headers.all(proof).count(), usize::from(round > 0));
            let stale = if round == 0 { "" } else { ", stale=TRUE" };
            let asked = format!("{asks}: Digest realm=\"peer\", nonce=\"{nonce}\", qop=\"auth\"{stale}");
            b.reply(&mut w, &invite, status, &[&asked], "");
            b.take(&mut w, Method::Ack);
        }
        assert_eq!(numbers, [1, 2, 3]);
        b.nothing(&w);
        match w.event() {
            Event::Refused { call: CALL, status: refused, .. } => assert_eq!(refused, status),
            other => panic!("{other:?}"),
        }
        w.all_quiet();
    }
}

#[test]
fn a_stale_nonce_in_a_call_and_one_that_is_the_same_again() {
    let (mut w, mut b) = (world(), Ua::new("203.0.113.2:5060"));
    let call = b.answered(&mut w, &[]);
    let asked =
        |nonce: &str| format!("WWW-Authenticate: Digest realm=\"peer\", nonce=\"{nonce}\", stale=true");
    w.command(Command::Offer(call, Some(relay(HOLD))));
    for nonce in ["n1", "n2"] {
        let invite = b.take(&mut w, Method::Invite);
        b.reply(&mut w, &invite, 401, &[&asked(nonce)], "");
        b.take(&mut w, Method::Ack);
    }
    let invite = b.take(&mut w, Method::Invite);
    assert!(invite.headers.get("Authorization").unwrap().contains("nonce=\"n2\""));
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answer(..)));
    w.command(Command::End(call, refusal(480, 16)));
    for _ in 0..2 {
        let bye = b.take(&mut w, Method::Bye);
        b.reply(&mut w, &bye, 401, &[&asked("n9")], "");
    }
    b.nothing(&w);
    w.all_quiet();
}

#[test]
fn without_credentials_a_challenge_is_a_refusal() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    challenge(&mut w, &mut b, &invite, 407);
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Refused { call: CALL, status: 407, .. }));
    w.all_quiet();
}

#[test]
fn a_cancelled_call_does_not_answer_the_challenge() {
    let (mut w, mut b) = (world(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    w.command(Command::End(CALL, refusal(487, 16)));
    challenge(&mut w, &mut b, &invite, 401);
    b.take(&mut w, Method::Ack);
    b.nothing(&w);
    w.all_quiet();
}

#[test]
fn requests_within_a_call_are_proved_too() {
    let (mut w, mut b) = (world(), Ua::new("203.0.113.2:5060"));
    let call = b.answered(&mut w, &[]);
    w.command(Command::Offer(call, Some(relay(HOLD))));
    let first = b.take(&mut w, Method::Invite);
    challenge(&mut w, &mut b, &first, 407);
    b.take(&mut w, Method::Ack);
    let second = b.take(&mut w, Method::Invite);
    assert_proved(&second, "Proxy-Authorization");
    assert_eq!((number(&second), &second.body), (number(&first) + 1, &first.body));
    b.reply(&mut w, &second, 200, &[], ANSWER);
    assert_eq!(number(&b.take(&mut w, Method::Ack)), number(&second));
    assert!(matches!(w.event(), Event::Answer(..)));

    w.command(Command::Digit(call, '5', 100));
    let info = b.take(&mut w, Method::Info);
    challenge(&mut w, &mut b, &info, 401);
    let again = b.take(&mut w, Method::Info);
    assert_proved(&again, "Authorization");
    assert_eq!((number(&again), &again.body), (number(&info) + 1, &info.body));
    b.reply(&mut w, &again, 481, &[], "");
    assert!(matches!(w.event(), Event::Ended { .. }), "its answer belongs to the call");
    let bye = b.take(&mut w, Method::Bye);
    assert!(number(&bye) > number(&again));
    b.reply(&mut w, &bye, 200, &[], "");
    w.all_quiet();
}

#[test]
fn a_trunk_may_be_known_by_its_digest_alone() {
    let mut w = World::with_account();
    w.book.digest_trunks = vec!["phone".into()];
    let mut stranger = Ua::new("192.0.2.77:5060");
    stranger.signed(&mut w, "INVITE", &[], OFFER);
    stranger.expect(&mut w, 100);
    let call = match w.event() {
        Event::Incoming { call, source: sip::port::Source::Trunk(name), .. } if &*name == "phone" => call,
        other => panic!("{other:?}"),
    };
    w.command(Command::Refuse(call, refusal(486, 17)));
    stranger.expect(&mut w, 486);
    stranger.acknowledge_refusal(&mut w);
    w.all_quiet();
}
