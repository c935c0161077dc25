//! Requests that are refused whatever the state of their dialog (RFC 3261 §8.2).

use super::context::{Cx, Server};
use super::values::{ACCEPT, ALLOW, SDP, SUPPORTED, is_understood};
use crate::message::{Method, Request, Response, Scheme};
use crate::sdp::SdpError;
use crate::subscribe::EVENTS;

/// What a request asks that we can't do: another URI scheme (416), an extension (420), another kind of body (415).
/// `reply` makes a response to the request.
pub(crate) fn unacceptable(request: &Request, reply: impl Fn(u16) -> Response) -> Option<Response> {
    match request.uri.scheme() {
        Scheme::Sip | Scheme::Sips | Scheme::Tel => {}
        Scheme::Other => return Some(reply(416)),
    }
    let required = request.headers.elements("Require").filter_map(Result::ok);
    let unknown: Vec<&str> = required.filter(|option| !is_understood(option)).collect();
    if !unknown.is_empty() && request.method != Method::Bye {
        return Some(reply(420).with("Unsupported", unknown.join(", ")));
    }
    let offers = matches!(request.method, Method::Invite | Method::Update | Method::Prack);
    if offers && !request.body.is_empty() && request.headers.content_type().as_deref() != Some(SDP) {
        return Some(reply(415).with("Accept", ACCEPT));
    }
    // Without an Accept header a description is welcome (RFC 3261 §20.1).
    let mut accepted = request.headers.elements("Accept").filter_map(Result::ok).map(media_range).peekable();
    if offers
        && accepted.peek().is_some()
        && !accepted.any(|range| [SDP, "application/*", "*/*"].contains(&&*range))
    {
        return Some(reply(406).with("Accept", ACCEPT));
    }
    if offers
        && request.headers.get("Content-Encoding").is_some_and(|e| !e.trim().eq_ignore_ascii_case("identity"))
    {
        return Some(reply(415).with("Accept-Encoding", "identity"));
    }
    None
}

impl Cx<'_> {
    /// 488 to a description that can't be taken or answered.
    pub fn refuse_media(&mut self, server: &Server, error: SdpError) {
        let reply = unreadable(server, &self.core.own_host(&server.hop), error);
        self.respond(server, reply);
    }
}

/// 488 to an offer that can't be read, with what is wrong with it (RFC 3261 §20.43).
fn unreadable(server: &Server, host: &str, error: SdpError) -> Response {
    let warning = match error {
        SdpError::Address => format!("301 {host} \"the media's address is no IP address\""),
        SdpError::Malformed | SdpError::Line | SdpError::TooLong | SdpError::Encryption(_) => {
            format!("399 {host} \"{error}\"")
        }
    };
    let reply = server.reply(488).with("Warning", warning);
    match error {
        SdpError::Encryption(_) => {
            reply.with("Reason", format!("Q.850;cause={}", super::values::BEARER_NOT_IMPLEMENTED))
        }
        SdpError::Address | SdpError::Malformed | SdpError::Line | SdpError::TooLong => reply,
    }
}

fn media_range(element: &str) -> String {
    element.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// 200 to OPTIONS (RFC 3261 §11.2).
pub(crate) fn options(reply: impl Fn(u16) -> Response) -> Response {
    reply(200)
        .with("Allow", ALLOW)
        .with("Accept", ACCEPT)
        .with("Supported", SUPPORTED)
        .with("Allow-Events", EVENTS)
}

/// 405 for a method that SIP knows and we don't serve here, 501 for one that nobody knows.
pub(crate) fn method(method: &Method, reply: impl Fn(u16) -> Response) -> Response {
    match method {
        Method::Other(_) => reply(501),
        Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Info
        | Method::Invite
        | Method::Message
        | Method::Notify
        | Method::Options
        | Method::Prack
        | Method::Publish
        | Method::Refer
        | Method::Register
        | Method::Subscribe
        | Method::Update => reply(405).with("Allow", ALLOW),
    }
}
