//! `ctimanager bench`: how fast a node is on this machine, and what a call costs.

use super::{Format, Outcome};
use crate::bench::{self, BenchOptions};
use clap::Args;
use std::io::Write;

/// How much is measured, and how it is shown.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    /// A short look instead of the whole measurement
    #[arg(long)]
    quick: bool,
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
    let plan = if options.quick { BenchOptions::quick() } else { BenchOptions::whole() };
    let mut say = |line: &str| {
        // Progress is about the command, not its result; a reader who went away is no failure.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    };
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = bench::run(&plan, &mut say) => measured.map_err(|error| error.to_string()),
            // To drop the measurement ends its node and removes its folder.
            () = ended_from_outside() => Err("it was ended from outside".into()),
        }
    });
    let figures = match measured {
        Ok(figures) => figures,
        Err(error) => return Outcome::failed(format!("the measurement failed: {error}")),
    };
    match options.output {
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
