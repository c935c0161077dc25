//! The objects of the wire (contract §3–§5): what an application sees of devices, lines, legs, parties and media.
//!
//! Wire types are not the model's types: the model may change its views, these names may not. Conversions from the
//! views share their texts, so that an event costs no copies.

use device_model::media::{Codec, Direction, MediaTermination, Stream, StreamDirection};
use device_model::plan::DeviceKind;
use device_model::port::OutOfServiceReason;
use device_model::view::{
    self, DeviceView, LegState as LegStateView, LegView, LineView, Reason as ReasonView,
    Security as SecurityView,
};
use device_model::{CallId, DeviceName, Dn, LegId, NodeName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Ids and names as JSON strings.
pub(crate) mod text {
    use device_model::{CallId, DeviceName, Dn, LegId, NodeName, SessionId};
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Display;

    /// A typed text: what it says on the wire reads back.
    pub(crate) trait Text: Sized + Display {
        fn read(text: &str) -> Option<Self>;
    }

    macro_rules! names { ($($t:ty),*) => { $(impl Text for $t {
        fn read(text: &str) -> Option<Self> { Some(text.into()) }
    })* } }
    macro_rules! numbers { ($($t:ty),*) => { $(impl Text for $t {
        fn read(text: &str) -> Option<Self> { text.parse().ok() }
    })* } }
    names!(DeviceName, Dn, NodeName);
    numbers!(CallId, LegId, SessionId);

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        T::read(&text).ok_or_else(|| serde::de::Error::custom("not an id of this protocol"))
    }

    pub(crate) mod option {
        use super::Text;
        use serde::{Deserialize, Deserializer, Serializer};

        pub(crate) fn serialize<T: Text, S: Serializer>(v: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
            match v {
                Some(value) => s.collect_str(value),
                None => s.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
            let text = Option::<std::borrow::Cow<'_, str>>::deserialize(d)?;
            let read = |t: std::borrow::Cow<'_, str>| {
                T::read(&t).ok_or_else(|| serde::de::Error::custom("not an id of this protocol"))
            };
            text.map(read).transpose()
        }
    }

    pub(crate) mod list {
        use super::Text;
        use serde::{Deserialize, Deserializer, Serializer};

        pub(crate) fn serialize<T: Text, S: Serializer>(v: &[T], s: S) -> Result<S::Ok, S::Error> {
            s.collect_seq(v.iter().map(ToString::to_string))
        }

        pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
            let texts = Vec::<String>::deserialize(d)?;
            let read =
                |t: &String| T::read(t).ok_or_else(|| serde::de::Error::custom("not an id of this protocol"));
            texts.iter().map(read).collect()
        }
    }
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_empty(data: &BTreeMap<String, String>) -> bool {
    data.is_empty()
}

/// A party of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// Its number; empty when unknown.
    pub number: Arc<str>,
    /// Its display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Whether the party agreed to be shown.
    pub presentation: Presentation,
}

/// Whether a party may be shown to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the wire's own
pub enum Presentation {
    Allowed,
    Restricted,
}

/// Why a call or leg ended: a Q.850 value by number and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// 1–127
    #[schemars(range(min = 1, max = 127))]
    pub code: u16,
    /// `user_busy`; `cause_N` for a number without a name of its own.
    pub name: Arc<str>,
}

/// The state of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // contract §4 has the meanings
pub enum LegState {
    Dialtone,
    Dialing,
    Proceeding,
    Ringback,
    Offering,
    Ringing,
    Connected,
    Held,
    Failed,
    Disconnected,
}

/// Why a leg came to where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the wire's own
pub enum Reason {
    Normal,
    Redirect,
    Transfer,
    BlindTransfer,
    Conference,
    ForwardAll,
    ForwardBusy,
    ForwardNoAnswer,
    ForwardUnregistered,
    ForwardOnFailure,
    Park,
    Unpark,
    ParkReversion,
    Pickup,
    Barge,
    SilentMonitoring,
}

/// How safe a leg's media and signalling are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Security {
    None,
    Authenticated,
    Encrypted,
}

/// One call on one line of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // contract §4, field for field
pub struct Leg {
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub leg: LegId,
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub call: CallId,
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub device: DeviceName,
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub dn: Dn,
    pub state: LegState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    pub reason: Reason,
    pub calling: Party,
    pub called: Party,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_called: Option<Party>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_redirecting: Option<Party>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Party>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub consult_of: Option<LegId>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub conference: bool,
    pub remote_in_use: bool,
    pub security: Security,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub user_data: Arc<BTreeMap<String, String>>,
}

/// A line of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // contract §3, field for field
pub struct Line {
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub dn: Dn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Arc<str>>,
    /// 1 is the first.
    #[schemars(range(min = 1))]
    pub index: u32,
    pub max_calls: u32,
    pub busy_trigger: u32,
    pub auto_accept: bool,
    /// `null` when calls are not forwarded.
    #[serde(with = "text::option", default)]
    #[schemars(with = "Option<String>")]
    pub forward_all: Option<Dn>,
    pub restricted: bool,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum DeviceType {
    Phone,
    CtiPort,
    RoutePoint,
}

/// What a phone speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum DeviceProtocol {
    Sip,
    Sccp,
}

