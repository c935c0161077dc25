//! Offers and answers byte by byte against a real node: which line of a description is taken, what a refused line means,
//! early and late offers, and the numbers of payload types.

use serde_json::{Value, json};
use std::net::SocketAddr;
use tests::lab::agent::{Agent, Heard};
use tests::lab::app::{App, Media, media_address};
use tests::lab::cti::leg_of;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::{Lab, SOON};

/// The far side of a trunk, one call at a time.
struct Peer {
    agent: Agent,
    node: SocketAddr,
    call_id: String,
    /// Our side and the node's, as From and To have them.
    ours: String,
    theirs: String,
    target: String,
    cseq: u32,
    calls: u32,
}

struct Place {
    lab: Lab,
    node: Node,
    peer: Peer,
}

impl Place {
    /// `settings` are the trunk's beside its address.
    async fn new(test: &str, settings: Value) -> Place {
        let lab = Lab::new(test);
        let trunk = lab.address();
        let mut entry = json!({"name": "pstn", "host": trunk.ip(), "port": trunk.port(), "transport": "udp"});
        settings.as_object().into_iter().flatten().for_each(|(key, value)| entry[key] = value.clone());
        let config = Config::new(&lab)
            .port("PORT_001", "5101")
            .add("trunks", entry)
            .pattern("9.!", "pstn")
            .user("ivr", &["PORT_001"]);
        let node = Node::start(&lab, config).await;
        let agent = Agent::at(trunk, node.sip).await;
        let peer = Peer {
            agent,
            node: node.sip,
            call_id: String::new(),
            ours: String::new(),
            theirs: String::new(),
            target: String::new(),
            cseq: 0,
            calls: 0,
        };
        Place { lab, node, peer }
    }

    async fn app(&self, media: Media) -> App {
        App::open(&self.lab, &self.node, "ivr", "PORT_001", media).await
    }

    async fn app_with(&self, media: Value) -> App {
        let mut cti = self.node.application("ivr").await;
        cti.call("device.open", json!({"device": "PORT_001", "media": media})).await;
        cti.expect("device.in_service").await;
        let voice = tests::lab::rtp::Endpoint::bind(&self.lab).await;
        App { cti, voice, device: "PORT_001".into() }
    }

    async fn ends_well(mut self) {
        self.node.is_quiet().await;
        self.node.is_well();
    }
}

impl Peer {
    fn description(&self, lines: &[&str]) -> String {
        let ip = self.agent.address.ip();
        let lines = lines.join("\r\n");
        format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{lines}\r\n")
    }

