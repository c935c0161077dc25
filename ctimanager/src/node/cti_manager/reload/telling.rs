//! Carrying out what follows from a reload, a portion at a time.

use super::consequences::{LEGS_AT_ONCE, Reload, Work, lists};
use crate::node::Step;
use crate::node::cti_manager::CtiManager;
use crate::node::cti_manager::portions::Portion;
use crate::node::port::Output;
use device_model::port::OutOfServiceReason;
use device_model::{DeviceName, DeviceView, Input, SessionId};
use protocol::Event;
use protocol::event::DeviceChange;
use protocol::wire::Device;
use std::sync::Arc;

impl CtiManager {
    /// The next piece of the oldest reload.
    pub(in crate::node) fn carry_on_reload(&mut self, step: &mut Step<'_>, portion: &mut Portion) {
        let Some(reload) = self.applications.consequences.reloads.front_mut() else { return };
        portion.work(1 + reload.listeners.len() / 4);
        match reload.work.pop_front() {
            Some(work) => self.carry_on(step, work),
            None => self.close_oldest(step),
        }
    }

    fn close_oldest(&mut self, step: &mut Step<'_>) {
        if let Some(reload) = self.applications.consequences.reloads.pop_front() {
            step.out.push(Output::Discard(Arc::new((reload.before, reload.difference, reload.early))));
        }
    }

    /// Does one piece of a work of the oldest reload, and puts it back unless it is done.
    fn carry_on(&mut self, step: &mut Step<'_>, mut work: Work) {
        let more = match &mut work {
            Work::Settle => self.settle_one(step),
            Work::InService(session) => {
                self.tell_event(step, &[*session], Event::ProviderInService);
                false
            }
            Work::Kept(session, last) => self.tell_kept(step, *session, last),
            Work::Forget(next) => self.forget_one(step, next),
            Work::Lost(_, names) | Work::Added(names) | Work::Relined(names) | Work::Gained(_, names) => {
                let name = names.next();
                if let Some(name) = &name
                    && self.oldest(|reload| !reload.early.contains(name)).unwrap_or(false)
                {
                    self.tell_one(step, &work, 0, name);
                }
                name.is_some()
            }
        };
        if more && let Some(reload) = self.applications.consequences.reloads.front_mut() {
            reload.work.push_front(work);
        }
    }

    fn oldest<T>(&self, ask: impl FnOnce(&Reload) -> T) -> Option<T> {
        self.applications.consequences.reloads.front().map(ask)
    }

    /// The model's part for one device; false when this plan is settled.
    fn settle_one(&mut self, step: &mut Step<'_>) -> bool {
        let generation = self.oldest(|reload| reload.generation).unwrap_or(0);
        let more = step.calls.devices().unsettled().is_some_and(|oldest| oldest <= generation);
        if more {
            self.model(step, Input::Settle { legs: LEGS_AT_ONCE });
        }
        more
    }

    /// What a former super provider keeps open, by name.
    fn tell_kept(&mut self, step: &Step<'_>, session: SessionId, last: &mut Option<DeviceName>) -> bool {
        let Some(name) = self.mirror.next_open(session, last.as_ref()).cloned() else { return false };
        if let Some(view) = self.mirror.told_device(&name).cloned() {
            self.tell_device(step, &[session], DeviceChange::Added, &view, None);
        }
        *last = Some(name);
        true
    }

    /// An account that is gone loses its contacts.
    fn forget_one(&mut self, step: &mut Step<'_>, next: &mut usize) -> bool {
        let Some(account) = self.oldest(|reload| reload.difference.accounts.get(*next).cloned()).flatten()
        else {
            return false;
        };
        *next += 1;
        self.calls(step, |calls, turn| calls.forget_account(turn, account));
        true
    }

    /// An account that comes back has no contacts of its earlier life.
    pub(super) fn forget_before_return(&mut self, step: &mut Step<'_>) {
        let mut back = Vec::new();
        for reload in &self.applications.consequences.reloads {
            let next = reload.work.iter().find_map(|work| match work {
                Work::Forget(next) => Some(*next),
                Work::Settle
                | Work::Lost(..)
                | Work::Gained(..)
                | Work::Added(_)
                | Work::Relined(_)
                | Work::InService(_)
                | Work::Kept(..) => None,
            });
            let waiting = next.and_then(|next| reload.difference.accounts.get(next..)).unwrap_or_default();
            back.extend(waiting.iter().filter(|account| step.calls.directory().has(account)).cloned());
        }
        for account in back {
            self.calls(step, |calls, turn| calls.forget_account(turn, account));
        }
    }

