//! `directory_numbers`, `route_patterns`, `park_numbers`.

use super::cluster::MAX_NAME;
use super::partitions::{call_rate, partition_of, space_of};
use crate::config::dial::{self, Pattern};
use crate::config::fields::At;
use crate::config::mistake::Report;
use crate::config::names::{Kind, Names};
use crate::config::{DirectoryNumber, ParkNumber, RoutePattern};
use device_model::Dn;
use device_model::plan::Forwards;
use sip::message::text::MAX_SHOWN;
use std::time::Duration;

pub(in crate::config) const NUMBER_KEYS: &[&str] = &[
    "dn",
    "description",
    "display",
    "max_calls",
    "busy_trigger",
    "ring_duration",
    "forward",
    "auto_accept",
    "allow_cti_control",
    "partition",
    "calling_search_space",
    "max_calls_per_second",
];
pub(in crate::config) const FORWARD_KEYS: &[&str] =
    &["all", "busy", "no_answer", "unregistered", "on_failure"];
pub(in crate::config) const PATTERN_KEYS: &[&str] = &["pattern", "trunk", "discard", "partition"];
pub(in crate::config) const PARK_KEYS: &[&str] = &["numbers", "partition"];
pub(in crate::config) const DISCARDS: &[(&str, bool)] = &[("pre_dot", true), ("none", false)];
/// Calls at once on a number.
pub(in crate::config) const MAX_CALLS: std::ops::RangeInclusive<u64> = 1..=10_000;
/// How long a number may ring.
pub(in crate::config) const RING: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(300);

pub(in crate::config) fn number(
    at: &At<'_>,
    names: &mut Names,
    report: &mut Report,
) -> Option<DirectoryNumber> {
    let fields = at.fields(NUMBER_KEYS, report)?;
    let dn_at = fields.require("dn", report);
    let dn = dn_at.as_ref().and_then(|at| dn(at, report));
    let first = match (&dn_at, &dn) {
        (Some(at), Some(dn)) => names.define(Kind::Number, dn.as_str(), at, report),
        _ => false,
    };
    let description = fields.get("description").and_then(|at| at.name(128, report)).unwrap_or_default();
    let display = fields.get("display").and_then(|at| at.name(MAX_SHOWN, report));
    let count = |key: &str, report: &mut Report| {
        let number = fields.get(key).and_then(|at| at.integer(MAX_CALLS, report));
        number.and_then(|n| u32::try_from(n).ok())
    };
    let (max_calls, busy_trigger) = (count("max_calls", report), count("busy_trigger", report));
    let flag = |key: &str, default, report: &mut Report| {
        fields.get(key).and_then(|at| at.boolean(report)).unwrap_or(default)
    };
    let number = DirectoryNumber {
        dn: dn?,
        description: description.into(),
        display: display.map(Into::into),
        max_calls,
        busy_trigger,
        ring_duration: fields.get("ring_duration").and_then(|at| at.duration(RING, report)),
        forward: fields.get("forward").map(|at| forwards(&at, names, report)).unwrap_or_default(),
        auto_accept: flag("auto_accept", false, report),
        allow_cti_control: flag("allow_cti_control", true, report),
        partition: partition_of(&fields, names, report),
        calling_search_space: space_of(&fields, names, report),
        max_calls_per_second: call_rate(&fields, report),
        place: at.place(),
    };
    first.then_some(number)
}

fn forwards(at: &At<'_>, names: &mut Names, report: &mut Report) -> Forwards {
    let Some(fields) = at.fields(FORWARD_KEYS, report) else { return Forwards::default() };
    let mut destination = |key: &str| -> Option<Dn> {
        let at = fields.get(key)?;
        let number = dn(&at, report)?;
        names.refer(Kind::Number, number.as_str(), &at);
        Some(number)
    };
    Forwards {
        all: destination("all"),
        busy: destination("busy"),
        no_answer: destination("no_answer"),
        unregistered: destination("unregistered"),
        on_failure: destination("on_failure"),
    }
}

/// A directory number.
pub(in crate::config) fn dn(at: &At<'_>, report: &mut Report) -> Option<Dn> {
    dial::number(at.text(report)?).map_err(|message| at.wrong(report, message)).ok()
}

pub(in crate::config) fn pattern(
    at: &At<'_>,
    names: &mut Names,
    report: &mut Report,
) -> Option<RoutePattern> {
    let fields = at.fields(PATTERN_KEYS, report)?;
    let pattern_at = fields.require("pattern", report);
    let text = pattern_at.as_ref().and_then(|at| at.text(report)).map(dial::plain_pattern);
    let partition = partition_of(&fields, names, report);
    // The same pattern in two partitions leads different callers by different trunks.
    let unique = |text: &str| match &partition {
        Some(partition) => format!("{text}` in partition `{partition}"),
        None => text.to_owned(),
    };
    let parsed = match (&pattern_at, &text) {
        (Some(at), Some(text)) => Pattern::parse(text)
            .map_err(|message| at.wrong(report, message))
            .ok()
            .filter(|_| names.define(Kind::Pattern, &unique(text), at, report)),
        _ => None,
    };
    let trunk = fields.require("trunk", report).and_then(|at| {
        let trunk = at.name(MAX_NAME, report)?;
        names.refer(Kind::Trunk, trunk, &at);
        Some(trunk)
    });
    let discard = fields.get("discard");
    let discard_pre_dot = discard.as_ref().and_then(|at| at.choice(DISCARDS, report)).unwrap_or(false);
    let parsed = parsed?;
    if let Some(at) = discard.filter(|_| discard_pre_dot && !parsed.has_dot) {
        at.wrong(report, "the pattern has no dot: nothing stands before it");
    }
    Some(RoutePattern {
        pattern: text?.into(),
        trunk: trunk?.into(),
        discard_pre_dot,
        partition,
        place: at.place(),
    })
}

/// Numbers and ranges, each alone or as a map with its partition.
pub(in crate::config) fn park_numbers(
    at: Option<At<'_>>,
    names: &mut Names,
    report: &mut Report,
) -> Vec<ParkNumber> {
    let mut numbers: Vec<ParkNumber> = Vec::new();
    for item in at.map(|at| at.items(report)).unwrap_or_default() {
        let (range_at, partition) = if item.scalar().is_some() {
            (Some(item.clone()), None)
        } else {
            let Some(fields) = item.fields(PARK_KEYS, report) else { continue };
            (fields.require("numbers", report), partition_of(&fields, names, report))
        };
        let Some((at, text)) = range_at.and_then(|at| Some((at.clone(), at.text(report)?))) else { continue };
        match dial::park_range(text) {
            Err(message) => at.wrong(report, message),
            Ok(range) if (numbers.len() + range.len()) as u64 > dial::MAX_PARK_NUMBERS => {
                at.wrong(report, format!("more than {} park numbers", dial::MAX_PARK_NUMBERS));
            }
            Ok(range) => {
                // One mistake is enough for two ranges that overlap in many numbers.
                let fresh = range.iter().all(|number| names.define(Kind::ParkNumber, number, &at, report));
                let parked = |number: String| ParkNumber {
                    dn: number.into(),
                    partition: partition.clone(),
                    place: item.place(),
                };
                if fresh {
                    numbers.extend(range.into_iter().map(parked));
                }
            }
        }
    }
    numbers
}
