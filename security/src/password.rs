//! Password hashes: argon2id in PHC strings (RFC 9106). One verification costs tens of milliseconds and 19 MiB on
//! purpose: the caller bounds how many run at once.

use crate::secret::Secret;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use std::fmt;

/// The most memory that a hash from the configuration may ask for, in KiB (256 MiB).
pub const MAX_MEMORY_KIB: u32 = 262_144;
/// The most passes that a hash from the configuration may ask for.
pub const MAX_PASSES: u32 = 64;
/// The most lanes that a hash from the configuration may ask for.
pub const MAX_LANES: u32 = 64;

/// Why a text is no usable hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not PHC.
    #[error("not a password hash: `ctimanager hash-password` makes one")]
    NotAHash,
    /// Some other algorithm.
    #[error("only argon2id hashes are accepted: `ctimanager hash-password` makes one")]
    NotArgon2id,
    /// Parameters that nobody should have to work off at a login.
    #[error(
        "the hash asks for too much work (at most {MAX_MEMORY_KIB} KiB, {MAX_PASSES} passes, {MAX_LANES} lanes)"
    )]
    TooMuchWork,
    /// Nobody can hash this.
    #[error("the password can't be hashed")]
    Refused,
}

/// Makes a hash with argon2's recommended parameters (19 MiB, 2 passes, 1 lane).
///
/// # Errors
/// When argon2 refuses the password (longer than 4 GiB).
pub fn hash(password: &Secret, salt: [u8; 16]) -> Result<String, HashError> {
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map_err(|_| HashError::Refused)?;
    Ok(hash.to_string())
}

/// Whether the password is the one that was hashed. Anything that is no good hash matches nothing.
#[must_use]
pub fn verify(hash: &str, password: &Secret) -> bool {
    Verifier::default().verify(hash, password)
}

/// Verifies one password after the other in the same memory: taken anew each time, such blocks end up scattered over
/// the process' heaps, which keep ten times as much as is ever in use.
#[derive(Default)]
pub struct Verifier {
    blocks: Vec<Block>,
}

impl Verifier {
    /// As [`verify`].
    pub fn verify(&mut self, hash: &str, password: &Secret) -> bool {
        self.matches(hash, password).unwrap_or(false)
    }

