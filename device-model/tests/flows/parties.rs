//! Who calls, who answers, and who sent a call on before it came here.

use crate::world::*;
use device_model::port::{Diverted, Origin};
use device_model::{EndCommand, Input, LegId, Party, Signal};

const A: &str = "10.0.0.1:4000";
const APP_RTP: &str = "10.0.0.9:7000";

fn party(number: &str) -> Party {
    Party { number: number.into(), ..Party::default() }
}

fn from_trunk(w: &mut World, dialled: &str, diverted: Option<Diverted>) -> LegId {
    let (leg, origin, calling) = (leg_of(w.control.new_end_id()), Origin::Trunk("PSTN".into()), party("777"));
    let offer = Some(sdp(A, &["PCMU"]));
    w.input(Input::IncomingCall {
        end: end_of(leg),
        origin,
        dialled: dialled.into(),
        calling,
        diverted,
        offer,
        hops: 0,
    });
    leg
}

/// The lines that hold one of these words.
fn lines(said: &str, words: &[&str]) -> Vec<String> {
    said.lines().filter(|line| words.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
}

#[test]
fn a_diverted_call_is_shown_as_it_was_diverted_and_goes_on_so() {
    let mut w = World::new(plan());
    w.open(APP, "B", None);
    let diverted = Diverted { by: party("100"), original: party("200") };
    from_trunk(&mut w, "2002", Some(diverted));
    let told = w.said();
    let offered = lines(&told, &["Offering"]);
    assert!(offered[0].contains("original=200 redirecting=100"), "{told}");
    assert!(lines(&told, &["Call B"])[0].contains("by 100"), "{told}");
    w.signal(
        w.last_placed(),
        Signal::Rejected {
            cause: device_model::Cause::USER_BUSY,
            status: Some(302),
            redirect_to: vec!["2003".into()],
        },
    );
    let told = w.said();
    assert!(lines(&told, &["Call C"])[0].contains("by 2002"), "the last is another one: {told}");
}

#[test]
fn a_phone_calls_as_its_line_whatever_it_says() {
    let mut plan = plan();
    plan.numbers[0].display = "Ann".into();
    let mut w = World::new(plan);
    let leg = leg_of(w.control.new_end_id());
    let calling = Party { number: "110".into(), name: Some("Fraud Prevention".into()), restricted: true };
    let origin = Origin::Phone { device: "A".into(), dn: None };
    let mut out = Vec::new();
    let input = Input::IncomingCall {
        end: end_of(leg),
        origin,
        dialled: "2002".into(),
        calling,
        diverted: None,
        offer: None,
        hops: 0,
    };
    w.control.handle(w.now(), input, &mut out);
    let placed = out.iter().find_map(|output| match output {
        device_model::Output::End(_, EndCommand::Call { calling, .. }) => Some(calling.clone()),
        _ => None,
    });
    let line = Party { number: "2001".into(), name: Some("Ann".into()), restricted: true };
    assert_eq!(placed, Some(line));
}

#[test]
fn who_answers_behind_a_trunk_and_who_takes_over_are_told() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.request(
        APP,
        device_model::Request::MakeCall {
            device: "P".into(),
            dn: None,
            destination: "95550100".into(),
            calling_number: None,
            user_data: std::collections::BTreeMap::new(),
        },
    );
    let far = w.last_placed();
    w.ring(far);
    w.said();
    w.signal(far, Signal::Identified(party("5550123")));
    assert_eq!(lines(&w.said(), &["changed", "Connected"]), [""; 0], "it has not answered yet");
    w.answered(far, sdp(A, &["PCMU"]));
    let told = w.said();
    let shown = lines(&told, &["Connected", "changed"]);
    assert!(shown.iter().all(|line| line.contains("connected=5550123")), "{told}");
    assert!(shown.len() == 2 && shown[1].contains("changed(Connected)"), "{told}");
    w.signal(far, Signal::Identified(party("5550124")));
    assert!(lines(&w.said(), &["changed(Connected)"])[0].contains("connected=5550124"));
    w.signal(far, Signal::Identified(party("5550124")));
    assert_eq!(lines(&w.said(), &["changed"]), [""; 0], "no news");
    w.hang_up(far);
    assert!(w.control.is_quiet());
}

#[test]
fn another_caller_behind_a_trunk_is_told_to_who_rings_and_to_who_talks() {
    let mut w = World::new(plan());
    w.open(APP, "B", None);
    let caller = from_trunk(&mut w, "2002", None);
    let phone = w.last_placed();
    w.ring(phone);
    let told = w.said();
    let alert = told.lines().position(|line| line.contains("Alert")).expect("an alert");
    assert!(told.lines().nth(alert - 1).is_some_and(|line| line.contains("Connected 2002")), "{told}");
    w.signal(caller, Signal::Identified(party("778")));
    assert!(lines(&w.said(), &["changed(Ringing)"])[0].contains("778->2002"));
    w.answered(phone, sdp("10.0.0.2:4000", &["PCMU"]));
    w.said();
    w.signal(caller, Signal::Identified(party("779")));
    let told = w.said();
    assert!(lines(&told, &["changed(Connected)"])[0].contains("connected=779"), "{told}");
    assert_eq!(lines(&told, &["Connected 779"]).len(), 1, "its phone is told, too: {told}");
    w.signal(phone, Signal::Identified(party("110")));
    let told = w.said();
    assert!(!told.contains("110") || told.lines().count() <= 1, "a phone is its line: {told}");
    w.hang_up(caller);
    assert!(w.control.is_quiet());
}
