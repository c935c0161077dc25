//! A new configuration while providers are open: who loses what, who gains what, and in which order he is told
//! (reference §2.7, protocol §2 "Failure" and §7).
//!
//! The switch is one step: from then on every question is answered by the new configuration, and whoever lost something
//! can neither use nor hear it. What it changes was found before ([`Switch`]), so that the step exchanges tables. What
//! follows is carried out in portions ([`consequences`]): calls that may not stay end first, then devices that are lost are
//! told, then those that are gained. Restrictions are told before the device goes out of service, removals after it is
//! closed, additions once the device is there: the orders of the reference. Whoever asks for a device is told of it first.

pub(in crate::node) mod consequences;
mod switch;
mod telling;

pub use switch::Switch;

use super::CtiManager;
use super::open::privileges;
use super::session_records::trigger;
use crate::node::port::{CtiConnection, Output};
use crate::node::{Settings, Step, alarms, shares_of};
use consequences::{Listeners, MAX_RELOADS, Parameters, Reload};
use device_model::{News, Revocation, RevokedDevices, SessionId};
use protocol::Event;
use protocol::event::CloseReason;
use security::{Action, Actor, Decision, Policy};
use std::sync::Arc;

impl CtiManager {
    pub(in crate::node) fn configure(&mut self, step: &mut Step<'_>, switch: Switch) -> Arc<Settings> {
        // What was asked before was permitted by what is in force now, and whoever was told of something might hear it.
        self.deliver(step, usize::MAX);
        self.hear_all(step);
        // Other settings came in between: what was found of the difference is not true any more.
        let switch = match Arc::ptr_eq(&switch.before, &self.settings) {
            true => switch,
            false => Switch::between(&self.settings, switch.after),
        };
        self.settings = Arc::clone(&switch.after);
        step.settings = Arc::clone(&switch.after);
        self.policy_replaced(&switch.before.policy);
        self.carry_through(step, switch);
        self.look_at_certificates(step);
        self.weigh_passwords(step);
        let report = step.alarms.occur(&alarms::CONFIGURATION_LOADED, Vec::new());
        step.out.extend([Output::Report(report), Output::InForce]);
        Arc::clone(&self.settings)
    }

    fn carry_through(&mut self, step: &mut Step<'_>, mut switch: Switch) {
        while self.applications.consequences.reloads.len() >= MAX_RELOADS {
            self.finish_oldest(step);
        }
        let dismissed = self.dismiss_all(step, &switch.after);
        let all = |(session, _): &(SessionId, Parameters)| Revocation {
            session: *session,
            devices: RevokedDevices::All,
        };
        let mut revoked: Vec<Revocation> = dismissed.iter().map(all).collect();
        let plan = switch.plan.take();
        let mut reload = Reload::new(switch, self.listeners());
        let withdrawn = self.withdraw_rights(step, &reload);
        revoked.extend(self.revocations(&reload));
        self.configure_signalling(step, &reload.after);
        self.applications.consequences.lost.clear();
        let same = plan.is_none();
        self.model(step, device_model::Input::Configure { plan, revoked });
        let mut lost = std::mem::take(&mut self.applications.consequences.lost);
        if !same || !lost.is_empty() {
            self.keep_what_changed(
                step.calls.devices(),
                lost.iter().map(|(session, names)| (*session, Arc::clone(names))),
            );
        }
        let mut lost = |session| lost.remove(&session).unwrap_or_default();
        reload.lay_out(&withdrawn.into_iter().map(|session| (session, lost(session))).collect());
        for (session, parameters) in dismissed {
            reload.report_closed(parameters, &lost(session));
        }
        reload.generation = step.calls.devices().generation();
        self.configure_sessions(step, &reload);
        self.applications.consequences.reloads.push_back(reload);
        self.carry_out(step);
    }

    fn listeners(&self) -> Listeners {
        let mut listeners = Listeners::new();
        for id in self.applications.everybody() {
            if let Some(provider) = self.applications.providers.get(&id) {
                listeners.entry(provider.user.clone()).or_default().push(id);
            }
        }
        listeners
    }

    /// Ends the providers of users who are gone or may no longer use CTI (protocol §2), and those whose certificate is taken
    /// back. What they held goes with the
    /// switch.
    fn dismiss_all(&mut self, step: &mut Step<'_>, after: &Settings) -> Vec<(SessionId, Parameters)> {
        let providers = self.applications.providers.iter();
        let mut gone: Vec<_> = providers
            .filter_map(|(id, provider)| {
                let actor = Actor { user: &provider.user, transport: provider.transport };
                let revoked =
                    || provider.credential.is_revoked(after).then_some(CloseReason::CertificateRevoked);
                Some((*id, dismissal(&after.policy, actor).or_else(revoked)?))
            })
            .collect();
        gone.sort_unstable();
        let mut dismissed = Vec::new();
        for (session, reason) in gone {
            self.say_goodbye(step, session, reason);
            if reason == CloseReason::CertificateRevoked {
                self.report_revoked(step, session);
            }
            let Some(parameters) = self.forget_session(step, session, trigger(reason)) else { continue };
            let report = step.alarms.occur(&alarms::PROVIDER_CLOSED, parameters.clone());
            step.out.push(Output::Report(report));
            dismissed.push((session, parameters));
        }
        dismissed
    }

