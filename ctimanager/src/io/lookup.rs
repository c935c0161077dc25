//! Names of hosts and their addresses. It blocks: the system's resolver is asked.

use crate::config::{self, Config};
use device_model::TrunkName;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use tracing::warn;

/// The address, or all that a name has on this machine.
pub(super) fn addresses_of(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let is_here = |ip| UdpSocket::bind((ip, 0)).is_ok();
    match (look_up(host, port), config::address(host)) {
        (Ok(found), _) => Ok(on_this_machine(host, found, is_here)),
        // `localhost` is known without a resolver.
        (Err(_), Some(ip)) => Ok(vec![SocketAddr::new(ip, port)]),
        (Err(error), None) => Err(error),
    }
}

/// A name may have addresses that are another machine's, or of a family that this one hasn't. One at least stays: that it
/// can't be had is told where it is listened on.
fn on_this_machine(
    host: &str,
    mut found: Vec<SocketAddr>,
    is_here: impl Fn(IpAddr) -> bool,
) -> Vec<SocketAddr> {
    let (here, elsewhere): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().copied().partition(|address| is_here(address.ip()));
    if here.is_empty() {
        found.truncate(1);
        return found;
    }
    for address in elsewhere {
        warn!(%host, address = %address.ip(), "an address of the name is not this machine's; not listened on");
    }
    here
}

/// The addresses of trunks that are configured by name. It blocks. A name without an address is told and left out: its
/// trunk takes no calls.
pub(super) fn look_up_trunks(config: &Config) -> HashMap<TrunkName, SocketAddr> {
    let named = config.trunks.iter().filter(|trunk| trunk.address().is_none());
    named
        .filter_map(|trunk| match look_up(&trunk.host, trunk.port) {
            Ok(found) => Some((trunk.name.clone(), *found.first()?)),
            Err(error) => {
                warn!(trunk = %trunk.name, host = %trunk.host, %error, "a trunk's address can't be found");
                None
            }
        })
        .collect()
}

/// All addresses of a name, one at least.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = (host, port).to_socket_addrs()?;
    // IPv4 first: a phone or trunk that has only that is still the more likely one.
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn of_a_name_those_addresses_are_listened_on_that_the_machine_has() {
        let found = || vec![at("192.0.2.1:5060"), at("192.0.2.2:5060"), at("[2001:db8::1]:5060")];
        let of = |is_here: fn(IpAddr) -> bool| on_this_machine("cm1.example.com", found(), is_here);
        assert_eq!(of(|_| true), found(), "all of both families");
        assert_eq!(of(|ip| ip.is_ipv4()), [at("192.0.2.1:5060"), at("192.0.2.2:5060")]);
        assert_eq!(of(|ip| ip.is_ipv6()), [at("[2001:db8::1]:5060")]);
        assert_eq!(of(|_| false), [at("192.0.2.1:5060")], "which is then told to be somebody else's");
    }
}
