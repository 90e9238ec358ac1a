//! What a restore did.

use std::path::PathBuf;
use std::time::Duration;

use super::integrity::{Integrity, Verdict};
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, LtxId, PageSize, Txid};
use crate::legacy::{Generation, WalIndex};

/// What shows that a restored database is right, the strongest if there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenBy {
    /// It is equal to the database at that transaction: their checksums are equal.
    Checksum,
    /// SQLite's `integrity_check` found nothing.
    IntegrityCheck,
    /// SQLite's `quick_check` found nothing.
    QuickCheck,
    /// Only the checksums of the files.
    Files,
}

impl ProvenBy {
    pub(super) fn of(checksum: bool, check: Integrity, verdict: &Verdict) -> ProvenBy {
        match (check, verdict) {
            _ if checksum => ProvenBy::Checksum,
            (Integrity::Full, Verdict::Ok) => ProvenBy::IntegrityCheck,
            (_, Verdict::Ok) => ProvenBy::QuickCheck,
            _ => ProvenBy::Files,
        }
    }

    /// Its name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ProvenBy::Checksum => "checksum",
            ProvenBy::IntegrityCheck => "integrity_check",
            ProvenBy::QuickCheck => "quick_check",
            ProvenBy::Files => "none",
        }
    }
}

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Path of the database, with links resolved.
    pub output: PathBuf,
    /// The last TXID of the restored state; 0 for a state of Litestream 0.3, which has no TXIDs.
    pub txid: Txid,
    /// The file that ends with that state; `None` for a state of Litestream 0.3.
    pub newest_file: Option<LtxId>,
    /// Generation and WAL, for a state of Litestream 0.3.
    pub legacy: Option<(Generation, WalIndex)>,
    /// When that state was stored.
    pub created: Millis,
    /// Whether the replica holds no newer state.
    pub is_newest: bool,
    /// Files that the restore left out because they are damaged, each with the reason.
    pub damaged: Vec<(LtxId, String)>,
    /// Bytes per page.
    pub page_size: PageSize,
    /// Number of pages in the database.
    pub pages: u32,
    /// Number of files that were read.
    pub files: usize,
    /// Total bytes of those files.
    pub fetched_bytes: u64,
    /// Length of the database file in bytes.
    pub output_bytes: u64,
    /// Checksum of the database file; `None` for a state of Litestream 0.3.
    pub checksum: Option<DatabaseChecksum>,
    /// What shows that the database is right.
    pub proof: ProvenBy,
    /// The verdict of SQLite's check.
    pub integrity: Verdict,
    /// Time until all pages were written, without flush and check.
    pub pages_time: Duration,
    /// Total time.
    pub time: Duration,
}
