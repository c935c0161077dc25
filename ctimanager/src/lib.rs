//! # ctimanager: "when a node, a peer, a socket…"
//!
//! The program: what an administrator wrote and types, the pure node, and the shell around it.

pub mod admin;
pub mod bench;
pub mod config;
pub mod demo;
pub mod io;
pub mod node;
