//! Media as the model sees it: codecs, directions, addresses. The text of a session description passes through unread.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// An audio codec by its RTP name (RFC 3551 and the payload formats' own RFCs).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Anything else that a phone offers; applications can't name it. With clock rate (and channels) where these are not
    /// 8000 Hz and one: `speex/16000`, `PCMU/16000`.
    Other(Arc<str>),
}

impl Codec {
    /// The codec behind an `a=rtpmap` value: name (without regard to case), clock rate in Hz and channels. A name that an
    /// application may give, at a clock or with channels that its RTP format hasn't, is another codec. G.729's Annex A is
    /// the same stream for either end, and its Annex B is agreed elsewhere (`annexb`), whatever the name says.
    #[must_use]
    pub fn from_rtpmap(name: &str, clock_rate: u32, channels: u8) -> Codec {
        let codec = match name.to_ascii_uppercase().as_str() {
            "G729A" | "G729B" | "G729AB" => Codec::G729,
            upper => Codec::from_upper_case(upper).unwrap_or_else(|| Codec::Other(name.into())),
        };
        let fits = match codec.defaults() {
            // `opus/48000` without its `/2` is written, too; the stream is the same (RFC 7587 §7).
            Some((clock, most, _)) => clock_rate == clock && (1..=most).contains(&channels),
            None => clock_rate == 8000 && channels == 1,
        };
        match (fits, channels) {
            (true, _) => codec,
            (false, 0 | 1) => Codec::Other(format!("{name}/{clock_rate}").into()),
            (false, _) => Codec::Other(format!("{name}/{clock_rate}/{channels}").into()),
        }
    }

    /// The RTP name that an application gives; comparison is without case.
    #[must_use]
    pub fn from_rtp_name(name: &str) -> Codec {
        Codec::from_upper_case(&name.to_ascii_uppercase()).unwrap_or_else(|| Codec::Other(name.into()))
    }

    fn from_upper_case(name: &str) -> Option<Codec> {
        Some(match name {
            "PCMU" => Codec::Pcmu,
            "PCMA" => Codec::Pcma,
            "G722" => Codec::G722,
            "G729" => Codec::G729,
            "OPUS" => Codec::Opus,
            _ => return None,
        })
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

    /// Name, clock rate in Hz and channels, as `a=rtpmap` writes them.
    #[must_use]
    pub fn rtpmap(&self) -> (&str, u32, u8) {
        match self.defaults() {
            Some((clock_rate, channels, _)) => (self.rtp_name(), clock_rate, channels),
            None => {
                let mut parts = self.rtp_name().split('/');
                let name = parts.next().unwrap_or_default();
                let clock_rate = parts.next().and_then(|part| part.parse().ok()).unwrap_or(8000);
                (name, clock_rate, parts.next().and_then(|part| part.parse().ok()).unwrap_or(1))
            }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// What of this direction another allows.
    #[must_use]
    pub fn within(self, other: Direction) -> Direction {
        Direction::from(Flow {
            sends: self.sends() && other.sends(),
            receives: self.receives() && other.receives(),
        })
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
}

/// What a describer does of the two that a direction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// It sends.
    pub sends: bool,
    /// It receives.
    pub receives: bool,
}

impl From<Flow> for Direction {
    fn from(Flow { sends, receives }: Flow) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendReceive,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::ReceiveOnly,
            (false, false) => Direction::Inactive,
        }
    }
}

/// What carries a media line, as far as it decides who can speak it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// RTP/AVP and RTP/AVPF.
    Plain,
    /// RTP/SAVP and RTP/SAVPF, with keys in the description (RFC 4568).
    Secure,
    /// SRTP with keys by DTLS (RFC 5764).
    Dtls,
    /// Anything else.
    Other,
}

/// One audio line of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioLine {
    /// Its place among all media lines of the description, from 0.
    pub place: usize,
    /// What carries it.
    pub profile: Profile,
    /// Where its describer wants to receive; port 0 = refused.
    pub address: SocketAddr,
    /// What it can receive, preferred first, telephone-event not among them.
    pub formats: SmallVec<[Format; 4]>,
    /// RFC 4733 telephone-event payload type at 8 kHz, if it has one.
    pub dtmf_payload_type: Option<u8>,
    /// Its direction.
    pub direction: Direction,
    /// Packet length in milliseconds (`ptime`), 20 when it said nothing.
    pub packet_ms: u16,
    /// Its usable keys for SRTP (RFC 4568), in its order. They came over TLS.
    pub crypto: SmallVec<[Crypto; 1]>,
}

