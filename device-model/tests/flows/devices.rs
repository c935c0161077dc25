//! Opening and closing devices, lines' settings, and limits.

use crate::world::*;
use device_model::media::MediaTermination;
use device_model::plan::DeviceKind;
use device_model::port::Reply;
use device_model::{
    Cause, DeviceName, EndCommand, Input, MessageLamp, Output, OwnerEpoch, Request, RequestToken, SessionId,
    Signal,
};
use insta::assert_snapshot;
use std::collections::BTreeMap;

const A: &str = "10.0.0.1:4000";
const B: &str = "10.0.0.2:4000";
const APP_RTP: &str = "10.0.0.9:7000";

/// What the second opener hears for each pair (reference §3.3).
#[test]
fn second_opener() {
    let none = || Some(MediaTermination::None);
    let other_srtp = || {
        let MediaTermination::Dynamic { codecs, .. } = dynamic(&["PCMU"]) else {
            unreachable!("it is dynamic")
        };
        Some(MediaTermination::Dynamic { codecs, srtp: vec!["AES_CM_128_HMAC_SHA1_80".into()] })
    };
    let all: [(&str, &dyn Fn() -> Option<MediaTermination>); 6] = [
        ("none", &none),
        ("static", &|| Some(fixed(APP_RTP, &["PCMU"]))),
        ("dynamic PCMU PCMA", &|| Some(dynamic(&["PCMU", "PCMA"]))),
        ("dynamic PCMA PCMU", &|| Some(dynamic(&["PCMA", "PCMU"]))),
        ("dynamic PCMU", &|| Some(dynamic(&["PCMU"]))),
        ("dynamic PCMU srtp", &other_srtp),
    ];
    let mut text = String::new();
    for (first_name, first) in &all {
        for (second_name, second) in &all {
            let mut w = World::new(plan());
            w.open(APP, "RP", first());
            w.said();
            w.open(APP2, "RP", second());
            let said = w.said();
            let reply = said.lines().find(|line| line.starts_with("reply")).expect("a reply").to_owned();
            text += &format!("{first_name:<18} then {second_name:<18} {reply}\n");
        }
    }
    assert_snapshot!(text);
}

#[test]
fn opens_that_are_refused() {
    let mut p = plan();
    p.devices[0].allow_cti_control = false;
    let mut w = World::new(p);
    w.open(APP, "NOBODY", None);
    w.open(APP, "A", None);
    w.open(APP, "B", Some(MediaTermination::None));
    w.open(APP, "P", None);
    w.open(APP, "P", Some(MediaTermination::None));
    w.open(APP, "P", Some(fixed("10.0.0.9:7001", &["PCMU"])));
    w.open(APP, "P", Some(fixed("0.0.0.0:7000", &["PCMU"])));
    w.open(APP, "P", Some(dynamic(&[])));
    w.open(APP, "P", Some(dynamic(&["GSM"])));
    w.open(APP, "RP", None);
    w.open(APP, "RP", None);
    w.request(APP2, Request::CloseDevice { device: "RP".into() });
    w.request(APP, Request::CloseDevice { device: "NOBODY".into() });
    assert_snapshot!(w.said());
}

#[test]
fn phone_comes_and_goes_while_an_application_watches() {
    let mut w = World::new(plan());
    w.input(Input::Unregistered("A".into()));
    w.open(APP, "A", None);
    w.input(Input::Registered("A".into()));
    w.input(Input::Registered("A".into()));
    w.input(Input::Unregistered("A".into()));
    assert_snapshot!(w.said());
}

#[test]
fn line_settings_and_what_a_new_plan_makes_of_them() {
    let mut w = World::new(plan());
    w.open(APP, "D", None);
    w.open(APP2, "E", None);
    w.open(APP, "RP", None);
    let forward = |to: Option<&str>| Request::SetForwardAll {
        device: "D".into(),
        dn: "2100".into(),
        destination: to.map(Into::into),
    };
    w.request(APP, forward(Some("2001")));
    w.request(APP, forward(Some("2001")));
    w.request(APP, forward(Some("2100")));
    w.request(APP2, forward(None));
    w.request(APP, Request::SetForwardAll { device: "D".into(), dn: "5000".into(), destination: None });
    w.request(APP, Request::SetAutoAccept { device: "RP".into(), dn: "5000".into(), on: true });
    w.request(APP, Request::SetAutoAccept { device: "D".into(), dn: "2100".into(), on: true });
    w.dial("B", "5000", Some(sdp(B, &["PCMU"])));
    w.dial("B", "2100", Some(sdp(B, &["PCMU"])));
    let mut plan = w.plan.clone();
    plan.numbers.iter_mut().find(|n| n.dn.as_str() == "2100").expect("there").forward.all =
        Some("2003".into());
    w.configure(&plan);
    assert_snapshot!(w.said());
}

