//! Header fields: rsipstack's table of names and compact forms, our own readers of values.

use super::fields::{CSeq, NameAddr, RAck, SessionExpires, Via};
use super::text::{Syntax, list};
use rsipstack::sip::headers::make_header;
use rsipstack::sip::{Header, Headers as Fields};
use std::fmt;

/// The header fields of a message, in order. Names compare without case and answer to their long form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Fields);

impl fmt::Debug for Headers {
    /// Names only: values are people, numbers and digests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Header::name)).finish()
    }
}

impl Headers {
    /// The first value of this header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all headers of this name, one a header line; a line may hold a list (see [`Headers::elements`]).
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.0.iter().filter(move |header| header.name().eq_ignore_ascii_case(name)).map(Header::value)
    }

    /// The elements of a comma-separated header over all its lines.
    pub fn elements<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = Result<&'a str, Syntax>> + use<'a, 'n> {
        self.all(name).filter(|value| !value.is_empty()).flat_map(list)
    }

    /// All headers, as name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.0.iter().map(|header| (header.name(), header.value()))
    }

    /// How many header lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a header at the end. Line ends in the value become spaces: a value can't smuggle in a header.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(field(name, value.into()));
    }

    /// Adds a header before all others.
    pub fn push_front(&mut self, name: &str, value: impl Into<String>) {
        self.0.push_front(field(name, value.into()));
    }

    /// Replaces all headers of this name by one, at the place of the first.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let at = self.0.0.iter().position(|header| header.name().eq_ignore_ascii_case(name));
        self.remove(name);
        let at = at.unwrap_or(self.0.len()).min(self.0.len());
        self.0.0.insert(at, field(name, value.into()));
    }

    /// Takes all headers of this name away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|header| !header.name().eq_ignore_ascii_case(name));
    }

    /// Copies all headers of this name from another message, in their order.
    pub fn copy(&mut self, name: &str, from: &Headers) {
        let copied = from.0.0.iter().filter(|header| header.name().eq_ignore_ascii_case(name)).cloned();
        self.0.0.extend(copied);
    }

    /// The topmost Via.
    pub fn top_via(&self) -> Result<Via, Syntax> {
        let value = self.get("Via").ok_or(Syntax("Missing Via"))?;
        Via::read(list(value).next().unwrap_or(Err(Syntax("Empty Via")))?)
    }

    /// Replaces the topmost Via.
    pub fn set_top_via(&mut self, via: &Via) {
        let top = self.0.0.iter().position(|header| matches!(header, Header::Via(_)));
        let Some(at) = top else { return self.push_front("Via", via.to_string()) };
        let value = self.0.0[at].value();
        let rest = list(value).next().and_then(Result::ok).map_or(0, |first| {
            // `first` is a slice of `value`; what follows it begins with its comma.
            value.find(first).map_or(0, |start| start + first.len())
        });
        let value = format!("{via}{}", &value[rest..]);
        self.0.0[at] = field("Via", value);
    }

    /// Takes the topmost Via away.
    pub fn pop_via(&mut self) {
        let top = self.0.0.iter().position(|header| matches!(header, Header::Via(_)));
        let Some(at) = top else { return };
        let value = self.0.0[at].value();
        match super::text::find_outside(value, b",").ok().and_then(|comma| value.get(comma + 1..)) {
            Some(rest) => self.0.0[at] = field("Via", rest.trim().to_owned()),
            None => drop(self.0.0.remove(at)),
        }
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr, Syntax> {
        NameAddr::read(self.get("From").ok_or(Syntax("Missing From"))?)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr, Syntax> {
        NameAddr::read(self.get("To").ok_or(Syntax("Missing To"))?)
    }

    /// The tag of From.
    #[must_use]
    pub fn from_tag(&self) -> Option<&str> {
        self.get("From").and_then(tag_of)
    }

    /// The tag of To.
    #[must_use]
    pub fn to_tag(&self) -> Option<&str> {
        self.get("To").and_then(tag_of)
    }

    /// Gives To a tag unless it has one.
    pub fn tag_to(&mut self, tag: &str) {
        if self.to_tag().is_none()
            && let Some(to) = self.get("To")
        {
            let tagged = format!("{to};tag={tag}");
            self.set("To", tagged);
        }
    }

    /// Call-ID, `""` without one (the screen lets no such message in).
    #[must_use]
    pub fn call_id(&self) -> &str {
        self.get("Call-ID").unwrap_or("")
    }

    /// `CSeq`.
    pub fn cseq(&self) -> Result<CSeq, Syntax> {
        CSeq::read(self.get("CSeq").ok_or(Syntax("Missing CSeq"))?)
    }

    /// The contacts; `Contact: *` is [`NameAddr::is_star`].
    pub fn contacts(&self) -> Result<Vec<NameAddr>, Syntax> {
        self.name_addrs("Contact")
    }

    /// The elements of Route, Record-Route, Path, Diversion, P-Asserted-Identity and their like.
    pub fn name_addrs(&self, name: &str) -> Result<Vec<NameAddr>, Syntax> {
        self.elements(name).map(|element| NameAddr::read(element?)).collect()
    }

    /// Whether a list of tokens (Require, Supported, Allow, Privacy…) holds this one.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split([',', ';']))
            .any(|one| one.trim().eq_ignore_ascii_case(token))
    }

    /// A header that is a number of seconds or a count (Expires, Min-Expires, Retry-After, Max-Forwards, RSeq): its
    /// digits before any parameter or comment. What is too large for 32 bits reads as the largest number
    /// (RFC 3261 §20.19).
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        number(self.get(name)?)
    }

    /// Max-Forwards; 70 without one.
    #[must_use]
    pub fn max_forwards(&self) -> u8 {
        self.number("Max-Forwards").map_or(70, |left| u8::try_from(left).unwrap_or(u8::MAX))
    }

    /// Session-Expires (RFC 4028).
    #[must_use]
    pub fn session_expires(&self) -> Option<SessionExpires> {
        SessionExpires::read(self.get("Session-Expires")?)
    }

    /// `RAck` (RFC 3262).
    #[must_use]
    pub fn rack(&self) -> Option<RAck> {
        RAck::read(self.get("RAck")?)
    }

    /// The cause of a `Reason: Q.850;cause=…` (RFC 3326).
    #[must_use]
    pub fn q850(&self) -> Option<u16> {
        self.elements("Reason").filter_map(Result::ok).find_map(|reason| {
            let (protocol, params) = reason.split_once(';')?;
            let params = super::text::Params::read(&format!(";{params}")).ok()?;
            protocol.trim().eq_ignore_ascii_case("Q.850").then(|| params.get("cause")?.parse().ok())?
        })
    }

    /// Whether the caller wants to stay unknown (`Privacy: id`, `user` or `header`, RFC 3323).
    #[must_use]
    pub fn wants_privacy(&self) -> bool {
        ["id", "user", "header"].into_iter().any(|kind| self.has_token("Privacy", kind))
    }

    /// The media type of Content-Type in lower case, without parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        let value = self.get("Content-Type")?;
        Some(value.split(';').next().unwrap_or("").replace([' ', '\t'], "").to_ascii_lowercase())
    }

    pub(super) fn push_read(&mut self, name: &str, value: String) {
        self.0.push(make_header(long_name(name), value));
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        for header in self.0.iter() {
            if matches!(header, Header::ContentLength(_)) {
                continue;
            }
            to.extend_from_slice(header.name().as_bytes());
            to.extend_from_slice(b": ");
            to.extend_from_slice(header.value().as_bytes());
            to.extend_from_slice(b"\r\n");
        }
    }
}

