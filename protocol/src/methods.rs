//! Every method of the contract (§2–§5): its params, its answer, whether it changes something.
//!
//! A [`Method`] is a request that has been read: nothing in it needs another check of form. The params types serve both
//! sides: [`Method::parse`] reads them for the server, [`Call`] writes them for a client.

pub use crate::param::{
    Cursor, DigitMs, Digits, Glob, Label, MAX_USER_DATA_BYTES, MAX_USER_DATA_ENTRIES, Nullable, PageSize,
    Purpose, Resume, RtpPort, Scope,
};

use crate::error::{CtiError, Symbol};
use crate::param::{Param, take};
use crate::secret::Secret;
use crate::wire::{Device, DeviceType, Leg, Privileges, text};
use device_model::media::MediaTermination;
use device_model::{CallId, Cause, DeviceName, Dn, LegId, NodeName, SessionId};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The params of one method, and what it answers.
pub trait Call: Serialize + Sized {
    /// The method's name.
    const METHOD: &'static str;
    /// Whether it changes something, and so takes an `idem`.
    const CHANGES: bool;
    /// The result of a good answer.
    type Answer: Serialize + DeserializeOwned + JsonSchema;
}

/// What OpenRPC says of a method.
pub(crate) struct Description {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) changes: bool,
    /// Name, schema and whether it must be there.
    pub(crate) params: Vec<(&'static str, Schema, bool)>,
    pub(crate) result: Schema,
}

macro_rules! methods {
    ($($name:ident = $method:literal, $changes:literal => $answer:ty, $summary:literal {
        $($field:ident : $ty:ty),* $(,)?
    })*) => {
        $(
            #[doc = concat!("`", $method, "`: ", $summary)]
            #[derive(Clone, Debug, PartialEq, Eq)]
            #[allow(missing_docs)] // contract §2–§5, field for field
            pub struct $name { $(pub $field: $ty,)* }

            impl $name {
                #[allow(unused_variables, unused_mut)] // for the methods without params
                fn read(mut fields: Map<String, Value>) -> Result<Self, CtiError> {
                    Ok(Self { $($field: take(&mut fields, wire_name(stringify!($field)))?,)* })
                }

                #[allow(unused_variables)]
                fn describe(generator: &mut SchemaGenerator) -> Description {
                    Description {
                        name: $method,
                        summary: $summary,
                        changes: $changes,
                        params: vec![$((
                            wire_name(stringify!($field)),
                            <$ty as Param>::schema(generator),
                            <$ty as Param>::REQUIRED,
                        ),)*],
                        result: generator.subschema_for::<$answer>(),
                    }
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    #[allow(unused_mut)]
                    let mut map = serializer.serialize_map(None)?;
                    $(if !self.$field.is_absent() {
                        map.serialize_entry(wire_name(stringify!($field)), &self.$field.write())?;
                    })*
                    map.end()
                }
            }

            impl Call for $name {
                const METHOD: &'static str = $method;
                const CHANGES: bool = $changes;
                type Answer = $answer;
            }

            impl From<$name> for Method {
                fn from(params: $name) -> Method {
                    Method::$name(params)
                }
            }
        )*

        /// A request that has been read.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // the names are the methods' own
        pub enum Method { $($name($name),)* }

        impl Method {
            /// Every method's name, in the order of the contract.
            pub const NAMES: &[&'static str] = &[$($method,)*];

            /// The method's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Method::$name(_) => $method,)* }
            }

            /// Whether it changes something, and so may carry an `idem`.
            #[must_use]
            pub fn is_mutating(&self) -> bool {
                match self { $(Method::$name(_) => $changes,)* }
            }

            /// The same question of a name; `None` for no method of ours.
            #[must_use]
            pub fn changes(name: &str) -> Option<bool> {
                match name { $($method => Some($changes),)* _ => None }
            }

            /// Its params as a client sends them: [`Method::parse`] reads the same method again.
            #[must_use]
            pub fn to_params(&self) -> Box<RawValue> {
                match self { $(Method::$name(call) => params(call, None),)* }
            }

            pub(crate) fn read(name: &str, fields: Map<String, Value>) -> Result<Method, CtiError> {
                match name {
                    $($method => $name::read(fields).map(Method::$name),)*
                    _ => Err(unknown(name)),
                }
                .map_err(with_field_named)
            }

            pub(crate) fn describe(generator: &mut SchemaGenerator) -> Vec<Description> {
                vec![$($name::describe(generator),)*]
            }
        }
    };
}

