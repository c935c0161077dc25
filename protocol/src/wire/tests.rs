use super::*;
use crate::error::{CtiError, Symbol};
use crate::methods::{
    Conference, DeviceOpened, Devices, Empty, NewCall, NotResumed, ParkNumbers, Parked, ProviderOpened,
    Snapshot,
};
use crate::rpc::{self, Id};
use device_model::SessionId;
use serde::de::DeserializeOwned;

fn device() -> Device {
    Device {
        name: "SEP1".into(),
        kind: DeviceType::Phone,
        protocol: Some(DeviceProtocol::Sip),
        description: "Desk".into(),
        pool: "Default".into(),
        state: DeviceState::InService,
        node: Some("cm1".into()),
        registered: true,
        restricted: false,
        opened: true,
        lines: Vec::new(),
    }
}

fn opened(reason: Option<NotResumed>) -> ProviderOpened {
    ProviderOpened {
        session: SessionId(0x1a),
        resumed: false,
        reason,
        next_seq: 1,
        heartbeat_ms: 30_000,
        resume_grace_ms: 10_000,
        node: "cm1".into(),
        cluster: "hq".into(),
        ctimanagers: vec!["127.0.0.1:2749".into()],
        device_count: 3,
        privileges: Privileges::default(),
    }
}

/// What the server writes, after a client has read it back.
fn reply<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(result: &T) -> String {
    let raw = rpc::raw(result);
    assert_eq!(&serde_json::from_str::<T>(raw.get()).expect("reads"), result);
    String::from_utf8(rpc::result_frame(&Id::number(1), &raw).to_vec()).expect("UTF-8")
}

#[test]
fn the_bytes_of_every_answer_in_version_1() {
    let new_call = NewCall { call: CallId(7), leg: LegId(0x2a) };
    let pair = || DeviceOpened { device: device(), legs: Vec::new(), cursor: None };
    let answers = [
        reply(&Empty {}),
        reply(&opened(None)),
        reply(&opened(Some(NotResumed::UnknownSession))),
        reply(&opened(Some(NotResumed::Expired))),
        reply(&opened(Some(NotResumed::LogOverrun))),
        reply(&Devices { devices: vec![device()], cursor: Some("SEP1".into()) }),
        reply(&Devices { devices: Vec::new(), cursor: None }),
        reply(&ParkNumbers { park_numbers: vec!["8801".into()] }),
        reply(&pair()),
        reply(&Snapshot { devices: vec![pair()], seq: 9, cursor: None }),
        reply(&Snapshot { devices: vec![pair()], seq: 9, cursor: Some("1-1-0".into()) }),
        reply(&DeviceOpened { cursor: Some("1-0-9".into()), ..pair() }),
        reply(&new_call),
        reply(&Conference { call: CallId(7), participants: 3 }),
        reply(&Parked { park_number: "8801".into() }),
    ];
    insta::assert_snapshot!("answers_v1", answers.join("\n"));
}

#[test]
fn the_bytes_of_every_error_in_version_1() {
    let mut frames: Vec<String> = Symbol::ALL
        .iter()
        .map(|symbol| rpc::error_frame(Some(&Id::number(1)), &CtiError::new(*symbol, "why")))
        .map(|frame| String::from_utf8(frame.to_vec()).expect("UTF-8"))
        .collect();
    let with_data = [
        CtiError::invalid_params("media.port", "`media.port` must be even"),
        CtiError::rate_limited(250),
        CtiError::illegal_call_state(LegState::Held, "the leg is on hold"),
        CtiError::not_permitted(Symbol::UserNotCtiEnabled, "not enabled", "Standard CTI Enabled"),
    ];
    frames.extend(with_data.map(|e| String::from_utf8(rpc::error_frame(None, &e).to_vec()).expect("UTF-8")));
    insta::assert_snapshot!("errors_v1", frames.join("\n"));
}

#[test]
fn answers_of_the_model_read_as_their_types() {
    let done = crate::methods::answer(&device_model::Reply::Done);
    assert_eq!(done.get(), "{}");
    let call = crate::methods::answer(&device_model::Reply::Call { call: CallId(1), leg: LegId(2) });
    assert_eq!(call.get(), r#"{"call":"c1","leg":"l2"}"#);
}

#[test]
fn media_goes_out_as_it_came_in() {
    let dynamic = MediaTermination::Dynamic {
        codecs: vec![device_model::media::Codec::Pcmu, device_model::media::Codec::Opus],
        srtp: vec!["AES_CM_128_HMAC_SHA1_80".into()],
    };
    let text = serde_json::to_string(&Media::from(&dynamic)).expect("writes");
    assert_eq!(text, r#"{"mode":"dynamic","codecs":["PCMU","opus"],"srtp":["AES_CM_128_HMAC_SHA1_80"]}"#);
    let none = serde_json::to_string(&Media::from(&MediaTermination::None)).expect("writes");
    assert_eq!(none, r#"{"mode":"none"}"#);
}
