//! One example of each event. They are written by the codec that writes the wire, so they are what a client gets.

use crate::event::{
    Alarm, AlarmState, DeviceChange, Event, EventType, LineChange, OpenChannel, ParkChange, SrtpKey,
};
use crate::wire::{
    Address, Cause, Device, DeviceProtocol, DeviceState, DeviceType, Leg, LegState, Line, MediaDirection,
    MediaMode, Party, Presentation, Privileges, Reason, Security, ServiceReason, StartedStream,
};
use device_model::{CallId, LegId};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The number of the examples.
pub(super) const SEQ: u64 = 41_878;

/// 2026-11-20T20:01:02.123Z
pub(super) fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_204_862_123)
}

/// An event of this type.
pub(super) fn event(event_type: EventType) -> Event {
    let of_device = |change, reason| Event::Device { change, device: device(), reason };
    let of_line = |change, line| Event::Line { change, device: "RP_MAIN".into(), line };
    let of_leg = |state| Event::Call { leg: leg(state) };
    let of_park =
        |change| Event::Park { change, park_number: "8801".into(), parked: zoe(), parker: main_number() };
    match event_type {
        EventType::ProviderInService => Event::ProviderInService,
        EventType::ProviderOutOfService => {
            Event::ProviderOutOfService { reason: Some(ServiceReason::CallmanagerFailure) }
        }
        EventType::ProviderPrivilegesChanged => Event::ProviderPrivilegesChanged { privileges: privileges() },
        EventType::DeviceAdded => of_device(DeviceChange::Added, None),
        EventType::DeviceRemoved => of_device(DeviceChange::Removed, None),
        EventType::DeviceRestricted => of_device(DeviceChange::Restricted, None),
        EventType::DeviceUnrestricted => of_device(DeviceChange::Unrestricted, None),
        EventType::DeviceInService => of_device(DeviceChange::InService, None),
        EventType::DeviceOutOfService => Event::Device {
            change: DeviceChange::OutOfService,
            device: phone(),
            reason: Some(ServiceReason::DeviceUnregistered),
        },
        EventType::DeviceClosed => of_device(DeviceChange::Closed, Some(ServiceReason::DeviceRestricted)),
        EventType::LineForwardChanged => {
            of_line(LineChange::Forward, Line { forward_all: Some("2001".into()), ..line() })
        }
        EventType::LineAutoAcceptChanged => of_line(LineChange::AutoAccept, line()),
        EventType::Alarm => Event::Alarm { alarm: alarm() },
        EventType::CallDialtone => of_leg(LegState::Dialtone),
        EventType::CallDialing => of_leg(LegState::Dialing),
        EventType::CallProceeding => of_leg(LegState::Proceeding),
        EventType::CallRingback => of_leg(LegState::Ringback),
        EventType::CallOffering => of_leg(LegState::Offering),
        EventType::CallRinging => of_leg(LegState::Ringing),
        EventType::CallConnected => of_leg(LegState::Connected),
        EventType::CallHeld => of_leg(LegState::Held),
        EventType::CallFailed => of_leg(LegState::Failed),
        EventType::CallDisconnected => of_leg(LegState::Disconnected),
        EventType::CallChanged => Event::CallChanged { leg: leg_with_data() },
        EventType::CallTransferred => {
            Event::CallTransferred { from_call: CallId(7), to_call: CallId(9), ok: true }
        }
        EventType::CallConferenced => conferenced(),
        EventType::CallDtmf => Event::CallDtmf { leg: leg(LegState::Connected), digit: '5' },
        EventType::CallParked => {
            Event::CallParked { leg: leg(LegState::Connected), park_number: "8801".into() }
        }
        EventType::ParkParked => of_park(ParkChange::Parked),
        EventType::ParkRetrieved => of_park(ParkChange::Retrieved),
        EventType::ParkReverted => of_park(ParkChange::Reverted),
        EventType::ParkAbandoned => of_park(ParkChange::Abandoned),
        EventType::MediaOpenChannel => Event::MediaOpenChannel(open_channel()),
        EventType::MediaStarted => {
            Event::MediaStarted { leg: leg(LegState::Connected), stream: started_stream() }
        }
        EventType::MediaStopped => {
            Event::MediaStopped { leg: leg(LegState::Held), direction: MediaDirection::Output }
        }
        EventType::MediaSrtpKey => Event::MediaSrtpKey {
            leg: leg(LegState::Connected),
            direction: MediaDirection::Output,
            key: key(),
        },
    }
}

