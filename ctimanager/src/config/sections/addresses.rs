//! A node's `host` and `advertise`: where it listens, and what it tells others of that.
//!
//! `host` is one address or name, a list of them, or a map by what listens. `advertise` is the same, for others: an address
//! or name (a list: one of each family), or a map by what listens, by family, or by listen address; what stands for one
//! listener alone may have a port (port mapping). Whoever says nothing advertises where he listens.

use crate::config::fields::At;
use crate::config::mistake::Report;
use crate::config::yaml::Value;
use crate::config::{Addresses, Advertised, Listener, Rule};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What listens, by its key; `sip` stands for three of them.
pub(in crate::config) const LISTENERS: &[(&str, &[Listener])] = &[
    ("sip", &[Listener::SipUdp, Listener::SipTcp, Listener::SipTls]),
    ("udp", &[Listener::SipUdp]),
    ("tcp", &[Listener::SipTcp]),
    ("tls", &[Listener::SipTls]),
    ("cti", &[Listener::Cti]),
    ("web", &[Listener::Web]),
];
/// Families, as keys of `advertise`.
pub(in crate::config) const FAMILIES: &[(&str, bool)] = &[("ipv4", true), ("ipv6", false)];
/// The most addresses of one listener.
pub(in crate::config) const MAX_ADDRESSES: usize = 16;

/// Reads both.
pub(in crate::config) fn addresses(
    host: Option<&At<'_>>,
    advertise: Option<&At<'_>>,
    report: &mut Report,
) -> Option<Addresses> {
    let mut addresses = Addresses::default();
    let before = report.count();
    read_hosts(host?, &mut addresses, report);
    if let Some(at) = advertise {
        read_advertised(at, &mut addresses, report);
    }
    (report.count() == before).then_some(addresses)
}

fn read_hosts(at: &At<'_>, addresses: &mut Addresses, report: &mut Report) {
    for (key, at, listeners) in by_listener(at, false, report) {
        let said: Vec<Listener> = addresses.hosts.keys().copied().collect();
        for item in one_or_more(&at, report) {
            let Some(text) = host(&item, report) else { continue };
            if let Some(mapped) = text.parse().ok().and_then(|ip| mapped(&ip)) {
                item.wrong(report, format!("`{text}` is an IPv4 address, which is written `{mapped}`"));
                continue;
            }
            for listener in listeners.iter().filter(|listener| !said.contains(listener)) {
                let hosts = addresses.hosts.entry(*listener).or_default();
                if hosts.iter().any(|host| **host == *text) {
                    item.wrong(report, format!("`{text}` is there twice{}", of(key)));
                    break;
                }
                if let Some(other) = hosts.iter().find(|other| is_within(text, other)) {
                    item.wrong(
                        report,
                        format!(
                            "`{text}` and `{other}`{}: one of them is every address of its family",
                            of(key)
                        ),
                    );
                    break;
                }
                hosts.push(text.into());
            }
        }
    }
}

/// The IPv4 address that an IPv6 one stands for (`::ffff:192.0.2.1`).
fn mapped(ip: &IpAddr) -> Option<IpAddr> {
    Some(ip.to_canonical()).filter(|canonical| canonical != ip)
}

