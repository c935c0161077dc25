//! The simulator: a few seeds on every test run, and that a seed is the same run to the byte. Longer runs are the
//! command's (docs/testing.md).

use tests::sim::{Happening, Options, Outcome, run};

fn well(seed: u64, minutes: u64) -> Outcome {
    run(Options { seed, minutes, loud: false }).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_seed_is_the_same_run_to_the_byte_and_another_is_another() {
    let first = well(7, 1);
    assert_eq!(first, well(7, 1));
    assert_ne!(first.hash, well(8, 1).hash);
}

#[test]
fn every_rule_holds_whatever_goes_wrong() {
    let outcomes: Vec<Outcome> = (100..106).map(|seed| well(seed, 2)).collect();
    // A simulator in which nothing happens finds nothing.
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(sum(|o| o.tally.of(Happening::CallUp)) > 100, "{outcomes:#?}");
    assert!(sum(|o| o.tally.of(Happening::Event)) > 1_000, "{outcomes:#?}");
    assert!(sum(|o| o.tally.of(Happening::Resumed)) > 10, "{outcomes:#?}");
}
