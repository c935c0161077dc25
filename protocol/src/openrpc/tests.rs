//! The checked-in document is the code's, and what generators of clients need holds in it.

use super::*;
use crate::event::EventType;
use crate::reserved::{RESERVED, WORDS};
use std::collections::BTreeMap;

const CHECKED_IN: &str = include_str!("../../openrpc.json");

/// `UPDATE_OPENRPC=1 cargo test -p protocol openrpc` writes the file anew.
#[test]
fn the_checked_in_document_is_the_code_s() {
    let made = serde_json::to_string_pretty(&document(&Server::defaults())).expect("writes") + "\n";
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
    for servers in [Server::defaults(), vec![Server::plain("cm1:2748")], Vec::new()] {
        let answer = answer(&servers);
        assert!(!answer.get().contains('\n'));
        assert_eq!(serde_json::from_str::<Value>(answer.get()).expect("JSON"), document(&servers));
    }
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
    let document = document(&[]);
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
    let page = include_str!("../../../docs/cti-protocol.md");
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

/// Each schema of a value, with the way to it.
fn schemas(value: &Value) -> Vec<(String, &Value)> {
    fn walk<'a>(schema: &'a Value, way: &str, found: &mut Vec<(String, &'a Value)>) {
        if !schema.is_object() {
            return;
        }
        found.push((way.to_owned(), schema));
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            walk(member, &format!("{way}.{name}"), found);
        }
        for key in ["items", "additionalProperties", "if", "then", "else"] {
            walk(&schema[key], &format!("{way}/{key}"), found);
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            for choice in schema[key].as_array().into_iter().flatten() {
                walk(choice, &format!("{way}/{key}"), found);
            }
        }
    }
    let mut found = Vec::new();
    for method in value["methods"].as_array().expect("a list") {
        let name = method["name"].as_str().expect("a name");
        for param in method["params"].as_array().expect("a list").iter().chain([&method["result"]]) {
            walk(&param["schema"], &format!("{name} {}", param["name"]), &mut found);
        }
    }
    for (name, schema) in value["components"]["schemas"].as_object().expect("an object") {
        walk(schema, name, &mut found);
    }
    found
}

fn params(document: &Value) -> Vec<(&str, &Value)> {
    let methods = document["methods"].as_array().expect("a list");
    methods
        .iter()
        .flat_map(|method| {
            let name = method["name"].as_str().expect("a name");
            method["params"].as_array().expect("a list").iter().map(move |param| (name, param))
        })
        .collect()
}

#[test]
fn each_schema_has_a_title_of_its_own_that_can_name_a_type() {
    let document = document(&[]);
    let mut seen = BTreeMap::new();
    for (way, schema) in schemas(&document) {
        if schema.get("$ref").is_some() {
            assert_eq!(
                schema.as_object().map(Map::len),
                Some(1),
                "{way}: what stands beside a reference is not read"
            );
            continue;
        }
        let title = schema["title"].as_str().unwrap_or_else(|| panic!("{way} has no title: {schema}"));
        let good = title.starts_with(|c: char| c.is_ascii_uppercase())
            && title.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(good && !WORDS.contains(&title), "{way}: {title}");
        assert_eq!(seen.insert(title, way.clone()), None, "{title} is {way}, too");
    }
    assert!(seen.len() > 200, "{}", seen.len());
    for method in Method::NAMES {
        assert!(!seen.contains_key(&*pascal(method)), "{method}: generators call it so, too");
    }
}

/// Generators make a class of an object with members and an enumeration of words, and import both by name.
#[test]
fn each_component_is_a_type() {
    let document = document(&[]);
    for (name, schema) in document["components"]["schemas"].as_object().expect("an object") {
        assert!(is_type(schema), "{name}: {schema}");
        assert_eq!(schema["title"], **name, "its title is its name");
        assert_eq!(pascal(name), **name, "and a good one");
    }
    let formats = ["date-time", "ipv4", "ipv6", "password"];
    for (way, schema) in schemas(&document) {
        assert!(!schema["type"].is_array(), "{way}: one type each, others are choices");
        assert!(
            schema["format"].is_null() || formats.iter().any(|known| schema["format"] == *known),
            "{way}"
        );
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            // A condition speaks of members that are described elsewhere.
            let described = schema["type"] == "object";
            let says = required.contains(&json!(name)) || member.get("default").is_some();
            assert!(!described || says, "{way}.{name}: it may be missing, and what does that mean?");
        }
    }
}

