//! Tones: made for prompts, and found again in what was heard (Goertzel's algorithm).

use super::{SAMPLE_RATE_HZ, SAMPLES_PER_MS};
use std::f64::consts::TAU;
use std::time::Duration;

/// The longest tone that is made; more is cut.
pub const MAX_TONE: Duration = Duration::from_secs(60);

/// Samples of the frames that [`share`] judges: 20 ms.
const FRAME_SAMPLES: usize = 20 * SAMPLES_PER_MS;

/// A sine of this frequency, at a quarter of full scale, so that a sum of two does not clip.
#[must_use]
pub fn sine(frequency_hz: f64, length: Duration) -> Vec<i16> {
    let samples = length.min(MAX_TONE).as_millis() as usize * SAMPLES_PER_MS;
    let step = TAU * frequency_hz / f64::from(SAMPLE_RATE_HZ);
    (0..samples).map(|n| (8_000.0 * (step * n as f64).sin()) as i16).collect()
}

/// Silence.
#[must_use]
pub fn silence(length: Duration) -> Vec<i16> {
    vec![0; length.min(MAX_TONE).as_millis() as usize * SAMPLES_PER_MS]
}

/// How much of the signal's power lies at this frequency: 0.0 (none) to about 1.0 (a pure tone). Silence has none.
#[must_use]
pub fn power(samples: &[i16], frequency_hz: f64) -> f64 {
    let total: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum();
    // Quantised silence hums at ±8; whatever lies below that is no tone.
    if total < samples.len() as f64 * 64.0 || samples.is_empty() {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * frequency_hz / f64::from(SAMPLE_RATE_HZ)).cos();
    let (last, before) = samples
        .iter()
        .fold((0.0, 0.0), |(last, before), sample| (f64::from(*sample) + coefficient * last - before, last));
    let magnitude = last * last + before * before - coefficient * last * before;
    2.0 * magnitude / (total * samples.len() as f64)
}

/// The share of whole 20 ms frames, 0.0 to 1.0, that are filled by this frequency.
#[must_use]
pub fn share(samples: &[i16], frequency_hz: f64) -> f64 {
    let frames = samples.chunks_exact(FRAME_SAMPLES);
    let count = frames.len();
    if count == 0 {
        return 0.0;
    }
    frames.filter(|frame| power(frame, frequency_hz) > 0.7).count() as f64 / count as f64
}

/// How long this frequency was heard, counted in frames of 20 ms.
#[must_use]
pub fn heard(samples: &[i16], frequency_hz: f64) -> Duration {
    let frames = samples.chunks_exact(FRAME_SAMPLES).filter(|f| power(f, frequency_hz) > 0.7).count();
    Duration::from_millis(frames as u64 * 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_found_at_its_frequency_and_nowhere_else() {
        let tone = sine(440.0, Duration::from_millis(200));
        assert!(share(&tone, 440.0) > 0.99);
        for other in [350.0, 620.0, 880.0, 1_000.0] {
            assert_eq!(share(&tone, other), 0.0, "{other} Hz");
        }
    }

    #[test]
    fn silence_and_nothing_have_no_tone() {
        assert_eq!(share(&silence(Duration::from_millis(100)), 440.0), 0.0);
        assert_eq!(share(&[], 440.0), 0.0);
        assert_eq!(power(&[], 440.0), 0.0);
    }

    #[test]
    fn heard_counts_the_time_of_the_tone_alone() {
        let mut mixed = silence(Duration::from_millis(100));
        mixed.extend(sine(1_000.0, Duration::from_millis(300)));
        assert_eq!(heard(&mixed, 1_000.0), Duration::from_millis(300));
    }

    #[test]
    fn an_endless_tone_is_cut() {
        assert_eq!(sine(440.0, Duration::MAX).len(), MAX_TONE.as_secs() as usize * 8_000);
    }
}
