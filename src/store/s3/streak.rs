//! Failures in succession that the requests of one upload share.
//!
//! The parts of an upload are under way at the same time, so an outage meets several of them. If
//! each part counted its own failures, each would make all the attempts of a single request.
//! Instead each failure makes the next wait of any of them longer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::backoff::Backoff;

/// Failures since the last success of any of the requests.
#[derive(Debug)]
pub(super) struct Streak(Mutex<Backoff>);

impl Streak {
    pub(super) fn new(backoff: Backoff) -> Streak {
        Streak(Mutex::new(backoff))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Backoff) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts `requests` failed ones, and returns the wait before the next attempt.
    pub(super) fn fail(&self, requests: u32) -> Duration {
        self.with(|backoff| backoff.fail_times(requests))
    }

    pub(super) fn failures(&self) -> u32 {
        self.with(|backoff| backoff.failures())
    }

    /// A request has succeeded.
    pub(super) fn reset(&self) {
        self.with(Backoff::reset);
    }
}
