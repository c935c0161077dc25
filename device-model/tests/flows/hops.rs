//! Redirections with several numbers, whose failure takes which forward, and how often a call may be sent on.

use crate::world::*;
use device_model::plan::Plan;
use device_model::{Cause, Input, LegId, LegState, Request, Signal};
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const APP_RTP: &str = "10.0.0.9:7000";

fn with(change: impl FnOnce(&mut Plan)) -> World {
    let mut plan = plan();
    change(&mut plan);
    World::new(plan)
}

fn numbered<'a>(plan: &'a mut Plan, dn: &str) -> &'a mut device_model::plan::NumberPlan {
    plan.numbers.iter_mut().find(|number| number.dn.as_str() == dn).expect("a number")
}

fn rejects_at(w: &mut World, leg: LegId, cause: Cause, status: u16) {
    w.signal(leg, Signal::Rejected { cause, status: Some(status), redirect_to: vec![] });
}

/// The leg that was placed last is refused.
fn rejects(w: &mut World, cause: Cause, status: u16) {
    let leg = w.last_placed();
    rejects_at(w, leg, cause, status);
}

/// The phone or trunk that was called last says 3xx.
fn redirects(w: &mut World, to: &[&str]) {
    let leg = w.last_placed();
    let redirect_to = to.iter().map(|dn| (*dn).into()).collect();
    w.signal(leg, Signal::Rejected { cause: Cause::NORMAL_UNSPECIFIED, status: None, redirect_to });
}

fn quiet(w: &World) {
    assert!(w.control.is_quiet(), "something is left behind");
}

/// The calls that were placed since the last look, and how the caller ended.
fn ladder(w: &mut World) -> Vec<String> {
    let told = |line: &&str| line.contains("<- Call") || line.contains("<- Reject");
    w.said().lines().filter(told).map(str::to_owned).collect()
}

#[test]
fn the_next_contact_is_tried_after_busy_no_answer_and_failure() {
    let mut w = with(|_| {});
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    redirects(&mut w, &["2003", "4711", "2100", "9110", "6001"]);
    rejects(&mut w, Cause::USER_BUSY, 486); // then 4711, which nobody has, then both phones of 2100
    w.ring(w.last_placed());
    w.wait(Duration::from_secs(12));
    rejects(&mut w, Cause::TEMPORARY_FAILURE, 503); // then 6001, whose application is not there
    let calls: Vec<String> = ladder(&mut w);
    assert_eq!(
        calls,
        [
            "B:l3 <- Call B 2001->2002: relay 10.0.0.1:4000 SendReceive",
            "C:l4 <- Call C 2001->2003 by 2002: relay 10.0.0.1:4000 SendReceive",
            "D:l5 <- Call D 2001->2100 by 2002: relay 10.0.0.1:4000 SendReceive",
            "E:l6 <- Call E 2001->2100 by 2002: relay 10.0.0.1:4000 SendReceive",
            "PSTN:l7 <- Call PSTN 110 2001->9110 by 2002: relay 10.0.0.1:4000 SendReceive",
            "l1 <- Reject { cause: Cause(20 subscriber_absent), status: Some(480) }",
        ]
    );
    quiet(&w);
}

#[test]
fn a_contacts_own_forward_comes_before_the_next_contact() {
    let mut w = with(|p| numbered(p, "2003").forward.busy = Some("9110".into()));
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    redirects(&mut w, &["2003", "2100"]);
    rejects(&mut w, Cause::USER_BUSY, 486);
    assert!(w.said().contains("Call PSTN 110 2001->9110 by 2003"));
    rejects(&mut w, Cause::USER_BUSY, 486);
    let calls = ladder(&mut w);
    assert!(calls[0].contains("Call D 2001->2100 by 2002"), "{calls:?}");
    w.answered(w.placed[3], sdp(B, &["PCMU"]));
    w.hang_up(w.placed[3]);
    quiet(&w);
}

#[test]
fn contacts_that_lead_back_are_left_out() {
    let mut w = with(|_| {});
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    redirects(&mut w, &["2003", "2100"]);
    redirects(&mut w, &["2002", "2003"]); // itself and where it came from
    let calls = ladder(&mut w);
    assert!(calls.last().is_some_and(|call| call.contains("Call E 2001->2100 by 2002")), "{calls:?}");
    for leg in [w.placed[2], w.placed[3]] {
        rejects_at(&mut w, leg, Cause::CALL_REJECTED, 603);
    }
    assert!(w.said().contains("Reject { cause: Cause(21 call_rejected), status: Some(603) }"));
    quiet(&w);
}

