//! Reading a peer's description into what the node decides with.

use super::crypto::{self, Keys, LineFaults};
use super::{MAX_FORMATS, SdpError, is_audio, parse, profile_of};
use crate::port::{Audio, MediaDirection, PayloadFormat, Profile, ReadSdp};
use sdp_types::{Attribute, Media, Session};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use webrtc_sdp::address::ExplicitlyTypedAddress;
use webrtc_sdp::attribute_type::{SdpAttribute, SdpAttributeRtpmap};
use webrtc_sdp::{SdpType, parse_sdp_line};

/// Packet length when a description says nothing (RFC 3551 §4.2), milliseconds.
const DEFAULT_PACKET_MS: u16 = 20;

/// Reads a session description: its audio lines, and the text itself for relaying. Of keys it takes what is usable.
///
/// # Errors
/// [`SdpError`]; all of them are the peer's fault. A live audio line whose address is no IP address is one only where no
/// other audio line can be read.
pub fn read(text: &[u8]) -> Result<ReadSdp, SdpError> {
    offer(text, Keys::Optional, &mut LineFaults::default())
}

/// The same of a peer's offer, by what holds for its dialog. The text is the one to be passed on: without the keys that may
/// not be, and without the streams that need them.
pub(super) fn offer(text: &[u8], keys: Keys, faults: &mut LineFaults) -> Result<ReadSdp, SdpError> {
    let mut session = parse(text)?;
    let changed = crypto::clean_offer(&mut session, keys, faults)?;
    read_session(&session, keys, text_of(&session, (!changed).then_some(text)))
}

/// The same of a peer's answer to these lines.
pub(super) fn answer(
    text: &[u8],
    offered: &[Media],
    keys: Keys,
    faults: &mut LineFaults,
) -> Result<ReadSdp, SdpError> {
    let mut session = parse(text)?;
    let changed = crypto::check_answer(&mut session, offered, keys, faults)?;
    read_session(&session, keys, text_of(&session, (!changed).then_some(text)))
}

/// A description as text: as it came, if it is that still.
fn text_of(session: &Session, unchanged: Option<&[u8]>) -> Arc<[u8]> {
    unchanged.map(Arc::from).unwrap_or_else(|| {
        let mut written = Vec::with_capacity(512);
        session.write(&mut written).expect("writing to a Vec can't fail");
        written.into()
    })
}

fn read_session(session: &Session, keys: Keys, text: Arc<[u8]>) -> Result<ReadSdp, SdpError> {
    let mut audio = Vec::new();
    let mut unreadable = None;
    for (line, media) in session.medias.iter().enumerate().filter(|(_, media)| is_audio(media)) {
        match read_audio(line, session, media, keys) {
            Ok(read) => audio.push(read),
            Err(error) => unreadable = unreadable.or(Some(error)),
        }
    }
    let is_live = |audio: &Audio| audio.address.port() != 0;
    if let Some(error) = unreadable.filter(|_| !audio.iter().any(is_live)) {
        return Err(error);
    }
    let others = || session.medias.iter().filter(|media| !is_audio(media) && media.port != 0);
    let other_clear = others().any(|media| crypto::usable(media).is_empty());
    Ok(ReadSdp { audio, other_media: others().next().is_some(), other_clear, over_tls: false, text })
}

fn read_audio(line: usize, session: &Session, media: &Media, keys: Keys) -> Result<Audio, SdpError> {
    let connection = media.connections.first().or(session.connection.as_ref());
    let ip = match connection.map(read_connection) {
        Some(Ok(ip)) => ip,
        // A refused stream needs no address.
        Some(Err(_)) | None if media.port == 0 => Ipv4Addr::UNSPECIFIED.into(),
        Some(Err(error)) => return Err(error),
        None => return Err(SdpError::Address),
    };
    let (formats, dtmf_payload_type) = read_formats(media);
    let direction = if ip.is_unspecified() {
        MediaDirection::Inactive
    } else {
        direction_of(&media.attributes)
            .or_else(|| direction_of(&session.attributes))
            .unwrap_or(MediaDirection::SendReceive)
    };
    let crypto = crypto::usable(media);
    let profile = match profile_of(media) {
        // Who must encrypt can't be spoken to in clear, whatever its phone writes.
        Profile::Plain if keys == Keys::Required && !crypto.is_empty() => Profile::Secure,
        profile @ (Profile::Plain | Profile::Secure | Profile::Dtls | Profile::Other) => profile,
    };
    let address = SocketAddr::new(ip, media.port);
    let packet_ms = read_packet_ms(media);
    Ok(Audio { line, profile, address, formats, dtmf_payload_type, direction, packet_ms, crypto })
}

