//! The configuration: YAML that an administrator wrote → a [`Config`] in which every name is unique, every reference
//! holds and every number is in its range.
//!
//! [`load`] reads everything, finds **all** mistakes and names each with its place. Whoever holds a [`Config`] need not
//! check anything again.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod check;
mod convert;
mod dependencies;
mod dial;
mod explain;
mod explain_number;
mod fields;
mod mistake;
mod names;
mod parameters;
mod planned;
mod read;

mod schema;
mod sections;
mod servers;
mod types;
mod units;
mod yaml;

pub use dependencies::Dependency;
pub use explain::{Explanation, RestrictedLine};
pub use explain_number::NumberExplanation;
pub(crate) use mistake::shell_word;
pub use mistake::{Mistake, Place, lines};
pub use parameters::ServiceParameters;
pub use read::{Loaded, load, parse, state_dir};

pub(crate) use convert::address;
pub use schema::json_schema;
pub use servers::CtiListeners;
pub use types::*;

#[cfg(test)]
mod tests;
