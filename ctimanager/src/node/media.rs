//! Session descriptions between the two rooms that speak of them: `sip` reads and writes them, `device-model` decides.

use device_model::media::{Codec, Description, Direction, Format};
use device_model::port::Body;
use sip::port::{Audio, MediaDirection, PayloadFormat, ReadSdp, Sdp};

/// What a peer described, for the model.
#[must_use]
pub fn description(read: ReadSdp) -> Description {
    let ReadSdp { audio, text } = read;
    Description {
        address: audio.address,
        formats: audio
            .formats
            .iter()
            .map(|f| Format { payload_type: f.payload_type, codec: Codec::from_rtp_name(&f.name) })
            .collect(),
        dtmf_payload_type: audio.dtmf_payload_type,
        direction: direction_in(audio.direction),
        packet_ms: audio.packet_ms,
        encrypted: audio.encrypted,
        text,
    }
}

/// What the model wants written, for the wire.
#[must_use]
pub fn body(body: Body) -> Sdp {
    match body {
        Body::Relay(description, written) => Sdp::Relay(description.text, written.map(direction_out)),
        Body::Local(description) => Sdp::Local(audio(&description)),
    }
}

fn audio(description: &Description) -> Audio {
    Audio {
        address: description.address,
        formats: description.formats.iter().map(payload_format).collect(),
        dtmf_payload_type: description.dtmf_payload_type,
        direction: direction_out(description.direction),
        packet_ms: description.packet_ms,
        encrypted: description.encrypted,
    }
}

fn payload_format(format: &Format) -> PayloadFormat {
    // A codec without defaults never comes from the model: applications can't name it.
    let (clock_rate, channels, _) = format.codec.defaults().unwrap_or((8000, 1, 0));
    PayloadFormat {
        payload_type: format.payload_type,
        name: format.codec.rtp_name().to_owned(),
        clock_rate,
        channels,
    }
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
