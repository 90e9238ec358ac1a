//! The locks of the WAL guard on one database, and its phases.
//!
//! # Overview
//!
//! SQLite copies frames into the database (*backfill*) only under the CKPT lock. It starts the WAL
//! over (*reset*) only when all frames are copied and no connection holds READ(1) to READ(4).
//!
//! - *Cruise*: [`Guard`] holds CKPT, or READ(0) where the application may checkpoint at any time.
//!   Nothing is copied, and a reset can come only of a WAL that was copied completely before.
//! - *Turn*: at [`limits::TURN_FRAMES`] frames the guard lets the application checkpoint.
//! - *Round*: the guard checkpoints itself.
//! - *Arming*: a WAL that does not start over otherwise is copied to its end while no transaction
//!   can begin.
//!
//! In a turn or round READ(k) is held in place of the lock of cruise, so that no reset can come.
//! This module moves locks and knows the phases; `capture` reads the WAL and proves each turn.
//!
//! # State
//!
//! A turn leads to [`Phase::Closing`] when a checkpoint is seen running, to a round if none comes,
//! and back to cruise if one has ended. Phases with a thread end once that thread holds the lock of
//! cruise: READ(0) in a [`Phase::Closing`] that is `soft`, otherwise CKPT.

#[path = "early.rs"]
mod early;
#[path = "phases.rs"]
mod phases;
#[path = "soft.rs"]
mod soft;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::database::{CheckpointMode, Database};
use super::pace::{ARM_FRAMES, Arming, Early, HARD_AFTER_TURN, rounds_after_loss};
use super::slots::take_read;
use super::threads::copy_and_lock;
pub(crate) use super::threads::rebuild;
use crate::base::{FrameNo, limits};
use crate::io::urgently;
use crate::wal::index::{CheckpointInfo, LOCK_CKPT, lock_read};
use crate::wal::shm::{LockKind, Shm};
use crate::wal::tail::Ahead;

/// How long a turn waits for the application to checkpoint before lsfast does it.
const TURN_WAIT: Duration = Duration::from_millis(500);

/// Wait before the next turn or round after [`ROUNDS_AT_ONCE`] in which a reader with an old
/// snapshot kept frames from being copied.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// Longest wait between two attempts to copy frames that cannot be proven into the database file.
/// The first wait is [`ROUND_PAUSE`].
const URGENT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How many hindered turns and rounds may follow one another without a [`ROUND_PAUSE`].
const ROUNDS_AT_ONCE: u32 = 3;

/// After a turn in which the application did not checkpoint, turns wait only [`ROUND_PAUSE`] for
/// it, for this time.
const ABSENT: Duration = Duration::from_secs(30);

/// Bytes of the WAL that the helper thread reads at the end of a turn.
const AHEAD_BYTES: usize = 512 << 10;

/// A helper thread that returns holding the lock of cruise; after a turn also with what the WAL has
/// after the captured frames.
pub type Blocking = JoinHandle<io::Result<Option<Ahead>>>;

/// The phase of the guard; the state machine of this module.
#[derive(Debug)]
pub enum Phase {
    /// CKPT is held, or READ(0) in place of it.
    Cruise,
    /// READ(k) is held, CKPT is free for the application.
    Turn {
        /// The k of the READ(k) that is held.
        slot: usize,
        /// Start of the turn.
        since: Instant,
        /// nBackfill and the read marks at the start of the turn.
        before: CheckpointInfo,
        /// The WAL is shorter than [`limits::TURN_FRAMES`], and no checkpoint is due.
        early: bool,
    },
    /// The application checkpoints; no lock is held.
    Closing {
        /// The thread that waits for the lock of cruise.
        work: Blocking,
        /// It waits for READ(0), and otherwise for CKPT.
        soft: bool,
    },
    /// READ(k) is held; a thread runs lsfast's own checkpoint, then takes CKPT.
    Round {
        /// The k of READ(k); `None` if readers used all slots and the checkpoint could not wait.
        slot: Option<usize>,
        /// The thread that checkpoints.
        work: Blocking,
    },
    /// CKPT is held; a thread copies the last frames while no transaction can begin.
    Arming {
        /// The thread that copies.
        work: Blocking,
        /// When it began.
        since: Instant,
    },
    /// No lock is held: a thread runs lsfast's own TRUNCATE checkpoint of an idle WAL, then takes
    /// CKPT.
    GivingBack(Blocking),
    /// CKPT is free so that SQLite can rebuild the damaged wal-index; then a thread takes CKPT.
    Healing {
        /// Whether READ(k) is held meanwhile, so that the WAL cannot be reset.
        held: bool,
        /// The thread that waits for the rebuilt wal-index.
        work: Blocking,
    },
}

