//! Registrations: how long they live, along which way a phone is called, and what becomes of its calls when it starts again.

use crate::world::*;
use sip::message::{Method, Request};
use sip::port::{
    BindingRecord, Command, ConnectionId, Destination, Event, Hop, Input, InviteHandle, Transport,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

fn phone(transport: Transport, address: &str, connection: Option<u64>) -> Ua {
    let mut phone = Ua::over(transport, address, connection);
    phone.to = "sip:2001@node".into();
    phone.contact = format!("<sip:2001@{address}>");
    phone
}

fn registered(w: &mut World, mut phone: Ua, headers: &[&str]) -> Ua {
    phone.signed(w, "REGISTER", headers, "");
    phone.expect(w, 200);
    phone.remote_tag = None;
    w.events.clear();
    phone
}

fn account() -> Destination {
    Destination::Account { id: "phone".into(), number: "2001".into() }
}

/// Where the INVITE of a call to the phone leaves to.
fn called_at(w: &mut World) -> Option<Hop> {
    w.ways.clear();
    w.invite_to(account(), Some(relay(OFFER)));
    w.ways.first().copied()
}

/// The phone is called and answers.
fn talking(w: &mut World, phone: &mut Ua) {
    w.invite_to(account(), Some(relay(OFFER)));
    let invite = phone.take(w, Method::Invite);
    phone.reply(w, &invite, 200, &[], ANSWER);
    phone.take(w, Method::Ack);
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
}

#[test]
fn the_answer_has_a_date_and_options_allow_register() {
    let mut w = World::with_account();
    let mut a = phone(Transport::Udp, "192.0.2.1:5060", None);
    a.signed(&mut w, "REGISTER", &[], "");
    assert_eq!(a.expect(&mut w, 200).headers.get("Date"), None, "nobody has told it the time");
    a.remote_tag = None;
    w.stack.set_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_289_690_940));
    a.signed(&mut w, "REGISTER", &[], "");
    assert_eq!(a.expect(&mut w, 200).headers.get("Date"), Some("Sat, 13 Nov 2010 23:29:00 GMT"));
    a.remote_tag = None;
    w.stack.set_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40));
    a.signed(&mut w, "REGISTER", &[], "");
    assert_eq!(a.expect(&mut w, 200).headers.get("Date"), None, "no year of five digits");
    a.remote_tag = None;
    a.request(&mut w, "OPTIONS", &[], "");
    assert!(a.expect(&mut w, 200).headers.has_token("Allow", "REGISTER"));
}

#[test]
fn a_phone_that_listens_is_dialled_anew_when_its_connection_has_ended() {
    let mut w = World::with_account();
    let mut a = phone(Transport::Tcp, "192.0.2.1:40000", Some(3));
    a.contact = "<sip:2001@192.0.2.1:5070;transport=tcp>".into();
    let a = registered(&mut w, a, &[]);
    assert_eq!(called_at(&mut w), Some(a.hop), "on its connection while that is there");
    w.command(Command::End(CALL, refusal(480, 16)));
    w.input(Input::Closed(a.hop));
    assert!(w.events.iter().all(|event| !matches!(event, Event::Registration { .. })), "{:?}", w.events);
    let anew = Hop { remote: "192.0.2.1:5070".parse().unwrap(), connection: None, ..a.hop };
    assert_eq!(w.connects, [anew]);
    w.events.clear();
    w.seconds(300);
    assert_eq!(called_at(&mut w), Some(anew));
    // That connection ends, too: after a call it is tried once, and not for ever.
    let dialled = Hop { connection: Some(ConnectionId(9)), ..anew };
    let tries = |w: &mut World| {
        w.connects.clear();
        w.input(Input::Closed(dialled));
        w.connects.iter().filter(|hop| **hop == anew).count()
    };
    assert_eq!((tries(&mut w), tries(&mut w)), (1, 0));
    // Nobody takes the call there any more: the device is gone, and the call with it.
    w.input(Input::Unreachable(anew));
    let events: Vec<Event> = w.events.drain(..).collect();
    assert!(
        matches!(events[..], [Event::Refused { status: 502, .. }, Event::Registration { contacts: 0, .. }]),
        "{events:?}"
    );
    w.all_quiet();
}

