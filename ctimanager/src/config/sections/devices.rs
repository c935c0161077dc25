//! `devices`: phones, CTI ports and route points, alone or as ranges.

use super::cluster::MAX_NAME;
use super::numbers::MAX_CALLS;
use super::partitions::{call_rate, partition_of, space_of};
use crate::config::dial;
use crate::config::fields::{At, Fields};
use crate::config::mistake::Report;
use crate::config::names::{Kind, LineSetting, Names};
use crate::config::parameters::REGISTRATION_EXPIRY;
use crate::config::{Device, Digest, MediaEncryption, PhoneProtocol};
use device_model::plan::{DeviceKind, OfferTime};
use device_model::{Dn, PartitionName, SearchSpaceName, is_visual_separator};
use security::Secret;
use security::devices::NumberRange;
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

pub(in crate::config) const DEVICE_KEYS: &[&str] = &[
    "name",
    "type",
    "protocol",
    "description",
    "pool",
    "lines",
    "digest",
    "media_encryption",
    "offer",
    "allow_cti_control",
    "registration_expiry_maximum",
    "calling_search_space",
    "max_calls",
    "max_calls_per_second",
];
pub(in crate::config) const LINE_KEYS: &[&str] = &["dn", "partition", "calling_search_space"];
pub(in crate::config) const DIGEST_KEYS: &[&str] = &["user", "password", "password_file"];
pub(in crate::config) const KINDS: &[(&str, DeviceKind)] = &[
    ("phone", DeviceKind::Phone),
    ("cti_port", DeviceKind::CtiPort),
    ("route_point", DeviceKind::RoutePoint),
];
pub(in crate::config) const PROTOCOLS: &[(&str, PhoneProtocol)] =
    &[("sip", PhoneProtocol::Sip), ("sccp", PhoneProtocol::Sccp)];
pub(in crate::config) const ENCRYPTIONS: &[(&str, MediaEncryption)] = &[
    ("none", MediaEncryption::None),
    ("optional", MediaEncryption::Optional),
    ("required", MediaEncryption::Required),
];

pub(in crate::config) const OFFERS: &[(&str, OfferTime)] =
    &[("early", OfferTime::Early), ("late", OfferTime::Late)];

/// The most devices of a cluster, and lines of a device.
const MAX_DEVICES: u64 = 100_000;
const MAX_LINES: usize = 1_000;
const MAX_PASSWORD_BYTES: usize = 1_024;

/// A text with at most one range in it: `PORT_[001-100]`.
struct Ranged<'a> {
    before: Cow<'a, str>,
    range: Option<NumberRange>,
    after: Cow<'a, str>,
}

impl<'a> Ranged<'a> {
    fn parse(at: &At<'_>, text: &'a str, report: &mut Report) -> Option<Self> {
        let Some((before, rest)) = text.split_once('[') else {
            return Some(Self { before: text.into(), range: None, after: "".into() });
        };
        let Some((inner, after)) = rest.split_once(']') else {
            at.wrong(report, "`[` without `]`: a range is written [001-100]");
            return None;
        };
        match NumberRange::parse(inner) {
            Ok(range) if !after.contains(['[', ']']) => {
                Some(Self { before: before.into(), range: Some(range), after: after.into() })
            }
            Ok(_) => {
                at.wrong(report, "one range is enough");
                None
            }
            Err(error) => {
                at.wrong(report, error.to_string());
                None
            }
        }
    }

    /// The same as a number: `555-[0100-0199]` is `555[0100-0199]`.
    fn into_number(self) -> Self {
        let plain = |text: Cow<'_, str>| text.chars().filter(|c| !is_visual_separator(*c)).collect();
        match self.range {
            None => Self { before: Dn::written(&self.before).to_string().into(), ..self },
            Some(_) => Self { before: plain(self.before), after: plain(self.after), ..self },
        }
    }

    fn count(&self) -> u64 {
        self.range.map_or(1, |range| range.count())
    }

