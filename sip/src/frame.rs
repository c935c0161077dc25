//! Cutting a TCP or TLS stream into messages (RFC 3261 §18.3, RFC 5626 §4.4.1).

use crate::message::{MAX_MESSAGE_BYTES, head_end};

/// What a stream held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, for [`crate::message::read`].
    Message(Vec<u8>),
    /// A keep-alive that wants [`PONG`].
    Ping,
}

/// The answer to [`Frame::Ping`].
pub const PONG: &[u8] = b"\r\n";

/// The stream can't be cut any more: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// More than [`MAX_MESSAGE_BYTES`] without an end, or a Content-Length that says so.
    #[error("message too long")]
    TooLong,
    /// Content-Length is no number, or two of them differ.
    #[error("bad Content-Length")]
    BadLength,
}

/// The bytes of one connection that are not a whole message yet. Holds at most one message and the last push.
#[derive(Default)]
pub struct StreamFramer {
    bytes: Vec<u8>,
    /// Where the unread rest begins.
    start: usize,
    /// How far behind `start` no end of a head was found.
    searched: usize,
    broken: Option<Broken>,
}

impl std::fmt::Debug for StreamFramer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamFramer({} bytes, {:?})", self.bytes.len() - self.start, self.broken)
    }
}

impl StreamFramer {
    /// Adds what was read. Drain [`StreamFramer::next`] before the following push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more is pushed. A message without Content-Length has no body.
    ///
    /// # Errors
    /// Once broken, always broken.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let cut = self.cut();
        if let Err(broken) = cut {
            self.broken = Some(broken);
            self.bytes = Vec::new();
            self.start = 0;
        }
        cut
    }

    /// Whether nothing of a message is waiting for its rest. Line ends between messages count for nothing.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.bytes[self.start..].iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    fn cut(&mut self) -> Result<Option<Frame>, Broken> {
        loop {
            match &self.bytes[self.start..] {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.start += 4;
                    return Ok(Some(Frame::Ping));
                }
                // It may become a ping.
                [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(None),
                // A pong, or the line ends of a careless sender.
                [b'\r' | b'\n', ..] => self.start += 1,
                _ => break,
            }
        }
        let rest = &self.bytes[self.start..];
        let Some((head, body)) = head_end(rest, self.searched) else {
            // The end may be split over this push and the next.
            self.searched = rest.len().saturating_sub(3);
            return if rest.len() > MAX_MESSAGE_BYTES { Err(Broken::TooLong) } else { Ok(None) };
        };
        // However the stream was cut: in pieces it would have been found too long before its end was seen.
        if body > MAX_MESSAGE_BYTES {
            return Err(Broken::TooLong);
        }
        let end = body.checked_add(content_length(&rest[..head])?).ok_or(Broken::TooLong)?;
        if end > MAX_MESSAGE_BYTES {
            return Err(Broken::TooLong);
        }
        if rest.len() < end {
            return Ok(None);
        }
        let message = rest[..end].to_vec();
        self.start += end;
        self.searched = 0;
        Ok(Some(Frame::Message(message)))
    }
}

fn content_length(head: &[u8]) -> Result<usize, Broken> {
    let mut found = None;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = line[..colon].trim_ascii_end();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let digits = line[colon + 1..].trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Broken::BadLength);
        }
        let value =
            std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Broken::TooLong)?;
        if found.is_some_and(|found| found != value) {
            return Err(Broken::BadLength);
        }
        found = Some(value);
    }
    Ok(found.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nContent-Length : 4\r\n\r\nbody";

    fn frames(framer: &mut StreamFramer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next().unwrap()).collect()
    }

    #[test]
    fn messages_are_cut_wherever_the_stream_was_split() {
        let stream = [MESSAGE, b"\r\n\r\n", MESSAGE, b"\r\n", MESSAGE].concat();
        let message = || Frame::Message(MESSAGE.to_vec());
        for chunk in 1..stream.len() {
            let mut framer = StreamFramer::default();
            let mut all = Vec::new();
            for part in stream.chunks(chunk) {
                framer.push(part);
                all.extend(frames(&mut framer));
            }
            assert_eq!(all, [message(), Frame::Ping, message(), message()], "chunks of {chunk}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_read_breaks_the_stream_for_good() {
        for (length, broken) in [
            ("-1", Broken::BadLength),
            ("", Broken::BadLength),
            ("4\r\nl: 5", Broken::BadLength),
            ("70000", Broken::TooLong),
            ("99999999999999999999999", Broken::TooLong),
        ] {
            let mut framer = StreamFramer::default();
            framer.push(format!("OPTIONS sip:a SIP/2.0\r\nContent-Length: {length}\r\n\r\n").as_bytes());
            assert_eq!(framer.next(), Err(broken), "{length}");
            framer.push(MESSAGE);
            assert_eq!(framer.next(), Err(broken));
        }
    }

    #[test]
    fn a_head_over_the_limit_is_too_long_whatever_it_says_and_however_it_was_cut() {
        let head =
            format!("OPTIONS sip:a SIP/2.0\r\nX: {}\r\nl: nonsense\r\n\r\n", "x".repeat(MAX_MESSAGE_BYTES));
        for chunk in [head.len(), 1000] {
            let mut framer = StreamFramer::default();
            let broken = head.as_bytes().chunks(chunk).find_map(|part| {
                framer.push(part);
                framer.next().err()
            });
            assert_eq!(broken, Some(Broken::TooLong), "chunks of {chunk}");
        }
    }

    #[test]
    fn an_endless_head_is_cut_off() {
        let mut framer = StreamFramer::default();
        let mut pushed = 0;
        let broken = loop {
            framer.push(&[b'a'; 1000]);
            pushed += 1000;
            match framer.next() {
                Ok(frame) => assert_eq!(frame, None),
                Err(broken) => break broken,
            }
        };
        assert_eq!((broken, pushed), (Broken::TooLong, 66_000));
    }
}
