//! How we know. The tests of the whole: real programs around a real node ([`lab`]), and the rules of the house
//! (`tests/tidy.rs`). Scenarios are in `tests/`, one file a theme.
#![allow(
    clippy::disallowed_methods,
    reason = "drives real programs and sockets: real time, real threads; waiting is for events with a deadline"
)]

pub mod fuzz;
pub mod lab;
pub mod sim;
