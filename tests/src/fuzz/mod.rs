//! Hostile input: each [`Target`] takes any bytes, drives a part of the product with them and panics where a rule is broken.
//!
//! `fuzz/` feeds them what a coverage-guided fuzzer finds (`scripts/fuzz.sh`); `tests/tests/fuzz.rs` feeds them the
//! samples and a few thousand changes of these on every run of the tests, the same each time.

mod certificates;
mod cluster;
mod config;
mod crypto;
mod cti;
mod food;
mod framing;
mod kept;
mod media;
mod node;
mod parties;
mod samples;
mod sdk;
mod sip;
mod websocket;
mod wire;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A way in for hostile bytes.
pub struct Target {
    /// Its name, also of its program in `fuzz/`.
    pub name: &'static str,
    /// Takes any bytes. Panics where a rule is broken.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// The longest input that a fuzzer should try, in bytes: beyond it each only takes longer.
    pub max_len: usize,
}

impl Target {
    /// How often it must have been run before anybody may say that it was fuzzed.
    #[must_use]
    pub fn executions_wanted(&self) -> u64 {
        // A whole node, or the whole SDK with its runtime.
        if matches!(self.name, "node" | "registrations" | "sessions") { 100_000 } else { 1_000_000 }
    }
}

const fn of(name: &'static str, run: fn(&[u8]), samples: fn() -> Vec<Vec<u8>>, max_len: usize) -> Target {
    Target { name, run, samples, max_len }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    of("ndjson", framing::ndjson, samples::ndjson, 1024),
    of("sip_stream", framing::sip_stream, samples::sip_stream, 2048),
    of("websocket", websocket::websocket, samples::websocket, 2048),
    of("session", cti::session, samples::session, 2048),
    of("methods", cti::methods, samples::methods, 1024),
    of("client", cti::client, samples::client, 2048),
    of("provider", sdk::provider, samples::more::provider, 4096),
    of("sip_message", sip::message, samples::sip_message, 2048),
    of("sip_values", sip::values, samples::sip_values, 512),
    of("sip_stack", sip::stack, samples::sip_stack, 4096),
    of("parties", parties::parties, samples::more::parties, 2048),
    of("sdp", media::sdp, samples::sdp, 2048),
    of("crypto", crypto::crypto, crypto::samples, 1024),
    of("rtp", media::rtp, samples::rtp, 2048),
    of("stream", media::stream, samples::more::stream, 2048),
    of("wav", media::wav, samples::more::wav, 1024),
    of("certificates", certificates::certificates, samples::more::certificates, 2048),
    of("cluster", cluster::cluster, cluster::samples, 4096),
    of("config", config::config, samples::config, 4096),
    of("registrations", kept::registrations, samples::more::registrations, 2048),
    of("sessions", kept::sessions, samples::more::sessions, 4096),
    of("node", node::node, samples::node, 4096),
];

/// What stands in inputs, for a fuzzer that puts them together.
#[must_use]
pub fn words() -> &'static [&'static [u8]] {
    samples::WORDS
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Feeds the target of this name, for a fuzzer that keeps the input itself.
///
/// # Panics
/// Where a rule is broken.
pub fn run(name: &str, input: &[u8]) {
    (target(name).expect("the programs of fuzz/ have targets' names").run)(input);
}

/// Feeds a target; when it panics the input is shown.
pub fn feed(target: &Target, input: &[u8]) {
    struct Culprit<'a>(&'a str, &'a [u8]);
    impl Drop for Culprit<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{} broke on b\"{}\"", self.0, self.1.escape_ascii());
            }
        }
    }
    let _culprit = Culprit(target.name, input);
    (target.run)(input);
}

/// Changed samples, the same for the same seed.
pub struct Mutations {
    samples: Vec<Vec<u8>>,
    dice: StdRng,
}

impl Mutations {
    /// Of a target's samples.
    #[must_use]
    pub fn of(target: &Target, seed: u64) -> Self {
        Self { samples: (target.samples)(), dice: StdRng::seed_from_u64(seed) }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.dice.random_range(0..bound.max(1))
    }

    fn one_change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let until = (at + self.below(16)).min(bytes.len());
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 => drop(bytes.drain(at..until)),
            2 => {
                let again = bytes[at..until].to_vec();
                bytes.splice(at..at, again);
            }
            3 => bytes.truncate(at.max(1)),
            4 => {
                let other = self.below(self.samples.len());
                let from = self.below(self.samples[other].len());
                let upto = (from + self.below(200)).min(self.samples[other].len());
                bytes.splice(at..until, self.samples[other][from..upto].iter().copied());
            }
            _ => {
                let word = samples::WORDS[self.below(samples::WORDS.len())];
                bytes.splice(at..until, word.iter().copied());
            }
        }
    }
}

impl Iterator for Mutations {
    type Item = Vec<u8>;

    /// Never ends.
    fn next(&mut self) -> Option<Vec<u8>> {
        let which = self.below(self.samples.len());
        let mut bytes = self.samples.get(which).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.one_change(&mut bytes);
        }
        Some(bytes)
    }
}
