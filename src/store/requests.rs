//! Counts the requests of this process to S3, for its metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Requests by operation and status code; code 0 for those without a response.
static ANSWERED: Mutex<BTreeMap<(&str, u16), u64>> = Mutex::new(BTreeMap::new());
static RETRIES: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// What the requests of this process came to, since its start.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// Number of requests by operation and status code; code 0 for those without a response.
    pub answered: Vec<((&'static str, u16), u64)>,
    /// Number of requests that were repeated.
    pub retries: u64,
    /// Bytes of request bodies that were sent.
    pub sent_bytes: u64,
    /// Bytes of response bodies that were received.
    pub received_bytes: u64,
}

/// The numbers as of now.
#[must_use]
pub fn counted() -> Requests {
    let answered = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    Requests {
        answered: answered.iter().map(|(key, n)| (*key, *n)).collect(),
        retries: RETRIES.load(Relaxed),
        sent_bytes: SENT.load(Relaxed),
        received_bytes: RECEIVED.load(Relaxed),
    }
}

/// Notes the status code of a request, 0 without a response, and the bytes of its body that were
/// sent.
pub(super) fn answered(operation: &'static str, code: u16, sent: u64) {
    *ANSWERED.lock().unwrap_or_else(PoisonError::into_inner).entry((operation, code)).or_default() += 1;
    SENT.fetch_add(sent, Relaxed);
}

/// Notes that a request is repeated.
pub(super) fn repeated() {
    RETRIES.fetch_add(1, Relaxed);
}

/// Notes bytes of a response.
pub(super) fn received(bytes: usize) {
    RECEIVED.fetch_add(bytes as u64, Relaxed);
}
