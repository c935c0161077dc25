//! Trunks as they are: who calls and who sent a call on by their word, who answers, by what they are known, and numbers as
//! people write them.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::lab::agent::{Agent, Ask, Heard};
use tests::lab::app::{App, Media};
use tests::lab::node::{Config, Node, digest_password};
use tests::lab::openssl::{Client, Listener, x509};
use tests::lab::wire::first_final_status_from;
use tests::lab::{Lab, built};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

fn config(lab: &Lab, trunk: SocketAddr) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "+1 (555) 0100")
        .port("PORT_001", "5101")
        .phone("2001")
        .number("2001", json!({"display": "Ann Lee", "description": "Room 1"}))
        .trunk("pstn", trunk)
        .add("route_patterns", json!({"pattern": "9.!", "trunk": "pstn", "discard": "pre_dot"}))
        .user("attendant", &["RP_MAIN", "PORT_001", "SEP2001"])
}

struct World {
    lab: Lab,
    node: Node,
    trunk: Agent,
}

impl World {
    async fn new(name: &str) -> World {
        let lab = Lab::new(name);
        let address = lab.address();
        let node = Node::start(&lab, config(&lab, address)).await;
        let trunk = Agent::at(address, node.sip).await;
        World { lab, node, trunk }
    }
}

/// A call from the trunk with these headers, as its application sees it; the application refuses it.
async fn offered(trunk: &mut Agent, app: &mut App, call: &str, headers: &[&str]) -> Value {
    let ask = Ask {
        method: "INVITE",
        to: "+15550100",
        from: "4000",
        call,
        cseq: 1,
        headers: headers.iter().map(ToString::to_string).collect(),
        body: OFFER,
    };
    let text = trunk.write(&ask);
    trunk.send(text.as_bytes()).await;
    let leg = app.offered().await;
    app.cti.call("call.reject", json!({"leg": leg["leg"]})).await;
    assert_eq!(trunk.final_to(&ask, &text).await.status(), 603);
    leg
}

fn party(number: &str, name: Option<&str>, presentation: &str) -> Value {
    let mut party = json!({"number": number, "presentation": presentation});
    if let Some(name) = name {
        party["name"] = json!(name);
    }
    party
}

#[tokio::test]
async fn a_trunk_says_who_calls_and_who_sent_the_call_on() {
    let World { lab, node, mut trunk } = World::new("trunk-parties").await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    let shown = "allowed";
    for (call, headers, calling) in [
        ("from", &[][..], party("4000", None, shown)),
        ("pai", &["P-Asserted-Identity: \"Eve\" <tel:+49-30-123>"], party("+4930123", Some("Eve"), shown)),
        (
            "rpid",
            &["Remote-Party-ID: \"Eve\" <sip:77-7@x>;party=calling;screen=yes;privacy=off"],
            party("777", Some("Eve"), shown),
        ),
        ("rpid-full", &["Remote-Party-ID: <sip:777@x>;privacy=full"], party("777", None, "restricted")),
        ("pai-id", &["P-Asserted-Identity: <sip:777@x>", "Privacy: id"], party("777", None, "restricted")),
        (
            "broken",
            &["P-Asserted-Identity: \"Eve <sip:777@x>", "Diversion: <sip:"],
            party("4000", None, shown),
        ),
    ] {
        let leg = offered(&mut trunk, &mut app, call, headers).await;
        assert_eq!(leg["calling"], calling, "{call}: {leg}");
        assert!(leg.get("last_redirecting").is_none_or(Value::is_null), "{call}: {leg}");
    }
    for (call, headers, last, original) in [
        ("one", &["Diversion: \"Bob\" <sip:100@x>;reason=user-busy;counter=1;privacy=off"][..], "100", "100"),
        (
            "line",
            &["Diversion: <sip:100@x>;reason=no-answer, <sip:2-00@x>;reason=unconditional"],
            "100",
            "200",
        ),
        (
            "lines",
            &["Diversion: <tel:+1-100>", "Diversion: <sip:150@x>", "Diversion: <sip:200@x>"],
            "+1100",
            "200",
        ),
        (
            "history",
            &["History-Info: <sip:200@x>;index=1, <sip:100@x;cause=302>;index=1.1;mp=1, \
               <sip:5@x;cause=486>;index=1.1.1;mp=1.1"],
            "100",
            "200",
        ),
        (
            "reason",
            &["History-Info: <sip:100@x?Reason=SIP%3Bcause%3D486>;index=1,<sip:5@x>;index=2"],
            "100",
            "100",
        ),
    ] {
        let leg = offered(&mut trunk, &mut app, call, headers).await;
        assert_eq!(leg["last_redirecting"]["number"], last, "{call}: {leg}");
        assert_eq!(leg["original_called"]["number"], original, "{call}: {leg}");
    }
    node.is_quiet().await;
}

