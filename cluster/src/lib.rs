//! A node of the cluster is up, is cut off, or is down: what each node knows of the others, and by whose word.
//!
//! This room knows neither sockets nor certificates, neither devices nor calls. [`Membership`] takes the time, what a link
//! brought and what became of links, and says what to send and whose state is another now. The same inputs give the same
//! outputs, so that a whole cluster runs in one thread under virtual time.
//!
//! # How a node is known to be up
//!
//! Each node counts its heartbeats and sends one on each link every tenth of the failure timeout. A heartbeat says of every
//! other node which count its sender knows of it (*by word*), and which it has heard from it directly. So everybody knows
//! two things of each node:
//!
//! - whether the *link* to it is up: it has said in time that it heard one of our newest heartbeats. That takes both
//!   directions, so that a cut of one of them is a cut.
//! - whether somebody else hears it: its count goes on growing in what a node says to which the link is up.
//!
//! A node to which the link is down is *unreachable* while its count grows by word, else *down*. Counts only grow and nobody
//! makes another's, so that no clocks are compared and no rumour lives longer than what it tells of.
//!
//! # Two of one name
//!
//! A process is known by its [`Life`]. One that has listened to the others for a while without hearing of another life of its
//! name has *settled*. One that has not settled yields to one that has; of two that have not, who started later yields; of
//! two that have, who started earlier: the later one could settle only because the earlier one was gone.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod framing;
mod lives;
mod membership;
pub mod message;
mod port;
mod timing;

pub use framing::Frames;
pub use membership::Membership;
pub use message::{Heartbeat, Life, Mode};
pub use port::{Input, LinkId, LinkState, NodeState, Output, Own, View};
