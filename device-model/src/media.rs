//! Media as the model sees it: who sends what to which address. Session descriptions pass through as opaque texts.

use smallvec::SmallVec;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// An audio codec by its RTP name (RFC 3551 and the payload formats' own RFCs).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// G.711 µ-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
    /// G.722, static payload type 9; its RTP clock says 8000 (RFC 3551 §4.5.2).
    G722,
    /// G.729, static payload type 18.
    G729,
    /// Opus (RFC 7587), dynamic payload type, 48000/2.
    Opus,
    /// Anything else that a phone offers; applications can't name it.
    Other(Arc<str>),
}

impl Codec {
    /// The RTP name; comparison is without case.
    #[must_use]
    pub fn from_rtp_name(name: &str) -> Codec {
        match name.to_ascii_uppercase().as_str() {
            "PCMU" => Codec::Pcmu,
            "PCMA" => Codec::Pcma,
            "G722" => Codec::G722,
            "G729" => Codec::G729,
            "OPUS" => Codec::Opus,
            _ => Codec::Other(name.into()),
        }
    }

    /// The name on the CTI wire.
    #[must_use]
    pub fn rtp_name(&self) -> &str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::G729 => "G729",
            Codec::Opus => "opus",
            Codec::Other(name) => name,
        }
    }

    /// RTP clock rate in Hz, channels, and the payload type to offer it under, of a codec that an application may name.
    #[must_use]
    pub fn defaults(&self) -> Option<(u32, u8, u8)> {
        match self {
            Codec::Pcmu => Some((8000, 1, 0)),
            Codec::Pcma => Some((8000, 1, 8)),
            Codec::G722 => Some((8000, 1, 9)),
            Codec::G729 => Some((8000, 1, 18)),
            Codec::Opus => Some((48000, 2, 111)),
            Codec::Other(_) => None,
        }
    }
}

/// One payload format of a description, in the order of its sender's preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// RTP payload type, 0–127.
    pub payload_type: u8,
    /// The codec behind it.
    pub codec: Codec,
}

/// Which way media flows, seen from the describer (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `sendrecv`
    SendReceive,
    /// `sendonly`
    SendOnly,
    /// `recvonly`
    ReceiveOnly,
    /// `inactive`
    Inactive,
}

impl Direction {
    /// Whether the describer sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendReceive | Direction::SendOnly)
    }
    /// Whether the describer receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendReceive | Direction::ReceiveOnly)
    }
    /// The same flow seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Direction {
        match self {
            Direction::SendOnly => Direction::ReceiveOnly,
            Direction::ReceiveOnly => Direction::SendOnly,
            same @ (Direction::SendReceive | Direction::Inactive) => same,
        }
    }
    /// The direction that sends and receives as told.
    #[must_use]
    pub fn of(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendReceive,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::ReceiveOnly,
            (false, false) => Direction::Inactive,
        }
    }
}

/// What one end of a leg said of its audio (an offer or an answer of RFC 3264), read once at the door.
#[derive(Clone, PartialEq, Eq)]
pub struct Description {
    /// Where it wants to receive; port 0 = audio refused.
    pub address: SocketAddr,
    /// What it can receive, preferred first, telephone-event not among them.
    pub formats: SmallVec<[Format; 4]>,
    /// RFC 4733 telephone-event payload type at 8 kHz, if it has one.
    pub dtmf_payload_type: Option<u8>,
    /// Its direction.
    pub direction: Direction,
    /// Packet length in milliseconds (`ptime`), 20 when it said nothing.
    pub packet_ms: u16,
    /// Whether the audio of this description is SRTP (an `a=crypto` or a secure profile).
    pub encrypted: bool,
    /// The whole text, for an end that is to see it (rewritten at its door). Empty when the model made it.
    /// The model passes it on and never looks inside; it may hold key material, so `Debug` keeps silent about it.
    pub text: Arc<[u8]>,
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("address", &self.address)
            .field("formats", &self.formats)
            .field("dtmf_payload_type", &self.dtmf_payload_type)
            .field("direction", &self.direction)
            .field("packet_ms", &self.packet_ms)
            .field("encrypted", &self.encrypted)
            .field("text", &format_args!("{} bytes", self.text.len()))
            .finish()
    }
}

/// How an application ends the media of its port or route point (reference §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaTermination {
    /// Never: the application only routes. Route points only.
    None,
    /// One address for all calls of the device.
    Static {
        /// Where it receives.
        address: SocketAddr,
        /// The codecs it has: a set, kept sorted so that two registrations compare.
        codecs: Vec<Codec>,
        /// SRTP suites by their registered names, sorted.
        srtp: Vec<Arc<str>>,
    },
    /// An address for each call, asked for when media is about to be set up.
    Dynamic {
        /// The codecs it has: a set, kept sorted so that two registrations compare.
        codecs: Vec<Codec>,
        /// SRTP suites by their registered names, sorted.
        srtp: Vec<Arc<str>>,
    },
}

/// Seen from the device: `Input` = what it receives, `Output` = what it sends (reference §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamDirection {
    /// What the device receives, at its own address.
    Input,
    /// What the device sends, to the far address.
    Output,
}

/// A stream that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Input or output.
    pub direction: StreamDirection,
    /// Input: the device's own address. Output: the far address.
    pub address: SocketAddr,
    /// The codec of the stream.
    pub codec: Codec,
    /// Its payload type in this direction.
    pub payload_type: u8,
    /// Packet length, milliseconds.
    pub packet_ms: u16,
    /// Telephone-event's payload type in this direction.
    pub dtmf_payload_type: Option<u8>,
    /// Both streams of the leg together, seen from the device.
    pub mode: Direction,
    /// SRTP.
    pub encrypted: bool,
}
