//! Frames: NDJSON lines (contract §1). WebSocket text messages are frames already and skip the decoder.

use bytes::Bytes;
use device_model::LegId;
use device_model::media::{KeyRef, StreamDirection};
use std::collections::VecDeque;
use std::fmt;

/// The longest line that the protocol allows, without its end, in bytes.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// A message to be written: its own head, and a tail that it may share with other sessions' frames. No line end.
/// It may hold a password or a media key, so `Debug` shows its length alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// First part.
    pub head: Bytes,
    /// Second part, maybe empty.
    pub tail: Bytes,
    /// It is about this key of a stream, which it does not hold: [`crate::event::SrtpKey::put_into`].
    pub key: Option<StreamKey>,
}

/// A key, and what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// Which.
    pub key: KeyRef,
    /// Whose stream.
    pub leg: LegId,
    /// Which of the two.
    pub direction: StreamDirection,
}

impl Frame {
    /// A frame that shares nothing.
    #[must_use]
    pub fn whole(bytes: Vec<u8>) -> Self {
        Self { head: Bytes::from(bytes), tail: Bytes::new(), key: None }
    }

    /// Bytes of both parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// Appends the frame and its line end to what will be written.
    pub fn encode_line(&self, out: &mut Vec<u8>) {
        out.reserve(self.len() + 1);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.tail);
        out.push(b'\n');
    }

    /// Both parts as one, for a transport that wants a message in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.head[..], &self.tail[..]].concat()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

/// A line over the decoder's limit: the connection is to be told (`line_too_long`) and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than it may be")]
pub struct LineTooLong;

/// Cuts a byte stream into lines. `\r\n` is an end, too; empty lines mean nothing.
///
/// It holds at most one unfinished line, and never more than the limit of it; whole lines of one read are handed out
/// before the next read is pushed.
pub struct Decoder {
    limit: usize,
    lines: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
    broken: bool,
}

impl Decoder {
    /// A decoder at the start of a stream, for lines of [`MAX_LINE_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::within(MAX_LINE_BYTES)
    }

    /// One for lines of this many bytes at most, without their ends.
    #[must_use]
    pub fn within(limit: usize) -> Self {
        Self { limit, lines: VecDeque::new(), partial: Vec::new(), broken: false }
    }

    /// Takes what was read. Lines that were whole before the fault are still to be had from [`Decoder::next_line`].
    ///
    /// # Errors
    /// [`LineTooLong`]; the decoder reads nothing any more.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.broken {
            return Err(LineTooLong);
        }
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.extend(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            let mut line = std::mem::take(&mut self.partial);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.len() > self.limit {
                return self.fail();
            }
            if !line.is_empty() {
                self.lines.push_back(line);
            }
        }
        self.extend(bytes)
    }

    /// The next whole line, without its end.
    pub fn next_line(&mut self) -> Option<Vec<u8>> {
        self.lines.pop_front()
    }

    /// Bytes of the unfinished line.
    #[must_use]
    pub fn held(&self) -> usize {
        self.partial.len()
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        // One byte more than the limit may be the `\r` of the line's end.
        if self.partial.len() + bytes.len() > self.limit + 1 {
            return self.fail();
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn fail(&mut self) -> Result<(), LineTooLong> {
        self.broken = true;
        self.partial = Vec::new();
        Err(LineTooLong)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decoder {
    /// Lengths alone: a line may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decoder { limit, lines, partial, broken } = self;
        let (lines, held) = (lines.len(), partial.len());
        write!(f, "Decoder({lines} lines, {held} of {limit} bytes of the next, broken: {broken})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(decoder: &mut Decoder) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| decoder.next_line()).collect()
    }

    #[test]
    fn empty_lines_and_carriage_returns_are_not_part_of_a_line() {
        let mut decoder = Decoder::new();
        decoder.push(b"\n\r\n{}\r\n[1]\n\ntail").expect("short");
        assert_eq!(lines(&mut decoder), [b"{}".to_vec(), b"[1]".to_vec()]);
        decoder.push(b"\n").expect("short");
        assert_eq!(lines(&mut decoder), [b"tail".to_vec()]);
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
        for end in [&b"\n"[..], b"\r\n"] {
            let mut decoder = Decoder::new();
            decoder.push(&vec![b'x'; MAX_LINE_BYTES]).expect("at the limit");
            decoder.push(end).expect("its end");
            assert_eq!(decoder.next_line().map(|l| l.len()), Some(MAX_LINE_BYTES));

            let mut decoder = Decoder::new();
            let first = decoder.push(&vec![b'x'; MAX_LINE_BYTES + 1]);
            assert_eq!(first.and_then(|()| decoder.push(end)), Err(LineTooLong));
        }
    }

    #[test]
    fn the_limit_may_be_less_than_the_protocol_allows() {
        let mut decoder = Decoder::within(4);
        decoder.push(b"four\n").expect("at the limit");
        assert_eq!(decoder.push(b"fifth\n"), Err(LineTooLong));
        assert_eq!(lines(&mut decoder), [b"four".to_vec()]);
    }

    #[test]
    fn an_endless_line_is_never_held_beyond_the_limit() {
        let mut decoder = Decoder::new();
        let chunk = vec![b' '; 64 * 1024];
        let pushed = (0..1000).take_while(|_| decoder.push(&chunk).is_ok()).count();
        assert_eq!(pushed, MAX_LINE_BYTES / chunk.len());
        assert_eq!(decoder.partial.capacity(), 0, "what was held is given back");
        assert_eq!(decoder.push(b"{}\n"), Err(LineTooLong), "and nothing is read after it");
    }

    #[test]
    fn lines_before_the_fault_are_still_handed_out() {
        let mut decoder = Decoder::new();
        let mut bytes = b"{}\n".to_vec();
        bytes.extend(vec![b'x'; MAX_LINE_BYTES + 2]);
        assert_eq!(decoder.push(&bytes), Err(LineTooLong));
        assert_eq!(lines(&mut decoder), [b"{}".to_vec()]);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
                              cuts in proptest::collection::vec(1usize..20, 0..300)) {
            let mut whole = Decoder::new();
            whole.push(&bytes).expect("short");
            let mut cut = Decoder::new();
            let mut rest = &bytes[..];
            for n in cuts {
                let (now, later) = rest.split_at(n.min(rest.len()));
                cut.push(now).expect("short");
                rest = later;
            }
            cut.push(rest).expect("short");
            prop_assert_eq!(lines(&mut whole), lines(&mut cut));
        }
    }
}
