//! Calls in which an end wants no media at the moment when somebody answers, or can't have any yet.

use crate::world::*;
use device_model::media::{Description, Direction};
use device_model::plan::OfferTime;
use device_model::{Cause, Request, Signal};
use insta::assert_snapshot;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";

fn still(address: &str) -> Description {
    directed(Direction::Inactive, sdp(address, &["PCMU"]))
}

/// P talks to Q, both with an address for each call.
fn port_talks_to_port() -> World {
    let mut w = World::new(plan());
    for port in ["P", "Q"] {
        w.open(APP, port, Some(dynamic(&["PCMU"])));
    }
    w.open(APP2, "RP", Some(dynamic(&["PCMU"])));
    w.make_call("P", "6002");
    w.request(APP, Request::Answer { leg: w.leg_at("Q") });
    for (port, address) in [("P", "10.0.0.9:7000"), ("Q", "10.0.0.9:7002")] {
        w.set_media(APP, w.leg_at(port), address);
    }
    w.said();
    w
}

#[test]
fn a_call_is_answered_while_its_caller_is_on_hold() {
    let mut w = port_talks_to_port();
    w.redirect(w.leg_at("Q"), "5000", true);
    w.request(APP, Request::Hold { leg: w.leg_at("P") });
    w.request(APP2, Request::Answer { leg: w.leg_at("RP") });
    w.request(APP, Request::Retrieve { leg: w.leg_at("P") });
    w.set_media(APP2, w.leg_at("RP"), "10.0.0.8:7000");
    w.set_media(APP, w.leg_at("P"), "10.0.0.9:7004");
    assert_snapshot!(w.said());
    w.request(APP, Request::Drop { leg: w.leg_at("P") });
    assert!(w.control.is_quiet());
}

#[test]
fn a_call_that_offers_no_media_is_answered() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.said();
    let a = w.dial("A", "5000", Some(still(A)));
    w.request(APP, Request::Answer { leg: w.leg_at("RP") });
    w.signal(a, Signal::Offer(Some(sdp(A, &["PCMU"]))));
    w.set_media(APP, w.leg_at("RP"), "10.0.0.9:7000");
    assert_snapshot!(w.said());
    w.hang_up(a);
    assert!(w.control.is_quiet());
}

#[test]
fn an_offer_in_a_200_is_answered_though_the_call_is_redirected_first() {
    let mut plan = plan();
    plan.devices[0].offer = OfferTime::Late;
    let mut w = World::new(plan);
    w.open(APP, "P", Some(dynamic(&["PCMU"])));
    w.make_call("P", "2001");
    let a = w.last_placed();
    w.answered(a, sdp(A, &["PCMU"]));
    w.said();
    w.redirect(w.leg_at("P"), "2002", true);
    let b = w.last_placed();
    w.ring(b);
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    assert_snapshot!(w.said());
    w.hang_up(a);
    assert!(w.control.is_quiet());
}

#[test]
fn a_caller_who_never_answers_our_offer_is_asked_again_for_the_next_destination() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed("10.0.0.9:7000", &["PCMU"])));
    let a = w.dial("A", "6001", None);
    w.request(APP, Request::Answer { leg: w.leg_at("P") });
    w.redirect(w.leg_at("P"), "2002", true);
    let b = w.last_placed();
    w.ring(b);
    w.said();
    w.signal(a, Signal::OfferRejected { cause: Cause::PROTOCOL_ERROR });
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    assert_snapshot!(w.said());
    w.hang_up(a);
    assert!(w.control.is_quiet());
}
