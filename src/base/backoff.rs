//! How long to wait before a retry, and when an outage is logged again.

use std::time::Duration;

use super::limits;

/// Waits that grow with each failure in succession. A random part of up to a half is added to each,
/// so that clients that failed together do not retry together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    growth: u32,
    failures: u32,
}

impl Default for Backoff {
    /// From [`limits::BACKOFF_FIRST`] to [`limits::BACKOFF_MAX`].
    fn default() -> Backoff {
        Backoff::new(limits::BACKOFF_FIRST, limits::BACKOFF_MAX)
    }
}

impl Backoff {
    /// Waits that grow from `first` to `most`, by the factor [`limits::BACKOFF_GROWTH`].
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, growth: limits::BACKOFF_GROWTH, failures: 0 }
    }

    /// The same with another factor from each wait to the next.
    #[must_use]
    pub const fn growing(self, growth: u32) -> Backoff {
        Backoff { growth, ..self }
    }

    /// Number of failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure, and returns the wait before the retry.
    pub fn fail(&mut self) -> Duration {
        self.fail_times(1)
    }

    /// Counts `attempts` failures in succession, and returns the wait before the retry.
    pub fn fail_times(&mut self, attempts: u32) -> Duration {
        self.failures = self.failures.saturating_add(attempts.max(1));
        let wait = self.first.saturating_mul(self.growth.saturating_pow((self.failures - 1).min(32)));
        spread(wait.min(self.most))
    }

    /// Like [`fail_times`](Backoff::fail_times), but with a wait of at most `most` and its random
    /// part.
    pub fn fail_within(&mut self, attempts: u32, most: Duration) -> Duration {
        self.fail_times(attempts).min(spread(most))
    }

    /// Counts a failure that does not heal by itself, and returns the wait before the retry:
    /// minutes, and [`limits::BACKOFF_REFUSED`] at least.
    pub fn fail_for_good(&mut self) -> Duration {
        // Skip the short waits.
        self.failures = self.failures.max(3);
        let wait = self.fail();
        wait.max(spread(limits::BACKOFF_REFUSED)).min(spread(self.most.max(limits::BACKOFF_REFUSED)))
    }

    /// Forgets all failures after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

fn spread(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + fastrand::f64() / 2.0)
}

/// When an ongoing outage is logged again: after 1, 10 and 60 minutes, then once a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reminders(u32);

impl Reminders {
    /// Age of the outage at which the next line is due.
    #[must_use]
    pub fn due(&self) -> Duration {
        let minutes = match self.0 {
            0 => 1,
            1 => 10,
            2 => 60,
            days => u64::from(days - 2) * 24 * 60,
        };
        Duration::from_secs(minutes * 60)
    }

    /// Whether a line is due when the outage has this age. Several lines that are due count as one.
    pub fn take(&mut self, age: Duration) -> bool {
        let before = self.0;
        while age >= self.due() {
            self.0 += 1;
        }
        self.0 != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of attempts in the first minute, with the waits that `wait` returns.
    fn attempts(mut wait: impl FnMut(&mut Backoff) -> Duration) -> u32 {
        let (mut backoff, mut at, mut count) = (Backoff::default(), Duration::ZERO, 0);
        while at < Duration::from_secs(60) {
            count += 1;
            at += wait(&mut backoff);
        }
        count
    }

    #[test]
    fn five_attempts_in_the_first_minute_and_one_where_nothing_heals() {
        for _ in 0..100 {
            assert_eq!(attempts(Backoff::fail), 5);
            assert_eq!(attempts(Backoff::fail_for_good), 1);
            assert_eq!(attempts(|b| b.fail_within(1, limits::BACKOFF_UNREACHABLE)), 5);
        }
        let often = attempts(|b| b.fail_within(1, Duration::from_secs(10)));
        assert!((7..=9).contains(&often), "{often}");
    }

    #[test]
    fn waits_reach_minutes_and_begin_again_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..50).map(|_| backoff.fail()).collect();
        assert!(waits[0] >= limits::BACKOFF_FIRST && waits[0] < limits::BACKOFF_FIRST * 2);
        assert!(waits[10..].iter().all(|w| *w >= limits::BACKOFF_MAX && *w <= limits::BACKOFF_MAX * 2));
        backoff.reset();
        assert!(backoff.fail() < limits::BACKOFF_FIRST * 2);
    }

    #[test]
    fn an_outage_is_logged_after_1_10_and_60_minutes() {
        let mut reminders = Reminders::default();
        let at: Vec<u64> = (0..49 * 60).filter(|m| reminders.take(Duration::from_secs(m * 60))).collect();
        assert_eq!(at, [1, 10, 60, 24 * 60, 48 * 60]);
        let mut late = Reminders::default();
        assert!(late.take(Duration::from_secs(20 * 60)), "two at once are one line");
        assert!(!late.take(Duration::from_secs(21 * 60)));
    }
}
