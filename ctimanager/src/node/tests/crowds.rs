//! Much that happens at once to phones, sessions, logs and calls: it is carried out a little at a time, and nobody can see
//! that it takes a moment.

use super::mass::{PORTS, answer_call, many, open, opened, refusal};
use super::world::{CONFIG, World, header};
use crate::node::cti_manager::reload::consequences::{AT_ONCE, SIP_AT_ONCE};
use crate::node::registrations::{By, Registration, RegistrationNews};
use crate::node::{AdminRequest, AdminToken, CtiConnection, CtiTransport, Input};
use serde_json::{Value, json};
use sip::{Hop, Transport};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

const PHONES: u32 = 600;

/// CONFIG with 600 phones, each forwarded to the trunk while it is not registered.
fn with_phones() -> String {
    let (mut numbers, mut phones) = (String::new(), String::new());
    for phone in 1..=PHONES {
        let (dn, user) = (20_000 + phone, 30_000 + phone);
        let _ = writeln!(numbers, "  - {{dn: \"{dn}\", forward: {{unregistered: \"9002\"}}}}");
        let digest = format!("digest: {{user: \"{user}\", password: secret}}");
        let _ = writeln!(
            phones,
            "  - {{name: SEP{phone:04}, type: phone, pool: Default, lines: [\"{dn}\"], {digest}}}"
        );
    }
    let yaml = CONFIG.replace("directory_numbers:\n", &format!("directory_numbers:\n{numbers}"));
    let yaml = yaml.replace("devices:\n", &format!("devices:\n{phones}"));
    let yaml = yaml
        .replace("\"PORT_*\"]", "\"PORT_*\", \"SEP*\"]")
        .replace("sip: {udp: 5060}", "sip: {udp: 5060, tcp: 5060}");
    format!("service_parameters: {{max_requests_per_second: 100000, max_devices_per_node: 10000}}\n{yaml}")
}

/// All phones registered, reached in this way, for an hour.
fn registered(transport: By) -> World {
    let mut world = World::with(&with_phones());
    let since = world.wall.duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch");
    let expires = u64::try_from((since + Duration::from_secs(3_600)).as_millis()).expect("a time");
    let kept = (1..=PHONES).map(|phone| {
        let number = (20_000 + phone).to_string();
        let registration = Registration {
            account: format!("SEP{phone:04}").into(),
            number: number.as_str().into(),
            contact: format!("sip:{number}@127.0.0.1:5099"),
            q: 1_000,
            path: Vec::new(),
            call_id: format!("{phone}"),
            cseq: 1,
            instance: None,
            transport,
            remote: "127.0.0.1:5099".parse().expect("an address"),
            expires,
        };
        (u64::from(phone), registration)
    });
    world.input(Input::Registrations(RegistrationNews::Restored(kept.collect(), None)));
    world
}

fn edge() -> Hop {
    let address = |text: &str| text.parse().expect("an address");
    let (local, remote) = (address("127.0.0.1:5060"), address("127.0.0.1:5099"));
    Hop { transport: Transport::Tcp, local, remote, connection: None }
}

/// Lets time pass a step at a time until nothing is due within a second; what the application hears in each.
fn steps(world: &mut World, app: CtiConnection) -> Vec<Vec<String>> {
    let mut steps = vec![world.heard(app)];
    let end = world.now + Duration::from_secs(3);
    while world.node.next_timeout().is_some_and(|at| at < end) {
        steps.extend(next_step(world, app));
    }
    steps
}

/// The step that is due next, and what the application hears in it; `None`: nothing is due.
fn next_step(world: &mut World, app: CtiConnection) -> Option<Vec<String>> {
    let at = world.node.next_timeout()?;
    world.wall += at.saturating_duration_since(world.now);
    world.now = world.now.max(at);
    world.input(Input::Timeout);
    Some(world.heard(app))
}

