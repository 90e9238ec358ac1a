//! When to look again after a hint.

use std::time::{Duration, Instant};

/// Looks after a hint: so long after the one before. SQLite publishes a commit after the last event that it causes.
pub(super) const GAPS: [Duration; 8] = [
    Duration::from_micros(40),
    Duration::from_micros(80),
    Duration::from_micros(160),
    Duration::from_micros(320),
    Duration::from_micros(640),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
];

/// Looks while a commit is known to be near (its frames are there), once the gaps are used up.
const NEAR_GAP: Duration = Duration::from_millis(1);

/// A transaction that stays unpublished longer than this was rolled back or its writer is gone: the next hint will tell.
const NEAR_MAX: Duration = Duration::from_secs(30);

/// When to look again after a hint.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    next: usize,
    near_since: Option<Instant>,
    /// No hint since the gaps were used up.
    quiet: bool,
}

impl Gaps {
    pub(super) fn restart(&mut self) {
        *self = Gaps::default();
    }

    pub(super) fn next(&mut self, near: bool, now: Instant) -> Option<Instant> {
        if self.quiet && !near {
            return None;
        }
        if let Some(gap) = GAPS.get(self.next) {
            self.next += 1;
            return Some(now + *gap);
        }
        self.quiet = true;
        if !near {
            self.near_since = None;
            return None;
        }
        let since = *self.near_since.get_or_insert(now);
        (now.duration_since(since) < NEAR_MAX).then(|| now + NEAR_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_end_unless_a_commit_is_near() {
        let mut gaps = Gaps::default();
        let start = Instant::now();
        let count = std::iter::from_fn(|| gaps.next(false, start)).count();
        assert_eq!(count, GAPS.len());
        assert_eq!(gaps.next(true, start), Some(start + NEAR_GAP));
        assert_eq!(
            gaps.next(true, start + NEAR_MAX),
            None,
            "a transaction that stays unpublished is given up"
        );
        gaps.restart();
        assert_eq!(gaps.next(false, start), Some(start + GAPS[0]));
    }
}
