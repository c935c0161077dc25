//! Header values that calls read and write: reasons, identities, session intervals, digits.

use crate::message::{NameAddr, Scheme, Uri};
use crate::port::{Identity, Refusal};

/// What we understand in a dialog; `Allow`.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, REGISTER";
/// The Content-Type of descriptions.
pub(crate) const SDP: &str = "application/sdp";
/// `Accept` in OPTIONS and 415.
pub(crate) const ACCEPT: &str = "application/sdp";
/// `Accept` for INFO.
pub(crate) const ACCEPT_INFO: &str = "application/dtmf-relay, application/dtmf";
/// `Supported` where reliable provisionals make sense.
pub(crate) const SUPPORTED: &str = "100rel, timer";
/// `Supported` of a call without an offer: a reliable provisional would carry one, which only the 200 may.
pub(crate) const SUPPORTED_LATE_OFFER: &str = "timer";
/// Option tags that a `Require` of a peer may name.
const UNDERSTOOD: [&str; 3] = ["100rel", "timer", "path"];

/// Q.850: normal call clearing; what an ending without a reason means.
pub(crate) const NORMAL_CLEARING: u16 = 16;
/// Q.850: temporary failure.
pub(crate) const TEMPORARY_FAILURE: u16 = 41;
/// Q.850: recovery on timer expiry.
pub(crate) const TIMER_EXPIRY: u16 = 102;
/// Q.850: incompatible destination.
pub(crate) const INCOMPATIBLE: u16 = 88;

/// Whether this option tag may stand in a `Require`.
pub(crate) fn is_understood(option: &str) -> bool {
    UNDERSTOOD.iter().any(|u| u.eq_ignore_ascii_case(option))
}

/// `Q.850;cause=16` for the `Reason` header (RFC 3326).
pub(crate) fn reason(refusal: &Refusal) -> String {
    format!("Q.850;cause={}", refusal.cause)
}

/// The Q.850 cause of a `Reason` value.
pub(crate) fn cause_of(reason: &str) -> Option<u16> {
    let mut headers = crate::message::Headers::default();
    headers.push("Reason", reason);
    headers.q850()
}

/// Writes a party as a name-addr at `host`.
pub(crate) fn name_addr(identity: &Identity, host: &str) -> NameAddr {
    let mut address = NameAddr::of(Uri::sip(&identity.number, host, None));
    address.name = identity.name.clone().filter(|n| !n.is_empty());
    address
}

/// The From of a caller who may not be shown (RFC 3323 §4.1).
pub(crate) const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// A party as From, P-Asserted-Identity or Diversion name it.
pub(crate) fn identity_of(read: &NameAddr, restricted: bool) -> Identity {
    Identity { number: user_of(&read.uri), name: read.name.clone(), restricted }
}

/// The user part without escapes and without parameters of its own; a tel URI's number. Empty when it has none.
pub(crate) fn user_of(uri: &Uri) -> String {
    match uri.scheme() {
        Scheme::Sip | Scheme::Sips | Scheme::Tel => {
            let user = uri.user();
            user.split(';').next().unwrap_or("").to_owned()
        }
        Scheme::Other => String::new(),
    }
}

/// Reads a digit of an INFO: `application/dtmf-relay` (`Signal=5`, `Duration=160`) or `application/dtmf` (`5`).
/// The duration is in milliseconds, 250 when it says none.
pub(crate) fn digit_of(content_type: &str, body: &[u8]) -> Option<(char, u32)> {
    const DEFAULT_MS: u32 = 250;
    const LONGEST_MS: u32 = 10_000;
    let text = std::str::from_utf8(body).ok()?;
    if content_type.eq_ignore_ascii_case("application/dtmf") {
        return Some((digit(text.trim())?, DEFAULT_MS));
    }
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (n, v) = line.split_once(['=', ':'])?;
            n.trim().eq_ignore_ascii_case(name).then_some(v.trim())
        })
    };
    let duration = field("Duration").and_then(|d| d.parse().ok()).unwrap_or(DEFAULT_MS);
    Some((digit(field("Signal")?)?, duration.min(LONGEST_MS)))
}

fn digit(text: &str) -> Option<char> {
    match text {
        "10" => return Some('*'),
        "11" => return Some('#'),
        _ => {}
    }
    let mut chars = text.chars();
    let c = chars.next()?.to_ascii_uppercase();
    (chars.next().is_none() && (c.is_ascii_digit() || matches!(c, 'A'..='D' | '*' | '#'))).then_some(c)
}

/// The body of an INFO that carries a digit.
pub(crate) fn digit_body(digit: char, duration_ms: u32) -> Vec<u8> {
    format!("Signal={digit}\r\nDuration={duration_ms}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_read_back() {
        let party = Identity { number: "+49 1".into(), name: Some("A \"B\"".into()), restricted: false };
        assert_eq!(name_addr(&party, "h").to_string(), "\"A \\\"B\\\"\" <sip:+49%201@h>");
        assert_eq!(identity_of(&name_addr(&party, "h"), false), party);
        let number = |text| identity_of(&NameAddr::read(text).unwrap(), false).number;
        assert_eq!(number("<tel:+491;phone-context=x>"), "+491");
        assert_eq!(number("<sip:1;npdi@h>"), "1");
        assert_eq!(number("<http://h>"), "");
    }

    #[test]
    fn digits_in_their_forms() {
        assert_eq!(digit_of("application/dtmf-relay", b"Signal= 5\r\nDuration=160\r\n"), Some(('5', 160)));
        assert_eq!(digit_of("application/dtmf-relay", b"Signal=11"), Some(('#', 250)));
        assert_eq!(digit_of("application/dtmf", b"*"), Some(('*', 250)));
        assert_eq!(digit_of("application/dtmf-relay", b"Signal=16\r\n"), None);
        assert_eq!(digit_of("application/dtmf-relay", &digit_body('D', 100)), Some(('D', 100)));
        assert_eq!(digit_of("application/dtmf", b"\xff"), None);
    }
}
