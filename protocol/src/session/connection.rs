//! One connection from its accept to its close: nothing passes before `provider.open` has succeeded.

use crate::error::{CtiError, Symbol};
use crate::event::{CloseReason, ConnectionEvent};
use crate::frame::Frame;
use crate::methods::{Method, ProviderOpen};
use crate::rpc::{self, BadRequest, Id, Request};
use device_model::SessionId;
use serde_json::value::RawValue;
use std::time::{Duration, Instant, SystemTime};
use zeroize::Zeroize;

const OPEN: &str = "provider.open";

/// A connection without its socket.
#[derive(Debug)]
pub struct Connection {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing yet, or attempts that failed.
    Unopened { deadline: Instant },
    /// A `provider.open` is being decided: the password is checked elsewhere.
    Opening { deadline: Instant, id: Id },
    /// A session is on it.
    Open { session: SessionId },
    /// It is being closed: nothing is read any more.
    Closed,
}

/// What a message on a connection asks for.
#[derive(Debug)]
pub enum Step {
    /// Nothing: a notification before the open, or anything after the close.
    Ignored,
    /// Write this; there is no session.
    Answer(Frame),
    /// Decide this; [`Connection::opened`] or [`Connection::refused`] follows.
    Open(Box<ProviderOpen>),
    /// A request of the session: [`super::Session::begin`].
    Request(SessionId, Request),
    /// An answer that goes through the session's queue: [`super::Session::push`].
    SessionAnswer(SessionId, Frame),
}

impl Connection {
    /// How long a connection may live without a provider (contract §1).
    pub const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

    /// A connection that was accepted now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { state: State::Unopened { deadline: now + Self::OPEN_TIMEOUT } }
    }

    /// The session that is on it.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.state {
            State::Open { session } => Some(session),
            State::Unopened { .. } | State::Opening { .. } | State::Closed => None,
        }
    }

    #[cfg(test)]
    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Unopened { .. } => "unopened",
            State::Opening { .. } => "opening",
            State::Open { .. } => "open",
            State::Closed => "closed",
        }
    }

    /// A frame came.
    pub fn frame(&mut self, bytes: &[u8]) -> Step {
        if matches!(self.state, State::Closed) {
            return Step::Ignored;
        }
        match rpc::parse_request(bytes) {
            Ok(request) => self.request(request),
            Err(bad) => self.bad_request(&bad),
        }
    }

    fn bad_request(&self, bad: &BadRequest) -> Step {
        match self.state {
            State::Unopened { .. } | State::Opening { .. } => Step::Answer(bad.frame()),
            State::Open { session } => Step::SessionAnswer(session, bad.frame()),
            State::Closed => Step::Ignored,
        }
    }

    fn request(&mut self, request: Request) -> Step {
        let is_open = request.method == OPEN;
        match (&self.state, &request.id) {
            (State::Open { session }, Some(id)) if is_open => {
                Step::SessionAnswer(*session, rpc::error_frame(Some(id), &already_open()))
            }
            (State::Open { session }, _) => Step::Request(*session, request),
            (State::Unopened { .. } | State::Opening { .. }, None) | (State::Closed, _) => Step::Ignored,
            (State::Opening { .. }, Some(id)) if is_open => {
                Step::Answer(rpc::error_frame(Some(id), &already_open()))
            }
            (State::Unopened { deadline }, Some(id)) if is_open => {
                self.open(*deadline, id.clone(), request.params)
            }
            (State::Unopened { .. } | State::Opening { .. }, Some(id)) => {
                let error = CtiError::new(Symbol::NotOpen, "open a provider first: `provider.open`");
                Step::Answer(rpc::error_frame(Some(id), &error))
            }
        }
    }

    fn open(&mut self, deadline: Instant, id: Id, params: Option<Box<RawValue>>) -> Step {
        let method = Method::parse(OPEN, params.as_deref());
        if let Some(raw) = params {
            // It holds the password.
            String::from(Box::<str>::from(raw)).zeroize();
        }
        match method {
            Ok(Method::ProviderOpen(open)) => {
                self.state = State::Opening { deadline, id };
                Step::Open(Box::new(open))
            }
            Ok(other) => unreachable!("{OPEN} was read as {}", other.name()),
            Err(error) => Step::Answer(rpc::error_frame(Some(&id), &error)),
        }
    }

    /// The open succeeded: the id that its reply must carry. `None` when nothing was being opened (any more).
    pub fn opened(&mut self, session: SessionId) -> Option<Id> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Opening { id, .. } => {
                self.state = State::Open { session };
                Some(id)
            }
            other @ (State::Unopened { .. } | State::Open { .. } | State::Closed) => {
                self.state = other;
                None
            }
        }
    }

    /// The open failed: the answer to write. The client may try again until the connection's time is over.
    pub fn refused(&mut self, error: &CtiError) -> Option<Frame> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Opening { id, deadline } => {
                self.state = State::Unopened { deadline };
                Some(rpc::error_frame(Some(&id), error))
            }
            other @ (State::Unopened { .. } | State::Open { .. } | State::Closed) => {
                self.state = other;
                None
            }
        }
    }

    /// The connection is about to be closed for this reason: what to write first. `None` when it is closed already.
    pub fn close(&mut self, reason: CloseReason, wall: SystemTime) -> Option<Frame> {
        self.end(ConnectionEvent::Closed(reason), wall)
    }

    /// Another connection has taken the session: what to write before the close.
    pub fn supersede(&mut self, wall: SystemTime) -> Option<Frame> {
        self.end(ConnectionEvent::Superseded, wall)
    }

    fn end(&mut self, event: ConnectionEvent, wall: SystemTime) -> Option<Frame> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Unopened { .. } | State::Opening { .. } | State::Open { .. } => Some(event.frame(wall)),
            State::Closed => None,
        }
    }

    /// When the connection's time without a provider is over.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Unopened { deadline } | State::Opening { deadline, .. } => Some(deadline),
            State::Open { .. } | State::Closed => None,
        }
    }

    /// A time that [`Connection::next_timeout`] named has come: what to write before the close.
    pub fn timeout(&mut self, now: Instant, wall: SystemTime) -> Option<Frame> {
        let over = self.next_timeout().is_some_and(|deadline| now >= deadline);
        if over { self.close(CloseReason::OpenTimeout, wall) } else { None }
    }
}

fn already_open() -> CtiError {
    CtiError::new(
        Symbol::AlreadyOpen,
        "this connection has a provider; open another connection for another one",
    )
}
