//! `a=crypto` (RFC 4568), read strictly: a line is understood as a whole or it is not usable. What holds for one dialog
//! ([`Keys`]) decides which lines are read from its descriptions, and which are written into them.

use super::SdpError;
use crate::port::{
    Crypto, LineFault, MediaEncryption, Profile, SdesKey, SecureMediaRefusal, Suite, Transport,
};
use sdp_types::{Media, Session};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The most lines of one stream that are read.
const MAX_LINES: usize = 16;
/// The longest master key identifier (RFC 4568 §6.1), bytes.
const MAX_MKI: usize = 128;
/// The most packets that a key is good for (RFC 3711 §9.2).
const MAX_LIFETIME: u64 = 1 << 48;

/// What a dialog's descriptions may hold of keys: the setting of its device or trunk, by the transport of its signalling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// None, neither way.
    #[default]
    Never,
    /// Where both ends have them.
    Optional,
    /// Each stream has one, or there is no call.
    Required,
    /// They are required and could be read on the way: there is no call.
    Impossible,
}

impl Keys {
    /// Keys go over TLS alone.
    #[must_use]
    pub fn by(setting: MediaEncryption, transport: Transport) -> Keys {
        let secure = transport == Transport::Tls;
        match (setting, secure) {
            (MediaEncryption::None, _) | (MediaEncryption::Optional, false) => Keys::Never,
            (MediaEncryption::Optional, true) => Keys::Optional,
            (MediaEncryption::Required, true) => Keys::Required,
            (MediaEncryption::Required, false) => Keys::Impossible,
        }
    }

    /// Whether nothing may go in clear.
    #[must_use]
    pub fn are_required(self) -> bool {
        match self {
            Keys::Required | Keys::Impossible => true,
            Keys::Never | Keys::Optional => false,
        }
    }
}

/// How many lines were refused, by what was wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineFaults([u64; LineFault::ALL.len()]);

impl LineFaults {
    fn count(&mut self, fault: LineFault) {
        let at = LineFault::ALL.iter().position(|one| *one == fault);
        self.0[at.expect("ALL has each of them")] += 1;
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (LineFault, u64)> + '_ {
        LineFault::ALL.into_iter().zip(self.0)
    }
}

/// Reads the value of one `a=crypto`.
///
/// # Errors
/// What is wrong with it.
pub fn read_line(value: &str) -> Result<Crypto, LineFault> {
    let mut parts = value.split_ascii_whitespace();
    let tag = read_tag(value)?;
    parts.next();
    let name = parts.next().ok_or(LineFault::Suite)?;
    let suite = Suite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name));
    let suite = suite.ok_or(LineFault::Suite)?;
    let keys = parts.next().ok_or(LineFault::KeyMethod)?;
    if !parts.all(is_window) {
        return Err(LineFault::Parameter);
    }
    let mut all = keys.split(';').map(|key| read_key(suite, key));
    let first = all.next().ok_or(LineFault::KeyMethod)??;
    let mut seen = vec![first.mki.clone()];
    for other in all {
        let other = other?;
        // Several keys are told apart by their identifiers, which have one length (RFC 4568 §6.1).
        let lengths = (first.mki.as_ref().map(Vec::len), other.mki.as_ref().map(Vec::len));
        if lengths.0.is_none() || lengths.0 != lengths.1 || seen.contains(&other.mki) {
            return Err(LineFault::Mki);
        }
        seen.push(other.mki.clone());
    }
    Ok(Crypto { tag, key: Arc::new(first) })
}

