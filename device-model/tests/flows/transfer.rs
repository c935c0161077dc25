//! Transfers: a call is sent away blindly; a port consults; two calls of one device become one.

use crate::world::*;
use device_model::media::Direction;
use device_model::{Cause, Input, LegId, LegState, Request, Signal};
use insta::assert_snapshot;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const C: &str = "10.0.0.3:4000";
const APP_RTP: &str = "10.0.0.9:7000";

fn quiet(world: &World) {
    assert!(world.control.is_quiet(), "something is left behind");
}

fn busy() -> Signal {
    Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] }
}

/// A talks to the port; all three phones are watched.
fn connected_port() -> (World, LegId, LegId) {
    let mut w = World::new(plan());
    for phone in ["A", "B", "C"] {
        w.open(APP, phone, None);
    }
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.said();
    (w, a, p)
}

#[test]
fn a_port_sends_its_caller_to_a_phone_that_answers() {
    let (mut w, a, p) = connected_port();
    w.blind_transfer(p, "2002");
    let b = w.last_placed();
    w.ring(b);
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    w.hang_up(a);
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn what_was_sent_to_a_busy_phone_or_to_nobody_stays() {
    let (mut w, a, p) = connected_port();
    w.blind_transfer(p, "2002");
    w.signal(w.last_placed(), busy());
    w.blind_transfer(p, "4711");
    w.blind_transfer(p, "");
    w.request(APP, Request::Hold { leg: p });
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    w.blind_transfer(p, "2002");
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn an_application_sends_a_phones_call_away_from_either_side() {
    for from_the_caller in [true, false] {
        let mut w = World::new(plan());
        for phone in ["A", "B", "C"] {
            w.open(APP, phone, None);
        }
        let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
        let b = w.last_placed();
        w.ring(b);
        w.answered(b, sdp(B, &["PCMU"]));
        w.said();
        let (goes, stays, at) = if from_the_caller { (a, b, B) } else { (b, a, A) };
        w.blind_transfer(goes, "2003");
        let c = w.last_placed();
        w.ring(c);
        let rings = w.control.leg(c).expect("it rings");
        let party = if from_the_caller { "2002" } else { "2001" };
        assert_eq!(&*rings.calling.number, party, "the caller is who stays");
        w.answered(c, sdp(C, &["PCMU"]));
        w.signal(stays, Signal::Answer(sdp(at, &["PCMU"])));
        assert_snapshot!(
            format!("sent_away_by_the_{}", if from_the_caller { "caller" } else { "callee" }),
            w.said()
        );
        w.hang_up(c);
        quiet(&w);
    }
}

/// A phone and a route point that ring, and one that is still offered.
#[test]
fn what_rings_is_sent_away_before_it_is_answered() {
    let mut w = World::new(plan());
    w.open(APP, "B", None);
    w.open(APP, "C", None);
    w.open(APP, "RP", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.ring(b);
    w.blind_transfer(b, "5000");
    let rp = w.leg_at("RP");
    w.request(APP, Request::Accept { leg: rp });
    w.blind_transfer(rp, "2003");
    let c = w.last_placed();
    w.ring(c);
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn a_phone_that_is_picked_up_meanwhile_keeps_its_call() {
    let mut w = World::new(plan());
    w.open(APP, "B", None);
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.ring(b);
    w.said();
    w.blind_transfer(b, "2003");
    w.answered(b, sdp(B, &["PCMU"]));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

/// The destination does not answer: its own forward takes the call, and without one it ends with cause 19.
#[test]
fn a_destination_that_never_answers() {
    let (mut w, a, p) = connected_port();
    w.blind_transfer(p, "2002");
    w.ring(w.last_placed());
    w.said();
    w.wait(Duration::from_secs(12));
    assert_snapshot!(w.said());
    assert!(w.control.leg(a).is_none());
    quiet(&w);
}

/// Two applications want to send one leg away, and one wants to drop it.
#[test]
fn of_two_applications_one_wins_and_the_other_is_told() {
    let mut w = World::new(plan());
    [APP, APP2].into_iter().for_each(|app| w.open(app, "P", Some(dynamic(&["PCMU"]))));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.set_media(APP, p, APP_RTP);
    w.said();
    let other = |w: &mut World| {
        w.request(APP2, Request::BlindTransfer { leg: p, destination: "2003".into() });
    };
    w.blind_transfer(p, "2002");
    other(&mut w);
    w.ring(w.last_placed());
    other(&mut w);
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

/// The far end, or who sends it away, vanishes before it is decided.
#[test]
fn who_vanishes_meanwhile_leaves_a_sane_call() {
    let (mut w, a, p) = connected_port();
    w.blind_transfer(p, "2002");
    w.hang_up(a);
    assert_snapshot!("the_far_end_vanishes", w.said());
    quiet(&w);
    let (mut w, a, p) = connected_port();
    w.blind_transfer(p, "2002");
    w.request(APP, Request::Drop { leg: p });
    w.signal(w.last_placed(), busy());
    assert_snapshot!("the_one_who_sends_it_away_vanishes", w.said());
    assert!(w.control.leg(a).is_none(), "there is nothing to go back to");
    quiet(&w);
}

/// The far end's answer to silence.
fn still(address: &str) -> Signal {
    Signal::Answer(directed(Direction::Inactive, sdp(address, &["PCMU"])))
}

#[test]
fn a_port_consults_a_phone_drops_it_and_goes_on_with_its_caller() {
    let (mut w, a, p) = connected_port();
    let user_data = [("order".to_owned(), "7".to_owned())].into();
    w.request(APP, Request::SetUserData { leg: p, user_data });
    w.said();
    let second = w.consult(p, "2002");
    let b = w.last_placed();
    w.signal(a, still(A));
    w.ring(b);
    w.answered(b, sdp(B, &["PCMU"]));
    let view = w.control.leg(second).expect("it is there");
    assert_eq!((view.consult_of, view.user_data.len()), (Some(p), 1), "{view:?}");
    w.request(APP, Request::SetUserData { leg: second, user_data: Default::default() });
    let first = w.control.leg(p).expect("it is there");
    assert_eq!(first.user_data.len(), 1, "it was a copy");
    w.request(APP, Request::Drop { leg: second });
    w.request(APP, Request::Retrieve { leg: p });
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn a_consultation_that_fails_leaves_its_first_call_held() {
    let (mut w, a, p) = connected_port();
    w.consult(p, "2002");
    w.signal(a, still(A));
    w.signal(w.last_placed(), busy());
    assert_snapshot!("the_consulted_is_busy", w.said());
    w.request(APP, Request::Retrieve { leg: p });
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    w.said();
    w.consult(p, "4711");
    w.signal(a, still(A));
    assert_snapshot!("the_consulted_is_nobody", w.said());
    assert_eq!(w.control.leg(p).map(|leg| leg.state), Some(LegState::Held));
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn a_consultation_counts_as_a_call_and_one_too_many_changes_nothing() {
    let mut plan = plan();
    plan.numbers[5].max_calls = Some(1);
    let mut w = World::new(plan);
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.said();
    w.request(APP, Request::Consult { leg: p, destination: "2002".into() });
    w.request(APP, Request::Consult { leg: p, destination: "".into() });
    assert_snapshot!(w.said());
    assert_eq!(w.control.leg(p).map(|leg| leg.state), Some(LegState::Connected));
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn each_call_of_a_port_with_dynamic_media_has_an_address_of_its_own() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(dynamic(&["PCMU"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.set_media(APP, p, APP_RTP);
    w.said();
    let second = w.consult(p, "2002");
    w.signal(a, still(A));
    w.set_media(APP, second, "10.0.0.9:7002");
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    assert_snapshot!(w.said());
    w.hang_up(a);
    w.hang_up(b);
    quiet(&w);
}

#[test]
fn a_consultation_goes_on_when_its_first_call_has_ended() {
    let (mut w, a, p) = connected_port();
    let second = w.consult(p, "2002");
    w.hang_up(a);
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    assert_snapshot!(w.said());
    assert_eq!(w.control.leg(second).map(|leg| leg.state), Some(LegState::Connected));
    w.hang_up(b);
    quiet(&w);
}

#[test]
fn an_application_that_fails_while_it_consults_is_cleared_from_both_calls() {
    let (mut w, _, p) = connected_port();
    w.open(APP2, "A", None);
    w.open(APP2, "B", None);
    w.consult(p, "2002");
    w.answered(w.last_placed(), sdp(B, &["PCMU"]));
    w.said();
    w.input(Input::SessionEnded(APP));
    assert_snapshot!(w.said());
    quiet(&w);
}
