//! Who calls, who answers and who sent a call on: read from what a trunk asserts, written as CUCM writes it.
//!
//! P-Asserted-Identity and P-Preferred-Identity (RFC 3325), Remote-Party-ID (draft-ietf-sip-privacy-04), Diversion
//! (RFC 5806), History-Info (RFC 7044 with the causes of RFC 4458) and Privacy (RFC 3323). What can't be read of them
//! counts as not there: no call fails for it. Of a phone nothing of this is believed.

use crate::dialog::Reach;
use crate::message::text::{MAX_SHOWN, misleads, shown_name};
use crate::message::{Headers, NameAddr, Uri};
use crate::port::{DiversionReason, Diverted, Identity};

/// Entries of such a header that are looked at.
const MAX_ENTRIES: usize = 32;

/// Users of addresses that name nobody (RFC 3323 §4.1.1.3, 3GPP TS 29.163 §7.4.6).
const NOBODY: [&str; 4] = ["anonymous", "unavailable", "restricted", "unknown"];
/// Hosts of such addresses.
const NOWHERE: [&str; 2] = ["anonymous.invalid", "unknown.invalid"];

/// The From of a caller who may not be shown (RFC 3323 §4.1).
pub(crate) const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// Whose identity a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who sent the request.
    Calling,
    /// Who answers it.
    Called,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::Calling => "calling",
            Side::Called => "called",
        }
    }
}

/// What may be shown of somebody.
#[derive(Clone, Copy, Debug, Default)]
struct Hidden {
    number: bool,
    name: bool,
}

/// A `privacy` parameter of Remote-Party-ID or Diversion: `full`, `uri`, `name` or `off`, perhaps `-network`; or several of
/// them in quotes (`"name,uri"`, draft-ietf-sip-privacy-04 §5).
fn hidden(read: &NameAddr) -> Hidden {
    let value = read.params.get("privacy").unwrap_or("").trim_matches('"').to_ascii_lowercase();
    let is = |word: &str| value.split([',', ';', ' ']).any(|one| one.split('-').next() == Some(word));
    Hidden { number: is("full") || is("uri"), name: is("name") }
}

/// Whether a party may be shown (Q.951's calling line presentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presentation {
    Allowed,
    Restricted,
}

impl Presentation {
    /// What a message says of whom it names.
    fn of(headers: &Headers) -> Self {
        Self::Allowed.or_hidden(headers.wants_privacy())
    }

    /// The same, or restricted where an entry says so of itself.
    fn or_hidden(self, hidden: bool) -> Self {
        if hidden { Self::Restricted } else { self }
    }
}

/// Whether an address says that it names nobody.
fn is_nobody(read: &NameAddr) -> bool {
    let user = read.uri.user();
    let among = |list: &[&str], text: &str| list.iter().any(|one| one.eq_ignore_ascii_case(text));
    among(&NOBODY, &user)
        || among(&NOWHERE, read.uri.host())
        // As it is shown: letters that nobody sees make no other name of it.
        || read.name.as_deref().and_then(shown_name).is_some_and(|name| name.eq_ignore_ascii_case("anonymous"))
}

/// The number of a URI; empty where it can be nobody's: too long, or with characters that mislead.
pub(crate) fn number_of(uri: &Uri) -> String {
    let number = uri.number();
    if number.chars().count() > MAX_SHOWN || number.chars().any(misleads) { String::new() } else { number }
}

/// A party as an address names it. One that names nobody is restricted and has no number.
pub(crate) fn identity_of(read: &NameAddr, presentation: Presentation) -> Identity {
    if is_nobody(read) {
        return Identity { number: String::new(), name: None, restricted: true };
    }
    let name = read.name.as_deref().and_then(shown_name);
    let restricted = presentation == Presentation::Restricted;
    Identity { number: number_of(&read.uri), name, restricted }
}

/// The entries of a header that can be read.
fn readable<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = NameAddr> + 'a {
    headers.elements(name).take(MAX_ENTRIES).filter_map(|element| NameAddr::read(element.ok()?).ok())
}

