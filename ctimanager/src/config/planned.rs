//! What the file says and no node of this version does, told with its place: a warning; a mistake where something would
//! seem safe that is not. The table is [`protocol::planned`].

use super::fields::At;
use super::mistake::Report;
use super::yaml::Node;
use protocol::planned::{FEATURES, Feature, PLANNED, Setting};

/// Places of one setting that are told one by one; more are counted.
const MAX_TOLD: usize = 10;

/// Looks for all of it.
pub(super) fn check(root: &Node, report: &mut Report) {
    let root = At { node: root, path: String::new() };
    for feature in FEATURES {
        for setting in feature.settings {
            look_for(&root, feature, setting, report);
        }
        for group in feature.groups {
            let members = [values(&root, "users.groups"), values(&root, "user_groups.includes")].concat();
            let members = members.into_iter().filter(|at| at.scalar() == Some(group)).collect();
            warn(members, &format!("`{group}` is {feature}"), report);
        }
    }
    nodes(&root, report);
}

fn look_for(root: &At<'_>, feature: &Feature, setting: &Setting, report: &mut Report) {
    let mut found = values(root, setting.path);
    found.retain(|at| setting.value.is_none_or(|value| at.scalar() == Some(value)));
    let subject = setting.value.map(|value| format!("`{value}` is ")).unwrap_or_default();
    let message = format!("{subject}{}", feature.without_effect(setting));
    if setting.refused {
        found.iter().for_each(|at| at.wrong(report, message.as_str()));
    } else {
        warn(found, &message, report);
    }
}

/// Each node serves its own phones and applications: what another one would do for it is not done.
fn nodes(root: &At<'_>, report: &mut Report) {
    let nodes = root.entry("nodes").map(|at| at.listed()).unwrap_or_default();
    let more: Vec<At<'_>> = nodes.iter().skip(1).cloned().collect();
    let alone = format!(
        "nodes see each other, but each serves its own phones and applications: that these move to another node when one \
         fails does not work in this version ({PLANNED})"
    );
    warn(more, &alone, report);
    if nodes.len() > 1 {
        let closed = |at: &At<'_>| at.entry("cluster").is_none_or(|port| port.is_nothing());
        let closed = nodes.iter().filter(|at| closed(at)).cloned().collect();
        warn(closed, "without `cluster` (a port) other nodes can't connect to this one", report);
    }
    for (services, missing) in nodes.iter().filter_map(part_of_services) {
        let what =
            if missing == "callmanager" { "no device is in service" } else { "no application is served" };
        warn(
            vec![services],
            &format!("{what}, since no other node does it for this one in this version ({PLANNED})"),
            report,
        );
    }
}

/// A node's services, and which of them is missing.
fn part_of_services<'a>(node: &At<'a>) -> Option<(At<'a>, &'static str)> {
    let services = node.entry("services")?;
    let words: Vec<&str> = services.listed().iter().filter_map(At::scalar).collect();
    let missing = ["callmanager", "ctimanager"].into_iter().find(|word| !words.contains(word))?;
    (!words.is_empty()).then_some((services, missing))
}

/// The values at this path, through all lists on the way; what is nothing (`~`) is not there.
fn values<'a>(root: &At<'a>, path: &str) -> Vec<At<'a>> {
    path.split('.').fold(vec![root.clone()], |found, key| {
        let entries = found.iter().filter_map(|at| at.entry(key)).filter(|at| !at.is_nothing());
        entries.flat_map(|at| if at.is_list() { at.listed() } else { vec![at] }).collect()
    })
}

fn warn(found: Vec<At<'_>>, message: &str, report: &mut Report) {
    let more = found.len().saturating_sub(MAX_TOLD);
    for (index, at) in found.into_iter().take(MAX_TOLD).enumerate() {
        let last = index + 1 == MAX_TOLD && more > 0;
        let rest = if last { format!(" (and so in {more} more places)") } else { String::new() };
        at.warn(report, format!("{message}{rest}"));
    }
}
