//! Counts what a replica's history holds, for status and metrics.

use super::inventory::Inventory;
use super::options::COPY_BYTES_MIN;
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
        // Of what is not listed only the number is known: TXIDs have no holes. The bytes are those
        // of as many usual batches.
        let raw = &mut self.levels[usize::from(Level::RAW.get())];
        let unlisted = inventory.gap_len();
        let usual = inventory.level(Level::RAW).map(|s| s.size).filter(|size| *size < COPY_BYTES_MIN);
        let (count, bytes) = usual.fold((0u64, 0u64), |(count, bytes), size| (count + 1, bytes + size));
        raw.bytes += bytes / count.max(1) * unlisted;
        raw.objects += unlisted;
        self.snapshot = inventory.newest_snapshot().map(|s| (s.id.max, s.created));
    }
}
