//! Certificates end while connections live: applications' and the node's own. Both are told ahead of time; an
//! application's connection is closed when its certificate ends (reference §2.8).
//!
//! Certificates count by the wall clock, which may be set; so the time of day is looked at once an hour at least.

use super::CtiManager;
use super::applications::{OUTPUTS_AT_ONCE, TIMERS_AT_ONCE};
use crate::node::port::{CtiConnection, CtiTransport, Output};
use crate::node::{Step, alarms};
use device_model::SessionId;
use protocol::event::{CloseReason, rfc3339};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant, SystemTime};

/// How long before its end a certificate is told to end soon.
pub const WARNING: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The longest time without a look at the wall clock.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// When which certificate ends.
#[derive(Debug, Default)]
pub(in crate::node) struct Expiries {
    /// Of connections with an open provider; those of closed connections are thrown out when there are too many.
    peers: BTreeSet<(SystemTime, CtiConnection)>,
    /// Up to here it is told that they end soon.
    told: Option<(SystemTime, CtiConnection)>,
    due: Option<Instant>,
}

impl Expiries {
    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn arm(&mut self, now: Instant, wall: SystemTime, own: Option<SystemTime>) {
        let all = CtiConnection(u64::MAX);
        let after = |at: SystemTime| self.peers.range((Bound::Excluded((at, all)), Bound::Unbounded)).next();
        let peers = [after(wall), after(wall + WARNING)].into_iter().flatten().map(|(end, _)| *end);
        let next = peers.chain(own).flat_map(|end| [end - WARNING, end]).filter(|at| *at > wall).min();
        let wait = next.map(|at| at.duration_since(wall).unwrap_or_default().min(LOOK));
        // Applications may share a certificate: others have their turn in between.
        let more = self.peers.first().is_some_and(|(end, _)| *end <= wall) || self.next_soon(wall).is_some();
        self.due = if more { Some(now) } else { wait.map(|wait| now + wait) };
    }

    /// The next connection whose certificate ends soon, of which that is not told.
    fn next_soon(&self, wall: SystemTime) -> Option<(SystemTime, CtiConnection)> {
        let all = CtiConnection(u64::MAX);
        let (over, last) = ((wall, all), (wall + WARNING, all));
        let from = self.told.map_or(over, |told| told.max(over));
        if from >= last {
            return None;
        }
        self.peers.range((Bound::Excluded(from), Bound::Included(last))).next().copied()
    }
}

impl CtiManager {
    /// From now on the certificate of a session's connection is watched.
    pub(in crate::node) fn watch_certificate(&mut self, step: &mut Step<'_>, connection: CtiConnection) {
        let Some(link) = self.applications.links.get(&connection) else { return };
        let end = match link.transport {
            CtiTransport::Tls { not_after: Some(end), .. } => end,
            CtiTransport::Tls { not_after: None, .. } | CtiTransport::Plain => return,
        };
        // Beyond what the clock can say it never ends.
        let Some(end) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end)) else { return };
        let links = &self.applications.links;
        let peers = &mut self.expiries.peers;
        if peers.len() > 2 * links.len() {
            peers.retain(|(_, connection)| links.contains_key(connection));
        }
        peers.insert((end, connection));
        if self.expiries.told.is_some_and(|told| (end, connection) <= told) {
            self.peer_expires_soon(step, end, connection);
        }
        self.look_at_certificates(step);
    }

    pub(in crate::node) fn certificate_timeouts(&mut self, step: &mut Step<'_>) {
        if self.expiries.due.is_some_and(|at| at <= step.now) {
            self.look_at_certificates(step);
        }
    }

    /// Compares every certificate that matters now with the time of day.
    pub(in crate::node) fn look_at_certificates(&mut self, step: &mut Step<'_>) {
        self.look_at_own(step);
        let begin = step.said_so_far();
        for _ in 0..TIMERS_AT_ONCE {
            let over = self.expiries.peers.first().copied().filter(|(end, _)| *end <= step.wall);
            let Some((_, connection)) = over.filter(|_| step.said_so_far() - begin < OUTPUTS_AT_ONCE) else {
                break;
            };
            self.expiries.peers.pop_first();
            self.peer_expired(step, connection);
        }
        for _ in 0..TIMERS_AT_ONCE {
            let Some((end, connection)) = self.expiries.next_soon(step.wall) else { break };
            self.expiries.told = Some((end, connection));
            self.peer_expires_soon(step, end, connection);
        }
        self.expiries.arm(step.now, step.wall, self.settings.certificate_ends);
    }

    fn look_at_own(&mut self, step: &mut Step<'_>) {
        let Some(end) = self.settings.certificate_ends else { return };
        let over = end <= step.wall;
        let soon = !over && end <= step.wall + WARNING;
        for (definition, on) in
            [(&alarms::CERTIFICATE_EXPIRES_SOON, soon), (&alarms::CERTIFICATE_EXPIRED, over)]
        {
            let parameters = vec![("node", self.settings.node.to_string()), ("expires", rfc3339(end))];
            self.alarm_condition(
                step,
                definition,
                String::new(),
                alarms::AlarmState::when(on),
                parameters,
                &[],
            );
        }
    }

    fn peer_expires_soon(&mut self, step: &mut Step<'_>, end: SystemTime, connection: CtiConnection) {
        let link = self.applications.links.get(&connection);
        let Some(session) = link.and_then(|link| link.connection.session()) else { return };
        // One that has just ended need not know.
        let Some(user) = self.applications.providers.get(&session).map(|provider| provider.user.to_string())
        else {
            return;
        };
        let parameters = vec![("session", session.to_string()), ("user", user), ("expires", rfc3339(end))];
        let alarm = &alarms::PEER_CERTIFICATE_EXPIRES_SOON;
        self.alarm_condition(
            step,
            alarm,
            session.to_string(),
            alarms::AlarmState::Raised,
            parameters,
            &[session],
        );
    }

    /// What was told of a session's certificate no longer holds: it has ended, or has come with another one.
    pub(in crate::node) fn forget_certificate(&mut self, step: &mut Step<'_>, session: SessionId) {
        let alarm = &alarms::PEER_CERTIFICATE_EXPIRES_SOON;
        let parameters = vec![("session", session.to_string())];
        self.alarm_condition(step, alarm, session.to_string(), alarms::AlarmState::Cleared, parameters, &[]);
    }

    /// The connection ends; its session may be resumed within its grace, with a certificate that is good.
    fn peer_expired(&mut self, step: &mut Step<'_>, connection: CtiConnection) {
        let Some(link) = self.applications.links.get(&connection) else { return };
        let session = link.connection.session().map_or_else(String::new, |id| id.to_string());
        let parameters = vec![("session", session), ("address", link.peer.to_string())];
        let report = step.alarms.occur(&alarms::PROVIDER_PEER_CERTIFICATE_EXPIRED, parameters);
        step.out.push(Output::Report(report));
        self.lose_connection(step, connection, CloseReason::CertificateExpired);
    }
}
