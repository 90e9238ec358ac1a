//! Whether the stores of this process do anything at all.

use std::sync::atomic::{AtomicU64, Ordering};

static SEEN: AtomicU64 = AtomicU64::new(0);

/// A store has answered, or taken bytes.
pub(super) fn note() {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// A number that changes whenever a store of this process answers or takes bytes.
#[must_use]
pub fn seen() -> u64 {
    SEEN.load(Ordering::Relaxed)
}
