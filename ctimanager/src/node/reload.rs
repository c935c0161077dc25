//! A new configuration while providers are open: who loses what, who gains what, and in which order he is told
//! (reference §2.7, protocol §2 "Failure" and §7).
//!
//! Restrictions are told before the device goes out of service, removals after it is closed, additions once the device is
//! there: the orders of the reference.

use super::open::privileges;
use super::port::{CtiConnection, Output};
use super::{Node, Settings, Step, alarms};
use device_model::{DeviceName, DeviceView, SessionId};
use protocol::event::{CloseReason, DeviceChange};
use protocol::wire::Device;
use protocol::{Event, Symbol};
use security::{Action, Actor, Decision, DeviceFacts, Policy, Privileges};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Which devices exist and which of them applications may control.
type Devices = BTreeMap<DeviceName, DeviceFacts>;

impl Node {
    pub(super) fn configure(&mut self, step: &mut Step<'_>, settings: Arc<Settings>) {
        let before = std::mem::replace(&mut self.settings, settings.clone());
        let (old, new) = (before.policy.devices().clone(), settings.policy.devices().clone());
        self.tell_restrictions(step, &before.policy, &old, &new);
        let removed = self.views(old.keys().filter(|name| !new.contains_key(*name)));
        self.applications.logins.set_limit(settings.sessions.max_login_failures_per_minute);
        self.configure_signalling(step, &settings);
        self.model(step, device_model::Input::Configure(settings.plan.clone()));
        let sessions: Vec<SessionId> = self.applications.sessions.iter().map(|s| s.id()).collect();
        for id in sessions {
            self.reconsider(step, id, &before.policy, &removed);
        }
        let report = self.alarms.occur(&alarms::CONFIGURATION_LOADED, Vec::new());
        step.out.push(Output::Report(report));
    }

    fn configure_signalling(&mut self, step: &mut Step<'_>, settings: &Settings) {
        let accounts = self.directory.ids();
        self.directory.configure(settings.accounts.iter().cloned(), settings.trunks.iter().cloned());
        let kept: HashSet<_> = self.directory.ids().into_iter().collect();
        for gone in accounts.into_iter().filter(|id| !kept.contains(id)) {
            self.sip(step, sip::Input::Command(sip::Command::ForgetAccount(gone)));
        }
    }

    /// `device.restricted` and `device.unrestricted` to everybody who has the device on his list or open.
    fn tell_restrictions(&mut self, step: &mut Step<'_>, policy: &Policy, old: &Devices, new: &Devices) {
        for (name, facts) in new {
            let Some(was) = old.get(name).filter(|was| was.allow_cti_control != facts.allow_cti_control)
            else {
                continue;
            };
            let Some(mut view) = self.model.device(name) else { continue };
            view.restricted = was.allow_cti_control;
            let change = if view.restricted { DeviceChange::Restricted } else { DeviceChange::Unrestricted };
            let sessions: Vec<SessionId> = self
                .applications
                .providers
                .iter()
                .filter(|(id, provider)| self.concerns(policy, **id, &provider.user, name))
                .map(|(id, _)| *id)
                .collect();
            self.tell_device(step, &sessions, change, &view);
        }
    }

    fn concerns(&self, policy: &Policy, id: SessionId, user: &str, device: &DeviceName) -> bool {
        let listed = policy.user(user).is_some_and(|u| u.controlled.entry_for(device.as_str()).is_some());
        listed || self.model.is_open(id, device)
    }

