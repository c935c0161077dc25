//! The SDK against a whole node under virtual time: a few seeds on every test run, and that a seed is the same run to the
//! byte. More of them: `cargo run --profile simulate -p tests --bin simulate_sdk -- --seeds 300`.

use tests::sim::sdk::{Outcome, run};

fn well(seed: u64) -> Outcome {
    run(seed, 1, false).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_seed_is_the_same_run_to_the_byte_and_another_is_another() {
    let first = well(2);
    assert_eq!(first, well(2));
    assert_ne!(first.hash, well(3).hash);
}

#[test]
fn what_applications_hear_is_one_story_whatever_goes_wrong() {
    let outcomes: Vec<Outcome> = (100..106).map(well).collect();
    // A simulator in which nothing happens finds nothing.
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(sum(|o| o.told) > 1_000, "{outcomes:#?}");
    assert!(sum(|o| o.witnessed) > 300, "{outcomes:#?}");
    assert!(sum(|o| o.calls) > 30, "{outcomes:#?}");
    assert!(sum(|o| o.resumed) > 10, "{outcomes:#?}");
    assert!(sum(|o| o.restarted) > 10, "{outcomes:#?}");
}
