//! The CTI wire as its page says, against a real node: each transport, errors, order, idempotency.

use serde_json::json;
use std::time::Duration;
use tests::lab::cti::{Cti, Message, leg_of};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::sipp::{self, Sipp};
use tests::lab::{Lab, SOON};

fn config(lab: &Lab, trunk: std::net::SocketAddr) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .phone("2001")
        .trunk("pstn", trunk)
        .user("attendant", &["RP_MAIN", "PORT_*"])
}

async fn the_protocol_speaks(mut cti: Cti) {
    let early = cti.refused("provider.devices", json!({})).await;
    assert_eq!(early.symbol, "NOT_OPEN", "{early}");
    let opened = cti.open("attendant", PASSWORD).await;
    assert_eq!(opened["resumed"], false, "{opened}");
    assert_eq!(opened["next_seq"], 1, "{opened}");
    assert_eq!(opened["device_count"], 2, "{opened}");
    assert!(opened["heartbeat_ms"].as_u64().is_some_and(|ms| ms >= 1_000), "{opened}");
    assert!(opened["session"].is_string(), "{opened}");
    assert_eq!(opened["node"], "cm1", "{opened}");
    assert_eq!(opened["privileges"]["control_all_devices"], false, "{opened}");

    let again = cti.refused("provider.open", json!({"user": "attendant", "password": PASSWORD})).await;
    assert_eq!(again.symbol, "ALREADY_OPEN", "{again}");
    let listed = cti.call("provider.devices", json!({})).await;
    let names: Vec<_> =
        listed["devices"].as_array().into_iter().flatten().map(|d| d["name"].clone()).collect();
    assert_eq!(names, ["PORT_001", "RP_MAIN"], "{listed}");

    let foreign = cti.refused("device.open", json!({"device": "SEP2001"})).await;
    let unknown = cti.refused("device.open", json!({"device": "NO_SUCH_THING"})).await;
    assert_eq!(
        (foreign.symbol.as_str(), unknown.symbol.as_str()),
        ("DEVICE_NOT_CONTROLLED", "DEVICE_NOT_CONTROLLED")
    );
    let opened = cti.call("device.open", json!({"device": "RP_MAIN", "media": {"mode": "none"}})).await;
    assert_eq!(opened["device"]["lines"][0]["dn"], "5000", "{opened}");
    assert_eq!(opened["legs"], json!([]), "{opened}");
    let media = cti.refused("device.open", json!({"device": "PORT_001", "media": {"mode": "none"}})).await;
    assert_eq!(media.symbol, "MEDIA_REQUIRED", "{media}");
    cti.call("device.close", json!({"device": "RP_MAIN"})).await;
    cti.call("provider.close", json!({})).await;
}

#[tokio::test]
async fn the_protocol_is_the_same_over_tls_plain_tcp_and_websocket() {
    let lab = Lab::new("transports");
    let node = Node::start(&lab, config(&lab, lab.address())).await;
    the_protocol_speaks(node.connect().await).await;
    the_protocol_speaks(Cti::plain(node.cti_plain).await).await;
    the_protocol_speaks(Cti::websocket(node.web, &node.ca()).await).await;
}

#[tokio::test]
async fn what_is_no_request_gets_json_rpcs_own_errors() {
    let lab = Lab::new("errors");
    let mut node = Node::start(&lab, config(&lab, lab.address())).await;
    let mut cti = node.application("attendant").await;
    for (line, code, symbol) in [
        (r#"{"jsonrpc":"2.0","id":"#, -32700, "PARSE_ERROR"),
        ("\u{fffd}\u{1}", -32700, "PARSE_ERROR"),
        (r#"[{"jsonrpc":"2.0","id":7,"method":"provider.devices"}]"#, -32600, "INVALID_REQUEST"),
    ] {
        cti.send_line(line.as_bytes()).await;
        let error = cti.reply(0, SOON).await.expect_err("refused");
        assert_eq!((error.code, error.symbol.as_str()), (code, symbol), "{line}: {error}");
    }
    let unknown = cti.refused("call.teleport", json!({})).await;
    assert_eq!((unknown.code, unknown.symbol.as_str()), (-32601, "METHOD_NOT_FOUND"));
    let media = json!({"device": "PORT_001", "media": {"mode": "static", "ip": "10.77.0.1", "port": "many", "codecs": ["PCMU"]}});
    let wrong = cti.refused("device.open", media).await;
    assert_eq!((wrong.code, wrong.symbol.as_str()), (-32602, "INVALID_PARAMS"), "{wrong}");
    assert_eq!(wrong.data["field"], "media.port", "{wrong}");

    cti.send_line(&vec![b'x'; (1 << 20) + 2]).await;
    cti.expect_closed(SOON).await;
    assert!(cti.kept().iter().any(|e| e["type"] == "session.closed" && e["reason"] == "line_too_long"));
    let mut silent = node.connect().await;
    silent.expect_closed(Duration::from_secs(12)).await;
    node.is_well();
}

#[tokio::test]
async fn the_reply_comes_before_the_events_it_causes_and_a_repeated_key_does_nothing_twice() {
    let lab = Lab::new("order");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab, trunk)).await;
    let mut cti = node.application("attendant").await;
    let media = json!({"mode": "static", "ip": lab.host(), "port": lab.port(), "codecs": ["PCMU"]});
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    let caller = sipp::Run {
        scenario: "uac_hangs_on",
        to: Some(node.sip),
        number: "5000".into(),
        local: Some(trunk),
        calls: 1,
        keys: vec![("TALK_MS", "10000".into())],
        ..sipp::Run::default()
    };
    cti.expect("device.in_service").await;
    let mut caller = Sipp::start(&lab, &caller);
    let offering = cti.expect("call.offering").await;
    let leg = leg_of(&offering);
    assert_eq!(offering["leg"]["state"], "offering", "{offering}");
    assert_eq!(offering["leg"]["calling"]["number"], "4000", "{offering}");
    assert_eq!(offering["leg"]["called"]["number"], "5000", "{offering}");

    let answer = json!({"leg": leg, "idem": "answer-1"});
    let id = cti.send("call.answer", answer.clone()).await;
    match cti.next(SOON).await {
        Some(Message::Reply(of, Ok(_))) => assert_eq!(of, id),
        other => panic!("the reply comes first, not {other:?}"),
    }
    cti.expect_leg("call.connected", &leg).await;
    cti.call("call.answer", answer).await;
    let other = cti.refused("call.answer", json!({"leg": "another", "idem": "answer-1"})).await;
    assert_eq!((other.symbol.as_str(), &other.data["field"]), ("INVALID_PARAMS", &json!("idem")));
    let without = cti.refused("call.answer", json!({"leg": leg})).await;
    assert_eq!(
        (without.symbol.as_str(), &without.data["state"]),
        ("ILLEGAL_CALL_STATE", &json!("connected"))
    );

    cti.call("call.drop", json!({"leg": leg})).await;
    let gone = cti.expect_leg("call.disconnected", &leg).await;
    assert_eq!(gone["leg"]["state"], "disconnected", "{gone}");
    assert_eq!(cti.refused("call.drop", json!({"leg": leg})).await.symbol, "NO_SUCH_LEG");
    caller.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
}
