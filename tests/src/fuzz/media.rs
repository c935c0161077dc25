//! Session descriptions and RTP packets.

use super::food::Food;
use media::codec::{AudioCodec, Decoder};
use media::dtmf::{Digit, EventReceiver, KeyEvent};
use media::jitter::{DELAY, JitterBuffer};
use media::rtp::RtpPacket;
use media::wav;
use sip::port::{Audio, MediaDirection, Sdp};
use sip::sdp::{self, Describer, Keys, MediaPolicy};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

/// Two descriptions, split at a line of `---`: each is read, relayed with and without a direction, and answered.
pub(super) fn sdp(data: &[u8]) {
    let (first, second) = match data.windows(5).position(|window| window == b"\n---\n") {
        Some(at) => (&data[..=at], &data[at + 5..]),
        None => (data, data),
    };
    let Ok(read) = sdp::read(first) else {
        assert!(
            Describer::new(1, OWN).offer(&Sdp::Relay(first.into(), None)).is_err() || has_audio_fault(first)
        );
        return;
    };
    let lossless = String::from_utf8_lossy(first).to_ascii_lowercase();
    let may_change =
        ["crypto", "savp", "k=", "inline:", "key-mgmt"].iter().any(|word| lossless.contains(word));
    assert!(may_change || *read.text == *first, "the text comes back as it is");
    for audio in &read.audio {
        assert!(audio.packet_ms > 0 && audio.formats.iter().all(|format| format.payload_type < 128));
    }
    for direction in [None, Some(MediaDirection::SendOnly), Some(MediaDirection::Inactive)] {
        relayed(&read.text, direction);
    }
    answered(&read.text, second, &read.audio);
}

/// What reading refuses, relaying refuses too, but for the address of the audio, which relaying does not look at.
fn has_audio_fault(text: &[u8]) -> bool {
    matches!(sdp::read(text), Err(sdp::SdpError::Address))
}

fn relayed(text: &Arc<[u8]>, direction: Option<MediaDirection>) {
    let mut describer = keeper();
    let offer = Sdp::Relay(text.clone(), direction);
    let written = describer.offer(&offer).expect("what was read can be relayed");
    let again = describer.offer(&offer).expect("what was read can be relayed");
    assert_eq!(written, again, "the same description again is the same text, byte for byte");
    let back = sdp::read(&written).expect("what we write can be read");
    let before = sdp::read(text).expect("read before");
    assert_eq!(back.audio.len(), before.audio.len(), "audio lines pass");
    for (back, before) in back.audio.iter().zip(&before.audio) {
        assert_eq!((back.line, back.profile), (before.line, before.profile), "lines keep their places");
        assert_eq!(back.address, before.address, "the media's address passes");
        assert_eq!(back.formats, before.formats, "the formats pass");
        assert_eq!(back.crypto, before.crypto, "keys pass");
        let live = back.address.port() != 0 && !back.address.ip().is_unspecified();
        if let Some(direction) = direction.filter(|_| live) {
            assert_eq!(back.direction, direction);
        }
    }
    let count =
        |text: &[u8], line: &[u8]| text.split(|byte| *byte == b'\n').filter(|l| l.starts_with(line)).count();
    // A carriage return alone ends no line. (It may stand in an origin line, which is not passed on.)
    let lossless = String::from_utf8_lossy(text);
    assert_eq!(count(&written, b"m="), count(lossless.as_bytes(), b"m="), "media lines pass");
    let mut clear = Describer::new(77, OWN);
    if let Ok(written) = clear.offer(&offer) {
        assert_eq!(count(&written, b"a=crypto"), 0, "no key goes to who has none");
    }
    let mut twice = keeper();
    let written_twice = twice.offer(&Sdp::Relay(written.clone(), direction)).expect("can be relayed again");
    assert_eq!(written_twice, written, "rewriting what was rewritten changes nothing");
}

/// The writer of who may have keys.
fn keeper() -> Describer {
    let policy = MediaPolicy { keys: Keys::Optional, over_tls: true, ..MediaPolicy::default() };
    Describer::new(77, OWN).with_policy(policy)
}

