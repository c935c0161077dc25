//! Events (contract §2–§6): what a session is told, serialised once however many sessions hear it.

mod codec;
mod connection;
mod subscription;

pub use codec::{Encoded, Received, rfc3339};
pub use connection::{CloseReason, ConnectionEvent};
pub use subscription::Subscription;

use crate::wire::{
    Address, Device, Leg, LegState, Line, MediaDirection, Party, Privileges, ServiceReason, StartedStream,
};
use device_model::media::Stream;
use device_model::view::LegView;
use device_model::{CallId, DeviceName, Dn, LegId, port};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// The type of a numbered event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // the names are the wire's own
        pub enum EventType { $($variant,)* }

        impl EventType {
            /// Every type.
            pub const ALL: &[EventType] = &[$(EventType::$variant,)*];

            /// `type` on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(EventType::$variant => $name,)* }
            }

            /// The type of a name; `None` for one of a later version.
            #[must_use]
            pub fn from_name(name: &str) -> Option<EventType> {
                match name { $($name => Some(EventType::$variant),)* _ => None }
            }
        }
    };
}

event_types! {
    ProviderInService = "provider.in_service";
    ProviderOutOfService = "provider.out_of_service";
    ProviderPrivilegesChanged = "provider.privileges_changed";
    DeviceAdded = "device.added";
    DeviceRemoved = "device.removed";
    DeviceRestricted = "device.restricted";
    DeviceUnrestricted = "device.unrestricted";
    DeviceInService = "device.in_service";
    DeviceOutOfService = "device.out_of_service";
    DeviceClosed = "device.closed";
    LineForwardChanged = "line.forward_changed";
    LineAutoAcceptChanged = "line.auto_accept_changed";
    Alarm = "alarm";
    CallDialtone = "call.dialtone";
    CallDialing = "call.dialing";
    CallProceeding = "call.proceeding";
    CallRingback = "call.ringback";
    CallOffering = "call.offering";
    CallRinging = "call.ringing";
    CallConnected = "call.connected";
    CallHeld = "call.held";
    CallFailed = "call.failed";
    CallDisconnected = "call.disconnected";
    CallChanged = "call.changed";
    CallTransferred = "call.transferred";
    CallConferenced = "call.conferenced";
    CallDtmf = "call.dtmf";
    CallParked = "call.parked";
    ParkParked = "park.parked";
    ParkRetrieved = "park.retrieved";
    ParkReverted = "park.reverted";
    ParkAbandoned = "park.abandoned";
    MediaOpenChannel = "media.open_channel";
    MediaStarted = "media.started";
    MediaStopped = "media.stopped";
    MediaSrtpKey = "media.srtp_key";
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<LegState> for EventType {
    fn from(state: LegState) -> Self {
        match state {
            LegState::Dialtone => EventType::CallDialtone,
            LegState::Dialing => EventType::CallDialing,
            LegState::Proceeding => EventType::CallProceeding,
            LegState::Ringback => EventType::CallRingback,
            LegState::Offering => EventType::CallOffering,
            LegState::Ringing => EventType::CallRinging,
            LegState::Connected => EventType::CallConnected,
            LegState::Held => EventType::CallHeld,
            LegState::Failed => EventType::CallFailed,
            LegState::Disconnected => EventType::CallDisconnected,
        }
    }
}

/// What a session is told. Each event carries the whole new state of what it is about.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // contract §3–§5, field for field
pub enum Event {
    ProviderInService,
    ProviderOutOfService {
        reason: Option<ServiceReason>,
    },
    ProviderPrivilegesChanged {
        privileges: Privileges,
    },
    /// `device.*`
    Device {
        change: DeviceChange,
        device: Device,
        reason: Option<ServiceReason>,
    },
    /// `line.*`
    Line {
        change: LineChange,
        device: DeviceName,
        line: Line,
    },
    Alarm {
        alarm: Alarm,
    },
    /// The leg is in the state that it says: `call.dialtone` … `call.disconnected`.
    Call {
        leg: Leg,
    },
    CallChanged {
        leg: Leg,
    },
    CallTransferred {
        from_call: CallId,
        to_call: CallId,
        ok: bool,
    },
    CallConferenced {
        call: CallId,
        legs: Vec<Leg>,
        ok: bool,
        failed: Vec<LegId>,
    },
    CallDtmf {
        leg: Leg,
        digit: char,
    },
    CallParked {
        leg: Leg,
        park_number: Dn,
    },
    /// `park.*`
    Park {
        change: ParkChange,
        park_number: Dn,
        parked: Party,
        parker: Party,
    },
    MediaOpenChannel(OpenChannel),
    MediaStarted {
        leg: Leg,
        stream: StartedStream,
    },
    MediaStopped {
        leg: Leg,
        direction: MediaDirection,
    },
    MediaSrtpKey {
        leg: Leg,
        direction: MediaDirection,
        key: SrtpKey,
    },
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DeviceChange {
    Added,
    Removed,
    Restricted,
    Unrestricted,
    InService,
    OutOfService,
    Closed,
}

/// What changed on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LineChange {
    Forward,
    AutoAccept,
}

/// What happened at a park number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ParkChange {
    Parked,
    Retrieved,
    Reverted,
    Abandoned,
}

