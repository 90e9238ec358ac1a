//! The last checkpoint of a database when lsfast ends.
//!
//! Without lsfast, the last connection to close copies the WAL into the database file. lsfast
//! prevents that while it runs, and often leaves last: anyone who then copies the one file would
//! miss all that is in its WAL. So lsfast checkpoints when it ends.
//!
//! A PASSIVE checkpoint leaves the WAL as it is, so that the next start can prove its position in
//! it. This holds only as long as no commit follows: a commit would start the WAL over, and the
//! next start would have to compare page hashes. So if another process has the database open,
//! lsfast does not checkpoint; that process, or the last one to close, does.
//!
//! A WAL with frames that cannot be proven is checkpointed in any case, because a recovery would
//! end before these frames.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::run::Follower;
use crate::replicate::state::record::note_checkpoint;
use crate::sqlite::database::{CheckpointMode, Database, Stamp};
use crate::wal::index::LOCK_DMS;

impl Follower<'_> {
    /// Copies the WAL into the database file, if that is useful here (see the top of the file).
    pub(super) async fn leave(&mut self) {
        let _leaves = self.shared.leaving.enter(self.named);
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
        let limit = self.shared.leaving.time_left();
        let problem = if limit.is_zero() {
            Some("no time is left for it (--shutdown-timeout)".to_owned())
        } else {
            self.copy(&db, mode, limit).await
        };
        if let Some(problem) = problem {
            tracing::warn!(
                db = %db.path().display(),
                problem,
                "the WAL could not be brought into the database file; a copy of the database needs both files"
            );
        }
    }

    /// Runs the checkpoint. Returns what prevented it, if anything.
    async fn copy(&self, db: &Arc<Database>, mode: CheckpointMode, limit: Duration) -> Option<String> {
        let opening = Arc::clone(&self.shared.opening);
        let to_copy = Arc::clone(db);
        let before = Stamp::of(db.file().std());
        let copied = async move {
            // Only `limits::OPENING` databases checkpoint at once.
            let _place = opening.acquire_owned().await.ok();
            tokio::task::spawn_blocking(move || to_copy.checkpoint_within(mode, limit)).await.ok()
        };
        match tokio::time::timeout(limit, copied).await {
            Ok(Some(Ok(_))) => {
                self.note_checkpoint(before);
                None
            }
            Ok(Some(Err(e))) => Some(e.to_string()),
            Ok(None) => Some("a worker thread has failed".to_owned()),
            Err(_) => Some(format!("it takes longer than {limit:?}")),
        }
    }
}

impl Follower<'_> {
    /// Records that the checkpoint changed the database file, so that the next start does not take
    /// it for an edit and compare page hashes.
    fn note_checkpoint(&self, before: io::Result<Stamp>) {
        let db = self.capture.db();
        let noted = before.and_then(|before| {
            let now = Stamp::of(db.file().std())?;
            self.folders.iter().try_for_each(|dir| note_checkpoint(dir, before, now))
        });
        if let Err(e) = noted {
            tracing::debug!(db = %db.path().display(), error = %e, "the next start has to compare page hashes");
        }
    }
}

/// Which checkpoint is due at the end, if any.
fn mode(db: &Database, damaged: bool) -> io::Result<Option<CheckpointMode>> {
    if !db.is_same()? {
        return Ok(None);
    }
    let in_use = db.shm().held_by_other(LOCK_DMS)?;
    if damaged {
        // The next connection recovers the WAL up to the damage, which would hide newer pages of
        // the database file.
        return Ok(Some(if in_use { CheckpointMode::Passive } else { CheckpointMode::Truncate }));
    }
    let copied = db.shm().header().is_ok_and(|h| db.shm().checkpoint_info().n_backfill >= h.mx_frame);
    Ok((!in_use && !copied).then_some(CheckpointMode::Passive))
}
