//! The screen: from bytes of anyone to a message whose mandatory headers are there and can be read.

use super::multipart;
use super::text::{MAX_PARAMS, Syntax, list};
use super::{CSeq, Headers, Message, Method, NameAddr, Request, Response, Scheme, Uri, Via};
use crate::port::Transport;

/// The longest message. No datagram is longer; a longer message ends a stream.
pub const MAX_MESSAGE_BYTES: usize = 65_536;
/// The most header lines of a message; 400 beyond.
pub const MAX_HEADER_LINES: usize = 256;
/// The longest header line, folded lines joined; 400 beyond.
pub const MAX_LINE_BYTES: usize = 16_384;

/// Why bytes are no message, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Only line ends: a keep-alive (RFC 5626 §4.4.1). Over UDP it wants nothing.
    KeepAlive,
    /// Broken beyond an answer, a response, or an ACK: say nothing.
    Discard(Syntax),
    /// Answer this; it has the request's Via, From, To, Call-ID and CSeq as far as they could be read.
    Answer(Box<Response>),
}

/// Reads one message: a datagram, or what the framer cut from a stream.
///
/// # Errors
/// What can't be accepted says how it wants to be answered: 400 with the mistake as its phrase, 505 for another
/// version of SIP, or silence.
pub fn read(bytes: &[u8], transport: Transport) -> Result<Message, Malformed> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).ok_or(Malformed::KeepAlive)?;
    let bytes = &bytes[start..];
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Malformed::Discard(Syntax("Message Too Large")));
    }
    let (head, body) = split_head(bytes);
    let head = decode(head);
    let mut lines = head.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let first = lines.next().unwrap_or("");
    let start_line = StartLine::read(first).map_err(Malformed::Discard)?;
    let headers = read_headers(lines);
    let (mut headers, outcome) = match headers {
        Ok(headers) => (headers, Ok(())),
        Err((headers, syntax)) => (headers, Err(syntax)),
    };
    let outcome = outcome.and_then(|()| check(&headers, &start_line));
    let length = outcome.and_then(|()| body_length(&headers, body.len(), transport));
    // From here on the body knows its length itself.
    headers.remove("Content-Length");
    let mut message = start_line.finish(headers, body, length)?;
    match &mut message {
        Message::Request(Request { headers, body, .. })
        | Message::Response(Response { headers, body, .. }) => {
            multipart::unwrap(headers, body);
        }
    }
    Ok(message)
}

/// The head without its empty line, and the body. A datagram without an empty line is all head: nothing is lost by
/// taking it.
fn split_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    match head_end(bytes, 0) {
        Some((head, body)) => (&bytes[..head], &bytes[body..]),
        None => (bytes.strip_suffix(b"\n").unwrap_or(bytes), &[]),
    }
}

/// Where the head ends and where the body begins; the empty line is searched from `from` on.
pub(crate) fn head_end(bytes: &[u8], mut from: usize) -> Option<(usize, usize)> {
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\n') {
        let line_end = from + at;
        match &bytes[line_end + 1..] {
            [b'\n', ..] => return Some((line_end, line_end + 2)),
            [b'\r', b'\n', ..] => return Some((line_end, line_end + 3)),
            _ => from = line_end + 1,
        }
    }
    None
}

/// UTF-8 as RFC 3261 wants it; else Latin-1, as old phones write it, so that no header is lost.
fn decode(head: &[u8]) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(head) {
        Ok(text) => text.into(),
        Err(_) => head.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
    }
}

enum StartLine {
    Request { method: Method, uri: Result<Uri, Syntax>, version_known: bool },
    Response { status: u16, phrase: Box<str> },
}

impl StartLine {
    fn read(line: &str) -> Result<Self, Syntax> {
        if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/")) {
            return Self::read_status(line);
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let method = words.next().and_then(Method::read).ok_or(Syntax("Bad Method"))?;
        let last = words.next_back().ok_or(Syntax("Bad Request Line"))?;
        let version = last.get(..4).filter(|start| start.eq_ignore_ascii_case("SIP/")).map(|_| &last[4..]);
        let version = version.ok_or(Syntax("Bad Request Line"))?;
        // Exactly one URI and single spaces: RFC 4475 §3.1.2.8 and §3.1.2.10 want 400 for anything else.
        let uri = match (words.next(), words.next()) {
            (Some(uri), None) if line.split(' ').count() == 3 => Uri::read(uri).and_then(without_headers),
            _ => Err(Syntax("Bad Request Line")),
        };
        Ok(Self::Request { method, uri, version_known: version == "2.0" })
    }

