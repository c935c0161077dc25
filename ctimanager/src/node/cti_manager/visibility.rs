//! Who hears what. What an event is about decides who may hear it ([`topics`], [`security::Topic`]), and `security`
//! decides that as it decides the methods.
//!
//! It is decided where it costs nothing: when a device is opened and when a reload changes somebody's rights. Who has a
//! device open is told of its lines; who has it on his list, of the device. The decision of each single event is asked
//! only where somebody wants to know whether that is right: [`crate::node::Node::watch_permissions`], for tests and simulations.

use super::CtiManager;
use device_model::{CallControl, DeviceName, SessionId};
use protocol::Event;
use protocol::event::{DeviceChange, OpenChannel};
use protocol::wire::{Leg, LegState};
use security::{Action, Actor, Decision, Policy, RefusalKind, Topic};
use std::sync::Arc;

/// Policies that are remembered for the last words about what was withdrawn.
const REMEMBERED: usize = 16;

/// Holds each event against the decision.
#[derive(Debug, Default)]
pub(in crate::node) struct Witness {
    on: bool,
    /// The policies that were in force before, the newest last.
    before: Vec<Arc<Policy>>,
    /// What is told now ends an earlier life of the node, under a policy that nobody knows any more.
    pub(in crate::node) earlier_life: bool,
    breach: Option<String>,
}

/// What an event is about; whoever hears it must be allowed to hear all of it.
fn topics(event: &Event) -> Vec<Topic<'_>> {
    fn line(leg: &Leg) -> Topic<'_> {
        Topic::Line(&leg.device, &leg.dn)
    }
    match event {
        Event::ProviderInService
        | Event::ProviderOutOfService { .. }
        | Event::ProviderPrivilegesChanged { .. }
        | Event::Alarm { .. } => vec![Topic::Provider],
        Event::Device { device, .. } => vec![Topic::Device(&device.name)],
        Event::Line { device, line, .. } => vec![Topic::Line(device, &line.dn)],
        Event::Call { leg }
        | Event::CallChanged { leg }
        | Event::CallDtmf { leg, .. }
        | Event::CallParked { leg, .. }
        | Event::MediaOpenChannel(OpenChannel { leg, .. })
        | Event::MediaStarted { leg, .. }
        | Event::MediaStopped { leg, .. }
        | Event::MediaSrtpKey { leg, .. } => vec![line(leg)],
        Event::CallConferenced { legs, .. } => legs.iter().map(line).collect(),
        // Nothing but the ids of calls; the legs are told apart.
        Event::CallTransferred { .. } => vec![Topic::Provider],
        Event::Park { .. } => vec![Topic::ParkNumbers],
    }
}

/// Whether it says goodbye to what it is about: what was withdrawn is told a last time.
fn is_farewell(event: &Event) -> bool {
    match event {
        Event::Device { change, .. } => match change {
            DeviceChange::Removed | DeviceChange::Closed => true,
            DeviceChange::Added
            | DeviceChange::Restricted
            | DeviceChange::Unrestricted
            | DeviceChange::InService
            | DeviceChange::OutOfService => false,
        },
        Event::Call { leg } => matches!(leg.state, LegState::Failed | LegState::Disconnected),
        Event::MediaStopped { .. } => true,
        Event::ProviderInService
        | Event::ProviderOutOfService { .. }
        | Event::ProviderPrivilegesChanged { .. }
        | Event::Line { .. }
        | Event::Alarm { .. }
        | Event::CallChanged { .. }
        | Event::CallTransferred { .. }
        | Event::CallConferenced { .. }
        | Event::CallDtmf { .. }
        | Event::CallParked { .. }
        | Event::Park { .. }
        | Event::MediaOpenChannel(_)
        | Event::MediaStarted { .. }
        | Event::MediaSrtpKey { .. } => false,
    }
}

impl CtiManager {
    /// From now on [`CtiManager::check`] says whether anybody was told what he may not hear: for tests and simulations.
    pub(in crate::node) fn watch_permissions(&mut self) {
        self.witness.on = true;
    }

    /// Whether a session may hear of this now.
    pub(in crate::node) fn may_hear(&self, id: SessionId, topic: Topic<'_>) -> bool {
        self.applications.providers.get(&id).is_some_and(|provider| {
            let actor = Actor { user: &provider.user, transport: provider.transport };
            self.settings.policy.decide(actor, Action::Hear(topic)).allowed()
        })
    }

    pub(in crate::node) fn policy_replaced(&mut self, before: &Arc<Policy>) {
        if self.witness.on {
            self.witness.before.push(before.clone());
            let surplus = self.witness.before.len().saturating_sub(REMEMBERED);
            self.witness.before.drain(..surplus);
        }
    }

    pub(in crate::node) fn bear_witness(&mut self, sessions: &[SessionId], event: &Event) {
        let ends_earlier_life = self.witness.earlier_life && is_farewell(event);
        if self.witness.on && self.witness.breach.is_none() && !ends_earlier_life {
            self.witness.breach = self.breach(sessions, event);
        }
    }

    fn breach(&self, sessions: &[SessionId], event: &Event) -> Option<String> {
        let remembered = if is_farewell(event) { self.witness.before.as_slice() } else { &[] };
        let policies = || remembered.iter().chain([&self.settings.policy]);
        sessions.iter().find_map(|id| {
            let provider = self.applications.providers.get(id)?;
            let actor = Actor { user: &provider.user, transport: provider.transport };
            let may = |topic: &Topic<'_>| {
                policies().any(|policy| policy.decide(actor, Action::Hear(*topic)).allowed())
            };
            let hidden = topics(event).into_iter().find(|topic| !may(topic))?;
            let kind = event.event_type();
            Some(format!("{id} of {} was told {kind} about {hidden:?}, which he may not hear", provider.user))
        })
    }

    /// Nobody was told what he may not hear, and nobody has open what he may not open.
    pub(in crate::node) fn check_permissions(&self, devices: &CallControl) -> Result<(), String> {
        if let Some(breach) = &self.witness.breach {
            return Err(breach.clone());
        }
        for (id, provider) in &self.applications.providers {
            let actor = Actor { user: &provider.user, transport: provider.transport };
            let foreign =
                |name: &&DeviceName| match self.settings.policy.decide(actor, Action::OpenDevice(name)) {
                    Decision::Allowed(_) => false,
                    // It is kept, and silent until it is unrestricted.
                    Decision::Refused(refusal) => refusal.kind != RefusalKind::DeviceRestricted,
                };
            if let Some(device) = devices.open_devices(*id).find(foreign) {
                return Err(format!("{id} of {} has {device} open, which he may not", provider.user));
            }
        }
        Ok(())
    }
}
