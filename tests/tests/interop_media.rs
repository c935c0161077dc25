//! Media that applications terminate: static, dynamic, and a hundred calls at once, each with its own RTP.

use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::app::{App, Media, media_address};
use tests::lab::baresip::{Baresip, Transport};
use tests::lab::cti::{Message, leg_of};
use tests::lab::node::{Config, Node};
use tests::lab::rtp::Endpoint;
use tests::lab::sipp::{self, Sipp};
use tests::lab::{Lab, SOON, eventually, tone};

const ALICE_HZ: u32 = 450;
const APPLICATION_HZ: u32 = 650;

async fn a_phone_is_heard_at_a_port(lab: &Lab, media: Media) {
    let config = Config::new(lab).port("PORT_001", "5101").phone("2001").user("ivr", &["PORT_*"]);
    let mut node = Node::start(lab, config).await;
    let mut app = App::open(lab, &node, "ivr", "PORT_001", media).await;
    let mut alice = Baresip::registered(lab, node.account("2001", Transport::Udp, ALICE_HZ)).await;

    alice.dial("5101").await;
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.accept", json!({"leg": leg})).await;
    app.cti.expect_leg("call.ringing", &leg).await;
    alice.expect("CALL_RINGING", SOON).await;
    app.cti.call("call.answer", json!({"leg": leg})).await;
    if media == Media::Dynamic {
        let asked = app.cti.expect_leg("media.open_channel", &leg).await;
        assert_eq!(asked["codec"], "PCMU", "the caller's first choice: {asked}");
        let address = app.voice.address;
        app.cti.call("call.set_media", json!({"leg": leg, "ip": address.ip(), "port": address.port()})).await;
        let second = json!({"leg": leg, "ip": address.ip(), "port": address.port()});
        assert_eq!(app.cti.refused("call.set_media", second).await.symbol, "MEDIA_ALREADY_SET");
    }
    app.cti.expect_leg("call.connected", &leg).await;
    let far = app.output(&leg).await;
    app.voice.speak(APPLICATION_HZ, far);
    alice.hears(APPLICATION_HZ, SOON).await;
    app.voice.hears(ALICE_HZ, SOON).await;
    assert_eq!(app.voice.peer_port(), Some(far.port()), "the far address of the event is the phone's");

    alice.hang_up().await;
    app.cti.expect_leg("call.disconnected", &leg).await;
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn static_media_at_a_port() {
    a_phone_is_heard_at_a_port(&Lab::new("static"), Media::Static).await;
}

#[tokio::test]
async fn dynamic_media_at_a_port() {
    a_phone_is_heard_at_a_port(&Lab::new("dynamic"), Media::Dynamic).await;
}

#[tokio::test]
async fn a_hundred_calls_at_once_each_with_its_own_rtp() {
    const CALLS: usize = 100;
    let lab = Lab::new("hundred");
    let peer = lab.address();
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .number("5000", json!({"max_calls": 200, "busy_trigger": 150}))
        .trunk("pstn", peer)
        .user("ivr", &["RP_MAIN"]);
    let mut node = Node::start(&lab, config).await;
    let mut app = App::open(&lab, &node, "ivr", "RP_MAIN", Media::Dynamic).await;
    let callers = sipp::Run {
        scenario: "uac_heard",
        to: Some(node.sip),
        number: "5000".into(),
        local: Some(peer),
        calls: CALLS as u64,
        rate: 50,
        media_ports: 500,
        keys: vec![("FILE", "tone.ul".into()), ("TALK_MS", "8000".into())],
        files: vec![("tone.ul", tests::lab::rtp::mu_law_of(&tone::sine(ALICE_HZ, 30)))],
        ..sipp::Run::default()
    };
    let mut callers = Sipp::start(&lab, &callers);

    let mut legs = answer_each(&lab, &mut app, CALLS).await;
    let calls = node.admin("calls");
    assert_eq!(calls.as_array().map(Vec::len), Some(CALLS), "all at once");
    let far: BTreeSet<SocketAddr> = legs.values().map(|(_, far)| *far).collect();
    assert_eq!(far.len(), CALLS, "each caller has an address of its own");
    // SIPp doesn't listen where it says it does: the test does, for each of its calls.
    let mut ears = Vec::new();
    for (voice, far) in legs.values_mut() {
        ears.push(Endpoint::at(*far).await);
        voice.speak(APPLICATION_HZ, *far);
    }
    for voice in legs.values().map(|(voice, _)| voice) {
        has_heard(voice, ALICE_HZ).await;
    }
    for ear in &ears {
        has_heard(ear, APPLICATION_HZ).await;
    }

    callers.finish(Duration::from_secs(30)).await.all_went_well(CALLS as u64);
    for _ in 0..CALLS {
        let gone = app.cti.expect("call.disconnected").await;
        assert!(legs.remove(&leg_of(&gone).to_string()).is_some(), "one end for each call: {gone}");
    }
    node.is_quiet().await;
    node.is_well();
}

/// Waits until it has heard this tone for a fifth of a second in all.
async fn has_heard(endpoint: &Endpoint, hz: u32) {
    let what = format!("{} hears {hz} Hz", endpoint.address);
    eventually(what, SOON, async || (endpoint.frames_with(hz) >= 10).then_some(())).await;
}

/// Answers as many calls, each with an RTP address of its own; gives those and the callers' addresses by leg.
async fn answer_each(lab: &Lab, app: &mut App, calls: usize) -> HashMap<String, (Endpoint, SocketAddr)> {
    let mut voices: HashMap<String, Endpoint> = HashMap::new();
    let mut legs = HashMap::new();
    while legs.len() < calls {
        let message = app.cti.next(SOON).await.expect("another event while calls are missing");
        let event = match message {
            Message::Event(event) => event,
            Message::Reply(_, reply) => {
                reply.unwrap_or_else(|e| panic!("refused: {e}"));
                continue;
            }
            Message::Closed => panic!("the node closed the connection"),
        };
        let leg: Value = leg_of(&event);
        match event["type"].as_str() {
            Some("call.offering") => drop(app.cti.send("call.answer", json!({"leg": leg})).await),
            Some("media.open_channel") => {
                let voice = Endpoint::bind(lab).await;
                let (ip, port) = (voice.address.ip(), voice.address.port());
                app.cti.send("call.set_media", json!({"leg": leg, "ip": ip, "port": port})).await;
                voices.insert(leg.to_string(), voice);
            }
            Some("media.started") if event["direction"] == "output" => {
                let voice =
                    voices.remove(&leg.to_string()).expect("media start after the channel was opened");
                legs.insert(leg.to_string(), (voice, media_address(&event)));
            }
            _ => {}
        }
    }
    legs
}