#[test]
fn phones_that_are_lost_by_the_hundred_are_told_in_portions_and_cannot_be_called_from_the_first_moment() {
    for transport in [By::Tcp, By::Udp] {
        let mut world = registered(transport);
        let (app, other) = (world.application(1, "ivr"), world.application(2, "ivr"));
        for phone in 1..=PHONES {
            let answer = world.call(app, "device.open", json!({"device": format!("SEP{phone:04}")}));
            assert_eq!(answer["result"]["device"]["state"], "in_service", "{answer}");
        }
        world.heard(app);
        match transport {
            By::Tcp | By::Tls => world.input(Input::SipUnreachable(edge())),
            By::Udp => {
                world.wall += Duration::from_secs(3_600);
                world.now += Duration::from_secs(3_600);
                for app in [app, other] {
                    world.send(app, "provider.heartbeat", json!({}));
                }
                world.frames.clear();
                world.input(Input::Timeout);
            }
        }
        let mut told = world.heard(app);
        assert!(told.len() < 50, "{} in one step", told.len());
        // The last one is called: its caller goes where its calls go when it is not there, and it is told of first.
        world.sip.clear();
        world.invite("late", "20600");
        assert!(world.sip.iter().any(|sent| sent.starts_with("INVITE sip:9002@")), "{:?}", world.sip);
        assert_eq!(world.heard(app), ["device.out_of_service SEP0600 device_unregistered"]);
        told.push("device.out_of_service SEP0600 device_unregistered".into());
        let opened = world.call(other, "device.open", json!({"device": "SEP0599"}));
        assert_eq!(opened["result"]["device"]["state"], "out_of_service", "{opened}");
        world.no_frames(other);
        let id = world.send(other, "provider.devices", json!({"name": "SEP059*"}));
        let mut heard = Vec::new();
        let listed = loop {
            if let Some(answer) = world.frame(other) {
                break answer;
            }
            heard.push(next_step(&mut world, app).expect("the list is being gathered"));
        };
        assert_eq!(listed["id"], id, "{listed}");
        let all = listed["result"]["devices"].as_array().expect("a list");
        assert_eq!(all.len(), 10);
        assert!(all.iter().all(|device| device["registered"] == false), "{listed}");
        let steps = [heard, steps(&mut world, app)].concat();
        assert!(steps.len() > 2 && steps.iter().all(|step| step.len() <= AT_ONCE), "{} steps", steps.len());
        told.extend(steps.concat());
        told.retain(|told| told.starts_with("device.out_of_service"));
        told.sort_unstable();
        let each: Vec<String> = (1..=PHONES)
            .map(|phone| format!("device.out_of_service SEP{phone:04} device_unregistered"))
            .collect();
        assert_eq!(told, each, "each once");
        assert_eq!(world.registrations.len(), PHONES as usize, "each is kept no more");
        assert!(!world.node.call_manager.is_losing());
    }
}

/// An application with a grace that has lost its connection, and so many events since.
fn away(events: u32, more: &str) -> (World, String) {
    let yaml = format!("service_parameters: {{max_requests_per_second: 1000000{more}}}\n{CONFIG}");
    let mut world = World::with(&yaml.replace("id: ivr,", "id: ivr, session_resume_grace: 60s,"));
    let app = world.connect(1);
    let open = json!({"user": "ivr", "password": "secret", "application": "test"});
    let session =
        world.call(app, "provider.open", open)["result"]["session"].as_str().expect("a name").to_owned();
    let other = world.application(2, "ivr");
    world.call(app, "device.open", json!({"device": "RP_MAIN"}));
    world.call(other, "device.open", json!({"device": "RP_MAIN"}));
    world.input(Input::CtiClosed(app));
    for event in 0..events {
        let on = event % 2 == 0;
        world.call(other, "line.set_auto_accept", json!({"device": "RP_MAIN", "dn": "5000", "on": on}));
        world.frames.clear();
    }
    world.frames.clear();
    (world, session)
}

fn resume(world: &mut World, number: u64, session: &str) -> CtiConnection {
    let app = world.connect(number);
    let resume = json!({"session": session, "last_seq": 0});
    let open = json!({"user": "ivr", "password": "secret", "application": "test", "resume": resume});
    world.send(app, "provider.open", open);
    app
}

fn seqs(frames: &[Value]) -> Vec<u64> {
    frames.iter().map(|frame| frame["params"]["seq"].as_u64().unwrap_or(0)).collect()
}

fn take(world: &mut World, app: CtiConnection) -> Vec<Value> {
    world.frames.remove(&app).unwrap_or_default().into()
}