#[test]
fn an_answer_ends_the_search_and_a_caller_who_gives_up_too() {
    let mut w = with(|_| {});
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    redirects(&mut w, &["2003", "2100"]);
    w.hang_up(a);
    quiet(&w);
    w.open(APP, "C", None);
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    redirects(&mut w, &["2003", "2100"]);
    let c = w.last_placed();
    w.answered(c, sdp(B, &["PCMU"]));
    w.said();
    w.redirect(c, "4711", false); // the call is over: the phone's list was for before the answer
    assert_eq!(ladder(&mut w).iter().filter(|line| line.contains("Call")).count(), 0);
    quiet(&w);
}

#[test]
fn an_applications_redirect_has_a_list_of_its_own() {
    let mut w = with(|_| {});
    w.open(APP, "RP", None);
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    redirects(&mut w, &["5000", "2100"]);
    let rp = w.leg_at("RP");
    w.redirect(rp, "2003", true);
    rejects(&mut w, Cause::USER_BUSY, 486); // back at the route point
    assert!(w.said().contains("REFUSED DestinationBusy"));
    w.request(APP, Request::Reject { leg: rp, cause: Cause::USER_BUSY });
    assert!(w.said().contains("Call D 2001->2100 by 2002"), "what the phone named is still there");
}

#[test]
fn a_phones_own_failure_does_not_take_cfof() {
    for (cause, status) in [
        (Cause::TEMPORARY_FAILURE, 400),
        (Cause::TEMPORARY_FAILURE, 481),
        (Cause::TEMPORARY_FAILURE, 500),
        (Cause::TEMPORARY_FAILURE, 503),
    ] {
        let mut w = with(|p| numbered(p, "2002").forward.on_failure = Some("2003".into()));
        w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
        rejects(&mut w, cause, status);
        let expected = format!("Reject {{ cause: Cause(41 temporary_failure), status: Some({status}) }}");
        assert!(w.said().contains(&expected), "{status}");
        quiet(&w);
    }
    // The phone is removed while it rings; it hangs up its early dialog with cause 41.
    let mut w = with(|p| numbered(p, "2002").forward.on_failure = Some("2003".into()));
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    w.signal(w.last_placed(), Signal::Released { cause: Cause::TEMPORARY_FAILURE });
    assert!(!w.said().contains("Call C"));
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let mut plan = w.plan.clone();
    plan.devices.retain(|device| device.name.as_str() != "B");
    w.configure(&plan);
    assert!(!w.said().contains("Call C"));
    quiet(&w);
}

#[test]
fn a_phone_that_can_not_be_reached_takes_cfur_then_cfna() {
    for (unregistered, no_answer, to) in [
        (Some("2003"), Some("2100"), Some("Call C 2001->2003 by 2002")),
        (None, Some("2003"), Some("Call C 2001->2003 by 2002")),
        (None, None, None),
    ] {
        let mut w = with(|p| {
            let forward = &mut numbered(p, "2002").forward;
            forward.unregistered = unregistered.map(Into::into);
            forward.no_answer = no_answer.map(Into::into);
            forward.on_failure = Some("9110".into());
        });
        w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
        rejects(&mut w, Cause::DESTINATION_OUT_OF_ORDER, 503);
        let said = w.said();
        match to {
            Some(to) => assert!(said.contains(to), "{said}"),
            None => assert!(said.contains("Reject { cause: Cause(27"), "{said}"),
        }
    }
}

#[test]
fn an_application_that_fails_still_takes_cfof() {
    for device in ["RP", "P"] {
        let mut w = with(|p| {
            for dn in ["5000", "6001"] {
                numbered(p, dn).forward.on_failure = Some("2003".into());
            }
        });
        w.open(APP, device, Some(dynamic(&["PCMU"])));
        let dn = if device == "RP" { "5000" } else { "6001" };
        w.dial("A", dn, Some(sdp(A, &["PCMU"])));
        w.input(Input::SessionEnded(APP));
        assert!(w.said().contains(&format!("Call C 2001->2003 by {dn}")));
    }
}

/// Redirects the call at RP to P, there to Q and round again, until it is no longer there.
fn round(w: &mut World, mut answers: impl FnMut(&mut World, LegId)) -> usize {
    let mut at = "RP";
    for times in 0..40 {
        let legs = w.control.legs_of_device(&at.into());
        let Some(leg) = legs.last().map(|view| view.leg) else { return times };
        answers(w, leg);
        at = if at == "RP" { "P" } else { "RP" };
        w.redirect(leg, if at == "RP" { "5000" } else { "6001" }, times % 2 == 0);
    }
    40
}

