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
const NEVER: [&str; 5] = ["rsipstack", "rustls", "tungstenite", "tokio_tungstenite", "hyper"];

/// The audit log's target. It is written at any level, unless `RUST_LOG` names it.
const AUDIT: &str = "ctimanager::audit";

/// Starts logging on stderr. `RUST_LOG` chooses levels; what could hold secrets stays off whatever it says.
/// A second start of one process changes nothing.
pub fn start_logging(format: LogFormat) {
    let wish = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = filter(&wish);
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

/// A wish that can't be read is as none. Of what could hold secrets it may not wish for any part.
fn filter(wish: &str) -> EnvFilter {
    let never = |part: &&str| NEVER.iter().any(|library| part.trim_start().starts_with(library));
    let allowed: Vec<&str> = wish.split(',').filter(|part| !never(part)).collect();
    let wished = Some(allowed.join(",")).filter(|wish| !wish.trim().is_empty());
    let wished = wished.and_then(|wish| EnvFilter::try_new(wish).ok());
    let audit = Some(format!("{AUDIT}=info")).filter(|_| wished.is_none() || !wish.contains(AUDIT));
    let filter = wished.unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
    let more = NEVER.iter().map(|library| format!("{library}=off")).chain(audit);
    more.fold(filter, |filter, directive| match directive.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_is_written_at_any_level_unless_it_is_named() {
        for (wish, directive) in [
            ("", "ctimanager::audit=info"),
            ("error", "ctimanager::audit=info"),
            ("=nonsense=", "ctimanager::audit=info"),
            ("ctimanager=off", "ctimanager::audit=info"),
            ("info,ctimanager::audit=off", "ctimanager::audit=off"),
        ] {
            let filter = filter(wish).to_string();
            assert!(filter.split(',').any(|part| part == directive), "{wish:?}: {filter}");
            assert!(filter.contains("rustls=off"), "{wish:?}: {filter}");
        }
    }

    #[test]
    fn nobody_can_wish_for_what_could_hold_secrets() {
        let filter = filter("debug,tungstenite::protocol=trace, hyper=trace,rustls::conn=trace").to_string();
        assert!(filter.contains("debug") && !filter.contains("trace"), "{filter}");
    }
}
