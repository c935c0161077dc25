//! `cluster`, `nodes`, `call_manager_groups`, `device_pools`.

use super::items;
use crate::config::fields::{At, Fields};
use crate::config::mistake::Report;
use crate::config::names::{Kind, Names};
use crate::config::yaml::Value;
use crate::config::{CallManagerGroup, Cluster, CtiPorts, DevicePool, Node, SipPorts};
use device_model::{NodeName, NodeNumber};
use security::Mode;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

pub(in crate::config) const CLUSTER_KEYS: &[&str] = &["name", "security", "sip_proxies"];
pub(in crate::config) const SECURITY_KEYS: &[&str] = &["mode", "pki"];
pub(in crate::config) const NODE_KEYS: &[&str] =
    &["name", "host", "advertise", "services", "sip", "cti", "web", "cluster", "state_dir"];
pub(in crate::config) const SIP_KEYS: &[&str] = &["udp", "tcp", "tls"];
pub(in crate::config) const CTI_KEYS: &[&str] = &["tls", "plain"];
pub(in crate::config) const GROUP_KEYS: &[&str] = &["name", "members"];
pub(in crate::config) const POOL_KEYS: &[&str] = &["name", "call_manager_group"];
pub(in crate::config) const MODES: &[(&str, Mode)] =
    &[("secure", Mode::Secure), ("non_secure", Mode::NonSecure)];
/// Where a node keeps its state, beside the file, unless it is told.
pub(in crate::config) const STATE_DIR: &str = "state";
/// The services that a node can run.
pub(in crate::config) const SERVICES: &[(&str, Service)] =
    &[("callmanager", Service::CallManager), ("ctimanager", Service::CtiManager)];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Service {
    CallManager,
    CtiManager,
}

/// The most `sip_proxies`.
const MAX_PROXIES: usize = 64;

/// The longest name of anything that isn't a device.
pub(in crate::config) const MAX_NAME: usize = 64;

pub(in crate::config) fn cluster(at: &At<'_>, report: &mut Report) -> Option<Cluster> {
    let fields = at.fields(CLUSTER_KEYS, report)?;
    let name = fields.require("name", report).and_then(|at| realm(&at, report));
    let security = fields.get("security").and_then(|at| at.fields(SECURITY_KEYS, report));
    let mode = security.as_ref().and_then(|f| f.get("mode")).and_then(|at| at.choice(MODES, report));
    let pki = security.as_ref().and_then(|f| f.get("pki"));
    let pki = match &pki {
        Some(at) => at.name(4096, report).map_or_else(PathBuf::new, |text| super::path(at, text)),
        None => super::path(at, "pki"),
    };
    let sip_proxies = sip_proxies(fields.get("sip_proxies"), report);
    Some(Cluster { name: name?.into(), mode: mode.unwrap_or_default(), pki, sip_proxies })
}

fn sip_proxies(at: Option<At<'_>>, report: &mut Report) -> Vec<IpAddr> {
    let mut proxies = Vec::new();
    for item in at.map(|at| at.items(report)).unwrap_or_default() {
        let Some(text) = item.text(report) else { continue };
        match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                item.wrong(report, format!("`{text}` is no address of a proxy"));
            }
            Ok(ip) if proxies.contains(&ip) => item.wrong(report, format!("`{text}` is listed already")),
            Ok(_) if proxies.len() >= MAX_PROXIES => {
                item.wrong(report, format!("more than {MAX_PROXIES} proxies"));
                break;
            }
            Ok(ip) => proxies.push(ip),
            Err(_) => item.wrong(report, format!("`{text}` is no IP address (without a port)")),
        }
    }
    proxies
}

/// Stands for a cluster that couldn't be read.
pub(in crate::config) fn nameless() -> Cluster {
    Cluster { name: "".into(), mode: Mode::Secure, pki: PathBuf::new(), sip_proxies: Vec::new() }
}

/// The cluster's name is written into digest challenges: no quotes, no backslashes, ASCII.
fn realm<'a>(at: &At<'a>, report: &mut Report) -> Option<&'a str> {
    let name = at.name(MAX_NAME, report)?;
    if name.chars().any(|c| !c.is_ascii_graphic() && c != ' ' || matches!(c, '"' | '\\')) {
        at.wrong(report, "is also the SIP realm: printable ASCII without quotes and backslashes");
        return None;
    }
    Some(name)
}

pub(in crate::config) fn nodes(at: &At<'_>, names: &mut Names, report: &mut Report) -> Vec<Node> {
    let mistakes_before = report.count();
    let nodes = items(Some(at.clone()), names, report, node);
    if nodes.is_empty() && report.count() == mistakes_before {
        at.wrong(report, "at least one node is needed");
    }
    different_numbers(at, &nodes, report);
    nodes
}

/// Nodes are told apart in ids by a number that comes from their names.
fn different_numbers(at: &At<'_>, nodes: &[Node], report: &mut Report) {
    let mut numbers: BTreeMap<NodeNumber, &NodeName> = BTreeMap::new();
    for node in nodes {
        let one = &node.name;
        if let Some(other) = numbers.insert(one.number(), one).filter(|other| *other != one) {
            at.wrong(
                report,
                format!("`{one}` and `{other}` would issue the same ids: give one another name"),
            );
        }
    }
}