#[test]
fn a_phone_behind_a_proxy_is_reached_by_its_path_when_the_connection_has_ended() {
    for (path, at) in [
        ("Path: <sip:192.0.2.5:5080;transport=tcp;lr>", "192.0.2.5:5080"),
        ("Path: <sip:edge@192.0.2.5;lr>", "192.0.2.5:5060"),
    ] {
        let mut w = World::with_account();
        let mut proxy = phone(Transport::Tcp, "192.0.2.5:41000", Some(3));
        proxy.contact = "<sip:2001@10.0.0.7:5060;ob>".into();
        let proxy = registered(&mut w, proxy, &[path, "Supported: path"]);
        w.input(Input::Closed(proxy.hop));
        w.no_event();
        let anew = Hop { remote: at.parse().unwrap(), connection: None, ..proxy.hop };
        assert_eq!(called_at(&mut w), Some(anew));
        // It is just starting again.
        w.input(Input::Unreachable(anew));
        assert!(matches!(w.event(), Event::Refused { status: 502, .. }));
        w.no_event();
        assert_eq!(called_at(&mut w), Some(anew));
    }
}

#[test]
fn a_flow_and_what_is_behind_a_nat_end_with_their_connection() {
    for (contact, headers) in [
        ("<sip:2001@192.0.2.1:40000;transport=tcp;ob>", &[][..]),
        ("<sip:2001@192.0.2.1:5070>;+sip.instance=\"<urn:uuid:1>\";reg-id=1", &["Supported: outbound"][..]),
        ("<sip:2001@10.0.0.7:5070;transport=tcp>", &[][..]),
        ("<sip:2001@phone.example>", &[][..]),
    ] {
        let mut w = World::with_account();
        let mut a = phone(Transport::Tcp, "192.0.2.1:40000", Some(3));
        a.contact = contact.into();
        let a = registered(&mut w, a, headers);
        w.input(Input::Closed(a.hop));
        assert!(matches!(w.event(), Event::Registration { contacts: 0, .. }), "{contact}");
        assert!(w.connects.is_empty());
        w.all_quiet();
    }
}

/// Who moves the hands of the clock late must not be called, nor call, by what is over.
#[test]
fn a_contact_that_is_over_decides_nothing_even_before_its_timer() {
    let mut w = World::with_account();
    let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None), &["Expires: 60"]);
    w.now += Duration::from_secs(61);
    assert_eq!(called_at(&mut w), None);
    let events: Vec<Event> = w.events.drain(..).collect();
    assert!(
        matches!(events[..], [Event::Registration { contacts: 0, .. }, Event::Refused { status: 480, .. }]),
        "{events:?}"
    );
    a.call_id = "its-call".into();
    a.signed(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 403);
}

#[test]
fn what_was_kept_is_called_and_may_call_in_the_next_life() {
    let mut w = World::with_account();
    let _ = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None), &[]);
    let mut b = phone(Transport::Tcp, "192.0.2.2:40000", Some(3));
    b.contact = "<sip:2001@192.0.2.2:5070;transport=tcp>".into();
    let _ = registered(&mut w, b, &[]);
    let gone = registered(&mut w, phone(Transport::Udp, "192.0.2.3:5060", None), &[]);
    let _ = registered(&mut w, gone, &["Expires: 0"]);
    let mut kept = BTreeMap::new();
    for record in w.kept.drain(..) {
        match record {
            BindingRecord::Bound(id, binding) => drop(kept.insert(id, *binding)),
            BindingRecord::Gone(id) => drop(kept.remove(&id)),
        }
    }
    let now = w.now;
    let mut w = World::with_account();
    w.now = now;
    w.command(Command::Restore(kept.into_iter().collect()));
    let told = w.events.drain(..).filter(|event| matches!(event, Event::Registration { .. })).count();
    assert_eq!(told, 2);
    w.invite_to(account(), Some(relay(OFFER)));
    let ways: Vec<String> = w.ways.iter().map(|hop| format!("{:?} {}", hop.transport, hop.remote)).collect();
    assert_eq!(ways, ["Tcp 192.0.2.2:5070", "Udp 192.0.2.1:5060"]);
    w.command(Command::End(CALL, refusal(480, 16)));
    let mut a = phone(Transport::Udp, "192.0.2.1:5060", None);
    a.forget(&mut w);
    a.call_id = "its-call".into();
    a.signed(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 100);
    assert!(matches!(w.event(), Event::Incoming { .. }));
}