    fn say_goodbye(&mut self, step: &mut Step<'_>, id: SessionId, reason: CloseReason) {
        let connection: Option<CtiConnection> =
            self.applications.sessions.get(id).and_then(|session| session.connection());
        self.flush_session(step, id);
        if let Some(connection) = connection {
            self.close_connection(step, connection, reason);
        }
    }

    /// Tells whose rights changed. Without the super provider's right a provider goes out of service, and comes back as a
    /// normal one (reference §9a, sequence 12): those are returned.
    fn withdraw_rights(&mut self, step: &mut Step<'_>, reload: &Reload) -> Vec<SessionId> {
        let mut withdrawn = Vec::new();
        for (user, sessions) in &reload.listeners {
            let (was, is) = (reload.before.policy.privileges(user), reload.after.policy.privileges(user));
            if was != is {
                let event = Event::ProviderPrivilegesChanged { privileges: privileges(is) };
                self.tell_event(step, sessions, event);
            }
            if was.control_all_devices && !is.control_all_devices {
                self.tell_event(step, sessions, Event::ProviderOutOfService { reason: None });
                withdrawn.extend(sessions);
            }
        }
        withdrawn
    }

    /// The holds that open providers lose by their users' lists.
    fn revocations(&self, reload: &Reload) -> Vec<Revocation> {
        let mut revoked = Vec::new();
        for (user, lists) in &reload.difference.users {
            for session in reload.listeners.get(user).into_iter().flatten() {
                let devices = RevokedDevices::Listed(Arc::clone(&lists.revoked));
                revoked.push(Revocation { session: *session, devices });
            }
        }
        revoked.sort_unstable_by_key(|revocation| revocation.session);
        revoked
    }

    /// What the model makes known while it takes a plan or settles devices.
    pub(in crate::node) fn tell_news(&mut self, step: &mut Step<'_>, news: News) {
        match news {
            News::Revoked { session, devices } => {
                devices.iter().for_each(|device| self.mirror.closed(session, device));
                self.applications.consequences.lost.insert(session, devices);
            }
            News::Opened { session, device, legs } => self.mirror.opened(session, &device, legs),
            News::Closed { session, device } => self.mirror.closed(session, &device),
            News::Hidden { device, legs } => self.mirror.hide(&device, &legs),
            News::Reached { device } => {
                let difference = self.mirror.reached(&device);
                self.tell_difference(step, difference);
            }
            News::Departed { session, devices, over } => {
                devices.iter().for_each(|device| self.mirror.closed(session, device));
                self.departed(step, session, devices, over);
            }
            News::Restriction { device, itself, line } => {
                self.mirror.restricted(&device);
                self.tell_restriction(step, &device, itself, line);
            }
            News::Removed { device, generation } => self.tell_removed(step, &device, generation),
        }
    }

    fn configure_signalling(&mut self, step: &mut Step<'_>, settings: &Settings) {
        step.calls.configure(settings);
        self.forget_before_return(step);
        settings.set_shares(step.shares);
        step.know_trunks();
        step.out.push(Output::SipShares(shares_of(&settings.config.parameters)));
        self.calls(step, |calls, turn| calls.dismiss_peers(turn, settings));
    }

    /// The limits of the sessions that are open. What was negotiated at their opening (heartbeat, grace) stays.
    fn configure_sessions(&mut self, step: &mut Step<'_>, reload: &Reload) {
        let is = &reload.after.sessions;
        let sessions: Vec<SessionId> = reload.listeners.values().flatten().copied().collect();
        for id in &sessions {
            if let Some(mut session) = self.applications.sessions.get_mut(*id) {
                session.set_bounds(is.log_events, is.log_bytes, is.queue_events);
                session.set_request_bounds(is.idem_keys, is.pending_requests);
            }
            self.keeping.session(*id);
        }
        self.weigh_connections(step);
        reload.listeners.keys().for_each(|user| self.weigh_user(step, user));
    }
}

/// Why an open provider must go under this policy.
pub(in crate::node) fn dismissal(policy: &Policy, actor: Actor<'_>) -> Option<CloseReason> {
    match policy.decide(actor, Action::OpenProvider) {
        Decision::Allowed(_) => None,
        Decision::Refused(_) if policy.user(actor.user).is_none() => Some(CloseReason::UserDeleted),
        // A transport that has become too weak ends the provider, too; the reopening says why.
        Decision::Refused(_) => Some(CloseReason::NotCtiEnabled),
    }
}