fn read_tag(value: &str) -> Result<u32, LineFault> {
    let text = value.split_ascii_whitespace().next().filter(|_| !value.starts_with([' ', '\t']));
    let text = text.ok_or(LineFault::Tag)?;
    if !(1..=9).contains(&text.len()) {
        return Err(LineFault::Tag);
    }
    digits(text).ok_or(LineFault::Tag)?.parse().map_err(|_| LineFault::Tag)
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// `WSH` says how many packets late one may come; it changes nothing of what is encrypted.
fn is_window(parameter: &str) -> bool {
    parameter.strip_prefix("WSH=").and_then(digits).is_some_and(|size| size.len() <= 9)
}

fn read_key(suite: Suite, text: &str) -> Result<SdesKey, LineFault> {
    let (method, info) = text.split_once(':').ok_or(LineFault::KeyMethod)?;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(LineFault::KeyMethod);
    }
    let mut parts = info.split('|');
    let material = parts.next().and_then(base64).ok_or(LineFault::Base64)?;
    let (key_bytes, salt_bytes) = suite.lengths();
    if material.len() != key_bytes + salt_bytes {
        return Err(LineFault::Length);
    }
    let (key, salt) = material.split_at(key_bytes);
    let mut read = SdesKey {
        suite,
        key: Zeroizing::new(key.to_vec()),
        salt: Zeroizing::new(salt.to_vec()),
        lifetime: None,
        mki: None,
    };
    let mut next = parts.next();
    if let Some(text) = next.filter(|text| !text.contains(':')) {
        read.lifetime = Some(read_lifetime(text).ok_or(LineFault::Lifetime)?);
        next = parts.next();
    }
    if let Some(text) = next {
        read.mki = Some(read_mki(text).ok_or(LineFault::Mki)?);
    }
    if parts.next().is_some() { Err(LineFault::Mki) } else { Ok(read) }
}

fn read_lifetime(text: &str) -> Option<u64> {
    let packets = match text.strip_prefix("2^") {
        Some(power) => 1_u64.checked_shl(digits(power)?.parse().ok()?)?,
        None => digits(text)?.parse().ok()?,
    };
    (1..=MAX_LIFETIME).contains(&packets).then_some(packets)
}

/// `value:length`: the number in so many bytes, the highest first.
fn read_mki(text: &str) -> Option<Vec<u8>> {
    let (value, length) = text.split_once(':')?;
    let length: usize = digits(length).filter(|digits| digits.len() <= 3)?.parse().ok()?;
    // 128 bytes hold 309 digits.
    let value = digits(value).filter(|value| (1..=MAX_MKI).contains(&length) && value.len() <= 309)?;
    let mut bytes = vec![0_u8; length];
    for digit in value.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 10;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry > 0 {
            return None;
        }
    }
    Some(bytes)
}

/// Standard base64 (RFC 4648 §4). The padding may be left out (RFC 4568 §6.1), the bits below it are zero.
fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(data.len()));
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in data.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    // One character alone is no byte.
    let whole = held < 6 && bits & ((1 << held) - 1) == 0;
    (whole && !bytes.is_empty()).then_some(bytes)
}

fn is_crypto(attribute: &sdp_types::Attribute) -> bool {
    attribute.attribute.eq_ignore_ascii_case("crypto")
}

/// A key that does not stand in an `a=crypto`: MIKEY (RFC 4567), or what is offered as a capability (RFC 5939).
fn is_other_key(attribute: &sdp_types::Attribute) -> bool {
    let value = || attribute.value.as_deref().unwrap_or_default().to_ascii_lowercase();
    !is_crypto(attribute)
        && (attribute.attribute.eq_ignore_ascii_case("key-mgmt")
            || value().contains("inline:")
            || value().contains("key-mgmt"))
}

/// The lines of a stream, each read or with what is wrong with it.
fn lines_of(media: &Media) -> Vec<Result<Crypto, LineFault>> {
    let mut tags = Vec::new();
    let values = media.attributes.iter().filter(|a| is_crypto(a)).map(|a| a.value.as_deref());
    let read = values.enumerate().map(|(at, value)| {
        if at >= MAX_LINES {
            return Err(LineFault::Number);
        }
        let value = value.unwrap_or_default();
        let tag = read_tag(value)?;
        if tags.contains(&tag) {
            return Err(LineFault::Tag);
        }
        tags.push(tag);
        read_line(value)
    });
    read.collect()
}

/// The usable lines of a stream, in their order.
pub(super) fn usable(media: &Media) -> Vec<Crypto> {
    lines_of(media).into_iter().filter_map(Result::ok).collect()
}

fn has_usable(media: &Media) -> bool {
    lines_of(media).iter().any(Result::is_ok)
}

fn without_crypto(media: &mut Media) {
    media.attributes.retain(|attribute| !is_crypto(attribute));
}

fn is_live(media: &Media) -> bool {
    media.port != 0
}

fn has_live(session: &Session) -> bool {
    session.medias.iter().any(is_live)
}