    /// `None` for what is no good hash.
    fn matches(&mut self, hash: &str, password: &Secret) -> Option<bool> {
        let parsed = parse(hash).ok()?;
        let (salt, expected) = (parsed.salt.as_ref()?, parsed.hash.as_ref()?);
        let params = Params::try_from(&parsed).ok()?;
        let version = parsed.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
        let needed = params.block_count();
        if self.blocks.len() != needed {
            // One costly hash must not hold its memory for ever.
            self.blocks = Vec::new();
            self.blocks.resize(needed, Block::default());
        }
        let mut computed = vec![0; expected.as_bytes().len()];
        Argon2::new(Algorithm::Argon2id, version, params)
            .hash_password_into_with_memory(
                password.expose().as_bytes(),
                salt.as_ref(),
                &mut computed,
                &mut self.blocks,
            )
            .ok()?;
        // The comparison of outputs takes the same time wherever they differ.
        Some(*expected == Output::new(&computed).ok()?)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was made of the last password is nobody's business.
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// Checks a hash that an administrator wrote.
///
/// # Errors
/// When it is no argon2id hash, or one that would make each login a burden.
pub fn check(hash: &str) -> Result<(), HashError> {
    parse(hash).map(|_| ())
}

/// What a verification costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// That of a fresh hash.
    fn default() -> Self {
        Self::of(&Params::DEFAULT)
    }
}

impl Cost {
    fn of(params: &Params) -> Self {
        Self { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }
}

/// What it costs to verify a password against this hash; `None` for what is no good hash.
#[must_use]
pub fn cost(hash: &str) -> Option<Cost> {
    Params::try_from(&parse(hash).ok()?).ok().map(|params| Cost::of(&params))
}

/// A hash that no password is known to match and that costs so much to verify. Its tag is fixed: to find a password for
/// it is to invert argon2.
#[must_use]
pub fn decoy(cost: Cost) -> String {
    format!(
        "$argon2id$v=19$m={},t={},p={}$bm9ib2R5IG1hdGNoZXM${}",
        cost.memory_kib, cost.passes, cost.lanes, "bm8gcGFzc3dvcmQgaXMga25vd24gdG8gbWF0Y2ggdGg",
    )
}

fn parse(hash: &str) -> Result<PasswordHash, HashError> {
    let parsed = PasswordHash::new(hash).map_err(|_| HashError::NotAHash)?;
    if parsed.algorithm != ARGON2ID_IDENT {
        return Err(HashError::NotArgon2id);
    }
    if parsed.salt.is_none() || parsed.hash.is_none() {
        return Err(HashError::NotAHash);
    }
    let params = Params::try_from(&parsed).map_err(|_| HashError::NotAHash)?;
    if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_LANES {
        return Err(HashError::TooMuchWork);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::{Cost, HashError, Verifier, check, cost, decoy, hash, verify};
    use crate::secret::Secret;
    use argon2::password_hash::PasswordHasher;
    use argon2::{Argon2, Params};

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn only_the_right_password_matches() {
        let made = hash(&secret("wonderland"), [7; 16]).unwrap();
        assert!(made.starts_with("$argon2id$v=19$"), "{made}");
        assert!(verify(&made, &secret("wonderland")));
        assert!(!verify(&made, &secret("Wonderland")));
        assert!(!verify(&made, &secret("")));
        assert_ne!(made, hash(&secret("wonderland"), [8; 16]).unwrap());
    }

    #[test]
    fn what_was_verified_before_leaves_nothing_behind() {
        let cheap = |kib| Argon2::from(Params::new(kib, 2, 1, None).unwrap());
        let made = |kib, text: &str| {
            cheap(kib).hash_password_with_salt(text.as_bytes(), &[7; 16]).unwrap().to_string()
        };
        let (small, large) = (made(64, "alice"), made(256, "bob"));
        let mut verifier = Verifier::default();
        for _ in 0..2 {
            for (hash, password, right) in [
                (&small, "alice", true),
                (&small, "bob", false),
                (&small, "alice", true),
                (&large, "bob", true),
                (&large, "alice", false),
            ] {
                assert_eq!(verifier.verify(hash, &secret(password)), right, "{hash} {password}");
                assert_eq!(verify(hash, &secret(password)), right, "{hash} {password}");
            }
            assert!(!verifier.verify("wonderland", &secret("wonderland")));
        }
    }

    #[test]
    fn the_decoy_matches_nothing_and_costs_the_same() {
        let cheap = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let like = decoy(cheap);
        assert_eq!(cost(&like), Some(cheap));
        assert_eq!(check(&like), Ok(()));
        for password in ["", "wonderland", "nobody matches"] {
            assert!(!verify(&like, &secret(password)));
        }
        let fresh = hash(&secret("wonderland"), [7; 16]).unwrap();
        assert_eq!(cost(&fresh), Some(Cost::default()));
        assert_eq!(cost("nonsense"), None);
    }

    #[test]
    fn bad_hashes_are_named() {
        assert_eq!(check("wonderland"), Err(HashError::NotAHash));
        assert_eq!(check("$argon2id$v=19$m=64,t=1,p=1"), Err(HashError::NotAHash));
        let tag = "bm8gcGFzc3dvcmQgaXMga25vd24gdG8gbWF0Y2ggdGg";
        let with = |head: &str| check(&format!("{head}$c29tZXNhbHRzb21lc2FsdA${tag}"));
        assert_eq!(with("$argon2i$v=19$m=64,t=1,p=1"), Err(HashError::NotArgon2id));
        assert_eq!(with("$argon2id$v=19$m=4000000,t=1,p=1"), Err(HashError::TooMuchWork));
        assert_eq!(with("$argon2id$v=19$m=64,t=4000,p=1"), Err(HashError::TooMuchWork));
        assert!(!verify("wonderland", &secret("wonderland")));
    }
}
