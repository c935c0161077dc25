use super::*;
use crate::methods::Glob;
use crate::rpc::Incoming;
use crate::wire::Security;
use device_model::NodeName;
use device_model::view::{self, DeviceView, LineView};
use serde_json::value::RawValue;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The contract's own example time.
fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_204_862_123)
}

fn leg() -> LegView {
    let party = |number: &str, name: Option<&str>| view::Party {
        number: number.into(),
        name: name.map(Into::into),
        restricted: name.is_none(),
    };
    LegView {
        leg: LegId(0x2a),
        call: CallId(0x7),
        device: "RP_MAIN".into(),
        dn: "5000".into(),
        state: view::LegState::Connected,
        cause: None,
        reason: view::Reason::Normal,
        calling: party("2001", Some("Zoë \"Z\"")),
        called: party("5000", None),
        original_called: None,
        last_redirecting: None,
        connected: None,
        consult_of: None,
        conference: false,
        remote_in_use: false,
        security: view::Security::None,
        user_data: Arc::default(),
    }
}

fn full_leg() -> LegView {
    let bare = leg();
    LegView {
        state: view::LegState::Disconnected,
        cause: Some(device_model::Cause::USER_BUSY),
        reason: view::Reason::ForwardNoAnswer,
        original_called: Some(bare.called.clone()),
        last_redirecting: Some(bare.called.clone()),
        connected: Some(bare.calling.clone()),
        consult_of: Some(LegId(0x29)),
        conference: true,
        remote_in_use: true,
        security: view::Security::Encrypted,
        user_data: Arc::new([("order".to_owned(), "4711".to_owned())].into()),
        ..bare
    }
}

fn line() -> LineView {
    LineView {
        dn: "5000".into(),
        partition: None,
        index: 1,
        max_calls: 5000,
        busy_trigger: 4500,
        auto_accept: true,
        forward_all: None,
        restricted: false,
    }
}

fn device() -> DeviceView {
    DeviceView {
        name: "RP_MAIN".into(),
        kind: device_model::plan::DeviceKind::RoutePoint,
        description: "Main".into(),
        pool: "Default".into(),
        in_service: true,
        node: Some("cm1".into()),
        owner: device_model::OwnerEpoch::FIRST,
        registered: true,
        restricted: false,
        opened: true,
        lines: vec![
            line(),
            LineView { dn: "5001".into(), index: 2, forward_all: Some("2001".into()), ..line() },
        ],
    }
}

fn phone() -> DeviceView {
    DeviceView {
        name: "SEP1".into(),
        kind: device_model::plan::DeviceKind::Phone,
        in_service: false,
        node: None,
        registered: false,
        opened: false,
        lines: Vec::new(),
        ..device()
    }
}

fn stream(direction: StreamDirection) -> Stream {
    Stream {
        direction,
        address: "10.0.0.1:5004".parse().expect("an address"),
        codec: Codec::Pcma,
        payload_type: 8,
        packet_ms: 20,
        dtmf_payload_type: Some(101),
        mode: Direction::SendReceive,
        key: None,
    }
}

use crate::frame::StreamKey;
use device_model::media::{Codec, Direction, KeyRef, StreamDirection};
use device_model::port::OutOfServiceReason;

/// Every event, the model's through its conversion.
fn every_event() -> Vec<Event> {
    let mut events: Vec<Event> = model_events().iter().map(Event::from).collect();
    events.extend(node_events());
    events
}

