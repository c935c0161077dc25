//! Two calls of one device become one: which survives, who sees what, whose media meets.

use crate::world::*;
use device_model::media::Direction;
use device_model::{Cause, Input, LegId, LegState, Request, SessionId, Signal};
use insta::assert_snapshot;
use std::collections::BTreeMap;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const C: &str = "10.0.0.3:4000";
const APP_RTP: &str = "10.0.0.9:7000";

fn quiet(world: &World) {
    assert!(world.control.is_quiet(), "something is left behind");
}

/// The far end's answer to silence.
fn still(address: &str) -> Signal {
    Signal::Answer(directed(Direction::Inactive, sdp(address, &["PCMU"])))
}

fn talks(address: &str) -> Signal {
    Signal::Answer(sdp(address, &["PCMU"]))
}

fn state(w: &World, leg: LegId) -> Option<LegState> {
    w.control.leg(leg).map(|leg| leg.state)
}

fn data(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A port with two calls: A's, which is held, and the consultation of B, who rings.
struct Consulting {
    w: World,
    a: LegId,
    b: LegId,
    first: LegId,
    second: LegId,
}

fn consulting_by(plan: device_model::plan::Plan, open: &[&str]) -> Consulting {
    let mut w = World::new(plan);
    open.iter().for_each(|device| w.open(APP, device, None));
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let first = w.leg_at("P");
    w.request(APP, Request::Answer { leg: first });
    let second = w.consult(first, "2002");
    w.signal(a, still(A));
    let b = w.last_placed();
    w.ring(b);
    w.said();
    Consulting { w, a, b, first, second }
}

fn consulting() -> Consulting {
    consulting_by(plan(), &["A", "B"])
}

/// The same, and B has answered.
fn consulted() -> Consulting {
    let mut all = consulting();
    all.w.answered(all.b, sdp(B, &["PCMU"]));
    all.w.said();
    all
}

/// Reference §9a.4.
#[test]
fn a_port_consults_and_transfers() {
    let Consulting { mut w, a, b, first, second } = consulted();
    w.transfer(first, second);
    w.signal(a, talks(A));
    w.signal(b, talks(B));
    w.hang_up(b);
    assert_snapshot!(w.said());
    quiet(&w);
}

/// The consultation's call survives where that is the one that is named first; who consulted whom stays.
#[test]
fn the_call_that_is_named_first_survives() {
    let Consulting { mut w, a, b, first, second } = consulted();
    let call = w.control.leg(second).map(|leg| leg.call);
    w.transfer(second, first);
    w.signal(a, talks(A));
    w.signal(b, talks(B));
    assert_snapshot!(w.said());
    assert_eq!(w.control.leg(a).map(|leg| leg.call), call);
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn a_transfer_to_somebody_who_still_rings() {
    let Consulting { mut w, a, b, first, second } = consulting();
    w.transfer(first, second);
    w.ring(b);
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(a, talks(A));
    w.signal(b, talks(B));
    w.hang_up(a);
    assert_snapshot!("the_first_call_survives", w.said());
    quiet(&w);
    let Consulting { mut w, a, b, first, second } = consulting();
    w.transfer(second, first);
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(a, talks(A));
    w.signal(b, talks(B));
    w.hang_up(a);
    assert_snapshot!("the_consultation_survives", w.said());
    quiet(&w);
}

/// He does not answer, refuses, or has a forward: as for any other call that is sent to him.
#[test]
fn what_becomes_of_a_transfer_that_rings() {
    let Consulting { mut w, first, second, .. } = consulting();
    w.transfer(first, second);
    w.said();
    w.wait(Duration::from_secs(12));
    assert_snapshot!("nobody_answers", w.said());
    quiet(&w);
    let mut forwards = plan();
    forwards.numbers[1].forward.busy = Some("2003".into());
    let Consulting { mut w, a, b, first, second } = consulting_by(forwards, &["A", "C"]);
    w.transfer(first, second);
    w.signal(b, Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] });
    let c = w.last_placed();
    w.answered(c, sdp(C, &["PCMU"]));
    w.signal(a, talks(A));
    assert_snapshot!("busy_and_forwarded", w.said());
    w.hang_up(c);
    quiet(&w);
    let Consulting { mut w, a, first, second, .. } = consulting();
    w.transfer(first, second);
    w.said();
    w.hang_up(a);
    assert_snapshot!("who_waits_hangs_up", w.said());
    quiet(&w);
}

/// The port called both: whoever is left was called, and the number that he is forwarded from is his own.
#[test]
fn somebody_whom_the_port_called_is_the_caller_of_a_forward() {
    let mut forwards = plan();
    forwards.numbers[1].forward.busy = Some("2003".into());
    let mut w = World::new(forwards);
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP, "C", None);
    w.make_call("P", "2001");
    let first = w.leg_at("P");
    w.answered(w.last_placed(), sdp(A, &["PCMU"]));
    let second = w.consult(first, "2002");
    w.ring(w.last_placed());
    let b = w.last_placed();
    w.said();
    w.transfer(first, second);
    w.signal(b, Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] });
    let said = w.said();
    assert!(said.contains("Offering C:") && said.contains("2001->2003 ForwardBusy"), "{said}");
    assert!(said.contains("Call C 2001->2003 by 2002"), "{said}");
    w.hang_up(w.leg_at("A"));
    quiet(&w);
}

