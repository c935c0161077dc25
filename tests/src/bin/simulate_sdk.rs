//! Runs the SDK in the simulator: `simulate_sdk --seeds N [--seed FIRST] [--rounds R] [--loud]`.
//!
//! Prints one line for each seed with the number that stands for all that happened, and stops at the first rule that did
//! not hold, with the last lines of its record.

use std::process::ExitCode;
use std::time::Instant;
use tests::sim::sdk;

#[allow(clippy::print_stdout, reason = "a command")]
#[allow(clippy::disallowed_methods, reason = "measures how long the runs took")]
fn main() -> ExitCode {
    let Some((first, seeds, rounds, loud)) = arguments() else {
        eprintln!("usage: simulate_sdk [--seeds N] [--seed FIRST] [--rounds R] [--loud]");
        return ExitCode::from(2);
    };
    let (start, mut told, mut lost) = (Instant::now(), 0, 0);
    for seed in first..first + seeds {
        match sdk::run(seed, rounds, loud) {
            Ok(outcome) => {
                told += outcome.told;
                lost += outcome.lost;
                println!("seed {seed}: {:016x} {outcome:?}", outcome.hash);
            }
            Err(failure) => {
                println!("{failure}");
                println!("again: cargo run -p tests --bin simulate_sdk -- --seed {seed} --rounds {rounds}");
                return ExitCode::FAILURE;
            }
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!("{seeds} seeds in {took:.1} s, {told} events told, {lost} connections lost, all well");
    ExitCode::SUCCESS
}

fn arguments() -> Option<(u64, u64, u32, bool)> {
    let (mut first, mut seeds, mut rounds, mut loud) = (1, 1, 1, false);
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--loud" => loud = true,
            "--seed" => first = given.next()?.parse().ok()?,
            "--seeds" => seeds = given.next()?.parse().ok()?,
            "--rounds" => rounds = given.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some((first, seeds, rounds, loud))
}
