//! Applications that leave with much behind them, and others that are not to feel it.

use super::mass::{PORTS, answer_call, open, opened};
use super::world::{CONFIG, World};
use crate::node::cti_manager::reload::consequences::SIP_AT_ONCE;
use crate::node::{CtiConnection, Input};
use serde_json::json;
use std::time::Duration;

/// How an application ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Closes,
    Lost,
    Silent,
}

fn end(world: &mut World, app: CtiConnection, how: End) {
    match how {
        End::Closes => drop(world.send(app, "provider.close", json!({}))),
        End::Lost => world.input(Input::CtiClosed(app)),
        End::Silent => world.pass(Duration::from_secs(2)),
    }
}

/// Lets time pass until nothing is due within a second: how long that took, and the most SIP messages of a step.
fn work_off(world: &mut World) -> (Duration, usize) {
    let (begin, mut last, mut most) = (world.now, world.now, world.sip.len());
    while let Some(at) = world.node.next_timeout().filter(|at| *at < begin + Duration::from_secs(1)) {
        let before = world.sip.len();
        world.pass(at.saturating_duration_since(world.now));
        most = most.max(world.sip.len() - before);
        last = world.now;
    }
    (last.saturating_duration_since(begin), most)
}

#[test]
fn who_leaves_with_hundreds_of_devices_is_gone_at_once_and_lets_go_in_portions() {
    for how in [End::Closes, End::Lost, End::Silent] {
        let (mut world, app) = opened();
        answer_call(&mut world, app, "a", "6600");
        let second = world.application(2, "ivr");
        if how == End::Silent {
            // What it holds is asked for in the very step in which it has failed.
            world.pass(Duration::from_secs(59));
            world.frames.clear();
            world.call(second, "provider.heartbeat", json!({}));
        }
        // Offered so late that it is not over before the application is.
        world.invite("b", "6599");
        world.event(app, "call.offering");
        world.reports.clear();
        world.sip.clear();
        end(&mut world, app, how);
        if how != End::Silent {
            assert!(
                world.node.call_manager.devices().is_departing(),
                "{how:?}: it has too much for one step"
            );
            // The last device is not let go yet: nobody has it for all that.
            world.invite("c", "6598");
            assert!(world.sip.iter().any(|message| message.starts_with("SIP/2.0 480")), "{how:?}");
            let listed = world.call(second, "provider.devices", json!({"cursor": "PORT_1596", "limit": 1}));
            let device = &listed["result"]["devices"][0];
            assert_eq!((&device["opened"], &device["state"]), (&json!(false), &json!("out_of_service")));
            let opened = open(&mut world, second, "PORT_1596");
            assert_eq!(opened["result"]["legs"], json!([]), "{how:?}: {opened}");
        }
        let (took, _) = work_off(&mut world);
        assert!(took < Duration::from_secs(1), "{how:?}: {took:?}");
        assert!(!world.node.call_manager.devices().is_departing());
        assert!(world.sip.iter().any(|m| m.starts_with("BYE") && m.contains("Call-ID: a@")), "{how:?}");
        let offered = world.sip.iter().any(|m| m.starts_with("SIP/2.0 503") || m.starts_with("SIP/2.0 480"));
        assert!(offered, "{how:?}: {:?}", world.sip);
        let closed = world.reports.iter().filter(|report| report.name == "CtiDeviceClosed").count();
        assert_eq!(closed, PORTS, "{how:?}: each is told in the log");
        world.node.check().expect("all agrees");
        let opened = open(&mut world, second, "PORT_1600");
        assert!(opened["result"].is_object(), "{how:?}: {opened}");
    }
}

#[test]
fn a_failed_application_with_hundreds_of_calls_ends_them_in_portions_and_offered_ones_go_on() {
    for how in ["device.close", "provider.close"] {
        let mut world = World::new();
        let app = world.application(1, "ivr");
        let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
        world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
        world.event(app, "device.in_service");
        for call in 0..150 {
            answer_call(&mut world, app, &format!("t{call}"), "5000");
        }
        for call in 0..20 {
            world.invite(&format!("o{call}"), "5000");
        }
        world.heard(app);
        world.sip.clear();
        world.call(app, how, json!({"device": "RP_MAIN"}));
        assert!(world.sip.len() <= SIP_AT_ONCE + 8, "{} messages in one step", world.sip.len());
        // A new call goes where calls go when nobody is there.
        world.invite("late", "5000");
        assert!(world.sip.iter().any(|m| m.starts_with("INVITE sip:9001@")), "{how}");
        let (took, most) = work_off(&mut world);
        assert!(took < Duration::from_secs(1) && most <= SIP_AT_ONCE + 8, "{how}: {took:?}, {most}");
        let count = |start: &str| world.sip.iter().filter(|m| m.starts_with(start)).count();
        assert!(count("BYE") >= 150, "{how}: {}", count("BYE"));
        assert!(count("INVITE sip:9009@") >= 20, "{how}: offered ones go where failures are sent");
        world.node.check().expect("all agrees");
    }
}

