//! JSON-RPC 2.0, by hand on `serde_json`: the envelope is read in one pass and the params stay raw until somebody knows
//! their type.

use crate::error::{CtiError, Symbol};
use crate::frame::Frame;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

/// The longest id that a request may have, in bytes as written; it is kept until the answer.
pub const MAX_ID_BYTES: usize = 256;

/// The longest method name that is looked at.
pub const MAX_METHOD_BYTES: usize = 128;

/// A request's id: a string or a number, answered letter by letter as it came.
#[derive(Clone)]
pub struct Id(Box<RawValue>);

impl Id {
    /// The id that a client gives its own requests.
    #[must_use]
    pub fn number(n: u64) -> Self {
        Self(RawValue::from_string(n.to_string()).expect("a number is a JSON text"))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// The number that [`Id::number`] made this id of.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        self.0.get().parse().ok()
    }

    fn read(raw: &RawValue) -> Option<Self> {
        let text = Some(raw.get()).filter(|text| text.len() <= MAX_ID_BYTES)?;
        // It comes back as it is written: what strict readers refuse (`"\ud800"`, `1e999`) would spoil the answer.
        let readable = match text.as_bytes().first()? {
            b'"' => serde_json::from_str::<std::borrow::Cow<'_, str>>(text).is_ok(),
            b'-' | b'0'..=b'9' => serde_json::from_str::<f64>(text).is_ok(),
            _ => false,
        };
        readable.then(|| Self(raw.to_owned()))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}
impl Eq for Id {}

/// One message from a client. Its params may hold a password: `Debug` leaves them out.
pub struct Request {
    /// `None` for a JSON-RPC notification: it gets no answer and, a heartbeat apart, has no effect.
    pub id: Option<Id>,
    /// As written; maybe no method of ours.
    pub method: String,
    /// As written; an object, an array, or absent.
    pub params: Option<Box<RawValue>>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("id", &self.id).field("method", &self.method).finish_non_exhaustive()
    }
}

/// A message that is no request; the connection goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The id where one could be read.
    pub id: Option<Id>,
    /// `PARSE_ERROR` or `INVALID_REQUEST`.
    pub error: CtiError,
}

impl BadRequest {
    /// The answer to write.
    #[must_use]
    pub fn frame(&self) -> Frame {
        error_frame(self.id.as_ref(), &self.error)
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    params: Option<&'a RawValue>,
}

/// Tells `null` (`Some`) from absent (`None`), which `Option` alone does not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one frame from a client. Nesting costs no stack: raw values are skipped, not descended into.
///
/// # Errors
/// [`BadRequest`], ready to be answered.
pub fn parse_request(bytes: &[u8]) -> Result<Request, BadRequest> {
    match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => {}
        Some(_) | None => return Err(not_an_object(bytes)),
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| not_an_envelope(bytes))?;
    let id = match envelope.id {
        None => None,
        Some(raw) => Some(Id::read(raw).ok_or_else(|| {
            invalid(None, format!("`id` must be a string or a number of at most {MAX_ID_BYTES} bytes"))
        })?),
    };
    if envelope.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return Err(invalid(id, "`jsonrpc` must be \"2.0\""));
    }
    let method = envelope.method.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let Some(method) = method.filter(|m| m.len() <= MAX_METHOD_BYTES) else {
        return Err(invalid(id, "`method` must be the name of a method"));
    };
    let params = match envelope.params.map(|raw| (raw, raw.get().as_bytes()[0])) {
        // Libraries that have no params to send often write null.
        None | Some((_, b'n')) => None,
        Some((raw, b'{' | b'[')) => Some(raw.to_owned()),
        Some(_) => return Err(invalid(id, "`params` must be an object")),
    };
    Ok(Request { id, method, params })
}

fn invalid(id: Option<Id>, message: impl Into<std::borrow::Cow<'static, str>>) -> BadRequest {
    BadRequest { id, error: CtiError::new(Symbol::InvalidRequest, message) }
}

fn not_json(error: &serde_json::Error) -> BadRequest {
    let message = format!("not a JSON text: {error}");
    BadRequest { id: None, error: CtiError::new(Symbol::ParseError, message) }
}

fn not_an_object(bytes: &[u8]) -> BadRequest {
    match serde_json::from_slice::<&RawValue>(bytes) {
        Err(error) => not_json(&error),
        Ok(raw) if raw.get().starts_with('[') => {
            invalid(None, "batches are refused: send one request a message")
        }
        Ok(_) => invalid(None, "a request is an object"),
    }
}

/// An object that does not fit the envelope: broken JSON, or a member that stands there twice.
fn not_an_envelope(bytes: &[u8]) -> BadRequest {
    if let Err(error) = serde_json::from_slice::<&RawValue>(bytes) {
        return not_json(&error);
    }
    invalid(None, "a member of the request stands there twice")
}

