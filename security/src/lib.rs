//! # security: "you may…"
//!
//! Users and groups, the permission decision, password hashes, TLS policy, certificates, rate limits and audit records.
//! It refuses to know of the calls' logic, of sockets and of files. Time and salts are arguments; only the making of
//! keys ([`pki`]) and the handshakes of rustls draw their randomness from ring themselves, because neither library
//! takes it from outside.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod audit;
pub mod decision;
mod decoy;
pub mod devices;
pub mod groups;
pub mod limits;
pub mod password;
pub mod pki;
pub mod policy;
pub mod secret;
pub mod shares;
pub mod srtp;
pub mod tls;
pub mod users;

pub use decision::{Action, Actor, Decision, Refusal, RefusalKind, Rule, Scope, Topic};
pub use groups::{Groups, StandardGroup};
pub use policy::{DeviceFacts, Mode, Policy, Privileges};
pub use secret::Secret;
pub use users::{User, UserId, UserKind};

/// How an application is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// NDJSON or WebSocket over TLS.
    Tls,
    /// Plain TCP.
    Plain,
}
