//! Digest authentication (RFC 2617, RFC 7616, RFC 8760): MD5 and SHA-256 with `qop=auth`.
//!
//! An answer in either algorithm is taken. Which ones a challenge names is [`Offer`]: many phones look at the first
//! challenge alone, or give up where any of them names what they don't know.
//!
//! A nonce carries its own time and a check sum over that and the address that it was made for, so that challenges need
//! no memory: a flood of requests without credentials leaves nothing behind. Only a nonce that was used with the right
//! password is remembered, to refuse its count a second time. An unknown user and a wrong password take the same steps
//! and get the same answer.

use crate::message::text::{list, unquote};
use crate::message::{Headers, Request, Response, Uri};
use crate::port::{Account, Directory, Hop, Login};
use crate::transaction::Ids;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// How long a nonce is good.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(300);
/// Nonces in use that are remembered; beyond it the oldest becomes stale early.
pub const MAX_NONCES: usize = 65_536;

/// The longest header with credentials or a challenge that is looked at.
const MAX_CREDENTIALS_BYTES: usize = 2048;

/// The algorithms that a challenge names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// MD5 alone: every phone can answer it. baresip before 3.11, SIPp before 3.7.2 and PJSIP before 2.11 fail to
    /// register where SHA-256 is named at all, or named first.
    #[default]
    Md5,
    /// SHA-256 alone.
    Sha256,
    /// SHA-256 first, as RFC 8760 §2.4 wants it, then MD5.
    Both,
}

/// What the credentials of a request are worth.
pub enum Verdict {
    /// This user, with the right password.
    Accepted {
        /// The digest user name.
        user: String,
        /// Its account.
        account: Account,
    },
    /// None for our realm: challenge.
    Missing,
    /// Right, but the nonce is too old or was used before: challenge with `stale=true`.
    Stale,
    /// Unknown user, wrong password, or not what we asked for: challenge again.
    Wrong {
        /// The digest user name.
        user: String,
        /// Whether there is such an account.
        known: bool,
    },
    /// Not looked at, since too many were wrong: challenge again.
    PutOff {
        /// The digest user name.
        user: String,
    },
    /// Right, but signed for another URI than the request's: 400.
    OtherUri,
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Accepted { .. } => "Accepted",
            Verdict::Missing => "Missing",
            Verdict::Stale => "Stale",
            Verdict::Wrong { .. } => "Wrong",
            Verdict::PutOff { .. } => "PutOff",
            Verdict::OtherUri => "OtherUri",
        })
    }
}

/// The server's side.
pub struct Authenticator {
    realm: Arc<str>,
    key: Zeroizing<[u8; 32]>,
    offer: Offer,
    /// Nonces count their milliseconds from here.
    epoch: Instant,
    /// Counts that were used, by the nonce's serial (issue time and random part).
    used: HashMap<Serial, Counts>,
    /// The same in order of age.
    ages: BTreeMap<Serial, ()>,
    /// Nonces issued before this are stale: the memory of them was given up.
    floor: u64,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authenticator({} nonces)", self.used.len())
    }
}

/// What a challenge asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The password.
    Password,
    /// The same password with a new nonce: `stale=true`, nobody is asked for it again.
    NewNonce,
}

/// Milliseconds since the epoch, and chance.
type Serial = (u64, u64);

/// The highest nonce count and the 64 below it.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    highest: u32,
    seen: u64,
}

impl Counts {
    /// Whether this count is new; it isn't afterwards.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let step = count - self.highest;
            self.seen = if step < 64 { self.seen << step } else { 0 } | 1;
            self.highest = count;
            return true;
        }
        let back = self.highest - count;
        let new = back < 64 && self.seen & (1 << back) == 0;
        if new {
            self.seen |= 1 << back;
        }
        new
    }
}

impl Authenticator {
    /// `key` is secret and random; nonces of another key are stale.
    #[must_use]
    pub fn new(realm: Arc<str>, key: [u8; 32], now: Instant) -> Self {
        let key = Zeroizing::new(key);
        let offer = Offer::default();
        Self { realm, key, offer, epoch: now, used: HashMap::new(), ages: BTreeMap::new(), floor: 0 }
    }

