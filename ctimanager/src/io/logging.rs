//! Where log lines go and which ones.

use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged when `RUST_LOG` says nothing. `rsipstack` prints whole messages, with keys and digests in them, and
/// rustls the names of whom it talks to.
const DEFAULT_FILTER: &str = "info";
const NEVER: [&str; 4] = ["rsipstack=off", "rustls=off", "tungstenite=off", "hyper=off"];

/// Starts logging on stderr. `RUST_LOG` chooses levels; what could hold secrets stays off whatever it says.
/// A second start of one process changes nothing.
pub fn start_logging(format: LogFormat) {
    let filter = NEVER.iter().fold(
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER)),
        |filter, off| match off.parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        },
    );
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // An error says that logging has been started before, which is what the caller wants.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_directives_can_be_read() {
        for directive in NEVER {
            assert!(directive.parse::<tracing_subscriber::filter::Directive>().is_ok(), "{directive}");
        }
    }
}
