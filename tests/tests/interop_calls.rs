//! What applications do with calls, as the protocol's page says, against a real node with SIPp at the other end.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::app::{App, Media, media_address};
use tests::lab::cti::leg_of;
use tests::lab::node::{Config, Node};
use tests::lab::sipp::{self, Sipp};
use tests::lab::{Lab, SOON};

struct Place {
    lab: Lab,
    trunk: SocketAddr,
    node: Node,
}

impl Place {
    async fn new(test: &str, change: impl FnOnce(Config) -> Config) -> Place {
        let lab = Lab::new(test);
        let trunk = lab.address();
        let config = Config::new(&lab)
            .route_point("RP_MAIN", "5000")
            .port("PORT_001", "5101")
            .port("PORT_002", "5102")
            .phone("2001")
            .trunk("pstn", trunk)
            .pattern("9.!", "pstn")
            .user("ivr", &["RP_MAIN", "PORT_*", "SEP2001"])
            .user("other", &["RP_MAIN"]);
        let node = Node::start(&lab, change(config)).await;
        Place { lab, trunk, node }
    }

    async fn app(&self, user: &str, device: &str, media: Media) -> App {
        App::open(&self.lab, &self.node, user, device, media).await
    }

    /// A caller who waits for the other side to hang up, or is refused where a status is given.
    fn caller(&self, number: &str, refused_with: Option<&str>) -> Sipp {
        self.caller_with(number, refused_with, None)
    }

    fn caller_with(&self, number: &str, refused_with: Option<&str>, scenario: Option<&'static str>) -> Sipp {
        let plain = if refused_with.is_some() { "uac_refused" } else { "uac_hangs_on" };
        let mut keys = vec![("TALK_MS", "20000".to_owned()), ("ANSWER_MS", "20000".to_owned())];
        keys.extend(refused_with.map(|status| ("STATUS", status.to_owned())));
        let run = sipp::Run {
            scenario: scenario.unwrap_or(plain),
            to: Some(self.node.sip),
            number: number.into(),
            local: Some(self.trunk),
            calls: 1,
            keys,
            ..sipp::Run::default()
        };
        Sipp::start(&self.lab, &run)
    }
}

#[tokio::test]
async fn ports_call_each_other_and_every_step_is_told() {
    let place = Place::new("ports", |config| config).await;
    let mut caller = place.app("ivr", "PORT_001", Media::Static).await;
    let mut called = place.app("ivr", "PORT_002", Media::Static).await;
    let request = json!({"device": "PORT_001", "destination": "5102", "user_data": {"ticket": "4711"}});
    let made = caller.cti.call("call.make", request).await;
    let leg = made["leg"].clone();

    let offered = called.offered().await;
    assert_eq!(offered["call"], made["call"], "one call, two legs: {offered}");
    assert_eq!(offered["calling"]["number"], "5101", "{offered}");
    assert_eq!(offered["user_data"]["ticket"], "4711", "{offered}");
    let other = offered["leg"].clone();
    called.cti.call("call.accept", json!({"leg": other})).await;
    caller.cti.expect_leg("call.ringback", &leg).await;
    called.cti.call("call.answer", json!({"leg": other})).await;
    let connected = caller.cti.expect_leg("call.connected", &leg).await;
    assert_eq!(connected["leg"]["state"], "connected", "{connected}");
    called.cti.expect_leg("call.connected", &other).await;
    let (to_called, to_caller) = (caller.output(&leg).await, called.output(&other).await);
    assert_eq!(
        (to_called, to_caller),
        (called.voice.address, caller.voice.address),
        "each sends to the other"
    );
    caller.voice.speak(450, to_called);
    called.voice.hears(450, SOON).await;

    called.drop_call(&other).await;
    let gone = caller.cti.expect_leg("call.disconnected", &leg).await;
    assert_eq!(gone["leg"]["cause"], json!({"code": 16, "name": "normal_call_clearing"}), "{gone}");
    place.node.is_quiet().await;
}

