//! SIP flows by SIPp: a trunk's callers and peers, and what is broken.

use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tests::lab::app::{Answerer, App, Media};
use tests::lab::node::{Config, Node};
use tests::lab::sipp::{self, Sipp};
use tests::lab::wire::first_final_status;
use tests::lab::{Lab, SOON};

fn config(lab: &Lab, trunk: SocketAddr) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .phone("2001")
        .trunk("pstn", trunk)
        .pattern("9.!", "pstn")
        .user("attendant", &["RP_MAIN", "PORT_001"])
}

fn caller(node: &Node, scenario: &'static str, from: SocketAddr) -> sipp::Run {
    sipp::Run {
        scenario,
        to: Some(node.sip),
        number: "5000".into(),
        local: Some(from),
        calls: 1,
        ..sipp::Run::default()
    }
}

async fn flow_with_an_application(scenario: &'static str) {
    let lab = Lab::new(scenario);
    let trunk = lab.address();
    let mut node = Node::start(&lab, config(&lab, trunk)).await;
    let mut app = Answerer::start(&lab, &node, "attendant", "RP_MAIN").await;
    let mut run = caller(&node, scenario, trunk);
    (run.calls, run.rate) = (5, 5);
    sipp::run(&lab, &run, Duration::from_secs(20)).await.all_went_well(5);
    app.has_seen_end(5, SOON).await;
    assert_eq!(app.tally().refused, 0);
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn a_caller_calls_and_hangs_up() {
    flow_with_an_application("uac").await;
}

#[tokio::test]
async fn a_caller_holds_by_re_invite() {
    flow_with_an_application("uac_hold").await;
}

#[tokio::test]
async fn a_caller_holds_by_update() {
    flow_with_an_application("uac_update").await;
}

#[tokio::test]
async fn a_caller_makes_a_late_offer() {
    flow_with_an_application("uac_late_offer").await;
}

#[tokio::test]
async fn a_caller_acknowledges_ringing_reliably() {
    let lab = Lab::new("prack");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab, trunk)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let mut call = Sipp::start(&lab, &caller(&node, "uac_prack", trunk));
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.accept", json!({"leg": leg})).await;
    app.cti.expect_leg("call.ringing", &leg).await;
    app.cti.call("call.answer", json!({"leg": leg})).await;
    call.finish(SOON).await.all_went_well(1);
    app.cti.expect_leg("call.disconnected", &leg).await;
    node.is_quiet().await;
}

#[tokio::test]
async fn a_caller_gives_up_while_it_rings() {
    let lab = Lab::new("cancel");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab, trunk)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let mut call = Sipp::start(&lab, &caller(&node, "uac_cancel", trunk));
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.accept", json!({"leg": leg})).await;
    app.cti.expect_leg("call.disconnected", &leg).await;
    call.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
}

#[tokio::test]
async fn refusals_have_the_status_that_fits() {
    let lab = Lab::new("refusals");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab, trunk)).await;
    let refused = |number: &str, status: &str| sipp::Run {
        number: number.into(),
        keys: vec![("STATUS", status.into())],
        ..caller(&node, "uac_refused", trunk)
    };
    sipp::run(&lab, &refused("7777", "404"), SOON).await.all_went_well(1);
    sipp::run(&lab, &refused("2001", "480"), SOON).await.all_went_well(1);

    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    for (cause, status) in [(json!(17), "486"), (json!("call_rejected"), "603")] {
        let mut call = Sipp::start(&lab, &refused("5000", status));
        let leg = app.offered().await["leg"].clone();
        app.cti.call("call.reject", json!({"leg": leg, "cause": cause})).await;
        call.finish(SOON).await.all_went_well(1);
    }
    let stranger = lab.address();
    let run = sipp::Run { local: Some(stranger), ..refused("5000", "401") };
    sipp::run(&lab, &run, SOON).await.all_went_well(1);
    node.is_quiet().await;
}

#[tokio::test]
async fn an_application_calls_out_through_the_trunk() {
    let lab = Lab::new("outward");
    let trunk = lab.address();
    let node = Node::start(&lab, config(&lab, trunk)).await;
    let mut app = App::open(&lab, &node, "attendant", "PORT_001", Media::Static).await;
    let peer = sipp::Run {
        scenario: "uas",
        local: Some(trunk),
        calls: 1,
        keys: vec![("TALK_MS", "10000".into())],
        ..sipp::Run::default()
    };
    let mut peer = Sipp::start(&lab, &peer);
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "95551234"})).await;
    let leg = made["leg"].clone();
    app.cti.expect_leg("call.ringback", &leg).await;
    app.cti.expect_leg("call.connected", &leg).await;
    let far = app.output(&leg).await;
    assert_eq!(far.ip(), trunk.ip());
    app.drop_call(&leg).await;
    peer.finish(SOON).await.all_went_well(1);

    let busy = sipp::Run {
        scenario: "uas_busy",
        local: Some(trunk),
        calls: 1,
        keys: vec![("STATUS", "486".into())],
        ..sipp::Run::default()
    };
    let mut peer = Sipp::start(&lab, &busy);
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "95551234"})).await;
    let failed = app.cti.expect_leg("call.failed", &made["leg"]).await;
    assert_eq!(failed["leg"]["cause"]["code"], 17, "{failed}");
    peer.finish(SOON).await.all_went_well(1);
    node.is_quiet().await;
}

