//! Turns that the guard began early, and what has to end them.

use std::time::Instant;

use super::state::{Capture, Closing};
use crate::wal::tail::TailError;

impl Capture {
    /// Whether looks are due without a hint: in a turn, until a checkpoint comes.
    #[must_use]
    pub fn awaits_checkpoint(&self) -> bool {
        self.in_turn() && !self.guard.is_early()
    }

    /// Like [`is_settled`](Capture::is_settled), but first ends a turn that began early.
    pub fn settles(&mut self, now: Instant) -> bool {
        // The next look meets the same error.
        _ = self.end_early_turn(now);
        self.is_settled()
    }

    /// Ends a turn that began early. `Ok(true)` if CKPT is held again.
    pub(super) fn end_early_turn(&mut self, now: Instant) -> Result<bool, TailError> {
        if !self.guard.is_early() {
            return Ok(false);
        }
        let backfilled = self.guard.backfilled();
        let moved = self.guard.step_turn(self.tail.last(), true, now)? && self.guard.in_cruise();
        if moved && self.guard.backfilled() != backfilled {
            self.close(Closing::Held);
        }
        Ok(moved)
    }
}
