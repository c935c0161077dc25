//! Calls that we place.

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, DiversionReason, Diverted, Event, Identity};

#[test]
fn rings_is_answered_and_is_hung_up() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    assert_eq!(invite.uri.as_str(), "sip:5000@peer.example");
    assert_eq!(invite.headers.get("Max-Forwards"), Some("69"));
    assert_eq!(invite.headers.get("Contact"), Some("<sip:2001@198.51.100.1:5060>"));
    assert_eq!(invite.headers.get("P-Asserted-Identity"), Some("<sip:2001@198.51.100.1>"));
    assert!(
        invite.headers.has_token("Supported", "100rel") && invite.headers.has_token("Supported", "timer")
    );
    assert!(body(&invite.body).contains("m=audio 4000"));
    b.reply(&mut w, &invite, 100, &[], "");
    w.no_event();
    b.reply(&mut w, &invite, 180, &[], "");
    assert!(matches!(w.event(), Event::Ringing(CALL, None)));
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    let ack = b.take(&mut w, Method::Ack);
    assert_eq!(ack.uri.as_str(), "sip:5000@203.0.113.2:5060");
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    w.no_event();
    w.command(Command::End(CALL, refusal(480, 16)));
    let bye = b.take(&mut w, Method::Bye);
    b.reply(&mut w, &bye, 200, &[], "");
    w.all_quiet();
}

#[test]
fn refusals_come_with_their_cause() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 486, &["Reason: Q.850;cause=17"], "");
    b.take(&mut w, Method::Ack);
    match w.event() {
        Event::Refused { call: CALL, status: 486, cause: Some(17), redirect_to }
            if redirect_to.is_empty() => {}
        other => panic!("{other:?}"),
    }
    w.all_quiet();
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.contact = "<sip:3003@elsewhere>".into();
    b.reply(&mut w, &invite, 302, &[], "");
    b.take(&mut w, Method::Ack);
    match w.event() {
        Event::Refused { status: 302, redirect_to, .. } => assert_eq!(redirect_to, ["3003"]),
        other => panic!("{other:?}"),
    }
    w.all_quiet();
}

#[test]
fn nobody_there() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    w.seconds(31);
    w.no_event();
    w.seconds(2);
    assert!(matches!(w.event(), Event::Refused { status: 408, .. }));
    b.take(&mut w, Method::Invite);
    b.forget(&mut w);
    w.all_quiet();
}

#[test]
fn a_late_offer_is_answered_in_the_ack_and_again() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, None);
    let invite = b.take(&mut w, Method::Invite);
    assert!(invite.body.is_empty() && !invite.headers.has_token("Supported", "100rel"));
    b.reply(&mut w, &invite, 200, &[], OFFER);
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
    b.reply(&mut w, &invite, 200, &[], OFFER);
    b.nothing(&w);
    w.no_event();
    w.command(Command::Answer(CALL, relay(ANSWER)));
    let ack = b.take(&mut w, Method::Ack);
    assert!(body(&ack.body).contains("m=audio 5000"));
    b.reply(&mut w, &invite, 200, &[], OFFER);
    assert_eq!(b.take(&mut w, Method::Ack).write(), ack.write());
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_late_offer_that_the_node_never_answers_is_acknowledged_and_hung_up() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, None);
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 200, &[], OFFER);
    w.event();
    w.command(Command::End(CALL, refusal(480, 16)));
    b.take(&mut w, Method::Ack);
    b.take(&mut w, Method::Bye);
    w.all_quiet();
}

#[test]
fn cancelled_before_anybody_answers() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    w.command(Command::End(CALL, refusal(480, 16)));
    b.nothing(&w);
    b.reply(&mut w, &invite, 180, &[], "");
    let cancel = b.take(&mut w, Method::Cancel);
    assert_eq!(cancel.headers.get("Reason"), Some("Q.850;cause=16"));
    b.reply(&mut w, &cancel, 200, &[], "");
    b.reply(&mut w, &invite, 487, &[], "");
    b.take(&mut w, Method::Ack);
    w.all_quiet();
}

#[test]
fn an_answer_that_crosses_the_cancel_is_hung_up() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 180, &[], "");
    w.event();
    w.command(Command::End(CALL, refusal(480, 16)));
    b.take(&mut w, Method::Cancel);
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    let bye = b.take(&mut w, Method::Bye);
    b.reply(&mut w, &bye, 200, &[], "");
    w.all_quiet();
}