fn model_events() -> Vec<port::Event> {
    use view::LegState as S;
    let states = [
        S::Dialtone,
        S::Dialing,
        S::Proceeding,
        S::Ringback,
        S::Offering,
        S::Ringing,
        S::Connected,
        S::Held,
        S::Failed,
    ];
    let mut events: Vec<port::Event> =
        states.into_iter().map(|state| port::Event::Leg(LegView { state, ..leg() })).collect();
    let channel = |far| port::Event::OpenChannel {
        leg: leg(),
        codec: Codec::Opus,
        payload_type: 111,
        packet_ms: 20,
        far,
        deadline_ms: 12_000,
    };
    let one_way =
        Stream { mode: Direction::ReceiveOnly, dtmf_payload_type: None, ..stream(StreamDirection::Input) };
    events.extend([
        port::Event::Leg(full_leg()),
        port::Event::LegChanged(leg()),
        port::Event::Digit(leg(), '#'),
        channel(None),
        channel(Some("[::1]:4000".parse().expect("an address"))),
        port::Event::MediaStarted(leg(), one_way),
        port::Event::MediaStarted(leg(), stream(StreamDirection::Output)),
        port::Event::MediaStopped(leg(), StreamDirection::Input),
        port::Event::DeviceInService(device()),
        port::Event::DeviceOutOfService(phone(), OutOfServiceReason::DeviceUnregistered),
        port::Event::DeviceClosed(phone(), OutOfServiceReason::DeviceRestricted),
        port::Event::ForwardChanged(
            "RP_MAIN".into(),
            LineView { forward_all: Some("2001".into()), ..line() },
        ),
        port::Event::AutoAcceptChanged("RP_MAIN".into(), line()),
        port::Event::Transferred { from_call: CallId(2), to_call: CallId(1), ok: true },
        port::Event::KeyChanged(leg(), stream(StreamDirection::Input)),
    ]);
    events
}

/// What the model says is told, and what the node says of providers, devices and alarms; the rest is planned.
#[test]
fn an_event_is_planned_exactly_if_nobody_says_it() {
    let said: Vec<EventType> = model_events().iter().map(|event| Event::from(event).event_type()).collect();
    for kind in EventType::ALL {
        let own = ["provider.", "device.", "alarm"].iter().any(|prefix| kind.name().starts_with(prefix));
        let planned = crate::planned::event(kind.name()).is_some();
        assert_eq!(planned, !own && !said.contains(kind), "{kind}");
    }
}

fn node_events() -> Vec<Event> {
    let wire_leg = || Leg::from(&leg());
    let party = || wire_leg().calling;
    let change = |change| Event::Device { change, device: (&phone()).into(), reason: None };
    let park = |change| Event::Park {
        change,
        park_number: "8801".into(),
        parked: party(),
        parker: wire_leg().called,
    };
    let key = |key| Event::MediaSrtpKey { leg: wire_leg(), direction: MediaDirection::Output, key };
    let alarm = Alarm {
        name: "MaxDevicesPerProviderExceeded".into(),
        severity: "warning".into(),
        state: AlarmState::Raised,
        text: "2001 devices are open".into(),
        cause: "more devices than the limit".into(),
        cure: "raise max_devices_per_provider".into(),
        parameters: [("limit".to_owned(), "2000".to_owned())].into(),
    };
    let mut privileges = Privileges { srtp_keys: true, ..Privileges::default() };
    privileges.control_all_devices = true;
    vec![
        Event::ProviderInService,
        Event::ProviderOutOfService { reason: Some(ServiceReason::CallmanagerFailure) },
        Event::ProviderOutOfService { reason: None },
        Event::ProviderPrivilegesChanged { privileges },
        change(DeviceChange::Added),
        change(DeviceChange::Removed),
        change(DeviceChange::Restricted),
        change(DeviceChange::Unrestricted),
        Event::Alarm { alarm },
        Event::CallConferenced { call: CallId(1), legs: vec![wire_leg()], ok: false, failed: vec![LegId(5)] },
        Event::CallParked { leg: wire_leg(), park_number: "8801".into() },
        park(ParkChange::Parked),
        park(ParkChange::Retrieved),
        park(ParkChange::Reverted),
        park(ParkChange::Abandoned),
        key(SrtpKey::NotEncrypted),
        key(SrtpKey::NotAuthorized),
        key(SrtpKey::Unavailable),
        key(SrtpKey::Available {
            algorithm: "AES_CM_128_HMAC_SHA1_80".into(),
            key: "a2V5".into(),
            salt: "c2FsdA==".into(),
            mki: None,
            lifetime: Some(1 << 31),
            since: "2026-11-20T20:01:02.123Z".into(),
        }),
    ]
}

