//! The SDK loses its connection and comes back: to which server, how often, and what the application hears of it.

mod scripted;

use client::provider::{GaveUp, LostReason, MakeCall, Observed, Reconnect};
use client::{Error, Event, Provider, ProviderConfig, ProviderEvent, ProviderState, Symbol, wire};
use protocol::event::{CloseReason, DeviceChange};
use scripted::{Peer, Server, coming_back, config, device, leg, opened};
use serde_json::{Value, json};
use std::time::Duration;
use wire::{DeviceState, LegState, ServiceReason};

type Events = client::provider::Events<ProviderEvent>;

async fn next(events: &mut Events) -> ProviderEvent {
    match events.next().await {
        Some(Observed::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

async fn concluded(events: &mut Events) -> Event {
    match next(events).await {
        ProviderEvent::Concluded(event) => (*event).clone(),
        other => panic!("{other:?}"),
    }
}

/// A provider that comes back, with RP_MAIN open, and the server's end of it.
async fn at_work(server: &Server) -> (Provider, Peer) {
    let config = ProviderConfig { reconnect: coming_back(), ..config(server) };
    let (provider, mut peer) = tokio::join!(Provider::connect(config), server.open());
    let provider = provider.expect("opens");
    let terminal = provider.terminal("RP_MAIN");
    let (opened, ()) = tokio::join!(terminal.open(None), async {
        let asked = peer.expect("device.open").await;
        peer.reply(&asked, json!({"device": device("RP_MAIN"), "legs": []})).await;
    });
    opened.expect("opens");
    (provider, peer)
}

/// The client comes back; it is told this of its session.
async fn came_back(server: &Server, answer: Value) -> Peer {
    let mut peer = server.accept().await;
    let asked = peer.expect("provider.open").await;
    peer.reply(&asked, opened(answer)).await;
    peer
}

async fn refuse_opening(server: &Server, error: Value) -> Value {
    let mut peer = server.accept().await;
    let asked = peer.expect("provider.open").await;
    peer.write(&json!({"jsonrpc": "2.0", "id": asked.id, "error": error}).to_string()).await;
    asked.params
}

fn error(symbol: &str, retry_after_ms: Option<u64>) -> Value {
    let mut data = json!({"cti": symbol});
    if let Some(ms) = retry_after_ms {
        data["retry_after_ms"] = json!(ms);
    }
    json!({"code": -32099, "message": "a sentence that helps", "data": data})
}

async fn said_and_closed(peer: &mut Peer, reason: &str) {
    let params = json!({"time": "2026-11-20T20:01:02.123Z", "type": "session.closed", "reason": reason});
    peer.write(&json!({"jsonrpc": "2.0", "method": "event", "params": params}).to_string()).await;
}

#[tokio::test]
async fn devices_leave_service_before_the_provider_and_come_back_after_it() {
    let server = Server::plain().await;
    let (provider, peer) = at_work(&server).await;
    let terminal = provider.terminal("RP_MAIN");
    let (mut events, mut at_terminal) = (provider.events(), terminal.events());
    drop(peer);
    let out = concluded(&mut events).await;
    let Event::Device { change: DeviceChange::OutOfService, device, reason } = &out else {
        panic!("{out:?}")
    };
    assert_eq!((device.state, *reason), (DeviceState::OutOfService, Some(ServiceReason::CtimanagerFailure)));
    assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::OutOfService));
    assert!(matches!(next(&mut events).await, ProviderEvent::ConnectionLost(_)));
    assert_eq!(terminal.device().map(|d| d.state), Some(DeviceState::OutOfService));

    let mut peer = came_back(&server, json!({"resumed": true, "next_seq": 1})).await;
    peer.event("provider.privileges_changed", json!({"privileges": opened(json!({}))["privileges"]})).await;
    assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::InService));
    assert_eq!(next(&mut events).await, ProviderEvent::Resumed);
    let back = concluded(&mut events).await;
    assert!(matches!(back, Event::Device { change: DeviceChange::InService, .. }), "{back:?}");
    assert!(matches!(next(&mut events).await, ProviderEvent::Told { seq: 1, .. }), "the replay follows");
    assert_eq!(terminal.device().map(|d| d.state), Some(DeviceState::InService));
    for expected in [out, back] {
        assert!(matches!(at_terminal.next().await, Some(Observed::Event(event)) if *event == expected));
    }
}

