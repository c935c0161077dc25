//! `partitions`, `calling_search_spaces` and the keys that name them.

use super::{good, mistakes, only, with};
use crate::config::parse;
use std::fmt::Write as _;

/// Partitions `a`, `b` and space `ab`, with these sections besides.
fn spaces(lines: &str) -> String {
    let known = "partitions: [a, {name: b, description: Bee}]\n\
                 calling_search_spaces: [{name: ab, partitions: [a, b]}, {name: only_a, partitions: [a]}]\n";
    with("", &format!("{known}{lines}"))
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = parse("f.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let shown = loaded.warnings.iter().map(ToString::to_string);
    shown.filter(|warning| !warning.contains("certificates are missing")).collect()
}

#[test]
fn the_plan_has_partitions_spaces_and_limits() {
    let config = good(&spaces(
        "service_parameters: {max_calls_per_trunk: 7}\n\
         directory_numbers: [{dn: \"5000\", partition: a, calling_search_space: ab, max_calls_per_second: 3}]\n\
         trunks: [{name: t, host: a.example, calling_search_space: only_a, block_offnet_to_offnet: false}, \
                  {name: u, host: b.example, max_calls: 5, max_calls_per_second: 2}]\n\
         route_patterns: [{pattern: 9.!, trunk: t, partition: b}, {pattern: 9.!, trunk: u, partition: a}]\n\
         park_numbers: [\"88\", {numbers: \"90-92\", partition: a}]\n",
    ));
    let plan = config.plan();
    let number = &plan.numbers[0];
    assert_eq!(number.partition, Some("a".into()));
    assert_eq!(number.calling_search_space, Some("ab".into()));
    assert_eq!(number.max_calls_per_second, Some(3));
    let trunks: Vec<_> =
        plan.trunks.iter().map(|t| (t.block_offnet_to_offnet, t.max_calls, t.max_calls_per_second)).collect();
    assert_eq!(trunks, [(false, 7, 1000), (true, 5, 2)]);
    let partitions: Vec<_> = plan.patterns.iter().map(|pattern| pattern.partition.clone()).collect();
    assert_eq!(partitions, [Some("b".into()), Some("a".into())], "one pattern in two partitions");
    let parks: Vec<_> = plan.park_numbers.iter().map(|p| (p.dn.as_str(), p.partition.clone())).collect();
    assert_eq!(parks.len(), 4);
    assert_eq!((&parks[0], &parks[3]), (&("88", None), &("92", Some("a".into()))));
    let off =
        good(&spaces("service_parameters: {block_offnet_to_offnet: false}\ntrunks: [{name: t, host: a}]"));
    assert!(!off.plan().trunks[0].block_offnet_to_offnet, "the cluster's is the trunk's");
}

#[test]
fn names_that_nobody_defined_are_mistakes_with_a_hint() {
    for (lines, wanted) in [
        (
            "directory_numbers: [{dn: \"1\", partition: insde}]\npartitions: [inside]",
            "there is no partition `insde`: did you mean `inside`?",
        ),
        (
            "calling_search_spaces: [{name: staff, partitions: [inside, ousted]}]\npartitions: [inside, outside]",
            "calling_search_spaces[0].partitions[1]: there is no partition `ousted`",
        ),
        (
            "trunks: [{name: t, host: a, calling_search_space: stuff}]\n\
             calling_search_spaces: [{name: staff, partitions: []}]",
            "trunks[0].calling_search_space: there is no calling search space `stuff`: did you mean `staff`?",
        ),
        (
            "park_numbers: [{numbers: \"88\", partition: x}]",
            "park_numbers[0].partition: there is no partition `x`",
        ),
        (
            "route_patterns: [{pattern: 9.!, trunk: t, partition: x}]\ntrunks: [{name: t, host: a}]",
            "route_patterns[0].partition: there is no partition `x`",
        ),
    ] {
        let message = only(&with("", lines));
        assert!(message.contains(wanted), "{message}");
    }
    let phone = "devices: [{name: P, type: cti_port, pool: Default, calling_search_space: x, \
                 lines: [{dn: \"1\", partition: y}]}]\n";
    let both = mistakes(&with("devices", phone));
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.iter().any(|m| m.contains("devices[0].calling_search_space: there is no calling search")));
    assert!(both.iter().any(|m| m.contains("devices[0].lines[0].partition: there is no partition `y`")));
}

#[test]
fn one_number_is_in_one_partition() {
    for (lines, wanted) in [
        (
            "directory_numbers: [{dn: \"1\", partition: a}, {dn: \"1\", partition: b}]",
            "the directory number `1` is there twice, first in f.yaml:8: a number is in one partition only",
        ),
        (
            "trunks: [{name: t, host: h}]\n\
             route_patterns: [{pattern: 9.!, trunk: t, partition: a}, {pattern: 9.!, trunk: t, partition: a}]",
            "the route pattern `9.!` in partition `a` is there twice",
        ),
    ] {
        let message = only(&spaces(lines));
        assert!(message.contains(wanted), "{message}");
    }
    assert!(only(&with("", "partitions: [a, {name: a}]")).contains("the partition `a` is there twice"));
    let ports = |first: &str, second: &str, numbers: &str| {
        let devices = format!(
            "devices:\n  - {{name: \"P_[1-2]\", type: cti_port, pool: Default, lines: [{first}]}}\n  \
             - {{name: Q, type: cti_port, pool: Default, lines: [{second}]}}\n"
        );
        let known = "partitions: [a, b]\ncalling_search_spaces: [{name: ab, partitions: [a, b]}]\n";
        with("devices", &format!("{devices}{known}{numbers}"))
    };
    let range = "{dn: \"[51-52]\", partition: a, calling_search_space: ab}";
    let config = good(&ports(range, "\"52\"", ""));
    let number = config.numbers.iter().find(|number| number.dn.as_str() == "52").expect("of the range");
    assert_eq!(number.partition, Some("a".into()));
    assert_eq!(number.calling_search_space, Some("ab".into()));
    let differs = only(&ports(range, "{dn: \"52\", partition: b}", ""));
    assert!(differs.starts_with("devices[1].lines[0].partition: the partition of `52` is `a`, says f.yaml:"));
    let entry = only(&ports(range, "\"7\"", "directory_numbers: [{dn: \"51\", calling_search_space: ab}]"));
    assert!(entry.contains("the partition of `51` is none, says f.yaml:"), "{entry}");
}