#[test]
fn a_second_answer_of_a_fork_is_hung_up() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply_as(&mut w, &invite, "one", 183, &[], ANSWER);
    assert!(matches!(w.event(), Event::Ringing(_, Some(_))));
    b.reply_as(&mut w, &invite, "two", 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answered(..)));
    b.reply_as(&mut w, &invite, "one", 200, &[], ANSWER);
    let ack = b.take(&mut w, Method::Ack);
    assert_eq!(ack.headers.to_tag(), Some("one"));
    let bye = b.take(&mut w, Method::Bye);
    assert_eq!(bye.headers.to_tag(), Some("one"));
    w.no_event();
    b.local_tag = "two".into();
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn reliable_early_media() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 183, &["Require: 100rel", "RSeq: 8"], ANSWER);
    let prack = b.take(&mut w, Method::Prack);
    assert_eq!(prack.headers.get("RAck"), Some("8 1 INVITE"));
    assert!(matches!(w.event(), Event::Ringing(_, Some(_))));
    b.reply(&mut w, &invite, 183, &["Require: 100rel", "RSeq: 8"], ANSWER);
    b.reply(&mut w, &invite, 183, &["Require: 100rel", "RSeq: 11"], ANSWER);
    b.nothing(&w);
    b.reply(&mut w, &prack, 200, &[], "");
    b.reply(&mut w, &invite, 200, &[], "");
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answered(_, None)));
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn update_before_the_answer_both_ways() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 183, &["Require: 100rel", "RSeq: 1", "Allow: UPDATE"], ANSWER);
    let prack = b.take(&mut w, Method::Prack);
    b.reply(&mut w, &prack, 200, &[], "");
    w.event();
    w.command(Command::Offer(CALL, Some(relay(HOLD))));
    let update = b.take(&mut w, Method::Update);
    assert!(body(&update.body).contains("a=sendonly"));
    b.reply(&mut w, &update, 200, &[], ANSWER);
    assert!(matches!(w.event(), Event::Answer(CALL, _)));
    b.cseq = 100;
    b.request(&mut w, "UPDATE", &[], HOLD);
    assert!(matches!(w.event(), Event::Offer(CALL, Some(_))));
    w.command(Command::Answer(CALL, relay(ANSWER)));
    assert!(body(&b.expect(&mut w, 200).body).contains("m=audio 5000"));
    b.reply(&mut w, &invite, 200, &[], "");
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answered(_, None)));
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_longer_session_interval_is_granted_once() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 422, &["Min-SE: 3600"], "");
    b.take(&mut w, Method::Ack);
    let again = b.take(&mut w, Method::Invite);
    assert_eq!(again.headers.get("Session-Expires"), Some("3600"));
    assert_eq!(again.headers.cseq().unwrap().number, 2);
    b.reply(&mut w, &again, 422, &["Min-SE: 7200"], "");
    assert!(matches!(w.event(), Event::Refused { status: 422, .. }));
    w.all_quiet();
}

#[test]
fn a_proxy_that_stays_in_the_way() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    let mut proxy = Ua::new("203.0.113.9:5060");
    w.stack.set_proxies(&["203.0.113.9".parse().unwrap()]);
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 200, &["Record-Route: <sip:203.0.113.9;lr>"], ANSWER);
    let ack = proxy.take(&mut w, Method::Ack);
    assert_eq!(ack.headers.get("Route"), Some("<sip:203.0.113.9;lr>"));
    assert_eq!(ack.uri.as_str(), "sip:5000@203.0.113.2:5060");
    w.event();
    w.command(Command::End(CALL, refusal(480, 16)));
    proxy.take(&mut w, Method::Bye);
    w.all_quiet();
}

#[test]
fn who_may_not_be_shown() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    let hidden = Identity { number: "2001".into(), name: Some("Ann".into()), restricted: true };
    let to = sip::port::Destination::Peer {
        trunk: "T".into(),
        transport: sip::Transport::Udp,
        remote: b.hop.remote,
        user: "5000".into(),
        host: "peer.example:5070".into(),
    };
    let party = |number: &str| Identity { number: number.into(), name: None, restricted: false };
    let sent_on = Diverted { by: party("4000"), original: party("4001") };
    let diverted = Some((sent_on, DiversionReason::NoAnswer));
    let called = Identity { number: "5000".into(), name: None, restricted: false };
    w.command(Command::Invite {
        call: CALL,
        to,
        from: hidden,
        called,
        diverted,
        offer: None,
        media_encryption: sip::port::MediaEncryption::None,
        max_forwards: 5,
        hops: 3,
    });
    let invite = b.take(&mut w, Method::Invite);
    assert_eq!(invite.uri.as_str(), "sip:5000@peer.example:5070");
    assert_eq!(invite.headers.get("Privacy"), Some("id"));
    assert_eq!(invite.headers.get("P-Asserted-Identity"), Some("\"Ann\" <sip:2001@198.51.100.1>"));
    assert!(
        invite.headers.get("From").unwrap().starts_with("\"Anonymous\" <sip:anonymous@anonymous.invalid>")
    );
    let remote = "\"Ann\" <sip:2001@198.51.100.1>;party=calling;screen=yes;privacy=full";
    assert_eq!(invite.headers.get("Remote-Party-ID"), Some(remote));
    let diversions: Vec<&str> = invite.headers.all("Diversion").collect();
    assert_eq!(
        diversions,
        [
            "<sip:4000@198.51.100.1>;reason=no-answer;privacy=off;screen=yes;counter=2",
            "<sip:4001@198.51.100.1>;reason=unknown;privacy=off;screen=yes;counter=1",
        ]
    );
    b.reply(&mut w, &invite, 603, &[], "");
    assert!(matches!(w.event(), Event::Refused { status: 603, .. }));
    w.all_quiet();
}

#[test]
fn a_flood_of_answers_is_not_followed() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    for tag in 0..40 {
        b.reply_as(&mut w, &invite, &format!("t{tag}"), 200, &[], ANSWER);
    }
    assert!(matches!(w.event(), Event::Answered(..)));
    let sent = w.inboxes.remove(&b.hop.remote).unwrap();
    assert_eq!(sent.len(), 1 + 2 * 16, "the winner's ACK, and ACK and BYE for as many as a fork may have");
    w.command(Command::End(CALL, refusal(480, 16)));
    w.all_quiet();
}

#[test]
fn a_caller_that_rings_for_ever_is_given_up() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 180, &[], "");
    assert!(matches!(w.event(), Event::Ringing(..)));
    w.seconds(150);
    b.reply(&mut w, &invite, 180, &[], "");
    w.seconds(190);
    b.nothing(&w);
    w.seconds(20);
    assert!(matches!(w.event(), Event::Refused { status: 408, .. }));
    b.take(&mut w, Method::Cancel);
    w.all_quiet();
}