#[tokio::test]
async fn an_anonymous_caller_is_restricted_and_has_no_number() {
    let World { lab, node, mut trunk } = World::new("trunk-anonymous").await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    for (call, from) in [
        ("rfc3323", "\"Anonymous\" <sip:anonymous@anonymous.invalid>"),
        ("any", "<sip:x7b3@anonymous.invalid>"),
        ("unavailable", "<sip:unavailable@unknown.invalid>"),
        ("host", "\"anonymous\" <sip:Anonymous@127.0.0.1>"),
    ] {
        let ask = Ask {
            method: "INVITE",
            to: "+15550100",
            from: "4000",
            call,
            cseq: 1,
            headers: Vec::new(),
            body: OFFER,
        };
        let text = trunk.write(&ask);
        let text = text.replacen(&format!("<sip:4000@{}>", node.sip), from, 1);
        trunk.send(text.as_bytes()).await;
        let leg = app.offered().await;
        assert_eq!(leg["calling"], party("", None, "restricted"), "{from}");
        app.cti.call("call.reject", json!({"leg": leg["leg"]})).await;
        assert_eq!(trunk.final_to(&ask, &text).await.status(), 603);
    }
}

/// What names persons in a request.
fn headers_of(request: &Heard) -> String {
    let persons = ["From", "To", "Contact", "P-Asserted-Identity", "Remote-Party-ID", "Diversion"];
    persons.iter().filter_map(|name| request.header(name)).collect()
}

/// 2001's phone, registered.
async fn registered(lab: &Lab, node: &Node) -> Agent {
    let mut phone = Agent::bind(lab, node.sip).await;
    let ask =
        Ask { method: "REGISTER", to: "", from: "2001", call: "reg", cseq: 1, headers: Vec::new(), body: "" };
    let password = digest_password("2001");
    assert_eq!(phone.ask_as(&ask, "2001", &password).await.status(), 200);
    phone
}

#[tokio::test]
async fn a_phone_is_its_line_whatever_it_says_and_a_trunk_is_told_as_cucm_tells_it() {
    let World { lab, node, trunk } = World::new("trunk-fraud").await;
    let mut phone = registered(&lab, &node).await;
    let password = digest_password("2001");
    for (cseq, from, restricted) in [
        (1, "\"Fraud Prevention, your bank\" <sip:110@bank.example>", false),
        (3, "\"\u{202e}knab\" <sip:2001@bank.example>", false),
        (5, "\"Anonymous\" <sip:anonymous@anonymous.invalid>", true),
    ] {
        let call = format!("fraud{cseq}");
        let headers = vec![
            "P-Asserted-Identity: \"Police\" <sip:911@x>".to_owned(),
            "Remote-Party-ID: \"Police\" <sip:911@x>".to_owned(),
            "Diversion: <sip:911@x>".to_owned(),
        ];
        let mut ask =
            Ask { method: "INVITE", to: "95550199", from: "2001", call: &call, cseq, headers, body: OFFER };
        let challenge = phone.ask(&ask).await;
        assert_eq!(challenge.status(), 401);
        let proof = phone.prove(&challenge, "INVITE", "2001", &password);
        ask.headers.push(format!("Authorization: {proof}"));
        ask.cseq += 1;
        let written = format!("<sip:2001@{}>", node.sip);
        let text = phone.write(&ask).replacen(&written, from, 1);
        phone.send(text.as_bytes()).await;
        let invite = trunk.hear_request("INVITE").await;
        let lies = ["911", "Police", "Fraud", "bank", "knab", "\u{202e}"];
        assert!(lies.iter().all(|lie| !headers_of(&invite).contains(lie)), "{}", invite.0);
        let privacy = if restricted { "full" } else { "off" };
        let remote = invite.header("Remote-Party-ID").unwrap_or_default();
        assert!(remote.starts_with("\"Ann Lee\" <sip:2001@"), "{remote}");
        assert!(remote.ends_with(&format!(";party=calling;screen=yes;privacy={privacy}")), "{remote}");
        assert!(
            invite.header("P-Asserted-Identity").is_some_and(|pai| pai.starts_with("\"Ann Lee\" <sip:2001@"))
        );
        let shown = if restricted {
            "\"Anonymous\" <sip:anonymous@anonymous.invalid>"
        } else {
            "\"Ann Lee\" <sip:2001@"
        };
        assert!(invite.header("From").is_some_and(|from| from.starts_with(shown)), "{}", invite.0);
        assert_eq!(invite.header("Privacy"), restricted.then_some("id"));
        assert_eq!(invite.header("Diversion"), None);
        trunk.answer(&invite, "486 Busy Here", "", "").await;
        assert_eq!(phone.final_to(&ask, &text).await.status(), 486);
        trunk.hear_request("ACK").await;
    }
}

