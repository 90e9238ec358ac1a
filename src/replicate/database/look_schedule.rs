//! When to look again after a hint.

use std::time::{Duration, Instant};

use crate::replicate::capture::Look;

/// Delay before each look after a hint, counted from the look before it. SQLite publishes a commit
/// after the last file event that it causes, so one look at the hint is not enough.
pub(crate) const GAPS: [Duration; 8] = [
    Duration::from_micros(40),
    Duration::from_micros(80),
    Duration::from_micros(160),
    Duration::from_micros(320),
    Duration::from_micros(640),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
];

/// Shortest delay between looks once [`GAPS`] are used up, while a commit is known to be near (its
/// frames are in the WAL).
const NEAR_GAP: Duration = Duration::from_millis(1);

/// Near looks are delayed by the time already waited divided by this: a commit whose flush takes a
/// second is noticed 31 ms late at most.
const NEAR_SHARE: u32 = 32;

/// A transaction that stays unpublished for longer than this was rolled back, or its writer is
/// gone: the next hint will tell.
const NEAR_MAX: Duration = Duration::from_secs(30);

/// The schedule of looks since the last hint.
#[derive(Debug, Default)]
pub(crate) struct LookSchedule {
    next: usize,
    near_since: Option<Instant>,
    /// There was no hint since [`GAPS`] were used up.
    quiet: bool,
}

impl LookSchedule {
    pub(crate) fn restart(&mut self) {
        *self = LookSchedule::default();
    }

    /// Whether the last hint was followed by all the looks that a commit can need.
    pub(crate) fn are_used_up(&self) -> bool {
        self.quiet
    }

    /// The time of the next look after `look`; `None` to wait for a hint.
    pub(crate) fn next(&mut self, look: Look, now: Instant) -> Option<Instant> {
        if look.quiet {
            *self = LookSchedule { quiet: true, ..LookSchedule::default() };
        }
        if self.quiet && !look.near {
            return None;
        }
        if let Some(gap) = GAPS.get(self.next) {
            self.next += 1;
            return Some(now + *gap);
        }
        self.quiet = true;
        if !look.near {
            self.near_since = None;
            return None;
        }
        let since = *self.near_since.get_or_insert(now);
        let waited = now.duration_since(since);
        (waited < NEAR_MAX).then(|| now + NEAR_GAP.max(waited / NEAR_SHARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_end_unless_a_commit_is_near() {
        let (nothing, near) = (Look::default(), Look { near: true, ..Look::default() });
        let mut gaps = LookSchedule::default();
        let start = Instant::now();
        let count = std::iter::from_fn(|| gaps.next(nothing, start)).count();
        assert_eq!(count, GAPS.len());
        assert_eq!(gaps.next(near, start), Some(start + NEAR_GAP));
        let later = start + Duration::from_secs(1);
        assert_eq!(gaps.next(near, later), Some(later + Duration::from_secs(1) / NEAR_SHARE));
        assert_eq!(
            gaps.next(near, start + NEAR_MAX),
            None,
            "a transaction that stays unpublished is given up"
        );
        gaps.restart();
        assert_eq!(gaps.next(nothing, start), Some(start + GAPS[0]));
    }

    #[test]
    fn a_look_that_shows_nothing_under_way_is_the_last_until_a_hint() {
        let quiet = Look { quiet: true, ..Look::default() };
        let mut gaps = LookSchedule::default();
        let start = Instant::now();
        assert_eq!(gaps.next(Look::default(), start), Some(start + GAPS[0]));
        assert_eq!(gaps.next(quiet, start), None);
        assert_eq!(gaps.next(Look::default(), start), None);
        gaps.restart();
        assert_eq!(gaps.next(Look::default(), start), Some(start + GAPS[0]));
    }
}