#[test]
fn required_params_come_first_and_every_method_lists_its_errors() {
    let document = document(&[]);
    for method in document["methods"].as_array().expect("a list") {
        let name = method["name"].as_str().expect("a name");
        let params = method["params"].as_array().expect("a list");
        let required: Vec<bool> = params.iter().map(|param| param["required"] == true).collect();
        assert!(required.is_sorted_by(|one, next| one >= next), "{name}: {required:?}");
        let errors = method["errors"].as_array().expect("a list");
        let codes: Vec<i64> = errors.iter().filter_map(|error| error["code"].as_i64()).collect();
        assert!(codes.is_sorted_by(|one, next| one > next), "{name}: each once: {codes:?}");
        for error in errors {
            let symbol = error["data"]["cti"].as_str().and_then(Symbol::from_name).expect("a symbol");
            assert_eq!(error["code"], symbol.code());
            assert!(error["message"].as_str().is_some_and(|when| when.ends_with('.')), "{error}");
        }
        let not_open = errors.iter().any(|error| error["data"]["cti"] == "NOT_OPEN");
        assert_eq!(not_open, name != "provider.open", "{name}");
        assert_eq!(
            method.get("x-status").is_some(),
            errors.iter().any(|error| error["message"] == "Always, in this version."),
            "{name}"
        );
    }
}

/// Whoever makes a program of the document meets no word of his language.
#[test]
fn no_name_of_the_document_is_a_reserved_word() {
    let document = document(&[]);
    let mut contract = BTreeSet::new();
    for (method, param) in params(&document) {
        let name = param["name"].as_str().expect("a name");
        assert!(!WORDS.contains(&name), "{method}: {name}");
        let own = param["x-contract-name"].as_str().unwrap_or(name);
        contract.insert(own);
        let aliases: Vec<&str> =
            param["x-aliases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let known = reserved(own).map_or(Vec::new(), |reserved| reserved.aliases.to_vec());
        let mut all: Vec<&str> = aliases.into_iter().chain([name]).filter(|other| *other != own).collect();
        let mut known: Vec<&str> = known;
        all.sort_unstable();
        known.sort_unstable();
        assert_eq!(all, known, "{method}: {own}");
    }
    for reserved in RESERVED {
        assert!(contract.contains(reserved.name), "{} is a name of no param", reserved.name);
    }
    // A member is no variable: `type` is fine, but a word of both languages would not be.
    for (way, schema) in schemas(&document) {
        for name in schema["properties"].as_object().into_iter().flat_map(Map::keys) {
            assert!(!WORDS.contains(&name.as_str()), "{way}: {name}");
        }
    }
    for event in EventType::ALL {
        assert!(!event.name().split('.').any(|part| WORDS.contains(&part)), "{event}");
    }
    for method in Method::NAMES {
        assert!(!method.split('.').any(|part| WORDS.contains(&part)), "{method}");
    }
}

/// What the document shows of an event is read as this event and written again as the same.
#[test]
fn each_event_has_a_schema_and_an_example_that_reads_as_it() {
    use crate::event::Received;
    let document = document(&[]);
    let events = |key: &str| document[key].as_array().expect("a list").clone();
    let names: Vec<String> =
        events("x-events").iter().map(|event| event["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(names, EventType::ALL.iter().map(|event| event.name()).collect::<Vec<_>>());
    for event in events("x-events").iter().chain(&events("x-connection-events")) {
        let (name, example) = (&event["name"], &event["example"]);
        let schema = component(&event["schema"]).expect("a component");
        let schema = &document["components"]["schemas"][schema];
        assert_eq!(schema["properties"]["type"]["const"], *name);
        assert_eq!(schema["examples"], json!([example]));
        let raw = rpc::raw(example);
        let again = match Received::parse(&raw).expect("it reads") {
            Received::Event { seq, time, node, event } => {
                assert_eq!(*time, crate::event::rfc3339(examples::time()));
                event.encode(&(&*node).into(), examples::time()).frame(seq)
            }
            Received::Connection(event) => event.frame(examples::time()),
            other @ (Received::Unknown { .. } | Received::UnknownConnection(_)) => {
                panic!("{name}: {other:?}")
            }
        };
        let again: Value = serde_json::from_slice(&again.to_vec()).expect("JSON");
        assert_eq!(again, json!({"jsonrpc": "2.0", "method": "event", "params": example}), "{name}");
    }
}
