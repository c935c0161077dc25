//! Values of the headers that everyone needs.

use super::method::Method;
use super::text::{MAX_PARAMS, Params, Syntax, find_outside, is_token, unquote, write_quoted};
use super::uri::{Uri, host_ip, split_host_port};
use std::fmt;
use std::net::IpAddr;

/// A `name-addr` or `addr-spec` with the header's parameters (From, To, Contact, Route…).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name without quotes and escapes.
    pub name: Option<String>,
    /// The URI. Of `*` it says `sip:*`, see [`NameAddr::is_star`].
    pub uri: Uri,
    /// Parameters of the header, not of the URI.
    pub params: Params,
    star: bool,
}

impl NameAddr {
    /// A URI alone.
    #[must_use]
    pub fn of(uri: Uri) -> Self {
        Self { name: None, uri, params: Params::default(), star: false }
    }

    /// Reads one element.
    pub fn read(text: &str) -> Result<Self, Syntax> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self { star: true, ..Self::of(Uri::sip("", "star.invalid", None)) });
        }
        let Some(open) = open_angle(text)? else {
            // Without brackets, parameters belong to the header and the URI can't have headers (RFC 3261 §20.10).
            let end = text.find(';').unwrap_or(text.len());
            if text[..end].contains(['?', ',']) {
                return Err(Syntax("URI Wants Angle Brackets"));
            }
            let uri = Uri::read(text[..end].trim_end())?;
            return Ok(Self { params: Params::read(&text[end..])?, ..Self::of(uri) });
        };
        let close = open + text[open..].find('>').ok_or(Syntax("Unterminated Angle Bracket"))?;
        let name = display_name(text[..open].trim())?;
        let uri = Uri::read(text[open + 1..close].trim())?;
        Ok(Self { name, uri, params: Params::read(&text[close + 1..])?, star: false })
    }

    /// The `tag` parameter.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag")
    }

    /// `Contact: *`.
    #[must_use]
    pub fn is_star(&self) -> bool {
        self.star
    }

    /// The `expires` parameter of a Contact, seconds. What isn't a number counts as absent (RFC 3261 §20.10).
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        let text = self.params.get("expires")?;
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u32::MAX))
    }

    /// The `q` parameter in thousandths; 1000 without one.
    #[must_use]
    pub fn q_thousandths(&self) -> u16 {
        let Some(text) = self.params.get("q") else { return 1000 };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
        let thousandths =
            digits.fold(0, |sum, digit| sum * 10 + u16::from(digit.saturating_sub(b'0').min(9)));
        if whole == "0" || whole.is_empty() { thousandths } else { 1000 }
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.star {
            return f.write_str("*");
        }
        if let Some(name) = &self.name {
            write_quoted(f, name)?;
            f.write_str(" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// The `<` outside a quoted display name.
fn open_angle(text: &str) -> Result<Option<usize>, Syntax> {
    if !text.starts_with('"') {
        return Ok(text.find('<'));
    }
    // A quoted name must be followed by its URI in brackets.
    let end = text[1..]
        .bytes()
        .scan(false, |escaped, byte| {
            let closes = byte == b'"' && !*escaped;
            *escaped = byte == b'\\' && !*escaped;
            Some(closes)
        })
        .position(|closes| closes)
        .ok_or(Syntax("Unterminated Quoted String"))?;
    let after = end + 2;
    match text[after..].find(|character: char| !character.is_ascii_whitespace()) {
        Some(at) if text[after + at..].starts_with('<') => Ok(Some(after + at)),
        Some(_) | None => Err(Syntax("Bad Display Name")),
    }
}

/// Tokens or one quoted string. What is in between (`Bell, Alexander <…>`) is let through if it can't confuse a reader.
fn display_name(text: &str) -> Result<Option<String>, Syntax> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('"') && text.contains(['"', '<', '>', ';', '\\']) {
        return Err(Syntax("Bad Display Name"));
    }
    Ok(Some(unquote(text).into_owned()))
}

/// One Via.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS` or something unknown, in capitals.
    pub transport: String,
    /// The host of sent-by; IPv6 in brackets.
    pub host: String,
    /// The port of sent-by.
    pub port: Option<u16>,
    /// branch, received, rport…
    pub params: Params,
}

impl Via {
    /// Reads one element of a Via header.
    pub fn read(text: &str) -> Result<Self, Syntax> {
        let end = find_outside(text, b";")?;
        let params = Params::read(&text[end..])?;
        Self::read_sent_by(&text[..end], Some("2.0"), params)
    }

    /// What can be saved of the topmost Via of a request that is refused: its sender wants an answer, whatever else is
    /// wrong with it (RFC 4475 §3.1.2.1, §3.1.2.16).
    pub(super) fn salvage(text: &str) -> Option<Self> {
        let first = text.split(',').next().unwrap_or("");
        let mut parts = first.split(';');
        let sent = parts.next().unwrap_or("");
        let readable = parts.filter_map(|param| Params::read(&format!(";{param}")).ok());
        // Our answer adds `received` and `rport`.
        let params = readable.take(MAX_PARAMS - 2).map(|params| params.to_string()).collect::<String>();
        Self::read_sent_by(sent, None, Params::read(&params).ok()?).ok()
    }

    fn read_sent_by(text: &str, wanted: Option<&str>, params: Params) -> Result<Self, Syntax> {
        const BAD: Syntax = Syntax("Bad Via");
        let mut parts = text.splitn(3, '/');
        let (protocol, version) = (parts.next().ok_or(BAD)?.trim(), parts.next().ok_or(BAD)?.trim());
        if !protocol.eq_ignore_ascii_case("SIP") || wanted.is_some_and(|wanted| version != wanted) {
            return Err(BAD);
        }
        let sent = parts.next().ok_or(BAD)?.trim();
        let (transport, sent_by) = sent.split_once([' ', '\t']).ok_or(BAD)?;
        let sent_by: String = sent_by.chars().filter(|character| !character.is_ascii_whitespace()).collect();
        let (host, port) = split_host_port(&sent_by)?;
        if !is_token(transport) || sent_by.len() > 255 {
            return Err(BAD);
        }
        Ok(Self { transport: transport.to_ascii_uppercase(), host: sent_by[..host].to_owned(), port, params })
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.host.len() + self.params.weight()
    }

    /// The branch, `""` without one (RFC 2543).
    #[must_use]
    pub fn branch(&self) -> &str {
        self.params.get("branch").unwrap_or("")
    }

    /// `received`.
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        self.params.get("received").and_then(host_ip)
    }

    /// `rport`: asked for (`Some(None)`) or filled in.
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|port| port.parse().ok())
    }

    /// The port of sent-by or the transport's own.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.transport == "TLS" { 5061 } else { 5060 })
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

