//! What is taken and has no effect is told, with its place, and what would seem safe is refused.

use super::{Folder, with};
use crate::config::{load, parse};
use protocol::planned::FEATURES;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

/// The warnings, each as `PATH: what`; those about certificates left out.
fn warnings(text: &str) -> Vec<String> {
    let loaded = parse("f.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let told = loaded.warnings.iter().filter(|warning| !warning.message.contains("pki init"));
    told.map(|warning| format!("{}:{}: {}", warning.place.line, warning.path, warning.message)).collect()
}

#[test]
fn the_sample_of_the_contract_is_taken_and_what_has_no_effect_is_told() {
    let folder = Folder::new("contract");
    std::fs::create_dir_all(folder.0.join("secrets")).expect("a folder");
    folder.write("secrets/2001", "change-me\n");
    // What others can read would be warned of as well.
    std::fs::set_permissions(folder.0.join("secrets/2001"), Permissions::from_mode(0o600)).expect("its mode");
    folder.write("hq.yaml", include_str!("contract.yaml"));
    let loaded = load(&folder.0.join("hq.yaml")).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let mut told: Vec<&str> = loaded.warnings.iter().map(|warning| warning.path.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["cluster.security.pki", "park_numbers[0]", "service_parameters.park_reversion_timer",]);
    assert!(loaded.warnings.iter().filter(|w| w.place.line > 0).all(|w| w.place.column > 0), "places");
}

#[test]
fn each_planned_setting_is_told_where_it_stands_and_its_absence_is_not() {
    let phone = |rest: &str| {
        let digest = "digest: {user: u, password: secret}";
        with("devices", &format!("devices: [{{name: P, type: phone, pool: Default, {digest}, {rest}}}]"))
    };
    let node = |rest: &str| with("nodes", &format!("nodes: [{{name: cm1, host: 127.0.0.1, {rest}}}]"));
    let user =
        |group: &str| with("", &format!("users: [{{id: a, groups: [Standard CTI Enabled, {group}]}}]"));
    let [told] = &warnings(&phone("protocol: sccp"))[..] else { panic!("one") };
    assert_eq!(
        told,
        "5:devices[0].protocol: `sccp` is of no effect, since SCCP does not work in this version (planned): \
         the phone can't register and stays out of service"
    );
    for (text, path, wanted) in [
        (node("services: [callmanager]"), "nodes[0].services", "no application is served"),
        (node("services: [ctimanager]"), "nodes[0].services", "no device is in service"),
        (with("", "park_numbers: [\"8801-8810\"]"), "park_numbers[0]", "nothing can be parked"),
        (
            with("", "service_parameters: {park_reversion_timer: 60s}"),
            ".park_reversion_timer",
            "nothing can be parked",
        ),
        (user("Standard CTI Allow Call Recording"), "users[0].groups[1]", "since recording does not work"),
        (
            user("Standard CTI Allow Call Park Monitoring"),
            "users[0].groups[1]",
            "since call park does not work",
        ),
        (
            with("", "user_groups: [{name: W, includes: [Standard CTI Allow Call Monitoring]}]"),
            "user_groups[0].includes[0]",
            "silent monitoring",
        ),
        (
            with(
                "nodes",
                "nodes: [{name: cm1, host: 127.0.0.1, cluster: 7650}, {name: cm2, host: 127.0.0.2, cluster: 7650}]",
            ),
            "nodes[1]",
            "each serves its own phones",
        ),
    ] {
        let told = warnings(&text);
        assert!(told.len() == 1 && told[0].contains(path) && told[0].contains(wanted), "{text}: {told:?}");
    }
    for nothing in [
        phone("protocol: sip, media_encryption: required"),
        node("services: [callmanager, ctimanager], cluster: ~"),
        node("cluster: 7650"),
        with("", "service_parameters: {node_failure_timeout: 2s}"),
        with("", "park_numbers: ~"),
        with("", "park_numbers: []"),
        user("Standard CTI Secure Connection"),
    ] {
        assert_eq!(warnings(&nothing), [""; 0], "{nothing}");
    }
}

#[test]
fn a_node_of_several_that_has_no_port_for_others_is_told_of() {
    let text =
        with("nodes", "nodes: [{name: cm1, host: 127.0.0.1}, {name: cm2, host: 127.0.0.2, cluster: 7650}]");
    let told = warnings(&text);
    let closed: Vec<_> = told.iter().filter(|told| told.contains("can't connect")).collect();
    assert!(closed.len() == 1 && closed[0].contains("nodes[0]"), "{told:?}");
}

#[test]
fn many_places_are_counted() {
    let devices: String =
        (0..40).map(|n| format!(" - {{name: P{n}, type: phone, pool: Default, protocol: sccp}}\n")).collect();
    let told = warnings(&with("devices", &format!("devices:\n{devices}")));
    let told: Vec<&String> = told.iter().filter(|told| told.contains("SCCP")).collect();
    assert_eq!(told.len(), 10);
    assert!(told[9].ends_with("(and so in 30 more places)"), "{}", told[9]);
}

/// The page for administrators says the same as the table.
#[test]
fn the_page_names_what_is_planned() {
    let page = include_str!("../../../../docs/configuration.md");
    for feature in FEATURES {
        for setting in feature.settings {
            let value = setting.value.map(|value| format!("`{value}`")).unwrap_or_default();
            let refused = if setting.refused { "refused: " } else { "" };
            let row = format!("| `{}` | {value} | {refused}{} |", setting.path, setting.instead);
            assert!(page.contains(&row), "{row}");
        }
        for group in feature.groups {
            let row = format!("| {group} | {} |", feature.name);
            assert!(page.contains(&row), "{row}");
        }
    }
    let count = |of: fn(&protocol::planned::Feature) -> usize| FEATURES.iter().map(of).sum::<usize>();
    let section =
        page.split_once("## Planned").and_then(|(_, rest)| rest.split_once("\n## ")).expect("a section").0;
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.contains("---")).count();
    assert_eq!(rows - 2, count(|f| f.settings.len()) + count(|f| f.groups.len()), "and nothing else");
}
