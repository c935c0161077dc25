//! What comes late, what is no longer valid, and whom a refusal names instead.

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, Destination, Event, Input};
use std::time::Duration;

fn offer(port: u16) -> String {
    OFFER.replace("audio 4000", &format!("audio {port}"))
}

#[test]
fn a_late_answer_to_a_re_invite_is_acknowledged_and_no_more() {
    // Ended by us, by the peer, and by its silence.
    for way in ["ours", "theirs", "silence"] {
        let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
        b.answered(&mut w, &[]);
        w.command(Command::Offer(CALL, Some(relay(HOLD))));
        let invite = b.take(&mut w, Method::Invite);
        match way {
            "ours" => {
                w.command(Command::End(CALL, refusal(480, 16)));
                let bye = b.take(&mut w, Method::Bye);
                b.reply(&mut w, &bye, 200, &[], "");
            }
            "theirs" => {
                b.cseq = 50;
                b.hangs_up(&mut w);
            }
            _ => {
                w.seconds(33);
                b.forget(&mut w);
                assert!(matches!(w.event(), Event::Ended { cause: 102, .. }));
                w.seconds(33);
                b.forget(&mut w);
            }
        }
        b.nothing(&w);
        b.reply(&mut w, &invite, 200, &[], ANSWER);
        let ack = b.take(&mut w, Method::Ack);
        assert_eq!(ack.headers.cseq().unwrap().number, invite.headers.cseq().unwrap().number, "{way}");
        assert!(ack.body.is_empty());
        b.reply(&mut w, &invite, 200, &[], ANSWER);
        assert_eq!(b.take(&mut w, Method::Ack).write(), ack.write(), "its copy too");
        b.nothing(&w);
        w.all_quiet();
    }
}

#[test]
fn a_late_answer_with_an_offer_is_answered_in_the_ack() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &[]);
    w.command(Command::Offer(CALL, None));
    let invite = b.take(&mut w, Method::Invite);
    w.command(Command::End(CALL, refusal(480, 16)));
    let bye = b.take(&mut w, Method::Bye);
    b.reply(&mut w, &bye, 200, &[], "");
    b.reply(&mut w, &invite, 200, &[], OFFER);
    let ack = b.take(&mut w, Method::Ack);
    assert!(body(&ack.body).contains("m=audio "), "each offer has its answer");
    b.nothing(&w);
    w.all_quiet();
}

#[test]
fn an_invitation_that_is_no_longer_valid_gets_487() {
    for (rings, before) in [(false, &[100][..]), (true, &[100, 180])] {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        a.request(&mut w, "INVITE", &["Expires: 2"], OFFER);
        let call = match w.event() {
            Event::Incoming { call, .. } => call,
            other => panic!("{other:?}"),
        };
        if rings {
            w.command(Command::Ring(call, None));
        }
        before.iter().for_each(|status| drop(a.expect(&mut w, *status)));
        w.pass(Duration::from_millis(1999));
        a.nothing(&w);
        w.pass(Duration::from_millis(1));
        let over = a.expect(&mut w, 487);
        assert_eq!(over.headers.get("Reason"), Some("Q.850;cause=102"));
        assert!(matches!(w.event(), Event::Ended { cause: 102, .. }));
        a.acknowledge_refusal(&mut w);
        w.command(Command::Accept(call, relay(ANSWER)));
        a.nothing(&w);
        w.all_quiet();
    }
}

#[test]
fn expires_of_nothing_of_a_lifetime_and_of_an_answered_call() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &["Expires: 0"], OFFER);
    a.expect(&mut w, 487);
    a.acknowledge_refusal(&mut w);
    w.no_event();
    for expires in ["Expires: 1", "Expires: 99999999999999999999", "Expires: soon"] {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        a.request(&mut w, "INVITE", &[expires], OFFER);
        a.expect(&mut w, 100);
        let call = match w.event() {
            Event::Incoming { call, .. } => call,
            other => panic!("{other:?}"),
        };
        w.command(Command::Accept(call, relay(ANSWER)));
        a.expect(&mut w, 200);
        a.request(&mut w, "ACK", &[], "");
        w.seconds(30);
        // In a re-INVITE it says nothing: the node answers when it can.
        a.request(&mut w, "INVITE", &["Expires: 1"], HOLD);
        a.expect(&mut w, 100);
        w.seconds(5);
        a.nothing(&w);
        assert!(matches!(w.event(), Event::Offer(..)));
        w.command(Command::Answer(call, relay(ANSWER)));
        a.expect(&mut w, 200);
        a.request(&mut w, "ACK", &[], "");
        a.hangs_up(&mut w);
        w.all_quiet();
    }
}

/// RFC 6337 table 1, the rows of an unanswered call: an answer in a reliable provisional, then an offer of the caller.
#[test]
fn an_offer_after_an_acknowledged_answer_is_no_glare() {
    for carrier in ["UPDATE", "PRACK"] {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        a.request(&mut w, "INVITE", &["Supported: 100rel"], OFFER);
        a.expect(&mut w, 100);
        let call = match w.event() {
            Event::Incoming { call, .. } => call,
            other => panic!("{other:?}"),
        };
        // Before that only the INVITE's own offer is there.
        a.request(&mut w, "UPDATE", &[], &offer(4002));
        a.remote_tag = None;
        assert!(a.expect(&mut w, 481).headers.to_tag().is_some() || carrier == "PRACK");
        w.command(Command::Ring(call, Some(relay(ANSWER))));
        let rseq = a.expect(&mut w, 183).headers.number("RSeq").unwrap();
        let rack = format!("RAck: {rseq} 1 INVITE");
        if carrier == "UPDATE" {
            a.request(&mut w, "PRACK", &[&rack], "");
            a.expect(&mut w, 200);
            a.request(&mut w, "UPDATE", &[], &offer(4004));
        } else {
            a.request(&mut w, "PRACK", &[&rack], &offer(4004));
        }
        match w.event() {
            Event::Offer(got, Some(read)) => assert_eq!((got, read.audio[0].address.port()), (call, 4004)),
            other => panic!("{carrier}: {other:?}"),
        }
        w.command(Command::Answer(call, relay(ANSWER)));
        assert!(body(&a.expect(&mut w, 200).body).contains("m=audio 5000"), "{carrier}");
        w.command(Command::Accept(call, relay(ANSWER)));
        assert!(a.expect(&mut w, 200).body.is_empty(), "the answer was given");
        a.request(&mut w, "ACK", &[], "");
        w.seconds(3);
        a.forget(&mut w);
        w.command(Command::End(call, refusal(480, 16)));
        w.seconds(40);
        a.forget(&mut w);
        w.all_quiet();
    }
}

