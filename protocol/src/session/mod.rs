//! What happens on one connection and in one session (contract §1, §2).
//!
//! A [`Connection`] lives from accept to close: it lets nothing pass before `provider.open` has succeeded. A [`Session`]
//! is one open provider: it outlives its connection by its grace, numbers and keeps its events, and gives each request
//! exactly one answer. [`Sessions`] holds them all, with their timers in one table, and remembers the ended ones.

mod answers;
mod connection;
mod keeping;
mod link;
mod log;
mod machine;
mod queue;
mod registry;

pub use answers::KeptAnswer;
pub use connection::{Connection, Step};
pub use keeping::{Changes, Memory};
pub use link::{Fate, grace, heartbeat_interval};
pub use machine::{Begin, Delivery, Session, SessionConfig, SessionTimeout};
pub use registry::{MAX_ENDED, REMEMBER_ENDED, Resume, SessionMut, Sessions};

use std::fmt;

/// One connection of the node's life; numbered by whoever owns the sockets, none twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0)
    }
}

#[cfg(test)]
mod tests;
