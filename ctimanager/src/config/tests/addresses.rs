//! A node's `host` and `advertise`.

use super::{good, only, with};
use crate::config::{Listener, Node};

fn node(rest: &str) -> String {
    with("nodes", &format!("nodes: [{{name: cm1, {rest}}}]"))
}

fn read(rest: &str) -> Node {
    good(&node(rest)).nodes[0].clone()
}

/// What is told of a host, `HOST:PORT`.
fn told(node: &Node, listener: Listener, host: &str) -> Option<String> {
    node.addresses.told(listener, host, 5060).map(|(host, port)| format!("{host}:{port}"))
}

#[test]
fn a_host_is_one_or_several_or_each_listeners_own() {
    let one = read("host: 127.0.0.1");
    assert!(Listener::ALL.iter().all(|listener| one.addresses.hosts(*listener).len() == 1));
    assert_eq!(told(&one, Listener::Cti, "127.0.0.1").as_deref(), Some("127.0.0.1:5060"));
    let two = read("host: [192.0.2.1, \"2001:db8::1\"]");
    assert_eq!(two.addresses.names(), ["192.0.2.1", "2001:db8::1"]);
    let each = read(
        "host: {sip: 10.0.0.1, tls: 10.0.0.3, cti: [10.0.0.2, cti.example.com], web: localhost}, web: 0",
    );
    let hosts = |listener| each.addresses.hosts(listener).join(" ");
    assert_eq!(hosts(Listener::SipUdp), "10.0.0.1");
    assert_eq!(hosts(Listener::SipTls), "10.0.0.3", "what is said of it alone holds");
    assert_eq!(hosts(Listener::Cti), "10.0.0.2 cti.example.com");
}

#[test]
fn what_is_said_of_fewer_goes_before_what_is_said_of_more() {
    let node = read(
        "host: [10.0.0.2, \"::\", 10.0.0.1], advertise: {udp: \"203.0.113.5:15060\", sip: 203.0.113.6, ipv4: 203.0.113.7, \
         ipv6: six.example.com, \"10.0.0.1\": 203.0.113.8, tls: \"[2001:db8::5]:15061\"}",
    );
    for (listener, host, wanted) in [
        (Listener::SipUdp, "10.0.0.2", "203.0.113.5:15060"),
        (Listener::SipTcp, "10.0.0.2", "203.0.113.6:5060"),
        (Listener::Cti, "10.0.0.2", "203.0.113.7:5060"),
        (Listener::Cti, "::", "six.example.com:5060"),
        (Listener::SipTls, "::", "2001:db8::5:15061"),
        (Listener::SipTcp, "10.0.0.1", "203.0.113.8:5060"),
    ] {
        assert_eq!(told(&node, listener, host).as_deref(), Some(wanted), "{listener:?} {host}");
    }
}

#[test]
fn what_nobody_could_use_is_a_mistake() {
    for (rest, wanted) in [
        (
            "host: 0.0.0.0",
            "nodes[0].host: `0.0.0.0` is every IPv4 address of this machine and none that others could use",
        ),
        ("host: 0.0.0.0, advertise: 0.0.0.0", "is no address that others could use"),
        ("host: \"::ffff:0.0.0.0\"", "`::ffff:0.0.0.0` is an IPv4 address, which is written `0.0.0.0`"),
        ("host: 10.0.0.1, advertise: \"::ffff:0.0.0.0\"", "is no address that others could use"),
        (
            "host: [0.0.0.0, 10.0.0.1], advertise: 203.0.113.5",
            "`10.0.0.1` and `0.0.0.0`: one of them is every address of its family",
        ),
        (
            "host: {sip: [\"::1\", \"::\"], cti: \"::1\"}, advertise: \"2001:db8::5\"",
            "`::` and `::1` for sip: one of them is every address of its family",
        ),
        (
            "host: [10.0.0.1, 192.168.0.5], advertise: {\"192.168.0.6\": 203.0.113.5}",
            "nothing listens on `192.168.0.6`",
        ),
        ("host: 10.0.0.1, advertise: {ipv6: \"2001:db8::5\"}", "nothing listens on an IPv6 address"),
        ("host: 10.0.0.1, advertise: [203.0.113.5, \"2001:db8::5\"]", "nothing listens on an IPv6 address"),
        ("host: \"::1\", advertise: {cti: 203.0.113.5}", "nothing listens on an IPv4 address"),
        ("host: 10.0.0.1, advertise: [203.0.113.5, 203.0.113.6]", "`203.0.113.6` is never used"),
        (
            "host: 10.0.0.1, sip: {udp: 5060}, advertise: {tls: 203.0.113.5}",
            "nothing listens there: the node has no port for `tls`",
        ),
        ("host: 10.0.0.1, advertise: 224.0.0.1", "is no address that others could use"),
        ("host: 10.0.0.1, advertise: \"203.0.113.5:5080\"", "a port belongs to one listener"),
        ("host: 10.0.0.1, advertise: {sip: \"203.0.113.5:5080\"}", "a port belongs to one listener"),
        ("host: 10.0.0.1, advertise: {udp: \"203.0.113.5:0\"}", "neither an address nor a name"),
        ("host: 10.0.0.1, advertise: {udp: \"what ever\"}", "neither an address nor a name"),
        ("host: 10.0.0.1, advertise: {ipv6: 203.0.113.5}", "is no ipv6 address"),
        ("host: 10.0.0.1, advertise: {udpp: 203.0.113.5}", "unknown key `udpp`: did you mean `udp`?"),
        ("host: {sip: 10.0.0.1}", "there is no address for cti, which has a port"),
        ("host: [10.0.0.1, 10.0.0.1]", "`10.0.0.1` is there twice"),
        ("host: []", "1 to 16 addresses or names are needed"),
        ("host: [\"10.0.0.1:5060\"]", "is neither a host name nor an IP address"),
    ] {
        let message = only(&node(rest));
        assert!(message.contains(wanted), "{rest}: {message}");
    }
}
