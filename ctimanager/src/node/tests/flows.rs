//! Calls through a whole node, from the INVITE to the event and back.

use super::world::{CONFIG, World, header};
use serde_json::json;
use std::time::Duration;

fn open_static(world: &mut World) -> protocol::session::ConnectionId {
    let app = world.application(1, "ivr");
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMA", "PCMU"]});
    let answer = world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
    assert_eq!(answer["result"]["device"]["state"], "in_service", "{answer}");
    world.event(app, "device.in_service");
    app
}

#[test]
fn a_trunk_calls_a_route_point_and_is_answered_with_static_media() {
    let mut world = World::new();
    let app = open_static(&mut world);
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    let offering = world.event(app, "call.offering");
    assert_eq!(offering["leg"]["calling"]["number"], "0301234");
    assert_eq!(offering["leg"]["called"]["number"], "5000");
    let leg = offering["leg"]["leg"].clone();
    let answer = world.call(app, "call.answer", json!({"leg": leg}));
    assert!(answer["result"].is_object(), "{answer}");
    let ok = world.sent("SIP/2.0 200");
    assert!(ok.contains("m=audio 30000 RTP/AVP 0 101"), "the caller's first codec alone: {ok}");
    let to = header(&ok, "To").to_owned();
    world.in_dialog("a", "ACK", 1, &to);
    world.event(app, "call.connected");
    let mut started: Vec<_> =
        (0..2).map(|_| world.event(app, "media.started")["direction"].as_str().map(str::to_owned)).collect();
    started.sort();
    assert_eq!(started, [Some("input".to_owned()), Some("output".to_owned())]);
    world.in_dialog("a", "BYE", 2, &to);
    world.sent("SIP/2.0 200");
    world.event(app, "media.stopped");
    world.event(app, "media.stopped");
    let gone = world.event(app, "call.disconnected");
    assert_eq!(gone["leg"]["cause"]["code"], 16);
    world.no_frames(app);
    world.quiet();
}

/// Both with the same randomness: only their names tell them apart.
#[test]
fn two_nodes_in_their_first_lives_issue_nothing_alike() {
    let issued = |name: &str| {
        let mut world = World::with(&CONFIG.replace("cm1", name));
        let app = world.connect(1);
        let open = json!({"user": "ivr", "password": "secret", "application": "test"});
        let session = world.call(app, "provider.open", open)["result"]["session"].clone();
        let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMA"]});
        world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
        world.event(app, "device.in_service");
        world.invite("a", "5000");
        let leg = world.event(app, "call.offering")["leg"].clone();
        [session, leg["call"].clone(), leg["leg"].clone()]
    };
    let (one, other) = (issued("cm1"), issued("cm2"));
    for (one, other) in one.iter().zip(&other) {
        assert!(one.is_string() && one != other, "{one} of cm1, {other} of cm2");
    }
    assert_eq!(one, issued("cm1"), "the same inputs say the same");
}

#[test]
fn nobody_accepts_and_the_call_goes_to_no_answer() {
    let mut world = World::new();
    let app = open_static(&mut world);
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    world.event(app, "call.offering");
    world.pass(Duration::from_millis(3900));
    assert!(world.sip.is_empty(), "{:?}", world.sip);
    world.pass(Duration::from_millis(200));
    let forwarded = world.sent("INVITE sip:9001@");
    assert_eq!(header(&forwarded, "Max-Forwards"), "69");
    let gone = world.event(app, "call.disconnected");
    assert_eq!(gone["leg"]["cause"]["name"], "no_answer", "{gone}");
}

#[test]
fn an_application_that_vanishes_leaves_nothing_behind_and_its_call_goes_to_cfof() {
    let mut world = World::new();
    let app = open_static(&mut world);
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    world.event(app, "call.offering");
    world.input(crate::node::Input::CtiClosed(app));
    world.sent("INVITE sip:9009@");
    world.invite("b", "5000");
    world.sent("SIP/2.0 100");
    world.sent("INVITE sip:9001@");
}

#[test]
fn a_provider_must_be_opened_first_and_the_password_must_be_right() {
    let mut world = World::new();
    let app = world.connect(1);
    let answer = world.call(app, "provider.devices", json!({}));
    assert_eq!(answer["error"]["data"]["cti"], "NOT_OPEN");
    for user in ["ivr", "nobody"] {
        let open = json!({"user": user, "password": "wrong", "application": "test"});
        let answer = world.call(app, "provider.open", open);
        assert_eq!(answer["error"]["data"]["cti"], "LOGIN_FAILED");
    }
    world.pass(Duration::from_secs(11));
    assert_eq!(world.closed, [app]);
}

#[test]
fn stopping_clears_the_calls_and_tells_the_applications() {
    let mut world = World::new();
    let app = open_static(&mut world);
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    world.event(app, "call.offering");
    world.input(crate::node::Input::Stop);
    world.sent("SIP/2.0 503");
    world.event(app, "call.disconnected");
    let told = world.frame(app).expect("a last word");
    assert_eq!(told["params"]["type"], "session.closed");
    assert_eq!(told["params"]["reason"], "stopping");
    world.pass(Duration::from_secs(2));
    assert!(world.stopped);
}
