//! Requests within dialogs that come from elsewhere, and those that come too often.

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, Destination, Event, InviteHandle, Transport};
use std::time::Duration;

/// Everything that the dialog's peer could write, from another place.
fn imposter(of: &Ua, address: &str) -> Ua {
    let mut imposter = Ua::new(address);
    imposter.call_id.clone_from(&of.call_id);
    imposter.local_tag.clone_from(&of.local_tag);
    imposter.remote_tag.clone_from(&of.remote_tag);
    imposter.cseq = of.cseq + 10;
    imposter
}

/// A registered phone that has called and was answered.
fn phone_in_a_call(w: &mut World, address: &str) -> (Ua, InviteHandle) {
    let mut phone = Ua::new(address);
    phone.to = "sip:2001@node".into();
    phone.registers(w);
    w.event();
    phone.call_id += "-call";
    phone.signed(w, "INVITE", &[], OFFER);
    phone.expect(w, 100);
    let call = match w.event() {
        Event::Incoming { call, .. } => call,
        other => panic!("{other:?}"),
    };
    w.command(Command::Accept(call, relay(ANSWER)));
    phone.expect(w, 200);
    phone.request(w, "ACK", &[], "");
    w.no_event();
    (phone, call)
}

#[test]
fn a_trunks_dialog_is_closed_to_all_other_addresses() {
    for elsewhere in ["192.0.2.66:5060", "192.0.2.66:5061"] {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        a.established(&mut w);
        let mut imposter = imposter(&a, elsewhere);
        for (method, body) in [
            ("BYE", ""),
            ("INVITE", HOLD),
            ("UPDATE", HOLD),
            ("INFO", ""),
            ("OPTIONS", ""),
            ("PRACK", ""),
            ("REFER", ""),
        ] {
            imposter.request(&mut w, method, &["Supported: timer"], body);
            imposter.expect(&mut w, 481);
            imposter.remote_tag.clone_from(&a.remote_tag);
            if method == "INVITE" {
                imposter.acknowledge_refusal(&mut w);
            }
        }
        w.no_event();
        assert_eq!(w.stack.counts().refused_elsewhere, 7);
        w.seconds(2);
        assert_eq!(w.refused.iter().map(|refused| refused.elsewhere).sum::<u64>(), 7);
        assert_eq!(w.refused.len(), 2, "the first at once, the others a second later");
        assert_eq!(w.refused[0].from, imposter.hop.remote);
        // Its own requests are taken as ever, from another address of the trunk too.
        a.request(&mut w, "INVITE", &[], HOLD);
        a.expect(&mut w, 100);
        assert!(matches!(w.event(), Event::Offer(..)));
        let mut other = self::imposter(&a, "203.0.113.2:5060");
        other.hangs_up(&mut w);
        a.forget(&mut w);
        w.all_quiet();
    }
}

#[test]
fn a_phone_from_elsewhere_is_asked_and_others_learn_nothing() {
    let mut w = World::with_account();
    let mut mallory = w.book.accounts["2001"].clone();
    mallory.id = "mallory".into();
    w.book.accounts.insert("2002".into(), mallory);
    let (phone, call) = phone_in_a_call(&mut w, "192.0.2.1:5060");
    let tag = phone.remote_tag.clone();
    let mut elsewhere = imposter(&phone, "192.0.2.66:5060");
    for method in ["BYE", "UPDATE", "INFO"] {
        elsewhere.request(&mut w, method, &[], "");
        elsewhere.expect(&mut w, 401);
        elsewhere.remote_tag.clone_from(&tag);
    }
    // The right password of another account.
    elsewhere.signed_as(&mut w, "2002", "BYE", &[], "");
    elsewhere.expect(&mut w, 481);
    w.no_event();
    // The phone itself, whose address has changed: from then on it is there.
    elsewhere.remote_tag.clone_from(&tag);
    elsewhere.signed_as(&mut w, "2001", "INVITE", &[], HOLD);
    elsewhere.expect(&mut w, 100);
    assert!(matches!(w.event(), Event::Offer(c, Some(_)) if c == call));
    w.command(Command::Answer(call, relay(ANSWER)));
    elsewhere.expect(&mut w, 200);
    elsewhere.request(&mut w, "ACK", &[], "");
    w.command(Command::End(call, refusal(480, 16)));
    elsewhere.take(&mut w, Method::Bye);
}

