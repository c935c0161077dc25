//! A phone that applications are kept off for a while: what happens there is hidden, and said for CTIManager's mirror alone.

use crate::world::*;
use device_model::media::Direction;
use device_model::plan::Plan;
use device_model::{Input, Request, Signal};
use insta::assert_snapshot;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const C: &str = "10.0.0.3:4000";

fn restrict(world: &mut World, restricted: bool) {
    let mut plan: Plan = world.plan.clone();
    plan.devices.iter_mut().filter(|device| device.name.as_str() == "A").for_each(|device| {
        device.allow_cti_control = !restricted;
    });
    world.configure(&plan);
}

/// A talks to B; C rings at A.
fn one_call_up_and_one_ringing() -> (World, [device_model::LegId; 3]) {
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    w.dial("C", "2001", Some(sdp(C, &["PCMU"])));
    let ringing = w.last_placed();
    w.ring(ringing);
    w.said();
    (w, [a, b, ringing])
}

#[test]
fn what_happens_at_a_restricted_phone_is_hidden_until_it_is_free_again() {
    let (mut w, [a, b, ringing]) = one_call_up_and_one_ringing();
    restrict(&mut w, true);
    w.signal(a, Signal::Offer(Some(directed(Direction::SendOnly, sdp(A, &["PCMU"])))));
    w.signal(b, Signal::Answer(directed(Direction::ReceiveOnly, sdp(B, &["PCMU"]))));
    w.hang_up(ringing);
    // One that comes and goes, and one that comes and stays.
    let short = w.dial("A", "2003", Some(sdp(A, &["PCMU"])));
    w.hang_up(short);
    w.dial("A", "2003", Some(sdp(A, &["PCMU"])));
    assert!(!w.heard("event [s1] call") && !w.heard("event [s1] media"));
    restrict(&mut w, false);
    assert_snapshot!(w.said());
}

#[test]
fn a_call_that_is_as_it_was_is_hidden_all_the_same_and_a_plan_that_reaches_the_phone_says_so() {
    let (mut w, _) = one_call_up_and_one_ringing();
    restrict(&mut w, true);
    assert_snapshot!(w.said(), @r"
    news A hides [l1, l6]
    news A restricted itself=Some(true) line=None
    news A reached
    news A settled in_service=false 2001->None accept=false
    ");
    restrict(&mut w, false);
    assert_snapshot!(w.said(), @r"
    news A restricted itself=Some(false) line=None
    news A reached
    news A settled in_service=true 2001->None accept=false
    ");
}

#[test]
fn nothing_is_said_of_what_nobody_has_open_any_more() {
    let (mut w, [a, ..]) = one_call_up_and_one_ringing();
    restrict(&mut w, true);
    w.input(Input::SessionEnded(APP));
    w.said();
    w.hang_up(a);
    restrict(&mut w, false);
    let said = w.said();
    assert!(!said.contains("event") && !said.contains("hid") && !said.contains("reached"), "{said}");
}

#[test]
fn nobody_acts_on_a_call_at_a_restricted_phone_or_line() {
    for line in [false, true] {
        let (mut w, [a, _, ringing]) = one_call_up_and_one_ringing();
        let mut plan: Plan = w.plan.clone();
        match line {
            false => plan.devices[0].allow_cti_control = false,
            true => plan.numbers[0].allow_cti_control = false,
        }
        w.configure(&plan);
        for request in [Request::Drop { leg: a }, Request::Hold { leg: a }, Request::Drop { leg: ringing }] {
            w.said();
            w.request(APP, request);
            let said = w.said();
            assert!(said.contains("REFUSED NoSuchLeg") && !said.contains("<-"), "{said}");
        }
        restrict(&mut w, false);
        w.configure(&w.plan.clone());
        w.said();
        w.request(APP, Request::Drop { leg: a });
        let said = w.said();
        assert!(said.contains("done"), "{said}");
    }
}
