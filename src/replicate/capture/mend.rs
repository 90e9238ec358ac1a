//! A wal-index that would mislead the next application.
//!
//! # Overview
//!
//! Without lsfast, the first connection to open a database rebuilds the wal-index, whatever other
//! programs did to the file meanwhile. While lsfast holds DMS no connection is the first. So lsfast
//! checks what the first one would have rebuilt: the size of the file, and whether SQLite finds
//! each published frame by the lookup tables. No checksum covers these.
//!
//! # Repair
//!
//! lsfast zeroes the header, under WRITE and CKPT. From then on no connection trusts the wal-index,
//! and the first to read rebuilds it from the WAL.
//!
//! While another process has the database open, SQLite itself would rebuild nothing. lsfast then
//! only remembers what it found, and checks again until that process has left.

use std::time::{Duration, Instant};

use super::state::{Capture, Closing, State};
use crate::wal::format::{HEADER_BYTES, WalHeader};
use crate::wal::tail::TailError;

/// Time between two checks of a wal-index that is damaged while another process uses it.
const CHECK_AGAIN: Duration = Duration::from_millis(100);

/// Time between two warnings of a wal-index that is damaged repeatedly.
const REPORT_AGAIN: Duration = Duration::from_secs(600);

impl Capture {
    /// Checks the file of the wal-index, if `hinted` (no commit explains a hint) or if a check is
    /// due. If it is damaged and no other process has the database open, makes SQLite rebuild it.
    /// `Ok(true)` if that began.
    ///
    /// A check takes some 20 us for each 4,096 frames in the WAL.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn mend_index(&mut self, hinted: bool, now: Instant) -> Result<bool, TailError> {
        if !hinted && self.index.check_at.is_none_or(|at| now < at) {
            return Ok(false);
        }
        self.index.check_at = Some(now + CHECK_AGAIN);
        if self.guard.is_early() && !self.db.is_in_use()? && self.end_early_turn(now)? {
            self.index.check_at = Some(now);
            return Ok(true);
        }
        if !(self.guard.in_cruise() || self.guard.is_early()) || self.is_closing() {
            return Ok(false);
        }
        if self.db.shm().is_sound()? {
            self.index.check_at = None;
            return Ok(false);
        }
        self.forget_index("SQLite does not find all frames by it", now)
    }

    /// Whether the WAL is still the captured one, whatever the wal-index says.
    pub(super) fn wal_is_the_same(&self) -> Result<bool, TailError> {
        let mut bytes = [0; HEADER_BYTES];
        let have = self.db.wal().pread(&mut bytes, 0)?;
        Ok(WalHeader::parse(&bytes[..have]).is_ok_and(|wal| wal.salts == self.tail.salts()))
    }

    /// Unless another process has the database open: makes SQLite rebuild the wal-index. `Ok(true)`
    /// if that began.
    pub(super) fn forget_index(&mut self, reason: &str, now: Instant) -> Result<bool, TailError> {
        if self.db.is_in_use()? {
            return Ok(false);
        }
        self.end_early_turn(now)?;
        if !self.guard.in_cruise() || self.state == State::Closing(Closing::Prove) {
            return Ok(false);
        }
        if !self.guard.harden()? || !self.db.shm().invalidate()? {
            return Ok(false);
        }
        self.index.check_at = None;
        if self.index.reported.is_none_or(|t| now.duration_since(t) >= REPORT_AGAIN) {
            self.index.reported = Some(now);
            tracing::warn!(
                db = %self.db.path().display(),
                reason,
                "another program damaged the wal-index; letting SQLite rebuild it before the next application opens the database"
            );
        }
        self.handoff.void_pins();
        Ok(self.guard.heal()?)
    }
}
