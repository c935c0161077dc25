//! Phones: registered, challenged, forked.

use crate::world::*;
use sip::message::{Method, Uri};
use sip::port::{Command, Destination, Event, Hop, Input, Source, Transport};

fn phone(transport: Transport, address: &str, connection: Option<u64>) -> Ua {
    let mut phone = Ua::over(transport, address, connection);
    phone.to = "sip:2001@node".into();
    phone.contact = format!("<sip:2001@{address};x=1>");
    phone
}

fn registered(w: &mut World, mut phone: Ua) -> Ua {
    phone.registers(w);
    assert!(matches!(w.event(), Event::Registration { .. }));
    phone
}

fn account() -> Destination {
    Destination::Account { id: "phone".into(), number: "2001".into() }
}

#[test]
fn a_registered_phone_calls() {
    let mut w = World::with_account();
    let mut a = registered(&mut w, phone(Transport::Tcp, "192.0.2.1:40000", Some(3)));
    a.call_id = "its-call".into();
    a.to = "sip:5000@node".into();
    a.signed(&mut w, "INVITE", &["P-Asserted-Identity: <sip:1@forged>"], OFFER);
    a.expect(&mut w, 100);
    let call = match w.event() {
        Event::Incoming { call, source: Source::Account(id), from, .. } => {
            assert_eq!((&*id, from.number.as_str()), ("phone", "2001"));
            call
        }
        other => panic!("{other:?}"),
    };
    w.command(Command::Accept(call, relay(ANSWER)));
    let ok = a.expect(&mut w, 200);
    assert_eq!(ok.headers.get("Contact"), Some("<sip:5000@198.51.100.1:5060;transport=tcp>"));
    a.request(&mut w, "ACK", &[], "");
    w.command(Command::End(call, refusal(480, 16)));
    let bye = a.take(&mut w, Method::Bye);
    assert_eq!(bye.uri, Uri::read("sip:2001@192.0.2.1:40000;x=1").unwrap());
    a.reply(&mut w, &bye, 200, &[], "");
    assert!(w.stack.counts().contacts == 1);
    w.events.clear();
}

#[test]
fn who_is_not_registered_may_not_call() {
    let (mut w, mut a) = (World::with_account(), phone(Transport::Udp, "192.0.2.1:5060", None));
    a.signed(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 403);
    w.all_quiet();
}

#[test]
fn no_contact_no_call() {
    let mut w = World::with_account();
    w.invite_to(account(), Some(local()));
    assert!(matches!(w.event(), Event::Refused { status: 480, cause: Some(20), .. }));
    w.all_quiet();
}

#[test]
fn all_contacts_ring_and_the_first_answer_wins() {
    let mut w = World::with_account();
    let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None));
    let mut b = registered(&mut w, phone(Transport::Tcp, "192.0.2.2:40000", Some(4)));
    w.invite_to(account(), Some(local()));
    let (at_a, at_b) = (a.take(&mut w, Method::Invite), b.take(&mut w, Method::Invite));
    assert_ne!(at_a.headers.call_id(), at_b.headers.call_id());
    a.reply(&mut w, &at_a, 180, &[], "");
    b.reply(&mut w, &at_b, 180, &[], "");
    assert!(matches!(w.event(), Event::Ringing(CALL, None)));
    w.no_event();
    b.reply(&mut w, &at_b, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
    let cancel = a.take(&mut w, Method::Cancel);
    assert_eq!(cancel.headers.get("Reason"), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
    a.reply(&mut w, &cancel, 200, &[], "");
    // It had just been picked up there, too.
    a.reply(&mut w, &at_a, 200, &[], ANSWER);
    a.take(&mut w, Method::Ack);
    a.take(&mut w, Method::Bye);
    b.hangs_up(&mut w);
    w.seconds(100);
    assert!(w.stack.is_quiet());
}

#[test]
fn the_best_refusal_counts_and_a_decline_ends_all() {
    for (first, second, expected) in [(480, 486, 486), (503, 404, 404), (486, 302, 302), (500, 408, 408)] {
        let mut w = World::with_account();
        let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None));
        let mut b = registered(&mut w, phone(Transport::Udp, "192.0.2.2:5060", None));
        w.invite_to(account(), Some(local()));
        let (at_a, at_b) = (a.take(&mut w, Method::Invite), b.take(&mut w, Method::Invite));
        a.reply(&mut w, &at_a, first, &[], "");
        w.no_event();
        b.reply(&mut w, &at_b, second, &[], "");
        match w.event() {
            Event::Refused { status, .. } => assert_eq!(status, expected),
            other => panic!("{other:?}"),
        }
    }
    let mut w = World::with_account();
    let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None));
    let mut b = registered(&mut w, phone(Transport::Udp, "192.0.2.2:5060", None));
    w.invite_to(account(), Some(local()));
    let (at_a, at_b) = (a.take(&mut w, Method::Invite), b.take(&mut w, Method::Invite));
    b.reply(&mut w, &at_b, 180, &[], "");
    w.event();
    a.reply(&mut w, &at_a, 603, &[], "");
    assert!(matches!(w.event(), Event::Refused { status: 603, .. }));
    b.take(&mut w, Method::Cancel);
}

