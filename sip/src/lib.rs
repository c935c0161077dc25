//! # sip: "on the SIP wire…"
//!
//! Messages, transactions, dialogs, the registrar, digest and session descriptions as one sans-IO machine: bytes and
//! commands in, bytes and events out, time and randomness as arguments. It refuses to know of devices, users, CTI,
//! sockets and clocks; who may register and what a number means it asks its [`Directory`].
//!
//! Header names, compact forms and status phrases are `rsipstack::sip`'s, behind a screen of our own that reads lines,
//! URIs and values; transactions (RFC 3261 §17) and dialogs are ours.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod dialog;
pub mod digest;
pub mod frame;
mod invite;
pub mod message;
mod own;
pub mod port;
pub mod registrar;
pub mod sdp;
pub mod stack;
mod subscribe;
pub mod transaction;

pub use port::{
    Account, Attempt, Command, Config, Directory, Event, Hop, Input, InviteHandle, Login, Outcome, Output,
    Refused, Transport,
};
pub use stack::{Counts, Stack};
