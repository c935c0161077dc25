//! What only the whole configuration can tell: references, limits that depend on each other, numbers used twice.

mod partitions;

use super::dial::Pattern;
use super::fields::At;
use super::mistake::{Mistake, Report, shell_word};
use super::names::{Kind, LineSetting, Names, Reference};
use super::yaml::Node;
use super::{Config, Device, DirectoryNumber, Place};
use device_model::plan::{DeviceKind, Forwards};
use device_model::{DeviceName, Dn};
use security::devices::NamePattern;
use security::password;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The most calls at once on a phone's line.
const MAX_CALLS_OF_PHONES: u32 = 200;
/// Calls at once on a line of a phone or port, and of a route point, where nothing else is said.
const CALLS_OF_PHONES: u32 = 4;
const CALLS_OF_ROUTE_POINTS: u32 = 5_000;

/// Checks the whole, and completes it with the numbers that only devices name.
pub(super) fn check(config: &mut Config, named: &str, root: &Node, names: &Names, report: &mut Report) {
    add_numbers_of_lines(config, names, report);
    references(config, names, report);
    let kinds = kinds_of_numbers(&config.devices);
    let written = entries_of_numbers(root);
    for number in &config.numbers {
        if let Some(entry) = written.get(number.dn.as_str()) {
            number_limits(number, kinds.get(&number.dn), entry, report);
        }
    }
    park_numbers(config, names, report);
    phones_without_account(config, report);
    parameters(config, root, report);
    readable_secrets(config, report);
    super::planned::check(root, report);
    certificates(config, named, report);
    costs_of_passwords(config, report);
    partitions::bounds(config, report);
    partitions::warn(config, &written, report);
}

/// A number that no entry describes has the defaults; its place is the device that names it.
fn add_numbers_of_lines(config: &mut Config, names: &Names, report: &mut Report) {
    let of_lines = partitions::of_lines(config, names, report);
    let mut known: HashSet<Dn> = config.numbers.iter().map(|number| number.dn.clone()).collect();
    for device in &config.devices {
        for dn in &device.lines {
            if known.insert(dn.clone()) {
                let said = of_lines.get(dn.as_str());
                let of = |what: fn(&LineSetting) -> Option<&String>| said.and_then(|said| what(said));
                config.numbers.push(DirectoryNumber {
                    dn: dn.clone(),
                    description: "".into(),
                    display: None,
                    max_calls: None,
                    busy_trigger: None,
                    ring_duration: None,
                    forward: Forwards::default(),
                    auto_accept: false,
                    allow_cti_control: true,
                    partition: of(|said| said.partition.as_ref()).map(|name| name.as_str().into()),
                    calling_search_space: of(|said| said.calling_search_space.as_ref())
                        .map(|name| name.as_str().into()),
                    max_calls_per_second: None,
                    place: said.map_or(&device.place, |said| &said.place).clone(),
                });
            }
        }
    }
}

fn references(config: &Config, names: &Names, report: &mut Report) {
    let numbers: HashSet<&str> = config.numbers.iter().map(|number| number.dn.as_str()).collect();
    // A pattern that can't be read was reported where it stands.
    let patterns: Vec<Pattern> =
        config.route_patterns.iter().filter_map(|route| Pattern::parse(&route.pattern).ok()).collect();
    for reference in &names.references {
        match reference.kind {
            Kind::Number => number_reference(reference, &numbers, &patterns, names, report),
            Kind::Device => device_reference(reference, &config.devices, names, report),
            Kind::Node
            | Kind::CallManagerGroup
            | Kind::DevicePool
            | Kind::Partition
            | Kind::SearchSpace
            | Kind::Trunk
            | Kind::Pattern
            | Kind::ParkNumber
            | Kind::UserGroup
            | Kind::User
            | Kind::DigestUser => {
                if !names.is_defined(reference.kind, &reference.name) {
                    dangling(reference, names.of(reference.kind), report);
                }
            }
        }
    }
}

fn dangling<'a>(reference: &Reference, known: impl Iterator<Item = &'a str>, report: &mut Report) {
    let hint = report.did_you_mean(&reference.name, known);
    let message = format!("there is no {} `{}`{hint}", reference.kind.word(), reference.name);
    report.mistake(reference.place.clone(), reference.path.as_str(), message);
}

