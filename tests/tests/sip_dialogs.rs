//! Calls of those who are not quite right, and what becomes of calls that nobody takes: against a real node.

use serde_json::json;
use std::time::Duration;
use tests::lab::Lab;
use tests::lab::agent::{Agent, Ask, Heard};
use tests::lab::app::{App, Media};
use tests::lab::node::{Config, Node, digest_password};
use tokio::time::Instant;

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn config(lab: &Lab) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .route_point("RP_SIDE", "5001")
        .phone("2001")
        .phone("2002")
        .phone("2003")
        .user("attendant", &["RP_MAIN", "RP_SIDE"])
}

fn ask<'a>(method: &'a str, to: &'a str, call: &'a str) -> Ask<'a> {
    Ask { method, to, from: "4000", call, cseq: 1, headers: Vec::new(), body: "" }
}

fn invite<'a>(to: &'a str, call: &'a str) -> Ask<'a> {
    Ask { body: SDP, ..ask("INVITE", to, call) }
}

async fn with_trunk(lab: &Lab, config: Config) -> (Node, Agent) {
    let trunk = lab.address();
    let node = Node::start(lab, config.trunk("pstn", trunk)).await;
    let agent = Agent::at(trunk, node.sip).await;
    (node, agent)
}

/// A phone that is registered for this number.
async fn phone(lab: &Lab, node: &Node, number: &str) -> Agent {
    let mut agent = Agent::bind(lab, node.sip).await;
    let headers = vec![format!("Contact: <sip:{number}@{}>", agent.address), "Expires: 300".to_owned()];
    let register = Ask { from: number, headers, ..ask("REGISTER", "", number) };
    let said = agent.ask_as(&register, number, &digest_password(number)).await;
    assert_eq!(said.status(), 200, "{}", said.0);
    agent
}

async fn answered(agent: &mut Agent, app: &mut App, call: &Ask<'_>) -> (Heard, serde_json::Value) {
    let text = agent.write(call);
    agent.send(text.as_bytes()).await;
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.answer", json!({"leg": leg})).await;
    let ok = agent.final_to(call, &text).await;
    assert_eq!(ok.status(), 200, "{}", ok.0);
    let ack = agent.write_in(&ok, &Ask { method: "ACK", body: "", ..call.clone() });
    agent.send(ack.as_bytes()).await;
    (ok, leg)
}

