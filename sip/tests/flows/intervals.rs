//! How long a peer may be silent, whatever it wished (RFC 4028).

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, Event};
use std::time::Duration;

/// A world whose sessions last no longer than this many seconds.
fn world(most: u64) -> World {
    let mut config = config();
    config.session_expires = Duration::from_secs(most);
    World::with(config)
}

/// Calls with these headers and is answered; what the 200 says of the session.
fn calls(w: &mut World, a: &mut Ua, headers: &[&str]) -> (Option<String>, bool) {
    a.request(w, "INVITE", headers, OFFER);
    a.expect(w, 100);
    let call = match w.event() {
        Event::Incoming { call, .. } => call,
        other => panic!("{other:?}"),
    };
    w.command(Command::Accept(call, relay(ANSWER)));
    let ok = a.expect(w, 200);
    a.request(w, "ACK", &[], "");
    (ok.headers.get("Session-Expires").map(Into::into), ok.headers.has_token("Require", "timer"))
}

#[test]
fn a_day_is_cut_to_the_longest_interval_and_who_vanishes_is_asked_and_let_go() {
    for most in [90, 600, 1800] {
        let (mut w, mut a) = (world(most), Ua::new("203.0.113.1:5060"));
        let said = calls(
            &mut w,
            &mut a,
            &["Supported: timer", "Session-Expires: 86400;refresher=uac", "Allow: UPDATE"],
        );
        assert_eq!(said, (Some(format!("{most};refresher=uac")), true));
        w.seconds(most / 2);
        a.nothing(&w);
        w.seconds(most / 4);
        a.take(&mut w, Method::Update);
        w.seconds(most / 4);
        a.forget(&mut w);
        assert!(matches!(w.event(), Event::Ended { cause: 102, .. }), "{most}");
        w.all_quiet();
    }
}

#[test]
fn who_answers_the_question_keeps_its_call() {
    let (mut w, mut a) = (world(90), Ua::new("203.0.113.1:5060"));
    calls(&mut w, &mut a, &["Supported: timer", "Session-Expires: 3600;refresher=uac", "Allow: UPDATE"]);
    for _ in 0..50 {
        w.pass(Duration::from_millis(52_500));
        let update = a.take(&mut w, Method::Update);
        a.reply(&mut w, &update, 200, &["Session-Expires: 90;refresher=uas"], "");
    }
    w.no_event();
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn who_renews_as_it_said_is_not_asked() {
    let (mut w, mut a) = (world(90), Ua::new("203.0.113.1:5060"));
    calls(&mut w, &mut a, &["Supported: timer", "Session-Expires: 90;refresher=uac", "Allow: UPDATE"]);
    for _ in 0..20 {
        w.seconds(45);
        a.request(&mut w, "UPDATE", &["Supported: timer", "Session-Expires: 90;refresher=uac"], "");
        a.expect(&mut w, 200);
    }
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn peers_without_timers_are_asked_by_re_invite() {
    let (mut w, mut a) = (world(90), Ua::new("203.0.113.1:5060"));
    assert_eq!(calls(&mut w, &mut a, &[]).0.as_deref(), Some("90;refresher=uas"));
    w.seconds(45);
    let invite = a.take(&mut w, Method::Invite);
    a.reply(&mut w, &invite, 200, &[], OFFER);
    a.take(&mut w, Method::Ack);
    w.no_event();
    w.seconds(45);
    a.take(&mut w, Method::Invite);
    w.seconds(40);
    a.forget(&mut w);
    assert!(matches!(w.event(), Event::Ended { cause: 102, .. }));
    w.all_quiet();
}

#[test]
fn a_callee_that_wants_to_renew_for_a_day_is_asked_too() {
    let (mut w, mut b) = (world(600), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    assert_eq!(invite.headers.get("Session-Expires"), Some("600"));
    b.reply(
        &mut w,
        &invite,
        200,
        &["Session-Expires: 86400;refresher=uas", "Require: timer", "Allow: UPDATE"],
        ANSWER,
    );
    b.take(&mut w, Method::Ack);
    w.event();
    w.seconds(449);
    b.nothing(&w);
    w.seconds(1);
    b.take(&mut w, Method::Update);
    w.seconds(33);
    b.forget(&mut w);
    assert!(matches!(w.event(), Event::Ended { cause: 102, .. }));
    w.all_quiet();
}

/// What a peer's Min-SE wants stands on the wire; the node asks when it likes.
#[test]
fn a_least_interval_above_ours_does_not_prolong_our_patience() {
    let (mut w, mut a) = (world(600), Ua::new("203.0.113.1:5060"));
    let said = calls(
        &mut w,
        &mut a,
        &["Supported: timer", "Session-Expires: 7200;refresher=uac", "Min-SE: 3600", "Allow: UPDATE"],
    );
    assert_eq!(said.0.as_deref(), Some("3600;refresher=uac"));
    w.seconds(450);
    a.take(&mut w, Method::Update);
    w.seconds(33);
    a.forget(&mut w);
    assert!(matches!(w.event(), Event::Ended { cause: 102, .. }));
    w.all_quiet();

    let mut b = Ua::new("203.0.113.2:5060");
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 422, &["Min-SE: 3600"], "");
    b.take(&mut w, Method::Ack);
    let again = b.take(&mut w, Method::Invite);
    assert_eq!(again.headers.get("Session-Expires"), Some("3600"));
    b.reply(&mut w, &again, 200, &["Session-Expires: 3600;refresher=uac"], ANSWER);
    b.take(&mut w, Method::Ack);
    w.event();
    w.seconds(300);
    b.take(&mut w, Method::Invite);
}
