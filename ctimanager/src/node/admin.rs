//! What an administrator may ask of a running node; the answers are stable JSON (administrator's contract §2).

use super::Node;
use super::cti_manager::lists::List;
use super::port::{AdminRequest, AdminToken, Output};
use super::step::At;
use cluster::{Mode, NodeState};
use device_model::CallId;
use security::Transport;
use serde_json::{Value, json};
use std::ops::Bound;
use std::time::SystemTime;

impl Node {
    pub(super) fn administer(&mut self, at: &mut At<'_>, token: AdminToken, request: AdminRequest) {
        let answer = match request {
            AdminRequest::Status => Ok(self.status(at.wall)),
            AdminRequest::Devices => return self.list(at, token, List::Devices(Bound::Unbounded)),
            AdminRequest::Calls => {
                let mut calls: Vec<CallId> = self.call_manager.devices().call_ids().collect();
                calls.sort_unstable();
                return self.list(at, token, List::Calls(calls.into()));
            }
            AdminRequest::Sessions => {
                let sessions =
                    self.cti_manager.applications.sessions.iter().map(|session| session.id()).collect();
                return self.list(at, token, List::Sessions(sessions, Vec::new(), None));
            }
            AdminRequest::Alarms => Ok(Value::Array(self.alarms.list())),
            AdminRequest::Nodes => Ok(self.list_nodes()),
            AdminRequest::Metrics => {
                let mut status = self.status(at.wall);
                status["standing"] = json!(self.alarms.standing_by_name());
                let refused = |share: security::shares::Share| self.shares.refused(share);
                status["refused"] = security::shares::Share::all().map(refused).collect();
                status["nodes_by_state"] = json!(self.nodes_by_state());
                status["calls_refused"] = json!(self.call_manager.refused_calls());
                status["srtp_keys"] = json!({"delivered": self.call_manager.keys_delivered()});
                status["sdes_lines_refused"] = json!(self.call_manager.crypto_lines_refused());
                Ok(status)
            }
            AdminRequest::Explain { device, user } => Ok(self.explain(&device, &user)),
            AdminRequest::ExplainNumber { number, from, line } => {
                Ok(json!(self.settings.config.explain_number(
                    self.call_manager.devices(),
                    &number,
                    &from,
                    line.as_deref()
                )))
            }
            AdminRequest::Dependencies { dn } => Ok(json!(self.settings.config.dependencies(&dn))),
            AdminRequest::Drain => {
                self.call_manager.drain();
                Ok(json!({"draining": true}))
            }
            AdminRequest::Stop => {
                self.stop(at);
                Ok(json!({"stopping": true}))
            }
        };
        at.out.push(Output::Admin(token, answer));
    }

    fn status(&self, wall: SystemTime) -> Value {
        let (model, wire) = (self.call_manager.devices().counts(), self.call_manager.wire());
        let up = self.started.and_then(|at| wall.duration_since(at).ok()).unwrap_or_default();
        let nodes = self.nodes_by_state();
        json!({
            "node": self.settings.node.as_str(),
            "cluster": &*self.settings.cluster,
            "version": env!("CARGO_PKG_VERSION"),
            "incarnation": self.nodes.incarnation(),
            "revision": &*self.settings.config.revision,
            "revision_source": "file",
            "nodes": {"running": nodes["running"], "down": nodes["down"]},
            "state": self.state(),
            "uptime_seconds": up.as_secs(),
            "calls": model.calls,
            "legs": model.legs,
            "open_devices": model.open_devices,
            "sessions": self.cti_manager.applications.sessions.len(),
            "session_store": self.cti_manager.keeping.name(),
            "unopened_connections": self.cti_manager.applications.unopened.len(),
            "sip_transactions": wire.transactions,
            "sip_transaction_bytes": wire.transaction_bytes,
            "sip_calls": wire.calls,
            "sip_udp_buffer_bytes": self.settings.sip_udp_buffer_bytes,
            "registered_phones": model.registered_phones,
            "registered_contacts": wire.contacts,
            "sip_subscriptions": wire.subscriptions,
            "sip_dialog_requests_from_elsewhere": wire.refused_elsewhere,
            "sip_dialog_requests_too_many": wire.refused_too_many,
            "model_contradictions": model.contradictions,
            "alarms": self.alarms.standing(),
        })
    }

    pub(super) fn state(&self) -> &'static str {
        NodeState::of(self.mode()).word()
    }

    pub(super) fn mode(&self) -> Mode {
        match (self.stopping.has_begun(), self.call_manager.directory().draining()) {
            (true, _) => Mode::Stopping,
            (false, true) => Mode::Draining,
            (false, false) => Mode::Running,
        }
    }

    fn list(&mut self, at: &mut At<'_>, token: AdminToken, list: List) {
        self.cti(at, |cti, step| cti.list(step, token, list));
    }

    /// May this user open the device, and by which rule? Asked for a connection over TLS, which is what a user who is
    /// refused for his transport would have to change.
    fn explain(&self, device: &str, user: &str) -> Value {
        let (config, policy) = (&self.settings.config, &self.settings.policy);
        json!(config.explain_by(policy, device, user, Transport::Tls))
    }
}
