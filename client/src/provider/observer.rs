//! Observers: typed event streams. Each is bounded; one that is too slow is told how many events it has missed.

use super::error::Error;
use device_model::DeviceName;
use protocol::event::CloseReason;
use protocol::methods::NotResumed;
use protocol::{CtiError, Event};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events that wait for one observer; older ones give way and are counted in [`Observed::Lagged`].
pub const MAX_WAITING_EVENTS: usize = 1_024;

/// The same for the observer of one leg.
pub const MAX_WAITING_LEG_EVENTS: usize = 64;

/// The state of a provider, in JTAPI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderState {
    /// There is no connection, or no CallManager behind it; it may come back.
    OutOfService,
    /// Requests are carried out.
    InService,
    /// The end: closed by the application, or lost for good.
    Shutdown,
}

/// Why a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// The server closed it without a word.
    EndOfFile,
    /// The network failed.
    Network(std::io::ErrorKind),
    /// Nothing was heard for two heartbeat intervals.
    Silence,
    /// The server said why before it closed.
    Closed(CloseReason),
    /// Another connection has taken the session over.
    Superseded,
    /// The server sent what is no message of the protocol.
    Protocol(String),
}

/// Something that happened to the provider.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderEvent {
    /// The CTIManager tells of a device, line, call or stream.
    Told {
        /// Its number in the session.
        seq: u64,
        /// RFC 3339, as the server wrote it.
        time: Arc<str>,
        /// The node that tells it.
        node: Arc<str>,
        /// What.
        event: Arc<Event>,
    },
    /// What no CTIManager told, but the provider concludes: devices are out of service while there is no connection and in
    /// service again (reference §7.4); after a restart, what has become of calls meanwhile.
    Concluded(Arc<Event>),
    /// An event that this version can't read: a later version's, or a broken one.
    Unreadable {
        /// Its number.
        seq: Option<u64>,
        /// What it is, as far as it can be said.
        what: String,
    },
    /// Events are missing between two numbers; `provider.snapshot` tells how things are now.
    Gap {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// The provider's state changed.
    State(ProviderState),
    /// The connection is lost. With reconnection configured, `Resumed` or `Restarted` or the state `Shutdown` follows.
    ConnectionLost(LostReason),
    /// No other connection will be made; the state `Shutdown` follows.
    GaveUp(GaveUp),
    /// The session goes on where it was; missed events follow, repeated requests get their answers.
    Resumed,
    /// A new session began in place of the old one. Its devices are being opened again; what has changed there is told as
    /// [`ProviderEvent::Concluded`].
    Restarted(Option<NotResumed>),
    /// A device could not be opened again after a restart; `device.closed` was told before.
    NotReopened {
        /// Which.
        device: DeviceName,
        /// Why.
        error: Error,
    },
}

/// Why a provider does not try to come back any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// `provider.open` was refused in a way that no repeat changes: the password is another one now, the user may not.
    Refused(CtiError),
    /// [`super::Reconnect::give_up_after`] is over.
    TooLong {
        /// What the last server said, if one was asked.
        last: Option<Arc<str>>,
    },
}

/// What an observer gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed<T> {
    /// The next event.
    Event(T),
    /// The observer was too slow: so many events before the next one are lost to it.
    Lagged(u64),
}

/// A stream of events. It ends when what it observes has ended.
#[derive(Debug)]
pub struct Events<T> {
    receiver: broadcast::Receiver<T>,
}

impl<T: Clone> Events<T> {
    pub(super) fn new(receiver: broadcast::Receiver<T>) -> Self {
        Self { receiver }
    }

    /// The next event; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Observed<T>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Observed::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Observed::Lagged(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
