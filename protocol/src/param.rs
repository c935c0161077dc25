//! How one param is read, written and described. A param that can't be read says which field is wrong and what would be
//! right; whatever was read is good.

use crate::error::{CtiError, Symbol};
use crate::reserved::reserved;
use crate::secret::Secret;
use crate::wire::{DeviceType, Media};
use device_model::media::{Codec, MediaTermination};
use device_model::{Cause, DeviceName, Dn, LegId, SessionId};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Reads, writes and describes a type of param.
pub(crate) trait Param: Sized {
    /// What must stand in the request; the error's field is the path below this param.
    fn read(value: Value) -> Result<Self, CtiError>;
    /// What stands for it when the client wrote nothing.
    fn absent() -> Result<Self, CtiError> {
        Err(CtiError::invalid_params("", "is missing"))
    }
    /// Whether a client writes nothing.
    fn is_absent(&self) -> bool {
        false
    }
    /// What a client writes.
    fn write(&self) -> Value;
    /// For the OpenRPC document.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
    /// Whether it must be there.
    const REQUIRED: bool = true;
}

/// Takes one param out of the object, by its name or by one of its aliases.
pub(crate) fn take<T: Param>(fields: &mut Map<String, Value>, name: &'static str) -> Result<T, CtiError> {
    let mut found = fields.remove(name).map(|value| (name, value));
    for alias in reserved(name).map_or(&[][..], |reserved| reserved.aliases) {
        match (fields.remove(*alias), &found) {
            (None, _) | (Some(Value::Null), Some(_)) => {}
            (Some(value), None | Some((_, Value::Null))) => found = Some((alias, value)),
            (Some(_), Some((given, _))) => {
                let message =
                    format!("is another name of `{name}`, which is given as `{given}`: write one of them");
                return Err(wrong(message).under(alias));
            }
        }
    }
    match found {
        None => T::absent().map_err(|error| error.under(name)),
        Some((written, value)) => T::read(value).map_err(|error| error.under(written)),
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> CtiError {
    CtiError::invalid_params("", message)
}

fn string(value: Value, max: usize) -> Result<String, CtiError> {
    match value {
        Value::String(s) if s.len() > max => Err(wrong(format!("must be at most {max} bytes long"))),
        Value::String(s) => Ok(s),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(wrong("must be a string"))
        }
    }
}

fn object(value: Value) -> Result<Map<String, Value>, CtiError> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::String(_) => {
            Err(wrong("must be an object"))
        }
    }
}

fn list<T: Param>(value: Value, max: usize) -> Result<Vec<T>, CtiError> {
    let Value::Array(items) = value else { return Err(wrong("must be a list")) };
    if items.len() > max {
        return Err(wrong(format!("must have at most {max} entries")));
    }
    let read = |(n, item)| T::read(item).map_err(|error| error.under(&format!("[{n}]")));
    items.into_iter().enumerate().map(read).collect()
}

fn in_range(value: &Value, min: u64, max: u64) -> Result<u64, CtiError> {
    value
        .as_u64()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| wrong(format!("must be a whole number from {min} to {max}")))
}

impl<T: Param> Param for Option<T> {
    fn read(value: Value) -> Result<Self, CtiError> {
        match value {
            Value::Null => Ok(None),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                T::read(value).map(Some)
            }
        }
    }
    fn absent() -> Result<Self, CtiError> {
        Ok(None)
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, Param::write)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
    const REQUIRED: bool = false;
}

impl Param for bool {
    fn read(value: Value) -> Result<Self, CtiError> {
        value.as_bool().ok_or_else(|| wrong("must be true or false"))
    }
    fn write(&self) -> Value {
        Value::Bool(*self)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "boolean"})
    }
}

/// Any count: an event's number, milliseconds.
impl Param for u64 {
    fn read(value: Value) -> Result<Self, CtiError> {
        in_range(&value, 0, u64::MAX)
    }
    fn write(&self) -> Value {
        (*self).into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0})
    }
}

/// A number that `null` unsets: it must be there, so that nobody unsets by forgetting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nullable<T>(pub Option<T>);

impl<T: Param> Param for Nullable<T> {
    fn read(value: Value) -> Result<Self, CtiError> {
        Option::<T>::read(value).map(Nullable)
    }
    fn write(&self) -> Value {
        self.0.write()
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let inner = T::schema(generator);
        json_schema!({"anyOf": [inner, {"type": "null"}]})
    }
}

macro_rules! bounded_text {
    ($($(#[$doc:meta])* $name:ident($max:literal);)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// Of a client's own text; the server checks its length.
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl Param for $name {
            fn read(value: Value) -> Result<Self, CtiError> {
                let text = string(value, $max)?;
                if text.is_empty() {
                    return Err(wrong("must not be empty"));
                }
                Ok(Self(text.into()))
            }
            fn write(&self) -> Value {
                (*self.0).into()
            }
            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": 1, "maxLength": $max})
            }
        }
    )* };
}

