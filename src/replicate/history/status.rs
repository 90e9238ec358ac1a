//! Counts what a replica's history holds, for status and metrics.

use super::inventory::Inventory;
use crate::base::Level;
use crate::replicate::vitals::{HistoryStatus, LevelStatus};

impl HistoryStatus {
    /// Takes the numbers from the inventory.
    pub(super) fn count(&mut self, inventory: &Inventory) {
        for level in Level::all() {
            let objects = inventory.level(level);
            self.levels[usize::from(level.get())] = LevelStatus {
                objects: objects.len() as u64,
                bytes: objects.map(|s| s.size).sum(),
                newest: inventory.max(level),
            };
        }
        self.snapshot = inventory.newest_snapshot().map(|s| (s.id.max, s.created));
    }
}