#[test]
fn a_phone_that_comes_back_over_a_new_connection_keeps_its_call() {
    let mut w = World::with_account();
    let mut b = registered(&mut w, phone(Transport::Tcp, "192.0.2.2:40000", Some(4)));
    w.invite_to(account(), Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answered(..)));
    w.input(Input::Closed(b.hop));
    w.no_event();
    let again: std::net::SocketAddr = "192.0.2.2:41111".parse().unwrap();
    b.hop = Hop { remote: again, connection: Some(sip::port::ConnectionId(5)), ..b.hop };
    // It has not registered there yet: it shows that it is the one.
    b.signed_as(&mut w, "2001", "OPTIONS", &[], "");
    b.expect(&mut w, 200);
    w.command(Command::End(CALL, refusal(480, 16)));
    b.take(&mut w, Method::Bye);
    w.all_quiet();
}

#[test]
fn a_lost_connection_refuses_what_rang_there() {
    let mut w = World::with_account();
    let mut b = registered(&mut w, phone(Transport::Tcp, "192.0.2.2:40000", Some(4)));
    w.invite_to(account(), Some(local()));
    b.take(&mut w, Method::Invite);
    w.input(Input::Closed(b.hop));
    let events: Vec<_> = w.events.drain(..).collect();
    assert!(events.iter().any(|e| matches!(e, Event::Refused { call: CALL, status: 502, .. })), "{events:?}");
    w.all_quiet();
}

#[test]
fn a_forgotten_account_keeps_its_calls() {
    let mut w = World::with_account();
    let mut b = registered(&mut w, phone(Transport::Udp, "192.0.2.2:5060", None));
    w.invite_to(account(), Some(local()));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    w.event();
    w.command(Command::ForgetAccount("phone".into()));
    assert!(matches!(w.event(), Event::Registration { contacts: 0, .. }));
    b.hangs_up(&mut w);
    w.all_quiet();
}

/// RFC 3327 §5.2: the Path becomes the route, and the way is the proxy's, even when both live on one machine.
#[test]
fn a_phone_behind_a_proxy_is_called_through_it() {
    let mut w = World::with_account();
    let mut proxy = Ua::new("192.0.2.5:5060");
    proxy.contact = "<sip:2001@192.0.2.5:7777>".into();
    proxy.to = "sip:2001@node".into();
    proxy.signed(&mut w, "REGISTER", &["Path: <sip:192.0.2.5:5060;lr>", "Supported: path"], "");
    proxy.expect(&mut w, 200);
    assert!(matches!(w.event(), Event::Registration { .. }));
    w.invite_to(account(), Some(relay(OFFER)));
    let invite = proxy.take(&mut w, Method::Invite);
    assert_eq!(invite.uri, Uri::read("sip:2001@192.0.2.5:7777").unwrap());
    assert_eq!(invite.headers.get("Route"), Some("<sip:192.0.2.5:5060;lr>"));
}