/// One line through `webrtc-sdp`; `None` when it doesn't take it.
fn line(kind: char, value: &str) -> Option<SdpType> {
    parse_sdp_line(&format!("{kind}={value}"), 0).ok().map(|line| line.sdp_type)
}

fn read_connection(connection: &sdp_types::Connection) -> Result<IpAddr, SdpError> {
    let text = format!(
        "{} {} {}",
        connection.nettype.as_str(),
        connection.addrtype.as_str(),
        connection.connection_address
    );
    match line('c', &text) {
        Some(SdpType::Connection(read)) => match read.address {
            ExplicitlyTypedAddress::Ip(ip) => Ok(ip),
            ExplicitlyTypedAddress::Fqdn { .. } => Err(SdpError::Address),
        },
        _ => Err(SdpError::Address),
    }
}

/// The payload formats in the order of the media line, and telephone-event at 8 kHz apart.
fn read_formats(media: &Media) -> (Vec<PayloadFormat>, Option<u8>) {
    let mut maps: [Option<SdpAttributeRtpmap>; MAX_FORMATS] = [const { None }; MAX_FORMATS];
    for value in media.get_attribute_values("rtpmap").flatten() {
        if let Some(SdpType::Attribute(SdpAttribute::Rtpmap(map))) = line('a', &format!("rtpmap:{value}"))
            && let Some(slot @ None) = maps.get_mut(usize::from(map.payload_type))
        {
            *slot = Some(map);
        }
    }
    let mut formats = Vec::new();
    let mut dtmf = None;
    for payload_type in
        media.fmt.split_ascii_whitespace().take(MAX_FORMATS).filter_map(|t| t.parse::<u8>().ok())
    {
        let mapped = maps.get_mut(usize::from(payload_type)).and_then(Option::take).map(from_rtpmap);
        let Some(format) = mapped.or_else(|| static_format(payload_type)) else { continue };
        if format.name.eq_ignore_ascii_case("telephone-event") {
            if format.clock_rate == 8000 && dtmf.is_none() {
                dtmf = Some(format.payload_type);
            }
        } else if !formats.iter().any(|f: &PayloadFormat| f.payload_type == payload_type) {
            formats.push(format);
        }
    }
    (formats, dtmf)
}

fn from_rtpmap(map: SdpAttributeRtpmap) -> PayloadFormat {
    let channels = map.channels.and_then(|c| u8::try_from(c).ok()).filter(|c| *c > 0).unwrap_or(1);
    PayloadFormat {
        payload_type: map.payload_type,
        name: map.codec_name,
        clock_rate: map.frequency,
        channels,
    }
}

/// The static payload types of RFC 3551 §6 that audio uses; they need no `a=rtpmap`.
fn static_format(payload_type: u8) -> Option<PayloadFormat> {
    let (name, clock_rate, channels) = match payload_type {
        0 => ("PCMU", 8000, 1),
        3 => ("GSM", 8000, 1),
        4 => ("G723", 8000, 1),
        5 => ("DVI4", 8000, 1),
        6 => ("DVI4", 16000, 1),
        7 => ("LPC", 8000, 1),
        8 => ("PCMA", 8000, 1),
        9 => ("G722", 8000, 1),
        10 => ("L16", 44100, 2),
        11 => ("L16", 44100, 1),
        12 => ("QCELP", 8000, 1),
        13 => ("CN", 8000, 1),
        14 => ("MPA", 90000, 1),
        15 => ("G728", 8000, 1),
        16 => ("DVI4", 11025, 1),
        17 => ("DVI4", 22050, 1),
        18 => ("G729", 8000, 1),
        _ => return None,
    };
    Some(PayloadFormat { payload_type, name: name.into(), clock_rate, channels })
}

fn direction_of(attributes: &[Attribute]) -> Option<MediaDirection> {
    attributes.iter().find_map(|a| direction_named(&a.attribute))
}

pub(super) fn direction_named(name: &str) -> Option<MediaDirection> {
    match name.to_ascii_lowercase().as_str() {
        "sendrecv" => Some(MediaDirection::SendReceive),
        "sendonly" => Some(MediaDirection::SendOnly),
        "recvonly" => Some(MediaDirection::ReceiveOnly),
        "inactive" => Some(MediaDirection::Inactive),
        _ => None,
    }
}

fn read_packet_ms(media: &Media) -> u16 {
    let value = media.get_first_attribute_value("ptime").flatten();
    match value.and_then(|v| line('a', &format!("ptime:{v}"))) {
        Some(SdpType::Attribute(SdpAttribute::Ptime(ms))) => {
            u16::try_from(ms).ok().filter(|ms| (1..=1000).contains(ms)).unwrap_or(DEFAULT_PACKET_MS)
        }
        _ => DEFAULT_PACKET_MS,
    }
}
