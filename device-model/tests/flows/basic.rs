//! Phones, static and dynamic applications: from the first ring to the end.

use crate::world::*;
use device_model::{Request, Signal};
use insta::assert_snapshot;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const APP_RTP: &str = "10.0.0.9:7000";

fn quiet(world: &World) {
    assert!(world.control.is_quiet(), "something is left behind");
}

#[test]
fn phone_calls_phone_and_an_application_watches_both() {
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    w.open(APP, "B", None);
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU", "PCMA"])));
    let b = w.last_placed();
    w.ring(b);
    w.answered(b, sdp(B, &["PCMA"]));
    w.hang_up(a);
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn phone_with_a_late_offer_calls_phone() {
    let mut w = World::new(plan());
    let a = w.dial("A", "2002", None);
    let b = w.last_placed();
    w.ring(b);
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    w.hang_up(b);
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn static_port_answers_holds_and_retrieves() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU", "PCMA"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["G722", "PCMA", "PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Accept { leg: p });
    w.request(APP, Request::Answer { leg: p });
    w.request(APP, Request::Hold { leg: p });
    w.signal(a, Signal::Answer(directed(device_model::media::Direction::Inactive, sdp(A, &["PCMA"]))));
    w.request(APP, Request::Retrieve { leg: p });
    w.signal(a, Signal::Answer(sdp(A, &["PCMA"])));
    w.request(APP, Request::Drop { leg: p });
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn dynamic_route_point_answers_when_an_address_is_given() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.open(APP2, "RP", Some(dynamic(&["PCMU"])));
    let a = w.dial("A", "5000", Some(sdp(A, &["PCMA", "PCMU"])));
    let rp = w.leg_at("RP");
    w.request(APP, Request::Answer { leg: rp });
    w.set_media(APP2, rp, "10.0.0.9:7001");
    w.set_media(APP2, rp, APP_RTP);
    w.set_media(APP, rp, "10.0.0.9:7002");
    w.hang_up(a);
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn nobody_gives_an_address() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.request(APP, Request::Answer { leg: w.leg_at("RP") });
    w.wait(Duration::from_secs(12));
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn connected_call_is_redirected_to_a_phone() {
    let mut w = World::new(plan());
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.open(APP, "A", None);
    let a = w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    let rp = w.leg_at("RP");
    w.request(APP, Request::Answer { leg: rp });
    w.set_media(APP, rp, APP_RTP);
    w.redirect(rp, "2002", true);
    let b = w.last_placed();
    w.ring(b);
    w.answered(b, sdp(B, &["PCMU"]));
    w.signal(a, Signal::Answer(sdp(A, &["PCMU"])));
    w.hang_up(b);
    assert_snapshot!(w.said());
    quiet(&w);
}

#[test]
fn port_calls_a_trunk_with_dynamic_media() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(dynamic(&["PCMU", "PCMA"])));
    w.make_call("P", "9004930");
    w.set_media(APP, w.leg_at("P"), APP_RTP);
    let trunk = w.last_placed();
    w.ring(trunk);
    assert!(w.heard("Ringback P"));
    w.answered(trunk, sdp(B, &["PCMA", "PCMU"]));
    w.hang_up(trunk);
    assert_snapshot!(w.said());
    quiet(&w);
}
