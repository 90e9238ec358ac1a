//! How often a standby polls.

use std::time::{Duration, Instant};

use crate::base::limits;

/// When to list, and how long to wait for the next file.
pub(super) struct Pace {
    pub(super) list_at: Instant,
    gap: Duration,
    interval: Duration,
    came_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Pace {
        Pace { list_at: Instant::now(), gap: limits::FOLLOW_LIST_MIN, interval, came_at: None }
    }

    /// Delay before the next request. It is short if a file has arrived recently, because the next
    /// one is then near.
    pub(super) fn pause(&self) -> Duration {
        let lately = self.came_at.is_some_and(|at| at.elapsed() < self.interval * LATELY);
        if lately { self.interval / HASTE } else { self.interval }
    }

    pub(super) fn nothing_listed(&mut self) {
        self.gap = (self.gap * 2).min(limits::FOLLOW_LIST_MAX);
        self.list_at = Instant::now() + self.gap;
    }

    pub(super) fn something_came(&mut self) {
        self.came_at = Some(Instant::now());
        self.gap = limits::FOLLOW_LIST_MIN;
        self.list_at = Instant::now() + self.gap;
    }
}

/// For this many intervals after a file arrived, poll faster.
const LATELY: u32 = 4;

/// Polls per interval while polling faster.
const HASTE: u32 = 4;
