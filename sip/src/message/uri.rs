//! URIs, kept as they were written.
//!
//! A URI of a Contact or a Route goes back to its owner byte for byte: re-escaping it would name another resource.

use super::text::{Syntax, plain_number};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What stands before the first colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    /// Wants 416 in a Request-URI.
    Other,
}

/// A URI: its text and where its parts are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    text: Box<str>,
    scheme: Scheme,
    user: Option<(u32, u32)>,
    host: (u32, u32),
    port: Option<u16>,
    /// Where the parameters end and the headers begin (a question mark, or the text's end).
    params: (u32, u32),
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const BAD_URI: Syntax = Syntax("Bad URI");

impl Uri {
    /// Reads a URI without angle brackets. Any scheme is read; only `sip`, `sips` and `tel` are taken apart.
    pub fn read(text: &str) -> Result<Self, Syntax> {
        let (scheme, rest) = text.split_once(':').ok_or(BAD_URI)?;
        if text.len() > 4096 || text.bytes().any(|byte| byte <= b' ' || b"<>\"\\^`{|}\x7f".contains(&byte)) {
            return Err(BAD_URI);
        }
        let start = scheme.len() + 1;
        match scheme {
            _ if scheme.eq_ignore_ascii_case("sip") => Self::read_sip(text, Scheme::Sip, start),
            _ if scheme.eq_ignore_ascii_case("sips") => Self::read_sip(text, Scheme::Sips, start),
            _ if scheme.eq_ignore_ascii_case("tel") => {
                let end = start + rest.find([';', '?']).unwrap_or(rest.len());
                let user = Some(span(start, end));
                Ok(Self::of(text, Scheme::Tel, user, span(end, end), None, end))
            }
            _ if is_scheme(scheme) && !rest.is_empty() => {
                let end = text.len();
                Ok(Self::of(text, Scheme::Other, None, span(end, end), None, end))
            }
            _ => Err(BAD_URI),
        }
    }

    fn read_sip(text: &str, scheme: Scheme, start: usize) -> Result<Self, Syntax> {
        let (user, host_start) = match text[start..].find('@') {
            Some(at) => {
                let userinfo = &text[start..start + at];
                let user_end = userinfo.find(':').unwrap_or(at);
                if user_end == 0 || !escapes_are_sound(userinfo) {
                    return Err(BAD_URI);
                }
                (Some(span(start, start + user_end)), start + at + 1)
            }
            None => (None, start),
        };
        let rest = &text[host_start..];
        if rest.contains('@') {
            return Err(BAD_URI);
        }
        let host_port_end = host_start + rest.find([';', '?']).unwrap_or(rest.len());
        let (host_end, port) = split_host_port(&text[host_start..host_port_end])?;
        let host = span(host_start, host_start + host_end);
        if !escapes_are_sound(&text[host_port_end..]) {
            return Err(BAD_URI);
        }
        Ok(Self::of(text, scheme, user, host, port, host_port_end))
    }

    fn of(
        text: &str,
        scheme: Scheme,
        user: Option<(u32, u32)>,
        host: (u32, u32),
        port: Option<u16>,
        params: usize,
    ) -> Self {
        let params_end = params + text[params..].find('?').unwrap_or(text.len() - params);
        Self { text: text.into(), scheme, user, host, port, params: span(params, params_end) }
    }

    /// `sip:user@host:port`; characters that the user part may not hold are escaped.
    #[must_use]
    pub fn sip(user: &str, host: &str, port: Option<u16>) -> Self {
        let mut text = String::from("sip:");
        if !user.is_empty() {
            escape_user(&mut text, user);
            text.push('@');
        }
        if host.contains(':') && !host.starts_with('[') {
            text.push('[');
            text.push_str(host);
            text.push(']');
        } else {
            text.push_str(host);
        }
        if let Some(port) = port {
            text.push(':');
            text.push_str(&port.to_string());
        }
        // A host that can't stand in a URI comes from the configuration; it must not bring the node down.
        Self::read(&text).unwrap_or_else(|_| Self::invalid())
    }

    /// `sip:user@address`.
    #[must_use]
    pub fn at(user: &str, address: SocketAddr) -> Self {
        Self::sip(user, &address.ip().to_string(), Some(address.port()))
    }

