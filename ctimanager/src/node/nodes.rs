//! The other nodes of the cluster as this one sees them: what the membership says becomes alarms, log lines and answers.

use super::Node;
use super::alarms::{self, AlarmState, Definition};
use super::port::{NodesInput, NodesOutput, Output, Report, Severity};
use super::seldom::Seldom;
use super::settings::Settings;
use super::step::At;
use cluster::{Life, LinkState, Membership, Mode, NodeState, Own};
use device_model::NodeName;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The membership, where the file has other nodes, and this life of the node.
#[derive(Debug)]
pub(super) struct Nodes {
    /// How often this node was started.
    incarnation: u32,
    /// Tells this process from any other of the node.
    life: u64,
    membership: Option<Membership>,
    refused: Seldom,
    said: Vec<cluster::Output>,
}

impl Nodes {
    pub(super) fn new(incarnation: u32, life: u64) -> Self {
        Self { incarnation, life, membership: None, refused: Seldom::default(), said: Vec::new() }
    }

    /// Looks for the others, if the file has any.
    pub(super) fn begin(&mut self, settings: &Settings, now: Instant, wall: SystemTime) {
        if !settings.config.is_clustered() {
            return;
        }
        let started = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let life = Life {
            started_ms: u64::try_from(started).unwrap_or(u64::MAX),
            life: self.life,
            incarnation: self.incarnation,
        };
        let own = Own { node: settings.node.clone(), life, revision: settings.config.revision.clone() };
        let names = settings.config.nodes.iter().map(|node| node.name.clone());
        let others = names.filter(|name| *name != settings.node).collect();
        let timeout = settings.config.parameters.node_failure_timeout;
        self.membership = Some(Membership::new(own, others, timeout, now, wall));
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.membership.as_ref().map(Membership::next_timeout)
    }

    /// What this node does is said to the others, and by which configuration.
    pub(super) fn follow(&mut self, settings: &Settings, mode: Mode, now: Instant) {
        let Some(membership) = &mut self.membership else { return };
        membership.set_mode(mode, now);
        let (timeout, revision) =
            (settings.config.parameters.node_failure_timeout, &settings.config.revision);
        if membership.timeout() != timeout || !Arc::ptr_eq(&membership.own().revision, revision) {
            membership.configure(timeout, Arc::clone(revision), now);
        }
    }

    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation
    }
}

impl Node {
    pub(super) fn nodes_input(&mut self, at: &mut At<'_>, input: NodesInput) {
        match input {
            NodesInput::Link(input) => self.membership(at, input),
            NodesInput::Refused { address, reason } => self.peer_refused(at, address, reason),
        }
    }

    pub(super) fn nodes_timeout(&mut self, at: &mut At<'_>) {
        if self.nodes.next_timeout().is_some_and(|due| due <= at.now) {
            self.membership(at, cluster::Input::Timeout);
        }
    }

    fn membership(&mut self, at: &mut At<'_>, input: cluster::Input) {
        let Some(membership) = &mut self.nodes.membership else { return };
        let mut said = std::mem::take(&mut self.nodes.said);
        membership.handle(at.now, at.wall, input, &mut said);
        for output in said.drain(..) {
            match output {
                cluster::Output::Send(links, heartbeat) => {
                    at.out.push(Output::Nodes(NodesOutput::Send(links, heartbeat)));
                }
                cluster::Output::Close(link) => at.out.push(Output::Nodes(NodesOutput::Close(link))),
                cluster::Output::Changed(name) => self.node_changed(at, &name),
                cluster::Output::DuplicateBegan(name) => self.duplicate(at, name, AlarmState::Raised),
                cluster::Output::DuplicateEnded(name) => self.duplicate(at, name, AlarmState::Cleared),
                cluster::Output::Yield(other) => self.yield_to(at, other),
            }
        }
        self.nodes.said = said;
    }

