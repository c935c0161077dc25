//! One client cut again and again while calls pass, beside another of the same device that nobody disturbs: nothing may
//! be lost, doubled or out of order, and each overrun must be announced (P2, P3).

use super::calm::SETTLED;
use super::phone::{Forced, Mood};
use super::pipe::Heard;
use super::scene::{ApplicationOfScene, Bounds, Media, PHONES, TIGHT};
use super::tally::{Happening, Tally};
use super::world::World;
use super::{Failure, guarded};
use std::fmt;
use std::time::{Duration, Instant};

/// The client that is cut answers; the other one watches.
const CAST: &[ApplicationOfScene] = &[
    ApplicationOfScene { user: "ivr", instance: "cut", devices: MAIN, calls_from: &[], passive: false },
    ApplicationOfScene { user: "ivr", instance: "whole", devices: MAIN, calls_from: &[], passive: true },
];
const MAIN: &[(&str, Media)] = &[("RP_MAIN", Media::Dynamic)];
const CUT: usize = 0;
const WHOLE: usize = 1;

/// A log that a few seconds overrun, by the number of its events alone, so that it is known when; queues that don't.
const BOUNDS: Bounds = Bounds { log_events: TIGHT.log_events, log_bytes: 16 << 20, queue_events: 4_096 };
/// The trunk's peer among the phones.
const TRUNK: usize = PHONES.len() - 1;

/// What such a run shall be.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    /// Decides everything.
    pub seed: u64,
    /// Calls at the least.
    pub calls: u64,
    /// Cuts of the client's connection at the least, as evenly as chance wants.
    pub cuts: u64,
}

/// What it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutsOutcome {
    /// A number made of everything that happened, to the byte.
    pub hash: u64,
    /// Calls that were made.
    pub calls: u64,
    /// Events that the undisturbed client got, each once and in one order.
    pub events: u64,
    /// Those of them that the cut client got, each once and in the same order.
    pub same: u64,
    /// Those that fell into the gaps of announced overruns.
    pub announced: u64,
    /// How often each thing happened.
    pub tally: Tally,
}

impl fmt::Display for CutsOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, calls, events, same, announced, tally } = self;
        write!(
            f,
            "{hash:016x} {calls} calls, {} cuts, {} resumed, {} overruns; of {events} events the cut client got {same} \
             in the same order, {announced} are in announced gaps",
            tally.of(Happening::Cut),
            tally.of(Happening::Resumed),
            tally.of(Happening::Overrun)
        )
    }
}

/// Runs it.
///
/// # Errors
/// The first rule that did not hold.
pub fn run_cuts(wish: Cuts) -> Result<CutsOutcome, Box<Failure>> {
    let mut world = World::new(wish.seed, Instant::now(), BOUNDS, CAST);
    guarded(wish.seed, &mut world, |world| play(world, wish))
}

fn play(world: &mut World, wish: Cuts) -> Result<CutsOutcome, String> {
    for application in &mut world.applications {
        (application.record, application.patient) = (Some(Vec::new()), true);
    }
    world.run_until(Duration::from_secs(5))?;
    world.mood(Mood::Polite);
    let mut calls = 0;
    while calls < wish.calls || world.tally.of(Happening::Cut) < wish.cuts {
        let pause = world.dice.ms(20, 160);
        world.run_until(world.now + pause)?;
        call(world)?;
        calls += 1;
        if world.applications[CUT].is_open() && world.dice.below(wish.calls) < 2 * wish.cuts {
            let absence = if world.dice.percent(4) { (2_000, 9_000) } else { (1, 400) };
            world.applications[CUT].absence = Some(world.dice.ms(absence.0, absence.1));
            world.cut(CUT, Heard::Always);
        }
    }
    world.run_until(world.now + SETTLED)?;
    world.hang_up_all()?;
    world.run_until(world.now + SETTLED)?;
    world.applications.iter().try_for_each(|application| application.is_quiet())?;
    compare(world, calls)
}

/// Somebody calls the route point and hangs up after a while, answered or not.
fn call(world: &mut World) -> Result<(), String> {
    let token = world.dial(TRUNK, "5000")?;
    let ends = world.now + world.dice.ms(200, 3_500);
    if let Some(id) = world.phones[TRUNK].call_of(&token) {
        world.phones[TRUNK].force(id, ends, Forced::HangUp);
    }
    Ok(())
}

/// Each session of the cut client is an unbroken part of what the undisturbed one got, and goes on where the one before
/// ended, unless that one was overrun.
fn compare(world: &mut World, calls: u64) -> Result<CutsOutcome, String> {
    let record = |world: &mut World, of: usize| world.applications[of].record.take().unwrap_or_default();
    let (whole, cut) = (record(world, WHOLE), record(world, CUT));
    let [whole] = whole.as_slice() else { return Err("the undisturbed client was disturbed".into()) };
    let mut tally = world.tally;
    world.phones.iter().for_each(|phone| tally += phone.tally);
    tally += world.applications[CUT].tally;
    let overruns = tally.of(Happening::Overrun);
    if cut.len() as u64 != overruns + 1 {
        return Err(format!("{} sessions, but {overruns} overruns were announced", cut.len()));
    }
    let (mut at, mut announced) = (0, 0);
    for (index, session) in cut.iter().enumerate() {
        let Some(first) = session.first() else { continue };
        let gap = whole.iter().skip(at).position(|event| event == first);
        let Some(gap) = gap.filter(|gap| *gap == 0 || index > 0) else {
            return Err(format!(
                "session {index} begins with what nobody else was told, or not at its beginning"
            ));
        };
        (at, announced) = (at + gap, announced + gap);
        let end = at + session.len();
        if whole.get(at..end) != Some(session.as_slice()) {
            return Err(format!("session {index} differs from what the other was told after event {at}"));
        }
        at = end;
    }
    // Whoever was told nothing more since his last overrun missed the rest in it.
    let rest_is_announced = cut.len() > 1 && cut.last().is_some_and(Vec::is_empty);
    if at != whole.len() && !rest_is_announced {
        return Err(format!("the cut client ended at event {at} of {}", whole.len()));
    }
    announced += whole.len() - at;
    let (events, announced) = (whole.len() as u64, announced as u64);
    let hash = world.trace.hash();
    Ok(CutsOutcome { hash, calls, events, same: events - announced, announced, tally })
}
