//! What is asked of CallManager may wait, and so may what it tells: answers and events come in later steps, and all is as if
//! they came at once.

use super::world::{CONFIG, World, header};
use crate::node::port::Input;
use protocol::session::ConnectionId;
use serde_json::{Value, json};
use std::time::Duration;

/// Chances of the queue.
const SEEDS: std::ops::Range<u64> = 0..24;
/// All that waits has passed by then.
const SOON: Duration = Duration::from_millis(200);

/// The answer to a request, whenever it comes; nothing else is said before it.
fn answer(world: &mut World, app: ConnectionId, id: u64) -> Value {
    for _ in 0..200 {
        if let Some(frame) = world.frame(app) {
            assert_eq!(frame["id"], id, "{frame}");
            return frame;
        }
        world.pass(Duration::from_millis(5));
    }
    panic!("{id} got no answer within a second");
}

/// The next event, whenever it comes.
fn event(world: &mut World, app: ConnectionId, kind: &str) -> Value {
    for _ in 0..200 {
        if world.frames.get(&app).is_some_and(|frames| !frames.is_empty()) {
            return world.event(app, kind);
        }
        world.pass(Duration::from_millis(5));
    }
    panic!("no {kind} within a second");
}

fn asked(world: &mut World, app: ConnectionId, method: &str, params: Value) -> Value {
    let id = world.send(app, method, params);
    answer(world, app, id)
}

fn opening() -> Value {
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMA", "PCMU"]});
    json!({"device": "RP_MAIN", "media": media})
}

fn late(yaml: &str, seed: u64) -> (World, ConnectionId) {
    let mut world = World::with(yaml);
    world.node.delay_requests(seed);
    world.node.delay_told(!seed);
    world.input(Input::Restored(Box::default(), None));
    let app = world.application(1, "ivr");
    (world, app)
}

#[test]
fn a_call_is_answered_and_a_device_closed_though_each_request_waits() {
    let config = CONFIG.replacen("id: ivr,", "id: ivr, session_resume_grace: 10s,", 1);
    let mut waited = 0;
    for seed in SEEDS {
        let (mut world, app) = late(&config, seed);
        let id = world.send(app, "device.open", opening());
        waited += usize::from(world.frames.get(&app).is_none_or(|frames| frames.is_empty()));
        assert_eq!(answer(&mut world, app, id)["result"]["device"]["state"], "in_service");
        event(&mut world, app, "device.in_service");
        let kept = |world: &World| world.kept.sessions.values().map(|kept| kept.devices.len()).sum::<usize>();
        assert_eq!(kept(&world), 1, "{seed}");
        world.invite("a", "5000");
        world.sent("SIP/2.0 100");
        let leg = event(&mut world, app, "call.offering")["leg"]["leg"].clone();
        let answered = asked(&mut world, app, "call.answer", json!({"leg": leg}));
        assert!(answered["result"].is_object(), "{answered}");
        let ok = world.sent("SIP/2.0 200");
        let to = header(&ok, "To").to_owned();
        world.in_dialog("a", "ACK", 1, &to);
        world.pass(SOON);
        world.frames.clear();
        assert!(asked(&mut world, app, "call.drop", json!({"leg": leg}))["result"].is_object());
        world.sent("BYE");
        world.pass(SOON);
        world.frames.clear();
        let closed = asked(&mut world, app, "device.close", json!({"device": "RP_MAIN"}));
        assert!(closed["result"].is_object(), "{closed}");
        assert_eq!(kept(&world), 0, "{seed}: nothing of it is kept");
    }
    assert_eq!(waited, SEEDS.count(), "none was carried out in the step that brought it");
}

#[test]
fn what_waits_is_carried_out_before_other_rules_are_in_force() {
    let without =
        CONFIG.replacen("controlled_devices: [RP_MAIN, \"PORT_*\"]", "controlled_devices: [\"PORT_*\"]", 1);
    assert_ne!(without, CONFIG);
    for seed in SEEDS {
        let (mut world, app) = late(CONFIG, seed);
        let id = world.send(app, "device.open", opening());
        world.reload(&without);
        let frame = world.frame(app).expect("it was asked before");
        assert_eq!(frame["id"], id, "{frame}");
        assert!(frame["result"].is_object(), "{frame}");
        world.pass(Duration::from_millis(100));
        let heard = world.heard(app);
        assert!(heard.iter().any(|event| event.starts_with("device.removed RP_MAIN")), "{seed}: {heard:?}");
        let refused = asked(&mut world, app, "device.open", opening());
        assert!(refused["error"].is_object(), "{refused}");
    }
}

#[test]
fn what_an_ended_session_asked_is_not_carried_out() {
    for seed in SEEDS {
        let (mut world, app) = late(CONFIG, seed);
        world.send(app, "device.open", opening());
        world.send(app, "provider.close", json!({}));
        world.pass(Duration::from_millis(200));
        assert_eq!(world.node.call_manager.devices().counts().open_devices, 0, "{seed}");
        let other = world.application(2, "ivr");
        assert!(
            asked(&mut world, other, "device.open", opening())["result"].is_object(),
            "{seed}: it is free"
        );
    }
}

