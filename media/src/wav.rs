//! WAV data, by the `hound` library: read as 8 kHz mono whatever they were, written as 8 kHz, 16 bit, mono.

use super::SAMPLE_RATE_HZ;
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use std::io::{Read, Seek, Write};

/// The longest file that is read, in seconds.
pub const MAX_WAV_S: u32 = 600;

/// A file that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// No WAV file, or a broken one.
    #[error(transparent)]
    File(#[from] hound::Error),
    /// Not there, or not readable.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A kind of WAV file that prompts don't come in.
    #[error(
        "{channels} channels of {bits} bits at {rate_hz} Hz; 1 or 2 channels of 16 bits at 8,000 to 48,000 Hz are read"
    )]
    Unsupported {
        /// Channels.
        channels: u16,
        /// Bits a sample.
        bits: u16,
        /// Samples a second.
        rate_hz: u32,
    },
    /// Longer than [`MAX_WAV_S`].
    #[error("longer than {MAX_WAV_S} s")]
    TooLong,
}

/// Reads them into 8 kHz mono.
///
/// # Errors
/// [`WavError`]
pub fn read_from<R: Read>(data: R) -> Result<Vec<i16>, WavError> {
    let reader = WavReader::new(data)?;
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
    let readable = (1..=2).contains(&channels)
        && bits_per_sample == 16
        && sample_format == SampleFormat::Int
        && (8_000..=48_000).contains(&sample_rate);
    if !readable {
        return Err(WavError::Unsupported { channels, bits: bits_per_sample, rate_hz: sample_rate });
    }
    if reader.duration() > MAX_WAV_S * sample_rate {
        return Err(WavError::TooLong);
    }
    let samples = reader.into_samples::<i16>().collect::<Result<Vec<_>, _>>()?;
    let mono = match channels {
        1 => samples,
        _ => samples
            .chunks_exact(2)
            .map(|pair| ((i32::from(pair[0]) + i32::from(pair[1])) / 2) as i16)
            .collect(),
    };
    Ok(audio_codec::resample(&mono, sample_rate, SAMPLE_RATE_HZ))
}

/// Writes to anything that can seek.
///
/// # Errors
/// [`WavError::File`]
pub fn write_to<W: Write + Seek>(writer: W, samples: &[i16]) -> Result<(), WavError> {
    finish(WavWriter::new(writer, spec())?, samples)
}

fn finish<W: Write + Seek>(mut writer: WavWriter<W>, samples: &[i16]) -> Result<(), WavError> {
    for sample in samples {
        writer.write_sample(*sample)?;
    }
    Ok(writer.finalize()?)
}

fn spec() -> WavSpec {
    WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE_HZ,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone;
    use std::io::Cursor;
    use std::time::Duration;

    fn file(spec: WavSpec, samples: &[i16]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        finish(WavWriter::new(&mut bytes, spec).expect("a header"), samples).expect("samples");
        bytes.into_inner()
    }

    fn back(bytes: &[u8]) -> Result<Vec<i16>, WavError> {
        read_from(bytes)
    }

    #[test]
    fn what_is_written_reads_back() {
        let samples = tone::sine(440.0, Duration::from_millis(100));
        let mut bytes = Cursor::new(Vec::new());
        write_to(&mut bytes, &samples).expect("writes");
        assert_eq!(back(bytes.get_ref()).expect("reads"), samples);
    }

    #[test]
    fn wide_band_and_stereo_files_keep_their_tone() {
        for (sample_rate, channels) in [(16_000, 1), (48_000, 1), (16_000, 2), (44_100, 2)] {
            let samples: Vec<i16> = (0..sample_rate / 2)
                .map(|n| {
                    (8e3 * (std::f64::consts::TAU * 500.0 * f64::from(n) / f64::from(sample_rate)).sin())
                        as i16
                })
                .flat_map(|s| std::iter::repeat_n(s, usize::from(channels)))
                .collect();
            let heard = back(&file(WavSpec { channels, sample_rate, ..spec() }, &samples)).expect("reads");
            assert!(heard.len().abs_diff(4_000) < 50, "{sample_rate} Hz: {} samples", heard.len());
            assert!(tone::share(&heard, 500.0) > 0.9, "{sample_rate} Hz, {channels} channels");
        }
    }

    #[test]
    fn other_files_are_refused_and_not_guessed_at() {
        let eight_bit = WavSpec { bits_per_sample: 8, ..spec() };
        assert!(matches!(back(&file(eight_bit, &[1, 2])), Err(WavError::Unsupported { bits: 8, .. })));
        assert!(matches!(back(b"RIFF, or so it says"), Err(WavError::File(_))));
        let cut = file(spec(), &[1; 100]);
        assert!(matches!(back(&cut[..100]), Err(WavError::File(_))));
    }
}
