//! Unguessable names from a seed: a seed replays a whole run.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Makes tags, branches, Call-IDs and nonces.
pub struct Ids(StdRng);

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ids")
    }
}

impl Ids {
    /// From entropy, or from a test's seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }

    /// A dialog tag, 64 bits (RFC 3261 §19.3 wants 32).
    pub fn tag(&mut self) -> String {
        format!("{:016x}", self.0.next_u64())
    }

    /// A branch with the magic cookie.
    pub fn branch(&mut self) -> String {
        format!("z9hG4bK{:016x}{:08x}", self.0.next_u64(), self.0.next_u32())
    }

    /// A Call-ID; it names no host (RFC 3323 §4.1).
    pub fn call_id(&mut self) -> String {
        format!("{:016x}{:016x}", self.0.next_u64(), self.0.next_u64())
    }

    /// Secret bytes for keys.
    pub fn secret(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `bound`, for waits that must differ between the two ends (RFC 3261 §14.1).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }
}
