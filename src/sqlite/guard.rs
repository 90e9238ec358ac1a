//! The locks of the WAL guard on one database, and whose turn it is.
//!
//! SQLite copies frames into the database (*backfill*) only under the CKPT lock, and starts the log
//! over (*reset*) only when all frames are copied and nobody holds READ(1) to READ(4). [`Guard`]
//! holds CKPT, so nothing is copied and at most one reset can come, of a log that was wholly copied
//! before: *cruise*. Once the log has [`limits::TURN_FRAMES`] frames it lets the application
//! checkpoint (*turn*) or checkpoints itself (*round*), with READ(k) held in place of CKPT, so that
//! no reset can come meanwhile.
//!
//! This module moves locks and knows the phases. What the log says is judged by `capture`, which
//! proves each turn.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::database::{CheckpointMode, Database};
use crate::base::{FrameNo, limits};
use crate::io::urgently;
use crate::wal::index::{LOCK_CKPT, READ_MARK_NOT_USED, lock_read};
use crate::wal::shm::{LockKind, Shm};
use crate::wal::tail::Ahead;

/// How long a turn waits for the application to checkpoint before lsfast does it.
const TURN_WAIT: Duration = Duration::from_millis(500);

/// After turns and rounds in which a reader with an old snapshot kept frames from being copied: the
/// wait before the next.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// Longest wait between two attempts to get frames that can't be proven into the database file. The
/// first is [`ROUND_PAUSE`].
const URGENT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// So many of them in direct succession.
const ROUNDS_AT_ONCE: u32 = 3;

/// How long a database that lost a turn stays with rounds: so long for each 50 MB of it, within
/// bounds. A loss costs reading the database once; rounds cost a longer log while writers don't
/// pause.
const ROUNDS_UNIT: Duration = Duration::from_secs(1);
const ROUNDS_BYTES: u64 = 50_000_000;
const ROUNDS_MAX: Duration = Duration::from_secs(3600);

/// A loss that comes sooner after the last than this many times its rounds took doubles them.
const CALM: u32 = 10;

/// Waits between looks whether the wal-index has been rebuilt. Nothing is stored meanwhile, and
/// nothing is in the way of the application.
const HEAL_WAITS_MS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Bytes of the log that the end of a turn takes along at once.
const AHEAD_BYTES: usize = 512 << 10;

/// A helper thread that comes back with CKPT, and after a turn with what stood behind the captured
/// frames then.
pub type Blocking = JoinHandle<io::Result<Option<Ahead>>>;

/// Where the guard is.
#[derive(Debug)]
pub enum Phase {
    /// CKPT is held.
    Cruise,
    /// READ(k) is held, CKPT is free for the application.
    Turn {
        /// The read slot.
        slot: usize,
        /// Since when.
        since: Instant,
        /// `nBackfill` when it began.
        backfilled: FrameNo,
    },
    /// The application checkpoints; nothing is held, a thread waits for CKPT.
    Closing(Blocking),
    /// READ(k) is held, our own checkpoint runs, then takes CKPT.
    Round {
        /// The read slot; none if readers used them all and the checkpoint could not wait.
        slot: Option<usize>,
        /// The thread.
        work: Blocking,
    },
    /// Nothing is held: our own TRUNCATE checkpoint of an idle log runs, then takes CKPT.
    GivingBack(Blocking),
    /// CKPT is free so that SQLite can rebuild the damaged wal-index; then a thread takes it.
    Healing {
        /// Whether READ(k) is held meanwhile, so that the WAL cannot be reset.
        held: bool,
        /// The thread.
        work: Blocking,
    },
}

/// The locks and the phase.
#[derive(Debug)]
pub struct Guard {
    db: Arc<Database>,
    phase: Phase,
    /// `nBackfill` at the time when CKPT was taken. It does not change in cruise.
    backfilled: FrameNo,
    next_try: Option<Instant>,
    /// The end of the log when the last turn or round began.
    wanted: FrameNo,
    rounds_until: Option<Instant>,
    rounds_for: Duration,
    rounds_in_a_row: u32,
    /// Frames up to this one can't be proven: a crash loses all commits from them on until they are
    /// in the database file.
    urgent: Option<FrameNo>,
    urgent_pause: Duration,
}