/// A destination is a number of this cluster, or one that a route pattern leads out.
fn number_reference(
    reference: &Reference,
    numbers: &HashSet<&str>,
    patterns: &[Pattern],
    names: &Names,
    report: &mut Report,
) {
    let name = reference.name.as_str();
    let known = numbers.contains(name)
        || names.lines.contains(name)
        || names.is_defined(Kind::Number, name)
        || names.is_defined(Kind::ParkNumber, name)
        || patterns.iter().any(|pattern| pattern.matches(name));
    if !known {
        let hint = report.did_you_mean(name, numbers.iter().copied());
        let message = format!("no device has the number `{name}` and no route pattern leads to it{hint}");
        report.mistake(reference.place.clone(), reference.path.as_str(), message);
    }
}

/// A name must be there; a pattern that matches nothing yet may do so later.
fn device_reference(reference: &Reference, devices: &[Device], names: &Names, report: &mut Report) {
    let name = reference.name.as_str();
    if !name.contains(['*', '?', '[']) {
        if !names.is_defined(Kind::Device, name) {
            dangling(reference, names.of(Kind::Device), report);
        }
        return;
    }
    let Ok(pattern) = NamePattern::parse(name) else { return };
    if !devices.iter().any(|device| pattern.matches(device.name.as_str())) {
        report.warnings.push(Mistake {
            place: reference.place.clone(),
            path: reference.path.clone(),
            message: format!("no device is called like `{name}`"),
        });
    }
}

/// What kinds of device have a number on a line.
#[derive(Clone, Copy, Default)]
struct Kinds {
    phone: bool,
    route_point: bool,
}

fn kinds_of_numbers(devices: &[Device]) -> HashMap<Dn, Kinds> {
    let mut kinds: HashMap<Dn, Kinds> = HashMap::new();
    for device in devices {
        for dn in &device.lines {
            let of = kinds.entry(dn.clone()).or_default();
            match device.kind {
                DeviceKind::Phone => of.phone = true,
                DeviceKind::RoutePoint => of.route_point = true,
                DeviceKind::CtiPort => {}
            }
        }
    }
    kinds
}

/// The entries of `directory_numbers` by number; of two the first counts.
fn entries_of_numbers(root: &Node) -> HashMap<&str, At<'_>> {
    let mut entries = HashMap::new();
    let Some(list) = (At { node: root, path: String::new() }).entry("directory_numbers") else {
        return entries;
    };
    for entry in list.listed() {
        if let Some(dn) = entry.entry("dn").and_then(|at| at.scalar()) {
            entries.entry(dn).or_insert(entry);
        }
    }
    entries
}

fn number_limits(number: &DirectoryNumber, kinds: Option<&Kinds>, entry: &At<'_>, report: &mut Report) {
    let kinds = kinds.copied().unwrap_or_default();
    let usual = if kinds.route_point { CALLS_OF_ROUTE_POINTS } else { CALLS_OF_PHONES };
    let max_calls = number.max_calls.unwrap_or(usual);
    if let Some(at) = entry.entry("max_calls")
        && kinds.phone
        && max_calls > MAX_CALLS_OF_PHONES
    {
        at.wrong(report, format!("{max_calls} is out of range: 1 to {MAX_CALLS_OF_PHONES} on a phone"));
    }
    if let (Some(at), Some(trigger)) = (entry.entry("busy_trigger"), number.busy_trigger)
        && trigger > max_calls
    {
        let which = if number.max_calls.is_some() { "max_calls" } else { "the default of max_calls" };
        at.wrong(report, format!("{trigger} is above {which}, {max_calls}"));
    }
}

/// A park number that somebody's phone has would park nothing.
fn park_numbers(config: &Config, names: &Names, report: &mut Report) {
    let places: Vec<&DirectoryNumber> = config
        .numbers
        .iter()
        .filter(|number| names.is_defined(Kind::ParkNumber, number.dn.as_str()))
        .collect();
    for number in places {
        let message = format!("`{}` is a park number, too: give one of them another number", number.dn);
        report.mistake(number.place.clone(), format!("directory_numbers[dn={}]", number.dn), message);
    }
}

/// A phone that speaks SIP proves who it is by digest; without an account it can't register.
fn phones_without_account(config: &Config, report: &mut Report) {
    for device in &config.devices {
        let speaks_sip = device.protocol == Some(super::PhoneProtocol::Sip);
        if speaks_sip && device.digest.is_none() {
            report.warnings.push(Mistake {
                place: device.place.clone(),
                path: path_of(&device.name),
                message: format!("{} has no `digest` account and can't register", device.name),
            });
        }
    }
}

