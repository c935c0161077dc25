//! The SDK against a scripted CTIManager: what it asks, what it makes of answers and events, and how it loses a connection.

mod scripted;

use client::provider::{ConnectError, LostReason, MAX_WAITING_EVENTS, Observed};
use client::{
    Codec, Error, MediaTermination, Provider, ProviderConfig, ProviderEvent, ProviderState, Symbol, Transport,
};
use protocol::wire::LegState;
use scripted::{Peer, Server, coming_back, config, connected, device, leg, opened};
use serde_json::json;
use std::time::{Duration, SystemTime};

async fn next(events: &mut client::provider::Events<ProviderEvent>) -> ProviderEvent {
    match events.next().await {
        Some(Observed::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

fn dynamic() -> Option<MediaTermination> {
    Some(MediaTermination::Dynamic { codecs: vec![Codec::Pcmu, Codec::Pcma], srtp: Vec::new() })
}

/// Opens RP_MAIN from both ends.
async fn open_device(provider: &Provider, peer: &mut Peer) {
    let terminal = provider.terminal("RP_MAIN");
    let (opened, ()) = tokio::join!(terminal.open(dynamic()), async {
        let asked = peer.expect("device.open").await;
        peer.reply(&asked, json!({"device": device("RP_MAIN"), "legs": []})).await;
    });
    opened.expect("opens");
}

#[tokio::test]
async fn opening_asks_for_what_the_contract_names() {
    let server = Server::plain().await;
    let config = ProviderConfig {
        instance: Some("a".to_owned()),
        heartbeat: Some(Duration::from_secs(5)),
        subscribe: Some(vec!["call.*".to_owned()]),
        ..config(&server)
    };
    let (provider, asked) = tokio::join!(Provider::connect(config), async {
        let mut peer = server.accept().await;
        let asked = peer.expect("provider.open").await;
        peer.reply(&asked, opened(json!({}))).await;
        (asked, peer)
    });
    let provider = provider.expect("opens");
    let wanted = json!({"user": "ivr1", "password": "opensesame", "application": "tests", "instance": "a",
                        "heartbeat_ms": 5000, "subscribe": ["call.*"]});
    assert_eq!(asked.0.params, wanted);
    assert_eq!(provider.state(), ProviderState::InService);
    assert_eq!(&*provider.session().expect("opened").cluster, "lab");
}

#[tokio::test]
async fn a_refused_opening_says_why() {
    let server = Server::plain().await;
    let (refused, ()) = tokio::join!(Provider::connect(config(&server)), async {
        let mut peer = server.accept().await;
        let asked = peer.expect("provider.open").await;
        peer.refuse(&asked, -32002, "LOGIN_FAILED").await;
    });
    match refused {
        Err(ConnectError::Refused(error)) => assert_eq!(error.symbol, Symbol::LoginFailed),
        other => panic!("{other:?}"),
    }
    let nobody = ProviderConfig { servers: vec![], ..config(&server) };
    assert!(matches!(Provider::connect(nobody).await, Err(ConnectError::NoServer)));
    let address = server.address();
    drop(server);
    let gone = ProviderConfig { servers: vec![address], ..config(&Server::plain().await) };
    assert!(matches!(Provider::connect(gone).await, Err(ConnectError::Unreachable { .. })));
}

#[tokio::test]
async fn a_call_is_offered_answered_and_gone() {
    let (provider, mut peer) = connected().await;
    let terminal = provider.terminal("RP_MAIN");
    let mut calls = terminal.calls();
    open_device(&provider, &mut peer).await;
    assert_eq!(terminal.addresses()[0].dn().as_str(), "5000");

    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    let call = calls.next().await.expect("a call");
    assert_eq!((call.state(), &*call.leg().calling.number), (LegState::Offering, "2001"));
    let mut events = call.events();

    let (answered, ()) = tokio::join!(call.answer(), async {
        let asked = peer.expect("call.answer").await;
        assert_eq!(asked.params["leg"], "l1");
        assert!(asked.params["idem"].is_string());
        peer.reply(&asked, json!({})).await;
        peer.event("call.connected", json!({"leg": leg("l1", "connected")})).await;
        peer.event("call.dtmf", json!({"leg": leg("l1", "connected"), "digit": "7"})).await;
        peer.event("call.disconnected", json!({"leg": leg("l1", "disconnected")})).await;
    });
    answered.expect("answered");
    let mut told = Vec::new();
    while let Some(Observed::Event(event)) = events.next().await {
        told.push(event.event_type().name());
    }
    assert_eq!(told, ["call.connected", "call.dtmf", "call.disconnected"]);
    assert_eq!(call.state(), LegState::Disconnected);
    call.gone().await;
    assert!(call.wait_for(|s| s.leg.state == LegState::Held).await.is_none());
    assert!(terminal.terminal_connections().is_empty() && provider.terminal_connection(call.id()).is_none());
}

#[tokio::test]
async fn the_leg_of_a_made_call_is_known_before_its_first_event_and_misses_none() {
    let (provider, mut peer) = connected().await;
    open_device(&provider, &mut peer).await;
    let address = provider.terminal("RP_MAIN").address("5000");
    let (made, ()) = tokio::join!(address.make_call("2002"), async {
        let asked = peer.expect("call.make").await;
        assert_eq!(asked.params["dn"], "5000");
        peer.reply(&asked, json!({"call": "c1", "leg": "l9"})).await;
        peer.event("call.proceeding", json!({"leg": leg("l9", "proceeding")})).await;
        peer.event("call.failed", json!({"leg": leg("l9", "failed")})).await;
        peer.event("call.disconnected", json!({"leg": leg("l9", "disconnected")})).await;
    });
    let made = made.expect("made");
    made.gone().await;
    assert_eq!(made.state(), LegState::Disconnected);
}

#[tokio::test]
async fn refusals_are_typed() {
    let (provider, mut peer) = connected().await;
    let mut calls = provider.terminal("RP_MAIN").calls();
    open_device(&provider, &mut peer).await;
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    let call = calls.next().await.expect("a call");
    let (refused, ()) = tokio::join!(call.redirect("2002"), async {
        let asked = peer.expect("call.redirect").await;
        assert_eq!(asked.params["destination"], "2002");
        peer.refuse(&asked, -32026, "DESTINATION_BUSY").await;
    });
    let refused = refused.expect_err("busy");
    assert_eq!(refused.symbol(), Some(Symbol::DestinationBusy));
    assert!(refused.is_destination());
    assert_eq!(call.state(), LegState::Offering, "the leg is as it was");
}

#[tokio::test]
async fn a_lost_connection_is_an_event_and_every_request_gets_an_error() {
    let (provider, mut peer) = connected().await;
    let (mut events, mut calls) = (provider.events(), provider.terminal("RP_MAIN").calls());
    open_device(&provider, &mut peer).await;
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    let call = calls.next().await.expect("a call");
    let (answered, dropped, ()) = tokio::join!(call.answer(), call.drop_leg(), async {
        peer.expect("call.answer").await;
        peer.expect("call.drop").await;
        drop(peer);
    });
    assert_eq!((answered, dropped), (Err(Error::ConnectionLost), Err(Error::ConnectionLost)));
    call.gone().await;
    assert!(call.status().lost);
    assert!(calls.next().await.is_none());
    assert!(matches!(next(&mut events).await, ProviderEvent::Told { seq: 1, .. }));
    assert!(matches!(next(&mut events).await, ProviderEvent::Concluded(_)));
    assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::OutOfService));
    assert_eq!(next(&mut events).await, ProviderEvent::ConnectionLost(LostReason::EndOfFile));
    assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::Shutdown));
    assert_eq!(events.next().await, None);
    assert_eq!(call.answer().await, Err(Error::ShutDown));
    assert!(provider.terminal("RP_MAIN").calls().next().await.is_none());
    assert_eq!(provider.events().next().await, None);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_a_lost_connection_and_heartbeats_are_sent_until_then() {
    let server = Server::plain().await;
    let (provider, mut peer) = tokio::join!(Provider::connect(config(&server)), async {
        let mut peer = server.accept().await;
        let asked = peer.expect("provider.open").await;
        peer.reply(&asked, opened(json!({"heartbeat_ms": 200}))).await;
        peer.event("provider.in_service", json!({})).await;
        peer
    });
    let provider = provider.expect("opens");
    let mut events = provider.events();
    assert_eq!(peer.expect("provider.heartbeat").await.params, json!({"last_seq": 1}));
    loop {
        if let ProviderEvent::ConnectionLost(reason) = next(&mut events).await {
            assert_eq!(reason, LostReason::Silence);
            return;
        }
    }
}

