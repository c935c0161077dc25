//! Messages: read through a screen, written with the right lengths.
//!
//! Header names and status phrases come from `rsipstack::sip`. Lines, URIs and values are read here, because that
//! library loses or alters what a B2BUA must hand back unaltered.

mod fields;
mod headers;
mod method;
mod multipart;
mod read;
#[cfg(test)]
mod tests;
pub mod text;
mod uri;

pub use fields::{CSeq, NameAddr, RAck, Refresher, SessionExpires, Via};
pub use headers::Headers;
pub use method::Method;
pub(crate) use read::head_end;
pub use read::{MAX_HEADER_LINES, MAX_LINE_BYTES, MAX_MESSAGE_BYTES, Malformed, read};
pub use text::{Params, Syntax};
pub use uri::{Scheme, Uri};

use rsipstack::sip::StatusCode;
use std::fmt;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message {
    Request(Request),
    Response(Response),
}

impl Message {
    /// Either kind's headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        match self {
            Message::Request(request) => request.write(),
            Message::Response(response) => response.write(),
        }
    }
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// The headers. Content-Length is written, never kept.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    /// Neither numbers nor bodies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} + {} bytes", self.method, self.headers, self.body.len())
    }
}

impl Request {
    /// A request without headers. The transaction layer adds the Via.
    #[must_use]
    pub fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: Headers::default(), body: Vec::new() }
    }

    /// With a body and its Content-Type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.headers.set("Content-Type", content_type);
        self.body = body;
        self
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + self.body.len());
        bytes.extend_from_slice(self.method.as_str().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(self.uri.as_str().as_bytes());
        bytes.extend_from_slice(b" SIP/2.0\r\n");
        finish(bytes, &self.headers, &self.body)
    }
}

/// A response.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// 100–699
    pub status: u16,
    /// The reason phrase, where it isn't the standard's.
    pub phrase: Option<Box<str>>,
    /// The headers. Content-Length is written, never kept.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    /// Neither numbers nor bodies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} + {} bytes", self.status, self.headers, self.body.len())
    }
}

impl Response {
    /// The answer to a request (RFC 3261 §8.2.6): its Via, From, To, Call-ID and `CSeq`; Timestamp in a 100, and
    /// Record-Route in what makes a dialog (§12.1.1). `tag` is the To tag for any status but 100, unless To has one.
    #[must_use]
    pub fn to(request: &Request, status: u16, tag: Option<&str>) -> Self {
        let mut headers = Headers::default();
        let record_route = (101..300).contains(&status).then_some("Record-Route");
        let timestamp = (status == 100).then_some("Timestamp");
        let echoed =
            ["Via", "From", "To", "Call-ID", "CSeq"].into_iter().chain(record_route).chain(timestamp);
        echoed.for_each(|name| headers.copy(name, &request.headers));
        if let Some(tag) = tag.filter(|_| status != 100) {
            headers.tag_to(tag);
        }
        Self { status, phrase: None, headers, body: Vec::new() }
    }

    /// The first line.
    #[must_use]
    pub fn status_line(status: u16) -> String {
        format!("SIP/2.0 {status} {}", StatusCode::from(status).text())
    }

    /// With another reason phrase.
    #[must_use]
    pub fn with_phrase(mut self, phrase: &str) -> Self {
        self.phrase = Some(phrase.replace(|character: char| character.is_control(), " ").into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// With a body and its Content-Type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.headers.set("Content-Type", content_type);
        self.body = body;
        self
    }

    /// 1xx.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + self.body.len());
        bytes.extend_from_slice(format!("SIP/2.0 {} ", self.status).as_bytes());
        match &self.phrase {
            Some(phrase) => bytes.extend_from_slice(phrase.as_bytes()),
            None => bytes.extend_from_slice(StatusCode::from(self.status).text().as_bytes()),
        }
        bytes.extend_from_slice(b"\r\n");
        finish(bytes, &self.headers, &self.body)
    }
}

fn finish(mut bytes: Vec<u8>, headers: &Headers, body: &[u8]) -> Vec<u8> {
    headers.write(&mut bytes);
    bytes.extend_from_slice(b"Content-Length: ");
    bytes.extend_from_slice(body.len().to_string().as_bytes());
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
    bytes
}
