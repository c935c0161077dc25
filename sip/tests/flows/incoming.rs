//! Calls that come in.

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, Event, Source};
use std::time::Duration;

fn incoming(world: &mut World) -> sip::InviteHandle {
    match world.event() {
        Event::Incoming { call, .. } => call,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rings_is_answered_and_hangs_up() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &["P-Asserted-Identity: \"Eve\" <sip:777@x>"], OFFER);
    a.expect(&mut w, 100);
    let call = match w.event() {
        Event::Incoming {
            call,
            source: Source::Trunk(trunk),
            dialled,
            from,
            diverted: None,
            offer,
            max_forwards,
            hops: 0,
        } => {
            assert_eq!((&*trunk, dialled.as_str(), max_forwards), ("T", "5000", 70));
            assert_eq!((from.number.as_str(), from.name.as_deref()), ("777", Some("Eve")));
            assert_eq!(offer.unwrap().audio[0].address.port(), 4000);
            call
        }
        other => panic!("{other:?}"),
    };
    assert!(call.0 >> 63 == 1);
    w.command(Command::Ring(call, None));
    let ringing = a.expect(&mut w, 180);
    assert_eq!(ringing.headers.get("Contact"), Some("<sip:5000@198.51.100.1:5060>"));
    w.command(Command::Accept(call, relay(ANSWER)));
    let ok = a.expect(&mut w, 200);
    assert!(body(&ok.body).contains("m=audio 5000 RTP/AVP 0"));
    assert!(ok.headers.get("Allow").is_some_and(|allow| allow.contains("UPDATE")));
    assert_eq!(ok.headers.get("Session-Expires"), Some("1800;refresher=uas"));
    a.request(&mut w, "ACK", &[], "");
    w.no_event();
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn the_200_repeats_until_its_ack() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    w.command(Command::Accept(call, relay(ANSWER)));
    let first = a.expect(&mut w, 200);
    w.pass(Duration::from_millis(1600));
    assert_eq!(a.expect(&mut w, 200).write(), first.write());
    assert_eq!(a.expect(&mut w, 200).write(), first.write());
    a.nothing(&w);
    a.request(&mut w, "ACK", &[], "");
    w.seconds(60);
    a.nothing(&w);
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn without_an_ack_the_call_ends() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], OFFER);
    let call = incoming(&mut w);
    w.command(Command::Accept(call, relay(ANSWER)));
    w.pass(Duration::from_millis(31_900));
    w.no_event();
    a.forget(&mut w);
    w.pass(Duration::from_millis(200));
    assert!(matches!(w.event(), Event::Ended { cause: 102, .. }));
    a.take(&mut w, Method::Bye);
    w.all_quiet();
}

#[test]
fn a_node_that_hangs_up_at_once_waits_for_the_ack() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    w.command(Command::Accept(call, relay(ANSWER)));
    a.expect(&mut w, 200);
    w.command(Command::End(call, refusal(480, 16)));
    a.nothing(&w);
    a.request(&mut w, "ACK", &[], "");
    let bye = a.take(&mut w, Method::Bye);
    assert_eq!(bye.headers.get("Reason"), Some("Q.850;cause=16"));
    a.reply(&mut w, &bye, 200, &[], "");
    w.all_quiet();
}

#[test]
fn cancel_ends_it() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    w.command(Command::Ring(call, None));
    a.expect(&mut w, 180);
    a.request(&mut w, "CANCEL", &["Reason: Q.850;cause=19"], "");
    a.expect(&mut w, 200);
    a.expect(&mut w, 487);
    assert!(matches!(w.event(), Event::Ended { cause: 19, .. }));
    w.command(Command::Accept(call, relay(ANSWER)));
    a.nothing(&w);
    w.all_quiet();
}

#[test]
fn refused_with_status_reason_and_retry_after() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    let refusal = sip::port::Refusal { status: 503, cause: 42, retry_after: Some(7) };
    w.command(Command::Refuse(call, refusal));
    let refused = a.expect(&mut w, 503);
    assert_eq!(refused.headers.get("Retry-After"), Some("7"));
    assert_eq!(refused.headers.get("Reason"), Some("Q.850;cause=42"));
    w.all_quiet();
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], "");
    a.expect(&mut w, 100);
    let call = match w.event() {
        Event::Incoming { call, offer: None, .. } => call,
        other => panic!("{other:?}"),
    };
    w.command(Command::Ring(call, Some(local())));
    assert!(a.expect(&mut w, 180).body.is_empty(), "an offer may not stand in an unreliable provisional");
    w.command(Command::Accept(call, local()));
    assert!(body(&a.expect(&mut w, 200).body).contains("m=audio 4000"));
    a.request(&mut w, "ACK", &[], ANSWER);
    match w.event() {
        Event::Answer(got, read) => assert_eq!((got, read.audio[0].address.port()), (call, 5000)),
        other => panic!("{other:?}"),
    }
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn early_media_is_reliable_for_who_knows_100rel() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &["Supported: 100rel"], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    w.command(Command::Ring(call, Some(relay(ANSWER))));
    let early = a.expect(&mut w, 183);
    let rseq = early.headers.number("RSeq").unwrap();
    w.pass(Duration::from_millis(1600));
    assert_eq!(a.expect(&mut w, 183).write(), early.write());
    assert_eq!(a.expect(&mut w, 183).write(), early.write());
    w.command(Command::Accept(call, relay(ANSWER)));
    a.nothing(&w);
    a.request(&mut w, "PRACK", &["RAck: 1 1 INVITE"], "");
    a.expect(&mut w, 481);
    a.request(&mut w, "PRACK", &[&format!("RAck: {rseq} 1 INVITE")], "");
    a.expect(&mut w, 200);
    assert!(a.expect(&mut w, 200).body.is_empty(), "the answer was given");
    a.request(&mut w, "ACK", &[], "");
    w.seconds(3);
    a.nothing(&w);
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn without_a_prack_the_call_ends_with_504() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &["Require: 100rel"], OFFER);
    let call = incoming(&mut w);
    w.command(Command::Ring(call, None));
    a.expect(&mut w, 100);
    assert!(a.expect(&mut w, 180).headers.has_token("Require", "100rel"));
    w.pass(Duration::from_millis(31_900));
    a.forget(&mut w);
    w.seconds(1);
    a.expect(&mut w, 504);
    assert!(matches!(w.event(), Event::Ended { .. }));
    w.all_quiet();
}