    fn views<'a>(&self, names: impl Iterator<Item = &'a DeviceName>) -> BTreeMap<DeviceName, DeviceView> {
        names.filter_map(|name| Some((name.clone(), self.model.device(name)?))).collect()
    }

    fn tell_device(
        &mut self,
        step: &Step<'_>,
        sessions: &[SessionId],
        change: DeviceChange,
        view: &DeviceView,
    ) {
        if !sessions.is_empty() {
            self.tell_event(
                step,
                sessions,
                Event::Device { change, device: Device::from(view), reason: None },
            );
        }
    }

    fn tell_event(&mut self, step: &Step<'_>, sessions: &[SessionId], event: Event) {
        let event = event.encode(&self.settings.node, step.wall);
        self.tell(sessions, &event);
    }

    /// One open provider under the new policy.
    fn reconsider(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        before: &Policy,
        removed: &BTreeMap<DeviceName, DeviceView>,
    ) {
        let Some(provider) = self.applications.providers.get(&id) else { return };
        let (user, transport) = (provider.user.clone(), provider.transport);
        let policy = self.settings.policy.clone();
        if let Some(reason) = dismissal(&policy, Actor { user: &user, transport }) {
            return self.dismiss(step, id, reason);
        }
        let (was, is) = (before.privileges(&user), policy.privileges(&user));
        if was != is {
            self.tell_event(step, &[id], Event::ProviderPrivilegesChanged { privileges: privileges(is) });
        }
        let withdrawn = was.control_all_devices && !is.control_all_devices;
        if withdrawn {
            self.tell_event(step, &[id], Event::ProviderOutOfService { reason: None });
        }
        self.take_away(step, id, &user, before, removed, is);
        if withdrawn {
            self.tell_event(step, &[id], Event::ProviderInService);
        }
        self.give(step, id, &user, before);
    }

    /// `device.removed`: what is no longer there, or no longer his.
    fn take_away(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        user: &str,
        before: &Policy,
        removed: &BTreeMap<DeviceName, DeviceView>,
        privileges: Privileges,
    ) {
        let listed = |policy: &Policy, name: &DeviceName| {
            policy.user(user).is_some_and(|u| u.controlled.entry_for(name.as_str()).is_some())
        };
        let policy = self.settings.policy.clone();
        let mut lost: BTreeSet<DeviceName> = BTreeSet::new();
        if before.user(user).map(|u| &u.controlled) != policy.user(user).map(|u| &u.controlled) {
            let names = policy.devices().keys().filter(|n| listed(before, n) && !listed(&policy, n));
            lost.extend(names.filter(|_| !privileges.control_all_devices).cloned());
        }
        if !privileges.control_all_devices {
            lost.extend(self.model.open_devices(id).filter(|n| !listed(&policy, n)).cloned());
        }
        for (name, view) in removed {
            // A super provider that had it open was told `device.closed` by the model and needs no more.
            if listed(before, name) {
                self.tell_device(step, &[id], DeviceChange::Removed, view);
            }
        }
        for name in lost {
            if self.model.is_open(id, &name) {
                self.model(step, device_model::Input::Revoked { session: id, device: name.clone() });
            }
            if let Some(view) = self.model.device(&name) {
                self.tell_device(step, &[id], DeviceChange::Removed, &view);
            }
        }
    }

    /// `device.added`: what is new on his list.
    fn give(&mut self, step: &Step<'_>, id: SessionId, user: &str, before: &Policy) {
        let policy = self.settings.policy.clone();
        let Some(now) = policy.user(user) else { return };
        let old = before.user(user);
        let had = |name: &DeviceName| {
            before.devices().contains_key(name)
                && old.is_some_and(|u| u.controlled.entry_for(name.as_str()).is_some())
        };
        let gained: Vec<DeviceName> =
            policy.controlled_devices(now).filter(|name| !had(name)).cloned().collect();
        for name in gained {
            if let Some(view) = self.model.device(&name) {
                self.tell_device(step, &[id], DeviceChange::Added, &view);
            }
        }
    }

    /// The user is gone, or may no longer use CTI: his provider fails (protocol §2).
    fn dismiss(&mut self, step: &mut Step<'_>, id: SessionId, reason: CloseReason) {
        let connection: Option<CtiConnection> =
            self.applications.sessions.get(id).and_then(|session| session.connection());
        self.flush_session(step, id);
        if let Some(connection) = connection {
            self.close_connection(step, connection, reason);
        }
        self.end_session(step, id, reason.name());
    }
}

/// Why an open provider must go under this policy.
fn dismissal(policy: &Policy, actor: Actor<'_>) -> Option<CloseReason> {
    match policy.decide(actor, Action::OpenProvider) {
        Decision::Allowed(_) => None,
        Decision::Refused(_) if policy.user(actor.user).is_none() => Some(CloseReason::UserDeleted),
        // A transport that has become too weak ends the provider, too; the reopening says why.
        Decision::Refused(refusal) => {
            debug_assert!(
                [Symbol::UserNotCtiEnabled.name(), Symbol::SecureConnectionRequired.name()]
                    .contains(&refusal.kind.symbol())
            );
            Some(CloseReason::NotCtiEnabled)
        }
    }
}
