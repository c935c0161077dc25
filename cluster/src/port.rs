//! The door: what [`crate::Membership`] is told, what it says, and how the nodes look from here.

use crate::message::{Heartbeat, Life, Mode};
use device_model::NodeName;
use std::sync::Arc;
use std::time::SystemTime;

/// A link to a peer that has proved which node it is; whoever makes links numbers them and uses no number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub node: NodeName,
    /// This process of it.
    pub life: Life,
    /// Of its configuration.
    pub revision: Arc<str>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A link is there.
    Opened {
        /// Which.
        link: LinkId,
        /// To whom, as its certificate says.
        node: NodeName,
    },
    /// A link is gone.
    Closed(LinkId),
    /// A link brought this.
    Received(LinkId, Box<Heartbeat>),
    /// A time that `next_timeout` named has come.
    Timeout,
}

/// What to do, and what is another now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this on each of these links. One that takes nothing now may leave it out: the next one says all again.
    Send(Vec<LinkId>, Arc<Heartbeat>),
    /// Close a link whose peer says that it is another.
    Close(LinkId),
    /// The state of this node is another, or its link, or it is another life; or nobody has heard of it for a while.
    Changed(NodeName),
    /// Two lives of this name are up.
    DuplicateBegan(NodeName),
    /// There is one at the most again.
    DuplicateEnded(NodeName),
    /// Another life of this node's name is up, and this one is to end.
    Yield(Life),
}

/// How a node is, as the contract says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// Nobody has heard of it since this node has started.
    Unknown,
    /// It is up.
    Running,
    /// It is up and takes nothing new.
    Draining,
    /// It is up and ends what it has.
    Stopping,
    /// It is up by another's word.
    Unreachable,
    /// Nobody hears it.
    Down,
}

impl NodeState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Running, Self::Draining, Self::Stopping, Self::Unreachable, Self::Down];

    /// Of a node that is up.
    #[must_use]
    pub fn of(mode: Mode) -> Self {
        match mode {
            Mode::Running | Mode::Other => Self::Running,
            Mode::Draining => Self::Draining,
            Mode::Stopping => Self::Stopping,
        }
    }

    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Unreachable => "unreachable",
            Self::Down => "down",
        }
    }
}

/// Whether we hear a node and it hears us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    /// Both.
    Up,
    /// At least one doesn't hear the other.
    Down,
}

impl LinkState {
    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// How another node looks from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// Which.
    pub node: &'a NodeName,
    /// How it is.
    pub state: NodeState,
    /// Since when.
    pub since: SystemTime,
    /// The link to it.
    pub link: LinkState,
    /// The life that is meant; nothing of one that nobody has heard of.
    pub life: Option<Life>,
    /// Of that life's configuration.
    pub revision: Option<&'a Arc<str>>,
}