impl Phase {
    /// Waits for the helper thread of the phase; forever if it has none.
    ///
    /// # Errors
    /// Any error of the locks or the checkpoint.
    pub async fn ended(&mut self) -> io::Result<Option<Ahead>> {
        match self {
            Phase::GivingBack(work)
            | Phase::Closing { work, .. }
            | Phase::Arming { work, .. }
            | Phase::Round { work, .. }
            | Phase::Healing { work, .. } => work.await.map_err(io::Error::other)?,
            Phase::Cruise | Phase::Turn { .. } => std::future::pending().await,
        }
    }
}

/// The locks and the phase.
#[derive(Debug)]
pub struct Guard {
    db: Arc<Database>,
    phase: Phase,
    /// In cruise: READ(0) is held, and not CKPT.
    soft: bool,
    /// Until then cruise holds CKPT: a writer that filled the WAL is probably still busy.
    hard_until: Option<Instant>,
    /// A checkpoint of the application was running at the last look of a turn.
    seen_running: bool,
    /// `nBackfill` when the lock of cruise was taken. It does not change in cruise.
    backfilled: FrameNo,
    next_try: Option<Instant>,
    /// nBackfill and mxFrame when the last turn or round began.
    wanted: (FrameNo, FrameNo),
    /// A checkpoint of the application ran in the last turn.
    came: bool,
    rounds_until: Option<Instant>,
    rounds_for: Duration,
    rounds_in_a_row: u32,
    arming: Arming,
    early: Early,
    /// Until then the application is not expected to checkpoint.
    absent_until: Option<Instant>,
    /// Frames up to this one cannot be proven: until they are in the database file, a crash loses
    /// the commits in them and after them.
    urgent: Option<FrameNo>,
    urgent_pause: Duration,
}

