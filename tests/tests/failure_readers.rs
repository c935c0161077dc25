//! Slow readers, takeovers, and everything that `resume` can be answered with, over the real wire and with calls that live.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::lab::app::{App, Media};
use tests::lab::cti::{Cti, Message, leg_of, time_of};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::trunk::{Party, Trunk};
use tests::lab::{Lab, SOON, eventually, wall};
use tokio::time::Instant;

/// Frames that may wait for a reader.
const QUEUE: u64 = 100;
/// Events while the reader sleeps: 4 KiB each, so that sockets can't hold them.
const CHANGES: u32 = 1_500;

async fn house(lab: &Lab, change: impl FnOnce(Config) -> Config) -> (Node, Trunk) {
    let callers = lab.address();
    let config = Config::new(lab)
        .port("PORT_001", "5101")
        .port("PORT_002", "5102")
        .route_point("RP_MAIN", "5000")
        .trunk("pstn", callers)
        .user("ivr", &["PORT_001", "RP_MAIN"])
        .user("other", &["PORT_002"])
        .parameter("cti_new_call_accept_timer", json!("60s"));
    let node = Node::start(lab, change(config)).await;
    let trunk = Trunk::at(callers, node.sip).await;
    (node, trunk)
}

fn hello(user: &str, more: &Value) -> Value {
    let mut params = json!({"user": user, "password": PASSWORD, "application": "lab"});
    for (key, value) in more.as_object().into_iter().flatten() {
        params[key] = value.clone();
    }
    params
}

async fn open(cti: &mut Cti, grace_ms: u64) -> Value {
    cti.call("provider.open", hello("ivr", &json!({"resume_grace_ms": grace_ms}))).await["session"].clone()
}

/// Opens with `resume`, whatever comes of it.
async fn resume(node: &Node, user: &str, session: &Value, last_seq: u64) -> (Cti, Value) {
    let mut cti = node.connect().await;
    let resume = json!({"resume": {"session": session, "last_seq": last_seq}, "resume_grace_ms": 20_000});
    let opened = cti.call("provider.open", hello(user, &resume)).await;
    (cti, opened)
}

/// A call between two ports of two applications: whatever the second writes onto it, the first is told.
async fn two_ports(lab: &Lab, node: &Node, first: Cti) -> (App, App, Value, Value) {
    let mut reader = App::on(first, lab, "PORT_001", Media::Static).await;
    let mut writer = App::open(lab, node, "other", "PORT_002", Media::Static).await;
    let made = writer.cti.call("call.make", json!({"device": "PORT_002", "destination": "5101"})).await;
    let (theirs, _) = reader.answer().await;
    writer.cti.expect_leg("call.connected", &made["leg"]).await;
    (reader, writer, theirs, made["leg"].clone())
}

fn data(number: u32) -> Value {
    json!({"number": number.to_string(), "ballast": "x".repeat(4_000)})
}

