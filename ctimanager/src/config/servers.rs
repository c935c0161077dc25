//! Where a node's CTI is reached, as others are told it.

use super::types::{Listener, Node};
use protocol::openrpc::Server;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where the CTI listeners of a node really are, in the order of its hosts; empty = not known.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // named as in the configuration
pub struct CtiListeners<'a> {
    pub tls: &'a [SocketAddr],
    pub plain: &'a [SocketAddr],
    pub web: &'a [SocketAddr],
}

impl Node {
    /// The servers of an OpenRPC document about this node.
    #[must_use]
    pub fn servers(&self, bound: CtiListeners<'_>) -> Vec<Server> {
        let web = self.authorities(Listener::Web, self.web, bound.web);
        let tls = self.authorities(Listener::Cti, self.cti.tls, bound.tls);
        let plain = self.authorities(Listener::Cti, self.cti.plain, bound.plain);
        let web = web.iter().map(|authority| Server::websocket(authority));
        let tls = tls.iter().map(|authority| Server::tls(authority));
        web.chain(tls).chain(plain.iter().map(|authority| Server::plain(authority))).collect()
    }

    /// Where it listens for other nodes: where it listens for applications, else for whatever it listens.
    #[must_use]
    pub fn cluster_hosts(&self) -> &[Arc<str>] {
        let listeners = [Listener::Cti, Listener::Web, Listener::SipTls, Listener::SipTcp, Listener::SipUdp];
        let hosts = listeners.map(|listener| self.addresses.hosts(listener));
        hosts.into_iter().find(|hosts| !hosts.is_empty()).unwrap_or_default()
    }

    /// Host and port at which other nodes connect, in the order of its hosts.
    #[must_use]
    pub fn cluster_addresses(&self) -> Vec<(Arc<str>, u16)> {
        let Some(port) = self.cluster.filter(|port| *port != 0) else { return Vec::new() };
        let told =
            |host: &Arc<str>| self.addresses.told(Listener::Cti, host, port).map(|(host, _)| (host, port));
        let mut found: Vec<(Arc<str>, u16)> = Vec::new();
        for address in self.cluster_hosts().iter().filter_map(told) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }

    /// `host:port` of a CTI listener for others, in the order of the node's hosts. A port that the system will choose is
    /// known once it has.
    #[must_use]
    pub fn authorities(&self, listener: Listener, port: Option<u16>, bound: &[SocketAddr]) -> Vec<String> {
        let Some(configured) = port.filter(|_| self.ctimanager) else { return Vec::new() };
        let mut found: Vec<String> = Vec::new();
        for (index, host) in self.addresses.hosts(listener).iter().enumerate() {
            let port = bound.get(index).map_or(configured, SocketAddr::port);
            let told = self.addresses.told(listener, host, port).filter(|(_, port)| *port != 0);
            let Some((host, port)) = told else { continue };
            let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            if !found.contains(&text) {
                found.push(text);
            }
        }
        found
    }
}
