//! What happened, line by line: the last lines for a reader, all of them in one number that tells two runs apart.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

/// Lines that are kept for a failure.
const KEPT: usize = 80;

/// Beginnings of a SIP message's other lines that are shown: which call, which transaction, whose media, which way.
const TELLING: [&[u8]; 7] =
    [b"Call-ID:", b"CSeq:", b"a=x-call:", b"a=sendrecv", b"a=sendonly", b"a=recvonly", b"a=inactive"];

/// The record of a run.
#[derive(Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    hash: u64,
    count: u64,
    /// Everything is printed as it happens.
    pub(super) loud: bool,
}

impl Trace {
    /// A line; `bytes` go into the number whole and are shown by their first line and what tells most of the others.
    pub(super) fn line(&mut self, at: Duration, what: &str, bytes: &[u8]) {
        self.count += 1;
        self.mix(what.as_bytes());
        self.mix(bytes);
        self.mix(&at.as_micros().to_le_bytes());
        let mut line =
            if self.lines.len() == KEPT { self.lines.pop_front() } else { None }.unwrap_or_default();
        line.clear();
        let mut parts = bytes.split(|b| *b == b'\r').map(|part| part.strip_prefix(b"\n").unwrap_or(part));
        let first = parts.next().unwrap_or_default();
        let shown = String::from_utf8_lossy(&first[..first.len().min(700)]);
        // Writing to a String can't fail.
        let _ = write!(line, "{:>11.6} {what} {shown}", at.as_secs_f64());
        for part in parts.filter(|part| TELLING.iter().any(|name| part.starts_with(name))) {
            let _ = write!(line, " | {}", String::from_utf8_lossy(part));
        }
        if self.loud {
            eprintln!("{line}");
        }
        self.lines.push_back(line);
    }

    /// FNV-1a, eight bytes at once where there are as many.
    fn mix(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash = self.hash ^ 0xcbf2_9ce4_8422_2325;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(PRIME).rotate_left(23);
        }
        self.hash = hash.wrapping_add(bytes.len() as u64).wrapping_mul(PRIME);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn last_lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
