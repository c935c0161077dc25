//! The full state × event tables of the machine, made by driving it: every state against every input. A reviewer reads
//! the snapshots; a change of behaviour shows as a changed line.

use crate::world::*;
use device_model::media::{Description, Direction};
use device_model::port::TransferTo;
use device_model::{Cause, LegId, Request, Signal};
use insta::assert_snapshot;
use std::fmt::Write as _;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const APP_RTP: &str = "10.0.0.9:7000";

type Setup = (&'static str, fn() -> (World, LegId));
type Act = (&'static str, fn(&mut World, LegId));

/// Each state against each input, from a fresh world each time.
fn table(states: &[Setup], inputs: &[Act]) -> String {
    let mut text = String::new();
    for (state, setup) in states {
        let _ = writeln!(text, "== {state}");
        for (input, act) in inputs {
            let (mut world, leg) = setup();
            world.said();
            act(&mut world, leg);
            let said: Vec<String> =
                world.said().lines().filter(|line| !line.starts_with("> ")).map(shorten).collect();
            let after = world.control.leg(leg).map_or("gone".into(), |leg| format!("{:?}", leg.state));
            let said = if said.is_empty() { "nothing".into() } else { said.join("; ") };
            let _ = writeln!(text, "{input:<22} {after:<12} {said}");
        }
    }
    text
}

/// Numbers and parties are in the flows; the tables show what happens.
fn shorten(line: &str) -> String {
    let words: Vec<&str> = line
        .split(' ')
        .filter(|word| !word.contains("->") && !word.contains('=') || word.starts_with("cause"))
        .collect();
    words.join(" ").replace("event [s1] ", "! ").replace("reply s1 ", "= ")
}

fn offer() -> Option<Description> {
    Some(sdp(A, &["PCMU"]))
}

fn still(address: &str) -> Description {
    directed(Direction::Inactive, sdp(address, &["PCMU"]))
}

fn port(media: device_model::media::MediaTermination) -> World {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(media));
    w
}

fn offered() -> (World, LegId) {
    let mut w = port(dynamic(&["PCMU"]));
    w.dial("A", "6001", offer());
    let leg = w.leg_at("P");
    (w, leg)
}

fn ringing() -> (World, LegId) {
    let (mut w, leg) = offered();
    w.request(APP, Request::Accept { leg });
    (w, leg)
}

fn answering() -> (World, LegId) {
    let (mut w, leg) = ringing();
    w.request(APP, Request::Answer { leg });
    (w, leg)
}

fn connected() -> (World, LegId) {
    let (mut w, leg) = answering();
    w.set_media(APP, leg, APP_RTP);
    (w, leg)
}

fn held() -> (World, LegId) {
    let (mut w, leg) = connected();
    w.request(APP, Request::Hold { leg });
    let a = w.leg_at("A");
    w.signal(a, Signal::Answer(still(A)));
    (w, leg)
}

fn redirecting() -> (World, LegId) {
    let (mut w, leg) = connected();
    w.redirect(leg, "2002", true);
    (w, leg)
}

fn calling(to: &str) -> (World, LegId) {
    let mut w = port(fixed(APP_RTP, &["PCMU"]));
    w.make_call("P", to);
    let leg = w.leg_at("P");
    (w, leg)
}

fn ringback() -> (World, LegId) {
    let (mut w, leg) = calling("2002");
    w.ring(w.last_placed());
    (w, leg)
}

/// The leg about which the port consults B, who rings.
fn consulting() -> (World, LegId) {
    let mut w = port(fixed(APP_RTP, &["PCMU"]));
    w.dial("A", "6001", offer());
    let leg = w.leg_at("P");
    w.request(APP, Request::Answer { leg });
    w.consult(leg, "2002");
    w.ring(w.last_placed());
    let a = w.leg_at("A");
    w.signal(a, Signal::Answer(still(A)));
    (w, leg)
}

/// Another leg at the device of this one.
fn other_leg(w: &World, leg: LegId) -> LegId {
    let legs = w.control.device_of_leg(leg).map(|device| w.control.legs_of_device(device));
    let other = legs.into_iter().flatten().map(|other| other.leg).find(|other| *other != leg);
    other.unwrap_or(LegId(99))
}

/// A has called and waits on hold, B has called and talks.
fn two_calls(device: &str, number: &str) -> (World, LegId) {
    let mut w = World::new(plan());
    w.open(APP, device, Some(fixed(APP_RTP, &["PCMU"])));
    w.dial("A", number, offer());
    let leg = w.leg_at(device);
    w.request(APP, Request::Answer { leg });
    w.request(APP, Request::Hold { leg });
    w.signal(w.leg_at("A"), Signal::Answer(still(A)));
    w.dial("B", number, Some(sdp(B, &["PCMU"])));
    let second = w.leg_at(device);
    w.request(APP, Request::Answer { leg: second });
    (w, leg)
}

fn route_point() -> (World, LegId) {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(fixed(APP_RTP, &["PCMU"])));
    w.dial("A", "5000", offer());
    let leg = w.leg_at("RP");
    w.request(APP, Request::Answer { leg });
    (w, leg)
}

