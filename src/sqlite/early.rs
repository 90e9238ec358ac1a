//! Turns that begin before the WAL has [`limits::TURN_FRAMES`](crate::base::limits::TURN_FRAMES)
//! frames.
//!
//! A checkpoint of the application fails while CKPT is held, and leaves no trace. An application
//! with a smaller `wal_autocheckpoint` of its own, or one that checkpoints explicitly, would never
//! get its turn in time. So READ(k) takes the place of CKPT earlier where such checkpoints were
//! seen, and now and then elsewhere, to see them.

use std::io;
use std::time::Instant;

use super::{Guard, Phase};
use crate::base::FrameNo;
use crate::sqlite::slots::take_read;
use crate::wal::index::{CheckpointInfo, LOCK_CKPT, lock_read};
use crate::wal::shm::LockKind;

impl Guard {
    /// Begins a turn before one is due, for applications that checkpoint at a shorter WAL. Only
    /// where an application has the database open: otherwise no checkpoint can come.
    pub(super) fn begin_early(&mut self, mx: FrameNo, now: Instant) -> io::Result<bool> {
        let rounds = self.rounds_until.is_some_and(|t| now < t);
        if rounds || self.next_try.is_some_and(|t| now < t) || !self.db.is_in_use()? {
            return Ok(false);
        }
        let Some(slot) = take_read(self.shm())? else { return Ok(false) };
        let before = self.shm().checkpoint_info();
        // I2: CKPT is released only now that READ(k) is held.
        self.shm().unlock(LOCK_CKPT)?;
        self.wanted = mx;
        self.phase = Phase::Turn { slot, since: now, before, early: true };
        Ok(true)
    }

    /// Whether this is a turn that began early, in which no checkpoint is due.
    #[must_use]
    pub fn is_early(&self) -> bool {
        matches!(self.phase, Phase::Turn { early: true, .. })
    }

    /// Whether no checkpoint can have written to the database file since CKPT was last held: in
    /// cruise, and in an early turn until one begins.
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

    /// In an early turn: takes CKPT again. `Ok(false)` if a checkpoint is running.
    pub(super) fn end_early(&mut self, mx: FrameNo) -> io::Result<bool> {
        let Phase::Turn { slot, before, early: true, .. } = self.phase else { return Ok(false) };
        if !self.shm().try_lock(LOCK_CKPT, LockKind::Exclusive)? {
            return Ok(false);
        }
        if self.shm().checkpoint_info().n_backfill != before.n_backfill {
            self.enter_cruise();
            return Ok(true);
        }
        // I2: not all of the WAL is copied, and CKPT is held, so no reset can come.
        self.shm().unlock(lock_read(slot))?;
        self.phase = Phase::Cruise;
        self.early.waited(mx);
        Ok(true)
    }
}
