//! Connections without a provider: how many there are in all and of each address, and when the time of each is over.

use super::CtiManager;
use crate::node::port::CtiConnection;
use crate::node::{Step, alarms};
use security::limits::network;
use security::shares::{Bound, Share};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

/// Why there is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) enum Full {
    /// `max_unopened_connections`
    All,
    /// `max_unopened_connections_per_address`
    Address(IpAddr),
}

/// All of them. Each step costs the same however many there are.
#[derive(Debug, Default)]
pub(in crate::node) struct Unopened {
    due: BTreeSet<(Instant, CtiConnection)>,
    known: HashMap<CtiConnection, (Instant, IpAddr)>,
    by_address: HashMap<IpAddr, usize>,
}

impl Unopened {
    pub(in crate::node) fn len(&self) -> usize {
        self.known.len()
    }

    /// Those of an address (IPv6: of its /64).
    fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&network(address)).copied().unwrap_or(0)
    }

    /// Takes a place.
    fn take(
        &mut self,
        connection: CtiConnection,
        address: IpAddr,
        until: Instant,
        most: usize,
        most_of_address: usize,
    ) -> Result<(), Full> {
        if self.len() >= most {
            return Err(Full::All);
        }
        if self.of(address) >= most_of_address {
            return Err(Full::Address(network(address)));
        }
        if self.known.insert(connection, (until, network(address))).is_none() {
            self.due.insert((until, connection));
            *self.by_address.entry(network(address)).or_default() += 1;
        }
        Ok(())
    }

    /// Gives a place back; whose it was.
    fn leave(&mut self, connection: CtiConnection) -> Option<IpAddr> {
        let (until, address) = self.known.remove(&connection)?;
        self.due.remove(&(until, connection));
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(address)
    }

    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The first whose time is over. It keeps its place until it is closed.
    pub(in crate::node) fn overdue(&self, now: Instant) -> Option<CtiConnection> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, connection)| *connection)
    }
}

impl CtiManager {
    /// Gives a connection its place among those without a provider, or says `false`: it is to be closed.
    pub(in crate::node) fn take_unopened(
        &mut self,
        step: &mut Step<'_>,
        connection: CtiConnection,
        address: IpAddr,
        until: Instant,
    ) -> bool {
        let bounds = &self.settings.sessions;
        let (most, of_address) =
            (bounds.max_unopened_connections, bounds.max_unopened_connections_per_address);
        let taken = self.applications.unopened.take(connection, address, until, most, of_address);
        let (bound, key, limit, mut parameters) = match taken {
            Ok(()) => return true,
            Err(Full::All) => (Bound::ConnectionsOfAll, String::new(), most, Vec::new()),
            Err(Full::Address(address)) => {
                let address = address.to_string();
                (Bound::ConnectionsOfAddress, address.clone(), of_address, vec![("address", address)])
            }
        };
        step.shares.count_elsewhere(Share::Bound(bound), 1);
        parameters.push(("limit", limit.to_string()));
        self.alarm_condition(step, &alarms::MAX_UNOPENED, key, alarms::AlarmState::Raised, parameters, &[]);
        false
    }

    /// The connection has a provider now, or is gone. An alarm is cleared when half of the places are free again, so
    /// that it does not come and go with each connection.
    pub(in crate::node) fn leave_unopened(&mut self, step: &mut Step<'_>, connection: CtiConnection) {
        let Some(address) = self.applications.unopened.leave(connection) else { return };
        let bounds = &self.settings.sessions;
        let (all, of_address) = (self.applications.unopened.len(), self.applications.unopened.of(address));
        let all_half = 2 * all <= bounds.max_unopened_connections;
        let address_half = 2 * of_address <= bounds.max_unopened_connections_per_address;
        if all_half {
            self.alarm_condition(
                step,
                &alarms::MAX_UNOPENED,
                String::new(),
                alarms::AlarmState::Cleared,
                Vec::new(),
                &[],
            );
        }
        if address_half && step.alarms.any(&alarms::MAX_UNOPENED) {
            let address = address.to_string();
            let parameters = vec![("address", address.clone())];
            self.alarm_condition(
                step,
                &alarms::MAX_UNOPENED,
                address,
                alarms::AlarmState::Cleared,
                parameters,
                &[],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::session::ConnectionId;
    use std::time::Duration;

    #[test]
    fn places_are_counted_in_all_and_by_address_and_given_back_once() {
        #[allow(clippy::disallowed_methods)] // some instant to count from
        let start = Instant::now();
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let mut unopened = Unopened::default();
        let take = |unopened: &mut Unopened, n: u64, from: &str| {
            unopened.take(ConnectionId(n), address(from), start + Duration::from_secs(n), 3, 2)
        };
        assert_eq!(take(&mut unopened, 1, "192.0.2.1"), Ok(()));
        assert_eq!(take(&mut unopened, 2, "::ffff:192.0.2.1"), Ok(()));
        assert_eq!(take(&mut unopened, 3, "192.0.2.1"), Err(Full::Address(address("192.0.2.1"))));
        assert_eq!(take(&mut unopened, 4, "2001:db8::1"), Ok(()));
        assert_eq!(take(&mut unopened, 5, "2001:db8::2"), Err(Full::All));
        assert_eq!(unopened.next_timeout(), Some(start + Duration::from_secs(1)));
        assert_eq!(unopened.overdue(start), None);
        assert_eq!(unopened.overdue(start + Duration::from_secs(9)), Some(ConnectionId(1)));
        assert_eq!(unopened.leave(ConnectionId(1)), Some(address("192.0.2.1")));
        assert_eq!(unopened.leave(ConnectionId(1)), None);
        assert_eq!((unopened.len(), unopened.of(address("192.0.2.1"))), (2, 1));
        assert_eq!(unopened.leave(ConnectionId(2)), Some(address("192.0.2.1")));
        assert_eq!(unopened.leave(ConnectionId(4)), Some(address("2001:db8::")));
        assert!(unopened.due.is_empty() && unopened.by_address.is_empty());
    }
}
