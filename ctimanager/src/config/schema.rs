//! The JSON Schema (draft-07) of the configuration, for completion in editors. Made from the same tables of keys, words
//! and ranges that the reader uses; what one of them learns, the other knows.

use super::ServiceParameters;
use super::sections::{self, addresses, cluster, devices, numbers, partitions, trunks, users};
use protocol::planned::PLANNED;
use security::StandardGroup;
use serde_json::{Map, Value, json};

/// The schema that `ctimanager config-schema` prints and `config/ctimanager.schema.json` holds.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = object(sections::KEYS, &["cluster", "nodes"], |key| match key {
        "cluster" => cluster_schema(),
        "service_parameters" => described(
            object(ServiceParameters::KEYS, &[], ServiceParameters::schema),
            "Cluster-wide service parameters.",
        ),
        "nodes" => some(list(node_schema(), "The nodes of the cluster.")),
        "call_manager_groups" => list(group_schema(), "Nodes in order of priority."),
        "device_pools" => list(pool_schema(), "Devices with one CallManager group."),
        "directory_numbers" => list(number_schema(), "Numbers that need more than the defaults."),
        "devices" => list(device_schema(), "Phones, CTI ports and route points."),
        "trunks" => list(trunk_schema(), "SIP trunks."),
        "route_patterns" => list(pattern_schema(), "Which numbers leave by which trunk."),
        "partitions" => list(partition_schema(), "Numbers and patterns that are reached alike."),
        "calling_search_spaces" => list(space_schema(), "What callers reach."),
        "park_numbers" => list(park_schema(), "Where calls are parked."),
        "user_groups" => list(user_group_schema(), "Bundles of standard groups."),
        "users" => list(user_schema(), "Users of CTI."),
        _ => json!({}),
    });
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Configuration of ctimanager");
    schema["definitions"] = json!({
        "duration": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["4s", "250ms", "5m"]},
        "size": {"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$", "examples": ["64KiB", "16MiB"]},
        "port": {"type": "integer", "minimum": 0, "maximum": 65535},
        "number": {"type": "string", "pattern": "^[+(]?[0-9A-D*#() .-]+$", "description": "Always in quotes."},
        "digest": object(devices::DIGEST_KEYS, &["user"], |key| text(match key {
            "user" => "The digest user name.",
            "password" => "The password; better in a password_file.",
            "password_file" => "A file whose first line is the password, relative to this one.",
            _ => "",
        })),
    });
    mark_planned(&mut schema);
    schema
}

/// Says of each key, or of some of its values, that it is without effect in this version.
fn mark_planned(schema: &mut Value) {
    for setting in protocol::planned::FEATURES.iter().flat_map(|feature| feature.settings) {
        let keys = setting.path.split('.').map(|key| format!("/properties/{key}"));
        // The keys of what is listed stand with the items.
        let sections = ["/properties/devices", "/properties/nodes"];
        let pointer: String =
            keys.map(|key| if sections.contains(&&*key) { key + "/items" } else { key }).collect();
        let Some(key) = schema.pointer_mut(&pointer) else { continue };
        match setting.value {
            None => key["x-status"] = json!(PLANNED),
            Some(value) => key["x-status"][value] = json!(PLANNED),
        }
    }
}

fn cluster_schema() -> Value {
    object(cluster::CLUSTER_KEYS, &["name"], |key| match key {
        "name" => text("The cluster's name, and the realm of SIP digests."),
        "security" => object(cluster::SECURITY_KEYS, &[], |key| match key {
            "mode" => choice(cluster::MODES, "secure"),
            "pki" => text("The folder that `ctimanager pki init` made."),
            _ => json!({}),
        }),
        "sip_proxies" => list(
            text("An IP address."),
            "Edge proxies that a Path, a route or a Contact may name, whoever wrote it.",
        ),
        _ => json!({}),
    })
}

fn node_schema() -> Value {
    let port = |_: &str| reference("port");
    object(cluster::NODE_KEYS, &["name", "host"], |key| match key {
        "name" => text("The node's name; its certificate is NAME.pem."),
        "host" => places("Where it listens: an address or name, several, or a map by what listens.", false),
        "advertise" => places("What others are told instead; with a wildcard address it is needed.", true),
        "services" => some(list(words(cluster::SERVICES), "What it runs; both by default.")),
        "sip" => object(cluster::SIP_KEYS, &[], port),
        "cti" => object(cluster::CTI_KEYS, &[], port),
        "web" | "cluster" => reference("port"),
        "state_dir" => text("Control socket, the number of the node's life, sessions that outlive it."),
        _ => json!({}),
    })
}

