//! The simulator: a few seeds on every test run, and that a seed is the same run to the byte. Longer runs are the
//! command's (docs/testing.md).

use tests::sim::bugs::{BUGS, SWITCH};
use tests::sim::{Cuts, Happening, Options, Outcome, Tally, run, run_cuts};

fn well(seed: u64, minutes: u64) -> Outcome {
    run(Options { seed, minutes, loud: false, delay: false }).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_seed_is_the_same_run_to_the_byte_and_another_is_another() {
    // On two threads: nothing but the seed may matter.
    let (first, again) = std::thread::scope(|scope| {
        let again = scope.spawn(|| well(7, 1));
        (well(7, 1), again.join().expect("no rule was broken"))
    });
    assert_eq!(first, again);
    assert_ne!(first.hash, well(8, 1).hash);
}

#[test]
fn every_rule_holds_when_what_is_asked_waits() {
    let late = |seed| Options { seed, minutes: 2, loud: false, delay: true };
    let runs = [200, 201].map(|seed| run(late(seed)).unwrap_or_else(|failure| panic!("{failure}")));
    assert!(runs.iter().all(|run| run.tally.of(Happening::CallUp) > 0), "calls are made and answered");
    assert_ne!(runs[0].hash, well(200, 2).hash, "something waits");
}

/// Seeds of the test below, chosen so that everything happens in one of them.
const SEEDS: std::ops::Range<u64> = 100..108;

#[test]
fn every_rule_holds_whatever_goes_wrong_and_everything_does() {
    let runs = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            scope.spawn(move || {
                SEEDS.filter(|seed| seed % 2 == half).map(|seed| well(seed, 4).tally).collect()
            })
        });
        halves.map(|half| half.join().expect("no rule was broken"))
    });
    let mut sum = Tally::default();
    runs.into_iter().flat_map(|half: Vec<Tally>| half).for_each(|tally| sum += tally);
    // A simulator in which nothing happens finds nothing.
    let never: Vec<_> = Happening::ALL.iter().filter(|what| sum.of(**what) == 0).collect();
    assert!(never.is_empty(), "{never:?} never happened:\n{sum}");
}

#[test]
fn a_client_that_is_cut_again_and_again_gets_every_event_once_in_order_and_hears_of_each_overrun() {
    let outcome =
        run_cuts(Cuts { seed: 1, calls: 1_000, cuts: 50 }).unwrap_or_else(|failure| panic!("{failure}"));
    let of = |what| outcome.tally.of(what);
    assert!(outcome.calls >= 1_000 && of(Happening::Cut) >= 50, "{outcome}");
    assert!(of(Happening::Resumed) > 0 && of(Happening::Overrun) > 0 && outcome.announced > 0, "{outcome}");
    assert!(outcome.same > 5_000, "{outcome}");
}

#[test]
fn the_bugs_that_can_be_put_back_find_their_places() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder");
    let mut names = std::collections::BTreeSet::new();
    // They are all built in at once: each must find its place beside those before it.
    let mut spoilt = std::collections::BTreeMap::new();
    for bug in BUGS {
        assert!(names.insert(bug.name), "two bugs are called {}", bug.name);
        for (file, good, bad) in bug.edits {
            let text = std::fs::read_to_string(root.join(file)).expect("a file of the tree");
            assert_eq!(text.matches(good).count(), 1, "{}: {file} says not once: {good}", bug.name);
            assert!(bad.contains(SWITCH), "{}: it would always be there", bug.name);
            let spoilt = spoilt.entry(file).or_insert(text);
            assert_eq!(
                spoilt.matches(good).count(),
                1,
                "{}: another bug is in its place in {file}",
                bug.name
            );
            *spoilt = spoilt.replace(good, bad);
        }
    }
}
