//! # client: "an application author writes…"
