//! A node that dies and is started again with `persist_sessions`: applications go on where they were, over real TLS.

use client::provider::Observed;
use client::{Provider, ProviderConfig, ProviderEvent, Transport};
use device_model::media::{Codec, MediaTermination};
use serde_json::{Value, json};
use std::time::Duration;
use tests::lab::agent::{Agent, Ask, Heard};
use tests::lab::cti::{Cti, Message, leg_of};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::{Lab, SOON, eventually};

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// A node that keeps its sessions, and a trunk whose peer is the agent.
async fn office(lab: &Lab) -> (Node, Agent) {
    let trunk = lab.address();
    let config = Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .phone("2001")
        .trunk("pstn", trunk)
        .user("ivr", &["RP_MAIN", "PORT_001", "SEP2001"])
        .parameter("persist_sessions", json!(true))
        .parameter("cti_new_call_accept_timer", json!("30s"));
    let node = Node::start(lab, config).await;
    let agent = Agent::at(trunk, node.sip).await;
    (node, agent)
}

fn invite<'a>(to: &'a str, call: &'a str) -> Ask<'a> {
    Ask { method: "INVITE", to, from: "4000", call, cseq: 1, headers: Vec::new(), body: SDP }
}

async fn dial(agent: &mut Agent, to: &str, call: &str) -> String {
    let text = agent.write(&invite(to, call));
    agent.send(text.as_bytes()).await;
    text
}

async fn heard(agent: &mut Agent, status: u16) -> Heard {
    loop {
        let heard = agent.hear().await;
        if heard.status() == status {
            return heard;
        }
    }
}

async fn acknowledge(agent: &mut Agent, answered: &Heard, call: &str) {
    let to = answered.header("To").unwrap_or_default().to_owned();
    let ack = agent.write(&Ask { method: "ACK", body: "", ..invite("5000", call) });
    let plain = ack.lines().find(|line| line.starts_with("To:")).unwrap_or_default().to_owned();
    agent.send(ack.replace(&plain, &format!("To: {to}")).as_bytes()).await;
}

async fn open(node: &Node, last: Option<(&Value, u64)>) -> (Cti, Value) {
    let mut cti = node.connect().await;
    if let Some((session, last_seq)) = last {
        let opened = cti.resume("ivr", PASSWORD, session, last_seq).await;
        return (cti, opened);
    }
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "lab", "resume_grace_ms": 30_000});
    let opened = cti.call("provider.open", hello).await;
    (cti, opened)
}

fn media(lab: &Lab) -> Value {
    json!({"mode": "static", "ip": lab.host(), "port": 30_000, "codecs": ["PCMU"]})
}

