use super::*;
use device_model::media::{Codec, Direction, KeyRef, MediaTermination, Stream, StreamDirection};
use device_model::plan::DeviceKind;
use device_model::port::{OutOfServiceReason, Param};
use device_model::view::Security;
use device_model::{
    CallId, Cause, DeviceView, LegId, LegState, LegView, LineView, Party, Reason, RefusalKind, WholeLeg,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Some time.
const THEN: SystemTime = SystemTime::UNIX_EPOCH;

#[test]
fn what_is_missing_is_found_and_another_life_begins_anew() {
    let life = |incarnation| Sender::new(&Identity { node: "cm1".into(), incarnation });
    let (mut sender, mut receiver) = (life(1), Receiver::default());
    assert_eq!(receiver.take(sender.send(THEN, "a")), ("a", None));
    sender.send(THEN, "lost");
    let gap = Gap { node: "cm1".into(), after: 1, number: 3 };
    assert_eq!(receiver.take(sender.send(THEN, "b")), ("b", Some(gap)));
    assert_eq!(receiver.take(sender.send(THEN, "c")), ("c", None));
    let mut next = life(2);
    assert_eq!(receiver.take(next.send(THEN, "d")), ("d", None));
    next.send(THEN, "lost");
    assert!(receiver.take(next.send(THEN, "e")).1.is_some());
}

fn party(number: &str, name: Option<&str>, restricted: bool) -> Party {
    Party { number: number.into(), name: name.map(Into::into), restricted }
}

fn full_leg() -> LegView {
    let user_data = [("key".to_owned(), "value \"quoted\"\n".to_owned())].into();
    LegView {
        leg: LegId(u64::MAX),
        call: CallId(1 << 60),
        device: "SEP0019E8D3A001".into(),
        dn: "+4930123".into(),
        state: LegState::Connected,
        cause: Some(Cause::USER_BUSY),
        reason: Reason::ForwardOnFailure,
        calling: party("1001", Some("Ä. Caller"), false),
        called: party("5000", None, true),
        original_called: Some(party("5001", None, false)),
        last_redirecting: Some(party("5002", Some("B"), false)),
        connected: Some(party("1002", None, false)),
        consult_of: Some(LegId(7)),
        conference: true,
        remote_in_use: true,
        security: Security::Encrypted,
        user_data: Arc::new(user_data),
    }
}

fn bare_leg() -> LegView {
    LegView {
        leg: LegId(0),
        state: LegState::Offering,
        cause: None,
        reason: Reason::Normal,
        calling: Party::default(),
        original_called: None,
        last_redirecting: None,
        connected: None,
        consult_of: None,
        conference: false,
        remote_in_use: false,
        security: Security::None,
        user_data: Arc::default(),
        ..full_leg()
    }
}

fn line() -> LineView {
    LineView {
        dn: "1001".into(),
        partition: Some("PT_INTERNAL".into()),
        index: 1,
        max_calls: 4,
        busy_trigger: 2,
        auto_accept: true,
        forward_all: Some("5000".into()),
        restricted: true,
    }
}

fn device(kind: DeviceKind) -> DeviceView {
    DeviceView {
        name: "PORT_1".into(),
        kind,
        description: "a port".into(),
        pool: "default".into(),
        in_service: true,
        node: Some("cm1".into()),
        owner: OwnerEpoch(u64::MAX),
        registered: true,
        restricted: true,
        opened: true,
        lines: vec![line(), LineView { partition: None, forward_all: None, ..line() }],
    }
}

fn media() -> Vec<Option<MediaTermination>> {
    let codecs =
        vec![Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::G729, Codec::Opus, Codec::Other("x/16000".into())];
    let srtp: Vec<Arc<str>> = vec!["AES_CM_128_HMAC_SHA1_80".into()];
    let address = "[2001:db8::1]:30000".parse().expect("an address");
    vec![
        None,
        Some(MediaTermination::None),
        Some(MediaTermination::Static { address, codecs: codecs.clone(), srtp: srtp.clone() }),
        Some(MediaTermination::Dynamic { codecs, srtp }),
    ]
}

fn stream(direction: StreamDirection, mode: Direction) -> Stream {
    let address = "192.0.2.1:4000".parse().expect("an address");
    let (payload_type, packet_ms, dtmf_payload_type) = (0, 20, Some(101));
    Stream {
        direction,
        address,
        codec: Codec::Pcmu,
        payload_type,
        packet_ms,
        dtmf_payload_type,
        mode,
        key: Some(KeyRef(7)),
    }
}

fn requests() -> Vec<Request> {
    let (device, dn, leg) = (|| "PORT_1".into(), || "1001".into(), LegId(9));
    let user_data: std::collections::BTreeMap<_, _> = [("a".to_owned(), "b".to_owned())].into();
    let mut all: Vec<Request> =
        media().into_iter().map(|media| Request::OpenDevice { device: device(), media }).collect();
    all.extend([
        Request::CloseDevice { device: device() },
        Request::SetForwardAll { device: device(), dn: dn(), destination: Some(dn()) },
        Request::SetForwardAll { device: device(), dn: dn(), destination: None },
        Request::SetAutoAccept { device: device(), dn: dn(), on: true },
        Request::SetMessageWaiting { device: device(), dn: dn(), on: true },
        Request::MakeCall {
            device: device(),
            dn: Some(dn()),
            destination: dn(),
            calling_number: Some(dn()),
            user_data: user_data.clone(),
        },
        Request::Accept { leg },
        Request::Answer { leg },
        Request::Reject { leg, cause: Cause::CALL_REJECTED },
        Request::Redirect {
            leg,
            destination: dn(),
            calling_number: Some(dn()),
            original_called: None,
            keep_on_failure: true,
        },
        Request::BlindTransfer { leg, destination: dn() },
        Request::Consult { leg, destination: dn() },
        Request::Transfer { leg, with: LegId(10) },
        Request::Drop { leg },
        Request::Hold { leg },
        Request::Retrieve { leg },
        Request::SetUserData { leg, user_data },
        Request::SetMedia { leg, address: "127.0.0.1:4000".parse().expect("an address") },
    ]);
    all
}

fn refusals() -> Vec<RefusalKind> {
    use RefusalKind as R;
    let params = [
        Param::Destination,
        Param::Ip,
        Param::Port,
        Param::UserData,
        Param::With,
        Param::MediaCodecs,
        Param::MediaIp,
        Param::MediaPort,
    ];
    let states = [
        LegState::Dialtone,
        LegState::Dialing,
        LegState::Proceeding,
        LegState::Ringback,
        LegState::Offering,
        LegState::Ringing,
        LegState::Connected,
        LegState::Held,
        LegState::Failed,
        LegState::Disconnected,
    ];
    let mut all = vec![
        R::NoSuchDevice,
        R::DeviceRestricted,
        R::LineRestricted,
        R::DeviceNotOpen,
        R::DeviceAlreadyOpen,
        R::DeviceOutOfService,
        R::CannotTerminateMediaOnPhone,
        R::MediaRequired,
        R::MediaAlreadyTerminatedStatic,
        R::MediaAlreadyTerminatedDynamic,
        R::MediaAlreadyTerminatedNone,
        R::MediaCapabilityMismatch,
        R::MediaAlreadySet,
        R::NoSuchLine,
        R::NoSuchLeg,
        R::OperationNotSupported,
        R::DestinationUnknown,
        R::DestinationBusy,
        R::DestinationOutOfService,
        R::MaxCalls,
        R::NotOwner,
        R::RateLimited { retry_after_ms: u64::MAX },
        R::Timeout,
    ];
    all.extend(params.into_iter().map(|field| R::InvalidParams { field }));
    all.extend(states.into_iter().map(|state| R::IllegalCallState { state }));
    all
}

fn events() -> Vec<Event> {
    use OutOfServiceReason as Why;
    let leg = full_leg;
    let far = Some("192.0.2.1:5000".parse().expect("an address"));
    let channel = |far| Event::OpenChannel {
        leg: leg(),
        codec: Codec::Opus,
        payload_type: 111,
        packet_ms: 20,
        far,
        deadline_ms: 4_000,
    };
    let mut all = vec![
        Event::Leg(leg()),
        Event::Leg(bare_leg()),
        Event::LegChanged(bare_leg()),
        Event::Digit(leg(), '#'),
        Event::Transferred { from_call: CallId(4), to_call: CallId(3), ok: true },
        channel(far),
        channel(None),
        Event::MediaStarted(leg(), stream(StreamDirection::Input, Direction::SendOnly)),
        Event::MediaStarted(leg(), stream(StreamDirection::Output, Direction::Inactive)),
        Event::KeyChanged(leg(), stream(StreamDirection::Output, Direction::SendReceive)),
        Event::MediaStopped(leg(), StreamDirection::Input),
        Event::DeviceInService(device(DeviceKind::RoutePoint)),
        Event::DeviceClosed(device(DeviceKind::Phone), Why::DeviceUnregistered),
        Event::ForwardChanged("PORT_1".into(), line()),
        Event::AutoAcceptChanged("PORT_1".into(), line()),
    ];
    let reasons = [
        Why::CallmanagerFailure,
        Why::CtimanagerFailure,
        Why::RehomeToHigherPriority,
        Why::RehomingFailure,
        Why::NoCallmanagerAvailable,
        Why::DeviceUnregistered,
        Why::DeviceRestricted,
        Why::LineRestricted,
        Why::DeviceFailure,
    ];
    all.extend(reasons.map(|why| Event::DeviceOutOfService(device(DeviceKind::CtiPort), why)));
    all
}

fn told() -> Vec<Told> {
    let (session, token) = (SessionId(u64::MAX >> 1), RequestToken(1 << 63));
    let answer = |result| Told::Answer { session, token, result };
    let opened = Reply::Opened { device: device(DeviceKind::CtiPort), legs: vec![full_leg(), bare_leg()] };
    let replies = [Reply::Done, opened, Reply::Call { call: CallId(2), leg: LegId(3) }];
    let names: Vec<device_model::DeviceName> = vec!["A".into(), "B".into()];
    let (open, limit) = (5, 4);
    let mut all: Vec<Told> = replies.into_iter().map(|reply| answer(Ok(reply))).collect();
    let refused = |kind| answer(Err(Refusal { kind, message: "that is why".to_owned() }));
    all.extend(refusals().into_iter().map(refused));
    let sessions: Arc<[SessionId]> = [SessionId(1), SessionId(2)].into();
    all.extend(events().into_iter().map(|event| Told::Event { sessions: Arc::clone(&sessions), event }));
    all.push(Told::Hidden(Event::Leg(full_leg())));
    let streams = [Some(stream(StreamDirection::Input, Direction::SendReceive)), None];
    all.extend([
        Told::Directory(News::Opened {
            session,
            device: device(DeviceKind::Phone),
            media: None,
            legs: vec![WholeLeg { leg: full_leg(), streams, hidden: true }],
        }),
        Told::Directory(News::Closed { session, device: "A".into() }),
        Told::Whole {
            round: 2,
            devices: vec![WholeDevice {
                device: device(DeviceKind::CtiPort),
                openers: Arc::clone(&sessions),
                media: Some(Arc::new(MediaTermination::None)),
                legs: Vec::new(),
            }],
            place: Place::Last,
        },
        Told::Directory(News::Hidden { device: "A".into(), legs: vec![LegId(1)] }),
        Told::Directory(News::Reached { device: device(DeviceKind::Phone) }),
    ]);
    all.extend([
        Told::Limit(Limit::DevicesPerProvider { session, open, limit, exceeded: true }),
        Told::Limit(Limit::DevicesPerNode { open, limit, exceeded: false }),
        Told::Directory(News::Settled { device: device(DeviceKind::Phone) }),
        Told::Directory(News::Announced {
            device: device(DeviceKind::Phone),
            itself: Some(true),
            line: None,
        }),
        Told::Directory(News::Revoked { session, devices: names.clone().into() }),
        Told::Directory(News::Departed { session, devices: names, over: true }),
        Told::Directory(News::Removed { device: device(DeviceKind::Phone), generation: 12 }),
    ]);
    all
}

fn asks() -> Vec<Ask> {
    let ask = |request| Ask::Request {
        session: SessionId(1),
        token: RequestToken(2),
        owner: OwnerEpoch(3),
        request,
    };
    requests().into_iter().map(ask).chain([Ask::Whole { round: 2 }]).collect()
}

/// Adds a member to each object that is a struct: one that is an enum's variant has that one member alone, and user data are
/// the application's own.
fn with_later_fields(value: &mut Value) -> usize {
    match value {
        Value::Array(list) => list.iter_mut().map(with_later_fields).sum(),
        Value::Object(members) => {
            let inner = members.iter_mut().filter(|(name, _)| *name != "user_data");
            let mut added: usize = inner.map(|(_, value)| with_later_fields(value)).sum();
            if members.len() > 1 {
                members.insert("of_a_later_version".to_owned(), json!({"more": [1, null]}));
                added += 1;
            }
            added
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Each comes back as it was, also from a version that says more.
fn travels<T>(messages: Vec<T>)
where
    T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
{
    let mut sender = Sender::new(&Identity { node: "cm1".into(), incarnation: u32::MAX });
    for what in messages {
        let sent = sender.send(THEN, what);
        let mut value = serde_json::to_value(&sent).expect("it can be written");
        assert!(with_later_fields(&mut value) > 0, "{value}");
        let read: Envelope<T> = serde_json::from_value(value).expect("fields of later versions pass");
        assert_eq!(read, sent);
        let number = sent.number;
        assert_eq!(Passage::Written.pass(sent).number, number);
    }
}

/// The variants that are written somewhere in these, by their names; `all` has each name that there is.
fn covers(written: &Value, all: &[&str]) {
    fn names<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| names(value, found)),
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                found.insert(name);
                names(value, found);
            }),
            Value::String(text) => drop(found.insert(text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    names(written, &mut found);
    let missing: Vec<_> = all.iter().filter(|name| !found.contains(*name)).collect();
    assert!(missing.is_empty(), "no message of this test has {missing:?}");
}

#[test]
fn each_message_is_read_as_it_was_written() {
    travels(asks());
    travels(told());
}

/// A variant without a sample above stops the compiler or this test.
#[test]
fn the_samples_leave_no_variant_out() {
    fn name(told: &Told) -> &'static str {
        match told {
            Told::Answer { result: Ok(Reply::Done), .. } => "done",
            Told::Answer { result: Ok(Reply::Opened { .. }), .. } => "opened",
            Told::Answer { result: Ok(Reply::Call { .. }), .. } => "call",
            Told::Answer { result: Err(_), .. } => "refusal",
            Told::Event { event, .. } => match event {
                Event::Leg(_) => "leg",
                Event::LegChanged(_) => "leg_changed",
                Event::Digit(..) => "digit",
                Event::Transferred { .. } => "transferred",
                Event::OpenChannel { .. } => "open_channel",
                Event::MediaStarted(..) => "media_started",
                Event::KeyChanged(..) => "key_changed",
                Event::MediaStopped(..) => "media_stopped",
                Event::DeviceInService(_) => "device_in_service",
                Event::DeviceOutOfService(..) => "device_out_of_service",
                Event::DeviceClosed(..) => "device_closed",
                Event::ForwardChanged(..) => "forward_changed",
                Event::AutoAcceptChanged(..) => "auto_accept_changed",
            },
            Told::Hidden(_) => "hidden",
            Told::Whole { .. } => "whole",
            Told::Directory(News::Opened { .. }) => "device_opened",
            Told::Directory(News::Closed { .. }) => "device_closed_by_session",
            Told::Directory(News::Hidden { .. }) => "legs_hidden",
            Told::Directory(News::Reached { .. }) => "reached",
            Told::Limit(Limit::DevicesPerProvider { .. }) => "devices_per_provider",
            Told::Limit(Limit::DevicesPerNode { .. }) => "devices_per_node",
            Told::Directory(News::Announced { .. }) => "announced",
            Told::Directory(News::Settled { .. }) => "settled",
            Told::Directory(News::Revoked { .. }) => "revoked",
            Told::Directory(News::Departed { .. }) => "departed",
            Told::Directory(News::Removed { .. }) => "removed",
        }
    }
    let told = told();
    assert_eq!(told.iter().map(name).collect::<BTreeSet<_>>().len(), 30);
    let subjects: BTreeSet<_> = requests()
        .iter()
        .map(|request| serde_json::to_value(request).expect("JSON"))
        .filter_map(|value| value.as_object().and_then(|members| members.keys().next().cloned()))
        .collect();
    assert_eq!(subjects.len(), 18, "{subjects:?}");
    let written = serde_json::to_value(&told).expect("JSON");
    covers(&written, &["media.codecs"].map(|_| "media_codecs"));
    covers(&written, &["not_owner", "timeout", "illegal_call_state", "rate_limited", "invalid_params"]);
    covers(&written, &["phone", "cti_port", "route_point", "offering", "connected", "#"]);
}

#[test]
fn what_nobody_could_have_said_is_refused() {
    let ask = |change: fn(&mut Value)| {
        let mut sender = Sender::new(&Identity { node: "cm1".into(), incarnation: 1 });
        let mut value = serde_json::to_value(sender.send(THEN, asks().remove(0))).expect("JSON");
        change(&mut value);
        serde_json::from_value::<Envelope<Ask>>(value).is_ok()
    };
    assert!(ask(|_| ()));
    assert!(!ask(|value| value["what"]["request"]["session"] = json!("l1")));
    assert!(!ask(|value| value["what"]["request"]["session"] = json!(1)));
    assert!(!ask(
        |value| value["what"]["request"]["request"] = json!({"reject": {"leg": "l1", "cause": 128}})
    ));
    assert!(!ask(|value| value["what"]["request"]["request"] = json!({"explode": {"leg": "l1"}})));
    assert!(!ask(|value| value["number"] = json!(null)));
}
