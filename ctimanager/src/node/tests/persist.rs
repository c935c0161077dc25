//! Sessions that outlive the process: what one life of a node said is to be kept, given to the next. After every input
//! the world compares what the records add up to with what there is.

use super::world::{CONFIG, World, header};
use crate::node::kept::{Kept, Record};
use crate::node::{AdminRequest, AdminToken, CtiConnection, CtiTransport, Input};
use serde_json::{Value, json};
use std::time::Duration;

const AWAY: Duration = Duration::from_secs(3);

fn keeping(yaml: &str) -> World {
    let mut world = World::with(yaml);
    world.input(Input::Restored(Box::default(), None));
    world
}

/// A provider with a grace, and the name of its session.
fn provider(world: &mut World, number: u64, user: &str, more: Value) -> (CtiConnection, String) {
    let connection = world.connect(number);
    let mut open =
        json!({"user": user, "password": "secret", "application": "test", "resume_grace_ms": 10_000});
    open.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = world.call(connection, "provider.open", open);
    let session = answer["result"]["session"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (connection, session)
}

fn resume(
    world: &mut World,
    number: u64,
    user: &str,
    session: &str,
    last_seq: u64,
) -> (CtiConnection, Value) {
    let connection = world.connect(number);
    let open = json!({"user": user, "password": "secret", "application": "test",
                      "resume": {"session": session, "last_seq": last_seq}});
    let answer = world.call(connection, "provider.open", open);
    (connection, answer)
}

fn open(world: &mut World, app: CtiConnection, device: &str, port: u16) {
    world.heard(app);
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": port, "codecs": ["PCMU"]});
    let answer = world.call(app, "device.open", json!({"device": device, "media": media}));
    assert!(answer["result"].is_object(), "{answer}");
}

fn talk(world: &mut World, app: CtiConnection, tag: &str, number: &str) -> String {
    world.heard(app);
    world.sip.clear();
    world.invite(tag, number);
    world.sent("SIP/2.0 100");
    let leg = world.event(app, "call.offering")["leg"]["leg"].as_str().expect("a leg").to_owned();
    let answer = world.call(app, "call.answer", json!({"leg": leg}));
    assert!(answer["result"].is_object(), "{answer}");
    let to = header(&world.sent("SIP/2.0 200"), "To").to_owned();
    world.in_dialog(tag, "ACK", 1, &to);
    leg
}

/// The number of the last event that the application heard; it has taken all of them.
fn last_seq(world: &mut World, app: CtiConnection) -> u64 {
    world.heard(app);
    world.last_seqs.get(&app).copied().unwrap_or(0)
}

/// The numbers of the events that wait.
fn seqs(world: &World, app: CtiConnection) -> Vec<u64> {
    world.frames[&app].iter().filter_map(|frame| frame["params"]["seq"].as_u64()).collect()
}

#[test]
fn a_session_goes_on_at_the_restarted_node_and_its_calls_are_told_as_they_are() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    world.event(app, "device.in_service");
    let talking = talk(&mut world, app, "a", "5000");
    world.invite("b", "5000");
    let heard = last_seq(&mut world, app);

    world.reborn(AWAY, CONFIG);
    assert!(world.reported().contains(&"SessionsRestored"));
    let (app, opened) = resume(&mut world, 2, "ivr", &session, heard - 1);
    assert_eq!(opened["result"]["resumed"], true, "{opened}");
    assert_eq!(opened["result"]["next_seq"], heard);
    assert_eq!(opened["result"]["resume_grace_ms"], 10_000, "what was agreed holds");
    assert_eq!(seqs(&world, app), (heard..=heard + 6).collect::<Vec<_>>(), "no gap, none twice");
    assert_eq!(
        world.heard(app),
        [
            "call.offering RP_MAIN",
            "media.stopped RP_MAIN input",
            "media.stopped RP_MAIN output",
            "call.disconnected RP_MAIN temporary_failure",
            "call.disconnected RP_MAIN temporary_failure",
            "device.out_of_service RP_MAIN ctimanager_failure",
            "device.in_service RP_MAIN",
        ]
    );
    let dropped = world.call(app, "call.drop", json!({"leg": talking}));
    assert_eq!(dropped["error"]["data"]["cti"], "NO_SUCH_LEG");
    let snapshot = world.call(app, "provider.snapshot", json!({}));
    assert_eq!(snapshot["result"]["devices"][0]["device"]["state"], "in_service");
    assert_eq!(snapshot["result"]["devices"][0]["legs"], json!([]));

    let fresh = talk(&mut world, app, "c", "5000");
    assert_ne!(fresh, talking, "ids of two lives never meet");
    assert_eq!(fresh.len(), talking.len());
}