#[tokio::test]
async fn a_redirect_that_fails_leaves_the_call_as_it_was_unless_told_otherwise() {
    let place = Place::new("redirect-fails", |config| config).await;
    let mut app = place.app("ivr", "RP_MAIN", Media::Static).await;
    let mut caller = place.caller("5000", None);
    let (leg, _) = app.answer().await;
    for (destination, symbol) in [("7777", "DESTINATION_UNKNOWN"), ("2001", "DESTINATION_OUT_OF_SERVICE")] {
        let refused = app.cti.refused("call.redirect", json!({"leg": leg, "destination": destination})).await;
        assert_eq!(refused.symbol, symbol, "{refused}");
    }
    let snapshot = app.cti.call("provider.snapshot", json!({})).await;
    assert_eq!(snapshot["devices"][0]["legs"][0]["state"], "connected", "{snapshot}");
    let request = json!({"leg": leg, "destination": "7777", "keep_on_failure": false});
    app.cti.refused("call.redirect", request).await;
    app.cti.expect_leg("call.disconnected", &leg).await;
    caller.finish(SOON).await.all_went_well(1);
    place.node.is_quiet().await;
}

#[tokio::test]
async fn an_application_holds_and_takes_back() {
    for media in [Media::Static, Media::Dynamic] {
        let place = Place::new("hold", |config| config).await;
        let mut app = place.app("ivr", "PORT_001", media).await;
        let mut caller = place.caller_with("5101", None, Some("uac_held"));
        let leg = app.offered().await["leg"].clone();
        app.cti.call("call.answer", json!({"leg": leg})).await;
        give_address(&mut app, media, &leg).await;
        app.cti.expect_leg("call.connected", &leg).await;
        app.output(&leg).await;

        app.cti.call("call.hold", json!({"leg": leg})).await;
        app.cti.expect_leg("call.held", &leg).await;
        for direction in ["input", "output"] {
            let is_it = |event: &Value| leg_of(event) == leg && event["direction"] == direction;
            app.cti.expect_event("media.stopped", is_it, SOON).await;
        }
        let twice = app.cti.refused("call.hold", json!({"leg": leg})).await;
        assert_eq!((twice.symbol.as_str(), &twice.data["state"]), ("ILLEGAL_CALL_STATE", &json!("held")));
        app.cti.call("call.retrieve", json!({"leg": leg})).await;
        give_address(&mut app, media, &leg).await;
        app.cti.expect_leg("call.connected", &leg).await;
        app.output(&leg).await;
        app.drop_call(&leg).await;
        caller.finish(SOON).await.all_went_well(1);
        place.node.is_quiet().await;
    }
}

/// Answers the question for an address, where media are dynamic.
async fn give_address(app: &mut App, media: Media, leg: &Value) {
    if media == Media::Dynamic {
        app.cti.expect_leg("media.open_channel", leg).await;
        let (ip, port) = (app.voice.address.ip(), app.voice.address.port());
        app.cti.call("call.set_media", json!({"leg": leg, "ip": ip, "port": port})).await;
    }
}

#[tokio::test]
async fn an_application_that_gives_no_address_loses_the_call_in_time() {
    let place =
        Place::new("no-address", |config| config.parameter("media_exchange_timer", json!("1s"))).await;
    let mut app = place.app("ivr", "PORT_001", Media::Dynamic).await;
    let mut caller = place.caller("5101", Some("480"));
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.answer", json!({"leg": leg})).await;
    let asked = app.cti.expect_leg("media.open_channel", &leg).await;
    assert_eq!(asked["deadline_ms"], 1_000, "{asked}");
    app.cti.expect_leg("call.disconnected", &leg).await;
    let report = caller.finish(SOON).await;
    assert_eq!(report.failed + report.successful, 1, "the caller isn't left hanging: {report:?}");
    place.node.is_quiet().await;
}

#[tokio::test]
async fn no_common_codec_is_refused_before_the_application_hears_of_it() {
    let place = Place::new("codec", |config| config).await;
    let mut app = place.app("ivr", "RP_MAIN", Media::None).await;
    app.cti.call("device.close", json!({"device": "RP_MAIN"})).await;
    let media =
        json!({"mode": "static", "ip": place.lab.host(), "port": place.lab.port(), "codecs": ["G729"]});
    app.cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    place.caller("5000", Some("488")).finish(SOON).await.all_went_well(1);
    let told = app.cti.kept().iter().any(|event| event["type"] == "call.offering");
    assert!(!told, "no event of a call that can't be");
    place.node.is_quiet().await;
}

