//! Writing our side of a dialog's descriptions.

use super::crypto::{self, Keys, LineFaults};
use super::read::{self, direction_named};
use super::{SdpError, is_audio, parse, profile_of, refused};
use crate::port::{Audio, MediaDirection, Profile, ReadSdp, Sdp};
use sdp_types::{Attribute, Connection, Media, MediaType, Origin, Session, Time, TransportProto};
use std::net::IpAddr;
use std::sync::Arc;

/// Our side of one dialog's descriptions: one origin line for all of them, whose version grows with each change
/// (RFC 3264 §8), whoever's media they describe.
#[derive(Clone)]
pub struct Describer {
    session_id: u64,
    version: u64,
    address: IpAddr,
    policy: MediaPolicy,
    last: Option<Written>,
}

/// Whose descriptions they are, and what holds for keys in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaPolicy {
    /// The device or trunk.
    pub peer: Arc<str>,
    /// Its setting, by its transport.
    pub keys: Keys,
    /// Whether its signalling is TLS.
    pub over_tls: bool,
}

#[derive(Clone)]
struct Written {
    session: Session,
    text: Arc<[u8]>,
}

impl std::fmt::Debug for Describer {
    /// Never the texts: they may hold key material.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Describer(version {})", self.version)
    }
}

impl Describer {
    /// A dialog's describer; `session_id` should differ between dialogs, `address` is what our origin line says.
    #[must_use]
    pub fn new(session_id: u64, address: IpAddr) -> Self {
        // Some phones read the number as 63 bits with a sign.
        let session_id = session_id >> 2;
        Self { session_id, version: 1, address, policy: MediaPolicy::default(), last: None }
    }

    /// The same for a peer that may have keys.
    #[must_use]
    pub fn with_policy(self, policy: MediaPolicy) -> Self {
        Self { policy, ..self }
    }

    /// What holds for keys.
    #[must_use]
    pub fn policy(&self) -> &MediaPolicy {
        &self.policy
    }

    /// Reads the peer's offer.
    ///
    /// # Errors
    /// [`SdpError`], all of them the peer's fault.
    pub fn read_offer(&self, text: &[u8], faults: &mut LineFaults) -> Result<ReadSdp, SdpError> {
        let read = read::offer(text, self.policy.keys, faults)?;
        Ok(ReadSdp { over_tls: self.policy.over_tls, ..read })
    }

    /// Reads the peer's answer to what was described last.
    ///
    /// # Errors
    /// The same.
    pub fn read_answer(&self, text: &[u8], faults: &mut LineFaults) -> Result<ReadSdp, SdpError> {
        let offered = self.last.as_ref().map_or(&[][..], |last| &last.session.medias);
        let read = read::answer(text, offered, self.policy.keys, faults)?;
        Ok(ReadSdp { over_tls: self.policy.over_tls, ..read })
    }

    /// What was described last; a session refresh says it again, byte for byte.
    #[must_use]
    pub fn last(&self) -> Option<Arc<[u8]>> {
        self.last.as_ref().map(|written| written.text.clone())
    }

    /// Writes an offer. What was described before keeps its places (RFC 3264 §8).
    ///
    /// # Errors
    /// A relayed text that is no session description, or one of which nothing is left for this peer.
    pub fn offer(&mut self, sdp: &Sdp) -> Result<Arc<[u8]>, SdpError> {
        let places = self.last.as_ref().map_or(&[][..], |last| &last.session.medias);
        let mut session = match sdp {
            Sdp::Relay(text, direction) => {
                let mut session = relayed(text, *direction)?;
                session.medias = placed(std::mem::take(&mut session.medias), places);
                session
            }
            Sdp::Local(audio) => with_medias(local_offer(audio, places), audio.address.ip()),
        };
        crypto::fit_offer(&mut session, self.policy.keys)?;
        Ok(self.finish(session))
    }

    /// Writes the answer to `offer`: as many media lines as it has, of the same kinds in the same order.
    ///
    /// # Errors
    /// A text that is no session description, or a line to be answered that the offer hasn't.
    pub fn answer(&mut self, sdp: &Sdp, offer: &[u8]) -> Result<Arc<[u8]>, SdpError> {
        let offer = parse(offer)?;
        let session = match sdp {
            Sdp::Relay(text, direction) => {
                let mut session = relayed(text, *direction)?;
                let answered = std::mem::take(&mut session.medias);
                session.medias = fitted(answered.clone(), &offer.medias);
                crypto::fit_answer(&mut session.medias, &answered, &offer.medias, self.policy.keys)?;
                session
            }
            Sdp::Local(audio) => {
                let mut session = local_answer(audio, &offer)?;
                crypto::fit_answer(&mut session.medias, &[], &offer.medias, self.policy.keys)?;
                session
            }
        };
        Ok(self.finish(within(session, &offer)))
    }

