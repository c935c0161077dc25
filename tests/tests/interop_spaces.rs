//! Who may call whom, against the real program: partitions and calling search spaces, calls that come from a trunk and would
//! leave by one, and how many calls a trunk, a line and a device may have.

use serde_json::{Value, json};
use std::net::SocketAddr;
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Baresip, Transport};
use tests::lab::node::{Config, Node, digest_password};
use tests::lab::sipp::{self, Run, Sipp};
use tests::lab::trunk::Trunk;
use tests::lab::{Lab, SOON, eventually};

/// A node with trunks `pstn` and `tie`; `9.!` is outside and leads to `pstn`, `0.!` leads everybody to `tie`; PORT_OUT and
/// SEP2001 reach outside, PORT_IN and SEP2002 don't; 5010 is hidden.
struct House {
    lab: Lab,
    node: Node,
    config: Config,
    pstn: Trunk,
    tie: Trunk,
}

impl House {
    async fn new(test: &str, change: impl FnOnce(Config) -> Config) -> House {
        let lab = Lab::new(test);
        let (pstn, tie) = (lab.address(), lab.address());
        let staff = json!({"calling_search_space": "staff"});
        let config = Config::new(&lab)
            .changed(|root| {
                root["partitions"] = json!(["outside", "hidden"]);
                root["calling_search_spaces"] = json!([
                    {"name": "staff", "partitions": ["outside"]},
                    {"name": "all", "partitions": ["hidden", "outside"]},
                ]);
            })
            .route_point("RP_MAIN", "5000")
            .route_point("RP_HIDDEN", "5010")
            .number("5010", json!({"partition": "hidden"}))
            .port("PORT_OUT", "5101")
            .set("devices", "PORT_OUT", "calling_search_space", json!("staff"))
            .port("PORT_IN", "5102")
            .phone_with("2001", &staff)
            .phone("2002")
            .trunk("pstn", pstn)
            .trunk("tie", tie)
            .add("route_patterns", json!({"pattern": "9.!", "trunk": "pstn", "partition": "outside"}))
            .add("route_patterns", json!({"pattern": "0.!", "trunk": "tie"}))
            .user("ivr", &["RP_*", "PORT_*"]);
        let config = change(config);
        let node = Node::start(&lab, config.clone()).await;
        let (pstn, tie) = (Trunk::at(pstn, node.sip).await, Trunk::at(tie, node.sip).await);
        House { lab, node, config, pstn, tie }
    }

    async fn app(&self, device: &str) -> App {
        App::open(&self.lab, &self.node, "ivr", device, Media::Static).await
    }

    /// `explain`, with its exit code.
    fn explain(&self, number: &str, from: &str) -> (Option<i32>, Value) {
        let told = self.node.command(&["explain", number, "--from", from, "--output", "json"]);
        let json = serde_json::from_slice(&told.stdout).unwrap_or_else(|e| panic!("{told:?}: {e}"));
        (told.status.code(), json)
    }