/// Whether one of two addresses of a family is a wildcard: the other can't be listened on beside it.
fn is_within(one: &str, other: &str) -> bool {
    let both = one.parse::<IpAddr>().ok().zip(other.parse::<IpAddr>().ok());
    both.is_some_and(|(a, b)| a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

fn read_advertised(at: &At<'_>, addresses: &mut Addresses, report: &mut Report) {
    for (key, at, listeners) in by_listener(at, true, report) {
        let family = FAMILIES.iter().find(|(word, _)| *word == key).map(|(_, ipv4)| *ipv4);
        let of = key.parse::<IpAddr>().ok();
        for item in one_or_more(&at, report) {
            let Some(to) = advertised(&item, listeners.len() == 1, report) else { continue };
            let ip = to.host.parse::<IpAddr>().ok();
            if ip.zip(family).is_some_and(|(ip, ipv4)| ip.is_ipv4() != ipv4) {
                item.wrong(report, format!("`{}` is no {key} address", to.host));
                continue;
            }
            let ipv4 = family.or(of.map(|of| of.is_ipv4())).or(ip.map(|ip| ip.is_ipv4()));
            let rule = Rule { of, ipv4, to };
            if let Err(why) = addresses.has_use(listeners, &rule) {
                item.wrong(report, why);
                continue;
            }
            for listener in listeners {
                addresses.rules.entry(*listener).or_default().push(rule.clone());
            }
        }
    }
}

impl Addresses {
    /// Whether a rule says something of any listener that no rule of the same kind has said before; else why not.
    fn has_use(&self, listeners: &[Listener], rule: &Rule) -> Result<(), String> {
        // A name may be any address.
        let fits = |host: &Arc<str>| match host.parse::<IpAddr>() {
            Ok(ip) => rule.of.is_none_or(|of| of == ip) && rule.ipv4.is_none_or(|ipv4| ipv4 == ip.is_ipv4()),
            Err(_) => true,
        };
        let mut fitting =
            listeners.iter().filter(|listener| self.hosts(**listener).iter().any(fits)).peekable();
        if fitting.peek().is_none() {
            return Err(match (rule.of, rule.ipv4) {
                (Some(of), _) => format!("nothing listens on `{of}`"),
                (None, Some(ipv4)) => {
                    format!("nothing listens on an {} address", if ipv4 { "IPv4" } else { "IPv6" })
                }
                (None, None) => "nothing listens here".to_owned(),
            });
        }
        let is_said = |listener: &Listener| {
            let mut rules = self.rules.get(listener).into_iter().flatten();
            rules.any(|before| before.of == rule.of && before.ipv4 == rule.ipv4)
        };
        match listeners.iter().all(is_said) {
            true => Err(format!("`{}` is never used: another is told of the same addresses", rule.to.host)),
            false => Ok(()),
        }
    }
}

/// What is written for each listener: for all without a map.
fn by_listener<'a>(
    at: &At<'a>,
    advertise: bool,
    report: &mut Report,
) -> Vec<(&'a str, At<'a>, &'static [Listener])> {
    let Value::Map(entries) = &at.node.value else { return vec![("", at.clone(), Listener::ALL)] };
    let mut found = Vec::new();
    for entry in entries {
        let key = entry.key.as_str();
        let Some(value) = at.entry(key) else { continue };
        let listeners = LISTENERS.iter().find(|(word, _)| *word == key).map(|(_, listeners)| *listeners);
        let more =
            advertise && (FAMILIES.iter().any(|(word, _)| *word == key) || key.parse::<IpAddr>().is_ok());
        match listeners.or(more.then_some(Listener::ALL)) {
            Some(_) if value.is_nothing() => {}
            Some(listeners) => found.push((key, value, listeners)),
            None => {
                let words = LISTENERS.iter().map(|(word, _)| *word);
                let hint = report.did_you_mean(key, words.chain(FAMILIES.iter().map(|(word, _)| *word)));
                let path = format!("{}.{key}", at.path);
                report.mistake(entry.key_place.clone(), path, format!("unknown key `{key}`{hint}"));
            }
        }
    }
    // What is said of fewer goes before what is said of more.
    found.sort_by_key(|(_, _, listeners)| listeners.len());
    found
}

fn one_or_more<'a>(at: &At<'a>, report: &mut Report) -> Vec<At<'a>> {
    let items = if at.is_list() { at.listed() } else { vec![at.clone()] };
    if items.is_empty() || items.len() > MAX_ADDRESSES {
        at.wrong(report, format!("1 to {MAX_ADDRESSES} addresses or names are needed here"));
        return Vec::new();
    }
    items
}

fn of(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" for {key}") }
}

