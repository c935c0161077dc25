//! What must hold between the rooms of a node after every step (P5, P6): for tests and simulations.

use super::Node;
use device_model::LegView;

impl Node {
    /// Compares what the rooms know of each other.
    ///
    /// # Errors
    /// A sentence on the first contradiction found.
    pub fn check(&self) -> Result<(), String> {
        self.model.check()?;
        self.check_legs()?;
        // A node that stops lets its connections go before their sessions.
        if self.stopping.is_none() {
            self.check_sessions()?;
        }
        self.check_permissions()
    }

    /// Every end that the signalling carries has a SIP call, and no SIP call is without its end.
    fn check_legs(&self) -> Result<(), String> {
        if let Some(end) = self.bridge.ends().find(|end| self.model.leg_of_end(*end).is_none()) {
            return Err(format!("the SIP call of {end} is left over"));
        }
        if self.bridge.len() > self.stack.counts().calls {
            return Err(format!("{} ends on {} SIP calls", self.bridge.len(), self.stack.counts().calls));
        }
        for (call, legs) in self.model.calls() {
            let has = |leg: &LegView| self.model.end_of_leg(leg.leg).is_some_and(|end| self.bridge.has(end));
            let silent = |leg: &&LegView| !leg.remote_in_use && !self.is_application(leg) && !has(leg);
            if let Some(leg) = legs.iter().find(silent) {
                return Err(format!("{} of {call} has no SIP call: {:?}", leg.leg, leg.state));
            }
        }
        Ok(())
    }

    fn is_application(&self, leg: &LegView) -> bool {
        let device = self.model.device(&leg.device);
        device.is_some_and(|device| device.kind != device_model::plan::DeviceKind::Phone)
    }

    /// Sessions, providers, connections and openers of devices are the same people.
    fn check_sessions(&self) -> Result<(), String> {
        let applications = &self.applications;
        if applications.providers.len() != applications.sessions.len() {
            return Err(format!(
                "{} providers of {} sessions",
                applications.providers.len(),
                applications.sessions.len()
            ));
        }
        for session in applications.sessions.iter() {
            let id = session.id();
            if !applications.providers.contains_key(&id) {
                return Err(format!("{id} has no provider"));
            }
            if let Some(connection) = session.connection()
                && applications.links.get(&connection).and_then(|link| link.connection.session()) != Some(id)
            {
                return Err(format!("{id} is on {connection:?}, which doesn't know"));
            }
            let (events, bytes) = session.logged();
            if events > session.config().log_events || bytes > session.config().log_bytes {
                return Err(format!("{id} keeps {events} events, {bytes} bytes"));
            }
        }
        for (connection, link) in &applications.links {
            let session = link.connection.session();
            if let Some(id) = session
                && applications.sessions.get(id).and_then(|s| s.connection()) != Some(*connection)
            {
                return Err(format!("{connection:?} is for {id}, which is elsewhere"));
            }
        }
        let without = applications.links.values().filter(|link| link.connection.session().is_none()).count();
        if applications.unopened.len() != without {
            let counted = applications.unopened.len();
            return Err(format!("{without} connections have no provider, {counted} are counted"));
        }
        let orphan = self.model.opening_sessions().find(|id| applications.sessions.get(*id).is_none());
        orphan.map_or(Ok(()), |id| Err(format!("{id} has devices and is no session")))
    }
}
