//! The OpenRPC document of a server: `rpc.discover`, `ctimanager api`, and the checked-in `openrpc.json`. Independent
//! clients are made from it, so it says all that the wire has: [`shape`] fits schemas to their generators, [`events`]
//! and [`errors`] describe what OpenRPC has no place for.

mod errors;
mod events;
mod examples;
mod shape;

use crate::error::Symbol;
use crate::methods::{Description, MAX_IDEM_BYTES, Method};
use crate::planned::{self, PLANNED};
use crate::reserved::reserved;
use crate::rpc;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use shape::{component, is_type, pascal, shape};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// What listens there.
    pub name: String,
    /// `wss://HOST:PORT/cti/v1`, `tls://HOST:PORT` or `tcp://HOST:PORT`.
    pub url: String,
    /// In a sentence.
    pub summary: String,
}

impl Server {
    /// WebSocket over TLS.
    #[must_use]
    pub fn websocket(authority: &str) -> Self {
        Self {
            name: "WebSocket".into(),
            url: format!("wss://{authority}/cti/v1"),
            summary: "One message a text frame; the subprotocol is `cti.v1.jsonrpc` or none.".into(),
        }
    }

    /// Lines over TLS.
    #[must_use]
    pub fn tls(authority: &str) -> Self {
        Self {
            name: "NDJSON over TLS".into(),
            url: format!("tls://{authority}"),
            summary: "One message a line.".into(),
        }
    }

    /// Lines over TCP.
    #[must_use]
    pub fn plain(authority: &str) -> Self {
        Self {
            name: "NDJSON over TCP".into(),
            url: format!("tcp://{authority}"),
            summary: "One message a line, for everybody on the way to read.".into(),
        }
    }

    /// Of a node with the ports that the protocol names, on this machine.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![Self::websocket("localhost:8443"), Self::tls("localhost:2749")]
    }
}

/// The answer to `rpc.discover`. All but the servers is a constant: it is made once, however often somebody asks.
///
/// # Panics
/// Never: the document has an `info` before its `servers` and much beside.
#[must_use]
pub fn answer(servers: &[Server]) -> Box<RawValue> {
    static REST: LazyLock<String> = LazyLock::new(|| {
        let mut document = document(&[]);
        document.as_object_mut().and_then(|members| members.remove("servers"));
        document.to_string()
    });
    let servers = rpc::raw(servers);
    let text = ["{\"servers\":", servers.get(), ",", &REST[1..]].concat();
    RawValue::from_string(text).expect("an object with one more member is an object")
}

