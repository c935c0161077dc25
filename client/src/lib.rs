//! # client: "an application author writes…"
//!
//! The Rust SDK of the CTI protocol, in JTAPI's words ([`provider`]), with the media helpers ([`media`]) that make an IVR
//! ([`ivr`]) short. It knows the wire and nothing of the server's code.

pub mod attendant;
pub mod ivr;
pub mod media;
pub mod provider;

pub use device_model::media::{Codec, MediaTermination};
pub use ivr::IvrCall;
pub use media::RtpEndpoint;
pub use protocol::{CtiError, Event, Secret, Symbol, wire};
pub use provider::{
    Address, Call, Connection, Error, MakeCall, Provider, ProviderConfig, ProviderEvent, ProviderState,
    Terminal, TerminalConnection, Transport,
};

/// The page for authors is compiled, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../../docs/client.md")]
struct Page;
