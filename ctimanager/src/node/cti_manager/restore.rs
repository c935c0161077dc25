//! The node's earlier life: sessions that go on, devices that are open again, calls that ended with the process
//! (`persist_sessions`, protocol §2 "Resume").
//!
//! What a session hears of it, in its log, held for it until it comes back: for each leg that it knew `media.stopped` and
//! `call.disconnected` with cause 41; for each device that was in service `device.out_of_service` (`ctimanager_failure`), and
//! `device.in_service` when it is so again: ports and route points at once, phones when they register. Permissions are
//! decided anew, and told as a reload tells them: the configuration may be another one.

use super::CtiManager;
use super::applications::Provider;
use super::kept::{Head, Kept, KeptDevice, KeptLeg, KeptSession, is_forgotten, millis};
use super::reload::dismissal;
use crate::node::port::Output;
use crate::node::{Step, alarms};
use device_model::media::MediaTermination;
use device_model::plan::DeviceKind;
use device_model::port::OutOfServiceReason;
use device_model::transitions::{SessionChange, Trigger};
use device_model::{DeviceName, LegView, SessionId};
use protocol::event::{DeviceChange, EventType};
use protocol::methods::Glob;
use protocol::session::{Memory, REMEMBER_ENDED, Session, SessionConfig, heartbeat_interval};
use protocol::wire::{Device, DeviceState, DeviceType};
use protocol::{Event, Subscription};
use security::{Action, Actor, Topic, Transport};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is known of a kept device under the present configuration.
enum Now {
    /// The session has it open, restricted or not.
    Open,
    /// The user may not control it any more.
    Lost,
    /// It isn't there any more, or is another kind of device.
    Gone,
}

/// A session's device: as it was known, and what became of it.
struct Opening {
    session: SessionId,
    name: DeviceName,
    kept: KeptDevice,
    now: Now,
}

impl CtiManager {
    pub(in crate::node) fn restore(&mut self, step: &mut Step<'_>, kept: Kept, damage: Option<String>) {
        if let Some(reason) = damage {
            let report = step.alarms.occur(&alarms::SESSION_STORE_UNREADABLE, vec![("reason", reason)]);
            step.out.push(Output::Report(report));
        }
        let mut ended = kept.ended;
        let found = kept.sessions.len();
        let mut openings = Vec::new();
        for (id, mut session) in kept.sessions {
            let devices = std::mem::take(&mut session.devices);
            match self.bring_back(step, id, session, kept.alive) {
                Ok(()) => openings.extend(devices.into_iter().map(|(name, kept)| (id, name, kept))),
                Err((at, user)) => drop(ended.insert((at, id), user)),
            }
        }
        for ((at, id), user) in ended {
            if !is_forgotten(at, millis(step.wall)) {
                let left = Duration::from_millis(at) + REMEMBER_ENDED;
                let left = left.saturating_sub(Duration::from_millis(millis(step.wall))).min(REMEMBER_ENDED);
                self.applications.sessions.remember_ended(step.now, id, user, left);
            }
        }
        let openings: Vec<Opening> = {
            let plan = Arc::clone(&self.settings.plan);
            let kinds = plan.devices.iter().map(|device| (&device.name, device.kind)).collect();
            openings.into_iter().map(|opening| self.judge(&kinds, opening)).collect()
        };
        self.witness.earlier_life = true;
        self.tell_ended_calls(step, &openings, kept.legs.into_values());
        self.tell_what_was(step, &openings);
        self.witness.earlier_life = false;
        self.open_again(step, &openings);
        self.tell_what_is(step, &openings);
        self.weigh_connections(step);
        let going_on = self.applications.sessions.len();
        if found > 0 {
            let parameters =
                vec![("sessions", going_on.to_string()), ("expired", (found - going_on).to_string())];
            let report = step.alarms.occur(&alarms::SESSIONS_RESTORED, parameters);
            step.out.push(Output::Report(report));
        }
        self.begin_keeping(step);
        self.keep_everything();
    }

    /// The session is held as it would be had it lost its connection when the process died. Else: when it ended, and whose
    /// it was.
    fn bring_back(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        kept: KeptSession,
        alive: u64,
    ) -> Result<(), (u64, Arc<str>)> {
        let KeptSession { head, first_event, events, answers, devices: _ } = kept;
        let wall = millis(step.wall);
        let until = head.held_until.unwrap_or(alive.saturating_add(head.grace_ms));
        // A wall clock that was set back doesn't make a grace longer.
        let left = until.saturating_sub(wall).min(head.grace_ms);
        let transport = if head.tls { Transport::Tls } else { Transport::Plain };
        let actor = Actor { user: &head.user, transport };
        let reason = match dismissal(&self.settings.policy, actor) {
            Some(reason) => Some((reason.name(), wall)),
            None => (left == 0).then_some(("grace_over", until.min(wall))),
        };
        if let Some((reason, at)) = reason {
            let user = head.user.clone();
            let parameters =
                vec![("session", id.to_string()), ("user", user.to_string()), ("reason", reason.to_owned())];
            let report = step.alarms.occur(&alarms::PROVIDER_CLOSED, parameters);
            step.out.push(Output::Report(report));
            return Err((at, user));
        }
        let memory = Memory {
            first_seq: first_event,
            events: events.into_values().collect(),
            answers: answers.values().filter_map(super::kept::Answer::read).collect(),
        };
        let until: Instant = step.now + Duration::from_millis(left);
        self.applications.sessions.restore(Session::restore(id, self.restored_config(&head), memory, until));
        step.record_session(id, SessionChange::Restored, Trigger::Restored);
        let provider = Provider {
            user: head.user.clone(),
            peer: head.peer,
            transport,
            credential: super::credentials::Credential::EarlierLife,
        };
        self.applications.providers.insert(id, provider);
        Ok(())
    }

