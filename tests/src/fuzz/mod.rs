//! Hostile input: each [`Target`] takes any bytes, drives a part of the product with them and panics where a rule is broken.
//!
//! `fuzz/` feeds them what a coverage-guided fuzzer finds (`scripts/fuzz.sh`); `tests/tests/fuzz.rs` feeds them the
//! samples and a few thousand changes of these on every run of the tests, the same each time.

mod config;
mod cti;
mod food;
mod framing;
mod media;
mod node;
mod samples;
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
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "ndjson", run: framing::ndjson, samples: samples::ndjson },
    Target { name: "sip_stream", run: framing::sip_stream, samples: samples::sip_stream },
    Target { name: "websocket", run: websocket::websocket, samples: samples::websocket },
    Target { name: "session", run: cti::session, samples: samples::session },
    Target { name: "methods", run: cti::methods, samples: samples::methods },
    Target { name: "client", run: cti::client, samples: samples::client },
    Target { name: "sip_message", run: sip::message, samples: samples::sip_message },
    Target { name: "sip_values", run: sip::values, samples: samples::sip_values },
    Target { name: "sip_stack", run: sip::stack, samples: samples::sip_stack },
    Target { name: "sdp", run: media::sdp, samples: samples::sdp },
    Target { name: "rtp", run: media::rtp, samples: samples::rtp },
    Target { name: "config", run: config::config, samples: samples::config },
    Target { name: "node", run: node::node, samples: samples::node },
];

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