#[tokio::test]
async fn a_full_line_is_busy_or_forwards() {
    let full = json!({"max_calls": 2, "busy_trigger": 1, "forward": {"busy": "5102"}});
    let place = Place::new("busy", |config| config.number("5101", full)).await;
    let mut first = place.app("ivr", "PORT_001", Media::Static).await;
    let mut second = place.app("ivr", "PORT_002", Media::Static).await;
    let made = second.cti.call("call.make", json!({"device": "PORT_002", "destination": "5101"})).await;
    let held = first.offered().await["leg"].clone();
    second.cti.expect_leg("call.proceeding", &made["leg"]).await;

    let mut caller = place.caller("5101", None);
    let forwarded = second.offered().await;
    assert_eq!(forwarded["reason"], "forward_busy", "{forwarded}");
    assert_eq!(forwarded["original_called"]["number"], "5101", "{forwarded}");
    assert_eq!(forwarded["last_redirecting"]["number"], "5101", "{forwarded}");
    let leg = forwarded["leg"].clone();
    second.cti.call("call.answer", json!({"leg": leg})).await;
    second.cti.expect_leg("call.connected", &leg).await;
    second.drop_call(&leg).await;
    caller.finish(SOON).await.all_went_well(1);
    first.cti.call("call.reject", json!({"leg": held, "cause": "user_busy"})).await;
    let failed = second.cti.expect_leg("call.failed", &made["leg"]).await;
    assert_eq!(failed["leg"]["cause"]["code"], 17, "{failed}");
    second.cti.expect_leg("call.disconnected", &made["leg"]).await;
    place.node.is_quiet().await;
}

#[tokio::test]
async fn applications_set_forward_all_and_auto_accept() {
    let place = Place::new("line", |config| config).await;
    let mut app = place.app("ivr", "PORT_001", Media::Static).await;
    let mut other = place.app("ivr", "PORT_002", Media::Static).await;
    let forward = json!({"device": "PORT_001", "dn": "5101", "destination": "5102"});
    app.cti.call("line.set_forward", forward).await;
    let changed = app.cti.expect("line.forward_changed").await;
    assert_eq!(
        (&changed["device"], &changed["line"]["forward_all"]),
        (&json!("PORT_001"), &json!("5102")),
        "{changed}"
    );
    let mut caller = place.caller("5101", None);
    let offered = other.offered().await;
    assert_eq!(offered["reason"], "forward_all", "{offered}");
    other.cti.call("call.reject", json!({"leg": offered["leg"]})).await;
    let refused = caller.finish(SOON).await;
    assert_eq!(refused.failed, 1, "603 is no answer for this caller");

    app.cti.call("line.set_forward", json!({"device": "PORT_001", "dn": "5101", "destination": null})).await;
    app.cti.call("line.set_auto_accept", json!({"device": "PORT_001", "dn": "5101", "on": true})).await;
    let changed = app.cti.expect("line.auto_accept_changed").await;
    assert_eq!(changed["line"]["auto_accept"], true, "{changed}");
    let mut caller = place.caller("5101", None);
    let leg = app.offered().await["leg"].clone();
    app.cti.expect_leg("call.ringing", &leg).await;
    app.cti.call("call.answer", json!({"leg": leg})).await;
    app.cti.expect_leg("call.connected", &leg).await;
    app.drop_call(&leg).await;
    caller.finish(SOON).await.all_went_well(1);
    let unknown = json!({"device": "PORT_001", "dn": "9999", "destination": "5102"});
    assert_eq!(app.cti.refused("line.set_forward", unknown).await.symbol, "NO_SUCH_LINE");
    place.node.is_quiet().await;
}