fn gone() -> (World, LegId) {
    let (mut w, leg) = connected();
    w.request(APP, Request::Drop { leg });
    (w, leg)
}

/// A phone's leg of a call between phones, watched.
fn phone(ring: bool, answer: bool) -> (World, LegId) {
    let mut w = World::new(plan());
    w.open(APP, "B", None);
    w.dial("A", "2002", offer());
    let b = w.last_placed();
    if ring {
        w.ring(b);
    }
    if answer {
        w.answered(b, sdp(B, &["PCMU"]));
    }
    (w, b)
}

fn phone_holds() -> (World, LegId) {
    let (mut w, b) = phone(true, true);
    w.signal(b, Signal::Offer(Some(still(B))));
    let a = w.leg_at("A");
    w.signal(a, Signal::Answer(still(A)));
    (w, b)
}

/// B was called by A, holds, and has called C, where it rings.
fn two_calls_of_a_phone() -> (World, LegId) {
    let (mut w, b) = phone_holds();
    w.dial("B", "2003", Some(sdp("10.0.0.2:4002", &["PCMU"])));
    w.ring(w.last_placed());
    (w, b)
}

fn remote_in_use() -> (World, LegId) {
    let mut w = World::new(plan());
    w.open(APP, "D", None);
    w.dial("A", "2100", offer());
    let (d, e) = (w.placed[0], w.placed[1]);
    w.answered(e, sdp(B, &["PCMU"]));
    (w, d)
}

const REQUESTS: &[Act] = &[
    ("accept", |w, leg| w.request(APP, Request::Accept { leg })),
    ("answer", |w, leg| w.request(APP, Request::Answer { leg })),
    ("set_media", |w, leg| w.set_media(APP, leg, APP_RTP)),
    ("reject", |w, leg| w.request(APP, Request::Reject { leg, cause: Cause::CALL_REJECTED })),
    ("redirect", |w, leg| w.redirect(leg, "2003", true)),
    ("redirect to nobody", |w, leg| w.redirect(leg, "4711", true)),
    ("redirect, no way back", |w, leg| w.redirect(leg, "4711", false)),
    ("blind transfer", |w, leg| w.blind_transfer(leg, "2003")),
    ("… to nobody", |w, leg| w.blind_transfer(leg, "4711")),
    ("consult", |w, leg| w.request(APP, Request::Consult { leg, destination: "2003".into() })),
    ("transfer, two calls", |w, leg| w.transfer(leg, other_leg(w, leg))),
    ("… the other way", |w, leg| w.transfer(other_leg(w, leg), leg)),
    ("hold", |w, leg| w.request(APP, Request::Hold { leg })),
    ("retrieve", |w, leg| w.request(APP, Request::Retrieve { leg })),
    ("drop", |w, leg| w.request(APP, Request::Drop { leg })),
    ("close device", |w, leg| {
        let device = w.control.device_of_leg(leg).cloned().unwrap_or("P".into());
        w.request(APP, Request::CloseDevice { device });
    }),
    ("another's request", |w, leg| w.request(APP2, Request::Drop { leg })),
    ("12 s pass", |w, _| w.wait(Duration::from_secs(12))),
    ("caller hangs up", |w, leg| {
        let call = w.control.leg(leg).map(|leg| leg.call);
        let caller = w
            .control
            .calls()
            .find(|(id, _)| Some(*id) == call)
            .and_then(|(_, legs)| legs.first().map(|l| l.leg));
        w.hang_up(caller.unwrap_or(leg));
    }),
];

