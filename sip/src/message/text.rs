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
            params.push((name.into(), value.map(Into::into)));
            rest = &rest[end..];
        }
        Ok(Self(params))
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
