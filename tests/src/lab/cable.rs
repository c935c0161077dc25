//! A cable that can be pulled: a network namespace of its own, and a link into it. Needs the right to make namespaces.

use super::Lab;
use std::net::IpAddr;
use std::process::Command;

/// A link into a namespace, with addresses that follow from the lab's, which is one test's alone. Taken down with it.
pub struct Cable {
    /// `ip netns exec` this to be at its far end.
    pub namespace: String,
    host: String,
    inside: String,
    net: [u8; 2],
}

impl Cable {
    /// Plugs in the lab's cable of this number, 0 to 63; `None` without the right to do so.
    #[must_use]
    pub fn plug(lab: &Lab, number: u8) -> Option<Cable> {
        let octet = match lab.host() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let namespace = format!("ctilab{octet}n{number}");
        let cable = Cable {
            host: format!("{namespace}h"),
            inside: format!("{namespace}i"),
            net: [octet, 4 * number],
            namespace,
        };
        // What a test that was killed left there.
        let _ = Command::new("ip").args(["netns", "del", &cable.namespace]).output();
        let made = Command::new("ip").args(["netns", "add", &cable.namespace]).output();
        made.is_ok_and(|output| output.status.success()).then(|| {
            cable.link();
            cable
        })
    }

    fn link(&self) {
        let Cable { namespace, host, inside, net: [third, last] } = self;
        let (here, there) = (last + 1, last + 2);
        for words in [
            format!("link add {host} type veth peer name {inside} netns {namespace}"),
            format!("addr add 10.79.{third}.{here}/30 dev {host}"),
            format!("link set {host} up"),
            format!("-n {namespace} addr add 10.79.{third}.{there}/30 dev {inside}"),
            format!("-n {namespace} link set {inside} up"),
            format!("-n {namespace} route add default via 10.79.{third}.{here}"),
        ] {
            ip(&words);
        }
    }

    /// Nothing passes any more, and nobody is told.
    pub fn pull(&self) {
        ip(&format!("link set {} down", self.host));
    }

    /// The machine at its far end is switched off and on: nothing of what `switch_off` ends gets out, and afterwards there
    /// is a machine of the same address that knows of no connection.
    pub fn reboot(&self, switch_off: impl FnOnce()) {
        ip(&format!("link del {}", self.host));
        switch_off();
        ip(&format!("netns del {}", self.namespace));
        ip(&format!("netns add {}", self.namespace));
        self.link();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The link goes with its namespace.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
    }
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is there");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
