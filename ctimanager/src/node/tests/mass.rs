//! Hundreds of devices that change in one reload: what holds at once, what is told in portions, and in which order.

use super::world::{CONFIG, World, header, summary};
use crate::node::cti_manager::dismissals::GOODBYES_AT_ONCE;
use crate::node::cti_manager::reload::consequences::{AT_ONCE, MAX_RELOADS, SIP_AT_ONCE};
use crate::node::{AdminRequest, AdminToken, CtiConnection, Input};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) const PORTS: usize = 600;

/// CONFIG with 600 ports more; `entry` is added to their description.
pub(super) fn many(entry: &str) -> String {
    let ports = format!(
        "  - {{name: \"PORT_[1001-1600]\", type: cti_port, pool: Default, lines: [\"[6001-6600]\"]{entry}}}\ntrunks:"
    );
    let limits =
        "service_parameters: {max_requests_per_second: 100000, max_devices_per_node: 10000}\ncluster:";
    CONFIG.replace("trunks:", &ports).replace("cluster:", limits)
}

fn shut() -> String {
    many(", allow_cti_control: false")
}

/// `many` without the ports on the list of `ivr`.
fn unlisted() -> String {
    many("").replace("[RP_MAIN, \"PORT_*\"]", "[RP_MAIN]")
}

/// An application that has all ports open.
pub(super) fn opened() -> (World, CtiConnection) {
    let mut world = World::with(&many(""));
    let app = world.application(1, "ivr");
    for port in 1001..=1600 {
        open(&mut world, app, &format!("PORT_{port}"));
    }
    (world, app)
}

pub(super) fn open(world: &mut World, app: CtiConnection, device: &str) -> Value {
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    let answer = world.call(app, "device.open", json!({"device": device, "media": media}));
    if answer["result"].is_object() {
        world.event(app, "device.in_service");
    }
    answer
}

pub(super) fn refusal(answer: &Value) -> &str {
    answer["error"]["data"]["cti"].as_str().unwrap_or("none")
}

/// What an application hears, step by step, until all is told.
fn portions(world: &mut World, app: CtiConnection) -> Vec<Vec<String>> {
    let mut portions = vec![world.heard(app)];
    let end = world.now + Duration::from_secs(3);
    while let Some(at) = world.node.next_timeout().filter(|at| *at < end) {
        world.now = world.now.max(at);
        world.input(Input::Timeout);
        portions.push(world.heard(app));
    }
    portions.retain(|portion| !portion.is_empty());
    portions
}

/// Each portion is bounded and there are several; all of them in a row.
fn told_in_portions(world: &mut World, app: CtiConnection) -> Vec<String> {
    let portions = portions(world, app);
    // The device that comes last in a portion may have more than one event to its name.
    assert!(portions.iter().all(|portion| portion.len() <= AT_ONCE + 3), "a portion is too large");
    assert!(portions.len() > 1, "{} portions", portions.len());
    portions.concat()
}

fn about<'a>(told: &'a [String], device: &str) -> Vec<&'a str> {
    let of_device = told.iter().filter(|told| told.split(' ').nth(1) == Some(device));
    of_device.map(|told| told.split(' ').next().unwrap_or_default()).collect()
}

pub(super) fn answer_call(world: &mut World, app: CtiConnection, tag: &str, number: &str) {
    world.sip.clear();
    world.invite(tag, number);
    world.sent("SIP/2.0 100");
    let leg = world.event(app, "call.offering")["leg"]["leg"].clone();
    world.call(app, "call.answer", json!({"leg": leg}));
    let to = header(&world.sent("SIP/2.0 200"), "To").to_owned();
    world.in_dialog(tag, "ACK", 1, &to);
    world.heard(app);
}