fn two_applications() -> World {
    let mut w = with(|_| {});
    w.open(APP, "RP", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w
}

#[test]
fn applications_that_redirect_round_and_round_end_with_cause_25() {
    let mut w = two_applications();
    let times = round(&mut w, |_, _| {});
    assert_eq!(times, 13, "twelve redirects, and the one that is refused");
    let said = w.said();
    assert!(said.contains("Reject { cause: Cause(25 exchange_routing_error), status: Some(482) }"), "{said}");
    quiet(&w);
}

#[test]
fn to_answer_in_between_is_no_way_round_the_count() {
    let mut w = two_applications();
    let times = round(&mut w, |w, leg| {
        w.request(APP, Request::Answer { leg });
        w.wait(Duration::from_secs(9));
    });
    assert_eq!(times, 13);
    assert!(w.said().contains("Release { cause: Cause(25 exchange_routing_error) }"));
    quiet(&w);
}

#[test]
fn a_redirect_that_fails_is_no_hop() {
    let mut w = two_applications();
    let rp = w.leg_at("RP");
    for _ in 0..30 {
        w.redirect(rp, "4711", true);
        w.redirect(rp, "2002", true);
        rejects(&mut w, Cause::USER_BUSY, 486);
    }
    assert_eq!(round(&mut w, |_, _| {}), 13, "the call is where it was, with all its hops before it");
    quiet(&w);
}

#[test]
fn a_call_that_was_served_before_it_is_sent_on_counts_anew() {
    let mut w = two_applications();
    let times = round(&mut w, |w, leg| {
        w.request(APP, Request::Answer { leg });
        w.wait(Duration::from_secs(10));
    });
    assert_eq!(times, 40);
}

#[test]
fn forwards_redirections_and_redirects_count_together() {
    let mut w = with(|p| numbered(p, "2001").forward.all = Some("5000".into()));
    w.open(APP, "RP", None);
    w.dial("D", "2002", Some(sdp(A, &["PCMU"])));
    let mut sent = 0;
    loop {
        let before = w.placed.len();
        // B says 302 to A, which is forwarded to RP, whose application sends the call to B again.
        redirects(&mut w, &["2001"]);
        let legs = w.control.legs_of_device(&"RP".into());
        let Some(rp) = legs.last().map(|view| view.leg) else { break };
        w.redirect(rp, "2002", false);
        sent += w.placed.len() - before;
        if w.control.is_quiet() || sent > 40 {
            break;
        }
    }
    assert_eq!(sent, 4, "three hops a round, twelve in all");
    assert!(w.said().contains("Reject { cause: Cause(25 exchange_routing_error)"));
    quiet(&w);
}

#[test]
fn hops_come_in_from_a_trunk_and_go_out_with_the_call() {
    let mut w = with(|p| numbered(p, "5000").forward.all = Some("9110".into()));
    for (hops, leaves) in [(11, true), (12, false)] {
        let leg = leg_of(w.control.new_end_id());
        let (origin, offer) = (device_model::port::Origin::Trunk("PSTN".into()), Some(sdp(A, &["PCMU"])));
        let mut out = Vec::new();
        let (dialled, calling) = ("5000".into(), Default::default());
        w.control.handle(
            w.now(),
            Input::IncomingCall { end: end_of(leg), origin, dialled, calling, diverted: None, offer, hops },
            &mut out,
        );
        let placed = out.iter().find_map(|output| match output {
            device_model::Output::End(_, device_model::EndCommand::Call { hops, .. }) => Some(*hops),
            _ => None,
        });
        assert_eq!(placed, leaves.then_some(12), "{hops}");
    }
}

/// Forward follows forward, and nobody rings: what a redirect waits for has an end, whatever it is.
#[test]
fn a_redirect_that_nobody_decides_is_answered_in_time_and_undone() {
    let mut plan = plan();
    for (number, to) in [(1, Some("2003")), (2, Some("2100")), (3, None)] {
        plan.numbers[number].ring_duration = Some(Duration::from_secs(250));
        plan.numbers[number].forward.no_answer = to.map(Into::into);
    }
    let mut w = World::new(plan);
    w.open(APP, "P", Some(fixed("10.0.0.9:7000", &["PCMU"])));
    w.dial("A", "6001", Some(sdp("10.0.0.1:4000", &["PCMU"])));
    let leg = w.leg_at("P");
    w.request(APP, Request::Answer { leg });
    for keep_on_failure in [true, false] {
        w.said();
        w.redirect(leg, "2002", keep_on_failure);
        w.wait(Duration::from_millis(599_900));
        assert!(!w.heard("reply"), "{}", w.said());
        w.wait(Duration::from_millis(200));
        assert!(w.heard("reply s1 REFUSED Timeout"), "{}", w.said());
        let state = w.control.leg(leg).map(|leg| leg.state);
        assert_eq!(state, keep_on_failure.then_some(LegState::Connected));
        assert!(
            ["B", "C", "D", "E"].iter().all(|phone| w.control.legs_of_device(&(*phone).into()).is_empty())
        );
    }
    assert!(w.control.is_quiet());
}
