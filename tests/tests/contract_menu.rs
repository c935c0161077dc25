//! What is on the menu is there: each method that OpenRPC does not mark as planned is carried out for some kind of device,
//! and each that it marks is refused as what it is, for all of them.

use serde_json::{Value, json};
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, SOON, eventually};

const GROUPS: [&str; 8] = [
    "Standard CTI Enabled",
    "Standard CTI Allow Control of All Devices",
    "Standard CTI Secure Connection",
    "Standard CTI Allow Reception of SRTP Key Material",
    "Standard CTI Allow Call Park Monitoring",
    "Standard CTI Allow Calling Number Modification",
    "Standard CTI Allow Call Monitoring",
    "Standard CTI Allow Call Recording",
];

/// The devices of each kind, and their numbers.
const DEVICES: [(&str, &str); 3] = [("PORT_001", "5101"), ("RP_MAIN", "5000"), ("SEP2001", "2001")];

struct Menu {
    lab: Lab,
    cti: Cti,
}

impl Menu {
    /// A fresh call from the port to the route point; gives both legs.
    async fn call(&mut self) -> [Value; 2] {
        let made = self.cti.call("call.make", json!({"device": "PORT_001", "destination": "5000"})).await;
        let offered = self.cti.expect("call.offering").await["leg"].clone();
        [made["leg"].clone(), offered["leg"].clone()]
    }

    /// What a node says to this method, asked for each kind of device: `None` is a good answer.
    async fn answers(&mut self, method: &str) -> Vec<Option<(String, String)>> {
        let mut answers = Vec::new();
        for (index, (device, dn)) in DEVICES.into_iter().enumerate() {
            let legs = self.call().await;
            let leg = legs.get(index).unwrap_or(&legs[0]).clone();
            let params = self.params(method, device, dn, &leg, &legs);
            let answer = self.cti.try_call(method, params).await;
            answers.push(answer.err().map(|error| (error.symbol, error.message)));
            if method == "device.close" && answers.last() == Some(&None) {
                self.open(device).await;
            }
            for leg in legs {
                // It may have ended with what was asked.
                let _ = self.cti.try_call("call.drop", json!({"leg": leg})).await;
            }
            self.is_quiet().await;
        }
        answers
    }

    /// Waits until no call is left.
    async fn is_quiet(&mut self) {
        eventually("no leg is left", SOON, async || {
            let snapshot = self.cti.call("provider.snapshot", json!({})).await;
            let devices = snapshot["devices"].as_array().cloned().unwrap_or_default();
            devices.iter().all(|device| device["legs"] == json!([])).then_some(())
        })
        .await;
        while self.cti.take_kept().is_some() {}
    }

    fn params(&self, method: &str, device: &str, dn: &str, leg: &Value, legs: &[Value; 2]) -> Value {
        let mut params = json!({
            "device": device, "dn": dn, "leg": leg, "on": true, "park_number": "8801", "ringing_dn": "5000",
            "digits": "1", "user_data": {"order": "7"}, "ip": self.lab.host(), "port": self.lab.port(), "for": "transfer",
        });
        match method {
            "call.conference" => params["with"] = json!(legs),
            "line.set_forward" => params["destination"] = Value::Null,
            _ => params["destination"] = json!("5102"),
        }
        params
    }

    async fn open(&mut self, device: &str) {
        let media =
            json!({"mode": "static", "ip": self.lab.host(), "port": self.lab.port(), "codecs": ["PCMU"]});
        let params = if device.starts_with("SEP") {
            json!({"device": device})
        } else {
            json!({"device": device, "media": media})
        };
        let opened = self.cti.call("device.open", params).await;
        if !device.starts_with("SEP") && opened["device"]["state"] != "in_service" {
            self.cti.expect_event("device.in_service", |e| e["device"]["name"] == device, SOON).await;
        }
    }
}

#[tokio::test]
async fn a_method_is_planned_exactly_if_no_kind_of_device_has_it() {
    let lab = Lab::new("menu");
    let config = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .port("PORT_001", "5101")
        .port("PORT_002", "5102")
        .phone("2001")
        .member("chef", &GROUPS, &["RP_MAIN", "PORT_*", "SEP2001"]);
    let mut node = Node::start(&lab, config).await;
    let cti = node.application("chef").await;
    let mut menu = Menu { lab, cti };
    for (device, _) in DEVICES {
        menu.open(device).await;
    }
    let document = menu.cti.call("rpc.discover", json!({})).await;
    let methods = document["methods"].as_array().expect("a list").clone();
    // What opens, closes or says that the session lives is not about devices; a session that is here has it.
    let own = ["provider.open", "provider.close", "provider.heartbeat", "rpc.discover"];
    let mut planned = 0;
    for method in methods.iter().filter(|method| own.iter().all(|own| method["name"] != *own)) {
        let name = method["name"].as_str().expect("a name");
        let answers = menu.answers(name).await;
        let refused = |answer: &Option<(String, String)>| {
            answer.as_ref().is_some_and(|(symbol, _)| symbol == "OPERATION_NOT_SUPPORTED")
        };
        match method.get("x-status") {
            None => assert!(!answers.iter().all(refused), "{name} is not there: {answers:?}"),
            Some(status) => {
                planned += 1;
                assert_eq!(status, "planned", "{name}");
                let told = |answer: &Option<(String, String)>| {
                    answer.as_ref().is_some_and(|(_, message)| message.ends_with("it is planned"))
                };
                assert!(answers.iter().all(|answer| refused(answer) && told(answer)), "{name}: {answers:?}");
            }
        }
    }
    assert_eq!(
        planned,
        protocol::planned::FEATURES.iter().map(|feature| feature.methods.len()).sum::<usize>()
    );
    node.is_well();
}

/// The same command says what of a file has no effect, and that it is good all the same.
#[tokio::test]
async fn what_has_no_effect_is_warned_of() {
    let lab = Lab::new("menu-file");
    let check = |config: &Config| {
        let file = lab.file("files", "config");
        std::fs::write(&file, config.to_string()).expect("the lab's folder can be written to");
        let mut command = std::process::Command::new(tests::lab::built("ctimanager"));
        let output =
            command.arg("check-config").arg(&file).args(["--output", "json"]).output().expect("it runs");
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), said)
    };
    let config = Config::new(&lab).member("chef", &["Standard CTI Enabled", GROUPS[7]], &[]);
    let (code, said) = check(&config.phone_with("2001", &json!({"protocol": "sccp"})));
    assert_eq!((code, &said["ok"]), (Some(0), &json!(true)), "{said}");
    let paths: Vec<&str> =
        said["warnings"].as_array().expect("a list").iter().filter_map(|one| one["path"].as_str()).collect();
    for path in ["devices[0].protocol", "users[0].groups[1]"] {
        assert!(paths.contains(&path), "{path}: {said}");
    }
}