    /// Writes an answer that refuses each line of `offer`, for an offer that can't be refused otherwise: that of a 2xx
    /// (RFC 3261 §13.2.2.4).
    ///
    /// # Errors
    /// An offer that is no session description.
    pub fn refusal(&mut self, offer: &[u8]) -> Result<Arc<[u8]>, SdpError> {
        let medias = parse(offer)?.medias.iter().map(refused).collect();
        Ok(self.finish(with_medias(medias, self.address)))
    }

    /// Puts our origin line over it; the version grows when anything below that line changed.
    fn finish(&mut self, mut session: Session) -> Arc<[u8]> {
        session.session_name = "-".into();
        session.session_description = None;
        session.uri = None;
        session.emails.clear();
        session.phones.clear();
        session.origin = self.origin();
        if let Some(last) = &self.last {
            if last.session == session {
                return last.text.clone();
            }
            self.version += 1;
            session.origin = self.origin();
        }
        let mut text = Vec::with_capacity(512);
        session.write(&mut text).expect("writing to a Vec can't fail");
        let text: Arc<[u8]> = text.into();
        self.last = Some(Written { session, text: text.clone() });
        text
    }

    fn origin(&self) -> Origin {
        Origin::with_ip_addr(self.session_id, self.version, self.address)
    }
}

/// Another leg's text with the direction written over every stream that is not refused.
fn relayed(text: &[u8], direction: Option<MediaDirection>) -> Result<Session, SdpError> {
    let mut session = parse(text)?;
    if let Some(direction) = direction {
        session.attributes.retain(|a| direction_named(&a.attribute).is_none());
        for media in &mut session.medias {
            media.attributes.retain(|a| direction_named(&a.attribute).is_none());
            if media.port != 0 {
                media.attributes.push(Attribute::new(direction_name(direction)));
            }
        }
    }
    Ok(session)
}

/// Deals streams out over the places of media lines: the one at the same place if it fits there, else the next that does.
fn dealt(
    streams: &mut [Option<Media>],
    places: &[Media],
    fits: impl Fn(&Media, &Media) -> bool,
) -> Vec<Option<Media>> {
    let fits = |stream: &Option<Media>, place: &Media| stream.as_ref().is_some_and(|s| fits(s, place));
    // First those in place, so that a line doesn't lose its own stream to an earlier one of its kind.
    let in_place = places.iter().enumerate();
    let mut dealt: Vec<Option<Media>> = in_place
        .map(|(i, place)| streams.get_mut(i).filter(|s| fits(s, place)).and_then(Option::take))
        .collect();
    for (slot, place) in dealt.iter_mut().zip(places).filter(|(slot, _)| slot.is_none()) {
        *slot = streams.iter_mut().find(|s| fits(s, place)).and_then(Option::take);
    }
    dealt
}

fn same_kind(one: &Media, other: &Media) -> bool {
    one.media.eq_ignore_ascii_case(&other.media)
}

/// An answer's transport is the offer's (RFC 3264 §6); with feedback or without is the same to who doesn't use it.
fn same_transport(one: &Media, other: &Media) -> bool {
    match (profile_of(one), profile_of(other)) {
        (Profile::Other, Profile::Other) => one.proto.eq_ignore_ascii_case(&other.proto),
        (one, other) => one == other,
    }
}

/// The answered streams on the offer's media lines; a line without one is refused.
fn fitted(answered: Vec<Media>, offered: &[Media]) -> Vec<Media> {
    let mut answered: Vec<Option<Media>> = answered.into_iter().map(Some).collect();
    // RFC 3264 §6: a stream that was offered with port 0 can only be refused.
    let fits = |stream: &Media, offer: &Media| {
        let same = same_transport(stream, offer) || crypto::same_carrier(stream, offer);
        offer.port != 0 && same_kind(stream, offer) && same
    };
    let fitted = dealt(&mut answered, offered, fits).into_iter().zip(offered);
    fitted
        .map(|(media, offer)| match media.filter(|media| media.port != 0) {
            Some(media) => Media { proto: offer.proto.clone(), ..media },
            None => refused(offer),
        })
        .collect()
}

/// Offered streams on the places that the description before had; new ones come after them.
fn placed(offered: Vec<Media>, places: &[Media]) -> Vec<Media> {
    let mut offered: Vec<Option<Media>> = offered.into_iter().map(Some).collect();
    let exact = |stream: &Media, place: &Media| same_kind(stream, place) && same_transport(stream, place);
    let mut placed = dealt(&mut offered, places, exact);
    let rest: Vec<Media> =
        places.iter().zip(&placed).filter(|(_, p)| p.is_none()).map(|(m, _)| m.clone()).collect();
    // A place may change its transport, but not its kind.
    let mut others = dealt(&mut offered, &rest, same_kind).into_iter();
    placed.iter_mut().filter(|slot| slot.is_none()).for_each(|slot| *slot = others.next().flatten());
    let placed = placed.into_iter().zip(places).map(|(media, place)| media.unwrap_or_else(|| refused(place)));
    placed.chain(offered.into_iter().flatten().filter(|media| places.is_empty() || media.port != 0)).collect()
}