#[tokio::test]
async fn a_redirection_is_followed_by_q_and_on_after_each_failure() {
    let lab = Lab::new("redirections");
    let (node, mut trunk) = with_trunk(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let (first, second, third) = (
        phone(&lab, &node, "2001").await,
        phone(&lab, &node, "2002").await,
        phone(&lab, &node, "2003").await,
    );
    let call = invite("2001", "q");
    let text = trunk.write(&call);
    trunk.send(text.as_bytes()).await;
    let contacts = "Contact: <sip:5000@elsewhere>;q=0.1, <mailto:a@b>, <sip:2003@h>;q=0.7, <sip:2002@h>;q=0.9, \
                    <tel:7777>;q=0.5";
    let invite = first.hear_request("INVITE").await;
    first.reply(&invite, "302 Moved", &[contacts.to_owned()], "").await;
    let invite = second.hear_request("INVITE").await;
    assert!(invite.header("Diversion").is_some_and(|by| by.contains("2001")), "{}", invite.0);
    second.reply(&invite, "486 Busy Here", &[], "").await;
    let invite = third.hear_request("INVITE").await;
    third.reply(&invite, "503 Service Unavailable", &[], "").await;
    let leg = app.offered().await;
    assert_eq!(
        (&leg["reason"], &leg["last_redirecting"]["number"]),
        (&json!("redirect"), &json!("2001")),
        "{leg}"
    );
    assert_eq!(leg["original_called"]["number"], "2001", "{leg}");
    app.cti.call("call.reject", json!({"leg": leg["leg"], "cause": 21})).await;
    assert_eq!(trunk.final_to(&call, &text).await.status(), 603);
    node.is_quiet().await;
}

#[tokio::test]
async fn a_phones_own_failure_is_the_callers_and_cfof_is_not_taken() {
    let lab = Lab::new("own-failure");
    let config = config(&lab).number("2001", json!({"forward": {"on_failure": "5000", "busy": "5001"}}));
    let (node, mut trunk) = with_trunk(&lab, config).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_SIDE", Media::Static).await;
    let phone = phone(&lab, &node, "2001").await;
    for (status, phrase) in [(400, "Bad Request"), (481, "Gone"), (500, "Oops"), (503, "Down")] {
        let call = invite("2001", phrase.split(' ').next().unwrap_or_default());
        let text = trunk.write(&call);
        trunk.send(text.as_bytes()).await;
        let invite = phone.hear_request("INVITE").await;
        phone.reply(&invite, &format!("{status} {phrase}"), &[], "").await;
        let said = trunk.final_to(&call, &text).await;
        assert_eq!(said.status(), status, "{}", said.0);
        assert!(said.header("Reason").is_some_and(|why| why.contains("cause=41")), "{}", said.0);
    }
    let call = invite("2001", "busy");
    let text = trunk.write(&call);
    trunk.send(text.as_bytes()).await;
    let invite = phone.hear_request("INVITE").await;
    phone.reply(&invite, "486 Busy Here", &[], "").await;
    assert_eq!(app.offered().await["reason"], "forward_busy");
}

#[tokio::test]
async fn a_phone_that_has_gone_is_out_of_order_at_once() {
    let lab = Lab::new("icmp");
    let config = config(&lab)
        .number("2001", json!({"forward": {"unregistered": "5000"}}))
        .number("2002", json!({"forward": {"no_answer": "5000", "on_failure": "5001"}}));
    let (node, mut trunk) = with_trunk(&lab, config).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    for number in ["2001", "2002", "2003"] {
        drop(phone(&lab, &node, number).await);
        let begun = Instant::now();
        let call = invite(number, number);
        let text = trunk.write(&call);
        trunk.send(text.as_bytes()).await;
        if number == "2003" {
            let said = trunk.final_to(&call, &text).await;
            assert_eq!(said.status(), 502, "{}", said.0);
            assert_eq!(said.header("Retry-After"), None, "it is not the node that is out of service");
            assert!(said.header("Reason").is_some_and(|why| why.contains("cause=27")), "{}", said.0);
        } else {
            let leg = app.offered().await["leg"].clone();
            app.cti.call("call.reject", json!({"leg": leg, "cause": 17})).await;
            assert_eq!(trunk.final_to(&call, &text).await.status(), 486);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "by its silence alone it takes 32 s");
    }
    // A phone beside it is reached as ever.
    let there = phone(&lab, &node, "2002").await;
    let call = invite("2002", "there");
    let text = trunk.write(&call);
    trunk.send(text.as_bytes()).await;
    let invite = there.hear_request("INVITE").await;
    there.reply(&invite, "486 Busy Here", &[], "").await;
    assert_eq!(trunk.final_to(&call, &text).await.status(), 486);
    node.is_quiet().await;
}

#[tokio::test]
async fn applications_that_redirect_round_and_round_lose_the_call_with_cause_25() {
    let lab = Lab::new("rounds");
    let (node, mut trunk) = with_trunk(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    app.cti.call("device.open", json!({"device": "RP_SIDE", "media": {"mode": "none"}})).await;
    for (call, diversions, redirects) in [
        ("plain", None, 13),
        ("diverted", Some("Diversion: <sip:1@h>;reason=no-answer;counter=9, <sip:2@h>"), 3),
    ] {
        let call =
            Ask { headers: diversions.map(str::to_owned).into_iter().collect(), ..invite("5000", call) };
        let text = trunk.write(&call);
        trunk.send(text.as_bytes()).await;
        let mut leg = app.offered().await["leg"].clone();
        for n in 1..=redirects {
            let to = if n % 2 == 1 { "5001" } else { "5000" };
            let asked = json!({"leg": leg, "destination": to, "keep_on_failure": false});
            // The reply to one waits for the fate of the next.
            app.cti.send("call.redirect", asked).await;
            if n < redirects {
                leg = app.offered().await["leg"].clone();
            }
        }
        let said = trunk.final_to(&call, &text).await;
        assert_eq!(said.status(), 482, "{}", said.0);
        assert!(said.header("Reason").is_some_and(|why| why.contains("cause=25")), "{}", said.0);
    }
    node.is_quiet().await;
}

#[tokio::test]
async fn an_invitation_is_good_for_as_long_as_it_says() {
    let lab = Lab::new("expires");
    let (node, mut trunk) = with_trunk(&lab, config(&lab)).await;
    let phone = phone(&lab, &node, "2001").await;
    let begun = Instant::now();
    let call = Ask { headers: vec!["Expires: 2".into()], ..invite("2001", "brief") };
    let text = trunk.write(&call);
    trunk.send(text.as_bytes()).await;
    let ringing = phone.hear_request("INVITE").await;
    phone.reply(&ringing, "180 Ringing", &[], "").await;
    let cancelled = phone.hear_request("CANCEL").await;
    phone.reply(&cancelled, "200 OK", &[], "").await;
    phone.reply(&ringing, "487 Request Terminated", &[], "").await;
    let said = trunk.final_to(&call, &text).await;
    assert_eq!(said.status(), 487, "{}", said.0);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let call = Ask { headers: vec!["Expires: 0".into()], ..invite("2001", "none") };
    assert_eq!(trunk.ask(&call).await.status(), 487);
    node.is_quiet().await;
}

#[tokio::test]
async fn a_cancel_with_another_sent_by_and_a_branch_that_is_used_twice() {
    let lab = Lab::new("transactions");
    let (node, mut trunk) = with_trunk(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    for (name, old) in [("new", false), ("old", true)] {
        let call = invite("5000", name);
        let mut text = trunk.write(&call);
        if old {
            text = text.replace("branch=z9hG4bK", "branch=");
        }
        trunk.send(text.as_bytes()).await;
        let leg = app.offered().await["leg"].clone();
        let via = format!("SIP/2.0/UDP {}", trunk.address);
        let copy = text.replace(&via, "SIP/2.0/UDP phone.invalid:5999");
        trunk.send(copy.as_bytes()).await;
        let head = copy.split("Content-Type").next().unwrap_or_default().replace("INVITE", "CANCEL");
        trunk.send(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).await;
        assert_eq!(trunk.final_to(&call, &text).await.status(), 487);
        let ended = app.cti.expect_leg("call.disconnected", &leg).await;
        assert_eq!(ended["leg"]["cause"]["code"], 16, "{ended}");
        assert!(app.cti.kept().iter().all(|event| event["type"] != "call.offering"), "it was offered once");
    }
    // With credentials under the branch of the first try.
    let mut phone = phone(&lab, &node, "2001").await;
    let call = Ask { from: "2001", ..invite("5000", "reused") };
    let text = phone.write(&call);
    phone.send(text.as_bytes()).await;
    let challenge = phone.final_to(&call, &text).await;
    assert_eq!(challenge.status(), 401);
    let authorization = phone.prove(&challenge, "INVITE", "2001", &digest_password("2001"));
    let again = text
        .replace("CSeq: 1 ", "CSeq: 2 ")
        .replace("Max-Forwards", &format!("Authorization: {authorization}\r\nMax-Forwards"));
    phone.send(again.as_bytes()).await;
    let leg = app.offered().await["leg"].clone();
    app.cti.call("call.reject", json!({"leg": leg, "cause": 17})).await;
    assert_eq!(phone.final_to(&Ask { cseq: 2, ..call }, &again).await.status(), 486);
    node.is_quiet().await;
}

#[tokio::test]
async fn an_info_that_gets_200_has_given_its_digit() {
    let lab = Lab::new("info-digits");
    let (node, mut trunk) = with_trunk(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let (ok, leg) = answered(&mut trunk, &mut app, &invite("5000", "digits")).await;
    let cases = [
        ("application/dtmf-relay", "5", Some("5")),
        ("application/dtmf", "Signal=6", Some("6")),
        ("application/dtmf", "Signal= 10\r\nDuration= 160\r\n", Some("*")),
        ("application/dtmf-relay", "Signal=#\r\n", Some("#")),
        ("application/dtmf-relay", "Signal=hf", None),
        ("application/dtmf", "flash", None),
        ("application/x-keys", "5", None),
    ];
    for (n, (content_type, body, digit)) in cases.into_iter().enumerate() {
        let cseq = 2 + u32::try_from(n).unwrap_or(0);
        let headers = vec![format!("Content-Type: {content_type}")];
        let info = Ask { headers, body, cseq, ..ask("INFO", "5000", "digits") };
        let text = trunk.write_in(&ok, &info);
        trunk.send(text.as_bytes()).await;
        let said = trunk.final_to(&info, &text).await;
        match digit {
            Some(digit) => {
                assert_eq!(said.status(), 200, "{body:?}");
                assert_eq!(app.cti.expect_leg("call.dtmf", &leg).await["digit"], digit);
            }
            None => assert_eq!(said.status(), 415, "{body:?}"),
        }
    }
    assert!(app.cti.kept().iter().all(|event| event["type"] != "call.dtmf"), "one digit for each 200");
}

#[tokio::test]
async fn a_day_long_session_is_cut_to_what_the_administrator_allows() {
    let lab = Lab::new("session-interval");
    let (node, mut trunk) =
        with_trunk(&lab, config(&lab).parameter("session_expires_maximum", json!("600s"))).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    for (name, headers, said) in [
        ("day", vec!["Supported: timer", "Session-Expires: 86400;refresher=uac"], "600;refresher=uac"),
        ("short", vec!["Supported: timer", "Session-Expires: 120;refresher=uas"], "120;refresher=uas"),
        ("without", vec![], "600;refresher=uas"),
    ] {
        let headers = headers.into_iter().map(str::to_owned).collect();
        let (ok, leg) = answered(&mut trunk, &mut app, &Ask { headers, ..invite("5000", name) }).await;
        assert_eq!(ok.header("Session-Expires"), Some(said), "{}", ok.0);
        app.cti.call("call.drop", json!({"leg": leg})).await;
        let bye = trunk.hear_request("BYE").await;
        trunk.reply(&bye, "200 OK", &[], "").await;
    }
    node.is_quiet().await;
}

#[tokio::test]
async fn a_trunk_whose_nonce_was_stale_is_answered_once_more() {
    let lab = Lab::new("stale");
    let trunk = lab.address();
    let config =
        config(&lab).port("PORT_001", "6001").user("dialer", &["PORT_001"]).pattern("9.!", "pstn").add(
            "trunks",
            json!({"name": "pstn", "host": trunk.ip().to_string(), "port": trunk.port(),
            "digest": {"user": "house", "password": "trunk-password"}}),
        );
    let node = Node::start(&lab, config).await;
    let trunk = Agent::at(trunk, node.sip).await;
    let mut app = App::open(&lab, &node, "dialer", "PORT_001", Media::Static).await;
    for (name, status) in [("WWW-Authenticate", "401 Unauthorized"), ("Proxy-Authenticate", "407 Proxy")] {
        let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "94711"})).await;
        for (nonce, stale) in [("n1", ""), ("n2", ", stale=true")] {
            let invite = trunk.hear_request("INVITE").await;
            let asked = format!("{name}: Digest realm=\"far\", nonce=\"{nonce}\", qop=\"auth\"{stale}");
            trunk.reply(&invite, status, &[asked], "").await;
        }
        let invite = trunk.hear_request("INVITE").await;
        assert!(invite.0.contains("nonce=\"n2\"") && !invite.0.contains("nonce=\"n1\""), "{}", invite.0);
        trunk.reply(&invite, "200 OK", &[], SDP).await;
        app.cti.expect_leg("call.connected", &made["leg"]).await;
        app.cti.call("call.drop", json!({"leg": made["leg"]})).await;
        let bye = trunk.hear_request("BYE").await;
        trunk.reply(&bye, "200 OK", &[], "").await;
    }
    node.is_quiet().await;
}

/// Everything that the caller could write, from another port of its host.
async fn imposter(
    lab: &Lab,
    node: &Node,
    of: &Agent,
    ok: &Heard,
    method: &str,
    cseq: u32,
    body: &str,
) -> Heard {
    let mut there = Agent::bind(lab, node.sip).await;
    let call_id = ok.header("Call-ID").unwrap_or_default();
    let name = call_id.split('@').next().unwrap_or_default().to_owned();
    let from = ok.header("From").unwrap_or_default().to_owned();
    let ask = Ask { method, to: "5000", from: "4000", call: &name, cseq, headers: Vec::new(), body };
    let text = there.write_in(ok, &ask);
    let own = text.lines().find(|line| line.starts_with("From:")).unwrap_or_default().to_owned();
    let text = text.replacen(&own, &format!("From: {from}"), 1);
    let text =
        text.replacen(&format!("Call-ID: {name}@{}", there.address), &format!("Call-ID: {call_id}"), 1);
    assert!(text.contains(call_id) && there.address != of.address);
    there.send(text.as_bytes()).await;
    there.final_to(&ask, &text).await
}

#[tokio::test]
async fn requests_of_a_call_come_from_its_peer_or_prove_themselves() {
    let lab = Lab::new("imposters");
    let (node, mut trunk) = with_trunk(&lab, config(&lab)).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let (ok, leg) = answered(&mut trunk, &mut app, &invite("5000", "watched")).await;
    let moved = SDP.replace("audio 4000", "audio 4666");
    for (n, (method, body)) in
        [("BYE", ""), ("INVITE", moved.as_str()), ("UPDATE", moved.as_str()), ("INFO", ""), ("REFER", "")]
            .iter()
            .enumerate()
    {
        let cseq = 10 + u32::try_from(n).unwrap_or(0);
        let said = imposter(&lab, &node, &trunk, &ok, method, cseq, body).await;
        assert_eq!(said.status(), 481, "{method}: {}", said.0);
    }
    // A phone's call: its password is asked for.
    let mut phone = phone(&lab, &node, "2001").await;
    let call = Ask { from: "2001", ..invite("5000", "phones") };
    let first = phone.write(&call);
    phone.send(first.as_bytes()).await;
    let challenge = phone.final_to(&call, &first).await;
    let proof = phone.prove(&challenge, "INVITE", "2001", &digest_password("2001"));
    let call = Ask { cseq: 2, headers: vec![format!("Authorization: {proof}")], ..call };
    let (said, phones_leg) = answered(&mut phone, &mut app, &call).await;
    for (method, status) in [("BYE", 401), ("INFO", 401)] {
        let refused = imposter(&lab, &node, &phone, &said, method, 20, "").await;
        assert_eq!(refused.status(), status, "{method}: {}", refused.0);
    }
    assert!(app.cti.kept().iter().all(|event| event["type"] != "call.disconnected"), "both calls go on");
    let status = node.admin("status");
    assert_eq!(status["sip_dialog_requests_from_elsewhere"], 7, "{status}");
    node.writes(&["SipDialogRequestsRefused", "from_elsewhere=1"]).await;
    for (agent, ok, name, leg) in
        [(&mut trunk, &ok, "watched", &leg), (&mut phone, &said, "phones", &phones_leg)]
    {
        let bye = Ask { cseq: 30, ..ask("BYE", "5000", name) };
        let text = agent.write_in(ok, &bye);
        let from = ok.header("From").unwrap_or_default();
        let own = text.lines().find(|line| line.starts_with("From:")).unwrap_or_default().to_owned();
        let text = text.replacen(&own, &format!("From: {from}"), 1);
        agent.send(text.as_bytes()).await;
        assert_eq!(agent.final_to(&bye, &text).await.status(), 200);
        app.cti.expect_leg("call.disconnected", leg).await;
    }
    node.is_quiet().await;
}

#[tokio::test]
async fn a_flood_of_digits_in_one_call_is_refused_and_another_call_hears_its_own() {
    let lab = Lab::new("digit-flood");
    let (node, mut trunk) =
        with_trunk(&lab, config(&lab).parameter("max_dialog_requests_per_second", json!(20))).await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let (loud, loud_leg) = answered(&mut trunk, &mut app, &invite("5000", "loud")).await;
    let (calm, calm_leg) = answered(&mut trunk, &mut app, &invite("5000", "calm")).await;
    let headers = vec!["Content-Type: application/dtmf".to_owned()];
    let (mut taken, mut refused) = (0u64, 0u64);
    let begun = Instant::now();
    for n in 0..400 {
        let info = Ask { cseq: 10 + n, headers: headers.clone(), body: "7", ..ask("INFO", "5000", "loud") };
        let text = trunk.write_in(&loud, &info);
        trunk.send(text.as_bytes()).await;
        let said = trunk.final_to(&info, &text).await;
        match said.status() {
            200 => taken += 1,
            503 => refused += 1,
            other => panic!("{other}: {}", said.0),
        }
    }
    let seconds = begun.elapsed().as_secs() + 2;
    assert!(taken >= 20 && taken <= 20 * seconds, "{taken} in {seconds} s");
    assert_eq!(node.admin("status")["sip_dialog_requests_too_many"], refused);
    node.writes(&["SipDialogRequestsRefused", "too_many="]).await;
    for _ in 0..taken {
        assert_eq!(app.cti.expect_leg("call.dtmf", &loud_leg).await["digit"], "7");
    }
    let info = Ask { cseq: 10, headers, body: "1", ..ask("INFO", "5000", "calm") };
    let text = trunk.write_in(&calm, &info);
    trunk.send(text.as_bytes()).await;
    assert_eq!(trunk.final_to(&info, &text).await.status(), 200);
    assert_eq!(app.cti.expect_leg("call.dtmf", &calm_leg).await["digit"], "1");
}