#[tokio::test]
async fn a_stream_that_ended_between_two_sessions_is_told_to_have_ended_before_its_leg() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let mut events = provider.events();
    peer.event("call.connected", json!({"leg": leg("l1", "connected")})).await;
    peer.event("media.started", stream("l1", "output")).await;
    drop(peer);
    let mut peer = came_back(&server, json!({"session": "s2", "reason": "expired"})).await;
    let asked = peer.expect("device.open").await;
    let legs = json!([leg("l1", "connected")]);
    peer.reply(&asked, json!({"device": device("RP_MAIN"), "legs": legs})).await;
    peer.event("call.disconnected", json!({"leg": leg("l1", "disconnected")})).await;
    while !matches!(next(&mut events).await, ProviderEvent::Restarted(_)) {}
    assert!(matches!(concluded(&mut events).await, Event::Device { change: DeviceChange::InService, .. }));
    assert!(matches!(concluded(&mut events).await, Event::MediaStopped { .. }));
    assert!(matches!(next(&mut events).await, ProviderEvent::Told { seq: 1, .. }));
}

fn stream(id: &str, direction: &str) -> Value {
    json!({"leg": leg(id, "connected"), "direction": direction, "ip": "192.0.2.1", "port": 4000, "codec": "PCMA",
           "payload_type": 8, "packet_ms": 20, "mode": "send_receive", "security": "none"})
}

#[tokio::test]
async fn after_a_restart_the_difference_is_told_as_events() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let mut calls = provider.terminal("RP_MAIN").calls();
    for id in ["l1", "l2", "l3"] {
        peer.event("call.offering", json!({"leg": leg(id, "offering")})).await;
        calls.next().await.expect("a call");
    }
    peer.event("call.connected", json!({"leg": leg("l1", "connected")})).await;
    peer.event("media.started", stream("l1", "input")).await;
    let first = provider.terminal_connection("l1".parse().expect("an id")).expect("known");
    first.wait_for(|status| status.input.is_some()).await.expect("talks");
    let mut events = provider.events();
    drop(peer);
    let mut peer = came_back(&server, json!({"session": "s2", "reason": "log_overrun"})).await;
    let asked = peer.expect("device.open").await;
    let legs = json!([leg("l2", "connected"), leg("l3", "offering"), leg("l4", "offering")]);
    peer.reply(&asked, json!({"device": device("RP_MAIN"), "legs": legs})).await;
    while !matches!(next(&mut events).await, ProviderEvent::Restarted(Some(_))) {}
    let mut heard = Vec::new();
    for _ in 0..5 {
        let event = concluded(&mut events).await;
        heard.push((event.event_type().name(), event.leg().map(|leg| leg.leg.to_string())));
    }
    let expected = [
        ("device.in_service", None),
        ("media.stopped", Some("l1")),
        ("call.disconnected", Some("l1")),
        ("call.connected", Some("l2")),
        ("call.offering", Some("l4")),
    ];
    assert_eq!(heard, expected.map(|(name, leg)| (name, leg.map(str::to_owned))));
    first.gone().await;
    assert_eq!(calls.next().await.map(|leg| leg.id().to_string()).as_deref(), Some("l4"));
    let known = provider.terminal("RP_MAIN").terminal_connections();
    let known: Vec<_> = known.iter().map(|leg| (leg.id().to_string(), leg.state())).collect();
    let expected = [("l2", LegState::Connected), ("l3", LegState::Offering), ("l4", LegState::Offering)];
    assert_eq!(known, expected.map(|(id, state)| (id.to_owned(), state)));
}