/// Keeps the answered directions within the offered ones (RFC 3264 §6.1): where one end does not send, the other does
/// not receive. Peers that answer every hold with `sendrecv` exist.
fn within(mut answer: Session, offer: &Session) -> Session {
    for (media, offered) in answer.medias.iter_mut().zip(&offer.medias).filter(|(m, _)| m.port != 0) {
        let (they_send, they_receive) = flow(direction_in(offer, offered));
        let own = media.attributes.iter().chain(&answer.attributes);
        let said = own.map(|a| &a.attribute).find_map(|name| direction_named(name));
        let said = said.unwrap_or(MediaDirection::SendReceive);
        let (send, receive) = flow(said);
        let allowed = match (send && they_receive, receive && they_send) {
            (true, true) => MediaDirection::SendReceive,
            (true, false) => MediaDirection::SendOnly,
            (false, true) => MediaDirection::ReceiveOnly,
            (false, false) => MediaDirection::Inactive,
        };
        if allowed != said {
            media.attributes.retain(|a| direction_named(&a.attribute).is_none());
            media.attributes.push(Attribute::new(direction_name(allowed)));
        }
    }
    answer
}

/// Whether its describer sends and receives.
fn flow(direction: MediaDirection) -> (bool, bool) {
    match direction {
        MediaDirection::SendReceive => (true, true),
        MediaDirection::SendOnly => (true, false),
        MediaDirection::ReceiveOnly => (false, true),
        MediaDirection::Inactive => (false, false),
    }
}

fn direction_in(session: &Session, media: &Media) -> MediaDirection {
    let all = media.attributes.iter().chain(&session.attributes);
    all.map(|a| &a.attribute).find_map(|name| direction_named(name)).unwrap_or(MediaDirection::SendReceive)
}

fn local_answer(audio: &Audio, offer: &Session) -> Result<Session, SdpError> {
    let chosen = offer.medias.get(audio.line).ok_or(SdpError::Line)?;
    if !is_audio(chosen) || chosen.port == 0 || profile_of(chosen) != audio.profile {
        return Err(SdpError::Line);
    }
    let medias = offer.medias.iter().enumerate();
    let medias = medias
        .map(|(i, media)| if i == audio.line { local_media(audio, &media.proto) } else { refused(media) })
        .collect();
    Ok(with_medias(medias, audio.address.ip()))
}

fn local_offer(audio: &Audio, places: &[Media]) -> Vec<Media> {
    let line = audio.line.min(places.len());
    let mut medias: Vec<Media> = places.iter().map(refused).collect();
    let proto = places.get(line).filter(|media| profile_of(media) == Profile::Plain);
    let media = local_media(audio, proto.map_or("RTP/AVP", |media| &media.proto));
    match medias.get_mut(line) {
        Some(place) => *place = media,
        None => medias.push(media),
    }
    medias
}

fn with_medias(medias: Vec<Media>, address: IpAddr) -> Session {
    let mut session = Session::new(Origin::with_ip_addr(0, 0, address), "-");
    session.connection = Some(Connection::from_ip_addr(address));
    session.times.push(Time::new(0, 0));
    session.medias = medias;
    session
}

fn local_media(audio: &Audio, proto: &str) -> Media {
    let mut types: Vec<String> = audio.formats.iter().map(|f| f.payload_type.to_string()).collect();
    types.extend(audio.dtmf_payload_type.map(|t| t.to_string()));
    let proto = TransportProto::from(proto);
    let mut media = Media::new(MediaType::Audio, audio.address.port(), proto, types.join(" "));
    for format in &audio.formats {
        let mut value = format!("{} {}/{}", format.payload_type, format.name, format.clock_rate);
        if format.channels > 1 {
            value.push_str(&format!("/{}", format.channels));
        }
        media.add_attribute_with_value("rtpmap", value);
        if format.name.eq_ignore_ascii_case("G729") {
            // Without this line Annex B is meant (RFC 4856 §2.1.9), which few media helpers know.
            media.add_attribute_with_value("fmtp", format!("{} annexb=no", format.payload_type));
        }
    }
    if let Some(payload_type) = audio.dtmf_payload_type {
        media.add_attribute_with_value("rtpmap", format!("{payload_type} telephone-event/8000"));
        media.add_attribute_with_value("fmtp", format!("{payload_type} 0-16"));
    }
    media.add_attribute_with_value("ptime", audio.packet_ms);
    media.add_attribute_from_str(direction_name(audio.direction));
    media
}

fn direction_name(direction: MediaDirection) -> &'static str {
    match direction {
        MediaDirection::SendReceive => "sendrecv",
        MediaDirection::SendOnly => "sendonly",
        MediaDirection::ReceiveOnly => "recvonly",
        MediaDirection::Inactive => "inactive",
    }
}