/// An alarm that concerns a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[allow(missing_docs)] // contract §3
pub struct Alarm {
    pub name: Arc<str>,
    #[schemars(extend("enum" = ["critical", "error", "warning", "informational", "debug"]))]
    pub severity: Arc<str>,
    pub state: AlarmState,
    pub text: Arc<str>,
    pub cause: Arc<str>,
    pub cure: Arc<str>,
    pub parameters: BTreeMap<String, String>,
}

/// Whether an alarm is still on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum AlarmState {
    Raised,
    Cleared,
}

impl AlarmState {
    /// Of a condition that stands, or does not.
    #[must_use]
    pub fn when(stands: bool) -> Self {
        if stands { AlarmState::Raised } else { AlarmState::Cleared }
    }
}

/// `media.open_channel`: an application with dynamic media is to give an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[allow(missing_docs)] // contract §5
pub struct OpenChannel {
    pub leg: Leg,
    pub codec: Arc<str>,
    #[schemars(range(max = 127))]
    pub payload_type: u8,
    pub packet_ms: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far: Option<Address>,
    pub deadline_ms: u64,
}

/// What is known of a stream's key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "indicator", rename_all = "snake_case")]
#[allow(missing_docs)] // contract §5
pub enum SrtpKey {
    /// Key and salt in base64.
    Available {
        algorithm: Arc<str>,
        key: Arc<str>,
        salt: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mki: Option<Arc<str>>,
        /// Packets.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime: Option<u64>,
        /// When this key came into use: RFC 3339, UTC.
        since: Arc<str>,
    },
    NotAuthorized,
    Unavailable,
    NotEncrypted,
}

/// One object for all indicators, since it stands among the event's own members.
impl schemars::JsonSchema for SrtpKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SrtpKey".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let text = || serde_json::json!({"type": "string", "minLength": 1});
        let optional = || serde_json::json!({"type": ["string", "null"], "minLength": 1});
        schemars::json_schema!({
            "type": "object",
            "properties": {
                "indicator": {
                    "type": "string",
                    "enum": ["available", "not_authorized", "unavailable", "not_encrypted"],
                },
                "algorithm": optional(), "key": optional(), "salt": optional(), "mki": optional(),
                "lifetime": {"type": ["integer", "null"], "minimum": 1}, "since": optional(),
            },
            "required": ["indicator"],
            "if": {"properties": {"indicator": {"const": "available"}}},
            "then": {
                "properties": {"algorithm": text(), "key": text(), "salt": text(), "since": text()},
                "required": ["algorithm", "key", "salt", "since"],
            },
            "else": {
                "properties": {
                    "algorithm": false, "key": false, "salt": false, "mki": false, "lifetime": false, "since": false,
                },
            },
        })
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SrtpKey::Available { .. } => "Available(…)",
            SrtpKey::NotAuthorized => "NotAuthorized",
            SrtpKey::Unavailable => "Unavailable",
            SrtpKey::NotEncrypted => "NotEncrypted",
        })
    }
}

