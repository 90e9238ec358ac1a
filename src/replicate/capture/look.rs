//! Takes every committed page of one live database, and proves that none slipped by.
//!
//! # The proof
//!
//! Two things say that nothing was missed, and they are independent. The locks: while CKPT or
//! READ(k) is held, a generation of the log can end only when all its frames were captured
//! (`docs/design/guard.md`). The count: SQLite's wal-index counts commits, one up with each, and
//! capture counts the commit frames it has taken; equal counts mean that each commit was taken,
//! whatever happened to the log meanwhile. The count judges what the locks can't see: the end of a
//! turn, a log that was cut while idle.
//!
//! Writers that pad the log to whole sectors repeat their commit frame, so that counts drift apart;
//! this is noticed in cruise, where the locks alone are proof, and the count is then left out for
//! good.
//!
//! What can't be proven is *lost*: every replica is told to compare page hashes with the database,
//! and the capture goes on from the present.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::damage::Damages;
use super::loss::Edits;
use super::taken::{Taken, pos_of};
use crate::base::{FrameNo, Salts, limits};
use crate::io::urgency_refused;
use crate::replicate::capture::outcome::{Closing, Look, images};
use crate::replicate::handoff::{Board, Mark, Near};
use crate::replicate::pending::{OpenPages, PgnoSet};
use crate::sqlite::database::Database;
use crate::sqlite::guard::{Guard, Phase};
use crate::wal::frames::Chain;
use crate::wal::index::WalIndexHeader;
use crate::wal::tail::{Ahead, Peeked, Tail, TailError, WalPos};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

/// Bytes of log taken at one look; the loop then lets others run.
const LOOK_BYTES: usize = 4 << 20;

/// Turns that go before a pin that is asked for.
const TURNS_BEFORE_PIN: u32 = 3;

/// Frames looked at before they are published.
const PEEK_FRAMES: usize = 32;

/// The capture of one database.
#[derive(Debug)]
pub struct Capture {
    pub(super) db: Arc<Database>,
    pub(super) tail: Tail,
    pub(super) guard: Guard,
    pub(super) board: Rc<Board>,
    pub(super) taken: Taken,
    /// A transaction that was read, verified and copied before it was published, and the position
    /// after it.
    pub(super) near: Option<(Near, Chain)>,
    /// Where a transaction begins that is too long for that.
    long: Option<WalPos>,
    pub(super) closing: Option<Closing>,
    /// What stood behind the captured frames at the end of the turn that is to be proven.
    ahead: Option<Ahead>,
    /// Why the present position is not proven, until the log has been entered anew.
    pub(super) lost: Option<String>,
    /// Whether the count can be relied on: not after a recovery, nor ever beside a writer that
    /// pads.
    pub(super) counts: bool,
    pub(super) padded: bool,
    /// A recovery has counted anew: take its count over when everything is captured.
    pub(super) recount: bool,
    pub(super) damaged_since: Option<Instant>,
    pub(super) damage_reported: Option<Instant>,
    pub(super) read_tries: u32,
    pub(super) damages: Damages,
    pub(super) last_change: Instant,
    /// Turns since a pin was asked for.
    turns_before_pin: u32,
    pub(super) edits: Edits,
}

impl Capture {
    /// Goes on from a tail that stands at a captured commit, `mark`, with CKPT held.
    #[must_use]
    pub fn new(
        db: Arc<Database>,
        tail: Tail,
        guard: Guard,
        board: Rc<Board>,
        mark: Mark,
        now: Instant,
    ) -> Capture {
        board.set_mark(mark);
        Capture {
            db,
            tail,
            guard,
            taken: Taken {
                board: Rc::clone(&board),
                open: OpenPages::default(),
                seen: PgnoSet::default(),
                commits: 0,
                count_base: mark.change,
                by_index: mark.by_index,
            },
            board,
            near: None,
            long: None,
            closing: None,
            ahead: None,
            lost: None,
            counts: true,
            padded: false,
            recount: false,
            damaged_since: None,
            damage_reported: None,
            read_tries: 0,
            damages: Damages::default(),
            last_change: now,
            turns_before_pin: 0,
            edits: Edits::default(),
        }
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Arc<Database> {
        &self.db
    }

    /// The guard's phase, for the loop that waits for its helper threads.
    pub fn phase(&mut self) -> &mut Phase {
        self.guard.phase()
    }

    /// When the next look is due without a hint.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.guard.deadline()
    }