impl Guard {
    /// Takes CKPT, after any checkpoint that is running. Blocks: not for the loop.
    ///
    /// # Errors
    /// Any error of the lock.
    pub fn take(db: &Arc<Database>) -> io::Result<Guard> {
        db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive)?;
        Ok(Guard {
            backfilled: db.shm().checkpoint_info().n_backfill,
            db: Arc::clone(db),
            phase: Phase::Cruise,
            soft: false,
            hard_until: None,
            seen_running: false,
            next_try: None,
            wanted: (FrameNo(0), FrameNo(0)),
            came: false,
            rounds_until: None,
            rounds_for: Duration::ZERO,
            rounds_in_a_row: 0,
            arming: Arming::default(),
            early: Early::default(),
            absent_until: None,
            urgent: None,
            urgent_pause: ROUND_PAUSE,
        })
    }

    fn shm(&self) -> &Shm {
        self.db.shm()
    }

    /// The present phase.
    pub fn phase(&mut self) -> &mut Phase {
        &mut self.phase
    }

    /// Whether CKPT or READ(0) is held, so that no checkpoint can write to the database file.
    #[must_use]
    pub fn in_cruise(&self) -> bool {
        matches!(self.phase, Phase::Cruise)
    }

    /// Whether the WAL may be reset now, because READ(k) and CKPT are both free, or because it may
    /// be armed at any moment.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // I2: these phases are its exceptions. Capture proves afterwards what happened in them.
        matches!(
            self.phase,
            Phase::Closing { .. }
                | Phase::Arming { .. }
                | Phase::GivingBack(_)
                | Phase::Round { slot: None, .. }
                | Phase::Healing { held: false, .. }
        )
    }

    /// Whether a thread waits for the lock of cruise, so that nothing can be decided until it
    /// returns.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !matches!(self.phase, Phase::Cruise | Phase::Turn { .. })
    }

    /// In cruise: the number of frames that are also in the database file.
    #[must_use]
    pub fn backfilled(&self) -> FrameNo {
        self.backfilled
    }

    /// The WAL was reset in cruise: no frame of the new generation is copied yet.
    pub fn log_was_reset(&mut self) {
        self.backfilled = FrameNo(0);
        self.rounds_in_a_row = 0;
        self.arming.started_over();
        self.next_try = None;
        self.urgent = None;
    }

    /// SQLite has rebuilt the wal-index of the present generation, and nBackfill with it.
    pub fn index_was_rebuilt(&mut self) {
        if self.in_cruise() {
            self.backfilled = self.shm().checkpoint_info().n_backfill;
        }
    }

    /// Frames up to `to` cannot be proven and must be copied to the database file as soon as
    /// possible. See [`Guard::copy_now`].
    pub fn must_copy(&mut self, to: FrameNo) {
        self.urgent = Some(to);
        (self.next_try, self.urgent_pause) = (None, ROUND_PAUSE);
    }

    /// No unproven frames are left.
    pub fn need_not_copy(&mut self) {
        self.urgent = None;
    }

    /// Whether unproven frames are not in the database file yet.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent.is_some_and(|to| self.backfilled < to)
    }

    /// Runs a checkpoint with no lock held; only before the first frame is captured. Blocks: not
    /// for the loop.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn copy_before_capture(&mut self) -> io::Result<()> {
        self.shm().unlock(LOCK_CKPT)?;
        copy_and_lock(&self.db, &[CheckpointMode::Passive])?;
        self.enter_cruise();
        Ok(())
    }

    /// In cruise: begins a round, without READ(k) if readers use all slots.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn copy_now(&mut self, mx: FrameNo) -> io::Result<()> {
        let slot = take_read(self.shm())?;
        self.leave_cruise()?;
        self.wanted = (self.backfilled, mx);
        self.phase = self.round(slot);
        Ok(())
    }

    /// The database, of `bytes` bytes, lost a turn: use only rounds for some time.
    pub fn prefer_rounds(&mut self, bytes: u64, now: Instant) {
        let before = self.rounds_until.map(|until| (now.saturating_duration_since(until), self.rounds_for));
        self.rounds_for = rounds_after_loss(bytes, before);
        self.rounds_until = Some(now + self.rounds_for);
    }

    /// In cruise, with everything captured up to `mx`: begins a turn or a round if the WAL is long
    /// enough and it is time. If cruise `is wanted`, only if one is due. `Ok(true)` if it began.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn maybe_turn(&mut self, mx: FrameNo, is_wanted: bool, now: Instant) -> io::Result<bool> {
        self.hard_until = self.hard_until.filter(|t| now < *t);
        let due = mx.0 >= limits::TURN_FRAMES && self.backfilled != mx;
        if !due && !is_wanted && !self.is_urgent() {
            return self.step_cruise(mx, now);
        }
        if !(due || self.is_urgent()) {
            return Ok(false);
        }
        if self.next_try.is_some_and(|t| now < t) {
            // With READ(0) each commit to a long WAL would try to checkpoint.
            self.harden()?;
            return Ok(false);
        }
        if !due {
            return self.copy_now(mx).map(|()| true);
        }
        let is_short = mx.0 - self.backfilled.0.min(mx.0) <= ARM_FRAMES;
        let may_arm = self.arming.may_begin(mx, now);
        if may_arm && is_short && !self.is_urgent() && self.harden()? {
            self.begin_arming(mx, now);
            return Ok(true);
        }
        let Some(slot) = take_read(self.shm())? else {
            if self.is_urgent() {
                return self.copy_now(mx).map(|()| true);
            }
            self.next_try = Some(now + Duration::from_millis(1));
            return Ok(false);
        };
        // I2: CKPT is released only now that READ(k) is held.
        self.leave_cruise()?;
        (self.wanted, self.came) = ((self.backfilled, mx), false);
        if may_arm {
            self.arming.round(now);
        }
        if may_arm || self.rounds_until.is_some_and(|t| now < t) {
            self.phase = self.round(Some(slot));
        } else {
            let before = self.shm().checkpoint_info();
            self.seen_running = false;
            self.phase = Phase::Turn { slot, since: now, before, early: false };
        }
        Ok(true)
    }

    /// How long a turn waits for a checkpoint of the application.
    fn turn_wait(&self, now: Instant) -> Duration {
        if self.absent_until.is_some_and(|t| now < t) { ROUND_PAUSE } else { TURN_WAIT }
    }

    /// In a turn, with everything captured up to `mx`: moves on when a checkpoint runs, has run, or
    /// none has come in `TURN_WAIT`. An early turn ends if cruise `is wanted`. `Ok(true)` if the
    /// guard moved on.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn step_turn(&mut self, mx: FrameNo, is_wanted: bool, now: Instant) -> io::Result<bool> {
        let Phase::Turn { slot, since, before, early } = self.phase else { return Ok(false) };
        if early && mx.0 >= limits::TURN_FRAMES {
            self.phase = Phase::Turn { slot, since: now, before, early: false };
            return self.step_turn(mx, is_wanted, now);
        }
        if early {
            return self.step_early(mx, is_wanted, now);
        }
        self.seen_running = self.shm().held_by_other(LOCK_CKPT)?;
        // One that cannot copy, for a reader with an old snapshot or a busy writer, ends no turn.
        if self.seen_running && self.shm().is_exclusive(lock_read(0))? {
            // Release READ(k) while the checkpoint runs, so that the very next commit can reset the
            // WAL. The thread that then waits for CKPT releases it: the shorter the time between
            // the two calls, the rarer an unseen second checkpoint. It also reads what was
            // committed meanwhile, before a fast writer overwrites it. On an overloaded machine an
            // ordinary thread would do both too late.
            (self.absent_until, self.came) = (None, true);
            self.early.learn(mx);
            let db = Arc::clone(&self.db);
            let work = tokio::task::spawn_blocking(move || {
                urgently(|| {
                    db.shm().unlock(lock_read(slot))?;
                    db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive)?;
                    Ahead::read(db.wal(), db.page_size(), mx, AHEAD_BYTES).map(Some)
                })
            });
            self.phase = Phase::Closing { work, soft: false };
            return Ok(true);
        }
        if self.shm().checkpoint_info().n_backfill != before.n_backfill
            && self.shm().try_lock(LOCK_CKPT, LockKind::Exclusive)?
        {
            // The checkpoint ran between two looks. READ(k) kept the WAL from being reset.
            self.came = true;
            self.early.learn(mx);
            self.enter_cruise();
            return Ok(true);
        }
        if now.duration_since(since) >= self.turn_wait(now) || self.is_urgent() {
            self.absent_until = Some(now + ABSENT);
            self.phase = self.round(Some(slot));
            return Ok(true);
        }
        Ok(false)
    }

    /// Notes that the lock of cruise is held again. READ(k), if held, stays held until
    /// [`Guard::release_reads`].
    pub fn enter_cruise(&mut self) {
        match self.phase {
            Phase::Arming { since, .. } => self.arming.ended(since, Instant::now()),
            Phase::Closing { soft, .. } => self.soft = soft,
            _ => {}
        }
        if !self.soft && !self.in_cruise() {
            self.hard_until = Some(Instant::now() + HARD_AFTER_TURN);
        }
        self.phase = Phase::Cruise;
        self.backfilled = self.shm().checkpoint_info().n_backfill;
    }

    /// In cruise, with everything captured up to `mx` (I2): releases READ(k), and decides when the
    /// next turn may begin if the WAL is not armed.
    ///
    /// # Errors
    /// Any error of the locks.
    pub fn release_reads(&mut self, mx: FrameNo, now: Instant) -> io::Result<()> {
        for slot in 1..=4 {
            self.shm().unlock(lock_read(slot))?;
        }
        // Otherwise frames were only added while the checkpoint ran; each such rest is shorter than
        // the last. The application's own checkpoints may try again as often as without lsfast, if
        // each copies some more.
        let (from, to) = self.wanted;
        let hindered = self.backfilled < to && !(self.came && self.backfilled > from);
        if self.is_urgent() {
            self.next_try = Some(now + self.urgent_pause);
            self.urgent_pause = (self.urgent_pause * 2).min(URGENT_PAUSE_MAX);
            return Ok(());
        }
        self.arming.copied(self.backfilled == mx);
        if !hindered {
            self.rounds_in_a_row = 0;
            self.next_try = None;
            return Ok(());
        }
        self.rounds_in_a_row += 1;
        if self.rounds_in_a_row >= ROUNDS_AT_ONCE {
            self.rounds_in_a_row = 0;
            self.next_try = Some(now + ROUND_PAUSE);
        }
        Ok(())
    }

    /// At shutdown, when capture has ended: releases the lock of cruise. `Ok(false)` if a
    /// helper thread is about to take it.
    ///
    /// # Errors
    /// Any error of the lock.
    pub fn let_go(&mut self) -> io::Result<bool> {
        if self.is_waiting() {
            return Ok(false);
        }
        self.leave_cruise().map(|()| true)
    }

    /// When the guard wants a look without a hint: at the end of a turn's wait, or at the next try.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Turn { early: true, .. } => None,
            Phase::Turn { since, .. } => Some(since + self.turn_wait(Instant::now())),
            Phase::Cruise => self.next_try.into_iter().chain(self.hard_until).min(),
            _ => None,
        }
    }
}
