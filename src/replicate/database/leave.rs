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

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::run::Follower;
use crate::replicate::shutdown::Deadline;
use crate::replicate::state::record::note_checkpoint;
use crate::sqlite::database::{CheckpointMode, Database, Stamp};
use crate::wal::index::LOCK_DMS;

/// Longest time of the last checkpoint. A longer one is interrupted, and the WAL stays as it is.
pub(in crate::replicate) const LEAVE_TIME: Duration = Duration::from_secs(5);

/// The databases that have stored what they could and now checkpoint. The shutdown waits for none
/// of them beyond its end, and none of them means that something is not stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaving(Rc<State>);

#[derive(Debug, Default)]
struct State {
    databases: RefCell<HashSet<PathBuf>>,
    until: Deadline,
}

/// While this exists, the database counts as leaving.
#[derive(Debug)]
pub(crate) struct Leaves {
    leaving: Leaving,
    db: PathBuf,
}

impl Leaving {
    /// Sets the end of the shutdown.
    pub(in crate::replicate) fn ends_at(&self, until: Instant) {
        self.0.until.set(until);
    }

    /// The end of the shutdown, shared.
    pub(super) fn deadline(&self) -> Deadline {
        self.0.until.clone()
    }

    /// Whether a database is leaving.
    pub(in crate::replicate) fn has(&self, db: &Path) -> bool {
        self.0.databases.borrow().contains(db)
    }

    pub(in crate::replicate) fn enter(&self, db: &Path) -> Leaves {
        self.0.databases.borrow_mut().insert(db.to_owned());
        Leaves { leaving: self.clone(), db: db.to_owned() }
    }

    /// Time left of the shutdown, [`LEAVE_TIME`] at most.
    fn time_left(&self) -> Duration {
        self.0.until.time_left(LEAVE_TIME)
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        self.leaving.0.databases.borrow_mut().remove(&self.db);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_takes_no_longer_than_the_shutdown_may() {
        let (leaving, second) = (Leaving::default(), Duration::from_secs(1));
        assert_eq!(leaving.time_left(), LEAVE_TIME);
        leaving.ends_at(Instant::now() + 60 * second);
        assert_eq!(leaving.time_left(), LEAVE_TIME);
        leaving.ends_at(Instant::now() + second);
        assert!(leaving.time_left() <= second);
        leaving.ends_at(Instant::now());
        assert_eq!(leaving.time_left(), Duration::ZERO);
        let db = Path::new("app.db");
        let leaves = leaving.enter(db);
        assert!(leaving.has(db) && !leaving.has(Path::new("other.db")));
        drop(leaves);
        assert!(!leaving.has(db));
    }
}