    async fn request(&mut self, method: &str, body: &str) {
        let (here, Peer { call_id, ours, theirs, target, cseq, .. }) = (self.agent.address, &*self);
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{call_id}{method}{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: {ours}\r\nTo: {theirs}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:4000@{here}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.agent.send(text.as_bytes()).await;
    }

    /// Calls the port and gives the final response; a refusal is acknowledged.
    async fn calls(&mut self, body: &str) -> Heard {
        let (here, node) = (self.agent.address, self.node);
        self.calls += 1;
        self.call_id = format!("o{}", self.calls);
        self.ours = format!("<sip:4000@{here}>;tag=o{}", self.calls);
        (self.theirs, self.target) = (format!("<sip:5101@{node}>"), format!("sip:5101@{node}"));
        self.cseq = 1;
        self.request("INVITE", body).await;
        self.final_response().await
    }

    /// Offers anew within the call.
    async fn offers(&mut self, body: &str) -> Heard {
        self.cseq += 1;
        self.request("INVITE", body).await;
        self.final_response().await
    }

    async fn final_response(&mut self) -> Heard {
        let heard = self.hears(|heard| heard.status() >= 200).await;
        let to = heard.header("To").unwrap_or_default().to_owned();
        if heard.status() < 300 {
            self.theirs = to;
        } else {
            let before = std::mem::replace(&mut self.theirs, to);
            let (here, Peer { call_id, ours, theirs, target, cseq, .. }) = (self.agent.address, &*self);
            let ack = format!(
                "ACK {target} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{call_id}INVITE{cseq};rport\r\n\
                 Max-Forwards: 70\r\nFrom: {ours}\r\nTo: {theirs}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} ACK\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            self.agent.send(ack.as_bytes()).await;
            self.theirs = before;
        }
        heard
    }

    /// Passes over what doesn't fit: provisionals and repetitions.
    async fn hears(&mut self, fits: impl Fn(&Heard) -> bool) -> Heard {
        loop {
            let heard = self.agent.hear().await;
            if fits(&heard) {
                return heard;
            }
        }
    }

    /// The node's request of this method.
    async fn takes(&mut self, method: &str) -> Heard {
        self.hears(|heard| heard.0.starts_with(&format!("{method} "))).await
    }

    async fn answers(&mut self, request: &Heard, status: &str, body: &str) {
        let copied = ["Via", "From", "Call-ID", "CSeq"]
            .map(|name| format!("{name}: {}\r\n", request.header(name).unwrap_or_default()));
        let to = request.header("To").unwrap_or_default();
        let tag = if to.contains("tag=") { "" } else { ";tag=callee" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\n{}To: {to}{tag}\r\nContact: <sip:4000@{}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            copied.concat(),
            self.agent.address,
            body.len()
        );
        self.agent.send(text.as_bytes()).await;
    }

    /// The node hangs up.
    async fn is_hung_up(&mut self) {
        let bye = self.takes("BYE").await;
        self.answers(&bye, "200 OK", "").await;
    }

    async fn hangs_up(&mut self) {
        self.cseq += 1;
        self.request("BYE", "").await;
        self.hears(|heard| heard.status() == 200).await;
    }
}

fn media_lines(heard: &Heard) -> Vec<&str> {
    heard.0.lines().filter(|line| line.starts_with("m=")).collect()
}

const CRYPTO: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

#[tokio::test]
async fn the_first_line_that_an_application_can_speak_is_taken_and_keeps_its_place() {
    let mut place = Place::new("lines", json!({})).await;
    let mut app = place.app(Media::Static).await;
    let cases: [(&[&str], [&str; 2], usize); 3] = [
        (&["m=audio 30000 RTP/SAVP 0", CRYPTO, "m=audio 30002 RTP/AVP 0"], ["m=audio 0 RTP/SAVP 0", ""], 1),
        (&["m=video 30000 RTP/AVP 99", "m=audio 30002 RTP/AVP 0 18"], ["m=video 0 RTP/AVP 99", ""], 1),
        (&["m=audio 30002 RTP/AVP 0", "m=audio 30004 RTP/AVP 8"], ["", "m=audio 0 RTP/AVP 8"], 0),
    ];
    for (offer, refused, taken) in cases {
        let offer = place.peer.description(offer);
        let mut ours = refused.map(str::to_owned);
        ours[taken] = format!("m=audio {} RTP/AVP 0", app.voice.address.port());
        let body = offer.clone();
        let answering = async {
            let leg = app.offered().await["leg"].clone();
            app.cti.call("call.answer", json!({"leg": leg})).await;
            leg
        };
        let (ok, leg) = tokio::join!(place.peer.calls(&body), answering);
        assert_eq!((ok.status(), media_lines(&ok)), (200, ours.iter().map(String::as_str).collect()));
        place.peer.request("ACK", "").await;
        assert_eq!(app.output(&leg).await.port(), 30_002);
        app.cti.call("call.hold", json!({"leg": leg})).await;
        let hold = place.peer.takes("INVITE").await;
        let kinds = |lines: Vec<&str>| {
            lines.iter().map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(media_lines(&hold)), kinds(media_lines(&ok)), "hold keeps the places: {}", hold.0);
        assert_eq!(media_lines(&hold)[1 - taken], refused[1 - taken]);
        let still = offer.replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n");
        place.peer.answers(&hold, "200 OK", &still).await;
        place.peer.takes("ACK").await;
        place.peer.hangs_up().await;
        app.cti.expect_leg("call.disconnected", &leg).await;
    }
    place.ends_well().await;
}

#[tokio::test]
async fn an_offer_that_an_application_cannot_speak_is_refused_before_any_event() {
    let mut place = Place::new("unspeakable", json!({})).await;
    let mut app = place.app(Media::Static).await;
    for lines in [
        &["m=audio 30000 RTP/SAVP 0", CRYPTO][..],
        &["m=audio 30000 UDP/TLS/RTP/SAVPF 0"],
        &["m=audio 0 RTP/AVP 0", "m=image 4000 udptl t38"],
        &["m=audio 30000 RTP/AVP 0", "a=rtpmap:0 PCMU/16000"],
        &["m=audio 30000 RTP/AVP 0", "c=IN IP6 2001:db8::1"],
    ] {
        let offer = place.peer.description(lines);
        assert_eq!(place.peer.calls(&offer).await.status(), 488, "{lines:?}");
    }
    let named = place.peer.description(&["m=audio 30000 RTP/AVP 0", "c=IN IP4 media.example.com"]);
    let refused = place.peer.calls(&named).await;
    assert_eq!(refused.status(), 488);
    assert!(refused.header("Warning").is_some_and(|warning| warning.starts_with("301 ")), "{}", refused.0);
    // The first event is that of a call that can be spoken, whose origin nobody can read.
    let good = place.peer.description(&["m=audio 30000 RTP/AVP 8"]).replacen(" IN IP4", "", 1);
    let answering = async {
        let leg = app.offered().await["leg"].clone();
        app.cti.call("call.answer", json!({"leg": leg})).await;
        leg
    };
    let (ok, leg) = tokio::join!(place.peer.calls(&good), answering);
    assert_eq!(ok.status(), 200);
    place.peer.request("ACK", "").await;
    app.output(&leg).await;
    place.peer.hangs_up().await;
    app.cti.expect_leg("call.disconnected", &leg).await;
    place.ends_well().await;
}

#[tokio::test]
async fn fax_and_other_offers_without_audio_change_nothing_at_an_application() {
    let mut place = Place::new("fax", json!({})).await;
    let mut app = place.app(Media::Static).await;
    let offer = place.peer.description(&["m=audio 30000 RTP/AVP 0"]);
    let answering = async {
        let leg = app.offered().await["leg"].clone();
        app.cti.call("call.answer", json!({"leg": leg})).await;
        leg
    };
    let (_, leg) = tokio::join!(place.peer.calls(&offer), answering);
    place.peer.request("ACK", "").await;
    app.output(&leg).await;
    for lines in [
        &["m=audio 0 RTP/AVP 0", "m=image 4000 udptl t38"][..],
        &["m=audio 0 RTP/AVP 0"],
        &["m=audio 30000 RTP/SAVP 0", CRYPTO],
    ] {
        let offer = place.peer.description(lines);
        assert_eq!(place.peer.offers(&offer).await.status(), 488, "{lines:?}");
    }
    place.peer.hangs_up().await;
    let gone = app.cti.expect_leg("call.disconnected", &leg).await;
    let stopped = |event: &&Value| event["type"] == "media.stopped";
    assert_eq!(gone["leg"]["cause"]["code"], 16, "{gone}");
    assert_eq!(
        app.cti.kept().iter().filter(stopped).count(),
        2,
        "both at the end alone: {:?}",
        app.cti.kept()
    );
    assert!(!app.cti.kept().iter().any(|event| event["type"] == "call.held"));
    place.ends_well().await;
}

async fn makes_a_call(app: &mut App) -> Value {
    app.cti.call("call.make", json!({"device": "PORT_001", "destination": "95551234"})).await["leg"].clone()
}

#[tokio::test]
async fn an_answer_that_refuses_the_audio_ends_the_call() {
    let mut place = Place::new("refused-answer", json!({})).await;
    let mut app = place.app(Media::Static).await;
    for lines in [&["m=audio 0 RTP/AVP 0"][..], &["m=audio 30000 RTP/AVP 18"]] {
        let leg = makes_a_call(&mut app).await;
        let invite = place.peer.takes("INVITE").await;
        assert_eq!(media_lines(&invite).len(), 1, "static media are offered: {}", invite.0);
        let answer = place.peer.description(lines);
        place.peer.answers(&invite, "200 OK", &answer).await;
        place.peer.takes("ACK").await;
        place.peer.is_hung_up().await;
        let failed = app.cti.expect_leg("call.failed", &leg).await;
        assert_eq!(failed["leg"]["cause"]["code"], 65, "{failed}");
        app.cti.expect_leg("call.disconnected", &leg).await;
    }
    place.ends_well().await;
}

#[tokio::test]
async fn a_late_offer_that_cannot_be_spoken_gets_an_answer_and_a_bye() {
    let mut place = Place::new("late-refused", json!({"offer": "late"})).await;
    let mut app = place.app(Media::Dynamic).await;
    for lines in [
        &["m=audio 30000 RTP/SAVP 0", CRYPTO][..],
        &["m=audio 30000 UDP/TLS/RTP/SAVPF 0"],
        &["m=audio 30000 RTP/AVP 18", "m=video 30002 RTP/AVP 99"],
        &["m=audio 30000 RTP/AVP 0", "c=IN IP4 media.example.com"],
    ] {
        let leg = makes_a_call(&mut app).await;
        let invite = place.peer.takes("INVITE").await;
        assert!(media_lines(&invite).is_empty(), "{}", invite.0);
        let offer = place.peer.description(lines);
        place.peer.answers(&invite, "200 OK", &offer).await;
        let ack = place.peer.takes("ACK").await;
        let ports: Vec<_> = media_lines(&ack).iter().filter_map(|line| line.split(' ').nth(1)).collect();
        let offered = lines.iter().filter(|line| line.starts_with("m=")).count();
        assert_eq!(ports, vec!["0"; offered], "{}", ack.0);
        place.peer.is_hung_up().await;
        let failed = app.cti.expect_leg("call.failed", &leg).await;
        assert_eq!(failed["leg"]["cause"]["code"], 65, "{failed}");
        app.cti.expect_leg("call.disconnected", &leg).await;
    }
    assert!(!app.cti.kept().iter().any(|event| event["type"] == "call.connected"));
    // One that can be spoken is connected, and its answer is in the ACK.
    let leg = makes_a_call(&mut app).await;
    let invite = place.peer.takes("INVITE").await;
    let offer = place.peer.description(&["m=audio 30000 RTP/AVP 0"]);
    place.peer.answers(&invite, "200 OK", &offer).await;
    app.cti.expect_leg("media.open_channel", &leg).await;
    let address = app.voice.address;
    app.cti.call("call.set_media", json!({"leg": leg, "ip": address.ip(), "port": address.port()})).await;
    let ack = place.peer.takes("ACK").await;
    assert_eq!(media_lines(&ack), [format!("m=audio {} RTP/AVP 0", address.port())]);
    app.cti.call("call.drop", json!({"leg": leg})).await;
    place.peer.is_hung_up().await;
    place.ends_well().await;
}

#[tokio::test]
async fn a_dynamic_port_is_asked_before_it_calls_and_hears_early_media() {
    let mut place = Place::new("early-offer", json!({})).await;
    let mut app = place.app(Media::Dynamic).await;
    let leg = makes_a_call(&mut app).await;
    let asked = app.cti.expect_leg("media.open_channel", &leg).await;
    assert_eq!((&asked["leg"]["state"], &asked["far"]), (&json!("proceeding"), &Value::Null), "{asked}");
    let address = app.voice.address;
    app.cti.call("call.set_media", json!({"leg": leg, "ip": address.ip(), "port": address.port()})).await;
    let invite = place.peer.takes("INVITE").await;
    assert_eq!(media_lines(&invite), [format!("m=audio {} RTP/AVP 0 8 101", address.port())]);
    let early = place.peer.description(&["m=audio 30000 RTP/AVP 8"]);
    place.peer.answers(&invite, "183 Session Progress", &early).await;
    app.cti.expect_leg("call.ringback", &leg).await;
    let is_input = |event: &Value| leg_of(event) == leg && event["direction"] == "input";
    let input = app.cti.expect_event("media.started", is_input, SOON).await;
    assert_eq!((media_address(&input), &input["codec"]), (address, &json!("PCMA")), "{input}");
    assert_eq!(app.output(&leg).await.port(), 30_000);
    place.peer.answers(&invite, "200 OK", &early).await;
    place.peer.takes("ACK").await;
    app.cti.expect_leg("call.connected", &leg).await;
    app.cti.call("call.drop", json!({"leg": leg})).await;
    place.peer.is_hung_up().await;
    app.cti.expect_leg("call.disconnected", &leg).await;
    let started = |event: &&Value| event["type"] == "media.started";
    assert_eq!(app.cti.kept().iter().filter(started).count(), 0, "the streams go on: {:?}", app.cti.kept());
    // Who leads nowhere is told at once, without a question; who is not answered calls nobody.
    let made = app.cti.call("call.make", json!({"device": "PORT_001", "destination": "4711"})).await;
    let failed = app.cti.expect_leg("call.failed", &made["leg"]).await;
    assert_eq!(failed["leg"]["cause"]["code"], 1, "{failed}");
    let leg = makes_a_call(&mut app).await;
    app.cti.expect_leg("media.open_channel", &leg).await;
    app.drop_call(&leg).await;
    place.ends_well().await;
}

#[tokio::test]
async fn input_bears_our_payload_types_and_output_the_far_ends() {
    let mut place = Place::new("numbers", json!({})).await;
    let media = json!({"mode": "dynamic", "codecs": ["opus"]});
    let mut app = place.app_with(media).await;
    let address = app.voice.address;
    let leg = makes_a_call(&mut app).await;
    app.cti.expect_leg("media.open_channel", &leg).await;
    app.cti.call("call.set_media", json!({"leg": leg, "ip": address.ip(), "port": address.port()})).await;
    let invite = place.peer.takes("INVITE").await;
    assert_eq!(media_lines(&invite), [format!("m=audio {} RTP/AVP 111 101", address.port())]);
    let answer = |types: &str| {
        let (codec, events) = types.split_once(' ').unwrap_or((types, ""));
        vec![
            format!("m=audio 30000 RTP/AVP {types}"),
            format!("a=rtpmap:{codec} OPUS/48000/2"),
            format!("a=rtpmap:{events} telephone-event/8000"),
        ]
    };
    let describe = |peer: &Peer, types: &str| {
        let lines = answer(types);
        peer.description(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let body = describe(&place.peer, "122 96");
    place.peer.answers(&invite, "200 OK", &body).await;
    place.peer.takes("ACK").await;
    numbers(&mut app, &leg, [(111, 101), (122, 96)]).await;
    // The far end offers: the answer bears its numbers.
    place.peer.call_id = invite.header("Call-ID").unwrap_or_default().to_owned();
    place.peer.ours = format!("{};tag=callee", invite.header("To").unwrap_or_default());
    place.peer.theirs = invite.header("From").unwrap_or_default().to_owned();
    place.peer.target = format!("sip:5101@{}", place.peer.node);
    let body = describe(&place.peer, "123 97");
    let ok = place.peer.offers(&body).await;
    assert_eq!(media_lines(&ok), [format!("m=audio {} RTP/AVP 123 97", address.port())]);
    place.peer.request("ACK", "").await;
    numbers(&mut app, &leg, [(123, 97), (123, 97)]).await;
    app.cti.call("call.drop", json!({"leg": leg})).await;
    place.peer.is_hung_up().await;
    place.ends_well().await;
}

/// The SDK's part of it: an address when it is asked, and media that flow when the call is connected.
#[tokio::test]
async fn an_application_of_the_sdk_calls_with_an_address_of_its_own() {
    let mut place = Place::new("sdk-calls", json!({})).await;
    let ca_pem = std::fs::read_to_string(place.node.ca()).expect("the lab's authority");
    let transport = client::Transport::Tls { ca_pem, server_name: None, identity: None };
    let server = place.node.cti.to_string();
    let config = client::ProviderConfig::new(&server, transport, "ivr", PASSWORD.to_owned().into(), "sdk");
    let provider = client::Provider::connect(config).await.expect("the node is there");
    let terminal = provider.terminal("PORT_001");
    terminal.open_with_dynamic_media().await.expect("it may");
    let ip = place.peer.agent.address.ip();
    let making = client::IvrCall::make(&terminal, "95551234", client::MakeCall::default(), ip);
    let answering = async {
        let invite = place.peer.takes("INVITE").await;
        let answer = place.peer.description(&["m=audio 30000 RTP/AVP 0"]);
        place.peer.answers(&invite, "200 OK", &answer).await;
        place.peer.takes("ACK").await;
        invite
    };
    let (call, invite) = tokio::join!(making, answering);
    let call = call.expect("it is answered");
    let port = call.endpoint().local_addr().port().to_string();
    assert_eq!(media_lines(&invite)[0].split(' ').nth(1), Some(port.as_str()), "{}", invite.0);
    let (hung_up, ()) = tokio::join!(call.hang_up(), place.peer.is_hung_up());
    hung_up.expect("it is up");
    provider.close().await.expect("the node is there");
    place.ends_well().await;
}

/// Payload type and that of telephone-event of the streams that start next: input, output.
async fn numbers(app: &mut App, leg: &Value, expected: [(u64, u64); 2]) {
    for (direction, numbers) in ["input", "output"].into_iter().zip(expected) {
        let this = |event: &Value| leg_of(event) == *leg && event["direction"] == direction;
        let started = app.cti.expect_event("media.started", this, SOON).await;
        let got = (started["payload_type"].as_u64(), started["dtmf_payload_type"].as_u64());
        assert_eq!(got, (Some(numbers.0), Some(numbers.1)), "{started}");
    }
}