#[test]
fn a_phone_that_has_moved_by_a_registration_may() {
    let mut w = World::with_account();
    let (phone, _) = phone_in_a_call(&mut w, "192.0.2.1:5060");
    let mut moved = Ua::new("192.0.2.2:5070");
    moved.to = "sip:2001@node".into();
    moved.registers(&mut w);
    w.event();
    let mut moved = imposter(&phone, "192.0.2.2:5070");
    moved.hangs_up(&mut w);
}

#[test]
fn the_called_phones_dialog_is_its_own_too() {
    let mut w = World::with_account();
    let mut phone = Ua::new("192.0.2.1:5060");
    phone.to = "sip:2001@node".into();
    phone.registers(&mut w);
    w.event();
    w.invite_to(Destination::Account { id: "phone".into(), number: "2001".into() }, Some(relay(OFFER)));
    let invite = phone.take(&mut w, Method::Invite);
    // Before any response, and with a tag that no response had: there is no such dialog, and nothing is kept of who asks.
    let kept = w.stack.counts().transactions;
    let mut guess = imposter(&phone, "192.0.2.66:5060");
    for method in ["BYE", "INVITE", "UPDATE", "INFO"] {
        guess.request(&mut w, method, &[], "");
        guess.expect(&mut w, 481);
    }
    phone.reply(&mut w, &invite, 180, &["Allow: UPDATE"], "");
    w.event();
    guess.local_tag += "x";
    guess.request(&mut w, "BYE", &[], "");
    guess.expect(&mut w, 481);
    assert_eq!(w.stack.counts().transactions, kept);
    let mut early = imposter(&phone, "192.0.2.66:5060");
    early.request(&mut w, "BYE", &[], "");
    early.expect(&mut w, 401);
    phone.reply(&mut w, &invite, 200, &[], ANSWER);
    phone.take(&mut w, Method::Ack);
    w.event();
    early.remote_tag.clone_from(&phone.remote_tag);
    early.request(&mut w, "BYE", &[], "");
    early.expect(&mut w, 401);
    phone.cseq = 100;
    phone.hangs_up(&mut w);
}

