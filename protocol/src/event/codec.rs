//! Events as bytes: written once by a node, read by a client.

use super::{
    Alarm, CloseReason, ConnectionEvent, DeviceChange, Event, EventType, LineChange, ParkChange, SrtpKey,
};
use crate::frame::{Frame, StreamKey};
use crate::wire::{Leg, MediaDirection, Party, Privileges, ServiceReason, StartedStream, text};
use bytes::Bytes;
use device_model::{CallId, DeviceName, Dn, LegId, NodeName};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

/// An event, serialised: everything after its `seq`. Clones share the bytes. A media key is not among these but beside them, as
/// a reference: it is put into the frame that goes to who may have it. `Debug` shows none of the bytes all the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    event_type: EventType,
    tail: Bytes,
    key: Option<StreamKey>,
}

impl Encoded {
    /// The event's type.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.event_type
    }

    /// An event that was written down: its type and what [`Encoded::tail`] gave.
    #[must_use]
    pub fn restore(event_type: EventType, tail: Bytes) -> Self {
        Self { event_type, tail, key: None }
    }

    /// The event is about this key, which its reader may have.
    #[must_use]
    pub fn about_key(self, key: StreamKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Everything after the `seq`, as it stands on the wire; of a key the indicator `unavailable` alone.
    #[must_use]
    pub fn tail(&self) -> &Bytes {
        &self.tail
    }

    /// The event as it may be written to a disk. The type decides: of `media.srtp_key` only what is no key, with the
    /// indicator `unavailable`; all others as they are.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        const SECRET: [&str; 6] = ["algorithm", "key", "salt", "mki", "lifetime", "since"];
        if self.event_type != EventType::MediaSrtpKey {
            return self.clone();
        }
        let whole = [b"{\"params\":{", &self.tail[..]].concat();
        let mut value: serde_json::Value = serde_json::from_slice(&whole).unwrap_or_default();
        let Some(params) = value.get_mut("params").and_then(serde_json::Value::as_object_mut) else {
            // Never of our own making; nothing of it is kept then.
            let nothing = Bytes::from_static(b"\"type\":\"media.srtp_key\"}}");
            return Self::restore(self.event_type, nothing);
        };
        if params.get("indicator").is_some_and(|indicator| indicator == "available") {
            params.insert("indicator".into(), "unavailable".into());
        }
        for name in SECRET {
            params.remove(name);
        }
        let mut tail = Vec::new();
        json(&mut tail, params);
        tail.remove(0);
        tail.push(b'}');
        Self::restore(self.event_type, Bytes::from(tail.into_boxed_slice()))
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
        // Exactly as much as is needed: a buffer with room to spare would need a second allocation to be shared.
        let digits = seq.checked_ilog10().map_or(1, |n| n as usize + 1);
        let mut head = Vec::with_capacity(HEAD.len() + digits + 1);
        write!(head, "{HEAD}{seq},").expect("a Vec takes every write");
        Frame { head: Bytes::from(head), tail: self.tail.clone(), key: self.key }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({}, {} bytes)", self.event_type, self.tail.len())
    }
}