#[tokio::test]
async fn an_answer_that_is_older_than_what_was_told_changes_nothing() {
    let server = Server::plain().await;
    let (provider, peer) = at_work(&server).await;
    let mut calls = provider.terminal("RP_MAIN").calls();
    drop(peer);
    let mut peer = came_back(&server, json!({"session": "s2", "reason": "expired"})).await;
    peer.expect("device.open").await;
    // It was answered, but the answer is lost; the session goes on, and its events come before the repeat's answer.
    drop(peer);
    let mut peer = came_back(&server, json!({"session": "s2", "resumed": true})).await;
    let again = peer.expect("device.open").await;
    for (id, state) in [("l1", "connected"), ("l2", "disconnected"), ("l3", "offering")] {
        peer.event(&format!("call.{state}"), json!({"leg": leg(id, state)})).await;
    }
    let legs = json!([leg("l1", "offering"), leg("l2", "offering"), leg("l4", "offering")]);
    peer.reply(&again, json!({"device": device("RP_MAIN"), "legs": legs})).await;
    for id in ["l3", "l4"] {
        assert_eq!(calls.next().await.map(|leg| leg.id().to_string()).as_deref(), Some(id));
    }
    let known = provider.terminal("RP_MAIN").terminal_connections();
    let known: Vec<_> = known.iter().map(|leg| (leg.id().to_string(), leg.state())).collect();
    let expected = [("l1", LegState::Connected), ("l3", LegState::Offering), ("l4", LegState::Offering)];
    assert_eq!(known, expected.map(|(id, state)| (id.to_owned(), state)));
}

#[tokio::test]
async fn a_call_that_was_over_before_the_answer_to_its_making_came_is_over() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let terminal = provider.terminal("RP_MAIN");
    let (made, ()) = tokio::join!(terminal.make_call("2002", MakeCall::default()), async {
        peer.expect("call.make").await;
        // It was made, and ended; the answer is lost, and a repeat gets it behind the replay.
        drop(peer);
        let mut peer = came_back(&server, json!({"resumed": true})).await;
        let again = peer.expect("call.make").await;
        for state in ["dialing", "disconnected"] {
            peer.event(&format!("call.{state}"), json!({"leg": leg("l1", state)})).await;
        }
        // As many others as are remembered beside it end before the answer.
        for other in 2..=16_384 {
            peer.event("call.disconnected", json!({"leg": leg(&format!("l{other:x}"), "disconnected")}))
                .await;
        }
        peer.reply(&again, json!({"call": "c1", "leg": "l1"})).await;
    });
    assert_eq!(made.expect("was made").state(), LegState::Disconnected);
    assert!(terminal.terminal_connections().is_empty(), "nothing is left of it");
}

#[tokio::test]
async fn a_device_that_can_not_be_opened_again_is_closed() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let mut events = provider.events();
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    drop(peer);
    let mut peer = came_back(&server, json!({"session": "s2"})).await;
    let asked = peer.expect("device.open").await;
    peer.refuse(&asked, -32008, "DEVICE_NOT_CONTROLLED").await;
    while !matches!(next(&mut events).await, ProviderEvent::Restarted(_)) {}
    let closed = concluded(&mut events).await;
    assert!(matches!(closed, Event::Device { change: DeviceChange::Closed, .. }), "{closed:?}");
    assert!(matches!(next(&mut events).await, ProviderEvent::NotReopened { .. }));
    assert!(provider.terminal("RP_MAIN").terminal_connections().is_empty());
}

fn restricted(name: &str) -> Value {
    let mut device = device(name);
    (device["restricted"], device["state"], device["opened"]) =
        (json!(true), json!("out_of_service"), json!(false));
    device
}

/// The session is lost, and the device restricted meanwhile.
async fn came_back_to_a_restriction(server: &Server) -> (Provider, Peer, Events) {
    let (provider, mut peer) = at_work(server).await;
    let mut events = provider.events();
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    drop(peer);
    let mut peer = came_back(server, json!({"session": "s2", "reason": "expired"})).await;
    let asked = peer.expect("device.open").await;
    peer.refuse(&asked, -32009, "DEVICE_RESTRICTED").await;
    while !matches!(next(&mut events).await, ProviderEvent::Restarted(_)) {}
    let event = concluded(&mut events).await;
    assert!(matches!(&event, Event::Device { change: DeviceChange::Restricted, device, .. }
        if device.restricted && device.state == DeviceState::OutOfService));
    (provider, peer, events)
}

