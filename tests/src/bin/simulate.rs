//! Runs the simulator.
//!
//! `simulate [--seeds N] [--seed FIRST] [--minutes M] [--jobs J] [--all] [--loud] [--delay]`: prints one line for each seed, in
//! their order whatever the number of jobs (one for each core, when nothing is said), with the number that stands for
//! all that happened; stops at the first rule that did not hold (with `--all`: goes on and counts them) with the last
//! lines of its record; says at the end what happened how often.
//!
//! With `--delay` what applications ask of devices waits for some steps before it is carried out, what they are told of them
//! waits for some before they are, and each message is written and read again.
//!
//! `simulate --calls N --cuts M [--seed S]`: N calls at a route point while the connection of the client that answers them
//! is cut M times, beside a client that nobody disturbs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;
use tests::sim::{self, Cuts, Failure, Options, Outcome, Tally};

const USAGE: &str =
    "usage: simulate [--seeds N] [--seed FIRST] [--minutes M] [--jobs J] [--all] [--loud] [--delay]
       simulate --calls N --cuts M [--seed S]";

/// Results that may wait for one that comes before them.
const WAITING: usize = 64;

type Run = (u64, Result<Outcome, Box<Failure>>);

struct Wish {
    first: u64,
    seeds: u64,
    minutes: u64,
    jobs: u64,
    calls: u64,
    cuts: u64,
    all: bool,
    loud: bool,
    delay: bool,
}

#[allow(clippy::print_stdout, reason = "a command")]
#[allow(clippy::disallowed_methods, reason = "measures how long the runs took")]
fn main() -> ExitCode {
    let Some(wish) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    if wish.calls > 0 {
        return cut_again_and_again(&wish);
    }
    let next = AtomicU64::new(wish.first);
    let (results, arrived) = sync_channel(WAITING);
    let sum = std::thread::scope(|scope| {
        for _ in 0..wish.jobs {
            let (results, next, wish) = (results.clone(), &next, &wish);
            scope.spawn(move || work(wish, next, &results));
        }
        drop(results);
        report(&wish, &next, arrived)
    });
    println!("{}", sum.tally);
    println!(
        "{} seeds, {} s of trouble simulated in {:.1} s, {} steps, {} failed",
        sum.seeds,
        sum.seeds * wish.minutes * 60,
        start.elapsed().as_secs_f64(),
        sum.steps,
        sum.failed
    );
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stdout, reason = "a command")]
fn cut_again_and_again(wish: &Wish) -> ExitCode {
    match sim::run_cuts(Cuts { seed: wish.first, calls: wish.calls, cuts: wish.cuts }) {
        Ok(outcome) => {
            println!("{}\nseed {}: {outcome}", outcome.tally, wish.first);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Takes seed after seed until there are no more, or nobody wants to hear of them.
fn work(wish: &Wish, next: &AtomicU64, results: &SyncSender<Run>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= wish.first + wish.seeds {
            return;
        }
        let run = sim::run(Options { seed, minutes: wish.minutes, loud: wish.loud, delay: wish.delay });
        if results.send((seed, run)).is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    steps: u64,
    failed: u64,
    tally: Tally,
}

/// Prints the results in the order of their seeds, until one has failed.
#[allow(clippy::print_stdout, reason = "a command")]
fn report(wish: &Wish, next: &AtomicU64, arrived: Receiver<Run>) -> Sum {
    let mut early = BTreeMap::new();
    let mut sum = Sum::default();
    for (seed, run) in arrived {
        early.insert(seed, run);
        while let Some(run) = early.remove(&(wish.first + sum.seeds)) {
            let seed = wish.first + sum.seeds;
            sum.seeds += 1;
            match run {
                Ok(outcome) => {
                    sum.steps += outcome.steps;
                    sum.tally += outcome.tally;
                    println!("seed {seed}: {outcome}");
                }
                Err(failure) => {
                    sum.failed += 1;
                    println!("{failure}");
                    println!("again: {} --seed {seed} --minutes {}", sim::COMMAND, wish.minutes);
                    if !wish.all {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        return sum;
                    }
                }
            }
        }
    }
    sum
}

fn arguments() -> Option<Wish> {
    let jobs = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let (calls, cuts) = (0, 0);
    let (all, loud, delay) = (false, false, false);
    let mut wish = Wish { first: 1, seeds: 1, minutes: 10, jobs, calls, cuts, all, loud, delay };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--loud" => wish.loud = true,
            "--all" => wish.all = true,
            "--delay" => wish.delay = true,
            "--seed" => wish.first = given.next()?.parse().ok()?,
            "--seeds" => wish.seeds = given.next()?.parse().ok()?,
            "--minutes" => wish.minutes = given.next()?.parse().ok()?,
            "--calls" => wish.calls = given.next()?.parse().ok()?,
            "--cuts" => wish.cuts = given.next()?.parse().ok()?,
            "--jobs" => wish.jobs = given.next()?.parse().ok().filter(|jobs| *jobs > 0)?,
            _ => return None,
        }
    }
    Some(wish)
}