    /// With other algorithms in its challenges.
    #[must_use]
    pub fn offering(self, offer: Offer) -> Self {
        Self { offer, ..self }
    }

    /// A 401 with one challenge for each algorithm that is offered, without a To tag. Its nonce is good for this address
    /// alone.
    #[must_use]
    pub fn challenge(&self, now: Instant, ids: &mut Ids, request: &Request, hop: &Hop, ask: Ask) -> Response {
        let serial = (self.milliseconds(now), ids.below(u64::MAX));
        let nonce = self.nonce(serial, hop);
        let stale = match ask {
            Ask::Password => "",
            Ask::NewNonce => ", stale=true",
        };
        let value = |algorithm: &str| {
            format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}",
                self.realm.replace(['"', '\\'], "_")
            )
        };
        let algorithms: &[&str] = match self.offer {
            Offer::Md5 => &["MD5"],
            Offer::Sha256 => &["SHA-256"],
            Offer::Both => &["SHA-256", "MD5"],
        };
        let refusal = Response::to(request, 401, None);
        algorithms
            .iter()
            .fold(refusal, |refusal, algorithm| refusal.with("WWW-Authenticate", value(algorithm)))
    }

    /// Judges the Authorization headers of a request.
    pub fn check(
        &mut self,
        now: Instant,
        request: &Request,
        hop: &Hop,
        directory: &dyn Directory,
    ) -> Verdict {
        let realm = Arc::clone(&self.realm);
        let mut read = request.headers.all("Authorization").filter_map(Credentials::read);
        let Some(credentials) = read.find(|credentials| credentials.realm == realm.replace(['"', '\\'], "_"))
        else {
            return Verdict::Missing;
        };
        if !directory.may_prove(now, &credentials.user, hop) {
            return Verdict::PutOff { user: credentials.user };
        }
        let account = directory.account(&credentials.user);
        let known = account.is_some();
        let password = account.as_ref().map_or("", |account| account.password.as_str());
        let expected = credentials.response(password, request.method.as_str());
        let given = credentials.response.as_bytes();
        let right = bool::from(expected.as_bytes().ct_eq(given));
        match account.filter(|_| right && credentials.offered) {
            None => Verdict::Wrong { user: credentials.user, known },
            Some(_) if !is_same_target(&credentials.uri, &request.uri) => Verdict::OtherUri,
            Some(account) if self.take(now, &credentials, hop) => {
                Verdict::Accepted { user: credentials.user, account }
            }
            Some(_) => Verdict::Stale,
        }
    }

    /// Whether the nonce is ours, young, and its count new.
    fn take(&mut self, now: Instant, credentials: &Credentials, hop: &Hop) -> bool {
        let Some(serial) = self.serial(&credentials.nonce, hop) else { return false };
        let now = self.milliseconds(now);
        let lifetime = u64::try_from(NONCE_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        if serial.0 < self.floor || serial.0 + lifetime < now {
            return false;
        }
        self.forget_before(now.saturating_sub(lifetime));
        if !self.used.contains_key(&serial) {
            if self.used.len() >= MAX_NONCES
                && let Some(((oldest, _), ())) = self.ages.first_key_value()
            {
                self.forget_before(oldest + 1);
            }
            self.ages.insert(serial, ());
        }
        self.used.entry(serial).or_default().take(credentials.count)
    }

    fn forget_before(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while let Some((serial, ())) = self.ages.first_key_value().filter(|((issued, _), ())| *issued < floor)
        {
            self.used.remove(serial);
            self.ages.pop_first();
        }
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn nonce(&self, serial: Serial, hop: &Hop) -> String {
        let mut hash = Sha256::new();
        hash.update(*self.key);
        hash.update(serial.0.to_be_bytes());
        hash.update(serial.1.to_be_bytes());
        hash.update(source(hop).octets());
        // All inputs have one length, so a plain prefix key can't be extended; and half the sum hides the rest.
        let sum = hex(&hash.finalize()[..16]);
        format!("{:016x}{:016x}{sum}", serial.0, serial.1)
    }

    fn serial(&self, nonce: &str, hop: &Hop) -> Option<Serial> {
        let number = |at: usize| u64::from_str_radix(nonce.get(at..at + 16)?, 16).ok();
        let serial = (number(0)?, number(16)?);
        bool::from(self.nonce(serial, hop).as_bytes().ct_eq(nonce.as_bytes())).then_some(serial)
    }

    /// How many nonces are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.used.len()
    }
}

