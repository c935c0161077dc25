//! Clients that nobody here wrote: the OpenRPC document as generators of other houses read it, what comes out against a
//! real node, and whether the document is true. (What the lab's own client is told is held against it in every test.)

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;
use tests::lab::clients;
use tests::lab::cti::Cti;
use tests::lab::document;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::process::Process;
use tests::lab::{Lab, SOON, built};

/// How long an interpreter may take to load a client, beside all else that a machine does.
const RUNTIME_STARTS: Duration = Duration::from_secs(30);

fn config(lab: &Lab) -> Config {
    Config::new(lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .phone("2001")
        .user("attendant", &["RP_MAIN", "SEP2001"])
        .user("caller", &["PORT_001"])
}

/// A caller at a port, whose calls the attendant's client answers.
async fn caller(lab: &Lab, node: &Node) -> Cti {
    let mut caller = node.application("caller").await;
    let media = json!({"mode": "static", "ip": lab.host(), "port": lab.port(), "codecs": ["PCMU"]});
    caller.call("device.open", json!({"device": "PORT_001", "media": media})).await;
    caller
}

/// The attendant's client is ready: it answers a call, greets the caller, and leaves when the call is over.
async fn is_attended(lab: &Lab, node: &Node, mut attendant: Process) -> Process {
    attendant.wait_for_log("\"ready\"", RUNTIME_STARTS).await;
    let mut caller = caller(lab, node).await;
    let made = caller.call("call.make", json!({"device": "PORT_001", "destination": "5000"})).await;
    caller.expect_leg("call.connected", &made["leg"]).await;
    let greeted = |event: &Value| event["leg"]["user_data"]["greeted"] == "yes";
    caller.expect_event("call.changed", greeted, SOON).await;
    caller.call("call.drop", json!({"leg": made["leg"]})).await;
    let ended = attendant.wait(SOON).await;
    assert!(ended.success(), "{ended}:\n{}", attendant.log());
    for (what, about) in [
        ("devices", json!([["RP_MAIN", ["5000"]]])),
        ("ready", json!("RP_MAIN")),
        ("refused", json!("DEVICE_ALREADY_OPEN")),
        ("answered", json!({})),
        ("greeted", json!("5101")),
        ("closed", Value::Null),
    ] {
        assert_eq!(clients::told(&attendant, what), [about], "{what}");
    }
    let events = clients::told(&attendant, "event");
    let events: Vec<&str> = events.iter().filter_map(Value::as_str).collect();
    let stations = ["call.offering", "call.connected", "media.started", "call.disconnected"];
    let places: Vec<_> = stations.iter().map(|one| events.iter().position(|event| event == one)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{events:?}");
    attendant
}

#[tokio::test]
async fn a_client_of_npm_s_generator_answers_a_call() {
    let lab = Lab::new("typescript");
    let node = Node::start(&lab, config(&lab)).await;
    let folder = lab.folder("client");
    let document = clients::document(&folder, &node.config());
    let mut command = clients::typescript(&folder, &document);
    let (host, port) = (node.web.ip().to_string(), node.web.port().to_string());
    command.args([&host, &port, "attendant", "RP_MAIN", &lab.host().to_string(), &lab.port().to_string()]);
    command.env("CTI_PASSWORD", PASSWORD).env("NODE_EXTRA_CA_CERTS", node.ca());
    let attendant = Process::start("attendant.ts", command, &folder.join("log"));
    is_attended(&lab, &node, attendant).await;
    node.is_quiet().await;
}

#[tokio::test]
async fn a_client_of_pypi_s_generator_answers_a_call() {
    let lab = Lab::new("orpc");
    let node = Node::start(&lab, config(&lab)).await;
    let folder = lab.folder("client");
    let document = clients::document(&folder, &node.config());
    let url = document["servers"][0]["url"].as_str().expect("a URL");
    let mut command = clients::python(&folder, url);
    command.arg("openrpc.json").arg(url).arg(node.ca()).args(["attendant", "RP_MAIN"]);
    command.args([lab.host().to_string(), lab.port().to_string()]).env("CTI_PASSWORD", PASSWORD);
    let attendant = Process::start("attendant.py", command, &folder.join("log"));
    let attendant = is_attended(&lab, &node, attendant).await;
    assert_eq!(
        clients::told(&attendant, "discovered"),
        [json!(true)],
        "the node's own document is the command's"
    );
    node.is_quiet().await;
}

/// `servers` are where the node is, and each of them speaks.
#[tokio::test]
async fn the_document_says_where_the_node_is() {
    let lab = Lab::new("servers");
    let node = Node::start(&lab, config(&lab)).await;
    let told = node.connect().await.discovered("attendant").await;
    let printed = clients::document(&lab.folder("printed"), &node.config());
    assert_eq!(told, printed);
    let urls: Vec<&str> = told["servers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|server| server["url"].as_str())
        .collect();
    let (web, tls, plain) = (node.web, node.cti, node.cti_plain);
    let expected = [format!("wss://{web}/cti/v1"), format!("tls://{tls}"), format!("tcp://{plain}")];
    assert_eq!(urls, expected);
    let connections =
        [Cti::websocket(web, &node.ca()).await, Cti::tls(tls, &node.ca()).await, Cti::plain(plain).await];
    for cti in connections {
        assert_eq!(cti.discovered("attendant").await, told, "all of them say the same");
    }
    let output = Command::new(built("ctimanager")).arg("api").output().expect("it runs");
    let usual: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(usual["servers"][0]["url"], "wss://localhost:8443/cti/v1");
    for part in ["methods", "components", "x-events", "x-connection-events"] {
        assert_eq!(usual[part], told[part], "only the servers depend on a configuration");
    }
}

/// A param whose name is a reserved word has aliases that the node takes; both at once are one too many.
#[tokio::test]
async fn aliases_of_params_are_taken_beside_their_names() {
    let lab = Lab::new("aliases");
    let node = Node::start(&lab, config(&lab)).await;
    let mut cti = node.application("attendant").await;
    let document = cti.call("rpc.discover", json!({})).await;
    let mut seen = BTreeSet::new();
    for method in document["methods"].as_array().expect("a list") {
        let name = method["name"].as_str().expect("a name");
        for param in
            method["params"].as_array().expect("a list").iter().filter(|one| one["x-aliases"].is_array())
        {
            let of = |value: &Value| value.as_str().expect("a name").to_owned();
            let contract = of(&param["x-contract-name"]);
            let mut names = vec![contract.clone(), of(&param["name"])];
            names.extend(param["x-aliases"].as_array().into_iter().flatten().map(of));
            names.sort();
            names.dedup();
            seen.insert(contract.clone());
            let value = match (name, &*contract) {
                ("call.consult", _) => json!("transfer"),
                ("call.conference", _) => json!(["l9"]),
                ("provider.devices", _) => json!("route_point"),
                _ => json!("l9"),
            };
            let rest = json!({"leg": "l8", "destination": "5101"});
            let with = |names: &[&String], value: &Value| {
                let mut params = rest.clone();
                if name == "call.transfer" {
                    params.as_object_mut().expect("an object").remove("destination");
                }
                names.iter().for_each(|name| params[name.as_str()] = value.clone());
                params
            };
            for alias in &names {
                let answer = cti.try_call(name, with(&[alias], &value)).await;
                let wrong = answer.as_ref().is_err_and(|error| error.symbol == "INVALID_PARAMS");
                assert!(!wrong, "{name} takes {alias}: {answer:?}");
                if name == "provider.devices" {
                    assert_eq!(answer.expect("it lists")["devices"].as_array().map(Vec::len), Some(1));
                }
                let wrong = cti.refused(name, with(&[alias], &json!({"no": "such"}))).await;
                assert_eq!(
                    (&*wrong.symbol, &wrong.data["field"]),
                    ("INVALID_PARAMS", &json!(alias)),
                    "{wrong}"
                );
                for other in names.iter().filter(|other| *other != alias) {
                    let twice = cti.refused(name, with(&[alias, other], &value)).await;
                    assert_eq!(twice.symbol, "INVALID_PARAMS", "{name}: {alias} and {other}");
                    let field = twice.data["field"].as_str().unwrap_or_default();
                    assert!([alias, other].iter().any(|one| *one == field), "{twice}");
                }
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["for", "type", "with"]);
}

/// Schemas of events take their examples, and nothing that lacks a member or has another word.
#[test]
fn schemas_of_events_fit_their_examples_and_nothing_less() {
    let output = Command::new(built("ctimanager")).arg("api").output().expect("it runs");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut checked = 0;
    for event in
        ["x-events", "x-connection-events"].iter().flat_map(|key| printed[*key].as_array().expect("a list"))
    {
        let example = &event["example"];
        let planned = event["x-status"] == "planned";
        let wrong = document::check_event_of(event["name"].as_str().expect("a name"), example);
        assert_eq!(wrong, Ok(()), "{}", event["name"]);
        assert_eq!(document::check_event(example).is_err(), planned, "{}", event["name"]);
        let name =
            event["schema"]["$ref"].as_str().and_then(|to| to.rsplit('/').next()).expect("a component");
        let schema = &printed["components"]["schemas"][name];
        for member in schema["required"].as_array().expect("a list").iter().filter_map(Value::as_str) {
            for broken in [None, Some(Value::Null), Some(json!("no such word")), Some(json!(-1))] {
                let mut less = example.clone();
                match broken {
                    None => drop(less.as_object_mut().and_then(|members| members.remove(member))),
                    // Names and numbers of lines may be any text.
                    Some(text)
                        if text.is_string()
                            && schema["properties"][member]["type"] == "string"
                            && schema["properties"][member].get("const").is_none()
                            && schema["properties"][member].get("pattern").is_none()
                            && schema["properties"][member].get("enum").is_none() =>
                    {
                        continue;
                    }
                    Some(other) => less[member] = other,
                }
                let name = event["name"].as_str().expect("a name");
                assert!(
                    document::check_event_of(name, &less).is_err(),
                    "{name} without a true {member}: {less}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 400, "{checked}");
}