#[test]
fn a_long_replay_is_written_in_portions_and_what_comes_meanwhile_comes_behind_it() {
    let (mut world, session) = away(3_000, "");
    let app = resume(&mut world, 3, &session);
    let mut heard = take(&mut world, app);
    assert_eq!(heard.len(), 1_024, "the answer and the first of it");
    let id = world.send(app, "provider.devices", json!({}));
    world.input(Input::CtiBehind(app, true));
    world.pass(Duration::from_millis(500));
    world.no_frames(app);
    world.invite("new", "5000");
    world.no_frames(app);
    world.input(Input::CtiBehind(app, false));
    let mut steps = 0;
    while world.node.next_timeout().is_some_and(|at| at < world.now + Duration::from_millis(100)) {
        world.pass(Duration::from_millis(1));
        let piece = take(&mut world, app);
        assert!(piece.len() <= 1_024, "{} in one step", piece.len());
        heard.extend(piece);
        steps += 1;
    }
    assert!(steps > 2, "{steps} steps");
    let numbers = seqs(&heard);
    // device.in_service came before the connection was lost.
    let replay: Vec<u64> = (1..=3_001).collect();
    assert_eq!(numbers[1..=3_001], replay);
    assert_eq!(heard[3_002]["id"], id, "what was asked during the replay is answered after it");
    assert_eq!(heard[3_003]["params"]["type"], "call.offering");
    world.invite("live", "5000");
    assert_eq!(take(&mut world, app).len(), 1, "all that comes later comes at once");
}

#[test]
fn a_replay_goes_with_its_connection_and_begins_anew_on_the_next_one() {
    let (mut world, session) = away(2_500, ", session_queue_events: 100");
    let first = resume(&mut world, 3, &session);
    assert_eq!(take(&mut world, first).len(), 1_024, "a queue that is empty is not the reader's fault");
    world.pass(Duration::from_millis(2));
    assert_eq!(take(&mut world, first).len(), 50, "then half of what may wait");
    world.input(Input::CtiClosed(first));
    world.frames.clear();
    world.pass(Duration::from_millis(100));
    world.no_frames(first);
    let second = resume(&mut world, 4, &session);
    let third = resume(&mut world, 5, &session);
    let told = take(&mut world, second);
    assert_eq!(told.last().expect("a last word")["params"]["type"], "session.superseded");
    world.pass(Duration::from_secs(1));
    let heard = take(&mut world, third);
    assert_eq!(seqs(&heard)[1..], (1..=2_501).collect::<Vec<u64>>());
    world.no_frames(second);
}

#[test]
fn a_request_for_a_device_with_many_calls_to_end_waits_and_keeps_its_place() {
    let mut world = World::with(CONFIG);
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
    world.event(app, "device.in_service");
    for call in 0..80 {
        answer_call(&mut world, app, &format!("t{call}"), "5000");
    }
    world.sip.clear();
    world.input(Input::CtiClosed(app));
    let open = world.send(other, "device.open", json!({"device": "RP_MAIN", "media": media}));
    let list = world.send(other, "provider.devices", json!({}));
    world.no_frames(other);
    assert!(world.sip.len() <= SIP_AT_ONCE + 8, "{} messages", world.sip.len());
    world.pass(Duration::from_millis(500));
    let heard = take(&mut world, other);
    assert_eq!(heard[0]["id"], open);
    assert_eq!(heard[0]["result"]["legs"], json!([]), "{}", heard[0]);
    assert_eq!(heard[1]["params"]["type"], "device.in_service");
    assert_eq!(heard[2]["id"], list, "in the order in which they were asked");
    assert_eq!(world.sip.iter().filter(|sent| sent.starts_with("BYE")).count(), 80);
    answer_call(&mut world, other, "fresh", "5000");
}

#[test]
fn who_ends_while_his_request_waits_leaves_nothing() {
    let mut world = World::with(CONFIG);
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
    world.event(app, "device.in_service");
    for call in 0..60 {
        answer_call(&mut world, app, &format!("t{call}"), "5000");
    }
    world.input(Input::CtiClosed(app));
    world.send(other, "device.open", json!({"device": "RP_MAIN", "media": media}));
    world.input(Input::CtiClosed(other));
    world.pass(Duration::from_secs(1));
    let third = world.application(3, "ivr");
    let listed = world.call(third, "provider.devices", json!({"name": "RP_*"}));
    assert_eq!(listed["result"]["devices"][0]["opened"], false, "{listed}");
    world.quiet();
}

