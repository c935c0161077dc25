//! Keys of encrypted media (SDES, RFC 4568): who has them, what they are, and what is wrong with them.

use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Whether the media of a device or trunk are encrypted (SDES-SRTP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaEncryption {
    /// No.
    #[default]
    None,
    /// Over TLS, where the other end can.
    Optional,
    /// Over TLS, or there is no call.
    Required,
}

/// A suite of SRTP (RFC 4568 §6.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Suite {
    AeadAes256Gcm,
    AeadAes128Gcm,
    AesCm128HmacSha1_80,
    AesCm128HmacSha1_32,
}

impl Suite {
    /// All of them, the strongest first.
    pub const ALL: [Suite; 4] =
        [Suite::AeadAes256Gcm, Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];

    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Suite::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Suite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// Bytes of its master key and of its master salt.
    #[must_use]
    pub fn lengths(self) -> (usize, usize) {
        match self {
            Suite::AeadAes256Gcm => (32, 12),
            Suite::AeadAes128Gcm => (16, 12),
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => (16, 14),
        }
    }
}

/// The key of one `a=crypto`; of several the first.
#[derive(Clone, PartialEq, Eq)]
pub struct SdesKey {
    /// For which suite.
    pub suite: Suite,
    /// The master key.
    pub key: Zeroizing<Vec<u8>>,
    /// The master salt.
    pub salt: Zeroizing<Vec<u8>>,
    /// Packets for which it is good, where it says.
    pub lifetime: Option<u64>,
    /// The identifier that its packets carry.
    pub mki: Option<Vec<u8>>,
}

impl fmt::Debug for SdesKey {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SdesKey({})", self.suite.name())
    }
}

/// A usable `a=crypto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// What answers name it by.
    pub tag: u32,
    /// Its key.
    pub key: Arc<SdesKey>,
}

impl Crypto {
    /// Whether one is the answer to the other: tag and suite.
    #[must_use]
    pub fn answers(&self, other: &Crypto) -> bool {
        self.tag == other.tag && self.key.suite == other.key.suite
    }
}

/// Why an `a=crypto` is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineFault {
    /// Its tag is missing, repeated, or no number up to 9 digits.
    Tag,
    /// A suite that nobody knows.
    Suite,
    /// No `inline:`.
    KeyMethod,
    /// No base64.
    Base64,
    /// Longer or shorter than the suite's key and salt.
    Length,
    /// Zero, beyond 2^48, or no number.
    Lifetime,
    /// A length outside 1–128, a number that it does not hold, or two keys with the same.
    Mki,
    /// A session parameter that weakens or changes SRTP.
    Parameter,
    /// Beyond the lines of a stream that are read.
    Number,
    /// An answer to nothing that was offered.
    Answer,
}

impl LineFault {
    /// All of them.
    pub const ALL: [LineFault; 10] = [
        LineFault::Tag,
        LineFault::Suite,
        LineFault::KeyMethod,
        LineFault::Base64,
        LineFault::Length,
        LineFault::Lifetime,
        LineFault::Mki,
        LineFault::Parameter,
        LineFault::Number,
        LineFault::Answer,
    ];

    /// The word for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LineFault::Tag => "tag",
            LineFault::Suite => "suite",
            LineFault::KeyMethod => "key_method",
            LineFault::Base64 => "base64",
            LineFault::Length => "length",
            LineFault::Lifetime => "lifetime",
            LineFault::Mki => "mki",
            LineFault::Parameter => "parameter",
            LineFault::Number => "number",
            LineFault::Answer => "answer",
        }
    }
}

/// Why there can be no encrypted media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureMediaRefusal {
    /// Its signalling is not TLS.
    Transport,
    /// It has no key that can be used.
    NoCrypto,
    /// The other end has none.
    PeerNotSecure,
}

impl SecureMediaRefusal {
    /// The word for alarms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SecureMediaRefusal::Transport => "transport",
            SecureMediaRefusal::NoCrypto => "no_crypto",
            SecureMediaRefusal::PeerNotSecure => "peer_not_secure",
        }
    }
}

impl fmt::Display for SecureMediaRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SecureMediaRefusal::Transport => "media are to be encrypted, and the signalling is not TLS",
            SecureMediaRefusal::NoCrypto => "no usable key for encrypted media",
            SecureMediaRefusal::PeerNotSecure => "media are to be encrypted, and the other end can't",
        })
    }
}