/// `203.0.113.5`, `sip.example.com`, and with a port `203.0.113.5:15060`, `[2001:db8::5]:15060`.
fn advertised(at: &At<'_>, port_fits: bool, report: &mut Report) -> Option<Advertised> {
    let text = at.name(300, report)?;
    let (host, port) = split_port(text);
    let bare = host.trim_matches(['[', ']']);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let ip = bare.parse::<IpAddr>();
    if ip.is_err() && (bare.is_empty() || !bare.chars().all(good)) || port == Some(0) {
        at.wrong(report, format!("`{text}` is neither an address nor a name, nor one with a port behind it"));
        return None;
    }
    if ip.is_ok_and(|ip| ip.to_canonical().is_unspecified() || ip.is_multicast()) {
        at.wrong(report, format!("`{bare}` is no address that others could use"));
        return None;
    }
    if port.is_some() && !port_fits {
        at.wrong(
            report,
            "a port belongs to one listener: `{udp: \"HOST:PORT\"}`, and so for tcp, tls, cti, web",
        );
        return None;
    }
    Some(Advertised { host: bare.into(), port })
}

fn split_port(text: &str) -> (&str, Option<u16>) {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (text.rsplit_once(':').map_or(text, |(host, _)| host), Some(address.port()));
    }
    let name = text.parse::<IpAddr>().is_err();
    match text.rsplit_once(':') {
        Some((host, port)) if name && !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (text, None),
        },
        Some(_) | None => (text, None),
    }
}

/// What is said of listeners that the node doesn't have.
pub(in crate::config) fn idle(advertise: &At<'_>, node: &crate::config::Node, report: &mut Report) {
    let Value::Map(entries) = &advertise.node.value else { return };
    for entry in entries {
        let of = LISTENERS.iter().find(|(word, _)| *word == entry.key.as_str());
        let Some((key, _)) = of.filter(|(_, all)| !all.iter().any(|one| node.listens(*one))) else {
            continue;
        };
        if let Some(at) = advertise.entry(key) {
            at.wrong(report, format!("nothing listens there: the node has no port for `{key}`"));
        }
    }
}

/// Every address of this machine is none that others could use: what it is advertised as has to be said.
pub(in crate::config) fn wildcards(host: &At<'_>, node: &crate::config::Node, report: &mut Report) {
    let mut missing: Vec<(Arc<str>, Vec<&str>)> = Vec::new();
    for (listener, word) in Listener::NAMED {
        // Whoever looks at the console has its address already.
        if !node.listens(listener) || listener == Listener::Web {
            continue;
        }
        for text in node.addresses.hosts(listener) {
            let Some(ip) = text.parse::<IpAddr>().ok().filter(IpAddr::is_unspecified) else { continue };
            if node.addresses.advertised(listener, ip).is_none() {
                match missing.iter_mut().find(|(host, _)| host == text) {
                    Some((_, words)) => words.push(word),
                    None => missing.push((text.clone(), vec![word])),
                }
            }
        }
    }
    for (text, words) in missing {
        let family = if text.contains(':') { "IPv6" } else { "IPv4" };
        host.wrong(
            report,
            format!(
                "`{text}` is every {family} address of this machine and none that others could use: `advertise` has to say \
                 which they use ({})",
                words.join(", ")
            ),
        );
    }
    for (listener, word) in Listener::NAMED {
        if node.listens(listener) && node.addresses.hosts(listener).is_empty() {
            host.wrong(report, format!("there is no address for {word}, which has a port"));
        }
    }
}

/// A host name or an address, without a port.
pub(in crate::config) fn host<'a>(at: &At<'a>, report: &mut Report) -> Option<&'a str> {
    let text = at.name(253, report)?;
    let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if text.parse::<std::net::IpAddr>().is_err() && !is_name {
        at.wrong(
            report,
            format!("`{text}` is neither a host name nor an IP address (ports have keys of their own)"),
        );
        return None;
    }
    Some(text)
}
