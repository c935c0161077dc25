//! What happens while a call is up.

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, Event, Identity};
use std::time::Duration;

const ALLOWS_UPDATE: &[&str] = &["Allow: INVITE, ACK, BYE, UPDATE"];

#[test]
fn the_peer_holds() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    a.request(&mut w, "INVITE", &[], HOLD);
    a.expect(&mut w, 100);
    assert!(matches!(w.event(), Event::Offer(c, Some(_)) if c == call));
    w.command(Command::Answer(call, relay(ANSWER)));
    a.expect(&mut w, 200);
    a.request(&mut w, "ACK", &[], "");
    w.seconds(5);
    a.nothing(&w);
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_refused_offer_leaves_all_as_it_was() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    a.request(&mut w, "INVITE", &[], HOLD);
    a.expect(&mut w, 100);
    w.event();
    w.command(Command::RefuseOffer(call, 488));
    a.expect(&mut w, 488);
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_refresh_that_says_nothing_new_stays_here() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.established(&mut w);
    a.request(&mut w, "INVITE", &["Supported: timer", "Session-Expires: 600;refresher=uac"], OFFER);
    let ok = a.expect(&mut w, 200);
    assert_eq!(ok.headers.get("Session-Expires"), Some("600;refresher=uac"));
    assert!(ok.headers.has_token("Require", "timer"));
    a.request(&mut w, "ACK", &[], "");
    w.no_event();
    w.seconds(449);
    w.no_event();
    a.nothing(&w);
    w.seconds(1);
    a.take(&mut w, Method::Update);
    w.seconds(32);
    a.forget(&mut w);
    assert!(matches!(w.event(), Event::Ended { cause: 102, .. }), "asked at three quarters, and silent");
    w.all_quiet();
}

#[test]
fn we_hold_and_the_ack_repeats() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &[]);
    w.command(Command::Offer(CALL, Some(relay(HOLD))));
    let invite = b.take(&mut w, Method::Invite);
    assert!(body(&invite.body).contains(" 2 IN IP4 198.51.100.1\r\n"), "a new version");
    w.command(Command::Offer(CALL, Some(relay(OFFER))));
    b.nothing(&w);
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    let ack = b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answer(CALL, _)));
    let queued = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    assert_eq!(b.take(&mut w, Method::Ack).write(), ack.write());
    b.reply(&mut w, &queued, 488, &[], "");
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::OfferRefused(CALL, 488)));
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn we_ask_for_the_peers_offer() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &[]);
    w.command(Command::Offer(CALL, None));
    let invite = b.take(&mut w, Method::Invite);
    assert!(invite.body.is_empty());
    b.reply(&mut w, &invite, 200, &[], OFFER);
    assert!(matches!(w.event(), Event::Offer(CALL, Some(_))));
    b.nothing(&w);
    w.command(Command::Answer(CALL, local()));
    assert!(body(&b.take(&mut w, Method::Ack).body).contains("m=audio 4000"));
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn the_peer_asks_for_our_offer() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    a.request(&mut w, "INVITE", &[], "");
    a.expect(&mut w, 100);
    assert!(matches!(w.event(), Event::Offer(_, None)));
    w.command(Command::Answer(call, local()));
    assert!(body(&a.expect(&mut w, 200).body).contains("m=audio 4000"));
    a.request(&mut w, "ACK", &[], OFFER);
    assert!(matches!(w.event(), Event::Answer(..)));
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn glare_is_491_and_ours_goes_again_later() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &[]);
    w.command(Command::Offer(CALL, Some(relay(HOLD))));
    let invite = b.take(&mut w, Method::Invite);
    b.cseq = 50;
    b.request(&mut w, "INVITE", &[], HOLD);
    b.expect(&mut w, 491);
    b.acknowledge_refusal(&mut w);
    b.reply(&mut w, &invite, 491, &[], "");
    b.take(&mut w, Method::Ack);
    w.pass(Duration::from_millis(2090));
    b.nothing(&w);
    w.pass(Duration::from_millis(1910));
    let again = b.take(&mut w, Method::Invite);
    assert!(again.headers.cseq().unwrap().number > invite.headers.cseq().unwrap().number);
    b.reply(&mut w, &again, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answer(..)));
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_second_offer_of_the_peer_has_to_wait() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    a.request(&mut w, "INVITE", &[], HOLD);
    a.expect(&mut w, 100);
    a.request(&mut w, "UPDATE", &[], OFFER);
    assert!(a.expect(&mut w, 500).headers.number("Retry-After").is_some_and(|s| s <= 10));
    w.event();
    w.command(Command::Offer(call, Some(local())));
    assert!(matches!(w.event(), Event::OfferRefused(_, 491)));
    w.command(Command::Answer(call, relay(ANSWER)));
    a.expect(&mut w, 200);
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 491);
    w.command(Command::End(call, refusal(480, 16)));
    a.nothing(&w);
    a.invite_cseq = 2;
    a.request(&mut w, "ACK", &[], "");
    a.take(&mut w, Method::Bye);
    w.all_quiet();
}

