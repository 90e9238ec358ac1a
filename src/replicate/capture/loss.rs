//! When the log can't be read as published, or can't be proven: damaged headers, losses, and how
//! capture goes on after them.

use std::time::{Duration, Instant};

use super::look::Capture;
use super::outcome::{Closing, Look};
use crate::base::{FrameNo, limits};
use crate::replicate::handoff::Mark;
use crate::sqlite::database::{Database, Stamp};
use crate::wal::format::{self, HEADER_BYTES, WalHeader};
use crate::wal::index::{WalIndexError, WalIndexHeader};
use crate::wal::tail::{Tail, TailError};

/// A header that stays damaged longer than any writer needs to publish it.
const DAMAGED_AFTER: Duration = Duration::from_millis(2);

/// A longer WAL is not read through again after a loss.
const READ_THROUGH_BYTES: u64 = 64 << 20;

/// A wal-index that is damaged over and over is warned of once in this time.
const DAMAGE_REPORT_AGAIN: Duration = Duration::from_secs(600);

/// Time between two looks at the database file's modification time, however often capture looks at
/// the WAL.
const STAMP_EVERY: Duration = Duration::from_millis(2);

/// Time without a further change after which a file that another program has changed is read.
const EDIT_SETTLED: Duration = Duration::from_millis(300);

/// Time between two warnings of a file that goes on being changed, as while it is copied.
const EDITS_REPORT_AGAIN: Duration = Duration::from_secs(10);

/// What is known of the database file in cruise, when nobody may write to it.
#[derive(Debug, Default)]
pub(super) struct Edits {
    stamp: Option<Stamp>,
    stamped_at: Option<Instant>,
    /// Since when the file is as another program has left it.
    edited_at: Option<Instant>,
    said_at: Option<Instant>,
}

impl Capture {
    /// A recovery counts commits anew. It keeps the frames, so that the position must still stand.
    pub(super) fn recount_after_recovery(&mut self) -> Result<(), TailError> {
        self.near = None;
        // How many commits the rebuilt count holds is not known before everything is captured.
        (self.counts, self.recount) = (false, true);
        match self.db.shm().header() {
            Ok(h)
                if h.salts == self.tail.salts()
                    && h.mx_frame >= self.tail.last()
                    && self.tail.stands()? =>
            {
                tracing::info!(db = %self.db.path().display(), "the damaged wal-index was rebuilt; nothing was missed");
            }
            Ok(_) => self.lose("the wal-index was rebuilt and the WAL is not where it was", Instant::now()),
            Err(_) => {}
        }
        Ok(())
    }