methods! {
    ProviderOpen = "provider.open", false => ProviderOpened, "Opens a session of an application, or goes on with one." {
        user: Label, password: Option<Secret>, application: Label, instance: Option<Label>, heartbeat_ms: Option<u64>,
        subscribe: Option<Vec<Glob>>, resume_grace_ms: Option<u64>, resume: Option<Resume>,
    }
    ProviderHeartbeat = "provider.heartbeat", false => Empty, "Says that the application lives and what it has." {
        last_seq: Option<u64>,
    }
    ProviderClose = "provider.close", true => Empty, "Closes the session and its devices." {}
    ProviderDevices = "provider.devices", false => Devices, "Lists devices that the user may open." {
        type_: Option<DeviceType>, name: Option<Glob>, cursor: Option<Cursor>, limit: Option<PageSize>,
        scope: Option<Scope>,
    }
    ProviderMonitorPark = "provider.monitor_park", true => ParkNumbers, "Starts or stops the events `park.*`." {
        on: bool,
    }
    ProviderSnapshot = "provider.snapshot", false => Snapshot, "Tells everything that the session has open, as it is now." {
        cursor: Option<Cursor>, limit: Option<PageSize>,
    }
    RpcDiscover = "rpc.discover", false => Value, "The OpenRPC document of this server." {}
    DeviceOpen = "device.open", true => DeviceOpened, "Opens a device." {
        device: DeviceName, media: Option<MediaTermination>, cursor: Option<Cursor>, limit: Option<PageSize>,
    }
    DeviceClose = "device.close", true => Empty, "Closes a device that the session has open." { device: DeviceName }
    LineSetForward = "line.set_forward", true => Empty, "Sets or unsets Forward All." {
        device: DeviceName, dn: Dn, destination: Nullable<Dn>,
    }
    LineSetAutoAccept = "line.set_auto_accept", true => Empty, "Lets a port or route point accept calls by itself." {
        device: DeviceName, dn: Dn, on: bool,
    }
    LineSetMessageWaiting = "line.set_message_waiting", true => Empty, "Sets the message lamp of a line." {
        dn: Dn, on: bool,
    }
    CallMake = "call.make", true => NewCall, "Makes a call from a line of an open device." {
        device: DeviceName, dn: Option<Dn>, destination: Dn, calling_number: Option<Dn>,
        user_data: Option<BTreeMap<String, String>>,
    }
    CallAccept = "call.accept", true => Empty, "Accepts an offered call: the caller hears it ring." { leg: LegId }
    CallAnswer = "call.answer", true => Empty, "Answers a call." { leg: LegId }
    CallReject = "call.reject", true => Empty, "Rejects an unanswered call." { leg: LegId, cause: Option<Cause> }
    CallRedirect = "call.redirect", true => Empty, "Sends a call elsewhere." {
        leg: LegId, destination: Dn, calling_number: Option<Dn>, original_called: Option<Dn>,
        keep_on_failure: Option<bool>,
    }
    CallDrop = "call.drop", true => Empty, "Ends a leg." { leg: LegId }
    CallHold = "call.hold", true => Empty, "Puts a call on hold." { leg: LegId }
    CallRetrieve = "call.retrieve", true => Empty, "Takes a call off hold." { leg: LegId }
    CallConsult = "call.consult", true => NewCall, "Holds a call and makes a second one about it." {
        leg: LegId, destination: Dn, for_: Purpose,
    }
    CallTransfer = "call.transfer", true => Empty, "Joins two calls, or sends one away, and leaves." {
        leg: LegId, with: Option<LegId>, destination: Option<Dn>,
    }
    CallConference = "call.conference", true => Conference, "Makes one conference of several calls." {
        leg: LegId, with: Vec<LegId>,
    }
    CallPark = "call.park", true => Parked, "Parks a call at a number." { leg: LegId, park_number: Option<Dn> }
    CallUnpark = "call.unpark", true => NewCall, "Takes a parked call." {
        device: DeviceName, dn: Option<Dn>, park_number: Dn,
    }
    CallPickup = "call.pickup", true => NewCall, "Takes a call that rings elsewhere." {
        device: DeviceName, dn: Option<Dn>, ringing_dn: Dn,
    }
    CallDtmf = "call.dtmf", true => Empty, "Sends digits to the far end." {
        leg: LegId, digits: Digits, duration_ms: Option<DigitMs>,
    }
    CallSetUserData = "call.set_user_data", true => Empty, "Sets the data that travel with a call." {
        leg: LegId, user_data: BTreeMap<String, String>,
    }
    CallSetMedia = "call.set_media", true => Empty, "Answers `media.open_channel` with an address." {
        leg: LegId, ip: IpAddr, port: RtpPort,
    }
}