#[test]
fn a_call_comes_while_the_application_is_still_away() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    let heard = last_seq(&mut world, app);
    world.reborn(AWAY, CONFIG);
    world.invite("a", "5000");
    world.sent("SIP/2.0 100");
    let (app, _) = resume(&mut world, 2, "ivr", &session, heard);
    assert_eq!(
        world.heard(app),
        [
            "device.out_of_service RP_MAIN ctimanager_failure",
            "device.in_service RP_MAIN",
            "call.offering RP_MAIN"
        ]
    );
}

#[test]
fn the_grace_counts_from_the_last_moment_of_the_earlier_life() {
    for (away, resumed, reason) in [(9_900, true, json!(null)), (10_000, false, json!("expired"))] {
        let mut world = keeping(CONFIG);
        let (app, session) = provider(&mut world, 1, "ivr", json!({}));
        open(&mut world, app, "RP_MAIN", 30_000);
        let heard = last_seq(&mut world, app);
        world.reborn(Duration::from_millis(away), CONFIG);
        let (_, opened) = resume(&mut world, 2, "ivr", &session, heard);
        assert_eq!((&opened["result"]["resumed"], &opened["result"]["reason"]), (&json!(resumed), &reason));
    }
    // What is left of it runs on, and then its devices are let go.
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    world.reborn(Duration::from_secs(8), CONFIG);
    world.pass(Duration::from_millis(1_900));
    world.input(Input::Admin(AdminToken(1), AdminRequest::Sessions));
    let sessions = world.answers.pop().expect("an answer").expect("a good one");
    assert_eq!(sessions[0]["state"], "held");
    assert_eq!(sessions[0]["devices"], json!(["RP_MAIN"]));
    world.pass(Duration::from_millis(200));
    let (_, opened) = resume(&mut world, 2, "ivr", &session, 0);
    assert_eq!(opened["result"]["reason"], "expired");
}

#[test]
fn a_session_that_was_held_already_gets_no_second_grace() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    world.input(Input::CtiClosed(app));
    world.pass(Duration::from_secs(6));
    world.reborn(AWAY, CONFIG);
    world.pass(Duration::from_millis(900));
    assert_eq!(resume(&mut world, 2, "ivr", &session, 0).1["result"]["resumed"], true);
    world.input(Input::CtiClosed(protocol::session::ConnectionId(2)));
    world.pass(Duration::from_secs(8));
    world.reborn(AWAY, CONFIG);
    assert_eq!(resume(&mut world, 3, "ivr", &session, 0).1["result"]["reason"], "expired");
}

#[test]
fn who_has_ended_is_known_as_expired_for_ten_minutes_across_restarts() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    world.call(app, "provider.close", json!({}));
    world.reborn(Duration::from_secs(300), CONFIG);
    assert_eq!(resume(&mut world, 2, "ivr", &session, 0).1["result"]["reason"], "expired");
    assert_eq!(resume(&mut world, 3, "other", &session, 0).1["result"]["reason"], "unknown_session");
    world.reborn(Duration::from_secs(300), CONFIG);
    assert_eq!(resume(&mut world, 4, "ivr", &session, 0).1["result"]["reason"], "unknown_session");
}