    fn node_changed(&mut self, at: &mut At<'_>, name: &NodeName) {
        let Some(view) = self.nodes.membership.as_ref().and_then(|all| all.other(name)) else { return };
        let incarnation = view.life.map_or_else(String::new, |life| life.incarnation.to_string());
        let (state, link) = (view.state, view.link);
        let parameters = vec![
            ("node", name.to_string()),
            ("state", state.word().to_owned()),
            ("link", link.word().to_owned()),
            ("incarnation", incarnation),
        ];
        let report = Report { name: "NodeStateChanged", severity: Severity::Informational, parameters };
        at.out.push(Output::Report(report));
        let path = format!("{}-{name}", self.settings.node);
        let of_link = vec![("node", name.to_string()), ("link", path)];
        let is_cut = AlarmState::when(link == LinkState::Down);
        self.node_condition(at, &alarms::SDL_LINK_OUT_OF_SERVICE, name, is_cut, of_link);
        let is_down = AlarmState::when(state == NodeState::Down);
        self.node_condition(at, &alarms::SERVER_DOWN, name, is_down, vec![("node", name.to_string())]);
    }

    fn duplicate(&mut self, at: &mut At<'_>, name: NodeName, state: AlarmState) {
        let parameters = vec![("node", name.to_string())];
        self.node_condition(at, &alarms::DUPLICATE_NODE, &name, state, parameters);
    }

    fn node_condition(
        &mut self,
        at: &mut At<'_>,
        definition: &'static Definition,
        name: &NodeName,
        state: AlarmState,
        parameters: Vec<(&'static str, String)>,
    ) {
        let key = name.to_string();
        let telling = self.alarms.condition(at.now, definition, key, state, parameters, Vec::new());
        at.out.extend(telling.map(|telling| Output::Report(telling.report)));
    }

    fn peer_refused(&mut self, at: &mut At<'_>, address: IpAddr, reason: &'static str) {
        // Whoever knocks without end is no work for those who read the log.
        let Some(untold) = self.nodes.refused.tell(at.now) else { return };
        let mut parameters = vec![("address", address.to_string()), ("reason", reason.to_owned())];
        if untold > 0 {
            parameters.push(("untold", untold.to_string()));
        }
        let report = self.alarms.occur(&alarms::CLUSTER_PEER_REFUSED, parameters);
        at.out.push(Output::Report(report));
    }

    fn yield_to(&mut self, at: &mut At<'_>, other: Life) {
        let parameters = vec![
            ("node", self.settings.node.to_string()),
            ("other_incarnation", other.incarnation.to_string()),
        ];
        let report = Report { name: "NodeYields", severity: Severity::Critical, parameters };
        at.out.push(Output::Report(report));
        at.out.push(Output::Nodes(NodesOutput::Yield));
    }

    /// The nodes of the file, in its order: for administrators.
    pub(super) fn list_nodes(&self) -> Value {
        self.settings.config.nodes.iter().map(|node| self.node_row(node)).collect()
    }

    fn node_row(&self, node: &crate::config::Node) -> Value {
        let services = node.services();
        let row = |state: &str,
                   since: Option<SystemTime>,
                   link: &str,
                   incarnation: Option<u32>,
                   revision: Option<&str>| {
            json!({
                "node": node.name.as_str(),
                "state": state,
                "since": since.map(protocol::event::rfc3339),
                "services": services,
                "incarnation": incarnation,
                "link": link,
                "revision": revision,
            })
        };
        if node.name == self.settings.node {
            let revision = &self.settings.config.revision;
            return row(self.state(), self.started, "self", Some(self.nodes.incarnation), Some(revision));
        }
        match self.nodes.membership.as_ref().and_then(|all| all.other(&node.name)) {
            Some(view) => row(
                view.state.word(),
                Some(view.since),
                view.link.word(),
                view.life.map(|life| life.incarnation),
                view.revision.map(|revision| &**revision),
            ),
            None => row(NodeState::Unknown.word(), self.started, LinkState::Down.word(), None, None),
        }
    }

    /// How many nodes are in each state, this one too.
    pub(super) fn nodes_by_state(&self) -> BTreeMap<&'static str, u32> {
        let mut counts: BTreeMap<&str, u32> = NodeState::ALL.iter().map(|state| (state.word(), 0)).collect();
        let mut count = |word| *counts.entry(word).or_default() += 1;
        count(self.state());
        let others = self.settings.config.nodes.iter().filter(|node| node.name != self.settings.node);
        for node in others {
            let view = self.nodes.membership.as_ref().and_then(|all| all.other(&node.name));
            count(view.map_or(NodeState::Unknown, |view| view.state).word());
        }
        counts
    }
}