#[tokio::test]
async fn a_second_opener_must_agree_on_media_and_hears_the_same_calls() {
    let place = Place::new("second", |config| config).await;
    let mut first = place.app("ivr", "RP_MAIN", Media::Dynamic).await;
    let mut cti = place.node.application("other").await;
    let dynamic =
        |codecs: Value| json!({"device": "RP_MAIN", "media": {"mode": "dynamic", "codecs": codecs}});
    let fixed =
        json!({"mode": "static", "ip": place.lab.host(), "port": place.lab.port(), "codecs": ["PCMU"]});
    for (params, symbol) in [
        (json!({"device": "RP_MAIN", "media": {"mode": "none"}}), "MEDIA_ALREADY_TERMINATED_DYNAMIC"),
        (json!({"device": "RP_MAIN", "media": fixed}), "MEDIA_ALREADY_TERMINATED_DYNAMIC"),
        (dynamic(json!(["G729"])), "MEDIA_CAPABILITY_MISMATCH"),
    ] {
        assert_eq!(cti.refused("device.open", params.clone()).await.symbol, symbol, "{params}");
    }
    // A set: the order doesn't matter.
    cti.call("device.open", dynamic(json!(["PCMA", "PCMU"]))).await;
    let again = cti.refused("device.open", dynamic(json!(["PCMA", "PCMU"]))).await;
    assert_eq!(again.symbol, "DEVICE_ALREADY_OPEN", "{again}");

    let mut caller = place.caller("5000", None);
    let leg = first.offered().await["leg"].clone();
    cti.expect_leg("call.offering", &leg).await;
    first.cti.call("call.answer", json!({"leg": leg})).await;
    give_address(&mut first, Media::Dynamic, &leg).await;
    cti.expect_leg("media.open_channel", &leg).await;
    let late = json!({"leg": leg, "ip": place.lab.host(), "port": place.lab.port()});
    assert_eq!(cti.refused("call.set_media", late).await.symbol, "MEDIA_ALREADY_SET");
    cti.expect_leg("call.connected", &leg).await;
    let far = first.output(&leg).await;
    let is_output = |event: &Value| event["direction"] == "output";
    assert_eq!(media_address(&cti.expect_event("media.started", is_output, SOON).await), far);

    drop(first);
    tests::lab::throughout(Duration::from_millis(700), async || {
        (place.node.admin("calls") == json!([]))
            .then(|| "the call went with one of two applications".to_owned())
    })
    .await;
    cti.call("call.drop", json!({"leg": leg})).await;
    cti.expect_leg("call.disconnected", &leg).await;
    caller.finish(SOON).await.all_went_well(1);
    place.node.is_quiet().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_symbol() {
    let place = Place::new("symbols", |config| config).await;
    let mut cti = place.node.application("ivr").await;
    let media = json!({"mode": "static", "ip": place.lab.host(), "port": 20_000, "codecs": ["PCMU"]});
    for (method, params, symbol) in [
        ("device.open", json!({"device": "SEP2001", "media": media}), "CANNOT_TERMINATE_MEDIA_ON_PHONE"),
        ("device.open", json!({"device": "PORT_001"}), "MEDIA_REQUIRED"),
        ("device.close", json!({"device": "PORT_001"}), "DEVICE_NOT_OPEN"),
        ("call.make", json!({"device": "PORT_001", "destination": "5000"}), "DEVICE_NOT_OPEN"),
        ("call.answer", json!({"leg": "nothing"}), "NO_SUCH_LEG"),
        ("provider.devices", json!({"scope": "all"}), "PRIVILEGE_VIOLATION"),
        ("provider.monitor_park", json!({"on": true}), "PRIVILEGE_VIOLATION"),
        ("call.answer", json!({}), "INVALID_PARAMS"),
    ] {
        let refused = cti.refused(method, params.clone()).await;
        assert_eq!(refused.symbol, symbol, "{method} {params}: {refused}");
        assert!(!refused.message.is_empty(), "{method}: a sentence that helps");
    }
    cti.call("device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}})).await;
    let calling = json!({"device": "RP_MAIN", "destination": "5101"});
    assert_eq!(cti.refused("call.make", calling).await.symbol, "MEDIA_REQUIRED");
    let mut caller = place.caller("5000", None);
    let leg = leg_of(&cti.expect("call.offering").await);
    assert_eq!(cti.refused("call.answer", json!({"leg": leg})).await.symbol, "MEDIA_REQUIRED");
    assert_eq!(cti.refused("call.hold", json!({"leg": leg})).await.symbol, "ILLEGAL_CALL_STATE");
    cti.call("call.drop", json!({"leg": leg})).await;
    cti.expect_leg("call.disconnected", &leg).await;
    caller.finish(SOON).await;
    place.node.is_quiet().await;
}