/// What the phone, having started again, says of a call of its earlier life.
#[test]
fn a_phone_that_has_started_again_loses_the_calls_that_it_does_not_know() {
    for status in [Some(481), Some(408), None] {
        let mut w = World::with_account();
        let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None), &[]);
        talking(&mut w, &mut a);
        let mut again = phone(Transport::Udp, "192.0.2.1:5060", None);
        again.call_id = "restarted".into();
        let mut again = registered(&mut w, again, &[]);
        let asked = again.take(&mut w, Method::Options);
        assert_eq!(asked.headers.call_id(), a.call_id);
        match status {
            Some(status) => again.reply(&mut w, &asked, status, &[], ""),
            None => w.pass(Duration::from_millis(5_000)),
        }
        let cause = if status.is_some() { 41 } else { 102 };
        assert!(matches!(w.event(), Event::Ended { call: CALL, cause: c } if c == cause), "{status:?}");
        again.forget(&mut w);
        w.all_quiet();
    }
}

/// It has moved with its call: another address, the same instance. Whatever it answers, it is there.
#[test]
fn a_phone_that_has_moved_keeps_its_call() {
    for status in [200, 405, 500] {
        let mut w = World::with_account();
        let instance = |address: &str| format!("<sip:2001@{address}>;+sip.instance=\"<urn:uuid:1>\"");
        let mut a = phone(Transport::Udp, "192.0.2.1:5060", None);
        a.contact = instance("192.0.2.1:5060");
        let mut a = registered(&mut w, a, &[]);
        talking(&mut w, &mut a);
        let mut moved = phone(Transport::Udp, "192.0.2.77:5060", None);
        (moved.contact, moved.call_id) = (instance("192.0.2.77:5060"), "moved".into());
        let mut moved = registered(&mut w, moved, &[]);
        let asked = moved.take(&mut w, Method::Options);
        moved.local_tag = a.local_tag.clone();
        moved.reply(&mut w, &asked, status, &[], "");
        w.seconds(60);
        w.no_event();
        w.command(Command::End(CALL, refusal(480, 16)));
        let bye = moved.take(&mut w, Method::Bye);
        moved.reply(&mut w, &bye, 200, &[], "");
        w.all_quiet();
    }
}

/// Two phones of one account at one address: the call of the first is asked after where it is.
#[test]
fn a_second_phone_ends_no_call_of_the_first() {
    for (transport, second) in [(Transport::Udp, "192.0.2.1:5070"), (Transport::Tcp, "192.0.2.9:5070")] {
        let connection = |n| (transport == Transport::Tcp).then_some(n);
        let mut w = World::with_account();
        let mut a = registered(&mut w, phone(transport, "192.0.2.1:5060", connection(1)), &[]);
        talking(&mut w, &mut a);
        let mut b = phone(transport, second, connection(2));
        b.call_id = "b".into();
        let b = registered(&mut w, b, &[]);
        b.nothing(&w);
        if transport == Transport::Udp {
            let asked = a.take(&mut w, Method::Options);
            a.reply(&mut w, &asked, 200, &[], "");
        }
        a.nothing(&w);
        w.seconds(30);
        w.no_event();
        a.hangs_up(&mut w);
    }
}