#[test]
fn the_address_of_who_closes_a_device_is_asked_of_the_others_in_portions_and_first_where_it_matters() {
    let mut world = World::with(CONFIG);
    let (app, other) = (world.application(1, "ivr"), world.application(2, "other"));
    let media = json!({"mode": "dynamic", "codecs": ["PCMU"]});
    for app in [app, other] {
        world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
    }
    world.heard(app);
    let (mut last, mut to) = (json!(null), String::new());
    for call in 0..60 {
        world.sip.clear();
        world.invite(&format!("t{call}"), "5000");
        last = world.event(app, "call.offering")["leg"]["leg"].clone();
        world.call(app, "call.answer", json!({"leg": last}));
        world.event(app, "media.open_channel");
        world.call(app, "call.set_media", json!({"leg": last, "ip": "127.0.0.1", "port": 30_000}));
        let ok = world.sip.iter().find(|sent| sent.starts_with("SIP/2.0 200")).expect("answered").clone();
        to = header(&ok, "To").to_owned();
        world.in_dialog(&format!("t{call}"), "ACK", 1, &to);
        world.frames.clear();
    }
    world.call(app, "device.close", json!({"device": "RP_MAIN"}));
    let asked = |told: &[String]| told.iter().filter(|told| told.starts_with("media.open_channel")).count();
    let first = world.heard(other);
    assert!((1..=16).contains(&asked(&first)), "{} in one step", asked(&first));
    // What the last call's application wants finds it asked for.
    world.send(other, "call.set_media", json!({"leg": last, "ip": "127.0.0.1", "port": 30_010}));
    let now = take(&mut world, other);
    assert!(now.iter().any(|frame| frame["result"].is_object()), "{now:?}");
    assert!(now.iter().any(|frame| frame["params"]["type"] == "media.open_channel"), "{now:?}");
    world.pass(Duration::from_secs(1));
    assert_eq!(asked(&first) + 1 + asked(&world.heard(other)), 60);
    world.in_dialog("t59", "BYE", 2, &to);
    world.node.check().expect("all agrees");
}

/// So many applications of one user with one certificate, each with a device.
fn crowd(number: u64, end: Option<Duration>) -> World {
    let limits = "service_parameters: {max_unopened_connections: 1000";
    let mut world = World::with(&many("").replace("service_parameters: {", &format!("{limits}, ")));
    let since = world.wall.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let not_after = end.map(|end| (since + end).as_secs());
    for one in 1..=number {
        let client_cn = not_after.map(|_| "ivr".into());
        let app = world.connect_by(one, CtiTransport::Tls { client_cn, not_after, serial: None });
        let mut wish = json!({"user": "ivr", "application": "test", "heartbeat_ms": 3_600_000});
        if not_after.is_none() {
            wish["password"] = json!("secret");
        }
        assert!(world.call(app, "provider.open", wish)["result"].is_object());
        world.frames.clear();
        open(&mut world, app, &format!("PORT_{}", 1_000 + one));
    }
    world.frames.clear();
    world.reported();
    world
}

/// What is due in a step, and in all, until nothing is due.
fn due_now(world: &mut World, name: &str) -> (usize, usize) {
    let (mut most, mut all) = (0, 0);
    while world.node.next_timeout().is_some_and(|at| at <= world.now) {
        world.input(Input::Timeout);
        let told = world.reported().iter().filter(|told| **told == name).count();
        (most, all) = (most.max(told), all + told);
    }
    (most, all)
}

#[test]
fn hundreds_of_connections_with_one_certificate_end_a_few_at_a_time() {
    let (minute, month) = (Duration::from_secs(60), Duration::from_secs(30 * 24 * 3_600));
    let mut world = crowd(150, Some(month + 30 * minute));
    (world.now, world.wall) = (world.now + 40 * minute, world.wall + 40 * minute);
    let told = due_now(&mut world, "CtiProviderPeerCertExpireSoon");
    assert!(told.0 <= 64 && told.1 == 150, "each is told once that it ends soon: {told:?}");
    let mut world = crowd(150, Some(30 * minute));
    (world.now, world.wall) = (world.now + 40 * minute, world.wall + 40 * minute);
    let told = due_now(&mut world, "CtiProviderClosePeerCertExpired");
    assert!(told.0 <= 64 && told.1 == 150, "{told:?}");
    assert_eq!(world.closed.len(), 150);
}

