//! What a restore did.

use std::path::PathBuf;
use std::time::Duration;

use super::integrity::Verdict;
use crate::base::clock::Millis;
use crate::base::{LtxId, PageSize, Txid};
use crate::legacy::{Generation, WalIndex};

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
    /// The verdict of SQLite's check.
    pub integrity: Verdict,
    /// Time until all pages were written, without flush and check.
    pub pages_time: Duration,
    /// Total time.
    pub time: Duration,
}