    fn read_status(line: &str) -> Result<Self, Syntax> {
        const BAD: Syntax = Syntax("Bad Status Line");
        let mut parts = line.splitn(3, ' ');
        let version = parts.next().ok_or(BAD)?;
        let status = parts.next().ok_or(BAD)?.trim();
        let phrase = parts.next().unwrap_or("").trim();
        let known = version.eq_ignore_ascii_case("SIP/2.0");
        let status =
            Some(status).filter(|status| known && status.len() == 3).and_then(|status| status.parse().ok());
        let status = status.filter(|status| (100..700).contains(status)).ok_or(BAD)?;
        Ok(Self::Response { status, phrase: phrase.into() })
    }

    fn finish(
        self,
        headers: Headers,
        body: &[u8],
        length: Result<usize, Syntax>,
    ) -> Result<Message, Malformed> {
        match self {
            Self::Response { status, phrase } => {
                let body = body[..length.map_err(Malformed::Discard)?].to_vec();
                let standard = rsipstack::sip::StatusCode::from(status);
                let phrase = (standard.text() != &*phrase).then_some(phrase);
                Ok(Message::Response(Response { status, phrase, headers, body }))
            }
            Self::Request { method, version_known: false, .. } => Err(refuse(&method, &headers, 505, None)),
            Self::Request { method, uri, version_known: true } => {
                match uri.and_then(|uri| Ok((uri, length?))) {
                    Ok((uri, length)) => {
                        Ok(Message::Request(Request { method, uri, headers, body: body[..length].to_vec() }))
                    }
                    Err(syntax) => Err(refuse(&method, &headers, 400, Some(syntax))),
                }
            }
        }
    }
}

/// A Request-URI has no headers (RFC 3261 §19.1.1, RFC 4475 §3.1.2.11).
fn without_headers(uri: Uri) -> Result<Uri, Syntax> {
    let plain = uri.headers().is_none() || uri.scheme() == Scheme::Other;
    if plain { Ok(uri) } else { Err(Syntax("Headers In Request-URI")) }
}

/// The answer to a request that could not be accepted; silence for an ACK, and where no Via says whom to answer.
fn refuse(method: &Method, headers: &Headers, status: u16, syntax: Option<Syntax>) -> Malformed {
    let via = headers.get("Via").and_then(Via::salvage).filter(|_| *method != Method::Ack);
    let Some(via) = via else { return Malformed::Discard(syntax.unwrap_or(Syntax("Unknown Version"))) };
    let mut answer = Response { status, phrase: None, headers: Headers::default(), body: Vec::new() };
    match check_vias(headers) {
        Ok(()) => answer.headers.copy("Via", headers),
        Err(_) => answer.headers.push("Via", via.to_string()),
    }
    for name in ["From", "To", "Call-ID", "CSeq"] {
        if let Some(value) = headers.get(name) {
            answer.headers.push(name, value);
        }
    }
    if let Some(Syntax(mistake)) = syntax {
        answer = answer.with_phrase(mistake);
    }
    Malformed::Answer(Box::new(answer))
}

/// Joins folded lines and takes the headers apart. On a mistake what was read so far comes back with it, and so does
/// what follows, since the answer needs Via and its like.
fn read_headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Headers, (Headers, Syntax)> {
    let mut headers = Headers::default();
    let mut mistake = None;
    let mut pending: Option<(&str, String)> = None;
    for line in lines {
        if line.starts_with([' ', '\t']) {
            match (&mut pending, clean(line.trim())) {
                (Some((_, value)), Ok(more)) if value.len() + more.len() <= MAX_LINE_BYTES => {
                    if !value.is_empty() && !more.is_empty() {
                        value.push(' ');
                    }
                    value.push_str(&more);
                }
                (Some(_), Ok(_)) => mistake = Some(Syntax("Header Too Long")),
                (_, Err(syntax)) => mistake = Some(syntax),
                (None, Ok(_)) => mistake = Some(Syntax("Bad Header")),
            }
            continue;
        }
        if let Some((name, value)) = pending.take() {
            headers.push_read(name, value);
        }
        match line.split_once(':') {
            _ if headers.len() >= MAX_HEADER_LINES => {
                mistake = Some(Syntax("Too Many Headers"));
                break;
            }
            _ if line.len() > MAX_LINE_BYTES => mistake = Some(Syntax("Header Too Long")),
            Some((name, value)) if super::text::is_token(name.trim_end()) => match clean(value.trim()) {
                Ok(value) => pending = Some((name.trim_end(), value)),
                Err(syntax) => mistake = Some(syntax),
            },
            Some(_) | None => mistake = Some(Syntax("Bad Header")),
        }
    }
    if let Some((name, value)) = pending {
        headers.push_read(name, value);
    }
    match mistake {
        None => Ok(headers),
        Some(syntax) => Err((headers, syntax)),
    }
}

