//! Typed identities. No room hands a bare string or integer to another.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as it is written in the configuration and on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same text, not copied.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.into())
            }
        }
        impl From<String> for $name {
            fn from(s: String) -> Self {
                Self(s.into())
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }
    };
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub u64);

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
        impl TryFrom<String> for $name {
            type Error = UnknownId;
            fn try_from(text: String) -> Result<Self, UnknownId> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = UnknownId;
            /// Reads what `Display` wrote; anything else is an id that nobody ever issued.
            fn from_str(s: &str) -> Result<Self, UnknownId> {
                let digits = s.strip_prefix($prefix).ok_or(UnknownId)?;
                let canonical = !digits.is_empty()
                    && digits.len() <= 16
                    && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                    && (digits.len() == 1 || !digits.starts_with('0'));
                if !canonical {
                    return Err(UnknownId);
                }
                u64::from_str_radix(digits, 16).map(Self).map_err(|_| UnknownId)
            }
        }
    };
}

/// A text that is no id of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such id was ever issued")]
pub struct UnknownId;

name!(
    /// The name of a device: phone, CTI port or CTI route point (`SEP0019E8D3A001`, `RP_MAIN`).
    DeviceName
);
name!(
    /// A directory number. Always a text: `"0049"` and `"49"` differ.
    Dn
);
name!(
    /// The name of a trunk.
    TrunkName
);
name!(
    /// The name of a partition: numbers and patterns that are reached alike.
    PartitionName
);
name!(
    /// The name of a calling search space: the partitions that a caller reaches, in order.
    SearchSpaceName
);
name!(
    /// The name of a node of the cluster.
    NodeName
);
number!(
    /// A call: the global call id (GCID) of CUCM. Unique in the cluster, see `identity`.
    CallId, "c"
);
number!(
    /// A leg: one call on one line of one device (TAPI's hCall, JTAPI's TerminalConnection).
    LegId, "l"
);
number!(
    /// An end: what is at the far side of a leg. One that begins together with a leg has the leg's number.
    EndId, "e"
);
number!(
    /// A session: one open provider of one application.
    SessionId, "s"
);
number!(
    /// Names one request of one session until its reply; chosen by whoever makes the request, and unique in the cluster
    /// together with its session ([`crate::Identity::first_token`]).
    RequestToken, "r"
);

/// Which owner of a device a command is meant for. Who takes a device over takes a greater epoch than any that was seen,
/// and refuses what was sent to an earlier owner (P1). Nobody outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OwnerEpoch(pub u64);

impl OwnerEpoch {
    /// That of a device which was never taken over: of each device of a node that is alone.
    pub const FIRST: Self = Self(1);
}

impl Dn {
    /// A number as a person or a program wrote it: `tel:` and its parameters go, and so do visual separators (RFC 3966
    /// §5.1.1; also spaces, and the dashes of other keyboards). What is no number then stays as it is.
    #[must_use]
    pub fn written(text: &str) -> Self {
        let is_tel = text.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("tel:"));
        let number = if is_tel { text[4..].split(';').next().unwrap_or("") } else { text };
        let plain: String = number.chars().filter(|c| !is_visual_separator(*c)).collect();
        let digits = plain.strip_prefix('+').unwrap_or(&plain);
        let is_number = digits.contains(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| matches!(c, '0'..='9' | 'A'..='D' | '*' | '#'));
        if is_number { plain.into() } else { text.into() }
    }
}

/// Whether people write this character into numbers to make them legible, and for nothing else.
#[must_use]
pub fn is_visual_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '(' | ')' | '\u{2010}'..='\u{2015}' | '\u{2212}')
        || (c.is_whitespace() && !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (written, plain) in [
            ("tel:+1-555-0100", "+15550100"),
            ("TEL:555.0100;phone-context=+1;ext=9", "5550100"),
            ("+49 (30) 123\u{2013}4", "+49301234"),
            ("*21*", "*21*"),
            ("B.D", "B.D"),
            ("alice.smith", "alice.smith"),
            ("tel:x-1", "tel:x-1"),
            ("", ""),
        ] {
            assert_eq!(Dn::written(written).as_str(), plain, "{written:?}");
        }
    }

    #[test]
    fn ids_read_back_what_they_wrote_and_nothing_else() {
        for id in [LegId(0), LegId(0x1234_5678_9abc_def0), LegId(u64::MAX)] {
            assert_eq!(id.to_string().parse::<LegId>(), Ok(id));
        }
        for text in ["", "l", "c1", "lG", "l01", "l+1", "l11111111111111111", "L1", " l1"] {
            assert_eq!(text.parse::<LegId>(), Err(UnknownId), "{text:?}");
        }
    }
}
