//! The transfer key of a phone: what a person's REFER does, and what becomes of it.

use crate::world::*;
use device_model::media::Direction;
use device_model::plan::SpacePlan;
use device_model::port::TransferTo;
use device_model::{Cause, LegId, LegState, Request, Signal};
use insta::assert_snapshot;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const C: &str = "10.0.0.3:4000";

fn quiet(world: &World) {
    assert!(world.control.is_quiet(), "something is left behind");
}

fn wants(w: &mut World, leg: LegId, to: &str) {
    w.signal(leg, Signal::Transfer(TransferTo::Number(to.into())));
}

fn state(w: &World, leg: LegId) -> Option<LegState> {
    w.control.leg(leg).map(|leg| leg.state)
}

/// A has called B, who holds and is about to press the key. All three phones are watched.
fn held_by_b(plan: device_model::plan::Plan) -> (World, LegId, LegId) {
    let mut w = World::new(plan);
    ["A", "B", "C"].iter().for_each(|phone| w.open(APP, phone, None));
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(b, Signal::Offer(Some(directed(Direction::SendOnly, sdp(B, &["PCMU"])))));
    w.signal(a, Signal::Answer(directed(Direction::ReceiveOnly, sdp(A, &["PCMU"]))));
    assert_eq!(state(&w, b), Some(LegState::Held));
    w.said();
    (w, a, b)
}

#[test]
fn a_person_sends_a_call_away_blindly() {
    let (mut w, a, b) = held_by_b(plan());
    wants(&mut w, b, "2003");
    let c = w.last_placed();
    w.ring(c);
    w.answered(c, sdp(C, &["PCMU"]));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    w.hang_up(a);
    assert_snapshot!(w.said());
    quiet(&w);
}

/// Busy, nobody, out of reach of the phone, out of service: the call stays on hold, and the person is told why.
#[test]
fn a_call_that_goes_nowhere_stays() {
    let mut barred = plan();
    barred.spaces = vec![SpacePlan { name: "all".into(), partitions: vec!["boss".into()] }];
    barred.numbers[2].partition = Some("boss".into());
    barred.numbers[0].calling_search_space = Some("all".into());
    let (mut w, a, b) = held_by_b(barred);
    wants(&mut w, b, "2003");
    wants(&mut w, b, "4711");
    wants(&mut w, b, "5000");
    wants(&mut w, b, "2100");
    let busy = |leg: LegId, w: &mut World| {
        w.signal(leg, Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] });
    };
    let [.., d, e] = w.placed[..] else { panic!("two phones ring") };
    busy(d, &mut w);
    busy(e, &mut w);
    assert_snapshot!(w.said());
    assert_eq!((state(&w, a), state(&w, b)), (Some(LegState::Connected), Some(LegState::Held)));
    w.signal(b, Signal::Offer(Some(sdp(B, &["PCMU"]))));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    assert_eq!(state(&w, b), Some(LegState::Connected));
    w.hang_up(a);
    quiet(&w);
}

/// B has called C meanwhile: the two of his are joined.
#[test]
fn a_person_brings_two_together() {
    for rings in [false, true] {
        let (mut w, a, b) = held_by_b(plan());
        let second = w.dial("B", "2003", Some(sdp("10.0.0.2:4002", &["PCMU"])));
        let c = w.last_placed();
        w.ring(c);
        if !rings {
            w.answered(c, sdp(C, &["PCMU"]));
        }
        w.said();
        w.signal(b, Signal::Transfer(TransferTo::End(end_of(second))));
        if rings {
            w.answered(c, sdp(C, &["PCMU"]));
        }
        w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
        w.signal(c, Signal::Answer(sdp(C, &["PCMU"])));
        assert_snapshot!(
            format!("a_person_brings_two_together_{}", if rings { "one_rings" } else { "both_talk" }),
            w.said()
        );
        w.hang_up(c);
        quiet(&w);
    }
}

/// Another phone's call, his own same call, one that has ended.
#[test]
fn what_is_not_his_to_join_is_refused() {
    let (mut w, a, b) = held_by_b(plan());
    for to in [TransferTo::End(end_of(a)), TransferTo::End(end_of(b)), TransferTo::Ended] {
        w.signal(b, Signal::Transfer(to));
    }
    let second = w.dial("B", "2003", Some(sdp("10.0.0.2:4002", &["PCMU"])));
    w.signal(b, Signal::Transfer(TransferTo::End(end_of(second))));
    let said = w.said();
    let refused = said.matches("Transferred(Err(Cause(41 temporary_failure)))").count();
    assert_eq!(refused, 4, "the last one does not ring yet: {said}");
    w.hang_up(second);
    w.hang_up(a);
    quiet(&w);
}

/// Who is referred away while an application sends the same call on; and the other way round.
#[test]
fn of_a_person_and_an_application_one_wins() {
    let (mut w, a, b) = held_by_b(plan());
    wants(&mut w, b, "2003");
    w.request(APP, Request::BlindTransfer { leg: a, destination: "2100".into() });
    w.ring(w.last_placed());
    assert_snapshot!("the_person_was_first", w.said());
    w.hang_up(a);
    quiet(&w);
    let (mut w, a, b) = held_by_b(plan());
    w.blind_transfer(a, "2003");
    wants(&mut w, b, "2100");
    assert_snapshot!("the_application_was_first", w.said());
    w.hang_up(b);
    quiet(&w);
}

/// Each of the three goes before it is decided.
#[test]
fn who_goes_meanwhile_leaves_a_sane_call() {
    let (mut w, a, b) = held_by_b(plan());
    wants(&mut w, b, "2003");
    w.hang_up(a);
    assert_snapshot!("the_one_who_is_sent_away_goes", w.said());
    quiet(&w);
    let (mut w, a, b) = held_by_b(plan());
    wants(&mut w, b, "2003");
    let c = w.last_placed();
    w.hang_up(b);
    w.ring(c);
    w.answered(c, sdp(C, &["PCMU"]));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    assert_snapshot!("the_referrer_goes", w.said());
    w.hang_up(a);
    quiet(&w);
    let (mut w, a, b) = held_by_b(plan());
    wants(&mut w, b, "2003");
    w.wait(Duration::from_secs(12));
    assert_snapshot!("nobody_answers_the_referred_call", w.said());
    assert_eq!(state(&w, b), Some(LegState::Held));
    w.hang_up(a);
    quiet(&w);
}
