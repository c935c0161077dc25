//! Runs the simulator: `simulate --seeds N [--seed FIRST] [--minutes M] [--loud]`.
//!
//! Prints one line for each seed with the number that stands for all that happened, and stops at the first rule that did
//! not hold, with the last lines of its record.

use std::process::ExitCode;
use std::time::Instant;
use tests::sim::{self, Options};

#[allow(clippy::print_stdout, reason = "a command")]
#[allow(clippy::disallowed_methods, reason = "measures how long the runs took")]
fn main() -> ExitCode {
    let Some((first, seeds, minutes, loud)) = arguments() else {
        eprintln!("usage: simulate [--seeds N] [--seed FIRST] [--minutes M] [--loud]");
        return ExitCode::from(2);
    };
    let (start, mut steps, mut calls) = (Instant::now(), 0, 0);
    for seed in first..first + seeds {
        match sim::run(Options { seed, minutes, loud }) {
            Ok(outcome) => {
                steps += outcome.steps;
                calls += outcome.calls;
                println!("seed {seed}: {:016x} {outcome:?}", outcome.hash);
            }
            Err(failure) => {
                println!("{failure}");
                println!("again: cargo run -p tests --bin simulate -- --seed {seed} --minutes {minutes}");
                return ExitCode::FAILURE;
            }
        }
    }
    let simulated = seeds * minutes * 60;
    let took = start.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {simulated} s simulated in {took:.1} s, {steps} steps, {calls} call ends came up, all well"
    );
    ExitCode::SUCCESS
}

fn arguments() -> Option<(u64, u64, u64, bool)> {
    let (mut first, mut seeds, mut minutes, mut loud) = (1, 1, 10, false);
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        if name == "--loud" {
            loud = true;
            continue;
        }
        let value = given.next()?.parse().ok()?;
        match name.as_str() {
            "--seed" => first = value,
            "--seeds" => seeds = value,
            "--minutes" => minutes = value,
            _ => return None,
        }
    }
    Some((first, seeds, minutes, loud))
}
