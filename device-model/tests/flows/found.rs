//! What random walks found (`walk`), each as a story of its own.

use crate::world::*;
use device_model::media::Direction;
use device_model::plan::{DeviceKind, Plan};
use device_model::{Request, Revocation, Signal};
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";

/// The phone B has the route point's number, too.
fn shared() -> Plan {
    let mut plan = plan();
    let phone = plan.devices.iter_mut().find(|device| device.name.as_str() == "B").expect("a phone");
    phone.lines = vec!["5000".into()];
    plan
}

/// A calls 5000; the application answers and is asked for its address while the phone rings.
fn asked_while_a_phone_rings() -> (World, device_model::LegId) {
    let mut w = World::new(shared());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    let phone = w.last_placed();
    w.ring(phone);
    w.request(APP, Request::Answer { leg: w.leg_at("RP") });
    assert!(w.heard("open_channel RP"));
    w.said();
    (w, phone)
}

#[test]
fn who_was_about_to_answer_goes_and_the_others_ring_on_within_their_time() {
    let (mut w, _) = asked_while_a_phone_rings();
    w.request(APP, Request::CloseDevice { device: "RP".into() });
    assert!(!w.heard("Reject"));
    w.wait(Duration::from_secs(12));
    assert!(w.heard("Reject { cause: Cause(19 no_answer), status: Some(480) }"), "{}", w.said());
    assert!(w.control.is_quiet());
}

#[test]
fn another_appearance_answers_before_the_application_has_given_its_address() {
    let (mut w, phone) = asked_while_a_phone_rings();
    w.answered(phone, sdp(B, &["PCMU"]));
    assert!(w.heard("remote_in_use"));
    w.set_media(APP, w.leg_at("RP"), "10.0.0.9:7000");
    assert!(w.heard("REFUSED IllegalCallState"), "{}", w.said());
    w.hang_up(phone);
    assert!(w.control.is_quiet());
}

#[test]
fn a_call_that_ends_before_a_restriction_is_carried_out_has_its_end_told() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.redirect(w.leg_at("RP"), "2002", false);
    w.said();
    // The destination is gone first, and the call with it; then the route point's turn comes.
    let mut plan = w.plan.clone();
    plan.devices.retain(|device| device.name.as_str() != "B");
    plan.numbers.iter_mut().filter(|number| number.dn.as_str() == "5000").for_each(|number| {
        number.allow_cti_control = false;
    });
    w.configure(&plan);
    assert!(w.heard("event [s1] Disconnected RP"), "{}", w.said());
    assert!(w.control.is_quiet());
}

#[test]
fn taking_a_device_that_is_gone_takes_no_other() {
    let mut w = World::new(plan());
    for device in ["Q", "RP"] {
        w.open(APP, device, Some(dynamic(&["PCMU"])));
    }
    let mut without = w.plan.clone();
    without.devices.retain(|device| device.name.as_str() != "Q" || device.kind != DeviceKind::CtiPort);
    w.switch(&without, Vec::new());
    let devices = vec!["Q".into()].into();
    w.switch(&without, vec![Revocation { session: APP, devices }]);
    w.settle();
    assert!(w.control.is_open(APP, &"RP".into()));
}

/// The phone A is removed and added again, restricted at first, while nothing of it is told; then it calls.
#[test]
fn a_device_that_comes_back_calls_after_its_earlier_life_was_told_to_be_over() {
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    let there = w.plan.clone();
    let mut gone = there.clone();
    gone.devices.retain(|device| device.name.as_str() != "A");
    let mut restricted = there.clone();
    let back = restricted.devices.iter_mut().find(|device| device.name.as_str() == "A");
    back.expect("a phone").allow_cti_control = false;
    for plan in [&gone, &restricted, &there] {
        w.switch(plan, Vec::new());
    }
    w.said();
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    w.settle();
    let said = w.said();
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text} in {said}"));
    assert!(place("news A removed") < place("news A restricted itself=Some(false)"), "{said}");
    w.hang_up(a);
    assert!(w.control.is_quiet());
}

/// The same where its earlier life has calls, which end one after the other: nothing of the new life is told until the earlier
/// one is over.
#[test]
fn a_device_that_comes_back_is_told_of_when_the_calls_of_its_earlier_life_have_ended() {
    let mut w = World::new(plan());
    let b = w.dial("B", "2001", Some(sdp(A, &["PCMU"])));
    let a = w.last_placed();
    w.answered(a, sdp(A, &["PCMU"]));
    let there = w.plan.clone();
    let mut gone = there.clone();
    gone.devices.retain(|device| device.name.as_str() != "A");
    let mut restricted = there.clone();
    let back = restricted.devices.iter_mut().find(|device| device.name.as_str() == "A");
    back.expect("a phone").allow_cti_control = false;
    w.said();
    for plan in [&gone, &restricted, &there] {
        w.switch(plan, Vec::new());
    }
    w.settle();
    let said = w.said();
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text} in {said}"));
    assert!(place("news A removed") < place("news A restricted itself=Some(false)"), "{said}");
    assert!([a, b].iter().all(|leg| w.control.leg(*leg).is_none()), "{said}");
    assert!(w.control.is_quiet());
}

/// A phone begins to hold, and before that is answered its other end is redirected: the destination is offered what that phone
/// says, and is held.
#[test]
fn who_is_reached_by_a_redirect_is_told_that_the_other_phone_has_begun_to_hold() {
    let mut w = World::new(plan());
    ["A", "B", "C"].iter().for_each(|phone| w.open(APP, phone, None));
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.answered(b, sdp("10.0.0.2:4000", &["PCMU"]));
    let hold = directed(Direction::SendOnly, sdp(A, &["PCMU"]));
    w.signal(a, Signal::Offer(Some(hold)));
    w.said();
    let redirect = Request::Redirect {
        leg: b,
        destination: "2003".into(),
        calling_number: None,
        original_called: None,
        keep_on_failure: true,
    };
    w.request(APP, redirect);
    let said = w.said();
    assert!(said.contains("C:") && said.contains("relay 10.0.0.1:4000 SendOnly"), "{said}");
    w.hang_up(a);
    assert!(w.control.is_quiet());
}