#[test]
fn what_an_invite_may_not_ask() {
    let cases: &[(&[&str], &str, u16, &str)] = &[
        (&["Require: foo, timer"], OFFER, 420, "Unsupported"),
        (&["Max-Forwards: 0"], OFFER, 483, ""),
        (&["Content-Type: text/plain"], "hello", 415, "Accept"),
        (&["Session-Expires: 30", "Supported: timer"], OFFER, 422, "Min-SE"),
        (&[], "no description", 488, ""),
    ];
    for (headers, body, status, header) in cases {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        a.request(&mut w, "INVITE", headers, body);
        let refused = a.expect(&mut w, *status);
        assert!(header.is_empty() || refused.headers.get(header).is_some(), "{status}");
        w.all_quiet();
    }
}

#[test]
fn overload_is_refused_before_any_work() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    w.book.busy = Some(9);
    a.request(&mut w, "INVITE", &["Require: foo"], OFFER);
    assert_eq!(a.expect(&mut w, 503).headers.get("Retry-After"), Some("9"));
    w.all_quiet();
    let (mut w, mut a) = (World::with(sip::Config { max_calls: 0, ..config() }), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], OFFER);
    assert!(a.expect(&mut w, 503).headers.number("Retry-After").is_some());
    w.all_quiet();
}

#[test]
fn requests_outside_dialogs() {
    let cases =
        [("OPTIONS", 200), ("BYE", 481), ("INFO", 481), ("UPDATE", 481), ("SUBSCRIBE", 489), ("FOO", 501)];
    for (method, status) in cases {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        a.request(&mut w, method, &[], "");
        let reply = a.expect(&mut w, status);
        assert_eq!(reply.headers.get("Allow").is_some(), matches!(status, 200 | 405), "{method}");
        w.all_quiet();
    }
}

#[test]
fn a_request_of_an_unknown_dialog_gets_481_and_an_ack_nothing() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.remote_tag = Some("nobody".into());
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 481);
    a.request(&mut w, "ACK", &[], "");
    a.nothing(&w);
    w.all_quiet();
}

#[test]
fn through_an_outbound_proxy_that_stays_in_the_way() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.9:5060"));
    a.contact = "<sip:2001@10.0.0.7>".into();
    let routes = ["Record-Route: <sip:203.0.113.9;lr>, <sip:10.0.0.2;lr>"];
    a.request(&mut w, "INVITE", &routes, OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    w.command(Command::Accept(call, relay(ANSWER)));
    let ok = a.expect(&mut w, 200);
    assert_eq!(ok.headers.get("Record-Route"), Some("<sip:203.0.113.9;lr>, <sip:10.0.0.2;lr>"));
    a.request(&mut w, "ACK", &[], "");
    w.command(Command::End(call, refusal(480, 16)));
    let bye = a.take(&mut w, Method::Bye);
    assert_eq!(bye.uri.as_str(), "sip:2001@10.0.0.7");
    assert_eq!(bye.headers.all("Route").collect::<Vec<_>>(), ["<sip:203.0.113.9;lr>", "<sip:10.0.0.2;lr>"]);
    w.all_quiet();
}

#[test]
fn whom_the_caller_will_talk_to_is_told_with_the_next_response() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    let bob = sip::port::Identity { number: "3003".into(), name: Some("Bob".into()), restricted: false };
    w.command(Command::Connected(call, bob));
    a.nothing(&w);
    w.command(Command::Ring(call, None));
    let ringing = a.expect(&mut w, 180);
    assert_eq!(ringing.headers.get("P-Asserted-Identity"), Some("\"Bob\" <sip:3003@198.51.100.1>"));
    w.command(Command::Accept(call, relay(ANSWER)));
    assert!(a.expect(&mut w, 200).headers.get("P-Asserted-Identity").is_none(), "once is enough");
    w.command(Command::End(call, refusal(480, 16)));
    w.all_quiet();
}

#[test]
fn a_description_that_changed_since_the_reliable_provisional_follows_as_an_offer() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &["Supported: 100rel"], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w);
    w.command(Command::Ring(call, Some(relay(ANSWER))));
    let rseq = a.expect(&mut w, 183).headers.number("RSeq").unwrap();
    a.request(&mut w, "PRACK", &[&format!("RAck: {rseq} 1 INVITE")], "");
    a.expect(&mut w, 200);
    w.command(Command::Accept(call, local()));
    assert!(a.expect(&mut w, 200).body.is_empty());
    a.request(&mut w, "ACK", &[], "");
    let change = a.take(&mut w, Method::Invite);
    assert!(body(&change.body).contains("m=audio 4000"));
    a.reply(&mut w, &change, 200, &[], OFFER);
    a.take(&mut w, Method::Ack);
    w.no_event();
    a.hangs_up(&mut w);
    w.all_quiet();
}
