//! The WAL cannot be read as published or cannot be proven: damaged headers, losses, and how
//! capture continues after them.
//!
//! # State
//!
//! A *loss* makes the state [`State::Lost`], voids all pins, and makes every replica compare page
//! hashes. Capture then re-enters the WAL in cruise ([`Capture::enter_anew`]), and continues at
//! what is published there. An *edit* is a loss because another program wrote to the database file;
//! re-entering waits until the file no longer changes.

use std::time::{Duration, Instant};

use super::outcome::Look;
use super::state::{Capture, Closing, Edits, State};
use crate::base::{FrameNo, limits};
use crate::replicate::pending::Mark;
use crate::sqlite::database::{Database, Stamp};
use crate::wal::format::{self, HEADER_BYTES, WalHeader};
use crate::wal::index::{LOCK_WRITE, WalIndexError, WalIndexHeader};
use crate::wal::tail::{Tail, TailError};

/// A wal-index header that is invalid for longer than this is damaged: no writer needs as long to
/// publish it, unless it has to wait for a processor.
const DAMAGED_AFTER: Duration = Duration::from_millis(2);

/// The same while another connection holds WRITE: a writer on a busy host may stop for some time
/// between the two copies of the header.
const DAMAGED_AFTER_WRITING: Duration = Duration::from_millis(100);

/// A longer WAL is not read from its start after a loss.
const READ_THROUGH_BYTES: u64 = 64 << 20;

/// Time between two warnings of a wal-index that is damaged again and again.
const DAMAGE_REPORT_AGAIN: Duration = Duration::from_secs(600);

/// Time between two checks of the database file's modification time, even if capture looks at the
/// WAL more often.
const STAMP_EVERY: Duration = Duration::from_millis(2);

/// A file that another program has changed is read once it has not changed for this time.
const EDIT_SETTLED: Duration = Duration::from_millis(300);

/// Time between two warnings of a file that is changed repeatedly, as while it is copied.
const EDITS_REPORT_AGAIN: Duration = Duration::from_secs(10);

/// Shortest time between two comparisons of a file of which only the inode has changed: programs
/// that set its mode or owner, or link to it, may do so again and again.
const TOUCHED_AGAIN: Duration = Duration::from_secs(300);

/// Bytes of the database for each second that [`TOUCHED_AGAIN`] is longer.
const TOUCHED_BYTES: u64 = 10_000_000;

impl Edits {
    /// A checkpoint may write to the file: nothing that follows from its stamp can be said.
    fn is_written_to(&mut self, now: Instant) {
        self.stamp = None;
        self.touched_due = self.touched_due.map(|due| due.max(now + EDIT_SETTLED));
    }
}

impl Capture {
    /// A recovery restarts SQLite's count of commits. It keeps the frames, so the frame of the
    /// position must still be in place.
    pub(super) fn recount_after_recovery(&mut self) -> Result<(), TailError> {
        self.near = None;
        // The rebuilt count is not comparable before everything is captured.
        self.recount = true;
        let header = self.db.shm().header();
        self.seen_change = header.map_or(0, |h| h.change);
        match header {
            Ok(h)
                if h.salts == self.tail.salts()
                    && h.mx_frame >= self.tail.last()
                    && self.tail.stands()? =>
            {
                self.guard.index_was_rebuilt();
                tracing::info!(db = %self.db.path().display(), "the damaged wal-index was rebuilt; nothing was missed");
            }
            Ok(_) => self.lose("the wal-index was rebuilt and the WAL is not where it was", Instant::now()),
            Err(_) => {}
        }
        Ok(())
    }

    /// While CKPT is free, SQLite rebuilds a damaged wal-index at the application's next statement.
    /// Nothing but a recovery makes its count of commits smaller.
    pub(super) fn note_recovery(&mut self, header: &WalIndexHeader) -> Result<(), TailError> {
        let before = std::mem::replace(&mut self.seen_change, header.change);
        let is_smaller = header.change.wrapping_sub(before).cast_signed() < 0;
        if is_smaller && header.salts == self.tail.salts() && !self.is_lost() {
            self.recount_after_recovery()?;
        }
        Ok(())
    }

