//! Streams cut into frames: the same ones come out however the bytes were cut on their way.

use super::food::Food;
use protocol::frame::Decoder;
use sip::frame::{Frame, StreamFramer};

/// A long stretch of the same byte, which a short input can't hold: this byte, and how many `unit`s of `x`.
const STRETCH: u8 = 0xf5;
/// What a stretch is counted in where a limit is a mebibyte, and where it is 64 KiB.
pub(super) const LONG: usize = 64 * 1024;
const SHORT: usize = 4 * 1024;

/// NDJSON: the lines of a plain reading come out for every cutting, the limit holds to the byte. The fourth byte is the limit:
/// the protocol's own would take streams that cost a thousand times as much (`a_line_of_one_mebibyte_is_read…` is at it).
pub(super) fn ndjson(data: &[u8]) {
    let (cuts, stream) = data.split_at(data.len().min(4));
    let limit = usize::from(cuts.get(3).copied().unwrap_or(0));
    let (expected, too_long) = plain_lines(stream, limit);
    let mut decoder = Decoder::within(limit);
    let (mut lines, mut broken) = (Vec::new(), false);
    for part in cut(stream, cuts) {
        broken |= decoder.push(part).is_err();
        lines.extend(std::iter::from_fn(|| decoder.next_line()));
        if broken {
            break;
        }
    }
    assert_eq!(broken, too_long, "the limit");
    assert!(lines == expected, "{} lines instead of {}", lines.len(), expected.len());
    assert!(!too_long || decoder.push(b"{}\n").is_err(), "broken for good");
}

/// The lines before the first that is too long, and whether there is one.
fn plain_lines(stream: &[u8], limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut lines = Vec::new();
    let mut pieces = stream.split(|byte| *byte == b'\n').peekable();
    while let Some(piece) = pieces.next() {
        let whole = pieces.peek().is_some();
        let line = if whole { piece.strip_suffix(b"\r").unwrap_or(piece) } else { piece };
        // Of an unfinished line one byte more may be the `\r` of its end.
        if line.len() > limit + usize::from(!whole) {
            return (lines, true);
        }
        if whole && !line.is_empty() {
            lines.push(line.to_vec());
        }
    }
    (lines, false)
}

/// SIP over a stream: the same frames, or the same fault after the same frames.
pub(super) fn sip_stream(data: &[u8]) {
    let (cuts, data) = data.split_at(data.len().min(4));
    let stream = stretched(data, SHORT);
    let whole = sip_frames([&stream[..]].into_iter());
    let held: usize = whole
        .0
        .iter()
        .map(|frame| match frame {
            Frame::Message(bytes) => bytes.len(),
            Frame::Ping => 4,
        })
        .sum();
    assert!(held <= stream.len(), "more than came");
    let cut = sip_frames(cut(&stream, cuts));
    assert!(cut == whole, "{cut:?} instead of {whole:?}");
}

fn sip_frames<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<sip::frame::Broken>) {
    let (mut framer, mut frames) = (StreamFramer::default(), Vec::new());
    for part in parts {
        framer.push(part);
        loop {
            match framer.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(broken) => {
                    framer.push(b"OPTIONS sip:a SIP/2.0\r\n\r\n");
                    assert_eq!(framer.next(), Err(broken), "broken for good");
                    return (frames, Some(broken));
                }
            }
        }
    }
    (frames, None)
}

/// The bytes with their stretches, three at most.
pub(super) fn stretched(data: &[u8], unit: usize) -> Vec<u8> {
    let mut stream = Vec::with_capacity(data.len());
    let mut stretches = 0;
    let mut food = Food(data);
    while !food.0.is_empty() {
        match food.byte() {
            STRETCH if stretches < 3 => {
                stretches += 1;
                let length = usize::from(food.byte() % 18) * unit;
                stream.resize(stream.len() + length, b'x');
            }
            byte => stream.push(byte),
        }
    }
    stream
}

/// Pieces whose lengths these bytes decide, in turn.
pub(super) fn cut<'a>(stream: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut turn = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // Of long streams not too many pieces.
        let scale = 1 + stream.len() / 4096;
        let length = cuts.get(turn % 4).map_or(1, |cut| 1 + usize::from(*cut)) * scale;
        turn += 1;
        let (now, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        Some(now)
    })
}
