//! What a limit says to whoever is over it, and whom an address counts as. The limits are [`shares`](crate::shares).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Too much: try again after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts: try again in {} ms", .retry_after.as_millis())]
pub struct TooMany {
    /// How long to wait; never zero.
    pub retry_after: Duration,
}

impl TooMany {
    /// For `data.retry_after_ms`, rounded up.
    #[must_use]
    pub fn retry_after_ms(&self) -> u64 {
        u64::try_from(self.retry_after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// Whom an address counts as: one customer of IPv6 has a /64 at least, and so 2^64 addresses: they count as one.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}