/// The document. It is made of the same types that read and write the wire.
#[must_use]
pub fn document(servers: &[Server]) -> Value {
    let settings = SchemaSettings::draft07().for_serialize();
    let mut generator = settings.with(|s| s.definitions_path = "/components/schemas".into()).into_generator();
    let described = Method::describe(&mut generator);
    // What only events carry is described, too.
    let numbered = events::numbered(&mut generator);
    let of_connections = events::of_connections(&mut generator);
    let mut schemas = generator.take_definitions(true);
    // What generators make no type of is described where it stands.
    let inline: Map<String, Value> = schemas.iter().filter(|(_, s)| !is_type(&worded(s))).map(own).collect();
    schemas.retain(|name, _| !inline.contains_key(name));
    let methods: Vec<Value> = described.into_iter().map(|of| method(of, &inline)).collect();
    let mut entries = [Vec::new(), Vec::new()];
    for (entries, events) in entries.iter_mut().zip([numbered, of_connections]) {
        for event in events {
            entries.push(event.entry);
            schemas.insert(event.component, event.schema);
        }
    }
    schemas.iter_mut().for_each(|(name, schema)| shape(schema, name));
    let [numbered, of_connections] = entries;
    json!({
        "openrpc": "1.2.6",
        "info": {
            "title": "CTI protocol of ctimanager",
            "version": "1",
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": servers,
        "methods": methods,
        "components": {"schemas": schemas, "errors": all_errors()},
        "x-events": numbered,
        "x-connection-events": of_connections,
    })
}

const ABOUT: &str = "JSON-RPC 2.0 in both directions of one connection: requests and their answers, and the notification \
    `event`. `x-events` has the schema of the params of each event and an example; those of `x-connection-events` have no \
    number. Where a param's name would be a reserved word of a language, the document has another one that the server takes as \
    well: `x-contract-name` is the protocol's own, `x-aliases` are all others. `x-status: planned` marks what this version \
    does not do yet. Any request may be answered with PARSE_ERROR, INVALID_REQUEST or METHOD_NOT_FOUND, too. Both sides \
    ignore members that they don't know.";

fn own((name, schema): (&String, &Value)) -> (String, Value) {
    (name.clone(), schema.clone())
}

/// A definition as it will be, as far as words are concerned.
fn worded(schema: &Value) -> Value {
    let mut schema = schema.clone();
    shape(&mut schema, "");
    schema
}

fn all_errors() -> Map<String, Value> {
    let error = |symbol: &Symbol| (symbol.name().to_owned(), error((*symbol, symbol.meaning())));
    Symbol::ALL.iter().map(error).collect()
}

fn error((symbol, when): errors::Entry) -> Value {
    json!({"code": symbol.code(), "message": when, "data": {"cti": symbol.name()}})
}

/// A method; what must be there stands before what may.
fn method(description: Description, inline: &Map<String, Value>) -> Value {
    let prefix = pascal(description.name);
    let (required, optional): (Vec<_>, Vec<_>) =
        description.params.into_iter().partition(|(_, _, required)| *required);
    let param = |(name, schema, required)| param(&prefix, name, Value::from(schema), Need::of(required));
    let mut params: Vec<Value> = required.into_iter().chain(optional).map(param).collect();
    if description.changes {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": MAX_IDEM_BYTES});
        let mut idem = self::param(&prefix, "idem", schema, Need::Optional);
        idem["summary"] =
            "A repeat of the same key gets the first answer and is not carried out again.".into();
        params.push(idem);
    }
    let mut method = json!({
        "name": description.name,
        "summary": description.summary,
        "paramStructure": "by-name",
        "params": params,
        "result": {"name": "result", "schema": result(&prefix, description.result.into(), inline)},
        "errors": errors::of(description.name).into_iter().map(error).collect::<Vec<_>>(),
    });
    if planned::method(description.name).is_some() {
        method["x-status"] = json!(PLANNED);
    }
    method
}

/// Whether a param must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}

impl Need {
    fn of(required: bool) -> Self {
        if required { Need::Required } else { Need::Optional }
    }
}

fn param(method: &str, name: &str, mut schema: Value, need: Need) -> Value {
    let reserved = reserved(name);
    let called = reserved.map_or(name, |reserved| reserved.document);
    shape(&mut schema, &format!("{}Of{method}", pascal(called)));
    let mut param = json!({"name": called, "schema": schema, "required": need == Need::Required});
    if let Some(reserved) = reserved {
        let others: BTreeSet<&str> = reserved.aliases.iter().copied().chain([name]).collect();
        param["x-contract-name"] = name.into();
        param["x-aliases"] = others.into_iter().filter(|other| *other != called).collect();
        if called != name {
            param["summary"] = format!("`{name}` in the protocol, which is a word of languages.").into();
        }
    }
    param
}

/// A result refers to its component, or is described here when it has no members to tell of.
fn result(method: &str, mut schema: Value, inline: &Map<String, Value>) -> Value {
    if let Some(here) = component(&schema).and_then(|name| inline.get(name)) {
        schema = here.clone();
    }
    if schema == Value::Bool(true) {
        schema = json!({"type": "object", "required": ["openrpc", "info", "methods"]});
    }
    shape(&mut schema, &format!("{method}Result"));
    schema
}

#[cfg(test)]
mod tests;