    /// The header is being published, or damaged.
    pub(super) fn damaged(&mut self, e: WalIndexError, now: Instant) -> Result<Look, TailError> {
        let since = *self.damaged_since.get_or_insert(now);
        if now.duration_since(since) >= DAMAGED_AFTER && self.guard.heal()? {
            self.damaged_since = None;
            self.board.void_pins();
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

    /// In cruise: whether more frames are said to be in the database file than there are. No
    /// checkpoint would then copy anything, so SQLite is made to rebuild the wal-index.
    pub(super) fn is_backfill_damaged(&self, mx: FrameNo) -> Result<bool, TailError> {
        if mx.0 < limits::TURN_FRAMES || self.db.shm().checkpoint_info().n_backfill <= mx {
            return Ok(false);
        }
        Ok(self.db.shm().invalidate()?)
    }

    /// Whether another program put a WAL in place of the one that the wal-index describes, while no
    /// application has the database open: a copy of a database whose WAL comes after it, say.
    /// The wal-index would hide what is in that WAL.
    ///
    /// # Errors
    /// The operating system.
    pub fn is_overtaken(&self) -> Result<bool, TailError> {
        let Ok(header) = self.db.shm().header() else { return Ok(false) };
        if !self.guard.in_cruise() {
            return Ok(false);
        }
        let mut bytes = [0; HEADER_BYTES];
        let have = self.db.wal().pread(&mut bytes, 0)?;
        let other = match WalHeader::parse(&bytes[..have]) {
            // Before the first frame of a generation its predecessor's frames are in the file.
            Ok(wal) => {
                wal.salts != header.salts
                    && (header.mx_frame.0 > 0 || wal.salts.one.wrapping_add(1) != header.salts.one)
            }
            Err(_) => header.mx_frame.0 > 0,
        };
        // A whole transaction that nobody publishes.
        let unpublished = self.near.is_some() && header.mx_frame == self.tail.last();
        // What is not a writer's work: one has the database open, and publishes before
        // it closes it.
        Ok((other || unpublished) && !self.db.is_in_use()? && self.db.shm().header() == Ok(header))
    }

    /// The path no longer names this database: releases the locks at once, and takes what was
    /// committed by then.
    pub fn leave(&mut self) {
        if let Err(e) = self.db.shm().leave() {
            tracing::debug!(db = %self.db.path().display(), error = %e, "releasing the locks failed");
        }
        let Ok(header) = self.db.shm().header() else { return };
        if self.lost.is_some() || header.mx_frame < self.tail.last() && header.salts == self.tail.salts() {
            return;
        }
        let current = header.salts == self.tail.salts() || matches!(self.follow_reset(&header), Ok(true));
        match current.then(|| self.take_all(&header)) {
            Some(Ok(())) => self.board.wake_all(),
            Some(Err(e)) => self.lose(&e.to_string(), Instant::now()),
            None => {}
        }
    }

    /// In cruise nobody may checkpoint, and SQLite writes to the database file in checkpoints only:
    /// if it has changed, another program than SQLite has written to it. `Ok(true)` if that is a
    /// loss.
    pub(super) fn was_edited(&mut self, now: Instant) -> Result<bool, TailError> {
        if !self.guard.in_cruise() || self.closing.is_some() {
            self.edits.stamp = None;
            self.board.set_stamp(None);
            return Ok(false);
        }
        if self.edits.stamp.is_some()
            && self.edits.stamped_at.is_some_and(|t| now.saturating_duration_since(t) < STAMP_EVERY)
        {
            return Ok(false);
        }
        self.edits.stamped_at = Some(now);
        let stamp = Stamp::of(self.db.file().std())?;
        self.board.set_stamp(Some(stamp));
        if self.edits.stamp.replace(stamp).is_none_or(|before| before == stamp) {
            return Ok(false);
        }
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

    /// After a loss: whether the WAL could be entered again.
    pub(super) fn is_back(&mut self, header: &WalIndexHeader, now: Instant) -> Result<bool, TailError> {
        if self.is_being_edited(now)? {
            return Ok(false);
        }
        self.enter_anew(header, now)?;
        if self.lost.is_some() {
            // Not in cruise yet, or the log moved on meanwhile.
            self.guard.step_turn(header.mx_frame, now)?;
        }
        Ok(self.lost.is_none())
    }

    /// After an edit: whether the file may still be changing, as while it is copied. What is read
    /// of it then is of no state at all. If its pages have another size now, the database is to be
    /// opened again, and nothing more is read by this opening.
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
            self.board.file_moved();
            return Ok(true);
        }
        self.edits.edited_at = None;
        Ok(false)
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
        self.lost = Some(reason.to_owned());
        self.taken.open.clear();
        self.near = None;
        self.last_change = now;
        self.board.void_pins();
        self.board.lose(reason);
    }

    /// After a loss: reads the present generation through, capturing nothing, and goes on behind
    /// it. The replicas compare hashes at a later moment, when everything before is in the
    /// database or its log. What is too long, or damaged, is not read: the wal-index knows where to
    /// go on.
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
                // The log moved on while it was read, or has frames that can't be proven.
                Err(e) => return self.unreadable(e, header, now).map(drop),
            }
        };
        self.read_tries = 0;
        self.tail = tail;
        self.taken.by_index = mark.by_index;
        self.taken.commits = 0;
        self.taken.count_base = header.change;
        self.counts = !self.padded;
        self.lost = None;
        self.closing = Some(Closing::Held);
        self.guard.enter_cruise();
        self.board.set_mark(mark);
        Ok(())
    }
}

/// Reads a generation through from its first frame to what is published, and returns the tail
/// behind it.
fn read_through(db: &Database, header: &WalIndexHeader) -> Result<(Tail, Mark), TailError> {
    let mut tail = Tail::new(db.wal().clone(), db.page_size(), header.salts);
    while !tail.read_to(header.mx_frame, usize::MAX, |_| {})? {}
    tail.check_published(header)?;
    let mark =
        Mark { pos: tail.pos(), size_pages: header.n_page, change: header.change, by_index: FrameNo(0) };
    Ok((tail, mark))
}

/// The end of what is published, without reading it.
pub(in crate::replicate) fn by_index(db: &Database, header: &WalIndexHeader) -> (Tail, Mark) {
    let tail = Tail::behind(db.wal().clone(), db.page_size(), header);
    let mark =
        Mark { pos: tail.pos(), size_pages: header.n_page, change: header.change, by_index: header.mx_frame };
    (tail, mark)
}
