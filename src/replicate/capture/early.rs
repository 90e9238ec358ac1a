//! Turns that the guard began early, what has to end them, and when capture is settled.

use std::time::Instant;

use super::state::{Capture, Closing, State};
use crate::wal::tail::TailError;

#[cfg(test)]
#[path = "early_tests.rs"]
mod tests;

impl Capture {
    /// Whether looks are cheap, should be frequent, and are due without a hint: in a turn, until a
    /// checkpoint comes.
    #[must_use]
    pub fn awaits_checkpoint(&self) -> bool {
        self.in_turn() && !self.guard.is_early()
    }

    /// Whether the guard is in cruise, the position is proven and no transaction is half read. Only
    /// then can an idle WAL be truncated or capture end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.guard.in_cruise() && self.is_at_commit()
    }

    /// Whether the position is proven, and no transaction is half read.
    pub(super) fn is_at_commit(&self) -> bool {
        self.state == State::Following && self.taken.open.is_empty()
    }

    /// Whether [`settles`](Capture::settles) can succeed.
    #[must_use]
    pub fn can_settle(&self) -> bool {
        self.guard.is_early() && self.is_at_commit() || self.is_settled()
    }

    /// Like [`is_settled`](Capture::is_settled), but first ends a turn that began early.
    pub fn settles(&mut self, now: Instant) -> bool {
        // The next look meets the same error.
        _ = self.end_early_turn(now);
        _ = self.guard.harden();
        self.is_settled()
    }

    /// Ends a turn that began early. `Ok(true)` if the guard is in cruise again.
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

    /// Truncates the WAL of an idle database. The count proves afterwards that there was no commit
    /// meanwhile.
    ///
    /// # Errors
    /// Any error of the lock.
    pub fn give_back_log(&mut self, now: Instant) -> Result<(), TailError> {
        if self.counts() && !self.handoff.is_pinned() && self.settles(now) {
            self.guard.give_back()?;
        }
        Ok(())
    }
}
