//! Cruise with READ(0) in place of CKPT, so that the application may checkpoint at any time.
//!
//! # Why
//!
//! While CKPT is held, each checkpoint of the application fails. A busy writer loses nothing by
//! that, because its automatic checkpoints are tried again. An explicit one is not.
//!
//! # Proof
//!
//! A checkpoint copies frames only with an exclusive lock on READ(0). A shared lock there prevents
//! that, as CKPT does, so I2 holds in both kinds of cruise: the WAL can start over only if all of
//! it was copied when the lock was taken, and cannot be copied and started over again.
//!
//! While all of the WAL is copied, checkpoints of all modes succeed, because they find nothing to
//! copy, and RESTART and TRUNCATE need READ(1) to READ(4). With the next commit an
//! [early turn](super::early) follows, in which they can copy.

use std::io;
use std::time::Instant;

use super::{Guard, Phase};
use crate::base::FrameNo;
use crate::wal::index::{LOCK_CKPT, lock_read};
use crate::wal::shm::LockKind;

impl Guard {
    /// In cruise, with everything captured up to `mx`, and no turn due: lets the application
    /// checkpoint if one has the database open. `Ok(true)` if the guard moved.
    pub(super) fn step_cruise(&mut self, mx: FrameNo, now: Instant) -> io::Result<bool> {
        // Not the present nBackfill: a commit may have reset an armed WAL since the look that found
        // `mx`, and a turn must not begin before capture has followed it.
        let backfilled = self.backfilled;
        if self.soft {
            return Ok(backfilled != mx && self.begin_early(mx, now)?);
        }
        let is_hard = self.hard_until.is_some() && !self.early.may_begin(mx, backfilled);
        if is_hard || self.rounds_until.is_some_and(|t| now < t) || !self.db.is_in_use()? {
            return Ok(false);
        }
        if backfilled != mx {
            return self.begin_early(mx, now);
        }
        if !self.shm().try_lock(lock_read(0), LockKind::Shared)? {
            return Ok(false);
        }
        // I2: CKPT is released only now that READ(0) is held.
        self.shm().unlock(LOCK_CKPT)?;
        self.soft = true;
        Ok(true)
    }

    /// In cruise: takes CKPT if READ(0) is held in place of it. `Ok(false)` if a checkpoint of the
    /// application is running.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn harden(&mut self) -> io::Result<bool> {
        self.hard_until = None;
        if self.soft && self.shm().try_lock(LOCK_CKPT, LockKind::Exclusive)? {
            // I2: READ(0) is released only now that CKPT is held.
            self.shm().unlock(lock_read(0))?;
            self.soft = false;
        }
        Ok(!self.soft)
    }

    /// Releases the lock of cruise.
    pub(super) fn leave_cruise(&mut self) -> io::Result<()> {
        self.soft = false;
        self.hard_until = None;
        self.shm().unlock(lock_read(0))?;
        self.shm().unlock(LOCK_CKPT)
    }

    /// Takes READ(0) and enters cruise with it. READ(k) stays held until
    /// [`Guard::release_reads`]. `Ok(false)` if a checkpoint is copying.
    pub(super) fn enter_softly(&mut self) -> io::Result<bool> {
        if !self.shm().try_lock(lock_read(0), LockKind::Shared)? {
            return Ok(false);
        }
        self.soft = true;
        self.phase = Phase::Cruise;
        self.backfilled = self.shm().checkpoint_info().n_backfill;
        Ok(true)
    }
}