impl Event {
    /// The event's type.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Event::ProviderInService => EventType::ProviderInService,
            Event::ProviderOutOfService { .. } => EventType::ProviderOutOfService,
            Event::ProviderPrivilegesChanged { .. } => EventType::ProviderPrivilegesChanged,
            Event::Device { change, .. } => match change {
                DeviceChange::Added => EventType::DeviceAdded,
                DeviceChange::Removed => EventType::DeviceRemoved,
                DeviceChange::Restricted => EventType::DeviceRestricted,
                DeviceChange::Unrestricted => EventType::DeviceUnrestricted,
                DeviceChange::InService => EventType::DeviceInService,
                DeviceChange::OutOfService => EventType::DeviceOutOfService,
                DeviceChange::Closed => EventType::DeviceClosed,
            },
            Event::Line { change: LineChange::Forward, .. } => EventType::LineForwardChanged,
            Event::Line { change: LineChange::AutoAccept, .. } => EventType::LineAutoAcceptChanged,
            Event::Alarm { .. } => EventType::Alarm,
            Event::Call { leg } => leg.state.into(),
            Event::CallChanged { .. } => EventType::CallChanged,
            Event::CallTransferred { .. } => EventType::CallTransferred,
            Event::CallConferenced { .. } => EventType::CallConferenced,
            Event::CallDtmf { .. } => EventType::CallDtmf,
            Event::CallParked { .. } => EventType::CallParked,
            Event::Park { change, .. } => match change {
                ParkChange::Parked => EventType::ParkParked,
                ParkChange::Retrieved => EventType::ParkRetrieved,
                ParkChange::Reverted => EventType::ParkReverted,
                ParkChange::Abandoned => EventType::ParkAbandoned,
            },
            Event::MediaOpenChannel(_) => EventType::MediaOpenChannel,
            Event::MediaStarted { .. } => EventType::MediaStarted,
            Event::MediaStopped { .. } => EventType::MediaStopped,
            Event::MediaSrtpKey { .. } => EventType::MediaSrtpKey,
        }
    }

    /// The leg that the event is about, if it is about one.
    #[must_use]
    pub fn leg(&self) -> Option<&Leg> {
        match self {
            Event::Call { leg }
            | Event::CallChanged { leg }
            | Event::CallDtmf { leg, .. }
            | Event::CallParked { leg, .. }
            | Event::MediaOpenChannel(OpenChannel { leg, .. })
            | Event::MediaStarted { leg, .. }
            | Event::MediaStopped { leg, .. }
            | Event::MediaSrtpKey { leg, .. } => Some(leg),
            Event::ProviderInService
            | Event::ProviderOutOfService { .. }
            | Event::ProviderPrivilegesChanged { .. }
            | Event::Device { .. }
            | Event::Line { .. }
            | Event::Alarm { .. }
            | Event::CallTransferred { .. }
            | Event::CallConferenced { .. }
            | Event::Park { .. } => None,
        }
    }
}

impl Event {
    /// `media.srtp_key` of a stream, without its key.
    #[must_use]
    pub fn key_of(leg: &LegView, stream: &Stream) -> Event {
        let key = if stream.key.is_some() { SrtpKey::Unavailable } else { SrtpKey::NotEncrypted };
        Event::MediaSrtpKey { leg: leg.into(), direction: stream.direction.into(), key }
    }
}

impl From<&port::Event> for Event {
    fn from(event: &port::Event) -> Self {
        match event {
            port::Event::Leg(leg) => Event::Call { leg: leg.into() },
            port::Event::LegChanged(leg) => Event::CallChanged { leg: leg.into() },
            port::Event::Transferred { from_call, to_call, ok } => {
                Event::CallTransferred { from_call: *from_call, to_call: *to_call, ok: *ok }
            }
            port::Event::Digit(leg, digit) => Event::CallDtmf { leg: leg.into(), digit: *digit },
            port::Event::OpenChannel { leg, codec, payload_type, packet_ms, far, deadline_ms } => {
                Event::MediaOpenChannel(OpenChannel {
                    leg: leg.into(),
                    codec: codec.rtp_name().into(),
                    payload_type: *payload_type,
                    packet_ms: *packet_ms,
                    far: far.map(Address::from),
                    deadline_ms: *deadline_ms,
                })
            }
            port::Event::MediaStarted(leg, stream) => {
                Event::MediaStarted { leg: leg.into(), stream: StartedStream::of(stream, leg.security) }
            }
            // Of the key itself nobody knows here.
            port::Event::KeyChanged(leg, stream) => Event::key_of(leg, stream),
            port::Event::MediaStopped(leg, direction) => {
                Event::MediaStopped { leg: leg.into(), direction: (*direction).into() }
            }
            port::Event::DeviceInService(device) => {
                Event::Device { change: DeviceChange::InService, device: device.into(), reason: None }
            }
            port::Event::DeviceOutOfService(device, reason) => Event::Device {
                change: DeviceChange::OutOfService,
                device: device.into(),
                reason: Some((*reason).into()),
            },
            port::Event::DeviceClosed(device, reason) => Event::Device {
                change: DeviceChange::Closed,
                device: device.into(),
                reason: Some((*reason).into()),
            },
            port::Event::ForwardChanged(device, line) => {
                Event::Line { change: LineChange::Forward, device: device.clone(), line: line.into() }
            }
            port::Event::AutoAcceptChanged(device, line) => {
                Event::Line { change: LineChange::AutoAccept, device: device.clone(), line: line.into() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
