//! Lists for administrators, made in portions as those of applications are: devices, calls, sessions.

use super::CtiManager;
use super::portions::{Portion, Task};
use crate::node::Step;
use crate::node::port::{AdminToken, Output};
use device_model::{CallControl, CallId, DeviceName, SessionId};
use protocol::wire::{Device, Leg};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ops::Bound;

/// Entries of a list that are made in one piece, and what of a portion one of them counts.
const LISTED_AT_ONCE: usize = 64;
const WORK_OF_LISTED: usize = 8;

/// A list for an administrator that is being made. Each entry is as it is when it is made.
pub(in crate::node) struct Answering {
    token: AdminToken,
    list: List,
    made: Vec<Value>,
}

pub(in crate::node) enum List {
    Devices(Bound<DeviceName>),
    Calls(VecDeque<CallId>),
    /// With what the first of them has open, as far as it is named.
    Sessions(VecDeque<SessionId>, Vec<String>, Option<DeviceName>),
}

impl CtiManager {
    /// Answers with a list: a short one at once, a long one in portions.
    pub(in crate::node) fn list(&mut self, step: &mut Step<'_>, token: AdminToken, list: List) {
        let answering = Box::new(Answering { token, list, made: Vec::new() });
        if let Some(rest) = self.answer_some(step, answering) {
            self.add_task(Task::Answer(rest));
        }
    }

    pub(in crate::node) fn carry_on_answering(
        &mut self,
        step: &mut Step<'_>,
        answering: Box<Answering>,
        portion: &mut Portion,
    ) -> Option<Box<Answering>> {
        portion.work(LISTED_AT_ONCE * WORK_OF_LISTED);
        self.answer_some(step, answering)
    }

    /// One piece; what is left of it.
    fn answer_some(&mut self, step: &mut Step<'_>, mut answering: Box<Answering>) -> Option<Box<Answering>> {
        for _ in 0..LISTED_AT_ONCE {
            let devices = step.calls.devices();
            let more = match &mut answering.list {
                List::Devices(from) => list_device(devices, from, &mut answering.made),
                List::Calls(calls) => list_call(devices, calls, &mut answering.made),
                List::Sessions(sessions, open, last) => {
                    self.list_session(sessions, open, last, &mut answering.made)
                }
            };
            if !more {
                step.out.push(Output::Admin(answering.token, Ok(Value::Array(answering.made))));
                return None;
            }
        }
        Some(answering)
    }

    fn list_session(
        &self,
        sessions: &mut VecDeque<SessionId>,
        open: &mut Vec<String>,
        last: &mut Option<DeviceName>,
        made: &mut Vec<Value>,
    ) -> bool {
        let Some(id) = sessions.front().copied() else { return false };
        if let Some(name) = self.mirror.next_open(id, last.as_ref()) {
            open.push(name.to_string());
            *last = Some(name.clone());
            return true;
        }
        sessions.pop_front();
        *last = None;
        let open = std::mem::take(open);
        if let Some(session) = self.applications.sessions.get(id) {
            let config = session.config();
            let address = self.applications.providers.get(&id).map(|p| p.peer.to_string());
            made.push(json!({
                "session": id.to_string(),
                "user": &*config.user,
                "application": &*config.application,
                "instance": config.instance.as_deref(),
                "address": address,
                "state": if session.connection().is_some() { "connected" } else { "held" },
                "last_seq": session.last_seq(),
                "devices": open,
            }));
        }
        true
    }
}

fn list_device(devices: &CallControl, from: &mut Bound<DeviceName>, made: &mut Vec<Value>) -> bool {
    let Some(name) = devices.first_device(from).cloned() else { return false };
    made.extend(devices.device(&name).map(|view| json!(Device::from(&view))));
    *from = Bound::Excluded(name);
    true
}

fn list_call(devices: &CallControl, calls: &mut VecDeque<CallId>, made: &mut Vec<Value>) -> bool {
    let Some(call) = calls.pop_front() else { return false };
    let legs: Vec<Leg> = devices.legs_of_call(call).iter().map(Leg::from).collect();
    // It may have ended meanwhile.
    if !legs.is_empty() {
        made.push(json!({"call": call.to_string(), "legs": legs}));
    }
    true
}