#[tokio::test]
async fn a_reader_that_stalls_is_closed_and_resumes_and_nobody_else_waits_for_it() {
    let lab = Lab::new("stalled");
    let (mut node, trunk) = house(&lab, |config| {
        config
            .parameter("session_queue_events", json!(QUEUE))
            .parameter("max_requests_per_second", json!(100_000))
    })
    .await;
    let mut slow = Cti::tls_with_window(node.cti, &node.ca(), 8 * 1024).await;
    let session = open(&mut slow, 30_000).await;
    let (reader, mut writer, theirs, ours) = two_ports(&lab, &node, slow).await;
    // A third session, whose calls must not be delayed.
    let mut third = App::open(&lab, &node, "ivr", "RP_MAIN", Media::Static).await;
    let before = node.memory_kib();

    let (mut slowest, mut latest) = (Duration::ZERO, Duration::ZERO);
    for number in 0..CHANGES {
        let asked = Instant::now();
        writer.cti.call("call.set_user_data", json!({"leg": ours, "user_data": data(number)})).await;
        slowest = slowest.max(asked.elapsed());
        if number % 150 == 0 {
            let placed = wall();
            let call = trunk.call("5000").await;
            let offered = third.cti.expect("call.offering").await;
            latest = latest.max(time_of(&offered).duration_since(placed).unwrap_or_default());
            third.cti.call("call.reject", json!({"leg": leg_of(&offered)})).await;
            assert_eq!(call.is_over().await.refused, Some(603));
        }
    }
    let closed = node.writes(&["CtiSlowConsumer"]).await;
    let grown = node.memory_kib().saturating_sub(before);
    eprintln!("slowest answer {slowest:?}, latest offering {latest:?}, memory grown by {grown} KiB");
    assert!(slowest < Duration::from_secs(1), "the writer waited {slowest:?}");
    assert!(latest < Duration::from_secs(1), "a call of a third session was told {latest:?} late");
    // The log (16 MiB at most; here 1,500 events of 4.6 KiB) and what the allocator keeps beside it.
    assert!(grown < 48 * 1024, "{grown} KiB");
    assert!(closed <= wall());

    // What was written before is there still, then the goodbye where it found room, then the end.
    let App { cti: mut slow, voice: _voice, .. } = reader;
    let mut heard = 0;
    let mut reason = Value::Null;
    loop {
        match slow.next(SOON).await {
            Some(Message::Event(event)) if event["type"] == "session.closed" => {
                reason = event["reason"].clone()
            }
            Some(Message::Event(event)) if event["type"] == "call.changed" => heard += 1,
            Some(Message::Event(_) | Message::Reply(..)) => {}
            Some(Message::Closed) => break,
            None => panic!("the connection is still open"),
        }
    }
    eprintln!("{heard} of {CHANGES} changes were read before the end; its reason: {reason}");
    assert!(reason.is_null() || reason == "slow_consumer", "{reason}");
    assert!(heard < CHANGES, "sockets can't hold that much");

    let (mut again, opened) = resume(&node, "ivr", &session, slow.last_seq()).await;
    assert_eq!(opened["resumed"], true, "{opened}");
    again.continues(&opened);
    let newest = (CHANGES - 1).to_string();
    let last = |event: &Value| event["leg"]["user_data"]["number"] == newest;
    let end = again.expect_event("call.changed", last, SOON).await;
    assert_eq!(leg_of(&end), theirs);
    let replayed = again.kept().iter().filter(|event| event["type"] == "call.changed").count() as u32 + 1;
    assert_eq!(heard + replayed, CHANGES, "each change was told once");
    again.call("call.drop", json!({"leg": theirs})).await;
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn a_session_is_taken_over_and_its_calls_know_nothing_of_it() {
    let lab = Lab::new("takeover");
    let (mut node, trunk) = house(&lab, |config| config).await;
    let mut cti = node.connect().await;
    let session = open(&mut cti, 20_000).await;
    let mut app = App::on(cti, &lab, "RP_MAIN", Media::Static).await;
    let call = trunk.call("5000").await;
    let (leg, _) = app.answer().await;

    let last_seq = app.cti.last_seq();
    let (mut new, opened) = resume(&node, "ivr", &session, last_seq).await;
    assert_eq!((&opened["resumed"], &opened["session"]), (&json!(true), &session), "{opened}");
    new.continues(&opened);
    let told = app.cti.expect("session.superseded").await;
    assert_eq!(told["seq"], Value::Null, "it is about the connection");
    app.cti.expect_closed(SOON).await;
    new.call("call.hold", json!({"leg": leg})).await;
    new.expect_leg("call.held", &leg).await;
    new.call("call.retrieve", json!({"leg": leg})).await;
    new.expect_leg("call.connected", &leg).await;
    assert_eq!(call.look().over, None);

    // A number that was never sent is a mistake, and nothing happens to the session.
    let mut wrong = node.connect().await;
    let resume_far = json!({"resume": {"session": session, "last_seq": 1_000_000}});
    let refused = wrong.refused("provider.open", hello("ivr", &resume_far)).await;
    assert_eq!(
        (&*refused.symbol, &refused.data["field"]),
        ("INVALID_PARAMS", &json!("resume.last_seq")),
        "{refused}"
    );
    // Another user's session is as unknown as one that never was.
    for (user, id) in [("other", &session), ("ivr", &json!("s0123456789abcdef")), ("ivr", &json!("nonsense"))]
    {
        let (_cti, opened) = resume(&node, user, id, 0).await;
        assert_eq!(
            (&opened["resumed"], &opened["reason"]),
            (&json!(false), &json!("unknown_session")),
            "{opened}"
        );
        assert_eq!(opened["next_seq"], 1, "a new one begins");
    }
    new.call("call.drop", json!({"leg": leg})).await;
    new.call("provider.close", json!({})).await;
    let (_cti, opened) = resume(&node, "ivr", &session, 0).await;
    assert_eq!((&opened["resumed"], &opened["reason"]), (&json!(false), &json!("expired")), "{opened}");

    let mut brief = node.connect().await;
    let short = open(&mut brief, 200).await;
    drop(brief);
    node.writes(&["CtiProviderClosed", short.as_str().expect("an id"), "reason=grace_over"]).await;
    let (_cti, opened) = resume(&node, "ivr", &short, 0).await;
    assert_eq!((&opened["resumed"], &opened["reason"]), (&json!(false), &json!("expired")), "{opened}");
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn a_session_whose_log_has_run_over_fails_when_its_client_comes_back() {
    let lab = Lab::new("overrun");
    let (mut node, trunk) = house(&lab, |config| config.parameter("session_log_events", json!(100))).await;
    let mut cti = node.connect().await;
    let session = open(&mut cti, 20_000).await;
    let (mut reader, mut writer, _, ours) = two_ports(&lab, &node, cti).await;
    let media = json!({"mode": "static", "ip": lab.host(), "port": 25_000, "codecs": ["PCMU"]});
    reader.cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    let (connected, offered) = (trunk.call("5000").await, trunk.call("5000").await);
    let leg = reader.offered().await["leg"].clone();
    reader.cti.call("call.answer", json!({"leg": leg})).await;
    connected.is_answered().await;
    let last_seq = reader.cti.last_seq();
    drop(reader);
    node.writes(&["ApplicationConnectionDropped"]).await;
    for number in 0..120 {
        let user_data = json!({"number": number.to_string()});
        writer.cti.call("call.set_user_data", json!({"leg": ours, "user_data": user_data})).await;
    }
    assert_eq!(connected.look().over, None, "until it comes back its calls wait");

    let (mut again, opened) = resume(&node, "ivr", &session, last_seq).await;
    assert_eq!((&opened["resumed"], &opened["reason"]), (&json!(false), &json!("log_overrun")), "{opened}");
    assert_ne!(opened["session"], session);
    // The old one ended there and then, as a failed one.
    writer.cti.expect_leg("call.disconnected", &ours).await;
    assert_eq!(connected.is_over().await.cause, Some(41));
    assert_eq!(offered.is_over().await.cause, Some(41));
    let opened = again.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    assert_eq!(opened["legs"], json!([]));
    let new = trunk.call("5000").await;
    let offering = again.expect("call.offering").await;
    again.call("call.answer", json!({"leg": leg_of(&offering)})).await;
    new.is_answered().await;
    new.hang_up().await;
    node.is_quiet().await;
    node.is_well();
}

/// One call in each state, by its leg, and who called.
async fn calls_in_every_state(
    cti: &mut Cti,
    trunk: &Trunk,
    host: &Value,
) -> (BTreeMap<String, String>, Vec<Party>) {
    let (mut states, mut parties) = (BTreeMap::new(), Vec::new());
    for state in ["offering", "ringing", "connected", "held"] {
        parties.push(trunk.call("5000").await);
        let leg = leg_of(&cti.expect("call.offering").await);
        if state == "ringing" {
            cti.call("call.accept", json!({"leg": leg})).await;
        } else if state != "offering" {
            cti.call("call.answer", json!({"leg": leg})).await;
            cti.expect_leg("media.open_channel", &leg).await;
            cti.call("call.set_media", json!({"leg": leg, "ip": host, "port": 26_000})).await;
            cti.expect_leg("call.connected", &leg).await;
        }
        if state == "held" {
            cti.call("call.hold", json!({"leg": leg})).await;
            cti.expect_leg("call.held", &leg).await;
        }
        states.insert(leg.as_str().expect("an id").to_owned(), state.to_owned());
    }
    (states, parties)
}

/// Calls in every state at once: the snapshot after a resume has them all, and so has `device.open` of a second session.
#[tokio::test]
async fn snapshots_lose_no_call() {
    let lab = Lab::new("snapshot");
    let (mut node, trunk) = house(&lab, |config| config).await;
    let mut cti = node.connect().await;
    let session = open(&mut cti, 20_000).await;
    let media = json!({"mode": "dynamic", "codecs": ["PCMU"]});
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    let (mut known, mut parties) = calls_in_every_state(&mut cti, &trunk, &json!(lab.host())).await;
    let last_seq = cti.last_seq();
    drop(cti);
    node.writes(&["ApplicationConnectionDropped"]).await;
    // Meanwhile one more comes and one goes.
    parties.push(trunk.call("5000").await);
    parties[3].hang_up().await;
    eventually("the node has heard both", SOON, async || {
        let legs = legs_by_state(&node.admin("calls"));
        (legs.get("offering") == Some(&2) && !legs.contains_key("held")).then_some(())
    })
    .await;

    let (mut again, opened) = resume(&node, "ivr", &session, last_seq).await;
    assert_eq!(opened["resumed"], true, "{opened}");
    again.continues(&opened);
    let snapshot = again.call("provider.snapshot", json!({})).await;
    assert_eq!(snapshot["seq"], again.last_seq(), "it includes the replay");
    let legs = snapshot["devices"][0]["legs"].as_array().expect("legs");
    // What the events say of each leg and what the snapshot says is the same.
    for event in
        again.kept().iter().filter(|event| event["type"].as_str().is_some_and(|t| t.starts_with("call.")))
    {
        let leg = leg_of(event).as_str().expect("an id").to_owned();
        match event["leg"]["state"].as_str() {
            Some("disconnected") => drop(known.remove(&leg)),
            Some(state) => drop(known.insert(leg, state.to_owned())),
            None => {}
        }
    }
    let told: BTreeMap<String, String> = legs
        .iter()
        .map(|leg| {
            (
                leg["leg"].as_str().unwrap_or_default().to_owned(),
                leg["state"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    assert_eq!(told, known);
    assert_eq!(told.len(), 4, "{told:?}");
    let mut second = node.application("ivr").await;
    let opened = second.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    assert_eq!(opened["legs"].as_array(), Some(legs), "a second session is told the same");
    for party in [&parties[0], &parties[1], &parties[4]] {
        assert_eq!(party.look().over, None);
    }
    second.call("provider.close", json!({})).await;
    again.call("provider.close", json!({})).await;
    node.is_quiet().await;
    node.is_well();
}

fn legs_by_state(calls: &Value) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    let legs = calls.as_array().into_iter().flatten().flat_map(|call| call["legs"].as_array()).flatten();
    for leg in legs.filter(|leg| leg["device"] == "RP_MAIN") {
        *states.entry(leg["state"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    states
}

/// The connection breaks after the request was carried out and before its answer was read.
#[tokio::test]
async fn a_request_whose_answer_was_lost_is_repeated_and_carried_out_once() {
    let lab = Lab::new("idem-cut");
    let (mut node, trunk) = house(&lab, |config| config.pattern("9XXX", "pstn")).await;
    let mut cti = node.connect().await;
    let session = open(&mut cti, 20_000).await;
    let media = json!({"mode": "static", "ip": lab.host(), "port": 27_000, "codecs": ["PCMU"]});
    cti.call("device.open", json!({"device": "PORT_001", "media": media})).await;
    cti.expect("device.in_service").await;
    let last_seq = cti.last_seq();
    let make = json!({"device": "PORT_001", "destination": "9001", "idem": "one call"});
    cti.send("call.make", make.clone()).await;
    trunk.is_called("9001", 1).await;
    drop(cti);

    let (mut again, opened) = resume(&node, "ivr", &session, last_seq).await;
    assert_eq!(opened["resumed"], true, "{opened}");
    again.continues(&opened);
    let made = again.call("call.make", make.clone()).await;
    let connected = again.expect("call.connected").await;
    assert_eq!(leg_of(&connected), made["leg"], "the answer is the first one's");
    assert_eq!(again.call("call.make", make).await, made, "and stays so");
    // An error is an answer, too.
    let reject = json!({"leg": made["leg"], "idem": "a refusal"});
    let refused = again.refused("call.reject", reject.clone()).await;
    let last_seq = again.last_seq();
    drop(again);
    let (mut third, opened) = resume(&node, "ivr", &session, last_seq).await;
    assert_eq!(opened["resumed"], true, "{opened}");
    third.continues(&opened);
    assert_eq!(third.refused("call.reject", reject).await, refused);
    assert_eq!(trunk.called("9001").len(), 1, "one call was made");
    let drop_it = json!({"leg": made["leg"], "idem": "the end"});
    third.call("call.drop", drop_it.clone()).await;
    third.expect_leg("call.disconnected", &made["leg"]).await;
    assert_eq!(third.call("call.drop", drop_it).await, json!({}), "no NO_SUCH_LEG for the repeat");
    node.is_quiet().await;
    node.is_well();
}