#[test]
fn what_nobody_could_ever_reach_is_warned_of() {
    let told = warnings(&with(
        "",
        "partitions: [lost, used]\ncalling_search_spaces: [{name: s, partitions: [used]}]",
    ));
    assert_eq!(
        told,
        ["f.yaml:6:14: partitions[name=lost]: nobody reaches `lost`: no calling search space has it"]
    );
    let forwards = |own: &str, forward: &str| {
        spaces(&format!(
            "trunks: [{{name: t, host: h}}]\nroute_patterns: [{{pattern: 9.!, trunk: t, partition: b}}]\n\
             directory_numbers:\n  - {{dn: \"5000\", {own}forward: {{{forward}}}}}\n  - {{dn: \"6\", partition: a, forward: {{unregistered: \"5000\"}}}}\n"
        ))
    };
    for (own, forward, warned) in [
        ("", "all: \"91\"", vec!["all"]),
        ("", "busy: \"91\", no_answer: \"6\"", vec!["busy", "no_answer"]),
        ("calling_search_space: only_a, ", "unregistered: \"91\", on_failure: \"6\"", vec!["unregistered"]),
        ("calling_search_space: ab, ", "all: \"91\", busy: \"6\"", vec![]),
    ] {
        let told = warnings(&forwards(own, forward));
        assert_eq!(told.len(), warned.len(), "{told:?}");
        for (told, key) in told.iter().zip(warned) {
            assert!(told.contains(&format!("directory_numbers[0].forward.{key}: a call to `5000` is never")));
        }
    }
}

#[test]
fn partitions_and_spaces_are_bounded() {
    let list = |count: usize| (0..count).fold(String::new(), |list, n| list + &format!("p{n},"));
    let named = |count| with("", &format!("partitions: [{}]", list(count)));
    assert_eq!(mistakes(&named(1_000)), [""; 0]);
    assert_eq!(only(&named(1_001)), "partitions: more than 1000");
    let mut spaces = "calling_search_spaces:\n".to_owned();
    for n in 0..1_001 {
        let _ = writeln!(spaces, "  - {{name: s{n}, partitions: []}}");
    }
    assert_eq!(only(&with("", &spaces)), "calling_search_spaces: more than 1000");
    let long =
        format!("partitions: [{0}]\ncalling_search_spaces: [{{name: s, partitions: [{0}]}}]", list(101));
    assert_eq!(only(&with("", &long)), "calling_search_spaces[0].partitions[100]: more than 100 partitions");
    for (lines, wanted) in [
        ("trunks: [{name: t, host: h, max_calls: 0}]", "out of range: 1 to 1000000"),
        ("trunks: [{name: t, host: h, max_calls_per_second: 100001}]", "out of range: 1 to 100000"),
        ("directory_numbers: [{dn: \"1\", max_calls_per_second: 0}]", "out of range: 1 to 100000"),
        ("trunks: [{name: t, host: h, block_offnet_to_offnet: perhaps}]", "`true` or `false` is needed"),
        ("partitions: [5]", "a text is needed here"),
        ("calling_search_spaces: [{name: s, partitions: [a, a]}]\npartitions: [a]", "is in the list already"),
    ] {
        let message = only(&with("", lines));
        assert!(message.contains(wanted), "{message}");
    }
    let device = |rest: &str| {
        with("devices", &format!("devices: [{{name: P, type: cti_port, pool: Default, {rest}}}]"))
    };
    assert!(only(&device("max_calls: 10001")).contains("out of range: 1 to 10000"));
    let nameless = device("lines: [{partition: a}]") + "\npartitions: [a]";
    assert!(only(&nameless).contains("the key `dn` is missing"));
}

#[test]
fn dependencies_name_partitions_and_spaces() {
    let config = good(&spaces(
        "directory_numbers: [{dn: \"5000\", partition: a, calling_search_space: only_a}]\n\
         trunks: [{name: t, host: h, calling_search_space: ab}]\n\
         route_patterns: [{pattern: 9.!, trunk: t, partition: a}]\n\
         park_numbers: [{numbers: \"88\", partition: a}]\n",
    ));
    let told = |what: &str| -> Vec<String> {
        let found = config.dependencies(what);
        found.iter().map(|d| format!("{} {}: {}", d.kind, d.name, d.how)).collect()
    };
    assert_eq!(
        told("5000"),
        [
            "device RP: line 1",
            "partition a: 5000 is in it",
            "calling_search_space ab: reaches it by partition a",
            "calling_search_space only_a: reaches it by partition a",
        ]
    );
    assert_eq!(
        told("a"),
        [
            "directory_number 5000: is in the partition",
            "route_pattern 9.!: is in the partition",
            "park_number 88: is in the partition",
            "calling_search_space ab: has the partition as number 1",
            "calling_search_space only_a: has the partition as number 1",
        ]
    );
    assert_eq!(told("ab"), ["trunk t: has the calling search space"]);
    assert_eq!(told("only_a"), ["directory_number 5000: has the calling search space"]);
    assert_eq!(told("b"), ["calling_search_space ab: has the partition as number 2"]);
}
