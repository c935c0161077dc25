//! All sessions of a node, their timers in one table, and the memory of the ended ones.

use super::ConnectionId;
use super::machine::{Session, SessionConfig, SessionTimeout};
use crate::error::CtiError;
use crate::frame::Frame;
use crate::methods::NotResumed;
use device_model::{RequestToken, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long an ended session is known as `expired` (contract §2).
pub const REMEMBER_ENDED: Duration = Duration::from_secs(600);

/// How many ended sessions are known at once; beyond it the oldest count as unknown.
pub const MAX_ENDED: usize = 10_000;

/// The sessions of a node.
#[derive(Debug, Default)]
pub struct Sessions {
    live: BTreeMap<SessionId, Entry>,
    /// For each session a time that is not after its own next one: it is looked at then, and armed anew.
    timers: BTreeSet<(Instant, SessionId)>,
    by_user: BTreeMap<Arc<str>, BTreeSet<SessionId>>,
    ended: BTreeMap<SessionId, Arc<str>>,
    /// With the time at which each is forgotten.
    ended_order: VecDeque<(Instant, SessionId)>,
    /// The token of each session's first request.
    first_token: Option<RequestToken>,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    armed: Instant,
}

/// Whether a session can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Yes: [`Sessions::get_mut`] and [`Session::attach`].
    Yes(SessionId),
    /// No: a new session starts. After `log_overrun` the old one is to be ended as a failed one.
    No(NotResumed),
    /// The request is refused; the old session stays as it is.
    Refused(CtiError),
}

impl Sessions {
    /// No sessions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No sessions. Those to come give their requests this token and the ones after it: another node's, or another life's, are
    /// others ([`device_model::Identity::first_token`]).
    #[must_use]
    pub fn numbered_from(first_token: RequestToken) -> Self {
        Self { first_token: Some(first_token), ..Self::default() }
    }

    /// How many there are, those in their grace among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Starts a session on the connection that opened it; `reply` is the answer to its `provider.open`.
    pub fn open(
        &mut self,
        now: Instant,
        id: SessionId,
        config: SessionConfig,
        connection: ConnectionId,
        reply: Frame,
    ) {
        self.restore(Session::new(id, config, connection, reply, now));
    }

    /// Takes in a session that was made elsewhere: of an earlier process ([`Session::restore`]).
    pub fn restore(&mut self, mut session: Session) {
        if let Some(token) = self.first_token {
            session.count_requests_from(token);
        }
        let (id, armed) = (session.id(), session.next_timeout());
        self.timers.insert((armed, id));
        self.by_user.entry(session.config().user.clone()).or_default().insert(id);
        let replaced = self.live.insert(id, Entry { session, armed });
        assert!(replaced.is_none(), "session ids are used once");
    }

    /// A session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.live.get(&id).map(|entry| &entry.session)
    }

    /// A session, to be told something; its timer is armed anew afterwards.
    pub fn get_mut(&mut self, id: SessionId) -> Option<SessionMut<'_>> {
        let entry = self.live.get_mut(&id)?;
        Some(SessionMut { entry, timers: &mut self.timers })
    }

    /// All sessions, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.live.values().map(|entry| &entry.session)
    }

    /// The sessions of a user.
    pub fn of_user(&self, user: &str) -> impl Iterator<Item = SessionId> {
        self.by_user.get(user).into_iter().flatten().copied()
    }

    /// How many sessions a user has.
    #[must_use]
    pub fn count_of_user(&self, user: &str) -> usize {
        self.by_user.get(user).map_or(0, BTreeSet::len)
    }

    /// Whether `user` can go on with a session of which he has everything up to `last_seq`. `None` as the session is
    /// something that is no id of ours.
    pub fn resume(&mut self, now: Instant, id: Option<SessionId>, user: &str, last_seq: u64) -> Resume {
        self.forget_ended(now);
        let unknown = Resume::No(NotResumed::UnknownSession);
        let Some(id) = id else { return unknown };
        match (self.live.get(&id), self.ended.get(&id)) {
            (Some(entry), _) if &*entry.session.config().user == user => {
                match entry.session.can_resume(last_seq) {
                    Ok(true) => Resume::Yes(id),
                    Ok(false) => Resume::No(NotResumed::LogOverrun),
                    Err(error) => Resume::Refused(error),
                }
            }
            (None, Some(owner)) if &**owner == user => Resume::No(NotResumed::Expired),
            (Some(_) | None, _) => unknown,
        }
    }

    /// Ends a session, closed or failed: it is remembered as `expired` for a while.
    pub fn end(&mut self, now: Instant, id: SessionId) -> Option<Session> {
        let Entry { session, armed } = self.live.remove(&id)?;
        self.timers.remove(&(armed, id));
        let user = session.config().user.clone();
        if let Some(sessions) = self.by_user.get_mut(&user) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.by_user.remove(&user);
            }
        }
        self.remember_ended(now, id, user, REMEMBER_ENDED);
        Some(session)
    }

    /// Knows a session as `expired` for so long. Whoever tells of earlier ones tells them in the order of their ends.
    pub fn remember_ended(&mut self, now: Instant, id: SessionId, user: Arc<str>, lasts: Duration) {
        self.ended.insert(id, user);
        self.ended_order.push_back((now + lasts, id));
        self.forget_ended(now);
    }

    /// The ended sessions that are known, each with its user and how long still.
    pub fn ended(&self, now: Instant) -> impl Iterator<Item = (SessionId, &Arc<str>, Duration)> {
        self.ended_order.iter().filter_map(move |(until, id)| {
            let left = until.saturating_duration_since(now);
            self.ended.get(id).filter(|_| !left.is_zero()).map(|user| (*id, user, left))
        })
    }

    /// When [`Sessions::timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next session whose time has come, until there is none. A failed one is to be ended by the caller.
    pub fn timeout(&mut self, now: Instant, wall: SystemTime) -> Option<(SessionId, SessionTimeout)> {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let entry = self.live.get_mut(&id).expect("a timer's session lives: `end` removes both");
            let said = entry.session.timeout(now, wall);
            entry.armed = match said {
                // Its end is the caller's; until then it must not come up again in this very moment.
                Some(SessionTimeout::GraceOver) => now + Duration::from_secs(1),
                Some(SessionTimeout::Heartbeat | SessionTimeout::Silent { .. }) | None => {
                    entry.session.next_timeout()
                }
            };
            self.timers.insert((entry.armed, id));
            if let Some(said) = said {
                return Some((id, said));
            }
        }
        None
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some((at, id)) = self.ended_order.front().copied() {
            if at > now && self.ended_order.len() <= MAX_ENDED {
                break;
            }
            self.ended_order.pop_front();
            self.ended.remove(&id);
        }
    }
}

/// A session that is being told something. When this is dropped, an earlier time of the session is put into the table;
/// a later one is found when the armed time comes, so that traffic does not touch the table.
#[derive(Debug)]
pub struct SessionMut<'a> {
    entry: &'a mut Entry,
    timers: &'a mut BTreeSet<(Instant, SessionId)>,
}

impl Deref for SessionMut<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.entry.session
    }
}

impl DerefMut for SessionMut<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.entry.session
    }
}

impl Drop for SessionMut<'_> {
    fn drop(&mut self) {
        let next = self.entry.session.next_timeout();
        if next < self.entry.armed {
            let id = self.entry.session.id();
            self.timers.remove(&(self.entry.armed, id));
            self.timers.insert((next, id));
            self.entry.armed = next;
        }
    }
}
