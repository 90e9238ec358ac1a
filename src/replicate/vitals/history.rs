//! The state of a replica's history, for status and metrics.

use crate::base::Txid;
use crate::base::clock::Millis;

/// The state of one replica's history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryStatus {
    /// TXID and timestamp of the newest full image.
    pub snapshot: Option<(Txid, Millis)>,
    /// When the next full image is due; `None` while nothing changes.
    pub next_snapshot: Option<Millis>,
    /// When the next step of any kind is due; `None` if none is before something new is stored.
    pub next_step: Option<Millis>,
    /// Objects and bytes on each level, from the inventory.
    pub levels: [LevelStatus; 10],
    /// Steps done since the start of the process.
    pub steps: u64,
    /// Text of the last failure, until that kind of step succeeds.
    pub last_error: Option<String>,
    /// Whether the store refuses deletions; everything else continues.
    pub deletions_refused: bool,
    /// States that can be restored, the newest first: the ends of the newest files of each level.
    pub points: Vec<(Txid, Millis)>,
}

/// The state of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LevelStatus {
    /// Number of objects.
    pub objects: u64,
    /// Bytes of all objects.
    pub bytes: u64,
    /// The largest TXID of the level; 0 if it is empty.
    pub newest: Txid,
}
