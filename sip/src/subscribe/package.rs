//! Event packages: which are served, what a SUBSCRIBE asks of them, and the documents that say their state.

use crate::message::text::{self, Params};
use crate::message::{Headers, Uri};
use crate::port::{Package, Waiting, WatchedState};
use std::time::Duration;

/// `Allow-Events`.
pub(crate) const EVENTS: &str = "message-summary";
/// How long a subscription lasts that asks for nothing, and the longest (RFC 3842 §3.4).
pub(super) const LONGEST: Duration = Duration::from_secs(3_600);
/// A shorter one gets 423.
pub(crate) const SHORTEST: Duration = Duration::from_secs(60);
/// Characters of an `id` of Event.
const MAX_ID: usize = 64;

/// What a SUBSCRIBE asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub package: Package,
    /// The Event of its NOTIFYs: that of the SUBSCRIBE, its `id` with it.
    pub event: String,
    /// How long; zero ends it, or asks but once.
    pub lasts: Duration,
}

/// Why a SUBSCRIBE can't be served, whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// Its Event can't be read.
    Malformed,
    /// There is no such package here.
    Package,
    /// It doesn't take the package's documents.
    Document(Package),
    /// It asks for too short a time.
    TooShort,
}

impl Wish {
    /// What the headers of a SUBSCRIBE ask.
    pub fn read(headers: &Headers) -> Result<Self, Unserved> {
        let mut events = headers.all("Event");
        let event = events.next().ok_or(Unserved::Package)?;
        if events.next().is_some() {
            return Err(Unserved::Malformed);
        }
        let (token, params) = event.split_at(event.find(';').unwrap_or(event.len()));
        let token = token.trim();
        let params = Params::read(params).map_err(|_| Unserved::Malformed)?;
        if !text::is_token(token) {
            return Err(Unserved::Malformed);
        }
        let package = Package::named(token).ok_or(Unserved::Package)?;
        let id = params.get("id");
        if id.is_some_and(|id| !text::is_token(id) || id.len() > MAX_ID) {
            return Err(Unserved::Malformed);
        }
        if !accepts(headers, package.content_type()) {
            return Err(Unserved::Document(package));
        }
        let lasts = headers.number("Expires").map_or(LONGEST, |seconds| Duration::from_secs(seconds.into()));
        if !lasts.is_zero() && lasts < SHORTEST {
            return Err(Unserved::TooShort);
        }
        let id = id.map_or(String::new(), |id| format!(";id={id}"));
        Ok(Self { package, event: format!("{}{id}", package.token()), lasts: lasts.min(LONGEST) })
    }
}

/// Without an Accept header the package's own documents are welcome (RFC 6665 §4.2.1.1).
fn accepts(headers: &Headers, content_type: &str) -> bool {
    let ranges = headers.elements("Accept").filter_map(Result::ok);
    let mut ranges = ranges.map(|range| range.split(';').next().unwrap_or("").trim()).peekable();
    let whole = |range: &str| {
        let main = content_type.split('/').next().unwrap_or("");
        range == "*/*" || range.strip_suffix("/*").is_some_and(|of| of.eq_ignore_ascii_case(main))
    };
    ranges.peek().is_none() || ranges.any(|range| range.eq_ignore_ascii_case(content_type) || whole(range))
}

impl Package {
    fn named(token: &str) -> Option<Self> {
        // Case matters in event types (RFC 6665 §8.2.1).
        (token == Package::MessageSummary.token()).then_some(Package::MessageSummary)
    }

    /// As Event says it.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Package::MessageSummary => "message-summary",
        }
    }

    /// The media type of its documents.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Package::MessageSummary => "application/simple-message-summary",
        }
    }
}

impl WatchedState {
    /// The document that says it of `entity`.
    pub(crate) fn document(&self, entity: &Uri) -> Vec<u8> {
        match self {
            WatchedState::Messages(waiting) => {
                let waiting = match waiting {
                    Waiting::Yes => "yes",
                    Waiting::No => "no",
                };
                format!("Messages-Waiting: {waiting}\r\nMessage-Account: {entity}\r\n").into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Result<Wish, Unserved> {
        let mut headers = Headers::default();
        lines.iter().for_each(|(name, value)| headers.push(name, *value));
        Wish::read(&headers)
    }

    #[test]
    fn what_a_subscribe_asks() {
        let served = [("Event", "message-summary")];
        assert_eq!(read(&served).map(|wish| wish.lasts), Ok(LONGEST));
        let with = |name, value| read(&[served[0], (name, value)]);
        assert_eq!(with("Expires", "0").map(|wish| wish.lasts), Ok(Duration::ZERO));
        assert_eq!(with("Expires", "60").map(|wish| wish.lasts), Ok(SHORTEST));
        assert_eq!(with("Expires", "99999999999").map(|wish| wish.lasts), Ok(LONGEST));
        assert_eq!(with("Expires", "59"), Err(Unserved::TooShort));
        assert_eq!(with("Event", "message-summary"), Err(Unserved::Malformed));
        let document = Unserved::Document(Package::MessageSummary);
        assert_eq!(with("Accept", "application/sdp"), Err(document));
        for welcome in ["application/simple-message-summary;q=1, x/y", "*/*", "Application/*"] {
            assert!(with("Accept", welcome).is_ok(), "{welcome}");
        }
    }

    #[test]
    fn an_event_is_read_and_said_again() {
        let event = |value| read(&[("Event", value)]).map(|wish| wish.event);
        assert_eq!(event("message-summary;foo=1;id=a7"), Ok("message-summary;id=a7".into()));
        assert_eq!(event(" message-summary ;id=a7"), Ok("message-summary;id=a7".into()));
        assert_eq!(read(&[]), Err(Unserved::Package));
        for unknown in ["presence", "message-summary.winfo", "Message-Summary", "refer"] {
            assert_eq!(event(unknown), Err(Unserved::Package), "{unknown}");
        }
        let long = format!("message-summary;id={}", "a".repeat(65));
        for bad in ["", "a b", "message-summary;id=\"a\r\nb\"", "message-summary;id=", "a,b", &long] {
            assert_eq!(event(bad), Err(Unserved::Malformed), "{bad}");
        }
    }
}