#[test]
fn a_mass_restriction_holds_at_once_and_is_told_in_portions() {
    let (mut world, app) = opened();
    world.reload(&shut());
    // The last port is not told yet, and shut; who asks is told first.
    world.heard(app);
    world.invite("a", "6600");
    world.sent("SIP/2.0 100");
    world.sent("SIP/2.0 480");
    world.send(app, "call.make", json!({"device": "PORT_1599", "destination": "9111"}));
    let frames: Vec<Value> = std::iter::from_fn(|| world.frame(app)).collect();
    let kinds: Vec<&str> = frames.iter().filter_map(|frame| frame["params"]["type"].as_str()).collect();
    assert_eq!(kinds, ["device.restricted", "device.out_of_service"]);
    assert_eq!(refusal(frames.last().expect("an answer")), "DEVICE_RESTRICTED");
    assert_eq!(frames[0]["params"]["device"]["name"], "PORT_1599");
    let told = told_in_portions(&mut world, app);
    assert_eq!(about(&told, "PORT_1600"), ["device.restricted", "device.out_of_service"]);
    assert!(about(&told, "PORT_1599").is_empty(), "told once");
    world.reload(&many(""));
    let told = told_in_portions(&mut world, app);
    assert_eq!(told.len(), 2 * PORTS);
    assert_eq!(about(&told, "PORT_1300"), ["device.unrestricted", "device.in_service"]);
    answer_call(&mut world, app, "b", "6600");
}

#[test]
fn a_device_that_is_unrestricted_says_so_before_its_first_call() {
    let (mut world, app) = opened();
    world.reload(&shut());
    portions(&mut world, app);
    world.reload(&many(""));
    world.heard(app);
    world.invite("a", "6600");
    world.sent("SIP/2.0 100");
    let told = world.heard(app);
    assert_eq!(about(&told, "PORT_1600"), ["device.unrestricted", "device.in_service", "call.offering"]);
    let told = told_in_portions(&mut world, app);
    assert!(about(&told, "PORT_1600").iter().all(|kind| kind.starts_with("call.")), "told once");
}

#[test]
fn devices_that_are_removed_are_closed_at_once_and_told_in_portions() {
    let (mut world, app) = opened();
    answer_call(&mut world, app, "a", "6500");
    world.reload(CONFIG);
    world.sent("BYE");
    let mut told = world.heard(app);
    let ends = ["media.stopped", "media.stopped", "call.disconnected", "device.closed", "device.removed"];
    assert_eq!(about(&told, "PORT_1500"), ends, "calls that may not stay do not wait");
    world.invite("b", "6600");
    world.sent("SIP/2.0 100");
    world.sent("SIP/2.0 404");
    world.send(app, "line.set_forward", json!({"device": "PORT_1599", "dn": "6599", "destination": "9111"}));
    let frames: Vec<Value> = std::iter::from_fn(|| world.frame(app)).collect();
    assert_eq!(refusal(frames.last().expect("an answer")), "DEVICE_NOT_CONTROLLED");
    assert_eq!(frames.len(), 3, "closed and removed come before it");
    let id = world.send(app, "provider.snapshot", json!({}));
    let snapshot = loop {
        match world.frame(app) {
            Some(frame) if frame["id"] == id => break frame,
            Some(frame) => told.push(summary(&frame["params"])),
            None => world.pass(Duration::from_millis(1)),
        }
    };
    assert_eq!(snapshot["result"]["devices"], json!([]), "also before all are told");
    let last = "device.removed PORT_1600";
    assert!(!told.iter().any(|told| told == last));
    told.extend(told_in_portions(&mut world, app));
    assert_eq!(about(&told, "PORT_1600"), ["device.closed", "device.removed"]);
    assert_eq!(told.len(), 2 * PORTS + 3 - 2);
    world.node.check().expect("all agrees");
}

#[test]
fn devices_that_leave_a_list_are_lost_at_once_and_told_in_portions() {
    let (mut world, app) = opened();
    answer_call(&mut world, app, "a", "6500");
    world.reload(&unlisted());
    world.sent("BYE");
    world.invite("b", "6600");
    world.sent("SIP/2.0 100");
    world.sent("SIP/2.0 480");
    let mut told = world.heard(app);
    assert!(about(&told, "PORT_1600").is_empty());
    world.send(app, "device.close", json!({"device": "PORT_1599"}));
    let frames: Vec<Value> = std::iter::from_fn(|| world.frame(app)).collect();
    assert_eq!(frames[0]["params"]["type"], "device.removed");
    assert_eq!(refusal(&frames[1]), "DEVICE_NOT_CONTROLLED");
    told.extend(told_in_portions(&mut world, app));
    assert_eq!(about(&told, "PORT_1500"), ["device.removed"], "how its call ended is not his any more");
    // PORT_001 and PORT_002 stood on the list, too.
    assert_eq!(told.len(), PORTS + 2 - 1);
    world.reload(&many(""));
    let told = told_in_portions(&mut world, app);
    assert_eq!(about(&told, "PORT_1600"), ["device.added"]);
}