impl Guard {
    /// Takes CKPT, waiting for whoever checkpoints just now. Blocks: not for the loop.
    ///
    /// # Errors
    /// The operating system.
    pub fn take(db: &Arc<Database>) -> io::Result<Guard> {
        db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive)?;
        Ok(Guard {
            backfilled: db.shm().checkpoint_info().n_backfill,
            db: Arc::clone(db),
            phase: Phase::Cruise,
            next_try: None,
            wanted: FrameNo(0),
            rounds_until: None,
            rounds_for: Duration::ZERO,
            rounds_in_a_row: 0,
            urgent: None,
            urgent_pause: ROUND_PAUSE,
        })
    }

    fn shm(&self) -> &Shm {
        self.db.shm()
    }

    /// Where it is.
    pub fn phase(&mut self) -> &mut Phase {
        &mut self.phase
    }

    /// Whether CKPT is held.
    #[must_use]
    pub fn in_cruise(&self) -> bool {
        matches!(self.phase, Phase::Cruise)
    }

    /// Whether a reset of the log may come while READ(k) and CKPT are both free.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // I2: these are its exceptions. Capture proves afterwards what happened in them.
        matches!(
            self.phase,
            Phase::Closing(_)
                | Phase::GivingBack(_)
                | Phase::Round { slot: None, .. }
                | Phase::Healing { held: false, .. }
        )
    }

    /// Whether a thread waits for CKPT, so that nothing is to be decided until it has come back.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !matches!(self.phase, Phase::Cruise | Phase::Turn { .. })
    }

    /// In cruise: the number of frames that are in the database file too.
    #[must_use]
    pub fn backfilled(&self) -> FrameNo {
        self.backfilled
    }

    /// The log was reset in cruise: nothing of the new generation is copied.
    pub fn log_was_reset(&mut self) {
        self.backfilled = FrameNo(0);
        self.rounds_in_a_row = 0;
        self.next_try = None;
        self.urgent = None;
    }

    /// Frames up to `to` can't be proven, so that they must get into the database file as soon as
    /// may be. See [`Guard::copy_now`].
    pub fn must_copy(&mut self, to: FrameNo) {
        self.urgent = Some(to);
        (self.next_try, self.urgent_pause) = (None, ROUND_PAUSE);
    }

    /// There are none any more.
    pub fn need_not_copy(&mut self) {
        self.urgent = None;
    }

    /// Whether such frames are not in the database file yet.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent.is_some_and(|to| self.backfilled < to)
    }

    /// Lets a checkpoint of our own through, with nothing held: no frame has been captured yet.
    /// Blocks: not for the loop.
    ///
    /// # Errors
    /// The operating system.
    pub fn copy_before_capture(&mut self) -> io::Result<()> {
        self.shm().unlock(LOCK_CKPT)?;
        copy_and_lock(&self.db)?;
        self.enter_cruise();
        Ok(())
    }

    /// In cruise: begins a round, without READ(k) if readers use all slots.
    ///
    /// # Errors
    /// The operating system.
    pub fn copy_now(&mut self, mx: FrameNo) -> io::Result<()> {
        let slot = self.take_read()?;
        self.shm().unlock(LOCK_CKPT)?;
        self.wanted = mx;
        self.phase = self.round(slot);
        Ok(())
    }

    /// This database, of so many bytes, lost a turn: rounds only for some time.
    pub fn prefer_rounds(&mut self, bytes: u64, now: Instant) {
        let before = self.rounds_until.map(|until| (now.saturating_duration_since(until), self.rounds_for));
        self.rounds_for = rounds_after_loss(bytes, before);
        self.rounds_until = Some(now + self.rounds_for);
    }

    /// Takes READ(k) shared: on a slot whose mark is not used, or otherwise on the one with the
    /// highest mark, which holds back least. Readers leave their marks behind, and only
    /// checkpoints take them away, so that without the second choice no checkpoint might come
    /// again. `None` if all slots are held exclusively just now.
    fn take_read(&self) -> io::Result<Option<usize>> {
        for slot in (1..=4).rev() {
            if !self.shm().try_lock(lock_read(slot), LockKind::Shared)? {
                continue;
            }
            // A mark changes only under the exclusive lock of its slot, so it is stable now.
            if self.shm().checkpoint_info().read_marks[slot] == READ_MARK_NOT_USED {
                return Ok(Some(slot));
            }
            self.shm().unlock(lock_read(slot))?;
        }
        let marks = self.shm().checkpoint_info().read_marks;
        let mut slots = [1, 2, 3, 4];
        slots.sort_by_key(|slot| std::cmp::Reverse(marks[*slot]));
        for slot in slots {
            if self.shm().try_lock(lock_read(slot), LockKind::Shared)? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// In cruise, everything captured up to `mx`: begins a turn or a round if the log is long
    /// enough and it is time. `Ok(true)` if it did.
    ///
    /// # Errors
    /// The operating system.
    pub fn maybe_turn(&mut self, mx: FrameNo, now: Instant) -> io::Result<bool> {
        let due = mx.0 >= limits::TURN_FRAMES && self.backfilled != mx;
        if !(due || self.is_urgent()) || self.next_try.is_some_and(|t| now < t) {
            return Ok(false);
        }
        if !due {
            return self.copy_now(mx).map(|()| true);
        }
        let Some(slot) = self.take_read()? else {
            if self.is_urgent() {
                return self.copy_now(mx).map(|()| true);
            }
            self.next_try = Some(now + Duration::from_millis(1));
            return Ok(false);
        };
        self.shm().unlock(LOCK_CKPT)?;
        self.wanted = mx;
        if self.rounds_until.is_some_and(|t| now < t) {
            self.phase = self.round(Some(slot));
        } else {
            self.phase = Phase::Turn { slot, since: now, backfilled: self.backfilled };
        }
        Ok(true)
    }

    fn round(&self, slot: Option<usize>) -> Phase {
        let db = Arc::clone(&self.db);
        let work = tokio::task::spawn_blocking(move || copy_and_lock(&db).map(|()| None));
        Phase::Round { slot, work }
    }

    /// In a turn, everything captured up to `mx`: moves on when somebody checkpoints, has
    /// checkpointed, or nobody comes. `Ok(true)` if it moved.
    ///
    /// # Errors
    /// The operating system.
    pub fn step_turn(&mut self, mx: FrameNo, now: Instant) -> io::Result<bool> {
        let Phase::Turn { slot, since, backfilled } = self.phase else { return Ok(false) };
        if self.shm().held_by_other(LOCK_CKPT)? {
            // Let go while the checkpoint runs, so that the very next commit can
            // reset the log. The thread
            // that then waits for CKPT does it: the less time between the two calls, the rarer a
            // second checkpoint that goes unseen. It also reads what was committed meanwhile,
            // which a fast writer soon writes over. On a machine with too much to do
            // both would come too
            // late.
            let db = Arc::clone(&self.db);
            let work = tokio::task::spawn_blocking(move || {
                urgently(|| {
                    db.shm().unlock(lock_read(slot))?;
                    db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive)?;
                    Ahead::read(db.wal(), db.page_size(), mx, AHEAD_BYTES).map(Some)
                })
            });
            self.phase = Phase::Closing(work);
            return Ok(true);
        }
        if self.shm().checkpoint_info().n_backfill != backfilled
            && self.shm().try_lock(LOCK_CKPT, LockKind::Exclusive)?
        {
            // The checkpoint has come and gone between two looks. READ(k) kept the
            // log from being reset.
            self.enter_cruise();
            return Ok(true);
        }
        if now.duration_since(since) >= TURN_WAIT || self.is_urgent() {
            self.phase = self.round(Some(slot));
            return Ok(true);
        }
        Ok(false)
    }

    /// CKPT is ours again. READ(k), if held, stays held until [`Guard::release_reads`].
    pub fn enter_cruise(&mut self) {
        self.phase = Phase::Cruise;
        self.backfilled = self.shm().checkpoint_info().n_backfill;
    }

    /// In cruise, everything captured: lets go of READ(k), and decides when the next turn may be if
    /// the log is not armed.
    ///
    /// # Errors
    /// The operating system.
    pub fn release_reads(&mut self, now: Instant) -> io::Result<()> {
        for slot in 1..=4 {
            self.shm().unlock(lock_read(slot))?;
        }
        // Else somebody wrote on while the checkpoint ran, and each is shorter than the one before.
        let hindered = self.backfilled < self.wanted;
        if self.is_urgent() {
            self.next_try = Some(now + self.urgent_pause);
            self.urgent_pause = (self.urgent_pause * 2).min(URGENT_PAUSE_MAX);
            return Ok(());
        }
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

    /// In cruise: gives the log of an idle database back to the disk.
    ///
    /// # Errors
    /// The operating system.
    pub fn give_back(&mut self) -> io::Result<()> {
        self.shm().unlock(LOCK_CKPT)?;
        let db = Arc::clone(&self.db);
        self.phase = Phase::GivingBack(tokio::task::spawn_blocking(move || {
            // The first copies what is left without a lock that a writer could
            // notice, so that the second,
            // which needs the writer's lock, holds it for no longer than cutting the file takes.
            for mode in [CheckpointMode::Passive, CheckpointMode::Truncate] {
                if let Err(e) = db.checkpoint(mode) {
                    tracing::debug!(db = %db.path().display(), error = %e, "own checkpoint failed");
                }
            }
            db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive).map(|()| None)
        }));
        Ok(())
    }

    /// In cruise or in a turn: releases CKPT, so that SQLite can rebuild the damaged wal-index at
    /// the next statement of the application, or does that by a read of our own. `Ok(true)` if
    /// it began.
    ///
    /// # Errors
    /// The operating system.
    pub fn heal(&mut self) -> io::Result<bool> {
        let held = match self.phase {
            Phase::Turn { .. } => true,
            Phase::Cruise => self.take_read()?.is_some(),
            _ => return Ok(false),
        };
        self.shm().unlock(LOCK_CKPT)?;
        let db = Arc::clone(&self.db);
        let work = tokio::task::spawn_blocking(move || {
            rebuild(&db)?;
            db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive).map(|()| None)
        });
        self.phase = Phase::Healing { held, work };
        Ok(true)
    }

    /// The end: nothing is captured any more. Lets go of CKPT; `Ok(false)` if a helper thread is
    /// about to take it.
    ///
    /// # Errors
    /// The operating system.
    pub fn let_go(&mut self) -> io::Result<bool> {
        if self.is_waiting() {
            return Ok(false);
        }
        self.shm().unlock(LOCK_CKPT).map(|()| true)
    }

    /// When the guard wants to be looked at without a hint: while the application has its turn.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Turn { since, .. } => Some(since + TURN_WAIT),
            Phase::Cruise => self.next_try,
            _ => None,
        }
    }
}

