//! The state of one database's capture, and one look at its WAL.
//!
//! # Overview
//!
//! A look reads the wal-index, takes what is published, and lets the guard move. The loop calls it
//! again until there is nothing more to take. How capture proves that nothing was missed is at the
//! top of [`capture`](super).
//!
//! # State
//!
//! [`State`] says what is proven of the position. `near` is a whole transaction that is not
//! published yet; it is taken only when the wal-index publishes exactly its last frame.

use std::sync::Arc;
use std::time::Instant;

use super::outcome::{Look, images};
use super::state::{Capture, Closing, State};
use super::taken::pos_of;
use crate::base::{FrameNo, Salts, count, limits};
use crate::io::urgency_refused;
use crate::replicate::handoff::Near;
use crate::replicate::pending::Mark;
use crate::sqlite::database::Database;
use crate::sqlite::guard::Phase;
use crate::wal::index::WalIndexHeader;
use crate::wal::tail::{Ahead, Peeked, TailError};

#[cfg(test)]
#[path = "tests.rs"]
pub(super) mod tests;

/// Bytes of the WAL taken in one look; the loop then lets other tasks run.
const LOOK_BYTES: usize = 4 << 20;

/// How many turns go before a requested pin.
const TURNS_BEFORE_PIN: u32 = 3;

/// Most frames of a transaction that capture reads before they are published.
const PEEK_FRAMES: usize = 32;

