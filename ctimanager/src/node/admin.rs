//! What an administrator may ask of a running node; the answers are stable JSON (administrator's contract §2).

use super::port::{AdminRequest, AdminToken, Output};
use super::{Node, Step};
use protocol::wire::{Device, Leg};
use security::Transport;
use serde_json::{Value, json};
use std::time::SystemTime;

impl Node {
    pub(super) fn administer(&mut self, step: &mut Step<'_>, token: AdminToken, request: AdminRequest) {
        let answer = match request {
            AdminRequest::Status => Ok(self.status(step.wall)),
            AdminRequest::Devices => Ok(self.devices()),
            AdminRequest::Calls => Ok(self.calls()),
            AdminRequest::Sessions => Ok(self.sessions()),
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

    fn devices(&self) -> Value {
        let views = self.model.device_names().filter_map(|name| self.model.device(name));
        views.map(|view| json!(Device::from(&view))).collect()
    }

    fn calls(&self) -> Value {
        self.model
            .calls()
            .map(|(call, legs)| {
                let legs: Vec<Leg> = legs.iter().map(Leg::from).collect();
                json!({"call": call.to_string(), "legs": legs})
            })
            .collect()
    }

    fn sessions(&self) -> Value {
        self.applications
            .sessions
            .iter()
            .map(|session| {
                let config = session.config();
                let address = self.applications.providers.get(&session.id()).map(|p| p.peer.to_string());
                let devices: Vec<String> =
                    self.model.open_devices(session.id()).map(ToString::to_string).collect();
                json!({
                    "session": session.id().to_string(),
                    "user": &*config.user,
                    "application": &*config.application,
                    "instance": config.instance.as_deref(),
                    "address": address,
                    "state": if session.connection().is_some() { "connected" } else { "held" },
                    "last_seq": session.last_seq(),
                    "devices": devices,
                })
            })
            .collect()
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
