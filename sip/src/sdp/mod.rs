//! Session descriptions (RFC 8866, offers and answers of RFC 3264): reading a peer's, writing our own.
//!
//! `sdp-types` gives the structure of every text that comes in, because it keeps what it doesn't know; the lines that
//! carry meaning for audio are then read by `webrtc-sdp`, one by one. `webrtc-sdp` never sees a whole text: it refuses
//! texts that real phones send (`m=image`, `o=` with a huge version), it puts the attributes of a media line that it
//! doesn't know under the line before, and it logs lines that it doesn't know, `a=crypto` with its key among them.

pub mod crypto;
mod read;
mod write;

pub use crypto::{Keys, LineFaults};
pub use read::read;
pub use write::{Describer, MediaPolicy};

use crate::port::{Profile, SecureMediaRefusal};
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
    /// The line of the offer that is to be answered isn't there, is refused, or can't be spoken here.
    #[error("the offer has no such line that can be answered")]
    Line,
    /// Keys are missing where they must be, or are no answer to what was offered.
    #[error("{0}")]
    Encryption(SecureMediaRefusal),
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
    let text = String::from_utf8_lossy(text);
    let session = sdp_types::Session::parse(text.as_bytes())
        .or_else(|_| sdp_types::Session::parse(without_origin(&text).as_bytes()))
        .map_err(|_| SdpError::Malformed)?;
    if session.medias.len() > MAX_MEDIA { Err(SdpError::TooLong) } else { Ok(session) }
}

/// The text without its origin line. That decides nothing here, ours takes its place in all that is passed on, and phones
/// write it without an address or with numbers that no integer holds.
fn without_origin(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with("o=")).collect()
}

fn is_audio(media: &sdp_types::Media) -> bool {
    media.media.eq_ignore_ascii_case("audio")
}

fn profile_of(media: &sdp_types::Media) -> Profile {
    match media.proto.to_ascii_uppercase().as_str() {
        "RTP/AVP" | "RTP/AVPF" => Profile::Plain,
        "RTP/SAVP" | "RTP/SAVPF" => Profile::Secure,
        "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF" => Profile::Dtls,
        _ => Profile::Other,
    }
}

/// A line of which nothing is wanted.
fn refused(media: &sdp_types::Media) -> sdp_types::Media {
    sdp_types::Media {
        port: 0,
        num_ports: None,
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
        ..media.clone()
    }
}

#[cfg(test)]
mod tests;
