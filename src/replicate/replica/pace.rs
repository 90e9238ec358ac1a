//! When a batch may be uploaded.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::limits;

/// A token bucket: one upload per interval on average, and up to [`limits::SYNC_BURST`] in a burst
/// after a quiet time. So a commit after a quiet second is uploaded immediately, and a busy writer
/// does not run up the bill. In addition, from time to time, a batch may leave early because its
/// writer has paused.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    tokens: u32,
    /// When `tokens` was last brought up to date.
    as_of: Instant,
    /// When a batch last left early because the writer had paused.
    rested: Option<Instant>,
}

impl Pace {
    /// A full bucket. With an interval of 0 no batch ever waits.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Pace {
        Pace { interval, tokens: limits::SYNC_BURST, as_of: now, rested: None }
    }

    /// When the next batch may leave.
    #[must_use]
    pub fn ready_at(&mut self, now: Instant) -> Instant {
        self.refill(now);
        if self.tokens > 0 { now } else { self.as_of + self.interval }
    }

    /// Takes a token for a batch that leaves.
    pub fn spend(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = self.tokens.saturating_sub(1);
    }

    /// Whether a batch may leave early once the writer pauses.
    #[must_use]
    pub fn may_rest(&self, now: Instant) -> bool {
        let wait = self.interval.saturating_mul(limits::SYNC_REST_INTERVALS);
        self.rested.is_none_or(|at| now.duration_since(at) >= wait)
    }

    /// Notes that a batch leaves early because the writer has paused.
    pub fn rest(&mut self, now: Instant) {
        self.rested = Some(now);
    }

    fn refill(&mut self, now: Instant) {
        if self.interval.is_zero() {
            self.tokens = limits::SYNC_BURST;
            self.as_of = now;
            return;
        }
        while self.tokens < limits::SYNC_BURST && now.duration_since(self.as_of) >= self.interval {
            self.tokens += 1;
            self.as_of += self.interval;
        }
        if self.tokens == limits::SYNC_BURST {
            self.as_of = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_interval() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, start);
        for _ in 0..limits::SYNC_BURST {
            assert_eq!(pace.ready_at(start), start);
            pace.spend(start);
        }
        assert_eq!(pace.ready_at(start), start + second);
        pace.spend(start + second);
        assert_eq!(pace.ready_at(start + second), start + 2 * second);
        // After a long quiet time the burst is full again, not larger.
        let later = start + 100 * second;
        for _ in 0..limits::SYNC_BURST {
            assert_eq!(pace.ready_at(later), later);
            pace.spend(later);
        }
        assert!(pace.ready_at(later) > later);
    }

    #[test]
    fn a_rest_counts_once_in_a_while() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, start);
        assert!(pace.may_rest(start));
        pace.rest(start);
        assert!(!pace.may_rest(start + second * (limits::SYNC_REST_INTERVALS - 1)));
        assert!(pace.may_rest(start + second * limits::SYNC_REST_INTERVALS));
    }

    #[test]
    fn no_interval_never_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(Duration::ZERO, now);
        for _ in 0..1000 {
            assert_eq!(pace.ready_at(now), now);
            pace.spend(now);
        }
    }
}
