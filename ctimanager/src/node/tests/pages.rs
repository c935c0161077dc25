//! Answers in pages: no line is too long, a snapshot is one moment, and who asks for much pays for it.

use super::mass::{answer_call, many, opened, refusal};
use super::world::{CONFIG, World};
use crate::node::{CtiConnection, Input};
use protocol::frame::MAX_LINE_BYTES;
use serde_json::{Value, json};
use std::time::Duration;

/// Lets time pass until the answer to this request is there; the events before it are dropped.
fn answer(world: &mut World, app: CtiConnection, id: u64) -> Value {
    for _ in 0..1_000 {
        while let Some(frame) = world.frame(app) {
            if frame["id"] == id {
                assert!(frame.to_string().len() < MAX_LINE_BYTES, "{} bytes", frame.to_string().len());
                return frame;
            }
        }
        world.pass(Duration::from_millis(1));
    }
    panic!("no answer to {id}");
}

fn ask(world: &mut World, app: CtiConnection, method: &str, params: Value) -> Value {
    let id = world.send(app, method, params);
    answer(world, app, id)
}

fn names(answer: &Value) -> Vec<String> {
    let devices = answer["result"]["devices"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let name = |entry: &Value| entry["device"]["name"].as_str().or(entry["name"].as_str()).map(str::to_owned);
    devices.iter().filter_map(name).collect()
}

#[test]
fn a_snapshot_that_fits_is_one_answer_however_long_it_takes() {
    let (mut world, app) = opened();
    let id = world.send(app, "provider.snapshot", json!({}));
    assert!(world.frame(app).is_none(), "it is gathered in portions");
    // What changes meanwhile is in it, and how it was before is not.
    answer_first(&mut world, app, "6001");
    world.send(app, "device.close", json!({"device": "PORT_1002"}));
    let snapshot = answer(&mut world, app, id);
    assert_eq!(names(&snapshot).len(), 599);
    assert!(snapshot["result"]["cursor"].is_null());
    assert!(!names(&snapshot).contains(&"PORT_1002".to_owned()));
    assert_eq!(snapshot["result"]["devices"][0]["legs"].as_array().map(Vec::len), Some(1));
    assert_eq!(snapshot["result"]["seq"].as_u64(), world.last_seqs.get(&app).copied());
}

fn answer_first(world: &mut World, app: CtiConnection, number: &str) {
    world.invite("first", number);
    world.sip.clear();
    assert_eq!(world.event(app, "call.offering")["leg"]["dn"], number);
}

#[test]
fn a_snapshot_in_pages_is_one_moment_and_events_wait_for_its_last_page() {
    let (mut world, app) = opened();
    let first = ask(&mut world, app, "provider.snapshot", json!({"limit": 250}));
    let (seq, mut cursor) = (first["result"]["seq"].clone(), first["result"]["cursor"].clone());
    let mut all = names(&first);
    // After the first page a call comes to a device of the last one, and one on the list is closed.
    world.invite("a", "6600");
    assert!(world.sent("SIP/2.0 100").contains("a@"), "no call waits for it");
    let closed = world.call(app, "device.close", json!({"device": "PORT_1599"}));
    assert!(closed["result"].is_object(), "answers do not wait");
    let mut pages = 1;
    while let Some(next) = cursor.as_str().map(str::to_owned) {
        world.no_frames(app);
        let page = world.call(app, "provider.snapshot", json!({"cursor": next, "limit": 250}));
        assert_eq!(page["result"]["seq"], seq);
        assert!(
            page["result"]["devices"].as_array().is_some_and(|d| d.iter().all(|d| d["legs"] == json!([])))
        );
        all.extend(names(&page));
        cursor = page["result"]["cursor"].clone();
        pages += 1;
    }
    assert_eq!((pages, all.len()), (3, 600));
    assert!(all.is_sorted());
    let offering = world.event(app, "call.offering");
    assert_eq!(offering["seq"].as_u64(), seq.as_u64().map(|seq| seq + 1), "the first after the moment");
    // A cursor of pages that were all fetched is worth nothing.
    let over = world.call(app, "provider.snapshot", json!({"cursor": "1-0-0"}));
    assert_eq!((refusal(&over), &over["error"]["data"]["field"]), ("INVALID_PARAMS", &json!("cursor")));
}

#[test]
fn who_does_not_fetch_the_next_page_is_told_his_events_after_two_seconds() {
    let (mut world, app) = opened();
    let first = ask(&mut world, app, "provider.snapshot", json!({"limit": 250}));
    let cursor = first["result"]["cursor"].clone();
    world.invite("a", "6600");
    world.pass(Duration::from_millis(1_900));
    world.no_frames(app);
    let again = world.call(app, "provider.snapshot", json!({"cursor": cursor, "limit": 10}));
    assert_eq!(names(&again).len(), 10);
    world.pass(Duration::from_millis(1_900));
    world.no_frames(app);
    world.pass(Duration::from_millis(200));
    world.event(app, "call.offering");
    let late = world.call(app, "provider.snapshot", json!({"cursor": cursor}));
    assert_eq!(late["error"]["data"]["field"], "cursor");
    // Ten seconds are all that one gets, however often he asks.
    world.heard(app);
    let first = ask(&mut world, app, "provider.snapshot", json!({"limit": 250}));
    let cursor = first["result"]["cursor"].clone();
    let fetched = (0..20).take_while(|_| {
        world.pass(Duration::from_secs(1));
        world.heard(app);
        world.call(app, "provider.snapshot", json!({"cursor": cursor, "limit": 10}))["result"].is_object()
    });
    assert_eq!(fetched.count(), 9);
}

#[test]
fn a_lost_connection_or_too_many_events_end_the_pages() {
    let yaml = many("")
        .replace("{max_requests", "{session_queue_events: 16, session_resume_grace: 30s, max_requests");
    let mut world = World::with(&yaml);
    let app = world.application(1, "ivr");
    for port in 1001..=1003 {
        super::mass::open(&mut world, app, &format!("PORT_{port}"));
    }
    let first = ask(&mut world, app, "provider.snapshot", json!({"limit": 1}));
    let cursor = first["result"]["cursor"].clone();
    for n in 0..12 {
        world.invite(&format!("c{n}"), ["6001", "6002", "6003"][n % 3]);
    }
    let told: Vec<Value> = std::iter::from_fn(|| world.frame(app)).collect();
    let seqs: Vec<u64> = told.iter().filter_map(|event| event["params"]["seq"].as_u64()).collect();
    assert!(!seqs.is_empty() && seqs.is_sorted(), "half of a queue is enough: {seqs:?}");
    let late = world.call(app, "provider.snapshot", json!({"cursor": cursor}));
    assert_eq!(late["error"]["data"]["field"], "cursor");
    assert!(world.closed.is_empty(), "none of it is the reader's fault");
}

#[test]
fn the_calls_of_a_device_come_in_pages_too() {
    let mut world = World::with(CONFIG);
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    let open = json!({"device": "RP_MAIN", "media": {"mode": "dynamic", "codecs": ["PCMU"]}, "limit": 2});
    assert!(world.call(app, "device.open", open.clone())["result"]["cursor"].is_null());
    for call in 0..5 {
        world.invite(&format!("c{call}"), "5000");
    }
    let first = world.call(other, "device.open", open);
    let legs = |answer: &Value| answer["result"]["legs"].as_array().map_or(0, Vec::len);
    let (mut count, mut cursor) = (legs(&first), first["result"]["cursor"].clone());
    world.invite("late", "5000");
    while let Some(next) = cursor.as_str().map(str::to_owned) {
        world.no_frames(other);
        let page = world.call(other, "device.open", json!({"device": "RP_MAIN", "cursor": next, "limit": 2}));
        assert_eq!(page["result"]["device"]["name"], "RP_MAIN");
        count += legs(&page);
        cursor = page["result"]["cursor"].clone();
    }
    assert_eq!(count, 5);
    world.event(other, "call.offering");
    let wrong = world.call(other, "device.open", json!({"device": "RP_MAIN", "cursor": "x"}));
    assert_eq!(wrong["error"]["data"]["field"], "cursor");
}

/// 200 devices of 60 lines: 1.3 MB.
fn wide() -> String {
    let ports = "  - {name: \"PORT_[1001-1200]\", type: cti_port, pool: Default, lines: [LINES]}\ntrunks:";
    let lines: Vec<String> =
        (0..60).map(|n| format!("\"[{}-{}]\"", 600_001 + n * 200, 600_200 + n * 200)).collect();
    let limits =
        "service_parameters: {max_requests_per_second: 100000, max_devices_per_node: 10000}\ncluster:";
    CONFIG.replace("trunks:", &ports.replace("LINES", &lines.join(", "))).replace("cluster:", limits)
}

#[test]
fn no_answer_is_longer_than_a_line() {
    let mut world = World::with(&wide());
    let app = world.application(1, "ivr");
    for port in 1001..=1200 {
        super::mass::open(&mut world, app, &format!("PORT_{port}"));
    }
    for method in ["provider.snapshot", "provider.devices"] {
        let (mut all, mut cursor, mut pages) = (Vec::new(), Value::Null, 0);
        loop {
            let mut params = json!({"limit": 1000});
            if cursor.is_string() {
                params["cursor"] = cursor;
            }
            let page = ask(&mut world, app, method, params);
            all.extend(names(&page));
            pages += 1;
            cursor = page["result"]["cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        all.retain(|name| name.starts_with("PORT_1"));
        assert_eq!((pages, all.len()), (2, 200), "{method}");
        assert!(all.is_sorted());
    }
    let discovered = ask(&mut world, app, "rpc.discover", json!({}));
    assert!(discovered["result"]["methods"].is_array());
}

#[test]
fn who_asks_for_much_pays_for_it_and_nobody_else() {
    let mut world =
        World::with(&many("").replace("max_requests_per_second: 100000", "max_requests_per_second: 30"));
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    // Some 600 devices are 24 requests' worth beside the one.
    let list = |world: &mut World| ask(world, app, "provider.devices", json!({"limit": 1000}));
    assert_eq!(names(&list(&mut world)).len(), 603);
    let more = (0..30).take_while(|_| list(&mut world)["result"].is_object()).count();
    assert!(more <= 1, "{more} more");
    let refused = list(&mut world);
    assert_eq!(refusal(&refused), "RATE_LIMITED");
    let wait = refused["error"]["data"]["retry_after_ms"].as_u64().expect("how long");
    assert!((100..1_000).contains(&wait), "{wait}");
    assert!(world.call(other, "provider.devices", json!({}))["result"].is_object(), "another has his own");
    world.pass(Duration::from_millis(wait + 40));
    assert!(list(&mut world)["result"].is_object());
}

#[test]
fn who_asks_for_much_at_once_pays_for_each_piece_before_the_next_is_begun() {
    let mut world =
        World::with(&many("").replace("max_requests_per_second: 100000", "max_requests_per_second: 500"));
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    for _ in 0..300 {
        world.send(app, "provider.devices", json!({"limit": 1000}));
    }
    // A first piece costs six: the burst of a second pays for some eighty.
    let refused = std::iter::from_fn(|| world.frame(app)).filter(|said| said["error"].is_object()).count();
    assert!((200..300).contains(&refused), "{refused} of 300 are refused there and then");
    assert_eq!(
        names(&world.call(other, "provider.devices", json!({}))),
        ["RP_MAIN"],
        "and another is served"
    );
}

#[test]
fn a_list_goes_on_by_name_and_looks_only_where_names_may_be() {
    let mut world = World::with(&many(""));
    let app = world.application(1, "ivr");
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut wish = json!({"limit": 100, "type": "cti_port"});
        if let Some(after) = &after {
            wish["cursor"] = json!(after);
        }
        let page = ask(&mut world, app, "provider.devices", wish);
        all.extend(names(&page));
        after = page["result"]["cursor"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((all.len(), all.is_sorted()), (602, true));
    let none = ask(&mut world, app, "provider.devices", json!({"name": "NOBODY*"}));
    assert_eq!((names(&none).len(), &none["result"]["cursor"]), (0, &Value::Null));
    let other = world.application(2, "other");
    assert_eq!(names(&world.call(other, "provider.devices", json!({}))), ["RP_MAIN"]);
}

#[test]
fn a_snapshot_is_taken_one_at_a_time_and_those_of_who_has_gone_are_forgotten() {
    let (mut world, app) = opened();
    world.send(app, "provider.snapshot", json!({}));
    let second = world.call(app, "provider.snapshot", json!({}));
    assert_eq!(refusal(&second), "RATE_LIMITED");
    world.input(Input::CtiClosed(app));
    world.pass(Duration::from_secs(1));
    let again = world.application(2, "ivr");
    assert_eq!(names(&ask(&mut world, again, "provider.snapshot", json!({}))).len(), 0);
    answer_call_at(&mut world, again);
}

#[test]
fn a_snapshot_in_the_midst_of_pages_takes_their_place() {
    let (mut world, app) = opened();
    let first = ask(&mut world, app, "provider.snapshot", json!({"limit": 250}));
    let old = first["result"]["cursor"].clone();
    let second = ask(&mut world, app, "provider.snapshot", json!({"limit": 400}));
    assert_eq!(names(&second).len(), 400, "from the beginning");
    let page = world.call(app, "provider.snapshot", json!({"cursor": old}));
    assert_eq!(page["error"]["data"]["field"], "cursor", "{page}");
    let last = world.call(app, "provider.snapshot", json!({"cursor": second["result"]["cursor"]}));
    assert_eq!((names(&last).len(), last["result"]["cursor"].is_null()), (200, true));
    answer_first(&mut world, app, "6001");
}

/// Steps until this request is answered.
fn steps(world: &mut World, app: CtiConnection, id: u64) -> usize {
    let mut steps = 0;
    loop {
        while let Some(frame) = world.frame(app) {
            if frame["id"] == id {
                assert!(frame["result"].is_object(), "{frame}");
                return steps;
            }
        }
        world.now = world.node.next_timeout().expect("something is under way").max(world.now);
        world.input(Input::Timeout);
        steps += 1;
    }
}

#[test]
fn who_asks_for_many_lists_delays_only_himself() {
    let yaml = many("").replace("controlled_devices: [RP_MAIN]}", "controlled_devices: [\"PORT_*\"]}");
    let mut world = World::with(&yaml);
    let beside = world.application(1, "other");
    let list = |world: &mut World, app| world.send(app, "provider.devices", json!({"limit": 1000}));
    let id = list(&mut world, beside);
    let alone = steps(&mut world, beside, id);
    assert!(alone >= 1, "a list that takes several steps");
    let crowd: Vec<_> = (2..=4).map(|number| world.application(number, "ivr")).collect();
    let mut refused = 0;
    for round in 0..60 {
        let app = crowd[round % crowd.len()];
        list(&mut world, app);
        let frames: Vec<Value> = std::iter::from_fn(|| world.frame(app)).collect();
        refused += frames.iter().filter(|frame| refusal(frame) == "RATE_LIMITED").count();
    }
    assert!((20..60).contains(&refused), "a user has so many under way: {refused} of 60 were refused");
    let id = list(&mut world, beside);
    let slowed = steps(&mut world, beside, id);
    assert!(slowed <= 2 * alone + 2, "{slowed} steps beside the crowd, {alone} alone");
    // All of the others are answered in the end, in their turns.
    world.pass(Duration::from_secs(2));
    let answered =
        crowd.iter().map(|app| world.frames.get(app).map_or(0, |frames| frames.len())).sum::<usize>();
    assert_eq!(answered + refused, 60);
}

fn answer_call_at(world: &mut World, app: CtiConnection) {
    super::mass::open(world, app, "PORT_1600");
    answer_call(world, app, "z", "6600");
}
