//! Media for applications that end it themselves: RTP with G.711, telephone-events, WAV files and tones.
//!
//! Everything but [`endpoint`] is pure: time comes in as an argument. Audio is 16-bit linear, mono, 8,000 samples a second
//! throughout; files of other rates are converted when they are read.

pub mod codec;
pub mod dtmf;
pub mod endpoint;
pub mod jitter;
pub mod rtp;
pub mod tone;
pub mod wav;

pub use codec::AudioCodec;
pub use endpoint::{Collected, MediaStream, PlayEnd, Playing, Recording, RtpEndpoint};

/// Samples a second of all audio in this crate.
pub const SAMPLE_RATE_HZ: u32 = 8_000;

/// Samples in a millisecond.
pub const SAMPLES_PER_MS: usize = 8;