fn node(at: &At<'_>, names: &mut Names, report: &mut Report) -> Option<Node> {
    let fields = at.fields(NODE_KEYS, report)?;
    let name = file_name(&fields, Kind::Node, names, report);
    let host_at = fields.require("host", report);
    let addresses = super::addresses::addresses(host_at.as_ref(), fields.get("advertise").as_ref(), report);
    let services: Vec<Service> = match fields.get("services") {
        None => vec![Service::CallManager, Service::CtiManager],
        Some(at) => services(&at, report),
    };
    let sip = sip_ports(fields.get("sip"), report);
    let cti = cti_ports(fields.get("cti"), report);
    let port = |key: &str, report: &mut Report| fields.get(key).and_then(|at| port(&at, report));
    let (web, cluster) = (port("web", report), port("cluster", report));
    let state_dir = match fields.get("state_dir") {
        Some(at) => at.name(4096, report).map_or_else(PathBuf::new, |text| super::path(&at, text)),
        None => super::path(at, STATE_DIR),
    };
    let node = Node {
        name: name?.into(),
        addresses: addresses?,
        callmanager: services.contains(&Service::CallManager),
        ctimanager: services.contains(&Service::CtiManager),
        sip,
        cti,
        web,
        cluster,
        state_dir,
        place: at.place(),
    };
    different_ports(at, &node, report);
    if let Some(at) = host_at {
        super::addresses::wildcards(&at, &node, report);
    }
    if let Some(at) = fields.get("advertise") {
        super::addresses::idle(&at, &node, report);
    }
    Some(node)
}

fn services(at: &At<'_>, report: &mut Report) -> Vec<Service> {
    let items = at.items(report);
    if items.is_empty() && matches!(at.node.value, Value::List(_)) {
        at.wrong(report, "a node runs `callmanager`, `ctimanager` or both");
    }
    items.iter().filter_map(|item| item.choice(SERVICES, report)).collect()
}

/// SIP listens where it is told; without the section where everybody expects it.
fn sip_ports(at: Option<At<'_>>, report: &mut Report) -> SipPorts {
    let Some(at) = at else { return SipPorts { udp: Some(5060), tcp: Some(5060), tls: Some(5061) } };
    let fields = at.fields(SIP_KEYS, report);
    let mut port_of = |key| fields.as_ref().and_then(|f| f.get(key)).and_then(|at| port(&at, report));
    SipPorts { udp: port_of("udp"), tcp: port_of("tcp"), tls: port_of("tls") }
}

/// CTI over TLS is always there: `plain` opens another port beside it.
fn cti_ports(at: Option<At<'_>>, report: &mut Report) -> CtiPorts {
    let fields = at.and_then(|at| at.fields(CTI_KEYS, report));
    let mut port_of = |key| fields.as_ref().and_then(|f| f.get(key)).and_then(|at| port(&at, report));
    CtiPorts { tls: port_of("tls").or(Some(2749)), plain: port_of("plain") }
}

/// 0 is any free port: for tests and trials.
pub(in crate::config) fn port(at: &At<'_>, report: &mut Report) -> Option<u16> {
    at.integer(0..=65_535, report).and_then(|n| u16::try_from(n).ok())
}

fn different_ports(at: &At<'_>, node: &Node, report: &mut Report) {
    let ports = [
        ("sip.tcp", node.sip.tcp),
        ("sip.tls", node.sip.tls),
        ("cti.tls", node.cti.tls),
        ("cti.plain", node.cti.plain),
        ("web", node.web),
        ("cluster", node.cluster),
    ];
    for (index, (key, port)) in ports.iter().enumerate() {
        let Some(number) = port.filter(|n| *n != 0) else { continue };
        if let Some((other, _)) = ports[..index].iter().find(|(_, earlier)| *earlier == *port) {
            at.wrong(report, format!("{other} and {key} can't both listen on TCP port {number}"));
        }
    }
}

pub(in crate::config) fn group(
    at: &At<'_>,
    names: &mut Names,
    report: &mut Report,
) -> Option<CallManagerGroup> {
    let fields = at.fields(GROUP_KEYS, report)?;
    let name = defined(&fields, Kind::CallManagerGroup, names, report);
    let members_at = fields.require("members", report)?;
    let mut members: Vec<&str> = Vec::new();
    for item in members_at.items(report) {
        let Some(member) = item.name(MAX_NAME, report) else { continue };
        names.refer(Kind::Node, member, &item);
        if members.contains(&member) {
            item.wrong(report, format!("`{member}` is a member already"));
        }
        members.push(member);
    }
    if members.is_empty() {
        members_at.wrong(report, "at least one node is needed");
    }
    let members = members.into_iter().map(Into::into).collect();
    Some(CallManagerGroup { name: name?.into(), members, place: at.place() })
}

pub(in crate::config) fn pool(at: &At<'_>, names: &mut Names, report: &mut Report) -> Option<DevicePool> {
    let fields = at.fields(POOL_KEYS, report)?;
    let name = defined(&fields, Kind::DevicePool, names, report);
    let group_at = fields.require("call_manager_group", report)?;
    let group = group_at.name(MAX_NAME, report)?;
    names.refer(Kind::CallManagerGroup, group, &group_at);
    Some(DevicePool { name: name?.into(), call_manager_group: group.into(), place: at.place() })
}

/// The `name` of an item, defined.
pub(in crate::config) fn defined<'a>(
    fields: &Fields<'a>,
    kind: Kind,
    names: &mut Names,
    report: &mut Report,
) -> Option<&'a str> {
    let at = fields.require("name", report)?;
    let name = at.name(MAX_NAME, report)?;
    names.define(kind, name, &at, report).then_some(name)
}

/// A name that files are called after as well.
fn file_name<'a>(fields: &Fields<'a>, kind: Kind, names: &mut Names, report: &mut Report) -> Option<&'a str> {
    let name = defined(fields, kind, names, report)?;
    if name.starts_with('.') || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        let at = fields.require("name", report)?;
        at.wrong(report, "has letters, digits, `-`, `_` and `.` only: files are named after it");
        return None;
    }
    Some(name)
}
