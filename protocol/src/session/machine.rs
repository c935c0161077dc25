//! The machine of one open provider.

use super::ConnectionId;
use super::answers::{Answer, Answers, Known, Waiter, fingerprint};
use super::keeping::{Changes, Cursor, Memory};
use super::link::{AWAY, Fate, Link};
use super::log::EventLog;
use super::queue::Queue;
use crate::error::{CtiError, Symbol};
use crate::event::{ConnectionEvent, Encoded, Subscription};
use crate::frame::Frame;
use crate::methods::{Empty, Method, take_idem};
use crate::rpc::{self, Id, Request};
use device_model::{RequestToken, SessionId};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// When a request that found too many before it may come again.
const RETRY_AFTER_MS: u64 = 100;

/// Who a session belongs to, and its bounds.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The user that opened it; nobody else may resume it.
    pub user: Arc<str>,
    /// What the application calls itself.
    pub application: Arc<str>,
    /// Which of its instances.
    pub instance: Option<Arc<str>>,
    /// The interval in both directions, as [`super::heartbeat_interval`] decided.
    pub heartbeat: Duration,
    /// How long it is held without a connection, as [`super::grace`] decided; zero: not at all.
    pub grace: Duration,
    /// The events it wants.
    pub subscription: Subscription,
    /// Events kept for a resume.
    pub log_events: usize,
    /// Bytes of them.
    pub log_bytes: usize,
    /// Frames that may wait to be written, a replay not counted.
    pub queue_events: usize,
    /// Idempotency keys with their answers; the contract wants 1,024 at least.
    pub idem_keys: usize,
    /// Requests that may wait for their answer at once; beyond it `RATE_LIMITED`.
    pub pending_requests: usize,
}

/// What became of a request.
#[derive(Debug)]
pub enum Begin {
    /// It is to be carried out, and [`Session::reply`] to be called with the token.
    Execute {
        /// Names the request until its reply.
        token: RequestToken,
        /// What to do.
        method: Box<Method>,
    },
    /// A repeat of an answered `idem`: the first answer is queued again.
    Replayed,
    /// A repeat of an `idem` that is being carried out: answered together with the first.
    Joined,
    /// An error is queued.
    Refused(Symbol),
    /// A heartbeat, done.
    Heartbeat,
    /// A JSON-RPC notification: no answer, no effect.
    Ignored,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The session does not want it; it took no number.
    Filtered,
    /// It has this number and is queued.
    Queued(u64),
    /// It has this number and waits in the log: for a resume, since there is no connection, or until it is released.
    Logged(u64),
    /// It has this number, is in the log, and did not fit the queue: the connection is to be closed (`slow_consumer`).
    Overflow(u64),
}

/// Events that wait to be told.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The first.
    first: u64,
    bytes: usize,
}

/// What a timer of a session says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionTimeout {
    /// `session.heartbeat` is queued.
    Heartbeat,
    /// Two silent intervals: the connection is to be told (`heartbeat_timeout`) and closed; the session is detached.
    Silent {
        /// The connection that was silent.
        connection: ConnectionId,
        /// What becomes of the session.
        fate: Fate,
    },
    /// The grace has run out: the application has failed.
    GraceOver,
}

/// One open provider of one application.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    config: SessionConfig,
    link: Link,
    /// Counts the connections that the session has had: answers go to the one that asked.
    attachment: u64,
    log: EventLog,
    answers: Answers,
    queue: Queue,
    /// Events from this number on are only in the log, until the pages of a snapshot are fetched.
    held: Option<Held>,
    /// A frame did not fit: nothing more is queued, so that the connection sees no gap.
    overflowed: bool,
    /// Up to where it has been written down, if it is to outlive the process.
    cursor: Option<Cursor>,
}