/// Two callers of a port, one on hold: no artificial hold or retrieve is told.
#[test]
fn any_two_calls_of_a_port() {
    let mut w = World::new(plan());
    ["A", "B"].iter().for_each(|device| w.open(APP, device, None));
    w.open(APP, "P", Some(dynamic(&["PCMU"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let first = w.leg_at("P");
    w.request(APP, Request::Answer { leg: first });
    w.set_media(APP, first, APP_RTP);
    w.request(APP, Request::Hold { leg: first });
    w.signal(a, still(A));
    let b = w.dial("B", "6001", Some(sdp(B, &["PCMU"])));
    let second = w.leg_at("P");
    w.request(APP, Request::Answer { leg: second });
    w.set_media(APP, second, "10.0.0.9:7002");
    w.said();
    w.transfer(second, first);
    w.signal(b, talks(B));
    w.signal(a, talks(A));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

/// A person has called twice; his application brings the two together. B has another call on hold, which is not concerned.
#[test]
fn an_application_joins_what_was_dialled_at_a_phone() {
    for rings in [false, true] {
        let mut w = World::new(plan());
        ["A", "B", "C"].iter().for_each(|device| w.open(APP, device, None));
        let first = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
        let b = w.last_placed();
        w.answered(b, sdp(B, &["PCMU"]));
        w.signal(first, Signal::Offer(Some(directed(Direction::SendOnly, sdp(A, &["PCMU"])))));
        w.signal(b, Signal::Answer(directed(Direction::ReceiveOnly, sdp(B, &["PCMU"]))));
        let second = w.dial("A", "2003", Some(sdp("10.0.0.1:4002", &["PCMU"])));
        let c = w.last_placed();
        w.ring(c);
        if !rings {
            w.answered(c, sdp(C, &["PCMU"]));
        }
        w.said();
        w.transfer(first, second);
        if rings {
            w.answered(c, sdp(C, &["PCMU"]));
        }
        w.signal(b, talks(B));
        w.signal(c, talks(C));
        assert_snapshot!(
            format!("a_person_called_twice_{}", if rings { "and_one_rings" } else { "and_both_talk" }),
            w.said()
        );
        w.hang_up(b);
        quiet(&w);
    }
}

/// Ports among themselves, each with an address for each call.
#[test]
fn applications_alone() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(dynamic(&["PCMU"])));
    w.open(APP, "Q", Some(dynamic(&["PCMU"])));
    w.open(APP, "RP", Some(fixed("10.0.0.8:7000", &["PCMU"])));
    w.make_call("P", "6002");
    let first = w.leg_at("P");
    let q = w.leg_at("Q");
    w.request(APP, Request::Answer { leg: q });
    w.set_media(APP, q, "10.0.0.7:7000");
    w.set_media(APP, first, APP_RTP);
    let second = w.consult(first, "5000");
    let rp = w.leg_at("RP");
    w.request(APP, Request::Answer { leg: rp });
    w.set_media(APP, second, "10.0.0.9:7002");
    w.said();
    w.transfer(first, second);
    w.set_media(APP, q, "10.0.0.7:7002");
    assert_snapshot!(w.said());
    w.request(APP, Request::Drop { leg: rp });
    quiet(&w);
}

#[test]
fn two_applications_without_a_common_codec_are_not_left_alone() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU", "PCMA"])));
    w.open(APP, "Q", Some(fixed("10.0.0.7:7000", &["PCMU"])));
    w.open(APP, "RP", Some(fixed("10.0.0.8:7000", &["PCMA"])));
    w.make_call("P", "6002");
    let first = w.leg_at("P");
    let q = w.leg_at("Q");
    w.request(APP, Request::Answer { leg: q });
    let second = w.consult(first, "5000");
    let rp = w.leg_at("RP");
    w.request(APP, Request::Accept { leg: rp });
    w.said();
    w.transfer(first, second);
    assert_eq!(w.said().lines().nth(1), Some("reply s1 REFUSED MediaCapabilityMismatch"), "it rings");
    w.request(APP, Request::Answer { leg: rp });
    w.said();
    w.transfer(first, second);
    assert_eq!(w.said().lines().nth(1), Some("reply s1 REFUSED MediaCapabilityMismatch"), "it talks");
    assert_eq!((state(&w, first), state(&w, second)), (Some(LegState::Held), Some(LegState::Connected)));
    w.request(APP, Request::Drop { leg: rp });
    w.request(APP, Request::Drop { leg: q });
    quiet(&w);
}

#[test]
fn what_is_no_other_call_of_the_same_device() {
    let Consulting { mut w, a, b, first, second } = consulted();
    w.open(APP, "RP", Some(fixed("10.0.0.8:7000", &["PCMU"])));
    w.said();
    for (leg, with) in
        [(first, first), (first, a), (first, b), (first, LegId(99)), (a, first), (LegId(99), first)]
    {
        w.transfer(leg, with);
    }
    w.request(APP2, Request::Transfer { leg: first, with: second });
    assert_snapshot!(w.said());
    assert_eq!((state(&w, first), state(&w, second)), (Some(LegState::Held), Some(LegState::Connected)));
    w.hang_up(a);
    // Its other call has ended a moment ago.
    w.transfer(second, first);
    w.transfer(first, second);
    let said = w.said();
    assert!(
        said.contains("REFUSED InvalidParams { field: \"with\" }") && said.contains("REFUSED NoSuchLeg"),
        "{said}"
    );
    w.hang_up(b);
    quiet(&w);
}

/// The surviving call's values win, others are added, as far as there is room.
#[test]
fn data_of_both_calls_come_together() {
    let Consulting { mut w, a, first, second, .. } = consulted();
    w.request(APP, Request::SetUserData { leg: first, user_data: data(&[("order", "7"), ("mood", "good")]) });
    w.request(APP, Request::SetUserData { leg: second, user_data: data(&[("order", "8"), ("agent", "Bo")]) });
    w.transfer(first, second);
    let joined = w.control.leg(a).map(|leg| BTreeMap::clone(&leg.user_data));
    assert_eq!(joined, Some(data(&[("agent", "Bo"), ("mood", "good"), ("order", "7")])));
    let Consulting { mut w, a, first, second, .. } = consulted();
    let long = "x".repeat(2_000);
    let much = |key: &str| data(&[(key, &long), ("z", "1")]);
    w.request(APP, Request::SetUserData { leg: first, user_data: much("a") });
    w.request(
        APP,
        Request::SetUserData { leg: second, user_data: data(&[("b", &long), ("c", &long), ("d", "2")]) },
    );
    w.transfer(first, second);
    let joined = w.control.leg(a).map(|leg| leg.user_data.keys().cloned().collect::<Vec<_>>());
    assert_eq!(joined.unwrap_or_default(), ["a", "b", "d", "z"], "4,096 bytes in all");
}

/// B's number rings at D and E; D has answered, and E sees that.
#[test]
fn who_watches_a_line_watches_on() {
    let mut w = World::new(plan());
    ["A", "E"].iter().for_each(|device| w.open(APP, device, None));
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let first = w.leg_at("P");
    w.request(APP, Request::Answer { leg: first });
    let second = w.consult(first, "2100");
    let d = w.placed[w.placed.len() - 2];
    w.answered(d, sdp(B, &["PCMU"]));
    let e = w.leg_at("E");
    w.said();
    w.transfer(first, second);
    let watching = w.control.leg(e).expect("it is there");
    assert!(watching.remote_in_use, "{watching:?}");
    assert_eq!(watching.connected.map(|party| party.number.to_string()), Some("2001".into()));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

/// Who hears that two calls became one: each session with a device of one of the calls open, once.
#[test]
fn who_is_told_of_a_transfer() {
    let mut w = World::new(plan());
    let [controls, sees_b, sees_neither] = [APP, APP2, SessionId(3)];
    w.open(controls, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(sees_b, "B", None);
    w.open(sees_neither, "C", None);
    w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let first = w.leg_at("P");
    w.request(APP, Request::Answer { leg: first });
    let second = w.consult(first, "2002");
    w.answered(w.last_placed(), sdp(B, &["PCMU"]));
    w.said();
    w.transfer(first, second);
    let said = w.said();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("transferred")).collect();
    assert_eq!(told.len(), 1, "{said}");
    assert!(told[0].starts_with("event [s1, s2] transferred"), "{said}");
}

#[test]
fn of_two_who_would_transfer_one_wins() {
    let mut w = World::new(plan());
    [APP, APP2].into_iter().for_each(|app| w.open(app, "P", Some(dynamic(&["PCMU"]))));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let first = w.leg_at("P");
    w.request(APP, Request::Answer { leg: first });
    w.set_media(APP, first, APP_RTP);
    let second = w.consult(first, "2002");
    w.set_media(APP, second, "10.0.0.9:7002");
    w.answered(w.last_placed(), sdp(B, &["PCMU"]));
    w.said();
    w.request(APP2, Request::Transfer { leg: first, with: second });
    w.transfer(first, second);
    w.request(APP, Request::Drop { leg: second });
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

/// A call that its other party sends elsewhere is not decided yet.
#[test]
fn what_is_being_sent_elsewhere_is_not_transferred() {
    let Consulting { mut w, a, first, second, .. } = consulted();
    w.blind_transfer(a, "2003");
    w.said();
    w.transfer(first, second);
    assert_snapshot!(w.said());
    w.ring(w.last_placed());
    // It is decided: the port waits for C now, and B can wait for him, too.
    w.transfer(first, second);
    assert_snapshot!("what_was_sent_elsewhere_is_transferred", w.said());
    w.input(Input::Shutdown { calls: usize::MAX });
    quiet(&w);
}