/// `type` and `for` are words of Rust: their fields end in an underscore.
fn wire_name(field: &'static str) -> &'static str {
    field.trim_end_matches('_')
}

fn unknown(name: &str) -> CtiError {
    let plain: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    CtiError::new(Symbol::MethodNotFound, format!("there is no method `{plain}`"))
}

/// Params say "is missing"; whoever reads the error wants to know which.
fn with_field_named(mut error: CtiError) -> CtiError {
    if let Some(field) = &error.data.field {
        error.message = format!("`{field}` {}", error.message).into();
    }
    error
}

impl Method {
    /// Reads a method's params; absent ones are an empty object.
    ///
    /// # Errors
    /// `METHOD_NOT_FOUND`; `INVALID_PARAMS` with the path in `data.field`; `NO_SUCH_LEG` for what can't be a leg's id.
    pub fn parse(name: &str, params: Option<&RawValue>) -> Result<Method, CtiError> {
        Method::from_fields(name, crate::rpc::object(params)?)
    }

    pub(crate) fn from_fields(name: &str, fields: Map<String, Value>) -> Result<Method, CtiError> {
        let method = Method::read(name, fields)?;
        if let Method::CallTransfer(transfer) = &method {
            match (&transfer.with, &transfer.destination) {
                (Some(_), None) | (None, Some(_)) => {}
                (Some(_), Some(_)) => {
                    return Err(CtiError::invalid_params(
                        "destination",
                        "give `with` or `destination`, not both",
                    ));
                }
                (None, None) => return Err(CtiError::invalid_params("with", "give `with` or `destination`")),
            }
        }
        Ok(method)
    }

    /// What the model is asked; `None` for what the node answers itself.
    #[must_use]
    pub fn to_model(&self) -> Option<device_model::Request> {
        use device_model::Request as R;
        Some(match self {
            Method::DeviceOpen(p) => R::OpenDevice { device: p.device.clone(), media: p.media.clone() },
            Method::DeviceClose(p) => R::CloseDevice { device: p.device.clone() },
            Method::LineSetForward(p) => R::SetForwardAll {
                device: p.device.clone(),
                dn: p.dn.clone(),
                destination: p.destination.0.clone(),
            },
            Method::LineSetAutoAccept(p) => {
                R::SetAutoAccept { device: p.device.clone(), dn: p.dn.clone(), on: p.on }
            }
            Method::CallMake(p) => R::MakeCall {
                device: p.device.clone(),
                dn: p.dn.clone(),
                destination: p.destination.clone(),
                calling_number: p.calling_number.clone(),
                user_data: p.user_data.clone().unwrap_or_default(),
            },
            Method::CallAccept(p) => R::Accept { leg: p.leg },
            Method::CallAnswer(p) => R::Answer { leg: p.leg },
            Method::CallReject(p) => R::Reject { leg: p.leg, cause: p.cause.unwrap_or(Cause::CALL_REJECTED) },
            Method::CallRedirect(p) => R::Redirect {
                leg: p.leg,
                destination: p.destination.clone(),
                calling_number: p.calling_number.clone(),
                original_called: p.original_called.clone(),
                keep_on_failure: p.keep_on_failure.unwrap_or(true),
            },
            Method::CallTransfer(p) => match (p.with, &p.destination) {
                (Some(with), _) => R::Transfer { leg: p.leg, with },
                (None, Some(destination)) => {
                    R::BlindTransfer { leg: p.leg, destination: destination.clone() }
                }
                // `parse` refuses it.
                (None, None) => return None,
            },
            // For what it is made says nothing of what may become of it.
            Method::CallConsult(p) => R::Consult { leg: p.leg, destination: p.destination.clone() },
            Method::CallDrop(p) => R::Drop { leg: p.leg },
            Method::CallHold(p) => R::Hold { leg: p.leg },
            Method::CallRetrieve(p) => R::Retrieve { leg: p.leg },
            Method::CallSetUserData(p) => R::SetUserData { leg: p.leg, user_data: p.user_data.clone() },
            Method::CallSetMedia(p) => R::SetMedia { leg: p.leg, address: SocketAddr::new(p.ip, p.port.0) },
            Method::ProviderOpen(_)
            | Method::ProviderHeartbeat(_)
            | Method::ProviderClose(_)
            | Method::ProviderDevices(_)
            | Method::ProviderMonitorPark(_)
            | Method::ProviderSnapshot(_)
            | Method::RpcDiscover(_)
            | Method::LineSetMessageWaiting(_)
            | Method::CallConference(_)
            | Method::CallPark(_)
            | Method::CallUnpark(_)
            | Method::CallPickup(_)
            | Method::CallDtmf(_) => return None,
        })
    }
}

/// The longest `idem`, in bytes.
pub const MAX_IDEM_BYTES: usize = 64;

/// Takes the idempotency key out of a request's params.
///
/// # Errors
/// `INVALID_PARAMS` (`idem`).
pub fn take_idem(fields: &mut Map<String, Value>) -> Result<Option<Arc<str>>, CtiError> {
    let wrong = || {
        let message = format!("`idem` must be a string of 1 to {MAX_IDEM_BYTES} bytes");
        Err(CtiError::invalid_params("idem", message))
    };
    match fields.remove("idem") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) if (1..=MAX_IDEM_BYTES).contains(&s.len()) => Ok(Some(s.into())),
        Some(Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            wrong()
        }
    }
}

