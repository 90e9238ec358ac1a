//! What is left of a database when lsfast ends.
//!
//! Without lsfast the last connection to close brings the WAL into the database file. lsfast prevents that while it runs, and is often the last to
//! leave: whoever then copies the one file would miss all that is in its WAL. So lsfast checkpoints when it ends.
//!
//! A PASSIVE checkpoint leaves the WAL as it is, so that the next start proves its position in it. This holds only as long as no commit follows: a
//! commit would start the WAL over, and the next start would have to compare page hashes. So where another process has the database open it is
//! left alone; that process, or the last one, does the same.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Follower;
use crate::sqlite::database::{CheckpointMode, Database};
use crate::sqlite::walindex::LOCK_DMS;

/// How long that may take. A longer one is broken off, and the WAL stays as it is.
const LEAVE_TIME: Duration = Duration::from_secs(5);

impl Follower<'_> {
    /// Brings what is in the WAL into the database file.
    pub(super) async fn leave(&mut self) {
        let damaged = self.capture.is_damaged();
        let db = Arc::clone(self.capture.db());
        let mode = match self
            .capture
            .let_go()
            .and_then(|free| if free { mode(&db, damaged) } else { Ok(None) })
        {
            Ok(Some(mode)) => mode,
            Ok(None) => return,
            Err(e) => {
                tracing::debug!(db = %db.path().display(), error = %e, "cannot look at the database in the end");
                return;
            }
        };
        let opening = Arc::clone(&self.shared.opening);
        let to_copy = Arc::clone(&db);
        let copied = async move {
            // Of many databases that end at once some go first.
            let _place = opening.acquire_owned().await.ok();
            tokio::task::spawn_blocking(move || to_copy.checkpoint_within(mode, LEAVE_TIME)).await.ok()
        };
        let problem = match tokio::time::timeout(LEAVE_TIME, copied).await {
            Ok(Some(Ok(_))) => return,
            Ok(Some(Err(e))) => e.to_string(),
            Ok(None) => "a worker thread has failed".to_owned(),
            Err(_) => format!("it takes longer than {LEAVE_TIME:?}"),
        };
        tracing::warn!(
            db = %db.path().display(),
            problem,
            "the WAL could not be brought into the database file; whoever copies the database needs both files"
        );
    }
}

/// Which checkpoint is due in the end, if any.
fn mode(db: &Database, damaged: bool) -> io::Result<Option<CheckpointMode>> {
    if !db.is_same()? {
        return Ok(None);
    }
    let in_use = db.shm().held_by_other(LOCK_DMS)?;
    if damaged {
        // The next to open the database recovers the WAL up to the damage, which would hide newer pages of the database file.
        return Ok(Some(if in_use { CheckpointMode::Passive } else { CheckpointMode::Truncate }));
    }
    let copied = db.shm().header().is_ok_and(|h| db.shm().checkpoint_info().n_backfill >= h.mx_frame);
    Ok((!in_use && !copied).then_some(CheckpointMode::Passive))
}
