//! The codecs that this crate speaks itself: G.711, by the `audio-codec` library.

use audio_codec::{Decoder as _, Encoder as _, pcma, pcmu};
use device_model::media::Codec;

/// A codec of [`super::RtpEndpoint`]: one byte a sample, without memory from packet to packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

/// A codec that the media helpers don't speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the media helpers speak PCMU and PCMA, not {0}")]
pub struct UnsupportedCodec(pub String);

impl AudioCodec {
    /// The RTP names of all of them, for `device.open`.
    pub const NAMES: [&'static str; 2] = ["PCMU", "PCMA"];

    /// The codec of an RTP name, in any case.
    ///
    /// # Errors
    /// [`UnsupportedCodec`] with the name.
    pub fn from_rtp_name(name: &str) -> Result<Self, UnsupportedCodec> {
        match Codec::from_rtp_name(name) {
            Codec::Pcmu => Ok(Self::Pcmu),
            Codec::Pcma => Ok(Self::Pcma),
            Codec::G722 | Codec::G729 | Codec::Opus | Codec::Other(_) => {
                Err(UnsupportedCodec(name.to_owned()))
            }
        }
    }

    /// The payload type that RFC 3551 gave it.
    #[must_use]
    pub fn static_payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    /// Appends one byte for each sample.
    pub fn encode(self, samples: &[i16], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + samples.len(), 0);
        let written = match self {
            Self::Pcmu => pcmu::PcmuEncoder::new().encode_into(samples, &mut out[start..]),
            Self::Pcma => pcma::PcmaEncoder::new().encode_into(samples, &mut out[start..]),
        };
        debug_assert_eq!(written, Ok(samples.len()), "G.711 has one byte a sample");
    }

    /// Appends one sample for each byte.
    pub fn decode(self, payload: &[u8], out: &mut Vec<i16>) {
        let start = out.len();
        out.resize(start + payload.len(), 0);
        let written = match self {
            Self::Pcmu => pcmu::PcmuDecoder::new().decode_into(payload, &mut out[start..]),
            Self::Pcma => pcma::PcmaDecoder::new().decode_into(payload, &mut out[start..]),
        };
        debug_assert_eq!(written, Ok(payload.len()), "G.711 has one byte a sample");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sample_survives_within_a_sixteenth_of_itself(sample in -32_000i16..32_000) {
            for codec in [AudioCodec::Pcmu, AudioCodec::Pcma] {
                let (mut bytes, mut back) = (Vec::new(), Vec::new());
                codec.encode(&[sample], &mut bytes);
                codec.decode(&bytes, &mut back);
                let error = (i32::from(sample) - i32::from(back[0])).abs();
                prop_assert!(error <= i32::from(sample).abs() / 16 + 16, "{codec:?}: {sample} became {}", back[0]);
            }
        }
    }

    #[test]
    fn silence_is_the_byte_that_the_standard_says() {
        let (mut mu, mut a) = (Vec::new(), Vec::new());
        AudioCodec::Pcmu.encode(&[0; 3], &mut mu);
        AudioCodec::Pcma.encode(&[0; 3], &mut a);
        assert_eq!(mu, [0xff; 3]);
        assert_eq!(a, [0xd5; 3]);
    }

    #[test]
    fn names_read_in_any_case_and_others_are_refused_by_name() {
        assert_eq!(AudioCodec::from_rtp_name("pcma"), Ok(AudioCodec::Pcma));
        assert_eq!(AudioCodec::from_rtp_name("G729"), Err(UnsupportedCodec("G729".to_owned())));
        for name in AudioCodec::NAMES {
            assert!(AudioCodec::from_rtp_name(name).is_ok());
        }
    }
}
