//! What the administrator has written: who has which number, and where calls go instead.

use ctimanager::config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// No application has taken a call that is offered at a route point: `cti_new_call_accept_timer`, by default.
pub(super) const NEW_CALL_ACCEPT: Duration = Duration::from_secs(4);
/// A number rings: `forward_no_answer_timer`, by default.
pub(super) const RINGS: Duration = Duration::from_secs(12);
/// Nobody says where the media goes: `media_exchange_timer`, by default.
pub(super) const MEDIA_EXCHANGE: Duration = Duration::from_secs(12);

/// The forwards of a number that configuration alone decides, by the reason that a call has then.
pub(super) const FORWARDS: [&str; 4] =
    ["forward_busy", "forward_no_answer", "forward_unregistered", "forward_on_failure"];

/// Of which kind a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Phone,
    Port,
    RoutePoint,
}

/// A configuration as callers and applications meet it.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Plan {
    forwards: BTreeMap<(String, &'static str), String>,
    devices: BTreeMap<String, (Kind, Vec<String>)>,
    restricted: BTreeSet<String>,
    /// Users who may use CTI.
    users: BTreeSet<String>,
    /// Where applications have sent all calls of a number, or wanted to: more than one where an answer was not seen.
    forward_all: BTreeMap<String, BTreeSet<String>>,
}

impl Plan {
    pub(in crate::sim) fn of(config: &Config) -> Self {
        let mut plan = Self::default();
        for number in &config.numbers {
            let forward = &number.forward;
            let all = [&forward.busy, &forward.no_answer, &forward.unregistered, &forward.on_failure];
            for (reason, to) in FORWARDS.into_iter().zip(all) {
                if let Some(to) = to {
                    plan.forwards.insert((number.dn.to_string(), reason), to.to_string());
                }
            }
            if !number.allow_cti_control {
                plan.restricted.insert(number.dn.to_string());
            }
        }
        for device in &config.devices {
            let kind = match device.kind {
                device_model::plan::DeviceKind::Phone => Kind::Phone,
                device_model::plan::DeviceKind::CtiPort => Kind::Port,
                device_model::plan::DeviceKind::RoutePoint => Kind::RoutePoint,
            };
            let lines = device.lines.iter().map(ToString::to_string).collect();
            plan.devices.insert(device.name.to_string(), (kind, lines));
            if !device.allow_cti_control {
                plan.restricted.insert(device.name.to_string());
            }
        }
        let enabled = |user: &&ctimanager::config::ConfiguredUser| {
            user.groups.iter().any(|group| &**group == "Standard CTI Enabled")
        };
        plan.users = config.users.iter().filter(enabled).map(|user| user.user.id.to_string()).collect();
        plan
    }

    /// An application wants all calls of the number elsewhere, or has been answered that they go there.
    pub(super) fn forwards_all(&mut self, dn: &str, to: Option<&str>, answered: bool) {
        let all = self.forward_all.entry(dn.to_owned()).or_default();
        if answered {
            all.clear();
        }
        all.extend(to.map(str::to_owned));
    }

    /// Where applications have sent all calls of a number.
    pub(super) fn all_calls_go(&self, dn: &str) -> impl Iterator<Item = &str> {
        self.forward_all.get(dn).into_iter().flatten().map(String::as_str)
    }

    /// What applications have set stays whatever the administrator writes.
    pub(super) fn keeps_forwards(&mut self, of: &Self) {
        self.forward_all = of.forward_all.clone();
    }

    /// Where a call that is at this number may go on to, for this reason or any.
    pub(super) fn sends(&self, dn: &str, reason: Option<&str>) -> Vec<&str> {
        let any = |known: &str| reason.is_none_or(|reason| reason == known);
        let written =
            FORWARDS.into_iter().filter(|known| any(known)).filter_map(|known| self.forward(dn, known));
        let all = any("forward_all").then(|| self.all_calls_go(dn));
        written.chain(all.into_iter().flatten()).collect()
    }

    /// Where the configuration sends it for this reason.
    pub(super) fn forward(&self, dn: &str, reason: &str) -> Option<&str> {
        let reason = FORWARDS.iter().find(|known| **known == reason)?;
        self.forwards.get(&(dn.to_owned(), *reason)).map(String::as_str)
    }

    pub(super) fn admits(&self, user: &str) -> bool {
        self.users.contains(user)
    }

    pub(super) fn kind(&self, device: &str) -> Option<Kind> {
        self.devices.get(device).map(|(kind, _)| *kind)
    }

    /// Whether applications hear nothing of the line.
    pub(super) fn is_restricted(&self, device: &str, dn: &str) -> bool {
        self.restricted.contains(device) || self.restricted.contains(dn)
    }

    /// The devices at which a number appears.
    pub(super) fn appearances(&self, dn: &str) -> impl Iterator<Item = (&str, Kind)> {
        let at = self.devices.iter().filter(move |(_, (_, lines))| lines.iter().any(|line| line == dn));
        at.map(|(name, (kind, _))| (name.as_str(), *kind))
    }

    /// Whether this number is that of one phone.
    pub(super) fn is_one_phones(&self, number: &str) -> bool {
        self.appearances(number).filter(|(_, kind)| *kind == Kind::Phone).count() == 1
    }

    /// The port or route point that has the number.
    pub(super) fn application_device(&self, dn: &str) -> Option<&str> {
        self.appearances(dn).find(|(_, kind)| *kind != Kind::Phone).map(|(name, _)| name)
    }
}