    /// The header is invalid: it is being published, or damaged.
    pub(super) fn damaged(&mut self, e: WalIndexError, now: Instant) -> Result<Look, TailError> {
        let since = *self.damaged_since.get_or_insert(now);
        let invalid_for = now.duration_since(since);
        let is_damaged = invalid_for >= DAMAGED_AFTER_WRITING
            || invalid_for >= DAMAGED_AFTER && !self.db.shm().held_by_other(LOCK_WRITE)?;
        if is_damaged && self.guard.heal()? {
            self.damaged_since = None;
            self.handoff.void_pins();
            if self.damage_reported.is_none_or(|t| now.duration_since(t) >= DAMAGE_REPORT_AGAIN) {
                self.damage_reported = Some(now);
                tracing::warn!(
                    db = %self.db.path().display(),
                    reason = %e,
                    "the wal-index is damaged, as by a writer that was killed; letting SQLite rebuild it"
                );
            }
        }
        Ok(Look { near: true, ..Look::default() })
    }

    /// In cruise: whether nBackfill is greater than mxFrame. No checkpoint would then copy
    /// anything, so lsfast invalidates the header and SQLite rebuilds the wal-index.
    pub(super) fn is_backfill_damaged(&mut self, mx: FrameNo) -> Result<bool, TailError> {
        if mx.0 < limits::TURN_FRAMES || self.db.shm().checkpoint_info().n_backfill <= mx {
            return Ok(false);
        }
        Ok(self.guard.harden()? && self.db.shm().invalidate()?)
    }

    /// Whether another program replaced the WAL that the wal-index describes while no application
    /// has the database open; for example, a database is copied in and its WAL after it. The
    /// wal-index would hide what is in that WAL.
    ///
    /// # Errors
    /// Any I/O error of reading the WAL or testing the locks.
    pub fn is_overtaken(&self) -> Result<bool, TailError> {
        let Ok(header) = self.db.shm().header() else { return Ok(false) };
        if !self.guard.in_cruise() {
            return Ok(false);
        }
        let mut bytes = [0; HEADER_BYTES];
        let have = self.db.wal().pread(&mut bytes, 0)?;
        let other = match WalHeader::parse(&bytes[..have]) {
            // Until the first frame of a generation is written, the file has the header and frames
            // of the previous one.
            Ok(wal) => {
                wal.salts != header.salts
                    && (header.mx_frame.0 > 0 || wal.salts.one.wrapping_add(1) != header.salts.one)
            }
            Err(_) => header.mx_frame.0 > 0,
        };
        // A whole transaction that no writer publishes.
        let unpublished = self.near.is_some() && header.mx_frame == self.tail.last();
        // A writer has the database open, and publishes before it closes it; this is not a writer's
        // work.
        Ok((other || unpublished) && !self.db.is_in_use()? && self.db.shm().header() == Ok(header))
    }

    /// The path no longer names this database: releases the locks immediately, then takes what was
    /// committed by then. What cannot be proven is found by page hashes: all content can still be
    /// read through the open descriptors.
    pub fn leave(&mut self) {
        if let Err(e) = self.db.shm().leave() {
            tracing::debug!(db = %self.db.path().display(), error = %e, "releasing the locks failed");
        }
        let Ok(header) = self.db.shm().header() else { return };
        match self.take_the_last(&header) {
            Ok(true) => {
                self.handoff.wake_all();
                return;
            }
            Ok(false) if self.is_lost() => {}
            Ok(false) => {
                self.lose("the database was removed before the end of a turn was proven", Instant::now());
            }
            Err(e) => self.lose(&e.to_string(), Instant::now()),
        }
        let bytes = format::frame_end(self.db.page_size(), header.mx_frame);
        let entered = match bytes > READ_THROUGH_BYTES {
            true => Ok(by_index(&self.db, &header)),
            false => read_through(&self.db, &header),
        };
        match entered {
            Ok((tail, mark)) => self.continue_at(tail, mark),
            Err(e) => tracing::debug!(db = %self.db.path().display(), error = %e, "its WAL cannot be read"),
        }
    }

    /// Takes what is published, without a lock. `Ok(false)` if nothing proves that this is all.
    fn take_the_last(&mut self, header: &WalIndexHeader) -> Result<bool, TailError> {
        let is_current = header.salts == self.tail.salts();
        if self.is_lost() || is_current && header.mx_frame < self.tail.last() {
            return Ok(false);
        }
        if !is_current && !self.follow_reset(header)? {
            return Ok(false);
        }
        self.take_all(header).map(|()| true)
    }