impl SrtpKey {
    /// The frame of a key's event with what its reader may know of the key.
    #[must_use]
    pub fn put_into(&self, frame: &Frame) -> Frame {
        const UNKNOWN: &[u8] = b"\"indicator\":\"unavailable\"}}";
        let tail = match frame.tail.strip_suffix(UNKNOWN) {
            Some(before) => {
                let mut tail = Vec::with_capacity(before.len() + 256);
                tail.extend_from_slice(before);
                let at = tail.len();
                json(&mut tail, self);
                // Its members stand among the event's own.
                tail.remove(at);
                tail.push(b'}');
                Bytes::from(tail)
            }
            None => frame.tail.clone(),
        };
        Frame { head: frame.head.clone(), tail, key: None }
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

impl Event {
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
        // Exactly its size: the log counts what it holds.
        Encoded::restore(event_type, Bytes::from(out.into_boxed_slice()))
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
        match event_type {
            EventType::ProviderInService => Ok(Event::ProviderInService),
            EventType::ProviderOutOfService => read::<body::ProviderOutOfService>(raw),
            EventType::ProviderPrivilegesChanged => read::<body::PrivilegesChanged>(raw),
            EventType::DeviceAdded => read_device(DeviceChange::Added, raw),
            EventType::DeviceRemoved => read_device(DeviceChange::Removed, raw),
            EventType::DeviceRestricted => read_device(DeviceChange::Restricted, raw),
            EventType::DeviceUnrestricted => read_device(DeviceChange::Unrestricted, raw),
            EventType::DeviceInService => read_device(DeviceChange::InService, raw),
            EventType::DeviceOutOfService => read_device(DeviceChange::OutOfService, raw),
            EventType::DeviceClosed => read_device(DeviceChange::Closed, raw),
            EventType::LineForwardChanged => read_line(LineChange::Forward, raw),
            EventType::LineAutoAcceptChanged => read_line(LineChange::AutoAccept, raw),
            EventType::Alarm => read::<body::AlarmBody>(raw),
            EventType::CallDialtone
            | EventType::CallDialing
            | EventType::CallProceeding
            | EventType::CallRingback
            | EventType::CallOffering
            | EventType::CallRinging
            | EventType::CallConnected
            | EventType::CallHeld
            | EventType::CallFailed
            | EventType::CallDisconnected => read_leg(raw).map(|leg| Event::Call { leg }),
            EventType::CallChanged => read_leg(raw).map(|leg| Event::CallChanged { leg }),
            EventType::CallTransferred => read::<body::Transferred>(raw),
            EventType::CallConferenced => read::<body::Conferenced>(raw),
            EventType::CallDtmf => read::<body::Dtmf>(raw),
            EventType::CallParked => read::<body::Parked>(raw),
            EventType::ParkParked => read_park(ParkChange::Parked, raw),
            EventType::ParkRetrieved => read_park(ParkChange::Retrieved, raw),
            EventType::ParkReverted => read_park(ParkChange::Reverted, raw),
            EventType::ParkAbandoned => read_park(ParkChange::Abandoned, raw),
            EventType::MediaOpenChannel => serde_json::from_str(raw).map(Event::MediaOpenChannel),
            EventType::MediaStarted => read::<body::Started>(raw),
            EventType::MediaStopped => read::<body::Stopped>(raw),
            EventType::MediaSrtpKey => read::<body::KeyBody>(raw),
        }
    }

    /// The schema of an event's own members, which follow `seq`, `time`, `type` and `node`; `None` where it has none.
    pub(crate) fn body_schema(event_type: EventType, generator: &mut SchemaGenerator) -> Option<Schema> {
        let describe = match event_type {
            EventType::ProviderInService => return None,
            EventType::ProviderOutOfService => body::ProviderOutOfService::json_schema,
            EventType::ProviderPrivilegesChanged => body::PrivilegesChanged::json_schema,
            EventType::DeviceAdded
            | EventType::DeviceRemoved
            | EventType::DeviceRestricted
            | EventType::DeviceUnrestricted
            | EventType::DeviceInService
            | EventType::DeviceOutOfService
            | EventType::DeviceClosed => body::DeviceBody::json_schema,
            EventType::LineForwardChanged | EventType::LineAutoAcceptChanged => body::LineBody::json_schema,
            EventType::Alarm => body::AlarmBody::json_schema,
            EventType::CallDialtone
            | EventType::CallDialing
            | EventType::CallProceeding
            | EventType::CallRingback
            | EventType::CallOffering
            | EventType::CallRinging
            | EventType::CallConnected
            | EventType::CallHeld
            | EventType::CallFailed
            | EventType::CallDisconnected
            | EventType::CallChanged => body::LegBody::json_schema,
            EventType::CallTransferred => body::Transferred::json_schema,
            EventType::CallConferenced => body::Conferenced::json_schema,
            EventType::CallDtmf => body::Dtmf::json_schema,
            EventType::CallParked => body::Parked::json_schema,
            EventType::ParkParked
            | EventType::ParkRetrieved
            | EventType::ParkReverted
            | EventType::ParkAbandoned => body::ParkBody::json_schema,
            EventType::MediaOpenChannel => super::OpenChannel::json_schema,
            EventType::MediaStarted => body::Started::json_schema,
            EventType::MediaStopped => body::Stopped::json_schema,
            EventType::MediaSrtpKey => body::KeyBody::json_schema,
        };
        Some(describe(generator))
    }
}

fn read<B: DeserializeOwned + Into<Event>>(raw: &str) -> serde_json::Result<Event> {
    serde_json::from_str::<B>(raw).map(Into::into)
}

fn read_leg(raw: &str) -> serde_json::Result<Leg> {
    serde_json::from_str::<body::LegBody>(raw).map(|b| b.leg)
}

fn read_device(change: DeviceChange, raw: &str) -> serde_json::Result<Event> {
    let body::DeviceBody { device, reason } = serde_json::from_str(raw)?;
    Ok(Event::Device { change, device, reason })
}

fn read_line(change: LineChange, raw: &str) -> serde_json::Result<Event> {
    let body::LineBody { device, line } = serde_json::from_str(raw)?;
    Ok(Event::Line { change, device, line })
}

fn read_park(change: ParkChange, raw: &str) -> serde_json::Result<Event> {
    let body::ParkBody { park_number, parked, parker } = serde_json::from_str(raw)?;
    Ok(Event::Park { change, park_number, parked, parker })
}

/// The members of each event after `type` and `node`, as they stand on the wire.
mod body {
    use super::*;

