//! Names and patterns of devices: what a user's list of controlled devices is made of.

use device_model::DeviceName;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// The longest pattern, in bytes, and the longest name that a pattern can match.
pub const MAX_PATTERN_BYTES: usize = 120;

/// A name with wildcards: `*` is any text, `?` any one character, `[001-100]` any number of that range, written with as
/// many digits as its ends.
#[derive(Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: Arc<str>,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Byte(u8),
    One,
    Any,
    Range(NumberRange),
}

/// A range of numbers of one width: `[001-100]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberRange {
    /// The first.
    pub first: u64,
    /// The last, not below the first.
    pub last: u64,
    /// Digits, with leading zeros.
    pub width: usize,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Too long.
    #[error("a name or pattern has at most {MAX_PATTERN_BYTES} characters")]
    TooLong,
    /// Nothing there.
    #[error("a name or pattern is not empty")]
    Empty,
    /// Not `[FIRST-LAST]`.
    #[error("a range is written [FIRST-LAST] with digits, as [001-100]")]
    Range,
    /// The ends have different widths.
    #[error("both ends of a range have the same number of digits, as [001-100]")]
    Width,
    /// It runs backwards.
    #[error("a range runs from the lower to the higher number")]
    Backwards,
}

impl NumberRange {
    /// Reads `001-100`: what stands between the brackets.
    ///
    /// # Errors
    /// When it is no range of numbers of one width, at most 18 digits.
    pub fn parse(inner: &str) -> Result<Self, PatternError> {
        let (first, last) = inner.split_once('-').ok_or(PatternError::Range)?;
        let digits = |s: &str| (1..=18).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return Err(PatternError::Range);
        }
        if first.len() != last.len() {
            return Err(PatternError::Width);
        }
        let width = first.len();
        let number = |s: &str| s.parse().map_err(|_| PatternError::Range);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(PatternError::Backwards);
        }
        Ok(Self { first, last, width })
    }

    /// How many numbers it holds; at least one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Its numbers as texts.
    pub fn texts(self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(move |n| format!("{n:0width$}", width = self.width))
    }

    fn holds(&self, digits: &[u8]) -> bool {
        digits.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(digits)
                .ok()
                .and_then(|s| s.parse().ok())
                .is_some_and(|n: u64| (self.first..=self.last).contains(&n))
    }
}

impl NamePattern {
    /// Reads a pattern. A text without wildcards is a pattern, too, that only itself matches.
    ///
    /// # Errors
    /// When it is empty, too long, or a range in it is none.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            let mut used = 1;
            match byte {
                b'*' if parts.last() == Some(&Part::Any) => {}
                b'*' => parts.push(Part::Any),
                b'?' => parts.push(Part::One),
                b'[' => {
                    let end = rest.find(']').ok_or(PatternError::Range)?;
                    parts.push(Part::Range(NumberRange::parse(&rest[1..end])?));
                    used = end + 1;
                }
                _ => {
                    // A character of several bytes is compared byte by byte.
                    used = rest.chars().next().map_or(1, char::len_utf8);
                    parts.extend(rest.as_bytes()[..used].iter().map(|b| Part::Byte(*b)));
                }
            }
            rest = &rest[used..];
        }
        Ok(Self { text: text.into(), parts })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every name begins with that the pattern means.
    fn prefix(&self) -> &str {
        let end = self.text.find(['*', '?', '[']).unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Whether the whole name is one that the pattern means. Work grows with pattern times name, never faster.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.as_bytes();
        if name.len() > MAX_PATTERN_BYTES {
            return false;
        }
        // Bit i: everything before byte i of the name is matched by the parts so far.
        let within: u128 = (1 << (name.len() + 1)) - 1;
        let mut reached: u128 = 1;
        for part in &self.parts {
            reached = match part {
                Part::Any if reached == 0 => 0,
                Part::Any => within & !((1 << reached.trailing_zeros()) - 1),
                Part::One => (reached << 1) & within,
                Part::Byte(wanted) => advance(reached, name, 1, |bytes| bytes[0] == *wanted),
                Part::Range(range) => advance(reached, name, range.width, |digits| range.holds(digits)),
            };
            if reached == 0 {
                return false;
            }
        }
        reached >> name.len() & 1 == 1
    }
}

/// Moves every position that `fits` on by `width` bytes.
fn advance(reached: u128, name: &[u8], width: usize, fits: impl Fn(&[u8]) -> bool) -> u128 {
    let mut next = 0;
    let mut left = reached;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        if name.get(at..at + width).is_some_and(&fits) {
            next |= 1 << (at + width);
        }
    }
    next
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamePattern({})", self.text)
    }
}

/// The devices that a user may control: names and patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlledDevices {
    names: BTreeSet<DeviceName>,
    patterns: Vec<NamePattern>,
}

