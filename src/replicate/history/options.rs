//! How the history of a replica is kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::clock::{StoreTimeline, SystemTimeline, Timeline};
use crate::base::Level;
use crate::restore::damage::Damaged;
use crate::store::Store;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How precisely, and how far back, a restore by time can choose a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Two states this far apart can be told from each other. No finer than the interval of
    /// batches, `sync_interval`.
    pub grain: Duration,
    /// How far back that holds.
    pub window: Duration,
}

/// What a `--once` run does to the history in addition to what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Once {
    /// Store a full image of the state with which the run ends.
    pub snapshot: bool,
    /// Delete what nothing needs any more, and fail if that fails.
    pub retention: bool,
}

/// How the history of one replica is kept. The defaults are Litestream's, except for the precision.
#[derive(Clone)]
pub struct HistoryOptions {
    /// Compacted levels, ascending from 1, and how often each is written if the level below has
    /// something new.
    pub levels: Vec<(Level, Duration)>,
    /// How often a full image is stored while something changes; `None` for never.
    pub snapshot_interval: Option<Duration>,
    /// How far back states can be restored. The image that the oldest of them needs is kept.
    pub snapshot_retention: Duration,
    /// How long raw batches stay after they are compacted. `None` for as long as `precision` needs,
    /// but at least five minutes; 0 for forever. A value here takes precedence over `precision`.
    pub l0_retention: Option<Duration>,
    /// How often to look for raw batches that can be deleted.
    pub l0_check: Duration,
    /// Whether anything is ever deleted.
    pub retention_enabled: bool,
    /// The precision that a restore by time may rely on.
    pub precision: Precision,
    /// Files of the replica that are known to be damaged.
    pub damaged: Damaged,
    /// The files of the replica do not make its newest state, though none is known to be damaged:
    /// the next start stores a full image of the database.
    pub wants_image: bool,
    /// The clock by which the history is kept.
    pub clock: Arc<dyn Timeline>,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        let level = |n| Level::new(n).expect("a level");
        HistoryOptions {
            levels: vec![(level(1), 30 * SECOND), (level(2), 5 * MINUTE), (level(3), HOUR)],
            snapshot_interval: Some(DAY),
            snapshot_retention: DAY,
            l0_retention: None,
            l0_check: 15 * SECOND,
            retention_enabled: true,
            precision: Precision { grain: SECOND, window: DAY },
            damaged: Damaged::default(),
            wants_image: false,
            clock: Arc::new(SystemTimeline),
        }
    }
}

impl HistoryOptions {
    /// The same options with the clock of the store, if that is known to differ.
    #[must_use]
    pub fn by_store(mut self, store: &Arc<dyn Store>) -> HistoryOptions {
        self.clock = Arc::new(StoreTimeline::new(self.clock, Arc::clone(store)));
        self
    }
}

impl fmt::Debug for HistoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryOptions")
            .field("levels", &self.levels)
            .field("snapshot_interval", &self.snapshot_interval)
            .field("snapshot_retention", &self.snapshot_retention)
            .field("l0_retention", &self.l0_retention)
            .field("l0_check", &self.l0_check)
            .field("retention_enabled", &self.retention_enabled)
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

/// Why the options are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryOptionsError {
    /// The levels are out of order.
    #[error(
        "levels must be 1, 2, 3, ... up to 8, each once, and level {found} comes where {expected} is due"
    )]
    Order {
        /// The level that should come here.
        expected: u32,
        /// The level that was given.
        found: Level,
    },
    /// A level has an interval of 0.
    #[error("the interval of level {0} is 0; give it a duration such as 30s, or leave the level out")]
    NoInterval(Level),
    /// A level would be written more often than the one below it.
    #[error("level {0} is written more often than the level below it: intervals must not become shorter")]
    Shorter(Level),
    /// The snapshot interval is 0.
    #[error("the snapshot interval is 0; give it a duration such as 24h")]
    NoSnapshotInterval,
}

impl HistoryOptions {
    /// No levels, no snapshots, no deletions: only batches.
    #[must_use]
    pub fn off() -> HistoryOptions {
        HistoryOptions {
            levels: Vec::new(),
            snapshot_interval: None,
            retention_enabled: false,
            ..HistoryOptions::default()
        }
    }