#[test]
fn of_hundreds_of_sessions_with_an_old_password_none_is_served_although_they_close_in_portions() {
    let mut world = crowd(150, None);
    let other =
        many("").replace("service_parameters: {", "service_parameters: {max_unopened_connections: 1000, ");
    let hash =
        "$argon2id$v=19$m=19456,t=2,p=1$d29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";
    let other = other.replacen("HASH", hash, 1);
    world.reload(&other);
    assert!((1..=64).contains(&world.closed.len()), "{} in one step", world.closed.len());
    let mut connections = (1..=150).rev().map(protocol::session::ConnectionId);
    let last =
        connections.find(|connection| !world.closed.contains(connection)).expect("not all in one step");
    world.frames.clear();
    world.send(last, "device.close", json!({"device": "PORT_1150"}));
    let told = take(&mut world, last);
    let reasons: Vec<&Value> = told.iter().map(|frame| &frame["params"]["reason"]).collect();
    assert_eq!(reasons.last(), Some(&&json!("credential_changed")), "{told:?}");
    assert!(told.iter().all(|frame| frame.get("result").is_none()));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.closed.len(), 150);
}

#[test]
fn hundreds_of_sessions_with_an_old_password_are_told_in_portions_and_who_asks_is_told_first() {
    let mut world = crowd(150, None);
    let grace = "service_parameters: {max_unopened_connections: 1000, credential_change_grace: 10s, ";
    let same = many("").replace("service_parameters: {", grace);
    let hash =
        "$argon2id$v=19$m=19456,t=2,p=1$d29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";
    for (yaml, state) in [(same.replacen("HASH", hash, 1), "raised"), (same, "cleared")] {
        world.reload(&yaml);
        let told = |world: &World| world.frames.values().map(std::collections::VecDeque::len).sum::<usize>();
        assert!((1..=64).contains(&told(&world)), "{} in one step", told(&world));
        let last = protocol::session::ConnectionId(
            (1..=150)
                .rfind(|one| !world.frames.contains_key(&protocol::session::ConnectionId(*one)))
                .expect("one"),
        );
        world.send(last, "provider.heartbeat", json!({}));
        let heard = take(&mut world, last);
        assert_eq!(heard[0]["params"]["alarm"]["state"], state, "{heard:?}");
        assert!(heard[1]["result"].is_object() && heard.len() == 2, "{heard:?}");
        while world.node.next_timeout().is_some_and(|at| at <= world.now) {
            let before = told(&world);
            world.input(Input::Timeout);
            assert!(told(&world) - before <= 64, "{} in one step", told(&world) - before);
        }
        assert_eq!(told(&world), 149, "each once");
        assert_eq!(
            world.reported().iter().filter(|name| **name == "CtiProviderCredentialChanged").count(),
            150
        );
        world.frames.clear();
    }
    world.pass(Duration::from_secs(11));
    assert!(world.closed.is_empty(), "the password is theirs again");
}

#[test]
fn hundreds_of_sessions_with_other_privileges_are_told_in_portions_and_before_anything_else() {
    let groups = |more: &str| {
        let limits = "service_parameters: {max_unopened_connections: 1000, ";
        let yaml = many("").replace("service_parameters: {", limits);
        yaml.replacen("groups: [Standard CTI Enabled]", &format!("groups: [Standard CTI Enabled{more}]"), 1)
    };
    let mut world = crowd(150, None);
    world.reload(&groups(", Standard CTI Allow Control of All Devices"));
    world.pass(Duration::from_secs(1));
    world.frames.clear();
    world.reload(&groups(""));
    let told = |world: &World| world.frames.values().map(std::collections::VecDeque::len).sum::<usize>();
    assert!(told(&world) <= AT_ONCE + 3, "{} in one step", told(&world));
    let last = protocol::session::ConnectionId(
        (1..=150)
            .rfind(|one| !world.frames.contains_key(&protocol::session::ConnectionId(*one)))
            .expect("one"),
    );
    world.send(last, "provider.heartbeat", json!({}));
    let first = take(&mut world, last);
    let kinds: Vec<&Value> = first.iter().map(|frame| &frame["params"]["type"]).collect();
    assert_eq!(kinds[..2], ["provider.privileges_changed", "provider.out_of_service"]);
    assert!(first[2]["result"].is_object(), "{first:?}");
    let end = world.now + Duration::from_secs(1);
    while world.node.next_timeout().is_some_and(|at| at < end) {
        let before = told(&world);
        world.pass_to_next();
        assert!(told(&world) - before <= AT_ONCE + 3, "{} in one step", told(&world) - before);
    }
    for number in (1..=150).map(protocol::session::ConnectionId).filter(|number| *number != last) {
        let heard = world.heard(number);
        assert_eq!(heard[..2], ["provider.privileges_changed", "provider.out_of_service"]);
        assert!(heard.contains(&"provider.in_service".to_owned()), "{heard:?}");
    }
}

