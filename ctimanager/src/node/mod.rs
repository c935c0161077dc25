//! The node: composes `sip`, `device-model`, `security` and `protocol`. Pure: no socket, no clock, no lock.

pub mod port;

pub use port::{AdminRequest, AdminToken, CtiConnection, CtiTransport, Frame, Input, Output, Report, Severity};