#[tokio::test]
async fn who_answers_behind_a_trunk_and_who_takes_over_is_told() {
    let World { lab, node, mut trunk } = World::new("trunk-connected").await;
    let mut app = App::open(&lab, &node, "attendant", "PORT_001", Media::Static).await;
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "9-555-0199"})).await;
    let leg = made["leg"].clone();
    let invite = trunk.hear_request("INVITE").await;
    assert!(invite.0.starts_with("INVITE sip:5550199@"), "{}", invite.0);
    let headers = format!(
        "Contact: <sip:4000@{}>\r\nP-Asserted-Identity: \"Zoe\" <tel:555-0123>\r\n\
         Allow: INVITE, ACK, BYE, UPDATE\r\n",
        trunk.address
    );
    trunk.answer(&invite, "200 OK", &headers, OFFER).await;
    let connected = app.cti.expect_leg("call.connected", &leg).await;
    assert_eq!(connected["leg"]["connected"], party("5550123", Some("Zoe"), "allowed"));
    let changed = app.cti.expect_leg("call.changed", &leg).await;
    assert_eq!(changed["leg"]["connected"]["number"], "5550123");
    trunk.hear_request("ACK").await;
    for (cseq, method, header, number, body) in [
        (1, "UPDATE", "Remote-Party-ID: \"Max\" <sip:5550124@x>;party=calling;privacy=off", "5550124", ""),
        (2, "INVITE", "P-Asserted-Identity: <sip:555-0125@x>", "5550125", OFFER),
    ] {
        let text = trunk.write_within(&invite, method, cseq, &[header], body);
        trunk.send(text.as_bytes()).await;
        let changed = app.cti.expect_leg("call.changed", &leg).await;
        assert_eq!(changed["leg"]["connected"]["number"], number, "{method}");
        let answer = trunk.hear_final().await;
        assert_eq!(answer.status(), 200, "{}", answer.0);
        if method == "INVITE" {
            let ack = trunk.write_within(&invite, "ACK", cseq, &[], "");
            trunk.send(ack.as_bytes()).await;
        }
    }
    app.drop_call(&leg).await;
    let bye = trunk.hear_request("BYE").await;
    trunk.answer(&bye, "200 OK", "", "").await;
    node.is_quiet().await;
}

