//! A busy WAL is looked at by the clock: hints would cost its writer, and the loop, more than the
//! looks do.

use std::io;
use std::time::{Duration, Instant};

use super::error::{FollowError, io_error};
use super::notice::{BUSY_GAP, Notice};
use super::run::Follower;
use crate::replicate::capture::Look;

/// This many consecutive looks that find commits make the WAL a busy one.
const BUSY_LOOKS: u32 = 16;

/// When looks by the clock find nothing for this time, the WAL is idle.
const CLOCK_IDLE: Duration = Duration::from_millis(20);

impl Follower<'_> {
    /// Changes between hints and the clock. `Ok(true)` if the hints have been turned on again, so
    /// that one more look is due.
    pub(super) fn adapt(&mut self, look: Look, now: Instant) -> Result<bool, FollowError> {
        match &mut self.notice {
            Notice::Hints { streak, .. } => {
                let busy = look.captured && now.duration_since(self.last_captured) < BUSY_GAP * 4;
                *streak = if busy {
                    *streak + 1
                } else if look.captured {
                    0
                } else {
                    *streak
                };
                if *streak >= BUSY_LOOKS {
                    self.notice = Notice::Clock;
                }
            }
            Notice::Clock => {
                if !look.captured && now.duration_since(self.last_captured) >= CLOCK_IDLE {
                    // Nothing watched the files meanwhile; they may also be gone.
                    self.hint.note_moved();
                    self.unexplained = true;
                    match Notice::hints(self.shared, self.path(), &self.hint) {
                        Ok(hints) => self.notice = hints,
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(io_error(self.path())(e)),
                    }
                    return Ok(true);
                }
            }
        }
        // While a checkpoint is waited for there is nothing to find.
        if look.captured || self.capture.is_waiting() {
            self.last_captured = now;
        }
        Ok(false)
    }
}
