//! What the document says of each event: its schema, and an example that the codec itself wrote.

use super::examples;
use super::shape::{COMPONENTS, pascal};
use crate::event::{CloseReason, ConnectionEvent, Event, EventType};
use crate::planned::{self, PLANNED};
use device_model::NodeName;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

/// How the time of an event is written.
const TIME: &str = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$";

/// An event as the document has it: its entry, and the component that it refers to.
pub(super) struct Described {
    pub(super) entry: Value,
    pub(super) component: String,
    pub(super) schema: Value,
}

/// Numbered events, in the order of the contract.
pub(super) fn numbered(generator: &mut SchemaGenerator) -> Vec<Described> {
    EventType::ALL.iter().map(|event_type| of(*event_type, generator)).collect()
}

fn of(event_type: EventType, generator: &mut SchemaGenerator) -> Described {
    let body = Event::body_schema(event_type, generator).map(Value::from).unwrap_or_default();
    let head = json!({
        "seq": {"type": "integer", "minimum": 1, "description": "Its number in the session: 1, 2, 3, … without gaps."},
        "time": {"type": "string", "format": "date-time", "pattern": TIME},
        "type": {"type": "string", "const": event_type.name()},
        "node": {"type": "string", "minLength": 1, "description": "Which node says so."},
    });
    let node = NodeName::from("cm1");
    let frame = examples::event(event_type).encode(&node, examples::time()).frame(examples::SEQ);
    let mut described = described(event_type.name(), head, body, &frame.to_vec());
    if planned::event(event_type.name()).is_some() {
        described.entry["x-status"] = json!(PLANNED);
    }
    described
}

/// Events about the connection, which have no number.
pub(super) fn of_connections(generator: &mut SchemaGenerator) -> Vec<Described> {
    let reason = Value::from(generator.subschema_for::<CloseReason>());
    let closed = json!({"properties": {"reason": reason}, "required": ["reason"]});
    [
        (ConnectionEvent::Superseded, Value::Null),
        (ConnectionEvent::Heartbeat, Value::Null),
        (ConnectionEvent::Closed(CloseReason::Stopping), closed),
    ]
    .map(|(event, body)| {
        let head = json!({
            "time": {"type": "string", "format": "date-time", "pattern": TIME},
            "type": {"type": "string", "const": event.name()},
        });
        described(event.name(), head, body, &event.frame(examples::time()).to_vec())
    })
    .into()
}

/// Head and body are one object: the params of the notification.
fn described(name: &str, head: Value, body: Value, frame: &[u8]) -> Described {
    let frame: Value = serde_json::from_slice(frame).expect("our own frames are JSON");
    let example = frame["params"].clone();
    let (mut members, mut body) = (object(head), object(body));
    let mut required: Vec<Value> = members.keys().map(|key| json!(key)).collect();
    required.extend(body.remove("required").and_then(|names| names.as_array().cloned()).unwrap_or_default());
    members.extend(body.remove("properties").map(object).unwrap_or_default());
    // What is left are conditions between members; a name that schemars gave it isn't the wire's.
    body.retain(|key, _| ["if", "then", "else"].contains(&key.as_str()));
    body.extend(object(json!({
        "type": "object",
        "description": format!("The params of the notification `event` whose `type` is `{name}`."),
        "properties": members,
        "required": required,
        "examples": [example],
    })));
    let component = format!("{}Event", pascal(name));
    let entry =
        json!({"name": name, "schema": {"$ref": format!("{COMPONENTS}{component}")}, "example": example});
    Described { entry, component, schema: Value::Object(body) }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