#[tokio::test]
async fn garbage_is_an_event_or_the_end_but_never_a_panic() {
    for (garbage, is_the_end) in [
        ("not JSON".to_owned(), true),
        ("[]".to_owned(), true),
        ("{}".to_owned(), true),
        ("\u{0}\u{1}".to_owned(), true),
        ("x".repeat(1024 * 1024 + 2), true),
        (json!({"jsonrpc": "2.0", "method": "event"}).to_string(), true),
        (json!({"jsonrpc": "2.0", "method": "event", "params": {"seq": -1}}).to_string(), false),
        (
            json!({"jsonrpc": "2.0", "method": "event", "params": {"seq": 1, "type": "call.held"}})
                .to_string(),
            false,
        ),
        (
            json!({"jsonrpc": "2.0", "method": "event", "params": {"type": "session.later"}}).to_string(),
            false,
        ),
        (json!({"jsonrpc": "2.0", "method": "later"}).to_string(), false),
    ] {
        let (provider, mut peer) = connected().await;
        let mut events = provider.events();
        peer.write(&garbage).await;
        let told = next(&mut events).await;
        let shown: String = garbage.chars().take(60).collect();
        match is_the_end {
            false => assert!(matches!(told, ProviderEvent::Unreadable { .. }), "{shown}: {told:?}"),
            true => {
                assert_eq!(told, ProviderEvent::State(ProviderState::OutOfService), "{shown}");
                let lost = next(&mut events).await;
                assert!(
                    matches!(lost, ProviderEvent::ConnectionLost(LostReason::Protocol(_))),
                    "{shown}: {lost:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn answers_that_nobody_asked_for_or_of_another_form_are_survived() {
    let (provider, mut peer) = connected().await;
    peer.write(&json!({"jsonrpc": "2.0", "id": 4711, "result": {}}).to_string()).await;
    peer.write(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": ""}}).to_string())
        .await;
    let terminal = provider.terminal("RP_MAIN");
    let (opened, ()) = tokio::join!(terminal.open(None), async {
        let asked = peer.expect("device.open").await;
        peer.reply(&asked, json!({"device": 1})).await;
    });
    assert!(matches!(opened, Err(Error::BadAnswer(_))), "{opened:?}");
}

#[tokio::test]
async fn gaps_are_announced_and_repeats_are_left_out() {
    let (provider, mut peer) = connected().await;
    let mut events = provider.events();
    for seq in [1, 1, 4] {
        peer.event_numbered(seq, "provider.in_service", json!({})).await;
    }
    assert!(matches!(next(&mut events).await, ProviderEvent::Told { seq: 1, .. }));
    assert_eq!(next(&mut events).await, ProviderEvent::Gap { expected: 2, got: 4 });
    assert!(matches!(next(&mut events).await, ProviderEvent::Told { seq: 4, .. }));
}

#[tokio::test]
async fn an_observer_that_is_too_slow_is_told_so() {
    let (provider, mut peer) = connected().await;
    let mut events = provider.events();
    for _ in 0..MAX_WAITING_EVENTS + 10 {
        peer.event("provider.in_service", json!({})).await;
    }
    // An answer behind the events says that all of them have been taken in.
    let (parked, ()) = tokio::join!(provider.monitor_park(false), async {
        let asked = peer.expect("provider.monitor_park").await;
        peer.reply(&asked, json!({"park_numbers": []})).await;
    });
    parked.expect("answered");
    assert_eq!(events.next().await, Some(Observed::Lagged(10)));
    assert!(matches!(next(&mut events).await, ProviderEvent::Told { seq: 11, .. }));
}

#[tokio::test]
async fn a_session_is_resumed_and_waiting_requests_are_repeated_with_their_key() {
    let server = Server::plain().await;
    let config = ProviderConfig { reconnect: coming_back(), ..config(&server) };
    let (provider, mut peer) = tokio::join!(Provider::connect(config), server.open());
    let provider = provider.expect("opens");
    let (mut events, mut calls) = (provider.events(), provider.terminal("RP_MAIN").calls());
    open_device(&provider, &mut peer).await;
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    let call = calls.next().await.expect("a call");
    let (answered, ()) = tokio::join!(call.answer(), async {
        let first = peer.expect("call.answer").await;
        drop(peer);
        let mut peer = server.accept().await;
        let asked = peer.expect("provider.open").await;
        assert_eq!(asked.params["resume"], json!({"session": "s1", "last_seq": 1}));
        peer.reply(&asked, opened(json!({"resumed": true, "next_seq": 2}))).await;
        let again = peer.expect("call.answer").await;
        assert_eq!((&first.id, &first.params), (&again.id, &again.params));
        peer.reply(&again, json!({})).await;
        peer.event_numbered(2, "call.connected", json!({"leg": leg("l1", "connected")})).await;
        // Stays open until the call is connected at the other end.
        call.wait_for(|s| s.leg.state == LegState::Connected).await.expect("connected");
    });
    answered.expect("answered, once");
    let mut seen = Vec::new();
    while seen.last() != Some(&ProviderEvent::Resumed) {
        seen.push(next(&mut events).await);
    }
    assert!(seen.contains(&ProviderEvent::ConnectionLost(LostReason::EndOfFile)));
    assert!(!call.status().lost);
}

#[tokio::test]
async fn a_session_that_is_gone_begins_anew_and_its_devices_are_opened_again() {
    let server = Server::plain().await;
    let config = ProviderConfig { reconnect: coming_back(), ..config(&server) };
    let (provider, mut peer) = tokio::join!(Provider::connect(config), server.open());
    let provider = provider.expect("opens");
    let (mut events, mut calls) = (provider.events(), provider.terminal("RP_MAIN").calls());
    open_device(&provider, &mut peer).await;
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    let old = calls.next().await.expect("a call");
    let (answered, mut peer) = tokio::join!(old.answer(), async {
        peer.expect("call.answer").await;
        drop(peer);
        let mut peer = server.accept().await;
        let asked = peer.expect("provider.open").await;
        peer.reply(&asked, opened(json!({"session": "s2", "reason": "expired"}))).await;
        peer
    });
    assert_eq!(answered, Err(Error::ConnectionLost));
    let asked = peer.expect("device.open").await;
    assert_eq!(asked.params["media"]["codecs"], json!(["PCMU", "PCMA"]));
    peer.reply(&asked, json!({"device": device("RP_MAIN"), "legs": [leg("l2", "offering")]})).await;
    let new = calls.next().await.expect("the call that waited there");
    assert_eq!(new.id().to_string(), "l2");
    assert_eq!(old.state(), LegState::Disconnected);
    let mut restarted = false;
    while !restarted {
        restarted = matches!(next(&mut events).await, ProviderEvent::Restarted(Some(_)));
    }
}

#[tokio::test]
async fn many_devices_are_opened_again_at_a_pace() {
    const DEVICES: usize = 150;
    let server = Server::plain().await;
    let config = ProviderConfig { reconnect: coming_back(), ..config(&server) };
    let (provider, mut peer) = tokio::join!(Provider::connect(config), server.open());
    let provider = provider.expect("opens");
    let mut events = provider.events();
    for n in 0..DEVICES {
        let name = format!("PORT_{n}");
        let terminal = provider.terminal(&name);
        let (opened, ()) = tokio::join!(terminal.open(None), async {
            let asked = peer.expect("device.open").await;
            peer.reply(&asked, json!({"device": device(&name), "legs": []})).await;
        });
        opened.expect("opens");
    }
    drop(peer);
    let mut peer = server.open().await;
    let mut names = std::collections::BTreeSet::new();
    let mut asked = Vec::new();
    for _ in 0..64 {
        asked.push(peer.expect("device.open").await);
    }
    while let Some(open) = asked.pop() {
        let name = open.params["device"].as_str().expect("a name").to_owned();
        assert!(names.insert(name.clone()), "{name} twice");
        if name == "PORT_7" {
            peer.refuse(&open, -32008, "DEVICE_NOT_CONTROLLED").await;
        } else {
            peer.reply(&open, json!({"device": device(&name), "legs": []})).await;
        }
        if names.len() + asked.len() < DEVICES {
            asked.push(peer.expect("device.open").await);
        }
    }
    assert_eq!(names.len(), DEVICES);
    loop {
        if let ProviderEvent::NotReopened { device, error } = next(&mut events).await {
            assert_eq!((device.as_str(), error.symbol()), ("PORT_7", Some(Symbol::DeviceNotControlled)));
            return;
        }
    }
}

#[tokio::test]
async fn who_was_superseded_or_deleted_does_not_come_back() {
    for (event_type, body, reason) in [
        ("session.superseded", json!({}), LostReason::Superseded),
        (
            "session.closed",
            json!({"reason": "user_deleted"}),
            LostReason::Closed(protocol::event::CloseReason::UserDeleted),
        ),
    ] {
        let server = Server::plain().await;
        let config = ProviderConfig { reconnect: coming_back(), ..config(&server) };
        let (provider, mut peer) = tokio::join!(Provider::connect(config), server.open());
        let provider = provider.expect("opens");
        let mut events = provider.events();
        let mut params = json!({"time": "2026-11-20T20:01:02.123Z", "type": event_type});
        params.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
        peer.write(&json!({"jsonrpc": "2.0", "method": "event", "params": params}).to_string()).await;
        assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::OutOfService));
        assert_eq!(next(&mut events).await, ProviderEvent::ConnectionLost(reason));
        assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::Shutdown));
    }
}

#[tokio::test]
async fn closing_and_dropping_leave_in_order() {
    let (provider, mut peer) = connected().await;
    let (closed, ()) = tokio::join!(provider.close(), async {
        let asked = peer.expect("provider.close").await;
        peer.reply(&asked, json!({})).await;
    });
    closed.expect("closed");
    assert!(peer.next().await.is_none(), "and the connection with it");
    assert_eq!(provider.snapshot().await, Err(Error::ShutDown));

    let (provider, mut peer) = connected().await;
    drop(provider);
    peer.expect("provider.close").await;
    assert!(peer.next().await.is_none());
}

#[tokio::test]
async fn no_number_that_a_server_decides_is_too_large_or_too_small() {
    for heartbeat_ms in [0, u64::MAX] {
        let server = Server::plain().await;
        let config = ProviderConfig { reconnect: coming_back(), ..config(&server) };
        let (provider, mut peer) = tokio::join!(Provider::connect(config), async {
            let mut peer = server.accept().await;
            let asked = peer.expect("provider.open").await;
            peer.reply(&asked, opened(json!({"heartbeat_ms": heartbeat_ms, "next_seq": u64::MAX}))).await;
            peer
        });
        let provider = provider.expect("opens");
        let mut events = provider.events();
        for seq in [u64::MAX - 1, u64::MAX, u64::MAX] {
            peer.event_numbered(seq, "provider.in_service", json!({})).await;
        }
        assert_eq!(next(&mut events).await, ProviderEvent::Gap { expected: 1, got: u64::MAX - 1 });
        drop(peer);
        let mut peer = server.accept().await;
        let asked = peer.expect("provider.open").await;
        let error = json!({"code": -32006, "message": "", "data": {"cti": "RATE_LIMITED", "retry_after_ms": u64::MAX}});
        peer.write(&json!({"jsonrpc": "2.0", "id": asked.id, "error": error}).to_string()).await;
        let mut state = provider.state_changes();
        state.wait_for(|state| *state == ProviderState::Shutdown).await.expect("given up");
    }
}

#[tokio::test]
async fn a_request_without_an_answer_times_out() {
    let server = Server::plain().await;
    let config = ProviderConfig { request_timeout: Duration::from_millis(50), ..config(&server) };
    let (provider, peer) = tokio::join!(Provider::connect(config), server.open());
    assert_eq!(provider.expect("opens").snapshot().await, Err(Error::Timeout));
    drop(peer);
}

// A certificate needs some time of issue.
#[allow(clippy::disallowed_methods)]
fn authority() -> security::pki::Authority {
    security::pki::Authority::generate("lab", SystemTime::now()).expect("an authority")
}

#[allow(clippy::disallowed_methods)]
async fn tls_server(authority: &security::pki::Authority) -> Server {
    let issued = authority.issue_node("cm1", &[], SystemTime::now()).expect("a certificate");
    let identity = security::tls::Identity::from_pem(&issued.certificate, &issued.key).expect("a pair");
    let clients = security::tls::ClientCertificates::Ignored;
    Server::tls(security::tls::server(identity, &clients, None, &[]).expect("a configuration")).await
}

fn tls(ca: &security::pki::Authority, server_name: Option<&str>) -> Transport {
    let server_name = server_name.map(str::to_owned);
    Transport::Tls { ca_pem: ca.pem().certificate.clone(), server_name, identity: None }
}

#[tokio::test]
async fn over_tls_with_the_right_authority_and_name_alone() {
    let ours = authority();
    let server = tls_server(&ours).await;
    for name in [None, Some("cm1"), Some("localhost")] {
        // The certificate is for localhost and the loopback addresses; `cm1` is its subject and no name of a host.
        let config = ProviderConfig { transport: tls(&ours, name), ..config(&server) };
        let connecting = Provider::connect(config);
        let serving = async {
            let mut peer = server.try_accept().await.ok()?;
            let asked = peer.expect("provider.open").await;
            peer.reply(&asked, opened(json!({}))).await;
            Some(peer)
        };
        let (provider, peer) = tokio::join!(connecting, serving);
        assert_eq!(
            (provider.is_ok(), peer.is_some()),
            (name != Some("cm1"), name != Some("cm1")),
            "{name:?}"
        );
    }
    let config = ProviderConfig { transport: tls(&authority(), None), ..config(&server) };
    let (refused, accepted) = tokio::join!(Provider::connect(config), server.try_accept());
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })), "another authority");
    assert!(accepted.is_err());
}