    /// The text of one device of the range; the same for all when it has none itself.
    fn text(&self, index: u64) -> String {
        match self.range {
            None => self.before.clone().into_owned(),
            Some(NumberRange { first, width, .. }) => {
                format!("{}{:0width$}{}", self.before, first + index, self.after)
            }
        }
    }
}

/// What all devices of an entry have in common.
struct Common<'a> {
    kind: DeviceKind,
    pool: &'a str,
    description: &'a str,
    protocol: Option<PhoneProtocol>,
    media_encryption: MediaEncryption,
    offer: OfferTime,
    allow_cti_control: bool,
    registration_expiry_maximum: Option<Duration>,
    calling_search_space: Option<SearchSpaceName>,
    max_calls: Option<u32>,
    max_calls_per_second: Option<u32>,
    digest: Option<RangedDigest<'a>>,
}

/// A line of an entry, and what it says of its number.
struct Line<'a> {
    at: At<'a>,
    dn: Ranged<'a>,
    partition: Option<PartitionName>,
    calling_search_space: Option<SearchSpaceName>,
}

impl Line<'_> {
    fn setting(&self, index: u64) -> Option<LineSetting> {
        let says = self.partition.is_some() || self.calling_search_space.is_some();
        says.then(|| LineSetting {
            dn: self.dn.text(index),
            partition: self.partition.as_ref().map(ToString::to_string),
            calling_search_space: self.calling_search_space.as_ref().map(ToString::to_string),
            place: self.at.place(),
            path: self.at.path.clone(),
        })
    }
}

struct RangedDigest<'a> {
    at: At<'a>,
    user: Ranged<'a>,
    password: Secret,
}

pub(in crate::config) fn devices(at: Option<At<'_>>, names: &mut Names, report: &mut Report) -> Vec<Device> {
    let mut devices = Vec::new();
    for item in at.map(|at| at.items(report)).unwrap_or_default() {
        entry(&item, &mut devices, names, report);
    }
    devices
}

fn entry(at: &At<'_>, devices: &mut Vec<Device>, names: &mut Names, report: &mut Report) -> Option<()> {
    let fields = at.fields(DEVICE_KEYS, report)?;
    let name_at = fields.require("name", report);
    let name = name_at.as_ref().and_then(|at| device_name(at, report));
    let common = common(&fields, names, report);
    let lines = lines(&fields, name.as_ref().map_or(1, Ranged::count), names, report);
    let (name_at, name) = (name_at?, name?);
    if devices.len() as u64 + name.count() > MAX_DEVICES {
        name_at.wrong(report, format!("more than {MAX_DEVICES} devices"));
        return None;
    }
    // Names count even when something else is wrong: whoever refers to them made no mistake.
    for index in 0..name.count() {
        names.lines.extend(lines.iter().map(|line| line.dn.text(index)));
        names.line_settings.extend(lines.iter().filter_map(|line| line.setting(index)));
        if !names.define(Kind::Device, &name.text(index), &name_at, report) {
            return None;
        }
    }
    let common = common?;
    if let Some(digest) = &common.digest
        && digest.user.count() != name.count()
    {
        let message = format!("{} digest users for {} devices", digest.user.count(), name.count());
        digest.at.wrong(report, message);
        return None;
    }
    for index in 0..name.count() {
        devices.push(device(index, at, &name, &common, &lines, names, report));
    }
    Some(())
}