/// A phone over TCP that has started again: its old connection is gone, and nobody listens where it was.
#[test]
fn a_call_whose_connection_is_gone_ends_when_nobody_is_there() {
    let mut w = World::with_account();
    let mut a = registered(&mut w, phone(Transport::Tcp, "192.0.2.1:40000", Some(1)), &[]);
    talking(&mut w, &mut a);
    w.input(Input::Closed(a.hop));
    let mut again = phone(Transport::Tcp, "192.0.2.1:40001", Some(2));
    again.call_id = "again".into();
    w.events.clear();
    let again = registered(&mut w, again, &[]);
    again.nothing(&w);
    w.input(Input::Unreachable(Hop { connection: None, ..a.hop }));
    assert!(w.events.iter().any(|event| matches!(event, Event::Ended { call: CALL, .. })), "{:?}", w.events);
}

#[test]
fn a_phone_that_renews_is_asked_nothing() {
    let mut w = World::with_account();
    let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None), &[]);
    let register = a.call_id.clone();
    talking(&mut w, &mut a);
    let (call, tag) = (std::mem::replace(&mut a.call_id, register), a.remote_tag.take());
    a.signed(&mut w, "REGISTER", &[], "");
    a.expect(&mut w, 200);
    a.nothing(&w);
    (a.call_id, a.remote_tag) = (call, tag);
    a.hangs_up(&mut w);
}

fn both_called(w: &mut World) -> (Ua, Ua, Request, Request) {
    let mut a = registered(w, phone(Transport::Udp, "192.0.2.1:5060", None), &[]);
    let mut b = registered(w, phone(Transport::Udp, "192.0.2.2:5060", None), &[]);
    w.invite_to(account(), Some(local()));
    let (at_a, at_b) = (a.take(w, Method::Invite), b.take(w, Method::Invite));
    (a, b, at_a, at_b)
}

#[test]
fn the_silence_of_a_dead_contact_does_not_outweigh_what_a_living_one_says() {
    for (status, seconds) in [(486, 4), (480, 4), (500, 4), (302, 4), (603, 0)] {
        let mut w = World::with_account();
        let (mut a, dead, at_a, _) = both_called(&mut w);
        a.reply(&mut w, &at_a, 100, &[], "");
        w.seconds(1);
        a.reply(&mut w, &at_a, status, &[], "");
        w.pass(Duration::from_millis(if seconds == 0 { 0 } else { 2_900 }));
        if seconds > 0 {
            w.no_event();
            w.pass(Duration::from_millis(200));
        }
        match w.event() {
            Event::Refused { call: InviteHandle(7), status: said, .. } => assert_eq!(said, status),
            other => panic!("{other:?}"),
        }
        dead.forget(&mut w);
        a.forget(&mut w);
        w.all_quiet();
    }
}

/// It has only been slow: it rings, and is waited for as ever.
#[test]
fn a_contact_that_says_something_late_is_waited_for() {
    let mut w = World::with_account();
    let (mut a, mut b, at_a, at_b) = both_called(&mut w);
    a.reply(&mut w, &at_a, 486, &[], "");
    w.seconds(3);
    b.reply(&mut w, &at_b, 180, &[], "");
    assert!(matches!(w.event(), Event::Ringing(CALL, None)));
    w.seconds(60);
    w.no_event();
    b.forget(&mut w);
    b.reply(&mut w, &at_b, 200, &[], ANSWER);
    b.take(&mut w, Method::Ack);
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
}

/// All are dead: the caller is told what that means, when it is certain.
#[test]
fn dead_contacts_alone_are_a_timeout() {
    let mut w = World::with_account();
    let _ = both_called(&mut w);
    w.seconds(31);
    w.no_event();
    w.seconds(2);
    assert!(matches!(w.event(), Event::Refused { status: 408, .. }));
}

