//! What is said of a call's media as its ends get keys, lose them, get others, and talk to somebody else.

use crate::world::*;
use device_model::media::{Crypto, Description, KeyRef, SrtpSuite};
use device_model::{LegId, Request, Signal};
use insta::assert_snapshot;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const C: &str = "10.0.0.3:4000";

fn over_tls(description: Description) -> Description {
    Description { over_tls: true, ..description }
}

fn clear(address: &str) -> Description {
    over_tls(sdp(address, &["PCMU"]))
}

fn secure(address: &str, key: u64) -> Description {
    altered(clear(address), |line| line.crypto = keys(key))
}

/// A phone calls another; an application watches both.
fn talk(a: Description, b: Description) -> (World, LegId, LegId) {
    let mut w = World::new(plan());
    for phone in ["A", "B", "C"] {
        w.open(APP, phone, None);
    }
    w.said();
    let a = w.dial("A", "2002", Some(a));
    let b_leg = w.last_placed();
    w.answered(b_leg, b);
    (w, a, b_leg)
}

fn ends(mut w: World, leg: LegId) {
    w.hang_up(leg);
    assert!(w.control.is_quiet());
}

#[test]
fn a_call_is_encrypted_when_both_ends_are_and_says_so_from_its_answer_on() {
    let (mut w, a, _) = talk(secure(A, 1), secure(B, 2));
    assert_snapshot!(w.said());
    ends(w, a);
}

#[test]
fn a_call_over_tls_without_keys_is_authenticated_and_with_an_end_elsewhere_it_is_nothing() {
    let (mut w, a, _) = talk(secure(A, 1), clear(B));
    let said = w.said();
    assert!(said.contains("security=Authenticated") && !said.contains("Encrypted"), "{said}");
    ends(w, a);
    let (mut w, a, _) = talk(clear(A), sdp(B, &["PCMU"]));
    assert!(!w.said().contains("security="));
    ends(w, a);
}

#[test]
fn a_call_whose_video_is_clear_is_not_encrypted() {
    let with_video = |description, other_clear| Description { other_media: true, other_clear, ..description };
    let (mut w, a, _) = talk(with_video(secure(A, 1), false), with_video(secure(B, 2), true));
    assert!(!w.said().contains("Encrypted"));
    ends(w, a);
    let (mut w, a, _) = talk(with_video(secure(A, 1), true), secure(B, 2));
    assert!(w.said().contains("Encrypted"), "the clear line was refused");
    ends(w, a);
}

#[test]
fn what_holds_changes_in_mid_call_before_the_streams_that_it_is_about() {
    let (mut w, a, b) = talk(secure(A, 1), secure(B, 2));
    w.said();
    w.signal(a, Signal::Offer(Some(clear(A))));
    w.signal(b, Signal::Answer(clear(B)));
    w.signal(a, Signal::Offer(Some(secure(A, 3))));
    w.signal(b, Signal::Answer(secure(B, 4)));
    assert_snapshot!(w.said());
    ends(w, a);
}

#[test]
fn another_key_starts_no_stream_again() {
    let (mut w, a, b) = talk(secure(A, 1), secure(B, 2));
    w.said();
    w.signal(a, Signal::Offer(Some(secure(A, 3))));
    w.signal(b, Signal::Answer(secure(B, 2)));
    assert_snapshot!(w.said());
    ends(w, a);
}

#[test]
fn who_is_held_by_an_application_stays_encrypted_and_a_transfer_asks_anew() {
    let (mut w, a, b) = talk(secure(A, 1), secure(B, 2));
    w.request(APP, Request::Hold { leg: a });
    w.signal(a, Signal::Answer(secure(A, 1)));
    w.signal(b, Signal::Answer(secure(B, 2)));
    w.request(APP, Request::Retrieve { leg: a });
    w.signal(a, Signal::Answer(secure(A, 1)));
    w.signal(b, Signal::Answer(secure(B, 2)));
    w.blind_transfer(a, "2003");
    let c = w.last_placed();
    w.answered(c, clear(C));
    w.signal(b, Signal::Answer(clear(B)));
    assert_snapshot!(w.said());
    ends(w, b);
}

#[test]
fn of_two_offers_the_strongest_suite_that_both_have_is_taken() {
    let line = |tag, suite, key| Crypto { tag, suite, key: KeyRef(key) };
    let (gcm, cm) = (SrtpSuite::AeadAes128Gcm, SrtpSuite::AesCm128HmacSha1_80);
    let two = altered(clear(A), |l| l.crypto = [line(1, cm, 1), line(2, gcm, 2)].into_iter().collect());
    let other = altered(clear(B), |l| l.crypto = [line(1, gcm, 3), line(2, cm, 4)].into_iter().collect());
    let (mut w, a, _) = talk(two, other);
    let said = w.said();
    assert!(said.contains("input 10.0.0.1:4000 PCMU/0 SendReceive KeyRef(3)"), "{said}");
    assert!(said.contains("output 10.0.0.2:4000 PCMU/0 SendReceive KeyRef(2)"), "{said}");
    ends(w, a);
}
