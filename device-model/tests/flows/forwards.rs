//! Where calls go when nobody takes them, and what applications leave behind.

use crate::world::*;
use device_model::media::Direction;
use device_model::plan::Plan;
use device_model::{Cause, Input, LegId, Request, Signal};
use insta::assert_snapshot;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const APP_RTP: &str = "10.0.0.9:7000";

fn plan_with(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = plan();
    change(&mut plan);
    plan
}

fn numbered<'a>(plan: &'a mut Plan, dn: &str) -> &'a mut device_model::plan::NumberPlan {
    plan.numbers.iter_mut().find(|number| number.dn.as_str() == dn).expect("a number")
}

fn quiet(world: &World) {
    assert!(world.control.is_quiet(), "something is left behind");
}

#[test]
fn numbers_that_lead_nowhere() {
    let mut w = World::new(plan_with(|p| {
        numbered(p, "2001").forward.all = Some("2002".into());
        numbered(p, "2002").forward.all = Some("2001".into());
    }));
    w.open(APP, "C", None);
    for number in ["4711", "2001", "5000", "6001", "9", ""] {
        w.dial("C", number, Some(sdp(A, &["PCMU"])));
        quiet(&w);
    }
    assert_snapshot!(w.said());
}

#[test]
fn forwards_on_busy_no_answer_and_unregistered() {
    let mut w = World::new(plan_with(|p| {
        numbered(p, "2001").forward.busy = Some("2002".into());
        numbered(p, "2002").forward.no_answer = Some("2003".into());
        numbered(p, "2003").forward.unregistered = Some("9110".into());
    }));
    w.input(Input::Unregistered("C".into()));
    w.open(APP, "D", None);
    w.dial("D", "2001", Some(sdp(A, &["PCMU"])));
    let a = w.last_placed();
    w.signal(a, Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] });
    let b = w.last_placed();
    w.ring(b);
    w.wait(Duration::from_secs(12));
    let trunk = w.last_placed();
    w.signal(
        trunk,
        Signal::Rejected { cause: Cause::NUMBER_CHANGED, status: Some(410), redirect_to: vec![] },
    );
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn rings_until_nobody_has_answered() {
    let mut w = World::new(plan_with(|p| numbered(p, "2002").ring_duration = Some(Duration::from_secs(3))));
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    w.ring(w.last_placed());
    w.wait(Duration::from_secs(3));
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn route_point_whose_application_sleeps() {
    let mut w = World::new(plan_with(|p| numbered(p, "5000").forward.no_answer = Some("2002".into())));
    w.open(APP, "RP", None);
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.wait(Duration::from_secs(4));
    w.hang_up(w.last_placed());
    quiet(&w);
    assert_snapshot!(w.said());
}

#[test]
fn busy_trigger_is_reached() {
    let mut w = World::new(plan_with(|p| numbered(p, "6001").busy_trigger = Some(1)));
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    w.dial("B", "6001", Some(sdp(B, &["PCMU"])));
    assert!(w.said().contains("Reject { cause: Cause(17 user_busy), status: Some(486) }"));
}

#[test]
fn no_codec_in_common_is_refused_before_any_event() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.said();
    w.dial("A", "6001", Some(sdp(A, &["G729"])));
    assert_snapshot!(w.said(), @r"
    > A dials 6001
    l1 <- Reject { cause: Cause(65 bearer_capability_not_implemented), status: Some(488) }
    ");
    quiet(&w);
}

#[test]
fn application_fails_with_calls_in_every_state() {
    let mut w = World::new(plan_with(|p| numbered(p, "5000").forward.on_failure = Some("2100".into())));
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.dial("B", "5000", Some(sdp(B, &["PCMU"])));
    let ringing = w.leg_at("RP");
    w.request(APP, Request::Accept { leg: ringing });
    w.dial("C", "6001", Some(sdp("10.0.0.3:4000", &["PCMU"])));
    w.request(APP, Request::Answer { leg: w.leg_at("P") });
    w.make_call("P", "9110");
    w.said();
    w.input(Input::SessionEnded(APP));
    assert_snapshot!(w.said());
}

#[test]
fn another_opener_keeps_the_device() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.open(APP2, "RP", Some(dynamic(&["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.said();
    w.input(Input::SessionEnded(APP));
    assert_eq!(w.said(), "");
    w.request(APP2, Request::CloseDevice { device: "RP".into() });
    assert!(w.said().contains("Reject { cause: Cause(41 temporary_failure)"));
    quiet(&w);
}

#[test]
fn redirect_from_offering_and_what_comes_back() {
    let mut w = World::new(plan());
    w.open(APP, "RP", None);
    w.open(APP, "B", None);
    let a = w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    let rp = w.leg_at("RP");
    w.redirect(rp, "4711", true);
    w.redirect(rp, "2002", true);
    w.signal(
        w.last_placed(),
        Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] },
    );
    w.redirect(rp, "6001", true);
    w.request(APP, Request::Answer { leg: rp });
    w.redirect(rp, "2002", true);
    let b = w.last_placed();
    w.ring(b);
    w.wait(Duration::from_secs(12));
    assert_snapshot!(w.said());
    assert!(w.control.leg(a).is_none());
    quiet(&w);
}

/// Route points hand a call from one to the next without ever accepting it.
#[test]
fn a_redirected_call_is_sent_on_by_who_was_offered_it() {
    let mut w = World::new(plan());
    w.open(APP, "RP", None);
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP, "Q", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    let rp = w.leg_at("RP");
    w.redirect(rp, "6001", true);
    let p = w.leg_at("P");
    w.redirect(rp, "2002", true); // its own redirect is not decided yet
    w.redirect(p, "4711", true); // nobody: the call stays at P
    w.redirect(p, "6002", true);
    let q = w.leg_at("Q");
    w.redirect(q, "2002", true);
    w.ring(w.last_placed());
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn redirect_without_a_way_back_and_a_caller_who_gives_up() {
    let mut w = World::new(plan());
    w.open(APP, "RP", None);
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.redirect(w.leg_at("RP"), "4711", false);
    quiet(&w);
    let a = w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.redirect(w.leg_at("RP"), "2002", true);
    w.hang_up(a);
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn shared_line_first_answer_wins() {
    let mut w = World::new(plan());
    w.open(APP, "D", None);
    w.open(APP, "E", None);
    w.dial("A", "2100", Some(sdp(A, &["PCMU"])));
    let (d, e) = (w.placed[0], w.placed[1]);
    w.ring(d);
    w.ring(e);
    w.answered(e, sdp(B, &["PCMU"]));
    w.request(APP, Request::Drop { leg: d });
    w.request(APP, Request::Hold { leg: d });
    w.hang_up(e);
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn phone_holds_and_the_application_hears_each_direction() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(dynamic(&["PCMU"])));
    w.open(APP, "A", None);
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.set_media(APP, p, APP_RTP);
    w.said();
    let offer = |direction| Signal::Offer(Some(directed(direction, sdp(A, &["PCMU"]))));
    w.signal(a, offer(Direction::SendOnly));
    w.signal(a, offer(Direction::SendReceive));
    w.signal(a, offer(Direction::Inactive));
    w.signal(a, offer(Direction::SendReceive));
    w.set_media(APP, p, "10.0.0.9:7010");
    w.signal(a, Signal::Offer(None));
    w.signal(a, Signal::Answer(sdp("10.0.0.1:4010", &["PCMU"])));
    assert_snapshot!(w.said());
}

#[test]
fn a_caller_whose_codecs_have_changed_is_not_answered() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP, "Q", Some(dynamic(&["PCMA"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU", "PCMA"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.redirect(p, "6002", true);
    let q = w.leg_at("Q");
    w.signal(a, Signal::Offer(Some(sdp(A, &["PCMU"]))));
    w.said();
    w.request(APP, Request::Answer { leg: q });
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn application_holds_a_phone_that_talks_to_a_phone() {
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    w.said();
    let still = |address| Signal::Answer(directed(Direction::Inactive, sdp(address, &["PCMU"])));
    w.request(APP, Request::Hold { leg: a });
    w.signal(a, still(A));
    w.signal(b, still(B));
    w.request(APP, Request::Retrieve { leg: a });
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    w.signal(b, Signal::Answer(sdp(B, &["PCMU"])));
    assert_snapshot!(w.said());
}

/// Phone A, watched by one application, and port P of another with an address of its own talk.
fn a_watched_phone_talks_to_a_port() -> (World, LegId, LegId) {
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    w.open(APP2, "P", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.request(APP2, Request::Answer { leg: p });
    w.said();
    (w, a, p)
}

#[test]
fn a_phone_that_held_while_it_was_held_says_so_when_it_is_retrieved() {
    let (mut w, a, p) = a_watched_phone_talks_to_a_port();
    let answer = |direction| Signal::Answer(directed(direction, sdp(A, &["PCMU"])));
    let offer = |direction| Signal::Offer(Some(directed(direction, sdp(A, &["PCMU"]))));
    w.request(APP2, Request::Hold { leg: p });
    w.signal(a, answer(Direction::Inactive));
    w.signal(a, offer(Direction::SendOnly));
    w.request(APP2, Request::Retrieve { leg: p });
    w.signal(a, answer(Direction::SendOnly));
    w.signal(a, offer(Direction::SendReceive));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn an_answer_to_a_hold_that_is_over_is_no_hold_of_the_phones() {
    let (mut w, a, p) = a_watched_phone_talks_to_a_port();
    let answer = |direction| Signal::Answer(directed(direction, sdp(A, &["PCMU"])));
    w.request(APP2, Request::Hold { leg: p });
    w.request(APP2, Request::Retrieve { leg: p });
    w.signal(a, answer(Direction::Inactive));
    w.signal(a, answer(Direction::SendReceive));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn the_other_phone_hears_of_a_hold_by_an_answer() {
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    w.said();
    let answer = |direction, address| Signal::Answer(directed(direction, sdp(address, &["PCMU"])));
    w.request(APP, Request::Hold { leg: a });
    w.signal(a, answer(Direction::Inactive, A));
    w.signal(b, answer(Direction::Inactive, B));
    w.request(APP, Request::Retrieve { leg: a });
    w.signal(a, answer(Direction::SendReceive, A));
    w.signal(b, answer(Direction::SendOnly, B));
    w.signal(a, answer(Direction::ReceiveOnly, A));
    w.signal(b, Signal::Offer(Some(sdp(B, &["PCMU"]))));
    w.signal(a, answer(Direction::SendReceive, A));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn port_calls_port_without_any_signalling() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(dynamic(&["PCMU", "PCMA"])));
    w.open(APP, "Q", Some(fixed(APP_RTP, &["PCMA"])));
    w.make_call("P", "6002");
    let (p, q) = (w.leg_at("P"), w.leg_at("Q"));
    w.request(APP, Request::Accept { leg: q });
    w.request(APP, Request::Answer { leg: q });
    w.set_media(APP, p, "10.0.0.8:7000");
    w.request(APP, Request::Hold { leg: q });
    w.request(APP, Request::Retrieve { leg: q });
    w.set_media(APP, p, "10.0.0.8:7000");
    w.request(APP, Request::Drop { leg: p });
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn two_phones_offer_at_once_and_a_refused_offer() {
    let mut w = World::new(plan());
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    w.said();
    w.signal(a, Signal::Offer(Some(sdp("10.0.0.1:5000", &["PCMU"]))));
    w.signal(b, Signal::Offer(Some(sdp("10.0.0.2:5000", &["PCMU"]))));
    w.signal(b, Signal::OfferRejected { cause: Cause::INCOMPATIBLE_DESTINATION });
    w.signal(b, Signal::Offer(Some(sdp("10.0.0.2:5000", &["PCMU"]))));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    assert_snapshot!(w.said());
}

#[test]
fn new_plan_restricts_and_removes() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP, "A", None);
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.dial("B", "6001", Some(sdp(B, &["PCMU"])));
    w.request(APP, Request::Answer { leg: w.leg_at("P") });
    w.said();
    let mut plan = w.plan.clone();
    plan.devices.iter_mut().find(|d| d.name.as_str() == "RP").expect("there").allow_cti_control = false;
    plan.devices.retain(|d| d.name.as_str() != "P");
    w.configure(&plan);
    w.configure(&w.plan.clone());
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn soft_limits_are_told_when_passed_and_when_kept_again() {
    let mut w = World::new(plan_with(|p| {
        (p.parameters.max_devices_per_provider, p.parameters.max_devices_per_node) = (1, 2)
    }));
    w.open(APP, "A", None);
    w.open(APP, "B", None);
    w.open(APP2, "C", None);
    w.request(APP, Request::CloseDevice { device: "B".into() });
    let limits: Vec<String> =
        w.said().lines().filter(|line| line.contains("limit")).map(str::to_owned).collect();
    assert_eq!(
        limits,
        [
            "DevicesPerProvider { session: s1, open: 2, limit: 1, exceeded: true }",
            "DevicesPerNode { open: 3, limit: 2, exceeded: true }",
            "DevicesPerProvider { session: s1, open: 1, limit: 1, exceeded: false }",
            "DevicesPerNode { open: 2, limit: 2, exceeded: false }",
        ]
    );
}

#[test]
fn a_standby_takes_over_the_media_of_an_application_that_has_gone() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.open(APP2, "RP", Some(dynamic(&["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    let (rp, a) = (w.leg_at("RP"), w.leg_at("A"));
    w.request(APP, Request::Answer { leg: rp });
    w.set_media(APP, rp, APP_RTP);
    w.said();
    w.input(Input::SessionEnded(APP));
    w.set_media(APP2, rp, "10.0.0.9:7002");
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    assert_snapshot!(w.said());
    w.hang_up(a);
    quiet(&w);
}

#[test]
fn a_call_whose_media_nobody_takes_over_is_cleared_when_the_time_for_it_is_over() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.open(APP2, "RP", Some(dynamic(&["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    let rp = w.leg_at("RP");
    w.request(APP, Request::Answer { leg: rp });
    w.set_media(APP, rp, APP_RTP);
    w.said();
    w.request(APP, Request::CloseDevice { device: "RP".into() });
    w.wait(Duration::from_secs(11));
    assert_eq!(w.control.leg(rp).map(|leg| leg.state), Some(device_model::LegState::Connected));
    w.wait(Duration::from_secs(1));
    assert!(w.said().contains("Release { cause: Cause(47"));
    quiet(&w);
}