/// Whom a nonce is for: the address without its port, which a NAT may change; of IPv6 the network, whose hosts change
/// theirs by themselves (RFC 8981).
fn source(hop: &Hop) -> Ipv6Addr {
    match hop.remote.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64),
    }
}

/// Whether the URI that was signed means the same as the request's (RFC 7616 §3.4.6): the same user, so that what was
/// signed for one number can't call another. Hosts, ports and parameters may differ, since proxies rewrite them and
/// phones leave them out; and a URI without a user is the server itself, as SIPp and some gateways sign every request.
fn is_same_target(signed: &str, requested: &Uri) -> bool {
    match Uri::read(signed) {
        Ok(signed) if !requested.user().is_empty() && signed.user().is_empty() => {
            signed.host().eq_ignore_ascii_case(requested.host())
        }
        Ok(signed) => requested.user().is_empty() || signed.user() == requested.user(),
        // `host:port` alone.
        Err(_) => requested.user().is_empty(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn read(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(Self::Md5),
            Some(name) if name.eq_ignore_ascii_case("MD5") => Some(Self::Md5),
            Some(name) if name.eq_ignore_ascii_case("SHA-256") => Some(Self::Sha256),
            Some(_) => None,
        }
    }

    /// The hexadecimal digest of the parts, joined by colons.
    fn hash(self, parts: &[&str]) -> Zeroizing<String> {
        fn fill<D: sha2::Digest>(parts: &[&str]) -> Zeroizing<String> {
            let mut hash = D::new();
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    hash.update(b":");
                }
                hash.update(part.as_bytes());
            }
            Zeroizing::new(hex(&hash.finalize()))
        }
        match self {
            Self::Md5 => fill::<Md5>(parts),
            Self::Sha256 => fill::<Sha256>(parts),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What a client sent.
struct Credentials {
    user: String,
    realm: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: Algorithm,
    /// `qop=auth` with its cnonce and nc as written; without qop as RFC 2069 had it.
    qop: Option<(String, String)>,
    count: u32,
    /// Algorithm and qop are such as we offer.
    offered: bool,
}

impl Credentials {
    fn read(value: &str) -> Option<Self> {
        let params = AuthParams::read(value)?;
        let algorithm = Algorithm::read(params.get("algorithm").as_deref());
        let qop = params.get("qop");
        let offered =
            algorithm.is_some() && qop.as_deref().is_none_or(|qop| qop.eq_ignore_ascii_case("auth"));
        let counted = params.get("nc").unwrap_or_default();
        let count = if qop.is_some() { u32::from_str_radix(&counted, 16).ok()? } else { 1 };
        Some(Self {
            user: params.get("username")?,
            realm: params.get("realm")?,
            nonce: params.get("nonce")?,
            uri: params.get("uri")?,
            response: params.get("response")?.to_ascii_lowercase(),
            algorithm: algorithm.unwrap_or(Algorithm::Md5),
            qop: qop.map(|_| (params.get("cnonce").unwrap_or_default(), counted)),
            count,
            offered,
        })
    }

    /// The response that the right password gives, with the digest URI as written.
    fn response(&self, password: &str, method: &str) -> Zeroizing<String> {
        let secret = self.algorithm.hash(&[&self.user, &self.realm, password]);
        let action = self.algorithm.hash(&[method, &self.uri]);
        match &self.qop {
            Some((cnonce, count)) => {
                self.algorithm.hash(&[&secret, &self.nonce, count, cnonce, "auth", &action])
            }
            None => self.algorithm.hash(&[&secret, &self.nonce, &action]),
        }
    }
}

/// `Digest name=value, …`
struct AuthParams<'a>(Vec<(&'a str, &'a str)>);

impl<'a> AuthParams<'a> {
    fn read(value: &'a str) -> Option<Self> {
        // All that is in it will be hashed several times.
        if value.len() > MAX_CREDENTIALS_BYTES {
            return None;
        }
        let (scheme, params) = value.trim().split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let pair =
            |element: &'a str| element.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        list(params).map(|element| pair(element.ok()?)).collect::<Option<_>>().map(Self)
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| unquote(value).into_owned())
    }
}

impl Login {
    /// Answers the challenges of a 401 or 407: puts Authorization or Proxy-Authorization into the request, which is
    /// about to be sent again with a higher `CSeq`. `cnonce` is fresh. False: nothing there that we can answer, or
    /// our answer was refused before (a challenge that isn't stale, or has no other nonce, follows one that was answered).
    pub fn answer(&self, challenge: &Headers, status: u16, request: &mut Request, cnonce: &str) -> bool {
        let (asks, answers) = match status {
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => ("WWW-Authenticate", "Authorization"),
        };
        let mut best: Option<(Algorithm, AuthParams<'_>)> = None;
        for params in challenge.all(asks).filter_map(AuthParams::read) {
            let Some(algorithm) = Algorithm::read(params.get("algorithm").as_deref()) else { continue };
            if best.as_ref().is_none_or(|(best, _)| *best == Algorithm::Md5 && algorithm == Algorithm::Sha256)
            {
                best = Some((algorithm, params));
            }
        }
        let Some((algorithm, params)) = best else { return false };
        let stale = params.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
        let (Some(realm), Some(nonce)) = (params.get("realm"), params.get("nonce")) else { return false };
        let answered = request.headers.all(answers).filter_map(Credentials::read);
        if answered.into_iter().any(|before| before.realm == realm && !(stale && before.nonce != nonce)) {
            return false;
        }
        // Another proxy on the way may have its own.
        let of_another = |value: &&str| Credentials::read(value).is_some_and(|before| before.realm != realm);
        let kept: Vec<String> = request.headers.all(answers).filter(of_another).map(str::to_owned).collect();
        let qop = params.get("qop").is_some_and(|qop| qop.split(',').any(|one| one.trim() == "auth"));
        let count = "00000001".to_owned();
        let mut credentials = Credentials {
            user: self.user.clone(),
            realm,
            nonce,
            uri: request.uri.to_string(),
            response: String::new(),
            algorithm,
            qop: qop.then(|| (cnonce.to_owned(), count)),
            count: 1,
            offered: true,
        };
        credentials.response = credentials.response(&self.password, request.method.as_str()).to_string();
        request.headers.remove(answers);
        kept.into_iter().for_each(|other| request.headers.push(answers, other));
        request.headers.push(answers, credentials.write(params.get("opaque").as_deref()));
        true
    }
}

impl Credentials {
    fn write(&self, opaque: Option<&str>) -> String {
        use crate::message::text::write_quoted;
        use std::fmt::Write as _;
        let mut value = String::from("Digest ");
        let quoted =
            [("username", &self.user), ("realm", &self.realm), ("nonce", &self.nonce), ("uri", &self.uri)];
        // Writing to a String can't fail.
        for (name, text) in quoted {
            let _ = write!(value, "{name}=").and_then(|()| write_quoted(&mut value, text));
            value.push_str(", ");
        }
        let algorithm = match self.algorithm {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        };
        let _ = write!(value, "response=\"{}\", algorithm={algorithm}", self.response);
        if let Some((cnonce, count)) = &self.qop {
            let _ = write!(value, ", qop=auth, nc={count}, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = opaque {
            let _ = write!(value, ", opaque=").and_then(|()| write_quoted(&mut value, opaque));
        }
        value
    }
}

#[cfg(test)]
mod tests;