    /// A rule has refused so often, says `/metrics`: a page that is made after the refusals, for one may be as old as 100 ms.
    async fn has_refused(&self, rule: &str, times: u64) {
        let line = format!("ctimanager_calls_refused_total{{rule=\"{rule}\"}} ");
        eventually(format!("{rule} has refused {times} times"), SOON, async || {
            let (_, page) = self.node.page("/metrics").await;
            let count = page.lines().find_map(|text| text.strip_prefix(&line)?.parse::<u64>().ok());
            let count = count.unwrap_or_else(|| panic!("no {line}: {page}"));
            assert!(count <= times, "{rule}: {count} and not {times}");
            (count == times).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_trunk_reaches_numbers_alone_until_a_reload_says_otherwise() {
    let mut house = House::new("spaces-trunk", |config| config).await;
    let mut app = house.app("RP_MAIN").await;
    for (number, rule) in [("0123", "block_offnet_to_offnet"), ("9123", "partition"), ("5010", "partition")] {
        let refused = house.pstn.call(number).await.is_over().await;
        assert_eq!((refused.refused, refused.cause), (Some(404), Some(1)), "{number}");
        let (code, told) = house.explain(number, "pstn");
        assert_eq!((code, &told["allowed"]), (Some(1), &json!(false)), "{told}");
        assert!(told["rule"].as_str().is_some_and(|told| told.starts_with(rule)), "{told}");
        assert!(told["line"].is_u64() && told["file"].is_string(), "{told}");
    }
    let nobody = house.pstn.call("7777").await.is_over().await;
    assert_eq!((nobody.refused, nobody.cause), (Some(404), Some(1)), "a refusal looks like nobody's number");
    house.has_refused("block_offnet_to_offnet", 1).await;
    house.has_refused("partition", 2).await;
    assert!(house.tie.called("123").is_empty() && house.pstn.called("9123").is_empty());
    let party = house.pstn.call("5000").await;
    let offered = app.offered().await;

    let config = house.config.clone();
    let config = config.set("trunks", "pstn", "block_offnet_to_offnet", json!(false)).set(
        "trunks",
        "pstn",
        "calling_search_space",
        json!("all"),
    );
    house.node.reloads(&config);
    let (code, told) = house.explain("9123", "pstn");
    assert_eq!((code, &told["trunk"], &told["sends"]), (Some(0), &json!("pstn"), &json!("9123")), "{told}");
    assert_eq!(told["rule"], "calling_search_space all", "{told}");
    let out = house.pstn.call("0456").await;
    house.tie.is_called("0456", 1).await;
    out.is_answered().await;
    out.hang_up().await;
    // Withdrawn again, for calls that begin from now on.
    house.node.reloads(&house.config);
    assert_eq!(house.pstn.call("0456").await.is_over().await.refused, Some(404));
    app.drop_call(&offered["leg"]).await;
    assert_eq!(party.is_over().await.refused, Some(603));
    house.node.is_quiet().await;
    house.node.is_well();
}

#[tokio::test]
async fn an_application_calls_redirects_and_forwards_as_far_as_its_line_reaches() {
    let mut house = House::new("spaces-application", |config| {
        let forward = json!({"forward": {"no_answer": "9300", "unregistered": "9301"}});
        config
            .number("5101", forward.clone())
            .number("5102", forward)
            .parameter("forward_no_answer_timer", json!("1s"))
    })
    .await;
    let mut out = house.app("PORT_OUT").await;
    let mut inside = house.app("PORT_IN").await;

    // call.make, by the device's space.
    let made = out.cti.call("call.make", json!({"device": "PORT_OUT", "destination": "9200"})).await;
    out.cti.expect_leg("call.connected", &made["leg"]).await;
    house.pstn.is_called("9200", 1).await;
    out.drop_call(&made["leg"]).await;
    let made = inside.cti.call("call.make", json!({"device": "PORT_IN", "destination": "9200"})).await;
    let failed = inside.cti.expect_leg("call.failed", &made["leg"]).await;
    assert_eq!(failed["leg"]["cause"]["code"], 1, "{failed}");

    // call.redirect of a call from outside: what the line may, not what the caller may.
    let caller = house.pstn.call("5101").await;
    let (leg, _) = out.answer().await;
    out.cti.call("call.redirect", json!({"leg": leg, "destination": "9400"})).await;
    house.pstn.is_called("9400", 1).await;
    caller.hang_up().await;
    let caller = house.pstn.call("5102").await;
    let (leg, _) = inside.answer().await;
    for destination in ["9400", "5010", "7777"] {
        let request = json!({"leg": leg, "destination": destination});
        let refused = inside.cti.refused("call.redirect", request).await;
        assert_eq!(refused.symbol, "DESTINATION_UNKNOWN", "{destination}");
    }
    caller.hang_up().await;

    // Forwards: CFNA of each, and Forward All by the application.
    let caller = house.pstn.call("5101").await;
    house.pstn.is_called("9300", 1).await;
    caller.hang_up().await;
    assert_eq!(
        house.pstn.call("5102").await.is_over().await.refused,
        Some(404),
        "its number does not reach 9300"
    );
    let forward = |device: &str, dn: &str, to: &str| json!({"device": device, "dn": dn, "destination": to});
    out.cti.call("line.set_forward", forward("PORT_OUT", "5101", "9500")).await;
    for to in ["9500", "5010", "7777"] {
        let refused = inside.cti.refused("line.set_forward", forward("PORT_IN", "5102", to)).await;
        assert_eq!(refused.symbol, "DESTINATION_UNKNOWN", "{to}");
    }
    inside.cti.call("line.set_forward", forward("PORT_IN", "5102", "5101")).await;
    let caller = house.tie.call("5102").await;
    house.pstn.is_called("9500", 1).await;
    caller.hang_up().await;
    assert_eq!(house.pstn.called("9300").len(), 1);
    house.node.is_quiet().await;
    house.node.is_well();
}

/// Registers a phone that SIPp plays.
async fn register(house: &House, number: &str) -> SocketAddr {
    let local = house.lab.address();
    let fields = vec![sipp::credentials(number, number, &digest_password(number))];
    let to = Some(house.node.sip);
    let run = Run { scenario: "register", to, local: Some(local), calls: 1, fields, ..Run::default() };
    sipp::run(&house.lab, &run, SOON).await.all_went_well(1);
    local
}

#[tokio::test]
async fn a_phone_dials_and_sends_on_as_far_as_it_reaches() {
    let mut house = House::new("spaces-phone", |config| config).await;
    // Two phones that answer 302: one reaches outside, the other does not.
    let desk = register(&house, "2001").await;
    let lobby = register(&house, "2002").await;
    for (number, phone, elsewhere, reached) in
        [("2001", desk, "9600", true), ("2002", lobby, "9600", false), ("2002", lobby, "5010", false)]
    {
        let keys = vec![("ELSEWHERE", elsewhere.to_owned())];
        let moved = Run { scenario: "uas_redirect", local: Some(phone), calls: 1, keys, ..Run::default() };
        let mut moved = Sipp::start(&house.lab, &moved);
        let caller = house.tie.call(number).await;
        if reached {
            house.pstn.is_called(elsewhere, 1).await;
            caller.hang_up().await;
        } else {
            assert_eq!(caller.is_over().await.refused, Some(404), "{number} to {elsewhere}");
        }
        moved.finish(SOON).await.all_went_well(1);
    }
    let mut lobby = Baresip::registered(&house.lab, house.node.account("2002", Transport::Udp, 440)).await;
    lobby.dial("9700").await;
    let closed = lobby.expect("CALL_CLOSED", SOON).await;
    assert!(closed["param"].as_str().is_some_and(|why| why.contains("404")), "{closed}");
    lobby.dial("0700").await;
    lobby.expect("CALL_ESTABLISHED", SOON).await;
    house.tie.is_called("0700", 1).await;
    lobby.hang_up().await;
    let (code, told) = house.explain("9700", "SEP2002");
    assert_eq!(
        (code, &told["rule"], &told["dn"]),
        (Some(1), &json!("partition outside"), &json!("2002")),
        "{told}"
    );
    let (code, told) = house.explain("9700", "SEP2001");
    assert_eq!((code, &told["rule"]), (Some(0), &json!("calling_search_space staff")), "{told}");
    house.node.is_quiet().await;
    house.node.is_well();
}

#[tokio::test]
async fn a_trunk_beyond_its_share_is_refused_with_an_alarm_and_others_are_not() {
    let mut house = House::new("spaces-trunk-share", |config| {
        config
            .set("trunks", "pstn", "max_calls", json!(2))
            .set("trunks", "tie", "max_calls_per_second", json!(1))
            .number("5000", json!({"max_calls": 100, "busy_trigger": 100, "auto_accept": true}))
    })
    .await;
    let mut app = house.app("RP_MAIN").await;
    let mut parties = Vec::new();
    let mut legs = Vec::new();
    for _ in 0..2 {
        parties.push(house.pstn.call("5000").await);
        legs.push(app.answer().await.0);
    }
    for _ in 0..3 {
        assert_eq!(house.pstn.call("5000").await.is_over().await.refused, Some(503), "the third at once");
    }
    // The other trunk has a place for it, at its own rate.
    let mut refused = 0;
    for _ in 0..8 {
        let party = house.tie.call("5000").await;
        if let Some(over) = party.until("is told", |c| c.over.map(Some).or(c.ringing.map(|_| None))).await {
            assert_eq!(over.refused, Some(503));
            refused += 1;
        }
    }
    assert!(refused > 0, "eight at once are more than one a second");
    house.has_refused("trunk_max_calls", 3).await;
    house.has_refused("trunk_max_calls_per_second", refused).await;
    let alarms = house.node.admin("alarms");
    let standing: Vec<&Value> = alarms
        .as_array()
        .into_iter()
        .flatten()
        .filter(|alarm| alarm["name"] == "TrunkCallLimitReached" && alarm["state"] == "raised")
        .map(|alarm| &alarm["parameters"]["trunk"])
        .collect();
    assert_eq!(standing, ["pstn", "tie"], "{alarms}");
    // Its calls go on, and one that ends makes room.
    parties[0].hang_up().await;
    app.cti.expect_leg("call.disconnected", &legs[0]).await;
    house.pstn.call("5000").await;
    app.offered().await;
    house.node.is_well();
}

#[tokio::test]
async fn an_application_beyond_its_lines_share_is_told_when_to_come_again() {
    let mut house =
        House::new("spaces-line-share", |config| {
            config
                .number("5101", json!({"max_calls": 100, "busy_trigger": 100, "max_calls_per_second": 1}))
                .set("devices", "PORT_IN", "max_calls", json!(2))
        })
        .await;
    let mut out = house.app("PORT_OUT").await;
    let mut inside = house.app("PORT_IN").await;
    let make = |device: &str| json!({"device": device, "destination": "0800"});
    let mut told = Vec::new();
    for _ in 0..8 {
        let id = out.cti.send("call.make", make("PORT_OUT")).await;
        told.push(out.cti.reply(id, SOON).await);
    }
    let refused: Vec<_> = told.iter().filter_map(|reply| reply.as_ref().err()).collect();
    assert!(!refused.is_empty() && told.iter().any(Result::is_ok), "{told:?}");
    for error in &refused {
        assert_eq!(error.symbol, "RATE_LIMITED", "{error}");
        let wait = error.data["retry_after_ms"].as_u64();
        assert!(wait.is_some_and(|wait| (1..=1000).contains(&wait)), "{error}");
    }
    house.has_refused("line_max_calls_per_second", refused.len() as u64).await;
    for _ in 0..2 {
        inside.cti.call("call.make", make("PORT_IN")).await;
    }
    assert_eq!(inside.cti.refused("call.make", make("PORT_IN")).await.symbol, "MAX_CALLS");
    house.has_refused("device_max_calls", 1).await;
    house.node.is_well();
}
