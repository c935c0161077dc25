//! `directory_numbers`, `trunks`, `route_patterns`, `park_numbers`.

use super::cluster::{MAX_NAME, defined, host};
use super::devices;
use super::partitions::{call_rate, partition_of, space_of};
use crate::config::dial::{self, Pattern};
use crate::config::fields::At;
use crate::config::mistake::Report;
use crate::config::names::{Kind, Names};
use crate::config::{DirectoryNumber, ParkNumber, RoutePattern, SourcePort, Trunk, TrunkTransport};
use device_model::Dn;
use device_model::plan::Forwards;
use security::tls::{self, TlsError, Trust};
use sip::message::text::MAX_SHOWN;
use std::sync::Arc;
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
pub(in crate::config) const TRUNK_KEYS: &[&str] = &[
    "name",
    "host",
    "port",
    "transport",
    "offer",
    "digest",
    "source_port",
    "ca",
    "crl",
    "tls_subject",
    "calling_search_space",
    "block_offnet_to_offnet",
    "max_calls",
    "max_calls_per_second",
];
pub(in crate::config) const PATTERN_KEYS: &[&str] = &["pattern", "trunk", "discard", "partition"];
pub(in crate::config) const PARK_KEYS: &[&str] = &["numbers", "partition"];
pub(in crate::config) const TRANSPORTS: &[(&str, TrunkTransport)] =
    &[("udp", TrunkTransport::Udp), ("tcp", TrunkTransport::Tcp), ("tls", TrunkTransport::Tls)];
pub(in crate::config) const DISCARDS: &[(&str, bool)] = &[("pre_dot", true), ("none", false)];
/// The largest file of a trunk's authority.
const MAX_AUTHORITY_BYTES: u64 = 1 << 20;
/// Calls at once on a number.
pub(in crate::config) const MAX_CALLS: std::ops::RangeInclusive<u64> = 1..=10_000;
/// Calls at once on a trunk.
pub(in crate::config) const MAX_TRUNK_CALLS: std::ops::RangeInclusive<u64> = 1..=1_000_000;
/// A peer's port.
const PORT: std::ops::RangeInclusive<u64> = 1..=65_535;
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

pub(in crate::config) fn trunk(at: &At<'_>, names: &mut Names, report: &mut Report) -> Option<Trunk> {
    let fields = at.fields(TRUNK_KEYS, report)?;
    let name = defined(&fields, Kind::Trunk, names, report);
    let host = fields.require("host", report).and_then(|at| host(&at, report));
    let transport = fields.get("transport").and_then(|at| at.choice(TRANSPORTS, report)).unwrap_or_default();
    let port = fields.get("port").and_then(|at| at.integer(PORT, report)).and_then(|n| u16::try_from(n).ok());
    let usual = if transport == TrunkTransport::Tls { 5061 } else { 5060 };
    let offer = fields.get("offer").and_then(|at| at.choice(devices::OFFERS, report)).unwrap_or_default();
    let digest = fields.get("digest").and_then(|at| devices::digest(&at, names, report));
    let source_port = fields.get("source_port").and_then(|at| source_port(&at, report));
    let ca = fields.get("ca").and_then(|at| authority(&at, report));
    let crl = fields.get("crl").and_then(|at| revocations(&at, ca.as_deref(), report));
    let tls_subject = fields.get("tls_subject").and_then(|at| at.name(253, report));
    let is_tls = transport == TrunkTransport::Tls;
    let tls_alone = ["ca", "crl", "tls_subject"].map(|key| (key, !is_tls));
    for (key, misplaced) in tls_alone.into_iter().chain([("source_port", is_tls)]) {
        if let Some(at) = fields.get(key).filter(|_| misplaced) {
            let word =
                if is_tls { "its certificate tells who a TLS trunk is, not a port" } else { "only over TLS" };
            at.wrong(report, word);
        }
    }
    let calling_search_space = space_of(&fields, names, report);
    let block_offnet_to_offnet = fields.get("block_offnet_to_offnet").and_then(|at| at.boolean(report));
    let max_calls = fields.get("max_calls").and_then(|at| at.integer(MAX_TRUNK_CALLS, report));
    let max_calls_per_second = call_rate(&fields, report);
    Some(Trunk {
        name: name?.into(),
        host: host?.into(),
        port: port.unwrap_or(usual),
        transport,
        offer,
        digest,
        source_port,
        ca,
        crl,
        tls_subject: tls_subject.map(Into::into),
        calling_search_space,
        block_offnet_to_offnet,
        max_calls: max_calls.and_then(|n| u32::try_from(n).ok()),
        max_calls_per_second,
        place: at.place(),
    })
}

fn source_port(at: &At<'_>, report: &mut Report) -> Option<SourcePort> {
    if at.scalar() == Some("any") {
        return Some(SourcePort::Any);
    }
    let port = at.integer(PORT, report).and_then(|n| u16::try_from(n).ok());
    port.map(SourcePort::Port)
}

/// The text of a file with certificates; that they can be read is seen here, where the place is known.
fn authority(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    pem(at, report, |text| Trust::of(text, None).map(drop))
}

/// The text of a file with the revocation lists of a trunk's authority.
fn revocations(at: &At<'_>, ca: Option<&str>, report: &mut Report) -> Option<Arc<str>> {
    let Some(ca) = ca else {
        at.wrong(report, "of a trunk's own `ca`; the cluster's authority has its crl.pem");
        return None;
    };
    pem(at, report, |text| tls::lists_of(ca, text).and_then(|()| Trust::of(ca, Some(text))).map(drop))
}

fn pem(
    at: &At<'_>,
    report: &mut Report,
    read: impl FnOnce(&str) -> Result<(), TlsError>,
) -> Option<Arc<str>> {
    let path = super::path(at, at.name(4096, report)?);
    let shown = path.display();
    let text =
        super::short_file(&path, MAX_AUTHORITY_BYTES).map_err(|message| at.wrong(report, message)).ok()?;
    match read(&text) {
        Ok(()) => Some(text.into()),
        Err(error) => {
            at.wrong(report, format!("{shown}: {error}"));
            None
        }
    }
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