/// The next events, as their types with what they are about, until this one.
async fn told_until(cti: &mut Cti, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        match cti.next(SOON).await {
            Some(Message::Event(event)) => {
                let about = event["device"]["name"].as_str().or(event["leg"]["device"].as_str());
                let why = event["reason"].as_str().or(event["leg"]["cause"]["name"].as_str());
                let line =
                    [event["type"].as_str(), about, why].into_iter().flatten().collect::<Vec<_>>().join(" ");
                told.push(line.clone());
                if line == last {
                    return told;
                }
            }
            Some(Message::Reply(..)) => {}
            other => panic!("{last} was expected after {told:?}, and there came {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_killed_node_goes_on_with_its_sessions_and_says_what_became_of_their_calls() {
    let lab = Lab::new("killed-node");
    let (mut node, mut agent) = office(&lab).await;
    let (mut cti, opened) = open(&node, None).await;
    let session = opened["session"].clone();
    let key = json!({"device": "RP_MAIN", "media": media(&lab), "idem": "once"});
    let first = cti.call("device.open", key.clone()).await;
    cti.expect("device.in_service").await;
    cti.call("device.open", json!({"device": "SEP2001"})).await;

    dial(&mut agent, "5000", "talking").await;
    let talking = cti.expect("call.offering").await["leg"]["leg"].clone();
    cti.call("call.answer", json!({"leg": talking})).await;
    let answered = heard(&mut agent, 200).await;
    acknowledge(&mut agent, &answered, "talking").await;
    cti.expect("media.started").await;
    cti.expect("media.started").await;
    dial(&mut agent, "5000", "ringing").await;
    let ringing = cti.expect("call.offering").await["leg"]["leg"].clone();
    cti.call("call.accept", json!({"leg": ringing})).await;
    heard(&mut agent, 180).await;
    let last_seq = cti.last_seq();

    node.kill();
    cti.expect_closed(SOON).await;
    node.start_again().await;

    let (mut cti, opened) = open(&node, Some((&session, last_seq))).await;
    assert_eq!((&opened["resumed"], &opened["next_seq"]), (&json!(true), &json!(last_seq + 1)), "{opened}");
    // The client of the tests fails on any gap.
    let told = told_until(&mut cti, "device.in_service RP_MAIN").await;
    let expected = [
        "call.ringing RP_MAIN",
        "media.stopped RP_MAIN",
        "media.stopped RP_MAIN",
        "call.disconnected RP_MAIN temporary_failure",
        "call.disconnected RP_MAIN temporary_failure",
        "device.out_of_service RP_MAIN ctimanager_failure",
        "device.in_service RP_MAIN",
    ];
    // Whether it heard that it rings before the node died is the race's affair.
    let from = expected.len() - told.len().min(expected.len());
    assert!(from <= 1 && told == expected[from..], "{told:?}");
    assert_eq!(cti.call("device.open", key).await, first, "a repeat gets the first answer");
    let refused = cti.refused("call.drop", json!({"leg": talking})).await;
    assert_eq!(refused.symbol, "NO_SUCH_LEG");

    dial(&mut agent, "5000", "fresh").await;
    let fresh = cti.expect("call.offering").await;
    assert_ne!(leg_of(&fresh), talking);
    cti.call("call.answer", json!({"leg": leg_of(&fresh)})).await;
    let answered = heard(&mut agent, 200).await;
    acknowledge(&mut agent, &answered, "fresh").await;
    cti.expect_leg("call.connected", &leg_of(&fresh)).await;
    node.is_well();
}

#[tokio::test]
async fn after_the_grace_the_sessions_of_a_killed_node_have_expired() {
    let lab = Lab::new("too-late");
    let (mut node, _agent) = office(&lab).await;
    let mut cti = node.connect().await;
    let hello = json!({"user": "ivr", "password": PASSWORD, "application": "lab", "resume_grace_ms": 1});
    let session = cti.call("provider.open", hello).await["session"].clone();
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media(&lab)})).await;
    let last_seq = cti.last_seq();
    node.kill();
    node.start_again().await;
    let (_cti, opened) = open(&node, Some((&session, last_seq))).await;
    assert_eq!((&opened["resumed"], &opened["reason"]), (&json!(false), &json!("expired")), "{opened}");
    assert_eq!(node.admin("status")["open_devices"], 0);
}

#[tokio::test]
async fn a_node_that_was_stopped_in_order_goes_on_with_its_sessions_too() {
    let lab = Lab::new("stopped-node");
    let (mut node, mut agent) = office(&lab).await;
    let (mut cti, opened) = open(&node, None).await;
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media(&lab)})).await;
    dial(&mut agent, "5000", "ringing").await;
    let leg = cti.expect("call.offering").await["leg"]["leg"].clone();
    assert!(node.stop().await.success());
    let gone = cti.expect_leg("call.disconnected", &leg).await;
    assert_eq!(gone["leg"]["cause"]["code"], 41);
    assert_eq!(cti.expect("session.closed").await["reason"], "stopping");
    cti.expect_closed(SOON).await;
    node.start_again().await;
    let (mut cti, opened) = open(&node, Some((&opened["session"], cti.last_seq()))).await;
    assert_eq!(opened["resumed"], true, "{opened}");
    let told = told_until(&mut cti, "device.in_service RP_MAIN").await;
    assert_eq!(told, ["device.out_of_service RP_MAIN ctimanager_failure", "device.in_service RP_MAIN"]);
}