fn field(name: &str, mut value: String) -> Header {
    if value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
        value = value.replace(|character: char| character.is_control() && character != '\t', " ");
    }
    make_header(long_name(name), value)
}

/// Compact forms that rsipstack's table lacks.
fn long_name(name: &str) -> &str {
    let [letter] = name.as_bytes() else { return name };
    match letter.to_ascii_lowercase() {
        b'a' => "Accept-Contact",
        b'd' => "Request-Disposition",
        b'j' => "Reject-Contact",
        b'n' => "Identity-Info",
        b'u' => "Allow-Events",
        b'y' => "Identity",
        _ => name,
    }
}

fn number(value: &str) -> Option<u32> {
    let digits = value.trim().bytes().take_while(u8::is_ascii_digit).count();
    let digits = &value.trim()[..digits];
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u32::MAX))
}

/// The tag without building a [`NameAddr`]: the hot path asks for it several times a message.
fn tag_of(value: &str) -> Option<&str> {
    let params = match super::text::find_outside(value, b";") {
        Ok(at) => &value[at..],
        Err(_) => return None,
    };
    params.split(';').skip(1).find_map(|param| {
        let (name, value) = param.split_once('=')?;
        name.trim().eq_ignore_ascii_case("tag").then(|| value.trim())
    })
}
