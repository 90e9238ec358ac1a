//! The parts that the numbers of databases and of replicas are made of.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::Salts;
use crate::base::clock::Millis;

/// A failure, with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it last occurred; for damage of the WAL, when it began.
    pub at: Millis,
    /// Text without secrets (I7).
    pub message: String,
}

/// Locks, whatever a panic elsewhere left behind: each value is whole at any moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A position in the WAL, readable from any thread.
#[derive(Debug, Default)]
pub(super) struct WalPlace {
    salts: AtomicU64,
    end: AtomicU64,
}

impl WalPlace {
    pub(super) fn set(&self, salts: Salts, frame: u32, pages: u32) {
        self.salts.store(u64::from(salts.one) << 32 | u64::from(salts.two), Relaxed);
        self.end.store(u64::from(frame) << 32 | u64::from(pages), Relaxed);
    }

    pub(super) fn get(&self) -> (Salts, u32, u32) {
        let (salts, end) = (self.salts.load(Relaxed), self.end.load(Relaxed));
        let (high, low) = (|n: u64| (n >> 32) as u32, |n: u64| (n & u64::from(u32::MAX)) as u32);
        (Salts { one: high(salts), two: low(salts) }, high(end), low(end))
    }
}

/// A number of commits, and the bytes of the pages they changed.
#[derive(Debug, Default)]
pub(super) struct Amount {
    commits: AtomicU64,
    bytes: AtomicU64,
}

impl Amount {
    pub(super) fn add(&self, commits: u64, bytes: u64) {
        self.commits.fetch_add(commits, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn set(&self, other: (u64, u64)) {
        self.commits.store(other.0, Relaxed);
        self.bytes.store(other.1, Relaxed);
    }

    pub(super) fn get(&self) -> (u64, u64) {
        (self.commits.load(Relaxed), self.bytes.load(Relaxed))
    }
}

/// Microseconds from `begun` to `at`, at least 1.
pub(super) fn micros(at: Instant, begun: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(begun).as_micros()).unwrap_or(u64::MAX).max(1)
}