#[test]
fn a_kept_session_with_hundreds_of_devices_ends_in_portions_and_nothing_of_it_is_kept() {
    let mut world = World::with(&many("").replace("id: ivr,", "id: ivr, session_resume_grace: 10s,"));
    world.input(Input::Restored(Box::default(), None));
    let app = world.application(1, "ivr");
    for port in 1001..=1300 {
        open(&mut world, app, &format!("PORT_{port}"));
    }
    for call in 0..20 {
        answer_call(&mut world, app, &format!("t{call}"), &(6_201 + call).to_string());
    }
    assert_eq!((world.kept.sessions.len(), world.kept.legs.len()), (1, 20));
    world.input(Input::CtiClosed(app));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.kept.sessions.len(), 0, "at once");
    assert!(!world.node.has_kept_all() && !world.kept.legs.is_empty());
    world.pass(Duration::from_secs(2));
    assert!(world.node.has_kept_all());
    assert_eq!(world.kept.legs.len(), 0);
}

#[test]
fn what_a_reload_takes_from_a_kept_session_is_kept_so_in_portions() {
    let mut world = World::with(&many("").replace("id: ivr,", "id: ivr, session_resume_grace: 10s,"));
    world.input(Input::Restored(Box::default(), None));
    let app = world.application(1, "ivr");
    for port in 1001..=1300 {
        open(&mut world, app, &format!("PORT_{port}"));
    }
    let kept =
        |world: &World| world.kept.sessions.values().map(|session| session.devices.len()).sum::<usize>();
    assert_eq!(kept(&world), 300);
    let shut = many(", allow_cti_control: false").replace("id: ivr,", "id: ivr, session_resume_grace: 10s,");
    world.reload(&shut);
    assert!(!world.node.has_kept_all());
    world.pass(Duration::from_secs(2));
    assert!(world.node.has_kept_all(), "and the world has compared it");
    let session = world.kept.sessions.values().next().expect("it is kept");
    assert!(session.devices.values().all(|device| device.device.restricted));
    world.reload(&CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 10s,"));
    world.pass(Duration::from_secs(2));
    assert_eq!((world.node.has_kept_all(), kept(&world)), (true, 0));
}

#[test]
fn keeping_that_begins_anew_says_thousands_of_things_in_portions() {
    let mut world = World::with(&many("").replace("id: ivr,", "id: ivr, session_resume_grace: 10s,"));
    world.input(Input::Restored(Box::default(), None));
    let app = world.application(1, "ivr");
    for port in 1001..=1300 {
        open(&mut world, app, &format!("PORT_{port}"));
    }
    world.input(Input::StoreLost("full".into()));
    world.input(Input::StoreReady);
    assert!(!world.node.has_kept_all());
    // What changes meanwhile is right in the end.
    world.call(app, "device.close", json!({"device": "PORT_1300"}));
    world.heard(app);
    answer_call(&mut world, app, "t", "6200");
    world.pass(Duration::from_secs(2));
    assert!(world.node.has_kept_all(), "and the world has compared it");
    let kept = world.kept.sessions.values().next().expect("a session");
    assert_eq!((kept.devices.len(), world.kept.legs.len()), (299, 1));
}

#[test]
fn an_administrator_gets_a_long_list_when_it_is_made() {
    let (mut world, app) = opened();
    answer_call(&mut world, app, "a", "6600");
    for (request, names) in
        [(AdminRequest::Devices, 603), (AdminRequest::Sessions, 1), (AdminRequest::Calls, 1)]
    {
        world.answers.clear();
        let at_once = matches!(request, AdminRequest::Calls);
        world.input(Input::Admin(AdminToken(1), request.clone()));
        assert_eq!(world.answers.len(), usize::from(at_once), "{request:?}");
        world.pass(Duration::from_secs(1));
        let answer = world.answers.pop().expect("an answer").expect("a list");
        assert_eq!(answer.as_array().map(Vec::len), Some(names), "{request:?}");
        if let Some(devices) = answer[0]["devices"].as_array() {
            assert_eq!(devices.len(), PORTS);
        }
    }
}

#[test]
fn goodbyes_at_a_stop_leave_in_the_order_of_the_connections() {
    let mut world = World::new();
    let mut apps: Vec<CtiConnection> = [7, 3, 30, 12, 1, 29, 8].map(|n| world.application(n, "ivr")).into();
    for number in [90, 50, 70] {
        apps.push(world.connect(number));
    }
    world.input(Input::Stop);
    apps.sort_unstable();
    assert_eq!(world.closed, apps);
}

#[test]
fn a_soft_limit_is_judged_in_the_same_way_by_whatever_it_is_changed() {
    let yaml = |limit: u32, text: &str| {
        let limits = format!("service_parameters: {{max_devices_per_provider: {limit}}}\ncluster:");
        let ports = format!(
            "  - {{name: \"PORT_[101-130]\", type: cti_port, pool: Default, lines: [\"[6101-6130]\"], description: {text}}}\ntrunks:"
        );
        CONFIG.replace("cluster:", &limits).replace("trunks:", &ports)
    };
    let mut world = World::with(&yaml(20, "one"));
    let app = world.application(1, "ivr");
    for port in 101..=121 {
        open(&mut world, app, &format!("PORT_{port}"));
    }
    let alarms = |world: &mut World| -> Vec<String> {
        world.pass(Duration::from_millis(500));
        world.heard(app).into_iter().filter(|told| told.starts_with("alarm")).collect()
    };
    assert_eq!(alarms(&mut world), ["alarm MaxDevicesPerProviderExceeded raised"]);
    world.call(app, "device.close", json!({"device": "PORT_121"}));
    assert_eq!(alarms(&mut world), [""; 0], "it is kept again a tenth below");
    world.reload(&yaml(20, "two"));
    assert_eq!(alarms(&mut world), [""; 0], "nor does a reload that changes something else say so");
    world.reload(&yaml(30, "two"));
    assert_eq!(alarms(&mut world), ["alarm MaxDevicesPerProviderExceeded cleared"]);
    world.reload(&yaml(19, "two"));
    assert_eq!(alarms(&mut world), ["alarm MaxDevicesPerProviderExceeded raised"]);
    let refused = world.call(app, "device.close", json!({"device": "PORT_121"}));
    assert_eq!(refusal(&refused), "DEVICE_NOT_OPEN");
    world.reload(&yaml(19, "two").replace("\"PORT_*\"]", "\"PORT_001\"]"));
    assert_eq!(alarms(&mut world), ["alarm MaxDevicesPerProviderExceeded cleared"], "it has lost them all");
}

#[test]
fn of_hundreds_of_timers_that_are_due_together_some_run_in_one_step() {
    let mut world = World::new();
    let app = world.application(1, "ivr");
    let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
    world.call(app, "device.open", json!({"device": "RP_MAIN", "media": media}));
    world.event(app, "device.in_service");
    for call in 0..160 {
        answer_call(&mut world, app, &format!("t{call}"), "5000");
    }
    world.input(Input::CtiClosed(app));
    world.pass(Duration::from_millis(200));
    world.sip.clear();
    // The node stood still meanwhile: each BYE is to be sent again, and nobody has answered.
    world.now += Duration::from_millis(700);
    let (mut most, mut all) = (0, 0);
    while world.node.next_timeout().is_some_and(|at| at <= world.now) {
        world.input(Input::Timeout);
        most = most.max(world.sip.len());
        all += world.sip.drain(..).count();
    }
    assert!(all >= 160 && most <= 140, "{most} in one step, {all} in all");
}
