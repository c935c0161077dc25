//! Where log lines go and which ones.
//!
//! No task waits for whoever reads the log: a line is put into a bounded queue, and a thread of its own writes it. Lines
//! that find the queue full are lost, counted, and told of as soon as there is room again.

use std::backtrace::Backtrace;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;
use tracing::{error, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
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
pub const USUAL_LOG: &str = "info";
const NEVER: [&str; 5] = ["rsipstack", "rustls", "tungstenite", "tokio_tungstenite", "hyper"];

/// The audit log's target. It is written at any level, unless `RUST_LOG` names it.
const AUDIT: &str = "ctimanager::audit";

/// Lines that wait for the reader of the log.
const WAITING_LINES: usize = 16_384;
/// How often lost lines are looked for, to be told of.
const LOOK: Duration = Duration::from_secs(1);

/// Counts the lines that found the queue full.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Keeps the thread that writes the log. To drop it writes what waits, for a second at most.
#[derive(Debug)]
#[must_use]
pub struct Logging(#[allow(dead_code, reason = "held for its drop")] Option<WorkerGuard>);

/// Starts logging on stderr. `RUST_LOG` chooses levels, `usual` if it says nothing; what could hold secrets stays off
/// whatever it says. A second start of one process changes nothing.
pub fn start_logging(format: LogFormat, usual: &str) -> Logging {
    let wish = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wish| !wish.is_empty());
    let wish = wish.unwrap_or_else(|| usual.to_owned());
    let filter = filter(&wish);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(io::stderr());
    let lost = writer.error_counter();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if started.is_err() {
        // Logging has been started before, which is what the caller wants.
        return Logging(None);
    }
    // The first to start is the only one that comes here.
    let _ = LOST.set(lost);
    Logging(Some(guard))
}

/// From now on a panic is an error in the log: where, and by which calls it came there. Its words are told only where they
/// stand in the code; others may hold what the node was given: numbers, names, keys.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.payload().downcast_ref::<&'static str>().copied();
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let thread = std::thread::current();
        error!(
            thread = thread.name().unwrap_or_default(),
            "panicked at {place}: {}\n{}",
            words.unwrap_or("(its words may hold data and are left out)"),
            Backtrace::force_capture(),
        );
    }));
}

/// Log lines lost since the start, because whoever reads the log was too slow.
pub(super) fn lines_lost() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Tells of lost lines once there is room again, for ever.
pub(super) async fn tell_lost_lines() {
    let mut told = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        told = tell_lost(told, lines_lost);
    }
}

/// Logs how many lines were lost beyond those that were told. A telling that is lost itself counts for nothing.
fn tell_lost(told: u64, lost: impl Fn() -> u64) -> u64 {
    let before = lost();
    if before == told {
        return told;
    }
    warn!(lines = before - told, "log lines were lost: whoever reads the log is too slow");
    if lost() == before { before } else { told }
}

/// A wish that can't be read is as none. Of what could hold secrets it may not wish for any part.
fn filter(wish: &str) -> EnvFilter {
    let never = |part: &&str| NEVER.iter().any(|library| part.trim_start().starts_with(library));
    let allowed: Vec<&str> = wish.split(',').filter(|part| !never(part)).collect();
    let wished = Some(allowed.join(",")).filter(|wish| !wish.trim().is_empty());
    let wished = wished.and_then(|wish| EnvFilter::try_new(wish).ok());
    let audit = Some(format!("{AUDIT}=info")).filter(|_| wished.is_none() || !wish.contains(AUDIT));
    let filter = wished.unwrap_or_else(|| EnvFilter::new(USUAL_LOG));
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
    fn lost_lines_are_told_once_and_again_if_the_telling_was_lost() {
        assert_eq!(tell_lost(0, || 0), 0, "none were lost");
        assert_eq!(tell_lost(0, || 7), 7);
        let looks = std::cell::Cell::new(6);
        let full = || {
            looks.set(looks.get() + 1);
            looks.get()
        };
        assert_eq!(tell_lost(3, full), 3, "it was lost itself: told with the next");
    }

    #[test]
    fn nobody_can_wish_for_what_could_hold_secrets() {
        let filter = filter("debug,tungstenite::protocol=trace, hyper=trace,rustls::conn=trace").to_string();
        assert!(filter.contains("debug") && !filter.contains("trace"), "{filter}");
    }
}