#[tokio::test]
async fn a_device_that_is_restricted_meanwhile_is_opened_again_when_it_is_free() {
    let server = Server::plain().await;
    let (provider, mut peer, mut events) = came_back_to_a_restriction(&server).await;
    let ended = concluded(&mut events).await;
    assert!(matches!(&ended, Event::Call { leg } if leg.state == LegState::Disconnected), "{ended:?}");
    // What concerns the restriction of something else changes nothing.
    peer.event("device.restricted", json!({"device": restricted("RP_OTHER")})).await;
    peer.event("device.unrestricted", json!({"device": device("RP_OTHER")})).await;
    let mut free = device("RP_MAIN");
    free["opened"] = json!(false);
    peer.event("device.unrestricted", json!({"device": free})).await;
    let again = peer.expect("device.open").await;
    assert_eq!(again.params["device"], "RP_MAIN");
    peer.reply(&again, json!({"device": device("RP_MAIN"), "legs": [leg("l2", "offering")]})).await;
    for seq in 1..=3 {
        assert!(matches!(next(&mut events).await, ProviderEvent::Told { seq: told, .. } if told == seq));
    }
    let back = concluded(&mut events).await;
    assert!(matches!(back, Event::Device { change: DeviceChange::InService, .. }), "{back:?}");
    assert!(matches!(concluded(&mut events).await, Event::Call { leg } if leg.leg.to_string() == "l2"));
    assert_eq!(provider.terminal("RP_MAIN").device().map(|d| (d.opened, d.restricted)), Some((true, false)));
}

#[tokio::test]
async fn a_device_that_waits_for_the_end_of_its_restriction_can_be_closed() {
    let server = Server::plain().await;
    let (provider, mut peer, _events) = came_back_to_a_restriction(&server).await;
    let terminal = provider.terminal("RP_MAIN");
    let (closed, ()) = tokio::join!(terminal.close(), async {
        let asked = peer.expect("device.close").await;
        peer.refuse(&asked, -32011, "DEVICE_NOT_OPEN").await;
    });
    assert_eq!(closed, Ok(()));
    peer.event("device.unrestricted", json!({"device": device("RP_MAIN")})).await;
    let (snapshot, ()) = tokio::join!(provider.snapshot(), async {
        let asked = peer.expect("provider.snapshot").await;
        peer.reply(&asked, json!({"devices": [], "seq": 1})).await;
    });
    assert!(snapshot.is_ok(), "nothing else was asked before");
}

#[tokio::test]
async fn a_refusal_that_is_older_than_the_end_of_the_restriction_is_not_believed() {
    let server = Server::plain().await;
    let (_provider, peer) = at_work(&server).await;
    drop(peer);
    let mut peer = came_back(&server, json!({"session": "s2", "reason": "expired"})).await;
    peer.expect("device.open").await;
    // It was refused, but the answer is lost; the repeat gets it behind what was told since.
    drop(peer);
    let mut peer = came_back(&server, json!({"session": "s2", "resumed": true})).await;
    let again = peer.expect("device.open").await;
    peer.event("device.unrestricted", json!({"device": device("RP_MAIN")})).await;
    peer.refuse(&again, -32009, "DEVICE_RESTRICTED").await;
    let anew = peer.expect("device.open").await;
    assert_ne!(anew.params["idem"], again.params["idem"]);
}

#[tokio::test]
async fn another_password_ends_the_attempts_and_the_author_is_told() {
    for symbol in ["LOGIN_FAILED", "USER_NOT_CTI_ENABLED", "SECURE_CONNECTION_REQUIRED"] {
        let server = Server::plain().await;
        let (provider, peer) = at_work(&server).await;
        let mut events = provider.events();
        drop(peer);
        refuse_opening(&server, error(symbol, None)).await;
        let why = loop {
            if let ProviderEvent::GaveUp(why) = next(&mut events).await {
                break why;
            }
        };
        assert!(matches!(&why, GaveUp::Refused(error) if error.symbol.name() == symbol), "{why:?}");
        assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::Shutdown));
        assert_eq!(provider.snapshot().await, Err(Error::ShutDown));
    }
}