/// Whether a device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum DeviceState {
    OutOfService,
    InService,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // contract §3, field for field
pub struct Device {
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub name: DeviceName,
    #[serde(rename = "type")]
    pub kind: DeviceType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<DeviceProtocol>,
    pub description: Arc<str>,
    pub pool: Arc<str>,
    pub state: DeviceState,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub node: Option<NodeName>,
    pub registered: bool,
    pub restricted: bool,
    pub opened: bool,
    pub lines: Vec<Line>,
}

/// Why a device is out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the wire's own
pub enum ServiceReason {
    CallmanagerFailure,
    CtimanagerFailure,
    RehomeToHigherPriority,
    RehomingFailure,
    NoCallmanagerAvailable,
    DeviceUnregistered,
    DeviceRestricted,
    LineRestricted,
    DeviceFailure,
}

/// What the user of a session may do beyond his own devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // contract §2 and §7
pub struct Privileges {
    pub control_all_devices: bool,
    pub park_monitoring: bool,
    pub calling_number_modification: bool,
    pub srtp_keys: bool,
    pub secure_connection: bool,
}

/// Where media goes to or comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Address {
    pub ip: IpAddr,
    pub port: u16,
}

/// How an application ends the media of its port or route point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
#[allow(missing_docs)] // contract §3
pub enum Media {
    None,
    Static {
        ip: IpAddr,
        port: u16,
        codecs: Vec<Arc<str>>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        srtp: Vec<Arc<str>>,
    },
    Dynamic {
        codecs: Vec<Arc<str>>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        srtp: Vec<Arc<str>>,
    },
}

/// Which stream, seen from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaDirection {
    /// What the device receives, at its own address.
    Input,
    /// What the device sends, to the far address.
    Output,
}

/// Both streams of a leg together, seen from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum MediaMode {
    SendReceive,
    SendOnly,
    ReceiveOnly,
}

/// A stream that started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // contract §5 `media.started`
pub struct StartedStream {
    pub direction: MediaDirection,
    pub ip: IpAddr,
    pub port: u16,
    pub codec: Arc<str>,
    #[schemars(range(max = 127))]
    pub payload_type: u8,
    pub packet_ms: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 127))]
    pub dtmf_payload_type: Option<u8>,
    pub mode: MediaMode,
    pub security: Security,
}

impl StartedStream {
    /// The stream of a leg whose security is `security`.
    #[must_use]
    pub fn of(stream: &Stream, security: view::Security) -> Self {
        let direction = MediaDirection::from(stream.direction);
        let mode = match (stream.mode, direction) {
            (Direction::SendReceive, _) => MediaMode::SendReceive,
            (Direction::SendOnly, _) | (Direction::Inactive, MediaDirection::Output) => MediaMode::SendOnly,
            (Direction::ReceiveOnly, _) | (Direction::Inactive, MediaDirection::Input) => {
                MediaMode::ReceiveOnly
            }
        };
        Self {
            direction,
            ip: stream.address.ip(),
            port: stream.address.port(),
            codec: stream.codec.rtp_name().into(),
            payload_type: stream.payload_type,
            packet_ms: stream.packet_ms,
            dtmf_payload_type: stream.dtmf_payload_type,
            mode,
            security: security.into(),
        }
    }
}

macro_rules! same_variants {
    ($from:path => $to:ident { $($variant:ident),* $(,)? }) => {
        impl From<$from> for $to {
            fn from(value: $from) -> Self {
                use $from as From;
                match value {
                    $(From::$variant => $to::$variant,)*
                }
            }
        }
    };
}

same_variants!(view::LegState => LegState {
    Dialtone, Dialing, Proceeding, Ringback, Offering, Ringing, Connected, Held, Failed, Disconnected,
});
same_variants!(view::Reason => Reason {
    Normal, Redirect, Transfer, BlindTransfer, Conference, ForwardAll, ForwardBusy, ForwardNoAnswer,
    ForwardUnregistered, ForwardOnFailure, Park, Unpark, ParkReversion, Pickup, Barge, SilentMonitoring,
});
same_variants!(view::Security => Security { None, Authenticated, Encrypted });
same_variants!(LegState => LegStateView {
    Dialtone, Dialing, Proceeding, Ringback, Offering, Ringing, Connected, Held, Failed, Disconnected,
});
same_variants!(Reason => ReasonView {
    Normal, Redirect, Transfer, BlindTransfer, Conference, ForwardAll, ForwardBusy, ForwardNoAnswer,
    ForwardUnregistered, ForwardOnFailure, Park, Unpark, ParkReversion, Pickup, Barge, SilentMonitoring,
});
same_variants!(Security => SecurityView { None, Authenticated, Encrypted });
same_variants!(DeviceKind => DeviceType { Phone, CtiPort, RoutePoint });
same_variants!(DeviceType => DeviceKind { Phone, CtiPort, RoutePoint });
same_variants!(StreamDirection => MediaDirection { Input, Output });
same_variants!(OutOfServiceReason => ServiceReason {
    CallmanagerFailure, CtimanagerFailure, RehomeToHigherPriority, RehomingFailure, NoCallmanagerAvailable,
    DeviceUnregistered, DeviceRestricted, LineRestricted, DeviceFailure,
});