/// An address or name, several, or a map of them.
fn places(description: &str, advertise: bool) -> Value {
    let one = json!({"type": "string"});
    let some = json!({"type": "array", "items": one, "minItems": 1, "maxItems": addresses::MAX_ADDRESSES});
    let value = json!({"anyOf": [one, some, {"type": "null"}]});
    let families = addresses::FAMILIES.iter().map(|(word, _)| *word).filter(|_| advertise);
    let words = addresses::LISTENERS.iter().map(|(word, _)| *word).chain(families);
    let properties: Map<String, Value> =
        words.map(|word| (word.to_owned(), described(value.clone(), "Of this alone."))).collect();
    let mut map = json!({"type": "object", "properties": properties});
    if advertise {
        // Other keys are listen addresses.
        map["additionalProperties"] = value;
    } else {
        map["additionalProperties"] = json!(false);
    }
    let mut forms = vec![one, some, map];
    forms.extend(advertise.then(|| json!({"type": "null"})));
    json!({"anyOf": forms, "description": description})
}

fn group_schema() -> Value {
    object(cluster::GROUP_KEYS, cluster::GROUP_KEYS, |key| match key {
        "members" => some(list(text("A node."), "The best first.")),
        _ => text("The group's name."),
    })
}

fn pool_schema() -> Value {
    object(cluster::POOL_KEYS, cluster::POOL_KEYS, |key| match key {
        "call_manager_group" => text("A CallManager group."),
        _ => text("The pool's name."),
    })
}

fn partition_schema() -> Value {
    let map = object(partitions::PARTITION_KEYS, &["name"], |key| match key {
        "name" => text("The partition's name."),
        _ => text("For people."),
    });
    json!({"anyOf": [text("A partition's name."), map]})
}

fn space_schema() -> Value {
    object(partitions::SPACE_KEYS, partitions::SPACE_KEYS, |key| match key {
        "partitions" => list(text("A partition."), "Of patterns that match alike, the first one's is taken."),
        _ => text("The space's name."),
    })
}

fn park_schema() -> Value {
    let range = "A number, or a range as \"8801-8810\".";
    let map = object(numbers::PARK_KEYS, &["numbers"], |key| match key {
        "numbers" => text(range),
        _ => text(PARTITION),
    });
    json!({"anyOf": [text(range), map]})
}

const PARTITION: &str =
    "Who reaches it: those with this partition in their calling search space; without, everybody.";

fn rate() -> Value {
    let (least, most) = (partitions::CALL_RATE.start(), partitions::CALL_RATE.end());
    let says = "New calls in a second; else the service parameter.";
    json!({"type": "integer", "minimum": least, "maximum": most, "description": says})
}

fn number_schema() -> Value {
    let (least, most) = (numbers::MAX_CALLS.start(), numbers::MAX_CALLS.end());
    object(numbers::NUMBER_KEYS, &["dn"], |key| match key {
        "dn" => reference("number"),
        "description" => text("For people; the party's name where there is no `display`."),
        "display" => text("The name that others see of who has the number, 64 characters at most."),
        "max_calls" | "busy_trigger" => json!({"type": "integer", "minimum": least, "maximum": most}),
        "ring_duration" => reference("duration"),
        "forward" => object(numbers::FORWARD_KEYS, &[], |_| reference("number")),
        "auto_accept" => json!({"type": "boolean", "default": false}),
        "allow_cti_control" => json!({"type": "boolean", "default": true}),
        "partition" => text(PARTITION),
        "calling_search_space" => text("What its line reaches, before what the device reaches."),
        "max_calls_per_second" => rate(),
        _ => json!({}),
    })
}

fn line_schema() -> Value {
    let dn = "A number in quotes, or a range as \"[5101-5200]\".";
    let map = object(devices::LINE_KEYS, &["dn"], |key| match key {
        "dn" => text(dn),
        "partition" => text(PARTITION),
        _ => text("What the line reaches, before what the device reaches."),
    });
    json!({"anyOf": [text(dn), map]})
}