#[tokio::test]
async fn a_session_that_the_server_can_not_have_known_begins_anew() {
    let server = Server::plain().await;
    let (provider, peer) = at_work(&server).await;
    drop(peer);
    let first = refuse_opening(&server, error("INVALID_PARAMS", None)).await;
    assert_eq!(first["resume"]["session"], "s1");
    let mut peer = server.accept().await;
    let second = peer.expect("provider.open").await;
    assert_eq!(second.params.get("resume"), None);
    peer.reply(&second, opened(json!({"session": "s2"}))).await;
    peer.expect("device.open").await;
    assert_eq!(provider.state(), ProviderState::InService);
}

#[tokio::test]
async fn a_server_that_has_no_room_is_left_alone_and_the_next_one_asked() {
    let (first, second) = (Server::plain().await, Server::plain().await);
    let servers = vec![first.address(), second.address()];
    let config = ProviderConfig { reconnect: coming_back(), servers, ..config(&first) };
    let (provider, peer) = tokio::join!(Provider::connect(config), first.open());
    let provider = provider.expect("opens");
    drop(peer);
    refuse_opening(&first, error("RATE_LIMITED", Some(3_600_000))).await;
    refuse_opening(&second, error("MAX_CONNECTIONS", None)).await;
    // The first one is not asked again: it would be accepted here, and the second one wait in vain.
    let peer = came_back(&second, json!({"resumed": true})).await;
    let mut state = provider.state_changes();
    state.wait_for(|state| *state == ProviderState::InService).await.expect("back");
    drop(peer);
}

#[tokio::test]
async fn only_what_may_change_is_tried_again() {
    for (reason, comes_back) in [
        (CloseReason::SlowConsumer, true),
        (CloseReason::HeartbeatTimeout, true),
        (CloseReason::Draining, true),
        (CloseReason::Stopping, true),
        (CloseReason::UserDeleted, false),
        (CloseReason::NotCtiEnabled, false),
        (CloseReason::CertificateExpired, false),
    ] {
        let server = Server::plain().await;
        let (provider, mut peer) = at_work(&server).await;
        let mut events = provider.events();
        said_and_closed(&mut peer, reason.name()).await;
        if comes_back {
            came_back(&server, json!({"resumed": true})).await;
        }
        while next(&mut events).await != ProviderEvent::ConnectionLost(LostReason::Closed(reason)) {}
        let state = if comes_back { ProviderState::InService } else { ProviderState::Shutdown };
        assert_eq!(next(&mut events).await, ProviderEvent::State(state), "{reason:?}");
    }
}

#[tokio::test]
async fn a_request_that_the_server_has_no_time_for_is_made_again_when_it_has() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let line = provider.terminal("RP_MAIN").address("5000");
    let (forwarded, ()) = tokio::join!(line.set_forward(Some("2001")), async {
        let first = peer.expect("line.set_forward").await;
        let limited = json!({"jsonrpc": "2.0", "id": first.id, "error": error("RATE_LIMITED", Some(20))});
        peer.write(&limited.to_string()).await;
        let again = peer.expect("line.set_forward").await;
        assert_eq!((&first.id, &first.params), (&again.id, &again.params));
        peer.reply(&again, json!({})).await;
    });
    assert_eq!(forwarded, Ok(()));
    // Nobody waits for so long.
    let (refused, ()) = tokio::join!(line.set_forward(None), async {
        let asked = peer.expect("line.set_forward").await;
        let limited =
            json!({"jsonrpc": "2.0", "id": asked.id, "error": error("RATE_LIMITED", Some(3_600_000))});
        peer.write(&limited.to_string()).await;
    });
    assert_eq!(refused.expect_err("refused").symbol(), Some(Symbol::RateLimited));
}

