//! A new configuration while providers are open: who loses what, who gains what, and in which order he is told
//! (reference §2.7, protocol §2 "Failure" and §7).
//!
//! Nobody hears anything of the new configuration that it does not let him hear: users who are gone go first, then
//! rights and devices are taken away, and only then does the model take the new plan and speak of it. Restrictions are
//! told before the device goes out of service, removals after it is closed, additions once the device is there: the
//! orders of the reference.

pub(super) mod announcements;
mod difference;

use super::open::privileges;
use super::port::{CtiConnection, Output};
use super::{Node, Settings, Step, alarms};
use announcements::Announcement;
use device_model::port::{Limit, OutOfServiceReason};
use device_model::{DeviceName, DeviceView, Dn, SessionId};
use difference::{Difference, Share};
use protocol::Event;
use protocol::event::{CloseReason, DeviceChange};
use protocol::wire::Device;
use security::limits::RequestRate;
use security::{Action, Actor, Decision, Policy, RefusalKind};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// What one reload brings to whom.
struct Reload {
    before: Arc<Settings>,
    after: Arc<Settings>,
    difference: Difference,
    /// The devices that go, as they were last.
    last_seen: BTreeMap<DeviceName, DeviceView>,
    /// By user, for all his providers.
    shares: HashMap<Arc<str>, Share>,
    /// Numbers that the new plan restricts.
    restricted: HashSet<Dn>,
    /// What was taken away and told already.
    revoked: BTreeSet<(SessionId, DeviceName)>,
}

impl Node {
    pub(super) fn configure(&mut self, step: &mut Step<'_>, settings: Arc<Settings>) {
        let before = std::mem::replace(&mut self.settings, settings.clone());
        self.policy_replaced(&before.policy);
        let difference = Difference::between(&before.plan, &settings.plan);
        let last_seen = difference.removed.iter();
        let last_seen = last_seen.filter_map(|name| Some((name.clone(), self.model.device(name)?))).collect();
        let numbers = settings.plan.numbers.iter().filter(|number| !number.allow_cti_control);
        let restricted = numbers.map(|number| number.dn.clone()).collect();
        let shares = HashMap::new();
        let reload = Reload {
            before,
            after: settings,
            difference,
            last_seen,
            shares,
            restricted,
            revoked: BTreeSet::new(),
        };
        self.carry_through(step, reload);
        self.look_at_certificates(step);
        let report = self.alarms.occur(&alarms::CONFIGURATION_LOADED, Vec::new());
        step.out.push(Output::Report(report));
    }

    fn carry_through(&mut self, step: &mut Step<'_>, mut reload: Reload) {
        for (id, reason) in self.dismissed(&reload.after.policy) {
            self.dismiss(step, id, reason);
        }
        let sessions = self.applications.everybody();
        reload.share_out(self.applications.providers.values().map(|provider| &provider.user));
        for id in &sessions {
            self.take_away(step, *id, &mut reload);
        }
        self.tell_restrictions(step, &reload);
        self.configure_signalling(step, &reload.after);
        self.model(step, device_model::Input::Configure(reload.after.plan.clone()));
        self.give(step.now, &sessions, &reload);
        self.announce(step);
        self.configure_sessions(step, &sessions, &reload);
    }

    /// Whose provider must go, and why.
    fn dismissed(&self, policy: &Policy) -> Vec<(SessionId, CloseReason)> {
        let providers = self.applications.providers.iter();
        let mut gone: Vec<_> = providers
            .filter_map(|(id, provider)| {
                let actor = Actor { user: &provider.user, transport: provider.transport };
                Some((*id, dismissal(policy, actor)?))
            })
            .collect();
        gone.sort_unstable();
        gone
    }

    /// The user is gone, or may no longer use CTI: his provider fails (protocol §2).
    pub(super) fn dismiss(&mut self, step: &mut Step<'_>, id: SessionId, reason: CloseReason) {
        let connection: Option<CtiConnection> =
            self.applications.sessions.get(id).and_then(|session| session.connection());
        self.flush_session(step, id);
        if let Some(connection) = connection {
            self.close_connection(step, connection, reason);
        }
        self.end_session(step, id, reason.name());
    }

    /// Rights and devices that an open provider loses. Without the super provider's right it goes out of service and
    /// comes back as a normal one (reference §9a, sequence 12).
    fn take_away(&mut self, step: &mut Step<'_>, id: SessionId, reload: &mut Reload) {
        let Some(provider) = self.applications.providers.get(&id) else { return };
        let user = provider.user.clone();
        let (was, is) = (reload.before.policy.privileges(&user), reload.after.policy.privileges(&user));
        if was != is {
            self.tell_event(step, &[id], Event::ProviderPrivilegesChanged { privileges: privileges(is) });
        }
        let withdrawn = was.control_all_devices && !is.control_all_devices;
        if withdrawn {
            self.tell_event(step, &[id], Event::ProviderOutOfService { reason: None });
        }
        for name in self.lost(id, reload) {
            self.keeping.device(id, &name);
            self.model(step, device_model::Input::Revoked { session: id, device: name.clone() });
            if let Some(view) = self.model.device(&name) {
                self.tell_device(step, &[id], DeviceChange::Removed, &view, None);
            }
            reload.revoked.insert((id, name));
        }
        if withdrawn {
            self.tell_event(step, &[id], Event::ProviderInService);
            self.tell_kept(step, id, reload);
        }
    }