    /// In cruise no program may checkpoint, and SQLite writes to the database file only in
    /// checkpoints: a changed file was written to by another program than SQLite. `Ok(true)` if
    /// that is a loss.
    pub(super) fn was_edited(&mut self, now: Instant) -> Result<bool, TailError> {
        if self.is_closing() || !self.guard.is_still()? {
            self.edits.is_written_to(now);
            self.handoff.set_stamp(None);
            return Ok(false);
        }
        let last_chance = self.edits.last_chance == Some(true);
        if self.edits.stamp.is_some()
            && !last_chance
            && self.edits.touched_due.is_none_or(|due| now < due)
            && self.edits.stamped_at.is_some_and(|t| now.saturating_duration_since(t) < STAMP_EVERY)
        {
            return Ok(false);
        }
        self.edits.stamped_at = Some(now);
        let stamp = Stamp::of(self.db.file().std())?;
        if !self.guard.is_still()? {
            // A checkpoint began, and wrote to the file.
            self.edits.is_written_to(now);
            self.handoff.set_stamp(None);
            return Ok(false);
        }
        let before = self.edits.stamp.replace(stamp).unwrap_or(stamp);
        if !stamp.is_written(&before) {
            if stamp.differs(&before) && self.edits.touched_due.is_none() {
                let rest = TOUCHED_AGAIN + Duration::from_secs(stamp.len / TOUCHED_BYTES);
                self.edits.touched_due = Some(self.edits.touched_at.map_or(now, |at| now.max(at + rest)));
            }
            let Some(due) = self.edits.touched_due else {
                self.handoff.set_stamp(Some(stamp));
                return Ok(false);
            };
            // Not compared yet: the next start must not take this for the file that was stored.
            self.handoff.set_stamp(None);
            if due > now && !last_chance {
                return Ok(false);
            }
            if last_chance {
                self.edits.last_chance = Some(false);
            }
            (self.edits.touched_due, self.edits.touched_at) = (None, Some(now));
            self.edits.edited_at = Some(now);
            let reason = "the database file was written to with its time set back, or only its mode, owner or name changed";
            tracing::debug!(db = %self.db.path().display(), reason, "comparing page hashes and storing what differs");
            self.lose_quietly(reason, now);
            return Ok(true);
        }
        self.handoff.set_stamp(Some(stamp));
        self.edits.touched_due = None;
        self.edits.edited_at = Some(now);
        let reason = "the database file was changed outside SQLite, as by a copy over it";
        let again = self.edits.said_at.is_some_and(|t| now.duration_since(t) < EDITS_REPORT_AGAIN);
        self.edits.said_at = Some(now);
        if again {
            self.lose_quietly(reason, now);
        } else {
            self.lose(reason, now);
        }
        Ok(true)
    }

    /// Whether anything follows the captured frames in the WAL. Before that, in cruise, takes the
    /// stamp of the file if it is not known: from here on only another program can change it. The
    /// next look may be late, and would take an edit before it for what SQLite has left.
    pub(super) fn is_followed(&mut self, now: Instant) -> Result<Option<bool>, TailError> {
        if self.edits.stamp.is_none() && !self.is_closing() && self.guard.is_still()? {
            let stamp = Stamp::of(self.db.file().std())?;
            if self.guard.is_still()? {
                (self.edits.stamp, self.edits.stamped_at) = (Some(stamp), Some(now));
                self.handoff.set_stamp(Some(stamp).filter(|_| self.edits.touched_due.is_none()));
            }
        }
        Ok(self.tail.is_followed()?)
    }

    /// At the stop: a file of which only the inode has changed is compared now, and not later.
    pub fn is_last_chance(&mut self, stopping: bool) {
        if stopping {
            self.edits.last_chance.get_or_insert(true);
        }
    }

    /// When a file of which only the inode has changed is to be compared.
    pub(super) fn touched_due(&self) -> Option<Instant> {
        self.edits.touched_due.filter(|_| self.guard.in_cruise() && !self.is_closing())
    }

    /// After a loss: tries to re-enter the WAL. `Ok(true)` if that succeeded.
    pub(super) fn is_back(&mut self, header: &WalIndexHeader, now: Instant) -> Result<bool, TailError> {
        if self.is_being_edited(now)? {
            return Ok(false);
        }
        self.enter_anew(header, now)?;
        if self.is_lost() {
            // The guard is not in cruise yet, or the WAL changed meanwhile.
            self.guard.step_turn(header.mx_frame, true, now)?;
        }
        Ok(!self.is_lost())
    }

