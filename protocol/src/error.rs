//! Errors of the wire (contract §1 "Errors", §8): one symbol, one code, a sentence that helps.

use crate::wire::LegState;
use device_model::{Refusal, RefusalKind};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

macro_rules! symbols {
    ($(#[doc = $doc:literal] $variant:ident = $code:literal, $name:literal;)*) => {
        /// An error symbol (`data.cti`). Its code never changes: the table is a checked-in snapshot.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Symbol {
            $(#[doc = $doc] $variant,)*
        }

        impl Symbol {
            /// Every symbol, in the order of the contract.
            pub const ALL: &[Symbol] = &[$(Symbol::$variant,)*];

            /// The name on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Symbol::$variant => $name,)*
                }
            }

            /// The JSON-RPC code.
            #[must_use]
            pub fn code(self) -> i32 {
                match self {
                    $(Symbol::$variant => $code,)*
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Symbol::$variant => $doc.trim_ascii_start(),)*
                }
            }

            /// The symbol of a name; `None` for one that this version does not know.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Symbol> {
                match name {
                    $($name => Some(Symbol::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

symbols! {
    /// The bytes are no JSON text.
    ParseError = -32700, "PARSE_ERROR";
    /// JSON, but no request: a batch, no method, an id that is none.
    InvalidRequest = -32600, "INVALID_REQUEST";
    /// There is no such method.
    MethodNotFound = -32601, "METHOD_NOT_FOUND";
    /// A parameter is missing or wrong; `data.field` is its path.
    InvalidParams = -32602, "INVALID_PARAMS";
    /// The connection has no open provider yet.
    NotOpen = -32000, "NOT_OPEN";
    /// The connection has a provider already.
    AlreadyOpen = -32001, "ALREADY_OPEN";
    /// User or password is wrong; which is not said.
    LoginFailed = -32002, "LOGIN_FAILED";
    /// The user may come by TLS only.
    SecureConnectionRequired = -32003, "SECURE_CONNECTION_REQUIRED";
    /// The user is not in Standard CTI Enabled.
    UserNotCtiEnabled = -32004, "USER_NOT_CTI_ENABLED";
    /// The node has as many sessions as it may have.
    MaxConnections = -32005, "MAX_CONNECTIONS";
    /// Too much at once; `data.retry_after_ms` says when to try again.
    RateLimited = -32006, "RATE_LIMITED";
    /// There is no such device.
    NoSuchDevice = -32007, "NO_SUCH_DEVICE";
    /// The user may not control a device of this name.
    DeviceNotControlled = -32008, "DEVICE_NOT_CONTROLLED";
    /// The administrator keeps applications off this device.
    DeviceRestricted = -32009, "DEVICE_RESTRICTED";
    /// The administrator keeps applications off this line.
    LineRestricted = -32010, "LINE_RESTRICTED";
    /// The session has not opened the device.
    DeviceNotOpen = -32011, "DEVICE_NOT_OPEN";
    /// The session has opened the device already.
    DeviceAlreadyOpen = -32012, "DEVICE_ALREADY_OPEN";
    /// The device is out of service.
    DeviceOutOfService = -32013, "DEVICE_OUT_OF_SERVICE";
    /// A phone ends its media itself.
    CannotTerminateMediaOnPhone = -32014, "CANNOT_TERMINATE_MEDIA_ON_PHONE";
    /// A port, or an answer, needs media.
    MediaRequired = -32015, "MEDIA_REQUIRED";
    /// Somebody has registered static media there.
    MediaAlreadyTerminatedStatic = -32016, "MEDIA_ALREADY_TERMINATED_STATIC";
    /// Somebody has registered dynamic media there.
    MediaAlreadyTerminatedDynamic = -32017, "MEDIA_ALREADY_TERMINATED_DYNAMIC";
    /// Somebody has registered without media there.
    MediaAlreadyTerminatedNone = -32018, "MEDIA_ALREADY_TERMINATED_NONE";
    /// Codecs or SRTP suites differ from the first opener's.
    MediaCapabilityMismatch = -32019, "MEDIA_CAPABILITY_MISMATCH";
    /// Another application has given the address already.
    MediaAlreadySet = -32020, "MEDIA_ALREADY_SET";
    /// The device has no such line.
    NoSuchLine = -32021, "NO_SUCH_LINE";
    /// The leg is gone, never was, or is on a device that this session has not opened.
    NoSuchLeg = -32022, "NO_SUCH_LEG";
    /// The leg's state does not allow it; `data.state` is the state.
    IllegalCallState = -32023, "ILLEGAL_CALL_STATE";
    /// This kind of device can't do that.
    OperationNotSupported = -32024, "OPERATION_NOT_SUPPORTED";
    /// Nobody has that number.
    DestinationUnknown = -32025, "DESTINATION_UNKNOWN";
    /// The destination is busy.
    DestinationBusy = -32026, "DESTINATION_BUSY";
    /// The destination is out of service.
    DestinationOutOfService = -32027, "DESTINATION_OUT_OF_SERVICE";
    /// The line has as many calls as it may have.
    MaxCalls = -32028, "MAX_CALLS";
    /// No conference bridge is free.
    NoConferenceBridge = -32029, "NO_CONFERENCE_BRIDGE";
    /// The conference has as many participants as it may have.
    ConferenceFull = -32030, "CONFERENCE_FULL";
    /// No park number is free.
    NoParkNumber = -32031, "NO_PARK_NUMBER";
    /// The user's groups do not allow it.
    PrivilegeViolation = -32032, "PRIVILEGE_VIOLATION";
    /// The user may not set the calling number.
    CallingNumberModificationNotAllowed = -32033, "CALLING_NUMBER_MODIFICATION_NOT_ALLOWED";
    /// The call outlived its node, but can't be controlled any more.
    CallNotPreserved = -32034, "CALL_NOT_PRESERVED";
    /// The node that owns the device can't be reached.
    NodeUnreachable = -32035, "NODE_UNREACHABLE";
    /// No answer came in time.
    Timeout = -32036, "TIMEOUT";
    /// A fault of the server.
    Internal = -32037, "INTERNAL";
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error as it stands on the wire: `{"code", "message", "data": {"cti", …}}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{symbol}: {message}")]
pub struct CtiError {
    /// Which.
    pub symbol: Symbol,
    /// A sentence that helps.
    pub message: Cow<'static, str>,
    /// What `data` holds beside `cti`.
    pub data: Box<ErrorData>,
}

/// What some errors say besides their sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorData {
    /// `INVALID_PARAMS`: the path of the parameter (`media.port`).
    pub field: Option<Cow<'static, str>>,
    /// `RATE_LIMITED`: milliseconds until a repeat is worth while.
    pub retry_after_ms: Option<u64>,
    /// `ILLEGAL_CALL_STATE`: the leg's state.
    pub state: Option<LegState>,
    /// A refusal by permission: the group or list that would allow it.
    pub needs: Option<Cow<'static, str>>,
}

impl CtiError {
    /// An error without further data.
    pub fn new(symbol: Symbol, message: impl Into<Cow<'static, str>>) -> Self {
        Self { symbol, message: message.into(), data: Box::default() }
    }

    /// `INVALID_PARAMS` of the parameter at `field`.
    pub fn invalid_params(
        field: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut error = Self::new(Symbol::InvalidParams, message);
        error.data.field = Some(field.into());
        error
    }

    /// `RATE_LIMITED`, to be tried again after so many milliseconds.
    #[must_use]
    pub fn rate_limited(retry_after_ms: u64) -> Self {
        let mut error = Self::new(Symbol::RateLimited, "too many requests at once; try again a little later");
        error.data.retry_after_ms = Some(retry_after_ms);
        error
    }

    /// `ILLEGAL_CALL_STATE` of a leg that is in `state`.
    pub fn illegal_call_state(state: LegState, message: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(Symbol::IllegalCallState, message);
        error.data.state = Some(state);
        error
    }

    /// A refusal by permission that the group or list `needs` would lift.
    pub fn not_permitted(
        symbol: Symbol,
        message: impl Into<Cow<'static, str>>,
        needs: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut error = Self::new(symbol, message);
        error.data.needs = Some(needs.into());
        error
    }

    /// The same error of a parameter that lies under `name`: `port` under `media` is `media.port`.
    pub(crate) fn under(mut self, name: &str) -> Self {
        if self.symbol == Symbol::InvalidParams {
            self.data.field = Some(match self.data.field.as_deref() {
                None | Some("") => name.to_owned().into(),
                Some(inner) if inner.starts_with('[') => format!("{name}{inner}").into(),
                Some(inner) => format!("{name}.{inner}").into(),
            });
        }
        self
    }

    /// Whether the same request may succeed later without a change of the request.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.symbol,
            Symbol::RateLimited | Symbol::MaxConnections | Symbol::NodeUnreachable | Symbol::Timeout
        )
    }
}

impl Serialize for CtiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("code", &self.symbol.code())?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("data", &Data(self))?;
        map.end()
    }
}

struct Data<'a>(&'a CtiError);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ErrorData { field, retry_after_ms, state, needs } = &*self.0.data;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cti", self.0.symbol.name())?;
        if let Some(field) = field {
            map.serialize_entry("field", field)?;
        }
        if let Some(ms) = retry_after_ms {
            map.serialize_entry("retry_after_ms", ms)?;
        }
        if let Some(state) = state {
            map.serialize_entry("state", state)?;
        }
        if let Some(needs) = needs {
            map.serialize_entry("needs", needs)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for CtiError {
    /// For clients. A symbol of a later version reads as `INTERNAL`, its name before the message.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            code: i64,
            #[serde(default)]
            message: String,
            #[serde(default)]
            data: Map<String, Value>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let text = |name: &str| raw.data.get(name).and_then(Value::as_str);
        let by_code = || Symbol::ALL.iter().copied().find(|s| i64::from(s.code()) == raw.code);
        let symbol = text("cti").and_then(Symbol::from_name);
        let message = match (symbol, text("cti")) {
            (None, Some(unknown)) => format!("{unknown}: {}", raw.message),
            (Some(_) | None, _) => raw.message.clone(),
        };
        let data = ErrorData {
            field: text("field").map(|s| s.to_owned().into()),
            retry_after_ms: raw.data.get("retry_after_ms").and_then(Value::as_u64),
            state: raw.data.get("state").cloned().and_then(|v| serde_json::from_value(v).ok()),
            needs: text("needs").map(|s| s.to_owned().into()),
        };
        let symbol = symbol.or_else(by_code).unwrap_or(Symbol::Internal);
        Ok(Self { symbol, message: message.into(), data: Box::new(data) })
    }
}

impl From<Refusal> for CtiError {
    fn from(refusal: Refusal) -> Self {
        let symbol = match refusal.kind {
            RefusalKind::InvalidParams { field } => {
                return Self::invalid_params(field.path(), refusal.message);
            }
            RefusalKind::IllegalCallState { state } => {
                return Self::illegal_call_state(state.into(), refusal.message);
            }
            RefusalKind::RateLimited { retry_after_ms } => {
                let mut error = Self::new(Symbol::RateLimited, refusal.message);
                error.data.retry_after_ms = Some(retry_after_ms);
                return error;
            }
            RefusalKind::NoSuchDevice => Symbol::NoSuchDevice,
            RefusalKind::DeviceRestricted => Symbol::DeviceRestricted,
            RefusalKind::LineRestricted => Symbol::LineRestricted,
            RefusalKind::DeviceNotOpen => Symbol::DeviceNotOpen,
            RefusalKind::DeviceAlreadyOpen => Symbol::DeviceAlreadyOpen,
            // The owner is told of as its device's node; that it changed, as the device's being out of service.
            RefusalKind::DeviceOutOfService | RefusalKind::NotOwner => Symbol::DeviceOutOfService,
            RefusalKind::CannotTerminateMediaOnPhone => Symbol::CannotTerminateMediaOnPhone,
            RefusalKind::MediaRequired => Symbol::MediaRequired,
            RefusalKind::MediaAlreadyTerminatedStatic => Symbol::MediaAlreadyTerminatedStatic,
            RefusalKind::MediaAlreadyTerminatedDynamic => Symbol::MediaAlreadyTerminatedDynamic,
            RefusalKind::MediaAlreadyTerminatedNone => Symbol::MediaAlreadyTerminatedNone,
            RefusalKind::MediaCapabilityMismatch => Symbol::MediaCapabilityMismatch,
            RefusalKind::MediaAlreadySet => Symbol::MediaAlreadySet,
            RefusalKind::NoSuchLine => Symbol::NoSuchLine,
            RefusalKind::NoSuchLeg => Symbol::NoSuchLeg,
            RefusalKind::OperationNotSupported => Symbol::OperationNotSupported,
            RefusalKind::DestinationUnknown => Symbol::DestinationUnknown,
            RefusalKind::DestinationBusy => Symbol::DestinationBusy,
            RefusalKind::DestinationOutOfService => Symbol::DestinationOutOfService,
            RefusalKind::MaxCalls => Symbol::MaxCalls,
            RefusalKind::Timeout => Symbol::Timeout,
        };
        Self::new(symbol, refusal.message)
    }
}

#[cfg(test)]
mod tests;
