//! SIP flows between a trunk and phones that SIPp plays: what one side does must reach the other side unharmed.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::app::{App, Media};
use tests::lab::node::{Config, Node, digest_password};
use tests::lab::sipp::{self, Run, Sipp};
use tests::lab::{Lab, SOON};

/// A node with a trunk, an application, and phones of SIPp that are registered.
struct World {
    lab: Lab,
    node: Node,
    trunk: SocketAddr,
    phone: SocketAddr,
    other_phone: SocketAddr,
}

impl World {
    async fn new(name: &str) -> World {
        World::with(name, json!({})).await
    }

    /// With these settings of the trunk beside its address.
    async fn with(name: &str, settings: Value) -> World {
        let lab = Lab::new(name);
        let trunk = lab.address();
        let mut entry = json!({"name": "pstn", "host": trunk.ip(), "port": trunk.port(), "transport": "udp"});
        for (key, value) in settings.as_object().into_iter().flatten() {
            entry[key] = value.clone();
        }
        let config = Config::new(&lab)
            .route_point("RP_MAIN", "5000")
            .port("PORT_001", "5101")
            .phone("2001")
            .phone("2002")
            .add("trunks", entry)
            .add("route_patterns", json!({"pattern": "9.!", "trunk": "pstn", "discard": "pre_dot"}))
            .user("attendant", &["RP_MAIN", "PORT_001", "SEP2001"]);
        let node = Node::start(&lab, config).await;
        let (phone, other_phone) = (lab.address(), lab.address());
        for (number, local) in [("2001", phone), ("2002", other_phone)] {
            let fields = vec![sipp::credentials(number, number, &digest_password(number))];
            let register = Run {
                scenario: "register",
                to: Some(node.sip),
                local: Some(local),
                calls: 1,
                fields,
                ..Run::default()
            };
            sipp::run(&lab, &register, SOON).await.all_went_well(1);
        }
        World { lab, node, trunk, phone, other_phone }
    }

    fn callee(&self, scenario: &'static str, at: SocketAddr, keys: &[(&'static str, &str)]) -> Sipp {
        let keys = keys.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Sipp::start(&self.lab, &Run { scenario, local: Some(at), calls: 1, keys, ..Run::default() })
    }

    /// The trunk calls.
    fn call(&self, scenario: &'static str, number: &str, keys: &[(&'static str, &str)]) -> Sipp {
        let keys = keys.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let (to, local) = (Some(self.node.sip), Some(self.trunk));
        Sipp::start(
            &self.lab,
            &Run { scenario, to, number: number.into(), local, calls: 1, keys, ..Run::default() },
        )
    }

    async fn application(&self, device: &str) -> App {
        App::open(&self.lab, &self.node, "attendant", device, Media::Static).await
    }

    /// Both went their way, and nothing is left.
    async fn both_went_well(mut self, mut caller: Sipp, mut callee: Sipp) {
        callee.finish(Duration::from_secs(15)).await.all_went_well(1);
        caller.finish(Duration::from_secs(15)).await.all_went_well(1);
        self.node.is_quiet().await;
        self.node.is_well();
    }
}

/// RFC 3261 §16.7: what a phone says is what its caller gets, word for word.
#[tokio::test]
async fn refusals_of_a_phone_reach_the_caller() {
    let world = World::new("refusals").await;
    for status in ["486", "480", "603", "503", "404", "488", "606"] {
        let keys = [("STATUS", status)];
        let mut phone = world.callee("uas_busy", world.phone, &keys);
        world.call("uac_refused", "2001", &keys).finish(SOON).await.all_went_well(1);
        phone.finish(SOON).await.all_went_well(1);
    }
    world.node.is_quiet().await;
}

#[tokio::test]
async fn a_phone_that_has_moved_is_followed() {
    let world = World::new("redirect").await;
    let mut moved = world.callee("uas_redirect", world.phone, &[("ELSEWHERE", "2002")]);
    let elsewhere = world.callee("uas", world.other_phone, &[("TALK_MS", "10000")]);
    let caller = world.call("uac", "2001", &[]);
    moved.finish(SOON).await.all_went_well(1);
    world.both_went_well(caller, elsewhere).await;
}

#[tokio::test]
async fn who_gives_up_stops_the_ringing() {
    let world = World::new("gives-up").await;
    let phone = world.callee("uas_cancelled", world.phone, &[]);
    let caller = world.call("uac_cancel", "2001", &[]);
    world.both_went_well(caller, phone).await;
}

#[tokio::test]
async fn an_answer_that_crosses_the_cancel_is_hung_up() {
    let world = World::new("cancel-race").await;
    let phone = world.callee("uas_cancel_race", world.phone, &[]);
    let caller = world.call("uac_cancel", "2001", &[]);
    world.both_went_well(caller, phone).await;
}

#[tokio::test]
async fn a_late_offer_goes_through_to_the_phone() {
    let world = World::new("late-offer").await;
    let phone = world.callee("uas_late_offer", world.phone, &[]);
    let caller = world.call("uac_late_offer", "2001", &[]);
    world.both_went_well(caller, phone).await;
}