    /// After an edit: whether the file may still be changing, as while it is copied; what is read
    /// then belongs to no single state. If the page size has changed, the database must be opened
    /// again, and this opening reads nothing more.
    pub(super) fn is_being_edited(&mut self, now: Instant) -> Result<bool, TailError> {
        let Some(since) = self.edits.edited_at else { return Ok(false) };
        let stamp = Some(Stamp::of(self.db.file().std())?);
        if self.edits.stamp != stamp {
            (self.edits.stamp, self.edits.edited_at) = (stamp, Some(now));
            return Ok(true);
        }
        if now.saturating_duration_since(since) < EDIT_SETTLED || self.db.size_pages()? == 0 {
            return Ok(true);
        }
        if self.db.is_resized()? {
            tracing::warn!(db = %self.db.path().display(), "the database was overwritten by one with another page size; opening it again");
            self.edits.edited_at = Some(now);
            self.handoff.file_moved();
            return Ok(true);
        }
        self.edits.edited_at = None;
        Ok(false)
    }

    /// Compares the checksum after the last frame taken with the published one.
    pub(super) fn check_published(&self, header: &WalIndexHeader) -> Result<(), TailError> {
        // I3: the last frame taken is the published one, with the published checksum.
        self.tail.check_published(header).inspect_err(|e| {
            // The pages are handed over already, and a pipeline may be awake.
            self.handoff.lose(&e.to_string());
        })
    }

    pub(super) fn lose(&mut self, reason: &str, now: Instant) {
        tracing::warn!(
            db = %self.db.path().display(),
            reason,
            "continuity of the WAL is not proven; comparing page hashes and storing what differs"
        );
        self.lose_quietly(reason, now);
    }

    fn lose_quietly(&mut self, reason: &str, now: Instant) {
        self.state = State::Lost(reason.to_owned());
        self.taken.open.clear();
        self.near = None;
        self.last_change = now;
        self.handoff.void_pins();
        self.handoff.lose(reason);
    }

    /// After a loss: reads the present generation without capturing anything, and continues after
    /// it. The replicas compare hashes later, when everything before is in the database file or its
    /// WAL. If the WAL is too long, or damaged, it is not read: the wal-index tells where to
    /// continue.
    pub(super) fn enter_anew(&mut self, header: &WalIndexHeader, now: Instant) -> Result<(), TailError> {
        if !self.guard.in_cruise() {
            return Ok(());
        }
        let bytes = format::frame_end(self.db.page_size(), header.mx_frame);
        let (tail, mark) = if self.is_damaged() || bytes > READ_THROUGH_BYTES {
            by_index(&self.db, header)
        } else {
            match read_through(&self.db, header) {
                Ok(entered) => entered,
                // The WAL changed while it was read, or has frames that cannot be proven.
                Err(e) => return self.unreadable(e, header, now).map(drop),
            }
        };
        self.read_tries = 0;
        self.continue_at(tail, mark);
        self.recount = false;
        self.state = State::Closing(Closing::Held);
        self.guard.enter_cruise();
        Ok(())
    }

    /// What is captured from now on follows this mark.
    fn continue_at(&mut self, tail: Tail, mark: Mark) {
        self.tail = tail;
        self.taken.by_index = mark.by_index;
        self.taken.commits = 0;
        self.taken.count_base = mark.change;
        self.handoff.set_mark(mark);
    }
}

/// Reads a generation from its first frame to what is published, and returns the tail after it.
fn read_through(db: &Database, header: &WalIndexHeader) -> Result<(Tail, Mark), TailError> {
    let mut tail = Tail::new(db.wal().clone(), db.page_size(), header.salts);
    while !tail.read_to(header.mx_frame, usize::MAX, |_| {})? {}
    tail.check_published(header)?;
    let mark =
        Mark { pos: tail.pos(), size_pages: header.n_page, change: header.change, by_index: FrameNo(0) };
    Ok((tail, mark))
}

/// The end of what is published, as the wal-index says, without reading it.
pub(in crate::replicate) fn by_index(db: &Database, header: &WalIndexHeader) -> (Tail, Mark) {
    let tail = Tail::behind(db.wal().clone(), db.page_size(), header);
    let mark =
        Mark { pos: tail.pos(), size_pages: header.n_page, change: header.change, by_index: header.mx_frame };
    (tail, mark)
}
