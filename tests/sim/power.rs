//! The power of the host fails.

use std::path::Path;

use lsfast::base::crc64::crc64;

use super::app::App;
use super::disk;
use super::place::{Place, files_below};
use super::world::World;

/// Bytes of one of the two records in a state file, those of the boot id in it, and the checksum
/// at its end.
const SLOT: usize = 512;
const BOOT_ID: std::ops::Range<usize> = 24..40;
const SUM: usize = 504;

impl World {
    /// What was not flushed is lost, in whole or in part, and all processes of the host end.
    pub fn fail_power(&mut self) -> Result<(), String> {
        self.settle()?;
        self.counts.accidents += 1;
        self.app.take().into_iter().for_each(App::kill);
        let _ = std::fs::remove_file(self.dir.join("app.db-shm"));
        let home = self.home();
        let replica = match &self.place {
            Place::Directory(dir) => Some(dir.clone()),
            Place::Bucket(_) => None,
        };
        let (db, wal) = (self.db.clone(), self.dir.join("app.db-wal"));
        let is_on_disk = |path: &Path| {
            path == db
                || path == wal
                || path.starts_with(&home)
                || replica.as_ref().is_some_and(|dir| path.starts_with(dir))
        };
        let (writes, lost) = disk::fail(&disk::notes_of(&self.dir), &is_on_disk, &self.dir, &mut self.rng);
        self.tell(format!("the power fails: of {writes} writes, {lost} are lost or torn"));
        self.restart_host();
        // What is stored in a directory was flushed before it was called stored.
        self.freeze("a power failure", false);
        let before = self.present.commits;
        self.forget_stored();
        self.reopen("a power failure")?;
        let after = self.present.commits;
        if self.plan.synchronous == 2 && after < before {
            return Err(format!("{before} commits were flushed before a power failure, {after} are left"));
        }
        Ok(())
    }

    /// The host has another boot id.
    fn restart_host(&self) {
        for (path, (mut bytes, _)) in files_below(&self.home()) {
            if path.file_name().is_none_or(|name| name != "state") {
                continue;
            }
            for slot in bytes.chunks_exact_mut(SLOT) {
                let sum = |slot: &[u8]| crc64(&slot[..SUM]).to_le_bytes();
                if sum(slot) == slot[SUM..] {
                    slot[BOOT_ID].fill(0x55);
                    let new = sum(slot);
                    slot[SUM..].copy_from_slice(&new);
                }
            }
            let _ = std::fs::write(path, bytes);
        }
        disk::flush_all();
    }
}
