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
    let figures = match runtime.block_on(bench::run(&plan, &mut say)) {
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
