//! How the loop learns of commits: by hints, or by the clock while commits are frequent.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::shared::Shared;
use crate::io::watch::{Hint, Of, Watch};
use crate::sqlite::database::sibling;

/// Delay between looks while all replicas are uploading: commits gather for the next upload anyway.
pub(super) const BUSY_GAP: Duration = Duration::from_millis(1);

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