/// A header value may hold tabs but no other control character, except where a backslash escapes it in a quoted
/// string; there it becomes a space, since nobody may write it again.
fn clean(value: &str) -> Result<String, Syntax> {
    if !value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
        return Ok(value.to_owned());
    }
    let escaped = |at: usize| value[..at].ends_with('\\');
    let sound = value.char_indices().all(|(at, one)| !one.is_ascii_control() || one == '\t' || escaped(at));
    if !sound {
        return Err(Syntax("Control Character"));
    }
    Ok(value.replace(|one: char| one.is_ascii_control(), " ").trim_end().to_owned())
}

/// Headers of which a message has exactly one.
const MANDATORY: [(&str, Syntax); 4] = [
    ("From", Syntax("Missing Or Repeated From")),
    ("To", Syntax("Missing Or Repeated To")),
    ("Call-ID", Syntax("Missing Or Repeated Call-ID")),
    ("CSeq", Syntax("Missing Or Repeated CSeq")),
];

fn check(headers: &Headers, start: &StartLine) -> Result<(), Syntax> {
    check_vias(headers)?;
    for (name, syntax) in MANDATORY {
        let mut values = headers.all(name);
        if values.next().is_none_or(str::is_empty) || values.next().is_some() {
            return Err(syntax);
        }
    }
    for name in ["From", "To"] {
        let has_sound_tag =
            NameAddr::read(headers.get(name).unwrap_or(""))?.params.has_at_most_one_value("tag");
        has_sound_tag.then_some(()).ok_or(Syntax("Bad Tag"))?;
    }
    let cseq = CSeq::read(headers.get("CSeq").unwrap_or(""))?;
    if headers.call_id().contains([' ', '\t']) {
        return Err(Syntax("Bad Call-ID"));
    }
    match start {
        StartLine::Request { method, .. } if cseq.method != *method => Err(Syntax("CSeq Method Mismatch")),
        StartLine::Request { .. } => check_request(headers),
        StartLine::Response { .. } => Ok(()),
    }
}

fn check_vias(headers: &Headers) -> Result<(), Syntax> {
    for value in headers.all("Via") {
        for element in list(value) {
            Via::read(element?)?;
        }
    }
    headers.top_via().map(drop)
}

fn check_request(headers: &Headers) -> Result<(), Syntax> {
    // What we add to them in our answer must have room.
    for name in ["Via", "To"] {
        if headers.get(name).is_some_and(|value| value.matches(';').count() + 2 > MAX_PARAMS) {
            return Err(Syntax("Too Many Parameters"));
        }
    }
    let mut limits = headers.all("Max-Forwards");
    if let Some(limit) = limits.next() {
        let number = limit.parse::<u8>();
        if number.is_err() || limits.next().is_some() {
            return Err(Syntax("Bad Max-Forwards"));
        }
    }
    for name in ["Contact", "Route", "Record-Route"] {
        headers.name_addrs(name)?;
    }
    Ok(())
}

/// How many bytes of `present` are the body (RFC 3261 §18.3).
fn body_length(headers: &Headers, present: usize, transport: Transport) -> Result<usize, Syntax> {
    const BAD: Syntax = Syntax("Bad Content-Length");
    let mut lengths = headers.all("Content-Length");
    let Some(length) = lengths.next() else {
        return match transport {
            Transport::Udp => Ok(present),
            // The framer cut the message where its Content-Length said, so without one there is no body.
            Transport::Tcp | Transport::Tls => Ok(0),
        };
    };
    if lengths.next().is_some() || length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BAD);
    }
    length.parse().ok().filter(|length| *length <= present).ok_or(BAD)
}