#[test]
fn the_bytes_of_every_event_in_version_1() {
    let node = NodeName::from("cm1");
    let frames: Vec<String> = (1..)
        .zip(every_event())
        .map(|(seq, event)| {
            String::from_utf8(event.encode(&node, time()).frame(seq).to_vec()).expect("UTF-8")
        })
        .collect();
    insta::assert_snapshot!("events_v1", frames.join("\n"));
    let told: std::collections::BTreeSet<EventType> = every_event().iter().map(Event::event_type).collect();
    assert_eq!(told.len(), EventType::ALL.len(), "every type is among them");
}

#[test]
fn a_client_reads_every_event_as_it_was_told() {
    let node = NodeName::from("cm1");
    for (n, event) in (1..).zip(every_event()) {
        let frame = event.clone().encode(&node, time()).frame(n).to_vec();
        let Ok(Incoming::Event(params)) = Incoming::parse(&frame) else { panic!("an event") };
        let received = Received::parse(&params).unwrap_or_else(|e| panic!("{}: {e}", event.event_type()));
        let Received::Event { seq, time: at, node: by, event: read } = received else {
            panic!("{received:?}")
        };
        assert_eq!((seq, &*at, &*by), (n, "2026-11-20T20:01:02.123Z", "cm1"));
        assert_eq!(*read, event);
    }
}

#[test]
fn what_a_connection_is_told_has_no_number() {
    let reasons = [
        CloseReason::SlowConsumer,
        CloseReason::HeartbeatTimeout,
        CloseReason::OpenTimeout,
        CloseReason::UserDeleted,
        CloseReason::NotCtiEnabled,
        CloseReason::CertificateExpired,
        CloseReason::CertificateRevoked,
        CloseReason::CredentialChanged,
        CloseReason::LineTooLong,
        CloseReason::Draining,
        CloseReason::Stopping,
    ];
    for reason in reasons {
        assert_eq!(serde_json::to_value(reason).expect("a string"), reason.name());
    }
    let mut events = vec![ConnectionEvent::Superseded, ConnectionEvent::Heartbeat];
    events.extend(reasons.map(ConnectionEvent::Closed));
    let mut golden = Vec::new();
    for event in events {
        let frame = event.frame(time()).to_vec();
        let Ok(Incoming::Event(params)) = Incoming::parse(&frame) else { panic!("an event") };
        assert_eq!(Received::parse(&params).expect("reads"), Received::Connection(event));
        golden.push(String::from_utf8(frame).expect("UTF-8"));
    }
    insta::assert_snapshot!("connection_events_v1", golden.join("\n"));
}

