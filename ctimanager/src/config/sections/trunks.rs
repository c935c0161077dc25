//! `trunks`.

use super::addresses::host;
use super::cluster::defined;
use super::devices;
use super::partitions::{call_rate, space_of};
use crate::config::fields::At;
use crate::config::mistake::Report;
use crate::config::names::{Kind, Names};
use crate::config::{SourcePort, Trunk, TrunkTransport};
use security::tls::{self, TlsError, Trust};
use std::sync::Arc;

pub(in crate::config) const TRUNK_KEYS: &[&str] = &[
    "name",
    "host",
    "port",
    "transport",
    "offer",
    "digest",
    "media_encryption",
    "source_port",
    "ca",
    "crl",
    "tls_subject",
    "calling_search_space",
    "block_offnet_to_offnet",
    "max_calls",
    "max_calls_per_second",
];
pub(in crate::config) const TRANSPORTS: &[(&str, TrunkTransport)] =
    &[("udp", TrunkTransport::Udp), ("tcp", TrunkTransport::Tcp), ("tls", TrunkTransport::Tls)];
/// The largest file of a trunk's authority.
const MAX_AUTHORITY_BYTES: u64 = 1 << 20;
/// Calls at once on a trunk.
pub(in crate::config) const MAX_TRUNK_CALLS: std::ops::RangeInclusive<u64> = 1..=1_000_000;
/// A peer's port.
const PORT: std::ops::RangeInclusive<u64> = 1..=65_535;

pub(in crate::config) fn trunk(at: &At<'_>, names: &mut Names, report: &mut Report) -> Option<Trunk> {
    let fields = at.fields(TRUNK_KEYS, report)?;
    let name = defined(&fields, Kind::Trunk, names, report);
    let host = fields.require("host", report).and_then(|at| host(&at, report));
    let transport = fields.get("transport").and_then(|at| at.choice(TRANSPORTS, report)).unwrap_or_default();
    let port = fields.get("port").and_then(|at| at.integer(PORT, report)).and_then(|n| u16::try_from(n).ok());
    let usual = if transport == TrunkTransport::Tls { 5061 } else { 5060 };
    let offer = fields.get("offer").and_then(|at| at.choice(devices::OFFERS, report)).unwrap_or_default();
    let digest = fields.get("digest").and_then(|at| devices::digest(&at, names, report));
    let encryption = fields.get("media_encryption").and_then(|at| at.choice(devices::ENCRYPTIONS, report));
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
        media_encryption: encryption.unwrap_or_default(),
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