impl Capture {
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
        let others = self.touched_due().into_iter().chain(self.index.check_at);
        self.guard.deadline().into_iter().chain(others).min()
    }

    /// When capture last took a commit, or lost its position.
    #[must_use]
    pub fn last_change(&self) -> Instant {
        self.last_change
    }

    /// Whether the guard is outside cruise.
    #[must_use]
    pub(super) fn in_turn(&self) -> bool {
        !self.guard.in_cruise()
    }

    /// Whether a helper thread waits for the lock of cruise; its return is the next event.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.guard.is_waiting()
    }

    /// Looks at the WAL: takes what is published, and lets the guard move.
    ///
    /// # Errors
    /// An error after which this database cannot be followed any longer.
    pub fn look(&mut self, now: Instant) -> Result<Look, TailError> {
        let header = match self.db.shm().header() {
            Ok(header) => header,
            Err(e) => return self.damaged(e, now),
        };
        self.damaged_since = None;
        self.note_recovery(&header)?;
        self.end_damage(&header);
        if self.handoff.is_closing() {
            // The last look is over. What is committed now is for the next start; large batches
            // still get their pins.
            self.handoff.grant_pins();
            return Ok(Look::default());
        }
        if self.is_lost() && !self.is_back(&header, now)? {
            return Ok(Look { near: true, ..Look::default() });
        }
        if self.was_edited(now)? {
            return Ok(Look { more: true, ..Look::default() });
        }
        let before = self.taken.commits;
        if header.salts != self.tail.salts() {
            match self.follow_reset(&header) {
                // Look again: proving a turn reads further than this header says.
                Ok(true) => return Ok(Look { more: true, ..self.note_captured(before, now) }),
                Ok(false) => return Ok(Look::default()),
                Err(e) => return self.unreadable(e, &header, now),
            }
        }
        if header.mx_frame < self.tail.last() {
            if self.forget_index("it has fewer frames than before", now)? {
                return Ok(Look { near: true, ..Look::default() });
            }
            let (published, read) = (header.mx_frame.0, self.tail.last().0);
            self.lose(&TailError::Shorter { published, read }.to_string(), now);
            return Ok(Look { more: true, ..Look::default() });
        }
        self.handoff.unread(header.mx_frame.0 - self.tail.last().0);
        let whole = match self.take(&header) {
            Ok(whole) => whole,
            Err(e) => return self.unreadable(e, &header, now),
        };
        self.read_tries = 0;
        let look = self.note_captured(before, now);
        if !whole {
            return Ok(Look { more: true, ..look });
        }
        self.handoff.unread(0);
        self.check_count(&header);
        let moved = self.step_guard(header.mx_frame, now)?;
        if moved {
            return Ok(Look { more: true, all: true, ..look });
        }
        let followed = self.is_followed(now)?;
        let at_rest = self.guard.in_cruise() && !self.is_closing() || self.guard.is_early();
        let checkpoint = self.guard.is_checkpoint_near();
        let quiet = followed == Some(false) && at_rest && !checkpoint;
        let near = followed == Some(true) && !look.captured && self.peek()? || checkpoint;
        Ok(Look { near, quiet, all: true, ..look })
    }

    /// Wakes the pipelines if commits were taken since the count of them was `before`.
    fn note_captured(&mut self, before: u32, now: Instant) -> Look {
        let captured = self.taken.commits != before;
        if captured {
            self.last_change = now;
            self.handoff.wake_all();
        }
        Look { captured, ..Look::default() }
    }

    /// Takes what is published in the present generation (I3: up to mxFrame, ending at a commit).
    /// `Ok(true)` when that is all.
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
            self.check_published(header)?;
        }
        Ok(whole)
    }

    /// The wal-index names another generation. `Ok(true)` if capture has entered it with proof;
    /// `Ok(false)` if that cannot be decided now, or frames were lost.
    pub(super) fn follow_reset(&mut self, header: &WalIndexHeader) -> Result<bool, TailError> {
        if self.guard.is_open() {
            // The end of a turn: decided when the guard is in cruise again.
            return Ok(false);
        }
        if self.state == State::Closing(Closing::Prove) {
            return self.prove(header);
        }
        if self.guard.in_cruise() && self.guard.backfilled() == self.tail.last() && self.taken.open.is_empty()
        {
            // The one reset that can come in cruise: of a WAL that was copied and captured
            // completely.
            self.enter_generation(header.salts);
            self.near = None;
            self.guard.log_was_reset();
            return Ok(true);
        }
        let now = Instant::now();
        if self.wal_is_the_same()? && self.forget_index("it describes another WAL", now)? {
            return Ok(false);
        }
        let reason = format!(
            "the WAL was restarted ({} to {}) although {} of {} frames were copied",
            self.tail.salts(),
            header.salts,
            self.guard.backfilled().0,
            self.tail.last().0,
        );
        self.lose(&reason, now);
        Ok(false)
    }

    /// Proves the end of a turn: the lock of cruise (CKPT or READ(0)) is held again after a moment
    /// without any lock, in which the WAL was reset.
    fn prove(&mut self, header: &WalIndexHeader) -> Result<bool, TailError> {
        let (old, old_last) = (self.tail.salts(), self.tail.last());
        self.near = None;
        let (taken, ahead) = (&mut self.taken, self.ahead.take());
        let walk = self.tail.walk_on(header.salts, ahead.as_ref(), |found| taken.found(found))?;
        // What the walk read may have been overwritten meanwhile; it was not if no new frame
        // reaches its start.
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
        let by_count = self.counts().then(|| self.count_matches(&after));
        if by_count.unwrap_or(by_locks) {
            self.state = State::Following;
            tracing::trace!(db = %self.db.path().display(), walked = walk.commits, "restart of the WAL proven");
            return Ok(true);
        }
        let mut reason = String::from("a restart of the WAL could not be proven");
        // A wal-index that was rebuilt begins a new count, which may be behind what was captured.
        let missed = after.change.wrapping_sub(self.taken.change());
        if self.counts() && missed.cast_signed() > 0 {
            reason.push_str(&format!(" ({} unaccounted for)", count(missed, "commit")));
        }
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

    /// In cruise or an early turn, with everything taken, the two counts must agree. If they do
    /// not, this database's writers count commits differently, and the count is not used.
    fn check_count(&mut self, header: &WalIndexHeader) {
        if !(self.guard.in_cruise() || self.guard.is_early()) || self.is_closing() {
            return;
        }
        if std::mem::take(&mut self.recount) {
            self.taken.count_base = header.change.wrapping_sub(self.taken.commits);
        }
        if self.counts() && !self.count_matches(header) {
            tracing::debug!(db = %self.db.path().display(), "commit frames and commits are counted differently; going by locks alone");
            self.padded = true;
        }
    }

    /// Lets the guard move, with everything published up to `mx` captured. `Ok(true)` if it moved,
    /// so that another look is needed.
    fn step_guard(&mut self, mx: FrameNo, now: Instant) -> Result<bool, TailError> {
        match self.guard.phase() {
            Phase::Cruise => {
                if self.is_closing() {
                    self.state = State::Following;
                    self.ahead = None;
                    // I2: each frame up to mxFrame is captured, so READ(k) may be released.
                    self.guard.release_reads(mx, now)?;
                }
                if self.is_backfill_damaged(mx)? {
                    if self.handoff.pin_is_wanted() {
                        self.handoff.grant_pins();
                    }
                    return Ok(false);
                }
                self.step_cruise(mx, now)
            }
            Phase::Turn { .. } => {
                let (backfilled, wanted) = (self.guard.backfilled(), self.handoff.pin_is_wanted());
                let moved = self.guard.step_turn(mx, wanted, now)?;
                if moved && self.guard.in_cruise() && self.guard.backfilled() != backfilled {
                    self.close(Closing::Held);
                }
                Ok(moved)
            }
            _ => Ok(false),
        }
    }

    /// In cruise: a turn that is due goes before a new pin. So pins in quick succession, as while a
    /// store is unreachable, do not keep the WAL from starting over. Only [`TURNS_BEFORE_PIN`]
    /// turns go first, so that a WAL that is never armed does not keep pins from being granted.
    fn step_cruise(&mut self, mx: FrameNo, now: Instant) -> Result<bool, TailError> {
        let wanted = self.handoff.pin_is_wanted();
        if wanted || self.handoff.is_pinned() {
            // If a checkpoint of the application is running, READ(0) keeps the file as it is, too.
            self.guard.harden()?;
        }
        if self.handoff.is_pinned() {
            let bytes = u64::from(mx.0) * u64::from(self.db.page_size().get());
            // I6: no further pin while the WAL is large, so that it can start over.
            if wanted && bytes < limits::WAL_REPORT_BYTES {
                self.handoff.grant_pins();
            }
            return Ok(false);
        }
        if !wanted {
            self.turns_before_pin = 0;
        }
        // A stop waits for cruise. A writer without a pause would make one turn due after the
        // other, each in the look that ends the last.
        let is_stopping = self.edits.last_chance.is_some() && !self.guard.is_urgent();
        if !is_stopping
            && self.turns_before_pin < TURNS_BEFORE_PIN
            && self.guard.maybe_turn(mx, wanted, now)?
        {
            self.turns_before_pin += u32::from(wanted);
            return Ok(true);
        }
        if wanted {
            self.turns_before_pin = 0;
            self.handoff.grant_pins();
        }
        Ok(false)
    }

    /// Takes the result of a helper thread, which returns with the lock of cruise held.
    ///
    /// # Errors
    /// The thread's error, if it does not hold that lock.
    pub fn locked(&mut self, result: std::io::Result<Option<Ahead>>) -> Result<(), TailError> {
        self.ahead = result?;
        let healed = match self.guard.phase() {
            Phase::Healing { held, .. } => Some(*held),
            _ => None,
        };
        let open = self.guard.is_open();
        self.guard.enter_cruise();
        self.close(if open { Closing::Prove } else { Closing::Held });
        match healed {
            Some(true) => self.recount_after_recovery()?,
            Some(false) => {
                self.lose("the wal-index was rebuilt while no read lock was free", Instant::now());
            }
            None => {}
        }
        Ok(())
    }

    /// Reads a transaction that is in the WAL but not published, and shows it to the pipelines if
    /// it is complete. `Ok(true)` if there is one, complete or not: no event will tell of its
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
                self.handoff.show_near(Some(whole.0.clone()));
                self.near = Some(whole);
            }
        }
        Ok(true)
    }

    /// At shutdown, when nothing is captured any more: releases the lock of cruise, so that
    /// others may checkpoint. `Ok(false)` if a helper thread is about to take it.
    ///
    /// # Errors
    /// Any error of the lock.
    pub fn let_go(&mut self) -> std::io::Result<bool> {
        self.guard.let_go()
    }
}