#[test]
fn later_versions_do_not_break_a_client() {
    let read = |text: &str| Received::parse(&RawValue::from_string(text.to_owned()).expect("JSON"));
    assert_eq!(
        read(r#"{"seq":4,"type":"call.juggled","time":"t","node":"n","balls":3}"#).expect("reads"),
        Received::Unknown { seq: 4, event_type: "call.juggled".into() }
    );
    for text in [r#"{"type":"session.moved"}"#, r#"{"type":"session.closed","reason":"boredom"}"#] {
        assert!(matches!(read(text), Ok(Received::UnknownConnection(_))), "{text}");
    }
    let more = r#"{"seq":1,"type":"provider.in_service","mood":"good"}"#;
    assert!(matches!(read(more), Ok(Received::Event { .. })));
    assert!(read(r#"{"seq":1,"type":"call.held"}"#).is_err(), "a leg is needed");
}

#[test]
fn an_event_is_serialised_once() {
    let event = Event::ProviderInService.encode(&"cm1".into(), time());
    let (one, two) = (event.frame(1), event.frame(u64::MAX));
    assert_eq!(one.tail.as_ptr(), two.tail.as_ptr());
    assert!(two.head.ends_with(b"18446744073709551615,"));
    assert!(event.frame(0).head.ends_with(b":0,"));
}

#[test]
fn subscriptions_are_globs() {
    let of = |globs: &[&str]| Subscription::of(&globs.iter().map(|g| Glob::from(*g)).collect::<Vec<_>>());
    let wanted = |s: Subscription| EventType::ALL.iter().filter(|t| s.wants(**t)).count();
    assert_eq!(wanted(Subscription::all()), EventType::ALL.len());
    assert_eq!(of(&["*"]).0 & of(&["call.*"]).0, of(&["call.*"]).0);
    assert_eq!(wanted(of(&["*"])), EventType::ALL.len());
    assert_eq!((wanted(of(&[])), wanted(of(&["nothing"]))), (0, 0));
    let some = of(&["call.d*", "media.started"]);
    let names: Vec<_> = EventType::ALL.iter().filter(|t| some.wants(**t)).map(|t| t.name()).collect();
    assert_eq!(names, ["call.dialtone", "call.dialing", "call.disconnected", "call.dtmf", "media.started"]);
}

#[test]
fn keys_are_not_shown() {
    let events = node_events();
    let shown = format!("{events:?}");
    assert!(!shown.contains("a2V5") && !shown.contains("c2FsdA"));
    let encoded = events.last().cloned().expect("the key").encode(&"cm1".into(), time());
    assert!(!format!("{encoded:?}").contains("a2V5"));
}

#[test]
fn what_is_written_to_a_disk_has_no_key_and_is_else_as_it_was() {
    for event in node_events() {
        let encoded = event.clone().encode(&"cm1".into(), time());
        let stored = encoded.without_secrets();
        let again = Encoded::restore(stored.event_type(), stored.tail().clone());
        let text = String::from_utf8(again.frame(7).to_vec()).expect("UTF-8");
        assert!(!text.contains("a2V5") && !text.contains("c2FsdA"), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let raw = RawValue::from_string(read["params"].to_string()).expect("JSON");
        let Ok(Received::Event { seq: 7, event: read, .. }) = Received::parse(&raw) else { panic!("{text}") };
        let Event::MediaSrtpKey { leg, direction, key } = event else {
            assert_eq!((stored, *read), (encoded, event));
            continue;
        };
        let key = if matches!(key, SrtpKey::Available { .. }) { SrtpKey::Unavailable } else { key };
        assert_eq!(*read, Event::MediaSrtpKey { leg, direction, key });
    }
}

#[test]
fn a_key_is_put_into_the_frame_of_who_may_have_it_and_stands_nowhere_else() {
    let (key, direction) = (KeyRef(7), StreamDirection::Output);
    let of = |key| Event::MediaSrtpKey { leg: Leg::from(&leg()), direction: MediaDirection::Output, key };
    let logged = of(SrtpKey::Unavailable).encode(&"cm1".into(), time());
    let logged = logged.about_key(StreamKey { key, leg: LegId(4), direction });
    let frame = logged.frame(7);
    assert_eq!(frame.key.map(|of| of.key), Some(key));
    assert!(logged.without_secrets().frame(7).key.is_none(), "a later process has no such key");
    for event in node_events() {
        let Event::MediaSrtpKey { key, .. } = &event else { continue };
        let told = key.put_into(&frame);
        assert_eq!(told.to_vec(), event.clone().encode(&"cm1".into(), time()).frame(7).to_vec());
    }
}

#[test]
fn any_time_can_be_written() {
    assert_eq!(rfc3339(time()), "2026-11-20T20:01:02.123Z");
    assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    let far = UNIX_EPOCH.checked_add(Duration::from_secs(400_000_000_000)).expect("fits");
    assert_eq!(rfc3339(far), "1970-01-01T00:00:00.000Z");
    let before = UNIX_EPOCH.checked_sub(Duration::from_secs(1)).expect("fits");
    assert_eq!(rfc3339(before), "1970-01-01T00:00:00.000Z");
}

#[test]
fn a_stream_without_flow_shows_its_own_direction() {
    let quiet = Stream { mode: Direction::Inactive, ..stream(StreamDirection::Output) };
    let shown = StartedStream::of(&quiet, view::Security::Encrypted);
    assert_eq!((shown.mode, shown.security), (crate::wire::MediaMode::SendOnly, Security::Encrypted));
}