#[test]
fn the_address_of_who_leaves_is_asked_of_the_others_in_portions() {
    let mut world = World::with(CONFIG);
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    let media = json!({"mode": "dynamic", "codecs": ["PCMU"]});
    for app in [app, other] {
        assert!(
            world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}))["result"]
                .is_object()
        );
    }
    world.heard(app);
    for call in 0..40 {
        world.invite(&format!("t{call}"), "5000");
        let leg = world.event(app, "call.offering")["leg"]["leg"].clone();
        world.call(app, "call.answer", json!({"leg": leg}));
        world.event(app, "media.open_channel");
        world.call(app, "call.set_media", json!({"leg": leg, "ip": "127.0.0.1", "port": 30_000}));
        world.frames.clear();
        world.sip.clear();
    }
    world.input(Input::CtiClosed(app));
    let (took, _) = work_off(&mut world);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let heard = world.heard(other);
    let asked = heard.iter().filter(|told| told.starts_with("media.open_channel")).count();
    assert_eq!(asked, 40, "{heard:?}");
    world.node.check().expect("all agrees");
}

#[test]
fn hundreds_of_sessions_whose_grace_is_over_end_a_few_at_a_time() {
    let yaml = CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 30s,");
    let mut world = World::with(&format!("service_parameters: {{max_unopened_connections: 1000}}\n{yaml}"));
    let apps: Vec<_> = (1..=200).map(|number| world.application(number, "ivr")).collect();
    for app in apps {
        world.input(Input::CtiClosed(app));
    }
    world.reports.clear();
    world.now += Duration::from_secs(31);
    let mut steps = 0;
    while world.node.next_timeout().is_some_and(|at| at <= world.now) {
        let before = world.reports.len();
        world.input(Input::Timeout);
        assert!(world.reports.len() - before <= 64, "{} in one step", world.reports.len() - before);
        steps += 1;
    }
    assert!(steps >= 4 && world.reports.len() == 200, "{steps} steps, {} ends", world.reports.len());
}

/// Each step of a stop: the SIP messages that it sent.
#[test]
fn a_stop_with_hundreds_of_calls_ends_them_in_portions_and_tells_everybody() {
    let (mut world, app) = opened();
    let apps: Vec<CtiConnection> = (2..=40).map(|number| world.application(number, "ivr")).collect();
    for number in 0..100 {
        world.invite(&format!("c{number}"), &format!("{}", 6_001 + number));
    }
    world.heard(app);
    world.sip.clear();
    world.input(Input::Stop);
    let (mut steps, mut ended, mut goodbyes) = (0, 0, world.closed.len());
    loop {
        let sent: Vec<String> = world.sip.drain(..).collect();
        assert!(sent.len() < SIP_AT_ONCE + 8, "{} messages in one step", sent.len());
        ended += sent.iter().filter(|message| message.starts_with("SIP/2.0 503")).count();
        assert!(
            world.closed.len() - goodbyes <= 32,
            "{} goodbyes in one step",
            world.closed.len() - goodbyes
        );
        goodbyes = world.closed.len();
        if goodbyes == apps.len() + 1 {
            break;
        }
        assert!(ended == 100 || goodbyes == 0, "applications hear of the end of their calls first");
        if steps == 0 {
            // Neither a call nor a request begins anything any more.
            world.invite("late", "6599");
            assert!(world.sip.pop_front().is_some_and(|answer| answer.starts_with("SIP/2.0 503")));
            world.send(app, "call.make", json!({"device": "PORT_1599", "destination": "9111"}));
        }
        world.now = world.node.next_timeout().expect("a portion is due").max(world.now);
        world.input(Input::Timeout);
        steps += 1;
    }
    assert_eq!(ended, 100);
    assert!(steps > 5, "{steps} steps");
    let told = world.heard(app);
    assert_eq!(told.iter().filter(|told| told.starts_with("call.disconnected")).count(), 100);
    assert_eq!(told.last().map(String::as_str), Some("session.closed stopping"));
    world.pass(Duration::from_secs(2));
    assert!(world.stopped);
}