bounded_text! {
    /// A label of at most 128 bytes: a user, an application, an instance.
    Label(128);
    /// A glob of at most 128 bytes, `*` and `?`.
    Glob(128);
    /// Where to go on in a list; made by the server.
    Cursor(256);
}

impl Param for Secret {
    fn read(value: Value) -> Result<Self, CtiError> {
        string(value, 1024).map(Secret::from)
    }
    /// The one place where a client's password is written out: into its own `provider.open`.
    fn write(&self) -> Value {
        self.expose().into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 1024, "format": "password"})
    }
}

impl Param for DeviceName {
    fn read(value: Value) -> Result<Self, CtiError> {
        let name = string(value, 128)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(wrong("must be the name of a device"));
        }
        Ok(name.into())
    }
    fn write(&self) -> Value {
        self.as_str().into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": 128})
    }
}

/// A number as people write it: `+1 (555) 555-0100` and `tel:+1-555-555-0100` are `+15555550100`. What could end or split a SIP address is refused here, at the door.
impl Param for Dn {
    fn read(value: Value) -> Result<Self, CtiError> {
        let number = Dn::written(&string(value, 64)?);
        let dialable = |c: char| c.is_ascii_alphanumeric() || "+*#._-!$&()%~'".contains(c);
        if number.as_str().is_empty() || !number.as_str().chars().all(dialable) {
            return Err(wrong("must be a number of 1 to 64 characters: digits, letters, + * # . _ -"));
        }
        Ok(number)
    }
    fn write(&self) -> Value {
        self.as_str().into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": 64})
    }
}

/// A text that is no leg id of ours names a leg that never was: `NO_SUCH_LEG`, not a wrong param.
impl Param for LegId {
    fn read(value: Value) -> Result<Self, CtiError> {
        let text = string(value, 1024)?;
        text.parse().map_err(|_| CtiError::new(Symbol::NoSuchLeg, "there is no such leg"))
    }
    fn write(&self) -> Value {
        self.to_string().into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

impl Param for Vec<LegId> {
    fn read(value: Value) -> Result<Self, CtiError> {
        let legs: Vec<LegId> = list(value, 256)?;
        if legs.is_empty() { Err(wrong("must name a leg")) } else { Ok(legs) }
    }
    fn write(&self) -> Value {
        self.iter().map(Param::write).collect()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 256})
    }
}

/// The most globs that `subscribe` may hold whatever the server's own limit is.
pub const MAX_GLOBS: usize = 1024;

/// Event types that a session wants.
impl Param for Vec<Glob> {
    fn read(value: Value) -> Result<Self, CtiError> {
        list(value, MAX_GLOBS)
    }
    fn write(&self) -> Value {
        self.iter().map(Param::write).collect()
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let glob = Glob::schema(generator);
        json_schema!({"type": "array", "items": glob, "maxItems": MAX_GLOBS})
    }
}

/// A cause by its number or its name.
impl Param for Cause {
    fn read(value: Value) -> Result<Self, CtiError> {
        let by_number = |n: u64| u16::try_from(n).ok().and_then(Cause::from_code);
        let cause = match &value {
            Value::Number(n) => n.as_u64().and_then(by_number),
            Value::String(name) => Cause::from_name(name),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        cause.ok_or_else(|| wrong("must be a Q.850 cause: a number from 1 to 127 or its name"))
    }
    fn write(&self) -> Value {
        self.code().into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 127}, {"type": "string", "minLength": 1}]})
    }
}

impl Param for DeviceType {
    fn read(value: Value) -> Result<Self, CtiError> {
        serde_json::from_value(value).map_err(|_| wrong("must be phone, cti_port or route_point"))
    }
    fn write(&self) -> Value {
        serde_json::to_value(self).expect("a unit variant is a string")
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<DeviceType>()
    }
}

/// Which devices `provider.devices` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The user's own list.
    Controlled,
    /// Every controllable device; super providers only.
    All,
}

impl Param for Scope {
    fn read(value: Value) -> Result<Self, CtiError> {
        match value.as_str() {
            Some("controlled") => Ok(Scope::Controlled),
            Some("all") => Ok(Scope::All),
            Some(_) | None => Err(wrong("must be controlled or all")),
        }
    }
    fn write(&self) -> Value {
        match self {
            Scope::Controlled => "controlled".into(),
            Scope::All => "all".into(),
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["controlled", "all"]})
    }
}

/// What a consultation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Purpose {
    Transfer,
    Conference,
}

