//! The auto-attendant with a scripted CTIManager and a telephone of RTP: what callers hear and where they go.

mod scripted;

use client::attendant::{self, Menu};
use client::media::{AudioCodec, MediaStream, RtpEndpoint, tone};
use scripted::{Peer, connected, device, leg};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn menu(timeout: Duration) -> Arc<Menu> {
    Arc::new(Menu {
        ip: LOOPBACK,
        prompt: tone::sine(Menu::PROMPT_HZ, Duration::from_millis(300)).into(),
        choices: [('1', "2001".to_owned()), ('2', "2002".to_owned())].into(),
        operator: "2000".to_owned(),
        timeout,
        attempts: 3,
        listener: None,
    })
}

/// Starts the attendant at RP_MAIN; gives the server's end.
async fn attended(menu: Arc<Menu>) -> (client::Provider, Peer) {
    let (provider, mut peer) = connected().await;
    let terminal = provider.terminal("RP_MAIN");
    let calls = terminal.calls();
    let (opened, ()) = tokio::join!(terminal.open_with_dynamic_media(), async {
        let asked = peer.expect("device.open").await;
        assert_eq!(asked.params["media"], json!({"mode": "dynamic", "codecs": ["PCMU", "PCMA"]}));
        peer.reply(&asked, json!({"device": device("RP_MAIN"), "legs": []})).await;
    });
    opened.expect("opens");
    tokio::spawn(attendant::run(calls, menu));
    (provider, peer)
}

fn started(id: &str, direction: &str, address: SocketAddr) -> Value {
    json!({"leg": leg(id, "connected"), "direction": direction, "ip": address.ip().to_string(), "port": address.port(),
           "codec": "PCMA", "payload_type": 8, "packet_ms": 20, "dtmf_payload_type": 101, "mode": "send_receive",
           "security": "none"})
}

/// A call from a telephone up to where both can hear each other.
async fn call(peer: &mut Peer, id: &str) -> RtpEndpoint {
    let (phone, attendant) = answered(peer, id).await;
    connect(peer, id, &phone, attendant).await;
    phone
}

