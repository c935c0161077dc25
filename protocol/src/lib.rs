//! # protocol: "on the CTI wire…"
//!
//! Frames, methods, events, errors and the session machine of the CTI protocol, version 1. Everything here is a value
//! or a machine that is told what happened and when: it refuses to know of sockets, of SIP, of clocks and of who may do
//! what. `docs/cti-protocol.md` says where each part of the contract is realised and what was decided where it is open.
//!
//! From the wire inwards: [`frame`] cuts lines, [`rpc`] reads and writes JSON-RPC, [`methods`] turns a method and its
//! params into a typed [`Method`], [`session`] numbers events and gives each request its one answer. From the model
//! outwards: [`event`] makes wire events of [`device_model::port::Event`], [`wire`] the objects that they carry.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod error;
pub mod event;
pub mod frame;
pub mod methods;
pub mod openrpc;
pub mod planned;
pub mod reserved;
pub mod rpc;
pub mod secret;
pub mod session;
pub mod wire;

mod glob;
mod param;

pub use error::{CtiError, Symbol};
pub use event::{ConnectionEvent, Encoded, Event, EventType, Subscription};
pub use frame::{Frame, MAX_LINE_BYTES};
pub use methods::{Call, Method};
pub use rpc::{Id, Incoming, Request};
pub use secret::Secret;
pub use session::{Connection, ConnectionId, Session, SessionConfig, Sessions};
