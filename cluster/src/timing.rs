//! The times that follow from the failure timeout.

use std::time::Duration;

/// All of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// T of the contract.
    pub(crate) timeout: Duration,
}

impl Timing {
    /// Between two heartbeats: so that seven in a row may be lost, and a node may stand still for a third of the timeout,
    /// before anybody doubts it.
    pub(crate) fn interval(self) -> Duration {
        self.timeout / 10
    }

    /// How long a sign of life is good. A killed or frozen node is down by then and the way of its last heartbeat by another
    /// node: within one and a half times the timeout.
    pub(crate) fn silence(self) -> Duration {
        self.timeout * 6 / 5
    }

    /// How long an answer to a heartbeat of ours is good, counted from when that left: longer than a sign of life by its way and
    /// an interval, so that who is gone is down before the link to it is.
    pub(crate) fn answer(self) -> Duration {
        self.timeout * 7 / 5
    }

    /// How long two lives of a name must have been heard beside each other: more than what is still on its way from one that
    /// has just ended.
    pub(crate) fn beside(self) -> Duration {
        self.timeout
    }

    /// How long a life listens before it has settled.
    pub(crate) fn settling(self) -> Duration {
        self.timeout * 2
    }

    /// How long a life that yields goes on, so that all others hear of it.
    pub(crate) fn farewell(self) -> Duration {
        self.interval() * 4
    }

    /// Who was not asked for so long has stood still himself: the others are not to blame for it.
    pub(crate) fn own_pause(self) -> Duration {
        self.interval() + self.timeout / 4
    }
}