#[tokio::test]
#[allow(clippy::disallowed_methods)]
async fn a_client_certificate_stands_for_the_password() {
    let ours = authority();
    let node = ours.issue_node("cm1", &[], SystemTime::now()).expect("a certificate");
    let identity = security::tls::Identity::from_pem(&node.certificate, &node.key).expect("a pair");
    let clients = security::tls::ClientCertificates::Required(ours.pem().certificate.clone());
    let server =
        Server::tls(security::tls::server(identity, &clients, None, &[]).expect("a configuration")).await;
    let user = ours.issue_client("ivr1", SystemTime::now()).expect("a certificate");
    let transport = Transport::Tls {
        ca_pem: ours.pem().certificate.clone(),
        server_name: None,
        identity: Some((user.certificate, user.key)),
    };
    let config = ProviderConfig { transport, password: None, ..config(&server) };
    let (provider, peer) = tokio::join!(Provider::connect(config), async {
        let mut peer = server.accept().await;
        let asked = peer.expect("provider.open").await;
        assert_eq!(asked.params.get("password"), None);
        peer.reply(&asked, opened(json!({}))).await;
        peer
    });
    assert_eq!(provider.expect("opens").state(), ProviderState::InService);
    drop(peer);
}

#[tokio::test]
async fn tls_never_falls_back_to_plain() {
    let server = Server::plain().await;
    let config = ProviderConfig {
        transport: tls(&authority(), None),
        connect_timeout: Duration::from_secs(5),
        ..config(&server)
    };
    let (refused, first) = tokio::join!(Provider::connect(config), async {
        let mut peer = server.accept().await;
        peer.write("{}").await;
        server
    });
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })), "{refused:?}");
    drop(first);
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let shown = format!("{:?}", config(&Server::plain().await));
    assert!(!shown.contains("opensesame"), "{shown}");
    assert!(!format!("{:?}", tls(&authority(), None)).contains("CERTIFICATE"));
}