#[tokio::test]
async fn broken_messages_get_codes_and_the_node_lives_on() {
    let lab = Lab::new("broken");
    let trunk = lab.address();
    let mut node = Node::start(&lab, config(&lab, trunk)).await;
    for (name, message, expected) in broken_messages(node.sip) {
        let got = first_final_status(node.sip, message.as_bytes()).await;
        match expected {
            Some(codes) => {
                let got = got.unwrap_or_else(|| panic!("{name}: no answer"));
                assert!(codes.contains(&got), "{name}: {got}, not one of {codes:?}");
            }
            None => assert!(got.is_none_or(|code| code >= 400), "{name}: {got:?}"),
        }
        node.is_well();
    }
    let mut app = Answerer::start(&lab, &node, "attendant", "RP_MAIN").await;
    sipp::run(&lab, &caller(&node, "uac", trunk), SOON).await.all_went_well(1);
    app.has_seen_end(1, SOON).await;
    node.is_quiet().await;
}

/// Name, message, and the codes that are right; without codes silence, a close, or any refusal is.
fn broken_messages(node: SocketAddr) -> Vec<(&'static str, String, Option<&'static [u16]>)> {
    let message = |start: &str, cseq: &str, extra: &str| {
        format!(
            "{start}\r\nVia: SIP/2.0/TCP 10.77.0.1:9;branch=z9hG4bKbroken\r\nMax-Forwards: 70\r\n\
             From: <sip:4000@10.77.0.1>;tag=a\r\nTo: <sip:5000@{node}>\r\nCall-ID: broken@lab\r\nCSeq: {cseq}\r\n\
             Contact: <sip:4000@10.77.0.1>\r\n{extra}Content-Length: 0\r\n\r\n"
        )
    };
    let to = |method: &str| format!("{method} sip:5000@{node} SIP/2.0");
    let options = message(&to("OPTIONS"), "1 OPTIONS", "");
    vec![
        ("a good OPTIONS", options.clone(), Some(&[200])),
        ("an unknown method", message(&to("NONSENSE"), "1 NONSENSE", ""), Some(&[405, 501])),
        ("an unknown version", options.replacen("SIP/2.0\r\n", "SIP/7.0\r\n", 1), Some(&[400, 505])),
        ("methods that differ", message(&to("OPTIONS"), "1 INVITE", ""), Some(&[400])),
        ("a number too big", message(&to("OPTIONS"), "36893488147419103232 OPTIONS", ""), Some(&[400])),
        ("no Call-ID", options.replace("Call-ID: broken@lab\r\n", ""), Some(&[400])),
        ("no To", options.replace(&format!("To: <sip:5000@{node}>\r\n"), ""), Some(&[400])),
        ("no hops left", options.replace("Max-Forwards: 70", "Max-Forwards: 0"), Some(&[200, 483])),
        (
            "an unknown scheme",
            message("OPTIONS nobodyKnowsThisScheme:x SIP/2.0", "1 OPTIONS", ""),
            Some(&[400, 416]),
        ),
        (
            "a BYE of no call",
            message(&to("BYE"), "2 BYE", "").replace("lab\r\nCSeq", "none\r\nCSeq"),
            Some(&[481]),
        ),
        (
            "an extension required",
            message(&to("INVITE"), "1 INVITE", "Require: nothingWeKnow\r\n"),
            Some(&[420, 401]),
        ),
        ("no Via", options.replace("Via: SIP/2.0/TCP 10.77.0.1:9;branch=z9hG4bKbroken\r\n", ""), None),
        ("a length below zero", options.replace("Content-Length: 0", "Content-Length: -999"), None),
        (
            "a length beyond all bounds",
            options.replace("Content-Length: 0", "Content-Length: 99999999999"),
            None,
        ),
        ("bytes of no protocol", "\u{1}\u{2}\u{fffd}\r\n\r\n".repeat(300), None),
        ("a header without an end", format!("OPTIONS sip:a@b SIP/2.0\r\nX: {}", "x".repeat(200_000)), None),
        ("an answer to nothing", message("SIP/2.0 200 OK", "9 INVITE", ""), None),
    ]
}