impl Param for Purpose {
    fn read(value: Value) -> Result<Self, CtiError> {
        match value.as_str() {
            Some("transfer") => Ok(Purpose::Transfer),
            Some("conference") => Ok(Purpose::Conference),
            Some(_) | None => Err(wrong("must be transfer or conference")),
        }
    }
    fn write(&self) -> Value {
        match self {
            Purpose::Transfer => "transfer".into(),
            Purpose::Conference => "conference".into(),
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["transfer", "conference"]})
    }
}

/// How many devices a page of `provider.devices` has: 1–1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(pub u16);

impl Param for PageSize {
    fn read(value: Value) -> Result<Self, CtiError> {
        let n = in_range(&value, 1, 1000)?;
        Ok(PageSize(n as u16))
    }
    fn write(&self) -> Value {
        self.0.into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": 1000})
    }
}

/// Digits to send: 0–9, A–D, * and #, 1 to 128 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits(pub Arc<str>);

impl Param for Digits {
    fn read(value: Value) -> Result<Self, CtiError> {
        let digits = string(value, 128)?.to_ascii_uppercase();
        let known = |c: char| c.is_ascii_digit() || ('A'..='D').contains(&c) || c == '*' || c == '#';
        if digits.is_empty() || !digits.chars().all(known) {
            return Err(wrong("must be 1 to 128 digits of 0-9, A-D, * and #"));
        }
        Ok(Digits(digits.into()))
    }
    fn write(&self) -> Value {
        (*self.0).into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9A-Da-d*#]{1,128}$"})
    }
}

/// How long a digit sounds: 40–10,000 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigitMs(pub u32);

impl Param for DigitMs {
    fn read(value: Value) -> Result<Self, CtiError> {
        let n = in_range(&value, 40, 10_000)?;
        Ok(DigitMs(n as u32))
    }
    fn write(&self) -> Value {
        self.0.into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 40, "maximum": 10000})
    }
}

/// The most entries that a call's user data may have.
pub const MAX_USER_DATA_ENTRIES: usize = 64;
/// The longest key.
const MAX_USER_DATA_KEY_BYTES: usize = 128;
/// The most bytes of all its keys and values together; it travels in every event of its legs.
pub const MAX_USER_DATA_BYTES: usize = 4096;

/// A call's user data: texts by name.
impl Param for BTreeMap<String, String> {
    fn read(value: Value) -> Result<Self, CtiError> {
        let map = object(value)?;
        if map.len() > MAX_USER_DATA_ENTRIES {
            return Err(wrong(format!("must have at most {MAX_USER_DATA_ENTRIES} entries")));
        }
        let mut size = 0;
        let mut data = BTreeMap::new();
        for (key, value) in map {
            if key.len() > MAX_USER_DATA_KEY_BYTES {
                return Err(wrong(format!("must have keys of at most {MAX_USER_DATA_KEY_BYTES} bytes")));
            }
            let text = string(value, MAX_USER_DATA_BYTES).map_err(|error| error.under(&key))?;
            size += key.len() + text.len();
            data.insert(key, text);
        }
        if size > MAX_USER_DATA_BYTES {
            return Err(wrong(format!("must be at most {MAX_USER_DATA_BYTES} bytes in all")));
        }
        Ok(data)
    }
    fn write(&self) -> Value {
        self.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": {"type": "string"}})
    }
}

/// An address that can receive media: no multicast or broadcast, not 0.0.0.0.
impl Param for IpAddr {
    fn read(value: Value) -> Result<Self, CtiError> {
        let ip: IpAddr =
            string(value, 64)?.parse().map_err(|_| wrong("must be an IPv4 or IPv6 address, not a name"))?;
        if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(wrong("must be the address of one host"));
        }
        Ok(ip)
    }
    fn write(&self) -> Value {
        self.to_string().into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "ip"})
    }
}

/// An RTP port: even, its RTCP port is the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPort(pub u16);

impl Param for RtpPort {
    fn read(value: Value) -> Result<Self, CtiError> {
        let port = in_range(&value, 2, 65_534)? as u16;
        if port % 2 == 1 { Err(wrong("must be even, the next port is for RTCP")) } else { Ok(RtpPort(port)) }
    }
    fn write(&self) -> Value {
        self.0.into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 2, "maximum": 65534, "multipleOf": 2})
    }
}

impl Param for Codec {
    fn read(value: Value) -> Result<Self, CtiError> {
        match Codec::from_rtp_name(&string(value, 32)?) {
            Codec::Other(_) => Err(wrong("must be PCMU, PCMA, G722, G729 or opus")),
            known @ (Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G729 | Codec::Opus) => Ok(known),
        }
    }
    fn write(&self) -> Value {
        self.rtp_name().into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["PCMU", "PCMA", "G722", "G729", "opus"]})
    }
}

