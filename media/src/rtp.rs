//! RTP packets (RFC 3550 §5.1), read without trust and written without options.

/// An RTP packet; the payload lies in the datagram that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// First packet after a silence (RFC 3551 §4.1), or of a telephone-event.
    pub marker: bool,
    /// 0–127.
    pub payload_type: u8,
    /// Counts packets, wraps.
    pub sequence: u16,
    /// Counts samples, wraps.
    pub timestamp: u32,
    /// The sender's stream.
    pub ssrc: u32,
    /// Without padding.
    pub payload: &'a [u8],
}

/// A datagram that is no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than its own header says.
    #[error("the packet is cut short")]
    TooShort,
    /// Not version 2: STUN, RTCP of old, or noise.
    #[error("not RTP version 2")]
    Version,
    /// More padding than packet.
    #[error("the padding is longer than the payload")]
    Padding,
}

const HEADER_BYTES: usize = 12;
const VERSION_2: u8 = 0b1000_0000;

impl<'a> RtpPacket<'a> {
    /// Reads a datagram. CSRCs and header extensions are stepped over.
    ///
    /// # Errors
    /// [`RtpError`] for what is no whole RTP packet.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtpError> {
        let (header, rest) = datagram.split_at_checked(HEADER_BYTES).ok_or(RtpError::TooShort)?;
        if header[0] & 0b1100_0000 != VERSION_2 {
            return Err(RtpError::Version);
        }
        let csrc_bytes = usize::from(header[0] & 0x0f) * 4;
        let mut payload = rest.get(csrc_bytes..).ok_or(RtpError::TooShort)?;
        if header[0] & 0b0001_0000 != 0 {
            let words =
                payload.get(2..4).map(|l| u16::from_be_bytes([l[0], l[1]])).ok_or(RtpError::TooShort)?;
            payload = payload.get(4 + usize::from(words) * 4..).ok_or(RtpError::TooShort)?;
        }
        if header[0] & 0b0010_0000 != 0 {
            let padding = usize::from(*payload.last().ok_or(RtpError::Padding)?);
            let kept = payload.len().checked_sub(padding).filter(|_| padding > 0).ok_or(RtpError::Padding)?;
            payload = &payload[..kept];
        }
        Ok(Self {
            marker: header[1] & 0x80 != 0,
            payload_type: header[1] & 0x7f,
            sequence: u16::from_be_bytes([header[2], header[3]]),
            timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            ssrc: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            payload,
        })
    }

    /// Writes the packet over what `out` held.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(VERSION_2);
        out.push((u8::from(self.marker) << 7) | (self.payload_type & 0x7f));
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn csrcs_extension_and_padding_are_not_payload() {
        let mut bytes = vec![0b1011_0001, 0x80 | 8, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7];
        bytes.extend([9; 4]); // one CSRC
        bytes.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]); // an extension of one word
        bytes.extend([0x55, 0x66, 0, 2]); // two bytes of payload, two of padding
        let packet = RtpPacket::parse(&bytes).expect("a whole packet");
        assert!(packet.marker);
        assert_eq!((packet.payload_type, packet.sequence, packet.timestamp, packet.ssrc), (8, 1, 160, 7));
        assert_eq!(packet.payload, [0x55, 0x66]);
    }

    #[test]
    fn broken_packets_are_named_for_what_they_are() {
        let good = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(RtpPacket::parse(&good[..11]), Err(RtpError::TooShort));
        let with_first = |first: u8| {
            let mut bytes = good;
            bytes[0] = first;
            RtpPacket::parse(&bytes).map(|p| p.payload.len())
        };
        assert_eq!(with_first(0x80), Ok(0));
        assert_eq!(with_first(0x00), Err(RtpError::Version));
        assert_eq!(with_first(0x81), Err(RtpError::TooShort), "a CSRC that is not there");
        assert_eq!(with_first(0x90), Err(RtpError::TooShort), "an extension that is not there");
        assert_eq!(with_first(0xa0), Err(RtpError::Padding), "padding of an empty payload");
        for padding in [0, 3] {
            let mut bytes = vec![0xa0];
            bytes.extend(&good[1..]);
            bytes.extend([1, padding]);
            assert_eq!(RtpPacket::parse(&bytes), Err(RtpError::Padding), "padding {padding} of two bytes");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
                                      payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            let packet = RtpPacket { marker, payload_type, sequence, timestamp, ssrc, payload: &payload };
            let mut bytes = vec![1, 2, 3];
            packet.write(&mut bytes);
            prop_assert_eq!(RtpPacket::parse(&bytes), Ok(packet));
        }

        #[test]
        fn any_datagram_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = RtpPacket::parse(&bytes) {
                prop_assert!(packet.payload.len() + 12 <= bytes.len());
                prop_assert!(packet.payload_type < 128);
            }
        }
    }
}
