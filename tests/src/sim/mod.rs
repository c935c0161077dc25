//! The simulator: a whole node, phones and a trunk that speak SIP bytes, applications that speak NDJSON bytes, the
//! network between them, in one thread under virtual time. A seed decides everything that happens.
//!
//! A run is rounds of *trouble* (calls, lost datagrams, cut connections, crashes, freezes, a node that dies) and *calm*
//! (nothing goes wrong any more). The checkers (docs/testing.md) look after every step and once all is quiet.

mod application;
pub mod bugs;
mod calm;
mod cuts;
mod dice;
mod disk;
mod misfortune;
mod neighbour;
mod oracle;
mod phone;
mod pipe;
pub(crate) mod scene;
pub mod sdk;
mod streams;
mod tally;
mod trace;
mod world;

pub use cuts::{Cuts, CutsOutcome, run_cuts};
use phone::Mood;
use scene::{SIX_APPLICATIONS, TIGHT};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
pub use tally::{Happening, Tally};
use world::World;

/// Runs the simulator at length.
pub const COMMAND: &str = "cargo run --profile simulate -p tests --bin simulate --";

/// How long trouble lasts at most until calm follows.
const TROUBLE: Duration = Duration::from_secs(150);

/// What a run shall be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Simulated minutes of trouble; about as long again is calm.
    pub minutes: u64,
    /// Prints every line as it happens.
    pub loud: bool,
    /// What applications ask of devices waits for some steps before it is carried out.
    pub delay: bool,
}

/// What a run was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A number made of everything that happened, to the byte.
    pub hash: u64,
    /// Lines of the record.
    pub lines: u64,
    /// Inputs of the node.
    pub steps: u64,
    /// How often each thing happened.
    pub tally: Tally,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, lines, steps, tally } = self;
        let of = |what| tally.of(what);
        write!(
            f,
            "{hash:016x} {lines} lines, {steps} steps, {} call ends, {} events, {} resumed, {} overruns",
            of(Happening::CallUp),
            of(Happening::Event),
            of(Happening::Resumed),
            of(Happening::Overrun)
        )
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// When, since its start.
    pub at: Duration,
    /// What.
    pub what: String,
    /// The last lines of the record.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {} at {:.6} s: {}", self.seed, self.at.as_secs_f64(), self.what)
    }
}

/// Runs one seed.
///
/// # Errors
/// The first rule that did not hold.
pub fn run(options: Options) -> Result<Outcome, Box<Failure>> {
    // The origin of virtual time: nothing reads the clock after it.
    let mut world = World::new(options.seed, Instant::now(), TIGHT, SIX_APPLICATIONS);
    world.trace.loud = options.loud;
    if options.delay {
        world.delay(options.seed);
    }
    let trouble = Duration::from_secs(options.minutes * 60);
    guarded(options.seed, &mut world, |world| rounds(world, trouble)).map(|()| outcome(&world))
}

/// What panics in the node is a failure like any other.
fn guarded<T>(
    seed: u64,
    world: &mut World,
    play: impl FnOnce(&mut World) -> Result<T, String>,
) -> Result<T, Box<Failure>> {
    let played = catch_unwind(AssertUnwindSafe(|| play(world)));
    played
        .unwrap_or_else(|panic| Err(said(&*panic)))
        .map_err(|what| Box::new(Failure { seed, at: world.now, what, trace: world.trace.last_lines() }))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a panic: {}", text.unwrap_or("without a word"))
}

fn rounds(world: &mut World, trouble: Duration) -> Result<(), String> {
    world.run_until(Duration::from_secs(5))?;
    let mut left = trouble;
    while left > Duration::ZERO {
        let now = left.min(TROUBLE);
        self::trouble(world, now)?;
        calm::calm(world)?;
        left -= now;
    }
    Ok(())
}

fn trouble(world: &mut World, lasts: Duration) -> Result<(), String> {
    let end = world.now + lasts;
    world.mood(Mood::Busy);
    while world.now < end {
        let pause = world.dice.ms(200, 4_000);
        world.run_until(world.now + pause)?;
        world.misfortune()?;
        world.provoke()?;
        calm::bounded(world)?;
    }
    Ok(())
}

fn outcome(world: &World) -> Outcome {
    let mut tally = world.tally;
    world.phones.iter().for_each(|phone| tally += phone.tally);
    world.applications.iter().for_each(|application| tally += application.tally);
    Outcome { hash: world.trace.hash(), lines: world.trace.count(), steps: world.steps, tally }
}