    macro_rules! bodies {
        ($($name:ident { $($(#[$attr:meta])* $field:ident : $ty:ty),* $(,)? })*) => { $(
            #[derive(Serialize, Deserialize, schemars::JsonSchema)]
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
            device: crate::wire::Device,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            reason: Option<ServiceReason>,
        }
        LineBody {
            #[serde(with = "text")]
            #[schemars(with = "String")]
            device: DeviceName,
            line: crate::wire::Line,
        }
        AlarmBody { alarm: Alarm }
        LegBody { leg: Leg }
        Transferred {
            #[serde(with = "text")]
            #[schemars(with = "String")]
            from_call: CallId,
            #[serde(with = "text")]
            #[schemars(with = "String")]
            to_call: CallId,
            ok: bool,
        }
        Conferenced {
            #[serde(with = "text")]
            #[schemars(with = "String")]
            call: CallId,
            legs: Vec<Leg>,
            ok: bool,
            #[serde(with = "text::list", default)]
            #[schemars(with = "Vec<String>")]
            failed: Vec<LegId>,
        }
        Dtmf {
            leg: Leg,
            #[schemars(regex(pattern = r"^[0-9A-D*#]$"))]
            digit: char,
        }
        Parked {
            leg: Leg,
            #[serde(with = "text")]
            #[schemars(with = "String")]
            park_number: Dn,
        }
        ParkBody {
            #[serde(with = "text")]
            #[schemars(with = "String")]
            park_number: Dn,
            parked: Party,
            parker: Party,
        }
        Started { leg: Leg, #[serde(flatten)] stream: StartedStream }
        Stopped { leg: Leg, direction: MediaDirection }
        KeyBody { leg: Leg, direction: MediaDirection, #[serde(flatten)] key: SrtpKey }
    }

    macro_rules! same_members {
        ($($body:ident => $event:ident { $($field:ident),* })*) => { $(
            impl From<$body> for Event {
                fn from($body { $($field),* }: $body) -> Event {
                    Event::$event { $($field),* }
                }
            }
        )* };
    }

    same_members! {
        ProviderOutOfService => ProviderOutOfService { reason }
        PrivilegesChanged => ProviderPrivilegesChanged { privileges }
        AlarmBody => Alarm { alarm }
        Transferred => CallTransferred { from_call, to_call, ok }
        Conferenced => CallConferenced { call, legs, ok, failed }
        Dtmf => CallDtmf { leg, digit }
        Parked => CallParked { leg, park_number }
        Started => MediaStarted { leg, stream }
        Stopped => MediaStopped { leg, direction }
        KeyBody => MediaSrtpKey { leg, direction, key }
    }
}

/// A time as it stands on the wire: RFC 3339, UTC, milliseconds. What the format can't hold is shown as its epoch.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(24);
    // The formatter panics before the epoch and fails after the year 9999.
    let time = time.max(SystemTime::UNIX_EPOCH);
    if write!(out, "{}", humantime::format_rfc3339_millis(time)).is_err() {
        out.clear();
        out.push_str("1970-01-01T00:00:00.000Z");
    }
    out
}

pub(super) fn write_start(out: &mut Vec<u8>, name: &str, time: SystemTime) {
    out.extend_from_slice(b"\"time\":\"");
    out.extend_from_slice(rfc3339(time).as_bytes());
    out.extend_from_slice(b"\",\"type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
}

pub(super) fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
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
