//! Keys of encrypted media (SRTP) in custody. Everybody else has a [`KeyRef`], which says nothing; who may have a key is for
//! [`crate::decide`] to say.

use device_model::EndId;
use device_model::media::{KeyRef, SrtpSuite};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};
use zeroize::Zeroizing;

/// The most keys of one end that are held; the oldest goes. A description has 16 lines a stream at the most.
const MAX_KEYS_OF_END: usize = 64;

/// A master key with its salt, and what belongs to them. It is wiped when it is dropped, and cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey {
    /// For which suite.
    pub suite: SrtpSuite,
    /// The master key.
    pub key: Zeroizing<Vec<u8>>,
    /// The master salt.
    pub salt: Zeroizing<Vec<u8>>,
    /// The identifier that its packets carry.
    pub mki: Option<Vec<u8>>,
    /// Packets for which it is good, where its owner said.
    pub lifetime: Option<u64>,
}

impl SrtpKey {
    /// The registered name of its suite.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.suite {
            SrtpSuite::AeadAes256Gcm => "AEAD_AES_256_GCM",
            SrtpSuite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            SrtpSuite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            SrtpSuite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }
}

/// Standard base64 with padding (RFC 4648 §4).
#[must_use]
pub fn base64(bytes: &[u8]) -> Zeroizing<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= three.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpKey(…)")
    }
}

/// The keys that are in use, were lately, or are offered.
#[derive(Default)]
pub struct KeyCustody {
    last: u64,
    held: HashMap<KeyRef, Held>,
    /// Whose keys: those that an end has described, in their order.
    of_ends: HashMap<EndId, VecDeque<KeyRef>>,
    /// Ends that are over, and when.
    over: VecDeque<(Instant, EndId)>,
}

struct Held {
    key: SrtpKey,
    /// When it came into use.
    since: Option<SystemTime>,
}

impl fmt::Debug for KeyCustody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyCustody({} keys)", self.held.len())
    }
}

impl KeyCustody {
    /// Takes a key that an end sends with. The same key of the same end is the same thing.
    pub fn keep(&mut self, end: EndId, key: SrtpKey) -> KeyRef {
        let of_end = self.of_ends.entry(end).or_default();
        let known = of_end.iter().find(|one| self.held.get(one).is_some_and(|held| held.key == key));
        if let Some(known) = known {
            return *known;
        }
        self.last += 1;
        let name = KeyRef(self.last);
        if of_end.len() >= MAX_KEYS_OF_END
            && let Some(oldest) = of_end.pop_front()
        {
            self.held.remove(&oldest);
        }
        of_end.push_back(name);
        self.held.insert(name, Held { key, since: None });
        name
    }

    /// A stream runs with this key from now on, if it did not before.
    pub fn used(&mut self, key: KeyRef, now: SystemTime) {
        if let Some(held) = self.held.get_mut(&key) {
            held.since.get_or_insert(now);
        }
    }

    /// A key, and since when it is in use.
    #[must_use]
    pub fn key(&self, key: KeyRef) -> Option<(&SrtpKey, Option<SystemTime>)> {
        self.held.get(&key).map(|held| (&held.key, held.since))
    }

    /// The end is over. Who comes back to a session may still ask for its keys for a while.
    pub fn end(&mut self, now: Instant, end: EndId) {
        if self.of_ends.contains_key(&end) {
            self.over.push_back((now, end));
        }
    }

    /// Forgets the keys of ends that have been over for so long.
    pub fn expire(&mut self, now: Instant, after: Duration) {
        while let Some((_, end)) = self.over.pop_front_if(|(at, _)| *at + after <= now) {
            for key in self.of_ends.remove(&end).into_iter().flatten() {
                self.held.remove(&key);
            }
        }
    }

    /// When [`KeyCustody::expire`] has something to do.
    #[must_use]
    pub fn next_expiry(&self, after: Duration) -> Option<Instant> {
        self.over.front().map(|(at, _)| *at + after)
    }

    /// How many keys are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EndId = EndId(1);
    const B: EndId = EndId(2);

    fn key(byte: u8) -> SrtpKey {
        let of = |length| Zeroizing::new(vec![byte; length]);
        SrtpKey { suite: SrtpSuite::AeadAes256Gcm, key: of(32), salt: of(12), mki: None, lifetime: None }
    }

    /// Tests need some instant to count from; which one makes no difference.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_same_key_of_an_end_is_one_and_that_of_another_is_another() {
        let mut custody = KeyCustody::default();
        let first = custody.keep(A, key(1));
        assert_eq!(custody.keep(A, key(1)), first);
        assert_ne!(custody.keep(A, key(2)), first);
        assert_ne!(custody.keep(B, key(1)), first);
        assert_eq!(custody.key(first), Some((&key(1), None)));
        let (then, later) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        custody.used(first, then);
        custody.used(first, later);
        assert_eq!(custody.key(first), Some((&key(1), Some(then))));
    }

    #[test]
    fn keys_of_who_is_gone_are_held_for_a_while_and_no_longer() {
        let (mut custody, now, grace) = (KeyCustody::default(), start(), Duration::from_secs(60));
        let (gone, stays) = (custody.keep(A, key(1)), custody.keep(B, key(1)));
        custody.end(now, A);
        assert_eq!(custody.next_expiry(grace), Some(now + grace));
        custody.expire(now + grace - Duration::from_millis(1), grace);
        assert!(custody.key(gone).is_some());
        custody.expire(now + grace, grace);
        assert!(custody.key(gone).is_none() && custody.key(stays).is_some());
        assert_eq!((custody.len(), custody.next_expiry(grace)), (1, None));
    }

    #[test]
    fn an_end_that_always_says_another_key_fills_no_memory() {
        let mut custody = KeyCustody::default();
        let all: Vec<KeyRef> = (0..200).map(|byte| custody.keep(A, key(byte))).collect();
        assert_eq!(custody.len(), MAX_KEYS_OF_END);
        assert!(custody.key(all[0]).is_none() && custody.key(all[199]).is_some());
    }

    #[test]
    fn base64_has_its_padding() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (&[0xfb, 0xff, 0xbf], "+/+/")]
        {
            assert_eq!(*base64(bytes), text);
        }
    }

    #[test]
    fn it_says_no_key() {
        let mut custody = KeyCustody::default();
        custody.keep(A, key(77));
        assert_eq!(format!("{custody:?} {:?}", key(77)), "KeyCustody(1 keys) SrtpKey(…)");
    }
}
