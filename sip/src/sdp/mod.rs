//! Session descriptions (RFC 8866, offers and answers of RFC 3264): reading a peer's, writing our own.
//!
//! `sdp-types` gives the structure of every text that comes in, because it keeps what it doesn't know; the lines that
//! carry meaning for audio are then read by `webrtc-sdp`, one by one. `webrtc-sdp` never sees a whole text: it refuses
//! texts that real phones send (`m=image`, `o=` with a huge version), it puts the attributes of a media line that it
//! doesn't know under the line before, and it logs lines that it doesn't know, `a=crypto` with its key among them.

mod read;
mod write;

pub use read::read;
pub use write::Describer;

use thiserror::Error;

/// Why a session description can't be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SdpError {
    /// The peer's fault: not a session description.
    #[error("not a session description")]
    Malformed,
    /// A connection address that is no IP address, or none at all.
    #[error("no connection address that can be used")]
    Address,
    /// An answer to a secure stream was asked for without keys.
    #[error("the offer's audio is secure and the answer has no keys")]
    Secure,
    /// Larger than [`MAX_LEN`].
    #[error("too long")]
    TooLong,
}

/// The longest session description that is read, bytes. A phone with video, ICE and every codec stays below 10 kB.
pub const MAX_LEN: usize = 32 * 1024;

/// The most media lines of a description; what is beyond makes it [`SdpError::TooLong`].
pub const MAX_MEDIA: usize = 16;

/// The most payload formats that are read of one media line; payload types end at 127.
const MAX_FORMATS: usize = 128;

/// Splits a text into its sections. Bytes that are no UTF-8 (a Latin-1 session name) become replacement characters.
fn parse(text: &[u8]) -> Result<sdp_types::Session, SdpError> {
    if text.len() > MAX_LEN {
        return Err(SdpError::TooLong);
    }
    let session = match std::str::from_utf8(text) {
        Ok(_) => sdp_types::Session::parse(text),
        Err(_) => sdp_types::Session::parse(String::from_utf8_lossy(text).as_bytes()),
    }
    .map_err(|_| SdpError::Malformed)?;
    if session.medias.len() > MAX_MEDIA { Err(SdpError::TooLong) } else { Ok(session) }
}

fn is_audio(media: &sdp_types::Media) -> bool {
    media.media.eq_ignore_ascii_case("audio")
}

/// The audio stream that counts: the first that is not refused, else the first.
fn chosen_audio(session: &sdp_types::Session) -> Option<usize> {
    let live = session.medias.iter().position(|m| is_audio(m) && m.port != 0);
    live.or_else(|| session.medias.iter().position(is_audio))
}

fn is_secure(media: &sdp_types::Media) -> bool {
    media.proto.to_ascii_uppercase().contains("SAVP")
}

#[cfg(test)]
mod tests;