#[test]
fn a_device_is_told_as_new_before_it_is_opened() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    world.reload(&many(""));
    let mut told = world.heard(app);
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    world.send(app, "device.open", json!({"device": "PORT_1600", "media": media}));
    assert_eq!(world.event(app, "device.added")["device"]["name"], "PORT_1600");
    assert!(world.frame(app).expect("an answer")["result"].is_object());
    world.event(app, "device.in_service");
    // Who comes now has seen the new configuration from the start.
    let late = world.application(2, "ivr");
    told.extend(told_in_portions(&mut world, app));
    assert_eq!(told.len(), PORTS - 1);
    world.no_frames(late);
}

#[test]
fn a_second_reload_before_the_first_is_told_takes_back_what_nobody_saw() {
    let (mut world, app) = opened();
    answer_call(&mut world, app, "a", "6001");
    world.reload(&shut());
    world.sent("BYE");
    let first = world.heard(app);
    world.reload(&many(""));
    let told = [first.clone(), portions(&mut world, app).concat()].concat();
    for port in 1001..=1600 {
        let name = format!("PORT_{port}");
        let service = about(&told, &name).into_iter().filter(|kind| kind.starts_with("device."));
        let service: Vec<&str> = service.collect();
        match about(&first, &name).is_empty() {
            true => assert!(service.is_empty(), "{name}: {service:?}"),
            false => assert_eq!(
                service,
                ["device.restricted", "device.out_of_service", "device.unrestricted", "device.in_service"],
                "{name}"
            ),
        }
    }
    assert!(about(&told, "PORT_1600").is_empty(), "the last was never told");
    answer_call(&mut world, app, "b", "6600");
    answer_call(&mut world, app, "c", "6001");
}

#[test]
fn devices_that_go_and_come_back_before_it_is_told_are_other_devices() {
    let (mut world, app) = opened();
    world.reload(CONFIG);
    world.reload(&many(""));
    let told = portions(&mut world, app).concat();
    for port in 1001..=1600 {
        let name = format!("PORT_{port}");
        assert_eq!(about(&told, &name), ["device.closed", "device.removed", "device.added"], "{name}");
    }
    assert!(open(&mut world, app, "PORT_1600")["result"].is_object(), "it can be opened again");
    world.node.check().expect("all agrees");
}

#[test]
fn a_reader_who_is_behind_is_waited_for_but_not_for_ever_and_calls_are_not() {
    let (mut world, app) = opened();
    answer_call(&mut world, app, "a", "6600");
    let other = world.application(2, "other");
    world.input(Input::CtiBehind(app, true));
    world.reload(&shut());
    assert!(world.sent("BYE").contains("Call-ID: a@"), "nobody's slowness delays a call");
    let told = world.heard(app);
    assert!(told.iter().all(|told| told.contains("PORT_1600")), "{told:?}");
    world.pass(Duration::from_millis(900));
    world.no_frames(app);
    world.input(Input::CtiBehind(app, false));
    world.pass(Duration::from_millis(5));
    assert!(!world.heard(app).is_empty(), "he has caught up");
    world.input(Input::CtiBehind(app, true));
    world.pass(Duration::from_millis(900));
    world.no_frames(app);
    let told = told_in_portions(&mut world, app);
    assert_eq!(
        about(&told, "PORT_1599"),
        ["device.restricted", "device.out_of_service"],
        "a second is enough"
    );
    world.no_frames(other);
}

/// As many reloads as may be under way. Their application reads slowly, and is waited for as long as nobody else waits.
fn reloads_under_way() -> (World, CtiConnection) {
    let (mut world, app) = opened();
    world.input(Input::CtiBehind(app, true));
    for _ in 0..MAX_RELOADS / 2 {
        world.reload(CONFIG);
        world.reload(&many(""));
    }
    (world, app)
}

