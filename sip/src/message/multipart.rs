//! A session description among other parts of a body (RFC 2046 §5.1, RFC 5621).

use super::Headers;
use super::text::{Params, unquote};

const SDP: &str = "application/sdp";

/// Most parts that are looked at.
const MAX_PARTS: usize = 16;

/// Takes the first description out of a multipart body and lets it stand for the whole. Other parts (ISUP of a gateway,
/// a location) mean nothing to us; even one whose handling is `required` doesn't make the call fail, since gateways
/// leave `handling=optional` out. Without a description everything stays as it came, and is refused for its type.
pub(super) fn unwrap(headers: &mut Headers, body: &mut Vec<u8>) {
    let is_multipart = |value: &str| {
        let value = value.trim_start().as_bytes();
        value.len() > 10 && value[..10].eq_ignore_ascii_case(b"multipart/")
    };
    let Some(value) = headers.get("Content-Type").filter(|value| is_multipart(value)) else { return };
    let Some(boundary) = value.find(';').and_then(|at| boundary_of(&value[at..])) else { return };
    let Some((start, end)) = description(body, boundary.as_bytes()) else { return };
    body.truncate(end);
    body.drain(..start);
    headers.set("Content-Type", SDP);
}

fn boundary_of(params: &str) -> Option<String> {
    let params = Params::read(params).ok()?;
    let boundary = unquote(params.get("boundary")?);
    // RFC 2046 §5.1.1: 1 to 70 characters.
    (1..=70).contains(&boundary.len()).then(|| boundary.into_owned())
}

/// Where the content of the first description begins and ends.
fn description(body: &[u8], boundary: &[u8]) -> Option<(usize, usize)> {
    let mut delimiter = b"--".to_vec();
    delimiter.extend_from_slice(boundary);
    let mut at = delimiter_from(body, &delimiter, 0)?;
    for _ in 0..MAX_PARTS {
        let start = at + delimiter.len();
        if body[start..].starts_with(b"--") {
            return None;
        }
        let end = delimiter_from(body, &delimiter, start)?;
        if let Some(content) = content_of(&body[start..end]) {
            let start = start + content;
            // Of an empty part the line end before the delimiter is its head's.
            return Some((start, without_line_end(body, end).max(start)));
        }
        at = end;
    }
    None
}

/// A delimiter stands at the start of a line.
fn delimiter_from(body: &[u8], delimiter: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = find(&body[at..], delimiter) {
        let place = at + found;
        if place == 0 || body[place - 1] == b'\n' {
            return Some(place);
        }
        at = place + 1;
    }
    None
}

/// Where the content of a part begins, if it is a description.
fn content_of(part: &[u8]) -> Option<usize> {
    let head = find(part, b"\r\n\r\n")?;
    let text = std::str::from_utf8(&part[..head]).ok()?;
    let is_description = text.lines().filter_map(|line| line.split_once(':')).any(|(name, value)| {
        (name.trim().eq_ignore_ascii_case("Content-Type") || name.trim().eq_ignore_ascii_case("c"))
            && value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(SDP))
    });
    is_description.then_some(head + 4)
}

/// The line end before a delimiter belongs to the delimiter; but a description's last line keeps one.
fn without_line_end(body: &[u8], end: usize) -> usize {
    let before = &body[..end];
    if before.ends_with(b"\r\n\r\n") { end - 2 } else { end }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(content_type: &str, body: &str) -> (String, String) {
        let mut headers = Headers::default();
        headers.push("Content-Type", content_type);
        let mut bytes = body.as_bytes().to_vec();
        unwrap(&mut headers, &mut bytes);
        (headers.get("Content-Type").unwrap().to_owned(), String::from_utf8(bytes).unwrap())
    }

    const PARTS: &str = "preamble --b\r\n--b\r\nContent-Type: application/isup\r\n\r\nx--b\r\n--b\r\n\
        Content-Disposition: session\r\nc: Application/SDP; charset=utf-8\r\n\r\nv=0\r\nm=audio\r\n\r\n--b--\r\n";

    #[test]
    fn the_description_stands_for_the_whole() {
        for kind in ["multipart/mixed;boundary=b", "Multipart/Alternative; charset=x; boundary=\"b\""] {
            assert_eq!(unwrapped(kind, PARTS), (SDP.into(), "v=0\r\nm=audio\r\n".into()));
        }
    }

    /// Anybody can send such a body, and it is read before anything is asked of him.
    #[test]
    fn an_empty_description_is_empty() {
        const HEAD: &str = "--b\r\nContent-Type: application/sdp\r\n\r\n";
        for (content, read) in [("", ""), ("\r\n", ""), ("\r\n\r\n", "\r\n"), ("\n", "\n"), ("x\n", "x\n")] {
            for end in ["--b--", "--b\r\nContent-Type: text/plain\r\n\r\n\r\n--b--"] {
                let body = format!("{HEAD}{content}{end}");
                assert_eq!(
                    unwrapped("multipart/mixed;boundary=b", &body),
                    (SDP.into(), read.into()),
                    "{body:?}"
                );
            }
        }
    }

    #[test]
    fn what_has_no_description_stays_as_it_came() {
        for kind in
            ["multipart/mixed", "multipart/mixed;boundary=", "multipart/mixed;boundary=c", "text/plain"]
        {
            assert_eq!(unwrapped(kind, PARTS), (kind.into(), PARTS.into()));
        }
        for body in ["", "--b", "--b--", "--b\r\n\r\n", "--b\r\nContent-Type: application/sdp\r\n\r\nv=0"] {
            assert_eq!(unwrapped("multipart/mixed;boundary=b", body).1, body);
        }
        let many = "--b\r\nContent-Type: text/plain\r\n\r\n\r\n".repeat(MAX_PARTS) + &PARTS[12..];
        assert_eq!(unwrapped("multipart/mixed;boundary=b", &many).1, many);
    }
}
