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
//! end before these frames, and older frames would hide newer pages of the database file. A disk
//! can change a frame after capture has read it. So before a WAL is left to a recovery, all of it
//! is read once more.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::leaving::LEAVE_TIME;
use super::run::Follower;
use crate::base::limits;
use crate::replicate::state::record::note_checkpoint;
use crate::sqlite::database::{CheckpointMode, Database, Stamp};
use crate::wal::index::LOCK_DMS;
use crate::wal::tail::{Tail, TailError};

/// Time that the last checkpoint gets at least, even if reading the WAL has used up [`LEAVE_TIME`].
const LEAST: Duration = Duration::from_millis(100);

impl Follower<'_> {
    /// Copies the WAL into the database file, if that is useful here (see the top of the file).
    pub(super) async fn leave(&mut self) {
        let _leaves = self.shared.leaving.enter(self.named);
        let damaged = self.capture.is_damaged();
        let db = Arc::clone(self.capture.db());
        let due = match self
            .capture
            .let_go()
            .and_then(|free| if free { due(&db, damaged) } else { Ok(Due::Nothing) })
        {
            Ok(Due::Nothing) => return,
            Ok(due) => due,
            Err(e) => {
                tracing::debug!(db = %db.path().display(), error = %e, "cannot look at the database in the end");
                return;
            }
        };
        match self.copy(&db, damaged).await {
            None => {}
            Some(problem) if due == Due::Proof => {
                tracing::debug!(db = %db.path().display(), problem, "the WAL was not read once more in the end");
            }
            Some(problem) => tracing::warn!(
                db = %db.path().display(),
                problem,
                "the WAL could not be brought into the database file; a copy of the database needs both files"
            ),
        }
    }

    /// Runs the checkpoint. Returns what prevented it, if anything.
    async fn copy(&self, db: &Arc<Database>, damaged: bool) -> Option<String> {
        let until = Instant::now() + LEAVE_TIME;
        let opening = Arc::clone(&self.shared.opening);
        let to_copy = Arc::clone(db);
        let before = Stamp::of(db.file().std());
        let copied = async move {
            // Only `limits::OPENING` databases checkpoint at once.
            let _place = opening.acquire_owned().await.ok();
            tokio::task::spawn_blocking(move || checkpoint(&to_copy, damaged, until)).await.ok()
        };
        match tokio::time::timeout(LEAVE_TIME, copied).await {
            Ok(Some(Ok(copied))) => {
                if copied {
                    self.note_checkpoint(before);
                }
                None
            }
            Ok(Some(Err(problem))) => Some(problem),
            Ok(None) => Some("a worker thread has failed".to_owned()),
            Err(_) => Some(format!("it takes longer than {LEAVE_TIME:?}")),
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

/// What is due at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// All of the WAL is in the database file: read it, and truncate it if a recovery would end
    /// early.
    Proof,
    Checkpoint(CheckpointMode),
}

fn due(db: &Database, damaged: bool) -> io::Result<Due> {
    if !db.is_same()? {
        return Ok(Due::Nothing);
    }
    let in_use = db.shm().held_by_other(LOCK_DMS)?;
    if damaged {
        // The next connection recovers the WAL up to the damage, which would hide newer pages of
        // the database file.
        let mode = if in_use { CheckpointMode::Passive } else { CheckpointMode::Truncate };
        return Ok(Due::Checkpoint(mode));
    }
    let copied = db.shm().header().is_ok_and(|h| db.shm().checkpoint_info().n_backfill >= h.mx_frame);
    Ok(match (in_use, copied) {
        (true, _) => Due::Nothing,
        (false, true) => Due::Proof,
        (false, false) => Due::Checkpoint(CheckpointMode::Passive),
    })
}

/// Reads the WAL, and runs the checkpoint that is due then. Returns whether one was due. Blocks:
/// not for the loop.
fn checkpoint(db: &Database, damaged: bool, until: Instant) -> Result<bool, String> {
    let failed = |e: io::Error| e.to_string();
    let mut damaged = damaged;
    if !damaged && due(db, false).map_err(failed)? != Due::Nothing {
        // A checkpoint that truncates is right for any WAL, so one that cannot be read in time is
        // treated like a damaged one.
        let proof = until.checked_sub(LEAVE_TIME / 2).unwrap_or(until);
        if let Err(why) = reads_through(db, proof) {
            tracing::info!(
                db = %db.path().display(), why,
                "the WAL was not read to its end: moving it to the database file and truncating it"
            );
            damaged = true;
        }
    }
    // Another program may have opened the database meanwhile.
    let Due::Checkpoint(mode) = due(db, damaged).map_err(failed)? else { return Ok(false) };
    let left = until.saturating_duration_since(Instant::now()).max(LEAST);
    match db.checkpoint_within(mode, left).map_err(|e| e.to_string())? {
        false if mode == CheckpointMode::Truncate && !db.is_in_use().map_err(failed)? => {
            Err("a lock on the database was in the way".to_owned())
        }
        _ => Ok(true),
    }
}

/// Reads the WAL up to mxFrame as a recovery would. `Err` says where that ends, or that the time is
/// over.
fn reads_through(db: &Database, until: Instant) -> Result<(), String> {
    // SQLite rebuilds a wal-index without a valid header before it checkpoints.
    let Ok(header) = db.shm().header() else { return Ok(()) };
    let mut tail = Tail::new(db.wal().clone(), db.page_size(), header.salts);
    let read = loop {
        match tail.read_to(header.mx_frame, limits::TAIL_READ_BYTES, |_| {}) {
            Ok(false) if Instant::now() >= until => return Err("reading it takes too long".to_owned()),
            Ok(false) => {}
            Ok(true) => break tail.check_published(&header),
            Err(e) => break Err(e),
        }
    };
    read.map_err(|e: TailError| e.to_string())
}
