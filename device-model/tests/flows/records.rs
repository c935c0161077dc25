//! The records of transitions: what each says, of whom, and why. That none is missing is looked at after every step of all
//! flows and walks (`World::input`, `Walk::input`).

use crate::world::*;
use device_model::transitions::{By, LegChange, Place, Trigger, What};
use device_model::{Input, LegId, LegState, Request, Revocation, SessionId, Signal, Transition};
use insta::assert_snapshot;
use std::time::Duration;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const APP_RTP: &str = "10.0.0.9:7000";

/// Those of a leg's end.
fn end_of_leg(records: &[Transition], leg: LegId) -> &Transition {
    let ends = |record: &&Transition| match &record.what {
        What::Leg { leg: of, change: LegChange::State { to, .. }, .. } => {
            *of == leg && *to == LegState::Disconnected
        }
        _ => false,
    };
    records.iter().find(ends).expect("it has ended")
}

/// Nobody has anything open: there are records all the same.
#[test]
fn a_call_of_phones_that_nobody_watches() {
    let mut w = World::new(plan());
    w.recorded();
    let a = w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let b = w.last_placed();
    w.ring(b);
    w.answered(b, sdp(B, &["PCMU"]));
    w.hang_up(b);
    let by = end_of_leg(&w.records, a).why.by;
    assert_eq!(by, Some(By::End(end_of(b))), "who hung up");
    assert_snapshot!(w.recorded());
}

/// The New Call Accept Timer, a forward, and who answers there.
#[test]
fn a_route_point_whose_application_sleeps() {
    let mut plan = plan();
    plan.numbers[4].forward.no_answer = Some("2002".into());
    let mut w = World::new(plan);
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    w.dial("A", "5000", Some(sdp(A, &["PCMU"])));
    w.wait(Duration::from_secs(5));
    let b = w.last_placed();
    w.answered(b, sdp(B, &["PCMU"]));
    w.hang_up(b);
    assert_snapshot!(w.recorded());
}

/// A redirect, hold and retrieve, and two appearances of which one answers.
#[test]
fn what_applications_do() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    for request in [
        Request::Accept { leg: p },
        Request::Answer { leg: p },
        Request::Hold { leg: p },
        Request::Retrieve { leg: p },
    ] {
        w.request(APP, request);
    }
    w.redirect(p, "2100", true);
    let d = w.placed[w.placed.len() - 2];
    w.ring(d);
    w.answered(d, sdp(B, &["PCMU"]));
    w.signal(d, Signal::Released { cause: device_model::Cause::NORMAL_CLEARING });
    assert_snapshot!(w.recorded());
}

/// An application fails: its devices close one after the other, and its calls end because of that.
#[test]
fn an_application_that_fails() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP, "A", None);
    w.open(APP2, "A", None);
    w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.recorded();
    w.input(Input::SessionEnded(APP));
    let why = end_of_leg(&w.records, p).why;
    assert_eq!((why.trigger, why.by), (Trigger::SessionEnded, Some(By::Session(APP))));
    assert_snapshot!(w.recorded());
}

/// What the administrator takes: a right, a device, and the control of a phone.
#[test]
fn what_a_reload_does() {
    let mut w = World::new(plan());
    for device in ["P", "Q"] {
        w.open(APP, device, Some(fixed(APP_RTP, &["PCMU"])));
    }
    w.open(APP, "A", None);
    w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    let p = w.leg_at("P");
    w.recorded();
    let devices = ["P".into(), "Q".into()].into();
    let mut after = plan();
    after.devices[0].allow_cti_control = false;
    after.devices.remove(1);
    w.switch(&after, vec![Revocation { session: APP, devices }]);
    w.settle();
    assert_eq!(end_of_leg(&w.records, p).why.trigger, Trigger::Reload);
    w.configure(&plan());
    w.input(Input::Unregistered("A".into()));
    assert_snapshot!(w.recorded());
}

/// The line's number is in the record, for who may show it; no print of the record shows it.
#[test]
fn a_number_has_to_be_asked_for() {
    let mut w = World::new(plan());
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    w.open(SessionId(1), "A", None);
    let lines: Vec<&str> = w
        .records
        .iter()
        .filter_map(|record| match &record.what {
            What::Leg { place: Place::Line { dn, .. }, .. } => Some(dn.reveal().as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(lines, ["2001", "2001", "2002"]);
    for record in &w.records {
        let printed = format!("{record} {record:?}");
        assert!(!printed.contains("2001") && !printed.contains("2002"), "{printed}");
    }
}