    fn invalid() -> Self {
        let text = "sip:invalid.invalid";
        Self::of(text, Scheme::Sip, None, span(4, text.len()), None, text.len())
    }

    /// With one more parameter (before the headers, if there are any).
    #[must_use]
    pub fn with_param(&self, name: &str, value: Option<&str>) -> Self {
        let at = self.params.1 as usize;
        let equals = value.map_or_else(String::new, |value| format!("={value}"));
        let text = format!("{};{name}{equals}{}", &self.text[..at], &self.text[at..]);
        let mut uri = self.clone();
        uri.params.1 += span(0, text.len() - self.text.len()).1;
        uri.text = text.into();
        uri
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The user part without its escapes, `""` without one. Of a `tel` URI: the number.
    #[must_use]
    pub fn user(&self) -> Cow<'_, str> {
        self.user.map_or(Cow::Borrowed(""), |user| unescape(self.part(user)))
    }

    /// The user part as a number: without parameters of its own (`;phone-context`, `;ext`, `;npdi`) and without visual
    /// separators. A name stays as it is. `""` without a user part, and for schemes that name nobody who can be called.
    #[must_use]
    pub fn number(&self) -> String {
        match self.scheme {
            Scheme::Sip | Scheme::Sips | Scheme::Tel => {
                let user = self.user();
                plain_number(user.split(';').next().unwrap_or("")).into_owned()
            }
            Scheme::Other => String::new(),
        }
    }

    /// The host; an IPv6 address in its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.part(self.host)
    }

    /// The port, if it is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The host as an address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        host_ip(self.host())
    }

    /// A parameter's value; `Some("")` for one without a value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.part(self.params).split(';').skip(1).find_map(|param| {
            let (key, value) = param.split_once('=').unwrap_or((param, ""));
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// What follows the question mark.
    #[must_use]
    pub fn headers(&self) -> Option<&str> {
        self.text.get(self.params.1 as usize + 1..)
    }

    /// One of the headers that follow the question mark, without its escapes.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.headers()?.split('&').find_map(|header| {
            let (key, value) = header.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| unescape(value))
        })
    }

    /// Whether both name the same resource, near enough for registrar and dialogs (RFC 3261 §19.1.4): scheme, user,
    /// host without case, port, and the parameters that must agree.
    #[must_use]
    pub fn same_resource(&self, other: &Self) -> bool {
        let param = |name| match (self.param(name), other.param(name)) {
            (Some(one), Some(two)) => one.eq_ignore_ascii_case(two),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.scheme == other.scheme
            && self.user() == other.user()
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port == other.port
            && (self.scheme != Scheme::Other || self.text == other.text)
            && ["transport", "user", "ttl", "method", "maddr"].into_iter().all(param)
    }

    fn part(&self, (start, end): (u32, u32)) -> &str {
        &self.text[start as usize..end as usize]
    }
}

/// Spans are within 4 KiB texts when read, and a few more bytes when built.
fn span(start: usize, end: usize) -> (u32, u32) {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    (narrow(start), narrow(end))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// An address as it stands in a host part.
#[must_use]
pub(super) fn host_ip(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Reads `host[:port]`: the host's length and the port.
pub(super) fn split_host_port(text: &str) -> Result<(usize, Option<u16>), Syntax> {
    let bad = Err(Syntax("Bad Host"));
    let host_end = if text.starts_with('[') {
        match text.find(']') {
            Some(end) if text[1..end].parse::<std::net::Ipv6Addr>().is_ok() => end + 1,
            _ => return bad,
        }
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let host = &text[..end];
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        {
            return bad;
        }
        end
    };
    let port = match text[host_end..].strip_prefix(':') {
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            match port.parse() {
                Ok(port) => Some(port),
                Err(_) => return bad,
            }
        }
        None if host_end == text.len() => None,
        Some(_) | None => return bad,
    };
    Ok((host_end, port))
}

/// Every percent sign is followed by two hexadecimal digits.
fn escapes_are_sound(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Takes percent escapes off; what is not UTF-8 then becomes the replacement character.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digits = if byte == b'%' { (bytes.next(), bytes.next()) } else { (None, None) };
        match digits {
            (Some(high), Some(low)) => plain.push((hex(high) << 4) | hex(low)),
            _ => plain.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

fn escape_user(to: &mut String, user: &str) {
    use fmt::Write as _;
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            to.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}
