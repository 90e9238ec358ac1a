//! Turns that begin before the WAL has [`limits::TURN_FRAMES`](crate::base::limits::TURN_FRAMES)
//! frames.
//!
//! A checkpoint of the application fails while CKPT is held, and leaves no trace. An application
//! with a smaller `wal_autocheckpoint` of its own, or one that checkpoints explicitly, would never
//! get its turn in time. So READ(k) takes the place of the lock of cruise early: always, unless a
//! writer is so busy that a turn is due soon. Then it does where such checkpoints were seen, and
//! now and then to see them.
//!
//! An early turn lasts until a checkpoint comes or something else is wanted. It ends in cruise with
//! READ(0), and not CKPT, so that the next checkpoint of the application does not fail either.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AHEAD_BYTES, Guard, Phase};
use crate::base::FrameNo;
use crate::io::urgently;
use crate::sqlite::slots::take_read;
use crate::wal::index::{CheckpointInfo, LOCK_CKPT, lock_read};
use crate::wal::shm::LockKind;
use crate::wal::tail::Ahead;

/// After a turn of this length with few commits, the next checkpoint will hardly follow
/// within the time that a thread takes to begin.
const SLOW: Duration = Duration::from_millis(20);

impl Guard {
    /// Begins a turn before one is due.
    pub(super) fn begin_early(&mut self, mx: FrameNo, now: Instant) -> io::Result<bool> {
        let Some(slot) = take_read(self.shm())? else { return Ok(false) };
        let before = self.shm().checkpoint_info();
        // I2: the lock of cruise is released only now that READ(k) is held.
        self.leave_cruise()?;
        self.backfilled = before.n_backfill;
        (self.wanted, self.came) = ((self.backfilled, mx), false);
        self.seen_running = false;
        self.phase = Phase::Turn { slot, since: now, before, early: true };
        Ok(true)
    }

    /// Whether this is a turn that began early, in which no checkpoint is due.
    #[must_use]
    pub fn is_early(&self) -> bool {
        matches!(self.phase, Phase::Turn { early: true, .. })
    }

    /// Whether a checkpoint was running at the last look of a turn. No hint tells of its end.
    #[must_use]
    pub fn is_checkpoint_near(&self) -> bool {
        matches!(self.phase, Phase::Turn { .. }) && self.seen_running
    }

    /// Whether no checkpoint can have written to the database file since the lock of cruise was
    /// last held: in cruise, and in an early turn until one begins.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn is_still(&self) -> io::Result<bool> {
        match self.phase {
            Phase::Cruise => Ok(true),
            Phase::Turn { before, early: true, .. } => {
                // A checkpoint takes CKPT, then notes what it is about to copy, then writes.
                let now = self.shm().checkpoint_info();
                let same = |info: CheckpointInfo| (info.n_backfill, info.n_backfill_attempted);
                Ok(!self.shm().held_by_other(LOCK_CKPT)? && same(now) == same(before))
            }
            _ => Ok(false),
        }
    }

    /// In an early turn, with everything captured up to `mx`: moves on when a checkpoint copies,
    /// has copied, or cruise `is wanted`. `Ok(true)` if the guard moved on.
    pub(super) fn step_early(&mut self, mx: FrameNo, is_wanted: bool, now: Instant) -> io::Result<bool> {
        let Phase::Turn { slot, since, before, early: true, .. } = self.phase else { return Ok(false) };
        self.seen_running = self.shm().held_by_other(LOCK_CKPT)?;
        if self.shm().checkpoint_info().n_backfill != before.n_backfill {
            // A checkpoint that has copied all it can may still wait for READ(k).
            if self.enter_softly()? {
                self.came = true;
                self.early.learn(mx);
                return Ok(true);
            }
            self.seen_running = true;
        }
        if self.seen_running && self.shm().is_exclusive(lock_read(0))? {
            // A RESTART or TRUNCATE checkpoint holds WRITE by now. If a commit came since the look,
            // it is captured first: a truncation leaves nothing to read.
            if self.shm().header().map(|h| h.mx_frame) != Ok(mx) {
                return Ok(true);
            }
            // While the checkpoint copies, READ(k) is released, because it looks for readers right
            // after that, and the next commit may start the WAL over. READ(0) comes free first.
            self.came = true;
            self.early.learn(mx);
            if now.duration_since(since) >= SLOW {
                // Hardly can two checkpoints follow before the thread has READ(0).
                self.shm().unlock(lock_read(slot))?;
            }
            let db = Arc::clone(&self.db);
            let work = tokio::task::spawn_blocking(move || {
                urgently(|| {
                    db.shm().unlock(lock_read(slot))?;
                    db.shm().lock_blocking(lock_read(0), LockKind::Shared)?;
                    Ahead::read(db.wal(), db.page_size(), mx, AHEAD_BYTES).map(Some)
                })
            });
            self.phase = Phase::Closing { work, soft: true };
            return Ok(true);
        }
        // An urgent turn becomes a round, for which cruise is left again.
        if !is_wanted && !self.is_urgent() {
            return Ok(false);
        }
        if !self.shm().try_lock(LOCK_CKPT, LockKind::Exclusive)? {
            return self.enter_softly();
        }
        self.phase = Phase::Cruise;
        self.backfilled = self.shm().checkpoint_info().n_backfill;
        if self.backfilled == before.n_backfill {
            // I2: not all of the WAL is copied, and CKPT is held, so no reset can come.
            self.shm().unlock(lock_read(slot))?;
        }
        Ok(true)
    }
}
