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
}