const FAR: Address = Address { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 40)), port: 16_384 };

fn open_channel() -> OpenChannel {
    OpenChannel {
        leg: leg(LegState::Offering),
        codec: "PCMA".into(),
        payload_type: 8,
        packet_ms: 20,
        far: Some(FAR),
        deadline_ms: 5_000,
    }
}

fn started_stream() -> StartedStream {
    StartedStream {
        direction: MediaDirection::Output,
        ip: FAR.ip,
        port: FAR.port,
        codec: "PCMA".into(),
        payload_type: 8,
        packet_ms: 20,
        dtmf_payload_type: Some(101),
        mode: MediaMode::SendReceive,
        security: Security::None,
    }
}

/// Zeros in base64: as long as the suite's key and salt.
fn key() -> SrtpKey {
    SrtpKey::Available {
        algorithm: "AES_CM_128_HMAC_SHA1_80".into(),
        key: "AAAAAAAAAAAAAAAAAAAAAA==".into(),
        salt: "AAAAAAAAAAAAAAAAAAA=".into(),
        mki: None,
        lifetime: Some(1 << 31),
        since: "2026-11-20T20:01:02.123Z".into(),
    }
}

fn leg(state: LegState) -> Leg {
    let talks = matches!(state, LegState::Connected | LegState::Held);
    let cause = match state {
        LegState::Failed => Some((17, "user_busy")),
        LegState::Disconnected => Some((16, "normal_clearing")),
        LegState::Dialtone
        | LegState::Dialing
        | LegState::Proceeding
        | LegState::Ringback
        | LegState::Offering
        | LegState::Ringing
        | LegState::Connected
        | LegState::Held => None,
    };
    Leg {
        leg: LegId(42),
        call: CallId(7),
        device: "RP_MAIN".into(),
        dn: "5000".into(),
        state,
        cause: cause.map(|(code, name)| Cause { code, name: name.into() }),
        reason: Reason::Normal,
        calling: zoe(),
        called: main_number(),
        original_called: None,
        last_redirecting: None,
        connected: talks.then(zoe),
        consult_of: None,
        conference: false,
        remote_in_use: false,
        security: Security::None,
        user_data: Arc::default(),
    }
}

fn conferenced() -> Event {
    let leg = Leg { conference: true, ..leg(LegState::Connected) };
    Event::CallConferenced { call: CallId(7), legs: vec![leg], ok: true, failed: Vec::new() }
}

fn leg_with_data() -> Leg {
    let user_data = BTreeMap::from([("order".to_owned(), "4711".to_owned())]);
    Leg { user_data: Arc::new(user_data), ..leg(LegState::Connected) }
}

fn privileges() -> Privileges {
    Privileges { calling_number_modification: true, ..Privileges::default() }
}

fn zoe() -> Party {
    Party { number: "2001".into(), name: Some("Zoe".into()), presentation: Presentation::Allowed }
}

fn main_number() -> Party {
    Party { number: "5000".into(), name: None, presentation: Presentation::Allowed }
}

fn line() -> Line {
    Line {
        dn: "5000".into(),
        partition: None,
        index: 1,
        max_calls: 5_000,
        busy_trigger: 4_500,
        auto_accept: true,
        forward_all: None,
        restricted: false,
    }
}

fn device() -> Device {
    Device {
        name: "RP_MAIN".into(),
        kind: DeviceType::RoutePoint,
        protocol: None,
        description: "Main number".into(),
        pool: "Default".into(),
        state: DeviceState::InService,
        node: Some("cm1".into()),
        registered: true,
        restricted: false,
        opened: true,
        lines: vec![line()],
    }
}

fn phone() -> Device {
    Device {
        name: "SEP001122334455".into(),
        kind: DeviceType::Phone,
        protocol: Some(DeviceProtocol::Sip),
        description: "Zoe's phone".into(),
        state: DeviceState::OutOfService,
        node: None,
        registered: false,
        lines: vec![Line { dn: "2001".into(), max_calls: 4, busy_trigger: 2, auto_accept: false, ..line() }],
        ..device()
    }
}

fn alarm() -> Alarm {
    Alarm {
        name: "MaxDevicesPerProviderExceeded".into(),
        severity: "warning".into(),
        state: AlarmState::Raised,
        text: "2001 devices are open".into(),
        cause: "more devices than the limit".into(),
        cure: "raise max_devices_per_provider".into(),
        parameters: BTreeMap::from([("limit".to_owned(), "2000".to_owned())]),
    }
}
