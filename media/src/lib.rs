//! # media: "what is said and heard is…"
//!
//! RTP, jitter buffer, telephone-events, codecs, tones and WAV data, and one end of an RTP session ([`RtpSession`]):
//! datagrams and the time go in, datagrams and events come out. Sockets, files and threads are its user's.
//!
//! Audio is 16-bit linear, mono, 8,000 samples a second throughout; data of other rates are converted when they are read.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod codec;
pub mod dtmf;
pub mod jitter;
pub mod rtp;
pub mod session;
mod source;
pub mod tone;
pub mod wav;

pub use codec::AudioCodec;
pub use session::{MediaStream, RtpSession};

/// Samples a second of all audio in this crate.
pub const SAMPLE_RATE_HZ: u32 = 8_000;

/// Samples in a millisecond.
pub const SAMPLES_PER_MS: usize = 8;
