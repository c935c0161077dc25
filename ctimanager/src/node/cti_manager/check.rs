//! What must hold between sessions, connections and openers of devices after every step (P6): for tests and simulations.

use super::CtiManager;
use device_model::CallControl;
use device_model::standing::{SessionStanding, Standing};

impl CtiManager {
    /// Holds what records told of sessions against what is: for tests and simulations.
    pub(in crate::node) fn check_records(&self, told: &Standing) -> Result<(), String> {
        let told = told.sessions();
        for session in self.applications.sessions.iter() {
            let is = match session.connection() {
                Some(_) => SessionStanding::Attached,
                None => SessionStanding::Waiting,
            };
            let id = session.id();
            if told.get(&id) != Some(&is) {
                return Err(format!("{id} is {is:?}, and was told as {:?}", told.get(&id)));
            }
        }
        let count = self.applications.sessions.len();
        if count == told.len() { Ok(()) } else { Err("a session ended without a record".into()) }
    }

    /// What the mirror shows is what is.
    pub(in crate::node) fn check_mirror(&self, devices: &CallControl) -> Result<(), String> {
        let under_way = !self.hearing.is_empty()
            || self.hearing.missing.may_be()
            || devices.is_departing()
            || devices.unsettled().is_some();
        if under_way { Ok(()) } else { self.mirror.check(devices) }
    }

    /// Sessions, providers, connections and openers of devices are the same people.
    pub(in crate::node) fn check_sessions(&self, devices: &CallControl) -> Result<(), String> {
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
                && !self.dismissals.is_on(id, *connection)
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
        let orphan = devices.opening_sessions().find(|id| applications.sessions.get(*id).is_none());
        orphan.map_or(Ok(()), |id| Err(format!("{id} has devices and is no session")))
    }
}