#[tokio::test]
async fn numbers_are_dialled_and_configured_as_people_write_them() {
    let World { lab, node, mut trunk } = World::new("trunk-numbers").await;
    let mut app = App::open(&lab, &node, "attendant", "RP_MAIN", Media::Static).await;
    for (call, uri) in [
        ("tel", "tel:+1-555-0100".to_owned()),
        ("phone", format!("sip:+1-555.0100@{};user=phone", node.sip)),
        ("escaped", format!("sip:%2B1%20(555)%200100;phone-context=x@{}", node.sip)),
    ] {
        let ask = Ask {
            method: "INVITE",
            to: "+15550100",
            from: "4000",
            call,
            cseq: 1,
            headers: Vec::new(),
            body: OFFER,
        };
        let text = trunk.write(&ask).replacen(&format!("sip:+15550100@{}", node.sip), &uri, 1);
        trunk.send(text.as_bytes()).await;
        let leg = app.offered().await;
        assert_eq!(
            (&leg["dn"], &leg["called"]["number"]),
            (&json!("+15550100"), &json!("+15550100")),
            "{uri}"
        );
        app.cti.call("call.reject", json!({"leg": leg["leg"]})).await;
        assert_eq!(trunk.final_to(&ask, &text).await.status(), 603);
    }
    let too_long = "1".repeat(65);
    let ask = Ask {
        method: "INVITE",
        to: &too_long,
        from: "1",
        call: "long",
        cseq: 1,
        headers: Vec::new(),
        body: OFFER,
    };
    assert_eq!(trunk.ask(&ask).await.status(), 404);
    let forward = json!({"device": "RP_MAIN", "dn": "+1-555-0100", "destination": "(5)1-01"});
    app.cti.call("line.set_forward", forward).await;
    let changed = app.cti.expect("line.forward_changed").await;
    assert_eq!(changed["line"]["forward_all"], "5101", "{changed}");
    let file = node.file().display().to_string();
    let told = Command::new(built("ctimanager"))
        .args(["dependencies", "tel:+1-555-0100", "--config", &file])
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("RP_MAIN"), "{told}");
}

/// An INVITE over a connection whose Via claims to be the trunk.
fn claim(trunk: SocketAddr, node: SocketAddr, transport: &str, call: &str) -> String {
    format!(
        "INVITE sip:404@{node} SIP/2.0\r\nVia: SIP/2.0/{transport} {trunk};branch=z9hG4bK{call};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:4000@{trunk}>;tag=a\r\nTo: <sip:404@{node}>\r\nCall-ID: {call}@x\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:4000@{trunk};transport={transport}>\r\nContent-Length: 0\r\n\r\n"
    )
}

#[tokio::test]
async fn a_tcp_trunk_is_where_its_connection_comes_from() {
    let lab = Lab::new("trunk-tcp");
    let (strict, open) = (lab.address(), lab.address());
    let entry = |name: &str, at: SocketAddr| json!({"name": name, "host": at.ip(), "port": at.port(), "transport": "tcp"});
    let config =
        config(&lab, lab.address()).add("trunks", entry("strict", strict)).add("trunks", entry("any", open));
    let mut node = Node::start(&lab, config.clone()).await;
    // What the Via says proves nothing.
    let stranger = claim(strict, node.sip, "TCP", "stranger");
    assert_eq!(first_final_status_from(lab.host(), node.sip, stranger.as_bytes()).await, Some(401));
    node.writes(&["somebody at a trunk's address", "strict"]).await;
    node.reloads(&config.set("trunks", "any", "source_port", json!("any")));
    let ephemeral = claim(open, node.sip, "TCP", "ephemeral");
    assert_eq!(first_final_status_from(lab.host(), node.sip, ephemeral.as_bytes()).await, Some(404));
    node.writes(&["a trunk is known", "by=address"]).await;
    node.is_well();
}