/// A call up to the attendant's answer: the telephone, and where the attendant wants to hear it.
async fn answered(peer: &mut Peer, id: &str) -> (RtpEndpoint, SocketAddr) {
    let phone = RtpEndpoint::bind(LOOPBACK).await.expect("binds");
    peer.event("call.offering", json!({"leg": leg(id, "offering")})).await;
    let asked = peer.expect("call.answer").await;
    peer.reply(&asked, json!({})).await;
    let open_channel = json!({"leg": leg(id, "offering"), "codec": "PCMA", "payload_type": 8, "packet_ms": 20,
                              "deadline_ms": 5000});
    peer.event("media.open_channel", open_channel).await;
    let asked = peer.expect("call.set_media").await;
    peer.reply(&asked, json!({})).await;
    let ip: IpAddr = asked.params["ip"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
    let port = asked.params["port"].as_u64().expect("a port");
    let attendant = SocketAddr::new(ip, u16::try_from(port).expect("a port"));
    let stream = MediaStream {
        address: attendant,
        codec: AudioCodec::Pcma,
        payload_type: 8,
        packet_ms: 20,
        dtmf_payload_type: Some(101),
    };
    phone.start(stream).await.expect("runs");
    (phone, attendant)
}

async fn connect(peer: &mut Peer, id: &str, phone: &RtpEndpoint, attendant: SocketAddr) {
    peer.event("call.connected", json!({"leg": leg(id, "connected")})).await;
    peer.event("media.started", started(id, "input", attendant)).await;
    peer.event("media.started", started(id, "output", phone.local_addr())).await;
}

#[tokio::test]
async fn a_digit_takes_the_caller_to_its_extension() {
    let (_provider, mut peer) = attended(menu(Duration::from_secs(30))).await;
    let phone = call(&mut peer, "l1").await;
    phone.send_digits("1").await.expect("sent");
    let asked = peer.expect("call.redirect").await;
    assert_eq!((&asked.params["leg"], &asked.params["destination"]), (&json!("l1"), &json!("2001")));
    peer.reply(&asked, json!({})).await;
    peer.event("call.disconnected", json!({"leg": leg("l1", "disconnected")})).await;
}

#[tokio::test]
async fn the_prompt_is_heard_and_silence_leads_to_the_operator() {
    let (_provider, mut peer) = attended(menu(Duration::from_millis(1))).await;
    let (phone, attendant) = answered(&mut peer, "l1").await;
    let recording = phone.record().await;
    connect(&mut peer, "l1", &phone, attendant).await;
    let asked = peer.expect("call.redirect").await;
    assert_eq!(asked.params["destination"], "2000");
    let heard = recording.finish().await.expect("audio");
    let length = tone::heard(&heard, Menu::PROMPT_HZ);
    assert!(length >= Duration::from_millis(160), "the prompt was heard for {length:?}");
}

#[tokio::test]
async fn busy_is_said_and_the_caller_is_asked_again_until_the_attempts_are_spent() {
    let (_provider, mut peer) = attended(menu(Duration::from_secs(30))).await;
    let phone = call(&mut peer, "l1").await;
    for _ in 0..3 {
        phone.send_digits("2").await.expect("sent");
        let asked = peer.expect("call.redirect").await;
        assert_eq!(asked.params["destination"], "2002");
        let recording = phone.record().await;
        peer.refuse(&asked, -32026, "DESTINATION_BUSY").await;
        // The tone lasts 600 ms; nobody presses a digit meanwhile.
        let silent = tokio::time::timeout(Duration::from_millis(700), phone.next_digit()).await;
        assert!(silent.is_err(), "the attendant sends no digits");
        let heard = recording.finish().await.expect("audio");
        let length = tone::heard(&heard, Menu::BUSY_HZ);
        assert!(length >= Duration::from_millis(300), "busy was heard for {length:?}");
    }
    let asked = peer.expect("call.drop").await;
    peer.reply(&asked, json!({})).await;
}

#[tokio::test]
async fn calls_are_attended_to_at_the_same_time() {
    let (_provider, mut peer) = attended(menu(Duration::from_secs(30))).await;
    let (first, second) = (call(&mut peer, "l1").await, call(&mut peer, "l2").await);
    second.send_digits("2").await.expect("sent");
    assert_eq!(peer.expect("call.redirect").await.params["leg"], "l2");
    first.send_digits("1").await.expect("sent");
    assert_eq!(peer.expect("call.redirect").await.params["leg"], "l1");
}

#[tokio::test]
async fn a_call_that_can_not_be_answered_goes_to_the_operator() {
    let (_provider, mut peer) = attended(menu(Duration::from_secs(30))).await;
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    let asked = peer.expect("call.answer").await;
    peer.refuse(&asked, -32015, "MEDIA_REQUIRED").await;
    let asked = peer.expect("call.redirect").await;
    assert_eq!(asked.params["destination"], "2000");
}

#[tokio::test]
async fn a_caller_who_comes_back_from_hold_hears_the_rest() {
    let (_provider, mut peer) = attended(menu(Duration::from_secs(30))).await;
    let phone = call(&mut peer, "l1").await;
    for direction in ["input", "output"] {
        let stopped = json!({"leg": leg("l1", "connected"), "direction": direction});
        peer.event("media.stopped", stopped).await;
    }
    let open_channel = json!({"leg": leg("l1", "connected"), "codec": "PCMA", "payload_type": 8, "packet_ms": 20,
                              "deadline_ms": 5000});
    peer.event("media.open_channel", open_channel).await;
    let asked = peer.expect("call.set_media").await;
    peer.reply(&asked, json!({})).await;
    let port = asked.params["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let recording = phone.record().await;
    connect(&mut peer, "l1", &phone, SocketAddr::new(LOOPBACK, port)).await;
    let heard = tokio::time::timeout(Duration::from_millis(500), phone.next_digit()).await;
    assert!(heard.is_err(), "the attendant sends no digits");
    let heard = tone::heard(&recording.finish().await.expect("audio"), Menu::PROMPT_HZ);
    assert!(heard >= Duration::from_millis(160), "the prompt was heard for {heard:?}");
    phone.send_digits("1").await.expect("sent");
    assert_eq!(peer.expect("call.redirect").await.params["destination"], "2001");
}