/// A key in somebody's custody: what it is, this room has no need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyRef(pub u64);

/// A suite of SRTP, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum SrtpSuite {
    AeadAes256Gcm,
    AeadAes128Gcm,
    AesCm128HmacSha1_80,
    AesCm128HmacSha1_32,
}

/// A key with which a describer sends, as it offers or answers with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// What an answer names it by.
    pub tag: u32,
    /// For what.
    pub suite: SrtpSuite,
    /// Which.
    pub key: KeyRef,
}

impl Crypto {
    /// No keys.
    #[must_use]
    pub fn none() -> SmallVec<[Crypto; 1]> {
        SmallVec::new()
    }

    /// The keys by which two lines are encrypted: that of one and that of the other. One answers the other by tag and suite;
    /// of two offers it is the strongest suite that both have.
    pub(crate) fn agreed(here: &AudioLine, there: &AudioLine) -> Option<(KeyRef, KeyRef)> {
        let pairs = || here.crypto.iter().flat_map(|a| there.crypto.iter().map(move |b| (a, b)));
        let same_suite = || pairs().filter(|(a, b)| a.suite == b.suite);
        let answered = here.crypto.len() == 1 || there.crypto.len() == 1;
        let answer = same_suite().find(|(a, b)| answered && a.tag == b.tag);
        let found = answer.or_else(|| same_suite().min_by_key(|(a, _)| a.suite));
        found.map(|(a, b)| (a.key, b.key))
    }
}

impl AudioLine {
    /// Whether it is offered or accepted, even if nothing flows.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.address.port() != 0
    }

    /// Its payload format of a codec.
    #[must_use]
    pub fn format_of(&self, codec: &Codec) -> Option<&Format> {
        self.formats.iter().find(|format| format.codec == *codec)
    }
}

/// What one end of a leg said of its media (an offer or an answer of RFC 3264), read once at the door.
#[derive(Clone, PartialEq, Eq)]
pub struct Description {
    /// Its audio lines in their order, refused ones among them. Lines that nobody here can read are left out.
    pub audio: SmallVec<[AudioLine; 1]>,
    /// A line of another kind (video, fax) is there and not refused.
    pub other_media: bool,
    /// One of those is without a key.
    pub other_clear: bool,
    /// Whether it came over TLS.
    pub over_tls: bool,
    /// The whole text, for an end that is to see it (rewritten at its door).
    /// The model passes it on and never looks inside; it may hold key material, so `Debug` keeps silent about it.
    pub text: Arc<[u8]>,
}

impl Description {
    /// The first audio line that is not refused.
    #[must_use]
    pub fn live_audio(&self) -> Option<&AudioLine> {
        self.audio.iter().find(|line| line.is_live())
    }

    /// Whether each of its lines is refused: there is nothing to agree on.
    #[must_use]
    pub fn refuses_all(&self) -> bool {
        !self.other_media && self.live_audio().is_none()
    }

    /// Whether an answer that came after it is another one for the peer. Its direction answers ours and says nothing new.
    pub(crate) fn is_other_for_peer(&self, now: &Description) -> bool {
        let of_audio = |description: &Description| {
            let line = description.live_audio();
            line.map(|line| {
                (
                    line.place,
                    line.address,
                    line.formats.first().cloned(),
                    line.dtmf_payload_type,
                    line.crypto.clone(),
                )
            })
        };
        of_audio(self) != of_audio(now)
            || self.other_media != now.other_media
            || (now.other_media && !now.other_clear && self.text != now.text)
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("audio", &self.audio)
            .field("other_media", &self.other_media)
            .field("text", &format_args!("{} bytes", self.text.len()))
            .finish()
    }
}

/// How an application ends the media of its port or route point (reference §3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamDirection {
    /// What the device receives, at its own address.
    Input,
    /// What the device sends, to the far address.
    Output,
}

/// A stream that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// SRTP: the key of its packets.
    pub key: Option<KeyRef>,
}

impl Stream {
    /// Whether one goes on as it was, or there is none before and after. The mode tells of the other stream too, and another
    /// key comes into force while it runs: these are no reason to start it again.
    #[must_use]
    pub fn is_same(before: Option<&Stream>, after: Option<&Stream>) -> bool {
        match (before, after) {
            (Some(before), Some(after)) => {
                let as_after = Stream { mode: after.mode, key: after.key, ..before.clone() };
                as_after == *after && before.key.is_some() == after.key.is_some()
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}
