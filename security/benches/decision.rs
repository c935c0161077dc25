//! What a permission decision costs. `cargo bench -p security`.

#![allow(missing_docs)] // criterion's macros make public items

use criterion::{Criterion, criterion_group, criterion_main};
use device_model::DeviceName;
use security::devices::ControlledDevices;
use security::{Action, Actor, DeviceFacts, Groups, Mode, Policy, StandardGroup, Transport, User, UserKind};
use std::hint::black_box;

/// Devices of the cluster in every case.
const DEVICES: u32 = 10_000;

fn name(number: u32) -> String {
    format!("PORT_{number:05}")
}

fn user(id: &str, groups: &[StandardGroup], list: impl IntoIterator<Item = String>) -> User {
    let mut controlled = ControlledDevices::default();
    for entry in list {
        controlled.add(&entry).expect("a good entry");
    }
    let groups = groups.iter().fold(Groups::NONE, |groups, group| groups.with(*group));
    let (id, kind) = (id.into(), UserKind::ApplicationUser);
    User { id, kind, password_hash: None, groups, controlled, session_resume_grace: None }
}

fn policy() -> Policy {
    let enabled = [StandardGroup::CtiEnabled];
    let everything = [StandardGroup::CtiEnabled, StandardGroup::ControlOfAllDevices];
    let globs = (0..10).map(|n| format!("RP_{n}*")).chain(["PORT_*".to_owned()]);
    let users = [
        user("ten", &enabled, (0..10).map(name)),
        user("all", &enabled, (0..DEVICES).map(name)),
        user("glob", &enabled, globs),
        user("super", &everything, []),
        user("outside", &[], (0..10).map(name)),
    ];
    let devices = (0..DEVICES)
        .map(|number| (name(number).as_str().into(), DeviceFacts { allow_cti_control: number != 7 }));
    Policy::new(Mode::Secure, users, devices)
}

fn decisions(criterion: &mut Criterion) {
    let policy = policy();
    let (own, last, shut, unknown): (DeviceName, DeviceName, DeviceName, DeviceName) =
        (name(3).as_str().into(), name(DEVICES - 1).as_str().into(), name(7).as_str().into(), "NONE".into());
    let cases = [
        ("allowed: by a list of 10", "ten", Action::OpenDevice(&own), true),
        ("allowed: by a list of 10,000", "all", Action::OpenDevice(&last), true),
        ("allowed: by the eleventh glob", "glob", Action::OpenDevice(&last), true),
        ("allowed: to a super provider", "super", Action::OpenDevice(&last), true),
        ("allowed: what needs no device", "ten", Action::OpenProvider, true),
        ("refused: not on a list of 10", "ten", Action::OpenDevice(&last), false),
        ("refused: not on a list of 10,000", "all", Action::OpenDevice(&unknown), false),
        ("refused: restricted", "ten", Action::OpenDevice(&shut), false),
        ("refused: not CTI Enabled", "outside", Action::OpenDevice(&own), false),
        ("refused: privilege", "ten", Action::ModifyCallingNumber, false),
        ("refused: unknown user", "nobody", Action::OpenProvider, false),
    ];
    for (what, user, action, allowed) in cases {
        let actor = Actor { user, transport: Transport::Tls };
        assert_eq!(policy.decide(actor, action).allowed(), allowed, "{what}");
        criterion.bench_function(what, |bencher| {
            bencher.iter(|| policy.decide(black_box(actor), black_box(action)));
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
