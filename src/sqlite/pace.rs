//! How often the guard does what has a price.

use std::time::{Duration, Instant};

use crate::base::{FrameNo, limits};

/// After a lost turn a database uses only rounds for this time per [`ROUNDS_BYTES`] of its size. A
/// lost turn costs one read of the database; rounds cost a longer WAL under steady writes.
const ROUNDS_UNIT: Duration = Duration::from_secs(1);
/// Bytes of the database for each [`ROUNDS_UNIT`].
const ROUNDS_BYTES: u64 = 50_000_000;
/// Longest time of rounds only after a lost turn.
const ROUNDS_MAX: Duration = Duration::from_secs(3600);

/// Another loss within this many times the length of the last rounds doubles that length.
const CALM: u32 = 10;

/// Frames in a WAL that commits have kept from starting over, before lsfast arms it.
const STUCK_FRAMES: u32 = 4 * limits::TURN_FRAMES;

/// Most frames that are left when lsfast begins to arm the WAL. They take some milliseconds on a
/// disk; a round copies more of them first.
pub(super) const ARM_FRAMES: u32 = 1_000;

/// Turns and rounds in a row after which commits kept a long WAL from starting over, before lsfast
/// arms it.
const UNARMED: u32 = 3;

/// Rounds in a row that leave more frames than can be copied while no transaction begins. After
/// them lsfast tries again after [`ARM_AGAIN`].
const ROUNDS_BEFORE_ARM: u32 = 4;

/// Shortest time between two attempts to arm the WAL.
const ARM_AGAIN: Duration = Duration::from_millis(200);

/// An attempt to arm the WAL is followed by a pause of this many times its duration, because
/// transactions may have waited for it.
const ARM_SHARE: u32 = 50;

/// When to arm the WAL of one database.
#[derive(Debug, Default)]
pub(super) struct Arming {
    /// Turns and rounds in a row after which the WAL could not start over.
    unarmed: u32,
    rounds: u32,
    not_before: Option<Instant>,
}

impl Arming {
    /// Whether the WAL is long, commits have kept it from starting over, and it is time.
    pub(super) fn may_begin(&self, mx: FrameNo, now: Instant) -> bool {
        mx.0 >= STUCK_FRAMES && self.unarmed >= UNARMED && self.not_before.is_none_or(|t| now >= t)
    }

    /// A turn, a round or an attempt ended; `armed` if the WAL can start over.
    pub(super) fn copied(&mut self, armed: bool) {
        self.unarmed = if armed { 0 } else { self.unarmed + 1 };
    }

    /// A round begins, because more frames are left than can be copied while no transaction
    /// begins.
    pub(super) fn round(&mut self, now: Instant) {
        self.rounds += 1;
        if self.rounds >= ROUNDS_BEFORE_ARM {
            self.rounds = 0;
            self.not_before = Some(now + ARM_AGAIN);
        }
    }

    /// An attempt that began at `since` ended.
    pub(super) fn ended(&mut self, since: Instant, now: Instant) {
        self.rounds = 0;
        self.not_before = Some(now + ARM_AGAIN.max(now.duration_since(since) * ARM_SHARE));
    }

    /// The WAL was reset.
    pub(super) fn started_over(&mut self) {
        (self.unarmed, self.rounds) = (0, 0);
    }
}

/// How long rounds continue after a lost turn. `before`: time since the last rounds ended, and how
/// long they lasted.
pub(super) fn rounds_after_loss(bytes: u64, before: Option<(Duration, Duration)>) -> Duration {
    let units = u32::try_from(bytes / ROUNDS_BYTES + 1).unwrap_or(u32::MAX);
    let base = ROUNDS_UNIT.saturating_mul(units);
    let again = before.filter(|(calm, last)| *calm < last.saturating_mul(CALM)).map(|(_, last)| last * 2);
    again.unwrap_or(base).max(base).min(ROUNDS_MAX)
}

/// How long CKPT is held after a turn that was due. A busy writer has filled the WAL by then, and
/// an early turn would only cost lsfast some calls.
pub(super) const HARD_AFTER_TURN: Duration = Duration::from_millis(100);

/// Frames in the WAL at which a turn begins to find out whether the application checkpoints early.
const PROBE_FRAMES: u32 = 64;

/// One of this many turns is such a probe.
const PROBE_EVERY: u32 = 8;

/// After this many late checkpoints in a row, turns no longer begin early.
const LATE: u32 = 8;

/// When a busy writer's turn begins early: an application with its own `wal_autocheckpoint`, or one
/// that checkpoints explicitly, comes before the WAL has [`limits::TURN_FRAMES`] frames. While CKPT
/// is held its checkpoint fails without a trace, so it is found only in a turn.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Frames in the WAL at the last checkpoint that came early; 0 if none did lately.
    seen: u32,
    /// Checkpoints since then that came late.
    late: u32,
    /// Number of turns in which a checkpoint was seen.
    turns: u32,
}

impl Early {
    pub(super) fn may_begin(&self, mx: FrameNo, backfilled: FrameNo) -> bool {
        let probe = self.turns.is_multiple_of(PROBE_EVERY);
        let from = match self.seen {
            0 if probe => PROBE_FRAMES,
            0 => limits::TURN_FRAMES,
            // Half, because explicit checkpoints come by time.
            seen if probe => (seen / 2).min(PROBE_FRAMES),
            seen => seen / 2,
        };
        mx.0 >= from.max(1) && mx != backfilled
    }

    /// A checkpoint came when the WAL had `mx` frames.
    pub(super) fn learn(&mut self, mx: FrameNo) {
        self.turns = self.turns.wrapping_add(1);
        if mx.0 < limits::TURN_FRAMES / 10 * 9 {
            (self.seen, self.late) = (mx.0, 0);
            return;
        }
        self.late += 1;
        if self.late >= LATE {
            (self.seen, self.late) = (0, 0);
        }
    }
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
        // Again immediately, and after a calm time.
        assert_eq!(rounds_after_loss(1 << 20, Some((seconds(9), seconds(1)))), seconds(2));
        assert_eq!(rounds_after_loss(1 << 20, Some((seconds(10), seconds(1)))), seconds(1));
        assert_eq!(rounds_after_loss(1 << 20, Some((seconds(0), ROUNDS_MAX))), ROUNDS_MAX);
    }

    #[test]
    fn turns_begin_early_where_checkpoints_came_early() {
        let mut early = Early::default();
        let begins = |early: &Early| (1..=1000).find(|mx| early.may_begin(FrameNo(*mx), FrameNo(0)));
        assert_eq!(begins(&early), Some(PROBE_FRAMES), "the first turn is a probe");
        early.learn(FrameNo(1004));
        assert_eq!(begins(&early), Some(limits::TURN_FRAMES), "SQLite's default");
        early.learn(FrameNo(100));
        assert_eq!(begins(&early), Some(50));
        assert!(!early.may_begin(FrameNo(70), FrameNo(70)), "all of it is copied");
        early.learn(FrameNo(1004));
        assert_eq!(begins(&early), Some(50), "a late one is no reason to forget");
        for _ in 1..LATE {
            early.learn(FrameNo(1004));
        }
        assert_eq!(begins(&early), Some(limits::TURN_FRAMES), "several are");
        while !early.turns.is_multiple_of(PROBE_EVERY) {
            early.learn(FrameNo(1004));
        }
        assert_eq!(begins(&early), Some(PROBE_FRAMES), "a probe again");
    }
}