/// Whom a trunk asserts to be at its end: P-Asserted-Identity before Remote-Party-ID before P-Preferred-Identity; of
/// several the first with a number that can be dialled.
pub(crate) fn asserted(headers: &Headers, side: Side) -> Option<Identity> {
    let presentation = Presentation::of(headers);
    let plain = |name| readable(headers, name).map(move |read| identity_of(&read, presentation));
    let remote = remote_party(headers, side, presentation);
    let all: Vec<Identity> =
        plain("P-Asserted-Identity").chain(remote).chain(plain("P-Preferred-Identity")).collect();
    let dialable = |identity: &&Identity| {
        let digits = identity.number.strip_prefix('+').unwrap_or(&identity.number);
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '*' | '#'))
    };
    let known = |identity: &&Identity| !identity.number.is_empty();
    let mut best = all.iter().find(dialable).or_else(|| all.iter().find(known)).or(all.first())?.clone();
    // `"Ann" <sip:ann@host>, <tel:+15550100>` is one person.
    best.name = best.name.or_else(|| all.iter().find_map(|identity| identity.name.clone()));
    Some(best)
}

/// The entry of Remote-Party-ID for this side. CUCM and others leave `party` out, and some who answer write `calling`; but
/// who is called is never the caller.
fn remote_party(headers: &Headers, side: Side, presentation: Presentation) -> Option<Identity> {
    let party = |read: &NameAddr| read.params.get("party").map(str::to_ascii_lowercase);
    let all: Vec<NameAddr> = readable(headers, "Remote-Party-ID").collect();
    let read = all
        .iter()
        .find(|read| party(read).as_deref() == Some(side.word()))
        .or_else(|| all.iter().find(|read| matches!(party(read).as_deref(), None | Some("calling"))))?;
    let hidden = hidden(read);
    let mut identity = identity_of(read, presentation.or_hidden(hidden.number));
    identity.name = identity.name.filter(|_| !hidden.name);
    Some(identity)
}

/// Who calls by a trunk: whom it asserts, else who From names. From hides its caller too.
pub(crate) fn caller(headers: &Headers) -> Identity {
    let from = headers.from().ok().map(|from| identity_of(&from, Presentation::of(headers)));
    let from = from.unwrap_or_default();
    match asserted(headers, Side::Calling) {
        Some(asserted) => Identity { restricted: asserted.restricted || from.restricted, ..asserted },
        None => from,
    }
}

/// Whether a phone wants its number hidden for this call: by Privacy, or by an anonymous From.
pub(crate) fn wants_to_hide(headers: &Headers) -> bool {
    headers.wants_privacy() || headers.from().is_ok_and(|from| is_nobody(&from))
}

/// The number by which a phone says which of its lines it calls from: From, or P-Preferred-Identity where From is
/// anonymous.
pub(crate) fn line_of(headers: &Headers) -> String {
    match headers.from() {
        Ok(from) if !is_nobody(&from) => number_of(&from.uri),
        _ => readable(headers, "P-Preferred-Identity")
            .next()
            .map(|read| number_of(&read.uri))
            .unwrap_or_default(),
    }
}

/// Who sent a call on before it came to us: Diversion, else History-Info.
pub(crate) fn diverted(headers: &Headers) -> Option<Diverted> {
    let mut newest_first = diversions(headers);
    if newest_first.is_empty() {
        newest_first = history(headers);
    }
    let original = newest_first.last()?.clone();
    Some(Diverted { by: newest_first.swap_remove(0), original })
}

/// The topmost is the last that sent the call on (RFC 5806 §3.1).
fn diversions(headers: &Headers) -> Vec<Identity> {
    let all = readable(headers, "Diversion").map(|read| {
        let hidden = hidden(&read);
        let mut identity = identity_of(&read, Presentation::Allowed.or_hidden(hidden.number));
        identity.name = identity.name.filter(|_| !hidden.name);
        identity
    });
    all.filter(|identity| !identity.number.is_empty() || identity.restricted).collect()
}

/// One entry of History-Info.
struct Past {
    identity: Identity,
    index: String,
    /// The index of the entry that this one was made of, where another user was put in its place (`mp`).
    mapped_from: Option<String>,
    /// It was chosen because another one did not take the call: `;cause=486` in its URI (RFC 4458).
    has_cause: bool,
    /// It did not take the call: `?Reason=SIP%3Bcause%3D486` in its URI.
    has_reason: bool,
}