/// A certificate of the node's authority with this common name alone.
fn client(pki: &Path, name: &str) -> (PathBuf, PathBuf) {
    let mut command = Command::new(built("ctimanager"));
    let made =
        command.args(["pki", "client"]).arg(pki).args(["--user", name]).output().expect("the program runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |ending: &str| pki.join("clients").join(format!("{name}.{ending}"));
    (file("pem"), file("key"))
}

/// A peer with this certificate that has called as the trunk at that address.
async fn calls_over_tls(
    lab: &Lab,
    node: &Node,
    certificate: Option<&(PathBuf, PathBuf)>,
    at: SocketAddr,
    call: &str,
) -> Client {
    let mut words = vec!["-quiet".to_owned()];
    if let Some((pem, key)) = certificate {
        let shown = |path: &Path| path.display().to_string();
        words.extend(["-cert".into(), shown(pem), "-key".into(), shown(key)]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut peer = Client::connect_in(&lab.folder(call), node.sips, &node.ca(), &words);
    // The last end of line is written by `say`.
    peer.say(claim(at, node.sips, "TLS", call).trim_end_matches('\n'));
    peer
}

#[tokio::test]
async fn a_trunks_certificate_is_taken_back_by_its_own_authority_or_the_clusters() {
    let lab = Lab::new("trunk-revoked");
    let (here, there) = (lab.address(), lab.address());
    let trunk = |name: &str, at: SocketAddr| json!({"name": name, "host": at.ip(), "port": at.port(), "transport": "tls"});
    let pki = |words: &[&str], folder: &Path, more: &[&str]| {
        let made = Command::new(built("ctimanager")).arg("pki").args(words).arg(folder).args(more).output();
        assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");
    };
    let (mut carrier, foreign) = (trunk("carrier", there), lab.folder("foreign"));
    pki(&["init"], &foreign, &[]);
    carrier["tls_subject"] = json!("sbc.example.com");
    carrier["ca"] = json!(foreign.join("ca.pem"));
    let config = config(&lab, lab.address()).add("trunks", trunk("here", here)).add("trunks", carrier);
    let node = Node::start(&lab, config.clone()).await;
    let host = here.ip().to_string();
    let [own, theirs] = [client(&node.pki(), &host), client(&foreign, "sbc.example.com")];
    let mut ours = calls_over_tls(&lab, &node, Some(&own), here, "ours").await;
    ours.says("SIP/2.0 404").await;
    let mut peer = calls_over_tls(&lab, &node, Some(&theirs), there, "theirs").await;
    peer.says("SIP/2.0 404").await;

    pki(&["revoke"], &foreign, &["--user", "sbc.example.com"]);
    let with_list = config.clone().set("trunks", "carrier", "crl", json!(foreign.join("crl.pem")));
    let misplaced = config.set("trunks", "here", "crl", json!(foreign.join("crl.pem")));
    let refused = node.reload(&misplaced);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("trunks[1].crl"), "{refused:?}");
    node.reloads(&with_list);
    // Its connection is closed, and what it shows from now on is nobody's.
    peer.ends().await;
    node.writes(&["SipCertificateRevoked", "subject=sbc.example.com"]).await;
    calls_over_tls(&lab, &node, Some(&theirs), there, "again").await.says("SIP/2.0 401").await;
    pki(&["client"], &foreign, &["--user", "sbc.example.com", "--renew"]);
    calls_over_tls(&lab, &node, Some(&theirs), there, "renewed").await.says("SIP/2.0 404").await;

    pki(&["revoke"], &node.pki(), &["--user", &host]);
    node.reloads(&with_list);
    ours.ends().await;
    node.writes(&["SipCertificateRevoked", &format!("subject={host}")]).await;
    calls_over_tls(&lab, &node, Some(&own), here, "late").await.says("SIP/2.0 401").await;
}

#[tokio::test]
async fn a_tls_trunk_is_whose_certificate_names_it() {
    let lab = Lab::new("trunk-tls");
    let (here, there) = (lab.address(), lab.address());
    let trunk = |name: &str, at: SocketAddr| json!({"name": name, "host": at.ip(), "port": at.port(), "transport": "tls"});
    let mut carrier = trunk("carrier", there);
    carrier["tls_subject"] = json!("sbc.example.com");
    let foreign = lab.folder("foreign");
    let made = Command::new(built("ctimanager")).args(["pki", "init"]).arg(&foreign).output();
    assert!(made.is_ok_and(|made| made.status.success()));
    carrier["ca"] = json!(foreign.join("ca.pem"));
    let config = config(&lab, lab.address()).add("trunks", trunk("here", here)).add("trunks", carrier);
    let node = Node::start(&lab, config).await;
    let host = here.ip().to_string();
    let own = client(&node.pki(), &host);
    let other = client(&node.pki(), "attendant");
    let named_by_ours = client(&node.pki(), "sbc.example.com");
    let named_by_theirs = client(&foreign, "sbc.example.com");
    for (call, certificate, at, expected) in [
        ("none", None, here, "SIP/2.0 401"),
        ("application", Some(&other), here, "SIP/2.0 401"),
        ("own", Some(&own), here, "SIP/2.0 404"),
        ("cluster", Some(&named_by_ours), there, "SIP/2.0 401"),
        ("carrier", Some(&named_by_theirs), there, "SIP/2.0 404"),
    ] {
        calls_over_tls(&lab, &node, certificate, at, call).await.says(expected).await;
    }
    node.writes(&["a trunk is known", "here", "by=certificate"]).await;
    node.writes(&["a trunk is known", "carrier", "by=certificate"]).await;
}

#[tokio::test]
async fn a_trunk_with_a_name_is_asked_for_a_certificate_with_that_name() {
    let lab = Lab::new("trunk-sni");
    let listen = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (good, bad) = (listen(lab.port()), listen(lab.port()));
    let trunk =
        |name: &str, port: u16| json!({"name": name, "host": "localhost", "port": port, "transport": "tls"});
    let config = config(&lab, lab.address())
        .add("trunks", trunk("good", good.port()))
        .add("trunks", trunk("bad", bad.port()))
        .pattern("7.!", "good")
        .pattern("8.!", "bad");
    let node = Node::start(&lab, config).await;
    let subject = x509(&node.pki().join("cm1.pem"), &["-subject"]);
    let host = lab.host();
    assert!(subject.contains("CN = cm1") && subject.contains(&format!("CN = {host}")), "{subject}");
    // One certificate has the name and not the address, the other the address and not the name.
    let by_name = certificate(&lab, &node.pki(), "by-name", "DNS:localhost");
    let by_address = certificate(&lab, &node.pki(), "by-address", "IP:127.0.0.1");
    let mut named = Listener::start(&lab, good, (&by_name.0, &by_name.1), &node.ca()).await;
    let mut addressed = Listener::start(&lab, bad, (&by_address.0, &by_address.1), &node.ca()).await;
    let mut app = App::open(&lab, &node, "attendant", "PORT_001", Media::Static).await;
    app.cti.call("call.make", json!({"device": "PORT_001", "destination": "7123"})).await;
    named.shows("INVITE sip:").await;
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "8123"})).await;
    addressed.shows("alert").await;
    app.cti.expect_leg("call.failed", &made["leg"]).await;
    assert!(!addressed.log().contains("INVITE"), "{}", addressed.log());
}

