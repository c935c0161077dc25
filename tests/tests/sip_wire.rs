//! Single SIP requests to a real node, byte by byte: what each must be answered with.

use serde_json::json;
use std::time::Duration;
use tests::lab::Lab;
use tests::lab::agent::{Agent, Ask, Heard};
use tests::lab::app::{App, Media};
use tests::lab::node::{Config, Node, digest_password};

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn config(lab: &Lab) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .phone("2001")
        .phone("2002")
        .user("attendant", &["RP_MAIN"])
}

fn ask<'a>(method: &'a str, to: &'a str, call: &'a str) -> Ask<'a> {
    Ask { method, to, from: "4000", call, cseq: 1, headers: Vec::new(), body: "" }
}

fn invite<'a>(to: &'a str, call: &'a str) -> Ask<'a> {
    Ask { body: SDP, ..ask("INVITE", to, call) }
}

/// A node whose trunk is the agent.
async fn with_trunk(lab: &Lab) -> (Node, Agent) {
    let trunk = lab.address();
    let node = Node::start(lab, config(lab).trunk("pstn", trunk)).await;
    let agent = Agent::at(trunk, node.sip).await;
    (node, agent)
}

#[tokio::test]
async fn requests_that_can_not_be_served_get_their_code() {
    let lab = Lab::new("codes");
    let (mut node, mut agent) = with_trunk(&lab).await;
    let with = |ask: Ask<'static>, line: &str| Ask { headers: vec![line.to_owned()], ..ask };
    let cases = [
        (with(invite("2001", "hops"), "Max-Forwards: 0"), 483),
        (ask("NONSENSE", "5000", "nonsense"), 501),
        (with(ask("SUBSCRIBE", "5000", "subscribe"), "Event: presence"), 489),
        (ask("PUBLISH", "5000", "publish"), 405),
        (with(invite("5000", "require"), "Require: nothingWeKnow"), 420),
        (with(invite("5000", "type"), "Content-Type: text/plain"), 415),
        (with(invite("5000", "encoding"), "Content-Encoding: gzip"), 415),
        (Ask { body: "no description", ..invite("5000", "sdp") }, 488),
        (invite("7777", "nobody"), 404),
        (invite("2001", "away"), 480),
        (with(invite("5000", "brief"), "Session-Expires: 30"), 422),
        (ask("BYE", "5000", "stray"), 481),
        (ask("OPTIONS", "", "ping"), 200),
    ];
    for (ask, status) in cases {
        let said = agent.ask(&ask).await;
        assert_eq!(said.status(), status, "{ask:?}: {}", said.0);
        match status {
            405 => assert!(said.header("Allow").is_some_and(|allow| allow.contains("INVITE")), "{}", said.0),
            420 => assert_eq!(said.header("Unsupported"), Some("nothingWeKnow")),
            422 => assert_eq!(said.header("Min-SE"), Some("90")),
            200 => {
                assert!(said.header("Accept").is_some_and(|a| a.contains("application/sdp")), "{}", said.0)
            }
            _ => {}
        }
    }
    node.is_quiet().await;
    node.is_well();
}

/// The same request by two ways (RFC 3261 §8.2.2.2), and one that came back to who sent it.
#[tokio::test]
async fn a_request_that_comes_twice_is_served_once() {
    let lab = Lab::new("merged");
    let (node, mut agent) = with_trunk(&lab).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let call = invite("5000", "merged");
    let (first, second) = (agent.write(&call), agent.write(&call));
    agent.send(first.as_bytes()).await;
    let leg = app.offered().await["leg"].clone();
    agent.send(first.as_bytes()).await;
    agent.send(second.as_bytes()).await;
    let merged = agent.final_to(&call, &second).await;
    assert_eq!(merged.status(), 482, "{}", merged.0);
    app.cti.call("call.reject", json!({"leg": leg, "cause": 17})).await;
    let refused = agent.final_to(&call, &first).await;
    assert_eq!(refused.status(), 486, "{}", refused.0);
    assert!(app.cti.kept().iter().all(|event| event["type"] != "call.offering"), "it was offered once");
    node.is_quiet().await;
}