    /// The open devices that stay but that this provider may no longer open. A restricted one stays his.
    fn lost(&self, id: SessionId, reload: &Reload) -> Vec<DeviceName> {
        let Some(provider) = self.applications.providers.get(&id) else { return Vec::new() };
        let (before, after) = (&reload.before.policy, &reload.after.policy);
        if before.user(&provider.user) == after.user(&provider.user) {
            return Vec::new();
        }
        let actor = Actor { user: &provider.user, transport: provider.transport };
        let stays = |name: &DeviceName| !reload.difference.removed.contains(name);
        let may_not = |name: &DeviceName| match after.decide(actor, Action::OpenDevice(name)) {
            Decision::Allowed(_) => false,
            Decision::Refused(refusal) => refusal.kind != RefusalKind::DeviceRestricted,
        };
        self.model.open_devices(id).filter(|name| stays(name) && may_not(name)).cloned().collect()
    }

    /// What a provider that is a normal one now keeps open.
    fn tell_kept(&mut self, step: &Step<'_>, id: SessionId, reload: &Reload) {
        let open = self.model.open_devices(id).filter(|name| !reload.difference.removed.contains(*name));
        let kept: Vec<DeviceView> = open.filter_map(|name| self.model.device(name)).collect();
        for view in kept {
            self.tell_device(step, &[id], DeviceChange::Added, &view, None);
        }
    }

    /// `device.restricted` and `device.unrestricted` to everybody who has the device on his list or open.
    fn tell_restrictions(&mut self, step: &mut Step<'_>, reload: &Reload) {
        for changed in &reload.difference.restrictions {
            let name = &changed.device;
            let Some(mut view) = self.model.device(name) else { continue };
            view.restricted = changed.itself.unwrap_or(view.restricted);
            for line in &mut view.lines {
                line.restricted = reload.restricts(&line.dn);
            }
            let sessions = self.concerned(name, reload);
            if let Some(on) = changed.itself {
                self.tell_device(step, &sessions, restriction(on), &view, None);
            }
            if let Some(on) = changed.line {
                let reason = Some(OutOfServiceReason::LineRestricted);
                self.tell_device(step, &sessions, restriction(on), &view, reason);
            }
        }
    }

    /// The providers that have the device on their list or open, in order.
    fn concerned(&self, device: &DeviceName, reload: &Reload) -> Vec<SessionId> {
        let providers = self.applications.providers.iter();
        let concerned = providers.filter(|(id, provider)| {
            reload.lists(&provider.user, device) || self.model.is_open(**id, device)
        });
        let mut sessions: Vec<SessionId> = concerned.map(|(id, _)| *id).collect();
        sessions.sort_unstable();
        sessions
    }

    pub(super) fn tell_device(
        &mut self,
        step: &Step<'_>,
        sessions: &[SessionId],
        change: DeviceChange,
        view: &DeviceView,
        reason: Option<OutOfServiceReason>,
    ) {
        if !sessions.is_empty() {
            sessions.iter().for_each(|id| self.keeping.device(*id, &view.name));
            let reason = reason.map(Into::into);
            self.tell_event(step, sessions, Event::Device { change, device: Device::from(view), reason });
        }
    }

    /// Devices that went and those that came. A super provider that had an unlisted one open was told `device.closed` by
    /// the model, and needs no more.
    fn give(&mut self, now: Instant, sessions: &[SessionId], reload: &Reload) {
        let mut removed: BTreeMap<&DeviceName, Vec<SessionId>> = BTreeMap::new();
        let mut added: BTreeMap<&DeviceName, Vec<SessionId>> = BTreeMap::new();
        for id in sessions {
            let Some(provider) = self.applications.providers.get(id) else { continue };
            let Some(share) = reload.shares.get(&provider.user) else { continue };
            let unlisted = share.unlisted.iter().filter(|name| !self.keeps(*id, name, reload));
            for name in share.removed.iter().chain(unlisted) {
                removed.entry(name).or_default().push(*id);
            }
            let relined = reload.difference.relined.iter();
            let opened = relined.filter(|name| self.model.is_open(*id, name) && !share.gains(name));
            for name in share.gained.iter().chain(opened) {
                added.entry(name).or_default().push(*id);
            }
        }
        for (name, sessions) in removed {
            if let Some(view) = reload.last_seen.get(name).cloned().or_else(|| self.model.device(name)) {
                let gone = Announcement::Removed(Box::new(view), sessions);
                self.applications.announcements.push(now, gone);
            }
        }
        for (name, sessions) in added {
            self.applications.announcements.push(now, Announcement::Added(name.clone(), sessions));
        }
    }

    /// Whether a device that left the provider's list needs no more word: it was told before, or a super provider has it
    /// open and keeps it.
    fn keeps(&self, id: SessionId, device: &DeviceName, reload: &Reload) -> bool {
        self.model.is_open(id, device) || reload.revoked.contains(&(id, device.clone()))
    }

