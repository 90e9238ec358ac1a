//! Damage to the WAL and its index, by the process that has the database open: it may not close a
//! descriptor of the `-shm` file, which would drop its locks.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use fastrand::Rng;

use super::app::Open;

/// Bytes of a WAL before its first frame, and of a frame before its page.
const WAL_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

impl Open {
    fn file(&self, suffix: &str) -> rusqlite::Result<File> {
        let path = format!("{}{suffix}", self.path);
        let failed = |e: std::io::Error| rusqlite::Error::InvalidPath(format!("{path}: {e}").into());
        File::options().read(true).write(true).open(&path).map_err(failed)
    }

    /// The `-shm` file, which stays open.
    fn shm(&self) -> rusqlite::Result<&'static File> {
        Ok(Box::leak(Box::new(self.file("-shm")?)))
    }

    /// A transaction that is committed, and whose frames change on disk before anyone else sees
    /// them. SQLite itself does not look at their headers again.
    pub fn unproven(&mut self, seed: u64) -> rusqlite::Result<()> {
        let rng = &mut Rng::with_seed(seed);
        let shm = self.shm()?;
        let word = |at: u64| {
            let mut bytes = [0; 4];
            let _ = shm.read_exact_at(&mut bytes, at);
            u64::from(u32::from_ne_bytes(bytes))
        };
        let before = (word(32), word(16));
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..rng.u32(1..=12) {
            self.statement(rng)?;
        }
        self.commit()?;
        let (salt, last) = (word(32), word(16));
        let first = if before.0 == salt && before.1 < last { before.1 + 1 } else { 1 };
        let page_size: u32 = self.connection.query_row("PRAGMA page_size", [], |r| r.get(0))?;
        let wal = self.file("-wal")?;
        let at = |frame: u64| WAL_HEADER + (frame - 1) * (FRAME_HEADER + u64::from(page_size));
        let change = |offset: u64| {
            let mut byte = [0];
            let _ = wal.read_exact_at(&mut byte, offset);
            let _ = wal.write_all_at(&[byte[0] ^ 0x10], offset);
        };
        match rng.u8(..4) {
            0 => (first..=last).for_each(|f| drop(wal.write_all_at(&[0; 16], at(f) + 8))),
            1 => change(at(last) + 18),
            2 => change(at(first) + 9),
            _ => change(at(first.midpoint(last)) + 2),
        }
        Ok(())
    }

    /// Damages the wal-index, and commits. lsfast releases its locks meanwhile, so that SQLite can
    /// rebuild it. A wrong count of copied frames is not among these: where no lsfast runs, SQLite
    /// believes it, and deletes frames that were not copied.
    pub fn damage_index(&mut self, seed: u64) -> rusqlite::Result<()> {
        let rng = &mut Rng::with_seed(seed);
        let shm = self.shm()?;
        let write = |at: u64, bytes: &[u8]| drop(shm.write_all_at(bytes, at));
        let mut before = [0; 96];
        let _ = shm.read_exact_at(&mut before, 0);
        match rng.u8(..5) {
            0 | 1 => {
                let field = [0, 8, 12, 13, 14, 16, 20, 24, 32, 44][rng.usize(..10)] + 48 * rng.usize(..2);
                write(field as u64, &[before[field] ^ 1]);
            }
            2 => write(100 + 4 * rng.u64(..5), &[0, 1, 5, u32::MAX - 1][rng.usize(..4)].to_ne_bytes()),
            3 => write(0, &[0; 96]),
            _ => write(0, &[0; 32768]),
        }
        self.connection.busy_timeout(Duration::from_secs(8))?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.statement(rng)?;
        self.commit()?;
        self.connection.busy_timeout(Duration::from_millis(self.busy_ms))
    }
}
