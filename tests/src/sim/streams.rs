//! SIP over TCP and TLS: phones that have a connection to the node, or are dialled by it. What is written on one arrives whole
//! and in order, later while a cable is out, and never where the other end has lost its power.

use super::oracle::Way;
use super::scene::{NODE, NODE_TLS, address};
use super::tally::Happening;
use super::world::{Later, World};
use ctimanager::node::Input;
use sip::port::ConnectionId;
use sip::{Hop, Transport};
use std::net::SocketAddr;
use std::time::Duration;

/// Ports from which phones connect.
const EPHEMERAL: u64 = 40_000;

/// One connection of a phone's.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    id: u64,
    /// When the last message arrives, each way.
    last: [Duration; 2],
}

impl Stream {
    pub(super) fn is(&self, connection: ConnectionId) -> bool {
        self.id == connection.0
    }
}

impl World {
    /// Writes a message on the connection between a phone and the node; there is one, or one is made.
    pub(super) fn write_stream(&mut self, phone: usize, bytes: Vec<u8>, way: Way) {
        let after = self.dice.ms(1, 8);
        let plugged = self.unplugged_until[phone];
        if self.streams[phone].is_none() {
            let id = self.next_connection();
            self.tally.add(Happening::Connected);
            self.streams[phone] = Some(Stream { id, last: [Duration::ZERO; 2] });
        }
        let Some(stream) = &mut self.streams[phone] else { return };
        let last = &mut stream.last[usize::from(way == Way::FromNode)];
        *last = (*last).max(self.now + after).max(plugged);
        let (id, at) = (stream.id, *last);
        let later = match way {
            Way::ToNode => Later::StreamToNode(phone, id, bytes),
            Way::FromNode => Later::StreamToPhone(phone, id, bytes),
        };
        self.schedule(at.saturating_sub(self.now), later);
    }

    /// Whether this is still the phone's connection.
    pub(super) fn is_stream(&self, phone: usize, id: u64) -> bool {
        self.streams[phone].as_ref().is_some_and(|stream| stream.id == id)
    }

    /// A message on a connection reaches the node.
    pub(super) fn stream_to_node(&mut self, phone: usize, id: u64, bytes: Vec<u8>) -> Result<(), String> {
        if !self.is_stream(phone, id) || self.node.is_none() {
            return Ok(());
        }
        let device = self.phones[phone].device;
        self.trace.line(self.now, device, &bytes);
        self.oracle.sip(self.now, Way::ToNode, device, &bytes)?;
        let hop = self.hop_of(phone, id);
        self.input(Input::Sip { hop, bytes })
    }

    fn hop_of(&self, phone: usize, id: u64) -> Hop {
        let transport = self.phones[phone].transport;
        let local = address(if transport == Transport::Tls { NODE_TLS } else { NODE });
        let port = u16::try_from(EPHEMERAL + id % 20_000).unwrap_or(u16::MAX);
        let remote = SocketAddr::new(self.phones[phone].address.ip(), port);
        Hop { transport, local, remote, connection: Some(ConnectionId(id)) }
    }

    /// Which phone is at the end of this hop.
    pub(super) fn phone_at(&self, hop: &Hop) -> Option<usize> {
        match hop.connection {
            Some(id) => (0..self.phones.len()).find(|phone| self.is_stream(*phone, id.0)),
            None => self.phones.iter().position(|phone| phone.address == hop.remote),
        }
    }

    /// The node writes on a connection that is no more: where the phone lives, the system says so.
    pub(super) fn write_into_the_void(&mut self, hop: Hop) -> Result<(), String> {
        let phone = self.phones.iter().position(|phone| phone.address.ip() == hop.remote.ip());
        let Some(phone) = phone.filter(|_| hop.connection.is_some()) else {
            return Err(format!("the node wrote to {}, where nobody is", hop.remote));
        };
        if self.phones[phone].off_until <= self.now {
            let after = self.dice.ms(1, 8);
            self.schedule(after, Later::Closed(hop));
        }
        Ok(())
    }

    /// The node wants a connection to a phone.
    pub(super) fn connect_to(&mut self, hop: Hop) {
        let after = self.dice.ms(1, 30);
        match self.phone_at(&hop) {
            Some(phone) if self.phones[phone].off_until <= self.now => {
                let id = self.next_connection();
                self.streams[phone].get_or_insert(Stream { id, last: [Duration::ZERO; 2] });
            }
            Some(_) | None => self.schedule(after, Later::Unreachable(hop)),
        }
    }
}