/// Takes out what holds a key and is no `a=crypto` of a stream. True when there was any.
fn without_other_keys(session: &mut Session) -> bool {
    let mut found = session.key.take().is_some();
    let strip = |attributes: &mut Vec<sdp_types::Attribute>, all: bool| {
        let before = attributes.len();
        attributes.retain(|attribute| !(is_other_key(attribute) || all && is_crypto(attribute)));
        attributes.len() != before
    };
    // An `a=crypto` is of a stream (RFC 4568 §5).
    found |= strip(&mut session.attributes, true);
    for media in &mut session.medias {
        found |= media.key.take().is_some();
        found |= strip(&mut media.attributes, false);
    }
    found
}

/// Takes from a peer's offer what is not to be read there: lines that are not usable, all of them where no key may come, and
/// streams that could not be then. True when it is another text by that.
///
/// # Errors
/// Nothing is left of it.
pub(super) fn clean_offer(
    session: &mut Session,
    keys: Keys,
    faults: &mut LineFaults,
) -> Result<bool, SdpError> {
    if keys == Keys::Impossible {
        return Err(SdpError::Encryption(SecureMediaRefusal::Transport));
    }
    let before = has_live(session);
    let mut changed = without_other_keys(session);
    for media in &mut session.medias {
        changed |= clean_lines(media, keys, faults);
        let has_key = has_usable(media);
        let secure = super::profile_of(media) == Profile::Secure;
        if is_live(media) && !has_key && (secure || keys == Keys::Required) {
            media.port = 0;
            changed = true;
        }
    }
    if before && !has_live(session) {
        return Err(SdpError::Encryption(SecureMediaRefusal::NoCrypto));
    }
    Ok(changed)
}

fn clean_lines(media: &mut Media, keys: Keys, faults: &mut LineFaults) -> bool {
    let before = media.attributes.len();
    match keys {
        Keys::Never | Keys::Impossible => without_crypto(media),
        Keys::Optional | Keys::Required => {
            let lines = lines_of(media);
            lines.iter().filter_map(|line| line.as_ref().err()).for_each(|fault| faults.count(*fault));
            let mut lines = lines.into_iter();
            media.attributes.retain(|a| !is_crypto(a) || lines.next().is_some_and(|line| line.is_ok()));
        }
    }
    media.attributes.len() != before
}

/// Looks at a peer's answer to what was written to it last: each key answers one that was offered.
///
/// # Errors
/// One does not, or one is missing where it must be.
pub(super) fn check_answer(
    session: &mut Session,
    offered: &[Media],
    keys: Keys,
    faults: &mut LineFaults,
) -> Result<bool, SdpError> {
    let mut changed = without_other_keys(session);
    let refused = Err(SdpError::Encryption(SecureMediaRefusal::NoCrypto));
    for (at, media) in session.medias.iter_mut().enumerate() {
        let place = offered.get(at);
        // RFC 3264 §6: a stream that was offered with port 0 can only be refused.
        if place.is_some_and(|offered| !is_live(offered)) && is_live(media) {
            media.port = 0;
            changed = true;
        }
        let offered = place.map(usable).unwrap_or_default();
        let secure = keys.are_required() || super::profile_of(media) == Profile::Secure;
        let lines = lines_of(media);
        match &lines[..] {
            _ if !is_live(media) => without_crypto(media),
            [] if secure => return refused,
            [] => {}
            [Ok(line)] if offered.iter().any(|offer| offer.answers(line)) => {}
            lines => {
                if keys != Keys::Never {
                    let found = lines.iter().map(|line| line.as_ref().err().copied());
                    found.for_each(|fault| faults.count(fault.unwrap_or(LineFault::Answer)));
                }
                // Phones exist that name a key whatever was offered; in RTP/AVP it means nothing then.
                if secure || !offered.is_empty() {
                    return refused;
                }
                without_crypto(media);
                changed = true;
            }
        }
    }
    Ok(changed)
}

/// Makes of an offer what may be written to this peer.
///
/// # Errors
/// Nothing is left of it.
pub(super) fn fit_offer(session: &mut Session, keys: Keys) -> Result<(), SdpError> {
    if keys == Keys::Impossible {
        return Err(SdpError::Encryption(SecureMediaRefusal::Transport));
    }
    let before = has_live(session);
    for media in &mut session.medias {
        if keys == Keys::Never {
            without_crypto(media);
        }
        if !is_live(media) {
            continue;
        }
        let has_key = has_usable(media);
        let secure = super::profile_of(media) == Profile::Secure;
        if !has_key && (secure || keys == Keys::Required) {
            *media = super::refused(media);
        } else if keys == Keys::Required && !secure {
            secure_profile(media);
        }
    }
    let nothing = before && !has_live(session);
    if nothing { Err(SdpError::Encryption(SecureMediaRefusal::PeerNotSecure)) } else { Ok(()) }
}

