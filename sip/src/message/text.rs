//! The lexical bottom of RFC 3261 §25: tokens, quoted strings, lists and parameters.

use std::borrow::Cow;
use std::fmt;

/// Why a header could not be read; names what was wrong, for the reason phrase of a 400. Never what the peer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Syntax(pub &'static str);

/// `token` of RFC 3261 §25.1.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// The length of the quoted string that `text` begins with, both quotes included.
fn quoted_length(text: &str) -> Result<usize, Syntax> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(at + 1),
            _ => {}
        }
    }
    Err(Syntax("Unterminated Quoted String"))
}

/// The first place of one of `stops` outside quoted strings and angle brackets, or the end.
pub(super) fn find_outside(text: &str, stops: &[u8]) -> Result<usize, Syntax> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut angle = false;
    while at < bytes.len() {
        match bytes[at] {
            b'"' if !angle => {
                at += quoted_length(&text[at..])?;
                continue;
            }
            byte if !angle && stops.contains(&byte) => return Ok(at),
            b'<' if !angle => angle = true,
            b'>' if angle => angle = false,
            _ => {}
        }
        at += 1;
    }
    if angle { Err(Syntax("Unterminated Angle Bracket")) } else { Ok(bytes.len()) }
}

/// The elements of a comma-separated list, trimmed. An empty element is an error: RFC 3261 §7.3.1 has none.
pub fn list(text: &str) -> impl Iterator<Item = Result<&str, Syntax>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest.take()?;
        let end = match find_outside(current, b",") {
            Ok(end) => end,
            Err(error) => return Some(Err(error)),
        };
        rest = current.get(end + 1..);
        let element = current[..end].trim();
        Some(if element.is_empty() { Err(Syntax("Empty List Element")) } else { Ok(element) })
    })
}

/// Takes the quotes and backslashes off a quoted string; other text stays as it is.
#[must_use]
pub fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(text);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    Cow::Owned(plain)
}

/// Writes a quoted string. Line ends and NUL can't stand in one and become spaces.
pub fn write_quoted(to: &mut impl fmt::Write, text: &str) -> fmt::Result {
    to.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                to.write_char('\\')?;
                to.write_char(character)?;
            }
            character if character.is_control() => to.write_char(' ')?,
            character => to.write_char(character)?,
        }
    }
    to.write_char('"')
}

/// The longest number or name of a person that is taken from a message, in characters.
pub const MAX_SHOWN: usize = 64;

/// A number without the visual separators that people write into it (RFC 3966 §5.1.1; also spaces, and the dashes of
/// other keyboards): `+1 (555) 555-0100` is `+15555550100`. What is no number then is a name, and stays as it is.
#[must_use]
pub fn plain_number(text: &str) -> Cow<'_, str> {
    if !text.contains(is_separator) {
        return Cow::Borrowed(text);
    }
    let plain: String = text.chars().filter(|character| !is_separator(*character)).collect();
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    let is_number = digits.contains(|character: char| character.is_ascii_digit())
        && digits.chars().all(|character| matches!(character, '0'..='9' | 'A'..='D' | '*' | '#'));
    if is_number { Cow::Owned(plain) } else { Cow::Borrowed(text) }
}

fn is_separator(character: char) -> bool {
    matches!(character, '-' | '.' | '(' | ')' | '\u{2010}'..='\u{2015}' | '\u{2212}')
        || (character.is_whitespace() && !character.is_control())
}

/// Whether a character can make a reader see something else than what is written: control characters, and those that
/// change the direction of the text or that nobody sees. (The joiners of Indic and Persian script stay.)
#[must_use]
pub fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
            | '\u{e0100}'..='\u{e01ef}')
}

/// A name as others may see it: without what misleads, [`MAX_SHOWN`] characters at most. `None` when nothing is left.
#[must_use]
pub fn shown_name(text: &str) -> Option<String> {
    let visible: String = text.chars().filter(|character| !misleads(*character)).collect();
    let cut: String = visible.trim().chars().take(MAX_SHOWN).collect();
    let name = cut.trim_end();
    (!name.is_empty()).then(|| name.to_owned())
}
/// The most parameters of one address, URI or Via; 400 beyond. Each costs many times its bytes once it is read.
pub const MAX_PARAMS: usize = 64;

/// `;name=value` parameters in their order. Values keep their quotes; names compare without case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(Box<str>, Option<Box<str>>)>);

impl Params {
    /// Reads `;a;b=c`. The text is empty or begins with a semicolon.
    pub fn read(text: &str) -> Result<Self, Syntax> {
        let mut params = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            rest = rest.strip_prefix(';').ok_or(Syntax("Bad Parameter"))?;
            let end = find_outside(rest, b";")?;
            let (name, value) = match rest[..end].split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (rest[..end].trim(), None),
            };
            if !is_token(name) || value.is_some_and(|value| !is_value(value)) {
                return Err(Syntax("Bad Parameter"));
            }
            if params.len() == MAX_PARAMS {
                return Err(Syntax("Too Many Parameters"));
            }
            params.push((name.into(), value.map(Into::into)));
            rest = &rest[end..];
        }
        Ok(Self(params))
    }

    /// About how many bytes they take in memory.
    pub(super) fn weight(&self) -> usize {
        let of =
            |(name, value): &(Box<str>, Option<Box<str>>)| name.len() + value.as_deref().map_or(0, str::len);
        self.0.iter().map(|param| 64 + of(param)).sum()
    }

    /// The value; `Some("")` for a parameter without one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// Whether it is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether it is absent, or there once with a value that is no quoted string.
    #[must_use]
    pub fn has_at_most_one_value(&self, name: &str) -> bool {
        let mut values =
            self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let is_sound = match values.next() {
            Some(value) => value.as_deref().is_some_and(|value| !value.starts_with('"')),
            None => true,
        };
        is_sound && values.next().is_none()
    }

    /// Sets or adds one.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(Into::into);
        match self.0.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some(slot) => slot.1 = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }
}

/// A token, a host or a quoted string; what phones write beyond that is let through where it can't confuse.
fn is_value(text: &str) -> bool {
    if text.starts_with('"') {
        return quoted_length(text) == Ok(text.len());
    }
    !text.is_empty() && !text.bytes().any(|byte| byte <= b' ' || b"\",;<>".contains(&byte) || byte == 0x7f)
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value {
                Some(value) => write!(f, ";{name}={value}")?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_what_people_write_into_them() {
        for (written, plain) in [
            ("+1-555-0100", "+15550100"),
            ("(555) 01.00", "5550100"),
            ("+49\u{a0}30\u{2013}123", "+4930123"),
            ("*21*", "*21*"),
            ("12-AB", "12AB"),
            ("5550100", "5550100"),
            ("alice.smith", "alice.smith"),
            ("B.D", "B.D"),
            ("1+2-3", "1+2-3"),
            ("-", "-"),
            ("", ""),
        ] {
            assert_eq!(plain_number(written), plain, "{written:?}");
        }
    }

    #[test]
    fn names_show_what_is_written_and_no_more() {
        let shown = |text: &str| shown_name(text).unwrap_or_default();
        assert_eq!(shown("Ann\u{202e}\u{7}\u{200b} \u{feff}Lee\u{2066}"), "Ann Lee");
        assert_eq!(shown("  Zoë \u{646}\u{200c}\u{645}  "), "Zoë \u{646}\u{200c}\u{645}");
        assert_eq!(shown(&"é".repeat(65)), "é".repeat(64));
        assert_eq!(shown(&format!("{} x", "a".repeat(63))), "a".repeat(63));
        assert_eq!(shown_name(" \u{200f}\r\n\t"), None);
    }
}