#[test]
fn a_repeat_after_the_restart_gets_the_first_answer_good_or_bad() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    let good = json!({"device": "RP_MAIN", "media": {"mode": "none"}, "idem": "k1"});
    let bad = json!({"device": "NOBODY", "idem": "k2"});
    let first = world.call(app, "device.open", good.clone())["result"].clone();
    world.event(app, "device.in_service");
    let refused = world.call(app, "device.open", bad.clone())["error"].clone();
    let heard = last_seq(&mut world, app);
    for life in 2..4 {
        world.reborn(Duration::from_secs(1), CONFIG);
        let (app, _) = resume(&mut world, life, "ivr", &session, heard);
        world.heard(app);
        assert_eq!(world.call(app, "device.open", good.clone())["result"], first);
        assert_eq!(world.call(app, "device.open", bad.clone())["error"], refused);
        let other = world.call(app, "device.open", json!({"device": "PORT_001", "idem": "k1"}));
        assert_eq!(other["error"]["data"]["field"], "idem");
    }
}

#[test]
fn a_log_that_lost_what_the_client_lacks_is_overrun_and_a_number_never_sent_is_refused() {
    let yaml = format!("service_parameters: {{session_log_events: 100}}\n{CONFIG}");
    let mut world = keeping(&yaml);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "PORT_001", 30_000);
    for round in 0..120 {
        world.heard(app);
        let on = json!({"device": "PORT_001", "dn": "5101", "on": round % 2 == 0});
        let answer = world.call(app, "line.set_auto_accept", on);
        assert!(answer["result"].is_object(), "{answer}");
    }
    // 121 events: the log has the newest 100, and two more come with the restart.
    world.reborn(AWAY, &yaml);
    let (_, refused) = resume(&mut world, 2, "ivr", &session, 124);
    assert_eq!(refused["error"]["data"]["field"], "resume.last_seq");
    let (app, opened) = resume(&mut world, 3, "ivr", &session, 23);
    assert_eq!(opened["result"]["resumed"], true, "{opened}");
    assert_eq!(seqs(&world, app), (24..=123).collect::<Vec<_>>());
    let (_, opened) = resume(&mut world, 4, "ivr", &session, 22);
    assert_eq!(opened["result"]["reason"], "log_overrun");
}

#[test]
fn what_the_client_has_is_trimmed_and_the_numbers_go_on() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    open(&mut world, app, "PORT_001", 30_002);
    assert_eq!(last_seq(&mut world, app), 2);
    world.call(app, "provider.heartbeat", json!({"last_seq": 2}));
    let kept = world.kept.sessions.values().next().expect("a session");
    assert!(kept.events.is_empty());
    assert_eq!(kept.first_event, 3);
    world.reborn(AWAY, CONFIG);
    let (app, _) = resume(&mut world, 2, "ivr", &session, 2);
    assert_eq!(seqs(&world, app), [3, 4, 5, 6]);
}

#[test]
fn what_was_not_subscribed_to_takes_no_number_after_a_restart_either() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({"subscribe": ["call.*"]}));
    open(&mut world, app, "RP_MAIN", 30_000);
    talk(&mut world, app, "a", "5000");
    let heard = last_seq(&mut world, app);
    world.reborn(AWAY, CONFIG);
    let (app, _) = resume(&mut world, 2, "ivr", &session, heard);
    assert_eq!(world.heard(app), ["call.disconnected RP_MAIN temporary_failure"]);
}

