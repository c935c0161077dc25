//! Header values that calls read and write: reasons, session intervals, digits.

use crate::message::{Headers, NameAddr};
use crate::port::Refusal;

/// What we understand in a dialog; `Allow`.
pub(crate) const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, REFER, REGISTER, SUBSCRIBE";
/// The Content-Type of descriptions.
pub(crate) const SDP: &str = "application/sdp";
/// `Accept` in OPTIONS and 415.
pub(crate) const ACCEPT: &str = "application/sdp";
/// `Accept` for INFO.
pub(crate) const ACCEPT_INFO: &str = "application/dtmf-relay, application/dtmf";
/// The Content-Types of digits.
const DTMF_RELAY: &str = "application/dtmf-relay";
const DTMF: &str = "application/dtmf";
/// `Supported` where reliable provisionals make sense.
pub(crate) const SUPPORTED: &str = "100rel, timer";
/// `Supported` of a call without an offer: a reliable provisional would carry one, which only the 200 may.
pub(crate) const SUPPORTED_LATE_OFFER: &str = "timer";
/// Option tags that a `Require` of a peer may name.
const UNDERSTOOD: [&str; 3] = ["100rel", "timer", "path"];

/// Q.850: normal call clearing; what an ending without a reason means.
pub(crate) const NORMAL_CLEARING: u16 = 16;
/// Q.850: destination out of order: what we sent did not get there.
pub(crate) const OUT_OF_ORDER: u16 = 27;
/// Q.850: temporary failure.
pub(crate) const TEMPORARY_FAILURE: u16 = 41;
/// Q.850: recovery on timer expiry.
pub(crate) const TIMER_EXPIRY: u16 = 102;
/// Q.850: bearer capability not implemented; what 488 stands for.
pub(crate) const BEARER_NOT_IMPLEMENTED: u16 = 65;

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

/// How often a call was sent on before it came to us: Diversion (RFC 5806), each entry with its counter, or History-Info
/// (RFC 7044), whose first entry is where the call was for at first; whichever says more.
pub(crate) fn hops(headers: &Headers) -> u32 {
    const MOST: usize = 256;
    let entries = |name: &'static str| headers.elements(name).take(MOST).filter_map(Result::ok);
    let counter = |entry: &str| {
        let read = NameAddr::read(entry).ok();
        read.and_then(|read| read.params.get("counter")?.parse::<u32>().ok()).unwrap_or(1).max(1)
    };
    let diversions = entries("Diversion").map(counter).fold(0u32, u32::saturating_add);
    let history = u32::try_from(entries("History-Info").count().saturating_sub(1)).unwrap_or(u32::MAX);
    diversions.max(history)
}

/// Reads the digit of an INFO. `application/dtmf-relay` is `Signal=5` and `Duration=160`, `application/dtmf` is `5`; as
/// each is sent under the other's name too, both are read under both. A flash is no digit.
/// The duration is in milliseconds, 250 when it says none.
pub(crate) fn digit_of(content_type: &str, body: &[u8]) -> Option<(char, u32)> {
    const DEFAULT_MS: u32 = 250;
    const LONGEST_MS: u32 = 10_000;
    if ![DTMF_RELAY, DTMF].iter().any(|known| content_type.eq_ignore_ascii_case(known)) {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if let Some(digit) = digit(text) {
        return Some((digit, DEFAULT_MS));
    }
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (n, v) = line.split_once(['=', ':'])?;
            n.trim().eq_ignore_ascii_case(name).then_some(v.trim())
        })
    };
    let duration = field("Duration").and_then(|d| d.parse().ok()).filter(|ms| *ms > 0).unwrap_or(DEFAULT_MS);
    Some((digit(field("Signal")?)?, duration.min(LONGEST_MS)))
}

fn digit(text: &str) -> Option<char> {
    // The events of RFC 4733 §3.2 by their numbers.
    let event = |n: usize| b"*#ABCD".get(n.checked_sub(10)?).map(|byte| char::from(*byte));
    if let Some(named) = (text.len() == 2).then(|| text.parse().ok().and_then(event)).flatten() {
        return Some(named);
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
    fn diversions_count_with_their_counters_and_histories_without_their_beginning() {
        let of = |lines: &[(&str, &str)]| {
            let mut headers = Headers::default();
            lines.iter().for_each(|(name, value)| headers.push(name, *value));
            hops(&headers)
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[("Diversion", "<sip:1@h>;reason=unknown")]), 1);
        assert_eq!(
            of(&[("Diversion", "<sip:1@h>;counter=4, <sip:2@h>"), ("Diversion", "<sip:3@h>;counter=0")]),
            6
        );
        assert_eq!(of(&[("Diversion", "<sip:1@h>;counter=4294967295, <sip:2@h>")]), u32::MAX);
        assert_eq!(of(&[("Diversion", "nonsense;counter=x")]), 1);
        assert_eq!(
            of(&[("History-Info", "<sip:1@h>;index=1, <sip:2@h>;index=1.1,<sip:3@h>;index=1.1.1")]),
            2
        );
        assert_eq!(of(&[("History-Info", "<sip:1@h>;index=1"), ("Diversion", "<sip:1@h>")]), 1);
    }

    #[test]
    fn digits_in_their_forms() {
        assert_eq!(digit_of("application/dtmf-relay", b"Signal= 5\r\nDuration=160\r\n"), Some(('5', 160)));
        assert_eq!(digit_of("application/dtmf-relay", b"Signal=11"), Some(('#', 250)));
        assert_eq!(digit_of("application/dtmf", b"*"), Some(('*', 250)));
        for (content_type, body, digit) in [
            ("application/dtmf-relay", "5", '5'),
            ("application/dtmf-relay", " 7\r\n", '7'),
            ("application/dtmf-relay", "11", '#'),
            ("application/dtmf", "Signal=5", '5'),
            ("application/dtmf", "Signal= 5\r\nDuration= 0\r\n", '5'),
            ("application/dtmf", "10\r\n", '*'),
            ("application/dtmf-relay", "signal : d", 'D'),
            ("application/dtmf-relay", "Duration=250\r\nSignal=12\r\n", 'A'),
            ("application/DTMF-Relay", "Signal=*", '*'),
        ] {
            assert_eq!(
                digit_of(content_type, body.as_bytes()),
                Some((digit, 250)),
                "{content_type} {body:?}"
            );
        }
        for body in ["", "Signal=hf", "Signal=16", "Signal=!", "Signal=", "55", "123", "+5", "Signal=05", "x"]
        {
            for content_type in ["application/dtmf-relay", "application/dtmf"] {
                assert_eq!(digit_of(content_type, body.as_bytes()), None, "{content_type} {body:?}");
            }
        }
        assert_eq!(digit_of("application/media_control+xml", b"5"), None);
        assert_eq!(digit_of("application/dtmf-relay", &digit_body('D', 100)), Some(('D', 100)));
        assert_eq!(digit_of("application/dtmf", b"\xff"), None);
    }
}