/// Without Content-Length the body ends with the datagram (RFC 3261 §18.3); old peers write names in Latin-1.
#[tokio::test]
async fn an_invite_of_an_old_peer_is_understood() {
    let lab = Lab::new("old-peer");
    let (node, mut agent) = with_trunk(&lab).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let call = invite("5000", "old");
    let text = agent.write(&call);
    let text = text.replace(&format!("Content-Length: {}\r\n", SDP.len()), "");
    let text =
        text.replace("From: <", "From: \"J\u{fc}rgen\" <").replace("Call-ID:", "i:").replace("To:", "t :");
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    agent.send(&bytes).await;
    let leg = app.offered().await;
    assert_eq!(leg["calling"]["number"], "4000", "{leg}");
    assert_eq!(leg["calling"]["name"], "J\u{fc}rgen", "{leg}");
    app.cti.call("call.answer", json!({"leg": leg["leg"]})).await;
    let answered = agent.final_to(&call, &text).await;
    assert_eq!(answered.status(), 200, "{}", answered.0);
    assert!(answered.0.contains("m=audio"), "its offer was read: {}", answered.0);
    app.drop_call(&leg["leg"]).await;
    node.is_quiet().await;
}

/// 20 kB in one datagram, and a description with forty candidates in it.
#[tokio::test]
async fn a_big_invite_is_taken_whole() {
    let lab = Lab::new("big");
    let (node, mut agent) = with_trunk(&lab).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let body = SDP.to_owned() + &"a=candidate:1 1 UDP 1 10.77.0.1 4000 typ host\r\n".repeat(40);
    let headers = (0..60).map(|n| format!("X-Filler-{n}: {}", "x".repeat(300))).collect();
    let call = Ask { body: &body, headers, ..invite("5000", "big") };
    let text = agent.write(&call);
    agent.send(text.as_bytes()).await;
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.reject", json!({"leg": leg, "cause": 17})).await;
    assert_eq!(agent.final_to(&call, &text).await.status(), 486);
    node.is_quiet().await;
}

/// A description among other parts (RFC 5621), as gateways between SIP and ISUP send it.
#[tokio::test]
async fn a_description_among_other_parts_is_found() {
    let lab = Lab::new("multipart");
    let (node, mut agent) = with_trunk(&lab).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let body = format!(
        "--b1\r\nContent-Type: application/isup;version=itu-t92+\r\n\
         Content-Disposition: signal;handling=optional\r\n\r\n\u{1}\u{2}\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n\
         {SDP}\r\n--b1--\r\n"
    );
    let headers = vec!["Content-Type: multipart/mixed;boundary=\"b1\"".to_owned()];
    let call = Ask { body: &body, headers, ..invite("5000", "parts") };
    let text = agent.write(&call);
    agent.send(text.as_bytes()).await;
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.answer", json!({"leg": leg})).await;
    let answered = agent.final_to(&call, &text).await;
    assert_eq!(answered.status(), 200, "{}", answered.0);
    assert!(answered.0.contains("m=audio"), "{}", answered.0);
    app.drop_call(&leg).await;
    node.is_quiet().await;
}

/// An application has no keys: a caller that insists on them is refused, and nobody hears of the call.
#[tokio::test]
async fn an_offer_of_encrypted_media_alone_is_refused() {
    let lab = Lab::new("savp");
    let (node, mut agent) = with_trunk(&lab).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let body = SDP.replace("RTP/AVP", "RTP/SAVP")
        + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n";
    let call = Ask { body: &body, ..invite("5000", "savp") };
    let refused = agent.ask(&call).await;
    assert_eq!(refused.status(), 488, "{}", refused.0);
    assert_eq!(refused.header("Reason"), Some("Q.850;cause=65"), "{}", refused.0);
    app.cti.call("provider.heartbeat", json!({"last_seq": app.cti.last_seq()})).await;
    assert!(!app.cti.kept().iter().any(|event| event["type"] == "call.offering"));
    node.is_quiet().await;
}

