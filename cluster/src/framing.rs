//! Messages on a stream: four bytes of length (big-endian), then so many bytes of JSON.

/// The longest message: some hundred nodes, each known by several lives.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
const HEAD: usize = 4;

/// A length that no message has: what comes is no stream of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes, which none of ours has")]
pub struct BadLength(pub usize);

/// Cuts a stream into messages. It holds one unfinished message at the most.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    read: usize,
}

impl Frames {
    /// What came next. Whoever calls it takes all messages by [`Frames::next_message`] before he reads on.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When its length can't be; the stream is of no use then.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, BadLength> {
        let rest = &self.bytes[self.read..];
        let Some((head, body)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length == 0 || length > MAX_MESSAGE_BYTES {
            return Err(BadLength(length));
        }
        if body.len() < length {
            return Ok(None);
        }
        let begin = self.read + HEAD;
        self.read = begin + length;
        Ok(Some(&self.bytes[begin..self.read]))
    }
}

/// A message as it goes on the wire; `None` if it is too long.
#[must_use]
pub fn framed(message: &[u8]) -> Option<Vec<u8>> {
    if message.is_empty() || message.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let length = u32::try_from(message.len()).ok()?;
    let mut bytes = Vec::with_capacity(HEAD + message.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_however_they_come() {
        let wire = [framed(b"{}").expect("short"), framed(b"[1]").expect("short")].concat();
        for step in 1..=wire.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in wire.chunks(step) {
                frames.push(piece);
                while let Some(message) = frames.next_message().expect("lengths are right") {
                    found.push(message.to_vec());
                }
            }
            assert_eq!(found, [b"{}".to_vec(), b"[1]".to_vec()], "in pieces of {step}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_ends_the_stream_at_once() {
        for (wire, length) in [(*b"GET ", 0x4745_5420), (*b"\x16\x03\x01\x02", 0x1603_0102), ([0; 4], 0)] {
            let mut frames = Frames::default();
            frames.push(&wire);
            assert_eq!(frames.next_message(), Err(BadLength(length)));
        }
        assert_eq!(framed(&vec![b'x'; MAX_MESSAGE_BYTES + 1]), None);
        assert_eq!(framed(b""), None);
    }
}