#[test]
fn a_message_lamp_is_the_numbers_and_goes_with_it() {
    let mut w = World::new(plan());
    let lamp =
        |device: &str, dn: &str, on| Request::SetMessageWaiting { device: device.into(), dn: dn.into(), on };
    // Nobody has the device open.
    w.request(APP, lamp("D", "2100", true));
    w.request(APP, lamp("E", "2100", true));
    w.request(APP, lamp("D", "5000", true));
    w.request(APP, lamp("X", "2100", true));
    w.request(APP, lamp("RP", "5000", true));
    let plan = w.plan.clone();
    let mut without = plan.clone();
    without.numbers.retain(|number| number.dn.as_str() != "2100");
    without.devices.iter_mut().for_each(|device| device.lines.retain(|dn| dn.as_str() != "2100"));
    w.configure(&plan);
    assert_eq!(w.control.message_lamp(&"2100".into()), MessageLamp::On);
    w.configure(&without);
    w.configure(&plan);
    assert_eq!(w.control.message_lamp(&"2100".into()), MessageLamp::Off);
    assert_eq!(w.control.message_lamp(&"5000".into()), MessageLamp::On);
    w.request(APP, lamp("RP", "5000", false));
    assert_snapshot!(w.said());
}

#[test]
fn data_travels_with_the_call() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP2, "Q", Some(fixed("10.0.0.8:7000", &["PCMU"])));
    w.make_call("P", "6002");
    let (p, q) = (w.leg_at("P"), w.leg_at("Q"));
    w.said();
    let data = BTreeMap::from([("customer".to_owned(), "4711".to_owned())]);
    w.request(APP, Request::SetUserData { leg: p, user_data: data.clone() });
    assert_eq!(
        w.said().lines().filter(|l| !l.starts_with('>')).collect::<Vec<_>>(),
        [
            "reply s1 done",
            "event [s1] changed(Proceeding) P:l1 6001->6002",
            "event [s2] changed(Offering) Q:l3 6001->6002"
        ]
    );
    assert_eq!(*w.control.leg(q).expect("there").user_data, data);
    let huge = BTreeMap::from([("k".to_owned(), "v".repeat(4096))]);
    w.request(APP, Request::SetUserData { leg: p, user_data: huge });
    assert!(w.said().contains(r#"REFUSED InvalidParams { field: "user_data" }"#));
}

#[test]
fn early_media_is_relayed_and_stands_for_the_answer() {
    let mut w = World::new(plan());
    w.dial("A", "9110", Some(sdp(A, &["PCMU"])));
    let trunk = w.last_placed();
    w.signal(trunk, Signal::Ringing { early: Some(sdp(B, &["PCMU"])) });
    w.signal(trunk, Signal::Answered { media: None });
    w.hang_up(trunk);
    assert_snapshot!(w.said());
}

#[test]
fn plain_ringing_after_early_media_is_told_once() {
    let mut w = World::new(plan());
    w.dial("A", "9110", Some(sdp(A, &["PCMU"])));
    let trunk = w.last_placed();
    w.said();
    let alerts = |w: &mut World, early: Option<device_model::media::Description>| {
        w.signal(trunk, Signal::Ringing { early });
        w.said().lines().filter(|line| line.contains("Alert")).map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = "A:l1 <- Alert nothing".to_owned();
    assert_eq!(alerts(&mut w, Some(sdp(B, &["PCMU"]))).len(), 1);
    for expected in [vec![plain], vec![]] {
        assert_eq!(alerts(&mut w, None), expected);
    }
}

#[test]
fn connected_call_is_redirected_to_another_application() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.open(APP2, "Q", Some(dynamic(&["PCMU", "PCMA"])));
    let a = w.dial("A", "6001", Some(sdp(A, &["PCMA", "PCMU"])));
    let p = w.leg_at("P");
    w.request(APP, Request::Answer { leg: p });
    w.said();
    w.redirect(p, "6002", true);
    let q = w.leg_at("Q");
    w.request(APP2, Request::Answer { leg: q });
    w.set_media(APP2, q, "10.0.0.8:7000");
    w.signal(a, Signal::Answer(sdp(A, &["PCMA"])));
    w.request(APP2, Request::Drop { leg: q });
    assert_snapshot!(w.said());
    assert!(w.control.is_quiet());
}

#[test]
fn caller_who_makes_no_offer_is_answered_with_the_whole_set() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU", "opus"])));
    let a = w.dial("A", "6001", None);
    w.request(APP, Request::Answer { leg: w.leg_at("P") });
    w.signal(a, Signal::Answer(sdp(A, &["opus"])));
    w.hang_up(a);
    assert_snapshot!(w.said());
}

