//! What to restore, and how.

use std::path::PathBuf;

use super::integrity::Integrity;
use super::plan::Until;
use crate::base::limits;
use crate::legacy::{Generation, WalIndex};

/// Selects the state to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    /// The newest state, a TXID or a time.
    pub until: Until,
    /// Restrict the restore to this generation of Litestream 0.3, even if the replica holds newer
    /// states.
    pub generation: Option<Generation>,
    /// Restore the state at the end of this WAL of Litestream 0.3; takes precedence over `until`.
    pub index: Option<WalIndex>,
    /// If files that the state needs are damaged or missing, accept the newest state before it.
    pub salvage: bool,
}

impl From<Until> for Selection {
    fn from(until: Until) -> Selection {
        Selection { until, ..Selection::default() }
    }
}

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Path of the restored database.
    pub output: PathBuf,
    /// Replace an existing database once the new one is complete and verified.
    pub force: bool,
    /// How thoroughly SQLite checks the result.
    pub integrity: Integrity,
    /// The state to restore.
    pub state: Selection,
    /// How many requests may be in flight at the same time.
    pub parallel: usize,
}

impl RestoreOptions {
    /// Restores the newest state to a path where no file exists yet, and proves it by its
    /// checksum, or by a quick check if the replica has none.
    #[must_use]
    pub fn new(output: impl Into<PathBuf>) -> RestoreOptions {
        RestoreOptions {
            output: output.into(),
            force: false,
            integrity: Integrity::default(),
            state: Selection::default(),
            parallel: limits::RESTORE_TRANSFERS,
        }
    }
}