fn answered(offer: &[u8], answer: &[u8], audio: &[Audio]) {
    let medias = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        text.lines()
            .filter_map(|l| l.strip_prefix("m="))
            .map(|l| l.split(' ').next().unwrap_or_default().to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    let kinds = medias(&keeper().offer(&Sdp::Relay(offer.into(), None)).expect("it was read"));
    let locals = audio.iter().cloned().map(Sdp::Local);
    for sdp in locals.chain([Sdp::Relay(answer.into(), None)]) {
        if let Ok(written) = Describer::new(2, OWN).answer(&sdp, offer) {
            assert_eq!(medias(&written), kinds, "an answer has the offer's media lines (RFC 3264 §6)");
        }
    }
    let refusal = Describer::new(2, OWN).refusal(offer).expect("what was read can be refused");
    assert_eq!(medias(&refusal), kinds);
}

/// A datagram.
pub(super) fn rtp(data: &[u8]) {
    let Ok(packet) = RtpPacket::parse(data) else { return };
    assert!(packet.payload.len() + 12 <= data.len() && packet.payload_type < 128);
    let mut written = Vec::new();
    packet.write(&mut written);
    assert_eq!(RtpPacket::parse(&written), Ok(packet), "what is written reads back");
}

/// Packets of a peer as they come, with pauses: there is a frame each time that one is asked for or none, of the length that
/// was asked for, and no more is held than may be; a key goes up once at most.
///
/// Each packet is a byte of how many milliseconds later it comes, one of its length, one of what it is, and itself.
pub(super) fn stream(data: &[u8]) {
    /// 20 ms.
    const FRAME: usize = 160;
    let mut now = Instant::now();
    let (mut jitter, mut keys) = (JitterBuffer::new(), EventReceiver::new());
    let (mut down, mut samples) = (None, Vec::new());
    let mut decoders = AudioCodec::ALL.map(Decoder::new);
    let mut food = Food(data);
    while !food.0.is_empty() {
        let pause = food.byte();
        for _ in 0..pause / 20 {
            now += Duration::from_millis(20);
            let frame = jitter.pull(now, FRAME);
            assert!(frame.is_none_or(|frame| frame.len() == FRAME), "20 ms are 20 ms");
            if let Some(KeyEvent::Released { digit, .. }) = keys.timeout(now) {
                assert_eq!(down.take(), Some(digit), "what goes up was down");
            }
        }
        now += Duration::from_millis(u64::from(pause % 20));
        let (length, kind) = (usize::from(food.byte()), food.byte());
        let (packet, rest) = food.0.split_at(length.min(food.0.len()));
        food.0 = rest;
        let Ok(packet) = RtpPacket::parse(packet) else { continue };
        match kind % 8 {
            0 => {
                for event in keys.receive(now, packet.timestamp, packet.payload).into_iter().flatten() {
                    key(event, &mut down);
                }
            }
            1 => jitter.reset(),
            codec => {
                samples.clear();
                let which = usize::from(codec) % decoders.len();
                decoders[which].decode(packet.payload, &mut samples);
                jitter.push(now, packet.timestamp, samples.clone());
            }
        }
        assert!(DELAY.contains(&jitter.delay()), "{:?} of delay", jitter.delay());
    }
}

fn key(event: KeyEvent, down: &mut Option<Digit>) {
    match event {
        // Of a key whose only packet was its end, nobody hears that it went up.
        KeyEvent::Pressed(digit) => *down = Some(digit),
        KeyEvent::Released { digit, .. } => assert_eq!(down.take(), Some(digit), "what goes up was down"),
    }
}

/// A file that is to be played.
pub(super) fn wav(data: &[u8]) {
    if let Ok(samples) = wav::read_from(data) {
        let bound = usize::try_from(wav::MAX_WAV_S).expect("small") * 8_000;
        assert!(samples.len() <= bound + 1 && samples.len() <= data.len(), "{} samples", samples.len());
        let mut again = std::io::Cursor::new(Vec::new());
        wav::write_to(&mut again, &samples).expect("it can be written");
        assert_eq!(wav::read_from(&again.get_ref()[..]).expect("and read"), samples);
    }
}