/// RFC 3262 on both sides: the phone's early media reach the caller, and both acknowledge. An offer before the answer is
/// answered with what the phone said last; it hears of it once it has answered.
#[tokio::test]
async fn early_media_go_through_and_are_acknowledged() {
    let world = World::new("early-update").await;
    let phone = world.callee("uas_reliable", world.phone, &[]);
    let caller = world.call("uac_early_update", "2001", &[]);
    world.both_went_well(caller, phone).await;
}

/// A phone without 100rel: the caller that requires it gets it from the node.
#[tokio::test]
async fn a_caller_that_requires_reliability_gets_it_from_the_node() {
    let world = World::new("reliable").await;
    let phone = world.callee("uas", world.phone, &[("TALK_MS", "10000"), ("RING_MS", "1000")]);
    let caller = world.call("uac_prack", "2001", &[]);
    world.both_went_well(caller, phone).await;
}

#[tokio::test]
async fn a_phone_that_is_not_ready_for_an_offer_gets_it_again() {
    let world = World::new("pending").await;
    let mut app = world.application("PORT_001").await;
    let mut phone = world.callee("uas_491", world.phone, &[]);
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "2001"})).await;
    app.cti.expect_leg("call.connected", &made["leg"]).await;
    app.cti.call("call.hold", json!({"leg": made["leg"]})).await;
    app.cti.expect_leg("call.held", &made["leg"]).await;
    // 491, at most four seconds (RFC 3261 §14.1), and the same offer once more.
    phone.finish(Duration::from_secs(15)).await.all_went_well(1);
    app.cti.expect_leg("call.disconnected", &made["leg"]).await;
    world.node.is_quiet().await;
}

#[tokio::test]
async fn offers_that_cross_are_both_answered_in_the_end() {
    let world = World::new("glare").await;
    let mut app = world.application("RP_MAIN").await;
    let mut caller = world.call("uac_glare", "5000", &[]);
    let (leg, _) = app.answer().await;
    app.cti.call("call.hold", json!({"leg": leg})).await;
    app.cti.expect_leg("call.held", &leg).await;
    app.cti.expect_leg("call.disconnected", &leg).await;
    caller.finish(SOON).await.all_went_well(1);
    world.node.is_quiet().await;
}

#[tokio::test]
async fn a_key_by_info_is_a_key_for_the_application() {
    let world = World::new("info").await;
    let mut app = world.application("RP_MAIN").await;
    let mut caller = world.call("uac_info", "5000", &[]);
    let (leg, _) = app.answer().await;
    let pressed = app.cti.expect_leg("call.dtmf", &leg).await;
    assert_eq!(pressed["digit"], "5", "{pressed}");
    app.cti.expect_leg("call.disconnected", &leg).await;
    caller.finish(SOON).await.all_went_well(1);
    world.node.is_quiet().await;
}

fn login() -> Value {
    json!({"digest": {"user": "house", "password": "trunk-password"}})
}

#[tokio::test]
async fn a_trunk_that_asks_who_we_are_is_told() {
    let world = World::with("trunk-asks", login()).await;
    let mut app = world.application("PORT_001").await;
    let mut trunk =
        world.callee("uas_asks", world.trunk, &[("USER", "house"), ("PASSWORD", "trunk-password")]);
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "95551234"})).await;
    app.cti.expect_leg("call.connected", &made["leg"]).await;
    app.drop_call(&made["leg"]).await;
    trunk.finish(SOON).await.all_went_well(1);
    world.node.is_quiet().await;
}

/// No account for the caller to learn of: it gets no 401 that it could answer.
#[tokio::test]
async fn a_trunk_that_refuses_our_password_is_out_of_order_for_the_caller() {
    let world = World::with("trunk-refuses", login()).await;
    let mut app = world.application("PORT_001").await;
    let keys = [("USER", "house"), ("PASSWORD", "another")];
    let _trunk = world.callee("uas_asks", world.trunk, &keys);
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "95551234"})).await;
    let failed = app.cti.expect_leg("call.failed", &made["leg"]).await;
    assert!(failed["leg"]["cause"]["code"].as_u64().is_some_and(|code| code != 16), "{failed}");
    world.node.is_quiet().await;
    assert!(!world.node.log().contains("trunk-password"));
}

#[tokio::test]
async fn a_phone_calls_out_and_is_called_with_the_prefix_dropped() {
    let world = World::new("pattern").await;
    let mut app = world.application("PORT_001").await;
    let mut trunk = world.callee("uas", world.trunk, &[("TALK_MS", "10000")]);
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "95551234"})).await;
    app.cti.expect_leg("call.connected", &made["leg"]).await;
    app.drop_call(&made["leg"]).await;
    trunk.finish(SOON).await.all_went_well(1);
    let phone = world.callee("uas", world.phone, &[("TALK_MS", "10000")]);
    let caller = world.call("uac", "2001", &[]);
    world.both_went_well(caller, phone).await;
}
