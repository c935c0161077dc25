//! Media for applications that end it themselves: a socket for each end of an RTP session ([`endpoint`]) and WAV files
//! ([`wav`]). What they are made of is the pure room `media`.
//!
//! Audio is 16-bit linear, mono, 8,000 samples a second throughout; files of other rates are converted when they are read.

pub mod endpoint;
pub mod wav;

pub use endpoint::{Collected, MediaStream, PlayEnd, Playing, Recording, RtpEndpoint};
pub use media::codec::{self, AudioCodec};
pub use media::{SAMPLE_RATE_HZ, SAMPLES_PER_MS, dtmf, jitter, rtp, tone};
