//! Transfers with real phones: who hears whom before and after, and what applications are told, in order.

use serde_json::{Value, json};
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Baresip, Transport};
use tests::lab::cti::{Message, leg_of};
use tests::lab::linphone::Linphone;
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, SOON, eventually};

const ALICE_HZ: u32 = 450;
const BOB_HZ: u32 = 550;
const APPLICATION_HZ: u32 = 650;
const CAROL_HZ: u32 = 750;

struct Place {
    lab: Lab,
    node: Node,
}

impl Place {
    async fn new(test: &str) -> Place {
        let lab = Lab::new(test);
        let config = Config::new(&lab)
            .port("PORT_001", "5101")
            .port("PORT_002", "5102")
            .port("PORT_003", "5103")
            .phone("2001")
            .phone("2002")
            .phone("2003")
            .user("console", &["PORT_*", "SEP*"])
            .user("watcher", &["PORT_003"]);
        let node = Node::start(&lab, config).await;
        Place { lab, node }
    }

    async fn app(&self, user: &str, device: &str, media: Media) -> App {
        App::open(&self.lab, &self.node, user, device, media).await
    }

    async fn baresip(&self, number: &str, hz: u32) -> Baresip {
        Baresip::registered(&self.lab, self.node.account(number, Transport::Udp, hz)).await
    }

    /// After a hold it is still heard by what it records.
    async fn linphone(&self, number: &str, hz: u32) -> Linphone {
        Linphone::registered(&self.lab, self.node.account(number, Transport::Udp, hz)).await
    }
}

/// The next so many events about a leg or a transfer, as `type device`.
async fn story(app: &mut App, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        let Some(Message::Event(event)) = app.cti.next(SOON).await else { panic!("no more than {told:?}") };
        let kind = event["type"].as_str().unwrap_or_default();
        let device = event["leg"]["device"].as_str().unwrap_or("-");
        if kind.starts_with("call.") {
            told.push(format!("{kind} {device}"));
        }
    }
    told
}

/// A caller, an attendant at a CTI port who consults, and a colleague. Tones tell who hears whom.
#[tokio::test]
async fn a_console_consults_and_transfers_a_caller_to_a_colleague() {
    let place = Place::new("consult").await;
    let mut app = place.app("console", "PORT_001", Media::Static).await;
    let mut alice = place.linphone("2001", ALICE_HZ).await;
    let mut bob = place.baresip("2002", BOB_HZ).await;
    alice.dial("5101");
    let (first, far) = app.answer().await;
    app.voice.speak(APPLICATION_HZ, far);
    alice.hears(APPLICATION_HZ).await;
    app.voice.hears(ALICE_HZ, SOON).await;

    app.voice.be_silent();
    let consult = json!({"leg": first, "destination": "2002", "for": "transfer"});
    let made = app.cti.call("call.consult", consult).await;
    let second = made["leg"].clone();
    app.cti.expect_leg("call.held", &first).await;
    let rings = app.cti.expect_leg("call.ringback", &second).await;
    assert_eq!(rings["leg"]["consult_of"], first, "{rings}");
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    app.cti.expect_leg("call.connected", &second).await;
    let far = app.output(&second).await;
    app.voice.speak(APPLICATION_HZ, far);
    bob.hears(APPLICATION_HZ, SOON).await;
    app.voice.hears(BOB_HZ, SOON).await;

    app.voice.be_silent();
    app.cti.call("call.transfer", json!({"leg": first, "with": second})).await;
    for leg in [&first, &second] {
        let gone = app.cti.expect_leg("call.disconnected", leg).await;
        assert_eq!(gone["leg"]["cause"]["code"], 16, "{gone}");
    }
    let told = app.cti.expect("call.transferred").await;
    assert_eq!((&told["from_call"], &told["ok"]), (&made["call"], &json!(true)), "{told}");
    alice.hears(BOB_HZ).await;
    bob.hears(ALICE_HZ, SOON).await;
    bob.hang_up().await;
    place.node.is_quiet().await;
}

/// The colleague still rings when the attendant leaves.
#[tokio::test]
async fn a_console_transfers_while_the_colleague_rings() {
    let mut place = Place::new("consult-rings").await;
    let mut app = place.app("console", "PORT_001", Media::Dynamic).await;
    let mut alice = place.linphone("2001", ALICE_HZ).await;
    let mut bob = place.baresip("2002", BOB_HZ).await;
    alice.dial("5101");
    let first = app.offered().await["leg"].clone();
    app.cti.call("call.answer", json!({"leg": first})).await;
    give_address(&mut app, &first).await;
    app.cti.expect_leg("call.connected", &first).await;
    let consult = json!({"leg": first, "destination": "2002", "for": "transfer"});
    let second = app.cti.call("call.consult", consult).await["leg"].clone();
    give_address(&mut app, &second).await;
    app.cti.expect_leg("call.ringback", &second).await;
    bob.expect("CALL_INCOMING", SOON).await;
    app.cti.call("call.transfer", json!({"leg": first, "with": second})).await;
    app.cti.expect("call.transferred").await;
    bob.accept().await;
    bob.hears(ALICE_HZ, SOON).await;
    alice.hears(BOB_HZ).await;
    bob.hang_up().await;
    place.node.is_quiet().await;
    place.node.is_well();
}

