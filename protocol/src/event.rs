//! Events (contract §2–§6): what a session is told, serialised once however many sessions hear it.

use crate::frame::Frame;
use crate::glob;
use crate::methods::Glob;
use crate::wire::{
    Address, Device, Leg, LegState, Line, MediaDirection, Party, Privileges, ServiceReason, StartedStream,
    text,
};
use bytes::Bytes;
use device_model::{CallId, DeviceName, Dn, LegId, NodeName, port};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

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

/// `media.open_channel`: an application with dynamic media is to give an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // contract §5
pub struct OpenChannel {
    pub leg: Leg,
    pub codec: Arc<str>,
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime: Option<Arc<str>>,
    },
    NotAuthorized,
    Unavailable,
    NotEncrypted,
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

/// The members of each event after `type` and `node`, as they stand on the wire.
mod body {
    use super::*;

    macro_rules! bodies {
        ($($name:ident { $($(#[$attr:meta])* $field:ident : $ty:ty),* $(,)? })*) => { $(
            #[derive(Serialize, Deserialize)]
            pub(super) struct $name { $($(#[$attr])* pub(super) $field: $ty,)* }
        )* };
    }

    bodies! {
        ProviderOutOfService {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            reason: Option<ServiceReason>,
        }
        PrivilegesChanged { privileges: Privileges }
        DeviceBody {
            device: super::Device,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            reason: Option<ServiceReason>,
        }
        LineBody { #[serde(with = "text")] device: DeviceName, line: super::Line }
        AlarmBody { alarm: super::Alarm }
        LegBody { leg: Leg }
        Transferred { #[serde(with = "text")] from_call: CallId, #[serde(with = "text")] to_call: CallId, ok: bool }
        Conferenced {
            #[serde(with = "text")]
            call: CallId,
            legs: Vec<Leg>,
            ok: bool,
            #[serde(with = "text::list", default)]
            failed: Vec<LegId>,
        }
        Dtmf { leg: Leg, digit: char }
        Parked { leg: Leg, #[serde(with = "text")] park_number: Dn }
        ParkBody { #[serde(with = "text")] park_number: Dn, parked: Party, parker: Party }
        Started { leg: Leg, #[serde(flatten)] stream: StartedStream }
        Stopped { leg: Leg, direction: MediaDirection }
        KeyBody { leg: Leg, direction: MediaDirection, #[serde(flatten)] key: SrtpKey }
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

    /// Serialises the event, once for all who will hear it. `node` tells it, at `time`.
    #[must_use]
    pub fn encode(self, node: &NodeName, time: SystemTime) -> Encoded {
        let event_type = self.event_type();
        let mut out = Vec::with_capacity(768);
        write_start(&mut out, event_type.name(), time);
        out.extend_from_slice(b",\"node\":");
        json(&mut out, node.as_str());
        self.write_body(&mut out);
        out.push(b'}');
        Encoded { event_type, tail: Bytes::from(out) }
    }

    /// Appends the event's own members and closes its params.
    fn write_body(self, out: &mut Vec<u8>) {
        match self {
            Event::ProviderInService => out.push(b'}'),
            Event::ProviderOutOfService { reason } => members(out, &body::ProviderOutOfService { reason }),
            Event::ProviderPrivilegesChanged { privileges } => {
                members(out, &body::PrivilegesChanged { privileges })
            }
            Event::Device { change: _, device, reason } => members(out, &body::DeviceBody { device, reason }),
            Event::Line { change: _, device, line } => members(out, &body::LineBody { device, line }),
            Event::Alarm { alarm } => members(out, &body::AlarmBody { alarm }),
            Event::Call { leg } | Event::CallChanged { leg } => members(out, &body::LegBody { leg }),
            Event::CallTransferred { from_call, to_call, ok } => {
                members(out, &body::Transferred { from_call, to_call, ok });
            }
            Event::CallConferenced { call, legs, ok, failed } => {
                members(out, &body::Conferenced { call, legs, ok, failed });
            }
            Event::CallDtmf { leg, digit } => members(out, &body::Dtmf { leg, digit }),
            Event::CallParked { leg, park_number } => members(out, &body::Parked { leg, park_number }),
            Event::Park { change: _, park_number, parked, parker } => {
                members(out, &body::ParkBody { park_number, parked, parker });
            }
            Event::MediaOpenChannel(channel) => members(out, &channel),
            Event::MediaStarted { leg, stream } => members(out, &body::Started { leg, stream }),
            Event::MediaStopped { leg, direction } => members(out, &body::Stopped { leg, direction }),
            Event::MediaSrtpKey { leg, direction, key } => {
                members(out, &body::KeyBody { leg, direction, key })
            }
        }
    }

    fn read_body(event_type: EventType, raw: &str) -> serde_json::Result<Event> {
        let leg = || serde_json::from_str::<body::LegBody>(raw).map(|b| b.leg);
        let device = |change| {
            serde_json::from_str(raw).map(|b: body::DeviceBody| Event::Device {
                change,
                device: b.device,
                reason: b.reason,
            })
        };
        let line = |change| {
            serde_json::from_str(raw).map(|b: body::LineBody| Event::Line {
                change,
                device: b.device,
                line: b.line,
            })
        };
        let park = |change| {
            serde_json::from_str(raw).map(|b: body::ParkBody| Event::Park {
                change,
                park_number: b.park_number,
                parked: b.parked,
                parker: b.parker,
            })
        };
        Ok(match event_type {
            EventType::ProviderInService => Event::ProviderInService,
            EventType::ProviderOutOfService => {
                let body::ProviderOutOfService { reason } = serde_json::from_str(raw)?;
                Event::ProviderOutOfService { reason }
            }
            EventType::ProviderPrivilegesChanged => {
                let body::PrivilegesChanged { privileges } = serde_json::from_str(raw)?;
                Event::ProviderPrivilegesChanged { privileges }
            }
            EventType::DeviceAdded => device(DeviceChange::Added)?,
            EventType::DeviceRemoved => device(DeviceChange::Removed)?,
            EventType::DeviceRestricted => device(DeviceChange::Restricted)?,
            EventType::DeviceUnrestricted => device(DeviceChange::Unrestricted)?,
            EventType::DeviceInService => device(DeviceChange::InService)?,
            EventType::DeviceOutOfService => device(DeviceChange::OutOfService)?,
            EventType::DeviceClosed => device(DeviceChange::Closed)?,
            EventType::LineForwardChanged => line(LineChange::Forward)?,
            EventType::LineAutoAcceptChanged => line(LineChange::AutoAccept)?,
            EventType::Alarm => {
                serde_json::from_str(raw).map(|b: body::AlarmBody| Event::Alarm { alarm: b.alarm })?
            }
            EventType::CallDialtone
            | EventType::CallDialing
            | EventType::CallProceeding
            | EventType::CallRingback
            | EventType::CallOffering
            | EventType::CallRinging
            | EventType::CallConnected
            | EventType::CallHeld
            | EventType::CallFailed
            | EventType::CallDisconnected => Event::Call { leg: leg()? },
            EventType::CallChanged => Event::CallChanged { leg: leg()? },
            EventType::CallTransferred => {
                let body::Transferred { from_call, to_call, ok } = serde_json::from_str(raw)?;
                Event::CallTransferred { from_call, to_call, ok }
            }
            EventType::CallConferenced => {
                let body::Conferenced { call, legs, ok, failed } = serde_json::from_str(raw)?;
                Event::CallConferenced { call, legs, ok, failed }
            }
            EventType::CallDtmf => {
                let body::Dtmf { leg, digit } = serde_json::from_str(raw)?;
                Event::CallDtmf { leg, digit }
            }
            EventType::CallParked => {
                let body::Parked { leg, park_number } = serde_json::from_str(raw)?;
                Event::CallParked { leg, park_number }
            }
            EventType::ParkParked => park(ParkChange::Parked)?,
            EventType::ParkRetrieved => park(ParkChange::Retrieved)?,
            EventType::ParkReverted => park(ParkChange::Reverted)?,
            EventType::ParkAbandoned => park(ParkChange::Abandoned)?,
            EventType::MediaOpenChannel => Event::MediaOpenChannel(serde_json::from_str(raw)?),
            EventType::MediaStarted => {
                let body::Started { leg, stream } = serde_json::from_str(raw)?;
                Event::MediaStarted { leg, stream }
            }
            EventType::MediaStopped => {
                let body::Stopped { leg, direction } = serde_json::from_str(raw)?;
                Event::MediaStopped { leg, direction }
            }
            EventType::MediaSrtpKey => {
                let body::KeyBody { leg, direction, key } = serde_json::from_str(raw)?;
                Event::MediaSrtpKey { leg, direction, key }
            }
        })
    }
}

impl From<&port::Event> for Event {
    fn from(event: &port::Event) -> Self {
        match event {
            port::Event::Leg(leg) => Event::Call { leg: leg.into() },
            port::Event::LegChanged(leg) => Event::CallChanged { leg: leg.into() },
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

/// An event, serialised: everything after its `seq`. Clones share the bytes. They may hold a media key, so `Debug` shows
/// none of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    event_type: EventType,
    tail: Bytes,
}

impl Encoded {
    /// The event's type.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.event_type
    }

    /// Bytes of the shared part.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail.len()
    }

    /// Never: there is at least a type.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty()
    }

    /// The event as number `seq` of a session.
    #[must_use]
    pub fn frame(&self, seq: u64) -> Frame {
        const HEAD: &str = "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"seq\":";
        // Exactly as much as is needed: a buffer with room to spare would be copied when it becomes `Bytes`.
        let digits = seq.checked_ilog10().map_or(1, |n| n as usize + 1);
        let mut head = Vec::with_capacity(HEAD.len() + digits + 1);
        write!(head, "{HEAD}{seq},").expect("a Vec takes every write");
        Frame { head: Bytes::from(head), tail: self.tail.clone() }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({}, {} bytes)", self.event_type, self.tail.len())
    }
}

/// What a connection is told of itself; it has no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Another connection has taken the session over.
    Superseded,
    /// The server lives and had nothing else to say.
    Heartbeat,
    /// The server closes the connection.
    Closed(CloseReason),
}

/// Why the server closes a connection.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // contract §6
pub enum CloseReason {
    SlowConsumer,
    HeartbeatTimeout,
    OpenTimeout,
    UserDeleted,
    NotCtiEnabled,
    CertificateExpired,
    LineTooLong,
    Draining,
    Stopping,
}

impl ConnectionEvent {
    /// `type` on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConnectionEvent::Superseded => "session.superseded",
            ConnectionEvent::Heartbeat => "session.heartbeat",
            ConnectionEvent::Closed(_) => "session.closed",
        }
    }

    /// The notification.
    #[must_use]
    pub fn frame(self, time: SystemTime) -> Frame {
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{");
        write_start(&mut out, self.name(), time);
        if let ConnectionEvent::Closed(reason) = self {
            out.extend_from_slice(b",\"reason\":");
            json(&mut out, &reason);
        }
        out.extend_from_slice(b"}}");
        Frame::whole(out)
    }
}

/// An event as a client gets it.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// One of the session's numbered events.
    Event {
        /// 1, 2, 3, …
        seq: u64,
        /// When, as written: RFC 3339, UTC, milliseconds.
        time: Arc<str>,
        /// Which node says so.
        node: Arc<str>,
        /// What.
        event: Box<Event>,
    },
    /// A numbered event of a later version: it counts, and says nothing to us.
    Unknown {
        /// 1, 2, 3, …
        seq: u64,
        /// Its type.
        event_type: String,
    },
    /// About the connection.
    Connection(ConnectionEvent),
    /// About the connection, of a later version.
    UnknownConnection(String),
}

impl Received {
    /// Reads the params of the notification `event`.
    ///
    /// # Errors
    /// When they are not of this protocol.
    pub fn parse(params: &RawValue) -> serde_json::Result<Received> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(default)]
            seq: Option<u64>,
            #[serde(default)]
            time: Option<Arc<str>>,
            #[serde(rename = "type", borrow)]
            event_type: std::borrow::Cow<'a, str>,
            #[serde(default)]
            node: Option<Arc<str>>,
        }
        #[derive(Deserialize)]
        struct Closed {
            reason: CloseReason,
        }
        let head: Head<'_> = serde_json::from_str(params.get())?;
        let Some(seq) = head.seq else {
            return Ok(match &*head.event_type {
                "session.superseded" => Received::Connection(ConnectionEvent::Superseded),
                "session.heartbeat" => Received::Connection(ConnectionEvent::Heartbeat),
                "session.closed" => match serde_json::from_str::<Closed>(params.get()) {
                    Ok(closed) => Received::Connection(ConnectionEvent::Closed(closed.reason)),
                    Err(_) => Received::UnknownConnection(head.event_type.into_owned()),
                },
                other => Received::UnknownConnection(other.to_owned()),
            });
        };
        let Some(event_type) = EventType::from_name(&head.event_type) else {
            return Ok(Received::Unknown { seq, event_type: head.event_type.into_owned() });
        };
        let event = Event::read_body(event_type, params.get())?;
        Ok(Received::Event {
            seq,
            time: head.time.unwrap_or_default(),
            node: head.node.unwrap_or_default(),
            event: Box::new(event),
        })
    }
}

/// The event types that a session wants, decided once: one bit a type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subscription(u64);

const _: () = assert!(EventType::ALL.len() <= 64, "one bit a type");

impl Subscription {
    /// Everything: what a client gets that did not choose.
    #[must_use]
    pub fn all() -> Self {
        Self(u64::MAX)
    }

    /// What any of these globs names. No glob: nothing but answers.
    #[must_use]
    pub fn of(globs: &[Glob]) -> Self {
        let wanted = |t: EventType| globs.iter().any(|g| glob::matches(g.as_str(), t.name()));
        Self(EventType::ALL.iter().filter(|t| wanted(**t)).fold(0, |bits, t| bits | 1 << (*t as u64)))
    }

    /// Whether the session wants events of this type.
    #[must_use]
    pub fn wants(self, event_type: EventType) -> bool {
        self.0 & (1 << (event_type as u64)) != 0
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(EventType::ALL.iter().filter(|t| self.wants(**t)).map(|t| t.name())).finish()
    }
}

/// A time as it stands on the wire: RFC 3339, UTC, milliseconds. What the format can't hold is shown as its epoch.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(24);
    if write!(out, "{}", humantime::format_rfc3339_millis(time)).is_err() {
        out.clear();
        out.push_str("1970-01-01T00:00:00.000Z");
    }
    out
}

fn write_start(out: &mut Vec<u8>, name: &str, time: SystemTime) {
    out.extend_from_slice(b"\"time\":\"");
    out.extend_from_slice(rfc3339(time).as_bytes());
    out.extend_from_slice(b"\",\"type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("our own types have string keys and a Vec takes every write");
}

/// Appends the members of a struct to an object that is being written, and closes it: `{"a":1}` becomes `,"a":1}`.
fn members<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    json(out, value);
    if out[start..] == *b"{}" {
        out.remove(start);
    } else {
        out[start] = b',';
    }
}