#[test]
fn permissions_are_decided_anew() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    let (_, others) = provider(&mut world, 2, "other", json!({}));
    for (device, port) in [("RP_MAIN", 30_000), ("PORT_001", 30_002), ("PORT_002", 30_004)] {
        open(&mut world, app, device, port);
    }
    world.heard(app);
    talk(&mut world, app, "a", "5101");
    talk(&mut world, app, "b", "5102");
    let heard = last_seq(&mut world, app);
    // PORT_001 leaves the list, PORT_002 the configuration, the route point is restricted, and a user is gone.
    let yaml = CONFIG
        .replace("[RP_MAIN, \"PORT_*\"]", "[RP_MAIN, \"PORT_*2\"]")
        .replace("  - {name: PORT_002, type: cti_port, pool: Default, lines: [\"5102\"]}\n", "")
        .replace("lines: [\"5000\"]}", "lines: [\"5000\"], allow_cti_control: false}")
        .lines()
        .filter(|line| !line.contains("id: other"))
        .collect::<Vec<_>>()
        .join("\n");
    world.reborn(AWAY, &yaml);
    let (app, _) = resume(&mut world, 3, "ivr", &session, heard);
    assert_eq!(
        world.heard(app),
        [
            "media.stopped PORT_002 input",
            "media.stopped PORT_002 output",
            "call.disconnected PORT_002 temporary_failure",
            "device.removed PORT_001",
            "device.closed PORT_002 device_unregistered",
            "device.removed PORT_002",
            "device.out_of_service RP_MAIN ctimanager_failure",
            "device.restricted RP_MAIN",
        ]
    );
    let refused = world.call(app, "device.open", json!({"device": "PORT_001"}));
    assert_eq!(refused["error"]["data"]["cti"], "DEVICE_NOT_CONTROLLED");
    let heard = {
        world.reload(CONFIG);
        world.heard(app)
    };
    assert!(heard.contains(&"device.in_service RP_MAIN".to_owned()), "it comes back by itself: {heard:?}");
    assert_eq!(resume(&mut world, 4, "other", &others, 0).1["result"]["reason"], "expired");
}

#[test]
fn a_session_without_grace_is_not_kept_and_one_that_gets_a_grace_is_kept_whole() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({"resume_grace_ms": 0}));
    open(&mut world, app, "RP_MAIN", 30_000);
    talk(&mut world, app, "a", "5000");
    assert_eq!(world.kept.sessions.len(), 0);
    assert_eq!(world.kept.legs.len(), 0);
    let connection = world.connect(2);
    let takeover = json!({"user": "ivr", "password": "secret", "application": "test", "resume_grace_ms": 5_000,
                          "resume": {"session": session, "last_seq": 0}});
    world.call(connection, "provider.open", takeover);
    let kept = world.kept.sessions.values().next().expect("it is kept now");
    assert_eq!(kept.devices.len(), 1);
    let events = kept.events.len() as u64;
    assert_eq!(events, last_seq(&mut world, connection));
    assert_eq!(world.kept.legs.len(), 1);
    let back = json!({"user": "ivr", "password": "secret", "application": "test", "resume_grace_ms": 0,
                      "resume": {"session": session, "last_seq": 0}});
    let connection = world.connect(3);
    world.call(connection, "provider.open", back);
    assert_eq!(world.kept.sessions.len(), 0);
}

#[test]
fn two_applications_share_a_device_and_legs_are_kept_while_one_of_them_has_it() {
    let mut world = keeping(CONFIG);
    let (one, first) = provider(&mut world, 1, "ivr", json!({}));
    let (two, second) = provider(&mut world, 2, "other", json!({}));
    let media = json!({"mode": "dynamic", "codecs": ["PCMU"]});
    for app in [one, two] {
        let answer = world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
        assert!(answer["result"].is_object(), "{answer}");
    }
    world.invite("a", "5000");
    assert_eq!(world.kept.legs.len(), 1);
    last_seq(&mut world, one);
    world.call(one, "device.close", json!({"device": "RP_MAIN"}));
    assert_eq!(world.kept.legs.len(), 1, "the other application still has it");
    let (heard, others) = (last_seq(&mut world, one), last_seq(&mut world, two));
    world.reborn(AWAY, CONFIG);
    let (one, _) = resume(&mut world, 3, "ivr", &first, heard);
    let (two, _) = resume(&mut world, 4, "other", &second, others);
    assert_eq!(world.heard(one), Vec::<String>::new());
    assert_eq!(
        world.heard(two),
        [
            "call.disconnected RP_MAIN temporary_failure",
            "device.out_of_service RP_MAIN ctimanager_failure",
            "device.in_service RP_MAIN"
        ]
    );
    world.heard(two);
    world.call(two, "device.close", json!({"device": "RP_MAIN"}));
    assert_eq!(world.kept.legs.len(), 0);
}

