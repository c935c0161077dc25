//! WAV files: read as 8 kHz mono whatever they were, written as 8 kHz, 16 bit, mono.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

pub use media::wav::{MAX_WAV_S, WavError};

/// Reads a file into 8 kHz mono.
///
/// # Errors
/// [`WavError`]
pub fn read(path: impl AsRef<Path>) -> Result<Vec<i16>, WavError> {
    media::wav::read_from(BufReader::new(File::open(path)?))
}

/// Writes a file.
///
/// # Errors
/// [`WavError::Io`], [`WavError::File`]
pub fn write(path: impl AsRef<Path>, samples: &[i16]) -> Result<(), WavError> {
    media::wav::write_to(BufWriter::new(File::create(path)?), samples)
}