#[test]
fn a_reload_beyond_those_that_are_still_told_waits_and_says_when_it_is_in_force() {
    let (mut world, app) = reloads_under_way();
    assert_eq!(world.in_force, MAX_RELOADS);
    let (mut told, before) = (world.heard(app), world.now);
    world.reload(&CONFIG.replace("\"9009\"", "\"9005\""));
    assert_eq!((world.in_force, world.heard(app).len()), (MAX_RELOADS, 0), "it waits");
    world.invite("a", "6600");
    world.sent("SIP/2.0 100");
    assert!(world.sent("SIP/2.0 480").contains("Call-ID: a@"), "the eighth is in force");
    let forwards_to = |world: &mut World, dn: &str| {
        world.input(Input::Admin(AdminToken(1), AdminRequest::Dependencies { dn: dn.to_owned() }));
        world.answers.pop().expect("an answer").expect("a number").to_string().contains("5000")
    };
    assert!(forwards_to(&mut world, "9009"));
    // One that comes meanwhile takes its place, and answers both.
    world.reload(&CONFIG.replace("\"9009\"", "\"9006\""));
    while world.in_force == MAX_RELOADS {
        world.pass_to_next();
    }
    assert!(world.now - before < Duration::from_millis(100), "nobody waited for a reader");
    assert_eq!(world.in_force, MAX_RELOADS + 2);
    told.extend(world.heard(app));
    let portions = portions(&mut world, app);
    // A device is told with all its earlier lives.
    let most = AT_ONCE + 3 * MAX_RELOADS;
    assert!(portions.iter().all(|portion| portion.len() <= most), "a portion is too large");
    told.extend(portions.concat());
    assert!(forwards_to(&mut world, "9006"), "wherever settings are kept");
    world.sip.clear();
    world.invite("b", "5000");
    assert!(world.sip.iter().any(|sent| sent.starts_with("INVITE sip:9001@")), "{:?}", world.sip);
    let of_last = about(&told, "PORT_1600");
    let removed = of_last.iter().filter(|kind| **kind == "device.removed").count();
    assert_eq!((removed, of_last.last()), (MAX_RELOADS / 2 + 1, Some(&"device.removed")));
}

#[test]
fn a_stop_does_not_wait_for_a_reload_that_waits() {
    let (mut world, app) = reloads_under_way();
    world.reload(CONFIG);
    world.input(Input::Stop);
    world.pass(Duration::from_secs(3));
    assert!(world.stopped);
    assert_eq!(world.in_force, MAX_RELOADS);
    assert_eq!(world.heard(app).last().map(String::as_str), Some("session.closed stopping"));
}

/// Many sessions of `ivr`, the first hundred with a port open, and one of `other` with the route point.
fn crowd(sessions: u64, kept: bool) -> (World, CtiConnection) {
    let limits = "service_parameters: {max_unopened_connections: 5000, max_cti_connections: 5000, \
                  max_cti_connections_per_user: 5000, session_resume_grace: 30s, ";
    let mut world = World::with(&many("").replace("service_parameters: {", limits));
    if kept {
        world.input(Input::Restored(Box::default(), None));
    }
    let neighbour = world.application(5_000, "other");
    open(&mut world, neighbour, "RP_MAIN");
    for number in 1..=sessions {
        let app = world.application(number, "ivr");
        if number <= 100 {
            open(&mut world, app, &format!("PORT_{}", 1_000 + number));
        }
    }
    world.reported();
    (world, neighbour)
}

