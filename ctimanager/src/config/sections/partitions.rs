//! `partitions`, `calling_search_spaces`, and the keys that name them.

use super::cluster::{MAX_NAME, defined};
use crate::config::fields::{At, Fields};
use crate::config::mistake::Report;
use crate::config::names::{Kind, Names};
use crate::config::{CallingSearchSpace, Partition};
use device_model::{PartitionName, SearchSpaceName};

pub(in crate::config) const PARTITION_KEYS: &[&str] = &["name", "description"];
pub(in crate::config) const SPACE_KEYS: &[&str] = &["name", "partitions"];
/// The most partitions of a calling search space.
pub(in crate::config) const MAX_PARTITIONS: usize = 100;
/// New calls a second.
pub(in crate::config) const CALL_RATE: std::ops::RangeInclusive<u64> = 1..=100_000;

/// A partition: its name alone, or a map with a description.
pub(in crate::config) fn partition(at: &At<'_>, names: &mut Names, report: &mut Report) -> Option<Partition> {
    let (name, description) = if at.scalar().is_some() {
        let name = at.name(MAX_NAME, report)?;
        (names.define(Kind::Partition, name, at, report).then_some(name)?, "")
    } else {
        let fields = at.fields(PARTITION_KEYS, report)?;
        let name = defined(&fields, Kind::Partition, names, report);
        let description = fields.get("description").and_then(|at| at.name(128, report)).unwrap_or_default();
        (name?, description)
    };
    Some(Partition { name: name.into(), description: description.into(), place: at.place() })
}

/// A calling search space.
pub(in crate::config) fn space(
    at: &At<'_>,
    names: &mut Names,
    report: &mut Report,
) -> Option<CallingSearchSpace> {
    let fields = at.fields(SPACE_KEYS, report)?;
    let name = defined(&fields, Kind::SearchSpace, names, report);
    let list = fields.require("partitions", report)?;
    let mut partitions: Vec<PartitionName> = Vec::new();
    for item in list.items(report) {
        let Some(partition) = item.name(MAX_NAME, report) else { continue };
        names.refer(Kind::Partition, partition, &item);
        if partitions.iter().any(|listed| listed.as_str() == partition) {
            item.wrong(report, format!("`{partition}` is in the list already"));
        } else if partitions.len() >= MAX_PARTITIONS {
            item.wrong(report, format!("more than {MAX_PARTITIONS} partitions"));
            break;
        } else {
            partitions.push(partition.into());
        }
    }
    Some(CallingSearchSpace { name: name?.into(), partitions, place: at.place() })
}

/// The `partition` of a number or pattern.
pub(in crate::config) fn partition_of(
    fields: &Fields<'_>,
    names: &mut Names,
    report: &mut Report,
) -> Option<PartitionName> {
    named(fields, "partition", Kind::Partition, names, report).map(Into::into)
}

/// The `calling_search_space` of a number, device or trunk.
pub(in crate::config) fn space_of(
    fields: &Fields<'_>,
    names: &mut Names,
    report: &mut Report,
) -> Option<SearchSpaceName> {
    named(fields, "calling_search_space", Kind::SearchSpace, names, report).map(Into::into)
}

fn named<'a>(
    fields: &Fields<'a>,
    key: &str,
    kind: Kind,
    names: &mut Names,
    report: &mut Report,
) -> Option<&'a str> {
    let at = fields.get(key)?;
    let name = at.name(MAX_NAME, report)?;
    names.refer(kind, name, &at);
    Some(name)
}

/// The `max_calls_per_second` of a number, device or trunk.
pub(in crate::config) fn call_rate(fields: &Fields<'_>, report: &mut Report) -> Option<u32> {
    let rate = fields.get("max_calls_per_second")?.integer(CALL_RATE, report)?;
    u32::try_from(rate).ok()
}
