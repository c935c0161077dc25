//! Who calls, who answers, who sent a call on: what trunks are believed and what phones are not.

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, Diverted, Event, Identity, InviteHandle, Source};

struct Told {
    call: InviteHandle,
    from: Identity,
    diverted: Option<Diverted>,
    dialled: String,
}

fn incoming(w: &mut World) -> Told {
    match w.event() {
        Event::Incoming { call, from, diverted, dialled, .. } => Told { call, from, diverted, dialled },
        other => panic!("{other:?}"),
    }
}

fn party(number: &str, name: &str) -> Identity {
    let name = Some(name.to_owned()).filter(|name| !name.is_empty());
    Identity { number: number.into(), name, restricted: false }
}

#[test]
fn a_trunk_says_who_calls_and_who_sent_the_call_on() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let headers = [
        "Remote-Party-ID: \"Eve\" <sip:+1-555-0100@x>;party=calling;privacy=off",
        "Diversion: \"Bob\" <sip:555-0102@x>;reason=no-answer;counter=1, <tel:+1-555-0103>;reason=user-busy",
    ];
    a.request(&mut w, "INVITE", &headers, OFFER);
    a.expect(&mut w, 100);
    let told = incoming(&mut w);
    assert_eq!(told.from, party("+15550100", "Eve"));
    let diverted = Diverted { by: party("5550102", "Bob"), original: party("+15550103", "") };
    assert_eq!(told.diverted, Some(diverted));
    w.command(Command::Refuse(told.call, refusal(486, 17)));
    a.expect(&mut w, 486);
    a.acknowledge_refusal(&mut w);
    w.all_quiet();
}

#[test]
fn a_phone_only_chooses_among_its_lines() {
    let (mut w, mut a) = (World::with_account(), Ua::new("192.0.2.1:5060"));
    a.to = "sip:20-01@node".into();
    a.registers(&mut w);
    w.event();
    let headers = [
        "P-Asserted-Identity: \"Fraud Prevention\" <sip:110@x>",
        "Remote-Party-ID: <sip:111@x>;privacy=full",
        "Diversion: <sip:112@x>",
    ];
    a.signed(&mut w, "INVITE", &headers, OFFER);
    a.expect(&mut w, 100);
    let told = incoming(&mut w);
    assert_eq!((told.from, told.diverted), (party("2001", ""), None));
    w.command(Command::Connected(told.call, party("5000", "Desk")));
    w.command(Command::Accept(told.call, relay(ANSWER)));
    let ok = a.expect(&mut w, 200);
    assert_eq!(ok.headers.get("P-Asserted-Identity"), Some("\"Desk\" <sip:5000@198.51.100.1>"));
    assert_eq!(ok.headers.get("Remote-Party-ID"), None);
    a.request(&mut w, "ACK", &[], "");
    a.request(&mut w, "UPDATE", &["P-Asserted-Identity: <sip:110@x>"], "");
    a.expect(&mut w, 200);
    w.no_event();
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn numbers_are_dialled_as_people_write_them() {
    for (uri, dialled) in [
        ("tel:+1-555-0100", "+15550100"),
        ("sip:(555)01-00@198.51.100.1;user=phone", "5550100"),
        ("sip:%2B1.555.0100;phone-context=x@198.51.100.1", "+15550100"),
        ("sips:*21*@198.51.100.1", "*21*"),
    ] {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        let text = a.text(&[], OFFER).replacen("sip:5000@198.51.100.1:5060", uri, 1);
        a.send(&mut w, text);
        a.expect(&mut w, 100);
        let told = incoming(&mut w);
        assert_eq!(told.dialled, dialled, "{uri}");
        w.command(Command::Refuse(told.call, refusal(404, 1)));
        a.expect(&mut w, 404);
        w.all_quiet();
    }
    for uri in [format!("sip:{}@198.51.100.1", "1".repeat(65)), "sip:55%0D%0A00@198.51.100.1".into()] {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        let text = a.text(&[], OFFER).replacen("sip:5000@198.51.100.1:5060", &uri, 1);
        a.send(&mut w, text);
        a.expect(&mut w, 404);
        w.all_quiet();
    }
}

fn identified(w: &mut World) -> Identity {
    match w.event() {
        Event::Identified(_, identity) => identity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_called_trunk_says_who_answers_and_who_took_over() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 180, &["P-Asserted-Identity: <sip:5000@x>"], "");
    assert!(matches!(w.event(), Event::Ringing(CALL, None)));
    b.reply(&mut w, &invite, 200, &["P-Asserted-Identity: \"Zoe\" <sip:5-007@x>", "Allow: UPDATE"], ANSWER);
    b.take(&mut w, Method::Ack);
    assert_eq!(identified(&mut w), party("5007", "Zoe"));
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
    b.request(&mut w, "UPDATE", &["Remote-Party-ID: \"Max\" <sip:5008@x>;party=calling;privacy=full"], "");
    b.expect(&mut w, 200);
    assert_eq!(identified(&mut w), Identity { restricted: true, ..party("5008", "Max") });
    // The same again, and what can't be read, is no news.
    b.request(&mut w, "UPDATE", &["Remote-Party-ID: \"Max\" <sip:5008@x>;party=calling;privacy=full"], "");
    b.expect(&mut w, 200);
    b.request(&mut w, "UPDATE", &["P-Asserted-Identity: \"Max <sip:5009@x>"], "");
    b.expect(&mut w, 200);
    w.no_event();
    b.request(&mut w, "INVITE", &["P-Asserted-Identity: <tel:+1-555-0100>"], HOLD);
    b.expect(&mut w, 100);
    assert_eq!(identified(&mut w), party("+15550100", ""));
    assert!(matches!(w.event(), Event::Offer(CALL, Some(_))));
    w.command(Command::Answer(CALL, relay(ANSWER)));
    b.expect(&mut w, 200);
    b.request(&mut w, "ACK", &[], "");
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn who_rings_and_who_answers_is_told_to_a_calling_trunk() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &["P-Asserted-Identity: <sip:777@x>"], OFFER);
    a.expect(&mut w, 100);
    let call = incoming(&mut w).call;
    w.command(Command::Connected(call, party("5000", "Desk")));
    w.command(Command::Ring(call, None));
    let told = "\"Desk\" <sip:5000@198.51.100.1>;party=called;screen=yes;privacy=off";
    assert_eq!(a.expect(&mut w, 180).headers.get("Remote-Party-ID"), Some(told));
    w.command(Command::Connected(call, party("5001", "")));
    w.command(Command::Accept(call, relay(ANSWER)));
    let ok = a.expect(&mut w, 200);
    assert_eq!(ok.headers.get("P-Asserted-Identity"), Some("<sip:5001@198.51.100.1>"));
    a.request(&mut w, "ACK", &[], "");
    // A caller that is another person now.
    a.request(&mut w, "UPDATE", &["P-Asserted-Identity: <sip:778@x>"], "");
    a.expect(&mut w, 200);
    assert_eq!(identified(&mut w), party("778", ""));
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_source_decides_what_is_believed() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.request(&mut w, "INVITE", &["Privacy: id", "Diversion: <sip:2@x"], OFFER);
    a.expect(&mut w, 100);
    match w.event() {
        Event::Incoming { call, source: Source::Trunk(_), from, diverted: None, .. } => {
            assert_eq!(from, Identity { restricted: true, ..party("2001", "Peer") });
            w.command(Command::Refuse(call, refusal(486, 17)));
        }
        other => panic!("{other:?}"),
    }
    a.expect(&mut w, 486);
    a.acknowledge_refusal(&mut w);
    w.all_quiet();
}
