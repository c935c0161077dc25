//! Who offers what to whom: lines of a description, early and late offers, early media, payload types, fax.

use crate::world::*;
use device_model::media::{Description, Direction, Format, Profile};
use device_model::plan::{OfferTime, Plan};
use device_model::{LegId, Request, Signal};
use insta::assert_snapshot;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const APP_RTP: &str = "10.0.0.9:7000";

fn calling_with(plan: Plan, codecs: &[&str], to: &str) -> (World, LegId) {
    let mut w = World::new(plan);
    w.open(APP, "P", Some(dynamic(codecs)));
    w.said();
    w.make_call("P", to);
    let p = w.leg_at("P");
    (w, p)
}

fn calling(to: &str) -> (World, LegId) {
    calling_with(plan(), &["PCMU", "PCMA"], to)
}

fn lines(descriptions: &[Description]) -> Description {
    let mut all = descriptions[0].clone();
    all.audio = descriptions.iter().flat_map(|d| d.audio.iter().cloned()).collect();
    all.audio.iter_mut().enumerate().for_each(|(place, line)| line.place = place);
    all
}

fn secure(address: &str) -> Description {
    altered(sdp(address, &["PCMU"]), |line| (line.profile, line.crypto) = (Profile::Secure, keys(1)))
}

fn refused(description: Description) -> Description {
    altered(description, |line| line.address.set_port(0))
}

fn fax(address: &str) -> Description {
    Description { other_media: true, ..refused(sdp(address, &["PCMU"])) }
}

#[test]
fn a_dynamic_port_is_asked_for_its_address_before_a_phone_is_called() {
    let (mut w, p) = calling("2001");
    w.set_media(APP, p, APP_RTP);
    let a = w.last_placed();
    w.ring(a);
    w.answered(a, sdp(A, &["PCMA"]));
    w.hang_up(a);
    assert_snapshot!(w.said());
    assert!(w.control.is_quiet());
}

#[test]
fn early_media_begins_with_ringback_and_goes_on_when_it_is_answered() {
    let (mut w, p) = calling("9110");
    w.set_media(APP, p, APP_RTP);
    let trunk = w.last_placed();
    w.signal(trunk, Signal::Ringing { early: Some(sdp(B, &["PCMA"])) });
    w.ring(trunk);
    w.signal(trunk, Signal::Answered { media: None });
    w.hang_up(trunk);
    assert_snapshot!(w.said());
    assert!(w.control.is_quiet());
}

#[test]
fn early_media_ends_where_another_destination_is_tried() {
    let mut plan = plan();
    plan.numbers[0].forward.no_answer = Some("2002".into());
    let (mut w, p) = calling_with(plan, &["PCMU"], "2001");
    w.set_media(APP, p, APP_RTP);
    w.signal(w.last_placed(), Signal::Ringing { early: Some(sdp(A, &["PCMU"])) });
    w.wait(Duration::from_secs(12));
    w.answered(w.last_placed(), sdp(B, &["PCMU"]));
    w.request(APP, Request::Drop { leg: p });
    assert_snapshot!(w.said());
    assert!(w.control.is_quiet());
}

#[test]
fn nobody_is_asked_for_an_address_where_the_number_leads_nowhere() {
    for (to, cause) in [("4711", "cause=1"), ("6002", "cause=20")] {
        let mut w = World::new(plan());
        w.open(APP, "P", Some(dynamic(&["PCMU"])));
        w.make_call("P", to);
        let said = w.said();
        assert!(!said.contains("open_channel") && said.contains(cause), "{said}");
        assert!(w.control.is_quiet());
    }
}

#[test]
fn an_application_that_gives_no_address_calls_nobody() {
    let (mut w, _) = calling("2001");
    w.wait(Duration::from_secs(12));
    let said = w.said();
    assert!(said.contains("Failed P:l1") && said.contains("cause=47"), "{said}");
    assert!(w.placed.is_empty() && w.control.is_quiet());
}

#[test]
fn a_caller_who_drops_before_its_address_is_known_calls_nobody() {
    let (mut w, p) = calling("2001");
    w.request(APP, Request::Drop { leg: p });
    assert!(w.placed.is_empty() && w.control.is_quiet());
}

#[test]
fn the_number_is_looked_up_anew_when_the_address_is_there() {
    let (mut w, p) = calling("2001");
    w.input(device_model::Input::Unregistered("A".into()));
    w.set_media(APP, p, APP_RTP);
    assert!(w.said().contains("cause=20"));
    assert!(w.placed.is_empty() && w.control.is_quiet());
}

