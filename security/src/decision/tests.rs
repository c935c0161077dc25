use super::{Action, Actor, Decision, RefusalKind, Scope, Topic};
use crate::Transport;
use crate::devices::ControlledDevices;
use crate::groups::{Groups, StandardGroup};
use crate::policy::{DeviceFacts, Mode, Policy};
use crate::users::{User, UserKind};
use device_model::{DeviceName, Dn};
use std::fmt::Write as _;

const OWN: &str = "RP_MAIN";
const FOREIGN: &str = "RP_OTHER";
const UNKNOWN: &str = "RP_NONE";
const RESTRICTED: &str = "RP_SHUT";

fn policy(mode: Mode, groups: Groups) -> Policy {
    let mut controlled = ControlledDevices::default();
    for entry in [OWN, RESTRICTED, "PORT_*"] {
        controlled.add(entry).unwrap();
    }
    let user = User {
        id: "alice".into(),
        kind: UserKind::ApplicationUser,
        password_hash: None,
        groups,
        controlled,
        session_resume_grace: None,
    };
    let device = |name: &str, allow_cti_control| (name.into(), DeviceFacts { allow_cti_control });
    let devices = [device(OWN, true), device(FOREIGN, true), device(RESTRICTED, false)];
    Policy::new(mode, [user], devices).restricting(["5001".into()])
}

fn verdict(decision: &Decision) -> String {
    match decision {
        Decision::Allowed(rule) => format!("yes  {rule}"),
        Decision::Refused(refusal) => format!("no   {} ({})", refusal.kind.symbol(), refusal.rule),
    }
}

/// Every action × own, foreign, unknown and restricted device × transport × mode × telling sets of groups.
#[test]
fn the_decision_table() {
    let (own, foreign, unknown, restricted): (DeviceName, DeviceName, DeviceName, DeviceName) =
        (OWN.into(), FOREIGN.into(), UNKNOWN.into(), RESTRICTED.into());
    let (line, shut): (Dn, Dn) = ("5000".into(), "5001".into());
    let actions = [
        ("open provider", Action::OpenProvider),
        ("list controlled", Action::ListDevices(Scope::Controlled)),
        ("list all", Action::ListDevices(Scope::All)),
        ("open own device", Action::OpenDevice(&own)),
        ("open foreign device", Action::OpenDevice(&foreign)),
        ("open unknown device", Action::OpenDevice(&unknown)),
        ("open restricted device", Action::OpenDevice(&restricted)),
        ("switch own lamp", Action::SwitchMessageLamp(&own, &line)),
        ("switch own restricted line's lamp", Action::SwitchMessageLamp(&own, &shut)),
        ("switch foreign lamp", Action::SwitchMessageLamp(&foreign, &line)),
        ("modify calling number", Action::ModifyCallingNumber),
        ("monitor park", Action::MonitorPark),
        ("receive SRTP keys", Action::ReceiveSrtpKeys),
        ("monitor calls", Action::MonitorCalls),
        ("record calls", Action::RecordCalls),
        ("hear of the provider", Action::Hear(Topic::Provider)),
        ("hear of own device", Action::Hear(Topic::Device(&own))),
        ("hear of foreign device", Action::Hear(Topic::Device(&foreign))),
        ("hear of unknown device", Action::Hear(Topic::Device(&unknown))),
        ("hear of restricted device", Action::Hear(Topic::Device(&restricted))),
        ("hear own line", Action::Hear(Topic::Line(&own, &line))),
        ("hear own restricted line", Action::Hear(Topic::Line(&own, &shut))),
        ("hear foreign line", Action::Hear(Topic::Line(&foreign, &line))),
        ("hear unknown device's line", Action::Hear(Topic::Line(&unknown, &line))),
        ("hear restricted device's line", Action::Hear(Topic::Line(&restricted, &line))),
        ("hear of park numbers", Action::Hear(Topic::ParkNumbers)),
    ];
    let enabled = Groups::NONE.with(StandardGroup::CtiEnabled);
    let mut sets = vec![("no group".to_owned(), Groups::NONE), ("CTI Enabled".to_owned(), enabled)];
    for group in StandardGroup::ALL.into_iter().skip(1) {
        let short = group.name().trim_start_matches("Standard CTI ").trim_start_matches("Allow ");
        sets.push((format!("CTI Enabled + {short}"), enabled.with(group)));
    }
    let keys = enabled.with(StandardGroup::SecureConnection).with(StandardGroup::ReceptionOfSrtpKeyMaterial);
    sets.push(("CTI Enabled + Secure Connection + SRTP".into(), keys));
    let all: Groups = StandardGroup::ALL.into_iter().collect();
    sets.push(("every group".into(), all));
    sets.push(("every group but CTI Enabled".into(), all.without(StandardGroup::CtiEnabled)));

    let mut table = String::new();
    for (name, groups) in sets {
        for mode in [Mode::Secure, Mode::NonSecure] {
            for transport in [Transport::Tls, Transport::Plain] {
                let policy = policy(mode, groups);
                let _ = writeln!(table, "## {name}, {mode:?} cluster, {transport:?}");
                for (what, action) in actions {
                    let decision = policy.decide(Actor { user: "alice", transport }, action);
                    let _ = writeln!(table, "{what:<31}{}", verdict(&decision));
                }
                table.push('\n');
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn an_unknown_user_may_nothing() {
    let policy = policy(Mode::Secure, StandardGroup::ALL.into_iter().collect());
    let decision = policy.decide(Actor { user: "bob", transport: Transport::Tls }, Action::OpenProvider);
    assert!(matches!(decision, Decision::Refused(r) if r.kind == RefusalKind::LoginFailed));
}

#[test]
fn the_refusal_of_a_foreign_name_tells_nothing_of_its_existence() {
    let policy = policy(Mode::Secure, Groups::NONE.with(StandardGroup::CtiEnabled));
    let ask = |name: &str| {
        let device = DeviceName::from(name);
        let actor = Actor { user: "alice", transport: Transport::Tls };
        match policy.decide(actor, Action::OpenDevice(&device)) {
            Decision::Refused(refusal) => refusal.message.replace(name, "NAME"),
            Decision::Allowed(rule) => panic!("{name} was allowed by {rule}"),
        }
    };
    assert_eq!(ask(FOREIGN), ask(UNKNOWN));
    assert!(ask(FOREIGN).contains("controlled_devices") && ask(FOREIGN).contains("All Devices"));
}

#[test]
fn unknown_users_cost_a_password_check_like_known_ones() {
    let policy = policy(Mode::Secure, Groups::NONE);
    let (known, unknown) = (policy.hash_to_verify("alice"), policy.hash_to_verify("bob"));
    assert_eq!(known, unknown, "alice has no password: the decoy serves for her, too");
    assert!(!crate::password::verify(&unknown, &crate::Secret::new("wonderland".into())));
}

#[test]
fn the_controlled_list_holds_what_exists() {
    let policy = policy(Mode::Secure, Groups::NONE);
    let alice = policy.user("alice").unwrap();
    let names: Vec<&str> = policy.controlled_devices(alice).map(DeviceName::as_str).collect();
    assert_eq!(names, [OWN, RESTRICTED]);
}