#[test]
fn port_that_calls_with_one_address_offers_at_once() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU", "PCMA"])));
    w.make_call("P", "2001");
    w.answered(w.last_placed(), sdp(A, &["PCMA"]));
    w.make_call("P", "2002");
    w.answered(w.last_placed(), sdp(B, &["G729"]));
    assert_snapshot!(w.said());
}

#[test]
fn legs_are_limited() {
    let mut p = plan();
    p.parameters.max_legs = 3;
    let mut w = World::new(p);
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    w.said();
    w.dial("B", "2003", Some(sdp(B, &["PCMU"])));
    assert!(w.said().contains("Reject { cause: Cause(42 switching_equipment_congestion), status: None }"));
    assert_eq!(w.control.counts().legs, 2);
}

#[test]
fn shutdown_clears_everything() {
    let mut w = World::new(plan());
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.dial("A", "6001", Some(sdp(A, &["PCMU"])));
    w.redirect(w.leg_at("P"), "2002", true);
    w.dial("C", "2003", Some(sdp(B, &["PCMU"])));
    w.said();
    w.input(Input::Shutdown { calls: usize::MAX });
    assert_snapshot!(w.said());
    assert!(w.control.is_quiet());
}

/// Ten thousand devices and fifty thousand legs at once: each step touches what it is about and nothing else.
#[test]
fn ten_thousand_devices_and_fifty_thousand_legs() {
    let mut p = plan();
    p.devices
        .extend((0..10_000).map(|i| device(&format!("X{i}"), DeviceKind::Phone, &[&format!("7{i:05}")])));
    p.numbers[4].max_calls = Some(25_000);
    let mut w = World::new(p);
    w.open(APP, "RP", Some(dynamic(&["PCMU"])));
    let mut out = Vec::new();
    let mut legs = Vec::new();
    #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
    let now = std::time::Instant::now();
    for i in 0..25_000 {
        let leg = leg_of(w.control.new_end_id());
        let origin = device_model::port::Origin::Trunk("PSTN".into());
        let (dialled, calling, offer) = ("5000".into(), Default::default(), Some(sdp(A, &["PCMU"])));
        w.control.handle(
            now,
            Input::IncomingCall {
                end: end_of(leg),
                origin,
                dialled,
                calling,
                diverted: None,
                offer,
                hops: 0,
            },
            &mut out,
        );
        legs.push(leg);
        if i % 1000 == 0 {
            out.clear();
        }
    }
    assert_eq!(w.control.counts().legs, 50_000);
    w.control.check().expect("the tables agree");
    out.clear();
    w.control.handle(now, Input::SessionEnded(SessionId(1)), &mut out);
    assert!(out.len() < 100, "{} at once", out.len());
    while !w.control.is_clear() || w.control.is_departing() {
        let before = out.len();
        w.control.handle(now, Input::Settle { legs: 8 }, &mut out);
        assert!(out.len() - before < 100, "{} at once", out.len() - before);
    }
    assert_eq!(out.iter().filter(|o| matches!(o, Output::End(_, EndCommand::Reject { .. }))).count(), 25_000);
    assert!(w.control.is_quiet());
}

