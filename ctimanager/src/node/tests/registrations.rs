//! Registrations that outlive the process: what a node takes up, what it says, and what it makes of its keeper's news.

use super::world::{CONFIG, World};
use crate::node::registrations::{By, Registration, RegistrationNews, RegistrationRecord};
use crate::node::{AdminRequest, AdminToken, Input};
use std::time::{Duration, SystemTime};

/// With two phones; one has a longest registration of its own.
fn config() -> String {
    let phones = "devices:
  - {name: SEP1, type: phone, pool: Default, lines: [\"2001\"], digest: {user: p1, password: secret}}
  - {name: SEP2, type: phone, pool: Default, lines: [\"2002\"], digest: {user: p2, password: secret},
     registration_expiry_maximum: 1h}\n";
    CONFIG.replace("devices:\n", phones)
}

fn registration(world: &World, account: &str, number: &str, left: i64) -> Registration {
    let since = world.wall.duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch");
    let now = i64::try_from(since.as_millis()).expect("a time of this age");
    Registration {
        account: account.into(),
        number: number.into(),
        contact: format!("sip:{number}@127.0.0.1:5099"),
        q: 1000,
        path: Vec::new(),
        call_id: "c".into(),
        cseq: 3,
        instance: None,
        transport: By::Udp,
        remote: "127.0.0.1:5099".parse().expect("an address"),
        expires: u64::try_from(now + left * 1_000).expect("a time of this age"),
    }
}

fn restored(kept: impl FnOnce(&World) -> Vec<(u64, Registration)>, damage: Option<&str>) -> World {
    let mut world = World::with(&config());
    let kept = kept(&world);
    world.input(Input::Registrations(RegistrationNews::Restored(kept, damage.map(str::to_owned))));
    world
}

/// The names of the devices that are registered.
fn registered(world: &mut World) -> Vec<String> {
    world.input(Input::Admin(AdminToken(1), AdminRequest::Devices));
    let devices = world.answers.pop().expect("an answer").expect("devices");
    let all = devices.as_array().expect("a list").iter();
    all.filter(|device| device["registered"] == true)
        .map(|device| device["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn what_still_has_its_place_and_its_time_is_in_service_at_once() {
    let kept = |world: &World| {
        vec![
            (1, registration(world, "SEP1", "2001", 100)),
            (2, registration(world, "SEP2", "p2", 100)),
            (3, registration(world, "SEP1", "2002", 100)),
            (4, registration(world, "REMOVED", "2003", 100)),
            (5, registration(world, "SEP1", "2001", -1)),
        ]
    };
    let mut world = restored(kept, None);
    assert_eq!(registered(&mut world), ["SEP1", "SEP2"]);
    let gone = |record: &RegistrationRecord| {
        let RegistrationRecord::Gone(id) = record else { panic!("{record:?}") };
        *id
    };
    let mut said: Vec<u64> = world.registrations.drain(..).map(|record| gone(&record)).collect();
    said.sort_unstable();
    assert_eq!(said, [3, 4, 5], "another's line, a removed device, what is over");
    world.pass(Duration::from_secs(99));
    assert_eq!(registered(&mut world).len(), 2);
    world.pass(Duration::from_secs(2));
    assert_eq!(registered(&mut world), [""; 0]);
    assert_eq!(world.registrations.len(), 2);
}

#[test]
fn a_clock_that_was_set_back_makes_no_registration_longer_than_any_may_be() {
    let mut world = restored(|world| vec![(1, registration(world, "SEP1", "2001", 1_000_000))], None);
    world.pass(Duration::from_secs(3_599));
    assert_eq!(registered(&mut world), ["SEP1"]);
    world.pass(Duration::from_secs(2));
    assert_eq!(registered(&mut world), [""; 0]);
}

#[test]
fn what_was_lost_is_said_anew_as_it_is() {
    let mut world = restored(|world| vec![(7, registration(world, "SEP1", "2001", 100))], None);
    world.pass(Duration::from_secs(10));
    world.input(Input::Registrations(RegistrationNews::Wanted));
    let expected = registration(&world, "SEP1", "2001", 90);
    let said = std::mem::take(&mut world.registrations);
    assert_eq!(said, [RegistrationRecord::Anew, RegistrationRecord::Bound(7, Box::new(expected))]);
}

#[test]
fn a_device_that_a_reload_removes_is_forgotten_on_the_disk_too() {
    let mut world = restored(|world| vec![(7, registration(world, "SEP1", "2001", 100))], None);
    world.reload(CONFIG);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.registrations, [RegistrationRecord::Gone(7)]);
}

#[test]
fn the_keepers_troubles_are_alarms() {
    let mut world = restored(|_| Vec::new(), Some("line 3 is damaged"));
    assert_eq!(world.reported(), ["RegistrationStoreUnreadable"]);
    for _ in 0..2 {
        world.input(Input::Registrations(RegistrationNews::Suspended("no space".into())));
    }
    world.input(Input::Registrations(RegistrationNews::Resumed));
    assert_eq!(world.reported(), ["RegistrationStoreSuspended"; 2], "raised once, cleared once");
}

#[test]
fn without_a_keeper_nothing_is_said() {
    let mut world = World::with(&config());
    world.input(Input::Registrations(RegistrationNews::Resumed));
    world.pass(Duration::from_secs(1));
    assert!(world.registrations.is_empty() && world.reported().is_empty());
}