fn refused_by(w: &mut World, b: &mut Ua, status: u16, headers: &[&str]) -> Vec<String> {
    w.invite(b, Some(local()));
    let invite = b.take(w, Method::Invite);
    b.contact = "<sip:ignored@203.0.113.2>;expires=0".into();
    b.reply(w, &invite, status, headers, "");
    b.take(w, Method::Ack);
    match w.event() {
        Event::Refused { call: CALL, redirect_to, .. } => redirect_to,
        other => panic!("{other:?}"),
    }
}

#[test]
fn contacts_of_a_redirection_come_by_their_q() {
    let many: String = (1..=20).map(|n| format!("<sip:{n}@h>")).collect::<Vec<_>>().join(",");
    let many = format!("Contact: {many}");
    let cases: &[(u16, &[&str], &[&str])] = &[
        (302, &["Contact: <sip:1@h>;q=0.2, <sip:2@h>;q=0.9", "Contact: <sip:3@h>;q=0.5"], &["2", "3", "1"]),
        (300, &["Contact: <sip:1@h>, <sip:2@h>;q=1.0, <sip:3@h>;q=0.999"], &["1", "2", "3"]),
        (301, &["Contact: <sip:1@h>;expires=0, <sip:2@h>;expires=60, <tel:3>"], &["2", "3"]),
        (302, &["Contact: <mailto:a@h>, <http://h/>, <sip:h>, <sip:4@h>, <sip:4@other>;q=0.1"], &["4"]),
        (302, &["Contact: *"], &[]),
        (302, &[], &[]),
        (303, &["Contact: <sip:1@h>"], &["1"]),
        (305, &["Contact: <sip:1@proxy>"], &[]),
        (380, &["Contact: <sip:1@h>"], &[]),
        (486, &["Contact: <sip:1@h>"], &[]),
        (302, &[&many], &["1", "2", "3", "4", "5", "6", "7", "8"]),
    ];
    for (status, headers, expected) in cases {
        let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
        assert_eq!(refused_by(&mut w, &mut b, *status, headers), *expected, "{status} {headers:?}");
        w.all_quiet();
    }
}

#[test]
fn what_several_contacts_of_a_phone_name_is_joined() {
    let mut w = World::with_account();
    let mut phones = [Ua::new("192.0.2.1:5060"), Ua::new("192.0.2.2:5060")];
    for phone in &mut phones {
        phone.to = "sip:2001@node".into();
        phone.registers(&mut w);
        w.event();
    }
    w.invite_to(Destination::Account { id: "phone".into(), number: "2001".into() }, Some(local()));
    for (phone, contacts) in phones.iter_mut().zip(["<sip:7@h>, <sip:8@h>", "<sip:8@h>, <sip:9@h>"]) {
        let invite = phone.take(&mut w, Method::Invite);
        phone.contact = "<sip:x@h>;expires=0".into();
        phone.reply(&mut w, &invite, 302, &[&format!("Contact: {contacts}")], "");
        phone.take(&mut w, Method::Ack);
    }
    match w.event() {
        Event::Refused { status: 302, redirect_to, .. } => assert_eq!(redirect_to, ["7", "8", "9"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unreachable_peer_is_out_of_order_and_a_silent_one_is_not() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    w.input(Input::Undelivered { hop: b.hop, quoted: invite.write() });
    assert!(matches!(w.event(), Event::Refused { status: 502, cause: Some(27), .. }));
    w.all_quiet();
    w.invite(&b, Some(local()));
    b.take(&mut w, Method::Invite);
    w.seconds(32);
    b.forget(&mut w);
    assert!(matches!(w.event(), Event::Refused { status: 408, cause: None, .. }));
    w.all_quiet();
}

#[test]
fn an_info_that_gets_200_has_given_its_digit() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    for (content_type, text, digit) in [
        ("application/dtmf-relay", "5", Some('5')),
        ("application/dtmf", "Signal=5", Some('5')),
        ("application/dtmf-relay", "Signal=11\r\nDuration=160\r\n", Some('#')),
        ("application/dtmf; charset=us-ascii", "10", Some('*')),
        ("application/dtmf-relay", "Signal=hf", None),
        ("application/dtmf", "56", None),
        ("text/plain", "5", None),
    ] {
        a.request(&mut w, "INFO", &[&format!("Content-Type: {content_type}")], text);
        match digit {
            Some(digit) => {
                a.expect(&mut w, 200);
                assert!(matches!(w.event(), Event::Digit(c, got, _) if (c, got) == (call, digit)), "{text}");
            }
            None => {
                let refused = a.expect(&mut w, 415);
                assert!(refused.headers.get("Accept").is_some_and(|a| a.contains("dtmf-relay")), "{text}");
                w.no_event();
            }
        }
    }
    a.hangs_up(&mut w);
    w.all_quiet();
}
