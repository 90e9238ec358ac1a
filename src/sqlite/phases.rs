//! How the phases begin in which a thread of the guard works.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::{Guard, Phase, rebuild};
use crate::base::FrameNo;
use crate::sqlite::arm::arm;
use crate::sqlite::database::CheckpointMode;
use crate::sqlite::slots::take_read;
use crate::sqlite::threads::copy_and_lock;
use crate::wal::index::LOCK_CKPT;
use crate::wal::shm::LockKind;

impl Guard {
    pub(super) fn begin_arming(&mut self, mx: FrameNo, now: Instant) {
        let db = Arc::clone(&self.db);
        (self.wanted, self.came) = ((self.backfilled, mx), false);
        let work = tokio::task::spawn_blocking(move || {
            Ok(arm(&db, mx).unwrap_or_else(|e| {
                tracing::debug!(db = %db.path().display(), error = %e, "copying the last frames failed");
                None
            }))
        });
        self.phase = Phase::Arming { work, since: now };
    }

    pub(super) fn round(&self, slot: Option<usize>) -> Phase {
        let db = Arc::clone(&self.db);
        let work = tokio::task::spawn_blocking(move || {
            copy_and_lock(&db, &[CheckpointMode::Passive]).map(|()| None)
        });
        Phase::Round { slot, work }
    }

    /// In cruise: truncates the WAL of an idle database.
    ///
    /// # Errors
    /// Any error of the lock.
    pub fn give_back(&mut self) -> io::Result<()> {
        self.leave_cruise()?;
        let db = Arc::clone(&self.db);
        self.phase = Phase::GivingBack(tokio::task::spawn_blocking(move || {
            // The first copies the rest without a lock that a writer notices. The second needs the
            // writer's lock, and then holds it only for truncating the file.
            copy_and_lock(&db, &[CheckpointMode::Passive, CheckpointMode::Truncate]).map(|()| None)
        }));
        Ok(())
    }

    /// In cruise or in a turn: releases CKPT, so that SQLite can rebuild the damaged wal-index at
    /// the application's next statement or at a read of lsfast's own. `Ok(true)` if it began.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn heal(&mut self) -> io::Result<bool> {
        let held = match self.phase {
            Phase::Turn { .. } => true,
            Phase::Cruise => take_read(self.shm())?.is_some(),
            _ => return Ok(false),
        };
        self.leave_cruise()?;
        let db = Arc::clone(&self.db);
        let work = tokio::task::spawn_blocking(move || {
            rebuild(&db)?;
            db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive).map(|()| None)
        });
        self.phase = Phase::Healing { held, work };
        Ok(true)
    }
}