impl Session {
    /// A new session on the connection that opened it. `reply` is the answer to its `provider.open`.
    #[must_use]
    pub fn new(
        id: SessionId,
        config: SessionConfig,
        connection: ConnectionId,
        reply: Frame,
        now: Instant,
    ) -> Self {
        let mut queue = Queue::default();
        queue.push(reply);
        Self {
            id,
            link: Link::attached(connection, now),
            attachment: 1,
            log: EventLog::new(config.log_events, config.log_bytes),
            answers: Answers::new(config.pending_requests, config.idem_keys),
            queue,
            held: None,
            overflowed: false,
            cursor: None,
            config,
        }
    }

    /// Its requests get this token and those after it. Before its first request.
    pub(super) fn count_requests_from(&mut self, token: RequestToken) {
        self.answers.count_from(token);
    }

    /// A session of an earlier process, held until then. What it was asked and had not answered is forgotten: a repeat of
    /// the key is carried out.
    #[must_use]
    pub fn restore(id: SessionId, config: SessionConfig, memory: Memory, until: Instant) -> Self {
        let Memory { first_seq, events, answers } = memory;
        let mut known = Answers::new(config.pending_requests, config.idem_keys);
        for kept in answers {
            known.remember(kept.idem, kept.fingerprint, kept.answer);
        }
        Self {
            id,
            link: Link::Held { until },
            attachment: 0,
            log: EventLog::restore(config.log_events, config.log_bytes, first_seq, events),
            answers: known,
            queue: Queue::default(),
            held: None,
            overflowed: false,
            cursor: None,
            config,
        }
    }

    /// What happens from now on is to outlive the process; [`Session::changes`] tells the whole session first.
    pub fn begin_keeping(&mut self) {
        self.cursor = Some(Cursor::start());
    }

    /// It ends with the process from now on.
    pub fn end_keeping(&mut self) {
        self.cursor = None;
    }

