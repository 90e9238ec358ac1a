//! What the history of a replica looks like, for whoever shows it.

use super::inventory::Shelf;
use crate::base::clock::Millis;
use crate::base::{Level, Txid};

/// One replica's history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryStatus {
    /// Newest full image: its TXID, and when it was made.
    pub snapshot: Option<(Txid, Millis)>,
    /// When the next one is due; `None` while nothing changes.
    pub next_snapshot: Option<Millis>,
    /// When the next step of any kind is due; `None` if nothing is left to do before something new
    /// is stored.
    pub next_step: Option<Millis>,
    /// Objects and bytes on each level, as far as they are known.
    pub levels: [LevelStatus; 10],
    /// Steps done since the start.
    pub steps: u64,
    /// What the last step that failed said, until that kind of step succeeds.
    pub last_error: Option<String>,
    /// The store refuses deletions; everything else goes on.
    pub deletions_refused: bool,
}

/// One level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LevelStatus {
    /// Number of objects.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The largest TXID.
    pub newest: Txid,
}

impl HistoryStatus {
    /// Takes over what is stored.
    pub(super) fn count(&mut self, shelf: &Shelf) {
        for level in Level::all() {
            let objects = shelf.level(level);
            self.levels[usize::from(level.get())] = LevelStatus {
                objects: objects.len() as u64,
                bytes: objects.map(|s| s.size).sum(),
                newest: shelf.max(level),
            };
        }
        self.snapshot = shelf.newest_snapshot().map(|s| (s.id.max, s.created));
    }
}
