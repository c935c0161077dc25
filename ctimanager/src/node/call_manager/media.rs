//! Session descriptions between the two rooms that speak of them: `sip` reads and writes them, `device-model` decides.

use device_model::EndId;
use device_model::media::{AudioLine, Codec, Crypto, Description, Direction, Format, Profile, SrtpSuite};
use device_model::port::Body;
use security::srtp::{KeyCustody, SrtpKey};
use sip::port::{Audio, MediaDirection, PayloadFormat, ReadSdp, SdesKey, Sdp, Suite};

/// What a peer described, for the model. Its keys go into custody.
#[must_use]
pub fn description(read: ReadSdp, end: EndId, keys: &mut KeyCustody) -> Description {
    let ReadSdp { audio, other_media, other_clear, over_tls, text } = read;
    let audio = audio.into_iter().map(|audio| line(audio, end, keys)).collect();
    Description { audio, other_media, other_clear, over_tls, text }
}

fn line(audio: Audio, end: EndId, keys: &mut KeyCustody) -> AudioLine {
    let format = |f: &PayloadFormat| Format {
        payload_type: f.payload_type,
        codec: Codec::from_rtpmap(&f.name, f.clock_rate, f.channels),
    };
    AudioLine {
        place: audio.line,
        profile: profile_in(audio.profile),
        address: audio.address,
        formats: audio.formats.iter().map(format).collect(),
        dtmf_payload_type: audio.dtmf_payload_type,
        direction: direction_in(audio.direction),
        packet_ms: audio.packet_ms,
        crypto: audio.crypto.iter().map(|crypto| key(crypto, end, keys)).collect(),
    }
}

fn key(crypto: &sip::port::Crypto, end: EndId, keys: &mut KeyCustody) -> Crypto {
    let suite = match crypto.key.suite {
        Suite::AeadAes256Gcm => SrtpSuite::AeadAes256Gcm,
        Suite::AeadAes128Gcm => SrtpSuite::AeadAes128Gcm,
        Suite::AesCm128HmacSha1_80 => SrtpSuite::AesCm128HmacSha1_80,
        Suite::AesCm128HmacSha1_32 => SrtpSuite::AesCm128HmacSha1_32,
    };
    let SdesKey { key, salt, lifetime, mki, .. } = SdesKey::clone(&crypto.key);
    Crypto { tag: crypto.tag, suite, key: keys.keep(end, SrtpKey { suite, key, salt, mki, lifetime }) }
}

/// What the model wants written, for the wire.
#[must_use]
pub fn body(body: Body) -> Sdp {
    match body {
        Body::Relay(description, written) => Sdp::Relay(description.text, written.map(direction_out)),
        Body::Local(line) => Sdp::Local(audio(&line)),
    }
}

fn audio(line: &AudioLine) -> Audio {
    Audio {
        line: line.place,
        profile: profile_out(line.profile),
        address: line.address,
        formats: line.formats.iter().map(payload_format).collect(),
        dtmf_payload_type: line.dtmf_payload_type,
        direction: direction_out(line.direction),
        packet_ms: line.packet_ms,
        crypto: Vec::new(),
    }
}

fn profile_in(profile: sip::port::Profile) -> Profile {
    match profile {
        sip::port::Profile::Plain => Profile::Plain,
        sip::port::Profile::Secure => Profile::Secure,
        sip::port::Profile::Dtls => Profile::Dtls,
        sip::port::Profile::Other => Profile::Other,
    }
}

fn profile_out(profile: Profile) -> sip::port::Profile {
    match profile {
        Profile::Plain => sip::port::Profile::Plain,
        Profile::Secure => sip::port::Profile::Secure,
        Profile::Dtls => sip::port::Profile::Dtls,
        Profile::Other => sip::port::Profile::Other,
    }
}

fn payload_format(format: &Format) -> PayloadFormat {
    let (name, clock_rate, channels) = format.codec.rtpmap();
    PayloadFormat { payload_type: format.payload_type, name: name.to_owned(), clock_rate, channels }
}

fn direction_in(direction: MediaDirection) -> Direction {
    match direction {
        MediaDirection::SendReceive => Direction::SendReceive,
        MediaDirection::SendOnly => Direction::SendOnly,
        MediaDirection::ReceiveOnly => Direction::ReceiveOnly,
        MediaDirection::Inactive => Direction::Inactive,
    }
}

fn direction_out(direction: Direction) -> MediaDirection {
    match direction {
        Direction::SendReceive => MediaDirection::SendReceive,
        Direction::SendOnly => MediaDirection::SendOnly,
        Direction::ReceiveOnly => MediaDirection::ReceiveOnly,
        Direction::Inactive => MediaDirection::Inactive,
    }
}
