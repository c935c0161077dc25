//! # client: "an application author writes…"
//!
//! The Rust SDK of the CTI protocol, in JTAPI's words, with the media helpers that make an IVR short. It knows the wire
//! and nothing of the server's code.

pub mod media;
