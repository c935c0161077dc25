//! Times as they are kept on a disk.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
pub type Millis = u64;

/// A time so; what is before the epoch is the epoch.
#[must_use]
pub fn millis(time: SystemTime) -> Millis {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