const SIGNALS: &[Act] = &[
    ("ringing", |w, leg| w.ring(leg)),
    ("answered", |w, leg| w.answered(leg, sdp(B, &["PCMU"]))),
    ("answered, no media", |w, leg| w.signal(leg, Signal::Answered { media: None })),
    ("rejected: busy", |w, leg| {
        w.signal(leg, Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] });
    }),
    ("rejected: go to 2003", |w, leg| {
        w.signal(
            leg,
            Signal::Rejected {
                cause: Cause::NORMAL_UNSPECIFIED,
                status: Some(302),
                redirect_to: vec!["2003".into()],
            },
        );
    }),
    ("released", |w, leg| w.hang_up(leg)),
    ("offer", |w, leg| w.signal(leg, Signal::Offer(Some(sdp("10.0.0.2:5000", &["PCMU"]))))),
    ("offer: hold", |w, leg| w.signal(leg, Signal::Offer(Some(still(B))))),
    ("offer: other codec", |w, leg| w.signal(leg, Signal::Offer(Some(sdp(B, &["G729"]))))),
    ("asks for an offer", |w, leg| w.signal(leg, Signal::Offer(None))),
    ("answer", |w, leg| w.signal(leg, Signal::Answer(sdp(B, &["PCMU"])))),
    ("answer: moved", |w, leg| w.signal(leg, Signal::Answer(sdp("10.0.0.2:5000", &["PCMU"])))),
    ("offer rejected", |w, leg| {
        w.signal(leg, Signal::OfferRejected { cause: Cause::INCOMPATIBLE_DESTINATION })
    }),
    ("digit", |w, leg| w.signal(leg, Signal::Digit { digit: '5', duration_ms: 100 })),
    ("transfer to 2003", |w, leg| w.signal(leg, Signal::Transfer(TransferTo::Number("2003".into())))),
    ("transfer to nobody", |w, leg| w.signal(leg, Signal::Transfer(TransferTo::Number("4711".into())))),
    ("transfer, two calls", |w, leg| {
        let other = other_leg(w, leg);
        w.signal(leg, Signal::Transfer(TransferTo::End(end_of(other))));
    }),
];

#[test]
fn leg_machine_and_what_applications_ask() {
    let states: &[Setup] = &[
        ("port: offering", offered),
        ("port: ringing", ringing),
        ("port: answering, asked for an address", answering),
        ("port: connected", connected),
        ("port: held", held),
        ("port: redirecting", redirecting),
        ("port: calls, proceeding", || calling("2002")),
        ("port: calls, ringback", ringback),
        ("port: consults, its first leg", consulting),
        ("port: consults, its second leg rings", || {
            let (w, _) = consulting();
            let second = w.leg_at("P");
            (w, second)
        }),
        ("port: consults, its second leg talks", || {
            let (mut w, _) = consulting();
            w.answered(w.last_placed(), sdp(B, &["PCMU"]));
            let second = w.leg_at("P");
            (w, second)
        }),
        ("port: two calls, none about the other", || two_calls("P", "6001")),
        ("port: gone", gone),
        ("route point: two calls", || two_calls("RP", "5000")),
        ("route point: connected", route_point),
        ("phone: offering", || phone(false, false)),
        ("phone: ringing", || phone(true, false)),
        ("phone: connected", || phone(true, true)),
        ("phone: held by itself", phone_holds),
        ("phone: remote in use", remote_in_use),
    ];
    assert_snapshot!(table(states, REQUESTS));
}

#[test]
fn leg_machine_and_what_the_signalling_says() {
    let states: &[Setup] = &[
        ("phone: offering", || phone(false, false)),
        ("phone: ringing", || phone(true, false)),
        ("phone: connected", || phone(true, true)),
        ("phone: held by itself", phone_holds),
        ("phone: remote in use", remote_in_use),
        ("phone: two calls, the first one held", two_calls_of_a_phone),
        ("phone: its ringing leg is being redirected", || {
            let (mut w, b) = phone(true, false);
            w.redirect(b, "2003", true);
            (w, b)
        }),
        ("phone: its connected leg is being redirected", || {
            let (mut w, b) = phone(true, true);
            w.redirect(b, "2003", true);
            (w, b)
        }),
        ("port: connected (has no signalling)", connected),
    ];
    assert_snapshot!(table(states, SIGNALS));
}

/// A phone that called; the signals are of that phone.
fn caller_of(setup: (World, LegId)) -> (World, LegId) {
    let (mut w, _) = setup;
    w.open(APP, "A", None);
    let a = w.leg_at("A");
    (w, a)
}

fn late_caller(answer: bool) -> (World, LegId) {
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    let a = w.dial("A", "2002", None);
    if answer {
        w.answered(w.last_placed(), sdp(B, &["PCMU"]));
    }
    (w, a)
}

fn between_phones(act: fn(&mut World, LegId)) -> (World, LegId) {
    let (mut w, a) = late_caller(true);
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    act(&mut w, a);
    (w, a)
}