#[test]
fn an_orderly_stop_leaves_the_sessions_to_the_next_life() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    talk(&mut world, app, "a", "5000");
    world.input(Input::Stop);
    let told = world.frames[&app].iter().map(|frame| frame["params"]["type"].clone()).collect::<Vec<_>>();
    assert_eq!(told.last().expect("told"), "session.closed");
    assert!(told.contains(&json!("call.disconnected")));
    let heard = last_seq(&mut world, app);
    world.reborn(AWAY, CONFIG);
    let (app, opened) = resume(&mut world, 2, "ivr", &session, heard);
    assert_eq!(opened["result"]["resumed"], true, "{opened}");
    assert_eq!(
        world.heard(app),
        ["device.out_of_service RP_MAIN ctimanager_failure", "device.in_service RP_MAIN"],
        "the calls were told before"
    );
}

#[test]
fn while_nothing_can_be_kept_the_node_goes_on_and_says_so_and_then_everything_is_kept_anew() {
    let mut world = keeping(CONFIG);
    let (app, session) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    world.input(Input::StoreLost("no space left on device".into()));
    assert_eq!(world.reported().last(), Some(&"SessionStoreSuspended"));
    world.kept = Kept::default();
    talk(&mut world, app, "a", "5000");
    assert_eq!(world.kept, Kept::default(), "nothing is said that nobody keeps");
    world.input(Input::Admin(AdminToken(1), AdminRequest::Status));
    assert_eq!(world.answers.pop().expect("an answer").expect("a good one")["session_store"], "suspended");
    world.input(Input::StoreReady);
    assert_eq!(world.reported().last(), Some(&"SessionStoreSuspended"), "cleared");
    assert_eq!((world.kept.sessions.len(), world.kept.legs.len()), (1, 1));
    let heard = last_seq(&mut world, app);
    world.reborn(AWAY, CONFIG);
    let (app, opened) = resume(&mut world, 2, "ivr", &session, heard);
    assert_eq!(opened["result"]["resumed"], true, "{opened}");
    assert!(world.heard(app).contains(&"call.disconnected RP_MAIN temporary_failure".to_owned()));
}

#[test]
fn a_user_who_may_come_by_tls_only_is_judged_by_how_he_came() {
    let yaml = CONFIG.replace("mode: non_secure", "mode: secure").replace(
        "groups: [Standard CTI Enabled]",
        "groups: [Standard CTI Enabled, Standard CTI Secure Connection]",
    );
    let mut world = keeping(&yaml);
    let (_, session) = provider(&mut world, 1, "ivr", json!({}));
    world.reborn(AWAY, &yaml);
    assert_eq!(resume(&mut world, 2, "ivr", &session, 0).1["result"]["resumed"], true);
    // One who came in the clear, before the cluster became secure, does not come back.
    let mut world = keeping(CONFIG);
    let connection = world.connect_by(1, CtiTransport::Plain);
    let open = json!({"user": "ivr", "password": "secret", "application": "t", "resume_grace_ms": 10_000});
    let session = world.call(connection, "provider.open", open)["result"]["session"].clone();
    world.reborn(AWAY, &yaml);
    let session = session.as_str().expect("a session");
    assert_eq!(resume(&mut world, 2, "ivr", session, 0).1["result"]["reason"], "expired");
}

#[test]
fn without_being_asked_to_keep_anything_the_node_says_no_record() {
    let mut world = World::new();
    let (app, _) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    talk(&mut world, app, "a", "5000");
    assert_eq!(world.kept, Kept::default());
}

#[test]
fn what_could_not_be_read_is_said_and_the_node_starts_without_sessions() {
    let mut world = World::new();
    world.input(Input::Restored(Box::default(), Some("not a redb database".into())));
    assert_eq!(world.reported(), ["SessionStoreUnreadable"]);
    let (app, _) = provider(&mut world, 1, "ivr", json!({}));
    open(&mut world, app, "RP_MAIN", 30_000);
    assert_eq!(world.kept.sessions.len(), 1, "and keeps the new ones");
}

#[test]
fn records_about_a_session_that_is_not_there_say_nothing() {
    let mut kept = Kept::default();
    kept.apply(Record::FirstEvent(device_model::SessionId(7), 3));
    kept.apply(Record::SessionGone(device_model::SessionId(7)));
    assert_eq!(kept, Kept::default());
}
