//! Partitions and calling search spaces: what lines say of their numbers, and what nobody could ever reach.

use super::super::{Config, Place};
use crate::config::fields::At;
use crate::config::mistake::{Mistake, Report};
use crate::config::names::{LineSetting, Names};
use device_model::dialling::Barred;
use device_model::{Dn, Sender};
use std::collections::{HashMap, HashSet};

/// What is said of a number, and where.
struct Said<'a> {
    value: &'a str,
    place: &'a Place,
}

/// What lines say of each number, by number. A number is in one partition, and its line has one space, whoever says so.
pub(super) fn of_lines<'a>(
    config: &Config,
    names: &'a Names,
    report: &mut Report,
) -> HashMap<&'a str, LineSetting> {
    let mut told: HashMap<(&str, &str), Said<'_>> = HashMap::new();
    for number in &config.numbers {
        let keys = [
            ("partition", number.partition.as_ref().map_or("", |name| name.as_str())),
            ("calling_search_space", number.calling_search_space.as_ref().map_or("", |name| name.as_str())),
        ];
        for (key, value) in keys {
            told.insert((number.dn.as_str(), key), Said { value, place: &number.place });
        }
    }
    let mut settings: HashMap<&str, LineSetting> = HashMap::new();
    for line in &names.line_settings {
        let said = [("partition", &line.partition), ("calling_search_space", &line.calling_search_space)];
        for (key, value) in said.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))) {
            let first = told.entry((&line.dn, key)).or_insert(Said { value, place: &line.place });
            if first.value != value {
                let word =
                    if first.value.is_empty() { "none".to_owned() } else { format!("`{}`", first.value) };
                let message = format!(
                    "the {key} of `{}` is {word}, says {}:{}: one number in two partitions, or with two spaces, is \
                     not possible in this version",
                    line.dn, first.place.file, first.place.line
                );
                report.mistake(line.place.clone(), format!("{}.{key}", line.path), message);
            }
        }
        let setting = settings.entry(&line.dn).or_insert_with(|| line.clone());
        setting.partition = setting.partition.take().or_else(|| line.partition.clone());
        setting.calling_search_space =
            setting.calling_search_space.take().or_else(|| line.calling_search_space.clone());
    }
    settings
}

/// The most partitions of a cluster, and calling search spaces.
const MOST: usize = 1_000;

/// Checks how many there are.
pub(super) fn bounds(config: &Config, report: &mut Report) {
    let partition = config.partitions.get(MOST).map(|partition| ("partitions", &partition.place));
    let space = config.calling_search_spaces.get(MOST).map(|space| ("calling_search_spaces", &space.place));
    for (section, place) in partition.into_iter().chain(space) {
        report.mistake(place.clone(), section, format!("more than {MOST}"));
    }
}

/// Warns of partitions that no space has, and of forwards that lead where the number doesn't reach.
pub(super) fn warn(config: &Config, entries: &HashMap<&str, At<'_>>, report: &mut Report) {
    let reached: HashSet<&str> =
        config.calling_search_spaces.iter().flat_map(|space| &space.partitions).map(|p| p.as_str()).collect();
    for partition in config.partitions.iter().filter(|p| !reached.contains(p.name.as_str())) {
        report.warnings.push(Mistake {
            place: partition.place.clone(),
            path: format!("partitions[name={}]", partition.name),
            message: format!("nobody reaches `{}`: no calling search space has it", partition.name),
        });
    }
    if !config.partitions.is_empty() && report.count() == 0 {
        unreached_forwards(config, entries, report);
    }
}

fn unreached_forwards(config: &Config, entries: &HashMap<&str, At<'_>>, report: &mut Report) {
    let model = config.model();
    for number in &config.numbers {
        let forward = &number.forward;
        let all = [
            ("all", &forward.all),
            ("busy", &forward.busy),
            ("no_answer", &forward.no_answer),
            ("unregistered", &forward.unregistered),
            ("on_failure", &forward.on_failure),
        ];
        for (key, to) in all.into_iter().filter_map(|(key, to)| Some((key, to.as_ref()?))) {
            let told = model.explain_dialling(&Sender::Number(number.dn.clone()), to);
            if told.barred != Some(Barred::Partition) {
                continue;
            }
            let at = entries.get(number.dn.as_str()).and_then(|at| at.entry("forward")?.entry(key));
            let (place, path) = match at {
                Some(at) => (at.place(), at.path),
                None => (number.place.clone(), format!("directory_numbers[dn={}].forward.{key}", number.dn)),
            };
            report.warnings.push(Mistake {
                place,
                path,
                message: out_of_reach(&number.dn, to, told.partition),
            });
        }
    }
}

fn out_of_reach(dn: &Dn, to: &Dn, partition: Option<device_model::PartitionName>) -> String {
    let partition = partition.as_ref().map_or("", |name| name.as_str());
    format!(
        "a call to `{dn}` is never forwarded to `{to}`: neither the calling_search_space of `{dn}` nor that of its devices \
         has the partition `{partition}`"
    )
}