#[test]
fn an_old_number_is_refused() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.established(&mut w);
    a.cseq = 10;
    a.request(&mut w, "OPTIONS", &[], "");
    a.expect(&mut w, 200);
    a.cseq = 5;
    a.request(&mut w, "OPTIONS", &[], "");
    a.expect(&mut w, 500);
    a.cseq = 20;
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_lost_dialog_ends() {
    for status in [408, 481] {
        let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
        b.answered(&mut w, &[]);
        w.command(Command::Offer(CALL, Some(relay(HOLD))));
        let invite = b.take(&mut w, Method::Invite);
        b.reply(&mut w, &invite, status, &[], "");
        b.take(&mut w, Method::Ack);
        b.take(&mut w, Method::Bye);
        assert!(matches!(w.event(), Event::Ended { .. }));
        w.all_quiet();
    }
}

#[test]
fn the_session_is_renewed_by_update_or_else_by_invite() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &["Allow: UPDATE", "Session-Expires: 600;refresher=uac"]);
    w.seconds(299);
    b.nothing(&w);
    w.pass(Duration::from_millis(1200));
    let update = b.take(&mut w, Method::Update);
    assert!(update.body.is_empty());
    assert_eq!(update.headers.get("Session-Expires"), Some("600;refresher=uac"));
    b.reply(&mut w, &update, 501, &[], "");
    let invite = b.take(&mut w, Method::Invite);
    assert!(body(&invite.body).contains(" 1 IN IP4 198.51.100.1\r\n"), "nothing has changed");
    b.reply(&mut w, &invite, 200, &["Session-Expires: 600;refresher=uac"], ANSWER);
    b.take(&mut w, Method::Ack);
    w.no_event();
    w.seconds(290);
    w.no_event();
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_peer_that_vanished_is_found() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &[]);
    w.unreachable.push(b.hop.remote);
    w.seconds(1800);
    assert!(matches!(w.event(), Event::Ended { cause: 102, .. }));
    w.all_quiet();
}

#[test]
fn digits_and_other_infos() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    a.request(&mut w, "INFO", &["Content-Type: application/dtmf-relay"], "Signal=5\r\nDuration=160\r\n");
    a.expect(&mut w, 200);
    assert!(matches!(w.event(), Event::Digit(c, '5', 160) if c == call));
    a.request(&mut w, "INFO", &["Content-Type: application/media_control+xml"], "<x/>");
    assert!(a.expect(&mut w, 415).headers.get("Accept").is_some());
    a.request(&mut w, "INFO", &[], "");
    a.expect(&mut w, 200);
    w.command(Command::Digit(call, '#', 100));
    let info = a.take(&mut w, Method::Info);
    assert_eq!(info.body, b"Signal=#\r\nDuration=100\r\n");
    a.reply(&mut w, &info, 200, &[], "");
    for (method, status) in [("REFER", 400), ("FOO", 501), ("PRACK", 481), ("OPTIONS", 200)] {
        a.request(&mut w, method, &[], "");
        a.expect(&mut w, status);
    }
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn whom_the_peer_talks_to_is_told() {
    let eve = || Identity { number: "3003".into(), name: Some("Eve".into()), restricted: false };
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, ALLOWS_UPDATE);
    w.command(Command::Connected(CALL, eve()));
    let update = b.take(&mut w, Method::Update);
    assert_eq!(update.headers.get("P-Asserted-Identity"), Some("\"Eve\" <sip:3003@198.51.100.1>"));
    assert!(update.body.is_empty());
    b.reply(&mut w, &update, 200, &[], "");
    b.hangs_up(&mut w);
    w.all_quiet();
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &["Allow: INVITE, BYE"]);
    w.command(Command::Connected(CALL, eve()));
    b.nothing(&w);
    w.command(Command::Offer(CALL, Some(relay(HOLD))));
    let invite = b.take(&mut w, Method::Invite);
    assert!(invite.headers.get("P-Asserted-Identity").is_some());
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    w.event();
    b.take(&mut w, Method::Ack);
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_bye_answers_what_was_open() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.established(&mut w);
    a.request(&mut w, "INVITE", &[], HOLD);
    a.expect(&mut w, 100);
    w.event();
    a.request(&mut w, "BYE", &["Reason: Q.850;cause=31"], "");
    a.expect(&mut w, 200);
    a.expect(&mut w, 487);
    assert!(matches!(w.event(), Event::Ended { cause: 31, .. }));
    w.all_quiet();
}
