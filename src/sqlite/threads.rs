//! What the guard's helper threads do: they block, and return with CKPT held. The thread that waits
//! for READ(0) is in `early`.

use std::io;
use std::time::Duration;

use super::database::{CheckpointMode, Database};
use crate::wal::index::LOCK_CKPT;
use crate::wal::shm::LockKind;

/// Waits in milliseconds between checks whether SQLite has rebuilt the wal-index. Nothing is stored
/// meanwhile, and the application is not hindered.
const HEAL_WAITS_MS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Runs checkpoints and takes CKPT.
pub(super) fn copy_and_lock(db: &Database, modes: &[CheckpointMode]) -> io::Result<()> {
    for mode in modes {
        // A failing checkpoint copies nothing, which `nBackfill` shows afterwards.
        if let Err(e) = db.checkpoint(*mode) {
            tracing::debug!(db = %db.path().display(), error = %e, "own checkpoint failed");
        }
    }
    db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive)
}

/// Waits until SQLite has rebuilt the wal-index, at the application's next statement or at a read
/// of lsfast's own. Returns after half a second or so even if it was not rebuilt.
pub(crate) fn rebuild(db: &Database) -> io::Result<()> {
    for (i, wait) in HEAL_WAITS_MS.into_iter().enumerate() {
        // While our own connection recovers the WAL, the application gets "database is locked" for
        // some milliseconds. So if another process has the database open, only the last attempt is
        // ours.
        if (i + 1 == HEAL_WAITS_MS.len() || !db.is_in_use()?)
            && let Err(e) = db.touch()
        {
            tracing::debug!(db = %db.path().display(), error = %e, "reading to rebuild the wal-index failed");
        }
        if db.shm().header().is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(wait));
    }
    Ok(())
}