impl From<device_model::Cause> for Cause {
    fn from(cause: device_model::Cause) -> Self {
        Self { code: cause.code(), name: cause.name().into() }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip(), port: address.port() }
    }
}

impl From<Address> for SocketAddr {
    fn from(address: Address) -> Self {
        SocketAddr::new(address.ip, address.port)
    }
}

impl From<&view::Party> for Party {
    fn from(party: &view::Party) -> Self {
        let presentation = if party.restricted { Presentation::Restricted } else { Presentation::Allowed };
        Self { number: party.number.clone(), name: party.name.clone(), presentation }
    }
}

impl From<&LegView> for Leg {
    fn from(view: &LegView) -> Self {
        let party = |p: &Option<view::Party>| p.as_ref().map(Party::from);
        Self {
            leg: view.leg,
            call: view.call,
            device: view.device.clone(),
            dn: view.dn.clone(),
            state: view.state.into(),
            cause: view.cause.map(Cause::from),
            reason: view.reason.into(),
            calling: (&view.calling).into(),
            called: (&view.called).into(),
            original_called: party(&view.original_called),
            last_redirecting: party(&view.last_redirecting),
            connected: party(&view.connected),
            consult_of: view.consult_of,
            conference: view.conference,
            remote_in_use: view.remote_in_use,
            security: view.security.into(),
            user_data: view.user_data.clone(),
        }
    }
}

impl From<&Party> for view::Party {
    fn from(party: &Party) -> Self {
        let restricted = party.presentation == Presentation::Restricted;
        Self { number: party.number.clone(), name: party.name.clone(), restricted }
    }
}

/// As it was when it was written down.
impl From<&Leg> for LegView {
    fn from(leg: &Leg) -> Self {
        let party = |p: &Option<Party>| p.as_ref().map(view::Party::from);
        Self {
            leg: leg.leg,
            call: leg.call,
            device: leg.device.clone(),
            dn: leg.dn.clone(),
            state: leg.state.into(),
            cause: leg.cause.as_ref().and_then(|cause| device_model::Cause::from_code(cause.code)),
            reason: leg.reason.into(),
            calling: (&leg.calling).into(),
            called: (&leg.called).into(),
            original_called: party(&leg.original_called),
            last_redirecting: party(&leg.last_redirecting),
            connected: party(&leg.connected),
            consult_of: leg.consult_of,
            conference: leg.conference,
            remote_in_use: leg.remote_in_use,
            security: leg.security.into(),
            user_data: leg.user_data.clone(),
        }
    }
}

impl From<&LineView> for Line {
    fn from(view: &LineView) -> Self {
        Self {
            dn: view.dn.clone(),
            partition: view.partition.as_ref().map(|name| name.as_str().into()),
            index: view.index,
            max_calls: view.max_calls,
            busy_trigger: view.busy_trigger,
            auto_accept: view.auto_accept,
            forward_all: view.forward_all.clone(),
            restricted: view.restricted,
        }
    }
}

impl From<&DeviceView> for Device {
    fn from(view: &DeviceView) -> Self {
        let protocol = match view.kind {
            DeviceKind::Phone => Some(DeviceProtocol::Sip),
            DeviceKind::CtiPort | DeviceKind::RoutePoint => None,
        };
        Self {
            name: view.name.clone(),
            kind: view.kind.into(),
            protocol,
            description: view.description.clone(),
            pool: view.pool.clone(),
            state: if view.in_service { DeviceState::InService } else { DeviceState::OutOfService },
            node: view.node.clone(),
            registered: view.registered,
            restricted: view.restricted,
            opened: view.opened,
            lines: view.lines.iter().map(Line::from).collect(),
        }
    }
}

impl From<&MediaTermination> for Media {
    fn from(media: &MediaTermination) -> Self {
        let names =
            |codecs: &[device_model::media::Codec]| codecs.iter().map(|c| c.rtp_name().into()).collect();
        match media {
            MediaTermination::None => Media::None,
            MediaTermination::Static { address, codecs, srtp } => Media::Static {
                ip: address.ip(),
                port: address.port(),
                codecs: names(codecs),
                srtp: srtp.clone(),
            },
            MediaTermination::Dynamic { codecs, srtp } => {
                Media::Dynamic { codecs: names(codecs), srtp: srtp.clone() }
            }
        }
    }
}

impl From<&Media> for MediaTermination {
    fn from(media: &Media) -> Self {
        let codecs = |names: &[Arc<str>]| names.iter().map(|name| Codec::from_rtp_name(name)).collect();
        match media {
            Media::None => MediaTermination::None,
            Media::Static { ip, port, codecs: names, srtp } => MediaTermination::Static {
                address: SocketAddr::new(*ip, *port),
                codecs: codecs(names),
                srtp: srtp.clone(),
            },
            Media::Dynamic { codecs: names, srtp } => {
                MediaTermination::Dynamic { codecs: codecs(names), srtp: srtp.clone() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