/// `{"jsonrpc":"2.0","id":…,"result":…}`
#[must_use]
pub fn result_frame(id: &Id, result: &RawValue) -> Frame {
    let parts = ["{\"jsonrpc\":\"2.0\",\"id\":", id.as_json(), ",\"result\":", result.get(), "}"];
    Frame::whole(parts.concat().into_bytes())
}

/// `{"jsonrpc":"2.0","id":…,"error":…}`; without an id `null`.
#[must_use]
pub fn error_frame(id: Option<&Id>, error: &CtiError) -> Frame {
    let id = id.map_or("null", Id::as_json);
    let error = raw(error);
    let parts = ["{\"jsonrpc\":\"2.0\",\"id\":", id, ",\"error\":", error.get(), "}"];
    Frame::whole(parts.concat().into_bytes())
}

/// A request of a client.
#[must_use]
pub fn request_frame(id: &Id, method: &str, params: &RawValue) -> Frame {
    let parts = [
        "{\"jsonrpc\":\"2.0\",\"id\":",
        id.as_json(),
        ",\"method\":\"",
        method,
        "\",\"params\":",
        params.get(),
        "}",
    ];
    Frame::whole(parts.concat().into_bytes())
}

/// Serialises one of our own values.
#[must_use]
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("our own types have string keys and no failing serialiser")
}

/// What a server sends, seen by a client. An event may hold a media key: `Debug` leaves its members out.
#[derive(Clone)]
pub enum Incoming {
    /// The answer to a request.
    Reply {
        /// The request's id; `None` when the server could not read it.
        id: Option<Id>,
        /// The result or the error.
        outcome: Result<Box<RawValue>, CtiError>,
    },
    /// The notification `event`; to be read by [`crate::event::Received::parse`].
    Event(Box<RawValue>),
    /// A notification of a later version.
    Unknown(String),
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incoming::Reply { id, outcome: Ok(_) } => write!(f, "Reply({id:?}, good)"),
            Incoming::Reply { id, outcome: Err(error) } => write!(f, "Reply({id:?}, {error})"),
            Incoming::Event(params) => write!(f, "Event({} bytes)", params.get().len()),
            Incoming::Unknown(method) => write!(f, "Unknown({method:?})"),
        }
    }
}

/// A message that a client can't read.
#[derive(Debug, thiserror::Error)]
#[error("not a message of the protocol: {0}")]
pub struct BadMessage(String);

impl From<serde_json::Error> for BadMessage {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl Incoming {
    /// Reads one frame from a server.
    ///
    /// # Errors
    /// [`BadMessage`] for what no server of this protocol sends.
    pub fn parse(bytes: &[u8]) -> Result<Incoming, BadMessage> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(default, borrow)]
            id: Option<&'a RawValue>,
            #[serde(default)]
            method: Option<String>,
            #[serde(default, borrow)]
            params: Option<&'a RawValue>,
            #[serde(default, borrow, deserialize_with = "present")]
            result: Option<&'a RawValue>,
            #[serde(default, borrow)]
            error: Option<&'a RawValue>,
        }
        let message: Message<'_> = serde_json::from_slice(bytes)?;
        match (message.method, message.result, message.error) {
            (Some(method), None, None) if method == "event" => {
                let params = message.params.ok_or_else(|| BadMessage("an event without params".into()))?;
                Ok(Incoming::Event(params.to_owned()))
            }
            (Some(method), None, None) => Ok(Incoming::Unknown(method)),
            (None, Some(result), None) => {
                Ok(Incoming::Reply { id: message.id.and_then(Id::read), outcome: Ok(result.to_owned()) })
            }
            (None, None, Some(error)) => {
                let error = serde_json::from_str(error.get())?;
                Ok(Incoming::Reply { id: message.id.and_then(Id::read), outcome: Err(error) })
            }
            (Some(_), _, _) | (None, Some(_), Some(_)) | (None, None, None) => {
                Err(BadMessage("neither a reply nor a notification".into()))
            }
        }
    }
}

/// The params of a request as an object; absent params are an empty one.
///
/// # Errors
/// `INVALID_PARAMS` for an array, and for nesting beyond 128.
pub(crate) fn object(params: Option<&RawValue>) -> Result<Map<String, Value>, CtiError> {
    let Some(raw) = params else { return Ok(Map::new()) };
    if raw.get().starts_with('[') {
        return Err(CtiError::invalid_params("params", "params go by name: send an object"));
    }
    serde_json::from_str(raw.get()).map_err(|error| CtiError::invalid_params("params", error.to_string()))
}

#[cfg(test)]
mod tests;
