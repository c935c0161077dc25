//! Session descriptions between the two rooms that speak of them: `sip` reads and writes them, `device-model` decides.

use device_model::media::{AudioLine, Codec, Description, Direction, Format, Profile};
use device_model::port::Body;
use sip::port::{Audio, MediaDirection, PayloadFormat, ReadSdp, Sdp};

/// What a peer described, for the model.
#[must_use]
pub fn description(read: ReadSdp) -> Description {
    let ReadSdp { audio, other_media, text } = read;
    Description { audio: audio.into_iter().map(line).collect(), other_media, text }
}

fn line(audio: Audio) -> AudioLine {
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
        encrypted: audio.encrypted,
    }
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
        encrypted: line.encrypted,
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