/// What a phone writes into a call (RFC 3261 §12) sends nothing of ours elsewhere.
#[test]
fn routes_and_contacts_of_a_phone_lead_nowhere_else() {
    for (contact, route) in [
        ("<sip:x@127.0.0.1:8443;transport=tcp>", None),
        ("<sip:2001@192.0.2.1:5060>", Some("Record-Route: <sip:127.0.0.1:22;transport=tcp;lr>")),
        ("<sip:2001@192.0.2.1:5060>", Some("Record-Route: <sip:198.51.100.7:5060;lr>")),
        ("<sip:x@198.51.100.7>", Some("Record-Route: <sip:192.0.2.1:22;transport=tcp;lr>")),
    ] {
        let mut w = World::with_account();
        let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None), &[]);
        a.call_id = "its-call".into();
        (a.to, a.contact) = ("sip:5000@node".into(), contact.into());
        let headers: Vec<&str> = route.into_iter().collect();
        a.signed(&mut w, "INVITE", &headers, OFFER);
        a.expect(&mut w, 100);
        let Event::Incoming { call, .. } = w.event() else { panic!("a call") };
        w.command(Command::Accept(call, relay(ANSWER)));
        a.expect(&mut w, 200);
        a.request(&mut w, "ACK", &[], "");
        w.command(Command::Offer(call, Some(relay(HOLD))));
        w.command(Command::End(call, refusal(480, 16)));
        assert!(w.ways.iter().all(|hop| *hop == a.hop), "{contact} {route:?}: {:?}", w.ways);
    }
}

/// Its connection is gone: what it wrote is dialled only where it is its own address.
#[test]
fn a_phone_whose_connection_is_gone_is_dialled_at_its_own_address_alone() {
    for (contact, at) in [
        ("<sip:2001@192.0.2.1:5070;transport=tcp>", "192.0.2.1:5070"),
        ("<sip:2001@127.0.0.1:22;transport=tcp>", "192.0.2.1:40000"),
    ] {
        let mut w = World::with_account();
        let mut a = registered(&mut w, phone(Transport::Tcp, "192.0.2.1:40000", Some(3)), &[]);
        a.contact = contact.into();
        talking(&mut w, &mut a);
        w.input(Input::Closed(a.hop));
        w.ways.clear();
        w.command(Command::End(CALL, refusal(480, 16)));
        let to: Vec<(Option<ConnectionId>, String)> =
            w.ways.iter().map(|hop| (hop.connection, hop.remote.to_string())).collect();
        assert_eq!(to, [(None, at.to_owned())]);
    }
}

/// The proxy and the phone live on one machine: what follows passes the proxy all the same, and without one goes to where
/// a phone without rport hears.
#[test]
fn a_caller_is_answered_where_it_hears() {
    for (route, at) in
        [(Some("Record-Route: <sip:192.0.2.1:5060;lr>"), "192.0.2.1:5060"), (None, "192.0.2.1:7777")]
    {
        let mut w = World::with_account();
        let mut a = registered(&mut w, phone(Transport::Udp, "192.0.2.1:5060", None), &[]);
        (a.call_id, a.to, a.contact) =
            ("its-call".into(), "sip:5000@node".into(), "<sip:2001@192.0.2.1:7777>".into());
        a.rport = "";
        let headers: Vec<&str> = route.into_iter().collect();
        a.signed(&mut w, "INVITE", &headers, OFFER);
        a.expect(&mut w, 100);
        let Event::Incoming { call, .. } = w.event() else { panic!("a call") };
        w.command(Command::Accept(call, relay(ANSWER)));
        a.expect(&mut w, 200);
        a.request(&mut w, "ACK", &[], "");
        w.ways.clear();
        w.command(Command::End(call, refusal(480, 16)));
        assert_eq!(w.ways.iter().map(|hop| hop.remote.to_string()).collect::<Vec<_>>(), [at]);
    }
}