#[test]
fn a_late_trunk_is_called_without_an_offer_and_makes_its_own() {
    let mut plan = plan();
    plan.trunks[0].offer = OfferTime::Late;
    let (mut w, p) = calling_with(plan.clone(), &["PCMU"], "9110");
    w.answered(w.last_placed(), sdp(B, &["PCMU"]));
    w.set_media(APP, p, APP_RTP);
    assert_snapshot!(w.said());
    let mut w = World::new(plan);
    w.open(APP, "A", None);
    w.said();
    w.dial("A", "9110", Some(sdp(A, &["PCMU", "PCMA"])));
    w.answered(w.last_placed(), sdp(B, &["PCMA"]));
    assert_snapshot!("a_late_trunk_and_a_caller_who_offers", w.said());
}

#[test]
fn a_late_trunk_with_nothing_in_common_is_not_connected() {
    let mut plan = plan();
    plan.trunks[0].offer = OfferTime::Late;
    let mut w = World::new(plan);
    w.dial("A", "9110", Some(sdp(A, &["PCMU"])));
    w.said();
    w.answered(w.last_placed(), sdp(B, &["G729"]));
    let said = w.said();
    assert!(said.contains("Reject") && said.contains("cause: Cause(65"), "{said}");
    assert!(w.control.is_quiet());
}

#[test]
fn a_call_that_is_sent_on_keeps_the_address_that_was_offered() {
    let (mut w, p) = calling("2001");
    w.open(APP2, "A", None);
    w.set_media(APP, p, APP_RTP);
    let a = w.last_placed();
    w.answered(a, sdp(A, &["PCMU"]));
    w.said();
    let destination = "2002".into();
    w.request(
        APP2,
        Request::Redirect {
            leg: a,
            destination,
            calling_number: None,
            original_called: None,
            keep_on_failure: true,
        },
    );
    w.ring(w.last_placed());
    w.answered(w.last_placed(), sdp(B, &["PCMU"]));
    assert_snapshot!(w.said());
}

#[test]
fn a_redirect_that_gets_no_address_goes_back() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(dynamic(&["PCMU"])));
    w.open(APP2, "RP", Some(dynamic(&["PCMU"])));
    w.make_call("P", "5000");
    let rp = w.leg_at("RP");
    w.request(APP2, Request::Accept { leg: rp });
    let ask = Request::Redirect {
        leg: rp,
        destination: "2001".into(),
        calling_number: None,
        original_called: None,
        keep_on_failure: true,
    };
    w.request(APP2, ask.clone());
    assert!(w.heard("open_channel P:"));
    w.said();
    w.wait(Duration::from_secs(12));
    let said = w.said();
    assert!(said.contains("reply s2 REFUSED DestinationOutOfService"), "{said}");
    w.request(APP2, ask);
    w.set_media(APP, w.leg_at("P"), APP_RTP);
    w.ring(w.last_placed());
    assert!(w.heard("reply s2 done"));
}

#[test]
fn the_first_line_that_an_application_can_speak_is_taken() {
    let six = || sdp("[2001:db8::1]:4000", &["PCMU"]);
    let g729 = || sdp(A, &["G729"]);
    for (case, offer, place) in [
        ("profile", lines(&[secure(A), sdp(B, &["PCMU"])]), 1),
        ("codec", lines(&[g729(), refused(sdp(A, &["PCMU"])), sdp(B, &["PCMU"])]), 2),
        ("family", lines(&[six(), sdp(B, &["PCMU"])]), 1),
    ] {
        let mut w = World::new(plan());
        w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
        let a = w.dial("A", "6001", Some(offer));
        w.request(APP, Request::Answer { leg: w.leg_at("P") });
        assert!(w.heard(&format!("output {B} PCMU/0")), "{case}: {}", w.said());
        assert_eq!(w.written_place(a), Some(place), "{case}");
        w.request(APP, Request::Hold { leg: w.leg_at("P") });
        assert_eq!(w.written_place(a), Some(place), "{case}: hold keeps the place");
    }
    for (case, offer) in [
        ("secure alone", secure(A)),
        ("refused alone", refused(sdp(A, &["PCMU"]))),
        ("fax alone", fax(A)),
        ("the other family", six()),
    ] {
        let mut w = World::new(plan());
        w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
        w.said();
        w.dial("A", "6001", Some(offer));
        let said = w.said();
        assert!(
            said.contains("Reject") && said.contains("Some(488)") && !said.contains("event"),
            "{case}: {said}"
        );
        assert!(w.control.is_quiet());
    }
}