#[test]
fn a_late_offers_answer_comes_from_the_caller_or_not_at_all() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &[], "");
    a.expect(&mut w, 100);
    let call = match w.event() {
        Event::Incoming { call, .. } => call,
        other => panic!("{other:?}"),
    };
    w.command(Command::Accept(call, local()));
    a.expect(&mut w, 200);
    let mut imposter = imposter(&a, "192.0.2.66:5060");
    imposter.invite_cseq = a.invite_cseq;
    imposter.request(&mut w, "ACK", &[], &ANSWER.replace("203.0.113.2", "192.0.2.66"));
    w.no_event();
    imposter.nothing(&w);
    assert_eq!(w.stack.counts().refused_elsewhere, 1);
    // One that nothing waits for is nobody's.
    imposter.invite_cseq += 1;
    imposter.request(&mut w, "ACK", &[], "");
    assert_eq!(w.stack.counts().refused_elsewhere, 1);
    a.request(&mut w, "ACK", &[], ANSWER);
    match w.event() {
        Event::Answer(_, read) => assert_eq!(read.audio[0].address.ip().to_string(), "203.0.113.2"),
        other => panic!("{other:?}"),
    }
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_connection_is_its_dialogs_and_another_one_of_the_same_host_is_not() {
    let mut w = World::new();
    let mut a = Ua::over(Transport::Tcp, "203.0.113.1:40000", Some(1));
    a.established(&mut w);
    let mut other = Ua::over(Transport::Tcp, "192.0.2.1:40001", Some(2));
    (other.call_id, other.local_tag) = (a.call_id.clone(), a.local_tag.clone());
    other.remote_tag.clone_from(&a.remote_tag);
    other.cseq = 50;
    other.request(&mut w, "BYE", &[], "");
    other.expect(&mut w, 481);
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn requests_within_a_dialog_have_a_rate_and_a_bye_is_always_taken() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let mut b = Ua::new("203.0.113.2:5060");
    a.established(&mut w);
    b.established(&mut w);
    let digit = |w: &mut World, ua: &mut Ua, status| {
        ua.request(w, "INFO", &["Content-Type: application/dtmf"], "5");
        let said = ua.expect(w, status);
        assert_eq!(said.headers.get("Retry-After"), (status == 503).then_some("1"));
    };
    for _ in 0..30 {
        digit(&mut w, &mut a, 200);
    }
    for _ in 0..300 {
        digit(&mut w, &mut a, 503);
    }
    digit(&mut w, &mut b, 200);
    assert_eq!(w.events.len(), 31, "thirty of the one, one of the other");
    w.events.clear();
    w.pass(Duration::from_millis(100));
    for status in [200, 200, 200, 503] {
        digit(&mut w, &mut a, status);
    }
    w.events.clear();
    assert_eq!(w.stack.counts().refused_too_many, 301);
    w.seconds(2);
    assert_eq!(w.refused.iter().map(|refused| refused.too_many).sum::<u64>(), 301);
    assert!(w.refused.len() <= 3, "one line a second");
    for _ in 0..40 {
        a.request(&mut w, "OPTIONS", &[], "");
    }
    a.forget(&mut w);
    a.hangs_up(&mut w);
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_phone_has_one_rate_for_all_its_calls() {
    let mut w = World::with_account();
    let (mut first, _) = phone_in_a_call(&mut w, "192.0.2.1:5060");
    let mut second = Ua::new("192.0.2.1:5060");
    second.to.clone_from(&first.to);
    second.call_id += "-other";
    second.signed(&mut w, "INVITE", &[], OFFER);
    second.expect(&mut w, 100);
    let call = match w.event() {
        Event::Incoming { call, .. } => call,
        other => panic!("{other:?}"),
    };
    w.command(Command::Accept(call, relay(ANSWER)));
    second.expect(&mut w, 200);
    second.request(&mut w, "ACK", &[], "");
    for n in 0..40 {
        let ua = if n % 2 == 0 { &mut first } else { &mut second };
        ua.request(&mut w, "INFO", &[], "");
        ua.expect(&mut w, if n < 30 { 200 } else { 503 });
    }
    first.hangs_up(&mut w);
    second.hangs_up(&mut w);
}

#[test]
fn a_response_from_elsewhere_answers_nothing() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let connection = |id| (transport == Transport::Tcp).then_some(id);
        let mut w = World::new();
        let mut called = Ua::over(transport, "203.0.113.1:5060", connection(1));
        w.invite(&called, Some(relay(OFFER)));
        let invite = called.take(&mut w, Method::Invite);
        let mut forger = Ua::over(transport, "198.51.100.9:5060", connection(2));
        for (status, body) in [(183, ANSWER), (200, ANSWER), (302, ""), (486, ""), (603, ""), (401, "")] {
            forger.reply(&mut w, &invite, status, &[], body);
            w.no_event();
        }
        assert_eq!(w.stack.counts().refused_elsewhere, 6);
        called.reply(&mut w, &invite, 200, &[], ANSWER);
        assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
        called.take(&mut w, Method::Ack);
        // Nor does it move the media of a call.
        w.command(Command::Offer(CALL, Some(relay(OFFER))));
        let again = called.take(&mut w, Method::Invite);
        forger.reply(&mut w, &again, 200, &[], ANSWER);
        w.no_event();
        called.reply(&mut w, &again, 200, &[], ANSWER);
        assert!(matches!(w.event(), Event::Answer(CALL, _)), "the peer's own");
        called.take(&mut w, Method::Ack);
    }
}