/// A number of its own for each name.
fn serial(name: &str) -> String {
    name.bytes().fold(1_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())).to_string()
}

/// A certificate of the node's authority with this alternative name.
fn certificate(lab: &Lab, pki: &Path, name: &str, alternative: &str) -> (PathBuf, PathBuf) {
    let folder = lab.folder("made");
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    request.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName={alternative}")]);
    request.args(["-keyout"]).arg(file("key")).arg("-out").arg(file("csr"));
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-days", "10", "-copy_extensions", "copy", "-CA"]);
    sign.arg(pki.join("ca.pem")).arg("-CAkey").arg(pki.join("ca.key"));
    // Without a file of numbers: openssl takes no long path for that.
    sign.arg("-set_serial").arg(serial(name));
    sign.arg("-in").arg(file("csr")).arg("-out").arg(file("pem"));
    for mut command in [request, sign] {
        let made = command.output().expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    (file("pem"), file("key"))
}

#[test]
fn a_file_with_a_byte_order_mark_is_named() {
    let lab = Lab::new("bom");
    let file = lab.folder("bom").join("hq.yaml");
    let text = config(&lab, lab.address()).to_string();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (bytes, expected) in [
        (format!("\u{feff}{text}").into_bytes(), "hq.yaml:1:1: a byte order mark (U+FEFF)"),
        (utf16(&format!("\u{feff}{text}")), "hq.yaml:1:1: the file is encoded as UTF-16"),
        (utf16(&text), "hq.yaml:1:1: the file is encoded as UTF-16"),
    ] {
        std::fs::write(&file, bytes).expect("a file");
        let checked = Command::new(built("ctimanager")).arg("check-config").arg(&file).output();
        let checked = checked.expect("the program runs");
        let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(said.contains(expected), "{said}");
        assert_eq!(checked.status.code(), Some(1));
    }
}
