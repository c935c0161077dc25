//! The codecs that this crate speaks itself, by the `audio-codec` library: G.711, and G.722 in its lower band.
//!
//! Each has one byte for each of our samples (8,000 a second). Of G.722, which has 16,000, the lower of its two bands is
//! ours (0 to 4 kHz): what we say is resampled to its rate, and of what we hear the upper band is left out.

use audio_codec::g722::{Bitrate, G722Decoder, G722Encoder};
use audio_codec::{BoxedResampler, CodecError, Decoder as _, Encoder as _, pcma, pcmu};

/// A codec of [`super::RtpSession`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
}

/// A codec that the media helpers don't speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the media helpers speak PCMU, PCMA and G722, not {0}")]
pub struct UnsupportedCodec(pub String);

impl AudioCodec {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pcmu, Self::Pcma, Self::G722];

    /// Its name in RTP maps and in `device.open` (RFC 3551).
    #[must_use]
    pub fn rtp_name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
        }
    }

    /// The codec of an RTP name, in any case.
    ///
    /// # Errors
    /// [`UnsupportedCodec`] with the name.
    pub fn from_rtp_name(name: &str) -> Result<Self, UnsupportedCodec> {
        let found = Self::ALL.into_iter().find(|codec| codec.rtp_name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnsupportedCodec(name.to_owned()))
    }

    /// The payload type that RFC 3551 gave it.
    #[must_use]
    pub fn static_payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
        }
    }
}

/// Encodes one stream: G.722 remembers what was before.
pub enum Encoder {
    /// See [`AudioCodec::Pcmu`].
    Pcmu(pcmu::PcmuEncoder),
    /// See [`AudioCodec::Pcma`].
    Pcma(pcma::PcmaEncoder),
    /// See [`AudioCodec::G722`].
    G722(Box<WideEncoder>),
}

/// G.722 of what was resampled to 16 kHz. (The library has a mode for 8 kHz, which writes wrong codes.)
pub struct WideEncoder {
    resampler: BoxedResampler,
    encoder: G722Encoder,
    wide: Vec<i16>,
}

impl WideEncoder {
    fn new() -> Self {
        let resampler = BoxedResampler::new(8_000, 16_000).expect("both rates are above zero");
        let encoder = G722Encoder::with_options(Bitrate::Mode1_64000, false, false);
        Self { resampler, encoder, wide: Vec::new() }
    }

    fn encode_into(&mut self, samples: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        self.wide.resize(self.resampler.max_output_samples(samples.len()), 0);
        let wide = self.resampler.resample_into(samples, &mut self.wide)?;
        self.encoder.encode_into(&self.wide[..wide], out)
    }
}

impl Encoder {
    /// An encoder that has encoded nothing.
    #[must_use]
    pub fn new(codec: AudioCodec) -> Self {
        match codec {
            AudioCodec::Pcmu => Self::Pcmu(pcmu::PcmuEncoder::new()),
            AudioCodec::Pcma => Self::Pcma(pcma::PcmaEncoder::new()),
            AudioCodec::G722 => Self::G722(Box::new(WideEncoder::new())),
        }
    }

    /// Whose encoder it is.
    #[must_use]
    pub fn codec(&self) -> AudioCodec {
        match self {
            Self::Pcmu(_) => AudioCodec::Pcmu,
            Self::Pcma(_) => AudioCodec::Pcma,
            Self::G722(_) => AudioCodec::G722,
        }
    }

    /// Appends one byte for each sample.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + samples.len(), 0);
        let written = match self {
            Self::Pcmu(encoder) => encoder.encode_into(samples, &mut out[start..]),
            Self::Pcma(encoder) => encoder.encode_into(samples, &mut out[start..]),
            Self::G722(encoder) => encoder.encode_into(samples, &mut out[start..]),
        };
        debug_assert_eq!(written, Ok(samples.len()), "each codec has one byte a sample");
    }
}

/// Decodes one stream.
pub enum Decoder {
    /// See [`AudioCodec::Pcmu`].
    Pcmu(pcmu::PcmuDecoder),
    /// See [`AudioCodec::Pcma`].
    Pcma(pcma::PcmaDecoder),
    /// See [`AudioCodec::G722`].
    G722(Box<G722Decoder>),
}

