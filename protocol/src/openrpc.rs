//! The OpenRPC document of this server: `rpc.discover`, `ctimanager api`, and the checked-in `openrpc.json`.

use crate::error::Symbol;
use crate::event::{CloseReason, EventType};
use crate::methods::{Description, MAX_IDEM_BYTES, Method};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The document. It is made of the same types that read and write the wire.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft07().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let methods: Vec<Value> = Method::describe(&mut generator).into_iter().map(method).collect();
    // What only events carry is described, too.
    drop(generator.subschema_for::<crate::wire::Leg>());
    drop(generator.subschema_for::<crate::wire::StartedStream>());
    drop(generator.subschema_for::<crate::event::Alarm>());
    drop(generator.subschema_for::<CloseReason>());
    let errors: serde_json::Map<String, Value> = Symbol::ALL
        .iter()
        .map(|s| {
            (s.name().to_owned(), json!({"code": s.code(), "message": s.name(), "data": {"cti": s.name()}}))
        })
        .collect();
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "CTI protocol of ctimanager",
            "version": "1",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": [{"name": "WebSocket", "url": "wss://localhost:8443/cti/v1"}],
        "methods": methods,
        "components": {"schemas": generator.take_definitions(true), "errors": errors},
        "x-events": EventType::ALL.iter().map(|t| t.name()).collect::<Vec<_>>(),
        "x-connection-events": ["session.superseded", "session.heartbeat", "session.closed"],
    })
}

fn method(description: Description) -> Value {
    let param = |(name, schema, required)| json!({"name": name, "schema": schema, "required": required});
    let mut params: Vec<Value> = description.params.into_iter().map(param).collect();
    if description.changes {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": MAX_IDEM_BYTES});
        params.push(json!({
            "name": "idem",
            "summary": "A repeat of the same key gets the first answer and is not carried out again.",
            "schema": schema,
            "required": false,
        }));
    }
    json!({
        "name": description.name,
        "summary": description.summary,
        "paramStructure": "by-name",
        "params": params,
        "result": {"name": "result", "schema": description.result},
    })
}