/// Runs a checkpoint and takes CKPT.
fn copy_and_lock(db: &Database) -> io::Result<()> {
    // A failing checkpoint copies nothing, which is seen afterwards.
    if let Err(e) = db.checkpoint(CheckpointMode::Passive) {
        tracing::debug!(db = %db.path().display(), error = %e, "own checkpoint failed");
    }
    db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive)
}

/// Waits until SQLite has rebuilt the wal-index, at the application's next statement or by a read
/// of our own. Returns after a second or so also if it has not.
pub(crate) fn rebuild(db: &Database) -> io::Result<()> {
    for (i, wait) in HEAL_WAITS_MS.into_iter().enumerate() {
        // A recovery by our own connection would answer the application "database is
        // locked" for its
        // milliseconds. So while another process has the database open, only the last attempt is
        // ours.
        if (i + 1 == HEAL_WAITS_MS.len() || !db.is_in_use()?)
            && let Err(e) = db.touch()
        {
            tracing::debug!(db = %db.path().display(), error = %e, "reading to rebuild the wal-index failed");
        }
        if db.shm().header().is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(wait));
    }
    Ok(())
}

/// How long rounds go on after the loss of a turn. `before`: how long the last ones are over, and
/// how long they went on.
fn rounds_after_loss(bytes: u64, before: Option<(Duration, Duration)>) -> Duration {
    let units = u32::try_from(bytes / ROUNDS_BYTES + 1).unwrap_or(u32::MAX);
    let base = ROUNDS_UNIT.saturating_mul(units);
    let again = before.filter(|(calm, last)| *calm < last.saturating_mul(CALM)).map(|(_, last)| last * 2);
    again.unwrap_or(base).max(base).min(ROUNDS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_after_a_loss_cost_no_more_than_the_loss() {
        let seconds = Duration::from_secs;
        assert_eq!(rounds_after_loss(1 << 20, None), seconds(1));
        assert_eq!(rounds_after_loss(1_000_000_000, None), seconds(21));
        assert_eq!(rounds_after_loss(u64::MAX, None), ROUNDS_MAX);
        // Again at once, and after a calm time.
        assert_eq!(rounds_after_loss(1 << 20, Some((seconds(9), seconds(1)))), seconds(2));
        assert_eq!(rounds_after_loss(1 << 20, Some((seconds(10), seconds(1)))), seconds(1));
        assert_eq!(rounds_after_loss(1 << 20, Some((seconds(0), ROUNDS_MAX))), ROUNDS_MAX);
    }
}
