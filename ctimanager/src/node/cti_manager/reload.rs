//! A new configuration while providers are open: who loses what, who gains what, and in which order he is told
//! (reference §2.7, protocol §2 "Failure" and §7).
//!
//! The switch is one step: from then on every question is answered by the new configuration, and whoever lost something
//! can neither use nor hear it. What it changes was found before ([`Switch`]), so that the step exchanges tables. What
//! follows is carried out in portions ([`consequences`]): calls that may not stay end first, then devices that are lost are
//! told, then those that are gained. Sessions that may not stay have ended in that step, too, and hear of it in their turn
//! ([`super::dismissals`]). Restrictions are told before the device goes out of service, removals after it is
//! closed, additions once the device is there: the orders of the reference. Whoever asks for a device is told of it first.

pub(in crate::node) mod consequences;
mod switch;
mod telling;

pub use switch::Switch;

use super::CtiManager;
use super::open::privileges;
use crate::node::port::Output;
use crate::node::{Settings, Step, alarms, shares_of};
use consequences::{Listeners, MAX_RELOADS, Reload, Waiting};
use device_model::{News, Revocation, SessionId};
use protocol::Event;
use protocol::event::CloseReason;
use security::{Action, Actor, Decision, Policy};
use std::sync::Arc;

impl CtiManager {
    /// Puts another configuration in force. While many are still being told it waits until the oldest of them is; one that
    /// comes meanwhile takes its place, and is the answer to both.
    pub(in crate::node) fn configure(&mut self, step: &mut Step<'_>, switch: Switch) {
        let consequences = &mut self.applications.consequences;
        let before = consequences.waiting.take().map_or(0, |waiting| waiting.asked);
        let waiting = Waiting { switch, asked: before + 1 };
        match consequences.reloads.len() < MAX_RELOADS {
            true => self.put_in_force(step, waiting),
            false => consequences.waiting = Some(waiting),
        }
    }

    pub(in crate::node) fn put_in_force(&mut self, step: &mut Step<'_>, waiting: Waiting) {
        let Waiting { switch, asked } = waiting;
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
        step.out.push(Output::Report(report));
        step.out.extend((0..asked).map(|_| Output::InForce));
    }

    fn carry_through(&mut self, step: &mut Step<'_>, mut switch: Switch) {
        let dismissed = self.dismiss_all(step, &switch.after);
        let plan = switch.plan.take();
        let mut reload = Reload::new(switch, self.listeners());
        let withdrawn = self.withdraw_rights(step, &reload);
        let revoked = self.revocations(&reload);
        self.configure_signalling(step, &reload.after);
        self.applications.consequences.lost.clear();
        let same = plan.is_none();
        self.model(step, device_model::Input::Configure { plan, revoked });
        let mut lost = std::mem::take(&mut self.applications.consequences.lost);
        if !same || !lost.is_empty() {
            self.keep_what_changed(lost.iter().map(|(session, names)| (*session, Arc::clone(names))));
        }
        let mut lost = |session| lost.remove(&session).unwrap_or_default();
        reload.lay_out(&withdrawn.into_iter().map(|session| (session, lost(session))).collect());
        reload.generation = step.calls.devices().generation();
        self.configure_sessions(step, &reload);
        self.applications.consequences.reloads.push_back(reload);
        // What becomes of their devices and calls is for the new plan to say.
        if !dismissed.is_empty() {
            self.model(step, device_model::Input::SessionsEnded(dismissed));
        }
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

    /// Tells whose rights changed. Without the super provider's right a provider goes out of service, and comes back as a
    /// normal one (reference §9a, sequence 12): those are returned.
    fn withdraw_rights(&mut self, step: &mut Step<'_>, reload: &Reload) -> Vec<SessionId> {
        let mut withdrawn = Vec::new();
        for (user, sessions) in &reload.listeners {
            let (was, is) = (reload.before.policy.privileges(user), reload.after.policy.privileges(user));
            if was != is {
                let event = Event::ProviderPrivilegesChanged { privileges: privileges(is) };
                self.tell_first(step, sessions, event);
            }
            if was.control_all_devices && !is.control_all_devices {
                self.tell_first(step, sessions, Event::ProviderOutOfService { reason: None });
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
                let devices = Arc::clone(&lists.revoked);
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
                self.revoke(session, &devices);
                self.applications.consequences.lost.insert(session, devices);
            }
            News::Opened { session, device, media, legs } => {
                self.mirror.opened(session, &device, media, legs);
            }
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
            News::Announced { device, itself, line } => {
                if itself.is_some() || line.is_some() {
                    self.tell_restriction(step, &device, itself, line);
                }
                let back = self.mirror.announced(&device);
                self.tell_difference(step, back);
            }
            News::Settled { device } => {
                let openers = self.mirror.openers(&device.name);
                openers.iter().for_each(|id| self.keeping.device(*id, &device.name));
                let difference = self.mirror.settled(&device);
                self.tell_difference(step, difference);
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
        self.calls(step, |calls, turn| {
            calls.dismiss_peers(turn, settings);
            calls.recheck_subscriptions(turn);
        });
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
