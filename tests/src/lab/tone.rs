//! Tones: every phone and application has its own, so that a recording tells who was heard.

use std::f64::consts::TAU;
use std::path::Path;

/// Samples a second of all audio in the lab.
pub const RATE: u32 = 8_000;
/// Samples of a frame of 20 ms. Tones are multiples of 50 Hz, so that a frame holds whole periods.
pub const FRAME: usize = 160;

/// `seconds` of a sine of this frequency at a quarter of full scale.
#[must_use]
pub fn sine(hz: u32, seconds: u32) -> Vec<i16> {
    (0..RATE * seconds).map(|n| sample(hz, n)).collect()
}

/// The n-th sample of the sine.
#[must_use]
pub fn sample(hz: u32, n: u32) -> i16 {
    let angle = TAU * f64::from(hz) * f64::from(n % RATE) / f64::from(RATE);
    #[allow(clippy::cast_possible_truncation, reason = "a quarter of full scale")]
    let value = (angle.sin() * 8_192.0) as i16;
    value
}

/// Writes a sine as a WAV file of 8 kHz, mono, 16 bit.
///
/// # Panics
/// If the file can't be written.
pub fn write_wav(path: &Path, hz: u32, seconds: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer =
        hound::WavWriter::create(path, spec).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for sample in sine(hz, seconds) {
        writer.write_sample(sample).expect("a WAV file can be written to");
    }
    writer.finalize().expect("a WAV file can be finished");
}

/// The samples of a 16-bit WAV file, also of one that is still being written (whose header doesn't know its length yet).
#[must_use]
pub fn read_wav(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let Some(data) = bytes.windows(4).position(|w| w == b"data") else { return Vec::new() };
    bytes[(data + 8).min(bytes.len())..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
}

/// How many frames of 20 ms hold this tone and hardly anything else.
#[must_use]
pub fn frames_with(samples: &[i16], hz: u32) -> usize {
    samples.chunks_exact(FRAME).filter(|frame| is_tone(frame, hz)).count()
}

/// Whether the tone makes more than two thirds of the frame's energy, and the frame isn't silent.
#[must_use]
pub fn is_tone(frame: &[i16], hz: u32) -> bool {
    let energy: f64 = frame.iter().map(|s| f64::from(*s).powi(2)).sum();
    let count = f64::from(u32::try_from(frame.len()).unwrap_or(u32::MAX));
    let loud = energy / count > 200.0_f64.powi(2);
    loud && 2.0 * power(frame, hz) / (count * energy) > 0.66
}

/// Goertzel: the squared magnitude of one bin of the Fourier transform.
fn power(frame: &[i16], hz: u32) -> f64 {
    let coefficient = 2.0 * (TAU * f64::from(hz) / f64::from(RATE)).cos();
    let (mut one, mut two) = (0.0_f64, 0.0_f64);
    for sample in frame {
        (one, two) = (f64::from(*sample) + coefficient * one - two, one);
    }
    one * one + two * two - coefficient * one * two
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_told_from_another_and_from_silence() {
        let heard = sine(450, 1);
        assert_eq!(frames_with(&heard, 450), 50);
        assert_eq!(frames_with(&heard, 900), 0);
        assert_eq!(frames_with(&heard, 500), 0);
        assert_eq!(frames_with(&[0; 8_000], 450), 0);
        let mixed: Vec<i16> = heard.iter().zip(sine(900, 1)).map(|(a, b)| a / 2 + b / 2).collect();
        assert_eq!(frames_with(&mixed, 450), 0, "two tones at once are neither");
    }
}
