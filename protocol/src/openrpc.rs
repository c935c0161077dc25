//! The OpenRPC document of this server: `rpc.discover`, `ctimanager api`, and the checked-in `openrpc.json`.

use crate::error::Symbol;
use crate::event::{CloseReason, EventType};
use crate::methods::{Description, MAX_IDEM_BYTES, Method};
use crate::planned::{self, PLANNED};
use crate::rpc;
use schemars::generate::SchemaSettings;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The answer to `rpc.discover`. The document is a constant: it is made once, however often somebody asks.
#[must_use]
pub fn answer() -> Box<RawValue> {
    static ANSWER: LazyLock<Box<RawValue>> = LazyLock::new(|| rpc::raw(&document()));
    ANSWER.clone()
}

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
            (
                s.name().to_owned(),
                json!({"code": s.code(), "message": s.meaning(), "data": {"cti": s.name()}}),
            )
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
        "x-events": EventType::ALL.iter().map(|t| event(t.name())).collect::<Vec<_>>(),
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
    let mut method = json!({
        "name": description.name,
        "summary": description.summary,
        "paramStructure": "by-name",
        "params": params,
        "result": {"name": "result", "schema": description.result},
    });
    if planned::method(description.name).is_some() {
        method["x-status"] = json!(PLANNED);
    }
    method
}

fn event(name: &str) -> Value {
    let mut event = json!({"name": name});
    if planned::event(name).is_some() {
        event["x-status"] = json!(PLANNED);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKED_IN: &str = include_str!("../openrpc.json");

    /// `UPDATE_OPENRPC=1 cargo test -p protocol openrpc` writes the file anew.
    #[test]
    fn the_checked_in_document_is_the_code_s() {
        let made = serde_json::to_string_pretty(&document()).expect("writes") + "\n";
        if std::env::var_os("UPDATE_OPENRPC").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openrpc.json");
            std::fs::write(path, &made).expect("the source tree can be written");
        }
        assert!(
            made == CHECKED_IN,
            "protocol/openrpc.json is old: UPDATE_OPENRPC=1 cargo test -p protocol openrpc"
        );
    }

    #[test]
    fn the_answer_is_the_document_on_one_line() {
        let answer = answer();
        assert!(!answer.get().contains('\n'));
        assert_eq!(serde_json::from_str::<Value>(answer.get()).expect("JSON"), document());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, inner)| match (key.as_str(), inner) {
                    ("$ref", Value::String(to)) => found.push(to),
                    (_, inner) => walk(inner, found),
                }),
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document();
        let mut references = Vec::new();
        walk(&document, &mut references);
        assert!(!references.is_empty());
        for to in references {
            assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
        }
        let methods = document["methods"].as_array().expect("a list");
        assert_eq!(methods.len(), Method::NAMES.len());
    }

    /// The page for people says the same as the code.
    #[test]
    fn the_page_names_every_method_event_and_error() {
        let page = include_str!("../../docs/cti-protocol.md");
        for name in Method::NAMES {
            let idem = if Method::changes(name) == Some(true) { "yes" } else { "" };
            let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` | {idem} |")));
            let row = row.unwrap_or_else(|| panic!("{name}"));
            assert_eq!(row.contains("*planned*"), planned::method(name).is_some(), "{row}");
        }
        let (_, events) = page.split_once("## Events\n").expect("they have a section");
        let (events, planned) = events.split_once("*Planned*").expect("those that are not told come last");
        for event in EventType::ALL {
            let place = if planned::event(event.name()).is_some() { planned } else { events };
            assert!(place.contains(&format!("`{event}`")), "{event}");
        }
        for symbol in Symbol::ALL {
            let row = format!("| {} | `{symbol}` | {} |", symbol.code(), symbol.meaning());
            assert!(page.contains(&row), "{row}");
        }
    }
}