    /// Whether there is nothing to do for the history.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.levels.is_empty() && self.snapshot_interval.is_none()
    }

    /// Checks what the types do not rule out.
    ///
    /// # Errors
    /// The first [`HistoryOptionsError`] that is found.
    pub fn validate(&self) -> Result<(), HistoryOptionsError> {
        let mut before = Duration::ZERO;
        for (expected, &(level, interval)) in (1..).zip(&self.levels) {
            if u32::from(level.get()) != expected || level == Level::SNAPSHOT {
                return Err(HistoryOptionsError::Order { expected, found: level });
            }
            if interval.is_zero() {
                return Err(HistoryOptionsError::NoInterval(level));
            }
            if interval < before {
                return Err(HistoryOptionsError::Shorter(level));
            }
            before = interval;
        }
        if self.snapshot_interval.is_some_and(|i| i.is_zero()) {
            return Err(HistoryOptionsError::NoSnapshotInterval);
        }
        Ok(())
    }

    /// The shortest time that compacted batches stay; `None` for forever.
    #[must_use]
    pub fn raw_retention(&self) -> Option<Duration> {
        match self.l0_retention {
            Some(Duration::ZERO) => None,
            Some(asked) => Some(asked),
            None if self.is_coarse() => Some(RAW_RETENTION_MIN),
            None => Some(RAW_RETENTION_MIN.max(self.precision.window)),
        }
        .filter(|_| self.retention_enabled)
    }

    /// Whether the first level alone satisfies the precision.
    fn is_coarse(&self) -> bool {
        self.levels.first().is_some_and(|(_, interval)| self.precision.grain >= *interval)
    }

    /// The level below `level`: another of `levels`, or level 0.
    pub(super) fn below(&self, level: Level) -> Level {
        let lower = self.levels.iter().map(|(l, _)| *l).take_while(|l| l.get() < level.get());
        lower.last().unwrap_or(Level::RAW)
    }
}

/// From this size in bytes on, a file that is alone in its merge is copied by the store instead of
/// being rewritten. For smaller files a copy takes as many requests and saves nothing.
pub(super) const COPY_BYTES_MIN: u64 = 256 << 10;

/// Shortest retention of raw batches: Litestream's `l0-retention`, on which standbys rely.
pub(super) const RAW_RETENTION_MIN: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        let with = |levels: &[(u32, u64)]| {
            let levels = levels.iter().map(|&(l, s)| (Level::new(l).unwrap(), Duration::from_secs(s)));
            HistoryOptions { levels: levels.collect(), ..HistoryOptions::default() }.validate()
        };
        assert_eq!(HistoryOptions::default().validate(), Ok(()));
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[(1, 10), (2, 10), (3, 20)]), Ok(()));
        let order =
            |expected, found| HistoryOptionsError::Order { expected, found: Level::new(found).unwrap() };
        assert_eq!(with(&[(1, 10), (3, 20)]), Err(order(2, 3)));
        assert_eq!(with(&[(0, 10)]), Err(order(1, 0)));
        assert_eq!(with(&[(1, 0)]), Err(HistoryOptionsError::NoInterval(Level::new(1).unwrap())));
        assert_eq!(with(&[(1, 9), (2, 8)]), Err(HistoryOptionsError::Shorter(Level::new(2).unwrap())));
    }

    #[test]
    fn an_explicit_retention_of_batches_is_honoured() {
        let mut options = HistoryOptions::default();
        assert_eq!(options.raw_retention(), Some(DAY));
        options.l0_retention = Some(RAW_RETENTION_MIN);
        assert_eq!(options.raw_retention(), Some(RAW_RETENTION_MIN));
        options.l0_retention = Some(Duration::ZERO);
        assert_eq!(options.raw_retention(), None);
        options.l0_retention = None;
        options.precision.window = Duration::ZERO;
        assert_eq!(options.raw_retention(), Some(RAW_RETENTION_MIN));
        options.precision.window = 7 * DAY;
        assert_eq!(options.raw_retention(), Some(7 * DAY));
        // Level 1 is written this often.
        options.precision.grain = 30 * SECOND;
        assert_eq!(options.raw_retention(), Some(RAW_RETENTION_MIN));
        options.precision.grain = 29 * SECOND;
        assert_eq!(options.raw_retention(), Some(7 * DAY));
        options.retention_enabled = false;
        assert_eq!(options.raw_retention(), None);
    }
}