#[test]
fn media_exchange() {
    let states: &[Setup] = &[
        ("caller waits, its offer unanswered", || caller_of(ringing())),
        ("caller waits without an offer", || late_caller(false)),
        ("caller was answered with an offer", || late_caller(true)),
        ("idle, peer is a phone", || between_phones(|_, _| {})),
        ("its offer went to the peer phone", || between_phones(|w, a| w.signal(a, Signal::Offer(offer())))),
        ("the peer phone's offer went to it", || {
            between_phones(|w, _| {
                w.signal(w.last_placed(), Signal::Offer(Some(sdp("10.0.0.2:5000", &["PCMU"]))))
            })
        }),
        ("offered silence, an application holds it", || {
            between_phones(|w, leg| w.request(APP, Request::Hold { leg }))
        }),
        ("idle, peer is an application", || caller_of(connected())),
        ("its offer waits for the application's address", || {
            let (mut w, a) = caller_of(connected());
            w.signal(a, Signal::Offer(Some(still(A))));
            w.signal(a, Signal::Offer(offer()));
            (w, a)
        }),
        ("held by the application", || caller_of(held())),
        ("the application asked back, its address awaited", || {
            let (mut w, p) = held();
            w.request(APP, Request::Retrieve { leg: p });
            caller_of((w, p))
        }),
        ("offered the application's media again", || {
            let (mut w, p) = held();
            w.request(APP, Request::Retrieve { leg: p });
            w.set_media(APP, p, APP_RTP);
            caller_of((w, p))
        }),
        ("offered a new peer after a redirect", || {
            let (mut w, p) = connected();
            w.redirect(p, "2002", true);
            w.answered(w.last_placed(), sdp(B, &["PCMU"]));
            caller_of((w, p))
        }),
    ];
    let mut inputs = SIGNALS[5..13].to_vec();
    inputs.push(("an application holds", |w, leg| w.request(APP, Request::Hold { leg })));
    inputs.push(("… and retrieves", |w, leg| w.request(APP, Request::Retrieve { leg })));
    inputs.push(("the address is given", |w, _| {
        if let Some(p) = w.control.legs_of_device(&"P".into()).first().map(|leg| leg.leg) {
            w.set_media(APP, p, "10.0.0.9:7010");
        }
    }));
    inputs.push(("12 s pass", |w, _| w.wait(Duration::from_secs(12))));
    assert_snapshot!(table(states, &inputs));
}

/// A leg of the port with this phone in each state, by a name.
type Second = (&'static str, fn(&mut World, phone: &str, number: &str) -> LegId);

const AT_A_PORT: &[Second] = &[
    ("offering", offered_by),
    ("ringing", |w, phone, _| {
        let leg = offered_by(w, phone, "");
        w.request(APP, Request::Accept { leg });
        leg
    }),
    ("connected", connected_to),
    ("held", |w, phone, _| {
        let leg = connected_to(w, phone, "");
        w.request(APP, Request::Hold { leg });
        w.signal(w.leg_at(phone), Signal::Answer(still(A)));
        leg
    }),
    ("sent elsewhere", |w, phone, _| {
        let leg = connected_to(w, phone, "");
        w.blind_transfer(leg, "2100");
        leg
    }),
    ("proceeding", |w, _, number| {
        w.make_call("P", number);
        w.leg_at("P")
    }),
    ("ringback", |w, _, number| {
        w.make_call("P", number);
        w.ring(w.last_placed());
        w.leg_at("P")
    }),
];

fn offered_by(w: &mut World, phone: &str, _: &str) -> LegId {
    w.dial(phone, "6001", offer());
    w.leg_at("P")
}

fn connected_to(w: &mut World, phone: &str, number: &str) -> LegId {
    let leg = offered_by(w, phone, number);
    w.request(APP, Request::Answer { leg });
    leg
}

/// All legs as applications see them.
fn seen(w: &World) -> Vec<device_model::LegView> {
    let mut legs: Vec<_> = w.control.calls().flat_map(|(_, legs)| legs).collect();
    legs.sort_by_key(|leg| leg.leg);
    legs
}

/// Only two that are connected or held are transferred, and what is refused changes nothing. (That who consults may also
/// hear it ring is in the table above.)
#[test]
fn two_legs_of_a_port_in_every_pair_of_states() {
    let mut text = String::new();
    for (one, first) in AT_A_PORT {
        for (two, second) in AT_A_PORT {
            let mut w = World::new(plan());
            w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
            let leg = first(&mut w, "A", "2001");
            let with = second(&mut w, "C", "2003");
            let before = seen(&w);
            w.said();
            w.transfer(leg, with);
            let said = w.said();
            let reply = said.lines().find_map(|line| line.strip_prefix("reply s1 ")).expect("an answer");
            assert!(reply == "done" || seen(&w) == before, "{one}, {two}: {said}");
            let _ = writeln!(text, "{one:<15} {two:<15} {reply}");
        }
    }
    assert_snapshot!(text);
}