#[tokio::test]
async fn only_what_does_no_harm_is_asked_again_in_another_session() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let (park, ()) = tokio::join!(provider.monitor_park(true), async {
        let asked = peer.expect("provider.monitor_park").await;
        peer.reply(&asked, json!({"park_numbers": []})).await;
    });
    park.expect("monitored");
    let port = provider.terminal("PORT_1");
    let line = provider.terminal("RP_MAIN").address("5000");
    let (snapshot, opened, made, ()) =
        tokio::join!(provider.snapshot(), port.open(None), line.make_call("2001"), async {
            for method in ["provider.snapshot", "device.open", "call.make"] {
                peer.expect(method).await;
            }
            drop(peer);
            let mut peer = came_back(&server, json!({"session": "s2", "reason": "unknown_session"})).await;
            let snapshot = peer.expect("provider.snapshot").await;
            let open = peer.expect("device.open").await;
            assert_eq!(open.params["device"], "PORT_1");
            peer.expect("provider.monitor_park").await;
            let again = peer.expect("device.open").await;
            assert_eq!(again.params["device"], "RP_MAIN");
            peer.reply(&snapshot, json!({"devices": [], "seq": 0})).await;
            peer.reply(&open, json!({"device": device("PORT_1"), "legs": []})).await;
        });
    assert!(snapshot.is_ok() && opened.is_ok());
    assert_eq!(made.map(|leg| leg.id()), Err(Error::ConnectionLost));
}

#[tokio::test]
async fn a_device_that_was_to_be_closed_is_not_opened_again() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let terminal = provider.terminal("RP_MAIN");
    let (closed, ()) = tokio::join!(terminal.close(), async {
        peer.expect("device.close").await;
        drop(peer);
        let mut peer = came_back(&server, json!({"session": "s2", "reason": "expired"})).await;
        let mut state = provider.state_changes();
        state.wait_for(|state| *state == ProviderState::InService).await.expect("back");
        let (snapshot, ()) = tokio::join!(provider.snapshot(), async {
            let asked = peer.expect("provider.snapshot").await;
            peer.reply(&asked, json!({"devices": [], "seq": 0})).await;
        });
        snapshot.expect("nothing was asked before it");
    });
    assert_eq!(closed, Ok(()));
}

#[tokio::test]
async fn who_has_asked_to_leave_is_not_brought_back() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    let (closed, ()) = tokio::join!(provider.close(), async {
        peer.expect("provider.close").await;
        drop(peer);
        // It was carried out, but the answer is lost.
        let mut peer = came_back(&server, json!({"session": "s2", "reason": "expired"})).await;
        let again = peer.next().await.expect("a request");
        assert_eq!(again["method"], "provider.close", "no device is opened");
        peer.write(&json!({"jsonrpc": "2.0", "id": again["id"], "result": {}}).to_string()).await;
        assert!(peer.next().await.is_none());
    });
    assert_eq!(closed, Ok(()));
    assert_eq!(provider.state(), ProviderState::Shutdown);
}

#[tokio::test]
async fn leaving_while_there_is_no_connection_ends_at_once_and_waiting_too_long_ends_as_well() {
    let patience = |give_up_after| Reconnect { give_up_after, ..coming_back().expect("comes back") };
    for (give_up_after, leaves) in [(Duration::from_secs(3_600), true), (Duration::from_millis(50), false)] {
        let server = Server::plain().await;
        let config = ProviderConfig { reconnect: Some(patience(give_up_after)), ..config(&server) };
        let (provider, peer) = tokio::join!(Provider::connect(config), server.open());
        let provider = provider.expect("opens");
        let mut events = provider.events();
        drop((server, peer));
        while !matches!(next(&mut events).await, ProviderEvent::ConnectionLost(_)) {}
        if leaves {
            assert_eq!(provider.snapshot().await, Err(Error::NotConnected));
            assert_eq!(provider.close().await, Err(Error::NotConnected));
        } else {
            let end = next(&mut events).await;
            assert!(matches!(end, ProviderEvent::GaveUp(GaveUp::TooLong { last: Some(_) })), "{end:?}");
        }
        assert_eq!(next(&mut events).await, ProviderEvent::State(ProviderState::Shutdown));
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn a_request_that_is_too_long_for_the_protocol_is_not_sent() {
    let server = Server::plain().await;
    let (provider, mut peer) = at_work(&server).await;
    peer.event("call.offering", json!({"leg": leg("l1", "offering")})).await;
    let leg = loop {
        if let Some(leg) = provider.terminal_connection("l1".parse().expect("an id")) {
            break leg;
        }
        tokio::task::yield_now().await;
    };
    let long = [("note".to_owned(), "n".repeat(1024 * 1024))].into();
    assert_eq!(leg.set_user_data(long).await, Err(Error::TooLong));
    assert_eq!(provider.state(), ProviderState::InService);
}