/// What an application is told, without the time of day.
fn frames(world: &mut World, app: ConnectionId) -> Vec<Value> {
    world.pass(SOON);
    let frames = world.frames.remove(&app).unwrap_or_default();
    let timeless = |mut frame: Value| {
        frame["params"].as_object_mut().map(|params| params.remove("time"));
        frame
    };
    frames.into_iter().map(timeless).collect()
}

/// A call that is answered, held, retrieved and dropped, and a device that is closed: all that its application hears.
fn story(world: &mut World, app: ConnectionId) -> Vec<Value> {
    world.send(app, "device.open", opening());
    let mut heard = frames(world, app);
    world.invite("a", "5000");
    heard.extend(frames(world, app));
    let leg = heard.last().expect("an offer")["params"]["leg"]["leg"].clone();
    for method in ["call.accept", "call.answer"] {
        world.send(app, method, json!({"leg": leg}));
        heard.extend(frames(world, app));
    }
    let ok = world.sip.iter().find(|message| message.starts_with("SIP/2.0 200")).cloned().expect("an answer");
    let to = header(&ok, "To").to_owned();
    world.in_dialog("a", "ACK", 1, &to);
    world.press("a", 2, &to, '5');
    world.send(app, "call.set_user_data", json!({"leg": leg, "user_data": {"k": "v"}}));
    world.send(app, "provider.snapshot", json!({}));
    world.send(app, "call.drop", json!({"leg": leg}));
    world.send(app, "device.close", json!({"device": "RP_MAIN"}));
    heard.extend(frames(world, app));
    heard
}

#[test]
fn an_application_hears_the_same_in_the_same_order_however_long_it_is_under_way() {
    let mut world = World::with(CONFIG);
    world.input(Input::Restored(Box::default(), None));
    let app = world.application(1, "ivr");
    let at_once = story(&mut world, app);
    let events = |heard: &[Value]| -> Vec<Value> {
        heard.iter().filter(|frame| frame["id"].is_null()).cloned().collect()
    };
    let answers = |heard: &[Value]| -> Vec<Value> {
        let answers = heard.iter().filter(|frame| !frame["id"].is_null());
        // Of a snapshot only that it is answered: another moment is another answer.
        answers.filter(|answer| answer["result"]["seq"].is_null()).cloned().collect()
    };
    for seed in SEEDS {
        let (mut world, app) = late(CONFIG, seed);
        let late = story(&mut world, app);
        assert_eq!(events(&late), events(&at_once), "{seed}");
        assert_eq!(answers(&late), answers(&at_once), "{seed}");
    }
}

#[test]
fn a_snapshot_is_what_was_told_and_nothing_later() {
    let mut waited = 0;
    for seed in SEEDS {
        let (mut world, app) = late(CONFIG, seed);
        world.send(app, "device.open", opening());
        frames(&mut world, app);
        world.invite("a", "5000");
        waited += usize::from(world.frames.get(&app).is_none_or(|frames| frames.is_empty()));
        world.send(app, "provider.snapshot", json!({}));
        let offer = world.event(app, "call.offering");
        let answer = world.frame(app).expect("a small snapshot is answered at once");
        assert_eq!(answer["result"]["seq"], offer["seq"], "{seed}: {answer}");
        assert_eq!(answer["result"]["devices"][0]["legs"][0]["leg"], offer["leg"]["leg"], "{seed}: {answer}");
    }
    assert!(waited > 0, "no event waited");
}

#[test]
fn what_was_told_is_heard_before_other_rules_are_in_force() {
    let without =
        CONFIG.replacen("controlled_devices: [RP_MAIN, \"PORT_*\"]", "controlled_devices: [\"PORT_*\"]", 1);
    for seed in SEEDS {
        let (mut world, app) = late(CONFIG, seed);
        world.send(app, "device.open", opening());
        frames(&mut world, app);
        world.invite("a", "5000");
        world.reload(&without);
        world.pass(SOON);
        let heard = world.heard(app);
        assert!(heard[0].starts_with("call.offering RP_MAIN"), "{seed}: {heard:?}");
        let removed = heard.iter().position(|event| event.starts_with("device.removed RP_MAIN"));
        assert_eq!(removed, Some(heard.len() - 1), "{seed}: {heard:?}");
    }
}

#[test]
fn nobody_hears_an_answer_after_his_session_has_ended() {
    for seed in SEEDS {
        let (mut world, app) = late(CONFIG, seed);
        let other = world.application(2, "other");
        world.send(app, "device.open", opening());
        // Some of them are carried out by now, and the answer is under way.
        world.pass(Duration::from_millis(seed));
        world.send(app, "provider.close", json!({}));
        world.pass(SOON);
        assert_eq!(world.node.call_manager.devices().counts().open_devices, 0, "{seed}");
        assert!(asked(&mut world, other, "device.open", opening())["result"].is_object(), "{seed}");
        assert!(world.node.is_quiet(), "{seed}");
    }
}