fn register<'a>(call: &'a str, contact: &str, expires: Option<u32>) -> Ask<'a> {
    let mut headers = vec![format!("Contact: {contact}")];
    headers.extend(expires.map(|seconds| format!("Expires: {seconds}")));
    Ask { from: "2001", headers, ..ask("REGISTER", "", call) }
}

#[tokio::test]
async fn registrations_have_their_rules() {
    let lab = Lab::new("register-rules");
    let node = Node::start(&lab, config(&lab)).await;
    let mut agent = Agent::bind(&lab, node.sip).await;
    let here = agent.address;
    let contact = format!("<sip:2001@{here}>");
    let password = digest_password("2001");

    let said = agent.ask_as(&register("brief", &contact, Some(30)), "2001", &password).await;
    assert_eq!((said.status(), said.header("Min-Expires")), (423, Some("60")), "{}", said.0);
    let said = agent.ask_as(&register("long", &contact, Some(100_000)), "2001", &password).await;
    assert_eq!(said.status(), 200, "{}", said.0);
    let granted = said.header("Contact").unwrap_or_default();
    assert!(granted.contains("expires=120"), "no longer than `registration_expiry_maximum`: {}", said.0);
    let second = format!("<sip:desk@{here}>;expires=120");
    let said = agent.ask_as(&register("second", &second, None), "2001", &password).await;
    assert_eq!(contacts(&said), 2, "{}", said.0);
    let said = agent.ask_as(&register("star-wrong", "*", Some(60)), "2001", &password).await;
    assert_eq!(said.status(), 400, "all of them, but not gone? {}", said.0);
    let said = agent.ask_as(&register("star", "*", Some(0)), "2001", &password).await;
    assert_eq!((said.status(), contacts(&said)), (200, 0), "{}", said.0);

    // Somebody else's number, and a number of nobody.
    let mut other = register("other", &contact, Some(60));
    other.from = "2002";
    assert_eq!(agent.ask_as(&other, "2001", &password).await.status(), 403);
    assert_eq!(agent.ask_as(&register("wrong", &contact, Some(60)), "2001", "guess").await.status(), 401);
    assert_eq!(agent.ask_as(&register("unknown", &contact, Some(60)), "2999", &password).await.status(), 401);
}

fn contacts(said: &Heard) -> usize {
    said.0.lines().filter(|line| line.starts_with("Contact:")).map(|line| line.matches("<sip:").count()).sum()
}

/// Who is registered may call; who isn't, may not, whatever password it has.
#[tokio::test]
async fn a_phone_calls_once_it_is_registered() {
    let lab = Lab::new("registered-first");
    let node = Node::start(&lab, config(&lab)).await;
    let mut agent = Agent::bind(&lab, node.sip).await;
    let password = digest_password("2001");
    let call = Ask { from: "2001", ..invite("7777", "early") };
    assert_eq!(agent.ask(&call).await.status(), 401);
    let call = Ask { from: "2001", ..invite("7777", "unregistered") };
    assert_eq!(agent.ask_as(&call, "2001", &password).await.status(), 403);
    let contact = format!("<sip:2001@{}>", agent.address);
    assert_eq!(agent.ask_as(&register("now", &contact, Some(60)), "2001", &password).await.status(), 200);
    let call = Ask { from: "2001", ..invite("7777", "registered") };
    assert_eq!(agent.ask_as(&call, "2001", &password).await.status(), 404);
    let wrong = Ask { from: "2001", ..invite("7777", "wrong") };
    assert_eq!(agent.ask_as(&wrong, "2001", "guess").await.status(), 401);
    assert!(agent.hear_within(Duration::from_millis(100)).await.is_none(), "each request had one answer");
}
