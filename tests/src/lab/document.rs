//! The OpenRPC document as a judge: what a node says has to be what the document says of it, no less and no more. The lab's
//! client asks it of every frame, so each test is a test of the document, too.

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;

const CHECKED_IN: &str = include_str!("../../../protocol/openrpc.json");

/// What any request may be answered with, whatever its method.
const OF_ANY_REQUEST: [&str; 3] = ["PARSE_ERROR", "INVALID_REQUEST", "METHOD_NOT_FOUND"];

thread_local! {
    static JUDGE: RefCell<Judge> = RefCell::new(Judge::new());
}

/// Whether a good answer is one of this method.
///
/// # Errors
/// What is wrong with it.
pub fn check_result(method: &str, result: &Value) -> Result<(), String> {
    JUDGE.with_borrow_mut(|judge| {
        let index = judge.method(method)?;
        judge.check(&format!("/methods/{index}/result/schema"), result)
    })
}

/// Whether the document says that this method may be refused so.
///
/// # Errors
/// What is wrong with it.
pub fn check_error(method: &str, error: &Value) -> Result<(), String> {
    let symbol = error["data"]["cti"].as_str().ok_or("it has no symbol")?;
    JUDGE.with_borrow_mut(|judge| {
        let known = &judge.document["components"]["errors"][symbol];
        if known["code"] != error["code"] || known.is_null() {
            return Err(format!("{symbol} is {known} in the document"));
        }
        let index = judge.method(method);
        let strange = index.is_err() && ["NOT_OPEN", "RATE_LIMITED"].contains(&symbol);
        if strange || OF_ANY_REQUEST.contains(&symbol) {
            return Ok(());
        }
        let index = index?;
        let listed = judge.document["methods"][index]["errors"].as_array().cloned().unwrap_or_default();
        let found = listed.iter().any(|one| one["data"]["cti"] == symbol && one["code"] == error["code"]);
        if found { Ok(()) } else { Err(format!("the document does not list {symbol} for {method}")) }
    })
}

/// Whether the params of an `event` are those of its type.
///
/// # Errors
/// What is wrong with them.
pub fn check_event(event: &Value) -> Result<(), String> {
    let kind = event["type"].as_str().unwrap_or_default();
    let planned = JUDGE.with_borrow(|judge| judge.event(kind).and_then(|one| one.get("x-status").cloned()));
    if let Some(status) = planned {
        return Err(format!("the document says that `{kind}` is {status}"));
    }
    check_event_of(kind, event)
}

/// The same of an event that the document has, whether a node tells it or not.
///
/// # Errors
/// What is wrong with them.
pub fn check_event_of(kind: &str, event: &Value) -> Result<(), String> {
    JUDGE.with_borrow_mut(|judge| {
        let described = judge.event(kind).ok_or_else(|| format!("the document has no event `{kind}`"))?;
        let schema = described["schema"]["$ref"].as_str().unwrap_or_default().to_owned();
        judge.check(schema.trim_start_matches('#'), event)
    })
}

struct Judge {
    /// As it is checked in.
    document: Value,
    compiler: Compiler,
    schemas: Schemas,
    known: HashMap<String, SchemaIndex>,
}

impl Judge {
    fn new() -> Judge {
        let document: Value = serde_json::from_str(CHECKED_IN).expect("the checked-in document is JSON");
        let mut strict = document.clone();
        tighten(&mut strict);
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V7);
        compiler.enable_format_assertions();
        compiler.add_resource(LOCATION, strict).expect("a document with a place");
        Judge { document, compiler, schemas: Schemas::new(), known: HashMap::new() }
    }

    fn method(&self, name: &str) -> Result<usize, String> {
        let methods = self.document["methods"].as_array().map_or(&[][..], Vec::as_slice);
        let found = methods.iter().position(|method| method["name"] == name);
        found.ok_or_else(|| format!("the document has no method `{name}`"))
    }

    fn event(&self, kind: &str) -> Option<&Value> {
        let events =
            ["x-events", "x-connection-events"].into_iter().filter_map(|key| self.document[key].as_array());
        events.flatten().find(|one| one["name"] == kind)
    }

    fn check(&mut self, pointer: &str, value: &Value) -> Result<(), String> {
        let schema = match self.known.get(pointer) {
            Some(known) => *known,
            None => {
                let location = format!("{LOCATION}#{pointer}");
                let compiled = self.compiler.compile(&location, &mut self.schemas);
                let schema = compiled.map_err(|error| format!("{pointer}: {error:#}"))?;
                self.known.insert(pointer.to_owned(), schema);
                schema
            }
        };
        self.schemas.validate(value, schema).map_err(|error| format!("{error:#}"))
    }
}

const LOCATION: &str = "lab:///openrpc.json";

/// The document allows members that later versions will have, and `null` for one that is left out; this version says
/// neither.
fn tighten(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                // Conditions speak of some members only.
                if !["if", "then", "else", "examples", "example"].contains(&key.as_str()) {
                    tighten(inner);
                }
            }
            if map.get("properties").is_some_and(Value::is_object)
                && map.get("type") == Some(&json!("object"))
            {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            if map.get("default") == Some(&Value::Null)
                && let Some(choices) = map.get_mut("anyOf").and_then(Value::as_array_mut)
            {
                choices.retain(|choice| choice["type"] != "null");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tighten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
