//! What is dialled: directory numbers, and CUCM's route pattern language.

use device_model::{Dn, is_visual_separator};
use security::devices::{NumberRange, PatternError};

/// The longest number or pattern, in characters.
pub(super) const MAX_DIGITS: usize = 50;
/// The most park numbers of a cluster.
pub(super) const MAX_PARK_NUMBERS: u64 = 10_000;

/// Reads a directory number: digits, A to D, `*` and `#`, with `+` at the beginning alone, and whatever people write
/// between digits to make them legible.
pub(super) fn number(text: &str) -> Result<Dn, String> {
    let number = Dn::written(text);
    let digits = number.as_str().strip_prefix('+').unwrap_or(number.as_str());
    if digits.is_empty() || number.as_str().len() > MAX_DIGITS {
        return Err(format!("a number has 1 to {MAX_DIGITS} digits"));
    }
    match digits.chars().find(|c| !is_digit(*c)) {
        None => Ok(number),
        Some(other) => Err(format!(
            "`{other}` can't be dialled: a number has 0-9, *, #, A-D, and + at the beginning alone"
        )),
    }
}

/// A pattern without what people write into it to make it legible: spaces and parentheses, and hyphens outside of sets.
/// The dot has a meaning here.
pub(super) fn plain_pattern(text: &str) -> String {
    let mut in_set = false;
    let keep = |c: &char| {
        in_set = (in_set || *c == '[') && *c != ']';
        *c == '.' || !is_visual_separator(*c) || (in_set && *c == '-')
    };
    text.chars().filter(keep).collect()
}

/// A range of park numbers, or one: `8801-8810`, `8801`. A hyphen makes a range here.
pub(super) fn park_range(text: &str) -> Result<Vec<String>, String> {
    if !text.contains('-') {
        return number(text).map(|number| vec![number.to_string()]);
    }
    let plain: String = text.chars().filter(|c| *c == '-' || !is_visual_separator(*c)).collect();
    let range = NumberRange::parse(&plain).map_err(|error| match error {
        PatternError::Width => {
            "both ends of a range have the same number of digits: \"8801-8810\"".to_owned()
        }
        PatternError::Backwards => "a range runs from the lower to the higher number".to_owned(),
        PatternError::Range | PatternError::TooLong | PatternError::Empty => {
            "a range of numbers is written \"8801-8810\"".to_owned()
        }
    })?;
    if range.count() > MAX_PARK_NUMBERS {
        return Err(format!("more than {MAX_PARK_NUMBERS} park numbers"));
    }
    Ok(range.texts().collect())
}

/// A route pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    pub(super) has_dot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    One(char),
    /// `X`: any digit.
    Digit,
    /// `!`: one or more digits.
    Rest,
    /// `[1-5]`, `[^13]`.
    Set {
        chars: Vec<char>,
        not: bool,
    },
}

impl Pattern {
    /// Reads a pattern: digits, `X`, `!`, `[1-5]`, `[^1]`, one `.`, `+`, `*`, `#`. CUCM's `@` needs a numbering plan
    /// that nobody has here.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_DIGITS {
            return Err(format!("a pattern has 1 to {MAX_DIGITS} characters"));
        }
        let (mut parts, mut has_dot) = (Vec::new(), false);
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                'X' => parts.push(Part::Digit),
                '!' => parts.push(Part::Rest),
                '.' if has_dot => return Err("a pattern has one dot at most".into()),
                '.' => has_dot = true,
                '[' => {
                    let inner: String = chars.by_ref().take_while(|c| *c != ']').collect();
                    if !text.contains(']') {
                        return Err("`[` without `]`".into());
                    }
                    parts.push(set(&inner)?);
                }
                '\\' if chars.as_str().starts_with('+') => {}
                '+' if parts.is_empty() => parts.push(Part::One('+')),
                '@' => return Err("`@` is not understood: name the numbers by digits, X and !".into()),
                c if is_digit(c) => parts.push(Part::One(c)),
                other => {
                    return Err(format!(
                        "`{other}` has no meaning in a pattern: 0-9, *, #, A-D, X, !, [1-5], [^1], ., +"
                    ));
                }
            }
        }
        if parts.is_empty() {
            return Err("a pattern needs at least one digit or wildcard".into());
        }
        Ok(Self { parts, has_dot })
    }

    /// Whether a dialled number is one that the pattern means.
    pub(super) fn matches(&self, number: &str) -> bool {
        let mut reached = vec![true];
        reached.resize(number.chars().count() + 1, false);
        for part in &self.parts {
            let mut next = vec![false; reached.len()];
            for (at, digit) in number.chars().enumerate() {
                let from_before = reached[at];
                let goes_on = matches!(part, Part::Rest) && next[at];
                next[at + 1] |= (from_before || goes_on) && part.takes(digit);
            }
            reached = next;
        }
        reached.last().copied().unwrap_or(false)
    }
}

