//! # protocol: "on the CTI wire…"
//!
//! Frames, methods, events, errors and the session machine. It refuses to know of sockets and of SIP.
