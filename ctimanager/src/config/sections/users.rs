//! `user_groups` and `users`.

use crate::config::fields::{At, Fields};
use crate::config::mistake::Report;
use crate::config::names::{Kind, Names};
use crate::config::{ConfiguredUser, UserGroup};
use security::devices::ControlledDevices;
use security::{Groups, StandardGroup, User, UserKind, password};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::config) const GROUP_KEYS: &[&str] = &["name", "includes"];
pub(in crate::config) const USER_KEYS: &[&str] =
    &["id", "kind", "password_hash", "groups", "controlled_devices", "session_resume_grace"];
pub(in crate::config) const KINDS: &[(&str, UserKind)] =
    &[("application_user", UserKind::ApplicationUser), ("end_user", UserKind::EndUser)];
pub(in crate::config) const GRACE: std::ops::RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(600);

/// The longest name of a group; the longest standard one has 71.
const MAX_GROUP_NAME: usize = 128;
/// The most entries of a user's list of devices.
const MAX_CONTROLLED: usize = 100_000;

pub(in crate::config) fn group(at: &At<'_>, names: &mut Names, report: &mut Report) -> Option<UserGroup> {
    let fields = at.fields(GROUP_KEYS, report)?;
    let name_at = fields.require("name", report);
    let name = name_at.as_ref().and_then(|at| {
        let name = at.name(MAX_GROUP_NAME, report)?;
        if StandardGroup::from_name(name).is_some() {
            at.wrong(report, format!("`{name}` is a standard group: call your own otherwise"));
            return None;
        }
        names.define(Kind::UserGroup, name, at, report).then_some(name)
    });
    let mut includes = Groups::NONE;
    for item in fields.require("includes", report)?.items(report) {
        let Some(written) = item.name(MAX_GROUP_NAME, report) else { continue };
        match StandardGroup::from_name(written) {
            Some(group) => includes = includes.with(group),
            None => {
                let hint = report.did_you_mean(written, StandardGroup::ALL.map(StandardGroup::name));
                let own = if names.is_defined(Kind::UserGroup, written) {
                    ": a bundle holds standard groups, not other bundles"
                } else {
                    &hint
                };
                item.wrong(report, format!("`{written}` is no standard group{own}"));
            }
        }
    }
    Some(UserGroup { name: name?.into(), includes, place: at.place() })
}

pub(in crate::config) fn users(
    at: Option<At<'_>>,
    groups: &[UserGroup],
    names: &mut Names,
    report: &mut Report,
) -> Vec<ConfiguredUser> {
    super::items(at, names, report, |at, names, report| user(at, groups, names, report))
}

fn user(at: &At<'_>, own: &[UserGroup], names: &mut Names, report: &mut Report) -> Option<ConfiguredUser> {
    let fields = at.fields(USER_KEYS, report)?;
    let id_at = fields.require("id", report);
    let id = id_at.as_ref().and_then(|at| {
        let id = at.name(128, report)?;
        names.define(Kind::User, id, at, report).then_some(id)
    });
    let kind = fields.get("kind").map_or(Some(UserKind::ApplicationUser), |at| at.choice(KINDS, report));
    let password_hash = fields.get("password_hash").and_then(|at| hash(&at, report));
    let (groups, written) = memberships(&fields, own, names, report);
    let controlled = controlled_devices(&fields, names, report);
    let grace = fields.get("session_resume_grace").and_then(|at| at.duration(GRACE, report));
    let place_of = |key: &str| fields.get(key).map_or_else(|| at.place(), |at| at.place());
    Some(ConfiguredUser {
        user: User {
            id: id?.into(),
            kind: kind?,
            password_hash,
            groups,
            controlled,
            session_resume_grace: grace,
        },
        groups: written,
        place: at.place(),
        groups_place: place_of("groups"),
        controlled_devices_place: place_of("controlled_devices"),
    })
}

fn hash(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.secret_text(report)?;
    match password::check(text) {
        Ok(()) => Some(text.into()),
        Err(error) => {
            at.wrong(report, error.to_string());
            None
        }
    }
}

/// The standard groups of a user, his own bundles resolved, and what he is a member of as written.
fn memberships(
    fields: &Fields<'_>,
    own: &[UserGroup],
    names: &Names,
    report: &mut Report,
) -> (Groups, Vec<Arc<str>>) {
    let (mut groups, mut written) = (Groups::NONE, Vec::new());
    for item in fields.get("groups").map(|at| at.items(report)).unwrap_or_default() {
        let Some(name) = item.name(MAX_GROUP_NAME, report) else { continue };
        if let Some(group) = StandardGroup::from_name(name) {
            groups = groups.with(group);
        } else if let Some(bundle) = own.iter().find(|group| &*group.name == name) {
            groups = groups.union(bundle.includes);
        } else if !names.is_defined(Kind::UserGroup, name) {
            let known =
                StandardGroup::ALL.map(StandardGroup::name).into_iter().chain(names.of(Kind::UserGroup));
            let hint = report.did_you_mean(name, known);
            item.wrong(report, format!("there is no user group `{name}`{hint}"));
        }
        written.push(name.into());
    }
    (groups, written)
}

fn controlled_devices(fields: &Fields<'_>, names: &mut Names, report: &mut Report) -> ControlledDevices {
    let mut list = ControlledDevices::default();
    let items = fields.get("controlled_devices").map(|at| at.items(report)).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let Some(entry) = item.text(report) else { continue };
        if index >= MAX_CONTROLLED {
            item.wrong(report, format!("more than {MAX_CONTROLLED} entries"));
            break;
        }
        match list.add(entry) {
            Ok(()) => names.refer(Kind::Device, entry, item),
            Err(error) => item.wrong(report, error.to_string()),
        }
    }
    list
}