/// `CSeq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// Below 2³¹.
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl CSeq {
    /// Reads the value.
    pub fn read(text: &str) -> Result<Self, Syntax> {
        const BAD: Syntax = Syntax("Bad CSeq");
        let (number, method) = text.trim().split_once([' ', '\t']).ok_or(BAD)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BAD);
        }
        let number = number.parse().ok().filter(|number| *number < 1 << 31).ok_or(BAD)?;
        Ok(Self { number, method: Method::read(method.trim()).ok_or(BAD)? })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// Who refreshes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// Who sent the request.
    Uac,
    /// Who answers it.
    Uas,
}

/// Session-Expires (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// Seconds.
    pub seconds: u32,
    /// Named by the header or left open.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (seconds, params) = text.split_once(';').unwrap_or((text, ""));
        let params =
            Params::read(&if params.is_empty() { String::new() } else { format!(";{params}") }).ok()?;
        let refresher = match params.get("refresher") {
            Some(who) if who.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(who) if who.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            Some(_) | None => None,
        };
        Some(Self { seconds: seconds.trim().parse().ok()?, refresher })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refresher {
            Some(Refresher::Uac) => write!(f, "{};refresher=uac", self.seconds),
            Some(Refresher::Uas) => write!(f, "{};refresher=uas", self.seconds),
            None => write!(f, "{}", self.seconds),
        }
    }
}

/// `RAck` (RFC 3262 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// `RSeq` of the response.
    pub rseq: u32,
    /// `CSeq` of the response.
    pub cseq: CSeq,
}

impl RAck {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (rseq, cseq) = text.trim().split_once([' ', '\t'])?;
        Some(Self { rseq: rseq.parse().ok()?, cseq: CSeq::read(cseq).ok()? })
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rseq, self.cseq)
    }
}