impl Part {
    fn takes(&self, digit: char) -> bool {
        match self {
            Part::One(wanted) => *wanted == digit,
            Part::Digit | Part::Rest => digit.is_ascii_digit(),
            Part::Set { chars, not } => chars.contains(&digit) != *not && is_digit(digit),
        }
    }
}

fn set(inner: &str) -> Result<Part, String> {
    let wrong = || format!("`[{inner}]` is no set of digits: write [135], [1-5] or [^1]");
    let (not, inner_chars) = match inner.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, inner),
    };
    let mut chars = Vec::new();
    let mut left = inner_chars.chars().peekable();
    while let Some(first) = left.next() {
        if left.next_if_eq(&'-').is_none() {
            if !is_digit(first) {
                return Err(wrong());
            }
            chars.push(first);
            continue;
        }
        match left.next() {
            Some(last) if first.is_ascii_digit() && last.is_ascii_digit() && first <= last => {
                chars.extend(first..=last);
            }
            _ => return Err(wrong()),
        }
    }
    if chars.is_empty() { Err(wrong()) } else { Ok(Part::Set { chars, not }) }
}

fn is_digit(c: char) -> bool {
    matches!(c, '0'..='9' | 'A'..='D' | '*' | '#')
}

#[cfg(test)]
mod tests {
    use super::{Pattern, number, park_range};
    use device_model::Dn;

    #[test]
    fn numbers_are_what_can_be_dialled() {
        for good in ["5000", "+4930123", "0049", "*8", "#1", "A1"] {
            assert_eq!(number(good), Ok(good.into()), "{good}");
        }
        for written in ["+1-555-0100", "+1 (555) 01.00", "tel:+1-555-0100;ext=1"] {
            assert_eq!(number(written), Ok("+15550100".into()), "{written}");
        }
        for bad in ["", "+", "-", "5000x", "1+2", "alice", "9.!", &"1".repeat(51)] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match_whole_numbers() {
        for (pattern, yes, no) in [
            ("9.!", &["91", "9123"][..], &["9", "8123", ""][..]),
            ("1XX", &["100", "199"], &["1", "1000", "1*0"]),
            ("[2-4]X[^0]", &["201", "499"], &["101", "200", "501"]),
            ("0!1", &["011", "01231"], &["01", "0123"]),
            (r"\+49.!", &["+491"], &["491", "+49"]),
            ("*8#", &["*8#"], &["*8"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            for text in yes {
                assert!(parsed.matches(text), "{pattern} should match {text:?}");
            }
            for text in no {
                assert!(!parsed.matches(text), "{pattern} should not match {text:?}");
            }
        }
        for bad in ["", ".", "9.1.!", "[", "[]", "[^]", "[3-1]", "[a]", "9@", "9x", "1+2", &"X".repeat(51)] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_signalling_reads_numbers_as_applications_and_the_configuration_do() {
        for text in
            ["+1 (555) 01-00", "555.0100", "a-b", "*21*", "12\u{2013}34", "1\r\n2", "B.D", "++1-2", ""]
        {
            let heard = sip::message::text::plain_number(text);
            assert_eq!(heard, Dn::written(text).as_str(), "{text:?}");
        }
    }

    #[test]
    fn patterns_may_be_written_legibly() {
        for (written, plain) in [
            ("9.1-555-XXXX", "9.1555XXXX"),
            (r"\+1 (555) [2-4]X-[^1-3]!", r"\+1555[2-4]X[^1-3]!"),
            ("0.!", "0.!"),
        ] {
            assert_eq!(super::plain_pattern(written), plain);
            assert!(Pattern::parse(plain).is_ok(), "{plain}");
        }
    }

    #[test]
    fn park_ranges_are_expanded_within_a_bound() {
        assert_eq!(park_range("8809-8811").unwrap(), ["8809", "8810", "8811"]);
        assert_eq!(park_range("8801").unwrap(), ["8801"]);
        assert_eq!(park_range("(88) 01 - (88) 02").unwrap(), ["8801", "8802"]);
        for bad in ["8810-8801", "1-99999", "8801-", "x", "00000-99999"] {
            assert!(park_range(bad).is_err(), "{bad}");
        }
    }
}