fn device(
    index: u64,
    at: &At<'_>,
    name: &Ranged<'_>,
    common: &Common<'_>,
    lines: &[Line<'_>],
    names: &mut Names,
    report: &mut Report,
) -> Device {
    let digest = common.digest.as_ref().map(|digest| {
        let user = digest.user.text(index);
        names.define(Kind::DigestUser, &user, &digest.at, report);
        Digest { user: user.into(), password: digest.password.clone() }
    });
    Device {
        name: name.text(index).into(),
        kind: common.kind,
        protocol: common.protocol,
        description: common.description.into(),
        pool: common.pool.into(),
        lines: lines.iter().map(|line| line.dn.text(index).into()).collect(),
        digest,
        media_encryption: common.media_encryption,
        offer: common.offer,
        allow_cti_control: common.allow_cti_control,
        registration_expiry_maximum: common.registration_expiry_maximum,
        calling_search_space: common.calling_search_space.clone(),
        max_calls: common.max_calls,
        max_calls_per_second: common.max_calls_per_second,
        place: at.place(),
    }
}

fn common<'a>(fields: &Fields<'a>, names: &mut Names, report: &mut Report) -> Option<Common<'a>> {
    let kind = fields.require("type", report).and_then(|at| at.choice(KINDS, report));
    let pool = fields.require("pool", report).and_then(|at| {
        let pool = at.name(MAX_NAME, report)?;
        names.refer(Kind::DevicePool, pool, &at);
        Some(pool)
    });
    let description = fields.get("description").and_then(|at| at.name(128, report)).unwrap_or_default();
    let protocol = fields.get("protocol").and_then(|at| at.choice(PROTOCOLS, report));
    let media_encryption = fields.get("media_encryption").and_then(|at| at.choice(ENCRYPTIONS, report));
    let offer = fields.get("offer").and_then(|at| at.choice(OFFERS, report));
    let allow = fields.get("allow_cti_control").and_then(|at| at.boolean(report));
    let expiry = fields.get("registration_expiry_maximum");
    let expiry = expiry.and_then(|at| at.duration(REGISTRATION_EXPIRY, report));
    let calling_search_space = space_of(fields, names, report);
    let max_calls = fields.get("max_calls").and_then(|at| at.integer(MAX_CALLS, report));
    let max_calls_per_second = call_rate(fields, report);
    let digest = fields.get("digest").and_then(|at| ranged_digest(at, report));
    let kind = kind?;
    if kind != DeviceKind::Phone {
        for key in ["protocol", "digest", "media_encryption", "offer", "registration_expiry_maximum"] {
            if let Some(at) = fields.get(key) {
                at.wrong(report, format!("only a phone has `{key}`"));
            }
        }
    }
    Some(Common {
        kind,
        pool: pool?,
        description,
        protocol: (kind == DeviceKind::Phone).then(|| protocol.unwrap_or(PhoneProtocol::Sip)),
        media_encryption: media_encryption.unwrap_or_default(),
        offer: offer.unwrap_or_default(),
        allow_cti_control: allow.unwrap_or(true),
        registration_expiry_maximum: expiry,
        calling_search_space,
        max_calls: max_calls.and_then(|n| u32::try_from(n).ok()),
        max_calls_per_second,
        digest,
    })
}

fn device_name<'a>(at: &At<'a>, report: &mut Report) -> Option<Ranged<'a>> {
    let text = at.name(MAX_NAME, report)?;
    let name = Ranged::parse(at, text, report)?;
    let good = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !good(&name.before) || !good(&name.after) {
        at.wrong(
            report,
            "a device's name has letters, digits, `-`, `_` and `.`, and one range [001-100] at most",
        );
        return None;
    }
    Some(name)
}

fn lines<'a>(fields: &Fields<'a>, devices: u64, names: &mut Names, report: &mut Report) -> Vec<Line<'a>> {
    let Some(at) = fields.get("lines") else { return Vec::new() };
    let mut lines: Vec<Line<'a>> = Vec::new();
    for item in at.items(report) {
        let Some(line) = line(item, devices, names, report) else { continue };
        let first = line.dn.text(0);
        if lines.iter().any(|other| other.dn.text(0) == first) {
            line.at.wrong(report, format!("the device has `{first}` already"));
        } else if lines.len() >= MAX_LINES {
            line.at.wrong(report, format!("more than {MAX_LINES} lines"));
            break;
        } else {
            lines.push(line);
        }
    }
    lines
}