    /// Tells of one device to everybody whom this work of this reload concerns.
    fn tell_one(&mut self, step: &Step<'_>, work: &Work, reload: usize, name: &DeviceName) {
        let Some(view) = step.calls.devices().device(name) else { return };
        let (change, sessions) = match work {
            Work::Lost(session, _) if self.mirror.is_open(*session, name) => return,
            Work::Lost(session, _) => (DeviceChange::Removed, vec![*session]),
            Work::Gained(session, _) => (DeviceChange::Added, vec![*session]),
            Work::Added(_) => (DeviceChange::Added, self.listing(reload, name, false)),
            Work::Relined(_) => (DeviceChange::Added, self.listing(reload, name, true)),
            Work::Settle | Work::InService(_) | Work::Kept(..) | Work::Forget(_) => return,
        };
        let sessions: Vec<SessionId> = match change {
            // Later reloads may have taken it from him.
            DeviceChange::Added => sessions.into_iter().filter(|id| self.sees(*id, name)).collect(),
            DeviceChange::Removed
            | DeviceChange::Restricted
            | DeviceChange::Unrestricted
            | DeviceChange::InService
            | DeviceChange::OutOfService
            | DeviceChange::Closed => sessions,
        };
        self.tell_device(step, &sessions, change, &view, None);
    }

    /// The sessions of this reload whose users list the device by it; `open` adds those that have it open, and leaves out
    /// those that gain it anyway.
    fn listing(&self, reload: usize, device: &DeviceName, open: bool) -> Vec<SessionId> {
        let Some(reload) = self.applications.consequences.reloads.get(reload) else { return Vec::new() };
        let mut sessions = Vec::new();
        for (user, of_user) in &reload.listeners {
            let gained = reload.difference.users.get(user).map(|lists| &lists.gained);
            if open && gained.is_some_and(|gained| gained.binary_search(device).is_ok()) {
                continue;
            }
            let listed = reload.lists(user, device);
            let has = |id: &&SessionId| listed || open && self.mirror.is_open(**id, device);
            sessions.extend(of_user.iter().filter(has));
        }
        sessions.sort_unstable();
        sessions
    }

    /// Whether the device is (still) on the provider's list, or open to him.
    fn sees(&self, id: SessionId, device: &DeviceName) -> bool {
        let provider = self.applications.providers.get(&id);
        provider.is_some_and(|provider| lists(&self.settings, &provider.user, device))
            || self.mirror.is_open(id, device)
    }

    /// Somebody asks for a device: all that is waiting to be told of it comes first.
    pub(in crate::node) fn catch_up(&mut self, step: &mut Step<'_>, name: &DeviceName) {
        if self.applications.consequences.reloads.is_empty() {
            return;
        }
        self.model(step, Input::SettleDevice(name.clone()));
        for index in 0..self.applications.consequences.reloads.len() {
            let Some(reload) = self.applications.consequences.reloads.get_mut(index) else { break };
            if !reload.work.iter().any(|work| awaits(work, name)) || !reload.early.insert(name.clone()) {
                continue;
            }
            let work = std::mem::take(&mut reload.work);
            for work in work.iter().filter(|work| awaits(work, name)) {
                self.tell_one(step, work, index, name);
            }
            if let Some(reload) = self.applications.consequences.reloads.get_mut(index) {
                reload.work = work;
            }
        }
    }

    /// `device.restricted` and `device.unrestricted` to everybody who has the device on his list or open.
    pub(in crate::node) fn tell_restriction(
        &mut self,
        step: &Step<'_>,
        device: &DeviceView,
        itself: Option<bool>,
        line: Option<bool>,
    ) {
        let mut sessions = self.applications.everybody();
        sessions.retain(|id| self.sees(*id, &device.name));
        if let Some(on) = itself {
            self.tell_device(step, &sessions, restriction(on), device, None);
        }
        if let Some(on) = line {
            let reason = Some(OutOfServiceReason::LineRestricted);
            self.tell_device(step, &sessions, restriction(on), device, reason);
        }
    }

    /// `device.removed` to everybody who had the device on his list. A super provider that had an unlisted one open was
    /// told `device.closed` by the model, and needs no more.
    pub(super) fn tell_removed(&mut self, step: &Step<'_>, device: &DeviceView, generation: u64) {
        let reloads = &self.applications.consequences.reloads;
        let Some(reload) = reloads.iter().find(|reload| reload.generation == generation) else { return };
        let listed = reload.listeners.iter().filter(|(user, _)| reload.listed(user, &device.name));
        let mut sessions: Vec<SessionId> =
            listed.flat_map(|(_, sessions)| sessions.iter().copied()).collect();
        sessions.sort_unstable();
        self.tell_device(step, &sessions, DeviceChange::Removed, device, None);
    }

    pub(in crate::node) fn tell_device(
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
}

fn awaits(work: &Work, name: &DeviceName) -> bool {
    match work {
        Work::Lost(_, names) | Work::Added(names) | Work::Relined(names) | Work::Gained(_, names) => {
            names.awaits(name)
        }
        Work::Settle | Work::InService(_) | Work::Kept(..) | Work::Forget(_) => false,
    }
}

fn restriction(on: bool) -> DeviceChange {
    if on { DeviceChange::Restricted } else { DeviceChange::Unrestricted }
}
