//! # tests: "we know because…"
