//! Every fuzz target with its samples and the same few thousand changes of them each time. What the coverage-guided
//! fuzzer finds beyond that (`scripts/fuzz.sh`) becomes a test with a name where the fault was.

use tests::fuzz::{Mutations, feed, target};

/// Bounded by number, so that a slow machine tests as much as a fast one.
fn exercise(name: &str, mutations: usize) {
    let target = target(name).unwrap_or_else(|| panic!("no target {name}"));
    for sample in (target.samples)() {
        feed(target, &sample);
    }
    for input in Mutations::of(target, 36).take(mutations) {
        feed(target, &input);
    }
}

macro_rules! targets {
    ($($name:ident: $mutations:literal,)*) => {
        $(#[test]
        fn $name() {
            exercise(stringify!($name), $mutations);
        })*

        #[test]
        fn every_target_is_exercised() {
            let exercised = [$(stringify!($name)),*];
            let all: Vec<_> = tests::fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, exercised);
        }
    };
}

targets! {
    ndjson: 60,
    sip_stream: 300,
    websocket: 1_000,
    session: 3_000,
    methods: 5_000,
    client: 5_000,
    provider: 500,
    sip_message: 3_000,
    sip_values: 3_000,
    sip_stack: 1_000,
    parties: 1_000,
    sdp: 3_000,
    crypto: 3_000,
    rtp: 5_000,
    stream: 2_000,
    wav: 2_000,
    certificates: 1_000,
    cluster: 3_000,
    config: 120,
    registrations: 300,
    sessions: 300,
    node: 300,
}