#[test]
fn an_address_of_the_other_family_is_refused() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(dynamic(&["PCMU"])));
    w.dial("A", "6001", Some(sdp("[2001:db8::1]:4000", &["PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.set_media(APP, p, APP_RTP);
    assert!(w.heard("REFUSED InvalidParams { field: \"ip\" }"));
    w.set_media(APP, p, "[2001:db8::9]:7000");
    assert!(w.heard("Connected P"));
}

#[test]
fn a_line_that_is_refused_is_no_hold() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP2, "A", None);
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    w.request(APP, Request::Answer { leg: w.leg_at("P") });
    w.said();
    for offer in [fax(A), refused(sdp(A, &["PCMU"])), secure(A)] {
        w.signal(a, Signal::Offer(Some(offer)));
        assert_eq!(w.said(), "> A:l1 Offer\nA:l1 <- RejectOffer(NotAcceptable)\n");
    }
    w.hang_up(a);
    let b = {
        w.open(APP, "B", None);
        w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
        w.last_placed()
    };
    w.answered(b, sdp(B, &["PCMU"]));
    w.said();
    w.signal(b, Signal::Offer(Some(fax(B))));
    w.signal(w.leg_at("A"), Signal::Answer(fax(A)));
    w.signal(b, Signal::Offer(Some(sdp(B, &["PCMU"]))));
    w.signal(w.leg_at("A"), Signal::Answer(sdp(A, &["PCMU"])));
    assert_snapshot!(w.said());
    // Fax that is refused by an answer passes, too.
    w.signal(b, Signal::Offer(Some(fax(B))));
    w.signal(w.leg_at("A"), Signal::Answer(refused(sdp(A, &["PCMU"]))));
    assert!(w.heard("AnswerOffer relay 10.0.0.1:0") && !w.heard("Disconnected"));
}

#[test]
fn an_answer_that_refuses_every_line_ends_the_call() {
    let ended = |w: &mut World| {
        let said = w.said();
        assert!(said.contains("cause=65"), "{said}");
        assert!(w.control.is_quiet());
    };
    let (mut w, p) = calling("2001");
    w.set_media(APP, p, APP_RTP);
    w.answered(w.last_placed(), refused(sdp(A, &["PCMU"])));
    assert!(!w.heard("Connected"));
    ended(&mut w);
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    let a = w.dial("A", "6001", None);
    w.request(APP, Request::Answer { leg: w.leg_at("P") });
    w.signal(a, Signal::Answer(refused(sdp(A, &["PCMU"]))));
    ended(&mut w);
    let mut w = World::new(plan());
    w.open(APP, "A", None);
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    w.answered(w.last_placed(), refused(sdp(B, &["PCMU"])));
    ended(&mut w);
}

fn numbered(address: &str, payload_type: u8, dtmf: Option<u8>) -> Description {
    altered(sdp(address, &["opus"]), |line| {
        line.formats =
            [Format { payload_type, codec: device_model::media::Codec::Opus }].into_iter().collect();
        line.dtmf_payload_type = dtmf;
    })
}

#[test]
fn what_is_received_bears_our_numbers_and_what_is_sent_the_far_ends() {
    let streams = |w: &mut World| {
        let said = w.said();
        let started = said.lines().filter_map(|line| line.split_once("media.started P:"));
        started.map(|(_, rest)| rest.split(' ').skip(1).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let both = |input: &str, output: &str| {
        [format!("input {APP_RTP} {input} SendReceive"), format!("output {A} {output} SendReceive")]
    };
    for media in [dynamic(&["opus"]), fixed(APP_RTP, &["opus"])] {
        let mut w = World::new(plan());
        let asked = matches!(media, device_model::media::MediaTermination::Dynamic { .. });
        w.open(APP, "P", Some(media));
        w.make_call("P", "2001");
        let p = w.leg_at("P");
        if asked {
            w.set_media(APP, p, APP_RTP);
        }
        let a = w.last_placed();
        w.answered(a, numbered(A, 122, Some(96)));
        assert_eq!(streams(&mut w), both("opus/111 dtmf=101", "opus/122 dtmf=96"));
        // The far end offers anew: the answer bears its numbers.
        w.signal(a, Signal::Offer(Some(numbered(A, 123, Some(97)))));
        assert_eq!(streams(&mut w), both("opus/123 dtmf=97", "opus/123 dtmf=97"));
        w.request(APP, Request::Hold { leg: p });
        w.signal(a, Signal::Answer(directed(Direction::Inactive, numbered(A, 124, None))));
        w.request(APP, Request::Retrieve { leg: p });
        if asked {
            w.set_media(APP, p, APP_RTP);
        }
        w.signal(a, Signal::Answer(numbered(A, 124, None)));
        assert_eq!(streams(&mut w), both("opus/123 dtmf=-", "opus/124 dtmf=-"));
    }
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["opus"])));
    let a = w.dial("A", "6001", None);
    w.request(APP, Request::Answer { leg: w.leg_at("P") });
    w.signal(a, Signal::Answer(numbered(A, 122, Some(96))));
    assert_eq!(streams(&mut w), both("opus/111 dtmf=101", "opus/122 dtmf=96"), "a caller's late offer");
}