    /// Whether it is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.cursor.is_some()
    }

    /// What changed since this was asked before; nothing when the session isn't kept.
    pub fn changes(&mut self) -> Changes {
        let Some(before) = self.cursor else { return Changes::default() };
        self.cursor = Some(Cursor {
            head: false,
            first_seq: self.log.first_seq(),
            last_seq: self.log.last_seq(),
            first_answer: self.answers.first_answer(),
            last_answer: self.answers.last_answer(),
        });
        self.changes_since(before)
    }

    /// The whole session, as the changes since its beginning.
    #[must_use]
    pub fn whole(&self) -> Changes {
        self.changes_since(Cursor::start())
    }

    fn changes_since(&self, before: Cursor) -> Changes {
        let moved = |then: u64, now: u64| (then != now).then_some(now);
        Changes {
            head: before.head,
            first_seq: moved(before.first_seq, self.log.first_seq()),
            events: self.log.after(before.last_seq).map(|(seq, event)| (seq, event.clone())).collect(),
            first_answer: moved(before.first_answer, self.answers.first_answer()),
            answers: self.answers.after(before.last_answer).collect(),
        }
    }

    /// Until when it waits for its application; `None` while it is connected.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        match self.link {
            Link::Attached { .. } => None,
            Link::Held { until } => Some(until),
        }
    }

    fn head_changed(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            cursor.head = true;
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Who it belongs to, and its bounds.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Its connection; `None` while it is held.
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionId> {
        match self.link {
            Link::Attached { connection, .. } => Some(connection),
            Link::Held { .. } => None,
        }
    }

    /// The number of the newest event; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.log.last_seq()
    }

    /// Frames that wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether anything waits to be written.
    #[must_use]
    pub fn has_frames(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a replay waits to be written. It is read from the log as [`Session::poll_frame`] is called: whoever writes a
    /// long one a little at a time keeps all else that the session says behind it.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.queue.is_replaying()
    }

    /// Events and bytes that are kept for a resume.
    #[must_use]
    pub fn logged(&self) -> (usize, usize) {
        (self.log.len(), self.log.bytes())
    }

    /// Requests that are being carried out.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.answers.pending()
    }

    /// Whether the reader is too slow: the connection is to be closed (`slow_consumer`) and the session detached.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.overflowed
    }

    /// New decisions of a `provider.open` that resumes; a subscription of `None` leaves the old one.
    pub fn renegotiate(&mut self, heartbeat: Duration, grace: Duration, subscription: Option<Subscription>) {
        self.config.heartbeat = heartbeat;
        self.config.grace = grace;
        self.config.subscription = subscription.unwrap_or(self.config.subscription);
        self.head_changed();
    }

    /// Other bounds of log and queue, from now on. The log gives up at once what no longer fits; a queue that is longer
    /// already is written out.
    pub fn set_bounds(&mut self, log_events: usize, log_bytes: usize, queue_events: usize) {
        (self.config.log_events, self.config.log_bytes) = (log_events, log_bytes);
        self.config.queue_events = queue_events;
        self.log.set_bounds(log_events, log_bytes);
    }

    /// Other bounds of kept answers and waiting requests, from now on. Answers that no longer fit are forgotten at once;
    /// requests that wait already are answered.
    pub fn set_request_bounds(&mut self, idem_keys: usize, pending_requests: usize) {
        (self.config.idem_keys, self.config.pending_requests) = (idem_keys, pending_requests);
        self.answers.set_bounds(pending_requests, idem_keys);
    }

    /// Whether a client that has everything up to `last_seq` can go on.
    ///
    /// # Errors
    /// `Ok(false)` when events after it are no longer kept; `INVALID_PARAMS` for a number that never was.
    pub fn can_resume(&self, last_seq: u64) -> Result<bool, CtiError> {
        if last_seq > self.log.last_seq() {
            let message =
                format!("`resume.last_seq` was never sent; the last event is {}", self.log.last_seq());
            return Err(CtiError::invalid_params("resume.last_seq", message));
        }
        Ok(self.log.reaches_back_to(last_seq))
    }

    /// Goes on on another connection, after [`Session::can_resume`]: first the reply, then the replay, then what is new.
    /// Returns the connection that it was taken from, which is to be told (`session.superseded`) and closed.
    pub fn attach(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        last_seq: u64,
        reply: Frame,
    ) -> Option<ConnectionId> {
        let superseded = self.connection();
        self.link = Link::attached(connection, now);
        self.head_changed();
        self.attachment += 1;
        (self.held, self.overflowed) = (None, false);
        self.queue.clear(&mut self.log);
        self.queue.push(reply);
        self.queue.replay(last_seq + 1, &mut self.log);
        superseded
    }

    /// The connection is gone. `None` when the session is not on it (any more).
    pub fn detach(&mut self, now: Instant, connection: ConnectionId) -> Option<Fate> {
        (self.connection() == Some(connection)).then(|| self.let_go(now))
    }

    fn let_go(&mut self, now: Instant) -> Fate {
        let until = now + self.config.grace;
        self.link = Link::Held { until };
        self.head_changed();
        self.queue.clear(&mut self.log);
        (self.held, self.overflowed) = (None, false);
        if self.config.grace.is_zero() { Fate::Failed } else { Fate::HeldUntil(until) }
    }

    /// Something came from the application, whatever it was.
    pub fn received(&mut self, now: Instant) {
        if let Link::Attached { received, excused, .. } = &mut self.link {
            (*received, *excused) = (now, false);
        }
    }

    /// Takes a request. Each gets exactly one answer: queued here, or by [`Session::reply`].
    pub fn begin(&mut self, now: Instant, request: Request) -> Begin {
        self.received(now);
        let Request { id, method, params } = request;
        let Some(id) = id else { return self.notified(&method, params.as_deref()) };
        let fields = match rpc::object(params.as_deref()) {
            Ok(fields) => fields,
            Err(error) => return self.refused(&id, error),
        };
        if Method::changes(&method) == Some(true) {
            self.begin_change(id, &method, fields)
        } else {
            self.begin_plain(id, &method, fields, None)
        }
    }

    fn begin_change(&mut self, id: Id, method: &str, mut fields: Map<String, Value>) -> Begin {
        let idem = match take_idem(&mut fields) {
            Ok(Some(idem)) => idem,
            Ok(None) => return self.begin_plain(id, method, fields, None),
            Err(error) => return self.refused(&id, error),
        };
        let fingerprint = fingerprint(method, &fields);
        let waiter = Waiter { id: id.clone(), attachment: self.attachment };
        match self.answers.look_up(&idem, fingerprint, waiter) {
            Known::New => self.begin_plain(id, method, fields, Some((idem, fingerprint))),
            Known::Done(answer) => {
                self.answer(&id, &answer);
                Begin::Replayed
            }
            Known::Joined => Begin::Joined,
            Known::Full => self.refused(&id, CtiError::rate_limited(RETRY_AFTER_MS)),
            Known::Conflict => {
                let message = "`idem` stood for another request before; use a new key";
                self.refused(&id, CtiError::invalid_params("idem", message))
            }
        }
    }

    fn begin_plain(
        &mut self,
        id: Id,
        method: &str,
        fields: Map<String, Value>,
        key: Option<(Arc<str>, u128)>,
    ) -> Begin {
        if self.answers.is_full() {
            return self.refused(&id, CtiError::rate_limited(RETRY_AFTER_MS));
        }
        let method = match Method::from_fields(method, fields) {
            Ok(method) => method,
            Err(error) => {
                if let Some((idem, fingerprint)) = key {
                    self.answers.remember(idem, fingerprint, Arc::new(Err(error.clone())));
                }
                return self.refused(&id, error);
            }
        };
        if let Method::ProviderHeartbeat(heartbeat) = &method {
            self.trim(heartbeat.last_seq);
            self.answer(&id, &Ok(rpc::raw(&Empty {})));
            return Begin::Heartbeat;
        }
        let token = self.answers.start(Waiter { id, attachment: self.attachment }, key);
        Begin::Execute { token, method: Box::new(method) }
    }

    /// JSON-RPC forbids an answer to a notification; only a heartbeat makes sense without one.
    fn notified(&mut self, method: &str, params: Option<&RawValue>) -> Begin {
        match (method, Method::parse(method, params)) {
            ("provider.heartbeat", Ok(Method::ProviderHeartbeat(heartbeat))) => {
                self.trim(heartbeat.last_seq);
                Begin::Heartbeat
            }
            (_, Ok(_) | Err(_)) => Begin::Ignored,
        }
    }

    fn trim(&mut self, last_seq: Option<u64>) {
        if let Some(seq) = last_seq {
            self.log.trim(seq.min(self.log.last_seq()));
        }
    }

    /// The one answer to a request that [`Session::begin`] said to execute. `false` when it had its answer before.
    /// A reply to a request of an earlier connection is kept for a repeat of its `idem` and goes nowhere else.
    pub fn reply(&mut self, token: RequestToken, answer: Answer) -> bool {
        let answer = Arc::new(answer);
        let Some(waiters) = self.answers.finish(token, &answer) else { return false };
        for waiter in waiters {
            if waiter.attachment == self.attachment {
                self.answer(&waiter.id, &answer);
            }
        }
        true
    }

    /// Refuses a request before it is begun (a rate limit of the node's). Nothing is kept of it.
    pub fn refuse(&mut self, now: Instant, id: &Id, error: CtiError) {
        self.received(now);
        self.refused(id, error);
    }

    fn refused(&mut self, id: &Id, error: CtiError) -> Begin {
        let symbol = error.symbol;
        self.answer(id, &Err(error));
        Begin::Refused(symbol)
    }

    /// Queues a frame that is about the connection: the answer to a line that is no request.
    pub fn push(&mut self, now: Instant, frame: Frame) {
        self.received(now);
        self.enqueue(frame);
    }

    /// Tells an event. The caller has decided that the session may see it.
    pub fn event(&mut self, event: &Encoded) -> Delivery {
        if !self.config.subscription.wants(event.event_type()) {
            return Delivery::Filtered;
        }
        if self.held.is_some_and(|held| self.holds_enough(held)) {
            self.release();
        }
        if let Some(held) = &mut self.held {
            held.bytes += event.len();
        }
        let seq = self.log.push(event.clone());
        match self.link {
            Link::Attached { .. } if self.held.is_some() => Delivery::Logged(seq),
            Link::Held { .. } => Delivery::Logged(seq),
            Link::Attached { .. } => {
                if self.enqueue(event.frame(seq)) {
                    Delivery::Queued(seq)
                } else {
                    Delivery::Overflow(seq)
                }
            }
        }
    }

    /// Events wait in the log from now on, until [`Session::release`] or until half of what log or queue may hold waits.
    /// Answers do not wait.
    pub fn hold(&mut self) {
        if self.connection().is_some() && self.held.is_none() {
            self.held = Some(Held { first: self.log.last_seq() + 1, bytes: 0 });
        }
    }

    /// Whether events wait.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Queues the events that wait. They are not the reader's fault, and count as a replay does.
    pub fn release(&mut self) {
        let Some(Held { first, bytes: _ }) = self.held.take() else { return };
        if self.overflowed || self.log.last_seq() < first {
            return;
        }
        self.queue.replay(first, &mut self.log);
    }

    /// Half of the log is left for its own purpose.
    fn holds_enough(&self, held: Held) -> bool {
        let waiting = self.log.last_seq() + 1 - held.first;
        let most = self.config.queue_events.min(self.config.log_events) / 2;
        waiting >= most as u64 || held.bytes >= self.config.log_bytes / 4
    }

    /// The next frame for the connection, in order.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Frame> {
        let frame = self.queue.pop(&mut self.log)?;
        if let Link::Attached { sent, .. } = &mut self.link {
            *sent = now;
        }
        Some(frame)
    }

    /// When [`Session::timeout`] has something to say.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        self.link.next_timeout(self.config.heartbeat)
    }

    /// A time that [`Session::next_timeout`] named has come. `wall` is written into a heartbeat.
    pub fn timeout(&mut self, now: Instant, wall: SystemTime) -> Option<SessionTimeout> {
        match &mut self.link {
            Link::Held { until } => (now >= *until).then_some(SessionTimeout::GraceOver),
            Link::Attached { connection, received, sent, excused } => {
                let patience = *received + 2 * self.config.heartbeat;
                if now >= patience + AWAY && !*excused {
                    // One interval more, once: by then what lies unread has been read.
                    *excused = true;
                    *received = now - self.config.heartbeat;
                } else if now >= patience {
                    let connection = *connection;
                    return Some(SessionTimeout::Silent { connection, fate: self.let_go(now) });
                }
                if now < *sent + self.config.heartbeat {
                    return None;
                }
                *sent = now;
                self.enqueue(ConnectionEvent::Heartbeat.frame(wall));
                Some(SessionTimeout::Heartbeat)
            }
        }
    }

    fn answer(&mut self, id: &Id, answer: &Answer) {
        let frame = match answer {
            Ok(result) => rpc::result_frame(id, result),
            Err(error) => rpc::error_frame(Some(id), error),
        };
        self.enqueue(frame);
    }

    /// Whether the frame has its place in the queue. Once one had none, the connection gets nothing more.
    fn enqueue(&mut self, frame: Frame) -> bool {
        if self.connection().is_none() {
            return false;
        }
        self.overflowed |= self.queue.counted() >= self.config.queue_events;
        if !self.overflowed {
            self.queue.push(frame);
        }
        !self.overflowed
    }
}