#[test]
fn what_nobody_knows_is_harmless() {
    let mut w = World::new(plan());
    let leg = "l999".parse().expect("an id");
    w.signal(leg, Signal::Released { cause: Cause::NORMAL_CLEARING });
    w.input(Input::SessionEnded(SessionId(9)));
    w.input(Input::Registered("NOBODY".into()));
    w.input(Input::Timeout);
    w.request(APP, Request::Answer { leg });
    assert!(w.said().contains("REFUSED NoSuchLeg"));
    let mut out = Vec::new();
    let request = Request::MakeCall {
        device: "A".into(),
        dn: None,
        destination: "2001".into(),
        calling_number: None,
        user_data: BTreeMap::new(),
    };
    #[allow(clippy::disallowed_methods)] // some instant; nothing waits for it
    let now = std::time::Instant::now();
    w.control.handle(
        now,
        Input::Request { session: APP, token: RequestToken(1), owner: OwnerEpoch::FIRST, request },
        &mut out,
    );
    assert!(!out.iter().any(|o| matches!(o, Output::Reply(_, _, Ok(Reply::Call { .. })))));
    assert_eq!(w.control.openers(&DeviceName::from("A")), []);
}

/// A command for another owner of the device than the present one is refused, whatever it is, and does nothing (P1).
#[test]
fn what_is_meant_for_another_owner_is_refused() {
    let mut w = World::new(plan());
    w.request(APP, Request::OpenDevice { device: "A".into(), media: None });
    w.dial("B", "2001", Some(sdp(B, &["PCMU"])));
    let offered = w.placed[0];
    w.ring(offered);
    w.said();
    let (device, dn): (DeviceName, device_model::Dn) = ("A".into(), "2001".into());
    let requests = [
        Request::OpenDevice { device: "C".into(), media: None },
        Request::CloseDevice { device: device.clone() },
        Request::SetForwardAll { device: device.clone(), dn: dn.clone(), destination: Some("2003".into()) },
        Request::SetAutoAccept { device, dn, on: true },
        Request::Answer { leg: offered },
        Request::Reject { leg: offered, cause: Cause::USER_BUSY },
        Request::Drop { leg: offered },
        Request::SetUserData { leg: offered, user_data: BTreeMap::from([("k".to_owned(), "v".to_owned())]) },
    ];
    let legs = w.control.legs_of_device(&"A".into());
    for (request, owner) in requests.iter().zip([0, 2, u64::MAX].map(OwnerEpoch).iter().cycle()) {
        let request = request.clone();
        w.input(Input::Request { session: APP, token: RequestToken(1), owner: *owner, request });
    }
    let log = w.said();
    assert_eq!(log.lines().count(), requests.len(), "{log}");
    assert!(log.lines().all(|line| line == "reply s1 REFUSED NotOwner"), "{log}");
    assert_eq!(w.control.legs_of_device(&"A".into()), legs, "nothing was done");
    assert_eq!(w.control.openers(&"C".into()), []);
    w.request(APP, Request::Drop { leg: offered });
    assert!(w.said().contains("reply s1 done"), "its owner takes it");
}

/// A hold of an earlier process stands as if it had never ended: nobody is told, restrictions don't matter.
#[test]
fn restored_holds() {
    let mut p = plan();
    for device in &mut p.devices {
        device.allow_cti_control = device.name.as_str() != "P";
    }
    let mut w = World::new(p);
    let hold = |w: &mut World, session, device: &str, media| {
        w.input(Input::Restored { session, device: device.into(), media });
        w.control.is_open(session, &device.into())
    };
    assert!(hold(&mut w, APP, "A", None));
    assert!(hold(&mut w, APP, "P", Some(dynamic(&["PCMU"]))), "restricted");
    assert!(hold(&mut w, APP, "RP", Some(MediaTermination::None)));
    assert!(hold(&mut w, APP2, "RP", Some(MediaTermination::None)));
    assert_eq!(w.said(), "", "nobody is told");
    assert!(!hold(&mut w, APP2, "P", Some(fixed(APP_RTP, &["PCMU"]))), "its media ends otherwise");
    assert!(!hold(&mut w, APP2, "NOBODY", None));
    assert!(!hold(&mut w, APP2, "A", Some(dynamic(&["PCMU"]))), "a phone ends its own media");
    assert_eq!(w.control.counts().open_devices, 3);
    let in_service = |w: &World, name: &str| w.control.device(&name.into()).is_some_and(|d| d.in_service);
    assert_eq!((in_service(&w, "RP"), in_service(&w, "P"), in_service(&w, "A")), (true, false, true));
    w.input(Input::SessionEnded(APP));
    assert_eq!(w.control.counts().open_devices, 1);
    assert!(in_service(&w, "RP"), "the other session has it");
}
