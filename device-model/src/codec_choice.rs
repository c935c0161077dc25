//! Which codec two ends talk: between an application and the far end of a dialog, between two far ends, and between two
//! applications.

use crate::end::End;
use crate::media::{AudioLine, Codec, Crypto, Description, Format, MediaTermination, Profile};
use crate::media_exchange::local_address;
use crate::streams::Terms;
use std::net::IpAddr;

/// RFC 4733 telephone-event in our own offers.
pub(crate) const DTMF_PAYLOAD_TYPE: u8 = 101;
/// Packet length of our own offers, milliseconds.
pub(crate) const PACKET_MS: u16 = 20;

/// What an end whose media the model describes can speak. Of a description's lines the first that it takes is used, each
/// other is refused in its place (RFC 3264 §6). Phones decide for themselves and have none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities<'a> {
    /// Its codecs, a set: the far end's order decides.
    pub(crate) codecs: &'a [Codec],
    /// What may carry its media.
    pub(crate) profiles: &'a [Profile],
    /// The address at which it receives, once it is known: no line of the other family fits.
    pub(crate) address: Option<IpAddr>,
}

impl<'a> Abilities<'a> {
    /// Of an application, where it ends media at all. SRTP suites that it names are not used.
    pub(crate) fn of(termination: &'a MediaTermination) -> Option<Self> {
        const PROFILES: &[Profile] = &[Profile::Plain];
        let (codecs, address) = match termination {
            MediaTermination::None => return None,
            MediaTermination::Static { address, codecs, .. } => (codecs, Some(address.ip())),
            MediaTermination::Dynamic { codecs, .. } => (codecs, None),
        };
        Some(Self { codecs, profiles: PROFILES, address })
    }
}

impl Abilities<'_> {
    /// The first line that this end can speak, and the first of its payload formats.
    pub(crate) fn choose<'d>(&self, description: &'d Description) -> Option<(&'d AudioLine, &'d Format)> {
        description.audio.iter().find_map(|line| Some((line, self.format(line)?)))
    }

    /// The first payload format of a line that this end can speak; `None` where it can't speak the line.
    fn format<'d>(&self, line: &'d AudioLine) -> Option<&'d Format> {
        let takes =
            line.is_live() && self.profiles.contains(&line.profile) && self.reaches(line.address.ip());
        line.formats.iter().find(|format| takes && self.codecs.contains(&format.codec))
    }

    /// 0.0.0.0, an old phone's way to hold, is no address of a family.
    fn reaches(&self, far: IpAddr) -> bool {
        let same = |own: IpAddr| own.to_canonical().is_ipv4() == far.to_canonical().is_ipv4();
        far.is_unspecified() || self.address.is_none_or(same)
    }
}

/// What an application can speak, at the address that it has for this media session.
pub(crate) fn abilities(end: &End) -> Option<Abilities<'_>> {
    let abilities = Abilities::of(end.termination()?)?;
    Some(Abilities {
        address: abilities.address.or(local_address(end).map(|address| address.ip())),
        ..abilities
    })
}

pub(crate) fn own_codecs(end: &End) -> &[Codec] {
    abilities(end).map_or(&[], |abilities| abilities.codecs)
}

/// A payload format as an application's own offer has it.
pub(crate) fn own_format(codec: &Codec) -> Option<Format> {
    codec.defaults().map(|(_, _, payload_type)| Format { payload_type, codec: codec.clone() })
}

/// What an application will receive from this peer: codec, payload type, packet length.
pub(crate) fn agreed(end: &End, peer: &End) -> Option<(Format, u16)> {
    if peer.is_local() {
        return agreed_by_applications(end, peer).map(|(format, packet_ms, _)| (format, packet_ms));
    }
    match peer.far() {
        Some(_) => {
            let terms = Terms::of(end, peer)?;
            let types = if peer.is_owed() { terms.output } else { terms.input };
            Some((Format { payload_type: types.payload_type, codec: terms.codec }, types.packet_ms))
        }
        None => Some((own_format(own_codecs(end).first()?)?, PACKET_MS)),
    }
}

/// What two applications say to each other without any signalling: payload format, packet length, telephone-event.
pub(crate) fn agreed_by_applications(end: &End, peer: &End) -> Option<(Format, u16, u8)> {
    let codecs = own_codecs(end);
    let common = own_codecs(peer).iter().find(|codec| codecs.contains(codec))?;
    Some((own_format(common)?, PACKET_MS, DTMF_PAYLOAD_TYPE))
}

/// The audio lines by which two ends that see each other's descriptions talk: those at the same place, else the first
/// that fit each other.
pub(crate) fn pair_of_lines<'a>(
    here: &'a Description,
    there: &'a Description,
) -> Option<(&'a AudioLine, &'a AudioLine)> {
    let live = |description: &'a Description| description.audio.iter().filter(|line| line.is_live());
    let pairs = || live(here).flat_map(|a| live(there).map(move |b| (a, b)));
    // SRTP with keys is named RTP/AVP as well as RTP/SAVP.
    let carried = |a: &AudioLine, b: &AudioLine| a.profile == b.profile || Crypto::agreed(a, b).is_some();
    let fits = |(a, b): &(&AudioLine, &AudioLine)| carried(a, b) && best_of(a, b).is_some();
    let in_place = pairs().filter(|(a, b)| a.place == b.place).find(fits);
    in_place.or_else(|| pairs().find(fits))
}

/// What is sent to a line: its first format that the sender has, too.
pub(crate) fn best_of<'a>(receiver: &'a AudioLine, sender: &AudioLine) -> Option<&'a Format> {
    receiver.formats.iter().find(|format| sender.format_of(&format.codec).is_some())
}