impl ControlledDevices {
    /// Adds an entry as the administrator wrote it.
    ///
    /// # Errors
    /// When it is no name and no pattern.
    pub fn add(&mut self, entry: &str) -> Result<(), PatternError> {
        let pattern = NamePattern::parse(entry)?;
        if entry.contains(['*', '?', '[']) {
            self.patterns.push(pattern);
        } else {
            self.names.insert(entry.into());
        }
        Ok(())
    }

    /// Whether it has more than names.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The first text, from this one on, with which a name on the list may begin: all names between are on none of its
    /// entries. `None`: there is no further one.
    #[must_use]
    pub fn next_from<'a>(&'a self, from: &'a str) -> Option<&'a str> {
        let name = self.names.range::<str, _>((Bound::Included(from), Bound::Unbounded)).next();
        let of_pattern = |pattern: &'a NamePattern| {
            let prefix = pattern.prefix();
            if from.starts_with(prefix) { Some(from) } else { Some(prefix).filter(|prefix| *prefix > from) }
        };
        let patterns = self.patterns.iter().filter_map(of_pattern);
        patterns.chain(name.map(DeviceName::as_str)).min()
    }

    /// The entry that lets the user control the device.
    #[must_use]
    pub fn entry_for(&self, device: &str) -> Option<&str> {
        if let Some(name) = self.names.get(device) {
            return Some(name.as_str());
        }
        self.patterns.iter().find(|pattern| pattern.matches(device)).map(NamePattern::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{ControlledDevices, NamePattern, NumberRange, PatternError};

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, yes, no) in [
            ("RP_MAIN", &["RP_MAIN"][..], &["RP_MAIN2", "XRP_MAIN", "rp_main", ""][..]),
            ("PORT_*", &["PORT_", "PORT_1", "PORT_*"], &["PORT", "XPORT_1"]),
            ("*", &["", "a", "ä"], &[]),
            ("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "acb", "abcd"]),
            ("SEP?2", &["SEP12", "SEP?2"], &["SEP2", "SEP122"]),
            ("P_[001-100]", &["P_001", "P_100", "P_042"], &["P_000", "P_101", "P_1", "P_0001", "P_+01"]),
            ("*[1-3]x", &["1x", "a3x", "11x"], &["4x", "1", "x"]),
        ] {
            let parsed = NamePattern::parse(pattern).unwrap();
            for name in yes {
                assert!(parsed.matches(name), "{pattern} should match {name:?}");
            }
            for name in no {
                assert!(!parsed.matches(name), "{pattern} should not match {name:?}");
            }
        }
    }

    #[test]
    fn a_hostile_pattern_is_refused_or_costs_little() {
        assert_eq!(NamePattern::parse(""), Err(PatternError::Empty));
        assert_eq!(NamePattern::parse(&"*".repeat(121)), Err(PatternError::TooLong));
        for text in ["[", "[]", "[1]", "[-]", "[a-b]", "[1-", "[1-1234567890123456789]"] {
            assert_eq!(NamePattern::parse(text), Err(PatternError::Range), "{text}");
        }
        assert_eq!(NamePattern::parse("[1-10]"), Err(PatternError::Width));
        assert_eq!(NamePattern::parse("[9-1]"), Err(PatternError::Backwards));
        let nasty = NamePattern::parse(&"*a".repeat(60)).unwrap();
        assert!(!nasty.matches(&"a".repeat(59)));
        assert!(nasty.matches(&"a".repeat(120)));
        assert!(!nasty.matches(&"a".repeat(121)));
    }

    #[test]
    fn ranges_keep_their_width() {
        let range = NumberRange::parse("098-101").unwrap();
        assert_eq!(range.texts().collect::<Vec<_>>(), ["098", "099", "100", "101"]);
        assert_eq!(range.count(), 4);
    }

    #[test]
    fn a_list_tells_which_entry_it_was() {
        let mut list = ControlledDevices::default();
        list.add("RP_MAIN").unwrap();
        list.add("PORT_*").unwrap();
        assert_eq!(list.entry_for("RP_MAIN"), Some("RP_MAIN"));
        assert_eq!(list.entry_for("PORT_7"), Some("PORT_*"));
        assert_eq!(list.entry_for("RP_OTHER"), None);
    }

    #[test]
    fn a_list_says_where_its_next_name_may_be() {
        let mut list = ControlledDevices::default();
        ["PORT_*", "A1", "X?", "SEP[01-20]"].iter().for_each(|entry| list.add(entry).unwrap());
        for (from, next) in [
            ("", Some("A1")),
            ("A1", Some("A1")),
            ("A2", Some("PORT_")),
            ("PORT_000", Some("PORT_000")),
            ("PORT_zzz", Some("PORT_zzz")),
            ("Q", Some("SEP")),
            ("SEPx", Some("SEPx")),
            ("T", Some("X")),
            ("Y", None),
        ] {
            assert_eq!(list.next_from(from), next, "{from}");
        }
    }
}