#[test]
fn a_thousand_sessions_that_a_reload_dismisses_end_at_once_and_are_told_in_portions() {
    const SESSIONS: u64 = 1_000;
    let (mut world, neighbour) = crowd(SESSIONS, false);
    answer_call(&mut world, neighbour, "a", "5000");
    world.frames.clear();
    let limits = "service_parameters: {max_cti_connections: 5000, max_cti_connections_per_user: 5000, ";
    world.reload(&many("").replace("service_parameters: {", limits).replace("id: ivr,", "id: renamed,"));
    let told = |world: &World| world.frames.values().map(std::collections::VecDeque::len).sum::<usize>();
    assert!((1..=GOODBYES_AT_ONCE).contains(&world.closed.len()), "{} in one step", world.closed.len());
    assert_eq!(told(&world), world.closed.len());
    // Each has ended, and none of its devices is open.
    assert_eq!(world.node.call_manager.devices().opening_sessions().count(), 1);
    world.sip.clear();
    world.invite("b", "6100");
    assert!(world.sip.iter().any(|sent| sent.starts_with("SIP/2.0 480")), "{:?}", world.sip);
    // Others go on.
    world.invite("c", "5000");
    assert_eq!(world.event(neighbour, "call.offering")["leg"]["device"], "RP_MAIN");
    // Who asks for something hears that he is dismissed, whenever his turn would be.
    let mut waiting = (1..=SESSIONS).map(protocol::session::ConnectionId);
    let mut next = || waiting.rfind(|connection| !world.closed.contains(connection)).expect("many wait");
    let (asks, leaves, shouts, last) = (next(), next(), next(), next());
    world.send(asks, "device.close", json!({"device": "PORT_1100"}));
    world.input(Input::CtiLineTooLong(shouts));
    for connection in [asks, shouts] {
        assert_eq!(world.heard(connection), ["session.closed user_deleted"]);
        assert!(world.closed.contains(&connection));
    }
    world.input(Input::CtiClosed(leaves));
    world.no_frames(leaves);
    world.input(Input::CtiBehind(last, true));
    while !world.closed.contains(&last) || world.closed.len() < SESSIONS as usize - 1 {
        let (closed, said) = (world.closed.len(), told(&world));
        world.pass_to_next();
        let (closed, said) = (world.closed.len() - closed, told(&world) - said);
        assert!(closed <= GOODBYES_AT_ONCE && said <= GOODBYES_AT_ONCE, "{closed} closed, {said} said");
    }
    world.pass(Duration::from_secs(1));
    let reports = world.reported();
    let count = |name: &str| reports.iter().filter(|report| **report == name).count();
    assert_eq!((count("CtiProviderClosed"), count("CtiDeviceClosed")), (1_000, 100));
    assert_eq!(count("CtiProviderConnectionDropped"), 0, "who leaves then was dismissed before");
    world.no_frames(neighbour);
}

#[test]
fn a_stop_and_another_reload_find_dismissed_sessions_and_each_hears_why_once() {
    for stops in [true, false] {
        let (mut world, _) = crowd(100, true);
        world.frames.clear();
        assert_eq!(world.kept.sessions.len(), 101);
        world.reload(&many("").replace("id: ivr,", "id: renamed,"));
        assert!(world.closed.len() < 100, "not all are told yet");
        assert_eq!(world.kept.sessions.len(), 1, "nothing of any of them is kept");
        match stops {
            true => world.input(Input::Stop),
            false => world.reload(&many("")),
        }
        world.pass(Duration::from_secs(3));
        for number in 1..=100 {
            let heard = world.heard(protocol::session::ConnectionId(number));
            assert_eq!(heard, ["session.closed user_deleted"], "{number}, {stops}");
        }
        assert!(world.node.has_kept_all());
        assert_eq!(world.stopped, stops);
    }
}

#[test]
fn a_user_with_many_open_devices_is_deleted_and_his_calls_end_in_portions() {
    let mut world = World::with(
        &many("").replace("max_requests_per_second", "session_resume_grace: 30s, max_requests_per_second"),
    );
    let app = world.application(1, "ivr");
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
    world.event(app, "device.in_service");
    for call in 0..200 {
        answer_call(&mut world, app, &format!("t{call}"), "5000");
    }
    let neighbour = world.application(2, "other");
    world.reload(&many("").replace("id: ivr", "id: renamed"));
    assert_eq!(world.frame(app).expect("a last word")["params"]["reason"], "user_deleted");
    let (mut ended, mut steps) = (0, 0);
    loop {
        let byes = world.sip.drain(..).filter(|message| message.starts_with("BYE")).count();
        assert!(byes <= SIP_AT_ONCE + 8, "{byes} calls end in one step");
        (ended, steps) = (ended + byes, steps + 1);
        if ended == 200 {
            break;
        }
        world.pass(Duration::from_millis(1));
    }
    assert!((5..40).contains(&steps), "{steps} steps");
    world.no_frames(neighbour);
    // The device can be had meanwhile.
    let answer = world.call(neighbour, "device.open", json!({"device": "RP_MAIN", "media": media}));
    assert!(answer["result"].is_object(), "{answer}");
}