fn device_schema() -> Value {
    let (least, most) = (numbers::MAX_CALLS.start(), numbers::MAX_CALLS.end());
    object(devices::DEVICE_KEYS, &["name", "type", "pool"], |key| match key {
        "name" => text("A name, or a range of devices as PORT_[001-100]."),
        "type" => words(devices::KINDS),
        "protocol" => choice(devices::PROTOCOLS, "sip"),
        "description" => text("For people."),
        "pool" => text("A device pool."),
        "lines" => list(line_schema(), "Its lines, in order."),
        "digest" => reference("digest"),
        "media_encryption" => choice(devices::ENCRYPTIONS, "none"),
        "registration_expiry_maximum" => reference("duration"),
        "offer" => choice(devices::OFFERS, "early"),
        "allow_cti_control" => json!({"type": "boolean", "default": true}),
        "calling_search_space" => text("What its lines reach, after what each reaches itself."),
        "max_calls" => json!({"type": "integer", "minimum": least, "maximum": most,
                              "description": "Calls at once on all its lines."}),
        "max_calls_per_second" => rate(),
        _ => json!({}),
    })
}

fn trunk_schema() -> Value {
    let (least, most) = (trunks::MAX_TRUNK_CALLS.start(), trunks::MAX_TRUNK_CALLS.end());
    object(trunks::TRUNK_KEYS, &["name", "host"], |key| match key {
        "name" => text("The trunk's name."),
        "host" => text("The peer's host name or IP address."),
        "port" => json!({"type": "integer", "minimum": 1, "maximum": 65535, "default": 5060}),
        "transport" => choice(trunks::TRANSPORTS, "udp"),
        "offer" => choice(devices::OFFERS, "early"),
        "digest" => reference("digest"),
        "media_encryption" => choice(devices::ENCRYPTIONS, "none"),
        "source_port" => json!({
            "description": "UDP and TCP: where its requests come from, if not from `port`.",
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"const": "any"}, {"type": "null"}],
        }),
        "ca" => text("TLS: a PEM file with the authority of its certificate, if not the cluster's own."),
        "crl" => text("TLS: a PEM file with the revocation lists of that `ca`."),
        "tls_subject" => {
            text("TLS: the name in its certificate (CN or SAN) where it calls us, if not `host`.")
        }
        "calling_search_space" => text("What its calls reach beside numbers without a partition."),
        "block_offnet_to_offnet" => json!({"type": "boolean",
            "description": "Whether what it dials must not leave by a trunk again; else the service parameter."}),
        "max_calls" => json!({"type": "integer", "minimum": least, "maximum": most,
                              "description": "Calls at once, in and out; else max_calls_per_trunk."}),
        "max_calls_per_second" => rate(),
        _ => json!({}),
    })
}

fn pattern_schema() -> Value {
    object(numbers::PATTERN_KEYS, &["pattern", "trunk"], |key| match key {
        "pattern" => text("0-9, X (a digit), ! (one or more), [1-5], [^1], one dot, +, *, #."),
        "trunk" => text("A trunk."),
        "discard" => choice(numbers::DISCARDS, "none"),
        "partition" => text(PARTITION),
        _ => json!({}),
    })
}

fn user_group_schema() -> Value {
    object(users::GROUP_KEYS, users::GROUP_KEYS, |key| match key {
        "includes" => list(json!({"enum": StandardGroup::ALL.map(StandardGroup::name)}), "Standard groups."),
        _ => text("The group's name."),
    })
}

fn user_schema() -> Value {
    object(users::USER_KEYS, &["id"], |key| match key {
        "id" => text("The user name, and the CN of his certificates."),
        "kind" => choice(users::KINDS, "application_user"),
        "password_hash" => text("Made by `ctimanager hash-password`; without it only certificates serve."),
        "groups" => {
            let standard = json!({"enum": StandardGroup::ALL.map(StandardGroup::name)});
            list(json!({"anyOf": [standard, {"type": "string"}]}), "Standard groups and own ones.")
        }
        "controlled_devices" => list(text("A name, or a pattern as PORT_*."), "What he may open."),
        "session_resume_grace" => reference("duration"),
        _ => json!({}),
    })
}