    /// Whether the device is (still) on the provider's list, or open to him.
    fn sees(&self, id: SessionId, device: &DeviceName) -> bool {
        let provider = self.applications.providers.get(&id);
        let user = provider.and_then(|provider| self.settings.policy.user(&provider.user));
        user.is_some_and(|user| user.controlled.entry_for(device.as_str()).is_some())
            || self.model.is_open(id, device)
    }

    /// Tells the next of the reload's announcements.
    pub(super) fn announce(&mut self, step: &mut Step<'_>) {
        for _ in 0..self.applications.announcements.share() {
            let Some(announcement) = self.applications.announcements.pop() else { break };
            match announcement {
                Announcement::Removed(view, sessions) => {
                    self.tell_device(step, &sessions, DeviceChange::Removed, &view, None);
                }
                Announcement::Added(name, mut sessions) => {
                    sessions.retain(|id| self.sees(*id, &name));
                    if let Some(view) = self.model.device(&name) {
                        self.tell_device(step, &sessions, DeviceChange::Added, &view, None);
                    }
                }
            }
        }
        self.applications.announcements.rest(step.now);
    }

    fn configure_signalling(&mut self, step: &mut Step<'_>, settings: &Settings) {
        let accounts = self.directory.ids();
        self.directory.configure(settings.accounts.iter().cloned(), settings.trunks.iter().cloned());
        let kept: HashSet<_> = self.directory.ids().into_iter().collect();
        for gone in accounts.into_iter().filter(|id| !kept.contains(id)) {
            self.sip(step, sip::Input::Command(sip::Command::ForgetAccount(gone)));
        }
        let bounds = super::sip_config(settings);
        self.stack.set_bounds(bounds.max_calls, bounds.max_transactions, bounds.max_contacts);
    }

    /// The limits of the sessions that are open. What was negotiated at their opening (heartbeat, grace) stays.
    fn configure_sessions(&mut self, step: &mut Step<'_>, sessions: &[SessionId], reload: &Reload) {
        let (was, is) = (&reload.before.sessions, &reload.after.sessions);
        self.applications.logins.set_limit(is.max_login_failures_per_minute);
        self.applications.user_rates.set_rate(is.max_requests_per_second_per_user);
        self.applications.address_rates.set_rate(is.max_requests_per_second_per_address);
        if was.max_requests_per_second != is.max_requests_per_second {
            for provider in self.applications.providers.values_mut() {
                provider.rate = RequestRate::new(step.now, is.max_requests_per_second);
            }
        }
        for id in sessions {
            if let Some(mut session) = self.applications.sessions.get_mut(*id) {
                session.set_bounds(is.log_events, is.log_bytes, is.queue_events);
                session.set_request_bounds(is.idem_keys, is.pending_requests);
            }
            self.keeping.session(*id);
        }
        self.weigh_connections(step);
        self.weigh_soft_limits(step, sessions);
    }

    /// Soft limits that the new ones have passed or kept again.
    fn weigh_soft_limits(&mut self, step: &mut Step<'_>, sessions: &[SessionId]) {
        let parameters = &self.settings.plan.parameters;
        let (per_provider, per_node) = (parameters.max_devices_per_provider, parameters.max_devices_per_node);
        for session in sessions.iter().copied() {
            let open = u32::try_from(self.model.open_devices(session).count()).unwrap_or(u32::MAX);
            let (limit, exceeded) = (per_provider, open > per_provider);
            self.limit(step, &Limit::DevicesPerProvider { session, open, limit, exceeded });
        }
        let open = self.model.counts().open_devices;
        self.limit(step, &Limit::DevicesPerNode { open, limit: per_node, exceeded: open > per_node });
    }
}

impl Reload {
    fn share_out<'a>(&mut self, users: impl Iterator<Item = &'a Arc<str>>) {
        for user in users {
            if !self.shares.contains_key(user) {
                let share = Share::of(user, &self.before, &self.after, &self.difference);
                self.shares.insert(user.clone(), share);
            }
        }
    }

    fn lists(&self, user: &str, device: &DeviceName) -> bool {
        let user = self.after.policy.user(user);
        user.is_some_and(|user| user.controlled.entry_for(device.as_str()).is_some())
    }

    /// Whether the new plan restricts a number.
    fn restricts(&self, dn: &Dn) -> bool {
        self.restricted.contains(dn)
    }
}

fn restriction(on: bool) -> DeviceChange {
    if on { DeviceChange::Restricted } else { DeviceChange::Unrestricted }
}

/// Why an open provider must go under this policy.
pub(super) fn dismissal(policy: &Policy, actor: Actor<'_>) -> Option<CloseReason> {
    match policy.decide(actor, Action::OpenProvider) {
        Decision::Allowed(_) => None,
        Decision::Refused(_) if policy.user(actor.user).is_none() => Some(CloseReason::UserDeleted),
        // A transport that has become too weak ends the provider, too; the reopening says why.
        Decision::Refused(_) => Some(CloseReason::NotCtiEnabled),
    }
}
