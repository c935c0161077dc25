//! The far side of SIP for scripts: what the node sent last, so that hostile messages can belong to it.

use sip::Hop;
use sip::message::{self, CSeq, Message, Request, Response};
use sip::port::Login;
use std::collections::VecDeque;

/// Requests of the node's that are remembered.
const MAX_REQUESTS: usize = 8;

#[derive(Default)]
pub(super) struct Wire {
    requests: VecDeque<(Hop, Request)>,
    last_response: Option<Response>,
    last_received: Option<(Hop, Request)>,
    counter: u32,
    /// What came last could not be read.
    unread: bool,
}

impl Wire {
    /// Notes a message of the node's; says whether it is a response. All that it sends can be read, but for refusals of
    /// what could not be read itself, which have as much of it as was there.
    pub(super) fn sent(&mut self, hop: Hop, bytes: &[u8]) -> bool {
        match message::read(bytes, hop.transport) {
            Ok(Message::Request(request)) => {
                self.requests.truncate(MAX_REQUESTS - 1);
                self.requests.push_front((hop, request));
                false
            }
            Ok(Message::Response(response)) => {
                self.last_response = Some(response);
                true
            }
            Err(error) => {
                let refused = bytes.starts_with(b"SIP/2.0 400 ") || bytes.starts_with(b"SIP/2.0 505 ");
                assert!(refused && self.unread, "we sent {error:?}: {}", bytes.escape_ascii());
                true
            }
        }
    }

    /// Notes what the node is about to get.
    pub(super) fn received(&mut self, hop: Hop, bytes: &[u8]) -> Option<Message> {
        let read = message::read(bytes, hop.transport).ok();
        self.unread = read.is_none();
        if let Some(Message::Request(request)) = &read {
            self.last_received = Some((hop, request.clone()));
        }
        read
    }

    /// `@TO@` becomes the To of the last response, `@N@` a new number.
    pub(super) fn fill(&mut self, text: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let to =
            self.last_response.as_ref().and_then(|r| r.headers.get("To")).unwrap_or("<sip:b@h>").to_owned();
        let number = self.counter.to_string();
        replaced(&replaced(text, b"@TO@", to.as_bytes()), b"@N@", number.as_bytes())
    }

    /// An answer to a request of the node's: the first byte says which, the next two the status, the rest is a description.
    pub(super) fn answer(&self, script: &[u8]) -> Option<(Hop, Vec<u8>)> {
        let which = usize::from(script.first().copied().unwrap_or(b'0').wrapping_sub(b'0'));
        let statuses =
            [100, 180, 183, 200, 202, 302, 401, 404, 407, 408, 422, 481, 486, 487, 491, 500, 503, 603, 699];
        let status = statuses[usize::from(script.get(1).copied().unwrap_or(0)) % statuses.len()];
        let (hop, request) = self.requests.get(which % self.requests.len().max(1))?;
        let mut response = Response::to(request, status, Some("fuzz"));
        response =
            response.with("Contact", "<sip:peer@10.0.0.99:5070>").with("Require", "").with("RSeq", "1");
        response.headers.remove("Require");
        match status {
            401 => response = response.with("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n\""),
            407 => {
                response =
                    response.with("Proxy-Authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"")
            }
            183 => response = response.with("Require", "100rel"),
            422 => response = response.with("Min-SE", "99999"),
            _ => {}
        }
        let body = script.get(2..).unwrap_or_default();
        if !body.is_empty() {
            response = response.with_body("application/sdp", body.to_vec());
        }
        Some((*hop, response.write()))
    }

    /// The last request again, with credentials for the challenge that answered it.
    pub(super) fn with_login(&mut self, user: &str) -> Option<(Hop, Vec<u8>)> {
        let (hop, mut request) = self.last_received.clone()?;
        let challenge = self.last_response.as_ref().filter(|r| matches!(r.status, 401 | 407))?;
        let login = Login { user: user.to_owned(), password: "secret".to_owned().into() };
        if !login.answer(&challenge.headers, challenge.status, &mut request, "cnonce") {
            return None;
        }
        self.counter += 1;
        let CSeq { number, method } = request.headers.cseq().ok()?;
        request.headers.set("CSeq", format!("{} {method}", number.checked_add(1)?));
        let mut via = request.headers.top_via().ok()?;
        via.params.set("branch", Some(&format!("z9hG4bKlogin{}", self.counter)));
        request.headers.set_top_via(&via);
        Some((hop, request.write()))
    }
}

fn replaced(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(what.len()).position(|window| window == what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}