fn path_of(device: &DeviceName) -> String {
    format!("devices[name={device}]")
}

fn parameters(config: &Config, root: &Node, report: &mut Report) {
    let parameters = &config.parameters;
    if parameters.application_heartbeat_minimum_interval <= parameters.application_heartbeat_maximum_interval
    {
        return;
    }
    let section = At { node: root, path: String::new() }.entry("service_parameters");
    let written = |key| section.as_ref().and_then(|at| at.entry(key));
    let at = written("application_heartbeat_minimum_interval")
        .or_else(|| written("application_heartbeat_maximum_interval"));
    if let Some(at) = at {
        at.wrong(report, "the minimum interval is above application_heartbeat_maximum_interval");
    }
}

/// Hashes that cost more or less than most take more or less time at each login: who measures it can tell such users from
/// the others, though not whether a name exists (`security::Policy::hash_to_verify`).
fn costs_of_passwords(config: &Config, report: &mut Report) {
    let users = || {
        config
            .users
            .iter()
            .filter_map(|user| Some((user, password::cost(user.user.password_hash.as_deref()?)?)))
    };
    let mut counts: BTreeMap<password::Cost, usize> = BTreeMap::new();
    users().for_each(|(_, cost)| *counts.entry(cost).or_default() += 1);
    let Some((usual, _)) = counts.iter().max_by_key(|(_, count)| **count) else { return };
    let unusual: Vec<_> = users().filter(|(_, cost)| cost != usual).map(|(user, _)| user).collect();
    if let Some(first) = unusual.first() {
        let password::Cost { memory_kib, passes, lanes } = usual;
        report.warnings.push(Mistake {
            place: first.place.clone(),
            path: format!("users[id={}].password_hash", first.user.id),
            message: format!(
                "the password hashes of {} users have another cost than m={memory_kib},t={passes},p={lanes}, which most \
                 have: how long a login takes tells them apart; `ctimanager hash-password` makes them alike",
                unusual.len()
            ),
        });
    }
}

/// What every user of the machine can read is no secret. One warning for all files of a kind: it names the first.
fn readable_secrets(config: &Config, report: &mut Report) {
    let secrets = std::mem::take(&mut report.secrets);
    let readable: Vec<_> = secrets.iter().filter(|(path, _)| is_readable_by_all(path)).collect();
    if let Some((path, (place, key))) = readable.first() {
        let message = open_to_all(path, "a digest password", readable.len() - 1);
        report.warnings.push(Mistake { place: place.clone(), path: key.clone(), message });
    }
    let Some(node) = config.nodes.first() else { return };
    let place = Place { line: 0, column: 0, ..node.place.clone() };
    let keys = config.nodes.iter().map(|node| format!("{}.key", node.name)).chain(["ca.key".to_owned()]);
    let keys = keys.map(|file| config.cluster.pki.join(file)).filter(|path| is_readable_by_all(path));
    let keys: Vec<_> = keys.collect();
    if let Some(path) = keys.first() {
        let message = open_to_all(path, "a private key", keys.len() - 1);
        report.warnings.push(Mistake { place, path: "cluster.security.pki".into(), message });
    }
}

fn open_to_all(path: &Path, what: &str, more: usize) -> String {
    let path = path.display();
    let others = if more == 0 { String::new() } else { format!(", and so do {more} more files") };
    format!("every user of this machine can read {path}, which holds {what}{others}: `chmod o-rwx {path}`")
}

/// A file that is not there is read by nobody.
fn is_readable_by_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o004 != 0)
}

/// Certificates are made by a command: until then the file is good and the node can't start.
fn certificates(config: &Config, named: &str, report: &mut Report) {
    let pki = &config.cluster.pki;
    let missing = |file: String| !pki.join(file).is_file();
    let needs =
        |node: &super::Node| missing(format!("{}.pem", node.name)) || missing(format!("{}.key", node.name));
    if missing("ca.pem".into()) || config.nodes.iter().any(needs) {
        let Some(place) = config.nodes.first().map(|node| node.place.clone()) else { return };
        report.warnings.push(Mistake {
            place: Place { line: 0, column: 0, ..place },
            path: "cluster.security.pki".into(),
            message: format!(
                "certificates are missing in {}: make them with `ctimanager pki init {} --config {}`",
                pki.display(),
                shell_word(&pki.to_string_lossy()),
                shell_word(named)
            ),
        });
    }
}
