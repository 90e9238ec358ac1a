//! Whether any store of this process makes progress.

use std::sync::atomic::{AtomicU64, Ordering};

static SEEN: AtomicU64 = AtomicU64::new(0);

/// Notes that a store has responded, or has taken bytes.
pub(super) fn note() {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// A number that changes whenever a store of this process responds or takes bytes.
#[must_use]
pub fn seen() -> u64 {
    SEEN.load(Ordering::Relaxed)
}
