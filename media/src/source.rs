//! Whose packets are heard, and where ours go.
//!
//! A phone behind NAT, or one with several addresses, sends from another address than its description says. So, until
//! the address that was told has sent anything, another one that really sends is taken for the far end: after a few valid
//! packets of the agreed types, one after the other, of one source (RFC 7362 calls it latching). Our packets go where its
//! come from (symmetric RTP, RFC 4961). Afterwards all others are strangers, but for the address that was told.

use crate::rtp::RtpPacket;
use std::net::SocketAddr;

/// Packets in a row that make an unknown address the far end: less than one digit has.
pub(super) const LATCH_PACKETS: u32 = 3;

/// Sequence numbers that may be missing between two of them.
const MAX_GAP: u16 = 3;

/// The far end.
#[derive(Debug, Default)]
pub(super) struct FarEnd {
    /// What was agreed.
    told: Option<SocketAddr>,
    /// Who is heard.
    source: Option<SocketAddr>,
    candidate: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    sequence: u16,
    packets: u32,
}

/// What a valid packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Of the far end.
    Heard,
    /// The same, for the first time from there: what came before was another source.
    NewSource,
    /// The same, and from another address than was told.
    Latched,
    /// Of somebody else.
    Stranger,
}

impl FarEnd {
    /// The agreed address. `true` when the far end is another one now.
    pub fn tell(&mut self, told: SocketAddr) -> bool {
        let same = self.told == Some(told) || (self.told.is_none() && self.source == Some(told));
        if same {
            self.told = Some(told);
        } else {
            *self = Self { told: Some(told), ..Self::default() };
        }
        !same
    }

    /// Where our packets go.
    pub fn destination(&self, agreed: SocketAddr) -> SocketAddr {
        self.source.filter(|_| self.told == Some(agreed)).unwrap_or(agreed)
    }

    /// Whether somebody is heard: whoever else sends is a stranger for sure.
    pub fn is_heard(&self) -> bool {
        self.source.is_some()
    }

    /// Whether what comes from there, valid or not, is the far end's.
    pub fn knows(&self, from: SocketAddr) -> bool {
        self.source == Some(from) || self.told == Some(from) || (self.told.is_none() && self.source.is_none())
    }

    /// Judges a packet that is valid and of an agreed type.
    pub fn judge(&mut self, from: SocketAddr, packet: &RtpPacket<'_>) -> Verdict {
        if self.source == Some(from) {
            return Verdict::Heard;
        }
        if self.knows(from) {
            self.candidate = None;
            self.source = Some(from);
            return Verdict::NewSource;
        }
        if self.source.is_some() || !self.convinces(from, packet) {
            return Verdict::Stranger;
        }
        self.source = Some(from);
        Verdict::Latched
    }

    /// Whether this one has sent enough in a row.
    fn convinces(&mut self, from: SocketAddr, packet: &RtpPacket<'_>) -> bool {
        let goes_on = |before: &&Candidate| {
            let step = packet.sequence.wrapping_sub(before.sequence);
            before.from == from && before.ssrc == packet.ssrc && (1..=MAX_GAP + 1).contains(&step)
        };
        let packets = self.candidate.as_ref().filter(goes_on).map_or(0, |before| before.packets) + 1;
        self.candidate = Some(Candidate { from, ssrc: packet.ssrc, sequence: packet.sequence, packets });
        packets >= LATCH_PACKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4_000))
    }

    fn judge(far: &mut FarEnd, from: u8, ssrc: u32, sequence: u16) -> Verdict {
        let packet =
            RtpPacket { marker: false, payload_type: 0, sequence, timestamp: 0, ssrc, payload: &[1, 2] };
        far.judge(at(from), &packet)
    }

    #[test]
    fn the_source_that_really_sends_is_taken_after_a_few_packets_and_nobody_after_it() {
        let mut far = FarEnd::default();
        assert!(far.tell(at(1)));
        // Two packets, a jump, another source, again: nobody has convinced yet.
        for (ssrc, sequence) in [(7, 65_534), (7, 65_535), (7, 100), (8, 101), (8, 101), (8, 102)] {
            assert_eq!(judge(&mut far, 2, ssrc, sequence), Verdict::Stranger, "{ssrc} {sequence}");
        }
        assert_eq!(far.destination(at(1)), at(1));
        assert_eq!(judge(&mut far, 2, 8, 104), Verdict::Latched, "one lost on the way is no matter");
        assert_eq!(far.destination(at(1)), at(2));
        for sequence in 0..20 {
            assert_eq!(judge(&mut far, 3, 9, sequence), Verdict::Stranger, "{sequence}");
        }
        assert_eq!(judge(&mut far, 2, 8, 105), Verdict::Heard);
        // The same address told again, as at a change of codec, changes nothing; another one does.
        assert!(!far.tell(at(1)));
        assert_eq!(judge(&mut far, 2, 8, 106), Verdict::Heard);
        assert!(far.tell(at(4)));
        assert_eq!(judge(&mut far, 2, 8, 107), Verdict::Stranger);
    }

    #[test]
    fn the_address_that_was_told_is_always_right() {
        let mut far = FarEnd::default();
        far.tell(at(1));
        assert_eq!(judge(&mut far, 1, 1, 1), Verdict::NewSource);
        for sequence in 0..20 {
            assert_eq!(judge(&mut far, 2, 9, sequence), Verdict::Stranger, "somebody is heard already");
        }
        let mut far = FarEnd::default();
        far.tell(at(1));
        let last = (0..3).map(|sequence| judge(&mut far, 2, 9, sequence)).last();
        assert_eq!(last, Some(Verdict::Latched), "a stranger was quicker");
        assert_eq!(judge(&mut far, 1, 1, 1), Verdict::NewSource);
        assert_eq!(judge(&mut far, 2, 9, 3), Verdict::Stranger);
        assert_eq!(far.destination(at(1)), at(1));
    }

    #[test]
    fn two_that_take_turns_convince_nobody() {
        let mut far = FarEnd::default();
        far.tell(at(1));
        for sequence in 0..50 {
            assert_eq!(judge(&mut far, 2, 7, sequence), Verdict::Stranger);
            assert_eq!(judge(&mut far, 3, 8, sequence), Verdict::Stranger);
        }
    }

    #[test]
    fn without_an_agreed_address_the_first_one_is_it() {
        let mut far = FarEnd::default();
        assert_eq!(judge(&mut far, 2, 7, 1), Verdict::NewSource);
        assert_eq!(judge(&mut far, 3, 7, 2), Verdict::Stranger);
        assert!(!far.tell(at(2)), "that was it");
        assert_eq!(judge(&mut far, 2, 7, 3), Verdict::Heard);
    }
}