impl Decoder {
    /// A decoder that has heard nothing.
    #[must_use]
    pub fn new(codec: AudioCodec) -> Self {
        match codec {
            AudioCodec::Pcmu => Self::Pcmu(pcmu::PcmuDecoder::new()),
            AudioCodec::Pcma => Self::Pcma(pcma::PcmaDecoder::new()),
            AudioCodec::G722 => {
                Self::G722(Box::new(G722Decoder::with_options(Bitrate::Mode1_64000, false, true)))
            }
        }
    }

    /// Appends one sample for each byte.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        let start = out.len();
        out.resize(start + payload.len(), 0);
        let written = match self {
            Self::Pcmu(decoder) => decoder.decode_into(payload, &mut out[start..]),
            Self::Pcma(decoder) => decoder.decode_into(payload, &mut out[start..]),
            Self::G722(decoder) => decoder.decode_into(payload, &mut out[start..]),
        };
        debug_assert_eq!(written, Ok(payload.len()), "each codec has one byte a sample");
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Encoder").field(&self.codec()).finish()
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pcmu(_) => "Decoder(Pcmu)",
            Self::Pcma(_) => "Decoder(Pcma)",
            Self::G722(_) => "Decoder(G722)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn a_sample_survives_within_a_sixteenth_of_itself(sample in -32_000i16..32_000) {
            for codec in [AudioCodec::Pcmu, AudioCodec::Pcma] {
                let (mut bytes, mut back) = (Vec::new(), Vec::new());
                Encoder::new(codec).encode(&[sample], &mut bytes);
                Decoder::new(codec).decode(&bytes, &mut back);
                let error = (i32::from(sample) - i32::from(back[0])).abs();
                prop_assert!(error <= i32::from(sample).abs() / 16 + 16, "{codec:?}: {sample} became {}", back[0]);
            }
        }

        #[test]
        fn any_payload_is_as_many_samples(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            for codec in AudioCodec::ALL {
                let mut samples = vec![7];
                Decoder::new(codec).decode(&payload, &mut samples);
                prop_assert_eq!(samples.len(), payload.len() + 1);
            }
        }
    }

    #[test]
    fn a_tone_keeps_its_frequency_and_most_of_its_loudness_packet_by_packet() {
        for codec in AudioCodec::ALL {
            let (mut encoder, mut decoder) = (Encoder::new(codec), Decoder::new(codec));
            let said = tone::sine(440.0, Duration::from_millis(400));
            let mut heard = Vec::new();
            for packet in said.chunks(160) {
                let mut payload = Vec::new();
                encoder.encode(packet, &mut payload);
                decoder.decode(&payload, &mut heard);
            }
            assert!(tone::share(&heard, 440.0) > 0.9, "{codec:?}");
            let loudest = |samples: &[i16]| samples.iter().map(|s| i32::from(*s).abs()).max().unwrap_or(0);
            let (said, heard) = (loudest(&said), loudest(&heard));
            assert!((said / 2..=said * 2).contains(&heard), "{codec:?}: {said} became {heard}");
        }
    }

    #[test]
    fn silence_is_the_byte_that_the_standard_says() {
        let (mut mu, mut a) = (Vec::new(), Vec::new());
        Encoder::new(AudioCodec::Pcmu).encode(&[0; 3], &mut mu);
        Encoder::new(AudioCodec::Pcma).encode(&[0; 3], &mut a);
        assert_eq!(mu, [0xff; 3]);
        assert_eq!(a, [0xd5; 3]);
    }

    #[test]
    fn names_read_in_any_case_and_others_are_refused_by_name() {
        assert_eq!(AudioCodec::from_rtp_name("pcma"), Ok(AudioCodec::Pcma));
        assert_eq!(AudioCodec::from_rtp_name("G729"), Err(UnsupportedCodec("G729".to_owned())));
        for codec in AudioCodec::ALL {
            assert_eq!(AudioCodec::from_rtp_name(codec.rtp_name()), Ok(codec));
        }
    }
}
