//! `ctimanager bench`: how fast a node is on this machine, and what a call costs.

use super::{Format, Outcome};
use crate::bench::{self, BenchError, BenchOptions, LoginOptions};
use clap::Args;
use serde::Serialize;
use std::fmt::Display;
use std::io::Write;
use tokio::runtime::Runtime;

/// How much is measured, and how it is shown.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    /// A short look instead of the whole measurement
    #[arg(long)]
    quick: bool,
    /// Logins instead: how many a second, what a storm of them does to calls, what the time of a refusal tells
    #[arg(long)]
    logins: bool,
    /// With persist_sessions: what the disk of the folder for temporary files costs
    #[arg(long, conflicts_with = "logins")]
    persist: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Measures.
#[must_use]
pub fn run(options: &Bench) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::failed(format!("no runtime: {error}")),
    };
    let mut say = |line: &str| {
        // Progress is about the command, not its result; a reader who went away is no failure.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    };
    if options.logins {
        let plan = if options.quick { LoginOptions::quick() } else { LoginOptions::whole() };
        return shown(options.output, measure(&runtime, bench::logins(plan, &mut say)));
    }
    let plan = if options.quick { BenchOptions::quick() } else { BenchOptions::whole() };
    let plan = BenchOptions { persist: options.persist, ..plan };
    shown(options.output, measure(&runtime, bench::run(&plan, &mut say)))
}

fn measure<T>(runtime: &Runtime, measure: impl Future<Output = Result<T, BenchError>>) -> Result<T, String> {
    runtime.block_on(async {
        tokio::select! {
            measured = measure => measured.map_err(|error| error.to_string()),
            // To drop the measurement ends its node and removes its folder.
            () = ended_from_outside() => Err("it was ended from outside".into()),
        }
    })
}

fn shown<T: Serialize + Display>(format: Format, measured: Result<T, String>) -> Outcome {
    let figures = match measured {
        Ok(figures) => figures,
        Err(error) => return Outcome::failed(format!("the measurement failed: {error}")),
    };
    match format {
        Format::Table => Outcome::good(figures),
        Format::Json => match serde_json::to_string_pretty(&figures) {
            Ok(text) => Outcome::good(text),
            Err(error) => Outcome::failed(error),
        },
    }
}

/// SIGINT or SIGTERM.
async fn ended_from_outside() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        // Without a handler the signal ends the process by itself.
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