/// A map with these keys. To the reader a key with nothing behind it is left out: what need not be there may be nothing.
fn object(keys: &[&str], required: &[&str], schema_of: impl Fn(&str) -> Value) -> Value {
    let schema_of = |key: &str| {
        let schema = schema_of(key);
        if required.contains(&key) { schema } else { or_nothing(schema) }
    };
    let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), schema_of(key))).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn or_nothing(mut schema: Value) -> Value {
    let nothing = json!({"type": "null"});
    if let Some(kind) = schema.get_mut("type") {
        *kind = json!([kind, "null"]);
    } else if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    } else if let Some(reference) = schema.as_object_mut().and_then(|schema| schema.remove("$ref")) {
        schema["anyOf"] = json!([{"$ref": reference}, nothing]);
    }
    schema
}

/// A list that must not be empty.
fn some(mut list: Value) -> Value {
    list["minItems"] = json!(1);
    list
}

fn list(items: Value, description: &str) -> Value {
    json!({"type": "array", "items": items, "description": description})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn words<T>(choices: &[(&str, T)]) -> Value {
    json!({"enum": choices.iter().map(|(word, _)| *word).collect::<Vec<_>>()})
}

fn choice<T>(choices: &[(&str, T)], default: &str) -> Value {
    let mut schema = words(choices);
    schema["default"] = json!(default);
    schema
}

fn reference(definition: &str) -> Value {
    json!({"$ref": format!("#/definitions/{definition}")})
}

fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = json!(description);
    schema
}

#[cfg(test)]
mod tests {
    use super::{Value, json, json_schema};
    use crate::config::parse;
    use std::path::Path;

    const FILE: &str = "../config/ctimanager.schema.json";

    #[test]
    fn the_file_is_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
        let written = std::fs::read_to_string(path).expect("the schema is in the tree");
        let written: Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!(written, json_schema(), "write it anew: `ctimanager config-schema`");
    }

    #[test]
    fn what_is_planned_is_marked_where_it_stands() {
        let schema = json_schema();
        let status = |pointer: &str| schema.pointer(pointer).map(|key| key["x-status"].clone());
        let device = "/properties/devices/items/properties";
        assert_eq!(status(&format!("{device}/protocol")), Some(json!({"sccp": "planned"})));
        assert_eq!(status(&format!("{device}/media_encryption")), Some(Value::Null));
        assert_eq!(status("/properties/park_numbers"), Some(json!("planned")));
        assert_eq!(status(&format!("{device}/digest")), Some(Value::Null));
    }

    /// Whether the schema of a value lets `~` stand there.
    fn takes_nothing(schema: &Value) -> bool {
        let null =
            |types: &Value| types == "null" || types.as_array().is_some_and(|t| t.contains(&"null".into()));
        let one_of = |key: &str, takes: fn(&Value) -> bool| {
            schema[key].as_array().is_some_and(|all| all.iter().any(takes))
        };
        null(&schema["type"]) || one_of("enum", Value::is_null) || one_of("anyOf", takes_nothing)
    }

    #[test]
    fn what_may_be_left_out_may_be_nothing_and_no_more() {
        fn walk(path: &str, schema: &Value) {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            for (key, value) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{key}");
                let optional = !required.contains(&key.as_str().into());
                assert_eq!(takes_nothing(value), optional, "{path}: {value}");
                walk(&path, value);
            }
            if let Some(items) = schema.get("items") {
                assert!(!takes_nothing(items), "{path}: an item is something");
                walk(path, items);
            }
        }
        let schema = json_schema();
        walk("", &schema);
        walk("digest", &schema["definitions"]["digest"]);
        let text = "cluster: {name: hq, security: ~}\nservice_parameters: {max_legs: ~, persist_sessions: ~}\n\
                    nodes: [{name: cm1, host: 127.0.0.1, services: ~, sip: ~, web: ~}]\ntrunks:\nusers: ~\n";
        assert!(parse("f.yaml", text).is_ok(), "the reader says the same");
    }

    #[test]
    fn every_key_is_described() {
        fn walk(path: &str, schema: &Value) {
            if let Some(properties) = schema["properties"].as_object() {
                for (key, value) in properties {
                    assert!(value.as_object().is_some_and(|o| !o.is_empty()), "{path}.{key}");
                    walk(&format!("{path}.{key}"), value);
                }
            }
            if let Some(items) = schema.get("items") {
                walk(path, items);
            }
        }
        walk("", &json_schema());
    }
}
