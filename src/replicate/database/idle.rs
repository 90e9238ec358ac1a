//! A large WAL: truncated when the database is idle, and reported when it cannot start over.

use std::time::{Duration, Instant};

use super::FollowError;
use super::run::Follower;
use crate::base::limits;
use crate::replicate::capture::Look;

/// An idle database whose WAL is larger than [`limits::WAL_IDLE_BYTES`] truncates it after this
/// time.
const IDLE: Duration = Duration::from_secs(10);

/// Shortest time between two attempts to truncate the WAL of an idle database.
const IDLE_AGAIN: Duration = Duration::from_secs(60);

/// A WAL with frames that cannot be proven is truncated after this idle time: until then a crash
/// would lose commits.
const IDLE_DAMAGED: Duration = Duration::from_secs(1);

/// Shortest time between two attempts to truncate a WAL with unproven frames.
const IDLE_DAMAGED_AGAIN: Duration = Duration::from_secs(5);

impl Follower<'_> {
    /// When to truncate the WAL of an idle database; `None` if it is small or not all is captured.
    pub(super) fn idle_at(&mut self, look: Look) -> Option<Instant> {
        let changed = self.capture.last_change();
        if self.capture.is_damaged() {
            return self.capture.can_settle().then(|| (changed + IDLE_DAMAGED).max(self.idle_not_before));
        }
        // A quiet WAL without new commits does not grow, so its size need not be read again.
        let (large, _) = match self.log_is_large {
            Some(known) if look.quiet && known.1 == changed => known,
            _ => (self.capture.db().wal().len().is_ok_and(|len| len > limits::WAL_IDLE_BYTES), changed),
        };
        self.log_is_large = Some((large, changed));
        (large && self.capture.can_settle()).then(|| (changed + IDLE).max(self.idle_not_before))
    }

    /// Truncates the WAL of an idle database if that is due.
    pub(super) fn give_back_idle_log(&mut self, now: Instant) -> Result<(), FollowError> {
        if self.idle_due.is_some_and(|t| t <= now) {
            // A reader with an old snapshot can prevent it: do not retry immediately.
            self.idle_not_before =
                now + if self.capture.is_damaged() { IDLE_DAMAGED_AGAIN } else { IDLE_AGAIN };
            self.capture.give_back_log(now).map_err(|e| self.tail_error(e))?;
        }
        Ok(())
    }

    /// Logs once that neither turns nor rounds get the WAL to start over.
    pub(super) fn report_large_log(&mut self) {
        if self.wal_reported {
            return;
        }
        let frames = u64::from(self.handoff.mark().pos.frame.0);
        let bytes = frames * u64::from(self.capture.db().page_size().get());
        if bytes > limits::WAL_REPORT_BYTES {
            self.wal_reported = true;
            tracing::warn!(
                db = %self.path().display(),
                bytes,
                "the WAL grows: something (a reader with an old snapshot, or a large upload) keeps it from starting over"
            );
        }
    }
}
