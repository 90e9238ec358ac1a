//! Counts what a replica's history holds, for status and metrics.

use super::inventory::Inventory;
use super::options::COPY_BYTES_MIN;
use crate::base::clock::Millis;
use crate::base::{Level, Txid, limits};
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
        self.points = points(inventory);
    }
}

/// The ends of the newest files of each level, the newest first.
fn points(inventory: &Inventory) -> Vec<(Txid, Millis)> {
    let newest = |level| inventory.level(level).rev().take(limits::POINTS_OF_LEVEL);
    let mut points: Vec<_> = Level::all().flat_map(newest).map(|s| (s.id.max, s.created)).collect();
    // A file of a higher level has the time of the last batch in it.
    points.sort_unstable_by(|a, b| b.cmp(a));
    points.dedup_by_key(|(txid, _)| *txid);
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LtxId;
    use crate::replicate::history::inventory::Stored;

    #[test]
    fn each_level_adds_its_newest_states_once() {
        let mut inventory = Inventory::default();
        let mut put = |level: u32, min: u64, max: u64| {
            let id = LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap();
            let t = Millis(i64::try_from(max).unwrap() * 1_000);
            inventory.put(Stored { id, size: 1, created: t, seen: t, exact: true });
        };
        (90..=100).for_each(|n| put(0, n, n));
        put(1, 81, 95);
        put(1, 61, 80);
        put(9, 1, 60);
        let txids: Vec<u64> = points(&inventory).iter().map(|(txid, _)| txid.0).collect();
        assert_eq!(txids, [100, 99, 98, 97, 96, 95, 94, 93, 80, 60]);
    }
}
