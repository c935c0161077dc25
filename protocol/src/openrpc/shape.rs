//! Schemas as generators of clients need them. What schemars makes of our types is right, but programs are made from the
//! document too: they name a type by its `title`, know a component by its members or its words, and take a member without
//! a default for one that is always there.

use serde_json::{Map, Value, json};

/// Where components are.
pub(super) const COMPONENTS: &str = "#/components/schemas/";

/// `call.set_media` → `CallSetMedia`.
pub(super) fn pascal(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

/// Whether generators make a type of it: an object with members, or a list of words.
pub(super) fn is_type(schema: &Value) -> bool {
    let members = schema["properties"].as_object().is_some_and(|members| !members.is_empty());
    members || schema["enum"].is_array()
}

/// The component that a schema is nothing but a reference to.
pub(super) fn component(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix(COMPONENTS)
}

/// Brings a schema into shape. It is called `title`, and what is in it by its place: `OpenedOfDevice`,
/// `ValueOfUserDataOfLeg`. So no two schemas of the document have the same title.
pub(super) fn shape(schema: &mut Value, title: &str) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Value::Array(alone)) =
        map.get("allOf").filter(|all| all.as_array().is_some_and(|all| all.len() == 1))
    {
        // A reference with words about it: what it refers to has its own.
        let only = alone[0].clone();
        *schema = only;
        return shape(schema, title);
    }
    if map.contains_key("$ref") {
        map.retain(|key, _| key == "$ref");
        return;
    }
    words(map);
    format(map);
    nullable(map);
    map.insert("title".into(), title.into());
    optional_members(map);
    for key in ["properties", "patternProperties"] {
        for (name, member) in map.get_mut(key).and_then(Value::as_object_mut).into_iter().flatten() {
            shape(member, &format!("{}Of{title}", pascal(name)));
        }
    }
    for (key, what) in [
        ("items", "Item"),
        ("additionalProperties", "Value"),
        ("if", "If"),
        ("then", "Then"),
        ("else", "Else"),
    ] {
        if let Some(inner) = map.get_mut(key) {
            shape(inner, &format!("{what}Of{title}"));
        }
    }
    for key in ["anyOf", "oneOf"] {
        for (index, choice) in
            map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            let name = choice_name(choice).unwrap_or_else(|| format!("Choice{}", index + 1));
            shape(choice, &format!("{name}Of{title}"));
        }
    }
}

/// What tells a choice from the others: the word that it begins with, its format or its type.
fn choice_name(choice: &Value) -> Option<String> {
    let word = choice["properties"]
        .as_object()
        .and_then(|members| members.values().find_map(|member| member["const"].as_str()));
    word.or(choice["format"].as_str()).or(choice["type"].as_str()).map(pascal)
}

/// Words that schemars describes one by one become one list of words.
fn words(map: &mut Map<String, Value>) {
    let Some(choices) = map.get("oneOf").or(map.get("anyOf")).and_then(Value::as_array) else { return };
    let mut words = Vec::new();
    let mut meanings = Vec::new();
    for choice in choices {
        match (&choice["const"], &choice["enum"]) {
            (word @ Value::String(text), _) => {
                words.push(word.clone());
                meanings.extend(choice["description"].as_str().map(|meaning| format!("`{text}`: {meaning}")));
            }
            (Value::Null, Value::Array(several)) => words.extend(several.iter().cloned()),
            _ => return,
        }
    }
    map.remove("oneOf");
    map.remove("anyOf");
    map.insert("type".into(), "string".into());
    map.insert("enum".into(), words.into());
    let about = map.get("description").and_then(Value::as_str).map(str::to_owned);
    let description = about.into_iter().chain(meanings).collect::<Vec<_>>().join("\n");
    if !description.is_empty() {
        map.insert("description".into(), description.into());
    }
}

/// Formats are those of JSON Schema: a size of Rust is said by its bounds, and an address is of one family or the other.
fn format(map: &mut Map<String, Value>) {
    let Some(format) = map.get("format").and_then(Value::as_str) else { return };
    if format == "ip" {
        map.remove("format");
        map.remove("type");
        let families = json!([{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]);
        map.insert("anyOf".into(), families);
    } else if ["int", "uint"].iter().any(|sort| format.starts_with(sort)) {
        map.remove("format");
    }
}

/// A list of types becomes a choice of schemas.
fn nullable(map: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = map.get("type").cloned() else { return };
    let about = map.remove("description");
    let default = map.remove("default");
    let mut choices = Vec::new();
    for one in types {
        let mut choice = if one == "null" { Map::new() } else { map.clone() };
        choice.insert("type".into(), one);
        choices.push(Value::Object(choice));
    }
    *map = Map::from_iter([("anyOf".to_owned(), Value::Array(choices))]);
    map.extend(about.map(|about| ("description".to_owned(), about)));
    map.extend(default.map(|default| ("default".to_owned(), default)));
}

/// A member that may be missing says what that means, and no other does.
fn optional_members(map: &mut Map<String, Value>) {
    let required: Vec<String> = map
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let Some(members) = map.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, member) in members.iter_mut() {
        let Some(member) = member.as_object_mut() else { continue };
        if required.contains(name) {
            member.remove("default");
            continue;
        }
        let default = match member.get("type") {
            Some(Value::String(kind)) if kind == "boolean" => json!(false),
            Some(Value::String(kind)) if kind == "object" => json!({}),
            Some(Value::String(kind)) if kind == "array" => json!([]),
            _ if takes_null(member) => Value::Null,
            _ => continue,
        };
        member.entry("default").or_insert(default);
    }
}

fn takes_null(schema: &Map<String, Value>) -> bool {
    let choices = schema.get("anyOf").and_then(Value::as_array);
    choices.is_some_and(|choices| choices.iter().any(|choice| choice["type"] == "null"))
        || schema.get("type").and_then(Value::as_array).is_some_and(|types| types.contains(&json!("null")))
}