    /// What was agreed stands, as it does across a reload; a heartbeat must fit the bounds of now.
    fn restored_config(&self, head: &Head) -> SessionConfig {
        let bounds = &self.settings.sessions;
        let subscription = head.subscription.as_ref().map_or_else(Subscription::all, |names| {
            let known = names.iter().filter(|name| EventType::from_name(name).is_some());
            Subscription::of(&known.map(|name| Glob::from(name.as_str())).collect::<Vec<_>>())
        });
        SessionConfig {
            user: head.user.clone(),
            application: head.application.clone(),
            instance: head.instance.clone(),
            heartbeat: heartbeat_interval(
                Some(head.heartbeat_ms),
                bounds.heartbeat_minimum,
                bounds.heartbeat_maximum,
            ),
            grace: Duration::from_millis(head.grace_ms),
            subscription,
            log_events: bounds.log_events,
            log_bytes: bounds.log_bytes,
            queue_events: bounds.queue_events,
            idem_keys: bounds.idem_keys,
            pending_requests: bounds.pending_requests,
        }
    }

    /// Whether the device is still there and the session's user may still have it open.
    fn judge(
        &self,
        kinds: &HashMap<&DeviceName, DeviceKind>,
        (session, name, kept): (SessionId, DeviceName, KeptDevice),
    ) -> Opening {
        let same = kinds.get(&name).is_some_and(|kind| DeviceType::from(*kind) == kept.device.kind);
        // Whether the device or its lines are restricted doesn't matter: it stays open then, and out of service, and comes
        // back by itself.
        let allowed = self.applications.providers.get(&session).is_some_and(|provider| {
            let actor = Actor { user: &provider.user, transport: provider.transport };
            self.settings.policy.decide(actor, Action::Hear(Topic::Device(&name))).allowed()
        });
        let now = match (allowed, same) {
            (false, _) => Now::Lost,
            (true, false) => Now::Gone,
            (true, true) => Now::Open,
        };
        Opening { session, name, kept, now }
    }

    /// The calls ended with the process. Who may not control the device any more hears nothing of them.
    fn tell_ended_calls(
        &mut self,
        step: &Step<'_>,
        openings: &[Opening],
        legs: impl Iterator<Item = KeptLeg>,
    ) {
        let mut watchers: BTreeMap<&DeviceName, Vec<&Opening>> = BTreeMap::new();
        for opening in openings.iter().filter(|opening| !matches!(opening.now, Now::Lost)) {
            watchers.entry(&opening.name).or_default().push(opening);
        }
        for KeptLeg { leg, input, output } in legs {
            let watchers = watchers.get(&leg.device).into_iter().flatten();
            let sessions: Arc<[SessionId]> = watchers.map(|opening| opening.session).collect();
            if !sessions.is_empty() {
                let ended = self.mirror.ended_before(sessions, LegView::from(&leg), [input, output]);
                self.tell_difference(step, ended);
            }
        }
    }

    /// What ended with the process: service, and devices that are lost or gone.
    fn tell_what_was(&mut self, step: &Step<'_>, openings: &[Opening]) {
        for opening in openings {
            let mut device = opening.kept.device.clone();
            let served = device.state == DeviceState::InService;
            (device.state, device.node, device.registered) = (DeviceState::OutOfService, None, false);
            let mut say = |change, device: &Device, reason: Option<OutOfServiceReason>| {
                let reason = reason.map(Into::into);
                self.tell_event(
                    step,
                    &[opening.session],
                    Event::Device { change, device: device.clone(), reason },
                );
            };
            match opening.now {
                Now::Open if served => {
                    say(DeviceChange::OutOfService, &device, Some(OutOfServiceReason::CtimanagerFailure));
                }
                Now::Open => {}
                Now::Lost => {
                    device.opened = false;
                    say(DeviceChange::Removed, &device, None);
                }
                Now::Gone => {
                    device.opened = false;
                    say(DeviceChange::Closed, &device, Some(OutOfServiceReason::DeviceUnregistered));
                    say(DeviceChange::Removed, &device, None);
                }
            }
        }
    }

    fn open_again(&mut self, step: &mut Step<'_>, openings: &[Opening]) {
        for opening in openings.iter().filter(|opening| matches!(opening.now, Now::Open)) {
            let media = opening.kept.media.as_ref().map(MediaTermination::from);
            let (session, device) = (opening.session, opening.name.clone());
            self.model(step, device_model::Input::Restored { session, device, media });
        }
    }

    /// Restrictions that came or went meanwhile, and what is in service.
    fn tell_what_is(&mut self, step: &Step<'_>, openings: &[Opening]) {
        for opening in openings.iter().filter(|opening| matches!(opening.now, Now::Open)) {
            let Some(view) = self.mirror.told_device(&opening.name).cloned() else { continue };
            let (session, was) = ([opening.session], opening.kept.device.restricted);
            if was != view.restricted {
                let change =
                    if view.restricted { DeviceChange::Restricted } else { DeviceChange::Unrestricted };
                self.tell_device(step, &session, change, &view, None);
            }
            if view.in_service {
                self.tell_device(step, &session, DeviceChange::InService, &view, None);
            }
        }
    }
}
