//! Sessions that a new configuration does not let stay: their user is gone or may use CTI no longer, or their certificate is
//! taken back. They have ended in the step that put it in force: nothing is granted to them, they hear nothing of what came
//! after, and what they had open is being let go. That they have ended is told a few in each step, and then their connections are
//! closed. Whoever sends something before his turn has it at once.

use super::CtiManager;
use super::applications::OUTPUTS_AT_ONCE;
use super::reload::consequences::Parameters;
use super::reload::dismissal;
use super::session_records::{reason, trigger};
use crate::node::port::{CtiConnection, Output};
use crate::node::{Settings, Step, alarms};
use device_model::SessionId;
use protocol::event::CloseReason;
use protocol::session::Session;
use security::Actor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sessions that are told of their end, and connections closed, in one step.
pub(in crate::node) const GOODBYES_AT_ONCE: usize = 32;

/// A session that has ended, with what it was told before and has not read.
struct Dismissal {
    session: Session,
    reason: CloseReason,
    who: Parameters,
}

/// Those that are not told yet.
#[derive(Default)]
pub(in crate::node) struct Dismissals(BTreeMap<SessionId, Dismissal>);

impl Dismissals {
    pub(in crate::node) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a connection's session is one of them.
    pub(in crate::node) fn has(&self, session: Option<SessionId>) -> bool {
        session.is_some_and(|id| self.0.contains_key(&id))
    }

    /// Whether this connection waits to be closed for one of them.
    pub(in crate::node) fn is_on(&self, id: SessionId, connection: CtiConnection) -> bool {
        self.0.get(&id).is_some_and(|dismissal| dismissal.session.connection() == Some(connection))
    }
}

impl CtiManager {
    /// Ends the sessions that may not stay (protocol §2). What they had open is for the caller to have let go.
    pub(in crate::node) fn dismiss_all(&mut self, step: &mut Step<'_>, after: &Settings) -> Vec<SessionId> {
        let providers = self.applications.providers.iter();
        let mut gone: Vec<_> = providers
            .filter_map(|(id, provider)| {
                let actor = Actor { user: &provider.user, transport: provider.transport };
                let revoked =
                    || provider.credential.is_revoked(after).then_some(CloseReason::CertificateRevoked);
                Some((*id, dismissal(&after.policy, actor).or_else(revoked)?))
            })
            .collect();
        gone.sort_unstable();
        let (mut dismissed, mut users) = (Vec::with_capacity(gone.len()), BTreeSet::new());
        for (id, why) in gone {
            let Some((session, who)) = self.take_session(step, id, trigger(why)) else { continue };
            self.await_departure(step, id, &because(&who, why));
            users.insert(Arc::clone(&session.config().user));
            self.dismissals.0.insert(id, Dismissal { session, reason: why, who });
            dismissed.push(id);
        }
        users.iter().for_each(|user| self.weigh_user(step, user));
        dismissed
    }

    /// Tells some of them, and closes their connections.
    pub(in crate::node) fn say_goodbyes(&mut self, step: &mut Step<'_>) {
        let begin = step.said_so_far();
        for _ in 0..GOODBYES_AT_ONCE {
            let room = OUTPUTS_AT_ONCE.saturating_sub(step.said_so_far() - begin);
            let Some((id, _)) = self.dismissals.0.first_key_value().filter(|_| room > 0) else { break };
            self.say_goodbye(step, *id, room);
        }
    }

    /// The turn of this one, if it is one of them. Whether it is.
    pub(in crate::node) fn close_dismissed(&mut self, step: &mut Step<'_>, id: SessionId) -> bool {
        let is_dismissed = self.dismissals.has(Some(id));
        self.say_goodbye(step, id, usize::MAX);
        is_dismissed
    }

    /// Writes what the session was told before its end, and the last word if that are not too many frames for now.
    fn say_goodbye(&mut self, step: &mut Step<'_>, id: SessionId, frames: usize) {
        let Some(dismissal) = self.dismissals.0.get_mut(&id) else { return };
        let connection = dismissal.session.connection();
        let connection = connection.filter(|connection| self.applications.links.contains_key(connection));
        if let Some(connection) = connection {
            let mut rest = std::iter::from_fn(|| dismissal.session.poll_frame(step.now));
            let written = rest.by_ref().take(frames).map(|frame| Output::Cti(connection, frame));
            let before = step.out.len();
            step.out.extend(written);
            if step.out.len() - before == frames {
                return;
            }
        }
        let Some(Dismissal { session: _, reason: why, who }) = self.dismissals.0.remove(&id) else { return };
        if let Some(connection) = connection {
            self.close_connection(step, connection, why);
        }
        self.forget_certificate(step, id);
        self.forget_password(step, id);
        let closed = because(&who, why);
        if why == CloseReason::CertificateRevoked {
            let report = step.alarms.occur(&alarms::PROVIDER_CERTIFICATE_REVOKED, who);
            step.out.push(Output::Report(report));
        }
        let report = step.alarms.occur(&alarms::PROVIDER_CLOSED, closed);
        step.out.push(Output::Report(report));
    }
}

/// Whose session has ended, and why.
fn because(who: &Parameters, why: CloseReason) -> Parameters {
    let mut parameters = who.clone();
    parameters.push(("reason", reason(trigger(why)).to_owned()));
    parameters
}