/// A number, or a map that says more of it.
fn line<'a>(at: At<'a>, devices: u64, names: &mut Names, report: &mut Report) -> Option<Line<'a>> {
    if at.scalar().is_some() {
        let dn = line_number(&at, devices, report)?;
        return Some(Line { at, dn, partition: None, calling_search_space: None });
    }
    let fields = at.fields(LINE_KEYS, report)?;
    let dn = fields.require("dn", report).and_then(|at| line_number(&at, devices, report));
    let partition = partition_of(&fields, names, report);
    let calling_search_space = space_of(&fields, names, report);
    Some(Line { dn: dn?, at, partition, calling_search_space })
}

fn line_number<'a>(at: &At<'a>, devices: u64, report: &mut Report) -> Option<Ranged<'a>> {
    let text = at.text(report)?;
    let line = Ranged::parse(at, text, report)?.into_number();
    if let Err(message) = dial::number(&line.text(0)) {
        at.wrong(report, message);
        return None;
    }
    if line.range.is_some() && line.count() != devices {
        at.wrong(
            report,
            format!("{} numbers for {devices} devices: the ranges must be as long", line.count()),
        );
        return None;
    }
    Some(line)
}

/// A digest account of one peer.
pub(super) fn digest(at: &At<'_>, names: &mut Names, report: &mut Report) -> Option<Digest> {
    let digest = ranged_digest(at.clone(), report)?;
    if digest.user.range.is_some() {
        digest.at.wrong(report, "a range needs a range of devices");
        return None;
    }
    let user = digest.user.text(0);
    names.define(Kind::DigestUser, &user, &digest.at, report);
    Some(Digest { user: user.into(), password: digest.password })
}

fn ranged_digest<'a>(at: At<'a>, report: &mut Report) -> Option<RangedDigest<'a>> {
    let fields = at.fields(DIGEST_KEYS, report)?;
    let user_at = fields.require("user", report);
    let user = user_at.as_ref().and_then(|at| {
        let text = at.name(128, report)?;
        if text.contains(['"', '\\']) {
            at.wrong(report, "must not hold quotes or backslashes");
            return None;
        }
        Ranged::parse(at, text, report)
    });
    let password = password(&at, &fields, report);
    Some(RangedDigest { at: user_at?, user: user?, password: password? })
}

fn password(at: &At<'_>, fields: &Fields<'_>, report: &mut Report) -> Option<Secret> {
    match (fields.get("password"), fields.get("password_file")) {
        (Some(_), Some(_)) => {
            at.wrong(report, "either `password` or `password_file`, not both");
            None
        }
        (None, None) => {
            at.wrong(report, "the key `password_file` (or `password`) is missing");
            None
        }
        (Some(at), None) => {
            let text = at.secret_text(report)?;
            report.holds_secret(Path::new(&*at.node.place.file), at.place(), &at.path);
            usable(&at, Secret::new(text.to_owned()), report)
        }
        (None, Some(at)) => {
            let path = super::path(&at, at.name(4096, report)?);
            report.holds_secret(&path, at.place(), &at.path);
            let secret = read_password(&path).map_err(|message| at.wrong(report, message)).ok()?;
            usable(&at, secret, report)
        }
    }
}

/// The first line of the file.
fn read_password(path: &Path) -> Result<Secret, String> {
    let text = Secret::new(super::short_file(path, 4 * MAX_PASSWORD_BYTES as u64)?);
    if text.expose().starts_with('\u{feff}') {
        let shown = path.display();
        return Err(format!("{shown} begins with a byte order mark (U+FEFF): save it as UTF-8 without it"));
    }
    Ok(Secret::new(text.expose().lines().next().unwrap_or_default().to_owned()))
}

fn usable(at: &At<'_>, secret: Secret, report: &mut Report) -> Option<Secret> {
    let length = secret.expose().len();
    if length == 0 || length > MAX_PASSWORD_BYTES || secret.expose().chars().any(char::is_control) {
        at.wrong(report, format!("a password has 1 to {MAX_PASSWORD_BYTES} characters on one line"));
        return None;
    }
    Some(secret)
}