/// The registered name of an SRTP suite (RFC 4568 §6.2 and its successors).
struct SrtpSuite(Arc<str>);

impl Param for SrtpSuite {
    fn read(value: Value) -> Result<Self, CtiError> {
        let name = string(value, 64)?;
        let token = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || !name.bytes().all(token) {
            return Err(wrong("must be the registered name of an SRTP suite"));
        }
        Ok(SrtpSuite(name.into()))
    }
    fn write(&self) -> Value {
        (*self.0).into()
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Z0-9_]{1,64}$"})
    }
}

/// The sets are sorted and freed of doubles, so that two registrations compare.
impl Param for MediaTermination {
    fn read(value: Value) -> Result<Self, CtiError> {
        let mut fields = object(value)?;
        let mode = fields.remove("mode").ok_or_else(|| wrong("is missing").under("mode"))?;
        match mode.as_str() {
            Some("none") => Ok(MediaTermination::None),
            Some("static") => {
                let ip: IpAddr = take(&mut fields, "ip")?;
                let RtpPort(port) = take(&mut fields, "port")?;
                let (codecs, srtp) = capabilities(&mut fields)?;
                Ok(MediaTermination::Static { address: SocketAddr::new(ip, port), codecs, srtp })
            }
            Some("dynamic") => {
                let (codecs, srtp) = capabilities(&mut fields)?;
                Ok(MediaTermination::Dynamic { codecs, srtp })
            }
            Some(_) | None => Err(wrong("must be none, static or dynamic").under("mode")),
        }
    }
    fn write(&self) -> Value {
        serde_json::to_value(Media::from(self)).expect("texts and numbers only")
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let (ip, port) = (IpAddr::schema(generator), RtpPort::schema(generator));
        let codecs = Codec::schema(generator);
        let codecs = json_schema!({"type": "array", "items": codecs, "minItems": 1, "maxItems": 16});
        let suite = SrtpSuite::schema(generator);
        // Read and compared; nothing is encrypted yet.
        let srtp = json_schema!({"type": "array", "items": suite, "maxItems": 16, "x-status": "planned"});
        let mode = |name: &str| json_schema!({"type": "string", "const": name});
        let (none, fixed, dynamic) = (mode("none"), mode("static"), mode("dynamic"));
        json_schema!({"oneOf": [
            {"type": "object", "properties": {"mode": none}, "required": ["mode"]},
            {
                "type": "object",
                "properties": {"mode": fixed, "ip": ip, "port": port, "codecs": codecs, "srtp": srtp},
                "required": ["mode", "ip", "port", "codecs"],
            },
            {
                "type": "object",
                "properties": {"mode": dynamic, "codecs": codecs, "srtp": srtp},
                "required": ["mode", "codecs"],
            },
        ]})
    }
}

fn capabilities(fields: &mut Map<String, Value>) -> Result<(Vec<Codec>, Vec<Arc<str>>), CtiError> {
    let absent = || wrong("is missing");
    let codecs = fields.remove("codecs").ok_or_else(absent).and_then(|v| list(v, 16));
    let mut codecs: Vec<Codec> = codecs.map_err(|error| error.under("codecs"))?;
    if codecs.is_empty() {
        return Err(wrong("must name a codec").under("codecs"));
    }
    codecs.sort();
    codecs.dedup();
    let suites = match fields.remove("srtp") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => list::<SrtpSuite>(value, 16).map_err(|error| error.under("srtp"))?,
    };
    let mut srtp: Vec<Arc<str>> = suites.into_iter().map(|SrtpSuite(name)| name).collect();
    srtp.sort();
    srtp.dedup();
    Ok((codecs, srtp))
}

/// Which session to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The session; `None` when the client wrote something that is no id of ours, and so of no session known.
    pub session: Option<SessionId>,
    /// The last event that the client has.
    pub last_seq: u64,
}

impl Param for Resume {
    fn read(value: Value) -> Result<Self, CtiError> {
        let mut fields = object(value)?;
        let session = fields.remove("session").ok_or_else(|| wrong("is missing").under("session"))?;
        let session = string(session, 1024).map_err(|error| error.under("session"))?.parse().ok();
        let last_seq = take(&mut fields, "last_seq")?;
        Ok(Resume { session, last_seq })
    }
    fn write(&self) -> Value {
        let session = self.session.map_or_else(String::new, |s| s.to_string());
        serde_json::json!({"session": session, "last_seq": self.last_seq})
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "The session to go on with, and the number of the last event that the client has of it.",
            "properties": {"session": {"type": "string"}, "last_seq": {"type": "integer", "minimum": 0}},
            "required": ["session", "last_seq"],
        })
    }
}

impl Glob {
    /// Whether the whole text fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        crate::glob::matches(self.as_str(), text)
    }
}