/// The application's author writes nothing for it.
#[tokio::test]
async fn an_application_of_the_sdk_rides_through_the_restart() {
    let lab = Lab::new("sdk-restart");
    let (mut node, mut agent) = office(&lab).await;
    let ca_pem = std::fs::read_to_string(node.ca()).expect("the authority's certificate");
    let transport = Transport::Tls { ca_pem, server_name: None, identity: None };
    let config = ProviderConfig {
        resume_grace: Some(Duration::from_secs(30)),
        ..ProviderConfig::new(&node.cti.to_string(), transport, "ivr", PASSWORD.to_owned().into(), "sdk")
    };
    let provider = Provider::connect(config).await.expect("connected");
    let mut events = provider.events();
    let terminal = provider.terminal("RP_MAIN");
    let mut calls = terminal.calls();
    let address = std::net::SocketAddr::new(lab.host(), 30_000);
    let media = MediaTermination::Static { address, codecs: vec![Codec::Pcmu], srtp: Vec::new() };
    terminal.open(Some(media)).await.expect("opened");
    dial(&mut agent, "5000", "talking").await;
    let talking = calls.next().await.expect("a call");
    talking.answer().await.expect("answered");
    let answered = heard(&mut agent, 200).await;
    acknowledge(&mut agent, &answered, "talking").await;

    node.kill();
    node.start_again().await;
    tokio::time::timeout(SOON, talking.gone()).await.expect("the application is told that its call is gone");
    let mut resumed = false;
    while !resumed {
        match tokio::time::timeout(SOON, events.next()).await.expect("in time").expect("the provider lives") {
            Observed::Event(ProviderEvent::Resumed) => resumed = true,
            Observed::Event(ProviderEvent::Gap { expected, got }) => panic!("{expected}, {got}"),
            Observed::Event(ProviderEvent::Restarted(why)) => panic!("a new session: {why:?}"),
            _ => {}
        }
    }
    dial(&mut agent, "5000", "fresh").await;
    let fresh = tokio::time::timeout(SOON, calls.next()).await.expect("in time").expect("a new call");
    fresh.answer().await.expect("answered");
    heard(&mut agent, 200).await;
    provider.close().await.expect("closed");
}

/// Many kills at any moment under load: no number is missing or told twice, and no answer differs from the first.
#[tokio::test]
async fn a_node_that_dies_again_and_again_never_forgets_what_an_application_knows() {
    let lab = Lab::new("dies-again");
    let (mut node, mut agent) = office(&lab).await;
    let (mut cti, opened) = open(&node, None).await;
    let session = opened["session"].clone();
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media(&lab)})).await;
    cti.call("device.open", json!({"device": "PORT_001", "media": media(&lab)})).await;
    for life in 0..5_u64 {
        // Everything at once, and the process dies while it is under way: when so many events have been read.
        for number in 0..20 {
            dial(&mut agent, "5000", &format!("call{life}x{number}")).await;
        }
        let mut events = 0;
        while events < 4 * life {
            match cti.next(SOON).await {
                Some(Message::Event(_)) => events += 1,
                Some(Message::Reply(..)) => {}
                other => panic!("{other:?}"),
            }
        }
        let asked =
            json!({"device": "PORT_001", "dn": "5101", "on": life % 2 == 0, "idem": format!("k{life}")});
        cti.send("line.set_auto_accept", asked.clone()).await;
        node.kill();
        // What was on its way still counts.
        while !matches!(cti.next(SOON).await, Some(Message::Closed)) {}
        let last_seq = cti.last_seq();
        node.start_again().await;
        let (again, opened) = open(&node, Some((&session, last_seq))).await;
        assert_eq!(opened["resumed"], true, "life {life} after event {last_seq}: {opened}");
        cti = again;
        told_until(&mut cti, "device.in_service RP_MAIN").await;
        cti.call("line.set_auto_accept", asked.clone()).await;
        cti.call("line.set_auto_accept", asked).await;
    }
    eventually("nothing is left of the calls of earlier lives", SOON, async || {
        (node.admin("status")["calls"] == 0).then_some(())
    })
    .await;
    node.is_well();
}

#[tokio::test]
async fn a_damaged_file_is_said_and_set_aside_and_the_node_serves() {
    let lab = Lab::new("damaged-file");
    let (mut node, _agent) = office(&lab).await;
    let (cti, opened) = open(&node, None).await;
    drop(cti);
    node.kill();
    let file = node.state().join("sessions.redb");
    assert!(file.exists());
    std::fs::write(&file, "no sessions in here").expect("writable");
    node.start_again().await;
    assert!(node.log().contains("SessionStoreUnreadable"), "{}", node.log());
    assert!(node.state().join("sessions.redb.unreadable").exists());
    let (_cti, opened) = open(&node, Some((&opened["session"], 0))).await;
    assert_eq!((&opened["resumed"], &opened["reason"]), (&json!(false), &json!("unknown_session")));
    assert_eq!(node.admin("status")["session_store"], "keeping");
}
