//! Offers before a call is answered, once an offer and its answer went over early media.

use crate::world::*;
use device_model::media::{Description, Direction};
use device_model::{Cause, LegId, Signal};

const A: &str = "10.0.0.1:4000";
const A2: &str = "10.0.0.1:4400";
const B: &str = "10.0.0.2:4000";
const B2: &str = "10.0.0.2:4400";

fn offers(w: &mut World, leg: LegId, offer: Description) -> String {
    w.said();
    w.signal(leg, Signal::Offer(Some(offer)));
    w.said().lines().skip(1).collect::<Vec<_>>().join("\n")
}

fn early(w: &mut World, number: &str) -> (LegId, LegId) {
    let a = w.dial("A", number, Some(sdp(A, &["PCMU", "PCMA"])));
    let b = w.last_placed();
    w.signal(b, Signal::Ringing { early: Some(sdp(B, &["PCMU"])) });
    (a, b)
}

#[test]
fn the_caller_is_answered_with_what_rings_and_that_hears_of_it_with_the_answer() {
    let mut w = World::new(plan());
    let (a, b) = early(&mut w, "9110");
    assert_eq!(offers(&mut w, a, sdp(A2, &["PCMU"])), "A:l1 <- AnswerOffer relay 10.0.0.2:4000 SendReceive");
    w.signal(b, Signal::Answered { media: None });
    let said = w.said();
    assert!(said.contains("A:l1 <- Answer relay 10.0.0.2:4000"), "{said}");
    assert!(said.contains("<- Offer relay 10.0.0.1:4400"), "the trunk knows the old address: {said}");
    w.signal(b, Signal::Answer(sdp(B, &["PCMU"])));
    w.hang_up(a);
    assert!(w.control.is_quiet());
}

/// What rings is held as soon as it has answered, and the caller, who holds, isn't asked to take that back.
#[test]
fn a_caller_may_hold_before_it_is_answered() {
    let mut w = World::new(plan());
    let (a, b) = early(&mut w, "9110");
    let hold = directed(Direction::SendOnly, sdp(A, &["PCMU"]));
    assert_eq!(offers(&mut w, a, hold), "A:l1 <- AnswerOffer relay 10.0.0.2:4000 SendReceive");
    w.signal(b, Signal::Answered { media: None });
    let said = w.said();
    assert!(said.contains("<- Offer relay 10.0.0.1:4000 SendOnly"), "{said}");
    w.signal(b, Signal::Answer(directed(Direction::ReceiveOnly, sdp(B, &["PCMU"]))));
    let said = w.said();
    assert!(!said.contains("A:l1 <- Offer"), "{said}");
    w.hang_up(a);
    assert!(w.control.is_quiet());
}

#[test]
fn what_rings_may_change_its_media_too() {
    let mut w = World::new(plan());
    let (a, b) = early(&mut w, "2002");
    assert_eq!(offers(&mut w, b, sdp(B2, &["PCMA"])), "B:l3 <- AnswerOffer relay 10.0.0.1:4000 SendReceive");
    w.signal(b, Signal::Answered { media: None });
    assert!(w.said().contains("A:l1 <- Answer relay 10.0.0.2:4400"), "the caller hears of it");
    w.hang_up(a);
    assert!(w.control.is_quiet());
}

#[test]
fn an_offer_with_nothing_in_common_is_refused_and_one_before_any_answer_waits() {
    let mut w = World::new(plan());
    let (a, b) = early(&mut w, "2002");
    assert_eq!(offers(&mut w, a, sdp(A2, &["G729"])), "A:l1 <- RejectOffer(NotAcceptable)");
    w.hang_up(a);
    assert!(w.control.leg(b).is_none());
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.ring(b);
    for leg in [a, b] {
        assert!(offers(&mut w, leg, sdp(A2, &["PCMU"])).ends_with("RejectOffer(Glare)"));
    }
    w.hang_up(a);
    // Both phones of a shared line: nobody's early media is heard.
    let a = w.dial("A", "2100", Some(sdp(A, &["PCMU"])));
    let d = w.last_placed();
    w.signal(d, Signal::Ringing { early: Some(sdp(B, &["PCMU"])) });
    assert!(offers(&mut w, a, sdp(A2, &["PCMU"])).ends_with("RejectOffer(Glare)"));
    w.hang_up(a);
    assert!(w.control.is_quiet());
}

#[test]
fn early_media_ends_with_who_plays_it_though_a_redirect_is_not_decided() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed("10.0.0.9:7000", &["PCMU"])));
    w.open(APP, "B", None);
    w.make_call("P", "2002");
    let b = w.last_placed();
    w.signal(b, Signal::Ringing { early: Some(sdp("10.0.0.2:4000", &["PCMU"])) });
    assert!(w.heard("media.started P:"), "{}", w.said());
    w.redirect(b, "2003", true);
    assert!(!w.heard("media.stopped"), "what the redirect left plays on: {}", w.said());
    w.signal(b, Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] });
    assert!(w.heard("media.stopped P:"), "{}", w.said());
    w.answered(w.last_placed(), sdp("10.0.0.3:4000", &["PCMU"]));
    assert!(w.heard("reply s1 done") && w.heard("Connected P:"), "{}", w.said());
}
