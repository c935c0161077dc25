//! # security: "you may…"
//!
//! Users and groups, the permission decision, password hashes, TLS policy, rate limits and audit records. It refuses to
//! know of the calls' logic and of sockets.