fn secure_profile(media: &mut Media) {
    let proto = match media.proto.to_ascii_uppercase().as_str() {
        "RTP/AVP" => "RTP/SAVP",
        "RTP/AVPF" => "RTP/SAVPF",
        _ => return,
    };
    media.proto = proto.into();
}

/// Whether an answered stream and an offered one are carried alike: beside the same transport that is SRTP with a key, which
/// phones name RTP/AVP as well as RTP/SAVP.
pub(super) fn same_carrier(answered: &Media, offered: &Media) -> bool {
    let carried = |media: &Media| match super::profile_of(media) {
        Profile::Plain | Profile::Secure => true,
        Profile::Dtls | Profile::Other => false,
    };
    carried(answered) && carried(offered) && has_usable(answered) && has_usable(offered)
}

/// Whether one of the two could only be SRTP and the other is not.
fn differ_in_keys(answered: &Media, offered: &Media) -> bool {
    let profiles = [super::profile_of(answered), super::profile_of(offered)];
    profiles.contains(&Profile::Plain) && profiles.contains(&Profile::Secure)
}

/// Makes of the answered streams what answers the offered ones: a key for one that was offered, under its tag.
///
/// # Errors
/// Nothing is left that could be answered with.
pub(super) fn fit_answer(
    fitted: &mut [Media],
    answered: &[Media],
    offered: &[Media],
    keys: Keys,
) -> Result<(), SdpError> {
    let refusal = SdpError::Encryption(SecureMediaRefusal::PeerNotSecure);
    let mut refused = false;
    for (media, offer) in fitted.iter_mut().zip(offered) {
        if !is_live(media) {
            without_crypto(media);
            continue;
        }
        let offered = if keys == Keys::Never { Vec::new() } else { usable(offer) };
        let own = usable(media);
        match chosen(&own, &offered) {
            Some((own, tag)) => keep_line(media, own, tag),
            None => {
                without_crypto(media);
                if keys.are_required() || super::profile_of(offer) == Profile::Secure {
                    *media = super::refused(offer);
                    refused = true;
                }
            }
        }
    }
    let all_gone = !fitted.iter().any(is_live);
    let live = |medias: &[Media]| medias.iter().any(is_live);
    let differ =
        || answered.iter().zip(offered).any(|(a, o)| is_live(a) && is_live(o) && differ_in_keys(a, o));
    if all_gone && live(offered) && (refused || differ()) { Err(refusal) } else { Ok(()) }
}

/// Which of an end's lines answers which of the other's: the same tag and suite, else the same suite, the strongest first.
fn chosen<'a>(own: &'a [Crypto], offered: &[Crypto]) -> Option<(&'a Crypto, u32)> {
    let exact = || own.iter().find(|own| offered.iter().any(|offer| offer.answers(own)));
    if let (Some(own), true) = (exact(), own.len() == 1) {
        return Some((own, own.tag));
    }
    Suite::ALL.into_iter().find_map(|suite| {
        let of = |lines: &'a [Crypto]| lines.iter().find(|line| line.key.suite == suite);
        let tag = offered.iter().find(|line| line.key.suite == suite)?.tag;
        Some((of(own)?, tag))
    })
}

/// Leaves of a stream's lines this one, under this tag.
fn keep_line(media: &mut Media, line: &Crypto, tag: u32) {
    let own = line.tag;
    media.attributes.retain_mut(|attribute| {
        if !is_crypto(attribute) {
            return true;
        }
        let Some(value) = attribute.value.as_mut().filter(|value| read_tag(value) == Ok(own)) else {
            return false;
        };
        if own != tag {
            let rest = value.split_once([' ', '\t']).map(|(_, rest)| rest).unwrap_or_default();
            *value = format!("{tag} {rest}");
        }
        true
    });
}

/// A text without a line that holds a key: for a way that is not TLS.
#[must_use]
pub fn without_keys(text: &[u8]) -> Vec<u8> {
    let holds = |line: &[u8]| {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        line.starts_with("k=") || line.contains("inline:") || line.starts_with("a=key-mgmt")
    };
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| !holds(line)).flatten().copied().collect()
}

#[cfg(test)]
mod tests;