/// A request's params as a client sends them.
#[must_use]
pub fn params<C: Call>(call: &C, idem: Option<&str>) -> Box<RawValue> {
    let mut raw: String = Box::<str>::from(crate::rpc::raw(call)).into();
    if let Some(idem) = idem {
        raw.pop();
        if raw.len() > 1 {
            raw.push(',');
        }
        raw.push_str("\"idem\":");
        raw.push_str(&json!(idem).to_string());
        raw.push('}');
    }
    RawValue::from_string(raw).expect("an object with one more member is an object")
}

/// The answer of a model to a session.
#[must_use]
pub fn answer(reply: &device_model::Reply) -> Box<RawValue> {
    match reply {
        device_model::Reply::Done => crate::rpc::raw(&Empty {}),
        device_model::Reply::Opened { device, legs } => {
            let legs = legs.iter().map(Leg::from).collect();
            crate::rpc::raw(&DeviceOpened { device: device.into(), legs, cursor: None })
        }
        device_model::Reply::Call { call, leg } => crate::rpc::raw(&NewCall { call: *call, leg: *leg }),
    }
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// The answer of `provider.open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // contract §2, field for field
pub struct ProviderOpened {
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub session: SessionId,
    pub resumed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<NotResumed>,
    pub next_seq: u64,
    pub heartbeat_ms: u64,
    pub resume_grace_ms: u64,
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub node: NodeName,
    pub cluster: Arc<str>,
    pub ctimanagers: Vec<Arc<str>>,
    pub device_count: u64,
    pub privileges: Privileges,
}

/// Why a session could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotResumed {
    /// Nobody knows it, or it is another user's.
    UnknownSession,
    /// It has ended.
    Expired,
    /// Events after `last_seq` are no longer in the log; the session has ended as a failed one.
    LogOverrun,
}

/// A page of `provider.devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Devices {
    pub devices: Vec<Device>,
    /// Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Arc<str>>,
}

/// The answer of `provider.monitor_park`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct ParkNumbers {
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>")]
    pub park_numbers: Vec<Dn>,
}

/// The answer of `provider.snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Everything open, as it is now, by name. A device whose calls do not fit into a line goes on on the next page.
    pub devices: Vec<DeviceOpened>,
    /// The last event that it includes, the same for all pages.
    pub seq: u64,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Arc<str>>,
}

/// A device and its calls: the answer of `device.open`, and an entry of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct DeviceOpened {
    pub device: Device,
    pub legs: Vec<Leg>,
    /// Of `device.open`: there are more calls than fit into a line; asked again with this it answers with the next ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Arc<str>>,
}

/// A new call and the leg of it at the device that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct NewCall {
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub call: CallId,
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub leg: LegId,
}

/// The answer of `call.conference`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Conference {
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub call: CallId,
    /// How many take part.
    pub participants: u32,
}

/// The answer of `call.park`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Parked {
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub park_number: Dn,
}

#[cfg(test)]
mod tests;