async fn give_address(app: &mut App, leg: &Value) {
    app.cti.expect_leg("media.open_channel", leg).await;
    let address = app.voice.address;
    let params = json!({"leg": leg, "ip": address.ip(), "port": address.port()});
    app.cti.call("call.set_media", params).await;
}

/// A phone's call is sent away by an application, and what it was is told to whoever watches.
#[tokio::test]
async fn a_console_sends_a_phones_call_away_blindly() {
    let place = Place::new("blind").await;
    let mut app = place.app("console", "PORT_001", Media::Static).await;
    let opened = app.cti.call("device.open", json!({"device": "SEP2002"})).await;
    assert_eq!(opened["device"]["type"], "phone");
    let mut alice = place.baresip("2001", ALICE_HZ).await;
    let mut bob = place.baresip("2002", BOB_HZ).await;
    alice.dial("2002").await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    let leg = leg_of(&app.cti.expect("call.connected").await);
    let refused = app.cti.refused("call.transfer", json!({"leg": leg, "destination": "4711"})).await;
    assert_eq!(refused.symbol, "DESTINATION_UNKNOWN", "{refused}");
    alice.hears(BOB_HZ, SOON).await;
    let asked = app.cti.send("call.transfer", json!({"leg": leg, "destination": "5101"})).await;
    let at_port = |event: &Value| event["leg"]["device"] == "PORT_001";
    let offered = app.cti.expect_event("call.offering", at_port, SOON).await["leg"].clone();
    assert_eq!(
        (&offered["reason"], &offered["calling"]["number"], &offered["last_redirecting"]["number"]),
        (&json!("blind_transfer"), &json!("2001"), &json!("2002")),
        "{offered}"
    );
    app.cti.call("call.answer", json!({"leg": offered["leg"]})).await;
    assert_eq!(app.cti.reply(asked, SOON).await, Ok(json!({})), "it is answered when the destination is");
    let far = app.output(&offered["leg"]).await;
    bob.expect("CALL_CLOSED", SOON).await;
    app.voice.speak(APPLICATION_HZ, far);
    alice.hears(APPLICATION_HZ, SOON).await;
    app.voice.hears(ALICE_HZ, SOON).await;
    alice.hang_up().await;
    place.node.is_quiet().await;
}

/// What each session is told, in order; one of them has only the consulted device open.
#[tokio::test]
async fn a_transfer_is_told_in_the_order_of_the_contract() {
    let place = Place::new("order").await;
    let mut console = place.app("console", "PORT_001", Media::Static).await;
    let caller = place.app("console", "PORT_002", Media::Static).await;
    let mut watcher = place.app("watcher", "PORT_003", Media::Static).await;
    let mut caller = caller;
    let made = caller.cti.call("call.make", json!({"device": "PORT_002", "destination": "5101"})).await;
    let first = console.answer().await.0;
    caller.cti.expect_leg("call.connected", &made["leg"]).await;
    let consult = json!({"leg": first, "destination": "5103", "for": "transfer"});
    let consultation = console.cti.call("call.consult", consult).await;
    let third = watcher.offered().await["leg"].clone();
    watcher.cti.call("call.answer", json!({"leg": third})).await;
    watcher.cti.expect_leg("call.connected", &third).await;
    console.cti.expect_leg("call.connected", &consultation["leg"]).await;
    for app in [&mut console, &mut caller, &mut watcher] {
        // What came before the transfer is another test's.
        while app.cti.take_kept().is_some() {}
    }
    let wrong = json!({"leg": first, "with": third});
    let refused = console.cti.refused("call.transfer", wrong).await;
    assert_eq!((&*refused.symbol, &refused.data["field"]), ("INVALID_PARAMS", &json!("with")), "{refused}");
    let join = json!({"leg": first, "with": consultation["leg"]});
    console.cti.call("call.transfer", join).await;
    assert_eq!(
        story(&mut console, 3).await,
        ["call.disconnected PORT_001", "call.disconnected PORT_001", "call.transferred -"]
    );
    assert_eq!(story(&mut watcher, 2).await, ["call.changed PORT_003", "call.transferred -"]);
    assert_eq!(story(&mut caller, 2).await, ["call.changed PORT_002", "call.transferred -"]);
    let legs = watcher.cti.call("provider.snapshot", json!({})).await["devices"][0]["legs"].clone();
    assert_eq!(
        (
            &legs[0]["call"],
            &legs[0]["reason"],
            &legs[0]["calling"]["number"],
            &legs[0]["connected"]["number"]
        ),
        (&made["call"], &json!("transfer"), &json!("5102"), &json!("5102")),
        "{legs}"
    );
    assert_eq!(legs[0]["last_redirecting"]["number"], "5101", "{legs}");
    let gone = console.cti.refused("call.transfer", json!({"leg": first, "destination": "5103"})).await;
    assert_eq!(gone.symbol, "NO_SUCH_LEG");
    watcher.cti.call("call.drop", json!({"leg": third})).await;
    place.node.is_quiet().await;
}

