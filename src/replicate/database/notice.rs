//! How the loop learns of commits: by hints, or by the clock while commits are frequent.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::FollowError;
use super::run::{BUSY_GAP, Follower, Shared, io_error};
use crate::io::watch::{Hint, Of, Watch};
use crate::replicate::capture::Look;
use crate::sqlite::database::sibling;

/// This many consecutive looks that find commits make the WAL a busy one.
const BUSY_LOOKS: u32 = 16;

/// When looks by the clock find nothing for this time, the WAL is idle.
const CLOCK_IDLE: Duration = Duration::from_millis(20);

/// How the loop learns of commits.
pub(super) enum Notice {
    /// The database file, its WAL and its wal-index are watched. The watch on the wal-index shows
    /// damage done by other programs; it does not see commits.
    Hints {
        _watches: [Watch; 3],
        /// Consecutive looks that found commits, each soon after the one before.
        streak: u32,
    },
    /// The loop looks at the WAL every [`BUSY_GAP`].
    Clock,
}

impl Notice {
    pub(super) fn hints(shared: &Shared, db: &Path, hint: &Rc<Hint>) -> io::Result<Notice> {
        let watch = |path: &Path| shared.watches.add(path, Of::File, hint);
        let watches = [watch(db)?, watch(&sibling(db, "-wal"))?, watch(&sibling(db, "-shm"))?];
        Ok(Notice::Hints { _watches: watches, streak: 0 })
    }
}

impl Follower<'_> {
    /// Looks at a busy WAL by the clock: hints would cost its writer, and this loop, more than the
    /// looks do. `Ok(true)` if the hints have been turned on again, so that one more look is due.
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