    /// When the last commit was captured.
    #[must_use]
    pub fn last_change(&self) -> Instant {
        self.last_change
    }

    /// Whether the guard is waiting for others, so that looks are cheap and wanted often.
    #[must_use]
    pub fn in_turn(&self) -> bool {
        !self.guard.in_cruise()
    }

    /// Whether a helper thread waits for CKPT: its coming back is what there is to wait for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.guard.is_waiting()
    }

    /// Looks at the log: takes what is published, moves the guard on.
    ///
    /// # Errors
    /// What makes it impossible to go on with this database.
    pub fn look(&mut self, now: Instant) -> Result<Look, TailError> {
        let header = match self.db.shm().header() {
            Ok(header) => header,
            Err(e) => return self.damaged(e, now),
        };
        self.damaged_since = None;
        self.end_damage(&header);
        if self.board.is_closing() {
            // The last look is over. What is committed now is for the next start;
            // large batches still get
            // their pins.
            self.board.grant_pins();
            return Ok(Look::default());
        }
        if self.lost.is_some() && !self.is_back(&header, now)? {
            return Ok(Look { near: true, ..Look::default() });
        }
        if self.was_edited(now)? {
            return Ok(Look { more: true, ..Look::default() });
        }
        let before = self.taken.commits;
        if header.salts != self.tail.salts() {
            match self.follow_reset(&header) {
                // Look anew: proving a turn reads further than this header says.
                Ok(true) => return Ok(Look { more: true, ..self.note_captured(before, now) }),
                Ok(false) => return Ok(Look::default()),
                Err(e) => return self.unreadable(e, &header, now),
            }
        }
        if header.mx_frame < self.tail.last() {
            let (published, read) = (header.mx_frame.0, self.tail.last().0);
            self.lose(&TailError::Shorter { published, read }.to_string(), now);
            return Ok(Look { more: true, ..Look::default() });
        }
        let whole = match self.take(&header) {
            Ok(whole) => whole,
            Err(e) => return self.unreadable(e, &header, now),
        };
        self.read_tries = 0;
        let look = self.note_captured(before, now);
        if !whole {
            return Ok(Look { more: true, ..look });
        }
        self.check_count(&header);
        let moved = self.step_guard(header.mx_frame, now)?;
        if moved {
            return Ok(Look { more: true, ..look });
        }
        let followed = self.tail.is_followed()?;
        let quiet = followed == Some(false) && self.guard.in_cruise() && self.closing.is_none();
        let near = followed == Some(true) && !look.captured && self.peek()?;
        Ok(Look { near, quiet, ..look })
    }

    /// Wakes the pipelines if commits were taken since there were `before`.
    fn note_captured(&mut self, before: u32, now: Instant) -> Look {
        let captured = self.taken.commits != before;
        if captured {
            self.last_change = now;
            self.board.wake_all();
        }
        Look { captured, ..Look::default() }
    }

    /// Takes what is published in the present generation. `Ok(true)` when that is all.
    fn take(&mut self, header: &WalIndexHeader) -> Result<bool, TailError> {
        if let Some((near, end)) = self.near.take() {
            let published =
                header.mx_frame == end.last() && header.frame_sum == end.sum && header.salts == end.salts;
            if published {
                self.tail.promote(end);
                near.pages.iter().for_each(|(pgno, page)| self.taken.open.push_shared(*pgno, page));
                self.taken.committed(1, near.mark.size_pages, end);
                return Ok(true);
            }
            if header.mx_frame == self.tail.last() {
                self.near = Some((near, end));
                return Ok(true);
            }
        }
        let taken = &mut self.taken;
        let whole = self.tail.read_to(header.mx_frame, LOOK_BYTES, |found| taken.found(found))?;
        if whole {
            self.tail.check_published(header)?;
        }
        Ok(whole)
    }

    /// The wal-index names another generation. `Ok(true)` if it has been entered with proof,
    /// `Ok(false)` if that can't be judged now or frames were lost.
    pub(super) fn follow_reset(&mut self, header: &WalIndexHeader) -> Result<bool, TailError> {
        if self.guard.is_open() {
            // The end of a turn: judged when CKPT is ours again.
            return Ok(false);
        }
        if self.closing == Some(Closing::Prove) {
            return self.prove(header);
        }
        if self.guard.in_cruise() && self.guard.backfilled() == self.tail.last() && self.taken.open.is_empty()
        {
            // The one reset that can come in cruise: of a log that was wholly
            // copied, and wholly captured.
            self.enter_generation(header.salts);
            self.near = None;
            self.guard.log_was_reset();
            return Ok(true);
        }
        let reason = format!(
            "the WAL was restarted ({} to {}) although {} of {} frames were copied",
            self.tail.salts(),
            header.salts,
            self.guard.backfilled().0,
            self.tail.last().0,
        );
        self.lose(&reason, Instant::now());
        Ok(false)
    }

    /// CKPT is held again after a moment in which nothing was held, and the log has been reset
    /// meanwhile.
    fn prove(&mut self, header: &WalIndexHeader) -> Result<bool, TailError> {
        let (old, old_last) = (self.tail.salts(), self.tail.last());
        self.near = None;
        let (taken, ahead) = (&mut self.taken, self.ahead.take());
        let walk = self.tail.walk_on(header.salts, ahead.as_ref(), |found| taken.found(found))?;
        // What the walk read may have been overwritten while it read: only if no new
        // frame has come beyond
        // its start.
        let Ok(after) = self.db.shm().header() else { return Ok(false) };
        let by_locks = walk.proven
            && after.salts == header.salts
            && header.salts.one == old.one.wrapping_add(1)
            && after.mx_frame <= old_last;
        self.enter_generation(after.salts);
        self.guard.log_was_reset();
        self.guard.enter_cruise();
        if let Err(e) = self.take_all(&after) {
            self.lose(&format!("the WAL could not be read after its restart: {e}"), Instant::now());
            return Ok(false);
        }
        let by_count = self.counts.then(|| self.count_matches(&after));
        if by_count.unwrap_or(by_locks) {
            self.closing = None;
            tracing::trace!(db = %self.db.path().display(), walked = walk.commits, "turn proven");
            return Ok(true);
        }
        let missed = after.change.wrapping_sub(self.taken.change());
        let mut reason =
            format!("a restart of the WAL could not be proven ({missed} commits unaccounted for)");
        if urgency_refused() {
            reason.push_str("; on a busy host the capability CAP_SYS_NICE makes that rare");
        }
        let now = Instant::now();
        let bytes = u64::from(after.n_page) * u64::from(self.db.page_size().get());
        self.guard.prefer_rounds(bytes, now);
        self.lose(&reason, now);
        Ok(false)
    }

    fn enter_generation(&mut self, salts: Salts) {
        self.tail.enter(salts);
        self.taken.by_index = FrameNo(0);
    }

    pub(super) fn take_all(&mut self, header: &WalIndexHeader) -> Result<(), TailError> {
        while !self.take(header)? {}
        Ok(())
    }

    fn count_matches(&self, header: &WalIndexHeader) -> bool {
        header.change == self.taken.change()
    }

    /// In cruise and after everything was taken, the counts must agree; if not, commits are not
    /// counted alike here.
    fn check_count(&mut self, header: &WalIndexHeader) {
        if !self.guard.in_cruise() || self.closing.is_some() {
            return;
        }
        if std::mem::take(&mut self.recount) {
            self.taken.count_base = header.change.wrapping_sub(self.taken.commits);
            self.counts = !self.padded;
        }
        if self.counts && !self.count_matches(header) {
            tracing::debug!(db = %self.db.path().display(), "commit frames and commits are counted differently; going by locks alone");
            (self.counts, self.padded) = (false, true);
        }
    }

    /// Everything published up to `mx` is captured. `Ok(true)` if the guard moved, so that another
    /// look is wanted.
    fn step_guard(&mut self, mx: FrameNo, now: Instant) -> Result<bool, TailError> {
        match self.guard.phase() {
            Phase::Cruise => {
                if self.closing.take().is_some() {
                    self.ahead = None;
                    // I2: each frame up to mxFrame is captured.
                    self.guard.release_reads(now)?;
                }
                if self.is_backfill_damaged(mx)? {
                    if self.board.pin_is_wanted() {
                        self.board.grant_pins();
                    }
                    return Ok(false);
                }
                self.step_cruise(mx, now)
            }
            Phase::Turn { .. } => {
                let moved = self.guard.step_turn(mx, now)?;
                if moved && self.guard.in_cruise() {
                    self.closing = Some(Closing::Held);
                }
                Ok(moved)
            }
            _ => Ok(false),
        }
    }

    /// In cruise: a turn that is due goes before a new pin, so that pins in close succession, as
    /// while a store is unreachable, don't keep the log from starting over; but only some
    /// turns, so that a log that is never armed does not keep pins from being given.
    fn step_cruise(&mut self, mx: FrameNo, now: Instant) -> Result<bool, TailError> {
        let wanted = self.board.pin_is_wanted();
        if self.board.is_pinned() {
            let bytes = u64::from(mx.0) * u64::from(self.db.page_size().get());
            if wanted && bytes < limits::WAL_REPORT_BYTES {
                self.board.grant_pins();
            }
            return Ok(false);
        }
        if !wanted {
            self.turns_before_pin = 0;
        }
        if self.turns_before_pin < TURNS_BEFORE_PIN && self.guard.maybe_turn(mx, now)? {
            self.turns_before_pin += u32::from(wanted);
            return Ok(true);
        }
        if wanted {
            self.turns_before_pin = 0;
            self.board.grant_pins();
        }
        Ok(false)
    }

    /// A helper thread has come back with CKPT.
    ///
    /// # Errors
    /// If it has not.
    pub fn locked(&mut self, result: std::io::Result<Option<Ahead>>) -> Result<(), TailError> {
        self.ahead = result?;
        let healed = match self.guard.phase() {
            Phase::Healing { held, .. } => Some(*held),
            _ => None,
        };
        let open = self.guard.is_open();
        self.guard.enter_cruise();
        self.closing = Some(if open { Closing::Prove } else { Closing::Held });
        match healed {
            Some(true) => self.recount_after_recovery()?,
            Some(false) => {
                self.lose("the wal-index was rebuilt while no read lock was to be had", Instant::now());
            }
            None => {}
        }
        Ok(())
    }

    /// Reads a transaction that is in the log but not published, and shows it to the pipelines if
    /// it is whole. `Ok(true)` if there is one, whole or not: no event will tell of its
    /// publication.
    fn peek(&mut self) -> Result<bool, TailError> {
        let pos = self.tail.pos();
        if self.near.is_some() || self.long == Some(pos) {
            return Ok(true);
        }
        if !self.taken.open.is_empty() {
            return Ok(false);
        }
        let (change, by_index) = (self.taken.change().wrapping_add(1), self.taken.by_index);
        let peeked = self.tail.peek(PEEK_FRAMES, |run| {
            let mark = Mark { pos: pos_of(&run.end), size_pages: run.size_pages, change, by_index };
            (Near { mark, pages: images(&run).collect() }, run.end)
        })?;
        match peeked {
            Peeked::Nothing => return Ok(false),
            Peeked::Begun => {}
            Peeked::Long => self.long = Some(pos),
            Peeked::Whole(whole) => {
                self.board.show_near(Some(whole.0.clone()));
                self.near = Some(whole);
            }
        }
        Ok(true)
    }

    /// Whether a pin may be given, and a log be given back: cruise, nothing open.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.guard.in_cruise() && self.closing.is_none() && self.lost.is_none() && self.taken.open.is_empty()
    }

    /// The end: nothing is captured any more, and others may checkpoint. `Ok(false)` if a helper
    /// thread is about to take CKPT.
    ///
    /// # Errors
    /// The operating system.
    pub fn let_go(&mut self) -> std::io::Result<bool> {
        self.guard.let_go()
    }

    /// Gives the log of an idle database back to the disk. The count proves afterwards that nobody
    /// committed meanwhile.
    ///
    /// # Errors
    /// The operating system.
    pub fn give_back_log(&mut self) -> Result<(), TailError> {
        if self.is_settled() && self.counts && !self.board.is_pinned() {
            self.guard.give_back()?;
        }
        Ok(())
    }
}