impl Past {
    fn read(read: &NameAddr, all: Presentation) -> Past {
        let escaped = read.uri.headers().unwrap_or("").to_ascii_lowercase();
        let mut fields = escaped.split('&').filter_map(|field| field.split_once('='));
        let has = |name: &str| escaped.split('&').any(|field| field.starts_with(&format!("{name}=")));
        let hidden = fields.any(|(name, value)| name == "privacy" && value != "none");
        Past {
            identity: identity_of(read, all.or_hidden(hidden)),
            index: read.params.get("index").unwrap_or("").to_owned(),
            mapped_from: read.params.get("mp").map(str::to_owned),
            has_cause: read.uri.param("cause").is_some_and(|cause| cause.parse::<u16>().is_ok()),
            has_reason: has("reason"),
        }
    }
}

/// Those of History-Info who sent the call on, the last first (RFC 7544 §6).
fn history(headers: &Headers) -> Vec<Identity> {
    let hidden = ["history", "header", "session"].iter().any(|kind| headers.has_token("Privacy", kind));
    let presentation = Presentation::Allowed.or_hidden(hidden);
    let all: Vec<Past> =
        readable(headers, "History-Info").map(|read| Past::read(&read, presentation)).collect();
    let mut senders = vec![false; all.len()];
    for (at, past) in all.iter().enumerate() {
        if past.has_reason && at + 1 < all.len() {
            senders[at] = true;
        }
        if past.has_cause || past.mapped_from.is_some() {
            let named =
                past.mapped_from.as_ref().and_then(|from| all.iter().position(|one| one.index == *from));
            if let Some(from) = named.filter(|from| *from < at).or_else(|| at.checked_sub(1)) {
                senders[from] = true;
            }
        }
    }
    let chosen = all.into_iter().zip(senders).filter(|(_, sent_on)| *sent_on).map(|(past, _)| past.identity);
    let mut chosen: Vec<Identity> = chosen.filter(|i| !i.number.is_empty() || i.restricted).collect();
    chosen.reverse();
    chosen
}

/// Writes a party as a name-addr at `host`.
pub(crate) fn name_addr(identity: &Identity, host: &str) -> NameAddr {
    let mut address = NameAddr::of(Uri::sip(&identity.number, host, None));
    address.name = identity.name.clone().filter(|name| !name.is_empty());
    address
}

/// Says who is at our end. A phone is not told who wants to stay unknown (RFC 3325 §5); a trunk is, with the wish, and by
/// Remote-Party-ID too, as CUCM does it.
pub(crate) fn write_identity(
    identity: &Identity,
    side: Side,
    host: &str,
    reach: Reach,
    headers: &mut Headers,
) {
    let to_trunk = reach == Reach::Contact;
    if !identity.number.is_empty() && (to_trunk || !identity.restricted) {
        let mut address = name_addr(identity, host);
        headers.push("P-Asserted-Identity", address.to_string());
        if to_trunk {
            address.params.set("party", Some(side.word()));
            address.params.set("screen", Some("yes"));
            address.params.set("privacy", Some(if identity.restricted { "full" } else { "off" }));
            headers.push("Remote-Party-ID", address.to_string());
        }
    }
    if identity.restricted {
        headers.push("Privacy", "id");
    }
}

/// Says who sent the call on: the last first, then for whom it was at first. Those between are not told, as with CUCM, but
/// counted: the counters are `hops` together.
pub(crate) fn write_diverted(
    diverted: &Diverted,
    reason: DiversionReason,
    hops: u32,
    host: &str,
    reach: Reach,
    headers: &mut Headers,
) {
    let mut write = |identity: &Identity, reason: DiversionReason, counter: u32| {
        if identity.number.is_empty() || (identity.restricted && reach == Reach::AsItCame) {
            return;
        }
        let mut by = name_addr(identity, host);
        by.params.set("reason", Some(reason.word()));
        by.params.set("privacy", Some(if identity.restricted { "full" } else { "off" }));
        by.params.set("screen", Some("yes"));
        by.params.set("counter", Some(&counter.max(1).to_string()));
        headers.push("Diversion", by.to_string());
    };
    let both = diverted.original.number != diverted.by.number;
    write(&diverted.by, reason, hops.saturating_sub(u32::from(both)));
    if both {
        write(&diverted.original, DiversionReason::Unknown, 1);
    }
}

#[cfg(test)]
mod tests;