/// baresip's transfer key: it holds, sends REFER, and is told. Who is sent away is a linphone, which is heard after a hold, too.
#[tokio::test]
async fn a_phones_own_key_sends_its_call_away() {
    let mut place = Place::new("refer-blind").await;
    let mut app = place.app("console", "PORT_001", Media::Static).await;
    for phone in ["SEP2002", "SEP2003"] {
        app.cti.call("device.open", json!({"device": phone})).await;
    }
    let mut alice = place.linphone("2001", ALICE_HZ).await;
    let mut bob = place.baresip("2002", BOB_HZ).await;
    let mut carol = place.baresip("2003", CAROL_HZ).await;
    alice.dial("2002");
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    bob.hears(ALICE_HZ, SOON).await;
    alice.hears(BOB_HZ).await;
    bob.transfer("2003").await;
    bob.reads("SIP/2.0 202", "Accepted").await;
    carol.expect("CALL_INCOMING", SOON).await;
    let at_carol = |event: &Value| event["leg"]["device"] == "SEP2003";
    let offered = app.cti.expect_event("call.offering", at_carol, SOON).await["leg"].clone();
    assert_eq!(
        (&offered["reason"], &offered["calling"]["number"], &offered["last_redirecting"]["number"]),
        (&json!("blind_transfer"), &json!("2001"), &json!("2002")),
        "{offered}"
    );
    bob.expect("CALL_CLOSED", SOON).await;
    let at_bob = |event: &Value| event["leg"]["device"] == "SEP2002";
    app.cti.expect_event("call.disconnected", at_bob, SOON).await;
    carol.accept().await;
    carol.hears(ALICE_HZ, SOON).await;
    alice.hears(CAROL_HZ).await;
    let transferred = app.cti.kept().iter().any(|event| event["type"] == "call.transferred");
    assert!(!transferred, "a blind transfer is none of two calls");
    carol.hang_up().await;
    place.node.is_quiet().await;
    place.node.is_well();
}

/// linphone's transfer of one call to the other: REFER with Replaces.
#[tokio::test]
async fn a_phones_own_key_brings_two_together() {
    let mut place = Place::new("refer-replaces").await;
    let mut app = place.app("console", "PORT_001", Media::Static).await;
    for phone in ["SEP2001", "SEP2003"] {
        app.cti.call("device.open", json!({"device": phone})).await;
    }
    let mut alice = place.linphone("2001", ALICE_HZ).await;
    let mut bob = place.linphone("2002", BOB_HZ).await;
    let mut carol = place.baresip("2003", CAROL_HZ).await;
    alice.dial("2002");
    bob.comes_to("LinphoneCallIncomingReceived").await;
    bob.say("answer");
    alice.hears(BOB_HZ).await;
    bob.hears(ALICE_HZ).await;
    // Nobody has this number: he is told, and the call stays.
    bob.say(&format!("transfer 1 sip:4711@{}", place.node.sip));
    eventually("linphonec reads of a failure", SOON, async || {
        bob.story().contains("SIP/2.0 404 Not Found").then_some(())
    })
    .await;
    alice.hears(BOB_HZ).await;
    bob.say("pause 1");
    bob.comes_to("LinphoneCallPaused").await;
    bob.dial("2003");
    carol.expect("CALL_INCOMING", SOON).await;
    carol.accept().await;
    carol.hears(BOB_HZ, SOON).await;
    bob.say("transfer 1 --to-call 2");
    let told = app.cti.expect("call.transferred").await;
    assert_eq!(told["ok"], true, "{told}");
    carol.hears(ALICE_HZ, SOON).await;
    alice.hears(CAROL_HZ).await;
    let whole = app.cti.call("provider.snapshot", json!({})).await;
    let legs = |device: &str| {
        let devices = whole["devices"].as_array().expect("a list");
        let found = devices.iter().find(|one| one["device"]["name"] == device).expect("it is open");
        found["legs"][0].clone()
    };
    let (at_alice, at_carol) = (legs("SEP2001"), legs("SEP2003"));
    assert_eq!((&at_alice["call"], &at_alice["call"]), (&told["to_call"], &at_carol["call"]), "{whole}");
    assert_eq!(at_carol["calling"]["number"], "2001", "{at_carol}");
    assert_eq!(at_carol["last_redirecting"]["number"], "2002", "{at_carol}");
    carol.hang_up().await;
    place.node.is_quiet().await;
    place.node.is_well();
}
