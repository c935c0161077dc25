//! What an administrator may ask of a running node; the answers are stable JSON (administrator's contract §2).

use super::port::{AdminRequest, AdminToken, Output};
use super::portions::{Portion, Task};
use super::{Node, Step};
use device_model::{CallId, DeviceName, SessionId};
use protocol::wire::{Device, Leg};
use security::Transport;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ops::Bound;
use std::time::SystemTime;

/// Entries of a list that are made in one piece, and what of a portion one of them counts.
const LISTED_AT_ONCE: usize = 64;
const WORK_OF_LISTED: usize = 8;

/// A list for an administrator that is being made. Each entry is as it is when it is made.
pub(super) struct Answering {
    token: AdminToken,
    list: List,
    made: Vec<Value>,
}

enum List {
    Devices(Bound<DeviceName>),
    Calls(VecDeque<CallId>),
    /// With what the first of them has open, as far as it is named.
    Sessions(VecDeque<SessionId>, Vec<String>, Option<DeviceName>),
}

impl Node {
    pub(super) fn administer(&mut self, step: &mut Step<'_>, token: AdminToken, request: AdminRequest) {
        let answer = match request {
            AdminRequest::Status => Ok(self.status(step.wall)),
            AdminRequest::Devices => return self.list(step, token, List::Devices(Bound::Unbounded)),
            AdminRequest::Calls => {
                let mut calls: Vec<CallId> = self.model.call_ids().collect();
                calls.sort_unstable();
                return self.list(step, token, List::Calls(calls.into()));
            }
            AdminRequest::Sessions => {
                let sessions = self.applications.sessions.iter().map(|session| session.id()).collect();
                return self.list(step, token, List::Sessions(sessions, Vec::new(), None));
            }
            AdminRequest::Alarms => Ok(Value::Array(self.alarms.list())),
            AdminRequest::Nodes => Ok(self.nodes()),
            AdminRequest::Metrics => {
                let mut status = self.status(step.wall);
                status["standing"] = json!(self.alarms.standing_by_name());
                let refused = |share: security::shares::Share| self.directory.shares.refused(share);
                status["refused"] = security::shares::Share::all().map(refused).collect();
                status["calls_refused"] = json!(self.screening.counts());
                Ok(status)
            }
            AdminRequest::Explain { device, user } => Ok(self.explain(&device, &user)),
            AdminRequest::ExplainNumber { number, from, line } => {
                Ok(json!(self.settings.config.explain_number(&self.model, &number, &from, line.as_deref())))
            }
            AdminRequest::Dependencies { dn } => Ok(json!(self.settings.config.dependencies(&dn))),
            AdminRequest::Drain => {
                self.directory.drain();
                Ok(json!({"draining": true}))
            }
            AdminRequest::Stop => {
                self.stop(step);
                Ok(json!({"stopping": true}))
            }
        };
        step.out.push(Output::Admin(token, answer));
    }

    fn status(&self, wall: SystemTime) -> Value {
        let (model, wire) = (self.model.counts(), self.stack.counts());
        let up = self.started.and_then(|at| wall.duration_since(at).ok()).unwrap_or_default();
        json!({
            "node": self.settings.node.as_str(),
            "cluster": &*self.settings.cluster,
            "version": env!("CARGO_PKG_VERSION"),
            "state": self.state(),
            "uptime_seconds": up.as_secs(),
            "calls": model.calls,
            "legs": model.legs,
            "open_devices": model.open_devices,
            "sessions": self.applications.sessions.len(),
            "session_store": self.keeping.name(),
            "unopened_connections": self.applications.unopened.len(),
            "sip_transactions": wire.transactions,
            "sip_transaction_bytes": wire.transaction_bytes,
            "sip_calls": wire.calls,
            "sip_udp_buffer_bytes": self.settings.sip_udp_buffer_bytes,
            "registered_phones": model.registered_phones,
            "registered_contacts": wire.contacts,
            "sip_dialog_requests_from_elsewhere": wire.refused_elsewhere,
            "sip_dialog_requests_too_many": wire.refused_too_many,
            "model_contradictions": model.contradictions,
            "alarms": self.alarms.standing(),
        })
    }

    fn state(&self) -> &'static str {
        match (self.stopping.is_some(), self.directory.draining()) {
            (true, _) => "stopping",
            (false, true) => "draining",
            (false, false) => "running",
        }
    }

    /// Answers with a list: a short one at once, a long one in portions.
    fn list(&mut self, step: &mut Step<'_>, token: AdminToken, list: List) {
        let answering = Box::new(Answering { token, list, made: Vec::new() });
        if let Some(rest) = self.answer_some(step, answering) {
            self.portions.add(Task::Answer(rest));
        }
    }

    pub(super) fn carry_on_answering(
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
            let more = match &mut answering.list {
                List::Devices(from) => self.list_device(from, &mut answering.made),
                List::Calls(calls) => self.list_call(calls, &mut answering.made),
                List::Sessions(sessions, devices, last) => {
                    self.list_session(sessions, devices, last, &mut answering.made)
                }
            };
            if !more {
                step.out.push(Output::Admin(answering.token, Ok(Value::Array(answering.made))));
                return None;
            }
        }
        Some(answering)
    }

    fn list_device(&self, from: &mut Bound<DeviceName>, made: &mut Vec<Value>) -> bool {
        let Some(name) = self.model.first_device(from).cloned() else { return false };
        made.extend(self.model.device(&name).map(|view| json!(Device::from(&view))));
        *from = Bound::Excluded(name);
        true
    }

    fn list_call(&self, calls: &mut VecDeque<CallId>, made: &mut Vec<Value>) -> bool {
        let Some(call) = calls.pop_front() else { return false };
        let legs: Vec<Leg> = self.model.legs_of_call(call).iter().map(Leg::from).collect();
        // It may have ended meanwhile.
        if !legs.is_empty() {
            made.push(json!({"call": call.to_string(), "legs": legs}));
        }
        true
    }

    fn list_session(
        &self,
        sessions: &mut VecDeque<SessionId>,
        devices: &mut Vec<String>,
        last: &mut Option<DeviceName>,
        made: &mut Vec<Value>,
    ) -> bool {
        let Some(id) = sessions.front().copied() else { return false };
        if let Some(name) = self.model.next_opened(id, last.as_ref()) {
            if self.model.is_open(id, name) {
                devices.push(name.to_string());
            }
            *last = Some(name.clone());
            return true;
        }
        sessions.pop_front();
        *last = None;
        let devices = std::mem::take(devices);
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
                "devices": devices,
            }));
        }
        true
    }

    fn nodes(&self) -> Value {
        let since = self.started.map(protocol::event::rfc3339);
        let own = self.settings.config.nodes.iter().find(|node| node.name == self.settings.node);
        let services = own.map_or_else(Vec::new, crate::config::Node::services);
        json!([{
            "node": self.settings.node.as_str(),
            "state": self.state(),
            "since": since,
            "services": services,
        }])
    }

    /// May this user open the device, and by which rule? Asked for a connection over TLS, which is what a user who is
    /// refused for his transport would have to change.
    fn explain(&self, device: &str, user: &str) -> Value {
        let (config, policy) = (&self.settings.config, &self.settings.policy);
        json!(config.explain_by(policy, device, user, Transport::Tls))
    }
}
